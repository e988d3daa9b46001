"""
The HTTP response of an application that does not accept: ASGI's `websocket.http.response` extension.

ASGI messages in, bytes out. The body streams: nothing is held back but the start, until the first part of
the body tells whether its length is known.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

from socketsundso.server.handshake import Headers, response_head

_NO_BODY = (204, 304)


class Rejection:
    """One response under way. `finished` becomes true with the last part of the body."""

    __slots__ = ("_chunked", "_headers", "_started", "_status", "finished")

    def __init__(self, start: dict[str, Any], default_headers: Headers) -> None:
        """Takes the message `websocket.http.response.start`; RuntimeError if its status cannot be one."""
        self._status: int = start["status"]
        if not 200 <= self._status < 600:
            raise RuntimeError(f"Invalid HTTP status code '{self._status}' in response.")
        self._headers = [(bytes(name), bytes(value)) for name, value in start.get("headers", ())]
        names = {name.lower() for name, _ in self._headers}
        defaults = [
            *default_headers,
            (b"date", formatdate(usegmt=True).encode()),
            (b"content-type", b"text/plain; charset=utf-8"),
        ]
        for name, value in defaults:
            if name.lower() not in names:
                names.add(name.lower())
                self._headers.append((name, value))
        self._started = self._chunked = self.finished = False

    def body(self, message: dict[str, Any]) -> bytes:
        """The bytes for one `websocket.http.response.body`, with the head before the first."""
        if message["type"] != "websocket.http.response.body":
            raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{message['type']}'.")
        part: bytes = message.get("body", b"")
        self.finished = not message.get("more_body", False)
        head = b"" if self._started else self._head(part)
        self._started = True
        if self._status in _NO_BODY:
            return head
        if not self._chunked:
            return head + part
        chunk = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
        return head + chunk + (b"0\r\n\r\n" if self.finished else b"")

    def _head(self, first: bytes) -> bytes:
        # the connection ends with the response: whatever the application says about keeping it is wrong
        headers = [item for item in self._headers if item[0].lower() not in (b"connection", b"transfer-encoding")]
        headers.append((b"connection", b"close"))
        if self._status not in _NO_BODY and not any(name.lower() == b"content-length" for name, _ in headers):
            if self.finished:
                headers.append((b"content-length", b"%d" % len(first)))
            else:
                self._chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
        return response_head(self._status, headers)
