"""The sync twin of a connection: the same calls without `await`, for tests that are plain functions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol, TypeVar, overload

from socketsundso.testing.connection import WITHIN_S, Answers, Connection
from socketsundso.testing.mailbox import Message
from socketsundso.testing.peer import Close

T = TypeVar("T")


class Caller(Protocol):
    """Has a call made in the connection's event loop, and waits for it."""

    def __call__(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...


class SyncConnection:
    """`Connection`, whose methods say what these do."""

    def __init__(self, connection: Connection, call: Caller) -> None:
        self._connection, self._call = connection, call

    @property
    def subprotocol(self) -> str | None:
        return self._connection.subprotocol

    @property
    def headers(self) -> Mapping[str, str]:
        return self._connection.headers

    @property
    def closed(self) -> Close | None:
        return self._connection.closed

    def send(self, event: str | Mapping[str, Any], /, **fields: Any) -> None:
        self._call(self._connection.send, event, **fields)

    def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        self._call(self._connection.send_bytes, data)

    def send_frame(self, frame: str | bytes) -> None:
        self._call(self._connection.send_frame, frame)

    @overload
    def ask(
        self, event: str | Mapping[str, Any], /, *, returns: type[T], within_s: float = WITHIN_S, **fields: Any
    ) -> T: ...
    @overload
    def ask(
        self, event: str | Mapping[str, Any], /, *, returns: None = None, within_s: float = WITHIN_S, **fields: Any
    ) -> Message: ...
    def ask(
        self, event: str | Mapping[str, Any], /, *, returns: Any = None, within_s: float = WITHIN_S, **fields: Any
    ) -> Any:
        return self._call(self._connection.ask, event, returns=returns, within_s=within_s, **fields)

    @overload
    def stream(
        self, event: str | Mapping[str, Any], /, *, returns: type[T], within_s: float = WITHIN_S, **fields: Any
    ) -> Generator[T]: ...
    @overload
    def stream(
        self, event: str | Mapping[str, Any], /, *, returns: None = None, within_s: float = WITHIN_S, **fields: Any
    ) -> Generator[Message]: ...
    def stream(
        self, event: str | Mapping[str, Any], /, *, returns: Any = None, within_s: float = WITHIN_S, **fields: Any
    ) -> Generator[Any]:
        items = self._connection.stream(event, returns=returns, within_s=within_s, **fields)
        end = object()
        try:
            while (item := self._call(anext, items, end)) is not end:
                yield item
        finally:
            self._call(items.aclose)

    @overload
    def expect(self, kind: type[T], /, *, within_s: float = WITHIN_S, **fields: Any) -> T: ...
    @overload
    def expect(self, kind: str, /, *, within_s: float = WITHIN_S, **fields: Any) -> Message: ...
    def expect(self, kind: Any, /, *, within_s: float = WITHIN_S, **fields: Any) -> Any:
        return self._call(self._connection.expect, kind, within_s=within_s, **fields)

    def receive(self, within_s: float = WITHIN_S) -> Message:
        message: Message = self._call(self._connection.receive, within_s)
        return message

    def receive_bytes(self, within_s: float = WITHIN_S) -> bytes:
        data: bytes = self._call(self._connection.receive_bytes, within_s)
        return data

    def receive_text(self, within_s: float = WITHIN_S) -> str:
        text: str = self._call(self._connection.receive_text, within_s)
        return text

    def silent(self, for_s: float = 0.1) -> None:
        self._call(self._connection.silent, for_s)

    def expect_close(self, code: int | None = None, *, within_s: float = WITHIN_S) -> Close:
        closed: Close = self._call(self._connection.expect_close, code, within_s=within_s)
        return closed

    def handle(self, question: Any, answer: Answers) -> None:
        """The function runs in the connections' event loop: it must not use this connection, nor block."""
        self._connection.handle(question, answer)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._call(self._connection.close, code, reason)
