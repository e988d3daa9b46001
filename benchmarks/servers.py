"""Competitors as processes: started on a free port, pinned to a core, ended whatever happens."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = "socketsundso.server:WebSocketProtocol"


@dataclass(frozen=True)
class Competitor:
    """A row of the table: a module of `benchmarks.competitors`, and uvicorn's protocol that serves it (or none)."""

    name: str
    module: str
    ws: str | None = "auto"

    @property
    def validates(self) -> str:
        return str(importlib.import_module(f"benchmarks.competitors.{self.module}").VALIDATES)

    def command(self, port: int) -> list[str]:
        target = f"benchmarks.competitors.{self.module}"
        if self.ws is None:
            return [sys.executable, "-m", target, str(port)]
        return [
            sys.executable, "-m", "uvicorn", f"{target}:app", "--port", str(port), "--ws", self.ws, "--log-level",
            "error", "--no-access-log", "--ws-per-message-deflate", "false", "--lifespan", "off",
        ]  # fmt: skip


COMPETITORS = [
    Competitor("naive FastAPI loop", "fastapi_naive"),
    Competitor("tuned FastAPI loop", "fastapi_tuned"),
    Competitor("Starlette + msgspec", "starlette_msgspec"),
    Competitor("socketsundso, uvicorn's protocol", "socketsundso_model"),
    Competitor("socketsundso, own protocol", "socketsundso_model", OURS),
    Competitor("socketsundso, own protocol, Struct", "socketsundso_struct", OURS),
    Competitor("raw echo, uvicorn's protocol", "raw_echo"),
    Competitor("raw echo, own protocol", "raw_echo", OURS),
    Competitor("bare picows echo", "picows_echo", None),
]


def cores() -> tuple[int, int]:
    """A core for the server and another one for the load; with a single core they share it, and say so."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        print("only one core: server and load share it, rates say little")
    return available[0], available[-1]


@contextlib.contextmanager
def running(competitor: Competitor, core: int) -> Iterator[tuple[int, int]]:
    """Run a competitor; gives its port and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(competitor.command(port), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        os.sched_setaffinity(process.pid, {core})
        _wait(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError((process.stderr.read() if process.stderr else b"").decode()[-500:])
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
    raise RuntimeError("does not answer")
