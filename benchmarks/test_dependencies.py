"""
What dependencies cost for a message, in this process: one, and three with a `yield`, against who else solves them.

Each solves, calls a handler that does nothing, and tears down. By hand is what nobody can beat; FastAPI's solver is
called as its WebSocket route calls it, with a stack for each message, as a loop that shares none would have to.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Annotated, Any

import pytest
from fastapi import Depends as FastAPIDepends
from fastapi.dependencies.utils import get_dependant, solve_dependencies
from starlette.websockets import WebSocket

from benchmarks.progress import Show
from socketsundso import Depends, Endpoint, event
from socketsundso.connection import Serial

BOUNDS = {"fastapi": 0.05, "dishka": 0.5}
"""What ours may cost at most, as a part of the others."""

MESSAGES = 500
ROUNDS = 40
Solve = Callable[[], Awaitable[Any]]


class Settings: ...


class Session: ...


class User: ...


SETTINGS = Settings()


async def get_settings() -> Settings:
    return SETTINGS


async def get_session(settings: Annotated[Settings, Depends(get_settings)]) -> AsyncIterator[Session]:
    yield Session()


async def get_user(
    session: Annotated[Session, Depends(get_session)], settings: Annotated[Settings, Depends(get_settings)]
) -> User:
    return User()


class App(Endpoint):
    @event
    async def on_one(self, settings: Annotated[Settings, Depends(get_settings)]) -> None: ...

    @event
    async def on_three(
        self, user: Annotated[User, Depends(get_user)], session: Annotated[Session, Depends(get_session)]
    ) -> None: ...


async def unused(*_: Any) -> Any: ...


def ours(event_name: str) -> Solve:
    """A message that is decoded already, called as the loop calls it."""
    frame = f'{{"type":"{event_name}"}}'
    endpoint = App(WebSocket({"type": "websocket", "headers": []}, unused, unused))
    endpoint._loop = Serial(endpoint, endpoint._peer, App._definition, responds=False)
    App._definition.decoder.decode(frame)  # while the union is built
    message = App._definition.decoder.decode(frame)
    return lambda: message.call(endpoint, frame)  # type: ignore[no-any-return]  # a coroutine


async def one(settings: Settings) -> None: ...


async def three(user: User, session: Session) -> None: ...


async def by_hand_one() -> None:
    await one(await get_settings())


async def by_hand_three() -> None:
    settings = await get_settings()
    sessions = get_session(settings)
    session = await anext(sessions)
    try:
        await three(await get_user(session, settings), session)
    except BaseException as exc:
        await sessions.athrow(exc)
        raise
    try:
        await anext(sessions)
    except StopAsyncIteration:
        return


async def fastapi_session(settings: Annotated[Settings, FastAPIDepends(get_settings)]) -> AsyncIterator[Session]:
    yield Session()


async def fastapi_user(
    session: Annotated[Session, FastAPIDepends(fastapi_session)],
    settings: Annotated[Settings, FastAPIDepends(get_settings)],
) -> User:
    return User()


async def fastapi_one(settings: Annotated[Settings, FastAPIDepends(get_settings)]) -> None: ...


async def fastapi_three(
    user: Annotated[User, FastAPIDepends(fastapi_user)], session: Annotated[Session, FastAPIDepends(fastapi_session)]
) -> None: ...


def fastapi(handler: Callable[..., Awaitable[Any]]) -> Solve:
    dependant = get_dependant(path="/", call=handler)

    async def solve() -> None:
        scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/",
            "headers": [],
            "query_string": b"",
            "path_params": {},
        }
        websocket = WebSocket(scope, unused, unused)
        async with AsyncExitStack() as requests, AsyncExitStack() as functions:
            scope["fastapi_inner_astack"], scope["fastapi_function_astack"] = requests, functions
            solved = await solve_dependencies(
                request=websocket, dependant=dependant, async_exit_stack=requests, embed_body_fields=False
            )
            await handler(**solved.values)

    return solve


class Services:
    """Dishka's container, one scope for each message."""

    def __init__(self) -> None:
        dishka = pytest.importorskip("dishka")
        provider = dishka.Provider(scope=dishka.Scope.REQUEST)
        provider.provide(self.settings)
        provider.provide(self.session)
        provider.provide(self.user)
        self.container = dishka.make_async_container(provider)

    async def settings(self) -> Settings:
        return SETTINGS

    async def session(self, settings: Settings) -> AsyncIterator[Session]:
        yield Session()

    async def user(self, session: Session, settings: Settings) -> User:
        return User()

    async def one(self) -> None:
        async with self.container() as request:
            await one(await request.get(Settings))

    async def three(self) -> None:
        async with self.container() as request:
            await three(await request.get(User), await request.get(Session))


def solvers(name: str) -> dict[str, Solve]:
    services = Services()
    if name == "one":
        return {"hand": by_hand_one, "ours": ours("one"), "dishka": services.one, "fastapi": fastapi(fastapi_one)}
    return {"hand": by_hand_three, "ours": ours("three"), "dishka": services.three, "fastapi": fastapi(fastapi_three)}


async def measured(solve: Solve) -> float:
    """Microseconds for each of some messages."""
    started = time.thread_time()
    for _ in range(MESSAGES):
        await solve()
    return (time.thread_time() - started) / MESSAGES * 1e6


async def rounds(competitors: dict[str, Solve], step: Callable[[str], None]) -> dict[str, float]:
    """The median of several rounds, in each of which all take their turn: what disturbs one disturbs the others."""
    times: dict[str, list[float]] = {key: [] for key in competitors}
    for _ in range(ROUNDS):
        for key, solve in competitors.items():
            times[key].append(await measured(solve))
            step(key)
    return {key: statistics.median(each) for key, each in times.items()}


@pytest.mark.parametrize("name", ["one", "three"])
def test_dependencies(name: str, figures: dict[str, Any], show: Show) -> None:
    """In process: microseconds a message."""
    competitors = solvers(name)
    show.steps = len(competitors) * ROUNDS
    found = asyncio.run(rounds(competitors, show.step))
    title = "one dependency" if name == "one" else "three dependencies, one with a teardown"
    figures[f"in process: {title}"] = {key: {"us_per_call": value} for key, value in found.items()}
    lines = [f"{key:10} {us:7.2f} us  {found['ours'] / us:6.3f} ours to this" for key, us in found.items()]
    show("\n".join([f"in process: {title}", *lines]))
    assert all(found["ours"] <= bound * found[key] for key, bound in BOUNDS.items())
