"""
Which receive loop an endpoint needs, and those whose replies are no messages like others.

A reply to a binary frame may be bytes, where there is a `@binary` method; in an envelope that answers requests alone,
what has no `ref` has no reply. The other loops know nothing of that, and who has neither pays nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from socketsundso.connection.concurrent import Concurrent
from socketsundso.connection.current import answered_in, answering, collecting, respond_with_valid
from socketsundso.connection.lines import about
from socketsundso.connection.serial import ANSWERS, ENDS, Serial, logger, only
from socketsundso.messages import Definition, Ref, Route


def _reply(self: Serial, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
    """As `Serial._reply`."""
    if self.responds or not route.takes_frame:
        return Serial._reply(self, route, value, ref)
    return self.write(route.encode(value))


def _reply_to_requests(self: Serial, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
    """The same; nothing to what is no request, nor a second time."""
    if ref is None or self.responds or "_answered" in self.endpoint.__dict__:
        return _reply_once(self, route, value, ref)
    body = route.encode_answer(value, ref)
    writer = self.peer.writer  # `Serial._reply`, unfolded: for each reply
    return None if writer is not None and writer.write(body) else self.peer.send_reply(body)


def _reply_once(self: Serial, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
    if ref is None and not route.takes_frame:
        return None
    if "_answered" in vars(self.endpoint) and self.has_answer():
        self.drop(value)
        return None
    if self.responds:
        return self.respond(route, value)  # type: ignore[attr-defined,no-any-return]  # of `_Requests`
    return _reply(self, route, value, ref)


class BinarySerial(Serial):
    """One message, or binary frame, at a time."""

    __slots__ = ()
    _reply = _reply


class BinaryConcurrent(Concurrent):
    """Binary frames take turns, as messages do that do not converse."""

    __slots__ = ()
    _reply = _reply

    def _reply_soon(self, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
        """What may be bytes is not joined with texts."""
        return self._reply(route, value, ref) if route.takes_frame else super()._reply_soon(route, value, ref)


class _Requests(Serial):
    """Of an envelope in which each request has one answer, and nothing else has any."""

    __slots__ = ()
    endpoint: Any
    _reply = _reply_to_requests

    def has_answer(self) -> bool:
        return self.endpoint._answered.take(answering(self.peer))  # type: ignore[no-any-return]  # of any endpoint

    def note_answer(self, record: Any) -> None:
        if record[2] is None:  # what answers a binary frame
            return
        if record in self.endpoint._answered:
            raise RuntimeError(
                f"{record[1].event if record[1] else 'this message'!r} has its answer already, and a request has one: "
                "`send` is for what comes beside it"
            )
        self.endpoint._answered.note(record)

    def drop(self, value: Any) -> None:
        if value is not None:
            self._log_unsaid("it has answered by `respond`, and what it returned besides is not sent")

    async def respond(self, route: Route, value: Any) -> None:
        """Reply through the endpoint's own `respond`, which notes that it does."""
        try:
            await respond_with_valid(self.endpoint.respond, route.encoder.validate(value))
        finally:
            self.has_answer()

    def prepare(self, value: Any) -> Any:
        if answering(self.peer) in self.endpoint._answered:
            self.drop(value)
            return None
        return super().prepare(value)

    def deliver(self, reply: Any) -> Awaitable[None] | None:
        rest = super().deliver(reply)
        if rest is not None and self.responds:
            return self._noting(rest)
        self.endpoint._answered.note(answering(self.peer))
        return rest

    async def _noting(self, respond: Awaitable[None]) -> None:
        """An override of `respond` need not go through ours, which notes that it answers."""
        await respond
        self.endpoint._answered.note(answering(self.peer))

    async def _answer(self, exc: Exception, about_message: bool = False) -> None:
        exc = only(exc)
        if self.has_answer() and not isinstance(exc, ENDS):
            self._log_unsaid("it has answered by `respond` before it failed, and nobody is told of", exc)
            return
        await super()._answer(exc, about_message)
        self.has_answer()  # for which a `send_exception` may have used `respond`

    def _log_unsaid(self, what: str, exc: Exception | None = None) -> None:
        record = answering(self.peer)
        event = record[1].event if record and record[1] else None
        told = (type(self.endpoint).__name__, event, self.peer.name, what, "" if exc is None else f" {exc!r}")
        bug = exc if exc is not None and not isinstance(exc, ANSWERS) else None
        logger.error("%s: event %r of %s: %s%s", *told, exc_info=bug, extra=about(self.peer, self.endpoint))


class RequestsSerial(_Requests):
    """One request, or notification, at a time."""

    __slots__ = ()


class RequestsConcurrent(_Requests, Concurrent):
    """Requests of which several may be under way."""

    __slots__ = ()

    def _reply_soon(self, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
        """What is written without a second look is the only answer of a request."""
        if ref is None or "_answered" in vars(self.endpoint):
            return self._reply(route, value, ref)
        return super()._reply_soon(route, value, ref)

    def has_answer(self) -> bool:
        has = super().has_answer()
        if has and (self._backlog is None or asyncio.current_task() is self._task):
            self._is_answered = False  # it was, before the end of the handler whose turn it is
        return has

    def note_answer(self, record: Any) -> None:
        super().note_answer(record)
        ref, wrong = record[2], record[4]
        if ref is None or wrong is not None:  # one that is refused may have the `id` of another
            return
        if (batch := collecting.get()) is not None:
            batch.settle(record)
        elif (request := self._active.get(ref)) is not None:
            if request.record is record:  # and not one that had this `id` before, and answers late
                self._settle(request)
        elif self._handled is not None and answered_in(self._entered) is record:
            self._settle_turn()

    async def _send(self, body: bytes, ref: Ref) -> None:
        if collecting.get() is None:
            await super()._send(body, ref)
        else:  # null, to a request of a batch
            framing = self.definition.framing
            await self.peer.send_answer(framing.with_ref(framing.frame(body), ref))


def loop_for(definition: Definition) -> type[Serial]:
    """The receive loop that an endpoint needs."""
    decoder = definition.decoder
    if definition.framing.answers_requests:
        return RequestsConcurrent if decoder.converses else RequestsSerial
    if decoder.binary is not None:
        return BinaryConcurrent if decoder.converses else BinarySerial
    return Concurrent if decoder.converses else Serial
