"""Servers in the event loop of a test: uvicorn with an application, or what a test says frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import uvicorn
from websockets.asyncio.server import ServerConnection, serve

from socketsundso.server import WebSocketProtocol

from ...serving import Server, free_port

PROTOCOLS: dict[str, Any] = {"ours": WebSocketProtocol, "uvicorn's": "websockets-sansio"}


class Served:
    """An application that can go away, and come back on its port."""

    def __init__(self, app: Any, protocol: Any = WebSocketProtocol) -> None:
        self._app, self._protocol, self.port = app, protocol, free_port()
        self.url = f"ws://127.0.0.1:{self.port}/"
        self._server: Server | None = None

    async def start(self) -> None:
        config = uvicorn.Config(self._app, port=self.port, ws=self._protocol, log_config=None, lifespan="off")
        self._server = Server(config)
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            await self._task
            self._server = None


@contextlib.asynccontextmanager
async def serving(app: Any, protocol: Any = WebSocketProtocol) -> AsyncIterator[Served]:
    served = Served(app, protocol)
    await served.start()
    try:
        yield served
    finally:
        await served.stop()


@contextlib.asynccontextmanager
async def scripted(*scripts: Callable[[ServerConnection], Awaitable[object]]) -> AsyncIterator[str]:
    """The URL of a server whose connections run these scripts, one after the other; the last one again and again."""
    left = list(scripts)

    async def run(connection: ServerConnection) -> None:
        script = left.pop(0) if len(left) > 1 else left[0]
        await script(connection)

    async with serve(run, "127.0.0.1", free_port()) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def heard(connection: ServerConnection) -> Any:
    """The next message of the client."""
    return json.loads(await connection.recv())


async def until(condition: Callable[[], object]) -> None:
    """Wait for it, whatever it takes: the whole test has a time limit."""
    while not condition():
        await asyncio.sleep(0.001)


class InThread:
    """A loop in a thread of its own, for clients that block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def __enter__(self) -> InThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def serving_in_thread(app: Any, protocol: Any = WebSocketProtocol) -> Iterator[tuple[Served, InThread]]:
    """`in_thread.run(served.stop())` is how it goes away."""
    with InThread() as in_thread:
        served = Served(app, protocol)
        in_thread.run(served.start())
        try:
            yield served, in_thread
        finally:
            in_thread.run(served.stop())


def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.001)
