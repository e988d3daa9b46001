"""
An envelope in MessagePack: the same keys, the same parts, in binary frames.

    {"type":"say","ref":7,"msg":"hi"}   ->   83 a4 type a3 say a3 ref 07 a3 msg a2 hi

What reads is that of the JSON envelope, which the codec gives its frames to. What writes takes JSON and packs it; what
is on the hot path is written packed at once, within what stands `around` it.

Knows no route and no connection.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pydantic_core import CoreSchema, core_schema

from socketsundso.errors import DefinitionError
from socketsundso.messages.codecs import Codec
from socketsundso.messages.framing import ArrayFraming, Fields, FlatFraming, Framing, NestedFraming, Outline
from socketsundso.messages.refs import Ref

_encode = msgspec.msgpack.Encoder().encode

FIXMAP, MAP_16, MAP_32 = 0x80, 0xDE, 0xDF
FIXSTR, STR_8, STR_16, STR_32 = 0xA0, 0xD9, 0xDA, 0xDB
NIL = b"\xc0"


_GROWN = {FIXMAP + size: bytes((FIXMAP + size + 1,)) for size in range(15)}
"""First bytes of small maps, and those of maps with one item more."""


def _grown(packed: bytes) -> bytes:
    """A map of at least 15 items that is going to have one more."""
    start = {MAP_16: 3, MAP_32: 5}.get(packed[0], 1)
    size = int.from_bytes(packed[1:start]) if start > 1 else 15
    return map_head(size + 1) + packed[start:]


def map_head(size: int) -> bytes:
    if size < 16:
        return bytes((FIXMAP + size,))
    return bytes((MAP_16,)) + size.to_bytes(2) if size < 1 << 16 else bytes((MAP_32,)) + size.to_bytes(4)


def end_of_text(packed: bytes, begin: int) -> int:
    """Where the text ends that begins there."""
    kind = packed[begin]
    if FIXSTR <= kind < FIXSTR + 32:
        return begin + 1 + kind - FIXSTR
    start = begin + 1 + {STR_8: 1, STR_16: 2, STR_32: 4}[kind]
    return start + int.from_bytes(packed[begin + 1 : start])


class PackedFraming(Framing):
    """What `unpacked` is in JSON. Raises `DefinitionError` for an envelope that is nothing but JSON."""

    def __init__(self, unpacked: Framing, codec: Codec) -> None:
        if type(unpacked) not in (FlatFraming, NestedFraming, ArrayFraming):
            raise DefinitionError(f"messages in this envelope are JSON, as its name says, and not {codec.name}")
        self.codec, self._unpacked = codec, unpacked
        self.type_place, self.ref_place, self.place = unpacked.type_place, unpacked.ref_place, unpacked.place
        self.type_key, self.ref_key = unpacked.type_key, unpacked.ref_key
        self.names_replies, self.takes_any = unpacked.names_replies, unpacked.takes_any
        self.whole = unpacked.whole
        self._is_array = isinstance(unpacked, ArrayFraming)
        self._ref_head = b"" if self._is_array else _encode(self.ref_place)

    @property
    def unpacked(self) -> Framing:
        return self._unpacked

    # ---- reading

    def struct(
        self, event: str, fields: Fields | None, namespace: Mapping[str, Any], *, closed: bool, needed: bool
    ) -> type:
        return self._unpacked.struct(event, fields, namespace, closed=closed, needed=needed)

    def padding(self, tag: str, namespace: Mapping[str, Any]) -> type:
        return self._unpacked.padding(tag, namespace)

    @property
    def peek(self) -> Callable[[str], Any]:
        return self._unpacked.peek

    def outline(self, text: str) -> Outline:
        return self._unpacked.outline(text)

    def data_of(self, text: str) -> bytes:
        return self._unpacked.data_of(text)

    def schema(self, fields: dict[str, core_schema.TypedDictField], *, closed: bool, needed: bool) -> CoreSchema:
        return self._unpacked.schema(fields, closed=closed, needed=needed)

    def found(self, frame: Any) -> dict[str, Any] | None:
        return self._unpacked.found(frame)

    # ---- writing

    def around(self, name: bytes) -> tuple[bytes, bytes]:
        """What stands before and behind packed data."""
        packed = self.codec.pack(b"0".join(self._unpacked.around(name)))
        at = packed.rindex(b"\0")
        return packed[:at], packed[at + 1 :]

    def frame(self, canonical: bytes) -> bytes:
        return self.codec.pack(self._unpacked.frame(canonical))

    def answer(self, name: str, fields: Mapping[str, Any], ref: Ref | None) -> Any:
        return self._unpacked.answer(name, fields, ref)

    def with_ref(self, frame: bytes, ref: Ref) -> bytes:
        if not self._is_array:
            if (head := _GROWN.get(frame[0])) is not None:
                return b"".join((head, frame[1:], self._ref_head, _encode(ref)))
            return _grown(frame) + self._ref_head + _encode(ref)
        if self.ref_place is None:
            return frame
        at = end_of_text(frame, 1) if self.ref_place == 1 else len(frame) - len(NIL)
        return frame[:at] + _encode(ref) + frame[at + len(NIL) :]


@functools.cache
def packed(framing: Framing, codec: Codec) -> Framing:
    """The same envelope in this codec; of equal ones one, so that a broadcast is packed once for all."""
    return PackedFraming(framing, codec) if codec.is_binary else framing
