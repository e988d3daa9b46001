"""
Messages on their way to the application: what ASGI's `receive` returns.

Bounded in bytes: above the bound the transport stops reading until the application has taken all of them. A
message is never lost to a cancelled `receive()`, and the final `websocket.disconnect` is given as often as
it is asked for.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from socketsundso.server.outbox import Outbox

MAX_QUEUED_BYTES = 1 << 16
MESSAGE_BYTES = 250  # what a queued message weighs besides its payload, which may be empty

Message = dict[str, Any]


class Served(Protocol):
    """What an inbox tells its connection."""

    def app_is_behind(self) -> None:
        """More bytes are queued than the bound allows; reading has been paused."""

    def app_saw_everything(self) -> None:
        """The application has taken the last message: it has handled all that came before."""


class Inbox:
    """The messages of one connection, in order. `put` never waits, `receive` is the application's side."""

    __slots__ = (
        "_connection",
        "_final",
        "_head",
        "_loop",
        "_outbox",
        "_queue",
        "_transport",
        "_waiter",
        "paused",
        "size",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        outbox: Outbox,
        connection: Served,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._outbox = outbox
        self._connection: Served | None = connection
        self._queue: list[Message] = []  # from _head on; a deque would cost every idle connection 600 bytes
        self._head = 0
        self.size = 0  # bytes put since the queue was last empty
        self._final: Message | None = None
        self._waiter: asyncio.Future[Message] | None = None
        self.paused = False

    def put(self, message: Message, size: int) -> None:
        """Append `message`, whose payload has `size` bytes."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            try:
                waiter.set_result(message)
                return
            except asyncio.InvalidStateError:  # its task was cancelled, but did not run yet
                pass
        self._queue.append(message)
        self.size += size + MESSAGE_BYTES
        if self.size > MAX_QUEUED_BYTES and not self.paused:
            self.pause()
            if self._connection is not None:
                self._connection.app_is_behind()

    def end(self, message: Message) -> None:
        """Let `message`, a `websocket.disconnect`, be the last one. Only the first call counts."""
        if self._final is not None:
            return
        self._final = message
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self._waiter = None
            waiter.set_result(message)

    def pause(self) -> None:
        """Stop the transport's reading, until the application has taken everything or `release`."""
        if not self.paused and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()

    def release(self) -> None:
        """Let the transport read again, whatever is queued."""
        if self.paused:
            self.paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def detach(self) -> None:
        """Forget the connection: the application may hold on to `receive` for as long as it likes."""
        self._connection = None

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        queue = self._queue
        if queue:
            return self._take(queue)
        if (final := self._final) is not None:
            return self._last(final)
        if self._waiter is not None:
            return await self._receive_after(self._waiter)
        # waiting is not a coroutine of its own: it would be entered and left for every message
        self._waiter = waiter = self._loop.create_future()
        try:
            message: Message = await waiter
        except asyncio.CancelledError:
            self._give_back(waiter)
            raise
        if message is self._final:
            return self._last(message)
        # an answer to the last message taken goes out at once; before that, answers are joined
        self._outbox.eager = not queue
        return message

    def _take(self, queue: list[Message]) -> Message:
        message = queue[self._head]
        self._head += 1
        if self._head == len(queue):
            queue.clear()
            self._head = self.size = 0
            self._outbox.eager = True
            self.release()
        return message

    async def _receive_after(self, other: asyncio.Future[Message]) -> Message:
        await asyncio.wait([other])  # another task receives too: it was here first
        return await self.receive()

    def _last(self, message: Message) -> Message:
        # the application has seen all that came before: what was held back for it may go
        if self._connection is not None:
            self._connection.app_saw_everything()
        return message

    def _give_back(self, waiter: asyncio.Future[Message]) -> None:
        if self._waiter is waiter:
            self._waiter = None
        if waiter.cancelled() or not waiter.done() or (message := waiter.result()) is self._final:
            return
        self._queue.insert(self._head, message)
