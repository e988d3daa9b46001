"""
A generated Python client for threads. A part of the file that `python` writes.

One thread connects, and connects again; one reads; callbacks run in a third. Requests may be made by any thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, cast

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection as _SyncConnection
from websockets.sync.client import connect as _connect_sync

from socketsundso.contract.python.runtime.handshake import (
    _MAX_SIZE,
    _STABLE_S,
    _backoff,
    _closed,
    _may_come_back,
    _offered,
    _Parameters,
    _request,
    _why,
    _with_path,
)
from socketsundso.contract.python.runtime.protocol import _RESUME, _Channel, _Event, _Resumed, _RoomResumed
from socketsundso.contract.python.runtime.session import _added, _log, _Session
from socketsundso.contract.python.runtime.turns import _with_turns
from socketsundso.contract.python.runtime.waiting import _Ended, _Exchange, _Listener, _Source
from socketsundso.contract.python.runtime.words import (
    _P,
    _R,
    CallRefused,
    ClientState,
    ConnectionOpened,
    Disconnected,
    InvalidMessage,
    Overrun,
    RequestError,
    RoomPosition,
    _BinaryFrame,
    _PushT,
    _RoomState,
)


class ClientOptionsSync(TypedDict, total=False):
    """As ClientOptions, without async functions."""

    token: str | Callable[[], str]
    headers: Mapping[str, str] | Callable[[], Mapping[str, str]]
    query: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    subprotocols: Sequence[str]
    timeout_s: float
    max_pushes: int
    max_items: int
    max_offline: int
    backoff: Callable[[int], float]
    wait_for_server: bool
    connect: Mapping[str, Any]


def _next_sync(source: _Source[threading.Event], deadline: float = math.inf) -> Any:
    while True:
        for item in source.take():
            return item
        left = deadline - time.monotonic()
        if left <= 0 or not source.changed.wait(left if left < threading.TIMEOUT_MAX else None):
            raise TimeoutError


class PushStreamSync(Generic[_PushT]):
    """As PushStream, for threads."""

    def __init__(self, session: _Session[threading.Event], listener: _Listener[threading.Event]) -> None:
        self._session, self._listener = session, listener

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _PushT:
        return self.next()

    def next(self, timeout_s: float = math.inf) -> _PushT:
        """The next one. Raises TimeoutError where none comes in time, StopIteration behind the last."""
        try:
            return cast(_PushT, _next_sync(self._listener, time.monotonic() + timeout_s))
        except _Ended:
            raise StopIteration from None

    def close(self) -> None:
        """No more is kept for it; what is here already may be read."""
        self._session.unlisten(self._listener)

    def __del__(self) -> None:
        self._session.unlisten(self._listener)


class ItemStreamSync(Generic[_R]):
    """As ItemStream, for threads."""

    def __init__(
        self,
        client: _ClientSync[Any],
        event: _Event[_R],
        fields: Mapping[str, Any],
        timeout_s: float | None,
        items: Iterable[Any] | None,
    ) -> None:
        self._client, self._event, self._fields, self._items = client, event, fields, items
        self._timeout_s = math.inf if timeout_s is None else timeout_s
        self._exchange: _Exchange[threading.Event] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _R:
        try:
            if self._exchange is None:
                self._exchange = self._client._session.begin(self._event, self._fields)
                self._client._feed(self._exchange, self._items)
                self._client._deliver(self._exchange)
            return cast(_R, _next_sync(self._exchange, time.monotonic() + self._timeout_s))
        except _Ended:
            raise StopIteration from None
        except TimeoutError:
            self.close()
            raise TimeoutError(f"{self._event.name}: no item within {self._timeout_s:g} s") from None
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        if self._exchange is None:
            self._exchange = self._client._session.nothing(self._event)
        self._client._session.leave(self._exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The collector runs anywhere, also where this thread is sending.
        if self._exchange is not None and not self._exchange.ended:
            self._client._spawn(partial(self._client._session.leave, self._exchange))


class RoomViewSync(Generic[_PushT]):
    """As RoomView, for threads."""

    def __init__(self, client: _ClientSync[_PushT], name: str) -> None:
        self._client, self.name = client, name

    @property
    def _state(self) -> _RoomState:
        return self._client._session.rooms.get(self.name) or _RoomState()

    @property
    def position(self) -> RoomPosition | None:
        """How far it was read; None where it keeps no history, or was not joined."""
        return self._state.position

    @property
    def members(self) -> Mapping[str, Any]:
        """Who is there: metas by their ids. As it was last told, also while there is no connection."""
        return self._state.members

    def pushes(self, kind: type[_P]) -> PushStreamSync[_P]:
        """Those of one type, from now on."""
        return self._client._pushes(kind, self.name)

    def __iter__(self) -> PushStreamSync[_PushT]:
        return self._client._pushes(None, self.name)

    def on(self, kind: type[_P], callback: Callable[[_P], object]) -> Callable[[], None]:
        """Call back for each push of this type to this room; what is returned stops it."""
        return self._client._on(kind, self.name, callback)

    def forget(self) -> None:
        """The application has left the room: it is not entered again by itself after a reconnect."""
        self._client._session.rooms.pop(self.name, None)


class _ClientSync(Generic[_PushT]):
    """What every client can do; the generated class has a method for each event."""

    def __init__(self, channel: _Channel, url: str, parameters: _Parameters, options: ClientOptionsSync) -> None:
        self._channel, self._options = channel, options
        self._url, self._parameters = _with_path(url, parameters.path), parameters
        self._session = _Session(
            channel,
            threading.Event,
            max_pushes=options.get("max_pushes", 1000),
            max_items=options.get("max_items", 10_000),
            max_offline=options.get("max_offline", 100),
        )
        self._session.post = lambda frame: self._spawn(partial(self._send, frame))
        self._session.asked, self._session.failed = self._asked, self._failed
        self._main = self._session.listen(quiet=True)
        self._all: PushStreamSync[_PushT] = PushStreamSync(self._session, self._main)
        self._heard: _Listener[threading.Event] | None = None  # what `on` calls back with
        self._state: ClientState = "waiting"
        self._connection: _SyncConnection | None = None
        self._opening: int | None = None  # the thread that calls back for `on_open`
        self._runner: threading.Thread | None = None
        self._opened = threading.Event()  # the first connection is there, or never will
        self._closing = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._callbacks: list[tuple[type[Any], str | None, Callable[[Any], object]]] = []
        self._answers: dict[str, Callable[[Any], object]] = {}
        self._on_open: list[Callable[[ConnectionOpened], object]] = []
        self._on_state: list[Callable[[ClientState], object]] = []
        self._on_error: list[Callable[[RequestError], object]] = []

    # Its life

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connect. Raises Disconnected where that is not possible, unless `wait_for_server`. `with` does it."""
        if self._runner is not None:
            raise RuntimeError("a client is opened once; make another one")
        self._runner = self._spawn(self._run)
        self._start_dispatcher()
        try:
            self._opened.wait()
            if self._session.ended is not None:
                raise self._session.ended.again()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection with 1000, end all that waits, and leave no thread behind. Once is enough."""
        self._closing.set()
        self._session.end(Disconnected("the client was closed", code=1000), quietly=True)
        self._opened.set()
        connection = self._connection
        if connection is not None:
            connection.close()
        for thread in self._threads - {threading.current_thread()}:
            thread.join()
        self._change("closed")

    @property
    def state(self) -> ClientState:
        return self._state

    def _change(self, state: ClientState) -> None:
        if state != self._state:
            self._state = state
            for callback in tuple(self._on_state):
                self._call(callback, state)

    def _run(self) -> None:
        """Connect, and connect again, until there is no use in it, or the client is closed."""
        attempt, reconnected = 0, False
        while not self._closing.is_set():
            self._change("connecting")
            began = time.monotonic()
            error, has_served = self._serve(reconnected)
            reconnected = reconnected or has_served
            may_wait = self._opened.is_set() or has_served or self._options.get("wait_for_server", False)
            if not may_wait or not _may_come_back(error):
                self._give_up(error)
                return
            if has_served and time.monotonic() - began > _STABLE_S:
                attempt = 0
            if not self._closing.is_set():
                self._change("waiting")
                self._closing.wait(self._options.get("backoff", _backoff)(attempt))
            attempt += 1

    def _give_up(self, error: Disconnected) -> None:
        self._session.end(error, quietly=error.code == 1000)
        self._change("closed")
        self._opened.set()

    def _serve(self, reconnected: bool) -> tuple[Disconnected, bool]:
        """One connection, until it has ended: why, and whether there was one."""
        has_served = False
        try:
            with self._connect() as connection:
                has_served = True
                self._connection, known = connection, self._session.resumable()
                reader = self._spawn(partial(self._read, connection))
                if self._closing.is_set():
                    connection.close()
                self._greet(reconnected, known)
                reader.join()
            return _closed(connection.close_code, connection.close_reason), True
        except Exception as exc:
            return _why(exc), has_served

    def _connect(self) -> _SyncConnection:
        options = self._options
        request = _request(
            self._channel,
            self._url,
            self._parameters,
            _value_sync(options.get("token")),
            _value_sync(options.get("headers", {})),
            _value_sync(options.get("query", {})),
        )
        connection: _SyncConnection = _connect_sync(
            request.url,
            additional_headers=request.headers,
            subprotocols=_offered(self._channel, options.get("subprotocols")),
            **_with_turns(request.url, {"max_size": _MAX_SIZE, **options.get("connect", {})}),
        )
        return connection

    def _read(self, connection: _SyncConnection) -> None:
        try:
            while True:
                self._session.received([_received(connection, self._channel)])
        except ConnectionClosed:
            self._connection = None
            if not self._closing.is_set():
                self._change("waiting")
            self._session.lost(_closed(connection.close_code, connection.close_reason))

    def _greet(self, reconnected: bool, known: Mapping[str, Any]) -> None:
        """Resume, let the application sign in, send what waited: in this order, and before anything else is sent."""
        self._opening = threading.get_ident()
        try:
            opened = ConnectionOpened(reconnected, self._resume(known))
            for callback in tuple(self._on_open):
                self._call(callback, opened)
        except Disconnected:
            return
        finally:
            self._opening = None
        while self._connection is not None:
            exchange = self._session.next_waiting()
            if exchange is None:
                if self._connection is None:  # lost meanwhile, which the reader has told before it was open
                    self._session.lost(_closed(None, None))
                    return
                self._change("open")
                self._opened.set()
                return
            self._transmit(exchange)

    def _resume(self, rooms: Mapping[str, Any]) -> dict[str, bool]:
        if not rooms:
            return {}
        try:
            return self._session.resumed(self._ask(_RESUME, {"rooms": rooms}))
        except (RequestError, InvalidMessage, TimeoutError) as exc:
            _log.warning("%s: the rooms could not be resumed: %s", self._channel.name, exc)
            return self._session.resumed(_Resumed({room: _RoomResumed(recovered=False) for room in rooms}))

    # What is sent

    def _ask(
        self,
        event: _Event[_R],
        fields: Mapping[str, Any],
        timeout_s: float | None = None,
        retry: bool = False,
        items: Iterable[Any] | None = None,
    ) -> _R:
        limit = self._options.get("timeout_s", 30.0) if timeout_s is None else timeout_s
        exchange = self._session.begin(event, fields, retry=retry)
        try:
            self._feed(exchange, items)
            self._deliver(exchange)
            return cast(_R, _next_sync(exchange, time.monotonic() + limit))
        except TimeoutError:
            raise TimeoutError(f"{event.name}: no answer within {limit:g} s") from None
        finally:
            self._session.leave(exchange)

    def _stream(
        self,
        event: _Event[_R],
        fields: Mapping[str, Any],
        timeout_s: float | None = None,
        items: Iterable[Any] | None = None,
    ) -> ItemStreamSync[_R]:
        return ItemStreamSync(self, event, fields, timeout_s, items)

    def _deliver(self, exchange: _Exchange[threading.Event]) -> None:
        if self._runner is None:
            raise RuntimeError("the client is not open: `with` opens it, and so does `open`")
        if self._session.may_send(exchange, first=self._opening == threading.get_ident()):
            self._transmit(exchange)

    def _transmit(self, exchange: _Exchange[threading.Event]) -> None:
        if self._send(exchange.frame):
            self._session.sent(exchange)
        else:
            self._session.unsent(exchange, Disconnected("the connection was lost"))

    def _send(self, frame: bytes) -> bool:
        """Whether it was handed over."""
        connection = self._connection
        if connection is None:
            return False
        try:
            connection.send(frame, text=True)
        except ConnectionClosed:
            return False
        return True

    def _send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """A binary frame. It waits for no connection: what is late is of no use."""
        if self._runner is None:
            raise RuntimeError("the client is not open: `with` opens it, and so does `open`")
        connection = self._connection
        if connection is None or not (self._session.is_open or self._opening == threading.get_ident()):
            raise self._session.ended.again() if self._session.ended is not None else Disconnected("not connected")
        try:
            connection.send(data, text=False)
        except ConnectionClosed:
            raise Disconnected("the connection was lost") from None

    def _feed(self, exchange: _Exchange[threading.Event], items: Iterable[Any] | None) -> None:
        if items is not None:
            self._spawn(partial(self._upload, exchange, items))

    def _upload(self, exchange: _Exchange[threading.Event], items: Iterable[Any]) -> None:
        try:
            for item in items:
                while exchange.must_wait():
                    exchange.credited.wait()
                if exchange.ended:
                    return
                exchange.credit -= 1
                self._send(self._session.frame("item", exchange.ref, item=item))
            while exchange.must_wait_to_begin():
                exchange.credited.wait()
            if not exchange.ended:
                self._send(self._session.frame("complete", exchange.ref))
        except Exception as exc:  # of the application's own items: whoever uploads them gets it
            self._session.leave(exchange, exc)

    def _spawn(self, work: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name=f"{self._channel.name} client", daemon=True)
        self._threads.add(thread)
        thread.start()
        return thread

    # What comes

    def __iter__(self) -> PushStreamSync[_PushT]:
        """All pushes; the newest of those that came before, too. All iterations of a client take from the same."""
        self._main.quiet = False
        return self._all

    def pushes(self, kind: type[_P]) -> PushStreamSync[_P]:
        """Those of one type, from now on. As many streams as you like: each gets them all."""
        return self._pushes(kind, None)

    def _pushes(self, kind: type[Any] | None, room: str | None) -> PushStreamSync[Any]:
        return PushStreamSync(self._session, self._session.listen(kind, room))

    def on(self, kind: type[_P], callback: Callable[[_P], object]) -> Callable[[], None]:
        """
        Call back for each push of this type, in a thread of the client's own, one after the other, in the order of all
        that came. What is returned stops it. What it raises is logged.
        """
        return self._on(kind, None, callback)

    def _on(self, kind: type[Any], room: str | None, callback: Callable[[Any], object]) -> Callable[[], None]:
        self._session.check(kind)
        remove = _added(self._callbacks, (kind, room, callback))
        if self._heard is None:
            self._heard = self._session.listen(tells_room=True)
            if self._runner is not None:
                self._start_dispatcher()
        return remove

    def _start_dispatcher(self) -> None:
        if self._heard is not None:
            self._spawn(partial(self._dispatch, self._heard))

    def _dispatch(self, heard: _Listener[threading.Event]) -> None:
        while True:
            try:
                push, room = _next_sync(heard)
            except Overrun as exc:
                _log.warning("%s: %s", self._channel.name, exc)
                continue
            except (_Ended, Disconnected):
                return
            for kind, wanted, callback in tuple(self._callbacks):
                if isinstance(push, kind) and wanted in (None, room):
                    self._call(callback, push)

    def _call(self, callback: Callable[[Any], object], value: Any) -> None:
        try:
            callback(value)
        except Exception:
            _log.exception("%s: a callback failed", self._channel.name)

    def room(self, name: str) -> RoomViewSync[_PushT]:
        """What is known of a room, and its pushes."""
        return RoomViewSync(self, name)

    def on_open(self, callback: Callable[[ConnectionOpened], object]) -> Callable[[], None]:
        """
        Call back, and wait for it, whenever a connection is open, before anything is sent that waited for it: to sign
        in, to enter rooms again. Register it before `with`, for the first one.
        """
        return _added(self._on_open, callback)

    def on_state(self, callback: Callable[[ClientState], object]) -> Callable[[], None]:
        """Call back when `state` changes, in a thread of the client's own."""
        return _added(self._on_state, callback)

    def on_error(self, callback: Callable[[RequestError], object]) -> Callable[[], None]:
        """Call back for errors of messages that have no answer if all is well. Without any, they are logged."""
        return _added(self._on_error, callback)

    def _failed(self, error: RequestError) -> None:
        if not self._on_error:
            _log.warning("%s: %s", self._channel.name, error)
        for callback in tuple(self._on_error):
            self._spawn(partial(self._call, callback, error))

    def _handle(self, kind: type[Any], answer: Callable[[Any], object]) -> None:
        self._answers[self._session.name_of_call(kind)] = answer

    def _asked(self, kind: str, ref: Any, question: Any) -> None:
        self._spawn(partial(self._answer, kind, ref, question))

    def _answer(self, kind: str, ref: Any, question: Any) -> None:
        try:
            if kind not in self._answers:
                raise CallRefused("unsupported", f"this client does not answer {kind}")
            frame = self._session.frame("reply", ref, answer=self._answers[kind](question))
        except CallRefused as exc:
            frame = self._session.frame("reply", ref, error={"code": exc.code, "message": exc.message})
        except Exception:
            _log.exception("%s: the answer to %s failed", self._channel.name, kind)
            frame = self._session.frame("reply", ref, error={"code": "internal_error", "message": ""})
        self._send(frame)


def _received(connection: _SyncConnection, channel: _Channel) -> bytes:
    """The next message as bytes. Telling binary frames costs a look at the text, and is done where there are some."""
    if not channel.binary:
        return connection.recv(decode=False)
    data = connection.recv()
    return data.encode() if isinstance(data, str) else _BinaryFrame(data)


def _value_sync(given: Any) -> Any:
    """An option, or what its function gives."""
    return given() if callable(given) else given
