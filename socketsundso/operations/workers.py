"""
The parent process of `--workers`: starts the workers, replaces them, and ends with them.

SIGHUP is a rolling restart. New workers are started beside the old ones, with the code as it is now; when all of them
serve, the old ones stop to accept and drain, all at the same time: who is told comes back to a new worker, once. Where
one of the new workers does not come to serve, all of them are ended and the old ones stay. At no time do fewer workers
accept than there are to be; for as long as a drain takes there are twice as many processes.

A worker that ends, or begins to end by itself (`--limit-max-requests`, a signal of its own), gets a successor at once.
One that does not answer any more is killed; one that has not served yet may take its time, since whoever imports much
on a busy machine is silent for long. Where a successor cannot start, those who serve go on, and it is tried again.

SIGTERM ends all workers, which drain; SIGINT ends them at once; a second signal is passed on to them. A worker that
outlives all its bounds, since a thread of the application hangs, is killed. Workers whose parent is gone drain and end.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from socketsundso.operations.lines import Known, Line, Switchboard
from socketsundso.operations.reporting import Watch
from socketsundso.operations.serving import HANGUP, STARTUP_FAILURE, Phase, Server
from socketsundso.operations.settings import Settings
from socketsundso.operations.sockets import BoundPath, Listening, Unusable

logger = logging.getLogger("uvicorn.error")

READY_S = 60.0
"""How long new workers may take until they serve, or `--timeout-worker-healthcheck` if that is longer."""
OVERDUE_S = 15.0
"""How long a worker may live on when its drain and its shutdown should be over."""
ANSWER_S = 30
"""How long a worker may be silent, on a slow system or within a long call of C: who is killed tells nobody."""
TERMINAL_S = 5.0
"""SIGHUP so soon after the process had a terminal that it has no more is that terminal's end."""
RETRY_S = 5.0
"""How long it takes until a worker is started again in the place of one that could not."""

_PING, _HURRY = b"ping", b"hurry"

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
        self._phase: Phase = "starting"  # as of its latest answer
        self._asked_at: float | None = None  # when it has not answered since
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
        if HANGUP is not None:
            signal.signal(HANGUP, signal.SIG_IGN)  # the parent's, also where all processes get it
        threading.Thread(target=_end_with_parent, daemon=True).start()
        self._server = Server(
            self.config, self._settings, self._watch, self._its_end
        )  # before there is a thread that asks whether it serves
        super().target(sockets)

    def _serve(self, sockets: list[socket.socket] | None) -> None:
        cast(Server, self._server).run(sockets)

    def pong(self) -> None:
        server = cast(Server, self._server)
        if self.child_conn.recv() == _HURRY:
            server.hurry()
        else:
            self.child_conn.send(server.phase)

    def is_serving(self) -> bool:
        """Whether it has come to accept connections, as far as it has answered by now; asks anew."""
        self._ask()
        return self._phase != "starting"

    def is_draining(self) -> bool:
        """Whether it has begun to end, as far as it has answered by now; asks anew."""
        self._ask()
        return self._phase == "draining"

    def is_alive(self, timeout: float = 5) -> bool:
        """Whether it runs, and has answered within so many seconds; nobody waits for it here."""
        self._ask()
        asked_at = self._asked_at
        return self.process.is_alive() and (asked_at is None or time.monotonic() - asked_at <= timeout)

    def _ask(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while self.parent_conn.poll():
                self._phase, self._asked_at = self.parent_conn.recv(), None
            if self._asked_at is None:  # who is silent for long is not to find a full pipe
                self.parent_conn.send(_PING)
                self._asked_at = time.monotonic()

    def hurry(self) -> None:
        """Let it wait for nobody when it is told to end."""
        with contextlib.suppress(OSError):
            self.parent_conn.send(_HURRY)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _end_with_parent() -> None:
    """Nobody else would end this worker, and it would keep the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        logger.error("The parent process is gone: this worker ends.")
        os.kill(os.getpid(), signal.SIGTERM)


class Supervisor(Multiprocess):
    """uvicorn's, with workers of ours. Ends, and says so by its status, when no worker can start."""

    processes: list[Worker]  # type: ignore[assignment]  # uvicorn has its own in there

    def __init__(
        self,
        config: Config,
        settings: Settings,
        watch: Watch | None = None,
        uds_mode: int | None = None,
        **given: Any,
    ) -> None:
        """`uds_mode`: whom the path of `--uds` is open to, if not to everybody."""
        self._outlives_terminal = HANGUP is not None and signal.getsignal(HANGUP) == signal.SIG_IGN  # `nohup`
        self._terminal_at = -math.inf  # when there was one
        super().__init__(config, **given)
        if uds_mode is not None:
            os.chmod(cast(str, config.uds), uds_mode)
        self._settings, self._watch = settings, watch
        self._switchboard: Switchboard | None = None  # while it runs, if anybody may ask what the workers do
        self._coming: list[Worker] = []  # new ones, until all of them serve
        self._given_up_at = 0.0  # unless they serve by then
        self._leaving: dict[Worker, float] = {}  # and when they are killed
        self._retry_at = -math.inf  # nobody is started before, since the last one could not
        self._has_failed = False
        self._hurries = False  # workers are not to drain
        self._path = BoundPath(config.uds)

    def run(self) -> None:
        with self._switched():
            super().run()
        if not self._path.is_ours():
            self.config.uds = None  # uvicorn would remove it
        if self._has_failed:
            sys.exit(STARTUP_FAILURE)

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
        if _has_terminal():
            self._terminal_at = time.monotonic()
        self._reap()
        self._advance()
        for worker in tuple(self.processes):
            if worker.is_draining() and worker.process.is_alive():  # by itself
                self._give_time(worker)
                self.processes.remove(worker)
            elif not self._is_well(worker):
                worker.kill()  # it may hang
                self._bury(worker)
                self.processes.remove(worker)
                self._note_end(worker)
        if not self.should_exit.is_set() and time.monotonic() >= self._retry_at:
            self.processes += self._start(self.processes_num - len(self.processes))

    def _is_well(self, worker: Worker) -> bool:
        if worker.is_serving():
            return worker.is_alive(self._answers_within_s)
        return worker.process.is_alive()

    def _note_end(self, worker: Worker) -> None:
        """Another one takes its place, unless it could not start either."""
        if worker.process.exitcode != STARTUP_FAILURE:
            logger.info("Child process [%s] died", worker.pid)
        elif any(each.is_serving() for each in self.processes):
            self._retry_at = time.monotonic() + RETRY_S
            logger.error("Child process [%s] failed to start: another one is started in %g s", worker.pid, RETRY_S)
        else:  # nor would the next one
            logger.error("Child process [%s] failed to start, stopping the parent process.", worker.pid)
            self._has_failed = True
            self.should_exit.set()

    @property
    def _answers_within_s(self) -> float:
        return getattr(self.config, "timeout_worker_healthcheck", ANSWER_S)

    def handle_hup(self) -> None:
        """What a terminal sends that is closed is no wish for new code: nobody would end the server any more."""
        closed = not _has_terminal() and time.monotonic() - self._terminal_at < TERMINAL_S
        if closed and not self._outlives_terminal:
            logger.info("The terminal is closed, exiting.")
            self.should_exit.set()
        else:
            super().handle_hup()

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
            for worker in self.processes[self.processes_num :]:
                self.processes.remove(worker)
                self._retire(worker)

    def handle_int(self) -> None:
        self._hurries = True
        super().handle_int()

    # ---- workers go

    def _retire(self, worker: Worker) -> None:
        """Let it drain and end."""
        self._give_time(worker)
        if self._hurries:
            worker.hurry()
        worker.terminate()

    def _give_time(self, worker: Worker) -> None:
        """It ends; it is killed when that takes too long."""
        shutdown_s = self.config.timeout_graceful_shutdown
        bounds_s = self._settings.drain_s + (math.inf if shutdown_s is None else shutdown_s) + OVERDUE_S
        self._leaving[worker] = time.monotonic() + bounds_s

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
