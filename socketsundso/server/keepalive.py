"""
Pings, and what follows when nobody answers: how half-open connections are found.

One timer serves all connections of an event loop that have the same intervals: a timer for each would be a
twentieth of what an idle connection weighs. Since all wait equally long, who came first is due first.

A peer that is not heard because nobody reads is not dead: while the application keeps reading paused, its
pong may be waiting in the kernel, and the deadline moves on. So it does while a frame is coming in, since no
pong can overtake it, and while what was sent before the ping is still leaving: a large message over a slow line
takes longer than any sensible timeout.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import OrderedDict
from typing import Protocol


class Pinged(Protocol):
    """What keeps a connection alive sees of it."""

    @property
    def reading_paused(self) -> bool: ...
    @property
    def frame_progress(self) -> int: ...
    @property
    def buffered_bytes(self) -> int: ...
    def rest(self) -> None: ...
    def ping(self, payload: bytes) -> None: ...
    def peer_is_silent(self) -> None: ...


class Keepalive:
    """The pings of all connections of one event loop with the same intervals. No connection, no timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float, timeout_s: float | None) -> None:
        self._loop = loop
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._resting: OrderedDict[Pinged, float] = OrderedDict()  # until their next ping, which is at that time
        # the ping, until when to answer, how far the frame under way was, and what waited in front of the ping
        self._asked: OrderedDict[Pinged, tuple[bytes, float, int, int]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the timer fires: for what is due already uvloop's handle does not know

    def add(self, connection: Pinged) -> None:
        """Ping `connection` after one interval, and so on until `discard`."""
        self._resting[connection] = self._loop.time() + self._interval_s
        self._arm()

    def discard(self, connection: Pinged) -> None:
        """No further ping, no timeout."""
        self._resting.pop(connection, None)
        self._asked.pop(connection, None)
        if not self._resting and not self._asked and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pong(self, connection: Pinged, payload: bytes) -> bool:
        """The peer sent a pong: the right one starts the next interval, any other means nothing. Whether it is."""
        asked = self._asked.get(connection)
        if asked is None or asked[0] != payload:
            return False
        del self._asked[connection]
        self.add(connection)
        return True

    def _arm(self) -> None:
        first = [next(iter(self._resting.values()))] if self._resting else []
        if self._asked:
            first.append(next(iter(self._asked.values()))[1])
        if not first or (self._timer is not None and self._due <= min(first)):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = min(first)
        self._timer = self._loop.call_at(self._due, self._run)

    def _run(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._asked and next(iter(self._asked.values()))[1] <= now:
            self._check(*self._asked.popitem(last=False))
        while self._resting and next(iter(self._resting.values())) <= now:
            self._ask(self._resting.popitem(last=False)[0], now)
        self._arm()

    def _ask(self, connection: Pinged, now: float) -> None:
        payload = os.urandom(4)
        connection.rest()
        if self._timeout_s is None:
            self._resting[connection] = now + self._interval_s
        else:
            self._asked[connection] = (
                payload,
                now + self._timeout_s,
                connection.frame_progress,
                connection.buffered_bytes,
            )
        connection.ping(payload)

    def _check(self, connection: Pinged, asked: tuple[bytes, float, int, int]) -> None:
        payload, _, progress, buffered = asked
        now_progress, now_buffered = connection.frame_progress, connection.buffered_bytes
        lives = connection.reading_paused or now_progress != progress or now_buffered < buffered
        if self._timeout_s is not None and lives:
            self._asked[connection] = payload, self._loop.time() + self._timeout_s, now_progress, now_buffered
        else:
            connection.peer_is_silent()


Intervals = tuple[float, float | None]
_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Intervals, Keepalive]]
_of_loops = weakref.WeakKeyDictionary()


def keepalive_of(
    loop: asyncio.AbstractEventLoop, interval_s: float | None, timeout_s: float | None
) -> Keepalive | None:
    """The keepalive of `loop` with these intervals; None without an interval above 0."""
    if interval_s is None or not interval_s > 0:  # nor with NaN
        return None
    known = _of_loops.setdefault(loop, {})
    if (interval_s, timeout_s) not in known:
        known[interval_s, timeout_s] = Keepalive(loop, interval_s, timeout_s)
    return known[interval_s, timeout_s]
