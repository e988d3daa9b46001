"""
What a stream's handler gives, with somebody told when it is over: after the last item, and after cleaning up.

    watched(items, over)                    # over(None) or over(exc), at least once; the first one counts
    watched(items, over, within=span)       # each item is made within `span()`, as is what gives the iterator

The handler's own iterator is stepped, closed and thrown into as without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

Over = Callable[[BaseException | None], None]
"""Told what ended the items, a `StopIteration` or `StopAsyncIteration` if there are no more; None: they are closed."""

Within = Callable[[], AbstractContextManager[Any]]


def watched(items: Any, over: Over, within: Within | None = None) -> Any:
    """Whatever a handler may give: an iterator, async or not, something to iterate over, or what gives that later."""
    if hasattr(items, "__await__"):
        return _awaited(items, over, within)
    try:
        return _Items(aiter(items), over, within) if hasattr(items, "__aiter__") else _Plain(iter(items), over, within)
    except BaseException as exc:
        over(exc)
        raise


async def _awaited(items: Awaitable[Any], over: Over, within: Within | None) -> Any:
    try:
        with within() if within is not None else contextlib.nullcontext():
            found = await items
    except BaseException as exc:
        over(exc)
        raise
    return watched(found, over, within)


class _Watched:
    __slots__ = ("_items", "_over", "_within")

    def __init__(self, items: Any, over: Over, within: Within | None) -> None:
        self._items, self._over, self._within = items, over, within


class _Items(_Watched):
    __slots__ = ()

    def __aiter__(self) -> _Items:
        return self

    async def __anext__(self) -> Any:
        return await self._step(anext(self._items))

    async def athrow(self, exc: BaseException) -> Any:
        if not hasattr(self._items, "athrow"):
            raise exc
        return await self._step(self._items.athrow(exc))

    async def _step(self, step: Awaitable[Any]) -> Any:
        try:
            if self._within is None:
                return await step
            with self._within():
                return await step
        except BaseException as exc:
            self._over(exc)
            raise

    async def aclose(self) -> None:
        try:
            if hasattr(self._items, "aclose"):
                await self._items.aclose()
        finally:
            self._over(None)


class _Plain(_Watched):
    __slots__ = ()

    def __iter__(self) -> _Plain:
        return self

    def __next__(self) -> Any:
        try:
            if self._within is None:
                return next(self._items)
            with self._within():
                return next(self._items)
        except BaseException as exc:
            self._over(exc)
            raise

    def close(self) -> None:
        try:
            if hasattr(self._items, "close"):
                self._items.close()
        finally:
            self._over(None)
