"""
An ASGI application's other side, in memory: what a server and a client are to it, without either.

Knows ASGI and no messages of this package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Scope

LEAVE_S = 15.0
"""How long an application may go on after its peer has left; an endpoint gives its handlers 10 s by default."""


class Close(NamedTuple):
    """How a connection was closed: `Close(code=1000, reason="")`."""

    code: int
    reason: str = ""


class HandshakeRefused(Exception):
    """
    The connection was not accepted. `status` and `body` are the answer to the handshake: 403 and nothing where the
    application has closed before it accepted, which is what servers make of that.
    """

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status, body.decode(errors="replace"))
        self.status, self.headers, self.body = status, headers, body

    def __str__(self) -> str:
        return f"the handshake was answered with {self.status}: {self.body.decode(errors='replace') or 'no text'}"


class Peer:
    """
    One connection of an application. `on_frame` gets each frame it sends, `on_end` is called once nothing more comes.

    What the application raises is kept in `failure`, and raised by `leave`.
    """

    def __init__(
        self, app: ASGIApp, scope: Scope, on_frame: Callable[[str | bytes], None], on_end: Callable[[], None]
    ) -> None:
        self._app, self._scope, self._on_frame, self._on_end = app, scope, on_frame, on_end
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()  # the handshake is
        self._task: asyncio.Task[None] | None = None
        self._refusal: tuple[int, dict[str, str]] | None = None
        self._body = b""
        self.accepted = False
        self.subprotocol: str | None = None
        self.headers: dict[str, str] = {}
        self.closed: Close | None = None
        self.failure: BaseException | None = None

    async def connect(self, within_s: float) -> None:
        """Raises `HandshakeRefused`, what the application raised, AssertionError where it does not answer."""
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(within_s):
                await self._answered.wait()
        except TimeoutError:
            await self._cut()
            raise AssertionError(f"the handshake was not answered within {within_s:g} s") from None
        except BaseException:
            await self._cut()
            raise
        if not self.accepted:
            await self.leave(1006)
            status, headers = self._refusal or (403, {})
            raise HandshakeRefused(status, headers, self._body)

    def send(self, frame: str | bytes) -> None:
        """Raises AssertionError where the connection is closed: a test that goes on talking has missed something."""
        if (why := self.why_ended) is not None:
            raise AssertionError(f"nothing can be sent: {why}")
        key = "bytes" if isinstance(frame, bytes) else "text"
        self._to_app.put_nowait({"type": "websocket.receive", key: frame})

    async def leave(self, code: int, reason: str = "") -> None:
        """
        Close, and wait until the application has ended. Raises what it raised; AssertionError where it goes on for
        longer than 15 s.
        """
        if self._task is None:
            return
        code, reason = self.closed or (code, reason)
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        done, _ = await asyncio.wait([self._task], timeout=LEAVE_S)
        if not done:
            await self._cut()
            raise AssertionError(f"the application has not ended {LEAVE_S:g} s after its client left")
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    @property
    def why_ended(self) -> str | None:
        """Why nothing more comes; None while the connection is open."""
        if self.closed is not None:
            reason = f" {self.closed.reason!r}" if self.closed.reason else ""
            return f"the connection was closed with {self.closed.code}{reason}"
        if self.failure is not None:
            return f"the application raised {self.failure!r}"
        return "the application has ended" if self._task is not None and self._task.done() else None

    async def _cut(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task], timeout=LEAVE_S)

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._receive)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # whatever it is: the test is told, not the event loop
            self.failure = exc
        finally:
            if self.accepted and self.closed is None and self.failure is None:
                self.closed = Close(1000)  # as servers do when an application returns
            self._answered.set()
            self._on_end()

    async def _receive(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.accepted, self.subprotocol = True, message.get("subprotocol")
            self.headers = _headers(message)
            self._answered.set()
        elif kind == "websocket.send":
            text = message.get("text")
            self._on_frame(text if text is not None else message["bytes"])
        elif kind == "websocket.close":
            self._close(message)
        elif kind == "websocket.http.response.start":
            self._refusal = message["status"], _headers(message)
        elif kind == "websocket.http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self._answered.set()

    def _close(self, message: Message) -> None:
        if self.closed is None:
            self.closed = Close(message.get("code", 1000), message.get("reason") or "")
        self._answered.set()
        self._on_end()


def _headers(message: Any) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in message.get("headers", ())}
