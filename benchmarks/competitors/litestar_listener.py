"""Litestar's `websocket_listener`: msgspec decodes and validates the annotated Struct, and encodes what is returned."""

from typing import Literal

import msgspec
from litestar import Litestar, websocket_listener

VALIDATES = "msgspec, input (no dispatch by type)"


class Message(msgspec.Struct):
    type: Literal["message"]
    room: str
    msg: str
    sender: int | None = None


@websocket_listener("/")
async def chat(data: Message) -> Message:
    return data


app = Litestar([chat], openapi_config=None)
