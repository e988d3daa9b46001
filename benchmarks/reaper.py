"""
Ends the processes of a run when the run is over, however it ends: SIGTERM, SIGKILL, a closed terminal.

The reaper is a process in a session of its own. It hears of each process over a pipe that only the run holds open, and
kills those that are left when the pipe ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO


def enlisting() -> Callable[[], None]:
    """
    For `Popen`'s `preexec_fn`: the process, and its group if it leads one, is killed if the run ends before `forget`.

    It enlists itself, and holds the pipe until then: there is no moment at which nobody knows it.
    """
    pipe = _pipe().fileno()

    def enlist() -> None:
        os.write(pipe, b"+%d\n" % os.getpid())

    return enlist


def forget(pid: int) -> None:
    """It has ended, and its number may be somebody else's."""
    os.write(_pipe().fileno(), b"-%d\n" % pid)


def _pipe() -> IO[bytes]:
    pipe = _reaper().stdin
    assert pipe is not None
    return pipe


@functools.cache
def _reaper() -> subprocess.Popen[bytes]:
    reaper = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.reaper"],
        cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    atexit.register(reaper.communicate)  # its input ends, and then it does
    return reaper


def main(lines: Iterable[str]) -> None:
    left: dict[int, None] = {}
    for line in lines:
        pid = int(line[1:])
        if line[0] == "+":
            left[pid] = None
        else:
            left.pop(pid, None)
    for pid in left:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.stdin)
