"""What goes wrong in the world: after it nothing is left, and the server still answers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
import websockets.asyncio.client

from socketsundso.server.inbox import Inbox
from socketsundso.server.outbox import Outbox
from socketsundso.server.protocol import WebSocketProtocol
from tests.server.serving import (
    BINARY,
    CERTIFICATE,
    CONTINUATION,
    TEXT,
    Peer,
    Served,
    closing,
    echo,
    masked,
    peer,
    request,
    run,
    serving,
    until,
)

both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def left() -> dict[str, int]:
    """What connections could leave behind."""
    gc.collect()
    ours = (WebSocketProtocol, Inbox, Outbox)
    loop = asyncio.get_running_loop()
    return {
        "objects": sum(isinstance(thing, ours) for thing in gc.get_objects()),
        "parsers": sum(type(thing).__name__ == "WSProtocol" for thing in gc.get_objects()),
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0,
        "timers": sum(
            not handle.cancelled() and "socketsundso" in repr(handle) for handle in getattr(loop, "_scheduled", [])
        ),
    }


@contextlib.asynccontextmanager
async def leaving_nothing(served: Served) -> AsyncIterator[None]:
    """Whatever happens inside leaves nothing, and the server still answers."""
    async with peer(served) as client:  # warm: what the first connection makes stays
        client.say(closing())
        await client.closed()
    await served.idle()
    before = left()
    yield
    async with peer(served) as client:
        client.say(masked(TEXT, b"still there?"), closing())
        assert await client.text() == "still there?"
        await client.closed()
    await served.idle()
    await asyncio.sleep(0.02)  # picows' own 10 ms after an error
    await until(lambda: left() == before)


async def mid_handshake(served: Served) -> None:
    client = Peer(*await asyncio.open_connection("127.0.0.1", served.port))
    client.say(request()[:50])
    await client.writer.drain()
    client.vanish()


async def before_accept(served: Served) -> None:
    client = Peer(*await asyncio.open_connection("127.0.0.1", served.port))
    client.say(request())
    await client.writer.drain()
    client.vanish()


def mid(data: bytes) -> Callable[[Served], Any]:
    async def fault(served: Served) -> None:
        async with peer(served) as client:
            client.say(data)
            await client.writer.drain()
            client.vanish()

    return fault


FAULTS = {
    "mid handshake": mid_handshake,
    "before accept": before_accept,
    "mid header": mid(masked(TEXT, bytes(1000))[:1]),
    "mid frame": mid(masked(TEXT, bytes(1000))[:500]),
    "mid large frame": mid(masked(BINARY, bytes(1_000_000))[:700_000]),
    "mid fragments": mid(masked(TEXT, b"a", fin=False) + masked(CONTINUATION, b"b", fin=False)),
    "after a violation": mid(masked(TEXT, b"\xff")),
    "after its close frame": mid(closing()),
}


@both_loops
@pytest.mark.parametrize("name", FAULTS)
def test_killed_clients(name: str, loop: str) -> None:
    """A client that is killed at any moment leaves no object, task, timer or file behind."""

    async def main() -> None:
        async with serving(echo) as served, leaving_nothing(served):
            for _ in range(20):
                await FAULTS[name](served)

    run(main(), loop)


async def raises(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    await receive()
    if (await receive()).get("text") == "raise":
        raise ZeroDivisionError
    await send({"type": "websocket.close"})


async def closes_twice(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 1000})
    with contextlib.suppress(RuntimeError):
        await send({"type": "websocket.close", "code": 1000})


async def never_receives(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})
    with contextlib.suppress(OSError):
        while True:
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("app", [raises, closes_twice, never_receives])
def test_difficult_applications(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that raises, closes twice or never receives leaves nothing behind either."""
    # pytest keeps log records, and with their tracebacks the frames of the application
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "disabled", True)

    async def chosen(scope: Any, receive: Any, send: Any) -> None:
        await (app if scope["path"] == "/difficult" else echo)(scope, receive, send)

    async def main() -> None:
        async with serving(chosen) as served, leaving_nothing(served):
            for _ in range(20):
                async with peer(served, request("/difficult")) as client:
                    assert await client.response() == 101
                    client.say(masked(TEXT, b"raise"))
                    assert await client.frame() is not None
                    client.say(closing())

    run(main())


def test_reader_that_stops_and_dies() -> None:
    """A peer that stops reading and is killed frees what was buffered for it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await echo(scope, receive, send)
            return
        await send({"type": "websocket.accept"})
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "websocket.send", "bytes": bytes(100_000)})

    async def main() -> None:
        async with serving(app) as served, leaving_nothing(served):
            for _ in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
                writer.write(request("/flood"))
                await until(lambda: any(getattr(c, "writing_blocked", False) for c in served.connections))
                writer.transport.abort()
                await served.idle()

    run(main())


def rss() -> int:
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(180)
def test_ten_thousand_connections_opened_and_dropped() -> None:
    """10,000 connections that come, speak and drop leave nothing, and memory does not grow with them."""

    async def one(served: Served, i: int) -> None:
        async with peer(served) as client:
            client.say(masked(TEXT, b"x"))
            assert await client.text() == "x"
            if i % 3 == 0:
                client.vanish()
            elif i % 3 == 1:
                client.say(closing())
                await client.closed()

    async def main() -> None:
        async with serving(echo) as served, leaving_nothing(served):
            grown = []
            for _ in range(5):
                for _ in range(20):
                    await asyncio.gather(*(one(served, i) for i in range(100)))
                await served.idle()
                gc.collect()
                grown.append(rss())
            assert grown[-1] - grown[0] < 4_000_000

    async def bounded() -> None:
        async with asyncio.timeout(150):
            await main()

    uvloop.run(bounded())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_messages_do_not_pin_memory() -> None:
    """A connection that has echoed a 1 MiB message weighs no more than an idle one afterwards."""
    sizes = []

    async def main() -> None:
        async with serving(echo) as served, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(peer(served)) for _ in range(50)]
            for client in clients:
                client.say(masked(BINARY, bytes(1 << 20), mask=b"abcd"))
                await client.frame()
            for connection in served.connections:
                sizes.append(len(connection._parser.get_buffer(-1)))
            for client in clients:
                client.say(masked(TEXT, b"after"))
                assert await client.text() == "after"

    run(main())
    assert set(sizes) == {1792}


def test_bursts_do_not_pin_memory() -> None:
    """A read buffer that a burst has grown is given back when the next pong comes."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            client.say(*[masked(TEXT, b"%d" % i) for i in range(5000)])
            assert [await client.text() for _ in range(5000)] == [str(i) for i in range(5000)]
            (connection,) = served.connections
            client.say(masked(10, b"unasked"), masked(TEXT, b"x"))
            await client.text()
            client.say(masked(10, b"unasked"))
            await until(lambda: len(connection._parser.get_buffer(-1)) == 1792)
            client.say(masked(TEXT, b"after"))
            assert await client.text() == "after"

    run(main())


@both_loops
def test_tls(loop: str) -> None:
    """Over TLS: scheme wss, messages of all sizes, both closing handshakes, and nothing left."""
    schemes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        schemes.append(scope["scheme"])
        await echo(scope, receive, send)

    async def main() -> None:
        context = ssl.create_default_context(cafile=CERTIFICATE)
        async with serving(app, ssl_keyfile=CERTIFICATE, ssl_certfile=CERTIFICATE) as served:
            url = f"wss://localhost:{served.port}"
            async with websockets.asyncio.client.connect(url, ssl=context, max_size=None) as client:
                for message in ("", "x", "y" * 100_000, b"z" * 3_000_000):
                    await client.send(message)
                    assert await client.recv() == message
            assert client.close_code == 1000
            async with websockets.asyncio.client.connect(url, ssl=context) as client:
                served.server.should_exit = True
                with pytest.raises(websockets.exceptions.ConnectionClosed):
                    await client.recv()
            assert client.close_code == 1012

    run(main(), loop)
    assert schemes == ["wss", "wss"]


SERVER = """
import sys, uvicorn
from socketsundso.server import WebSocketProtocol
from tests.server.serving import echo

async def app(scope, receive, send):
    try:
        await echo(scope, receive, send)
    except OSError:
        pass

class Announcing(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup()
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

Announcing(uvicorn.Config(app, port=0, ws=WebSocketProtocol, lifespan="off", loop=sys.argv[1], access_log=False)).run()
"""


@both_loops
def test_sigterm_under_load(loop: str) -> None:
    """SIGTERM while every connection is busy: each one gets 1012, the process ends, no traceback is logged."""

    async def busy(port: int) -> int | None:
        async with websockets.asyncio.client.connect(f"ws://127.0.0.1:{port}", compression=None) as client:
            try:
                while True:
                    await client.send("x" * 100)
                    await client.recv()
            except websockets.exceptions.ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None

    async def main(process: subprocess.Popen[str], port: int) -> list[int | None]:
        tasks = [asyncio.create_task(busy(port)) for _ in range(50)]
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        return list(await asyncio.gather(*tasks))

    command = [sys.executable, "-c", SERVER, loop]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        codes = run(main(process, int(process.stdout.readline())))
        started = time.monotonic()
        errors = process.stderr.read()
        process.wait(30)
    assert set(codes) == {1012}
    assert time.monotonic() - started < 20
    assert "Traceback" not in errors
