"""
`SharedRateLimit`: a limit of a user's, or an address's, whatever connections and processes it comes through.

An adapter of the package `limits`, which counts in memory, Redis, Valkey, memcached or MongoDB: the extra `limits`. It
is imported where one is made. Ten times and more what a connection's own `RateLimit` costs, and a round trip beside.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

from socketsundso.connection import Named, refuse
from socketsundso.errors import BackplaneUnavailable, DefinitionError

Strategy = Literal["sliding-window-counter", "fixed-window", "moving-window"]


class SharedRateLimit:
    """
    A guard that counts for each event and whom `by` names:

        per_user = SharedRateLimit("100/minute", by=lambda endpoint: endpoint.user.id, storage="redis://localhost")

        @event(guards=[per_user])

    `rate` and `storage` are what `limits` reads; `memory://` is this process (each of its event loops). What is beyond
    it is answered as for a `RateLimit`, with 4429 for the 20th in a row of a connection. While the storage is away no
    message passes: `internal_error`, and one line in the log.

    Raises `DefinitionError` for what `limits` does not read, ImportError where it is not installed.
    """

    def __init__(
        self,
        rate: str,
        *,
        by: Callable[[Any], object],
        storage: str = "memory://",
        strategy: Strategy = "sliding-window-counter",
    ) -> None:
        if not callable(by):
            raise DefinitionError(
                f"SharedRateLimit: by is {by!r}; it is a function: by=lambda endpoint: endpoint.user.id"
            )
        self._limits = limits = _limits()
        try:
            (self._rate,) = limits.parse_many(rate)
            self._strategy = limits.aio.strategies.STRATEGIES[strategy]
            self._open(storage)
        except (ValueError, KeyError, limits.errors.ConfigurationError) as exc:
            raise DefinitionError(
                f"SharedRateLimit({rate!r}, storage={storage!r}, strategy={strategy!r}): {exc}"
            ) from exc
        self._by, self._storage = by, storage
        # a storage has links that belong to their event loop
        self._limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    async def __call__(self, endpoint: Any, call: Named) -> None:
        """Let a message pass, as a guard does. Raises `RateLimited`, and what closes 4429."""
        wait_s = await self.count(str(self._by(endpoint)), call.event)
        refuse(endpoint, self, wait_s)

    async def count(self, *whom: str) -> float:
        """
        Count one for whom these texts name. Gives 0.0 where it passes, else the seconds until the next one does.

        For whatever is no message: the handshakes of an address, in `authenticate`. Raises `BackplaneUnavailable`.
        """
        loop = asyncio.get_running_loop()
        limiter = self._limiters.get(loop)
        if limiter is None:
            limiter = self._limiters[loop] = self._open(self._storage)
        try:
            if await limiter.hit(self._rate, *whom):
                return 0.0
            stats = await limiter.get_window_stats(self._rate, *whom)
        except self._limits.errors.StorageError as exc:
            raise BackplaneUnavailable(f"the storage of a SharedRateLimit: {exc.storage_error}") from exc
        return float(max(stats.reset_time - time.time(), 0.001))

    async def close(self) -> None:
        """Give back the links to Redis of this event loop: at the end of an application's lifespan."""
        limiter = self._limiters.pop(asyncio.get_running_loop(), None)
        bridge = getattr(getattr(limiter, "storage", None), "bridge", None)
        if bridge is not None:
            await bridge.storage.aclose()

    def _open(self, storage: str) -> Any:
        options = {"implementation": "redispy"} if storage.startswith("redis") else {}
        opened = self._limits.storage.storage_from_string(f"async+{storage}", wrap_exceptions=True, **options)
        return self._strategy(opened)


def _limits() -> Any:
    try:
        importlib.import_module("limits.aio")
    except ImportError as exc:
        raise ImportError(f"{exc}: a SharedRateLimit needs the extra: pip install 'socketsundso[limits]'") from exc
    return importlib.import_module("limits")
