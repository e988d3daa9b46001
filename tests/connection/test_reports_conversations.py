"""What users of other servers have complained of about streams, cancels and concurrent requests, asked of this one."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from socketsundso import Endpoint, event
from tests.rooms import serving as servers
from tests.rooms.serving import WAIT_S, run, serving

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(params=["websockets-sansio", servers.OURS], ids=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "protocol", request.param)


async def until(condition: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.002)


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("how", ["close", "abort"])
def test_leaving_amid_items_is_no_error(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """`finally` runs, and nothing is logged (strawberry #889, #2125; trpc #5917; nest #1524)."""
    log: list[Any] = []

    class App(Endpoint):
        @event
        async def on_flow(self) -> AsyncIterator[dict[str, int]]:
            try:
                while True:
                    yield {"n": 1}
                    await asyncio.sleep(0)
            finally:
                log.append("finally")

        async def on_disconnect(self, close_code: int) -> None:
            log.append("left")

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for ref in range(5):
                await client.send("flow", ref=ref)
            await client.receives(20)
            if how == "close":
                closing = asyncio.create_task(client.connection.close())
                async for _ in client.connection:  # one that does not read waits for its time to be over
                    pass
                await closing
            else:
                client.connection.transport.abort()
            await until(lambda: "left" in log)
        assert log == ["finally"] * 5 + ["left"]

    run(main)
    gc.collect()
    assert complaints(caplog) == []


def test_streams_that_were_cancelled_leave_nothing_behind() -> None:
    """No task, no record: as many as there were before (trpc #7400; dotnet/aspnetcore #46861)."""
    kept: list[weakref.ref[Any]] = []

    class App(Endpoint):
        async def on_connect(self) -> None:
            kept.append(weakref.ref(self))
            await super().on_connect()

        @event
        async def on_flow(self) -> AsyncIterator[dict[str, int]]:
            while True:
                yield {"n": 1}
                await asyncio.sleep(0)

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            before = len(asyncio.all_tasks())
            for ref in range(200):
                await client.send("flow", ref=ref)
                await client.send("cancel", ref=ref)
                while (await client.receive())["type"] != "complete":
                    pass
            await until(lambda: len(asyncio.all_tasks()) == before)
            loop = kept[0]()._loop
            assert (loop._active, loop._running, loop._tasks, loop._streams) == ({}, {}, {}, 0)

    run(main)


def test_no_item_comes_behind_the_end() -> None:
    """However fast they flow when the cancel comes (dotnet/aspnetcore #46861; graphql-ws #65)."""

    class App(Endpoint):
        max_streams = 100

        @event
        async def on_flow(self) -> AsyncIterator[dict[str, int]]:
            while True:
                yield {"n": 1}
                await asyncio.sleep(0)

        @event
        async def on_ping(self) -> dict[str, int]:
            return {}

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for ref in range(50):
                await client.send("flow", ref=ref)
            await client.receives(100)
            for ref in range(50):
                await client.send("cancel", ref=ref)
            await client.send("ping", ref="last")
            ended: set[Any] = set()
            while len(ended) < 51:
                message = await client.receive()
                assert message["ref"] not in ended
                if message["type"] != "flow":
                    ended.add(message["ref"])

    run(main)


def test_a_cancelled_request_is_answered() -> None:
    """A client that waits for the answer to what it cancelled does not wait for ever (ocaml-lsp #1935)."""

    class App(Endpoint):
        @event(concurrent=True)
        async def on_ask(self) -> dict[str, int]:
            await asyncio.Event().wait()
            return {}

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for ref in range(70):  # those that run and those that wait for it
                await client.send("ask", ref=ref)
            for ref in range(70):
                await client.send("cancel", ref=ref)
            answers = await client.receives(70)
            assert sorted(each["ref"] for each in answers) == list(range(70))
            assert {each["code"] for each in answers} == {"cancelled"}

    run(main)


def test_a_handler_may_start_another_of_the_same_connection() -> None:
    """One that waits for what a later message brings, if that may run beside it."""

    class App(Endpoint):
        came: asyncio.Event

        async def on_connect(self) -> None:
            self.came = asyncio.Event()
            await super().on_connect()

        @event(concurrent=True)
        async def on_wait(self) -> dict[str, int]:
            await self.came.wait()
            return {}

        @event
        async def on_come(self) -> None:
            self.came.set()

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("wait", ref=1)
            await client.send("come")
            assert await client.receive() == {"type": "wait", "ref": 1}

    run(main)


def test_a_blocking_generator_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """One in a worker thread, whose client leaves while it blocks, is closed after its step."""
    log: list[Any] = []

    class App(Endpoint):
        @event
        def on_rows(self) -> Iterator[dict[str, int]]:
            try:
                while True:
                    time.sleep(0.05)
                    yield {"n": 1}
            finally:
                log.append("finally")

        async def on_disconnect(self, close_code: int) -> None:
            log.append("left")

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("rows", ref=1)
            await client.receive()
            await client.connection.close()
            await until(lambda: "left" in log)
        assert log == ["finally", "left"]

    run(main)
    assert complaints(caplog) == []
