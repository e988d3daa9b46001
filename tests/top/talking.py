"""A server that says at its admin socket what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from socketsundso.operations.admin import answering
from socketsundso.operations.sockets import Listening


class Talking:
    """Each answer is a second after the one before, in which `per_s` messages came."""

    def __init__(self) -> None:
        self.asked, self.per_s = 0, 30
        self.said: dict[str, Any] = {}  # in place of what one worker says

    async def read(self) -> list[bytes]:
        self.asked += 1
        received = [{"endpoint": "Chat", "event": "say", "value": self.asked * self.per_s}]
        worker = {
            "pid": 4711,
            "state": "serving",
            "started_at": 1.0,
            "uptime_s": 10.0 + self.asked,
            "websockets": 12,
            "metrics": {"received_messages": received},
        }
        return [json.dumps(worker | self.said).encode()]


@contextlib.contextmanager
def talking(path: Path) -> Iterator[Talking]:
    """In a thread, until the block ends."""
    server, loop, over = Talking(), asyncio.new_event_loop(), asyncio.Event()

    async def answer() -> None:
        with contextlib.closing(Listening(str(path))) as listening:
            async with answering(listening.socket, server.read):
                started.set()
                await over.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(answer())

    started, thread = threading.Event(), threading.Thread(target=run)
    thread.start()
    assert started.wait(20)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
