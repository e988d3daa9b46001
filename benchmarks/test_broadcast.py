"""
One tells many: server CPU per delivery, with 10 to 5,000 members, and 1, 4 and 16 broadcasts in flight.

One process per server on one core, the load on another; competitors take turns, several rounds; the median
counts. "In flight" means that so many members speak at the same time, the server sees all of it at once, and all wait
until everybody has everything. No compression, 80 bytes a message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from benchmarks.broadcast_load import Members
from benchmarks.load import settled_cpu_seconds
from benchmarks.progress import Show
from benchmarks.rounds import Row, Sampler, fleet, lines_of, ours_failed, take_turns, with_absent
from benchmarks.servers import BROADCASTERS, Competitor

IN_FLIGHT = (1, 4, 16)
# members: rounds, and deliveries of a sample
QUICK = {10: (20, 2_000), 1000: (8, 4_000)}
FULL = {10: (20, 8_000), 100: (12, 16_000), 500: (8, 40_000), 1000: (8, 40_000), 5000: (6, 40_000)}


def title(members: int, in_flight: int) -> str:
    return f"broadcast to {members:,} members, {in_flight} in flight"


@contextlib.contextmanager
def open_members(members: int, deliveries: int, competitor: Competitor, port: int, pid: int) -> Iterator[Sampler]:
    """The members of a room; each sample is about so many deliveries at each number in flight."""
    with contextlib.closing(Members(port, pid, members, competitor.dialect)) as load:

        def sample() -> dict[str, Row]:
            return {title(members, depth): sample_of(load, pid, depth, deliveries) for depth in IN_FLIGHT}

        yield sample


def sample_of(load: Members, pid: int, in_flight: int, deliveries: int) -> Row:
    members, speakers = len(load.sockets), min(in_flight, len(load.sockets))
    turns = max(1, deliveries // (members * speakers))
    load.say(1)
    before = settled_cpu_seconds(pid)
    for _ in range(turns):
        load.say(speakers)
    return {"cpu_us_per_delivery": (settled_cpu_seconds(pid) - before) / (turns * members * speakers) * 1e6}


def table(members: int, rows: dict[int, dict[str, Row]]) -> str:
    """CPU by the number of broadcasts in flight, with the ratio to the naive loop."""
    lines = [f"Broadcast to {members:,} members, CPU us per delivery (ratio to naive)"]
    lines.append(f"  {'in flight':35}" + "".join(f"{in_flight:>16}" for in_flight in IN_FLIGHT))
    lines += lines_of(
        {key: row if "failed" in row else {n: rows[n][key] for n in IN_FLIGHT} for key, row in rows[1].items()},
        BROADCASTERS,
        lambda row: "".join(
            f"{each['cpu_us_per_delivery']:8.2f}" + (f"{each['ratio']:7.2f}x" if "ratio" in each else " " * 8)
            for each in row.values()
        ),
    )
    return "\n".join(lines)


@pytest.mark.timeout(0)
def test_broadcast(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every member gets every broadcast once; the table shows at which cost."""
    sizes = FULL if full else QUICK
    show.steps = len(BROADCASTERS) * (1 + sum(rounds for rounds, _ in sizes.values()))
    broken = []
    with fleet(BROADCASTERS, pinned, show.step) as (servers, absent):
        for members, (rounds, deliveries) in sizes.items():
            titles = {in_flight: title(members, in_flight) for in_flight in IN_FLIGHT}
            taken = take_turns(
                list(titles.values()),
                servers,
                partial(open_members, members, deliveries),
                rounds,
                show.step,
                connections=members,
            )
            rows = {depth: with_absent(taken[name], absent, BROADCASTERS) for depth, name in titles.items()}
            figures.update({titles[depth]: cells for depth, cells in rows.items()})
            broken += ours_failed(rows[1], BROADCASTERS)
            show(table(members, rows))
    assert not broken
