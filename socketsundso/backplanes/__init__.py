"""Backplanes: payloads from process to process, chosen by URL. See `base` for the contract."""

from __future__ import annotations

import importlib
import os
from typing import cast

from socketsundso.backplanes.base import (
    DECLARATIONS,
    PROCESSES,
    Backplane,
    Delivery,
    InvalidBackplane,
    Keep,
    Log,
    Receiver,
    State,
    backoff,
    ended,
)
from socketsundso.environment import BACKPLANE_VARIABLE

__all__ = [
    "DECLARATIONS",
    "PROCESSES",
    "Backplane",
    "Delivery",
    "Keep",
    "Log",
    "Receiver",
    "State",
    "backoff",
    "default_url",
    "ended",
    "open_url",
]

DEFAULT_BACKPLANE = "memory://"

# scheme -> (module, class, extra); engines are imported only when a URL names them
_SCHEMES = {
    "memory": ("memory", "MemoryBackplane", None),
    "redis": ("redis", "RedisBackplane", "redis"),
    "rediss": ("redis", "RedisBackplane", "redis"),
    "unix": ("redis", "RedisBackplane", "redis"),
    "nats": ("nats", "NatsBackplane", "nats"),
    "tls": ("nats", "NatsBackplane", "nats"),
}


def default_url() -> str:
    """The URL where nobody names one, looked up anew each time: the environment's, else memory."""
    return os.environ.get(BACKPLANE_VARIABLE) or DEFAULT_BACKPLANE


def open_url(url: str) -> Backplane:
    """
    The backplane that a URL names, not yet opened. Raises ValueError for an unknown one, ImportError for a
    missing extra.
    """
    scheme = url.partition("://")[0]
    if scheme not in _SCHEMES or "://" not in url:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise InvalidBackplane(url, f"names no engine that is known; it begins with one of {known}")
    module, name, extra = _SCHEMES[scheme]
    try:
        found = importlib.import_module(f"{__name__}.{module}")
    except ImportError as error:
        raise ImportError(f"{scheme}:// needs an extra: pip install 'socketsundso[{extra}]'") from error
    return cast(Backplane, getattr(found, name)(url))
