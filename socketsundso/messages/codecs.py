"""
In which bytes frames say what they say: JSON, or MessagePack, which is read as the JSON that says the same.

    JSON      {"type":"say","n":1}            a text frame, or a binary one in UTF-8
    MSGPACK   82 a4 type a3 say a1 n 01       a binary frame; a text frame is JSON there, too

A codec decodes frames to Structs in one call. Whatever that refuses, and what pydantic has to look at, is JSON from
there on, so that one judge has the last word on both: `text_of` of a whole frame, `json_of` of one of its values. So a
codec may decode natively only what comes out as it would by way of JSON; `native` says how.

Knows no message and no envelope.
"""

from __future__ import annotations

import datetime
import enum
import functools
import math
import sys
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union

import msgspec
import orjson
from msgspec import Meta, Raw, UnsetType, inspect

from socketsundso.errors import DefinitionError, InvalidUTF8, MalformedMsgpack
from socketsundso.messages.aliases import UNIONS
from socketsundso.messages.refs import UNREADABLE
from socketsundso.messages.structs import infos_within, is_struct

Frame = str | bytes


class Misshapen(Exception):
    """What is no message, though it can be read; in the words of pydantic's errors."""

    def __init__(self, kind: str, msg: str, place: tuple[str | int, ...] = ()) -> None:
        super().__init__(msg)
        self.kind, self.msg, self.place = kind, msg, place


class Codec(ABC):
    """What endpoints, by a subprotocol, may have their messages written in."""

    name: str
    is_binary = False
    """Are its frames binary ones?"""

    @abstractmethod
    def decoder(self, kind: Any, dec_hook: Callable[[Any, Any], Any]) -> Callable[[Frame], Any]:
        """`decode(frame)`. Raises whatever it likes for a frame that it does not take."""

    @abstractmethod
    def native(self, kind: Any) -> Any | None:
        """How `decoder` takes a value of a type that JSON's takes; None: its JSON has to be looked at."""

    @abstractmethod
    def text_of(self, frame: Frame) -> str:
        """A frame as JSON. Raises `MalformedFrame`, `InvalidUTF8`, and `Misshapen` for what JSON cannot say."""

    @abstractmethod
    def json_of(self, raw: Raw) -> bytes:
        """The same for one value of a frame that was read."""

    @abstractmethod
    def pack(self, body: bytes) -> bytes:
        """JSON, written in this codec."""


class Json(Codec):
    """The codec of who asks for no other one."""

    name = "json"

    def decoder(self, kind: Any, dec_hook: Callable[[Any, Any], Any]) -> Callable[[Frame], Any]:
        return msgspec.json.Decoder(kind, dec_hook=dec_hook).decode

    def native(self, kind: Any) -> Any:
        return kind

    def text_of(self, frame: Frame) -> str:
        return frame if isinstance(frame, str) else text_of(frame)

    json_of = staticmethod(bytes)  # type: ignore[assignment]  # of a Raw, which is a buffer

    def pack(self, body: bytes) -> bytes:
        return body


def text_of(frame: Frame) -> str:
    """A text, or UTF-8. Raises `InvalidUTF8`."""
    if isinstance(frame, str):
        return frame
    try:
        return bytes(frame).decode()
    except UnicodeDecodeError as exc:
        raise InvalidUTF8(str(exc)) from None


_FINITE = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
"""JSON has no NaN and no infinities, so they are null there."""

_EXACT = frozenset({bool, int, str, type(None), UnsetType, datetime.date})
_COLLECTIONS = (list, set, frozenset, tuple)

_EXACT_INFOS = (
    inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.StrType, inspect.NoneType, inspect.LiteralType,
    inspect.EnumType, inspect.BytesType, inspect.ByteArrayType, inspect.DateType, inspect.TimeType,
    inspect.DateTimeType, inspect.TimeDeltaType, inspect.ListType, inspect.SetType, inspect.FrozenSetType,
    inspect.TupleType, inspect.VarTupleType, inspect.UnionType, inspect.StructType,
)  # fmt: skip
"""What may stand in a Struct. A NaN does there; a UUID may not, which msgspec would take from bytes."""


class Msgpack(Codec):
    """MessagePack, as `msgspec` reads and writes it, with no more in it than JSON has."""

    name = "msgpack"
    is_binary = True

    def decoder(self, kind: Any, dec_hook: Callable[[Any, Any], Any]) -> Callable[[Frame], Any]:
        return msgspec.msgpack.Decoder(kind, dec_hook=dec_hook).decode  # type: ignore[return-value]  # a text is refused

    def native(self, kind: Any) -> Any | None:
        if is_struct(kind):
            return kind if all(map(_is_exact, infos_within(kind))) else None
        if kind is float:
            return _FINITE
        if kind in _EXACT or (isinstance(kind, type) and issubclass(kind, enum.Enum)):
            return kind
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin is Annotated:
            return self._constrained(args[0], args[1:])
        if origin is Literal:
            return kind
        if origin in UNIONS:
            return self._of_all(Union, args)
        if origin in _COLLECTIONS and args != ((),):
            return self._of_all(origin, args)
        return self._of_all(dict, args) if origin is dict else None

    def _constrained(self, base: Any, metas: tuple[Any, ...]) -> Any | None:
        inner = self.native(base)
        if base is float:
            bounds: dict[str, Any] = {}
            for meta in metas:
                bounds |= {name: getattr(meta, name) for name in ("gt", "ge", "lt", "le")}
            if not all(math.isfinite(bound) for bound in bounds.values() if bound is not None):
                return None
            ends = _end(bounds, ("gt", "ge"), -sys.float_info.max) | _end(bounds, ("lt", "le"), sys.float_info.max)
            inner = Annotated[float, Meta(**ends)] if ends else float  # type: ignore[call-overload]  # one of each side
        return None if inner is None else functools.reduce(lambda kind, meta: Annotated[kind, meta], metas, inner)

    def _of_all(self, origin: Any, args: tuple[Any, ...]) -> Any | None:
        found = tuple(each if each is Ellipsis else self.native(each) for each in args)
        return None if None in found else origin[found]

    def text_of(self, frame: Frame) -> str:
        if isinstance(frame, str):
            return frame
        try:
            value = msgspec.msgpack.decode(frame)
        except (*UNREADABLE, ValueError, OverflowError) as exc:
            raise MalformedMsgpack(str(exc)) from None
        return _json(value).decode()

    def json_of(self, raw: Raw) -> bytes:
        try:
            value = msgspec.msgpack.decode(raw)
        except (*UNREADABLE, ValueError, OverflowError) as exc:
            raise Misshapen("msgpack_invalid", f"Invalid MessagePack: {exc}") from None
        return _json(value)

    def pack(self, body: bytes) -> bytes:
        # orjson takes no subclass of bytes, and reads integers of more than 64 bits as floats
        return _pack(orjson.loads(bytes(body)))


_pack = msgspec.msgpack.Encoder().encode


def _end(bounds: Mapping[str, Any], names: tuple[str, str], least: float) -> dict[str, float]:
    """The bound that leaves out what is not finite, where there is none on this side."""
    return {} if any(bounds[name] is not None for name in names) else {names[1]: least}


def _is_exact(info: Any) -> bool:
    if isinstance(info, inspect.DictType):
        return isinstance(info.key_type, inspect.StrType)
    return isinstance(info, _EXACT_INFOS)


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        raise Misshapen(
            "msgpack_type", "Input should have what JSON has: no extension types but timestamps, and keys that are text"
        ) from None


JSON, MSGPACK = Json(), Msgpack()

_CODECS: Mapping[str, Codec] = {codec.name: codec for codec in (JSON, MSGPACK)}


def declared_codecs(owner: str, given: Any) -> Mapping[str, Codec]:
    """The codecs of a class by their subprotocols. Raises `DefinitionError` for what is none."""
    named = given if isinstance(given, Mapping) else None
    if named is None and isinstance(given, Sequence) and not isinstance(given, str):
        named = {f"socketsundso.{name}": name for name in given}
    if named is None or not all(isinstance(name, str) and name in _CODECS for name in named.values()):
        known = ", ".join(map(repr, _CODECS))
        raise DefinitionError(
            f"{owner}.codecs is {given!r}; it lists codecs, which are {known}, or maps subprotocols to them: "
            "{'chat.msgpack': 'msgpack'}"
        )
    return types.MappingProxyType({subprotocol: _CODECS[name] for subprotocol, name in named.items()})
