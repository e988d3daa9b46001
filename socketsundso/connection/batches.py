"""
Several requests in one frame, and their answers in another: what JSON-RPC calls a batch.

    [{"jsonrpc":"2.0","id":1,"method":"add","params":[1,2]}, {"jsonrpc":"2.0","method":"log","params":["hi"]}]   in
    [{"jsonrpc":"2.0","result":3,"id":1}]                                                                        out

They are handled one after the other, in the turn of a single message. What says something *about* a request (a cancel,
an item, the answer to a call) has no turn: the loop that converses takes it out, as soon as the frame has come. Answers
leave together, behind the last of them, or before the close of a handler that closes; what handlers send of their own
is not held back. A stream or an upload has more than one answer, and is refused, and so are the requests behind
`MAX_BYTES` of answers: `batch_too_large`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from starlette.websockets import WebSocketDisconnect

from socketsundso.connection.current import Collected, begin_answer, collecting
from socketsundso.connection.requests import Admitted, Answer, Call, Request
from socketsundso.connection.serial import Serial, stray
from socketsundso.errors import EventError
from socketsundso.messages import (
    NULL_RESULT,
    UNDECODABLE,
    Decoder,
    Definition,
    Frame,
    Framing,
    Judgement,
    MessageError,
    Ref,
    Refused,
    Route,
    Unread,
    batch_route,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

MAX_BYTES = 4 << 20
"""Of answers; that of who is asked before there are so many may be larger."""

_ANSWERED_OFTEN = ("stream", "upload")


def declared_batches(framing: Framing) -> Route | None:
    """The route of batches; None where the envelope has none."""
    return batch_route(framing, _call) if framing.max_batch else None


def _call(message: Unread, endpoint: Any, frame: Frame) -> Coroutine[Any, Any, None]:
    """Of the loop with one message at a time, which reads each request when it comes to it."""
    definition: Definition = endpoint._loop.definition
    texts = (bytes(request).decode() for request in definition.framing.requests(message.text) or ())
    requests = (Request(read_request(definition.decoder, text), text) for text in texts)
    return _Answering(endpoint, type(frame)).answer(requests)


def read_request(decoder: Decoder, text: str) -> Call:
    """A message of a batch, or what is wrong with what is none."""
    try:
        return decoder.decode(text)
    except UNDECODABLE:
        try:
            return decoder.find_request(text)
        except MessageError as exc:
            exc.__context__ = None
            return Answer(None, exc.ref, exc)


class Batch:
    """One that has come, as a message of the loop that converses: its requests may be stopped before they begin."""

    __slots__ = ("_frame_type", "_requests", "route")
    ref = error = None

    def __init__(self, definition: Definition, frame_type: type) -> None:
        assert definition.decoder.batches is not None
        self.route: Route = definition.decoder.batches
        self._frame_type = frame_type
        self._requests: list[Request] = []

    def put(self, message: Call, text: str) -> None:
        self._requests.append(Request(message, text))

    def holds(self, ref: Ref) -> bool:
        """Is a request with this `ref` still to be answered?"""
        return any(each.message.ref == ref and not each.over for each in self._requests)

    def find(self, ref: Ref) -> Request | None:
        """The first of those that nobody has stopped."""
        return next(
            (each for each in self._requests if each.message.ref == ref and not (each.over or each.reason)), None
        )

    async def call(self, endpoint: Any, frame: Frame) -> None:
        try:
            await _Answering(endpoint, self._frame_type).answer(self._requests)
        finally:
            endpoint._loop.end_batch(self)


class _Answering:
    """The requests of one batch being answered, in the turn of the receive loop that took it."""

    def __init__(self, endpoint: Any, frame_type: type) -> None:
        loop: Serial = endpoint._loop
        self._endpoint, self._loop, self._peer = endpoint, loop, loop.peer
        self._frame_type = frame_type

    async def answer(self, requests: Iterable[Request]) -> None:
        """Answer all of them. Raises what ends the connection."""
        answers = Collected()
        before = collecting.set(answers)
        try:
            for request in requests:
                answers.request = request
                await self._answer(request, answers)
                if self._peer.closed is not None:
                    return
        except WebSocketDisconnect:  # the application's own, perhaps: then it ends with a close
            await answers.leave(self._peer)
            raise
        finally:
            answers.over = True
            answers.request = None
            collecting.reset(before)
        await answers.leave(self._peer)

    async def _answer(self, request: Request, answers: Collected) -> None:
        loop, message = self._loop, request.message
        route, ref = message.route, message.ref
        if route is None:
            await loop._answer_nameless(request.frame, cast(MessageError, message.error))
            return
        request.record = record = (self._peer, route, ref, self._frame_type, message.error)
        begin_answer(record)
        request.task = asyncio.current_task()
        try:
            if request.reason is not None:  # before it began
                raise loop.stopped(request)  # type: ignore[attr-defined]  # it converses
            if message.error is not None:
                raise message.error
            if route.apart in _ANSWERED_OFTEN:
                what = f"{route.event!r} has more answers than one: not in a batch"
                raise loop._charge() or EventError("malformed_message", what)
            if ref is not None and sum(map(len, answers)) > MAX_BYTES:
                what = "those before have so large answers that there is no room for this one; ask for it apart"
                raise loop._charge() or EventError("batch_too_large", what)
            value = await self._value(request, answers)
            request.release()  # it is too late to stop it
            if ref is None:
                return
            if loop.has_answer():
                loop.drop(value)
            elif value is None:
                answers.append(loop.definition.framing.with_ref(NULL_RESULT, ref))
            elif loop.responds:
                await loop.respond(route, value)  # type: ignore[attr-defined]  # it answers requests
            else:
                answers.append(loop._body(route, value, ref))
        except Refused as exc:
            await self._refuse(exc.judgement)
        except asyncio.CancelledError as exc:
            request.release()
            await loop._answer(self._end_cancelled(request, exc))
        except Exception as exc:
            request.release()
            await loop._answer(exc)
        finally:
            request.release()
            request.forgive()  # one that answers in spite of its cancellation is heard
            request.task = None

    def _end_cancelled(self, request: Request, exc: asyncio.CancelledError) -> Exception:
        """The answer of one that was stopped, or awaited what was cancelled. Raises `exc` if this task is to end."""
        if request.reason is not None and request.forgive():
            return self._loop.stopped(request)  # type: ignore[attr-defined,no-any-return]  # it converses
        return stray(exc)

    async def _value(self, request: Request, answers: Collected) -> Any:
        """What the handler gives, within its time. Raises `Refused`, with a judgement."""
        try:
            return await self._called(request, request.message, answers)
        except Refused as exc:
            if exc.judgement is not None:
                raise
        return await self._called(
            request, self._loop.definition.decoder.find_request(cast(str, request.frame)), answers
        )

    async def _called(self, request: Request, message: Any, answers: Collected) -> Any:
        route, text = message.route, request.frame
        if route.conduct is not None and route.conduct.key is not None:
            message = Admitted(route, message.ref, message.call(self._endpoint, text))
            request.key = (message.key,)
        request.message = message
        try:
            async with self._turn(request), asyncio.timeout(route.timeout_s) as limit:
                answers.limit = limit
                value = message.call(self._endpoint, text)
                return await value if route.awaited else value
        except TimeoutError:
            if not limit.expired():
                raise
            raise EventError("timeout", f"it takes longer than {route.timeout_s:g} s") from None
        finally:
            answers.limit = None

    def _turn(self, request: Request) -> AbstractAsyncContextManager[None]:
        """That of a message among the concurrent ones of its event; it has the batch's own otherwise."""
        if request.message.route.apart != "concurrent":
            return nullcontext()
        return self._loop.turn(request)  # type: ignore[attr-defined,no-any-return]  # it converses

    async def _refuse(self, judgement: Judgement | None) -> None:
        assert judgement is not None  # of what pydantic has read
        begin_answer((self._peer, judgement.route, judgement.ref, self._frame_type, judgement.error))
        await self._loop._answer(judgement.error, about_message=True)
