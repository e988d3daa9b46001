"""
Round trip of the typed chat message over loopback: messages/s, server CPU per message, and the ratio to the naive loop.

One process per server on one core, the load on another; competitors take turns, several rounds; the median counts. No
compression. Trust the CPU column and the ratios: rates depend on the machine's mood.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections import defaultdict
from typing import Any

import pytest

from benchmarks.load import Load, Shape, cpu_seconds, message
from benchmarks.servers import COMPETITORS, cores, running

SHAPES = [Shape(32, 1), Shape(16, 16)]
FULL_SHAPES = [Shape(1, 1), *SHAPES, Shape(256, 1)]


def measure(
    shape: Shape, size: int, messages: int, rounds: int, server_core: int, progress: Any
) -> dict[str, dict[str, Any]]:
    payload = message(size)
    samples: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    failures: dict[str, str] = {}
    for round_ in range(rounds):
        for competitor in COMPETITORS:
            progress(f"{shape} {size} B, round {round_ + 1}/{rounds}: {competitor.name}")
            try:
                with (
                    running(competitor, server_core) as (port, pid),
                    contextlib.closing(Load(port, shape, payload)) as load,
                ):
                    load.run(messages // 4)  # warm-up
                    before = cpu_seconds(pid)
                    seconds, own = load.run(messages)
                    samples[competitor.name].append((seconds, cpu_seconds(pid) - before, own))
            except Exception as exc:  # a competitor that fails is a row that says so
                failures[competitor.name] = f"{type(exc).__name__}: {exc}".splitlines()[0][:80]
    rows = {}
    for name, taken in samples.items():
        cpu = [sample[1] / messages * 1e6 for sample in taken]
        rows[name] = {
            "messages_per_s": messages / statistics.median(sample[0] for sample in taken),
            "cpu_us": statistics.median(cpu),
            "spread_us": max(cpu) - min(cpu),
            "load_cpu_us": statistics.median(sample[2] for sample in taken) / messages * 1e6,
        }
    return rows | {name: {"failed": text} for name, text in failures.items() if name not in rows}


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    base = rows["naive FastAPI loop"]["cpu_us"]
    lines = [title, f"  {'':36}{'messages/s':>11}{'CPU us/msg':>12}{'+-':>6}{'load us':>9}{'ratio':>8}  validates"]
    for competitor in COMPETITORS:
        row = rows[competitor.name]
        if "failed" in row:
            lines.append(f"  {competitor.name:36}{row['failed']}")
            continue
        lines.append(
            f"  {competitor.name:36}{row['messages_per_s']:11,.0f}{row['cpu_us']:12.1f}{row['spread_us']:6.1f}"
            f"{row['load_cpu_us']:9.1f}{row['cpu_us'] / base:7.2f}x  {competitor.validates}"
        )
    return "\n".join(lines)


def test_roundtrip(full: bool, figures: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Every server answers every message rightly; the table shows at which cost."""

    def progress(text: str) -> None:
        with capsys.disabled():
            print(f"\r\x1b[K{text}", end="", flush=True)

    available = os.sched_getaffinity(0)
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    try:
        for shape in FULL_SHAPES if full else SHAPES:
            for size in (80, 1024, 65536) if full else (80,):
                messages = (60_000 if full else 20_000) // (20 if size > 2000 else 1)
                rows = measure(shape, size, messages, 5 if full else 3, server_core, progress)
                figures[f"roundtrip {shape} {size} B"] = rows
                with capsys.disabled():
                    print("\r\x1b[K" + table(f"Round trip, {shape} in flight, {size} B", rows), flush=True)
    finally:
        os.sched_setaffinity(0, available)
