"""
What is on its way to one peer: in order, bounded in bytes, with a policy for a peer that reads too slowly.

`Outgoing` is one message, encoded once however many peers it goes to. `OutboundQueue` is the logic, without
I/O: what waits, what is dropped. `Connection` moves it: `push` never waits and never raises, `send` waits
for its turn.

A peer is slow only if its bytes stay above the bound after the event loop had a turn to write; a burst
within one turn is not slowness. The bound is for pushes: what is sent with `send` is never dropped, its
sender waits instead.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import types
from collections import deque
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any, Literal, NamedTuple

import msgspec

from socketsundso.wire import Wire, sends_plainly

logger = logging.getLogger("socketsundso.rooms")

SLOW_CLOSE_CODE = 1013
WIRE_BYTES = 64 << 10
"""
Above so many bytes in the server's own buffer, our writer waits: a policy can still reach what is in ours.
"""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Conflate:
    """
    For a slow reader keep only the newest value per key: `on_slow = Conflate(key=lambda m: m.symbol)`.

    The key function gets the message as it is on the wire, its fields both as attributes and as items, the
    same in every process. Messages whose key is None are all kept. What is above the bound even so is
    dropped, oldest first.
    """

    def __init__(self, key: Callable[[Any], object]) -> None:
        self.key = key

    def __repr__(self) -> str:
        return f"Conflate(key={self.key!r})"


SlowPolicy = Literal["close", "drop_oldest", "drop_newest"] | Conflate
POLICIES = ("close", "drop_oldest", "drop_newest")


class Fields(dict[str, Any]):
    """A message's fields, as items and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Outgoing:
    """One message on its way: its payload (JSON, UTF-8) and what is made of it at most once."""

    __slots__ = ("_event", "_fields", "_frame", "payload", "room", "size", "ttl_s")

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

    def __init__(self, payload: bytes, room: str | None = None, ttl_s: float | None = None) -> None:
        self.payload = payload
        self.size = len(payload)
        self.room = room  # named in a gap notice if this message is dropped
        self.ttl_s = ttl_s
        self._event: MutableMapping[str, Any] | None = None
        self._frame: bytes | None = None
        self._fields: Fields | None = None

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
    def fields(self) -> Fields:
        if self._fields is None:
            self._fields = Fields(msgspec.json.decode(self.payload, type=dict[str, Any]))
        return self._fields


class Waiting(NamedTuple):
    """A place in the queue. `sent` belongs to a sender that waits; such a message is never dropped."""

    out: Outgoing
    expires_at: float
    sent: asyncio.Future[None] | None


NEVER = float("inf")


def _fail(sent: asyncio.Future[None] | None, error: Exception) -> None:
    if sent is not None and not sent.done():
        sent.set_exception(error)


class Counters:
    """What has happened since the beginning, in this process and on this event loop."""

    __slots__ = ("delivered", "dropped", "published", "refused")

    def __init__(self) -> None:
        self.published = 0  # broadcasts
        self.delivered = 0  # messages pushed to local connections
        self.dropped = 0  # messages that a slow reader's policy dropped
        self.refused = 0  # broadcasts that the engine could not take


class OutboundQueue:
    """
    What waits to be written to one peer.

    `put` only adds. `judge`, called after the loop had its turn, is where the policy acts; until then,
    everything that was put is there.
    """

    __slots__ = (
        "bytes",
        "counters",
        "gaps",
        "max_bytes",
        "on_slow",
        "patience",
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
        self.bytes = 0  # of the pushes that wait
        self.counters = counters or Counters()  # where drops are counted; shared by the connections of a loop
        self.gaps: dict[str, int] = {}  # room -> messages dropped and not yet told
        self.patience = PATIENCE  # turns of the loop that broadcasts still give it without seeing it take anything
        self.stalled = False  # the peer did not take everything in the last turn; ends when the queue is empty

    @property
    def near(self) -> bool:
        """Whether what waits comes near the bound."""
        return self.bytes * 2 > self.max_bytes

    def put(self, out: Outgoing, now: float, sent: asyncio.Future[None] | None = None) -> None:
        if self.gaps and self.on_slow == "drop_newest":
            self._tell(now)
        if self.stalled and sent is None and isinstance(self.on_slow, Conflate):
            self._replace_older(self.on_slow, out)
        ttl_s = self.ttl_s if out.ttl_s is None else out.ttl_s
        self.waiting.append(Waiting(out, NEVER if ttl_s is None or sent is not None else now + ttl_s, sent))
        if sent is None:
            self.bytes += out.size

    def take(self, now: float) -> Waiting | None:
        """The next to be written, after dropping what is too old for that; None if there is none."""
        while self.waiting:
            place = self.waiting.popleft()
            if place.sent is None:
                self.bytes -= place.out.size
            if place.expires_at <= now:
                self._count(place.out)
                continue
            if self.gaps and self.on_slow != "drop_newest":
                self.waiting.appendleft(place)
                if place.sent is None:
                    self.bytes += place.out.size
                return Waiting(self._gap(), NEVER, None)
            return place
        if self.gaps:
            return Waiting(self._gap(), NEVER, None)
        self.stalled = False
        return None

    def judge(self, now: float) -> bool:
        """Apply the policy to what the loop's turn has left; True if the peer is to be closed as too slow."""
        if not self.waiting:
            return False
        self.stalled = True
        self._drop(lambda place: place.expires_at <= now)
        if isinstance(self.on_slow, Conflate):
            self._conflate(self.on_slow)
        if self.bytes <= self.max_bytes or self._pushes() == 1:
            return False  # a single message above the bound is sent when nothing else waits
        if self.on_slow == "close":
            return True
        self._shrink(newest=self.on_slow == "drop_newest")
        return False

    def _pushes(self) -> int:
        return sum(place.sent is None for place in self.waiting)

    def clear(self) -> None:
        """Drop everything; senders that wait get a ConnectionResetError."""
        for place in self.waiting:
            if place.sent is None:
                self.counters.dropped += 1
            else:
                _fail(
                    place.sent,
                    ConnectionResetError("the connection was closed before the message was written"),
                )
        self.waiting.clear()
        self.bytes = 0
        self.gaps.clear()

    def _shrink(self, newest: bool) -> None:
        """Drop from one end until the rest fits, but not the last that is left."""
        left = self._pushes()
        kept: deque[Waiting] = deque()
        for place in reversed(self.waiting) if newest else iter(self.waiting):
            if self.bytes > self.max_bytes and place.sent is None and left > 1:
                left -= 1
                self.bytes -= place.out.size
                self._count(place.out)
            else:
                kept.append(place)
        if newest:
            kept.reverse()
        self.waiting = kept

    def _drop(self, condemned: Callable[[Waiting], bool]) -> None:
        kept: deque[Waiting] = deque()
        for place in self.waiting:
            if condemned(place):
                self.bytes -= place.out.size
                self._count(place.out)
            else:
                kept.append(place)
        self.waiting = kept

    def _conflate(self, conflate: Conflate) -> None:
        newest = {}
        for place in self.waiting:
            newest[self._key_of(conflate, place)] = place
        self._drop_conflated(lambda place: newest[self._key_of(conflate, place)] is not place)

    def _replace_older(self, conflate: Conflate, out: Outgoing) -> None:
        key = self._key_of(conflate, Waiting(out, NEVER, None))
        self._drop_conflated(lambda place: self._key_of(conflate, place) == key)

    def _drop_conflated(self, condemned: Callable[[Waiting], bool]) -> None:
        """What a newer value replaces is counted, but leaves no gap: nothing is missing."""
        gaps = dict(self.gaps)
        self._drop(condemned)
        self.gaps = gaps

    @staticmethod
    def _key_of(conflate: Conflate, place: Waiting) -> object:
        """Equal for messages of which only the newest counts. Never equal for those without a key."""
        if place.sent is not None:
            return id(place)
        try:
            key = conflate.key(place.out.fields)
            hash(key)
        except Exception:
            logger.exception("the key function of %r failed; the message is kept", conflate)
            key = None
        return id(place.out) if key is None else (key,)

    def _count(self, out: Outgoing) -> None:
        self.counters.dropped += 1
        if self.tell_gaps and out.room is not None:
            self.gaps[out.room] = self.gaps.get(out.room, 0) + 1

    def _gap(self) -> Outgoing:
        room = next(iter(self.gaps))
        return Outgoing(gap_notice(room, self.gaps.pop(room)))

    def _tell(self, now: float) -> None:
        while self.gaps:
            gap = self._gap()
            self.waiting.append(Waiting(gap, NEVER, None))
            self.bytes += gap.size


def gap_notice(room: str, dropped: int | None) -> bytes:
    """`{"type":"gap","room":"r1","dropped":12}`; null where nobody knows how many."""
    return msgspec.json.encode({"type": "gap", "room": room, "dropped": dropped})


TURNS = 10
"""Turns of the loop that one broadcast gives to readers near their bound, at most."""

PATIENCE = 10
"""Turns in which a reader near its bound may take nothing, before it takes something, and be waited for."""


async def take_turns(near: list[Connection]) -> None:
    """
    Give the loop a turn to write and read, and more of them while a reader that came near its bound catches up.

    Turns, not time: nobody is waited for longer than the loop needs to go round a few times, and who takes nothing
    soon not at all.
    """
    for _ in range(TURNS):
        before = [(connection.queue, connection.queue.bytes) for connection in near]
        await asyncio.sleep(0)
        for queue, size in before:
            queue.patience = PATIENCE if queue.bytes < size else queue.patience - 1
        near = [each for each in near if each.queue.near and each.queue.patience > 0]
        if not near:
            return


@types.coroutine
def _rest_of(begun: Generator[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """What a coroutine has left to do, whose first step was taken elsewhere and waits for something."""
    while True:
        try:
            value = yield waits_for
        except BaseException as exc:
            resume = functools.partial(begun.throw, exc)
        else:
            resume = functools.partial(begun.send, value)
        try:
            waits_for = resume()
        except StopIteration:
            return


class Connection:
    """
    The outbound side of one peer.

    Without anything that waits it is a few attributes; the task that writes lives only while something does.
    `on_slow_peer` is called once, when the policy is to close.
    """

    __slots__ = (
        "_judging", "_loop", "_on_slow_peer", "_sends_plainly", "_writer", "closed", "offer", "queue",
        "send_at_once", "wire",
    )  # fmt: skip

    def __init__(
        self, send: Send, queue: OutboundQueue, on_slow_peer: Callable[[], None], wire: Wire | None = None
    ) -> None:
        self.send_at_once = send  # the server's own, which knows nothing of what waits here
        self.wire = wire
        self._sends_plainly = wire is None and sends_plainly(send)
        # takes a frame without asking us; None while something waits here, and elsewhere
        self.offer = wire.offer if wire is not None else None
        self.queue = queue
        self._on_slow_peer = on_slow_peer
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Task[None] | None = None
        self._judging = False  # a judgement is due after this turn of the loop
        self.closed = False  # nothing is written any more: the peer is gone, or has been told to go

    @property
    def busy(self) -> bool:
        """Something waits; whatever is sent now has to go through `send` to keep the order."""
        return self._writer is not None

    def push(self, out: Outgoing) -> bool:
        """
        Write it, or let it wait; True if what waits comes near the bound, so that a turn of the loop is
        due.
        """
        if self._writer is None:
            wire = self.wire
            if self.closed or (wire is not None and wire.offer(out.frame(wire))):
                return False
            if self._sends_plainly:
                self._write_at_once(out)
                return False
            self.offer = None
            self._writer = self._loop.create_task(self._write() if wire is None else self._write_to(wire))
        queue = self.queue
        queue.put(out, self._loop.time())
        if queue.stalled or queue.bytes > queue.max_bytes:
            self._judge_soon()
        return queue.near

    def write(self, payload: bytes) -> bool:
        """`Wire.write`, while nothing waits here. False: it was not written, `send` is to do it in turn."""
        return self.offer is not None and self.wire is not None and self.wire.write(payload)

    def send(self, event: MutableMapping[str, Any]) -> Awaitable[None]:
        """ASGI's `send` for everything that is not pushed: after what waits, and until it is written."""
        return self.send_at_once(event) if self._writer is None else self._send_in_turn(event)

    async def _send_in_turn(self, event: MutableMapping[str, Any]) -> None:
        sent = self._loop.create_future()
        self.queue.put(Outgoing.of_event(event), self._loop.time(), sent)
        await sent

    def _judge_soon(self) -> None:
        if not self._judging:
            self._judging = True
            # Two turns: in the first the writer wakes, in the second it has written what the transport takes.
            self._loop.call_soon(self._loop.call_soon, self._judge)

    def _judge(self) -> None:
        self._judging = False
        if not self.closed and self.queue.judge(self._loop.time()):
            self.close()
            self._on_slow_peer()

    def _write_at_once(self, out: Outgoing) -> None:
        """Through ASGI's `send`, and without a task, which costs as much as the rest, unless it has to wait."""
        writing = self.send_at_once(out.event).__await__()
        try:
            waits_for = next(writing)
        except StopIteration:
            return
        except Exception:  # each server has its own exception for a peer that has gone
            self.close()
        else:
            self._writer = self._loop.create_task(self._write(_rest_of(writing, waits_for)))

    async def _write(self, begun: Awaitable[None] | None = None) -> None:
        """Write through ASGI's `send`, which waits while the peer does not read."""

        async def write(out: Outgoing) -> None:
            await self.send_at_once(out.event)

        await self._write_all(write, begun)

    async def _write_to(self, wire: Wire) -> None:
        """Write ready frames, several in one turn of the loop where the transport takes them."""

        async def write(out: Outgoing) -> None:
            if out.foreign:
                await self.send_at_once(out.event)
                return
            if wire.buffered > WIRE_BYTES:
                await wire.drain()
            wire.push(out.frame(wire))

        await wire.drain()
        await self._write_all(write)

    async def _write_all(
        self, write: Callable[[Outgoing], Awaitable[None]], begun: Awaitable[None] | None = None
    ) -> None:
        """Ends when nothing waits. One failed write ends it all: the peer is gone."""
        sent: asyncio.Future[None] | None = None
        try:
            if begun is not None:
                await begun
            while (place := self.queue.take(self._loop.time())) is not None:
                sent = place.sent
                if self.queue.waiting:
                    self._judge_soon()
                await write(place.out)
                if sent is not None and not sent.done():
                    sent.set_result(None)
            self._writer = None
            self.offer = self.wire.offer if self.wire is not None else None
        except asyncio.CancelledError:  # by `close`
            _fail(sent, ConnectionResetError("the connection was closed while the message was written"))
            raise
        except Exception as error:  # each server has its own exception for a peer that has gone
            _fail(sent, error)
            self._writer = None
            self.close()

    def close(self) -> None:
        """Write nothing more; what waits is dropped."""
        self.closed, self.offer = True, None
        self.queue.clear()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
