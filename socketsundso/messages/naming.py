"""
What messages are called: by their own `type`, by what their class says in it, or by the name of that class.

    class Posted(Struct, tag="posted")        ->   posted
    class Posted(BaseModel): type: Literal["posted"] = "posted"   ->   posted
    class ItemPosted(BaseModel): text: str    ->   item_posted
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

import msgspec
from pydantic import BaseModel

from socketsundso.messages.declared import is_typed_dict, kind_of, members

Naming = Literal["type", "frame", "class"]
"""By what instances of a class are named: its `type`, the frame that they are as a whole, or otherwise."""


def own_type(value: Any, by_alias: bool = True, declared: type | None = None, key: str = "type") -> Any:
    """
    The value's own `type`, or its model's default, where an option left it out of the body.

    `declared` is the class that it is written as, if that is a base of its own; `key` is what `type` is called there.
    """
    kind = declared or type(value)
    if isinstance(value, Mapping):
        own = value.get(key)
    elif isinstance(value, BaseModel):
        own = (value.model_extra or {}).get(key)
        attribute = type_attribute(kind, by_alias, key)
        own = own if attribute is None else getattr(value, attribute)
    elif declared is not None and key not in getattr(declared, "__dataclass_fields__", ()):
        own = None
    else:
        own = getattr(value, key, None)
    return getattr(own, "value", own)


def type_attribute(model: type[BaseModel], by_alias: bool = True, key: str = "type") -> str | None:
    """The attribute that this model writes as `type`."""
    for name, field in model.model_fields.items():
        if ((by_alias and field.serialization_alias) or name) == key:
            return name
    for name, computed in model.model_computed_fields.items():
        if ((by_alias and computed.alias) or name) == key:
            return name
    return None


def pushed_type(kind: Any, key: str = "type") -> str:
    """The `type` that a pushed instance of a class has: its tag, its field's default or Literal, else its name."""
    own = own_types(kind, key) or own_types(kind)
    return own[0] if own else snake_case(kind_of(kind).__name__)


def own_types(kind: Any, key: str = "type") -> list[str]:
    """What the `type` of an instance of a class may be, the likeliest first; none where the class does not say."""
    kind = kind_of(kind)
    if issubclass(kind, Mapping) and not is_typed_dict(kind):
        return []
    name = _type_field(kind, key)
    return _texts([_tag(kind, key), _default(kind, name), *_literals(kind, name)])


def names_itself(kind: Any, key: str = "type", by_default: bool = False) -> bool:
    """Does a class say by a tag, or a Literal, what its instances are called? Or `by_default`."""
    kind = kind_of(kind)
    if not isinstance(kind, type) or (issubclass(kind, Mapping) and not is_typed_dict(kind)):
        return False
    known = _known.setdefault(kind, {})
    if (key, by_default) not in known:
        known[key, by_default] = _says_name(kind, key, by_default)
    return known[key, by_default]


_known: WeakKeyDictionary[type, dict[tuple[str, bool], bool]] = WeakKeyDictionary()


def _says_name(kind: Any, key: str, by_default: bool) -> bool:
    try:
        name = _type_field(kind, key)
        found = [_tag(kind, key), *_literals(kind, name)]
        return bool(_texts([*found, _default(kind, name)] if by_default else found))
    except (NameError, TypeError):  # annotations that cannot be resolved: what writes the value knows more
        return False


def _texts(found: list[Any]) -> list[str]:
    values = [getattr(each, "value", each) for each in found]
    return list(dict.fromkeys(each for each in values if isinstance(each, str)))


def _literals(kind: Any, name: str) -> list[Any]:
    declared = members(typing.get_type_hints(kind).get(name))
    return [value for each in declared if kind_of(each) is typing.Literal for value in typing.get_args(each)]


def _type_field(kind: Any, key: str) -> str:
    """The field that is written as `type`, by its name in Python."""
    if issubclass(kind, BaseModel):
        return type_attribute(kind, key=key) or ""
    if issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return next((field.name for field in fields if field.encode_name == key), "")
    return key


def _tag(kind: Any, key: str) -> Any:
    config = getattr(kind, "__struct_config__", None)
    return config.tag if config is not None and config.tag_field == key else None


def _default(kind: Any, name: str) -> Any:
    if issubclass(kind, msgspec.Struct):
        return next((field.default for field in msgspec.structs.fields(kind) if field.name == name), None)
    fields = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None) or {}
    return getattr(fields.get(name), "default", None)


def is_whole_frame(kind: Any, key: str, names: frozenset[str]) -> bool:
    """Does a class say what it is at the type `key` of frames, and has it nothing but what frames have?"""
    return names_itself(kind, key, by_default=True) and pushed_fields(kind) <= names


def pushed_fields(kind: Any) -> frozenset[str]:
    """The fields of a pushed instance of a class, by their names on the wire."""
    kind = kind_of(kind)
    if issubclass(kind, msgspec.Struct):
        return frozenset(kind.__struct_encode_fields__)
    models = getattr(kind, "model_fields", None)
    if models is not None:
        return frozenset(field.serialization_alias or field.alias or name for name, field in models.items())
    return frozenset(getattr(kind, "__dataclass_fields__", None) or typing.get_type_hints(kind))


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
