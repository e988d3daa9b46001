"""
Peers that hang up right behind the last thing they say, and read on: `printf ... | nc`, programs that end their output.

RFC 6455 5.5.1: who gets a close frame MUST send one. The application is busy with a message in front of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from socketsundso.server import protocol
from tests.server.serving import (
    CERTIFICATE,
    CLOSE,
    DEADLINE_S,
    LOOPS,
    TEXT,
    Peer,
    Served,
    closing,
    masked,
    request,
    run,
    serving,
    until,
)

MAX_BYTES = 4000
LAST = {
    "close": (closing(4001, "bye"), 4001),
    "close without a code": (closing(None), 1005),
    "a code that no peer may send": (closing(999), 1002),
    "reserved bits": (masked(TEXT, b"x", rsv=2), 1002),
    "no such opcode": (masked(3, b"x"), 1002),
    "not masked": (masked(TEXT, b"x", mask=b""), 1002),
    "not UTF-8": (masked(TEXT, b"\xff"), 1007),
    "too big": (masked(TEXT, b"x" * MAX_BYTES * 2), 1009),
}
"""What a peer says last, and the code that it gets back."""


@dataclass
class Busy:
    """An application that accepts, and answers each text as soon as it may."""

    may_accept: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[Any] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await self.may_accept.wait()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.got.append(message["text"])
            await self.may_answer.wait()
            await send({"type": "websocket.send", "text": "re: " + message["text"]})
        self.got.append(message["code"])


class SecurePeer:
    """A client of TLS that decides what goes into one segment, and whether the end of TLS is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=CERTIFICATE)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def _until_done(self, step: Any) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._writer.write(self._outgoing.read())
                data = await self._reader.read(1 << 16)
                self._incoming.write(data)
                if not data:
                    self._incoming.write_eof()

    async def open(self) -> None:
        await self._until_done(self._tls.do_handshake)
        self._writer.write(self._outgoing.read())

    def write(self, data: bytes, *, in_one: bool = False) -> None:
        self._tls.write(data)
        if not in_one:
            self._writer.write(self._outgoing.read())

    def hang_up(self, *, told: bool) -> None:
        """End our side, with TLS's own word for it or by TCP alone."""
        if told:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
        self._writer.write(self._outgoing.read())
        if not told:
            self._writer.write_eof()

    async def feed(self, reader: asyncio.StreamReader) -> None:
        """Decrypt everything until the server's end into `reader`."""
        try:
            while data := await self._until_done(lambda: self._tls.read(1 << 16)):
                reader.feed_data(data)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass
        reader.feed_eof()


@contextlib.asynccontextmanager
async def hung_up(served: Served, head: bytes, said: bytes, how: str) -> AsyncIterator[Peer]:
    """A peer that was accepted (unless `head` holds all it says), said this, and hung up on its side."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1 << 20)
    client = Peer(reader, writer)
    task = None
    if how == "tcp":
        writer.write(head)
    else:
        secure = SecurePeer(reader, writer)
        await secure.open()
        client.reader = asyncio.StreamReader(limit=1 << 20)
        task = asyncio.create_task(secure.feed(client.reader))
        secure.write(head)
    if said:
        assert await client.response() == 101
    if how == "tcp":
        writer.write(said)
        writer.write_eof()
    else:
        secure.write(said, in_one=how == "tls, told at once")
        if how == "tls, told":  # in a segment of its own
            await until(lambda: ending(served))
        secure.hang_up(told=how != "tls, not told")
    try:
        yield client
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        if task is not None:
            await task


def ending(served: Served) -> bool:
    """Whether a close frame waits for the application's last answers."""
    return any(getattr(each, "_last_frame", None) for each in served.connections)


async def heard(client: Peer) -> list[Any]:
    """The texts, and the code of the close frame, until the server hangs up."""
    seen: list[Any] = []
    while (frame := await client.frame()) is not None:
        first, payload = frame
        assert first in (0x81, 0x80 | CLOSE)
        seen.append(payload.decode() if first == 0x81 else int.from_bytes(payload[:2]) if payload else 1005)
    return seen


def options(how: str) -> dict[str, Any]:
    return {"ws_max_size": MAX_BYTES} | ({"ssl_certfile": str(CERTIFICATE)} if how != "tcp" else {})


loops = pytest.mark.parametrize("loop", LOOPS)


@loops
@pytest.mark.parametrize("how", ["tcp", "tls, told", "tls, not told"])
@pytest.mark.parametrize(("said", "code"), LAST.values(), ids=LAST)
def test_answers_and_the_close_frame_reach_who_has_hung_up(said: bytes, code: int, how: str, loop: str) -> None:
    """The application gets all that came in front, its answers get to the peer, and then the close frame."""

    async def main() -> None:
        app = Busy()
        app.may_accept.set()
        async with serving(app, **options(how)) as served:
            async with hung_up(served, request(), masked(TEXT, b"1") + masked(TEXT, b"2") + said, how) as client:
                await until(lambda: ending(served))
                assert app.got == ["1"]
                app.may_answer.set()
                assert await heard(client) == ["re: 1", "re: 2", code]
            await served.idle()
        assert app.got == ["1", "2", code]

    run(main(), loop)


@loops
@pytest.mark.parametrize("how", ["tcp", "tls, told", "tls, told at once", "tls, not told"])
@pytest.mark.parametrize(("said", "code"), LAST.values(), ids=LAST)
def test_who_has_hung_up_gets_a_close_frame_from_a_busy_application(
    said: bytes, code: int, how: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, although the application answers nothing; which still gets all that came, and then the end."""
    monkeypatch.setattr(protocol, "HOLD_S", 0.2)

    async def main() -> None:
        app = Busy()
        app.may_accept.set()
        async with serving(app, **options(how)) as served:
            async with hung_up(served, request(), masked(TEXT, b"1") + said, how) as client:
                assert await heard(client) == [code]
                assert app.got == ["1"]
                app.may_answer.set()
            await served.idle()

    run(main(), loop)


@loops
@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize(("said", "code"), LAST.values(), ids=LAST)
def test_all_in_one_write_before_the_application_accepts(said: bytes, code: int, http: str, loop: str) -> None:
    """Request, message, last words and end of TCP at once: delivered and answered when the application has accepted."""

    async def main() -> None:
        app = Busy()
        app.may_answer.set()
        async with serving(app, http=http, **options("tcp")) as served:
            async with hung_up(served, request() + masked(TEXT, b"1") + said, b"", "tcp") as client:
                await until(lambda: any(getattr(each, "_peer_hung_up", False) for each in served.connections))
                app.may_accept.set()
                assert await client.response() == 101
                assert await heard(client) == ["re: 1", code]
            await served.idle()
        assert app.got == ["1", code]

    run(main(), loop)


@loops
def test_early_messages_without_a_close_frame_end_as_lost(loop: str) -> None:
    """Who only ends TCP gets no close frame; the application gets what was said, and 1006."""

    async def main() -> None:
        app = Busy()
        async with serving(app) as served:
            async with hung_up(served, request() + masked(TEXT, b"1"), b"", "tcp") as client:
                await until(lambda: any(getattr(each, "_peer_hung_up", False) for each in served.connections))
                app.may_accept.set()
                assert await client.response() == 101
                assert await client.rest() == b""
                app.may_answer.set()
            await until(lambda: not served.connections)
        assert app.got[0] == "1"

    run(main(), loop)


@loops
def test_all_that_was_sent_reaches_a_slow_reader_that_has_hung_up(loop: str) -> None:
    """Megabytes that wait for the peer, and the application's close frame behind them, although it ended its side."""
    text, count = "x" * 100_000, 200

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        push = scope["extensions"]["socketsundso.push"]
        for _ in range(count):
            push.push(push.frame(text))
        await send({"type": "websocket.close", "code": 4002})

    async def main() -> None:
        async with serving(app) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
            client = Peer(reader, writer)
            client.say(request())
            assert await client.response() == 101
            await until(lambda: any(getattr(each, "writing_blocked", False) for each in served.connections))
            writer.write_eof()
            await until(lambda: any(getattr(each, "_peer_hung_up", False) for each in served.connections))
            async with asyncio.timeout(DEADLINE_S):
                assert await heard(client) == [text] * count + [4002]
            writer.close()
            await writer.wait_closed()
            await served.idle()

    run(main(), loop)


@loops
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_response_that_is_streamed_reaches_who_has_hung_up(http: str, loop: str) -> None:
    """RFC 9112 9.6: who has sent its handshake and ended its side still reads how that is refused, to the end."""
    may_go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"first", "more_body": True})
        await may_go_on.wait()
        await send({"type": "websocket.http.response.body", "body": b"second"})

    async def main() -> None:
        async with serving(app, http=http) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            with contextlib.closing(writer):
                client = Peer(reader, writer)
                client.say(request())
                assert await client.response() == 401
                writer.write_eof()
                await until(lambda: any(getattr(each, "_peer_hung_up", False) for each in served.connections))
                may_go_on.set()
                assert await client.rest() == b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"
            await served.idle()

    run(main(), loop)
