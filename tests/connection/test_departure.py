"""A peer leaves while its message is handled: who hears of it, how long the handler may go on, and what follows."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from socketsundso import Endpoint, JsonRpc, event
from tests.harness import Peer
from tests.rooms import serving as servers
from tests.rooms.serving import WAIT_S, run, serving
from tests.server.serving import serving as stopping


class Waiting(Endpoint):
    """Its handlers wait for `release`; what happens to them is in `log`."""

    log: list[Any]
    started: asyncio.Event
    ended: asyncio.Event
    release: asyncio.Event

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.log = []
        cls.started, cls.ended, cls.release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @event
    async def on_wait(self) -> dict[str, bool]:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        self.log.append("finished")
        return {"done": True}

    async def on_disconnect(self, close_code: int) -> None:
        self.log.append(close_code)
        self.ended.set()


@pytest.fixture(params=[servers.OURS, "websockets-sansio", "wsproto"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Our own protocol, which tells of a disconnect at once, and uvicorn's, which have to be asked."""
    monkeypatch.setattr(servers, "protocol", request.param)
    return request.param


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(WAIT_S):
        await event.wait()


@pytest.mark.usefixtures("server")
def test_a_handler_that_never_ends_is_cancelled() -> None:
    """After `disconnect_grace_s`; `on_disconnect` gets the peer's code."""

    class App(Waiting):
        disconnect_grace_s = 0.01

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("wait")
            await soon(App.started)
            await client.connection.close(4321)
            await soon(App.ended)
            assert App.log == ["cancelled", 4321]

    run(main)


@pytest.mark.usefixtures("server")
def test_a_handler_may_finish_within_the_grace() -> None:
    """It is not cancelled, and `on_disconnect` follows it."""

    class App(Waiting):
        @event
        async def on_hear(self) -> None:
            self.started.set()
            await self.gone
            self.log.append("heard")
            self.release.set()
            await Waiting.on_wait(self)

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("hear")
            await soon(App.started)
            await client.connection.close(4321)
            await soon(App.ended)
            assert App.log == ["heard", "finished", 4321]

    run(main)


@pytest.mark.usefixtures("server")
def test_messages_behind_a_waiting_handler_hide_no_departure() -> None:
    """What the peer sent before it left is handled within the same grace, in order."""

    class App(Waiting):
        @event
        async def on_hear(self) -> None:
            self.started.set()
            await self.gone
            self.log.append("heard")

        @event
        async def on_next(self, n: int) -> None:
            self.log.append(n)

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("hear")
            for n in range(3):
                await client.send("next", n=n)
            await soon(App.started)
            await client.connection.close(4321)
            await soon(App.ended)
            assert App.log == ["heard", 0, 1, 2, 4321]

    run(main)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("acknowledge", [False, True], ids=["serial", "conversing"])
def test_a_batch_may_finish_within_the_grace(acknowledge: bool) -> None:
    """All of its handlers; `on_disconnect` gets the peer's code."""

    app: Any = type("App", (Waiting,), {"envelope": JsonRpc(), "acknowledge": acknowledge})

    async def main() -> None:
        async with serving(app) as connect:
            client = await connect()
            waiting = {"jsonrpc": "2.0", "id": 1, "method": "wait"}
            await client.connection.send(json.dumps([waiting, waiting]))
            await soon(app.started)
            await client.connection.close(4321)
            app.release.set()
            await soon(app.ended)
            assert app.log == ["finished", "finished", 4321]

    run(main)


@pytest.mark.usefixtures("server")
def test_what_came_behind_is_not_handled_once_the_grace_is_over() -> None:
    """A handler that was cut is the last one."""

    class App(Waiting):
        disconnect_grace_s = 0.01

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            for _ in range(3):
                await client.send("wait")
            await soon(App.started)
            await client.connection.close(4321)
            await soon(App.ended)
            assert App.log == ["cancelled", 4321]

    run(main)


@pytest.mark.usefixtures("server")
def test_messages_read_ahead_are_handled_in_order() -> None:
    """The next handlers get all of them, once the one before is done."""

    class App(Waiting):
        @event
        async def on_echo(self, n: int) -> dict[str, int]:
            await asyncio.sleep(0)
            return {"n": n}

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("wait")
            for n in range(200):
                await client.send("echo", n=n)
            await asyncio.sleep(0.15)  # other servers are asked only then
            App.release.set()
            assert await client.receive() == {"type": "wait", "done": True}
            assert [each["n"] for each in await client.receives(200)] == list(range(200))
            await client.send("echo", n=200)
            assert (await client.receive())["n"] == 200

    run(main)


def test_at_shutdown_handlers_are_cancelled_at_once(server: str) -> None:
    """However long the grace is; `on_disconnect(1012)` follows."""

    class App(Waiting):
        disconnect_grace_s = 1000

    async def main() -> None:
        async with stopping(App, ws=server, timeout_graceful_shutdown=30) as served, connect(served.url) as client:
            await client.send('{"type":"wait"}')
            await soon(App.started)
            served.server.stop()
            await soon(App.ended)
        assert App.log == ["cancelled", 1012]

    run(main)


def test_a_handler_that_swallows_its_cancellation_is_the_last_one() -> None:
    """It ends as it likes; nothing is handled after it, and no cancellation is left over."""

    class App(Waiting):
        disconnect_grace_s = 0.01

        @event
        async def on_stubborn(self) -> None:
            self.started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.log.append("swallowed")

        async def on_disconnect(self, close_code: int) -> None:
            task = asyncio.current_task()
            assert task is not None
            self.log.append(task.cancelling())
            await super().on_disconnect(close_code)

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("stubborn")
            await client.send("wait")
            await soon(App.started)
            await client.connection.close(4321)
            await soon(App.ended)
            assert App.log == ["swallowed", 0, 4321]

    run(main)


def test_a_cancellation_by_the_server_counts_during_the_grace() -> None:
    """It goes on as it came: `on_disconnect(1012)`, and CancelledError for the server."""

    class App(Waiting):
        pass

    async def main() -> None:
        peer = Peer(App, [{"type": "wait"}], code=4000)
        task = asyncio.ensure_future(peer.run())
        await soon(App.started)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert App.log == ["cancelled", 1012]

    run(main)


def test_a_handler_may_still_receive_by_itself_what_was_read_ahead() -> None:
    """On a server that has to be asked, messages come in order whoever receives them."""

    class App(Endpoint):
        @event
        async def on_raw(self) -> dict[str, list[str]]:
            assert self.gone  # who asks for it lets it be watched for
            await until_idle()
            return {"got": [await self.websocket.receive_text() for _ in range(3)]}

    async def until_idle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def main() -> None:
        peer = await Peer(App, [{"type": "raw"}, "a", "b", "c", {"type": "raw"}, "d", "e", "f"]).run()
        assert [answer["got"] for answer in peer.answers] == [["a", "b", "c"], ["d", "e", "f"]]

    run(main)


def test_gone_is_set_when_a_send_finds_nobody() -> None:
    """Who waits for it is woken, whatever told."""

    class App(Endpoint):
        @event
        async def on_x(self) -> None:
            peer.gone = True
            waiting = asyncio.ensure_future(self.gone.wait())
            await self.respond({"a": 1})
            await waiting

    peer = Peer(App, [{"type": "x"}], code=4000)

    async def main() -> None:
        async with asyncio.timeout(WAIT_S):
            await peer.run()

    run(main)


def test_gone_is_set_after_the_end() -> None:
    """Also of a connection that this side closed."""
    kept: list[Any] = []

    class App(Endpoint):
        @event
        async def on_bye(self) -> None:
            kept.append(self)
            assert not self.gone.is_set()
            await self.close()

    async def main() -> None:
        await Peer(App, [{"type": "bye"}]).run()
        assert kept[0].gone.is_set()
        await kept[0].gone

    run(main)


def test_an_endpoint_that_was_watched_is_freed_without_the_collector() -> None:
    """Neither timers nor what was read ahead keep it."""
    alive: list[weakref.ref[Any]] = []

    class App(Endpoint):
        @event
        async def on_hear(self) -> None:
            alive.append(weakref.ref(self))
            await self.gone
            assert self._loop is not None
            self._loop.watch()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(Peer(App, [{"type": "hear"}, {"type": "hear"}]).run())  # type: ignore[arg-type]  # to its end
        assert [each() for each in alive] == [None, None]
    finally:
        gc.enable()


# ---- spawned tasks


def test_a_spawned_task_ends_with_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """It is cancelled before `on_disconnect`, and nothing is logged."""

    class App(Waiting):
        @event
        async def on_start(self) -> None:
            self.spawn(self.tick())
            await asyncio.sleep(0)

        async def tick(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                self.log.append("ended")

    async def main() -> None:
        await Peer(App, [{"type": "start"}]).run()
        assert App.log == ["ended", 1000]

    run(main)
    assert not caplog.records


def test_what_a_spawned_task_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With its name and its traceback; the connection lives on."""

    class App(Endpoint):
        @event
        async def on_start(self) -> None:
            task = self.spawn(self.fail(), name="ticker")
            await asyncio.wait([task])

        async def fail(self) -> None:
            raise KeyError("x")

        @event
        async def on_ping(self) -> dict[str, int]:
            return {}

    async def main() -> None:
        peer = await Peer(App, [{"type": "start"}, {"type": "ping"}]).run()
        assert peer.answers == [{"type": "ping"}]

    run(main)
    (record,) = caplog.records
    assert "the task ticker of" in record.getMessage()
    assert record.exc_info


def test_a_spawned_task_that_sends_to_a_peer_that_has_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged, nor complained of by the event loop."""

    class App(Endpoint):
        @event
        async def on_start(self) -> None:
            peer.gone = True
            await asyncio.wait([self.spawn(self.send({"type": "x"}))])

    peer = Peer(App, [{"type": "start"}])
    with caplog.at_level(logging.DEBUG, "socketsundso"):
        asyncio.run(peer.run())
    gc.collect()
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_nothing_can_be_spawned_after_the_end() -> None:
    """The quiet disconnect; the coroutine is closed, so that nobody warns of it."""
    from starlette.websockets import WebSocketDisconnect

    class App(Endpoint):
        async def on_disconnect(self, close_code: int) -> None:
            with pytest.raises(WebSocketDisconnect):
                self.spawn(self.send({"type": "x"}))
            done.append(1)

    done: list[int] = []
    asyncio.run(Peer(App).run())  # type: ignore[arg-type]  # runs to its end
    assert done == [1]
