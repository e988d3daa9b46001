"""What a client may send to make rooms grow, stall or tell nonsense: each is answered, and bounded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from socketsundso import Endpoint, Keep, Member, event
from socketsundso.rooms.local import rooms_for
from socketsundso.rooms.membership import MAX_META_BYTES

from ..backplanes.listener import until
from .peer import Peer
from .serving import run, serving


class Open(Endpoint):
    """Does whatever a client says."""

    history = {"doc:*": Keep(messages=5)}
    presence_events = True
    presence_interval_s = 0
    asked: list[str] = []

    def authorize(self, room: str) -> bool:  # type: ignore[override]  # may be sync
        self.asked.append(room)
        return True

    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {"rooms": len(self.rooms)}

    @event
    async def on_exit(self, room: str) -> dict[str, Any]:
        await self.leave(room)
        return {"rooms": len(self.rooms)}

    @event
    async def on_iam(self, user: str) -> dict[str, Any]:
        await self.identify(user)
        return {}

    @event
    async def on_show(self, meta: Any) -> dict[str, Any]:
        await self.track(meta, room="r")
        return {}

    @event
    async def on_show_nan(self) -> dict[str, Any]:
        await self.track({"x": float("nan"), "y": 1 << 70}, room="r")
        return {}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.usefixtures("backplane", "both_protocols")
@pytest.mark.parametrize(
    "meta",
    ["x" * MAX_META_BYTES, {"x" * 10_000: "y" * 10_000}, nested(300)],
    ids=["long", "long key", "deep"],
)
def test_a_meta_that_presence_does_not_take(meta: Any) -> None:
    """Answered with `validation_error`; nobody is told, and what was tracked before stays."""

    async def main() -> None:
        async with serving(Open) as client:
            ada, bob = await client(), await client()
            assert (await _enter(ada))["members"] == {}
            await ada.call("show", meta={"name": "ada"})
            members = (await _enter(bob))["members"]
            answer = await ada.call("show", meta=meta)
            assert (answer["code"], len(json.dumps(answer)) < 2000) == ("validation_error", True)
            assert [each.meta for each in await Open.hub.presence.list("r")] == [{"name": "ada"}]
            await ada.call("show", meta=None)
            told = await bob.receive()
            assert told["joins"] == dict.fromkeys(members)

    run(main)


async def _enter(client: Any) -> dict[str, Any]:
    """Join; gives the `presence_state`."""
    await client.send("enter", room="r", ref=1)
    state, _ = await client.receives(2)
    return state  # type: ignore[no-any-return]  # a JSON object


@pytest.mark.usefixtures("everywhere")
def test_a_meta_goes_out_as_replies_do() -> None:
    """NaN as null, so that the members' JSON stays JSON; numbers of any length; what fits exactly."""

    async def main() -> None:
        async with serving(Open) as client:
            ada, bob = await client(), await client()
            await _enter(ada)
            await ada.call("show_nan")
            (member,) = (await _enter(bob))["members"].values()
            assert member == {"x": None, "y": 1 << 70}
            ((_, meta),) = [(each.id, each.meta) for each in await Open.hub.presence.list("r")]
            assert meta["x"] is None
            await ada.call("show", meta="x" * (MAX_META_BYTES - 2))
            assert [len(each.meta) for each in await Open.hub.presence.list("r")] == [MAX_META_BYTES - 2]

    run(main)


@pytest.mark.usefixtures("both_protocols")
def test_a_connection_is_in_so_many_rooms_and_no_more(backplane: str) -> None:
    """`max_rooms`, 1,000 unless the class says otherwise: one more is `forbidden`, until one is left."""

    async def main() -> None:
        async with serving(Open) as client:
            ada = await client()
            for n in range(999):
                await ada.send("enter", room=f"r{n}")
            await ada.call("iam", user="ada")
            everyone = rooms_for(backplane)
            assert len(everyone.topics) == 1000
            for event_, fields in (("enter", {"room": "more"}), ("iam", {"user": "more"})):
                assert (await ada.call(event_, **fields))["code"] == "forbidden"
            assert (await ada.call("enter", room="r5"))["rooms"] == 999
            await ada.call("exit", room="r5")
            assert (await ada.call("enter", room="more"))["rooms"] == 999
            ada.connection.transport.abort()
            await until(lambda: not everyone.topics, "nothing is left")

    run(main)


@pytest.mark.usefixtures("both_protocols")
def test_a_resume_of_a_hundred_thousand_rooms_asks_nobody(backplane: str) -> None:
    """It is refused as a whole before anybody is asked for permission, and joins none of them."""
    Open.asked.clear()

    async def main() -> None:
        async with serving(Open) as client:
            ada = await client(max_size=None)
            rooms = {f"doc:{n}": {"seq": 0, "epoch": "a"} for n in range(100_000)}
            answer = await ada.call("resume", rooms=rooms)
            assert (answer["code"], len(json.dumps(answer)) < 2000) == ("forbidden", True)
            assert (Open.asked, rooms_for(backplane).topics) == ([], {})
            some = {f"doc:{n}": {"seq": 0, "epoch": "a"} for n in range(1000)}
            assert len((await ada.call("resume", rooms=some))["rooms"]) == 1000
            assert (await ada.call("resume", rooms=some))["type"] == "resumed"
            assert len(rooms_for(backplane).topics) == 1000

    run(main)


@pytest.mark.usefixtures("backplane", "both_protocols")
@pytest.mark.parametrize(
    "rooms",
    [
        None, 7, "doc:1", [], ["doc:1"], {"doc:1": None}, {"doc:1": []}, {"doc:1": {}}, {"doc:1": {"seq": 1}},
        {"doc:1": {"seq": "x", "epoch": "a"}}, {"doc:1": {"seq": 1.5, "epoch": "a"}},
        {"doc:1": {"seq": 1, "epoch": 5}}, {"doc:1": {"seq": 1, "epoch": None}}, {"doc:1": {"seq": nested(50)}},
    ],
)  # fmt: skip
def test_a_resume_of_the_wrong_shape(rooms: Any) -> None:
    """Answered with `validation_error`; no room is joined, and the connection lives."""

    async def main() -> None:
        async with serving(Open) as client:
            ada = await client()
            answer = await ada.call("resume", rooms=rooms)
            assert (answer["type"], answer["code"]) == ("error", "validation_error")
            assert (await ada.call("exit", room="r"))["rooms"] == 0

    run(main)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("seq", [-1, 1 << 53, 1 << 62, 10**30])
def test_a_position_that_no_log_can_have_given(seq: int) -> None:
    """Recovers nothing, on every engine, whatever the number is."""

    async def main() -> None:
        async with serving(Open) as client:
            ada = await client()
            answer = await ada.call("resume", rooms={"doc:1": {"seq": seq, "epoch": "a" * 100_000}})
            if answer["type"] == "error":  # no 64-bit integer
                assert (seq, answer["code"]) == (10**30, "validation_error")
            else:
                assert answer["rooms"]["doc:1"]["recovered"] is False

    run(main)


def test_a_storm_of_joins_and_leaves_leaves_nothing(everywhere: str) -> None:
    """However fast a client comes and goes; others are served meanwhile, and what is left is nothing."""

    async def main() -> None:
        async with serving(Open) as client:
            stormy, other = await client(), await client()

            async def storm() -> None:
                for n in range(1000):
                    await stormy.send("enter", room=f"r{n % 7}")
                    await stormy.send("exit", room=f"r{n % 7}")
                assert (await stormy.call("enter", room="r"))["rooms"] == 1

            storming = asyncio.create_task(storm())
            for _ in range(50):
                assert (await other.call("exit", room="r"))["rooms"] == 0
            await storming
            everyone = rooms_for(everywhere)
            assert set(everyone.topics) == {"rr"}
            backplane: Any = everyone.backplane
            await until(lambda: len(backplane._topics) == 2, "the backplane knows of it, and of everyone's")
            await other.call("enter", room="r")
            await other.call("show", meta="still here")
            assert [each.meta for each in await Open.hub.presence.list("r")] == ["still here"]

    run(main)


@pytest.mark.usefixtures("backplane")
def test_the_presence_of_a_big_room() -> None:
    """A thousand members: one `presence_state`, whole, to who enters; the list has them all."""

    async def main() -> None:
        async with serving(Open) as client:
            everyone = rooms_for(Open._declaration.url)
            peers = [Peer() for _ in range(1000)]
            for n, peer in enumerate(peers):
                await everyone.join(peer.who, "rr")
                await everyone.roster.track(peer.who, peer.who.rooms["rr"], b'{"n":%d,"pad":"%s"}' % (n, b"x" * 1000))
            late = await client(max_size=None)
            assert len((await _enter(late))["members"]) == 1000
            listed = await Open.hub.presence.list("r")
            assert sorted(each.meta["n"] for each in listed) == list(range(1000))
            assert isinstance(listed[0], Member)
            await late.connection.close()
            for peer in peers:
                everyone.leave_all(peer.who)

    run(main)
