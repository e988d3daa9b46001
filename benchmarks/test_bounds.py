"""
A quick run against committed bounds (`bounds.json`): ratios to the naive loop, not times, so any machine will do.

`pytest benchmarks/test_bounds.py` needs nothing beyond the test group. The bounds are generous, since machines are
noisy; what is exact is counted in `tests/test_hot_path.py`. A cell above its bound is measured once more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load import Shape
from benchmarks.progress import Show
from benchmarks.rounds import Cell, Row, fleet, measure, table
from benchmarks.servers import pick

BOUNDS: dict[str, dict[str, float]] = json.loads(Path(__file__).with_name("bounds.json").read_text())
ROUNDS = (12, 30)
CELLS = {f"roundtrip {cell.title}": cell for cell in (Cell(Shape(32, 1)), Cell(Shape(16, 16)))}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CELLS, ids=lambda name: name.split()[1].rstrip(","))
def test_bounds(name: str, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every one of our rows stays below its committed ratio to the naive loop."""
    if name in figures and not above(name, figures[name]):
        return  # the whole suite has measured this cell before
    competitors = pick("naive", *BOUNDS[name])
    show.steps = len(competitors) * sum(ROUNDS)
    with fleet(competitors, pinned, show.step) as (servers, absent):
        assert not absent
        for rounds in ROUNDS:
            rows = measure(CELLS[name], servers, rounds, 0.05, show.step)
            show(table(name, rows, competitors))
            if not above(name, rows):
                return
    assert not above(name, rows)


def above(name: str, rows: dict[str, Row]) -> dict[str, Row]:
    """The rows of a cell that are above their bounds."""
    return {key: rows[key] for key, bound in BOUNDS[name].items() if rows[key].get("ratio", 99.0) > bound}
