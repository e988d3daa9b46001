"""
What one worker tells whoever asks for it over the admin socket: itself, if it is the only one, or its parent.

    {"pid": 4711, "state": "serving", "started_at": 1796000000.0, "uptime_s": 12.5, "cpu_s": 3.2, "rss_bytes": 61440000,
     "websockets": 120, ...}

What follows is what `watch` gives, which telemetry knows and this does not: what happens on endpoints. It is read at
most a few times a second, however many ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from socketsundso.operations.admin import answering
from socketsundso.operations.admission import process_bytes, tells_memory
from socketsundso.operations.lines import report_to_parent
from socketsundso.operations.sockets import Listening

FRESH_S = 0.25
"""For so long a report is told to whoever asks."""

Watch = Callable[[], Callable[[], Awaitable[dict[str, Any]]]]
"""Begins to watch the endpoints of the process that calls it, and gives what reads: JSON, as a dict."""


class Reports:
    """Those of the worker that makes it. `describe` gives what may change: `state`, `websockets`."""

    def __init__(self, describe: Callable[[], dict[str, Any]], watch: Watch) -> None:
        self._describe, self._watched = describe, watch()
        self._started_at, self._started = time.time(), time.monotonic()
        self._read_at = 0.0
        self._reading: asyncio.Task[bytes] | None = None

    async def latest(self) -> bytes:
        if self._reading is None or (self._reading.done() and time.monotonic() - self._read_at >= FRESH_S):
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> bytes:
        watched = await self._watched()
        self._read_at = time.monotonic()
        return json.dumps(
            {
                "pid": os.getpid(),
                **self._describe(),
                "started_at": self._started_at,
                "uptime_s": self._read_at - self._started,
                "cpu_s": time.process_time(),
                "rss_bytes": process_bytes() if tells_memory() else None,
                **watched,
            },
            separators=(",", ":"),
        ).encode()


@contextlib.asynccontextmanager
async def reporting(reports: Reports, to: str | socket.socket) -> AsyncIterator[None]:
    """Answer at the path of an admin socket, or to the parent, until the block ends. Raises `Unusable` of a path."""
    if isinstance(to, str):
        with contextlib.closing(Listening(to)) as listening:

            async def read() -> list[bytes]:
                return [await reports.latest()]

            async with answering(listening.socket, read):
                yield
    else:
        task = asyncio.create_task(report_to_parent(to, reports.latest))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            to.close()  # the task may not have begun
