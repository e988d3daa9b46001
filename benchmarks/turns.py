"""
How many turns the event loop of a server has made: those that found something to do.

Counted in the server by a library (`turns.c`) that is put before libc's `epoll_wait` and costs an addition a turn, so
for every server alike, whatever its language. Without a C compiler there is no count.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.installed import NotAvailable, compiled

BYTES = 8
_counters: dict[int, mmap.mmap] = {}


class Counter:
    """The environment of a server whose turns are counted."""

    def __init__(self, environment: dict[str, str], shared: mmap.mmap | None) -> None:
        self.environment, self._shared = environment, shared

    def belongs_to(self, pid: int) -> None:
        if self._shared is not None:
            _counters[pid] = self._shared

    @staticmethod
    def forget(pid: int) -> None:
        _counters.pop(pid, None)


@contextmanager
def counter() -> Iterator[Counter]:
    try:
        library = compiled("turns.c")
    except NotAvailable:
        yield Counter({}, None)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(BYTES))
        file.flush()
        shared = mmap.mmap(file.fileno(), BYTES)
        yield Counter({"LD_PRELOAD": str(library), "SOCKETSUNDSO_TURNS": file.name}, shared)


def turns_of(pid: int) -> int | None:
    """So far, of a server that runs; None where they are not counted."""
    shared = _counters.get(pid)
    return None if shared is None else int.from_bytes(shared[:BYTES], "little")
