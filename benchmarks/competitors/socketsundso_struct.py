"""socketsundso, the reply a msgspec Struct."""

import msgspec

from socketsundso import WebSocketHandlingEndpoint, event

VALIDATES = "pydantic, input"


class Message(msgspec.Struct, tag_field="type", tag="message"):
    room: str
    msg: str
    sender: int | None = None


class Chat(WebSocketHandlingEndpoint):
    @event
    async def on_message(self, room: str, msg: str, sender: int | None = None) -> Message:
        return Message(room, msg, sender)


app = Chat
