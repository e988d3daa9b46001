"""What members of rooms with history are told of an outage: nothing is missing that they are not told of."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis.asyncio as redis

from socketsundso import BackplaneUnavailable, Keep
from socketsundso.rooms.history import Resume
from socketsundso.rooms.local import Rooms

from ..backplanes.engines import EngineServer, running
from ..backplanes.listener import until
from .peer import Peer, cut_off, message, processes
from .serving import run, serving
from .wall import Wall

KEPT = 100  # by the rooms of `processes`


async def entered(rooms: Rooms) -> tuple[Peer, str]:
    """A member, and the epoch that it was told."""
    peer = Peer()
    await rooms.join(peer.who, "rdoc")
    await until(lambda: peer.got, "its position")
    return peer, peer.got[0]["epoch"]


async def numbered(rooms: Rooms, first: int, last: int) -> None:
    for n in range(first, last + 1):
        await rooms.broadcast(["rdoc"], message(n))


async def resumed(rooms: Rooms, at: Resume) -> tuple[bool, list[int]]:
    """Whether a client that comes back with a position has recovered, and the numbers that it got."""
    peer = Peer()
    found = await rooms.read_missed(peer.who, {"doc": at})
    await rooms.recovery.go_on(peer.who, {"doc": at}, found, peer.take)
    rooms.leave_all(peer.who)
    return found["doc"][0], [n for n, _ in peer.numbers()]


@pytest.mark.parametrize("missed", [0, 1, KEPT, KEPT + 1, KEPT + 40])
def test_a_process_that_was_cut_off_catches_up(between_processes: str, missed: int) -> None:
    """
    Though it has never appended anything itself: what its members missed they get, or, where that is more than the room
    keeps, they are told how many, and where they are. Then they are live, and can resume from there.
    """

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            reader, _ = await entered(here)
            await entered(there)
            await numbered(there, 1, 2)
            await until(lambda: len(reader.numbers()) == 2, "live before")
            async with cut_off(here):
                await numbered(there, 3, 2 + missed)
            # before the room keeps one message less of what was missed
            await until(lambda: reader.got[-1].get("seq") == 2 + missed, "caught up")
            last = 3 + missed
            await numbered(there, last, last)
            await until(lambda: reader.numbers()[-1][1] == last, "live again")
            told = [each for each in reader.got[1:] if "n" not in each]
            seqs = [seq for _, seq in reader.numbers()]
            if missed <= KEPT:
                assert (told, seqs) == ([], list(range(1, last + 1)))
            else:
                gap, at = told
                assert (gap["type"], gap["dropped"], at["type"]) == ("gap", at["seq"] - 2, "room_position")
                assert seqs == [1, 2, *range(at["seq"] + 1, last + 1)]
                assert await resumed(here, Resume(at["seq"], at["epoch"])) == (True, seqs[2:])
                assert await resumed(here, Resume(2, at["epoch"])) == (False, [])

    run(main)


def test_who_comes_back_while_its_process_is_cut_off_is_refused_and_loses_nothing(between_processes: str) -> None:
    """`BackplaneUnavailable`, and no member; a moment later, the same `resume` gets everything."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            peer, (_, epoch) = Peer(), await entered(there)
            at = Resume(0, epoch)
            async with cut_off(here):
                await numbered(there, 1, 3)
                with pytest.raises(BackplaneUnavailable):
                    await here.read_missed(peer.who, {"doc": at})
                assert (here.topics, peer.who.rooms) == ({}, {})
            assert await resumed(here, at) == (True, [1, 2, 3])

    run(main)


@pytest.mark.parametrize("kept", [100, 3])
def test_a_resume_that_fails_leaves_its_memberships_as_they_were(
    between_processes: str, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """
    The rooms that it was in already it stays in, and gets what came meanwhile, or is told how much of that was not kept
    for it. Those that were new it is not in.
    """

    async def main() -> None:
        rooms, peer, asked = Rooms(between_processes), Peer(), asyncio.Event()
        rooms.declare({"doc*": Keep(messages=kept)})
        for topic in ("rdoc", "rdoc2"):
            await rooms.join(peer.who, topic)
        await until(lambda: len(peer.got) == 2, "its positions")
        at = Resume(0, peer.got[0]["epoch"])
        await numbered(rooms, 1, 2)
        await until(lambda: len(peer.numbers()) == 2, "live before")
        read, answered = rooms.backplane.read, asyncio.Event()

        async def fail_at_the_third(topic: str, *more: Any) -> Any:
            if topic == "rdoc2":
                asked.set()
                await answered.wait()
                raise BackplaneUnavailable("away")
            return await read(topic, *more)

        monkeypatch.setattr(rooms.backplane, "read", fail_at_the_third)
        resuming = asyncio.create_task(rooms.read_missed(peer.who, {"doc3": at, "doc": at, "doc2": at}))
        await asked.wait()
        await numbered(rooms, 3, 7)
        answered.set()
        with pytest.raises(BackplaneUnavailable):
            await resuming
        await numbered(rooms, 8, 8)
        await rooms.broadcast(["rdoc2"], message(1))
        await until(lambda: peer.got[-1].get("room") == "doc2", "live in both again")
        assert sorted(peer.who.rooms) == ["rdoc", "rdoc2"]
        assert set(rooms.topics) == set(peer.who.rooms)
        told = [(each["type"], each.get("seq", each.get("dropped"))) for each in peer.got[2:]]
        missed = [("m", n) for n in (3, 4, 5, 6, 7)] if kept == 100 else [
            ("gap", 2), ("room_position", 4), ("m", 5), ("m", 6), ("m", 7)
        ]  # fmt: skip
        assert told == [("m", 1), ("m", 2), *missed, ("m", 8), ("m", 1)]
        await rooms.aclose()

    run(main)


def test_an_engine_that_comes_back_with_an_older_copy() -> None:
    """
    Redis restarts from a snapshot, and would give the latest numbers to other messages: whoever has the old ones would
    miss those, and never know. So the numbers begin anew, for members and for all who come back.
    """

    async def main() -> None:
        with running("redis") as engine:
            async with processes(engine.url) as (here, there):
                reader, epoch = await entered(here)
                await numbered(there, 1, 3)
                async with redis.Redis(port=engine.port) as admin:
                    await admin.save()
                await numbered(there, 4, 5)
                await until(lambda: len(reader.numbers()) == 5, "live before")
                engine.kill()
                await until(lambda: here.state == there.state == "reconnecting", "both have noticed")
                engine.start()
                await until(lambda: here.state == there.state == "connected", "both are back")
                await until(lambda: len(reader.got) == 8, "a gap and a position")
                gap, at = reader.got[6:]
                assert gap == {"type": "gap", "room": "doc", "dropped": None}
                assert (at["seq"], at["epoch"] != epoch) == (0, True)
                await numbered(there, 6, 9)
                await until(lambda: len(reader.numbers()) == 9, "live again")
                assert reader.numbers()[5:] == [(6, 1), (7, 2), (8, 3), (9, 4)]
                for seq in range(6):
                    assert await resumed(there, Resume(seq, epoch)) == (False, [])
                assert await resumed(there, Resume(2, at["epoch"])) == (True, [8, 9])

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_what_needs_the_engine_is_answered_while_it_is_away(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    `internal_error`, at once, and one line in the log: every client may ask meanwhile. The same works afterwards, and
    what needs no engine works all the time.
    """
    rooms = {"doc:1": {"seq": 0, "epoch": "a"}}

    async def main(engine: EngineServer) -> None:
        monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", engine.url)
        async with serving(Wall) as client:
            ada = await client()
            await ada.call("enter", room="doc:2")
            engine.kill()
            await until(lambda: Wall.hub.status == "reconnecting", "the loss is noticed")
            caplog.clear()
            for answer in (
                await ada.call("resume", rooms=rooms),
                await ada.call("enter", room="doc:1"),
                await ada.call("who", room="doc:1"),
            ):
                assert (answer["type"], answer["code"], answer["errors"]) == ("error", "internal_error", [])
            said = [(each.levelname, each.exc_info) for each in caplog.records if each.name == "socketsundso"]
            assert said == [("WARNING", None)] * 3
            assert "'resume'" in caplog.text
            assert (await ada.call("enter", room="plain"))["type"] == "entered"
            assert (await ada.call("say", room="plain", sender=1, n=1))["refused"] is False
            assert (await ada.call("say", room="doc:2", sender=1, n=1))["refused"] is True
            engine.start()
            await until(lambda: Wall.hub.status == "connected", "it is back")
            assert (await ada.call("resume", rooms=rooms))["rooms"]["doc:1"]["recovered"] is False

    with running(kind) as engine:
        asyncio.run(main(engine))
