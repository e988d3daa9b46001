"""
What one side has been sent and nobody has looked at yet: who expects a message takes it out, and every wait has an end.

    mailbox.put({"type": "posted", "msg": "hi"})
    await mailbox.take("posted", within_s=1)   ->   {"type": "posted", "msg": "hi"}

A wait that fails raises an AssertionError which shows what came instead. Knows no connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
Received = Message | bytes | str
"""A message, a binary frame, or a text that is no message."""

_SHOWN = 10
_SHOWN_CHARACTERS = 300


class Mailbox:
    """Messages in the order in which they came. `why_no_more` says why none will follow, None while some may."""

    def __init__(self, why_no_more: Callable[[], str | None] = lambda: None) -> None:
        self._messages: list[Received] = []
        self._why_no_more = why_no_more
        self._news = asyncio.Event()

    def put(self, message: Received) -> None:
        self._messages.append(message)
        self._news.set()

    def wake(self) -> None:
        """Have those who wait look again: there may be nothing more to come."""
        self._news.set()

    async def take(self, wanted: Callable[[Received], bool], what: str, within_s: float) -> Any:
        """
        The first message that is wanted; those before it stay.

        Raises AssertionError where none has come `within_s` seconds, or none can come any more.
        """
        try:
            async with asyncio.timeout(within_s):
                while (found := self._find(wanted)) is None:
                    if (why := self._why_no_more()) is not None:
                        break
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            found, why = self._find(wanted), None
        if found is None:
            ending = f"no {what} within {within_s:g} s" if why is None else f"no {what}: {why}"
            raise AssertionError(f"{ending}; {self.instead()}")
        self._messages.remove(found)
        return found

    async def silence(self, for_s: float) -> None:
        """Raises AssertionError at once where something is here, or comes within the time."""
        try:
            async with asyncio.timeout(for_s):
                while not self._messages and self._why_no_more() is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        if self._messages:
            raise AssertionError(f"silence was expected; {self.instead()}")

    async def ended(self, within_s: float) -> None:
        """Wait until nothing more can come. Raises AssertionError where something still may after the time."""
        try:
            async with asyncio.timeout(within_s):
                while self._why_no_more() is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no close within {within_s:g} s; {self.instead()}") from None

    def _find(self, wanted: Callable[[Received], bool]) -> Received | None:
        return next((message for message in self._messages if wanted(message)), None)

    def instead(self) -> str:
        """What is here, as failures show it."""
        if not self._messages:
            return "nothing came"
        shown = [_shortened(_text(message)) for message in self._messages[:_SHOWN]]
        more = len(self._messages) - _SHOWN
        return "\n  ".join(["what came:", *shown, *([f"and {more} more"] if more > 0 else [])])


def _text(message: Received) -> str:
    return json.dumps(message, ensure_ascii=False) if isinstance(message, dict) else repr(message)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"
