"""Texts that are answered as they are, before anything is read as a message."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from socketsundso import DefinitionError, Endpoint, RateLimit, event
from tests.harness import Peer, talk
from tests.rooms.serving import WAIT_S


class Pinged(Endpoint):
    text_pings = {"ping": "pong", "#heartbeat": None, '{"type":"say"}': "as it is", "2": "3"}

    @event
    async def say(self) -> dict[str, Any]:
        return {}

    async def respond(self, response: Any) -> None:
        await super().respond({"type": "responded"})


class Conversing(Pinged):
    """With the other receive loop."""

    @event(concurrent=True)
    async def wait(self) -> None: ...


APPS = [Pinged, Conversing]


def texts(peer: Peer) -> list[str]:
    return [message["text"] for message in peer.sent if message["type"] == "websocket.send"]


@pytest.mark.parametrize("app", APPS)
def test_texts_are_answered_as_they_are(app: type) -> None:
    """Also what would be a message, and past an overridden `respond`; with None nothing is answered."""
    peer = talk(app, "ping", "#heartbeat", '{"type":"say"}', "2", "ping")
    assert texts(peer) == ["pong", "as it is", "3", "pong"]


@pytest.mark.parametrize("app", APPS)
def test_other_frames_are_messages(app: type) -> None:
    """Another spelling, or the same in a binary frame."""
    assert texts(talk(app, '{"type": "say"}', b'{"type":"say"}')) == ['{"type":"responded"}'] * 2
    for frame in ("Ping", "ping ", b"ping"):
        assert talk(app, frame, code=None).closed == 1003


@pytest.mark.parametrize("base", APPS)
def test_they_count_against_the_limit(base: Any) -> None:
    """As everything that a client says."""

    class Limited(base):  # type: ignore[misc]  # of either
        rate_limit = RateLimit(2, per_s=1000)

    peer = talk(Limited, "ping", "ping", "ping", "#heartbeat")
    assert texts(peer)[:2] == ["pong", "pong"]
    assert [json.loads(text)["code"] for text in texts(peer)[2:]] == ["rate_limited"] * 2


def test_they_are_heard_while_a_handler_waits() -> None:
    """Where handlers may wait for more than one thing, a ping is answered at once."""

    class Waiting(Endpoint):
        text_pings = {"ping": "pong"}

        @event(concurrent=True)
        async def apart(self) -> None: ...

        @event
        async def wait(self) -> dict[str, Any]:
            while not texts(peer):
                await asyncio.sleep(0)
            return {}

    peer = Peer(Waiting, [{"type": "wait"}, "ping"], code=None)

    async def main() -> None:
        running = asyncio.create_task(peer.run())
        async with asyncio.timeout(WAIT_S):
            while len(texts(peer)) < 2:
                await asyncio.sleep(0)
        running.cancel()

    asyncio.run(main())
    assert texts(peer) == ["pong", '{"type":"wait"}']


def test_a_subclass_may_have_others() -> None:
    """They are compiled with the class."""

    class Other(Pinged):
        text_pings = {"hi": "ho"}

    assert texts(talk(Other, "hi")) == ["ho"]
    assert talk(Other, "ping", code=None).closed == 1003
    with pytest.raises(DefinitionError, match="text_pings is read when the class is created"):
        Other.text_pings = {}
    with pytest.raises(TypeError):
        Other.text_pings["x"] = "y"  # type: ignore[index]  # nobody would hear of it


@pytest.mark.parametrize("given", [None, "ping", ["ping"], {"ping": 5}, {b"ping": "pong"}], ids=str)
def test_what_are_no_texts(given: Any) -> None:
    """They are refused when the class is created."""
    with pytest.raises(DefinitionError, match="it maps texts to their answers"):
        type("App", (Endpoint,), {"text_pings": given})
