"""A generated Python client in rooms with history, while the engine behind its server is killed and comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ...backplanes.engines import EngineServer, running
from ..clients import load
from .office import OFFICE, Office
from .servers import serving, until

FAST = {"backoff": lambda attempt: 0.001}


@pytest.fixture(scope="module")
def engine() -> Any:
    with running("redis") as engine:
        yield engine


def test_a_client_knows_what_a_killed_engine_has_lost(engine: EngineServer) -> None:
    """
    A request that needs the engine fails, the connection lives. An engine that comes back without its data is a gap,
    in its place; what is said from then on comes in order, and a reconnect resumes there.
    """
    made = load(OFFICE)

    class Distributed(Office):
        backplane = engine.url

    async def main() -> None:
        async with serving(Distributed) as served, made.Office(served.url, **FAST) as office:
            await office.enter(room="doc:redis", name="ada")
            pushes = aiter(office.room("doc:redis"))

            gaps: list[Any] = []
            office.on(made.Gap, gaps.append)

            async def posted() -> str:
                async for push in pushes:
                    if isinstance(push, made.Posted):
                        return str(push.msg)
                raise AssertionError("the end")

            await office.say(room="doc:redis", msg="before")
            assert await posted() == "before"
            epoch = office.room("doc:redis").position.epoch
            engine.kill()
            with pytest.raises(made.OfficeError):
                await office.say(room="doc:redis", msg="lost")
            assert (await office.echo(text="still here")).text == "still here"
            engine.start()
            await until(lambda: Distributed.hub.status == "connected")
            await office.say(room="doc:redis", msg="after")
            assert await posted() == "after"
            position = office.room("doc:redis").position
            assert (position.epoch != epoch, [gap.room for gap in gaps]) == (True, ["doc:redis"])
            office._connection.transport.abort()
            opened: list[Any] = []
            office.on_open(opened.append)
            await until(lambda: opened)
            assert opened[0].resumed == {"doc:redis": True}
            await office.say(room="doc:redis", msg="resumed")
            assert await posted() == "resumed"

    asyncio.run(main())
