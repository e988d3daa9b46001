"""Options of the random tests, and a clock that can be put forward."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-frames", type=int, default=20_000, help="frames of the differential fuzz")
    parser.addoption("--fuzz-seed", type=int, default=1, help="seed of the random tests")


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
