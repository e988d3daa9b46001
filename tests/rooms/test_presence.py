"""Who is in a room: what members are told, and what anybody can ask."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketsundso import DefinitionError, Endpoint, Hub, Member, SyncHub, event
from socketsundso.connection import Outgoing
from socketsundso.errors import BackplaneUnavailable
from socketsundso.rooms import presence
from socketsundso.rooms.history import Resume
from socketsundso.rooms.local import Rooms, rooms_for
from socketsundso.rooms.presence import Circle, Entry, View

from ..backplanes.listener import until
from .peer import Peer, cut_off, lists, message, processes
from .serving import Client, run, serving


class Lobby(Endpoint):
    presence_events = True
    presence_interval_s = 0  # a change is told before the answer to who makes it

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


def test_presence_is_declared(caplog: pytest.LogCaptureFixture) -> None:
    """
    Without `presence_events = True` nothing is pushed at a join, whatever the class's code mentions; `track` raises
    with the remedy, also from a helper or after a join, and nobody is tracked.
    """

    class Silent(Endpoint):
        @event
        async def on_enter(self) -> dict[str, Any]:
            await self.join("r")
            return {"type": "entered"}

        @event
        async def on_show(self) -> None:
            await self.track(1)

        @event
        async def on_hide(self) -> dict[str, Any]:
            await self.untrack("r")
            return {"type": "hidden"}

    async def main() -> None:
        async with serving(Silent) as client:
            ada = await client()
            await ada.send("enter")
            assert (await ada.receive())["type"] == "entered"
            assert (await ada.call("show"))["code"] == "internal_error"
            assert (await ada.call("hide"))["type"] == "hidden"
            assert await Silent.hub.presence.list("r") == []

    run(main)
    error = caplog.records[-1].exc_info
    assert error is not None
    assert isinstance(error[1], RuntimeError)
    assert "presence_events = True" in str(error[1])


async def show(endpoint: Any, name: str, **options: Any) -> None:
    """A helper outside of any class that tracks."""
    await getattr(endpoint, "track")(name, **options)  # noqa: B009  # no mention for anybody who reads code


@pytest.mark.usefixtures("backplane")
def test_who_tracks_in_a_helper_or_a_mixin_is_heard_of() -> None:
    """Where the class declares it, it does not matter where its code stands."""

    class Shows:
        @event
        async def on_mixed(self) -> None:
            await show(self, "mixed")

    class Declared(Shows, Lobby):
        @event
        async def on_helped(self) -> None:
            await show(self, "helped")

    async def main() -> None:
        async with serving(Declared) as client:
            ada = await client()
            ada_id, _ = await enter(ada)
            await ada.send("helped")
            assert (await ada.receive())["joins"] == {ada_id: "helped"}
            await ada.send("mixed")
            assert (await ada.receive())["joins"] == {ada_id: "mixed"}

    run(main)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("presence_events", None),
        ("presence_events", "yes"),
        ("presence_events", 1),
        ("presence_interval_s", -0.1),
        ("presence_interval_s", float("inf")),
        ("presence_interval_s", float("nan")),
        ("presence_interval_s", "0.05"),
        ("presence_interval_s", None),
        ("presence_interval_s", True),
    ],
)
def test_a_wrong_declaration_is_refused_at_import(attribute: str, value: Any) -> None:
    """With the attribute, what it is, and what it may be."""
    with pytest.raises(DefinitionError, match=rf"Wrong\.{attribute} is .*; it is "):
        type("Wrong", (Endpoint,), {attribute: value})


def test_the_names_of_presence_are_reserved_where_it_is_declared() -> None:
    """A handler or a message of that name would be taken for it."""

    async def handler(self: Endpoint) -> None: ...

    with pytest.raises(DefinitionError, match="presence_diff"):
        type("Taken", (Endpoint,), {"presence_events": True, "on_x": event("presence_diff")(handler)})
    type("Free", (Endpoint,), {"on_x": event("presence_diff")(handler)})


# ---- what changes within a moment


class Moments(Lobby):
    """An interval that no test waits out: what is due is told when the test says so."""

    presence_interval_s = 1000.0


def due(*rooms: str) -> None:
    """The interval is over."""
    everyone = rooms_for(Moments._declaration.url)
    for name in rooms or ("r",):
        room = everyone.topics[f"r{name}"]
        for circle in list(room.circles.values()):
            if circle.timer is not None:
                circle.timer.cancel()
                everyone.roster._tell(room, circle)


@pytest.mark.usefixtures("everywhere")
def test_what_changes_within_an_interval_is_told_at_once_and_once() -> None:
    """
    One frame for each member, however many came, changed and went; who came and went was never there, and who left and
    came back, or is what it was before, is no news.
    """

    async def main() -> None:
        async with serving(Moments) as client:
            ada, bob, eve = await client(), await client(), await client()
            ids = [(await enter(each))[0] for each in (ada, bob, eve)]
            for each, names in ((ada, ["ada"]), (bob, ["b", "bob"]), (eve, ["eve"])):
                for name in names:
                    await each.call("show", name=name)
            await eve.call("hide")
            due()
            told = {ids[0]: {"name": "ada"}, ids[1]: {"name": "bob"}}
            assert await eve.receive() == {"type": "presence_diff", "room": "r", "joins": told, "leaves": {}}
            await bob.call("hide")
            await bob.call("show", name="bob")
            await ada.call("show", name="x")
            await ada.call("show", name="ada")
            due()
            await bob.call("show", name="robert")
            await bob.call("hide")
            await eve.call("show", name="eve")
            due()
            left = {ids[1]: {"name": "bob"}}
            assert await eve.receive() == {
                "type": "presence_diff",
                "room": "r",
                "joins": {ids[2]: {"name": "eve"}},
                "leaves": left,
            }

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_who_comes_within_an_interval_is_told_only_what_it_does_not_know() -> None:
    """Its state says what has changed so far; those who were there before are told all of it."""

    async def main() -> None:
        async with serving(Moments) as client:
            early, ada, bob = await client(), await client(), await client()
            await enter(early)
            ada_id, _ = await enter(ada)
            await ada.call("show", name="ada")
            bob_id, members = await enter(bob)
            assert members == {ada_id: {"name": "ada"}}
            await bob.call("show", name="bob")
            late = await client()
            _, members = await enter(late)
            assert members == {ada_id: {"name": "ada"}, bob_id: {"name": "bob"}}
            await ada.call("hide")
            due()
            news = [(each["joins"], each["leaves"]) for each in [await who.receive() for who in (early, bob, late)]]
            everything = {bob_id: {"name": "bob"}}
            assert news == [(everything, {}), (everything, {ada_id: {"name": "ada"}}), ({}, {ada_id: {"name": "ada"}})]

    run(main)


@pytest.mark.usefixtures("backplane")
def test_a_crowd_that_comes_at_once_is_told_in_few_frames() -> None:
    """Eighty at the default interval: a state for each, and not one more frame for each pair of them."""

    class Crowded(Lobby):
        presence_interval_s = Endpoint.presence_interval_s

    async def main() -> None:
        assert Endpoint.presence_interval_s == 0.05
        async with serving(Crowded) as client:
            crowd = [await client() for _ in range(80)]

            async def come(who: Client, n: int) -> list[dict[str, Any]]:
                await who.send("enter", room="r")
                await who.send("show", name=str(n))
                got: list[dict[str, Any]] = []
                while len(members_of(got)) < 80:
                    got.append(await who.receive())
                return got

            heard = await asyncio.gather(*(come(who, n) for n, who in enumerate(crowd)))
            frames = [each for got in heard for each in got if each["type"].startswith("presence_")]
            assert len(frames) < 1000
            first = members_of(heard[0])
            assert all(members_of(got) == first for got in heard)

    run(main)


def members_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client knows; each leave is of somebody whom it knows."""
    members: dict[str, Any] = {}
    for told in messages:
        members |= told.get("members", {}) | told.get("joins", {})
        for left in told.get("leaves", {}):
            del members[left]
    return members


def test_endpoints_that_share_a_room_have_their_own_intervals(backplane: str) -> None:
    """One that wants to know at once does, without the others' being told more often."""

    class Slow(Lobby):
        presence_interval_s = 1000.0

    async def main() -> None:
        async with serving(Lobby) as here, serving(Slow) as there:
            ada, bob = await here(), await there()
            ada_id, _ = await enter(ada)
            await enter(bob)
            await ada.send("show", name="ada")
            assert (await ada.receive())["joins"] == {ada_id: {"name": "ada"}}
            await ada.call("show", name="lovelace")
            room = rooms_for(backplane).topics["rr"]
            (circle,) = [each for interval_s, each in room.circles.items() if interval_s]
            assert circle.timer is not None
            assert [each.joins[ada_id].meta for each in circle.news()] == [msgspec.Raw(b'{"name":"lovelace"}')]
            await bob.call("exit", room="r")
            assert set(room.circles) == {0}
            assert circle.timer is None

    run(main)


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from(["", "k", "a"])),
        st.tuples(st.just("leave"), st.sampled_from("abc"), st.none(), st.none()),
        st.tuples(st.sampled_from(["come", "tell"]), st.none(), st.none(), st.none()),
    ),
    max_size=40,
)


@pytest.mark.parametrize("untold", [presence.UNTOLD, 0])  # however often the changes of a member are put together
@given(changes=CHANGES)
def test_any_changes_leave_everybody_with_the_truth(untold: int, changes: list[Any]) -> None:
    """
    Whenever one comes: the state and then the diffs give what the view shows, no diff is empty, none joins who is known
    with the same meta, and none leaves who is not known.
    """
    view, circle, stamps = View(), Circle[int](), itertools.count(1)
    circle._too_long = untold
    known: dict[int, dict[str, bytes]] = {}

    def shown() -> dict[str, bytes]:
        return {member: bytes(entry.meta) for member, entry in view.shown.items()}

    def tell() -> None:
        for news in circle.news():
            assert news.joins or news.leaves
            for who in news.audience:
                for member, entry in news.joins.items():
                    assert known[who].get(member) != bytes(entry.meta)
                    known[who][member] = bytes(entry.meta)
                for member, entry in news.leaves.items():
                    assert known[who].pop(member) == bytes(entry.meta)

    def note(changes: presence.Changes) -> None:
        circle.note(changes)
        circle._too_long = untold

    for kind, connection, meta, key in [("come", None, None, None), *changes, ("tell", None, None, None)]:
        if kind == "join":
            note(view.join({connection: Entry("p", msgspec.Raw(meta.encode()), key, next(stamps))}))
        elif kind == "leave":
            note(view.leave([connection]))
        elif kind == "come":
            known[len(known)] = shown()
            circle.add(len(known) - 1)
        else:
            tell()
    assert all(each == shown() for each in known.values())


def test_who_comes_and_goes_within_a_long_interval_takes_no_memory() -> None:
    """However many they are; who came meanwhile knows the same as everybody else in the end."""
    view, circle = View(), Circle[str]()
    circle.add("first")
    circle.note(view.join({"stays": Entry("p", msgspec.Raw(b"0"), stamp=1)}))
    circle.add("second")
    for n in range(10_000):
        circle.note(view.join({f"guest {n}": Entry("p", msgspec.Raw(b"1"), stamp=n + 2)}))
        circle.note(view.leave([f"guest {n}"]))
    assert len(circle._log) <= presence.UNTOLD
    circle.note(view.join({"last": Entry("p", msgspec.Raw(b"2"), stamp=20_000)}))
    told = {who: sorted(news.joins) for news in circle.news() for who in news.audience}
    assert told == {"first": ["last", "stays"], "second": ["last"]}


# ---- several connections, one member


class Users(Lobby):
    @event
    async def on_be(self, user: str | None, name: str) -> dict[str, Any]:
        await self.track({"name": name}, room="r", key=user)
        return {"id": self.id}

    @event
    async def on_count(self, room: str = "r") -> dict[str, Any]:
        return {"count": await self.presence.count(room)}


@pytest.mark.usefixtures("everywhere")
def test_the_tabs_of_a_user_are_one_member() -> None:
    """Under the key, with the latest meta; it leaves with the last of them, and is counted once."""

    async def main() -> None:
        async with serving(Users) as client:
            watcher, first, second = await client(), await client(), await client()
            for each in (watcher, first, second):
                await enter(each)
            told = []
            for each, name in ((first, "one"), (second, "two"), (first, "three")):
                await each.call("be", user="ada", name=name)
                told.append(await watcher.receive())
            assert [each["joins"] for each in told] == [{"ada": {"name": name}} for name in ("one", "two", "three")]
            assert await Users.hub.presence.list("r") == [Member("ada", {"name": "three"})]
            assert (await watcher.call("count"))["count"] == 1
            await first.connection.close()  # and with it the latest meta
            assert (await watcher.receive())["joins"] == {"ada": {"name": "two"}}
            await second.call("be", user=None, name="still ada")
            assert (await watcher.receive())["joins"] == {"ada": {"name": "still ada"}}
            second_id = (await second.call("be", user="grace", name="grace"))["id"]
            assert await watcher.receive() == {
                "type": "presence_diff",
                "room": "r",
                "joins": {"grace": {"name": "grace"}},
                "leaves": {"ada": {"name": "still ada"}},
            }
            await second.call("be", user=second_id, name="anonymous")
            assert (await watcher.receive())["joins"] == {second_id: {"name": "anonymous"}}
            await second.call("exit", room="r")
            assert (await watcher.receive())["leaves"] == {second_id: {"name": "anonymous"}}
            assert (await watcher.call("count"))["count"] == 0

    run(main)


def test_a_user_in_two_processes_is_one_member(url: str) -> None:
    """
    Whatever their clocks say: the one tracked last wins for everybody, also for who comes later or only asks; and when
    one process's connection leaves, the other's stays.
    """

    async def main() -> None:
        async with processes(url) as (here, there), Hub(url) as hub:
            peers = {rooms: Peer(wants_presence=True) for rooms in (here, there)}
            for rooms, peer in peers.items():
                await rooms.join(peer.who, "ra")

            async def track(rooms: Rooms, name: str) -> None:
                who = peers[rooms].who
                await rooms.roster.track(who, who.rooms["ra"], json.dumps(name).encode(), "ada")
                for each in peers.values():
                    await until(lambda each=each: members_of(each.got) == {"ada": name}, name)

            for n in range(3):
                await track(here, f"here {n}")
                await track(there, f"there {n}")
            assert await here.count("a") == await there.count("a") == 1
            late = Peer(wants_presence=True)
            await there.join(late.who, "ra")
            await until(lambda: late.got, "the state")
            assert members_of(late.got) == {"ada": "there 2"}
            await until_listed(hub, [Member("ada", "there 2")])
            assert await hub.presence.count("a") == 1
            there.leave(peers[there].who, "ra")
            await until(lambda: members_of(peers[here].got) == {"ada": "here 2"}, "the older one is the latest now")
            here.leave(peers[here].who, "ra")
            await until(lambda: members_of(late.got) == {}, "the last one has left")
            there.leave(late.who, "ra")
            await until_listed(hub, [])

    run(main)


async def until_listed(hub: Hub, members: list[Member]) -> None:
    """The engine is told a moment after the others."""
    async with asyncio.timeout(20):
        while await hub.presence.list("a") != members:
            await asyncio.sleep(0)


@pytest.mark.usefixtures("backplane")
@pytest.mark.parametrize(
    ("key", "code"), [("", "validation_error"), ("x" * 201, "validation_error"), ("\ud800", "validation_error")]
)
def test_a_key_that_presence_does_not_take_is_answered(key: str, code: str) -> None:
    """It may come from a client. Nobody is tracked."""

    class Any_(Users):  # a lone surrogate comes in no frame; an application may have one
        @event
        async def on_try(self) -> None:
            await self.track(1, room="r", key=key)

    async def main() -> None:
        async with serving(Any_) as client:
            ada = await client()
            await enter(ada)
            answer = await ada.call("try")
            assert (answer["code"], answer["errors"][0]["loc"]) == (code, ["key"])
            assert (await ada.call("count"))["count"] == 0

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_members_are_counted() -> None:
    """From the room, from outside, from a thread; of a room that nobody is in, too."""

    async def main() -> None:
        async with serving(Users) as client:
            ada, bob, outside = await client(), await client(), await client()
            for each in (ada, bob):
                await enter(each)
                await each.call("show", name="x")
            assert [(await each.call("count"))["count"] for each in (ada, outside)] == [2, 2]
            assert (await outside.call("count", room="nobody"))["count"] == 0

            def in_a_thread() -> int:
                with SyncHub(Users._declaration.url) as hub:
                    return hub.presence.count("r")

            assert await asyncio.to_thread(in_a_thread) == 2

    run(main)


# ---- nothing is lost


def test_a_member_that_resumes_hears_who_came_and_went_meanwhile(url: str) -> None:
    """It is in the room already, and replays slowly: on every backplane, and also what the other process tells."""

    async def main() -> None:
        async with processes(url) as (here, there):
            reader, ann, bob = (Peer(wants_presence=True) for _ in range(3))
            await here.join(reader.who, "rdoc")
            await there.join(bob.who, "rdoc")
            await here.join(ann.who, "rdoc")
            await there.roster.track(bob.who, bob.who.rooms["rdoc"], b'"bob"')
            for n in range(1, 4):
                await here.broadcast(["rdoc"], message(n))
            await until(lambda: len(reader.numbers()) == 3 and len(members_of(reader.got)) == 1, "live")
            at = {"doc": Resume(1, reader.got[0]["epoch"])}
            found = await here.read_missed(reader.who, at)
            replayed: list[dict[str, Any]] = []

            async def take(payload: bytes) -> None:
                if not replayed:  # while the first message waits for the peer
                    there.roster.untrack(bob.who, bob.who.rooms["rdoc"])
                    await here.roster.track(ann.who, ann.who.rooms["rdoc"], b'"ann"')
                    await until(lambda: members_of(ann.got) == {ann.who.id: "ann"}, "ann has heard of both")
                replayed.append(json.loads(payload))

            await here.go_on(reader.who, at, found, take)
            await until(lambda: members_of(reader.got) == {ann.who.id: "ann"}, "the reader has heard, too")
            assert [each["seq"] for each in replayed] == [2, 3]

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_untracking_and_tracking_in_one_go_leaves_one_tracked() -> None:
    """Also on the engine, whose answer to the first may come after the second: anybody who asks later finds it."""

    class Flips(Lobby):
        @event
        async def on_flip(self) -> dict[str, Any]:
            for n in range(10):
                await self.untrack("r")
                await self.track(n, room="r")
            return {}

    async def main() -> None:
        async with serving(Flips) as client:
            ada = await client()
            ada_id, _ = await enter(ada)
            await ada.call("show", name="ada")
            await ada.call("flip")
            backplane = rooms_for(Flips._declaration.url).backplane
            assert list(await backplane.held("rr")) == [ada_id]
            assert await Flips.hub.presence.list("r") == [Member(ada_id, 9)]

    run(main)


def test_who_untracks_and_tracks_while_the_engine_is_away_is_there_when_it_is_back(between_processes: str) -> None:
    """The leave that could not be told then is not told when it is none any more."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            ada, watcher = Peer(wants_presence=True), Peer(wants_presence=True)
            await here.join(ada.who, "ra")
            await there.join(watcher.who, "ra")
            room = ada.who.rooms["ra"]
            await here.roster.track(ada.who, room, b'"ada"')
            await until(lambda: members_of(watcher.got) == {ada.who.id: "ada"}, "it is told")
            async with cut_off(here):
                here.roster.untrack(ada.who, room)
                await here.roster.track(ada.who, room, b'"back"')
            await until(lambda: members_of(watcher.got) == {ada.who.id: "back"}, "it is there")
            await lists(here, "a", "back")
            assert list(await there.backplane.held("ra")) == [ada.who.id]

    run(main)


def test_what_is_read_late_does_not_undo_what_was_heard(
    between_processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that overtakes the list of members, which has what was before it."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            ada = Peer()
            await there.join(ada.who, "ra")
            await there.roster.track(ada.who, ada.who.rooms["ra"], b'"old"')
            held = here.backplane.held

            async def held_late(topic: str) -> dict[str, bytes]:
                answer = await held(topic)
                await there.roster.track(ada.who, ada.who.rooms["ra"], b'"new"')
                await until(lambda: here.topics["ra"].view.entries, "the news of it")  # type: ignore[union-attr]
                return answer

            monkeypatch.setattr(here.backplane, "held", held_late)
            watcher = Peer(wants_presence=True)
            await here.join(watcher.who, "ra")
            await until(lambda: watcher.got, "the state")
            assert members_of(watcher.got) == {ada.who.id: "new"}

    run(main)


def test_who_asks_while_somebody_leaves_does_not_keep_it(
    between_processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that comes when the leave was told, but asks the engine before that knows of it."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            ada, watcher, asked = Peer(), Peer(wants_presence=True), asyncio.Event()
            await there.join(ada.who, "ra")
            await there.roster.track(ada.who, ada.who.rooms["ra"], b'"ada"')
            release = there.backplane.release

            async def release_late(topic: str, key: str) -> None:
                await asked.wait()
                await release(topic, key)

            monkeypatch.setattr(there.backplane, "release", release_late)
            there.roster.untrack(ada.who, ada.who.rooms["ra"])
            await there.backplane.flush()
            await here.join(watcher.who, "ra")
            await until(lambda: members_of(watcher.got) == {ada.who.id: "ada"}, "the engine still holds it")
            asked.set()
            await until(lambda: members_of(watcher.got) == {}, "it has left")

    run(main)


def test_a_process_that_starts_without_the_engine_hears_who_is_there_when_it_comes(between_processes: str) -> None:
    """Its members could be told of its own only; the others hear of them, too."""

    async def main() -> None:
        async with processes(between_processes) as (there, _):
            ada, bob = Peer(wants_presence=True), Peer(wants_presence=True)
            await there.join(ada.who, "ra")
            await there.roster.track(ada.who, ada.who.rooms["ra"], b'"ada"')
            here = Rooms(between_processes)
            backplane: Any = here.backplane
            connect = backplane._connect

            async def refuse() -> None:
                raise OSError("not there yet")

            backplane._connect = refuse
            await here.join(bob.who, "ra")
            await here.roster.track(bob.who, bob.who.rooms["ra"], b'"bob"')
            await until(lambda: members_of(bob.got) == {bob.who.id: "bob"}, "it sees itself")
            backplane._connect = connect
            everybody = {ada.who.id: "ada", bob.who.id: "bob"}
            for each in (ada, bob):
                await until(lambda each=each: members_of(each.got) == everybody, "it hears of both")
            await here.aclose()

    run(main)


def test_saying_the_same_again_is_no_news() -> None:
    """After a blip every process repeats itself; nobody leaves and comes back."""
    view, entry = View(), Entry.from_bytes(Entry("p", msgspec.Raw(b'{"name":"ada"}')).to_bytes())
    assert list(view.join({"a": entry})) == ["a"]
    assert view.join({"a": entry}) == {}
    assert view.of_owners(frozenset({"p"})) == ["a"]
    assert list(view.leave(["a", "b"])) == ["a"]
    assert view.leave(["a"]) == {}


class Stalled(Peer):
    """Takes nothing before it may."""

    def __init__(self, reads: asyncio.Event) -> None:
        self.reads = reads
        super().__init__(wants_presence=True)

    async def _send(self, event: Any) -> None:
        await self.reads.wait()
        await super()._send(event)


def test_a_slow_reader_that_joins_is_told_who_is_there_when_it_reads() -> None:
    """Not who was there when it joined: what it is told is made when it is its turn."""

    async def main() -> None:
        async with processes("memory://slow-joiner") as (rooms, _):
            reads = asyncio.Event()
            slow, ada = Stalled(reads), Peer()
            for n in range(3):
                slow.who.push(Outgoing(message(n)))
            await until(lambda: slow.who.connection.slow, "it takes nothing")
            await rooms.join(slow.who, "ra")
            await rooms.join(ada.who, "ra")
            await rooms.roster.track(ada.who, ada.who.rooms["ra"], b'"ada"')
            reads.set()
            await until(lambda: members_of(slow.got) == {ada.who.id: "ada"}, "it is told")
            assert [each["type"] for each in slow.got] == ["m", "m", "m", "presence_state"]

    run(main)


def test_who_is_in_a_room_that_has_emptied_is_not_asked_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine could not tell while somebody was in it; afterwards nobody is to be told."""
    asked: list[str] = []

    async def away(topic: str) -> dict[str, bytes]:
        asked.append(topic)
        raise BackplaneUnavailable("away")

    async def main() -> None:
        async with processes("memory://emptied") as (rooms, _):
            monkeypatch.setattr(rooms.backplane, "held", away)
            watcher = Peer(wants_presence=True)
            await rooms.join(watcher.who, "ra")
            await rooms.roster._complete_views()
            assert asked == ["ra", "ra"]
            rooms.leave(watcher.who, "ra")
            await rooms.roster._complete_views()
            assert asked == ["ra", "ra"]

    run(main)
