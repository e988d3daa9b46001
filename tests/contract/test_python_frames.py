"""Frames of a generated client: however the network cuts them, messages come whole and in their order."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from .apis import CHAT
from .clients import load

Connection = load(CHAT)._Connection
MAX_SIZE = 1000


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, deflate: bool = False, masked: bool = False) -> bytes:
    """As a server writes it; a masked one is a mistake of its."""
    head = bytes([fin << 7 | deflate << 6 | opcode])
    size, mask = len(payload), 0x80 * masked
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" * masked + payload


def deflated(payload: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Raw:
    """A server that writes what it is told, in the pieces that it is told."""

    def __init__(self, pieces: Callable[[bytes], Iterator[bytes]], *, deflate: bool = False) -> None:
        self._pieces, self._deflate = pieces, deflate
        self.opcodes: list[int] = []  # of what the client sent

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
        lines.append(b"Sec-WebSocket-Accept: " + accept)
        if self._deflate:
            lines.append(b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
        for piece in self._pieces(b"\r\n".join(lines) + b"\r\n\r\n"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        while 8 not in self.opcodes and (head := await reader.read(2)):
            await reader.readexactly(4 + (head[1] & 0x7F))
            self.opcodes.append(head[0] & 0x0F)
        writer.close()


async def read(server: Raw, count: int | None = None, **options: Any) -> tuple[list[bytes], Any]:
    """What is delivered until the connection ends, or so many messages came; and the connection."""
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]

    def make(*args: Any, **given: Any) -> Any:
        return Connection(*args, max_size=MAX_SIZE, **given)

    messages: list[bytes] = []
    enough = asyncio.Event()

    def deliver(batch: list[bytes]) -> None:
        messages.extend(batch)
        if count is not None and len(messages) >= count:
            enough.set()

    async with listening:
        made: Any = make
        async with connect(
            f"ws://127.0.0.1:{port}", create_connection=made, max_size=MAX_SIZE, **options
        ) as connection:
            connection.start(deliver)  # type: ignore[attr-defined]  # it is ours
            ended = asyncio.create_task(connection.wait_closed())
            reached = asyncio.create_task(enough.wait())
            await asyncio.wait([ended, reached], return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
        await ended
        return messages, connection


MESSAGES = [b"a", b"", b"x" * 125, b"y" * 126, b"z" * 300, "ü".encode(), b"last"]
STREAM = (
    frame(MESSAGES[0])
    + frame(b"ping", 9)
    + frame(MESSAGES[1])
    + frame(MESSAGES[2], 2)
    + frame(MESSAGES[3][:50], fin=False)
    + frame(b"between", 9)
    + frame(MESSAGES[3][50:100], 0, fin=False)
    + frame(MESSAGES[3][100:], 0)
    + frame(deflated(MESSAGES[4]), deflate=True)
    + frame(MESSAGES[5])
    + frame(MESSAGES[6])
    + frame((4403).to_bytes(2, "big") + b"bye", 8)
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 10**6])
def test_messages_come_whole_and_in_order(size: int) -> None:
    """Whatever is between them (pings, fragments, what is compressed), and however it arrives; then the close code."""

    def pieces(handshake: bytes) -> Iterator[bytes]:
        data = handshake + STREAM
        yield from (data[start : start + size] for start in range(0, len(data), size))

    async def main() -> None:
        server = Raw(pieces, deflate=True)
        messages, connection = await read(server)
        assert messages == MESSAGES
        assert (connection.close_code, connection.close_reason) == (4403, "bye")
        assert server.opcodes == [10, 10, 8]  # each ping has its pong

    asyncio.run(main())


def test_random_cuts_change_nothing(fuzz_seed: int) -> None:
    """Of a long stream: more messages than are read in one turn."""
    dice = random.Random(fuzz_seed)
    sizes = [dice.choice((0, 1, 5, 125, 126, 130, 999)) for _ in range(2000)]
    expected = [dice.randbytes(size).hex().encode()[:size] for size in sizes]
    data = b"".join(frame(each) for each in expected) + frame(b"", 8)

    def pieces(handshake: bytes) -> Iterator[bytes]:
        yield handshake
        start = 0
        while start < len(data):
            size = dice.choice((1, 100, 1000, 100_000))
            yield data[start : start + size]
            start += size

    messages, _ = asyncio.run(read(Raw(pieces)))
    assert messages == expected, f"seed {fuzz_seed}"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(b"x" * (MAX_SIZE + 1)), 1009),
        (bytes([0x81, 127]) + (2**63).to_bytes(8, "big"), 1009),
        (bytes([0x81, 127]) + (2**40).to_bytes(8, "big"), 1009),
        (frame(b"x", masked=True), 1002),
        (frame(b"x" * 300, masked=True), 1002),
        (frame(b"x", 3), 1002),
        (frame(b"x", 0), 1002),
        (frame(b"x", deflate=True), 1002),
        (frame(b"a", fin=False) + frame(b"b"), 1002),
        (frame(b"x" * 130, 9), 1002),
    ],
)
def test_what_no_server_may_send_ends_the_connection(bad: bytes, code: int) -> None:
    """As websockets does it; what came before is delivered, what comes behind is not."""

    def pieces(handshake: bytes) -> Iterator[bytes]:
        yield handshake + frame(b"before") + bad + frame(b"behind")

    messages, connection = asyncio.run(read(Raw(pieces)))
    assert messages == [b"before"]
    assert connection.protocol.close_sent.code == code


def test_what_came_before_a_lost_connection_is_delivered() -> None:
    """All of it, also more than one turn reads; then 1006."""

    class Cut(Raw):
        async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asyncio.get_running_loop().call_later(0.05, writer.close)
            await super().__call__(reader, writer)

    def pieces(handshake: bytes) -> Iterator[bytes]:
        yield handshake + frame(b"x") * 1000 + frame(b"half")[:3]

    messages, connection = asyncio.run(read(Cut(pieces)))
    assert messages == [b"x"] * 1000
    assert connection.close_code == 1006


def test_a_refused_handshake_is_read_by_websockets() -> None:
    """Its body, too."""

    def pieces(handshake: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot"
        yield b" today"

    with pytest.raises(InvalidStatus) as caught:
        asyncio.run(read(Raw(pieces)))
    assert caught.value.response.body == b"not today"


def test_a_head_without_an_end_is_not_kept() -> None:
    """Who answers with endless lines is refused."""

    def pieces(handshake: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 101 Switching Protocols\r\n"
        for _ in range(200):
            yield b"X-Filler: " + b"x" * 1000 + b"\r\n"

    with pytest.raises(Exception, match="valid HTTP response"):
        asyncio.run(read(Raw(pieces)))
