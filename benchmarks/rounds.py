"""
Interleaved rounds: every competitor's server is started once, then they take turns (A B C, A B C), cell by cell, until
their ratios are known.

A *cell* is one shape of load. Its rows hold medians over the rounds in microseconds of server CPU (user and system,
of the whole process tree) per message; the ratio is taken within each round, so that a machine that slows down for a
while slows both sides of it.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.installed import NotAvailable
from benchmarks.load import SPARE_FILES, Load, Shape, allow_files, message, settled_cpu_seconds
from benchmarks.prompt import Exchange, PromptLoad
from benchmarks.servers import Competitor, running
from benchmarks.turns import turns_of

BASE = "naive"
LIMITED = 0.85  # from this share of the wall time on, the load's own CPU is what bounds the rate
LEAST_ROUNDS = 5  # before anybody's ratio may be taken as known
KNOWN = 0.02  # how far off, of its value, the median of the ratios may be: one standard error of it

LOADS = {
    "batching": "",
    "prompt": ", each answered at once",
    "prompt, in Python": ", each answered at once, in Python",
    "browser": ", as a browser",
}

Row = dict[str, Any]
Progress = Callable[[str], None]
Fleet = dict[str, tuple[Competitor, int, int]]
Sampler = Callable[[], dict[str, Row]]  # takes one sample of each title
Open = Callable[[Competitor, int, int], AbstractContextManager[Sampler]]  # connects to a competitor, its port and pid


@dataclass(frozen=True)
class Cell:
    """
    One shape of load; `invalid` of every `group` messages are not valid. The load is `batching`: it looks at all
    connections that have something, "prompt": in C, at one after the other, "prompt, in Python": the same once more,
    independently, or "browser": in C, with the clients that each competitor names.
    """

    shape: Shape
    size: int = 80
    group: int = 1
    invalid: int = 0
    load: str = "batching"
    items: int = 1  # what is counted, of a message

    @property
    def title(self) -> str:
        size = f"{self.size} B" if self.size < 1024 else f"{self.size // 1024} KB"
        mixed = f", {100 * self.invalid // self.group} % invalid" if self.invalid else ""
        return f"{self.shape}, {size}{mixed}{LOADS[self.load]}"

    def connect(self, competitor: Competitor, port: int) -> Load | PromptLoad:
        if self.load in ("prompt", "browser"):
            return PromptLoad(port, self.shape, self.size, competitor.dialect, client=competitor.client)
        return Load(
            port, self.shape, message(self.size), competitor.dialect,
            group=self.group, invalid=self.invalid, at_once=self.load != "batching",
        )  # fmt: skip


@dataclass(frozen=True)
class Conversation(Cell):
    """Connections that have one exchange over and over; `items` of its answers are counted."""

    what: str = ""
    exchange: Exchange | None = None
    items: int = 1

    @property
    def title(self) -> str:
        return f"{self.what}, {self.shape}"

    def connect(self, competitor: Competitor, port: int) -> PromptLoad:
        return PromptLoad(port, self.shape, dialect=competitor.dialect, exchange=self.exchange)


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


@contextlib.contextmanager
def open_load(cell: Cell, seconds: float, competitor: Competitor, port: int, pid: int) -> Iterator[Sampler]:
    """The connections of a cell, warm; each sample loads them for about `seconds`."""
    load = cell.connect(competitor, port)
    with contextlib.closing(load):
        in_flight = cell.group * cell.shape.connections * cell.shape.in_flight
        least = in_flight if cell.items > 1 else 2 * in_flight  # a message of many items is enough once
        load.run(least)
        warm = max(least, int(least / load.run(least).wall_s * seconds))
        pace = warm / load.run(warm).wall_s
        messages = max(least, int(pace * seconds)) // cell.group * cell.group

        def sample() -> dict[str, Row]:
            load.run(max(least // 4, messages // 8))  # others have had the core's caches meanwhile
            before, turns = settled_cpu_seconds(pid), turns_of(pid)
            taken = load.run(messages)
            cpu = settled_cpu_seconds(pid) - before
            made, counted = (turns_of(pid) or 0) - (turns or 0), messages * cell.items
            return {
                cell.title: {
                    "cpu_us": cpu / counted * 1e6,
                    "messages_per_s": counted / taken.wall_s,
                    "p50_us": taken.wait_s(0.5) * 1e6,
                    "p99_us": taken.wait_s(0.99) * 1e6,
                    "load_cpu_us": taken.cpu_s / counted * 1e6,
                    "load_share": taken.cpu_s / taken.wall_s,
                    **({"per_turn": counted / made} if made else {}),
                    **wire_bytes(load, messages),
                }
            }

        yield sample


def wire_bytes(load: Load | PromptLoad, messages: int) -> Row:
    """What a message and its reply were on the wire, of browsers."""
    if not isinstance(load, PromptLoad):
        return {}
    return {"sent_bytes": load.sent_bytes / messages, "received_bytes": load.received_bytes / messages}


def measure(cell: Cell, fleet: Fleet, rounds: int, seconds: float, progress: Progress) -> dict[str, Row]:
    """One row per competitor of the fleet under the load of `cell`."""
    connections = cell.shape.connections
    return take_turns(
        [cell.title], fleet, partial(open_load, cell, seconds), rounds, progress, connections=connections
    )[cell.title]


def take_turns(
    titles: Sequence[str], fleet: Fleet, open_: Open, rounds: int, progress: Progress, *, connections: int
) -> dict[str, dict[str, Row]]:
    """
    Title -> competitor -> row. So many connections to each stay open over the rounds, if there may be as many files.

    Every other round goes backwards, so that nobody is always sampled right after the same other one. Who is `known` is
    asked no more; the base is, as long as anybody needs it. A competitor that fails under the load is a row with
    `failed`.
    """
    files = connections * len(fleet) + SPARE_FILES
    keep = allow_files(files) >= files
    samples: dict[str, list[dict[str, Row]]] = {key: [] for key in fleet}
    failed: dict[str, Row] = {}
    samplers: dict[str, Sampler] = {}
    asked = list(fleet)
    with contextlib.ExitStack() as opened:
        for number in range(rounds):
            asked = [key for key in asked if key not in failed and not known(titles, samples[key], samples.get(BASE))]
            if not asked:
                break
            for key in [key for key in fleet if key in asked or key == BASE][:: -1 if number % 2 else 1]:
                if key in failed:
                    continue
                competitor, port, pid = fleet[key]
                progress(f"{titles[0]}, round {number + 1}/{rounds}: {competitor.name}")
                try:
                    if key not in samplers:
                        samplers[key] = opened.enter_context(open_(competitor, port, pid))
                    samples[key].append(samplers[key]())
                except Exception as exc:
                    failed[key] = failure(exc)
                if not keep:
                    samplers.clear()
                    opened.close()

    def rows(title: str) -> dict[str, Row]:
        taken = {key: [each[title] for each in samples[key]] for key in fleet if key not in failed}
        return {key: failed[key] if key in failed else summary(taken[key], taken.get(BASE)) for key in fleet}

    return {title: rows(title) for title in titles}


def known(titles: Sequence[str], samples: list[dict[str, Row]], base: list[dict[str, Row]] | None) -> bool:
    """Whether more rounds would hardly change a competitor's ratios, those of all these titles."""
    if len(samples) < LEAST_ROUNDS or not base or len(base) < len(samples):
        return False

    def error(title: str) -> float:
        """Of the median, from the middle half of the ratios, of which one that was disturbed is no part."""
        ratios = ratios_of([each[title] for each in samples], [each[title] for each in base])
        low, middle, high = statistics.quantiles(ratios, n=4)
        return (high - low) / middle / len(ratios) ** 0.5

    return max(map(error, titles)) <= KNOWN


def ratios_of(samples: list[Row], base: list[Row]) -> list[float]:
    """A competitor's costs, the first column, to those of the base, which was asked in each of its rounds."""
    cost = next(iter(samples[0]))
    return [each[cost] / other[cost] for each, other in zip(samples, base, strict=False)]


def failure(exc: Exception) -> Row:
    """The row of a competitor that could not be measured."""
    what = str(exc) if isinstance(exc, NotAvailable) else f"{type(exc).__name__}: {exc}"
    return {"failed": what.splitlines()[0][:90]}


def attempt(measure: Callable[..., Row], *arguments: Any) -> Row:
    """What `measure` gives, or the row of a competitor that failed: that is a fact about it, and the run goes on."""
    try:
        return measure(*arguments)
    except Exception as exc:
        return failure(exc)


def lines_of(rows: dict[str, Row], competitors: Sequence[Competitor], form: Callable[[Row], str]) -> list[str]:
    """A line for each competitor: its row in this form, or why it has none, and what it validates."""
    lines = []
    for each in competitors:
        row = rows[each.key]
        lines.append(f"  {each.name:35}{'  ' + row['failed'] if 'failed' in row else form(row)}  {each.validates}")
    return lines


def with_absent(rows: dict[str, Row], absent: dict[str, str], competitors: Sequence[Competitor]) -> dict[str, Row]:
    """The rows of a table in its order, with those that did not start."""
    return {each.key: rows.get(each.key) or {"failed": absent[each.key]} for each in competitors}


def ours_failed(rows: dict[str, Row], competitors: Sequence[Competitor]) -> list[str]:
    """Another's failure is a row of the table; our own is a failure of the suite."""
    return [f"{each.name}: {rows[each.key]}" for each in competitors if each.ours and "failed" in rows[each.key]]


def summary(samples: list[Row], base: list[Row] | None) -> Row:
    """Medians over the rounds, the spread of the first column (a cost), and its ratio to the base of the same round."""
    row: Row = {
        name: statistics.median(each[name] for each in samples)
        for name in samples[0]
        if all(name in each for each in samples)
    }
    cost = next(iter(row))
    costs = [each[cost] for each in samples]
    row["spread_us"] = max(costs) - min(costs)
    if "load_share" in row:
        row["generator_limited"] = row["load_share"] >= LIMITED
    if base and len(base) >= len(samples):
        ratios = ratios_of(samples, base)
        row["ratio"], row["ratio_low"], row["ratio_high"] = statistics.median(ratios), min(ratios), max(ratios)
    return row


def _measured(row: Row) -> str:
    ratio = f"{row['ratio']:6.2f}x ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})" if "ratio" in row else ""
    limit = "*" if row["generator_limited"] else " "
    turn = f"{row['per_turn']:9.1f}" if "per_turn" in row else f"{'?':>9}"
    wire = f"{row['sent_bytes']:8,.0f} {row['received_bytes']:<8,.0f}" if "sent_bytes" in row else ""
    waits = f"{row['p50_us']:8,.0f}{row['p99_us']:8,.0f}"
    return (
        f"{row['cpu_us']:7.1f}{row['spread_us']:6.1f}{ratio:19}"
        f"{row['messages_per_s']:11,.0f}{limit}{waits}{row['load_cpu_us']:8.1f}{turn}{wire}"
    )


def table(title: str, rows: dict[str, Row], competitors: Sequence[Competitor]) -> str:
    """The cell as text, with what each row validates."""
    wire = f"{'B in':>8} {'B out':8}" if any("sent_bytes" in row for row in rows.values()) else ""
    lines = [
        f"{title}  (server CPU per message; ratio to the naive loop of the same round, lowest-highest)",
        f"  {'':35}{'CPU us':>7}{'+-':>6}{'ratio':>7} {'':11}{'messages/s':>11}"
        f" {'p50 us':>8}{'p99 us':>8}{'load us':>8}{'per turn':>9}{wire}  validates",
    ]
    lines += lines_of(rows, competitors, _measured)
    if any(row.get("generator_limited") for row in rows.values()):
        lines.append("  * the load generator is at its limit: the rate is its own, the server had time left")
    return "\n".join(lines)
