"""permessage-deflate: negotiation, bounds, and what a peer can do wrong."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from socketsundso.server import deflate
from socketsundso.server.handshake import HandshakeRefused
from tests.server.serving import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    Served,
    echo,
    masked,
    peer,
    request,
    run,
    serving,
)

OFFER = request("/", "Sec-WebSocket-Extensions: permessage-deflate")


def compressed(data: bytes, *, final_block: bool = False) -> bytes:
    """`data` as a message's payload, without context."""
    encoder = zlib.compressobj(wbits=-12)
    if final_block:
        return encoder.compress(data) + encoder.flush(zlib.Z_FINISH) + b"\x00"
    return (encoder.compress(data) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def accepted(client: Peer) -> str | None:
    assert await client.response() == 101
    return client.headers.get("sec-websocket-extensions")


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=15", "permessage-deflate; client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=10"),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"),
        ("permessage-deflate; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=9"),
        ("permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=12"),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", "permessage-deflate"),
        ("x-unknown, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; bad=1, permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("x-unknown", None),
    ],
)
def test_negotiation(offer: str, answer: str | None) -> None:
    """The first acceptable offer is agreed upon, with uvicorn's window sizes; no parameter is named that it lacks."""
    agreed = deflate.negotiate([offer.encode()])
    assert (agreed.response if agreed else None) == answer


def test_a_window_that_is_not_named_is_as_small() -> None:
    """Named by the client or not, ours holds 4 KiB at most: nothing refers to what lies further back."""
    block = random.Random(7).randbytes(1500)
    for offer, bits in ((b"permessage-deflate", 12), (b"permessage-deflate; server_max_window_bits=9", 9)):
        agreed = deflate.negotiate([offer])
        assert agreed is not None
        decoder = zlib.decompressobj(wbits=-bits)
        for data in [block, bytes(10_000), block] * 3:
            frame = agreed.frame(data, text=False)
            head = 2 if frame[1] < 126 else 4
            assert decoder.decompress(frame[head:] + b"\x00\x00\xff\xff") == data


def test_offers_that_cannot_be_parsed() -> None:
    """A malformed Sec-WebSocket-Extensions is a bad request."""
    with pytest.raises(HandshakeRefused):
        deflate.negotiate([b"a;;b"])


@pytest.mark.parametrize("wanted", [True, False])
def test_uvicorns_option_decides(wanted: bool) -> None:
    """Compression is negotiated if the client offers it and ws_per_message_deflate is set, and never otherwise."""

    async def main() -> None:
        async with serving(echo, ws_per_message_deflate=wanted) as served:
            async with peer(served, OFFER) as client:
                assert bool(await accepted(client)) is wanted
            async with peer(served, request()) as client:
                assert await accepted(client) is None

    run(main())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"client_max_window_bits": 9},
        {"server_max_window_bits": 9},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
    ],
    ids=str,
)
def test_contexts_are_kept_as_agreed(settings: dict[str, Any]) -> None:
    """Messages that refer to earlier ones, fragmented or not, survive with and without context takeover."""

    async def main() -> None:
        async with (
            serving(echo) as served,
            connect(served.url, extensions=[ClientPerMessageDeflateFactory(**settings)]) as client,
        ):
            for message in ["hello" * 100, b"hello" * 100, "", b"", "x", "hello" * 100, bytes(100_000)]:
                await client.send(message)
                assert await client.recv() == message
                half = len(message) // 2
                await client.send([message[:half], message[half:]])
                assert await client.recv() == message

    run(main())


async def violating(frames: list[bytes], **options: Any) -> tuple[int, str]:
    async with serving(echo, **options) as served:
        return await _answer(served, frames)


async def _answer(served: Served, frames: list[bytes]) -> tuple[int, str]:
    async with peer(served, OFFER) as client:
        assert await accepted(client)
        client.say(*frames)
        return await client.closed()


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([masked(TEXT, b"\xff\xff\xff", rsv=4)], 1002),
        ([masked(TEXT, compressed(b"\xff"), rsv=4)], 1007),
        (
            [
                masked(TEXT, compressed(b"a")[:2], fin=False, rsv=4),
                masked(CONTINUATION, compressed(b"a")[2:], rsv=4),
            ],
            1002,
        ),
        ([masked(TEXT, b"", rsv=4)], 1002),
        ([masked(TEXT, b"", fin=False, rsv=4), masked(CONTINUATION, b"")], 1002),
        ([masked(9, b"x", rsv=4)], 1002),
        ([masked(TEXT, compressed(b"a"), rsv=6)], 1002),
        ([masked(BINARY, compressed(bytes(1001)), rsv=4)], 1009),
        (
            [
                masked(BINARY, compressed(bytes(1000)) + b"\x00\x00\xff\xff", rsv=4, fin=False),
                masked(CONTINUATION, compressed(b"1")),
            ],
            1009,
        ),
        ([masked(BINARY, compressed(bytes(100_000)), rsv=4)], 1009),
    ],
)
def test_violations(frames: list[bytes], code: int) -> None:
    """Bad streams, reserved bits out of place and messages that unfold too far are answered with their code."""
    assert run(violating(frames, ws_max_size=1000))[0] == code


def test_message_of_exactly_the_bound() -> None:
    """ws_max_size is a bound on the decompressed message: as many bytes pass."""

    async def main() -> None:
        async with serving(echo, ws_max_size=1000) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            client.say(masked(BINARY, compressed(bytes(1000)), rsv=4))
            frame = await client.frame()
            assert frame is not None
            assert frame[0] == 0xC2

    run(main())


def test_a_bomb_costs_no_memory() -> None:
    """100 MB in 100 kB are refused without ever being in memory."""
    bomb = masked(BINARY, compressed(bytes(100_000_000)), rsv=4)
    assert len(bomb) < 500_000

    async def main() -> int:
        async with serving(echo, ws_max_size=1 << 20) as served:
            tracemalloc.start()
            assert (await _answer(served, [bomb]))[0] == 1009
            return tracemalloc.get_traced_memory()[1]

    try:
        assert run(main()) < 8_000_000
    finally:
        tracemalloc.stop()


def test_final_blocks_end_no_stream() -> None:
    """A message whose last block has BFINAL set (RFC 7692 7.2.3.4) does not swallow the messages after it."""

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            decoder = zlib.decompressobj(wbits=-12)
            for text in (b"one", b"two", b"three"):
                client.say(masked(TEXT, compressed(text, final_block=True), rsv=4))
                frame = await client.frame()
                assert frame is not None
                assert decoder.decompress(frame[1] + b"\x00\x00\xff\xff") == text

    run(main())


def test_uncompressed_messages_may_be_mixed_in() -> None:
    """With the extension agreed upon, a message without the bit is taken as it is."""

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            client.say(masked(TEXT, b"plain"))
            frame = await client.frame()
            assert frame is not None
            assert zlib.decompressobj(wbits=-12).decompress(frame[1] + b"\x00\x00\xff\xff") == b"plain"

    run(main())


@pytest.mark.parametrize("payload", [b"\x00", compressed(b""), b"\x02\x00"], ids=["stored", "fixed", "fixed again"])
def test_empty_messages(payload: bytes) -> None:
    """An empty message has at least one byte, in any of its frames, and the one behind it is read as well."""

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            decoder = zlib.decompressobj(wbits=-12)
            client.say(
                masked(BINARY, payload, rsv=4),
                masked(BINARY, b"", fin=False, rsv=4),
                masked(CONTINUATION, payload, fin=False),
                masked(CONTINUATION, b""),
                masked(BINARY, compressed(b"a"), rsv=4),
            )
            for expected in (b"", b"", b"a"):
                frame = await client.frame()
                assert frame is not None
                assert frame[0] == 0xC2
                assert decoder.decompress(frame[1] + b"\x00\x00\xff\xff") == expected

    run(main())


def test_control_frames_change_nothing_about_compression() -> None:
    """
    Neither a pong before the first message nor control frames between its fragments (aio-libs/aiohttp#12988 and #13274,
    tornadoweb/tornado#3353).
    """
    data = bytes(range(256)) * 2
    payload = compressed(data)

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            decoder = zlib.decompressobj(wbits=-12)
            for _ in range(2):
                client.say(
                    masked(PONG),
                    masked(BINARY, payload[:10], fin=False, rsv=4),
                    masked(PING, b"1"),
                    masked(CONTINUATION, payload[10:20], fin=False),
                    masked(PONG, b"2"),
                    masked(CONTINUATION, payload[20:]),
                )
                assert await client.frame() == (0x8A, b"1")
                frame = await client.frame()
                assert frame is not None
                assert frame[0] == 0xC2
                assert decoder.decompress(frame[1] + b"\x00\x00\xff\xff") == data

    run(main())


def test_idle_connections_have_no_contexts() -> None:
    """zlib's contexts are made when a message needs them."""

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            (connection,) = served.connections
            assert connection._deflate._contexts is None
            client.say(masked(TEXT, b"x"))
            await client.frame()
            assert connection._deflate._contexts is not None

    run(main())


def test_no_ready_frames_for_compressed_connections() -> None:
    """The push extension is offered exactly where frames are not compressed."""
    offered: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        offered.append("socketsundso.push" in scope["extensions"])
        await send({"type": "websocket.close"})

    async def main() -> None:
        async with serving(app) as served:
            for head in (OFFER, request()):
                async with peer(served, head) as client:
                    await client.response()

    run(main())
    assert offered == [False, True]


def test_many_tiny_fragments_weigh_what_they_weigh() -> None:
    """100,000 fragments of one byte cost about 100 kB, not an object each."""

    async def main() -> int:
        async with serving(echo) as served, peer(served) as client:
            client.say(masked(TEXT, b"a", fin=False))
            client.say(masked(CONTINUATION, b"a", fin=False, mask=b"abcd") * 100_000)
            client.say(masked(9, b"now"))
            tracemalloc.start()
            frame = await client.frame()
            assert frame == (0x8A, b"now")
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            client.say(masked(CONTINUATION, b"b"))
            assert len(await client.text()) == 100_002
            return peak

    assert run(main()) < 3_000_000
