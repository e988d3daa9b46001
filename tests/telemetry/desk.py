"""What `test_scrape` serves: everything that is counted happens on it. `tests.telemetry.desk:app`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Mount, WebSocketRoute

from socketsundso import BackplaneUnavailable, Conflate, Endpoint, EventError, Keep, event
from socketsundso.telemetry import prometheus

prometheus.instrument()


class Said(BaseModel):
    msg: str


class Total(BaseModel):
    total: int


class Confirm(BaseModel):
    order: int


class Notice(BaseModel):
    text: str


class Desk(Endpoint):
    calls = {Confirm: bool}
    history = {"doc:*": Keep(messages=10, seconds=60)}

    async def authenticate(self) -> Any:
        if "nobody" in self.websocket.url.query:
            raise HTTPException(401)

    @event
    async def on_say(self, msg: str, times: int = 1) -> Said:
        return Said(msg=msg * times)

    @event
    async def on_sold_out(self) -> None:
        raise EventError("sold_out")

    @event
    async def on_items(self, count: int) -> AsyncIterator[Said]:
        for number in range(count):
            yield Said(msg=str(number))

    @event
    async def on_add(self, numbers: AsyncIterator[int]) -> Total:
        return Total(total=sum([number async for number in numbers]))

    @event(concurrent=True)
    async def on_order(self, order: int) -> Said:
        return Said(msg="yes" if await self.call(Confirm(order=order), returns=bool) else "no")

    @event
    async def on_notify(self) -> None:
        await self.send(Notice(text="sent"))
        await self.send_bytes(b"pcm")

    @event
    async def on_write(self, room: str) -> Said:
        await self.join(room)
        try:
            await self.broadcast(Said(msg="written"), room=room)
        except BackplaneUnavailable:
            return Said(msg="away")
        return Said(msg="done")


class Reader(Endpoint):
    """Who reads slowly; a subclass for each thing that may become of its messages."""

    max_outbound_bytes = 1 << 17
    disconnect_grace_s = 0.01

    @event
    async def on_hold(self) -> None:
        await asyncio.Event().wait()

    @event
    async def on_enter(self) -> Said:
        await self.join("news")
        return Said(msg=type(self).__name__)

    @event
    async def on_flood(self, messages: int, size: int) -> Said:
        for _ in range(messages):
            await self.broadcast(Said(msg="x" * size), room="news", exclude_self=True)
        return Said(msg="flooded")


class Close(Reader):
    on_slow = "close"


class Oldest(Reader):
    on_slow = "drop_oldest"


class Newest(Reader):
    on_slow = "drop_newest"


class Latest(Reader):
    on_slow = Conflate(key=lambda message: message.type)


class Mortal(Reader):
    on_slow = "drop_oldest"
    max_outbound_bytes = 1 << 20
    ttl_s = 0.01


app = Starlette(
    routes=[
        WebSocketRoute("/desk", Desk),
        *(WebSocketRoute(f"/{reader.__name__}", reader) for reader in (Reader, Close, Oldest, Newest, Latest, Mortal)),
        Mount("/metrics", prometheus.metrics_app()),
    ]
)
