"""The plan of a drain: who is told, and when, by a clock that the test is."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketsundso.operations.draining import LEAST_PER_S, TICK_S, Drain, Leaving

WITHIN_S = 10.0


class Connection:
    """Counts how it was told: in its own time, or at once. `busy_until` is the time to which its handler runs."""

    def __init__(self, busy_until: float = 0.0) -> None:
        self.busy_until = busy_until
        self.left_at: float | None = None
        self.cut_at: float | None = None
        self.now = 0.0

    def leave(self) -> bool:
        if self.now >= self.busy_until and self.left_at is None:
            self.left_at = self.now
        return self.left_at is not None

    def shutdown(self) -> None:
        assert self.left_at is None
        assert self.cut_at is None
        self.cut_at = self.now

    @property
    def told_at(self) -> float:
        told = self.left_at if self.cut_at is None else self.cut_at
        assert told is not None
        return told


def drained(connections: list[Connection], within_s: float = WITHIN_S) -> float:
    """Drain by a clock of our own; gives the time when all had been told."""
    plan = Drain(connections, set(connections), within_s, Random(1))
    tick = 0
    while True:
        for connection in connections:
            connection.now = tick * TICK_S
        if plan.step(tick * TICK_S):
            return tick * TICK_S
        tick += 1


def per_half_second(connections: list[Connection]) -> list[int]:
    counts = [0] * 20
    for connection in connections:
        counts[min(19, int(connection.told_at / 0.5))] += 1
    return counts


def test_idle_connections_are_told_at_an_even_rate() -> None:
    """Of 1,000 connections each half second of the 10 has 50, but for those on its edges."""
    connections = [Connection() for _ in range(1000)]
    drained(connections)
    assert all(45 <= count <= 55 for count in per_half_second(connections))


def test_a_worker_that_was_held_up_does_not_make_up_for_it_at_once() -> None:
    """After a second in which nothing went on, each half second has a little more than before."""
    connections = [Connection() for _ in range(1000)]
    plan = Drain(connections, set(connections), WITHIN_S, Random(1))
    times = [tick * TICK_S for tick in range(int(WITHIN_S / TICK_S) + 1) if not 60 < tick <= 80]
    for now in times:
        for connection in connections:
            connection.now = now
        done = plan.step(now)
    assert done
    counts = per_half_second(connections)
    assert max(counts) <= 70
    assert counts[-1] >= 45


@pytest.mark.parametrize("tick_s", [0.1, 0.25, 0.5])
def test_a_worker_that_is_slow_all_the_time_tells_at_an_even_rate(tick_s: float) -> None:
    """Where each step comes late, there is no heap at the end."""
    connections = [Connection() for _ in range(1000)]
    plan = Drain(connections, set(connections), WITHIN_S, Random(1))
    now, done = 0.0, False
    while not done:
        for connection in connections:
            connection.now = now
        done = plan.step(now)
        now += tick_s
    told = Counter(connection.told_at for connection in connections)
    assert max(told.values()) <= 1.5 * 100 * tick_s


def test_the_order_is_none() -> None:
    """Who connected first is not told first: two workers that drain do not empty the same rooms at the same time."""
    connections = [Connection() for _ in range(100)]
    drained(connections)
    moments = [connection.told_at for connection in connections]
    assert moments != sorted(moments)


def test_few_connections_need_less_time() -> None:
    """Ten connections are told within one second, whatever `--drain-s` says: that is no storm."""
    assert drained([Connection() for _ in range(10)]) <= 10 / LEAST_PER_S + TICK_S


def test_nobody_there() -> None:
    """Without a connection a drain is over at once."""
    assert drained([]) == 0


def test_a_handler_that_ends_is_waited_for() -> None:
    """A connection that is at work for 7 s is told then, and is not cut."""
    busy = Connection(busy_until=7.0)
    drained([busy, *(Connection() for _ in range(50))])
    assert busy.cut_at is None
    assert 7.0 <= busy.told_at <= 7.0 + 2 * TICK_S


def test_a_lone_stream_has_nearly_all_the_time() -> None:
    """What never ends is cut a moment before the end, not before."""
    endless = Connection(busy_until=1e9)
    drained([endless])
    assert endless.cut_at is not None
    assert WITHIN_S - 2 / LEAST_PER_S <= endless.cut_at <= WITHIN_S


def test_where_all_stream_they_are_cut_over_the_second_half() -> None:
    """1,000 endless streams: nobody is cut in the first 5 s, then 100 in each half second."""
    connections = [Connection(busy_until=1e9) for _ in range(1000)]
    assert drained(connections) <= WITHIN_S + TICK_S
    counts = per_half_second(connections)
    assert counts[:10] == [0] * 10
    assert all(85 <= count <= 115 for count in counts[10:])


def test_who_is_gone_is_left_alone() -> None:
    """A connection that vanished meanwhile is neither told nor waited for."""
    gone = Connection(busy_until=1e9)
    assert Drain([gone], set(), WITHIN_S, Random(1)).step(1.0)
    assert gone.cut_at is None


def test_a_protocol_that_cannot_tell_is_told_at_its_moment() -> None:
    """uvicorn's own protocols have `shutdown` alone, which is called once."""

    class Plain:
        told = 0

        def shutdown(self) -> None:
            self.told += 1

    plain = Plain()
    assert Drain([plain], {plain}, WITHIN_S, Random(1)).step(1.0)
    assert plain.told == 1


@given(
    st.lists(st.floats(0, 15), max_size=60), st.floats(0.1, 20), st.randoms(use_true_random=False), st.floats(0.01, 1)
)
def test_all_are_told_in_time(busy: list[float], within_s: float, random: Random, tick_s: float) -> None:
    """Whatever they do, at the end of the time everybody has been told, and who was cut was at work."""
    connections = [Connection(until) for until in busy]
    present: set[Leaving] = set(connections)
    plan = Drain(connections, present, within_s, random)
    now = 0.0
    done = False
    while now < within_s and not done:
        for connection in connections:
            connection.now = now
        done = plan.step(now)
        now += tick_s
    for connection in connections:
        connection.now = within_s
    assert done or plan.step(within_s)
    assert all(each.told_at <= within_s for each in connections)
    assert all(each.cut_at is None or each.cut_at < each.busy_until for each in connections)


@pytest.mark.parametrize("within_s", [0.1, 60.0])
def test_the_time_is_the_settings(within_s: float) -> None:
    """1,000 idle connections take as long as `--drain-s` says."""
    assert within_s * 0.9 <= drained([Connection() for _ in range(1000)], within_s) <= within_s + 2 * TICK_S
