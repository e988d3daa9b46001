"""Applications with messages of every kind that the playground has a form for, and their pages: run it with a port."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from enum import Enum
from typing import Annotated, Any, Literal

import uvicorn
from pydantic import AwareDatetime, BaseModel, Field
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as ASGIMessage
from starlette.websockets import WebSocket

from examples import chat, llm_stream, upload
from socketsundso import Endpoint, EventError, event
from socketsundso.contract import Docs, model
from tests.contract.apis import APIS
from tests.enveloping import ARRAY, NESTED, within


class Card(BaseModel):
    kind: Literal["card"]
    number: Annotated[str, Field(pattern=r"^\d{4,}$")]


class Transfer(BaseModel):
    kind: Literal["transfer"]
    iban: str


class Line(BaseModel):
    symbol: Annotated[str, Field(min_length=1)]
    count: Annotated[int, Field(gt=0)]


class Side(Enum):
    BUY = "buy"
    SELL = "sell"


class Tree(BaseModel):
    value: Any
    children: list[Tree] = []


class Ask(BaseModel):
    question: str


class Said(BaseModel):
    """<script>alert(1)</script> <img src=x>"""

    msg: str


class Ordered(BaseModel):
    lines: int
    when: AwareDatetime | None


class Tick(BaseModel):
    n: int


class SoldOut(EventError):
    """Nothing is left."""

    code = "sold_out"
    msg = "only {left} left"
    left: int


class Play(Endpoint):
    """Everything that <i>a form</i> can be."""

    backplane = "memory://playing"  # the rooms of examples/chat keep their history, whatever they are called
    emits = [Said]
    calls = {Ask: bool}

    @event
    async def on_enter(self, room: Annotated[str, Field(max_length=10)]) -> dict[str, Any]:
        await self.join(room)
        return {"room": room}

    @event
    async def on_say(self, msg: str) -> None:
        await self.broadcast(Said(msg=msg), room=self.rooms)

    @event
    async def on_order(
        self,
        lines: list[Line],
        payment: Annotated[Card | Transfer, Field(discriminator="kind")],
        side: Side,
        when: AwareDatetime | None = None,
        tags: dict[str, int] | None = None,
        gift: bool = False,
    ) -> Ordered:
        """
        Order several things at once.

        Each line is a symbol and a count.

        `payment` says who pays.
        """
        return Ordered(lines=len(lines), when=when)

    @event
    async def on_grow(self, tree: Tree, big: int = 0) -> dict[str, Any]:
        return {"tree": tree, "big": big}

    @event
    async def on_count(self, to: int = 10, pace_s: float = 0.0) -> AsyncIterator[Tick]:
        for n in range(to):
            yield Tick(n=n)
            await asyncio.sleep(pace_s)

    @event
    async def on_feed(self, lines: AsyncIterator[Line]) -> dict[str, Any]:
        return {"fed": [line.symbol async for line in lines]}

    @event(concurrent=True)
    async def on_confirm(self, question: str) -> dict[str, Any]:
        return {"sure": await self.call(Ask(question=question), returns=bool)}

    @event(errors=[SoldOut])
    async def on_fail(self) -> None:
        raise SoldOut(left=3)


async def flood(websocket: WebSocket) -> None:
    """Answers each text with as many messages as its number says, and closes behind a number below 0."""
    await websocket.accept()
    while (count := json.loads(await websocket.receive_text())["count"]) >= 0:
        for n in range(count):
            await websocket.send_json({"type": "drop", "n": n, "text": "x" * (300_000 if count == 1 else 1)})
    await websocket.close(4429, "so many")


def api(name: str, *receives: model.Receive) -> model.Api:
    return model.Api(name, "1", (model.Channel(name, f"/{name}", receives=receives),))


COUNT: model.Schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
DESCRIBED = {
    **APIS,
    "flooded": api("flood", model.Receive("flood", COUNT)),
    "many": api("many", *(model.Receive(f"event_{n}", COUNT) for n in range(100))),
    "broken": api("broken", model.Receive("<b>say", {"type": "string"})),
}


ENVELOPED = {wire.name: within(Play, wire) for wire in (NESTED, ARRAY)}


class BehindAPolicy:
    """What a proxy or a middleware with a policy of its own makes of an application."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", b"default-src 'self'"))
            await send(message)

        await self.app(scope, receive, with_policy)


app = Starlette(
    routes=[
        WebSocketRoute("/ws", Play),
        WebSocketRoute("/flood", flood),
        *(WebSocketRoute(f"/{name}", endpoint) for name, endpoint in ENVELOPED.items()),
        *(Mount(f"/examples/{each.__name__.rpartition('.')[2]}", each.app) for each in (chat, llm_stream, upload)),
        *(Mount(f"/{name}", Docs(described)) for name, described in DESCRIBED.items()),
    ]
)
app.mount("/docs/ws", Docs(Play))
for name, endpoint in ENVELOPED.items():
    app.mount(f"/docs/{name}", Docs(endpoint))
app.mount("/strict/docs", BehindAPolicy(Docs(Play)))
for each in (chat, llm_stream, upload):
    each.app.mount("/docs", Docs(each.app))

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), ws="socketsundso.server:WebSocketProtocol", log_level="warning")
