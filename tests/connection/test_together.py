"""`together`: nothing of others comes between what a block sends, and what waited comes behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.websockets import WebSocketDisconnect

from socketsundso import Endpoint, event
from socketsundso.connection.outbound import Connection
from socketsundso.connection.queue import OutboundQueue, Outgoing
from socketsundso.testing import connect
from tests.rooms import serving
from tests.rooms.serving import WAIT_S, Client, run


class Server:
    """Its `send` waits while the peer does not read."""

    wire: Any = None

    def __init__(self) -> None:
        self.written: list[str] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.gone = False

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if self.gone:
            raise OSError("nobody")
        self.written.append(message["text"])


class UvicornsOwn(Server):
    """As far as can be told: it is written to at once, without a task."""

    __module__ = "uvicorn.protocols.websockets.example"


class Ours(Server):
    """Takes ready frames, and waits as our own server does: in the order of the calls."""

    @property
    def wire(self) -> Any:
        return self

    def frame(self, payload: bytes, *, binary: bool = False) -> bytes:
        return payload

    def write(self, payload: bytes) -> bool:
        return self.offer(payload)

    def push(self, frame: bytes) -> bool:
        self.written.append(frame.decode())
        return True

    def offer(self, frame: bytes) -> bool:
        return self.reads.is_set() and self.push(frame)

    @property
    def buffered(self) -> int:
        return 0 if self.reads.is_set() else 1 << 20

    async def drain(self) -> None:
        while not self.reads.is_set():
            await self.reads.wait()

    async def send(self, message: Any) -> None:
        await self.drain()
        self.written.append(message["text"])


def text(body: str) -> dict[str, str]:
    return {"type": "websocket.send", "text": body}


def push(body: str) -> Outgoing:
    return Outgoing(body.encode())


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def elsewhere(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task of somebody else's, with nothing of the context of who starts it."""
    return asyncio.get_running_loop().create_task(call, context=Context())


Scene = Callable[[Server, Connection], Coroutine[Any, Any, None]]


def played(scene: Scene, max_bytes: int = 1 << 20, kind: type[Server] = Server) -> list[str]:
    """What was written, in order; and that the peer was found too slow."""

    async def main() -> list[str]:
        server = kind()
        connection = Connection(
            server.send, OutboundQueue(max_bytes, "close"), lambda: server.written.append("too slow"), server.wire
        )
        await scene(server, connection)
        await turns()
        return server.written

    return asyncio.run(main())


async def block(connection: Connection, *bodies: str) -> None:
    async with connection.together():
        for body in bodies:
            await connection.send(text(body))
            await turns()


async def say(connection: Connection, body: str) -> None:
    await connection.send(text(body))


def test_what_others_send_and_push_comes_behind_the_block_in_order() -> None:
    """Whoever began while it was open; then nothing waits any more."""

    async def scene(server: Server, connection: Connection) -> None:
        async with connection.together():
            await say(connection, "head")
            connection.push(push("1"))
            other = elsewhere(say(connection, "2"))
            await turns()
            connection.push(push("3"))
            await say(connection, "tail")
            assert not other.done()
        await other
        await turns()
        assert not connection.busy
        connection.push(push("4"))

    assert played(scene) == ["head", "tail", "1", "2", "3", "4"]


def test_blocks_come_one_after_the_other() -> None:
    """In the order in which they were to begin, with what was pushed between."""

    async def scene(server: Server, connection: Connection) -> None:
        first = elsewhere(block(connection, "a1", "a2"))
        await asyncio.sleep(0)
        second = elsewhere(block(connection, "b1", "b2"))
        await asyncio.sleep(0)
        connection.push(push("p"))
        third = elsewhere(block(connection, "c1", "c2"))
        await asyncio.gather(first, second, third)

    assert played(scene) == ["a1", "a2", "b1", "b2", "p", "c1", "c2"]


def test_a_block_within_a_block_and_tasks_of_it_are_a_part_of_it() -> None:
    """A task that outlives it is somebody else again."""

    async def outlives(over: asyncio.Event, connection: Connection) -> None:
        await over.wait()
        await block(connection, "late")

    async def scene(server: Server, connection: Connection) -> None:
        over = asyncio.Event()
        async with connection.together():
            async with connection.together():
                await say(connection, "inner")
            connection.push(push("other"))
            late = asyncio.create_task(outlives(over, connection))
            await asyncio.wait_for(say(connection, "task"), 1)
        over.set()
        async with connection.together():
            await say(connection, "next")
            await asyncio.gather(say(connection, "child"), say(connection, "child"))
        await late

    assert played(scene)[:3] == ["inner", "task", "other"]
    assert sorted(played(scene)[3:]) == ["child", "child", "late", "next"]


def test_the_blocks_of_two_connections_may_be_within_each_other() -> None:
    """Each is its own."""

    async def scene(server: Server, connection: Connection) -> None:
        other = Connection(server.send, OutboundQueue(1 << 20, "close"), lambda: None)
        async with connection.together(), other.together():
            await say(connection, "one")
            await say(other, "two")
            await say(connection, "three")

    assert played(scene) == ["one", "two", "three"]


def test_a_block_begins_behind_what_waits_for_a_slow_peer() -> None:
    """And what it sends waits for the peer, too."""

    async def scene(server: Server, connection: Connection) -> None:
        server.reads.clear()
        connection.push(push("before"))
        mine = elsewhere(block(connection, "head", "tail"))
        await turns()
        connection.push(push("behind"))
        assert server.written == []
        server.reads.set()
        await mine

    assert played(scene) == ["before", "head", "tail", "behind"]


@pytest.mark.parametrize("turns_before", range(4))
def test_one_that_is_cancelled_while_it_waits_holds_up_nobody(turns_before: int) -> None:
    """Also where its turn has come in that moment."""

    async def silent(connection: Connection) -> None:
        async with connection.together():
            await asyncio.Event().wait()

    async def scene(server: Server, connection: Connection) -> None:
        server.reads.clear()
        connection.push(push("before"))
        waits = elsewhere(silent(connection))
        await turns()
        connection.push(push("behind"))
        server.reads.set()
        for _ in range(turns_before):
            await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait({waits})
        await turns()
        connection.push(push("later"))

    assert played(scene) == ["before", "behind", "later"]


@pytest.mark.parametrize("error", [asyncio.CancelledError, ValueError])
def test_one_that_fails_or_is_cancelled_within_lets_the_others_go_on(error: type[BaseException]) -> None:
    """What it has sent by then has gone out."""

    async def scene(server: Server, connection: Connection) -> None:
        with contextlib.suppress(error):
            async with connection.together():
                await say(connection, "head")
                connection.push(push("p"))
                raise error
        await say(connection, "last")

    assert played(scene) == ["head", "p", "last"]


def test_what_waits_counts_for_the_bound() -> None:
    """A block that takes too long for what is pushed meanwhile is what a slow peer is."""

    async def scene(server: Server, connection: Connection) -> None:
        async with connection.together():
            await say(connection, "head")
            for _ in range(3):
                connection.push(push("x" * 50))
            await turns()
            assert connection.closed

    assert played(scene, max_bytes=100) == ["head", "too slow"]


def test_who_waits_for_a_peer_that_is_gone_goes_on() -> None:
    """What is sent within says so."""

    async def scene(server: Server, connection: Connection) -> None:
        server.reads.clear()
        connection.push(push("before"))
        waits = elsewhere(block(connection, "never"))
        await turns()
        server.gone = True
        server.reads.set()
        with pytest.raises(OSError, match="nobody"):
            await waits

    assert played(scene) == []


STEPS = ("push", "send", "block", "cancel", "stop reading", "read", "turn")


@given(st.lists(st.sampled_from(STEPS), max_size=40), st.sampled_from([Server, UvicornsOwn, Ours]))
def test_whatever_happens_blocks_are_whole_and_nothing_is_missing(steps: list[str], kind: type[Server]) -> None:
    """Pushes, sends and blocks in any order, of a peer that reads now and then, some of them cancelled."""
    tasks: list[asyncio.Task[Any]] = []
    cancelled: set[int] = set()

    async def scene(server: Server, connection: Connection) -> None:
        for number, step in enumerate(steps):
            if step == "push":
                connection.push(push(f"p {number}"))
            elif step == "send":
                tasks.append(elsewhere(say(connection, f"s {number}")))
            elif step == "block":
                tasks.append(elsewhere(block(connection, *(f"{part} {number}" for part in "abc"))))
                tasks[-1].set_name(str(number))
            elif step == "cancel" and tasks and not tasks[-1].done():
                tasks[-1].cancel()
                if tasks[-1].get_name().isdigit():
                    cancelled.add(int(tasks[-1].get_name()))
                tasks.pop()
            elif step in ("read", "stop reading"):
                (server.reads.set if step == "read" else server.reads.clear)()
            elif step == "turn":
                await asyncio.sleep(0)
        server.reads.set()
        if tasks:
            await asyncio.wait(tasks)
        await turns()
        assert not connection.busy

    written = [(each[0], int(each[2:])) for each in played(scene, kind=kind)]
    pushes = [number for kind, number in written if kind == "p"]
    assert pushes == [number for number, step in enumerate(steps) if step == "push"]
    assert len(set(written)) == len(written)
    for place, (kind, number) in enumerate(written):
        if kind in "bc":
            assert written[place - 1] == (chr(ord(kind) - 1), number)
    ended = {number for kind, number in written if kind == "c"}
    assert ended | cancelled >= {number for number, step in enumerate(steps) if step == "block"}


# ---- endpoints


PAD = "x" * 30_000  # more than sockets hold, all of them together


class Speaks(Endpoint):
    max_concurrent = 4
    max_outbound_bytes = 1 << 24

    @event
    async def on_enter(self) -> dict[str, Any]:
        await self.join("r")
        return {"type": "entered"}

    @event(concurrent=True)
    async def on_say(self, parts: int) -> dict[str, Any]:
        for number in range(parts):
            async with self.together():
                await self.send({"type": "head", "n": number, "pad": PAD})
                await asyncio.sleep(0)
                await self.send_bytes(b"%d" % number)
        return {"parts": parts}

    @event
    async def on_count(self, to: int) -> AsyncIterator[dict[str, Any]]:
        for number in range(to):
            yield {"n": number, "pad": PAD}
            await asyncio.sleep(0)

    @event(concurrent=True)
    async def on_chatter(self, times: int) -> dict[str, Any]:
        for number in range(times):
            await self.broadcast({"type": "chatter", "n": number}, room="r")
            await self.broadcast(b"noise", room="r")
            await asyncio.sleep(0)
        return {"times": times}


async def received(client: Client) -> Any:
    async with asyncio.timeout(WAIT_S):
        frame = await client.connection.recv()
    return frame if isinstance(frame, bytes) else json.loads(frame)


def is_last(came: Any) -> bool:
    """Is it the end of an answer?"""
    return isinstance(came, dict) and "ref" in came and came["type"] in ("say", "chatter", "complete")


@pytest.mark.parametrize("protocol", ["websockets-sansio", serving.OURS], ids=["uvicorn", "ours"])
@pytest.mark.parametrize("is_in_a_room", [False, True])
def test_replies_items_broadcasts_and_other_blocks_come_before_or_behind(
    protocol: str, is_in_a_room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once to one client, which reads late: behind each head come its bytes, and nothing is missing."""
    monkeypatch.setattr(serving, "protocol", protocol)
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", f"memory://together-{protocol}-{is_in_a_room}")
    parts = 30

    async def main() -> None:
        async with serving.serving(Speaks) as client:
            one, other = await client(max_queue=1), await client()
            if is_in_a_room:
                await one.call("enter")
            one.stop_reading()
            await one.send("say", ref=1, parts=parts)
            await one.send("count", ref=2, to=parts)
            await one.send("say", ref=3, parts=parts)
            await one.send("chatter", ref=4, times=parts)
            await other.call("chatter", times=parts)
            one.read_again()
            came: list[Any] = []
            while sum(map(is_last, came)) < 4:
                came.append(await received(one))
            heads = [index for index, each in enumerate(came) if isinstance(each, dict) and each["type"] == "head"]
            assert len(heads) == 2 * parts
            for index in heads:
                assert came[index + 1] == b"%d" % came[index]["n"]
            assert sum(each.get("ref") == 2 for each in came if isinstance(each, dict)) == parts + 1

    run(main)


def test_an_endpoint_that_enters_a_room_later_goes_on_with_its_queue() -> None:
    """Also within a block: what the room pushes comes behind it."""

    class Late(Endpoint):
        @event
        async def on_enter(self) -> dict[str, Any]:
            async with self.together():
                await self.send({"type": "head"})
                await self.join("late")
                await self.broadcast({"type": "own"}, room="late")
                await self.send_bytes(b"tail")
            return {"type": "entered"}

    with connect(Late) as ws:
        ws.send("enter")
        assert ws.receive() == {"type": "head"}
        assert ws.receive_bytes() == b"tail"
        assert ws.receive() == {"type": "own"}
        assert ws.receive() == {"type": "entered"}


def test_a_thread_has_blocks_of_its_own() -> None:
    """With `self.sync`, one within another too; what the loop sends meanwhile comes behind them."""

    class Threads(Endpoint):
        @event
        def on_go(self) -> dict[str, Any]:
            with contextlib.suppress(ValueError), self.sync.together():
                self.sync.send({"type": "head"})
                asyncio.run_coroutine_threadsafe(self.in_the_loop(), self._peer.loop)  # type: ignore[arg-type]
                with self.sync.together():
                    self.sync.send({"type": "more"})
                self.sync.send_bytes(b"tail")
                raise ValueError
            with pytest.raises(RuntimeError, match=r"call `self.sync.together\(...\)`"):
                self.together()
            self.sync.send({"type": "after"})
            return {"type": "done"}

        async def in_the_loop(self) -> None:
            Context().run(asyncio.ensure_future, self.send({"type": "other"}))

    with connect(Threads) as ws:
        ws.send("go")
        assert [ws.receive()["type"], ws.receive()["type"], ws.receive_bytes()] == ["head", "more", b"tail"]
        assert [ws.receive()["type"] for _ in range(3)] == ["other", "after", "done"]


def test_nobody_begins_a_block_for_a_peer_that_is_gone() -> None:
    """It raises as `send` does."""
    raised: list[int] = []

    class Leaves(Endpoint):
        async def on_disconnect(self, close_code: int) -> None:
            try:
                async with self.together():
                    raise AssertionError
            except WebSocketDisconnect as exc:
                raised.append(exc.code)

    with connect(Leaves):
        pass
    assert raised == [1000]


def test_a_close_within_a_block_is_behind_what_was_sent_before() -> None:
    """And ends it: nothing more is sent."""

    class Closes(Endpoint):
        @event
        async def on_go(self) -> None:
            async with self.together():
                await self.send({"type": "head"})
                await self.close(4000)
                await self.send_bytes(b"never")

    with connect(Closes) as ws:
        ws.send("go")
        assert ws.receive() == {"type": "head"}
        ws.expect_close(4000)
        ws.silent(0)
