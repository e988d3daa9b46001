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
import contextlib
import itertools
import logging
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple, cast

import msgspec
from msgspec import Raw, Struct

from socketsundso import history, presence
from socketsundso.backplanes import Backplane, Delivery, Keep, Log, State, open_url
from socketsundso.backplanes.base import backoff, ended
from socketsundso.connection import NEVER, Connection, Counters, Outgoing, gap_notice, take_turns
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

RESUME_BYTES = 4 << 20
"""What one `resume` reads ahead of more than one room; beyond it a log is read again when its turn has come."""

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

Near = list[Connection] | None
"""Connections that came near their outbound bound; mostly there are none."""


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


class Came(NamedTuple):
    """A numbered message on its way to somebody who still reads the log."""

    seq: int
    epoch: str
    out: Outgoing


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
        self.behind: dict[Participant, deque[Came]] = {}  # still reading the log; the latest of what came meanwhile
        self.skip: dict[Participant, Resume] = {}  # has had the messages up to this position from the log
        self.ready: asyncio.Future[None] | None = None  # while the subscription is under way
        self.log: Position | None = None
        self.catching_up: list[Delivery] | None = None  # what came while a hole is being filled
        self.view: View | None = None
        self.view_ready: asyncio.Future[None] | None = None

    @property
    def empty(self) -> bool:
        return not self.live and not self.behind

    def hold_back(self, who: Participant) -> None:
        """
        From now on keep what comes for who reads the log, as many as the log itself keeps: the others are there.
        """
        assert self.keep is not None
        self.live.pop(who, None)
        self.behind[who] = deque(maxlen=self.keep.messages)


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
        self._compare_at = NEVER  # after a loss: when the views are compared with what the engine holds
        self._untold: dict[str, set[str]] = {}  # topic -> members that left while the engine could not be told
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
            room.hold_back(who)
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
        near: Near = None
        if plain:
            near = self._send_plain(plain, logged, payload, excluded, ttl_s, must_publish)
        for topic in logged:
            await self._append(topic, payload, excluded, ttl_s)
        if near:
            await take_turns(near)
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
    ) -> Near:
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
    ) -> Near:
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

    def _push_all(self, audience: Collection[Participant], out: Outgoing) -> Near:
        near: Near = None
        frame: bytes | None = None
        for who in audience:
            connection = who.connection
            offer = connection.offer
            if offer is not None:  # nothing waits: `push` in short, benchmarks/test_broadcast.py
                if frame is None:
                    frame = out.frame(cast(Wire, connection.wire))
                if offer(frame):
                    continue
            if connection.push(out):
                near = near or []
                near.append(connection)
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
        self._compare_at = time.monotonic() + self.backplane.ttl_s  # when every process has put its entries back
        self._tell_untold()
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

    def _hand_on(self, room: Room, delivery: Delivery) -> Near:
        position = room.log
        assert position is not None
        envelope, payload = unseal(delivery.payload)
        out = Outgoing(history.numbered(payload, room.name, delivery.seq), room.name, envelope.ttl_s)
        instead = out
        if envelope.excluded:  # who is left out gets the new position: its numbers must not have a hole
            instead = Outgoing(history.position_notice(room.name, delivery.seq, delivery.epoch))
        for who, came in room.behind.items():
            came.append(Came(delivery.seq, delivery.epoch, instead if who.id in envelope.excluded else out))
        audience: Collection[Participant] = room.live
        if room.skip:
            audience = [who for who in room.live if not _includes(room.skip.get(who), delivery)]
            room.skip = {who: had for who, had in room.skip.items() if had.seq > delivery.seq}
        if envelope.excluded:
            self._push_all([who for who in audience if who.id in envelope.excluded], instead)
            audience = [who for who in audience if who.id not in envelope.excluded]
        near = self._push_all(audience, out)
        position.move(delivery.seq, delivery.epoch)
        return near

    def _catch_up(self, room: Room) -> None:
        if room.catching_up is None:
            room.catching_up = []
            self._spawn(self._fill_hole(room), f"catching up in {room.name!r}")

    async def _fill_hole(self, room: Room) -> None:
        """
        Hand on what was missed, or tell every participant that it cannot be had; then go on.

        Tries again as long as the engine cannot tell, unless the room has emptied.
        """
        waits = backoff()
        try:
            while self.topics.get(room.topic) is room and not await self._read_hole(room):
                room.catching_up = []  # the log has it too; it must not grow with the outage
                await asyncio.sleep(next(waits))
        finally:
            came, room.catching_up = room.catching_up or [], None
        for delivery in came:
            self._on_logged(room, delivery)

    async def _read_hole(self, room: Room) -> bool:
        """False: the engine cannot tell yet."""
        assert room.log is not None
        assert room.keep is not None
        wanted = Resume(room.log.seq, room.log.epoch)
        try:
            log = await self.backplane.read(room.topic, room.keep, wanted.seq)
            if log.epoch != wanted.epoch:  # the numbers have begun anew: what has come since is not lost
                log = await self.backplane.read(room.topic, room.keep, 0)
        except BackplaneUnavailable as error:
            logger.info("%r cannot catch up yet: %s", room.name, error)
            return False
        if log.epoch != wanted.epoch:
            begin = log.entries[0][0] - 1 if log.entries else log.seq
            self._tell_gap(room, log._replace(seq=begin), wanted)
        elif not history.recovered(log, wanted):
            self._tell_gap(room, log, wanted)
            return True
        for seq, payload in log.entries:
            near = self._hand_on(room, Delivery(room.topic, payload, seq, log.epoch))
            if near:
                await take_turns(near)
        return True

    def _tell_gap(self, room: Room, log: Log, wanted: Resume) -> None:
        assert room.log is not None
        room.skip = {who: had for who, had in room.skip.items() if had.epoch == log.epoch}  # who is there already
        for notice in _gap_notices(room, log, wanted):
            self._push_all([who for who in room.live if who not in room.skip], Outgoing(notice))
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
            self._go_live(who, room, Resume(log.seq, log.epoch))
        return whole, log

    def _go_live(self, who: Participant, room: Room, at: Resume) -> None:
        """From its position on, a participant gets what comes."""
        came = room.behind.pop(who, None)
        if came is None:
            return  # has left meanwhile
        for seq, epoch, out in came:
            if seq > at.seq and epoch == at.epoch:
                who.push(out)
        room.live[who] = None
        if room.log is None:
            room.log = Position(at.seq, at.epoch)
        elif room.log.epoch != at.epoch:
            room.skip[who] = at
            self._catch_up(room)
        elif room.log.seq < at.seq:
            room.skip[who] = at

    async def read_missed(self, who: Participant, wanted: Mapping[str, Resume]) -> dict[str, tuple[bool, Log]]:
        """
        Join rooms where a client left off: for each, whether all that it missed is there, and the log.

        Live messages are kept back until `go_on` has pushed what was missed.
        """
        found: dict[str, tuple[bool, Log]] = {}
        bytes_left = RESUME_BYTES
        for name, position in wanted.items():
            topic = room_topic(name)
            room = who.rooms.get(topic)
            if room is None:
                room = await self._enter(who, topic)
            elif room.keep is not None and who in room.live:
                room.hold_back(who)
            if room.keep is None:
                found[name] = (False, Log("", 0, []))
            else:
                whole, log = await self._start_reading(who, room, position)
                bytes_left -= sum(len(sealed) for _, sealed in log.entries)
                ahead = whole and (bytes_left >= 0 or not found)
                found[name] = (whole, log if ahead else log._replace(entries=[]))
        return found

    async def go_on(
        self,
        who: Participant,
        wanted: Mapping[str, Resume],
        found: Mapping[str, tuple[bool, Log]],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """
        Send what was missed, room by room and in order, then live messages.

        `send` waits for the peer: a long past makes no slow reader, however small its outbound bound is.
        """
        for name, (whole, log) in found.items():
            room = who.rooms.get(room_topic(name))
            if room is not None and room.keep is not None:
                await self._replay(who, room, wanted[name] if whole else Resume(log.seq, log.epoch), log, send)

    async def _replay(
        self, who: Participant, room: Room, at: Resume, log: Log, send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """
        From the log, then from what came meanwhile; and from the log again where that was more than was kept.

        The log may come without its entries, to be read again.
        """
        while True:
            for seq, sealed in log.entries:
                await send(history.numbered(unseal(sealed)[1], room.name, seq))
                at = Resume(seq, log.epoch)
            came = room.behind.get(who)
            while came and came[0].epoch == at.epoch and came[0].seq <= at.seq + 1:
                seq, _, out = came.popleft()
                if seq > at.seq:
                    at = Resume(seq, at.epoch)
                    await send(out.payload)
            if came is None or (not came and at.seq >= log.seq):
                break
            next_ = came[0] if came else Came(log.seq + 1, log.epoch, Outgoing(b""))
            log = await self._read_on(room, at, next_)
            if came and came[0].epoch != log.epoch:  # of numbers that have come to an end
                came.popleft()
            if not history.recovered(log, at):
                for notice in _gap_notices(room, log, at):
                    await send(notice)
                at, log = Resume(log.seq, log.epoch), log._replace(entries=[])
        self._go_live(who, room, at)

    async def _read_on(self, room: Room, at: Resume, came: Came) -> Log:
        assert room.keep is not None
        try:
            return await self.backplane.read(room.topic, room.keep, at.seq)
        except BackplaneUnavailable:  # nobody knows what was between
            return Log(came.epoch, came.seq - 1, [])

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
        view.join(await self._held(room, view))
        self._watch_owners()

    async def _held(self, room: Room, view: View) -> dict[str, Entry]:
        """What the engine holds for the room. Of our own entries only those that are in force."""
        view.begin_reading()
        held: dict[str, bytes] = {}
        try:
            held = await self.backplane.held(room.topic)
        except BackplaneUnavailable as error:
            logger.info("presence of %r is incomplete: %s", room.name, error)
        entries = view.read({member: Entry.from_bytes(value) for member, value in held.items()})
        mine = {who.id for who in (*room.live, *room.behind) if room.name in who.tracked}
        return {member: entry for member, entry in entries.items() if entry.owner != self.origin or member in mine}

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
            await self._release(room.topic, who.id)
            return
        self._announce(room, {who.id: entry}, [])

    def untrack(self, who: Participant, room: Room) -> None:
        who.tracked.discard(room.name)
        self._announce(room, {}, [who.id])
        self._spawn(self._release(room.topic, who.id), f"presence of {who.id}")

    async def _release(self, topic: str, member: str) -> None:
        try:
            await self.backplane.release(topic, member)
        except BackplaneUnavailable:  # told when the engine is back; bounded by who was there when it went away
            self._untold.setdefault(topic, set()).add(member)

    def _tell_untold(self) -> None:
        """Who left while the engine was away would stay for ever with the others, since its process lives."""
        untold, self._untold = self._untold, {}
        for topic, members in untold.items():
            self._publish_presence(topic, {}, list(members))
            for member in members:
                self._spawn(self._release(topic, member), f"presence of {member}")

    def _announce(self, room: Room, joins: dict[str, Entry], leaves: list[str]) -> None:
        """Tell the local participants what is new, and the other processes."""
        self._apply(room, joins, leaves)
        self._publish_presence(room.topic, joins, leaves)

    def _publish_presence(self, topic: str, joins: dict[str, Entry], leaves: list[str]) -> None:
        news = PresenceNews(self.origin, {member: bytes(entry.meta) for member, entry in joins.items()}, leaves)
        try:
            sealed = seal(Envelope("presence", self.origin), msgspec.msgpack.encode(news))
            self.backplane.publish((topic,), sealed)
        except BackplaneUnavailable:
            logger.debug("presence of %r is told again when the engine is back", topic[1:])

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
        self._apply(room, await self._held(room, room.view), [])

    async def _compare_presence(self, room: Room, view: View) -> None:
        """A while after a loss: who left meanwhile in other processes leaves here too."""
        known = {member for member, entry in view.entries.items() if entry.owner != self.origin}
        held = await self.backplane.held(room.topic)
        self._apply(room, {}, known - held.keys())

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
            if self.state == "connected":
                self._tell_untold()
                with contextlib.suppress(BackplaneUnavailable):
                    await self._sweep_views()

    async def _sweep_views(self) -> None:
        views = {room: room.view for room in self.topics.values() if room.view is not None}
        owners = frozenset(owner for view in views.values() for owner in view.owners()) - {self.origin}
        if owners and time.monotonic() >= self._judge_owners_at:
            dead = owners - await self.backplane.alive(owners)
            for room, view in views.items() if dead else ():
                self._apply(room, {}, view.of_owners(dead))
        if time.monotonic() >= self._compare_at:
            for room, view in views.items():
                await self._compare_presence(room, view)
            self._compare_at = NEVER


def _includes(had: Resume | None, delivery: Delivery) -> bool:
    """Whether a position that was read from the log is at the delivery, or after it."""
    return had is not None and had.epoch == delivery.epoch and had.seq >= delivery.seq


def _gap_notices(room: Room, log: Log, wanted: Resume) -> tuple[bytes, bytes]:
    """That the way from a position to the log's end cannot be had, and where the participant is now."""
    dropped = log.seq - wanted.seq if log.epoch == wanted.epoch and log.seq >= wanted.seq else None
    return gap_notice(room.name, dropped), history.position_notice(room.name, log.seq, log.epoch)


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
