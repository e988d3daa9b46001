"""
The backplane of one process: no engine, nothing to install, everything gone with the process.

It joins the event loops of a process (Starlette's TestClient runs one per connection, a `SyncHub` one of
its own). All of them share a `Bus`, found by the URL; whatever crosses from one loop to another goes
through `call_soon_threadsafe`, in order. Reads and writes of the bus are guarded by one lock and never
wait.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import deque
from typing import NamedTuple

from socketsundso.backplanes.base import (
    DECLARATIONS,
    LOG_GRACE_S,
    PRESENCE_TTL_S,
    Delivery,
    Keep,
    Log,
    Receiver,
    State,
    new_owner,
)
from socketsundso.errors import BackplaneUnavailable

QUEUE_BYTES = 64 << 20
"""What other event loops may have sent to one that has not taken it yet; beyond it, their `publish` raises."""


NUMBERS_KEPT = 10_000
"""Logs without a payload left whose numbers are remembered; of more, those that were used longest ago are forgotten."""


class Entry(NamedTuple):
    seq: int
    at: float
    payload: bytes


class RingLog:
    """The latest payloads of one topic and their numbers."""

    __slots__ = ("entries", "epoch", "keep", "seq", "used_at")

    def __init__(self, keep: Keep, epoch: str) -> None:
        self.keep = keep
        self.epoch = epoch
        self.seq = 0
        self.entries: deque[Entry] = deque(maxlen=keep.messages)
        self.used_at = time.monotonic()  # last append or read; decides when the whole log is forgotten

    def adopt(self, keep: Keep) -> None:
        if keep != self.keep:
            self.keep = keep
            self.entries = deque(self.entries, maxlen=keep.messages)

    def expire(self, now: float) -> None:
        while self.entries and self.entries[0].at < now - self.keep.seconds:
            self.entries.popleft()

    def append(self, payload: bytes, now: float) -> int:
        self.used_at = now
        self.expire(now)
        self.seq += 1
        self.entries.append(Entry(self.seq, now, payload))
        return self.seq

    def after(self, seq: int, now: float) -> list[tuple[int, bytes]]:
        self.used_at = now
        self.expire(now)
        return [(entry.seq, entry.payload) for entry in self.entries if entry.seq > seq]


class Bus:
    """What the memory backplanes of one URL share. Every method may be called from any thread."""

    SWEEP_EVERY = 256
    """Appends between two looks for what has expired; as many as there are logs, where those are more."""

    def __init__(self) -> None:
        self.epoch = _new_epoch()  # of every log that begins; another one after a log was forgotten
        self.lock = threading.Lock()
        self.subscribers: dict[str, dict[MemoryBackplane, None]] = {}
        self.logs: dict[str, RingLog] = {}
        self.entries: dict[str, dict[tuple[str, str], bytes]] = {}  # topic -> (owner, key) -> value
        self.declared: dict[str, dict[tuple[str, str], bytes]] = {}  # the same for what is held of declarations
        self.remembered: dict[str, bytes] = {}
        self.loops: dict[str, asyncio.AbstractEventLoop] = {}  # owner -> where it lives
        self._appends = 0

    def subscribe(self, topic: str, who: MemoryBackplane) -> None:
        with self.lock:
            self.subscribers.setdefault(topic, {})[who] = None

    def unsubscribe(self, topic: str, who: MemoryBackplane) -> None:
        with self.lock:
            members = self.subscribers.get(topic)
            if members is not None:
                members.pop(who, None)
                if not members:
                    del self.subscribers[topic]
                    log = self.logs.get(topic)
                    if log is not None and log.seq == 0:  # a log without a number is nothing, until it begins again
                        del self.logs[topic]

    def deliver(self, delivery: Delivery, sender: MemoryBackplane) -> bool:
        """False: not to every loop, since one of them takes payloads too slowly."""
        with self.lock:
            return self._deliver(delivery, sender)

    def _deliver(self, delivery: Delivery, sender: MemoryBackplane | None) -> bool:
        """With the lock held, so that all loops see one order."""
        members = self.subscribers.get(delivery.topic, {})
        full = [each for each in members if each is not sender and each.waiting_bytes > QUEUE_BYTES]
        ended = [each for each in members if each not in full and not each.enqueue(delivery)]
        for backplane in ended:
            del members[backplane]
        if ended and not members:
            del self.subscribers[delivery.topic]
        return not full

    def append(self, topic: str, payload: bytes, keep: Keep, sender: MemoryBackplane | None = None) -> tuple[int, str]:
        """Stored in any case; a loop that is too slow for it finds it in the log."""
        now = time.monotonic()
        with self.lock:
            log = self._log(topic, keep)
            seq = log.append(payload, now)
            self._deliver(Delivery(topic, payload, seq, log.epoch), sender)
            self._appends += 1
            if self._appends >= max(self.SWEEP_EVERY, len(self.logs)):
                self._appends = 0
                self._sweep(now)
            return seq, log.epoch

    def read(self, topic: str, keep: Keep, after: int | None) -> Log:
        now = time.monotonic()
        with self.lock:
            log = self._log(topic, keep)
            return Log(log.epoch, log.seq, [] if after is None else log.after(after, now))

    def disown(self, topic: str, epoch: str) -> None:
        with self.lock:
            log = self.logs.get(topic)
            if log is not None and log.epoch == epoch:
                del self.logs[topic]
                self.epoch = _new_epoch()

    def _log(self, topic: str, keep: Keep) -> RingLog:
        log = self.logs.get(topic)
        if log is None:
            log = self.logs[topic] = RingLog(keep, self.epoch)
        log.adopt(keep)
        return log

    def _sweep(self, now: float) -> None:
        idle = []
        for topic, log in self.logs.items():
            log.expire(now)
            if not log.entries and topic not in self.subscribers:
                idle.append((log.used_at + log.keep.seconds + LOG_GRACE_S, topic))
        idle.sort(reverse=True)
        old = [topic for place, (until, topic) in enumerate(idle) if until < now or place >= NUMBERS_KEPT]
        for topic in old:
            del self.logs[topic]
        if old:
            self.epoch = _new_epoch()

    def hold(self, topic: str, owner: str, key: str, value: bytes) -> None:
        with self.lock:
            self._entries(topic).setdefault(topic, {})[owner, key] = value

    def _entries(self, topic: str) -> dict[str, dict[tuple[str, str], bytes]]:
        return self.declared if topic == DECLARATIONS else self.entries

    def release(self, topic: str, owner: str, key: str) -> None:
        with self.lock:
            entries = self._entries(topic)
            held = entries.get(topic)
            if held is not None:
                held.pop((owner, key), None)
                if not held:
                    del entries[topic]

    def release_all(self, owner: str) -> None:
        with self.lock:
            all_held = (*self.entries.items(), *self.declared.items())
            mine = [(topic, key) for topic, held in all_held for who, key in held if who == owner]
        for topic, key in mine:
            self.release(topic, owner, key)

    def held(self, topic: str) -> dict[str, bytes]:
        """What is held by event loops that have ended without a word has ended with them."""
        with self.lock:
            ended = [owner for owner, loop in self.loops.items() if loop.is_closed()]
        for owner in ended:
            self.release_all(owner)
            self.loops.pop(owner, None)
        with self.lock:
            return {key: value for (_, key), value in self._entries(topic).get(topic, {}).items()}

    def owners(self) -> frozenset[str]:
        with self.lock:
            return frozenset(owner for held in self.entries.values() for owner, _ in held)


def _new_epoch() -> str:
    return uuid.uuid4().hex[:8]


_buses: dict[str, Bus] = {}
_buses_lock = threading.Lock()


def bus_of(url: str) -> Bus:
    with _buses_lock:
        return _buses.setdefault(url, Bus())


class MemoryBackplane:
    """One event loop's place on the bus of its URL (`memory://`, or `memory://name` for one apart)."""

    def __init__(self, url: str) -> None:
        self.owner = new_owner()
        self.bus = bus_of(url)
        self.ttl_s = PRESENCE_TTL_S
        self.state: State = "closed"
        self.waiting_bytes = 0  # sent to this loop, and not taken by it yet; guarded by the lock of the bus
        self._topics: set[str] = set()

    async def open(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        with self.bus.lock:
            self.bus.loops[self.owner] = self._loop
        self.state = "connected"

    async def aclose(self) -> None:
        self.state = "closed"
        for topic in tuple(self._topics):
            self.unsubscribe(topic)
        self.bus.release_all(self.owner)
        with self.bus.lock:
            self.bus.loops.pop(self.owner, None)

    def enqueue(self, delivery: Delivery) -> bool:
        """
        Called by any thread, with the lock of the bus held; arrives on this backplane's loop. False if that was closed
        and its members gone.
        """
        try:
            self._loop.call_soon_threadsafe(self._arrive, delivery)
        except RuntimeError:
            return False
        self.waiting_bytes += len(delivery.payload)
        return True

    def _arrive(self, delivery: Delivery) -> None:
        with self.bus.lock:
            self.waiting_bytes -= len(delivery.payload)
        if delivery.topic in self._topics:
            self._receiver.on_delivery(delivery)

    async def subscribe(self, topic: str) -> None:
        self._topics.add(topic)
        self.bus.subscribe(topic, self)

    def unsubscribe(self, topic: str) -> None:
        self._topics.discard(topic)
        self.bus.unsubscribe(topic, self)

    def publish(self, topics: tuple[str, ...], payload: bytes) -> None:
        taken = [self.bus.deliver(Delivery(topic, payload), self) for topic in topics]
        if not all(taken):
            raise BackplaneUnavailable("another event loop of this process takes payloads too slowly")

    async def flush(self) -> None:
        """Nothing waits here."""

    async def append(self, topic: str, payload: bytes, keep: Keep) -> tuple[int, str]:
        return self.bus.append(topic, payload, keep, self)

    async def append_many(self, topic: str, payloads: list[bytes], keep: Keep) -> list[tuple[int, str]]:
        return [self.bus.append(topic, payload, keep, self) for payload in payloads]

    async def read(self, topic: str, keep: Keep, after: int | None = None) -> Log:
        return self.bus.read(topic, keep, after)

    async def disown(self, topic: str, epoch: str) -> None:
        self.bus.disown(topic, epoch)

    async def logged(self, topic: str) -> Keep | None:
        log = self.bus.logs.get(topic)
        return None if log is None else log.keep

    async def hold(self, topic: str, key: str, value: bytes) -> None:
        self.bus.hold(topic, self.owner, key, value)

    async def release(self, topic: str, key: str) -> None:
        self.bus.release(topic, self.owner, key)

    async def held(self, topic: str) -> dict[str, bytes]:
        return self.bus.held(topic)

    async def alive(self, owners: frozenset[str]) -> frozenset[str]:
        return owners & self.bus.owners()

    async def remember(self, key: str, value: bytes) -> None:
        with self.bus.lock:
            self.bus.remembered[key] = value

    async def forget(self, key: str) -> None:
        with self.bus.lock:
            self.bus.remembered.pop(key, None)

    async def remembered(self) -> dict[str, bytes]:
        with self.bus.lock:
            return dict(self.bus.remembered)
