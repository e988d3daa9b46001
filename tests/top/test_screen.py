"""`socketsundso top` in a real terminal: what it draws, what it hears, and what it leaves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import ROOT
from tests.top.talking import Talking, talking

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of POSIX")

ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"
SHOW_CURSOR = "\x1b[?25h"


class Terminal:
    """One that runs `socketsundso top`; everything that was written is in `seen`, from the latest `forget` on."""

    def __init__(self, path: Path) -> None:
        self.end, self._other = pty.openpty()
        self.resize(80, 24)
        self.attributes = termios.tcgetattr(self._other)
        self.seen = ""
        tty, top = os.ttyname(self._other), f'"{sys.executable}" -m socketsundso top --interval 0.5 {path}'
        # the first that opens it in its session has it as its terminal, and hears of its size
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        for variable in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(variable, None)
        self.process = subprocess.Popen(
            ["sh", "-c", f"exec {top} <{tty} >{tty} 2>&1"], start_new_session=True, env=environment, cwd=ROOT
        )

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.end, keys)

    def forget(self) -> None:
        self.seen = ""

    def until(self, *texts: str) -> None:
        """Read on until all of them have been seen."""
        deadline = time.monotonic() + 30
        while not all(text in self.seen for text in texts):
            readable, _, _ = select.select([self.end], [], [], 0.5)
            if not readable:
                assert self.process.poll() is None, self.seen[-3000:]
                assert time.monotonic() < deadline, (texts, self.seen[-3000:])
                continue
            self.seen += os.read(self.end, 1 << 16).decode(errors="replace")

    def ended(self) -> int:
        """Its exit status; what it has written to the end is in `seen`."""
        self.until(NORMAL)
        status = self.process.wait(20)
        while select.select([self.end], [], [], 0)[0]:
            self.seen += os.read(self.end, 1 << 16).decode(errors="replace")
        return status

    def is_as_before(self) -> bool:
        """The normal screen, a cursor, and keys as they were."""
        is_shown = self.seen.rindex(SHOW_CURSOR) > self.seen.rfind("\x1b[?25l")
        return NORMAL in self.seen and is_shown and termios.tcgetattr(self._other) == self.attributes

    def vanish(self) -> None:
        """As a window that is closed, or a line that breaks."""
        for each in (self.end, self._other):
            os.close(each)
        self.end = self._other = -1

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.end != -1:
            self.vanish()


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[tuple[Terminal, Talking]]:
    with talking(folder / "s") as server, contextlib.closing(Terminal(folder / "s")) as terminal:
        terminal.until(ALTERNATE, "4711")
        yield terminal, server


def test_what_it_draws_and_hears(tmp_path: Path) -> None:
    """Figures, new ones, keys, another size; `q` leaves the terminal as it was."""
    with watched(tmp_path) as (terminal, server):
        terminal.until("30/s", "events by in/s", "Chat.say")
        server.per_s = 70
        terminal.forget()
        terminal.until("4711", "pause")
        terminal.press(b"s")
        terminal.until("events by p99")
        terminal.press(b" ")
        terminal.until("PAUSED", "go on")
        terminal.press(b" ")
        terminal.forget()
        terminal.resize(140, 40)
        terminal.until("p50", "CLIENT")  # there is room for it now
        terminal.press(b"q")
        assert terminal.ended() == 0
        assert terminal.is_as_before()


def test_a_server_that_goes_and_comes_back(tmp_path: Path) -> None:
    """It says so, keeps what was last known, and goes on with the new one."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.ExitStack())
        first.enter_context(talking(tmp_path / "s"))
        terminal = stack.enter_context(contextlib.closing(Terminal(tmp_path / "s")))
        terminal.until("30/s")
        first.close()
        terminal.until("NO ANSWER", "there is no /")
        terminal.forget()
        with talking(tmp_path / "s") as server:
            server.said = {"pid": 5555}
            terminal.until("5555", "every 0.5 s")
            terminal.press(b"\x03")  # Ctrl-C
            assert terminal.ended() == 0
            assert terminal.is_as_before()


def test_ctrl_z_gives_the_terminal_back_for_a_while(tmp_path: Path) -> None:
    """The process is stopped; when it goes on, everything is drawn anew, with the figures of now."""
    with watched(tmp_path) as (terminal, server):
        terminal.press(b"\x1a")
        terminal.until(NORMAL)
        pid, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert terminal.is_as_before()
        server.said = {"pid": 5555}
        terminal.forget()
        os.kill(pid, signal.SIGCONT)
        terminal.until(ALTERNATE, "5555")
        terminal.press(b"q")
        assert terminal.ended() == 0
        assert terminal.is_as_before()


def test_a_signal_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    """SIGTERM is as good as a key."""
    with watched(tmp_path) as (terminal, _):
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 0
        assert terminal.is_as_before()


def test_a_terminal_that_vanishes(tmp_path: Path) -> None:
    """The process ends with it, and asks no server any more."""
    with watched(tmp_path) as (terminal, _):
        terminal.vanish()
        terminal.process.wait(20)
