"""
Structs and attrs classes in pydantic's eyes, and pydantic's classes in msgspec's.

A Struct is validated by msgspec wherever it stands: pydantic gets one error for it, `struct_type`, whose text is
msgspec's with the path in it. What a Struct holds that msgspec does not know is validated by pydantic.
"""

from __future__ import annotations

import collections.abc
import typing
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import msgspec
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer, PlainValidator, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticSerializationError, ValidationError, to_json

from socketsundso.messages.aliases import UNIONS, unwrap
from socketsundso.messages.disclosure import reason_of


class UnsupportedAnnotation(ValueError):
    """An annotation whose values can never come from JSON; the text says why, and what to write instead."""


def is_struct(kind: Any) -> bool:
    """Is it a Struct class, or a generic one with its arguments?"""
    kind = typing.get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def is_attrs(kind: Any) -> bool:
    """Is it a class of attrs?"""
    kind = typing.get_origin(kind) or kind
    return isinstance(kind, type) and hasattr(kind, "__attrs_attrs__")


def struct_within(annotation: Any) -> Any | None:
    """The Struct that this is, whatever it is called here, or None."""
    annotation = unwrap(annotation)
    if typing.get_origin(annotation) is Annotated:
        base, *metadata = typing.get_args(annotation)
        return struct_within(base) if all(isinstance(each, str | msgspec.Meta) for each in metadata) else None
    return annotation if is_struct(annotation) else None


_adapters: WeakKeyDictionary[Any, TypeAdapter[Any]] = WeakKeyDictionary()


def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """The pydantic adapter of a class. Raises pydantic's `PydanticUserError` if it cannot be built."""
    adapter = _adapters.get(kind)
    if adapter is None:
        adapter = _adapters[kind] = TypeAdapter(kind)
    return adapter


def by_pydantic(kind: Any, value: Any) -> Any:
    """msgspec's hook for the classes that it does not know: models, URLs, paths. `value` came from JSON."""
    try:
        made = adapter_of(kind).validate_json(to_json(value))
        return list(made) if typing.get_origin(kind) is collections.abc.Iterable else made  # which is validated then
    except ValidationError as exc:  # whose own text has the value in it
        raise ValueError("; ".join(error["msg"] for error in exc.errors(include_input=False))) from exc


_OUT_OF_RANGE = msgspec.ValidationError("Number out of range")
"""Of 1e400, which pydantic reads as infinite, and what that is written as is no JSON."""


def shim(kind: Any) -> Any:
    """`kind` as an annotation that pydantic can build. Raises `UnsupportedAnnotation` if msgspec cannot decode it."""
    try:
        decode = msgspec.json.Decoder(kind, dec_hook=by_pydantic).decode
    except NameError as exc:
        raise UnsupportedAnnotation(
            f"{kind!r} is not possible: {exc}; msgspec looks for names at module level, so define it there, before the "
            "endpoint"
        ) from exc
    except Exception as exc:  # msgspec raises what it likes
        raise UnsupportedAnnotation(f"{kind!r} is not possible: msgspec cannot decode it: {exc}{_remedy(exc)}") from exc

    def convert(value: Any) -> Any:
        try:
            text = to_json(value)
        except (PydanticSerializationError, ValueError):  # what a validator made of it is no JSON any more
            text = None
        try:
            return msgspec.convert(value, kind, dec_hook=by_pydantic) if text is None else decode(text)
        except msgspec.DecodeError as exc:
            told = exc if isinstance(exc, msgspec.ValidationError) else _OUT_OF_RANGE
            raise PydanticCustomError("struct_type", "{reason}", {"reason": reason_of(told)}) from exc

    return Annotated[
        Any,
        PlainValidator(convert),
        PlainSerializer(msgspec.to_builtins, when_used="json"),
        _JudgedByMsgspec(kind),
    ]


class _JudgedByMsgspec:
    """Tells a core schema which type it stands for, in its `metadata`, and JSON schemas what that looks like."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        metadata = {**schema.get("metadata", {}), "judged_by_msgspec": self._kind}
        return typing.cast("CoreSchema", {**schema, "metadata": metadata})

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        try:
            found = handler(schema)  # of a generator that reads the metadata
        except PydanticInvalidForJsonSchema:
            found = {}
        return found or _struct_schema(self._kind)


def _remedy(exc: Exception) -> str:
    if "must be tagged" in str(exc):
        return "; write `class ...(Struct, tag=True)`"
    if "not supported" in str(exc):
        return "; give the field another type, or make the class a pydantic model"
    return ""


def _struct_schema(kind: Any) -> dict[str, Any]:
    """msgspec's JSON schema in one piece, since its definitions would not be pydantic's."""
    try:
        schema = msgspec.json.schema(kind)
    except Exception:  # it holds a type that msgspec has no schema for
        return {"type": "object"}
    definitions = schema.pop("$defs", {})

    def inline(node: Any, within: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [inline(item, within) for item in node]
        if not isinstance(node, dict):
            return node
        name = node.get("$ref", "").rpartition("/")[2]
        if name in within:
            return {"type": "object", "title": name}  # recursive
        if name:
            return inline(definitions[name], (*within, name))
        return {key: inline(item, within) for key, item in node.items() if key != "discriminator"}

    return dict(inline(schema, ()))


def infos_within(kind: Any) -> typing.Iterator[Any]:
    """What msgspec says of a type and of all within it, at any depth."""
    try:
        todo: list[Any] = [msgspec.inspect.type_info(kind)]
    except Exception:  # it cannot be decoded at all, which its decoder will say
        return
    seen: set[int] = set()
    while todo:
        info = todo.pop()
        if isinstance(info, tuple):
            todo += info
        elif isinstance(info, msgspec.inspect.Field):
            todo.append(info.type)
        elif isinstance(info, msgspec.inspect.Type) and id(info) not in seen:
            seen.add(id(info))
            yield info
            todo += msgspec.structs.astuple(info)


def runs_user_code(kind: Any) -> bool:
    """Does decoding this type call what the application wrote: `__post_init__`, validators of models and of attrs?"""
    for info in infos_within(kind):
        if isinstance(info, msgspec.inspect.CustomType):
            return True
        cls = getattr(info, "cls", None)
        if hasattr(cls, "__post_init__") or is_attrs(cls):
            return True
    return False


def union_members(annotation: Any) -> list[Any]:
    """The members of a union, those of aliases of unions among them."""
    annotation = unwrap(annotation)
    if typing.get_origin(annotation) not in UNIONS:
        return [annotation]
    members: list[Any] = []
    for arg in typing.get_args(annotation):
        members += union_members(arg) if typing.get_origin(unwrap(arg)) in UNIONS else [arg]
    return members
