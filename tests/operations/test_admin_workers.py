"""`socketsundso run --admin`: real servers of one and of several workers, and what is told of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from websockets.sync.client import ClientConnection, connect

from socketsundso.cli import main
from socketsundso.top import NoAnswer
from socketsundso.top.snapshot import Snapshot, Worker, snapshot_of
from tests.serving import ROOT, free_port, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets and signals of POSIX")

APP = """
import asyncio
import os
import time

from socketsundso import Endpoint, event
from socketsundso.telemetry import prometheus

prometheus.instrument()


class Chat(Endpoint):
    @event
    async def on_enter(self, room: str) -> dict[str, int]:
        await self.join(room)
        return {"pid": os.getpid()}

    @event
    async def on_wait(self) -> None:
        await asyncio.Event().wait()

    @event
    async def on_hang(self) -> None:
        time.sleep(2)
"""


class Run:
    """One `socketsundso run`."""

    def __init__(self, folder: Path, *options: str) -> None:
        (folder / "told.py").write_text(APP)
        self.port, self.path = free_port(), folder / "s"
        self.output = (folder / "output").open("w+")
        arguments = ["-m", "socketsundso", "run", "told:Chat", "--app-dir", str(folder), "--port", str(self.port)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, *arguments, "--admin", str(self.path), *options],
            cwd=ROOT,
            env=environment,
            stdout=self.output,
            stderr=self.output,
        )

    @property
    def workers(self) -> dict[int, Worker]:
        return {worker.pid: worker for worker in snapshot_of(str(self.path)).workers}

    def connect(self) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.port}/", open_timeout=30, compression=None)

    def ends(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[Run]:
    run = Run(folder, *options)
    try:
        wait_for(run.port, run.process)
        yield run
    finally:
        run.process.kill()
        run.process.wait()
        run.output.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A server of two workers, both of which serve."""
    patient = "--timeout-worker-healthcheck", "60"  # with a worker that comes on a machine that is busy
    with running(tmp_path_factory.mktemp("two"), "--workers", "2", "--drain-s", "1", *patient) as run:
        until(lambda: states(run) == ["serving", "serving"])
        yield run


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(run: Run) -> list[str]:
    return sorted(worker.state for worker in run.workers.values())


def entered(client: ClientConnection, room: str) -> int:
    """Be in the room; gives the process of who says so."""
    client.send(json.dumps({"type": "enter", "room": room}))
    return int(json.loads(client.recv(20))["pid"])


def value(worker: Worker, name: str, **labels: str) -> float:
    samples = [each for each in worker.metrics[name] if labels.items() <= each.items()]
    return float(sum(each["value"] for each in samples))


def test_each_worker_is_told_of(two: Run) -> None:
    """Its connections, its messages, its rooms: also where the application counts for Prometheus."""
    with contextlib.ExitStack() as stack:
        by_pid: dict[int, int] = {}

        def both() -> bool:
            pid = entered(stack.enter_context(two.connect()), "lobby")
            by_pid[pid] = by_pid.get(pid, 0) + 1
            return len(by_pid) == 2

        until(both)
        until(lambda: {pid: worker.websockets for pid, worker in two.workers.items()} == by_pid)
        workers = two.workers
        for pid, number in by_pid.items():
            worker = workers[pid]
            assert (worker.state, worker.websockets) == ("serving", number)
            assert value(worker, "connections", endpoint="Chat") == number
            assert value(worker, "received_messages", endpoint="Chat", event="enter") == number
            assert value(worker, "sent_messages", endpoint="Chat", event="enter") == number
            assert [(room.room, room.members) for room in worker.rooms.largest] == [("lobby", number)]
    until(lambda: all(not worker.rooms.count for worker in two.workers.values()))


def test_one_that_is_killed_is_gone_and_its_successor_comes(two: Run) -> None:
    """Nobody waits for it; the one in its place has counted nothing yet."""
    killed, left = two.workers
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in two.workers)
    until(lambda: states(two) == ["serving", "serving"])
    (successor,) = two.workers.keys() - {left}
    assert value(two.workers[successor], "connections_opened") == 0


def test_a_rolling_restart_is_seen(two: Run) -> None:
    """The new ones come while the old ones serve, which then drain, and are gone."""
    old = set(two.workers)
    with two.connect() as client:
        before = entered(client, "lobby")
        client.send('{"type":"wait"}')  # so that one has to be waited for
        two.process.send_signal(signal.SIGHUP)
        seen: set[tuple[bool, str]] = set()

        def is_over() -> bool:
            workers = two.workers
            seen.update((pid in old, worker.state) for pid, worker in workers.items())
            return not old & workers.keys()

        assert before in old
        until(is_over)
    assert (False, "starting") in seen
    assert (True, "draining") in seen
    until(lambda: states(two) == ["serving", "serving"])


def test_one_that_hangs_is_told_as_silent(two: Run) -> None:
    """The other one is told of as ever; when it is back, it is as if nothing were."""
    with two.connect() as client:
        pid = entered(client, "lobby")
        client.send('{"type":"hang"}')
        until(lambda: {worker.state for worker in two.workers.values()} == {"serving", "silent"})
        until(lambda: states(two) == ["serving", "serving"])
        assert value(two.workers[pid], "received_messages", event="hang") == 1


def test_a_second_server_is_refused(two: Run) -> None:
    """In one line, before anything is served; the first one goes on."""
    ended = CliRunner().invoke(main, ["run", "told:Chat", "--admin", f"unix:{two.path}"])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert f"'--admin': another server listens at {two.path}" in ended.stderr
    assert len(two.workers) == 2


def test_at_the_end_the_socket_is_gone(two: Run) -> None:
    """It answers while the workers drain, and does not outlive them."""
    seen: list[Snapshot] = []
    with two.connect() as client:
        entered(client, "lobby")
        client.send('{"type":"wait"}')
        two.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(NoAnswer):
            while True:
                seen.append(snapshot_of(str(two.path)))
    assert {worker.state for snapshot in seen for worker in snapshot.workers} >= {"draining"}
    assert two.process.wait(30) == 0
    assert not two.path.exists()
    two.output.seek(0)
    assert not [line for line in two.output if "Traceback" in line or "ResourceWarning" in line]


def test_a_lone_worker_answers_itself(tmp_path: Path) -> None:
    """It takes the place of one that was killed, and leaves nothing."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "s"))
    with running(tmp_path, "--drain-s", "0") as run, run.connect() as client:
        assert {entered(client, "lobby")} == run.workers.keys() == {run.process.pid}
        until(lambda: value(run.workers[run.process.pid], "connections") == 1)
        assert run.ends() in (0, -signal.SIGTERM)
        assert not run.path.exists()
