"""
How a generated Python client reads and writes messages, with pydantic. A part of the file that `python` writes.

Knows JSON and types; neither connections nor what a message means. `by_msgspec` has the same names.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args
from typing import Union as _Union

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, TypeAdapter, model_serializer
from pydantic_core import from_json, to_json

__all__ = ["UNSET", "UnsetType"]

_UNREADABLE = (ValueError, RecursionError)
"""What reading raises: the bytes are no JSON, or not what the contract says."""


class _Unset(enum.Enum):
    UNSET = "not sent"


UNSET: Final = _Unset.UNSET
UnsetType: TypeAlias = Literal[_Unset.UNSET]


class _Model(BaseModel):
    """What was not given is not sent."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        populate_by_name=True, protected_namespaces=(), ser_json_bytes="base64", val_json_bytes="base64"
    )

    @model_serializer(mode="wrap")
    def _sent(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given = self.model_fields_set
        left_out = {field.alias or name for name, field in type(self).model_fields.items() if name not in given}
        return {key: value for key, value in write(self).items() if key not in left_out}


@dataclass
class _Head:
    """What a message may have beside its own fields. Everything but the type may be of any kind, until it is used."""

    type: str
    ref: Any
    room: Any
    seq: Any
    data: Any = UNSET  # the part that has the fields, where that is not all of it


def _head_reader(type_key: str, ref_key: str, data_key: str, parts: tuple[str, ...]) -> Callable[[bytes], _Head]:
    keys = ("type", "ref", "data") if parts else (type_key, ref_key, data_key)

    def read(frame: bytes) -> _Head:
        whole = from_json(frame)
        if parts and isinstance(whole, list):
            whole = dict(zip(parts, whole, strict=False))
            whole.update(_numbers(whole.get("data")))
        match whole:
            case {**fields} if isinstance(kind := fields.get(keys[0]), str):
                data = to_json(fields[keys[2]]) if keys[2] and keys[2] in fields else UNSET
                return _Head(kind, fields.get(keys[1]), fields.get("room"), fields.get("seq"), data)
        raise ValueError(f"no message with a {keys[0]!r} that is a text")

    return read


def _numbers(data: Any) -> dict[str, Any]:
    """Those of a room with history, which an array has among its data."""
    return {key: data[key] for key in ("room", "seq") if key in data} if isinstance(data, dict) else {}


def _encode(message: Any) -> bytes:
    return to_json(message, by_alias=True, bytes_mode="base64")


class _Readers(dict[Any, Callable[[bytes], Any]]):
    """
    What reads a message, by its class, or a tuple of those that it may be.

    A mapping, `class Prices(dict[str, Price])`, has no keys of the envelope.
    """

    def __init__(self, envelope: Collection[str]) -> None:
        super().__init__()
        self._envelope = envelope

    def __missing__(self, kind: Any) -> Callable[[bytes], Any]:
        if isinstance(kind, tuple):
            self[kind] = TypeAdapter(_Union[kind]).validate_json
        else:
            is_mapping = isinstance(kind, type) and issubclass(kind, dict)
            self[kind] = self._mapping(kind) if is_mapping else TypeAdapter(kind).validate_json
        return self[kind]

    def _mapping(self, kind: Any) -> Callable[[bytes], Any]:
        (base,) = kind.__orig_bases__
        adapter: TypeAdapter[Any] = TypeAdapter(get_args(base)[1])
        envelope = self._envelope

        def read_mapping(data: bytes) -> Any:
            fields = from_json(data)
            return kind(
                {key: adapter.validate_json(to_json(value)) for key, value in fields.items() if key not in envelope}
            )

        return read_mapping


def _convert(value: Any, kind: Any) -> Any:
    return TypeAdapter(kind).validate_json(to_json(value))
