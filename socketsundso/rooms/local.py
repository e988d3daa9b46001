"""
Who hears what: the membership of this event loop's connections, local fan-out, and the bridge to the
backplane.

A `Rooms` belongs to one backplane URL and one event loop (`rooms_for`). In: encoded messages and the rooms
they are for. Out: `Connection.push` for every local participant, and one payload per room for the other
processes, which push it without decoding. Nothing here waits for a single peer. Rooms with history and
presence have their own modules, `recovery` and `roster`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial

import msgspec

from socketsundso.backplanes import Backplane, Delivery, Keep, Log, State, open_url
from socketsundso.connection import BinaryOutgoing, Counters, Outgoing, take_turns
from socketsundso.errors import BackplaneUnavailable
from socketsundso.rooms import history
from socketsundso.rooms.acting import Acting
from socketsundso.rooms.agreement import Agreement
from socketsundso.rooms.history import Resume
from socketsundso.rooms.presence import Member
from socketsundso.rooms.recovery import Recovery, SendBody, read_newest
from socketsundso.rooms.room import (
    AT_ONCE,
    EVERYONE,
    Header,
    Near,
    Participant,
    Reachable,
    Room,
    Tasks,
    push_all,
    room_topic,
    seal,
    some_at_once,
    unseal,
)
from socketsundso.rooms.roster import Roster
from socketsundso.rooms.watchers import Watchers
from socketsundso.wire import BinaryPayload

logger = logging.getLogger("socketsundso.rooms")

RECENT = 4096
"""
How many multi-room broadcasts are remembered, so that one which arrives by two topics is delivered once.
"""

RESUME_BYTES = 4 << 20
"""What one `resume` reads ahead of more than one room; beyond it a log is read again when its turn has come."""

READ_AT_ONCE = 4
"""Rooms whose last messages are read at the same time, and are in memory meanwhile, where one connection joins many."""

MANY_AT_ONCE = 200
MANY_BYTES = 1 << 16
"""
What `send_many` gives the engine before it waits for it. Of a room with history it comes back within one turn of the
loop: it must not be more than what a reader who takes all of it may have waiting.
"""

DELIVERY_TIMEOUT_S = 2.0
"""The longest that a broadcast to a room with history waits for its own number to come back."""


class Rooms:
    """All rooms of one event loop on one backplane."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.backplane: Backplane = open_url(url)
        self.counters = Counters()
        self.topics: dict[str, Room] = {}
        self._history = history.Declarations()
        self._agreement = Agreement(self.backplane)
        self._opening: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self.recovery = Recovery(self.backplane, self.topics, self.counters, self._tasks)
        self.roster = Roster(self.backplane, self.topics, self._tasks, self.local)
        self.acting = Acting(self.backplane, self.topics, self.counters, self._tasks)
        self._serials = itertools.count(1)
        self._recent: dict[tuple[str, int], None] = {}
        self._recent_order: deque[tuple[str, int]] = deque()
        self.watchers = Watchers(url)
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
        """
        Rooms that match a pattern keep history, also those that somebody is in already.

        Raises DefinitionError where another declaration says something else of the same rooms.
        """
        if self._history.known(patterns):
            return
        rooms = [room for topic, room in self.topics.items() if topic[0] == "r"]
        self._history.add(patterns, [room.name for room in rooms])
        for room in rooms:
            room.keep = self._history.keep_for(room.name)

    def agreed(self, patterns: Mapping[str, Keep]) -> bool:
        """Whether all processes know of them already."""
        return self._agreement.settled(patterns)

    async def agree(self, patterns: Mapping[str, Keep]) -> None:
        """
        As `declare`, and so that all processes on the backplane know.

        Raises DefinitionError, too, where a living process declares something else for the same pattern.
        """
        if not self.agreed(patterns):
            self._history.check(patterns, [room.name for topic, room in self.topics.items() if topic[0] == "r"])
            await asyncio.shield(self._begin())
            await self._agreement.settle(patterns)
        self.declare(patterns)

    async def open(self) -> None:
        while not (opening := self._opening or self._begin()).done():
            await asyncio.shield(opening)

    def _begin(self) -> asyncio.Future[None]:
        """Done after the first attempt to connect."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open(self._closing))
        return self._opening

    async def _open(self, closing: asyncio.Task[None] | None) -> None:
        if closing is not None:
            await asyncio.wait({closing})
        await self.backplane.open(self)
        self.watchers.tell(self.state)

    def use(self, user: object) -> None:
        self._users.add(user)

    async def release(self, user: object) -> None:
        """Close if nobody uses this any more: no hub, no connection. It opens again at the next use."""
        self._users.discard(user)
        if not self._users and not self.topics and not self.acting.connections:
            await self.aclose()

    async def aclose(self) -> None:
        """Who opens it meanwhile waits, and has it opened anew."""
        if self._closing is None:
            opening, self._opening = self._opening, None
            self._closing = asyncio.create_task(self._close(opening, self.acting.withdraw()))
        await asyncio.shield(self._closing)
        await self.watchers.settle()

    async def _close(self, opening: asyncio.Future[None] | None, registered: bool) -> None:
        try:
            await self._tasks.aclose()
            if registered:
                await self.acting.unregister()
            await self.backplane.aclose()
            if opening is not None and not opening.done():
                await asyncio.wait({opening})
                await self.backplane.aclose()
            self._agreement.forget()
            self.watchers.tell("closed")
        finally:
            self._closing = None

    # ---- everyone

    def attend(self, connection: Reachable) -> None:
        """It is one of everyone from now on; opens the backplane, in the background."""
        self.acting.attend(connection, self.open)

    async def attended(self) -> None:
        """Wait until this is open, and acts of other processes reach it."""
        await self.open()
        await self.acting.registered()

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
        entered = await self._enter(who, topic)
        if entered is None:
            return
        if entered.keep is not None:
            await self._read_position(who, entered)
        await self._inform(who, entered)

    async def join_all(self, who: Participant, topics: Collection[str], last: int | None, send: SendBody) -> None:
        """
        Several rooms at once, whole or not at all: a failure leaves the participant in none that is new to it.

        With `last`, the newest messages of each follow its position, sent with `send`. Raises ValueError, before any
        is joined, for a room that keeps none.
        """
        await self.open()
        if last is not None:
            self._require_history(topics)
        new = [topic for topic in topics if topic not in who.rooms]
        entered: list[str] = []
        try:
            for topic, (begin, log) in (await self._arrive_in(who, new, last or 0, entered)).items():
                if (room := who.rooms.get(topic)) is not None:  # not left meanwhile
                    await self.recovery.begin_at(who, room, begin, log, send)
            await some_at_once(partial(self._inform, who), [who.rooms[topic] for topic in new if topic in who.rooms])
        except BaseException:
            for topic in entered:
                self.leave(who, topic)
            raise
        for topic in topics:
            if topic not in new and topic in who.rooms:
                await self.join(who, topic)

    def _require_history(self, topics: Iterable[str]) -> None:
        for topic in topics:
            room = self.topics.get(topic)
            if (room.keep if room else self._history.keep_for(topic[1:])) is None:
                raise history.keeps_nothing(topic[1:])

    async def _arrive_in(
        self, who: Participant, topics: list[str], last: int, entered: list[str]
    ) -> dict[str, tuple[int, Log]]:
        """
        Enter the rooms; `entered` gets those. For those with history: where the participant begins, and the log.

        What the logs have is read again, in its turn, where it is more than what one `resume` reads ahead.
        """
        found: dict[str, tuple[int, Log]] = {}
        bytes_left = RESUME_BYTES

        async def arrive(topic: str) -> None:
            nonlocal bytes_left
            room = await self._enter(who, topic)
            if room is None:
                return
            entered.append(topic)
            if room.keep is not None:
                log = await read_newest(self.backplane, topic, room.keep, last)
                begin = log.entries[0][0] - 1 if log.entries else log.seq
                bytes_left -= sum(len(sealed) for _, sealed in log.entries)
                ahead = bytes_left >= 0 or not found
                found[topic] = begin, log if ahead else log._replace(entries=[])

        await some_at_once(arrive, topics, READ_AT_ONCE if last else AT_ONCE)
        return {topic: found[topic] for topic in topics if topic in found}

    async def _inform(self, who: Participant, room: Room) -> None:
        """Push who is in the room, and what changes from now on; unless that is done already."""
        if who.wants_presence and room.topic[0] == "r" and not room.informs(who):
            await self.roster.inform(who, room)

    async def _enter(self, who: Participant, topic: str) -> Room | None:
        """None where another task of the connection was faster: then as `join`."""
        await self.open()
        room = self.topics.get(topic)
        if room is None:
            room = await self._new_room(topic)
        if topic in who.rooms:
            await self.join(who, topic)
            return None
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

    async def _new_room(self, topic: str) -> Room:
        """Unless somebody else has made it meanwhile. The backplane is open when this returns."""
        keep = await self._declared(topic)
        others_keep = await self._kept_by_others(topic) if keep is None else None
        await self.open()  # it may have been closed meanwhile, since nobody was in a room
        if (room := self.topics.get(topic)) is None:
            declared_since = self._history.keep_for(topic[1:]) if topic[0] == "r" else None
            room = self.topics[topic] = Room(topic, declared_since)
        room.kept_by_others = room.kept_by_others or others_keep
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
        if topic[0] == "r":
            self.roster.forget(who, room)
            if room.name in who.tracked:
                self.roster.untrack(who, room)
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

        Rooms with history number it: each of them its own copy; a `BinaryPayload` has no place for that, and is
        kept nowhere. Raises `BackplaneUnavailable` where the engine that numbers is away, or, with
        `must_publish`, whenever the engine could not take it.
        """
        await self.open()
        logged = {} if type(payload) is BinaryPayload else await self._which_are_logged(topics)
        plain = [topic for topic in topics if topic not in logged]
        for topic in logged:  # before any room has had it
            history.check_own_fields(payload, topic[1:])
        self.counters.published += 1
        near: Near = None
        refused = False
        try:
            if plain:
                near = self._fan_out(plain, logged, _outgoing(payload, plain, ttl_s), excluded)
                refused = not self._publish(plain, logged, payload, excluded, ttl_s, must_publish)
            for topic, keep in logged.items():
                await self._append(topic, keep, payload, excluded, ttl_s)
            if near:
                await take_turns(near)
            if must_publish and plain:
                await self.backplane.flush()
        except BackplaneUnavailable:
            refused = True
            raise
        finally:
            self.counters.refused += refused

    async def broadcast_many(
        self,
        topics: list[str],
        payloads: list[bytes],
        excluded: Collection[str] = (),
        ttl_s: float | None = None,
        must_publish: bool = False,
    ) -> None:
        """
        As `broadcast`, one after the other in their order; the engine is waited for once in a while, not each time.

        Raises `BackplaneUnavailable` as `broadcast` does: its `taken` tells how many were taken; of those behind them
        the engine may have had some, and no more are sent.
        """
        await self.open()
        logged = await self._which_are_logged(topics)
        for topic, payload in itertools.product(logged, payloads):
            if type(payload) is not BinaryPayload:
                history.check_own_fields(payload, topic[1:])
        taken = 0
        for batch in _batches(payloads):
            try:
                self.counters.refused += await self._broadcast_batch(
                    topics, {} if type(batch[0]) is BinaryPayload else logged, batch, excluded, ttl_s, must_publish
                )
            except BackplaneUnavailable as error:
                error.taken += taken
                self.counters.refused += len(payloads) - error.taken
                raise
            taken += len(batch)

    async def _broadcast_batch(
        self,
        topics: list[str],
        logged: Mapping[str, Keep],
        batch: list[bytes],
        excluded: Collection[str],
        ttl_s: float | None,
        must_publish: bool,
    ) -> int:
        """Returns how many the engine did not take, where they need not be published."""
        plain, refused = [topic for topic in topics if topic not in logged], 0
        self.counters.published += len(batch)
        for payload in batch if plain else ():
            near = self._fan_out(plain, logged, _outgoing(payload, plain, ttl_s), excluded)
            refused += not self._publish(plain, logged, payload, excluded, ttl_s, must_publish)
            if near:
                await take_turns(near)
        header = Header("message", self.origin, tuple(excluded), ttl_s=ttl_s)
        sealed, taken, problem = [seal(header, payload) for payload in batch], len(batch), None
        for topic, keep in logged.items():
            try:
                given = await self.backplane.append_many(topic, sealed, keep)
            except BackplaneUnavailable as error:
                taken, problem = min(taken, error.taken), error
            else:
                await self._handed_on(topic, given[-1][0])
        if plain and must_publish:
            await self.backplane.flush()
        if problem is not None:
            problem.taken = taken
            raise problem
        return refused

    async def _which_are_logged(self, topics: list[str]) -> dict[str, Keep]:
        logged: dict[str, Keep] = {}
        for topic in topics:
            keep = await self._logged(topic)
            if keep is not None:
                logged[topic] = keep
        return logged

    async def _logged(self, topic: str) -> Keep | None:
        """Whether the room keeps history: as declared here, else as some other process has it."""
        room = self.topics.get(topic)
        if room is not None:
            if room.numbered and room.keep is room.kept_by_others is None:
                room.kept_by_others = await self._agreement.keep_of(topic, room.name)
            return room.keep or room.kept_by_others
        keep = await self._declared(topic)
        if keep is None and topic[0] == "r" and not self._history and self.state == "connected":
            return await self._agreement.keep_of(topic, topic[1:])
        return keep or await self._kept_by_others(topic)

    async def _kept_by_others(self, topic: str) -> Keep | None:
        """As far as it is known, for who declares nothing of the room."""
        return await self._agreement.known_keep_of(topic[1:]) if topic[0] == "r" and self.state == "connected" else None

    async def _declared(self, topic: str) -> Keep | None:
        """As this process declares it. Raises DefinitionError where one that was there before has it otherwise."""
        keep = self._history.keep_for(topic[1:]) if topic[0] == "r" else None
        if keep is not None:
            await self._agreement.require_same(topic[1:], keep)
        return keep

    def _publish(
        self,
        topics: list[str],
        logged: Collection[str],
        payload: bytes,
        excluded: Collection[str],
        ttl_s: float | None,
        must_publish: bool,
    ) -> bool:
        """Whether the engine takes it. Raises `BackplaneUnavailable` where it must and does not."""
        kind = "binary" if type(payload) is BinaryPayload else "message"
        header = Header(kind, self.origin, tuple(excluded), ttl_s=ttl_s)
        if len(topics) > 1 or logged:
            header.topics, header.covered = tuple(topics), tuple(logged)
            header.serial = next(self._serials)
        try:
            self.backplane.publish(tuple(topics), seal(header, payload))
        except BackplaneUnavailable:
            if must_publish:
                raise
            return False
        return True

    def _fan_out(
        self, topics: Collection[str], covered: Collection[str], out: Outgoing, excluded: Collection[str]
    ) -> Near:
        """Push to local participants; the loop that a broadcast is measured by."""
        audience: Collection[Participant]
        if EVERYONE in topics:
            audience = [who for who in self.acting.everyone if who.id not in excluded]
            return push_all(audience, out, self.counters)
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
        return push_all(audience, out, self.counters)

    async def _append(
        self, topic: str, keep: Keep, payload: bytes, excluded: Collection[str], ttl_s: float | None
    ) -> None:
        header = Header("message", self.origin, tuple(excluded), ttl_s=ttl_s)
        seq, _ = await self.backplane.append(topic, seal(header, payload), keep)
        await self._handed_on(topic, seq)

    async def _handed_on(self, topic: str, seq: int) -> None:
        """Wait, and not for ever, until members in this process have had it; then for those near their bound."""
        room = self.topics.get(topic)
        if room is not None and room.log is not None:
            await room.log.reached(seq, DELIVERY_TIMEOUT_S)
            near, room.near = room.near, None
            if near:
                await take_turns(near)

    # ---- what comes from the backplane

    def on_delivery(self, delivery: Delivery) -> None:
        room = self.topics.get(delivery.topic)
        if delivery.seq:
            if room is not None:
                hand_on = self._hand_on_unnumbered if room.keep is None else self.recovery.on_delivery
                hand_on(room, delivery)
            return
        try:
            header, payload = unseal(delivery.payload)
            if header.origin == self.origin:
                return
            if header.kind == "message":
                self._on_message(delivery.topic, header, payload)
            elif header.kind == "binary":
                self._on_message(delivery.topic, header, BinaryPayload(payload))
            elif header.kind == "presence":
                if room is not None:
                    self.roster.on_news(room, payload)
            else:
                self.acting.on_payload(header, payload)
        except msgspec.MsgspecError as error:
            self.acting.puzzle_over(error)

    def _on_message(self, topic: str, header: Header, payload: bytes) -> None:
        if not header.topics:
            self._fan_out((topic,), (), _outgoing(payload, (topic,), header.ttl_s), header.excluded)
        elif self._first_arrival(header.origin, header.serial):
            out = _outgoing(payload, header.topics, header.ttl_s)
            self._fan_out(header.topics, header.covered, out, header.excluded)

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
        """Rooms go on in this process."""
        self.acting.on_lost()
        self.watchers.tell("reconnecting")

    def on_restored(self) -> None:
        """Fill the holes of rooms with history, and say again who is here."""
        self.watchers.tell("connected")
        for room in list(self.topics.values()):
            if room.keep is not None and room.log is not None:
                self.recovery.catch_up(room)
        self.roster.on_restored()
        self._tasks.spawn(self._renew_agreement(), "declarations of history")

    async def _renew_agreement(self) -> None:
        with contextlib.suppress(BackplaneUnavailable):  # away again: it will be back once more
            await self._agreement.renew()

    def _hand_on_unnumbered(self, room: Room, delivery: Delivery) -> None:
        """Another process keeps history for a room that this one was not told to."""
        room.numbered = True
        header, payload = unseal(delivery.payload)
        out = Outgoing(history.numbered(payload, room.name, delivery.seq), room.name, header.ttl_s)
        self._fan_out((room.topic,), (), out, header.excluded)

    # ---- history and presence

    async def _read_position(self, who: Participant, room: Room) -> None:
        try:
            await self.recovery.start(who, room, None)
        except BaseException:
            self.leave(who, room.topic)
            raise

    async def read_missed(self, who: Participant, wanted: Mapping[str, Resume]) -> dict[str, tuple[bool, Log]]:
        """
        Join rooms where a client left off: for each, whether all that it missed is there, and the log.

        Live messages are kept back until `go_on` has pushed what was missed. A failure leaves the participant in the
        rooms where it was before, with all that they have had meanwhile, and in no other.
        """
        entered: list[str] = []
        held_back: dict[Room, Resume] = {}
        try:
            return await self._read_each(who, wanted, entered, held_back)
        except BaseException:
            for topic in entered:
                self.leave(who, topic)
            for room, at in held_back.items():
                self.recovery.go_back(who, room, at)
            raise

    async def _read_each(
        self, who: Participant, wanted: Mapping[str, Resume], entered: list[str], held_back: dict[Room, Resume]
    ) -> dict[str, tuple[bool, Log]]:
        """`held_back` gets the rooms where the participant was before, and how far it had got there."""
        found: dict[str, tuple[bool, Log]] = {}
        bytes_left = RESUME_BYTES
        for name, position in wanted.items():
            topic = room_topic(name)
            if topic not in who.rooms and await self._enter(who, topic) is not None:
                entered.append(topic)
            room = who.rooms.get(topic)
            if room is not None and room.keep is not None and who in room.live:
                held_back[room] = room.position_of(who)
                room.hold_back(who)
            if room is None or room.keep is None:
                found[name] = (False, Log("", 0, []))
            else:
                whole, log = await self.recovery.start(who, room, position)
                bytes_left -= sum(len(sealed) for _, sealed in log.entries)
                ahead = whole and (bytes_left >= 0 or not found)
                found[name] = (whole, log if ahead else log._replace(entries=[]))
        return found

    async def go_on(
        self,
        who: Participant,
        wanted: Mapping[str, Resume],
        found: Mapping[str, tuple[bool, Log]],
        send: SendBody,
    ) -> None:
        """After `read_missed`: send what was missed, then live messages; and who is in the rooms that are new to it."""
        await self.recovery.go_on(who, wanted, found, send)
        for name in wanted:
            room = who.rooms.get(room_topic(name))
            if room is not None:
                await self._inform(who, room)

    async def past(self, name: str, limit: int) -> list[bytes]:
        """
        The newest messages of a room as its members got them, in order. Changes nothing, neither what the room keeps
        nor for how long. Raises ValueError for a room without history, `BackplaneUnavailable`.
        """
        await self.open()
        topic = room_topic(name)
        keep = await self.backplane.logged(topic)  # and not as declared: who asks must not trim
        if keep is None:
            if self._history.keep_for(name) is None and await self._agreement.keep_of(topic, name) is None:
                raise history.keeps_nothing(name)
            return []  # nobody has used it yet, and asking must not begin a log
        log = await read_newest(self.backplane, topic, keep, limit)
        return [history.numbered(unseal(sealed)[1], name, seq) for seq, sealed in log.entries]

    async def members(self, name: str) -> list[Member]:
        """
        Everybody tracked in the room, in all processes. Raises `BackplaneUnavailable`, if it is not known.
        """
        await self.open()
        return (await self.roster.members(name)).members()

    async def count(self, name: str) -> int:
        """How many those are."""
        await self.open()
        return len((await self.roster.members(name)).shown)


def _outgoing(payload: bytes, topics: Collection[str], ttl_s: float | None) -> Outgoing:
    """Knows the rooms that it is for, for the gap where it is dropped; what is for a user is of no room."""
    rooms = tuple(topic[1:] for topic in topics if topic[0] == "r")
    kind = BinaryOutgoing if type(payload) is BinaryPayload else Outgoing
    return kind(payload, rooms[0] if len(topics) == len(rooms) == 1 else rooms or None, ttl_s)


def _batches(payloads: list[bytes]) -> Iterator[list[bytes]]:
    """What the engine is given in one go, binary ones apart from the others."""
    start = size = 0
    for end, payload in enumerate(payloads):
        is_full = end - start >= MANY_AT_ONCE or size + len(payload) > MANY_BYTES
        if end > start and (is_full or type(payload) is not type(payloads[start])):
            yield payloads[start:end]
            start, size = end, 0
        size += len(payload)
    if payloads:
        yield payloads[start:]


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


def rooms_in_use() -> list[Rooms]:
    """Those of all event loops of this process. May be called in any thread."""
    with _by_loop_lock:
        return [rooms for by_url in _by_loop.values() for rooms in tuple(by_url.values())]


def known_rooms(url: str) -> Rooms | None:
    """The `Rooms` of the running event loop and the URL, if it is in use."""
    try:
        return _by_loop.get(asyncio.get_running_loop(), {}).get(url)
    except RuntimeError:  # called outside of an event loop
        return None
