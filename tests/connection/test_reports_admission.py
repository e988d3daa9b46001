"""What users of other libraries have reported of sign-in, guards and limits: none of it happens here."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions

from socketsundso import Call, Endpoint, EventError, RateLimit, event
from tests.harness import Peer, ask, talk
from tests.server.serving import TEXT, masked, peer, run, serving, until

SERVERS = ["ours", "websockets-sansio"]


def served(app: Any, server: str) -> Any:
    return serving(app, **({} if server == "ours" else {"ws": server}))


class Room(Endpoint):
    @event
    async def on_enter(self, seconds: float) -> Any:
        await self.join("admission")
        self.user_expires_at = time.time() + seconds
        return {}

    @event
    async def on_say(self, n: int) -> None:
        await self.broadcast({"type": "said", "n": n}, room="admission")

    @event
    async def on_count(self) -> Any:
        return {"members": len(await type(self).hub.members("admission"))}


@pytest.mark.parametrize("server", SERVERS)
def test_who_has_expired_hears_no_broadcast_any_more(server: str) -> None:
    """It could send nothing, and went on being told everything."""

    async def main() -> None:
        async with (
            served(Room, server) as at,
            websockets.asyncio.client.connect(at.url) as short,
            websockets.asyncio.client.connect(at.url) as long,
        ):
            await long.send('{"type":"enter","seconds":3600}')
            await long.recv()
            await short.send('{"type":"enter","seconds":0.05}')
            await short.recv()
            with pytest.raises(websockets.exceptions.ConnectionClosedError):
                await short.recv()
            assert short.close_code == 4401
            members = 2
            while members > 1:  # it leaves its rooms when its connection has ended
                await long.send('{"type":"count"}')
                members = json.loads(await long.recv())["members"]
            await long.send('{"type":"say","n":1}')
            assert json.loads(await long.recv()) == {"type": "said", "n": 1}

    run(main())


def test_what_the_server_sends_counts_for_no_limit() -> None:
    """A limit was charged for the answers."""

    class Chatty(Endpoint):
        rate_limit = RateLimit(2, per_s=60)

        @event(guards=[RateLimit(2, per_s=60)])
        async def on_tell(self) -> Any:
            for n in range(50):
                await self.send({"type": "told", "n": n})
            return {}

    answers = talk(Chatty, {"type": "tell"}, {"type": "tell"}, {"type": "tell"}).answers
    assert [answer["type"] for answer in answers] == (["told"] * 50 + ["tell"]) * 2 + ["error"]


def test_what_middleware_raises_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """It was swallowed, and nobody knew why nothing worked."""

    class Chat(Endpoint):
        @event
        async def on_say(self) -> Any:
            return {}

    @Chat.middleware
    async def broken(endpoint: Any, call: Call, handle: Any) -> Any:
        raise KeyError("secret")

    answer = ask(Chat, {"type": "say", "ref": 5})
    assert answer == {"type": "error", "code": "internal_error", "ref": 5, "errors": []}
    (record,) = caplog.records
    assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)


@pytest.mark.parametrize("what", ["before", "guard", "middleware"])
def test_a_bug_in_what_stands_before_lets_nothing_through(what: str) -> None:
    """A handler that caught too much, and went on, let everybody in."""
    handled = []

    def broken(*_: Any) -> Any:
        raise AttributeError("'NoneType' object has no attribute 'is_admin'")

    async def broken_later(*_: Any) -> Any:
        broken()

    guards = [broken] if what == "guard" else []

    class Chat(Endpoint):
        @event(guards=guards)
        async def on_say(self) -> Any:
            handled.append("say")

    class Before(Chat):
        async def before(self, call: Call) -> None:
            broken()

    if what == "middleware":
        Chat.middleware(broken_later)
    cls = Before if what == "before" else Chat
    assert [answer["code"] for answer in talk(cls, *[{"type": "say"}] * 3).answers] == ["internal_error"] * 3
    assert handled == []


@pytest.mark.parametrize("server", SERVERS)
def test_a_guard_that_waits_for_ever_is_let_go_when_its_peer_leaves(server: str) -> None:
    """Like a handler: nothing is left of the connection."""
    seen: list[Any] = []

    async def forever(endpoint: Any, call: Call) -> None:
        seen.append("asked")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("let go")

    class Chat(Endpoint):
        disconnect_grace_s = 0.02

        async def on_disconnect(self, close_code: int) -> None:
            seen.append(close_code)

        @event(guards=[forever])
        async def on_say(self) -> None:
            seen.append("handled")

    async def main() -> None:
        async with served(Chat, server) as at:
            async with websockets.asyncio.client.connect(at.url) as client:
                await client.send('{"type":"say"}')
                await until(lambda: seen)
            await until(lambda: len(seen) == 3)
            await at.idle()

    run(main())
    assert seen == ["asked", "let go", 1000]


def test_a_storm_of_who_does_not_read_its_refusals_ends() -> None:
    """The answers to it pile up nowhere."""

    class Chat(Endpoint):
        @event(guards=[RateLimit(1, per_s=3600)])
        async def on_say(self) -> None: ...

    async def main() -> None:
        async with serving(Chat) as at:
            async with peer(at) as storm:
                storm.say(*[masked(TEXT, b'{"type":"say"}')] * 50_000)
                frames = [await storm.frame() for _ in range(20)]
                assert [frame[0] for frame in frames if frame] == [0x81] * 19 + [0x88]
                storm.vanish()
            await at.idle()

    run(main())


def test_one_that_refreshes_its_token_needs_no_new_connection() -> None:
    """Its rooms, and what it has not heard yet, were lost with the old one."""

    class Chat(Endpoint):
        async def authenticate(self) -> str:
            self.user_expires_at = time.time() + 0.2
            return "ada"

        @event
        async def on_enter(self) -> Any:
            await self.join("refreshed")
            return {}

        @event
        async def on_refresh(self) -> Any:
            self.user_expires_at = time.time() + 3600
            expired = asyncio.Event()
            asyncio.get_running_loop().call_later(0.25, expired.set)  # as long as the old one was good
            await expired.wait()
            return {"rooms": list(self.rooms)}

    async def main() -> None:
        async with serving(Chat) as at, websockets.asyncio.client.connect(at.url) as client:
            for name, answer in (
                ("enter", {"type": "enter"}),
                ("refresh", {"type": "refresh", "rooms": ["refreshed"]}),
            ):
                await client.send(json.dumps({"type": name}))
                assert json.loads(await client.recv()) == answer

    run(main())


def test_messages_that_come_with_a_sign_in_wait_for_it() -> None:
    """A client that does not wait for the answer was refused: messages are handled one after the other."""

    class Chat(Endpoint):
        async def before(self, call: Call) -> None:
            if self.user is None and call.event != "sign_in":
                raise EventError("unauthorized")

        @event
        async def on_sign_in(self) -> Any:
            await asyncio.sleep(0)
            self.user = "ada"
            return {}

        @event
        async def on_say(self) -> Any:
            return {}

    async def main() -> None:
        async with serving(Chat) as at, websockets.asyncio.client.connect(at.url) as client:
            await client.send('{"type":"sign_in"}')
            await client.send('{"type":"say"}')
            assert [json.loads(await client.recv())["type"] for _ in range(2)] == ["sign_in", "say"]

    run(main())


def test_one_connections_limit_is_not_anothers() -> None:
    """Nor does what one user did outlive its connection: a shared instance knew everybody."""
    shared = RateLimit(1, per_s=3600)

    class Chat(Endpoint):
        rate_limit = shared

        @event
        async def on_say(self) -> Any:
            return {}

    async def main() -> list[Any]:
        peers = [Peer(Chat, [{"type": "say"}] * 2) for _ in range(3)]
        await asyncio.gather(*(each.run() for each in peers))
        return [[answer["type"] for answer in each.answers] for each in peers]

    assert asyncio.run(main()) == [["say", "error"]] * 3
