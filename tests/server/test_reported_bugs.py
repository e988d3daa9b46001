"""
What users of other ASGI servers have reported as bugs, as facts about this one.

Some tests name the report that they answer. Reports whose right behaviour is a fact of another test file already are
not repeated here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any

import pytest
import websockets.asyncio.client
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from socketsundso.server import WebSocketProtocol, protocol
from socketsundso.server.keepalive import Keepalive
from tests.server.serving import (
    PING,
    PONG,
    TEXT,
    Peer,
    Recorder,
    closing,
    echo,
    masked,
    peer,
    request,
    run,
    serving,
    until,
)

both_http = pytest.mark.parametrize("http", ["h11", "httptools"])


async def scope_of(head: bytes, **options: Any) -> dict[str, Any]:
    """The scope that an application sees for the request `head`."""
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.close"})

    async with serving(app, **options) as served:
        async with peer(served, head) as client:
            assert await client.response() == 403
        await served.idle()
    return scopes[0]


@both_http
def test_duplicated_headers_stay_apart(http: str) -> None:
    """Two headers of one name are two entries, in order."""
    scope = run(scope_of(request("/", "Cookie: a=1", "X-A: 1", "Cookie: b=2", "x-a: 2"), http=http))
    assert [value for name, value in scope["headers"] if name == b"cookie"] == [b"a=1", b"b=2"]
    assert [value for name, value in scope["headers"] if name == b"x-a"] == [b"1", b"2"]


@both_http
@pytest.mark.parametrize(
    "headers",
    [
        ["Sec-WebSocket-Protocol: bokeh, Token"],
        ["Sec-WebSocket-Protocol: bokeh", "Sec-WebSocket-Protocol: Token"],
        ["Sec-WebSocket-Protocol: ,bokeh ,\tToken,"],
    ],
)
def test_subprotocols_are_split(headers: list[str], http: str) -> None:
    """Offered subprotocols are a list of names, however the headers spell it (emmett-framework/granian#815)."""
    assert run(scope_of(request("/", *headers), http=http))["subprotocols"] == ["bokeh", "Token"]


@both_http
@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/caf%C3%A9", "/caf\xe9", b"/caf%C3%A9", b""),
        ("/a%2Fb?x=%2F&y=a+b", "/a/b", b"/a%2Fb", b"x=%2F&y=a+b"),
        ("/%FF", "/\ufffd", b"/%FF", b""),
        ("/a?b?c", "/a", b"/a", b"b?c"),
        ("/?", "/", b"/", b""),
        ("//double//slash", "//double//slash", b"//double//slash", b""),
        ("http://host:80/a%20b?x=1", "/a b", b"/a%20b", b"x=1"),
        ("HTTPS://host", "/", b"/", b""),
        ("ws://host?x=1", "/", b"/", b"x=1"),
        ("/http://host/a", "/http://host/a", b"/http://host/a", b""),
    ],
)
def test_targets(target: str, path: str, raw_path: bytes, query: bytes, http: str) -> None:
    """
    Paths are decoded once, raw_path and the query string stay as sent; of an absolute URI, which proxies send and
    RFC 6455 4.2.1 allows, the path counts.
    """
    scope = run(scope_of(request(target), http=http))
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


@both_http
def test_root_path_is_in_front_of_path_and_raw_path(http: str) -> None:
    """With `root_path` both `path` and `raw_path` begin with it, as the ASGI specification says."""
    scope = run(scope_of(request("/ws%20x"), http=http, root_path="/api"))
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "/api/ws x", b"/api/ws%20x")


def test_state_of_the_lifespan_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection has its own shallow copy of the lifespan's state."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["shared"] = []
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        scope["state"]["own"] = scope["state"].get("own", 0) + 1
        scope["state"]["shared"].append(1)
        seen.append((scope["state"]["own"], len(scope["state"]["shared"])))
        await send({"type": "websocket.close"})

    async def main() -> None:
        async with serving(app, lifespan="on") as served:
            for _ in range(2):
                async with peer(served, request()) as client:
                    assert await client.response() == 403

    run(main())
    assert seen == [(1, 1), (1, 2)]


@both_http
def test_http_1_0_is_no_upgrade(http: str) -> None:
    """An upgrade by HTTP/1.0 is never answered with 101 (RFC 6455 4.1)."""

    async def main() -> None:
        async with serving(echo, http=http) as served:
            head = request().replace(b"HTTP/1.1", b"HTTP/1.0")
            async with peer(served, head) as client:
                assert await client.response() == 400

    run(main())


@both_http
@pytest.mark.parametrize("upgrade", ["WebSocket", "WEBSOCKET"])
def test_upgrade_is_case_insensitive(upgrade: str, http: str) -> None:
    """The value of Upgrade is compared without regard to case (RFC 6455 4.2.1)."""

    async def main() -> None:
        head = request("/", f"Upgrade: {upgrade}", drop="Upgrade")
        async with serving(echo, http=http) as served, peer(served, head) as client:
            assert await client.response() == 101

    run(main())


def test_accept_without_a_subprotocol_names_none() -> None:
    """If the application chooses no subprotocol, the response has no such header (Kludex/uvicorn discussion 1777)."""

    async def main() -> None:
        head = request("/", "Sec-WebSocket-Protocol: chat")
        async with serving(echo) as served, peer(served, head) as client:
            assert await client.response() == 101
            assert "sec-websocket-protocol" not in client.headers

    run(main())


def test_headers_of_accept_arrive_in_order() -> None:
    """
    Several Set-Cookie headers of `websocket.accept` all arrive (django/daphne#326: ignored), with their values as they
    are (Kludex/uvicorn#2825: in lower case).
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-latin", b"\xe9A")]
        await send({"type": "websocket.accept", "headers": headers})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            lines = client.head.split(b"\r\n")
            assert [line for line in lines if line.startswith(b"set-cookie")] == [
                b"set-cookie: a=1",
                b"set-cookie: b=2",
            ]
            assert b"x-latin: \xe9A" in lines
            client.say(closing())

    run(main())


def test_pings_are_answered_while_the_application_is_busy() -> None:
    """A handler that waits does not keep the peer's pings unanswered (ninenines/cowboy#1675)."""
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await release.wait()

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            client.say(masked(TEXT, b"x"), masked(PING, b"there?"))
            assert await client.frame() == (0x8A, b"there?")
            release.set()

    run(main())


def test_clients_pings_and_keepalive_do_not_disturb_a_slow_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A handler slower than ping_interval plus ping_timeout loses no connection (python-websockets#1128): the pings of
    both sides are answered meanwhile.
    """
    ping, pong, pings, pongs = WebSocketProtocol.ping, Keepalive.pong, [], []
    monkeypatch.setattr(WebSocketProtocol, "ping", lambda *args: pings.append(args) or ping(*args))
    monkeypatch.setattr(Keepalive, "pong", lambda *args: pongs.append(args) or pong(*args))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await until(lambda: len(pings) > 3 and len(pongs) >= 3)
        await send({"type": "websocket.send", "text": "done"})
        await receive()

    async def main() -> None:
        async with (
            serving(app, ws_ping_interval=0.1, ws_ping_timeout=30) as served,
            websockets.asyncio.client.connect(served.url, ping_interval=0.1) as client,
        ):
            await client.send("work")
            assert await client.recv() == "done"

    run(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_large_message_on_a_slow_line_is_no_silence(loop: str) -> None:
    """While a frame comes in slowly no pong can, and the peer is not taken for dead (aio-libs/aiohttp#12029)."""

    async def main() -> None:
        async with (
            serving(echo, ws_ping_interval=0.05, ws_ping_timeout=2.0) as served,
            peer(served) as client,
        ):
            frame = await client.frame()  # a ping, which the frame under way keeps from being answered
            assert frame is not None
            message = masked(TEXT, b"abcdefghijklmnopqrst")
            for i in range(0, len(message), 5):
                client.say(message[i : i + 5])
                await asyncio.sleep(0.5)  # all of it takes longer than the timeout
            client.say(masked(PONG, frame[1]))
            assert await client.text() == "abcdefghijklmnopqrst"
            client.say(closing())

    run(main(), loop)


def test_ping_behind_a_large_message_waits_for_its_turn() -> None:
    """A peer may need longer than the timeout to read what came before (theturtle32/WebSocket-Node#229)."""
    size, step = 1 << 25, 1 << 19

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(size)})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})

    async def main() -> None:
        async with serving(app, ws_ping_interval=0.05, ws_ping_timeout=2.5) as served:
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            raw.connect(("127.0.0.1", served.port))
            raw.setblocking(False)
            client = Peer(*await asyncio.open_connection(sock=raw, limit=1 << 16))
            client.say(request())
            assert await client.response() == 101
            assert await client.reader.readexactly(10) == b"\x82\x7f" + size.to_bytes(8)
            for _ in range(0, size, step):
                await client.reader.readexactly(step)
                await asyncio.sleep(0.05)  # more than 3 s for all of it
            frame = await client.frame()
            assert frame is not None
            assert frame[0] == 0x89
            client.say(masked(PONG, frame[1]), masked(TEXT, b"still there?"))
            assert await client.text() == "still there?"
            client.say(closing())
            await client.leave()

    run(main())


def test_frame_that_stops_under_way_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that dies in the middle of a frame is found like any other."""
    monkeypatch.setattr(protocol, "CLOSE_TIMEOUT_S", 0.05)
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder, ws_ping_interval=0.05, ws_ping_timeout=0.05) as served, peer(served) as client:
            client.say(masked(TEXT, b"x" * 100)[:50])
            await served.idle()

    run(main())
    assert recorder.code == 1011


def test_both_sides_close_at_once() -> None:
    """Two close frames that cross end in an orderly way, without an error in the log (Kludex/uvicorn#1252)."""
    records: list[logging.LogRecord] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close", "code": 4001})
        assert (await receive())["type"] == "websocket.disconnect"

    async def main() -> None:
        async with serving(app) as served:
            for _ in range(20):
                async with peer(served) as client:
                    client.say(masked(TEXT, b"go"), closing(1000))
                    frame = await client.frame()
                    assert frame is not None
                    assert frame[0] == 0x88
                    assert await client.rest() == b""
            await served.idle()

    handler = logging.Handler(logging.ERROR)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("uvicorn.error").addHandler(handler)
    try:
        run(main())
    finally:
        logging.getLogger("uvicorn.error").removeHandler(handler)
    assert records == []


def test_denial_response_before_and_after_accept() -> None:
    """A denial response reaches the client; after accept it is the application's mistake (Kludex/uvicorn#1916)."""
    raised = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import JSONResponse

        websocket = WebSocket(scope, receive, send)
        if scope["path"] == "/denied":
            await websocket.send_denial_response(JSONResponse({"why": "not you"}, 401, {"www-authenticate": "Basic"}))
            return
        await websocket.accept()
        try:
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        except RuntimeError as exc:
            raised.append(exc)
        await websocket.close()

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served, request("/denied")) as client:
                assert await client.response() == 401
                assert client.headers["www-authenticate"] == "Basic"
                assert client.headers["content-type"] == "application/json"
                assert await client.rest() == b'{"why":"not you"}'
            async with peer(served) as client:
                assert await client.closed() == (1000, "")

    run(main())
    assert len(raised) == 1


def test_exceptions_of_starlette(caplog: pytest.LogCaptureFixture) -> None:
    """An HTTPException before accept is a response; after it the connection is closed (Kludex/starlette#2725)."""

    async def before(websocket: WebSocket) -> None:
        raise HTTPException(418, "I am a teapot")

    async def after(websocket: WebSocket) -> None:
        await websocket.accept()
        raise HTTPException(418, "I am a teapot")

    app = Starlette(routes=[WebSocketRoute("/before", before), WebSocketRoute("/after", after)])

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served, request("/before")) as client:
                assert await client.response() == 418
                assert await client.rest() == b"I am a teapot"
            async with peer(served, request("/after")) as client:
                assert await client.response() == 101
                assert (await client.closed())[0] == 1011
            await served.idle()

    run(main())
    assert "Exception in ASGI application" in caplog.text


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_tasks_that_wait_for_one_slow_peer(loop: str) -> None:
    """All of them send once the peer reads, in order and whole; one that is cancelled meanwhile sends nothing."""
    waiting = asyncio.Event()
    raised: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(1 << 24)})
        tasks = [asyncio.create_task(send({"type": "websocket.send", "text": str(i)})) for i in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        waiting.set()
        raised.extend(await asyncio.gather(*tasks, return_exceptions=True))

    async def main() -> None:
        async with serving(app) as served:
            client = Peer(*await asyncio.open_connection("127.0.0.1", served.port, limit=1024))
            client.say(request())
            await waiting.wait()
            (connection,) = served.connections
            assert connection.writing_blocked
            assert await client.response() == 101
            frame = await client.frame()
            assert frame is not None
            assert len(frame[1]) == 1 << 24
            assert [await client.text() for _ in range(4)] == ["0", "1", "3", "4"]
            assert await client.closed() == (1000, "")
            await client.leave()

    run(main(), loop)
    assert [type(result) for result in raised] == [*[type(None)] * 2, asyncio.CancelledError, *[type(None)] * 2]


def test_receive_after_a_rejection_gives_the_disconnect() -> None:
    """After `websocket.close` before accept the disconnect is 1006, however often asked for (django/asgiref#381)."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})
        seen.extend([await receive(), await receive()])

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served, request()) as client:
                assert await client.response() == 403
            await served.idle()

    run(main())
    assert [message["code"] for message in seen] == [1006, 1006]


def test_send_in_another_task_after_the_disconnect_is_an_oserror() -> None:
    """A background task that still sends gets an OSError, not a hang and no other error."""
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

        async def ticking() -> None:
            try:
                while True:
                    await send({"type": "websocket.send", "text": "tick"})
                    await asyncio.sleep(0)
            except Exception as exc:
                errors.append(exc)

        task = asyncio.create_task(ticking())
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await task

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served) as client:
                assert await client.text() == "tick"
                client.vanish()
            await served.idle()

    run(main())
    (error,) = errors
    assert isinstance(error, OSError)


def test_empty_messages_are_messages() -> None:
    """Empty text and empty bytes are delivered and sent as such."""
    recorder = Recorder()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": ""})
        await send({"type": "websocket.send", "bytes": b""})
        while True:
            recorder.messages.append(await receive())
            if recorder.last["type"] == "websocket.disconnect":
                return

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served) as client:
                assert [await client.frame(), await client.frame()] == [(0x81, b""), (0x82, b"")]
                client.say(masked(TEXT), masked(2), closing())
                await client.closed()
            await until(lambda: recorder.code == 1000)

    run(main())
    assert recorder.messages[:2] == [
        {"type": "websocket.receive", "text": ""},
        {"type": "websocket.receive", "bytes": b""},
    ]


def test_length_that_is_announced_costs_nothing() -> None:
    """Memory grows with what has come, not with what a frame's head says (lalinsky/dusty#173: 16 MiB for ten bytes)."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            frame = masked(TEXT, bytes(1 << 24))
            (connection,) = served.connections
            before = connection.frame_progress
            client.say(frame[:100])
            await until(lambda: connection.frame_progress != before)
            assert connection.frame_progress < 1 << 12
            client.vanish()

    run(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_compressed_sends_of_many_tasks(loop: str) -> None:
    """
    Each message arrives whole, and once one is cancelled not at all (aio-libs/aiohttp#7859: mixed up; #11725: a part of
    the next one).
    """
    texts = {f"{task}:{i}:{os.urandom(1000).hex()}" for task in range(5) for i in range(20)}
    kept = sorted(texts)[::2]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": os.urandom(1 << 23)})  # more than the peer takes for now
        tasks = {text: asyncio.create_task(send({"type": "websocket.send", "text": text})) for text in texts}
        await asyncio.sleep(0)
        for text in texts.difference(kept):
            tasks[text].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await receive()

    async def main() -> None:
        async with (
            serving(app) as served,
            websockets.asyncio.client.connect(served.url, max_size=None, compression="deflate") as client,
        ):
            assert len(await client.recv()) == 1 << 23
            assert sorted([await client.recv() for _ in kept]) == kept

    run(main(), loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_application_that_does_not_mind_the_disconnect(loop: str) -> None:
    """A loop around `receive` without a way out does not stop the server, and ends (emmett-framework/granian#575)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            if (await receive())["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})

    async def main() -> None:
        async with serving(app) as served:
            for ending in (closing(), b""):
                async with peer(served) as client:
                    client.say(ending)
            await served.idle()

    run(main(), loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("head", [request(), request("/", "Sec-WebSocket-Extensions: permessage-deflate")])
@pytest.mark.parametrize("message", [{"text": "x" * 1000}, {"bytes": os.urandom(100_000)}], ids=["texts", "bytes"])
def test_application_that_only_sends(message: dict[str, Any], head: bytes, loop: str) -> None:
    """It hears that the peer has left, and others are served meanwhile, though it waits for nothing but `send`."""
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/echo":
            await echo(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", **message})
        except Exception as exc:
            raised.append(exc)

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served, head) as client:
                assert await client.response() == 101
                reading = asyncio.create_task(client.rest())
                async with peer(served, request("/echo")) as another:
                    assert await another.response() == 101
                    another.say(masked(TEXT, b"served?"), closing())
                    assert await another.text() == "served?"
                reading.cancel()
                client.vanish()
            await served.idle()

    run(main(), loop)
    assert [isinstance(error, OSError) for error in raised] == [True]
