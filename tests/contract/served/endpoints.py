"""What the generated clients are tried on: `socketsundso run tests.contract.served.endpoints:app`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute

from socketsundso import Endpoint, EventError, Keep, RateLimit, event


class Posted(BaseModel):
    msg: str


class Confirm(BaseModel):
    question: str


class Row(BaseModel):
    n: int


class SoldOut(EventError):
    """Not so many left."""

    code = "sold_out"
    msg = "{left} left"
    left: int


class Chat(Endpoint):
    """Rooms with history and presence. Its token is the name; `bad` is refused, once it can be told."""

    emits = [Posted]
    history = {"doc:*": Keep(messages=10, seconds=300)}
    presence_events = True
    presence_interval_s = 0
    acknowledge = True

    async def authenticate(self) -> Any:
        token = self.websocket.query_params.get("token", "guest")
        if token == "bad":
            await self.websocket.accept()
            raise HTTPException(401, "who are you?")
        return token

    async def authorize(self, room: str) -> bool:
        return not room.startswith("doc:secret")

    @event
    async def on_enter(self, room: str, last: int | None = None) -> None:
        await self.join(room, **({} if last is None else {"last": last}))
        await self.track({"name": self.user}, room=room, key=self.user)

    @event
    async def on_exit(self, room: str) -> None:
        await self.leave(room)

    @event
    async def on_say(self, room: str, msg: str) -> None:
        await self.broadcast(Posted(msg=msg), room=room)

    @event
    async def on_flood(self, room: str, count: int) -> None:
        await Chat.hub.to(room).send_many([Posted(msg=str(number)) for number in range(count)])

    @event
    async def on_drop(self, code: int = 1012) -> None:
        await self.close(code)

    @event
    async def on_who(self) -> dict[str, Any]:
        return {"type": "who", "name": self.user, "pid": os.getpid()}


class Shop(Endpoint):
    """Streams, calls, errors, cancels, limits."""

    calls = {Confirm: bool}
    disconnect_grace_s = 0.01
    log: list[str] = []

    @event(errors=[SoldOut])
    async def on_buy(self, count: int) -> dict[str, Any]:
        if count > 3:
            raise SoldOut(left=3)
        return {"type": "bought", "count": count}

    @event
    async def on_note(self, text: str) -> None:
        self.log.append(text)

    @event
    async def on_notes(self) -> dict[str, Any]:
        return {"type": "notes", "notes": self.log}

    @event(concurrent=True)
    async def on_wait(self, name: str) -> dict[str, Any]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.log.append(f"cancelled {name}")
            raise
        return {"type": "waited"}

    @event
    async def on_ticks(self, count: int) -> AsyncIterator[dict[str, Any]]:
        try:
            for number in range(count):
                yield {"type": "tick", "n": number}
                await asyncio.sleep(0)
        finally:
            self.log.append(f"ended {count}")

    @event
    async def on_sum(self, most: int, rows: AsyncIterator[Row]) -> dict[str, Any]:
        """Answers early where there are more than `most`."""
        seen = total = 0
        try:
            async for row in rows:
                seen, total = seen + 1, total + row.n
                if seen == most:
                    break
        except asyncio.CancelledError:
            self.log.append(f"cancelled after {seen}")
            raise
        return {"type": "sum", "total": total}

    @event
    async def on_double(self, rows: AsyncIterator[Row]) -> AsyncIterator[dict[str, Any]]:
        async for row in rows:
            yield {"type": "tick", "n": 2 * row.n}

    @event
    async def on_fails(self) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "tick", "n": 0}
        raise SoldOut(left=1)

    @event(concurrent=True)
    async def on_ask(self, question: str, timeout_s: float = 10) -> dict[str, Any]:
        answer = await self.call(Confirm(question=question), returns=bool, timeout_s=timeout_s)
        return {"type": "asked", "answer": answer}

    @event(guards=[RateLimit(1, per_s=0.2)])
    async def on_limited(self) -> dict[str, Any]:
        return {"type": "limited"}

    @event
    async def on_retire(self, pid: int) -> dict[str, Any]:
        """Answered by any process but this one."""
        if pid == os.getpid():
            await asyncio.sleep(60)
        return {"type": "retired", "pid": os.getpid()}

    @event
    async def on_leave(self, code: int, reason: str = "") -> None:
        await self.close(code, reason)

    @event
    async def on_push(self, text: str) -> None:
        await self.send({"type": "notice", "text": text})


class Plain(Endpoint):
    """Takes turns; what it does not know is answered when the handler before is done."""

    subprotocols = ("plain.v1",)

    @event
    async def on_echo(self, text: str) -> dict[str, Any]:
        return {"type": "echo", "text": text, "url": str(self.websocket.url), "protocol": self.subprotocol}

    @event
    async def on_slow(self, seconds: float) -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return {"type": "slow"}


app = Starlette(
    routes=[WebSocketRoute("/chat", Chat), WebSocketRoute("/shop", Shop), WebSocketRoute("/plain/{name}", Plain)]
)
