"""
Who is told when the backplane goes away, comes back, or is closed.

In: each status of one event loop's `Rooms`, on that loop. Out: calls of callbacks, sync or async, each in a task: one
status after the other for each of them, and neither a slow callback nor one that raises keeps the others waiting.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import weakref
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Protocol, TypeVar

from socketsundso.backplanes import State
from socketsundso.rooms.room import Tasks

FAREWELL_S = 1.0
"""How long `close` waits for those who are told of it."""

Callback = Callable[[State], object]
"""What an async one gives is awaited."""

C = TypeVar("C", bound=Callback)


class Watching(Protocol):
    """A hub: it hears of the backplane's status in every event loop of the process that has one of its URL."""

    @property
    def url(self) -> str: ...

    def callbacks(self) -> Iterable[Callback]: ...


_everywhere: weakref.WeakSet[Watching] = weakref.WeakSet()
_everywhere_lock = threading.Lock()


def watch(hub: Watching) -> None:
    """As long as it lives."""
    with _everywhere_lock:
        _everywhere.add(hub)


class Watchers:
    """Those of one event loop and URL: its connections, and the hubs of the process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._status: State = "closed"
        self._connections: dict[Callback, None] = {}
        self._latest: dict[Callback, asyncio.Task[None]] = {}  # a callback's call that has not ended
        self._tasks = Tasks()

    def add(self, callback: Callback) -> None:
        """Of a connection. It is told at once only if the engine is away."""
        self._connections[callback] = None
        if self._status == "reconnecting":
            self.call(callback, self._status)

    def discard(self, callback: Callback) -> None:
        self._connections.pop(callback, None)

    def tell(self, status: State) -> None:
        """Everybody, if that is another one than before. That it is open is no news for who has it opened."""
        before, self._status = self._status, status
        if status == before:
            return
        with _everywhere_lock:
            hubs = [hub for hub in _everywhere if hub.url == self._url]
        for callback in [callback for hub in hubs for callback in hub.callbacks()]:
            self.call(callback, status)
        if before != "closed" or status != "connected":
            for callback in tuple(self._connections):
                self.call(callback, status)

    def call(self, callback: Callback, status: State) -> None:
        # Nothing of what the task has in its context that happens to have opened the backplane, or noticed a loss.
        call = self._called(callback, status, self._latest.get(callback))
        task = Context().run(self._tasks.spawn, call, f"{callback!r}, told {status!r},")
        self._latest[callback] = task
        task.add_done_callback(lambda done: self._done(callback, done))

    @staticmethod
    async def _called(callback: Callback, status: State, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        result = callback(status)
        if inspect.isawaitable(result):
            await result

    def _done(self, callback: Callback, task: asyncio.Task[None]) -> None:
        if self._latest.get(callback) is task:
            del self._latest[callback]

    async def settle(self) -> None:
        """Wait until those who were told are done, but not for ever, and not for who waits for this."""
        running = {*self._latest.values()} - {asyncio.current_task()}
        if running:
            await asyncio.wait(running, timeout=FAREWELL_S)
