"""Real servers, in a process of their own on a free port of the loopback address, or in the test's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvicorn

ROOT = Path(__file__).parent.parent


class Server(uvicorn.Server):
    """uvicorn in a running event loop. Where nobody is connected it ends when `stop` tells it, not 0.2 s later."""

    capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # the test's process keeps its own

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._told.set()

    async def main_loop(self) -> None:
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for each in (*self.servers, *(sockets or ())):
            each.close()
        await self.lifespan.shutdown()


def free_port() -> int:
    """
    A port that a server will bind a moment later, and again after it was killed.

    Not one of those that kernels give to clients (from 32768 on): any connection of this machine could take it
    meanwhile, and a client that tries again and again to reach a server that is away could even connect to itself.
    Where several runs share a machine, SOCKETSUNDSO_TEST_PORTS gives each one its own: two could choose the same.
    """
    first, last = map(int, os.environ.get("SOCKETSUNDSO_TEST_PORTS", "10000-31999").split("-"))
    while True:
        port = first + secrets.randbelow(last - first + 1)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def serving(*command: str, port: int) -> Iterator[int]:
    """Run `python *command` until the block ends; `port` answers when it begins."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            wait_for(port, process)
            yield port
        finally:
            process.terminate()
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the port answers. A process that has ended instead shows what it wrote to a pipe."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            written = process.stdout.read().decode() if process.stdout is not None else ""
            raise AssertionError(f"the server ended:\n{written}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
    raise AssertionError("the server does not answer")
