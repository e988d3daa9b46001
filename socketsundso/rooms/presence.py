"""
Who is in a room, all processes together: the view that one process has of one room, who is told of its changes, and
what goes on the wire.

Each process holds the entries of its own connections on the backplane, tells the others of every change, and
keeps what it hears. An entry ends when its process says so, or when that process has missed its beats; a
process that merely lost the engine for a while says the same again afterwards, which changes nothing. A member is a
connection, or all that were tracked with the same key. This module knows no I/O.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct


class Member(Struct, frozen=True):
    """
    One tracked connection, or all that have the same key: its `id` (the connection's, or the key), and its `meta`, what
    it was tracked with.
    """

    id: str
    meta: Any


class Entry(Struct, array_like=True, frozen=True):
    """
    What is known of a tracked connection: which process it belongs to, its meta as JSON, the member that it is if not
    just itself, and when it was tracked.
    """

    owner: str
    meta: Raw
    key: str = ""
    stamp: int = 0
    """Microseconds since 1970, or more where clocks differ: of two entries in one view, the later has the larger."""

    @property
    def rank(self) -> tuple[int, str]:
        """Of the entries of one member, the one that ranks highest is shown, the same in each process."""
        return self.stamp, self.owner

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode((self.owner, bytes(self.meta), self.key, self.stamp))

    @classmethod
    def from_bytes(cls, value: bytes) -> Entry:
        owner, meta, key, stamp = msgspec.msgpack.decode(value, type=tuple[str, bytes, str, int])
        return cls(owner, Raw(meta), key, stamp)


class Change(NamedTuple):
    """What a member showed before, and what it shows now; None where it is not there."""

    before: Entry | None
    after: Entry | None

    @property
    def seen(self) -> bool:
        """Whether a client would notice."""
        if self.before is None or self.after is None:
            return self.before is not self.after
        return bytes(self.before.meta) != bytes(self.after.meta)


Changes = dict[str, Change]
"""By member."""


class View:
    """The members of one room as this process knows them."""

    __slots__ = ("_connections", "_latest", "_left", "entries", "shown")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}  # by connection
        self.shown: dict[str, Entry] = {}  # by member: the latest entry of its connections
        self._connections: dict[str, set[str]] = {}  # by key
        self._latest = 0  # the largest stamp so far
        self._left: set[str] | None = None  # while the backplane is read: who has left since, and may be in it still

    def join(self, entries: Mapping[str, Entry]) -> Changes:
        """Take entries in, unless later ones are known; returns what is new or changed."""
        changes: Changes = {}
        for connection, entry in entries.items():
            if self._left is not None:
                self._left.discard(connection)
            known = self.entries.get(connection)
            if known is None or known.stamp <= entry.stamp:
                if known is not None and known.key != entry.key:
                    self._take_out(connection, changes)
                self._take_in(connection, entry, changes)
        return _seen(changes)

    def leave(self, connections: Iterable[str]) -> Changes:
        """Take entries out; returns what that changes."""
        gone, changes = list(connections), Changes()
        if self._left is not None:
            self._left.update(gone)
        for connection in gone:
            if connection in self.entries:
                self._take_out(connection, changes)
        return _seen(changes)

    def _take_in(self, connection: str, entry: Entry, changes: Changes) -> None:
        known, self.entries[connection] = self.entries.get(connection), entry
        self._latest = max(self._latest, entry.stamp)
        if entry.key:
            self._connections.setdefault(entry.key, set()).add(connection)
        member = entry.key or connection
        shown = self.shown.get(member)
        if shown is None or shown is known or shown.rank <= entry.rank:
            self._show(member, entry, changes)

    def _take_out(self, connection: str, changes: Changes) -> None:
        gone = self.entries.pop(connection)
        if gone.key:
            connections = self._connections[gone.key]
            connections.discard(connection)
            if not connections:
                del self._connections[gone.key]
        member = gone.key or connection
        if self.shown[member] is gone:
            self._show(member, self._latest_of(member), changes)

    def _show(self, member: str, entry: Entry | None, changes: Changes) -> None:
        before = changes[member].before if member in changes else self.shown.get(member)
        if entry is None:
            self.shown.pop(member, None)
        else:
            self.shown[member] = entry
        changes[member] = Change(before, entry)

    def _latest_of(self, member: str) -> Entry | None:
        """Of a member's connections: those with the key, and the one with that id, unless it has a key."""
        entries = [self.entries[connection] for connection in self._connections.get(member, ())]
        own = self.entries.get(member)
        if own is not None and not own.key:
            entries.append(own)
        return max(entries, key=lambda entry: entry.rank, default=None)

    def stamp(self) -> int:
        """For an entry of now: larger than all that are known here, whatever the other processes' clocks say."""
        self._latest = max(time.time_ns() // 1000, self._latest + 1)
        return self._latest

    def begin_reading(self) -> None:
        """What the backplane answers from now on may be older than what is heard meanwhile."""
        self._left = set()

    def read(self, held: dict[str, Entry]) -> dict[str, Entry]:
        """Those of the entries on the backplane that have not ended while they were read."""
        left, self._left = self._left or set(), None
        return {connection: entry for connection, entry in held.items() if connection not in left}

    def owners(self) -> set[str]:
        return {entry.owner for entry in self.entries.values()}

    def of_owners(self, owners: frozenset[str]) -> list[str]:
        return [connection for connection, entry in self.entries.items() if entry.owner in owners]

    def members(self) -> list[Member]:
        return [Member(member, msgspec.json.decode(entry.meta)) for member, entry in self.shown.items()]


def _seen(changes: Changes) -> Changes:
    return {member: change for member, change in changes.items() if change.seen}


def view_of(held: Mapping[str, bytes]) -> View:
    """What a backplane holds for a room, as a view."""
    view = View()
    view.join({connection: Entry.from_bytes(value) for connection, value in held.items()})
    return view


W = TypeVar("W", bound=Hashable)

UNTOLD = 1000
"""Changes that a circle keeps as they came; of more, those of one member are put together."""


class News(NamedTuple, Generic[W]):
    """What some of a circle are told."""

    joins: dict[str, Entry]
    leaves: dict[str, Entry]
    audience: list[W]


class Circle(Generic[W]):
    """
    Those in a room who are told of its changes together, so many seconds after the first of them.

    Each is told the difference between what it knows and what is, so that who has come and gone meanwhile was never
    there. Who joins the circle meanwhile knows what had changed until then.
    """

    __slots__ = ("_late", "_log", "_too_long", "members", "timer")

    def __init__(self) -> None:
        self.members: dict[W, None] = {}
        self.timer: asyncio.TimerHandle | None = None  # until what has changed is told
        self._log: list[tuple[str, Change]] = []  # what has changed and is not told yet
        self._late: dict[W, int] = {}  # how much of that those know who came meanwhile
        self._too_long = UNTOLD  # how long it may become

    def add(self, who: W) -> None:
        """It has been told who is there, just now."""
        self.members[who] = None
        if self._log:
            self._late[who] = len(self._log)

    def discard(self, who: W) -> None:
        self.members.pop(who, None)
        self._late.pop(who, None)
        if not self.members and self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.members:
            self._log.clear()

    def note(self, changes: Changes) -> None:
        self._log += changes.items()
        if len(self._log) > self._too_long:
            self._shorten()
            self._too_long = max(UNTOLD, 2 * len(self._log))

    def _shorten(self) -> None:
        """Keep of each member what everybody needs to know: the interval may be long, and many come and go."""
        log, self._log, knew = self._log, [], [*sorted(set(self._late.values())), len(self._log)]
        ends = dict(zip(knew, knew, strict=True))
        start = 0
        for end in knew:
            together: Changes = {}
            for member, change in log[start:end]:
                before = together[member].before if member in together else change.before
                together[member] = Change(before, change.after)
            self._log += _seen(together).items()
            start, ends[end] = end, len(self._log)
        self._late = {who: ends[known] for who, known in self._late.items()}

    def news(self) -> Iterator[News[W]]:
        """What is to be told to whom. From then on they know."""
        log, late, self._log, self._late = self._log, self._late, [], {}
        self._too_long = UNTOLD
        knowing: dict[int, list[W]] = {}  # how much of the log -> who knows it
        for who in self.members:
            knowing.setdefault(late.get(who, 0), []).append(who)
        since: Changes = {}
        for known in range(len(log) - 1, -1, -1):
            member, change = log[known]
            since[member] = Change(change.before, since[member].after if member in since else change.after)
            if known in knowing and (told := _seen(since)):
                joins = {member: each.after for member, each in told.items() if each.after is not None}
                leaves = {m: each.before for m, each in told.items() if each.after is None and each.before is not None}
                yield News(joins, leaves, knowing[known])


def _metas(entries: Mapping[str, Entry]) -> dict[str, Raw]:
    return {member: entry.meta for member, entry in entries.items()}


def state_notice(room: str, entries: Mapping[str, Entry]) -> bytes:
    """`{"type":"presence_state","room":"r1","members":{"<id>":{...}}}`"""
    return msgspec.json.encode({"type": "presence_state", "room": room, "members": _metas(entries)})


def diff_notice(room: str, joins: Mapping[str, Entry], leaves: Mapping[str, Entry]) -> bytes:
    """`{"type":"presence_diff","room":"r1","joins":{...},"leaves":{...}}`"""
    notice = {"type": "presence_diff", "room": room, "joins": _metas(joins), "leaves": _metas(leaves)}
    return msgspec.json.encode(notice)
