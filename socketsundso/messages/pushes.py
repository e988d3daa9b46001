"""
Messages that answer nothing -> JSON bytes: `encode_push`; and what a class's instances will look like as such.

    Posted(room="lobby")   ->   {"type":"posted","room":"lobby"}

Refuses a dict that does not say what it is, or is not what it says (`EmittedDicts`), and what `values` refuses.
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
from socketsundso.messages.declared import field_types, is_model_class
from socketsundso.messages.replies import ResponseOptions, StructEncoder, encoder_for
from socketsundso.messages.values import Encoder, own_type


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


class EmittedDicts:
    """
    Dicts that are pushed by an endpoint which declares what it pushes: each is what its `type` names, or refused.
    `types` are those that name a class with fields.

    Raises `DefinitionError` for a class whose instances are no messages.
    """

    def __init__(self, kinds: Iterable[Any], ref_key: str = "ref") -> None:
        by_type: dict[str, list[Any]] = {}
        for kind in filter(is_model_class, kinds):
            by_type.setdefault(pushed_type(kind), []).append(kind)
        self._encoders = {name: _declared_encoder(name, alike, ref_key) for name, alike in by_type.items()}
        self.types = frozenset(by_type)
        self._typed = {name for name, alike in by_type.items() if any(map(_takes_type, alike))}

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """As an instance of the class would be. Raises `ResponseError` for what is none."""
        name = message["type"]
        name = getattr(name, "value", name)
        given = {**message, "type": name} if name in self._typed else {k: v for k, v in message.items() if k != "type"}
        return self._encoders[name].encode(given)


def _declared_encoder(name: str, kinds: list[Any], ref_key: str) -> Encoder:
    try:
        return encoder_for(name, Union[tuple(kinds)], ResponseOptions(), ref_key)
    except DefinitionError as exc:
        if isinstance(exc.__cause__, PydanticUserError):  # `typing.TypedDict` in Python 3.11, a field of any class
            return StructEncoder(name, Union[tuple(kinds)], ref_key)
        raise DefinitionError(f"emits {', '.join(kind.__name__ for kind in kinds)}: {exc}") from exc


def _takes_type(kind: Any) -> bool:
    """Is `type` among what an instance is made of, or else only the name that it is pushed under?"""
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
    tag = kind.__struct_config__.tag if issubclass(kind, msgspec.Struct) else None
    fields = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None) or {}
    default = getattr(fields.get("type"), "default", None)
    literals = typing.get_args(typing.get_type_hints(kind).get("type"))
    for candidate in (tag, default, *literals):
        if isinstance(candidate, str):
            return candidate
    return _snake_case(kind.__name__)


def pushed_fields(kind: Any) -> frozenset[str]:
    """The fields of a pushed instance of a class, by their names on the wire."""
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
