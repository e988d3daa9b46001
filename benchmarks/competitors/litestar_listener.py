"""Litestar's `websocket_listener`: msgspec decodes and validates the annotated Struct, and encodes what is returned."""

from typing import Literal

import msgspec
from litestar import Litestar, websocket_listener
from litestar.dto import MsgspecDTO

VALIDATES = "msgspec, input (no dispatch by type)"


class Message(msgspec.Struct):
    type: Literal["message"]
    room: str
    msg: str
    sender: int | None = None


@websocket_listener("/", dto=MsgspecDTO[Message])  # without one, the handler gets a dict that nobody has validated
async def chat(data: Message) -> Message:
    return data


app = Litestar([chat], openapi_config=None)
