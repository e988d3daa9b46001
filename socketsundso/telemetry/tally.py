"""
What is counted of endpoints, in plain numbers. `Tally.read` gives all of it.

Of messages that is the business of `meters`. What is open, runs or waits is not counted at all: it is asked for, from
all connections, when somebody reads; what rooms and server count anyway is read there, too. Labels are names that the
application declares; whatever a peer can choose is one of a few, or `OTHER`.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from socketsundso import refusals
from socketsundso.messages import BYTES, MessageError, Route, code_of, pushed_type
from socketsundso.observing import Load, Observer
from socketsundso.rooms import Rooms, rooms_in_use
from socketsundso.telemetry.families import Family, Histogram, Labels
from socketsundso.telemetry.meters import BOUNDS, Meter, Times

UNKNOWN = "(unknown)"
"""In place of the event of a message that no handler is for."""

OTHER = "(other)"
"""In place of a value that would be one too many."""

MOST = 100
"""Values of a label, by endpoint, that applications may make at run time: codes of errors, types of dicts."""

Loads = list[tuple[Any, Load]]
"""What runs and waits for each open connection, by its endpoint."""

BACKPLANE_CALLS = ("append", "append_many", "read", "subscribe", "flush")
"""Of `Backplane`: those that somebody waits for the engine with."""

Timed = functools.partial[Coroutine[Any, Any, Any]]

_ENDPOINT, _EVENT = ("endpoint",), ("endpoint", "event")
_NONE: Mapping[Labels, int] = MappingProxyType({})
_counting: weakref.WeakSet[Tally] = weakref.WeakSet()
"""Those that have not ended."""


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
        self._pushed: Counter[Labels] = Counter()
        self._pushed_bytes: Counter[Labels] = Counter()
        self._asked: defaultdict[Labels, Times] = defaultdict(Times)  # by class and question
        self._known: defaultdict[str, set[str]] = defaultdict(set)  # values of labels that are not declared
        self._latencies: defaultdict[str, Times] = defaultdict(Times)  # by a backplane's scheme
        # by backplane what was put around its calls, by name
        self._timed: weakref.WeakKeyDictionary[Any, dict[str, Timed]] = weakref.WeakKeyDictionary()
        self._counts_inflated = False  # by the server, from the first connection on
        _counting.add(self)

    def end(self) -> None:
        """What was put around others is taken off."""
        _counting.discard(self)
        if self._counts_inflated:
            self._counts_inflated = False
            if not any(each._counts_inflated for each in _counting):
                _our_server().count_inflated(False)
        for backplane, calls in self._timed.items():
            for name, timed in calls.items():
                if vars(backplane).get(name) is timed:  # else another one has put its own around it, which goes on
                    inner = timed.args[2]
                    if isinstance(inner, functools.partial):
                        setattr(backplane, name, inner)
                    else:
                        delattr(backplane, name)

    # ---- what is observed

    def compiled(self, endpoint: type, route: Route) -> None:
        key = endpoint.__name__, route.event
        meter = self._meters.get(key)
        if meter is None:  # two meters around one route would take each other off
            known = (each._meters[key] for each in tuple(_counting) if key in each._meters)
            meter = self._meters[key] = next(known, None) or Meter()
        meter.attach(route)

    def refused(self, endpoint: Any, reason: str) -> None:
        self._refused[_name(endpoint), reason] += 1

    def opened(self, endpoint: Any) -> None:
        self._time_backplanes()
        if not self._counts_inflated and (server := _our_server()) is not None:
            self._counts_inflated = True
            server.count_inflated(True)
        self._open[endpoint] = None
        self._opened[(_name(endpoint),)] += 1

    def answers(self, endpoint: Any, exc: Exception) -> None:
        name = _name(endpoint)
        self._errors[name, self._bounded(f"{name}: errors", code_of(exc))] += 1
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
            self._closed[name, OTHER if by_peer and code >= 3000 else self._bounded(f"{name}: closes", str(code))] += 1

    def asked(self, endpoint: Any, question: str, outcome: str, seconds: float) -> None:
        self._asked[_name(endpoint), question].note(outcome, seconds)

    def pushes(self, endpoint: Any, message: Any, size: int) -> None:
        name = _name(endpoint)
        if isinstance(message, BYTES):
            kind: Any = "bytes"
        else:
            kind = message.get("type") if isinstance(message, Mapping) else pushed_type(type(message))
        labels = name, self._bounded(f"{name}: pushes", str(kind))
        self._pushed[labels] += 1
        self._pushed_bytes[labels] += size

    def _bounded(self, what: str, value: str) -> str:
        """The value itself, as long as there are not too many."""
        known = self._known[what]
        if value not in known and len(known) >= MOST:
            return OTHER
        known.add(value)
        return value

    def _time_backplanes(self) -> None:
        """Put a clock around the calls of backplanes that have come into use."""
        for rooms in rooms_in_use():
            if (backplane := rooms.backplane) not in self._timed:
                times = self._latencies[_scheme(rooms)]
                calls = {
                    name: functools.partial(_timed, times, name, getattr(backplane, name)) for name in BACKPLANE_CALLS
                }
                self._timed[backplane] = calls
                for name, timed in calls.items():
                    setattr(backplane, name, timed)

    # ---- what is read

    @property
    def open(self) -> tuple[Any, ...]:
        """The endpoints of connections that are open."""
        return tuple(self._open)

    def read(self, loads: Loads | None = None) -> Iterator[Family]:
        """Everything as it is now, or with these loads. May be called in any thread."""
        if loads is None:
            loads = [(endpoint, endpoint.current_load) for endpoint in self.open]
        yield from self._of_connections(loads)
        yield from self._of_messages()
        yield from self._of_rooms()
        yield from _of_server()

    def _of_connections(self, loads: Loads) -> Iterator[Family]:
        by_name: defaultdict[str, list[Load]] = defaultdict(list)
        for endpoint, load in loads:
            by_name[_name(endpoint)].append(load)
        names = [name for (name,) in tuple(self._opened)]
        sums = {name: Load(*map(sum, zip(*by_name[name], strict=True))) for name in names}

        def gauge(name: str, help: str, value: Callable[[str], int]) -> Family:
            return Family(name, "gauge", help, _ENDPOINT, {(each,): value(each) for each in names})

        yield gauge("connections", "Connections that are open.", lambda each: len(by_name[each]))
        yield _counter("connections_opened", "Connections that were accepted.", _ENDPOINT, self._opened)
        about = "Connections that have ended, by close code."
        yield _counter("connections_closed", about, ("endpoint", "code"), self._closed)
        about = "Handshakes that an endpoint refused."
        yield _counter("handshakes_refused", about, ("endpoint", "reason"), self._refused)
        yield gauge("queued_messages", "Messages that wait for slow readers.", lambda each: sums[each].queued_messages)
        yield gauge("queued_bytes", "Bytes that wait for slow readers.", lambda each: sums[each].queued_bytes)
        yield gauge("unsent_bytes", "Bytes that the kernel has not taken yet.", lambda each: sums[each].unsent_bytes)
        about = "Bytes of messages that wait for handlers, and of their queues."
        yield gauge("waiting_bytes", about, lambda each: sums[each].waiting_bytes)
        yield gauge("streams", "Streams and uploads that run.", lambda each: sums[each].streams)
        yield gauge("calls", "Questions to clients that wait for an answer.", lambda each: sums[each].calls)

    def _of_messages(self) -> Iterator[Family]:
        meters = dict(self._meters)

        def counter(name: str, help: str, value: Callable[[Meter], int], more: Mapping[Labels, int] = _NONE) -> Family:
            values = {labels: value(meter) for labels, meter in meters.items()}
            return _counter(name, help, _EVENT, {**values, **more})

        yield counter("received_messages", "Messages that came.", lambda each: each.received, self._unknown)
        yield counter("received_bytes", "Bytes of these messages.", lambda each: each.received_bytes)
        yield counter("sent_messages", "Replies, and items of streams.", lambda each: each.sent)
        yield counter("sent_bytes", "Bytes of these replies, without their `ref`.", lambda each: each.sent_bytes)
        about = "Messages that an endpoint sent by `send`, which answer nothing."
        yield _counter("pushed_messages", about, ("endpoint", "type"), self._pushed)
        yield _counter("pushed_bytes", "Bytes of these messages.", ("endpoint", "type"), self._pushed_bytes)
        yield counter("slow_path", "Messages that pydantic had to read as a whole.", lambda each: each.slow)
        about = "Answers that are error frames."
        yield _counter("errors", about, ("endpoint", "code"), self._errors)
        seconds = {
            (*labels, outcome): histogram
            for labels, meter in meters.items()
            for outcome, histogram in meter.seconds().items()
        }
        about = "From the decoded frame to the handler's value, or the last item of a stream."
        yield Family("handler_seconds", "histogram", about, (*_EVENT, "outcome"), {}, seconds, BOUNDS)
        yield self._of_questions()

    def _of_questions(self) -> Family:
        seconds = {
            (*labels, outcome): histogram
            for labels, times in dict(self._asked).items()
            for outcome, histogram in times.read().items()
        }
        about = "From a question to a client to its answer, or until nobody waits for that any more."
        return Family("call_seconds", "histogram", about, ("endpoint", "question", "outcome"), {}, seconds, BOUNDS)

    def _of_rooms(self) -> Iterator[Family]:
        self._time_backplanes()
        by_scheme: defaultdict[Labels, list[Rooms]] = defaultdict(list)
        for rooms in rooms_in_use():
            by_scheme[(_scheme(rooms),)].append(rooms)
        label = ("backplane",)

        def counter(name: str, help: str, value: Callable[[Rooms], int]) -> Family:
            return _counter(name, help, label, {scheme: sum(map(value, all_)) for scheme, all_ in by_scheme.items()})

        yield counter("broadcasts", "Broadcasts of this process.", lambda rooms: rooms.counters.published)
        yield counter("deliveries", "Messages pushed to connections.", lambda rooms: rooms.counters.delivered)
        yield counter("delivered_bytes", "Bytes of these messages.", lambda rooms: rooms.counters.delivered_bytes)
        about = "Broadcasts that the engine could not take."
        yield counter("broadcasts_refused", about, lambda rooms: rooms.counters.refused)
        drops: Counter[Labels] = Counter()
        for scheme, all_ in by_scheme.items():
            for rooms in all_:
                for why, count in tuple(rooms.counters.drops.items()):
                    drops[(*scheme, why)] += count
        yield _counter("dropped_messages", "Messages that slow readers did not get.", ("backplane", "why"), drops)
        states = {scheme: [rooms.state for rooms in all_] for scheme, all_ in by_scheme.items()}
        up = {scheme: float("reconnecting" not in each) for scheme, each in states.items() if set(each) != {"closed"}}
        about = "1 while the engine is there, 0 while it is away."
        yield Family("backplane_up", "gauge", about, label, up, across="min")
        seconds: dict[Labels, Histogram] = {
            (scheme, call): histogram
            for scheme, times in dict(self._latencies).items()
            for call, histogram in times.read().items()
        }
        about = "Calls that wait for the engine."
        yield Family("backplane_seconds", "histogram", about, ("backplane", "call"), {}, seconds, BOUNDS)


def _name(endpoint: Any) -> str:
    return type(endpoint).__name__


def _counter(name: str, help: str, labels: Labels, values: Mapping[Labels, float]) -> Family:
    return Family(name, "counter", help, labels, dict(values))


def _scheme(rooms: Rooms) -> str:
    return rooms.url.partition(":")[0]


async def _timed(times: Times, name: str, call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    with times.taking(name):
        return await call(*args, **kwargs)


def _of_server() -> Iterator[Family]:
    """What is counted whichever application is served."""
    reasons: dict[Labels, float] = {(reason,): number for reason, number in dict(refusals.refused).items()}
    yield _counter("server_handshakes_refused", "Handshakes that no application saw.", ("reason",), reasons)
    if (server := _our_server()) is not None:
        for name, what, (before, after) in (
            ("deflate", "were compressed", server.compressed_bytes()),
            ("inflate", "came compressed", server.inflated_bytes()),
        ):
            about = f"Bytes of the messages that {what}, before and after."
            yield _counter(f"{name}_bytes", about, ("stage",), {("before",): before, ("after",): after})


def _our_server() -> Any:
    """Where it is in use: it needs what is not installed everywhere."""
    return sys.modules.get("socketsundso.server")
