"""
Whether something is flat: the median of the second tenth of a run beside that of its last tenth.

The first tenth is for caches, arenas and histories to fill. Where a tenth has less than three samples, the nearest
three stand for it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

LEAST = 3  # samples for a median


class Growth(NamedTuple):
    """Of one figure of one process."""

    who: str
    what: str
    early: float
    late: float

    @property
    def share(self) -> float:
        """How much of `early` has come in addition; what becomes less is no growth, but counts as moved."""
        return self.late / self.early - 1 if self.early else float(self.late > 0)

    def __str__(self) -> str:
        early, late = (f"{each / 1e6:,.2f} MB" if each > 1e5 else f"{each:,.0f}" for each in (self.early, self.late))
        return f"{self.who}, {self.what}: {early} -> {late} ({self.share:+.2%})"


@dataclass
class Series:
    """Samples over a run, by who was weighed and what was found."""

    def __post_init__(self) -> None:
        self._samples: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)

    def add(self, who: str, at_s: float, figures: dict[str, float]) -> None:
        for what, value in figures.items():
            self._samples[who, what].append((at_s, value))

    def growth(self, seconds: float) -> list[Growth]:
        """All of those that have samples enough, in a run that took so long."""
        found = []
        for (who, what), samples in self._samples.items():
            settled = [(at, value) for at, value in samples if at >= seconds / 10]
            if len(settled) < 2 * LEAST:
                continue
            early = [value for at, value in settled if at <= seconds / 5]
            late = [value for at, value in settled if at >= seconds * 0.9]
            if len(early) < LEAST:
                early = [value for _, value in settled[:LEAST]]
            if len(late) < LEAST:
                late = [value for _, value in settled[-LEAST:]]
            found.append(Growth(who, what, statistics.median(early), statistics.median(late)))
        return found
