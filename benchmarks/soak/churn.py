"""
Coming and going under faults, for as long as it is asked.

Two services share an engine, as two machines would. One of them has workers, which are killed (SIGKILL) and restarted
(SIGHUP) at random; the engine is killed and comes back, with what it has kept or without. The other one is spared: it
lives through all of it, and so tells what a process gathers that nobody restarts.

Time goes in cycles. In each one guests come, talk, drop their connections, come back and resume, while things are done
to the servers. Then the faults end, all guests are there, and what each has heard and whom it sees is compared; then
all leave, and what the processes weigh when nobody is connected is noted. So each sample is of the same moment:

* the spared process, and the parent of the workers, are flat if the last tenth weighs what the second tenth did;
* a worker begins anew with each fault: compared are those that have lived through no quiet moment before, over the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from benchmarks import reaper
from benchmarks.soak.growth import Series
from benchmarks.soak.guests import Guest
from benchmarks.soak.ledger import Fault, Ledger
from benchmarks.soak.services import Service, serving, until, weight
from tests.backplanes.engines import EngineServer
from tests.backplanes.engines import running as engine_running

KEEPS = {"redis": ["--appendonly", "yes"], "nats": []}
"""What has an engine keep all that it has acknowledged when it is killed."""

WRONGLY_SEEN = 4  # are shown


@dataclass(frozen=True)
class Plan:
    """How much of it."""

    seconds: float
    seed: int
    guests: int = 48
    rooms: int = 12
    workers: int = 2
    cycle_s: float = 14.0
    pause_s: float = 1.0
    """Between two acts of a guest, on average."""
    presence_ttl_s: float = 4.0
    """Who is not scheduled for less than half of it stays present."""
    faults: dict[str, float] = field(
        default_factory=lambda: {"kill": 0.6, "restart": 0.3, "engine": 0.4, "engine forgets": 0.15}
    )
    """How likely each one is in a cycle."""


@dataclass
class Outcome:
    """What came of it."""

    ledger: Ledger
    series: Series
    seconds: float


async def churned(kind: str, plan: Plan, show: Callable[[str], None]) -> Outcome:
    """Run the plan over this engine, `redis` or `nats`."""
    with engine(kind) as server:
        url = f"{server.url}?presence_ttl_s={plan.presence_ttl_s}"
        faulty, spared = Service(url, plan.workers), Service(url)
        with serving(faulty, spared):
            await until(faulty.answers, "the workers serve")
            await until(spared.answers, "the other one serves")
            return await Churn(plan, server, faulty, spared, show).run()


@contextlib.contextmanager
def engine(kind: str) -> Iterator[EngineServer]:
    """An engine that ends with the run, however that ends."""
    with engine_running(kind, *KEEPS[kind], before_exec=reaper.enlisting()) as server:
        yield server
        pid = server.pid
    reaper.forget(pid)


class Churn:
    def __init__(
        self, plan: Plan, server: EngineServer, faulty: Service, spared: Service, show: Callable[[str], None]
    ) -> None:
        self.plan, self.engine, self.faulty, self.spared, self.show = plan, server, faulty, spared, show
        self.ledger, self.series = Ledger(), Series()
        self._random = Random(plan.seed)
        self._workers = asyncio.Lock()  # of `faulty`: one fault at a time
        self._known: set[int] = set()  # workers that have been weighed before
        ports = [faulty.port, spared.port]
        self.guests = [
            Guest(
                self.ledger,
                number,
                [f"doc:{number % plan.rooms}", f"doc:{(number * 7 + 1) % plan.rooms}"],
                ports,
                Random(plan.seed * 1_000 + number),
            )
            for number in range(plan.guests)
        ]

    async def run(self) -> Outcome:
        start = time.monotonic()
        while (passed := time.monotonic() - start) < self.plan.seconds:
            self.show(f"{passed / 60:.1f} of {self.plan.seconds / 60:.1f} minutes, {self.ledger.counts['wrong']} wrong")
            try:
                await self._cycle()
                await self._weigh(time.monotonic() - start)
            except* AssertionError as failed:  # what is counted until then is worth a look
                for each in failed.exceptions:
                    self.ledger.mistake(str(each))
            if self.ledger.wrong:
                break  # what follows would be its consequence
        else:
            self.ledger.balance()
        for service in (self.faulty, self.spared):
            self.ledger.read(service.log())
        return Outcome(self.ledger, self.series, time.monotonic() - start)

    async def _cycle(self) -> None:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for guest in self.guests:
                group.create_task(guest.roam(over, self.plan.pause_s))
            await asyncio.gather(asyncio.sleep(self.plan.cycle_s), *(self._later(*each) for each in self._chosen()))
            over.set()
        self.ledger.counts["cycles"] += 1
        async with asyncio.TaskGroup() as group:
            for guest in self.guests:
                group.create_task(guest.be_there())
        await self._compare()
        async with asyncio.TaskGroup() as group:
            for guest in self.guests:
                group.create_task(guest.leave())
        self.ledger.settle()

    # ---- what is done to the servers

    def _chosen(self) -> list[tuple[str, float]]:
        """The faults of a cycle, and when each one comes."""
        random, plan = self._random, self.plan
        chosen = [(kind, random.random(), random.random()) for kind in plan.faults]
        return [(kind, at * 0.7 * plan.cycle_s) for kind, dice, at in chosen if dice < plan.faults[kind]]

    async def _later(self, kind: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if kind.startswith("engine"):
            await self._without_engine(forgets=kind == "engine forgets")
            return
        async with self._workers:
            await (self._kill() if kind == "kill" else self._restart())

    async def _kill(self) -> None:
        pid = self._random.choice(self.faulty.pids())
        fault = self.ledger.begin("kill", frozenset([pid]))
        os.kill(pid, signal.SIGKILL)
        await self._has_workers(fault)

    async def _restart(self) -> None:
        fault = self.ledger.begin("restart", frozenset(self.faulty.pids()))
        self.faulty.restart()
        await self._has_workers(fault)

    async def _has_workers(self, fault: Fault) -> None:
        async def replaced() -> bool:
            pids = self.faulty.pids()
            return not fault.pids & set(pids) and len(pids) == self.plan.workers

        await until(replaced, f"others come after a {fault.kind}")
        fault.over()

    async def _without_engine(self, forgets: bool) -> None:
        if any(fault.kind == "engine" and fault.until == float("inf") for fault in self.ledger.faults):
            return  # it is away already
        fault = self.ledger.begin("engine")
        pid = self.engine.pid
        self.engine.kill()
        reaper.forget(pid)
        if forgets:
            self.ledger.counts["fault: the engine forgets"] += 1
            self.ledger.forgotten_at = time.monotonic()
            self.engine.forget()
        await asyncio.sleep(self._random.random() * 2)
        await asyncio.to_thread(self.engine.start)
        for service in (self.faulty, self.spared):
            await until(service.is_connected, "the engine is reached again")
        fault.over()

    # ---- what is found when they have ended

    async def _compare(self) -> None:
        """All guests of a room have heard the same, and see each other, also after a worker was killed."""
        await until(self._all_have_heard, "everybody has heard everything")
        try:
            await until(self._all_are_seen, "presence is right")
        except AssertionError as failed:
            raise AssertionError(f"{failed}: {await self._seen_wrongly()}") from None

    async def _seen_wrongly(self) -> str:
        """Who misses whom, or sees who is not there, and what its worker says of the room; a few of them."""
        found = []
        for guest, room in ((each, room) for each in self.guests for room in each.rooms):
            sees, there = guest.sees(room), self._there(room)
            if sees != there and len(found) < WRONGLY_SEEN and guest.line is not None:
                here = await guest.line.ask("who", room=room)
                names = here["names"] if here is not None else "nothing"
                found.append(
                    f"{guest.name} at {guest.line.pid} sees {sees} in {room}, where {there} are; asked: {names}"
                )
        return "; ".join(found)

    def _there(self, room: str) -> list[str]:
        return sorted(guest.name for guest in self.guests if room in guest.rooms)

    async def _all_have_heard(self) -> bool:
        latest: dict[str, set[tuple[str, int]]] = {}
        for guest in self.guests:
            for room, at in guest.positions.items():
                latest.setdefault(room, set()).add(at)
        return all(len(each) == 1 for each in latest.values())

    async def _all_are_seen(self) -> bool:
        return all(guest.sees(room) == self._there(room) for guest in self.guests for room in guest.rooms)

    async def _weigh(self, at_s: float) -> None:
        for service in (self.faulty, self.spared):
            await until(service.is_whole, "all workers are there")
            await until(service.is_empty, "all connections have ended")
            await until(service.is_at_rest, "what is done behind them has ended")
        self.series.add("parent of the workers", at_s, weight(self.faulty.pid))
        for pid, state in (await self.spared.states(collect=True)).items():
            self.series.add("spared process", at_s, weight(pid) | held(state))
        states = await self.faulty.states(collect=True)
        for pid in states.keys() - self._known:
            found = weight(pid) | held(states[pid])
            del found["files"]  # how many links to the engine it has depends on how many asked at the same time
            self.series.add("new worker", at_s, found)
        self._known = set(states)


def held(state: dict[str, float]) -> dict[str, float]:
    return {"tasks": state["tasks"], "objects": state["objects"]}
