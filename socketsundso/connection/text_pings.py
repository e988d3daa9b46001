"""
Texts that are no messages, and are answered before anything is decoded: `text_pings = {"ping": "pong"}`.

    ping   in
    pong   out, as it is; nothing where that is None

Counts as something that the client has said, and against its rate limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from socketsundso.connection.peer import Peer
from socketsundso.errors import DefinitionError
from socketsundso.messages import Frame, Framing, text_route


class TextPing:
    """One that has come, as a receive loop takes messages."""

    __slots__ = ("_answer", "route")
    error = ref = None

    def __init__(self, framing: Framing, answer: str | None) -> None:
        self.route, self._answer = text_route(framing), None if answer is None else answer.encode()

    def call(self, endpoint: Any, frame: Frame) -> Awaitable[None]:
        """For the loop that takes one message after the other. Raises what a limit raises."""
        return self._call(endpoint)

    async def _call(self, endpoint: Any) -> None:
        if (charge := endpoint._definition.charge) is not None:
            charge(endpoint)
        if (rest := self.send(endpoint._peer)) is not None:
            await rest

    def send(self, peer: Peer) -> Any:
        """Answer it. None: that is done, else the coroutine that does it."""
        return None if self._answer is None or peer.write_text(self._answer) else peer.send_text_reply(self._answer)


def declared_pings(owner: str, given: Any, framing: Framing) -> Mapping[str, TextPing]:
    """Those of a class, compiled. Raises `DefinitionError` for what are no texts."""
    if not isinstance(given, Mapping) or not all(map(_is_pair, given.items())):
        raise DefinitionError(
            f"{owner}.text_pings is {given!r}; it maps texts to their answers, None for none: {{'ping': 'pong'}}"
        )
    return {text: TextPing(framing, answer) for text, answer in given.items()}


def _is_pair(pair: tuple[Any, Any]) -> bool:
    text, answer = pair
    return isinstance(text, str) and (answer is None or isinstance(answer, str))
