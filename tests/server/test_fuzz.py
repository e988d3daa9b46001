"""
Any bytes, any split: the same messages or a clean close.

The protocol runs on a socket pair in this process, so that thousands of streams take seconds.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Any

import pytest
import uvicorn

from socketsundso.server import WebSocketProtocol
from tests.server.serving import (
    BINARY,
    CLOSE,
    CONTINUATION,
    LOOPS,
    PING,
    PONG,
    TEXT,
    closing,
    masked,
    request,
)

MAX_BYTES = 5000


class Pair:
    """One connection over a socket pair, its application and its peer."""

    def __init__(self, deflate: bool = False) -> None:
        self.messages: list[Any] = []
        self.config = uvicorn.Config(
            self.app,
            interface="asgi3",
            log_config=None,
            ws_max_size=MAX_BYTES,
            ws_per_message_deflate=deflate,
            proxy_headers=False,
        )
        self.config.load()
        self.state = uvicorn.Server(self.config).server_state

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            self.messages.append(message.get("text", message.get("bytes")))
        self.messages.append(message["code"])

    async def run(self, *segments: bytes, extension: bool = False) -> tuple[list[Any], list[tuple[int, bytes]]]:
        """Send `segments` one by one after the handshake; return the application's messages and the frames."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_connection(
            lambda: WebSocketProtocol(self.config, self.state, {}), sock=ours
        )
        theirs.setblocking(False)
        extensions = ("Sec-WebSocket-Extensions: permessage-deflate",) if extension else ()
        protocol.data_received(request("/", *extensions))
        data = b""
        while b"\r\n\r\n" not in data:
            data += await loop.sock_recv(theirs, 1 << 16)
        for segment in segments:
            try:
                await loop.sock_sendall(theirs, segment)
            except (BrokenPipeError, ConnectionResetError):
                break
            await asyncio.sleep(0)
        theirs.shutdown(socket.SHUT_WR)
        while part := await loop.sock_recv(theirs, 1 << 16):
            data += part
        theirs.close()
        while self.state.tasks or self.state.connections:
            await asyncio.sleep(0)
        return self.messages, frames(data.partition(b"\r\n\r\n")[2])


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """The server's frames in `data`, all of which must be complete and well formed."""
    found = []
    while data:
        first, size = data[:2]
        start = 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", data[2:10])[0], 10
        assert size < 128 or start > 2
        assert len(data) >= start + size
        assert not found or found[-1][0] != 0x88, "a frame after the close frame"
        found.append((first, data[start : start + size]))
        data = data[start + size :]
    return found


def valid_stream(rng: random.Random) -> tuple[bytes, list[Any]]:
    """Frames of whole messages, fragmented at will with control frames between, and what they mean."""
    stream, meaning = b"", []
    for _ in range(rng.randint(1, 6)):
        text = rng.random() < 0.6
        size = rng.choice([0, 1, 5, 125, 126, 127, 1000, 4000])
        content: Any = (
            "".join(rng.choice("ab\u00fc\u20ac\U0001f600") for _ in range(size // 4)) if text else rng.randbytes(size)
        )
        payload = content.encode() if text else content
        cuts = sorted(rng.randint(0, len(payload)) for _ in range(rng.choice([0, 0, 1, 3])))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for i, part in enumerate(parts):
            opcode = CONTINUATION if i else TEXT if text else BINARY
            stream += masked(opcode, part, fin=i == len(parts) - 1, mask=rng.randbytes(4))
            if rng.random() < 0.2:
                stream += masked(rng.choice([PING, PONG]), rng.randbytes(rng.randint(0, 125)))
        meaning.append(content)
    code = rng.choice([1000, 1001, 3000, 4999])
    return stream + closing(code), [*meaning, code]


def cut(rng: random.Random, stream: bytes) -> list[bytes]:
    """`stream` in random pieces."""
    places = sorted(rng.randint(0, len(stream)) for _ in range(rng.randint(0, 12)))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True) if a < b]


def everywhere(loop: str, main: Any) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_any_split_gives_the_same_messages(loop: str) -> None:
    """However TCP cuts a valid stream, the application gets the same messages and the peer its close."""

    async def main() -> None:
        for seed in range(1500):
            rng = random.Random(seed)
            stream, meaning = valid_stream(rng)
            messages, answered = await Pair().run(*cut(rng, stream))
            assert messages == meaning, f"seed {seed}"
            assert answered[-1] == (0x88, meaning[-1].to_bytes(2)), f"seed {seed}"

    everywhere(loop, main())


def test_every_single_split() -> None:
    """A stream with every kind of frame, cut in two at each of its bytes, and into single bytes."""
    stream = (
        masked(TEXT, "gr\u00fc\u00df".encode()[:3], fin=False)
        + masked(PING, b"p")
        + masked(CONTINUATION, "gr\u00fc\u00df".encode()[3:])
        + masked(BINARY, bytes(130))
        + masked(TEXT, b"")
        + closing(1001, "bye")
    )
    meaning = ["gr\u00fc\u00df", bytes(130), "", 1001]

    async def main() -> None:
        for place in range(len(stream) + 1):
            assert (await Pair().run(stream[:place], stream[place:]))[0] == meaning, place
        assert (await Pair().run(*(bytes([byte]) for byte in stream)))[0] == meaning

    everywhere("uvloop", main())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("extension", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("kind", ["random", "mutated"])
def test_any_bytes_give_a_clean_close(kind: str, extension: bool, loop: str, caplog: pytest.LogCaptureFixture) -> None:
    """Random and mutated streams end with one valid close frame or a plain hang-up, and no traceback."""

    async def main() -> None:
        for seed in range(1500):
            rng = random.Random(seed)
            if kind == "random":
                stream = rng.randbytes(rng.randint(0, 400))
            else:
                mutable = bytearray(valid_stream(rng)[0])
                for _ in range(rng.randint(1, 5)):
                    mutable[rng.randrange(min(len(mutable), 60))] = rng.randrange(256)
                stream = bytes(mutable)
            messages, answered = await Pair(deflate=extension).run(*cut(rng, stream), extension=extension)
            code = messages[-1]
            assert code in (1002, 1005, 1006, 1007, 1009) or 1000 <= code < 5000, f"seed {seed}"
            for first, payload in answered:
                assert first in (0x88, 0x8A), f"seed {seed}"
                assert len(payload) <= 125, f"seed {seed}"

    everywhere(loop, main())
    assert "Traceback" not in caplog.text
    assert not caplog.records


def test_close_frames_of_all_codes() -> None:
    """Each code that a peer may send is told to the application, each other is a 1002."""

    async def main() -> None:
        for code in [*range(0, 6), *range(995, 1020), 1999, 2000, 2999, 3000, 4999, 5000, 65535]:
            messages, _ = await Pair().run(masked(CLOSE, code.to_bytes(2)))
            allowed = code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000
            assert messages == [code if allowed else 1002], code

    everywhere("uvloop", main())
