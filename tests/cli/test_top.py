"""`socketsundso top` where there is no terminal, and where there is nothing to show."""

from __future__ import annotations

import builtins
import importlib.util
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from socketsundso.cli import main
from socketsundso.top import snapshot
from tests.top.talking import talking

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets")


def top(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["top", "--interval", "0.5", *map(str, arguments)])


@pytest.mark.parametrize("scheme", ["", "unix:", "unix://"])
def test_in_a_pipe_it_is_text(tmp_path: Path, scheme: str) -> None:
    """What happened within the interval, and no more than that: no colours, no cursor."""
    with talking(tmp_path / "s"):
        ended = top(f"{scheme}{tmp_path / 's'}")
    assert ended.exit_code == 0, ended.output
    assert "\x1b" not in ended.output
    assert "connections 12 " in ended.output
    assert "in 30/s" in ended.output
    assert "Chat.say" in ended.output
    assert "quit" not in ended.output


def test_the_socket_may_be_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is that of `run --admin`."""
    monkeypatch.setenv("SOCKETSUNDSO_ADMIN", str(tmp_path / "s"))
    with talking(tmp_path / "s"):
        assert "in 30/s" in top().output


def left_behind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda path: None, "is the server started with --admin"),
        (left_behind, "nobody listens at"),
        (lambda path: path.write_text("x"), "nobody listens at"),
    ],
)
def test_where_nobody_is(tmp_path: Path, prepare: Callable[[Path], Any], why: str) -> None:
    """One line says why, and the status is 1."""
    prepare(tmp_path / "s")
    ended = top(tmp_path / "s")
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: ")
    assert why in ended.stderr
    assert str(tmp_path / "s") in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(13, "Permission denied"), "no permission"),
        (TimeoutError(), "does not answer within 5 s"),
        (OSError(99, "Something else"), "Something else"),
    ],
)
def test_what_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, why: str) -> None:
    """In words of what was asked."""

    def connect(self: Any) -> None:
        raise error

    monkeypatch.setattr(snapshot._Connection, "connect", connect)
    ended = top(tmp_path / "s")
    assert ended.exit_code == 1
    assert why in ended.stderr


@pytest.fixture
def says(tmp_path: Path) -> Iterator[Callable[[bytes], Path]]:
    """Somebody else's server, which answers whatever it is asked with this."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        listening.settimeout(20)

        def start(said: bytes) -> Path:
            def answer() -> None:
                asker, _ = listening.accept()
                with asker:
                    asker.recv(10_000)
                    asker.sendall(said)

            thread = threading.Thread(target=answer)
            thread.start()
            threads.append(thread)
            return tmp_path / "s"

        threads: list[threading.Thread] = []
        yield start
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    "said",
    [
        b"220 mail.example.org ESMTP\r\n",
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\n\r\n{"server":"other","workers":[]}',
        b'HTTP/1.1 200 OK\r\n\r\n{"server":"socketsundso","workers":[{"pid":"x"}]}',
        b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"server":"socketsundso","workers":[',
    ],
)
def test_somebody_elses_server(says: Callable[[bytes], Path], said: bytes) -> None:
    """Whatever it is, one line says that it is none of ours."""
    ended = top(says(said))
    assert ended.exit_code == 1
    assert "is no server of socketsundso with --admin" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_server_that_says_nothing(says: Callable[[bytes], Path]) -> None:
    """As one that is just going."""
    ended = top(says(b""))
    assert ended.exit_code == 1
    assert "without an answer" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "Missing argument 'SOCKET'"),
        (["http://localhost:8000"], "is no Unix socket"),
        (["unix:"], "a path is needed"),
        (["/s", "--interval", "0"], "'--interval'"),
        (["/s", "--interval", "nan"], "'--interval'"),
    ],
)
def test_mistakes_of_usage(arguments: list[str], why: str) -> None:
    """The status is 2, as ever."""
    ended = CliRunner().invoke(main, ["top", *arguments])
    assert ended.exit_code == 2
    assert why in ended.stderr


def test_without_rich(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install; the other commands do not need it."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else real(name))
    ended = top(tmp_path / "s")
    assert (ended.exit_code, ended.stderr) == (1, "Error: rich is needed: pip install 'socketsundso[top]'\n")


def test_where_there_is_no_terminal_of_posix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none of what it needs: one line."""
    real = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name == "termios":
            raise ImportError("No module named 'termios'")
        return real(name, *given, **named)

    monkeypatch.delitem(sys.modules, "socketsundso.top.screen", raising=False)
    monkeypatch.delattr("socketsundso.top.screen", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    ended = top(tmp_path / "s")
    assert ended.exit_code == 1
    assert "this system cannot show it" in ended.stderr
