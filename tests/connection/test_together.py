"""`together`: nothing of others comes between what a block sends, and what waited comes behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from socketsundso import Endpoint, binary, event
from socketsundso.connection.outbound import Connection
from socketsundso.connection.queue import OutboundQueue, Outgoing
from socketsundso.testing import connect
from tests.rooms import serving
from tests.rooms.serving import WAIT_S, Client, run


class Slow:
    """A server whose `send` waits while the peer does not read."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.gone = False

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if self.gone:
            raise OSError
        self.written.append(message["text"])


def text(body: str) -> dict[str, str]:
    return {"type": "websocket.send", "text": body}


def push(body: str) -> Outgoing:
    return Outgoing(body.encode())


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


Scene = Callable[[Slow, Connection], Any]


def played(scene: Scene, max_bytes: int = 1 << 20) -> list[str]:
    """What was written, in order."""

    async def main() -> list[str]:
        server = Slow()
        slow: list[str] = []
        connection = Connection(server.send, OutboundQueue(max_bytes, "close"), lambda: slow.append("closed"))
        await scene(server, connection)
        await turns()
        return server.written + slow

    return asyncio.run(main())


def test_what_others_send_and_push_comes_behind_the_block_in_order() -> None:
    """Whoever began while it was open."""

    async def scene(server: Slow, connection: Connection) -> None:
        async with connection.together():
            await connection.send(text("head"))
            connection.push(push("p1"))
            other = OTHERS(connection.send(text("s2")))
            await turns()
            connection.push(push("p3"))
            await connection.send(text("tail"))
            assert not other.done()
        await other

    assert played(scene) == ["head", "tail", "p1", "s2", "p3"]


def OTHERS(call: Any) -> asyncio.Task[Any]:
    """A task of somebody else's: it has nothing of the context of who starts it."""
    import contextvars

    return asyncio.get_running_loop().create_task(call, context=contextvars.Context())
