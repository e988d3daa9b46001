"""
The environment variables of this package, by name.

`socketsundso run` tells by them what it was told itself to every process that it starts; who serves in another way sets
them. On the ground floor, since the command line names them also where the server, which needs picows, cannot be
imported.
"""

from __future__ import annotations

BACKPLANE_VARIABLE = "SOCKETSUNDSO_BACKPLANE"
"""The URL of the engine, for endpoints and hubs that name none."""

DEFLATE_MIN_VARIABLE = "SOCKETSUNDSO_WS_DEFLATE_MIN"
"""From how many bytes on messages are compressed, or `off`: none."""

DEFLATE_CONTEXT_VARIABLE = "SOCKETSUNDSO_WS_DEFLATE_CONTEXT"
"""`1`: messages are compressed with contexts that belong to their connection."""


def is_deflate_min(given: str) -> bool:
    """Whether this can be the value of DEFLATE_MIN_VARIABLE; an empty one says as little as none."""
    return given in ("", "off") or (given.isascii() and given.isdigit())
