"""Messages on their way to the application: in order, none lost to a cancelled task, bounded in bytes, with an end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn.protocols.utils import ClientDisconnected

from socketsundso.server import inbox as inboxes
from socketsundso.server.inbox import MAX_ENDS_TOLD, MAX_QUEUED_BYTES, Inbox

END = {"type": "websocket.disconnect", "code": 1001, "reason": ""}


class Transport:
    def __init__(self) -> None:
        self.reading, self.closing = True, False

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Scene:
    """An inbox, and what it tells those around it."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.transport: Any = Transport()
        outbox: Any = SimpleNamespace(eager=True)
        self.inbox = Inbox(asyncio.get_running_loop(), self.transport, outbox, self)

    def app_is_behind(self) -> None:
        self.told.append("behind")

    def app_saw_everything(self) -> None:
        self.told.append("saw everything")

    def peer_left(self, message: Any) -> None:
        self.told.append(message)

    async def waiting(self) -> asyncio.Task[Any]:
        """A task that waits for a message."""
        task = asyncio.create_task(self.inbox.receive())
        await asyncio.sleep(0)
        return task

    async def texts(self, count: int) -> list[str]:
        return [(await self.inbox.receive())["text"] for _ in range(count)]


@pytest.mark.parametrize("comes_first", ["message", "cancellation"])
def test_what_comes_in_the_turn_in_which_its_task_is_cancelled_is_not_lost(comes_first: str) -> None:
    """It is the next that is received, before what comes after it."""

    async def main() -> None:
        scene = Scene()
        task = await scene.waiting()
        if comes_first == "cancellation":
            task.cancel()
            scene.inbox.put("a", 1)
        else:
            scene.inbox.put("a", 1)
            task.cancel()
        scene.inbox.put("b", 1)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await scene.texts(2) == ["a", "b"]

    asyncio.run(main())


def test_an_arrival_comes_in_its_turn_behind_a_task_that_receives() -> None:
    """Whoever waited first has the first message."""

    async def main() -> None:
        scene = Scene()
        first = await scene.waiting()
        second = asyncio.ensure_future(scene.inbox.arrival())
        await asyncio.sleep(0)
        scene.inbox.put("a", 1)
        scene.inbox.put("b", 1)
        assert [(await task)["text"] for task in (first, second)] == ["a", "b"]  # type: ignore[index]  # by way of receive

    asyncio.run(main())


def test_above_its_bound_the_transport_stops_reading_until_all_is_taken() -> None:
    """The connection is told once, and what one message weighs besides its payload counts."""

    async def main() -> None:
        scene = Scene()
        count = MAX_QUEUED_BYTES // inboxes.MESSAGE_BYTES + 2
        for n in range(count):
            scene.inbox.put(str(n), 0)
        assert (scene.told, scene.transport.reading) == (["behind"], False)
        assert await scene.texts(count - 1) == [str(n) for n in range(count - 1)]
        assert not scene.transport.reading
        await scene.texts(1)
        assert (scene.transport.reading, scene.inbox.size) == (True, 0)

    asyncio.run(main())


def test_the_transport_of_a_closing_connection_is_left_alone() -> None:
    """Some raise where they are paused or resumed then."""

    async def main() -> None:
        scene = Scene()
        scene.transport.closing = True
        scene.inbox.put("a", 2 * MAX_QUEUED_BYTES)
        assert scene.transport.reading
        scene = Scene()
        scene.inbox.put("a", 2 * MAX_QUEUED_BYTES)
        scene.transport.closing = True
        await scene.texts(1)
        assert not scene.transport.reading

    asyncio.run(main())


def test_the_application_may_keep_the_inbox_of_a_connection_that_is_gone() -> None:
    """It reads what is there, to the end, and nobody is told any more."""

    async def main() -> None:
        scene = Scene()
        scene.inbox.detach()
        scene.inbox.put("a", 2 * MAX_QUEUED_BYTES)
        scene.inbox.end(END)
        assert await scene.texts(1) == ["a"]
        assert await scene.inbox.receive() == END
        assert scene.told == []

    asyncio.run(main())


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_watcher_is_told_of_the_end_while_messages_are_queued(when: str) -> None:
    """Once and at once, also where it comes after the end; the messages come in their turn all the same."""

    async def main() -> None:
        scene = Scene()
        scene.inbox.put("a", 1)
        if when == "before":
            scene.inbox.watch(scene)
        scene.inbox.end(END)
        scene.inbox.end({**END, "code": 1006})
        if when == "after":
            scene.inbox.watch(scene)
        assert scene.told == [END]
        assert await scene.texts(1) == ["a"]
        assert await scene.inbox.receive() == END
        assert scene.told == [END, "saw everything"]

    asyncio.run(main())


@pytest.mark.parametrize("watched", [True, False])
def test_who_waits_gets_the_end_and_no_watcher_is_told(watched: bool) -> None:
    """There is nothing that it would learn too late."""

    async def main() -> None:
        scene = Scene()
        scene.inbox.watch(scene if watched else None)
        task = await scene.waiting()
        scene.inbox.end(END)
        assert await task == END
        assert scene.told == ["saw everything"]

    asyncio.run(main())


def test_who_is_notified_is_called_for_each_message_that_comes_where_there_was_none() -> None:
    """Also for one that was there before; not for one behind others, nor for one that somebody waits for."""

    async def main() -> None:
        scene, calls = Scene(), []

        async def called() -> int:
            await asyncio.sleep(0)
            return len(calls)

        scene.inbox.put("a", 1)
        scene.inbox.notify(lambda: calls.append(1))
        assert calls == [], "in a turn of its own"
        assert await called() == 1
        scene.inbox.put("b", 1)
        assert await called() == 1
        assert await scene.texts(2) == ["a", "b"]
        scene.inbox.put("c", 1)
        scene.inbox.put("d", 1)
        assert await called() == 2
        assert await scene.texts(2) == ["c", "d"]
        task = await scene.waiting()
        scene.inbox.put("e", 1)
        await task
        assert await called() == 2
        scene.inbox.notify(None)
        scene.inbox.put("f", 1)
        assert await called() == 2

    asyncio.run(main())


def test_who_is_notified_hears_of_a_message_that_is_given_back() -> None:
    """Its task was cancelled: nobody waits for it any more."""

    async def main() -> None:
        scene, calls = Scene(), []
        scene.inbox.notify(lambda: calls.append(1))
        task = await scene.waiting()
        scene.inbox.put("a", 1)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert calls == [1]
        assert scene.inbox.take() == "a"

    asyncio.run(main())


def test_who_asks_for_ever_after_the_end_is_stopped() -> None:
    """The event loop has its turns meanwhile, in which such a task may be cancelled."""

    async def main() -> None:
        scene = Scene()
        scene.inbox.end(END)
        turns: list[None] = []
        loop = asyncio.get_running_loop()

        def turn() -> None:
            turns.append(None)
            loop.call_soon(turn)

        turn()
        for _ in range(MAX_ENDS_TOLD):
            assert await scene.inbox.receive() == END
        with pytest.raises(ClientDisconnected):
            await scene.inbox.receive()
        assert len(turns) >= MAX_ENDS_TOLD // inboxes.ENDS_TOLD_AT_ONCE

    asyncio.run(main())
