"""
What the handshake of an endpoint takes, as FastAPI reads it from signatures: of `__init__`, and of dependencies.

    @app.websocket("/rooms/{room}")
    class Chat(Endpoint):
        def __init__(self, websocket: WebSocket, room: int, token: Annotated[str, Query(min_length=8)]) -> None: ...

    ->  Parameter("room", "path", {"type": "integer"}), Parameter("token", "query", {"type": "string", "minLength": 8})

FastAPI is never imported: its markers are known by their `in_`, its `Depends` by its `dependency`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, PydanticUndefined, to_jsonable_python
from starlette.requests import HTTPConnection

from socketsundso.contract.model import Parameter, Place, Schema
from socketsundso.contract.schemas import Components

_IN_PATH = re.compile(r"{([a-zA-Z_]\w*)(?::([a-zA-Z_]\w*))?}")
_CONVERTORS: Mapping[str, Schema] = {
    "int": {"type": "integer", "minimum": 0},
    "float": {"type": "number", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
}
"""Starlette's, by their names in paths; what they take in all others is text."""


def address(path: str) -> str:
    """`/rooms/{room:int}` -> `/rooms/{room}`"""
    return _IN_PATH.sub(r"{\1}", path)


def parameters_of(endpoint: Any, path: str, components: Components, calls: Iterable[Any] = ()) -> tuple[Parameter, ...]:
    """
    Those of the path first, in its order; `calls` is what FastAPI calls there beside the class.

    Raises `DefinitionError` for a type that has no schema.
    """
    in_path = {name: _CONVERTORS.get(convertor, {"type": "string"}) for name, convertor in _IN_PATH.findall(path)}
    found = {(name, "path"): Parameter(name, "path", schema) for name, schema in in_path.items()}
    handshake = endpoint._definition.decoder.handshake.values()
    for taken in (*_taken_by([endpoint, *calls], in_path), *_declared(handshake, in_path)):
        parameter = taken.parameter(endpoint.__name__, components)
        if parameter.place != "path" or parameter.name in in_path:
            found[parameter.name, parameter.place] = parameter
    return tuple(found.values())


class _Taken(typing.NamedTuple):
    """One value of the handshake: where it is, and what it is to be."""

    name: str
    place: Place
    field: FieldInfo

    def parameter(self, owner: str, components: Components) -> Parameter:
        field = self.field
        annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        schema = components.incoming(annotation, f"class {owner}, parameter {self.name!r} of the handshake")
        required = field.is_required()
        if not required and field.default is not PydanticUndefined and field.default_factory is None:
            with contextlib.suppress(PydanticSerializationError, ValueError):  # no JSON
                schema["default"] = to_jsonable_python(field.default)
        if field.examples:
            schema["examples"] = field.examples
        return Parameter(self.name, self.place, schema, required or self.place == "path", field.description or "")


def _taken_by(calls: list[Any], in_path: Mapping[str, Schema]) -> Iterator[_Taken]:
    """What FastAPI takes of the handshake to call these, and what they depend on."""
    seen = list[Any]()
    while calls:
        function, *calls = calls
        if any(function is each for each in seen):
            continue
        seen.append(function)
        read = _signature(function)
        if read and isinstance(function, type) and read[0].annotation is read[0].empty:
            del read[0]  # `def __init__(self, websocket)`
        yield from _declared((each for each in read if _dependency(each) is None), in_path)
        calls += [call for each in read if (call := _dependency(each)) is not None]


def _signature(function: Any) -> list[inspect.Parameter]:
    """Its parameters, with annotations that are resolved; none where nothing is known of it."""
    try:
        parameters = inspect.signature(function).parameters.values()
        hints = typing.get_type_hints(_annotated(function), include_extras=True)
    except (TypeError, ValueError, NameError, AttributeError):
        return []
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    return [each.replace(annotation=hints.get(each.name, each.annotation)) for each in named]


def _annotated(call: Any) -> Any:
    """The function with the annotations of what is called."""
    while isinstance(call, functools.partial):
        call = call.func
    if isinstance(call, type):
        return call.__init__  # type: ignore[misc]  # the class's own or inherited one, as it is
    return call if hasattr(call, "__globals__") or inspect.ismethod(call) else type(call).__call__


def _markers(parameter: inspect.Parameter) -> tuple[Any, ...]:
    annotation = parameter.annotation
    within = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    return (*within, parameter.default)


def _dependency(parameter: inspect.Parameter) -> Any:
    """What it depends on; None for what is taken of the handshake itself."""
    for marker in _markers(parameter):
        if hasattr(marker, "dependency") and hasattr(marker, "use_cache"):
            base = parameter.annotation
            return marker.dependency or (typing.get_args(base)[0] if typing.get_origin(base) is Annotated else base)
    return None


def _declared(parameters: Iterable[inspect.Parameter], in_path: Mapping[str, Schema]) -> Iterator[_Taken]:
    for parameter in parameters:
        marker = next((each for each in _markers(parameter) if getattr(each, "in_", None) is not None), None)
        field = _field(parameter)
        if field is None or getattr(marker, "include_in_schema", True) is False:
            continue
        place = str(getattr(marker.in_, "value", marker.in_)) if marker is not None else ""
        if not place:
            place = "path" if parameter.name in in_path else "query"
        if marker is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            for name, each in field.annotation.model_fields.items():
                yield _Taken(_key(name, each, marker, place), cast(Place, place), each)
        else:
            yield _Taken(_key(parameter.name, field, marker, place), cast(Place, place), field)


def _field(parameter: inspect.Parameter) -> FieldInfo | None:
    """None for a connection, and for what FastAPI would not take of the handshake."""
    annotation = str if parameter.annotation is parameter.empty else parameter.annotation
    base = typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation
    if isinstance(base, type) and issubclass(base, HTTPConnection):
        return None
    if parameter.default is parameter.empty:
        return FieldInfo.from_annotation(annotation)
    return FieldInfo.from_annotated_attribute(annotation, parameter.default)


def _key(name: str, field: FieldInfo, marker: Any, place: str) -> str:
    alias = field.validation_alias if isinstance(field.validation_alias, str) else field.alias
    if alias is not None:
        return alias
    if place == "header" and getattr(marker, "convert_underscores", True):
        return name.replace("_", "-")
    return name
