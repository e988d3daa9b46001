"""socketsundso: a room. A slow reader loses the oldest and stays connected, so that its cost can be measured."""

import msgspec

from socketsundso import WebSocketHandlingEndpoint, event

VALIDATES = "pydantic, input"


class Message(msgspec.Struct, tag_field="type", tag="message"):
    room: str
    msg: str
    sender: int | None = None


class Chat(WebSocketHandlingEndpoint):
    on_slow = "drop_oldest"

    async def on_connect(self) -> None:
        await super().on_connect()
        await self.join("lobby")

    @event
    async def on_enter(self, room: str) -> None:
        await self.join(room)

    @event
    async def on_message(self, room: str, msg: str, sender: int | None = None) -> None:
        await self.broadcast(Message(room, msg, sender), room=room)


app = Chat
