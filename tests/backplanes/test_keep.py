"""`Keep`: checked where it is written, and the same on every engine."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from typing import Any

import pytest

from socketsundso import Hub
from socketsundso.backplanes import Keep
from socketsundso.errors import DefinitionError

from .engines import EngineServer
from .listener import opened

NAN = float("nan")


@pytest.mark.parametrize("messages", [0, -1, 1.5, 100.0, True, 10**20, "100", None, NAN, math.inf, b"1" * 1000])
def test_how_many_is_a_whole_number_of_messages(messages: Any) -> None:
    """Anything else is refused with the remedy, in a few words, at import."""
    with pytest.raises(DefinitionError, match=r"Keep\(messages=.*a whole number from 1 to 1,000,000,000") as refused:
        Keep(messages=messages)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("seconds", [0, 0.0, -1, NAN, -math.inf, True, 10**20, 1e300, "300", None, Decimal(3)])
def test_how_long_is_a_number_of_seconds(seconds: Any) -> None:
    """Anything else is refused with the remedy at import; for ever is `math.inf`."""
    with pytest.raises(DefinitionError, match=r"Keep\(seconds=.*math\.inf"):
        Keep(seconds=seconds)


@pytest.mark.parametrize(
    "history", [{"doc:*": 100}, {"doc:*": None}, {5: Keep()}, {"": Keep()}, {b"doc": Keep()}, ["doc:*"]]
)
def test_a_hub_takes_patterns_and_keeps(history: Any) -> None:
    """Checked where it is made, not at the first message."""
    with pytest.raises(DefinitionError, match="history"):
        Hub(history=history)


@pytest.mark.parametrize(
    "keep",
    [Keep(5, math.inf), Keep(10**9, math.inf), Keep(1, 3_155_760_000), Keep(3, 1 / 3), Keep(7, 1e-9), Keep(2, 60)],
    ids=str,
)
def test_what_may_be_written_works_on_every_engine(url: str, keep: Keep) -> None:
    """The largest and the smallest, for ever, and what no engine counts exactly."""

    async def main() -> None:
        async with opened(url, "r") as (ours, ears), opened(url) as (theirs, _):
            assert (await ours.read("r", keep, 0)).seq == 0
            seq, epoch = await ours.append("r", b"1", keep)
            assert await theirs.append("r", b"2", keep) == (seq + 1, epoch)
            await ears.receives(b"1", b"2")
            logged = await theirs.logged("r")
            assert logged is not None
            assert logged.messages == keep.messages
            assert logged.seconds == pytest.approx(keep.seconds, abs=0.11)
            if keep.seconds > 10:
                entries = [(1, b"1"), (2, b"2")][-keep.messages :]
                assert await theirs.read("r", keep, 0) == (epoch, 2, entries)

    asyncio.run(main())


def test_what_is_kept_for_ever_has_no_end_on_redis(redis_engine: EngineServer) -> None:
    """Also a log that had one before, from its next use on; and it has one again where the Keep says so."""
    import redis.asyncio as redis

    forever, minute = Keep(5, math.inf), Keep(5, 60)
    keys = ["forever:log:r", "forever:logmeta:r"]

    async def main() -> None:
        async with redis.Redis(port=redis_engine.port) as admin:

            async def ends() -> list[bool]:
                return [await admin.ttl(key) > 0 for key in keys]

            async with opened(f"{redis_engine.url}?prefix=forever") as (ours, _):
                await ours.append("r", b"1", minute)
                assert await ends() == [True, True]
                await ours.read("r", forever)
                assert await ends() == [False, False]
                await ours.append("r", b"2", forever)
                assert await ends() == [False, False]
                await ours.append("r", b"3", minute)
                assert await ends() == [True, True]

    asyncio.run(main())


def test_a_stream_of_nats_that_is_kept_for_ever_is_not_swept(nats_engine: EngineServer) -> None:
    """However long ago somebody used it."""

    async def main() -> None:
        async with opened(f"{nats_engine.url}?prefix=forever") as (ours, _):
            await ours.append("r", b"1", Keep(5, math.inf))
            await ours.append("old", b"1", Keep(5, 60))

            async def long_ago(stream: str) -> float:
                return 1e12

            ours._idle_s = long_ago  # type: ignore[attr-defined]
            await ours._sweep()  # type: ignore[attr-defined]
        async with opened(f"{nats_engine.url}?prefix=forever") as (fresh, _):
            assert await fresh.logged("r") == Keep(5, math.inf)
            assert await fresh.logged("old") is None

    asyncio.run(main())


def test_a_stream_of_nats_is_brought_in_line_once(nats_engine: EngineServer) -> None:
    """Also where the server rounds what it is told: a message more is no change more."""

    async def main() -> None:
        keep = Keep(5, 100 / 3)
        async with opened(f"{nats_engine.url}?prefix=rounded", "r") as (ours, _):
            await ours.append("r", b"1", keep)
            asked: list[object] = []

            async def refuse(config: object) -> None:
                asked.append(config)

            ours._js.update_stream = ours._js.add_stream = refuse  # type: ignore[attr-defined]
            await ours.append("r", b"2", keep)
            await ours.read("r", keep, 0)
            async with opened(f"{nats_engine.url}?prefix=rounded") as (theirs, _):
                theirs._js.update_stream = refuse  # type: ignore[attr-defined]
                await theirs.append("r", b"3", keep)
            assert not asked

    asyncio.run(main())


def test_a_stream_without_limits_that_somebody_made_is_a_log(nats_engine: EngineServer) -> None:
    """On NATS 0 or less is no limit; it is read as the most that a Keep may say."""

    async def main() -> None:
        async with opened(f"{nats_engine.url}?prefix=alien") as (ours, _):
            await ours._js.add_stream(name="alien_log_r", subjects=["alien.log.r"])  # type: ignore[attr-defined]
            assert await ours.logged("r") == Keep(10**9, math.inf)

    asyncio.run(main())
