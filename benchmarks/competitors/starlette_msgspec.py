"""Starlette with msgspec by hand: a tagged Struct in and out."""

from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

VALIDATES = "msgspec, input"


class Message(msgspec.Struct, tag_field="type", tag="message"):
    room: str
    msg: str
    sender: int | None = None


class Ping(msgspec.Struct, tag_field="type", tag="ping"):
    pass


decode = msgspec.json.Decoder(Message | Ping).decode
encode = msgspec.json.Encoder().encode


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            try:
                message: Any = decode(await websocket.receive_text())
            except msgspec.ValidationError as exc:
                message = {"type": "error", "errors": [str(exc)]}
            await websocket.send_text(encode(message).decode())
    except WebSocketDisconnect:
        pass


app = Starlette(routes=[WebSocketRoute("/", chat)])
