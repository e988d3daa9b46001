"""What processes on one backplane say of the history of the same rooms, in whichever order they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from socketsundso import Endpoint, Hub, Keep, SyncHub, event
from socketsundso.backplanes import DECLARATIONS, memory
from socketsundso.errors import BackplaneUnavailable, DefinitionError
from socketsundso.rooms import agreement
from socketsundso.rooms.local import Rooms

from ..backplanes.engines import running
from ..backplanes.listener import opened, until
from .peer import Peer, cut_off, message, rest
from .serving import run, serving

FIFTY, FIVE = {"doc:*": Keep(messages=50)}, {"doc:*": Keep(messages=5)}
BOTH = r"rooms that match 'doc:\*'.*Keep\(messages=50, seconds=300\.0\).*Keep\(messages=5, seconds=300\.0\)"


class Doc(Endpoint):
    history = FIFTY

    @event
    async def on_enter(self, room: str) -> dict[str, Any]:
        await self.join(room)
        return {}

    @event
    async def on_say(self, room: str, n: int) -> dict[str, Any]:
        await self.broadcast({"type": "said", "n": n}, room=room)
        return {}


@asynccontextmanager
async def process(url: str, *declared: Any) -> AsyncIterator[Rooms]:
    """One, as far as the backplane can tell."""
    rooms = Rooms(url)
    try:
        await rooms.open()
        for each in declared:
            await rooms.agree(each)
        yield rooms
    finally:
        await rooms.aclose()


async def end(rooms: Rooms, room: str) -> int:
    """The number of the latest message."""
    return (await rooms.backplane.read(f"r{room}", Keep(messages=50))).seq


def test_a_hub_that_says_something_else_than_the_application_is_refused(everywhere: str) -> None:
    """With both in the text, at its first use and at each one after that; the room keeps what it kept."""

    def trim() -> None:
        hub = SyncHub(history=FIVE)
        for _ in range(2):
            with pytest.raises(DefinitionError, match=BOTH):
                hub.to("doc:1").send({"type": "said", "n": -1})
        hub.close()

    async def main() -> None:
        async with serving(Doc) as client:
            ada = await client()
            await ada.send("enter", room="doc:1")
            at, _ = await ada.receives(2)
            for n in range(20):
                await ada.call("say", room="doc:1", n=n)
            await asyncio.to_thread(trim)
            bob = await client()
            answer = await bob.call("resume", rooms={"doc:1": {"seq": 0, "epoch": at["epoch"]}})
            assert answer["rooms"]["doc:1"]["recovered"] is True
            assert [each["seq"] for each in await bob.receives(20)] == list(range(1, 21))

    run(main)


def test_an_application_that_says_something_else_than_a_hub_is_refused(
    everywhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connections are, with HTTP 500, and both in the log; until the hub has ended."""

    async def main() -> None:
        hub = SyncHub(history=FIVE)
        await asyncio.to_thread(hub.to("lobby").send, {"type": "note"})
        async with serving(Doc) as client:
            with pytest.raises(InvalidStatus, match="500"):
                await client()
            await asyncio.to_thread(hub.close)
            ada = await client()
            await ada.call("enter", room="doc:1")

    run(main)
    text = next(str(record.exc_info[1]) for record in caplog.records if record.exc_info)
    assert "Keep(messages=5, seconds=300.0)" in text
    assert "Keep(messages=50, seconds=300.0)" in text


def test_a_hub_that_declares_nothing_numbers_what_it_sends_to_a_new_room(everywhere: str) -> None:
    """Nobody has ever used the room: the application's pattern says so. One that declares other rooms does, too."""

    def send(history: Any) -> None:
        with SyncHub(history=history) as hub:
            hub.to("lobby").send({"type": "said", "n": 0})
            hub.to("doc:new").send({"type": "said", "n": 1})

    async def main() -> None:
        async with serving(Doc) as client:
            await client()
            for _ in range(2):
                for history in (None, {"note:*": Keep()}):
                    await asyncio.to_thread(send, history)
        async with process(everywhere) as rooms:
            assert await end(rooms, "doc:new") == 4
            assert await rooms.backplane.logged("rlobby") is None

    run(main)


def test_a_member_that_declares_nothing_numbers_what_it_says_in_a_room_that_others_keep(url: str) -> None:
    """Whether they declared it before it came, or later, and it has heard them."""

    async def main() -> None:
        async with process(url, FIFTY) as kept, process(url) as plain:
            writer, ada, bob = Peer(), Peer(), Peer()
            await kept.join(ada.who, "rdoc:1")
            await plain.join(writer.who, "rdoc:1")
            await plain.broadcast(["rdoc:1"], message(1))
            await until(lambda: ada.numbers() == [(1, 1)] == writer.numbers(), "a number")
            await plain.join(writer.who, "rlate:1")
            async with process(url, {"late:*": Keep()}) as late:
                await late.join(bob.who, "rlate:1")
                await late.broadcast(["rlate:1"], message(2))
                await until(lambda: writer.numbers()[1:] == [(2, 1)], "it hears that the room is kept")
                await plain.broadcast(["rlate:1", "rlobby"], message(3))
                await until(lambda: bob.numbers() == [(2, 1), (3, 2)], "a number")

    run(main)


def test_what_was_declared_outlives_its_process(url: str) -> None:
    """A hub that declares nothing numbers also while the application is started anew; of two the later one counts."""

    async def main() -> None:
        async with process(url) as hub:
            await hub.broadcast(["rdoc:0"], message(0))
            async with process(url, FIFTY):
                await hub.broadcast(["rdoc:1"], message(1))
            await hub.broadcast(["rdoc:2"], message(2))
            assert [await end(hub, f"doc:{n}") for n in range(3)] == [0, 1, 1]
            async with process(url, FIVE):
                pass
            await hub.broadcast(["rdoc:3"], message(3))
            assert await hub.backplane.logged("rdoc:3") == FIVE["doc:*"]
            assert len(await hub.backplane.remembered()) == 1

    run(main)


def test_the_same_in_other_processes_is_no_conflict(url: str) -> None:
    """Nor is a pattern more, or another one that means the same for the room."""

    async def main() -> None:
        async with (
            process(url, FIFTY) as here,
            process(url, {"doc:*": Keep(messages=50, seconds=300), "x": Keep()}) as there,
            process(url, {"doc:[a-z]": Keep(messages=50)}, FIFTY) as beyond,
        ):
            for n, rooms in enumerate((here, there, beyond)):
                await rooms.broadcast(["rdoc:a"], message(n))
            assert await end(here, "doc:a") == 3

    run(main)


def test_patterns_that_are_written_otherwise_and_meet_in_a_room_are_refused_there(url: str) -> None:
    """For who came later, as long as the other lives; who was there goes on."""
    one = {"doc:a*": Keep(messages=7)}

    async def main() -> None:
        async with process(url, FIFTY) as first, process(url, one) as second:
            for n in range(2):
                await first.broadcast(["rdoc:a"], message(n))
                peer = Peer()
                with pytest.raises(DefinitionError, match=r"the room 'doc:a'.*messages=50.*messages=7"):
                    await second.broadcast(["rdoc:a"], message(n))
                with pytest.raises(DefinitionError, match="the room 'doc:a'"):
                    await second.join(peer.who, "rdoc:a")
                assert (second.topics, peer.who.rooms) == ({}, {})
            await first.aclose()
            await second.broadcast(["rdoc:a"], message(2))
            assert await end(second, "doc:a") == 3

    run(main)


def test_of_two_that_come_at_the_same_moment_one_is_let_in(url: str) -> None:
    """Never both, and never none; a third that says the same as who is there is not disturbed by who is refused."""

    async def main() -> None:
        for _ in range(5):
            async with process(url) as here, process(url) as there:
                became = await asyncio.gather(here.agree(FIFTY), there.agree(FIVE), return_exceptions=True)
                assert sorted(type(each) for each in became if each) == [DefinitionError]
        async with process(url, FIFTY), process(url) as wrong, process(url) as right:
            became = await asyncio.gather(wrong.agree(FIVE), right.agree(FIFTY), return_exceptions=True)
            assert [type(each) for each in became] == [DefinitionError, type(None)]
            assert not wrong.agreed(FIVE)
            await wrong.agree(FIFTY)

    run(main)


def test_a_killed_process_keeps_its_declaration_for_its_time_to_live(between_processes: str) -> None:
    """Then another one counts."""

    async def main() -> None:
        url = f"{between_processes}&presence_ttl_s=1"
        async with process(url, FIFTY) as killed, process(url) as other:
            async with asyncio.timeout(30):
                async with cut_off(killed):
                    with pytest.raises(DefinitionError):
                        await other.agree(FIVE)
                    while not other.agreed(FIVE):
                        try:
                            await other.agree(FIVE)
                        except DefinitionError:
                            await asyncio.sleep(0)

    run(main)


def test_what_is_declared_while_the_engine_is_away_is_declared_when_it_is_back(
    between_processes: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is different from the others' is told in the log then, and refused in its rooms."""

    async def main() -> None:
        async with (
            process(between_processes, FIFTY),
            process(between_processes) as late,
            process(between_processes) as same,
        ):
            async with cut_off(late), cut_off(same):
                await late.agree(FIVE)
                await same.agree(FIFTY)
                assert not late.agreed(FIVE)
            await until(lambda: same.agreed(FIFTY), "agreed")
            await until(lambda: "doc:*" in caplog.text, "told")
            with pytest.raises(DefinitionError, match="doc:1"):
                await late.broadcast(["rdoc:1"], message(1))
            await same.broadcast(["rdoc:1"], message(1))
            assert await end(same, "doc:1") == 1

    run(main)


def test_an_engine_that_forgets_is_told_again() -> None:
    """Of what lives and of the copies, without anybody's doing."""
    import redis.asyncio as redis

    async def main(url: str, port: int) -> None:
        async with process(url, FIFTY), process(url) as hub, redis.Redis(port=port) as admin:
            await admin.flushall()
            async with asyncio.timeout(30):
                while not await hub.backplane.remembered():
                    await asyncio.sleep(0)
            with pytest.raises(DefinitionError):
                await hub.agree(FIVE)

    with running("redis") as engine:
        run(lambda: main(f"{engine.url}?presence_ttl_s=1", engine.port))


def test_a_nats_without_jetstream_can_be_declared_on() -> None:
    """Nothing can be kept there; rooms without history carry on."""

    async def main(url: str) -> None:
        async with process(url) as rooms, process(url) as there:
            await rooms.agree(FIFTY)
            peer = Peer()
            await there.join(peer.who, "rlobby")
            await rooms.broadcast(["rlobby"], message(1), must_publish=True)
            await until(lambda: peer.numbers() == [(1, 0)], "it is heard")

    with running("nats", jetstream=False) as engine:
        run(lambda: main(engine.url))


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"owner":"x","at":1,"patterns":[["doc:*",0,1]]}'])
def test_what_somebody_else_wrote_there_is_ignored(url: str, garbage: bytes) -> None:
    """And cleared away by the next who declares."""

    async def main() -> None:
        async with opened(url) as (theirs, _), process(url) as hub:
            await theirs.remember("garbage", garbage)
            await theirs.hold(DECLARATIONS, "garbage", garbage)
            await hub.broadcast(["rdoc:1"], message(1))
            async with process(url, FIFTY):
                assert list(await theirs.remembered()) != ["garbage"]
                await hub.broadcast(["rdoc:1"], message(1))
                assert await end(hub, "doc:1") == 1

    run(main)


def test_patterns_of_others_are_asked_for_again_after_a_while(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who declares other rooms need not ask at each message."""
    asked: list[None] = []

    async def main() -> None:
        async with process(url, {"note:*": Keep()}) as rooms, process(url, FIFTY):
            remembered = rooms.backplane.remembered

            async def counted() -> dict[str, bytes]:
                asked.append(None)
                return await remembered()

            rooms.backplane.remembered = counted  # type: ignore[method-assign]
            for n in range(5):
                await rooms.broadcast(["rlobby"], message(n))
            assert len(asked) == 1
            monkeypatch.setattr(agreement, "ASK_AGAIN_S", -1)
            await rooms.broadcast(["rdoc:1"], message(1))
            assert await end(rooms, "doc:1") == 1

    run(main)


def test_an_event_loop_that_has_ended_without_a_word_declares_nothing() -> None:
    """As those of Starlette's TestClient do: applications of one test run are no processes side by side."""
    url = "memory://ended"

    async def declare(patterns: Any) -> None:
        await Hub(url, history=patterns).to("lobby").send({"type": "note"})

    for patterns in (FIFTY, FIVE, FIFTY):
        asyncio.run(declare(patterns))
    assert len(memory.bus_of(url).loops) <= 2


def test_the_order_of_patterns_is_a_part_of_what_is_declared(url: str) -> None:
    """The first that matches counts, so the same patterns in another order are another declaration."""
    first = {"doc:a": Keep(messages=1), "doc:*": Keep(messages=2)}
    second = dict(reversed(first.items()))

    async def main() -> None:
        async with process(url, first) as here:
            assert not here.agreed(second)
            await here.agree(second)
            with pytest.raises(DefinitionError, match="the room 'doc:a'"):
                await here.broadcast(["rdoc:a"], message(1))
            await rest()

    run(main)


def test_an_engine_that_answers_nothing_is_not_waited_for_by_everybody(
    between_processes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who connects after the first that has waited does not wait; it is asked again after a while."""

    async def main() -> None:
        async with process(between_processes) as rooms:
            backplane: Any = rooms.backplane
            read, asked = backplane._held_by_all, []

            async def refuse(encoded: str) -> dict[str, bytes]:
                asked.append(encoded)
                raise TimeoutError

            backplane._held_by_all = refuse
            await asyncio.gather(*(rooms.agree(FIFTY) for _ in range(20)))
            assert (len(asked), rooms.agreed(FIFTY)) == (1, False)
            backplane._held_by_all = read
            monkeypatch.setattr(rooms._agreement, "_try_again_at", 0.0)
            await rooms.agree(FIFTY)
            assert rooms.agreed(FIFTY)

    run(main)


async def unavailable(*_: Any) -> Any:
    raise BackplaneUnavailable("away")


def test_while_the_engine_does_not_tell_what_others_declare_messages_go_on(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as it is known: without a number until the engine has been asked again."""
    monkeypatch.setattr(agreement, "TRY_AGAIN_S", -1)

    async def main() -> None:
        async with process(url, {"note:*": Keep()}) as rooms, process(url, FIFTY):
            with monkeypatch.context() as away:
                away.setattr(rooms.backplane, "remembered", unavailable)
                await rooms.broadcast(["rdoc:1"], message(1))
            assert await end(rooms, "doc:1") == 0
            await rooms.broadcast(["rdoc:1"], message(2))
            assert await end(rooms, "doc:1") == 1

    run(main)


def test_a_refusal_is_told_also_where_the_engine_goes_away_with_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That what was declared cannot be taken back then is no reason of its own; it ends with its process."""

    async def main() -> None:
        async with process(url, FIFTY), process(url) as rooms:
            with monkeypatch.context() as away:
                away.setattr(rooms.backplane, "release", unavailable)
                with pytest.raises(DefinitionError, match=BOTH):
                    await rooms.agree(FIVE)
            assert not rooms.agreed(FIVE)

    run(main)
