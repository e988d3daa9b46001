"""
Items of a handler, one by one, to whoever sends them: stepped by one task, from the first to `aclose`.

An iterator that another task steps cannot be closed, and one that is stepped in a task for each item breaks the scopes
of AnyIO within it. Knows no message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from threading import Lock
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool

TURN_ITEMS = 32
"""So many items in a row, then the event loop has a turn, also where neither the handler nor its peer waits."""

CLOSE_S = 10.0
"""How long a handler may clean up."""

_END: Any = object()


class _Stepped:
    """An iterator that is not async, stepped in the event loop."""

    def __init__(self, items: Any) -> None:
        self._items = items

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    async def __anext__(self) -> Any:
        item = await self._call(next, self._items, _END)
        if item is _END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        if hasattr(self._items, "close"):
            await self._call(self._items.close)


class _Threaded(_Stepped):
    """The same in worker threads: a step that has begun is waited for, and closing comes after it."""

    def __init__(self, items: Any) -> None:
        super().__init__(items)
        self._stepping = Lock()  # held by the thread that steps

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        def step() -> Any:
            with self._stepping:
                return function(*arguments)

        try:
            return await run_in_threadpool(step)
        except asyncio.CancelledError:  # which the thread does not hear of
            if self._stepping.locked():
                await run_in_threadpool(self._stepping.acquire)
                self._stepping.release()
            raise


def iterator_of(items: Any, in_thread: bool) -> Any:
    """What gives the items, async or not. Raises TypeError for what gives none."""
    if hasattr(items, "__aiter__"):
        return aiter(items)
    return (_Threaded if in_thread else _Stepped)(iter(items))


class Stopped(Protocol):
    """Whoever may stop a stream."""

    @property
    def reason(self) -> object: ...


class Audience(Protocol):
    """Whoever the items are for."""

    @property
    def is_lost(self) -> bool: ...


async def pass_on(
    items: AsyncIterator[Any], send: Callable[[Any], Awaitable[None] | None], stopped: Stopped, audience: Audience
) -> None:
    """
    Send each item, until there are no more, or there is a reason to stop.

    `send` gives what is to be awaited, so that a peer that reads slowly holds back the iterator.
    """
    step, left = anext(items), TURN_ITEMS
    while True:
        try:
            item = await step
        except StopAsyncIteration:
            return
        if stopped.reason is not None:  # it goes on in spite of its cancellation
            return
        try:
            if (rest := send(item)) is not None:  # as for whoever is lost
                await rest
                if audience.is_lost:
                    return
            left -= 1
            if not left:
                left = TURN_ITEMS
                await asyncio.sleep(0)
        except asyncio.CancelledError as exc:
            if stopped.reason is not None or audience.is_lost or not hasattr(items, "athrow"):
                raise
            step = items.athrow(exc)  # an `asyncio.timeout` around a `yield` cancels whoever runs then: it is meant
        else:
            step = anext(items)


async def close(items: Any) -> None:
    """Let the handler clean up. Raises what it raises, and TimeoutError for one that takes longer than `CLOSE_S`."""
    if hasattr(items, "aclose"):
        async with asyncio.timeout(CLOSE_S):
            await items.aclose()
