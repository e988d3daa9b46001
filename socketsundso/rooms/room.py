"""
One room, who is in it, and what travels between processes: what membership, recovery and presence share.

Topics: `r<room>` for a room, `u<user>` for what `to_user` reaches, `e` for everyone, `a<owner>` for the answers that a
process waits for. A payload between processes is a `Header` followed by the message; see there.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import msgspec
from msgspec import Struct

from socketsundso.backplanes import Delivery, Keep, ended
from socketsundso.connection import Connection, Counters, Notice, Outgoing
from socketsundso.errors import EventError
from socketsundso.rooms.history import Position, Resume
from socketsundso.rooms.presence import Circle, View
from socketsundso.wire import Wire

logger = logging.getLogger("socketsundso.rooms")

T = TypeVar("T")

MAX_NAME = 200

EVERYONE = "e"
"""The topic of every process that has connections."""

AT_ONCE = 50
"""How many engine calls of one kind, for one caller, are under way at the same time."""

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
    """One room or several, each once, in order. Raises `InvalidRoomName`."""
    if isinstance(room, str) or not isinstance(room, Iterable):
        return [valid_name(room)]
    return list(dict.fromkeys(map(valid_name, room)))


def room_topic(name: str) -> str:
    return "r" + name


def user_topic(user: str) -> str:
    return "u" + user


def answers_topic(owner: str) -> str:
    return "a" + owner


class Header(Struct, array_like=True, omit_defaults=True):
    """What goes before a message between processes."""

    kind: str
    """
    "message", "binary", "presence", "ask", "answer" or "withdraw"; what a later release may send is none of our
    business. (Processes of a release before "binary" leave those out, and log so once.)
    """

    origin: str
    """The `Rooms` that sent it, which has delivered it to its own participants already."""

    excluded: tuple[str, ...] = ()
    """Ids of connections that do not get it."""

    topics: tuple[str, ...] = ()
    """All topics of a broadcast to several; whoever is in more than one of them gets it once. Of an "ask": whom for."""

    covered: tuple[str, ...] = ()
    """Rooms with history, whose participants get a numbered copy of their own."""

    serial: int = 0
    """With `origin`, names a broadcast to several topics. Of an "ask", its answers, its end: which question it is."""

    ttl_s: float | None = None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Header).decode


def seal(header: Header, payload: bytes) -> bytes:
    head = _pack(header)
    return len(head).to_bytes(4) + head + payload


def unseal(sealed: bytes) -> tuple[Header, bytes]:
    end = 4 + int.from_bytes(sealed[:4])
    return _unpack(sealed[4:end]), sealed[end:]


Near = list[Connection] | None
"""Connections that came near their outbound bound; mostly there are none."""


class Reachable(Protocol):
    """A connection, whether it is in a room or not, for who acts on it from outside."""

    @property
    def id(self) -> str: ...

    def participant_now(self) -> Participant | None:
        """What can be pushed to, made if need be; None before the connection is accepted, and after its end."""

    def close_soon(self, code: int, reason: str) -> bool:
        """Without waiting for the peer. False: it is closed already, or gone."""

    def leave_now(self, topics: Collection[str]) -> bool:
        """False: it was in none of them."""

    def asks(self, name: str) -> bool:
        """Whether it can be asked what is called so."""

    async def ask(self, name: str, question: bytes, timeout_s: float) -> bytes:
        """Its valid answer, as JSON. Raises as `call` of endpoints."""

    async def enter(self, topics: list[str]) -> bool:
        """Be in all of them, whatever the endpoint would have said. False: it is not, and the log says why."""


class Participant:
    """One connection as rooms know it: where it is, and how to reach it."""

    __slots__ = ("connection", "id", "presence_interval_s", "reachable", "rooms", "tracked", "wants_presence")

    def __init__(
        self,
        id_: str,
        connection: Connection,
        wants_presence: bool,
        presence_interval_s: float = 0.0,
        reachable: Reachable | None = None,
    ) -> None:
        self.id, self.connection, self.wants_presence = id_, connection, wants_presence
        self.presence_interval_s = presence_interval_s  # within which changes are told together
        self.reachable = reachable  # the same connection, to be acted on
        self.rooms: dict[str, Room] = {}  # by topic
        joined = self.rooms
        connection.queue.is_in = lambda room: room_topic(room) in joined
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
        "circles",
        "keep",
        "kept_by_others",
        "live",
        "log",
        "name",
        "near",
        "numbered",
        "ready",
        "skip",
        "topic",
        "view",
        "view_ready",
    )

    def __init__(self, topic: str, keep: Keep | None) -> None:
        self.topic, self.name, self.keep = topic, topic[1:], keep
        self.kept_by_others: Keep | None = None  # where this process declares nothing of it
        self.numbered = False  # others keep it, as their messages show, whatever is known of what they declare
        self.live: dict[Participant, None] = {}  # gets everything at once
        self.behind: dict[Participant, deque[Came]] = {}  # still reading the log; the latest of what came meanwhile
        self.skip: dict[Participant, Resume] = {}  # has had the messages up to this position from the log
        self.ready: asyncio.Future[None] | None = None  # while the subscription is under way
        self.log: Position | None = None
        self.near: Near = None  # of those who got the latest message; who has broadcast it waits for them
        self.catching_up: list[Delivery] | None = None  # what came while a hole is being filled
        self.view: View | None = None
        self.view_ready: asyncio.Future[None] | None = None
        # who has had its `presence_state` and is told what changes, by the interval of that in seconds
        self.circles: dict[float, Circle[Participant]] = {}

    @property
    def empty(self) -> bool:
        return not self.live and not self.behind

    @property
    def participants(self) -> tuple[Participant, ...]:
        return (*self.live, *self.behind)

    def informs(self, who: Participant) -> bool:
        """Whether it is told what changes in who is there."""
        circle = self.circles.get(who.presence_interval_s)
        return circle is not None and who in circle.members

    def position_of(self, who: Participant) -> Resume:
        """How far it has got, who is live in a room with history. Before its first message nobody knows."""
        if who in self.skip:
            return self.skip[who]
        return Resume(self.log.seq, self.log.epoch) if self.log is not None else Resume(0, "")

    def hold_back(self, who: Participant) -> None:
        """
        From now on keep what comes for who reads the log, as many as the log itself keeps: the others are there.
        """
        assert self.keep is not None
        self.live.pop(who, None)
        self.behind[who] = deque(maxlen=self.keep.messages)


def push_all(audience: Collection[Participant], out: Outgoing, counters: Counters) -> Near:
    """Push to all of them; the loop that a broadcast is measured by."""
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
    counters.delivered += (number := len(audience))
    counters.delivered_bytes += number * out.size
    return near


def tell_all(audience: Collection[Participant], notice: Notice) -> None:
    """As `push_all`, a control frame, which counts for no message."""
    for who in audience:
        who.push(notice)


async def some_at_once(call: Callable[[T], Awaitable[None]], arguments: list[T], at_once: int = AT_ONCE) -> None:
    """Call it with each, some at the same time. Raises what the first of them raised, when none runs any more."""
    for start in range(0, len(arguments), at_once):
        some = arguments[start : start + at_once]
        for error in await asyncio.gather(*map(call, some), return_exceptions=True):
            if error is not None:
                raise error


class Tasks:
    """Background tasks that end with their owner; what they raise is logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)

    async def aclose(self) -> None:
        """Cancel all of them, and wait until they have ended."""
        await ended(*self._tasks)
