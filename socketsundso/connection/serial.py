"""
The receive loop: one message at a time, in the connection's own task.

A message is taken when the handler before it is done, so nothing queues in here; the server holds back a peer that
sends faster. The loop calls ASGI's `receive` and `send` itself, or what our own server has instead (`wire`), since the
checks of Starlette's `WebSocket` cost a tenth of a round trip.

In: a `Peer`, and what the endpoint's class declares, compiled. Out: calls of handlers, and answers. Knows no room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Protocol

from pydantic_core import ValidationError
from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocketDisconnect

from socketsundso.connection.current import NOTHING, answering, begin_answer, respond_with_valid
from socketsundso.connection.peer import Peer
from socketsundso.errors import BackplaneUnavailable, EventError, FrameError
from socketsundso.messages import (
    UNDECODABLE,
    Definition,
    Frame,
    Judgement,
    MessageError,
    Ref,
    Refused,
    ResponseError,
    Route,
    append_ref,
)
from socketsundso.wire import source_of

logger = logging.getLogger("socketsundso")

_ANSWERS = (EventError, HTTPException)  # what handlers raise to answer with; anything else is logged
_ENDS = (WebSocketDisconnect, WebSocketException, FrameError)  # what ends the connection
_ANSWERS_ABOUT = (ValidationError, *_ANSWERS)  # the same for what is found wrong with a message


class Answers(Protocol):
    """What the loop calls of an endpoint beside its handlers."""

    async def respond(self, response: Any) -> None: ...
    async def send_exception(self, exc: Exception) -> None: ...


class Serial:
    """
    The loop of one connection.

    `definition` may be exchanged between two messages. `responds` says that the endpoint has a `respond` of its own,
    which replies go through then.
    """

    __slots__ = ("definition", "endpoint", "peer", "responds")

    def __init__(self, endpoint: Answers, peer: Peer, definition: Definition, responds: bool) -> None:
        self.endpoint, self.peer, self.definition, self.responds = endpoint, peer, definition, responds

    async def run(self) -> int:
        """Take messages until there are none any more. Gives the code that the connection was closed with."""
        endpoint, peer = self.endpoint, self.peer
        receive = peer.receive
        source = source_of(peer.websocket.scope, receive)
        frame: Any  # an ASGI message, or a text as it is
        message: Any = None  # what the frame was decoded to; of one that was refused later, the judgement
        noted: Route | None = None  # the route that is noted as being answered, if it is there without a `ref`
        while True:
            if source is None:
                frame = await receive()
            elif (frame := source.take()) is None:
                frame = await source.arrival()
            if type(frame) is not str:
                if frame["type"] != "websocket.receive":
                    return peer.note_departure(frame)
                text = frame.get("text")
                if text is None:
                    text, noted = frame.get("bytes") or b"", None
                frame = text
            if peer.closed is not None:  # by somebody else, while nothing came
                return peer.closed
            refused = False
            try:
                message = self.definition.decoder.decode(frame)
            except UNDECODABLE:
                refused = True
            else:
                route, ref = message.route, message.ref
                if ref is not None or route is not noted:  # noting it costs as much as decoding
                    begin_answer((peer, route, ref, type(frame), None))
                    noted = route if ref is None and type(frame) is str else None
                try:
                    value = message.call(endpoint, frame)
                    if route.awaited:
                        value = await value
                    if value is not None and (rest := self._reply(route, value, ref)) is not None:
                        await rest
                except Refused as exc:
                    refused, message = True, exc.judgement
                except asyncio.CancelledError as exc:
                    await self._answer(_stray(exc))
                except Exception as exc:
                    await self._answer(exc)
            if refused:  # not within `except`, so that the answer's exception carries no other one along
                await self._judge(frame, message)
                noted = None
            if peer.closed is not None:
                return peer.closed
            # The next message may be long in coming, and this one may be large.
            frame = message = value = None

    def _reply(self, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
        """Send a reply. None: it is sent, else what is to be awaited for that."""
        if self.responds:
            return respond_with_valid(self.endpoint.respond, route.encoder.validate(value))
        body = route.encode(value)
        if ref is not None:
            body = append_ref(body, self.definition.ref_key, ref)
        peer = self.peer
        writer = peer.writer
        return None if writer is not None and writer.write(body) else peer.send_reply(body)

    def prepare(self, value: Any) -> Any:
        """The reply to what is being answered, for `deliver`. Raises `ResponseError`."""
        _, route, ref, _, _ = answering(self.peer) or NOTHING
        assert route is not None  # a handler has given the value
        if self.responds:
            return route.encoder.validate(value)
        body = route.encode(value)
        return body if ref is None else append_ref(body, self.definition.ref_key, ref)

    def deliver(self, reply: Any) -> Awaitable[None] | None:
        """Send it. None: it is sent, else what is to be awaited for that."""
        if self.responds:
            return respond_with_valid(self.endpoint.respond, reply)
        writer = self.peer.writer
        return None if writer is not None and writer.write(reply) else self.peer.send_reply(reply)

    async def _judge(self, frame: Frame, judgement: Judgement | None) -> None:
        """The exact slow path, for a frame that the fast one refused; unless that has judged the frame already."""
        peer = self.peer
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
            begin_answer((peer, route, ref, type(frame), None))
            try:
                value = route.call_unread(message, self.endpoint, frame)
                if route.awaited:
                    value = await value
                if value is not None and (rest := self._reply(route, value, ref)) is not None:
                    await rest
            except Refused as exc:
                judgement = exc.judgement
            except asyncio.CancelledError as exc:
                await self._answer(_stray(exc))
            except Exception as exc:
                await self._answer(exc)
        if judgement is not None:
            begin_answer((peer, judgement.route, judgement.ref, type(frame), judgement.error))
            await self._answer(judgement.error, about_message=True)

    async def _answer_nameless(self, frame: Frame, error: MessageError) -> None:
        """Answer a message that no route is for, or that there were too many."""
        wrong: Exception = error
        if (charge := self.definition.charge) is not None:
            try:
                charge(self.endpoint)
            except Exception as refusal:
                wrong = refusal
        begin_answer((self.peer, None, error.ref, type(frame), wrong))
        await self._answer(wrong)

    async def _answer(self, exc: Exception, about_message: bool = False) -> None:
        """Answer an exception; the connection lives on, unless it says that it should not."""
        exc, peer = _only(exc), self.peer
        if isinstance(exc, _ENDS):
            await self._end(exc)
            return
        # a ValidationError of the application's own code is a bug, and no news for the client
        if not isinstance(exc, _ANSWERS_ABOUT if about_message else _ANSWERS) or isinstance(exc, ResponseError):
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

    async def _end(self, exc: Exception) -> None:
        """Close with what the exception says. Raises the one that says that the peer has left."""
        peer = self.peer
        if isinstance(exc, WebSocketException):
            await peer.close(exc.code, exc.reason)
        elif isinstance(exc, FrameError):
            logger.info("%s sent %s (%s): closed %d", peer.name, exc.reason, exc, exc.close_code)
            await peer.close(exc.close_code, exc.reason)
        else:
            raise exc

    def _log(self, exc: Exception) -> None:
        record = answering(self.peer)
        event = record[1].event if record and record[1] else None
        where = type(self.endpoint).__name__, event, self.peer.name
        # one that is away is no fault of the application, and every client may ask meanwhile: no traceback
        if isinstance(exc, BackplaneUnavailable):
            logger.warning("%s: event %r of %s failed: %s", *where, exc)
        else:
            logger.error("%s: event %r of %s failed", *where, exc_info=exc)


def _stray(exc: asyncio.CancelledError) -> Exception:
    """What a handler awaited was cancelled, which is an error of its own. Raises `exc` if this task is to end."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise exc
    error = RuntimeError("the handler awaited something that was cancelled")
    error.__cause__ = exc
    return error


def _only(exc: Exception) -> Exception:
    """The exception that a task group wrapped, if it is the only one, or if all say that the peer is gone."""
    while isinstance(exc, ExceptionGroup) and (
        len(exc.exceptions) == 1 or all(isinstance(_only(each), WebSocketDisconnect) for each in exc.exceptions)
    ):
        exc = exc.exceptions[0]
    return exc
