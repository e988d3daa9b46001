"""
The receive loops of endpoints with a `@binary` method: a reply to a binary frame may be bytes.

The other loops know nothing of that, and those who have no such method pay nothing for it.
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


class BinarySerial(Serial):
    """One message, or binary frame, at a time."""

    __slots__ = ()
    _reply = _reply


class BinaryConcurrent(Concurrent):
    """Binary frames take turns, as messages do that do not converse."""

    __slots__ = ()
    _reply = _reply


def loop_for(definition: Definition) -> type[Serial]:
    """The receive loop that an endpoint needs."""
    decoder = definition.decoder
    if decoder.binary is None:
        return Concurrent if decoder.converses else Serial
    return BinaryConcurrent if decoder.converses else BinarySerial
