"""Applications as lists of steps, each of which may be a mistake."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

Log = list[Any]
Message = dict[str, Any]
App = Callable[[Any, Any, Any, Log], Awaitable[None]]

ACCEPT: Message = {"type": "websocket.accept"}
SEND: Message = {"type": "websocket.send", "text": "x"}
CLOSE_IT: Message = {"type": "websocket.close"}
REJECT = CLOSE_IT
START: Message = {"type": "websocket.http.response.start", "status": 418, "headers": [(b"x-tea", b"1")]}
PART: Message = {"type": "websocket.http.response.body", "body": b"short ", "more_body": True}
LAST: Message = {"type": "websocket.http.response.body", "body": b"and stout"}

RECEIVE = "receive"
ALL = "receive until the disconnect"
Step = Message | str | type[BaseException] | Callable[[], Any]


def doing(*steps: Step) -> App:
    """Receive and note what came, send a message and note what that raised, raise an exception, or call and await."""

    async def app(scope: Any, receive: Any, send: Any, log: Log) -> None:
        for step in steps:
            if isinstance(step, dict):
                log.append(await outcome(send(step)))
            elif isinstance(step, str):
                while note(log, await receive())["type"] != "websocket.disconnect" and step is ALL:
                    pass
            elif isinstance(step, type):
                raise step
            elif inspect.isawaitable(result := step()):
                await result

    return app


async def outcome(sending: Awaitable[None]) -> str:
    try:
        await sending
    except Exception as exc:
        return type(exc).__name__
    return "ok"


def note(log: Log, message: Message) -> Message:
    """An entry that is missing means the same as one that is empty."""
    log.append(tuple(message[key] for key in ("type", "text", "bytes", "code", "reason") if message.get(key)))
    return message
