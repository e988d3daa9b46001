"""Rooms that number their messages, and clients that come back for what they missed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketsundso import Endpoint, Hub, Keep, event
from socketsundso.backplanes import Delivery, Log
from socketsundso.rooms import local as rooms
from socketsundso.rooms.history import Resume, keep_for, numbered, recovered
from socketsundso.rooms.local import rooms_for

from ..backplanes.listener import until
from .serving import Client, run, serving


class Doc(Endpoint):
    history = {"doc:*": Keep(messages=5, seconds=60), "*:long": Keep(messages=500)}

    async def authorize(self, room: str) -> bool:
        return room != "doc:secret"

    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {"id": self.id}

    @event
    async def on_exit(self, room: str) -> dict[str, Any]:
        await self.leave(room)
        return {"id": self.id}

    @event
    async def on_edit(self, room: list[str], n: int, but_me: bool = False) -> dict[str, Any]:
        await self.broadcast({"type": "edit", "n": n}, room=room, exclude_self=but_me)
        return {"type": "edited"}

    @event
    async def on_other(self, room: str | list[str], named: str | None = None, seq: int | None = None) -> dict[str, Any]:
        message = {"type": "edit", **({"room": named} if named else {}), **({"seq": seq} if seq else {})}
        try:
            await self.broadcast(message, room=room)
        except ValueError as error:
            return {"type": "refused", "why": str(error)}
        return {"type": "done"}


async def position(client: Client, room: str = "doc:1") -> dict[str, Any]:
    """Join; gives the position that the room pushes first."""
    await client.send("enter", room=room, ref=1)
    pushed, answer = await client.receives(2)
    assert (pushed["type"], answer["ref"]) == ("room_position", 1)
    return {"seq": pushed["seq"], "epoch": pushed["epoch"]}


@pytest.mark.usefixtures("everywhere")
def test_messages_are_numbered_and_a_client_that_comes_back_gets_what_it_missed() -> None:
    """First `resumed`, then the missed ones in order, then live ones; nothing twice, nothing lost."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada, bob = await client(), await client()
            start = await position(ada)
            assert start["seq"] == 0
            assert await position(bob) == start
            await ada.call("edit", room=["doc:1"], n=1)
            assert await bob.receive() == {"type": "edit", "n": 1, "room": "doc:1", "seq": 1}
            await bob.connection.close()
            for n in (2, 3, 4):
                await ada.call("edit", room=["doc:1"], n=n)
            back = await client()
            await back.send("resume", rooms={"doc:1": {"seq": 1, "epoch": start["epoch"]}}, ref=7)
            told, *missed = await back.receives(4)
            assert told == {
                "type": "resumed",
                "rooms": {"doc:1": {"recovered": True, "seq": 4, "epoch": start["epoch"]}},
                "ref": 7,
            }
            assert [(each["n"], each["seq"]) for each in missed] == [(2, 2), (3, 3), (4, 4)]
            await ada.call("edit", room=["doc:1"], n=5)
            assert (await back.receive())["seq"] == 5

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_what_cannot_be_recovered_whole_is_not_recovered_at_all() -> None:
    """Too old, ahead, another epoch, unknown: `recovered: false`, the present position, nothing replayed, then live."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            epoch = (await position(ada))["epoch"]
            for n in range(1, 9):
                await ada.call("edit", room=["doc:1"], n=n)
            for wanted in (
                {"seq": 2, "epoch": epoch},  # 3 is no longer kept
                {"seq": 99, "epoch": epoch},
                {"seq": 8, "epoch": "other"},
                {"seq": -1, "epoch": epoch},
            ):
                back = await client()
                await back.send("resume", rooms={"doc:1": wanted})
                assert (await back.receive())["rooms"] == {"doc:1": {"recovered": False, "seq": 8, "epoch": epoch}}
                await back.send("edit", room=["doc:none"], n=0)
                assert (await back.receive())["type"] == "edited"
            back = await client()
            await back.send("resume", rooms={"doc:1": {"seq": 3, "epoch": epoch}, "doc:2": {"seq": 0, "epoch": "x"}})
            rooms = (await back.receive())["rooms"]
            assert (rooms["doc:1"]["recovered"], rooms["doc:2"]["recovered"]) == (True, False)
            assert [each["seq"] for each in await back.receives(5)] == [4, 5, 6, 7, 8]

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_resuming_while_others_write_loses_and_doubles_nothing() -> None:
    """A writer never stops; clients come and go: each sees every number once, in order."""

    async def main() -> None:
        async with serving(Doc) as client:
            writer = await client()
            epoch = (await position(writer, "r:long"))["epoch"]
            stop = asyncio.Event()

            async def write() -> int:
                n = 0
                while not stop.is_set() and n < 400:
                    n += 1
                    await writer.call("edit", room=["r:long"], n=n)
                return n

            writing = asyncio.create_task(write())
            seen: list[int] = []
            for _ in range(8):
                reader = await client()
                await reader.send("resume", rooms={"r:long": {"seq": len(seen), "epoch": epoch}})
                told = await reader.receive()
                assert told["rooms"]["r:long"]["recovered"] is True
                while len(seen) < told["rooms"]["r:long"]["seq"] + 3:
                    if writing.done() and len(seen) == writing.result():
                        break
                    seen.append((await reader.receive())["seq"])
                await reader.connection.close()
            stop.set()
            await writing
            assert seen == list(range(1, len(seen) + 1))
            assert len(seen) > 20

    run(main)


class Large(Doc):
    """What a room keeps is far above what may wait for a client."""

    history = {"doc:*": Keep(messages=100)}
    max_outbound_bytes = 50_000
    pad = 60_000

    @event
    async def on_write(self, first: int, last: int) -> dict[str, Any]:
        for n in range(first, last + 1):
            await self.broadcast({"type": "edit", "n": n, "pad": "x" * self.pad}, room="doc:1")
        return {"type": "written"}


@pytest.mark.usefixtures("everywhere")
def test_a_long_past_makes_no_slow_reader() -> None:
    """What is recovered waits for the client as a reply does; live messages come behind it."""

    async def main() -> None:
        async with serving(Large) as client:
            writer, reader = await client(), await client()
            epoch = (await position(writer))["epoch"]
            await writer.call("exit", room="doc:1")
            await writer.call("write", first=1, last=90)
            await reader.send("resume", rooms={"doc:1": {"seq": 0, "epoch": epoch}})
            assert (await reader.receive())["rooms"]["doc:1"]["recovered"] is True
            writing = asyncio.create_task(writer.call("write", first=91, last=95))
            assert [each["seq"] for each in await reader.receives(95)] == list(range(1, 96))
            await writing

    run(main)


def test_who_recovers_slower_than_others_write(everywhere: str) -> None:
    """
    What comes meanwhile is not piled up beyond what the log keeps; how much is missing then, a `gap` says. The end is
    live, and in order.
    """
    kept = 60

    class Rolling(Large):
        history = {"doc:*": Keep(messages=kept)}
        pad = 200_000

    async def main() -> None:
        async with serving(Rolling) as client:
            writer, reader = await client(), await client(max_queue=1)
            epoch = (await position(writer))["epoch"]
            await writer.call("exit", room="doc:1")
            await writer.call("write", first=1, last=kept)
            await reader.send("resume", rooms={"doc:1": {"seq": 0, "epoch": epoch}})
            assert (await reader.receive())["rooms"]["doc:1"]["recovered"] is True
            reader.stop_reading()
            last = kept * 2 + 60
            await writer.call("write", first=kept + 1, last=last)
            (room,) = rooms_for(everywhere).topics.values()
            assert [len(came) <= kept for came in room.behind.values()] == [True]
            reader.read_again()
            at = received = dropped = 0
            while at < last:
                told = await reader.receive()
                if told["type"] == "gap":
                    dropped += told["dropped"]
                elif told["type"] == "room_position":
                    at = told["seq"]
                    assert at == received + dropped
                else:
                    received += 1
                    at += 1
                    assert told["seq"] == at
            assert dropped > 0
            await writer.call("write", first=last + 1, last=last + 1)
            assert (await reader.receive())["seq"] == last + 1

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_who_leaves_itself_out_gets_the_new_position_instead() -> None:
    """Its numbers have no hole."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada, bob = await client(), await client()
            epoch = (await position(ada))["epoch"]
            await position(bob)
            await ada.send("edit", room=["doc:1"], n=1, but_me=True)
            assert await ada.receives(2) == [
                {"type": "room_position", "room": "doc:1", "seq": 1, "epoch": epoch},
                {"type": "edited"},
            ]
            assert (await bob.receive())["seq"] == 1

    run(main)


def test_a_position_is_no_message_that_was_delivered(backplane: str) -> None:
    """Who is left out, and is told the number instead, does not count."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada, bob = await client(), await client()
            await position(ada)
            await position(bob)
            await ada.call("edit", room=["doc:1"], n=1, but_me=True)
            assert (await bob.receive())["seq"] == 1
            assert Doc.hub.status.delivered == 1

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_rooms_with_and_without_history_in_one_broadcast() -> None:
    """Each numbered room sends its own copy; who has one of those gets no other."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada, bob = await client(), await client()
            await position(ada)
            await ada.call("enter", room="plain")
            await bob.call("enter", room="plain")
            await ada.send("edit", room=["doc:1", "plain"], n=1)
            assert await ada.receives(2) == [{"type": "edit", "n": 1, "room": "doc:1", "seq": 1}, {"type": "edited"}]
            assert await bob.receive() == {"type": "edit", "n": 1}

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_what_one_of_its_rooms_cannot_number_reaches_no_room() -> None:
    """A broadcast to several is refused before any of them has it."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada, bob = await client(), await client()
            await bob.call("enter", room="plain")
            await position(ada)
            for rooms, named in ((["plain", "doc:1"], "doc:2"), (["doc:1", "doc:2"], "doc:1")):
                assert (await ada.call("other", room=rooms, named=named))["type"] == "refused"
            await ada.send("edit", room=["doc:1", "plain"], n=1)
            assert (await ada.receive())["seq"] == 1
            assert await bob.receive() == {"type": "edit", "n": 1}

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_message_for_a_room_with_history_names_no_other_room_and_no_number() -> None:
    """Its own room it may name."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            await position(ada)
            assert (await ada.call("other", room="doc:1", named="doc:2"))["type"] == "refused"
            assert (await ada.call("other", room="doc:1", seq=4))["type"] == "refused"
            await ada.send("other", room="doc:1", named="doc:1")
            assert await ada.receives(2) == [{"type": "edit", "room": "doc:1", "seq": 1}, {"type": "done"}]

    run(main)


def test_a_hub_that_was_told_nothing_numbers_its_messages_too(everywhere: str) -> None:
    """It asks the backplane whether the room keeps history."""

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            await position(ada)
            async with Hub(everywhere) as hub:
                await hub.to("doc:1").send({"type": "edit", "n": 1})
            assert (await ada.receive())["seq"] == 1

    run(main)


def test_a_hole_is_filled_from_the_log_and_what_cannot_be_filled_is_told(
    everywhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payload that the engine lost on the way is read again; a log that has gone further is a `gap`."""
    monkeypatch.setattr(rooms, "DELIVERY_TIMEOUT_S", 0.1)  # the number that is lost will not come back to its writer

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            await position(ada)
            everyone = rooms_for(everywhere)
            deliver = everyone.on_delivery
            lost: list[Delivery] = []

            def lossy(delivery: Delivery) -> None:
                lost.append(delivery) if delivery.seq == 2 else deliver(delivery)

            everyone.on_delivery = lossy  # type: ignore[method-assign]
            writer = await client()
            for n in (1, 2, 3):
                await writer.call("edit", room=["doc:1"], n=n)
            assert [each["seq"] for each in await ada.receives(3)] == [1, 2, 3]
            everyone.on_delivery = lambda delivery: lost.append(delivery)  # type: ignore[method-assign]
            for _ in range(10):
                await everyone.backplane.append("rdoc:1", lost[0].payload, Doc.history["doc:*"])
            await until(lambda: len(lost) == 11, "all were lost")
            everyone.on_delivery = deliver  # type: ignore[method-assign]
            await writer.call("edit", room=["doc:1"], n=14)
            gap, at = await ada.receives(2)
            assert gap == {"type": "gap", "room": "doc:1", "dropped": 11}
            assert (at["type"], at["seq"]) == ("room_position", 14)

    run(main)


def test_the_first_pattern_that_matches_counts() -> None:
    """Shell-style, and case matters."""
    first, second = Keep(messages=1), Keep(messages=2)
    patterns = {"doc:[ab]*": first, "doc:*": second}
    assert keep_for("doc:a1", patterns) == first
    assert keep_for("doc:c1", patterns) == second
    assert keep_for("Doc:a1", patterns) is None


def test_a_room_name_is_spliced_as_json() -> None:
    """Quotes and all; an empty message keeps its shape."""
    assert numbered(b'{"type":"a"}', 'q"ä', 3) == '{"type":"a","room":"q\\"ä","seq":3}'.encode()


@pytest.mark.parametrize(
    ("log", "wanted", "whole"),
    [
        (Log("e", 3, [(2, b""), (3, b"")]), Resume(1, "e"), True),
        (Log("e", 3, []), Resume(3, "e"), True),
        (Log("e", 3, [(3, b"")]), Resume(1, "e"), False),
        (Log("e", 3, [(2, b"")]), Resume(1, "e"), False),
        (Log("e", 3, []), Resume(4, "e"), False),
        (Log("f", 3, []), Resume(3, "e"), False),
    ],
)
def test_recovered_means_without_a_hole(log: Log, wanted: Resume, whole: bool) -> None:
    """Every number above the position, to the end, of the same epoch."""
    assert recovered(log, wanted) is whole
