"""
A chat with rooms, presence and recovery. Run `python -m examples.chat` and open http://127.0.0.1:8000 in two tabs.

The page is plain HTML; the protocol is what the handlers' signatures say. Over several processes, unchanged:
`socketsundso run examples.chat:app --workers 2 --backplane redis://127.0.0.1`
"""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import uvicorn
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute

from socketsundso import EventError, Keep, WebSocketHandlingEndpoint, event

PAGE = Path(__file__).with_name("chat.html")
Name = Annotated[str, Field(min_length=1, max_length=40)]


class Said(msgspec.Struct, tag_field="type", tag="said"):
    """{"type":"said","sender":"ada","msg":"hello","room":"lobby","seq":7}, the last two added by the room"""

    sender: str
    msg: str


class Chat(WebSocketHandlingEndpoint):
    """One instance per connection. Who is in a room is presence; what was said is kept for those who reconnect."""

    emits = [Said]
    history = {"*": Keep(messages=100, seconds=3600)}
    presence_events = True
    name = ""

    @event
    async def on_enter(self, room: Name, name: Name) -> None:
        for left in self.rooms:
            await self.leave(left)
        self.name = name
        await self.join(room)
        await self.track({"name": name}, room=room)

    @event
    async def on_message(self, msg: Annotated[str, Field(min_length=1, max_length=2000)]) -> None:
        if not self.rooms:
            raise EventError("not_entered", "enter a room first")
        await self.broadcast(Said(self.name, msg), room=self.rooms)


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", Chat)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
