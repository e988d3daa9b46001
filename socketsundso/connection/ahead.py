"""
ASGI's `receive`, asked while nobody waits for a message: so it is known that a peer has left while a handler runs.

What comes meanwhile is kept in order, at most so much; then nothing is asked for, and the server holds the peer back. A
task of its own reads, one for each connection, and only from the moment on when a handler has waited for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from starlette.types import Message, Receive

MAX_MESSAGES = 64
MAX_BYTES = 64 << 10


class ReadAhead:
    """`take` and `arrival` are those of `wire.Source`. `left` is told of the disconnect, when it comes."""

    __slots__ = ("_bytes", "_heard", "_left", "_ready", "_receive", "_task", "_waiter")

    def __init__(self, receive: Receive, left: Callable[[Message], None]) -> None:
        self._receive, self._left = receive, left
        self._ready: list[Message] = []
        self._bytes = 0  # in `_ready`
        self._heard: Callable[[], None] | None = None  # who wants to know of the next message
        self._task: asyncio.Task[None] | None = None  # while it reads
        self._waiter: asyncio.Future[None] | None = None  # of who waits for a message

    def begin(self) -> None:
        """Read until there is enough, or somebody asks for a message again."""
        if self._task is None and self._waiter is None and not self._has_ended:
            self._task = asyncio.get_running_loop().create_task(self._read())

    def notify(self, callback: Callable[[], None] | None) -> None:
        self._heard = callback
        if callback is not None:
            if self._ready:
                asyncio.get_running_loop().call_soon(callback)
            self.begin()

    def stop(self) -> Receive:
        """Read nothing more. Gives back what it was made of."""
        if self._task is not None:
            self._task.cancel()
        return self._receive

    @property
    def _has_ended(self) -> bool:
        return bool(self._ready) and self._ready[-1]["type"] == "websocket.disconnect"

    @property
    def holds(self) -> bool:
        """Is there a message that has not been taken, other than the disconnect?"""
        return bool(self._ready) and self._ready[0]["type"] != "websocket.disconnect"

    def take(self) -> Message | None:
        if not self._ready:
            return None
        message = self._ready.pop(0)
        self._bytes -= _size(message)
        if message["type"] == "websocket.disconnect":
            self._ready.append(message)  # who asks again hears it again
        return message

    async def arrival(self) -> Message:
        """The next message, from whoever reads."""
        while (message := self.take()) is None:
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            try:
                if self._task is None:
                    return await self._receive()
                await waiter
            finally:
                self._waiter = None
        return message

    async def _read(self) -> None:
        try:
            # who asks next gets a server's exception from the server itself
            with contextlib.suppress(Exception):
                while len(self._ready) < MAX_MESSAGES and self._bytes < MAX_BYTES:
                    message = await self._receive()
                    self._ready.append(message)
                    self._bytes += _size(message)
                    if self._heard is not None and len(self._ready) == 1:
                        asyncio.get_running_loop().call_soon(self._heard)
                    if message["type"] == "websocket.disconnect":
                        self._left(message)
                        return
                    if self._waiter is not None:
                        return
        finally:
            self._task = None
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)


def _size(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or b"")
