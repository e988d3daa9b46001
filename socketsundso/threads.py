"""
An endpoint's calls for threads: handlers that are `def`, and whatever threads they start.

What a connection does is done in its event loop. `Sync` has it done there and waits; what is awaited refuses to be
called where nobody could await it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from msgspec import UNSET

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E")

ENDED = "the event loop of this connection has ended"

LOOK_S = 1.0
"""How often a thread that waits looks whether its event loop is still there."""


def awaited(method: Callable[Concatenate[E, P], T]) -> Callable[Concatenate[E, P], T]:
    """A method that raises where it is called in a thread, instead of doing nothing there."""

    def called(self: E, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if asyncio._get_running_loop() is None:
            raise RuntimeError(
                f"`{method.__name__}` is awaited, which a thread cannot do: in a handler that is no `async def`, call "
                f"`self.sync.{method.__name__}(...)`"
            )
        return method(self, *args, **kwargs)

    functools.update_wrapper(called, method)
    return called


class Sync:
    """
    What `self.sync` is: the endpoint's calls without `await`, for handlers in threads.

    Each returns when it is done, and raises what the awaited one raises. RuntimeError where an event loop is running,
    which it would stop, and after the end of the connection's own. Messages go out in the order of the calls, and
    `self.sync.respond` answers the message that the thread was started for.
    """

    __slots__ = ("_endpoint", "_loop")

    def __init__(self, endpoint: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        self._endpoint, self._loop = endpoint, loop  # of an endpoint, whose module is above this one

    def send(self, message: Any) -> None:
        self._run(lambda: self._endpoint.send(message))

    def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        self._run(lambda: self._endpoint.send_bytes(data))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """`with self.sync.together():` is what `async with self.together()` is, for what this thread sends within."""

        async def enter() -> tuple[AbstractAsyncContextManager[None], Context]:
            block = self._endpoint.together()
            await block.__aenter__()
            return block, copy_context()

        async def leave() -> Context:
            await block.__aexit__(None, None, None)
            return copy_context()

        block, context = self._run(enter)
        _take_over(context)
        try:
            yield
        finally:
            _take_over(self._run(leave))

    def respond(self, response: Any) -> None:
        self._run(lambda: self._endpoint.respond(response))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        self._run(lambda: self._endpoint.close(code, reason))

    def join(self, room: str | Iterable[str], *more: str | Iterable[str], last: int | None = None) -> None:
        self._run(lambda: self._endpoint.join(room, *more, last=last))

    def leave(self, room: str | Iterable[str], *more: str | Iterable[str]) -> None:
        self._run(lambda: self._endpoint.leave(room, *more))

    def broadcast(
        self, message: Any, room: str | Iterable[str], *, exclude_self: bool = False, ttl_s: float | None = None
    ) -> None:
        self._run(lambda: self._endpoint.broadcast(message, room, exclude_self=exclude_self, ttl_s=ttl_s))

    def identify(self, user: str) -> None:
        self._run(lambda: self._endpoint.identify(user))

    def track(self, meta: Any, room: str | None = None, *, key: str | None = None) -> None:
        self._run(lambda: self._endpoint.track(meta, room, key=key))

    def untrack(self, room: str | None = None) -> None:
        self._run(lambda: self._endpoint.untrack(room))

    @overload
    def call(self, question: Any, *, returns: type[T], timeout_s: float = 30.0) -> T: ...
    @overload
    def call(self, question: Any, *, timeout_s: float = 30.0) -> Any: ...
    def call(self, question: Any, *, returns: Any = UNSET, timeout_s: float = 30.0) -> Any:
        return self._run(lambda: self._endpoint.call(question, returns=returns, timeout_s=timeout_s))

    def _run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("`self.sync` waits, which would stop this event loop; await the call of `self` instead")
        if self._loop is None:
            raise RuntimeError("`self.sync` is for connections that are being served, in an event loop of asyncio")
        return _wait_in(self._loop, call)


def _take_over(context: Context) -> None:
    """What has been set in the event loop is set in this thread, too: it was done for it."""
    for variable, value in context.items():
        if variable.get(None) is not value:
            variable.set(value)


def _wait_in(loop: asyncio.AbstractEventLoop, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Have it run in the loop, with the context of this thread, until its end or that of the loop."""

    async def run() -> T:
        return await call()

    coroutine = run()
    try:
        running = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:  # closed
        coroutine.close()
        raise RuntimeError(ENDED) from None
    while not wait({running}, LOOK_S).done:
        if loop.is_closed():
            raise RuntimeError(ENDED)
    try:
        return running.result()
    except CancelledError:
        raise RuntimeError(ENDED) from None
