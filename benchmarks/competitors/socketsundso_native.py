"""socketsundso without a reply model: native parameters in, a plain dict out."""

from typing import Any

from socketsundso import WebSocketHandlingEndpoint, event

VALIDATES = "pydantic, input"


class Chat(WebSocketHandlingEndpoint):
    @event
    async def on_message(self, room: str, msg: str, sender: int | None = None) -> Any:
        return {"type": "message", "room": room, "msg": msg, "sender": sender}


app = Chat
