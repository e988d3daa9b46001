"""
Bytes -> frames: picows' compiled parser behind a transport of our own.

The one module that touches what picows does not document: `WSProtocol`, its positional constructor, feeding it
by hand, and frames without it (hence the pin `picows>=2.3,<2.4`; `tests/server/test_parser.py` holds what is relied
on). picows is never shown the client's request, which it would judge more strictly than RFC 6455 and answer
by itself: it gets a constant one, and its answer goes nowhere. It checks opcodes, masks, minimal lengths,
control frames and the size of a frame; everything else is ours.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import weakref
from collections.abc import Callable
from typing import Any, Protocol, cast

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol, _make_test_ws_frame  # type: ignore[attr-defined]  # see the module docstring

from socketsundso.server.frames import FIN_BINARY, FIN_PING, FIN_PONG, FIN_TEXT, NO_CODE, RSV1

READ_BUFFER_BYTES = 2048  # picows' minimum
INITIAL_BUFFER_BYTES = READ_BUFFER_BYTES - 256  # what one read can fill of it, before it has grown
METERED_READ_BYTES = 1 << 15

logger = logging.getLogger("socketsundso.server")

_DATA_KINDS = (WSMsgType.TEXT, WSMsgType.BINARY)
_LONE_KINDS = {
    FIN_TEXT: WSMsgType.TEXT,
    FIN_TEXT | RSV1: WSMsgType.TEXT,
    FIN_BINARY: WSMsgType.BINARY,
    FIN_BINARY | RSV1: WSMsgType.BINARY,
    FIN_PING: WSMsgType.PING,
    FIN_PONG: WSMsgType.PONG,
}  # by the first byte: a frame that is final and not the last one

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

OnError = Callable[[int, str], None]


class FrameParser(Protocol):
    """What an event loop and this package need of a parser: an `asyncio.BufferedProtocol`."""

    def get_buffer(self, sizehint: int, /) -> memoryview: ...
    def buffer_updated(self, nbytes: int, /) -> None: ...


def new_parser(listener: WSListener, on_error: OnError, max_frame_bytes: int) -> FrameParser:
    """
    A parser that calls `listener.on_ws_frame` for each frame.

    `on_error(close_code, reason)` is called for what picows itself refuses, before the frame in front of it is
    delivered: picows looks one frame ahead. A frame that is too large is delivered too, if all of it is there.
    """
    response = WSUpgradeResponse.create_101_response()
    transport = _ParserTransport(on_error)
    parser = WSProtocol(
        None,  # host and path: for clients
        None,
        False,  # this is the server's side
        lambda request: WSUpgradeResponseWithListener(response, listener),
        _SILENT_LOGGER,
        True,  # disconnect on exceptions of the listener
        None,  # handshake timeout
        False,  # automatic pings: a task per connection, and the wrong close code
        10,
        10,
        1,
        False,  # automatic pongs: ours keep their place among the other frames
        max_frame_bytes,
        None,  # additional headers: for clients
        READ_BUFFER_BYTES,
    )
    parser.connection_made(transport)
    feed(parser, _REQUEST)
    transport.live = True
    # the two mappings of headers are a quarter of what a parser weighs
    request = cast(WSUpgradeRequest, parser.transport.request)
    request.headers = response.headers = cast(Any, None)
    return cast(FrameParser, parser)


def feed(parser: FrameParser, data: bytes) -> None:
    """Give `data` to `parser` as if they had been read from the socket."""
    view = memoryview(data)
    while view:
        buffer = parser.get_buffer(-1)
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        parser.buffer_updated(size)
        view = view[size:]


def lone_frame(data: bytes, max_bytes: int) -> WSFrame | None:
    """
    The frame in `data`, if that is one whole frame of a client and nothing else: for such a one no parser is needed.

    None for whatever a parser is to judge: fragments, close frames, frames above `max_bytes`, and what breaks RFC 6455.
    """
    kind = _LONE_KINDS.get(data[0]) if len(data) >= 6 else None
    if kind is None:
        return None
    size, start = data[1] - 0x80, 6  # without the bit of the mask it is negative, and no length fits
    if size == 126 and kind in _DATA_KINDS:
        size, start = int.from_bytes(data[2:4]), 8
    if len(data) != start + size or size > max_bytes or (size > 125) != (start == 8):
        return None
    # made by picows for its own tests: a frame that keeps its payload, where a parser's points into the read buffer
    payload = _unmasked(data[start:], data[start - 4 : start])
    return _make_test_ws_frame(kind, payload, True, bool(data[0] & RSV1))


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)


Read = Callable[[int], bytearray]
_reads: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Read] = weakref.WeakKeyDictionary()


def shared_read(loop: asyncio.AbstractEventLoop) -> Read:
    """
    The `get_buffer` of all connections of `loop` that have no parser in place: what they read is taken out at once.

    A read into a `Protocol` may bring 256 KiB, more than an application that is behind is to be given.
    """
    if loop not in _reads:
        buffer = bytearray(METERED_READ_BYTES)
        _reads[loop] = lambda _size_hint: buffer
    return _reads[loop]


class Metered(asyncio.BufferedProtocol):
    """
    A parser that takes at most 32 KiB from one read.

    picows doubles its buffer whenever a read fills it, and delivers everything in it at once. Connections
    that have shown to send faster than the application takes get their bytes through this; the others do
    without.
    """

    def __init__(self, parser: FrameParser) -> None:
        super().__init__()
        self._parser = parser
        wrapped = cast(asyncio.BufferedProtocol, parser)
        # looked up once by the event loop, so that each read goes straight into compiled code
        self.buffer_updated = wrapped.buffer_updated  # type: ignore[method-assign]
        self.eof_received = wrapped.eof_received  # type: ignore[method-assign]
        self.connection_lost = wrapped.connection_lost  # type: ignore[method-assign]
        self.pause_writing = wrapped.pause_writing  # type: ignore[method-assign]
        self.resume_writing = wrapped.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._parser.get_buffer(sizehint)[:METERED_READ_BYTES]


class _ParserTransport:
    """
    What a parser holds for its transport. It writes nothing: a close frame of the parser's own is an error.
    """

    __slots__ = ("_on_error", "live")

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        self.live = False  # false while the parser answers the constant request

    def get_extra_info(self, name: str, default: object = None) -> object:
        return _SOCKET if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return 1  # with an empty buffer picows would call send(2) on the socket itself

    def write(self, data: bytes) -> None:
        if not self.live:
            return
        payload = bytes(data)[2 if data[1] < 126 else 4 :]
        code = struct.unpack_from("!H", payload)[0] if payload else NO_CODE
        reason = payload[2:].decode(errors="replace")
        self._on_error(code, reason)

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        """picows closes 10 ms after an error; when the connection ends is decided elsewhere."""

    abort = close


class _Socket:
    """picows sets options on its socket: uvicorn's and the event loop's own have been set already."""

    def setsockopt(self, *_: object) -> None: ...

    def getsockopt(self, *_: object) -> int:
        return 0

    def fileno(self) -> int:
        return -1


class _SilentLogger:
    """
    Not a `logging.Logger`: for those picows makes a child for every connection, and logs what peers do
    wrong.
    """

    name = "picows"

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802, RUF100 - the name logging gave it
        return False

    def log(self, *_: object, **__: object) -> None: ...

    debug = info = warning = error = log

    def exception(self, message: str, *_: object) -> None:
        """Not the peer's fault but a defect of ours: its traceback must not get lost."""
        logger.exception(message)


_SOCKET = _Socket()
_SILENT_LOGGER = _SilentLogger()
