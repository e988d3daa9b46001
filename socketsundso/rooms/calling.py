"""
Calls of hubs: one question to many connections, in all processes, and what they say.

Each process asks its own connections. It says first whom, so that it is known who is waited for, then what each of them
has said, as it comes, and at last that it is done. An answer is validated where the connection is, and travels as JSON.
Knows no engine; a connection is a `Reachable`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from msgspec import Struct
from starlette.websockets import WebSocketDisconnect

from socketsundso.errors import CallFailed, CallRefused, CallTimeout, InvalidAnswer
from socketsundso.messages import revived
from socketsundso.rooms.room import Reachable

logger = logging.getLogger("socketsundso.rooms")

IDS_AT_ONCE = 4096
"""So many connections are announced in one payload."""


class Ask(Struct, tag="call"):
    name: str
    """What the question is called: connections whose class does not list it are not asked."""

    question: bytes
    """As JSON, without a `ref`."""

    timeout_s: float


class Said(Struct, array_like=True):
    """What one connection said: its answer, as JSON, or why there is none."""

    connection: str
    answer: bytes | None = None
    refused: tuple[str, str | None] | None = None
    """With a code and a message, of the client; or the server's own: `gone`, `overrun`, `too_large`."""

    invalid: list[dict[str, Any]] | None = None
    """Pydantic's errors, without what was given."""

    @property
    def failure(self) -> CallFailed:
        if self.refused is not None:
            return CallRefused(*self.refused)
        if self.invalid is not None:
            return InvalidAnswer(revived(self.invalid))
        return CallTimeout("the client has not answered in time")


class Part(Protocol):
    """Of what one process says: whom it asks, what they said, and whether that was all."""

    asked: list[str]
    said: list[Said]
    last: bool


class Poll:
    """
    One call: who is asked, what they said, and whom to wait for. `unheard` are the processes that have not said yet
    whom they ask; None: nobody knows who there is.
    """

    def __init__(self, own: str, unheard: set[str] | None, first: bool) -> None:
        self.own, self._first = own, first  # the first answer is all that is wanted
        self.unheard = None if unheard is None else unheard | {own}
        self._speaking: set[str] = {own}  # processes that have more to say
        self.asked: dict[str, Said | None] = {}  # by connection, in the order in which it became known
        self.answers: list[Said] = []  # in the order in which they came
        self.timed_out = self.was_cut_off = False
        self._over = asyncio.Event()

    def hear(self, owner: str, part: Part) -> None:
        if self.unheard is not None:
            self.unheard.discard(owner)
        (self._speaking.discard if part.last else self._speaking.add)(owner)
        for connection in part.asked:
            self.asked.setdefault(connection, None)
        for said in part.said:
            self.asked[said.connection] = said
            if said.answer is not None:
                self.answers.append(said)
        self._look()

    def _look(self) -> None:
        if (self._first and self.answers) or not (self._speaking or self.unheard is None or self.unheard):
            self._over.set()

    def be_content(self) -> set[str]:
        """Whoever has not spoken until now is not waited for any more. Gives those who should have."""
        silent, self.unheard = self.unheard or set(), set()
        self._look()
        return silent

    def give_up(self) -> None:
        """The other processes cannot be heard any more."""
        self.was_cut_off = True
        self._speaking &= {self.own}
        self.be_content()

    @property
    def waits_elsewhere(self) -> bool:
        """Whether other processes have still to be told that nobody waits."""
        return not self.was_cut_off and bool(self.unheard is None or self.unheard or self._speaking - {self.own})

    async def over(self) -> None:
        """Wait until there is nobody to wait for."""
        await self._over.wait()

    @property
    def said(self) -> list[Said]:
        """What each of those that were asked said; who has said nothing has not answered in time."""
        return [Said(connection) if said is None else said for connection, said in self.asked.items()]

    def failure(self) -> CallFailed:
        """Why there is no answer: what a client says counts for more than what none of them did."""
        failures = [said.failure for said in self.said]
        return min(failures, key=_rank, default=CallRefused("gone", "nobody is there"))


def _rank(failure: CallFailed) -> int:
    if isinstance(failure, CallRefused):
        return 0 if failure.code != "gone" else 3
    return 1 if isinstance(failure, InvalidAnswer) else 2


class Told(Struct):
    """A `Part`, where it is made."""

    asked: list[str] = []
    said: list[Said] = []
    last: bool = False


async def inquire(ask: Ask, reached: Iterable[Reachable], tell: Callable[[Told], bool]) -> None:
    """Ask those that can be asked, at once, and tell what they say. `tell` gives whether it could."""

    async def listen_to(each: Reachable) -> None:
        said = await _said_by(each, ask)
        if not tell(Told(said=[said])) and said.answer is not None:
            tell(Told(said=[Said(each.id, refused=("too_large", "no engine carries this answer"))]))

    try:
        asked = [each for each in reached if each.asks(ask.name)]
        ids = [each.id for each in asked]
        for start in range(0, len(ids), IDS_AT_ONCE):
            tell(Told(asked=ids[start : start + IDS_AT_ONCE]))
        await asyncio.gather(*map(listen_to, asked))
    finally:
        tell(Told(last=True))


async def _said_by(each: Reachable, ask: Ask) -> Said:
    try:
        return Said(each.id, await each.ask(ask.name, ask.question, ask.timeout_s))
    except CallRefused as refusal:
        return Said(each.id, refused=(refusal.code, refusal.message))
    except InvalidAnswer as wrong:
        return Said(each.id, invalid=[_portable(error) for error in wrong.errors])
    except CallTimeout:
        return Said(each.id)
    except WebSocketDisconnect:
        return Said(each.id, refused=("gone", None))
    except Exception:  # of a validator
        logger.exception("the answer of %s to %r could not be read", each.id, ask.name)
        return Said(each.id, refused=("internal_error", None))


def _portable(error: dict[str, Any]) -> dict[str, Any]:
    return {"type": error["type"], "loc": error["loc"], "msg": error["msg"]}
