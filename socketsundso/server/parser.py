"""
Bytes -> frames: picows' compiled parser behind a transport of our own.

The one module that touches what picows does not document: `WSProtocol`, its positional constructor, and
feeding it by hand (hence the pin `picows>=2.3,<2.4`; `tests/server/test_parser.py` holds what is relied
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

from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in its stubs: see the module docstring

from socketsundso.server.frames import NO_CODE

READ_BUFFER_BYTES = 2048  # picows' minimum
INITIAL_BUFFER_BYTES = READ_BUFFER_BYTES - 256  # what one read can fill of it, before it has grown
METERED_READ_BYTES = 1 << 15

logger = logging.getLogger("socketsundso.server")

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


_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, bytearray] = weakref.WeakKeyDictionary()


def shared_buffer(loop: asyncio.AbstractEventLoop) -> bytearray:
    """What all connections of `loop` read the first bytes after a silence into: they are taken out at once."""
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = bytearray(READ_BUFFER_BYTES)
    return buffer


class Silent(asyncio.BufferedProtocol):
    """
    In a parser's place while the peer says nothing: passes on what one small read brings.

    A read into a `Protocol` may bring 256 KiB, more than an application that is behind is to be given.
    """

    __slots__ = ("_buffer", "_protocol")

    def __init__(self, protocol: asyncio.Protocol, buffer: bytearray) -> None:
        self._protocol, self._buffer = protocol, buffer

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(memoryview(self._buffer)[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


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
