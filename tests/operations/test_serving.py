"""What clients of a worker see while it drains: uvicorn, our protocol, endpoints, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import BaseModel

from socketsundso import Endpoint, event
from socketsundso.operations import Server, Settings, serving
from tests.operations.worker import GET, Worker, ask, hear, say, working
from tests.server.serving import Peer, both_loops, echo, peer, request, run, until


class Ask(BaseModel):
    question: str


class Answer(BaseModel):
    yes: bool


class Row(BaseModel):
    n: int


class Plain(Endpoint):
    """What takes its time takes it until `go` is set."""

    begun: asyncio.Event
    go: asyncio.Event
    codes: list[int]

    @event
    async def on_slow(self) -> dict[str, Any]:
        self.begun.set()
        await self.go.wait()
        return {"done": True}

    @event
    async def on_quick(self) -> dict[str, Any]:
        return {"quick": True}

    async def on_disconnect(self, code: int) -> None:
        self.codes.append(code)
        await super().on_disconnect(code)


class Talking(Plain):
    """The same with what goes on beside the loop."""

    calls = {Ask: Answer}

    @event
    async def on_count(self) -> AsyncIterator[Row]:
        self.begun.set()
        yield Row(n=1)
        await self.go.wait()
        yield Row(n=2)

    @event
    async def on_buy(self) -> dict[str, Any]:
        self.begun.set()
        answer = await self.call(Ask(question="sure?"), returns=Answer)
        return {"bought": answer.yes}

    @event
    async def on_import(self, rows: AsyncIterator[Row]) -> dict[str, Any]:
        self.begun.set()
        return {"sum": sum([row.n async for row in rows])}


def of_its_own(kind: type[Plain]) -> type[Plain]:
    """A class with events of its own."""
    return type("Shop", (kind,), {"begun": asyncio.Event(), "go": asyncio.Event(), "codes": []})


@both_loops
def test_who_is_idle_is_told_1012(loop: str) -> None:
    """The peer gets 1012 and an orderly end, `on_disconnect` the same code."""

    async def main() -> None:
        shop = of_its_own(Plain)
        async with working(shop) as served, peer(served) as client:
            await served.ends()
            assert await client.closed() == (1012, "")
        assert shop.codes == [1012]

    run(main(), loop)


async def finish_handler(client: Peer, shop: type[Plain]) -> Any:
    shop.go.set()
    return await hear(client)


async def finish_stream(client: Peer, shop: type[Plain]) -> Any:
    assert await hear(client) == {"type": "row", "n": 1, "ref": 1}
    shop.go.set()
    assert await hear(client) == {"type": "row", "n": 2, "ref": 1}
    return await hear(client)


async def finish_call(client: Peer, shop: type[Plain]) -> Any:
    asked = await hear(client)
    say(client, "reply", ref=asked["ref"], answer={"yes": True})
    return await hear(client)


async def finish_upload(client: Peer, shop: type[Plain]) -> Any:
    for n in (1, 2):
        say(client, "item", ref=1, item={"n": n})
    say(client, "complete", ref=1)
    return await hear(client)


Finish = Callable[[Peer, type[Plain]], Awaitable[Any]]


@pytest.mark.parametrize(
    ("kind", "begun", "finish", "last"),
    [
        (Plain, "slow", finish_handler, {"type": "slow", "done": True, "ref": 1}),
        (Talking, "slow", finish_handler, {"type": "slow", "done": True, "ref": 1}),
        (Talking, "count", finish_stream, {"type": "complete", "ref": 1}),
        (Talking, "buy", finish_call, {"type": "buy", "bought": True, "ref": 1}),
        (Talking, "import", finish_upload, {"type": "import", "sum": 3, "ref": 1}),
    ],
    ids=["handler", "turn", "stream", "call", "upload"],
)
def test_what_is_under_way_may_finish(kind: type[Plain], begun: str, finish: Finish, last: Any) -> None:
    """A handler, a stream, a call and an upload go on while the worker drains; 1012 comes behind their last frame."""

    async def main() -> None:
        shop = of_its_own(kind)
        async with working(shop) as served, peer(served) as client, peer(served) as other:
            say(client, begun, ref=1)
            await shop.begun.wait()
            await served.ends()
            await other.closed()
            assert await finish(client, shop) == last
            assert await client.closed() == (1012, "")
        assert shop.codes == [1012, 1012]

    run(main())


@pytest.mark.parametrize(
    ("kind", "begun", "finish", "last"),
    [
        (Plain, "slow", finish_handler, {"type": "slow", "done": True, "ref": 1}),
        (Talking, "slow", finish_handler, {"type": "slow", "done": True, "ref": 1}),
        (Talking, "count", finish_stream, {"type": "complete", "ref": 1}),
    ],
    ids=["handler", "turn", "stream"],
)
def test_what_is_under_way_behind_a_middleware_may_finish(
    kind: type[Plain], begun: str, finish: Finish, last: Any
) -> None:
    """Where a middleware has put its own `receive` before the endpoint's, it is known all the same who is at work."""

    async def main() -> None:
        shop = of_its_own(kind)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def receiving() -> Any:
                return await receive()

            await shop(scope, receiving, send)

        async with working(app) as served, peer(served) as client, contextlib.AsyncExitStack() as stack:
            others = [await stack.enter_async_context(peer(served)) for _ in range(4)]
            say(client, begun, ref=1)
            await shop.begun.wait()
            await served.ends()
            for other in others:
                await other.closed()
            assert await finish(client, shop) == last
            assert await client.closed() == (1012, "")

    run(main())


def test_a_message_that_comes_while_a_handler_finishes_is_answered() -> None:
    """A connection that is waited for goes on as ever: what comes meanwhile has its turn."""

    async def main() -> None:
        shop = of_its_own(Plain)
        async with working(shop) as served, peer(served) as client, peer(served) as other:
            say(client, "slow")
            await shop.begun.wait()
            await served.ends()
            await other.closed()
            say(client, "quick")
            await until(lambda: any(each.queued_bytes for each in served.connections))
            shop.go.set()
            assert await hear(client) == {"type": "slow", "done": True}
            assert await hear(client) == {"type": "quick", "quick": True}
            assert await client.closed() == (1012, "")

    run(main())


@pytest.mark.parametrize(("kind", "begun"), [(Plain, "slow"), (Talking, "slow"), (Talking, "count")])
def test_what_does_not_end_is_cut(kind: type[Plain], begun: str) -> None:
    """A handler and a stream that outlast `--drain-s` are cancelled; the peer gets 1012, `on_disconnect` too."""

    async def main() -> None:
        shop = of_its_own(kind)
        async with working(shop, settings={"drain_s": 0.2}) as served, peer(served) as client:
            say(client, begun, ref=1)
            await shop.begun.wait()
            await served.ends()
            while (frame := await client.frame()) is not None and frame[0] != 0x88:
                pass
            assert frame is not None
            assert frame[1] == (1012).to_bytes(2)
            await client.leave()
            await served.idle()
        assert shop.codes == [1012]

    run(main())


def test_a_handshake_that_is_under_way_is_let_in_and_told() -> None:
    """Who was to be let in gets the application's answer, and 1012 behind it; no 500."""

    async def main() -> None:
        go, asked = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            asked.set()
            await go.wait()
            await echo(scope, receive, send)

        async with working(app) as served, peer(served, request()) as client, peer(served, b"") as other:
            await asked.wait()
            await served.ends()
            go.set()
            assert await client.response() == 101
            assert await client.closed() == (1012, "")
            await other.leave()

    run(main())


def test_who_had_reached_the_worker_is_let_in() -> None:
    """Who was connected but had not asked yet, when the worker began to end, is let in and told in its turn."""

    async def main() -> None:
        async with working(of_its_own(Plain)) as served, peer(served, b"") as client:
            await until(lambda: served.connections)
            await served.ends()
            client.say(request())
            assert await client.response() == 101
            assert await client.closed() == (1012, "")

    run(main())


def test_nobody_else_is_let_in() -> None:
    """The worker listens no more as soon as it drains."""

    async def main() -> None:
        shop = of_its_own(Plain)
        async with working(shop) as served, peer(served) as client:
            say(client, "slow")
            await shop.begun.wait()
            await served.ends()
            await until(lambda: not any(each.is_serving() for each in served.server.servers))
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", served.port)

    run(main())


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers HTTP, and accepts WebSockets that never rest."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.get_running_loop().create_future()


def test_readiness() -> None:
    """The path of `--health` says 200 while the worker accepts, 503 once it drains, and 200 behind `/live`."""

    async def main() -> None:
        async with (
            working(hello, settings={"health": "/healthz"}, http="h11") as served,
            peer(served),
            peer(served, b"") as probe,
            peer(served, b"") as living,
        ):
            assert await ask(probe, "/healthz") == (200, "ready\n")
            assert await ask(living, "/healthz/live") == (200, "live\n")
            await served.ends()
            assert await ask(probe, "/healthz") == (503, "draining\n")
            assert (probe.headers["connection"], probe.headers["cache-control"]) == ("close", "no-store")
            assert await ask(living, "/healthz/live") == (200, "live\n")

    run(main())


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_probes_are_not_bounded(http: str) -> None:
    """`--limit-concurrency`, which counts WebSockets too, refuses requests, and no orchestrator kills the worker."""

    async def main() -> None:
        async with (
            working(hello, settings={"health": "/healthz"}, http=http, limit_concurrency=4) as served,
            peer(served),
            peer(served),
            peer(served, b"") as probe,
        ):
            assert await ask(probe) == (200, "hello")
            async with peer(served) as another:
                assert await ask(probe, "/healthz") == (200, "ready\n")
                assert await ask(probe, "/healthz/live") == (200, "live\n")
                assert await ask(probe) == (503, "too many requests under way\n")
                assert probe.headers["connection"] == "close"
                await another.leave()

    run(main())


def test_a_worker_whose_application_does_not_come_to_start_ends() -> None:
    """A signal is heard before the lifespan has begun, which is cancelled (Kludex/uvicorn#1301, #2751)."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    async def main() -> None:
        worker = Worker(uvicorn.Config(app, log_config=None, port=0), Settings())
        serving = asyncio.create_task(worker.serve())
        await begun.wait()
        assert worker.phase == "starting"
        worker.handle_exit(signal.SIGTERM, None)
        await serving
        assert not worker.started

    asyncio.run(main())
    assert ended.is_set()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs the signals of POSIX")
def test_sighup_to_a_server_without_workers_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system would end it without a word; who ignores it (`nohup`) goes on to."""
    server = Server(uvicorn.Config(echo, log_config=None), Settings())
    before = signal.getsignal(signal.SIGHUP)
    with server.capture_signals():
        signal.raise_signal(signal.SIGHUP)
        assert (server.should_exit, server.force_exit) == (True, False)
        server._captured_signals.clear()  # it would be raised again, for the shell to see
    assert signal.getsignal(signal.SIGHUP) == before
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with server.capture_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_socket_that_is_another_servers_by_now_stays(tmp_path: Path) -> None:
    """Who drains behind the one that has taken its place at `--uds` does not remove what that one listens at."""
    path = str(tmp_path / "s")

    async def main() -> None:
        async with working(hello, uds=path) as first:
            async with working(hello, uds=path) as second:
                await first.ends()
                await until(lambda: not first.server.servers[0].is_serving())
                assert second.server.config.uds == path
                first.server.handle_exit(signal.SIGINT, None)
                await until(lambda: first.server.config.uds is None)
            assert second.server.config.uds == path

    run(main())


def test_without_a_health_path_the_application_answers() -> None:
    """Unless `--health` names a path, all of them are the application's."""

    async def main() -> None:
        async with working(hello) as served, peer(served, b"") as client:
            assert await ask(client, "/healthz") == (200, "hello")

    run(main())


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_kept_connection_is_answered_and_closed(http: str) -> None:
    """A request on a connection that was kept is served while the worker drains, and the answer is its last."""

    async def main() -> None:
        async with working(hello, http=http) as served, peer(served), peer(served, b"") as client:
            assert await ask(client) == (200, "hello")
            await served.ends()
            assert await ask(client) == (200, "hello")
            assert client.headers["connection"] == "close"
            assert await client.rest() == b""

    run(main())


def test_a_handshake_on_a_kept_connection_is_sent_elsewhere() -> None:
    """It gets 503 and is told to come back in a second, when it reaches another worker."""

    async def main() -> None:
        async with working(hello) as served, peer(served), peer(served, b"") as client:
            await ask(client)
            await served.ends()
            await until(lambda: served.server.is_refusing)
            client.say(request())
            assert await client.response() == 503
            assert client.headers["retry-after"] == "1"

    run(main())


@pytest.mark.parametrize(
    ("first", "second", "settings"),
    [
        (signal.SIGTERM, signal.SIGTERM, {}),
        (signal.SIGTERM, signal.SIGINT, {}),
        (signal.SIGINT, None, {}),
        (signal.SIGTERM, None, {"drain_s": 0.0}),
    ],
)
def test_who_does_not_want_to_wait(
    monkeypatch: pytest.MonkeyPatch, first: signal.Signals, second: signal.Signals | None, settings: Any
) -> None:
    """A second signal, SIGINT as the first, and `--drain-s 0` tell everybody at once, whatever is under way."""
    monkeypatch.setattr(serving, "SAME_S", -1.0)

    async def main() -> None:
        shop = of_its_own(Plain)
        async with working(shop, settings=settings) as served, peer(served) as client:
            say(client, "slow")
            await shop.begun.wait()
            await served.ends(first)
            if second is not None:
                await served.ends(second)
            assert await client.closed() == (1012, "")

    run(main())


def test_a_signal_to_the_whole_group_is_one() -> None:
    """systemd tells each process of a service, and the parent tells its workers once more: that ends no drain."""

    async def main() -> None:
        shop = of_its_own(Plain)
        async with working(shop) as served, peer(served) as client, peer(served) as other:
            say(client, "slow")
            await shop.begun.wait()
            await served.ends()
            await served.ends()
            await other.closed()
            assert await finish_handler(client, shop) == {"type": "slow", "done": True}
            assert await client.closed() == (1012, "")

    run(main())


def test_uvicorns_own_protocol() -> None:
    """Its connections are told at their moment, too, though it does not know whether the application is at work."""

    async def main() -> None:
        async with working(echo, ws="websockets-sansio") as served, peer(served) as client:
            await served.ends()
            assert await client.closed() == (1012, "")

    run(main())


def test_behind_a_proxy_the_application_has_the_clients_address() -> None:
    """What stands before the application stands behind uvicorn's own middleware."""

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            body = scope["client"][0].encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            await send({"type": "http.response.body", "body": body})

        async with working(app, root_path="/api", settings={"health": "/h"}) as served, peer(served, b"") as client:
            client.say(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n") % b"/")
            await client.response()
            assert await client.reader.readexactly(9) == b"192.0.2.9"
            assert await ask(client, "/h") == (200, "ready\n")

    run(main())
