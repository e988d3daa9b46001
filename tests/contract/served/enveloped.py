"""One endpoint in every envelope, and its contract: what generated clients of both languages are tried on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import Endpoint, Envelope, EventError, Keep, event
from socketsundso.contract import api_of
from tests.enveloping import OTHERS, within


class Said(BaseModel):
    text: str


class Moved(BaseModel):
    type: Literal["moved"] = "moved"
    x: int


class Row(BaseModel):
    n: int


class Posted(BaseModel):
    text: str


class Confirm(BaseModel):
    question: str


class SoldOut(EventError):
    code = "sold_out"
    left: int


class Office(Endpoint):
    """Something of everything."""

    backplane = "memory://enveloped"
    emits = [Posted]
    calls = {Confirm: bool}
    history = {"doc:*": Keep(messages=10, seconds=300)}
    disconnect_grace_s = 0.01

    @event
    async def on_say(self, text: str = "nothing") -> Said:
        return Said(text=text)

    @event
    async def on_move(self, x: int) -> Moved | Said:
        return Moved(x=x) if x else Said(text="stay")

    @event(errors=[SoldOut])
    async def on_buy(self, count: int) -> Said:
        raise SoldOut(left=3)

    @event
    async def on_count(self, to: int) -> AsyncIterator[Row]:
        for number in range(to):
            yield Row(n=number)

    @event
    async def on_sum(self, rows: AsyncIterator[Row]) -> Said:
        return Said(text=str(sum([row.n async for row in rows])))

    @event(concurrent=True)
    async def on_ask(self) -> Said:
        return Said(text=str(await self.call(Confirm(question="sure?"), returns=bool)))

    @event
    async def on_post(self, room: str, text: str) -> Said:
        await self.join(room)
        await self.broadcast(Posted(text=text), room=room)
        return Said(text="posted")

    @event
    async def on_drop(self) -> None:
        await self.close(1012)


class Free(Office):
    """Where fields stand apart, replies are any values."""

    envelope = Envelope(data="data")

    @event
    async def on_names(self, type: str) -> list[str]:
        return [type]

    @event
    async def on_rows(self) -> list[Row]:
        return [Row(n=1), Row(n=2)]

    @event
    async def on_number(self) -> int:
        return 7

    @event
    async def on_either(self, rows: bool) -> list[Row] | dict[str, int]:
        return [Row(n=1)] if rows else {"a": 1}

    @event
    async def on_anything(self) -> Any:
        return {"a": [1, None]}


APPS = {wire.name: within(Office if wire.place == () else Free, wire) for wire in OTHERS}
APIS = {name: api_of(app, path=f"/{name}") for name, app in APPS.items()}
app = Starlette(routes=[WebSocketRoute(f"/{name}", served) for name, served in APPS.items()])
