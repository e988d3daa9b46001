"""
The path of `--uds`: whose it is.

A server that drains lives on for a while behind the one that has taken its place, at the same path: it is not to remove
what the other one listens at. And one that was killed leaves a path behind at which nobody listens. Knows paths, and no
server.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat


class BoundPath:
    """What is bound at a path now, and whether it still is later."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._bound = _bound_at(path)

    def is_ours(self) -> bool:
        return self._bound is not None and _bound_at(self._path) == self._bound


def _bound_at(path: str | None) -> tuple[int, int, int] | None:
    if path is not None:
        with contextlib.suppress(OSError):
            told = os.stat(path)
            return told.st_dev, told.st_ino, told.st_mtime_ns  # a number may be given to a file anew
    return None


def remove_abandoned(path: str) -> int | None:
    """
    Remove the socket at `path` if nobody listens there. Whom it was open to, as `os.chmod` takes it.

    OSError where that is not permitted.
    """
    if not os.path.exists(path) or not stat.S_ISSOCK(mode := os.stat(path).st_mode):
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return stat.S_IMODE(mode)
    return None
