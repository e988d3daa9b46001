"""
A real uvicorn in this process's event loop, and a client that can say anything, also what RFC 6455 forbids.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop

from socketsundso.server import WebSocketProtocol
from tests.serving import Server

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
both_loops = pytest.mark.parametrize("loop", list(LOOPS))
DEADLINE_S = 40.0  # for a machine that is busy with something else
KEY = base64.b64encode(bytes(range(16)))
BOUNDED_HTTP = {  # what `socketsundso run` serves with
    "h11": "socketsundso.server.head:H11Protocol",
    "httptools": "socketsundso.server.http_httptools:HttpToolsProtocol",
}
CERTIFICATE = Path(__file__).parent / "localhost.pem"  # for localhost, with its key


def run(main: Awaitable[Any], loop: str = "uvloop") -> Any:
    """Run `main` in a fresh event loop, with a deadline."""

    async def bounded() -> Any:
        async with asyncio.timeout(DEADLINE_S * 2):
            return await main

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    """Return when `condition` holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class Served:
    """A running server."""

    server: uvicorn.Server
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def connections(self) -> set[Any]:
        return self.server.server_state.connections

    @property
    def tasks(self) -> set[Any]:
        return self.server.server_state.tasks

    async def idle(self) -> None:
        """Wait until no connection and no task is left."""
        await until(lambda: not self.connections and not self.tasks)


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[Served]:
    """Serve `app` on a free port of the loopback interface; the event loop must have nothing to complain of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    defaults = {"ws": WebSocketProtocol, "log_config": None, "lifespan": "off", "port": 0}
    options = defaults | {"timeout_graceful_shutdown": 3} | options
    server = Server(uvicorn.Config(app, **options))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done())
    try:
        yield Served(server, server.servers[0].sockets[0].getsockname()[1] if options["port"] == 0 else 0)
    finally:
        server.stop()
        await task
    assert complaints == []


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = None) -> bytes:
    """A client's frame. `mask=b""` leaves it unmasked, which no client may do."""
    key = os.urandom(4) if mask is None else mask
    size = len(payload)
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    flag = 0x80 if key else 0
    if size < 126:
        head = bytes((first, flag | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    if not key:
        return head + payload
    repeated = (key * (size // 4 + 1))[:size]
    return head + key + (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)


def closing(code: int | None = 1000, reason: str = "") -> bytes:
    """A client's close frame."""
    return masked(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def request(path: str = "/", *headers: str, drop: str = "", method: str = "GET") -> bytes:
    """An upgrade request; `drop` names a header to leave out."""
    lines = [
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY.decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    kept = [line for line in lines if not drop or not line.lower().startswith(drop.lower())]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, *headers, "", ""]).encode("latin-1")


@dataclass
class Peer:
    """One raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    def say(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def response(self) -> int:
        """Read an HTTP response head, return its status."""
        async with asyncio.timeout(DEADLINE_S):
            self.head = await self.reader.readuntil(b"\r\n\r\n")
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return self.status

    async def frame(self) -> tuple[int, bytes] | None:
        """The next frame as (first byte, payload); None when the server has hung up."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                first, size = await self.reader.readexactly(2)
                if size == 126:
                    size = struct.unpack("!H", await self.reader.readexactly(2))[0]
                elif size == 127:
                    size = struct.unpack("!Q", await self.reader.readexactly(8))[0]
                return first, await self.reader.readexactly(size)
            except asyncio.IncompleteReadError:
                return None

    async def text(self) -> str:
        """The next frame, which must be an uncompressed text message."""
        frame = await self.frame()
        assert frame is not None
        first, payload = frame
        assert first == 0x81, (first, payload)
        return payload.decode()

    async def closed(self) -> tuple[int, str]:
        """
        Code and reason of the close frame, which must be next; it is echoed, and the server must hang up.
        """
        frame = await self.frame()
        assert frame is not None, "the server hung up without a close frame"
        first, payload = frame
        assert first == 0x88, (first, payload)
        self.say(masked(CLOSE, payload))
        rest = await self.rest()
        assert rest == b"", rest
        return (struct.unpack_from("!H", payload)[0], payload[2:].decode()) if payload else (1005, "")

    async def rest(self) -> bytes:
        """Everything until the server hangs up."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read(-1)

    async def leave(self) -> None:
        """Hang up."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def vanish(self) -> None:
        """Reset the connection, as a killed process does."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def peer(served: Served, data: bytes | None = None, **tls: Any) -> AsyncIterator[Peer]:
    """A connection that has sent `data`; by default an upgrade request whose acceptance is awaited."""
    connected = Peer(*await asyncio.open_connection("127.0.0.1", served.port, limit=1 << 26, **tls))
    try:
        connected.say(request() if data is None else data)
        if data is None:
            assert await connected.response() == 101
        yield connected
    finally:
        await connected.leave()


def sent_by_asgi(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The types of all messages that come to our protocol's `send`, and not past it by its own entries of the scope."""
    sent: list[str] = []
    plain = WebSocketProtocol.send

    async def noted(self: WebSocketProtocol, message: Any) -> None:
        sent.append(message["type"])
        await plain(self, message)

    monkeypatch.setattr(WebSocketProtocol, "send", noted)
    return sent


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and send every message back."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


@dataclass
class Recorder:
    """An application that accepts and notes every message; `sent` notes what `send` raised."""

    messages: list[Any] = field(default_factory=list)

    @property
    def last(self) -> Any:
        return self.messages[-1] if self.messages else None

    @property
    def code(self) -> int | None:
        """The code of the disconnect, when there was one."""
        last = self.last
        return last["code"] if last and last["type"] == "websocket.disconnect" else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            self.messages.append(await receive())
            if self.last["type"] == "websocket.disconnect":
                return
