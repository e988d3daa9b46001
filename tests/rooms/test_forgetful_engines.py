"""Presence where the engine forgets it while every link stays: emptied, its keys thrown out, its bucket deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis.asyncio as redis

from socketsundso.backplanes import Keep
from socketsundso.errors import BackplaneUnavailable
from socketsundso.rooms.local import Rooms

from ..backplanes.engines import EngineServer, running
from ..backplanes.listener import opened, until
from .peer import Peer, lists
from .serving import run

TTL_S = 3.0
KEEP = Keep(messages=5)
ANN, BOB = b'"ann"', b'"bob"'


async def flush_all(engine: EngineServer, backplane: Any) -> None:
    async with redis.Redis(port=engine.port) as admin:
        await admin.flushall()


async def delete_leases(engine: EngineServer, backplane: Any) -> None:
    """As `maxmemory-policy volatile-ttl` does first."""
    async with redis.Redis(port=engine.port) as admin:
        await admin.delete(*[key async for key in admin.scan_iter("*:lease:*")])


async def delete_one_lease(engine: EngineServer, backplane: Any) -> None:
    async with redis.Redis(port=engine.port) as admin:
        assert await admin.delete(f"socketsundso:lease:{backplane.owner}") == 1


async def delete_members(engine: EngineServer, backplane: Any) -> None:
    async with redis.Redis(port=engine.port) as admin:
        assert await admin.delete("socketsundso:held:rr") == 1


async def purge_bucket(engine: EngineServer, backplane: Any) -> None:
    await backplane._js.purge_stream("KV_socketsundso_held")


async def purge_members(engine: EngineServer, backplane: Any) -> None:
    await backplane._js.purge_stream("KV_socketsundso_held", subject="$KV.socketsundso_held.held.>")


async def delete_bucket(engine: EngineServer, backplane: Any) -> None:
    await backplane._js.delete_stream("KV_socketsundso_held")


FORGETTING = {
    "redis": [flush_all, delete_leases, delete_one_lease, delete_members],
    "nats": [purge_bucket, purge_members, delete_bucket],
}


@pytest.mark.parametrize(
    ("kind", "forget"),
    [(kind, forget) for kind, ways in FORGETTING.items() for forget in ways],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_presence_is_whole_again_after_a_heartbeat(
    kind: str, forget: Callable[[EngineServer, Any], Awaitable[None]]
) -> None:
    """
    For who asks anew, and for who came in while it was forgotten; and nobody hears of leaves and joins of those who
    live, however long it goes on.
    """

    async def main(engine: EngineServer) -> None:
        url = f"{engine.url}?presence_ttl_s={TTL_S}"
        a, b, c = Rooms(url), Rooms(url), Rooms(url)
        ann, bob, late = (Peer(wants_presence=True) for _ in range(3))
        for rooms, peer, meta in ((a, ann, ANN), (b, bob, BOB)):
            await rooms.join(peer.who, "rr")
            await rooms.roster.track(peer.who, rooms.topics["rr"], meta)
        for rooms, peer in ((a, ann), (b, bob)):
            await lists(rooms, "r", "ann", "bob")
            await until(lambda: len(peer.got[0]["members"]) + len(peer.got[1:]) == 2, "told")  # noqa: B023
        await until(lambda: b.origin in a.backplane._silent, "its lease was seen")  # type: ignore[attr-defined]
        told = [list(ann.got), list(bob.got)]
        await forget(engine, b.backplane)
        beats = [count_beats(a), count_beats(b)]
        await c.join(late.who, "rr")
        await until(lambda: min(map(len, beats)) >= 1, "a heartbeat")
        async with opened(url) as (fresh, _):
            await until_held(fresh, 2)
        await lists(c, "r", "ann", "bob")
        await until(lambda: min(map(len, beats)) >= 4, "longer than the time-to-live")
        for rooms in (a, b, c):
            await lists(rooms, "r", "ann", "bob")
        assert [ann.got, bob.got] == told
        assert not any(each.get("leaves") for each in late.got)
        for rooms in (a, b, c):
            await rooms.aclose()

    with running(kind) as engine:
        run(lambda: main(engine))


def count_beats(rooms: Rooms) -> list[None]:
    """One entry for each heartbeat from now on."""
    backplane: Any = rooms.backplane
    keep, beats = backplane._keep_held, []

    async def counted() -> bool:
        forgotten: bool = await keep()
        beats.append(None)
        return forgotten

    backplane._keep_held = counted
    return beats


async def until_held(backplane: Any, members: int) -> None:
    async with asyncio.timeout(20):
        while len(await backplane.held("rr")) != members:
            pass


def test_a_process_that_is_killed_leaves_in_time_also_where_others_have_lost_their_leases() -> None:
    """Patience with the living keeps no ghosts."""

    async def main(engine: EngineServer) -> None:
        url = f"{engine.url}?presence_ttl_s={TTL_S}"
        rooms, peer = Rooms(url), Peer(wants_presence=True)
        await rooms.join(peer.who, "rr")
        other = Rooms(url)
        ghost = Peer()
        await other.join(ghost.who, "rr")
        await other.roster.track(ghost.who, other.topics["rr"], BOB)
        await until(lambda: peer.got[-1].get("joins"), "bob is there")
        await silence(other)
        await flush_all(engine, rooms.backplane)
        await until(lambda: peer.got[-1].get("leaves"), "bob has left")
        await lists(rooms, "r")
        await rooms.aclose()

    with running("redis") as engine:
        run(lambda: main(engine))


async def silence(rooms: Rooms) -> None:
    """As SIGKILL does: its link is cut and not taken up again, and nothing is released."""
    backplane: Any = rooms.backplane

    async def refuse() -> None:
        raise OSError("killed")

    backplane._connect = refuse
    backplane._link._writer.close()
    await until(lambda: rooms.state == "reconnecting", "it is cut off")


def test_a_look_leaves_nothing_behind_on_nats(nats_engine: EngineServer) -> None:
    """However often somebody asks who is there: no consumer, of which a server takes so many only."""

    async def main() -> None:
        url = f"{nats_engine.url}?prefix=looks"
        rooms, peer = Rooms(url), Peer(wants_presence=True)
        await rooms.join(peer.who, "rr")
        await rooms.roster.track(peer.who, rooms.topics["rr"], ANN)
        async with opened(url) as (ours, _):
            looks = [ours.held("rr") for _ in range(1001)]
            assert {len(held) for held in await asyncio.gather(*looks)} == {1}
            await ours.append("rdoc", b"1", KEEP)
            assert (await ours.read("rdoc", KEEP, 0)).entries == [(1, b"1")]
            streams = await ours._js.streams_info()  # type: ignore[attr-defined]
            assert {each.state.consumer_count for each in streams} == {0}
        await rooms.aclose()

    run(main)


def test_a_heartbeat_of_thousands_takes_few_round_trips(nats_engine: EngineServer) -> None:
    """Its entries are under way together; so are their releases at the end of the process."""

    async def main() -> None:
        async with opened(f"{nats_engine.url}?prefix=many") as (backplane, _):
            ours: Any = backplane
            for n in range(1200):
                ours._held["rr", str(n)] = b"x"
            trips = count_round_trips(ours)
            assert await ours._keep_held() is False
            assert len(await ours.held("rr")) == 1200
            assert trips[0] <= 4
        assert trips[0] <= 8

    run(main)


def count_round_trips(backplane: Any) -> list[int]:
    """How often the link was waited for: what is published while answers are awaited goes along."""
    publish, trips, waiting = backplane._js.publish, [0], 0

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal waiting
        trips[0] += waiting == 0
        waiting += 1
        try:
            return await publish(*args, **kwargs)
        finally:
            waiting -= 1

    backplane._js.publish = counted
    return trips


def test_entries_are_read_however_many_answers_the_server_needs(nats_engine: EngineServer) -> None:
    """It tells 100,000 subjects at a time; here it tells two."""

    async def main() -> None:
        async with opened(f"{nats_engine.url}?prefix=paged") as (backplane, _):
            ours: Any = backplane
            for n in range(5):
                await ours.hold("rr", str(n), b"%d" % n)
            await ours.release("rr", "3")
            ask = ours._stream_info

            async def two(stream: str, offset: int = 0, **asked: object) -> Any:
                info = await ask(stream, **asked)
                subjects = info["state"]["subjects"]
                info["state"]["subjects"] = dict(list(subjects.items())[offset : offset + 2])
                return {**info, "total": len(subjects)}

            ours._stream_info = two
            assert await ours.held("rr") == {"0": b"0", "1": b"1", "2": b"2", "4": b"4"}

    run(main)


@pytest.mark.parametrize("url", ["redis", "nats"], indirect=True)
def test_what_is_released_or_changed_during_a_heartbeat_stays_so(url: str) -> None:
    """The heartbeat may send it over another link, and later."""

    async def main() -> None:
        async with opened(url) as (backplane, _), opened(url) as (theirs, _):
            ours: Any = backplane
            for key in ("released", "changed", "kept"):
                await ours.hold("rr", key, b"old")
            hold = ours._hold

            async def overtaken(keys: Any) -> bool:
                forgotten: bool = await hold(keys)
                if len(keys) == 3:
                    await ours.release("rr", "released")
                    await ours.hold("rr", "changed", b"new")
                    late, ours._held = ours._held, dict(keys)
                    await hold(list(keys))
                    ours._held = late
                return forgotten

            ours._hold = overtaken
            await ours._keep_held()
            assert await theirs.held("rr") == {"changed": b"new", "kept": b"old"}

    run(main)


def test_a_bucket_that_two_processes_make_at_once_is_one(nats_engine: EngineServer) -> None:
    """Though they want different times-to-live; the longer one counts."""
    import nats.js.errors

    async def main() -> None:
        url = f"{nats_engine.url}?prefix=twice"
        async with opened(f"{url}&presence_ttl_s=1") as (first, _), opened(f"{url}&presence_ttl_s=9") as (second, _):
            ours: Any = second
            find = ours._js.key_value

            async def too_early(name: str) -> Any:
                ours._js.key_value = find
                await first.hold("rr", "a", b"1")
                raise nats.js.errors.NotFoundError

            ours._js.key_value = too_early
            await ours.hold("rr", "b", b"2")
            assert set(await ours.held("rr")) == {"a", "b"}
            info = await ours._js.stream_info("KV_twice_held")
            assert info.config.max_age == 4.5

    run(main)


@pytest.mark.parametrize("what", ["stream", "bucket"])
def test_what_nats_says_of_a_stream_that_cannot_be_made_is_told(
    what: str, nats_engine: EngineServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else's stream has its subjects, or the account its limit: not "stream not found"."""
    prefix = f"taken{what}"
    subject = f"{prefix}.log.>" if what == "stream" else f"$KV.{prefix}_held.>"

    async def main() -> None:
        async with opened(f"{nats_engine.url}?prefix={prefix}") as (backplane, ears):
            ours: Any = backplane
            await ours._js.add_stream(name=f"somebody{what}", subjects=[subject])
            calls = [ours.append("r", b"1", KEEP), ours.read("r", KEEP)] if what == "stream" else [ours.held("r")]
            for call in calls:
                with pytest.raises(BackplaneUnavailable, match="subjects overlap with an existing stream"):
                    await call
            if what == "bucket":
                await ours.hold("r", "k", b"1")
                await ours._keep_held()
                assert "subjects overlap with an existing stream" in caplog.text
            assert ears.lost == 0
            await ours._js.delete_stream(f"somebody{what}")

    run(main)


def test_who_is_there_is_never_silently_wrong(between_processes: str, caplog: pytest.LogCaptureFixture) -> None:
    """
    Where the engine cannot be asked though the link is there, that is logged once, and who has joined meanwhile hears
    of the others when it can be.
    """

    async def main() -> None:
        url = f"{between_processes}&presence_ttl_s=1"
        here, there, ann, bob = Rooms(url), Rooms(url), Peer(wants_presence=True), Peer(wants_presence=True)
        await there.join(bob.who, "rr")
        await there.roster.track(bob.who, there.topics["rr"], BOB)
        await here.open()
        backplane: Any = here.backplane
        read, refused = backplane._held_by_all, []

        async def refuse(encoded: str) -> dict[str, bytes]:
            refused.append(encoded)
            raise OSError("the engine takes no more of these")

        backplane._held_by_all = refuse
        await here.join(ann.who, "rr")
        await until(lambda: ann.got, "it has joined")
        assert ann.got[0]["members"] == {}
        await until(lambda: len(refused) > 4, "it is read again")
        assert [record.levelname for record in caplog.records if "incomplete" in record.message].count("WARNING") == 1
        backplane._held_by_all = read
        await until(lambda: ann.got[-1].get("joins") == {bob.who.id: "bob"}, "told of bob")
        await lists(here, "r", "bob")
        for rooms in (here, there):
            await rooms.aclose()

    run(main)
