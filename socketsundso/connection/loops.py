"""
Which receive loop an endpoint needs, and those whose replies are no messages like others.

A reply to a binary frame may be bytes, where there is a `@binary` method; in an envelope that answers requests alone,
what has no `ref` has no reply. The other loops know nothing of that, and who has neither pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from socketsundso.connection.concurrent import Concurrent
from socketsundso.connection.serial import Serial
from socketsundso.messages import Definition, Ref, Route


def _reply(self: Serial, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
    """As `Serial._reply`."""
    if self.responds or not route.takes_frame:
        return Serial._reply(self, route, value, ref)
    return self.write(route.encode(value))


def _reply_to_requests(self: Serial, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
    """The same; nothing to what is no request."""
    if ref is None and not route.takes_frame:
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


class RequestsSerial(Serial):
    """One request, or notification, at a time."""

    __slots__ = ()
    _reply = _reply_to_requests


class RequestsConcurrent(Concurrent):
    """Requests of which several may be under way."""

    __slots__ = ()
    _reply = _reply_to_requests


def loop_for(definition: Definition) -> type[Serial]:
    """The receive loop that an endpoint needs."""
    decoder = definition.decoder
    if definition.framing.answers_requests:
        return RequestsConcurrent if decoder.converses else RequestsSerial
    if decoder.binary is not None:
        return BinaryConcurrent if decoder.converses else BinarySerial
    return Concurrent if decoder.converses else Serial
