"""
Who is let in: how many connections there are, how many of one address, how fast they come, and what they take.

Each bound is one of `Settings`; what has none is not looked at. A refusal says why, with the status of the answer:

    max_connections          503   so many are there already
    max_connections_per_ip   429   ... from this address
    max_handshakes_per_s     503   more than a second's worth came within one
    max_queued_bytes         503   so much waits for handlers
    max_rss                  503   the process has so much memory

What waits for handlers, and the process's memory, is looked at in each `measure`, a few times a second; who has sent
what waits is not read any more while it is too much.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from random import randint
from time import monotonic
from typing import Any, NamedTuple

from socketsundso import refusals
from socketsundso.operations.settings import Settings

logger = logging.getLogger("uvicorn.error")

LONGEST_RETRY_S = 10
"""Who is refused is told to come back in 1 to so many seconds, at random: not all at the same time."""
ENOUGH = 0.75
"""Reading goes on when no more than this part of `max_queued_bytes` waits."""
TOLD_EVERY_S = 60.0

_STATM = Path("/proc/self/statm")
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::[0-9]+)?|([^:]+):[0-9]+")


class Refusal(NamedTuple):
    reason: str
    status: HTTPStatus
    text: str


_REFUSALS = {
    refusal.reason: refusal
    for refusal in (
        Refusal("max_connections", HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"),
        Refusal("max_connections_per_ip", HTTPStatus.TOO_MANY_REQUESTS, "too many connections from this address"),
        Refusal("max_handshakes_per_s", HTTPStatus.SERVICE_UNAVAILABLE, "too many handshakes"),
        Refusal("max_queued_bytes", HTTPStatus.SERVICE_UNAVAILABLE, "too many messages wait"),
        Refusal("max_rss", HTTPStatus.SERVICE_UNAVAILABLE, "too little memory"),
        Refusal("draining", HTTPStatus.SERVICE_UNAVAILABLE, "this worker ends"),
    )
}


class Admission:
    """What one worker has let in, and whether it lets in another one."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = monotonic,
        resident_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._resident_bytes = resident_bytes or process_bytes
        self.counts = settings.max_connections is not None or settings.max_connections_per_ip is not None
        self._open = 0
        self._of_address: Counter[str] = Counter()
        self._used_until = -math.inf  # by the handshakes that were let in, at the steady rate
        self._pressed: set[str] = set()  # reasons, as of the latest `measure`
        self._held: set[Any] = set()  # connections that are not read, since too much waits
        self._told_at: dict[str, float] = {}

    # ---- handshakes

    def refuses(self, client: tuple[str, int] | None, draining: bool = False) -> Refusal | None:
        """Why this one is not let in; None: it is."""
        reason = "draining" if draining else self._reason(address_of(client))
        if reason is None:
            return None
        refusals.note(reason)
        if reason != "draining":
            self._tell(reason)
        return _REFUSALS[reason]

    def _reason(self, address: str | None) -> str | None:
        settings = self._settings
        if self._pressed:
            return min(self._pressed)
        if settings.max_connections is not None and self._open >= settings.max_connections:
            return "max_connections"
        most = settings.max_connections_per_ip
        if most is not None and address is not None and self._of_address[address] >= most:
            return "max_connections_per_ip"
        if settings.max_handshakes_per_s is not None and not self._is_in_time(settings.max_handshakes_per_s):
            return "max_handshakes_per_s"
        return None

    def _is_in_time(self, per_s: float) -> bool:
        """By the generic cell rate algorithm, with a burst of a second's worth; one that is let in is charged."""
        now, interval_s = self._clock(), 1 / per_s
        until = max(self._used_until, now) + interval_s
        if until - now > max(1.0, interval_s) + 1e-9:
            return False
        self._used_until = until
        return True

    def _tell(self, reason: str) -> None:
        now = self._clock()
        if now - self._told_at.get(reason, -math.inf) >= TOLD_EVERY_S:
            self._told_at[reason] = now
            option = f"--{reason.replace('_', '-')} {getattr(self._settings, reason):g}"
            logger.warning("Handshakes are refused: %s (%d by now)", option, refusals.refused[reason])

    def enter(self, client: tuple[str, int] | None) -> None:
        self._open += 1
        if (address := address_of(client)) is not None:
            self._of_address[address] += 1

    def leave(self, client: tuple[str, int] | None) -> None:
        self._open -= 1
        if (address := address_of(client)) is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    # ---- what is there already

    def measure(self, connections: Iterable[Any]) -> None:
        """Look at what has no event of its own."""
        self._press("max_rss", lambda most: self._resident_bytes() > most)
        self._press("max_queued_bytes", lambda most: self._hold(connections, most))

    def _press(self, reason: str, is_too_much: Callable[[int], bool]) -> None:
        most = getattr(self._settings, reason)
        if most is not None and is_too_much(most):
            self._pressed.add(reason)
        else:
            self._pressed.discard(reason)

    def _hold(self, connections: Iterable[Any], most: int) -> bool:
        """Read nothing more from whom something waits, while it is too much. Whether it is."""
        waiting = {each: size for each in connections if (size := getattr(each, "waiting_bytes", 0))}
        total: int = sum(waiting.values())
        if total > most:
            for each in waiting:
                each.hold_reading()
            self._held.update(waiting)
        elif total <= most * ENOUGH:
            for each in self._held:
                each.read_on()
            self._held.clear()
        return total > most


def address_of(client: tuple[str, int] | None) -> str | None:
    """Whom a bound per address counts: an IPv4 address, the /64 of an IPv6 one; None where there is no address."""
    if client is None:
        return None
    host = client[0].partition("%")[0]
    if (
        with_port := _WITH_PORT.fullmatch(host)
    ) is not None:  # a proxy says so, which earlier versions of uvicorn leave
        host = with_port[1] or with_port[2]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # whatever a proxy writes
        return host or None
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def tells_memory() -> bool:
    """Whether the system says how much memory a process has."""
    return _STATM.exists()


def process_bytes() -> int:
    """How much memory this process has (resident set)."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def retry_after_s() -> int:
    return randint(1, LONGEST_RETRY_S)
