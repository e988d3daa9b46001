"""What happens in between: two things at once, an engine that goes away in the middle, a peer that has just left."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from socketsundso import BackplaneUnavailable, Hub, Keep, SyncHub
from socketsundso.backplanes import Delivery, memory, open_url
from socketsundso.backplanes.memory import Bus, bus_of
from socketsundso.rooms import local as module
from socketsundso.rooms import recovery
from socketsundso.rooms.history import Resume
from socketsundso.rooms.local import Rooms, rooms_for

from ..backplanes.engines import EngineServer
from ..backplanes.listener import until
from .peer import Peer, lists, message, rest
from .serving import run

_numbers = itertools.count(1)
NOWHERE = "redis://127.0.0.1:1"


def processes(count: int = 2, history: bool = True) -> list[Rooms]:
    url = f"memory://edges{next(_numbers)}"
    made = [Rooms(url) for _ in range(count)]
    for rooms in made if history else ():
        rooms.declare({"doc": Keep(messages=5)})
    return made


def failing(*_: Any, **__: Any) -> Any:
    raise BackplaneUnavailable("away")


async def failing_later(*_: Any, **__: Any) -> Any:
    raise BackplaneUnavailable("away")


def test_joining_twice_at_the_same_time_waits_for_one_subscription(redis_engine: EngineServer) -> None:
    """The second join returns when the first one's subscription is in force, not before."""

    async def main() -> None:
        rooms, peer = Rooms(f"{redis_engine.url}?prefix=edges1"), Peer()
        await rooms.open()
        await asyncio.gather(rooms.join(peer.who, "r1"), rooms.join(peer.who, "r1"), rooms.join(Peer().who, "r1"))
        assert len(rooms.topics["r1"].live) == 2
        await rooms.aclose()

    run(main)


def test_two_tasks_that_join_a_room_with_history_tell_one_position(url: str) -> None:
    """Whichever is faster; a failure of one of them does not take the other's room away."""

    async def main() -> None:
        rooms, peer = Rooms(url), Peer()
        rooms.declare({"doc*": Keep(messages=5)})
        joins = (rooms.join(peer.who, "rdoc"), rooms.join_all(peer.who, ["rdoc", "rdoc2"], None, peer.take))
        await asyncio.gather(*joins, rooms.join(peer.who, "rdoc"))
        await rooms.broadcast(["rdoc"], message(1))
        await until(lambda: peer.numbers() == [(1, 1)], "live")
        assert sorted(each["room"] for each in peer.got if each["type"] == "room_position") == ["doc", "doc2"]
        await rooms.aclose()

    run(main)


def test_a_subscription_that_fails_leaves_no_membership(monkeypatch: pytest.MonkeyPatch) -> None:
    """The join raises, and nothing is left of the room."""

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        monkeypatch.setattr(rooms.backplane, "subscribe", failing_later)
        with pytest.raises(BackplaneUnavailable):
            await rooms.join(peer.who, "r1")
        assert (rooms.topics, peer.who.rooms) == ({}, {})

    run(main)


def test_a_log_that_cannot_be_read_leaves_no_membership(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room with history is joined whole or not at all."""

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        monkeypatch.setattr(rooms.backplane, "read", failing_later)
        with pytest.raises(BackplaneUnavailable):
            await rooms.join(peer.who, "rdoc")
        assert (rooms.topics, peer.who.rooms, peer.got) == ({}, {}, [])

    run(main)


def test_who_joins_between_a_message_and_its_arrival_gets_it_by_its_position_only() -> None:
    """The position says that it was before; it does not come again, while the others get it."""

    async def main() -> None:
        (here, there), old, new = processes(), Peer(), Peer()
        await here.join(old.who, "rdoc")
        await there.broadcast(["rdoc"], message(1))
        await here.join(new.who, "rdoc")  # within the same turn of the loop: the message is under way
        await rest()
        await there.broadcast(["rdoc"], message(2))
        await rest()
        assert old.numbers() == [(1, 1), (2, 2)]
        assert new.got[0]["seq"] == 1
        assert new.numbers() == [(2, 2)]
        assert not here.topics["rdoc"].skip

    run(main)


def test_a_process_that_was_not_told_of_history_passes_numbered_messages_on() -> None:
    """Its members get the numbers; a hub without a declaration asks the engine."""

    async def main() -> None:
        told, untold = processes(2, history=False)
        told.declare({"doc": Keep(messages=5)})
        peer = Peer()
        await untold.join(peer.who, "rdoc")
        await told.broadcast(["rdoc"], message(1))
        await rest()
        assert peer.numbers() == [(1, 1)]
        untold.leave(peer.who, "rdoc")
        await untold.broadcast(["rdoc"], message(2))
        assert bus_of(untold.url).logs["rdoc"].seq == 2

    run(main)


def test_resuming_what_one_is_in_already_replays_and_goes_on() -> None:
    """Also a room without history, which recovers nothing; and one that is left meanwhile gets nothing."""

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        await rooms.join(peer.who, "rdoc")
        await rooms.join(peer.who, "rplain")
        await rooms.broadcast(["rdoc"], message(1))
        await rest()
        epoch = peer.got[0]["epoch"]
        wanted = {"doc": Resume(0, epoch), "plain": Resume(0, epoch)}
        found = await rooms.read_missed(peer.who, wanted)
        assert {room: whole for room, (whole, _) in found.items()} == {"doc": True, "plain": False}
        await rooms.broadcast(["rdoc"], message(2))
        await rooms.recovery.go_on(peer.who, wanted, found, peer.take)
        await rest()
        assert peer.numbers() == [(1, 1), (1, 1), (2, 2)]
        wanted = {"doc": Resume(1, epoch)}
        found = await rooms.read_missed(peer.who, wanted)
        rooms.leave(peer.who, "rdoc")
        await rooms.recovery.go_on(peer.who, wanted, found, peer.take)
        await rest()
        assert peer.numbers() == [(1, 1), (1, 1), (2, 2)]
        assert set(rooms.topics) == {"rplain"}

    run(main)


def test_who_joins_is_the_first_to_hear_that_the_numbers_began_anew() -> None:
    """The others are told of it, and get what has come since; who has joined has it by its position, and only once."""

    async def main() -> None:
        (here, there), old, new = processes(), Peer(), Peer()
        await here.join(old.who, "rdoc")
        for n in range(3):
            await there.broadcast(["rdoc"], message(n))
        await rest()
        bus = bus_of(here.url)
        del bus.logs["rdoc"]
        bus.epoch = "other"
        bus.unsubscribe("rdoc", here.backplane)  # type: ignore[arg-type]  # it is the memory backplane
        await there.broadcast(["rdoc"], message(3))
        await here.backplane.subscribe("rdoc")
        await here.join(new.who, "rdoc")
        await rest()
        await there.broadcast(["rdoc"], message(4))
        await rest()
        assert [each["type"] for each in old.got[4:]] == ["gap", "room_position", "m", "m"]
        assert old.numbers()[3:] == [(3, 1), (4, 2)]
        assert [(each["type"], each["seq"]) for each in new.got] == [("room_position", 1), ("m", 2)]
        assert not here.topics["rdoc"].skip

    run(main)


def test_who_recovers_while_the_numbers_begin_anew() -> None:
    """What comes of the old ones is not mixed with what comes of the new ones: a gap, then the new position."""

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        await rooms.open()
        for n in range(3):
            await rooms.broadcast(["rdoc"], message(n))
        bus = bus_of(rooms.url)
        wanted = {"doc": Resume(1, bus.epoch)}
        found = await rooms.read_missed(peer.who, wanted)
        await rooms.broadcast(["rdoc"], message(3))
        await rest()
        del bus.logs["rdoc"]
        bus.epoch = "other"
        await rooms.broadcast(["rdoc"], message(4))
        await rest()
        await rooms.recovery.go_on(peer.who, wanted, found, peer.take)
        assert peer.numbers() == [(1, 2), (2, 3), (3, 4)]
        assert [(each["type"], each.get("seq")) for each in peer.got[3:]] == [("gap", None), ("room_position", 1)]
        await rooms.broadcast(["rdoc"], message(5))
        await rest()
        assert peer.numbers()[3:] == [(5, 2)]

    run(main)


@pytest.mark.parametrize("ahead", [0, 100, 1 << 20])
def test_what_a_resume_reads_ahead_is_bounded(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Beyond it a log is read when its turn has come: nothing is missing, and where the log has gone further, or cannot
    be read any more, that is told.
    """
    monkeypatch.setattr(module, "RESUME_BYTES", ahead)

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        rooms.declare({"doc?": Keep(messages=5)})
        names = ["doc1", "doc2", "doc3", "doc4"]
        wanted = {}
        for name in names:
            log = await rooms.backplane.read("r" + name, Keep(messages=5))
            wanted[name] = Resume(0, log.epoch)
            for n in range(1, 4):
                await rooms.broadcast(["r" + name], message(n))
        found = await rooms.read_missed(peer.who, wanted)
        assert [whole for whole, _ in found.values()] == [True] * 4
        assert [bool(log.entries) for _, log in found.values()] == [True] + [ahead == 1 << 20] * 3
        for _ in range(4):
            await rooms.broadcast(["rdoc3"], message(4))
        await rest()

        async def take(payload: bytes) -> None:
            await peer.take(payload)
            if peer.got[-1]["room"] == "doc3" and ahead < 1 << 20:
                monkeypatch.setattr(rooms.backplane, "read", failing_later)

        await rooms.recovery.go_on(peer.who, wanted, found, take)
        told = {name: [each for each in peer.got if each["room"] == name] for name in names}
        for name in ("doc1", "doc2"):
            assert [each["seq"] for each in told[name]] == [1, 2, 3]
        if ahead == 1 << 20:
            assert [each["seq"] for each in told["doc3"]] == list(range(1, 8))
            assert [each["seq"] for each in told["doc4"]] == [1, 2, 3]
        else:
            assert [each.get("dropped", each.get("seq")) for each in told["doc3"]] == [7, 7]
            assert [each.get("dropped", each.get("seq")) for each in told["doc4"]] == [3, 3]
        await rooms.broadcast(["rdoc4"], message(9))
        await rest()
        assert peer.got[-1]["seq"] == 4

    run(main)


def test_leaving_while_the_log_is_read_ends_the_join_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing live, nothing left."""

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        read = rooms.backplane.read

        async def read_and_leave(*args: Any) -> Any:
            log = await read(*args)
            rooms.leave(peer.who, "rdoc")
            return log

        monkeypatch.setattr(rooms.backplane, "read", read_and_leave)
        await rooms.join(peer.who, "rdoc")
        assert (rooms.topics, peer.who.rooms) == ({}, {})

    run(main)


def test_messages_that_come_while_a_hole_is_filled_come_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, each once; while the engine cannot tell it is asked again, but not without a pause."""
    waits: list[float] = []

    def short() -> Iterator[float]:
        for wait_s in itertools.repeat(0.001):
            waits.append(wait_s)
            yield wait_s

    monkeypatch.setattr(recovery, "backoff", short)

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        await rooms.join(peer.who, "rdoc")
        bus, keep = bus_of(rooms.url), rooms.topics["rdoc"].keep
        assert keep is not None
        sealed = module.seal(module.Header("message", "elsewhere"), b'{"type":"m","n":0}')
        bus.unsubscribe("rdoc", rooms.backplane)  # type: ignore[arg-type]  # it is the memory backplane
        for _ in range(3):
            _, epoch = bus.append("rdoc", sealed, keep)
        with monkeypatch.context() as away:
            away.setattr(rooms.backplane, "read", failing_later)
            rooms.on_delivery(Delivery("rdoc", sealed, 2, epoch))
            await until(lambda: len(waits) >= 3, "it is asked again")
            away.undo()
        rooms.on_delivery(Delivery("rdoc", sealed, 3, epoch))
        rooms.on_delivery(Delivery("rdoc", sealed, 3, epoch))
        await until(lambda: len(peer.numbers()) == 3, "the hole is filled")
        assert [seq for _, seq in peer.numbers()] == [1, 2, 3]

    run(main)


def test_a_broadcast_to_several_rooms_is_recognised_also_after_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered for that is bounded."""
    monkeypatch.setattr(module, "RECENT", 2)

    async def main() -> None:
        (here, there), peer = processes(), Peer()
        await here.join(peer.who, "ra")
        await here.join(peer.who, "rb")
        for n in range(5):
            await there.broadcast(["ra", "rb"], message(n))
            await rest()
        assert [n for n, _ in peer.numbers()] == list(range(5))
        assert len(here._recent) == len(here._recent_order) == 2

    run(main)


def test_a_delivery_for_a_room_that_has_emptied_is_dropped() -> None:
    """It was under way when the last member left."""

    async def main() -> None:
        (here, there), peer = processes(), Peer()
        await here.join(peer.who, "ra")
        await there.broadcast(["ra"], message(1))
        here.leave(peer.who, "ra")
        here.on_delivery(Delivery("ra", b"whatever it is"))
        await rest()
        assert peer.got == []

    run(main)


def test_presence_goes_on_without_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The members of this process see each other; what the others hold is not known, and nothing raises."""

    async def main() -> None:
        (rooms,), ada, bob = processes(1), Peer(wants_presence=True), Peer(wants_presence=True)
        monkeypatch.setattr(rooms.backplane, "held", failing_later)
        monkeypatch.setattr(rooms.backplane, "publish", failing)
        await rooms.join(ada.who, "ra")
        await rooms.join(bob.who, "ra")
        await rooms.roster.track(ada.who, ada.who.rooms["ra"], b'{"name":"ada"}')
        await rest()
        assert bob.got[-1]["joins"] == {ada.who.id: {"name": "ada"}}
        assert [member.id for member in await rooms.members("a")] == [ada.who.id]

    run(main)


def test_leaving_while_one_is_tracked_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither before the engine was asked nor after."""

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        bus, hold = bus_of(rooms.url), rooms.backplane.hold
        await rooms.join(peer.who, "ra")
        room = peer.who.rooms["ra"]

        async def hold_and_leave(*args: Any) -> None:
            await hold(*args)
            rooms.leave(peer.who, "ra")

        monkeypatch.setattr(rooms.backplane, "hold", hold_and_leave)
        await rooms.roster.track(peer.who, room, b"{}")
        await rooms.roster.track(peer.who, room, b"{}")
        await rest()
        assert bus.entries == {}
        assert peer.who.tracked == set()

    run(main)


def test_what_fails_in_the_background_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With its name and its traceback."""

    async def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    async def main() -> None:
        (rooms,), peer = processes(1), Peer()
        await rooms.join(peer.who, "ra")
        await rooms.roster.track(peer.who, peer.who.rooms["ra"], b"{}")
        monkeypatch.setattr(rooms.backplane, "release", broken)
        rooms.leave(peer.who, "ra")
        await rest()

    run(main)
    (record,) = caplog.records
    assert "presence of" in record.getMessage()
    assert record.exc_info is not None


def test_closing_ends_what_runs_in_the_background(redis_engine: EngineServer) -> None:
    """No task survives, and presence is released."""

    async def main() -> None:
        url = f"{redis_engine.url}?prefix=edges2"
        rooms, peer = Rooms(url), Peer(wants_presence=True)
        await rooms.join(peer.who, "ra")
        await rooms.roster.track(peer.who, peer.who.rooms["ra"], b"{}")
        assert len(asyncio.all_tasks()) > 1
        await rooms.aclose()
        await until(lambda: len(asyncio.all_tasks()) == 1, "no task is left")
        async with Hub(url) as hub:
            assert await hub.presence.list("a") == []

    run(main)


def test_a_hub_counts_what_the_engine_did_not_take_if_told_to() -> None:
    """It raises by default, also where the loss shows only when the engine confirms nothing."""

    async def main() -> None:
        async with Hub(NOWHERE, on_unavailable="count") as hub:
            await hub.to("r").send({"type": "x"})
            assert (hub.status, hub.status.refused) == ("reconnecting", 1)
        async with Hub(NOWHERE) as hub:
            with pytest.raises(BackplaneUnavailable, match="is away"):
                await hub.to("r").send({"type": "x"})
            rooms = rooms_for(NOWHERE)
            refused = rooms.counters.refused
            rooms.backplane.publish = lambda *_: None  # type: ignore[method-assign]  # taken, but never confirmed
            rooms.backplane.flush = failing_later  # type: ignore[method-assign]
            with pytest.raises(BackplaneUnavailable):
                await hub.to("r").send({"type": "x"})
            assert rooms.counters.refused == refused + 1

    run(main)


def test_a_sync_hub_reaches_users() -> None:
    """`to_user` from a plain thread."""
    url = f"memory://edges{next(_numbers)}"

    async def main() -> None:
        rooms, peer = rooms_for(url), Peer()
        await rooms.join(peer.who, "uada")

        def send() -> None:
            with SyncHub(url) as hub:
                hub.to_user("ada").except_("nobody").send({"type": "m", "n": 1})

        await asyncio.to_thread(send)
        await until(lambda: peer.numbers() == [(1, 0)], "the message")

    run(main)


def test_the_memory_log_follows_its_keep_and_forgets_what_nobody_uses() -> None:
    """Fewer messages from now on; a log is gone a day after the last that it could hold."""
    bus = Bus()
    for n in range(5):
        bus.append("r", b"%d" % n, Keep(messages=5))
    bus.append("r", b"5", Keep(messages=2))
    assert [seq for seq, _ in bus.read("r", Keep(messages=2), 0).entries] == [5, 6]
    bus.logs["r"].used_at -= 90_000
    bus.logs["r"].entries.clear()
    for _ in range(Bus.SWEEP_EVERY):
        bus.append("other", b"", Keep(messages=2))
    assert set(bus.logs) == {"other"}


def test_the_memory_log_remembers_the_numbers_of_so_many_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However many rooms clients make and leave (litestar 4387): what they said goes with its time, and of their numbers
    the latest are kept. A room that somebody is in keeps its own; one that was forgotten has another epoch.
    """
    monkeypatch.setattr(memory, "NUMBERS_KEPT", 3)
    keep = Keep(messages=2, seconds=60)

    async def main() -> None:
        rooms, peer = Rooms(f"memory://edges{next(_numbers)}"), Peer()
        rooms.declare({"*": keep})
        bus = bus_of(rooms.url)
        await rooms.join(peer.who, "r0")
        for n in range(8):
            _, epoch = bus.append(f"r{n}", b"", keep)
            bus.logs[f"r{n}"].used_at += n
            bus.logs[f"r{n}"].entries.clear()
        for _ in range(Bus.SWEEP_EVERY):
            bus.append("rother", b"", keep)
        assert set(bus.logs) == {"r0", "r5", "r6", "r7", "rother"}
        assert (bus.logs["r0"].epoch, bus.append("r7", b"", keep)) == (epoch, (2, epoch))
        seq, other = bus.append("r4", b"", keep)
        assert (seq, other != epoch) == (1, True)
        rooms.leave_all(peer.who)

    run(main)


def test_members_of_a_loop_that_has_ended_are_forgotten_by_the_bus() -> None:
    """A delivery to a closed loop takes its subscriptions with it, and raises nothing."""
    url = f"memory://edges{next(_numbers)}"

    async def join() -> None:
        await Rooms(url).join(Peer().who, "ra")

    asyncio.run(join())
    assert "ra" in bus_of(url).subscribers

    async def send() -> None:
        await Rooms(url).broadcast(["ra"], message(1))

    asyncio.run(send())
    assert bus_of(url).subscribers == {}


def test_a_loop_that_takes_nothing_is_not_piled_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Another thread's event loop that hangs: publishing to it is refused above the bound, and counted where that was
    chosen; it gets all that was taken, and what comes later, and a history room's messages from the log.
    """
    monkeypatch.setattr(memory, "QUEUE_BYTES", 1000)
    url = f"memory://edges{next(_numbers)}"
    peers: list[Peer] = []
    joined, hangs, ended = threading.Event(), threading.Event(), threading.Event()

    async def there() -> None:
        rooms, peer = Rooms(url), Peer()
        peers.append(peer)
        rooms.declare({"doc": Keep(messages=100)})
        await rooms.join(peer.who, "ra")
        await rooms.join(peer.who, "rdoc")
        joined.set()
        hangs.wait(30)
        await asyncio.to_thread(ended.wait, 30)
        rooms.leave_all(peer.who)

    async def main() -> None:
        thread = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(there())))
        await until(joined.is_set, "it has joined")
        rooms, (peer,), taken = Rooms(url), peers, 0
        rooms.declare({"doc": Keep(messages=100)})
        while rooms.counters.refused == 0:
            await rooms.broadcast(["ra"], message(taken))
            taken += rooms.counters.refused == 0
            assert taken < 100
        with pytest.raises(BackplaneUnavailable, match="too slowly"):
            await rooms.broadcast(["ra"], message(-1), must_publish=True)
        assert rooms.counters.refused == 2
        await rooms.broadcast(["rdoc"], message(1000))
        hangs.set()
        await until(lambda: len(peer.numbers()) == taken, "what was taken has come")
        await rooms.broadcast(["ra"], message(taken), must_publish=True)
        await rooms.broadcast(["rdoc"], message(1001))
        await until(lambda: len(peer.numbers()) == taken + 3, "and what comes later")
        assert peer.numbers() == [*((n, 0) for n in range(taken + 1)), (1000, 1), (1001, 2)]
        ended.set()
        await thread

    run(main)


def test_an_unknown_scheme_and_a_missing_extra_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is connected."""
    with pytest.raises(ValueError, match="memory://"):
        open_url("kafka://host")
    monkeypatch.setitem(sys.modules, "socketsundso.backplanes.nats", None)
    with pytest.raises(ImportError, match=r"socketsundso\[nats\]"):
        open_url("nats://host")


@pytest.mark.parametrize("prefix", ["", "a.b", "a b", "x" * 65])
def test_a_prefix_that_an_engine_would_interpret_is_refused(prefix: str) -> None:
    """It names keys and subjects."""
    with pytest.raises(ValueError, match="prefix"):
        open_url(f"redis://host?prefix={prefix}")


@pytest.mark.parametrize("reopened", [False, True])
def test_the_presence_of_a_process_that_died_ends(redis_engine: EngineServer, reopened: bool) -> None:
    """Whoever was tracked there leaves for everybody else, a time-to-live after its last sign of life at most."""

    async def main() -> None:
        url = f"{redis_engine.url}?prefix=edges_dead&presence_ttl_s=0.6"
        (there, here), ada, bob = (Rooms(url), Rooms(url)), Peer(), Peer(wants_presence=True)
        await there.open()
        await here.open()
        if reopened:
            await here.join(bob.who, "ra")
            here.leave(bob.who, "ra")
            await here.aclose()
        await here.join(bob.who, "ra")
        await there.join(ada.who, "ra")
        await there.roster.track(ada.who, ada.who.rooms["ra"], b'{"name":"ada"}')
        await until(lambda: any(ada.who.id in message.get("joins", {}) for message in bob.got))
        await there.aclose()  # without a leave: as a process that is killed
        await until(lambda: any(ada.who.id in message.get("leaves", {}) for message in bob.got))
        await lists(here, "a")
        await here.aclose()

    run(main)


def test_presence_is_told_again_after_a_loss() -> None:
    """Who is tracked here is announced once more, and who was tracked meanwhile elsewhere is heard of."""

    async def main() -> None:
        (here, there), ada, bob = processes(2, history=False), Peer(wants_presence=True), Peer()
        await here.join(ada.who, "ra")
        await there.join(bob.who, "ra")
        await here.roster.track(ada.who, ada.who.rooms["ra"], b"1")
        await rest()
        here.backplane.unsubscribe("ra")
        await there.roster.track(bob.who, bob.who.rooms["ra"], b"2")
        await rest()
        here.on_restored()
        await until(lambda: ada.got[-1].get("joins") == {bob.who.id: 2})

    run(main)
