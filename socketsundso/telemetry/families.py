"""Metrics as plain data: what `tally` gives, and an exporter writes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

Labels = tuple[str, ...]
"""The values of a family's labels, in their order."""


class Histogram(NamedTuple):
    """How many values were up to each bound, and above the last (one more than there are bounds); and their sum."""

    counts: tuple[int, ...]
    sum: float


class Family(NamedTuple):
    """
    One metric: `Family("connections", "gauge", "Connections that are open.", ("endpoint",), {("Chat",): 12})`.

    A histogram has `histograms` instead of `values`, and the upper `bounds` of their buckets. `across` says what those
    of several processes are together.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels
    values: Mapping[Labels, float]
    histograms: Mapping[Labels, Histogram] = MappingProxyType({})
    bounds: tuple[float, ...] = ()
    across: Literal["sum", "min"] = "sum"
