"""
Which receive loop an endpoint needs, and those whose replies are no messages like others.

A reply to a binary frame may be bytes, where there is a `@binary` method; in an envelope that answers requests alone,
what has no `ref` has no reply. The other loops know nothing of that, and who has neither pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from socketsundso.connection.concurrent import Concurrent
from socketsundso.connection.current import answering, collecting
from socketsundso.connection.serial import Serial
from socketsundso.messages import Definition, Ref, Route


def _reply(self: Serial, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
    """As `Serial._reply`."""
    if self.responds or not route.takes_frame:
        return Serial._reply(self, route, value, ref)
    return self.write(route.encode(value))


def _reply_to_requests(self: Serial, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
    """The same; nothing to what is no request, nor a second time."""
    if (ref is None and not route.takes_frame) or ("_answered" in vars(self.endpoint) and self.has_answer()):
        return None
    return _reply(self, route, value, ref)


class BinarySerial(Serial):
    """One message, or binary frame, at a time."""

    __slots__ = ()
    _reply = _reply


class BinaryConcurrent(Concurrent):
    """Binary frames take turns, as messages do that do not converse."""

    __slots__ = ()
    _reply = _reply


class _Requests(Serial):
    """Of an envelope in which each request has one answer, and nothing else has any."""

    __slots__ = ()
    endpoint: Any
    _reply = _reply_to_requests

    def has_answer(self) -> bool:
        return self.endpoint._answered.take(answering(self.peer))  # type: ignore[no-any-return]  # of any endpoint

    def deliver(self, reply: Any) -> Awaitable[None] | None:
        self.endpoint._answered.note(answering(self.peer))
        return super().deliver(reply)

    async def _answer(self, exc: Exception, about_message: bool = False) -> None:
        self.has_answer()  # an error is told in spite of it
        await super()._answer(exc, about_message)


class RequestsSerial(_Requests):
    """One request, or notification, at a time."""

    __slots__ = ()


class RequestsConcurrent(_Requests, Concurrent):
    """Requests of which several may be under way."""

    __slots__ = ()

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
