"""
An engine that dies and comes back, and a process that dies and does not: what the backplane does about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from socketsundso.backplanes import Backplane, Delivery, Keep, open_url
from socketsundso.backplanes import engine as engine_module
from socketsundso.backplanes import redis as redis_module
from socketsundso.backplanes.base import backoff, encode_topic, ended
from socketsundso.errors import BackplaneUnavailable

from ..conftest import Clock
from .engines import EngineServer, running
from .listener import DEADLINE_S, Listener, opened, until

KEEP = Keep(messages=100, seconds=60)
HOLDER = """
import asyncio, sys
from socketsundso.backplanes import open_url
async def main():
    backplane = open_url(sys.argv[1])
    await backplane.open(None)
    await backplane.hold("r", "killed", backplane.owner.encode())
    print("held", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture(params=["redis", "nats"])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineServer]:
    """An engine of the test's own, since it will be killed."""
    with running(request.param) as server:
        yield server


def test_subscriptions_and_held_entries_come_back_with_the_engine(engine: EngineServer) -> None:
    """Killed and restarted: the receiver is told of both, and everything is as it was, without a call."""

    async def main() -> None:
        async with opened(engine.url, "a", "b") as (ours, here), opened(engine.url, "a") as (theirs, there):
            await ours.hold("r", "me", b"1")
            for round_ in (1, 2):
                engine.kill()
                await until(lambda: ours.state == theirs.state == "reconnecting", "both noticed")
                await until(lambda: here.lost == round_, "the receiver is told")  # noqa: B023
                with pytest.raises(BackplaneUnavailable):
                    ours.publish(("a",), b"lost")
                with pytest.raises(BackplaneUnavailable):
                    await ours.append("r", b"lost", KEEP)
                await ours.subscribe("while-away")
                engine.start()
                await until(lambda: ours.state == theirs.state == "connected", "both are back")
                assert here.restored == round_
                for topic in ("a", "b", "while-away"):
                    theirs.publish((topic,), topic.encode())
                await until(lambda: len(here.deliveries) == 3 * round_, "deliveries")  # noqa: B023
                await until(lambda: len(there.deliveries) == round_, "deliveries")  # noqa: B023
                assert await theirs.held("r") == {"me": b"1"}

    asyncio.run(main())


def test_why_the_engine_is_away_stands_in_the_log_before_the_loss_is_told(
    engine: EngineServer, caplog: pytest.LogCaptureFixture
) -> None:
    """So that it is there, too, where who is told closes the backplane at once."""
    logged: list[str] = []

    class Ears(Listener):
        def on_lost(self) -> None:
            logged.append(caplog.text)

    async def main() -> None:
        backplane = open_url(engine.url)
        await backplane.open(Ears())
        engine.kill()
        await until(lambda: logged, "the receiver is told")
        await backplane.aclose()

    asyncio.run(main())
    assert f"at {engine.url} is away: " in logged[0]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_nats_that_is_killed_while_it_is_written_to_counts_as_lost(loop: str) -> None:
    """
    The link breaks under what is on its way, which nats-py writes once more when it closes, and raises then instead of
    telling anybody.
    """

    async def main() -> None:
        with running("nats") as engine:
            async with opened(engine.url) as (ours, _):
                await ours.append("r", b"", KEEP)
                os.kill(engine.pid, signal.SIGSTOP)  # what it does not read has the kernel reset the link
                under_way: list[asyncio.Task[Any]] = []

                def noticed() -> bool:
                    under_way.append(asyncio.create_task(ours.append("r", b"", KEEP)))
                    under_way.append(asyncio.create_task(ours.subscribe(str(len(under_way)))))
                    return ours.state == "reconnecting"

                for _ in range(100):
                    noticed()
                    await asyncio.sleep(0)
                engine.kill()
                await until(noticed, "it is away", pause_s=0)
                for each in under_way:
                    each.cancel()
                ended = await asyncio.gather(*under_way, return_exceptions=True)
                told = {type(each) for each in ended if isinstance(each, BaseException)}
                assert told <= {BackplaneUnavailable, asyncio.CancelledError}
                engine.start()
                await until(lambda: ours.state == "connected", "it is back")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        runner.run(main())


def test_what_uvloop_raises_of_a_broken_link_to_nats_is_no_other_error(
    nats_engine: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A RuntimeError where others raise an OSError, when a write has failed and nobody has been told yet."""
    from nats.aio.client import Client

    async def fail(client: Client, *flushed: Any) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    async def main() -> None:
        async with opened(nats_engine.url) as (ours, _):
            with monkeypatch.context() as broken:
                broken.setattr(Client, "_send_ping", fail)
                await ours.subscribe("a")  # is made again when the loss is noticed
                ours.publish(("a",), b"lost")
                with pytest.raises(BackplaneUnavailable, match="went away during a publish"):
                    await ours.flush()

    asyncio.run(main())


def test_nobody_subscribes_on_a_link_that_is_not_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    In the turns of the loop between the end of Redis' link and its loss: nobody waits for a confirmation that cannot
    come, and the topic is subscribed to when the engine is back.
    """
    for module in (engine_module, redis_module):
        monkeypatch.setattr(module, "CALL_TIMEOUT_S", 3600.0)

    async def main(server: EngineServer) -> None:
        async with opened(server.url) as (ours, ears):
            server.kill()
            await asyncio.wait({ours._reader})  # type: ignore[attr-defined]
            assert ours.state == "connected"
            async with asyncio.timeout(DEADLINE_S):
                await ours.subscribe("a")
            server.start()
            await until(lambda: ears.restored, "it is back")
            ours.publish(("a",), b"1")
            await ears.receives(b"1")

    with running("redis") as server:
        asyncio.run(main(server))


def test_a_log_tells_whether_it_survived(engine: EngineServer) -> None:
    """
    The epoch is the same exactly where the entries are still there (JetStream's files; not Redis without
    persistence).
    """

    async def main() -> None:
        async with opened(engine.url) as (ours, _):
            _, epoch = await ours.append("r", b"a", KEEP)
            engine.kill()
            await until(lambda: ours.state == "reconnecting")
            engine.start()
            await until(lambda: ours.state == "connected")
            log = await ours.read("r", KEEP, 0)
            assert (log.epoch == epoch) == (log.entries == [(1, b"a")])
            assert (log.epoch == epoch) == (engine.kind == "nats")

    asyncio.run(main())


def test_a_killed_process_holds_nothing_after_its_time_to_live(engine: EngineServer) -> None:
    """
    SIGKILL releases nothing; the missing beats do, within the time-to-live. The living keep what they hold.

    How soon that is seen here depends on this machine, too, and who is not scheduled for two seconds may miss a beat
    and be back with the next one: what is waited for is the end.
    """
    url = f"{engine.url}?presence_ttl_s=3"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        async def main() -> None:
            async with opened(url) as (ours, _):
                await ours.hold("r", "living", b"1")
                async with asyncio.timeout(3 + DEADLINE_S):
                    while not (owner := (await ours.held("r")).get("killed", b"").decode()):
                        pass
                    while await ours.alive(frozenset({owner, ours.owner})) != {owner, ours.owner}:
                        pass
                    holder.kill()
                    while await ours.alive(frozenset({owner, ours.owner})) != {ours.owner}:
                        await asyncio.sleep(0.05)
                    while await ours.held("r") != {"living": b"1"}:
                        await asyncio.sleep(0.05)

        asyncio.run(main())
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]  # it is a pipe


def test_an_engine_that_hangs_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A stopped (not dead) Redis answers nothing: the link is given up, and taken up again when it goes on.
    """
    from socketsundso.backplanes import redis as module

    monkeypatch.setattr(module, "TURN_S", 0.1)
    with running("redis") as server:

        async def main() -> None:
            async with opened(server.url, "a") as (ours, ears):
                assert server._process is not None
                server._process.send_signal(signal.SIGSTOP)
                try:
                    await until(lambda: ours.state == "reconnecting")
                finally:
                    server._process.send_signal(signal.SIGCONT)
                monkeypatch.undo()  # so short a patience would be at its end again whenever the machine is busy
                await until(lambda: ours.state == "connected")
                ours.publish(("a",), b"1")
                await ears.receives(b"1")

        asyncio.run(main())


def test_an_engine_that_hangs_for_a_moment_is_not_lost(
    engine: EngineServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Longer than a question may take: what nobody waits for any more is answered all the same, and that must not end the
    link, as nats-py ends its reading without a word at the answer to a flush that was given up.
    """
    from socketsundso.backplanes import engine as module

    async def publish_for_ever(ours: Backplane) -> None:
        while True:  # it may answer a moment longer
            ours.publish(("a",), b"late")
            await ours.flush()

    async def main() -> None:
        async with opened(engine.url, "a") as (ours, ears):
            await ours.append("r", b"1", KEEP)
            os.kill(engine.pid, signal.SIGSTOP)
            try:
                with monkeypatch.context() as patch:
                    patch.setattr(module, "CALL_TIMEOUT_S", 0.2)
                    with pytest.raises(BackplaneUnavailable):
                        await publish_for_ever(ours)
                    await asyncio.gather(ours.subscribe("b"), ours.subscribe("c"))
                    with pytest.raises(BackplaneUnavailable):
                        await ours.append("r", b"2", KEEP)
            finally:
                os.kill(engine.pid, signal.SIGCONT)
            for n in range(3):
                ours.publish(("a", "b", "c"), b"%d" % n)
                await ours.flush()
            await until(lambda: ears.payloads[-3:] == [b"2"] * 3, "all of it arrives")
            assert ears.lost == 0

    asyncio.run(main())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("topics", [["a"], []], ids=["subscribed", "nothing subscribed"])
def test_a_quiet_link_is_asked_not_given_up(
    redis_engine: EngineServer, topics: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    However long nobody says anything, whether Redis answers as to a subscriber or as to anybody, and whatever timeout
    the client library has: redis-py 8 ends a read after 5 s by default, which open-webui's pull request 26462 saw as a
    link that is lost every few seconds.
    """
    from socketsundso.backplanes import redis as module

    monkeypatch.setattr(module, "TURN_S", 0.2)
    monkeypatch.setattr(module, "SILENT_TURNS", 50)  # a slow machine is no lost link

    async def main() -> None:
        async with opened(f"{redis_engine.url}?prefix=quiet&socket_timeout=0.1", *topics) as (ours, ears):
            before = ours._heard  # type: ignore[attr-defined]
            await until(lambda: ears.lost or ours._heard > before + 3, "answers")  # type: ignore[attr-defined]
            assert ears.lost == 0

    asyncio.run(main())


def test_an_answer_that_comes_while_the_question_is_sent_is_one(
    redis_engine: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On loopback Redis may have answered before whoever asked goes on."""
    from socketsundso.backplanes import redis as module

    monkeypatch.setattr(module, "TURN_S", 0.1)
    asked: list[str] = []

    async def main() -> None:
        async with opened(f"{redis_engine.url}?prefix=prompt") as (ours, ears):
            link: Any = ours
            send = link._send

            async def send_and_hear(*command: str) -> None:
                heard = link._heard
                await send(*command)
                await until(lambda: link._heard > heard, "the answer")
                asked.extend(command)

            monkeypatch.setattr(link, "_send", send_and_hear)
            await until(lambda: ears.lost or len(asked) == module.SILENT_TURNS, "it is asked again and again")
            assert ears.lost == 0

    asyncio.run(main())


def test_no_link_is_given_up_before_it_was_asked(
    redis_engine: EngineServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Neither for a word that came right after the last look, nor for an event loop that was blocked for longer than
    all the turns, nor while an answer waits to be read.
    """
    from socketsundso.backplanes import redis as module

    turn_s, turns = 0.4, 25
    monkeypatch.setattr(module, "TURN_S", turn_s)
    monkeypatch.setattr(module, "SILENT_TURNS", turns)

    async def main() -> None:
        async with opened(f"{redis_engine.url}?prefix=asked", "a") as (ours, ears):
            for number in range(2):
                heard = ours._heard  # type: ignore[attr-defined]
                clock.jump(2 * turns * turn_s)
                await until(lambda: ours._heard > heard, "an answer")  # type: ignore[attr-defined]  # noqa: B023
                ours.publish(("a",), b"%d" % number)
                await until(lambda: len(ears.deliveries) == number + 1, "deliveries")  # noqa: B023
            assert ears.lost == 0

    asyncio.run(main())


def test_what_somebody_else_publishes_on_our_channel_ends_nothing(
    redis_engine: EngineServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the link, which all rooms share, goes on. Flask-SocketIO 1675 is a listener that it ended."""
    import redis.asyncio as redis

    async def main() -> None:
        admin = redis.Redis(port=redis_engine.port)
        async with opened(f"{redis_engine.url}?prefix=shared", "a") as (ours, ears):
            for garbage in (b"", b"hello", b"+", b"+x y z", b"+1", b"+%d e x" % 10**30, b"\xff\x00"):
                await admin.publish("shared:live:a", garbage)
            ours.publish(("a",), b"1")
            await ears.receives(b"1")
            assert ears.lost == 0
        await admin.aclose()

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == sum("somebody else published" in each for each in said) == 7, said


def test_flush_and_append_wait_for_what_was_before_them_only(engine: EngineServer) -> None:
    """Others that publish without a pause keep nobody waiting."""

    async def main() -> None:
        async with opened(engine.url, "a") as (ours, _):
            write = ours._write  # type: ignore[attr-defined]

            async def write_and_hear_of_more(batch: list[tuple[str, bytes]]) -> None:
                ours.publish(("a",), b"more")
                await write(batch)

            ours._write = write_and_hear_of_more  # type: ignore[attr-defined]
            ours.publish(("a",), b"1")
            async with asyncio.timeout(10):
                await ours.flush()
                await ours.append("r", b"2", KEEP)
            ours._write = write  # type: ignore[attr-defined]

    asyncio.run(main())


def test_each_subscription_waits_for_its_own_confirmation(redis_engine: EngineServer) -> None:
    """One that was given up in between (its client has gone) neither answers nor fails the next of that topic."""

    async def main() -> None:
        async with opened(f"{redis_engine.url}?prefix=given_up") as (ours, ears):
            confirm, held_back = ours._confirm, []  # type: ignore[attr-defined]
            ours._confirm = held_back.append  # type: ignore[attr-defined]
            given_up = asyncio.create_task(ours.subscribe("a"))
            await until(lambda: held_back, "the engine has confirmed it")
            given_up.cancel()
            await asyncio.wait({given_up})
            ours.unsubscribe("a")
            await until(lambda: not ours._errands, "the engine has been told")  # type: ignore[attr-defined]
            second = asyncio.create_task(ours.subscribe("a"))
            await until(lambda: len(held_back) == 2, "the engine has confirmed it")
            confirm(held_back[0])
            await asyncio.sleep(0)
            assert not second.done()
            confirm(held_back[1])
            await second
            assert not ours._confirmations  # type: ignore[attr-defined]
            ours.publish(("a",), b"1")
            await ears.receives(b"1")

    asyncio.run(main())


def test_an_entry_that_could_not_be_released_is_said_to_be_there(engine: EngineServer) -> None:
    """Whoever released it hears of that, and does it again; one that the engine has never had needs nothing."""

    async def main() -> None:
        async with opened(engine.url) as (ours, _):
            await ours.hold("r", "stored", b"1")
            engine.kill()
            await until(lambda: ours.state == "reconnecting")
            await ours.hold("r", "never stored", b"2")
            await ours.release("r", "never stored")
            with pytest.raises(BackplaneUnavailable):
                await ours.release("r", "stored")
            engine.start()
            await until(lambda: ours.state == "connected")
            await ours.release("r", "stored")
            assert await ours.held("r") == {}

    asyncio.run(main())


def test_a_nats_without_jetstream_still_carries_payloads(caplog: pytest.LogCaptureFixture) -> None:
    """Presence and history need it; that they cannot be had is said once, and costs nobody the link."""
    with running("nats", jetstream=False) as server:

        async def main() -> None:
            async with opened(f"{server.url}?presence_ttl_s=0.15", "a") as (ours, ears):
                beats = []
                hold = ours._hold  # type: ignore[attr-defined]

                async def counted(entries: object) -> None:
                    beats.append(entries)
                    await hold(entries)

                ours._hold = counted  # type: ignore[attr-defined]
                await ours.hold("r", "me", b"1")
                await until(lambda: len(beats) > 3, "beats")
                ours.publish(("a",), b"1")
                await ears.receives(b"1")
                assert ears.lost == 0
                with pytest.raises(BackplaneUnavailable):
                    await ours.append("r", b"x", KEEP)

        asyncio.run(main())
    assert sum("presence" in record.getMessage() for record in caplog.records) == 1


def test_nothing_is_left_of_a_topic_that_nobody_hears(engine: EngineServer) -> None:
    """Neither here nor on the engine, where the end of a subscription comes while it is still under way, too."""

    async def main() -> None:
        async with opened(engine.url, "kept") as (ours, ears):
            names = [f"topic {number}" for number in range(100)]
            for name in names[:50]:
                await ours.subscribe(name)
            begun = [asyncio.create_task(ours.subscribe(name)) for name in names[50:]]
            await ours.append(names[0], b"1", KEEP)
            await asyncio.sleep(0)
            for name in names:
                ours.unsubscribe(name)
            await asyncio.gather(*begun)
            await until(lambda: not ours._errands, "the engine has been told")  # type: ignore[attr-defined]
            assert list(ours._topics.values()) == ["kept"]  # type: ignore[attr-defined]
            if engine.kind == "redis":
                async with asyncio.timeout(DEADLINE_S):  # it is asked over another link than it is told
                    while await ours._client.pubsub_channels() != [b"socketsundso:live:kept"]:  # type: ignore[attr-defined]
                        pass
            else:
                assert list(ours._subscriptions) == ["kept"]  # type: ignore[attr-defined]
                assert not ours._epochs  # type: ignore[attr-defined]
                assert not ours._heard  # type: ignore[attr-defined]
            ours.publish(("kept",), b"1")
            await until(lambda: b"1" in ears.payloads[-1:])

    asyncio.run(main())


def test_numbers_that_begin_anew_in_another_stream_of_the_same_name(
    nats_engine: EngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Somebody deletes a room's stream, and another process makes it again: who listens, who reads and who has never
    heard of the first one all see the new epoch, though they remember the old one.
    """
    from socketsundso.backplanes import nats as module

    async def main() -> None:
        url = f"{nats_engine.url}?prefix=again"
        async with opened(url, "r") as (ours, ears), opened(url) as (theirs, _):
            for _ in range(3):
                _, epoch = await ours.append("r", b"old", KEEP)
            await until(lambda: len(ears.deliveries) == 3)
            await ours._js.delete_stream("again_log_r")  # type: ignore[attr-defined]
            log = await ours.read("r", KEEP)
            assert (log.seq, log.epoch != epoch) == (0, True)
            await ours._js.delete_stream("again_log_r")  # type: ignore[attr-defined]
            seq, other = await theirs.append("r", b"new", KEEP)
            await until(lambda: len(ears.deliveries) == 4)
            assert ears.deliveries[-1] == Delivery("r", b"new", seq, other)
            assert other not in {epoch, log.epoch}
            monkeypatch.setattr(module, "KNOWN_STREAMS", 3)
            for number in range(5):
                await theirs.append(f"other {number}", b"x", KEEP)
            assert len(theirs._epochs) == 3  # type: ignore[attr-defined]

    asyncio.run(main())


def test_waits_between_attempts_grow_are_bounded_and_differ() -> None:
    """Two processes that lost the same engine do not come back in step."""
    ours, theirs = backoff(), backoff()
    first = [next(ours) for _ in range(12)]
    assert first != [next(theirs) for _ in range(12)]
    assert 0.025 <= first[0] <= 0.05
    assert all(1.0 <= wait_s <= 2.0 for wait_s in first[8:])


def test_a_burst_above_the_outbox_is_refused_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded when an engine takes payloads too slowly."""
    from socketsundso.backplanes import engine as module

    monkeypatch.setattr(module, "OUTBOX_BYTES", 1000)
    with running("redis") as server:

        async def main() -> None:
            async with opened(server.url, "a") as (ours, ears):
                ours.publish(("a",), b"x" * 1001)
                with pytest.raises(BackplaneUnavailable, match="too slowly"):
                    ours.publish(("a",), b"y")
                await ours.flush()
                ours.publish(("a",), b"z")
                await ears.receives(b"x" * 1001, b"z")

        asyncio.run(main())


def test_a_payload_that_the_engine_cannot_take_is_refused_alone(engine: EngineServer) -> None:
    """What is published with it, before and after, arrives; and the links of the subscribers live on."""

    async def main() -> None:
        async with opened(engine.url, "a") as (ours, ears):
            ours.publish(("a",), b"before")
            with pytest.raises(BackplaneUnavailable, match="at most"):
                ours.publish(("a",), bytes(9 << 20))
            with pytest.raises(BackplaneUnavailable, match="at most"):
                await ours.append("r", bytes(9 << 20), KEEP)
            ours.publish(("a",), b"after")
            await ears.receives(b"before", b"after")
            assert ears.lost == 0

    asyncio.run(main())


def test_a_redis_that_throws_subscribers_out_has_them_back(redis_engine: EngineServer) -> None:
    """
    Each time, as it does to those who read too slowly, though it goes on itself; and no connection is left
    behind. python-socketio 1581 and 1569 are reports of the opposite.
    """
    import redis.asyncio as redis

    async def main() -> None:
        admin = redis.Redis(port=redis_engine.port)
        async with opened(f"{redis_engine.url}?prefix=thrown", "a") as (ours, ears):
            await ours.append("a", b"1", KEEP)
            await ears.receives(b"1")
            connections = len(await admin.client_list())
            for round_ in range(1, 6):
                await admin.client_kill_filter(_type="pubsub")
                await until(lambda: ears.restored == round_, "is back")  # noqa: B023
                await ours.append("a", b"1", KEEP)
                await until(lambda: len(ears.deliveries) == round_ + 1, "hears again")  # noqa: B023
            await admin.client_kill_filter(_type="normal", skipme=True)
            await until(lambda: ours.state == "connected", "goes on")
            ours.publish(("a",), b"2")
            await ours.flush()
            async with asyncio.timeout(DEADLINE_S):
                while len(await admin.client_list()) > connections:
                    pass
        await admin.aclose()

    asyncio.run(main())


def test_a_burst_of_questions_opens_few_connections(redis_engine: EngineServer) -> None:
    """Each would have one of its own, and a busy Redis refuses more than `maxclients`, everybody's together."""
    import redis.asyncio as redis

    from socketsundso.backplanes import redis as module

    async def main() -> None:
        async with redis.Redis(port=redis_engine.port) as admin:
            before = len(await admin.client_list())
            async with opened(f"{redis_engine.url}?prefix=burst") as (ours, _):
                keep = Keep(messages=200, seconds=60)
                numbers = await asyncio.gather(*(ours.append("r", b"x", keep) for _ in range(200)))
                assert {seq for seq, _ in numbers} == set(range(1, 201))
                assert len(await admin.client_list()) - before <= 1 + module.LINKS["max_connections"]

    asyncio.run(main())


def test_a_receiver_that_raises_does_not_end_the_link(engine: EngineServer, caplog: pytest.LogCaptureFixture) -> None:
    """The payload is lost, with a traceback in the log; the next one arrives."""

    async def main() -> None:
        async with opened(engine.url, "a") as (ours, ears):
            take = ears.on_delivery

            def raise_once(delivery: Delivery) -> None:
                ears.on_delivery = take  # type: ignore[method-assign]
                raise RuntimeError("broken")

            ears.on_delivery = raise_once  # type: ignore[method-assign]
            ours.publish(("a",), b"1")
            ours.publish(("a",), b"2")
            await ears.receives(b"2")
            assert ears.lost == 0

    asyncio.run(main())
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_flush_tells_that_a_publish_was_lost_on_its_way(engine: EngineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: what is published afterwards is another matter."""

    async def lose(batch: object) -> None:
        raise OSError("broken pipe")

    async def main() -> None:
        async with opened(engine.url, "a") as (ours, ears):
            with monkeypatch.context() as patch:
                patch.setattr(ours, "_write", lose)
                ours.publish(("a",), b"1")
                with pytest.raises(BackplaneUnavailable, match="during a publish"):
                    await ours.flush()
            ours.publish(("a",), b"2")
            await ours.flush()
            await ears.receives(b"2")

    asyncio.run(main())


def test_a_password_that_is_wrong_leaves_no_link_behind() -> None:
    """However often it is tried: node-redis 1278 filled the engine with them."""
    import redis.asyncio as redis

    async def main(server: EngineServer) -> None:
        async with redis.Redis(port=server.port, password="right") as admin:
            backplane = open_url(server.url.replace("//", "//:wrong@"))
            connect, tried = backplane._connect, 0  # type: ignore[attr-defined]

            async def counted() -> None:
                nonlocal tried
                tried += 1
                await connect()

            backplane._connect = counted  # type: ignore[attr-defined]
            await backplane.open(Listener())
            await until(lambda: tried == 5, "it is tried again")
            assert len(await admin.client_list()) <= 3
            await backplane.aclose()
            async with asyncio.timeout(10):
                while len(await admin.client_list()) > 1:
                    await asyncio.sleep(0)

    with running("redis", "--requirepass", "right") as server:
        asyncio.run(main(server))


def test_questions_that_are_given_up_leave_no_answer_for_the_next(engine: EngineServer) -> None:
    """A link whose answer nobody waits for any more would give it to the next question: redis-py 2624."""

    async def main() -> None:
        async with opened(engine.url) as (ours, _):
            for topic in "abc":
                await ours.append(topic, topic.encode(), KEEP)
            for turns in range(40):
                asked = [asyncio.create_task(ours.read(topic, KEEP, 0)) for topic in "ab"]
                for _ in range(turns % 8):
                    await asyncio.sleep(0)
                for task in asked:
                    task.cancel()
                log = await ours.read("c", KEEP, 0)
                assert log.entries == [(1, b"c")]
                await asyncio.gather(*asked, return_exceptions=True)
            assert ours.state == "connected"

    asyncio.run(main())


def test_who_subscribes_again_after_the_last_subscription_hears(engine: EngineServer) -> None:
    """Also when the link has been quiet in between: broadcaster 121 stopped to listen with the last one."""

    async def main() -> None:
        async with opened(engine.url, "a") as (ours, ears):
            for round_ in range(1, 4):
                ours.unsubscribe("a")
                await until(lambda: not ours._errands, "the engine has been told")  # type: ignore[attr-defined]
                if engine.kind == "redis":
                    await ours._send("PING")  # type: ignore[attr-defined]
                await ours.subscribe("a")
                ours.publish(("a",), b"1")
                await until(lambda: len(ears.deliveries) == round_, "it is heard")  # noqa: B023
            assert ears.lost == 0

    asyncio.run(main())


def test_a_link_lost_before_a_subscription_is_confirmed(redis_engine: EngineServer) -> None:
    """`subscribe` returns, and the subscription is in force when the link is back."""
    import redis.asyncio as redis

    async def main() -> None:
        admin = redis.Redis(port=redis_engine.port)
        async with opened(f"{redis_engine.url}?prefix=unconfirmed") as (ours, ears):

            async def swallow(*command: str, **options: object) -> None:
                """As a link does that is about to break."""

            ours._link.send_command = swallow  # type: ignore[attr-defined]
            subscribing = asyncio.create_task(ours.subscribe("a"))
            await until(lambda: ours._confirmations, "it is asked for")  # type: ignore[attr-defined]
            await admin.client_kill_filter(_type="normal", skipme=True)  # a link without subscriptions is one
            await asyncio.wait_for(subscribing, 10)
            await until(lambda: ears.restored == 1, "the link is back")
            ours.publish(("a",), b"1")
            await ears.receives(b"1")
        await admin.aclose()

    asyncio.run(main())


def test_streams_of_nats_that_somebody_else_touches(nats_engine: EngineServer) -> None:
    """
    Deleted: the numbers begin anew, under another epoch. Made by another process with another Keep a moment
    before: it is brought in line. Idle for a day longer than it keeps anything: deleted.
    """
    import nats.js.errors

    url = f"{nats_engine.url}?prefix=touched"

    async def main() -> None:
        async with opened(url) as (ours, _), opened(url, "r") as (theirs, ears):
            _, epoch = await ours.append("r", b"1", KEEP)
            await until(lambda: ears.deliveries, "who has never read the log hears of its epoch, too")
            assert ears.deliveries == [Delivery("r", b"1", 1, epoch)]
            await ours._js.delete_stream("touched_log_r")  # type: ignore[attr-defined]
            seq, other = await ours.append("r", b"2", KEEP)
            assert (seq, other != epoch) == (1, True)

            async def not_found(name: str) -> None:
                raise nats.js.errors.NotFoundError

            seen = theirs._js.stream_info  # type: ignore[attr-defined]
            theirs._js.stream_info = not_found  # type: ignore[attr-defined]
            assert (await theirs.append("r", b"3", Keep(messages=7)))[0] == 2
            theirs._js.stream_info = seen  # type: ignore[attr-defined]
            assert await theirs.logged("r") == Keep(messages=7)

            async def long_ago(stream: str) -> float:
                return 1e9

            theirs._idle_s = long_ago  # type: ignore[attr-defined]
            await theirs._sweep()  # type: ignore[attr-defined]
            async with opened(url) as (fresh, _):
                assert await fresh.logged("r") is None

    asyncio.run(main())


def test_presence_that_is_to_last_longer_than_before(engine: EngineServer) -> None:
    """
    `presence_ttl_s` is raised, while processes with the old one are there still: what the new ones hold outlasts the
    time between their beats. (A bucket of NATS has one time-to-live for all, and remembers the first.)
    """
    short, long = (f"{engine.url}?presence_ttl_s={ttl_s}" for ttl_s in (0.6, 60))

    async def main() -> None:
        async with opened(short) as (ours, _):
            await ours.hold("r", "short", b"1")
            beat, beats = ours._keep_held, 0  # type: ignore[attr-defined]

            async def counted() -> None:
                nonlocal beats
                beats += 1
                await beat()

            ours._keep_held = counted  # type: ignore[attr-defined]
            async with opened(long) as (theirs, _):
                await theirs.hold("r", "long", b"1")
                while beats < 8:  # far longer than the old one, and no beat of the new one in it
                    assert theirs.owner in await ours.alive(frozenset({theirs.owner}))

    asyncio.run(main())


def test_a_link_that_is_lost_while_its_backplane_ends_is_closed(redis_engine: EngineServer) -> None:
    """Whatever the end interrupts, no socket is left to the garbage collector."""

    async def main() -> None:
        backplane: Any = open_url(redis_engine.url)
        await backplane._connect()
        link, reader, told = backplane._link, backplane._reader, asyncio.Event()

        async def still_reads() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            told.set()
            await asyncio.Event().wait()

        backplane._reader = asyncio.create_task(still_reads())
        await asyncio.sleep(0)
        losing = asyncio.create_task(backplane._disconnect())
        await told.wait()
        losing.cancel()
        await asyncio.wait({losing})
        assert not link.is_connected
        await ended(reader, backplane._reader)
        await backplane._disconnect()

    asyncio.run(main())


def test_a_topic_that_is_left_while_its_epoch_is_asked_for(nats_engine: EngineServer) -> None:
    """Nothing is remembered of it, though the task that asks goes on to its end."""

    async def main() -> None:
        url = f"{nats_engine.url}?prefix=leaving"
        async with opened(url, "r") as (ours, _), opened(url) as (theirs, _):
            info, asked, answered = ours._js.stream_info, asyncio.Event(), asyncio.Event()  # type: ignore[attr-defined]

            async def swallow_the_end(name: str) -> object:
                asked.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                found = await info(name)
                answered.set()
                return found

            ours._js.stream_info = swallow_the_end  # type: ignore[attr-defined]
            await theirs.append("r", b"1", KEEP)
            await asked.wait()
            ours.unsubscribe("r")
            await until(answered.is_set)
            assert not ours._epochs  # type: ignore[attr-defined]

    asyncio.run(main())


def test_streams_that_two_processes_sweep_at_once(nats_engine: EngineServer) -> None:
    """The one that finds a stream deleted already goes on to the next one, and keeps its link."""
    url = f"{nats_engine.url}?prefix=swept"

    async def main() -> None:
        async with opened(url) as (ours, ears), opened(url) as (fresh, _):
            for topic in ("a", "b"):
                await ours.append(topic, b"x", KEEP)
            listed, idle_s = await ours._js.streams_info(), ours._idle_s  # type: ignore[attr-defined]

            async def as_before() -> object:
                return listed

            async def long_ago(stream: str) -> float:
                return float(await idle_s(stream)) + 1e9

            ours._js.streams_info, ours._idle_s = as_before, long_ago  # type: ignore[attr-defined]
            await ours._js.delete_stream("swept_log_a")  # type: ignore[attr-defined]
            await ours._sweep()  # type: ignore[attr-defined]
            assert await fresh.logged("b") is None
            assert ears.lost == 0

    asyncio.run(main())


def test_nats_is_swept_again_and_again(nats_engine: EngineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a process that never ends; what was used a moment ago stays."""
    from socketsundso.backplanes import nats as module

    monkeypatch.setattr(module, "SWEEP_S", 0.05)
    url = f"{nats_engine.url}?prefix=swept"

    async def main() -> None:
        async with opened(url) as (ours, _), opened(url) as (theirs, _):
            swept: list[str] = []
            idle_s = ours._idle_s  # type: ignore[attr-defined]

            async def long_ago(stream: str) -> float:
                swept.append(stream)
                return 1e9 if stream.endswith("old") else await idle_s(stream)  # type: ignore[no-any-return]

            ours._idle_s = long_ago  # type: ignore[attr-defined]
            await theirs.append("old", b"1", KEEP)
            await theirs.append("new", b"1", KEEP)
            await until(lambda: swept.count("swept_log_new") > 2, "looked at it several times")
            async with opened(url) as (fresh, _):
                assert (await fresh.logged("old"), await fresh.logged("new")) == (None, KEEP)

    asyncio.run(main())


def test_passwords_stay_out_of_errors_and_logs() -> None:
    """What names the engine is the URL without its user and password."""

    async def main() -> None:
        backplane = open_url("redis://user:secret@127.0.0.1:1")
        with pytest.raises(BackplaneUnavailable) as caught:
            await backplane.append("r", b"x", KEEP)
        assert "secret" not in str(caught.value)
        assert "127.0.0.1:1" in str(caught.value)

    asyncio.run(main())


def test_different_topics_are_encoded_differently() -> None:
    """Also the long ones, which end in a hash."""
    topics = ["a", "A", "a b", "a=20b", "=h", "ä", "x" * 120, "x" * 121, "x" * 122, "", "."]
    assert len({encode_topic(topic) for topic in topics}) == len(topics)
    assert all(len(encode_topic(topic)) <= 120 for topic in topics)


def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    """As `asyncio.wait_for` of Python 3.11 does when its result comes at the same moment."""

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        await ended(task)
        assert task.cancelled()
        await ended()

    asyncio.run(main())
