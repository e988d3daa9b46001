"""
What waits to be written to one peer: in order, bounded in bytes, with a policy for a peer that reads too slowly.

`Outgoing` is one message, encoded once however many peers it goes to. `Notice` is a control frame, which no policy
drops. `OutboundQueue` is the logic, without I/O: what waits, what is dropped, and what a client is told of that.

Notices do not count for the bound, and are bounded by what they say: once a peer is slow, who is in a room is told as
it is when its turn has come, and between two messages of a room one gap and one position wait at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, MutableMapping
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from socketsundso.messages import Framing
from socketsundso.wire import Wire

logger = logging.getLogger("socketsundso.rooms")

PATIENCE = 10
"""Turns in which a reader near its bound may take nothing, before it takes something, and be waited for."""


class Conflate:
    """
    For a slow reader keep only the newest value per key: `on_slow = Conflate(key=lambda m: m.symbol)`.

    The key function gets the message as it is on the wire, its fields both as attributes and as items, the
    same in every process; of a binary one its `bytes`. Messages whose key is None are all kept. What is
    above the bound even so is dropped, oldest first.
    """

    def __init__(self, key: Callable[[Any], object]) -> None:
        self.key = key

    def __repr__(self) -> str:
        return f"Conflate(key={self.key!r})"


SlowPolicy = Literal["close", "drop_oldest", "drop_newest"] | Conflate
POLICIES = ("close", "drop_oldest", "drop_newest")


NoticeKind = Literal["state", "diff", "gap", "position"]
"""`presence_state`, `presence_diff`, `gap`, `room_position`."""


class Fields(dict[str, Any]):
    """A message's fields, as items and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Outgoing:
    """One message on its way: its payload (canonical JSON, UTF-8) and what is made of it at most once."""

    __slots__ = ("_event", "_fields", "_frame", "_framed", "payload", "room", "size", "ttl_s")

    @classmethod
    def of_event(cls, event: MutableMapping[str, Any]) -> Outgoing:
        """An ASGI message as somebody else has made it: text, bytes or a close. It is passed on as it is."""
        body = event.get("text") or event.get("bytes") or b""
        out = cls(b"")
        out.size = len(body)
        out._event = event
        return out

    @property
    def foreign(self) -> bool:
        """Made by `of_event`: only the server's `send` knows what to do with it."""
        return not self.payload

    def __init__(self, payload: bytes, room: str | tuple[str, ...] | None = None, ttl_s: float | None = None) -> None:
        self.payload = payload
        self.size = len(payload)
        self.room = room  # named in a gap notice if this message is dropped; of several, one that the peer is in
        self.ttl_s = ttl_s
        self._event: MutableMapping[str, Any] | None = None
        self._frame: bytes | None = None
        self._framed: dict[Framing, Outgoing] | None = None
        self._fields: Fields | None = None

    def framed(self, framing: Framing) -> Outgoing:
        """The same in an envelope of its own, shared by all peers that read it."""
        if self.foreign:
            return self
        if self._framed is None:
            self._framed = {}
        out = self._framed.get(framing)
        if out is None:
            kind = BinaryOutgoing if framing.codec.is_binary else Outgoing
            out = self._framed[framing] = kind(framing.frame(self.payload))
        return out

    @property
    def event(self) -> MutableMapping[str, Any]:
        """The ASGI message, shared by all peers."""
        if self._event is None:
            self._event = {"type": "websocket.send", "text": self.payload.decode()}
        return self._event

    def frame(self, wire: Wire) -> bytes:
        """The WebSocket frame, shared by all peers of our own server."""
        if self._frame is None:
            self._frame = wire.frame(self.payload)
        return self._frame

    @property
    def fields(self) -> Fields | bytes:
        """What `Conflate` is asked about."""
        if self._fields is None:
            self._fields = Fields(msgspec.json.decode(self.payload, type=dict[str, Any]))
        return self._fields


class BinaryOutgoing(Outgoing):
    """The same of a binary frame: what it has instead of fields is its `bytes`."""

    __slots__ = ()
    foreign = False  # an empty one is a message, too

    def framed(self, framing: Framing) -> Outgoing:
        return self  # envelopes are for messages

    @property
    def event(self) -> MutableMapping[str, Any]:
        if self._event is None:
            self._event = {"type": "websocket.send", "bytes": self.payload}
        return self._event

    def frame(self, wire: Wire) -> bytes:
        if self._frame is None:
            self._frame = wire.frame(self.payload, binary=True)
        return self._frame

    @property
    def fields(self) -> bytes:
        return self.payload


class Notice(Outgoing):
    """
    A control frame: what a client needs to make sense of the rest. No policy drops it, and it does not expire.

    `name` is its room's; `dropped` a gap's count, None where nobody knows it.
    """

    __slots__ = ("dropped", "kind", "name")

    def __init__(self, kind: NoticeKind, room: str | None, payload: bytes, dropped: int | None = None) -> None:
        super().__init__(payload, room)
        self.kind, self.name, self.dropped = kind, room, dropped

    @classmethod
    def of_gap(cls, room: str | None, dropped: int | None) -> Notice:
        return cls("gap", room, gap_notice(room, dropped), dropped)

    @classmethod
    def of_growing_gap(cls, room: str | None) -> Notice:
        """Without a payload until it is known how large it becomes."""
        return cls("gap", room, b"", 0)


def gap_notice(room: str | None, dropped: int | None) -> bytes:
    """`{"type":"gap","room":"r1","dropped":12}`; null where it was of no room, and where nobody knows how many."""
    return msgspec.json.encode({"type": "gap", "room": room, "dropped": dropped})


NEVER = float("inf")

Renew = Callable[[], Outgoing | None]


class Waiting:
    """A place in the queue. `sent` belongs to a sender that waits; such a message is never dropped."""

    __slots__ = ("expires_at", "is_push", "out", "room", "sent")

    def __init__(
        self, out: Outgoing, room: str | None, expires_at: float = NEVER, sent: asyncio.Future[None] | None = None
    ) -> None:
        self.out, self.room, self.expires_at, self.sent = out, room, expires_at, sent
        self.is_push = sent is None  # the bound is for it, and the policy may drop it


class WaitingNotice(Waiting):
    """
    A control frame's place, perhaps a part of a run. With `renew`, what is written is made when its turn has come.
    """

    __slots__ = ("renew", "run")
    out: Notice

    def __init__(self, out: Notice, run: Run | None = None) -> None:
        super().__init__(out, out.name)
        self.is_push, self.run = False, run
        self.renew: Renew | None = None

    def written(self) -> Outgoing | None:
        """What is written; None if it is no news any more."""
        if self.renew is not None:
            return self.renew()
        return Notice.of_gap(self.out.name, self.out.dropped) if self.out.kind == "gap" else self.out


class Run:
    """
    What a client is told of a room between two of its messages: that some are missing, then where it is. The places of
    both, if they wait.
    """

    __slots__ = ("gap", "position")

    def __init__(self) -> None:
        self.gap: WaitingNotice | None = None
        self.position: WaitingNotice | None = None


def fail(sent: asyncio.Future[None] | None, error: Exception) -> None:
    """Tell a sender, if one waits still."""
    if sent is not None and not sent.done():
        sent.set_exception(error)


class Counters:
    """What has happened since the beginning, in this process and on this event loop."""

    __slots__ = ("delivered", "delivered_bytes", "drops", "published", "refused")

    def __init__(self) -> None:
        self.published = 0  # broadcasts
        self.delivered = self.delivered_bytes = 0  # messages pushed to local connections, as canonical JSON
        self.drops: Counter[str] = Counter()  # messages that slow readers did not get: by a policy, `ttl`, `closed`
        self.refused = 0  # broadcasts that the engine could not take

    @property
    def dropped(self) -> int:
        """Messages that a slow reader did not get."""
        return self.drops.total()


def _in_any_room(room: str) -> bool:
    return True


class Bounds(Protocol):
    """What an endpoint declares of a reader who is slow."""

    max_outbound_bytes: ClassVar[int]
    on_slow: ClassVar[SlowPolicy]
    ttl_s: ClassVar[float | None]
    notify_gaps: ClassVar[bool]


class OutboundQueue:
    """
    What waits to be written to one peer.

    `put` and `inform` only add. `judge`, called after the loop had its turn, is where the policy acts; until then,
    everything that was put is there.
    """

    __slots__ = (
        "_mortal",
        "_runs",
        "_states",
        "bytes",
        "counters",
        "is_in",
        "max_bytes",
        "on_slow",
        "patience",
        "pushes",
        "stalled",
        "tell_gaps",
        "ttl_s",
        "waiting",
    )

    def __init__(
        self,
        max_bytes: int,
        on_slow: SlowPolicy,
        ttl_s: float | None = None,
        tell_gaps: bool = False,
        counters: Counters | None = None,
    ) -> None:
        self.max_bytes, self.on_slow, self.ttl_s, self.tell_gaps = max_bytes, on_slow, ttl_s, tell_gaps
        self.waiting: deque[Waiting] = deque()
        self.pushes = self.bytes = 0  # how many of them wait, and of how many bytes
        self.counters = counters or Counters()  # where drops are counted; shared by the connections of a loop
        self.is_in = _in_any_room  # which of the rooms of a message the peer may be told of
        self.patience = PATIENCE  # turns of the loop that broadcasts still give it without seeing it take anything
        self.stalled = False  # the peer did not take everything in the last turn; ends when the queue is empty
        self._mortal = False  # something that waits may expire; ends when the queue is empty
        self._runs: dict[str | None, Run] = {}  # room -> what waits behind the latest message of the room
        self._states: dict[str | None, WaitingNotice] = {}  # room -> the latest that waits about who is there

    @classmethod
    def of(cls, bounds: Bounds, counters: Counters | None = None) -> OutboundQueue:
        """That of one connection of an endpoint."""
        return cls(bounds.max_outbound_bytes, bounds.on_slow, bounds.ttl_s, bounds.notify_gaps, counters)

    @property
    def near(self) -> bool:
        """Whether what waits comes near the bound."""
        return self.bytes * 2 > self.max_bytes

    def put(self, out: Outgoing, now: float, sent: asyncio.Future[None] | None = None) -> None:
        if isinstance(out, Notice):
            self._put_notice(out)
        elif sent is not None:
            self.waiting.append(Waiting(out, None, NEVER, sent))
        else:
            self._put_push(out, now)

    def _put_push(self, out: Outgoing, now: float) -> None:
        if self.stalled and isinstance(self.on_slow, Conflate):
            self._replace_older(self.on_slow, out)
        room, ttl_s, expires_at = out.room, out.ttl_s, NEVER
        if isinstance(room, tuple):
            room = next(filter(self.is_in, room), None)
        if ttl_s is None:
            ttl_s = self.ttl_s
        if ttl_s is not None:
            expires_at, self._mortal = now + ttl_s, True
        self.waiting.append(Waiting(out, room, expires_at))
        self.pushes += 1
        self.bytes += out.size
        if self._runs:
            self._runs.pop(room, None)  # what is told from now on is told behind this message

    def inform(self, out: Notice, renew: Renew) -> None:
        """
        Who is in a room, or a change of that. For a peer that is slow, a state is made, by `renew`, when its turn has
        come (None: it is no news any more), and changes that wait become such a state.
        """
        room = out.name
        place = self._states.get(room)
        if place is None or out.kind == "state" or not self.stalled:
            self._put_notice(out)
        if self.stalled and (place is not None or out.kind == "state"):
            self._states[room].renew = renew

    def take(self, now: float) -> Waiting | None:
        """The next to be written, after dropping what is too old for that; None if there is none."""
        while self.waiting:
            place = self.waiting[0]
            if place.expires_at <= now:
                self._drop(lambda each: each.expires_at <= now, "ttl")
                continue
            self.waiting.popleft()
            if place.is_push:
                self.pushes -= 1
                self.bytes -= place.out.size
                return place
            if not isinstance(place, WaitingNotice):
                return place
            self._forget(place)
            if (out := place.written()) is not None:
                return Waiting(out, place.room)
        self.stalled = self._mortal = False
        return None

    def judge(self, now: float) -> bool:
        """Apply the policy to what the loop's turn has left; True if the peer is to be closed as too slow."""
        if not self.waiting:
            return False
        self.stalled = True
        if self._mortal:
            self._drop(lambda place: place.expires_at <= now, "ttl")
        if isinstance(self.on_slow, Conflate):
            self._conflate(self.on_slow)
        if self.bytes <= self.max_bytes or self.pushes == 1:
            return False  # a single message above the bound is sent when nothing else waits
        if self.on_slow == "close":
            return True
        self._shrink(newest=self.on_slow == "drop_newest")
        return False

    def clear(self) -> None:
        """Drop everything; senders that wait get a ConnectionResetError."""
        if self.pushes:
            self.counters.drops["closed"] += self.pushes
        for place in self.waiting:
            fail(place.sent, ConnectionResetError("the connection was closed before the message was written"))
        self.waiting.clear()
        self._runs.clear()
        self._states.clear()
        self.pushes = self.bytes = 0

    # ---- dropping

    def _shrink(self, newest: bool) -> None:
        """Drop from one end until the rest fits, but not the last that is left."""
        left, excess = self.pushes, self.bytes - self.max_bytes
        condemned: set[int] = set()
        for place in reversed(self.waiting) if newest else iter(self.waiting):
            if excess <= 0 or left <= 1:
                break
            if place.is_push:
                left, excess = left - 1, excess - place.out.size
                condemned.add(id(place))
        self._drop(lambda place: id(place) in condemned, "drop_newest" if newest else "drop_oldest")

    def _drop(self, condemned: Callable[[Waiting], bool], why: str, missed: bool = True) -> None:
        """Drop, and count why; what is missed then is told, if the client is to be told, where it is missing."""
        places, self.waiting, self._runs = self.waiting, deque(), {}
        for place in places:
            if condemned(place):
                self.pushes -= 1
                self.bytes -= place.out.size
                self.counters.drops[why] += 1
                if missed and self.tell_gaps:
                    self._tell_gap(place.room, 1)
            elif isinstance(place, WaitingNotice) and place.run is not None:
                self._put_notice(place.out)  # whose run may have become longer
            else:
                self.waiting.append(place)
                if place.is_push:
                    self._runs.pop(place.room, None)

    def _conflate(self, conflate: Conflate) -> None:
        newest = {self._key_of(conflate, place.out): id(place) for place in self.waiting if place.is_push}
        self._drop_replaced({id(place) for place in self.waiting if place.is_push} - set(newest.values()))

    def _replace_older(self, conflate: Conflate, out: Outgoing) -> None:
        key = self._key_of(conflate, out)
        pushes = [place for place in self.waiting if place.is_push]
        self._drop_replaced({id(place) for place in pushes if self._key_of(conflate, place.out) == key})

    def _drop_replaced(self, condemned: set[int]) -> None:
        """What a newer value replaces is counted, but leaves no gap: nothing is missing."""
        if condemned:
            self._drop(lambda place: id(place) in condemned, "conflate", missed=False)

    @staticmethod
    def _key_of(conflate: Conflate, out: Outgoing) -> object:
        """Equal for messages of which only the newest counts. Never equal for those without a key."""
        try:
            key = conflate.key(out.fields)
            hash(key)
        except Exception:
            logger.exception("the key function of %r failed; the message is kept", conflate)
            key = None
        return id(out) if key is None else (key,)

    # ---- notices

    def _put_notice(self, out: Notice) -> None:
        room = out.name
        if out.kind == "gap":
            self._tell_gap(room, out.dropped)
        elif out.kind == "position":
            self._tell_position(room, out)
        else:
            if out.kind == "state" and (older := self._states.get(room)) is not None:
                self.waiting.remove(older)  # of a stay in the room that has ended
            self._states[room] = self._wait(out)

    def _tell_gap(self, room: str | None, dropped: int | None) -> None:
        run = self._run(room)
        if run.gap is None and run.position is not None:
            # Takes its place: how many are missing comes before where that leads to.
            run.gap, position = run.position, run.position.out
            run.gap.out, run.position = Notice.of_growing_gap(room), self._wait(position, run)
        elif run.gap is None:
            run.gap = self._wait(Notice.of_growing_gap(room), run)
        gap = run.gap.out
        gap.dropped = None if gap.dropped is None or dropped is None else gap.dropped + dropped

    def _tell_position(self, room: str | None, out: Notice) -> None:
        run = self._run(room)
        if run.position is None:
            run.position = self._wait(out, run)
        else:
            run.position.out = out

    def _wait(self, out: Notice, run: Run | None = None) -> WaitingNotice:
        place = WaitingNotice(out, run)
        self.waiting.append(place)
        return place

    def _run(self, room: str | None) -> Run:
        return self._runs.get(room) or self._runs.setdefault(room, Run())

    def _forget(self, place: WaitingNotice) -> None:
        """It is about to be written: nothing can be added to it any more."""
        if place.run is None:
            if self._states.get(place.room) is place:
                del self._states[place.room]
            return
        if place.run.gap is place:
            place.run.gap = None
        else:
            place.run.position = None
        if place.run.gap is place.run.position is None and self._runs.get(place.room) is place.run:
            del self._runs[place.room]
