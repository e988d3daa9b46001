"""
What lives as long as a connection: the values of its dependencies with `scope="connection"`.

Each is made for the first message that needs it, once, however many are handled at that time, and torn down in reverse
when the connection has ended. Knows no message.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Hashable
from typing import Any

import anyio
from starlette.websockets import WebSocketDisconnect

from socketsundso.messages import Opened, close, fail_late

TEARDOWN_S = 10.0
"""How long the teardowns of a connection may take, all together."""


class Kept:
    """The values by key, and the generators that gave them."""

    __slots__ = ("_lock", "_opened", "values")

    def __init__(self) -> None:
        self.values: dict[Hashable, Any] = {}
        self._opened: Opened = []
        self._lock = asyncio.Lock()

    async def open(self, key: Hashable, generator: AsyncGenerator[Any, None]) -> Any:
        """The value of this key; the generator's first if there is none yet. One that raises is tried again later."""
        async with self._lock:
            if key not in self.values:
                self.values[key] = await generator.__anext__()
                self._opened.append(generator)
            return self.values[key]

    async def close(self, where: str) -> None:
        """Tear down, also while the connection's task is cancelled. What fails is logged."""
        with anyio.move_on_after(TEARDOWN_S, shield=True), contextlib.suppress(WebSocketDisconnect):
            try:
                await close(self._opened)
            except BaseException as exc:
                await fail_late(exc, where, self._opened)
        self.values.clear()
