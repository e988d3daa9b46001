"""Connections whose peer says nothing have no parser; what it says then is heard all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketsundso.server import frames
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
def test_who_never_spoke_has_no_parser(loop: str) -> None:
    """A parser is made for the first bytes."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            assert parser_of(served) is None
            client.say(masked(TEXT, b"x"))
            assert await client.text() == "x"
            assert parser_of(served) is not None

    run(main(), loop)


def test_who_was_silent_between_two_pings_gives_the_parser_back(clock: Clock) -> None:
    """The one who talks keeps it; a pong is no talk, and what comes later is heard."""

    async def main() -> None:
        async with serving(echo, ws_ping_interval=INTERVAL_S, loop="asyncio") as served, peer(served) as client:
            for number in range(3):
                client.say(masked(TEXT, b"%d" % number))
                assert await client.text() == str(number)
                parser = parser_of(served)
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


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (masked(PONG), b""),
        (masked(PONG, b"abc"), b"abc"),
        (masked(PONG, bytes(range(125))), bytes(range(125))),
        (masked(PONG, b"abc")[:-1], None),
        (masked(PONG, b"abc") + b"!", None),
        (masked(PONG, b"abc") * 2, None),
        (masked(PING, b"abc"), None),
        (masked(PONG, b"abc", mask=b"") + b"....", None),
        (masked(PONG, bytes(126)), None),
        (b"\x8a\xfe" + bytes(130), None),
        (b"", None),
    ],
)
def test_a_lone_pong(data: bytes, payload: bytes | None) -> None:
    """Is exactly one masked, final pong of at most 125 bytes."""
    assert frames.lone_pong(data) == payload
