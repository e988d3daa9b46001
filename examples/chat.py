"""
A chat with rooms. Run `python -m examples.chat`, open http://127.0.0.1:8000 in two tabs and talk.

The page is plain HTML; the protocol is what the three handlers' signatures say.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import msgspec
import uvicorn
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from socketsundso import EventError, WebSocketHandlingEndpoint, event

PAGE = Path(__file__).with_name("chat.html")
Name = Annotated[str, Field(min_length=1, max_length=40)]


class Entered(msgspec.Struct, tag_field="type", tag="entered"):
    """{"type":"entered","room":"lobby","members":["ada","grace"]}"""

    room: str
    members: list[str]


class Said(msgspec.Struct, tag_field="type", tag="said"):
    """{"type":"said","sender":"ada","msg":"hello"}"""

    sender: str
    msg: str


class Chat(WebSocketHandlingEndpoint):
    """One instance per connection; the rooms are shared by all of this process."""

    rooms_by_name: defaultdict[str, list["Chat"]] = defaultdict(list)
    room: str | None = None
    name = ""

    @event
    async def on_enter(self, room: Name, name: Name) -> None:
        await self.go()
        self.room, self.name = room, name
        self.rooms_by_name[room].append(self)
        await self.tell_members(room)

    @event
    async def on_message(self, msg: Annotated[str, Field(min_length=1, max_length=2000)]) -> None:
        if self.room is None:
            raise EventError("not_entered", "enter a room first")
        await self.tell(self.room, Said(self.name, msg))

    async def on_disconnect(self, close_code: int) -> None:
        await self.go()

    async def go(self) -> None:
        if self.room is not None:
            members = self.rooms_by_name[self.room]
            members.remove(self)
            if not members:
                del self.rooms_by_name[self.room]
            room, self.room = self.room, None
            await self.tell_members(room)

    async def tell_members(self, room: str) -> None:
        members = self.rooms_by_name.get(room, [])
        await self.tell(room, Entered(room, [member.name for member in members]))

    async def tell(self, room: str, message: msgspec.Struct) -> None:
        for member in list(self.rooms_by_name.get(room, [])):
            try:
                await member.send(message)
            except WebSocketDisconnect:
                continue  # it is leaving right now; its own task takes it out


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", Chat)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
