"""
What dependencies do behind their `yield`: opened generators are run to their end, or told what went wrong.

A dependency with a teardown is an async generator here, whatever it was written as. Knows no connection, no handler.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Any, NoReturn

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

logger = logging.getLogger("socketsundso")

Opened = list[AsyncGenerator[Any, None]]
"""Dependencies that have given their value, in that order."""

Caller = Callable[..., Awaitable[Any]]
"""Calls a function, here or in a thread."""

AsyncFactory = Callable[..., AsyncGenerator[Any, None]]


async def close(opened: Opened) -> None:
    """
    Run the teardowns, the last one's first.

    Raises what one of them raises; those before it are open still, and in the list.
    """
    while opened:
        generator = opened.pop()
        try:
            await generator.__anext__()
            await end_again(generator)
        except StopAsyncIteration:
            continue
        finally:
            del generator  # see `unwind`


async def end_again(generator: AsyncGenerator[Any, None]) -> NoReturn:
    """One has given a second value, which nobody wants."""
    try:
        await generator.aclose()
    finally:
        del generator
    raise RuntimeError(_YIELDS_AGAIN)


async def unwind(exc: BaseException, where: str, *scopes: Opened) -> NoReturn:
    """
    Throw an exception into all that are open, scope by scope, the last one first. Raises it, or what they made of it.

    Who swallows it leaves the message without an answer, which is a RuntimeError, also for the scopes that follow; a
    cancellation and the peer's leaving cannot be swallowed.

    Frames that an exception has come through forget it, and, since Python 3.12, the generators that it left by: both
    would be cycles, which keep the endpoint alive until the collector comes.
    """
    if isinstance(exc, StopAsyncIteration):
        exc = _caused_by(exc, f"{where}: StopAsyncIteration was raised, or a dependency yields nothing")
    try:
        with anyio.CancelScope(shield=True):  # every await would be cut off in a scope of anyio's that is cancelled
            for opened in scopes:
                exc = await _thrown_into(opened, exc, where)
        raise exc
    finally:
        del exc


async def _thrown_into(opened: Opened, exc: BaseException, where: str) -> BaseException:
    """What became of it. Those that opened before one that swallows it end as if nothing had been."""
    current: BaseException | None = exc
    try:
        while opened:
            current = await _told(opened.pop(), current)
        if current is not None:
            return current
        if isinstance(exc, WebSocketDisconnect) or not isinstance(exc, Exception):
            return exc
        return _caused_by(exc, f"{where}: a dependency swallowed {exc!r}; it has to raise it again, or another one")
    finally:
        del exc, current


async def _told(generator: AsyncGenerator[Any, None], exc: BaseException | None) -> BaseException | None:
    """End one that is open. None: it has ended, or swallowed what it was told."""
    try:
        await (generator.__anext__() if exc is None else generator.athrow(exc))
        await generator.aclose()
    except StopAsyncIteration:
        return None
    except BaseException as other:
        return other
    finally:
        del exc, generator
    return RuntimeError(_YIELDS_AGAIN)


_YIELDS_AGAIN = "a dependency yields more than once"


def _caused_by(exc: BaseException, text: str) -> Exception:
    error = RuntimeError(text)
    error.__cause__ = exc
    return error


async def fail_late(exc: BaseException, where: str, opened: Opened) -> None:
    """The same for what `close` raised when the answer was out: it is logged."""
    try:
        await unwind(exc, where, opened)
    except WebSocketDisconnect:
        raise
    except (Exception, asyncio.CancelledError) as late:
        if isinstance(late, asyncio.CancelledError) and _is_cancelled():
            raise
        logger.exception("%s: the teardown of a dependency failed", where)
    finally:
        del exc


def _is_cancelled() -> bool:
    """Is this task? It may as well have awaited something that was."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


# ---- where middleware is between the handler and its reply


Scopes = tuple[Opened, Opened]
"""What is torn down before the reply, and what behind it."""

left_open: ContextVar[Scopes] = ContextVar("socketsundso_left_open")
"""Of the message that is being handled: a generated function that does not reply itself adds what it leaves open."""


def finishing(inner: Callable[..., Awaitable[Any]], where: str) -> Callable[..., Awaitable[None]]:
    """The call of a message whose value passes through middleware: sends what comes out, and tears down around that."""

    async def finished(message: Any, endpoint: Any, frame: Any) -> None:
        scopes: Scopes = [], []
        left_open.set(scopes)
        try:
            value = await inner(message, endpoint, frame)
        except BaseException as exc:
            await unwind(exc, where, *scopes)
        await conclude(scopes, where, value, endpoint._loop.prepare, endpoint._loop.deliver)

    return finished


async def conclude(
    scopes: Scopes,
    where: str,
    value: Any,
    prepare: Callable[[Any], Any],
    deliver: Callable[[Any], Awaitable[None] | None],
) -> None:
    """A message has been handled: its reply, and around that the teardowns. Raises what is to be answered instead."""
    function, request = scopes
    try:
        reply = prepare(value)
        await close(function)
        if reply is not None and (rest := deliver(reply)) is not None:
            await rest
    except BaseException as exc:
        await unwind(exc, where, function, request)
    try:
        await close(request)
    except BaseException as exc:
        await fail_late(exc, where, request)


# ---- streams


def streaming(
    solve: Callable[..., Awaitable[AsyncIterator[Any]]], where: str
) -> Callable[..., AsyncGenerator[Any, None]]:
    """
    The items of a handler, and around them its dependencies: opened before the first one, all torn down behind the
    last, so that no end is told of what has failed.

    What is thrown in at an item reaches the handler, as if it were stepped itself.
    """

    async def items(*arguments: Any) -> AsyncGenerator[Any, None]:
        function, request = scopes = Opened(), Opened()
        left_open.set(scopes)
        source: Any = None
        try:
            source = aiter(await solve(*arguments))
            step = anext(source)
            while (item := await _item_of(step)) is not _END:
                try:
                    yield item
                except Exception as exc:
                    step = _thrown_at(source, exc)
                except asyncio.CancelledError as exc:
                    step = _thrown_at(source, exc)
                else:
                    step = anext(source)
            await close(function)
            await close(request)
        except BaseException as exc:
            await unwind(await _after_closing(source, exc), where, function, request)
        finally:
            source = step = None

    return items


_END: Any = object()


async def _item_of(step: Awaitable[Any]) -> Any:
    try:
        return await step
    except StopAsyncIteration:
        return _END


def _thrown_at(source: Any, exc: BaseException) -> Awaitable[Any]:
    """The item that it gives in spite of that. Raises it where nothing can be thrown in."""
    if not hasattr(source, "athrow"):
        raise exc
    step: Awaitable[Any] = source.athrow(exc)
    return step


async def _after_closing(source: Any, exc: BaseException) -> BaseException:
    """The handler has ended before its dependencies are told: what they are told."""
    try:
        if hasattr(source, "aclose"):
            await source.aclose()
    except BaseException as other:
        return other
    finally:
        del source
    return exc


# ---- what is no async generator


def stepped_inline(function: Callable[..., Generator[Any]]) -> AsyncFactory:
    """A sync generator function that never blocks."""

    async def call(step: Callable[[], Any]) -> Any:
        return step()

    return _stepped(function, call, call)


def stepped_in_threads(function: Callable[..., Generator[Any]]) -> AsyncFactory:
    """Each of its steps runs in one of anyio's worker threads."""
    return _stepped(function, run_in_threadpool, _in_own_thread)


def _stepped(function: Callable[..., Generator[Any]], enter: Caller, leave: Caller) -> AsyncFactory:
    @functools.wraps(function)
    async def steps(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        stepper = _Stepper(function(*args, **kwargs))
        try:
            yield await enter(stepper.enter)
        except BaseException as exc:
            stepper.told = exc
            if not await leave(stepper.leave):
                raise
        else:
            await leave(stepper.leave)

    return steps


class _Stepper:
    """A generator that is entered in one thread and left in another one, also where nobody waited for the first."""

    def __init__(self, generator: Generator[Any]) -> None:
        self.told: BaseException | None = None  # what is to be thrown into it
        self._generator: Generator[Any] | None = generator  # until it is left
        self._is_entered = False
        self._lock = threading.Lock()

    def enter(self) -> Any:
        with self._lock:
            if self._generator is None:  # nobody waits for it any more
                return None
            for value in self._generator:
                self._is_entered = True
                return value
        raise RuntimeError("a dependency yields nothing")

    def leave(self) -> bool:
        """Has it ended without an exception? One that was not entered passes on what it is told."""
        with self._lock:
            generator, self._generator = self._generator, None
            exc, self.told = self.told, None
            if generator is None or not self._is_entered:
                return False
            try:
                next(generator) if exc is None else generator.throw(exc)
                generator.close()
            except StopIteration:
                return True
            finally:
                del exc, generator
            raise RuntimeError(_YIELDS_AGAIN)


async def _in_own_thread(function: Callable[[], bool]) -> bool:
    """Those of the pool may all be waiting for what this one gives back."""
    with anyio.CancelScope(shield=True):
        result = await anyio.to_thread.run_sync(function, limiter=anyio.CapacityLimiter(1))
    return result  # noqa: RET504  # within the scope, which may swallow, it would be no return for mypy


def stepped_once(function: Callable[..., Awaitable[Any]]) -> AsyncFactory:
    """A coroutine function, as a dependency whose teardown does nothing."""

    @functools.wraps(function)
    async def steps(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        yield await function(*args, **kwargs)

    return steps
