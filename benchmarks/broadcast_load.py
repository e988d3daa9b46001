"""
The load of the broadcast benchmarks: many members that only count bytes, a few of which talk.

One epoll loop, no JSON and no coroutine. Every member's bytes are compared with the frames that it must get,
whose content was checked once, so a delivery that is missing, doubled or wrong ends the run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.deflate import OFFER, Answer, Inflater, Packer, cycle, frames_of
from benchmarks.load import (
    READ_BYTES,
    SILENCE_S,
    Body,
    Dialect,
    connect,
    masked_frame,
    message,
    opened,
    payload_of,
    read_frame,
)

WAIT_S = 60.0


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """While the body runs, the process does not."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TtZ":
            pass  # until it has stopped, or has crashed before
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Members:
    """`count` connections in one room; `say(n)` has the first n of them speak at the same time."""

    def __init__(self, port: int, pid: int, count: int, dialect: Dialect) -> None:
        self._pid = pid
        self.frame = masked_frame(dialect.encode(message()))
        self._dialect = dialect
        self._poll = select.epoll()
        self.sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                self.sockets.append(connect(port, dialect))
            self.expected = self._first_delivery()
        except BaseException:
            self.close()
            raise
        self._by_fd = {sock.fileno(): sock for sock in self.sockets}
        for sock in self.sockets:
            sock.setblocking(False)
            self._poll.register(sock, select.EPOLLIN)

    def _first_delivery(self) -> bytes:
        """Say it until the last member gets it: by then everybody is in the room; then read what is left."""
        last, first = self.sockets[-1], self.sockets[0]
        deadline, frame = time.monotonic() + WAIT_S, b""
        last.settimeout(0.5)
        while not frame and time.monotonic() < deadline:
            first.sendall(self.frame)
            with contextlib.suppress(TimeoutError):
                frame = read_frame(last)
        last.settimeout(SILENCE_S)
        if not frame or self._dialect.decode(payload_of(frame)) != message():
            raise AssertionError(f"a member got {frame[:200]!r}")
        self._read_up_to_a_mark()
        return frame

    def _read_up_to_a_mark(self) -> None:
        """One more message of the same speaker, and each member's bytes until it: nothing else is on its way then."""
        mark = {**message(), "msg": "mark"}
        self.sockets[0].sendall(masked_frame(self._dialect.encode(mark)))
        for sock in self.sockets:
            while self._dialect.decode(payload_of(read_frame(sock))) != mark:
                pass

    def say(self, in_flight: int, delays: list[float] | None = None) -> None:
        """
        `in_flight` broadcasts, one by each speaker; returns when every member has all of them.

        Several speak at the same time: the server is stopped while they do. How many of them it sees in one turn of
        its loop would else depend on how fast it woke up.
        """
        with stopped(self._pid) if in_flight > 1 else contextlib.nullcontext():
            for speaker in self.sockets[:in_flight]:
                speaker.sendall(self.frame)
        start = time.perf_counter()
        wanted = self.expected * in_flight
        size, missing = len(wanted), len(self.sockets)
        read_bytes = max(READ_BYTES, size)
        partial: dict[int, bytes] = {}
        poll, by_fd = self._poll, self._by_fd
        while missing:
            ready = poll.poll(0)  # awake: to wake it would be work of the server's, more of it the slower the server is
            if not ready:
                if time.perf_counter() > start + WAIT_S:
                    raise TimeoutError(f"{missing} members wait for a broadcast")
                continue
            for fd, _ in ready:
                data = by_fd[fd].recv(read_bytes)
                if fd in partial:
                    data = partial[fd] + data
                if len(data) < size:
                    if not data:
                        raise ConnectionError("a member was disconnected")
                    partial[fd] = data
                    continue
                if data != wanted:
                    raise AssertionError(f"a member got {len(data)} bytes instead of {size}: {data[-200:]!r}")
                missing -= 1
                if delays is not None:
                    delays.append(time.perf_counter() - start)

    def close(self) -> None:
        self._poll.close()
        for sock in self.sockets:
            sock.close()


class BrowserMembers:
    """
    `count` connections in one room that are what `client` says, see `PromptLoad`. No two messages of a size are alike.

    Each member's bytes are kept while the server works, and are read when it has done: deliveries in order or not,
    every one once and the same for all.
    """

    def __init__(self, port: int, pid: int, count: int, dialect: Dialect, client: str) -> None:
        self._pid, self._dialect = pid, dialect
        self.received_bytes = 0  # of the last `say`, by all members
        self.sockets: list[socket.socket] = []
        self._inflaters: list[Inflater] = []
        self._poll = select.epoll()
        try:
            self._open(port, count, client)
        except BaseException:
            self.close()
            raise

    def _open(self, port: int, count: int, client: str) -> None:
        shared: dict[bytes, bytes] = {}
        for _ in range(count):
            member = opened(port, self._dialect, "" if client == "none" else OFFER)
            self.sockets.append(member.sock)
            self.answer = Answer.of(member.extensions)
            self._inflaters.append(Inflater(self.answer, shared))
            for frame in member.greeted:
                self._inflaters[-1].payload(frame)
        self._shared = shared
        self._bodies: dict[int, Iterator[Body]] = {}  # by their size
        compresses = client == "browser" and self.answer.deflate
        self._packers = [Packer(self.answer) if compresses else None for _ in self.sockets]
        self._enter()
        self._at = {sock.fileno(): at for at, sock in enumerate(self.sockets)}
        for sock in self.sockets:
            sock.setblocking(False)
            self._poll.register(sock, select.EPOLLIN)

    def _enter(self) -> None:
        """Say it until the last member gets it: by then everybody is in the room; then a mark, and all until it."""
        last, deadline, heard = len(self.sockets) - 1, time.monotonic() + WAIT_S, False
        self.sockets[-1].settimeout(0.5)
        while not heard and time.monotonic() < deadline:
            self.sockets[0].sendall(self._frame(0, message()))
            with contextlib.suppress(TimeoutError):
                heard = self._next(last) == message()
        if not heard:
            raise AssertionError("the last member hears nothing")
        self.sockets[-1].settimeout(SILENCE_S)
        mark = {**message(), "msg": "mark"}
        self.sockets[0].sendall(self._frame(0, mark))
        for at in range(len(self.sockets)):
            while self._next(at) != mark:
                pass

    def _next(self, at: int) -> Body:
        return self._dialect.decode(self._inflaters[at].payload(read_frame(self.sockets[at])))

    def _frame(self, speaker: int, body: Body) -> bytes:
        payload, packer = self._dialect.encode(body), self._packers[speaker]
        return masked_frame(payload) if packer is None else packer.frame(payload)

    def say(self, in_flight: int, size: int) -> None:
        """As `Members.say`, messages of this size."""
        if size not in self._bodies:
            self._bodies[size] = itertools.cycle(cycle(size, self.answer))
        bodies = list(itertools.islice(self._bodies[size], in_flight))
        frames = [self._frame(speaker, body) for speaker, body in enumerate(bodies)]
        with stopped(self._pid) if in_flight > 1 else contextlib.nullcontext():
            for speaker, frame in zip(self.sockets, frames, strict=False):
                speaker.sendall(frame)
        received = self._received(in_flight)
        self.received_bytes = sum(len(frame) for each in received for frame in each)
        self._shared.clear()
        right: list[bytes] = []
        for inflater, delivered in zip(self._inflaters, received, strict=True):
            payloads = sorted(map(inflater.payload, delivered))
            if not right and sorted(bodies, key=repr) == sorted(map(self._dialect.decode, payloads), key=repr):
                right = payloads
            if payloads != right:
                raise AssertionError(f"a member got {payloads[0][:200]!r}")

    def _received(self, in_flight: int) -> list[list[bytes]]:
        """The frames of each member, so many."""
        data, received = [b""] * len(self.sockets), [list[bytes]()] * len(self.sockets)
        missing, give_up = len(self.sockets), time.perf_counter() + WAIT_S
        while missing:
            ready = self._poll.poll(0)  # awake, as in `Members.say`
            if not ready and time.perf_counter() > give_up:
                raise TimeoutError(f"{missing} members wait for a broadcast")
            for fd, _ in ready:
                at = self._at[fd]
                if not (more := self.sockets[at].recv(1 << 16)):
                    raise ConnectionError("a member was disconnected")
                data[at] += more
                frames = list(frames_of(data[at]))
                if len(frames) >= in_flight:
                    if len(frames) > in_flight or received[at]:
                        raise AssertionError(f"a member got more than {in_flight} messages")
                    received[at] = frames
                    missing -= 1
        return received

    def close(self) -> None:
        self._poll.close()
        for sock in self.sockets:
            sock.close()
