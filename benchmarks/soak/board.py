"""
What the soak serves: rooms with a history, presence, answers, streams, uploads and calls. `benchmarks.soak.board:app`.

Each process answers on a Unix socket of its own, PID.sock in the folder that SOAK_FOLDER names, what it holds: one line
of JSON for one line of anything; the line `collect` has it collect garbage first, and give back to the system what is
free, so that it weighs what it holds, not what it once needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import BackplaneUnavailable, Endpoint, Keep, event

ANSWERS = "tells a state"
"""The name of the tasks that are there only since somebody asks."""
FLOOD = "x" * 16_000
FLOODS = 400
"""More than a peer that does not read is sent before it is found slow: 6 MB."""


class Ask(BaseModel):
    n: int


class Row(BaseModel):
    n: int


class Board(Endpoint):
    history = {"doc:*": Keep(messages=2_000, seconds=120), "note:*": Keep(messages=20)}
    presence_events = True
    calls = {Ask: int}
    max_outbound_bytes = 256 * 1024

    opened = 0
    closed: Counter[int] = Counter()

    async def on_connect(self) -> None:
        await super().on_connect()
        Board.opened += 1

    async def on_disconnect(self, close_code: int) -> None:
        Board.closed[close_code] += 1

    @event
    async def on_hello(self) -> dict[str, Any]:
        return {"type": "welcome", "pid": os.getpid()}

    @event
    async def on_enter(self, room: str, name: str) -> dict[str, Any]:
        await self.join(room)
        await self.track({"name": name}, room=room)
        return {"type": "entered"}

    @event
    async def on_quit(self, room: str) -> dict[str, Any]:
        await self.leave(room)
        return {"type": "left"}

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
    async def on_echo(self, text: str) -> dict[str, Any]:
        return {"type": "echoed", "text": text}

    @event
    async def on_count(self, up_to: int) -> AsyncIterator[dict[str, Any]]:
        """As far as it is wanted; where it goes on for long, with pauses."""
        for n in range(up_to):
            yield {"n": n}
            if n % 8 == 7:
                await asyncio.sleep(0.02)

    @event
    async def on_add(self, rows: AsyncIterator[Row]) -> dict[str, Any]:
        return {"type": "added", "total": sum([row.n async for row in rows])}

    @event(concurrent=True)
    async def on_confirm(self, n: int) -> dict[str, Any]:
        return {"type": "confirmed", "n": await self.call(Ask(n=n), returns=int)}

    @event
    async def on_flood(self, room: str) -> dict[str, Any]:
        """Tell the room, that is the one who asks, more than fits."""
        await self.join(room)
        for n in range(FLOODS):
            await self.broadcast({"type": "flood", "n": n, "pad": FLOOD}, room=room)
        return {"type": "flooded"}


def state() -> dict[str, Any]:
    status = Board.hub.status
    return {
        "pid": os.getpid(),
        "tasks": sum(task.get_name() != ANSWERS for task in asyncio.all_tasks()),
        "opened": Board.opened,
        "closed": dict(Board.closed),
        "backplane": str(status),
        "delivered": status.delivered,
        "dropped": status.dropped,
    }


def give_back() -> None:
    """glibc's `malloc_trim`; elsewhere nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.set_name(ANSWERS)
    while line := await reader.readline():
        found = state()
        if line == b"collect\n":
            gc.collect()
            give_back()
            found["objects"] = len(gc.get_objects())
        writer.write(json.dumps(found).encode() + b"\n")
    writer.close()


@asynccontextmanager
async def tells_its_state(app: Starlette) -> AsyncIterator[None]:
    path = Path(os.environ["SOAK_FOLDER"]) / f"{os.getpid()}.sock"
    server = await asyncio.start_unix_server(answer, path)
    yield
    server.close()
    path.unlink()


app = Starlette(routes=[WebSocketRoute("/", Board)], lifespan=tells_its_state)
