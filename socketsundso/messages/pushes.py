"""
Messages that answer nothing -> JSON bytes: `encode_push`; and what a class's instances will look like as such.

    Posted(room="lobby")   ->   {"type":"posted","room":"lobby"}

Refuses a dict that does not say what it is, what is not as it was declared (`Emitted`), and what `values` refuses.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Union

import msgspec
from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from socketsundso.errors import DefinitionError
from socketsundso.messages.declared import field_types, is_model_class, is_typed_dict, kind_of, members
from socketsundso.messages.replies import ResponseOptions, StructEncoder, encoder_for
from socketsundso.messages.values import Encoder, own_type, type_attribute

_NO_MESSAGES = (str, bytes, int, float, list, tuple, set, frozenset, type(None))


def encode_push(value: Any, ref_key: str = "ref") -> bytes:
    """
    A message that answers nothing: `type` is its own, its tag or default, else its class's name in snake_case.

    Raises `TypeError` for a dict without `type`, `ResponseError` for what cannot be encoded.
    """
    if isinstance(value, Mapping):
        if not isinstance(own_type(value), str):
            raise TypeError(f"a message that is pushed needs a `type`; this dict has the keys {list(value)!r}")
        name = "message"
    else:
        name = _snake_case(type(value).__name__)
    return _push_encoder(name, ref_key).encode(value)


class Emitted:
    """
    What an endpoint declares that it pushes: dicts are what their `type` names, instances what their class declares.

    `declared` are classes of messages, generic ones with arguments too, behind aliases or in unions. `classes` are
    those whose instances may be pushed, each as the nearest of its bases that is listed. `types` is what they all are
    called. `attribute` is that of the endpoint in which they are listed.

    Raises `DefinitionError` for what is no class, and for a class whose instances are no messages.
    """

    def __init__(self, declared: Iterable[Any], ref_key: str = "ref", attribute: str = "emits") -> None:
        try:
            kinds = [member for each in declared for member in members(each)]
            for kind in kinds:
                _check_class(kind, attribute)
            self.types = frozenset(map(pushed_type, kinds))
            self.fields = {kind_of(kind): pushed_fields(kind) for kind in kinds}
        except NameError as exc:
            raise DefinitionError(f"{attribute} {declared!r}: {exc}; define the name before the endpoint") from exc
        self.classes = tuple(kind for kind in map(kind_of, kinds) if not is_typed_dict(kind))
        by_type: dict[str, list[Any]] = {}
        by_class: dict[type, list[Any]] = {}
        for kind in kinds:
            if is_model_class(kind_of(kind)):
                by_type.setdefault(pushed_type(kind), []).append(kind)
                by_class.setdefault(kind_of(kind), []).append(kind)
        self._dicts = {name: _declared_encoder(name, alike, ref_key, attribute) for name, alike in by_type.items()}
        self._instances = {
            cls: _declared_encoder(pushed_type(cls), alike, ref_key, attribute) for cls, alike in by_class.items()
        }
        self._typed = {name for name, alike in by_type.items() if any(map(_takes_type, alike))}
        self._ref_key = ref_key

    def encode(self, message: Any) -> bytes:
        """A message that is listed. Raises `ResponseError` for what is not as it is declared."""
        encoder = self._instances.get(type(message)) or self._of_base(message)
        if encoder is not None:
            return encoder.encode(message)
        name = own_type(message) if isinstance(message, Mapping) else None
        if name not in self._dicts:
            return encode_push(message, self._ref_key)
        given = {**message, "type": name} if name in self._typed else {k: v for k, v in message.items() if k != "type"}
        return self._dicts[name].encode(given)

    def _of_base(self, message: Any) -> Encoder | None:
        return next((self._instances[cls] for cls in type(message).__mro__ if cls in self._instances), None)


def _check_class(kind: Any, attribute: str) -> None:
    if not isinstance(kind_of(kind), type) or issubclass(kind_of(kind), _NO_MESSAGES):
        raise DefinitionError(
            f"{attribute} {kind!r}: that is no class of messages; list models, dataclasses, TypedDicts or Structs"
        )


def _declared_encoder(name: str, kinds: list[Any], ref_key: str, attribute: str) -> Encoder:
    try:
        return encoder_for(name, Union[tuple(kinds)], ResponseOptions(), ref_key)
    except DefinitionError as exc:
        if isinstance(exc.__cause__, PydanticUserError):  # `typing.TypedDict` in Python 3.11, a field of any class
            return StructEncoder(name, Union[tuple(kinds)], ref_key)
        names = ", ".join(kind_of(kind).__name__ for kind in kinds)
        raise DefinitionError(f"{attribute} {names}: {exc}") from exc


def _takes_type(kind: Any) -> bool:
    """Is `type` among what an instance is made of, or else only the name that it is pushed under?"""
    kind = kind_of(kind)
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_config__.tag_field == "type" or "type" in kind.__struct_encode_fields__
    if issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return kind.model_config.get("extra") == "allow" or any(
            "type" in (name, field.alias, field.validation_alias) for name, field in fields
        )
    return "type" in field_types(kind)


def pushed_type(kind: Any) -> str:
    """The `type` that a pushed instance of a class has: its tag, its field's default or Literal, else its name."""
    return next(iter(own_types(kind)), None) or _snake_case(kind_of(kind).__name__)


def own_types(kind: Any) -> list[str]:
    """What the `type` of an instance of a class may be, the likeliest first; none where the class does not say."""
    kind = kind_of(kind)
    if issubclass(kind, Mapping) and not is_typed_dict(kind):
        return []
    name = _type_field(kind)
    declared = members(typing.get_type_hints(kind).get(name))
    literals = [value for each in declared if kind_of(each) is typing.Literal for value in typing.get_args(each)]
    found = [getattr(each, "value", each) for each in (_tag(kind), _default(kind, name), *literals)]
    return list(dict.fromkeys(each for each in found if isinstance(each, str)))


def _type_field(kind: Any) -> str:
    """The field that is written as `type`, by its name in Python."""
    if issubclass(kind, BaseModel):
        return type_attribute(kind) or ""
    if issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return next((field.name for field in fields if field.encode_name == "type"), "")
    return "type"


def _tag(kind: Any) -> Any:
    config = getattr(kind, "__struct_config__", None)
    return config.tag if config is not None and config.tag_field == "type" else None


def _default(kind: Any, name: str) -> Any:
    if issubclass(kind, msgspec.Struct):
        return next((field.default for field in msgspec.structs.fields(kind) if field.name == name), None)
    fields = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None) or {}
    return getattr(fields.get(name), "default", None)


def pushed_fields(kind: Any) -> frozenset[str]:
    """The fields of a pushed instance of a class, by their names on the wire."""
    kind = kind_of(kind)
    if issubclass(kind, msgspec.Struct):
        return frozenset(kind.__struct_encode_fields__)
    models = getattr(kind, "model_fields", None)
    if models is not None:
        return frozenset(field.serialization_alias or field.alias or name for name, field in models.items())
    return frozenset(getattr(kind, "__dataclass_fields__", None) or typing.get_type_hints(kind))


_push_encoders: dict[tuple[str, str], Encoder] = {}


def _push_encoder(name: str, ref_key: str) -> Encoder:
    encoder = _push_encoders.get((name, ref_key))
    if encoder is None:
        encoder = _push_encoders[name, ref_key] = Encoder(name, ref_key)
    return encoder


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
