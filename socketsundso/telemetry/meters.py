"""
What comes and goes of one event, and how long its handler takes: plain numbers, put around a compiled route.

Taking times and adding up costs more than a small message does. So where an event comes more often than `OFTEN`, some
hundred calls a second are looked at, and each stands for those before it; how many messages came is exact. For the
others a meter is an attribute that counts down.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketDisconnect

from socketsundso.errors import EventError
from socketsundso.messages import CallMessage, Encodes, Frame, Refused, Route, lines_before, size_of
from socketsundso.telemetry.families import Histogram
from socketsundso.telemetry.streaming import Over, watched

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: what a call took is counted up to each of them."""

OFTEN = 1000
"""Messages of an event a second; of one that comes more often not every call is looked at."""

LOOKS = 100
"""So many of them are, a second."""

ONE_IN = 256
"""At least one in so many is."""

WINDOW = 64
"""Messages after which it is looked again how often an event comes."""


class Times:
    """How long calls take: by how they end, or by name."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def note(self, name: str, took: float, weight: int = 1) -> None:
        """A call took so many seconds; it stands for `weight` of them."""
        self._counts[name][bisect_left(BOUNDS, took)] += weight
        self._seconds[name] += took * weight

    @contextlib.contextmanager
    def taking(self, name: str = "") -> Iterator[None]:
        """The block is a call; without a name it counts by its outcome."""
        outcome, begun = "ok", perf_counter()
        try:
            yield
        except BaseException as exc:
            outcome = outcome_of(exc)
            raise
        finally:
            self.note(name or outcome, perf_counter() - begun)

    def until_over(self) -> Over:
        """A stream begins: a call that ends with its last item, and is cancelled where it is closed before that."""
        begun, noted = perf_counter(), False

        def over(exc: BaseException | None) -> None:
            nonlocal noted
            if not noted:
                noted = True
                ended = isinstance(exc, StopIteration | StopAsyncIteration)
                outcome = "cancelled" if exc is None else "ok" if ended else outcome_of(exc)
                self.note(outcome, perf_counter() - begun)

        return over

    def read(self) -> dict[str, Histogram]:
        return {name: Histogram(tuple(each), self._seconds[name]) for name, each in dict(self._counts).items()}


def outcome_of(exc: BaseException) -> str:
    """Fields that are not valid, an end that came early, an answer that is meant, or anything else that was raised."""
    if isinstance(exc, Refused):
        return "invalid"
    if isinstance(exc, asyncio.CancelledError | GeneratorExit | WebSocketDisconnect):
        return "cancelled"
    return "refused" if isinstance(exc, EventError | HTTPException) else "failed"


_COUNTING = (
    "if _left := _meter._left - 1:",
    "    _meter._left = _left",
    "else:",
    "    return _look(message, endpoint, frame)",
)
"""What `Meter` puts before a call that was generated, which has these three arguments."""


class Meter:
    """What comes and goes of one event, and how long its handler takes."""

    __slots__ = (
        "_counted", "_left", "_routes", "_span", "_stride", "_times", "_window", "_window_began", "received_bytes",
        "sent", "sent_bytes", "slow",
    )  # fmt: skip

    def __init__(self) -> None:
        self.received_bytes = self.sent = self.sent_bytes = 0
        self.slow = 0  # messages that pydantic had to read whole
        self._counted = 0  # messages that were looked at, and those that they stand for
        self._stride = 1  # one in so many is looked at
        self._span = self._left = 1  # the next of them stands for so many; how many of these are still to come
        self._window, self._window_began = 0, 0.0
        self._times = Times()
        self._routes: weakref.WeakSet[Route] = weakref.WeakSet()

    def attach(self, route: Route) -> None:
        """From now on what passes through this route is counted: once, whoever asks for it."""
        if route in self._routes:
            return
        self._routes.add(route)
        awaited, turns = route.awaited, route.conduct is not None and route.conduct.key is not None
        if route.apart == "stream":  # its call gives an iterator at once
            route.encode = self._counting(route.encode)
            route.put_before(self._streamed, awaited=awaited)
        elif awaited and not turns:
            replies = _Replies(self, route)
            route.put_before(functools.partial(self._sampled, replies), awaited=True)
        else:
            _Replies(self, route)
            route.put_before(functools.partial(self._timed, awaited), awaited=awaited, waits=True)
            route.put_before(self._received, awaited=awaited)
        route.exact = self._slowly(route.exact)  # type: ignore[assignment, method-assign]  # its own

    def _sampled(self, replies: _Replies, inner: CallMessage) -> CallMessage:
        meter = self

        async def looked_at(message: Any, endpoint: Any, frame: Frame, weight: int) -> Any:
            begun = meter._receive(frame, weight)
            replies.expect(weight)
            outcome, value = "ok", None
            try:
                value = await inner(message, endpoint, frame)
            except BaseException as exc:
                outcome = outcome_of(exc)
                raise
            finally:
                meter._times.note(outcome, perf_counter() - begun, weight)
                if value is None:
                    replies.expect_none()
            return value

        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            left = meter._left - 1
            if left:  # nothing else for most messages: benchmarks/test_telemetry.py
                meter._left = left
                return inner(message, endpoint, frame)
            return look(message, endpoint, frame)

        def look(message: Any, endpoint: Any, frame: Frame) -> Any:
            weight = meter._span
            meter._span = meter._left = meter._stride
            return looked_at(message, endpoint, frame, weight)

        return lines_before(inner, _COUNTING, {"_meter": meter, "_look": look}) or call

    def _streamed(self, inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            self._receive(frame, 1)
            over = self._times.until_over()
            try:
                items = inner(message, endpoint, frame)
            except BaseException as exc:
                over(exc)
                raise
            return watched(items, over)

        return call

    def _counting(self, encode: Callable[[Any], bytes]) -> Any:
        def counted(value: Any) -> bytes:
            body = encode(value)
            self.sent += 1
            self.sent_bytes += len(body)
            return body

        return counted

    def _received(self, inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            self._receive(frame, 1)
            return inner(message, endpoint, frame)

        return call

    def _timed(self, awaited: bool, inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            with self._times.taking():
                return inner(message, endpoint, frame)

        async def call_and_wait(message: Any, endpoint: Any, frame: Frame) -> Any:
            with self._times.taking():
                return await inner(message, endpoint, frame)

        return call_and_wait if awaited else call

    def _slowly(self, exact: Callable[[Frame], dict[str, Any]]) -> Callable[[Frame], dict[str, Any]]:
        def counted(frame: Frame) -> dict[str, Any]:
            self.slow += 1
            return exact(frame)

        return counted

    def _receive(self, frame: Frame, weight: int) -> float:
        """Gives the time."""
        self._counted += weight
        self.received_bytes += weight * size_of(frame)
        self._window += weight
        now = perf_counter()
        if self._window >= WINDOW:
            self._stride = _stride(self._window, now - self._window_began)
            self._window, self._window_began = 0, now
            if self._stride == 1:
                self._look_at_next()
        return now

    @property
    def often(self) -> bool:
        """It comes so often that not every message is looked at."""
        return self._stride > 1

    @property
    def received(self) -> int:
        return self._counted + self._span - self._left

    def seconds(self) -> dict[str, Histogram]:
        """By outcome. The next message is looked at, so that nothing that is over stays untold for long."""
        self._look_at_next()
        return self._times.read()

    def _look_at_next(self) -> None:
        self._span, self._left = self._span - self._left + 1, 1


def _stride(messages: int, seconds: float) -> int:
    """One in how many is looked at, where so many come in so much time."""
    if messages <= seconds * OFTEN:
        return 1
    return min(ONE_IN, int(messages / (seconds * LOOKS))) if seconds else ONE_IN


class _Replies:
    """
    The replies of one route: all are counted, or, of an event that comes often, those to messages that are looked at.

    In between the route encodes as if nobody counted.
    """

    def __init__(self, meter: Meter, route: Route) -> None:
        self._meter, self._route, self._plain = meter, route, route.encode
        self._plain_answer = route.encode_answer
        self._owed = 0  # how many the next one stands for besides itself
        self._encode = self._count_some
        self._count_next()
        route.encoder = _Counted(route.encoder, self)

    def expect(self, weight: int) -> None:
        """The answer to what is looked at is next."""
        self._owed += weight - 1
        self._count_next()

    def _count_next(self) -> None:
        self._route.encode, self._route.encode_answer = self._encode, self._route.encode_with_ref

    def expect_none(self) -> None:
        """There is none, or it was given by `respond`."""
        self._owed = 0

    def _count_some(self, value: Any) -> bytes:
        body, weight = self._plain(value), 1 + self._owed
        if self._meter.often:
            self._route.encode, self._route.encode_answer = self._plain, self._plain_answer
        self._owed = 0
        self.count(body, weight)
        return body

    def count(self, body: bytes, weight: int = 1) -> None:
        self._meter.sent += weight
        self._meter.sent_bytes += weight * len(body)


class _Counted:
    """An encoder for who replies by `respond`: a value that is valid already goes to it, not to the route."""

    def __init__(self, encoder: Encodes, replies: _Replies) -> None:
        self._encoder, self._replies = encoder, replies
        self.encode, self.validate = encoder.encode, encoder.validate

    def encode_valid(self, value: Any) -> bytes:
        body = self._encoder.encode_valid(value)
        self._replies.count(body)
        return body
