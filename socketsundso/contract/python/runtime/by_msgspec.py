"""
How a generated Python client reads and writes messages, with msgspec. A part of the file that `python` writes.

Knows JSON and types; neither connections nor what a message means. `by_pydantic` has the same names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast, get_args

import msgspec
from msgspec import UNSET, UnsetType

__all__ = ["UNSET", "UnsetType"]

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What reading raises: the bytes are no JSON, or not what the contract says."""


class _Head(msgspec.Struct):
    """What a message may have beside its own fields. Everything but the type may be of any kind, until it is used."""

    type: str
    ref: Any = None
    room: Any = None
    seq: Any = None


def _head_reader(type_key: str, ref_key: str) -> Callable[[bytes], _Head]:
    keys = {"type": type_key, "ref": ref_key}
    kind = type("_Head", (_Head,), {}, rename=keys)
    return cast(Callable[[bytes], _Head], msgspec.json.Decoder(kind).decode)


def _encode(message: Mapping[str, Any]) -> bytes:
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
            self[kind] = self._mapping(kind) if issubclass(kind, dict) else _decoder(kind)
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
