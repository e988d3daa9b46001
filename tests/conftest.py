"""Options of the random tests: how much, and from which seed."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-frames", type=int, default=20_000, help="frames of the differential fuzz")
    parser.addoption("--fuzz-seed", type=int, default=1, help="seed of the random tests")


@pytest.fixture
def fuzz_frames(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--fuzz-frames"))


@pytest.fixture
def fuzz_seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--fuzz-seed"))
