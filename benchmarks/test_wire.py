"""
What the envelope of a message costs: other keys, a nested data part, arrays, each beside the flat one and beside a
naive loop that reads the same wire with a pydantic union. Every message has a `ref`, which its reply repeats. And the
echo of a binary frame.

Servers take turns as in `roundtrip`; the bounds that are promised are printed beside.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.load import Shape, message
from benchmarks.progress import Show
from benchmarks.prompt import Exchange
from benchmarks.rounds import BASE, Cell, Conversation, Row, fleet, measure, ours_failed, table, with_absent
from benchmarks.servers import BINARY, WIRES, Competitor, pick

SHAPES = (Shape(32, 1), Shape(16, 16))
SAID = message() | {"ref": 7}
TO_FLAT = {"renamed": 1.02, "nested": 1.08, "arrays": 1.08}
TO_NAIVE = (0.34, 0.2)
"""By shape."""


def cell(envelope: str, shape: Shape) -> Conversation:
    return Conversation(shape, what=f"{envelope} messages", exchange=Exchange(SAID, [SAID]))


@pytest.mark.timeout(0)
def test_wire(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every message is answered in its envelope; the tables show at which cost."""
    rounds = 30 if full else 5
    competitors = [each for each in WIRES if each.key != "naive-flat"]
    show.steps = len(competitors) + rounds * len(TO_FLAT) * len(SHAPES) * 3
    broken, promised = [], []
    with fleet(competitors, pinned, show.step) as (servers, absent):
        for envelope, to_flat in TO_FLAT.items():
            for shape, to_naive in zip(SHAPES, TO_NAIVE, strict=True):
                asked = cell(envelope, shape)
                keys = {BASE: f"naive-{envelope}", "ours-flat": "ours-flat", "ours": f"ours-{envelope}"}
                chosen = {key: servers[own] for key, own in keys.items() if own in servers}
                some = [as_key(pick(own, among=WIRES), key) for key, own in keys.items()]
                missing = {key: absent[own] for key, own in keys.items() if own in absent}
                rows = with_absent(measure(asked, chosen, rounds, 0.2 if full else 0.05, show.step), missing, some)
                figures[asked.title] = rows
                broken += ours_failed(rows, some)
                show(table(asked.title[:1].upper() + asked.title[1:], rows, some))
                promised.append(told(asked.title, rows, to_flat, to_naive))
    show("\n".join(promised))
    assert not broken


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


def as_key(found: list[Competitor], key: str) -> Competitor:
    """The row under the name that it has in one table."""
    (one,) = found
    return replace(one, key=key)


def told(title: str, rows: dict[str, Row], to_flat: float, to_naive: float) -> str:
    """What was promised, and what it is."""
    flat, ours = rows["ours-flat"], rows["ours"]
    if "ratio" not in flat or "ratio" not in ours:
        return f"  {title}: no ratio"
    return (
        f"  {title}: {ours['ratio'] / flat['ratio']:.2f}x of flat (promised: {to_flat}x), "
        f"{ours['ratio']:.2f}x of naive (promised: {to_naive}x)"
    )
