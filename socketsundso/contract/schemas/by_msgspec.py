"""The JSON Schemas of what msgspec judges and writes: Structs, classes of attrs, and all that stands in them."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import inspect
import typing
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, UnsetType

from socketsundso.contract.schemas.constraints import DEMANDS, IF_AWARE, aware, demanding
from socketsundso.contract.schemas.keys import as_key
from socketsundso.messages import (
    bare,
    field_types,
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
    union_members,
)

Mode = Literal["validation", "serialization"]
_BASE64 = {"type": "string", "contentEncoding": "base64"}
_WORDS = ("title", "description", "examples")
_ATOMS: dict[Any, dict[str, Any]] = {
    type(None): {"type": "null"}, bool: {"type": "boolean"}, int: {"type": "integer"}, float: {"type": "number"},
    str: {"type": "string"}, bytes: _BASE64, bytearray: _BASE64, memoryview: _BASE64, Decimal: {"type": "string"},
    uuid.UUID: {"type": "string", "format": "uuid"}, datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", IF_AWARE: "date-time"},
    datetime.time: {"type": "string", IF_AWARE: "time"}, datetime.timedelta: {"type": "string"},
    Any: {}, object: {}, msgspec.Raw: {},
}  # fmt: skip


class MsgspecSchemas:
    """
    The schemas of one mode. Their `$ref`s are `MODE msgspec IDENTITY`, the keys of `definitions`.

    `by_pydantic` gives the schema of what msgspec does not know.
    """

    def __init__(self, mode: Mode, definitions: dict[str, Any], by_pydantic: Callable[[Any], Any]) -> None:
        self._mode, self._definitions, self._by_pydantic = mode, definitions, by_pydantic

    def of(self, annotation: Any) -> dict[str, Any]:
        schema = self._of(bare(annotation))
        for meta in _metas(annotation):
            schema = _demanding(schema, meta)
        return schema

    def _of(self, found: Any) -> dict[str, Any]:
        choices = [each for each in union_members(found) if each is not UnsetType]
        if len(choices) > 1:
            return {"anyOf": [self.of(each) for each in choices]}
        (found,) = choices or [type(None)]
        kind = kind_of(found)
        if kind is Literal:
            return {"enum": [getattr(each, "value", each) for each in typing.get_args(found)]}
        if kind in _ATOMS:
            return dict(_ATOMS[kind])
        if not isinstance(kind, type):
            return dict(self._by_pydantic(found))
        if issubclass(kind, enum.Enum):
            return self._defined(kind, kind, self._enum)
        if is_pydantic(kind) and not is_struct(kind) and not self._reads_fields(kind):
            return dict(self._by_pydantic(found))
        if is_typed_dict(kind) or is_model_class(kind) or is_named_tuple(kind):
            return self._defined(found, kind, self._fields)
        return self._container(found, kind)

    def _reads_fields(self, kind: Any) -> bool:
        """Pydantic's dataclasses are plain ones to msgspec's decoder."""
        return self._mode == "validation" and hasattr(kind, "__dataclass_fields__")

    def _defined(self, annotation: Any, kind: Any, make: Callable[[Any, Any], dict[str, Any]]) -> dict[str, Any]:
        ref = f"{self._mode} msgspec {_identity(annotation)}"
        if ref not in self._definitions:
            self._definitions[ref] = {}  # for a class that nests itself
            schema = make(annotation, kind)
            doc = _doc(kind)
            self._definitions[ref] = {"description": doc, **schema} if doc else schema
        return {"$ref": ref}

    def _enum(self, annotation: Any, kind: Any) -> dict[str, Any]:
        return {"enum": [member.value for member in kind]}

    def _fields(self, annotation: Any, kind: Any) -> dict[str, Any]:
        types = field_types(annotation)
        fields = _fields_of(kind, types)
        if self._mode == "serialization":
            fields = {name: each.written(types.get(name, Any), kind) for name, each in fields.items()}
        schemas = {each.key: each.with_default(self.of(types.get(name, Any))) for name, each in fields.items()}
        required = [each.key for each in fields.values() if each.required]
        config = getattr(kind, "__struct_config__", None)
        if is_named_tuple(kind) or (config is not None and config.array_like):
            return _positional(config, list(schemas.values()), len(required))
        if config is not None and config.tag is not None:
            schemas = {config.tag_field: {"const": config.tag}, **schemas}
            required.insert(0, config.tag_field)
        schema: dict[str, Any] = {"type": "object", "properties": schemas, "required": required}
        if not required:
            del schema["required"]
        if config is not None and config.forbid_unknown_fields:
            schema["additionalProperties"] = False
        return schema

    def _container(self, found: Any, kind: Any) -> dict[str, Any]:
        arguments = item_types(found)
        if is_mapping(kind):
            return self._mapping(*arguments) if len(arguments) == 2 else {"type": "object"}
        if not issubclass(kind, collections.abc.Iterable) or issubclass(kind, str | bytes):
            return dict(self._by_pydantic(found))
        if issubclass(kind, tuple) and arguments and arguments[-1] is not ...:
            return _positional(None, [self.of(each) for each in arguments], len(arguments))
        schema: dict[str, Any] = {"type": "array"}
        if arguments and (items := self.of(arguments[0])):
            schema["items"] = items
        if issubclass(kind, collections.abc.Set):
            schema["uniqueItems"] = True
        return schema

    def _mapping(self, key: Any, value: Any) -> dict[str, Any]:
        schema = {"type": "object", "additionalProperties": self.of(value)}
        names = as_key(self.of(key), self._definitions)
        return {**schema, "propertyNames": names} if names else schema


def _positional(config: Any, items: list[Any], required: int) -> dict[str, Any]:
    if config is not None and config.tag is not None:
        items, required = [{"const": config.tag}, *items], required + 1
    return {"type": "array", "prefixItems": items, "items": False, "minItems": required, "maxItems": len(items)}


def _identity(annotation: Any) -> str:
    """As pydantic writes it: `module.Box:140[User:150]`."""
    kind, arguments = kind_of(annotation), ",".join(map(_shown, typing.get_args(annotation)))
    found = f"{kind.__module__}.{kind.__qualname__}:{id(kind)}"
    return f"{found}[{arguments}]" if arguments else found


def _shown(argument: Any) -> str:
    arguments = ",".join(map(_shown, typing.get_args(argument)))
    kind = kind_of(argument)
    name = getattr(kind, "__name__", None) or str(kind).rpartition(".")[2]
    return f"{name}[{arguments}]" if arguments else f"{name}:{id(kind)}"


@dataclasses.dataclass(frozen=True)
class _Field:
    """One field: its key, whether it has to be there, and what it is where it is not."""

    key: str
    required: bool
    default: Any = msgspec.NODEFAULT

    def written(self, annotation: Any, kind: Any) -> _Field:
        """As the server writes it: whatever has a default is there."""
        config = getattr(kind, "__struct_config__", None)
        omitted = config is not None and config.omit_defaults and not self.required
        may_lack = omitted or UnsetType in members(annotation) or (is_typed_dict(kind) and not self.required)
        return _Field(self.key, not may_lack)

    def with_default(self, schema: dict[str, Any]) -> dict[str, Any]:
        if self.default is msgspec.NODEFAULT or self.default is msgspec.UNSET:
            return schema
        try:
            return {**schema, "default": msgspec.to_builtins(self.default)}
        except Exception:  # no JSON
            return schema


def _fields_of(kind: Any, types: Mapping[str, Any]) -> dict[str, _Field]:
    """By the names in Python."""
    if issubclass(kind, msgspec.Struct):
        return {f.name: _Field(f.encode_name, f.required, f.default) for f in msgspec.structs.fields(kind)}
    if is_typed_dict(kind):
        required = required_keys(kind)
        return {name: _Field(name, name in required) for name in types}
    if is_named_tuple(kind):
        return {name: _Field(name, name not in kind._field_defaults) for name in kind._fields}
    if hasattr(kind, "__attrs_attrs__"):  # msgspec leaves out what is private
        names = [field.name for field in kind.__attrs_attrs__ if not field.name.startswith("_")]
        return {name: _Field(name, name in _parameters_without_default(kind)) for name in names}
    return {field.name: _of_dataclass(field) for field in dataclasses.fields(kind)}


def _parameters_without_default(kind: Any) -> set[str]:
    parameters = inspect.signature(kind).parameters.items()
    return {name for name, parameter in parameters if parameter.default is inspect.Parameter.empty}


def _of_dataclass(field: dataclasses.Field[Any]) -> _Field:
    without = dataclasses.MISSING
    default = msgspec.NODEFAULT if field.default is without else field.default
    return _Field(field.name, field.default is without and field.default_factory is without, default)


def _metas(annotation: Any) -> list[Meta]:
    found: list[Meta] = []
    while True:
        if typing.get_origin(annotation) is Annotated:
            found = [each for each in annotation.__metadata__ if isinstance(each, Meta)] + found
            annotation = annotation.__origin__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        else:
            return found


def _demanding(schema: Mapping[str, Any], meta: Meta) -> dict[str, Any]:
    demands = {name: value for name in DEMANDS if (value := getattr(meta, name)) is not None}
    found = demanding(schema, demands)
    if meta.tz:
        found = aware(found)
    found.update({word: value for word in _WORDS if (value := getattr(meta, word)) is not None})
    return {**found, **(meta.extra_json_schema or {})}


def _doc(kind: Any) -> str:
    doc = vars(kind).get("__doc__") or ""
    is_made = doc.startswith(f"{kind.__name__}(") or (issubclass(kind, enum.Enum) and doc == "An enumeration.")
    return "" if is_made else inspect.cleandoc(doc)
