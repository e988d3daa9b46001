"""
Who is in a room, all processes together: the view that one process has of one room, and what goes on the
wire.

Each process holds the entries of its own members on the backplane, tells the others of every change, and
keeps what it hears. An entry ends when its process says so, or when that process has missed its beats; a
process that merely lost the engine for a while says the same again afterwards, which changes nothing. This
module knows no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw, Struct


class Member(Struct, frozen=True):
    """One tracked connection: its `id` and what it was tracked with."""

    id: str
    meta: Any


class Entry(Struct, array_like=True, frozen=True):
    """What the backplane holds for a member: which process it belongs to, and its meta as JSON."""

    owner: str
    meta: Raw

    def to_bytes(self) -> bytes:
        return msgspec.msgpack.encode((self.owner, bytes(self.meta)))

    @classmethod
    def from_bytes(cls, value: bytes) -> Entry:
        owner, meta = msgspec.msgpack.decode(value, type=tuple[str, bytes])
        return cls(owner, Raw(meta))


class View:
    """The members of one room as this process knows them."""

    __slots__ = ("_left", "entries")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._left: set[str] | None = None  # while the backplane is read: who has left since, and may be in it still

    def join(self, entries: dict[str, Entry]) -> dict[str, Entry]:
        """Take entries in; returns those that are new or changed."""
        news = {}
        for member, entry in entries.items():
            known = self.entries.get(member)
            if known is None or bytes(known.meta) != bytes(entry.meta):
                news[member] = entry
            self.entries[member] = entry
            if self._left is not None:
                self._left.discard(member)
        return news

    def begin_reading(self) -> None:
        """What the backplane answers from now on may be older than what is heard meanwhile."""
        self._left = set()

    def read(self, held: dict[str, Entry]) -> dict[str, Entry]:
        """Those of the entries on the backplane that have not ended while they were read."""
        left, self._left = self._left or set(), None
        return {member: entry for member, entry in held.items() if member not in left}

    def leave(self, members: Iterable[str]) -> dict[str, Entry]:
        """Take entries out; returns those that were there."""
        gone = list(members)
        if self._left is not None:
            self._left.update(gone)
        return {member: self.entries.pop(member) for member in gone if member in self.entries}

    def owners(self) -> set[str]:
        return {entry.owner for entry in self.entries.values()}

    def of_owners(self, owners: frozenset[str]) -> list[str]:
        return [member for member, entry in self.entries.items() if entry.owner in owners]

    def members(self) -> list[Member]:
        return members_of(self.entries)


def members_of(entries: dict[str, Entry]) -> list[Member]:
    return [Member(member, msgspec.json.decode(entry.meta)) for member, entry in entries.items()]


def _metas(entries: dict[str, Entry]) -> dict[str, Raw]:
    return {member: entry.meta for member, entry in entries.items()}


def state_notice(room: str, entries: dict[str, Entry]) -> bytes:
    """`{"type":"presence_state","room":"r1","members":{"<id>":{...}}}`"""
    return msgspec.json.encode({"type": "presence_state", "room": room, "members": _metas(entries)})


def diff_notice(room: str, joins: dict[str, Entry], leaves: dict[str, Entry]) -> bytes:
    """`{"type":"presence_diff","room":"r1","joins":{...},"leaves":{...}}`"""
    notice = {"type": "presence_diff", "room": room, "joins": _metas(joins), "leaves": _metas(leaves)}
    return msgspec.json.encode(notice)
