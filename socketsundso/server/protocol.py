"""
The life of one connection: uvicorn's protocol class, ASGI's two functions, and the closing handshakes.

A connection is in one of six stages, and what an application's `send` means depends on it alone:

    CONNECTING  the request is valid, the application runs, nothing is answered yet
    RESPONDING  the application answers with an HTTP response of its own
    OPEN        accepted
    CLOSING     our close frame is out, the peer's is awaited
    CLOSED      nothing more will be said; what the peer still sends is read and dropped until it hangs up
    LOST        the transport is gone

Every stage but OPEN has a timer, every way leads to LOST.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from picows import WSFrame, WSListener, WSMsgType, WSTransport
from uvicorn.config import Config
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_local_addr,
    get_remote_addr,
    is_ssl,
)
from uvicorn.server import ServerState

from socketsundso import refusals
from socketsundso.server import deflate, frames, handshake
from socketsundso.server.early import bytes_behind_request, http_version, response_under_way
from socketsundso.server.handshake import HandshakeRefused, Headers, UpgradeRequest
from socketsundso.server.inbox import MAX_QUEUED_BYTES, Inbox
from socketsundso.server.keepalive import Keepalive, keepalive_of
from socketsundso.server.messages import Messages, Violation, invalid_deflate, too_big
from socketsundso.server.outbox import Outbox, PackingPush, Push
from socketsundso.server.parser import (
    INITIAL_BUFFER_BYTES,
    FrameParser,
    Metered,
    feed,
    lone_frame,
    new_parser,
    shared_read,
)
from socketsundso.server.rejection import Rejection

HANDSHAKE_TIMEOUT_S = 60.0  # for the application's answer to the upgrade request, and each part of a response
CLOSE_TIMEOUT_S = 10.0  # for the peer's close frame, and again for its hanging up
SHUTDOWN_TIMEOUT_S = 2.0  # for the peer's hanging up when the server goes down
HOLD_S = 0.1  # how long the last frame waits for the application's answers to what came before
FEW_FRAMES = 64  # between two pings are read without a parser, for 2 us more each: who says more has one
LARGE_BYTES = 1 << 16  # messages from here on leave a read buffer behind that is worth giving back

Message = dict[str, Any]

# names that the inner loop finds without a look-up in a module
_TEXT, _BINARY = WSMsgType.TEXT, WSMsgType.BINARY
_SUBPROTOCOL = b"sec-websocket-protocol"
_TEXT_HEADS, _FIN_TEXT, _frame = frames.TEXT_HEADS, frames.FIN_TEXT, frames.frame


class Stage(enum.Enum):
    """Where a connection is; the module's docstring says what each one means."""

    CONNECTING = enum.auto()
    RESPONDING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()
    LOST = enum.auto()


class WebSocketProtocol(WSListener, asyncio.BufferedProtocol):
    """
    What uvicorn makes for each upgrade request, given as `--ws` or `uvicorn.run(ws=...)`.

    It is the transport's protocol until the connection is accepted, after its end, and while the peer says little; in
    between that is a parser, whose listener it is.
    """

    __slots__ = (
        "_accepts_whole",
        "_app_state",
        "_client",
        "_closed_by_app",
        "_config",
        "_deaf",
        "_default_headers",
        "_deflate",
        "_early",
        "_heard",
        "_inbox",
        "_keepalive",
        "_last_frame",
        "_latest_ping",
        "_loop",
        "_messages",
        "_metered",
        "_outbox",
        "_parser",
        "_peer_closed",
        "_peer_hung_up",
        "_receiving",
        "_refused",
        "_rejection",
        "_request",
        "_requested",
        "_scope",
        "_server_state",
        "_stage",
        "_timer",
        "_transport",
        "_watching",
        "get_buffer",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server_state = server_state
        self._default_headers: Headers = server_state.default_headers
        self._app_state = app_state
        self._loop = loop = _loop or asyncio.get_running_loop()
        self.get_buffer = shared_read(loop)  # type: ignore[method-assign, assignment]  # no bound method for each
        self._stage = Stage.CONNECTING
        self._requested = False  # whether the upgrade request has come
        self._request: UpgradeRequest | None = None  # until it is accepted
        self._rejection: Rejection | None = None
        self._early = b""  # what came behind the request, before accept
        self._deflate: deflate.Agreed | None = None  # what was negotiated
        self._messages: Messages | None = None  # made for the first frame that is no plain text message
        self._parser: FrameParser | None = None
        self._keepalive: Keepalive | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._metered = False  # whether the peer once sent more than the application takes
        self._receiving = False  # from accept until the peer's close frame, a violation, or our own close
        self._accepts_whole = False  # receiving, and no fragmented message under way
        self._watching = False  # receiving, the peer says little, and there is no parser, or one with nothing in it
        self._heard = 0  # frames that were read without a parser since a ping was due
        self._last_frame: bytes | None = None  # the close frame that waits for the application's last answers
        self._latest_ping: bytes | None = None  # came while the peer does not read: answered when it does
        self._peer_closed = False  # the peer sent a close frame
        self._peer_hung_up = False  # ... and the end of its side of TCP, which we have been told of
        self._deaf = False  # whether TLS's end is left unread
        self._refused: tuple[int, str] | None = None  # a violation that the parser has seen, until `_fail` is called
        self._closed_by_app = False  # further sends are the application's mistake

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._client = get_remote_addr(self._transport)  # asked now: on asyncio's loop a socket forgets its peer
        self._outbox = Outbox(self._loop, self._transport)
        self._inbox = Inbox(self._loop, self._transport, self._outbox, self)
        self._server_state.connections.add(cast(Any, self))
        self._trace("made")

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(memoryview(self.get_buffer(-1))[:nbytes])
        if self._watching:
            self._hear(data)
        else:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """The request, as uvicorn passes it on; then whatever comes while no parser is in place."""
        if not self._requested:
            self._requested = True
            self._handle_request(data)
        elif self._stage is Stage.CONNECTING:
            self._early += data
            if len(self._early) > MAX_QUEUED_BYTES:
                self._inbox.pause()
        elif self._watching:
            self._hear(data)
        elif self._receiving or self._stage is Stage.CLOSING:
            if self._parser is None:
                self._make_parser()
            feed(cast(FrameParser, self._parser), data)

    def eof_received(self) -> bool:
        """
        The peer has said everything: whether the transport is to stay open for what is still to be sent to it.

        RFC 6455 5.5.1: a peer that hangs up right behind its close frame is answered all the same. TLS closes with this
        call, so there the close frame goes out now, or never.
        """
        self._peer_hung_up = True
        if self._refused is not None:
            self._fail(*self._refused)
        if self._is_tls:
            self._finish()
        if self._stage is Stage.CLOSING:  # its close frame will not come
            self._linger(CLOSE_TIMEOUT_S)
        return not self._is_tls and self._has_to_send

    @property
    def _is_tls(self) -> bool:
        return not self._transport.can_write_eof()  # TLS has no half-closed connections

    @property
    def _has_to_send(self) -> bool:
        if self._stage is Stage.CONNECTING:
            return bool(self._early)  # there may be a close frame in it
        if self._stage is Stage.RESPONDING:  # RFC 9112 9.6: half-closed, it may still read the response
            return True
        return self._last_frame is not None if self._stage is Stage.OPEN else not self._outbox.empty

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stage is Stage.LOST:
            return
        self._stage = Stage.LOST
        self._stop_receiving()
        self._cancel_timer()
        self._inbox.end({"type": "websocket.disconnect", "code": frames.ABNORMAL})
        self._inbox.detach()
        self._outbox.drop()
        self._parser = None
        self._server_state.connections.discard(cast(Any, self))
        self._trace("lost")

    def pause_writing(self) -> None:
        self._outbox.block()

    def resume_writing(self) -> None:
        if self._latest_ping is not None:
            ping, self._latest_ping = self._latest_ping, None
            self._outbox.push(frames.frame(frames.FIN_PONG, ping))
        self._outbox.unblock()
        if self._stage is Stage.CLOSED:
            self._loop.call_soon(self._hang_up)  # asyncio loses a transport twice that is closed in here

    # --- the handshake

    def _handle_request(self, head: bytes) -> None:
        if response_under_way(self._transport):
            self._refuse_silently()
            return
        try:
            self._request = handshake.parse_request(head, http_version(self._transport))
            agreed = self._negotiated_deflate(self._request)
            self._early = bytes_behind_request(self._transport)
        except HandshakeRefused as refused:
            refusals.note(HTTPStatus(refused.status).phrase)
            logging.getLogger("uvicorn.error").info("WebSocket handshake refused: %s", refused)
            self._answer(handshake.plain_response(refused.status, refused.text, refused.headers))
            return
        self._negotiated(agreed)
        self._scope = handshake.build_scope(
            self._request,
            self._config,
            server=get_local_addr(self._transport),
            client=self._client,
            scheme="wss" if is_ssl(self._transport) else "ws",
            state=self._app_state.copy(),
            extensions=self._extensions(),
        )
        self._set_timer(HANDSHAKE_TIMEOUT_S, self._handshake_timed_out)
        self._inbox.put({"type": "websocket.connect"}, 0)
        self._start_app()

    def _refuse_silently(self) -> None:
        """
        Close the connection without an answer, which would arrive in front of another request's.

        uvicorn's protocol on httptools hands over at once; the one on h11 waits for its turn.
        """
        refusals.note("behind_a_request")
        logging.getLogger("uvicorn.error").info("WebSocket handshake refused: it is behind an unanswered request")
        http = cast(asyncio.Protocol, self._transport.get_protocol())
        http.connection_lost(None)  # closes the transport, and tells the other request's application
        self._linger(CLOSE_TIMEOUT_S)

    def _extensions(self) -> dict[str, Any]:
        outbox, agreed = self._outbox, self._deflate
        return {
            "websocket.http.response": {},
            "socketsundso.pull": self._inbox,
            "socketsundso.push": Push(outbox) if agreed is None else PackingPush(outbox, agreed),
        }

    def _negotiated_deflate(self, request: UpgradeRequest) -> deflate.Agreed | None:
        offers = request.lines(b"sec-websocket-extensions")
        if not offers or not self._config.ws_per_message_deflate:
            return None
        return deflate.negotiate(offers, deflate.packers_of(self._loop), contexts=deflate.settings().contexts)

    def _negotiated(self, agreed: deflate.Agreed | None) -> None:
        self._deflate = agreed
        if agreed is not None:
            self._outbox.compress(agreed, *deflate.settings().thresholds)

    def _start_app(self) -> None:
        empty = getattr(self._config, "reset_contextvars", False)
        context = contextvars.Context() if empty else contextvars.copy_context()
        task = self._loop.create_task(self._run_app(), context=context)
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard, context=context)  # else it gets one of its own

    def _accept(self, message: Message) -> None:
        request = cast(UpgradeRequest, self._request)
        agreed = self._deflate
        headers = [*self._default_headers, *((bytes(n), bytes(v)) for n, v in message.get("headers") or ())]
        if agreed is not None:
            headers.append((b"Sec-WebSocket-Extensions", agreed.response.encode()))
        headers = [item for item in headers if item[0].lower() != _SUBPROTOCOL or _is_offered(item[1], request)]
        if subprotocol := (message.get("subprotocol") or "").encode("latin-1"):
            headers += [(b"Sec-WebSocket-Protocol", subprotocol)] if _is_offered(subprotocol, request) else []
        response = handshake.accept_response(request, headers)
        self._log_access("[accepted]")
        self._cancel_timer()
        self._request = None
        self._transport.write(response)
        self._stage = Stage.OPEN
        self._receiving = self._accepts_whole = True
        self._outbox.open()
        self._watching = True
        early, self._early = self._early, b""
        if early:
            self._hear(early)
        if self._peer_hung_up and self._receiving and self._refused is None:
            self._transport.close()  # it sent no close frame
        elif self._receiving:
            config = self._config
            self._keepalive = keepalive_of(self._loop, config.ws_ping_interval, config.ws_ping_timeout)
            if self._keepalive is not None:
                self._keepalive.add(self)

    def _start_parser(self) -> None:
        self._make_parser()
        self._read_into(cast(FrameParser, self._parser))

    def _make_parser(self) -> None:
        self._parser = new_parser(self, self._refuse, self._max_bytes)

    def _hear(self, data: bytes) -> None:
        """
        While the peer says little: a frame that came alone is read as it is, for anything else there is a parser.

        It is given up by `rest`: a parser is more than a third of what an idle connection weighs.
        """
        frame = lone_frame(data, self._max_bytes) if self._heard < FEW_FRAMES else None
        if frame is not None:
            self._heard += 1
            self.on_ws_frame(None, frame)
            return
        self._watching = False
        if self._parser is None:
            self._make_parser()
        parser = cast(FrameParser, self._parser)
        self._read_into(parser)
        feed(parser, data)

    def rest(self) -> None:
        """A ping is due, and the next one after it: called by the keepalive."""
        self._heard = 0
        if self._watching:
            self._parser = None  # since the last ping it was not needed

    @property
    def _max_bytes(self) -> int:
        limit: int | None = self._config.ws_max_size
        return sys.maxsize if limit is None else limit

    def _read_into(self, parser: FrameParser) -> None:
        protocol = Metered(parser) if self._metered else parser
        self._transport.set_protocol(cast(asyncio.BaseProtocol, protocol))

    def app_is_behind(self) -> None:
        """The inbox is full: from now on, one read brings only so much."""
        if not self._metered and self._parser is not None and self._receiving:
            self._metered = True
            if not self._watching:
                self._read_into(self._parser)

    def _handshake_timed_out(self) -> None:
        logging.getLogger("uvicorn.error").warning(
            "ASGI callable did not answer a WebSocket handshake within %g s.", HANDSHAKE_TIMEOUT_S
        )
        self._answer(handshake.plain_response(503, "Service Unavailable", self._default_headers))

    def _answer(self, response: bytes) -> None:
        """Send the last HTTP response of this connection."""
        self._inbox.end({"type": "websocket.disconnect", "code": frames.ABNORMAL})
        self._transport.write(response)
        self._linger(CLOSE_TIMEOUT_S)

    # --- frames from the peer

    def on_ws_frame(self, transport: WSTransport | None, frame: WSFrame) -> None:
        if not (self._accepts_whole and frame.msg_type is _TEXT and frame.fin) or frame.rsv2 or frame.rsv3:
            self._on_other_frame(frame)
        elif frame.rsv1:
            self._on_packed_text(frame)
        else:
            try:
                text = frame.get_payload_as_utf8_text()
            except UnicodeDecodeError:
                self._fail(1007, "invalid UTF-8")
                return
            size = frame.payload_size
            self._inbox.put(text, size)
            if size >= LARGE_BYTES:
                self._renew_parser(frame)

    def _on_packed_text(self, frame: WSFrame) -> None:
        """The whole message of a browser, which compresses nearly all of them."""
        agreed = self._deflate
        if agreed is None or not agreed.alone:
            self._on_other_frame(frame)
            return
        try:
            data = agreed.inflate(frame.get_payload_as_bytes(), self._max_bytes)
            text = data.decode()
        except deflate.DeflateError:
            violation = invalid_deflate()
        except deflate.TooBig:
            violation = too_big(self._max_bytes)
        except UnicodeDecodeError:
            violation = Violation(1007, "invalid UTF-8")
        else:
            self._inbox.put(text, len(data))
            if frame.payload_size >= LARGE_BYTES:
                self._renew_parser(frame)
            return
        self._fail(violation.code, violation.reason)

    def _on_other_frame(self, frame: WSFrame) -> None:
        """What is not the whole text of a message."""
        if (
            self._accepts_whole
            and frame.msg_type is _BINARY
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            self._on_whole_binary(frame)
        elif self._receiving:
            try:
                _ON_FRAME[frame.msg_type](self, frame)
            except Violation as violation:
                self._fail(violation.code, violation.reason)
        elif self._stage is Stage.CLOSING and frame.msg_type is WSMsgType.CLOSE:
            self._linger(CLOSE_TIMEOUT_S)

    def _on_whole_binary(self, frame: WSFrame) -> None:
        """Copied once, out of the read buffer: what is a view of that is valid in here alone."""
        size = frame.payload_size
        self._inbox.put({"type": "websocket.receive", "bytes": frame.get_payload_as_bytes()}, size)
        if size >= LARGE_BYTES:
            self._renew_parser(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.connection_lost(None)

    def _on_data(self, frame: WSFrame) -> None:
        if frame.rsv2 or frame.rsv3:
            raise Violation(1002, "reserved bits")
        if self._messages is None:
            self._messages = Messages(self._max_bytes, self._deflate)
        message = self._messages.add(
            frame.msg_type.value, frame.get_payload_as_bytes(), fin=bool(frame.fin), rsv1=bool(frame.rsv1)
        )
        self._accepts_whole = self._refused is None and not self._messages.under_way
        if message is not None:
            self._inbox.put(*message)
            if message[1] >= LARGE_BYTES:
                self._renew_parser(frame)

    def _on_ping(self, frame: WSFrame) -> None:
        payload = _control_payload(frame)
        # RFC 6455 5.5.3: if not answered yet, MAY elect to send a Pong for only the most recently processed
        # Ping
        if self._outbox.blocked is not None:
            self._latest_ping = payload
        else:
            self._outbox.push(frames.frame(frames.FIN_PONG, payload))

    def _on_pong(self, frame: WSFrame) -> None:
        payload = _control_payload(frame)
        answers = self._keepalive is not None and self._keepalive.pong(self, payload)
        self._renew_parser(frame)
        if answers and frame.tail_size == 0 and self._receiving and self._refused is None and not self._watching:
            self._watching = True
            self._transport.set_protocol(self)

    def _on_close(self, frame: WSFrame) -> None:
        payload = _control_payload(frame)
        closed = frames.parse_close(payload)
        if closed is None:
            raise Violation(1002, "invalid close code")
        code, reason = closed
        self._peer_closed = True
        # RFC 6455 5.5.1: the endpoint typically echos the status code it received
        self._end(frames.frame(frames.FIN_CLOSE, payload), code, reason)

    def _renew_parser(self, frame: WSFrame) -> None:
        """Give back the read buffer, which never shrinks, if it has grown and nothing is left in it."""
        parser = self._parser
        if parser is None or frame.tail_size > 0 or not self._receiving:
            return
        if len(parser.get_buffer(-1)) > INITIAL_BUFFER_BYTES:
            self._start_parser()
            self._loop.call_soon(_keep_alive, parser)  # the event loop is still inside its buffer_updated

    # --- the ends of a connection

    def _refuse(self, code: int, reason: str) -> None:
        """
        The parser has found a violation, and goes on to deliver what stood in front of it.

        What the transport has to say from now on, such as that the peer hung up, it says to us.
        """
        self._refused = code, reason
        self._accepts_whole = False  # a frame that is too large may be delivered too: `_on_data` measures it
        self._transport.set_protocol(self)
        self._loop.call_soon(self._stop_hearing)
        self._loop.call_soon(self._fail, code, reason)

    def _fail(self, code: int, reason: str) -> None:
        """The peer broke the protocol: RFC 6455 7.1.7."""
        if self._receiving:
            self._end(frames.close_frame(code, reason), code, reason)
        elif self._stage is Stage.CLOSING:
            self._linger(CLOSE_TIMEOUT_S)

    def _end(self, last_frame: bytes, code: int, reason: str) -> None:
        """
        Answer with `last_frame`, but not before the application had its chance to answer what came before.
        """
        self._stop_receiving()
        self._last_frame = last_frame
        self._set_timer(HOLD_S, self._finish)
        self._transport.set_protocol(self)
        self._loop.call_soon(self._stop_hearing)
        self._inbox.end({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _stop_hearing(self) -> None:
        """
        On TLS, which takes the end of the peer's side for the end of the connection, leave that unread until `_linger`.

        Not called within a read, nor twice: TLS looks at its limits after each, and with an empty buffer reads on.
        """
        if self._stage is Stage.OPEN and not (self._deaf or self._transport.is_closing()):
            self._deaf = _limit_reading(self._transport, 0)

    def app_saw_everything(self) -> None:
        """The application took the disconnect: nothing it might answer is left."""
        self._finish()

    def _finish(self) -> None:
        """Send the frame that `_end` held back, if there is one."""
        if self._stage is Stage.OPEN and self._last_frame is not None:
            self._outbox.finish(self._last_frame)
            self._linger(CLOSE_TIMEOUT_S)

    def _close(self, code: int, reason: str) -> None:
        """Close from our side, unless the peer or a violation came first."""
        if self._last_frame is not None:
            self._finish()
            return
        self._stop_receiving()
        self._outbox.finish(frames.close_frame(code, reason))
        self._stage = Stage.CLOSING
        self._set_timer(CLOSE_TIMEOUT_S, self._transport.abort)
        self._transport.set_protocol(self)
        self._inbox.end({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._inbox.release()

    def _stop_receiving(self) -> None:
        self._receiving = self._accepts_whole = self._watching = False
        if self._keepalive is not None:
            self._keepalive.discard(self)
            self._keepalive = None

    def _linger(self, timeout_s: float) -> None:
        """
        Stop sending, and read until the peer has hung up too, but not for ever.

        RFC 6455 7.1.1 asks for this order: closing at once while the peer still sends makes TCP reset the
        connection, and the peer may never see the last frame.
        """
        self._stage = Stage.CLOSED
        self._stop_receiving()
        self._set_timer(timeout_s, self._transport.abort)
        self._transport.set_protocol(self)
        self._inbox.release()
        if self._deaf:
            _limit_reading(self._transport)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._transport.is_closing() or not self._outbox.empty:
            return
        if self._peer_hung_up or self._is_tls:
            self._transport.close()
            return
        try:
            self._transport.write_eof()
        except OSError:  # the peer was faster
            self._transport.abort()

    def shutdown(self) -> None:
        """The server goes down: called by uvicorn."""
        if self._stage is Stage.CONNECTING:
            self._answer(handshake.plain_response(500, "Internal Server Error", self._default_headers))
        elif self._stage is Stage.OPEN:
            self._tell_restart(SHUTDOWN_TIMEOUT_S)
        elif self._stage in (Stage.CLOSING, Stage.CLOSED):
            self._linger(SHUTDOWN_TIMEOUT_S)

    def _tell_restart(self, timeout_s: float) -> None:
        self._inbox.end({"type": "websocket.disconnect", "code": 1012})
        self._outbox.finish(frames.close_frame(1012) if self._last_frame is None else self._last_frame)
        self._linger(timeout_s)

    def leave(self) -> bool:
        """
        The server is to go down: tell the peer 1012 unless the application is at work. Whether nothing is left to tell.
        """
        if self._stage is Stage.OPEN and self._last_frame is None:
            if not self._inbox.idle:
                return False
            self._tell_restart(CLOSE_TIMEOUT_S)
        return self._stage not in (Stage.CONNECTING, Stage.RESPONDING)

    def _set_timer(self, seconds: float, callback: Callable[[], object]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- what others may know and want

    @property
    def outbox(self) -> Outbox:
        """Where `send` writes to."""
        return self._outbox

    @property
    def reading_paused(self) -> bool:
        """Whether the peer could not be heard even if it spoke."""
        return self._inbox.paused

    @property
    def frame_progress(self) -> int:
        """A number that differs whenever more of a frame has come in; the peer can send no pong within one."""
        return len(self._parser.get_buffer(-1)) if self._parser is not None else INITIAL_BUFFER_BYTES

    @property
    def writing_blocked(self) -> bool:
        """Whether the peer reads too slowly for what is sent."""
        return self._outbox.blocked is not None

    @property
    def queued_bytes(self) -> int:
        """Payload that the application has not taken."""
        return self._inbox.size

    @property
    def waiting_bytes(self) -> int:
        """The same with what it has taken, and what waits nevertheless; 0 once nothing is read any more."""
        return self._inbox.waiting_bytes if self._receiving else 0

    def hold_reading(self) -> None:
        """Read nothing more, until the application has taken all that is here, or `read_on`."""
        if self._receiving:
            self._inbox.pause()

    def read_on(self) -> None:
        self._inbox.release()

    @property
    def buffered_bytes(self) -> int:
        """Outbound bytes that the kernel has not taken."""
        return self._outbox.buffered

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        self._outbox.push(frames.frame(frames.FIN_PING, payload))

    def peer_is_silent(self) -> None:
        """No pong came: the peer is half open or gone."""
        reason = "keepalive ping timeout"
        self._inbox.end({"type": "websocket.disconnect", "code": 1011, "reason": reason})
        self._outbox.finish(frames.close_frame(1011, reason))
        self._linger(CLOSE_TIMEOUT_S)

    # --- the application's side

    async def _run_app(self) -> None:
        logger = logging.getLogger("uvicorn.error")
        code = 1011
        try:
            result = await self._config.loaded_app(self._scope, self._inbox.receive, self.send)
        except ClientDisconnected:
            if self._stage is Stage.OPEN:  # some other connection's
                logger.exception("Exception in ASGI application\n")
        except BaseException:
            logger.exception("Exception in ASGI application\n")
        else:
            code = 1000
            if self._stage is Stage.CONNECTING:
                logger.error("ASGI callable returned without completing handshake.")
            elif self._stage is Stage.RESPONDING:
                logger.error("ASGI callable returned without completing its response.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
        self._app_ended(code)

    def _app_ended(self, code: int) -> None:
        if self._stage is Stage.CONNECTING:
            self._answer(handshake.plain_response(500, "Internal Server Error", self._default_headers))
        elif self._stage is Stage.RESPONDING:
            self._transport.abort()
        elif self._stage is Stage.OPEN:
            self._close(code, "")

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        outbox = self._outbox
        if not outbox.closed and message["type"] == "websocket.send" and outbox.blocked is None:
            text = message.get("text")
            if text is not None:
                payload = text.encode()
                size = len(payload)
                if size >= outbox.plain_below:
                    outbox.write(cast(deflate.Agreed, self._deflate).frame(payload, text=True))
                else:  # frames.text_frame, unfolded: this runs for every message
                    outbox.write(_TEXT_HEADS[size] + payload if size < 126 else _frame(_FIN_TEXT, payload))
                if outbox.turn_due:
                    await outbox.turn()
                return
        await self._send(message)

    async def _send(self, message: Message) -> None:
        if message["type"] in ("websocket.send", "websocket.http.response.body"):
            await self._outbox.writable()
        if self._stage is Stage.LOST:
            raise ClientDisconnected
        if self._closed_by_app:
            raise RuntimeError(
                f"Unexpected ASGI message '{message['type']}', "
                "after sending 'websocket.close' or response already completed."
            )
        _SEND[self._stage](self, message)
        if self._outbox.turn_due:
            await self._outbox.turn()

    def _send_connecting(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._log_access("403")
            self._closed_by_app = True
            self._answer(handshake.plain_response(403, "", self._default_headers))
        elif kind == "websocket.http.response.start":
            self._rejection = Rejection(message, self._default_headers)
            self._log_access(str(message["status"]))
            self._stage = Stage.RESPONDING
            self._set_timer(HANDSHAKE_TIMEOUT_S, self._transport.abort)
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' "
                f"or 'websocket.http.response.start' but got '{kind}'."
            )

    def _send_responding(self, message: Message) -> None:
        rejection = cast(Rejection, self._rejection)
        part = rejection.body(message)
        if rejection.finished:
            self._closed_by_app = True
            self._answer(part)
        else:
            self._transport.write(part)
            self._set_timer(HANDSHAKE_TIMEOUT_S, self._transport.abort)

    def _send_open(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            self._outbox.write(self._frame(message))
        elif kind == "websocket.close":
            code = message.get("code")
            self._close(frames.check_close_code(1000 if code is None else code), message.get("reason") or "")
            self._closed_by_app = True
        else:
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")

    def _send_ended(self, message: Message) -> None:
        # closing what the peer has closed is no mistake; everything else cannot reach it any more
        if message["type"] != "websocket.close" or not self._peer_closed:
            raise ClientDisconnected
        self._closed_by_app = True

    def _frame(self, message: Message) -> bytes:
        text, data = message.get("text"), message.get("bytes")
        if text is None and data is None:
            raise RuntimeError("ASGI message 'websocket.send' needs 'text' or 'bytes'.")
        if text is not None:
            payload = text.encode()
        else:  # bytes(5) would be five zeros
            payload = data if isinstance(data, bytes) else bytes(memoryview(cast(Any, data)))
        if self._deflate is not None and len(payload) >= self._outbox.plain_below:
            return self._deflate.frame(payload, text=text is not None)
        return frames.frame(frames.FIN_TEXT if text is not None else frames.FIN_BINARY, payload)

    # --- logs

    def _log_access(self, outcome: str) -> None:
        logging.getLogger("uvicorn.error").info(
            '%s - "WebSocket %s" %s',
            get_client_addr(cast(Any, self._scope)),
            handshake.target_without_query(self._scope),
            outcome,
        )

    def _trace(self, what: str) -> None:
        logger = logging.getLogger("uvicorn.error")
        if logger.level <= TRACE_LOG_LEVEL:
            prefix = f"{self._client[0]}:{self._client[1]} - " if self._client else ""
            logger.log(TRACE_LOG_LEVEL, "%sWebSocket connection %s", prefix, what)


def _control_payload(frame: WSFrame) -> bytes:
    if frame.rsv1 or frame.rsv2 or frame.rsv3:
        raise Violation(1002, "reserved bits in a control frame")
    return frame.get_payload_as_bytes()


def _is_offered(subprotocol: bytes, request: UpgradeRequest) -> bool:
    """RFC 6455 4.1: a client MUST fail the connection that names one which it did not offer."""
    offered = subprotocol.decode("latin-1") in request.subprotocols
    if not offered:
        logging.getLogger("uvicorn.error").warning("WebSocket subprotocol %r was not offered: left out", subprotocol)
    return offered


def _limit_reading(transport: asyncio.Transport, *high_water_bytes: int) -> bool:
    """How much a transport of TLS reads ahead, as usual without a number; False: no such transport."""
    limit = getattr(transport, "set_read_buffer_limits", None)
    if limit is not None:
        limit(*high_water_bytes)
    return limit is not None


def _keep_alive(_: object) -> None:
    """Hold a reference until the next turn of the event loop."""


_ON_FRAME: dict[WSMsgType, Callable[[WebSocketProtocol, WSFrame], None]] = {
    WSMsgType.CONTINUATION: WebSocketProtocol._on_data,
    WSMsgType.TEXT: WebSocketProtocol._on_data,
    WSMsgType.BINARY: WebSocketProtocol._on_data,
    WSMsgType.PING: WebSocketProtocol._on_ping,
    WSMsgType.PONG: WebSocketProtocol._on_pong,
    WSMsgType.CLOSE: WebSocketProtocol._on_close,
}
_SEND: dict[Stage, Callable[[WebSocketProtocol, Message], None]] = {
    Stage.CONNECTING: WebSocketProtocol._send_connecting,
    Stage.RESPONDING: WebSocketProtocol._send_responding,
    Stage.OPEN: WebSocketProtocol._send_open,
    Stage.CLOSING: WebSocketProtocol._send_ended,
    Stage.CLOSED: WebSocketProtocol._send_ended,
}
