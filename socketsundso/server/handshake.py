"""
The upgrade request and its answers (RFC 6455, section 4).

Bytes in, facts out: nothing here reads or writes. A request that must be refused raises `HandshakeRefused`,
which carries the whole HTTP answer.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import quote, unquote

from uvicorn.config import Config

Header = tuple[bytes, bytes]
Headers = list[Header]

MAX_REQUEST_BYTES = 1 << 16
MAX_COMMON_BYTES = 256  # of a header that is kept for others
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ABSOLUTE = re.compile(rb"(?:http|ws)s?://[^/?]*(.*)", re.IGNORECASE)
_COMMON = frozenset(
    {
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"connection",
        b"host",
        b"origin",
        b"pragma",
        b"sec-websocket-extensions",
        b"sec-websocket-version",
        b"upgrade",
        b"user-agent",
    }
)  # what thousands of clients say in the same words, and none of it a secret
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class HandshakeRefused(Exception):
    """The upgrade request breaks RFC 6455; `status`, `headers` and `text` are the answer."""

    def __init__(self, status: int, text: str, headers: Headers | None = None) -> None:
        self.status, self.text, self.headers = status, text, headers or []

    def __str__(self) -> str:
        return f"{self.status} {self.text}"


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """A valid upgrade request: the names of its headers are in lower case, its key is as it came."""

    target: bytes
    headers: Headers
    key: bytes

    def lines(self, name: bytes) -> list[bytes]:
        """The values of all headers called `name`, in order."""
        return [value for header, value in self.headers if header == name]

    @property
    def subprotocols(self) -> list[str]:
        """What the client offers, its favourite first."""
        return _listed(self.lines(b"sec-websocket-protocol"))


def parse_request(head: bytes, version: str = "1.1") -> UpgradeRequest:
    """
    The request in `head`, as uvicorn's HTTP protocols pass it on, sent with `version` of HTTP.

    Raises `HandshakeRefused`.
    """
    if len(head) > MAX_REQUEST_BYTES:
        raise HandshakeRefused(431, "Request header fields too large")
    request_line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    method, _, rest = request_line.partition(b" ")
    target, _, _version = rest.rpartition(b" ")
    # RFC 6455 4.1: the method of the request MUST be GET
    if method != b"GET":
        raise HandshakeRefused(405, "A WebSocket handshake is a GET request", [(b"Allow", b"GET")])
    # RFC 6455 4.2.1: an HTTP/1.1 or higher GET request; RFC 9110 7.8: Upgrade in an HTTP/1.0 request is ignored
    if version == "1.0":
        raise HandshakeRefused(400, "A WebSocket handshake needs HTTP/1.1")
    if not target.isascii():
        raise HandshakeRefused(400, "The request target is not ASCII")
    # RFC 6455 4.2.1: or an absolute HTTP/HTTPS URI containing the /resource name/
    if absolute := _ABSOLUTE.fullmatch(target):
        target = absolute[1] if absolute[1].startswith(b"/") else b"/" + absolute[1]
    headers = [_header(line) for line in lines]
    return UpgradeRequest(target, headers, _checked_key(headers))


def _header(line: bytes) -> Header:
    """Name and value of a header; of a common one the same tuple for all connections, which weigh less by that."""
    name, _, value = line.partition(b":")
    header = name.lower(), value.strip()
    return cast(Header, _kept(header)) if header[0] in _COMMON and len(line) <= MAX_COMMON_BYTES else header


@functools.lru_cache(maxsize=1024)
def _kept(value: Any) -> Any:
    """An equal value, of an earlier request if there was one."""
    return value


def _checked_key(headers: Headers) -> bytes:
    _check_host(headers)
    _check_body(headers)
    _check_version([value for name, value in headers if name == b"sec-websocket-version"])
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    if len(keys) != 1:
        raise HandshakeRefused(400, "One Sec-WebSocket-Key header is needed")
    try:
        # RFC 6455 4.2.1: a base64-encoded value that, when decoded, is 16 bytes in length
        valid = len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        valid = False
    if not valid:
        raise HandshakeRefused(400, "Sec-WebSocket-Key is not the base64 of 16 bytes")
    return keys[0]


def _check_host(headers: Headers) -> None:
    if sum(name == b"host" for name, _ in headers) != 1:
        raise HandshakeRefused(400, "One Host header is needed")


def _check_body(headers: Headers) -> None:
    # whoever takes it for frames and whoever takes it for a body would disagree on where the frames begin
    if any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers):
        raise HandshakeRefused(400, "A WebSocket handshake has no body")


def _check_version(versions: list[bytes]) -> None:
    supported = (b"Sec-WebSocket-Version", b"13")
    if not versions:
        raise HandshakeRefused(400, "The Sec-WebSocket-Version header is missing", [supported])
    if versions != [b"13"]:
        # RFC 6455 4.2.2: an appropriate HTTP error code (such as 426) and a Sec-WebSocket-Version header
        # RFC 9110 15.5.22: a server MUST send an Upgrade header field in a 426 response
        raise HandshakeRefused(
            426,
            "This server speaks WebSocket version 13",
            [supported, (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")],
        )


def build_scope(
    request: UpgradeRequest,
    config: Config,
    *,
    server: tuple[str, int | None] | None,
    client: tuple[str, int] | None,
    scheme: str,
    state: dict[str, Any],
    extensions: dict[str, Any],
) -> dict[str, Any]:
    """The ASGI scope of `request`, with the values that uvicorn's own protocols give."""
    raw_path, _, query_string = request.target.partition(b"?")
    return {
        "type": "websocket",
        "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": scheme,
        "server": _kept(server),
        "client": client,
        "root_path": config.root_path,
        "path": config.root_path + unquote(raw_path.decode("ascii")),
        "raw_path": config.root_path.encode() + raw_path,
        "query_string": query_string,
        "headers": request.headers,
        "subprotocols": request.subprotocols,
        "state": state,
        "extensions": extensions,
    }


def _listed(lines: list[bytes]) -> list[str]:
    tokens = (token.strip() for line in lines for token in line.decode("latin-1").split(","))
    return [token for token in tokens if token]


def accept_response(request: UpgradeRequest, headers: Headers) -> bytes:
    """The 101 response to `request`, with `headers` behind the ones that RFC 6455 asks for."""
    accept = base64.b64encode(hashlib.sha1(request.key + _GUID, usedforsecurity=False).digest())
    return _head(
        101,
        [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", accept),
            *headers,
        ],
    )


def response_head(status: int, headers: Headers) -> bytes:
    """Status line and headers of any other response. RuntimeError for what HTTP does not allow."""
    return _head(status, headers)


def plain_response(status: int, text: str, headers: Iterable[Header] = ()) -> bytes:
    """A whole response with a text body, after which the connection closes."""
    body = text.encode()
    fixed = [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
    ]
    return _head(status, [*fixed, *headers]) + body


def _head(status: int, headers: Headers) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode()]
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise RuntimeError(f"Invalid HTTP header name: {name!r}")
        if _FORBIDDEN_IN_VALUE.search(value):
            raise RuntimeError(f"Invalid HTTP header value: {value!r}")
        lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


def target_without_query(scope: Mapping[str, Any]) -> str:
    """For logs: `/ws?***`. Browsers can send a token in the query only."""
    path = quote(scope["path"])
    return f"{path}?***" if scope["query_string"] else path
