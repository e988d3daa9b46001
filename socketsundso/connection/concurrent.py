"""
The receive loop of endpoints that converse: more than one answer to a message, and more than one message at a time.

Handlers that take turns run in the connection's own task, one after the other, as in `serial`. While one of them
waits, callbacks read: streams and concurrent handlers are begun, each in a task of its own, a `cancel` is heard, and
who has to wait for a turn waits in a bounded `Backlog`; when that is full nothing is read. Streams never wait, or a
cancel could not be read.

A request is on record under its `ref` before the next message is looked at, and until its last frame is sent; whoever
runs it, the record's owner answers where it is stopped. Each message has a copy of the connection's context as it was
after `on_connect`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import CoroutineType, MappingProxyType, coroutine
from typing import Any, ClassVar, NamedTuple, Protocol, cast

import msgspec
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from socketsundso.connection.ahead import ReadAhead
from socketsundso.connection.batches import Batch, read_request
from socketsundso.connection.calls import Calls, answer_of
from socketsundso.connection.current import NOTHING, answering, begin_answer, collecting
from socketsundso.connection.lines import about
from socketsundso.connection.peer import Peer
from socketsundso.connection.requests import NOBODY, Admitted, Answer, Backlog, Call, Group, Reason, Request
from socketsundso.connection.serial import Answers, Serial, logger, only, stray
from socketsundso.connection.streams import CLOSE_S, close, iterator_of, pass_on
from socketsundso.connection.tasks import ended, failure_of
from socketsundso.connection.text_pings import TextPing
from socketsundso.connection.uploads import Upload, item_in, overrun, uploading
from socketsundso.errors import EventError, FrameError
from socketsundso.messages import UNDECODABLE, Definition, Frame, MessageError, Ref, Refused, Route, Unread

_EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


_CHANGED = object()

_NONE: Any = MappingProxyType({})  # nothing has been under way yet
_NO_BATCHES: Any = ()


class Converses(Answers, Protocol):
    """What the loop asks of an endpoint."""

    acknowledge: ClassVar[bool]
    max_streams: ClassVar[int]
    max_concurrent: ClassVar[int]
    _calls: Calls | None


class Concurrent(Serial):
    """The loop of one connection."""

    __slots__ = (
        "_active", "_backlog", "_batches", "_calls", "_context", "_entered", "_groups", "_handled", "_heard",
        "_is_answered", "_is_waiting", "_listens", "_running", "_streams", "_tasks", "_turn",
    )  # fmt: skip

    endpoint: Any
    _source: Any  # from the beginning on

    def __init__(self, endpoint: Converses, peer: Peer, definition: Definition, responds: bool) -> None:
        super().__init__(endpoint, peer, definition, responds)
        self._handled: Any = None  # the message that has its turn, while its handler runs
        self._is_waiting = False  # ... which waits for something
        self._is_answered = False  # ... though it is answered already
        self._turn: Request | None = None  # its record, once somebody may stop it
        self._listens = False  # the source calls `_heard`
        # the rest is made once there is something under way: a connection that is idle weighs no more than another
        self._backlog: Backlog | None = None
        self._active: dict[Ref, Request] = _NONE  # that run apart, or wait for it
        self._running: dict[Request, None] = _NONE  # apart
        self._groups: dict[str, Group] = _NONE  # of concurrent requests, by event
        self._tasks: dict[asyncio.Task[Any], None] = _NONE  # everything that ends with the loop
        self._batches: list[Batch] = _NO_BATCHES  # that are not answered yet
        self._streams = 0  # that run
        self._calls: Calls | None = endpoint._calls  # of classes that ask
        if self._calls is not None:
            self._calls.serve(self._wake(), self._read_ahead)

    def _wake(self) -> Backlog:
        """For the first time, something is under way."""
        self._heard: Any = self._read_ahead  # the same object each time: it is given to the source again and again
        self._task = asyncio.current_task()  # it is the loop that finds that there is something
        self._active, self._running, self._groups, self._tasks = {}, {}, {}, {}
        self._batches = []
        self._backlog = backlog = Backlog()
        return backlog

    def run(self) -> Awaitable[int]:
        if self._tells is not None:
            self._tells.watch(self)
        if self._source is None:
            self._ahead = self._source = ReadAhead(self.peer.receive, self.peer_left)
            self.peer.receive_by(self._ahead.arrival)
        return self._drive()

    @coroutine
    def _drive(self) -> Generator[Any, Any, int]:
        """
        Step the loop, so that it is known when a handler waits, in a copy of the connection's context.

        It is made anew whenever a message has left something changed in it: one for each message would cost 2 % of a
        round trip, and a step of its own for each handler 4 % (`conversations` of the benchmarks).
        """
        loop: Any = self._converse()
        self._context = copy_context()  # as it was after `on_connect`: no handler ever runs in it
        self._entered = self._context.copy()
        run = self._entered.run
        send = step = loop.send
        value: Any = None
        while True:
            try:
                waits_for = run(step, value)
            except StopIteration as done:
                code: int = done.value
                return code
            finally:
                value = None
            if waits_for is _CHANGED:
                self._entered = self._context.copy()
                run, step = self._entered.run, send
                continue
            if self._handled is not None and not self._is_waiting:
                self._begin_turn()
            try:
                value = yield waits_for
            except BaseException as exc:
                step, value = loop.throw, exc
            else:
                step = send
            waits_for = None  # a future that will fail, and below an exception, would keep this frame

    @coroutine
    def _converse(self) -> Generator[Any, Any, int]:
        """The loop. Gives what it waits for, and `_CHANGED` for another context to go on in."""
        endpoint, peer, source = self.endpoint, self.peer, self._source
        frame: Any
        message: Any
        route: Any
        value: Any
        rest: Any
        noted: Route | None = None  # the route that is noted as being answered, if it is there without a `ref`
        context: Context | None = None  # as it was when that was noted
        try:
            while True:
                if (backlog := self._backlog) is not None and backlog.queue:
                    message, frame = backlog.next()
                    route, in_turn = message.route, _takes_turns(message)
                else:
                    if backlog is not None and backlog.full:
                        frame = message = value = self._handled = None  # as below
                        self._overrun()
                        yield from backlog.room()
                        if peer.closed is not None:
                            return peer.closed
                    if (frame := source.take()) is None:
                        # it may be long in coming, and the last one may be large
                        message = value = self._handled = None
                        frame = yield from source.arrival()
                        if peer.closed is not None and type(frame) is str:
                            return peer.closed
                    if type(frame) is not str:
                        if frame["type"] != "websocket.receive":
                            return self._left(frame)
                        if peer.closed is not None:
                            return peer.closed
                        frame, noted = _payload(frame), None
                    try:
                        message = self.definition.decoder.decode(frame)
                    except UNDECODABLE:
                        message = self._found(frame)
                        route, in_turn = message.route, _takes_turns(message)
                    else:
                        route = message.route  # each look at a class variable takes as long as a call
                        in_turn = route.apart is None
                        if message.ref is not None and message.ref in self._active:
                            message = self._unless_in_use(message)
                            in_turn = _takes_turns(message)
                if not in_turn:
                    self._handled = None
                    begun = self._answer_invalid if message.error is not None else self._begin_apart
                    if (answering_it := begun(message, frame)) is not None:
                        noted = None
                        yield from answering_it
                else:
                    ref = message.ref
                    if ref is not None or route is not noted:
                        begin_answer((peer, route, ref, type(frame), None))
                        noted = route if ref is None and type(frame) is str else None
                        context = copy_context()
                    self._handled = message
                    try:
                        value = message.call(endpoint, frame)
                        if route.awaited:
                            value = yield from value if type(value) is CoroutineType else _awaiting(value)
                        if self._is_waiting:
                            self._is_waiting = False
                            if self._turn is not None:
                                self._end_turn()
                        if value is not None:
                            if backlog is not None and backlog.queue:
                                rest = self._reply_soon(route, value, ref)
                            else:
                                rest = self._reply(route, value, ref)
                            if rest is not None:
                                self._handled = None
                                yield from rest
                        elif route.signature.tears_down:
                            self._is_answered = False  # it was, before that
                        elif ref is not None and endpoint.acknowledge and not self.has_answer():
                            self._handled = None
                            yield from self._send(_acknowledgement(route), ref)
                    except Refused as exc:
                        self._end_turn()
                        (self._backlog or self._wake()).put_first(exc.judgement or self._found(frame), frame)
                    except asyncio.CancelledError as exc:
                        yield from self._answer(self._end_cancelled(exc, route))
                    except Exception as exc:
                        self._end_turn()
                        yield from self._answer(exc)
                    try:  # two words are compared where nothing was set, else the values, in whatever way they do
                        has_changed = copy_context() != context
                    except Exception:
                        has_changed = True
                    if has_changed:
                        noted = None
                        yield _CHANGED
                if peer.closed is not None:
                    return peer.closed
        finally:
            self._end_turn()
            if self._calls is not None:
                self._calls.fail(peer.over)
            if self._tasks:
                yield from self._wind_up()

    @property
    def streams(self) -> int:
        return self._streams

    @property
    def _waiting(self) -> Backlog:
        return cast(Backlog, self._backlog)

    # ---- one message

    async def _handle(self, request: Request, message: Call) -> None:
        """Call the handler of a request that does not take turns, and answer."""
        route, ref, frame = message.route, message.ref, request.frame
        request.record = record = (self.peer, route, ref, type(frame), None)
        begin_answer(record)
        try:
            value = message.call(self.endpoint, frame)
            if route.awaited:
                value = await value
            self._end(request)  # once its answer is on its way it is too late to stop it
            if request.reason == "answered":
                if self.has_answer():
                    self.drop(value)
                return
            if value is not None:
                if (rest := self._reply(route, value, ref)) is not None:
                    await rest
            elif (
                ref is not None and self.endpoint.acknowledge and not (route.signature.tears_down or self.has_answer())
            ):
                await self._send(_acknowledgement(route), ref)
            return
        except Refused as exc:
            judged = exc.judgement or self._found(frame)
        except asyncio.CancelledError as exc:
            if request.reason is not None:
                raise
            self._end(request)
            await self._answer(stray(exc))
            return
        except Exception as exc:
            self._end(request)
            if request.reason == "answered":
                self.has_answer()
                self._log(exc)
            else:
                await self._answer(exc)
            return
        if judged.error is None:
            await self._handle(request, judged)
        elif request.reason != "answered":
            self._end(request)
            await self._answer_invalid(judged, frame)

    async def _answer_invalid(self, message: Call, frame: Frame) -> None:
        """What is not called out: `message.error` is the answer."""
        error = cast(Exception, message.error)
        begin_answer((self.peer, message.route, message.ref, type(frame), error))
        await self._answer(error, about_message=True)

    def _found(self, frame: Frame) -> Call:
        """Whose message a frame is that was refused, for pydantic to read; or what is wrong with it."""
        try:
            found = self.definition.decoder.find(frame)
        except MessageError as exc:
            return Answer(None, exc.ref, self._charge() or _alone(exc))
        except FrameError as exc:
            return Answer(None, None, _alone(exc))
        if found.route is self.definition.decoder.batches:
            return self._batch(found.text, frame)
        return self._unless_in_use(found)

    def _batch(self, text: str, frame: Frame) -> Call:
        """Several requests, which have one turn; what is about others does not wait for it."""
        if self._backlog is None:
            self._wake()  # no handler has run in this context, as those of the batch will have in its own
        batch = Batch(self.definition, type(frame))
        self._batches.append(batch)
        for each in self.definition.framing.requests(text) or ():
            message = read_request(self.definition.decoder, part := bytes(each).decode())
            if message.route is not None and message.route.apart in _FOLLOWING:
                if (rest := self._begin_apart(message, part)) is not None:
                    self._answer_soon(rest, part)
            elif message.ref is not None and message.ref in self._active:
                batch.put(self._unless_in_use(message), part)
            else:
                batch.put(message, part)
        return batch

    def _unless_in_use(self, message: Call) -> Call:
        """The message, or the refusal of one whose answers could not be told from others'."""
        if message.error is None and message.route.apart not in _FOLLOWING and self._is_in_use(message):
            refusal = EventError("ref_in_use", "this ref is still to be answered")
            return Answer(message.route, message.ref, self._charge() or refusal)
        return message

    def _is_in_use(self, message: Call) -> bool:
        ref = message.ref
        if ref is None or self._backlog is None:
            return False
        if ref in self._active or message.route.apart is None:  # those that take turns are answered in order
            return ref in self._active
        return self._has_turn(ref) or self._waiting.holds(ref) or any(batch.holds(ref) for batch in self._batches)

    def _has_turn(self, ref: Ref) -> bool:
        """Is that the one whose handler waits, and is still to be answered?"""
        return self._is_waiting and not self._is_answered and self._handled.ref == ref

    def _reply_soon(self, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
        """`_reply` where other messages wait for their turn: it may be joined with the replies to them."""
        if self.responds:
            return self._reply(route, value, ref)
        return self._write_soon(self._body(route, value, ref))

    def _write_soon(self, body: bytes) -> Awaitable[None] | None:
        writer = self.peer.writer
        return None if writer is not None and writer.write_soon(body) else self.peer.send_reply(body)

    def prepare(self, value: Any) -> Any:
        if value is not None or not self.endpoint.acknowledge:
            return super().prepare(value)
        _, route, ref, _, _ = answering(self.peer) or NOTHING
        return None if route is None or ref is None else _Acknowledged(route, ref)

    def has_answer(self) -> bool:
        known = vars(self.endpoint)
        return "_answered" in known and known["_answered"].take(answering(self.peer))

    def deliver(self, reply: Any) -> Awaitable[None] | None:
        task = asyncio.current_task()  # that of the handler, whose dependencies are torn down behind its answer
        request = next((each for each in self._running if each.task is task), None)
        if (batch := collecting.get()) is not None:
            batch.settle(answering(self.peer))
        elif request is not None:
            self._end(request)
            if request.reason == "answered":
                return None
        else:
            self._settle_turn()
        if type(reply) is _Acknowledged:  # an overridden `respond` is for what handlers give
            return self._send(_acknowledgement(reply.route), reply.ref)
        return super().deliver(reply)

    def _settle_turn(self) -> None:
        """The handler whose turn it is has answered, though it goes on."""
        self._is_answered = True
        if self._turn is not None:
            self._turn.settle()

    def _settle(self, request: Request) -> None:
        """The same of one that runs apart. Its `ref` is free, unless items follow it."""
        request.reason = "answered"
        if request.timer is not None:
            request.timer.cancel()
        if request.upload is None:
            self._active.pop(cast(Ref, request.message.ref), None)

    def upload(self) -> Upload | None:
        """The items that follow the message that is being handled."""
        return uploading.get()

    async def _send(self, body: bytes, ref: Ref) -> None:
        """A canonical message about a request."""
        framing = self.definition.framing
        body = framing.with_ref(framing.frame(body), ref)
        if not self.peer.write(body):
            await self.peer.send_reply(body)

    def end_batch(self, batch: Any) -> None:
        """All of its requests are answered."""
        self._batches.remove(batch)

    def stopped(self, request: Request) -> EventError:
        """What one is answered that did not end by itself."""
        return self._stopped(request, request.message.route)

    def _end(self, request: Request) -> None:
        """Its last frame is about to be sent: its `ref` is free, and it cannot be stopped any more."""
        if not request.over:
            request.release()
            ref = request.message.ref
            if ref is not None and self._active.get(ref) is request:
                del self._active[ref]

    # ---- handlers that take turns

    def _begin_turn(self) -> None:
        """A handler has begun to wait; meanwhile callbacks read."""
        self._is_waiting = True
        if not self._listens:
            self._listen()
        if self._handled.route.timeout_s is not None and not self._is_answered:
            self._limit(self._in_turn())
        if self._departure is not None and self._calls is not None:
            asyncio.get_running_loop().call_soon(self._read_ahead)

    def _in_turn(self) -> Request:
        """The record of the handler that waits."""
        if self._turn is None:
            self._turn = Request(NOBODY if self._is_answered else self._handled, "")
            self._turn.task = self._task
        return self._turn

    def _end_turn(self) -> None:
        """The handler is done, also if it has not waited."""
        self._handled, self._is_waiting, self._is_answered = None, False, False
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.release()
            turn.forgive()  # one that answers in spite of its cancellation is heard

    def _end_cancelled(self, exc: asyncio.CancelledError, route: Route) -> Exception:
        """The answer of one that was stopped, or awaited what was cancelled. Raises `exc` if this task is to end."""
        stopped, turn = None, self._turn
        if turn is not None and turn.reason is not None and turn.forgive():
            stopped = self._stopped(turn, route)
        self._end_turn()
        return stopped or stray(exc)

    def _stopped(self, request: Request, route: Route) -> EventError:
        if request.reason == "timeout":
            return EventError("timeout", f"not done within {route.timeout_s:g} s")
        return EventError("cancelled", "cancelled by the client")

    def _listen(self) -> None:
        """What comes from now on while a handler waits is read ahead, and what is there already."""
        if self._backlog is None:
            self._wake()
        self._source.notify(self._heard)
        self._listens = self._ahead is None  # which reads only for as long as somebody waits

    def _read_ahead(self) -> None:
        """Called when something has come while a handler waits. Must not raise: nothing would be read any more."""
        backlog, source = self._waiting, self._source  # which is no more, once all is over
        try:
            # the disconnect is the loop's to take: by that our server knows that nothing more will be answered
            while self._is_waiting and (self._departure is None or self._hears_last()):
                if backlog.full:
                    self._overrun()
                    break
                if (frame := source.take()) is None:
                    if not self._listens:
                        self._listen()
                    return
                self._take_in(frame, backlog)
            if self._listens:
                self._listens = False
                source.notify(None)
            if self._ahead is not None:  # nothing more is taken, but the peer's leaving is to be known
                self._ahead.begin()
        except Exception:
            where = type(self.endpoint).__name__, self.peer.name
            logger.exception("%s: reading from %s failed", *where, extra=about(self.peer, self.endpoint))
            self.peer.close_soon(1011, "")

    def _take_in(self, frame: Any, backlog: Backlog) -> None:
        """A message that has come while a handler waits."""
        if type(frame) is not str:
            frame = _payload(frame)
        message: Any
        try:
            message = self.definition.decoder.decode(frame)
        except UNDECODABLE:
            message = self._found(frame)
        else:
            if message.ref is not None and (message.ref in self._active or message.route.apart in _BEGINNING):
                message = self._unless_in_use(message)
        if message.route is None or message.route.apart is None:
            backlog.put(message, frame)
        elif message.error is not None:
            self._answer_soon(self._answer_invalid(message, frame), frame)
        elif (rest := self._begin_apart(message, frame)) is not None:
            self._answer_soon(rest, frame)

    def _hears_last(self) -> bool:
        """The peer has left: what came before that may hold an answer; behind it there are none any more."""
        if self._calls is None or self._departure is None:
            return False
        if not self._source.holds:
            self._calls.fail(self._departure.get("code"))
        return bool(self._source.holds)

    def _overrun(self) -> None:
        """Nothing is read any more for now: answers that are behind that will not come."""
        if self._calls is not None:
            self._calls.overrun()

    def _answer_soon(self, answering: Coroutine[Any, Any, None], frame: Frame) -> None:
        """Answer apart; who asks for that too often is read no more until it is done."""
        self._waiting.hold(frame)

        def done(task: asyncio.Task[None]) -> None:
            if (error := failure_of(task)) is not None:
                self._log(cast(Exception, error))
            self._waiting.let_go(frame)
            self._read_ahead()

        self._start(answering).add_done_callback(done)

    # ---- handlers that do not

    def _begin_apart(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        """Begin what does not take turns. Gives what is to be awaited instead, where that is an answer."""
        if self._backlog is None:
            self._wake()
        return _APART[message.route.apart](self, message, frame)

    def _refuse(self, message: Call, frame: Frame, error: Exception) -> Coroutine[Any, Any, None]:
        """One whose fields are not looked at. It counts nevertheless."""
        return self._answer_invalid(Answer(message.route, message.ref, self._charge() or error), frame)

    def _uncalled(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        """What answers a message about another one that no handler is called for: it has no `ref`, or is too much."""
        if message.ref is None:
            return self._refuse(message, frame, self.definition.decoder.missing_ref(frame))
        if (refusal := self._charge()) is not None:
            return self._answer_invalid(Answer(message.route, message.ref, refusal), frame)
        return None

    def _cancel(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        if (refusal := self._uncalled(message, frame)) is not None:
            return refusal
        ref = cast(Ref, message.ref)
        if (request := self._active.get(ref)) is not None:
            self._stop(request, "cancelled")
        elif self._has_turn(ref):
            self._stop(self._in_turn(), "cancelled")
        elif (request := next(filter(None, (batch.find(ref) for batch in self._batches)), None)) is not None:
            self._stop(request, "cancelled")
        elif (waiting := self._waiting.withdraw(ref)) is not None:
            request = Request(*waiting)
            request.reason = "cancelled"
            return self._answer_stopped(request)
        return None

    def _hear_reply(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        calls = cast(Calls, self._calls)
        if message.ref not in calls.waiting or isinstance(message, Unread):  # late, or nobody's
            return self._uncalled(message, frame)
        if self.endpoint._deadlines is not None:
            self.endpoint._deadlines.heard()
        if (wrong := calls.settle(message)) is None:
            return None
        if type(frame) is not str and (found := self._found(frame)).error is not None:  # it is no UTF-8
            wrong = cast(Answer, found)
        return self._answer_invalid(wrong, frame)

    def _answer_text(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        if (refusal := self._charge()) is not None:
            return self._answer_invalid(Answer(message.route, None, refusal), frame)
        return cast(TextPing, message).send(self.peer)  # type: ignore[no-any-return]  # of a peer that is slow

    def _begin_stream(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        if self._departure is not None and message.route.apart == "stream":  # nobody would hear its items
            return None
        if message.ref is None:
            return self._refuse(message, frame, self.definition.decoder.missing_ref(frame))
        if self._streams >= self.endpoint.max_streams:
            what = f"at most {self.endpoint.max_streams} streams run beside each other"
            return self._refuse(message, frame, EventError("too_many_streams", what))
        self._streams += 1
        request = Request(message, frame)
        if (items := message.route.items) is not None:
            request.upload = Upload(items, functools.partial(self._grant_items, request), self._hold_items)
        self._active[message.ref] = request
        self._launch(request, self._stream(request) if message.route.apart == "stream" else self._apart(request))
        return None

    # ---- uploads

    def _take_item(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        if (request := self._followed(message)) is None:
            return self._uncalled(message, frame)
        if (refusal := self._charge()) is None and cast(Upload, request.upload).feed(item_in(message)):
            return None
        return self._break_off(request, refusal or overrun())

    def _complete(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        if (refusal := self._uncalled(message, frame)) is not None:
            return refusal
        if (request := self._followed(message)) is not None:
            cast(Upload, request.upload).complete()
        return None

    def _followed(self, message: Call) -> Request | None:
        """The request whose upload this belongs to; None where there is none: it races with the handler's end."""
        request = self._active.get(message.ref) if message.ref is not None else None
        return request if request is not None and request.upload is not None else None

    def _break_off(self, request: Request, error: Exception) -> Coroutine[Any, Any, None]:
        """Answer an error at once. The `ref` is free then, whatever the handler still does."""
        request.reason = "answered"
        self._end(request)
        request.cancel()
        self._insist_later(request)
        message = request.message
        return self._answer_invalid(Answer(message.route, message.ref, error), request.frame)

    async def _grant_items(self, request: Request, items: int) -> None:
        if not request.over:
            await self._send(b'{"type":"more","items":%d}' % items, cast(Ref, request.message.ref))

    def _hold_items(self, size: int) -> None:
        backlog = self._waiting
        was_full = backlog.full
        backlog.hold_items(size)
        if was_full and not backlog.full:
            asyncio.get_running_loop().call_soon(self._read_ahead, context=self._context)

    # ---- handlers that are concurrent

    def _begin_concurrent(self, message: Call, frame: Frame) -> Coroutine[Any, Any, None] | None:
        route, key = message.route, None
        if route.conduct.key is not None:
            message = self._bound(message, frame)
            if message.error is not None:
                return self._answer_invalid(message, frame)
            key = (cast(Admitted, message).key,)
        request = Request(message, frame, key)
        if message.ref is not None:
            self._active[message.ref] = request
        if self._group(route).begins(request):
            self._launch(request, self._apart(request))
        else:
            self._waiting.hold(frame)
        return None

    def _group(self, route: Any) -> Group:
        group = self._groups.get(route.event)
        if group is None:
            group = self._groups[route.event] = Group(route.conduct.limit or self.endpoint.max_concurrent)
        return group

    @contextlib.asynccontextmanager
    async def turn(self, request: Request) -> AsyncIterator[None]:
        """That of a request among the concurrent ones of its event, for a batch that calls it out by itself."""
        group = self._group(request.message.route)
        if not group.begins(request):
            request.begins = asyncio.get_running_loop().create_future()
            try:
                await request.begins
            except asyncio.CancelledError:
                if request in group.waiting:
                    group.waiting.remove(request)
                else:
                    self._pass_on_turn(request)
                raise
        try:
            yield
        finally:
            self._pass_on_turn(request)

    def _pass_on_turn(self, request: Request) -> None:
        """One of the concurrent requests is done."""
        for waiting in self._groups[request.message.route.event].end(request):
            if waiting.begins is None:
                self._waiting.let_go(waiting.frame)
                self._launch(waiting, self._apart(waiting))
            elif not waiting.begins.done():  # one that is cancelled passes its turn on
                waiting.begins.set_result(None)

    def _bound(self, message: Call, frame: Frame) -> Call:
        """With valid arguments, one of which says whom it waits for."""
        try:
            return Admitted(message.route, message.ref, message.call(self.endpoint, frame))
        except Refused as exc:
            judged = exc.judgement or self._found(frame)
        except Exception as exc:  # there were too many
            return Answer(message.route, message.ref, exc)
        return judged if judged.error is not None else self._bound(judged, frame)

    def _launch(self, request: Request, running: Coroutine[Any, Any, None]) -> None:
        self._running[request] = None
        if (deadlines := self.endpoint._deadlines) is not None:
            deadlines.answer_begins()
        self._limit(request)
        context = self._context.copy()
        if request.upload is not None:
            context.run(uploading.set, request.upload)
        self._start(running, context).add_done_callback(functools.partial(self._ran, request))

    def _start(self, running: Coroutine[Any, Any, None], context: Context | None = None) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        task = asyncio.Task(running, loop=loop, context=context or self._context.copy(), **_EAGER)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def _limit(self, request: Request) -> None:
        if (timeout_s := request.message.route.timeout_s) is not None:
            request.timer = asyncio.get_running_loop().call_later(timeout_s, self._stop, request, "timeout")

    def _ran(self, request: Request, task: asyncio.Task[None]) -> None:
        """Its task has ended: others may have their turn."""
        self._end(request)
        request.release()
        self._running.pop(request, None)
        if (deadlines := self.endpoint._deadlines) is not None:
            deadlines.answer_ends()
        route = request.message.route
        if request.upload is not None:
            request.upload.close()
        if route.apart != "concurrent":
            self._streams -= 1
        else:
            self._pass_on_turn(request)
        if (error := failure_of(task)) is not None:
            where = type(self.endpoint).__name__, route.event, self.peer.name
            logger.error("%s: %r of %s failed", *where, exc_info=error, extra=self._about(request))
        self._read_ahead()

    async def _apart(self, request: Request) -> None:
        request.task = asyncio.current_task()
        try:
            if request.reason is None:
                await self._handle(request, request.message)
        except asyncio.CancelledError:
            if request.reason is None or not request.forgive():
                raise
        except WebSocketDisconnect as exc:
            await self._end_with(exc.with_traceback(None))  # whose frames have it in them
        if not request.over:
            await self._answer_stopped(request)

    async def _stream(self, request: Request) -> None:
        """Own a stream from its first step to the end of its cleaning up."""
        request.task = asyncio.current_task()
        message, frame = request.message, request.frame
        begin_answer((self.peer, message.route, message.ref, type(frame), None))
        items = error = None
        try:
            if request.reason is None:
                items = await self._items(message, frame)
                send = self._sender(message.route, cast(Ref, message.ref))
                await pass_on(items, send, request, self.peer)
        except asyncio.CancelledError as exc:
            if request.reason is None:
                error = stray(exc)
            elif not request.forgive():
                raise
        except Exception as exc:
            if request.reason is None:
                error = exc
            else:  # of its cleaning up, which changes nothing
                self._log(exc)
        finally:
            self._end(request)
            if items is not None:
                await self._close(items)
        try:
            await self._end_stream(request, error)
        finally:
            error = None  # it keeps this frame

    def _sender(self, route: Route, ref: Ref) -> Callable[[Any], Awaitable[None] | None]:
        """`_reply` for many: what is the same for all items of a stream is made once."""
        if self.responds:
            return functools.partial(self._reply, route, ref=ref)
        peer, encode, framing = self.peer, route.encode, self.definition.framing.of_items
        end = framing.ref_end(ref)

        def send_within(item: Any) -> Awaitable[None] | None:
            body = framing.with_ref(encode(item), ref)
            return None if peer.write(body) else peer.send_reply(body)

        if end is None:
            return send_within

        def send(item: Any) -> Awaitable[None] | None:
            body = encode(item)[:-1] + end
            writer = peer.writer  # `_write_soon`, unfolded: for each item
            return None if writer is not None and writer.write_soon(body) else peer.send_reply(body)

        return send

    async def _items(self, message: Call, frame: Frame) -> Any:
        try:
            items = message.call(self.endpoint, frame)
            if hasattr(items, "__await__"):
                items = await items
        except Refused as exc:
            judged = exc.judgement or self._found(frame)
        else:
            return iterator_of(items, message.route.conduct.in_thread)
        if judged.error is None:
            return await self._items(judged, frame)
        begin_answer((self.peer, judged.route, judged.ref, type(frame), judged.error))
        raise judged.error

    async def _close(self, items: Any) -> None:
        try:
            await close(items)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            self._log(exc)

    async def _end_stream(self, request: Request, error: Exception | None) -> None:
        if isinstance(error, WebSocketDisconnect):
            await self._end_with(error)
        elif error is not None:
            record = answering(self.peer)
            await self._answer(error, about_message=record is not None and record[4] is error)
        else:
            await self._answer_stopped(request)

    # ---- the ends

    def _stop(self, request: Request, reason: Reason) -> None:
        if request.over or (request.reason is not None and reason != "gone"):
            return
        request.reason = reason
        if request.timer is not None:
            request.timer.cancel()
        group = self._groups.get(request.message.route.event) if request.message.route is not None else None
        if group is not None and request.begins is None and request in group.waiting:
            group.waiting.remove(request)
            self._end(request)
            self._waiting.let_go(request.frame)
            self._answer_soon(self._answer_stopped(request), request.frame)
            return
        request.cancel()
        if request is not self._turn and (request.task is not None or request in self._running):
            self._insist_later(request)

    def _insist_later(self, request: Request) -> None:
        request.timer = asyncio.get_running_loop().call_later(CLOSE_S, self._insist, request)

    def _insist(self, request: Request) -> None:
        """It swallowed its cancellation, or takes too long to clean up."""
        where = request.message.route.event, self.peer.name
        logger.error("event %r of %s does not end: cancelled again", *where, extra=self._about(request))
        request.cancel()
        self._insist_later(request)

    def _about(self, request: Request) -> dict[str, Any]:
        """`about`, in a callback, where nothing is answered."""
        message = request.message
        return about(self.peer, self.endpoint) | {"event": message.route.event, "ref": message.ref}

    async def _answer_stopped(self, request: Request) -> None:
        """What the client is told of a request that did not end by itself, or of a stream that did."""
        message, reason = request.message, request.reason
        self._end(request)
        if reason in ("gone", "answered") or self.peer.is_lost:
            return
        begin_answer((self.peer, message.route, message.ref, type(request.frame), None))
        if reason != "timeout" and message.route.apart == "stream":
            await self._send(b'{"type":"complete"}', cast(Ref, message.ref))
        else:
            await self._answer(self._stopped(request, message.route))

    async def _end_with(self, exc: WebSocketDisconnect) -> None:
        """A handler beside the loop says that the connection is over, or has found that it is."""
        if not self.peer.is_lost and self._departure is None:
            await self.peer.close(exc.code if exc.code == 1000 or exc.code >= 3000 else 1000)

    def peer_left(self, message: Message) -> None:
        if self._departure is not None:
            return
        super().peer_left(message)
        if self._calls is not None:
            asyncio.get_running_loop().call_soon(self._read_ahead)
        for request in tuple(self._running):
            if request.message.route.apart == "stream":
                self._stop(request, "gone")
        if self._backlog is not None:
            self._backlog.wake()

    def _left(self, message: Message) -> int:
        if self._tasks:
            self.peer_left(message)
        return self.peer.note_departure(message)

    def _cut_handlers(self) -> None:
        if self._departure is not None:
            self.peer.closed = self.peer.note_departure(self._departure)
        if self._backlog is not None:
            self._stop_all()
            if self._is_waiting:
                self._stop(self._in_turn(), "gone")
            self._backlog.wake()

    def _stop_all(self) -> None:
        for group in self._groups.values():
            group.waiting.clear()
        for request in tuple(self._running):
            self._stop(request, "gone")

    async def _wind_up(self) -> None:
        """Nothing is read any more: those who may still run may finish, the others are stopped."""
        if self._departure is not None:
            code = self.peer.note_departure(self._departure)
            for request in self._running:
                if request.upload is not None:
                    request.upload.leave(code)
        try:
            if self._departure is not None and self._grace is not None and self.peer.closed is None:
                await self._grant(self._until)
        finally:
            self._stop_all()
            await ended(self._tasks, f"{type(self.endpoint).__name__}: a handler of {self.peer.name}")

    async def _grant(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        while self._tasks and (left_s := until - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)

    async def _answer(self, exc: Exception, about_message: bool = False) -> None:
        exc, upload = only(exc), uploading.get()
        if upload is not None and upload.raised is exc and (record := answering(self.peer)) is not None:
            # what is wrong with an item is about the message, too; its traceback has the task that it is noted in
            begin_answer((*record[:4], exc.with_traceback(None)))
            about_message = True
        await super()._answer(answer_of(exc), about_message)

    async def _end_connection(self, exc: Exception) -> None:
        if self._departure is not None and isinstance(exc, WebSocketDisconnect):
            self.peer.note_departure(self._departure)
        await super()._end_connection(exc)

    @property
    def busy(self) -> bool:
        """Whether something is under way while messages are awaited: a server that ends waits for that."""
        if self._tasks or (self._calls is not None and self._calls.waiting):
            return True
        return self._is_waiting or (self._backlog is not None and bool(self._backlog.queue))

    @property
    def held_bytes(self) -> int:
        """Of messages and items that wait for their turn."""
        return self._backlog.bytes if self._backlog is not None else 0

    def watch(self) -> None:
        """Somebody reads anyway, the loop or a callback."""

    def release(self) -> None:
        if self._backlog is not None:
            if self._listens:
                self._listens = False
                self._source.notify(None)
            self._heard = None
        super().release()


def _alone(error: Exception) -> Exception:
    """Without what led to it, whose frames keep the endpoint for as long as the error is kept."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _takes_turns(message: Call) -> bool:
    return message.error is None and message.route.apart is None


def _payload(message: Message) -> Frame:
    text = message.get("text")
    return text if text is not None else message.get("bytes") or b""


async def _awaiting(value: Awaitable[Any]) -> Any:
    """A coroutine around what is none: a wrapper around an async function may give any awaitable."""
    return await value


_APART: dict[str, Callable[[Concurrent, Call, Frame], Coroutine[Any, Any, None] | None]] = {
    "stream": Concurrent._begin_stream,
    "upload": Concurrent._begin_stream,
    "item": Concurrent._take_item,
    "complete": Concurrent._complete,
    "concurrent": Concurrent._begin_concurrent,
    "cancel": Concurrent._cancel,
    "reply": Concurrent._hear_reply,
    "text": Concurrent._answer_text,
}

_FOLLOWING = ("cancel", "reply", "item", "complete")  # the `ref` is that of what they follow
_BEGINNING = _APART.keys() - _FOLLOWING


class _Acknowledged(NamedTuple):
    """The reply of a handler that gave none."""

    route: Route
    ref: Ref


def _acknowledgement(route: Route) -> bytes:
    name = "complete" if route.framing.answers_requests else route.event
    return msgspec.json.encode({"type": name})
