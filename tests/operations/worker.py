"""A worker in the test's event loop, and clients that can say anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from socketsundso.operations import Server, Settings
from socketsundso.server import WebSocketProtocol
from tests.server.serving import Peer, Served, masked, until

TEXT = 1


class Worker(Server):
    """The test's process keeps its own signal handlers: the test calls `handle_exit` itself."""

    capture_signals = contextlib.nullcontext  # type: ignore[assignment]

    @property
    def is_draining(self) -> bool:
        return self._front is not None and self._front.draining

    @property
    def is_refusing(self) -> bool:
        return self._front is not None and self._front.refusing


class Working(Served):
    """A worker that serves."""

    server: Worker

    async def ends(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """Return when the signal has been heard."""
        self.server.handle_exit(sig, None)
        await until(lambda: self.server.is_draining)


@contextlib.asynccontextmanager
async def working(
    app: Any, *, settings: dict[str, Any] | None = None, watch: Any = None, **options: Any
) -> AsyncIterator[Working]:
    """Serve `app` with the command's settings, where a drain takes so long that no test sees its end by itself."""
    defaults = {"ws": WebSocketProtocol, "log_config": None, "lifespan": "off", "port": 0}
    config = uvicorn.Config(app, **defaults | {"timeout_graceful_shutdown": 0} | options)
    worker = Worker(config, Settings(**{"drain_s": 600.0, **(settings or {})}), watch)
    task = asyncio.create_task(worker.serve())
    await until(lambda: worker.started or task.done())
    try:
        yield Working(worker, worker.servers[0].sockets[0].getsockname()[1])
    finally:
        worker.handle_exit(signal.SIGINT, None)
        await task


def say(peer: Peer, type_: str, **fields: Any) -> None:
    peer.say(masked(TEXT, json.dumps({"type": type_, **fields}).encode()))


async def hear(peer: Peer) -> Any:
    return json.loads(await peer.text())


GET = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def ask(peer: Peer, path: str = "/") -> tuple[int, str]:
    """Status and body of the answer to a GET on a connection that may live on."""
    peer.say(GET % path.encode())
    status = await peer.response()
    body = await peer.reader.readexactly(int(peer.headers["content-length"]))
    return status, body.decode()
