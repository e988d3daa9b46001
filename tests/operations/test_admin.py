"""The admin socket: where it may be, who may open it, and what it answers to whatever is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from socketsundso.operations import STARTUP_FAILURE, Settings, admin
from socketsundso.operations.admin import answering
from socketsundso.operations.sockets import LONGEST_PATH, Listening, Unusable, path_of, require_vacant
from tests.operations.worker import Worker, working
from tests.server.serving import both_loops, echo, run, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets")

GET = b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n"


# ---- paths


@pytest.mark.parametrize("given", ["/run/chat.sock", "unix:/run/chat.sock", "unix:///run/chat.sock"])
def test_a_path_with_or_without_a_scheme(given: str) -> None:
    """All three are the same path."""
    assert path_of(given) == "/run/chat.sock"


def test_a_path_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An application may change its folder later."""
    monkeypatch.chdir(tmp_path)
    assert path_of("chat.sock") == path_of("unix:chat.sock") == str(tmp_path / "chat.sock")


@pytest.mark.parametrize(
    ("given", "why"),
    [("", "a path is needed"), ("unix:", "a path is needed"), ("/a\0b", "null"), (f"/{'x' * 107}", "107 bytes")],
)
def test_what_is_no_path(given: str, why: str) -> None:
    """It is refused in one line; the system's own bound on the length is known."""
    with pytest.raises(Unusable, match=why) as refused:
        path_of(given)
    assert "\n" not in str(refused.value)


def test_the_longest_path_is_the_systems(tmp_path: Path) -> None:
    """One byte more, and the system would refuse it."""
    with socket.socket(socket.AF_UNIX) as listening, pytest.raises(OSError, match="too long"):
        listening.bind(f"/{'x' * LONGEST_PATH}")
    assert path_of(f"/{'x' * (LONGEST_PATH - 1)}")


def test_where_nothing_may_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, a file that is no socket, a server that lives, a system without such sockets."""
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(Unusable, match="no folder"):
        require_vacant(str(tmp_path / "none" / "s"))
    with pytest.raises(Unusable, match="exists and is no socket"):
        require_vacant(str(file))
    assert file.read_text() == "mine"
    with contextlib.closing(Listening(str(tmp_path / "s"))), pytest.raises(Unusable, match="another server listens"):
        require_vacant(str(tmp_path / "s"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(Unusable, match="no permission"):
        require_vacant(str(tmp_path / "s"))
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(Unusable, match="no Unix sockets"):
        require_vacant(str(tmp_path / "s"))


def test_a_server_whose_queue_is_full_lives(tmp_path: Path) -> None:
    """So many wait that the kernel takes no more: it is not taken for one that was killed."""
    path = str(tmp_path / "s")
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(Listening(path)))
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(path)
        with pytest.raises(Unusable, match="another server listens"):
            require_vacant(path)


def test_only_its_owner_may_open_it(tmp_path: Path) -> None:
    """Whatever the umask says; and the umask of the process is as before."""
    before = os.umask(0)
    try:
        with contextlib.closing(Listening(str(tmp_path / "s"))):
            assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
        assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_what_a_killed_server_has_left_is_replaced(tmp_path: Path) -> None:
    """And at its end each one takes away what is its own: not the socket of its successor."""
    path = tmp_path / "s"
    killed = Listening(str(path))
    killed.socket.close()
    assert path.exists()
    successor = Listening(str(path))
    killed.close()
    assert path.exists()
    successor.close()
    assert not path.exists()


def test_where_the_system_refuses(tmp_path: Path) -> None:
    """In its own words, in a line; nothing stays open."""
    with pytest.raises(Unusable, match="too long"):
        Listening(str(tmp_path / ("x" * 150)))


def test_a_socket_that_somebody_has_taken_away(tmp_path: Path) -> None:
    """Its server ends as ever."""
    listening = Listening(str(tmp_path / "s"))
    (tmp_path / "s").unlink()
    listening.close()


# ---- answers


@contextlib.asynccontextmanager
async def told(path: Path, reports: list[bytes] | Exception) -> AsyncIterator[None]:
    async def read() -> list[bytes]:
        if isinstance(reports, Exception):
            raise reports
        return reports

    with contextlib.closing(Listening(str(path))) as listening:
        async with answering(listening.socket, read):
            yield


async def answer(path: Path, request: bytes) -> tuple[int, bytes]:
    """Status and body; the connection ends behind them."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()
    finally:
        writer.close()
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    return int(head.split()[1]), body


@both_loops
def test_it_answers_with_json(tmp_path: Path, loop: str) -> None:
    """Whoever asks, and however often; the reports are those of the moment."""

    async def main() -> None:
        reports = [b'{"pid":1}', b'{"pid":2}']
        async with told(tmp_path / "s", reports):
            expected = {"server": "socketsundso", "workers": [{"pid": 1}, {"pid": 2}]}
            for _ in range(2):
                status, body = await answer(tmp_path / "s", GET)
                assert (status, json.loads(body)) == (200, expected)
            reports.clear()
            status, body = await answer(tmp_path / "s", GET.replace(b"/stats", b"/stats?x=1"))
            assert json.loads(body)["workers"] == []

    run(main(), loop)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /statsx HTTP/1.1\r\n\r\n", 404),
        (b"POST /stats HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", 405),
        (b"hello\r\n\r\n", 400),
        (b"GET /stats SMTP\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (bytes(range(256)) + b"\r\n\r\n", 400),
        (b"GET /stats HTTP/1.1\r\nX: " + b"x" * 2 * admin.MAX_REQUEST_BYTES, 431),
    ],
)
def test_whatever_else_is_asked(tmp_path: Path, request_: bytes, status: int) -> None:
    """It is answered in a line, and the next one is answered, too."""

    async def main() -> None:
        async with told(tmp_path / "s", []):
            assert (await answer(tmp_path / "s", request_))[0] == status
            assert (await answer(tmp_path / "s", GET))[0] == 200

    run(main())


def test_a_crowd_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are waited for, for a time; the others wait in the kernel, and whoever asks is answered behind them."""
    monkeypatch.setattr(admin, "WITHIN_S", 0.05)

    async def main() -> None:
        async with told(tmp_path / "s", []):
            crowd = []
            for _ in range(admin.AT_ONCE * 2):
                silent = socket.socket(socket.AF_UNIX)
                silent.setblocking(False)
                await asyncio.get_running_loop().sock_connect(silent, str(tmp_path / "s"))
                crowd.append(silent)
            assert len(asyncio.all_tasks()) <= admin.AT_ONCE + 4
            assert (await answer(tmp_path / "s", GET))[0] == 200
            for silent in crowd:
                silent.close()

    run(main(), "asyncio")


def test_who_does_not_take_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is cut after a time; what it has not taken is kept by nobody."""
    monkeypatch.setattr(admin, "WITHIN_S", 0.2)

    async def main() -> None:
        async with told(tmp_path / "s", [b"x" * (4 << 20)]):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=1000)
            writer.write(GET)
            await until(lambda: len(asyncio.all_tasks()) == 3)
            await until(lambda: len(asyncio.all_tasks()) == 2)
            taken = await reader.read(8 << 20)
            while more := await reader.read(1 << 20):
                taken += more
            assert len(taken) < 4 << 20
            writer.close()

    run(main(), "asyncio")


def test_where_reading_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, who asked gets nothing, and the server goes on."""

    async def main() -> None:
        async with told(tmp_path / "s", ZeroDivisionError()):
            for _ in range(2):
                with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                    await answer(tmp_path / "s", GET)

    run(main())
    assert caplog.text.count("ZeroDivisionError") == 2


def test_when_nothing_can_be_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor left it says so, waits, and answers when there is one."""
    real, failures = admin._accepted, [OSError(24, "Too many open files")]

    async def accepted(listening: socket.socket) -> socket.socket:
        if failures:
            raise failures.pop()
        return await real(listening)

    monkeypatch.setattr(admin, "_accepted", accepted)

    async def main() -> None:
        async with told(tmp_path / "s", []):
            assert (await answer(tmp_path / "s", GET))[0] == 200

    run(main(), "asyncio")
    assert "cannot accept: Too many open files" in caplog.text


# ---- a worker


def watch() -> Any:
    """Counts how often it is read."""
    count = 0

    async def read() -> dict[str, Any]:
        nonlocal count
        count += 1
        return {"count": count}

    return read


async def report(path: Path) -> dict[str, Any]:
    status, body = await answer(path, GET)
    assert status == 200
    return json.loads(body)["workers"][0]  # type: ignore[no-any-return]


@both_loops
def test_a_worker_tells_of_itself_until_it_has_ended(tmp_path: Path, loop: str) -> None:
    """What it is, and what is watched, read at most once at a time however many ask; then the socket is gone."""
    path = tmp_path / "s"

    async def main() -> None:
        async with working(echo, settings={"admin": str(path)}, watch=watch) as served:
            told = await report(path)
            assert (told["pid"], told["state"], told["websockets"]) == (os.getpid(), "serving", 0)
            assert told["uptime_s"] >= 0
            together = await asyncio.gather(*(report(path) for _ in range(10)))
            assert max(each["count"] for each in together) - told["count"] <= 2
            served.server._front.draining = True  # type: ignore[union-attr]
            await until_state(path, "draining")
        assert not path.exists()

    run(main(), loop)


async def until_state(path: Path, state: str) -> None:
    async with asyncio.timeout(10):
        while (await report(path))["state"] != state:
            await asyncio.sleep(0.05)


def test_without_the_option_there_is_nothing() -> None:
    """No socket, and nobody watches."""

    async def main() -> None:
        async with working(echo, watch=lambda: pytest.fail("watched")) as served:
            assert served.server._reporting is None

    run(main())


def test_a_worker_that_cannot_listen_does_not_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says why, and ends with the status that keeps a parent from trying again."""

    config = uvicorn.Config(echo, log_config=None, lifespan="off")
    config.load()
    worker = Worker(config, Settings(admin=str(tmp_path / "none" / "s")), watch)
    worker.lifespan = config.lifespan_class(config)

    async def main() -> None:
        with pytest.raises(SystemExit) as ended:
            await worker.startup()
        assert ended.value.code == STARTUP_FAILURE

    run(main())
    assert not worker.started
    assert "Cannot listen for --admin: no folder" in caplog.text


def test_a_worker_that_does_not_start_leaves_nothing(tmp_path: Path) -> None:
    """Its port is taken, say: the socket is gone with it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = uvicorn.Config(echo, log_config=None, lifespan="off", port=taken.getsockname()[1])
        config.load()
        worker = Worker(config, Settings(admin=str(tmp_path / "s")), watch)
        worker.lifespan = config.lifespan_class(config)

        async def main() -> None:
            with pytest.raises(SystemExit):
                await worker.startup()

        run(main())
    assert list(tmp_path.iterdir()) == []
