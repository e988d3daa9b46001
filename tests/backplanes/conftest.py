"""The three engines, each once per session, with a fresh prefix (or bus) for every test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from socketsundso.backplanes import engine

from .engines import EngineServer, running

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is released at the end, also where the engine is not scheduled for a while."""
    monkeypatch.setattr(engine, "FAREWELL_S", 20.0)


@pytest.fixture(scope="session")
def redis_engine() -> Iterator[EngineServer]:
    with running("redis") as server:
        yield server


@pytest.fixture(scope="session")
def nats_engine() -> Iterator[EngineServer]:
    with running("nats") as server:
        yield server


@pytest.fixture(params=["memory", "redis", "nats"])
def url(request: pytest.FixtureRequest) -> str:
    """A backplane URL that no other test shares."""
    if request.param == "memory":
        return f"memory://test{next(_numbers)}"
    server: EngineServer = request.getfixturevalue(f"{request.param}_engine")
    return f"{server.url}?prefix=t{next(_numbers)}"
