"""
A board that many people draw on at once. Run `python -m examples.cursors` and open http://127.0.0.1:8000 in two tabs.

Whoever reads too slowly gets only the newest place of each cursor (`Conflate`), but every stroke. Over several
processes, unchanged: `socketsundso run examples.cursors:app --workers 2 --backplane redis://127.0.0.1`
"""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import uvicorn
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route, WebSocketRoute

from socketsundso import Conflate, WebSocketHandlingEndpoint, event

PAGE = Path(__file__).with_name("cursors.html")
BOARD = "board"
Share = Annotated[float, Field(ge=0, le=1)]  # of the board's width or height


class Moved(msgspec.Struct, tag_field="type", tag="moved"):
    """{"type":"moved","who":"4f1c-1","x":0.25,"y":0.5}"""

    who: str
    x: float
    y: float


class Stroke(msgspec.Struct, tag_field="type", tag="stroke"):
    """{"type":"stroke","who":"4f1c-1","points":[[0.25,0.5],[0.26,0.5]]}"""

    who: str
    points: list[tuple[float, float]]


class Board(WebSocketHandlingEndpoint):
    """Who is here, and in which colour, is presence; places and strokes are broadcasts."""

    emits = [Moved, Stroke]
    presence_events = True
    on_slow = Conflate(key=lambda m: m.who if m.type == "moved" else None)  # None: never replaced

    @event
    async def on_enter(
        self, name: Annotated[str, Field(min_length=1, max_length=24)], hue: Annotated[int, Field(ge=0, lt=360)]
    ) -> dict[str, str]:
        await self.join(BOARD)
        await self.track({"name": name, "hue": hue}, room=BOARD)
        return {"type": "welcome", "who": self.id}

    @event
    async def on_move(self, x: Share, y: Share) -> None:
        await self.broadcast(Moved(self.id, x, y), room=self.rooms, exclude_self=True)

    @event
    async def on_draw(self, points: Annotated[list[tuple[Share, Share]], Field(min_length=2, max_length=100)]) -> None:
        await self.broadcast(Stroke(self.id, points), room=self.rooms, exclude_self=True)


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


async def status(request: Request) -> JSONResponse:
    """What the policy for slow readers has left out, among others: the counters of this process."""
    now = Board.hub.status
    counters = {"published": now.published, "delivered": now.delivered, "dropped": now.dropped, "refused": now.refused}
    return JSONResponse({"backplane": now, **counters})


app = Starlette(routes=[Route("/", page), Route("/status", status), WebSocketRoute("/ws", Board)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
