"""
Round trip of the typed chat message over loopback: server CPU per message, messages/s, and the ratio to the naive loop.

Every competitor at 32x1 and 16x16; other connection counts, sizes and invalid messages with those that stand closest.
No compression. Trust the CPU column and the ratios: rates depend on the machine's mood.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.load import Shape
from benchmarks.progress import Show
from benchmarks.rounds import Cell, fleet, measure, ours_failed, table, with_absent
from benchmarks.servers import COMPETITORS, pick

MAIN = [Cell(Shape(32, 1)), Cell(Shape(16, 16))]
MORE = [
    Cell(Shape(1, 1)),
    Cell(Shape(256, 1)),
    Cell(Shape(32, 1), 1024),
    Cell(Shape(32, 1), 64 * 1024),
    Cell(Shape(16, 16), 1024),
]
INVALID = [Cell(Shape(16, 1), group=10, invalid=1)]
NEAREST = ["naive", "tuned", "msgspec", "ours-uvicorn", "ours", "ours-struct", "ours-native"]
ANSWER_ERRORS = ["naive", "tuned", "msgspec", "ours-uvicorn", "ours", "ours-struct"]


@pytest.mark.timeout(0)
def test_roundtrip(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every server that runs answers every message rightly; the table shows at which cost."""
    rounds, more_rounds, seconds = (30, 15, 0.2) if full else (20, 12, 0.05)
    nearest = pick() if full else pick(*NEAREST)
    show.steps = len(COMPETITORS) * (1 + rounds * len(MAIN)) + more_rounds * (
        len(nearest) * len(MORE) + len(ANSWER_ERRORS) * len(INVALID)
    )
    broken = []
    with fleet(pick(), pinned, show.step) as (servers, absent):
        for cells, competitors, turns in (
            (MAIN, pick(), rounds),
            (MORE, nearest, more_rounds),
            (INVALID, pick(*ANSWER_ERRORS), more_rounds),
        ):
            chosen = {each.key: servers[each.key] for each in competitors if each.key in servers}
            for cell in cells:
                rows = with_absent(measure(cell, chosen, turns, seconds, show.step), absent, competitors)
                broken += ours_failed(rows, competitors)
                figures[f"roundtrip {cell.title}"] = rows
                show(table(f"Round trip, {cell.title}", rows, competitors))
    assert not broken
