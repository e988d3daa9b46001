"""
What the envelope of a message costs: other keys, a nested data part, arrays, JSON-RPC, each beside the flat one and
beside a naive loop that reads the same wire with a pydantic union. Every message has a `ref`, which its reply repeats.
And the echo of a binary frame.

Servers take turns as in `roundtrip`; the bounds that are promised are printed beside.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.load import Shape, message
from benchmarks.progress import Show
from benchmarks.prompt import Exchange
from benchmarks.rounds import Cell, Conversation, Row, fleet, measure, ours_failed, table, with_absent
from benchmarks.servers import BINARY, ENVELOPED

SAID = message() | {"ref": 7}
TO_FLAT = {"renamed": 1.02, "nested": 1.08, "arrays": 1.08, "json-rpc": 1.15}
TO_NAIVE = {Shape(32, 1): 0.34, Shape(16, 16): 0.2}


@pytest.mark.on_request
@pytest.mark.timeout(0)
def test_wire(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every message is answered in its envelope; the tables show at which cost."""
    rounds = 30 if full else 5
    show.steps = sum(len(some) * (1 + rounds * len(TO_NAIVE)) for some in ENVELOPED.values())
    broken, promised = [], []
    for name, competitors in ENVELOPED.items():
        with fleet(competitors, pinned, show.step) as (servers, absent):
            for shape, to_naive in TO_NAIVE.items():
                cell = Conversation(shape, what=f"{name} messages", exchange=Exchange(SAID, [SAID]))
                taken = measure(cell, servers, rounds, 0.2 if full else 0.05, show.step)
                rows = figures[cell.title] = with_absent(taken, absent, competitors)
                broken += ours_failed(rows, competitors)
                show(table(cell.title[:1].upper() + cell.title[1:], rows, competitors))
                promised.append(told(cell.title, rows, TO_FLAT[name], to_naive))
    show("\n".join(promised))
    assert not broken


@pytest.mark.on_request
@pytest.mark.timeout(0)
def test_binary_echo(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """A binary frame of 1 KB is handed over and sent back."""
    asked, rounds = Cell(Shape(32, 1), 1024), 30 if full else 8
    show.steps = len(BINARY) * (1 + rounds)
    with fleet(BINARY, pinned, show.step) as (servers, absent):
        rows = with_absent(measure(asked, servers, rounds, 0.2 if full else 0.05, show.step), absent, BINARY)
    figures[f"binary echo {asked.title}"] = rows
    show(table(f"Binary echo, {asked.title}", rows, BINARY))
    assert not ours_failed(rows, BINARY)


def told(title: str, rows: dict[str, Row], to_flat: float, to_naive: float) -> str:
    """What was promised, and what it is."""
    flat, ours = (rows[key].get("ratio") for key in ("ours-flat", "ours"))
    if not (flat and ours):
        return f"  {title}: no ratio"
    return (
        f"  {title}: {ours / flat:.2f}x of flat messages (promised: {to_flat}x), "
        f"{ours:.2f}x of the naive loop (promised: {to_naive}x)"
    )
