"""
The same cases over uvicorn's own implementations and ours.

A case is an application, a client, and what both of them see. `seen` is what every implementation shows; where RFC
6455 or docs/server.md make ours differ, `here` says how, and the test fails too when the difference goes away.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from socketsundso.server import WebSocketProtocol
from tests.server.serving import BINARY, TEXT, Peer, Served, closing, masked, peer, request, run, serving

IMPLEMENTATIONS = {
    "websockets-sansio": "websockets-sansio",
    "wsproto": "wsproto",
    "socketsundso": WebSocketProtocol,
}
NOTHING = object()

Log = list[Any]
App = Callable[[Any, Any, Any, Log], Awaitable[None]]
Client = Callable[[Peer, Log], Awaitable[None]]


@dataclass
class Case:
    """An application and a client that write into one log."""

    app: App
    client: Client
    seen: Log
    here: Any = NOTHING  # what ours shows instead
    head: bytes = request("/a%20b/c?x=1&y=%20", "X-Test: \xe9", "Sec-WebSocket-Protocol: one, two")
    options: dict[str, Any] | None = None
    not_wsproto: bool = False  # wsproto's uvicorn class departs from the other one here


def note(log: Log, message: dict[str, Any]) -> dict[str, Any]:
    log.append(tuple(message[key] for key in ("type", "text", "bytes", "code", "reason") if key in message))
    return message


async def accepting(scope: Any, receive: Any, send: Any, log: Log) -> None:
    note(log, await receive())
    await send({"type": "websocket.accept"})
    while note(log, await receive())["type"] != "websocket.disconnect":
        pass


async def scope_app(scope: Any, receive: Any, send: Any, log: Log) -> None:
    keys = ("type", "http_version", "scheme", "root_path", "path", "raw_path", "query_string", "subprotocols")
    log.append({key: scope[key] for key in keys})
    log.append(scope["asgi"]["spec_version"])
    log.append([value for name, value in scope["headers"] if name == b"x-test"])
    log.append(scope["state"])
    log.append(scope["client"][0] + " " + scope["server"][0])
    log.append("websocket.http.response" in scope["extensions"])
    await send({"type": "websocket.close"})


async def leaving(client: Peer, log: Log) -> None:
    assert await client.response() == 101


async def refused(client: Peer, log: Log) -> None:
    log.append(await client.response())


def saying(*frames: bytes) -> Client:
    async def client(client: Peer, log: Log) -> None:
        assert await client.response() == 101
        client.say(*frames)
        await client.rest()

    return client


async def accept_with(scope: Any, receive: Any, send: Any, log: Log) -> None:
    await send(
        {
            "type": "websocket.accept",
            "subprotocol": "two",
            "headers": [(b"X-App", b"1"), (b"set-cookie", b"a=b")],
        }
    )
    await receive()
    await receive()


async def accepted_headers(client: Peer, log: Log) -> None:
    assert await client.response() == 101
    names = ("x-app", "set-cookie", "sec-websocket-protocol", "upgrade", "server", "x-default")
    log.append({name: client.headers.get(name) for name in names})
    client.say(closing())
    await client.rest()


def trying(*messages: dict[str, Any], receive_first: bool = False) -> App:
    """Send each message, note what it raised."""

    async def app(scope: Any, receive: Any, send: Any, log: Log) -> None:
        await receive()
        if receive_first:
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
        for message in messages:
            try:
                await send(message)
            except Exception as exc:
                log.append(type(exc).__name__)
            else:
                log.append("ok")

    return app


async def response_app(scope: Any, receive: Any, send: Any, log: Log) -> None:
    await receive()
    await send({"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-tea", b"1")]})
    await send({"type": "websocket.http.response.body", "body": b"short and stout"})
    note(log, await receive())


async def reading_response(client: Peer, log: Log) -> None:
    log.append(await client.response())
    log.append(client.headers["x-tea"])
    log.append((await client.rest()).strip())


async def raising(scope: Any, receive: Any, send: Any, log: Log) -> None:
    await receive()
    raise ZeroDivisionError


async def returning(scope: Any, receive: Any, send: Any, log: Log) -> None:
    await receive()


async def sending(scope: Any, receive: Any, send: Any, log: Log) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "t\xfc", "bytes": None})
    await send({"type": "websocket.send", "bytes": b"\x00", "text": None})
    await send({"type": "websocket.close", "code": 3333, "reason": "done"})
    note(log, await receive())  # connect
    note(log, await receive())


async def reading_frames(client: Peer, log: Log) -> None:
    assert await client.response() == 101
    for _ in range(3):
        log.append(await client.frame())
    client.say(closing(3333, "done"))
    await client.rest()


ACCEPT = {"type": "websocket.accept"}
SEND = {"type": "websocket.send", "text": "x"}
CLOSE = {"type": "websocket.close"}
CONNECT = ("websocket.connect",)

CASES = {
    "scope": Case(
        scope_app,
        refused,
        [
            {
                "type": "websocket",
                "http_version": "1.1",
                "scheme": "ws",
                "root_path": "/root",
                "path": "/root/a b/c",
                "raw_path": b"/root/a%20b/c",
                "query_string": b"x=1&y=%20",
                "subprotocols": ["one", "two"],
            },
            "2.4",
            [b"\xe9"],
            {},
            "127.0.0.1 127.0.0.1",
            True,
            403,
        ],
        options={"root_path": "/root"},
    ),
    "proxy headers": Case(
        lambda scope, receive, send, log: _noting_proxy(scope, send, log),
        refused,
        ["wss", ("10.1.2.3", 0), 403],
        head=request("/", "X-Forwarded-For: 10.1.2.3", "X-Forwarded-Proto: https"),
    ),
    "accept with headers and subprotocol": Case(
        accept_with,
        accepted_headers,
        [
            {
                "x-app": "1",
                "set-cookie": "a=b",
                "sec-websocket-protocol": "two",
                "upgrade": "websocket",
                "server": "uvicorn",
                "x-default": "d",
            }
        ],
        options={"headers": [("x-default", "d")]},
        not_wsproto=True,  # it spells `Upgrade: WebSocket`
    ),
    "messages": Case(
        accepting,
        saying(masked(TEXT, b"t"), masked(BINARY, b"b"), closing(1001, "bye")),
        [
            CONNECT,
            ("websocket.receive", "t"),
            ("websocket.receive", b"b"),
            ("websocket.disconnect", 1001, "bye"),
        ],
    ),
    "close without a code": Case(
        accepting, saying(closing(None)), [CONNECT, ("websocket.disconnect", 1005, "")], not_wsproto=True
    ),
    "tcp lost": Case(
        accepting,
        leaving,
        [CONNECT, ("websocket.disconnect", 1005)],
        here=[CONNECT, ("websocket.disconnect", 1006, "")],
    ),
    "sends and closes": Case(
        sending,
        reading_frames,
        [
            (0x81, "t\xfc".encode()),
            (0x82, b"\x00"),
            (0x88, b"\x0d\x05done"),
            CONNECT,
            ("websocket.disconnect", 3333, "done"),
        ],
    ),
    "rejected": Case(trying(CLOSE), refused, ["ok", 403]),
    "raises before accept": Case(raising, refused, [500]),
    "returns before accept": Case(returning, refused, [500]),
    "http response": Case(
        response_app,
        reading_response,
        [418, "1", b"short and stout", ("websocket.disconnect", 1006)],
        here=[418, "1", b"short and stout", ("websocket.disconnect", 1006, "")],
        not_wsproto=True,  # it sends no Content-Length
    ),
    "send before accept": Case(trying(SEND, CLOSE), refused, ["RuntimeError", "ok", 403]),
    "accept twice": Case(trying(ACCEPT, ACCEPT, CLOSE), saying(closing()), ["ok", "RuntimeError", "ok"]),
    "response after accept": Case(
        trying(ACCEPT, {"type": "websocket.http.response.start", "status": 200}, CLOSE),
        saying(closing()),
        ["ok", "RuntimeError", "ok"],
    ),
    "unknown message": Case(trying({"type": "websocket.ping"}, CLOSE), refused, ["RuntimeError", "ok", 403]),
    "send after close": Case(trying(ACCEPT, CLOSE, SEND), saying(closing()), ["ok", "ok", "RuntimeError"]),
    "close twice": Case(trying(ACCEPT, CLOSE, CLOSE), saying(closing()), ["ok", "ok", "RuntimeError"]),
    "send after reject": Case(trying(CLOSE, SEND), refused, ["ok", "RuntimeError", 403]),
    "response with a bad status": Case(
        trying({"type": "websocket.http.response.start", "status": 1000}, CLOSE),
        refused,
        ["RuntimeError", "ok", 403],
    ),
    "send after the peer closed": Case(trying(SEND, receive_first=True), saying(closing()), ["ClientDisconnected"]),
    "close after the peer closed": Case(trying(CLOSE, receive_first=True), saying(closing()), ["ok"], not_wsproto=True),
    "send after the peer vanished": Case(trying(SEND, receive_first=True), leaving, ["ClientDisconnected"]),
    "close after the peer vanished": Case(trying(CLOSE, receive_first=True), leaving, ["ClientDisconnected"]),
    "wrong version": Case(
        accepting,
        refused,
        [400],
        here=[426],
        head=request("/", "Sec-WebSocket-Version: 12", drop="Sec-WebSocket-Version"),
        not_wsproto=True,  # 426, like ours
    ),
    "bad key": Case(
        accepting,
        refused,
        [400],
        head=request("/", "Sec-WebSocket-Key: x", drop="Sec-WebSocket-Key"),
        not_wsproto=True,  # it does not look
    ),
    "no key": Case(accepting, refused, [400], head=request(drop="Sec-WebSocket-Key")),
}


async def _noting_proxy(scope: Any, send: Any, log: Log) -> None:
    log.extend([scope["scheme"], scope["client"]])
    await send({"type": "websocket.close"})


async def observed(case: Case, implementation: str, http: str) -> Log:
    log: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await case.app(scope, receive, send, log)

    options = {"ws": IMPLEMENTATIONS[implementation], "http": http, **(case.options or {})}
    async with serving(app, **options) as served:
        await _talk(served, case, log)
    return log


async def _talk(served: Served, case: Case, log: Log) -> None:
    async with peer(served, case.head) as client:
        await case.client(client, log)
    await served.idle()


COMBINATIONS = [
    (name, implementation)
    for name, case in CASES.items()
    for implementation in IMPLEMENTATIONS
    if implementation != "wsproto" or not case.not_wsproto
]


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize(("name", "implementation"), COMBINATIONS)
def test_all_implementations_show_the_same(name: str, implementation: str, http: str) -> None:
    """An application and a client cannot tell which implementation serves them, save as documented."""
    case = CASES[name]
    ours = implementation == "socketsundso"
    expected = case.here if ours and case.here is not NOTHING else case.seen
    # application and client are two tasks: only the order within each of them is a fact
    assert sorted(run(observed(case, implementation, http)), key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("implementation", ["websockets-sansio", "socketsundso"])
def test_access_log(implementation: str, caplog: pytest.LogCaptureFixture) -> None:
    """Accepted, rejected and answered handshakes are logged in uvicorn's words."""

    async def main() -> None:
        for app, client in (
            (accepting, saying(closing())),
            (trying(CLOSE), refused),
            (response_app, refused),
        ):
            await observed(Case(app, client, []), implementation, "httptools")

    with caplog.at_level(logging.INFO, "uvicorn.error"):
        run(main())
    lines = [record.getMessage().partition(" - ")[2] for record in caplog.records if "WebSocket" in record.msg]
    target = "/a%20b/c?x=1&y=%20"
    assert lines == [
        f'"WebSocket {target}" [accepted]',
        f'"WebSocket {target}" 403',
        f'"WebSocket {target}" 418',
    ]
