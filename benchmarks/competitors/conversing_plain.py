"""socketsundso, an endpoint that converses in nothing: one message, one answer, in turns."""

import asyncio

from pydantic import BaseModel

from socketsundso import WebSocketHandlingEndpoint, event

VALIDATES = "pydantic, input and reply"


class Message(BaseModel):
    room: str
    msg: str
    sender: int | None = None


class Chat(WebSocketHandlingEndpoint):
    @event
    async def on_message(self, room: str, msg: str, sender: int | None = None) -> Message:
        return Message(room=room, msg=msg, sender=sender)

    @event
    async def on_paused(self, room: str, msg: str, sender: int | None = None) -> Message:
        await asyncio.sleep(0)
        return Message(room=room, msg=msg, sender=sender)


app = Chat
