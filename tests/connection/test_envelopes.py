"""Conversations in every envelope: streams, uploads, calls, cancel; and who needs a `ref` for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import ArrayEnvelope, DefinitionError, Endpoint, event
from tests.enveloping import ARRAY, NESTED, WIRES, Said, Wire, named, within
from tests.rooms.serving import WAIT_S, Client, run, serving


class Token(BaseModel):
    text: str


class Ask(msgspec.Struct):
    question: str


class Talking(Endpoint):
    calls = {Ask: int}
    acknowledge = True

    @event
    async def count(self, to: int) -> AsyncIterator[Token]:
        for number in range(to):
            yield Token(text=str(number))

    @event
    async def count_dicts(self, to: int) -> AsyncIterator[dict[str, Any]]:
        for number in range(to):
            yield {"n": number}
        yield {"type": "last", "n": to}

    @event
    async def sum(self, start: int, numbers: AsyncIterator[int]) -> dict[str, Any]:
        async for number in numbers:
            start += number
        return {"sum": start}

    @event
    async def ask(self, question: str) -> dict[str, Any]:
        return {"answer": await self.call(Ask(question), returns=int)}

    @event(concurrent=True)
    async def wait(self) -> None:
        await asyncio.Event().wait()

    @event
    async def noted(self) -> None: ...


class Peer:
    """A client that knows its envelope."""

    def __init__(self, wire: Wire, client: Client) -> None:
        self.wire, self._client = wire, client

    async def say(self, type_: str, ref: Any = None, **data: Any) -> None:
        await self._client.connection.send(self.wire.write(type_, data, ref))

    async def hear(self) -> Said:
        async with asyncio.timeout(WAIT_S):
            return self.wire.read(json.loads(await self._client.connection.recv()))


async def streams(peer: Peer) -> None:
    await peer.say("count", 1, to=2)
    assert [await peer.hear() for _ in range(3)] == [
        Said("token", {"text": "0"}, 1), Said("token", {"text": "1"}, 1), Said("complete", {}, 1)
    ]  # fmt: skip
    await peer.say("count_dicts", "a", to=1)
    assert [await peer.hear() for _ in range(3)] == [
        Said("count_dicts", {"n": 0}, "a"), Said("last", {"n": 1}, "a"), Said("complete", {}, "a")
    ]  # fmt: skip
    await peer.say("count", 2, to="x")
    error = await peer.hear()
    assert (error.ref, error.data["errors"][0]["loc"]) == (2, [*peer.wire.place, "to"])
    await peer.say("count", to=2)
    error = await peer.hear()
    assert (error.data["code"], error.data["errors"][0]["type"]) == ("validation_error", "missing")


async def uploads(peer: Peer) -> None:
    await peer.say("sum", 3, start=1)
    for number in range(9):
        await peer.say("item", 3, item=str(number))
    assert await peer.hear() == Said("more", {"items": 8}, 3)
    await peer.say("complete", 3)
    assert await peer.hear() == Said("sum", {"sum": 37}, 3)
    await peer.say("sum", 4, start=1)
    await peer.say("item", 4, item="x")
    error = await peer.hear()
    assert (error.ref, error.data["errors"][0]["loc"]) == (4, [*peer.wire.place, "item"])
    await peer.say("sum", 5, start=1)
    await peer.say("item", 5, number=1)
    error = await peer.hear()
    assert [each["loc"] for each in error.data["errors"]] == [
        [*peer.wire.place, "item"], [*peer.wire.place, "number"]
    ]  # fmt: skip


async def calls(peer: Peer) -> None:
    for reply, answer in [
        ({"answer": "5"}, Said("ask", {"answer": 5}, 6)),
        ({"error": {"code": "no"}}, Said("error", {"code": "call_refused", "errors": []}, 6)),
    ]:
        await peer.say("ask", 6, question="sure?")
        asked = await peer.hear()
        assert asked == Said("ask", {"question": "sure?"}, asked.ref)
        await peer.say("reply", asked.ref, **reply)
        assert await peer.hear() == answer
    for wrong, place in [({"answer": "x"}, ["answer"]), ({}, ["answer"]), ({"error": {}}, ["error", "code"])]:
        await peer.say("ask", 6, question="sure?")
        asked = await peer.hear()
        await peer.say("reply", asked.ref, **wrong)
        told = sorted([await peer.hear(), await peer.hear()], key=lambda said: str(said.ref))
        assert told[0] == Said("error", {"code": "invalid_answer", "errors": []}, 6)
        assert told[1].data["errors"][0]["loc"] == [*peer.wire.place, *place]


async def cancels(peer: Peer) -> None:
    await peer.say("wait", 7)
    await peer.say("cancel", 7)
    said = await peer.hear()
    assert (said.type, said.ref, said.data["code"]) == ("error", 7, "cancelled")
    await peer.say("ask", 8, question="sure?")
    asked = await peer.hear()
    await peer.say("cancel", 8)
    told = [await peer.hear(), await peer.hear()]
    assert Said("cancel", {}, asked.ref) in told


async def acknowledgements(peer: Peer) -> None:
    await peer.say("noted", 9)
    assert await peer.hear() == Said("noted", {}, 9)


@pytest.mark.parametrize("talk", [streams, uploads, calls, cancels, acknowledgements])
def test_conversations(talk: Any) -> None:
    """In every envelope the same messages, their reserved ones too."""

    async def whole() -> None:
        apps = [WebSocketRoute(f"/{wire.name}", within(Talking, wire)) for wire in WIRES]
        async with serving(Starlette(routes=apps)) as connect:
            for wire in WIRES:
                await talk(Peer(wire, await connect(wire.name)))

    run(whole)


@pytest.mark.parametrize("wire", [NESTED, ARRAY], ids=named)
def test_items_of_any_kind(wire: Wire) -> None:
    """Where they have a part of their own, the items of a stream are any values; they are called as their event."""

    class Telling(Endpoint):
        envelope = wire.envelope

        @event
        async def numbers(self) -> AsyncIterator[int]:
            yield 1

        @event
        async def anything(self) -> AsyncIterator[Any]:
            yield "a"
            yield [1, None]

    async def whole() -> None:
        async with serving(Telling) as connect:
            peer = Peer(wire, await connect())
            await peer.say("numbers", 1)
            assert [await peer.hear(), await peer.hear()] == [Said("numbers", 1, 1), Said("complete", {}, 1)]
            await peer.say("anything", 2)
            assert [await peer.hear(), await peer.hear()] == [Said("anything", "a", 2), Said("anything", [1, None], 2)]

    run(whole)


@pytest.mark.parametrize("names", [["count"], ["sum"], []])
def test_what_needs_a_ref(names: list[str]) -> None:
    """Streams, uploads and calls are refused where the envelope has no place for it."""
    handlers = {name: vars(Talking)[name] for name in names}
    own = {} if names else {"calls": {Ask: int}}
    with pytest.raises(DefinitionError, match="`ref`"):
        type("App", (Endpoint,), {"envelope": ArrayEnvelope("type", "data"), **own, **handlers})
