"""
Latency under a fixed rate, at 50 % and 80 % of what each server can do: open loop, no coordinated omission.

Messages leave by the clock, whether or not the one before was answered; each one's latency counts from the moment it
was due. `late` is the generator's own median lag: where it comes near the median, the row measures the load.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from benchmarks.load import Load, Shape, message
from benchmarks.progress import Show
from benchmarks.rounds import Row, attempt, lines_of, ours_failed
from benchmarks.servers import Competitor, pick, running

KEYS = ["naive", "aiohttp", "ours-uvicorn", "ours"]
SHAPE = Shape(32, 1)
SHARES = (0.5, 0.8)


def latency(competitor: Competitor, core: int, seconds: float) -> dict[Any, Any]:
    """A row for each share of the capacity."""
    with (
        running(competitor, core) as (port, _),
        contextlib.closing(Load(port, SHAPE, message(), competitor.dialect)) as load,
    ):
        load.run(2000)
        wall = load.run(2000).wall_s
        messages = max(2000, int(2000 / wall * seconds))
        capacity = messages / load.run(messages).wall_s
        rows = {}
        for share in SHARES:
            waited, late = load.at_rate(capacity * share, seconds)
            rows[share] = {
                "per_s": capacity * share,
                **{
                    f"p{at}_us": waited[min(len(waited) - 1, int(len(waited) * at / 100))] * 1e6
                    for at in (50, 99, 99.9)
                },
                "max_us": waited[-1] * 1e6,
                "late_us": late * 1e6,
            }
        return rows


@pytest.mark.timeout(0)
def test_latency(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """How long a message takes while the server has room left."""
    competitors = pick() if full else pick(*KEYS)
    show.steps = len(competitors)
    rows: dict[float, dict[str, Row]] = {share: {} for share in SHARES}
    for competitor in competitors:
        show.step(f"latency: {competitor.name}")
        taken = attempt(latency, competitor, pinned, 5 if full else 0.8)
        for share in SHARES:
            rows[share][competitor.key] = taken if "failed" in taken else taken[share]
    for share in SHARES:
        figures[f"latency at {share:.0%}"] = rows[share]
        show(table(share, rows[share], competitors))
    assert not ours_failed(rows[SHARES[0]], competitors)


def table(share: float, rows: dict[str, Row], competitors: list[Competitor]) -> str:
    columns = "".join(f"{name:>10}" for name in ("at msg/s", "p50 us", "p99 us", "p99.9 us", "max us", "late us"))
    lines = [f"Latency at {share:.0%} of each server's own capacity, 32 connections", f"  {'':35}{columns}"]
    lines += lines_of(rows, competitors, lambda row: "".join(f"{value:10,.0f}" for value in row.values()))
    return "\n".join(lines)
