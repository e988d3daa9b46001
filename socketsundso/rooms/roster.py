"""
Presence across processes: who is tracked in a room, and what follows when a process or the engine is gone.

Each room has a `View` once somebody here looks at it, read from the engine and kept up to date by what the processes
tell each other. A process that has missed its beats is dead, and its members leave. Who is in a room is told at its
entry who is there, and from then on, in its `Circle`, what changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw, Struct

from socketsundso.backplanes import Backplane
from socketsundso.connection import NEVER, Notice
from socketsundso.errors import BackplaneUnavailable
from socketsundso.rooms import presence
from socketsundso.rooms.presence import Changes, Circle, Entry, View
from socketsundso.rooms.room import Header, Participant, Room, Tasks, room_topic, seal

logger = logging.getLogger("socketsundso.rooms")


class PresenceNews(Struct, array_like=True):
    """What a process tells the others of its members in a room."""

    owner: str
    joins: dict[str, bytes]
    """By connection; each as it is held."""
    leaves: list[str]


class Roster:
    """The presence of all rooms of one event loop on one backplane."""

    def __init__(self, backplane: Backplane, topics: Mapping[str, Room], tasks: Tasks, local: bool) -> None:
        self._backplane, self._topics, self._tasks = backplane, topics, tasks
        self._local = local  # no other process: nobody dies without saying so
        self._sweeper: asyncio.Task[None] | None = None
        self._judge_owners_at = 0.0  # no process is declared dead before
        self._compare_at = NEVER  # after a loss: when the views are compared with what the engine holds
        self._incomplete: set[str] = set()  # topics whose view could not be read: to be read again
        self._untold: dict[str, set[str]] = {}  # topic -> connections that left while the engine could not be told
        self._releasing: dict[tuple[str, str], asyncio.Task[None]] = {}  # (topic, connection) -> the engine is told

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
            self._incomplete.discard(room.topic)
        except BackplaneUnavailable as error:
            known = self._backplane.state != "connected" or room.topic in self._incomplete
            level = logging.INFO if known else logging.WARNING
            logger.log(level, "presence of %r is incomplete, and read again: %s", room.name, error)
            self._incomplete.add(room.topic)
        entries = view.read({each: Entry.from_bytes(value) for each, value in held.items()})
        mine = {who.id for who in (*room.live, *room.behind) if room.name in who.tracked}
        return {each: entry for each, entry in entries.items() if entry.owner != self._owner or each in mine}

    async def members(self, name: str) -> View:
        """
        Everybody tracked in the room, in all processes. Raises `BackplaneUnavailable`, if it is not known.
        """
        room = self._topics.get(room_topic(name))
        if room is not None and room.view is not None:
            return await self.view(room)
        return presence.view_of(await self._backplane.held(room_topic(name)))

    async def inform(self, who: Participant, room: Room) -> None:
        """Push who is in the room, and from now on what changes."""
        await self.view(room)
        if who.connection.slow:
            who.connection.inform(Notice("state", room.name, b""), functools.partial(self._state, who, room))
        elif (state := self._state(who, room)) is not None:
            who.push(state)

    def _state(self, who: Participant, room: Room) -> Notice | None:
        """Who is there now, which the participant is about to be told; None if it has left."""
        if who.rooms.get(room.topic) is not room or room.view is None:
            return None
        room.circles.setdefault(who.presence_interval_s, Circle()).add(who)
        return Notice("state", room.name, presence.state_notice(room.name, room.view.shown))

    def forget(self, who: Participant, room: Room) -> None:
        """It leaves, and is told nothing more."""
        circle = room.circles.get(who.presence_interval_s)
        if circle is not None:
            circle.discard(who)
            if not circle.members:
                del room.circles[who.presence_interval_s]

    async def track(self, who: Participant, room: Room, meta: bytes, key: str = "") -> None:
        """
        Enter a participant with its meta (JSON), or change it; everybody in the room is told. All of the same key are
        one member; without a key it stays the member that it is.
        """
        view = await self.view(room)
        while (releasing := self._releasing.get((room.topic, who.id))) is not None:
            await asyncio.wait({releasing})  # or it would end what is held from now on
        if who.rooms.get(room.topic) is not room:
            return
        if not key and room.name in who.tracked and who.id in view.entries:
            key = view.entries[who.id].key
        who.tracked.add(room.name)
        self._untold.get(room.topic, set()).discard(who.id)
        entry = Entry(self._owner, Raw(meta), "" if key == who.id else key, view.stamp())
        await self._backplane.hold(room.topic, who.id, entry.to_bytes())
        if room.name not in who.tracked:  # left while the engine was asked
            await self._release(room.topic, who.id)
            return
        self._announce(room, {who.id: entry}, [])

    def untrack(self, who: Participant, room: Room) -> None:
        who.tracked.discard(room.name)
        self._announce(room, {}, [who.id])
        self._release_soon(room.topic, who.id)

    def _release_soon(self, topic: str, connection: str) -> None:
        task = self._tasks.spawn(self._release(topic, connection), f"presence of {connection}")
        self._releasing[topic, connection] = task
        task.add_done_callback(lambda done: self._released(topic, connection, done))

    def _released(self, topic: str, connection: str, task: asyncio.Task[None]) -> None:
        if self._releasing.get((topic, connection)) is task:
            del self._releasing[topic, connection]

    async def _release(self, topic: str, connection: str) -> None:
        """
        Told again when the engine knows: a process that has come since it was told, and asked the engine a moment
        before, would keep who has left for as long as this process lives.
        """
        try:
            await self._backplane.release(topic, connection)
        except BackplaneUnavailable:  # told when the engine is back; bounded by who was there when it went away
            self._untold.setdefault(topic, set()).add(connection)
        else:
            self._publish(topic, {}, [connection])

    def _tell_untold(self) -> None:
        """Who left while the engine was away would stay for ever with the others, since its process lives."""
        untold, self._untold = self._untold, {}
        for topic, connections in untold.items():
            self._publish(topic, {}, list(connections))
            for connection in connections:
                self._release_soon(topic, connection)

    def _announce(self, room: Room, joins: dict[str, Entry], leaves: list[str]) -> None:
        """Tell the local participants what is new, and the other processes."""
        self._apply(room, joins, leaves)
        self._publish(room.topic, joins, leaves)

    def _publish(self, topic: str, joins: dict[str, Entry], leaves: list[str]) -> None:
        news = PresenceNews(self._owner, {each: entry.to_bytes() for each, entry in joins.items()}, leaves)
        try:
            sealed = seal(Header("presence", self._owner), msgspec.msgpack.encode(news))
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
            joins = {connection: Entry.from_bytes(value) for connection, value in news.joins.items()}
            self._apply(room, joins, news.leaves)

    def _apply(self, room: Room, joins: dict[str, Entry], leaves: Iterable[str]) -> None:
        assert room.view is not None  # nobody is tracked before it is there
        for changes in (room.view.join(joins), room.view.leave(leaves)):
            if changes:
                self._note(room, changes)
        self._watch_owners()

    def _note(self, room: Room, changes: Changes) -> None:
        """Everybody in the room is told, each circle when its time has come."""
        for interval_s, circle in room.circles.items():
            circle.note(changes)
            if not interval_s:
                self._tell(room, circle)
            elif circle.timer is None:
                circle.timer = asyncio.get_running_loop().call_later(interval_s, self._tell, room, circle)

    def _tell(self, room: Room, circle: Circle[Participant]) -> None:
        circle.timer = None
        for news in circle.news():
            diff = Notice("diff", room.name, presence.diff_notice(room.name, news.joins, news.leaves))
            for who in news.audience:
                if who.connection.busy:
                    who.connection.inform(diff, functools.partial(self._state, who, room))
                else:
                    who.push(diff)

    async def _renew(self, room: Room) -> None:
        """After a loss: say again who is here, and hear who else is."""
        assert room.view is not None
        mine = {each: entry for each, entry in room.view.entries.items() if entry.owner == self._owner}
        self._announce(room, mine, [])
        self._apply(room, await self._held(room, room.view), [])

    async def _compare(self, room: Room, view: View) -> None:
        """A while after a loss: who left meanwhile in other processes leaves here too."""
        known = {each for each, entry in view.entries.items() if entry.owner != self._owner}
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
                await self._complete_views()

    async def _complete_views(self) -> None:
        """Who was told a part only is told the rest."""
        for topic in list(self._incomplete):
            room = self._topics.get(topic)
            if room is None or room.view is None:
                self._incomplete.discard(topic)
            else:
                self._apply(room, await self._held(room, room.view), [])

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
