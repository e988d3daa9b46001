"""
What the server has asked one client, and who waits for the answers.

    {"type":"ask","ref":"s:1","question":"sure?"}        out
    {"type":"reply","ref":"s:1","answer":{"yes":true}}   in, and nobody waits any more
    {"type":"cancel","ref":"s:1"}                        out, where nobody waits though no answer has come

A question has its end at once: with the reply, the time, the peer's leaving, or when so much comes before the answer
that it could not be read. While one waits, the loop's backlog is wider, since the answer may be behind all of it.

Reads no frames, which the receive loop does; starts no task but for a cancel that a slow peer holds up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Any

from pydantic_core import ValidationError
from starlette.websockets import WebSocketDisconnect

from socketsundso.connection.peer import Peer
from socketsundso.connection.requests import Answer, Backlog
from socketsundso.errors import CallFailed, CallRefused, CallTimeout, EventError, InvalidAnswer
from socketsundso.messages import Expected, Framing, Questions, Refusal, is_duration

TIMES = 16
"""How much more than else may wait for its turn while an answer is awaited."""

EARLY_S = 0.001
"""So much before its time a timer may ring: some event loops count in milliseconds."""

_CANCEL = b'{"type":"cancel"}'


class Question:
    """One that waits."""

    __slots__ = ("answer", "as_json", "expected", "timeout_s", "until")

    def __init__(
        self, expected: Expected, as_json: bool, answer: asyncio.Future[Any], until: float, timeout_s: float
    ) -> None:
        self.expected, self.answer = expected, answer
        self.until, self.timeout_s = until, timeout_s
        self.as_json = as_json  # the answer is for who waits in another process, and stays as it is

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def end(self) -> None:
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()  # it may have come too late for anybody


class Calls:
    """Those of one connection, by their `ref`."""

    __slots__ = (
        "_backlog", "_cancels", "_framing", "_number", "_opener", "_over", "_peer", "_questions", "_read_on", "_rings",
        "_timer", "waiting",
    )  # fmt: skip

    def __init__(self, peer: Peer, questions: Questions, framing: Framing) -> None:
        self._peer, self._questions, self._framing = peer, questions, framing
        self.waiting: dict[Any, Question] = {}
        self._number = 0  # of the last one
        self._opener = asyncio.current_task()  # until messages are taken, by this very task
        self._backlog: Backlog | None = None  # from then on
        self._read_on: Callable[[], None] | None = None
        self._over: int | None = None  # the code, once no answer can come any more
        self._cancels: set[asyncio.Future[None]] = set()  # that a slow peer holds up
        # One timer for all, which is not cancelled with each answer: when it rings, it asks who still waits.
        self._timer: asyncio.TimerHandle | None = None
        self._rings = math.inf  # when, by the event loop's time

    def serve(self, backlog: Backlog, read_on: Callable[[], None]) -> None:
        """From now on messages are taken; `read_on` is to be called when more may wait than before."""
        self._opener, self._backlog, self._read_on = None, backlog, read_on
        if self.waiting:
            backlog.widen(TIMES)

    def ask(self, question: Any, returns: Any, timeout_s: float) -> Coroutine[Any, Any, Any]:
        """As `call` of endpoints, of a peer that is there."""
        expected, body = self._questions.asked(question, returns)
        return self._ask(body, expected, timeout_s)

    def asks(self, name: str) -> bool:
        """Whether there is a question that is called so."""
        return self._questions.named(name) is not None

    async def relay(self, name: str, body: bytes, timeout_s: float) -> bytes:
        """As `ask`, for a question that is asked elsewhere: its valid answer as JSON."""
        expected = self._questions.named(name)
        assert expected is not None
        answer: bytes = await self._ask(body, expected, timeout_s, as_json=True)
        return answer

    async def _ask(self, body: bytes, expected: Expected, timeout_s: float, as_json: bool = False) -> Any:
        self._check(timeout_s)
        self._number += 1
        ref = f"s:{self._number}"
        asked = self._begin(ref, expected, timeout_s, as_json)
        try:
            body = self._framed(body, ref)
            if not (asked.answer.done() or self._peer.write(body)):
                await self._send(body, ref, timeout_s)
            return await asked.answer
        except BaseException:
            if self._take(ref) is not None:
                self._withdraw(ref)
            asked.end()
            raise
        finally:
            del asked  # its answer may be an exception, which keeps this frame

    def _check(self, timeout_s: float) -> None:
        require_timeout(timeout_s)
        if self._over is not None:
            raise WebSocketDisconnect(self._over)
        if asyncio.get_running_loop() is not self._peer.loop:
            raise RuntimeError("a client is asked in the event loop that serves it")
        if self._opener is not None and asyncio.current_task() is self._opener:
            raise RuntimeError(
                "no answer is read before `on_connect` is done; ask in a task: `self.spawn(self.welcome())`"
            )

    # ---- one question

    def _begin(self, ref: str, expected: Expected, timeout_s: float, as_json: bool) -> Question:
        loop = asyncio.get_running_loop()
        if not self.waiting:
            self._widen(loop)
        until = loop.time() + timeout_s
        asked = self.waiting[ref] = Question(expected, as_json, loop.create_future(), until, timeout_s)
        if until < self._rings:
            self._ring_at(until, loop)
        if self._backlog is not None and self._backlog.full:
            self.overrun()
        return asked

    def _widen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Where too much waits already, reading is to go on now."""
        if (backlog := self._backlog) is None:
            return
        was_full = backlog.full
        backlog.widen(TIMES)
        if was_full and not backlog.full and self._read_on is not None:
            backlog.wake()
            loop.call_soon(self._read_on)

    async def _send(self, body: bytes, ref: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):  # the peer may read slowly
                await self._peer.send_body(body)
        except TimeoutError:
            self._expire(ref)

    def _framed(self, body: bytes, ref: str) -> bytes:
        return self._framing.with_ref(self._framing.frame(body), ref)

    def _take(self, ref: Any) -> Question | None:
        """It does not wait any more."""
        asked = self.waiting.pop(ref, None)
        if asked is not None and not self.waiting and self._backlog is not None:
            self._backlog.widen(1)
        return asked

    def _withdraw(self, ref: str) -> None:
        """The client need not answer."""
        body, peer = self._framed(_CANCEL, ref), self._peer
        if peer.is_lost or self._over is not None or peer.write(body):
            return
        sending = asyncio.ensure_future(peer.send_reply(body))
        self._cancels.add(sending)
        sending.add_done_callback(self._withdrawn)

    def _withdrawn(self, sending: asyncio.Future[None]) -> None:
        self._cancels.discard(sending)
        if not sending.cancelled():
            sending.exception()  # that it cannot be sent any more is no news

    # ---- the ends

    def settle(self, message: Any) -> Answer | None:
        """A reply to a question that waits. Gives what is wrong with it, which the client is told."""
        asked = self._take(message.ref)
        assert asked is not None
        try:
            answer = asked.expected.read(message)
        except ValidationError as exc:
            asked.fail(InvalidAnswer(exc))
            return Answer(asked.expected, message.ref, exc.with_traceback(None))
        except Exception as exc:  # a validator's bug
            asked.fail(exc)
            return None
        if isinstance(answer, Refusal):
            asked.fail(CallRefused(answer.code, answer.message))
        elif not asked.answer.done():
            asked.answer.set_result(asked.expected.json_in(message) if asked.as_json else answer)
        return None

    def _ring_at(self, until: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings, self._timer = until, loop.call_at(until, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        """The time of one that waits may be over."""
        self._rings, now = math.inf, loop.time() + EARLY_S
        for ref in [ref for ref, asked in self.waiting.items() if asked.until <= now]:
            self._expire(ref)
        if self.waiting:
            self._ring_at(min(asked.until for asked in self.waiting.values()), loop)

    def _expire(self, ref: str) -> None:
        if (asked := self._take(ref)) is not None:
            self._withdraw(ref)
            what = f"the client has not answered {asked.expected.question!r} in {asked.timeout_s:g} s"
            asked.fail(CallTimeout(what))

    def overrun(self) -> None:
        """So much waits that nothing more is read: what is asked now has no answer."""
        for ref in tuple(self.waiting):
            if (asked := self._take(ref)) is not None:
                self._withdraw(ref)
                asked.fail(CallRefused("overrun", "too many messages came before the answer"))

    def fail(self, code: int | None) -> None:
        """The peer has left, or the connection has ended otherwise."""
        if self._over is None:
            self._over = 1005 if code is None else code
        for ref in tuple(self.waiting):
            if (asked := self._take(ref)) is not None:
                asked.fail(WebSocketDisconnect(self._over))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sending in tuple(self._cancels):
            sending.cancel()
        self._opener = self._backlog = self._read_on = None


class ObservedCalls(Calls):
    """The same, where somebody is told what becomes of each question: its name, its outcome, and after how long."""

    __slots__ = ("_told",)

    def __init__(
        self, peer: Peer, questions: Questions, framing: Framing, told: Callable[[str, str, float], None]
    ) -> None:
        super().__init__(peer, questions, framing)
        self._told = told

    async def _ask(self, body: bytes, expected: Expected, timeout_s: float, as_json: bool = False) -> Any:
        self._check(timeout_s)  # what is not asked has no outcome
        began, outcome = perf_counter(), "answered"
        try:
            return await super()._ask(body, expected, timeout_s, as_json)
        except BaseException as exc:
            outcome = next((name for kind, name in _OUTCOMES if isinstance(exc, kind)), "failed")
            if outcome == "cancelled" and self._over is not None:  # as whoever asks is once the peer has left
                outcome = "gone"
            raise
        finally:
            self._told(expected.question, outcome, perf_counter() - began)


_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (CallRefused, "refused"),
    (CallTimeout, "timeout"),
    (InvalidAnswer, "invalid"),
    (WebSocketDisconnect, "gone"),
    (asyncio.CancelledError, "cancelled"),
)


def require_timeout(given: object) -> None:
    """Raises ValueError for what is no time to wait for an answer."""
    if not is_duration(given):
        raise ValueError(f"timeout_s is {given!r}; it is a number of seconds, more than 0")


def answer_of(exc: Exception) -> Exception:
    """What a message is answered with whose handler did not catch that its call has failed; else `exc` itself."""
    if not isinstance(exc, CallFailed):
        return exc
    error = EventError(exc.wire_code)
    error.__cause__ = exc
    return error
