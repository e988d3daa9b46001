"""
What one process tells whoever watches it, `socketsundso top` above all: `watch` begins to count, and gives what reads.

    {"version": "0.1.0", "metrics": {"connections": [{"endpoint": "Chat", "value": 12}], ...}, "bounds": [0.0005, ...],
     "rooms": {"count": 2, "largest": [{"room": "lobby", "backplane": "redis", "members": 12}, ...]},
     "slow_readers": {"count": 1, "slowest": [{"connection": "5f0c-1f", "endpoint": "Chat", "user": "ada", ...}]}}

Metrics have the names and labels of `tally`, as every exporter has them. A histogram's sample has `buckets`, one more
than there are `bounds`, and their `sum`, in place of `value`. Nothing that a message says is told, and of a user what
names it.

Who reads takes turns with the event loop whose connections it looks at: some of them, then others are served.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from socketsundso import __version__
from socketsundso.connection import name_of
from socketsundso.endpoints import WebSocketHandlingEndpoint
from socketsundso.observing import Load
from socketsundso.rooms import rooms_in_use
from socketsundso.telemetry.families import Family
from socketsundso.telemetry.installing import Installing
from socketsundso.telemetry.meters import BOUNDS
from socketsundso.telemetry.tally import Loads, Tally

LARGEST = 20
"""Rooms that are told, and readers that are slow: those where most is, or waits."""

SLOW_BYTES = 64 << 10
"""In the server's own buffer, above which a reader is slow: handlers wait for it then."""

AT_ONCE = 500
"""Connections, or rooms, that are looked at before others are served."""

T = TypeVar("T")
_watching: Installing[Tally] = Installing()


def watch() -> Callable[[], Awaitable[dict[str, Any]]]:
    """Count what happens on all endpoints of the process from now on. What it gives reads it."""
    tally = _watching.add(WebSocketHandlingEndpoint, Tally)

    async def read() -> dict[str, Any]:
        loads: Loads = await _each(tally.open, lambda endpoint: (endpoint, endpoint.current_load))
        rooms = await _rooms()
        return {
            "version": __version__,
            "metrics": {family.name: _samples(family) for family in tally.read(loads)},
            "bounds": BOUNDS,
            "rooms": rooms,
            "slow_readers": _slow_readers(loads),
        }

    return read


def unwatch() -> None:
    """Nothing is counted for `watch` any more, and what was is forgotten; for tests."""
    tally = _watching.remove()
    if tally is not None:
        tally.end()


async def _each(items: Sequence[Any], look: Callable[[Any], T]) -> list[T]:
    """What `look` gives for each of them."""
    seen: list[T] = []
    for first in range(0, len(items), AT_ONCE):
        seen += map(look, items[first : first + AT_ONCE])
        await asyncio.sleep(0)
    return seen


def _samples(family: Family) -> list[dict[str, Any]]:
    samples = [
        {**dict(zip(family.labels, labels, strict=True)), "value": value} for labels, value in family.values.items()
    ]
    for labels, histogram in family.histograms.items():
        named = dict(zip(family.labels, labels, strict=True))
        samples.append({**named, "buckets": histogram.counts, "sum": histogram.sum})
    return samples


async def _rooms() -> dict[str, Any]:
    sizes: list[tuple[int, str, str]] = []
    for rooms in rooms_in_use():
        scheme = rooms.url.partition(":")[0]
        measured = await _each(tuple(rooms.topics.items()), lambda named: (_members(named[1]), named[0]))
        sizes += [(members, topic[1:], scheme) for members, topic in measured if topic[0] == "r"]
    largest = heapq.nlargest(LARGEST, sizes)
    return {
        "count": len(sizes),
        "largest": [{"room": name, "backplane": scheme, "members": members} for members, name, scheme in largest],
    }


def _members(room: Any) -> int:
    return len(room.live) + len(room.behind)


def _slow_readers(loads: Loads) -> dict[str, Any]:
    slow = [(load.queued_bytes + load.unsent_bytes, endpoint, load) for endpoint, load in loads if _is_slow(load)]
    slowest = heapq.nlargest(LARGEST, slow, key=lambda each: each[0])
    return {"count": len(slow), "slowest": [_described(endpoint, load) for _, endpoint, load in slowest]}


def _is_slow(load: Load) -> bool:
    return load.queued_messages > 0 or load.unsent_bytes > SLOW_BYTES


def _described(endpoint: Any, load: Load) -> dict[str, Any]:
    client = endpoint.websocket.client
    return {
        "connection": endpoint.id,
        "endpoint": type(endpoint).__name__,
        "user": name_of(getattr(endpoint, "user", None)),
        "client": f"{client.host}:{client.port}" if client is not None else None,
        "queued_messages": load.queued_messages,
        "queued_bytes": load.queued_bytes,
        "unsent_bytes": load.unsent_bytes,
    }
