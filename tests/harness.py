"""An in-memory ASGI peer: feeds frames to an endpoint and keeps what it sends. No server, no thread, no clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

Frame = str | bytes | dict[str, Any]


class Peer:
    """One connection. `frames` are received in turn, then the peer leaves with `code`."""

    def __init__(self, app: Any, frames: Iterable[Frame] = (), *, code: int | None = 1000, **scope: Any) -> None:
        self.app = app
        self.incoming: list[dict[str, Any]] = [{"type": "websocket.connect"}, *map(as_event, frames)]
        if code is not None:
            self.incoming.append({"type": "websocket.disconnect", "code": code})
        self.sent: list[dict[str, Any]] = []
        self.gone = False  # set it, and every send fails as uvicorn's do
        self.before_receive: Callable[[], None] = lambda: None
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/",
            "headers": [],
            "query_string": b"",
            "subprotocols": [],
            "client": ("192.0.2.1", 1234),
            "extensions": {"websocket.http.response": {}},
            **scope,
        }

    async def receive(self) -> dict[str, Any]:
        self.before_receive()
        if not self.incoming:
            await asyncio.get_running_loop().create_future()  # a peer that stays silent
        return self.incoming.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        if self.gone:
            raise OSError("the peer is gone")
        self.sent.append(message)

    async def run(self) -> Peer:
        await self.app(self.scope, self.receive, self.send)
        return self

    @property
    def answers(self) -> list[Any]:
        return [json.loads(m["text"]) for m in self.sent if m["type"] == "websocket.send"]

    @property
    def closed(self) -> int | None:
        """The code that the endpoint closed with."""
        return next((m.get("code", 1000) for m in self.sent if m["type"] == "websocket.close"), None)


def as_event(frame: Frame) -> dict[str, Any]:
    if isinstance(frame, bytes):
        return {"type": "websocket.receive", "bytes": frame}
    return {"type": "websocket.receive", "text": frame if isinstance(frame, str) else json.dumps(frame)}


def talk(app: Any, *frames: Frame, **options: Any) -> Peer:
    """Connect, send all frames, leave; the peer then holds what came back."""
    return asyncio.run(Peer(app, frames, **options).run())


def ask(app: Any, frame: Frame) -> Any:
    """The one answer to one frame."""
    (answer,) = talk(app, frame).answers
    return answer
