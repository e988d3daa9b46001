"""
What conversations cost: one answer of a class that streams and asks; a handler that waits; a stream for each item.

Servers take turns as in `roundtrip`. A call is a question of the server and its client's answer. What a stream weighs
that waits is measured as an idle connection is. The bounds that are promised are printed beside.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import statistics
from collections.abc import Callable
from typing import Any, cast

import pytest

from benchmarks.load import (
    SILENCE_S,
    Load,
    Shape,
    connect,
    masked_frame,
    message,
    payload_of,
    read_frame,
    rss_bytes,
    settled_cpu_seconds,
)
from benchmarks.progress import Show
from benchmarks.prompt import Exchange
from benchmarks.rounds import Conversation, Row, fleet, measure, ours_failed, table, with_absent
from benchmarks.servers import CONVERSING, pick, running

ITEMS = 100
SHAPES = (Shape(32, 1), Shape(16, 16))
ONCE = ["naive", "ours", "ours-plain"]
STREAMS = ["naive", "litestar", "rpckit", "ours-uvicorn", "ours"]


def once(kind: str) -> Exchange:
    return Exchange(message() | {"type": kind}, [message() | {"type": kind}])


def stream(paused: bool) -> Exchange:
    words = [f"word {at}" for at in range(ITEMS)]
    items = [{"type": "token", "text": word, "ref": 1} for word in words]
    return Exchange(
        {"type": "generate", "ref": 1, "words": words, "paused": paused}, [*items, {"type": "complete", "ref": 1}]
    )


QUESTIONS = [
    *((Conversation(shape, what="answer at once", exchange=once("message")), ONCE) for shape in SHAPES),
    *((Conversation(shape, what="answer after one wait", exchange=once("paused")), ONCE) for shape in SHAPES),
    (Conversation(Shape(16, 1), what="stream, per item", exchange=stream(False), items=ITEMS), STREAMS),
    (Conversation(Shape(16, 1), what="stream that waits, per item", exchange=stream(True), items=ITEMS), STREAMS),
]
PROMISED = [  # title, ours, to whom, at most
    *((f"answer at once, {shape}", "ours", "ours-plain", 1.08) for shape in SHAPES),
    *((f"answer after one wait, {shape}", "ours", "ours-plain", 1.1) for shape in SHAPES),
    *(
        (f"answer after one wait, {shape}", "ours", "naive", bound)
        for shape, bound in zip(SHAPES, (0.5, 0.42), strict=True)
    ),
    ("stream, per item, 16x1", "ours", "naive", 0.28),
    ("stream that waits, per item, 16x1", "ours", "litestar", 0.8),
    ("stream that waits, per item, 16x1", "ours", "rpckit", 0.15),
]


@pytest.mark.timeout(0)
def test_conversations(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Every answer and every item is right; the tables show at which cost."""
    rounds = 30 if full else 5
    competitors = pick(*{*ONCE, *STREAMS}, among=CONVERSING)
    show.steps = len(competitors) + rounds * sum(len(keys) for _, keys in QUESTIONS)
    broken = []
    with fleet(competitors, pinned, show.step) as (servers, absent):
        for cell, keys in QUESTIONS:
            some = pick(*keys, among=CONVERSING)
            chosen = {each.key: servers[each.key] for each in some if each.key in servers}
            rows = with_absent(measure(cell, chosen, rounds, 0.2 if full else 0.05, show.step), absent, some)
            figures[cell.title] = rows
            broken += ours_failed(rows, some)
            show(table(cell.title[:1].upper() + cell.title[1:], rows, some))
    show("\n".join(promised(figures)))
    assert not broken


def promised(figures: dict[str, dict[str, Row]]) -> list[str]:
    """What was promised, and what it is."""
    lines = []
    for title, ours, other, bound in PROMISED:
        one, two = figures[title][ours], figures[title][other]
        if "ratio" in one and "ratio" in two:
            found = f"{one['ratio'] / two['ratio']:.2f}x"
        else:
            found = str(one.get("failed") or two.get("failed") or "no ratio")
        lines.append(f"  {title}: {ours} to {other} {found} (promised: {bound}x)")
    return lines


class Asked:
    """Connections whose clients answer what they are asked."""

    def __init__(self, port: int, connections: int) -> None:
        self._opened = [connect(port) for _ in range(connections)]

    def run(self, calls: int) -> None:
        """As many calls, of each connection its part, one at a time."""
        times = calls // len(self._opened)
        with selectors.DefaultSelector() as ready:
            for sock in self._opened:
                ready.register(sock, selectors.EVENT_READ)
                sock.sendall(masked_frame(b'{"type":"ask","times":%d}' % times))
            while ready.get_map():
                for key, _ in ready.select(SILENCE_S):
                    sock = cast(socket.socket, key.fileobj)
                    frame = read_frame(sock)
                    if (at := frame.find(b'"ref":"s:')) >= 0:
                        sock.sendall(masked_frame(b'{"type":"reply","answer":true,' + frame[at:]))
                    else:
                        assert json.loads(payload_of(frame)) == {"type": "ask", "times": times}
                        ready.unregister(sock)

    def close(self) -> None:
        for sock in self._opened:
            sock.close()


def calls_and_requests(core: int, rounds: int, number: int) -> tuple[float, float]:
    """Microseconds of a call, and of a request: medians of rounds in which both take their turn, on 32 connections."""
    (asking,) = pick("ours-asks", among=CONVERSING)
    with running(asking, core) as (port, pid), contextlib.ExitStack() as opened:
        asked = opened.enter_context(contextlib.closing(Asked(port, 32)))
        load = opened.enter_context(contextlib.closing(Load(port, Shape(32, 1), message(), at_once=True)))

        def microseconds(run: Callable[[int], Any]) -> float:
            before = settled_cpu_seconds(pid)
            run(number)
            return (settled_cpu_seconds(pid) - before) / number * 1e6

        taken = [(microseconds(asked.run), microseconds(load.run)) for _ in range(rounds + 1)][1:]
    call, request = map(statistics.median, zip(*taken, strict=True))
    return call, request


@pytest.mark.timeout(0)
def test_calls(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """A question to the client and its answer, against a request and its answer."""
    call, request = calls_and_requests(pinned, 30 if full else 10, 3_200)
    figures["a call to a client"] = {"call": {"cpu_us": call}, "request": {"cpu_us": request}}
    show(f"a call {call:.1f} us, a request {request:.1f} us: {call / request:.2f}x (promised: 2x)")


@pytest.mark.timeout(0)
def test_waiting_streams(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """What a stream that waits weighs, above the connection that it has anyway."""
    number = 4_000 if full else 500
    (conversing,) = pick("ours", among=CONVERSING)
    wait = masked_frame(b'{"type":"wait","ref":1}')
    with running(conversing, pinned) as (port, pid), contextlib.ExitStack() as opened:

        def connections(count: int) -> list[socket.socket]:
            return [opened.enter_context(contextlib.closing(connect(port))) for _ in range(count)]

        def begin(sockets: list[socket.socket]) -> None:
            for sock in sockets:
                sock.sendall(wait)
                assert b"now nothing comes" in read_frame(sock)

        begin(connections(50))  # caches and arenas are filled before we look
        sockets = connections(number)
        before = rss_bytes(pid)
        begin(sockets)
        weight = (rss_bytes(pid) - before) / number
    figures["a stream that waits"] = {conversing.name: {"bytes_per_stream": weight}}
    show(f"memory: {weight:,.0f} bytes for a stream that waits (promised: 6,000)")
