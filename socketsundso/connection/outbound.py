"""
What is on its way to one peer. `Connection` moves it: `push` never waits and never raises, `send` waits for its turn.
What waits meanwhile is in an `OutboundQueue`, whose policy decides what becomes of it where the peer is slow.

A `together` block is a writer, too: until its end, what is not sent within it waits like behind a slow peer.

A peer is slow only if its bytes stay above the bound after the event loop had a turn to write; a burst
within one turn is not slowness. The bound is for pushes: what is sent with `send` is never dropped, its
sender waits instead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

from socketsundso.connection.queue import NEVER as NEVER
from socketsundso.connection.queue import PATIENCE as PATIENCE
from socketsundso.connection.queue import Conflate as Conflate
from socketsundso.connection.queue import Notice, Renew, fail
from socketsundso.connection.queue import OutboundQueue as OutboundQueue
from socketsundso.connection.queue import Outgoing as Outgoing
from socketsundso.connection.stepping import rest_of
from socketsundso.messages import Framing
from socketsundso.wire import Wire, sends_plainly

SLOW_CLOSE_CODE = 1013
WIRE_BYTES = 64 << 10
"""
Above so many bytes in the server's own buffer, our writer waits: a policy can still reach what is in ours.
"""

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

Block = asyncio.Future[None]
"""The inside of a `together`, which writes at once while others wait; never done, but cancelled with its connection."""

_blocks: ContextVar[tuple[Block, ...]] = ContextVar("socketsundso_blocks", default=())
"""Those that the running code is in, also a task that was started within."""


TURNS = 10
"""Turns of the loop that one broadcast gives to readers near their bound, at most."""


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


class Entry(Outgoing):
    """The place of a block that waits for its turn. Nothing is written for it."""

    __slots__ = ("block",)

    def __init__(self, block: Block) -> None:
        super().__init__(b"")
        self.block = block


class Connection:
    """
    The outbound side of one peer.

    Without anything that waits it is a few attributes; the task that writes lives only while something does.
    `on_slow_peer` is called once, when the policy is to close. What is pushed is canonical, and written as `framing`
    has it, if that is given.
    """

    __slots__ = (
        "_all_sent", "_block", "_framing", "_idle", "_judging", "_loop", "_on_slow_peer", "_sends_plainly",
        "_under_way", "_writer", "closed", "offer", "queue", "send_at_once", "wire",
    )  # fmt: skip

    def __init__(
        self,
        send: Send,
        queue: OutboundQueue,
        on_slow_peer: Callable[[], None],
        wire: Wire | None = None,
        framing: Framing | None = None,
    ) -> None:
        self.send_at_once = send  # the server's own, which knows nothing of what waits here
        self.wire = wire
        self._sends_plainly = wire is None and sends_plainly(send)
        self._framing = None if framing is None or framing.is_canonical else framing
        self._rest()
        self.queue = queue
        self._on_slow_peer = on_slow_peer
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Future[None] | None = None  # the task that writes what waits, or the block
        self._block: Block | None = None  # whose turn it is
        self._under_way = 0  # sends that the server has not finished
        self._all_sent: asyncio.Event | None = None  # of a block that waits for these
        self._judging = False  # a judgement is due after this turn of the loop
        self.closed = False  # nothing is written any more: the peer is gone, or has been told to go

    def _rest(self) -> None:
        """Nothing waits here."""
        self._idle = self.wire  # None while something does
        # takes a frame of a canonical message without asking us; None while something waits here, and elsewhere
        self.offer = self.wire.offer if self.wire is not None and self._framing is None else None

    def _framed(self, out: Outgoing) -> Outgoing:
        """As the peer reads it."""
        return out if self._framing is None else out.framed(self._framing)

    @property
    def slow(self) -> bool:
        """What waits is more than the loop's turns could write."""
        return self.queue.stalled

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
            if self.closed or (wire is not None and wire.offer(self._framed(out).frame(wire))):
                return False
            if self._sends_plainly:
                self._write_at_once(out)
                return False
            self._begin_writing()
        queue = self.queue
        queue.put(out, self._loop.time())
        if queue.stalled or queue.bytes > queue.max_bytes:
            self._judge_soon()
        return queue.near

    def inform(self, out: Notice, renew: Renew) -> None:
        """While `busy`, tell who is in a room, or a change of that; see `OutboundQueue.inform`."""
        self.queue.inform(out, renew)
        self._judge_soon()

    def write(self, payload: bytes) -> bool:
        """`Wire.write`, while nothing waits here. False: it was not written, `send` is to do it in turn."""
        wire = self._idle if self._idle is not None else self._own
        return wire is not None and wire.write(payload)

    def write_soon(self, payload: bytes) -> bool:
        """`Wire.write_soon`, likewise."""
        wire = self._idle if self._idle is not None else self._own
        return wire is not None and wire.write_soon(payload)

    def write_binary(self, payload: bytes) -> bool:
        """`Wire.write_binary`, likewise."""
        wire = self._idle if self._idle is not None else self._own
        return wire is not None and wire.write_binary(payload)

    @property
    def _own(self) -> Wire | None:
        """The wire, for what is sent within the block whose turn it is."""
        return self.wire if self._is_within else None

    def send(self, event: MutableMapping[str, Any]) -> Awaitable[None]:
        """ASGI's `send` for everything that is not pushed: after what waits, and until it is written."""
        return self._send_noted(event) if self._writer is None else self._send_in_turn(event)

    async def _send_noted(self, event: MutableMapping[str, Any]) -> None:
        """At once. A server that waits for the peer may write what comes meanwhile first: a block has to know."""
        self._under_way += 1
        try:
            await self.send_at_once(event)
        finally:
            self._under_way -= 1
            if self._all_sent is not None and not self._under_way:
                self._all_sent.set()

    async def _send_in_turn(self, event: MutableMapping[str, Any]) -> None:
        if self._is_within:
            await self.send_at_once(event)
        else:
            await self._turn(Outgoing.of_event(event))

    async def _turn(self, out: Outgoing) -> None:
        """Wait behind all that waits, until it is written."""
        sent = self._loop.create_future()
        self.queue.put(out, self._loop.time(), sent)
        await sent

    # ---- blocks

    @contextlib.asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """
        Within the block, what is sent is sent at once, and all else waits for its end; pushes do in any case.

        What waits counts for the bound, and for `on_slow`. A block within a block is a part of it.
        """
        if self._is_within:
            yield
            return
        block = await self._entered()
        _blocks.set((*_blocks.get(), block))
        try:
            yield
        finally:  # no token: who closes a generator may do so in another context
            _blocks.set(tuple(each for each in _blocks.get() if each is not block))
            self._leave(block)

    @property
    def _is_within(self) -> bool:
        """Is the running code in the block whose turn it is?"""
        return self._block is not None and self._block in _blocks.get()

    async def _entered(self) -> Block:
        block = self._loop.create_future()
        try:
            if self._writer is None:
                self._hand_over(block)
            else:
                await self._turn(Entry(block))
            await self._all_written()
        except (OSError, RuntimeError):
            pass  # the peer is gone, or the connection closed, which the first send within tells
        except asyncio.CancelledError:
            self._leave(block)  # whose turn may have come meanwhile
            raise
        return block

    async def _all_written(self) -> None:
        """What others began to send before is out of the way, which did not have to wait here."""
        if self._under_way:
            self._all_sent = asyncio.Event()
            await self._all_sent.wait()

    def _hand_over(self, block: Block) -> None:
        self._writer = self._block = block
        self.offer = self._idle = None

    def _leave(self, block: Block) -> None:
        if self._block is not block:  # it never had its turn, or the connection has ended
            return
        self._block = None
        if self.queue.waiting:
            self._begin_writing()
        else:
            self._writer = None
            self._rest()

    # ---- what waits

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
        if self._framing is not None:
            out = out.framed(self._framing)
        writing = self.send_at_once(out.event).__await__()
        try:
            waits_for = next(writing)
        except StopIteration:
            return
        except Exception:  # each server has its own exception for a peer that has gone
            self.close()
        else:
            self._writer = self._loop.create_task(self._write(rest_of(writing, waits_for)))

    def _begin_writing(self) -> None:
        wire = self.wire
        self.offer = self._idle = None
        self._writer = self._loop.create_task(self._write() if wire is None else self._write_to(wire))

    async def _write(self, begun: Awaitable[None] | None = None) -> None:
        """Write through ASGI's `send`, which waits while the peer does not read."""

        async def write(out: Outgoing) -> None:
            await self.send_at_once(self._framed(out).event)

        await self._write_all(write, begun)

    async def _write_to(self, wire: Wire) -> None:
        """Write ready frames, several in one turn of the loop where the transport takes them."""

        async def write(out: Outgoing) -> None:
            if out.foreign:
                await self.send_at_once(out.event)
                return
            if wire.buffered > WIRE_BYTES:
                await wire.drain()
            wire.push(self._framed(out).frame(wire))

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
                if isinstance(place.out, Entry):
                    if sent is not None and not sent.done():  # else nobody waits for it any more
                        self._hand_over(place.out.block)
                        sent.set_result(None)
                        return
                    continue
                await write(place.out)
                if sent is not None and not sent.done():
                    sent.set_result(None)
            self._writer = None
            self._rest()
        except asyncio.CancelledError:  # by `close`
            fail(sent, ConnectionResetError("the connection was closed while the message was written"))
            raise
        except Exception as error:  # each server has its own exception for a peer that has gone
            fail(sent, error)
            self._writer = None
            self.close()

    def close(self) -> None:
        """Write nothing more; what waits is dropped."""
        self.closed, self.offer, self._idle, self._block = True, None, None, None
        self.queue.clear()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
