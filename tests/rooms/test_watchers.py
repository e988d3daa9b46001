"""Who is told that the backplane goes away, comes back, or is closed: members, whatever their rooms keep, and hubs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from socketsundso import Endpoint, Hub, SyncHub, event
from socketsundso.rooms.local import Rooms, rooms_for
from socketsundso.rooms.watchers import Watchers

from ..backplanes.listener import until
from .peer import cut_off
from .serving import run, serving


class Quiet(Endpoint):
    """Has no `on_backplane` of its own."""

    @event
    async def on_enter(self) -> dict[str, Any]:
        await self.join("r")
        return {"type": "entered"}

    @event
    async def on_iam(self) -> dict[str, Any]:
        await self.identify("ada")
        return {}

    @event
    async def on_nothing(self) -> dict[str, Any]:
        return {}


class Banner(Quiet):
    """Tells its client, as an answer would be told."""

    async def on_backplane(self, status: str) -> None:
        await self.respond({"type": "backplane", "status": status})


@pytest.fixture
def engine(between_processes: str, both_protocols: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backplane of every endpoint."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", between_processes)
    return between_processes


@asynccontextmanager
async def outage(url: str) -> AsyncIterator[None]:
    async with cut_off(rooms_for(url)):
        yield


def test_members_of_rooms_without_history_are_told_of_an_outage(engine: str) -> None:
    """That it begins and ends; also who has only identified itself, and who comes meanwhile; nobody without a room."""

    async def main() -> None:
        async with serving(Banner) as client:
            ada, user, late, outside = [await client() for _ in range(4)]
            await ada.call("enter")
            await user.call("iam")
            await outside.call("nothing")
            async with outage(engine):
                away = {"type": "backplane", "status": "reconnecting"}  # and no `ref` of whoever opened it
                assert await ada.receive() == await user.receive() == away
                await late.send("enter")
                assert {(await late.receive())["type"] for _ in range(2)} == {"entered", "backplane"}
            for each in (ada, user, late):
                assert (await each.receive())["status"] == "connected"
            await outside.send("nothing", ref=1)
            assert await outside.receive() == {"type": "nothing", "ref": 1}

    run(main)


def test_who_does_not_override_the_hook_pays_nothing(engine: str) -> None:
    """It is not among those who are told; nor is anybody who has left."""

    async def main() -> None:
        async with serving(Quiet) as client, serving(Banner) as other:
            quiet, banner = await client(), await other()
            await quiet.call("enter")
            watchers = rooms_for(engine).watchers
            assert not watchers._connections
            await banner.call("enter")
            assert len(watchers._connections) == 1
            await banner.connection.close()
            await until(lambda: not watchers._connections, "nobody is told any more")

    run(main)


def test_a_hook_that_raises_or_waits_harms_nobody(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    What it raises is logged; the others are told; its own next call waits for the one before; that the peer has gone
    is no news; and it may be sync.
    """
    go_on = asyncio.Event()
    calls: list[str] = []

    class Broken(Quiet):
        async def on_backplane(self, status: str) -> None:
            raise RuntimeError(f"broken while {status}")

    class Slow(Quiet):
        async def on_backplane(self, status: str) -> None:
            calls.append(f"{status} begins")
            await go_on.wait()
            calls.append(f"{status} ends")

    class Sync(Quiet):
        def on_backplane(self, status: str) -> None:  # type: ignore[override]  # may be sync
            calls.append(f"sync {status}")

    class Gone(Quiet):
        async def on_backplane(self, status: str) -> None:
            await self.close()
            await self.send({"type": "too_late"})

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for endpoint in (Broken, Slow, Sync, Gone, Banner):
                client = await (await stack.enter_async_context(serving(endpoint)))()
                await client.call("enter")
            async with outage(engine):
                assert (await client.receive())["status"] == "reconnecting"
            assert (await client.receive())["status"] == "connected"
            await until(lambda: "sync connected" in calls, "the sync one is told")
            assert [each for each in calls if "sync" not in each] == ["reconnecting begins"]
            go_on.set()
            slow = ["reconnecting begins", "reconnecting ends", "connected begins", "connected ends"]
            await until(lambda: [each for each in calls if "sync" not in each] == slow, "one after the other")
            assert [each for each in calls if "sync" in each] == ["sync reconnecting", "sync connected"]

    with caplog.at_level(logging.ERROR):
        run(main)
    broken = [str(each.exc_info[1]) for each in caplog.records if each.exc_info]
    assert broken == ["broken while reconnecting", "broken while connected"]


def test_a_hub_tells_its_callbacks(between_processes: str, caplog: pytest.LogCaptureFixture) -> None:
    """Sync and async ones, from the first "connected" to "closed"; those of another URL, and of a closed hub, not."""
    seen: list[str] = []
    slowly: list[str] = []
    elsewhere: list[str] = []
    closed: list[str] = []

    async def note(status: str) -> None:
        await asyncio.sleep(0)
        slowly.append(status)

    async def main() -> None:
        hub, other, done = Hub(between_processes), Hub("memory://elsewhere"), Hub(between_processes)
        hub.on_status(seen.append)

        @hub.on_status
        def broken(status: str) -> None:
            raise RuntimeError("broken")

        assert hub.on_status(note) is note
        other.on_status(elsewhere.append)
        async with hub, other, done:
            done.on_status(closed.append)
            await done.aclose()
            await done.aclose()
            async with cut_off(rooms_for(between_processes)):
                await until(lambda: seen[1:] == ["reconnecting"], "the loss")
                assert hub.status == "reconnecting"
            await until(lambda: seen[2:] == ["connected"], "it is back")
            rooms_for(between_processes).on_restored()  # what is held had lapsed; the link was there all the time
        assert seen == slowly == ["connected", "reconnecting", "connected", "closed"]
        assert (elsewhere, closed) == (["connected", "closed"], ["closed"])
        async with hub:
            await until(lambda: len(seen) == 5, "open again")
        assert seen[4:] == ["connected", "closed"]

    run(main)
    assert [str(each.exc_info[1]) for each in caplog.records if each.exc_info] == ["broken"] * 6


def test_a_hub_whose_endpoints_use_the_backplane_hears_of_it(engine: str) -> None:
    """`Chat.hub.on_status(...)` at import, though nobody ever calls the hub itself; closed, it hears no more."""
    seen: list[str] = []

    class Chat(Quiet):
        pass

    Chat.hub.on_status(seen.append)

    async def main() -> None:
        async with serving(Chat) as client:
            ada = await client()
            await ada.call("enter")
            await until(lambda: seen == ["connected"], "it is open")
            async with outage(engine):
                await until(lambda: seen[1:] == ["reconnecting"], "the loss")
            await until(lambda: seen[2:] == ["connected"], "it is back")
            await Chat.hub.aclose()
            assert seen[3:] == ["closed"]
            async with outage(engine):
                pass
            async with Chat.hub:
                await until(lambda: seen[4:] == ["connected"], "open again")

    run(main)


def test_callbacks_move_with_the_hub_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment may name the backplane after the import."""
    seen: list[str] = []

    class Chat(Quiet):
        pass

    Chat.hub.on_status(seen.append)
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", "memory://named-later")

    async def main() -> None:
        async with Chat.hub:
            await until(lambda: seen == ["connected"], "it is open")

    run(main)


def test_a_sync_hub_tells_from_its_own_thread(between_processes: str) -> None:
    """Its callbacks are called there, and `close` waits for the last one."""
    seen: list[tuple[str, str]] = []
    hub = SyncHub(between_processes)
    hub.on_status(lambda status: seen.append((status, threading.current_thread().name)))
    with hub:
        hub.to("r").send({"type": "m"})
    assert seen == [("connected", "socketsundso SyncHub"), ("closed", "socketsundso SyncHub")]


def test_an_engine_that_is_away_at_the_beginning_is_heard_of_when_it_comes(
    between_processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that opens meanwhile is told that it is away, and then that it is there."""
    seen: list[str] = []

    async def main() -> None:
        rooms = rooms_for(between_processes)
        backplane: Any = rooms.backplane
        connect = backplane._connect

        async def refuse() -> None:
            raise OSError("not started yet")

        backplane._connect = refuse
        hub = Hub(between_processes)
        hub.on_status(seen.append)
        async with hub:
            await until(lambda: seen == ["reconnecting"], "it is away")
            backplane._connect = connect
            await until(lambda: seen == ["reconnecting", "connected"], "it is there")

    run(main)


def test_a_callback_may_close_what_tells_it() -> None:
    """It waits for nothing that waits for it."""

    async def main() -> None:
        watchers, seen = Watchers("memory://closing"), []

        async def close(status: str) -> None:
            seen.append(status)
            watchers.tell("closed")
            await watchers.settle()

        watchers.add(close)
        watchers.tell("connected")  # that it is open is no news for who has it opened
        watchers.tell("reconnecting")
        await until(lambda: not watchers._latest, "all is done")
        assert seen == ["reconnecting", "closed"]

    run(main)


def test_rooms_tell_nobody_of_what_has_not_changed() -> None:
    """A close of what was never open."""

    async def main() -> None:
        seen: list[str] = []
        rooms = Rooms("memory://never-open")
        hub = Hub("memory://never-open")
        hub.on_status(seen.append)
        await rooms.aclose()
        assert seen == []

    run(main)
