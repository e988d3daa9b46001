"""
The messages under way beside others on one connection: who runs each, why it is stopped, and whose turn it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Literal, Protocol

from socketsundso.connection.uploads import Upload
from socketsundso.errors import EventError
from socketsundso.messages import Expected, Frame, Ref, Route

MAX_HELD = 64
"""So many messages wait for their turn, at most; then nothing is read."""

MAX_HELD_BYTES = 64 << 10

MAX_ITEM_BYTES = 4 << 20
"""So many bytes of items wait for the handlers of uploads, at most; then nothing is read."""

Reason = Literal["cancelled", "timeout", "gone", "answered"]
"""Why a request is stopped; `answered`: it has its answer already, an error or one of its handler's own."""


class Call(Protocol):
    """A message that is ready to be called out, or the error that is the answer to it."""

    @property
    def route(self) -> Any: ...
    @property
    def ref(self) -> Ref | None: ...
    @property
    def error(self) -> Exception | None: ...

    def call(self, endpoint: Any, frame: Frame, /) -> Any: ...


class Answer:
    """A message that is not called out: an error answers it. `route` is None where nothing is declared for it."""

    __slots__ = ("error", "ref", "route")

    def __init__(self, route: Route | Expected | None, ref: Ref | None, error: Exception) -> None:
        self.route, self.ref, self.error = route, ref, error

    def call(self, endpoint: Any, frame: Frame) -> Any:
        raise self.error


NOBODY = Answer(None, None, EventError("internal_error"))
"""What nobody asked for."""


class Admitted:
    """A message whose arguments are known already."""

    __slots__ = ("bound", "key", "ref", "route")
    error = None

    def __init__(self, route: Route, ref: Ref | None, bound: Any) -> None:
        self.route, self.ref, self.bound, self.key = route, ref, bound, bound.key

    def call(self, endpoint: Any, frame: Frame) -> Any:
        return self.route.call_bound(self, endpoint, frame)


class Request:
    """One message under way. It is the record that owns the end, whoever runs it, and if nobody ever did."""

    task: asyncio.Task[Any] | None = None  # that runs it, from its first step on
    timer: asyncio.TimerHandle | None = None
    reason: Reason | None = None  # why it is stopped
    cancels = 0  # how often its task was cancelled for that
    key: object = None  # equal ones of an event run one at a time
    begins: asyncio.Future[None] | None = None  # of one that waits for its turn, and is called out by its batch
    upload: Upload | None = None  # the items that follow it
    record: Any = None  # what its handler finds that it answers
    over = False  # its last frame is being sent: nothing stops it any more

    def __init__(self, message: Call, frame: Frame, key: object = None) -> None:
        self.message, self.frame = message, frame
        if key is not None:
            self.key = key

    def cancel(self) -> None:
        """If it runs: it looks at its `reason` before its first step."""
        if self.task is not None:
            self.cancels += 1
            self.task.cancel()

    def forgive(self) -> bool:
        """Take back the own cancellations; False if somebody else has cancelled the task, too."""
        task = self.task
        if task is None:
            return True
        while self.cancels:
            self.cancels -= 1
            task.uncancel()
        return not task.cancelling()

    def settle(self) -> None:
        """It is answered, though it goes on."""
        self.message = NOBODY
        if self.timer is not None:
            self.timer.cancel()

    def release(self) -> None:
        self.over = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Group:
    """The requests of one event that run beside each other: at most `limit`, and of equal keys one at a time."""

    __slots__ = ("_keys", "_limit", "_running", "waiting")

    def __init__(self, limit: int) -> None:
        self._limit, self._running = limit, 0
        self._keys: set[object] = set()  # of those that run
        self.waiting: list[Request] = []  # in the order of their arrival

    def begins(self, request: Request) -> bool:
        """Whether it runs now; else it waits for its turn."""
        if self._fits(request) and not any(each.key == request.key is not None for each in self.waiting):
            self._begin(request)
            return True
        self.waiting.append(request)
        return False

    def end(self, request: Request) -> Iterator[Request]:
        """One that has run is done. Gives those whose turn it is."""
        self._running -= 1
        self._keys.discard(request.key)
        for each in tuple(self.waiting):
            if self._running >= self._limit:
                return
            if each in self.waiting and self._fits(each):
                self.waiting.remove(each)
                self._begin(each)
                yield each

    def _fits(self, request: Request) -> bool:
        return self._running < self._limit and (request.key is None or request.key not in self._keys)

    def _begin(self, request: Request) -> None:
        self._running += 1
        if request.key is not None:
            self._keys.add(request.key)


class Backlog:
    """What waits for its turn, in messages and bytes: when there is too much of it, nothing is read."""

    __slots__ = ("_bytes", "_item_bytes", "_messages", "_most", "_most_bytes", "_room", "full", "queue")

    def __init__(self) -> None:
        # of the handlers that run one at a time; a deque would cost every idle connection 600 bytes
        self.queue: list[tuple[Call, Frame]] = []
        self._messages = self._bytes = self._item_bytes = 0
        self._most, self._most_bytes = MAX_HELD, MAX_HELD_BYTES  # from so much on it is full
        self.full = False  # an attribute, since it is asked for with each message
        self._room: asyncio.Future[None] | None = None  # of the loop, while it waits for room

    def _weigh(self) -> None:
        held = self._messages >= self._most or self._bytes >= self._most_bytes
        self.full = held or self._item_bytes >= MAX_ITEM_BYTES
        if not self.full and self._room is not None:
            self.wake()

    @property
    def bytes(self) -> int:
        """Of everything that waits."""
        return self._bytes + self._item_bytes

    def widen(self, times: int) -> None:
        """So many times as much may wait from now on; 1: as much as ever."""
        self._most, self._most_bytes = MAX_HELD * times, MAX_HELD_BYTES * times
        if self._messages:
            self._weigh()

    def hold(self, frame: Frame) -> None:
        self._messages += 1
        self._bytes += len(frame)
        self._weigh()

    def let_go(self, frame: Frame) -> None:
        self._messages -= 1
        self._bytes -= len(frame)
        self._weigh()

    def hold_items(self, size: int) -> None:
        """So many bytes more of items, or fewer."""
        self._item_bytes += size
        self._weigh()

    def put(self, message: Call, frame: Frame) -> None:
        self._messages += 1  # `hold`, unfolded: for each message that waits
        self._bytes += len(frame)
        if self._messages >= self._most or self._bytes >= self._most_bytes:
            self.full = True
        self.queue.append((message, frame))

    def put_first(self, message: Call, frame: Frame) -> None:
        """It has its turn already."""
        self.hold(frame)
        self.queue.insert(0, (message, frame))

    def next(self) -> tuple[Call, Frame]:
        first = self.queue.pop(0)
        self._messages -= 1  # `let_go`, unfolded likewise
        self._bytes -= len(first[1])
        if self.full:
            self._weigh()
        return first

    def holds(self, ref: Ref) -> bool:
        return any(message.ref == ref for message, _ in self.queue)

    def withdraw(self, ref: Ref) -> tuple[Call, Frame] | None:
        """The first that waits with this `ref`, which does not wait any more; what is wrong with a message stays."""
        found = next((each for each in self.queue if each[0].ref == ref and each[0].error is None), None)
        if found is not None:
            self.queue.remove(found)
            self.let_go(found[1])
        return found

    async def room(self) -> None:
        """Wait until there is room, or nobody waits for room any more."""
        self._room = asyncio.get_running_loop().create_future()
        await self._room

    def wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None
