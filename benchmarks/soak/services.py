"""The servers of a soak: `socketsundso run`, in one process or with workers, what each process holds and weighs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import reaper
from benchmarks.load import rss_bytes
from benchmarks.servers import ROOT
from tests.serving import free_port

PATIENCE_S = 120.0  # for a machine that is busy with something else
REST_S = 0.5

State = dict[str, Any]


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for what must come. Raises AssertionError when it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"does not happen: {what}")
        await asyncio.sleep(0.1)


class Service:
    """One deployment: a process, or a parent and its workers."""

    def __init__(self, backplane: str, workers: int = 1, *, drain_s: float = 2.0) -> None:
        self.port, self.workers = free_port(), workers
        self._asking = asyncio.Lock()
        self._links: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="soak-")
        self._log = Path(self._folder.name) / "log"
        command = [
            sys.executable, "-m", "socketsundso", "run", "benchmarks.soak.board:app", "--backplane", backplane,
            "--port", str(self.port), "--drain-s", str(drain_s), "--timeout-graceful-shutdown", "5",
            "--backlog", "4096", "--log-level", "warning", *(["--workers", str(workers)] if workers > 1 else []),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SOAK_FOLDER": self._folder.name}
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=reaper.enlisting(),
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process that was started: the parent of the workers, if there are some."""
        return self._popen.pid

    def pids(self) -> list[int]:
        """The processes that serve, by their numbers; those of processes that were killed are soon somebody else's."""
        found = []
        for path in Path(self._folder.name).glob("*.sock"):
            pid = int(path.stem)
            if pid == self.pid or parent_of(pid) == self.pid:
                found.append(pid)
            else:
                path.unlink(missing_ok=True)
        return sorted(found)

    async def states(self, *, collect: bool = False) -> dict[int, State]:
        """What each process holds, by its number; without those that have just ended."""
        found: dict[int, State] = {}
        async with self._asking:
            alive = self.pids()
            for pid in self._links.keys() - alive:
                self._links.pop(pid)[1].close()
            for pid in alive:
                with contextlib.suppress(OSError, EOFError, ValueError):
                    found[pid] = await self._state(pid, collect)
        return found

    async def _state(self, pid: int, collect: bool) -> State:
        """Over a connection that stays, so that asking is no change."""
        async with asyncio.timeout(PATIENCE_S):
            if pid not in self._links:
                path = Path(self._folder.name) / f"{pid}.sock"
                self._links[pid] = await asyncio.open_unix_connection(path)
            reader, writer = self._links[pid]
            writer.write(b"collect\n" if collect else b"\n")
            return json.loads(await reader.readline())  # type: ignore[no-any-return]  # an object

    async def is_whole(self) -> bool:
        """Whether as many processes serve as there are to be, and all of them reach the engine."""
        if self._popen.poll() is not None:
            raise AssertionError(f"a server has ended:\n{self.log()[-2000:]}")
        return len(self.pids()) == self.workers and await self.is_connected()

    async def answers(self) -> bool:
        """The same, and its port is open: a process that listens itself does so when it has begun."""
        if not await self.is_whole():
            return False
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False

    async def is_connected(self) -> bool:
        """Whether all of its processes reach the engine; one that has never been asked for it does not try."""
        return all(state["backplane"] != "reconnecting" for state in (await self.states()).values())

    async def is_empty(self) -> bool:
        """Whether nobody is connected, and all that has been said farewell to."""
        states = (await self.states()).values()
        return all(state["opened"] == sum(state["closed"].values()) for state in states)

    async def is_at_rest(self) -> bool:
        """Whether no task ends for a moment: of a connection that has gone, presence is taken back behind it."""
        before = await self._tasks()
        await asyncio.sleep(REST_S)
        return before == await self._tasks()

    async def _tasks(self) -> dict[int, int]:
        return {pid: state["tasks"] for pid, state in (await self.states()).items()}

    def restart(self) -> None:
        self._popen.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """Its warnings and errors."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """Kill all of it: how it ends in good order is no question of the soak."""
        for _, writer in self._links.values():
            writer.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        reaper.forget(self.pid)
        self._folder.cleanup()


@contextlib.contextmanager
def serving(*services: Service) -> Iterator[None]:
    try:
        yield
    finally:
        for service in services:
            service.close()


def parent_of(pid: int) -> int:
    """The number of a process' parent; 0 where there is no such process any more."""
    with contextlib.suppress(OSError):
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        return 0 if state == "Z" else int(parent)
    return 0


def weight(pid: int) -> dict[str, float]:
    """What a process has of the machine: memory in bytes, resident and its own alone, and open files."""
    own = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Private_Clean", "Private_Dirty"):
            own += int(rest.split()[0]) * 1024
    return {"resident": rss_bytes(pid), "own": own, "files": len(os.listdir(f"/proc/{pid}/fd"))}
