"""What every backplane promises, shown on memory, a real Redis and a real NATS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from socketsundso.backplanes import Keep, open_url
from socketsundso.errors import BackplaneUnavailable

from .listener import DEADLINE_S, Listener, opened, until

KEEP = Keep(messages=5, seconds=60)


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]  # an async function's call is a coroutine


def test_a_payload_reaches_every_subscriber_once_and_in_order(url: str) -> None:
    """The publisher's own subscription gets it too."""

    async def main() -> None:
        async with opened(url, "room:1") as (ours, here), opened(url, "room:1") as (_, there):
            payloads = [b"%d" % number for number in range(200)]
            for payload in payloads:
                ours.publish(("room:1",), payload)
            await here.receives(*payloads)
            await there.receives(*payloads)

    run(main)


def test_a_topic_is_heard_by_its_subscribers_only(url: str) -> None:
    """A payload for another topic does not arrive."""

    async def main() -> None:
        async with opened(url, "a") as (ours, heard_a), opened(url, "b") as (_, heard_b):
            ours.publish(("b",), b"1")
            ours.publish(("a",), b"2")
            await heard_a.receives(b"2")
            await heard_b.receives(b"1")

    run(main)


@pytest.mark.parametrize(
    "hostile",
    ["*", ">", "room.*", "room.>", "room:?", "[a-z]", "a b", "ä€", "x" * 1000, "a\r\nPUB b 0", "=3A", "h"],
)
def test_no_topic_is_a_wildcard_or_a_command(url: str, hostile: str) -> None:
    """Whatever a topic is called, it hears itself and nothing else."""

    async def main() -> None:
        async with (
            opened(url, hostile) as (ours, hostile_ears),
            opened(url, "room:1", "room.1", "a") as (_, ears),
        ):
            for topic in ("room:1", "room.1", "a"):
                ours.publish((topic,), b"other")
            ours.publish((hostile,), b"mine")
            await ours.append(hostile, b"logged", KEEP)
            await hostile_ears.receives(b"mine", b"logged")
            await ears.receives(b"other", b"other", b"other")

    run(main)


def test_prefixes_keep_tenants_apart(url: str) -> None:
    """The same topic under another prefix is another topic."""
    other = url + "x"

    async def main() -> None:
        async with opened(url, "t") as (ours, here), opened(other, "t") as (theirs, there):
            ours.publish(("t",), b"ours")
            theirs.publish(("t",), b"theirs")
            await here.receives(b"ours")
            await there.receives(b"theirs")

    run(main)


def test_nothing_arrives_after_unsubscribe(url: str) -> None:
    """A later payload of another topic proves that the wait was long enough."""

    async def main() -> None:
        async with opened(url, "a", "b") as (ours, ears):
            ours.unsubscribe("a")
            ours.publish(("a",), b"unheard")
            ours.publish(("b",), b"heard")
            await ears.receives(b"heard")

    run(main)


def test_unsubscribing_and_subscribing_again_in_one_breath_stays_subscribed(url: str) -> None:
    """The engine is told in the background, but never in the wrong order."""

    async def main() -> None:
        async with opened(url, "a") as (ours, ears):
            for _ in range(5):
                ours.unsubscribe("a")
                await ours.subscribe("a")
            ours.publish(("a",), b"heard")
            await ears.receives(b"heard")

    run(main)


def test_a_logged_payload_is_numbered_from_one_and_published(url: str) -> None:
    """Subscribers see the same numbers and the same epoch that the writer was told."""

    async def main() -> None:
        async with opened(url, "r") as (ours, ears):
            given = [await ours.append("r", payload, KEEP) for payload in (b"a", b"b", b"c")]
            await ears.receives(b"a", b"b", b"c")
            assert [seq for seq, _ in given] == [1, 2, 3]
            assert [(d.seq, d.epoch) for d in ears.deliveries] == given

    run(main)


def test_concurrent_writers_get_numbers_without_holes_and_one_order(url: str) -> None:
    """Two backplanes append at once: every subscriber sees 1, 2, 3, ... in that order."""

    async def main() -> None:
        keep = Keep(messages=200, seconds=60)
        async with opened(url, "r") as (ours, here), opened(url, "r") as (theirs, there):
            writers = [who.append("r", b"%d" % n, keep) for n in range(50) for who in (ours, theirs)]
            numbers = {seq for seq, _ in await asyncio.gather(*writers)}
            assert numbers == set(range(1, 101))
            for ears in (here, there):
                await until(lambda: len(ears.deliveries) == 100)  # noqa: B023  # awaited in this turn of the loop
                assert [d.seq for d in ears.deliveries] == list(range(1, 101))
            log = await ours.read("r", keep, 0)
            assert log.entries == [(d.seq, d.payload) for d in here.deliveries]

    run(main)


def test_read_gives_what_came_after_a_number(url: str) -> None:
    """The end of the log, its epoch, and the entries above the number, in order."""

    async def main() -> None:
        async with opened(url) as (ours, _):
            for payload in (b"a", b"b", b"c"):
                seq, epoch = await ours.append("r", payload, KEEP)
            log = await ours.read("r", KEEP, 1)
            assert (log.seq, log.epoch) == (seq, epoch)
            assert log.entries == [(2, b"b"), (3, b"c")]
            assert (await ours.read("r", KEEP, 3)).entries == []
            assert (await ours.read("r", KEEP)).entries == []

    run(main)


def test_reading_begins_a_log_whose_epoch_the_first_append_keeps(url: str) -> None:
    """A position handed out before the first message is still valid after it."""

    async def main() -> None:
        async with opened(url) as (ours, _), opened(url) as (theirs, _):
            log = await ours.read("r", KEEP)
            assert (log.seq, log.entries) == (0, [])
            assert await theirs.append("r", b"a", KEEP) == (1, log.epoch)

    run(main)


def test_a_log_keeps_the_latest_messages_only(url: str) -> None:
    """`Keep(messages=5)`: of eight, the last five remain."""

    async def main() -> None:
        async with opened(url) as (ours, _):
            for number in range(8):
                await ours.append("r", b"%d" % number, KEEP)
            log = await ours.read("r", KEEP, 0)
            assert [seq for seq, _ in log.entries] == [4, 5, 6, 7, 8]
            assert log.seq == 8

    run(main)


def test_a_log_keeps_no_message_longer_than_said(url: str) -> None:
    """After its seconds an entry is gone, while the numbers and the epoch go on."""

    async def main() -> None:
        short, long = Keep(messages=5, seconds=0.3), Keep(messages=5, seconds=60)
        async with opened(url) as (ours, _):
            _, epoch = await ours.append("r", b"old", short)
            async with asyncio.timeout(DEADLINE_S):
                while (await ours.read("r", short, 0)).entries:
                    await asyncio.sleep(0.05)
            assert await ours.append("r", b"new", long) == (2, epoch)
            assert (await ours.read("r", long, 0)).entries == [(2, b"new")]

    run(main)


def test_a_log_that_is_disowned_begins_anew(url: str) -> None:
    """For all, with another epoch; once, however many disown the same, and not where it is another one already."""

    async def main() -> None:
        async with opened(url, "r") as (ours, ears), opened(url) as (theirs, _):
            for _ in range(3):
                _, epoch = await ours.append("r", b"old", KEEP)
            await theirs.disown("r", "other")
            assert (await theirs.read("r", KEEP)).seq == 3
            await theirs.disown("r", epoch)
            seq, other = await theirs.append("r", b"new", KEEP)
            assert (seq, other != epoch) == (1, True)
            await ours.disown("r", epoch)
            await ours.disown("never", epoch)
            assert await ours.read("r", KEEP, 0) == (other, 1, [(1, b"new")])
            await until(lambda: len(ears.deliveries) == 4)
            assert ears.deliveries[-1] == ("r", b"new", 1, other)

    run(main)


def test_how_a_topic_is_logged_can_be_asked_by_another_process(url: str) -> None:
    """A hub that was told nothing finds out that a room keeps history."""

    async def main() -> None:
        async with opened(url) as (ours, _), opened(url) as (theirs, _):
            assert await theirs.logged("r") is None
            await ours.append("r", b"a", KEEP)
            assert await theirs.logged("r") == KEEP

    run(main)


def test_binary_payloads_of_any_size_pass_unchanged(url: str) -> None:
    """Bytes are bytes: newlines, zeros, the separators of our own headers, half a megabyte."""

    async def main() -> None:
        async with opened(url, "r") as (ours, ears):
            payloads = [b"", b"\r\n\0 +- \xff", bytes(range(256)) * 2000]
            for payload in payloads:
                ours.publish(("r",), payload)
            await ears.receives(*payloads)
            await ours.append("r", payloads[1], KEEP)
            assert (await ours.read("r", KEEP, 0)).entries == [(1, payloads[1])]

    run(main)


def test_held_entries_are_seen_by_all_until_released(url: str) -> None:
    """Two holders of one topic see each other's entries; a second hold of a key replaces the first."""

    async def main() -> None:
        async with opened(url) as (ours, _), opened(url) as (theirs, _):
            await ours.hold("r", "a.*>", b"1")
            await theirs.hold("r", "b", b"2")
            await theirs.hold("r", "b", b"3")
            await theirs.hold("other", "c", b"4")
            assert await ours.held("r") == {"a.*>": b"1", "b": b"3"}
            assert await ours.alive(frozenset({ours.owner, theirs.owner, "nobody"})) == {
                ours.owner,
                theirs.owner,
            }
            await ours.release("r", "a.*>")
            assert await theirs.held("r") == {"b": b"3"}

    run(main)


def test_closing_releases_what_was_held(url: str) -> None:
    """A process that ends in good order leaves nothing behind."""

    async def main() -> None:
        async with opened(url) as (ours, _):
            async with opened(url) as (theirs, _):
                await theirs.hold("r", "b", b"2")
                assert await ours.held("r") == {"b": b"2"}
            assert await ours.held("r") == {}

    run(main)


@pytest.mark.parametrize("url", ["redis", "nats"], indirect=True)
def test_what_waits_to_be_written_at_the_end_of_an_event_loop_is_written(url: str) -> None:
    """The task that would have done so ends with the loop; what it had begun may be lost, the rest is not."""

    async def publish() -> None:
        backplane = open_url(url)
        await backplane.open(Listener())
        backplane.publish(("r",), b"first")
        while backplane._outbox:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        backplane.publish(("r",), b"last")

    async def main() -> None:
        async with opened(url, "r") as (_, ears):
            await asyncio.to_thread(asyncio.run, publish())
            await until(lambda: b"last" in ears.payloads, "it arrives")

    run(main)


@pytest.mark.parametrize("url", ["redis", "nats"], indirect=True)
def test_the_end_of_an_event_loop_releases_what_was_held(url: str) -> None:
    """All of it, also where nobody closes the backplane."""

    async def hold() -> None:
        backplane = open_url(url)
        await backplane.open(Listener())
        for number in range(20):
            await backplane.hold("r", str(number), b"x")

    async def main() -> None:
        async with opened(url) as (ours, _):
            await asyncio.to_thread(asyncio.run, hold())
            assert await ours.held("r") == {}

    run(main)


def test_a_closed_backplane_is_closed(url: str) -> None:
    """`state` says so, on every engine."""

    async def main() -> None:
        async with opened(url) as (ours, _):
            assert ours.state == "connected"
        assert ours.state == "closed"

    run(main)


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_an_engine_that_is_not_there_does_not_block(kind: str) -> None:
    """`open` returns after one attempt, the state says so, publishing raises, closing works."""

    async def main() -> None:
        backplane = open_url(f"{kind}://127.0.0.1:1")
        await backplane.open(Listener())
        assert backplane.state == "reconnecting"
        await backplane.subscribe("r")
        with pytest.raises(BackplaneUnavailable):
            backplane.publish(("r",), b"x")
        with pytest.raises(BackplaneUnavailable):
            await backplane.append("r", b"x", KEEP)
        await backplane.aclose()

    run(main)


@pytest.mark.parametrize("url", ["kafka://x", "", "room", "http://127.0.0.1"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(url: str) -> None:
    """The error names what would have been understood."""
    with pytest.raises(ValueError, match="redis://"):
        open_url(url)
