"""What the tests of endpoints that converse share: one client that talks, and a log of what handlers do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.rooms.serving import WAIT_S, Client, run, serving


class Log(list[Any]):
    """What happened, and a way to wait for it."""

    async def has(self, *entries: Any) -> None:
        await self.satisfies(lambda: all(entry in self for entry in entries))

    async def satisfies(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.002)


def talking(app: Any, main: Callable[[Client], Awaitable[None]]) -> None:
    """Run `main` with one connected client."""

    async def whole() -> None:
        async with serving(app) as connect:
            await main(await connect())

    run(whole)


async def until_end(client: Client, ref: Any) -> list[dict[str, Any]]:
    """All messages up to the end of the request with this `ref`."""
    messages = [await client.receive()]
    while messages[-1]["type"] not in ("complete", "error") or messages[-1].get("ref") != ref:
        messages.append(await client.receive())
    return messages
