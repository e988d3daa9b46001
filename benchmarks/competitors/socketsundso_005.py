"""
What socketsundso 0.0.5 did, written down again on pydantic v2: peek at `type`, validate with a model made from the
handler's signature, call it, and send `jsonable_encoder` of the validated reply as JSON.
"""

import inspect
from collections.abc import Callable
from typing import Any

from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, create_model
from starlette.endpoints import WebSocketEndpoint
from starlette.websockets import WebSocket

VALIDATES = "pydantic, input and reply"


class Message(BaseModel):
    type: str = "message"
    room: str
    msg: str
    sender: int | None = None


async def on_message(room: str, msg: str, sender: int | None = None) -> Message:
    return Message(room=room, msg=msg, sender=sender)


def model_of(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {"type": (str, name)}
    for parameter in inspect.signature(function).parameters.values():
        fields[parameter.name] = (
            parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
    return create_model(f"{name}_event", **fields)


HANDLERS = {"message": (model_of("message", on_message), on_message, Message)}


class Chat(WebSocketEndpoint):
    encoding = "json"

    async def on_receive(self, websocket: WebSocket, data: dict[str, Any]) -> None:
        model, handler, response_model = HANDLERS[data["type"]]
        event = model.model_validate(data)
        arguments = {name: getattr(event, name) for name in model.model_fields if name != "type"}
        reply = response_model.model_validate((await handler(**arguments)).model_dump())
        await websocket.send_json(jsonable_encoder(reply))


app = Chat
