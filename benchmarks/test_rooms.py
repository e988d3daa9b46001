"""
What else rooms cost: slow readers among many, the way across processes, join and leave with many rooms, memory.

Each prints its figures; the bounds that are promised (docs/rooms.md) are printed beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import select
import socket
import time
from typing import Any

import pytest

from benchmarks import reaper
from benchmarks.broadcast_load import Members
from benchmarks.load import PLAIN, connect, masked_frame, read_frame, rss_bytes
from benchmarks.progress import Show
from benchmarks.servers import BROADCASTERS, cores, pick, running
from socketsundso.connection.outbound import Connection, OutboundQueue
from socketsundso.connection.peer import new_id
from socketsundso.rooms.local import Rooms
from socketsundso.rooms.room import Participant, room_topic
from tests.backplanes.engines import running as engine_running

(SERVER,) = pick("ours", among=BROADCASTERS)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def settle(sock: socket.socket) -> None:
    """Return when the server has handled all that was sent on this connection: the last message is refused."""
    sock.sendall(masked_frame(b'{"type":"message","ref":1}'))
    while b'"ref":1' not in read_frame(sock):
        pass


def entered_and_flooded(port: int, count: int) -> list[socket.socket]:
    """Members of a second room, `flood`, that never read; full up to the server's own bound."""
    deaf = [connect(port, receive_buffer=4096) for _ in range(count)]
    for sock in deaf:
        sock.sendall(masked_frame(b'{"type":"enter","room":"flood"}'))
    talker = connect(port)
    big = masked_frame(b'{"type":"message","room":"flood","msg":"%b"}' % (b"x" * 60_000))
    for _ in range(150):  # 9 MB to each: the kernel's buffers and ours are full
        talker.sendall(big)
    settle(talker)  # all of them are through
    talker.close()
    return deaf


def test_slow_readers(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """Ten members that do not read do not delay the other thousand: p99 within 20 %."""
    rounds, turns = (5 if full else 3), 60
    ratios = []
    for _ in range(rounds):
        with running(SERVER, pinned) as (port, pid), contextlib.closing(Members(port, pid, 1000, PLAIN)) as load:
            delays: dict[str, list[float]] = {}
            for phase in ("without", "with"):
                deaf = entered_and_flooded(port, 10) if phase == "with" else []
                load.say(1)
                delays[phase] = []
                for _ in range(turns):
                    load.say(1, delays[phase])
            for sock in deaf:
                sock.close()
            ratios.append(percentile(delays["with"], 0.99) / percentile(delays["without"], 0.99))
    median = sorted(ratios)[len(ratios) // 2]
    figures["10 slow readers among 1,000"] = {SERVER.name: {"p99_ratio": median}}
    show(
        f"10 slow readers among 1,000: p99 of the others {percentile(delays['without'], 0.99) * 1e3:.1f} ms -> "
        f"{percentile(delays['with'], 0.99) * 1e3:.1f} ms, ratio {median:.2f} (promised: within 1.2)"
    )


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_across_processes(
    kind: str, full: bool, figures: dict[str, Any], show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a client of one process to a client of another at 1,000 messages/s."""
    messages = 10_000 if full else 3_000
    with engine_running(kind, before_exec=reaper.enlisting()) as engine:
        engine_pid = engine.pid
        monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", engine.url)
        with running(SERVER, cores()[0]) as (port_a, _), running(SERVER, cores()[1]) as (port_b, _):
            speaker, listener = connect(port_a), connect(port_b)
            settle(listener)  # has joined, and heard of it
            delays = delays_of(speaker, listener, messages)
            speaker.close()
            listener.close()
    reaper.forget(engine_pid)
    p50, p99 = percentile(delays, 0.5) * 1e3, percentile(delays, 0.99) * 1e3
    figures[f"across processes over {kind}, 1,000/s"] = {SERVER.name: {"p50_ms": p50, "p99_ms": p99}}
    show(f"across processes over {kind} at 1,000/s: p50 {p50:.2f} ms (promised: 3), p99 {p99:.2f} ms")


def delays_of(speaker: socket.socket, listener: socket.socket, messages: int) -> list[float]:
    """One message a millisecond, each with its number; the time from its sending to its arrival elsewhere."""
    sent_at: list[float] = []
    delays: list[float] = []
    rest = b""
    listener.setblocking(False)
    speaker.setblocking(False)
    with contextlib.closing(select.epoll()) as poll:
        poll.register(listener, select.EPOLLIN)
        poll.register(speaker, select.EPOLLIN)
        start = time.perf_counter()
        while len(delays) < messages:
            now = time.perf_counter()
            if len(sent_at) < messages and now >= start + len(sent_at) / 1000:
                sent_at.append(now)
                body = b'{"type":"message","room":"lobby","msg":"hello world, this is a chat message","sender":%d}'
                speaker.sendall(masked_frame(body % (len(sent_at) - 1)))
            due = start + len(sent_at) / 1000 if len(sent_at) < messages else now + 30
            ready = poll.poll(max(0.0, min(due - time.perf_counter(), 30)))
            if not ready and len(sent_at) == messages:
                raise TimeoutError(f"{messages - len(delays)} messages are missing")
            for fd, _ in ready:
                if fd == speaker.fileno():
                    speaker.recv(1 << 16)
                    continue
                arrived = time.perf_counter()
                *whole, rest = (rest + listener.recv(1 << 16)).split(b"}")
                for part in whole:
                    number = int(part.rpartition(b":")[2])
                    if number != len(delays):
                        raise AssertionError(f"message {number} came in the place of {len(delays)}")
                    delays.append(arrived - sent_at[number])
    return delays


def test_join_and_leave(figures: dict[str, Any], show: Show) -> None:
    """Their cost does not depend on how many rooms there are; nothing is left of an emptied room."""
    costs = asyncio.run(join_and_leave_costs())
    figures["join and leave, by rooms"] = {SERVER.name: {f"{rooms:,}": cpu_us for rooms, cpu_us in costs.items()}}
    for rooms, cpu_us in costs.items():
        show(f"join + leave with {rooms:,} rooms: {cpu_us:.1f} us CPU (promised: 10)")


async def join_and_leave_costs() -> dict[int, float]:
    async def send(event: Any) -> None:
        raise AssertionError("nothing is sent")

    def participant() -> Participant:
        return Participant(new_id(), Connection(send, OutboundQueue(1 << 20, "close"), lambda: None), False)

    everyone, costs = Rooms("memory://benchmark"), {}
    others = [participant() for _ in range(1000)]
    count = 20_000
    for rooms in (0, 1_000, 100_000):
        for number in range(len(everyone.topics), rooms):
            await everyone.join(others[number % 1000], room_topic(f"other:{number}"))
        topics, who = [room_topic(f"mine:{number}") for number in range(count)], participant()
        gc.collect()
        start = time.process_time()
        for topic in topics:
            await everyone.join(who, topic)
            everyone.leave(who, topic)
        costs[rooms] = (time.process_time() - start) / count * 1e6
        assert len(everyone.topics) == rooms
    await everyone.aclose()
    return costs


def test_memory(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """What a member costs above the connection that it has anyway."""
    members = 5000 if full else 1000
    with running(SERVER, pinned) as (port, pid):
        connections = [connect(port) for _ in range(members)]
        for sock in connections:
            settle(sock)
        before = rss_bytes(pid)
        for sock in connections:
            for room in range(10):
                sock.sendall(masked_frame(b'{"type":"enter","room":"room:%d"}' % room))
            settle(sock)
        per_membership = (rss_bytes(pid) - before) / members / 10
        for sock in connections:
            sock.close()
    figures["memory"] = {SERVER.name: {"bytes_per_membership": per_membership}}
    show(f"memory: {per_membership:,.0f} bytes for each further room of each of {members:,} members")
