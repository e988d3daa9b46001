"""What users of other servers have complained of about streams, cancels and concurrent requests, asked of this one."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from socketsundso import Endpoint, EventError, event
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


class Which(BaseModel):
    n: int


class Asking(Endpoint):
    calls = {Which: int}


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


def test_the_end_comes_behind_the_cleaning_up_of_cancelled_streams() -> None:
    """What they share, a pool say, is closed in `on_disconnect`: also of those cancelled before (strawberry #4319)."""
    log: list[Any] = []

    class App(Endpoint):
        @event
        async def on_flow(self, n: int) -> AsyncIterator[dict[str, int]]:
            try:
                yield {"n": n}
                await asyncio.Event().wait()
            finally:
                for _ in range(5):
                    await asyncio.sleep(0)
                log.append(n)

        async def on_disconnect(self, close_code: int) -> None:
            log.append("pool closed")

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for n in range(3):
                await client.send("flow", n=n, ref=n)
            await client.receives(3)
            await client.send("cancel", ref=0)
            await client.connection.close()
            await until(lambda: "pool closed" in log)
        assert sorted(log[:-1]) == [0, 1, 2]
        assert log[-1] == "pool closed"

    run(main)


def test_who_waits_for_its_client_keeps_nobody_else_waiting() -> None:
    """Other requests, streams and questions go on, and their answers are heard (dotnet/aspnetcore #42796, #45503)."""

    class App(Asking):
        @event
        async def on_serial(self) -> dict[str, int]:
            return {"n": await self.call(Which(n=0), returns=int)}

        @event(concurrent=True)
        async def on_beside(self) -> dict[str, int]:
            return {"n": await self.call(Which(n=1), returns=int)}

        @event
        async def on_flow(self) -> AsyncIterator[dict[str, int]]:
            yield {"n": await self.call(Which(n=2), returns=int)}

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for name in ("serial", "beside", "flow"):
                await client.send(name, ref=name)
            questions = {each["n"]: each["ref"] for each in await client.receives(3)}
            for n in (2, 1, 0):
                await client.send("reply", ref=questions[n], answer=n)
            answers = await client.receives(4)
            assert [each["ref"] for each in answers] == ["flow", "flow", "beside", "serial"]
            assert [each.get("n") for each in answers] == [2, None, 1, 0]

    run(main)


def test_a_stream_asks_before_it_begins_and_when_its_upload_is_whole() -> None:
    """Both directions and questions in one request (dotnet/aspnetcore #43552)."""

    class App(Asking):
        @event
        async def on_double(self, rows: AsyncIterator[int]) -> AsyncIterator[dict[str, int]]:
            factor = await self.call(Which(n=0), returns=int)
            async for row in rows:
                yield {"n": row * factor}
            yield {"n": await self.call(Which(n=1), returns=int)}

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("double", ref=1)
            await client.send("item", ref=1, item=3)
            await client.send("reply", ref=(await client.receive())["ref"], answer=5)
            assert await client.receive() == {"type": "double", "n": 15, "ref": 1}
            await client.send("complete", ref=1)
            await client.send("reply", ref=(await client.receive())["ref"], answer=7)
            assert [each.get("n") for each in await client.receives(2)] == [7, None]

    run(main)


def test_items_that_come_with_their_request_find_it() -> None:
    """In one segment, however much runs already (dotnet/aspnetcore #23535, whose items could be first)."""

    class App(Endpoint):
        disconnect_grace_s = 0.0

        @event
        async def on_sum(self, rows: AsyncIterator[int]) -> dict[str, int]:
            return {"sum": sum([row async for row in rows])}

        @event(concurrent=2)
        async def on_wait(self) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for _ in range(4):
                await client.send("wait")
            frames = [{"type": "sum"}, {"type": "item", "item": 1}, {"type": "item", "item": 2}, {"type": "complete"}]
            client.connection.transport.pause_reading()
            for ref in range(10):
                for frame in frames:
                    client.connection.protocol.send_text(json.dumps({**frame, "ref": ref}).encode())
            client.connection.transport.write(b"".join(client.connection.protocol.data_to_send()))
            client.connection.transport.resume_reading()
            sums = await client.receives(10)
            assert sorted((each["ref"], each["sum"]) for each in sums) == [(ref, 3) for ref in range(10)]

    run(main)


def test_an_answer_may_come_when_later_ones_have() -> None:
    """The work is done elsewhere, and its `ref` says whose answer it is (phoenix #1325)."""

    class App(Endpoint):
        @event(concurrent=True)
        async def on_work(self, job: str) -> dict[str, int]:
            return {"result": await self.result_of(job)}

        @event
        async def on_done(self, job: str, result: int) -> dict[str, str]:
            self.result_of(job).set_result(result)
            return {"done": job}

        def result_of(self, job: str) -> asyncio.Future[int]:
            return jobs.setdefault(job, asyncio.get_running_loop().create_future())

    jobs: dict[str, asyncio.Future[int]] = {}

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("work", job="a", ref=1)
            await client.send("work", job="b", ref=2)
            await client.send("done", job="b", result=20, ref=3)
            assert [each["ref"] for each in await client.receives(2)] == [3, 2]
            await client.send("done", job="a", result=10, ref=4)
            assert [each["ref"] for each in await client.receives(2)] == [4, 1]

    run(main)


def test_each_stream_has_an_end_of_its_own() -> None:
    """One that is over, and one that fails, are told from a lost connection, and end nothing else (trpc #6460)."""

    class App(Endpoint):
        @event
        async def on_flow(self, how: str) -> AsyncIterator[dict[str, str]]:
            yield {"how": how}
            if how == "fails":
                raise EventError("no_more")
            if how == "stays":
                await asyncio.Event().wait()

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for how in ("stays", "ends", "fails"):
                await client.send("flow", how=how, ref=how)
            ends = [each for each in await client.receives(5) if "how" not in each]
            assert [(each["ref"], each["type"], each.get("code")) for each in ends] == [
                ("ends", "complete", None), ("fails", "error", "no_more"),
            ]  # fmt: skip
            await client.send("cancel", ref="stays")
            assert await client.receive() == {"type": "complete", "ref": "stays"}

    run(main)


@pytest.mark.parametrize("kind", ["serial", "beside", "flow", "sum"])
def test_a_cancel_leaves_no_request_in_progress_whenever_it_comes(kind: str) -> None:
    """Before the first step, and after each of the next: there is one end, and the `ref` is free (pipecat #3661)."""

    class App(Endpoint):
        @event
        async def on_serial(self) -> dict[str, int]:
            return await work()

        @event(concurrent=True)
        async def on_beside(self) -> dict[str, int]:
            return await work()

        @event
        async def on_flow(self) -> AsyncIterator[dict[str, int]]:
            yield await work()

        @event
        async def on_sum(self, rows: AsyncIterator[int]) -> dict[str, int]:
            await work()
            return {"sum": sum([row async for row in rows])}

    async def work() -> dict[str, int]:
        for _ in range(3):
            await asyncio.sleep(0)
        return {"n": 1}

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for turns in range(12):
                await client.send(kind, ref=1)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await client.send("cancel", ref=1)
                await client.send("serial", ref=2)  # whose turn comes behind whatever there is of the other
                heard = [await client.receive()]
                while heard[-1]["ref"] != 2 or (kind == "sum" and len(heard) == 1):
                    heard.append(await client.receive())
                ends = [each for each in heard if each["ref"] == 1 and (kind != "flow" or each["type"] != "flow")]
                assert len(ends) == 1, (turns, heard)

    run(main)
