"""
One tells many: server CPU per delivery, with 10 to 5,000 members, and 1, 4 and 16 broadcasts in flight.

One process per server on one core, the load on another; competitors take turns, several rounds; the median
counts. "In flight" means that so many members speak at the same time and all wait until everybody has
everything. No compression, 80 bytes a message.
"""

from __future__ import annotations

import contextlib
import importlib
import statistics
from collections import defaultdict
from typing import Any

from benchmarks.broadcast_load import Dialect, Members
from benchmarks.load import cpu_seconds
from benchmarks.progress import Show
from benchmarks.rounds import Progress
from benchmarks.servers import OURS, Competitor, running


class WithLifespan(Competitor):
    """Litestar's channels start with the application's lifespan."""

    def command(self, port: int, *more: Any) -> list[str]:
        return ["on" if part == "off" else part for part in super().command(port, *more)]


NAIVE = Competitor("naive FastAPI loop", "broadcast_naive")
SERVER = Competitor("socketsundso, own protocol", "broadcast_socketsundso", OURS)
PICOWS = Competitor("bare picows loop", "broadcast_picows", None)
COMPETITORS = [
    NAIVE,
    Competitor("python-socketio room", "broadcast_socketio"),
    WithLifespan("Litestar channels", "broadcast_litestar"),
    Competitor("socketsundso, uvicorn's protocol", "broadcast_socketsundso"),
    SERVER,
    PICOWS,
    Competitor("bare os.write loop", "broadcast_write", None),
]
IN_FLIGHT = (1, 4, 16)
DELIVERIES = 10_000


def measure(members: int, rounds: int, deliveries: int, core: int, progress: Progress) -> dict[str, dict[int, float]]:
    """CPU us per delivery by competitor and broadcasts in flight."""
    samples: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for round_ in range(rounds):
        for competitor in COMPETITORS:
            progress(f"{members} members, round {round_ + 1}/{rounds}: {competitor.name}")
            try:
                dialect = Dialect(importlib.import_module(f"benchmarks.competitors.{competitor.module}"))
            except ImportError:  # is not installed: its row is missing
                continue
            with running(competitor, core) as (port, pid), contextlib.closing(Members(port, members, dialect)) as load:
                for in_flight in IN_FLIGHT:
                    cost = cpu_us_per_delivery(load, pid, min(in_flight, members), deliveries)
                    samples[competitor.name][in_flight].append(cost)
    return {
        name: {in_flight: statistics.median(taken) for in_flight, taken in by_depth.items()}
        for name, by_depth in samples.items()
    }


def cpu_us_per_delivery(load: Members, pid: int, speakers: int, deliveries: int) -> float:
    members = len(load.sockets)
    turns = max(3, deliveries // (members * speakers))
    load.say(speakers)
    before = cpu_seconds(pid)
    for _ in range(turns):
        load.say(speakers)
    return (cpu_seconds(pid) - before) / (turns * members * speakers) * 1e6


def table(members: int, rows: dict[str, dict[int, float]]) -> str:
    lines = [f"Broadcast to {members} members, CPU us per delivery (ratio to naive; to picows)"]
    lines.append(f"  {'in flight':36}" + "".join(f"{in_flight:>22}" for in_flight in IN_FLIGHT))
    for name, row in rows.items():
        cells = (
            f"{row[n]:8.2f} {row[n] / rows[NAIVE.name][n]:5.2f}x {row[n] / rows[PICOWS.name][n]:5.2f}x"
            for n in IN_FLIGHT
        )
        lines.append(f"  {name:36}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def test_broadcast(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every member gets every broadcast once; the table shows at which cost."""
    sizes, rounds = ((10, 100, 500, 1000, 5000), 5) if full else ((10, 1000), 2)
    show.steps = len(sizes) * rounds * len(COMPETITORS)
    for members in sizes:
        rows = measure(members, rounds, DELIVERIES * (12 if full else 1), pinned, show.step)
        figures[f"broadcast {members}"] = rows
        show(table(members, rows))
