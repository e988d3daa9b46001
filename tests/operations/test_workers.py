"""What the parent process does with its workers, which are none here: no process is started, no clock runs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from socketsundso.operations import STARTUP_FAILURE, Settings, Supervisor, workers

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs the signals of POSIX")


class Worker:
    """Does what the test says."""

    made: list[Worker] = []
    line = None

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], settings: Settings, watch: None) -> None:
        self.pid = len(Worker.made) + 1
        self.serves = self.answers = True
        self.drains = False
        self.told: list[str] = []
        self.process = SimpleNamespace(is_alive=lambda: self.exitcode is None, join=lambda: None, exitcode=None)
        Worker.made.append(self)

    @property
    def exitcode(self) -> int | None:
        return self.process.exitcode  # type: ignore[no-any-return]

    def ends(self, status: int = 0) -> None:
        self.process.exitcode = status

    def start(self) -> None:
        self.told.append("start")

    def is_serving(self) -> bool:
        return self.serves

    def is_draining(self) -> bool:
        return self.drains

    def is_alive(self, timeout: float) -> bool:
        return self.exitcode is None and self.answers

    def hurry(self) -> None:
        self.told.append("hurry")

    def terminate(self) -> None:
        self.told.append("terminate")

    def kill(self) -> None:
        self.told.append("kill")
        if self.exitcode is None:
            self.ends(-signal.SIGKILL)


RealWorker = workers.Worker


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(workers, "time", clock := Clock())
    return clock


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Supervisor]:
    """The parent of two workers that serve."""
    handlers = {sig: signal.getsignal(sig) for sig in signal.valid_signals() if sig < signal.SIGRTMIN}
    monkeypatch.setattr(workers, "Worker", Worker)
    monkeypatch.setattr(Worker, "made", [])
    config = uvicorn.Config("app", workers=2, log_config=None, timeout_graceful_shutdown=10)
    with socket.socket() as listening:
        supervisor = Supervisor(config, settings=Settings(), sockets=[listening])
        supervisor.init_processes()
        yield supervisor
    for sig, handler in handlers.items():
        if sig not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(sig, handler)


def heard(parent: Supervisor, sig: signal.Signals) -> None:
    """A signal came, and the parent looks after its workers."""
    parent.signal_queue.append(sig)
    parent.handle_signals()
    parent.keep_subprocess_alive()


def pids(parent: Supervisor) -> list[int | None]:
    return [worker.pid for worker in parent.processes]


def test_the_old_workers_go_when_all_the_new_ones_serve(parent: Supervisor) -> None:
    """While one of the new ones does not, nobody has been told anything; then all the old ones are, at once."""
    first, second = Worker.made
    parent.signal_queue.append(signal.SIGHUP)
    parent.handle_signals()
    third, fourth = Worker.made[2:]
    fourth.serves = False
    parent.keep_subprocess_alive()
    assert (first.told, second.told, pids(parent)) == (["start"], ["start"], [1, 2])
    fourth.serves = True
    parent.keep_subprocess_alive()
    assert (first.told[1:], second.told[1:], pids(parent)) == (["terminate"], ["terminate"], [3, 4])
    assert (third.told, fourth.told) == (["start"], ["start"])


def test_a_restart_does_not_wait_for_those_who_drain(parent: Supervisor) -> None:
    """Another SIGHUP is heard while the workers of before the last one still drain."""
    heard(parent, signal.SIGHUP)
    heard(parent, signal.SIGHUP)
    assert pids(parent) == [5, 6]
    assert all(worker.told == ["start", "terminate"] for worker in Worker.made[:4])


@pytest.mark.parametrize("why", ["ended", "late"])
def test_where_a_new_one_does_not_serve_the_old_ones_stay(parent: Supervisor, clock: Clock, why: str) -> None:
    """One that ends, or takes more than a minute, takes the other new ones along, and none of the old ones."""
    parent.restart_all()
    third, fourth = Worker.made[2:]
    fourth.serves = False
    if why == "ended":
        fourth.ends(STARTUP_FAILURE)
    else:
        clock.now += workers.READY_S + 1
    parent.keep_subprocess_alive()
    assert (third.told, fourth.told) == (["start", "kill"], ["start", "kill"])
    assert pids(parent) == [1, 2]
    parent.keep_subprocess_alive()
    assert [worker.told for worker in Worker.made[:2]] == [["start"], ["start"]]
    assert not parent.should_exit.is_set()


def test_a_new_restart_forgets_the_one_under_way(parent: Supervisor) -> None:
    """The workers of the first SIGHUP, which do not serve yet, may have the code of before: others are started."""
    parent.restart_all()
    for worker in Worker.made[2:]:
        worker.serves = False
    heard(parent, signal.SIGHUP)
    assert [worker.told for worker in Worker.made[2:4]] == [["start", "kill"]] * 2
    assert pids(parent) == [5, 6]


def test_a_worker_that_died_is_replaced(parent: Supervisor) -> None:
    """So is one that does not answer, which is killed."""
    first, second = Worker.made
    first.ends(1)
    second.answers = False
    parent.keep_subprocess_alive()
    assert second.told == ["start", "kill"]
    assert pids(parent) == [3, 4]


def test_a_worker_that_cannot_start_ends_all(parent: Supervisor) -> None:
    """Where none serves the next one could not either: the parent ends, and says so by its status."""
    first, second = Worker.made
    first.serves = second.serves = False
    second.ends(STARTUP_FAILURE)
    parent.keep_subprocess_alive()
    assert parent.should_exit.is_set()
    assert len(Worker.made) == 2
    parent.keep_subprocess_alive()
    assert len(Worker.made) == 2


def test_where_others_serve_a_worker_that_cannot_start_ends_nobody(parent: Supervisor, clock: Clock) -> None:
    """The code on the disk is broken, and a worker dies: the other one goes on, and it is tried again by and by."""
    Worker.made[1].ends(STARTUP_FAILURE)
    parent.keep_subprocess_alive()
    assert (parent.should_exit.is_set(), pids(parent)) == (False, [1])
    clock.now += workers.RETRY_S
    parent.keep_subprocess_alive()
    assert pids(parent) == [1, 3]


def test_a_worker_that_has_not_served_yet_is_not_asked_to_answer(parent: Supervisor) -> None:
    """Who imports much on a busy machine is silent for longer than those who serve may be (Kludex/uvicorn#2506)."""
    slow = Worker.made[1]
    slow.serves = slow.answers = False
    parent.keep_subprocess_alive()
    assert (slow.told, pids(parent)) == (["start"], [1, 2])
    slow.serves = True
    parent.keep_subprocess_alive()
    assert slow.told == ["start", "kill"]


def test_who_drains_by_itself_has_a_successor_at_once(parent: Supervisor, clock: Clock) -> None:
    """After `--limit-max-requests`, or a signal of its own, it accepts nobody any more; its bounds hold as ever."""
    first, second = Worker.made
    first.drains = True
    parent.keep_subprocess_alive()
    assert (first.told, pids(parent)) == (["start"], [2, 3])
    clock.now += 20 + workers.OVERDUE_S + 1
    parent.keep_subprocess_alive()
    assert first.told == ["start", "kill"]


@pytest.mark.parametrize(
    ("how", "ends"), [("closed", True), ("open", False), ("left long ago", False), ("nohup", False)]
)
def test_a_terminal_that_is_closed_ends_all(
    parent: Supervisor, clock: Clock, monkeypatch: pytest.MonkeyPatch, how: str, ends: bool
) -> None:
    """Its SIGHUP would restart workers that nobody sees any more (benoitc/gunicorn#594); any other one does."""
    monkeypatch.setattr(workers, "_has_terminal", lambda: True)
    monkeypatch.setattr(parent, "_outlives_terminal", how == "nohup")
    parent.keep_subprocess_alive()
    monkeypatch.setattr(workers, "_has_terminal", lambda: how == "open")
    if how == "left long ago":
        clock.now += 3600
    parent.signal_queue.append(signal.SIGHUP)
    parent.handle_signals()
    assert (parent.should_exit.is_set(), len(Worker.made)) == (ends, 2 if ends else 4)


def test_sigint_to_the_parent_alone_ends_the_workers_at_once(parent: Supervisor) -> None:
    """They are to tell everybody, instead of draining; SIGTERM lets them drain."""
    parent.handle_int()
    parent.terminate_all()
    assert [worker.told for worker in Worker.made] == [["start", "hurry", "terminate"]] * 2


def test_the_number_of_workers_changes(parent: Supervisor) -> None:
    """SIGTTIN adds one; SIGTTOU lets one drain and does not wait for it; the last one stays."""
    heard(parent, signal.SIGTTIN)
    assert pids(parent) == [1, 2, 3]
    for _ in range(4):
        heard(parent, signal.SIGTTOU)
    assert pids(parent) == [1]
    assert [worker.told[1:] for worker in Worker.made[1:]] == [["terminate"], ["terminate"]]


def test_a_worker_that_outlives_its_bounds_is_killed(parent: Supervisor, clock: Clock) -> None:
    """That is drain and shutdown, 20 s here, and some time to end; not before."""
    first, second = Worker.made
    heard(parent, signal.SIGHUP)
    second.ends()
    clock.now += 20
    parent.keep_subprocess_alive()
    assert "kill" not in first.told
    clock.now += workers.OVERDUE_S + 1
    parent.keep_subprocess_alive()
    assert (first.told[-1], second.told[-1]) == ("kill", "terminate")


def test_at_the_end_nobody_is_connected_any_more(parent: Supervisor) -> None:
    """The parent's own socket is closed before the workers drain: a client would wait in its backlog for ever."""
    (listening,) = parent.sockets
    parent.terminate_all()
    assert listening.fileno() == -1
    assert all(worker.told == ["start", "terminate"] for worker in Worker.made)


def test_at_the_end_those_who_come_are_killed(parent: Supervisor) -> None:
    """SIGTERM in the middle of a restart: the new workers have nobody yet, the old ones drain."""
    parent.restart_all()
    parent.terminate_all()
    assert [worker.told[1:] for worker in Worker.made] == [["terminate"], ["terminate"], ["kill"], ["kill"]]


def test_signals_are_passed_on_while_the_workers_end(parent: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second SIGTERM reaches those who drain, SIGHUP does not."""
    passed: list[tuple[Any, ...]] = []

    def kill(pid: int, sig: int) -> None:
        passed.append((pid, sig))
        Worker.made[pid - 1].ends()

    monkeypatch.setattr(os, "kill", kill)
    parent.terminate_all()
    parent.signal_queue += [signal.SIGHUP, signal.SIGTERM]
    parent.join_all()
    assert passed == [(1, signal.SIGTERM), (2, signal.SIGTERM)]


def test_the_parent_waits_until_all_have_ended(parent: Supervisor, clock: Clock) -> None:
    """It goes on as soon as the last one has; those who hang are killed in the end."""
    parent.terminate_all()
    Worker.made[0].ends()
    began = clock.now
    parent.join_all()
    assert Worker.made[1].told[-1] == "kill"
    assert clock.now - began >= 20


def test_a_worker_says_when_it_serves() -> None:
    """It is asked over its pipe, and answers by and by; what it has not answered yet is no."""
    told: list[str] = []
    worker = RealWorker(uvicorn.Config("app", log_config=None), [], Settings())
    assert not worker.is_serving()
    worker._server = SimpleNamespace(phase="starting", hurry=lambda: told.append("hurry"))  # type: ignore[assignment]  # that of its own process
    worker.pong()
    assert not worker.is_serving()
    worker._server.phase = "serving"
    worker.pong()
    assert worker.is_serving()
    assert not worker.is_draining()
    worker._server.phase = "draining"
    worker.pong()
    assert worker.is_draining()
    worker.pong()
    worker.hurry()
    worker.pong()
    assert told == ["hurry"]
    worker.parent_conn.close()
    assert worker.is_serving()  # it did
    worker.child_conn.close()


def test_a_parent_that_cannot_listen_does_not_start(
    parent: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor do its workers: it says why, and ends with the status of who cannot start."""
    monkeypatch.setattr(parent, "_settings", Settings(admin="/no/folder/s"))
    monkeypatch.setattr(parent, "_watch", lambda: None)
    with pytest.raises(SystemExit) as ended:
        parent.run()
    assert ended.value.code == STARTUP_FAILURE
    assert len(Worker.made) == 2  # the fixture's
    assert "Cannot listen for --admin: no folder" in caplog.text


def test_a_worker_that_does_not_answer_is_not_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile the parent hears its signals; what has been answered counts, however late it is read."""
    worker = RealWorker(uvicorn.Config("app", log_config=None), [], Settings())
    worker._server = SimpleNamespace(phase="serving")  # type: ignore[assignment]
    monkeypatch.setattr(worker.process, "is_alive", lambda: True)
    assert worker.is_alive(5)
    clock.now += 5
    assert worker.is_alive(5)
    clock.now += 1
    assert not worker.is_alive(5)
    worker.pong()
    assert worker.is_alive(5)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_the_socket_of_workers_is_open_to_whom_it_was(tmp_path: Path, parent: Supervisor) -> None:
    """uvicorn opens it to everybody, but for a single worker (Kludex/uvicorn#2731)."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        config = uvicorn.Config("app", workers=2, log_config=None, uds=str(path))
        Supervisor(config, settings=Settings(), sockets=[bound], uds_mode=0o660)
        assert path.stat().st_mode & 0o777 == 0o660
