"""
What our own server offers beside ASGI's `receive` and `send`, seen from the endpoint.

A coroutine and a dict for each message, in and out, cost more than decoding it. So an endpoint takes texts from
`scope["extensions"]["socketsundso.pull"]` and writes replies to `scope["extensions"]["socketsundso.push"]`, in
the same order and with the same back-pressure; see docs/server.md. ASGI's own functions remain what counts: they are
used on every other server, and as soon as a middleware stands between, which is to see every message. Starlette's own
function around `send`, in every application of Starlette and FastAPI, looks at HTTP responses only: it is seen through.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from types import CodeType
from typing import Any, Protocol, cast

Receive = Callable[[], Awaitable[Any]]
Send = Callable[..., Awaitable[None]]


class BinaryPayload(bytes):
    """What goes out in a binary frame, where a plain `bytes` is the JSON of a text frame."""

    __slots__ = ()


class Writer(Protocol):
    """
    Writes a text, or binary data, if that needs no waiting; False: it was not written, ASGI's `send` is to do it.

    `write_soon` is for a text that is probably followed by more.
    """

    def write(self, payload: bytes) -> bool: ...

    def write_soon(self, payload: bytes) -> bool: ...

    def write_binary(self, payload: bytes) -> bool: ...


class Wire(Writer, Protocol):
    """`scope["extensions"]["socketsundso.push"]`."""

    def stands_for(self, send: Send, /) -> bool: ...

    def frame(self, payload: bytes, *, binary: bool = False) -> bytes: ...

    def push(self, frame: bytes) -> bool: ...

    def compress_from(self, payload_bytes: int | None) -> None: ...

    @property
    def offer(self) -> Callable[[bytes], bool]: ...

    @property
    def buffered(self) -> int: ...

    async def drain(self) -> None: ...


class Arrivals(Protocol):
    """Messages in order: the next one that is there, else None; and the next one when it comes."""

    def take(self) -> Any: ...

    def arrival(self) -> Awaitable[Any]: ...


class Source(Arrivals, Protocol):
    """`scope["extensions"]["socketsundso.pull"]`."""

    @property
    def holds(self) -> bool: ...

    @property
    def waiting_bytes(self) -> int: ...

    def notify(self, callback: Callable[[], None] | None, /) -> None: ...

    def stands_for(self, receive: Receive, /) -> bool: ...

    def watch(self, watcher: Watcher | None, /) -> None: ...


class Watcher(Protocol):
    """Is told of a disconnect that comes while nobody waits for a message, within a callback: it must not raise."""

    def peer_left(self, message: Any, /) -> None: ...


def wire_of(scope: Mapping[str, Any]) -> Wire | None:
    """The wire of the connection, where the server has one."""
    return cast(Wire | None, _extension(scope, "socketsundso.push"))


def source_of(scope: Mapping[str, Any], receive: Receive) -> Source | None:
    """What to take messages from instead of calling `receive`, where that is the server's own."""
    source = teller_of(scope)
    return source if source is not None and source.stands_for(receive) else None


def teller_of(scope: Mapping[str, Any]) -> Source | None:
    """Who tells that the peer has left, where the server does, whatever a middleware has put around `receive`."""
    return cast(Source | None, _extension(scope, "socketsundso.pull"))


def writer_of(scope: Mapping[str, Any], send: Send) -> Writer | None:
    """What to write texts to before calling `send`, where that is the server's own."""
    wire = wire_of(scope)
    return wire if wire is not None and wire.stands_for(_beneath_starlette(send)) else None


def sends_plainly(send: Send) -> bool:
    """
    Whether `send` is a known server's own, which cares neither for the task it runs in nor for scopes around it.

    Only then may its first step be taken in another task than the rest.
    """
    protocol = type(getattr(_beneath_starlette(send), "__self__", None))
    return protocol.__module__.startswith(("uvicorn.protocols.websockets.", "socketsundso.server."))


def _beneath_starlette(send: Any) -> Any:
    code = _starlettes_sender()
    if code is None:
        return send
    place = code.co_freevars.index("send")
    while getattr(send, "__code__", None) is code:
        send = send.__closure__[place].cell_contents
    return send


@functools.cache
def _starlettes_sender() -> CodeType | None:
    try:
        from starlette._exception_handler import wrap_app_handling_exceptions
    except ImportError:  # private: without it, an endpoint in Starlette is as fast as on another server
        return None
    return _code_within(wrap_app_handling_exceptions.__code__, "sender")


def _code_within(code: CodeType, name: str) -> CodeType | None:
    """The code of the function `name`, which is defined somewhere in this code."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    found = [each if each.co_name == name else _code_within(each, name) for each in inner]
    return next(filter(None, found), None)


def _extension(scope: Mapping[str, Any], name: str) -> Any:
    entry = (scope.get("extensions") or {}).get(name)
    # a plain dict is what is left of an entry in a scope that went through JSON, a pickle, or `dict(entry)`
    return entry if hasattr(entry, "stands_for") else None
