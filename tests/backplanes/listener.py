"""A receiver that remembers, for tests of backplanes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from socketsundso.backplanes import Backplane, Delivery, open_url

DEADLINE_S = 40.0  # for a machine that is busy with something else


async def until(
    condition: Callable[[], object], what: str = "", deadline_s: float = DEADLINE_S, *, pause_s: float = 0.005
) -> None:
    """Wait for a condition; fails with its name when the deadline passes. Without a pause it asks in each turn."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"still not true after {deadline_s:.0f} s: {what or condition}")
        await asyncio.sleep(pause_s)


class Listener:
    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.lost = 0
        self.restored = 0

    def on_delivery(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    def on_lost(self) -> None:
        self.lost += 1

    def on_restored(self) -> None:
        self.restored += 1

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.deliveries]

    async def receives(self, *payloads: bytes) -> None:
        await until(lambda: len(self.deliveries) >= len(payloads), f"{payloads} in {self.payloads}")
        assert self.payloads == list(payloads)


@asynccontextmanager
async def opened(url: str, *topics: str) -> AsyncIterator[tuple[Backplane, Listener]]:
    backplane, listener = open_url(url), Listener()
    await backplane.open(listener)
    try:
        for topic in topics:
            await backplane.subscribe(topic)
        yield backplane, listener
    finally:
        await backplane.aclose()
