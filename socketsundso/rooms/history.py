"""
Rooms that number their messages: what a room knows of its log, and what goes on the wire.

The numbers come from the backplane, which is also what hands the messages out again, in order, to every
process (the publishing one included). A `Position` is how far this process has handed them on. This module
knows no I/O.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from socketsundso.backplanes import Keep, Log
from socketsundso.errors import DefinitionError, EventError
from socketsundso.messages import numbered as numbered

MAX_LAST = 10_000
"""The most messages of a room's past that are asked for at once."""


class Resume(Struct):
    """How far a client has got in a room: `{"seq": 141, "epoch": "a"}`."""

    seq: int
    epoch: str

    @property
    def possible_seq(self) -> int | None:
        """The number, unless no log can have given it: a client may send any."""
        return self.seq if 0 <= self.seq < 1 << 53 else None


class _Own(Struct):
    room: Raw | UnsetType = UNSET
    seq: Raw | UnsetType = UNSET


def keep_for(room: str, history: Mapping[str, Keep]) -> Keep | None:
    """The first pattern that matches counts; patterns are shell-style and match case."""
    for pattern, keep in history.items():
        if fnmatchcase(room, pattern):
            return keep
    return None


def same(ours: Mapping[str, Keep], theirs: Mapping[str, Keep]) -> bool:
    """Also in their order, since the first pattern that matches counts."""
    return ours is theirs or list(ours.items()) == list(theirs.items())


def declaration(whose: str, history: Mapping[str, Keep]) -> dict[str, Keep]:
    """What somebody declares, checked. Raises DefinitionError."""
    given = history.items() if isinstance(history, Mapping) else [(history, None)]
    for pattern, keep in given:
        if not isinstance(pattern, str) or not pattern or not isinstance(keep, Keep):
            raise DefinitionError(
                f"{whose}: history maps patterns of rooms to Keeps, as in "
                f"{{'doc:*': Keep(messages=100, seconds=300)}}; not {pattern!r} to {keep!r}"
            )
    return dict(history)


class Declarations:
    """
    Which rooms keep history: what the endpoints and hubs of one event loop say of them, taken together.

    Raises DefinitionError where two of them want different things of the same room: neither could keep its promise.
    """

    def __init__(self) -> None:
        self._patterns: list[Mapping[str, Keep]] = []  # each as one of them declares it

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def known(self, patterns: Mapping[str, Keep]) -> bool:
        return not patterns or any(same(patterns, each) for each in self._patterns)

    def add(self, patterns: Mapping[str, Keep], rooms: Iterable[str]) -> None:
        """The rooms are those that there are already."""
        self.check(patterns, rooms)
        self._patterns.append(patterns)

    def check(self, patterns: Mapping[str, Keep], rooms: Iterable[str]) -> None:
        for each in self._patterns:
            for pattern in patterns.keys() & each.keys():
                _require_same(f"rooms that match {pattern!r}", {patterns[pattern], each[pattern]})
        for room in rooms:
            _require_same(f"the room {room!r}", {self.keep_for(room), keep_for(room, patterns)} - {None})

    def keep_for(self, room: str) -> Keep | None:
        keeps = {keep_for(room, each) for each in self._patterns} - {None}
        _require_same(f"the room {room!r}", keeps)
        return next(iter(keeps), None)


def _require_same(what: str, keeps: Collection[Keep | None]) -> None:
    if len(keeps) > 1:
        wanted = " and ".join(sorted(map(str, keeps)))
        raise DefinitionError(
            f"{what}: two endpoints (or hubs) on one backplane declare {wanted} as its history; "
            "declare the same, or give them backplanes of their own (`?prefix=...`, `memory://name`)"
        )


def check_own_fields(payload: bytes, room: str) -> bool:
    """
    Whether the message names its room itself.

    Raises ValueError where that is another room, or where the message has a `seq`, which the room gives.
    """
    own = msgspec.json.decode(payload, type=_Own)
    if own.seq is not UNSET:
        raise ValueError(f"a message for {room!r}, which keeps history, has a `seq` of its own; the room numbers it")
    if own.room is UNSET:
        return False
    if msgspec.json.decode(own.room) != room:
        raise ValueError(f"a message for {room!r}, which keeps history, has another value in its `room`")
    return True


def position_notice(room: str, seq: int, epoch: str) -> bytes:
    """`{"type":"room_position","room":"r1","seq":141,"epoch":"a"}`"""
    return msgspec.json.encode({"type": "room_position", "room": room, "seq": seq, "epoch": epoch})


class RoomResumed(Struct):
    """What became of one room of a `resume`."""

    recovered: bool
    seq: int | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    code: str | UnsetType = UNSET


class Resumed(Struct, tag_field="type", tag="resumed"):
    """The reply to a `resume`."""

    rooms: dict[str, RoomResumed]


def resumed(rooms: Iterable[str], found: Mapping[str, tuple[bool, Log]], refused: Mapping[str, str]) -> dict[str, Any]:
    """
    Each room as it was asked for: `{"type":"resumed","rooms":{"r1":{"recovered":true,"seq":145,"epoch":"a"}}}`, and
    `{"recovered":false,"code":"forbidden"}` for one that was refused.
    """
    return {"type": "resumed", "rooms": {room: _told(room, found, refused) for room in rooms}}


def _told(room: str, found: Mapping[str, tuple[bool, Log]], refused: Mapping[str, str]) -> dict[str, Any]:
    if room in refused:
        return {"recovered": False, "code": refused[room]}
    whole, log = found[room]
    return {"recovered": whole, "seq": log.seq, "epoch": log.epoch}


def recovered(log: Log, wanted: Resume) -> bool:
    """
    Whether the log holds exactly what came after the position: all of it, of the same epoch, without a
    hole.
    """
    if log.epoch != wanted.epoch or not 0 <= wanted.seq <= log.seq:
        return False
    return [seq for seq, _ in log.entries] == list(range(wanted.seq + 1, log.seq + 1))


class InvalidCount(EventError, ValueError):
    """A number of messages that nobody can ask for. In a handler it is answered with `validation_error`."""

    def __init__(self, name: str, given: object) -> None:
        msg = f"`{name}` is a whole number of messages, 0 to {MAX_LAST}"
        super().__init__("validation_error", errors=[{"type": "message_count", "loc": [name], "msg": msg}])
        self.given = given

    def __str__(self) -> str:
        return str(self.errors[0]["msg"])


def valid_count(name: str, given: object) -> int:
    """A number of messages, which may come from a client. Raises `InvalidCount`."""
    if type(given) is not int or not 0 <= given <= MAX_LAST:
        raise InvalidCount(name, given)
    return given


def keeps_nothing(room: str) -> ValueError:
    """What is raised where the past of a room without one is asked for."""
    return ValueError(
        f"the room {room!r} keeps no history, so nobody can have its last messages; declare it, on endpoints and hubs "
        f"alike: `history = {{{room!r}: Keep(messages=100, seconds=300)}}`, or a pattern that matches the name"
    )


def newest(log: Log, count: int) -> Log:
    """The log with its newest entries only: no more than `count`, up to its end, without a hole."""
    found: deque[tuple[int, bytes]] = deque()
    for seq, payload in reversed(log.entries):
        if len(found) == count or seq != log.seq - len(found):
            break
        found.appendleft((seq, payload))
    return log._replace(entries=list(found))


class Position:
    """How far this process has handed a room's messages on, and who waits for that to change."""

    __slots__ = ("_waiters", "epoch", "seq")

    def __init__(self, seq: int, epoch: str) -> None:
        self.seq, self.epoch = seq, epoch
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def move(self, seq: int, epoch: str) -> None:
        self.seq, self.epoch = seq, epoch
        if self._waiters:
            due = [waiter for wanted, waiter in self._waiters if wanted <= seq]
            self._waiters = [pair for pair in self._waiters if pair[0] > seq]
            _wake(due)

    def release(self) -> None:
        """The room ends: nobody waits any longer."""
        waiters, self._waiters = self._waiters, []
        _wake(waiter for _, waiter in waiters)

    async def reached(self, seq: int, timeout_s: float) -> None:
        """Wait until the message has been handed on; not for ever."""
        if self.seq < seq:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append((seq, waiter))
            await asyncio.wait({waiter}, timeout=timeout_s)


def _wake(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
