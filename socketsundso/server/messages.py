"""
Data frames -> messages (RFC 6455, section 5.4): fragments, UTF-8, sizes, reserved bits, compression.

What the parser does not check is checked here. A violation raises `Violation` with the close code to answer
with. Fragments are kept as bytes in one buffer, so that a million one-byte fragments weigh one megabyte.
"""

from __future__ import annotations

import codecs

from socketsundso.server.deflate import Agreed, DeflateError, Inflating, TooBig
from socketsundso.server.inbox import Item

CONTINUATION, TEXT, BINARY = 0, 1, 2

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Violation(Exception):
    """The peer broke the protocol; the connection is to be failed with `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


def too_big(max_bytes: int) -> Violation:
    return Violation(1009, f"message exceeds {max_bytes} bytes")


def invalid_deflate() -> Violation:
    return Violation(1002, "invalid deflate data")


class Messages:
    """The message under way on one connection, if it is fragmented, and the rules for the next frame."""

    __slots__ = ("_buffer", "_deflate", "_inflating", "_max_bytes", "_opcode", "_utf8")

    def __init__(self, max_bytes: int, deflate: Agreed | None) -> None:
        self._max_bytes = max_bytes
        self._deflate = deflate
        self._opcode = CONTINUATION  # TEXT or BINARY while a fragmented message is under way
        self._inflating: Inflating | None = None  # while a compressed message is under way
        self._buffer = bytearray()
        self._utf8 = _Utf8Decoder()

    @property
    def under_way(self) -> bool:
        """Whether the next data frame must be a continuation."""
        return self._opcode != CONTINUATION

    def add(self, opcode: int, payload: bytes, *, fin: bool, rsv1: bool) -> tuple[Item, int] | None:
        """The message that the data frame completes, as the inbox takes it, and its size in bytes; None if none."""
        if opcode == CONTINUATION:
            self._continue(rsv1)
        else:
            self._begin(opcode, rsv1)
        self._append(payload, opcode, fin=fin, rsv1=rsv1)
        return self._finish() if fin else None

    def _begin(self, opcode: int, rsv1: bool) -> None:
        if self._opcode != CONTINUATION:
            raise Violation(1002, "expected a continuation frame")
        # RFC 6455 5.2: a nonzero reserved bit MUST fail the connection unless an extension defines it
        if rsv1 and self._deflate is None:
            raise Violation(1002, "reserved bit without an extension")
        self._opcode = opcode
        self._inflating = self._deflate.inflating() if rsv1 and self._deflate is not None else None

    def _continue(self, rsv1: bool) -> None:
        if self._opcode == CONTINUATION:
            raise Violation(1002, "nothing to continue")
        # RFC 7692 6.1: only the first fragment of a compressed message has the bit
        if rsv1:
            raise Violation(1002, "reserved bit in a continuation frame")

    def _append(self, payload: bytes, opcode: int, *, fin: bool, rsv1: bool) -> None:
        left = self._max_bytes - len(self._buffer)
        if self._inflating is not None:
            try:
                payload = self._inflating.decompress(opcode, payload, fin=fin, rsv1=rsv1, max_bytes=left)
            except TooBig:
                raise too_big(self._max_bytes) from None
            except DeflateError:
                raise invalid_deflate() from None
        if len(payload) > left:
            raise too_big(self._max_bytes)
        if self._opcode == TEXT:
            # RFC 6455 8.1: fail as soon as invalid UTF-8 is seen, not only at the end of the message
            try:
                self._utf8.decode(payload, fin)
            except UnicodeDecodeError:
                raise Violation(1007, "invalid UTF-8") from None
        self._buffer += payload

    def _finish(self) -> tuple[Item, int]:
        opcode, self._opcode = self._opcode, CONTINUATION
        buffer, self._buffer = self._buffer, bytearray()
        self._inflating = None
        if opcode == TEXT:
            return buffer.decode(), len(buffer)
        return {"type": "websocket.receive", "bytes": bytes(buffer)}, len(buffer)
