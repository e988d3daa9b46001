"""
The same cases over uvicorn's own implementations and ours.

A case is an application, a client, and what each of them sees, in order. That is stated once, for all implementations;
where one of them departs, `instead` says what is seen there, and the test fails too when the difference goes away. For
ours these are the differences that docs/server.md lists.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketException
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from socketsundso.server import WebSocketProtocol
from tests.server.serving import (
    BINARY,
    CERTIFICATE,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    TEXT,
    Peer,
    Served,
    closing,
    masked,
    peer,
    request,
    run,
    serving,
    until,
)
from tests.server.steps import (
    ACCEPT,
    ALL,
    CLOSE_IT,
    LAST,
    PART,
    RECEIVE,
    REJECT,
    SEND,
    START,
    App,
    Log,
    doing,
    note,
    outcome,
)

OURS = "socketsundso"
SANSIO = "websockets-sansio"  # uvicorn's default
WSPROTO = "wsproto"
LEGACY = "websockets"
IMPLEMENTATIONS: dict[str, Any] = {SANSIO: SANSIO, WSPROTO: WSPROTO, LEGACY: LEGACY, OURS: WebSocketProtocol}

# what the legacy implementation and the part of `websockets` under it say of themselves, and nothing else
_DEPRECATED = [
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated"),
    pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]
implementations = pytest.mark.parametrize(
    "implementation", [pytest.param(name, marks=_DEPRECATED if name == LEGACY else ()) for name in IMPLEMENTATIONS]
)

Client = Callable[[Peer, Served, Log], Awaitable[None]]


@dataclass
class Case:
    """An application and a client, and what each of them notes."""

    app: App
    client: Client
    told: Log  # what the application notes
    answered: Log  # what the client notes
    instead: dict[str, tuple[Log, Log]] = field(default_factory=dict)  # both, where an implementation departs
    head: bytes = request()
    options: dict[str, Any] = field(default_factory=dict)


# --- applications


async def told_to_go(scope: Any, receive: Any, send: Any, log: Log) -> None:
    """Accept, and note the code of the disconnect: the words of a reason are each implementation's own."""
    await send(ACCEPT)
    while (message := await receive())["type"] != "websocket.disconnect":
        pass
    log.append(message["code"])


async def late(scope: Any, receive: Any, send: Any, log: Log) -> None:
    """Accept when the peer has gone."""
    await receive()
    note(log, await receive())
    log.append(await outcome(send(ACCEPT)))


def noting(*keys: str) -> App:
    """Note these entries of the scope, and reject the connection."""

    async def app(scope: Any, receive: Any, send: Any, log: Log) -> None:
        log.extend(scope[key] for key in keys)
        await send(REJECT)

    return app


async def noting_latin(scope: Any, receive: Any, send: Any, log: Log) -> None:
    log.extend(value for name, value in scope["headers"] if name == b"x-latin")
    await send(REJECT)


async def noting_hosts(scope: Any, receive: Any, send: Any, log: Log) -> None:
    log.extend([scope["client"][0], scope["server"][0]])
    await send(REJECT)


async def noting_extension(scope: Any, receive: Any, send: Any, log: Log) -> None:
    log.append(scope["extensions"]["websocket.http.response"])
    await send(REJECT)


async def stateful(scope: Any, receive: Any, send: Any, log: Log) -> None:
    """Set the state in the lifespan, change it in the connection, and note what the lifespan has kept."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"].update(shared=[], own="lifespan")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        log.append(scope["state"])
        await send({"type": "lifespan.shutdown.complete"})
        return
    scope["state"]["shared"].append("connection")
    scope["state"]["own"] = "connection"
    await send(REJECT)


# --- clients


async def status(client: Peer, served: Served, log: Log) -> None:
    """Note the status alone."""
    try:
        log.append(await client.response())
    except asyncio.IncompleteReadError:
        log.append("no response")


async def seeing(client: Peer, served: Served, log: Log) -> None:
    """Note all that the server says: the status, then frames, of which a close frame is answered, or the body."""
    await status(client, served, log)
    if log == [101]:
        await noting_frames(client, log)
    elif log != ["no response"]:
        log.append(body(client, await client.rest()))


async def noting_frames(client: Peer, log: Log) -> None:
    with contextlib.suppress(ConnectionError):
        while (frame := await client.frame()) is not None:
            log.append(frame)
            if frame[0] == 0x88:
                client.say(masked(CLOSE, frame[1]))
    log.append("end")


def body(client: Peer, data: bytes) -> Any:
    """The body of a response, whatever its transfer encoding, if it is whole."""
    if client.headers.get("transfer-encoding") != "chunked":
        return data if len(data) == int(client.headers.get("content-length", len(data))) else "cut off"
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        end = int(size, 16)
        if not end:
            return whole if data == b"\r\n" else "cut off"
        whole, data = whole + data[:end], data[end + 2 :]
    return "cut off"


def saying(*frames: bytes) -> Client:
    """Say this once the connection is accepted, and note what comes."""

    async def client(client: Peer, served: Served, log: Log) -> None:
        await client.response()
        client.say(*frames)
        await noting_frames(client, log)

    return client


def misbehaving(*frames: bytes) -> Client:
    """Say this once the connection is accepted, and note the code of the close frame."""

    async def client(client: Peer, served: Served, log: Log) -> None:
        frames_seen: Log = []
        await saying(*frames)(client, served, frames_seen)
        log.extend(int.from_bytes(frame[1][:2]) for frame in frames_seen if frame[0] == 0x88)

    return client


def reading(*names: str) -> Client:
    """Note these headers of the response, and leave in an orderly way."""

    async def client(client: Peer, served: Served, log: Log) -> None:
        await status(client, served, log)
        lines = client.head.decode("latin-1").split("\r\n")[1:-2]
        pairs = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        log.extend(sorted(f"{name}: {value}" for name, value in pairs if name in names))
        await closing_in_order(client)

    return client


async def counting_dates(client: Peer, served: Served, log: Log) -> None:
    await client.response()
    log.append(client.head.lower().count(b"\r\ndate:"))
    await closing_in_order(client)


async def closing_in_order(client: Peer) -> None:
    client.say(closing())
    with contextlib.suppress(ConnectionError):
        await client.rest()


async def leaving_early(client: Peer, served: Served, log: Log) -> None:
    """Hang up before the application has answered."""
    await until(lambda: served.tasks)
    client.vanish()


async def meeting_shutdown(client: Peer, served: Served, log: Log) -> None:
    """Be connected when the server goes down."""
    await client.response()
    served.server.should_exit = True
    await noting_frames(client, log)


async def waiting_for_shutdown(client: Peer, served: Served, log: Log) -> None:
    """Wait for the application's answer when the server goes down."""
    await until(lambda: served.tasks)
    served.server.should_exit = True
    await seeing(client, served, log)


# --- the table

CONNECT = ("websocket.connect",)
GONE = ("websocket.disconnect", 1006)
REJECTED = [403, b""]
FAILED = [500, b"Internal Server Error"]
CLOSED = [101, (0x88, b"\x03\xe8"), "end"]  # by a close frame with 1000
FORWARDED = request("/", "X-Forwarded-For: 10.1.2.3", "X-Forwarded-Proto: https")


def left(code: int, reason: str = "") -> tuple[Any, ...]:
    return ("websocket.disconnect", code, reason) if reason else ("websocket.disconnect", code)


SCOPE = {
    "scope": Case(
        noting("type", "http_version", "scheme", "root_path", "path", "raw_path", "query_string", "asgi", "state"),
        status,
        [
            "websocket",
            "1.1",
            "ws",
            "/root",
            "/root/a b/c\xe9",
            b"/root/a%20b/c%C3%A9",
            b"x=1&y=%20",
            {"version": "3.0", "spec_version": "2.4"},
            {},
        ],
        [403],
        head=request("/a%20b/c%C3%A9?x=1&y=%20"),
        options={"root_path": "/root"},
    ),
    "headers": Case(
        noting("headers"),
        status,
        [
            [
                (b"host", b"localhost"),
                (b"upgrade", b"websocket"),
                (b"connection", b"Upgrade"),
                (b"sec-websocket-key", KEY),
                (b"sec-websocket-version", b"13"),
                (b"x-two", b"1"),
                (b"x-two", b"2"),
                (b"x-empty", b""),
            ]
        ],
        [403],
        head=request("/", "X-Two: 1", "x-two:  2", "X-Empty:"),
    ),
    "a header in latin-1": Case(
        noting_latin,
        status,
        [b"\xe9"],
        [403],
        head=request("/", "X-Latin: \xe9"),
        instead={LEGACY: ([], [500])},  # with websockets 17 it does not find the encoding
    ),
    "extensions": Case(noting_extension, status, [{}], [403]),
    "addresses": Case(noting_hosts, status, ["127.0.0.1", "127.0.0.1"], [403]),
    "state": Case(stateful, status, [{"shared": ["connection"], "own": "lifespan"}], [403], options={"lifespan": "on"}),
    "no subprotocols": Case(noting("subprotocols"), status, [[]], [403]),
    "subprotocols": Case(
        noting("subprotocols"),
        status,
        [["one", "two", "three"]],
        [403],
        head=request("/", "Sec-WebSocket-Protocol: one, two", "Sec-WebSocket-Protocol: three"),
    ),
    "empty subprotocols": Case(
        noting("subprotocols"),
        status,
        [],
        [400],
        head=request("/", "Sec-WebSocket-Protocol:"),
        instead={OURS: ([[]], [403]), WSPROTO: ([[""]], [403]), LEGACY: ([[""]], [403])},
    ),
    "subprotocols that are no tokens": Case(
        noting("subprotocols"),
        status,
        [],
        [400],
        head=request("/", "Sec-WebSocket-Protocol: a b"),
        instead=dict.fromkeys([OURS, WSPROTO, LEGACY], ([["a b"]], [403])),
    ),
    "proxy headers": Case(noting("scheme", "client"), status, ["wss", ("10.1.2.3", 0)], [403], head=FORWARDED),
    "proxy headers with a port": Case(
        noting("scheme", "client"),
        status,
        ["wss", ("10.1.2.3", 44)],
        [403],
        head=request("/", "X-Forwarded-For: 10.1.2.3:44", "X-Forwarded-Proto: wss"),
    ),
    "proxy headers of a stranger": Case(
        noting("scheme"), status, ["ws"], [403], head=FORWARDED, options={"forwarded_allow_ips": "10.9.9.9"}
    ),
    "proxy headers switched off": Case(
        noting("scheme"), status, ["ws"], [403], head=FORWARDED, options={"proxy_headers": False}
    ),
    "tls": Case(
        noting("scheme"), status, ["wss"], [403], options={"ssl_keyfile": CERTIFICATE, "ssl_certfile": CERTIFICATE}
    ),
}

ACCEPTED = doing(ACCEPT, ALL)
ACCEPTED_TOLD = ["ok", CONNECT, left(1000)]
HANDSHAKE = {
    "accept with headers and subprotocol": Case(
        doing(
            {
                **ACCEPT,
                "subprotocol": "two",
                "headers": [(b"X-App", b"1"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")],
            },
            ALL,
        ),
        reading("x-app", "set-cookie", "sec-websocket-protocol", "connection"),
        ACCEPTED_TOLD,
        [101, "connection: Upgrade", "sec-websocket-protocol: two", "set-cookie: a=b", "set-cookie: c=d", "x-app: 1"],
        head=request("/", "Sec-WebSocket-Protocol: one, two"),
    ),
    "accept without a subprotocol": Case(
        ACCEPTED,
        reading("sec-websocket-protocol"),
        ACCEPTED_TOLD,
        [101],
        head=request("/", "Sec-WebSocket-Protocol: one"),
    ),
    "accept with a subprotocol that was not offered": Case(
        doing({**ACCEPT, "subprotocol": "two"}),
        reading("sec-websocket-protocol"),
        ["ok"],
        [101, "sec-websocket-protocol: two"],
        head=request("/", "Sec-WebSocket-Protocol: one"),
        instead={OURS: (["ok"], [101]), WSPROTO: (["LocalProtocolError"], ["no response"])},
    ),
    "default headers": Case(
        ACCEPTED,
        reading("server", "x-default"),
        ACCEPTED_TOLD,
        [101, "server: uvicorn", "x-default: d"],
        options={"headers": [("x-default", "d")]},
    ),
    "another server header": Case(
        ACCEPTED, reading("server"), ACCEPTED_TOLD, [101, "server: mine"], options={"headers": [("Server", "mine")]}
    ),
    "no server header": Case(ACCEPTED, reading("server"), ACCEPTED_TOLD, [101], options={"server_header": False}),
    "date header": Case(ACCEPTED, counting_dates, ACCEPTED_TOLD, [1]),
    "no date header": Case(
        ACCEPTED,
        counting_dates,
        ACCEPTED_TOLD,
        [0],
        options={"date_header": False},
        instead={LEGACY: (ACCEPTED_TOLD, [1])},
    ),
    "rejected": Case(doing(RECEIVE, REJECT, RECEIVE), seeing, [CONNECT, "ok", GONE], REJECTED),
    "rejected with code and reason": Case(doing({**REJECT, "code": 4000, "reason": "no"}), seeing, ["ok"], REJECTED),
    "headers of a rejection": Case(
        doing(REJECT),
        reading("content-length", "content-type", "connection"),
        ["ok"],
        [403, "connection: close", "content-length: 0", "content-type: text/plain; charset=utf-8"],
        instead={
            WSPROTO: (["ok"], [403, "content-length: 0"]),
            LEGACY: (["ok"], [403, "connection: close", "content-length: 0", "content-type: text/plain"]),
        },
    ),
    "default headers of a rejection": Case(
        doing(REJECT),
        reading("server", "x-default"),
        ["ok"],
        [403],
        options={"headers": [("x-default", "d")]},
        instead={OURS: (["ok"], [403, "server: uvicorn", "x-default: d"])},
    ),
    "raises at once": Case(doing(ZeroDivisionError), seeing, [], FAILED),
    "raises before accept": Case(doing(RECEIVE, ZeroDivisionError), seeing, [CONNECT], FAILED),
    "returns at once": Case(doing(), seeing, [], FAILED, instead={LEGACY: ([], [500, "cut off"])}),
    "returns before accept": Case(
        doing(RECEIVE), seeing, [CONNECT], FAILED, instead={LEGACY: ([CONNECT], [500, "cut off"])}
    ),
    "wrong version": Case(
        doing(RECEIVE),
        status,
        [],
        [400],
        head=request("/", "Sec-WebSocket-Version: 12", drop="Sec-WebSocket-Version"),
        instead={OURS: ([], [426]), WSPROTO: ([], [426])},
    ),
    "no version": Case(doing(RECEIVE), status, [], [400], head=request(drop="Sec-WebSocket-Version")),
    "bad key": Case(
        doing(RECEIVE),
        status,
        [],
        [400],
        head=request("/", "Sec-WebSocket-Key: x", drop="Sec-WebSocket-Key"),
        instead={WSPROTO: ([CONNECT], [500])},  # it does not look
    ),
    "no key": Case(doing(RECEIVE), status, [], [400], head=request(drop="Sec-WebSocket-Key")),
    "no GET": Case(
        doing(RECEIVE),
        status,
        [],
        [405],
        head=request(method="POST"),
        instead={WSPROTO: ([], [400]), LEGACY: ([], [400])},
    ),
    "left before accept": Case(
        late, leaving_early, [GONE, "ClientDisconnected"], [], instead={LEGACY: ([GONE, "ok"], [])}
    ),
    "shutdown before accept": Case(doing(RECEIVE, RECEIVE), waiting_for_shutdown, [CONNECT, GONE], FAILED),
}

# an application that ends within its response: uvicorn's own keep it until it is complete, wsproto's its body
ENDED_WITHIN: dict[str, tuple[Log, Log]] = {
    OURS: (["ok", "ok"], [418, "cut off"]),
    WSPROTO: (["ok", "ok"], [418, "cut off"]),
    LEGACY: (["ok", "ok"], [418, b"short "]),
}
RESPONSES = {
    "response": Case(doing(RECEIVE, START, LAST, RECEIVE), seeing, [CONNECT, "ok", "ok", GONE], [418, LAST["body"]]),
    "response in parts": Case(doing(START, PART, PART, LAST), seeing, ["ok"] * 4, [418, b"short short and stout"]),
    "response without a body": Case(doing(START, {**LAST, "body": b""}), seeing, ["ok", "ok"], [418, b""]),
    "response whose body is left out": Case(
        doing(START, {"type": LAST["type"]}, LAST),
        seeing,
        ["ok", "KeyError", "ok"],
        [418, LAST["body"]],
        instead={OURS: (["ok", "ok", "RuntimeError"], [418, b""])},  # ASGI: if missing defaults to b""
    ),
    "headers of a response": Case(
        doing({**START, "headers": [(b"X-Tea", b"1"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d")]}, LAST),
        reading("x-tea", "set-cookie", "content-length"),
        ["ok", "ok"],
        [418, "content-length: 9", "set-cookie: a=b", "set-cookie: c=d", "x-tea: 1"],
        instead={WSPROTO: (["ok", "ok"], [418, "set-cookie: a=b", "set-cookie: c=d", "x-tea: 1"])},
    ),
    "headers that a response gets": Case(
        doing(START, LAST),
        reading("content-type", "connection"),
        ["ok", "ok"],
        [418, "connection: close", "content-type: text/plain; charset=utf-8"],
        instead={
            WSPROTO: (["ok", "ok"], [418]),
            LEGACY: (["ok", "ok"], [418, "connection: close", "content-type: text/plain"]),
        },
    ),
    "headers of a response in parts": Case(
        doing(START, PART, LAST),
        reading("content-length", "transfer-encoding"),
        ["ok"] * 3,
        [418, "content-length: 15"],
        instead={
            OURS: (["ok"] * 3, [418, "transfer-encoding: chunked"]),  # the parts leave as they come
            WSPROTO: (["ok"] * 3, [418, "transfer-encoding: chunked"]),
        },
    ),
    "length and type of the application's own": Case(
        doing({**START, "headers": [(b"content-length", b"9"), (b"content-type", b"text/x")]}, LAST),
        reading("content-length", "content-type"),
        ["ok", "ok"],
        [418, "content-length: 9", "content-type: text/x"],
    ),
    "default headers of a response": Case(
        doing(START, LAST),
        reading("server", "x-default"),
        ["ok", "ok"],
        [418],
        options={"headers": [("x-default", "d")]},
        instead={OURS: (["ok", "ok"], [418, "server: uvicorn", "x-default: d"])},
    ),
    "response with a bad status": Case(
        doing({**START, "status": 1000}, REJECT),
        seeing,
        ["RuntimeError", "ok"],
        REJECTED,
        instead={LEGACY: (["ValueError", "ok"], REJECTED)},
    ),
    "part before the response": Case(doing(LAST, REJECT), seeing, ["RuntimeError", "ok"], REJECTED),
    "response twice": Case(doing(START, START, LAST), seeing, ["ok", "RuntimeError", "ok"], [418, LAST["body"]]),
    "accept within a response": Case(
        doing(START, ACCEPT, LAST), seeing, ["ok", "RuntimeError", "ok"], [418, LAST["body"]]
    ),
    "close within a response": Case(
        doing(START, CLOSE_IT, LAST), seeing, ["ok", "RuntimeError", "ok"], [418, LAST["body"]]
    ),
    "part after the response": Case(
        doing(START, LAST, LAST),
        seeing,
        ["ok", "ok", "AssertionError"],
        [418, LAST["body"]],
        instead={
            OURS: (["ok", "ok", "RuntimeError"], [418, LAST["body"]]),
            WSPROTO: (["ok", "ok", "LocalProtocolError"], [418, LAST["body"]]),
            LEGACY: (["ok", "ok", "ok"], [418, 2 * LAST["body"]]),
        },
    ),
    "close after the response": Case(
        doing(START, LAST, CLOSE_IT), seeing, ["ok", "ok", "RuntimeError"], [418, LAST["body"]]
    ),
    "raises within a response": Case(
        doing(START, PART, ZeroDivisionError),
        seeing,
        ["ok", "ok"],
        ["no response"],
        instead=ENDED_WITHIN,
    ),
    "returns within a response": Case(
        doing(START, PART),
        seeing,
        ["ok", "ok"],
        ["no response"],
        instead=ENDED_WITHIN,
    ),
    "raises before the first part": Case(
        doing(START, ZeroDivisionError),
        seeing,
        ["ok"],
        ["no response"],
        instead={WSPROTO: (["ok"], [418, "cut off"]), LEGACY: (["ok"], [418, b""])},
    ),
    "returns before the first part": Case(
        doing(START),
        seeing,
        ["ok"],
        ["no response"],
        instead={WSPROTO: (["ok"], [418, "cut off"]), LEGACY: (["ok"], [418, b""])},
    ),
    "raises after the response": Case(doing(START, LAST, ZeroDivisionError), seeing, ["ok", "ok"], [418, LAST["body"]]),
}

MESSAGES = {
    "messages": Case(
        doing(RECEIVE, ACCEPT, ALL),
        saying(masked(TEXT, b"t"), masked(BINARY, b"b"), closing(1001, "bye")),
        [CONNECT, "ok", ("websocket.receive", "t"), ("websocket.receive", b"b"), left(1001, "bye")],
        [(0x88, b"\x03\xe9bye"), "end"],
    ),
    "fragments and a ping": Case(
        doing(ACCEPT, ALL),
        saying(masked(TEXT, b"a", fin=False), masked(PING, b"?"), masked(CONTINUATION, b"b"), closing()),
        ["ok", CONNECT, ("websocket.receive", "ab"), left(1000)],
        [(0x8A, b"?"), *CLOSED[1:]],
    ),
    "answers": Case(
        doing(
            ACCEPT,
            {"type": "websocket.send", "text": "t\xfc", "bytes": None},
            {"type": "websocket.send", "text": None, "bytes": b"\x00"},
            CLOSE_IT,
        ),
        seeing,
        ["ok"] * 4,
        [101, (0x81, "t\xfc".encode()), (0x82, b"\x00"), *CLOSED[1:]],
    ),
    "text and bytes at once": Case(
        doing(ACCEPT, {"type": "websocket.send", "text": "t", "bytes": b"b"}, CLOSE_IT),
        seeing,
        ["ok"] * 3,
        [101, (0x82, b"b"), *CLOSED[1:]],
        instead={OURS: (["ok"] * 3, [101, (0x81, b"t"), *CLOSED[1:]])},
    ),
    "neither text nor bytes": Case(
        doing(ACCEPT, {"type": "websocket.send"}, CLOSE_IT),
        seeing,
        ["ok"] * 3,
        CLOSED,
        instead={
            OURS: (["ok", "RuntimeError", "ok"], CLOSED),
            WSPROTO: (["ok", "TypeError", "ok"], CLOSED),
            LEGACY: (["ok", "TypeError", "ok"], CLOSED),
        },
    ),
    "close without a code": Case(told_to_go, saying(closing(None)), [1005], [(0x88, b""), "end"]),
    "tcp lost": Case(told_to_go, status, [1005], [101], instead={OURS: ([1006], [101]), LEGACY: ([1006], [101])}),
    "shutdown": Case(told_to_go, meeting_shutdown, [1012], [(0x88, b"\x03\xf4"), "end"]),
    # wsproto's does not send a close frame to a peer that breaks the protocol, and the legacy one tells nothing of it
    "reserved close code": Case(
        told_to_go,
        misbehaving(closing(1006)),
        [1002],
        [1002],
        instead={WSPROTO: ([1002], []), LEGACY: ([1006], [1002])},
    ),
    "unmasked": Case(
        told_to_go,
        misbehaving(masked(TEXT, b"x", mask=b"")),
        [1002],
        [1002],
        instead={WSPROTO: ([1002], []), LEGACY: ([1006], [1002])},
    ),
    "invalid UTF-8": Case(
        told_to_go,
        misbehaving(masked(TEXT, b"\xff")),
        [1007],
        [1007],
        instead={WSPROTO: ([1007], []), LEGACY: ([1006], [1007])},
    ),
    "too large": Case(
        told_to_go,
        misbehaving(masked(TEXT, b"x" * 11)),
        [1009],
        [1009],
        options={"ws_max_size": 10},
        instead={LEGACY: ([1006], [1009])},
    ),
    "too large in fragments": Case(
        told_to_go,
        misbehaving(masked(TEXT, b"x" * 6, fin=False), masked(CONTINUATION, b"x" * 6)),
        [1009],
        [1009],
        options={"ws_max_size": 10},
        instead={LEGACY: ([1006], [1009])},
    ),
    "no answer to pings": Case(
        told_to_go,
        misbehaving(),
        [1005],
        [1011],
        options={"ws_ping_interval": 0.05, "ws_ping_timeout": 0.05},
        instead={OURS: ([1011], [1011]), LEGACY: ([1006], [1011])},
    ),
}

ENDS = {
    "closes": Case(
        doing(ACCEPT, RECEIVE, CLOSE_IT, RECEIVE),
        seeing,
        ["ok", CONNECT, "ok", left(1000)],
        CLOSED,
        instead={LEGACY: (["ok", CONNECT, "ok", left(1005)], CLOSED)},
    ),
    "closes with code and reason": Case(
        doing(ACCEPT, RECEIVE, {**CLOSE_IT, "code": 3333, "reason": "done"}, RECEIVE),
        seeing,
        ["ok", CONNECT, "ok", left(3333, "done")],
        [101, (0x88, b"\x0d\x05done"), "end"],
        instead={LEGACY: (["ok", CONNECT, "ok", left(1005)], [101, (0x88, b"\x0d\x05done"), "end"])},
    ),
    "closes with a reason of None": Case(
        doing(ACCEPT, {**CLOSE_IT, "code": 1001, "reason": None}), seeing, ["ok"] * 2, [101, (0x88, b"\x03\xe9"), "end"]
    ),
    "closes with 1005": Case(
        doing(ACCEPT, {**CLOSE_IT, "code": 1005}),
        seeing,
        ["ok", "ProtocolError"],
        [101, "end"],
        instead={OURS: (["ok"] * 2, [101, (0x88, b""), "end"]), WSPROTO: (["ok"] * 2, CLOSED)},
    ),
    "closes with a code of None": Case(
        doing(ACCEPT, {**CLOSE_IT, "code": None}),
        seeing,
        ["ok"] * 2,
        [101, (0x88, b""), "end"],
        instead={OURS: (["ok"] * 2, CLOSED), LEGACY: (["ok", "TypeError"], [101, "end"])},
    ),
    "raises after accept": Case(
        doing(ACCEPT, ZeroDivisionError),
        seeing,
        ["ok"],
        [101, "end"],
        instead={OURS: (["ok"], [101, (0x88, b"\x03\xf3"), "end"])},
    ),
    "raises after a message": Case(
        doing(ACCEPT, SEND, ZeroDivisionError),
        seeing,
        ["ok"] * 2,
        [101, (0x81, b"x"), "end"],
        instead={OURS: (["ok"] * 2, [101, (0x81, b"x"), (0x88, b"\x03\xf3"), "end"])},
    ),
    "raises after close": Case(doing(ACCEPT, CLOSE_IT, ZeroDivisionError), seeing, ["ok"] * 2, CLOSED),
    "raises after the peer closed": Case(
        doing(ACCEPT, ALL, ZeroDivisionError), saying(closing()), ["ok", CONNECT, left(1000)], CLOSED[1:]
    ),
    "returns after accept": Case(doing(ACCEPT), seeing, ["ok"], [101, "end"], instead={OURS: (["ok"], CLOSED)}),
    "returns after a message": Case(
        doing(ACCEPT, SEND),
        seeing,
        ["ok"] * 2,
        [101, (0x81, b"x"), "end"],
        instead={OURS: (["ok"] * 2, [101, (0x81, b"x"), *CLOSED[1:]])},
    ),
    "send after the peer closed": Case(
        doing(ACCEPT, ALL, SEND),
        saying(closing()),
        ["ok", CONNECT, left(1000), "ClientDisconnected"],
        CLOSED[1:],
        instead={LEGACY: (["ok", CONNECT, left(1000), "RuntimeError"], CLOSED[1:])},
    ),
    "close after the peer closed": Case(
        doing(ACCEPT, ALL, CLOSE_IT),
        saying(closing()),
        ["ok", CONNECT, left(1000), "ok"],
        CLOSED[1:],
        instead={
            WSPROTO: (["ok", CONNECT, left(1000), "ClientDisconnected"], CLOSED[1:]),
            LEGACY: (["ok", CONNECT, left(1000), "RuntimeError"], CLOSED[1:]),
        },
    ),
    "send after the peer vanished": Case(
        doing(ACCEPT, ALL, SEND),
        status,
        ["ok", CONNECT, left(1005), "ClientDisconnected"],
        [101],
        instead={
            OURS: (["ok", CONNECT, left(1006), "ClientDisconnected"], [101]),
            LEGACY: (["ok", CONNECT, left(1006), "RuntimeError"], [101]),
        },
    ),
    "close after the peer vanished": Case(
        doing(ACCEPT, ALL, CLOSE_IT),
        status,
        ["ok", CONNECT, left(1005), "ClientDisconnected"],
        [101],
        instead={
            OURS: (["ok", CONNECT, left(1006), "ClientDisconnected"], [101]),
            LEGACY: (["ok", CONNECT, left(1006), "RuntimeError"], [101]),
        },
    ),
}

OUT_OF_ORDER = {
    name: Case(doing(*steps), seeing, told, CLOSED if steps[0] is ACCEPT else REJECTED)
    for name, steps, told in [
        ("send before accept", [SEND, REJECT], ["RuntimeError", "ok"]),
        ("unknown message", [{"type": "websocket.ping"}, REJECT], ["RuntimeError", "ok"]),
        ("accept after a rejection", [REJECT, ACCEPT], ["ok", "RuntimeError"]),
        ("send after a rejection", [REJECT, SEND], ["ok", "RuntimeError"]),
        ("response after a rejection", [REJECT, START], ["ok", "RuntimeError"]),
        ("close after a rejection", [REJECT, CLOSE_IT], ["ok", "RuntimeError"]),
        ("accept twice", [ACCEPT, ACCEPT, CLOSE_IT], ["ok", "RuntimeError", "ok"]),
        ("response after accept", [ACCEPT, START, CLOSE_IT], ["ok", "RuntimeError", "ok"]),
        ("unknown message after accept", [ACCEPT, {"type": "websocket.ping"}, CLOSE_IT], ["ok", "RuntimeError", "ok"]),
        ("accept after close", [ACCEPT, CLOSE_IT, ACCEPT], ["ok", "ok", "RuntimeError"]),
        ("send after close", [ACCEPT, CLOSE_IT, SEND], ["ok", "ok", "RuntimeError"]),
        ("close twice", [ACCEPT, CLOSE_IT, CLOSE_IT], ["ok", "ok", "RuntimeError"]),
    ]
}

# --- an application of FastAPI's, in middleware of Starlette's


async def refusing() -> None:
    raise HTTPException(401, "who are you?", headers={"WWW-Authenticate": "Basic"})


async def closing_early() -> None:
    raise WebSocketException(4003, "not you")


async def fastapis(scope: Any, receive: Any, send: Any, log: Log) -> None:
    await FASTAPI(scope, receive, send)


inner = FastAPI()
inner.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
FASTAPI = FastAPI()
FASTAPI.add_middleware(CORSMiddleware, allow_origins=["https://example.org"])
FASTAPI.add_middleware(GZipMiddleware, minimum_size=1)
FASTAPI.mount("/inner", inner)
FASTAPI.mount("/trusted", TrustedHostMiddleware(inner, allowed_hosts=["example.org"]))


@inner.websocket("/{number}")
async def telling(websocket: WebSocket, number: int) -> None:
    await websocket.accept()
    await websocket.send_json([number, websocket.scope["root_path"], websocket.url.path])
    await websocket.close(4001, "told")


@FASTAPI.websocket("/refused", dependencies=[Depends(refusing)])
@FASTAPI.websocket("/closed", dependencies=[Depends(closing_early)])
@FASTAPI.websocket("/query")
async def asking(websocket: WebSocket, number: int = 0) -> None:
    await websocket.accept()
    raise WebSocketException(4002, str(number))


@FASTAPI.websocket("/denied")
async def denying(websocket: WebSocket) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"not "
        yield b"today"

    await websocket.send_denial_response(StreamingResponse(parts(), 429))


def at(path: str, *answered: Any) -> Case:
    return Case(fastapis, seeing, [], [*answered], head=request(path, "Origin: https://example.com"))


FRAMEWORK = {
    "a dependency that raises HTTPException": at("/refused", 401, b'{"detail":"who are you?"}'),
    "a dependency that raises WebSocketException": at("/closed", *REJECTED),
    "a parameter of the query": at("/query?number=5", 101, (0x88, b"\x0f\xa25"), "end"),
    "a parameter that is wrong": at("/query?number=x", *REJECTED),
    "a denial that streams": at("/denied", 429, b"not today"),
    "a mounted application": at("/inner/5?x", 101, (0x81, b'[5,"/inner","/inner/5"]'), (0x88, b"\x0f\xa1told"), "end"),
    "a parameter of the path that is wrong": at("/inner/x", *REJECTED),
    "a middleware that refuses": at("/trusted/5", 400, b"Invalid host header"),
    "no route": at("/nowhere", *REJECTED),
}

CASES = SCOPE | HANDSHAKE | RESPONSES | MESSAGES | ENDS | OUT_OF_ORDER | FRAMEWORK


async def observed(case: Case, implementation: str, http: str) -> tuple[Log, Log]:
    """What application and client of `case` note."""
    told: Log = []
    answered: Log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await case.app(scope, receive, send, told)

    tls = ssl.create_default_context(cafile=CERTIFICATE) if "ssl_certfile" in case.options else None
    async with serving(app, **{"ws": IMPLEMENTATIONS[implementation], "http": http, **case.options}) as served:
        async with peer(served, case.head, ssl=tls, server_hostname="localhost" if tls else None) as client:
            await case.client(client, served, answered)
        await served.idle()
    return told, answered


@functools.cache
def outcomes(implementation: str, http: str) -> dict[str, Any]:
    """What was seen in each case, or raised. Each has its own server, which takes 0.2 s to end: all run at once."""

    async def main() -> list[Any]:
        everything = (observed(case, implementation, http) for case in CASES.values())
        return await asyncio.gather(*everything, return_exceptions=True)

    return dict(zip(CASES, run(main()), strict=True))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("http", ["h11", "httptools"])
@implementations
def test_all_implementations_show_the_same(implementation: str, http: str, name: str) -> None:
    """An application and a client cannot tell which implementation serves them, save as documented."""
    seen = outcomes(implementation, http)[name]
    if isinstance(seen, BaseException):
        raise seen
    case = CASES[name]
    assert seen == case.instead.get(implementation, (case.told, case.answered))


TARGET = "/%C3%A9?x=1&y=%20"
FAILURE = "ERROR Exception in ASGI application\n"


@pytest.mark.parametrize(
    ("app", "lines"),
    [
        (doing(ACCEPT), [f'INFO 10.1.2.3:44 - "WebSocket {TARGET}" [accepted]']),
        (doing(REJECT), [f'INFO 10.1.2.3:44 - "WebSocket {TARGET}" 403']),
        (doing(START, LAST), [f'INFO 10.1.2.3:44 - "WebSocket {TARGET}" 418']),
        (doing(ZeroDivisionError), [FAILURE]),
        (doing(ACCEPT, ZeroDivisionError), [f'INFO 10.1.2.3:44 - "WebSocket {TARGET}" [accepted]', FAILURE]),
        (doing(START, PART, ZeroDivisionError), [f'INFO 10.1.2.3:44 - "WebSocket {TARGET}" 418', FAILURE]),
    ],
    ids=["accepted", "rejected", "answered", "raises", "raises after accept", "raises within a response"],
)
@implementations
def test_log(implementation: str, app: App, lines: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """
    Outcomes of handshakes and errors of the application are logged in uvicorn's words, with its traceback.

    Ours hides the query, in which tokens are.
    """
    case = Case(app, reading(), [], [], head=request(TARGET, "X-Forwarded-For: 10.1.2.3:44"))
    with caplog.at_level(logging.INFO, "uvicorn.error"):
        run(observed(case, implementation, "httptools"))
    logged = [record for record in caplog.records if "WebSocket" in record.msg or record.levelno > logging.INFO]
    # what sansio's says of a response that is complete
    said = [f"{record.levelname} {record.getMessage()}" for record in logged if "completing" not in record.msg]
    if implementation == "socketsundso":
        lines = [line.replace("?x=1&y=%20", "?***") for line in lines]
    assert said == lines
    assert all(record.exc_info for record in logged if record.getMessage() == FAILURE.partition(" ")[2])
