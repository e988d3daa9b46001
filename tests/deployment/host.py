"""What is served behind the proxies."""

from __future__ import annotations

import os

import msgspec

from socketsundso import Endpoint, event


class Said(msgspec.Struct, tag_field="type", tag="said"):
    text: str


class Host(Endpoint):
    """Tells a client which process serves it, and who it is for that; says to a room what it is told."""

    emits = [Said]

    @event
    async def on_who(self) -> dict[str, object]:
        assert self.websocket.client is not None
        return {"pid": os.getpid(), "client": self.websocket.client.host, "scheme": self.websocket.url.scheme}

    @event
    async def on_enter(self, room: str) -> dict[str, object]:
        await self.join(room)
        return {}

    @event
    async def on_say(self, room: str, text: str) -> dict[str, object]:
        await self.broadcast(Said(text), room=room, exclude_self=True)
        return {}
