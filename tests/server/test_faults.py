"""What goes wrong in the world: after it nothing is left, and the server still answers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import logging
import os
import resource
import signal
import ssl
import subprocess
import sys
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.client

from socketsundso.server import protocol
from socketsundso.server.deflate import Contexts, Inflation
from socketsundso.server.head import HeadWatch
from socketsundso.server.inbox import Inbox
from socketsundso.server.messages import Messages
from socketsundso.server.outbox import Outbox
from socketsundso.server.protocol import WebSocketProtocol
from tests.server.serving import (
    BINARY,
    BOUNDED_HTTP,
    CERTIFICATE,
    CONTINUATION,
    LOOPS,
    TEXT,
    Peer,
    Served,
    both_loops,
    closing,
    echo,
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
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these applications would let their peers wait for as long as they may."""
    monkeypatch.setattr(protocol, "HOLD_S", 0.1)


OURS = (WebSocketProtocol, Inbox, Outbox, Messages, Contexts, Inflation, HeadWatch)


def left() -> dict[str, int]:
    """What connections could leave behind."""
    gc.collect()
    things = gc.get_objects()
    return {
        "objects": sum(isinstance(thing, OURS) for thing in things),
        "parsers": sum(type(thing).__name__ == "WSProtocol" for thing in things),
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0,
        "timers": sum(_is_of_a_connection(thing) for thing in things if type(thing).__name__ == "TimerHandle"),
    }


def _is_of_a_connection(timer: Any) -> bool:
    # all that shows on both loops is the name of what is called
    names = ("WebSocketProtocol", "Keepalive", "HeadWatch", "abort")
    return not timer.cancelled() and any(name in repr(timer) for name in names)


def blocks() -> int:
    """Allocated blocks of memory, without those of cancelled timers: asyncio forgets them a hundred at a time."""
    loop: Any = asyncio.get_running_loop()
    if hasattr(loop, "_scheduled"):
        loop._scheduled = [timer for timer in loop._scheduled if not timer.cancelled()]
        heapq.heapify(loop._scheduled)
        loop._timer_cancelled_count = 0
    gc.collect()
    return sys.getallocatedblocks()


async def leaves_nothing(served: Served, happens: Callable[[], Awaitable[object]], connections: int) -> None:
    """
    Once it has happened to so many connections nothing is left of it, not two blocks of memory each, and the server
    still answers.

    What stays from the first time, caches and the room for so many connections at once, has been there before.
    """
    await happens()
    await answers(served)
    gc.collect()
    gc.freeze()  # what is there now needs not be looked through again and again
    try:
        before, allocated = left(), blocks()
        await happens()
        await answers(served)
        # picows acts once more 10 ms after an error, which may be there in `before` and not now
        await until(lambda: all(count <= before[what] for what, count in left().items()))
        await until(lambda: blocks() - allocated < 2 * connections)
    finally:
        gc.unfreeze()


async def answers(served: Served) -> None:
    async with peer(served) as client:
        client.say(masked(TEXT, b"still there?"))
        assert await client.text() == "still there?"
        client.say(closing())
        await client.closed()
    await served.idle()


async def without_a_word(served: Served) -> None:
    async with peer(served, b""):
        pass


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


async def mid_compressed_message(served: Served) -> None:
    async with peer(served, request("/", "Sec-WebSocket-Extensions: permessage-deflate")) as client:
        assert await client.response() == 101
        assert "sec-websocket-extensions" in client.headers
        client.say(masked(TEXT, zlib.compress(b"x" * 1000, wbits=-12)[:5], fin=False, rsv=4))
        await client.writer.drain()
        client.vanish()


FAULTS = {
    "without a word": without_a_word,
    "mid handshake": mid_handshake,
    "before accept": before_accept,
    "mid header": mid(masked(TEXT, bytes(1000))[:1]),
    "mid frame": mid(masked(TEXT, bytes(1000))[:500]),
    "mid large frame": mid(masked(BINARY, bytes(1_000_000))[:700_000]),
    "mid fragments": mid(masked(TEXT, b"a", fin=False) + masked(CONTINUATION, b"b", fin=False)),
    "mid compressed message": mid_compressed_message,
    "after a violation": mid(masked(TEXT, b"\xff")),
    "after its close frame": mid(closing()),
}


@both_loops
@pytest.mark.parametrize("name", FAULTS)
def test_killed_clients(name: str, loop: str) -> None:
    """A client that is killed at any moment leaves no object, task, timer or file behind."""

    async def main() -> None:
        async with serving(echo) as served:
            await leaves_nothing(served, lambda: together(100, FAULTS[name], served), 100)

    run(main(), loop)


@both_loops
@pytest.mark.parametrize("http", BOUNDED_HTTP)
@pytest.mark.parametrize("name", ["without a word", "mid handshake", "before accept"])
def test_killed_clients_under_run(name: str, http: str, loop: str) -> None:
    """The HTTP protocols of `socketsundso run` leave no watch over a head behind."""

    async def main() -> None:
        async with serving(echo, http=BOUNDED_HTTP[http]) as served:
            await leaves_nothing(served, lambda: together(100, FAULTS[name], served), 100)

    run(main(), loop)


async def floods(scope: Any, receive: Any, send: Any, log: Log) -> None:
    """Send for as long as there is a peer, and never receive."""
    await send(ACCEPT)
    with contextlib.suppress(OSError):
        while True:
            await send(SEND)
            await asyncio.sleep(0.005)


def block() -> None:
    time.sleep(0.002)


APPLICATIONS: dict[str, App] = {
    "floods": floods,
    "blocks the event loop": doing(ACCEPT, RECEIVE, block, RECEIVE, block, SEND, ALL),
    "blocks the event loop before accept": doing(block, ACCEPT, ALL),
    "raises at once": doing(ZeroDivisionError),
    "raises before accept": doing(RECEIVE, ZeroDivisionError),
    "raises after accept": doing(ACCEPT, ZeroDivisionError),
    "raises after a message": doing(ACCEPT, RECEIVE, RECEIVE, SEND, ZeroDivisionError),
    "raises after close": doing(ACCEPT, CLOSE_IT, ZeroDivisionError),
    "raises after the peer closed": doing(ACCEPT, ALL, ZeroDivisionError),
    "raises after a rejection": doing(REJECT, ZeroDivisionError),
    "raises before the first part": doing(START, ZeroDivisionError),
    "raises within a response": doing(START, PART, ZeroDivisionError),
    "raises after a response": doing(START, LAST, ZeroDivisionError),
    "is cancelled": doing(ACCEPT, asyncio.CancelledError),
    "returns at once": doing(),
    "returns before accept": doing(RECEIVE),
    "returns after accept": doing(ACCEPT),
    "returns after a message": doing(ACCEPT, RECEIVE, RECEIVE, SEND),
    "returns before the first part": doing(START),
    "returns within a response": doing(START, PART),
    "closes twice": doing(ACCEPT, CLOSE_IT, CLOSE_IT),
    "closes twice at the end": doing(ACCEPT, ALL, CLOSE_IT, CLOSE_IT),
    "rejects twice": doing(REJECT, REJECT),
    "goes on after close": doing(ACCEPT, CLOSE_IT, SEND, ALL, SEND),
}


async def together(times: int, fault: Callable[[Served], Awaitable[None]], served: Served) -> None:
    await asyncio.gather(*(fault(served) for _ in range(times)))


async def visit(served: Served) -> None:
    """Speak, close, and read to the end, whatever comes."""
    async with peer(served, request("/difficult")) as client:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await client.response()
            client.say(masked(TEXT, b"hello"), closing())
            await client.rest()


def serving_at(path: str, app: App) -> Any:
    """Serve `app` at `path`, and the echo elsewhere."""

    async def chosen(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == path:
            await app(scope, receive, send, [])
        else:
            await echo(scope, receive, send)

    return serving(chosen)


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest keeps log records, and with their tracebacks the frames of the application."""
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "disabled", True)


@both_loops
@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.usefixtures("unlogged")
def test_difficult_applications(name: str, loop: str) -> None:
    """An application that blocks, raises, returns or repeats itself at any stage leaves nothing behind either."""

    async def main() -> None:
        async with serving_at("/difficult", APPLICATIONS[name]) as served:
            await leaves_nothing(served, lambda: together(100, visit, served), 100)

    run(main(), loop)


@both_loops
def test_application_that_waits_for_something_else(loop: str) -> None:
    """A handler that never receives outlives its peer; when it ends nothing is left."""

    async def main() -> None:
        waits = asyncio.Event()
        async with serving_at("/difficult", doing(ACCEPT, waits.wait)) as served:

            async def outlived() -> None:
                waits.clear()
                await together(100, visit, served)
                assert len(served.tasks) == 100
                assert not served.connections
                waits.set()

            await leaves_nothing(served, outlived, 100)

    run(main(), loop)


async def floods_widely(scope: Any, receive: Any, send: Any, log: Log) -> None:
    await send(ACCEPT)
    with contextlib.suppress(OSError):
        while True:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})


@both_loops
def test_reader_that_stops_and_dies(loop: str) -> None:
    """A peer that stops reading and is killed frees what was buffered for it."""

    async def stops(served: Served) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        writer.write(request("/flood"))
        address = writer.get_extra_info("sockname")
        await until(lambda: blocked(served, address))
        writer.transport.abort()

    def blocked(served: Served, address: object) -> bool:
        return any(
            connection.writing_blocked
            for connection in served.connections
            if isinstance(connection, WebSocketProtocol) and connection._scope["client"] == address
        )

    async def main() -> None:
        async with serving_at("/flood", floods_widely) as served:
            await leaves_nothing(served, lambda: together(25, stops, served), 25)

    run(main(), loop)


def rss() -> int:
    """Resident bytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(180)
@both_loops
def test_ten_thousand_connections_opened_and_dropped(loop: str) -> None:
    """10,000 connections that come, speak and drop leave nothing, and memory does not grow with them."""
    grown = []

    async def one(served: Served, i: int) -> None:
        async with peer(served) as client:
            client.say(masked(TEXT, b"x"))
            assert await client.text() == "x"
            if i % 3 == 0:
                client.vanish()
            elif i % 3 == 1:
                client.say(closing())
                await client.closed()

    async def five_thousand(served: Served) -> None:
        for _ in range(50):
            await asyncio.gather(*(one(served, i) for i in range(100)))
        await served.idle()
        gc.collect()
        grown.append(rss())

    async def main() -> None:
        async with serving(echo) as served:
            await leaves_nothing(served, lambda: five_thousand(served), 5000)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(main(), 150))
    assert grown[1] - grown[0] < 2_000_000


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

    answers: set[Any] = set()

    async def busy(port: int) -> int | None:
        async with websockets.asyncio.client.connect(
            f"ws://127.0.0.1:{port}", compression=None, open_timeout=None
        ) as client:
            try:
                while True:
                    await client.send("x" * 100)
                    await client.recv()
                    answers.add(client)
            except websockets.exceptions.ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None

    async def main(process: subprocess.Popen[str], port: int) -> list[int | None]:
        tasks = [asyncio.create_task(busy(port)) for _ in range(50)]
        await until(lambda: len(answers) == len(tasks))
        process.send_signal(signal.SIGTERM)
        return list(await asyncio.gather(*tasks))

    command = [sys.executable, "-c", SERVER, loop]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        codes = run(main(process, int(process.stdout.readline())))
        errors = process.communicate(timeout=60)[1]
    assert set(codes) == {1012}
    assert "Traceback" not in errors
