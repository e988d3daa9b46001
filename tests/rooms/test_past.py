"""The last messages of a room for who comes first, and for anybody who asks a hub."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from socketsundso import Endpoint, Hub, Keep, SyncHub, event
from socketsundso.backplanes import Log
from socketsundso.rooms.history import newest
from socketsundso.rooms.local import rooms_for

from ..backplanes.listener import until
from .peer import Peer
from .serving import Client, run, serving


class Doc(Endpoint):
    history = {"doc:*": Keep(messages=20), "*:long": Keep(messages=500)}
    presence_events = True

    @event
    async def on_enter(self, room: str, last: Any = None) -> dict[str, Any]:
        await self.join(room, last=last)
        return {"rooms": sorted(self.rooms)}

    @event
    async def on_enter_both(self, rooms: list[str], last: int) -> None:
        await self.join(*rooms, last=last)

    @event
    async def on_exit(self, room: str) -> dict[str, Any]:
        await self.leave(room)
        return {"rooms": sorted(self.rooms)}

    @event
    async def on_edit(self, room: str, n: int, but_me: bool = False) -> dict[str, Any]:
        await self.broadcast({"type": "edit", "n": n}, room=room, exclude_self=but_me)
        return {"type": "edited"}

    @event
    async def on_past(self, room: str, limit: Any = 50) -> dict[str, Any]:
        return {"past": await type(self).hub.history(room, limit)}


async def written(client: Client, room: str, first: int, last: int) -> None:
    for n in range(first, last + 1):
        await client.call("edit", room=room, n=n)


def edit(n: int, room: str = "doc:1") -> dict[str, Any]:
    return {"type": "edit", "n": n, "room": room, "seq": n}


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("last", [0, 1, 3, 20, 50, 10_000])
def test_who_comes_first_gets_the_last_messages_behind_its_position(last: int) -> None:
    """The newest of what is kept, in order and numbered on from the position; then who is there, then live messages."""
    kept = min(last, 20)

    async def main() -> None:
        async with serving(Doc) as client:
            writer, reader = await client(), await client()
            await written(writer, "doc:1", 1, 25)
            await reader.send("enter", room="doc:1", last=last)
            position, *past = await reader.receives(1 + kept)
            assert (position["type"], position["room"], position["seq"]) == ("room_position", "doc:1", 25 - kept)
            assert past == [edit(n) for n in range(26 - kept, 26)]
            state, answer = await reader.receives(2)
            assert (state["type"], answer["rooms"]) == ("presence_state", ["doc:1"])
            await writer.call("edit", room="doc:1", n=26)
            assert await reader.receive() == edit(26)
            back = await client()
            await back.send("resume", rooms={"doc:1": {"seq": position["seq"], "epoch": position["epoch"]}})
            whole = kept < 20  # one more message has come since
            told, *missed = await back.receives(2 + kept if whole else 1)
            assert told["rooms"]["doc:1"]["recovered"] is whole
            assert missed == ([edit(n) for n in range(26 - kept, 27)] if whole else [])

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_room_without_a_message_has_no_last_ones() -> None:
    """The position is the beginning, and what comes is live."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            await ada.send("enter", room="doc:1", last=50)
            position, _, _ = await ada.receives(3)
            assert position["seq"] == 0
            await ada.send("edit", room="doc:1", n=1)
            assert await ada.receive() == edit(1)

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_nothing_is_missing_or_double_while_others_write() -> None:
    """A writer never stops; whoever comes gets consecutive numbers, from the past to live ones."""

    async def main() -> None:
        async with serving(Doc) as client:
            writer, stop = await client(), asyncio.Event()
            await written(writer, "r:long", 1, 30)

            async def write() -> None:
                n = 30
                while not stop.is_set() and n < 400:
                    n += 1
                    await writer.call("edit", room="r:long", n=n)

            writing = asyncio.create_task(write())
            for _ in range(6):
                reader = await client()
                await reader.send("enter", room="r:long", last=10)
                position, *rest = await reader.receives(20)
                seqs = [each["seq"] for each in rest if each["type"] == "edit"]
                assert seqs == list(range(position["seq"] + 1, position["seq"] + 1 + len(seqs)))
                assert len(seqs) >= 10
                await reader.connection.close()
            stop.set()
            await writing

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_who_is_in_the_room_already_is_told_nothing_twice() -> None:
    """Also after `resume`: what was missed has come with it. After leaving, the past comes again."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            await ada.send("enter", room="doc:1", last=50)
            position, _, _ = await ada.receives(3)
            await written(ada, "doc:1", 1, 2)
            back = await client()
            await back.send("resume", rooms={"doc:1": {"seq": 1, "epoch": position["epoch"]}})
            await back.send("enter", room="doc:1", last=50)
            told, missed, state, answer = await back.receives(4)
            assert (told["rooms"]["doc:1"]["recovered"], missed) == (True, edit(2))
            assert (state["type"], answer["rooms"]) == ("presence_state", ["doc:1"])
            await back.call("exit", room="doc:1")
            await back.send("enter", room="doc:1", last=1)
            assert [each.get("seq") for each in await back.receives(2)] == [1, 2]

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_room_that_others_keep_has_a_past_before_its_first_message() -> None:
    """Whoever asks, also who declares nothing or other rooms; a room that nobody keeps has none."""

    async def main() -> None:
        async with serving(Doc) as client:
            await client()  # and Doc is declared

            def ask(history: dict[str, Keep]) -> None:
                with SyncHub(history=history) as hub:
                    assert hub.history("doc:unused") == []
                    with pytest.raises(ValueError, match="keeps no history"):
                        hub.history("unkept")

            for history in ({}, {"note:*": Keep()}):
                await asyncio.to_thread(ask, history)

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_who_leaves_while_the_past_is_replayed_gets_no_more_of_it() -> None:
    """What comes back into the room meanwhile gets a replay of its own: no number comes twice."""

    async def main() -> None:
        async with serving(Doc) as client:
            writer = await client()
            await writer.call("enter", room="r:long")
            await written(writer, "r:long", 1, 20)
            rooms, peer, got = rooms_for(Doc.hub.url), Peer(), list[int]()
            first, go_on = asyncio.Event(), asyncio.Event()

            async def send_slowly(payload: bytes) -> None:
                got.append(msgspec.json.decode(payload)["seq"])
                if len(got) == 5:
                    first.set()
                    await go_on.wait()

            joining = asyncio.create_task(rooms.join_all(peer.who, ["rr:long"], 10, send_slowly))
            await first.wait()
            rooms.leave(peer.who, "rr:long")
            again = asyncio.create_task(rooms.join_all(peer.who, ["rr:long"], 10, peer.take))
            await asyncio.sleep(0)
            go_on.set()
            await joining
            await again
            await written(writer, "r:long", 21, 21)
            await until(lambda: peer.got[-1].get("seq") == 21, "live")
            assert got == [10, 11, 12, 13, 14]
            assert [each["seq"] for each in peer.got if "seq" in each] == list(range(10, 22))
            rooms.leave_all(peer.who)

    run(main)


class Large(Doc):
    history = {"doc:*": Keep(messages=90)}
    max_outbound_bytes = 50_000

    @event
    async def on_write(self, first: int, last: int) -> dict[str, Any]:
        for n in range(first, last + 1):
            await self.broadcast({"type": "edit", "n": n, "pad": "x" * 60_000}, room=["doc:1", "doc:2"])
        return {"type": "written"}


@pytest.mark.usefixtures("everywhere")
def test_a_long_past_waits_for_its_reader() -> None:
    """More than may wait for a client, of two rooms more than is read ahead: none is dropped, nobody is closed."""

    async def main() -> None:
        async with serving(Large) as client:
            writer, reader = await client(), await client(max_queue=1)
            await writer.call("write", first=1, last=90)
            await reader.send("enter_both", rooms=["doc:1", "doc:2"], last=80)
            seen: dict[str, list[int]] = {"doc:1": [], "doc:2": []}
            writing = asyncio.create_task(writer.call("write", first=91, last=92))
            while not seen["doc:1"][-1:] == seen["doc:2"][-1:] == [92]:
                told = await reader.receive()
                if told["type"] in ("edit", "room_position"):
                    seen[told["room"]].append(told["seq"])
            for seqs in seen.values():
                assert seqs == list(range(seqs[0], 93))
                assert len(seqs) >= 1 + 80
            await writing

    run(main)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("count", [-1, 10_001, 1 << 70, True, False, 1.0, "5", [], {}, ""])
def test_a_count_that_is_none_is_answered(count: Any) -> None:
    """It may come from a client: `validation_error`, nobody is joined, and the connection lives."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            for answer, name in (
                (await ada.call("enter", room="doc:1", last=count), "last"),
                (await ada.call("past", room="doc:1", limit=count), "limit"),
            ):
                assert (answer["type"], answer["code"]) == ("error", "validation_error")
                assert answer["errors"][0]["loc"] == [name]
            assert (await ada.call("exit", room="doc:2"))["rooms"] == []

    run(main)


def test_a_room_without_history_has_no_past(everywhere: str) -> None:
    """Whoever asks for it is told how to declare one, and nobody is joined, not even in the others."""

    class Plain(Doc):
        @event
        async def on_try(self, rooms: list[str]) -> dict[str, Any]:
            with pytest.raises(ValueError, match="'lobby' keeps no history.*declare it.*'lobby': Keep"):
                await self.join(rooms, last=5)
            with pytest.raises(ValueError, match="'lobby' keeps no history.*declare it"):
                await type(self).hub.history("lobby")
            return {"rooms": sorted(self.rooms)}

    async def main() -> None:
        async with serving(Plain) as client:
            ada = await client()
            assert (await ada.call("try", rooms=["lobby"]))["rooms"] == []
            assert (await ada.call("try", rooms=["doc:1", "lobby"]))["rooms"] == []
            await ada.call("enter", room="lobby")
            assert (await ada.call("try", rooms=["doc:1", "lobby"]))["rooms"] == ["lobby"]
            assert list(rooms_for(everywhere).topics) == ["rlobby"]

    run(main)


def test_a_hub_tells_what_was_said(everywhere: str) -> None:
    """As clients got it, in order, the newest; also to a hub that declares nothing, and without `await`."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            assert (await ada.call("past", room="doc:1"))["past"] == []
            await written(ada, "doc:1", 1, 24)
            assert (await ada.call("past", room="doc:1"))["past"] == [edit(n) for n in range(5, 25)]
            async with Hub(everywhere) as hub:
                assert await hub.history("doc:1", limit=2) == [edit(23), edit(24)]
                assert await hub.history("doc:1", 0) == []
                with pytest.raises(ValueError, match="room's name"):
                    await hub.history("doc:*")

            def in_a_thread() -> list[dict[str, Any]]:
                with SyncHub(everywhere) as sync:
                    with pytest.raises(ValueError, match="`limit` is a whole number"):
                        sync.history("doc:1", limit=-5)
                    return sync.history("doc:1", limit=1)

            assert await asyncio.to_thread(in_a_thread) == [edit(24)]

    run(main)


def test_asking_for_the_past_changes_nothing(everywhere: str) -> None:
    """A hub that declares less trims no room by asking, and a room that nobody has used has no log afterwards."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            await written(ada, "doc:1", 1, 9)
            everyone = rooms_for(everywhere)
            for n in range(3):
                assert (await ada.call("past", room=f"doc:new{n}"))["past"] == []
                assert await everyone.backplane.logged(f"rdoc:new{n}") is None
            assert len(await Doc.hub.history("doc:1")) == 9

    run(main)


def test_what_was_said_is_as_it_went_out(everywhere: str) -> None:
    """Whom a broadcast left out makes no difference afterwards; texts of any kind come back as they are."""

    async def main() -> None:
        text = 'q"ä\u2028😀'
        async with Hub(everywhere, history={f"doc:{text[:2]}": Keep()}) as hub:
            room = 'doc:q"'
            await hub.to(room).except_("somebody").send({"type": "note", "text": text, "n": 1 << 60})
            assert await hub.history(room) == [{"type": "note", "text": text, "n": 1 << 60, "room": room, "seq": 1}]

    run(main)


@pytest.mark.parametrize(
    ("numbers", "count", "wanted"),
    [
        ([1, 2, 3], 2, [2, 3]),
        ([1, 2, 3], 9, [1, 2, 3]),
        ([1, 2, 3], 0, []),
        ([1, 3], 9, [3]),
        ([1, 2], 9, []),
        ([], 9, []),
    ],
)
def test_the_newest_end_where_the_log_ends(numbers: list[int], count: int, wanted: list[int]) -> None:
    """Without a hole: behind one that is missing, the older ones do not count."""
    log = newest(Log("e", 3, [(n, b"") for n in numbers]), count)
    assert (log.seq, [seq for seq, _ in log.entries]) == (3, wanted)
