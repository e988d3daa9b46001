"""
What is known of the other side of one connection, and sending to it in order.

The one owner of that state: whether the connection is accepted, closed or gone, through what its messages go out. The
endpoint, the receive loop and the rooms get a `Peer` and keep no copy of what it knows. What users do through
`self.websocket` passes by here, too, so that it is known whoever did it.

Knows ASGI and the outbound queue; no message, no handler, no room.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import anyio
from starlette.types import Message, Receive, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from socketsundso.connection.outbound import SLOW_CLOSE_CODE, Connection
from socketsundso.connection.queue import Bounds, OutboundQueue
from socketsundso.errors import DefinitionError
from socketsundso.messages import Framing
from socketsundso.wire import Writer, wire_of, writer_of

logger = logging.getLogger("socketsundso")

CODE_S = 1.0
"""How long to wait for the close code of a peer that is gone."""


CLOSING_S = 10.0
"""How long a connection that is over goes on for a peer that does not read what was sent before its close."""

SHUTDOWN_CODE = 1012
"""The server's own end: nobody is waited for."""

PRIVATE_CODES = {1001: 4503, 1003: 4400, 1007: 4400, 1008: 4403, 1009: 4413, 1011: 4500, 1012: 4503, 1013: 4429}
"""
What stands for a code that the server cannot send (daphne sends 1000 and those from 3000 on): 4000 + what HTTP would
have said.
"""

MAX_REASON_BYTES = 123
"""RFC 6455, 5.5: a control frame has at most 125 bytes, two of which are the code."""


SENDABLE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
"""RFC 6455, 7.4: the others stand in no close frame (1005, 1006, 1015) or are nobody's."""


def sendable_code(code: object) -> int:
    """A code that may stand in a close frame; 1011 for what the application took for one. None is 1000, as in ASGI."""
    if code is None:
        return 1000
    return int(code) if isinstance(code, int) and code in SENDABLE_CODES else 1011


def fitting_reason(reason: str) -> str:
    """Cut at a character boundary: servers raise for a longer one, or close without a frame."""
    return reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def check_subprotocols(owner: str, names: Sequence[str], attribute: str = "subprotocols") -> None:
    """RFC 6455, 4.1: each is a token of HTTP, and all of them are unique. Raises `DefinitionError`."""
    if isinstance(names, str) or not all(isinstance(name, str) and _TOKEN.fullmatch(name) for name in names):
        raise DefinitionError(
            f"{owner}.{attribute} is {names!r}; it is a sequence of names without spaces or commas, "
            "such as ('chat.v2', 'chat.v1')"
        )
    if len(set(names)) != len(names):
        raise DefinitionError(f"{owner}.{attribute} names one twice: {names!r}")


DeflateMin = int | Literal["off"] | None


def check_deflate_min(owner: str, given: object) -> None:
    """Raises `DefinitionError` for what is no `DeflateMin`."""
    if given is None or given == "off" or (type(given) is int and given >= 0):
        return
    raise DefinitionError(
        f"{owner}.deflate_min is {given!r}; it is a number of bytes, 'off', or None for what the server is set to"
    )


_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2


class _Ids:
    """Ids of connections: unique across processes, also after a fork."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self._prefix, self._numbers = secrets.token_hex(8), itertools.count(1)

    def __call__(self) -> str:
        return f"{self._prefix}-{next(self._numbers):x}"


new_id = _Ids()


class Departure(asyncio.Event):
    """
    That the peer has gone: `await endpoint.gone`, or `endpoint.gone.is_set()`. An `asyncio.Event`, set once.
    """

    def __await__(self) -> Generator[Any, None, Literal[True]]:
        return self.wait().__await__()


class BinaryWriter:
    """Writes what is written in `texts` as binary frames."""

    __slots__ = ("texts", "write", "write_binary", "write_soon")

    def __init__(self, texts: Writer) -> None:
        self.texts = texts
        self.write = self.write_soon = self.write_binary = texts.write_binary


class Peer:
    """The other side of one connection. Made before it is accepted; `observe` begins, `release` ends its work."""

    __slots__ = (
        "_connection",
        "_departed",
        "_departure",
        "_id",
        "accepted",
        "closed",
        "closing",
        "gone",
        "is_binary",
        "left",
        "loop",
        "negotiable",
        "offered",
        "on_accept",
        "receive",
        "send",
        "subprotocol",
        "websocket",
        "writer",
    )

    def __init__(self, websocket: WebSocket, subprotocols: Sequence[str] = (), codecs: Iterable[str] = ()) -> None:
        self.websocket = websocket
        # some servers and test clients split a header that is empty, or not there, into one empty name
        self.offered: Sequence[str] = [name for name in websocket.scope.get("subprotocols") or () if name]
        # what is, or will be, accepted: the first of ours that the client offers; those of codecs need not be
        ours = (*(name for name in codecs if name not in subprotocols), *subprotocols)
        self.subprotocol = next((name for name in ours if name in self.offered), None)
        self.negotiable = not (subprotocols and self.offered) or self.subprotocol is not None
        self.receive: Receive = websocket._receive
        self.send: Send = websocket._send  # the server's; that of the outbound queue while there is one
        self.writer: Writer | None = None  # takes texts without a coroutine, where the server has that
        self.is_binary = False  # messages go out in binary frames
        self.on_accept: Callable[[str | None], None] | None = None  # told the subprotocol, while it is accepted
        self.accepted = websocket.application_state is WebSocketState.CONNECTED
        # the code that this side closed with, or that of a peer that left handlers behind which took too long
        self.closed: int | None = None
        self.closing: asyncio.Future[None] | None = None  # the same without waiting: done when it is written
        self.left: int | None = None  # the code that it ended with, once that is known
        self.loop: asyncio.AbstractEventLoop | None = None  # where it is served, from `observe` on
        self.gone = False  # a send failed: the peer is not there any more
        self._connection: Connection | None = None  # once something may have to wait here
        self._id: str | None = None
        self._departed = False  # it is known that the peer has gone, though what it sent before may be handled yet
        self._departure: Departure | None = None  # once somebody has asked for it

    @property
    def id(self) -> str:
        """Names this connection; unique across processes."""
        if self._id is None:
            self._id = new_id()
        return self._id

    @property
    def name(self) -> str:
        """For log lines: `127.0.0.1:54321`."""
        client = self.websocket.client
        return f"{client.host}:{client.port}" if client else "a client"

    @property
    def _known(self) -> dict[str, Any]:
        """For the `extra` of a log line; see `lines`, which knows of messages."""
        return {"connection": self.id}

    @property
    def over(self) -> int | None:
        """The code that the connection has ended with; None while it lasts."""
        if self.closed is not None:
            return self.closed
        return 1006 if self.left is None and self.gone else self.left

    @property
    def is_lost(self) -> bool:
        """Nothing reaches the peer any more."""
        return self.closed is not None or self.gone or self.left is not None

    def require(self) -> None:
        """Raise the quiet disconnect if the connection has ended."""
        if self.closed is not None or self.left is not None or self.gone:  # `is_lost`, unfolded: before each message
            raise WebSocketDisconnect(self.over or 1006)

    @property
    def departure(self) -> Departure:
        """Set as soon as it is known that the peer has gone, or that the connection has ended."""
        if self._departure is None:
            self._departure = Departure()
            if self._departed or self.over is not None:
                self._departure.set()
        return self._departure

    # ---- its life

    def observe(self, deflate_min: DeflateMin = None) -> None:
        """Note what users do through the `WebSocket`: accept, close, and sends that find the peer gone."""
        self.loop = asyncio._get_running_loop()  # None where the server is not asyncio's
        self._write_by(writer_of(self.websocket.scope, self.send))
        if deflate_min is not None and (wire := wire_of(self.websocket.scope)) is not None:
            wire.compress_from(None if deflate_min == "off" else deflate_min)
        self.websocket._send = self._observed_send

    async def _observed_send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.close":
            await self._send_close(message)
        elif kind == "websocket.accept":
            message = self._with_subprotocol(message)
            if self.on_accept is not None:
                self.on_accept(self.subprotocol)
            await self._noting_loss(message)
            self.accepted = True
        else:
            await self._noting_loss(message)

    async def _noting_loss(self, message: Message) -> None:
        try:
            await self.send(message)
        except OSError:
            self._lose()
            raise

    def _with_subprotocol(self, message: Message) -> Message:
        """With the one that was negotiated, unless another one is given; never with one that was not offered."""
        given = message.get("subprotocol")
        if given is not None:
            if given not in self.offered:
                logger.error(
                    "%s: the subprotocol %r was not offered, so it is not accepted", self.name, given, extra=self._known
                )
                given = None
            self.subprotocol = given
        return {**message, "subprotocol": self.subprotocol}

    async def _send_close(self, message: Message) -> None:
        """Whatever the server can send: a reason that fits, and a code that it takes."""
        given = message.get("code", 1000)
        code = self.closed = sendable_code(given)
        if code != given and given is not None:
            logger.error(
                "%s: it cannot be closed with %r: closed %d instead", self.name, given, code, extra=self._known
            )
        message = {**message, "code": code, "reason": fitting_reason(message.get("reason") or "")}
        try:
            await self._noting_loss(message)
        except OSError:
            raise
        except Exception as exc:
            if not self.accepted or code not in PRIVATE_CODES:
                raise
            instead = PRIVATE_CODES[code]
            said = code, exc, instead
            logger.info("the server cannot close with %d (%s): closed %d instead", *said, extra=self._known)
            await self._noting_loss({**message, "code": instead})

    def _lose(self) -> None:
        """A send found nobody there."""
        self.gone = True
        self.tell_departure()

    def tell_departure(self) -> None:
        """Whoever waits for the peer to leave is to know that it has."""
        self._departed = True
        if self._departure is not None:
            self._departure.set()

    def note_departure(self, received: Message) -> int:
        """The peer has left, says this `websocket.disconnect`. The code that the connection ended with."""
        self.tell_departure()
        self.websocket.client_state = WebSocketState.DISCONNECTED
        code = received.get("code")
        self.left = 1005 if code is None else int(code)
        return self.left if self.closed is None else self.closed

    async def code_after(self, exc: WebSocketDisconnect) -> int:
        """The code of a connection that ended within user code."""
        if self.closed is not None:
            return self.closed
        if self.websocket.client_state is WebSocketState.DISCONNECTED:
            self.left = exc.code
            return exc.code
        if not self.gone:  # raised by the application itself
            await self.close(exc.code if exc.code == 1000 or exc.code >= 3000 else 1000)
            return exc.code
        with anyio.move_on_after(CODE_S):
            while True:
                received = await self.receive()
                if received["type"] == "websocket.disconnect":
                    return self.note_departure(received)
        return 1006

    def release(self, code: int) -> None:
        """It is over, with this code; no cycle keeps anything alive until the collector comes."""
        if self.left is None:
            self.left = code
        self.tell_departure()
        self._unqueue_outbound()
        self.writer = self.closing = self.on_accept = None
        self.websocket._send = self.send

    def receive_by(self, receive: Receive) -> None:
        """From now on messages come from here, also those that the application receives by itself."""
        self.receive = self.websocket._receive = receive

    # ---- what is sent

    def frame_as(self, binary: bool) -> None:
        """From now on messages go out in binary frames, or in texts."""
        writer = self.writer.texts if isinstance(self.writer, BinaryWriter) else self.writer
        self.is_binary = binary
        self._write_by(writer)

    def _write_by(self, writer: Writer | None) -> None:
        self.writer = BinaryWriter(writer) if self.is_binary and writer is not None else writer

    async def send_body(self, body: bytes) -> None:
        """Send a message, in order with everything else. Raises `WebSocketDisconnect` if the peer is gone."""
        self.require()
        try:
            await self.send(_binary(body) if self.is_binary else {"type": "websocket.send", "text": body.decode()})
        except (OSError, RuntimeError) as exc:
            raise self._disconnect_for(exc) from exc

    send_answer = send_body
    """The same for an answer, of which an envelope may know more."""

    async def send_bytes(self, data: bytes) -> None:
        """The same with a binary frame."""
        self.require()
        try:
            await self.send(_binary(data))
        except (OSError, RuntimeError) as exc:
            raise self._disconnect_for(exc) from exc

    def write(self, body: bytes) -> bool:
        """Write a message if that needs no waiting; False: it is still to be sent."""
        return self.writer is not None and self.writer.write(body)

    async def send_reply(self, body: bytes) -> None:
        """The same for a reply, whose handler does not care whether the peer is still there."""
        if self.closed is None and not self.gone:
            try:
                await self.send(_binary(body) if self.is_binary else {"type": "websocket.send", "text": body.decode()})
            except (OSError, RuntimeError) as exc:
                self._note_unsent(exc)  # the next receive tells the code

    def write_text(self, text: bytes) -> bool:
        """`write` of a text, whatever messages are."""
        return not self.is_binary and self.write(text)

    async def send_text_reply(self, text: bytes) -> None:
        """As `send_reply`."""
        if self.closed is None and not self.gone:
            try:
                await self.send({"type": "websocket.send", "text": text.decode()})
            except (OSError, RuntimeError) as exc:
                self._note_unsent(exc)

    def write_binary(self, data: bytes) -> bool:
        """The same with a binary frame."""
        return self.writer is not None and self.writer.write_binary(data)

    async def send_binary_reply(self, data: bytes) -> None:
        """As `send_reply`, with a binary frame."""
        if self.closed is None and not self.gone:
            try:
                await self.send(_binary(data))
            except (OSError, RuntimeError) as exc:
                self._note_unsent(exc)

    def _disconnect_for(self, exc: Exception) -> WebSocketDisconnect:
        """What tells the sender that the peer is gone. Raises as `_note_unsent`."""
        self._note_unsent(exc)
        return WebSocketDisconnect(self.over or 1006)

    def _note_unsent(self, exc: Exception) -> None:
        """Raises what a send raised, unless the peer is gone, or this side has closed while the send waited for it."""
        if isinstance(exc, OSError):
            self._lose()
        elif self.closed is None:
            raise exc

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection, once; a second call does nothing, nor does one after the peer has left."""
        if self.over is None:
            await self.websocket.close(code, reason)

    def close_soon(self, code: int, reason: str) -> None:
        """The same without waiting for the peer."""
        if self.over is None:
            self.closed = code
            closing = self._send_close({"type": "websocket.close", "code": code, "reason": reason})
            self.closing = asyncio.ensure_future(closing)
            self.closing.add_done_callback(_retrieve)

    async def close_written(self) -> None:
        """Wait until a `close_soon` is on its way to the peer, and what is before it; not for ever."""
        if self.closing is not None and not self.closing.done():
            await asyncio.wait({self.closing}, timeout=CLOSING_S)

    # ---- the outbound queue, from the first room, or block, on

    def together(self, bounds: Bounds, framing: Framing) -> AbstractAsyncContextManager[None]:
        """Nothing comes between what is sent within. Raises `WebSocketDisconnect` if the peer is gone."""
        self.require()
        connection = self._connection or self.queue_outbound(OutboundQueue.of(bounds), framing)
        return connection.together()

    def queue_outbound(self, queue: OutboundQueue, framing: Framing | None = None) -> Connection:
        """
        From now on everything goes out in order with what is pushed to the `Connection` that this gives. What is
        pushed is put into the envelope of `framing`.

        Where it does so already, only the counters change: they are those of the rooms then.
        """
        if self._connection is not None:
            self._connection.queue.counters = queue.counters
            return self._connection

        def on_slow_peer() -> None:
            self.close_soon(SLOW_CLOSE_CODE, "slow consumer")

        wire = wire_of(self.websocket.scope)
        self._connection = connection = Connection(self.send, queue, on_slow_peer, wire, framing)
        self.send = connection.send
        if self.writer is not None:
            self._write_by(connection)
        return connection

    def _unqueue_outbound(self) -> None:
        """Nothing is pushed any more; what waits is dropped."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self.send = connection.send_at_once  # no cycle through the connection is left


def _binary(data: bytes) -> Message:
    return {"type": "websocket.send", "bytes": data}


def _retrieve(task: asyncio.Future[None]) -> None:
    """A close that cannot be written any more is no news."""
    if not task.cancelled():
        task.exception()
