"""What two snapshots say of the time between them."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketsundso.top.figures import Figures, quantile
from socketsundso.top.snapshot import Snapshot

BOUNDS = [0.001, 0.01, 0.1]


def worker(pid: int = 1, at_s: float = 10.0, started_at: float = 100.0, **said: Any) -> dict[str, Any]:
    return {"pid": pid, "state": "serving", "started_at": started_at, "uptime_s": at_s, "bounds": BOUNDS, **said}


def counted(received: int, **more: list[dict[str, Any]]) -> dict[str, Any]:
    return {"received_messages": [{"endpoint": "Chat", "event": "say", "value": received}], **more}


def snapshot(*workers: dict[str, Any]) -> Snapshot:
    return msgspec.convert({"server": "socketsundso", "workers": workers}, Snapshot)


def test_rates_are_over_the_workers_own_time() -> None:
    """However long the answer was on its way: 30 messages in the 2 s that the worker knows of."""
    figures = Figures.between(
        snapshot(worker(at_s=10, metrics=counted(100), cpu_s=1.0)),
        snapshot(worker(at_s=12, metrics=counted(130), cpu_s=1.5)),
    )
    assert figures.received_per_s == 15
    (told,) = figures.workers
    assert (told.received_per_s, told.cpu, told.uptime_s) == (15, 0.25, 12)
    (event,) = figures.events
    assert (event.endpoint, event.event, event.received_per_s) == ("Chat", "say", 15)


def test_all_workers_together() -> None:
    """Their rates are added, whatever their times are."""
    figures = Figures.between(
        snapshot(worker(1, 10, metrics=counted(0)), worker(2, 50, metrics=counted(0))),
        snapshot(worker(1, 11, metrics=counted(7)), worker(2, 52, metrics=counted(6))),
    )
    assert figures.received_per_s == 10
    assert figures.events[0].received_per_s == 10


def test_a_worker_in_the_place_of_another_one() -> None:
    """The counters of one that is gone are no loss, and those of one that began meanwhile are no leap."""
    figures = Figures.between(
        snapshot(worker(1, 1000, metrics=counted(90_000))), snapshot(worker(2, 2, 1099.0, metrics=counted(10)))
    )
    assert figures.received_per_s == 5
    again = Figures.between(
        snapshot(worker(1, 1000, metrics=counted(90_000))), snapshot(worker(1, 2, 1099.0, metrics=counted(10)))
    )
    assert again.received_per_s == 5  # the same process id, which is not the same process


def test_the_first_snapshot_has_no_rates() -> None:
    """What a worker has done since it began says nothing of now."""
    figures = Figures.between(None, snapshot(worker(metrics=counted(1000), websockets=3)))
    assert (figures.connections, figures.received_per_s) == (3, 0)
    assert (figures.workers[0].connections, figures.workers[0].received_per_s) == (3, None)


def test_the_same_snapshot_twice() -> None:
    """No time has passed: nothing is divided by it."""
    once = snapshot(worker(metrics=counted(1000)))
    assert Figures.between(once, once).workers[0].received_per_s is None


def test_one_that_is_silent_is_compared_with_what_it_said_before() -> None:
    """It is shown with its state alone; when it speaks again, its rate is over all of the time."""
    before = snapshot(worker(1, 10, metrics=counted(100)))
    silent = snapshot({"pid": 1, "state": "silent"})
    figures = Figures.between(before, silent)
    assert [(each.pid, each.state, each.connections) for each in figures.workers] == [(1, "silent", None)]
    back = Figures.between(silent.with_silent(before), snapshot(worker(1, 15, metrics=counted(200))))
    assert back.received_per_s == 20


def test_what_is_sent_is_all_that_clients_get() -> None:
    """Replies, pushes, messages of rooms and error frames."""
    each = [{"value": 10}]
    metrics = {"sent_messages": each, "pushed_messages": each, "deliveries": each, "errors": each}
    assert Figures.between(snapshot(worker(at_s=10)), snapshot(worker(at_s=11, metrics=metrics))).sent_per_s == 40


def test_what_went_wrong_by_its_kind() -> None:
    """The most frequent first; what did not happen meanwhile is not named."""

    def errors(**by_code: int) -> dict[str, Any]:
        return {"errors": [{"endpoint": "Chat", "code": code, "value": value} for code, value in by_code.items()]}

    figures = Figures.between(
        snapshot(worker(at_s=10, metrics=errors(old=5, few=1, many=2))),
        snapshot(worker(at_s=12, metrics=errors(old=5, few=3, many=12))),
    )
    assert figures.errors == {"many": 5, "few": 1}
    assert list(figures.errors) == ["many", "few"]


def taken(**buckets: list[int]) -> dict[str, Any]:
    named = [{"endpoint": "Chat", "event": "say", "outcome": each, "buckets": of} for each, of in buckets.items()]
    return counted(0, handler_seconds=named)


def test_percentiles_are_those_of_the_time_between() -> None:
    """A thousand fast calls before say nothing; cancelled ones are left out."""
    figures = Figures.between(
        snapshot(worker(at_s=10, metrics=taken(ok=[1000, 0, 0, 0]))),
        snapshot(worker(at_s=11, metrics=taken(ok=[1000, 0, 98, 0], failed=[0, 0, 2, 0], cancelled=[0, 0, 0, 50]))),
    )
    assert figures.p50_s == pytest.approx(0.055)
    assert figures.p99_s == pytest.approx(0.0991)
    (event,) = figures.events
    assert (event.p99_s, event.failed_per_s) == (figures.p99_s, 2)


@pytest.mark.parametrize(
    ("q", "counts", "expected"),
    [
        (0.5, [], None),
        (0.5, [0, 0, 0, 0], None),
        (0.5, [10, 0, 0, 0], 0.0005),
        (1.0, [0, 10, 0, 0], 0.01),
        (0.99, [0, 0, 0, 1], math.inf),
        (0.9, [90, 0, 0, 10], 0.001),
        (0.91, [90, 0, 0, 10], math.inf),
    ],
)
def test_a_quantile_of_buckets(q: float, counts: list[int], expected: float | None) -> None:
    """Within a bucket values are taken to be spread evenly; above the last bound nobody knows."""
    assert quantile(q, counts, BOUNDS) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.floats(0, 0.099), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_the_value(values: list[float], q: float) -> None:
    """Of any values: as exact as the buckets are."""
    counts = [0] * 4
    for value in values:
        counts[next(number for number, bound in enumerate(BOUNDS) if value <= bound)] += 1
    exact = sorted(values)[math.ceil(q * len(values)) - 1]
    found = quantile(q, counts, BOUNDS)
    place = next(number for number, bound in enumerate(BOUNDS) if exact <= bound)
    assert found is not None
    assert (BOUNDS[place - 1] if place else 0) <= found <= BOUNDS[place] + 1e-12


histories = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 2), st.floats(0.001, 100), st.integers(0, 1000)), max_size=4
)


@given(histories, histories)
def test_no_rate_is_ever_negative(before: list[Any], after: list[Any]) -> None:
    """Whatever comes behind whatever, also counters that have become less."""

    def of(history: list[Any]) -> Snapshot:
        each = {pid: worker(pid, at, float(start), metrics=taken(ok=[n] * 4)) for pid, start, at, n in history}
        return snapshot(*each.values())

    figures = Figures.between(of(before), of(after))
    rates = [figures.received_per_s, figures.sent_per_s, *(each.received_per_s or 0 for each in figures.workers)]
    assert all(rate >= 0 and math.isfinite(rate) for rate in rates)
    assert figures.p99_s is None or figures.p99_s >= 0


def test_rooms_are_added_up() -> None:
    """Of all workers, the largest first; where a worker names not all of its rooms, the number is a lower bound."""

    def rooms(count: int, **members: int) -> dict[str, Any]:
        return {"count": count, "largest": [{"room": name, "members": n} for name, n in members.items()]}

    figures = Figures.between(None, snapshot(worker(1, rooms=rooms(2, a=5, b=4)), worker(2, rooms=rooms(2, b=4, c=1))))
    assert [(each.room, each.members) for each in figures.rooms] == [("b", 8), ("a", 5), ("c", 1)]
    assert (figures.room_count, figures.rooms_are_all) == (3, True)
    many = Figures.between(None, snapshot(worker(1, rooms=rooms(900, a=5)), worker(2, rooms=rooms(1, c=1))))
    assert (many.room_count, many.rooms_are_all) == (900, False)


def test_slow_readers_of_all_workers() -> None:
    """The one for whom most waits first."""

    def slow(name: str, waiting: int) -> dict[str, Any]:
        reader = {"connection": name, "endpoint": "Chat", "queued_bytes": waiting, "unsent_bytes": 1}
        return {"count": 3, "slowest": [reader]}

    figures = Figures.between(
        None, snapshot(worker(1, slow_readers=slow("a", 5)), worker(2, slow_readers=slow("b", 9)))
    )
    assert [(each.connection, each.all_bytes) for each in figures.slow] == [("b", 10), ("a", 6)]
    assert figures.slow_count == 6


def test_backplanes_that_are_away() -> None:
    """One worker that says so is enough."""

    def up(value: int) -> dict[str, Any]:
        return {"backplane_up": [{"backplane": "redis", "value": value}]}

    assert Figures.between(None, snapshot(worker(1, metrics=up(1)), worker(2, metrics=up(0)))).away == ("redis",)


def test_what_a_newer_server_says_beyond_that() -> None:
    """Unknown keys, metrics and states are no error; nor are samples that lack something."""
    told = worker(metrics={"new": [{"x": 1}], "errors": [{}], "handler_seconds": [{"outcome": "ok"}]}, more={"a": 1})
    figures = Figures.between(snapshot(worker(at_s=9)), snapshot(told | {"state": "resting"}))
    assert figures.workers[0].state == "resting"
