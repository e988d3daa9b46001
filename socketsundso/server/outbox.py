"""
Frames on their way to the peer: in order, and as few writes as possible.

An event loop writes each `transport.write()` by itself, and a system call is the dearest part of a small
message. So an answer to the last message that was received leaves at once, and everything else is joined
with what the same turn of the event loop still brings; what is probably followed by more, and comes right behind a
write, with what the next turns bring, too. While the transport is above its high-water mark
frames stay here, where a broadcast frame is one object for all connections.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected

from socketsundso.server.deflate import NEVER, Agreed
from socketsundso.server.extension import Extension
from socketsundso.server.frames import FIN_BINARY, FIN_TEXT, TEXT_HEADS, frame, frame_bytes, text_frame

JOIN_BYTES = 1 << 16
JOIN_TURNS = 8
"""So many turns of the event loop a frame waits for more of them, at most; and no turn that brings nothing."""

JOIN_S = 0.002
"""So soon after the last write of them the next ones wait: who gives one now and then has it sent at once."""

OFFER_BYTES = 1 << 16
"""Above so many bytes that wait here, `Push.offer` leaves frames with their sender, who may drop them."""


class Flusher:
    """The outboxes of one event loop that are to be written at the end of this turn, or in one of the next."""

    __slots__ = ("_held", "_loop", "dirty")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.dirty: list[Outbox] = []
        self._held: dict[Outbox, tuple[int, int]] = {}  # what waited in the last turn, and turns left

    def add_first(self, outbox: Outbox) -> None:
        """Flush `outbox`, and all that are appended to `dirty`, before the loop waits for input again."""
        self._loop.call_soon(self._run)
        self.dirty.append(outbox)

    def _run(self) -> None:
        dirty, self.dirty = self.dirty, []
        for outbox in dirty:
            outbox.flush()

    def hold(self, outbox: Outbox) -> None:
        """Flush `outbox` in the first turn that brings nothing more for it, at the latest after JOIN_TURNS."""
        if not self._held:
            self._loop.call_soon(self._look)
        self._held[outbox] = 0, JOIN_TURNS - 1

    def _look(self) -> None:
        held, self._held = self._held, {}
        for outbox, (size, turns) in held.items():
            if outbox.size > size and turns:
                self._held[outbox] = outbox.size, turns - 1
            else:
                outbox.flush()
                outbox.joined_at = self._loop.time()
        if self._held:
            self._loop.call_soon(self._look)


_flushers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Flusher] = weakref.WeakKeyDictionary()


def flusher_of(loop: asyncio.AbstractEventLoop) -> Flusher:
    """The one flusher of `loop`."""
    flusher = _flushers.get(loop)
    if flusher is None:
        flusher = _flushers[loop] = Flusher(loop)
    return flusher


class Outbox:
    """The frames of one connection. Nothing here ever waits, except `writable`."""

    __slots__ = (
        "_flusher", "_frames", "_loop", "_transport", "blocked", "closed", "deflate", "eager", "joined_at",
        "plain_below", "ready_below", "size", "turn_due",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._flusher = flusher_of(loop)
        self._transport = transport
        self._frames: list[bytes] = []
        self.size = 0  # bytes in _frames
        self.joined_at = 0.0  # the event loop's time when what `join` was given was written last
        self.blocked: asyncio.Future[None] | None = None  # pending while above the high-water mark
        self.eager = False  # whether the next frame answers the last message that was received
        self.closed = True  # before accept, after the close frame, when the peer is gone: frames are dropped
        self.turn_due = False  # whether more than JOIN_BYTES were sent within one turn of the event loop
        self.deflate: Agreed | None = None  # what was negotiated
        self.plain_below = self.ready_below = NEVER  # see `compress`

    def compress(self, deflate: Agreed, min_bytes: int, min_ready_bytes: int) -> None:
        """
        From now on messages of so many bytes are compressed by who makes them, ready frames by who pushes them.

        Nothing that is written here is looked at again.
        """
        self.deflate = deflate
        self.plain_below, self.ready_below = min_bytes, frame_bytes(min_ready_bytes)

    def open(self) -> None:
        """The connection is accepted."""
        self.closed = False

    def write(self, data: bytes) -> None:
        """Send the frame `data` after all that was written before."""
        if not self.eager:
            self.push(data)
        elif self._frames or self.blocked is not None:
            self.eager = False
            self.push(data)
            self.flush()
        elif not self.closed:
            self.eager = False
            self._transport.write(data)

    def push(self, data: bytes) -> None:
        """Send the frame `data` with the others of this turn of the event loop."""
        if self.closed:
            return
        if not self._frames:
            dirty = self._flusher.dirty
            if dirty:
                dirty.append(self)
            else:
                self._flusher.add_first(self)
        self._frames.append(data)
        self.size += len(data)
        if self.size > JOIN_BYTES:
            self.turn_due = True
            self.flush()

    def join(self, data: bytes) -> None:
        """Send the frame `data`, which is probably followed by more, with those of the next turns, too; while open."""
        frames = self._frames
        if not frames:
            if (now := self._loop.time()) - self.joined_at > JOIN_S:
                self.joined_at = now
                self.push(data)
                return
            self._flusher.hold(self)
        frames.append(data)
        self.size += len(data)
        if self.size > JOIN_BYTES:
            self.flush()

    def offer(self, data: bytes) -> bool:
        """`push`, unless more than OFFER_BYTES wait already. False: not taken, the caller keeps it."""
        if self.blocked is not None and self.buffered > OFFER_BYTES:
            return False
        self.push(data)  # dropped if the peer is gone: nobody is to keep it
        return True

    def flush(self) -> None:
        """Hand over to the transport what it takes."""
        frames = self._frames
        if not frames or self.blocked is not None:
            return
        if self.size <= JOIN_BYTES:
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            frames.clear()
            self.size = 0
            self._transport.write(data)
        else:
            self._flush_in_parts()

    def _flush_in_parts(self) -> None:
        done = 0
        while done < len(self._frames) and self.blocked is None:
            part, size = [], 0
            while done < len(self._frames) and size < JOIN_BYTES:
                part.append(self._frames[done])
                size += len(self._frames[done])
                done += 1
            self.size -= size
            self._transport.write(part[0] if len(part) == 1 else b"".join(part))
        del self._frames[:done]

    @property
    def buffered(self) -> int:
        """Bytes that were written here and are not yet in the kernel's hands."""
        return self.size + self._transport.get_write_buffer_size()

    @property
    def empty(self) -> bool:
        """Whether the transport has been given everything."""
        return not self._frames

    async def writable(self) -> None:
        """Wait until the transport is below its high-water mark, or gone."""
        while self.blocked is not None:
            await asyncio.shield(self.blocked)

    async def turn(self) -> None:
        """
        Let the event loop have a turn.

        An application that only sends waits for nothing while its peer reads as fast, and does not hear that it left.
        """
        self.turn_due = False
        await asyncio.sleep(0)

    def block(self) -> None:
        """The transport is above its high-water mark."""
        if self.blocked is None:
            self.blocked = self._loop.create_future()

    def unblock(self) -> None:
        """The transport is below its low-water mark."""
        blocked, self.blocked = self.blocked, None
        if blocked is not None:
            blocked.set_result(None)
            self.flush()

    def finish(self, last: bytes) -> None:
        """Send `last` behind everything else, and nothing after it."""
        if self.closed:
            return
        self._frames.append(last)
        self.size += len(last)
        self.closed = True
        self.flush()

    def drop(self) -> None:
        """Forget what is queued and wake who waits: the peer is gone."""
        self.closed = True
        self._frames.clear()
        self.size = 0
        self.unblock()


class Push(Extension):
    """
    `scope["extensions"]["socketsundso.push"]`: ready frames without a coroutine.

    For code that sends the same message to many connections: make the frame once with `frame`, hand it to
    each connection with `push`. Frames and `websocket.send` keep the order of their calls. Where
    permessage-deflate was negotiated the peer gets its compressed twin, which is made once for all of them.
    """

    __slots__ = ("_outbox",)

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    @staticmethod
    def frame(payload: bytes | str, *, binary: bool = False) -> bytes:
        """The frame around `payload`: a text frame (bytes must be UTF-8), or a binary one."""
        data = payload.encode() if isinstance(payload, str) else payload
        return frame(FIN_BINARY, data) if binary else text_frame(data)

    def stands_for(self, send: Callable[..., Any]) -> bool:
        """Whether `send` is this connection's own: around a middleware's, `Push.write` would miss what that does."""
        return getattr(getattr(send, "__self__", None), "outbox", None) is self._outbox

    def compress_from(self, payload_bytes: int | None) -> None:
        """
        Compress the messages to this peer from so many bytes of payload on, None for none of them.

        Whether permessage-deflate was negotiated is the client's and the server's affair: without it this does nothing.
        """
        deflate = self._outbox.deflate
        if deflate is not None:
            least = NEVER if payload_bytes is None else payload_bytes
            self._outbox.compress(deflate, least, least)

    @property
    def open(self) -> bool:
        """
        Whether a frame that is pushed now will be sent: after `websocket.accept`, until the connection
        ends.
        """
        return not self._outbox.closed

    def push(self, frame: bytes) -> bool:
        """Send `frame`, joined with the others of this turn of the event loop. False: not open, dropped."""
        if self._outbox.closed:
            return False
        self._outbox.push(frame)
        return True

    def write(self, payload: bytes) -> bool:
        """
        What `websocket.send` does with a text (UTF-8), unless it had to wait. False: nothing was sent, use that.
        """
        outbox = self._outbox
        if outbox.closed or outbox.blocked is not None:
            return False
        outbox.write(text_frame(payload))
        return True

    def write_soon(self, payload: bytes) -> bool:
        """`write` for a text that is probably followed by more: joined with what the next turns of the loop bring."""
        outbox = self._outbox
        if outbox.closed or outbox.blocked is not None:
            return False
        size = len(payload)  # `text_frame`, unfolded: for each item of a stream
        outbox.join(TEXT_HEADS[size] + payload if size < 126 else frame(FIN_TEXT, payload))
        return True

    def write_binary(self, payload: bytes) -> bool:
        """The same with binary data."""
        outbox = self._outbox
        if outbox.closed or outbox.blocked is not None:
            return False
        outbox.write(frame(FIN_BINARY, payload))
        return True

    @property
    def offer(self) -> Callable[[bytes], bool]:
        """
        `offer(frame)`: `push`, unless more than OFFER_BYTES wait already. False: not taken, the caller keeps it.

        A property, so that who keeps `push.offer` for many broadcasts calls the outbox itself.
        """
        return self._outbox.offer

    @property
    def buffered(self) -> int:
        """Outbound bytes that the kernel has not taken yet."""
        return self._outbox.buffered

    async def drain(self) -> None:
        """
        Wait until the outbound bytes are below the transport's high-water mark; OSError if the peer is
        gone.
        """
        await self._outbox.writable()
        if self._outbox.closed:
            raise ClientDisconnected


class PackingPush(Push):
    """
    `Push` where permessage-deflate was negotiated.

    A class of its own, so that who does without pays nothing. `agreed` is what the outbox compresses with.
    """

    __slots__ = ("_agreed", "_ready")

    def __init__(self, outbox: Outbox, agreed: Agreed) -> None:
        super().__init__(outbox)
        self._agreed = agreed
        self._ready = agreed.ready  # found once: it is called for each member of a room

    def push(self, frame: bytes) -> bool:
        outbox = self._outbox
        if outbox.closed:
            return False
        if len(frame) >= outbox.ready_below:
            frame = self._ready(frame)
        outbox.push(frame)
        return True

    def write(self, payload: bytes) -> bool:
        outbox = self._outbox
        if outbox.closed or outbox.blocked is not None:
            return False
        if len(payload) < outbox.plain_below:
            outbox.write(text_frame(payload))
        else:
            outbox.write(self._agreed.frame(payload, text=True))
        return True

    def write_soon(self, payload: bytes) -> bool:
        outbox = self._outbox
        if outbox.closed or outbox.blocked is not None:
            return False
        small = len(payload) < outbox.plain_below
        outbox.join(text_frame(payload) if small else self._agreed.frame(payload, text=True))
        return True

    def write_binary(self, payload: bytes) -> bool:
        outbox = self._outbox
        if len(payload) < outbox.plain_below:
            return super().write_binary(payload)
        if outbox.closed or outbox.blocked is not None:
            return False
        outbox.write(self._agreed.frame(payload, text=False))
        return True

    @property
    def offer(self) -> Callable[[bytes], bool]:
        return self._offer

    def _offer(self, frame: bytes) -> bool:
        # `Outbox.offer`, with a frame that is compressed only if it is taken
        outbox = self._outbox
        if outbox.blocked is not None and outbox.buffered > OFFER_BYTES:
            return False
        if len(frame) >= outbox.ready_below and not outbox.closed:
            frame = self._ready(frame)
        outbox.push(frame)
        return True
