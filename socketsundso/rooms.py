"""
Who hears what: the membership of this event loop's connections, local fan-out, and the bridge to the
backplane.

A `Rooms` belongs to one backplane URL and one event loop (`rooms_for`). In: encoded messages and the rooms
they are for. Out: `Connection.push` for every local participant, and one payload per room for the other
processes, which push it without decoding. Nothing here waits for a single peer.

Topics: `r<room>` for a room, `u<user>` for what `to_user` reaches. A payload between processes is an
`Envelope` followed by the message; see there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, cast

import msgspec
from msgspec import Raw, Struct

from socketsundso import history, presence
from socketsundso.backplanes import Backplane, Delivery, Keep, Log, State, open_url
from socketsundso.backplanes.base import ended
from socketsundso.connection import Connection, Counters, Outgoing, gap_notice
from socketsundso.errors import BackplaneUnavailable, EventError
from socketsundso.history import Position, Resume
from socketsundso.presence import Entry, Member, View
from socketsundso.wire import Wire

logger = logging.getLogger("socketsundso.rooms")

MAX_NAME = 200
RECENT = 4096
"""
How many multi-room broadcasts are remembered, so that one which arrives by two topics is delivered once.
"""

DELIVERY_TIMEOUT_S = 2.0
"""The longest that a broadcast to a room with history waits for its own number to come back."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff*?\[\]>]")


class InvalidRoomName(EventError, ValueError):
    """A name that no room can have. In a handler it is answered with `validation_error`."""

    def __init__(self, name: object) -> None:
        shown = name if isinstance(name, str) and len(name) <= MAX_NAME else str(name)[:MAX_NAME]
        msg = f"a room's name is a string of 1 to {MAX_NAME} characters without control characters or any of *?[]>"
        super().__init__(
            "validation_error", errors=[{"type": "room_name", "loc": ["room"], "msg": msg, "input": shown}]
        )
        self.name = name

    def __str__(self) -> str:
        return f"{self.errors[0]['msg']}; got {self.errors[0]['input']!r}"


def valid_name(name: object) -> str:
    """The name, if a room (or user) may have it: it may come from a client. Raises `InvalidRoomName`."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or _FORBIDDEN.search(name):
        raise InvalidRoomName(name)
    return name


def names_of(room: str | Iterable[str]) -> list[str]:
    """One room or several, each once, in order."""
    return [valid_name(room)] if isinstance(room, str) else list(dict.fromkeys(map(valid_name, room)))


def room_topic(name: str) -> str:
    return "r" + name


def user_topic(user: str) -> str:
    return "u" + user


class Envelope(Struct, array_like=True, omit_defaults=True):
    """What goes before a message between processes."""

    kind: Literal["message", "presence"]
    origin: str
    """The `Rooms` that sent it, which has delivered it to its own participants already."""

    excluded: tuple[str, ...] = ()
    """Ids of connections that do not get it."""

    topics: tuple[str, ...] = ()
    """All topics of a broadcast to several; whoever is in more than one of them gets it once."""

    covered: tuple[str, ...] = ()
    """Rooms with history, whose participants get a numbered copy of their own."""

    serial: int = 0
    """With `origin`, names a broadcast to several topics."""

    ttl_s: float | None = None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Envelope).decode


def seal(envelope: Envelope, payload: bytes) -> bytes:
    head = _pack(envelope)
    return len(head).to_bytes(4) + head + payload


def unseal(sealed: bytes) -> tuple[Envelope, bytes]:
    end = 4 + int.from_bytes(sealed[:4])
    return _unpack(sealed[4:end]), sealed[end:]


class PresenceNews(Struct, array_like=True):
    """What a process tells the others of its members in a room."""

    owner: str
    joins: dict[str, bytes]
    leaves: list[str]


class _Ids:
    """Ids of connections: unique across processes, also after a fork."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self._prefix, self._numbers = secrets.token_hex(8), itertools.count(1)

    def __call__(self) -> str:
        return f"{self._prefix}-{next(self._numbers):x}"


new_id = _Ids()


class Participant:
    """One connection as rooms know it: where it is, and how to reach it."""

    __slots__ = ("connection", "id", "rooms", "tracked", "wants_presence")

    def __init__(self, id_: str, connection: Connection, wants_presence: bool) -> None:
        self.id, self.connection, self.wants_presence = id_, connection, wants_presence
        self.rooms: dict[str, Room] = {}  # by topic
        self.tracked: set[str] = set()  # names of rooms with a presence entry of ours

    @property
    def push(self) -> Callable[[Outgoing], bool]:
        return self.connection.push


class Room:
    """What this event loop knows of one topic; it lives as long as somebody is in it."""

    __slots__ = (
        "behind",
        "catching_up",
        "keep",
        "live",
        "log",
        "name",
        "ready",
        "skip",
        "topic",
        "view",
        "view_ready",
    )

    def __init__(self, topic: str, keep: Keep | None) -> None:
        self.topic, self.name, self.keep = topic, topic[1:], keep
        self.live: dict[Participant, None] = {}  # gets everything at once
        self.behind: dict[Participant, list[tuple[int, Outgoing]]] = {}  # still reading the log; what came meanwhile
        self.skip: dict[Participant, int] = {}  # has had the messages up to this number from the log
        self.ready: asyncio.Future[None] | None = None  # while the subscription is under way
        self.log: Position | None = None
        self.catching_up: list[Delivery] | None = None  # what came while a hole is being filled
        self.view: View | None = None
        self.view_ready: asyncio.Future[None] | None = None

    @property
    def empty(self) -> bool:
        return not self.live and not self.behind


class Rooms:
    """All rooms of one event loop on one backplane."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.backplane: Backplane = open_url(url)
        self.counters = Counters()
        self.topics: dict[str, Room] = {}
        self.history: dict[str, Keep] = {}
        self._opening: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._serials = itertools.count(1)
        self._recent: dict[tuple[str, int], None] = {}
        self._recent_order: deque[tuple[str, int]] = deque()
        self._judge_owners_at = 0.0  # no process is declared dead before
        self._users: set[object] = set()  # hubs that are open; the last one to let go closes an unused backplane

    @property
    def state(self) -> State:
        return self.backplane.state

    @property
    def origin(self) -> str:
        return self.backplane.owner

    @property
    def local(self) -> bool:
        """Whether everything a backplane does is done when its call returns."""
        return self.url.startswith("memory:")

    def declare(self, patterns: Mapping[str, Keep]) -> None:
        """Rooms that match a pattern keep history."""
        for pattern, keep in patterns.items():
            self.history.setdefault(pattern, keep)

    async def open(self) -> None:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self.backplane.open(self))
        if not self._opening.done():
            await asyncio.shield(self._opening)

    def use(self, user: object) -> None:
        self._users.add(user)

    async def release(self, user: object) -> None:
        """Close if nobody uses this any more: no hub, no room. It opens again at the next use."""
        self._users.discard(user)
        if not self._users and not self.topics:
            await self.aclose()

    async def aclose(self) -> None:
        await ended(*self._tasks, *filter(None, (self._sweeper,)))
        await self.backplane.aclose()
        self._opening = None

    def _spawn(self, coroutine: Any, what: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)

    # ---- membership

    async def join(self, who: Participant, topic: str) -> None:
        """
        Idempotent. When it returns, what any process broadcasts reaches the participant.

        A room with history pushes its position first. Raises `BackplaneUnavailable` for such a room while the
        engine is away; other rooms are joined in this process, and in the others when the engine is back.
        """
        if topic in who.rooms:
            room = who.rooms[topic]
            if room.ready is not None:
                await asyncio.shield(room.ready)
            return
        room = await self._enter(who, topic)
        if room.keep is not None:
            await self._start_reading(who, room, None)
        if who.wants_presence and topic[0] == "r":
            view = await self._view(room)
            if topic in who.rooms:
                who.push(Outgoing(presence.state_notice(room.name, view.entries)))

    async def _enter(self, who: Participant, topic: str) -> Room:
        await self.open()
        room = self.topics.get(topic)
        if room is None:
            keep = history.keep_for(topic[1:], self.history) if topic[0] == "r" else None
            room = self.topics[topic] = Room(topic, keep)
        who.rooms[topic] = room
        if room.keep is None:
            room.live[who] = None
        else:
            room.behind[who] = []
        try:
            await self._subscribed(room, new=len(room.live) + len(room.behind) == 1)
        except BaseException:
            self.leave(who, topic)
            raise
        return room

    async def _subscribed(self, room: Room, new: bool) -> None:
        if self.local:
            if new:
                await self.backplane.subscribe(room.topic)
            return
        if new:
            room.ready = asyncio.ensure_future(self.backplane.subscribe(room.topic))
        if room.ready is not None:
            await asyncio.shield(room.ready)
            room.ready = None

    def leave(self, who: Participant, topic: str) -> None:
        """At once, and without waiting for the engine. Not a participant: nothing happens."""
        room = who.rooms.pop(topic, None)
        if room is None:
            return
        room.live.pop(who, None)
        room.behind.pop(who, None)
        room.skip.pop(who, None)
        if room.name in who.tracked and topic[0] == "r":
            self.untrack(who, room)
        if room.empty and self.topics.get(topic) is room:
            del self.topics[topic]
            if room.log is not None:
                room.log.release()
            self.backplane.unsubscribe(topic)

    def leave_all(self, who: Participant) -> None:
        for topic in list(who.rooms):
            self.leave(who, topic)

    # ---- broadcasts

    async def broadcast(
        self,
        topics: list[str],
        payload: bytes,
        excluded: Collection[str] = (),
        ttl_s: float | None = None,
        must_publish: bool = False,
    ) -> None:
        """
        To everybody in any of the topics, once. Gives the loop a turn where a participant comes near its
        bound.

        Rooms with history number it: each of them its own copy. Raises `BackplaneUnavailable` where the
        engine that numbers is away, or, with `must_publish`, whenever the engine could not take it.
        """
        await self.open()
        logged = [topic for topic in topics if await self._logged(topic) is not None]
        plain = [topic for topic in topics if topic not in logged]
        self.counters.published += 1
        near = False
        if plain:
            near = self._send_plain(plain, logged, payload, excluded, ttl_s, must_publish)
        for topic in logged:
            await self._append(topic, payload, excluded, ttl_s)
        if near:
            await asyncio.sleep(0)
        if must_publish and plain:
            await self._flush()

    async def _flush(self) -> None:
        try:
            await self.backplane.flush()
        except BackplaneUnavailable:
            self.counters.refused += 1
            raise

    async def _logged(self, topic: str) -> Keep | None:
        """Whether the room keeps history: as declared here, else as some other process has it."""
        room = self.topics.get(topic)
        if room is not None:
            return room.keep
        if topic[0] != "r":
            return None
        keep = history.keep_for(topic[1:], self.history)
        if keep is None and not self.history and self.state == "connected":
            return await self.backplane.logged(topic)
        return keep

    def _send_plain(
        self,
        topics: list[str],
        logged: list[str],
        payload: bytes,
        excluded: Collection[str],
        ttl_s: float | None,
        must_publish: bool,
    ) -> bool:
        near = self._fan_out(topics, logged, Outgoing(payload, topics[0][1:], ttl_s), excluded)
        envelope = Envelope("message", self.origin, tuple(excluded), ttl_s=ttl_s)
        if len(topics) > 1 or logged:
            envelope.topics, envelope.covered = tuple(topics), tuple(logged)
            envelope.serial = next(self._serials)
        try:
            self.backplane.publish(tuple(topics), seal(envelope, payload))
        except BackplaneUnavailable:
            self.counters.refused += 1
            if must_publish:
                raise
        return near

    def _fan_out(
        self, topics: Collection[str], covered: Collection[str], out: Outgoing, excluded: Collection[str]
    ) -> bool:
        """Push to local participants; the loop that a broadcast is measured by."""
        audience: Collection[Participant]
        rooms = [room for topic in topics if (room := self.topics.get(topic)) is not None]
        if len(rooms) == 1:
            audience = rooms[0].live
        else:
            audience = dict.fromkeys(itertools.chain.from_iterable(room.live for room in rooms))
        if excluded or covered:
            numbered = {
                who for topic in covered if (room := self.topics.get(topic)) for who in (*room.live, *room.behind)
            }
            audience = [who for who in audience if who.id not in excluded and who not in numbered]
        return self._push_all(audience, out)

    def _push_all(self, audience: Collection[Participant], out: Outgoing) -> bool:
        near, frame = False, None
        for who in audience:
            connection = who.connection
            offer = connection.offer
            if offer is not None:  # nothing waits: `push` in short, benchmarks/test_broadcast.py
                if frame is None:
                    frame = out.frame(cast(Wire, connection.wire))
                if offer(frame):
                    continue
            if connection.push(out):
                near = True
        self.counters.delivered += len(audience)
        return near

    async def _append(self, topic: str, payload: bytes, excluded: Collection[str], ttl_s: float | None) -> None:
        keep = await self._logged(topic)
        assert keep is not None
        history.check_own_fields(payload, topic[1:])
        envelope = Envelope("message", self.origin, tuple(excluded), ttl_s=ttl_s)
        try:
            seq, _ = await self.backplane.append(topic, seal(envelope, payload), keep)
        except BackplaneUnavailable:
            self.counters.refused += 1
            raise
        room = self.topics.get(topic)
        if room is not None and room.log is not None:
            await room.log.reached(seq, DELIVERY_TIMEOUT_S)

    # ---- what comes from the backplane

    def on_delivery(self, delivery: Delivery) -> None:
        room = self.topics.get(delivery.topic)
        if room is None:
            return
        if delivery.seq:
            self._on_logged(room, delivery)
            return
        envelope, payload = unseal(delivery.payload)
        if envelope.origin == self.origin:
            return
        if envelope.kind == "presence":
            self._on_presence_news(room, msgspec.msgpack.decode(payload, type=PresenceNews))
        elif not envelope.topics:
            self._fan_out((room.topic,), (), Outgoing(payload, room.name, envelope.ttl_s), envelope.excluded)
        elif self._first_arrival(envelope.origin, envelope.serial):
            out = Outgoing(payload, room.name, envelope.ttl_s)
            self._fan_out(envelope.topics, envelope.covered, out, envelope.excluded)

    def _first_arrival(self, origin: str, serial: int) -> bool:
        key = (origin, serial)
        if key in self._recent:
            return False
        self._recent[key] = None
        self._recent_order.append(key)
        if len(self._recent_order) > RECENT:
            del self._recent[self._recent_order.popleft()]
        return True

    def on_lost(self) -> None:
        """Rooms go on in this process; `state` tells."""

    def on_restored(self) -> None:
        """Fill the holes of rooms with history, and say again who is here."""
        self._judge_owners_at = time.monotonic() + self.backplane.ttl_s / 3
        for room in list(self.topics.values()):
            if room.keep is not None and room.log is not None:
                self._catch_up(room)
            if room.view is not None:
                self._spawn(self._renew_presence(room), f"presence of {room.name!r}")

    # ---- history

    def _on_logged(self, room: Room, delivery: Delivery) -> None:
        position = room.log
        if position is None:
            # Nobody has read the log yet: those who are about to are behind, and get it from there or from here.
            if room.keep is not None:
                room.log = Position(delivery.seq - 1, delivery.epoch)
                self._hand_on(room, delivery)
            else:
                self._hand_on_unnumbered(room, delivery)
        elif room.catching_up is not None:
            room.catching_up.append(delivery)
        elif delivery.epoch == position.epoch and delivery.seq <= position.seq:
            return  # was filled in already
        elif delivery.epoch == position.epoch and delivery.seq == position.seq + 1:
            self._hand_on(room, delivery)
        else:
            self._catch_up(room)
            room.catching_up = [delivery]

    def _hand_on_unnumbered(self, room: Room, delivery: Delivery) -> None:
        """Another process keeps history for a room that this one was not told to."""
        envelope, payload = unseal(delivery.payload)
        out = Outgoing(history.numbered(payload, room.name, delivery.seq), room.name, envelope.ttl_s)
        self._fan_out((room.topic,), (), out, envelope.excluded)

    def _hand_on(self, room: Room, delivery: Delivery) -> None:
        position = room.log
        assert position is not None
        envelope, payload = unseal(delivery.payload)
        out = Outgoing(history.numbered(payload, room.name, delivery.seq), room.name, envelope.ttl_s)
        for missed in room.behind.values():
            missed.append((delivery.seq, out))
        audience: Collection[Participant] = room.live
        if room.skip:
            audience = [who for who in room.live if room.skip.get(who, 0) < delivery.seq]
            room.skip = {who: seq for who, seq in room.skip.items() if seq > delivery.seq}
        if envelope.excluded:
            audience = self._tell_excluded(room, list(audience), envelope.excluded, delivery)
        self._push_all(audience, out)
        position.move(delivery.seq, delivery.epoch)

    def _tell_excluded(
        self, room: Room, audience: list[Participant], excluded: Collection[str], delivery: Delivery
    ) -> list[Participant]:
        """Who is left out gets the new position instead: its numbers must not have a hole."""
        for who in audience:
            if who.id in excluded:
                who.push(Outgoing(history.position_notice(room.name, delivery.seq, delivery.epoch)))
        return [who for who in audience if who.id not in excluded]

    def _catch_up(self, room: Room) -> None:
        if room.catching_up is None:
            room.catching_up = []
            self._spawn(self._fill_hole(room), f"catching up in {room.name!r}")

    async def _fill_hole(self, room: Room) -> None:
        """Hand on what was missed, or tell every participant that it cannot be had; then go on."""
        assert room.log is not None
        assert room.keep is not None
        try:
            wanted = Resume(room.log.seq, room.log.epoch)
            log = await self.backplane.read(room.topic, room.keep, wanted.seq)
            if history.recovered(log, wanted):
                for seq, payload in log.entries:
                    self._hand_on(room, Delivery(room.topic, payload, seq, log.epoch))
            else:
                self._tell_gap(room, log, wanted)
        except BackplaneUnavailable as error:
            logger.info("%r cannot catch up yet: %s", room.name, error)
        finally:
            came, room.catching_up = room.catching_up or [], None
        for delivery in came:
            self._on_logged(room, delivery)

    def _tell_gap(self, room: Room, log: Log, wanted: Resume) -> None:
        assert room.log is not None
        dropped = log.seq - wanted.seq if log.epoch == wanted.epoch and log.seq >= wanted.seq else None
        for notice in (
            gap_notice(room.name, dropped),
            history.position_notice(room.name, log.seq, log.epoch),
        ):
            self._push_all(room.live, Outgoing(notice))
        room.log.move(log.seq, log.epoch)

    async def _start_reading(self, who: Participant, room: Room, wanted: Resume | None) -> tuple[bool, Log]:
        """
        Bring a participant from the log to the live messages, without a hole or a double. Pushes its
        position.
        """
        assert room.keep is not None
        try:
            log = await self.backplane.read(room.topic, room.keep, wanted.possible_seq if wanted else None)
        except BaseException:
            self.leave(who, room.topic)
            raise
        whole = wanted is not None and history.recovered(log, wanted)
        if wanted is None:
            who.push(Outgoing(history.position_notice(room.name, log.seq, log.epoch)))
            self._go_live(who, room, log, [])
        return whole, log

    def _go_live(self, who: Participant, room: Room, log: Log, missed: list[tuple[int, bytes]]) -> None:
        came = room.behind.pop(who, None)
        if came is None:
            return  # has left meanwhile
        for seq, sealed in missed:
            _, payload = unseal(sealed)
            who.push(Outgoing(history.numbered(payload, room.name, seq), room.name))
        for seq, out in came:
            if seq > log.seq:
                who.push(out)
        room.live[who] = None
        if room.log is None:
            room.log = Position(log.seq, log.epoch)
        elif room.log.seq < log.seq and room.log.epoch == log.epoch:
            room.skip[who] = log.seq

    async def read_missed(self, who: Participant, wanted: Mapping[str, Resume]) -> dict[str, tuple[bool, Log]]:
        """
        Join rooms where a client left off: for each, whether all that it missed is there, and the log.

        Live messages are kept back until `go_on` has pushed what was missed.
        """
        found: dict[str, tuple[bool, Log]] = {}
        for name, position in wanted.items():
            topic = room_topic(name)
            room = who.rooms.get(topic)
            if room is None:
                room = await self._enter(who, topic)
            elif room.keep is not None and who in room.live:
                del room.live[who]
                room.behind[who] = []
            if room.keep is None:
                found[name] = (False, Log("", 0, []))
            else:
                found[name] = await self._start_reading(who, room, position)
        return found

    def go_on(self, who: Participant, found: Mapping[str, tuple[bool, Log]]) -> None:
        """Push what was missed, room by room and in order, then live messages."""
        for name, (whole, log) in found.items():
            room = who.rooms.get(room_topic(name))
            if room is not None and room.keep is not None:
                self._go_live(who, room, log, log.entries if whole else [])

    # ---- presence

    async def _view(self, room: Room) -> View:
        """The room's members, read from the backplane once and kept up to date from then on."""
        if room.view_ready is None:
            room.view = View()
            room.view_ready = asyncio.ensure_future(self._read_view(room, room.view))
        if not room.view_ready.done():
            await asyncio.shield(room.view_ready)
        assert room.view is not None
        return room.view

    async def _read_view(self, room: Room, view: View) -> None:
        view.join(await self._held(room.topic))
        self._watch_owners()

    async def _held(self, topic: str) -> dict[str, Entry]:
        try:
            held = await self.backplane.held(topic)
        except BackplaneUnavailable as error:
            logger.info("presence of %r is incomplete: %s", topic[1:], error)
            return {}
        return {member: Entry.from_bytes(value) for member, value in held.items()}

    async def members(self, name: str) -> list[Member]:
        """
        Everybody tracked in the room, in all processes. Raises `BackplaneUnavailable`, if it is not known.
        """
        await self.open()
        room = self.topics.get(room_topic(name))
        if room is not None and room.view is not None:
            return (await self._view(room)).members()
        held = await self.backplane.held(room_topic(name))
        return presence.members_of({member: Entry.from_bytes(value) for member, value in held.items()})

    async def track(self, who: Participant, room: Room, meta: bytes) -> None:
        """Enter a participant with its meta (JSON), or change it; everybody in the room is told."""
        await self._view(room)
        if who.rooms.get(room.topic) is not room:
            return
        who.tracked.add(room.name)
        entry = Entry(self.origin, Raw(meta))
        await self.backplane.hold(room.topic, who.id, entry.to_bytes())
        if room.name not in who.tracked:  # left while the engine was asked
            await self.backplane.release(room.topic, who.id)
            return
        self._announce(room, {who.id: entry}, [])

    def untrack(self, who: Participant, room: Room) -> None:
        who.tracked.discard(room.name)
        self._announce(room, {}, [who.id])
        self._spawn(self.backplane.release(room.topic, who.id), f"presence of {who.id}")

    def _announce(self, room: Room, joins: dict[str, Entry], leaves: list[str]) -> None:
        """Tell the local participants what is new, and the other processes."""
        self._apply(room, joins, leaves)
        news = PresenceNews(self.origin, {member: bytes(entry.meta) for member, entry in joins.items()}, leaves)
        try:
            sealed = seal(Envelope("presence", self.origin), msgspec.msgpack.encode(news))
            self.backplane.publish((room.topic,), sealed)
        except BackplaneUnavailable:
            logger.debug("presence of %r is told again when the engine is back", room.name)

    def _on_presence_news(self, room: Room, news: PresenceNews) -> None:
        if room.view is not None:
            joins = {member: Entry(news.owner, Raw(meta)) for member, meta in news.joins.items()}
            self._apply(room, joins, news.leaves)

    def _apply(self, room: Room, joins: dict[str, Entry], leaves: Iterable[str]) -> None:
        if room.view is None:
            return
        news, gone = room.view.join(joins), room.view.leave(leaves)
        if news or gone:
            out = Outgoing(presence.diff_notice(room.name, news, gone))
            self._push_all([who for who in room.live if who.wants_presence], out)
        self._watch_owners()

    async def _renew_presence(self, room: Room) -> None:
        """After a loss: say again who is here, and hear who else is."""
        assert room.view is not None
        mine = {member: entry for member, entry in room.view.entries.items() if entry.owner == self.origin}
        self._announce(room, mine, [])
        self._apply(room, await self._held(room.topic), [])

    def _watch_owners(self) -> None:
        if self._sweeper is None and not self.local:
            self._sweeper = asyncio.create_task(self._sweep(), name="presence of dead processes")

    async def _sweep(self) -> None:
        """
        End the entries of processes that have missed their beats: at most a time-to-live after the last
        one.
        """
        while True:
            await asyncio.sleep(self.backplane.ttl_s / 20)
            views = {room: room.view for room in self.topics.values() if room.view is not None}
            owners = frozenset(owner for view in views.values() for owner in view.owners()) - {self.origin}
            if not owners or self.state != "connected" or time.monotonic() < self._judge_owners_at:
                continue
            try:
                dead = owners - await self.backplane.alive(owners)
            except BackplaneUnavailable:
                continue
            for room, view in views.items() if dead else ():
                self._apply(room, {}, view.of_owners(dead))


_by_loop: dict[asyncio.AbstractEventLoop, dict[str, Rooms]] = {}
_by_loop_lock = threading.Lock()


def rooms_for(url: str) -> Rooms:
    """The one `Rooms` of the running event loop and the URL. Those of closed loops are forgotten."""
    loop = asyncio.get_running_loop()
    by_url = _by_loop.get(loop)
    if by_url is None:
        with _by_loop_lock:
            for ended in [known for known in _by_loop if known.is_closed()]:
                del _by_loop[ended]
            by_url = _by_loop.setdefault(loop, {})
    rooms = by_url.get(url)
    if rooms is None:
        rooms = by_url[url] = Rooms(url)
    return rooms


def known_rooms(url: str) -> Rooms | None:
    """The `Rooms` of the running event loop and the URL, if it is in use."""
    try:
        return _by_loop.get(asyncio.get_running_loop(), {}).get(url)
    except RuntimeError:  # called outside of an event loop
        return None
