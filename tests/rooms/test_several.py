"""Several rooms at once: joined whole or not at all, and resumed each with an answer of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketDisconnect

from socketsundso import Endpoint, EventError, Keep, event
from socketsundso.errors import BackplaneUnavailable
from socketsundso.rooms.local import rooms_for

from ..backplanes.listener import until
from .serving import Client, run, serving


class Ticker(Endpoint):
    history = {"doc:*": Keep(messages=20)}
    presence_events = True
    max_rooms = 5
    asked: list[str] = []

    async def authorize(self, room: str) -> bool:
        self.asked.append(room)
        match room.partition(":")[2]:
            case "full":
                raise EventError("full", "no seat left")
            case "paid":
                raise HTTPException(402)
            case "bug":
                raise ZeroDivisionError
        return not room.endswith("secret")

    @event
    async def on_enter(self, rooms: Any) -> dict[str, Any]:
        await self.join(rooms)
        return {"rooms": sorted(self.rooms)}

    @event
    async def on_enter_each(self, rooms: list[str]) -> dict[str, Any]:
        await self.join(*rooms)
        return {"rooms": sorted(self.rooms)}

    @event
    async def on_exit(self, rooms: Any) -> dict[str, Any]:
        await self.leave(rooms)
        return {"rooms": sorted(self.rooms)}

    @event
    async def on_iam(self, user: str) -> dict[str, Any]:
        await self.identify(user)
        return {"user": user}

    @event
    async def on_edit(self, room: list[str], n: int) -> dict[str, Any]:
        await self.broadcast({"type": "edit", "n": n}, room=room)
        return {"type": "edited"}


class Many(Ticker):
    max_rooms = 1000


async def rooms_of(client: Client) -> list[str]:
    answer = await client.call("exit", rooms=[])
    return answer["rooms"]  # type: ignore[no-any-return]  # a list of names


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("how", ["enter", "enter_each"])
def test_several_rooms_are_joined_at_once(how: str) -> None:
    """Each once, whatever was joined before; broadcasts of all reach the connection, and it leaves several at once."""

    async def main() -> None:
        async with serving(Ticker) as client:
            ada, bob = await client(), await client()
            await ada.call("enter", rooms="b")
            await ada.send(how, rooms=["a", "b", "doc:1", "a"], ref=1)
            got = await ada.receives(4)
            assert (got[0]["type"], got[0]["room"]) == ("room_position", "doc:1")
            assert {(each["type"], each["room"]) for each in got[1:3]} == {
                ("presence_state", "a"), ("presence_state", "doc:1")
            }  # fmt: skip
            assert got[3]["rooms"] == ["a", "b", "doc:1"]
            for n, room in enumerate(("a", "b", "doc:1")):
                await bob.call("edit", room=[room], n=n)
            assert [(await ada.receive())["n"] for _ in range(3)] == [0, 1, 2]
            assert (await ada.call("exit", rooms=["a", "doc:1", "elsewhere"]))["rooms"] == ["b"]
            assert (await ada.call("enter", rooms=[]))["rooms"] == ["b"]

    run(main)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    ("rooms", "code"),
    [
        (["a", "doc:1", "doc:secret"], "forbidden"),
        (["secret", "a", "b"], "forbidden"),
        (["a", "doc:1", "b:full"], "full"),
        (["a", "doc:1", "b:paid"], "payment_required"),
        (["a", "b", "c", "d", "doc:1"], "forbidden"),  # one more than `max_rooms`, with the room that it is in
        (["a", "b*"], "validation_error"),
        (["a", 7], "validation_error"),
        (["a", None], "validation_error"),
        (["a", ["b"]], "validation_error"),
        (7, "validation_error"),
        (None, "validation_error"),
        ([""], "validation_error"),
    ],
)
def test_where_one_room_is_refused_none_is_joined(everywhere: str, rooms: Any, code: str) -> None:
    """The connection stays where it was, nothing was pushed, and the rooms are as empty as before."""

    async def main() -> None:
        async with serving(Ticker) as client:
            ada = await client()
            await ada.call("enter", rooms="home")
            await ada.send("enter", rooms=rooms, ref=1)
            answer = await ada.receive()
            assert (answer["type"], answer["code"], answer["ref"]) == ("error", code, 1)
            assert await rooms_of(ada) == ["home"]
            assert list(rooms_for(everywhere).topics) == ["rhome"]

    run(main)


@pytest.mark.usefixtures("backplane")
def test_nobody_is_asked_for_more_rooms_than_a_connection_may_be_in() -> None:
    """Users that it is identified as count as well; rooms that it is in already do not count twice."""
    Ticker.asked.clear()

    async def main() -> None:
        async with serving(Ticker) as client:
            ada = await client()
            await ada.call("iam", user="ada")
            assert (await ada.call("enter", rooms=["a", "b", "c", "d", "e"]))["code"] == "forbidden"
            assert Ticker.asked == []
            await ada.call("enter", rooms=["a", "b"])
            assert (await ada.call("enter", rooms=["a", "b", "c", "d"]))["rooms"] == ["a", "b", "c", "d"]
            assert Ticker.asked == ["a", "b", "c", "d"]

    run(main)


def test_where_the_engine_fails_for_one_room_none_is_joined(everywhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those before it nor those at the same time; once the engine is back, all of them are."""

    async def main() -> None:
        async with serving(Ticker) as client:
            ada, bob = await client(), await client()
            await ada.call("enter", rooms="home")
            everyone = rooms_for(everywhere)
            read = everyone.backplane.read

            async def failing(topic: str, *args: Any) -> Any:
                if topic == "rdoc:2":
                    raise BackplaneUnavailable("away")
                return await read(topic, *args)

            monkeypatch.setattr(everyone.backplane, "read", failing)
            await ada.send("enter", rooms=["a", "doc:1", "doc:2", "doc:3"], ref=1)
            assert (await ada.receive())["code"] == "internal_error"
            assert await rooms_of(ada) == ["home"]
            assert list(everyone.topics) == ["rhome"]
            monkeypatch.undo()
            assert len((await ada.call("enter", rooms=["a", "doc:1", "doc:2", "doc:3"]))["rooms"]) == 5
            await bob.call("edit", room=["doc:2"], n=2)
            assert (await ada.receive())["n"] == 2

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_thousand_rooms_are_joined_with_one_call() -> None:
    """One more is refused before any of them is joined."""

    async def main() -> None:
        async with serving(Many) as client:
            ada, bob = await client(), await client()
            names = [f"r{n}" for n in range(1000)]
            assert (await ada.call("enter", rooms=[*names, "more"]))["code"] == "forbidden"
            assert await rooms_of(ada) == []
            assert len((await ada.call("enter", rooms=names))["rooms"]) == 1000
            await bob.call("edit", room=["r0", "r999"], n=1)
            assert (await ada.receive())["n"] == 1

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_connection_that_ends_meanwhile_is_in_none_of_them(everywhere: str) -> None:
    """Whoever goes while it joins many leaves nothing behind."""

    async def main() -> None:
        async with serving(Many) as client:
            ada = await client()
            await ada.send("enter", rooms=[f"doc:{n}" for n in range(200)])
            ada.connection.transport.abort()
            bob = await client()
            await bob.call("enter", rooms="home")
            await until(lambda: list(rooms_for(everywhere).topics) == ["rhome"], "the others are empty")

    run(main)


@pytest.mark.usefixtures("both_protocols")
def test_a_background_task_that_joins_many_ends_with_its_connection(everywhere: str) -> None:
    """The rooms whose turn comes after the end are left again, those of which nothing is ever sent too."""
    tasks: list[asyncio.Task[None]] = []

    class Slow(Many):
        @event
        async def on_begin(self) -> None:
            tasks.append(asyncio.create_task(self.join([f"r{n}" for n in range(120)])))

    async def main() -> None:
        async with serving(Slow) as client:
            everyone = rooms_for(everywhere)
            subscribe, gate = everyone.backplane.subscribe, asyncio.Event()

            async def slow(topic: str) -> None:
                await gate.wait()
                await subscribe(topic)

            ada = await client()
            await ada.call("exit", rooms=[])
            await everyone.attended()
            everyone.backplane.subscribe = slow  # type: ignore[method-assign]  # an engine that takes its time
            await ada.send("begin")
            await until(lambda: len(everyone.topics) >= 50, "the first fifty are under way")
            ada.connection.transport.abort()
            await until(lambda: not everyone.topics, "the connection has ended")
            gate.set()
            with pytest.raises(WebSocketDisconnect):
                await tasks[0]
            assert everyone.topics == {}

    run(main)


@pytest.mark.usefixtures("both_protocols")
def test_a_join_that_is_cancelled_joins_none(everywhere: str) -> None:
    """Also where all are entered, and what was said waits for the peer."""

    tasks: list[asyncio.Task[None]] = []

    class Impatient(Many):
        history = {"doc:*": Keep(messages=200)}

        @event
        async def on_fill(self) -> dict[str, Any]:
            for _ in range(150):
                await self.broadcast({"type": "edit", "pad": "x" * 100_000}, room="doc:1")
            return {"type": "filled"}

        @event
        async def on_begin(self) -> None:
            tasks.append(asyncio.create_task(self.join(["doc:1", "doc:2"], last=150)))

    async def main() -> None:
        async with serving(Impatient) as client:
            everyone = rooms_for(everywhere)
            writer, reader = await client(), await client(max_queue=1)
            await writer.call("fill")
            await reader.send("begin")
            reader.stop_reading()
            await until(lambda: len(everyone.topics) == 2, "it has begun")
            tasks[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert everyone.topics == {}
            reader.read_again()

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_resume_tells_of_each_room(everywhere: str) -> None:
    """A room that is refused says its code and nothing of itself; the others are recovered, and live."""

    async def main() -> None:
        async with serving(Ticker) as client:
            ada, back = await client(), await client()
            await ada.send("enter", rooms=["doc:1", "doc:2"], ref=1)
            epoch = (await ada.receive())["epoch"]
            for n, room in enumerate(("doc:1", "doc:2", "doc:1"), 1):
                await ada.call("edit", room=[room], n=n)
            names = ["doc:secret", "doc:1", "doc:*", "doc:full", "plain", "doc:paid", "", "x" * 201, "doc:2"]
            await back.send("resume", rooms={name: {"seq": 0, "epoch": epoch} for name in names}, ref="r")
            told, *missed = await back.receives(3)
            forbidden, invalid = ({"recovered": False, "code": code} for code in ("forbidden", "validation_error"))
            assert list(told["rooms"]) == names
            assert told == {
                "type": "resumed",
                "ref": "r",
                "rooms": {
                    "doc:secret": forbidden,
                    "doc:1": {"recovered": True, "seq": 2, "epoch": epoch},
                    "doc:*": invalid,
                    "doc:full": {"recovered": False, "code": "full"},
                    "plain": {"recovered": False, "seq": 0, "epoch": ""},
                    "doc:paid": {"recovered": False, "code": "payment_required"},
                    "": invalid,
                    "x" * 201: invalid,
                    "doc:2": told["rooms"]["doc:2"],
                },
            }
            assert [(each["room"], each["seq"]) for each in missed] == [("doc:1", 1), ("doc:1", 2)]
            await back.call("exit", rooms=[])
            assert await rooms_of(back) == ["doc:1", "doc:2", "plain"]
            await ada.call("edit", room=["doc:1"], n=4)
            assert (await back.receive())["n"] == 4
            assert set(rooms_for(everywhere).topics) == {"rdoc:1", "rdoc:2", "rplain"}

    run(main)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", ["doc:secret", "doc:*"])
def test_a_resume_of_one_room_that_is_refused(name: str) -> None:
    """It has the same answer as among others, and joins nothing."""

    async def main() -> None:
        async with serving(Ticker) as client:
            ada = await client()
            answer = await ada.call("resume", rooms={name: {"seq": 0, "epoch": "a"}})
            assert (answer["type"], answer["rooms"][name]["recovered"]) == ("resumed", False)
            assert await rooms_of(ada) == []

    run(main)


@pytest.mark.usefixtures("backplane", "both_protocols")
def test_a_resume_fills_the_places_that_are_left() -> None:
    """Rooms that it is in need none, those that are refused take none; for the rest nobody is asked."""

    async def main() -> None:
        async with serving(Ticker) as client:
            ada = await client()
            await ada.call("enter", rooms=["doc:1", "home"])
            Ticker.asked.clear()
            names = ["doc:2", "doc:secret", "doc:3", "doc:4", "doc:5", "doc:1"]
            rooms = (await ada.call("resume", rooms={name: {"seq": 0, "epoch": "a"} for name in names}))["rooms"]
            assert {name for name in names if "code" in rooms[name]} == {"doc:secret", "doc:5"}
            assert rooms["doc:5"] == {"recovered": False, "code": "forbidden"}
            assert Ticker.asked == ["doc:2", "doc:secret", "doc:3", "doc:4", "doc:1"]
            assert await rooms_of(ada) == ["doc:1", "doc:2", "doc:3", "doc:4", "home"]

    run(main)


@pytest.mark.usefixtures("backplane", "both_protocols")
def test_what_authorize_raises_by_mistake_joins_nothing() -> None:
    """It is a bug, answered as one; what was to be resumed with it may be asked for again."""

    async def main() -> None:
        async with serving(Ticker) as client:
            ada = await client()
            rooms = {name: {"seq": 0, "epoch": "a"} for name in ("doc:1", "doc:bug")}
            assert (await ada.call("resume", rooms=rooms))["code"] == "internal_error"
            assert (await ada.call("enter", rooms=list(rooms)))["code"] == "internal_error"
            assert await rooms_of(ada) == []

    run(main)


@pytest.mark.usefixtures("both_protocols")
def test_a_resume_that_the_engine_fails_joins_nothing(everywhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the room that failed nor the one before it, in which nothing would ever be heard."""

    async def main() -> None:
        async with serving(Ticker) as client:
            ada = await client()
            await ada.call("enter", rooms="home")
            everyone = rooms_for(everywhere)
            read = everyone.backplane.read

            async def failing(topic: str, *args: Any) -> Any:
                if topic == "rdoc:2":
                    raise BackplaneUnavailable("away")
                return await read(topic, *args)

            monkeypatch.setattr(everyone.backplane, "read", failing)
            rooms = {name: {"seq": 0, "epoch": "a"} for name in ("doc:1", "doc:2")}
            assert (await ada.call("resume", rooms=rooms))["code"] == "internal_error"
            assert await rooms_of(ada) == ["home"]

    run(main)


@pytest.mark.usefixtures("backplane", "both_protocols")
def test_more_rooms_than_one_resume_may_name() -> None:
    """Refused as a whole with a short answer, since each would have one of its own."""

    async def main() -> None:
        async with serving(Many) as client:
            ada = await client(max_size=None)
            Many.asked.clear()
            rooms = {f"doc:{n}": {"seq": 0, "epoch": "a"} for n in range(10_001)}
            answer = await ada.call("resume", rooms=rooms)
            assert (answer["code"], len(json.dumps(answer)) < 2000, Many.asked) == ("forbidden", True, [])
            del rooms["doc:0"]
            told = (await ada.call("resume", rooms=rooms))["rooms"]
            assert sum("code" in each for each in told.values()) == 9000
            assert len(Many.asked) == 1000

    run(main)
