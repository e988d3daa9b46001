"""
Messages on their way to the application: what ASGI's `receive` returns, or `Pull` gives.

Bounded in bytes: above the bound the transport stops reading until the application has taken all of them. A
message is never lost to a cancelled `receive()`, and the final `websocket.disconnect` is given again if it is
asked for.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from uvicorn.protocols.utils import ClientDisconnected

from socketsundso.server.extension import Extension
from socketsundso.server.outbox import Outbox

MAX_QUEUED_BYTES = 1 << 16
MESSAGE_BYTES = 250  # what a queued message weighs besides its payload, which may be empty
MAX_ENDS_TOLD = 1000  # the final disconnect, by `receive`; who asks once more gets an exception
ENDS_TOLD_AT_ONCE = 10  # then the event loop gets a turn, in which an impatient task may be cancelled

Message = dict[str, Any]
Item = str | Message
"""In the queue a text stands for its `websocket.receive`, which not everybody needs."""


class Served(Protocol):
    """What an inbox tells its connection."""

    def app_is_behind(self) -> None:
        """More bytes are queued than the bound allows; reading has been paused."""

    def app_saw_everything(self) -> None:
        """The application has taken the last message: it has handled all that came before."""


class Watcher(Protocol):
    """Who wants to know of the end before it is taken."""

    def peer_left(self, message: Message) -> None:
        """The disconnect has come while nobody waits for a message; it is taken in its turn all the same."""

    # May have `busy`: whether something is under way though the next message is waited for; and `held_bytes`: of
    # messages that it has taken, and that wait nevertheless.


class Pull(Extension):
    """
    `scope["extensions"]["socketsundso.pull"]`: messages without a coroutine and a dict for each.

    For the one task that takes them all. A text is a str, everything else the ASGI message.
    """

    __slots__ = ()

    def stands_for(self, receive: Callable[..., Any]) -> bool:
        """Whether `receive` is this connection's own: around a middleware's, it would miss what that does."""
        return getattr(receive, "__self__", None) is self

    @abstractmethod
    def take(self) -> Item | None:
        """The next message, None while there is none; after the last one always `websocket.disconnect`."""

    @abstractmethod
    def arrival(self) -> Awaitable[Item]:
        """
        The next message when it comes, only after `take` gave None.

        Who is cancelled while it waits may lose the message that has just come; with ASGI's `receive` nothing is lost.
        """

    @property
    @abstractmethod
    def waiting_bytes(self) -> int:
        """Of messages that wait for a handler, here or with who has taken them."""

    @property
    @abstractmethod
    def holds(self) -> bool:
        """Is there a message that has not been taken, other than the disconnect?"""

    @abstractmethod
    def notify(self, callback: Callable[[], None] | None) -> None:
        """
        Call it in a turn of its own, now if there is a message, then for each that comes where there was none.

        Not for one that somebody waits for. None: do not; a call that is on its way already comes all the same.
        """

    @abstractmethod
    def watch(self, watcher: Watcher | None) -> None:
        """
        Call `watcher.peer_left(message)` once, when the disconnect comes while nobody waits for a message.

        At once, whatever is queued before it; within a callback of the event loop. None: nobody wants to know any more.
        """


class Inbox(Pull):
    """The messages of one connection, in order. `put` never waits, the rest is the application's side."""

    __slots__ = (
        "_connection",
        "_ends_told",
        "_final",
        "_first",
        "_head",
        "_heard",
        "_loop",
        "_outbox",
        "_queue",
        "_transport",
        "_turn",
        "_waiter",
        "_watcher",
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
        self._queue: list[Item] = []  # from _head on; a deque would cost every idle connection 600 bytes
        self._head = 0
        self.size = 0  # bytes put since the queue was last empty
        self._final: Message | None = None
        self._ends_told = 0  # how often `receive` has given it
        self._waiter: asyncio.Future[Item] | None = None
        self._first: asyncio.Future[Item] | None = None  # that of the task in `receive`, until it goes on
        self._turn: asyncio.Lock | None = None  # once two tasks have received at the same time
        self._watcher: Watcher | None = None
        self._heard: Callable[[], None] | None = None  # who wants to know of the next message
        self.paused = False

    def put(self, item: Item, size: int) -> None:
        """Append a message, whose payload has `size` bytes."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            try:
                waiter.set_result(item)
                # an answer to the last message taken goes out at once; before that, answers are joined
                self._outbox.eager = True
                return
            except asyncio.InvalidStateError:  # its task was cancelled, but did not run yet
                pass
        self._outbox.eager = False
        self._queue.append(item)
        if self._heard is not None and len(self._queue) == 1:
            self._loop.call_soon(self._heard)
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
            waiter.set_result(self._last(message))
        elif self._watcher is not None:
            self._watcher.peer_left(message)

    @property
    def holds(self) -> bool:
        return bool(self._queue)

    @property
    def idle(self) -> bool:
        """Has the application nothing else to do than to wait for the next message, as far as it tells?"""
        return self._pending() is not None and not self._queue and not getattr(self._watcher, "busy", False)

    @property
    def waiting_bytes(self) -> int:
        """Of messages that wait for a handler, here or with who has taken them."""
        return self.size + int(getattr(self._watcher, "held_bytes", 0))

    def notify(self, callback: Callable[[], None] | None) -> None:
        self._heard = callback
        if self._queue and callback is not None:
            self._loop.call_soon(callback)

    def watch(self, watcher: Watcher | None) -> None:
        self._watcher = watcher
        if watcher is not None and self._final is not None:
            watcher.peer_left(self._final)

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

    async def receive(self, in_turn: bool = False) -> Message:
        """ASGI's `receive`, which has no parameters; several tasks get the messages in order, one after another."""
        if self._turn is not None and not in_turn:
            async with self._turn:
                return await self.receive(in_turn=True)
        if (first := self._first or self._pending()) is not None:
            # another task receives too: what comes, or has come and is on its way to it, is before all that follows
            if not in_turn:
                self._turn = asyncio.Lock()
            elif first.done():
                await asyncio.sleep(0)
            else:
                await asyncio.wait([first])
            return await self.receive(in_turn)
        item = self.take()
        if item is None:
            self._first = self._waiter = waiter = self._loop.create_future()
            try:
                item = await waiter
            except asyncio.CancelledError:
                self._give_back(waiter)
                raise
            finally:
                self._first = None
        if isinstance(item, str):
            return {"type": "websocket.receive", "text": item}
        if self._final is not None and item is self._final:
            await self._tell_the_end()
        return item

    async def _tell_the_end(self) -> None:
        # an application that goes on in its loop must not stop the event loop's
        self._ends_told += 1
        if self._ends_told > MAX_ENDS_TOLD:
            raise ClientDisconnected
        if self._ends_told % ENDS_TOLD_AT_ONCE == 0:
            await asyncio.sleep(0)

    def take(self) -> Item | None:
        queue = self._queue
        if not queue:
            return None if self._final is None else self._last(self._final)
        item = queue[self._head]
        self._head += 1
        if self._head == len(queue):
            queue.clear()
            self._head = self.size = 0
            self._outbox.eager = True
            self.release()
        return item

    def arrival(self) -> Awaitable[Item]:
        # A future, without a coroutine around it that would be entered and left for every message; hence nobody gives
        # back what has come for a task that is cancelled.
        if self._pending() is not None:
            return self.receive()
        self._waiter = self._loop.create_future()
        return self._waiter

    def _pending(self) -> asyncio.Future[Item] | None:
        return None if self._waiter is None or self._waiter.done() else self._waiter

    def _last(self, message: Message) -> Message:
        # the application has seen all that came before: what was held back for it may go
        if self._connection is not None:
            self._connection.app_saw_everything()
        return message

    def _give_back(self, waiter: asyncio.Future[Item]) -> None:
        if self._waiter is waiter:
            self._waiter = None
        if waiter.cancelled() or not waiter.done() or (item := waiter.result()) is self._final:
            return
        self._queue.insert(self._head, item)
        if self._heard is not None and len(self._queue) == 1:
            self._loop.call_soon(self._heard)
