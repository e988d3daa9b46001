"""
Metrics for Prometheus, by `prometheus_client` (the extra `prometheus`).

    from socketsundso.telemetry import prometheus

    prometheus.instrument()                                # all endpoints of the process, those made later, too
    app.mount("/metrics", prometheus.metrics_app())

    socketsundso_received_messages_total{endpoint="Chat",event="say"} 1512.0

Each process shows its own numbers, unless the environment has PROMETHEUS_MULTIPROC_DIR, a folder that all workers of a
server share and that is empty when it starts: each worker writes its numbers there once a second, and whoever answers a
scrape adds them up.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, make_asgi_app, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.types import ASGIApp

from socketsundso.endpoints import WebSocketHandlingEndpoint
from socketsundso.telemetry.families import Family, Labels
from socketsundso.telemetry.installing import Installing
from socketsundso.telemetry.tally import Tally

PREFIX = "socketsundso_"
WRITE_S = 1.0
"""How often a worker writes its numbers for the others."""

SHARED = values.ValueClass is not values.MutexValue
"""Multi-process mode, which the library decides when it is imported."""


def instrument(endpoint: type[WebSocketHandlingEndpoint] = WebSocketHandlingEndpoint) -> None:
    """
    Count what happens on this class and its subclasses; on all endpoints of the process unless one is given.

    Classes that are made later, and connections that are open, are counted, too. Called twice, it counts once. In
    multi-process mode each worker calls it, as it does where the application's module says so.
    """
    _installed.add(endpoint, _Written if SHARED else _Shown)


def uninstrument() -> None:
    """Nothing is counted any more, and what was is forgotten; for tests."""
    tally = _installed.remove()
    if tally is not None:
        tally.end()


def metrics_app() -> ASGIApp:
    """
    An ASGI application that answers scrapes: `prometheus_client.make_asgi_app()`, and in multi-process mode with the
    registry that the library wants there.
    """
    if not SHARED:
        return make_asgi_app()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return make_asgi_app(registry)


class _Shown(Tally, Collector):
    """Of one process: a scrape reads it."""

    def __init__(self) -> None:
        super().__init__()
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        for family in self.read():
            yield _histogram(family) if family.kind == "histogram" else _plain(family)

    def end(self) -> None:
        super().end()
        REGISTRY.unregister(self)


def _plain(family: Family) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(PREFIX + family.name, family.help, labels=family.labels)
    for labels, value in family.values.items():
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family) -> Metric:
    metric = HistogramMetricFamily(PREFIX + family.name, family.help, labels=family.labels)
    for labels, histogram in family.histograms.items():
        totals = itertools.accumulate(histogram.counts)
        metric.add_metric(labels, list(zip(_bounds(family), totals, strict=True)), histogram.sum)
    return metric


def _bounds(family: Family) -> list[str]:
    """As they are written: the last one is `+Inf`."""
    return [floatToGoString(bound) for bound in (*family.bounds, float("inf"))]


def _samples(family: Family) -> Iterator[tuple[str, Labels, Labels, float]]:
    """As the library's own classes write them: a bucket has what is in no smaller one."""
    name = PREFIX + family.name
    for labels, value in family.values.items():
        yield f"{name}_total" if family.kind == "counter" else name, family.labels, labels, value
    for labels, histogram in family.histograms.items():
        yield f"{name}_sum", family.labels, labels, histogram.sum
        for bound, count in zip(_bounds(family), histogram.counts, strict=True):
            yield f"{name}_bucket", (*family.labels, "le"), (*labels, bound), count


class _Written(Tally):
    """
    Of one of several processes: written into files of the library, which whoever is scraped adds up.

    That is a second after something has happened, each second while connections are open, and when none is any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[tuple[str, Labels], tuple[Any, float]] = {}  # with what was there before
        self._loop: asyncio.AbstractEventLoop | None = None  # where the timer runs
        self._timer: asyncio.TimerHandle | None = None
        _forget_the_dead()

    def refused(self, endpoint: Any, reason: str) -> None:
        super().refused(endpoint, reason)
        self._write_soon()

    def opened(self, endpoint: Any) -> None:
        super().opened(endpoint)
        self._write_soon()

    def ended(self, endpoint: Any, code: int, by_peer: bool) -> None:
        super().ended(endpoint, code, by_peer)
        if self.idle:  # the server may be going down
            self._write()

    def end(self) -> None:
        super().end()
        if self._timer is not None:
            self._timer.cancel()

    def _write_soon(self) -> None:
        if self._timer is None or self._loop is None or self._loop.is_closed():
            self._loop = asyncio.get_running_loop()
            self._timer = self._loop.call_later(WRITE_S, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._write()
        if not self.idle:
            self._write_soon()

    def _write(self) -> None:
        for family in self.read():
            for name, labels, label_values, number in _samples(family):
                known = self._values.get((name, label_values))
                if known is None:
                    mode = f"live{family.across}" if family.kind == "gauge" else ""
                    about = family.kind, PREFIX + family.name, name, labels, label_values, family.help
                    value: Any = values.ValueClass(*about, multiprocess_mode=mode)
                    # of a process before that had our id: what was counted once stays counted
                    known = self._values[name, label_values] = value, 0.0 if mode else value.get()
                value, before = known
                value.set(before + number)


def _forget_the_dead() -> None:
    """What was open in a process that was killed; its successor is who can tell."""
    for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid)
        except OSError:  # somebody else's
            pass


_installed: Installing[_Shown | _Written] = Installing()
