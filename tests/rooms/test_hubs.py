"""Hubs: which backplane they take, and many messages at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from socketsundso import BackplaneUnavailable, Endpoint, Hub, Keep, SyncHub, event
from socketsundso.rooms.local import Rooms, rooms_for

from ..backplanes.engines import EngineServer, running
from ..backplanes.listener import until
from .peer import Peer
from .serving import run, serving

HISTORY = {"doc:*": Keep(messages=5000)}


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


def notes(count: int) -> list[dict[str, Any]]:
    return [{"type": "m", "n": n} for n in range(count)]


@asynccontextmanager
async def heard(url: str, *rooms: str) -> AsyncIterator[Peer]:
    """Somebody in another process who is in the rooms."""
    other, peer = Rooms(url), Peer()
    other.declare(HISTORY)
    for room in rooms:
        await other.join(peer.who, f"r{room}")
    try:
        yield peer
    finally:
        await other.aclose()


@pytest.mark.parametrize("room", ["lobby", "doc:1"])
@pytest.mark.parametrize("count", [0, 1, 1100])
def test_many_messages_arrive_in_their_order(url: str, room: str, count: int) -> None:
    """Each once, in rooms with history numbered without a hole; from a loop and from a thread."""

    def in_a_thread() -> None:
        with SyncHub(url, history=HISTORY) as hub:
            hub.to(room).send_many(notes(count))
            assert hub.status.published == count

    async def main() -> None:
        async with heard(url, room) as peer, Hub(url, history=HISTORY) as hub:
            await hub.to(room).send_many(note for note in notes(count))
            await until(lambda: len(peer.numbers()) == count, "all of it")
            await asyncio.to_thread(in_a_thread)
            await until(lambda: len(peer.numbers()) == 2 * count, "all of it again")
            assert [n for n, _ in peer.numbers()] == [*range(count), *range(count)]
            numbered = [seq for _, seq in peer.numbers()]
            assert numbered == (list(range(1, 2 * count + 1)) if room == "doc:1" else [0] * 2 * count)

    run(main)


def test_many_messages_for_several_rooms_reach_each_member_once(url: str) -> None:
    """Who is in a plain room and in one with history gets the numbered copies; who is left out gets none."""

    async def main() -> None:
        async with (
            heard(url, "lobby", "games") as plain,
            heard(url, "lobby", "doc:1") as both,
            heard(url, "games") as out,
        ):
            async with Hub(url, history=HISTORY) as hub:
                target = hub.to("lobby", "games", "doc:1").except_(out.who.id)
                await target.send_many(notes(300))
                await target.send({"type": "m", "n": 300})
                await hub.to("games").send({"type": "m", "n": 301})
            await until(lambda: plain.numbers()[-1:] == [(301, 0)], "all of it")
            await until(lambda: len(both.numbers()) == 301, "all of it")
            await until(lambda: out.numbers(), "the last one")
            assert plain.numbers() == [(n, 0) for n in range(302)]
            assert both.numbers() == [(n, n + 1) for n in range(301)]
            assert out.numbers() == [(301, 0)]

    run(main)


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_refused_counts_once_however_many_rooms_it_is_for(count: int) -> None:
    """Rooms with and without history together; one message or many."""

    async def main() -> None:
        async with Hub("redis://127.0.0.1:1", history=HISTORY, on_unavailable="count") as hub:
            target = hub.to("lobby", "games", "doc:1", "doc:2")
            if count == 1:
                await target.send({"type": "m"})
            else:
                await target.send_many(notes(count))
            await hub.to("lobby", "games").send({"type": "m"})
            assert (hub.status.published, hub.status.refused) == (count + 1, count + 1)

    run(main)


class Listening(Lobby):
    history = HISTORY


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("room", ["lobby", "doc:1"])
def test_many_large_messages_make_no_reader_slow_that_takes_them_all(room: str) -> None:
    """Its own process waits for who comes near its bound, as `broadcast` does; also where the room numbers them."""

    async def main() -> None:
        async with serving(Listening) as client:
            reader = await client()
            await reader.call("enter", room=room)
            messages = [{"type": "m", "n": n, "pad": "x" * 5000} for n in range(2000)]
            sending = asyncio.create_task(Listening.hub.to(room).send_many(messages))
            assert [(await reader.receive())["n"] for _ in messages] == list(range(2000))
            await sending

    run(main)


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([{"type": "m"}, {"no": "type"}], TypeError),
        ([{"type": "m"}, object()], Exception),
        ({"type": "m"}, TypeError),
        ("m", TypeError),
        ([{"type": "m"}, {"type": "m", "seq": 1}], ValueError),
    ],
)
def test_of_many_messages_none_is_sent_where_one_is_wrong(messages: Any, error: type[Exception]) -> None:
    """What the programmer did wrong is found before the first of them is on its way."""
    url = "memory://wrong"

    async def main() -> None:
        async with heard(url, "doc:1", "lobby") as peer, Hub(url, history=HISTORY) as hub:
            with pytest.raises(error):
                await hub.to("lobby", "doc:1").send_many(messages)
            await hub.to("lobby").send({"type": "m", "n": 7})
            await until(lambda: peer.numbers() == [(7, 0)], "the only one")
            assert len(peer.got) == 2  # and its position

    run(main)


@pytest.mark.parametrize("url", ["redis", "nats"], indirect=True)
def test_many_messages_cost_few_round_trips(url: str) -> None:
    """One for each 200 of them and room, and not one for each."""

    async def main() -> None:
        async with Hub(url, history=HISTORY) as hub:
            backplane: Any = rooms_for(url).backplane
            asked: list[str] = []

            async def counted(call: Any) -> Any:
                asked.append(call.__name__)
                return await ask(call)

            ask, backplane._ask = backplane._ask, counted
            write, written = backplane._write, []

            async def counted_write(batch: Any) -> None:
                written.append(len(batch))
                await write(batch)

            backplane._write = counted_write
            await hub.to("lobby", "doc:1").send_many(notes(1000))
            assert asked.count("_append_many") == 5
            assert len(asked) <= 6
            assert (sum(written), len(written) <= 10) == (1000, True)

    run(main)


@pytest.mark.parametrize("room", ["lobby", "doc:1"])
@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_an_engine_that_goes_away_half_way_tells_how_many_it_has_taken(kind: str, room: str) -> None:
    """Those are there, and of the others not more than were under way; a hub that counts has them in its status."""

    async def main(engine: EngineServer) -> None:
        hub, counting = Hub(engine.url, history=HISTORY), Hub(engine.url, history=HISTORY, on_unavailable="count")
        async with hub, counting:
            backplane: Any = rooms_for(engine.url).backplane
            name = "_append_many" if room == "doc:1" else "_write"
            real, times = getattr(backplane, name), 0

            async def then_killed(*args: Any) -> Any:
                nonlocal times
                times += 1
                if times == 3:
                    engine.kill()
                return await real(*args)

            setattr(backplane, name, then_killed)
            async with heard(engine.url, room) as peer:
                with pytest.raises(BackplaneUnavailable) as refused:
                    await hub.to(room).send_many(notes(1000))
                assert refused.value.taken == 400
                assert hub.status.refused == 600
                await until(lambda: len(peer.numbers()) >= 400, "what was taken")
                assert [n for n, _ in peer.numbers()] == list(range(400))
                await until(lambda: hub.status == "reconnecting", "the loss is noticed")
                await counting.to(room).send_many(notes(10))
                assert hub.status.refused == 610

    with running(kind) as engine:
        run(lambda: main(engine))


def test_a_thread_hears_how_many_were_taken(redis_engine: EngineServer) -> None:
    """Of all of them, though they are given to the engine by the thousand; also when its patience is over."""
    url = f"{redis_engine.url}?prefix=thread"

    def in_a_thread() -> None:
        with SyncHub(url, history=HISTORY, timeout_s=1.0) as hub:
            send, times = hub._hub._send_many, 0

            async def hangs(*args: Any) -> None:
                nonlocal times
                times += 1
                if times == 2:
                    await asyncio.Event().wait()
                if times == 4:
                    raise BackplaneUnavailable("away", taken=7)
                await send(*args)

            hub._hub._send_many = hangs  # type: ignore[method-assign]
            for taken in (1000, 1007):
                with pytest.raises(BackplaneUnavailable) as refused:
                    hub.to("doc:1").send_many(notes(2500))
                assert refused.value.taken == taken

    in_a_thread()


def test_a_log_that_is_deleted_meanwhile_begins_anew_with_many(nats_engine: EngineServer) -> None:
    """None of them is lost with it."""

    async def main() -> None:
        url = f"{nats_engine.url}?prefix=manyanew"
        async with Hub(url, history=HISTORY) as hub:
            await hub.to("doc:1").send_many(notes(3))
            backplane: Any = rooms_for(url).backplane
            await backplane._js.delete_stream("manyanew_log_rdoc=3A1")
            await hub.to("doc:1").send_many(notes(5))
            assert (await backplane.read("rdoc:1", HISTORY["doc:*"])).seq == 5

    run(main)


def test_what_redis_refuses_of_many_is_not_taken() -> None:
    """It goes on to answer: those before it are in the log."""

    async def main() -> None:
        with running("redis") as engine:
            async with Hub(engine.url, history=HISTORY) as hub:
                backplane: Any = rooms_for(engine.url).backplane
                args = backplane._append_args

                def wrong(encoded: str, payload: bytes, keep: Keep) -> Any:
                    given = args(encoded, payload, keep)
                    return [*given[:2], "no number", *given[3:]] if b'"n":30' in payload else given

                backplane._append_args = wrong
                with pytest.raises(BackplaneUnavailable) as refused:
                    await hub.to("doc:1").send_many(notes(31))
                assert refused.value.taken == 30

    run(main)
