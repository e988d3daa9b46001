"""Ready frames: `scope["extensions"]["socketsundso.push"]`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketsundso.server import Push
from socketsundso.server.deflate import Packers, negotiate
from socketsundso.server.outbox import JOIN_BYTES, JOIN_S, JOIN_TURNS, Outbox, PackingPush
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


class Turns:
    """As much of an event loop as an outbox needs: turns that the test takes, and a clock that it sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._ready: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *arguments: Any) -> None:
        self._ready.append((callback, arguments))

    def turn(self) -> None:
        ready, self._ready = self._ready, []
        for callback, arguments in ready:
            callback(*arguments)

    def turns(self) -> int:
        """As many as there is something to do in."""
        count = 0
        while self._ready:
            self.turn()
            count += 1
        return count


class Written:
    """A transport that keeps what each write brings."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)


@pytest.fixture
def loop() -> Turns:
    return Turns()


@pytest.fixture
def transport() -> Written:
    return Written()


@pytest.fixture
def outbox(loop: Turns, transport: Written) -> Outbox:
    outbox = Outbox(loop, transport)  # type: ignore[arg-type]  # as much of both as it needs
    outbox.open()
    return outbox


def test_the_first_of_those_that_are_followed_by_more_leaves_in_its_turn(
    outbox: Outbox, loop: Turns, transport: Written
) -> None:
    """It waits for no other."""
    outbox.join(b"a")
    loop.turn()
    assert transport.writes == [b"a"]


def test_what_comes_turn_by_turn_leaves_in_one_write(outbox: Outbox, loop: Turns, transport: Written) -> None:
    """Right behind a write frames wait for those of the next turns; a turn that brings none is the last one."""
    outbox.join(b"a")
    loop.turn()
    for frame in (b"b", b"c", b"d"):
        outbox.join(frame)
        loop.turn()
    assert transport.writes == [b"a"]
    loop.turn()
    assert transport.writes == [b"a", b"bcd"]
    assert loop.turns() == 0


def test_what_comes_after_a_pause_leaves_in_its_turn(outbox: Outbox, loop: Turns, transport: Written) -> None:
    """Who gives a frame now and then never has it waiting."""
    for frame in (b"a", b"b", b"c"):
        outbox.join(frame)
        loop.turn()
        loop.now += JOIN_S * 2
    assert transport.writes == [b"a", b"b", b"c"]


def test_no_frame_waits_longer_than_so_many_turns(outbox: Outbox, loop: Turns, transport: Written) -> None:
    """Also where each of them brings one more."""
    outbox.join(b"a")
    for _ in range(2 * JOIN_TURNS + 1):
        loop.turn()
        outbox.join(b"b")
    assert transport.writes == [b"a", b"b" * JOIN_TURNS, b"b" * JOIN_TURNS]


def test_a_frame_that_does_not_wait_takes_along_those_that_do(outbox: Outbox, transport: Written, loop: Turns) -> None:
    """An answer to the last message leaves at once, behind what came before it."""
    outbox.join(b"a")
    loop.turn()
    outbox.join(b"b")
    outbox.eager = True
    outbox.write(b"c")
    assert transport.writes == [b"a", b"bc"]
    assert loop.turns() == 1


def test_so_many_bytes_wait_for_no_more(outbox: Outbox, loop: Turns, transport: Written) -> None:
    """What fills a write is written."""
    outbox.join(b"a")
    loop.turn()
    outbox.join(bytes(JOIN_BYTES))
    outbox.join(b"b")
    assert b"".join(transport.writes) == b"a" + bytes(JOIN_BYTES) + b"b"
    assert outbox.empty


def test_the_last_frame_leaves_behind_those_that_wait(outbox: Outbox, loop: Turns, transport: Written) -> None:
    """And nothing after it."""
    outbox.join(b"a")
    loop.turn()
    outbox.join(b"b")
    outbox.finish(b"close")
    assert Push(outbox).write_soon(b"c") is False
    assert transport.writes == [b"a", b"bclose"]
    assert loop.turns() == 1
    assert outbox.empty


def test_nothing_waits_for_a_peer_that_is_gone(outbox: Outbox, loop: Turns, transport: Written) -> None:
    """What waits is dropped with the rest."""
    outbox.join(b"a")
    loop.turn()
    outbox.join(b"b")
    outbox.drop()
    loop.turns()
    assert transport.writes == [b"a"]
    assert Push(outbox).write_soon(b"c") is False


def test_a_peer_that_does_not_read_is_waited_for_before_more_is_written(outbox: Outbox, loop: Turns) -> None:
    """As with `write`: nothing is taken while the transport is above its high-water mark."""
    push = Push(outbox)
    outbox.blocked = asyncio.Future(loop=asyncio.new_event_loop())
    assert push.write_soon(b"a") is False
    outbox.blocked.get_loop().close()
    outbox.blocked = None
    assert push.write_soon(b"a") is True


def test_what_is_followed_by_more_is_compressed_as_other_texts(outbox: Outbox, loop: Turns, transport: Written) -> None:
    """From the same size on."""
    agreed = negotiate([b"permessage-deflate"], Packers())
    assert agreed is not None
    outbox.compress(agreed, 100, 100)
    push = PackingPush(outbox, agreed)
    for payload in (bytes(99), bytes(100)):
        assert push.write_soon(payload)
        loop.turns()
        loop.now += JOIN_S * 2
    assert transport.writes == [Push.frame(bytes(99).decode()), agreed.frame(bytes(100), text=True)]
    assert transport.writes[1][0] == 0xC1
    outbox.drop()
    assert push.write_soon(b"c") is False
