"""
The terminal while `socketsundso top` has it: what is drawn, keys, its size; and leaving it as it was.

The server is asked in a thread, so that a key is heard while one does not answer. The main thread waits for keys, for
snapshots and for signals, all of which come as a byte that can be waited for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from types import FrameType

from rich.console import Console
from rich.live import Live

from socketsundso.top.figures import Figures
from socketsundso.top.snapshot import NoAnswer, Snapshot, snapshot_of
from socketsundso.top.view import SORTS, Shown, lines_of, view

QUIT = "qQ\x03\x04"
ENDS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Ctrl-C, too, is a byte to be read: an exception could come where it is swallowed, as in a finalizer."""
SIGNALS = (*ENDS, signal.SIGWINCH, signal.SIGTSTP)


class Left(Exception):
    """Somebody wants to leave."""


class History:
    """Figures of one snapshot after the other."""

    def __init__(self) -> None:
        self._latest: Snapshot | None = None

    def add(self, snapshot: Snapshot) -> Figures | None:
        """Of what happened since the one before; None if there is none."""
        before, self._latest = self._latest, snapshot.with_silent(self._latest)
        return None if before is None else Figures.between(before, snapshot)


class Asking(threading.Thread):
    """Asks the server at `path` again and again; `answers` has what it said, or why it did not."""

    def __init__(self, path: str, interval_s: float, tell: Callable[[], None]) -> None:
        super().__init__(name="asking", daemon=True)
        self.answers: queue.SimpleQueue[Snapshot | NoAnswer] = queue.SimpleQueue()
        self._path, self._interval_s, self._tell = path, interval_s, tell
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.put(snapshot_of(self._path))
            except NoAnswer as why:
                self.answers.put(why)
            self._tell()
            self._over.wait(self._interval_s)

    def stop(self) -> None:
        self._over.set()


def print_once(path: str, interval_s: float) -> None:
    """What happens within the interval, as text. Raises `NoAnswer`."""
    history = History()
    history.add(snapshot_of(path))
    threading.Event().wait(interval_s)
    figures = history.add(snapshot_of(path))
    columns = max(80, os.get_terminal_size().columns) if sys.stdout.isatty() else 120
    print(lines_of(view(Shown(path, figures, interval_s, has_keys=False), columns, None), columns))


def watch(path: str, interval_s: float) -> None:
    """Show it until somebody leaves by a key or a signal. Raises `NoAnswer` if nobody answers at the beginning."""
    history = History()
    history.add(snapshot_of(path))
    with _woken() as (woken, wake), Keyboard() as keyboard:
        asking = Asking(path, interval_s, wake)
        console = Console()
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            asking.start()
            try:
                _show(Shown(path, interval_s=interval_s), history, asking, live, keyboard, woken)
            except Left:
                pass
            finally:
                asking.stop()


def _show(now: Shown, history: History, asking: Asking, live: Live, keyboard: Keyboard, woken: int) -> None:
    while True:
        live.update(view(now, live.console.width, live.console.height), refresh=True)
        ready, _, _ = select.select([keyboard.fileno(), woken], [], [])
        signals = set(os.read(woken, 4096)) if woken in ready else set()
        if signals & ENDS:
            raise Left
        if signal.SIGTSTP in signals:
            _suspend(live, keyboard)
        if keyboard.fileno() in ready:
            now = _after_keys(now, keyboard.read())
        while not asking.answers.empty():
            now = _after_answer(now, history, asking.answers.get())


def _suspend(live: Live, keyboard: Keyboard) -> None:
    """Ctrl-Z: who looks gets the terminal as it was, and all of this back when it goes on."""
    live.stop()
    keyboard.give_back()
    os.kill(os.getpid(), signal.SIGSTOP)
    keyboard.take()
    live.start()


def _after_keys(now: Shown, keys: bytes) -> Shown:
    if not keys:  # the terminal has gone
        raise Left
    for key in keys.decode("ascii", "replace"):
        if key in QUIT:
            raise Left
        if key == " ":
            now = dataclasses.replace(now, is_paused=not now.is_paused)
        elif key == "s":
            sorts = list(SORTS)
            now = dataclasses.replace(now, sort=sorts[(sorts.index(now.sort) + 1) % len(sorts)])
    return now


def _after_answer(now: Shown, history: History, answer: Snapshot | NoAnswer) -> Shown:
    if isinstance(answer, NoAnswer):
        return dataclasses.replace(now, trouble=str(answer))
    figures = history.add(answer)
    if now.is_paused:
        return dataclasses.replace(now, trouble=None)
    return dataclasses.replace(now, figures=figures or now.figures, trouble=None)


class Keyboard:
    """Whose keys are heard one by one, and not shown, within the block."""

    def __init__(self) -> None:
        self._before = termios.tcgetattr(self.fileno())

    def fileno(self) -> int:
        return sys.stdin.fileno()

    def read(self) -> bytes:
        return os.read(self.fileno(), 64)

    def take(self) -> None:
        tty.setcbreak(self.fileno())

    def give_back(self) -> None:
        termios.tcsetattr(self.fileno(), termios.TCSADRAIN, self._before)

    def __enter__(self) -> Keyboard:
        self.take()
        return self

    def __exit__(self, *exc: object) -> None:
        self.give_back()


@contextlib.contextmanager
def _woken() -> Iterator[tuple[int, Callable[[], None]]]:
    """What can be waited for, and what wakes who waits: a call, or a signal, whose number can be read there."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)

    def heard(sig: int, frame: FrameType | None) -> None:
        """That it comes is told by the wakeup file descriptor."""

    def wake() -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, b"\0")

    before = {sig: signal.signal(sig, heard) for sig in SIGNALS}
    others = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading, wake
    finally:
        signal.set_wakeup_fd(others)
        for sig, handler in before.items():
            signal.signal(sig, handler)
        os.close(reading)
        os.close(writing)
