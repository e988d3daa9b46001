"""
A board that many people draw on at once. Run `python -m examples.cursors` and open http://127.0.0.1:8000 in two tabs.

Whoever reads too slowly gets only the newest place of each cursor (`Conflate`), but every stroke; whoever comes later,
what was drawn so far. Over several processes, unchanged:
`socketsundso run examples.cursors:app --workers 2 --backplane redis://127.0.0.1`
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

from socketsundso import Conflate, EventError, Keep, WebSocketHandlingEndpoint, event

PAGE = Path(__file__).with_name("cursors.html")
BOARD = "board"  # who is here, and where
INK = "ink"  # what was drawn
DRAWN = 2000  # strokes that are kept, each of them up to a tenth of a second long
Hue = Annotated[int, Field(ge=0, lt=360)]
Share = Annotated[float, Field(ge=0, le=1)]  # of the board's width or height


class Moved(msgspec.Struct, tag_field="type", tag="moved"):
    """{"type":"moved","who":"4f1c-1","x":0.25,"y":0.5}"""

    who: str
    x: float
    y: float


class Stroke(msgspec.Struct, tag_field="type", tag="stroke"):
    """{"type":"stroke","who":"4f1c-1","hue":20,"points":[[0.25,0.5],[0.26,0.5]],"room":"ink","seq":7}"""

    who: str
    hue: int
    points: list[tuple[float, float]]


class Board(WebSocketHandlingEndpoint):
    """Who is here, and in which colour, is presence; places and strokes are broadcasts, and strokes are kept."""

    emits = [Moved, Stroke]
    history = {INK: Keep(messages=DRAWN, seconds=86_400)}
    presence_events = True
    on_slow = Conflate(key=lambda m: m.who if m.type == "moved" else None)  # None: never replaced

    hue = 0

    @event
    async def on_enter(self, name: Annotated[str, Field(min_length=1, max_length=24)], hue: Hue) -> dict[str, str]:
        self.hue = hue
        await self.join(BOARD)
        await self.track({"name": name, "hue": hue}, room=BOARD)
        await self.join(INK, last=DRAWN)
        return {"type": "welcome", "who": self.id}

    @event
    async def on_move(self, x: Share, y: Share) -> None:
        self.require_entered()
        await self.broadcast(Moved(self.id, x, y), room=BOARD, exclude_self=True)

    @event
    async def on_draw(self, points: Annotated[list[tuple[Share, Share]], Field(min_length=2, max_length=100)]) -> None:
        self.require_entered()
        await self.broadcast(Stroke(self.id, self.hue, points), room=INK, exclude_self=True)

    def require_entered(self) -> None:
        if INK not in self.rooms:
            raise EventError("not_entered", "enter the board first")


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
