"""
What is counted of endpoints, in plain numbers. `Tally.read` gives all of it.

A `Meter` belongs to one event of one class. It puts itself around the event's call and its encoder when the class is
compiled. Taking times and adding up costs a tenth of what a small message does; so where an event comes more often than
`OFTEN`, one call in `ONE_IN` is looked at, and stands for those before it. How many messages came is exact.

What is open, runs or waits is not counted at all: it is asked for, from all connections, when somebody reads. Labels
are names that the application declares; whatever a peer can choose is one of a few, or `OTHER`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from types import MappingProxyType
from typing import Any

from starlette.exceptions import HTTPException

from socketsundso.errors import EventError
from socketsundso.messages import CallMessage, Encodes, Frame, MessageError, Refused, Route, code_of, size_of
from socketsundso.observing import Load, Observer
from socketsundso.rooms import Rooms, rooms_in_use
from socketsundso.telemetry.families import Family, Histogram, Labels

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: what a handler took is counted up to each of them."""

UNKNOWN = "(unknown)"
"""In place of the event of a message that no handler is for."""

OTHER = "(other)"
"""In place of a value that would be one too many."""

MOST_CODES = 100
"""Codes of error frames by endpoint: applications may make them at run time."""

OUTCOMES = ("ok", "invalid", "refused", "failed", "cancelled")
"""
How a handler's call ends: with a value, with fields that are not valid, with an `EventError` or `HTTPException`, with
anything else that it raised, or cancelled.
"""


OFTEN = 1000
"""Messages of an event a second; of one that comes more often not every call is looked at."""

ONE_IN = 16
WINDOW = 64
"""Messages after which it is looked again how often an event comes."""


class Meter:
    """What comes and goes of one event, and how long its handler takes."""

    __slots__ = (
        "_counted", "_counts", "_seconds", "_since", "_stride", "_window", "_window_began", "received_bytes", "sent",
        "sent_bytes", "slow",
    )  # fmt: skip

    def __init__(self) -> None:
        self.received_bytes = self.sent = self.sent_bytes = 0
        self.slow = 0  # messages that pydantic had to read whole
        self._counted = 0  # messages that were looked at, and those that they stand for
        self._since = 0  # that have come since
        self._stride = 1  # one in so many is looked at
        self._window, self._window_began = 0, 0.0
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))  # by outcome
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def attach(self, route: Route) -> None:
        """From now on what passes through this route is counted."""
        replies = _Replies(self, route)
        awaited, turns = route.awaited, route.conduct is not None and route.conduct.key is not None
        streams = route.apart == "stream"  # its call gives an iterator at once
        if awaited and not turns and not streams:
            route.put_before(functools.partial(self._sampled, replies), awaited=True)
        else:
            if not streams:
                route.put_before(functools.partial(self._timed, awaited), awaited=awaited, waits=True)
            route.put_before(self._received, awaited=awaited)
        route.exact = self._slowly(route.exact)  # type: ignore[assignment, method-assign]  # its own

    def _sampled(self, replies: _Replies, inner: CallMessage) -> CallMessage:
        meter = self

        async def looked_at(message: Any, endpoint: Any, frame: Frame, weight: int) -> Any:
            meter._receive(frame, weight)
            replies.expect(weight)
            with meter._timing(weight):
                value = await inner(message, endpoint, frame)
            if value is None:
                replies.expect_none()
            return value

        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            since = meter._since + 1
            if since < meter._stride:  # nothing else for most messages: benchmarks/test_telemetry.py
                meter._since = since
                return inner(message, endpoint, frame)
            meter._since = 0
            return looked_at(message, endpoint, frame, since)

        return call

    def _received(self, inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            self._receive(frame, 1)
            return inner(message, endpoint, frame)

        return call

    def _timed(self, awaited: bool, inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            with self._timing(1):
                return inner(message, endpoint, frame)

        async def call_and_wait(message: Any, endpoint: Any, frame: Frame) -> Any:
            with self._timing(1):
                return await inner(message, endpoint, frame)

        return call_and_wait if awaited else call

    def _slowly(self, exact: Callable[[Frame], dict[str, Any]]) -> Callable[[Frame], dict[str, Any]]:
        def counted(frame: Frame) -> dict[str, Any]:
            self.slow += 1
            return exact(frame)

        return counted

    def _receive(self, frame: Frame, weight: int) -> None:
        self._counted += weight
        self.received_bytes += weight * size_of(frame)
        self._window += weight
        if self._window >= WINDOW:
            now = perf_counter()
            self._stride = ONE_IN if now - self._window_began < self._window / OFTEN else 1
            self._window, self._window_began = 0, now

    @contextlib.contextmanager
    def _timing(self, weight: int) -> Iterator[None]:
        outcome, begun = "ok", perf_counter()
        try:
            yield
        except BaseException as exc:
            outcome = _outcome(exc)
            raise
        finally:
            took = perf_counter() - begun
            self._counts[outcome][bisect_left(BOUNDS, took)] += weight
            self._seconds[outcome] += took * weight

    @property
    def often(self) -> bool:
        """It comes so often that not every message is looked at."""
        return self._stride > 1

    @property
    def received(self) -> int:
        return self._counted + self._since

    def seconds(self) -> dict[str, Histogram]:
        """By outcome. The next message is looked at, so that nothing that is over stays untold for long."""
        self._stride = 1
        return {
            outcome: Histogram(tuple(counts), self._seconds[outcome]) for outcome, counts in dict(self._counts).items()
        }


class _Replies:
    """
    The replies of one route: all are counted, or, of an event that comes often, those to messages that are looked at.

    In between the route encodes as if nobody counted.
    """

    def __init__(self, meter: Meter, route: Route) -> None:
        self._meter, self._route, self._plain = meter, route, route.encode
        self._owed = 0  # how many the next one stands for
        self._encode = self._count_some
        route.encode = self._encode
        route.encoder = _Counted(route.encoder, self)

    def expect(self, weight: int) -> None:
        """The answer to what is looked at is next."""
        self._owed += weight
        self._route.encode = self._encode

    def expect_none(self) -> None:
        """Nor was there one by `respond`."""
        self._owed = 0

    def _count_some(self, value: Any) -> bytes:
        body, weight = self._plain(value), 1
        if self._meter.often:
            weight = self._owed
            self._route.encode = self._plain
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


_ENDPOINT, _EVENT = ("endpoint",), ("endpoint", "event")
_NONE: Mapping[Labels, int] = MappingProxyType({})


def _outcome(exc: BaseException) -> str:
    if isinstance(exc, Refused):
        return "invalid"
    if isinstance(exc, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    return "refused" if isinstance(exc, EventError | HTTPException) else "failed"


class Tally(Observer):
    """All that is counted of the endpoints that it observes, and of the rooms of this process."""

    def __init__(self) -> None:
        self._meters: dict[Labels, Meter] = {}  # by class and event; classes of one name are counted together
        self._open: dict[Any, None] = {}  # connections
        self._opened: Counter[Labels] = Counter()
        self._closed: Counter[Labels] = Counter()
        self._refused: Counter[Labels] = Counter()
        self._errors: Counter[Labels] = Counter()
        self._unknown: Counter[Labels] = Counter()
        self._codes: defaultdict[str, set[str]] = defaultdict(set)

    # ---- what is observed

    def compiled(self, endpoint: type, route: Route) -> None:
        key = endpoint.__name__, route.event
        meter = self._meters.get(key)
        if meter is None:
            meter = self._meters[key] = Meter()
        meter.attach(route)

    def refused(self, endpoint: Any, reason: str) -> None:
        self._refused[_name(endpoint), reason] += 1

    def opened(self, endpoint: Any) -> None:
        self._open[endpoint] = None
        self._opened[(_name(endpoint),)] += 1

    def answers(self, endpoint: Any, exc: Exception) -> None:
        name = _name(endpoint)
        self._errors[name, self._bounded(name, code_of(exc))] += 1
        if isinstance(exc, MessageError) and exc.code in ("unknown_event", "malformed_message"):
            self._unknown[name, UNKNOWN] += 1

    @property
    def idle(self) -> bool:
        """No connection is open."""
        return not self._open

    def ended(self, endpoint: Any, code: int, by_peer: bool) -> None:
        if endpoint in self._open:
            del self._open[endpoint]
            name = _name(endpoint)
            self._closed[name, OTHER if by_peer and code >= 3000 else self._bounded(name, str(code))] += 1

    def _bounded(self, name: str, code: str) -> str:
        """The code itself, as long as there are not too many: applications make them, too."""
        codes = self._codes[name]
        if code not in codes and len(codes) >= MOST_CODES:
            return OTHER
        codes.add(code)
        return code

    # ---- what is read

    def read(self) -> Iterator[Family]:
        """Everything as it is now. May be called in any thread."""
        yield from self._of_connections()
        yield from self._of_messages()
        yield from _of_rooms()

    def _of_connections(self) -> Iterator[Family]:
        loads = [(_name(endpoint), endpoint.current_load) for endpoint in tuple(self._open)]
        names = [name for (name,) in tuple(self._opened)]

        def gauge(name: str, help: str, value: Callable[[Load], int]) -> Family:
            sums: dict[Labels, float] = {(each,): 0 for each in names}
            for endpoint, load in loads:
                sums[(endpoint,)] += value(load)
            return Family(name, "gauge", help, _ENDPOINT, sums)

        yield gauge("connections", "Connections that are open.", lambda load: 1)
        yield _counter("connections_opened", "Connections that were accepted.", _ENDPOINT, self._opened)
        about = "Connections that have ended, by close code."
        yield _counter("connections_closed", about, ("endpoint", "code"), self._closed)
        about = "Handshakes that an endpoint refused."
        yield _counter("handshakes_refused", about, ("endpoint", "reason"), self._refused)
        yield gauge("queued_messages", "Messages that wait for slow readers.", lambda load: load.queued_messages)
        yield gauge("queued_bytes", "Bytes that wait for slow readers.", lambda load: load.queued_bytes)
        yield gauge("unsent_bytes", "Bytes that the kernel has not taken yet.", lambda load: load.unsent_bytes)
        yield gauge("streams", "Streams and uploads that run.", lambda load: load.streams)
        yield gauge("calls", "Questions to clients that wait for an answer.", lambda load: load.calls)

    def _of_messages(self) -> Iterator[Family]:
        meters = dict(self._meters)

        def counter(name: str, help: str, value: Callable[[Meter], int], more: Mapping[Labels, int] = _NONE) -> Family:
            values = {labels: value(meter) for labels, meter in meters.items()}
            return _counter(name, help, _EVENT, {**values, **more})

        yield counter("received_messages", "Messages that came.", lambda each: each.received, self._unknown)
        yield counter("received_bytes", "Bytes of these messages.", lambda each: each.received_bytes)
        yield counter("sent_messages", "Replies, and items of streams.", lambda each: each.sent)
        yield counter("sent_bytes", "Bytes of these replies, without their `ref`.", lambda each: each.sent_bytes)
        yield counter("slow_path", "Messages that pydantic had to read as a whole.", lambda each: each.slow)
        about = "Answers that are error frames."
        yield _counter("errors", about, ("endpoint", "code"), self._errors)
        seconds = {
            (*labels, outcome): histogram
            for labels, meter in meters.items()
            for outcome, histogram in meter.seconds().items()
        }
        about = "From the decoded frame to the handler's value."
        yield Family("handler_seconds", "histogram", about, (*_EVENT, "outcome"), {}, seconds, BOUNDS)


def _name(endpoint: Any) -> str:
    return type(endpoint).__name__


def _counter(name: str, help: str, labels: Labels, values: Mapping[Labels, float]) -> Family:
    return Family(name, "counter", help, labels, dict(values))


def _of_rooms() -> Iterator[Family]:
    by_scheme: defaultdict[Labels, list[Rooms]] = defaultdict(list)
    for rooms in rooms_in_use():
        by_scheme[(rooms.url.partition(":")[0],)].append(rooms)
    label = ("backplane",)

    def counter(name: str, help: str, value: Callable[[Rooms], int]) -> Family:
        return _counter(name, help, label, {scheme: sum(map(value, all_)) for scheme, all_ in by_scheme.items()})

    yield counter("broadcasts", "Broadcasts of this process.", lambda rooms: rooms.counters.published)
    yield counter("deliveries", "Messages pushed to connections.", lambda rooms: rooms.counters.delivered)
    yield counter("broadcasts_refused", "Broadcasts the engine could not take.", lambda rooms: rooms.counters.refused)
    drops: Counter[Labels] = Counter()
    for scheme, all_ in by_scheme.items():
        for rooms in all_:
            for why, count in tuple(rooms.counters.drops.items()):
                drops[(*scheme, why)] += count
    yield _counter("dropped_messages", "Messages that slow readers did not get.", ("backplane", "why"), drops)
    states = {scheme: [rooms.state for rooms in all_] for scheme, all_ in by_scheme.items()}
    up = {scheme: float("reconnecting" not in each) for scheme, each in states.items() if set(each) != {"closed"}}
    yield Family("backplane_up", "gauge", "1 while the engine is there, 0 while it is away.", label, up, across="min")
