"""
uvicorn's server as `socketsundso run` has it: one worker, from its first connection to the end of the last one.

SIGTERM drains: the listening sockets are closed at once, so that new clients are another worker's, or wait in the
backlog of whoever holds the socket; those who are connected are told by and by (`draining`). A second SIGTERM ends
that, and whoever is left is told at once; one that comes right behind the first was sent to the whole group of
processes, the parent included, which passes it on. SIGINT, which is Ctrl-C, tells everybody at once from the beginning,
and the second one waits for nobody. What follows is uvicorn's own shutdown, bounded by `--timeout-graceful-shutdown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
from random import Random
from time import monotonic
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from socketsundso.operations.admin import Unusable
from socketsundso.operations.admission import Admission
from socketsundso.operations.draining import Drain, drain
from socketsundso.operations.front import Front
from socketsundso.operations.reporting import Reports, Watch, reporting
from socketsundso.operations.settings import Settings

logger = logging.getLogger("uvicorn.error")

STARTUP_FAILURE = 3  # uvicorn's exit status of a process that cannot serve; where it keeps it differs between versions
TICKS = 2  # of uvicorn's, ten a second, between two looks at what waits and how much memory there is
SAME_S = 2.0
"""Within so much time a second SIGTERM is the same as the first."""
LAST_CALL_S = 0.5
"""For the handshakes of those who were connected when the worker began to end."""


class Server(uvicorn.Server):
    """uvicorn's, which drains, answers probes, and does not let in everybody."""

    def __init__(
        self,
        config: uvicorn.Config,
        settings: Settings,
        watch: Watch | None = None,
        line: socket.socket | None = None,
    ) -> None:
        """`watch` what happens here, for who asks at the admin socket, or over the `line` to the parent process."""
        super().__init__(config)
        self._settings, self._watch, self._line = settings, watch, line
        self._reporting: contextlib.AsyncExitStack | None = None  # from startup on, if anybody may ask
        self._admission = Admission(settings)
        self._front: Front | None = None  # from startup on
        self._told_at = math.inf  # when the first signal to end came
        self._hurry = asyncio.Event()  # nobody is to be waited for any more

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._front = _stand_before(self.config, self._settings, self._admission)
        await self._begin_to_report()
        try:
            await super().startup(sockets)
        except BaseException:
            await self._stop_to_report()
            raise

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            self._admission.measure(self.server_state.connections)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._shut_down(sockets)
        finally:
            await self._stop_to_report()

    async def _shut_down(self, sockets: list[socket.socket] | None) -> None:
        front = cast(Front, self._front)
        front.draining = True
        if self._settings.drain_s and not self._hurry.is_set():
            await self._stop_accepting(sockets or [])
            await self._let_in_the_last()
            front.refusing = True
            await self._drain()
        front.refusing = True
        await super().shutdown(sockets)

    # ---- who watches

    async def _begin_to_report(self) -> None:
        to = self._line or self._settings.admin
        if self._watch is None or to is None:
            return
        self._reporting = contextlib.AsyncExitStack()
        try:
            await self._reporting.enter_async_context(reporting(Reports(self._described, self._watch), to))
        except Unusable as error:
            logger.error("Cannot listen for --admin: %s", error)
            sys.exit(STARTUP_FAILURE)

    async def _stop_to_report(self) -> None:
        if self._reporting is not None:
            await self._reporting.aclose()

    def _described(self) -> dict[str, Any]:
        draining = self._front is not None and self._front.draining
        state = "draining" if draining else "serving" if self.started else "starting"
        return {"state": state, "websockets": len(self._websockets)}

    # ---- how it ends

    async def _stop_accepting(self, sockets: list[socket.socket]) -> None:
        # whoever the kernel has connected already is accepted first, instead of being reset
        for _ in range(3):  # turns of the event loop: it hears of them, accepts, and makes a protocol for each
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for sock in sockets:
            sock.close()

    async def _let_in_the_last(self) -> None:
        """Whose TCP connection has been accepted already has not been told to go elsewhere."""
        if len(self._websockets) < len(self.server_state.connections):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), LAST_CALL_S)

    @property
    def _websockets(self) -> list[Any]:
        kind = self.config.ws_protocol_class or ()
        return [each for each in self.server_state.connections if isinstance(each, kind)]

    async def _drain(self) -> None:
        connections, within_s, websockets = self.server_state.connections, self._settings.drain_s, self._websockets
        if websockets:
            logger.info("Draining: %d WebSocket connections within %g s", len(websockets), within_s)
            plan = Drain(websockets, connections, within_s, Random())
            await drain(plan, self._hurry)
            connections -= cast(Any, plan.told_once)  # uvicorn, which tells all, would raise

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        now = monotonic()
        if sig == signal.SIGINT or now - self._told_at > SAME_S:
            self._hurry.set()
        self._told_at = min(self._told_at, now)
        super().handle_exit(sig, frame)


def _stand_before(config: uvicorn.Config, settings: Settings, admission: Admission) -> Front:
    """Put a `Front` before the application, behind who finds out for which client a proxy speaks."""
    outermost: Any = config.loaded_app
    proxied = isinstance(outermost, ProxyHeadersMiddleware)
    front = Front(outermost.app if proxied else outermost, admission, settings.health, config.root_path)
    if proxied:
        outermost.app = front
    else:
        config.loaded_app = front
    return front
