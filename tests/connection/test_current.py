"""`self.current`: which message is being answered, wherever somebody may want to know."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from socketsundso import Endpoint, event
from tests.harness import Peer, talk


def shown(endpoint: Endpoint) -> list[Any]:
    return list(endpoint.current or ())


class App(Endpoint):
    @event
    async def on_async(self, n: int) -> Any:
        return {"current": shown(self)}

    @event
    def on_sync(self, n: int) -> Any:
        return {"current": shown(self)}

    @event
    async def on_task(self, n: int) -> Any:
        return {"current": await asyncio.create_task(self.look())}

    async def look(self) -> list[Any]:
        await asyncio.sleep(0)
        return shown(self)


@pytest.mark.parametrize("name", ["async", "sync", "task"])
@pytest.mark.parametrize("n", [1, "1"], ids=["decoded", "judged"])
def test_handlers_and_their_tasks_know_their_message(name: str, n: Any) -> None:
    """Event, ref and kind of frame, of each message anew."""
    text = f'{{"type":"{name}","n":{n if isinstance(n, int) else f"{chr(34)}{n}{chr(34)}"}%s}}'
    frames = [text % "", text % ',"ref":7', (text % "").encode(), text % ',"ref":"a"', text % ""]
    answers = [answer["current"] for answer in talk(App, *frames).answers]
    assert answers == [
        [name, None, "text"],
        [name, 7, "text"],
        [name, None, "binary"],
        [name, "a", "text"],
        [name, None, "text"],
    ]


class Telling(Endpoint):
    """Answers errors in its own way."""

    @event
    async def on_message(self, n: int) -> None:
        raise HTTPException(404)

    async def send_exception(self, exc: Exception) -> None:
        await self.respond({"oops": type(exc).__name__, "current": shown(self)})


@pytest.mark.parametrize(
    ("frame", "kind", "event_name"),
    [
        ('{"type":"message","n":"x","ref":7}', "message", "message"),
        ('{"type":"message","n":1,"ref":7}', "message", "message"),
        ('{"type":"unknown","ref":7}', "error", None),
        ('{"ref":7}', "error", None),
        ('{"type":5,"ref":7}', "error", None),
    ],
)
def test_an_own_send_exception_answers_with_the_ref(frame: str, kind: str, event_name: str | None) -> None:
    """`respond` carries the ref for every message that has one, also where no handler is for it."""
    for sent, frame_type in ((frame, "text"), (frame.encode(), "binary")):
        (answer,) = talk(Telling, sent).answers
        assert (answer["type"], answer["ref"]) == (kind, 7)
        assert answer["current"] == [event_name, 7, frame_type]


def test_an_answer_to_an_unknown_event_may_bring_its_own_type() -> None:
    """Only one without is called "error"."""

    class Own(Endpoint):
        async def send_exception(self, exc: Exception) -> None:
            await self.respond({"type": "sorry"})

    assert talk(Own, {"type": "x", "ref": 1}).answers == [{"type": "sorry", "ref": 1}]


def test_outside_of_a_message_nothing_is_current() -> None:
    """Neither in on_connect and its tasks, nor in on_disconnect."""
    seen: list[Any] = []

    class Looking(Endpoint):
        async def on_connect(self) -> None:
            await super().on_connect()
            seen.append(self.current)

        @event
        async def on_x(self) -> None:
            seen.append(self.current)

        async def on_disconnect(self, close_code: int) -> None:
            seen.append(self.current)

    talk(Looking, {"type": "x"})
    assert seen == [None, ("x", None, "text"), None]


def test_another_connections_respond_answers_nothing_of_this_one() -> None:
    """What a handler sends on somebody else's endpoint is a message of its own there, without this one's ref."""
    others: list[Endpoint] = []

    class Relay(Endpoint):
        async def on_connect(self) -> None:
            await super().on_connect()
            others.append(self)

        @event
        async def on_poke(self) -> None:
            assert others[0].current is None
            await others[0].respond({"type": "poked"})

    async def main() -> None:
        quiet = Peer(Relay, code=None)
        waiting = asyncio.create_task(quiet.run())
        while not others:
            await asyncio.sleep(0)
        await Peer(Relay, [{"type": "poke", "ref": 7}]).run()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert quiet.answers == [{"type": "poked"}]

    asyncio.run(main())
