"""
Idle connections: resident memory of the server for each, and the CPU that a handshake costs it.

2,000 connections, 10,000 with `--full`; the limit of open files is raised as far as the system allows. The memory is
the growth of the process' resident set from before the first connection to after the last one said a message.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from benchmarks.load import Load, Shape, allow_files, cpu_seconds, message, rss_bytes
from benchmarks.progress import Show
from benchmarks.rounds import Row
from benchmarks.servers import Competitor, pick, running

KEYS = ["naive", "msgspec", "websockets", "aiohttp", "node", "ours-uvicorn", "ours", "raw-uvicorn", "picows"]
SPARE_FILES = 200


def idle(competitor: Competitor, core: int, connections: int) -> Row:
    try:
        with running(competitor, core) as (port, pid):
            with contextlib.closing(Load(port, Shape(100, 1), message(), competitor.dialect)) as load:
                load.run(1000)  # caches and arenas are filled before we look
            memory, cpu, start = rss_bytes(pid), cpu_seconds(pid), time.perf_counter()
            with contextlib.closing(Load(port, Shape(connections, 1), message(), competitor.dialect)) as load:
                seconds, cpu = time.perf_counter() - start, cpu_seconds(pid) - cpu
                load.run(connections)
                return {
                    "kb_per_connection": (rss_bytes(pid) - memory) / connections / 1000,
                    "handshake_cpu_us": cpu / connections * 1e6,
                    "connects_per_s": connections / seconds,
                }
    except Exception as exc:  # a competitor that fails is a row that says so
        return {"failed": f"{type(exc).__name__}: {exc}".splitlines()[0][:90]}


@pytest.mark.timeout(0)
def test_idle(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """What 2,000 (10,000) connections that say nothing cost."""
    wanted = 10_000 if full else 2_000
    connections = min(wanted, allow_files(wanted + SPARE_FILES) - SPARE_FILES)
    competitors = pick() if full else pick(*KEYS)
    show.steps = len(competitors)
    rows: dict[str, Row] = {}
    for competitor in competitors:
        show.step(f"{connections} idle connections: {competitor.name}")
        rows[competitor.key] = idle(competitor, pinned, connections)
    figures[f"idle {connections}"] = rows
    lines = [f"Idle, {connections} connections", f"  {'':35}{'kB each':>8}{'handshake CPU us':>18}{'connects/s':>12}"]
    for competitor in competitors:
        row = rows[competitor.key]
        lines.append(
            f"  {competitor.name:35}  {row['failed']}"
            if "failed" in row
            else f"  {competitor.name:35}{row['kb_per_connection']:8.1f}{row['handshake_cpu_us']:18.0f}"
            f"{row['connects_per_s']:12,.0f}"
        )
    show("\n".join(lines))
