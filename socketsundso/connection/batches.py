"""
Several requests in one frame, and their answers in another: what JSON-RPC calls a batch.

    [{"jsonrpc":"2.0","id":1,"method":"add","params":[1,2]}, {"jsonrpc":"2.0","method":"log","params":["hi"]}]   in
    [{"jsonrpc":"2.0","result":3,"id":1}]                                                                        out

They are handled one after the other, in the turn of a single message; what says something *about* a request (a cancel,
an item, the answer to a call) counts at once. Answers leave together, behind the last of them; what handlers send of
their own is not held back. A stream or an upload has more than one answer, and is refused, and so are the requests
behind `MAX_BYTES` of answers: `batch_too_large`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from socketsundso.connection.current import Collected, begin_answer, collecting, respond_with_valid
from socketsundso.connection.requests import Admitted
from socketsundso.connection.serial import Serial, stray
from socketsundso.errors import EventError
from socketsundso.messages import (
    NULL_RESULT,
    UNDECODABLE,
    Frame,
    Framing,
    Judgement,
    MessageError,
    Refused,
    Route,
    Unread,
    batch_route,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

MAX_BYTES = 4 << 20
"""Of answers; that of who is asked before there are so many may be larger."""

_ABOUT_OTHERS = ("cancel", "item", "complete", "reply")
_ANSWERED_OFTEN = ("stream", "upload")


def declared_batches(framing: Framing) -> Route | None:
    """The route of batches; None where the envelope has none."""
    return batch_route(framing, _call) if framing.max_batch else None


def _call(message: Unread, endpoint: Any, frame: Frame) -> Coroutine[Any, Any, None]:
    return _Batch(endpoint, type(frame)).answer(message.text)


class _Batch:
    """One that has come, answered in the turn of the receive loop that took it."""

    def __init__(self, endpoint: Any, frame_type: type) -> None:
        loop: Serial = endpoint._loop
        self._endpoint, self._loop, self._peer = endpoint, loop, loop.peer
        self._frame_type = frame_type

    async def answer(self, text: str) -> None:
        """Answer all of its requests. Raises what ends the connection."""
        answers = Collected()
        before = collecting.set(answers)
        try:
            for request in self._loop.definition.framing.requests(text) or ():
                await self._answer(bytes(request).decode(), answers)
                if self._peer.closed is not None:
                    return
        finally:
            answers.over = True
            collecting.reset(before)
        if told := list(filter(None, answers)):
            await self._peer.send_reply(b"[%b]" % b",".join(told))

    async def _answer(self, text: str, answers: Collected) -> None:
        loop, message = self._loop, self._read(text)
        if isinstance(message, MessageError):
            await loop._answer_nameless(text, message)
            return
        route, ref = message.route, message.ref
        if route.apart in _ABOUT_OTHERS:
            if (rest := loop._begin_apart(message, text)) is not None:  # type: ignore[attr-defined]  # it converses
                await rest
            return
        begin_answer((self._peer, route, ref, self._frame_type, None))
        try:
            if route.apart in _ANSWERED_OFTEN:
                what = f"{route.event!r} has more answers than one: not in a batch"
                raise loop._charge() or EventError("malformed_message", what)
            if ref is not None and sum(map(len, answers)) > MAX_BYTES:
                what = "those before have so large answers that there is no room for this one; ask for it apart"
                raise loop._charge() or EventError("batch_too_large", what)
            value = await self._value(message, text)
            if ref is None or loop.has_answer():
                return
            if value is None:
                answers.append(loop.definition.framing.with_ref(NULL_RESULT, ref))
                return
            if loop.responds:
                await respond_with_valid(self._endpoint.respond, route.encoder.validate(value))
                return
            answers.append(loop._body(route, value, ref))
        except Refused as exc:
            await self._refuse(exc.judgement)
        except asyncio.CancelledError as exc:
            await loop._answer(stray(exc))
        except Exception as exc:
            await loop._answer(exc)

    def _read(self, text: str) -> Any:
        """A message, or what is wrong with what is none."""
        decoder = self._loop.definition.decoder
        try:
            return decoder.decode(text)
        except UNDECODABLE:
            try:
                return decoder.find_request(text)
            except MessageError as exc:
                return exc

    async def _value(self, message: Any, text: str) -> Any:
        """What the handler gives, within its time. Raises `Refused`, with a judgement."""
        try:
            return await self._called(message, text)
        except Refused as exc:
            if exc.judgement is not None:
                raise
        return await self._called(self._loop.definition.decoder.find_request(text), text)

    async def _called(self, message: Any, text: str) -> Any:
        route = message.route
        if route.conduct is not None and route.conduct.key is not None:
            message = Admitted(route, message.ref, message.call(self._endpoint, text))
        try:
            async with self._turn(message, text), asyncio.timeout(route.timeout_s) as limit:
                value = message.call(self._endpoint, text)
                return await value if route.awaited else value
        except TimeoutError:
            if not limit.expired():
                raise
            raise EventError("timeout", f"it takes longer than {route.timeout_s:g} s") from None

    def _turn(self, message: Any, text: str) -> AbstractAsyncContextManager[None]:
        """That of a message among the concurrent ones of its event; it has the batch's own otherwise."""
        if message.route.apart != "concurrent":
            return nullcontext()
        return self._loop.turn(message, text)  # type: ignore[attr-defined,no-any-return]  # it converses

    async def _refuse(self, judgement: Judgement | None) -> None:
        assert judgement is not None  # of what pydantic has read
        begin_answer((self._peer, judgement.route, judgement.ref, self._frame_type, judgement.error))
        await self._loop._answer(judgement.error, about_message=True)
