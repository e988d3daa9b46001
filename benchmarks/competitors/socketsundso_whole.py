"""socketsundso with the tuned loop's own models: the union is the message, and the model is the reply."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from socketsundso import WebSocketHandlingEndpoint, event

VALIDATES = "pydantic, input and reply"


class Message(BaseModel):
    type: Literal["message"]
    room: str
    msg: str
    sender: int | None = None


class Ping(BaseModel):
    type: Literal["ping"]


ClientMessage = Annotated[Message | Ping, Field(discriminator="type")]


class Chat(WebSocketHandlingEndpoint):
    @event
    async def handle(self, message: ClientMessage) -> ClientMessage:
        return message


app = Chat
