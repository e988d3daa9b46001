"""
What users of other libraries have reported of rooms, presence and history, as it has to be here. The names of the
reports' trackers and their numbers are in the docstrings.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from socketsundso import Endpoint, Hub, Keep, SyncHub, event
from socketsundso.backplanes import PROCESSES
from socketsundso.backplanes.memory import Bus
from socketsundso.connection.outbound import NEVER
from socketsundso.rooms.local import Rooms, rooms_for
from socketsundso.rooms.room import EVERYONE

from ..backplanes.engines import EngineServer, running
from ..backplanes.listener import until
from ..serving import ROOT
from .peer import Peer, cut_off, lists, message, processes
from .serving import run, serving


async def enter(rooms: Rooms, topic: str = "ra", name: str = "") -> Peer:
    """Somebody in the room, with a presence if there is a name."""
    peer = Peer(wants_presence=True)
    await rooms.join(peer.who, topic)
    if name:
        await rooms.roster.track(peer.who, peer.who.rooms[topic], json.dumps(name).encode())
    return peer


def seen_by(peer: Peer) -> set[str]:
    """Whose presence a client has put together from what it was told."""
    members: dict[str, str] = {}
    for told in peer.got:
        members |= told.get("members", {}) | told.get("joins", {})
        for left in told.get("leaves", {}):
            del members[left]
    return set(members.values())


class Wall(Endpoint):
    history = {"doc*": Keep(messages=100)}
    presence_events = False

    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {"id": self.id}

    @event
    async def on_exit(self, room: str) -> dict[str, Any]:
        await self.leave(room)
        return {}

    @event
    async def on_iam(self, user: str) -> dict[str, Any]:
        await self.identify(user)
        return {}

    @event
    async def on_say(self, room: str, n: int) -> dict[str, Any]:
        await self.broadcast({"type": "said", "n": n}, room=room, exclude_self=True)
        return {}


# ---- presence


def test_who_leaves_while_its_process_is_cut_off_leaves_for_the_others(between_processes: str) -> None:
    """
    Its process lives, so no missed beat tells; it says so itself when the engine is back. Otherwise it is a ghost,
    as in bigbluebutton 5066. A room that has emptied meanwhile is no exception, and nobody else leaves.
    """

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            watcher = await enter(there, name="watcher")
            alone = await enter(there, "rb")
            stays, leaves = await enter(here, name="stays"), await enter(here, name="leaves")
            last = await enter(here, "rb", "last")
            everybody = {"watcher", "stays", "leaves"}
            await until(lambda: seen_by(watcher) == everybody and seen_by(alone) == {"last"}, "all are told")
            async with cut_off(here):
                here.leave(leaves.who, "ra")
                here.leave(last.who, "rb")
            await until(lambda: seen_by(watcher) == {"watcher", "stays"}, "the leave is told")
            await until(lambda: seen_by(alone) == set(), "the leave is told")
            left = [name for told in watcher.got for name in told.get("leaves", {}).values()]
            assert left == ["leaves"]
            for rooms in (here, there):
                await lists(rooms, "a", "stays", "watcher")
                await lists(rooms, "b")
            assert stays.who.tracked == {"a"}

    run(main)


def test_who_leaves_elsewhere_while_one_is_cut_off_leaves_here_too(between_processes: str) -> None:
    """A while after the link is back; whoever has stayed neither leaves nor comes back."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            watcher = await enter(here, name="watcher")
            await enter(there, name="stays")
            leaves = await enter(there, name="leaves")
            await until(lambda: len(seen_by(watcher)) == 3, "all are told")
            async with cut_off(here):
                there.leave(leaves.who, "ra")
                await enter(there, name="comes")
            here.roster._compare_at = 0.0  # as if that while had passed
            await until(lambda: seen_by(watcher) == {"watcher", "stays", "comes"}, "the leave is told")
            told = [name for each in watcher.got for name in each.get("joins", {}).values()]
            assert sorted(told) == ["comes", "leaves", "stays", "watcher"]

    run(main)


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_nobody_leaves_because_the_engine_restarts(kind: str) -> None:
    """Not even where it has lost everything (Redis without persistence): each process says again who is there."""

    async def main(url: str, engine: EngineServer) -> None:
        async with processes(url) as (here, there):
            watchers = [await enter(here, name="here"), await enter(there, name="there")]
            await until(lambda: all(seen_by(each) == {"here", "there"} for each in watchers), "all are told")
            engine.kill()
            await until(lambda: here.state == there.state == "reconnecting", "both noticed")
            engine.start()
            await until(lambda: here.state == there.state == "connected", "both are back")
            rosters = here.roster, there.roster
            for each in rosters:
                each._judge_owners_at = each._compare_at = 0.0  # as if the time for it had come
            await until(lambda: all(each._compare_at == NEVER for each in rosters), "both have looked who has left")
            for watcher in watchers:
                assert not any(told.get("leaves") for told in watcher.got)
                assert sum(len(told.get("joins", {})) + len(told.get("members", {})) for told in watcher.got) == 2
            for rooms in (here, there):
                assert len(await rooms.members("a")) == 2

    with running(kind) as engine:
        asyncio.run(main(engine.url, engine))


def test_a_process_that_was_stopped_for_too_long_comes_back(
    between_processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its members leave for the others, who take it for dead; when it goes on, they are there again."""

    async def main() -> None:
        async with processes(between_processes + "&presence_ttl_s=0.9") as (here, there):
            watcher = await enter(here)
            await enter(there, name="stopped")
            await until(lambda: seen_by(watcher) == {"stopped"}, "it is told")
            goes_on, backplane = asyncio.Event(), there.backplane
            hold = backplane._hold  # type: ignore[attr-defined]

            async def hold_later(entries: dict[tuple[str, str], bytes]) -> None:
                await goes_on.wait()
                await hold(entries)

            monkeypatch.setattr(backplane, "_hold", hold_later)
            await until(lambda: seen_by(watcher) == set(), "it is taken for dead")
            goes_on.set()
            await until(lambda: seen_by(watcher) == {"stopped"}, "it is back")

    run(main)


def test_a_reload_leaves_no_ghost(between_processes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only member comes back before the engine knows that it has left: phoenix's presence of one's own past."""

    async def main() -> None:
        async with processes(between_processes) as (here, _):
            before = await enter(here, name="before")
            release, may_release = here.backplane.release, asyncio.Event()

            async def release_later(*args: Any) -> None:
                await may_release.wait()
                await release(*args)

            monkeypatch.setattr(here.backplane, "release", release_later)
            here.leave(before.who, "ra")
            after = await enter(here, name="after")
            await until(lambda: seen_by(after) == {"after"}, "it sees itself only")
            may_release.set()
            assert [each.meta for each in await here.members("a")] == ["after"]

    run(main)


def test_no_change_is_told_before_the_state_that_it_changes(
    between_processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who enters has the state first, however long the engine takes to tell it: phoenix 2255 and 2763."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            await enter(there, name="early")
            held = here.backplane.held

            async def held_late(topic: str) -> dict[str, bytes]:
                answer = await held(topic)
                await enter(there, name="late")
                await until(lambda: len(here.topics["ra"].view.entries) > 0, "the news of it")  # type: ignore[union-attr]
                return answer

            monkeypatch.setattr(here.backplane, "held", held_late)
            watcher = await enter(here)
            await until(lambda: watcher.got, "who is there")
            assert (watcher.got[0]["type"], seen_by(watcher)) == ("presence_state", {"early", "late"})
            await enter(there, name="later")
            await until(lambda: seen_by(watcher) == {"early", "late", "later"}, "and what changes")

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_who_comes_back_with_resume_hears_who_is_there() -> None:
    """It joins by itself, so it tells what a join tells: after what was missed, and once."""

    class Both(Wall):
        presence_events = True

        @event
        async def on_show(self, room: str, name: str) -> dict[str, Any]:
            await self.track(name, room=room)
            return {}

    async def main() -> None:
        async with serving(Both) as client:
            ada, bob = await client(), await client()
            await ada.send("enter", room="doc")
            at = await ada.receive()
            await ada.call("show", room="doc", name="ada")
            await bob.call("enter", room="other")
            await bob.call("say", room="doc", n=1)
            await bob.send("resume", rooms={"doc": {"seq": 0, "epoch": at["epoch"]}, "plain": {"seq": 0, "epoch": ""}})
            told = await bob.receives(4)
            assert [each["type"] for each in told] == ["resumed", "said", "presence_state", "presence_state"]
            assert list(told[2]["members"].values()) == ["ada"]
            await ada.call("show", room="doc", name="ada lovelace")
            assert (await bob.receive())["type"] == "presence_diff"
            answer = await bob.call("resume", rooms={"doc": {"seq": 1, "epoch": at["epoch"]}})
            assert answer["rooms"]["doc"]["recovered"] is True
            await bob.call("exit", room="doc")
            await ada.call("show", room="doc", name="ada")
            assert (await bob.call("iam", user="bob"))["type"] == "iam"

    run(main)


def test_a_leave_that_overtakes_the_list_of_members(between_processes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read from the engine may be older than what the other process says meanwhile."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            leaver = await enter(there, name="leaver")
            await there.backplane.flush()  # its join is no news to who subscribes from now on
            held = here.backplane.held

            async def held_and_left(topic: str) -> dict[str, bytes]:
                answer = await held(topic)
                there.leave(leaver.who, "ra")
                await until(lambda: here.topics["ra"].view._left, "the news of it")  # type: ignore[union-attr]
                return answer

            monkeypatch.setattr(here.backplane, "held", held_and_left)
            watcher = await enter(here)
            await until(lambda: watcher.got, "who is there")
            assert [told["members"] for told in watcher.got] == [{}]

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_several_connections_of_one_user() -> None:
    """
    Each is a member of its own: closing one tab is no leave of the other (deepstream 491, liwords 320), two tabs do
    not count as one (djust 1613), and what is for the user reaches those that are left.
    """

    class Lobby(Wall):
        presence_events = True

        @event
        async def on_show(self, room: str, user: str) -> dict[str, Any]:
            await self.join(room)
            await self.track({"user": user}, room=room)
            await self.identify(user)
            return {"id": self.id}

    async def main() -> None:
        async with serving(Lobby) as client:
            first, second, watcher = await client(), await client(), await client()
            ids = [(await each.call("show", room="r", user="ada"))["id"] for each in (first, second)]
            await watcher.send("enter", room="r")
            assert (await watcher.receive())["members"] == {each: {"user": "ada"} for each in ids}
            assert len(await Lobby.hub.presence.list("r")) == 2
            await first.connection.close()
            while not (told := await watcher.receive()).get("leaves"):
                pass
            assert told["leaves"] == {ids[0]: {"user": "ada"}}
            await Lobby.hub.to_user("ada").send({"type": "private"})
            while (told := await second.receive())["type"] != "private":
                assert ids[1] not in told.get("leaves", {})

    run(main)


# ---- membership


@pytest.mark.usefixtures("everywhere")
def test_those_who_stay_miss_nothing_while_others_come_and_go() -> None:
    """Every number once and in order, however many join, leave and vanish: channels 1683."""

    async def main() -> None:
        async with serving(Wall) as client:
            writer, reader = await client(), await client()
            await reader.call("enter", room="r")
            stop = asyncio.Event()

            async def churn() -> None:
                while not stop.is_set():
                    passer_by = await client()
                    for _ in range(3):
                        await passer_by.call("enter", room="r")
                        await passer_by.call("exit", room="r")
                    await passer_by.call("enter", room="r")
                    passer_by.connection.transport.abort()

            churning = [asyncio.create_task(churn()) for _ in range(4)]
            for n in range(200):
                await writer.call("say", room="r", n=n)
            stop.set()
            await asyncio.gather(*churning)
            assert [each["n"] for each in await reader.receives(200)] == list(range(200))

    run(main)


def test_what_is_sent_right_after_a_join_arrives(between_processes: str) -> None:
    """From another process, at once, and every time: the join has waited for the engine."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            peer = Peer()
            for n in range(100):
                await here.join(peer.who, "ra")
                await there.broadcast(["ra"], message(n))
                await until(lambda: len(peer.got) > n, "it arrives")  # noqa: B023  # awaited in this round
                here.leave(peer.who, "ra")
            assert [n for n, _ in peer.numbers()] == list(range(100))

    run(main)


def test_a_join_that_comes_after_the_end_of_its_connection(everywhere: str) -> None:
    """It is quiet, and leaves nobody in the room: socket.io 4380 and 4067."""
    begun, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(Wall):
        @event
        async def on_late(self) -> None:
            begun.set()
            await go_on.wait()
            await self.join("r")

        async def on_disconnect(self, close_code: int) -> None:
            ended.set()

    async def main() -> None:
        async with serving(Slow) as client:
            gone = await client()
            await gone.call("enter", room="other")
            await gone.send("late")
            await begun.wait()
            gone.connection.transport.abort()
            everyone = rooms_for(everywhere)
            connection = next(iter(everyone.topics["rother"].live)).connection
            await until(lambda: connection.closed or not _is_open(connection), "the server has noticed")
            go_on.set()
            await until(ended.is_set, "on_disconnect")
            await until(lambda: not everyone.topics, "nobody is in any room")

    run(main)


@pytest.mark.parametrize("how", ["authorize", "subscribe", "open"])
def test_a_join_in_the_background_that_the_end_overtakes(
    how: str, everywhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of the application's own joins, and waits while its connection ends: nobody is left behind."""
    begun, go_on, ended, joined = asyncio.Event(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Busy(Wall):
        presence_events = True

        async def authorize(self, room: str) -> bool:
            if how == "authorize":
                begun.set()
                await go_on.wait()
            return True

        @event
        async def on_start(self) -> dict[str, Any]:
            self.task = asyncio.create_task(self.identify("u") if how == "open" else self.join("r"))
            self.task.add_done_callback(lambda task: (task.exception(), joined.set()))
            return {}

        async def on_disconnect(self, close_code: int) -> None:
            ended.set()

    async def main() -> None:
        everyone = rooms_for(everywhere)
        subscribe = everyone.backplane.subscribe

        async def subscribe_later(topic: str) -> None:
            begun.set()
            await go_on.wait()
            await subscribe(topic)

        async def open_later() -> None:
            begun.set()
            await go_on.wait()
            await opening()

        opening = everyone.open
        if how == "subscribe":
            monkeypatch.setattr(everyone.backplane, "subscribe", subscribe_later)
        elif how == "open":
            monkeypatch.setattr(everyone, "open", open_later)
        async with serving(Busy) as client:
            ada = await client()
            await ada.call("start")
            await begun.wait()
            await ada.connection.close()
            await until(ended.is_set, "on_disconnect")
            await asyncio.sleep(0)
            go_on.set()
            await until(joined.is_set, "the join has ended")
            assert not everyone.topics
            monkeypatch.undo()

    run(main)


def _is_open(connection: Any) -> bool:
    """Whether the server still has a peer; only our own says so, the others find out when they write."""
    return connection.wire is not None and connection.wire.open


@pytest.mark.parametrize("topic", ["ra", "rdoc"])
def test_a_join_that_is_cancelled_leaves_nobody_behind(url: str, topic: str) -> None:
    """Wherever it is at that moment, also while another one joins: litestar 4871 kept the subscriber for ever."""

    async def main() -> None:
        async with processes(url) as (here, _):
            for turns in range(30):
                peer, other = Peer(wants_presence=True), Peer()
                joining = [asyncio.create_task(here.join(each.who, topic)) for each in (peer, other)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                joining[0].cancel()
                await asyncio.gather(*joining, return_exceptions=True)
                assert list(here.topics) == [topic]
                assert other.who in here.topics[topic].live
                if joining[0].cancelled() and not peer.who.rooms:
                    assert peer.who not in here.topics[topic].live
                    assert peer.who not in here.topics[topic].behind
                await here.broadcast([topic], message(turns))
                await until(lambda: other.numbers(), "who has joined hears")  # noqa: B023  # awaited in this round
                here.leave_all(peer.who)
                here.leave_all(other.who)
                assert not here.topics
            backplane: Any = here.backplane
            await until(lambda: not backplane._topics, "the backplane knows of it")

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_who_resumes_twice_gets_nothing_twice() -> None:
    """
    Without a message between, and before the first one: socket.io 5419 repeated what it had recovered, 4888 recovered
    nothing without a message.
    """

    async def main() -> None:
        async with serving(Wall) as client:
            ada, bob = await client(), await client()
            await ada.send("enter", room="doc")
            at = await ada.receive()
            for seq in (0, 1, 1, 1):
                answer = await bob.call("resume", rooms={"doc": {"seq": seq, "epoch": at["epoch"]}})
                assert answer["rooms"]["doc"]["recovered"] is True
                if seq == 0:
                    await ada.call("say", room="doc", n=1)
                    assert (await bob.receive())["seq"] == 1
            await ada.call("say", room="doc", n=2)
            assert (await bob.receive())["seq"] == 2

    run(main)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    "name",
    [
        "a.b",
        "a b",
        "q\"uo'te",
        "{tag}",
        "%s",
        "..",
        "/",
        "\\",
        "é€",
        "\U0001f600",
        "=h",
        "r=3A1",
        "+1 e ",
        "-",
        "ä" * 200,
    ],
)
def test_a_room_may_have_any_name_that_is_allowed(name: str) -> None:
    """It hears itself, with and without history, and no other room hears it."""

    async def main() -> None:
        async with serving(Wall) as client:
            ada, bob, eve = await client(), await client(), await client()
            room = ("doc" + name)[:200]
            for each in (ada, bob):
                await each.call("enter", room=name)
                await each.call("enter", room=room)
            for other in (name[:-1] or "x", "r", "a", "doc"):
                await eve.call("enter", room=other)
            await ada.call("say", room=name, n=1)
            await ada.call("say", room=room, n=2)
            assert await bob.receives(2) == [
                {"type": "said", "n": 1},
                {"type": "said", "n": 2, "room": room, "seq": 1},
            ]
            await ada.call("say", room="r", n=3)
            assert (await eve.receive())["n"] == 3

    run(main)


def test_nothing_is_left_of_rooms_that_are_empty_also_with_history_and_presence(everywhere: str) -> None:
    """
    However the members went: socket.io 1599, 1736, 1808, 1816. What is kept of the past is the past itself, and of a
    room that has none, nothing.
    """

    async def main() -> None:
        async with serving(Wall) as client:
            ada = await client()
            for n in range(100):
                await ada.call("enter", room=f"r{n}")
                await ada.call("enter", room=f"doc{n}")
                if n % 2:
                    await ada.call("exit", room=f"r{n}")
                    await ada.call("exit", room=f"doc{n}")
            await ada.call("say", room="doc0", n=1)
            everyone = rooms_for(everywhere)
            assert len(everyone.topics) == 100
            ada.connection.transport.abort()
            await until(lambda: not everyone.topics, "the registry is empty")
            backplane: Any = everyone.backplane
            await until(lambda: len(backplane._topics) == 1, "the backplane knows of it")
            if everywhere.startswith("memory"):
                bus: Bus = backplane.bus
                assert (set(bus.subscribers), set(bus.entries)) == ({EVERYONE}, {PROCESSES})  # of the process itself
                assert set(bus.logs) == {"rdoc0"}

    run(main)


# ---- history


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_the_numbers_begin_anew_while_everybody_is_connected(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The engine is flushed (centrifugo calls it insufficient state): members are told of a gap and of the new position,
    and get what comes under it, the first message included; old positions recover nothing.
    """
    import redis.asyncio as redis

    server: EngineServer = request.getfixturevalue(f"{kind}_engine")
    url = f"{server.url}?prefix=anew"
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", url)

    async def main() -> None:
        async with serving(Wall) as client:
            ada, bob = await client(), await client()
            await ada.send("enter", room="doc")
            old = await ada.receive()
            await bob.call("enter", room="doc")
            for n in (1, 2, 3):
                await bob.call("say", room="doc", n=n)
            await ada.receives(4)
            if kind == "redis":
                async with redis.Redis(port=server.port) as admin:
                    await admin.flushall()
            else:
                await rooms_for(url).backplane._js.delete_stream("anew_log_rdoc")  # type: ignore[attr-defined]
            await bob.call("say", room="doc", n=4)
            gap, at, said = await ada.receives(3)
            assert gap == {"type": "gap", "room": "doc", "dropped": None}
            assert (at["type"], at["seq"], at["epoch"] != old["epoch"]) == ("room_position", 0, True)
            assert (said["n"], said["seq"]) == (4, 1)
            back = await client()
            await back.send("resume", rooms={"doc": {"seq": 1, "epoch": old["epoch"]}})
            assert (await back.receive())["rooms"] == {"doc": {"recovered": False, "seq": 1, "epoch": at["epoch"]}}

    run(main)


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_a_restart_of_the_engine_leaves_no_silent_hole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NATS has kept the past: the numbers go on. Redis without persistence has not: a gap, and a new position."""

    async def main(engine: EngineServer) -> None:
        monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", engine.url)
        async with serving(Wall) as client:
            ada, bob = await client(), await client()
            await ada.send("enter", room="doc")
            old = await ada.receive()
            await bob.call("say", room="doc", n=1)
            assert (await ada.receives(2))[1]["seq"] == 1
            engine.kill()
            await until(lambda: Wall.hub.status == "reconnecting", "the loss is noticed")
            engine.start()
            await until(lambda: Wall.hub.status == "connected", "it is back")
            await bob.call("say", room="doc", n=2)
            told = [await ada.receive()]
            while told[-1]["type"] != "said":
                told.append(await ada.receive())
            if kind == "nats":
                assert [each["seq"] for each in told] == [2]
            else:
                assert [each["type"] for each in told] == ["gap", "room_position", "said"]
                assert [told[1]["seq"], told[2]["seq"], told[1]["epoch"] == old["epoch"]] == [0, 1, False]

    with running(kind) as engine:
        asyncio.run(main(engine))


# ---- hubs


FORKS = """
import os, sys
from socketsundso import SyncHub
hub = SyncHub(sys.argv[1])
hub.to("r").send({"type": "m", "n": 1})
child = os.fork()
hub.to("r").send({"type": "m", "n": 2 if child else 3})
if child:
    os.waitpid(child, 0)
    hub.to("r").send({"type": "m", "n": 4})
hub.close()
"""


def test_a_hub_that_was_used_before_a_fork_works_after_it(between_processes: str) -> None:
    """In the parent and in the child, as Celery and gunicorn make them, and each closes what is its own."""

    async def main() -> None:
        async with processes(between_processes) as (here, _):
            peer = await enter(here, "rr")
            forking = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "ignore::DeprecationWarning",  # from Python 3.12 on: of threads
                "-c", FORKS, between_processes,
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
            )  # fmt: skip
            _, errors = await asyncio.wait_for(forking.communicate(), 30)
            assert (forking.returncode, errors) == (0, b"")
            await until(lambda: len(peer.numbers()) == 4, "all four arrive")
            assert sorted(n for n, _ in peer.numbers()) == [1, 2, 3, 4]

    run(main)


def test_one_hub_in_event_loop_after_event_loop(everywhere: str) -> None:
    """
    A module's own, called through `asyncio.run` or `async_to_sync` again and again: each loop has its own link, which
    ends with it, and no send meets a loop that is closed (channels_redis 312 and 332, celery-progress 106).
    """
    hub = Hub(everywhere)

    async def main() -> None:
        rooms, peer = rooms_for(everywhere), Peer()
        await rooms.join(peer.who, "rr")
        for n in range(5):
            await asyncio.to_thread(asyncio.run, hub.to("r").send({"type": "m", "n": n}))
            await until(lambda: len(peer.got) > n, "it arrives")  # noqa: B023  # awaited in this round
        if everywhere.startswith("redis"):
            async with asyncio.timeout(20):  # the engine sees their end a moment after we do
                while any(link["cmd"] == "publish" for link in await rooms.backplane._client.client_list()):  # type: ignore[attr-defined]
                    pass
        rooms.leave_all(peer.who)
        await rooms.aclose()

    run(main)
    assert len(hub._used) == 1


def test_one_hub_in_several_event_loops_at_once(everywhere: str) -> None:
    """Each may close it, which ends what is its own; the others go on."""
    hub = Hub(everywhere)
    go_on, closed = threading.Event(), threading.Event()

    async def early() -> None:
        await hub.to("r").send({"type": "m", "n": 1})
        assert go_on.wait(10)
        await hub.aclose()
        closed.set()

    async def main() -> None:
        rooms, peer = rooms_for(everywhere), Peer()
        await rooms.join(peer.who, "rr")
        other = asyncio.create_task(asyncio.to_thread(asyncio.run, early()))
        await until(lambda: peer.got, "it arrives")
        await hub.to("r").send({"type": "m", "n": 2})
        go_on.set()
        await until(closed.is_set, "the other loop has closed it")
        assert hub.status == "connected"
        await hub.to("r").send({"type": "m", "n": 3})
        await until(lambda: len(peer.got) == 3, "all arrive")
        await other
        await hub.aclose()
        rooms.leave_all(peer.who)
        await rooms.aclose()

    run(main)
    assert hub.status == "closed"


def test_however_many_ask_at_once_the_engine_has_a_few_links(redis_engine: EngineServer) -> None:
    """
    A storm of clients that come back would have opened a link each, up to the engine's "max number of clients
    reached" (djangosnippets.org 224, redisson 1708); they wait for one another instead.
    """

    async def main() -> None:
        async with processes(f"{redis_engine.url}?prefix=storm") as (here, _):
            peers = [Peer() for _ in range(300)]
            before = len(await here.backplane._client.client_list())  # type: ignore[attr-defined]
            await asyncio.gather(*(here.join(peer.who, f"rdoc{n}") for n, peer in enumerate(peers)))
            assert len(await here.backplane._client.client_list()) <= before + 20  # type: ignore[attr-defined]
            await until(lambda: all(peer.got for peer in peers), "all have a position")
            for peer in peers:
                here.leave_all(peer.who)

    run(main)


def test_a_hub_may_be_called_from_many_threads_and_closed_meanwhile(everywhere: str) -> None:
    """What was sent arrives once, in order per thread; a call that the end overtakes says so, and no thread hangs."""

    async def main() -> None:
        rooms, peer = rooms_for(everywhere), Peer()
        await rooms.join(peer.who, "rr")
        hub = SyncHub(everywhere)
        waiting = threading.Event()

        def talk(thread: int) -> None:
            for n in range(20):
                hub.to("r").send({"type": "m", "n": n, "seq": thread})

        async def never() -> None:
            waiting.set()
            await asyncio.Event().wait()

        def call_for_ever() -> None:
            with pytest.raises(RuntimeError, match="closed"):
                hub._run(never())

        await asyncio.gather(*(asyncio.to_thread(talk, thread) for thread in range(8)))
        await until(lambda: len(peer.got) == 160, "all arrive")
        for thread in range(8):
            assert [n for n, seq in peer.numbers() if seq == thread] == list(range(20))
        overtaken = asyncio.create_task(asyncio.to_thread(call_for_ever))
        await until(waiting.is_set, "it is under way")
        await asyncio.to_thread(hub.close)
        await asyncio.wait_for(overtaken, 10)
        rooms.leave_all(peer.who)
        await rooms.aclose()

    run(main)


def test_a_call_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `timeout_s`, with a TimeoutError, and nothing of it goes on."""
    cancelled = threading.Event()

    async def hang(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(Hub, "_send", hang)
    with SyncHub("memory://too-long", timeout_s=0.05) as hub:
        with pytest.raises(TimeoutError):
            hub.to("r").send({"type": "m"})
        assert cancelled.wait(10)
