"""Request heads that trickle, never end or grow without end, as `socketsundso run` meets them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

import pytest

from socketsundso.server import head
from tests.conftest import Clock
from tests.server.serving import (
    BOUNDED_HTTP,
    CERTIFICATE,
    TEXT,
    Peer,
    Served,
    both_loops,
    closing,
    masked,
    peer,
    request,
    run,
    serving,
    until,
)

both = pytest.mark.parametrize("http", BOUNDED_HTTP)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Echoes WebSocket messages; answers HTTP requests with the length of their body."""
    if scope["type"] == "http":
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        body = b"%d" % size
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def timers(served: Served) -> int:
    """Heads of the present connections that have a timer."""
    return sum(
        connection._watch._timer is not None for connection in served.connections if hasattr(connection, "_watch")
    )


async def answered(client: Peer) -> bytes:
    assert await client.response() == 200
    return await client.reader.readexactly(int(client.headers["content-length"]))


@both_loops
@both
def test_head_that_trickles_is_cut(http: str, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that goes on and on, one header at a time, is answered with 408 although something always comes."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT_S", 0.2)

    async def main() -> None:
        async with serving(app, http=BOUNDED_HTTP[http], headers=[("x-default", "d")]) as served:
            async with peer(served, GET) as client:

                async def trickle() -> None:
                    while True:
                        client.say(b"X: y\r\n")
                        await asyncio.sleep(0.02)

                trickling = asyncio.create_task(trickle())
                assert await client.response() == 408
                assert client.headers["connection"] == "close"
                assert client.headers["x-default"] == "d"
                assert len(await client.rest()) == int(client.headers["content-length"])
                trickling.cancel()
            await served.idle()

    run(main(), loop)


@both
def test_a_refusal_arrives_over_tls_too(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which no side can be closed alone: the connection ends with the answer."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT_S", 0.2)

    async def main() -> None:
        tls = ssl.create_default_context(cafile=CERTIFICATE)
        async with serving(app, http=BOUNDED_HTTP[http], ssl_certfile=str(CERTIFICATE)) as served:
            async with peer(served, GET, ssl=tls, server_hostname="localhost") as client:
                assert await client.response() == 408
                assert len(await client.rest()) == int(client.headers["content-length"])
            await served.idle()

    run(main())


@both
def test_connection_without_a_word_is_closed(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and says nothing is hung up on without an answer."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT_S", 0.1)

    async def main() -> None:
        async with serving(app, http=BOUNDED_HTTP[http]) as served:
            async with peer(served, b"") as client:
                assert await client.rest() == b""
            await served.idle()

    run(main())


@both
def test_peer_that_does_not_hang_up_after_a_refusal_is_cut(http: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the 408 the connection lives for the linger time only, and is not refused twice."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT_S", 0.1)
    monkeypatch.setattr(head, "LINGER_S", 0.1)

    async def main() -> None:
        async with serving(app, http=BOUNDED_HTTP[http]) as served, peer(served, GET) as client:
            assert await client.response() == 408
            client.say(b"X: y\r\n\r\n" + request())
            await served.idle()
            with contextlib.suppress(ConnectionError):  # if it was cut before this was said
                assert b"HTTP/1.1" not in await client.rest()

    run(main())


@both
@pytest.mark.parametrize("line", ["many headers", "one header"])
def test_head_without_end_is_refused(http: str, line: str) -> None:
    """A head of megabytes is answered with a 4xx and closed, whether in many headers or in one."""

    async def main() -> None:
        async with serving(app, http=BOUNDED_HTTP[http]) as served:
            async with peer(served, GET) as client:
                for _ in range(100):
                    client.say(b"X: " + b"y" * 10_000 + b"\r\n" if line == "many headers" else b"X: " + b"y" * 10_000)
                assert await client.response() in (400, 431)
            await served.idle()

    run(main())


def test_head_over_the_bound_is_431(monkeypatch: pytest.MonkeyPatch) -> None:
    """On httptools, which has no bound, it is 64 KiB and the answer 431."""

    async def main() -> None:
        async with serving(app, http=BOUNDED_HTTP["httptools"]) as served:
            async with peer(served, GET) as client:
                client.say(b"X: " + b"y" * (1 << 16))
                assert await client.response() == 431
                assert len(await client.rest()) == int(client.headers["content-length"])
            await served.idle()

    run(main())


@both
def test_upgrade_ends_the_watch(http: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An accepted connection outlives the head's timeout, also if its head came in pieces."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT_S", 10.0)

    async def main() -> None:
        async with serving(app, http=BOUNDED_HTTP[http]) as served, peer(served, request()[:30]) as client:
            await until(lambda: timers(served) == 1)
            client.say(request()[30:])
            assert await client.response() == 101
            clock.jump(11.0)
            client.say(masked(TEXT, b"x"))
            assert await client.text() == "x"
            client.say(closing())

    run(main(), "asyncio")


@both
def test_bodies_and_the_time_between_requests_are_not_watched(
    http: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body may be slow and large, and an idle kept-alive connection is uvicorn's matter; the next head counts."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT_S", 10.0)
    size = 200_000

    async def main() -> None:
        async with serving(app, http=BOUNDED_HTTP[http]) as served, peer(served, b"") as client:
            for _ in range(2):
                client.say(GET + b"Content-Length: %d\r\n\r\n" % size)
                await until(lambda: timers(served) == 0)
                clock.jump(11.0)
                client.say(b"b" * size)
                assert await answered(client) == b"%d" % size
                assert timers(served) == 0
            client.say(GET)
            await until(lambda: timers(served) == 1)
            clock.jump(11.0)
            assert await client.response() == 408

    run(main(), "asyncio")


@both
def test_pipelined_head_waits_for_the_response_before_it(
    http: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a head behind a request that is still being answered is cut only after that answer."""
    monkeypatch.setattr(head, "HEAD_TIMEOUT_S", 10.0)
    go_on = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await app(scope, receive, send)

    async def main() -> None:
        async with serving(slow, http=BOUNDED_HTTP[http]) as served, peer(served, GET + b"\r\n" + GET) as client:
            await until(lambda: served.tasks)
            clock.jump(11.0)
            await asyncio.sleep(0.01)
            go_on.set()
            assert await answered(client) == b"0"
            client.say(b"\r\n")
            assert await answered(client) == b"0"

    run(main(), "asyncio")


UPGRADES = {
    "one of several": (["Upgrade: websocket, h2c", "Connection: Upgrade"], True),
    "not the first": (["Upgrade: h2c,websocket", "Connection: Upgrade"], True),
    "over two lines": (["Upgrade: h2c", "Upgrade: websocket", "Connection: Upgrade"], True),
    "over two lines, first": (["Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade"], True),
    "in any case": (["UPGRADE: WebSocket , \tTLS/1.0", "connection: keep-alive, UPGRADE"], True),
    "empty members": (["Upgrade: , websocket,", "Connection: ,Upgrade,,"], True),
    "two connection lines": (["Upgrade: websocket", "Connection: Upgrade", "Connection: keep-alive"], True),
    "two connection lines, turned": (["Upgrade: websocket", "Connection: keep-alive", "Connection: Upgrade"], True),
    "lists over lines": (["Upgrade: a, b", "Upgrade: websocket, c", "Connection: x, upgrade", "Connection: y"], True),
    "another protocol": (["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: x"], False),
    "others": (["Upgrade: h2c, TLS/1.0", "Connection: Upgrade"], False),
    "a longer name": (["Upgrade: websockets, x-websocket", "Connection: Upgrade"], False),
    "not asked for": (["Upgrade: websocket", "Connection: keep-alive"], False),
    "nothing to switch to": (["Connection: Upgrade"], False),
}


@both_loops
@both
@pytest.mark.parametrize(("lines", "switches"), UPGRADES.values(), ids=UPGRADES)
def test_upgrade_and_connection_are_lists(lines: list[str], switches: bool, http: str, loop: str) -> None:
    """RFC 9110 5.3 and 7.8: a handshake is one wherever `websocket` stands; everything else is a plain request."""
    head = request("/", *lines, drop="Upgrade").replace(b"Connection: Upgrade\r\n", b"", 1)
    assert head.lower().count(b"\r\nconnection:") == sum(line.lower().startswith("connection:") for line in lines)

    async def main() -> None:
        async with serving(app, http=BOUNDED_HTTP[http]) as served, peer(served, head) as client:
            if switches:
                assert await client.response() == 101
                client.say(masked(TEXT, b"x"))
                assert await client.text() == "x"
                client.say(closing())
                await client.closed()
            else:
                assert await answered(client) == b"0"

    run(main(), loop)
