"""
The load: sockets, one masked frame built once, and a poll loop. No JSON, no parsing, no coroutine.

Every reply is compared with the first one, whose content was checked, byte by byte; so a reply that is not right ends
the run. Meant to run in a process of its own, on a core of its own; its own CPU time is part of the result.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from dataclasses import dataclass

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="


@dataclass(frozen=True)
class Shape:
    """How the load looks: so many connections, each with so many messages in flight."""

    connections: int
    in_flight: int

    def __str__(self) -> str:
        return f"{self.connections}x{self.in_flight}"


def message(size: int = 80) -> bytes:
    """The chat message, its text filled up so that the whole has about `size` bytes."""
    text = "hello world, this is a chat message"
    text += "x" * max(0, size - 102 + 35 - len(text))
    body = {"type": "message", "room": "lobby", "msg": text, "sender": 42}
    return json.dumps(body, separators=(",", ":")).encode()


def masked_frame(payload: bytes) -> bytes:
    """One final text frame as a client sends it."""
    mask = b"\x01\x02\x03\x04"
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x81, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x81, 0xFF, size)
    padded = mask * (size // 4 + 1)
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(padded[:size], "big")).to_bytes(size, "big")
    return head + mask + body


def connect(port: int) -> socket.socket:
    """A connection after its handshake, without compression."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    try:
        _shake_hands(sock, port)
    except BaseException:
        sock.close()
        raise
    return sock


def _shake_hands(sock: socket.socket, port: int) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError("the server closed the connection")
        head += byte
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise ConnectionError(head.decode())


def read_frame(sock: socket.socket) -> bytes:
    """One whole frame as the server sends it."""
    data = _exactly(sock, 2)
    size = data[1] & 127
    if size >= 126:
        more = _exactly(sock, 2 if size == 126 else 8)
        data, size = data + more, int.from_bytes(more, "big")
    return data + _exactly(sock, size)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the server closed the connection")
        data += chunk
    return data


class Load:
    """Open connections that send the same message again and again."""

    def __init__(self, port: int, shape: Shape, payload: bytes) -> None:
        self.shape = shape
        self.frame = masked_frame(payload)
        self.sockets: list[socket.socket] = []
        self._poll = select.epoll()
        try:
            self._open(port, payload)
        except BaseException:
            self.close()
            raise

    def _open(self, port: int, payload: bytes) -> None:
        for _ in range(self.shape.connections):
            self.sockets.append(connect(port))
        self.sockets[0].sendall(self.frame)
        self.reply = read_frame(self.sockets[0])
        body = json.loads(self.reply[self.reply.index(b"{") :])
        if body != json.loads(payload):
            raise AssertionError(f"the server answered {body}")
        for sock in self.sockets:
            sock.settimeout(None)  # with a timeout every call would poll first
            self._poll.register(sock, select.EPOLLIN)
        self._by_fd = {sock.fileno(): sock for sock in self.sockets}
        self._rest = dict.fromkeys(self._by_fd, b"")

    def run(self, messages: int) -> tuple[float, float]:
        """Send and receive `messages`; the seconds that took, and the CPU seconds of this process."""
        for sock in self.sockets:
            sock.sendall(self.frame * self.shape.in_flight)
        sent = self.shape.connections * self.shape.in_flight
        received, size = 0, len(self.reply)
        reply, frame, by_fd, rests = self.reply, self.frame, self._by_fd, self._rest
        whole = {count: reply * count for count in range(1, self.shape.in_flight + 1)}
        start, cpu = time.perf_counter(), time.process_time()
        while received < sent:
            for fd, _ in self._poll.poll(30):
                sock = by_fd[fd]
                data = sock.recv(1 << 18)
                if data == reply and not rests[fd]:
                    count = 1
                else:
                    data = rests[fd] + data
                    count, rest = divmod(len(data), size)
                    rests[fd] = data[count * size :] if rest else b""
                    if count and data[: count * size] != whole[count]:
                        raise AssertionError("a reply differs from the first one")
                received += count
                again = min(count, messages - sent)
                if again > 0:
                    sent += again
                    sock.sendall(frame if again == 1 else frame * again)
        return time.perf_counter() - start, time.process_time() - cpu

    def close(self) -> None:
        self._poll.close()
        for sock in self.sockets:
            sock.close()


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and its children, exact to the nanosecond where the kernel tells."""
    total = 0.0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0]) / 1e9
        with open(f"/proc/{pid}/task/{task}/children") as file:
            total += sum(cpu_seconds(int(child)) for child in file.read().split())
    return total


def rss_bytes(pid: int) -> int:
    """The resident memory of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
