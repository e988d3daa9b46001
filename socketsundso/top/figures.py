"""
What happened between two snapshots of a server: plain numbers, from counters that only grow.

A worker is compared with itself, by process and start: one that has been replaced takes its counters along, and the new
one begins at none. What nobody knows yet, such as the rate of a worker that was not there before, is None.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from socketsundso.top.snapshot import RoomSize, Sample, SlowReader, Snapshot, Worker

SENT_BYTES = ("sent_bytes", "pushed_bytes", "delivered_bytes")
SENT = ("sent_messages", "pushed_messages", "deliveries", "errors")
"""Metrics that together are all messages to clients, but for control frames."""

_EVENT = ("endpoint", "event")

Labels = tuple[str, ...]
Counts = Counter[Labels]


@dataclass(frozen=True)
class WorkerFigures:
    pid: int
    state: str
    connections: int | None = None
    received_per_s: float | None = None
    sent_per_s: float | None = None
    errors_per_s: float | None = None
    p99_s: float | None = None
    unsent_bytes: int | None = None  # that wait for readers
    unhandled_bytes: int | None = None  # that wait for handlers
    cpu: float | None = None  # of one processor
    rss_bytes: int | None = None
    uptime_s: float | None = None


@dataclass(frozen=True)
class EventFigures:
    endpoint: str
    event: str
    received_per_s: float
    sent_per_s: float
    p50_s: float | None  # of handlers that ended meanwhile
    p99_s: float | None
    failed_per_s: float  # that refused, found something invalid, or failed


@dataclass(frozen=True)
class Figures:
    """Of all workers together, and of each."""

    workers: tuple[WorkerFigures, ...] = ()
    connections: int = 0
    opened_per_s: float = 0.0
    closed_per_s: float = 0.0
    received_per_s: float = 0.0
    received_bytes_per_s: float = 0.0
    sent_per_s: float = 0.0
    sent_bytes_per_s: float = 0.0  # but for error frames
    p50_s: float | None = None
    p99_s: float | None = None
    errors: dict[str, float] = field(default_factory=dict)  # error frames a second, by code
    dropped: dict[str, float] = field(default_factory=dict)  # messages a second, by policy
    refused: dict[str, float] = field(default_factory=dict)  # handshakes a second, by reason
    events: tuple[EventFigures, ...] = ()
    rooms: tuple[RoomSize, ...] = ()  # the largest first
    room_count: int = 0
    rooms_are_all: bool = True  # else there are some that no worker names, since they are small
    slow: tuple[SlowReader, ...] = ()  # the slowest first
    slow_count: int = 0
    away: tuple[str, ...] = ()  # backplanes

    @classmethod
    def between(cls, before: Snapshot | None, after: Snapshot) -> Figures:
        known = {} if before is None else {_identity(worker): worker for worker in before.workers}
        changes = [Change(known.get(_identity(worker)), worker, before is not None) for worker in after.workers]
        seconds = _added(change.histograms() for change in changes)
        slow = [reader for worker in after.workers for reader in worker.slow_readers.slowest]
        rooms = _rooms(after.workers)
        return cls(
            workers=tuple(change.figures() for change in changes),
            connections=sum(worker.websockets for worker in after.workers),
            opened_per_s=_total(changes, "connections_opened"),
            closed_per_s=_total(changes, "connections_closed"),
            received_per_s=_total(changes, "received_messages"),
            received_bytes_per_s=_total(changes, "received_bytes"),
            sent_per_s=_total(changes, *SENT),
            sent_bytes_per_s=_total(changes, *SENT_BYTES),
            p50_s=quantile(0.5, _all_of(seconds.values()), _bounds(after)),
            p99_s=quantile(0.99, _all_of(seconds.values()), _bounds(after)),
            errors=_rates(changes, "errors", "code"),
            dropped=_rates(changes, "dropped_messages", "why"),
            refused=_rates(changes, "handshakes_refused", "reason")
            | _rates(changes, "server_handshakes_refused", "reason"),
            events=tuple(_events(changes, seconds, _bounds(after))),
            rooms=rooms,
            room_count=max([len(rooms), *(worker.rooms.count for worker in after.workers)]),
            rooms_are_all=all(worker.rooms.count == len(worker.rooms.largest) for worker in after.workers),
            slow=tuple(sorted(slow, key=attrgetter("all_bytes"), reverse=True)),
            slow_count=sum(worker.slow_readers.count for worker in after.workers),
            away=_away(after.workers),
        )


class Change:
    """Of one worker. Without a `before`, it began since then if `was_watched`, and is not compared otherwise."""

    def __init__(self, before: Worker | None, after: Worker, was_watched: bool) -> None:
        self.before, self.after = before, after
        self.seconds = after.uptime_s - (before.uptime_s if before is not None else 0.0)
        self.is_known = (before is not None or was_watched) and after.has_said and self.seconds > 0

    def _growth(self, name: str, *labels: str) -> Counts:
        """Of a counter, by these labels."""
        if not self.is_known:
            return Counter()
        then = _sums(self.before.metrics.get(name, ()), labels) if self.before is not None else Counter()
        return _sums(self.after.metrics.get(name, ()), labels) - then  # nothing below 0

    def _now(self, *names: str) -> int:
        """Of gauges."""
        return sum(_sums(self.after.metrics.get(name, ()), ()).total() for name in names)

    def rates(self, name: str, *labels: str) -> dict[Labels, float]:
        return {each: grown / self.seconds for each, grown in self._growth(name, *labels).items()}

    def rate(self, *names: str) -> float | None:
        if not self.is_known:
            return None
        return sum(self._growth(name).total() for name in names) / self.seconds

    def histograms(self) -> dict[Labels, list[int]]:
        """How many handlers took how long, by endpoint, event and outcome."""
        if not self.is_known:
            return {}
        then = _buckets(self.before) if self.before is not None else {}
        return {
            labels: [max(0, new - old) for new, old in zip(counts, then.get(labels, [0] * len(counts)), strict=False)]
            for labels, counts in _buckets(self.after).items()
        }

    def figures(self) -> WorkerFigures:
        worker = self.after
        if not worker.has_said:
            return WorkerFigures(worker.pid, worker.state)
        cpu_s = worker.cpu_s - (self.before.cpu_s if self.before is not None else 0.0)
        return WorkerFigures(
            worker.pid,
            worker.state,
            connections=worker.websockets,
            received_per_s=self.rate("received_messages"),
            sent_per_s=self.rate(*SENT),
            errors_per_s=self.rate("errors"),
            p99_s=quantile(0.99, _all_of(self.histograms().values()), worker.bounds),
            unsent_bytes=self._now("queued_bytes", "unsent_bytes"),
            unhandled_bytes=self._now("waiting_bytes"),
            cpu=cpu_s / self.seconds if self.is_known else None,
            rss_bytes=worker.rss_bytes,
            uptime_s=worker.uptime_s,
        )


def quantile(q: float, counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """
    Below which so many of the values are, as far as buckets tell: within one they are taken to be spread evenly.

    None of no values, infinity where it is above the last bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = q * total, 0
    for number, (count, bound) in enumerate(zip(counts, bounds, strict=False)):
        if count and below + count >= rank:
            lower = bounds[number - 1] if number else 0.0
            return lower + (bound - lower) * (rank - below) / count
        below += count
    return math.inf


def _identity(worker: Worker) -> tuple[int, float]:
    return worker.pid, worker.started_at


def _sums(samples: Iterable[Sample], labels: Sequence[str]) -> Counts:
    sums: Counts = Counter()
    for sample in samples:
        sums[tuple(str(sample.get(label, "")) for label in labels)] += sample.get("value", 0)
    return sums


def _buckets(worker: Worker) -> dict[Labels, list[int]]:
    """Of handlers that were not cancelled: how long those took is somebody else's doing."""
    return {
        tuple(str(sample.get(label, "")) for label in (*_EVENT, "outcome")): list(sample.get("buckets", ()))
        for sample in worker.metrics.get("handler_seconds", ())
        if sample.get("outcome") != "cancelled"
    }


def _added(many: Iterable[dict[Labels, list[int]]]) -> dict[Labels, list[int]]:
    sums: dict[Labels, list[int]] = {}
    for each in many:
        for labels, counts in each.items():
            known = sums.get(labels)
            sums[labels] = counts if known is None else [a + b for a, b in zip(known, counts, strict=False)]
    return sums


def _all_of(histograms: Iterable[list[int]]) -> list[int]:
    return [sum(counts) for counts in zip(*histograms, strict=False)]


def _bounds(snapshot: Snapshot) -> tuple[float, ...]:
    return next((worker.bounds for worker in snapshot.workers if worker.bounds), ())


def _total(changes: Iterable[Change], *names: str) -> float:
    return sum(change.rate(*names) or 0.0 for change in changes)


def _rates(changes: Iterable[Change], name: str, label: str) -> dict[str, float]:
    """The highest first."""
    sums = _summed(change.rates(name, label) for change in changes)
    return {value: rate for (value,), rate in sorted(sums.items(), key=lambda each: -each[1]) if rate}


def _summed(many: Iterable[dict[Labels, float]]) -> defaultdict[Labels, float]:
    sums: defaultdict[Labels, float] = defaultdict(float)
    for each in many:
        for labels, rate in each.items():
            sums[labels] += rate
    return sums


def _events(
    changes: Sequence[Change], seconds: dict[Labels, list[int]], bounds: Sequence[float]
) -> Iterator[EventFigures]:
    received = _summed(change.rates("received_messages", *_EVENT) for change in changes)
    sent = _summed(change.rates("sent_messages", *_EVENT) for change in changes)
    known = {_key(sample) for change in changes for sample in change.after.metrics.get("received_messages", ())}
    span_s = max((change.seconds for change in changes if change.is_known), default=0.0)
    for endpoint, event in sorted(known):
        outcomes = {labels[2]: counts for labels, counts in seconds.items() if labels[:2] == (endpoint, event)}
        failed = sum(sum(counts) for outcome, counts in outcomes.items() if outcome != "ok")
        ended = _all_of(outcomes.values())
        yield EventFigures(
            endpoint,
            event,
            received_per_s=received[endpoint, event],
            sent_per_s=sent[endpoint, event],
            p50_s=quantile(0.5, ended, bounds),
            p99_s=quantile(0.99, ended, bounds),
            failed_per_s=failed / span_s if span_s else 0.0,
        )


def _key(sample: Sample) -> tuple[str, str]:
    return str(sample.get("endpoint", "")), str(sample.get("event", ""))


def _rooms(workers: Iterable[Worker]) -> tuple[RoomSize, ...]:
    """Members of a room in all workers that tell of it."""
    sums: Counter[tuple[str, str]] = Counter()
    for worker in workers:
        for each in worker.rooms.largest:
            sums[each.room, each.backplane] += each.members
    return tuple(RoomSize(room, members, backplane) for (room, backplane), members in sums.most_common())


def _away(workers: Iterable[Worker]) -> tuple[str, ...]:
    up = [sample for worker in workers for sample in worker.metrics.get("backplane_up", ())]
    return tuple(sorted({str(sample.get("backplane")) for sample in up if not sample.get("value")}))
