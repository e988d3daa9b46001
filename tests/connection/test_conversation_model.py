"""
Random conversations over real servers, against what is promised of them: one end for each request and nothing behind
it, turns and bounds kept, items in order both ways, each answer with who asked for it, and nothing left once the peers
have gone.

A history is made of a seed alone. Up to three peers ask, upload, answer, cancel, let handlers go on, stop reading, say
what is wrong and leave, in any order; the clock is put forward. Then everything is let go, and what came back is
compared with what was asked. Peers and server share an event loop, and a step waits for turns of it: never for time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import random
import socket
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from socketsundso import Endpoint, EventError, event
from socketsundso.connection import requests
from socketsundso.connection.calls import TIMES
from socketsundso.connection.requests import Backlog
from socketsundso.connection.uploads import CREDIT
from socketsundso.server import WebSocketProtocol
from tests.conftest import Clock
from tests.server.serving import BINARY, CLOSE, TEXT, Served, closing, masked, request, serving

MAX_STREAMS = 3
LIMIT = 2
TIMEOUT_S = 5.0
MAX_HELD = 6  # in place of 64, so that reading is often paused
GRACE_S = 30.0  # longer than a test waits for what should be over
BUFFER_BYTES = 16 << 10  # of the kernel, on each side of a connection
ITEM_BYTES = 16 << 10  # of a large one
FRESH = 1000  # the first `ref` that no two requests have
MOST_AHEAD = 32  # large items that buffers hold, and then some
OVERRUN = CREDIT + 9  # items at once: more than the credit, also where a handler has taken some meanwhile
SERIAL, LIMITED = {"note", "ask", "quiz"}, {"ask", "hurry", "brief"}
STREAMS, UPLOADS, QUIZZES = {"count", "brief"}, {"store"}, {"quiz", "poll"}
KINDS = ("note", "ask", "search", "hurry", "post", "count", "brief", "store", "store", "quiz", "poll")
NO_END = {"item", "more", "which", "cancel"}  # what is heard beside the ends of requests
ANSWERS = {"right": b'"answer":%d', "wrong": b'"answer":"?%d"', "declined": b'"error":{"code":"no","message":"%d"}'}
FAILED = {"wrong": "invalid_answer", "declined": "call_refused"}


class Plan(NamedTuple):
    """A request, and what its handler does."""

    kind: str
    ref: int | None
    key: int
    waits: int  # so often at its gate; a stream for each item, if at all
    items: int  # that it gives, or that it is to be given
    size: int  # of an item that it gives
    ends: str  # "replies", "acknowledged", "raises", or "invalid": it never begins; "spoilt": by its last item
    stopped: str  # what it does when it is cancelled: "ends", "answers", "lingers", "fails"


class Gate:
    """Where a handler waits; each opening lets it pass once."""

    def __init__(self, world: World) -> None:
        self._world, self._opened = world, asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def passed(self) -> None:
        await self._opened.wait()
        if not self._world.is_ending:
            self._opened.clear()


class World:
    """What one history knows: its requests, which of their handlers run, and in which order they began."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.gates: list[Gate] = []
        self.opened: set[int] = set()  # by a step, and not in the end
        self.peers: list[Talker] = []
        self.running: Counter[Any] = Counter()
        self.begun: dict[Any, list[int]] = defaultdict(list)
        self.taken: Counter[int] = Counter()  # items of uploads
        self.endpoints: list[weakref.ref[Talk]] = []
        self.departed = 0  # calls of `on_disconnect`
        self.is_ending = False
        self.wrong: list[str] = []

    def add(self, plan: Plan) -> int:
        self.plans.append(plan)
        self.gates.append(Gate(self))
        return len(self.plans) - 1

    def let_go(self) -> None:
        self.is_ending = True
        for gate in self.gates:
            gate.open()

    @contextlib.contextmanager
    def runs(self, n: int, limit: int, *group: Any) -> Iterator[None]:
        self.begun[group].append(n)
        self.running[group] += 1
        if self.running[group] > limit:
            self.wrong.append(f"{self.running[group]} of {group} at once")
        try:
            yield
        finally:
            self.running[group] -= 1


class Failed(Exception):
    """Of a handler that was cancelled."""


class Which(BaseModel):
    n: int


async def nothing_more() -> None: ...


class Talk(Endpoint):
    calls = {Which: int}
    max_streams = MAX_STREAMS
    disconnect_grace_s = GRACE_S
    acknowledge = True
    worlds: list[World] = []  # the history that is told, if any

    def __init__(self, websocket: Any) -> None:
        super().__init__(websocket)
        self.world = self.worlds[-1]
        self.peer_name = websocket.url.path
        self.world.endpoints.append(weakref.ref(self))

    async def on_disconnect(self, close_code: int) -> None:
        self.world.departed += 1
        await super().on_disconnect(close_code)

    async def work(
        self, n: int, limit: int, *group: Any, then: Callable[[], Awaitable[None]] = nothing_more
    ) -> dict[str, int] | None:
        plan, gate = self.world.plans[n], self.world.gates[n]
        with self.world.runs(n, limit, self.peer_name, *group):
            try:
                for _ in range(plan.waits):
                    await gate.passed()
                await then()
            except asyncio.CancelledError:
                if plan.stopped == "answers":
                    return {"n": n}
                await self.stop(plan, gate)
                raise
        if plan.ends == "raises":
            raise EventError("sorry")
        return {"n": n} if plan.ends == "replies" else None

    async def stop(self, plan: Plan, gate: Gate) -> None:
        if plan.stopped == "lingers":
            await gate.passed()
        elif plan.stopped == "fails":
            raise Failed

    async def items(self, n: int) -> AsyncIterator[dict[str, Any]]:
        plan, gate = self.world.plans[n], self.world.gates[n]
        with self.world.runs(n, MAX_STREAMS, self.peer_name, "stream"):
            try:
                for number in range(plan.items):
                    if plan.waits:
                        await gate.passed()
                    self.check_ahead(n, number, plan)
                    yield {"n": n, "item": number, "filling": "x" * plan.size}
            except asyncio.CancelledError:
                await self.stop(plan, gate)
                if plan.stopped == "answers":
                    yield {"n": n, "item": -1}
                raise
        if plan.ends == "raises":
            raise EventError("sorry")

    def check_ahead(self, n: int, number: int, plan: Plan) -> None:
        peer = next(each for each in self.world.peers if each.name == self.peer_name)
        if plan.size and number - peer.items[n] > MOST_AHEAD and peer.transport is not None:
            self.world.wrong.append(f"{n} is at {number}, its peer at {peer.items[n]}")

    async def ask_back(self, n: int) -> None:
        if await self.call(Which(n=n), returns=int, timeout_s=TIMEOUT_S) != n:
            self.world.wrong.append(f"{n} has another one's answer")

    async def take(self, n: int, rows: AsyncIterator[int]) -> None:
        async for row in rows:
            if row != self.world.taken[n]:
                self.world.wrong.append(f"{n} was given {row} in place of {self.world.taken[n]}")
            self.world.taken[n] += 1

    @event
    async def on_note(self, n: int) -> dict[str, int] | None:
        return await self.work(n, 1, "serial")

    @event(timeout_s=TIMEOUT_S)
    async def on_ask(self, n: int) -> dict[str, int] | None:
        return await self.work(n, 1, "serial")

    @event(concurrent=LIMIT)
    async def on_search(self, n: int) -> dict[str, int] | None:
        return await self.work(n, LIMIT, "search")

    @event(concurrent=LIMIT, timeout_s=TIMEOUT_S)
    async def on_hurry(self, n: int) -> dict[str, int] | None:
        return await self.work(n, LIMIT, "hurry")

    @event(serial_by="key", concurrent=LIMIT)
    async def on_post(self, n: int, key: int) -> dict[str, int] | None:
        return await self.work(n, 1, "post", key)

    @event
    async def on_count(self, n: int) -> AsyncIterator[dict[str, Any]]:
        async with contextlib.aclosing(self.items(n)) as items:
            async for item in items:
                yield item

    @event(timeout_s=TIMEOUT_S)
    async def on_brief(self, n: int) -> AsyncIterator[dict[str, Any]]:
        async with contextlib.aclosing(self.items(n)) as items:
            async for item in items:
                yield item

    @event
    async def on_store(self, n: int, rows: AsyncIterator[int]) -> dict[str, int] | None:
        return await self.work(n, MAX_STREAMS, "store", then=functools.partial(self.take, n, rows))

    @event
    async def on_quiz(self, n: int) -> dict[str, int] | None:
        return await self.work(n, 1, "serial", then=functools.partial(self.ask_back, n))

    @event(concurrent=LIMIT)
    async def on_poll(self, n: int) -> dict[str, int] | None:
        return await self.work(n, LIMIT, "poll", then=functools.partial(self.ask_back, n))


class Talker(asyncio.Protocol):
    """One peer: what it asked, and what it heard."""

    transport: asyncio.Transport | None = None  # while it is connected

    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world
        self.asked: list[int] = []
        self.cancelled: set[int] = set()  # those that were under way, as far as the peer knows
        self.hurried: set[int] = set()  # those that the clock was put forward after
        self.crowded: set[int] = set()  # streams that may have been one too many
        self.is_prompt = True  # whatever it says is read at once
        self.heard: list[dict[str, Any]] = []
        self.items: Counter[int] = Counter()
        self.uploads: dict[int, int] = {}  # items that are still to be sent, by request; less than none: it is whole
        self.credit: Counter[int] = Counter()  # of each upload
        self.questions: dict[str, int] = {}  # that are to be answered, and the requests that they are of
        self.answered: dict[int, str] = {}  # how
        self.told: set[str] = set()  # questions that it knows of, whether or not they are answered
        self.overran: set[int] = set()  # uploads that were sent more than there was credit for
        self.accepted = self.has_left = self.is_slow = False
        self.left_early = False  # and nobody answers it
        self._data = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(request(self.name))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.accepted and (end := self._data.find(b"\r\n\r\n")) > 0:
            assert self._data.startswith(b"HTTP/1.1 101")
            self.accepted = True
            del self._data[: end + 4]
        while self.accepted and self._hears():
            pass

    def _hears(self) -> bool:
        """Whether there was a whole frame."""
        data = self._data
        if len(data) < 4:
            return False
        start, size = 2, data[1]
        if size == 126:
            start, size = 4, int.from_bytes(data[2:4])
        if len(data) < start + size:
            return False
        payload = bytes(data[start : start + size])
        if data[0] == 0x81:
            self.heard.append(message := json.loads(payload))
            self._understand(message)
        elif data[0] == 0x88 and not self.has_left:
            self.has_left = True
            self.say(masked(CLOSE, payload))
        del data[: start + size]
        return True

    def _understand(self, message: dict[str, Any]) -> None:
        kind, ref = message["type"], message.get("ref")
        if "item" in message:
            self.items[message["n"]] += 1
        elif kind == "which":
            if ref in self.told:
                self.world.wrong.append(f"{ref} is asked when it is over")
            self.questions[ref] = message["n"]
            self.told.add(ref)
        elif kind == "cancel":  # a slow peer may not have heard the question
            self.told.add(ref)
            self.questions.pop(ref, None)
        elif kind == "more":
            n = next(n for n in self.uploads if self.world.plans[n].ref == ref)
            self.credit[n] += message["items"]
            if self.credit[n] > CREDIT + self.world.taken[n]:
                self.world.wrong.append(f"{n} has taken {self.world.taken[n]} and granted {self.credit[n]}")
        if self.world.is_ending:
            self.finish()

    def finish(self) -> None:
        """Answer, and send, whatever is waited for."""
        if self.has_left:
            return
        for ref in tuple(self.questions):
            self.answer(ref, "right")
        for n in self.uploads:
            self.feed(n, OVERRUN)

    def answer(self, ref: str, how: str) -> None:
        n = self.questions.pop(ref)
        self.answered[n] = how
        self.say(masked(TEXT, b'{"type":"reply","ref":"%b",%b}' % (ref.encode(), ANSWERS[how] % n), mask=bytes(4)))

    def feed(self, n: int, most: int, beyond: int = 0) -> None:
        """Send items, as many as there is credit for, and so many beyond that; then their end."""
        plan, left = self.world.plans[n], self.uploads[n]
        for _ in range(min(most, left, self.credit[n] + beyond - (plan.items - left))):
            row = b'"?"' if plan.ends == "spoilt" and left == 1 else b"%d" % (plan.items - left)
            self.say(masked(TEXT, b'{"type":"item","ref":%d,"item":%b}' % (plan.ref or 0, row), mask=bytes(4)))
            left -= 1
        if left == 0:
            self.say(masked(TEXT, b'{"type":"complete","ref":%d}' % (plan.ref or 0), mask=bytes(4)))
            left = -1
        self.uploads[n] = left

    def say(self, frame: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frame)

    def read(self, reads: bool) -> None:
        if self.transport is not None and self.is_slow is reads:
            self.is_prompt = False
            self.is_slow = not reads
            (self.transport.resume_reading if reads else self.transport.pause_reading)()

    def leave(self, how: str) -> None:
        if self.has_left or self.transport is None:
            return
        self.has_left = True
        if how == "closes":
            self.say(closing())
            self.read(True)
        elif how == "vanishes":
            self.transport.abort()
        elif how == "hangs up":
            self.transport.close()
        else:
            self.has_left = False  # it hears the close frame
            self.say(masked(TEXT, b"{nonsense", mask=bytes(4)))
            self.read(True)


class History:
    """One of them, told step by step."""

    def __init__(self, source: random.Random, served: Served, clock: Clock) -> None:
        self.source, self.served, self.clock = source, served, clock
        self.world = World()
        self.steps: list[Any] = []  # for who reads of a failure
        Talk.worlds[:] = [self.world]

    async def told(self) -> World:
        for number in range(self.source.choice((1, 1, 2, 3))):
            await self.connect(f"/{number}")
        acts = (self.ask,) * 8 + (self.cancel, self.answer, self.feed) * 3 + (self.open, self.turns) * 4 + (
            self.ask_and_cancel, self.ask_much, self.overrun, self.talk_late, self.read, self.jump, self.leave,
        )  # fmt: skip
        for _ in range(self.source.randint(1, 25)):
            step = self.source.choice(acts)
            told = step(self.source.choice(self.world.peers))
            self.steps.append((step.__name__, told))
            if step == self.turns:
                await turns(told)
        await self.end()
        return self.world

    async def connect(self, name: str) -> None:
        peer = Talker(name, self.world)
        self.world.peers.append(peer)
        ours = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else Nagle's algorithm stays on
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(ours, ("127.0.0.1", self.served.port))
        await loop.create_connection(lambda: peer, sock=ours)
        await until(lambda: peer.accepted, "accepted")

    def ask(self, peer: Talker) -> Any:
        choose = self.source.choice
        kind = choose(KINDS)
        fresh = FRESH + len(self.world.plans)
        large = kind in STREAMS and choose((False, False, False, True))
        plan = Plan(
            kind,
            fresh if kind in STREAMS or choose((True, True, False)) else None,
            choose((0, 0, 1)),
            0 if large else choose((0, 1, 1, 2)),
            choose((20, 40)) if large else choose((0, 1, 3)),
            ITEM_BYTES if large else 0,
            choose(("replies", "replies", "replies", "acknowledged", "raises", "invalid")),
            choose(("ends", "ends", "answers", "lingers", "fails")),
        )
        if kind in UPLOADS:
            plan = plan._replace(ref=fresh, items=choose((0, 1, 3, 30)))
            if plan.items and choose((False, False, True)):
                plan = plan._replace(ends="spoilt")
        elif choose((False,) * 9 + (True,)):
            plan = plan._replace(ref=choose((1, 2)))  # which others have, too
        if plan.ref is None and plan.ends == "acknowledged":  # which needs a `ref`
            plan = plan._replace(ends="replies")
        return self.say(peer, plan)

    def say(self, peer: Talker, plan: Plan) -> Any:
        n = self.world.add(plan)
        if peer.has_left:
            return None
        heard = {each["ref"] for each in ends_of(peer) if each.get("ref", 0) >= FRESH}
        under_way = [
            # the handler of what was overrun may clean up still, though its end is known
            each for each in peer.asked if self.world.plans[each].ref not in heard or each in peer.overran
        ]  # fmt: skip
        if sum(self.world.plans[each].kind in STREAMS | UPLOADS for each in under_way) >= MAX_STREAMS:
            peer.crowded.add(n)
        if plan.kind in UPLOADS:
            peer.uploads[n], peer.credit[n] = plan.items, CREDIT
        peer.is_prompt &= not plan.size and len(under_way) < MAX_HELD
        peer.asked.append(n)
        message: dict[str, Any] = {"type": plan.kind, "n": "?" if plan.ends == "invalid" else n}
        if plan.ref is not None:
            message["ref"] = plan.ref
        if plan.kind == "post":
            message["key"] = plan.key
        kind = self.source.choice((TEXT, TEXT, TEXT, BINARY))
        peer.say(masked(kind, json.dumps(message).encode(), mask=bytes(4)))
        return peer.name, n, plan

    def cancel(self, peer: Talker) -> Any:
        refs = [ref for n in peer.asked[-8:] if (ref := self.world.plans[n].ref) is not None]
        ref = self.source.choice([*refs, *refs, 1, 999_999])
        if not peer.has_left:
            peer.cancelled |= {n for n in peer.asked if self.world.plans[n].ref == ref}
            peer.say(masked(TEXT, b'{"type":"cancel","ref":%d}' % ref, mask=bytes(4)))
        return peer.name, ref

    def ask_and_cancel(self, peer: Talker) -> Any:
        """In one segment."""
        asked = self.ask(peer)
        ref = self.world.plans[-1].ref
        if asked is not None and ref is not None:
            peer.cancelled |= {n for n in peer.asked if self.world.plans[n].ref == ref}
            peer.say(masked(TEXT, b'{"type":"cancel","ref":%d}' % ref, mask=bytes(4)))
        return asked

    def ask_much(self, peer: Talker) -> Any:
        """More than the backlog holds."""
        return [self.ask(peer) for _ in range(MAX_HELD * 2)]

    def answer(self, peer: Talker) -> Any:
        if peer.has_left or not peer.questions:
            return None
        ref, how = self.source.choice(list(peer.questions)), self.source.choice(list(ANSWERS))
        peer.answer(ref, how)
        return peer.name, ref, how

    def feed(self, peer: Talker) -> Any:
        unfinished = [n for n, left in peer.uploads.items() if left >= 0]
        if peer.has_left or not unfinished:
            return None
        n, most = self.source.choice(unfinished), self.source.choice((1, 2, 40))
        peer.feed(n, most)
        return peer.name, n, most

    def overrun(self, peer: Talker) -> Any:
        """More than there is credit for, in one segment."""
        long = [n for n, left in peer.uploads.items() if left >= OVERRUN]
        if peer.has_left or not long:
            return None
        n = self.source.choice(long)
        peer.feed(n, OVERRUN, beyond=OVERRUN)
        peer.overran.add(n)
        return peer.name, n

    def talk_late(self, peer: Talker) -> Any:
        """What belongs to nothing that is under way, or to a stream, is ignored."""
        refs = [b"%d" % ref for n in peer.asked if (plan := self.world.plans[n]).kind in STREAMS and (ref := plan.ref)]
        ref = self.source.choice([*refs, b"999999", b'"s:99"'])
        frame = self.source.choice((b'item","item":1', b'complete"', b'reply","answer":1', b'reply","error":{}'))
        if not peer.has_left:
            peer.say(masked(TEXT, b'{"ref":%b,"type":"%b}' % (ref, frame), mask=bytes(4)))
        return peer.name, ref, frame

    def open(self, peer: Talker) -> Any:
        waiting = [n for n in peer.asked if self.world.plans[n].waits][-12:]
        for n in (opened := self.source.sample(waiting, min(len(waiting), 3))):
            self.world.gates[n].open()
            self.world.opened.add(n)
        return opened

    def turns(self, peer: Talker) -> int:
        return self.source.choice((1, 2, 3, 8))

    def read(self, peer: Talker) -> Any:
        peer.read(peer.is_slow)
        return peer.name, peer.is_slow

    def jump(self, peer: Talker) -> Any:
        seconds = self.source.choice((TIMEOUT_S + 1, GRACE_S + 1))
        self.clock.jump(seconds)
        for each in self.world.peers:
            each.hurried |= set(each.asked)
        return seconds

    def leave(self, peer: Talker) -> Any:
        how = self.source.choice(("closes", "vanishes", "hangs up", "talks nonsense"))
        peer.left_early, peer.is_prompt = True, False
        peer.leave(how)
        return peer.name, how

    async def end(self) -> None:
        world = self.world
        await turns(10)  # all is read that is read at once
        world.let_go()
        for peer in world.peers:
            peer.read(True)
            peer.finish()
        for peer in world.peers:
            if not peer.left_early:
                await until(lambda: len(ends_of(peer)) >= len(peer.asked), "answered")  # noqa: B023  # now
        await turns(5)
        for peer in world.peers:
            peer.leave("closes")
        await until(lambda: not self.served.connections and not self.served.tasks, "gone")
        await until(lambda: not any(peer.transport for peer in world.peers), "closed")


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], what: str) -> None:
    """Return when it holds; by a clock that nobody puts forward. The kernel may take its time."""
    give_up, taken = time.perf_counter() + 20, 0
    while not condition():
        assert time.perf_counter() < give_up, f"never {what}"
        await asyncio.sleep(0 if taken < 50 else 0.001)
        taken += 1


def ends_of(peer: Talker) -> list[dict[str, Any]]:
    return [each for each in peer.heard if not ("item" in each or each["type"] in NO_END or is_about_answer(each))]


def is_about_answer(message: dict[str, Any]) -> bool:
    """The server's own `ref` comes back to it: its client's answer was not valid."""
    return str(message.get("ref")).startswith("s:")


# ---- what is promised


def check(world: World) -> None:
    assert not world.wrong, world.wrong
    assert not +world.running
    assert world.departed == len(world.peers)
    for begun in world.begun.values():
        if not begun or world.plans[begun[0]].kind not in STREAMS:
            assert begun == sorted(begun)
    for peer in world.peers:
        check_ends(world, peer)
        check_items(world, peer)
        check_answers(world, peer)
        check_order(world, peer)


def check_ends(world: World, peer: Talker) -> None:
    """One for each request, and the right one; of who has left, at most one."""
    asked = Counter(world.plans[n].ref for n in peer.asked)
    ended = Counter(each.get("ref") for each in ends_of(peer))
    assert ended <= asked if peer.left_early else ended == asked, asked - ended or ended - asked
    replied = Counter(each["n"] for each in ends_of(peer) if "n" in each)
    assert all(count == 1 for count in replied.values())
    for n, end in told_apart(world, peer).items():
        plan, kind = world.plans[n], as_end(end)
        assert kind in expected(world, peer, n), (n, plan, end, expected(world, peer, n))
        assert kind != "replies" or (end["n"], end["type"]) == (n, plan.kind)


def told_apart(world: World, peer: Talker) -> dict[int, dict[str, Any]]:
    """The ends of requests whose `ref` no other has, in the order in which they came."""
    refs = Counter(world.plans[n].ref for n in peer.asked)
    numbers = {ref: n for n in peer.asked if (ref := world.plans[n].ref) is not None and refs[ref] == 1}
    return {numbers[each["ref"]]: each for each in ends_of(peer) if each.get("ref") in numbers}


NATURAL = {"raises": "sorry", "invalid": "validation_error", "spoilt": "validation_error"}


def as_end(message: dict[str, Any]) -> str:
    if message["type"] == "error":
        return str(message["code"])
    if message["type"] == "complete":
        return "complete"
    return "replies" if "n" in message else "acknowledged"


def expected(world: World, peer: Talker, n: int) -> set[str]:
    plan = world.plans[n]
    streams = plan.kind in STREAMS
    natural = NATURAL.get(plan.ends, "complete" if streams else plan.ends)
    if plan.ends != "invalid":
        natural = FAILED.get(peer.answered.get(n, ""), natural)
    ends = {natural, "too_many_streams"} if n in peer.crowded else {natural}
    if n in peer.overran:  # unless its handler has taken them as fast, or has ended
        ends.add("overrun")
    if plan.kind in QUIZZES and len(peer.asked) > MAX_HELD * TIMES:
        ends.add("call_refused")
    if plan.kind in QUIZZES and n in peer.hurried:
        ends.add("call_timeout")
    is_cancelled, is_late = n in peer.cancelled, n in peer.hurried and plan.kind in LIMITED
    waits = plan.waits and plan.ends != "invalid" and (plan.items or not streams)
    if is_cancelled and waits and n not in world.opened and peer.is_prompt:
        ends.discard(natural)  # it was stopped at its gate, or before
    if is_cancelled:
        ends.add("complete" if streams else "cancelled")
    if is_late:
        ends.add("timeout")
    is_cut = peer.left_early and n in peer.hurried  # behind its grace: what it says then may still be on its way
    if (is_cancelled or is_late or is_cut) and not streams:
        ends |= {"answers": {"replies"}, "fails": {"internal_error"}}.get(plan.stopped, set())
    return ends


def check_items(world: World, peer: Talker) -> None:
    """In order, none behind the end; all of them where the stream came to its own."""
    items: dict[int, list[int]] = defaultdict(list)
    over: set[int] = set()
    last: dict[Any, int] = {}  # by `ref`, the stream whose items come
    for each in peer.heard:
        ref = each.get("ref")
        if "item" in each:
            assert each["n"] not in over, each
            assert world.plans[each["n"]].ref == ref
            items[each["n"]].append(each["item"])
            last[ref] = each["n"]
        elif ref in last and each.get("code") != "ref_in_use":
            over.add(last.pop(ref))
    for numbers in items.values():
        assert numbers == list(range(len(numbers)))
    for n, end in told_apart(world, peer).items():
        plan = world.plans[n]
        if end["type"] == "complete" and n not in peer.cancelled:
            assert len(items[n]) == plan.items, (n, plan, items[n])


def check_answers(world: World, peer: Talker) -> None:
    """Each question is answered or withdrawn, and an answer is objected to that is not valid, once."""
    assert peer.left_early or not peer.questions
    objected = Counter(each["ref"] for each in peer.heard if is_about_answer(each) and each["type"] == "error")
    asked = {each["ref"]: each["n"] for each in peer.heard if each["type"] == "which"}
    assert all(count == 1 and peer.answered[asked[ref]] == "wrong" for ref, count in objected.items())
    for n, end in told_apart(world, peer).items():
        if world.plans[n].kind in UPLOADS and end["type"] == "store":
            assert n in peer.cancelled or world.taken[n] == world.plans[n].items


def check_order(world: World, peer: Talker) -> None:
    """Of those that take turns, and of those with one key; errors, too, but not of who gave up its turn."""
    ends = [n for n in told_apart(world, peer) if n not in peer.cancelled]
    serial = [n for n in ends if world.plans[n].kind in SERIAL]
    assert serial == sorted(serial)
    for key in (0, 1):
        keyed = [
            n for n in ends if world.plans[n].kind == "post" and world.plans[n].key == key
            and world.plans[n].ends != "invalid"
        ]  # fmt: skip
        assert keyed == sorted(keyed)


# ---- what is left


class Left:
    """Tasks, timers and endpoints beyond those that were there before, and what was logged."""

    def __init__(self) -> None:
        self._tasks = asyncio.all_tasks()
        self._endpoints: list[weakref.ref[Talk]] = []

    def nothing_runs(self, world: World) -> None:
        self._endpoints += world.endpoints
        assert asyncio.all_tasks() <= self._tasks
        loop: Any = asyncio.get_running_loop()
        timers = [each for each in loop._scheduled if not each.cancelled()]
        assert len(timers) <= 1, timers  # the server's own tick

    def nothing_is_kept(self) -> None:
        Talk.worlds.clear()
        gc.collect()
        assert not [endpoint for each in self._endpoints if (endpoint := each()) is not None]
        self._endpoints.clear()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """
    What is logged, but of handlers that fail, or linger, when they are cancelled.

    Told by a filter, since pytest's own handlers keep all tracebacks, and so the endpoints.
    """
    heard: list[str] = []

    def hear(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, Failed | TimeoutError) and "does not end" not in record.getMessage():
            heard.append(f"{record.getMessage()}: {error!r}")
        return False

    logger = logging.getLogger("socketsundso")
    logger.addFilter(hear)
    yield heard
    logger.removeFilter(hear)


async def tell(seeds: list[str], protocol: Any, clock: Clock, complaints: list[str]) -> None:
    async with serving(Talk, ws=protocol, ws_ping_interval=None) as served:
        served.server.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        gc.collect()
        gc.freeze()  # what is there now needs not be looked through again and again
        try:
            left = Left()
            for number, seed in enumerate(seeds):
                history = History(random.Random(seed), served, clock)
                try:
                    world = await history.told()
                    check(world)
                    left.nothing_runs(world)
                    assert complaints == []
                    if number % 50 == 49 or seed == seeds[-1]:
                        del world
                        steps, history = history.steps, None
                        left.nothing_is_kept()
                except BaseException as exc:
                    exc.add_note(f"history {seed}: {history.steps if history else steps}")
                    raise
        finally:
            gc.unfreeze()


def bounded(holds: Callable[..., None]) -> Callable[..., None]:
    """The same, which tells where more waits than may: while answers are awaited that are behind it, it is more."""

    def method(self: Any, *arguments: Any) -> None:
        holds(self, *arguments)
        world = Talk.worlds[-1]
        times = TIMES if any(plan.kind in QUIZZES for plan in world.plans) else 1
        if self._messages > MAX_HELD * times + 1:
            world.wrong.append(f"{self._messages} wait")

    return method


@pytest.mark.parametrize(
    ("protocol", "share"), [(WebSocketProtocol, 10), ("websockets-sansio", 100)], ids=["ours", "uvicorn"]
)
def test_whatever_is_said_what_is_promised_holds(
    protocol: Any, share: int, fuzz_frames: int, fuzz_seed: int, clock: Clock,
    complaints: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One end for each request, nothing behind it; turns, order and bounds are kept; nothing is left of it."""
    monkeypatch.setattr(requests, "MAX_HELD", MAX_HELD)
    for name in ("hold", "put"):
        monkeypatch.setattr(Backlog, name, bounded(getattr(Backlog, name)))
    seeds = [f"{fuzz_seed} {number}" for number in range(fuzz_frames // share)]
    asyncio.run(tell(seeds, protocol, clock, complaints))
