"""
The rooms of one connection: `join`, `leave`, `broadcast`, `track`, `identify`, and coming back with `resume`.

An endpoint has a `Membership`, made when it begins, from its `Peer` and from what its class declares; it is also what a
hub acts on (`Reachable`). A connection that never joins pays nothing else: what rooms need is made at its first `join`
or `identify`, or when something is sent to everyone, and only then do its sends go through the queue that keeps them in
order with broadcasts.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
from collections.abc import Collection, Iterable
from typing import Any, Protocol, cast

from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketDisconnect

from socketsundso.backplanes import State
from socketsundso.connection import Calls, OutboundQueue, Peer
from socketsundso.errors import BackplaneUnavailable, DefinitionError, EventError
from socketsundso.messages import Framing, http_code
from socketsundso.rooms import history
from socketsundso.rooms.declaration import Declaration, Declares
from socketsundso.rooms.history import Resume, valid_count
from socketsundso.rooms.local import Rooms, rooms_for
from socketsundso.rooms.room import Participant, names_of, room_topic, user_topic, valid_name

logger = logging.getLogger("socketsundso.rooms")

MAX_META_BYTES = 16 << 10
"""The longest meta of `track`, as JSON: everybody who enters the room gets it."""

MAX_RESUMED = 10_000
"""The most rooms that one `resume` may name; each of them gets an answer of its own."""


MAX_KEY = 200
"""Characters of the longest `key` of `track`."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Joins(Declares, Protocol):
    """What it asks of its endpoint."""

    def authorize(self, room: str) -> Any: ...
    async def on_backplane(self, status: State) -> None: ...

    _calls: Calls | None
    _framing: Framing

    async def respond(self, response: Any) -> None: ...


class Membership:
    """One connection's. Its methods are the endpoint's of the same names, which say what they raise."""

    __slots__ = ("_attends", "_declaration", "_endpoint", "_peer", "participant")

    def __init__(self, endpoint: Joins, peer: Peer, declaration: Declaration) -> None:
        self._endpoint, self._peer, self._declaration = endpoint, peer, declaration
        self.participant: Participant | None = None  # from the first join on
        self._attends: Rooms | None = None  # where it is one of everyone

    @property
    def rooms(self) -> frozenset[str]:
        who = self.participant
        return frozenset(topic[1:] for topic in who.rooms if topic[0] == "r") if who else frozenset()

    @property
    def queued(self) -> tuple[int, int]:
        """What waits for the peer, since it reads slowly: how many messages, and of how many bytes."""
        queue = self.participant.connection.queue if self.participant is not None else None
        return (len(queue.waiting), queue.bytes) if queue is not None else (0, 0)

    # ---- what users call

    async def join(self, room: str | Iterable[str], *more: str | Iterable[str], last: int | None) -> None:
        topics = _topics(room, *more)
        if last is not None:
            valid_count("last", last)
        who = self._joining()
        new = [topic for topic in topics if topic not in who.rooms]
        self._require_place(who, *new)
        for topic in new:
            await self._authorize(topic[1:])
        await self._enter(who, topics, last)

    async def leave(self, room: str | Iterable[str], *more: str | Iterable[str]) -> None:
        self.leave_now(_topics(room, *more))

    async def broadcast(self, message: Any, room: str | Iterable[str], exclude_self: bool, ttl_s: float | None) -> None:
        topics = [room_topic(name) for name in names_of(room)]
        payload = self._declaration.encode_any(message)
        excluded = (self._peer.id,) if exclude_self else ()
        await self._opened().broadcast(topics, payload, excluded, ttl_s)

    async def identify(self, user: str) -> None:
        topic = user_topic(valid_name(user))
        who = self._joining()
        self._require_place(who, topic)
        await self._enter(who, [topic], None)

    async def track(self, meta: Any, room: str | None, key: str | None) -> None:
        if not self._declaration.wants_presence:
            name = type(self._endpoint).__name__
            raise RuntimeError(f"{name} does not declare presence; `presence_events = True` in {name} lets it track")
        who = self._joining()
        joined = who.rooms.get(room_topic(self._own_room(room)))
        if joined is None:
            raise _forbidden(f"join {room!r} before you are tracked in it", "join a room before you are tracked", room)
        await self._all.roster.track(who, joined, _meta_to_json(meta), _valid_key(key))

    async def untrack(self, room: str | None) -> None:
        who = self.participant
        joined = who.rooms.get(room_topic(self._own_room(room))) if who else None
        if who is not None and joined is not None and joined.name in who.tracked:
            self._all.roster.untrack(who, joined)

    # ---- what hubs do with it, in whichever process they are

    @property
    def id(self) -> str:
        return self._peer.id

    def participant_now(self) -> Participant | None:
        if self._peer.over is not None or not self._peer.accepted:
            return None
        return self._joining()

    def close_soon(self, code: int, reason: str) -> bool:
        if self._peer.over is not None or not self._peer.accepted:
            return False
        self._peer.close_soon(code, reason)
        return True

    def leave_now(self, topics: Collection[str]) -> bool:
        who = self.participant
        if who is None or who.rooms.keys().isdisjoint(topics):
            return False
        for topic in topics:
            self._all.leave(who, topic)
        return True

    def asks(self, name: str) -> bool:
        calls = self._endpoint._calls
        return calls is not None and calls.asks(name) and self._peer.accepted and not self._peer.is_lost

    async def ask(self, name: str, question: bytes, timeout_s: float) -> bytes:
        self._peer.require()
        return await cast(Calls, self._endpoint._calls).relay(name, question, timeout_s)

    async def enter(self, topics: list[str]) -> bool:
        try:
            await self._enter(self._joining(), topics, None)
        except WebSocketDisconnect:
            return False
        except (BackplaneUnavailable, DefinitionError) as error:
            logger.warning("%s was to join %d rooms for a hub, and is in none of them: %s", self.id, len(topics), error)
            return False
        return True

    # ---- what the endpoint calls

    def attend(self) -> None:
        """A hub's `everyone` includes it, once it is accepted."""
        if self._attends is None and self._peer.loop is not None:
            with contextlib.suppress(ValueError, ImportError):  # of the backplane's URL; who uses rooms is told
                self._attends = self._all
                self._attends.attend(self)

    async def declare_history(self) -> None:
        """As soon as a connection comes, so that no room begins without; raises DefinitionError."""
        await self._all.agree(self._declaration.history)

    async def resume(self, rooms: dict[str, Resume]) -> None:
        """The event `resume` of endpoints with history."""
        if len(rooms) > MAX_RESUMED:
            raise EventError("forbidden", f"a resume names {MAX_RESUMED} rooms at most")
        who, everyone = self._joining(), self._opened()
        refused = await self._refused(who, rooms)
        wanted = {room: position for room, position in rooms.items() if room not in refused}
        new = [topic for topic in map(room_topic, wanted) if topic not in who.rooms]
        try:
            found = await everyone.read_missed(who, wanted)
            await self._endpoint.respond(history.resumed(rooms, found, refused))
            await everyone.go_on(who, wanted, found, self._send)
        except BaseException:
            for topic in new:  # else it would be in a room of which it never hears
                everyone.leave(who, topic)
            raise

    async def _refused(self, who: Participant, rooms: Iterable[str]) -> dict[str, str]:
        """Those that this connection may not be in, each with its error code: it says nothing of the others."""
        refused: dict[str, str] = {}
        taken = len(who.rooms)
        for room in rooms:
            try:
                place = 0 if room_topic(valid_name(room)) in who.rooms else 1
                if taken + place > self._endpoint.max_rooms:
                    refused[room] = "forbidden"  # and nobody is asked
                    continue
                await self._authorize(room)
                taken += place
            except EventError as error:
                refused[room] = error.code
            except HTTPException as error:
                refused[room] = http_code(error.status_code)
        return refused

    def leave_everything(self) -> None:
        """The end of the connection: membership, presence and subscriptions with it."""
        if self._attends is not None:
            self._attends.acting.depart(self)
        who, self.participant = self.participant, None
        if who is not None:
            self._all.leave_all(who)
            self._all.watchers.discard(self._tell_backplane)
            who.connection.close()

    # ---- how it is done

    @property
    def _all(self) -> Rooms:
        return rooms_for(self._declaration.url)

    def _opened(self) -> Rooms:
        rooms = self._all
        rooms.declare(self._declaration.history)
        return rooms

    def _joining(self) -> Participant:
        """This connection as a participant, made when it is first needed."""
        self._peer.require()
        if self.participant is None:
            self.attend()
            if not self._peer.accepted:
                raise RuntimeError(
                    "join after the connection is accepted: in on_connect, after `await super().on_connect()`"
                )
            self.participant = self._new_participant()
        return self.participant

    def _new_participant(self) -> Participant:
        endpoint, declared, rooms = self._endpoint, self._declaration, self._opened()
        connection = self._peer.queue_outbound(OutboundQueue.of(endpoint, rooms.counters), endpoint._framing)
        if declared.hears_backplane:
            rooms.watchers.add(self._tell_backplane)
        return Participant(self._peer.id, connection, declared.wants_presence, declared.presence_interval_s, self)

    async def _tell_backplane(self, status: State) -> None:
        if self.participant is None:  # it has ended before its turn came
            return
        with contextlib.suppress(WebSocketDisconnect):  # it tried to send to a peer that has just left
            told: Any = self._endpoint.on_backplane(status)
            if inspect.isawaitable(told):  # it may be sync, as `authorize`
                await told

    def _require_place(self, who: Participant, *topics: str) -> None:
        most = self._endpoint.max_rooms
        if len(who.rooms.keys() | topics) > most:
            raise EventError("forbidden", f"a connection may be in {most} rooms at most")

    async def _enter(self, who: Participant, topics: list[str], last: int | None) -> None:
        everyone = self._opened()
        await everyone.attended()
        if self.participant is not who:  # the connection has ended meanwhile: nobody would take it out any more
            raise WebSocketDisconnect(self._peer.over or 1006)
        if len(topics) == 1 and last is None:
            await everyone.join(who, topics[0])
        else:
            await everyone.join_all(who, topics, last, self._send)
        if self.participant is not who:
            everyone.leave_all(who)
        self._peer.require()

    async def _send(self, canonical: bytes) -> None:
        await self._peer.send_body(self._endpoint._framing.frame(canonical))

    def _own_room(self, room: str | None) -> str:
        if room is not None:
            return valid_name(room)
        rooms = self.rooms
        if len(rooms) != 1:
            raise ValueError(f"name the room: this connection is in {len(rooms)} rooms, not in exactly one")
        return next(iter(rooms))

    async def _authorize(self, room: str) -> None:
        allowed: Any = self._endpoint.authorize(room)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:  # None too: a branch without an answer lets nobody in
            raise _forbidden(f"not allowed to join {room!r}", "not allowed to join this room", room)


def _forbidden(text: str, told: str, room: str | None) -> EventError:
    """The room may come from the peer: what is told has it as an `input`, which `include_input = False` leaves out."""
    return EventError("forbidden", text, errors=[{"type": "forbidden", "loc": [], "msg": told, "input": room}])


def _valid_key(key: str | None) -> str:
    """It may come from a client: what is refused is answered. Empty: none is given."""
    if key is None:
        return ""
    if not isinstance(key, str):
        raise TypeError(f"a key of presence is a str, not {key!r}; str(...) makes one")
    if 0 < len(key) <= MAX_KEY and not _LONE_SURROGATE.search(key):
        return key
    msg = f"presence takes no such key: it is a string of 1 to {MAX_KEY} characters"
    raise EventError("validation_error", errors=[{"type": "presence_key", "loc": ["key"], "msg": msg}])


def _topics(*rooms: str | Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(room_topic(name) for each in rooms for name in names_of(each)))


def _meta_to_json(meta: Any) -> bytes:
    """As replies are written (NaN as null). It may come from a client: what is refused is answered."""
    try:
        encoded = to_json(meta, inf_nan_mode="null")
        problem = f"{len(encoded)} bytes of JSON, {MAX_META_BYTES} is the most"
        if len(encoded) <= MAX_META_BYTES:
            return encoded
    except ValueError as error:  # of pydantic: nested too deeply, half a surrogate pair, a type it does not know
        problem = str(error)
    msg = f"presence takes no such meta: {problem}"
    raise EventError("validation_error", errors=[{"type": "presence_meta", "loc": ["meta"], "msg": msg}])
