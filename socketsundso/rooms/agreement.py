"""
What all processes on one backplane say of the history of the same rooms.

Each process holds what it declares on the backplane, for as long as it lives, and leaves a copy there that outlives it.
Who comes with something else for the same pattern is refused while a process with the first declaration lives; after
that the new one counts. Who declares nothing asks for the copies.

Two that come at the same moment must not both be let in: each shows first what it is about to declare, and then looks.
Who sees a rival with a smaller name goes; who sees one with a greater name waits for what becomes of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from socketsundso.backplanes import DECLARATIONS, Backplane, Keep, backoff
from socketsundso.errors import BackplaneUnavailable, DefinitionError
from socketsundso.rooms.history import keep_for, same

logger = logging.getLogger("socketsundso.rooms")

ASK_AGAIN_S = 10.0
"""How old what is known of the others' patterns may be in a process that has patterns of its own."""

TRY_AGAIN_S = 5.0
"""
How long an engine that could not be asked is left alone: everybody who connects meanwhile would wait for it. One that
was away is asked when it is back.
"""

Patterns = Mapping[str, Keep]


class Declared(Struct):
    """One process's patterns as the backplane has them."""

    owner: str
    at: float
    """When it was declared, by the clock of its process: of copies that differ the latest counts."""

    patterns: list[tuple[str, int, float | None]]
    """In their order; seconds are None for ever."""

    standing: bool = False
    """No longer about to be declared."""

    def keeps(self) -> dict[str, Keep]:
        return {
            pattern: Keep(messages, math.inf if seconds is None else seconds)
            for pattern, messages, seconds in self.patterns
        }


class Agreement:
    """What one process has declared, and what it knows of the others."""

    def __init__(self, backplane: Backplane) -> None:
        self._backplane = backplane
        self._own: dict[str, Patterns] = {}  # by digest: those that all know of
        self._due: dict[str, Patterns] = {}  # declared while the engine was away
        self._others: list[Patterns] = []  # of the living, as they were when this process declared the last of its own
        self._copies: list[Patterns] = []  # the latest first
        self._asked_at = self._try_again_at = -math.inf
        self._asking: asyncio.Future[None] | None = None  # for all who want to know meanwhile
        self._settling = asyncio.Lock()

    def settled(self, patterns: Patterns) -> bool:
        """Whether there is nothing to agree on any more."""
        return not patterns or any(same(patterns, each) for each in self._own.values())

    def forget(self) -> None:
        """The backplane is closed, and has released what was held."""
        self._own.clear()
        self._due.clear()
        self._others, self._copies = [], []
        self._asked_at = self._try_again_at = -math.inf

    async def settle(self, patterns: Patterns) -> None:
        """
        Declare to all. Raises DefinitionError where a living process says something else of the same pattern. Where the
        engine is away it is done when that is back.
        """
        async with self._settling:
            digest = _digest(patterns)
            if self.settled(patterns) or (digest in self._due and time.monotonic() < self._try_again_at):
                return
            try:
                await self._settle(digest, patterns)
            except BackplaneUnavailable as error:
                logger.debug("the history of %s is declared to others later: %s", ", ".join(patterns), error)
                self._due[digest] = patterns
                self._try_again_at = time.monotonic() + TRY_AGAIN_S
            else:
                self._due.pop(digest, None)
                self._own[digest] = patterns

    async def _settle(self, digest: str, patterns: Patterns) -> None:
        owner = self._backplane.owner
        key = f"{owner}:{digest}"
        mine = Declared(owner, time.time(), _plain(patterns))
        if self._backplane.state != "connected":
            raise BackplaneUnavailable("the engine is away")
        await self._backplane.hold(DECLARATIONS, key, msgspec.json.encode(mine))
        try:
            others = await self._decided(mine)
            mine.standing = True
            await self._backplane.hold(DECLARATIONS, key, msgspec.json.encode(mine))
            await self._leave_copy(digest, mine, others)
        except BaseException:
            await self._release(key)
            raise

    async def _decided(self, mine: Declared) -> list[Declared]:
        """The others, none of whom says something else. Raises DefinitionError where one does."""
        waits = backoff(first_s=0.01, cap_s=0.2)
        while True:
            others = await self._living()
            self._others = [keeps for each in others if each.standing and (keeps := each.keeps()) != mine.keeps()]
            if (refused := _refusal(mine, others)) is not None:
                raise DefinitionError(refused)
            if not _rivals(mine, others):
                return others
            await asyncio.sleep(next(waits))  # one of them may not have seen us: it says so, goes, or dies

    async def _release(self, key: str) -> None:
        try:
            await self._backplane.release(DECLARATIONS, key)
        except BackplaneUnavailable as error:  # it ends with our next silence
            logger.debug("%s", error)

    async def _living(self) -> list[Declared]:
        held = await self._backplane.held(DECLARATIONS)
        found = [each for value in held.values() if (each := _read(value)) is not None]
        return [each for each in found if each.owner != self._backplane.owner]

    async def _leave_copy(self, digest: str, mine: Declared, others: Iterable[Declared]) -> None:
        """Instead of those that nobody living declares and that say something else."""
        await self._backplane.remember(digest, msgspec.json.encode(mine))
        living = {_digest(each.keeps()) for each in others} | self._own.keys() | {digest}
        for known, value in (await self._backplane.remembered()).items():
            copy = _read(value)
            if copy is None or (known not in living and _differing(mine.keeps(), copy.keeps())):
                await self._backplane.forget(known)

    async def renew(self) -> None:
        """The engine is back, perhaps without what it was told; or a declaration waits for it."""
        own, due = dict(self._own), dict(self._due)
        for digest, patterns in own.items():
            mine = Declared(self._backplane.owner, time.time(), _plain(patterns), standing=True)
            await self._backplane.remember(digest, msgspec.json.encode(mine))
        self._try_again_at = -math.inf
        for patterns in due.values():
            try:
                await self.settle(patterns)
            except DefinitionError as error:
                logger.error("%s", error)

    # ---- what others say of a room

    async def keep_of(self, topic: str, room: str) -> Keep | None:
        """For who declares nothing: as the room is declared, else as it is logged, by whichever process."""
        logged, _ = await asyncio.gather(self._backplane.logged(topic), self._ask())
        return self._declared(room) or logged

    async def known_keep_of(self, room: str) -> Keep | None:
        """For who declares other rooms: as others have declared it, not long ago, or as far as can be known."""
        if time.monotonic() - self._asked_at > ASK_AGAIN_S:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.ensure_future(self._ask_if_possible())
            await asyncio.shield(self._asking)
        return self._declared(room)

    async def _ask_if_possible(self) -> None:
        try:
            await self._ask()
        except BackplaneUnavailable as error:
            logger.debug("what others declare as history is asked for again: %s", error)
            self._asked_at = time.monotonic() - ASK_AGAIN_S + TRY_AGAIN_S

    def _declared(self, room: str) -> Keep | None:
        return next((keep for each in self._copies if (keep := keep_for(room, each)) is not None), None)

    async def _ask(self) -> None:
        values = (await self._backplane.remembered()).values()
        copies = [each for value in values if (each := _read(value)) is not None]
        copies.sort(key=lambda each: each.at, reverse=True)
        self._copies, self._asked_at = [each.keeps() for each in copies], time.monotonic()

    async def require_same(self, room: str, keep: Keep) -> None:
        """
        Where others' patterns are written otherwise, whether they mean the same for this room. Raises DefinitionError.
        """
        if self._elsewhere(room, keep) is None:
            return
        living = [each.keeps() for each in await self._living()]
        self._others = [each for each in self._others if each in living]
        if (other := self._elsewhere(room, keep)) is not None:
            raise DefinitionError(_text(f"the room {room!r}", other, keep))

    def _elsewhere(self, room: str, keep: Keep) -> Keep | None:
        found = (keep_for(room, each) for each in self._others)
        return next((other for other in found if other not in (None, keep)), None)


def _refusal(mine: Declared, others: Iterable[Declared]) -> str | None:
    """Why a declaration cannot be let in, or None."""
    own = mine.keeps()
    before_us = [each for each in others if each.standing]
    before_us += [each for each in _rivals(mine, others) if each.owner < mine.owner]
    for each in before_us:
        for pattern in _differing(own, keeps := each.keeps()):
            return _text(f"rooms that match {pattern!r}", keeps[pattern], own[pattern])
    return None


def _rivals(mine: Declared, others: Iterable[Declared]) -> list[Declared]:
    """Who is about to declare something else; where somebody has declared ours already, that is refused anyway."""
    own, others = mine.keeps(), list(others)
    if any(each.standing and each.keeps() == own for each in others):
        return []
    return [each for each in others if not each.standing and _differing(own, each.keeps())]


def _differing(ours: Patterns, theirs: Patterns) -> list[str]:
    return [pattern for pattern in ours if theirs.get(pattern, ours[pattern]) != ours[pattern]]


def _text(what: str, theirs: Keep, ours: Keep) -> str:
    return (
        f"{what}: another process on this backplane declares {theirs} as history, and this one {ours}; declare the "
        "same, give them prefixes of their own (`?prefix=...`), or stop the other first: what is declared lasts as "
        "long as a process that declares it"
    )


def _plain(patterns: Patterns) -> list[tuple[str, int, float | None]]:
    return [
        (pattern, keep.messages, None if keep.forever else float(keep.seconds)) for pattern, keep in patterns.items()
    ]


def _digest(patterns: Patterns) -> str:
    return hashlib.sha256(msgspec.json.encode(_plain(patterns))).hexdigest()[:32]


def _read(value: bytes) -> Declared | None:
    """None: somebody else wrote there, or a later release."""
    try:
        declared = msgspec.json.decode(value, type=Declared)
        declared.keeps()
    except (msgspec.DecodeError, DefinitionError):
        logger.warning("no declaration of a room's history: %r", value[:100])
        return None
    return declared
