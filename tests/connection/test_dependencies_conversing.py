"""Dependencies of streams, and of handlers that run beside each other, over real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

import pytest
from websockets.asyncio.client import connect

from socketsundso import DefinitionError, Depends, Endpoint, EventError, event
from tests.rooms import serving as servers
from tests.rooms.serving import Client, run
from tests.server.serving import serving, until


@pytest.fixture(autouse=True, params=["websockets-sansio", servers.OURS], ids=["uvicorn's", "ours"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.param


log: list[Any] = []


@pytest.fixture(autouse=True)
def _anew() -> None:
    log.clear()
    App.go = asyncio.Event()


async def open_session(fail: bool = False) -> AsyncIterator[str]:
    log.append("begin")
    try:
        yield "session"
    except BaseException as exc:
        log.append(f"roll back {type(exc).__name__}")
        raise
    else:
        if fail:
            raise EventError("conflict")
        log.append("commit")


async def open_connection() -> AsyncIterator[str]:
    log.append("connected")
    yield "connection"
    log.append("disconnected")


Session = Annotated[str, Depends(open_session)]
Early = Annotated[str, Depends(open_session, scope="function")]


class App(Endpoint):
    acknowledge = True
    go: asyncio.Event  # what those that wait do so for

    @event
    async def on_count(self, to: int, session: Session) -> AsyncIterator[Any]:
        try:
            for n in range(to):
                if n == 3:
                    raise EventError("three")
                yield {"n": n, "session": session}
        finally:
            log.append("handler ends")

    @event
    async def on_endless(self, session: Session) -> AsyncIterator[Any]:
        yield {"n": 0}
        try:
            await self.go.wait()
        finally:
            await asyncio.sleep(0)
            log.append("handler ends")

    @event
    async def on_given(self, session: Session) -> AsyncIterator[Any]:
        class Two:
            def __init__(self) -> None:
                self.left = 2

            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> Any:
                self.left -= 1
                if self.left < 0:
                    raise StopAsyncIteration
                return {"n": self.left}

        return Two()

    @event
    async def on_limited(self, session: Session) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(0.01):
                while True:
                    yield {"text": "x" * 1000}
        except TimeoutError:
            log.append("limit")
        yield {"text": "after"}

    @event(concurrent=4)
    async def on_wait(self, session: Session, early: Annotated[str, Depends(open_connection)]) -> None:
        log.append("waiting")
        await self.go.wait()

    @event(timeout_s=0.05)
    async def on_slow(self, session: Early) -> Any:
        await self.go.wait()

    @event(serial_by="room")
    async def on_say(self, session: Early, room: str, fail: bool = False) -> Any:
        log.append(room)
        await asyncio.sleep(0)
        return {"room": room, "session": session}

    @event
    async def on_quiet(self, session: Early) -> None: ...

    @event
    async def on_go(self) -> None:
        self.go.set()


def talking(server: Any, main: Callable[[Client], Awaitable[None]], app: Any = App) -> None:
    async def talk() -> None:
        async with serving(app, ws=server) as served:
            async with connect(served.url, compression=None) as connection:
                await main(Client(connection))
            await served.idle()

    run(talk)


async def items(client: Client) -> list[Any]:
    """Until the end, with it."""
    found = [await client.receive()]
    while found[-1]["type"] not in ("complete", "error"):
        found.append(await client.receive())
    return found


def test_a_stream_has_its_dependencies_until_its_end(server: Any) -> None:
    """They are torn down behind the handler, and before its end is told (fastapi #14099 had it the other way)."""

    async def main(client: Client) -> None:
        await client.send("count", ref=1, to=2)
        told = {"type": "count", "session": "session", "ref": 1}
        assert await items(client) == [{**told, "n": 0}, {**told, "n": 1}, {"type": "complete", "ref": 1}]
        assert log == ["begin", "handler ends", "commit"]
        await client.send("given", ref=2)
        assert [each.get("n") for each in await items(client)] == [1, 0, None]
        assert log[3:] == ["begin", "commit"]

    talking(server, main)


def test_a_stream_that_fails_rolls_back(server: Any) -> None:
    """The end is the error; so it is where a teardown fails."""

    async def main(client: Client) -> None:
        await client.send("count", ref=1, to=5)
        assert [each.get("code") for each in await items(client)] == [None, None, None, "three"]
        assert log == ["begin", "handler ends", "roll back EventError"]
        await client.send("count", ref=2, to=1, fail=True)
        assert [each.get("code") for each in await items(client)] == [None, "conflict"]

    talking(server, main)


def test_a_stream_that_is_cancelled_rolls_back(server: Any) -> None:
    """The handler ends first; then its end is told."""

    async def main(client: Client) -> None:
        await client.send("endless", ref=1)
        await client.receive()
        await client.send("cancel", ref=1)
        assert await client.receive() == {"type": "complete", "ref": 1}
        assert log == ["begin", "handler ends", "roll back CancelledError"]

    talking(server, main)


def test_a_stream_whose_peer_leaves_rolls_back(server: Any) -> None:
    """Nothing stays open."""

    async def main(client: Client) -> None:
        await client.send("endless", ref=1)
        await client.receive()

    talking(server, main)
    assert log[:2] == ["begin", "handler ends"]
    assert log[2].startswith("roll back")


def test_what_is_thrown_in_at_an_item_reaches_the_handler(server: Any) -> None:
    """Its own time limit, say, which cancels whoever sends."""

    async def main(client: Client) -> None:
        await client.send("limited", ref=1)
        assert (await items(client))[-2:] == [
            {"type": "limited", "text": "after", "ref": 1},
            {"type": "complete", "ref": 1},
        ]
        assert log == ["begin", "limit", "commit"]

    talking(server, main)


def test_a_stream_that_is_not_async_is_refused() -> None:
    """It would be stepped in threads, between the steps of its dependencies."""
    with pytest.raises(DefinitionError, match="'x'.*async def"):

        class Bad(Endpoint):
            @event
            def on_x(self, session: Session) -> Iterator[Any]:
                yield {"n": 1}


def test_messages_at_once_have_their_own_values(server: Any) -> None:
    """FastAPI's solver closes one's in the other; here each has its own, and its own teardown."""

    async def main(client: Client) -> None:
        for ref in range(4):
            await client.send("wait", ref=ref)
        await until(lambda: log.count("waiting") == 4)
        assert log.count("begin") == log.count("connected") == 4
        await client.send("go")
        answers = await client.receives(4)
        assert sorted(answer["ref"] for answer in answers) == [0, 1, 2, 3]
        await until(lambda: log.count("commit") == 4)
        assert log.count("disconnected") == 4

    talking(server, main)


def test_a_request_that_is_stopped_rolls_back_and_is_answered(server: Any) -> None:
    """By its client, and by its limit; once."""

    async def main(client: Client) -> None:
        await client.send("wait", ref=1)
        await until(lambda: "waiting" in log)
        await client.send("cancel", ref=1)
        assert (await client.receive())["code"] == "cancelled"
        assert log[3:] == ["roll back CancelledError"]
        log.clear()
        assert (await client.call("slow"))["code"] == "timeout"
        assert log == ["begin", "roll back CancelledError"]

    talking(server, main)


def test_handlers_that_are_serial_by_a_key_have_dependencies(server: Any) -> None:
    """The key is a field of the message, also where a dependency stands before it."""

    async def main(client: Client) -> None:
        for ref, room in enumerate("aab"):
            await client.send("say", ref=ref, room=room)
        answers = sorted(await client.receives(3), key=lambda answer: int(answer["ref"]))
        assert [answer["room"] for answer in answers] == ["a", "a", "b"]
        await client.send("say", ref=3, room="a", fail=True)
        assert (await client.receive())["code"] == "conflict"

    talking(server, main)


def test_what_answers_nothing_is_acknowledged_once(server: Any) -> None:
    """Before what is torn down behind the reply, behind what is torn down before it."""

    async def main(client: Client) -> None:
        assert await client.call("quiet") == {"type": "quiet", "ref": "call"}
        assert (await client.call("quiet", fail=True))["code"] == "conflict"
        await client.send("quiet")
        assert await client.call("go") == {"type": "go", "ref": "call"}
        assert log == ["begin", "commit", "begin", "begin", "commit"]

    talking(server, main)
