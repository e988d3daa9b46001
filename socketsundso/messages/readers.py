"""
Values read as what is declared, where Structs are in it: instances as they are, dicts and other objects validated once.

    Readers().of(Box[Pub])({"item": {"id": 1}})   ->   Box(item=Pub(id=1))

What msgspec can build, it reads, and pydantic the models in it, as well as enums and literals that msgspec cannot
build. The rest (aliases with arguments, unions of several models) is taken apart here. Raises `ResponseError` for what
is not valid.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import ValidationError

from socketsundso.messages.declared import (
    field_types,
    holds,
    is_hashable,
    is_mapping,
    is_model_class,
    is_named_tuple,
    is_pydantic,
    is_struct,
    is_typed_dict,
    item_types,
    kind_of,
    members,
    required_keys,
    unwrapped,
)
from socketsundso.messages.response_errors import (
    HIDDEN,
    Presentable,
    ResponseError,
    invalid,
    located,
    misfit,
    missing,
    of_struct,
    refused_by_class,
)

Reader = Callable[[Any], Any]
_ITEMS = (collections.abc.Collection, collections.abc.Iterator)
_NATIVE = (
    list, tuple, set, frozenset, dict, collections.abc.Collection, collections.abc.Sequence, collections.abc.Set,
    collections.abc.MutableSequence, collections.abc.MutableSet, Mapping, collections.abc.MutableMapping,
)  # fmt: skip
_ATOMS = (str, bytes, bytearray, memoryview, enum.Enum)
_FACTORIES = (tuple, set, frozenset, deque)


class Readers:
    """Makes readers, one for each annotation, so that a class may nest itself."""

    def __init__(self) -> None:
        self._known: dict[Any, Reader] = {}

    def later(self, annotation: Any) -> Reader:
        """The same, made when it is first needed: most replies are instances. What can fail, a writer has built."""
        made: list[Reader] = []

        def read(value: Any) -> Any:
            if not made:
                made.append(self.of(annotation))
            return made[0](value)

        return read

    def of(self, annotation: Any) -> Reader:
        """The reader for what `annotation` declares."""
        annotation = unwrapped(annotation)
        choices = members(annotation)
        kind = kind_of(choices[0])
        if is_pydantic(kind) and not is_struct(kind) and len(choices) == 1:
            return _pydantic_reader(annotation, kind)
        if _is_buildable(annotation):
            return _msgspec_reader(annotation)
        if len(choices) > 1:
            return _union_reader([(kind_of(choice), self.of(choice)) for choice in choices])
        if not isinstance(kind, type):  # a Literal of an enum's members, say
            return _pydantic_reader(annotation, ())
        if not is_model_class(kind) and not issubclass(kind, collections.abc.Iterable):
            return _pydantic_reader(annotation, kind)
        (found,) = choices
        if not is_hashable(found):
            return self._of_class(found, kind)
        if found not in self._known:
            self._known[found] = lambda value: self._known[found](value)  # for a class that nests itself
            self._known[found] = self._of_class(found, kind)
        return self._known[found]

    def _of_class(self, annotation: Any, kind: type) -> Reader:
        if is_typed_dict(kind):
            return _dict_reader(kind, self._of_fields(annotation))
        if is_named_tuple(kind):
            return _tuple_reader(kind, list(self._of_fields(annotation).items()), kind._make)  # type: ignore[attr-defined]  # a NamedTuple's
        if is_model_class(kind):
            return _object_reader(kind, self._of_fields(annotation))
        arguments = item_types(annotation) or (Any, Any)
        if is_mapping(kind):
            return _mapping_reader(self.of(arguments[-1]))
        if issubclass(kind, tuple) and arguments[-1] is not ...:
            return _tuple_reader(kind, list(enumerate(map(self.of, arguments))), tuple)
        factory: Any = next((factory for factory in _FACTORIES if issubclass(kind, factory)), list)
        return _list_reader(self.of(arguments[0]), factory)

    def _of_fields(self, annotation: Any) -> dict[str, Reader]:
        return {name: self.of(hint) for name, hint in field_types(annotation).items()}


def _is_buildable(annotation: Any) -> bool:
    try:
        msgspec.json.Decoder(annotation)
    except Exception:  # it raises what it likes
        return False
    return not holds(annotation, _is_foreign)


def _is_foreign(kind: Any) -> bool:
    """A container that msgspec does not know: it would leave it, with its items, to the hook."""
    is_container = isinstance(kind, type) and issubclass(kind, collections.abc.Iterable)
    return (
        is_container
        and kind not in _NATIVE
        and not is_model_class(kind)
        and not is_named_tuple(kind)
        and not issubclass(kind, _ATOMS)
    )


def _msgspec_reader(annotation: Any) -> Reader:
    def read(value: Any) -> Any:
        try:
            return msgspec.convert(value, annotation, from_attributes=True, dec_hook=_by_pydantic)
        except (msgspec.ValidationError, TypeError) as exc:
            raise of_struct(exc) from exc

    return read


def _by_pydantic(kind: type, value: Any) -> Any:
    """msgspec's hook for the classes that it cannot build: pydantic does."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        return adapter.validate_python(value, from_attributes=True)
    except ValidationError as exc:
        told = invalid(exc, adapter.core_schema)
        raise Presentable("; ".join(error["msg"] for error in told.errors)) from exc
    except PydanticUserError as exc:
        raise Presentable(f"Neither msgspec nor pydantic can build {kind.__name__}") from exc


def _pydantic_reader(annotation: Any, kind: type | tuple[()]) -> Reader:
    """Instances of `kind` are as they are."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    adapter.rebuild(raise_errors=True)

    def read(value: Any) -> Any:
        try:
            return value if isinstance(value, kind) else adapter.validate_python(value, from_attributes=True)
        except ValidationError as exc:
            raise invalid(exc, adapter.core_schema) from exc

    return read


def _union_reader(choices: list[tuple[Any, Reader]]) -> Reader:
    classes = tuple(kind for kind, _ in choices if is_model_class(kind) and not is_typed_dict(kind))

    def read(value: Any) -> Any:
        if isinstance(value, classes):
            return value
        errors: list[dict[str, Any]] = []
        for _, read in choices:
            try:
                return read(value)
            except ResponseError as exc:
                errors += exc.errors
        raise ResponseError(errors)

    return read


def _object_reader(kind: Any, readers: Mapping[str, Reader]) -> Reader:
    """For a Struct, dataclass or class of attrs."""
    keys = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)) if _is_own(kind) else {}
    config = kind.__struct_config__ if _is_own(kind) else None
    required = _required(kind)

    def fields_of(value: Any) -> dict[str, Any]:
        if isinstance(value, Mapping):
            return {name: value[keys.get(name, name)] for name in readers if keys.get(name, name) in value}
        if value is None or isinstance(value, str | bytes | int | float | list | tuple):
            raise misfit("object", value)
        return {name: getattr(value, name) for name in readers if hasattr(value, name)}

    def read(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        found = fields_of(value)
        if absent := [name for name in required if name not in found]:
            raise missing(keys.get(absent[0], absent[0]))
        if config and isinstance(value, Mapping):
            _check_keys(config, set(keys.values()), value)
        arguments = _each([(keys.get(name, name), readers[name], item) for name, item in found.items()])
        try:
            return kind(**{_parameter(kind, name): item for name, item in zip(found, arguments, strict=True)})
        except (TypeError, ValueError) as exc:  # what it checks itself
            raise refused_by_class() from exc

    return read


def _is_own(kind: Any) -> bool:
    return issubclass(kind, msgspec.Struct)


def _required(kind: Any) -> list[str]:
    if _is_own(kind):
        return [field.name for field in msgspec.structs.fields(kind) if field.required]
    if dataclasses.is_dataclass(kind):
        without = dataclasses.MISSING
        return [f.name for f in dataclasses.fields(kind) if f.init and f.default is f.default_factory is without]
    return []


def _parameter(kind: Any, name: str) -> str:
    """By which name the class takes a field: attrs strips underscores."""
    return name.lstrip("_") if hasattr(kind, "__attrs_attrs__") else name


def _check_keys(config: Any, keys: set[str], value: Mapping[str, Any]) -> None:
    tag = value.get(config.tag_field, config.tag) if config.tag_field else None
    if config.tag_field and tag != config.tag:
        raise located(refused_by_class(), config.tag_field)
    if config.forbid_unknown_fields and not set(value) <= keys | {config.tag_field}:
        raise refused_by_class()


def _each(fields: list[tuple[Any, Reader, Any]]) -> list[Any]:
    """All read, with the place of the one that cannot be."""
    found = []
    for place, read, value in fields:
        try:
            found.append(read(value))
        except ResponseError as exc:
            raise located(exc, place) from exc.__cause__
    return found


def _dict_reader(kind: Any, readers: Mapping[str, Reader]) -> Reader:
    required = sorted(required_keys(kind))

    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise misfit("object", value)
        for name in required:
            if name not in value:
                raise missing(name)
        names = [name for name in readers if name in value]
        return dict(zip(names, _each([(name, readers[name], value[name]) for name in names]), strict=True))

    return read


def _tuple_reader(kind: type, readers: list[tuple[Any, Reader]], factory: Callable[[list[Any]], Any]) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, tuple | list) or len(value) != len(readers):
            raise misfit(kind.__name__, value)
        return factory(_each([(place, read, item) for (place, read), item in zip(readers, value, strict=True)]))

    return read


def _mapping_reader(read_item: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise misfit("object", value)
        return dict(zip(value, _each([(HIDDEN, read_item, item) for item in value.values()]), strict=True))

    return read


def _list_reader(read_item: Reader, factory: Callable[[list[Any]], Any]) -> Reader:
    def read(value: Any) -> Any:
        if not is_array(value):
            raise misfit("array", value)
        return factory(_each([(index, read_item, item) for index, item in enumerate(value)]))

    return read


def is_array(value: Any) -> bool:
    """Has it items, and are they its own? A model is Iterable, but no Collection: its items are its fields."""
    return isinstance(value, _ITEMS) and not isinstance(value, Mapping | str | bytes | bytearray)
