"""
`RateLimit`: how many messages of one connection are let pass, by the generic cell rate algorithm (ITU-T I.371).

Of each connection and event one number is kept: the time up to which the steady rate is used up by what has passed. A
message moves it on by one interval, and is refused where that leads further ahead of the clock than the burst allows.
So nothing is kept of single messages, no timer runs, and how long to wait is known to who is refused.

Numbers are whole nanoseconds: a burst is exact, whatever the clock says.
"""

from __future__ import annotations

import math
from time import monotonic_ns
from typing import Any, Protocol

from starlette.exceptions import WebSocketException

from socketsundso.errors import DefinitionError, RateLimited

MOST_REFUSALS = 20
"""The so-manieth refusal without a message between that passed closes the connection."""
CLOSE_CODE = 4429

_SECOND = 1_000_000_000
_LONGEST_S = 366 * 24 * 3600


class Named(Protocol):
    """The part of a call that a limit looks at."""

    @property
    def event(self) -> str: ...


class RateLimit:
    """
    At most `n` messages in `per_s` seconds: of each connection, and as a guard of each event.

        rate_limit = RateLimit(100, per_s=10)                               # of a class: every frame counts

        @event(guards=[RateLimit(20, per_s=1, burst=40)])                   # of an event

    `burst`, `n` unless given, may come at once; from then on one message every `per_s / n` seconds. What is refused
    counts for nothing, and is answered with `retry_after_s`, the time until the next message passes:

        {"type":"error","code":"rate_limited","ref":7,"errors":[],"retry_after_s":0.42}

    The 20th refusal in a row closes with 4429. Raises `DefinitionError` for what is no limit.
    """

    __slots__ = ("_meters", "burst", "n", "per_s")

    def __init__(self, n: int, *, per_s: float, burst: int | None = None) -> None:
        self.n = _number_of_messages("n", n)
        self.per_s = _seconds(per_s)
        self.burst = self.n if burst is None else _number_of_messages("burst", burst)
        self._meters: dict[str | None, Meter] = {}
        if self._interval == 0:
            raise DefinitionError(f"{self!r} is more than one message in a nanosecond, which is no limit")

    def __repr__(self) -> str:
        return f"RateLimit({self.n}, per_s={self.per_s}, burst={self.burst})"

    @property
    def _interval(self) -> int:
        return int(self.per_s * _SECOND) // self.n

    def meter(self, event: str | None) -> Meter:
        """What measures one event of a connection; None: all that comes from it."""
        if event not in self._meters:
            self._meters[event] = Meter(self._interval, self.burst)
        return self._meters[event]

    def __call__(self, endpoint: Any, call: Named) -> None:
        """Let a message pass, as a guard does. Raises `RateLimited`, and what closes 4429."""
        self.meter(call.event).charge(endpoint)


class Meter:
    """Measures one thing of each connection; what has passed is kept on the endpoint, for as long as that lives."""

    __slots__ = ("_ahead", "_interval")

    def __init__(self, interval: int, burst: int) -> None:
        self._interval = interval
        self._ahead = interval * burst  # how far ahead of the clock the passed messages may lead

    def charge(self, endpoint: Any) -> None:
        """Let a message pass. Raises `RateLimited`, and what closes 4429."""
        used = endpoint._used
        state = used.get(self) if used is not None else None
        if state is None:
            state = _begin(endpoint, self)
        now = monotonic_ns()
        until = state[0]
        until = (until if until > now else now) + self._interval
        if until - now > self._ahead:
            _refuse(state, (until - now - self._ahead) / _SECOND)
        state[0] = until
        state[1] = 0


def refuse(endpoint: Any, limit: object, wait_s: float) -> None:
    """Refuse what has to wait by a limit that counts elsewhere; 0.0 passes. Raises as a `Meter` does."""
    state = (endpoint._used or {}).get(limit) or _begin(endpoint, limit)
    if wait_s:
        _refuse(state, wait_s)
    state[1] = 0


def _begin(endpoint: Any, limit: object) -> list[int]:
    if endpoint._used is None:
        endpoint._used = {}
    state = endpoint._used[limit] = [0, 0]  # the time that is used up, refusals in a row
    return state


def _refuse(state: list[int], wait_s: float) -> None:
    state[1] += 1
    if state[1] >= MOST_REFUSALS:
        raise WebSocketException(CLOSE_CODE, "rate limited")
    raise RateLimited(math.ceil(wait_s * 1000) / 1000)


def _number_of_messages(name: str, given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise DefinitionError(
            f"RateLimit: {name} is {given!r}; it is a number of messages, at least 1. One message in 10 seconds is "
            "RateLimit(1, per_s=10)"
        )
    return given


def _seconds(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= _LONGEST_S:
        raise DefinitionError(f"RateLimit: per_s is {given!r}; it is a number of seconds, above 0 and at most a year")
    return given


def check_rate_limit(owner: str, given: object) -> None:
    """Raises `DefinitionError` for what is no limit of a class."""
    if given is not None and not isinstance(given, RateLimit):
        raise DefinitionError(f"{owner}.rate_limit is {given!r}; it is a limit, RateLimit(100, per_s=10), or None")
