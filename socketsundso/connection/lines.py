"""
Which connection, message and user a log line is about: the `extra` that every line of an endpoint carries.

    logger.error("...", extra=about(peer, endpoint))

    {"connection": "5f0c2a91d3b7e684-1f", "event": "say", "ref": 7, "user": "ada"}

No line has what a message said, and none a token: of a user there is what names it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from socketsundso.connection.current import NOTHING, answering, being_answered
from socketsundso.connection.peer import Peer

MAX_NAME = 200
"""Characters of a user's name, of a `ref` that is a text, or of a name that a stranger gave."""

_NAMES = ("sub", "id", "identity", "username", "name")
"""The first that a user has, as a key (the claims of a JWT) or as an attribute (Starlette's users, rows), names it."""


def about(peer: Peer, endpoint: Any = None) -> dict[str, Any]:
    """
    For the `extra` of a log line. `event` is None outside of a message, and for one that no handler is for; `ref` and
    `user` are None where there is none.
    """
    _, route, ref, _, _ = answering(peer) or NOTHING
    return {
        "connection": peer.id,
        "event": None if route is None else route.event,
        "ref": shortened(ref),
        "user": name_of(getattr(endpoint, "user", None)),
    }


class Completing(logging.Filter):
    """What a line of the logger does not say itself is that of the message that is being answered, else None."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "user"):
            peer, route, ref, _, _ = being_answered() or NOTHING
            known = {
                "connection": peer and peer.id,
                "event": route and route.event,
                "ref": shortened(ref),
                "user": None,
            }
            vars(record).update({**known, **vars(record)})
        return True


logging.getLogger("socketsundso").addFilter(Completing())


def name_of(user: Any) -> str | int | None:
    """What a user is called in logs and traces: itself, if it is a text or a number, else the first of its names."""
    if user is None or isinstance(user, str | int):
        return shortened(user)
    for name in _NAMES:
        with contextlib.suppress(Exception):  # Starlette's SimpleUser raises for an `identity`
            value = user.get(name) if isinstance(user, Mapping) else getattr(user, name, None)
            if isinstance(value, str | int) and value != "":
                return shortened(value)
    return None


def shortened(value: str | int | None) -> str | int | None:
    return f"{value[:MAX_NAME]}…" if isinstance(value, str) and len(value) > MAX_NAME else value
