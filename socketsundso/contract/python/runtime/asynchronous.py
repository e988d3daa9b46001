"""
A generated Python client for asyncio. A part of the file that `python` writes.

One task keeps the connection, as long as the client is open; messages are read in the event loop's own callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, cast

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from socketsundso.contract.python.runtime.frames import _Connection
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
    _PushT,
    _RoomState,
)

_Items = AsyncIterable[_R] | Iterable[_R]

_opening: ContextVar[_Connection | None] = ContextVar("opening", default=None)
"""In callbacks of `on_open`, their connection: what they ask is sent before everything that waits for it."""


class ClientOptions(TypedDict, total=False):
    """
    `token`, `headers` and `query` of the handshake may be functions, also async ones: they are asked for each attempt.

    `timeout_s` (30) is how long a request waits for its answer, also while there is no connection; `math.inf` is for
    ever. `max_pushes` (1,000) are kept for who reads them late, `max_items` (10,000) of a stream; `max_offline` (100)
    requests wait for a connection. `backoff` gives the seconds before the attempt of this number, from 0 on. With
    `wait_for_server` the first connection is tried as often as any later one, where otherwise its failure is raised.
    `connect` is for websockets: `{"ssl": ..., "proxy": ..., "ping_interval": ...}`.
    """

    token: str | Callable[[], str | Awaitable[str]]
    headers: Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]]
    query: Mapping[str, Any] | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
    subprotocols: Sequence[str]
    timeout_s: float
    max_pushes: int
    max_items: int
    max_offline: int
    backoff: Callable[[int], float]
    wait_for_server: bool
    connect: Mapping[str, Any]


async def _next(source: _Source[asyncio.Event]) -> Any:
    while True:
        for item in source.take():
            return item
        await source.changed.wait()


class PushStream(Generic[_PushT]):
    """
    Pushes, in the order in which they came. It begins with the first that comes after it was made, and ends with the
    client: quietly where that was closed on purpose, else with Disconnected. Overrun where more came than are kept.
    """

    def __init__(self, session: _Session[asyncio.Event], listener: _Listener[asyncio.Event]) -> None:
        self._session, self._listener = session, listener

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _PushT:
        listener = self._listener
        if listener.items and not listener.dropped:
            return cast(_PushT, listener.items.popleft())
        try:
            return cast(_PushT, await _next(listener))
        except _Ended:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """No more is kept for it; what is here already may be read."""
        self._session.unlisten(self._listener)

    def __del__(self) -> None:
        self._session.unlisten(self._listener)


class ItemStream(Generic[_R]):
    """
    The answers to one message. It is sent when the first of them is asked for. Who leaves the loop cancels it; so do
    `aclose` and `async with`, which do not rely on the garbage collector.
    """

    def __init__(
        self,
        client: _Client[Any],
        event: _Event[_R],
        fields: Mapping[str, Any],
        timeout_s: float | None,
        items: _Items[Any] | None,
    ) -> None:
        self._client, self._event, self._fields, self._items = client, event, fields, items
        self._timeout_s = timeout_s
        self._exchange: _Exchange[asyncio.Event] | None = None
        self._feeder: asyncio.Task[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _R:
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._exchange is None:
                    self._exchange = self._client._session.begin(self._event, self._fields)
                    self._feeder = self._client._feed(self._exchange, self._items)
                    await self._client._deliver(self._exchange)
                return cast(_R, await _next(self._exchange))
        except _Ended:
            raise StopAsyncIteration from None
        except TimeoutError:
            self._leave()
            raise TimeoutError(f"{self._event.name}: no item within {self._timeout_s:g} s") from None
        except Exception:
            self._leave()
            raise

    async def aclose(self) -> None:
        self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._exchange is None:
            self._exchange = self._client._session.nothing(self._event)
        self._client._abandon(self._exchange, self._feeder)

    def __del__(self) -> None:
        if self._exchange is not None and not self._exchange.ended:
            self._client._from_any_thread(partial(self._client._abandon, self._exchange, self._feeder))


class RoomView(Generic[_PushT]):
    """What is known of a room, and its pushes. It joins nothing: joining is an event of the application."""

    def __init__(self, client: _Client[_PushT], name: str) -> None:
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

    def pushes(self, kind: type[_P]) -> PushStream[_P]:
        """Those of one type, from now on."""
        return self._client._pushes(kind, self.name)

    def __aiter__(self) -> PushStream[_PushT]:
        return self._client._pushes(None, self.name)

    def on(self, kind: type[_P], callback: Callable[[_P], object]) -> Callable[[], None]:
        """Call back for each push of this type to this room; what is returned stops it."""
        return self._client._on(kind, self.name, callback)

    def forget(self) -> None:
        """The application has left the room: it is not entered again by itself after a reconnect."""
        self._client._session.rooms.pop(self.name, None)


class _Client(Generic[_PushT]):
    """What every client can do; the generated class has a method for each event."""

    def __init__(self, channel: _Channel, url: str, parameters: _Parameters, options: ClientOptions) -> None:
        self._channel, self._options = channel, options
        self._url, self._parameters = _with_path(url, parameters.path), parameters
        self._session = _Session(
            channel,
            asyncio.Event,
            max_pushes=options.get("max_pushes", 1000),
            max_items=options.get("max_items", 10_000),
            max_offline=options.get("max_offline", 100),
        )
        self._session.post = lambda frame: self._spawn(self._send(frame))
        self._session.asked, self._session.unasked = self._asked, self._unasked
        self._session.failed = self._failed
        self._main = self._session.listen(quiet=True)
        self._all: PushStream[_PushT] = PushStream(self._session, self._main)
        self._heard: _Listener[asyncio.Event] | None = None  # what `on` calls back with
        self._state: ClientState = "waiting"
        self._connection: _Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened: asyncio.Future[None] | None = None  # the first connection, or why there is none
        self._runner: asyncio.Task[None] | None = None
        self._dispatcher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()  # what else runs for it
        self._answering: dict[Any, asyncio.Task[None]] = {}  # the server's calls
        self._callbacks: list[tuple[type[Any], str | None, Callable[[Any], object]]] = []
        self._answers: dict[str, Callable[[Any], object]] = {}
        self._on_open: list[Callable[[ConnectionOpened], object]] = []
        self._on_state: list[Callable[[ClientState], object]] = []
        self._on_error: list[Callable[[RequestError], object]] = []

    # Its life

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect. Raises Disconnected where that is not possible, unless `wait_for_server`. `async with` does it."""
        if self._runner is not None:
            raise RuntimeError("a client is opened once; make another one")
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._runner = self._loop.create_task(self._keep())
        self._start_dispatcher()
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection with 1000, end all that waits, and leave nothing behind. Once is enough."""
        self._session.end(Disconnected("the client was closed", code=1000), quietly=True)
        self._session.unlisten(self._main)
        running = {self._runner, self._dispatcher, *self._tasks, *self._answering.values()} - {asyncio.current_task()}
        tasks = [task for task in running if task is not None]
        for task in tasks:
            task.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._change("closed")

    @property
    def state(self) -> ClientState:
        return self._state

    def _change(self, state: ClientState) -> None:
        if state != self._state:
            self._state = state
            for callback in tuple(self._on_state):
                self._call_now(callback, state)

    async def _keep(self) -> None:
        try:
            await self._run()
        except Exception as exc:
            _log.exception("%s: the client has failed", self._channel.name)
            self._give_up(_why(exc))

    async def _run(self) -> None:
        """Connect, and connect again, until there is no use in it, or the task is cancelled."""
        attempt, reconnected = 0, False
        while True:
            self._change("connecting")
            try:
                connection = await self._connect()
            except Exception as exc:
                error = _why(exc)
                is_hopeless = self._is_first() and not self._options.get("wait_for_server")
                if is_hopeless or not _may_come_back(error):
                    return self._give_up(error)
                _log.info("%s: %s", self._channel.name, error)
            else:
                began = connection.loop.time()
                error = await self._serve(connection, reconnected)
                reconnected = True
                if not _may_come_back(error):
                    return self._give_up(error)
                if connection.loop.time() - began > _STABLE_S:
                    attempt = 0
            self._change("waiting")
            await asyncio.sleep(self._options.get("backoff", _backoff)(attempt))
            attempt += 1

    def _is_first(self) -> bool:
        return self._opened is not None and not self._opened.done()

    def _give_up(self, error: Disconnected) -> None:
        self._session.end(error, quietly=error.code == 1000)
        self._change("closed")
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(error)

    async def _connect(self) -> _Connection:
        options = self._options
        request = _request(
            self._channel,
            self._url,
            self._parameters,
            await _value(options.get("token")),
            await _value(options.get("headers", {})),
            await _value(options.get("query", {})),
        )
        settings = {"max_size": _MAX_SIZE, **options.get("connect", {})}
        return cast(
            _Connection,
            await connect(
                request.url,
                additional_headers=request.headers,
                subprotocols=_offered(self._channel, options.get("subprotocols")),
                create_connection=cast(Any, partial(_Connection, max_size=settings["max_size"])),
                **settings,
            ),
        )

    async def _serve(self, connection: _Connection, reconnected: bool) -> Disconnected:
        """Until the connection has ended; why."""
        self._connection, known = connection, self._session.resumable()
        connection.start(self._session.received)
        opening = asyncio.create_task(self._greet(connection, reconnected, known))
        error = _closed(1000, "")
        try:
            await connection.wait_closed()
            error = _closed(connection.close_code, connection.close_reason)
        finally:
            self._connection = None
            if self._session.ended is None:
                self._change("waiting")
            self._session.lost(error)
            ended = {opening, *self._answering.values()}
            for task in ended:
                task.cancel()
            await connection.close()
            await asyncio.gather(*ended, return_exceptions=True)
        failure = None if opening.cancelled() else opening.exception()
        if failure is not None and not isinstance(failure, Disconnected):
            raise failure
        return error

    async def _greet(self, connection: _Connection, reconnected: bool, known: Mapping[str, Any]) -> None:
        """Resume, let the application sign in, send what waited: in this order, and before anything else is sent."""
        _opening.set(connection)
        opened = ConnectionOpened(reconnected, await self._resume(known))
        for callback in tuple(self._on_open):
            await self._call(callback, opened)
        _opening.set(None)
        while (exchange := self._session.next_waiting()) is not None:
            await self._transmit(exchange)
        self._change("open")
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(None)

    async def _resume(self, rooms: Mapping[str, Any]) -> dict[str, bool]:
        if not rooms:
            return {}
        try:
            return self._session.resumed(await self._ask(_RESUME, {"rooms": rooms}))
        except (RequestError, InvalidMessage, TimeoutError) as exc:
            _log.warning("%s: the rooms could not be resumed: %s", self._channel.name, exc)
            return self._session.resumed(_Resumed({room: _RoomResumed(recovered=False) for room in rooms}))

    # What is sent

    async def _ask(
        self,
        event: _Event[_R],
        fields: Mapping[str, Any],
        timeout_s: float | None = None,
        retry: bool = False,
        items: _Items[Any] | None = None,
    ) -> _R:
        limit = self._options.get("timeout_s", 30.0) if timeout_s is None else timeout_s
        exchange = self._session.begin(event, fields, retry=retry)
        feeder: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(limit if limit < math.inf else None):
                feeder = self._feed(exchange, items)
                await self._deliver(exchange)
                return cast(_R, await _next(exchange))
        except TimeoutError:
            raise TimeoutError(f"{event.name}: no answer within {limit:g} s") from None
        finally:
            self._abandon(exchange, feeder)

    def _stream(
        self,
        event: _Event[_R],
        fields: Mapping[str, Any],
        timeout_s: float | None = None,
        items: _Items[Any] | None = None,
    ) -> ItemStream[_R]:
        return ItemStream(self, event, fields, timeout_s, items)

    async def _deliver(self, exchange: _Exchange[asyncio.Event]) -> None:
        if self._runner is None:
            raise RuntimeError("the client is not open: `async with` opens it, and so does `open`")
        is_opening = self._connection is not None and _opening.get() is self._connection
        if self._session.may_send(exchange, first=is_opening):
            await self._transmit(exchange)

    async def _transmit(self, exchange: _Exchange[asyncio.Event]) -> None:
        if await self._send(exchange.frame):
            self._session.sent(exchange)
        else:
            self._session.unsent(exchange, Disconnected("the connection was lost"))

    async def _send(self, frame: bytes) -> bool:
        """Whether it was handed over."""
        if self._connection is None:
            return False
        try:
            await self._connection.send(frame, text=True)
        except ConnectionClosed:
            return False
        return True

    async def _send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """A binary frame. It waits for no connection: what is late is of no use."""
        if self._runner is None:
            raise RuntimeError("the client is not open: `async with` opens it, and so does `open`")
        connection = self._connection
        if connection is None or not (self._session.is_open or _opening.get() is connection):
            raise self._session.ended.again() if self._session.ended is not None else Disconnected("not connected")
        try:
            await connection.send(data, text=False)
        except ConnectionClosed:
            raise Disconnected("the connection was lost") from None

    def _abandon(self, exchange: _Exchange[asyncio.Event], feeder: asyncio.Task[None] | None) -> None:
        if feeder is not None:
            feeder.cancel()
        self._session.leave(exchange)

    def _feed(self, exchange: _Exchange[asyncio.Event], items: _Items[Any] | None) -> asyncio.Task[None] | None:
        return None if items is None else self._spawn(self._upload(exchange, items))

    async def _upload(self, exchange: _Exchange[asyncio.Event], items: _Items[Any]) -> None:
        try:
            async for item in _iterate(items):
                while exchange.must_wait():
                    await exchange.credited.wait()
                if exchange.ended:
                    return
                exchange.credit -= 1
                await self._send(self._session.frame("item", exchange.ref, item=item))
            while exchange.must_wait_to_begin():
                await exchange.credited.wait()
            if not exchange.ended:
                await self._send(self._session.frame("complete", exchange.ref))
        except Exception as exc:  # of the application's own items: whoever uploads them gets it
            self._session.leave(exchange, exc)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _from_any_thread(self, call: Callable[[], object]) -> None:
        """Where the garbage collector may be; a loop that is closed has nothing to do any more."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call)

    # What comes

    def __aiter__(self) -> PushStream[_PushT]:
        """All pushes; the newest of those that came before, too. All iterations of a client take from the same."""
        self._main.quiet = False
        return self._all

    def pushes(self, kind: type[_P]) -> PushStream[_P]:
        """Those of one type, from now on. As many streams as you like: each gets them all."""
        return self._pushes(kind, None)

    def _pushes(self, kind: type[Any] | None, room: str | None) -> PushStream[Any]:
        return PushStream(self._session, self._session.listen(kind, room))

    def on(self, kind: type[_P], callback: Callable[[_P], object]) -> Callable[[], None]:
        """
        Call back for each push of this type, one after the other, in the order of all that came: an async callback is
        waited for before the next one is called. What is returned stops it. What it raises is logged.
        """
        return self._on(kind, None, callback)

    def _on(self, kind: type[Any], room: str | None, callback: Callable[[Any], object]) -> Callable[[], None]:
        self._session.check(kind)
        remove = _added(self._callbacks, (kind, room, callback))
        if self._heard is None:
            self._heard = self._session.listen(tells_room=True)
            self._start_dispatcher()
        return remove

    def _start_dispatcher(self) -> None:
        if self._heard is not None and self._loop is not None:
            self._dispatcher = self._loop.create_task(self._dispatch(self._heard))

    async def _dispatch(self, heard: _Listener[asyncio.Event]) -> None:
        while True:
            try:
                push, room = await _next(heard)
            except Overrun as exc:
                _log.warning("%s: %s", self._channel.name, exc)
                continue
            except (_Ended, Disconnected):
                return
            for kind, wanted, callback in tuple(self._callbacks):
                if isinstance(push, kind) and wanted in (None, room):
                    await self._call(callback, push)

    def _call_now(self, callback: Callable[[Any], object], value: Any) -> None:
        try:
            result = callback(value)
        except Exception:
            _log.exception("%s: a callback failed", self._channel.name)
        else:
            if inspect.isawaitable(result):
                self._spawn(self._call(lambda _: result, value))

    async def _call(self, callback: Callable[[Any], object], value: Any) -> None:
        try:
            result = callback(value)
            if inspect.isawaitable(result):
                await result
        except Exception:
            _log.exception("%s: a callback failed", self._channel.name)

    def room(self, name: str) -> RoomView[_PushT]:
        """What is known of a room, and its pushes."""
        return RoomView(self, name)

    def on_open(self, callback: Callable[[ConnectionOpened], object]) -> Callable[[], None]:
        """
        Call back, and wait for it, whenever a connection is open, before anything is sent that waited for it: to sign
        in, to enter rooms again. Register it before `async with`, for the first one.
        """
        return _added(self._on_open, callback)

    def on_state(self, callback: Callable[[ClientState], object]) -> Callable[[], None]:
        """Call back when `state` changes."""
        return _added(self._on_state, callback)

    def on_error(self, callback: Callable[[RequestError], object]) -> Callable[[], None]:
        """Call back for errors of messages that have no answer if all is well. Without any, they are logged."""
        return _added(self._on_error, callback)

    def _failed(self, error: RequestError) -> None:
        if not self._on_error:
            _log.warning("%s: %s", self._channel.name, error)
        for callback in tuple(self._on_error):
            self._spawn(self._call(callback, error))

    def _handle(self, kind: type[Any], answer: Callable[[Any], object]) -> None:
        self._answers[self._session.name_of_call(kind)] = answer

    def _asked(self, kind: str, ref: Any, question: Any) -> None:
        task = self._answering[ref] = asyncio.get_running_loop().create_task(self._answer(kind, ref, question))
        task.add_done_callback(lambda _: self._answering.pop(ref, None))

    def _unasked(self, ref: Any) -> None:
        task = self._answering.get(ref)
        if task is not None:
            task.cancel()

    async def _answer(self, kind: str, ref: Any, question: Any) -> None:
        try:
            if kind not in self._answers:
                raise CallRefused("unsupported", f"this client does not answer {kind}")
            answer = self._answers[kind](question)
            frame = self._session.frame("reply", ref, answer=await answer if inspect.isawaitable(answer) else answer)
        except CallRefused as exc:
            frame = self._session.frame("reply", ref, error={"code": exc.code, "message": exc.message})
        except Exception:
            _log.exception("%s: the answer to %s failed", self._channel.name, kind)
            frame = self._session.frame("reply", ref, error={"code": "internal_error", "message": ""})
        await self._send(frame)


async def _value(given: Any) -> Any:
    """An option, or what its function gives."""
    value = given() if callable(given) else given
    return await value if inspect.isawaitable(value) else value


async def _iterate(items: _Items[_R]) -> AsyncIterator[_R]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
