"""Whom log lines of an endpoint are about, and what a user is called in them and in traces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from starlette.authentication import SimpleUser, UnauthenticatedUser

from socketsundso import Depends, Endpoint, event
from socketsundso.connection import name_of
from tests.harness import Peer


@pytest.mark.parametrize(
    ("user", "name"),
    [
        (None, None),
        ("ada", "ada"),
        (42, 42),
        ({"sub": "ada", "token": "secret"}, "ada"),
        ({"token": "secret"}, None),
        (SimpleNamespace(id=7, name="Ada"), 7),
        (SimpleNamespace(id=object(), name="Ada"), "Ada"),
        (SimpleUser("ada"), "ada"),
        (UnauthenticatedUser(), None),
        ("x" * 300, "x" * 200 + "…"),
        (object(), None),
    ],
    ids=repr,
)
def test_a_user_is_called_by_the_first_of_its_names(user: Any, name: Any) -> None:
    """A text or a number is its own name; what has none has none, and no other part of a user is told."""
    assert name_of(user) == name


async def broken_behind() -> AsyncIterator[int]:
    yield 1
    raise ZeroDivisionError


class Chat(Endpoint):
    async def on_connect(self) -> None:
        await self.websocket.accept(subprotocol="mine" if "mine" in self.websocket.url.query else None)

    @event
    async def on_say(self, number: Annotated[int, Depends(broken_behind)]) -> dict[str, str]:
        return {"said": self.id}


def test_a_line_that_does_not_know_itself_is_about_the_message(caplog: pytest.LogCaptureFixture) -> None:
    """Such as that of a dependency, which is torn down when the answer is out."""
    peer = asyncio.run(Peer(Chat, ['{"type":"say","ref":7}']).run())
    (record,) = [each for each in caplog.records if "teardown" in each.getMessage()]
    about = {name: getattr(record, name) for name in ("connection", "event", "ref", "user")}
    assert about == {"connection": peer.answers[0]["said"], "event": "say", "ref": 7, "user": None}


def test_a_line_about_no_message_has_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    """And None for what there is none of."""
    peer = asyncio.run(Peer(Chat, ['{"type":"say"}'], query_string=b"mine").run())
    (record,) = [each for each in caplog.records if "was not offered" in each.getMessage()]
    about = {name: getattr(record, name) for name in ("connection", "event", "ref", "user")}
    assert about == {"connection": peer.answers[0]["said"], "event": None, "ref": None, "user": None}


def test_a_line_of_nobody_has_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Formatters may rely on the four."""
    logging.getLogger("socketsundso").error("a line")
    assert [getattr(caplog.records[0], name) for name in ("connection", "event", "ref", "user")] == [None] * 4
