"""
What stands before the application: the answer to probes, and to handshakes that are not let in.

Plain ASGI, within uvicorn's own middleware, which puts the client of `--proxy-headers` into the scope. A connection
that is let in gets the application's own coroutine: nothing of this stays around it, unless connections are counted.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from socketsundso.operations.admission import Admission, Refusal, retry_after_s

logger = logging.getLogger("uvicorn.error")

Headers = list[tuple[bytes, bytes]]

LIVE = "/live"
"""Behind the path of `--health`: whether the process answers at all, which it does while it drains, too."""


class Front:
    """An ASGI application around `app`. `draining` and `refusing` are set once, in this order, when the worker ends."""

    def __init__(
        self, app: Any, admission: Admission, health: str | None, root_path: str, is_full: Callable[[], bool]
    ) -> None:
        """`is_full` says whether `--limit-concurrency` is reached: for requests of HTTP, but for probes."""
        self._app, self._admission, self._is_full = app, admission, is_full
        self._ready = root_path + health if health is not None else None
        self._live = root_path + health + LIVE if health is not None else None
        self.draining = False  # others are to be asked
        self.refusing = False  # no handshake is let in any more

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        kind = scope["type"]
        if kind == "websocket":
            if (refusal := self._admission.refuses(scope["client"], self.refusing)) is not None:
                return refuse(refusal, scope, receive, send)
            if self._admission.counts:
                return self._counted(scope, receive, send)
        elif kind == "http":
            if scope["path"] == self._ready:
                return self._tell_ready(send)
            if scope["path"] == self._live:
                return answer(send, HTTPStatus.OK, "live")
            if self.draining:
                send = _last(send)
            if self._is_full():
                logger.warning("Exceeded concurrency limit.")
                return answer(_last(send), HTTPStatus.SERVICE_UNAVAILABLE, "too many requests under way")
        application: Awaitable[None] = self._app(scope, receive, send)
        return application

    async def _counted(self, scope: Any, receive: Any, send: Any) -> None:
        client = scope["client"]
        self._admission.enter(client)
        try:
            await self._app(scope, receive, send)
        finally:
            self._admission.leave(client)

    def _tell_ready(self, send: Any) -> Awaitable[None]:
        if self.draining:
            return answer(_last(send), HTTPStatus.SERVICE_UNAVAILABLE, "draining")
        return answer(send, HTTPStatus.OK, "ready")


def _last(send: Any) -> Any:
    """`send`, after whose response the connection is closed: the next request is for somebody else."""

    async def send_last(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = [each for each in message.get("headers", ()) if each[0].lower() != b"connection"]
            message = {**message, "headers": [*headers, (b"connection", b"close")]}
        await send(message)

    return send_last


async def answer(send: Any, status: HTTPStatus, text: str) -> None:
    """A line of text, which nobody is to keep."""
    await _respond(send, "http", status, text, [(b"cache-control", b"no-store")])


async def refuse(refusal: Refusal, scope: Any, receive: Any, send: Any) -> None:
    """The answer to a handshake, as HTTP has it; a server that has only ASGI's close says 403."""
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        # another worker lets in at once who is sent away by one that ends
        wait_s = 1 if refusal.reason == "draining" else retry_after_s()
        await _respond(send, "websocket.http", refusal.status, refusal.text, [(b"retry-after", b"%d" % wait_s)])
    else:
        await send({"type": "websocket.close", "code": 1013, "reason": refusal.text})


async def _respond(send: Any, kind: str, status: HTTPStatus, text: str, headers: Headers) -> None:
    body = text.encode() + b"\n"
    described = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": f"{kind}.response.start", "status": int(status), "headers": [*described, *headers]})
    await send({"type": f"{kind}.response.body", "body": body})
