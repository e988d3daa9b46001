"""
A rolling restart under a crowd that talks, counted: what each connection was told, when it came back, what was lost.

    python -m tests.operations.restart --connections 2000 --drain-s 10

Members of rooms with a history come back at once, by `resume`; in each room one of them says something all the time,
and says it again where nobody has answered. Needs Redis's server, as the tests do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from picows import WSInvalidStatusError

from tests.backplanes.engines import running
from tests.rooms.crowd import Client, Process, connect, until

SLOT_S = 0.5
AT_ONCE = 25  # members who come at the same time, so that the kernel has more than one worker accept them
PAUSE_S = 0.5  # of who talks
BEAT_S = 0.02
AUTOGROUP = Path("/proc/self/autogroup")  # where Linux has it, sessions compete, and processes only within theirs
LOOKS = 20  # at who is present, until all are
BACK_S = 180.0  # on a busy machine new workers take most of a minute to begin, before which nobody is told


class Outcome(msgspec.Struct):
    """Counts over all members."""

    told: int
    """Connections that ended with 1012."""
    reset: int
    """Connections that ended in any other way."""
    refused: int
    """Handshakes that were answered 503."""
    twice: int
    """Members that were told more than once."""
    said: int
    lost: int
    """Messages that were answered, and that some member of the room did not get."""
    holes: int
    """Members who do not have all of a room's numbers, one after the other."""
    missing: int
    """Members that the room's presence does not show at the end."""
    seconds: float
    """From the first who was told to the last."""
    peak: float
    """The most returns in half a second, as a multiple of the mean."""
    held_up: float
    """The longest time in seconds that this process did not run meanwhile: a peak may be its own where that is long."""


class Member:
    """Somebody in one room, over all connections."""

    def __init__(self, port: int, room: str, number: int) -> None:
        self.room, self.number = room, number
        self.codes: list[int] = []  # that connections ended with
        self.told_at: list[float] = []
        self.acknowledged: list[int] = []
        self.refused = 0
        self.pid = 0  # of the worker it talks to; 0 while it does not
        self._port = port
        self._client = Client()
        self._first: dict[str, Any] = {}  # its position in the room when it came
        self._past: list[tuple[int, tuple[int, int]]] = []  # number, (sender, n): of connections that have ended

    async def stay(self) -> None:
        """Be there, again and again."""
        while True:
            try:
                self._client = client = await connect(self._port)
            except WSInvalidStatusError:  # a worker that ends
                self.refused += 1
                continue
            self.pid = await self._enter(client)
            await client.transport.wait_disconnected()
            self.pid = 0
            self._past = self.heard
            self.codes.append(client.close_code)
            self.told_at.append(asyncio.get_running_loop().time())

    async def _enter(self, client: Client) -> int:
        """Be in the room, with all that was missed. Gives the worker's process, or 0: it has ended the connection."""
        if self._first:
            rooms = {self.room: self._first | {"seq": self._latest}}
            while (answer := await self._answer(client, "resume", rooms=rooms)) and answer["type"] == "error":
                pass  # the engine was too busy
        answer = await self._answer(client, "enter", room=self.room)
        if answer is None:
            return 0
        client.send("appear", room=self.room, name=str(self.number))
        if not self._first:
            (position,) = client.told("room_position")
            self._first = {"seq": position["seq"], "epoch": position["epoch"]}
        return int(answer["pid"])

    async def _answer(self, client: Client, type_: str, **fields: Any) -> dict[str, Any] | None:
        """None where the connection ends before there is an answer."""
        if client.gone:
            return None
        try:
            return await client.call(type_, **fields)
        except asyncio.CancelledError:  # of the answer
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return None

    @property
    def heard(self) -> list[tuple[int, tuple[int, int]]]:
        return [*self._past, *zip(self._client.seqs, self._client.said, strict=True)]

    @property
    def _latest(self) -> int:
        return self._past[-1][0] if self._past else int(self._first["seq"])

    async def talk(self, over: asyncio.Event) -> None:
        """Say one number after the other, each one until it is answered."""
        n = 0
        while not over.is_set():
            await asyncio.sleep(PAUSE_S)
            if self.pid:
                answer = await self._answer(self._client, "say", room=self.room, sender=self.number, n=n)
                if answer is not None and not answer["refused"]:
                    self.acknowledged.append(n)
                    n += 1

    async def leave(self) -> None:
        self._client.transport.disconnect(graceful=False)
        await self._client.transport.wait_disconnected()

    def has_all_of(self, latest: int) -> bool:
        numbers = [number for number, _ in self.heard]
        return numbers == list(range(self._first["seq"] + 1, latest + 1))


async def restarted(connections: int, workers: int, drain_s: float, rooms: int) -> Outcome:
    """Restart all workers by SIGHUP while so many members are there."""
    with running("redis") as engine:
        process = Process(engine.url, "--workers", str(workers), "--drain-s", str(drain_s))
        try:
            await process.has_said("Application startup complete", workers)
            members = [Member(process.port, f"doc:{number % rooms}", number) for number in range(connections)]
            return await _restarted(process, members)
        except BaseException as exc:
            exc.add_note(f"The server has said:\n{process.text()[-4000:]}")
            raise
        finally:
            process.kill()  # without a drain of its own
            process.output.close()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """
    Who takes the time goes first, where that is allowed: else all that came while it waited came at the same time.

    Nor is there a collector, to which thousands of clients are half a second.
    """
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    gc.disable()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness - 10)
        AUTOGROUP.write_text("-10")
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text("0")
        gc.enable()


class Pulse:
    """How regularly this process runs."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def beat(self, over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        then = loop.time()
        while not over.is_set():
            await asyncio.sleep(BEAT_S)
            now = loop.time()
            self.longest_s, then = max(self.longest_s, now - then - BEAT_S), now


async def _restarted(process: Process, members: list[Member]) -> Outcome:
    over, pulse = asyncio.Event(), Pulse()
    async with asyncio.TaskGroup() as group:
        staying = []
        for first in range(0, len(members), AT_ONCE):
            batch = members[first : first + AT_ONCE]
            staying += [group.create_task(member.stay()) for member in batch]
            await until(lambda batch=batch: all(member.pid for member in batch), "all are there")
        speakers = list({member.room: member for member in members}.values())
        talking = [group.create_task(speaker.talk(over)) for speaker in speakers]
        old = {member.pid for member in members}
        group.create_task(pulse.beat(over))
        with undisturbed():
            process.popen.send_signal(signal.SIGHUP)
            await until(
                lambda: all(member.pid and member.pid not in old for member in members),
                "all are back",
                deadline_s=BACK_S,
            )
        over.set()
        await asyncio.gather(*talking)
        latest = {speaker.room: max(number for number, _ in speaker.heard) for speaker in speakers}
        await until(lambda: all(m.heard[-1][0] >= latest[m.room] for m in members), "all have heard all")
        outcome = await _counted(members, speakers, latest, pulse)
        for task in staying:
            task.cancel()
    await asyncio.gather(*(member.leave() for member in members))
    return outcome


async def _counted(members: list[Member], speakers: list[Member], latest: dict[str, int], pulse: Pulse) -> Outcome:
    codes = Counter(code for member in members for code in member.codes)
    told_at = sorted(time for member in members for time in member.told_at)
    seconds = told_at[-1] - told_at[0]
    slots = Counter(int((time - told_at[0]) / SLOT_S) for time in told_at)
    said = {(speaker.room, speaker.number, n) for speaker in speakers for n in speaker.acknowledged}
    heard = {member: {(member.room, sender, n) for _, (sender, n) in member.heard} for member in members}
    return Outcome(
        told=codes[1012],
        reset=codes.total() - codes[1012],
        refused=sum(member.refused for member in members),
        twice=sum(len(member.codes) > 1 for member in members),
        said=len(said),
        lost=sum(
            any(message not in heard[member] for member in members if member.room == message[0]) for message in said
        ),
        holes=sum(not member.has_all_of(latest[member.room]) for member in members),
        missing=await _missing(members, speakers),
        seconds=seconds,
        peak=max(slots.values()) / (len(told_at) * SLOT_S / seconds),
        held_up=pulse.longest_s,
    )


async def _missing(members: list[Member], speakers: list[Member]) -> int:
    """By presence; who came back last may be on the way into it."""
    for _ in range(LOOKS):
        present = [set((await each._client.call("who", room=each.room))["names"]) for each in speakers]
        missing = len(members) - sum(map(len, present))
        if not missing:
            break
        await asyncio.sleep(PAUSE_S)
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind, default in (
        ("connections", int, 2000),
        ("workers", int, 4),
        ("drain-s", float, 10.0),
        ("rooms", int, 200),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default)
    given = parser.parse_args()
    outcome = asyncio.run(restarted(given.connections, given.workers, given.drain_s, given.rooms))
    print(msgspec.json.format(msgspec.json.encode(outcome)).decode())


if __name__ == "__main__":
    main()
