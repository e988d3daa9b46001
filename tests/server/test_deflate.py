"""permessage-deflate: negotiation, what is compressed, bounds, and what a peer can do wrong."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from socketsundso import WebSocketHandlingEndpoint, event
from socketsundso.environment import DEFLATE_CONTEXT_VARIABLE, DEFLATE_MIN_VARIABLE
from socketsundso.errors import DefinitionError
from socketsundso.server import Push, deflate, packing
from socketsundso.server.handshake import HandshakeRefused
from socketsundso.server.outbox import Outbox, PackingPush
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
    until,
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


ALONE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offer", "answer", "with_contexts"),
    [
        ("permessage-deflate", ALONE, "permessage-deflate"),
        (
            "permessage-deflate; client_max_window_bits",
            f"{ALONE}; client_max_window_bits=12",
            "permessage-deflate; client_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits=15",
            f"{ALONE}; client_max_window_bits=12",
            "permessage-deflate; client_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits=10",
            f"{ALONE}; client_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=10",
        ),
        ("permessage-deflate; client_max_window_bits=8", ALONE, "permessage-deflate"),
        (ALONE, ALONE, ALONE),
        ("permessage-deflate; server_no_context_takeover", ALONE, "permessage-deflate; server_no_context_takeover"),
        (
            "permessage-deflate; server_max_window_bits=9",
            f"{ALONE}; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=9",
        ),
        (
            "permessage-deflate; server_max_window_bits=15",
            f"{ALONE}; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=12",
        ),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
            f"{ALONE}; server_max_window_bits=10; client_max_window_bits=12",
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", ALONE, "permessage-deflate"),
        ("x-unknown, permessage-deflate", ALONE, "permessage-deflate"),
        ("permessage-deflate; bad=1, permessage-deflate", ALONE, "permessage-deflate"),
        ('permessage-deflate; server_max_window_bits="11"', f"{ALONE}; server_max_window_bits=11", ...),
        ("permessage-deflate; server_max_window_bits=8", None, None),
        ("permessage-deflate; server_max_window_bits", None, None),
        ("permessage-deflate; server_max_window_bits=09", None, None),
        ("permessage-deflate; server_max_window_bits=16", None, None),
        ("permessage-deflate; client_max_window_bits=7", None, None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None, None),
        ("permessage-deflate; server_no_context_takeover=1", None, None),
        ("x-unknown", None, None),
    ],
)
def test_negotiation(offer: str, answer: str | None, with_contexts: Any) -> None:
    """
    The first acceptable offer is agreed upon. A window is named only to who named it, 8 to nobody; no context is kept,
    unless that was chosen.
    """
    for contexts, expected in ((False, answer), (True, with_contexts)):
        agreed = deflate.negotiate([offer.encode()], deflate.Packers(), contexts=contexts)
        if expected is not ...:
            assert (agreed.response if agreed else None) == expected


def test_connections_with_the_same_agreement_share_it() -> None:
    """Nothing of what is agreed belongs to one connection, unless contexts are kept."""
    packers = deflate.Packers()
    first, second, other, *own = [
        deflate.negotiate([b"permessage-deflate" + windows], packers, contexts=contexts)
        for windows, contexts in ((b"", False), (b"", False), (b"; server_max_window_bits=9", False), (b"", True))
        for _ in range(1 + contexts)
    ]
    assert first is second
    assert first is not other
    assert own[0] is not own[1]


@pytest.mark.parametrize("bits", [None, *range(9, 16)])
@pytest.mark.parametrize("contexts", [False, True], ids=["alone", "contexts"])
def test_the_servers_window_is_as_small_as_agreed(contexts: bool, bits: int | None) -> None:
    """Ours holds what the client asked for; 4 KiB at most if it did not: nothing refers to what lies further back."""
    block = random.Random(7).randbytes(400)
    offer = b"permessage-deflate" + (b"" if bits is None else b"; server_max_window_bits=%d" % bits)
    agreed = deflate.negotiate([offer], deflate.Packers(), contexts=contexts)
    assert agreed is not None
    decoder = zlib.decompressobj(wbits=-min(bits or 12, 12 if contexts else 15))
    for data in [block + bytes(10_000) + block, bytes(60_000) + block, block * 30] * 3:
        first, payload = parsed(agreed.frame(data, text=False))
        assert first == 0xC2
        if not contexts:
            decoder = zlib.decompressobj(wbits=-(bits or 12))
        assert decoder.decompress(payload + b"\x00\x00\xff\xff") == data


def parsed(frame: bytes) -> tuple[int, bytes]:
    head = {126: 4, 127: 10}.get(frame[1], 2)
    return frame[0], frame[head:]


def unpacked(frame: tuple[int, bytes] | None) -> Any:
    """The message in a frame of a server that keeps no contexts."""
    assert frame is not None
    first, payload = frame
    assert first in (0x81, 0x82, 0xC1, 0xC2)
    if first & 0x40:
        payload = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
    return payload.decode() if first & 1 else payload


@pytest.fixture(params=[False, True], ids=["alone", "contexts"])
def contexts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the server keeps contexts."""
    if request.param:
        monkeypatch.setenv(DEFLATE_CONTEXT_VARIABLE, "1")
    return bool(request.param)


def test_offers_that_cannot_be_parsed() -> None:
    """A malformed Sec-WebSocket-Extensions is a bad request."""
    with pytest.raises(HandshakeRefused):
        deflate.negotiate([b"a;;b"], deflate.Packers())


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
def test_contexts_are_kept_as_agreed(settings: dict[str, Any], contexts: bool) -> None:
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
def test_violations(frames: list[bytes], code: int, contexts: bool) -> None:
    """Bad streams, reserved bits out of place and messages that unfold too far are answered with their code."""
    assert run(violating(frames, ws_max_size=1000))[0] == code


def test_message_of_exactly_the_bound(contexts: bool) -> None:
    """ws_max_size is a bound on the decompressed message: as many bytes pass."""

    async def main() -> None:
        async with serving(echo, ws_max_size=1000) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            client.say(masked(BINARY, compressed(bytes(1000)), rsv=4))
            assert unpacked(await client.frame()) == bytes(1000)

    run(main())


def bomb(size: int) -> bytes:
    """About a thousandth of `size`, which it unfolds to."""
    encoder = zlib.compressobj(9, wbits=-15)
    block = encoder.compress(bytes(1 << 20)) + encoder.flush(zlib.Z_FULL_FLUSH)
    return (block * (size >> 20))[:-4]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_bomb_costs_no_memory(opcode: int, contexts: bool) -> None:
    """1 GB in 1 MB is refused, in one frame or in many, at the price of its frame and of the bound."""
    payload = bomb(1 << 30)
    assert len(payload) < 1_100_000
    whole = [masked(opcode, payload, rsv=4)]
    parts = [masked(opcode, payload[:1000], fin=False, rsv=4), masked(CONTINUATION, payload[1000:])]

    async def main() -> int:
        async with serving(echo, ws_max_size=2 << 20) as served:
            tracemalloc.start()
            for frames in (whole, parts):
                assert (await _answer(served, frames))[0] == 1009
            return tracemalloc.get_traced_memory()[1]

    try:
        assert run(main()) < 14_000_000
    finally:
        tracemalloc.stop()


def test_no_bound() -> None:
    """Without `ws_max_size` a message is as large as it is."""

    async def main() -> None:
        async with serving(echo, ws_max_size=None) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            data = bytes(20_000_000)
            client.say(masked(BINARY, compressed(data), rsv=4), masked(TEXT, compressed(data), rsv=4))
            assert unpacked(await client.frame()) == data
            assert unpacked(await client.frame()) == data.decode()

    run(main())


def test_no_peer_can_refer_to_anothers_message() -> None:
    """Nor to its own earlier ones: each message is unfolded by a decompressor that has seen nothing else."""
    encoder = zlib.compressobj(wbits=-15, zdict=b"a secret of somebody else")
    referring = (encoder.compress(b"a secret of somebody else") + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as victim:
            assert await accepted(victim)
            for parts in ([masked(TEXT, referring, rsv=4)], split(TEXT, referring)):
                victim.say(masked(TEXT, compressed(b"a secret of somebody else"), rsv=4))
                assert unpacked(await victim.frame()) == "a secret of somebody else"
                assert (await _answer(served, parts))[0] == 1002

    run(main())


def split(opcode: int, payload: bytes) -> list[bytes]:
    """A compressed message in two frames."""
    return [masked(opcode, payload[:2], fin=False, rsv=4), masked(CONTINUATION, payload[2:])]


def test_what_an_exception_leaves_behind_is_sent_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressor that was interrupted between taking a message and giving it is not used again."""
    packer = packing.Packer(12)

    class Interrupted:
        def __init__(self, compressor: Any) -> None:
            self.compressor = compressor

        def compress(self, data: bytes) -> Any:
            return self.compressor.compress(data)

        def flush(self, mode: int) -> bytes:
            raise KeyboardInterrupt

    real = zlib.compressobj
    monkeypatch.setattr(zlib, "compressobj", lambda *args: Interrupted(real(*args)))
    with pytest.raises(KeyboardInterrupt):
        packer.pack(b"a secret", packing.REPLY)
    monkeypatch.setattr(zlib, "compressobj", real)
    assert unpacked((0xC1, packer.pack(b"for everybody", packing.REPLY))) == "for everybody"


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_final_blocks_end_no_stream(opcode: int, contexts: bool) -> None:
    """A message whose last block has BFINAL set (RFC 7692 7.2.3.4) does not swallow the messages after it."""

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            decoder = zlib.decompressobj(wbits=-12)
            for text in (b"one", b"two", b"three"):
                client.say(masked(opcode, compressed(text, final_block=True), rsv=4))
                frame = await client.frame()
                assert frame is not None
                if contexts:
                    assert decoder.decompress(frame[1] + b"\x00\x00\xff\xff") == text
                else:
                    assert frame[1] == text

    run(main())


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_final_blocks_within_a_message(opcode: int) -> None:
    """RFC 7692 7.2.1: blocks with and without BFINAL may follow one another in a message, at whatever frame."""
    encoder = zlib.compressobj(wbits=-12)
    stream = encoder.compress(b"o" * 500) + encoder.flush(zlib.Z_FINISH)
    several = stream + stream + compressed(b"a") + b"\x00\x00\xff\xff" + compressed(b"b", final_block=True)

    async def main() -> None:
        async with serving(echo, ws_max_size=1002) as served:
            async with peer(served, OFFER) as client:
                assert await accepted(client)
                for place in range(1, len(several)):
                    client.say(masked(opcode, several, rsv=4))
                    client.say(masked(opcode, several[:place], fin=False, rsv=4))
                    client.say(masked(CONTINUATION, several[place:]))
                    for _ in range(2):
                        got = unpacked(await client.frame())
                        assert (got.encode() if opcode == TEXT else got) == b"o" * 1000 + b"ab"
            for frames, code in (
                ([masked(opcode, several + b"\x00\x00\xff\xff" + compressed(b"c"), rsv=4)], 1009),
                ([masked(opcode, stream * 1000, rsv=4)], 1009),
                ([masked(opcode, b"\x03\x00" * 500, rsv=4)], 1002),
                ([masked(opcode, stream + b"\xff\xff", rsv=4)], 1002),
            ):
                assert (await _answer(served, frames))[0] == code

    run(main())


def test_plain_messages_may_be_mixed_in(contexts: bool) -> None:
    """With the extension agreed upon, a message without the bit is taken as it is."""

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            client.say(masked(TEXT, b"plain"), masked(TEXT, compressed(b"packed"), rsv=4), masked(TEXT, b"plain"))
            decoder = zlib.decompressobj(wbits=-12)
            for expected in (b"plain", b"packed", b"plain"):
                frame = await client.frame()
                assert frame is not None
                payload = decoder.decompress(frame[1] + b"\x00\x00\xff\xff") if contexts else frame[1]
                assert payload == expected

    run(main())


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("payload", [b"\x00", compressed(b""), b"\x02\x00"], ids=["stored", "fixed", "fixed again"])
def test_empty_messages(payload: bytes, opcode: int, contexts: bool) -> None:
    """An empty message has at least one byte, in any of its frames, and the one behind it is read as well."""

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            decoder = zlib.decompressobj(wbits=-12)
            client.say(
                masked(opcode, payload, rsv=4),
                masked(opcode, b"", fin=False, rsv=4),
                masked(CONTINUATION, payload, fin=False),
                masked(CONTINUATION, b""),
                masked(opcode, compressed(b"a"), rsv=4),
            )
            for expected in (b"", b"", b"a"):
                frame = await client.frame()
                assert frame is not None
                data = decoder.decompress(frame[1] + b"\x00\x00\xff\xff") if contexts else frame[1]
                assert data == expected

    run(main())


def test_control_frames_change_nothing_about_compression(contexts: bool) -> None:
    """
    Neither a pong before the first message nor control frames between its fragments (aio-libs/aiohttp#12988 and #13274,
    tornadoweb/tornado#3353).
    """
    data = bytes(range(256)) * 8
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
                if not contexts:
                    decoder = zlib.decompressobj(wbits=-12)
                assert decoder.decompress(frame[1] + b"\x00\x00\xff\xff") == data

    run(main())


def test_idle_connections_have_no_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib's contexts are made when a message needs them."""
    monkeypatch.setenv(DEFLATE_CONTEXT_VARIABLE, "1")

    async def main() -> None:
        async with serving(echo) as served, peer(served, OFFER) as client:
            assert await accepted(client)
            (connection,) = served.connections
            assert connection._deflate._contexts is None
            client.say(masked(TEXT, b"x"))
            await client.frame()
            assert connection._deflate._contexts is not None

    run(main())


# --- what is compressed


SENT = ["a" * size for size in (0, 1, 255, 256, 1023, 1024, 70_000)]


async def sends(scope: Any, receive: Any, send: Any) -> None:
    """Sends each of SENT in all ways that there are: by `send` and by those of the extension, as text and binary."""
    push = scope["extensions"]["socketsundso.push"]
    await receive()
    await send({"type": "websocket.accept"})
    for text in SENT:
        await send({"type": "websocket.send", "text": text})
        await send({"type": "websocket.send", "bytes": text.encode()})
        await push.drain()
        assert push.write(text.encode())
        assert push.write_binary(text.encode())
        assert push.push(push.frame(text))
        assert push.offer(push.frame(text.encode(), binary=True))
    await send({"type": "websocket.close"})


async def compressed_from(app: Any = sends) -> list[int]:
    """The sizes of SENT that came compressed, each in all ways: first replies, then ready frames."""
    found: list[tuple[int, int, int]] = []
    async with serving(app) as served, peer(served, OFFER) as client:
        contexts = "no_context" not in str(await accepted(client))
        decoder = zlib.decompressobj(wbits=-15)
        for text in SENT:
            packed = []
            for first in (0x81, 0x82, 0x81, 0x82, 0x81, 0x82):
                frame = await client.frame()
                assert frame is not None
                packed.append(frame[0] & 0x40)
                assert frame[0] & 0xBF == first
                payload = frame[1]
                if packed[-1]:
                    decoder = decoder if contexts else zlib.decompressobj(wbits=-15)
                    payload = decoder.decompress(payload + b"\x00\x00\xff\xff")
                assert payload == text.encode()
            assert len(set(packed[:4])) == len(set(packed[4:])) == 1
            found.append((len(text), packed[0], packed[4]))
    return [size for size, reply, _ in found if reply] + [size for size, _, ready in found if ready]


@pytest.mark.parametrize(
    ("environment", "sizes"),
    [
        ({}, [1024, 70_000, 256, 1023, 1024, 70_000]),
        ({DEFLATE_MIN_VARIABLE: "1024"}, [1024, 70_000] * 2),
        ({DEFLATE_MIN_VARIABLE: "0"}, [255, 256, 1023, 1024, 70_000] * 2),
        ({DEFLATE_MIN_VARIABLE: "off"}, []),
        ({DEFLATE_MIN_VARIABLE: "lots"}, [1024, 70_000, 256, 1023, 1024, 70_000]),
        ({DEFLATE_CONTEXT_VARIABLE: "1"}, [0, 1, 255, 256, 1023, 1024, 70_000] * 2),
        ({DEFLATE_CONTEXT_VARIABLE: "1", DEFLATE_MIN_VARIABLE: "256"}, [256, 1023, 1024, 70_000] * 2),
    ],
    ids=str,
)
def test_from_how_many_bytes_on(environment: dict[str, str], sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Replies are compressed from 1,024 bytes on, ready frames from 256, or both from what is chosen; with contexts all.
    """
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run(compressed_from()) == sizes


@pytest.mark.parametrize(("least", "sizes"), [(256, [256, 1023, 1024, 70_000] * 2), (None, [])])
def test_an_application_chooses_for_its_connection(least: int | None, sizes: list[int]) -> None:
    """`compress_from` overrides the server's thresholds, None compresses nothing."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"]["socketsundso.push"].compress_from(least)
        await sends(scope, receive, send)

    assert run(compressed_from(app)) == sizes


@pytest.mark.parametrize(("least", "packed"), [(None, False), (100, True), ("off", False), (0, True)])
def test_an_endpoint_chooses_for_its_connections(least: Any, packed: bool) -> None:
    """`deflate_min` is the threshold of a class's connections, and means nothing where nothing was negotiated."""

    class Chat(WebSocketHandlingEndpoint):
        deflate_min = least

        @event
        async def on_say(self, text: str) -> None:
            await self.send({"type": "said", "text": text})

    async def main() -> None:
        message = b'{"type":"say","text":"%s"}' % (b"a" * 200)
        async with serving(Chat) as served:
            async with peer(served, OFFER) as client:
                assert await accepted(client)
                client.say(masked(TEXT, message))
                frame = await client.frame()
                assert frame is not None
                assert frame[0] == (0xC1 if packed else 0x81)
                assert len(unpacked(frame)) == len(message) + 1
            async with peer(served) as client:
                client.say(masked(TEXT, message))
                assert len(await client.text()) == len(message) + 1

    run(main())


@pytest.mark.parametrize("wrong", [-1, 1.5, "on", True, b"off"])
def test_a_class_with_a_wrong_threshold(wrong: Any) -> None:
    """What is no threshold is refused at import, with the remedy."""
    with pytest.raises(DefinitionError, match=r"Wrong\.deflate_min is .*; it is a number of bytes, 'off', or None"):
        type("Wrong", (WebSocketHandlingEndpoint,), {"deflate_min": wrong})


def test_what_does_not_get_smaller_goes_plain() -> None:
    """Random bytes are sent as they are, in replies and ready frames."""
    noise = random.Random(3).randbytes(50_000)
    packer = packing.Packer(12)
    agreed = deflate.Deflate("", packer, 15)
    assert parsed(agreed.frame(noise, text=False)) == (0x82, noise)

    async def main() -> None:
        ready = Push.frame(noise, binary=True)
        assert agreed.ready(ready) is ready

    run(main())


def inflated(payload: bytes, bits: int) -> bytes:
    """Read by whoever has no more than the window, piece by piece: what is further back is not there any more."""
    decoder, data = zlib.decompressobj(wbits=-bits), b""
    rest = payload + b"\x00\x00\xff\xff"
    while rest:
        data += decoder.decompress(rest, 100)
        rest = decoder.unconsumed_tail
    return data


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("effort", [packing.REPLY, packing.READY], ids=["reply", "ready"])
@pytest.mark.parametrize("library", ["zlib", "isal"])
def test_each_message_is_compressed_alone_and_within_its_window(
    bits: int, effort: packing.Effort, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small and large ones, in turn, refer to nothing before them, and to nothing that the window does not hold."""
    monkeypatch.setattr(packing, "ISAL", None if library == "zlib" else pytest.importorskip("isal.isal_zlib"))
    packer, roll = packing.Packer(bits), random.Random(bits)
    far, near = roll.randbytes(20_000) * 3, roll.randbytes(200) * 60
    for message in (far, b"small" * 99, near, far, near, b"small" * 99):
        assert inflated(packer.pack(message, effort), bits) == message
    assert len(packer.pack(near, effort)) < len(near) / 2


def test_isal_compresses_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the rest zlib makes less, and is as fast. Its compressors are kept, too."""
    made: list[int] = []

    class Isal:
        @staticmethod
        def compressobj(level: int, method: int, bits: int) -> Any:
            made.append(level)
            return zlib.compressobj(level, method, bits)

    monkeypatch.setattr(packing, "ISAL", Isal)
    packer = packing.Packer(15)
    packer.pack(b"x" * (packing.LARGE_BYTES - 1), packing.READY)
    assert made == []
    for effort in (packing.READY, packing.READY, packing.REPLY):
        packer.pack(b"x" * packing.LARGE_BYTES, effort)
    assert made == [packing.READY.isal, packing.REPLY.isal]


# --- ready frames


def test_a_ready_frame_is_compressed_once_for_all() -> None:
    """Connections with the same window get one object, which is dropped at the end of the turn of the loop."""
    pushes: list[Push] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        pushes.append(scope["extensions"]["socketsundso.push"])
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def main() -> None:
        windowed = request("/", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=14")
        async with (
            serving(app) as served,
            peer(served, OFFER) as one,
            peer(served, OFFER) as two,
            peer(served, windowed) as three,
            peer(served) as four,
        ):
            for client in (one, two, three):
                assert await accepted(client)
            await until(lambda: len(pushes) == 4)
            frame = Push.frame("x" * 1000)
            for push in pushes:
                assert push.push(frame)
                assert push.offer(frame)
            by_loop = deflate.packers_of(asyncio.get_running_loop())
            assert [len(by_loop.of_bits(bits).twins) for bits in (14, 15)] == [1, 1]
            queued = [connection.outbox._frames for connection in served.connections]
            made = {id(frame) for frames in queued for frame in frames}
            assert len(made) == 3
            assert sum(len(frames) for frames in queued) == 8
            for client in (one, two, three):
                for _ in range(2):
                    assert unpacked(await client.frame()) == "x" * 1000
            assert [await four.text() for _ in range(2)] == ["x" * 1000] * 2
            assert [len(by_loop.of_bits(bits).twins) for bits in (14, 15)] == [0, 0]

    run(main())


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x81",
        Push.frame("x" * 300) * 2,
        Push.frame("x" * 300)[:-1],
        Push.frame("x" * 300) + b"!",
        b"\xc1" + Push.frame("x" * 300)[1:],
        b"\x89\x7d" + b"x" * 125,
        b"\x01" + Push.frame("x" * 300)[1:],
        masked(TEXT, b"x" * 300),
    ],
    ids=lambda frame: f"{len(frame)} {frame[:4].hex()}",
)
def test_what_is_no_single_plain_frame_is_pushed_as_it_is(frame: bytes, contexts: bool) -> None:
    """Such as two frames in one piece, or one that is compressed already: it is not taken apart."""
    agreed = deflate.negotiate([b"permessage-deflate"], deflate.Packers(), contexts=contexts)
    assert agreed is not None

    async def main() -> None:
        assert agreed.ready(frame) is frame

    run(main())


def test_every_connection_has_push() -> None:
    """The extensions are offered with and without permessage-deflate."""
    offered: list[set[str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        offered.append({"socketsundso.push", "socketsundso.pull"} & set(scope["extensions"]))
        await send({"type": "websocket.close"})

    async def main() -> None:
        async with serving(app) as served:
            for head in (OFFER, request()):
                async with peer(served, head) as client:
                    await client.response()

    run(main())
    assert offered == [{"socketsundso.push", "socketsundso.pull"}] * 2


def test_what_is_not_taken_is_not_compressed(contexts: bool) -> None:
    """A frame that is offered to a peer that does not read, or is gone, leaves its contexts as they are."""

    class Transport:
        written = b""

        def write(self, data: bytes) -> None:
            self.written += data

        def get_write_buffer_size(self) -> int:
            return 100_000

    async def main() -> None:
        agreed = deflate.negotiate([b"permessage-deflate"], deflate.Packers(), contexts=contexts)
        assert agreed is not None
        packed: list[bytes] = []
        real = agreed.ready

        class Watched:
            def ready(self, frame: bytes) -> bytes:
                packed.append(frame)
                return real(frame)

        outbox = Outbox(asyncio.get_running_loop(), Transport())  # type: ignore[arg-type]  # as much as is needed
        watched: Any = Watched()  # as much as is needed
        outbox.compress(watched, 0, 0)
        push = PackingPush(outbox, watched)
        frame = Push.frame("x" * 500)
        assert push.push(frame) is False
        assert push.offer(frame) is True, "dropped"
        outbox.open()
        outbox.block()
        assert push.offer(frame) is False
        assert packed == []
        outbox.unblock()
        assert push.offer(frame) is True
        assert packed == [frame]

    run(main())


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


def counted(bytes_of: Callable[[], tuple[int, int]], act: Callable[[], object]) -> list[int]:
    """By how much both numbers have grown."""
    before = bytes_of()
    act()
    return [now - then for now, then in zip(bytes_of(), before, strict=True)]


def test_what_comes_compressed_is_counted_where_somebody_wants_to_know() -> None:
    """As it came and as it is; else it costs nothing."""
    agreed = deflate.negotiate([b"permessage-deflate"], deflate.Packers())
    assert agreed is not None
    packed = compressed(b"x" * 5000)
    deflate.count_inflated(True)
    try:
        assert counted(deflate.inflated_bytes, lambda: agreed.inflate(packed, 5000)) == [len(packed), 5000]
    finally:
        deflate.count_inflated(False)
    assert counted(deflate.inflated_bytes, lambda: agreed.inflate(packed, 5000)) == [0, 0]


@pytest.mark.parametrize("contexts", [False, True], ids=["alone", "contexts"])
def test_what_comes_in_several_frames_is_counted(contexts: bool) -> None:
    """All of them, and nothing twice."""
    agreed = deflate.negotiate([b"permessage-deflate"], deflate.Packers(), contexts=contexts)
    assert agreed is not None
    packed = compressed(b"x" * 5000)

    def take() -> None:
        taking = agreed.inflating()
        taking.decompress(TEXT, packed[:4], fin=False, rsv1=True, max_bytes=5000)
        taking.decompress(CONTINUATION, packed[4:], fin=True, rsv1=False, max_bytes=5000)

    assert counted(deflate.inflated_bytes, take) == [len(packed), 5000]


def test_what_is_compressed_in_a_context_is_counted() -> None:
    """As what is compressed by itself."""
    agreed = deflate.negotiate([b"permessage-deflate"], deflate.Packers(), contexts=True)
    assert agreed is not None
    frames: list[bytes] = []
    grown = counted(deflate.compressed_bytes, lambda: frames.append(agreed.frame(b"x" * 5000, text=True)))
    assert grown == [5000, len(frames[0]) - 2]  # without its head
