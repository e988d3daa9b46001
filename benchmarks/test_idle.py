"""
Idle connections: resident memory of the server for each, and the CPU that a handshake costs it.

1,000 connections, 10,000 with `--full`; the limit of open files is raised as far as the system allows. The memory is
the growth of the process' resident set from before the first connection to after the last one said a message.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from benchmarks.load import SPARE_FILES, Load, Shape, allow_files, cpu_seconds, message, rss_bytes
from benchmarks.progress import Show
from benchmarks.prompt import PromptLoad
from benchmarks.rounds import Row, attempt, lines_of, ours_failed
from benchmarks.servers import BROWSERS, Competitor, pick, running

KEYS = ["naive", "node", "bun", "ours-uvicorn", "ours", "picows"]
BROWSER_KEYS = ["naive", "node", "bun", "ours-uvicorn", "ours"]


def idle(competitor: Competitor, core: int, connections: int) -> Row:
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


def browsers(competitor: Competitor, core: int, connections: int) -> Row:
    """What a connection weighs that was opened by a browser, silent and when it has sent one message."""
    with running(competitor, core) as (port, pid):
        size, shape = 106, Shape(connections, 1)
        with contextlib.closing(
            PromptLoad(port, Shape(100, 1), size, competitor.dialect, client=competitor.client)
        ) as load:
            load.run(1000)
        memory, cpu, start = rss_bytes(pid), cpu_seconds(pid), time.perf_counter()
        with contextlib.closing(
            PromptLoad(port, shape, size, competitor.dialect, client=competitor.client, fresh=True)
        ) as load:
            seconds, cpu, silent = time.perf_counter() - start, cpu_seconds(pid) - cpu, rss_bytes(pid)
            load.run(connections)
            return {
                "kb_per_connection": (rss_bytes(pid) - memory) / connections / 1000,
                "silent_kb": (silent - memory) / connections / 1000,
                "handshake_cpu_us": cpu / connections * 1e6,
                "connects_per_s": connections / seconds,
            }


@pytest.mark.timeout(0)
def test_idle(full: bool, pinned: int, figures: dict[str, Any], show: Show) -> None:
    """What 1,000 (10,000) connections that say nothing cost."""
    wanted = 10_000 if full else 1_000
    connections = min(wanted, allow_files(wanted + SPARE_FILES) - SPARE_FILES)
    asked = {
        "": (idle, pick() if full else pick(*KEYS)),
        ", after one message, browser": (
            browsers,
            pick(among=BROWSERS) if full else pick(*BROWSER_KEYS, among=BROWSERS),
        ),
    }
    show.steps = sum(len(competitors) for _, competitors in asked.values())
    broken = []
    for what, (question, competitors) in asked.items():
        rows: dict[str, Row] = {}
        for competitor in competitors:
            show.step(f"{connections} idle connections{what}: {competitor.name}")
            rows[competitor.key] = attempt(question, competitor, pinned, connections)
        figures[f"idle {connections}{what}"] = rows
        show(table(connections, rows, competitors, what))
        broken += ours_failed(rows, competitors)
    assert not broken


def table(connections: int, rows: dict[str, Row], competitors: list[Competitor], what: str = "") -> str:
    lines = [
        f"Idle, {connections} connections{what}",
        f"  {'':35}{'kB each':>8}{'handshake CPU us':>18}{'connects/s':>12}",
    ]
    lines += lines_of(
        rows,
        competitors,
        lambda row: f"{row['kb_per_connection']:8.1f}{row['handshake_cpu_us']:18.0f}{row['connects_per_s']:12,.0f}",
    )
    return "\n".join(lines)
