"""The seam between servers and endpoints, seen from applications that stand between the two."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import Endpoint, event, wire
from tests.harness import ask


class Chat(Endpoint):
    @event
    async def on_ping(self) -> Any:
        return {"pong": True}


@pytest.fixture
def without_starlettes_private_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "starlette._exception_handler", None)  # type: ignore[arg-type]  # cannot be imported
    wire._starlettes_sender.cache_clear()
    yield
    wire._starlettes_sender.cache_clear()


@pytest.mark.usefixtures("without_starlettes_private_module")
def test_an_endpoint_in_starlette_needs_nothing_private_of_it() -> None:
    """A Starlette that is made otherwise wraps `send` in what is not known: the endpoint is served all the same."""
    assert ask(Starlette(routes=[WebSocketRoute("/", Chat)]), {"type": "ping"}) == {"type": "ping", "pong": True}
    assert wire.sends_plainly(ask) is False
