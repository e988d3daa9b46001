"""
All figures on so many columns and rows, by `rich`.

Names that users and clients have chosen are texts, never markup. What is not for so few rows is cut by section, the
longest first, whose title says how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from socketsundso.top.figures import EventFigures, Figures
from socketsundso.top.words import age, duration, number, rate, share, shown, size

WIDE, WIDEST = 100, 130
"""Columns from which on there is more to see."""

LEAST_ROWS = 3
"""Of a section: its title, and two lines."""

LONGEST_ID = 14

SORTS: dict[str, Callable[[EventFigures], tuple[float, ...]]] = {
    "in/s": lambda each: (each.received_per_s, each.p99_s or 0.0),
    "p99": lambda each: (each.p99_s or 0.0, each.received_per_s),
    "failed/s": lambda each: (each.failed_per_s, each.received_per_s),
}
"""Of events, by what is shown for it."""

TITLE, GOOD, BAD, DIM = "bold cyan", "green", "bold red", "bright_black"
STATES = {"serving": GOOD, "draining": "yellow", "starting": "cyan", "silent": BAD}


@dataclass(frozen=True)
class Shown:
    """What is to be seen: figures of what is listened to at `path`, as they were at some time."""

    path: str
    figures: Figures | None = None  # until the first two snapshots have come
    interval_s: float = 1.0
    trouble: str | None = None  # why there are no newer ones
    sort: str = "in/s"
    is_paused: bool = False
    has_keys: bool = True


class Column(NamedTuple):
    title: str
    width: int = 0  # 0: what is left
    is_number: bool = True


Cell = str | Text


class Section(NamedTuple):
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    nothing: str

    @property
    def height(self) -> int:
        return 1 + max(1, len(self.rows))


def view(shown_: Shown, columns: int, rows: int | None) -> RenderableType:
    """For a terminal of this size; without `rows` all there is, for a file."""
    figures, keys = shown_.figures, _keys(shown_)
    head = [_title(shown_)]
    if figures is None:
        waiting = shown_.trouble or "waiting for figures ..."
        return _filled([*head, Text(), _line(shown(waiting), BAD if shown_.trouble else DIM)], 3, keys, rows)
    head += [*_summary(figures, columns), Text()]
    workers, events = _workers(figures, columns), _events(figures, shown_.sort)
    rooms, slow = _rooms(figures), _slow(figures, columns)
    wanted = workers.height, events.height, max(rooms.height, slow.height)
    others = len(head) + 2  # rows between sections
    heights = _heights(wanted, None if rows is None else rows - others - 2)
    side = Table.grid(expand=True, padding=0)
    side.add_column(ratio=2)
    side.add_column(width=2)
    side.add_column(ratio=3)
    side.add_row(_table(rooms, heights[2]), "", _table(slow, heights[2]))
    parts = [*head, _table(workers, heights[0]), Text(), _table(events, heights[1]), Text(), side]
    return _filled(parts, others + sum(heights), keys, rows)


def lines_of(what: RenderableType, columns: int) -> str:
    """As plain text."""
    console = Console(width=columns, no_color=True, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _heights(wanted: Sequence[int], left: int | None) -> list[int]:
    """How many rows each section gets."""
    given = list(wanted)
    while left is not None and sum(given) > left and max(given) > LEAST_ROWS:
        given[given.index(max(given))] -= 1
    return given


def _filled(parts: list[RenderableType], height: int, keys: Text | None, rows: int | None) -> RenderableType:
    """With the keys in the last row."""
    if keys is None or rows is None:
        return Group(*parts)
    return Group(*parts, *[Text()] * (rows - height - 1), keys)


# ---- what stands above


def _title(shown_: Shown) -> RenderableType:
    grid = Table.grid(expand=True, padding=0)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    state, style = f"every {shown_.interval_s:g} s", DIM
    if shown_.trouble is not None and shown_.figures is not None:
        state, style = "NO ANSWER", BAD
    elif shown_.is_paused:
        state, style = "PAUSED", "bold yellow"
    left = Text.assemble(("socketsundso top ", TITLE), shown(shown_.path))
    grid.add_row(left, Text(f" {state}", style))
    return grid


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _summary(figures: Figures, columns: int) -> list[RenderableType]:
    is_wide = columns >= WIDE
    came_and_went = f"+{rate(figures.opened_per_s)}/s -{rate(figures.closed_per_s)}/s"
    traffic = [
        *_figure("connections", number(figures.connections), came_and_went),
        *_figure("in", f"{rate(figures.received_per_s)}/s", f"{size(figures.received_bytes_per_s)}/s" * is_wide),
        *_figure("out", f"{rate(figures.sent_per_s)}/s", f"{size(figures.sent_bytes_per_s)}/s" * is_wide),
        *(_figure("p50", duration(figures.p50_s)) if is_wide else []),
        *_figure("p99", duration(figures.p99_s)),
    ]
    errors = _sum_of("errors", figures.errors)
    losses = [*_sum_of("dropped", figures.dropped), *_sum_of("refused", figures.refused)]
    if figures.away:
        losses.append((f"away: {', '.join(map(shown, figures.away))}", BAD))
    lines = [traffic, [*errors, *losses]] if is_wide else [traffic, errors, losses]
    return [_assembled(line) for line in lines]


def _figure(name: str, value: str, more: str = "", style: str = "bold") -> list[tuple[str, str]]:
    return [(f"{name} ", DIM), (value, style), (f" {more}" if more else "", ""), ("   ", "")]


def _sum_of(name: str, rates: dict[str, float]) -> list[tuple[str, str]]:
    total = sum(rates.values())
    named = ", ".join(f"{shown(code)} {rate(value)}" for code, value in list(rates.items())[:2])
    more = f"({named}{', ...' if len(rates) > 2 else ''})" if rates else ""
    return _figure(name, f"{rate(total)}/s", more, BAD if total else "bold")


def _assembled(parts: Iterable[tuple[str, str]]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in parts:
        text.append(part, style)
    return text


def _keys(shown_: Shown) -> Text | None:
    if not shown_.has_keys:
        return None
    keys = (("q", "quit"), ("s", f"events by {shown_.sort}"), ("space", "go on" if shown_.is_paused else "pause"))
    text = _assembled([part for key, does in keys for part in ((f" {key} ", "reverse"), (f" {does}   ", ""))])
    if shown_.trouble is not None and shown_.figures is not None:
        text = Text(shown(shown_.trouble), BAD, no_wrap=True, overflow="ellipsis")
    return text


# ---- sections


def _workers(figures: Figures, columns: int) -> Section:
    is_wide = columns >= WIDE
    titles = ["CONNS", "IN/S", "OUT/S", "P99", "ERR/S", *(["UNREAD"] if is_wide else []), "UNSENT"]
    named = [Column("WORKER", 8, False), Column("STATE", 9, False), *map(Column, titles), Column("CPU", 5)]
    rows: list[list[Cell]] = [
        [
            str(each.pid),
            Text(shown(each.state), STATES.get(each.state, "")),
            number(each.connections),
            rate(each.received_per_s),
            rate(each.sent_per_s),
            duration(each.p99_s),
            rate(each.errors_per_s),
            *([size(each.unhandled_bytes)] if is_wide else []),
            size(each.unsent_bytes),
            share(each.cpu),
            size(each.rss_bytes),
            *([age(each.uptime_s)] if is_wide else []),
        ]
        for each in figures.workers
    ]
    return Section([*named, Column("MEM"), *([Column("UP")] if is_wide else [])], rows, "no workers")


def _events(figures: Figures, sort: str) -> Section:
    events = sorted(figures.events, key=SORTS[sort], reverse=True)
    rows: list[list[Cell]] = [
        [
            f"{shown(each.endpoint)}.{shown(each.event)}",
            rate(each.received_per_s),
            rate(each.sent_per_s),
            duration(each.p50_s),
            duration(each.p99_s),
            Text(rate(each.failed_per_s), BAD if each.failed_per_s else ""),
        ]
        for each in events
    ]
    titles = [Column(f"EVENT ({number(len(rows))})", 0, False)]
    titles += [Column(title, 9) for title in ("IN/S", "REPLIES/S", "P50", "P99", "FAILED/S")]
    return Section(titles, rows, "no endpoints of socketsundso")


def _rooms(figures: Figures) -> Section:
    rows: list[list[Cell]] = [[shown(each.room), number(each.members)] for each in figures.rooms]
    title = f"ROOM ({number(figures.room_count)}{'' if figures.rooms_are_all else '+'})"
    return Section([Column(title, 0, False), Column("MEMBERS", 8)], rows, "no rooms")


def _slow(figures: Figures, columns: int) -> Section:
    is_wide = columns >= WIDEST
    rows: list[list[Cell]] = [
        [
            shown(each.connection) if is_wide else _end_of(shown(each.connection)),
            shown(each.user) if each.user is not None else "-",
            *([shown(each.client or "-")] if is_wide else []),
            number(each.queued_messages),
            size(each.all_bytes),
        ]
        for each in figures.slow
    ]
    title = f"SLOW READER ({number(figures.slow_count)})"
    named = [Column(title, 0, False), Column("USER", 0, False)]
    named += [Column("CLIENT", 21, False)] if is_wide else []
    return Section([*named, Column("QUEUED", 6), Column("UNSENT", 7)], rows, "nobody reads slowly")


def _end_of(name: str) -> str:
    """By which connections of one process differ."""
    return name if len(name) <= LONGEST_ID else f"…{name[1 - LONGEST_ID :]}"


def _table(section: Section, height: int) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="reverse")
    for column in section.columns:
        table.add_column(
            Text(column.title),
            width=column.width or None,
            ratio=None if column.width else 1,
            justify="right" if column.is_number else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in section.rows[: height - 1]:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table if section.rows else Group(table, _line(section.nothing, DIM))
