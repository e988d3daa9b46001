"""
Ends the processes of a run when the run is over, however it ends: SIGTERM, SIGKILL, a closed terminal.

The reaper is a process in a session of its own. It is told of each process over a pipe that only the run holds open,
and kills those that are left when the pipe ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def watched(pid: int) -> Iterator[None]:
    """Have this process, and its group if it leads one, killed if the run ends meanwhile."""
    _tell(f"+{pid}")
    try:
        yield
    finally:
        _tell(f"-{pid}")


def _tell(what: str) -> None:
    pipe = _reaper().stdin
    assert pipe is not None
    pipe.write(f"{what}\n".encode())
    pipe.flush()


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
