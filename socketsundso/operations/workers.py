"""
The parent process of `--workers`: starts the workers, replaces them, and ends with them.

SIGHUP is a rolling restart. New workers are started beside the old ones, with the code as it is now; when all of them
serve, the old ones stop to accept and drain, all at the same time: who is told comes back to a new worker, once. Where
one of the new workers does not come to serve, all of them are ended and the old ones stay. At no time do fewer workers
accept than there are to be; for as long as a drain takes there are twice as many processes.

SIGTERM ends all workers, which drain; a second signal is passed on to them. A worker that outlives all its bounds,
since a thread of the application hangs, is killed.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from socketsundso.operations.admin import Listening, Unusable
from socketsundso.operations.lines import Known, Line, Switchboard
from socketsundso.operations.reporting import Watch
from socketsundso.operations.serving import STARTUP_FAILURE, Server
from socketsundso.operations.settings import Settings

logger = logging.getLogger("uvicorn.error")

READY_S = 60.0
"""How long new workers may take until they serve, or `--timeout-worker-healthcheck` if that is longer."""
OVERDUE_S = 15.0
"""How long a worker may live on when its drain and its shutdown should be over."""

_TAKES_TARGET = "target" in inspect.signature(Process).parameters


class Worker(Process):
    """One child process."""

    def __init__(
        self, config: Config, sockets: list[socket.socket], settings: Settings, watch: Watch | None = None
    ) -> None:
        # earlier versions of uvicorn are given what a process runs
        own_target: Any = {"target": self._serve} if _TAKES_TARGET else {}
        super().__init__(config=config, sockets=sockets, **own_target)
        self.config, self._settings, self._watch = config, settings, watch
        self._is_serving = False
        self.line: Line | None = None  # to ask what it does
        self._its_end: socket.socket | None = None
        if watch is not None:
            ours, self._its_end = socket.socketpair()
            self.line = Line(ours)

    def __getstate__(self) -> dict[str, Any]:
        """For its own process, which has nothing to ask."""
        return {**self.__dict__, "line": None}

    def start(self) -> None:
        super().start()
        if self._its_end is not None:
            self._its_end.close()  # else nobody would notice that it has ended

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        self._server = Server(
            self.config, self._settings, self._watch, self._its_end
        )  # before there is a thread that asks whether it serves
        super().target(sockets)

    def _serve(self, sockets: list[socket.socket] | None) -> None:
        cast(Server, self._server).run(sockets)

    def pong(self) -> None:
        self.child_conn.recv()
        self.child_conn.send(cast(Server, self._server).started)

    def is_serving(self) -> bool:
        """Whether it accepts connections, as far as it has answered by now; asks anew."""
        with contextlib.suppress(OSError, EOFError):
            self.parent_conn.send(b"ping")
            while self.parent_conn.poll():
                self._is_serving |= self.parent_conn.recv()
        return self._is_serving


class Supervisor(Multiprocess):
    """uvicorn's, with workers of ours. Ends, and says so by its status, when a worker cannot start."""

    processes: list[Worker]  # type: ignore[assignment]  # uvicorn has its own in there

    def __init__(self, config: Config, settings: Settings, watch: Watch | None = None, **given: Any) -> None:
        super().__init__(config, **given)
        self._settings, self._watch = settings, watch
        self._switchboard: Switchboard | None = None  # while it runs, if anybody may ask what the workers do
        self._coming: list[Worker] = []  # new ones, until all of them serve
        self._given_up_at = 0.0  # unless they serve by then
        self._leaving: dict[Worker, float] = {}  # and when they are killed

    def run(self) -> None:
        with self._switched():
            super().run()
        if self._cannot_start():
            sys.exit(STARTUP_FAILURE)

    def _cannot_start(self) -> bool:
        return any(worker.process.exitcode == STARTUP_FAILURE for worker in self.processes)

    @contextlib.contextmanager
    def _switched(self) -> Iterator[None]:
        """Meanwhile it is told what the workers do."""
        if self._watch is None or self._settings.admin is None:
            yield
            return
        try:
            listening = Listening(self._settings.admin)
        except Unusable as error:
            logger.error("Cannot listen for --admin: %s", error)
            sys.exit(STARTUP_FAILURE)
        self._switchboard = Switchboard(listening, self._known)
        self._switchboard.start()
        try:
            yield
        finally:
            self._switchboard.stop()

    def _known(self) -> list[Known]:
        """Called in another thread."""
        coming = self._coming
        workers = dict.fromkeys([*self.processes, *self._leaving, *coming])
        return [Known(each.pid, each.line, each in coming) for each in workers if each.line is not None]

    def _bury(self, worker: Worker) -> None:
        """It has ended, or does so at once."""
        worker.process.join()
        if self._switchboard is not None and worker.line is not None:
            self._switchboard.forget(worker.line)

    def _start(self, number: int) -> list[Worker]:
        workers = [Worker(self.config, self.sockets, self._settings, self._watch) for _ in range(number)]
        for worker in workers:
            worker.start()
        return workers

    # ---- while it runs

    def init_processes(self) -> None:
        self.processes += self._start(self.processes_num)

    def keep_subprocess_alive(self) -> None:
        if self.should_exit.is_set():
            return
        self._reap()
        self._advance()
        for index, worker in enumerate(self.processes):
            if worker.is_alive(self._answers_within_s):
                continue
            worker.kill()  # it may hang
            self._bury(worker)
            if self._cannot_start():  # nor would the next one
                logger.error("Child process [%s] failed to start, stopping the parent process.", worker.pid)
                self.should_exit.set()
                return
            logger.info("Child process [%s] died", worker.pid)
            (self.processes[index],) = self._start(1)

    @property
    def _answers_within_s(self) -> float:
        return getattr(self.config, "timeout_worker_healthcheck", 5)

    def restart_all(self) -> None:
        """Begin to replace all workers; if that is under way, begin anew: the code may have changed since."""
        self._give_up_coming()
        self._coming = self._start(self.processes_num)
        self._given_up_at = time.monotonic() + max(READY_S, self._answers_within_s)

    def _advance(self) -> None:
        """Let the old workers go when all the new ones serve."""
        if not self._coming:
            return
        if not all(worker.process.is_alive() for worker in self._coming) or time.monotonic() > self._given_up_at:
            logger.error("A new worker does not come to serve: the old ones stay.")
            self._give_up_coming()
        elif sum(worker.is_serving() for worker in self._coming) == len(self._coming):  # each one is asked
            replaced, self.processes, self._coming = self.processes, self._coming, []
            for worker in replaced:
                self._retire(worker)

    def _give_up_coming(self) -> None:
        for worker in self._coming:
            worker.kill()
            self._bury(worker)
        self._coming = []

    def handle_ttin(self) -> None:
        self.processes_num += 1
        self.processes += self._start(1)

    def handle_ttou(self) -> None:
        if self.processes_num > 1:
            self.processes_num -= 1
            self._retire(self.processes.pop())

    # ---- workers go

    def _retire(self, worker: Worker) -> None:
        """Let it drain and end."""
        shutdown_s = self.config.timeout_graceful_shutdown
        bounds_s = self._settings.drain_s + (math.inf if shutdown_s is None else shutdown_s) + OVERDUE_S
        self._leaving[worker] = time.monotonic() + bounds_s
        worker.terminate()

    def _reap(self) -> None:
        for worker, killed_at in tuple(self._leaving.items()):
            if not worker.process.is_alive():
                self._bury(worker)
                del self._leaving[worker]
            elif time.monotonic() > killed_at:
                logger.error("Child process [%s] does not end: killed", worker.pid)
                worker.kill()

    def terminate_all(self) -> None:
        for sock in self.sockets:
            sock.close()  # else the kernel would connect clients to nobody
        self._give_up_coming()
        for worker in self.processes:
            self._retire(worker)

    def join_all(self) -> None:
        while self._leaving:
            while self.signal_queue:
                self._pass_on(self.signal_queue.pop(0))
            self._reap()
            time.sleep(0.05)

    def _pass_on(self, sig: int) -> None:
        if sig in (signal.SIGINT, signal.SIGTERM):
            for worker in self._leaving:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(cast(int, worker.pid), sig)
