"""An endpoint with everything that a client can use, and its contract, written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from socketsundso import CallRefused, CallTimeout, Endpoint, EventError, Keep, event
from socketsundso.contract.model import Api, Call, Channel, Error, Features, Message, Receive

from ..apis import BOOLEAN, INTEGER, NUMBER, STRING, fields

log: list[str] = []
"""What handlers did, in order."""


class Posted(msgspec.Struct, tag_field="type", tag="posted"):
    msg: str


class Ask(msgspec.Struct, tag_field="type", tag="ask"):
    question: str


class Office(Endpoint):
    emits = [Posted]
    calls = {Ask: bool}
    history = {"doc:*": Keep(messages=100, seconds=300)}
    presence_events = True
    presence_interval_s = 0
    acknowledge = True
    max_streams = 4
    disconnect_grace_s = 0.01

    @event
    async def on_echo(self, text: str, wait_s: float = 0) -> dict[str, str]:
        log.append(f"echo {text}")
        await asyncio.sleep(wait_s)
        return {"text": text}

    @event(concurrent=True)
    async def on_slow(self, wait_s: float) -> dict[str, str]:
        log.append("slow")
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            log.append("slow cancelled")
            raise
        return {"text": "late"}

    @event
    async def on_enter(self, room: str, name: str) -> None:
        await self.join(room)
        await self.track({"name": name}, room=room)

    @event
    async def on_say(self, room: str, msg: str) -> None:
        await self.broadcast(Posted(msg), room=room)

    @event
    async def on_buy(self, count: int) -> dict[str, int]:
        if count > 3:
            raise EventError(
                "sold_out", "only 3 left", errors=[{"type": "sold_out", "loc": [], "msg": "3", "ctx": {"left": 3}}]
            )
        return {"count": count}

    @event
    async def on_count(self, to: int, wait_s: float = 0) -> AsyncIterator[dict[str, int]]:
        try:
            for n in range(to):
                yield {"n": n}
                await asyncio.sleep(wait_s)
        finally:
            log.append("count closed")

    @event(concurrent=True)
    async def on_pay(self, wait_s: float = 30) -> dict[str, object]:
        try:
            return {"paid": await self.call(Ask("sure?"), returns=bool, timeout_s=wait_s), "why": ""}
        except CallRefused as exc:
            return {"paid": False, "why": exc.code}
        except CallTimeout:
            return {"paid": False, "why": "call_timeout"}

    @event
    async def on_add(self, numbers: AsyncIterator[int]) -> dict[str, int]:
        return {"total": sum([number async for number in numbers])}

    @event
    async def on_leave_with(self, code: int) -> None:
        await self.close(code, "as you wish")


TEXT = Message("echo", fields("text", text=STRING), "Text")
LATE = Message("slow", TEXT.schema, "Slow")
PAID = Message("pay", fields("paid", "why", paid=BOOLEAN, why=STRING), "Paid")
OFFICE = Api(
    "Office",
    "1",
    (
        Channel(
            "office",
            "/",
            receives=(
                Receive("echo", fields("text", text=STRING, wait_s=NUMBER), (TEXT,), cancellable=True),
                Receive(
                    "slow", fields("wait_s", wait_s=NUMBER), (Message("slow", TEXT.schema, "Slow"),), cancellable=True
                ),
                Receive("enter", fields("room", "name", room=STRING, name=STRING), acknowledged=True),
                Receive("say", fields("room", "msg", room=STRING, msg=STRING), acknowledged=True),
                Receive(
                    "buy",
                    fields("count", count=INTEGER),
                    (Message("buy", fields("count", count=INTEGER), "Bought"),),
                    errors=(Error("sold_out", "Not so many.", fields("left", left=INTEGER), "SoldOut"),),
                ),
                Receive(
                    "count",
                    fields("to", to=INTEGER, wait_s=NUMBER),
                    (Message("count", fields("n", n=INTEGER), "Counted"),),
                    stream=True,
                ),
                Receive(
                    "pay",
                    fields(wait_s=NUMBER),
                    (PAID,),
                ),
                Receive("add", fields(), (Message("add", fields("total", total=INTEGER), "Added"),), uploads=INTEGER),
                Receive("leave_with", fields("code", code=INTEGER), acknowledged=True),
            ),
            pushes=(Message("posted", fields("msg", msg=STRING), "Posted"),),
            calls=(Call(Message("ask", fields("question", question=STRING), "Ask"), BOOLEAN),),
            features=Features(history=True, presence=True),
        ),
    ),
)

app = Office
