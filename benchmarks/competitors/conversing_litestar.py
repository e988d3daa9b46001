"""Litestar's `send_websocket_stream`, for each message that asks for one."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from litestar import Litestar, WebSocket, websocket
from litestar.handlers import send_websocket_stream

VALIDATES = "msgspec, input"


class Generate(msgspec.Struct, tag_field="type", tag="generate"):
    ref: int
    words: list[str]
    paused: bool = False


async def generated(asked: Generate) -> AsyncGenerator[dict[str, Any], None]:
    for word in asked.words:
        if asked.paused:
            await asyncio.sleep(0)
        yield {"type": "token", "text": word, "ref": asked.ref}


async def send(socket: WebSocket, item: dict[str, Any]) -> None:
    await socket.send_json(item)


@websocket("/")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    decode = msgspec.json.Decoder(Generate).decode
    while True:
        asked = decode(await socket.receive_text())
        await send_websocket_stream(
            socket, generated(asked), close=False, send_handler=send, listen_for_disconnect=True
        )
        await socket.send_json({"type": "complete", "ref": asked.ref})  # once nobody else listens


app = Litestar([chat], openapi_config=None)
