"""
One tells many: server CPU per delivery, with 10 and 500 members (5,000), and 1, 4 and 16 broadcasts in flight.

One process per server on one core, the load on another; competitors take turns, several rounds; the median
counts. "In flight" means that so many members speak at the same time, the server sees all of it at once, and all wait
until everybody has everything. No compression, 80 bytes a message; then as browsers negotiate, with larger ones too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from benchmarks.broadcast_load import BrowserMembers, Members
from benchmarks.load import settled_cpu_seconds
from benchmarks.progress import Show
from benchmarks.rounds import Row, Sampler, fleet, lines_of, ours_failed, take_turns, with_absent
from benchmarks.servers import BROADCASTERS, BROWSER_MEMBERS, Competitor, pick

IN_FLIGHT = (1, 4, 16)
# members: rounds, and deliveries of a sample
QUICK = {10: (6, 1_000), 500: (5, 2_000)}
FULL = {10: (20, 8_000), 100: (12, 16_000), 500: (8, 40_000), 1000: (8, 40_000), 5000: (6, 40_000)}


def title(members: int, in_flight: int) -> str:
    return f"broadcast to {members:,} members, {in_flight} in flight"


@contextlib.contextmanager
def open_members(members: int, deliveries: int, competitor: Competitor, port: int, pid: int) -> Iterator[Sampler]:
    """The members of a room; each sample is about so many deliveries at each number in flight."""
    with contextlib.closing(Members(port, pid, members, competitor.dialect)) as load:

        def sample() -> dict[str, Row]:
            load.say(1)  # others have had the core's caches meanwhile
            return {title(members, depth): sample_of(load.say, members, pid, depth, deliveries) for depth in IN_FLIGHT}

        yield sample


def sample_of(say: Callable[[int], None], members: int, pid: int, in_flight: int, deliveries: int) -> Row:
    speakers = min(in_flight, members)
    turns = max(1, deliveries // (members * speakers))
    before = settled_cpu_seconds(pid)
    for _ in range(turns):
        say(speakers)
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


BROWSER_COUNT = 500
BROWSER_KEYS = ["naive", "websockets", "node", "bun", "ours-uvicorn", "ours", "ours-plain", "ours-none"]
# bytes of a message and broadcasts in flight: deliveries of a sample, since some compress a message for each member
BROWSER_QUICK = {(106, 1): 1_000, (106, 4): 2_000, (1024, 1): 1_000, (16 * 1024, 1): 500}
BROWSER_FULL = dict.fromkeys([(size, depth) for size in (106, 1024, 16 * 1024) for depth in (1, 4)], 8_000)


def browser_title(size: int, in_flight: int) -> str:
    name = f"{size} B" if size < 1024 else f"{size // 1024} KB"
    return f"broadcast to {BROWSER_COUNT} members, {name}, {in_flight} in flight, as a browser"


@contextlib.contextmanager
def open_browsers(
    count: int, cells: dict[tuple[int, int], int], competitor: Competitor, port: int, pid: int
) -> Iterator[Sampler]:
    """As `open_members`, of the kind that the competitor's load plays; the same connections for all sizes."""
    with contextlib.closing(BrowserMembers(port, pid, count, competitor.dialect, competitor.client)) as load:

        def sample() -> dict[str, Row]:
            load.say(1, next(iter(cells))[0])
            return {browser_title(*cell): browser_sample(load, pid, *cell, cells[cell]) for cell in cells}

        yield sample


def browser_sample(load: BrowserMembers, pid: int, size: int, in_flight: int, deliveries: int) -> Row:
    members = len(load.sockets)
    row = sample_of(partial(load.say, size=size), members, pid, in_flight, deliveries)
    return {**row, "received_bytes": load.received_bytes / members / min(in_flight, members)}


def browser_table(rows: dict[str, dict[str, Row]], competitors: Sequence[Competitor]) -> str:
    """CPU and bytes by size and broadcasts in flight."""
    heads = [title.split(", ", 1)[1].removesuffix(", as a browser").replace(" in flight", "x") for title in rows]
    lines = [f"Broadcast to {BROWSER_COUNT} members as browsers, CPU us per delivery (ratio to naive) and bytes"]
    lines.append(f"  {'':35}" + "".join(f"{head:>26}" for head in heads))
    for each in competitors:
        cells = [row[each.key] for row in rows.values()]
        text = "".join(
            row["failed"]
            if "failed" in row
            else f"{row['cpu_us_per_delivery']:9.2f}{row.get('ratio', 0):7.2f}x{row['received_bytes']:9,.0f}"
            for row in (cells[:1] if "failed" in cells[0] else cells)
        )
        lines.append(f"  {each.name:35}{text}  {each.validates}")
    return "\n".join(lines)


@pytest.mark.timeout(0)
def test_browser_broadcast(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """The same to members that offer deflate and compress what they say; what they get is read and compared."""
    cells, rounds = (BROWSER_FULL, 10) if full else (BROWSER_QUICK, 4)
    competitors = BROWSER_MEMBERS if full else pick(*BROWSER_KEYS, among=BROWSER_MEMBERS)
    show.steps = len(competitors) * (1 + rounds)
    titles = [browser_title(*cell) for cell in cells]
    open_ = partial(open_browsers, BROWSER_COUNT, cells)
    with fleet(competitors, pinned, show.step) as (servers, absent):
        taken = take_turns(titles, servers, open_, rounds, show.step, connections=BROWSER_COUNT)
    shown = {title: with_absent(rows, absent, competitors) for title, rows in taken.items()}
    figures.update(shown)
    show(browser_table(shown, competitors))
    assert not [each for rows in shown.values() for each in ours_failed(rows, competitors)]
