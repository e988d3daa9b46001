"""What is running and how much is left: one line that is written over on a terminal, elsewhere one now and then."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import Any

EVERY_S = 10.0


class Show:
    """Writes past pytest's capture. Set `steps` before the first `step`."""

    def __init__(self, capsys: Any, name: str) -> None:
        self._capsys, self._name = capsys, name
        self.steps, self._done, self._said_at = 0, 0, 0.0

    def __call__(self, text: str) -> None:
        """A result that stays."""
        with self._uncaptured():
            sys.stdout.write(f"{self._clear()}{text}\n")
            sys.stdout.flush()

    def step(self, what: str) -> None:
        """Begin the next of `steps`."""
        self._done += 1
        left = max(0, self.steps - self._done)
        with self._uncaptured():
            if sys.stdout.isatty():
                sys.stdout.write(f"{self._clear()}[{self._name}] {what} (at most {left} left)")
            elif time.monotonic() > self._said_at + EVERY_S:
                self._said_at = time.monotonic()
                sys.stdout.write(f"[{self._name}] {what} (at most {left} left)\n")
            sys.stdout.flush()

    def _uncaptured(self) -> AbstractContextManager[Any]:
        disabled: AbstractContextManager[Any] = self._capsys.disabled()
        return disabled

    @staticmethod
    def _clear() -> str:
        return "\r\x1b[K" if sys.stdout.isatty() else ""
