"""
Pushes through ASGI's `send`, where no wire is offered: written without a task where the server's own `send` needs no
waiting, in order and bounded where it does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from socketsundso import Endpoint, event
from socketsundso.connection.outbound import Connection, OutboundQueue, Outgoing
from socketsundso.wire import sends_plainly
from tests.server.serving import run

from . import serving


class UvicornsOwn:
    """As uvicorn's protocols: `send` waits while the peer does not read, and raises when it is gone."""

    __module__ = "uvicorn.protocols.websockets.example"

    def __init__(self) -> None:
        self.written: list[int] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.gone = False
        self.tasks: set[Any] = set()

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if self.gone:
            raise OSError
        self.tasks.add(asyncio.current_task())
        self.written.append(json.loads(message["text"])["n"])


def outgoing(number: int) -> Outgoing:
    return Outgoing(json.dumps({"type": "m", "n": number}).encode())


def connected(server: UvicornsOwn, send: Callable[..., Any] | None = None) -> Connection:
    return Connection(send or server.send, OutboundQueue(1 << 20, "close"), lambda: None)


async def rest() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_needs_no_waiting_is_written_at_once_and_in_the_callers_task() -> None:
    """Nothing is left to do when `push` returns."""

    async def main() -> None:
        server = UvicornsOwn()
        connection = connected(server)
        for number in range(3):
            connection.push(outgoing(number))
            assert server.written == list(range(number + 1))
        assert not connection.busy
        assert server.tasks == {asyncio.current_task()}

    run(main())


def test_what_has_to_wait_goes_on_in_a_task_and_everything_else_behind_it() -> None:
    """Pushes and sends keep the order of their calls; afterwards pushes are written at once again."""

    async def main() -> None:
        server = UvicornsOwn()
        connection = connected(server)
        connection.push(outgoing(0))
        server.reads.clear()
        connection.push(outgoing(1))
        connection.push(outgoing(2))
        assert connection.busy
        sending = asyncio.ensure_future(connection.send({"type": "websocket.send", "text": '{"n":3}'}))
        await rest()
        connection.push(outgoing(4))
        await rest()
        assert server.written == [0]
        server.reads.set()
        await sending
        await rest()
        assert server.written == [0, 1, 2, 3, 4]
        assert not connection.busy
        connection.push(outgoing(5))
        assert server.written[-1] == 5

    run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_a_peer_that_is_gone_ends_it(waits: bool) -> None:
    """Whether that is seen at once or after a wait; nothing raises, and nothing is written any more."""

    async def main() -> None:
        server = UvicornsOwn()
        connection = connected(server)
        server.gone = True
        if waits:
            server.reads.clear()
        connection.push(outgoing(0))
        server.reads.set()
        await rest()
        assert connection.closed
        server.gone = False
        connection.push(outgoing(1))
        await rest()
        assert server.written == []

    run(main())


def test_closing_ends_a_write_that_waits() -> None:
    """Its coroutine is told: what a server does in `finally` is done."""

    async def main() -> None:
        server, ended = UvicornsOwn(), []

        async def send(message: Any) -> None:
            try:
                await UvicornsOwn.send(server, message)
            finally:
                ended.append(True)

        class Other(UvicornsOwn):
            __module__ = UvicornsOwn.__module__

            async def send(self, message: Any) -> None:
                await send(message)

        connection = connected(server, Other().send)
        server.reads.clear()
        connection.push(outgoing(0))
        await rest()
        connection.close()
        await rest()
        assert (ended, server.written) == ([True], [])

    run(main())


def test_a_send_that_several_steps_wait_in_gets_what_it_waits_for() -> None:
    """Results and exceptions of futures reach the coroutine as if one task had run all of it."""

    async def main() -> None:
        loop, got = asyncio.get_running_loop(), []
        first, second, third = loop.create_future(), loop.create_future(), loop.create_future()

        class Waiting(UvicornsOwn):
            __module__ = UvicornsOwn.__module__

            async def send(self, message: Any) -> None:
                got.append(await first)
                try:
                    await second
                except ZeroDivisionError:
                    got.append("caught")
                await asyncio.sleep(0)
                got.append(await third)

        connection = connected(Waiting())
        connection.push(outgoing(0))
        await rest()
        first.set_result(1)
        await rest()
        second.set_exception(ZeroDivisionError())
        await rest()
        third.set_result(3)
        await rest()
        assert got == [1, "caught", 3]
        assert not connection.busy

    run(main())


def test_only_a_servers_own_send_is_begun_in_another_task() -> None:
    """A middleware may have a timeout or a cancel scope around `send`, which belong to one task."""

    async def main() -> None:
        server = UvicornsOwn()

        async def middleware(message: Any) -> None:
            async with asyncio.timeout(5):
                await server.send(message)

        assert sends_plainly(server.send)
        assert not sends_plainly(middleware)
        connection = connected(server, middleware)
        connection.push(outgoing(0))
        assert connection.busy
        assert server.written == []
        await rest()
        assert server.written == [0]
        assert asyncio.current_task() not in server.tasks

    run(main())


class Wall(Endpoint):
    connections: set[Connection] = set()

    async def on_connect(self) -> None:
        await super().on_connect()
        await self.join("r")
        assert self._membership.participant is not None
        self.connections.add(self._membership.participant.connection)

    @event
    async def on_say(self, n: int) -> dict[str, Any]:
        await self.broadcast({"type": "said", "n": n}, room="r")
        assert not any(connection.busy for connection in self.connections), "a task was started"
        return {"n": n}


@pytest.mark.parametrize("protocol", ["websockets-sansio", "wsproto"])
def test_uvicorns_protocols_write_a_broadcast_without_tasks(
    protocol: str, backplane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in order: the broadcast before the reply."""
    monkeypatch.setattr(serving, "protocol", protocol)

    async def main() -> None:
        Wall.connections = set()
        async with serving.serving(Wall) as connect:
            clients = [await connect() for _ in range(3)]
            for number in range(20):
                await clients[0].send("say", n=number)
                assert await clients[0].receives(2) == [{"type": "said", "n": number}, {"type": "say", "n": number}]
            for client in clients[1:]:
                assert await client.receives(20) == [{"type": "said", "n": number} for number in range(20)]

    run(main())
