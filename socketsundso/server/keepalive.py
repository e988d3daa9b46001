"""
Pings, and what follows when nobody answers: how half-open connections are found.

A peer that is not heard because nobody reads is not dead: while the application keeps reading paused, its
pong may be waiting in the kernel, and the deadline moves on.
"""

from __future__ import annotations

import asyncio
import os
from typing import Protocol


class Pinged(Protocol):
    """What keeps a connection alive sees of it."""

    @property
    def reading_paused(self) -> bool: ...
    def ping(self, payload: bytes) -> None: ...
    def peer_is_silent(self) -> None: ...


class Keepalive:
    """The pings of one connection. One timer at a time, none after `stop`."""

    __slots__ = ("_connection", "_interval_s", "_loop", "_sent", "_timeout_s", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Pinged,
        *,
        interval_s: float | None,
        timeout_s: float | None,
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._sent: bytes | None = None  # the payload of the ping that has no answer yet
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Send the first ping after one interval; no pings at all without an interval."""
        if self._interval_s:
            self._timer = self._loop.call_later(self._interval_s, self._send)

    def stop(self) -> None:
        """No further ping, no timeout."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sent = None

    def pong(self, payload: bytes) -> None:
        """The peer sent a pong: the right one starts the next interval, any other means nothing."""
        if payload == self._sent:
            self._sent = None
            if self._timeout_s is not None:
                self.stop()
                self.start()

    def _send(self) -> None:
        self._sent = os.urandom(4)
        self._connection.ping(self._sent)
        if self._timeout_s is None:
            self.start()
        else:
            self._timer = self._loop.call_later(self._timeout_s, self._check)

    def _check(self) -> None:
        if self._connection.reading_paused:
            self._timer = self._loop.call_later(self._timeout_s or 0, self._check)
        else:
            self.stop()
            self._connection.peer_is_silent()
