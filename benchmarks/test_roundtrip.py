"""
Round trip of the typed chat message over loopback: server CPU per message, messages/s, and the ratio to the naive loop.

Every competitor at 32x1 and 16x16; other connection counts, sizes and invalid messages with those that stand closest.
32x1 once more under a load that answers each reply at once, and under a second one that does the same. Without
compression; then as a browser negotiates. Trust the CPU column and the ratios: rates depend on the machine's mood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks import report
from benchmarks.load import Shape
from benchmarks.progress import Show
from benchmarks.rounds import Cell, fleet, measure, ours_failed, table, with_absent
from benchmarks.servers import BROWSERS, COMPETITORS, Competitor, pick

MAIN = [Cell(Shape(32, 1)), Cell(Shape(16, 16)), Cell(Shape(32, 1), load="prompt")]
MORE = [
    Cell(Shape(1, 1)),
    Cell(Shape(256, 1)),
    Cell(Shape(32, 1), 1024),
    Cell(Shape(32, 1), 64 * 1024),
    Cell(Shape(16, 16), 1024),
    Cell(Shape(32, 1), load="prompt, in Python"),
]
INVALID = [Cell(Shape(16, 1), group=10, invalid=1)]
NEAREST = ["naive", "tuned", "msgspec", "ours-uvicorn", "ours", "ours-model", "ours-struct", "ours-native"]
ANSWER_ERRORS = ["naive", "tuned", "msgspec", "ours-uvicorn", "ours", "ours-model", "ours-struct"]
BROWSER = [Cell(Shape(32, 1), 106, load="browser"), Cell(Shape(16, 16), 106, load="browser")]
BROWSER_MORE = [Cell(Shape(32, 1), 1024, load="browser"), Cell(Shape(32, 1), 16 * 1024, load="browser")]
LIKELY = [
    "naive", "msgspec", "litestar", "socketio", "channels", "aiohttp", "websockets", "socketify", "node", "bun",
    "ours-uvicorn", "ours", "ours-struct", "ours-plain", "ours-none",
]  # fmt: skip
LARGER = ["naive", "aiohttp", "websockets", "node", "bun", "ours-uvicorn", "ours", "ours-plain", "ours-none"]

Question = tuple[list[Cell], list[Competitor], int]  # cells, those that are asked, rounds


@pytest.mark.timeout(0)
def test_roundtrip(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every server that runs answers every message rightly; the table shows at which cost."""
    rounds, more_rounds = (30, 15) if full else (6, 5)
    nearest = pick() if full else pick(*NEAREST)
    questions: list[Question] = [
        (MAIN, pick(), rounds),
        (MORE, nearest, more_rounds),
        (INVALID, pick(*ANSWER_ERRORS), more_rounds),
    ]
    broken = asked(COMPETITORS, questions, full, pinned, figures, show)
    show(report.loads_agree({"figures": figures}))
    assert not broken


@pytest.mark.timeout(0)
def test_browser_roundtrip(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """The same under a browser's offer of permessage-deflate, every message compressed; bytes beside CPU."""
    rounds, more_rounds = (20, 10) if full else (5, 5)
    likely, larger = (BROWSERS, BROWSERS) if full else (pick(*LIKELY, among=BROWSERS), pick(*LARGER, among=BROWSERS))
    questions: list[Question] = [(BROWSER, likely, rounds), (BROWSER_MORE, larger, more_rounds)]
    assert not asked(likely, questions, full, pinned, figures, show)


def asked(
    competitors: Sequence[Competitor],
    questions: Sequence[Question],
    full: bool,
    core: int,
    figures: dict[str, Any],
    show: Show,
) -> list[str]:
    """Measure and show every cell; gives what of our own failed."""
    show.steps = len(competitors) + sum(len(cells) * len(some) * rounds for cells, some, rounds in questions)
    broken = []
    with fleet(competitors, core, show.step) as (servers, absent):
        for cells, some, rounds in questions:
            chosen = {each.key: servers[each.key] for each in some if each.key in servers}
            for cell in cells:
                taken = measure(cell, chosen, rounds, 0.2 if full else 0.05, show.step)
                rows = with_absent(taken, absent, some)
                broken += ours_failed(rows, some)
                figures[f"roundtrip {cell.title}"] = rows
                show(table(f"Round trip, {cell.title}", rows, some))
    return broken
