"""
The tasks that belong to one connection: they end with it, and what they raise is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

import anyio
from starlette.websockets import WebSocketDisconnect

from socketsundso.connection.lines import about
from socketsundso.connection.peer import Peer

logger = logging.getLogger("socketsundso")

T = TypeVar("T")

END_S = 10.0
"""How long a task that was cancelled may take to end."""


class Tasks:
    """Those that an endpoint spawned."""

    __slots__ = ("_owner", "_peer", "_running")

    def __init__(self, owner: str, peer: Peer) -> None:
        self._owner, self._peer = owner, peer
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str | None) -> asyncio.Task[T]:
        """Raises `WebSocketDisconnect` once the connection has ended."""
        try:
            self._peer.require()
        except WebSocketDisconnect:
            coroutine.close()
            raise
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if (error := failure_of(task)) is not None:
            what = self._owner, task.get_name(), self._peer.name
            logger.error("%s: the task %s of %s failed", *what, exc_info=error, extra=about(self._peer))

    async def cancel(self) -> None:
        """Cancel what still runs, and wait for its end."""
        for task in tuple(self._running):
            task.cancel()
        await ended(self._running, f"{self._owner}: a spawned task of {self._peer.name}")


def failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    """What a task that is done raised. That it was cancelled, or found the peer gone, is no failure."""
    error = None if task.cancelled() else task.exception()
    return None if isinstance(error, WebSocketDisconnect) else error


async def ended(tasks: Iterable[asyncio.Task[Any]], what: str) -> None:
    """Wait for tasks that are to end; whoever takes longer than `END_S` is told of, cancelled again and left alone."""
    waiting = set(tasks) - {asyncio.current_task()}
    if not waiting:
        return
    with anyio.move_on_after(END_S, shield=True):
        await asyncio.wait(waiting)
    for task in waiting:
        if not task.done():
            logger.error("%s does not end, %g s after it was cancelled: %r", what, END_S, task.get_coro())
            task.cancel()
