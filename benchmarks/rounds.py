"""
Interleaved rounds: every competitor's server is started once, then they take turns (A B C, A B C), cell by cell.

A *cell* is one shape of load. Its rows hold medians over the rounds in microseconds of server CPU (user and system,
of the whole process tree) per message; the ratio is taken within each round, so that a machine that slows down for a
while slows both sides of it.
"""

from __future__ import annotations

import contextlib
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.load import Load, Shape, cpu_seconds, message
from benchmarks.servers import Competitor, NotAvailable, running

BASE = "naive"
LIMITED = 0.85  # from this share of the wall time on, the load's own CPU is what bounds the rate

Row = dict[str, Any]
Progress = Callable[[str], None]
Fleet = dict[str, tuple[Competitor, int, int]]


@dataclass(frozen=True)
class Cell:
    """One shape of load; `invalid` of every `group` messages are not valid."""

    shape: Shape
    size: int = 80
    group: int = 1
    invalid: int = 0

    @property
    def title(self) -> str:
        size = f"{self.size} B" if self.size < 1024 else f"{self.size // 1024} KB"
        mixed = f", {100 * self.invalid // self.group} % invalid" if self.invalid else ""
        return f"{self.shape}, {size}{mixed}"


@contextlib.contextmanager
def fleet(competitors: Sequence[Competitor], core: int, progress: Progress) -> Iterator[tuple[Fleet, dict[str, str]]]:
    """Start every competitor on `core`; gives key -> (competitor, port, pid), and why the others did not start."""
    started: Fleet = {}
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        for competitor in competitors:
            progress(f"starting {competitor.name}")
            try:
                port, pid = stack.enter_context(running(competitor, core))
            except NotAvailable as exc:
                failed[competitor.key] = str(exc)
            else:
                started[competitor.key] = competitor, port, pid
        yield started, failed


def measure(cell: Cell, fleet: Fleet, rounds: int, seconds: float, progress: Progress) -> dict[str, Row]:
    """One row per competitor of the fleet; a competitor that fails under the load is a row with `failed`."""
    samples: dict[str, list[Row]] = defaultdict(list)
    failed: dict[str, Row] = {}
    for number in range(rounds):
        for key, (competitor, port, pid) in fleet.items():
            progress(f"{cell.title}, round {number + 1}/{rounds}: {competitor.name}")
            if key in failed:
                continue
            try:
                samples[key].append(sample(cell, competitor, port, pid, seconds))
            except Exception as exc:  # whatever a competitor does is a fact about it
                failed[key] = {"failed": f"{type(exc).__name__}: {exc}".splitlines()[0][:90]}
    return {key: failed[key] if key in failed else summary(samples[key], samples.get(BASE)) for key in fleet}


def sample(cell: Cell, competitor: Competitor, port: int, pid: int, seconds: float) -> Row:
    """Open the connections, warm up, then load for about `seconds`."""
    load = Load(port, cell.shape, message(cell.size), competitor.dialect, group=cell.group, invalid=cell.invalid)
    with contextlib.closing(load):
        first = 4 * cell.group * cell.shape.connections * cell.shape.in_flight
        load.run(first)
        warm = max(first, int(first / load.run(first)[0] * seconds / 3))
        pace = warm / load.run(warm)[0]
        messages = max(first, int(pace * seconds)) // cell.group * cell.group
        before = cpu_seconds(pid)
        wall, own = load.run(messages)
        cpu = cpu_seconds(pid) - before
    return {
        "cpu_us": cpu / messages * 1e6,
        "messages_per_s": messages / wall,
        "load_cpu_us": own / messages * 1e6,
        "load_share": own / wall,
    }


def summary(samples: list[Row], base: list[Row] | None) -> Row:
    """Medians over the rounds, the spread of the CPU column, and the ratio to the base of the same round."""
    row = {name: statistics.median(each[name] for each in samples) for name in samples[0]}
    cpu = [each["cpu_us"] for each in samples]
    row["spread_us"] = max(cpu) - min(cpu)
    row["generator_limited"] = row["load_share"] >= LIMITED
    if base and len(base) == len(samples):
        ratios = [each["cpu_us"] / other["cpu_us"] for each, other in zip(samples, base, strict=True)]
        row["ratio"], row["ratio_low"], row["ratio_high"] = statistics.median(ratios), min(ratios), max(ratios)
    return row


def table(title: str, rows: dict[str, Row], competitors: Sequence[Competitor]) -> str:
    """The cell as text, with what each row validates."""
    lines = [
        f"{title}  (server CPU per message; ratio to the naive loop of the same round, lowest-highest)",
        f"  {'':35}{'CPU us':>7}{'+-':>6}{'ratio':>7} {'':11}{'messages/s':>11}{'load us':>8}  validates",
    ]
    for competitor in competitors:
        row = rows.get(competitor.key)
        if row is None:
            continue
        if "failed" in row:
            lines.append(f"  {competitor.name:35}  {row['failed']}")
            continue
        ratio = f"{row['ratio']:6.2f}x ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})" if "ratio" in row else " " * 19
        limit = "*" if row["generator_limited"] else " "
        lines.append(
            f"  {competitor.name:35}{row['cpu_us']:7.1f}{row['spread_us']:6.1f}{ratio:19}"
            f"{row['messages_per_s']:11,.0f}{limit}{row['load_cpu_us']:7.1f}  {competitor.validates}"
        )
    if any(row.get("generator_limited") for row in rows.values()):
        lines.append("  * the load generator is at its limit: the rate is its own, the server had time left")
    return "\n".join(lines)
