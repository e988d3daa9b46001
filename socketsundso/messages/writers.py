"""
Structs as they are declared: a `Writer` makes of a value what msgspec then writes with the declared fields alone.

    class Box(Struct, Generic[T]): item: T
    Writers().of(Box[Pub])(Box(Priv(id=1, password="x")))   ->   written {"item":{"id":1}}

Msgspec writes what stands in a Struct, whatever its class; the Struct's own annotations say what is to go out. Where
every value can only be what it is declared to be (text, numbers, lists of them), there is no writer: None. For the
other fields, a value of a class that has fields is written with those of the class that is declared there: models
of pydantic by their serializer, all others as a Struct of those fields. What is of no declared class is read as one.

Raises `ResponseError` for what cannot be.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping
from keyword import iskeyword
from typing import Any

import msgspec
from msgspec import NODEFAULT, Raw
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, ValidationError

from socketsundso.messages import codegen
from socketsundso.messages.core_schemas import may_write_nan, nests_fields, writes_no_text
from socketsundso.messages.declared import (
    bare,
    field_types,
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
    unwrapped,
)
from socketsundso.messages.exact_json import exact_json
from socketsundso.messages.readers import Reader, Readers, is_array
from socketsundso.messages.response_errors import HIDDEN, ResponseError, invalid, located, misfit
from socketsundso.messages.values import failure

Writer = Callable[[Any], Any]

# Classes whose values have no fields to write, however they are subclassed.
_SCALARS = (
    str, bytes, bytearray, memoryview, int, float, complex, type(None), enum.Enum, decimal.Decimal, fractions.Fraction,
    uuid.UUID, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, pathlib.PurePath, Raw,
    msgspec.UnsetType,
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Interface, ipaddress.IPv6Interface,
    ipaddress.IPv4Network, ipaddress.IPv6Network,
)  # fmt: skip
_REQUIRED = object()  # a default that no value is


def is_never_text(annotation: Any) -> bool:
    """Can a value of it never be written as a string?"""
    try:
        return writes_no_text(TypeAdapter(annotation).core_schema)
    except PydanticUserError:
        return False


class Writers:
    """Makes writers, one for each annotation, so that a class may nest itself."""

    def __init__(self) -> None:
        self._known: dict[Any, Writer | None] = {}
        self._plain: set[Any] = set()  # Structs that nothing can hide in
        self._readers = Readers()

    def of(self, annotation: Any) -> Writer | None:
        """The writer for what `annotation` declares. None: msgspec writes it as it is."""
        choices = members(annotation)
        if len(choices) > 1:
            return self._of_union(choices)
        (found,) = choices
        kind = kind_of(found)
        if not isinstance(kind, type) or kind in (Any, object) or issubclass(kind, _SCALARS):
            return None
        if is_pydantic(kind) and not is_struct(kind):
            return _model_writer(unwrapped(annotation), kind)
        if not is_hashable(found):
            return self._of_class(found, kind)
        if found not in self._known:
            self._known[found] = self._later(found)  # for a class that nests itself
            self._known[found] = self._of_class(found, kind)
        return self._known[found]

    def _later(self, annotation: Any) -> Writer:
        def write(value: Any) -> Any:
            writer = self._known[annotation]
            return value if writer is None else writer(value)

        return write

    def whole(self, annotation: Any) -> frozenset[type]:
        """The class whose very instances msgspec writes as they are, if `annotation` is one that has a writer."""
        found = bare(annotation)
        return frozenset({kind_of(found)} if is_hashable(found) and found in self._plain else ())

    def of_fields(self, annotation: Any) -> dict[str, Writer | None]:
        """By the names in Python, for a class with fields."""
        types = field_types(annotation)
        return {name: self.of(types.get(name, Any)) for name in _names(kind_of(annotation))}

    def _of_class(self, annotation: Any, kind: type) -> Writer | None:
        if is_typed_dict(kind):
            return _dict_writer(self._readers.later(annotation), self.of_fields(annotation))
        if is_named_tuple(kind):
            return _tuple_writer(self._readers.later(annotation), list(self.of_fields(annotation).items()))
        if is_model_class(kind):
            fields = self.of_fields(annotation)
            if issubclass(kind, msgspec.Struct) and not any(fields.values()) and is_hashable(annotation):
                self._plain.add(annotation)
            return _object_writer(kind, fields, self._readers.later(annotation))
        if not issubclass(kind, collections.abc.Iterable):
            return _modelless(kind)
        arguments = item_types(annotation)
        if is_mapping(kind):
            return _mapping_writer(self.of(arguments[1]), self.whole(arguments[1])) if len(arguments) == 2 else None
        if issubclass(kind, tuple) and arguments and arguments[-1] is not ...:
            writers = [(index, self.of(argument)) for index, argument in enumerate(arguments)]
            if not any(writer for _, writer in writers):
                return None
            return _tuple_writer(self._readers.later(annotation), writers)
        return _list_writer(self.of(arguments[0]), self.whole(arguments[0])) if arguments else None

    def _of_union(self, choices: list[Any]) -> Writer | None:
        writers = [(choice, self.of(choice)) for choice in choices]
        kinds = [kind_of(choice) for choice in choices]
        if Any in kinds or object in kinds or not any(writer for _, writer in writers):
            return None
        by_class: dict[type, Writer] = {}
        others: list[Writer] = []
        plain: list[type] = []
        for kind, (choice, writer) in zip(kinds, writers, strict=True):
            if writer is None:
                plain += [type(value) for value in typing.get_args(choice)] if kind is typing.Literal else [kind]
            elif is_model_class(kind) and not is_typed_dict(kind):
                by_class.setdefault(kind, writer)
            else:
                others.append(writer)
        return _union_writer(by_class, others, tuple(kind for kind in plain if isinstance(kind, type)))


# ---------------------------------------------------------------------- classes with fields


def _names(kind: Any) -> Iterable[str]:
    if issubclass(kind, msgspec.Struct):
        return typing.cast("tuple[str, ...]", kind.__struct_fields__)
    if is_named_tuple(kind):
        return typing.cast("tuple[str, ...]", kind._fields)
    if hasattr(kind, "__attrs_attrs__"):  # msgspec leaves out what is private
        return [field.name for field in kind.__attrs_attrs__ if not field.name.startswith("_")]
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(field_types(kind))


def _object_writer(kind: type, writers: Mapping[str, Writer | None], read: Reader) -> Writer:
    """For a Struct, dataclass or class of attrs: `kind` itself if that is plain, else a Struct with its fields."""
    defaults = _fields(kind)
    names: dict[str, Any] = {
        "kind": kind, "read": read, "twin": _twin(kind, list(writers)),
        "ResponseError": ResponseError, "found": _found, "writers": writers,
    }  # fmt: skip
    given = []
    for index, (name, writer) in enumerate(writers.items()):
        field = f"getattr(value, {name!r})" if iskeyword(name) else f"value.{name}"
        given.append(f"write_{index}({field})" if writer else field)
        names[f"write_{index}"] = writer
        if writer and omits_defaults(kind):  # msgspec knows a default again by its identity
            names[f"default_{index}"] = defaults[name].get("default", _REQUIRED)
            given[-1] = f"{given[-1]} if {field} is not default_{index} else {field}"
    twin = f"return twin({', '.join(given)})"
    if issubclass(kind, msgspec.Struct) and not any(writers.values()):  # others may hold more than fields, or less
        body = [
            "if type(value) is kind:",
            "    return value",
            "if isinstance(value, kind):",
            f"    {twin}",
            "return read(value)",
        ]
    else:
        body = [
            "if not isinstance(value, kind):",
            "    value = read(value)",
            "try:",
            f"    {twin}",
            "except ResponseError as exc:",
            "    fields = [(name, write, getattr(value, name)) for name, write in writers.items()]",
            "    raise found(exc, fields) from exc.__cause__",
        ]
    return codegen.function("value", body, names)


def _twin(kind: Any, names: list[str]) -> type:
    """A Struct that is written as `kind` is, of whatever values: no checks, no `__post_init__`, no subclasses."""
    arguments = _fields(kind)
    fields = [(name, Any, msgspec.field(**arguments[name])) for name in names]
    if not issubclass(kind, msgspec.Struct):
        return msgspec.defstruct(kind.__name__, fields, gc=False)
    config = kind.__struct_config__
    return msgspec.defstruct(
        kind.__name__,
        fields,
        tag_field=config.tag_field,
        tag=config.tag,
        omit_defaults=config.omit_defaults,
        array_like=config.array_like,
        gc=False,
    )


def omits_defaults(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct) and kind.__struct_config__.omit_defaults


def _fields(kind: Any) -> dict[str, dict[str, Any]]:
    """The arguments of `msgspec.field` by name. All have a default, so that those with one may come first."""
    if not issubclass(kind, msgspec.Struct):
        return {name: {"default": _REQUIRED} for name in _names(kind)}
    found: dict[str, dict[str, Any]] = {}
    for field in msgspec.structs.fields(kind):
        found[field.name] = {"name": field.encode_name}
        if field.default_factory is not NODEFAULT:
            found[field.name]["default_factory"] = field.default_factory
        else:
            found[field.name]["default"] = _REQUIRED if field.default is NODEFAULT else field.default
    return found


def _found(error: ResponseError, fields: Iterable[tuple[Any, Writer | None, Any]]) -> ResponseError:
    """The error again, with the name or index of the field that it comes from: found by a second try."""
    for place, write, value in fields:
        try:
            if write is not None:
                write(value)
        except ResponseError:
            return located(error, place)
    return error


def _model_writer(annotation: Any, kind: type) -> Writer:
    """For what pydantic writes: by the serializer of what is declared, whatever the value's class."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    adapter.rebuild(raise_errors=True)
    validate = adapter.validator.validate_python
    nests = nests_fields(adapter.core_schema)
    to_json = exact_json(adapter, {"by_alias": True}) if nests else adapter.serializer.to_json
    is_suspect = may_write_nan(adapter.core_schema)

    def write(value: Any) -> Any:
        try:
            valid = value if isinstance(value, kind) else validate(value, from_attributes=True)
            body = to_json(valid, by_alias=True)
        except ValidationError as exc:
            raise invalid(exc, adapter.core_schema) from exc
        except PydanticSerializationError as exc:
            raise failure(value, exc) from exc
        if is_suspect and (b"NaN" in body or b"Infinity" in body):
            msgspec.json.decode(body, type=Raw)
        return Raw(body)

    return write


# ---------------------------------------------------------------------- containers and unions


def _dict_writer(read: Reader, writers: Mapping[str, Writer | None]) -> Writer:
    def write(value: Any) -> Any:
        if not isinstance(value, Mapping):
            value = read(value)
        try:
            return {
                name: value[name] if write is None else write(value[name])
                for name, write in writers.items()
                if name in value
            }
        except ResponseError as exc:
            present = [(name, write, value[name]) for name, write in writers.items() if name in value]
            raise _found(exc, present) from exc.__cause__

    return write


def _tuple_writer(read: Reader, writers: list[tuple[Any, Writer | None]]) -> Writer:
    def write(value: Any) -> Any:
        if not isinstance(value, tuple | list) or len(value) != len(writers):
            value = read(value)
        fields = [(name, write, item) for (name, write), item in zip(writers, value, strict=True)]
        try:
            return [item if write is None else write(item) for _, write, item in fields]
        except ResponseError as exc:
            raise _found(exc, fields) from exc.__cause__

    return write


def _mapping_writer(write_item: Writer | None, whole: frozenset[type]) -> Writer | None:
    if write_item is None:
        return None

    def write(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise misfit("dict", value)
        if whole.issuperset(map(type, value.values())):
            return value
        try:
            return {key: write_item(item) for key, item in value.items()}
        except ResponseError as exc:
            raise _found(exc, [(HIDDEN, write_item, item) for item in value.values()]) from exc.__cause__

    return write


def _list_writer(write_item: Writer | None, whole: frozenset[type]) -> Writer | None:
    if write_item is None:
        return None

    def write(value: Any) -> Any:
        if not is_array(value):
            raise misfit("array", value)
        items = value if isinstance(value, collections.abc.Collection) else list(value)
        if whole.issuperset(map(type, items)):
            return items
        try:
            return [write_item(item) for item in items]
        except ResponseError as exc:
            raise _found(exc, [(index, write_item, item) for index, item in enumerate(items)]) from exc.__cause__

    return write


def _modelless(kind: type) -> Writer:
    """For a class that neither library knows: written as its value is, but nothing that has fields."""

    def write(value: Any) -> Any:
        if is_model_class(type(value)):
            raise misfit(kind.__name__, value)
        return value

    return write


def _union_writer(by_class: Mapping[type, Writer], others: list[Writer], plain: tuple[Any, ...]) -> Writer:
    """
    The value's own class decides, then its nearest base; then whatever takes it.

    `plain` are the classes of alternatives that need no writer.
    """
    exact = (*plain, int) if float in plain else plain
    scalars = _SCALARS if any(issubclass(kind, _SCALARS) and kind is not type(None) for kind in plain) else ()

    def write(value: Any) -> Any:
        if value is None:
            return None
        for cls in type(value).__mro__:
            if cls in by_class:
                return by_class[cls](value)
        if isinstance(value, _SCALARS) and isinstance(value, exact):
            return value
        for write in others:
            try:
                return write(value)
            except ResponseError:
                continue
        if isinstance(value, (*plain, *scalars)) and not is_model_class(type(value)):
            return value
        errors: list[dict[str, Any]] = []
        for write in by_class.values():
            try:
                return write(value)
            except ResponseError as exc:
                errors += exc.errors
        raise ResponseError(errors) if errors else misfit("union", value)

    return write
