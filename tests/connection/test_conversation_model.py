"""
Random conversations against what is promised: one end for each request, turns kept, bounds kept, items in order.

A peer in memory asks, cancels and lets handlers go on, in any order; then everything is let go, and what came back is
compared with what was asked.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from socketsundso import Endpoint, event

KINDS = ("serial", "late", "two", "key", "stream", "endless")
LIMIT = 2
MAX_STREAMS = 3


class Talk(Endpoint):
    """Handlers wait at the gate of their request, as often as it says, and note who runs beside them."""

    max_streams = MAX_STREAMS
    world: World

    async def pause(self, ref: int, times: int) -> None:
        for _ in range(times):
            await self.world.gate(ref).wait()
            await asyncio.sleep(0)

    async def work(self, group: Any, limit: int, ref: int, times: int) -> dict[str, int]:
        running = self.world.running
        running[group] += 1
        assert running[group] <= limit, f"{running[group]} of {group} at once"
        self.world.begun.append((group, ref))
        try:
            await self.pause(ref, times)
        finally:
            running[group] -= 1
        return {"of": ref}

    @event
    async def on_serial(self, n: int, times: int) -> dict[str, int]:
        return await self.work("serial", 1, n, times)

    @event(timeout_s=1000)
    async def on_late(self, n: int, times: int) -> dict[str, int]:
        return await self.work("serial", 1, n, times)

    @event(concurrent=LIMIT)
    async def on_two(self, n: int, times: int) -> dict[str, int]:
        return await self.work("two", LIMIT, n, times)

    @event(serial_by="key")
    async def on_key(self, n: int, times: int, key: int) -> dict[str, int]:
        return await self.work(("key", key), 1, n, times)

    @event
    async def on_stream(self, n: int, times: int) -> AsyncIterator[dict[str, int]]:
        self.world.running["stream"] += 1
        assert self.world.running["stream"] <= MAX_STREAMS
        try:
            for number in range(times):
                await self.pause(n, 1)
                yield {"n": number}
        finally:
            self.world.running["stream"] -= 1

    @event
    async def on_endless(self, n: int, times: int) -> AsyncIterator[dict[str, int]]:
        number = 0
        while not self.world.gate(n).is_set():
            yield {"n": number}
            number += 1
            await asyncio.sleep(0)


class World:
    """The peer, and the gates of its requests."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.answers: list[dict[str, Any]] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.running: Counter[Any] = Counter()
        self.begun: list[tuple[Any, int]] = []

    def gate(self, ref: int) -> asyncio.Event:
        return self.gates.setdefault(ref, asyncio.Event())

    def say(self, **message: Any) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            self.answers.append(json.loads(message["text"]))

    @property
    def ends(self) -> list[dict[str, Any]]:
        return [each for each in self.answers if "n" not in each]


ask = st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 1))
steps = st.one_of(
    ask,
    ask,
    st.tuples(st.just("cancel"), st.integers(0, 40), st.just(0)),
    st.tuples(st.just("open"), st.integers(0, 40), st.just(0)),
    st.tuples(st.just("turns"), st.integers(1, 5), st.just(0)),
)


async def conversation(script: list[tuple[str, int, int]]) -> tuple[World, dict[int, str]]:
    world = World()
    app = type("App", (Talk,), {"world": world})
    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []}
    world.incoming.put_nowait({"type": "websocket.connect"})
    serving = asyncio.ensure_future(app(scope, world.incoming.get, world.send))
    asked: dict[int, str] = {}
    for what, number, key in script:
        if what == "cancel":
            world.say(type="cancel", ref=number)
        elif what == "open":
            world.gate(number).set()
        elif what == "turns":
            for _ in range(number):
                await asyncio.sleep(0)
        else:
            ref = len(asked)
            asked[ref] = what
            world.say(type=what, ref=ref, n=ref, times=number, **({"key": key} if what == "key" else {}))
    for ref in asked:
        world.gate(ref).set()
    async with asyncio.timeout(20):
        while len(world.ends) < len(asked):
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    world.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    async with asyncio.timeout(20):
        await serving
    return world, asked


@settings(max_examples=300)
@given(st.lists(steps, max_size=40))
def test_whatever_is_said_each_request_has_one_end(script: list[tuple[str, int, int]]) -> None:
    """The right one, in the promised order; nothing runs any more, and nobody was hurt."""
    world, asked = asyncio.run(conversation(script))
    assert Counter(each["ref"] for each in world.ends) == Counter(asked.keys())
    cancelled = {number for what, number, _ in script if what == "cancel"}
    for each in world.ends:
        kind = asked[each["ref"]]
        if each["type"] == "error":
            expected = "too_many_streams" if kind in ("stream", "endless") else "cancelled"
            assert each["code"] == expected
            assert expected != "cancelled" or each["ref"] in cancelled
        elif kind in ("stream", "endless"):
            assert each == {"type": "complete", "ref": each["ref"]}
        else:
            assert each == {"type": kind, "of": each["ref"], "ref": each["ref"]}
    ended: set[int] = set()
    items: Counter[int] = Counter()
    for each in world.answers:
        ref = each["ref"]
        assert ref not in ended
        if "n" in each:
            assert each["n"] == items[ref]
            items[ref] += 1
        else:
            ended.add(ref)
    replied = [each["ref"] for each in world.ends if asked[each["ref"]] in ("serial", "late") and "of" in each]
    assert replied == sorted(replied)
    for group in ("serial", "two", ("key", 0), ("key", 1)):
        begun = [ref for each, ref in world.begun if each == group]
        assert begun == sorted(begun)
    assert not +world.running
