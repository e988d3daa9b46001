"""What is seen on how many columns and rows."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from socketsundso.top.figures import EventFigures, Figures, WorkerFigures
from socketsundso.top.snapshot import RoomSize, SlowReader
from socketsundso.top.view import SORTS, Shown, lines_of, view

FIGURES = Figures(
    workers=(
        WorkerFigures(4711, "serving", 8000, 1204.0, 20_400.0, 0.2, 0.0042, 0, 120, 0.37, 61_440_000, 18_720.0),
        WorkerFigures(4712, "draining", 12, 0.0, 0.0, 0.0, None, 1_200_000, 0, 0.01, 58_000_000, 18_720.0),
        WorkerFigures(4713, "silent"),
    ),
    connections=8012,
    received_per_s=1204.0,
    sent_per_s=20_400.0,
    p50_s=0.0008,
    p99_s=0.0042,
    errors={"validation_error": 0.2},
    dropped={"drop_oldest": 12.0},
    events=(
        EventFigures("Chat", "say", 1000.0, 0.0, 0.0007, 0.003, 0.0),
        EventFigures("Chat", "search", 204.0, 204.0, 0.002, 0.2, 0.1),
        EventFigures("Chat", "import", 0.5, 0.5, 0.1, 0.15, 0.5),
    ),
    rooms=(RoomSize("lobby", 5000), RoomSize("[bold red]\x1b[2J", 12)),
    room_count=212,
    rooms_are_all=False,
    slow=(SlowReader("59927c3e80a67d3b-1f", "Chat", "ada", "10.0.0.7:4711", 12, 1_100_000, 90_000),),
    slow_count=1,
)


def lines(figures: Figures | None, columns: int = 80, rows: int | None = 24, **more: Any) -> list[str]:
    return lines_of(view(Shown("/run/chat.sock", figures, **more), columns, rows), columns).split("\n")


def line_with(text: str, *among: str) -> str:
    return next(line for line in among if text in line)


def test_a_terminal_of_80_by_24_shows_everything() -> None:
    """Each figure is somewhere, none is cut, and all of it fits."""
    seen = lines(FIGURES)
    assert len(seen) == 24
    assert max(map(len, seen)) <= 80
    assert line_with("connections", *seen).split()[:2] == ["connections", "8,012"]
    for text in ("in 1,204/s", "out 20,400/s", "p99 4.2 ms", "errors 0.20/s (validation_error 0.20)", "drop_oldest 12"):
        assert any(text in line for line in seen), text
    assert line_with("4711", *seen).split() == [
        "4711", "serving", "8,000", "1,204", "20,400", "4.2", "ms", "0.20", "0", "37%", "61.4", "MB",
    ]  # fmt: skip
    assert line_with("4713", *seen).split() == ["4713", "silent", *["-"] * 8]
    assert "ROOM (212+)" in line_with("ROOM", *seen)
    assert line_with("lobby", *seen).split()[:2] == ["lobby", "5,000"]
    assert line_with("ada", *seen).split()[2:] == ["…3e80a67d3b-1f", "ada", "12", "1.2", "MB"]
    assert seen[-1].split() == ["q", "quit", "s", "events", "by", "in/s", "space", "pause"]


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 132, 250])
@pytest.mark.parametrize("rows", [10, 24, 60, None])
def test_any_size(columns: int, rows: int | None) -> None:
    """Nothing is wider than the terminal; a title and the first line of each section stay where they fit."""
    many = Figures(
        workers=FIGURES.workers * 10, events=FIGURES.events * 10, rooms=FIGURES.rooms * 10, slow=FIGURES.slow * 20
    )
    seen = lines(many, columns, rows)
    assert max(map(len, seen)) <= columns
    if rows == 24 and columns >= 60:
        assert len(seen) == 24
        titles = [number for number, line in enumerate(seen) if line.startswith(("WORKER", "EVENT", "ROOM"))]
        assert len(titles) == 3
        assert all(seen[number + 1].strip() for number in titles)


def test_more_columns_show_more() -> None:
    """The age of workers, the median, whole names of connections and where they come from."""
    seen = lines(FIGURES, 140, 40)
    assert line_with("4711", *seen).endswith("5h12m")
    assert any("p50 0.8 ms" in line for line in seen)
    assert "59927c3e80a67d3b-1f" in line_with("ada", *seen)
    assert "10.0.0.7:4711" in line_with("ada", *seen)


def test_names_are_texts() -> None:
    """Neither markup nor what a terminal would obey: the bytes that are written have nothing of it."""
    written = io.StringIO()
    console = Console(file=written, width=140, force_terminal=True, color_system="truecolor")
    console.print(view(Shown("/run/[red]x", FIGURES), 140, 40))
    assert r"[bold red]\x1b[2J" in written.getvalue()
    assert "\x1b[2J" not in written.getvalue()
    assert "/run/[red]x" in written.getvalue()


@pytest.mark.parametrize(("sort", "first"), [("in/s", "say"), ("p99", "search"), ("failed/s", "import")])
def test_events_are_sorted(sort: str, first: str) -> None:
    """By what is shown; the keys' line says by what."""
    seen = lines(FIGURES, sort=sort)
    place = next(number for number, line in enumerate(seen) if line.startswith("EVENT"))
    assert seen[place + 1].startswith(f"Chat.{first} ")
    assert f"events by {sort}" in seen[-1]
    assert sort in SORTS


def test_where_there_is_nothing() -> None:
    """An application without endpoints of ours, nobody connected: it says so."""
    seen = "\n".join(lines(Figures()))
    for text in ("no workers", "no endpoints of socketsundso", "no rooms", "nobody reads slowly", "connections 0"):
        assert text in seen


def test_before_there_are_figures() -> None:
    """It waits, or says why there are none."""
    assert "waiting for figures ..." in "\n".join(lines(None))
    assert "nobody listens" in "\n".join(lines(None, trouble="nobody listens at /run/chat.sock"))


def test_a_server_that_has_gone() -> None:
    """What was last known stays, with a mark; the reason stands at the bottom."""
    seen = lines(FIGURES, trouble="nobody listens at /run/chat.sock")
    assert "NO ANSWER" in seen[0]
    assert "nobody listens at /run/chat.sock" in seen[-1]
    assert any("4711" in line for line in seen)
    assert "PAUSED" in lines(FIGURES, is_paused=True)[0]


def test_a_backplane_that_is_away() -> None:
    """It is named."""
    assert "away: redis" in "\n".join(lines(Figures(away=("redis",))))
