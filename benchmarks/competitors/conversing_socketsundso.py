"""socketsundso, an endpoint that converses: it streams and asks back, beside handlers that take turns."""

import asyncio
from collections.abc import AsyncIterator

from pydantic import BaseModel

from socketsundso import WebSocketHandlingEndpoint, event

VALIDATES = "pydantic, input and reply"


class Message(BaseModel):
    room: str
    msg: str
    sender: int | None = None


class Token(BaseModel):
    text: str


class Chat(WebSocketHandlingEndpoint):
    @event
    async def on_message(self, room: str, msg: str, sender: int | None = None) -> Message:
        return Message(room=room, msg=msg, sender=sender)

    @event
    async def on_paused(self, room: str, msg: str, sender: int | None = None) -> Message:
        await asyncio.sleep(0)
        return Message(room=room, msg=msg, sender=sender)

    @event
    async def on_generate(self, words: list[str], paused: bool = False) -> AsyncIterator[Token]:
        for word in words:
            if paused:
                await asyncio.sleep(0)
            yield Token(text=word)

    @event
    async def on_wait(self) -> AsyncIterator[Token]:
        yield Token(text="now nothing comes")
        await asyncio.Event().wait()


app = Chat
