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
from benchmarks.rounds import Row
from benchmarks.servers import Competitor, pick, running

KEYS = ["naive", "msgspec", "ours-uvicorn", "ours"]


def scaling(competitor: Competitor, workers: int, seconds: float) -> Row:
    try:
        with (
            running(competitor, None, workers=workers) as (port, pid),
            contextlib.closing(Load(port, Shape(64, 4), message(), competitor.dialect)) as load,
        ):
            load.run(2000)
            wall, _ = load.run(4000)
            messages = max(4000, int(4000 / wall * seconds))
            before = cpu_seconds(pid)
            wall, _ = load.run(messages)
            return {"messages_per_s": messages / wall, "cpu_us": (cpu_seconds(pid) - before) / messages * 1e6}
    except Exception as exc:  # a competitor that fails is a row that says so
        return {"failed": f"{type(exc).__name__}: {exc}".splitlines()[0][:90]}


@pytest.mark.timeout(0)
def test_scaling(full: bool, figures: dict[str, Any], show: Show) -> None:
    """What a second worker adds."""
    competitors = pick(*KEYS)
    show.steps = len(competitors) * 2
    few = len(os.sched_getaffinity(0)) < 3
    note = "; workers and load share 2 cores: the gain is less than a machine with room would show" if few else ""
    lines = [
        f"Scaling, 64x4{note}",
        f"  {'':35}{'1 worker/s':>12}{'2 workers/s':>13}{'gain':>7}{'CPU us, 1':>11}{'CPU us, 2':>11}",
    ]
    for competitor in competitors:
        rows = {}
        for workers in (1, 2):
            show.step(f"{workers} workers: {competitor.name}")
            rows[workers] = scaling(competitor, workers, 4 if full else 0.8)
            figures.setdefault(f"scaling {workers}", {})[competitor.key] = rows[workers]
        one, two = rows[1], rows[2]
        lines.append(
            f"  {competitor.name:35}  {one.get('failed') or two.get('failed')}"
            if "failed" in one or "failed" in two
            else f"  {competitor.name:35}{one['messages_per_s']:12,.0f}{two['messages_per_s']:13,.0f}"
            f"{two['messages_per_s'] / one['messages_per_s']:6.2f}x{one['cpu_us']:11.1f}{two['cpu_us']:11.1f}"
        )
    show("\n".join(lines))
