"""
`@binary`: the one method of an endpoint that gets binary frames, and the shape of its replies.

    @binary
    async def on_audio(self, frame: bytes) -> bytes | None: ...

It is a handler without a message: its event, "audio" here, is what guards, limits, `self.current` and the log call it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, overload

from socketsundso.errors import DefinitionError, EventError
from socketsundso.handler import EventDecorator, Handler, refuse_unknown
from socketsundso.messages import BinaryReplies, Encodes, Framing, Signature, read_binary, replies_of

P = ParamSpec("P")
R = TypeVar("R")


class BinaryHandler(Handler[P, R]):
    """What `@binary` makes of a function. Raises `DefinitionError` for what can never work."""

    takes_frame = True

    def __repr__(self) -> str:
        return f"<Handler of binary frames: {self.__qualname__}>"

    def _read(self, namespaces: Sequence[Mapping[str, Any]]) -> Signature:
        found = read_binary(self.event, self.method, namespaces)
        replies_of(self._where, found.returns)
        return found

    def _encoder(self, read: Signature, arguments: Mapping[Any, Any], framing: Framing) -> Encodes:
        replies = replies_of(self._where, read.returns)
        if replies == "binary":
            return BinaryReplies(None)
        messages = super()._encoder(read, arguments, framing)
        return messages if replies == "text" else BinaryReplies(messages)

    @property
    def _where(self) -> str:
        return f"event {self.event!r}"


@overload
def binary(function: Callable[P, Awaitable[R]], /) -> BinaryHandler[P, R]: ...
@overload
def binary(function: Callable[P, R], /) -> BinaryHandler[P, R]: ...
@overload
def binary(
    *,
    thread: bool = True,
    guards: Sequence[Callable[[Any, Any], Any]] = (),
    timeout_s: float | None = None,
    errors: Sequence[type[EventError]] = (),
    summary: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
    deprecated: bool = False,
    include_in_schema: bool = True,
) -> EventDecorator: ...
def binary(function: Any = None, /, **options: Any) -> Any:
    """
    Give a method of an endpoint every binary frame, as `bytes`, or as a `memoryview` where it is annotated so.

        @binary
        async def on_audio(self, frame: bytes) -> None: ...

        @binary(timeout_s=1, guards=[RateLimit(50, per_s=1)])
        def on_picture(self, frame: memoryview, store: Annotated[Store, Depends(get_store)]) -> Seen: ...

    A class has one at most. Without one, binary frames are JSON in UTF-8. What it returns is its reply, which has no
    `ref`: bytes are a binary frame, a message (a model, a dict) is a text frame, None is nothing; its errors are text
    frames. The arguments are those of `event`.
    """
    if function is not None and not callable(function):
        raise DefinitionError(f"@binary takes a method, not {function!r}; its name is that of the method")
    refuse_unknown("@binary", options, _OPTIONS)
    options.setdefault("_frame", sys._getframe(1))

    def decorate(function: Any) -> BinaryHandler[Any, Any]:
        return BinaryHandler(None, function, **options)

    return decorate if function is None else decorate(function)


_OPTIONS = (
    "thread", "guards", "timeout_s", "errors", "summary", "description", "tags", "deprecated", "include_in_schema",
)  # fmt: skip
