"""
How a generated Python client asks for a connection, why it has none, and when it asks again. A part of the file that
`python` writes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.exceptions import InvalidMessage as InvalidResponse

from socketsundso.contract.python.runtime.by_msgspec import UNSET
from socketsundso.contract.python.runtime.protocol import _Channel
from socketsundso.contract.python.runtime.words import Disconnected

_STABLE_S = 10.0
"""A connection that lasted so long was good: the delays before the next ones begin anew."""

_MAX_SIZE = 1 << 24
"""Of one message: what servers take and send, unless they say otherwise."""

_FOR_GOOD = {1000, 1003, 1007, 1008, 1009}
_AGAIN = {4408, 4429}
_AGAIN_STATUS = {408, 425, 429}


@dataclass(frozen=True)
class _Parameters:
    """What an application gives for the handshake, beside its options; UNSET is not sent."""

    path: Mapping[str, Any]
    query: Mapping[str, Any]
    headers: Mapping[str, Any]
    cookies: Mapping[str, Any]


@dataclass(frozen=True)
class _Request:
    url: str
    headers: list[tuple[str, str]]


def _backoff(attempt: int) -> float:
    """Seconds before the attempt of this number, from 0 on: up to 1, 2, 4, ... 30, and at least half of it."""
    return min(30.0, 2.0**attempt) * random.uniform(0.5, 1)


def _request(
    channel: _Channel,
    url: str,
    given: _Parameters,
    token: str | None,
    headers: Mapping[str, str],
    query: Mapping[str, Any],
) -> _Request:
    """The URL and headers of one handshake: the contract's parameters, the token in its place, what was added."""
    places: dict[str, dict[str, Any]] = {
        "query": {**given.query, **query},
        "header": {**given.headers, **headers},
        "cookie": dict(given.cookies),
    }
    if token is not None:
        place, name, before = channel.token
        places[place][name] = before + token
    cookies = {name: _text(value) for name, value in places["cookie"].items() if value is not UNSET}
    if cookies:
        places["header"]["Cookie"] = "; ".join(f"{name}={quote(value)}" for name, value in cookies.items())
    sent = [(name, _text(value)) for name, value in places["header"].items() if value is not UNSET]
    return _Request(_with_query(url, places["query"]), sent)


def _with_path(url: str, path: Mapping[str, Any]) -> str:
    """`https://host/shops/{shop}` -> `wss://host/shops/north`"""

    def fill(found: re.Match[str]) -> str:
        value = path.get(found[1], UNSET)
        if value is UNSET:
            raise ValueError(f"the URL {url} has {found[0]}, which was not given")
        return quote(_text(value), safe="")

    return re.sub(r"\{([^{}]*)\}", fill, re.sub(r"^http(?=s?://)", "ws", url))


def _with_query(url: str, query: Mapping[str, Any]) -> str:
    pairs = [
        (name, _text(each))
        for name, value in query.items()
        if value is not UNSET
        for each in (value if isinstance(value, list | tuple) else [value])
    ]
    return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs)}" if pairs else url


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _offered(channel: _Channel, subprotocols: Sequence[str] | None) -> Sequence[Any] | None:
    """None offers nothing: servers refuse who offers only what they do not have."""
    return list(channel.subprotocols if subprotocols is None else subprotocols) or None


def _why(error: Exception) -> Disconnected:
    """Why there is no connection, in a client's own words."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        told = Disconnected(f"the handshake was refused with HTTP {status}", status=status)
    else:
        told = Disconnected(f"no connection: {str(error) or type(error).__name__}")
    told.__cause__ = error
    return told


def _closed(code: int | None, reason: str | None) -> Disconnected:
    text = "the connection was lost" if code in (None, 1006) else f"the connection was closed with {code}"
    return Disconnected(f"{text}: {reason}" if reason else text, code=code, reason=reason or "")


def _may_come_back(error: Disconnected) -> bool:
    """Whether the same could go well the next time: networks come back, and servers that restart or are busy."""
    if error.status is not None:
        return error.status >= 500 or error.status in _AGAIN_STATUS
    if isinstance(error.__cause__, InvalidHandshake | InvalidURI):
        return isinstance(error.__cause__, InvalidResponse)
    if error.code is None:
        return True
    return error.code in _AGAIN or not (error.code in _FOR_GOOD or 4000 <= error.code <= 4999)
