"""Options of the suite, and a clock that can be put forward."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ["PYTHONWARNINGS"] = "error"  # as `filterwarnings` here: in the servers that the tests start, too

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("any machine")


LOGGERS = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "socketsundso")]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that does not find what it needs fails")
    parser.addoption("--autobahn", choices=["all", "sample"], default="sample", help="its cases that take minutes")
    parser.addoption("--fuzz-frames", type=int, default=20_000, help="frames of the differential fuzz")
    parser.addoption("--fuzz-seed", type=int, default=1, help="seed of the random tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_if_skipped((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_if_skipped((yield), collector.config)


def _failed_if_skipped(report: Any, config: pytest.Config) -> Any:
    if report.skipped and config.getoption("--no-skips"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"{report.nodeid}: {reason}"
    return report


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """A server that runs in the test's process says how to log, and leaves nothing of that to the tests behind it."""
    before = [(logger, logger.level, logger.propagate, logger.disabled, logger.handlers[:]) for logger in LOGGERS]
    yield
    for logger, logger.level, logger.propagate, logger.disabled, handlers in before:
        logger.handlers[:] = handlers


@pytest.fixture
def fuzz_frames(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--fuzz-frames"))


@pytest.fixture
def fuzz_seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--fuzz-seed"))


class Clock:
    """How far `time.monotonic`, which asyncio's own event loop goes by (uvloop does not), is ahead of the real one."""

    ahead_s = 0.0

    def jump(self, seconds: float) -> None:
        """
        Put it forward: what an event loop sees that was blocked, or a process that was stopped. So intervals can be
        as long as they are in use, and no test fails because its machine was busy for a while.
        """
        self.ahead_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, real = Clock(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + clock.ahead_s)
    return clock
