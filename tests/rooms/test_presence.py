"""Who is in a room: what members are told, and what anybody can ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketsundso import Endpoint, Hub, Member, SyncHub, event
from socketsundso.rooms.presence import Entry, View

from .serving import Client, run, serving


class Lobby(Endpoint):
    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {"id": self.id}

    @event
    async def on_show(self, name: str, room: str | None = None) -> dict[str, Any]:
        await self.track({"name": name}, room=room)
        return {"id": self.id}

    @event
    async def on_hide(self) -> dict[str, Any]:
        await self.untrack()
        return {"id": self.id}

    @event
    async def on_exit(self, room: str) -> dict[str, Any]:
        await self.leave(room)
        return {"id": self.id}

    @event
    async def on_who(self, room: str) -> dict[str, Any]:
        return {"members": {each.id: each.meta for each in await self.presence.list(room)}}


async def enter(client: Client, room: str = "r") -> tuple[str, dict[str, Any]]:
    """Join; gives the connection's id and the members it was told."""
    await client.send("enter", room=room, ref=1)
    state, answer = await client.receives(2)
    assert (state["type"], state["room"]) == ("presence_state", room)
    return answer["id"], state["members"]


@pytest.mark.usefixtures("everywhere")
def test_members_are_told_of_joins_changes_and_leaves() -> None:
    """`presence_state` at the join, `presence_diff` from then on; the tracked one hears of itself too."""

    async def main() -> None:
        async with serving(Lobby) as client:
            ada, bob = await client(), await client()
            ada_id, members = await enter(ada)
            assert members == {}
            await ada.send("show", name="ada")
            joined = {"type": "presence_diff", "room": "r", "joins": {ada_id: {"name": "ada"}}, "leaves": {}}
            assert (await ada.receives(2))[0] == joined
            bob_id, members = await enter(bob)
            assert members == {ada_id: {"name": "ada"}}
            await bob.send("show", name="bob", room="r")
            assert (await ada.receive())["joins"] == {bob_id: {"name": "bob"}}
            await bob.send("show", name="robert")
            assert (await ada.receive())["joins"] == {bob_id: {"name": "robert"}}
            await bob.connection.close()
            left = {"type": "presence_diff", "room": "r", "joins": {}, "leaves": {bob_id: {"name": "robert"}}}
            assert await ada.receive() == left
            await ada.send("hide")
            assert (await ada.receive())["leaves"] == {ada_id: {"name": "ada"}}

    run(main)


def test_anybody_can_ask_who_is_there(everywhere: str) -> None:
    """From the room, from outside of it, from a hub, and from a thread."""

    async def main() -> None:
        async with serving(Lobby) as client:
            ada, outside = await client(), await client()
            ada_id, _ = await enter(ada)
            await ada.call("show", name="ada")
            expected = {ada_id: {"name": "ada"}}
            assert (await ada.call("who", room="r"))["members"] == expected
            assert (await outside.call("who", room="r"))["members"] == expected
            assert (await outside.call("who", room="other"))["members"] == {}
            assert await Lobby.hub.presence.list("r") == [Member(ada_id, {"name": "ada"})]
            async with Hub(everywhere) as hub:
                assert await hub.presence.list("r") == [Member(ada_id, {"name": "ada"})]

            def in_a_thread() -> list[Member]:
                with SyncHub(everywhere) as hub:
                    return hub.presence.list("r")

            assert await asyncio.to_thread(in_a_thread) == [Member(ada_id, {"name": "ada"})]
            await ada.call("exit", room="r")
            async with asyncio.timeout(20):  # the engine is told while the answer is already on its way
                while (await outside.call("who", room="r"))["members"]:
                    pass

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_the_room_may_be_left_out_only_in_exactly_one() -> None:
    """In none or in two it has to be named, and joined."""

    async def main() -> None:
        async with serving(Lobby) as client:
            ada = await client()
            assert (await ada.call("show", name="a"))["type"] == "error"
            await enter(ada, "r")
            await enter(ada, "s")
            assert (await ada.call("show", name="a"))["type"] == "error"
            assert (await ada.call("show", name="a", room="elsewhere"))["code"] == "forbidden"
            assert (await ada.call("show", name="a", room="s"))["type"] == "show"

    run(main)


@pytest.mark.parametrize("how", ["no track", "switched off"])
def test_endpoints_without_presence_send_no_presence(how: str) -> None:
    """Nothing is pushed at a join where no method tracks, or the class says no."""

    class Silent(Endpoint):
        if how == "switched off":
            presence_events = False

            @event
            async def on_show(self) -> None:
                await self.track(1)

        @event
        async def on_enter(self) -> dict[str, Any]:
            await self.join("r")
            return {"type": "entered"}

    async def main() -> None:
        async with serving(Silent) as client:
            ada = await client()
            await ada.send("enter")
            assert (await ada.receive())["type"] == "entered"

    run(main)


def test_saying_the_same_again_is_no_news() -> None:
    """After a blip every process repeats itself; nobody leaves and comes back."""
    view, entry = View(), Entry.from_bytes(Entry("p", msgspec_raw(b'{"name":"ada"}')).to_bytes())
    assert list(view.join({"a": entry})) == ["a"]
    assert view.join({"a": entry}) == {}
    assert view.of_owners(frozenset({"p"})) == ["a"]
    assert list(view.leave(["a", "b"])) == ["a"]
    assert view.leave(["a"]) == {}


def msgspec_raw(value: bytes) -> Any:
    import msgspec

    return msgspec.Raw(value)
