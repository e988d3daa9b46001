"""
Which message is being answered: known to its handler, to hooks that answer for it, and to tasks that it started.

The receive loop notes a plain tuple, since that happens for every message; who asks gets a `Current`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar
from typing import Any, Literal, NamedTuple

from starlette.types import Message

from socketsundso.connection.peer import Peer
from socketsundso.messages import Ref, Route

FrameType = Literal["text", "binary"]

Answering = tuple[Peer, Route | None, Ref | None, type, Exception | None]
"""
Whose message, its route (None: there is no handler for it), its `ref`, the class of its frame, and the exception that
says what is wrong with it, if something is.
"""

NOTHING = (None, None, None, None, None)  # in place of what is being answered

_answering: ContextVar[Answering | None] = ContextVar("socketsundso_answering", default=None)

begin_answer = _answering.set


class Current(NamedTuple):
    """
    The message that is being answered: `{"type":"say","ref":7,"msg":"hi"}` is `Current("say", 7, "text")`.

    `event` is None for a message that no handler is for, `ref` for one that brought none; `frame_type` is "text" or
    "binary", as the peer sent it.
    """

    event: str | None
    ref: int | str | None
    frame_type: FrameType


def answering(peer: Peer) -> Answering | None:
    """What the running code answers to this peer. None: it answers nothing, or somebody else."""
    record: Any = _answering.get()
    return record if record is not None and record[0] is peer else None


def being_answered() -> Answering | None:
    """What the running code answers, whoever that is to."""
    return _answering.get()


def answered_in(context: Context) -> Answering | None:
    """What the code that runs in this context answers."""
    return context.get(_answering)


_valid: ContextVar[Any] = ContextVar("socketsundso_valid", default=None)  # what an overridden `respond` was given


async def respond_with_valid(respond: Callable[[Any], Awaitable[None]], value: Any) -> None:
    """Call a `respond` with a reply that is valid: `is_valid` says so of this very object for as long."""
    before = _valid.set(value)
    try:
        await respond(value)
    finally:
        _valid.reset(before)


def is_valid(value: Any) -> bool:
    """Is it the reply that has just been validated, as it was given to `respond`?"""
    return value is _valid.get()


def end_answer() -> None:
    """Nothing is answered any more."""
    _answering.set(None)


class Answered:
    """
    The requests of a connection that have their answer though their handlers go on.

    Each is asked for once, at its end. Of those that are answered later than that the oldest are forgotten.
    """

    def __init__(self) -> None:
        self._records: dict[int, Answering | None] = {}  # each is itself, whatever other request has the same `ref`

    def __contains__(self, record: Answering | None) -> bool:
        return id(record) in self._records

    def note(self, record: Answering | None) -> None:
        self._records[id(record)] = record
        if len(self._records) > MOST_ANSWERED:
            del self._records[next(iter(self._records))]

    def take(self, record: Answering | None) -> bool:
        return self._records.pop(id(record), None) is not None


MOST_ANSWERED = 1024


class Collected(list[bytes]):
    """
    The answers to the requests of one batch, which leave together; `over`, they have left.

    `request` is the one whose turn it is, `limit` the time that it has.
    """

    over = False
    request: Any = None
    limit: asyncio.Timeout | None = None

    def settle(self, record: Answering | None) -> None:
        """Who answers this, if it is whose turn it is, has answered, though it goes on: nothing stops it any more."""
        if self.request is None or self.request.record is not record:
            return
        self.request.release()
        if self.limit is not None and not self.limit.expired():
            self.limit.reschedule(None)

    async def leave(self, peer: Peer) -> None:
        """Send them, unless there are none, or nobody is there."""
        self.over = True
        told = [answer for answer in self if answer]
        self.clear()
        if told:
            await peer.send_reply(b"[%b]" % b",".join(told))


collecting: ContextVar[Collected | None] = ContextVar("socketsundso_collecting", default=None)


class RequestingPeer(Peer):
    """One whose envelope answers requests alone, and those of a batch together."""

    __slots__ = ()

    async def send_answer(self, body: bytes) -> None:
        batch = collecting.get()
        _, route, ref, _, _ = answering(self) or NOTHING
        if body == b"null" or (route is not None and ref is None):
            return
        if batch is None or batch.over:
            await self.send_body(body)
        else:
            batch.append(body)

    async def _send_close(self, message: Message) -> None:
        """Behind the answers of the batch whose handler closes, if it is one."""
        if (batch := collecting.get()) is not None and not batch.over:
            await batch.leave(self)
        await super()._send_close(message)


def current(peer: Peer) -> Current | None:
    record = answering(peer)
    if record is None:
        return None
    _, route, ref, frame, _ = record
    return Current(route.event if route is not None else None, ref, "text" if frame is str else "binary")
