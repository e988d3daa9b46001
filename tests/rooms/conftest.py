"""The engines of the backplane tests, and a backplane that the environment names."""

from __future__ import annotations

import itertools

import pytest

from socketsundso.backplanes import engine
from socketsundso.rooms import local as rooms

from ..backplanes.conftest import nats_engine, redis_engine, url
from ..backplanes.engines import EngineServer
from . import serving

__all__ = ["backplane", "between_processes", "everywhere", "nats_engine", "redis_engine", "url"]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Also where an engine is not scheduled for a while, what is broadcast comes before the reply, and what is held is
    released at the end.
    """
    monkeypatch.setattr(rooms, "DELIVERY_TIMEOUT_S", 20.0)
    monkeypatch.setattr(engine, "FAREWELL_S", 20.0)


@pytest.fixture
def backplane(monkeypatch: pytest.MonkeyPatch) -> str:
    """A bus that no other test shares, chosen by the environment."""
    url = f"memory://rooms{next(_numbers)}"
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", url)
    return url


@pytest.fixture(params=["redis", "nats"])
def between_processes(request: pytest.FixtureRequest) -> str:
    """An engine that reaches other processes, and where nobody else has this prefix."""
    server: EngineServer = request.getfixturevalue(f"{request.param}_engine")
    return f"{server.url}?prefix=p{next(_numbers)}"


@pytest.fixture(params=["websockets-sansio", serving.OURS], ids=["uvicorn", "ours"])
def both_protocols(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Served through ASGI's `send`, and through ready frames."""
    monkeypatch.setattr(serving, "protocol", request.param)


@pytest.fixture
def everywhere(url: str, both_protocols: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backplane in turn, chosen as a deployment does (by the environment), under each WebSocket protocol."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", url)
    return url
