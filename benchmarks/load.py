"""
The load: sockets, masked frames built once, and a poll loop. No JSON, no parsing, no coroutine.

The replies to one frame are read and their content checked once; from then on every byte is compared with them, so a
reply that is not right ends the run. Meant for a process of its own, on a core of its own; its own CPU time is part
of the result.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
SPARE_FILES = 200  # what a process has open besides its connections, generously
READ_BYTES = 1 << 12  # the least that one read asks for; a buffer that is much larger costs a page fault each time
SILENCE_S = 10.0  # a server that answers nothing for this long has failed

Body = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How the load looks: so many connections, each with so many messages in flight."""

    connections: int
    in_flight: int

    def __str__(self) -> str:
        return f"{self.connections}x{self.in_flight}"


@dataclass(frozen=True)
class Dialect:
    """How a competitor wants a message on the wire: its path, the field of the kind, and what surrounds the JSON."""

    path: str = "/"
    tag: str = "type"
    inside: str = ""  # the field that holds all others
    before: str = ""
    after: str = ""
    greeting: str = ""  # sent after the server's first frame, answered with one more
    acknowledgement: tuple[Body, ...] = ()  # what comes before all that answers a message
    first_byte: int = 0x81  # of a frame: a whole text

    def encode(self, body: Body) -> bytes:
        kind, fields = body["type"], {name: value for name, value in body.items() if name != "type"}
        tagged = {self.tag: kind, **({self.inside: fields} if self.inside else fields)}
        return f"{self.before}{json.dumps(tagged, separators=(',', ':'))}{self.after}".encode()

    def decode(self, payload: bytes) -> Body:
        """The message as it looks to everybody else. Raises AssertionError when it is none."""
        text = payload.decode()
        if not (text.startswith(self.before) and text.endswith(self.after)):
            raise AssertionError(f"the server answered {text[:200]}")
        body = json.loads(text[len(self.before) : len(text) - len(self.after)])
        fields = body.get(self.inside, {}) if self.inside else body
        if not isinstance(fields, dict):  # an error's details
            fields = {self.inside: fields}
        return {"type": body.get(self.tag), **{name: value for name, value in fields.items() if name != self.tag}}


@dataclass(frozen=True)
class Enveloped(Dialect):
    """The same of messages with a `ref`, which stands at a key of its own beside the kind."""

    ref: str = "ref"

    def encode(self, body: Body) -> bytes:
        fields = {name: value for name, value in body.items() if name not in ("type", "ref")}
        own = {self.tag: body["type"], self.ref: body["ref"]}
        return json.dumps({**own, **({self.inside: fields} if self.inside else fields)}, separators=(",", ":")).encode()

    def decode(self, payload: bytes) -> Body:
        body = json.loads(payload)
        fields = body.get(self.inside) if self.inside else body
        rest = {name: value for name, value in fields.items() if name not in (self.tag, self.ref)}
        return {"type": body[self.tag], "ref": body[self.ref], **rest}


@dataclass(frozen=True)
class Arrays(Dialect):
    """A message is an array: its kind, its `ref`, its fields."""

    def encode(self, body: Body) -> bytes:
        fields = {name: value for name, value in body.items() if name not in ("type", "ref")}
        return json.dumps([body["type"], body["ref"], fields], separators=(",", ":")).encode()

    def decode(self, payload: bytes) -> Body:
        kind, ref, fields = json.loads(payload)
        return {"type": kind, "ref": ref, **fields}


@dataclass(frozen=True)
class JsonRpcRequests(Dialect):
    """A message is a request of JSON-RPC 2.0, with its kind as the method, and its answer the result."""

    def encode(self, body: Body) -> bytes:
        params = {name: value for name, value in body.items() if name not in ("type", "ref")}
        request = {"jsonrpc": "2.0", "id": body["ref"], "method": body["type"], "params": params}
        return json.dumps(request, separators=(",", ":")).encode()

    def decode(self, payload: bytes) -> Body:
        answer = json.loads(payload)
        return {"type": "message", "ref": answer["id"], **answer["result"]}


@dataclass(frozen=True)
class JsonRpcSubscription(Dialect):
    """A message with a `ref` of 1 subscribes, and what is published answers it: fastapi-rpckit counts for itself."""

    acknowledgement: tuple[Body, ...] = ({"type": "subscribed"},)

    def encode(self, body: Body) -> bytes:
        params = {name: value for name, value in body.items() if name not in ("type", "ref")}
        method = f"chat.{body['type']}.subscribe"
        return json.dumps({"jsonrpc": "2.0", "id": body["ref"], "method": method, "params": params}).encode()

    def decode(self, payload: bytes) -> Body:
        body = json.loads(payload)
        if "result" in body:
            return {"type": "subscribed"}
        if "error" in body or "error" in body["params"]:
            return {"type": "error", **body}
        if "complete" in body["params"]:
            return {"type": "complete", "ref": 1}
        return {"type": "token", "ref": 1, **body["params"]["payload"]}


PLAIN = Dialect()


def message(size: int = 80) -> Body:
    """The chat message, its text filled up so that the whole has about `size` bytes."""
    text = "hello world, this is a chat message"
    text += "x" * max(0, size - 102 + 35 - len(text))
    return {"type": "message", "room": "lobby", "msg": text, "sender": 42}


def masked_frame(payload: bytes) -> bytes:
    """One final text frame as a client sends it."""
    return framed(payload, 0x81)


def framed(payload: bytes, first: int) -> bytes:
    """A frame as a client sends it, `first` its first byte: the final bit, those of extensions, the opcode."""
    mask = b"\x01\x02\x03\x04"
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0xFE, size)
    else:
        head = struct.pack("!BBQ", first, 0xFF, size)
    padded = mask * (size // 4 + 1)
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(padded[:size], "big")).to_bytes(size, "big")
    return head + mask + body


def connect(port: int, dialect: Dialect = PLAIN, receive_buffer: int | None = None) -> socket.socket:
    """A connection after its handshake, without compression."""
    return opened(port, dialect, receive_buffer=receive_buffer).sock


class Opened(NamedTuple):
    """A connection after its handshake."""

    sock: socket.socket
    extensions: str
    """What the server answered to those that were offered."""
    greeted: list[bytes]
    """The frames that the server has sent so far."""


def opened(port: int, dialect: Dialect = PLAIN, offer: str = "", receive_buffer: int | None = None) -> Opened:
    """A connection after its handshake, with what was agreed on. Raises ConnectionError if it is refused."""
    sock = socket.socket()
    try:
        if receive_buffer is not None:  # counts only from before the connection on
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(SILENCE_S)
        sock.connect(("127.0.0.1", port))
        answer = shake_hands(sock, port, dialect.path, offer)
        greeted = []
        if dialect.greeting:
            greeted.append(read_frame(sock))
            sock.sendall(masked_frame(dialect.greeting.encode()))
            greeted.append(read_frame(sock))
    except BaseException:
        sock.close()
        raise
    return Opened(sock, answer, greeted)


def shake_hands(sock: socket.socket, port: int, path: str, offer: str = "") -> str:
    """The handshake on a socket that is connected; the answer to the offer. ConnectionError if it is refused."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    extensions = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:  # a frame may follow in the same segment: take the head alone
        seen = sock.recv(4096, socket.MSG_PEEK)
        if not seen:
            raise ConnectionError("the server closed the connection")
        end = (head + seen).find(b"\r\n\r\n")
        head += sock.recv(len(seen) if end < 0 else end + 4 - len(head))
    status = head.partition(b"\r\n")[0]
    if b" 101 " not in status + b" ":
        raise ConnectionError(status.decode())
    lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    answered = [value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-extensions"]
    return b", ".join(answered).decode()


def read_frame(sock: socket.socket) -> bytes:
    """One whole frame as the server sends it."""
    data = _exactly(sock, 2)
    size = data[1] & 127
    if size >= 126:
        more = _exactly(sock, 2 if size == 126 else 8)
        data, size = data + more, int.from_bytes(more, "big")
    return data + _exactly(sock, size)


def payload_of(frame: bytes) -> bytes:
    size = frame[1] & 127
    return frame[2 if size < 126 else 4 if size == 126 else 10 :]


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the server closed the connection")
        data += chunk
    return data


class Passage(NamedTuple):
    """What one run of the load took: wall seconds, this process's CPU seconds, and how long each answer took."""

    wall_s: float
    cpu_s: float
    waits: list[tuple[float, int]]
    """(seconds from a write to the last byte of its answers, how many of them came together), in order of arrival"""

    def wait_s(self, share: float) -> float:
        """The seconds within which this share of the answers was there: 0.5 gives the median."""
        left = share * sum(count for _, count in self.waits)
        for seconds, count in sorted(self.waits):
            left -= count
            if left <= 0:
                return seconds
        raise ValueError("nothing was answered")


class Load:
    """
    Open connections that send the same again and again.

    `invalid` of every `group` messages lack a field; their answer must be an error, and the connection must live on.
    With `group` > 1 that many messages are one unit: sent in one write, answered by that many frames. With `at_once`
    it asks for one connection at a time, and answers it before the next; else for all that are readable.
    """

    def __init__(
        self,
        port: int,
        shape: Shape,
        body: Body,
        dialect: Dialect = PLAIN,
        *,
        group: int = 1,
        invalid: int = 0,
        at_once: bool = False,
    ) -> None:
        self.shape, self.dialect, self.group = shape, dialect, group
        self._most = 1 if at_once else -1
        self.bodies = [body] * (group - invalid) + [{**body, "sender": "nobody"}] * invalid
        self.frame = b"".join(framed(dialect.encode(each), dialect.first_byte) for each in self.bodies)
        self.sockets: list[socket.socket] = []
        self._poll = select.epoll()
        try:
            self._open(port)
        except BaseException:
            self.close()
            raise

    def _open(self, port: int) -> None:
        for _ in range(self.shape.connections):
            self.sockets.append(connect(port, self.dialect))
        self.reply = self._first_reply(self.sockets[0])
        for sock in self.sockets:
            sock.settimeout(None)  # with a timeout every call would poll first
            self._poll.register(sock, select.EPOLLIN)
        self._by_fd = {sock.fileno(): sock for sock in self.sockets}
        self._rest = dict.fromkeys(self._by_fd, b"")

    def _first_reply(self, sock: socket.socket) -> bytes:
        sock.sendall(self.frame)
        frames = []
        for sent in self.bodies:
            frames.append(read_frame(sock))
            answer = self.dialect.decode(payload_of(frames[-1]))
            right = answer == sent if sent == self.bodies[0] else answer.get("type") == "error"
            if not right:
                raise AssertionError(f"the server answered {str(answer)[:200]}")
        return b"".join(frames)

    def run(self, messages: int) -> Passage:
        """Send and receive `messages`, as fast as the server answers."""
        units = messages // self.group
        sent, received, size = 0, 0, len(self.reply)
        reply, frame, by_fd, rests = self.reply, self.frame, self._by_fd, self._rest
        read_bytes = max(READ_BYTES, size * self.shape.in_flight)
        whole = {count: reply * count for count in range(1, self.shape.in_flight + 1)}
        under_way: dict[int, deque[tuple[float, int]]] = {fd: deque() for fd in by_fd}  # when they left, how many
        waits: list[tuple[float, int]] = []
        clock = time.perf_counter
        start, cpu = clock(), time.process_time()
        for fd, sock in by_fd.items():
            if again := min(self.shape.in_flight, units - sent):
                under_way[fd].append((clock(), again))
                sock.sendall(frame * again)
                sent += again
        while received < sent:
            for fd, _ in self._wait():
                sock = by_fd[fd]
                data = sock.recv(read_bytes)
                if data == reply and not rests[fd]:
                    count = 1
                else:
                    if not data:
                        raise ConnectionError("the server closed the connection under load")
                    data = rests[fd] + data
                    count, rest = divmod(len(data), size)
                    rests[fd] = data[count * size :] if rest else b""
                    if count and data[: count * size] != whole.get(count):
                        raise AssertionError("a reply differs from the first one")
                received += count
                now, left, queue = clock(), count, under_way[fd]
                while left:
                    since, together = queue.popleft()
                    if together > left:
                        queue.appendleft((since, together - left))
                        together = left
                    waits.append((now - since, together))
                    left -= together
                again = min(count, units - sent)
                if again > 0:
                    sent += again
                    queue.append((now, again))
                    sock.sendall(frame if again == 1 else frame * again)
        return Passage(clock() - start, time.process_time() - cpu, waits)

    def _wait(self) -> list[tuple[int, int]]:
        ready = self._poll.poll(SILENCE_S, self._most)
        if not ready:
            raise TimeoutError(f"no answer within {SILENCE_S:.0f} s under load")
        return ready

    def at_rate(self, per_s: float, seconds: float) -> tuple[list[float], float]:
        """
        Open loop: messages leave at `per_s` whatever the server does, spread over the connections.

        Gives the sorted seconds from when each message was *due* until its whole answer was there, and the median of
        how late the load itself was: a server that stalls makes all that wait behind it late, none is left out.
        """
        assert self.group == 1
        due: dict[int, deque[float]] = {fd: deque() for fd in self._by_fd}
        turns, size, step = list(self._by_fd), len(self.reply), 1.0 / per_s
        total = int(per_s * seconds)
        waited, late, sent = [], [], 0
        start = time.perf_counter()
        give_up = start + seconds + SILENCE_S
        while len(waited) < total:
            now = time.perf_counter()
            if now > give_up:
                raise TimeoutError(f"{total - len(waited)} of {total} messages unanswered")
            while sent < total and (when := start + sent * step) <= now:
                fd = turns[sent % len(turns)]
                self._by_fd[fd].sendall(self.frame)
                due[fd].append(when)
                late.append(now - when)
                sent += 1
                if not sent % 16:
                    break  # read in between, also when behind
            for fd, _ in self._poll.poll(0):
                data = self._rest[fd] + self._by_fd[fd].recv(max(READ_BYTES, size))
                count, rest = divmod(len(data), size)
                if data[: count * size] != self.reply * count:
                    raise AssertionError("a reply differs from the first one")
                self._rest[fd] = data[count * size :] if rest else b""
                now = time.perf_counter()
                waited += [now - due[fd].popleft() for _ in range(count)]
        waited.sort()
        late.sort()
        return waited, late[len(late) // 2]

    def close(self) -> None:
        self._poll.close()
        for sock in self.sockets:
            sock.close()


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and its children, exact to the nanosecond where the kernel tells."""
    total = 0.0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0]) / 1e9
            with open(f"/proc/{pid}/task/{task}/children") as file:
                total += sum(cpu_seconds(int(child)) for child in file.read().split())
    return total


def settled_cpu_seconds(pid: int) -> float:
    """The same when the server sleeps: the kernel adds a slice to the counter when it ends, or at its next tick."""
    time.sleep(0.002)
    return cpu_seconds(pid)


def rss_bytes(pid: int) -> int:
    """The resident memory of a process."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def allow_files(wanted: int) -> int:
    """Raise the limit of open files to `wanted` if the system lets us; gives the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(soft, allowed)
