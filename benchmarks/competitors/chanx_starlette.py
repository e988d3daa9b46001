"""chanx on Starlette: a handler per message model, dispatched by `action`, its fields in `payload`."""

import logging
from typing import Literal

import structlog
from chanx.core.decorators import channel, ws_handler
from chanx.fast_channels.websocket import AsyncJsonWebsocketConsumer
from chanx.messages.base import BaseMessage
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

VALIDATES = "pydantic, input and reply"

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


class Chat(BaseModel):
    room: str
    msg: str
    sender: int | None = None


class Message(BaseMessage):
    action: Literal["message"] = "message"
    payload: Chat


@channel(name="chat")
class ChatConsumer(AsyncJsonWebsocketConsumer):
    send_completion = False
    send_authentication_message = False

    @ws_handler(output_type=Message)
    async def handle_message(self, message: Message) -> Message:
        return message


app = Starlette(routes=[WebSocketRoute("/", ChatConsumer.as_asgi())])
