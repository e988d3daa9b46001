"""The engines of the backplane tests, and a backplane that the environment names."""

from __future__ import annotations

import pytest

from ..backplanes.conftest import nats_engine, redis_engine, url
from . import serving

__all__ = ["everywhere", "nats_engine", "redis_engine", "url"]


@pytest.fixture(params=["websockets-sansio", serving.OURS], ids=["uvicorn", "ours"])
def both_protocols(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Served through ASGI's `send`, and through ready frames."""
    monkeypatch.setattr(serving, "protocol", request.param)


@pytest.fixture
def everywhere(url: str, both_protocols: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each backplane in turn, chosen as a deployment does (by the environment), under each WebSocket protocol."""
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", url)
    return url
