"""Endpoints in different envelopes share rooms: each hears the same in its own, whoever has sent it, and from where."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import Conflate, Endpoint, Hub, Keep, SyncHub, event
from socketsundso.connection import Notice, Outgoing
from socketsundso.connection.outbound import Connection, OutboundQueue
from socketsundso.messages import framing as framings
from tests.enveloping import ARRAY, FLAT, NESTED, RENAMED, Said, Wire, named, within
from tests.rooms.serving import WAIT_S, Client, run, serving

WIRES = [FLAT, RENAMED, NESTED, ARRAY]
OTHERS = WIRES[1:]


class Posted(BaseModel):
    text: str


class Moved(msgspec.Struct, tag="moved"):
    x: int


class Changed(BaseModel):
    type: Literal["changed"] = "changed"
    room: str


class Shape(BaseModel):
    type: str
    size: int


MESSAGES: list[tuple[Any, Said]] = [
    (Posted(text="hi"), Said("posted", {"text": "hi"})),
    (Moved(1), Said("moved", {"x": 1})),
    (Changed(room="doc"), Said("changed", {"room": "doc"})),
    ({"n": 1, "type": "noted"}, Said("noted", {"n": 1})),
    ({"type": 'quo"ted\\', "n": 1}, Said('quo"ted\\', {"n": 1})),
    ({"type": "bare"}, Said("bare", {})),
]


class Chat(Endpoint):
    @event
    async def enter(self, room: str = "doc", last: int | None = None) -> dict[str, Any]:
        await self.join(room, last=last)
        return {}

    @event
    async def post(self, number: int) -> dict[str, Any]:
        await self.broadcast(MESSAGES[number][0], "doc")
        return {}

    @event
    async def draw(self) -> dict[str, Any]:
        await self.broadcast(Shape(type="round", size=1), "doc")
        return {}

    @event
    async def show(self, meta: Any) -> dict[str, Any]:
        await self.track(meta, "doc")
        return {}


class Speaker:
    """A client that knows its envelope."""

    def __init__(self, wire: Wire, client: Client) -> None:
        self.wire, self.client = wire, client

    async def say(self, type_: str, ref: Any = None, **data: Any) -> None:
        await self.client.connection.send(self.wire.write(type_, data, ref))

    async def raw(self) -> Any:
        async with asyncio.timeout(WAIT_S):
            return json.loads(await self.client.connection.recv())

    async def hear(self) -> Said:
        return self.wire.read(await self.raw())

    async def call(self, type_: str, **data: Any) -> list[Said]:
        """What comes up to the answer, without it."""
        await self.say(type_, ref="call", **data)
        heard = []
        while (said := await self.hear()).ref != "call":
            heard.append(said)
        assert said.type == type_, said
        return heard


Main = Callable[[dict[str, Speaker]], Awaitable[None]]


def speaking(app: type, main: Main, **attributes: Any) -> None:
    """Run `main` with one client in each envelope, who share rooms."""

    async def whole() -> None:
        apps = {wire.name: within(app, wire, **attributes) for wire in WIRES}
        router = Starlette(routes=[WebSocketRoute(f"/{name}", each) for name, each in apps.items()])
        async with serving(router) as connect:
            await main({wire.name: Speaker(wire, await connect(wire.name)) for wire in WIRES})

    run(whole)


def test_each_hears_the_same_in_its_own_envelope(backplane: str, both_protocols: None) -> None:
    """Whoever of them broadcasts; what says the name is no data in any of them."""

    async def main(speakers: dict[str, Speaker]) -> None:
        for each in speakers.values():
            assert await each.call("enter") == []
        for sender in speakers.values():
            for number, (_, expected) in enumerate(MESSAGES):
                assert await sender.call("post", number=number) == [expected]
                for each in speakers.values():
                    if each is not sender:
                        assert await each.hear() == expected

    speaking(Chat, main)


def test_a_broadcast_is_encoded_once_for_each_envelope(
    backplane: str, both_protocols: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are of them, and not at all for those who read what is sent between processes."""
    framed: list[str] = []

    def counting(kind: type) -> None:
        frame = kind.frame  # type: ignore[attr-defined]  # of each

        def count(self: Any, canonical: bytes) -> Any:
            if b"posted" in canonical:
                framed.append(kind.__name__)
            return frame(self, canonical)

        monkeypatch.setattr(kind, "frame", count)

    for kind in (framings.FlatFraming, framings.NestedFraming, framings.ArrayFraming):
        counting(kind)

    async def whole() -> None:
        apps = {wire.name: within(Chat, wire) for wire in WIRES}
        twin = within(Chat, NESTED)  # another class, the same envelope
        router = Starlette(routes=[WebSocketRoute(f"/{name}", each) for name, each in {**apps, "twin": twin}.items()])
        async with serving(router) as connect:
            speakers = [Speaker(wire, await connect(wire.name)) for wire in WIRES for _ in range(3)]
            speakers.append(Speaker(NESTED, await connect("twin")))
            for each in speakers:
                await each.call("enter")
            assert await speakers[0].call("post", number=0) == [MESSAGES[0][1]]
            for each in speakers[1:]:
                assert await each.hear() == MESSAGES[0][1]

    run(whole)
    assert sorted(framed) == ["ArrayFraming", "FlatFraming", "NestedFraming"]


def test_numbers_stand_beside_the_data(backplane: str) -> None:
    """`room` and `seq` of a room with history: in a nested envelope beside its data, in an array among them."""

    async def main(speakers: dict[str, Speaker]) -> None:
        for each in speakers.values():
            assert [said.type for said in await each.call("enter")] == ["room_position"]
        await speakers["flat"].say("post", number=0)
        await speakers["flat"].say("post", number=2)
        first = {name: await each.raw() for name, each in speakers.items() if name != "flat"}
        assert first == {
            "renamed": {"action": "posted", "text": "hi", "room": "doc", "seq": 1},
            "nested": {"event": "posted", "room": "doc", "seq": 1, "payload": {"text": "hi"}},
            "array": ["posted", None, {"text": "hi", "room": "doc", "seq": 1}],
        }
        second = {name: await each.raw() for name, each in speakers.items() if name != "flat"}
        assert second == {
            "renamed": {"action": "changed", "room": "doc", "seq": 2},
            "nested": {"event": "changed", "room": "doc", "seq": 2, "payload": {"room": "doc"}},
            "array": ["changed", None, {"room": "doc", "seq": 2}],
        }

    speaking(Chat, main, history={"doc": Keep(messages=10)})


@pytest.mark.parametrize("wire", OTHERS, ids=named)
def test_who_comes_back_hears_what_it_missed(backplane: str, wire: Wire) -> None:
    """`resume` is a request, its reply and all that follows are in the envelope; so are the last messages of a join."""

    async def whole() -> None:
        app = within(Chat, wire, history={"doc": Keep(messages=10)})
        async with serving(app) as connect:
            sender = Speaker(wire, await connect())
            (position,) = await sender.call("enter")
            assert position.data.keys() == {"room", "seq", "epoch"}
            await sender.call("post", number=0)
            live = await sender.call("post", number=1)
            reader = Speaker(wire, await connect())
            await reader.say("resume", 5, rooms={"doc": {"seq": 0, "epoch": position.data["epoch"]}, "*": None})
            refused = await reader.hear()
            assert (refused.type, refused.data["code"]) == ("error", "validation_error")
            await reader.say("resume", 6, rooms={"doc": {"seq": 1, "epoch": position.data["epoch"]}})
            told = {"recovered": True, "seq": 2, "epoch": position.data["epoch"]}
            assert await reader.hear() == Said("resumed", {"rooms": {"doc": told}}, 6)
            assert [await reader.hear()] == live
            newcomer = Speaker(wire, await connect())
            assert [said.type for said in await newcomer.call("enter", last=2)] == ["room_position", "posted", "moved"]

    run(whole)


@pytest.mark.parametrize("wire", OTHERS, ids=named)
def test_presence(backplane: str, wire: Wire) -> None:
    """Who is there, and what changes."""

    async def whole() -> None:
        async with serving(within(Chat, wire, presence_events=True, presence_interval_s=0)) as connect:
            speaker = Speaker(wire, await connect())
            assert await speaker.call("enter") == [Said("presence_state", {"room": "doc", "members": {}})]
            (diff,) = await speaker.call("show", meta={"type": "x"})
            assert (diff.type, list(diff.data["joins"].values())) == ("presence_diff", [{"type": "x"}])

    run(whole)


@pytest.mark.parametrize("wire", OTHERS, ids=named)
def test_what_a_slow_reader_has_missed(wire: Wire) -> None:
    """`gap` is in the envelope, too; a `Conflate` is asked about the message itself, whatever its envelope."""
    written: list[Any] = []
    asked: list[Any] = []

    def key_of(message: Any) -> Any:
        asked.append(dict(message))
        return message.symbol

    async def main() -> None:
        reads = asyncio.Event()

        async def send(message: Any) -> None:
            await reads.wait()
            written.append(wire.read(message["text"]))

        queue = OutboundQueue(50, Conflate(key_of), tell_gaps=True)
        connection = Connection(send, queue, lambda: None, framing=wire.envelope.framing("ref"))
        for number in range(4):
            connection.push(Outgoing(b'{"type":"tick","symbol":"a","n":%d}' % number, "r"))
            for _ in range(3):
                await asyncio.sleep(0)
        connection.push(Notice.of_gap("r", 3))
        reads.set()
        async with asyncio.timeout(WAIT_S):
            while not written or written[-1].type != "gap":
                await asyncio.sleep(0)

    asyncio.run(main())
    assert written[-1] == Said("gap", {"room": "r", "dropped": 3})
    assert asked[0] == {"type": "tick", "symbol": "a", "n": asked[0]["n"]}


def test_a_plain_type_is_data_in_a_room_too(backplane: str) -> None:
    """Of a class that is named by its own name, where the one who broadcasts has a place for it."""

    async def main(speakers: dict[str, Speaker]) -> None:
        for each in speakers.values():
            await each.call("enter")
        shape = Said("shape", {"type": "round", "size": 1})
        assert await speakers["nested"].call("draw") == [shape]
        assert await speakers["array"].hear() == await speakers["renamed"].hear() == shape
        assert (await speakers["flat"].hear()).type == "round"  # as with its own, where it is the name

    speaking(Chat, main)


def test_hubs(backplane: str) -> None:
    """The hub of a class encodes as the class does; one of nobody's has the names that every envelope has."""

    async def whole() -> None:
        app = within(Chat, NESTED)
        async with serving(app) as connect, Hub(backplane) as hub:
            speaker = Speaker(NESTED, await connect())
            await speaker.call("enter")
            await app.hub.to("doc").send(Shape(type="round", size=1))
            assert await speaker.hear() == Said("shape", {"type": "round", "size": 1})
            await hub.to("doc").send(Shape(type="round", size=1))
            assert await speaker.hear() == Said("round", {"size": 1})
            await hub.to("doc").send_many([{"type": "a", "n": 1}, Moved(2)])
            assert [await speaker.hear(), await speaker.hear()] == [Said("a", {"n": 1}), Said("moved", {"x": 2})]

    run(whole)


def test_other_processes(between_processes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes between processes is in no envelope: each puts it into those of its own connections."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", between_processes)

    def send_from_elsewhere() -> None:
        with SyncHub(between_processes) as hub:  # an event loop of its own: nothing is shared but the engine
            hub.to("doc").send(Posted(text="from afar"))

    async def main(speakers: dict[str, Speaker]) -> None:
        for each in speakers.values():
            await each.call("enter")
        await asyncio.to_thread(send_from_elsewhere)
        for each in speakers.values():
            assert (await each.hear()).data["text"] == "from afar"

    speaking(Chat, main)


def test_emits(backplane: str) -> None:
    """What is listed is checked against its class, dicts by the name that they give, in each envelope."""

    class Listed(Endpoint):
        emits = [Posted, Moved, Shape]

        @event
        async def say(self, message: dict[str, Any]) -> dict[str, Any]:
            try:
                await self.send(message)
            except TypeError as exc:
                return {"refused": str(exc)}
            return {}

    async def main(speakers: dict[str, Speaker]) -> None:
        for each in speakers.values():
            await each.say("say", message={"type": "posted", "text": 5})
            assert (await each.hear()).data["errors"][0]["loc"] == ["response", "text"]
            await each.say("say", message={"type": "moved", "x": 3})
            heard = [await each.hear(), await each.hear()]
            assert heard[0] == Said("moved", {"x": 3})
            await each.say("say", message={"type": "other"})
            assert "its `emits` lists" in (await each.hear()).data["refused"]

    speaking(Listed, main)
