"""
permessage-deflate in both directions, with `websockets` as the judge of every frame.

Random messages and fragments, plain and compressed, over all windows that can be negotiated.
"""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import pytest
import uvicorn
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from socketsundso.environment import DEFLATE_CONTEXT_VARIABLE
from socketsundso.server import WebSocketProtocol
from tests.server.serving import LOOPS

MESSAGES = 20_000
PER_CONNECTION = 50
WORDS = [
    "room",
    "lobby",
    "message",
    "hello",
    "world",
    "user",
    "joined",
    "status",
    "price",
    "ü",
    "€",
    "😀",
    "null",
    "true",
]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends each message back in one of the three ways, and twice where it is ready."""
    push = scope["extensions"]["socketsundso.push"]
    if scope["path"] == "/all":
        push.compress_from(0)
    await receive()
    await send({"type": "websocket.accept"})
    number = 0
    while (message := await receive())["type"] == "websocket.receive":
        text, number = message.get("text"), number + 1
        if number % 3 == 0:
            await push.drain()
            frame = push.frame(text if text is not None else message["bytes"], binary=text is None)
            assert push.push(frame)
            assert push.offer(frame)
        elif text is not None and number % 3 == 1 and push.write(text.encode()):
            pass
        else:
            await send({**message, "type": "websocket.send"})


def content(rng: random.Random) -> str | bytes:
    """Of any size up to that of the largest window and more, compressible or not."""
    size = rng.choice([0, 1, 10, 100, 300, 600, 1100, 3000]) if rng.random() < 0.97 else rng.choice([9000, 70_000])
    kind = rng.random()
    if kind < 0.6:
        return " ".join(rng.choices(WORDS, k=size // 6 + (size > 0)))
    if kind < 0.8:
        return rng.randbytes(size)
    block = rng.randbytes(rng.randint(1, 600))  # refers back as far as the window reaches
    return block * (size // len(block) + 1)


class Judge:
    """A client of `websockets`' own, without its network."""

    def __init__(self, rng: random.Random) -> None:
        settings = {
            "server_max_window_bits": rng.choice([None, *range(9, 16)]),
            "client_max_window_bits": rng.choice([None, True, *range(9, 16)]),
            "server_no_context_takeover": rng.random() < 0.3,
            "client_no_context_takeover": rng.random() < 0.3,
            "compress_settings": {"level": rng.choice([0, 1, 6, 9])},
        }
        self.rng, self.settings = rng, settings
        self.protocol = ClientProtocol(
            parse_uri(f"ws://localhost{rng.choice(['/', '/all'])}"),
            extensions=[ClientPerMessageDeflateFactory(**settings)],
            max_size=None,
        )

    def send(self, message: str | bytes) -> bytes:
        """The bytes of `message`: in one frame or several, compressed or not, pings between them."""
        payload = message.encode() if isinstance(message, str) else message
        opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
        if self.rng.random() < 0.2:
            return Frame(opcode, payload).serialize(mask=True)
        cuts = sorted(self.rng.randint(0, len(payload)) for _ in range(self.rng.choice([0, 0, 0, 1, 3])))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for i, part in enumerate(parts):
            fin = i == len(parts) - 1
            if i:
                self.protocol.send_continuation(part, fin)
            elif opcode is Opcode.TEXT:
                self.protocol.send_text(part, fin)
            else:
                self.protocol.send_binary(part, fin)
            if self.rng.random() < 0.1:
                self.protocol.send_ping(b"?")
        return b"".join(self.protocol.data_to_send())

    def received(self, data: bytes) -> list[str | bytes]:
        """The messages in `data`."""
        self.protocol.receive_data(data)
        if self.protocol.parser_exc is not None:
            raise self.protocol.parser_exc
        frames = [event for event in self.protocol.events_received() if isinstance(event, Frame)]
        data_frames = [frame for frame in frames if frame.opcode in (Opcode.TEXT, Opcode.BINARY)]
        return [
            bytes(frame.data).decode() if frame.opcode is Opcode.TEXT else bytes(frame.data) for frame in data_frames
        ]


def expected(messages: list[str | bytes]) -> list[str | bytes]:
    found: list[str | bytes] = []
    for number, message in enumerate(messages, 1):
        found += [message] * (2 if number % 3 == 0 else 1)
    return found


async def talk(rng: random.Random) -> None:
    """One connection, and PER_CONNECTION messages there and back."""
    judge = Judge(rng)
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(echo, interface="asgi3", log_config=None, proxy_headers=False)
    config.load()
    state = uvicorn.Server(config).server_state
    ours, theirs = socket.socketpair()
    _, server = await loop.create_connection(lambda: WebSocketProtocol(config, state, {}), sock=ours)
    theirs.setblocking(False)
    judge.protocol.send_request(judge.protocol.connect())
    server.data_received(b"".join(judge.protocol.data_to_send()))
    messages = [content(rng) for _ in range(PER_CONNECTION)]
    wanted, got = expected(messages), list[str | bytes]()
    while judge.protocol.handshake_exc is None and judge.protocol.state.name == "CONNECTING":
        got += judge.received(await loop.sock_recv(theirs, 1 << 16))
    assert judge.protocol.handshake_exc is None, (judge.settings, judge.protocol.handshake_exc)
    assert judge.protocol.extensions, judge.settings
    sending = loop.create_task(loop.sock_sendall(theirs, b"".join(map(judge.send, messages))))
    while len(got) < len(wanted):
        got += judge.received(await loop.sock_recv(theirs, 1 << 18))
    assert got == wanted, judge.settings
    await sending
    theirs.close()
    while state.tasks or state.connections:
        await asyncio.sleep(0)


@pytest.mark.parametrize("contexts", [False, True], ids=["alone", "contexts"])
def test_every_message_survives_both_ways(contexts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a peer compresses is read, and what is sent can be read by it, whatever was negotiated."""
    if contexts:
        monkeypatch.setenv(DEFLATE_CONTEXT_VARIABLE, "1")

    async def main() -> None:
        for seed in range(MESSAGES // PER_CONNECTION // 2):
            try:
                async with asyncio.timeout(60):
                    await talk(random.Random(seed))
            except BaseException as exc:
                exc.add_note(f"seed {seed}")
                raise

    with asyncio.Runner(loop_factory=LOOPS["uvloop"]) as runner:
        runner.run(main())
