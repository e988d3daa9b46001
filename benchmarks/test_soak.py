"""
Minutes or hours of real clients under faults: nothing is lost, nothing is left unexplained, nothing grows.

    pytest benchmarks/ --soak 10                       # ten minutes of each shape
    pytest benchmarks/ --soak 60 --only churn-redis    # one shape
    pytest benchmarks/ --soak 10 --soak-seed 7         # the same guests and faults again, as far as time allows

`benchmarks.soak.churn` and `benchmarks.soak.steady` say what is done. The verdict: no mistake, which the ledger names,
and memory, open files and tasks flat within 2 % after the first tenth; resident memory within 1 % where nothing is done
to the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from benchmarks.load import SPARE_FILES, allow_files
from benchmarks.progress import Show
from benchmarks.soak import churn, steady
from benchmarks.soak.churn import Outcome
from benchmarks.soak.growth import Growth

FLAT, STEADY_FLAT = 0.02, 0.01
JUDGED = {"resident", "files", "tasks"}
"""What must be flat; what else is weighed is shown beside it: `own` grows by as many bytes as `resident` does."""


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--soak")) * 60


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--soak-seed"))


@pytest.mark.parametrize("kind", ["redis", "nats"], ids=["churn-redis", "churn-nats"])
def test_soak(kind: str, seconds: float, seed: int, figures: dict[str, Any], show: Show) -> None:
    """Guests come, talk and go over two services, while workers and the engine are killed and restarted."""
    show(f"seed {seed}")
    outcome = asyncio.run(churn.churned(kind, churn.Plan(seconds, seed), show.step))
    conclude(f"soak churn-{kind}", outcome, FLAT, figures, show)


def test_steady_soak(seconds: float, seed: int, figures: dict[str, Any], show: Show) -> None:
    """10,000 connections say nothing and 1,000 talk."""
    plan = steady.Plan(seconds, seed)
    allow_files(plan.idle + plan.talking + SPARE_FILES)
    outcome = asyncio.run(steady.steadied(plan, show.step))
    conclude("soak steady", outcome, STEADY_FLAT, figures, show)


def conclude(title: str, outcome: Outcome, limit: float, figures: dict[str, Any], show: Show) -> None:
    growth = outcome.series.growth(outcome.seconds)
    counts = dict(sorted(outcome.ledger.counts.items()))
    figures[title] = {
        "counts": counts,
        **{f"{each.who}, {each.what}": {"early": each.early, "late": each.late} for each in growth},
    }
    show("\n".join([f"{title}, {outcome.seconds / 60:.1f} minutes", *lines(counts, growth)]))
    assert not outcome.ledger.wrong, "\n".join(outcome.ledger.wrong)
    assert not (grown := [str(each) for each in growth if each.what in JUDGED and each.share > limit]), "\n".join(grown)


def lines(counts: dict[str, int], growth: Iterable[Growth]) -> list[str]:
    return [f"  {name:45}{count:12,}" for name, count in counts.items()] + [f"  {each}" for each in growth]
