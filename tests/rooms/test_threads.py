"""`self.sync`: what a connection does, from handlers that run in threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from socketsundso import Endpoint, EventError, Keep, event

from ..harness import talk
from .serving import run, serving

pytestmark = pytest.mark.usefixtures("backplane", "both_protocols")

METHODS = {
    "send": ({"type": "m"},),
    "respond": ({"type": "m"},),
    "close": (),
    "join": ("r",),
    "leave": ("r",),
    "broadcast": ({"type": "m"}, "r"),
    "identify": ("u1",),
    "track": ({}, "r"),
    "untrack": ("r",),
}


class Threaded(Endpoint):
    history = {"doc:*": Keep(messages=10)}
    presence_events = True
    presence_interval_s = 0

    async def authorize(self, room: str) -> bool:
        return room != "secret"

    @event
    def on_enter(self, room: str) -> dict[str, Any]:
        self.sync.join(room)
        return {"rooms": sorted(self.rooms)}

    @event
    def on_enter_again(self, room: str) -> dict[str, Any]:
        self.sync.join(room, last=5)
        return {"rooms": sorted(self.rooms)}

    @event
    def on_exit(self, room: str) -> dict[str, Any]:
        self.sync.leave(room)
        return {"rooms": sorted(self.rooms)}

    @event
    def on_say(self, room: str, n: int, but_me: bool = False) -> dict[str, Any]:
        self.sync.broadcast({"type": "m", "n": n}, room, exclude_self=but_me)
        return {"type": "said"}

    @event
    def on_show(self, meta: Any) -> dict[str, Any]:
        self.sync.track(meta, "r")
        self.sync.untrack("r")
        return {"type": "shown"}

    @event
    def on_iam(self, user: str) -> None:
        self.sync.identify(user)
        self.sync.respond({"type": "welcome", "user": user})

    @event
    def on_count(self) -> None:
        for n in range(20):
            self.sync.send({"type": "m", "n": n})

    @event
    def on_quit(self) -> None:
        self.sync.close(4005, "enough")

    @event
    def on_own_thread(self) -> dict[str, Any]:
        problems: list[BaseException] = []

        def work() -> None:
            try:
                self.sync.send({"type": "m", "n": 1})
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return {"type": "done", "problems": list(map(str, problems))}


def test_a_handler_in_a_thread_does_what_others_await() -> None:
    """Rooms, messages, presence, answers and the close, each done when the call returns, in their order."""

    async def main() -> None:
        async with serving(Threaded) as client:
            ada, bob = await client(), await client()
            for each in (ada, bob):
                assert (await each.call("enter", room="r"))["rooms"] == ["r"]
            assert (await ada.call_all("say", room="r", n=1))[0]["n"] == 1
            await ada.call("say", room="r", n=2, but_me=True)
            assert [message["n"] for message in await bob.receives(2)] == [1, 2]
            told = await ada.call_all("show", meta="x")
            assert [message["type"] for message in told] == ["presence_diff", "presence_diff", "shown"]
            assert (await ada.call("iam", user="u1")) == {"type": "welcome", "user": "u1", "ref": "call"}
            await Threaded.hub.to_user("u1").send({"type": "m", "n": 3})
            assert (await ada.receive())["n"] == 3
            await ada.send("count")
            assert [message["n"] for message in await ada.receives(20)] == list(range(20))
            assert (await ada.call("exit", room="r"))["rooms"] == []
            await ada.send("quit")
            assert await ada.closed() == 4005
            assert ada.connection.close_reason == "enough"

    run(main)


def test_what_is_raised_there_is_raised_in_the_thread() -> None:
    """And so answered, as if it had been awaited; a room with history tells the past, too."""

    async def main() -> None:
        async with serving(Threaded) as client:
            ada = await client()
            assert (await ada.call("enter", room="secret"))["code"] == "forbidden"
            assert (await ada.call("enter", room="a*"))["code"] == "validation_error"
            await ada.call("say", room="doc:1", n=1)
            told = await ada.call_all("enter_again", room="doc:1")
            assert [message.get("seq") for message in told[:2]] == [0, 1]
            assert (await ada.call("enter", room="doc:1"))["rooms"] == ["doc:1"]

    run(main)


def test_threads_that_a_handler_starts_may_call_it_too() -> None:
    """It needs no event loop of its own, nor anyio's."""

    async def main() -> None:
        async with serving(Threaded) as client:
            ada = await client()
            await ada.send("own_thread")
            assert await ada.receives(2) == [{"type": "m", "n": 1}, {"type": "done", "problems": []}]

    run(main)


@pytest.mark.parametrize("name", METHODS)
def test_where_it_would_stop_an_event_loop_it_refuses(name: str) -> None:
    """In `async def` handlers, with the remedy."""

    class Wrong(Endpoint):
        @event
        async def on_do(self) -> None:
            with pytest.raises(RuntimeError, match="would stop this event loop; await"):
                getattr(self.sync, name)(*METHODS[name])
            raise EventError("refused")

    assert talk(Wrong, {"type": "do"}).answers[0]["code"] == "refused"


@pytest.mark.parametrize("name", METHODS)
def test_what_is_awaited_refuses_to_be_called_in_a_thread(name: str) -> None:
    """At once, with the remedy, instead of doing nothing while the reply says that all is well."""

    class Wrong(Endpoint):
        @event
        def on_do(self) -> None:
            with pytest.raises(RuntimeError, match=rf"self\.sync\.{name}\("):
                getattr(self, name)(*METHODS[name])
            raise EventError("refused")

    assert talk(Wrong, {"type": "do"}).answers[0]["code"] == "refused"


def test_an_override_is_called_there_too() -> None:
    """`self.sync` has no way of its own around what a class has changed."""

    class Loud(Threaded):
        async def send(self, message: Any) -> None:
            await super().send({**message, "n": message["n"] + 100})

    async def main() -> None:
        async with serving(Loud) as client:
            ada = await client()
            await ada.send("own_thread")
            assert (await ada.receive())["n"] == 101

    run(main)


def test_after_the_end_of_the_connection_it_says_so() -> None:
    """As what is awaited does: the quiet disconnect; and a RuntimeError where its event loop has ended, too."""
    kept: list[Threaded] = []

    class Kept(Threaded):
        async def on_connect(self) -> None:
            kept.append(self)
            await super().on_connect()

    async def main() -> None:
        async with serving(Kept) as client:
            ada = await client()
            await ada.leave()
            with pytest.raises(WebSocketDisconnect):
                await asyncio.to_thread(kept[0].sync.send, {"type": "m"})

    run(main)
    with pytest.raises(RuntimeError, match="event loop of this connection has ended"):
        kept[0].sync.send({"type": "m"})


def test_a_thread_does_not_wait_for_an_event_loop_that_ends() -> None:
    """A call that is cancelled together with everything else in the loop."""
    errors: list[Exception] = []
    stuck = asyncio.Event()

    class Hanging(Threaded):
        async def send(self, message: Any) -> None:
            stuck.set()
            await asyncio.Event().wait()

    def work(endpoint: Hanging) -> None:
        try:
            endpoint.sync.send({"type": "m"})
        except RuntimeError as error:
            errors.append(error)

    async def main() -> threading.Thread:
        endpoint: Hanging = Hanging.__new__(Hanging)
        endpoint.__dict__["_peer"] = type("Peer", (), {"loop": asyncio.get_running_loop()})
        thread = threading.Thread(target=work, args=(endpoint,))
        thread.start()
        await stuck.wait()
        return thread

    asyncio.run(main()).join(20)
    assert len(errors) == 1
