"""What becomes of the path of `--uds`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from socketsundso.operations import remove_abandoned
from socketsundso.operations.sockets import BoundPath

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")


def bound(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    return listening


def test_what_a_killed_server_has_left_is_removed(tmp_path: Path) -> None:
    """uvicorn with several workers would find the address in use; the next one is open to nobody else than that was."""
    path = tmp_path / "s"
    bound(path).close()
    path.chmod(0o660)
    assert remove_abandoned(str(path)) == 0o660
    assert not path.exists()
    assert remove_abandoned(str(path)) is None  # nothing is there


def test_where_somebody_listens_nothing_is_removed(tmp_path: Path) -> None:
    """Nor what is no socket."""
    path, file = tmp_path / "s", tmp_path / "f"
    file.touch()
    with bound(path):
        remove_abandoned(str(path))
        remove_abandoned(str(file))
        assert (path.exists(), file.exists()) == (True, True)


def test_a_path_is_ours_until_another_socket_is_bound_there(tmp_path: Path) -> None:
    """Also where the file system gives its number to the new one; without a path nothing is."""
    path = tmp_path / "s"
    with bound(path):
        ours = BoundPath(str(path))
        assert ours.is_ours()
    path.chmod(0o660)
    assert ours.is_ours()
    path.unlink()
    assert not ours.is_ours()
    with bound(path):
        assert not ours.is_ours()
    assert not BoundPath(None).is_ours()
