"""
Presence across processes: who is tracked in a room, and what follows when a process or the engine is gone.

Each room has a `View` once somebody here looks at it, read from the engine and kept up to date by what the processes
tell each other. A process that has missed its beats is dead, and its members leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw, Struct

from socketsundso.backplanes import Backplane
from socketsundso.connection import NEVER, Counters, Outgoing
from socketsundso.errors import BackplaneUnavailable
from socketsundso.rooms import presence
from socketsundso.rooms.presence import Entry, Member, View
from socketsundso.rooms.room import Envelope, Participant, Room, Tasks, push_all, room_topic, seal

logger = logging.getLogger("socketsundso.rooms")


class PresenceNews(Struct, array_like=True):
    """What a process tells the others of its members in a room."""

    owner: str
    joins: dict[str, bytes]
    leaves: list[str]


class Roster:
    """The presence of all rooms of one event loop on one backplane."""

    def __init__(
        self, backplane: Backplane, topics: Mapping[str, Room], counters: Counters, tasks: Tasks, local: bool
    ) -> None:
        self._backplane, self._topics, self._counters, self._tasks = backplane, topics, counters, tasks
        self._local = local  # no other process: nobody dies without saying so
        self._sweeper: asyncio.Task[None] | None = None
        self._judge_owners_at = 0.0  # no process is declared dead before
        self._compare_at = NEVER  # after a loss: when the views are compared with what the engine holds
        self._untold: dict[str, set[str]] = {}  # topic -> members that left while the engine could not be told

    @property
    def _owner(self) -> str:
        """This process, as entries name it."""
        return self._backplane.owner

    async def view(self, room: Room) -> View:
        """The room's members, read from the backplane once and kept up to date from then on."""
        if room.view_ready is None:
            room.view = View()
            room.view_ready = asyncio.ensure_future(self._read_view(room, room.view))
        if not room.view_ready.done():
            await asyncio.shield(room.view_ready)
        assert room.view is not None
        return room.view

    async def _read_view(self, room: Room, view: View) -> None:
        view.join(await self._held(room, view))
        self._watch_owners()

    async def _held(self, room: Room, view: View) -> dict[str, Entry]:
        """What the engine holds for the room. Of our own entries only those that are in force."""
        view.begin_reading()
        held: dict[str, bytes] = {}
        try:
            held = await self._backplane.held(room.topic)
        except BackplaneUnavailable as error:
            logger.info("presence of %r is incomplete: %s", room.name, error)
        entries = view.read({member: Entry.from_bytes(value) for member, value in held.items()})
        mine = {who.id for who in (*room.live, *room.behind) if room.name in who.tracked}
        return {member: entry for member, entry in entries.items() if entry.owner != self._owner or member in mine}

    async def members(self, name: str) -> list[Member]:
        """
        Everybody tracked in the room, in all processes. Raises `BackplaneUnavailable`, if it is not known.
        """
        room = self._topics.get(room_topic(name))
        if room is not None and room.view is not None:
            return (await self.view(room)).members()
        held = await self._backplane.held(room_topic(name))
        return presence.members_of({member: Entry.from_bytes(value) for member, value in held.items()})

    async def track(self, who: Participant, room: Room, meta: bytes) -> None:
        """Enter a participant with its meta (JSON), or change it; everybody in the room is told."""
        await self.view(room)
        if who.rooms.get(room.topic) is not room:
            return
        who.tracked.add(room.name)
        entry = Entry(self._owner, Raw(meta))
        await self._backplane.hold(room.topic, who.id, entry.to_bytes())
        if room.name not in who.tracked:  # left while the engine was asked
            await self._release(room.topic, who.id)
            return
        self._announce(room, {who.id: entry}, [])

    def untrack(self, who: Participant, room: Room) -> None:
        who.tracked.discard(room.name)
        self._announce(room, {}, [who.id])
        self._tasks.spawn(self._release(room.topic, who.id), f"presence of {who.id}")

    async def _release(self, topic: str, member: str) -> None:
        try:
            await self._backplane.release(topic, member)
        except BackplaneUnavailable:  # told when the engine is back; bounded by who was there when it went away
            self._untold.setdefault(topic, set()).add(member)

    def _tell_untold(self) -> None:
        """Who left while the engine was away would stay for ever with the others, since its process lives."""
        untold, self._untold = self._untold, {}
        for topic, members in untold.items():
            self._publish(topic, {}, list(members))
            for member in members:
                self._tasks.spawn(self._release(topic, member), f"presence of {member}")

    def _announce(self, room: Room, joins: dict[str, Entry], leaves: list[str]) -> None:
        """Tell the local participants what is new, and the other processes."""
        self._apply(room, joins, leaves)
        self._publish(room.topic, joins, leaves)

    def _publish(self, topic: str, joins: dict[str, Entry], leaves: list[str]) -> None:
        news = PresenceNews(self._owner, {member: bytes(entry.meta) for member, entry in joins.items()}, leaves)
        try:
            sealed = seal(Envelope("presence", self._owner), msgspec.msgpack.encode(news))
            self._backplane.publish((topic,), sealed)
        except BackplaneUnavailable:
            logger.debug("presence of %r is told again when the engine is back", topic[1:])

    def on_restored(self) -> None:
        """The engine is back: say again who is here, and who left meanwhile."""
        self._judge_owners_at = time.monotonic() + self._backplane.ttl_s / 3
        self._compare_at = time.monotonic() + self._backplane.ttl_s  # when every process has put its entries back
        self._tell_untold()
        for room in self._topics.values():
            if room.view is not None:
                self._tasks.spawn(self._renew(room), f"presence of {room.name!r}")

    def on_news(self, room: Room, payload: bytes) -> None:
        """What another process tells of its members."""
        news = msgspec.msgpack.decode(payload, type=PresenceNews)
        if room.view is not None:
            joins = {member: Entry(news.owner, Raw(meta)) for member, meta in news.joins.items()}
            self._apply(room, joins, news.leaves)

    def _apply(self, room: Room, joins: dict[str, Entry], leaves: Iterable[str]) -> None:
        if room.view is None:
            return
        news, gone = room.view.join(joins), room.view.leave(leaves)
        if news or gone:
            out = Outgoing(presence.diff_notice(room.name, news, gone))
            push_all([who for who in room.live if room.name in who.informed], out, self._counters)
        self._watch_owners()

    async def _renew(self, room: Room) -> None:
        """After a loss: say again who is here, and hear who else is."""
        assert room.view is not None
        mine = {member: entry for member, entry in room.view.entries.items() if entry.owner == self._owner}
        self._announce(room, mine, [])
        self._apply(room, await self._held(room, room.view), [])

    async def _compare(self, room: Room, view: View) -> None:
        """A while after a loss: who left meanwhile in other processes leaves here too."""
        known = {member for member, entry in view.entries.items() if entry.owner != self._owner}
        held = await self._backplane.held(room.topic)
        self._apply(room, {}, known - held.keys())

    def _watch_owners(self) -> None:
        if not self._local and (self._sweeper is None or self._sweeper.done()):
            self._sweeper = self._tasks.spawn(self._sweep(), "presence of dead processes")

    async def _sweep(self) -> None:
        """
        End the entries of processes that have missed their beats: at most a time-to-live after the last
        one.
        """
        while True:
            await asyncio.sleep(self._backplane.ttl_s / 20)
            if self._backplane.state == "connected":
                self._tell_untold()
                with contextlib.suppress(BackplaneUnavailable):
                    await self._sweep_views()

    async def _sweep_views(self) -> None:
        views = {room: room.view for room in self._topics.values() if room.view is not None}
        owners = frozenset(owner for view in views.values() for owner in view.owners()) - {self._owner}
        if owners and time.monotonic() >= self._judge_owners_at:
            dead = owners - await self._backplane.alive(owners)
            for room, view in views.items() if dead else ():
                self._apply(room, {}, view.of_owners(dead))
        if time.monotonic() >= self._compare_at:
            for room, view in views.items():
                await self._compare(room, view)
            self._compare_at = NEVER
