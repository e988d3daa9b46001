"""What a process tells whoever watches it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from socketsundso import Endpoint, event
from socketsundso.observing import Load
from socketsundso.telemetry import prometheus, watching
from socketsundso.telemetry.meters import BOUNDS, ONE_IN
from socketsundso.testing import connect

Read = Callable[[], Awaitable[dict[str, Any]]]


def make() -> type[Endpoint]:
    """A class of its own for each test."""

    class Chat(Endpoint):
        backplane = "memory://watching"

        async def authenticate(self) -> Any:
            return {"sub": "ada", "secret": "hush"}

        @event
        async def on_say(self, msg: str) -> dict[str, str]:
            return {"msg": msg}

        @event
        async def on_enter(self, room: str) -> dict[str, str]:
            await self.join(room)
            return {"room": room}

    return Chat


@pytest.fixture
def read() -> Iterator[Read]:
    yield watching.watch()
    watching.unwatch()


def told(report: dict[str, Any], metric: str, **labels: str) -> Any:
    """The one sample of these labels; endpoints of other tests may be alive, too."""
    samples = [each for each in report["metrics"][metric] if each.get("endpoint", "Chat") == "Chat"]
    (sample,) = [each for each in samples if labels.items() <= each.items()]
    return sample


def test_what_happens_on_endpoints(read: Read) -> None:
    """Also on those that are made after it has begun; in terms of the exporters, and as JSON."""

    async def main() -> None:
        async with connect(make()) as ws:
            await ws.ask("say", msg="hi")
            await ws.send("shout")
            await ws.expect("error")
            await ws.ask("enter", room="lobby")
            report = json.loads(json.dumps(await read()))
        assert told(report, "connections", endpoint="Chat")["value"] == 1
        assert told(report, "received_messages", endpoint="Chat", event="say")["value"] == 1
        assert told(report, "errors", endpoint="Chat")["code"] == "unknown_event"
        seconds = told(report, "handler_seconds", event="say", outcome="ok")
        assert (sum(seconds["buckets"]), len(seconds["buckets"])) == (1, len(BOUNDS) + 1)
        assert report["bounds"] == list(BOUNDS)
        assert report["rooms"] == {
            "count": 1,
            "largest": [{"room": "lobby", "backplane": "memory", "members": 1}],
        }
        assert report["slow_readers"] == {"count": 0, "slowest": []}

    asyncio.run(main())


def test_the_largest_rooms(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a few are named; how many there are is told. A user's own topic is no room."""
    monkeypatch.setattr(watching, "LARGEST", 2)
    monkeypatch.setattr(watching, "AT_ONCE", 2)

    class Chat(make()):  # type: ignore[misc]
        async def on_connect(self) -> None:
            await super().on_connect()
            await self.identify("ada")

    async def main() -> None:
        async with connect(Chat) as ws, connect(Chat) as other:
            for room in ("a", "b", "c"):
                await ws.ask("enter", room=room)
            await other.ask("enter", room="b")
            rooms = (await read())["rooms"]
            assert rooms["count"] == 3
            assert [(each["room"], each["members"]) for each in rooms["largest"]] == [("b", 2), ("c", 1)]

    asyncio.run(main())


def test_slow_readers(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has something waiting, the most first: named, with what waits, and nothing that was said or is secret."""
    loads = iter([Load(), Load(unsent_bytes=100_000), Load(1, 5), Load(3, 200_000), Load(unsent_bytes=64 << 10)])
    monkeypatch.setattr(watching, "LARGEST", 2)
    monkeypatch.setattr(Endpoint, "current_load", property(lambda self: next(loads)))
    chat = make()

    async def main() -> None:
        async with connect(chat), connect(chat), connect(chat), connect(chat), connect(chat):
            slow = (await read())["slow_readers"]
        assert slow["count"] == 3
        assert [each["queued_bytes"] + each["unsent_bytes"] for each in slow["slowest"]] == [200_000, 100_000]
        first = slow["slowest"][0]
        assert (first["endpoint"], first["user"], first["queued_messages"]) == ("Chat", "ada", 3)
        assert first["connection"]
        assert "hush" not in str(slow)

    asyncio.run(main())


@pytest.mark.parametrize("first", ["prometheus", "watching"])
def test_beside_prometheus(first: str) -> None:
    """Both count everything, whoever began, also of an event that comes too often for each call to be looked at."""
    chat = make()

    def count(name: str) -> float | None:
        labels = {"endpoint": "Chat", "event": "say"}
        return REGISTRY.get_sample_value(f"socketsundso_{name}_messages_total", labels)

    async def main(read: Read) -> None:
        async with connect(chat) as ws:
            for number in range(5000):
                await ws.ask("say", msg=str(number))
            report = await read()
            for name in ("received", "sent"):
                watched = told(report, f"{name}_messages", event="say")["value"]
                assert watched == count(name) == pytest.approx(5000, abs=ONE_IN)
            assert told(report, "received_messages", event="say")["value"] == 5000

    begin = [watching.watch, lambda: prometheus.instrument(chat)]
    reads = [each() for each in (begin if first == "watching" else begin[::-1])]
    try:
        asyncio.run(main(next(each for each in reads if each is not None)))
        prometheus.uninstrument()
        asyncio.run(_goes_on(chat, next(each for each in reads if each is not None)))
    finally:
        prometheus.uninstrument()
        watching.unwatch()


async def _goes_on(chat: type[Endpoint], read: Read) -> None:
    """When the other one has stopped to count, this one still does."""
    async with connect(chat) as ws:
        before = told(await read(), "received_messages", event="say")["value"]
        await ws.ask("say", msg="more")
        assert told(await read(), "received_messages", event="say")["value"] == before + 1


def test_others_are_served_while_it_reads(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at some connections at a time: what is due meanwhile is not late by all of them."""
    monkeypatch.setattr(watching, "AT_ONCE", 2)
    turns = []

    async def main() -> None:
        items = list(range(10))
        looking = asyncio.ensure_future(watching._each(items, lambda item: turns.append("look") or item))
        while not looking.done():
            turns.append("other")
            await asyncio.sleep(0)
        assert looking.result() == items

    asyncio.run(main())
    assert "".join(turn[0] for turn in turns).count("llo") >= 4
