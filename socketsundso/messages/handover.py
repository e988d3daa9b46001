"""
A coroutine that hands a value over in the middle, and goes on when it is told what became of that.

What is torn down behind a reply is still open while middleware looks at the reply: so the handler's coroutine waits
there, in the same task, and is stepped by who awaits its halves.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class HandOver:
    """`reply = await HandOver(value)` in a coroutine that runs in `Halves`."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[HandOver, Any, Any]:
        return (yield self)


class Halves:
    """`await first()` gives what is handed over, or returned. Unless it `is_over`, `second` or `fail` runs the rest."""

    __slots__ = ("_coroutine", "is_over")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self.is_over = False

    async def first(self) -> Any:
        return await self._step(self._coroutine.send, None)

    async def second(self, reply: Any) -> Any:
        """Hand back what became of the value."""
        return await self._step(self._coroutine.send, reply)

    async def fail(self, exc: BaseException) -> Any:
        """Raise it where the value was handed over."""
        return await self._step(self._coroutine.throw, exc)

    @types.coroutine
    def _step(self, step: Callable[[Any], Any], argument: Any) -> Generator[Any, Any, Any]:
        while True:
            try:
                waits_for = step(argument)
            except StopIteration as stopped:
                self.is_over = True
                return stopped.value
            except BaseException:
                self.is_over = True
                raise
            if type(waits_for) is HandOver:
                return waits_for.value
            try:
                argument = yield waits_for
            except BaseException as exc:
                step, argument = self._coroutine.throw, exc
            else:
                step = self._coroutine.send
