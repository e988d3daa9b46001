"""What a stream's handler gives is passed on as it is, and somebody is told when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from socketsundso.telemetry.streaming import watched


class Endless:
    """An iterator that is no generator: nothing can be thrown into it, nor can it be closed."""

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> int:
        return 0


async def some() -> AsyncIterator[int]:
    yield 1


def plain() -> Iterator[int]:
    yield 1


async def promised() -> AsyncIterator[int]:
    return some()


async def broken() -> AsyncIterator[int]:
    yield 1
    raise ZeroDivisionError


async def broken_promise() -> AsyncIterator[int]:
    raise ZeroDivisionError


def collect(items: Any) -> list[str]:
    """What is told of a stream that is stepped to its end, or to what it raises, and then closed."""
    told: list[str] = []

    async def scenario() -> None:
        stepped = watched(items, lambda exc: told.append(type(exc).__name__))
        stepped = await stepped if hasattr(stepped, "__await__") else stepped
        if hasattr(stepped, "__aiter__"):
            assert [item async for item in stepped] == [1]
            await stepped.aclose()
        else:
            assert list(stepped) == [1]
            stepped.close()

    asyncio.run(scenario())
    return told


def test_its_end_is_told() -> None:
    """The iterator's own, whatever kind it is, and that it is closed."""
    assert collect(some()) == collect(promised()) == ["StopAsyncIteration", "NoneType"]
    assert collect(plain()) == collect([1]) == ["StopIteration", "NoneType"]


@pytest.mark.parametrize("items", [broken, broken_promise])
def test_what_it_raises_is_told(items: Any) -> None:
    """Also where it gives no items at all."""
    told: list[str] = []

    async def scenario() -> None:
        stepped = watched(items(), lambda exc: told.append(type(exc).__name__))
        stepped = await stepped if hasattr(stepped, "__await__") else stepped
        async for _ in stepped:
            pass

    with pytest.raises(ZeroDivisionError):
        asyncio.run(scenario())
    assert told == ["ZeroDivisionError"]


def test_what_is_no_iterator() -> None:
    """It is over at once."""
    told: list[str] = []
    with pytest.raises(TypeError):
        watched(7, lambda exc: told.append(type(exc).__name__))
    assert told == ["TypeError"]


def test_what_is_thrown_into_it() -> None:
    """A timeout around a `yield` reaches the handler, which may go on; what is no generator raises it at once."""

    async def handler() -> AsyncIterator[str]:
        try:
            yield "first"
        except TimeoutError:
            yield "late"

    async def scenario() -> None:
        told: list[BaseException | None] = []
        items = watched(handler(), told.append)
        assert [await anext(items), await items.athrow(TimeoutError())] == ["first", "late"]
        assert told == []
        await items.aclose()
        endless = watched(Endless(), told.append)
        with pytest.raises(TimeoutError):
            await endless.athrow(TimeoutError())
        await endless.aclose()
        assert told == [None, None]

    asyncio.run(scenario())
