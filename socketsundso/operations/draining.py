"""
Who is told 1012, and when, while a worker ends.

A thousand clients that are told at the same moment come back at the same moment. So each connection has a moment of its
own, in no order, at an even rate over the whole time with jitter within each step; where there are few, less time is
needed. A connection whose application is at work when its moment comes is overdue: it is told as soon as there is
nothing left to do, and until then goes on as if nothing were. What never ends is cut in the order of the moments, no
sooner than it must be for all to be told in time at the same rate:

    overdue connections <= rate * time that is left

So a lone stream has nearly all of the time, and where all connections stream without an end they are cut over the
second half of it, at twice the rate.

Knows connections by `shutdown`, which all of uvicorn's protocols have, and `leave`, which ours has; no signal, no
server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Container, Iterable
from random import Random
from typing import Any, Protocol

LEAST_PER_S = 10.0
"""The rate where there are few connections."""
TICK_S = 0.05
CATCH_UP = 4
"""So many times as much as the pause before may be made up for at once: less piles up at the end, more is a burst."""


class Leaving(Protocol):
    """
    A connection. One that knows whether its application is at work has `leave`, too.

    `leave() -> bool` tells the peer 1012 unless it is; whether the peer has been told, or has gone.
    """

    def shutdown(self) -> None:
        """Tell the peer 1012 at once."""


class Drain:
    """
    The plan for all `connections`; who is not in `present` any more is gone.

    It looks at no clock: `step` is told how many of the `within_s` seconds are over.
    """

    def __init__(
        self, connections: Iterable[Leaving], present: Container[object], within_s: float, random: Random
    ) -> None:
        in_no_order = list(connections)
        random.shuffle(in_no_order)
        # one in each step of the count, somewhere within it
        self._planned = deque((number + random.random(), each) for number, each in enumerate(in_no_order))
        self._number = len(in_no_order)
        self._present, self._within_s = present, within_s
        self._per_s = max(self._number / within_s, LEAST_PER_S)
        self._count = 0.0  # how far the plan has got, in connections
        self._now_s = 0.0
        self._pace_s = TICK_S  # between the latest two steps
        self._overdue: list[Leaving] = []  # in the order of their moments
        self.told_once: set[Leaving] = set()  # those without `leave`, which cannot be told again

    def step(self, now_s: float) -> bool:
        """Tell those who are to be told by now. Whether that was the last of them."""
        self._advance(now_s)
        while self._planned and self._planned[0][0] <= self._count:
            self._overdue.append(self._planned.popleft()[1])
        at_work = [connection for connection in self._overdue if not self._leaves(connection)]
        most = max(0, int(self._per_s * (self._within_s - now_s)))
        too_many = max(0, len(at_work) - most)
        for connection in at_work[:too_many]:
            connection.shutdown()
        self._overdue = at_work[too_many:]
        return not self._planned and not self._overdue

    def _advance(self, now_s: float) -> None:
        passed_s, left_s = now_s - self._now_s, self._within_s - self._now_s
        self._now_s = now_s
        if passed_s >= left_s:
            self._count = self._number
        else:
            # what is missed where a worker is held up once is spread over what is left, and does not come at once;
            # where each step is late, each one has more to do
            counted_s = min(passed_s, CATCH_UP * self._pace_s)
            self._pace_s = max(passed_s, TICK_S)
            self._count += counted_s * max((self._number - self._count) / left_s, LEAST_PER_S)

    def _leaves(self, connection: Any) -> bool:
        if connection not in self._present:
            return True
        if hasattr(connection, "leave"):
            return bool(connection.leave())
        self.told_once.add(connection)
        connection.shutdown()
        return True


async def drain(plan: Drain, hurry: asyncio.Event) -> None:
    """Return when all have been told, or as soon as there is no time for that: the rest has not been told then."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not hurry.is_set() and not plan.step(loop.time() - began):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), TICK_S)
