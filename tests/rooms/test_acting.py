"""Acting on others: who is closed, moved and listed, from the own process and from another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from socketsundso import BackplaneUnavailable, Endpoint, Hub, Keep, Member, SyncHub, event
from socketsundso.backplanes import PROCESSES
from socketsundso.rooms import acting
from socketsundso.rooms.acting import Answer, Leave
from socketsundso.rooms.local import Rooms, rooms_for
from socketsundso.rooms.room import EVERYONE, Header, answers_topic, room_topic, seal

from ..backplanes.listener import Listener, opened, until
from . import serving as serving_module
from .peer import cut_off
from .serving import Client, Connect, run, serving

here_and_elsewhere = pytest.mark.parametrize("where", ["here", "elsewhere"])


class Chat(Endpoint):
    history = {"doc:*": Keep(messages=50)}
    presence_events = True
    presence_interval_s = 0
    max_rooms = 3
    asked: list[str] = []
    left: list[int] = []

    async def authorize(self, room: str) -> bool:
        self.asked.append(room)
        return not room.startswith("secret")

    async def on_disconnect(self, close_code: int) -> None:
        self.left.append(close_code)

    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {"id": self.id}

    @event
    async def on_iam(self, user: str) -> dict[str, Any]:
        await self.identify(user)
        return {"id": self.id}

    @event
    async def on_show(self, room: str, meta: Any, key: str | None = None) -> dict[str, Any]:
        await self.track(meta, room=room, key=key)
        return {}

    @event
    async def on_where(self) -> dict[str, Any]:
        return {"rooms": sorted(self.rooms)}


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    Chat.asked.clear()
    Chat.left.clear()


async def by(where: str, act: Callable[[Any], Any]) -> Any:
    """What a hub of the application's own process does, or one that shares nothing but the backplane with it."""
    if where == "here":
        return await act(Chat.hub)

    def in_a_thread() -> Any:
        with SyncHub() as hub:
            return act(hub)

    return await asyncio.to_thread(in_a_thread)


async def people(client: Connect, *users: str, room: str = "") -> list[Client]:
    """One connection each, identified, and in the room if one is named."""
    found = [await client() for _ in users]
    for each, user in zip(found, users, strict=True):
        await each.call("iam", user=user)
        if room:
            await each.call("enter", room=room)
    return found


async def rooms_of(client: Client) -> list[str]:
    return (await client.call("where"))["rooms"]  # type: ignore[no-any-return]  # a list of names


# ---- close


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_a_user_is_signed_out_on_all_devices(where: str) -> None:
    """
    Each of the user's connections is closed with the code and the reason, is counted, and nobody else is; also by a
    process that serves none (python-socketio 684, aspnetcore 5333).
    """

    async def main() -> None:
        async with serving(Chat) as client:
            laptop, phone, other = await people(client, "u1", "u1", "u2")
            assert await by(where, lambda hub: hub.to_user("u1").close(4001, "signed out")) == 2
            for each in (laptop, phone):
                assert await each.closed() == 4001
                assert each.connection.close_reason == "signed out"
            await until(lambda: Chat.left == [4001, 4001], "on_disconnect has the code")
            assert await rooms_of(other) == []
            assert await by(where, lambda hub: hub.to_user("u1").close(4001)) == 0

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_a_room_is_closed_but_for_some(where: str) -> None:
    """Who is in several of the rooms counts once; who is left out stays."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada, bob, eve = [await client() for _ in range(3)]
            await ada.call("enter", room="a")
            await ada.call("enter", room="doc:1")
            await bob.call("enter", room="doc:1")
            kept = (await eve.call("enter", room="a"))["id"]
            assert await by(where, lambda hub: hub.to("a", "doc:1").except_(kept).close()) == 2
            assert (await ada.closed(), await bob.closed()) == (1000, 1000)
            assert await rooms_of(eve) == ["a"]

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
@pytest.mark.parametrize("room", ["plain", "doc:1"])
def test_what_was_sent_before_a_close_arrives_before_it(where: str, room: str) -> None:
    """A last message that says why, with history and without, however many there are (supabase realtime 1292)."""

    def dismiss(hub: Any) -> Any:
        target = hub.to(room)
        if isinstance(hub, SyncHub):
            target.send_many([{"type": "bye", "n": n} for n in range(50)])
            return target.close(4002)

        async def both() -> Any:
            await target.send_many([{"type": "bye", "n": n} for n in range(50)])
            return await target.close(4002)

        return both()

    async def main() -> None:
        async with serving(Chat) as client:
            (ada,) = await people(client, "u1", room=room)
            assert await by(where, dismiss) == 1
            assert [(await ada.receive())["n"] for _ in range(50)] == list(range(50))
            assert await ada.closed() == 4002

    run(main)


@pytest.mark.filterwarnings(
    "ignore:The `websockets` implementation is deprecated",
    "ignore:websockets.legacy is deprecated:DeprecationWarning",
    "ignore:remove second argument of ws_handler:DeprecationWarning",
)
@pytest.mark.parametrize("protocol", ["websockets", "websockets-sansio", "wsproto", serving_module.OURS])
@pytest.mark.usefixtures("backplane")
def test_nothing_of_who_was_closed_is_handled_any_more(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what it had sent already nor what it goes on sending, whatever the client does (aspnetcore 34481)."""
    monkeypatch.setattr(serving_module, "protocol", protocol)
    handled: list[int] = []
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Chat):
        @event
        async def on_work(self, n: int) -> None:
            handled.append(n)
            entered.set()
            await go_on.wait()

    async def main() -> None:
        async with serving(Slow) as client:
            ada = await client()
            for n in range(3):
                await ada.send("work", n=n)
            await entered.wait()
            assert await Slow.hub.everyone.close(4003) == 1
            go_on.set()
            assert await ada.closed() == 4003
            await until(lambda: Chat.left == [4003], "it is over")
            assert handled == [0]

            idle = await client()
            await rooms_of(idle)
            idle.stop_reading()
            assert await Slow.hub.everyone.close(4003) == 1
            await idle.send("work", n=9)
            idle.read_again()
            assert await idle.closed() == 4003
            await until(lambda: Chat.left == [4003, 4003], "it is over")
            assert handled == [0]

    run(main)


@pytest.mark.usefixtures("both_protocols", "backplane")
def test_who_is_closed_while_it_still_connects_is_closed_with_that_code() -> None:
    """Accepted, but `on_connect` goes on: nothing of it is handled."""
    accepted, go_on = asyncio.Event(), asyncio.Event()

    class Careful(Chat):
        async def on_connect(self) -> None:
            await super().on_connect()
            accepted.set()
            await go_on.wait()

    async def main() -> None:
        async with serving(Careful) as client:
            ada = await client()
            await ada.send("iam", user="u1")
            await accepted.wait()
            assert await Careful.hub.everyone.close(4011) == 1
            go_on.set()
            assert await ada.closed() == 4011
            await until(lambda: Chat.left == [4011], "on_disconnect has the code")

    run(main)


@pytest.mark.usefixtures("both_protocols", "backplane")
def test_a_new_device_replaces_the_one_before() -> None:
    """
    A handler closes all others of its user (django channels 1066); one that closes itself so is closed with that
    code, too.
    """

    class Single(Chat):
        @event
        async def on_hello(self, user: str) -> dict[str, Any]:
            await self.identify(user)
            return {"replaced": await self.hub.to_user(user).except_(self).close(4009, "replaced")}

        @event
        async def on_end_all(self, user: str) -> dict[str, Any]:
            await self.hub.to_user(user).send({"type": "bye"})
            return {"never": await self.hub.to_user(user).close(4010)}

    async def main() -> None:
        async with serving(Single) as client:
            before, now = await client(), await client()
            assert (await before.call("hello", user="u1"))["replaced"] == 0
            assert (await now.call("hello", user="u1"))["replaced"] == 1
            assert await before.closed() == 4009
            await now.send("end_all", user="u1")
            assert await now.receive() == {"type": "bye"}
            assert await now.closed() == 4010
            await until(lambda: Chat.left == [4009, 4010], "on_disconnect has the codes")

    run(main)


@pytest.mark.usefixtures("both_protocols", "backplane")
def test_a_close_ends_what_runs_beside_the_messages() -> None:
    """Streams, concurrent handlers and messages that wait their turn; the code is the hub's."""
    ended: list[str] = []

    class Busy(Chat):
        @event
        async def on_tick(self) -> AsyncIterator[dict[str, Any]]:
            try:
                while True:
                    yield {"type": "tock"}
                    await asyncio.sleep(0.01)
            finally:
                ended.append("tick")

        @event(concurrent=2)
        async def on_wait(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("wait")

    async def main() -> None:
        async with serving(Busy) as client:
            ada = await client()
            await ada.send("wait", ref=1)
            await ada.send("tick", ref=2)
            assert (await ada.receive())["type"] == "tock"
            assert await Busy.hub.everyone.close(4012) == 1
            assert await ada.closed() == 4012
            await until(lambda: Chat.left == [4012], "on_disconnect has the code")
            assert sorted(ended) == ["tick", "wait"]

    run(main)


@pytest.mark.usefixtures("both_protocols", "backplane")
def test_a_close_waits_for_no_reader() -> None:
    """Who reads nothing is told when it reads again; the hub, and all the others, are done at once."""

    async def main() -> None:
        async with serving(Chat) as client:
            deaf, ada = await people(client, "u1", "u2", room="r")
            deaf.stop_reading()
            for n in range(100):
                await Chat.hub.to("r").send({"type": "m", "n": n, "pad": "x" * 9000})
            async with asyncio.timeout(20):
                assert await Chat.hub.to("r").close(4004) == 2
                assert await Chat.hub.to("r").close(4004) == 0
                assert await ada.closed() == 4004
            await deaf.send("where")  # is not handled, and ends nothing before its time
            deaf.read_again()
            assert [(await deaf.receive())["n"] for _ in range(100)] == list(range(100))
            assert await deaf.closed() == 4004

    run(main)


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 2000, 2999, 5000, -1, 0, True, "4000", 4000.0, None])
def test_a_code_that_no_close_frame_has_is_refused_at_the_call(code: Any) -> None:
    """With the remedy; nothing is asked of anybody."""

    async def main() -> None:
        async with Hub("memory://codes") as hub:
            with pytest.raises(ValueError, match="3000 to 4999"):
                await hub.everyone.close(code)

    run(main)


@pytest.mark.usefixtures("both_protocols", "backplane")
def test_a_reason_that_is_too_long_is_cut() -> None:
    """At a character's end, as of an endpoint's own close: a close frame has 123 bytes for it."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada = await client()
            await rooms_of(ada)
            assert await Chat.hub.everyone.close(4000, "x" + "ä" * 100) == 1
            assert await ada.closed() == 4000
            assert ada.connection.close_reason == "x" + "ä" * 61

    run(main)


# ---- leave


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
@pytest.mark.parametrize("room", ["plain", "doc:1"])
def test_a_room_is_emptied(where: str, room: str) -> None:
    """Its members hear nothing of it any more, know that, and may come back; their other rooms are as before."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada, bob = await people(client, "u1", "u2", room=room)
            await ada.call("enter", room="other")
            assert await by(where, lambda hub: hub.to(room).leave()) == 2
            await by(where, lambda hub: hub.to(room).send({"type": "m", "n": 1}))
            assert (await rooms_of(ada), await rooms_of(bob)) == (["other"], [])
            assert await by(where, lambda hub: hub.to(room).leave()) == 0
            await bob.call("enter", room=room)
            await by(where, lambda hub: hub.to(room).send({"type": "m", "n": 2}))
            assert (await bob.receive())["n"] == 2

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_a_user_is_taken_out_of_one_room(where: str) -> None:
    """On all devices that are in it, and stays reachable as that user."""

    async def main() -> None:
        async with serving(Chat) as client:
            laptop, phone, other = await people(client, "u1", "u1", "u2", room="r")
            desk = (await people(client, "u1", room="elsewhere"))[0]
            assert await by(where, lambda hub: hub.to_user("u1").leave("r")) == 2
            assert [await rooms_of(each) for each in (laptop, phone, other, desk)] == [[], [], ["r"], ["elsewhere"]]
            assert await by(where, lambda hub: hub.to_user("u1").close()) == 3

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_presence_sees_who_was_taken_out(where: str) -> None:
    """The others are told that it left, and it is told nothing of the room any more."""

    async def main() -> None:
        async with serving(Chat) as client:
            ada, bob = await people(client, "u1", "u2", room="r")
            await ada.call("show", room="r", meta="ada")
            assert (await bob.receive())["type"] == "presence_diff"
            await by(where, lambda hub: hub.to_user("u1").leave("r"))
            assert list((await bob.receive())["leaves"].values()) == ["ada"]
            await bob.call("show", room="r", meta="bob")
            assert (await ada.call_all("where"))[-1] == {"type": "where", "rooms": [], "ref": "call"}
            assert [each.meta for each in await Chat.hub.presence.list("r")] == ["bob"]

    run(main)


def test_who_is_in_no_room_by_its_target_needs_a_name_to_leave() -> None:
    """A user and everyone leave rooms that are named; the error says how."""

    async def main() -> None:
        async with Hub("memory://names") as hub:
            for target in (hub.to_user("u1"), hub.everyone):
                with pytest.raises(ValueError, match=r"leave\(\"lobby\"\)"):
                    await target.leave()
                assert await target.leave("lobby") == 0
            for wrong in ("", "a*", 7):
                with pytest.raises(ValueError, match="room's name"):
                    await hub.everyone.leave(wrong)  # type: ignore[arg-type]  # as from a client
                with pytest.raises(ValueError, match="room's name"):
                    await hub.everyone.join(wrong)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="room's name"):
                    await hub.members(wrong)  # type: ignore[arg-type]

    run(main)


# ---- join


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_who_was_taken_into_a_room_hears_what_is_said_at_once(where: str) -> None:
    """
    When the call returns, the members are in: a message right behind it reaches all of them (socket.io 4734, its
    redis-adapter 502).
    """

    def start(hub: Any) -> Any:
        if isinstance(hub, SyncHub):
            count = hub.to("lobby").join("game:1")
            hub.to("game:1").send({"type": "start"})
            return count

        async def both() -> Any:
            count = await hub.to("lobby").join("game:1")
            await hub.to("game:1").send({"type": "start"})
            return count

        return both()

    async def main() -> None:
        async with serving(Chat) as client:
            players = await people(client, "u1", "u2", "u3", room="lobby")
            assert await by(where, start) == 3
            for each in players:
                got = await each.receives(2)
                assert [message["type"] for message in got] == ["presence_state", "start"]
                assert await rooms_of(each) == ["game:1", "lobby"]

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_a_room_with_history_tells_its_position_to_who_was_taken_in(where: str) -> None:
    """As to who joins by itself: the next message has the next number, and a resume goes on from there."""

    async def main() -> None:
        async with serving(Chat) as client:
            (ada,) = await people(client, "u1")
            await Chat.hub.to("doc:1").send({"type": "m", "n": 1})
            assert await by(where, lambda hub: hub.to_user("u1").join("doc:1", "plain")) == 1
            position = next(m for m in await ada.receives(3) if m["type"] == "room_position")
            assert position["seq"] == 1
            await Chat.hub.to("doc:1").send({"type": "m", "n": 2})
            assert await ada.receive() == {"type": "m", "n": 2, "room": "doc:1", "seq": 2}
            back = await client()
            answer = await back.call("resume", rooms={"doc:1": {"seq": 1, "epoch": position["epoch"]}})
            assert answer["rooms"]["doc:1"]["recovered"] is True

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_who_takes_others_in_has_decided_who_may(where: str) -> None:
    """Neither `authorize` nor `max_rooms` is asked; the connection's own joins are judged as ever."""

    async def main() -> None:
        async with serving(Chat) as client:
            (ada,) = await people(client, "u1", room="a")
            Chat.asked.clear()
            assert await by(where, lambda hub: hub.to("a").join("secret:1", ["secret:2", "b", "a"])) == 1
            assert await rooms_of(ada) == ["a", "b", "secret:1", "secret:2"]
            assert Chat.asked == []
            assert (await ada.call("enter", room="c"))["code"] == "forbidden"

    run(main)


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_who_left_a_room_is_taken_into_it_again(where: str) -> None:
    """As often as one likes: the last call counts (socket.io-redis-adapter 198)."""

    async def main() -> None:
        async with serving(Chat) as client:
            (ada,) = await people(client, "u1", room="r")
            for n in range(3):
                assert await by(where, lambda hub: hub.to("r").leave()) == 1
                assert await by(where, lambda hub: hub.to_user("u1").join("r")) == 1
                await by(where, lambda hub, n=n: hub.to("r").send({"type": "m", "n": n}))  # type: ignore[misc]  # mypy#12557
                while (message := await ada.receive())["type"] != "m":
                    assert message["type"] == "presence_state"
                assert message["n"] == n

    run(main)


def test_who_leaves_meanwhile_is_in_no_room_afterwards(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that goes while it is taken in does not count, and nothing of it is left."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", url)

    async def main() -> None:
        async with serving(Chat) as client:
            ada, _ = await people(client, "u1", "u2", room="lobby")
            rooms = rooms_for(url)
            subscribe, going = rooms.backplane.subscribe, asyncio.Event()

            async def slowly(topic: str) -> None:
                ada.connection.transport.abort()
                await until(lambda: Chat.left, "it has gone")
                going.set()
                await subscribe(topic)

            rooms.backplane.subscribe = slowly  # type: ignore[method-assign]
            assert await Chat.hub.to("lobby").join("game:1") == 1
            assert going.is_set()
            rooms.backplane.subscribe = subscribe  # type: ignore[method-assign]
            assert len(rooms.topics["rgame:1"].participants) == len(rooms.topics["rlobby"].participants) == 1

    run(main)


# ---- everyone


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_everyone_is_every_connection_once(where: str) -> None:
    """In no room, in several, and of another endpoint on the same backplane; in order with replies, but for some."""

    class Other(Endpoint):
        async def authorize(self, room: str) -> bool:
            return True

        @event
        async def on_ask(self) -> dict[str, Any]:
            await type(self).hub.everyone.send({"type": "first"})
            return {"type": "second"}

    async def main() -> None:
        async with serving(Chat) as client, serving(Other) as other:
            lonely, other_one = await client(), await other()
            (busy,) = await people(client, "u1", room="a")
            left_out = (await busy.call("enter", room="b"))["id"]
            await lonely.call("where")
            await other_one.send("ask")
            assert await other_one.receives(2) == [{"type": "first"}, {"type": "second"}]
            for each in (lonely, busy):
                assert await each.receive() == {"type": "first"}
            await by(where, lambda hub: hub.everyone.send({"type": "maintenance", "n": 1}))
            await by(where, lambda hub: hub.everyone.except_(left_out).send({"type": "maintenance", "n": 2}))
            await by(where, lambda hub: hub.everyone.send_many([{"type": "maintenance", "n": n} for n in (3, 4)]))
            for each, wanted in ((lonely, [1, 2, 3, 4]), (other_one, [1, 2, 3, 4]), (busy, [1, 3, 4])):
                assert [(await each.receive())["n"] for _ in wanted] == wanted
            assert await rooms_of(busy) == ["a", "b"]
            assert await by(where, lambda hub: hub.everyone.join("all")) == 3
            assert await by(where, lambda hub: hub.everyone.leave("all")) == 3
            assert await by(where, lambda hub: hub.everyone.close(1001)) == 3
            assert [await each.closed() for each in (lonely, other_one, busy)] == [1001] * 3
            await until(lambda: not rooms_for(Chat.hub.url).acting.connections, "nobody is left")

    run(main)


@pytest.mark.usefixtures("both_protocols", "backplane")
def test_who_uses_no_rooms_is_one_of_everyone_once_it_does() -> None:
    """An endpoint that declares nothing of rooms: nobody pays for what it does not use."""

    class Plain(Endpoint):
        @event
        async def on_enter(self, room: str) -> None:
            await self.join(room)

        @event
        async def on_ask(self) -> dict[str, Any]:
            return {"type": "answer"}

    async def main() -> None:
        async with serving(Plain) as client:
            silent, busy = await client(), await client()
            await Plain.hub.everyone.send({"type": "too early"})
            await busy.send("enter", room="a")
            await until(lambda: rooms_for(Plain.hub.url).topics, "it is in")
            await Plain.hub.everyone.send({"type": "n"})
            assert await busy.receive() == {"type": "n"}
            assert len(await silent.call_all("ask")) == 1

    run(main)


@pytest.mark.usefixtures("both_protocols", "backplane")
def test_who_is_not_accepted_yet_is_nobody() -> None:
    """It is neither sent to nor closed: its `on_connect` is still to decide."""
    asked, decide = asyncio.Event(), asyncio.Event()

    class Careful(Chat):
        async def on_connect(self) -> None:
            asked.set()
            await decide.wait()
            await super().on_connect()

    async def main() -> None:
        async with serving(Careful) as client:
            connecting = asyncio.create_task(client())
            await asked.wait()
            assert await Careful.hub.everyone.close(4000) == 0
            await Careful.hub.everyone.send({"type": "m"})
            decide.set()
            assert (await (await connecting).call("where"))["rooms"] == []

    run(main)


# ---- members


@pytest.mark.usefixtures("everywhere")
@here_and_elsewhere
def test_members_are_all_who_are_in_the_room(where: str) -> None:
    """By connection, with what each is tracked with, None for who is not; also where a key makes two of them one."""

    async def main() -> None:
        async with serving(Chat) as client:
            clients = [await client() for _ in range(4)]
            ids = [(await each.call("enter", room="r"))["id"] for each in clients]
            await clients[0].call("show", room="r", meta={"name": "ada"})
            for each, device in zip(clients[1:3], ("phone", "laptop"), strict=True):
                await each.call("show", room="r", meta=device, key="bob")
            wanted = [
                Member(ids[0], {"name": "ada"}),
                Member(ids[1], "phone"),
                Member(ids[2], "laptop"),
                Member(ids[3], None),
            ]
            by_id = {each.id: each for each in await by(where, lambda hub: hub.members("r"))}
            assert by_id == {each.id: each for each in wanted}
            assert await by(where, lambda hub: hub.members("nowhere")) == []
            await by(where, lambda hub: hub.to("r").except_(ids[0]).leave())
            assert await by(where, lambda hub: hub.members("r")) == wanted[:1]

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_long_list_of_members_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No payload is too large for an engine, however many there are and whatever they are tracked with."""
    monkeypatch.setattr(acting, "PART_BYTES", 100)

    async def main() -> None:
        async with serving(Chat) as client:
            clients = [await client() for _ in range(12)]
            ids = {(await each.call("enter", room="r"))["id"] for each in clients}
            await clients[0].call("show", room="r", meta="x" * 500)
            found = await by("elsewhere", lambda hub: hub.members("r"))
            assert ({each.id for each in found}, len(found)) == (ids, 12)
            assert [each.meta for each in found if each.meta] == ["x" * 500]

    run(main)


@pytest.mark.usefixtures("backplane")
def test_a_thread_hub_refuses_to_stop_the_event_loop_that_it_asks() -> None:
    """Where one is running, its members could not answer; the error says what to do instead."""

    async def main() -> None:
        with SyncHub() as hub:
            for act in (hub.everyone.close, hub.to("r").leave, lambda: hub.to("r").join("s"), lambda: hub.members("r")):
                with pytest.raises(RuntimeError, match="await the same of a Hub"):
                    act()

    run(main)


# ---- when others do not answer


@pytest.mark.parametrize("on_unavailable", ["raise", "count"])
def test_without_its_engine_an_act_is_done_in_its_own_process(
    between_processes: str, on_unavailable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is then refused, or counted; a list of members is always refused, since it would not be one."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", between_processes)

    async def main() -> None:
        async with serving(Chat) as client, Hub(on_unavailable=on_unavailable, history=Chat.history) as hub:
            ada, bob = await people(client, "u1", "u2", room="r")
            async with cut_off(rooms_for(between_processes)):
                with pytest.raises(BackplaneUnavailable):
                    await hub.members("r")
                refused = hub.status.refused
                if on_unavailable == "raise":
                    for act in (hub.to_user("u1").close(4001), hub.to("r").join("s"), hub.to("r").leave()):
                        with pytest.raises(BackplaneUnavailable):
                            await act
                else:
                    assert await hub.to_user("u1").close(4001) == 1
                    assert await hub.to_user("u2").join("s") == 1
                    assert await hub.to_user("u2").leave("r") == 1
                assert hub.status.refused == refused + 3
                assert await ada.closed() == 4001
                assert await rooms_of(bob) == ["s"]

    run(main)


def test_an_engine_that_goes_away_ends_the_wait(between_processes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer comes any more: that is said at once, not after the time for answers."""
    monkeypatch.setattr(acting, "ANSWER_S", 600.0)

    async def main() -> None:
        async with opened(between_processes) as (stranger, _), Hub(between_processes) as hub:
            await stranger.hold(PROCESSES, "silent", b"1")
            asking = asyncio.create_task(hub.to("r").leave())
            rooms = rooms_for(between_processes)
            await until(lambda: rooms.acting._questions, "it is asked")
            async with cut_off(rooms):
                with pytest.raises(BackplaneUnavailable, match="away"):
                    await asking

    run(main)


def test_a_process_that_does_not_answer_is_waited_for_once(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    One that was killed may be registered for a while: it is not counted, which is logged, until it answers again
    (socket.io-cluster-adapter 11).
    """
    monkeypatch.setattr(acting, "ANSWER_S", 0.05)

    async def main() -> None:
        async with opened(url, EVERYONE) as (stranger, asked), Hub(url) as hub:
            await stranger.hold(PROCESSES, stranger.owner, b"1")
            assert await hub.to("r").leave() == 0
            monkeypatch.setattr(acting, "ANSWER_S", 600.0)
            assert await hub.to("r").leave() == 0
            assert caplog.text.count("have not answered") == 1
            await until(lambda: len(asked.deliveries) == 2, "it was asked")
            answer = Header("answer", stranger.owner, serial=1)  # too late
            mine = rooms_for(url)
            stranger.publish((answers_topic(mine.origin),), seal(answer, msgspec.msgpack.encode(Answer(7))))
            await until(lambda: not mine.acting._silent, "it is heard")
            asking = asyncio.create_task(hub.to("r").leave())
            await until(lambda: len(asked.deliveries) == 3, "it is asked again")
            answer.serial = 3
            stranger.publish((answers_topic(mine.origin),), seal(answer, msgspec.msgpack.encode(Answer(5))))
            assert await asking == 5

    with caplog.at_level(logging.WARNING, "socketsundso.rooms"):
        run(main)


def test_who_has_no_connections_is_asked_nothing(url: str) -> None:
    """
    Hubs of scripts, and processes of an older release, are not waited for; who ends takes its registration along
    (socket.io-redis-streams-adapter 6, redis-adapter 506).
    """

    async def main() -> None:
        async with opened(url) as (watching, _), Hub(url):
            script = Rooms(url)
            await script.open()
            assert await watching.held(PROCESSES) == {}
            await script.aclose()
            serving_process = Rooms(url)

            class Somebody:
                id = "x"

                def participant_now(self) -> None:
                    return None

            somebody: Any = Somebody()
            serving_process.attend(somebody)
            await serving_process.attended()
            assert await watching.held(PROCESSES) == {serving_process.origin: b"1"}
            serving_process.acting.depart(somebody)
            await serving_process.release(None)
            assert await watching.held(PROCESSES) == {}

    run(main)


def test_where_nobody_knows_who_there_is_answers_are_waited_for_a_moment(
    nats_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NATS without JetStream holds nothing: acts reach everybody all the same."""
    url = f"{nats_engine.url}?prefix=blind"
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", url)
    monkeypatch.setattr(acting, "BLIND_S", 5.0)

    class Plain(Endpoint):
        @event
        async def on_iam(self) -> dict[str, Any]:
            await self.identify("u1")
            return {}

    async def main() -> None:
        async with serving(Plain) as client:
            ada = await client()
            await ada.call("iam")

            def in_a_thread() -> int:
                with SyncHub(url) as hub:
                    held = hub._hub._rooms.backplane  # type: ignore[union-attr]  # it is open

                    async def unknown(topic: str) -> dict[str, bytes]:
                        raise BackplaneUnavailable("no JetStream")

                    held.held = unknown  # type: ignore[method-assign]
                    return hub.to_user("u1").close(4001)

            assert await asyncio.to_thread(in_a_thread) == 1
            assert await ada.closed() == 4001

    run(main)


# ---- what others publish


GARBAGE = [
    b"",
    b"hello",
    b"\x00\x00\x00\x01\xc1",
    seal(Header("later", "x"), b""),
    seal(Header("ask", "x", serial=1), b"\xc1"),
    seal(Header("ask", "x", serial=2), msgspec.msgpack.encode({"type": "explode"})),
    seal(Header("ask", "x", serial=3), msgspec.msgpack.encode({"type": "close", "code": "now"})),
    seal(Header("ask", "x", topics=("rr",), serial=4), msgspec.msgpack.encode(Leave(["*"]))),
    seal(Header("answer", "x", serial=5), b"\xc1"),
]


def test_what_cannot_be_read_is_ignored_and_told_once(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is published on our topics, by a later release or by somebody else; and it is answered, if it asks."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", url)

    async def main() -> None:
        async with serving(Chat) as client, opened(url, answers_topic("x")) as (stranger, answers):
            (ada,) = await people(client, "u1", room="r")
            mine = rooms_for(url)
            await Chat.hub.to("nobody").leave()  # we listen for answers
            for payload in GARBAGE:
                for topic in (EVERYONE, answers_topic(mine.origin), room_topic("r")):
                    stranger.publish((topic,), payload)
            await answered(answers)
            later = msgspec.msgpack.encode({"type": "leave", "rooms": ["r"], "at": "a later release adds this"})
            stranger.publish((EVERYONE,), seal(Header("ask", "x", topics=("rr",), serial=9), later))
            await until(lambda: answers.payloads and numbers(answers)[-1] == (9, 1), "what can be read is done")
            assert await rooms_of(ada) == []

    with caplog.at_level(logging.WARNING):
        run(main)
    assert caplog.text.count("cannot be read") == 1
    assert "Traceback" not in caplog.text


def numbers(answers: Listener) -> list[tuple[int, int]]:
    """(question, count) of each answer."""
    found = []
    for payload in answers.payloads:
        end = 4 + int.from_bytes(payload[:4])
        header = msgspec.msgpack.decode(payload[4:end], type=Header)
        found.append((header.serial, msgspec.msgpack.decode(payload[end:], type=Answer).count))
    return found


async def answered(answers: Listener) -> None:
    """A process that is asked what it does not understand has done nothing, and says so."""
    await until(lambda: {serial for serial, _ in numbers(answers)} >= {1, 2, 3, 4}, "all questions are answered")
    assert {count for _, count in numbers(answers)} == {0}
