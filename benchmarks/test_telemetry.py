"""What telemetry costs a round trip: the same endpoint with metrics for Prometheus, and without."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.load import Shape
from benchmarks.progress import Show
from benchmarks.rounds import Cell, Row, fleet, measure, ours_failed, table, with_absent
from benchmarks.servers import OBSERVED

CELLS = [Cell(Shape(32, 1)), Cell(Shape(16, 16))]
PROMISED = 1.04
"""How much dearer a round trip with metrics may be."""


@pytest.mark.on_request
@pytest.mark.timeout(0)
def test_telemetry(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every message is answered rightly, counted or not; the lines below the tables show at which cost."""
    rounds = 30 if full else 8
    show.steps = len(OBSERVED) * (1 + len(CELLS) * rounds)
    broken = []
    with fleet(OBSERVED, pinned, show.step) as (servers, absent):
        for cell in CELLS:
            rows = with_absent(measure(cell, servers, rounds, 0.2 if full else 0.05, show.step), absent, OBSERVED)
            broken += ours_failed(rows, OBSERVED)
            figures[f"telemetry {cell.title}"] = rows
            show(table(f"Telemetry, {cell.title}", rows, OBSERVED))
            show(f"  with metrics {cost(rows):.2f}x (promised: {PROMISED}x)")
    assert not broken


def cost(rows: dict[str, Row]) -> float:
    with_metrics, without = rows["ours-prometheus"], rows["ours"]
    return float(with_metrics.get("ratio", "nan")) / float(without.get("ratio", "nan"))
