"""
Which pages may open a connection: `allowed_origins`, compared with a handshake's `Origin` (RFC 6454).

Two origins are the same if scheme, host and port are; upper and lower case are the same, and a port that is left out is
the scheme's own. Browsers send the header with every handshake and let no page change it, and send cookies along
whatever the page is: so it is the server that has to look (RFC 6455, 10.2).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from socketsundso.errors import DefinitionError

OriginPattern = str | re.Pattern[str]
"""One of `allowed_origins`; docs/security.md lists the forms."""

_ANY = "*"
_OPAQUE = "null"  # of sandboxed frames, `data:` URLs and, in most browsers, files
_PORTS = {"http": 80, "https": 443}

_SCHEME = r"[a-z][a-z0-9+.-]*"
_HOST = r"[a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*\.?|\[[0-9a-f:.]+\]|"  # nothing, as in `file://`
_ORIGIN = re.compile(rf"({_SCHEME})://({_HOST})(?::([0-9]{{1,5}}))?", re.IGNORECASE | re.ASCII)
_PATTERN = re.compile(rf"({_SCHEME})://((?:\*\.)?(?:{_HOST})|\*)(?::([0-9]{{1,5}}|\*))?", re.IGNORECASE | re.ASCII)


class Origin(NamedTuple):
    """An origin in its one form: lower case, and its port where it has any."""

    scheme: str
    host: str
    port: int | str | None  # of a family also "*"

    def __str__(self) -> str:
        """As a browser would send it."""
        port = "" if self.port in (None, _PORTS.get(self.scheme)) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    def includes(self, other: Origin) -> bool:
        """As a family, whose host is `*` or begins with `*.`, or whose port is `*`."""
        if self.scheme != other.scheme or self.port not in (_ANY, other.port):
            return False
        return self.host in (_ANY, other.host) or (self.host.startswith("*.") and other.host.endswith(self.host[1:]))


class Origins:
    """Who may connect. Raises `DefinitionError` for what no browser sends, with what was meant."""

    def __init__(self, owner: str, allowed: Sequence[OriginPattern], allow_missing: bool) -> None:
        self._allow_missing = allow_missing
        self._expressions = [each for each in allowed if isinstance(each, re.Pattern)]
        texts = [each for each in allowed if isinstance(each, str)]
        self._all = _ANY in texts
        self._opaque = _OPAQUE in texts
        origins = [_pattern(owner, each) for each in texts if each not in (_ANY, _OPAQUE)]
        self._families = [each for each in origins if _ANY in each.host or each.port == _ANY]
        self._exact = frozenset(origins)

    def permit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """May who sends these headers connect? Who sends several origins is nobody."""
        given = [value for name, value in headers if name.lower() == b"origin"]
        if not given:
            return self._allow_missing
        return len(given) == 1 and self._permit(given[0].decode("latin-1"))

    def _permit(self, text: str) -> bool:
        if self._all or text == _OPAQUE:
            return self._all or self._opaque
        origin = _read(_ORIGIN, text)
        return origin is not None and (
            origin in self._exact
            or any(family.includes(origin) for family in self._families)
            or any(expression.fullmatch(str(origin)) for expression in self._expressions)
        )


def declared_origins(owner: str, allowed: Any, allow_missing: Any) -> Origins | None:
    """What a class declares; None: anybody may connect. Raises `DefinitionError`."""
    _check_kinds(owner, (_ANY,) if allowed is None else allowed, allow_missing)
    if allowed is None and allow_missing:
        return None
    return Origins(owner, (_ANY,) if allowed is None else tuple(allowed), allow_missing)


def _read(shape: re.Pattern[str], text: str) -> Origin | None:
    found = shape.fullmatch(text)
    if found is None:
        return None
    scheme, host, port = found[1].lower(), found[2].lower(), found[3]
    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    if port == _ANY:
        return Origin(scheme, host, _ANY)
    return Origin(scheme, host, _PORTS.get(scheme) if port is None else int(port))


def _check_kinds(owner: str, allowed: object, allow_missing: object) -> None:
    if isinstance(allowed, str) or not isinstance(allowed, Iterable):
        raise DefinitionError(
            f"{owner}.allowed_origins is {allowed!r}; it is a list like ['https://app.example.com'], or None for all"
        )
    if not isinstance(allow_missing, bool):
        raise DefinitionError(f"{owner}.allow_missing_origin is {allow_missing!r}; it is True or False")
    for each in allowed:
        if not isinstance(each, str | re.Pattern) or (isinstance(each, re.Pattern) and isinstance(each.pattern, bytes)):
            raise DefinitionError(
                f"{owner}.allowed_origins: {each!r} is neither a text nor a regular expression of one"
            )


def _pattern(owner: str, text: str) -> Origin:
    origin = _read(_PATTERN, text)
    if origin is None or origin.scheme in ("ws", "wss") or (isinstance(origin.port, int) and origin.port > 65535):
        raise DefinitionError(f"{owner}.allowed_origins: {text!r} is no origin; {_remedy(text)}")
    return origin


def _remedy(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    host = rest.partition("/")[0]
    if not text.isascii():
        return "write it as browsers send it, an international name in its ASCII form: 'https://xn--...'"
    if not separator:
        return f"it begins with the scheme of the page: 'https://{text.partition('/')[0]}'"
    if scheme.lower() in ("ws", "wss"):
        return f"it is that of the page which connects, '{'https' if scheme.lower() == 'wss' else 'http'}://{host}'"
    if "/" in rest:
        return f"it ends with the host or its port, and has no path: '{scheme}://{host}'"
    return (
        "it is a scheme, a host and a port, such as 'https://app.example.com:8443'; '*' stands for a whole host, a "
        "whole port, or what is before a domain, as in 'https://*.example.com'; others are regular expressions: "
        r"re.compile(r'https://app-[0-9]+\.example\.com')"
    )
