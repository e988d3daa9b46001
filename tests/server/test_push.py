"""Ready frames: `scope["extensions"]["socketsundso.push"]`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketsundso.server import Push
from socketsundso.server.outbox import Outbox
from tests.server.serving import closing, peer, request, run, serving, until


class Pushed:
    """An application that accepts and keeps its pushes."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        push = scope["extensions"]["socketsundso.push"]
        assert push.push(b"too early") is False
        await receive()
        await send({"type": "websocket.accept"})
        self.pushes.append(push)
        self.send = send
        while (await receive())["type"] != "websocket.disconnect":
            pass


@pytest.mark.parametrize(
    ("payload", "binary", "frame"),
    [
        ("\u00fc", False, b"\x81\x02\xc3\xbc"),
        (b"x" * 125, False, b"\x81\x7d" + b"x" * 125),
        (b"x" * 126, False, b"\x81\x7e\x00\x7e" + b"x" * 126),
        (b"x", True, b"\x82\x01x"),
        (b"", True, b"\x82\x00"),
    ],
)
def test_frame(payload: bytes | str, binary: bool, frame: bytes) -> None:
    """A frame is made once, from text or bytes, and is the same for all."""
    assert Push.frame(payload, binary=binary) == frame


def test_pushes_and_sends_keep_their_order() -> None:
    """Frames and `websocket.send` reach the peer in the order of their calls, whichever way they leave."""
    app = Pushed()

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            await until(lambda: app.pushes)
            expected = []
            for i in range(300):
                if i % 3:
                    assert app.pushes[0].push(Push.frame(str(i)))
                else:
                    await app.send({"type": "websocket.send", "text": str(i)})
                if i % 50 == 0:
                    await asyncio.sleep(0)
                expected.append(str(i))
            assert [await client.text() for _ in range(300)] == expected

    run(main())


def test_one_write_per_turn() -> None:
    """The frames of one turn of the event loop to one connection leave in one segment."""
    app = Pushed()

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            await until(lambda: app.pushes)
            frame = Push.frame("x" * 10)
            for _ in range(50):
                app.pushes[0].push(frame)
            assert app.pushes[0].buffered == 50 * len(frame)
            assert await client.reader.read(1 << 16) == frame * 50

    run(main())


def test_ended_connections_drop_frames() -> None:
    """After the end `push` is False, `open` too, and `drain` raises an OSError."""
    app = Pushed()

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served) as client:
                await until(lambda: app.pushes)
                assert app.pushes[0].open
                client.say(closing())
                await client.closed()
            await served.idle()
            (push,) = app.pushes
            assert not push.open
            assert push.push(Push.frame("x")) is False
            assert push.buffered == 0
            with pytest.raises(OSError, match="^$"):
                await push.drain()

    run(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_slow_reader_is_visible(loop: str) -> None:
    """What a peer does not read stands in `buffered`, and `drain` waits for it."""
    app, frame = Pushed(), Push.frame(bytes(100_000), binary=True)

    async def main() -> None:
        async with serving(app) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
            writer.write(request())
            await until(lambda: app.pushes)
            (push,) = app.pushes
            await push.drain()
            for _ in range(200):
                push.push(frame)
            await asyncio.sleep(0.05)
            assert 5_000_000 < push.buffered <= 200 * len(frame)
            drained = asyncio.create_task(push.drain())
            await asyncio.sleep(0.05)
            assert not drained.done()
            size = 0
            while size < 200 * len(frame):
                size += len(await reader.read(1 << 20))
            await drained
            assert push.buffered == 0
            writer.close()
            await writer.wait_closed()

    run(main(), loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_offer_takes_what_fits_and_leaves_the_rest_with_its_sender(loop: str) -> None:
    """Of what a deaf peer was offered, all that was taken arrives, and little waits; then more is taken."""
    app, frame = Pushed(), Push.frame(b"x" * 10_000)

    async def main() -> None:
        async with serving(app) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
            writer.write(request())
            await until(lambda: app.pushes)
            (push,) = app.pushes
            taken = 0
            while push.offer(frame):
                taken += 1
                if taken % 3 == 0:
                    await asyncio.sleep(0)
            assert push.buffered <= 2 * (64 << 10) + len(frame)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 101 " in head
            assert await reader.readexactly(taken * len(frame)) == frame * taken
            await push.drain()
            assert push.offer(frame)
            writer.close()
            await writer.wait_closed()
            await served.idle()
            assert push.offer(frame), "a frame for a peer that is gone is dropped"
            assert push.buffered == 0

    run(main(), loop)


def test_nothing_that_is_offered_goes_behind_the_close_frame() -> None:
    """While a close frame waits for a peer that reads slowly, an offer is dropped, as a push is."""

    class SlowTransport:
        written = b""

        def write(self, data: bytes) -> None:
            self.written += data

        def get_write_buffer_size(self) -> int:
            return 20_000

    async def main() -> None:
        transport = SlowTransport()
        outbox = Outbox(asyncio.get_running_loop(), transport)  # type: ignore[arg-type]
        push = Push(outbox)
        outbox.open()
        outbox.block()
        assert push.offer(b"before")
        outbox.finish(b"close")
        assert push.offer(b"after")
        assert push.push(b"after") is False
        outbox.unblock()
        assert transport.written == b"beforeclose"

    run(main())
