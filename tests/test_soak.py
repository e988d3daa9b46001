"""The soak itself: for seconds, and that it finds what it is for."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.conftest import SOAK, pytest_ignore_collect, questions
from benchmarks.soak import churn, steady
from benchmarks.soak.growth import Growth, Series
from benchmarks.soak.guests import Guest
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.lines import Line
from benchmarks.test_soak import FLAT, conclude

PID, OTHER = 7, 8
EPOCH = "a"


def silent(what: str) -> None:
    """No progress is shown."""


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def guest(ledger: Ledger) -> Guest:
    """Somebody who is in a room, and has heard its first message."""
    guest = Guest(ledger, 1, ["doc:1"], [0], Random(1))
    guest._fresh.add("doc:1")
    guest.positioned("doc:1", EPOCH, 0)
    guest.heard("doc:1", 1, (2, 0))
    assert not ledger.wrong
    return guest


@pytest.mark.timeout(300)
def test_guests_under_faults() -> None:
    """One cycle with a worker and the engine killed: nothing is wrong, and all of it was counted and weighed."""
    faults = {"kill": 1.0, "engine": 1.0}
    plan = churn.Plan(0.1, 3, guests=12, rooms=3, cycle_s=1.0, pause_s=0.1, presence_ttl_s=2.0, faults=faults)
    outcome = asyncio.run(churn.churned("redis", plan, silent))
    counts = outcome.ledger.counts
    assert outcome.ledger.wrong == []
    assert (counts["fault: kill"], counts["fault: engine"], counts["cycles"]) == (1, 1, 1)
    assert counts["connections"] == sum(count for name, count in counts.items() if name.startswith("ended: "))
    assert min(counts["say: sent"], counts["history messages seen"], counts["resumed"]) > 0
    weighed = {who for who, _ in outcome.series._samples}
    assert weighed == {"parent of the workers", "spared process", "new worker"}


def test_guests_who_stay() -> None:
    """Beside others that say nothing: all are answered, and all of the room hear the same."""
    outcome = asyncio.run(steady.steadied(steady.Plan(1.0, 3, idle=30, talking=20, sample_s=0.1), silent))
    counts = outcome.ledger.counts
    assert outcome.ledger.wrong == []
    assert (counts["idle connections"], counts["ended: closed by the client"]) == (30, 20)
    assert counts["history messages seen"] == 10 * counts["history messages"] == 10 * counts["said"] > 0
    assert {what for _, what in outcome.series._samples} == {"resident", "own", "files", "tasks"}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ((3, (2, 1)), "went on from 1 with 3"),
        ((1, (2, 0)), "went on from 1 with 1"),
        ((2, (2, 0)), "is kept twice"),
    ],
)
def test_a_hole_or_a_copy_in_a_history_is_wrong(
    ledger: Ledger, guest: Guest, said: tuple[int, tuple[int, int]], found: str
) -> None:
    """Also where it is another number that the same message has."""
    guest.heard("doc:1", *said)
    assert found in ledger.wrong[0]


def test_two_histories_of_a_room_are_wrong(ledger: Ledger, guest: Guest) -> None:
    """Each number is the same message for everybody."""
    other = Guest(ledger, 2, ["doc:1"], [0], Random(1))
    other._fresh.add("doc:1")
    other.positioned("doc:1", EPOCH, 0)
    other.heard("doc:1", 1, (3, 5))
    assert "is (2, 0) for one and (3, 5) for another" in ledger.wrong[0]


def test_a_message_that_was_acknowledged_may_not_be_missing(ledger: Ledger, guest: Guest) -> None:
    """Save where the engine forgot it a moment later."""
    ledger.acknowledged((2, 0))
    ledger.acknowledged((2, 1))
    ledger.settle()
    assert ledger.wrong == ["(2, 1) was acknowledged, and nobody got it"]
    ledger.acknowledged((2, 2))
    ledger.forgotten_at = time.monotonic()
    ledger.settle()
    assert (len(ledger.wrong), ledger.counts["lost with the engine's memory"]) == (1, 1)


def test_a_history_may_begin_anew_only_where_an_engine_forgot(ledger: Ledger, guest: Guest) -> None:
    """Then a gap tells of it, and its epoch is another one."""
    ledger.forgotten_at = time.monotonic()
    guest.missed("doc:1", None)
    guest.positioned("doc:1", "b", 0)
    guest.heard("doc:1", 1, (2, 1))
    assert not ledger.wrong
    guest.positioned("doc:1", "b", 5)
    assert "without a gap" in ledger.wrong[0]
    ledger.forgotten_at = float("-inf")
    guest.missed("doc:1", None)
    guest.positioned("doc:1", "c", 0)
    assert "has lost its history" in ledger.wrong[1]


@pytest.mark.parametrize("code", [0, 1000, 1001, 1011, 1012, 1013])
def test_an_end_that_nothing_explains_is_wrong(ledger: Ledger, guest: Guest, code: int) -> None:
    """Also one that a fault of another worker would explain."""
    ledger.begin("kill", frozenset([OTHER])).over()
    ledger.begin("restart", frozenset([OTHER])).over()
    line = Line(guest)
    line.pid, line.close_code = PID, code
    line.on_ws_disconnected(None)
    assert f"the connection to {PID} ended with {code or 'no close frame'}" in ledger.wrong[0]


@pytest.mark.parametrize(
    ("kind", "code", "own_end", "deaf"),
    [("kill", 0, False, False), ("restart", 1012, False, False), ("", 1013, False, True), ("", 1000, True, False)],
)
def test_an_end_may_have_a_reason(
    ledger: Ledger, guest: Guest, kind: str, code: int, own_end: bool, deaf: bool
) -> None:
    """A fault of that worker, or what the client did."""
    if kind:
        ledger.begin(kind, frozenset([PID]))
    line = Line(guest)
    line.pid, line.close_code, line.own_end, line.deaf = PID, code, own_end, deaf
    line.on_ws_disconnected(None)
    assert not ledger.wrong


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "said", "room": "doc:9", "seq": 1, "sender": 1, "n": 1},
        {"type": "echoed", "ref": 99, "text": "x"},
        {"type": "news"},
        {"type": "presence_diff", "room": "doc:1", "joins": {}, "leaves": {"id": {}}},
    ],
    ids=lambda frame: frame["type"],
)
def test_a_frame_that_fits_nothing_is_wrong(ledger: Ledger, guest: Guest, frame: dict[str, Any]) -> None:
    """Of a room that it is not in, an answer to nothing, what was never promised, who left without being there."""
    from picows import WSMsgType

    payload = json.dumps(frame).encode()
    Line(guest).on_ws_frame(
        None,
        SimpleNamespace(
            msg_type=WSMsgType.TEXT,
            get_payload_as_memoryview=lambda: payload,
            get_payload_as_ascii_text=payload.decode,
        ),
    )
    assert frame["type"] in ledger.wrong[0]


def test_a_request_that_came_to_no_end_is_wrong(ledger: Ledger) -> None:
    """What was sent is what was answered, refused and lost."""
    ledger.counts.update({"say: sent": 9, "say: answered": 6, "say: lost": 2, "say: refused": 1})
    ledger.balance()
    assert not ledger.wrong
    ledger.counts["say: lost"] -= 1
    ledger.balance()
    assert ledger.wrong == ["say: 9 were sent, 8 have ended"]


def growing(share: float) -> Series:
    """A minute of a process that has filled up after six seconds, and goes on from there."""
    series = Series()
    for at_s in range(61):
        settled = 1e6 * (1 + share * max(0, at_s - 9) / 48)
        series.add("server", at_s, {"resident": settled if at_s >= 6 else 1e5 * at_s, "tasks": 9})
    return series


@pytest.mark.parametrize("share", [-0.05, 0.0, 0.015, 0.025])
def test_what_grows_after_the_first_tenth_fails(ledger: Ledger, share: float) -> None:
    """The second tenth is compared with the last; what became less is no growth."""
    figures: dict[str, Any] = {}
    show: Any = silent
    outcome = churn.Outcome(ledger, growing(share), 60.0)
    memory, tasks = outcome.series.growth(60.0)
    assert (memory.share, tasks.share) == (pytest.approx(share, abs=1e-4), 0.0)
    if share > FLAT:
        with pytest.raises(AssertionError, match=r"server, resident: 1.00 MB -> 1.02 MB"):
            conclude("soak", outcome, FLAT, figures, show)
    else:
        conclude("soak", outcome, FLAT, figures, show)
    assert figures["soak"]["server, resident"].keys() == {"early", "late"}


def test_what_is_shown_beside_may_grow(ledger: Ledger) -> None:
    """How many objects the garbage collector knows is a hint, and no verdict."""
    series = Series()
    show: Any = silent
    for at_s in range(61):
        series.add("server", at_s, {"objects": 1_000 + 10 * at_s})
    conclude("soak", churn.Outcome(ledger, series, 60.0), FLAT, {}, show)


def test_the_nearest_three_samples_stand_for_a_tenth_without(ledger: Ledger) -> None:
    """A run of few cycles has a verdict, too; one of fewer than that has none."""
    series = Series()
    for at_s, tasks in ((0, 1), (20, 4), (30, 5), (40, 6), (60, 7), (70, 8), (80, 9)):
        series.add("server", at_s, {"tasks": tasks})
    assert series.growth(100.0) == [Growth("server", "tasks", 5, 8)]
    assert series.growth(300.0) == []


@pytest.mark.parametrize(("name", "minutes", "wanted"), [(SOAK, 0, False), (SOAK, 1, True), ("test_idle.py", 1, False)])
def test_the_soak_is_asked_alone_or_not_at_all(name: str, minutes: float, wanted: bool) -> None:
    """Whoever asks for minutes gets nothing else, and no other run has it."""
    config: Any = SimpleNamespace(getoption=lambda option: minutes)
    path = Path(__file__).parent.parent / "benchmarks" / name
    assert path.exists()
    assert pytest_ignore_collect(path, config) is (None if wanted else True)
    assert SOAK not in {each.name for each in questions()}
