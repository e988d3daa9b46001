"""What a server says at its admin socket, as far as it is shown here; and asking for it."""

from __future__ import annotations

import http.client
import socket
from typing import Any

import msgspec

WITHIN_S = 5.0
"""For a server to answer."""
MAX_BYTES = 64 << 20

Sample = dict[str, Any]
"""`{"endpoint": "Chat", "event": "say", "value": 12}`; a histogram's has `buckets` in place of `value`."""


class NoAnswer(Exception):
    """There are no figures of a server; says why in one line."""


class RoomSize(msgspec.Struct, frozen=True):
    room: str
    members: int
    backplane: str = ""


class Rooms(msgspec.Struct, frozen=True):
    count: int = 0
    largest: tuple[RoomSize, ...] = ()


class SlowReader(msgspec.Struct, frozen=True):
    connection: str
    endpoint: str
    user: str | int | None = None
    client: str | None = None
    queued_messages: int = 0
    queued_bytes: int = 0
    unsent_bytes: int = 0

    @property
    def all_bytes(self) -> int:
        return self.queued_bytes + self.unsent_bytes


class SlowReaders(msgspec.Struct, frozen=True):
    count: int = 0
    slowest: tuple[SlowReader, ...] = ()


class Worker(msgspec.Struct, frozen=True):
    """One that is `starting` or `silent` has said nothing but that."""

    pid: int
    state: str
    started_at: float = 0.0
    uptime_s: float = 0.0
    cpu_s: float = 0.0
    rss_bytes: int | None = None
    websockets: int = 0
    metrics: dict[str, tuple[Sample, ...]] = {}
    bounds: tuple[float, ...] = ()
    rooms: Rooms = Rooms()
    slow_readers: SlowReaders = SlowReaders()

    @property
    def has_said(self) -> bool:
        return self.uptime_s > 0


class Snapshot(msgspec.Struct, frozen=True, tag_field="server", tag="socketsundso"):
    workers: tuple[Worker, ...]

    def with_silent(self, before: Snapshot | None) -> Snapshot:
        """The same, with what those who are silent have said before."""
        said = {worker.pid: worker for worker in (before.workers if before is not None else ()) if worker.has_said}
        return Snapshot(tuple(each if each.has_said else said.get(each.pid, each) for each in self.workers))


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=WITHIN_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def snapshot_of(path: str) -> Snapshot:
    """What the server says at this path. Raises `NoAnswer`."""
    foreign = NoAnswer(f"who listens at {path} is no server of socketsundso with --admin")
    connection = _Connection(path)
    try:
        connection.request("GET", "/stats")
        with connection.getresponse() as response:
            said = response.read(MAX_BYTES)
    except FileNotFoundError:
        raise NoAnswer(f"there is no {path}: is the server started with --admin {path}?") from None
    except ConnectionRefusedError:
        raise NoAnswer(f"nobody listens at {path}: the server has ended, or it is no socket") from None
    except PermissionError:
        raise NoAnswer(f"no permission to open {path}: it is for the user who runs the server") from None
    except TimeoutError:
        raise NoAnswer(f"the server at {path} does not answer within {WITHIN_S:g} s") from None
    except http.client.RemoteDisconnected:
        raise NoAnswer(f"who listens at {path} has ended the connection without an answer") from None
    except http.client.HTTPException:
        raise foreign from None
    except OSError as error:
        raise NoAnswer(f"{path}: {error.strerror or error}") from None
    finally:
        connection.close()
    try:
        return msgspec.json.decode(said, type=Snapshot)
    except msgspec.DecodeError:
        raise foreign from None
