"""
The load of the broadcast benchmarks: many members that only count bytes, a few of which talk.

One epoll loop, no JSON and no coroutine. Every member's bytes are compared with the frames that it must get,
whose content was checked once, so a delivery that is missing, doubled or wrong ends the run.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import READ_BYTES, SILENCE_S, Dialect, connect, masked_frame, message, payload_of, read_frame

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
