"""Rooms without sockets: a participant that remembers, and a process that is cut off from its engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from socketsundso import Keep
from socketsundso.connection.outbound import Connection, OutboundQueue
from socketsundso.connection.peer import new_id
from socketsundso.rooms.local import Rooms
from socketsundso.rooms.room import Participant

from ..backplanes.listener import DEADLINE_S, until


class Peer:
    """A participant, and what was written to it."""

    def __init__(self, wants_presence: bool = False) -> None:
        self.got: list[dict[str, Any]] = []
        self.who = Participant(
            new_id(), Connection(self._send, OutboundQueue(1 << 20, "close"), lambda: None), wants_presence
        )

    async def _send(self, event: Any) -> None:
        self.got.append(json.loads(event["text"]))

    async def take(self, payload: bytes) -> None:
        self.got.append(json.loads(payload))

    def numbers(self) -> list[tuple[int, int]]:
        """(n, seq) of what was broadcast; 0 where it has no seq."""
        return [(message["n"], message.get("seq", 0)) for message in self.got if "n" in message]


async def rest() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def lists(rooms: Rooms, room: str, *names: str) -> None:
    """Wait until anybody who asks hears of these members; the engine is told a moment after the others."""
    async with asyncio.timeout(DEADLINE_S):
        while sorted(each.meta for each in await rooms.members(room)) != list(names):
            await asyncio.sleep(0)


def message(n: int) -> bytes:
    return b'{"type":"m","n":%d}' % n


@asynccontextmanager
async def processes(url: str) -> AsyncIterator[tuple[Rooms, Rooms]]:
    """Two, as far as rooms can tell."""
    made = Rooms(url), Rooms(url)
    for rooms in made:
        rooms.declare({"doc*": Keep(messages=100)})
        await rooms.open()
    try:
        yield made
    finally:
        for rooms in made:
            await rooms.aclose()


@asynccontextmanager
async def cut_off(rooms: Rooms) -> AsyncIterator[None]:
    """The link of one process is down, while the engine goes on and the other processes reach it."""
    backplane: Any = rooms.backplane
    connect = backplane._connect

    async def refuse() -> None:
        raise OSError("cut off")

    backplane._connect = refuse
    if backplane.name == "NATS":
        await backplane._nc.close()
    else:
        backplane._link._writer.close()
    await until(lambda: rooms.state == "reconnecting", "the loss is noticed")
    yield
    backplane._connect = connect
    await until(lambda: rooms.state == "connected", "the link is back")
