"""Peers that do not read: what becomes of them, and of everybody else. Over TCP, with tiny buffers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from socketsundso import Conflate, Endpoint, Keep, event
from socketsundso.connection.outbound import PATIENCE, TURNS, Connection, OutboundQueue, Outgoing, take_turns
from socketsundso.rooms.local import rooms_for

from ..backplanes.listener import until
from .serving import Client, run, serving

pytestmark = pytest.mark.usefixtures("backplane", "both_protocols")

PAD = "x" * 4000


class Feed(Endpoint):
    max_outbound_bytes = 100_000
    closed: list[int]

    @event
    async def on_enter(self) -> dict[str, Any]:
        await self.join("r")
        return {"type": "entered"}

    @event
    async def on_flood(self, count: int, keys: int = 1, start: int = 0, ttl_s: float | None = None) -> dict[str, Any]:
        for n in range(start, start + count):
            tick = {"type": "tick", "n": n, "key": n % keys, "pad": PAD}
            await self.broadcast(tick, room="r", exclude_self=True, ttl_s=ttl_s)
        return {"type": "flooded"}

    async def on_disconnect(self, close_code: int) -> None:
        self.closed.append(close_code)


def endpoint(base: type[Feed] = Feed, **attributes: Any) -> type[Feed]:
    return type(base.__name__, (base,), {"closed": [], **attributes})


async def deaf(client: Callable[..., Awaitable[Client]]) -> Client:
    """A client that has joined and reads no more."""
    reader = await client(max_queue=1)
    await reader.call("enter")
    reader.stop_reading()
    return reader


class Lobby(Feed):
    """With presence, and with numbers in the rooms whose names begin with `doc`."""

    presence_events = True
    presence_interval_s = 0.001
    history = {"doc*": Keep(messages=10_000)}
    notify_gaps = True

    @event
    async def on_enter(self, room: str = "r") -> dict[str, Any]:
        await self.join(room)
        return {"type": "entered", "id": self.id}

    @event
    async def on_iam(self, user: str) -> dict[str, Any]:
        await self.identify(user)
        return {}

    @event
    async def on_show(self, name: str) -> dict[str, Any]:
        await self.track(name)
        return {}


def seen_in(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Who is there, as a client puts it together: a leave of somebody whom it does not know is an error."""
    members: dict[str, Any] = {}
    for told in messages:
        if told["type"] == "presence_state":
            members = dict(told["members"])
        elif told["type"] == "presence_diff":
            members |= told["joins"]
            for left in told["leaves"]:
                del members[left]
    return members


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [message["n"] for message in messages if message["type"] == "tick"]


async def read_rest(reader: Client, last: int) -> list[dict[str, Any]]:
    """Read again, up to the message with the number `last`."""
    reader.read_again()
    messages = [await reader.receive()]
    while messages[-1].get("n") != last:
        messages.append(await reader.receive())
    return messages


def test_a_slow_reader_is_closed_with_1013_and_the_others_get_everything(backplane: str) -> None:
    """By default; its `on_disconnect` gets the code, and the drops are counted."""
    feed = endpoint()

    async def main() -> None:
        async with serving(feed) as client:
            slow, fast, writer = await deaf(client), await client(), await client()
            await fast.call("enter")
            for start in range(0, 3000, 20):
                await writer.call("flood", count=20, start=start)
                assert numbers(await fast.receives(20)) == list(range(start, start + 20))
                if Feed.hub.status.dropped:  # it is being closed, and would be cut if it went on like that
                    break
            slow.read_again()
            assert await slow.closed() == 1013
            await until(lambda: feed.closed == [1013], "on_disconnect")
            assert Feed.hub.status.dropped == rooms_for(backplane).counters.dropped > 0

    run(main)


def test_drop_oldest_leaves_a_slow_reader_the_newest_and_tells_the_gap() -> None:
    """In order, within the bound, and still connected."""
    feed = endpoint(on_slow="drop_oldest", notify_gaps=True)

    async def main() -> None:
        async with serving(feed) as client:
            slow, writer = await deaf(client), await client()
            await writer.call("flood", count=3000)
            messages = await read_rest(slow, 2999)
            got = numbers(messages)
            gaps = [message for message in messages if message["type"] == "gap"]
            assert got == sorted(set(got))
            assert len(got) < 3000
            assert all(gap["room"] == "r" for gap in gaps)
            assert sum(gap["dropped"] for gap in gaps) == 3000 - len(got)
            assert got[-20:] == list(range(2980, 3000))
            await slow.call("flood", count=0)

    run(main)


def test_what_has_waited_too_long_is_not_sent(backplane: str) -> None:
    """`ttl_s` of a broadcast: only what the peer could not take in time, and it is counted; the rest is in order."""
    feed = endpoint(max_outbound_bytes=1 << 30)

    async def main() -> None:
        async with serving(feed) as client:
            slow, writer = await deaf(client), await client()
            await writer.call("flood", count=3000, ttl_s=0.001)
            await writer.call("flood", count=1, start=3000)
            got = numbers(await read_rest(slow, 3000))
            assert got == sorted(got)
            assert 0 < 3001 - len(got) == Feed.hub.status.dropped

    run(main)


def test_conflate_leaves_a_slow_reader_the_newest_of_each_key() -> None:
    """The last value of every key arrives, whatever was left out."""
    feed = endpoint(on_slow=Conflate(key=lambda m: m.key))

    async def main() -> None:
        async with serving(feed) as client:
            slow, writer = await deaf(client), await client()
            await writer.call("flood", count=3000, keys=5)
            got = numbers(await read_rest(slow, 2999))
            assert got == sorted(got)
            assert len(got) < 3000
            assert got[-5:] == [2995, 2996, 2997, 2998, 2999]

    run(main)


def test_drop_newest_leaves_a_slow_reader_the_oldest() -> None:
    """What came first arrives without a hole; then there is one."""
    feed = endpoint(on_slow="drop_newest")

    async def main() -> None:
        async with serving(feed) as client:
            slow, writer = await deaf(client), await client()
            await writer.call("flood", count=3000)
            slow.read_again()
            first = numbers(await slow.receives(20))
            assert first == list(range(20))
            await slow.call("flood", count=0)

    run(main)


def test_a_burst_to_a_reader_that_reads_is_no_slowness() -> None:
    """Far more than the bound in one go, from one handler: nobody is closed, nothing is lost."""
    feed = endpoint(max_outbound_bytes=20_000)

    async def main() -> None:
        async with serving(feed) as client:
            reader, writer = await client(), await client()
            await reader.call("enter")
            flood = asyncio.create_task(writer.call("flood", count=500))
            assert numbers(await reader.receives(500)) == list(range(500))
            await flood

    run(main)


def test_who_reads_as_fast_as_it_can_is_no_slow_reader() -> None:
    """A flood above all buffers, from one handler, to a client of the same loop: a broadcast gives it its turns."""
    feed = endpoint()

    async def main() -> None:
        async with serving(feed) as client:
            reader, writer = await client(), await client()
            await reader.call("enter")
            flood = asyncio.create_task(writer.call("flood", count=4000))
            assert numbers(await reader.receives(4000)) == list(range(4000))
            await flood

    run(main)


def test_a_broadcast_gives_turns_not_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    While somebody who is near the bound takes something, as many as are said; for somebody who takes nothing, only
    until that is known, and from then on one.
    """
    turns: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def count() -> None:
            turns[-1] += 1
            loop.call_soon(count)

        blocked = asyncio.Event()

        async def send(event: Any) -> None:
            await blocked.wait()

        queue = OutboundQueue(1000, "drop_oldest")
        peer = Connection(send, queue, lambda: None)
        for _ in range(10):
            peer.push(Outgoing(b"x" * 100))
        loop.call_soon(count)
        for _ in range(3):
            turns.append(0)
            await take_turns([peer])
        assert turns[0] in range(PATIENCE - 1, PATIENCE + 2)
        assert max(turns[1:]) <= 2

        taking = Connection(send, OutboundQueue(1000, "drop_oldest"), lambda: None)
        for _ in range(100):
            taking.push(Outgoing(b"x" * 100))
        blocked.set()
        turns.append(0)
        await take_turns([taking])
        assert 1 <= turns[-1] <= TURNS + 1
        for each in (peer, taking):
            each.close()

    run(main)


def test_a_handlers_reply_waits_for_the_peer_instead_of_being_dropped() -> None:
    """It keeps its place behind the pushes before it, whatever the policy drops of those."""

    class Replying(Feed):
        on_slow = "drop_oldest"
        closed: list[int] = []

        @event
        async def on_both(self) -> dict[str, Any]:
            for n in range(2000):
                await self.broadcast({"type": "tick", "n": n, "pad": PAD}, room="r")
            return {"type": "both"}

    async def main() -> None:
        async with serving(Replying) as client:
            slow = await deaf(client)
            await slow.send("both", ref=1)
            await until(lambda: Replying.hub.status.published == 2000, "all were broadcast")
            messages = await read_rest(slow, 1999)
            assert numbers(messages)[-1] == 1999
            assert await slow.receive() == {"type": "both", "ref": 1}

    run(main)


LOSSY: dict[str, dict[str, Any]] = {
    "drop_oldest": {"on_slow": "drop_oldest"},
    "drop_newest": {"on_slow": "drop_newest"},
    "conflate": {"on_slow": Conflate(key=lambda m: None)},
    "ttl_s": {"ttl_s": 0.001, "max_outbound_bytes": 1 << 30},
}


@pytest.mark.parametrize("policy", LOSSY)
def test_gaps_tell_exactly_what_was_dropped(policy: str) -> None:
    """With every policy that drops: what was sent was received, or told as a gap, and is counted as dropped else."""
    feed = endpoint(notify_gaps=True, **LOSSY[policy])

    async def main() -> None:
        async with serving(feed) as client:
            slow, writer = await deaf(client), await client()
            for start in range(0, 3000, 500):
                await writer.call("flood", count=500, start=start)
            slow.read_again()
            messages = await slow.call_all("flood", count=0)
            got = numbers(messages)
            told = sum(message["dropped"] for message in messages if message["type"] == "gap")
            assert 0 < 3000 - len(got) == told == feed.hub.status.dropped
            assert got == sorted(set(got))

    run(main)


def test_gaps_name_only_rooms_that_the_reader_is_in() -> None:
    """Of a broadcast to several rooms; and none for what was for the user, who is in no room by that."""
    feed = endpoint(Lobby, on_slow="drop_oldest")

    async def main() -> None:
        async with serving(feed) as client:
            slow = await client(max_queue=1)
            await slow.call("iam", user="ada")
            await slow.call("enter")
            slow.stop_reading()
            for n in range(1500):
                tick = {"type": "tick", "n": n, "pad": PAD}
                await feed.hub.to("elsewhere", "r").send(tick)
                await feed.hub.to_user("ada").send(tick)
            slow.read_again()
            messages = await slow.call_all("flood", count=0)
            gaps = [each for each in messages if each["type"] == "gap"]
            assert {each["room"] for each in gaps} == {"r", None}
            assert sum(each["dropped"] for each in gaps) == 3000 - len(numbers(messages))

    run(main)


@pytest.mark.parametrize("policy", [*LOSSY, "close"])
def test_a_slow_reader_knows_who_is_there(policy: str) -> None:
    """
    However many came, changed and went, and whatever was dropped, while it did not read; and it costs no memory: of all
    that, next to nothing waits for it.
    """
    lobby = endpoint(Lobby, **LOSSY.get(policy, {"max_outbound_bytes": 1 << 30}))

    async def main() -> None:
        async with serving(lobby) as client:
            slow = await client(max_queue=1)
            messages = await slow.call_all("enter")
            slow.stop_reading()
            members = [await client() for _ in range(5)]
            ids = [(await each.call("enter"))["id"] for each in members]
            for round_ in range(20):
                for n in range(150):  # for the slow one only
                    await lobby.hub.to("r").except_(*ids).send({"type": "tick", "n": n, "pad": PAD})
                for n, each in enumerate(members):
                    await each.call("show", name=f"{round_}-{n}")
            for each in members[:2]:
                await each.connection.close()
            room = rooms_for(lobby._declaration.url).topics["rr"]
            await until(lambda: room.view is not None and len(room.view.shown) == 3, "two have left")
            waiting = [len(who.connection.queue._states) for who in room.live]
            notices = [sum(not place.is_push for place in who.connection.queue.waiting) for who in room.live]
            assert max(waiting) == 1
            assert max(notices) < 20
            slow.read_again()
            truth = {ids[n]: f"19-{n}" for n in (2, 3, 4)}
            while seen_in(messages) != truth:
                messages.append(await slow.receive())
            await slow.call("flood", count=0)
            assert lobby.closed == [1000, 1000]

    run(main)


@pytest.mark.parametrize("policy", LOSSY)
def test_a_slow_reader_knows_where_it_is(policy: str) -> None:
    """In a room with history: what it received, was told to be missing, or was left out of has no hole."""
    lobby = endpoint(Lobby, **LOSSY[policy])

    async def main() -> None:
        async with serving(lobby) as client:
            slow = await client(max_queue=1)
            id_ = (await slow.call("enter", room="doc"))["id"]
            slow.stop_reading()
            for n in range(1, 3001):
                target = lobby.hub.to("doc")
                await (target if n % 4 else target.except_(id_)).send({"type": "tick", "n": n, "pad": PAD})
            slow.read_again()
            messages = await slow.call_all("flood", count=0)
            at = 0
            for each in messages:
                if "seq" in each:  # a position of its own, or behind a gap
                    assert at <= each["seq"] <= at + 1 or each["type"] == "room_position"
                    at = each["seq"]
                elif each["type"] == "gap":
                    at += each["dropped"]
            assert at == 3000
            assert sum(each.get("dropped", 0) for each in messages) == lobby.hub.status.dropped > 0

    run(main)
