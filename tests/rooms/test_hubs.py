"""Hubs: which backplane they take, and many messages at once."""

from __future__ import annotations

import asyncio

import pytest

from socketsundso import Endpoint, Hub, SyncHub, event

from .serving import run, serving


class Lobby(Endpoint):
    @event
    async def on_enter(self, room: str) -> dict[str, str]:
        await self.join(room)
        return {}


def test_a_hub_without_a_url_takes_the_environments_as_endpoints_do(everywhere: str) -> None:
    """`Hub()` and `SyncHub()` reach who is connected, wherever the deployment said."""

    async def main() -> None:
        async with serving(Lobby) as client:
            ada = await client()
            await ada.call("enter", room="r")
            async with Hub() as hub:
                assert hub.url == everywhere
                await hub.to("r").send({"type": "note", "n": 1})

            def in_a_thread() -> None:
                with SyncHub() as hub:
                    hub.to("r").send({"type": "note", "n": 2})

            await asyncio.to_thread(in_a_thread)
            assert [each["n"] for each in await ada.receives(2)] == [1, 2]

    run(main)


def test_the_environment_may_be_set_after_the_hub_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at when the hub is used: one at the top of a module is made before a `.env` is read."""
    monkeypatch.delenv("SOCKETSUNDSO_BACKPLANE", raising=False)
    hub, named = Hub(), Hub("memory://named")
    assert hub.url == "memory://"
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", "memory://later")
    assert (hub.url, named.url) == ("memory://later", "memory://named")
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", "")
    assert hub.url == "memory://"
