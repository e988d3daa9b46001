"""Other wires than flat JSON in text frames: what they cost against the loop that most people write for them."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.load import Shape
from benchmarks.progress import Show
from benchmarks.rounds import Cell, fleet, measure, ours_failed, table, with_absent
from benchmarks.servers import BINARY


@pytest.mark.timeout(0)
def test_binary_echo(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """A binary frame of 1 KB is handed over and sent back."""
    cell, rounds = Cell(Shape(32, 1), 1024), 30 if full else 8
    show.steps = len(BINARY) * (1 + rounds)
    with fleet(BINARY, pinned, show.step) as (servers, absent):
        rows = with_absent(measure(cell, servers, rounds, 0.2 if full else 0.05, show.step), absent, BINARY)
    figures[f"binary echo {cell.title}"] = rows
    show(table(f"Binary echo, {cell.title}", rows, BINARY))
    assert not ours_failed(rows, BINARY)
