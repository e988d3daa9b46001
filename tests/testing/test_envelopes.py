"""`socketsundso.testing` of endpoints in envelopes: tests have messages in the flat form, whatever is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute

from socketsundso import ArrayEnvelope, CallRefused, Endpoint, Envelope, JsonRpc, event
from socketsundso.testing import Declined, ErrorReply, connect
from tests.enveloping import WIRES


class Posted(BaseModel):
    text: str


class Shape(BaseModel):
    type: str
    size: int


class Confirm(BaseModel):
    question: str


class Chat(Endpoint):
    backplane = "memory://testing-envelopes"
    emits = [Posted]
    calls = {Confirm: bool}
    ended: list[str] = []

    @event
    async def on_post(self, text: str) -> Posted:
        await self.send(Posted(text=text))
        return Posted(text=text)

    @event
    async def on_count(self, to: int) -> AsyncIterator[Posted]:
        try:
            for number in range(to):
                yield Posted(text=str(number))
                await asyncio.sleep(0)
        finally:
            self.ended.append(type(self).__name__)

    @event(concurrent=True)
    async def on_ask(self) -> Posted:
        try:
            return Posted(text=str(await self.call(Confirm(question="sure?"), returns=bool)))
        except CallRefused as exc:
            return Posted(text=exc.code)


ENVELOPES = {**{wire.name: wire.envelope for wire in WIRES}, "json-rpc": JsonRpc()}


@pytest.fixture(params=ENVELOPES)
def app(request: pytest.FixtureRequest) -> Any:
    """The same endpoint in each envelope."""
    return type(f"In{request.param}", (Chat,), {"envelope": ENVELOPES[request.param]})


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_an_answer_is_in_the_flat_form(app: Any) -> None:
    """A class reads it, and an error has its code, as without an envelope."""

    async def test() -> None:
        async with connect(app) as ws:
            assert (await ws.ask("post", text="hi"))["text"] == "hi"
            assert await ws.ask("post", text="hi", returns=Posted) == Posted(text="hi")
            with pytest.raises(ErrorReply, match="validation_error") as caught:
                await ws.ask("post")
            assert caught.value.errors[0]["loc"][-1] == "text"

    run(test())


def test_a_push_is_expected_by_type_and_by_class(app: Any) -> None:
    """Its name and its fields stand where they do without an envelope."""

    async def test() -> None:
        async with connect(app) as ws:
            await ws.ask("post", text="a")
            await ws.ask("post", text="b")
            assert await ws.expect("posted", text="b") == {"type": "posted", "text": "b"}
            assert await ws.expect(Posted) == Posted(text="a")

    run(test())


def test_a_stream_ends_and_is_cancelled(app: Any) -> None:
    """By its `complete`, and by who goes on no further."""

    async def test() -> None:
        async with connect(app) as ws:
            assert [item.text async for item in ws.stream("count", to=2, returns=Posted)] == ["0", "1"]
            async with contextlib.aclosing(ws.stream("count", to=10**9)) as items:
                assert (await anext(items))["text"] == "0"
            await ws.ask("post", text="the cancel is before it")
        assert Chat.ended.count(app.__name__) == 2

    run(test())


def test_a_call_is_answered_or_refused(app: Any) -> None:
    """The server's question has its ref back, in its envelope."""

    async def test() -> None:
        async with connect(app) as ws:
            ws.handle(Confirm, lambda confirm: confirm.question == "sure?")
            assert (await ws.ask("ask"))["text"] == "True"

            def refuse(confirm: Confirm) -> bool:
                raise Declined("busy")

            ws.handle(Confirm, refuse)
            assert (await ws.ask("ask"))["text"] == "busy"

    run(test())


class Values(Endpoint):
    envelope: Any = Envelope(type="event", data="payload")

    @event
    async def on_names(self, type: str) -> list[str]:
        return [type]

    @event
    async def on_shape(self) -> Shape:
        return Shape(type="circle", size=1)


@pytest.mark.parametrize("envelope", [Values.envelope, ArrayEnvelope("type", "data", "ref"), JsonRpc()], ids=repr)
def test_any_value_may_be_an_answer(envelope: Any) -> None:
    """A list is itself, or what `returns` says; fields may be called as the envelope's keys are elsewhere."""
    app = type("App", (Values,), {"envelope": envelope})

    async def test() -> None:
        async with connect(app) as ws:
            assert await ws.ask("names", type="ada") == ["ada"]
            assert await ws.ask("names", type="ada", returns=list[str]) == ["ada"]
            assert await ws.ask("shape", returns=Shape) == Shape(type="circle", size=1)

    run(test())


def test_the_envelope_of_an_applications_endpoint_is_known() -> None:
    """Routers say which endpoint they have found."""
    routes = [WebSocketRoute("/values", Values), WebSocketRoute("/chat", Chat)]
    application = Starlette(routes=[Mount("/api", routes=routes)])

    async def test() -> None:
        async with connect(application, "/api/values") as ws:
            assert await ws.ask("names", type="ada") == ["ada"]
        async with connect(application, "/api/chat") as ws:
            assert await ws.ask("post", text="hi") == {"type": "post", "text": "hi"}

    run(test())


def test_without_refs_answers_are_expected() -> None:
    """Nothing can be asked where answers do not say what they answer."""

    class App(Endpoint):
        envelope = ArrayEnvelope("type", "data")

        @event
        async def on_post(self, text: str) -> Posted:
            return Posted(text=text)

    async def test() -> None:
        async with connect(App) as ws:
            with pytest.raises(TypeError, match="`send` the message, and `expect`"):
                await ws.ask("post", text="hi")
            await ws.send("post", text="hi")
            assert await ws.expect("post") == {"type": "post", "text": "hi"}

    run(test())


def test_a_batch_is_answered_message_by_message() -> None:
    """Each response of an array that comes is one that can be received."""
    app = type("App", (Values,), {"envelope": JsonRpc()})
    request = '{"jsonrpc":"2.0","id":%d,"method":"names","params":["ada"]}'

    async def test() -> None:
        async with connect(app) as ws:
            await ws.send_frame(f"[{request % 1},{request % 2}]")
            assert [await ws.receive(), await ws.receive()] == [{"id": 1, "data": ["ada"]}, {"id": 2, "data": ["ada"]}]

    run(test())
