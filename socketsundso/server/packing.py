"""
Messages -> compressed payloads, each by itself, and ready frames -> their compressed twins.

Nothing in here belongs to a connection: one compressor for each window size and effort serves all connections of an
event loop. How much effort depends on the size, and on whether one connection pays for it or many share it. Where the
package `isal` is installed it compresses what is large: to about the same size, in a third of zlib's time or less.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, NamedTuple, Protocol

from socketsundso.server.frames import RSV1, frame, payload_of

TAIL = b"\x00\x00\xff\xff"
LARGE_BYTES = 4096
MEMORY_LEVEL = 5  # as uvicorn's; more makes each message dearer, and hardly smaller


class Effort(NamedTuple):
    """The levels of zlib below LARGE_BYTES and from there on, and isal's, which takes what is large if it is there."""

    small: int
    large: int
    isal: int


REPLY = Effort(1, 1, 1)
READY = Effort(6, 3, 2)  # for 16 KB zlib's 6 takes two to three times as long as 3, for a tenth less at most


class Compressor(Protocol):
    """zlib's or isal's."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: int, /) -> bytes: ...


def _isal() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    return isal_zlib


ISAL = _isal()  # None where it is not installed


class Packer:
    """
    The compressors of one window size.

    Messages that were compressed one after another know nothing of each other: both libraries forget with each full
    flush.
    """

    __slots__ = ("_bits", "_free", "made_bytes", "taken_bytes", "twins")

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self.taken_bytes = self.made_bytes = 0  # before and after
        self._free: dict[tuple[Effort, bool], Compressor] = {}  # and whether for what is large
        self.twins = Twins(self)

    def pack(self, payload: bytes, effort: Effort) -> bytes:
        kind = effort, len(payload) >= LARGE_BYTES
        # Taken out meanwhile: what an exception leaves within it, such as a signal's, is no other peer's to see.
        compressor = self._free.pop(kind, None) or self._made(*kind)
        packed = compressor.compress(payload) + compressor.flush(zlib.Z_FULL_FLUSH)[: -len(TAIL)]
        self._free[kind] = compressor
        self.taken_bytes += len(payload)
        self.made_bytes += len(packed)
        return packed

    def _made(self, effort: Effort, large: bool) -> Compressor:
        if large and ISAL is not None:
            made: Compressor = ISAL.compressobj(effort.isal, zlib.DEFLATED, -self._bits)
            return made
        return zlib.compressobj(effort.large if large else effort.small, zlib.DEFLATED, -self._bits, MEMORY_LEVEL)


class Twins(dict[bytes, bytes]):
    """
    Ready frames and their compressed twins: the same object for everybody who asks within a turn of the event loop.

    A dict, so that asking for one that is there is a single call in C, once for each member of a room; the hash of a
    frame is kept within it. benchmarks/test_broadcast.py
    """

    __slots__ = ("_packer",)

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    def __missing__(self, ready: bytes) -> bytes:
        if not self:
            asyncio.get_running_loop().call_soon(self.clear)
        twin = self[ready] = self._made(ready)
        return twin

    def _made(self, ready: bytes) -> bytes:
        payload = payload_of(ready)
        if payload is None:
            return ready
        return smaller_frame(ready[0], payload, self._packer.pack(payload, READY), ready)


def smaller_frame(first_byte: int, payload: bytes, packed: bytes, ready: bytes | None = None) -> bytes:
    """The frame with `packed` if that is smaller than `payload`, which is `ready` as a frame."""
    if 0 < len(packed) < len(payload):
        return frame(first_byte | RSV1, packed)
    return frame(first_byte, payload) if ready is None else ready
