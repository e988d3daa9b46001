"""Connections whose peer says little have no parser; what it says is heard all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from picows import WSFrame, WSListener, WSTransport

from socketsundso.server.parser import feed, lone_frame, new_parser
from socketsundso.server.protocol import FEW_FRAMES
from tests.conftest import Clock
from tests.server.serving import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
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

INTERVAL_S = 5.0


async def ping(served: Served, client: Peer, clock: Clock) -> bytes:
    """Let an interval pass; the payload of the ping that comes."""
    clock.jump(INTERVAL_S + 0.1)
    came: list[tuple[int, bytes] | None] = []
    reading = asyncio.create_task(client.frame())
    reading.add_done_callback(lambda task: came.append(task.result()))
    await until(lambda: came)  # which lets asyncio's loop look at its clock
    (frame,) = came
    assert frame is not None
    assert frame[0] == 0x89
    return frame[1]


async def answered_ping(served: Served, client: Peer, clock: Clock) -> None:
    client.say(masked(PONG, await ping(served, client, clock)))
    (connection,) = served.connections
    await until(lambda: not connection._keepalive._asked)


def parser_of(served: Served) -> Any:
    (connection,) = served.connections
    return connection._parser


@both_loops
@pytest.mark.parametrize("size", [0, 1, 125, 126, 1900])
def test_who_says_little_has_no_parser(loop: str, size: int) -> None:
    """A few frames that come alone are read without; whoever says more gets one."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            for _ in range(FEW_FRAMES):
                assert parser_of(served) is None
                client.say(masked(TEXT, b"x" * size))
                assert await client.text() == "x" * size
            assert parser_of(served) is None
            client.say(masked(TEXT, b"y" * size))
            assert await client.text() == "y" * size
            assert parser_of(served) is not None

    run(main(), loop)


@both_loops
def test_what_does_not_come_alone_is_a_parsers_affair(loop: str) -> None:
    """Two frames in one segment, whose texts both arrive."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            client.say(masked(TEXT, b"x") * 2)
            assert [await client.text(), await client.text()] == ["x", "x"]
            assert parser_of(served) is not None

    run(main(), loop)


def test_who_says_little_between_two_pings_never_has_a_parser(clock: Clock) -> None:
    """Each ping starts anew: what is said over hours is little, too."""

    async def main() -> None:
        async with serving(echo, ws_ping_interval=INTERVAL_S, loop="asyncio") as served, peer(served) as client:
            for _ in range(3):
                for number in range(FEW_FRAMES - 1):
                    client.say(masked(TEXT, b"%d" % number))
                    assert await client.text() == str(number)
                await answered_ping(served, client, clock)
                assert parser_of(served) is None

    run(main(), "asyncio")


def test_who_falls_silent_gives_the_parser_back(clock: Clock) -> None:
    """Between two pings; the one who talks keeps it, a pong is no talk, and what comes later is heard."""

    async def main() -> None:
        async with serving(echo, ws_ping_interval=INTERVAL_S, loop="asyncio") as served, peer(served) as client:
            for number in range(3):
                for _ in range(FEW_FRAMES + 1):
                    client.say(masked(TEXT, b"%d" % number))
                    assert await client.text() == str(number)
                assert (parser := parser_of(served)) is not None
                await answered_ping(served, client, clock)
                assert parser_of(served) is parser, "it talked since the last ping"
            for _ in range(3):
                await answered_ping(served, client, clock)
                assert parser_of(served) is None
            client.say(masked(TEXT, b"again", fin=False))
            await until(lambda: parser_of(served))
            client.say(masked(CONTINUATION, b" and again"))
            assert await client.text() == "again and again"
            client.say(closing())
            assert (await client.closed())[0] == 1000

    run(main(), "asyncio")


def test_who_is_within_a_frame_keeps_the_parser(clock: Clock) -> None:
    """Half a frame is not lost, however long the rest takes, and whatever it looks like."""
    inside = masked(PONG, b"abcd", mask=b"\0\0\0\0")
    data = bytes(2000) + inside + bytes(2000)

    async def main() -> None:
        options = {"ws_ping_interval": INTERVAL_S, "ws_ping_timeout": None, "loop": "asyncio"}
        async with serving(echo, **options) as served, peer(served) as client:
            whole = masked(BINARY, data, mask=b"\0\0\0\0")
            place = whole.index(inside)
            client.say(whole[:place])
            await until(lambda: parser_of(served))
            for _ in range(3):
                await ping(served, client, clock)
            client.say(inside)
            await asyncio.sleep(0.01)
            client.say(whole[place + len(inside) :])
            assert await client.frame() == (0x82, data)

    run(main(), "asyncio")


@both_loops
def test_the_first_bytes_may_be_cut_anywhere(loop: str) -> None:
    """A pong, a message, a close: whole, in pieces, together."""
    streams = [
        masked(PONG) + masked(TEXT, b"x"),
        masked(PONG, b"1234"),
        masked(PONG, bytes(125)),
        masked(TEXT, b"x" * 3000),
        masked(PING, b"1"),
    ]
    expected = {0: (0x81, b"x"), 3: (0x81, b"x" * 3000), 4: (0x8A, b"1")}

    async def main() -> None:
        async with serving(echo) as served:
            for number, stream in enumerate(streams):
                for cut in {1, 2, 5, 6, len(stream) - 1, len(stream)}:
                    async with peer(served) as client:
                        client.say(stream[:cut])
                        await asyncio.sleep(0.001)
                        client.say(stream[cut:])
                        if number in expected:
                            assert await client.frame() == expected[number]
                        client.say(closing(4000))
                        assert (await client.closed())[0] == 4000
            await served.idle()

    run(main(), loop)


@both_loops
@pytest.mark.parametrize(
    "first",
    [
        masked(PONG, b"x", mask=b""),
        masked(PONG, bytes(126)),
        masked(PONG, b"x", rsv=4),
        masked(PONG, b"x", fin=False),
        masked(TEXT, b"\xff"),
    ],
    ids=["unmasked", "too long", "reserved bit", "fragment", "not UTF-8"],
)
def test_who_breaks_the_protocol_with_its_first_bytes(first: bytes, loop: str) -> None:
    """What only looks like a pong is refused as from anybody else."""

    async def main() -> None:
        async with serving(echo) as served:
            async with peer(served) as client:
                client.say(first)
                assert (await client.closed())[0] in (1002, 1007)
            await served.idle()

    run(main(), loop)


@both_loops
def test_silent_connections_end_in_every_way(loop: str) -> None:
    """The peer hangs up, resets, or is closed by the application: the application is told the same as of others."""
    codes: list[int] = []
    close = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/close":
            await close.wait()
            await send({"type": "websocket.close", "code": 4001})
        codes.append((await receive())["code"])

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served) as client:
                client.writer.write_eof()
                assert await client.rest() == b""
            await served.idle()
            async with peer(served) as client:
                client.vanish()
                await served.idle()
            async with peer(served, request("/close")) as client:
                assert await client.response() == 101
                close.set()
                assert (await client.closed())[0] == 4001
            await served.idle()

    run(main(), loop)
    assert codes == [1006, 1006, 4001]


class Heard(WSListener):
    """What a parser makes of bytes."""

    def __init__(self) -> None:
        self.frames: list[tuple[Any, ...]] = []
        self.errors: list[int] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.frames.append(facts(frame))

    def refuse(self, code: int, reason: str) -> None:
        self.errors.append(code)


def facts(frame: WSFrame) -> tuple[Any, ...]:
    bits = frame.fin, frame.rsv1, frame.rsv2, frame.rsv3
    return frame.msg_type, bits, frame.payload_size, frame.get_payload_as_bytes(), frame.tail_size


async def parsed(data: bytes, max_bytes: int) -> Heard:
    heard = Heard()
    feed(new_parser(heard, heard.refuse, max_bytes), data)
    return heard


first_bytes = st.one_of(st.sampled_from([0x81, 0xC1, 0x82, 0xC2, 0x88, 0x89, 0x8A]), st.integers(0, 255))
sizes = st.one_of(st.integers(0, 140), st.sampled_from([1000, 65_535]))


@st.composite
def nearly_frames(draw: st.DrawFn) -> bytes:
    """Bytes like those of a client's frame, whose length and head need not be right."""
    size, mask = draw(sizes), draw(st.binary(min_size=4, max_size=4))
    told = min(max(0, size + draw(st.sampled_from([0, 0, 0, -1, 1]))), 65_535)
    length = draw(st.sampled_from([bytes((0x80 | min(told, 127),)), b"\xfe" + told.to_bytes(2)]))
    return bytes((draw(first_bytes),)) + draw(st.one_of(st.just(length), st.binary(max_size=3))) + mask + bytes(size)


@given(st.one_of(nearly_frames(), st.binary(max_size=20)), st.sampled_from([100, 1 << 20]))
def test_a_lone_frame_is_what_a_parser_makes_of_it(data: bytes, max_bytes: int) -> None:
    """Where a frame is read without a parser, one finds exactly the same frame, and nothing to refuse."""
    frame = lone_frame(data, max_bytes)
    if frame is not None:
        heard = asyncio.run(parsed(data, max_bytes))
        assert (heard.frames, heard.errors) == ([facts(frame)], [])


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (masked(PONG), b""),
        (masked(PONG, b"abc"), b"abc"),
        (masked(PING, bytes(range(125))), bytes(range(125))),
        (masked(TEXT, b"abc"), b"abc"),
        (masked(TEXT, b"abc", rsv=4), b"abc"),
        (masked(BINARY, bytes(126)), bytes(126)),
        (masked(BINARY, bytes(1000)), bytes(1000)),
        (masked(BINARY, bytes(1001)), None),
        (masked(PONG, b"abc")[:-1], None),
        (masked(PONG, b"abc") + b"!", None),
        (masked(PONG, b"abc") * 2, None),
        (masked(PONG, b"abc", mask=b"") + b"....", None),
        (masked(PONG, bytes(126)), None),
        (masked(TEXT, b"abc", rsv=2), None),
        (masked(TEXT, b"abc", fin=False), None),
        (masked(CONTINUATION, b"abc"), None),
        (closing(), None),
        (b"\x81\xfe\x00\x03" + bytes(4 + 3), None),
        (b"\x81\xff" + bytes(4 + 127), None),
        (b"\x81\xff" + (200).to_bytes(8) + bytes(4 + 200), None),
        (b"", None),
    ],
)
def test_a_lone_frame(data: bytes, payload: bytes | None) -> None:
    """Is exactly one masked and final frame: a text, data, a ping or a pong, its length as short as can be."""
    frame = lone_frame(data, 1000)
    assert (frame and frame.get_payload_as_bytes()) == payload
