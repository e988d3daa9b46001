"""
uvicorn's server as `socketsundso run` has it: one worker, from its first connection to the end of the last one.

SIGTERM drains: the listening sockets are closed at once, so that new clients are another worker's, or wait in the
backlog of whoever holds the socket; those who are connected are told by and by (`draining`). A second SIGTERM ends
that, and whoever is left is told at once; one that comes right behind the first was sent to the whole group of
processes, the parent included, which passes it on. SIGINT, which is Ctrl-C, tells everybody at once from the beginning,
and the second one waits for nobody. What follows is uvicorn's own shutdown, bounded by `--timeout-graceful-shutdown`.
SIGHUP, unless it is ignored, is another SIGTERM: a server without workers cannot restart itself, and the system would
end it without a word to anybody. A signal while the application still starts cancels its lifespan.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from random import Random
from time import monotonic
from types import FrameType
from typing import Any, Literal, cast

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from socketsundso.operations.admission import Admission
from socketsundso.operations.draining import Drain, drain
from socketsundso.operations.front import Front
from socketsundso.operations.reporting import Reports, Watch, reporting
from socketsundso.operations.settings import Settings
from socketsundso.operations.sockets import BoundPath, Unusable

logger = logging.getLogger("uvicorn.error")

STARTUP_FAILURE = 3  # uvicorn's exit status of a process that cannot serve; where it keeps it differs between versions
HANGUP = getattr(signal, "SIGHUP", None)
"""None where there is none, as on Windows."""
Phase = Literal["starting", "serving", "draining"]
TICK_S = 0.1  # uvicorn's
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
        self._loop: asyncio.AbstractEventLoop | None = None  # from startup on
        self._limit_concurrency: int | None = None  # from startup on
        self._path = BoundPath(None)  # from startup on, where it listens at one

    @property
    def phase(self) -> Phase:
        """For other threads, too: whether it has come to accept connections, and whether it still does."""
        if self._front is not None and self._front.draining:
            return "draining"
        return "serving" if self.started else "starting"

    def hurry(self) -> None:
        """From another thread: wait for nobody, now or when it is to end."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hurry.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            in_main_thread = threading.current_thread() is threading.main_thread()
            if HANGUP is None or not in_main_thread or signal.getsignal(HANGUP) != signal.SIG_DFL:
                yield
                return
            signal.signal(HANGUP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(HANGUP, signal.SIG_DFL)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._front = _stand_before(self.config, self._settings, self._admission, self._is_full)
        # uvicorn's protocols would answer probes with 503, too
        self._limit_concurrency, self.config.limit_concurrency = self.config.limit_concurrency, None
        await self._begin_to_report()
        try:
            if await self._application_starts():
                await super().startup(sockets)
                self._path = BoundPath(self.config.uds)
            else:
                await self._stop_to_report()
        except BaseException:
            await self._stop_to_report()
            raise

    async def _application_starts(self) -> bool:
        """False: it has not come to an end of that when a signal came, which uvicorn hears only afterwards."""
        starting = asyncio.create_task(self.lifespan.startup())
        while not (await asyncio.wait({starting}, timeout=TICK_S))[0]:
            if self.should_exit:
                logger.info("The application has not started yet: cancelled")
                starting.cancel()
                return False
        starting.result()
        self.lifespan.startup = _already  # uvicorn is to go on behind it
        return True

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            self._admission.measure(self.server_state.connections)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._shut_down(sockets)
        finally:
            await self._stop_to_report()
            if not self._path.is_ours():
                self.config.uds = None  # uvicorn would remove it

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

    def _is_full(self) -> bool:
        """As uvicorn counts for `--limit-concurrency`; the request itself is a connection, and a task by now."""
        most, state = self._limit_concurrency, self.server_state
        return most is not None and (len(state.connections) >= most or len(state.tasks) > most)

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
        return {"state": self.phase, "websockets": len(self._websockets)}

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


async def _already() -> None:
    """It has been done."""


def _stand_before(
    config: uvicorn.Config, settings: Settings, admission: Admission, is_full: Callable[[], bool]
) -> Front:
    """Put a `Front` before the application, behind who finds out for which client a proxy speaks."""
    outermost: Any = config.loaded_app
    proxied = isinstance(outermost, ProxyHeadersMiddleware)
    front = Front(outermost.app if proxied else outermost, admission, settings.health, config.root_path, is_full)
    if proxied:
        outermost.app = front
    else:
        config.loaded_app = front
    return front
