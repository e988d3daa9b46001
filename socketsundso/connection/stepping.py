"""
Coroutines taken step by step in the task that would have awaited them, so that it is known when they wait.

One handler, one task, first step to last: a coroutine that was begun in one task and is finished in another breaks
`asyncio.timeout`, which cancels the first.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


@types.coroutine
def noting(coroutine: Coroutine[Any, Any, Any], note: Callable[[], None]) -> Generator[Any, Any, Any]:
    """Await a coroutine, and call `note` whenever it waits for something."""
    try:
        waits_for = coroutine.send(None)
    except StopIteration as done:
        return done.value
    note()
    while True:
        step: Callable[[Any], Any]
        try:
            value = yield waits_for
        except BaseException as exc:
            step, value = coroutine.throw, exc
        else:
            step = coroutine.send
        waits_for = None  # a future that has failed, and below an exception, would keep this frame
        try:
            waits_for = step(value)
        except StopIteration as done:
            return done.value
        finally:
            del value
        note()


@types.coroutine
def rest_of(begun: Any, waits_for: Any) -> Generator[Any, Any, Any]:
    """What a coroutine has left to do, whose first step was taken elsewhere and waits for something."""
    while True:
        try:
            value = yield waits_for
        except BaseException as exc:
            step, value = begun.throw, exc
        else:
            step = begun.send
        waits_for = None  # as above
        try:
            waits_for = step(value)
        except StopIteration as done:
            return done.value
        finally:
            del value
