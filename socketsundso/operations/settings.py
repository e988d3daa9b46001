"""What `socketsundso run` says of a worker's operation, as plain data: it goes to other processes as it is."""

from __future__ import annotations

from dataclasses import dataclass

DRAIN_S = 10.0
"""Over how long a worker that ends tells its connections, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one worker: with several, each has all of it for itself. None is no such thing, or no bound."""

    drain_s: float = DRAIN_S  # 0: everybody is told at once
    health: str | None = None  # the path at which the server says whether it is ready
    admin: str | None = None  # the path of the Unix socket at which the processes say what they do
    max_connections: int | None = None
    max_connections_per_ip: int | None = None
    max_handshakes_per_s: float | None = None
    max_queued_bytes: int | None = None  # of messages that wait for handlers
    max_rss: int | None = None  # bytes of memory of the process
