"""
What waits to be read in a generated Python client: answers and pushes. A part of the file that `python` writes.

Nothing here waits: who does is woken through a flag, an `asyncio.Event` or a `threading.Event`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from socketsundso.contract.python.runtime.protocol import _Event
from socketsundso.contract.python.runtime.words import Overrun

_FlagT = TypeVar("_FlagT", bound="_Flag")

_CREDIT = 16
"""Items of an upload that the server takes before it says `more`."""


class _Flag(Protocol):
    def set(self) -> None: ...

    def clear(self) -> None: ...


class _Ended(Exception):
    """There will be no more items, and that is no error."""


class _Source(Generic[_FlagT]):
    """What came and was not taken yet. `ended` says that no more will come, `error` why."""

    error: BaseException | None = None

    def __init__(self, changed: _FlagT, bound: int) -> None:
        self.items: deque[Any] = deque()
        self.bound, self.changed = bound, changed
        self.ended = False

    def put(self, item: Any) -> None:
        self.items.append(item)
        self.changed.set()

    def end(self, error: BaseException | None = None) -> None:
        if not self.ended:
            self.ended, self.error = True, error
            self.changed.set()

    def take(self) -> list[Any]:
        """`[item]`; `[]` where there is none yet, and the flag will tell. Raises the error, or Ended."""
        self.changed.clear()  # before looking: what comes meanwhile sets it again
        with contextlib.suppress(IndexError):
            return [self.items.popleft()]
        if self.ended:
            raise self.error or _Ended
        return []


class _Exchange(_Source[_FlagT]):
    """A message of ours, and what came for it."""

    def __init__(self, event: _Event[Any], ref: int, frame: bytes, flags: Callable[[], _FlagT], bound: int) -> None:
        super().__init__(flags(), bound)
        self.event, self.ref, self.frame = event, ref, frame
        self.sent = self.retry = False
        self.credit, self.credited = _CREDIT, flags()  # of an upload; the flag tells of its end, too

    def must_wait(self) -> bool:
        """Whether no item may be sent yet; the flag `credited` tells."""
        if self.ended or (self.sent and self.credit > 0):
            return False
        self.credited.clear()
        return True

    def must_wait_to_begin(self) -> bool:
        if self.ended or self.sent:
            return False
        self.credited.clear()
        return True

    def end(self, error: BaseException | None = None) -> None:
        super().end(error)
        self.credited.set()


class _Listener(_Source[_FlagT]):
    """Pushes that somebody reads: of one type or of all, of one room or of all. The newest are kept."""

    def __init__(self, changed: _FlagT, bound: int, kind: type[Any] | None, room: str | None) -> None:
        super().__init__(changed, bound)
        self.kind, self.room, self.dropped = kind, room, 0
        self._takes_all = kind is None and room is None
        self.quiet = False  # nobody has begun to read: what falls out is no loss
        self.tells_room = False

    def offer(self, push: Any, room: object) -> None:
        if self._takes_all or self._takes(push, room):
            items = self.items
            if len(items) >= self.bound:
                items.popleft()
                self.dropped += not self.quiet
            items.append((push, room) if self.tells_room else push)
            self.changed.set()

    def _takes(self, push: Any, room: object) -> bool:
        return (self.kind is None or isinstance(push, self.kind)) and self.room in (None, room)

    def take(self) -> list[Any]:
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            raise Overrun(dropped)
        return super().take()
