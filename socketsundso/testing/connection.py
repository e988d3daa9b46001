"""
One connection as a client has it: sends messages, asks and is answered, expects what is pushed.

    posted = await ws.ask("say", msg="hi", returns=Posted)
    await ws.expect("joined", name="ada")
    await ws.silent(0.1)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar, overload

from starlette.types import ASGIApp, Scope

from socketsundso.messages import CANONICAL, Framing, pushed_name
from socketsundso.testing.frames import Frames, Outgoing, Told, frames_of
from socketsundso.testing.kinds import Kind, read_as, value_as
from socketsundso.testing.mailbox import Mailbox, Message, Received
from socketsundso.testing.peer import Close, Peer

T = TypeVar("T")

_SHOWN = 100
"""Bytes, or characters."""

WITHIN_S = 1.0
"""How long a message is waited for by default, in seconds."""


class ErrorReply(Exception):
    """
    What was asked is answered with an error frame: `code`, `errors` and the whole `frame`.

        {"type":"error","ref":1,"code":"not_here","errors":[{"type":"not_here","loc":[],"msg":"enter the room first"}]}
    """

    def __init__(self, frame: Message) -> None:
        super().__init__(frame.get("code"), frame.get("errors"))
        self.frame = frame
        self.code: str = frame.get("code", "")
        self.errors: list[dict[str, Any]] = frame.get("errors", [])

    def __str__(self) -> str:
        return f"{self.code}: {json.dumps(self.errors, ensure_ascii=False)}"


class Declined(Exception):
    """Raise it in what answers a call of the server's: `{"type":"reply","ref":"s:1","error":{"code":"declined"}}`."""

    def __init__(self, code: str = "declined", message: str | None = None) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


Answers = Callable[[Any], Any]


class Connection:
    """
    A connection that is open; `connect` makes it. Messages are dicts as they are on the wire, or instances of a class.
    Where the endpoint has an `envelope` of its own, they are in the flat form all the same: `{"type": "posted", ...}`.

    Every wait has an end, `within_s` seconds; what fails is an AssertionError that shows what came instead.
    """

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._scope = scope
        self._peer = Peer(app, scope, self._on_frame, self._on_end)
        self._mailbox = Mailbox(lambda: self._peer.why_ended)
        self._refs = itertools.count(1)
        self._pending: dict[Any, Mailbox] = {}  # by ref
        self._answers: dict[str, tuple[Any, Answers]] = {}  # by the question's type
        self._answering: set[asyncio.Task[None]] = set()

    # ---- what is known of it

    @property
    def subprotocol(self) -> str | None:
        """What was negotiated."""
        return self._peer.subprotocol

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of the answer to the handshake."""
        return self._peer.headers

    @property
    def closed(self) -> Close | None:
        """How the application has closed the connection; None while it is open."""
        return self._peer.closed

    # ---- what it does

    async def send(self, event: str | Mapping[str, Any], /, **fields: Any) -> None:
        """
        `send("say", msg="hi")` is `{"type":"say","msg":"hi"}`, without a ref and so without an answer; what comes is
        for `expect`. A dict is sent as it is, for fields that are no names. Values are written as pydantic writes them.
        """
        self._peer.send(self._frames.text(self._frames.outgoing(event, fields)))

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """A binary frame."""
        self._peer.send(bytes(memoryview(data)))

    async def send_frame(self, frame: str | bytes) -> None:
        """A text or binary frame as it is, JSON or not."""
        self._peer.send(frame)

    @overload
    async def ask(
        self, event: str | Mapping[str, Any], /, *, returns: type[T], within_s: float = WITHIN_S, **fields: Any
    ) -> T: ...
    @overload
    async def ask(
        self, event: str | Mapping[str, Any], /, *, returns: None = None, within_s: float = WITHIN_S, **fields: Any
    ) -> Message: ...
    async def ask(
        self, event: str | Mapping[str, Any], /, *, returns: Any = None, within_s: float = WITHIN_S, **fields: Any
    ) -> Any:
        """
        Send a message with a ref of its own, and wait for its answer: a dict without the ref, or an instance of
        `returns`; where the envelope has them, other values, too. Raises `ErrorReply` for an error frame.
        """
        ref, mailbox = self._begun(event, fields)
        try:
            answer = await mailbox.take(lambda _: True, f"answer to {_name(event)!r}", within_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; beside it, {self._mailbox.instead()}") from None
        finally:
            del self._pending[ref]
        return self._read(answer, returns)

    @overload
    def stream(
        self, event: str | Mapping[str, Any], /, *, returns: type[T], within_s: float = WITHIN_S, **fields: Any
    ) -> AsyncGenerator[T, None]: ...
    @overload
    def stream(
        self, event: str | Mapping[str, Any], /, *, returns: None = None, within_s: float = WITHIN_S, **fields: Any
    ) -> AsyncGenerator[Message, None]: ...
    async def stream(
        self, event: str | Mapping[str, Any], /, *, returns: Any = None, within_s: float = WITHIN_S, **fields: Any
    ) -> AsyncGenerator[Any, None]:
        """
        The items of a stream, to its `complete`; each has `within_s`. Who ends earlier (`aclose`, or
        `contextlib.aclosing`) cancels it. Raises `ErrorReply` where it ends with an error.
        """
        ref, mailbox = self._begun(event, fields)
        ended = False
        try:
            while True:
                item = await mailbox.take(lambda _: True, f"item of {_name(event)!r}", within_s)
                ended = self._frames.ends(item)
                if ended and item.get("type") != "error":
                    return
                yield self._read(item, returns)
        finally:
            del self._pending[ref]
            if not ended and self._peer.why_ended is None:
                self._peer.send(self._frames.text(Outgoing("cancel", {}, ref)))

    @overload
    async def expect(self, kind: type[T], /, *, within_s: float = WITHIN_S, **fields: Any) -> T: ...
    @overload
    async def expect(self, kind: str, /, *, within_s: float = WITHIN_S, **fields: Any) -> Message: ...
    async def expect(self, kind: Any, /, *, within_s: float = WITHIN_S, **fields: Any) -> Any:
        """
        The next message of a `type`, or of a class, whose fields are equal to `fields`; of `bytes`, the next binary
        frame, and of `str`, the next text that is no message. Others stay, in their order, for who expects them.
        """
        wanted: Kind[Any] = Kind(kind, fields, self._framing)
        return wanted.read(await self._mailbox.take(wanted.matches, str(wanted), within_s))

    async def receive(self, within_s: float = WITHIN_S) -> Message:
        """The next message, whatever it is; AssertionError for a binary frame, and for a text that is no message."""
        received = await self._mailbox.take(lambda _: True, "message", within_s)
        if isinstance(received, bytes):
            raise AssertionError(f"a message was expected, not a binary frame: {_shortened(received)}")
        if isinstance(received, str):
            raise AssertionError(
                f"a message was expected, not a text that is none: {_shortened(received)}; `receive_text` takes it"
            )
        message: Message = received
        return message

    async def receive_text(self, within_s: float = WITHIN_S) -> str:
        """The next frame, which has to be a text that is no message, such as the answer to a text ping: `pong`."""
        received = await self._mailbox.take(lambda _: True, "text", within_s)
        if not isinstance(received, str):
            raise AssertionError(f"a text that is no message was expected, not {_shown(received)}")
        return received

    async def receive_bytes(self, within_s: float = WITHIN_S) -> bytes:
        """What the next frame has in it, which has to be a binary one; AssertionError for a message."""
        received = await self._mailbox.take(lambda _: True, "binary frame", within_s)
        if not isinstance(received, bytes):
            raise AssertionError(f"a binary frame was expected, not {_shown(received)}")
        return received

    async def silent(self, for_s: float = 0.1) -> None:
        """Nothing has come that nobody has looked at, and nothing comes for `for_s` seconds."""
        await self._mailbox.silence(for_s)

    async def expect_close(self, code: int | None = None, *, within_s: float = WITHIN_S) -> Close:
        """The application closes the connection (with `code`) within the time. What it sent before stays."""
        await self._mailbox.ended(within_s)
        closed = self._peer.closed
        if closed is None:
            raise AssertionError(f"the connection was not closed: {self._peer.why_ended}")
        if code not in (None, closed.code):
            raise AssertionError(f"closed with {closed.code} {closed.reason!r}, not with {code}")
        return closed

    def handle(self, question: Any, answer: Answers) -> None:
        """
        Answer the server's calls: `ws.handle(Ask, lambda ask: {"yes": True})`, or by `type`. The function, sync or
        async, gets an instance of the class, or the dict; to refuse, it raises `Declined`.
        """
        name = question if isinstance(question, str) else pushed_name(question, self._framing)
        self._answers[name] = (None if isinstance(question, str) else question, answer)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Leave, and wait for the application to end. Raises what it raised. A second call does nothing more."""
        for task in self._answering:
            task.cancel()
        await self._peer.leave(code, reason)

    async def open(self, within_s: float) -> None:
        """What `connect` does with it."""
        await self._peer.connect(within_s)

    # ---- what comes

    @functools.cached_property
    def _framing(self) -> Framing:
        """That of the endpoint class, which routers note when they have found it."""
        framing = getattr(self._scope.get("endpoint"), "_framing", None)
        return framing if isinstance(framing, Framing) else CANONICAL

    @functools.cached_property
    def _frames(self) -> Frames:
        return frames_of(self._framing)

    def _begun(self, event: str | Mapping[str, Any], fields: dict[str, Any]) -> tuple[Any, Mailbox]:
        if not self._frames.has_refs:
            raise TypeError("answers have no ref in this envelope: `send` the message, and `expect` what answers it")
        message = self._frames.outgoing(event, fields)
        ref = next(self._refs) if message.ref is None else message.ref
        if ref in self._pending:
            raise ValueError(f"the ref {ref!r} is still to be answered")
        self._pending[ref] = mailbox = Mailbox(lambda: self._peer.why_ended)
        try:
            self._peer.send(self._frames.text(message._replace(ref=ref)))
        except BaseException:
            del self._pending[ref]
            raise
        return ref, mailbox

    def _read(self, answer: Message, returns: Any) -> Any:
        if answer.get("type") == "error":
            raise ErrorReply(answer)
        answer.pop(self._frames.ref_key, None)
        if isinstance(answer, Told) and not isinstance(answer.data, dict):
            return answer.data if returns is None else value_as(returns, answer.data)
        return answer if returns is None else self._read_as(returns, answer)

    def _read_as(self, returns: Any, answer: Message) -> Any:
        kind: Kind[Any] = Kind(returns, {}, self._framing)
        if not kind.is_union:  # a reply may be called as its event, whatever its class is called
            return read_as(returns, answer)
        if not kind.matches(answer):
            raise AssertionError(f"the answer is no {kind}: {json.dumps(answer, ensure_ascii=False)}")
        return kind.read(answer)

    def _on_frame(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            self._mailbox.put(frame)
            return
        try:
            messages = self._frames.read(frame)
        except (ValueError, TypeError, LookupError, AttributeError):  # no JSON, or in no envelope
            messages = []
        if not messages or not all(isinstance(message, dict) for message in messages):
            self._mailbox.put(frame)
            return
        for message in messages:
            self._on_message(message)

    def _on_message(self, message: Message) -> None:
        ref = message.get(self._frames.ref_key)
        if isinstance(ref, int | str) and (mailbox := self._pending.get(ref)) is not None:
            mailbox.put(message)
        elif (known := self._answers.get(message.get("type", ""))) is not None and ref is not None:
            task = asyncio.create_task(self._answer(message, *known))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        else:
            self._mailbox.put(message)

    async def _answer(self, question: Message, cls: Any, answer: Answers) -> None:
        ref = question.pop(self._frames.ref_key)
        reply: dict[str, Any] = {}
        try:
            given = answer(question if cls is None else read_as(cls, question))
            reply["answer"] = await given if inspect.isawaitable(given) else given
        except Declined as exc:
            reply["error"] = {"code": exc.code, "message": exc.message}
        if self._peer.why_ended is None:
            self._peer.send(self._frames.text(Outgoing("reply", reply, ref)))

    def _on_end(self) -> None:
        for mailbox in (self._mailbox, *self._pending.values()):
            mailbox.wake()


def _shown(received: Received) -> str:
    return json.dumps(received, ensure_ascii=False) if isinstance(received, dict) else _shortened(received)


def _shortened(data: bytes | str) -> str:
    if len(data) <= _SHOWN:
        return repr(data)
    return f"{data[:_SHOWN]!r}... ({len(data)} {'bytes' if isinstance(data, bytes) else 'characters'})"


def _name(event: str | Mapping[str, Any]) -> Any:
    return event if isinstance(event, str) else event.get("type")
