"""
What must hold, whoever saw it: the counts, the histories, and the faults that explain an error.

A guest notes what happened; what no fault explains is `wrong`, and ends in the verdict.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

AFTERWARDS_S = 5.0
"""How long after its end a fault still explains an error, for what was on its way and a machine that is busy."""
SHOWN = 20  # of what is wrong


@dataclass
class Fault:
    """Something that was done to the servers."""

    kind: str
    """`engine`, `kill` (a worker), `restart` (all workers of a service)."""
    since: float
    pids: frozenset[int] = frozenset()
    """The workers that it ended."""
    until: float = float("inf")

    def explains(self, since: float) -> bool:
        """Whether it may be why something went wrong that began at `since` and is wrong now."""
        return since <= self.until + AFTERWARDS_S

    def over(self) -> None:
        self.until = time.monotonic()


@dataclass
class Ledger:
    """Of one run."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    forgotten_at: float = float("-inf")
    """When an engine has lost what it kept, the last time."""

    def __post_init__(self) -> None:
        self._histories: dict[tuple[str, str], dict[int, tuple[int, int]]] = {}
        self._acknowledged: dict[tuple[int, int], float] = {}
        self._seen: dict[tuple[int, int], tuple[str, str, int]] = {}

    # ---- faults

    def begin(self, kind: str, pids: frozenset[int] = frozenset()) -> Fault:
        self.counts[f"fault: {kind}"] += 1
        self.faults.append(Fault(kind, time.monotonic(), pids))
        return self.faults[-1]

    def explained(self, since: float, *kinds: str) -> bool:
        return any(fault.kind in kinds and fault.explains(since) for fault in self.faults)

    def was_killed(self, pid: int, since: float) -> bool:
        """Whether a connection to this worker, 0 where the client does not know it, may end without a word."""
        return self._befell("kill", pid, since)

    def was_restarted(self, pid: int, since: float) -> bool:
        """Whether it may be told 1012."""
        return self._befell("restart", pid, since)

    def _befell(self, kind: str, pid: int, since: float) -> bool:
        return any(pid in fault.pids if pid else fault.explains(since) for fault in self.faults if fault.kind == kind)

    @property
    def has_forgotten(self) -> bool:
        return self.forgotten_at > float("-inf")

    def mistake(self, text: str) -> None:
        self.counts["wrong"] += 1
        if len(self.wrong) < SHOWN:
            self.wrong.append(text)

    def balance(self) -> None:
        """Each request was answered, or refused for a reason, or lost with its connection."""
        for name, sent in tuple(self.counts.items()):
            kind, _, what = name.partition(": ")
            ended = sum(self.counts[f"{kind}: {how}"] for how in ("answered", "lost", "refused"))
            if what == "sent" and sent != ended:
                self.mistake(f"{kind}: {sent} were sent, {ended} have ended")

    def read(self, log: str) -> None:
        """What a server has logged: no traceback, and its last words where something is wrong."""
        if "Traceback" in log:
            self.mistake(f"a server has logged Traceback{log.partition('Traceback')[2][:3_000]}")
        if self.wrong:
            self.wrong.append(f"the last that a server has logged:\n{log[-2_000:]}")

    # ---- histories

    def acknowledged(self, message: tuple[int, int]) -> None:
        """A message `(sender, n)` that the server has taken, and that nobody may miss."""
        self.counts["said"] += 1
        self._acknowledged[message] = time.monotonic()

    def saw(self, room: str, epoch: str, seq: int, message: tuple[int, int]) -> None:
        """Somebody got this message under this number: so does everybody else."""
        self.counts["history messages seen"] += 1
        known = self._histories.setdefault((room, epoch), {}).setdefault(seq, message)
        if known != message:
            self.mistake(f"{room}: number {seq} is {known} for one and {message} for another")
        place = self._seen.setdefault(message, (room, epoch, seq))
        if place != (room, epoch, seq):
            self.mistake(f"{message} is kept twice: {place} and {(room, epoch, seq)}")

    def settle(self) -> None:
        """
        Everybody has heard everything: no message that was acknowledged is missing, save those that an engine took
        just before it forgot them. Forgets all of it, so that an hour is no longer than a minute.
        """
        for message, at in self._acknowledged.items():
            if message in self._seen:
                continue
            if at - AFTERWARDS_S <= self.forgotten_at:
                self.counts["lost with the engine's memory"] += 1
            else:
                self.mistake(f"{message} was acknowledged, and nobody got it")
        self.counts["history messages"] += sum(map(len, self._histories.values()))
        self.counts["not acknowledged, but kept"] += sum(each not in self._acknowledged for each in self._seen)
        self._histories.clear()
        self._acknowledged.clear()
        self._seen.clear()
        self.faults = [fault for fault in self.faults if fault.until == float("inf")]
