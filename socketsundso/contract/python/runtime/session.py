"""
What a generated Python client knows of its connection, without one: what was asked, what waits to be read, where each
room is. A part of the file that `python` writes.

Frames come in and go out as bytes; several threads may call it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic

from socketsundso.contract.python.runtime.by_msgspec import (
    _UNREADABLE,
    UNSET,
    _convert,
    _encode,
    _head_reader,
    _Readers,
)
from socketsundso.contract.python.runtime.protocol import _Channel, _Event, _Failed, _More, _Resumed
from socketsundso.contract.python.runtime.waiting import _Exchange, _FlagT, _Listener
from socketsundso.contract.python.runtime.words import (
    _R,
    Disconnected,
    Gap,
    InvalidMessage,
    Overrun,
    PresenceDiff,
    PresenceState,
    RequestError,
    _BinaryFrame,
    _RoomPositioned,
    _RoomState,
)

_log = logging.getLogger(__name__)

_ROOM_NEWS = (_RoomPositioned, PresenceState, PresenceDiff, Gap)


class _Session(Generic[_FlagT]):
    """One client's side of the protocol, over all of its connections."""

    def __init__(
        self, channel: _Channel, flags: Callable[[], _FlagT], *, max_pushes: int, max_items: int, max_offline: int
    ) -> None:
        self.channel, self._flags = channel, flags
        self._max_pushes, self._max_items, self._max_offline = max_pushes, max_items, max_offline
        self.lock = threading.RLock()
        self.is_open = False  # nothing has to wait any more
        self.ended: Disconnected | None = None  # why there will be no connection any more
        self._offline: deque[_Exchange[_FlagT]] = deque()  # what is sent when there is a connection
        self.rooms: dict[str, _RoomState] = {}
        self.post: Callable[[bytes], object] = lambda frame: None  # sends it soon
        self.asked: Callable[[str, Any, Any], None] = lambda kind, ref, question: None  # the server's calls
        self.unasked: Callable[[Any], None] = lambda ref: None
        self.failed: Callable[[RequestError], None] = lambda error: None  # errors of what nobody waits for
        self._exchanges: dict[int, _Exchange[_FlagT]] = {}
        self._listeners: list[_Listener[_FlagT]] = []
        self._unanswered: dict[int, _Event[Any]] = {}  # of the newest messages that have no answer if all is well
        self._refs = itertools.count(1)
        self._head = _head_reader(channel.type_key, channel.ref_key, channel.data_key, channel.parts)
        is_apart = channel.data_key or channel.parts
        self._readers = _Readers(frozenset(() if is_apart else {channel.type_key, channel.ref_key}))

    # What is asked

    def begin(self, event: _Event[Any], fields: Mapping[str, Any], *, retry: bool = False) -> _Exchange[_FlagT]:
        """A message that is to be sent. Its answers find it until `leave`."""
        with self.lock:
            if self.ended is not None:
                raise self.ended.again()
            ref = next(self._refs)
            given = {key: value for key, value in fields.items() if value is not UNSET}
            frame = _encode(self.channel.message(event.name, given, ref))
            exchange = self._exchanges[ref] = _Exchange(event, ref, frame, self._flags, self._max_items)
            exchange.retry = retry
            return exchange

    def may_send(self, exchange: _Exchange[_FlagT], *, first: bool) -> bool:
        """Now, or when there is a connection. `first` is what the application does before everything else."""
        with self.lock:
            if self.is_open or first:
                exchange.sent = True
            elif len(self._offline) >= self._max_offline:
                raise Disconnected(f"{self._max_offline} messages wait for a connection already")
            else:
                self._offline.append(exchange)
            return exchange.sent

    def next_waiting(self) -> _Exchange[_FlagT] | None:
        """What is sent next of all that waited; None, and from now on nothing has to wait."""
        with self.lock:
            if not self._offline:
                self.is_open = True
                return None
            exchange = self._offline.popleft()
            exchange.sent = True
            return exchange

    def sent(self, exchange: _Exchange[_FlagT]) -> None:
        """The connection has it: all that can be known of a message that has no answer."""
        with self.lock:
            if not exchange.event.answered:
                self._unanswered[exchange.ref] = exchange.event
                if len(self._unanswered) > 1000:
                    del self._unanswered[next(iter(self._unanswered))]
                self._finish(exchange, item=None)
            exchange.credited.set()

    def nothing(self, event: _Event[Any]) -> _Exchange[_FlagT]:
        """What was never asked, and has ended."""
        exchange = _Exchange(event, 0, b"", self._flags, 0)
        exchange.end()
        return exchange

    def leave(self, exchange: _Exchange[_FlagT], error: BaseException | None = None) -> None:
        """Nobody waits for its answers any more, and the server is told so, where it has to know."""
        with self.lock:
            if exchange in self._offline:
                self._offline.remove(exchange)
            if exchange.sent and not exchange.ended and exchange.event.cancellable:
                self.post(self.frame("cancel", exchange.ref))
            self._finish(exchange, error)

    def frame(self, kind: str, ref: Any, **fields: Any) -> bytes:
        return _encode(self.channel.message(kind, fields, ref))

    def lost(self, error: Disconnected) -> None:
        """The connection is gone: what was sent fails at once, or is sent again."""
        with self.lock:
            self.is_open = False
            for exchange in reversed([each for each in self._exchanges.values() if each.sent]):
                self.unsent(exchange, error)

    def unsent(self, exchange: _Exchange[_FlagT], error: Disconnected) -> None:
        with self.lock:
            if exchange.ended:
                return
            if exchange.retry:
                exchange.sent = False
                self._offline.appendleft(exchange)
            else:
                self._finish(exchange, error.again())

    def end(self, error: Disconnected, *, quietly: bool) -> None:
        """There will be no connection any more; who reads pushes is told why, unless it is as wished."""
        with self.lock:
            self.ended = error
            self._offline.clear()
            for exchange in list(self._exchanges.values()):
                self._finish(exchange, error.again())
            for listener in self._listeners:
                listener.end(None if quietly else error.again())

    def _finish(self, exchange: _Exchange[_FlagT], error: BaseException | None = None, **answer: Any) -> None:
        self._exchanges.pop(exchange.ref, None)
        for item in answer.values():
            exchange.put(item)
        exchange.end(error)

    # Who reads pushes

    def name_of_call(self, kind: type[Any]) -> str:
        for name, known in self.channel.calls.items():
            if known is kind:
                return name
        raise TypeError(f"{self.channel.name} never asks {kind.__name__}")

    def check(self, kind: type[Any]) -> None:
        pushes = [*self.channel.pushes.values(), *[bytes] * self.channel.binary]
        if not any(issubclass(known, kind) for known in pushes):
            raise TypeError(f"{self.channel.name} pushes no {kind.__name__}")

    def listen(
        self,
        kind: type[Any] | None = None,
        room: str | None = None,
        *,
        quiet: bool = False,
        tells_room: bool = False,
    ) -> _Listener[_FlagT]:
        if kind is not None:
            self.check(kind)
        with self.lock:
            listener = _Listener(self._flags(), self._max_pushes, kind, room)
            listener.quiet, listener.tells_room = quiet, tells_room
            if self.ended is not None:
                listener.end()
            self._listeners = [*self._listeners, listener]
            return listener

    def unlisten(self, listener: _Listener[_FlagT]) -> None:
        with self.lock:
            self._listeners = [each for each in self._listeners if each is not listener]
            listener.end()

    # What comes

    def received(self, messages: Iterable[bytes]) -> None:
        """What the server sent. What is not understood is logged, and nothing else."""
        read_head, pushes, readers = self._head, self.channel.pushes, self._readers
        with self.lock:
            for frame in messages:
                if type(frame) is _BinaryFrame and self.channel.binary:
                    data = bytes(frame)
                    for listener in self._listeners:
                        listener.offer(data, None)
                    continue
                try:
                    head = read_head(frame)
                    data = frame if head.data is UNSET else head.data
                    if head.ref is None and (kind := pushes.get(head.type)) is not None:
                        push = readers[kind](data)
                        if head.room is not None:
                            self._note(push, head.room, head.seq)
                        for listener in self._listeners:
                            listener.offer(push, head.room)
                    else:
                        self._told(head.type, head.ref, data)
                except _UNREADABLE as exc:
                    _log.warning("%s: a message that is not understood is ignored: %s", self.channel.name, exc)

    def _read(self, kind: Any, data: bytes) -> Any:
        return self._readers[kind](data)

    def _note(self, push: Any, room: Any, seq: object) -> None:
        if isinstance(push, _ROOM_NEWS):
            push._note(self.rooms.setdefault(push.room or "", _RoomState()))
        elif type(seq) is int and isinstance(room, str) and (state := self.rooms.get(room)) is not None:
            state.seq = seq

    def _answered(self, exchange: _Exchange[_FlagT], kind: str, data: bytes) -> None:
        event = exchange.event
        if kind == "error":
            self._finish(exchange, self._error(event, data))
        elif kind in event.replies:
            self._replied(exchange, event.replies[kind], data)
        elif kind == "complete" and event.stream:
            self._finish(exchange)
        elif kind == "more" and event.uploads:
            exchange.credit += self._read(_More, data).items
            exchange.credited.set()
        elif event.acknowledged and kind == event.name:
            self._finish(exchange, item=None)
        elif event.untyped is not None:
            self._replied(exchange, event.untyped, data)
        elif not event.stream:
            error = InvalidMessage(f"{event.name} was answered with {kind!r}, which the contract does not have")
            self._finish(exchange, error)

    def _replied(self, exchange: _Exchange[_FlagT], kind: Any, data: bytes) -> None:
        try:
            item = self._read(kind, data)
        except _UNREADABLE as exc:
            kinds = kind if isinstance(kind, tuple) else (kind,)
            wanted = " or ".join(each.__name__ if isinstance(each, type) else str(each) for each in kinds)
            self._finish(exchange, InvalidMessage(f"{exchange.event.name} was answered with no {wanted}: {exc}"))
            return
        if not exchange.event.stream:
            self._finish(exchange, item=item)
        elif len(exchange.items) < exchange.bound:
            exchange.put(item)
        else:
            self.leave(exchange, Overrun(1))

    def _told(self, kind: str, ref: Any, data: bytes) -> None:
        """What is no push: an answer, the server's call, an error that nobody waits for, or what comes too late."""
        exchange = self._exchanges.get(ref) if type(ref) is int else None
        if exchange is not None:
            self._answered(exchange, kind, data)
        elif kind == "error":
            self._blamed(ref, data)
        elif kind == "room_position" and self.channel.history:
            position = self._read(_RoomPositioned, data)
            self._note(position, position.room, None)
        elif isinstance(ref, str | int) and kind in self.channel.calls:
            self.asked(kind, ref, self._read(self.channel.calls[kind], data))
        elif isinstance(ref, str | int) and kind == "cancel":
            self.unasked(ref)

    def _blamed(self, ref: Any, data: bytes) -> None:
        event = self._unanswered.pop(ref, None) if type(ref) is int else None
        if event is not None or ref is None:
            self.failed(self._error(event, data))

    def _error(self, event: _Event[Any] | None, data: bytes) -> RequestError:
        frame = self._read(_Failed, data)
        kind = (event.errors if event is not None else self.channel.errors).get(frame.code, self.channel.error)
        name = event.name if event is not None else None
        error = kind(frame.code, frame.errors, event=name, retry_after_s=frame.retry_after_s)
        if kind._details is None:
            return error
        try:
            details = _convert(frame.errors[0]["ctx"], kind._details)
        except (LookupError, TypeError, *_UNREADABLE):
            return self.channel.error(frame.code, frame.errors, event=name, retry_after_s=frame.retry_after_s)
        for attribute in kind.__annotations__:
            setattr(error, attribute, getattr(details, attribute))
        return error

    # Rooms with history

    def resumable(self) -> dict[str, dict[str, Any]]:
        """`{"doc:1": {"seq": 141, "epoch": "a"}}`"""
        with self.lock:
            return {
                room: {"seq": state.seq, "epoch": state.epoch}
                for room, state in self.rooms.items()
                if state.epoch is not None
            }

    def resumed(self, answer: _Resumed) -> dict[str, bool]:
        """Whether nothing is missing, for each room. What was missed comes behind the answer, with its positions."""
        with self.lock:
            for room, told in answer.rooms.items():
                state = self.rooms.setdefault(room, _RoomState())
                if not told.recovered:
                    state.seq, state.epoch = told.seq or 0, told.epoch
                    for listener in self._listeners:
                        listener.offer(Gap(room), room)
            return {room: told.recovered for room, told in answer.rooms.items()}


def _added(callbacks: list[_R], callback: _R) -> Callable[[], None]:
    callbacks.append(callback)

    def remove() -> None:
        with contextlib.suppress(ValueError):
            callbacks.remove(callback)

    return remove
