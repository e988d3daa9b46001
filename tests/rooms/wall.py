"""What the processes of `test_processes` serve: a wall of rooms. `tests.rooms.wall:Wall`."""

from __future__ import annotations

import os
from typing import Any

from socketsundso import BackplaneUnavailable, Endpoint, Keep, event


class Wall(Endpoint):
    history = {"doc:*": Keep(messages=2000, seconds=300)}
    presence_events = True

    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {"type": "entered", "pid": os.getpid()}

    @event
    async def on_appear(self, room: str, name: str) -> None:
        await self.track({"name": name}, room=room)

    @event
    async def on_who(self, room: str) -> dict[str, Any]:
        return {"type": "here", "names": sorted(member.meta["name"] for member in await self.presence.list(room))}

    @event
    async def on_say(self, room: str, sender: int, n: int, pad: str = "") -> dict[str, Any]:
        try:
            await self.broadcast({"type": "said", "sender": sender, "n": n, "pad": pad}, room=room)
        except BackplaneUnavailable:
            return {"type": "sent", "refused": True}
        return {"type": "sent", "refused": False}

    @event
    async def on_status(self) -> dict[str, Any]:
        status = type(self).hub.status
        return {"type": "status", "state": str(status), "dropped": status.dropped, "refused": status.refused}
