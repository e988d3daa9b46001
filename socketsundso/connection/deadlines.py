"""
What closes a connection by the clock: who has not signed in by then, whose sign-in has expired, who says nothing.

One timer per connection, and only where something is waited for. The times may move while it runs: when it rings, it
asks what is left, and comes back then. So noting that a peer has said something is all that a message costs.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar, NamedTuple, Protocol

from socketsundso.connection.peer import Peer
from socketsundso.errors import DefinitionError
from socketsundso.messages import is_duration

_LONGEST_WAIT_S = 24 * 3600.0
"""The wall clock may be set meanwhile, and no event loop promises more."""

Expiry = datetime | float | None
"""An aware datetime, or seconds since 1970; None: never."""


class Timed(Protocol):
    """What a connection's endpoint says of its times."""

    user: Any
    authenticate_within_s: ClassVar[float | None]
    idle_timeout_s: ClassVar[float | None]

    @property
    def user_expires_at(self) -> Expiry: ...


class _Left(NamedTuple):
    """Why a connection will be closed, and in how many seconds."""

    seconds: float
    code: int
    reason: str


class Deadlines:
    """The times of one accepted connection, until `end`. Once one is over, the peer is closed."""

    __slots__ = ("_answering", "_endpoint", "_heard", "_loop", "_peer", "_sign_in_by", "_timer")

    def __init__(self, endpoint: Timed, peer: Peer) -> None:
        now = time.monotonic()
        self._endpoint, self._peer = endpoint, peer
        self._loop = asyncio.get_running_loop()
        within_s = endpoint.authenticate_within_s
        self._sign_in_by = None if within_s is None else now + within_s  # None once that was done in time
        self._heard = now  # when the peer last said something, or was answered
        self._answering = 0  # answers that it waits for
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Close if a time is over, else come back when the next one may be."""
        self.end()
        if self._peer.over is not None:
            return
        left = min(self._lefts(), default=None)
        if left is None:
            return
        if left.seconds > 0:
            self._timer = self._loop.call_later(min(left.seconds, _LONGEST_WAIT_S), self.look)
        else:
            self._peer.close_soon(left.code, left.reason)

    def end(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def heard(self) -> None:
        """The peer has said something."""
        self._heard = time.monotonic()

    def answer_begins(self) -> None:
        """The peer waits for an answer, and is not idle until `answer_ends`."""
        self._answering += 1

    def answer_ends(self) -> None:
        self._answering -= 1
        self.heard()

    def _lefts(self) -> Iterator[_Left]:
        endpoint, now = self._endpoint, time.monotonic()
        expiry = endpoint.user_expires_at
        if expiry is not None:
            yield _Left(seconds_since_1970(expiry) - time.time(), 4401, "the sign-in has expired")
        if self._sign_in_by is not None:
            if endpoint.user is not None and now >= self._sign_in_by:
                self._sign_in_by = None
            else:
                yield _Left(self._sign_in_by - now, 4401, "not signed in")
        if endpoint.idle_timeout_s is not None:
            since = now if self._answering else self._heard
            yield _Left(since + endpoint.idle_timeout_s - now, 4408, "idle")


def seconds_since_1970(expiry: datetime | float) -> float:
    """Raises TypeError or ValueError for what is no time."""
    if isinstance(expiry, datetime):
        if expiry.utcoffset() is None:
            raise ValueError(
                f"user_expires_at is {expiry!r}, which without a time zone names no time; give an aware datetime, "
                "such as datetime.now(UTC) + timedelta(hours=1), or seconds since 1970"
            )
        return expiry.timestamp()
    if isinstance(expiry, bool) or not isinstance(expiry, int | float):
        raise TypeError(f"user_expires_at is {expiry!r}; it is an aware datetime, seconds since 1970, or None")
    seconds = float(expiry)
    if math.isnan(seconds) or _MOST_SECONDS < seconds < math.inf:
        raise ValueError(f"user_expires_at is {expiry!r}; it is in seconds since 1970, not in milliseconds")
    return seconds


_MOST_SECONDS = 1e11
"""The year 5138; who gives more has most likely read a clock of JavaScript's."""


def check_seconds(owner: str, name: str, given: object) -> None:
    """Raises `DefinitionError` for what is no time to wait."""
    if given is not None and not is_duration(given):
        raise DefinitionError(f"{owner}.{name} is {given!r}; it is a number of seconds above 0, or None for no bound")
