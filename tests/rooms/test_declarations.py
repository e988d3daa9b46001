"""What several endpoints and hubs say of the history of the same rooms."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from socketsundso import Endpoint, Hub, Keep, event
from socketsundso.errors import DefinitionError
from socketsundso.rooms.local import Rooms, rooms_for

from .peer import Peer, message, rest
from .serving import run, serving


class Plain(Endpoint):
    """Shares the rooms of others, and declares nothing."""

    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {}

    @event
    async def on_say(self, room: str, n: int) -> dict[str, Any]:
        await self.broadcast({"type": "said", "n": n}, room=room)
        return {}


class Doc(Plain):
    history = {"doc:*": Keep(messages=5)}


def both(first: Any, second: Any) -> Any:
    """One application with two endpoints, at `/` and at `/second`."""
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    return Starlette(routes=[WebSocketRoute("/", first), WebSocketRoute("/second", second)])


@pytest.mark.usefixtures("both_protocols")
def test_a_second_endpoint_that_says_something_else_is_refused(
    backplane: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its first connection shows it: HTTP 500, and both declarations in the log. The first endpoint goes on."""

    class Other(Plain):
        history = {"note:*": Keep(), "doc:*": Keep(messages=7, seconds=60)}

    async def main() -> None:
        async with serving(both(Doc, Other)) as client:
            ada = await client()
            with pytest.raises(InvalidStatus, match="500"):
                await client(path="second")
            await ada.call("enter", room="doc:1")
            await ada.send("say", room="doc:1", n=1)
            assert (await ada.receive())["seq"] == 1

    run(main)
    text = next(str(record.exc_info[1]) for record in caplog.records if record.exc_info)
    assert "rooms that match 'doc:*'" in text
    assert "Keep(messages=5, seconds=300.0) and Keep(messages=7, seconds=60)" in text


@pytest.mark.usefixtures("backplane")
def test_two_endpoints_that_say_the_same_share_their_rooms() -> None:
    """Also in other words: what counts is what they say of a room."""

    class Same(Plain):
        history = {"doc:secret": Keep(messages=5, seconds=300.0), "doc:*": Keep(messages=5), "x": Keep()}

    async def main() -> None:
        async with serving(both(Doc, Same)) as client:
            ada, bob = await client(), await client(path="second")
            for each in (ada, bob):
                await each.call("enter", room="doc:secret")
            await ada.call("say", room="doc:secret", n=1)
            assert (await bob.receive())["seq"] == 1

    run(main)


def test_patterns_that_differ_and_meet_in_a_room_are_refused_there(backplane: str) -> None:
    """When such a room is joined or sent to; if it is there already, at the declaration."""

    async def main() -> None:
        rooms = Rooms(backplane)
        rooms.declare({"doc:[ab]": Keep(messages=1), "doc:*": Keep(messages=2)})  # the first that matches counts
        rooms.declare({"doc:b*": Keep(messages=3)})
        for topic in ("rdoc:a", "rdoc:c"):
            await rooms.join(Peer().who, topic)
        for topic in ("rdoc:b", "rdoc:bc"):
            peer = Peer()
            with pytest.raises(DefinitionError, match=f"the room '{topic[1:]}'"):
                await rooms.join(peer.who, topic)
            with pytest.raises(DefinitionError, match=f"the room '{topic[1:]}'"):
                await rooms.broadcast([topic], message(1))
            assert topic not in rooms.topics
            assert not peer.who.rooms
        for _ in range(2):
            with pytest.raises(DefinitionError, match="the room 'doc:a'"):
                rooms.declare({"*:a": Keep(messages=4)})
        async with Hub(backplane, history={"doc:*": Keep(messages=9)}) as hub:  # on another `Rooms`: nothing to refuse
            await hub.to("other").send({"type": "m"})
        with pytest.raises(DefinitionError, match=r"doc:\*"):
            await Hub(backplane, history={"doc:*": Keep(messages=8)}).to("other").send({"type": "m"})

    run(main)


@pytest.mark.usefixtures("both_protocols")
def test_a_room_that_somebody_is_in_already_has_the_history_that_is_declared_later(everywhere: str) -> None:
    """
    An endpoint without history is first in the room; the one with it comes, in this process, and is no worse off:
    position, numbers, and `resume`.
    """

    async def main() -> None:
        async with serving(both(Doc, Plain)) as client:
            early = await client(path="second")
            await early.call("enter", room="doc:1")
            await early.call("enter", room="plain")
            assert rooms_for(everywhere).topics["rdoc:1"].keep is None
            ada = await client()
            await ada.send("enter", room="doc:1")
            at = await ada.receive()
            assert (at["type"], at["seq"]) == ("room_position", 0)
            await ada.receive()
            await early.send("say", room="doc:1", n=1)
            for each in (early, ada):
                assert await each.receive() == {"type": "said", "n": 1, "room": "doc:1", "seq": 1}
            await early.receive()
            await early.send("say", room="plain", n=2)
            assert await early.receive() == {"type": "said", "n": 2}
            late = await client()
            answer = await late.call("resume", rooms={"doc:1": {"seq": 0, "epoch": at["epoch"]}})
            assert answer["rooms"]["doc:1"]["recovered"] is True
            assert (await late.receive())["seq"] == 1

    run(main)


def test_a_declaration_costs_nothing_the_second_time(backplane: str) -> None:
    """However often it is said, and however many hubs say it, it is kept once."""

    async def main() -> None:
        rooms = Rooms(backplane)
        for _ in range(1000):
            rooms.declare(dict(Doc.history))
            rooms.declare({})
        assert len(rooms._history._patterns) == 1
        peer = Peer()
        await rooms.join(peer.who, "rdoc:1")
        await rooms.broadcast(["rdoc:1"], message(1))
        await rest()
        assert peer.numbers() == [(1, 1)]

    run(main)
