"""A real uvicorn in the test's own event loop, and real clients (`websockets`) that speak JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.serving import Server

WAIT_S = 40.0  # for a machine that is busy with something else
OURS = "socketsundso.server:WebSocketProtocol"
protocol = OURS
"""The WebSocket protocol of uvicorn that `serving` uses; the fixture `both_protocols` changes it."""


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]  # an async function's call is a coroutine


class Client:
    """Sends and receives JSON messages; every wait has an end."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, type_: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": type_, **fields}))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            return json.loads(await self.connection.recv())  # type: ignore[no-any-return]  # a JSON object

    async def receives(self, count: int) -> list[dict[str, Any]]:
        return [await self.receive() for _ in range(count)]

    async def call(self, type_: str, **fields: Any) -> dict[str, Any]:
        """Send an event and receive the answer to it; what comes before that is dropped."""
        await self.send(type_, ref="call", **fields)
        while (message := await self.receive()).get("ref") != "call":
            pass
        return message

    async def call_all(self, type_: str, **fields: Any) -> list[dict[str, Any]]:
        """The same, with what comes before the answer, which is the last."""
        await self.send(type_, ref="call", **fields)
        messages = [await self.receive()]
        while messages[-1].get("ref") != "call":
            messages.append(await self.receive())
        return messages

    def stop_reading(self) -> None:
        """What is sent from now on waits elsewhere: the own buffers are small and full soon."""
        self.connection.transport.pause_reading()
        self.connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

    def read_again(self) -> None:
        self.connection.transport.resume_reading()

    async def leave(self) -> None:
        """Close, and read what still comes: the server's close frame may be behind more than a client keeps."""
        await asyncio.gather(self.connection.close(), self.closed())

    async def closed(self) -> int:
        """The close code, after reading whatever still comes."""
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.connection.recv()
        return self.connection.close_code or 0


Connect = Callable[..., Awaitable[Client]]


@asynccontextmanager
async def serving(endpoint: Any, **options: Any) -> AsyncIterator[Connect]:
    """Serve an endpoint class (or an ASGI app); gives a function that opens one more client."""
    app = Starlette(routes=[WebSocketRoute("/", endpoint)]) if isinstance(endpoint, type) else endpoint
    config = uvicorn.Config(app, log_level="error", lifespan="off", ws=protocol, timeout_graceful_shutdown=1, **options)
    server = Server(config)
    # asyncio switches Nagle's algorithm off where the socket says that it is TCP; `socket.create_server` does not.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        task = asyncio.create_task(server._serve([listening]))
        while not server.started:  # uvicorn has no event for it
            await asyncio.sleep(0.005)
        port = listening.getsockname()[1]
        clients: list[Client] = []

        async def client(path: str = "", **options: Any) -> Client:
            clients.append(Client(await connect(f"ws://127.0.0.1:{port}/{path}", compression=None, **options)))
            return clients[-1]

        try:
            yield client
        finally:
            await asyncio.gather(*(each.leave() for each in clients), return_exceptions=True)
            server.stop()
            await task
