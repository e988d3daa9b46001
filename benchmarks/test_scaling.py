"""
Scaling over 1 and 2 worker processes. The servers may use every core here, and share them with the load: with fewer
than three cores the second worker takes time from the generator, and the table says so.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest

from benchmarks.load import Load, Shape, cpu_seconds, message
from benchmarks.progress import Show
from benchmarks.rounds import Row, attempt, lines_of, ours_failed
from benchmarks.servers import Competitor, pick, running

KEYS = ["naive", "msgspec", "ours-uvicorn", "ours"]
QUICK_KEYS = ["naive", "ours"]


def scaling(competitor: Competitor, workers: int, seconds: float) -> Row:
    with (
        running(competitor, None, workers=workers) as (port, pid),
        contextlib.closing(Load(port, Shape(64, 4), message(), competitor.dialect)) as load,
    ):
        load.run(2000)
        wall = load.run(4000).wall_s
        messages = max(4000, int(4000 / wall * seconds))
        before = cpu_seconds(pid)
        wall = load.run(messages).wall_s
        return {"messages_per_s": messages / wall, "cpu_us": (cpu_seconds(pid) - before) / messages * 1e6}


@pytest.mark.timeout(0)
def test_scaling(full: bool, figures: dict[str, Any], show: Show) -> None:
    """What a second worker adds."""
    competitors = pick(*(KEYS if full else QUICK_KEYS))
    show.steps = len(competitors) * 2
    rows: dict[int, dict[str, Row]] = {1: {}, 2: {}}
    for competitor in competitors:
        for workers, taken in rows.items():
            show.step(f"{workers} workers: {competitor.name}")
            taken[competitor.key] = attempt(scaling, competitor, workers, 4 if full else 0.8)
    figures.update({f"scaling {workers}": taken for workers, taken in rows.items()})
    show(table(rows, competitors))
    assert not any(ours_failed(taken, competitors) for taken in rows.values())


def table(rows: dict[int, dict[str, Row]], competitors: list[Competitor]) -> str:
    few = len(os.sched_getaffinity(0)) < 3
    note = "; workers and load share 2 cores: the gain is less than a machine with room would show" if few else ""
    lines = [
        f"Scaling, 64x4{note}",
        f"  {'':35}{'1 worker/s':>12}{'2 workers/s':>13}{'gain':>7}{'CPU us, 1':>11}{'CPU us, 2':>11}",
    ]
    both = {
        key: next((row for row in (one, rows[2][key]) if "failed" in row), {"one": one, "two": rows[2][key]})
        for key, one in rows[1].items()
    }
    lines += lines_of(
        both,
        competitors,
        lambda row: (
            f"{row['one']['messages_per_s']:12,.0f}{row['two']['messages_per_s']:13,.0f}"
            f"{row['two']['messages_per_s'] / row['one']['messages_per_s']:6.2f}x"
            f"{row['one']['cpu_us']:11.1f}{row['two']['cpu_us']:11.1f}"
        ),
    )
    return "\n".join(lines)
