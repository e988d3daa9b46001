"""
The paths of Unix sockets, those of `--uds` and of `--admin`: whose they are.

A server that drains lives on for a while behind the one that has taken its place, at the same path: it is not to remove
what the other one listens at. And one that was killed leaves a path behind at which nobody listens. Knows paths, and no
server.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys

LONGEST_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes of a path that a Unix socket can have."""
BACKLOG = 16
"""Who waits at a socket of ours, until the kernel has others wait elsewhere."""


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
            told = os.lstat(path)
            return told.st_dev, told.st_ino, told.st_mtime_ns  # a number may be given to a file anew
    return None


def remove_abandoned(path: str) -> int | None:
    """
    Remove the socket at `path` if nobody listens there. Whom it was open to, as `os.chmod` takes it.

    OSError where that is not permitted.
    """
    if not os.path.exists(path) or not stat.S_ISSOCK(mode := os.stat(path).st_mode):
        return None
    if not _is_abandoned(path):
        return None
    os.unlink(path)
    return stat.S_IMODE(mode)


def _is_abandoned(path: str) -> bool:
    """Whether nobody listens at this socket any more. OSError where that cannot be known."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except BlockingIOError:  # so many wait already
            pass
    return False


class Unusable(ValueError):
    """Nothing can listen at this path; says why in one line."""


def path_of(given: str) -> str:
    """`/run/chat.sock`, `unix:/run/chat.sock` and `unix:///run/chat.sock` are the same path; it becomes absolute."""
    path = given.removeprefix("unix:")
    if path != given and path.startswith("//"):
        path = path[2:]
    if not path:
        raise Unusable("a path is needed")
    if "\0" in path:
        raise Unusable("a path has no null characters")
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise Unusable(f"{path} is longer than the path of a Unix socket may be: {LONGEST_PATH} bytes")
    return path


def require_vacant(path: str) -> None:
    """Raises `Unusable` unless a server may listen here: at most the socket of one that was killed is there."""
    if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
        raise Unusable("this system has no Unix sockets")
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise Unusable(f"no folder for {path}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unusable(f"no permission to make {path}")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Unusable(f"{path} exists and is no socket")
    try:
        if _is_abandoned(path):
            return
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror or error}") from None
    raise Unusable(f"another server listens at {path}")


class Listening:
    """A socket of ours at a path, until `close` takes it away."""

    def __init__(self, path: str) -> None:
        """Raises `Unusable`."""
        require_vacant(path)
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        others = os.umask(0o177)  # there is no moment in which anybody else may open it
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            self.socket.bind(path)
            self.socket.listen(BACKLOG)
        except OSError as error:
            self.socket.close()
            raise Unusable(f"{path}: {error.strerror or error}") from None
        finally:
            os.umask(others)
        self.socket.setblocking(False)
        self._bound = BoundPath(path)

    def close(self) -> None:
        self.socket.close()
        if self._bound.is_ours():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
