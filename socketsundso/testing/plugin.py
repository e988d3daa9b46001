"""
Fixtures for pytest, which finds them where this package is installed.

    def test_say(ws_connect):
        ada, grace = ws_connect(Chat, user="ada"), ws_connect(Chat, user="grace")
        ada.ask("say", msg="hi")
        grace.expect(Posted, msg="hi")
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Generator

import pytest

from socketsundso.environment import BACKPLANE_VARIABLE
from socketsundso.testing.broadcasts import Broadcasts, broadcasts
from socketsundso.testing.connecting import connect
from socketsundso.testing.synchronous import SyncConnection


@pytest.fixture
def ws_backplane(monkeypatch: pytest.MonkeyPatch) -> str:
    """
    A backplane in memory of this test's own: rooms, presence and history of other tests are not there. Its URL is the
    environment's SOCKETSUNDSO_BACKPLANE, which an endpoint that names another one does not look at.
    """
    url = f"memory://{uuid.uuid4().hex}"
    monkeypatch.setenv(BACKPLANE_VARIABLE, url)
    return url


@pytest.fixture
def ws_connect(ws_backplane: str) -> Generator[Callable[..., SyncConnection]]:
    """
    `ws_connect(Chat, user="ada")` is a connection as of `with connect(...)`, to the end of the test.

    Those that were made last are closed first. What an application has raised fails the test there.
    """
    with contextlib.ExitStack() as open_ones:
        yield lambda *args, **kwargs: open_ones.enter_context(connect(*args, **kwargs))


@pytest.fixture
def ws_broadcasts() -> Generator[Broadcasts]:
    """All that is sent to rooms, users and everyone during the test."""
    with broadcasts() as seen:
        yield seen
