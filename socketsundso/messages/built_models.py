"""
Whole messages of native fields: msgspec decodes them with the frame, and a generated line makes the model.

    class Join(BaseModel): type: Literal["join"]; room: str; n: int = 0
    {"type":"join","room":"lobby"}   ->   Join(type="join", room="lobby", n=0), without a second look at the JSON

Only where that is what pydantic would have made: nothing of the model is the application's code or changes how a value
is read, and every field is one that msgspec decodes exactly as pydantic would. Of a Struct that is so by nature. What
is not known here is left to pydantic, as is every frame that the fast path refuses.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import BaseModel
from pydantic_core import SchemaValidator

from socketsundso.messages.fields import native_kind
from socketsundso.messages.structs import is_struct

_SLOTS: Mapping[str, Any] = vars(BaseModel)
_SETTERS = {
    f"set_{name}": _SLOTS[slot].__set__
    for name, slot in (
        ("values", "__dict__"),
        ("given", "__pydantic_fields_set__"),
        ("extra", "__pydantic_extra__"),
        ("private", "__pydantic_private__"),
    )
}
"""What pydantic itself sets of a new instance. The slots' own setters take half the time of `object.__setattr__`."""

_CONFIG = {"title", "extra_fields_behavior"}
_MODEL = {"type", "cls", "config", "custom_init", "root_model", "schema", "metadata", "ref", "generic_origin"}
_FIELDS = {"type", "fields", "model_name", "computed_fields"}
_FIELD = {"type", "schema", "metadata", "validation_alias", "serialization_alias", "frozen"}
_DEFAULT = {"type", "schema", "default", "default_factory", "default_factory_takes_data", "metadata", "copy_default"}
_PLAIN = frozenset(
    {"any", "none", "bool", "int", "float", "str", "date", "uuid", "literal", "enum", "nullable", "union", "list",
     "set", "frozenset", "tuple", "dict"}
)  # fmt: skip
_ATOMS = (type(None), bool, int, float, str)
_EMPTY = (list, dict, set)


class Built(NamedTuple):
    """The Struct's fields, the lines that make `whole_message` of a `message`, and the names in them."""

    fields: list[tuple[str, Any, Any]]
    lines: list[str]
    names: dict[str, Any]
    takes_any: bool


def built(annotation: Any, event: str, key: str, ref_key: str) -> Built | None:
    """How a message is made of its fields, or None: then the model is asked for the frame."""
    if is_struct(annotation):
        return _struct(annotation, key, ref_key)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _model(annotation, event, key, ref_key)
    return None


# ---------------------------------------------------------------------- Structs


def _struct(annotation: Any, key: str, ref_key: str) -> Built | None:
    if native_kind(annotation) is None:  # it has code of the application's
        return None
    kind = typing.get_origin(annotation) or annotation
    fields, arguments = [], []
    for index, field in enumerate(msgspec.structs.fields(annotation)):
        if field.encode_name == ref_key:
            return None
        if field.encode_name == key:  # a Literal, and no tag: it stands where the Struct's own tag does
            return None
        default: Any = {"default": field.default, "default_factory": field.default_factory}
        fields.append((f"a_{index}", field.type, msgspec.field(name=field.encode_name, **default)))
        arguments.append(f"{field.name}=message.a_{index}")
    line = f"whole_message = model({', '.join(arguments)})"
    return Built(fields, [line], {"model": kind}, not kind.__struct_config__.forbid_unknown_fields)


# ---------------------------------------------------------------------- models


def _model(model: Any, event: str, key: str, ref_key: str) -> Built | None:
    schema = vars(model).get("__pydantic_core_schema__")
    if not _is_plain_model(model, schema):
        return None
    making = _Making(event, key, ref_key)
    for name, field in schema["schema"]["fields"].items():
        if not (_FIELD.issuperset(field) and making.takes(name, field, model.model_fields[name])):
            return None
    names = {"model": model, "new": object.__new__, "UNSET": UNSET, **_SETTERS, **making.names}
    forbids = (schema.get("config") or {}).get("extra_fields_behavior") == "forbid"
    return Built(making.fields, making.lines, names, not forbids)


def _is_plain_model(model: Any, schema: Any) -> bool:
    """Does pydantic make an instance of it field by field, with no more to it?"""
    return (
        type(model.__pydantic_validator__) is SchemaValidator  # no plugin listens
        and isinstance(schema, dict)
        and schema.get("cls") is model
        and schema["type"] == "model"
        and _MODEL.issuperset(schema)
        and not (schema["custom_init"] or schema["root_model"])
        and _CONFIG.issuperset(schema.get("config") or {})
        and (schema.get("config") or {}).get("extra_fields_behavior") in (None, "ignore", "forbid")
        and schema["schema"]["type"] == "model-fields"
        and _FIELDS.issuperset(schema["schema"])
        and model.__new__ is object.__new__
    )


class _Making:
    """The generated lines of one model, field by field."""

    def __init__(self, event: str, key: str, ref_key: str) -> None:
        self.fields: list[tuple[str, Any, Any]] = []
        self.names: dict[str, Any] = {}
        self._event, self._key, self._ref_key = event, key, ref_key
        self._values: list[str] = []
        self._given: list[str] = []
        self._optional: list[str] = []

    def takes(self, name: str, field: Mapping[str, Any], info: Any) -> bool:
        """Can this field be decoded with the frame? Then it is."""
        key, schema = field.get("validation_alias", name), field["schema"]
        default: Callable[[], Any] | None = None
        if schema["type"] == "default":
            default, schema = _default(schema), schema["schema"]
            if default is None:
                return False
        if not isinstance(key, str) or key == self._ref_key or not _is_plain(schema):
            return False
        if key == self._key:
            self._values.append(f"{name!r}: {self._event!r}")
            self._given.append(name)
            return all(type(each) is str for each in schema.get("expected", (None,)))
        kind = native_kind(Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation)
        if kind is None:
            return False
        self._take(name, key, kind, default)
        return True

    def _take(self, name: str, key: str, kind: Any, default: Callable[[], Any] | None) -> None:
        field = f"a_{len(self.fields)}"
        if default is None:
            self.fields.append((field, kind, msgspec.field(name=key)))
            self._values.append(f"{name!r}: message.{field}")
            self._given.append(name)
            return
        self.fields.append((field, kind | UnsetType, msgspec.field(name=key, default=UNSET)))
        self.names[f"default_{field}"] = default
        self._values.append(f"{name!r}: {field}")
        self._optional += [
            f"{field} = message.{field}",
            f"if {field} is UNSET: {field} = default_{field}()",
            f"else: given.add({name!r})",
        ]

    @property
    def lines(self) -> list[str]:
        return [
            f"given = {{{', '.join(map(repr, self._given))}}}",
            *self._optional,
            "whole_message = new(model)",
            f"set_values(whole_message, {{{', '.join(self._values)}}})",
            "set_given(whole_message, given)",
            "set_extra(whole_message, None)",
            "set_private(whole_message, None)",
        ]


def _default(schema: Mapping[str, Any]) -> Callable[[], Any] | None:
    """What makes the default of a field, where that is no code of the application's."""
    if not _DEFAULT.issuperset(schema) or schema.get("default_factory_takes_data"):
        return None
    if "default_factory" in schema:
        factory = schema["default_factory"]
        return factory if factory in _EMPTY else None
    default = schema["default"]
    if isinstance(default, _ATOMS):
        return lambda: default
    return type(default) if type(default) in _EMPTY and not default else None


def _is_plain(schema: Any) -> bool:
    """Is there nothing in this core schema but what JSON has, without a function of anybody's?"""
    if isinstance(schema, list | tuple):
        return all(map(_is_plain, schema))
    if not isinstance(schema, dict):
        return True
    if "type" in schema and schema["type"] not in _PLAIN:
        return False
    return all(
        _is_plain(each) for name, each in schema.items() if name not in ("metadata", "serialization", "expected")
    )
