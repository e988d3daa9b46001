"""
What is counted of endpoints, in plain numbers. `Tally.read` gives all of it.

A `Meter` belongs to one event of one class. It puts itself around the event's call and its encoder when the class is
compiled, and adds to variables of its own: a library's counter, with a lock and labels for each message, costs as much
as decoding it. What is open, runs or waits is not counted at all: it is asked for, from all connections, when somebody
reads. Labels are names that the application declares; whatever a peer can choose is one of a few, or `OTHER`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException

from socketsundso.errors import EventError
from socketsundso.messages import CallMessage, Encodes, Frame, MessageError, Refused, Route, code_of
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


Encode = Callable[[Any], bytes]


class Reading(NamedTuple):
    """What a meter shows."""

    received: int
    received_bytes: int
    sent: int
    sent_bytes: int
    slow: int
    seconds: dict[str, Histogram]
    """By outcome."""


class Meter:
    """What comes and goes of one event, and how long its handler takes."""

    def __init__(self) -> None:
        self._wraps = _wraps()
        self._slow = 0  # messages that pydantic had to read whole

    def attach(self, route: Route) -> None:
        """From now on what passes through this route is counted."""
        counted, timed, metered, around_encode, _ = self._wraps
        awaited, turns = route.awaited, route.conduct is not None and route.conduct.key is not None
        streams = route.apart in ("stream", "upload")  # whose call gives an iterator at once
        if awaited and not turns and not streams:
            route.put_before(metered, awaited=True)
        else:
            if not streams:
                route.put_before(functools.partial(timed, awaited), awaited=awaited, waits=True)
            route.put_before(counted, awaited=awaited)
        route.encoder = encoder = _Metered(route.encoder, around_encode)
        route.encode = encoder.encode  # type: ignore[assignment]  # to mypy the attribute was a method
        route.exact = self._counting_slow(route.exact)  # type: ignore[assignment, method-assign]  # its own

    def _counting_slow(self, exact: Callable[[Frame], dict[str, Any]]) -> Callable[[Frame], dict[str, Any]]:
        def counted(frame: Frame) -> dict[str, Any]:
            self._slow += 1
            return exact(frame)

        return counted

    def read(self) -> Reading:
        received, received_bytes, sent, sent_bytes, seconds = self._wraps.read()
        return Reading(received, received_bytes, sent, sent_bytes, self._slow, seconds)


class _Metered:
    """An encoder whose replies are counted."""

    def __init__(self, encoder: Encodes, around: Callable[[Encode], Encode]) -> None:
        self.encode, self.encode_valid = around(encoder.encode), around(encoder.encode_valid)
        self.validate = encoder.validate


class _Wraps(NamedTuple):
    """Functions that share the variables of one meter: a name of an enclosing function is the cheapest place."""

    counted: Callable[[CallMessage], CallMessage]
    timed: Callable[[bool, CallMessage], CallMessage]
    metered: Callable[[CallMessage], CallMessage]
    around_encode: Callable[[Encode], Encode]
    read: Callable[[], tuple[int, int, int, int, dict[str, Histogram]]]


def _wraps() -> _Wraps:
    received = received_bytes = sent = sent_bytes = 0
    quick, seconds, counts = 0, 0.0, [0] * (len(BOUNDS) + 1)  # of calls that went well
    first = BOUNDS[0]
    others: dict[str, Histogram] = {}  # of those that did not

    def note(took: float) -> None:
        nonlocal seconds
        seconds += took
        counts[bisect_left(BOUNDS, took)] += 1

    def note_failure(exc: BaseException, took: float) -> None:
        outcome = _outcome(exc)
        before, place = others.get(outcome, _NONE), bisect_left(BOUNDS, took)
        buckets = (*before.counts[:place], before.counts[place] + 1, *before.counts[place + 1 :])
        others[outcome] = Histogram(buckets, before.sum + took)

    def counted(inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            nonlocal received, received_bytes
            received += 1
            received_bytes += _size(frame)
            return inner(message, endpoint, frame)

        return call

    @contextlib.contextmanager
    def timing() -> Iterator[None]:
        begun = perf_counter()
        try:
            yield
        except BaseException as exc:
            note_failure(exc, perf_counter() - begun)
            raise
        note(perf_counter() - begun)

    def timed(awaited: bool, inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            with timing():
                return inner(message, endpoint, frame)

        async def call_and_wait(message: Any, endpoint: Any, frame: Frame) -> Any:
            with timing():
                return await inner(message, endpoint, frame)

        return call_and_wait if awaited else call

    def metered(inner: CallMessage) -> CallMessage:
        # `counted` and `timed` in one, unfolded: this is what most messages pay, see benchmarks/test_roundtrip.py
        async def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            nonlocal received, received_bytes, quick, seconds
            received += 1
            received_bytes += len(frame) if frame.isascii() else _size(frame)
            begun = perf_counter()
            try:
                value = await inner(message, endpoint, frame)
            except BaseException as exc:
                note_failure(exc, perf_counter() - begun)
                raise
            took = perf_counter() - begun
            if took <= first:
                seconds += took
                quick += 1
            else:
                note(took)
            return value

        return call

    def around_encode(inner: Encode) -> Encode:
        def encode(value: Any) -> bytes:
            nonlocal sent, sent_bytes
            body = inner(value)
            sent += 1
            sent_bytes += len(body)
            return body

        return encode

    def read() -> tuple[int, int, int, int, dict[str, Histogram]]:
        well = Histogram((quick + counts[0], *counts[1:]), seconds)
        return received, received_bytes, sent, sent_bytes, {"ok": well, **others} if any(well.counts) else dict(others)

    return _Wraps(counted, timed, metered, around_encode, read)


_NONE = Histogram((0,) * (len(BOUNDS) + 1), 0.0)
_ENDPOINT, _EVENT = ("endpoint",), ("endpoint", "event")


def _size(frame: Frame) -> int:
    return len(frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame)


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
        readings = {labels: meter.read() for labels, meter in tuple(self._meters.items())}

        def counter(name: str, help: str, value: Callable[[Reading], int]) -> Family:
            return _counter(name, help, _EVENT, {labels: value(each) for labels, each in readings.items()})

        received = {labels: reading.received for labels, reading in readings.items()}
        yield _counter("received_messages", "Messages that came.", _EVENT, {**received, **self._unknown})
        yield counter("received_bytes", "Bytes of these messages.", lambda each: each.received_bytes)
        yield counter("sent_messages", "Replies, and items of streams.", lambda each: each.sent)
        yield counter("sent_bytes", "Bytes of these replies, without their `ref`.", lambda each: each.sent_bytes)
        yield counter("slow_path", "Messages that pydantic had to read as a whole.", lambda each: each.slow)
        about = "Answers that are error frames."
        yield _counter("errors", about, ("endpoint", "code"), self._errors)
        seconds = {
            (*labels, outcome): histogram
            for labels, reading in readings.items()
            for outcome, histogram in reading.seconds.items()
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
