"""
The items of an upload, from the loop that receives them to the handler that awaits them.

    {"type":"item","ref":7,"item":{...}}   `feed`: as many ahead of the handler as there is credit
    {"type":"more","ref":7,"items":8}      sent when the handler has done with so many
    {"type":"complete","ref":7}            `complete`

An item waits as raw JSON and is read where the handler awaits it, so that what is wrong with it is raised there. Knows
no loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import msgspec
from pydantic_core import ValidationError
from starlette.websockets import WebSocketDisconnect

from socketsundso.errors import EventError
from socketsundso.messages import ITEM_KEY, Field, Misshapen, unsayable

CREDIT = 16
"""So many items may be ahead of the handler."""

GRANTED = 8
"""So many more are allowed at once, each time that the handler has done with as many."""


class Upload(AsyncIterator[Any]):
    """
    What a handler takes as its `AsyncIterator[T]`.

    `grant(n)` tells the client that `n` more items may come, `hold(n)` is told of `n` more bytes that wait, or fewer.
    An item that is not valid is raised as pydantic's `ValidationError`; the next one can be awaited all the same. A
    client that leaves before the end is a `WebSocketDisconnect`, behind the items that came.
    """

    __slots__ = ("_credit", "_done", "_end", "_grant", "_hold", "_items", "_queue", "_waiter", "raised")

    def __init__(self, items: Field, grant: Callable[[int], Awaitable[None]], hold: Callable[[int], None]) -> None:
        self._items, self._grant, self._hold = items, grant, hold
        self._queue: deque[bytes | ValidationError] = deque()  # of raw items, and of what came in place of one
        self._credit = CREDIT  # so many may still come
        self._done = 0  # items that the handler was given, and no more were granted for
        self._end: Callable[[], Exception] | None = None  # what is raised behind the items, once that is known
        self._waiter: asyncio.Future[None] | None = None  # of the handler, while there is nothing
        self.raised: Exception | None = None  # the last error in an item

    # ---- the loop's side

    def feed(self, item: bytes | ValidationError) -> bool:
        """False: it is more than was allowed."""
        if not self._credit:
            return False
        self._credit -= 1
        self._queue.append(item)
        self._hold(_size(item))
        self._wake()
        return True

    def complete(self) -> None:
        self._end_with(StopAsyncIteration)

    def leave(self, code: int) -> None:
        """The client is gone."""
        self._end_with(lambda: WebSocketDisconnect(code))

    def close(self) -> None:
        """The handler has ended: what it has not taken is dropped. To be called once."""
        self._hold(-sum(map(_size, self._queue)))
        self._queue.clear()
        self.raised = self._end = None
        self._end_with(_over)
        del self._grant, self._hold  # they know the request, whose task has this in its context

    def _end_with(self, end: Callable[[], Exception]) -> None:
        if self._end is None:
            self._end, self._credit = end, 0
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- the handler's side

    async def __anext__(self) -> Any:
        if self._done >= GRANTED and self._end is None:
            await self._grant_more()
        while not self._queue:
            if self._end is not None:
                raise self._end()
            await self._arrival()
        item = self._queue.popleft()
        self._hold(-_size(item))
        self._done += 1
        try:
            if isinstance(item, ValidationError):
                raise item
            return self._items.read(item)
        except Exception as exc:
            self.raised = exc
            raise

    async def _grant_more(self) -> None:
        self._done -= GRANTED
        self._credit += GRANTED  # before the client can have heard of it
        try:
            await self._grant(GRANTED)
        except BaseException:  # it may have heard or not: rather once more than never
            self._done += GRANTED
            raise

    async def _arrival(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("another task awaits the next item of this upload already")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def _size(item: bytes | ValidationError) -> int:
    return len(item) if isinstance(item, bytes) else 0


def _over() -> Exception:
    return RuntimeError("the handler that this upload was for has ended")


def overrun() -> EventError:
    return EventError("overrun", f"more items than were asked for: {CREDIT} at first, then as many as `more` says")


def item_in(message: Any) -> bytes | ValidationError:
    """The item of a frame, as bytes of its own, or what is wrong with the frame."""
    raw = getattr(message, ITEM_KEY, None)
    if raw is None:  # pydantic has to look at it
        try:
            message.route.exact(message.text)
        except ValidationError as exc:
            return exc.with_traceback(None)
        data = message.route.framing.data_of(message.text)
        raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw])[ITEM_KEY]
        return bytes(raw)
    framing = message.route.framing
    try:
        json: bytes = framing.codec.json_of(raw)  # of its own: a Raw keeps its whole frame
    except Misshapen as exc:
        return unsayable(exc, (*framing.place, ITEM_KEY))
    return json


uploading: ContextVar[Upload | None] = ContextVar("socketsundso_uploading", default=None)
"""That of the message that is being handled."""
