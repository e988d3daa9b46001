"""
Ten thousand connections that say nothing and a thousand that talk, on one process, without a fault.

Memory is what the kernel says of the process while all of them are there; nothing is collected for it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.soak.churn import Outcome
from benchmarks.soak.growth import Series
from benchmarks.soak.guests import Guest
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.lines import ANSWERED_WITHIN_S
from benchmarks.soak.services import Service, serving, until, weight

AT_ONCE = 50  # handshakes
IN_ROOM = 10
ADDRESSES = 8  # of the loopback that clients come from, since each has ports for some 28,000 connections to a port


@dataclass(frozen=True)
class Plan:
    """How much of it."""

    seconds: float
    seed: int
    idle: int = 10_000
    talking: int = 1_000
    acts_per_s: float = 100.0
    """Of all who talk together; an act is one to eight requests."""
    sample_s: float = 2.0


class Idler(WSListener):  # type: ignore[misc]  # picows' classes are compiled, without types
    """Answers pings, as clients do by themselves, and nothing else comes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger, self.leaving = ledger, False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self._ledger.counts["idle connections"] += 1

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if not (self.leaving and frame.msg_type == WSMsgType.CLOSE):
            self._ledger.mistake(f"an idle connection got {frame}")
        transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.leaving:
            self._ledger.mistake("an idle connection ended")

    async def leave(self) -> None:
        self.leaving = True
        self.transport.send_close(1000)
        await self.transport.wait_disconnected()


async def steadied(plan: Plan, show: Callable[[str], None]) -> Outcome:
    service = Service("memory://")
    with serving(service):
        await until(service.answers, "it serves")
        return await Steady(plan, service, show).run()


class Steady:
    def __init__(self, plan: Plan, service: Service, show: Callable[[str], None]) -> None:
        self.plan, self.service, self.show = plan, service, show
        self.ledger, self.series = Ledger(), Series()
        self.idlers: list[Idler] = []
        self.guests = [
            Guest(
                self.ledger, number, [f"note:{number // IN_ROOM}"], [service.port], Random(plan.seed * 10_000 + number)
            )
            for number in range(plan.talking)
        ]

    async def run(self) -> Outcome:
        await self._come()
        start = time.monotonic()
        acting: set[asyncio.Task[None]] = set()
        next_sample = next_act = start
        for guest in itertools.cycle(self.guests):
            now = time.monotonic()
            if now >= start + self.plan.seconds or self.ledger.wrong:
                break
            if now >= next_sample:
                next_sample += self.plan.sample_s
                await self._weigh(now - start)
            acting.add(task := asyncio.create_task(guest.talk()))
            task.add_done_callback(acting.discard)
            next_act = max(now, next_act + 1 / self.plan.acts_per_s)
            await asyncio.sleep(next_act - now)
        seconds = time.monotonic() - start
        await asyncio.gather(*acting)
        await until(self._all_have_heard, "everybody has heard everything")
        self.ledger.settle()
        await self._go()
        return Outcome(self.ledger, self.series, seconds)

    async def _come(self) -> None:
        for first in range(0, self.plan.idle, AT_ONCE):
            each = range(first, min(first + AT_ONCE, self.plan.idle))
            self.idlers += await asyncio.gather(*map(self._idler, each))
        for first in range(0, self.plan.talking, AT_ONCE):
            await asyncio.gather(*(guest.be_there() for guest in self.guests[first : first + AT_ONCE]))
        for first in range(0, self.plan.talking, AT_ONCE):
            await asyncio.gather(*(guest.talk_of_everything() for guest in self.guests[first : first + AT_ONCE]))

    async def _idler(self, number: int) -> Idler:
        _, idler = await ws_connect(
            lambda: Idler(self.ledger),
            f"ws://127.0.0.1:{self.service.port}/",
            websocket_handshake_timeout=ANSWERED_WITHIN_S,
            local_addr=(f"127.0.0.{2 + number % ADDRESSES}", 0),
            read_buffer_init_size=1024,
        )
        return idler  # type: ignore[no-any-return]  # what the factory made

    async def _all_have_heard(self) -> bool:
        rooms = {guest.rooms[0] for guest in self.guests}
        return len({(room, at) for guest in self.guests for room, at in guest.positions.items()}) == len(rooms)

    async def _weigh(self, at_s: float) -> None:
        self.show(f"{at_s / 60:.1f} of {self.plan.seconds / 60:.1f} minutes, {self.ledger.counts['wrong']} wrong")
        for pid, state in (await self.service.states()).items():
            self.series.add("server", at_s, weight(pid) | {"tasks": state["tasks"]})

    async def _go(self) -> None:
        for first in range(0, len(self.idlers), AT_ONCE):
            await asyncio.gather(*(idler.leave() for idler in self.idlers[first : first + AT_ONCE]))
        for first in range(0, len(self.guests), AT_ONCE):
            await asyncio.gather(*(guest.leave() for guest in self.guests[first : first + AT_ONCE]))
        await until(self.service.is_empty, "all connections have ended")
        self.ledger.balance()
        self.ledger.read(self.service.log())
