"""
How a generated Python client reads and writes messages, with msgspec. A part of the file that `python` writes.

Knows JSON and types; neither connections nor what a message means. `by_pydantic` has the same names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any, cast, get_args

import msgspec
from msgspec import UNSET, UnsetType

__all__ = ["UNSET", "UnsetType"]

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What reading raises: the bytes are no JSON, or not what the contract says."""


class _Numbers(msgspec.Struct):
    """What a message of a room with history has beside its own fields."""

    room: Any = None
    seq: Any = None


class _Head(_Numbers):
    """What else a message may have beside them. Everything but the type may be of any kind, until it is used."""

    type: str = ""
    ref: Any = None
    data: Any = UNSET  # the part that has the fields, where that is not all of it


def _head_reader(type_key: str, ref_key: str, data_key: str, parts: tuple[str, ...]) -> Callable[[bytes], _Head]:
    places: dict[str, tuple[str, Any, Any]] = {
        "type": ("type", str, msgspec.field(name=type_key)),
        "ref": ("ref", Any, msgspec.field(default=None, name=ref_key)),
        "data": ("data", msgspec.Raw | UnsetType, msgspec.field(default=UNSET, name=data_key or None)),
    }
    if parts:
        return _array_reader([places[part] for part in parts])
    shown = [place for name, place in places.items() if name != "data" or data_key]
    kind = msgspec.defstruct("_Head", shown, bases=(_Head,), kw_only=True)
    return cast(Callable[[bytes], _Head], msgspec.json.Decoder(kind).decode)


def _array_reader(places: list[tuple[str, Any, Any]]) -> Callable[[bytes], _Head]:
    """Of an array, whose data have the numbers of rooms among them."""
    decode = msgspec.json.Decoder(msgspec.defstruct("_Parts", places, array_like=True)).decode
    numbers = msgspec.json.Decoder(_Numbers).decode

    def read(frame: bytes) -> _Head:
        parts: Any = decode(frame)
        data = parts.data
        found = numbers(data) if data is not UNSET and bytes(data).startswith(b"{") else _Numbers()
        return _Head(found.room, found.seq, parts.type, getattr(parts, "ref", None), data)

    return read


def _encode(message: Any) -> bytes:
    return msgspec.json.encode(message)


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
            self[kind] = _decoder(_one_of(lambda: kind))
        else:
            is_mapping = isinstance(kind, type) and issubclass(kind, dict)
            self[kind] = self._mapping(kind) if is_mapping else _decoder(kind)
        return self[kind]

    def _mapping(self, kind: Any) -> Callable[[bytes], Any]:
        (base,) = kind.__orig_bases__
        split, read = _decoder(dict[str, msgspec.Raw]), _decoder(get_args(base)[1])
        envelope = self._envelope

        def read_mapping(data: bytes) -> Any:
            return kind({key: read(raw) for key, raw in split(data).items() if key not in envelope})

        return read_mapping


def _decoder(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind, dec_hook=_chosen).decode


def _convert(value: Any, kind: Any) -> Any:
    return msgspec.convert(value, kind, str_keys=True, dec_hook=_chosen)


class _Choice(type):
    """The type of a union that msgspec has no words for. Whatever was chosen is an instance of it."""

    members: Callable[[], tuple[Any, ...]]

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def _one_of(members: Callable[[], tuple[Any, ...]]) -> Any:
    """A union whose members no tag tells apart: the first that fits, of objects the one that knows most of the keys."""
    return _Choice("OneOf", (), {"members": staticmethod(members)})


def _chosen(kind: Any, value: Any) -> Any:
    if not isinstance(kind, _Choice):
        raise NotImplementedError(kind)
    fitting = []
    for member in kind.members():
        with contextlib.suppress(*_UNREADABLE):
            fitting.append(_convert(value, member))
    if not fitting:
        raise ValueError("it is none of what it may be")
    return max(fitting, key=lambda found: len({*value}.intersection(_keys(found))) if isinstance(value, dict) else 0)


def _keys(value: Any) -> Collection[str]:
    return value.__struct_encode_fields__ if isinstance(value, msgspec.Struct) else value
