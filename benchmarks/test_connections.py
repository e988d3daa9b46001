"""
Held connections: how many stay, what an idle one weighs, and whether memory stays flat while all of them talk.

One server process after the other, the clients in this process. First nothing but connections, then one message a
second through each of them, pings answered, then one message of 1 MiB through one after the other. Memory is the
server's resident memory above the empty server, divided by the connections.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.load import (
    PLAIN,
    SPARE_FILES,
    allow_files,
    connect,
    cpu_seconds,
    masked_frame,
    message,
    payload_of,
    read_frame,
    rss_bytes,
)
from benchmarks.progress import Show
from benchmarks.rounds import Row, attempt, lines_of, ours_failed
from benchmarks.servers import Competitor, pick, running

KEYS = ["naive", "ours-uvicorn", "ours"]
LARGE_BYTES = 1 << 20
LARGE_MESSAGES = 300  # through so many connections: the others' pings are not answered meanwhile
KEPT_BYTES = 1 << 28  # large messages end when the server has kept so much of them: some keep every one
PING = 0x89
FLAT_AFTER_S = 10


def whole_frames(data: bytes) -> Iterator[bytes]:
    """The complete frames at the beginning of what a server sent."""
    while len(data) >= 2:
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start])
        if len(data) < start + size:
            return
        yield data[: start + size]
        data = data[start + size :]


def pong_to(ping: bytes) -> bytes:
    return bytes((0x8A, 0x80 | ping[1])) + bytes(4) + ping[2:]


class Client:
    """One connection, which answers pings and knows how many replies it has had."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = 0
        self._rest = b""

    def take(self, reply: bytes | None = None) -> None:
        """Read what is there; each message must be `reply`, or a large one."""
        data = self.sock.recv(1 << 20)
        if not data:
            raise AssertionError("a connection was lost")
        self._rest += data
        for frame in whole_frames(self._rest):
            self._rest = self._rest[len(frame) :]
            if frame[0] == PING:
                self.sock.sendall(pong_to(frame))
            elif frame == reply or (reply is None and len(frame) > LARGE_BYTES):
                self.received += 1
            else:
                raise AssertionError(f"a reply differs from the first one: {frame[:200]!r}")


class Held:
    """Open connections of one server that each answer the same message with the same bytes."""

    def __init__(self, pid: int, sockets: list[socket.socket]) -> None:
        self.pid = pid
        self.clients = [Client(sock) for sock in sockets]
        self.reply = checked_reply(sockets[0])
        self._by_fd = {client.sock.fileno(): client for client in self.clients}
        self._sent = 0

    def each_second(self, seconds: int) -> list[int]:
        """One message a second through each connection, spread over the second; the memory after each second."""
        frame = masked_frame(PLAIN.encode(message()))
        memory, slots = [], 50
        with contextlib.closing(select.epoll()) as poll:
            for fd in self._by_fd:
                poll.register(fd, select.EPOLLIN)
            for _ in range(seconds):
                start = time.monotonic()
                for slot in range(slots):
                    for client in self.clients[slot::slots]:
                        client.sock.sendall(frame)
                    self._take(poll, start + (slot + 1) / slots)
                self._sent += len(self.clients)
                deadline = time.monotonic() + 30
                while sum(client.received for client in self.clients) < self._sent:
                    if time.monotonic() > deadline:
                        raise AssertionError("replies are missing after 30 s")
                    self._take(poll, time.monotonic() + 0.01)
                memory.append(rss_bytes(self.pid))
        return memory

    def _take(self, poll: select.epoll, end: float) -> None:
        while (left := end - time.monotonic()) > 0:
            for fd, _ in poll.poll(left, 1000):
                self._by_fd[fd].take(self.reply)

    def large(self) -> float:
        """One message of 1 MiB through one connection after the other; the bytes kept of each."""
        frame = masked_frame(PLAIN.encode(message(LARGE_BYTES + 100)))
        start, number = rss_bytes(self.pid), 0
        for client in self.clients[:LARGE_MESSAGES]:
            before = client.received
            client.sock.sendall(frame)
            while client.received == before:
                client.take()
            number += 1
            if rss_bytes(self.pid) - start > KEPT_BYTES:
                break
        self._sent += number
        time.sleep(0.5)
        return (rss_bytes(self.pid) - start) / number


def connected(port: int, number: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for _ in range(number):
            sockets.append(connect(port))  # noqa: PERF401 - those before a failure are to be closed
    except BaseException:
        closed(sockets)
        raise
    return sockets


def closed(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def checked_reply(sock: socket.socket) -> bytes:
    """The frame that answers the chat message, whose content is right."""
    sock.sendall(masked_frame(PLAIN.encode(message())))
    while (reply := read_frame(sock))[0] == PING:  # opening 10,000 connections takes longer than its interval
        sock.sendall(pong_to(reply))
    assert PLAIN.decode(payload_of(reply)) == message()
    return reply


def held(competitor: Competitor, core: int, number: int, seconds: int) -> Row:
    with running(replace(competitor, ping_s=20), core) as (port, pid):
        warm = connected(port, 50)
        for sock in warm:
            checked_reply(sock)
        closed(warm)
        time.sleep(0.5)
        empty = rss_bytes(pid)
        sockets = connected(port, number)
        try:
            clients = Held(pid, sockets)
            idle = rss_bytes(pid)
            before = cpu_seconds(pid)
            memory = clients.each_second(seconds)
            cpu = cpu_seconds(pid) - before
            kept = clients.large()
            clients.each_second(1)  # all of them still answer
        finally:
            closed(sockets)
    flat = memory[min(FLAT_AFTER_S, len(memory) - 1) - 1 :]
    return {
        "connections": number,
        "idle_bytes": (idle - empty) / number,
        "talking_bytes": (memory[-1] - empty) / number,
        "growth_bytes": (max(flat) - flat[0]) / number,
        "after_large_bytes": (memory[-1] - empty) / number + kept,
        "cpu_us": cpu / (number * seconds) * 1e6,
    }


def table(title: str, rows: dict[str, Row], competitors: list[Competitor]) -> str:
    lines = [
        title,
        f"  {'bytes per connection':35}{'idle':>9}{'talking':>9}{'growth':>9}{'after 1 MiB':>13}{'CPU us/msg':>12}",
    ]
    lines += lines_of(
        rows,
        competitors,
        lambda row: (
            f"{row['idle_bytes']:9,.0f}{row['talking_bytes']:9,.0f}{row['growth_bytes']:9,.0f}"
            f"{row['after_large_bytes']:13,.0f}{row['cpu_us']:12.1f}"
        ),
    )
    return "\n".join(lines)


def test_held_connections(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """No connection is lost and every message is answered; the table shows what connections weigh."""
    number, seconds = (10_000, 60) if full else (1_000, 2)
    if allow_files(number + SPARE_FILES) < number + SPARE_FILES:
        pytest.skip(f"{number} connections need as many open files, which this system does not allow")
    competitors = pick(*KEYS)
    show.steps = len(competitors)
    rows: dict[str, Row] = {}
    for competitor in competitors:
        show.step(f"{number} connections: {competitor.name}")
        rows[competitor.key] = attempt(held, competitor, pinned, number, seconds)
    figures[f"connections {number}"] = rows
    show(table(f"Held connections, {number}, one message a second each for {seconds} s", rows, competitors))
    assert not ours_failed(rows, competitors)
