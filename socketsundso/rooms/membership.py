"""
What an endpoint can do with rooms: `join`, `leave`, `broadcast`, `track`, `identify`, `presence`, `hub`.

A mix-in of `WebSocketHandlingEndpoint`. An endpoint that never joins pays nothing: what a connection needs
is made at its first `join` or `identify`, and only then do its sends go through the queue that keeps them
in order with broadcasts.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, is_typeddict

from pydantic_core import to_json
from starlette.websockets import WebSocketDisconnect

from socketsundso.backplanes import Keep
from socketsundso.connection import (
    POLICIES,
    SLOW_CLOSE_CODE,
    Conflate,
    Connection,
    OutboundQueue,
    SlowPolicy,
)
from socketsundso.errors import DefinitionError, EventError
from socketsundso.messages import EmittedDicts, encode_push, pushed_fields, pushed_type
from socketsundso.rooms import history
from socketsundso.rooms.history import Resume
from socketsundso.rooms.hub import Hub, Presence
from socketsundso.rooms.local import Rooms, rooms_for
from socketsundso.rooms.room import Participant, names_of, new_id, room_topic, user_topic, valid_name
from socketsundso.wire import Writer, wire_of

BACKPLANE_VARIABLE = "SOCKETSUNDSO_BACKPLANE"
DEFAULT_BACKPLANE = "memory://"

MAX_META_BYTES = 16 << 10
"""The longest meta of `track`, as JSON: everybody who enters the room gets it."""

HISTORY_TYPES = frozenset({"resume", "resumed", "room_position"})
PRESENCE_TYPES = frozenset({"presence_state", "presence_diff"})


class _HubAttribute:
    """`Chat.hub`: one per class, and the same from an instance."""

    def __get__(self, instance: Any, owner: type[Membership]) -> Hub:
        hub = owner.__dict__.get("_hub")
        if hub is None or hub.url != owner._backplane_url():
            hub = owner._hub = Hub(
                owner._backplane_url(), history=owner.history, on_unavailable="count", encode=owner._encode_push
            )
        return hub


class Membership:
    """
    Rooms for endpoints. Class attributes:

    `backplane` names the engine by URL; without it the environment's SOCKETSUNDSO_BACKPLANE counts, else
    memory. `emits` lists the types of messages that are pushed; anything else is refused then. `history`
    maps shell-style patterns of rooms to a `Keep`; the first that matches counts. `max_outbound_bytes`
    bounds what waits for a slow reader and `on_slow` says what happens to it: "close", "drop_oldest",
    "drop_newest" or a `Conflate`. `ttl_s` drops what waits longer. `notify_gaps` tells a client of what was
    dropped. `presence_events` sends `presence_state` and `presence_diff`; None, the default, means: if a
    method of the class calls `self.track`. `max_rooms` bounds the rooms (and users) of one connection.
    """

    backplane: ClassVar[str | None] = None
    emits: ClassVar[Sequence[Any]] = ()
    history: ClassVar[Mapping[str, Keep]] = {}
    max_outbound_bytes: ClassVar[int] = 1 << 20
    on_slow: ClassVar[SlowPolicy] = "close"
    ttl_s: ClassVar[float | None] = None
    notify_gaps: ClassVar[bool] = False
    presence_events: ClassVar[bool | None] = None
    max_rooms: ClassVar[int] = 1000

    hub = _HubAttribute()

    _hub: ClassVar[Hub]
    _emitted: ClassVar[tuple[type, ...]] = ()
    _emitted_types: ClassVar[frozenset[str]] = frozenset()
    _emitted_dicts: ClassVar[EmittedDicts] = EmittedDicts(())
    _wants_presence: ClassVar[bool] = False

    _participant: Participant | None = None  # from the first join on
    _id: str | None = None

    # what `WebSocketHandlingEndpoint` has
    websocket: Any
    ref_key: ClassVar[str]
    _send: Any
    _writer: Writer | None
    _accepted: bool
    _closed: int | None

    if TYPE_CHECKING:

        def _require_peer(self) -> None: ...
        async def respond(self, response: Any) -> None: ...
        async def _send_body(self, body: bytes) -> None: ...

    # ---- what users call

    @property
    def id(self) -> str:
        """Names this connection; unique across processes."""
        if self._id is None:
            self._id = new_id()
        return self._id

    @property
    def rooms(self) -> frozenset[str]:
        """The names of the rooms that this connection is in; in `on_disconnect` still filled."""
        who = self._participant
        return frozenset(topic[1:] for topic in who.rooms if topic[0] == "r") if who else frozenset()

    @property
    def presence(self) -> Presence:
        """`await self.presence.list(room)`: who is tracked in a room, in all processes."""
        return type(self).hub.presence

    async def authorize(self, room: str) -> bool:
        """
        Whether this connection may join a room; may be sync too. What is not true is answered with `forbidden`, an
        EventError with its own code.
        """
        return True

    async def join(self, room: str) -> None:
        """
        Enter a room; when this returns, broadcasts from every process reach the connection. Idempotent.

        Raises `InvalidRoomName`, an EventError `forbidden` if `authorize` refuses or the connection is in
        `max_rooms` already, RuntimeError before the
        connection is accepted, `BackplaneUnavailable` for a room with history while the engine is away.
        """
        topic = room_topic(valid_name(room))
        who = self._joining()
        if topic in who.rooms:
            await self._all.join(who, topic)
            return
        self._require_place(who, topic)
        await self._authorize(room)
        await self._enter(who, topic)

    async def leave(self, room: str) -> None:
        """Leave a room; nothing happens to who is not in it."""
        who = self._participant
        if who is not None:
            self._all.leave(who, room_topic(valid_name(room)))

    async def broadcast(
        self, message: Any, room: str | Iterable[str], *, exclude_self: bool = False, ttl_s: float | None = None
    ) -> None:
        """
        Send a message to everybody in a room or several, each connection once; one need not be in them.

        Never waits for a peer. In a room with history it is numbered, and `BackplaneUnavailable` raised
        while the engine is away; other rooms get it in this process then, which the hub's status counts.
        """
        topics = [room_topic(name) for name in names_of(room)]
        payload = self._encode_push(message)
        excluded = (self.id,) if exclude_self else ()
        await self._opened().broadcast(topics, payload, excluded, ttl_s)

    async def identify(self, user: str) -> None:
        """Make this connection one of the user's: `hub.to_user(user)` reaches it from now on."""
        topic = user_topic(valid_name(user))
        who = self._joining()
        self._require_place(who, topic)
        await self._enter(who, topic)

    async def track(self, meta: Any, room: str | None = None) -> None:
        """
        Show this connection in the room's presence with `meta`, any value that JSON knows; again: change it.

        A meta that is longer than MAX_META_BYTES, or no JSON at all, is answered with `validation_error`.
        The room may be left out by who is in exactly one. It ends with `untrack`, `leave` or the connection.
        """
        who = self._joining()
        joined = who.rooms.get(room_topic(self._own_room(room)))
        if joined is None:
            raise EventError("forbidden", f"join {room!r} before you are tracked in it")
        await self._all.roster.track(who, joined, _meta_to_json(meta))

    async def untrack(self, room: str | None = None) -> None:
        """Take this connection out of the room's presence, but not out of the room."""
        who = self._participant
        joined = who.rooms.get(room_topic(self._own_room(room))) if who else None
        if who is not None and joined is not None and joined.name in who.tracked:
            self._all.roster.untrack(who, joined)

    # ---- what the endpoint calls

    @classmethod
    def _define_rooms(cls, events: Iterable[str]) -> None:
        """Check what the class declares. Raises DefinitionError."""
        if cls.on_slow not in POLICIES and not isinstance(cls.on_slow, Conflate):
            known = ", ".join(map(repr, POLICIES))
            raise DefinitionError(
                f"{cls.__name__}.on_slow is {cls.on_slow!r}; it is one of {known} or Conflate(key=...)"
            )
        if any(not isinstance(keep, Keep) for keep in cls.history.values()):
            raise DefinitionError(f"{cls.__name__}.history maps patterns to Keep(messages=..., seconds=...)")
        for kind in cls.emits if cls.history else ():
            if "seq" in pushed_fields(kind):
                raise DefinitionError(
                    f"{kind.__name__} has a field `seq`, which {cls.__name__}'s rooms with history number their "
                    "messages by; give the field another name, or an alias"
                )
        cls._emitted = tuple(each for each in cls.emits if not is_typeddict(each))
        cls._emitted_types = frozenset(map(pushed_type, cls.emits))
        cls._emitted_dicts = EmittedDicts(cls.emits, cls.ref_key)
        cls._wants_presence = _mentions(cls, "track") if cls.presence_events is None else cls.presence_events
        reserved = (HISTORY_TYPES if cls.history else frozenset()) | (
            PRESENCE_TYPES if cls._wants_presence else frozenset()
        )
        for taken in reserved & {*events, *cls._emitted_types}:
            raise DefinitionError(
                f"{taken!r}: {cls.__name__} uses a feature that reserves this name on the wire; "
                "give the handler another one with @event('name'), or the message another `type`"
            )

    def _declare_history(self) -> None:
        """As soon as a connection comes, so that no room begins without; raises DefinitionError."""
        if self.history:
            self._opened()

    async def _resume(self, rooms: dict[str, Resume]) -> None:
        """The event `resume` of endpoints with history."""
        for room in rooms:
            valid_name(room)
        who, everyone = self._joining(), self._opened()
        self._require_place(who, *map(room_topic, rooms))
        for room in rooms:
            await self._authorize(room)
        found = await everyone.read_missed(who, rooms)
        await self.respond(history.resumed(found))
        await everyone.go_on(who, rooms, found, self._send_body)

    def _leave_everything(self) -> None:
        """The end of the connection: membership, presence and subscriptions with it."""
        who, self._participant = self._participant, None
        if who is not None:
            self._all.leave_all(who)
            who.connection.close()
            self._send, self._writer = who.connection.send_at_once, None  # and no cycle through the connection is left

    # ---- how it is done

    @classmethod
    def _backplane_url(cls) -> str:
        return cls.backplane or os.environ.get(BACKPLANE_VARIABLE) or DEFAULT_BACKPLANE

    @property
    def _all(self) -> Rooms:
        return rooms_for(self._backplane_url())

    def _opened(self) -> Rooms:
        rooms = self._all
        rooms.declare(self.history)
        return rooms

    def _joining(self) -> Participant:
        """This connection as a participant, made when it is first needed."""
        if self._participant is None:
            if not self._accepted:
                raise RuntimeError(
                    "join after the connection is accepted: in on_connect, after `await super().on_connect()`"
                )
            self._require_peer()
            self._participant = self._new_participant()
        return self._participant

    def _new_participant(self) -> Participant:
        rooms = self._opened()
        queue = OutboundQueue(
            self.max_outbound_bytes, self.on_slow, self.ttl_s, self.notify_gaps, counters=rooms.counters
        )
        connection = Connection(self._send, queue, self._on_slow_peer, wire_of(self.websocket.scope))
        self._send = connection.send
        if self._writer is not None:
            self._writer = connection
        return Participant(self.id, connection, self._wants_presence)

    def _on_slow_peer(self) -> None:
        """The peer reads too slowly: close, without waiting for it."""
        if self._closed is None:
            self._closed = SLOW_CLOSE_CODE
            task = asyncio.ensure_future(self._send_slow_close())
            task.add_done_callback(_retrieve)

    async def _send_slow_close(self) -> None:
        await self._send({"type": "websocket.close", "code": SLOW_CLOSE_CODE, "reason": "slow consumer"})

    def _require_place(self, who: Participant, *topics: str) -> None:
        if len(who.rooms.keys() | topics) > self.max_rooms:
            raise EventError("forbidden", f"a connection may be in {self.max_rooms} rooms at most")

    async def _enter(self, who: Participant, topic: str) -> None:
        everyone = self._opened()
        await everyone.open()
        if self._participant is not who:  # the connection has ended meanwhile: nobody would take it out any more
            raise WebSocketDisconnect(self._closed or 1006)
        await everyone.join(who, topic)
        self._require_peer()

    def _own_room(self, room: str | None) -> str:
        if room is not None:
            return valid_name(room)
        rooms = self.rooms
        if len(rooms) != 1:
            raise ValueError(f"name the room: this connection is in {len(rooms)} rooms, not in exactly one")
        return next(iter(rooms))

    async def _authorize(self, room: str) -> None:
        allowed: Any = self.authorize(room)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if not allowed:  # None too: a branch without an answer lets nobody in
            raise EventError("forbidden", f"not allowed to join {room!r}")

    @classmethod
    def _encode_push(cls, message: Any) -> bytes:
        if cls.emits:
            cls._check_emitted(message)
            if isinstance(message, Mapping) and message.get("type") in cls._emitted_types:
                return cls._emitted_dicts.encode(message)
        return encode_push(message, cls.ref_key)

    @classmethod
    def _check_emitted(cls, message: Any) -> None:
        given = message.get("type") if isinstance(message, Mapping) else None
        if given not in cls._emitted_types and not isinstance(message, cls._emitted):
            shown = f"a message of type {given!r}" if given else type(message).__name__
            known = ", ".join(sorted(cls._emitted_types))
            raise TypeError(f"{cls.__name__} does not push {shown}; its `emits` lists {known}")


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


def _retrieve(task: asyncio.Future[None]) -> None:
    """A close that cannot be written any more is no news."""
    if not task.cancelled():
        task.exception()


def _mentions(cls: type, name: str) -> bool:
    """Whether a method of the class (not of this module's) uses an attribute of that name."""
    functions = [
        getattr(value, "method", value)
        for klass in cls.__mro__
        if not klass.__module__.startswith("socketsundso.")
        for value in vars(klass).values()
    ]
    return any(isinstance(each, FunctionType) and _code_mentions(each.__code__, name) for each in functions)


def _code_mentions(code: CodeType, name: str) -> bool:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return name in code.co_names or any(_code_mentions(each, name) for each in inner)
