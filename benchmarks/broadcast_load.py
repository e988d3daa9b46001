"""
The load of the broadcast benchmarks: many members that only count bytes, a few of which talk.

One epoll loop, no JSON and no coroutine. Every member's bytes are compared with the frames that it must get,
whose content was checked once, so a delivery that is missing, doubled or wrong ends the run.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from benchmarks.load import PLAIN, masked_frame, message, read_frame, shake_hands

WAIT_S = 60.0
BODY = PLAIN.encode(message())


class Dialect:
    """How a competitor is spoken to; the attributes of its module, else plain JSON messages at `/`."""

    def __init__(self, module: Any) -> None:
        self.path: str = getattr(module, "PATH", "/")
        self.greeting: tuple[str, ...] = getattr(module, "GREETING", ())
        self.answers: int = getattr(module, "ANSWERS", 0)
        self._wrapped = getattr(module, "wrapped", None)

    def frame(self, body: bytes) -> bytes:
        return masked_frame(body if self._wrapped is None else self._wrapped(body.decode()).encode())


def connect(port: int, dialect: Dialect, receive_buffer: int | None = None) -> socket.socket:
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(WAIT_S)
    sock.connect(("127.0.0.1", port))
    shake_hands(sock, port, dialect.path)
    for text in dialect.greeting:
        sock.sendall(masked_frame(text.encode()))
    for _ in range(dialect.answers):
        read_frame(sock)
    return sock


class Members:
    """`count` connections in one room; `say(n)` has the first n of them speak at the same time."""

    def __init__(self, port: int, count: int, dialect: Dialect) -> None:
        self.body = BODY
        self.frame = dialect.frame(self.body)
        self._poll = select.epoll()
        self.sockets = [connect(port, dialect) for _ in range(count)]
        self._by_fd = {sock.fileno(): sock for sock in self.sockets}
        self.expected = self._first_delivery()
        for sock in self.sockets:
            sock.setblocking(False)
            self._poll.register(sock, select.EPOLLIN)

    def _first_delivery(self) -> bytes:
        """Say it until the last member gets it: by then everybody is in the room; then read what is left."""
        last, first = self.sockets[-1], self.sockets[0]
        deadline, said, frame = time.monotonic() + WAIT_S, 0, b""
        last.settimeout(0.5)
        while not frame and time.monotonic() < deadline:
            first.sendall(self.frame)
            said += 1
            try:
                frame = read_frame(last)
            except TimeoutError:
                continue
        last.settimeout(WAIT_S)
        if self.body[:-1] not in frame:
            raise AssertionError(f"a member got {frame!r}")
        self._drain()
        return frame

    def _drain(self) -> None:
        """Until nothing comes for a while."""
        for sock in self.sockets:
            sock.setblocking(False)
        quiet_at = time.monotonic() + 0.2
        while time.monotonic() < quiet_at:
            for sock in self.sockets:
                try:
                    if sock.recv(1 << 16):
                        quiet_at = time.monotonic() + 0.2
                except BlockingIOError:
                    pass

    def say(self, in_flight: int, delays: list[float] | None = None) -> None:
        """`in_flight` broadcasts, one by each speaker; returns when every member has all of them."""
        for speaker in self.sockets[:in_flight]:
            speaker.sendall(self.frame)
        start = time.perf_counter()
        wanted = self.expected * in_flight
        size, missing = len(wanted), len(self.sockets)
        partial: dict[int, bytes] = {}
        poll, by_fd = self._poll, self._by_fd
        while missing:
            ready = poll.poll(WAIT_S)
            if not ready:
                raise TimeoutError(f"{missing} members wait for a broadcast")
            for fd, _ in ready:
                data = by_fd[fd].recv(1 << 18)
                if fd in partial:
                    data = partial[fd] + data
                if len(data) < size:
                    if not data:
                        raise ConnectionError("a member was disconnected")
                    partial[fd] = data
                    continue
                if data != wanted:
                    raise AssertionError("a member got something else, or something twice")
                missing -= 1
                if delays is not None:
                    delays.append(time.perf_counter() - start)

    def close(self) -> None:
        self._poll.close()
        for sock in self.sockets:
            sock.close()
