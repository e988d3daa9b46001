"""
What the backplanes on an engine have in common: one supervised connection and a bounded outbox.

A subclass says how to connect, subscribe, write and notice a loss; this class decides when. The supervisor
is the only one that connects: it tries with growing, jittered waits, puts every subscription and held entry
back, and tells the receiver. Everything else either works on the present link or raises
`BackplaneUnavailable`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from socketsundso.backplanes.base import (
    DEFAULT_PREFIX,
    PRESENCE_TTL_S,
    Delivery,
    Keep,
    Log,
    Receiver,
    State,
    backoff,
    encode_topic,
    ended,
    new_owner,
)
from socketsundso.errors import BackplaneUnavailable

logger = logging.getLogger("socketsundso.backplane")

CALL_TIMEOUT_S = 5.0
"""The longest that any single question to an engine may take."""

FAREWELL_S = 1.0
"""The longest that the end of a backplane may take."""

CLOSE_S = 1.0
"""How long a link may take to close; what is left of it then is forgotten."""

OUTBOX_BYTES = 8 << 20
"""What may wait for an engine that reads too slowly; beyond it, `publish` raises."""

LEASE_SHARE = 0.5
"""Part of the time-to-live that what is held lasts on the engine without a beat."""

SILENCE_SHARE = 0.4
"""
Part of the time-to-live that a process without a lease is not taken for dead: longer than from one beat to the next.
The lease of a living one may be gone, since the engine was emptied, or throws out what it has no place for.
"""

BEAT_AT_ONCE = 500
"""Entries that are put to the engine in one go."""

MAX_PAYLOAD_BYTES = 8 << 20
"""
The largest payload. Redis would throw out every subscriber for one above 32 MiB (`client-output-buffer-limit`).
"""

Appended = tuple[int, str]
"""Number and epoch of a payload."""

HeldKey = tuple[str, str]
"""Topic and key of an entry."""

T = TypeVar("T")


class Engine(ABC):
    """A backplane on a server reached over the network. `name` is what logs call it."""

    name = "engine"
    errors: tuple[type[Exception], ...] = ()
    """What says that the engine is away: its library's exceptions, and those of any network."""

    def __init__(self, where: str, options: Mapping[str, Any]) -> None:
        self.where = where  # the URL as errors and logs show it, without user and password
        self.prefix: str = options.get("prefix", DEFAULT_PREFIX)
        self.ttl_s: float = options.get("presence_ttl_s", PRESENCE_TTL_S)
        self.owner = new_owner()
        self.state: State = "closed"
        self._receiver: Receiver
        self._supervisor: asyncio.Task[None] | None = None
        self._linked = False  # commands can be sent; True a moment before `state` says "connected"
        self._topics: dict[str, str] = {}  # encoded topic -> topic, of every subscription
        self._held: dict[HeldKey, bytes] = {}  # put back after every loss
        self._outbox: list[tuple[str, bytes]] = []  # (encoded topic, payload) waiting for the writer
        self._outbox_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[bool]] = set()  # unsubscriptions under way
        self._published = 0  # payloads that ever came into the outbox
        self._settled = 0  # those of them that the engine has, or that a loss took with it
        self._settling: asyncio.Future[None] | None = None  # done when `_settled` has grown
        self._unsent = 0  # payloads that a loss took with it; `flush` compares before and after
        self._unstored: set[HeldKey] = set()  # of `_held`: what the engine has not taken yet
        self._leased = False  # the engine has had our lease, on this link
        self._forgotten = asyncio.Event()  # the engine has lost what we held: the next beat is due at once
        self._silent: dict[str, float | None] = {}  # owner -> when it was first seen without a lease; None: it has one
        self._writes = True  # the engine took what was last published
        self._keeps = True  # the engine took what is held when it was last told

    @property
    def max_payload_bytes(self) -> int:
        """The largest payload that the engine takes, and can hand on, without harm to its other users."""
        return MAX_PAYLOAD_BYTES

    # ---- what a subclass knows

    @abstractmethod
    async def _connect(self) -> None:
        """Open the link; raises one of `errors`, OSError or TimeoutError."""

    @abstractmethod
    async def _serve(self) -> None:
        """Read until the link is lost, then return or raise."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Drop the link, whatever state it is in. Raises nothing."""

    @abstractmethod
    async def _subscribe(self, encoded: list[str]) -> None:
        """Subscribe and wait for the engine's confirmation."""

    @abstractmethod
    async def _unsubscribe(self, encoded: str) -> None:
        """Unsubscribe, unless the topic has come back into `_topics` before the command could be sent."""

    @abstractmethod
    async def _write(self, batch: list[tuple[str, bytes]]) -> None:
        """Publish all of it, in order."""

    @abstractmethod
    async def _append(self, encoded: str, payload: bytes, keep: Keep) -> Appended: ...

    @abstractmethod
    async def _append_many(self, encoded: str, payloads: list[bytes], keep: Keep) -> list[Appended | Exception]:
        """In order, without waiting for each: what became of every one."""

    @abstractmethod
    async def _read(self, encoded: str, keep: Keep, after: int | None) -> Log: ...

    @abstractmethod
    async def _disown(self, encoded: str, epoch: str) -> None: ...

    @abstractmethod
    async def _logged(self, encoded: str) -> Keep | None: ...

    @abstractmethod
    async def _hold(self, keys: Collection[HeldKey]) -> bool:
        """
        Store these of `_held` under this owner until the next beat is overdue, and its lease. Returns whether the
        engine had forgotten a part of what had been stored.
        """

    @abstractmethod
    async def _release(self, keys: Collection[HeldKey]) -> None: ...

    @abstractmethod
    async def _held_by_all(self, encoded: str) -> dict[str, bytes]: ...

    @abstractmethod
    async def _alive(self, owners: frozenset[str]) -> frozenset[str]:
        """Those that have a lease."""

    @abstractmethod
    async def _remember(self, key: str, value: bytes) -> None: ...

    @abstractmethod
    async def _forget(self, key: str) -> None: ...

    @abstractmethod
    async def _remembered(self) -> dict[str, bytes]: ...

    # ---- life

    async def open(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.state = "reconnecting"
        tried = asyncio.Event()
        self._supervisor = asyncio.create_task(self._supervise(tried), name=f"{self.name} backplane")
        await tried.wait()

    async def aclose(self) -> None:
        if self._supervisor is not None:
            await ended(self._supervisor, unless=lambda: self.state == "closed")  # its farewell is not interrupted

    async def _end(self) -> None:
        """
        Release what is held and drop the link. Part of the supervisor, so that it also happens when nobody closes
        the backplane and the event loop ends, which cancels all tasks.
        """
        self.state = "closed"
        if self._linked:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._say_farewell()
        self._linked = False
        await ended(*filter(None, (self._writer, *self._errands)))
        await self._disconnect()

    async def _say_farewell(self) -> None:
        held, self._held = list(self._held), {}
        for keys in _batches(held):
            await self._quietly(self._release(keys))
        if self._writer is not None:
            await asyncio.wait({self._writer})
        await self._write_out()  # what the writer has left, if the end of the event loop was its own end

    async def _quietly(self, call: Awaitable[object]) -> bool:
        """For what the supervisor will do again, or a time-to-live will end, if the engine is away: False."""
        try:
            await self._ask(call)
        except BackplaneUnavailable as error:
            logger.debug("%s", error)
            return False
        return True

    async def _supervise(self, tried: asyncio.Event) -> None:
        try:
            await self._stay_linked(tried)
        finally:
            tried.set()
            await self._end()

    async def _stay_linked(self, tried: asyncio.Event) -> None:
        waits, known = backoff(), False  # that the engine is, or has been, away
        while True:
            try:
                await asyncio.wait_for(self._connect(), CALL_TIMEOUT_S)
                self._linked = True
                size = len(self._topics) + len(self._held)
                await asyncio.wait_for(self._put_back(), CALL_TIMEOUT_S + size / 1000)
            except Exception as error:  # whatever the library raises: a supervisor that ends restores nothing
                if not known:
                    self._warn_of_loss(_said_by(error))
                    known = True
                await self._lost()
                tried.set()
                await asyncio.sleep(next(waits))
                continue
            waits, self.state = backoff(), "connected"
            tried.set()
            if known:
                logger.warning("%s at %s is back; every subscription is restored", self.name, self.where)
                self._receiver.on_restored()
            self._warn_of_loss(await self._serve_until_lost())
            known = True
            await self._lost()

    def _warn_of_loss(self, why: str) -> None:
        # before anybody hears of the loss: who closes the backplane then ends the supervisor, wherever it is
        logger.warning("%s at %s is away: %s; rooms go on in this process only", self.name, self.where, why)

    async def _serve_until_lost(self) -> str:
        beat = asyncio.create_task(self._beat())
        serve = asyncio.create_task(self._serve())
        try:
            done, _ = await asyncio.wait({beat, serve}, return_when=asyncio.FIRST_COMPLETED)
            error = next(iter(done)).exception()
            if error is not None and not isinstance(error, self.errors):
                logger.error("%s backplane", self.name, exc_info=error)
            return "connection lost" if error is None else _said_by(error)
        finally:
            await ended(beat, serve)

    async def _lost(self) -> None:
        self._linked = False
        if self.state == "connected":
            self.state = "reconnecting"
            self._receiver.on_lost()
        self._unsent += len(self._outbox)
        self._settle(len(self._outbox))
        self._outbox.clear()
        self._outbox_bytes = 0
        self._leased = False
        await self._disconnect()

    async def _put_back(self) -> None:
        if self._topics:
            await self._subscribe(list(self._topics))
        await self._keep_held()

    async def _beat(self) -> None:
        """
        A sign of life every third of the time-to-live, so that one lost beat ends nothing.

        After one that came too late, since this process or the engine was stopped, the others may have taken us for
        dead. They are told twice: who had asked the engine a moment before judges after the first time. They are told,
        too, where the engine had forgotten what we hold: who has asked it meanwhile knows nothing of it.
        """
        kept_at, told = time.monotonic(), True
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._forgotten.wait(), self.ttl_s / 3)
            forgotten = self._forgotten.is_set()
            self._forgotten.clear()
            began_at = time.monotonic()
            forgotten = await self._keep_held() or forgotten
            if self._keeps:
                late = time.monotonic() - kept_at > self.ttl_s * LEASE_SHARE
                if late or not told or forgotten:
                    self._receiver.on_restored()
                kept_at, told = began_at, not late
            elif forgotten:
                self._forgotten.set()
                await asyncio.sleep(self.ttl_s / 3)

    async def _keep_held(self) -> bool:
        """
        Returns whether the engine had forgotten a part of it.

        A failure is no loss of the link: an engine that is full, or has no JetStream, carries payloads all the same.
        """
        forgotten = False
        if not self._held:
            self._leased = False  # nobody renews the lease
        try:
            for keys in _batches(list(self._held)):
                sent = {key: self._held[key] for key in keys if key in self._held}
                forgotten = await self._ask(self._hold(sent)) or forgotten
                self._leased = True
                self._unstored.difference_update(sent)
                await self._make_true(sent)
        except BackplaneUnavailable as error:
            if self._keeps:
                logger.warning("what is held is not kept for other processes (presence): %s", error)
            self._keeps = False
        else:
            self._keeps = True
        return forgotten

    async def _make_true(self, sent: Mapping[HeldKey, bytes]) -> None:
        """What was changed or released while it was sent, perhaps by another link, may have been overtaken by that."""
        released = [key for key in sent if key not in self._held]
        changed = [key for key, value in sent.items() if self._held.get(key, value) is not value]
        if released:
            await self._ask(self._release(released))
        if changed:
            await self._ask(self._hold(changed))

    async def _ask(self, call: Awaitable[T]) -> T:
        """Await one question to the engine; bounded, and with one exception for all the ways of failing."""
        try:
            return await asyncio.wait_for(call, CALL_TIMEOUT_S)
        except self.errors as error:
            raise BackplaneUnavailable(f"{self.name} at {self.where}: {_said_by(error)}") from error

    def _require_link(self) -> None:
        if not self._linked:
            raise BackplaneUnavailable(f"{self.name} at {self.where} is away")

    def _require_fit(self, payload: bytes) -> None:
        if len(payload) > self.max_payload_bytes:
            raise BackplaneUnavailable(
                f"{self.name} at {self.where} takes payloads of at most {self.max_payload_bytes} bytes, "
                f"not {len(payload)}"
            )

    # ---- publish/subscribe

    async def subscribe(self, topic: str) -> None:
        encoded = encode_topic(topic)
        self._topics[encoded] = topic
        if self._linked:
            # A link lost meanwhile is no error: the supervisor subscribes to all of `_topics` again.
            await self._quietly(self._subscribe([encoded]))

    def unsubscribe(self, topic: str) -> None:
        encoded = encode_topic(topic)
        self._topics.pop(encoded, None)
        if self._linked:
            task = asyncio.create_task(self._quietly(self._unsubscribe(encoded)))
            self._errands.add(task)
            task.add_done_callback(self._errands.discard)

    def _arrived(self, encoded: str, payload: bytes, seq: int = 0, epoch: str = "") -> None:
        topic = self._topics.get(encoded)
        if topic is None:  # left while the payload was under way
            return
        try:
            self._receiver.on_delivery(Delivery(topic, payload, seq, epoch))
        except Exception:  # one payload must not end the link that all the others come by
            logger.exception("a payload for %r could not be delivered", topic)

    def publish(self, topics: tuple[str, ...], payload: bytes) -> None:
        self._require_link()
        self._require_fit(payload)
        if self._outbox_bytes > OUTBOX_BYTES:
            raise BackplaneUnavailable(f"{self.name} at {self.where} takes payloads too slowly")
        for topic in topics:
            self._outbox.append((encode_topic(topic), payload))
            self._outbox_bytes += len(payload)
            self._published += 1
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_out())

    async def _write_out(self) -> None:
        while self._outbox:
            batch, self._outbox = self._outbox, []
            try:
                await asyncio.wait_for(self._write(batch), CALL_TIMEOUT_S)
            except self.errors as error:
                self._unsent += len(batch)
                level = logging.WARNING if self._writes and self._linked else logging.INFO
                logger.log(level, "%s: %d payloads may be lost: %s", self.name, len(batch), _said_by(error))
                self._writes = False
            except asyncio.CancelledError:
                self._unsent += len(batch)
                raise
            else:
                self._writes = True
            finally:
                self._settle(len(batch))
            self._outbox_bytes = sum(len(payload) for _, payload in self._outbox)

    async def flush(self) -> None:
        unsent = self._unsent
        await self._written()
        if self._unsent != unsent:
            raise BackplaneUnavailable(f"{self.name} at {self.where} went away during a publish")

    async def _written(self) -> None:
        """What was published before, and not what others publish meanwhile, who may never come to an end."""
        published = self._published
        while self._settled < published:
            if self._settling is None:
                self._settling = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._settling)

    def _settle(self, payloads: int) -> None:
        self._settled += payloads
        if payloads and self._settling is not None:
            self._settling.set_result(None)
            self._settling = None

    # ---- logs and held entries

    async def append(self, topic: str, payload: bytes, keep: Keep) -> Appended:
        self._require_link()
        self._require_fit(payload)
        await self._written()  # what was published before arrives before
        return await self._ask(self._append(encode_topic(topic), payload, keep))

    async def append_many(self, topic: str, payloads: list[bytes], keep: Keep) -> list[Appended]:
        self._require_link()
        for payload in payloads:
            self._require_fit(payload)
        await self._written()
        taken: list[Appended] = []
        for each in await self._ask(self._append_many(encode_topic(topic), payloads, keep)):
            if isinstance(each, Exception):
                raise BackplaneUnavailable(f"{self.name} at {self.where}: {_said_by(each)}", taken=len(taken)) from each
            taken.append(each)
        return taken

    async def read(self, topic: str, keep: Keep, after: int | None = None) -> Log:
        self._require_link()
        return await self._ask(self._read(encode_topic(topic), keep, after))

    async def disown(self, topic: str, epoch: str) -> None:
        self._require_link()
        await self._ask(self._disown(encode_topic(topic), epoch))

    async def logged(self, topic: str) -> Keep | None:
        self._require_link()
        return await self._ask(self._logged(encode_topic(topic)))

    async def hold(self, topic: str, key: str, value: bytes) -> None:
        entry = (topic, key)
        if entry not in self._held:
            self._unstored.add(entry)
        self._held[entry] = value
        if not self._linked:
            return
        try:
            forgotten = await self._ask(self._hold([entry]))
        except BackplaneUnavailable as error:  # the next beat tries again, and says if it cannot
            logger.debug("%s", error)
            return
        self._leased = True
        self._unstored.discard(entry)
        if forgotten:
            self._forgotten.set()

    async def release(self, topic: str, key: str) -> None:
        self._held.pop((topic, key), None)
        if (topic, key) in self._unstored:
            self._unstored.discard((topic, key))
            return
        self._require_link()
        await self._ask(self._release([(topic, key)]))

    async def held(self, topic: str) -> dict[str, bytes]:
        self._require_link()
        return await self._ask(self._held_by_all(encode_topic(topic)))

    async def alive(self, owners: frozenset[str]) -> frozenset[str]:
        self._require_link()
        leased = await self._ask(self._alive(owners | {self.owner}))
        now = time.monotonic()
        if self._leased and self._held and self.owner not in leased:  # the engine has forgotten all of us
            self._forgotten.set()
            self._silent = {owner: self._silent.get(owner) for owner in owners}
        known, self._silent = self._silent, dict.fromkeys(owners & leased)
        for owner in (owners - leased) & known.keys():
            since = known[owner] or now
            if now - since < self.ttl_s * SILENCE_SHARE:
                self._silent[owner] = since
        return frozenset(self._silent)

    async def remember(self, key: str, value: bytes) -> None:
        self._require_link()
        await self._ask(self._remember(key, value))

    async def forget(self, key: str) -> None:
        self._require_link()
        await self._ask(self._forget(key))

    async def remembered(self) -> dict[str, bytes]:
        self._require_link()
        return await self._ask(self._remembered())


def _batches(keys: list[HeldKey]) -> Iterator[list[HeldKey]]:
    for start in range(0, len(keys), BEAT_AT_ONCE):
        yield keys[start : start + BEAT_AT_ONCE]


def _said_by(error: BaseException) -> str:
    return str(error) or type(error).__name__  # a TimeoutError says nothing
