"""Endpoints in envelopes of their own: what is published of their frames is what goes over the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import jsonschema
import msgspec
import pytest
from pydantic import BaseModel

from socketsundso import Endpoint, Envelope, EventError, Keep, WebSocketHandlingEndpoint, event
from socketsundso.contract import ContractError, api_of, document
from socketsundso.testing import ErrorReply, connect
from tests.enveloping import WIRES, Wire, named, within


@pytest.fixture(autouse=True)
def own_backplane(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The rooms of one test are not those of another."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", f"memory://{request.node.name}")


each_wire = pytest.mark.parametrize("wire", WIRES, ids=named)


class Posted(BaseModel):
    room_name: str
    text: str


class Moved(BaseModel):
    type: Literal["moved"] = "moved"
    x: int


class Turned(msgspec.Struct, tag_field="type", tag="turned"):
    by: int


class Shape(BaseModel):
    kind: str
    size: int


class Token(BaseModel):
    text: str


class Item(BaseModel):
    n: int


class SoldOut(EventError):
    code = "sold_out"
    left: int


class Confirm(BaseModel):
    question: str


class Drawing(Endpoint):
    emits = [Posted, Moved]
    history = {"doc:*": Keep(messages=10, seconds=300)}
    calls = {Confirm: bool}
    acknowledge = True

    @event
    async def on_move(self, x: int = 0) -> Moved | Shape:
        return Moved(x=x) if x else Shape(kind="circle", size=1)

    @event
    async def on_turn(self, by: int) -> Turned:
        return Turned(by=by)

    @event
    async def on_shape(self, size: int) -> Shape:
        return Shape(kind="square", size=size)

    @event
    async def on_anything(self) -> dict[str, Any]:
        return {"a": 1}

    @event
    async def on_enter(self, room: str) -> None:
        await self.join(room)

    @event
    async def on_post(self, room: str, text: str) -> None:
        await self.broadcast(Posted(room_name=room, text=text), room=room)
        await self.broadcast(Moved(x=1), room=room)

    @event(errors=[SoldOut])
    async def on_buy(self) -> None:
        raise SoldOut(left=3)

    @event
    async def on_tokens(self, most: int) -> AsyncIterator[Token | Moved]:
        for number in range(most):
            yield Token(text=str(number))
        yield Moved(x=5)

    @event(concurrent=True)
    async def on_ask(self) -> Shape:
        return Shape(kind=str(await self.call(Confirm(question="?"), returns=bool)), size=1)


class Published:
    """What a document says of frames, as a validator of whole ones."""

    def __init__(self, app: type[WebSocketHandlingEndpoint]) -> None:
        described = json.loads(json.dumps(document(api_of(app))))
        (channel,) = described["channels"].values()
        self._validators = {
            name: jsonschema.Draft7Validator({"allOf": [each["payload"]], "components": described["components"]})
            for name, each in channel["messages"].items()
        }

    def names(self, frame: Any) -> list[str]:
        """The messages that a frame is."""
        return [name for name, validator in self._validators.items() if validator.is_valid(frame)]


class Tap:
    """All frames that go over a connection."""

    def __init__(self, app: Any) -> None:
        self._app, self.sent, self.received = app, [], []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def tapped_receive() -> Any:
            message = await receive()
            if "text" in message:
                self.received.append(json.loads(message["text"]))
            return message

        async def tapped_send(message: Any) -> None:
            if "text" in message:
                self.sent.append(json.loads(message["text"]))
            await send(message)

        scope["endpoint"] = self._app
        await self._app(scope, tapped_receive, tapped_send)


async def _conversation(tap: Tap) -> None:
    """Some of everything that there is. What is wrong comes last: three requests."""
    async with connect(tap) as ws:
        ws.handle("confirm", lambda question: True)
        assert (await ws.ask("move", x=3)) == {"type": "moved", "x": 3}
        await ws.ask("move")
        assert (await ws.ask("turn", by=1))["type"] == "turned"
        assert await ws.ask("shape", size=2, returns=Shape) == Shape(kind="square", size=2)
        await ws.ask("anything")
        await ws.ask("enter", room="doc:1")
        await ws.ask("post", room="doc:1", text="hi")
        assert (await ws.expect(Posted)).text == "hi"
        assert (await ws.expect("moved", x=1))["seq"] == 2
        assert [each["type"] async for each in ws.stream("tokens", most=2)] == ["token", "token", "moved"]
        assert (await ws.ask("ask"))["kind"] == "True"
        await ws.send("resume", rooms={})
        await ws.expect("resumed")
        for name in ("buy", "nothing", "shape"):
            with pytest.raises(ErrorReply):
                await ws.ask(name)


@each_wire
def test_every_frame_is_one_that_was_published(wire: Wire) -> None:
    """Requests and replies, items, pushes with their numbers, acknowledgements, errors, calls and their answers."""
    app = within(Drawing, wire)
    tap = Tap(app)
    asyncio.run(_conversation(tap))
    published = Published(app)
    assert len(tap.sent) > 15
    assert [frame for frame in (*tap.received[:-2], *tap.sent) if not published.names(frame)] == []
    assert [frame for frame in tap.received[-2:] if published.names(frame)] == []


@each_wire
def test_published_names_are_those_of_the_frames(wire: Wire) -> None:
    """Each reply and push is published under its name in this envelope."""
    (channel,) = api_of(within(Drawing, wire)).channels
    assert [each.type for each in channel.pushes] == ["posted", "moved"]
    replies = {receive.event: [each.type for each in receive.replies] for receive in channel.receives}
    assert replies["move"] == ["moved", "move"]
    assert replies["turn"] == ["turned"]
    assert replies["tokens"] == ["token", "moved"]


class Unknown:
    """An envelope that contracts have no words for."""

    ref = None

    def framing(self, ref_key: str) -> Any:
        return Envelope(type="method", data="params").framing(ref_key)

    def __repr__(self) -> str:
        return "Unknown()"


def test_an_envelope_without_words_is_refused() -> None:
    """The error names the endpoint, and what to do; nothing is published."""
    app = type("Rpc", (Drawing,), {"envelope": Unknown()})
    with pytest.raises(ContractError, match=r"Rpc, its envelope is Unknown\(\), which no contract can describe"):
        document(api_of(app))
