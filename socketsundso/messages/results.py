"""
Requests that are answered always, and messages that never are: what an envelope that says so puts around each route.

    None  from the handler of a request     ->   {"jsonrpc":"2.0","result":null,"id":7}
    5     from that of a notification       ->   nothing
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketsundso.messages.framing import Framing
from socketsundso.messages.judge import Frame
from socketsundso.messages.route import CallMessage, Encodes, Route


class Null:
    """What a handler of a request gives that gives nothing."""


NULL = Null()


def answer_requests(route: Route, framing: Framing, is_answered: Callable[[], bool]) -> None:
    """
    Have the route's requests answered, whatever its handler gives, and nothing else. Not those for a stream.

    `is_answered`: the handler that has just ended has done so itself.
    """
    if route.apart in ("stream", "cancel", "item", "complete", "reply", "text"):
        return
    calls_async = route.awaited
    route.encoder = Results(route.encoder, framing.around(b"null"))
    route.encode = route.encoder.encode

    def wrap(call: CallMessage) -> CallMessage:
        async def answered(message: Any, endpoint: Any, frame: Frame) -> Any:
            value = call(message, endpoint, frame)
            if calls_async:
                value = await value
            if message.ref is None:
                return None
            return NULL if value is None and not is_answered() else value

        return answered

    route.put_before(wrap, awaited=True, waits=True)


class Results:
    """Encodes the results of one event, null too."""

    def __init__(self, encoder: Encodes, around: tuple[bytes, bytes]) -> None:
        self._encoder = encoder
        self._encode = encoder.encode
        self._null = b"null".join(around)

    def validate(self, value: Any) -> Any:
        return None if value is NULL else self._encoder.validate(value)

    def encode(self, value: Any) -> bytes:
        return self._null if value is NULL else self._encode(value)

    def encode_valid(self, value: Any) -> bytes:
        return self._null if value is None or value is NULL else self._encoder.encode_valid(value)
