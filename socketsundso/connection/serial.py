"""
The receive loop: one message at a time, in the connection's own task.

A message is taken when the handler before it is done, so nothing queues in here; the server holds back a peer that
sends faster. The loop calls ASGI's `receive` and `send` itself, or what our own server has instead (`wire`), since the
checks of Starlette's `WebSocket` cost a tenth of a round trip.

While a handler waits for something, only the peer's leaving is watched: our own server tells of it; on others a task
reads ahead, from the moment on when a handler has waited for `WATCH_S`. Handlers may finish then, for as long as the
endpoint grants; who takes longer is cancelled.

In: a `Peer`, and what the endpoint's class declares, compiled. Out: calls of handlers, and answers. Knows no room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, ClassVar, Protocol

from pydantic_core import ValidationError
from starlette.exceptions import HTTPException, WebSocketException
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from socketsundso.connection.ahead import ReadAhead
from socketsundso.connection.current import (
    NOTHING,
    answering,
    begin_answer,
    collecting,
    respond_with_valid,
)
from socketsundso.connection.lines import about
from socketsundso.connection.peer import SHUTDOWN_CODE, Peer
from socketsundso.connection.stepping import noting
from socketsundso.errors import BackplaneUnavailable, EventError, FrameError
from socketsundso.messages import (
    NULL_RESULT,
    UNDECODABLE,
    Definition,
    Frame,
    Judgement,
    MessageError,
    Ref,
    Refused,
    ResponseError,
    Route,
)
from socketsundso.wire import Arrivals, BinaryPayload, Source, source_of, teller_of

logger = logging.getLogger("socketsundso")

ANSWERS = (EventError, HTTPException)  # what handlers raise to answer with; anything else is logged
ENDS = (WebSocketDisconnect, WebSocketException, FrameError)  # what ends the connection
_ANSWERS_ABOUT = (ValidationError, *ANSWERS)  # the same for what is found wrong with a message


WATCH_S = 0.1
"""How long a handler waits before a server without `watch` is asked for what comes next, which costs a task."""


class Answers(Protocol):
    """What the loop asks of an endpoint beside its handlers."""

    disconnect_grace_s: ClassVar[float]

    async def respond(self, response: Any) -> None: ...
    async def send_exception(self, exc: Exception) -> None: ...


class Serial:
    """
    The loop of one connection.

    `definition` may be exchanged between two messages. `responds` says that the endpoint has a `respond` of its own,
    which replies go through then.
    """

    __slots__ = (
        "_ahead", "_cut", "_departure", "_glance", "_grace", "_receiving", "_source", "_task", "_tells", "_until",
        "definition", "endpoint", "peer", "responds",
    )  # fmt: skip

    def __init__(self, endpoint: Answers, peer: Peer, definition: Definition, responds: bool) -> None:
        self.endpoint, self.peer, self.definition, self.responds = endpoint, peer, definition, responds
        self._task: asyncio.Task[Any] | None = None  # in which handlers run
        self._tells: Source | None = teller_of(peer.websocket.scope)  # of the peer's leaving
        self._source: Arrivals | None = source_of(peer.websocket.scope, peer.receive)  # instead of ASGI's `receive`
        self._receiving = False  # in ASGI's `receive`, and in no handler
        self._ahead: ReadAhead | None = None  # the source on other servers, once a handler has waited for a while
        self._glance: asyncio.TimerHandle | None = None  # looks whether a handler waits still
        self._departure: Message | None = None  # the disconnect, once it is known
        self._grace: asyncio.TimerHandle | None = None  # from then on, until the handlers are cancelled
        self._until = 0.0  # when that is; not every loop's timers tell
        self._cut = False  # they were

    def run(self) -> Awaitable[int]:
        """Take messages until there are none any more. Gives the code that the connection was closed with."""
        if self._tells is None:
            return noting(self._take_all(), self._waits)
        self._task = asyncio.current_task()
        self._tells.watch(self)
        return self._take_all()

    async def _take_all(self) -> int:
        endpoint, peer = self.endpoint, self.peer
        receive = peer.receive
        frame: Any  # an ASGI message, or a text as it is
        message: Any = None  # what the frame was decoded to; of one that was refused later, the judgement
        noted: Route | None = None  # the route that is noted as being answered, if it is there without a `ref`
        refused = False
        while True:
            if self._source is None:
                self._receiving = True
                frame = await receive()
                self._receiving = False
            elif (frame := self._source.take()) is None:
                frame = await self._source.arrival()
            if type(frame) is not str:
                text = frame.get("text")
                if text is None:
                    if frame["type"] != "websocket.receive":
                        return peer.note_departure(frame)
                    text, noted = frame.get("bytes") or b"", None
                frame = text
                if peer.closed is not None:  # by a hub, say, while nothing came; our own server gives nothing then
                    return peer.closed
            try:
                message = self.definition.decoder.decode(frame)
            except UNDECODABLE:
                refused = True
            else:
                route = message.route
                ref = message.ref
                if ref is not None or route is not noted:  # noting it costs as much as decoding
                    begin_answer((peer, route, ref, type(frame), None))
                    noted = route if ref is None and type(frame) is str else None
                try:
                    value = message.call(endpoint, frame)
                    if route.awaited:
                        value = await value
                    if value is not None:
                        if (rest := self._reply(route, value, ref)) is not None:
                            await rest
                    elif ref is not None and route.framing.answers_requests:
                        await self._answer_with_null(ref)
                except Refused as exc:
                    refused, message = True, exc.judgement
                except asyncio.CancelledError as exc:
                    await self._answer(stray(exc))
                except Exception as exc:
                    await self._answer(exc)
            if refused:  # not within `except`, so that the answer's exception carries no other one along
                await self._judge(frame, message)
                refused, noted = False, None
            if peer.closed is not None:
                return peer.closed
            # The next message may be long in coming, and this one may be large.
            frame = message = value = None

    @property
    def streams(self) -> int:
        """Streams and uploads that run."""
        return 0

    # ---- the peer leaves

    def peer_left(self, message: Message) -> None:
        """This disconnect has come while a handler runs."""
        self.peer.tell_departure()
        self._departure = message
        grace_s = 0 if message.get("code") == SHUTDOWN_CODE else self.endpoint.disconnect_grace_s
        loop = asyncio.get_running_loop()
        self._until = loop.time() + grace_s
        self._grace = loop.call_at(self._until, self._cut_handlers)

    def _cut_handlers(self) -> None:
        """The handler is cancelled; what the peer had sent behind its message is not handled any more."""
        if self._departure is not None and self._task is not None:
            self._cut = True
            self.peer.closed = self.peer.note_departure(self._departure)
            self._task.cancel()

    def cut_code(self) -> int | None:
        """Of a task that was cancelled: the code, if it was since the peer is gone; None if it is somebody else's."""
        if not self._cut or self._task is None:
            return None
        self._cut = False
        return None if self._task.uncancel() else self.peer.closed

    def rest(self) -> None:
        """No handler runs any more: nobody is to be cancelled."""
        if self._tells is not None:
            self._tells.watch(None)
        for timer in (self._glance, self._grace):
            if timer is not None:
                timer.cancel()
        if self._cut and self._task is not None:  # and the handler did not care
            self._task.uncancel()

    def release(self) -> None:
        """Nothing is received any more, and nothing of this keeps the endpoint."""
        self._task = self._departure = None
        if self._ahead is not None:
            self.peer.receive_by(self._ahead.stop())
        self._source = self._tells = self._ahead = None

    # ---- the same where the server does not tell

    def watch(self) -> None:
        """From now on it is known at once when the peer leaves, whatever runs."""
        if self._receiving or self._tells is not None:
            return
        if self._source is None:
            self._ahead = self._source = ReadAhead(self.peer.receive, self.peer_left)
            self.peer.receive_by(self._ahead.arrival)
        if self._ahead is not None:
            self._ahead.begin()

    def _waits(self) -> None:
        """Called at each step of the task that does not end it."""
        if self._glance is None and not self._receiving:
            self._task = asyncio.current_task()
            self._glance = asyncio.get_running_loop().call_later(WATCH_S, self._look)

    def _look(self) -> None:
        self._glance = None
        self.watch()

    # ---- answers

    def _reply(self, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
        """Send a reply. None: it is sent, else what is to be awaited for that."""
        if self.responds:
            return respond_with_valid(self.endpoint.respond, route.encoder.validate(value))
        body = route.encode(value) if ref is None else route.encode_answer(value, ref)
        writer = self.peer.writer  # `peer.write`, unfolded: for each reply
        return None if writer is not None and writer.write(body) else self.peer.send_reply(body)

    def has_answer(self) -> bool:
        """Has the handler that has just ended answered by itself? Asked once, and only where nothing may have two."""
        return False

    def note_answer(self, record: Any) -> None:
        """A handler is about to answer by itself. Raises RuntimeError where that would be the second answer."""
        if self.endpoint.acknowledge:  # type: ignore[attr-defined]  # of any endpoint
            self.endpoint._answered.note(record)  # type: ignore[attr-defined]

    def drop(self, value: Any) -> None:
        """What a handler gives that has answered by itself, where nothing may have two answers."""

    async def _answer_with_null(self, ref: Ref) -> None:
        """Its handler gives nothing, and an envelope of requests and results demands an answer."""
        if not self.has_answer():
            body = self.definition.framing.with_ref(NULL_RESULT, ref)
            if not self.peer.write(body):
                await self.peer.send_reply(body)

    def prepare(self, value: Any) -> Any:
        """The reply to what is being answered, for `deliver`; None for none. Raises `ResponseError`."""
        if value is None:
            return None
        _, route, ref, _, _ = answering(self.peer) or NOTHING
        assert route is not None  # a handler has given the value
        if ref is None and self.definition.framing.answers_requests:
            return None
        return route.encoder.validate(value) if self.responds else self._body(route, value, ref)

    def _body(self, route: Route, value: Any, ref: Ref | None) -> bytes:
        return route.encode(value) if ref is None else route.encode_answer(value, ref)

    def deliver(self, reply: Any) -> Awaitable[None] | None:
        """Send it. None: it is sent, else what is to be awaited for that."""
        if self.responds:
            return respond_with_valid(self.endpoint.respond, reply)
        if collecting.get() is not None and type(reply) is not BinaryPayload:
            return self.peer.send_answer(reply)
        return self.write(reply)

    def write(self, body: bytes) -> Awaitable[None] | None:
        """A reply that is encoded. None: it is sent, else what is to be awaited for that."""
        peer = self.peer
        if type(body) is BinaryPayload:
            return None if peer.write_binary(body) else peer.send_binary_reply(body)
        return None if peer.write(body) else peer.send_reply(body)

    async def _judge(self, frame: Frame, judgement: Judgement | None) -> None:
        """The exact slow path, for a frame that the fast one refused; unless that has judged the frame already."""
        if judgement is None:
            try:
                message = self.definition.decoder.find(frame)
            except MessageError as exc:
                await self._answer_nameless(frame, exc)
                return
            except FrameError as exc:
                await self._answer(exc)
                return
            route, ref = message.route, message.ref
            begin_answer((self.peer, route, ref, type(frame), None))
            try:
                value = route.call_unread(message, self.endpoint, frame)
                if route.awaited:
                    value = await value
                if value is not None:
                    if (rest := self._reply(route, value, ref)) is not None:
                        await rest
                elif ref is not None and route.framing.answers_requests:
                    await self._answer_with_null(ref)
            except Refused as exc:
                judgement = exc.judgement
            except asyncio.CancelledError as exc:
                await self._answer(stray(exc))
            except Exception as exc:
                await self._answer(exc)
        if judgement is not None:
            begin_answer((self.peer, judgement.route, judgement.ref, type(frame), judgement.error))
            await self._answer(judgement.error, about_message=True)

    async def _answer_nameless(self, frame: Frame, error: MessageError) -> None:
        """Answer a message that no route is for, or that there were too many."""
        wrong = self._charge() or error
        begin_answer((self.peer, None, error.ref, type(frame), wrong))
        await self._answer(wrong)

    def _charge(self) -> Exception | None:
        """For a message that no handler is called for: what is answered instead, where there were too many."""
        if (charge := self.definition.charge) is not None:
            try:
                charge(self.endpoint)
            except Exception as refusal:
                return refusal
        return None

    async def _answer(self, exc: Exception, about_message: bool = False) -> None:
        """Answer an exception; the connection lives on, unless it says that it should not."""
        exc, peer = only(exc), self.peer
        if isinstance(exc, ENDS):
            await self._end_connection(exc)
            return
        # a ValidationError of the application's own code is a bug, and no news for the client
        if not isinstance(exc, _ANSWERS_ABOUT if about_message else ANSWERS) or isinstance(exc, ResponseError):
            self._log(exc)
        if peer.closed is not None or peer.gone:
            return
        try:
            await self.endpoint.send_exception(exc)
        except WebSocketDisconnect:
            if not peer.gone:
                raise
        except Exception as failure:
            self._log(failure)

    async def _end_connection(self, exc: Exception) -> None:
        """Close with what the exception says. Raises the one that says that the peer has left."""
        peer = self.peer
        if isinstance(exc, WebSocketException):
            await peer.close(exc.code, exc.reason)
        elif isinstance(exc, FrameError):
            said = peer.name, exc.reason, exc, exc.close_code
            extra = about(peer, self.endpoint) | {"event": None, "ref": None}  # those are of a message before
            logger.info("%s sent %s (%s): closed %d", *said, extra=extra)
            await peer.close(exc.close_code, exc.reason)
        else:
            raise exc

    def _log(self, exc: Exception) -> None:
        record = answering(self.peer)
        event = record[1].event if record and record[1] else None
        where = type(self.endpoint).__name__, event, self.peer.name
        extra = about(self.peer, self.endpoint)
        # one that is away is no fault of the application, and every client may ask meanwhile: no traceback
        if isinstance(exc, BackplaneUnavailable):
            logger.warning("%s: event %r of %s failed: %s", *where, exc, extra=extra)
        else:
            logger.error("%s: event %r of %s failed", *where, exc_info=exc, extra=extra)


def stray(exc: asyncio.CancelledError) -> Exception:
    """What a handler awaited was cancelled, which is an error of its own. Raises `exc` if this task is to end."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise exc
    error = RuntimeError("the handler awaited something that was cancelled")
    error.__cause__ = exc
    return error


def only(exc: Exception) -> Exception:
    """The exception that a task group wrapped, if it is the only one, or if all say that the peer is gone."""
    while isinstance(exc, ExceptionGroup) and (
        len(exc.exceptions) == 1 or all(isinstance(only(each), WebSocketDisconnect) for each in exc.exceptions)
    ):
        exc = exc.exceptions[0]
    return exc
