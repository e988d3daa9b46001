"""
`WebSocketHandlingEndpoint`: collects handlers, and lives the life of one connection.

Connect, receive, call, answer, disconnect: one task per connection, one message at a time. A message is taken when
the handler before it is done, so nothing queues in here; the server holds back a peer that sends faster.

The loop calls ASGI's `receive` and `send` itself, or what our own server has instead (`wire`), since the checks of
Starlette's `WebSocket` cost a tenth of a round trip; the `WebSocket` that users see keeps its state right.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, ClassVar

import anyio
from pydantic_core import ValidationError
from starlette.exceptions import HTTPException, WebSocketException
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from socketsundso.errors import BackplaneUnavailable, DefinitionError, EventError, FrameError, did_you_mean
from socketsundso.handler import Handler, type_arguments
from socketsundso.handler import event as event_decorator
from socketsundso.messages import (
    UNDECODABLE,
    Decoder,
    ErrorPolicy,
    Frame,
    MessageError,
    Ref,
    Refused,
    ResponseError,
    Route,
    append_ref,
    error_frame,
)
from socketsundso.rooms import Membership
from socketsundso.wire import Writer, source_of, writer_of

logger = logging.getLogger("socketsundso")

_FAREWELL_S = 10.0  # how long `on_disconnect` may take while the server shuts down
_CODE_S = 1.0  # how long to wait for the close code of a peer that is gone

# What the running code answers: the route and `ref` of the message whose handler it is, or was started by.
_answering: ContextVar[tuple[Route | None, Ref | None] | None] = ContextVar("socketsundso_answering", default=None)

# The reply that has just been validated, while an overridden `respond` has it.
_valid: ContextVar[Any] = ContextVar("socketsundso_valid", default=None)


class Handlers(MutableMapping[str, Any]):
    """The handlers by event. Changing them recompiles their endpoint: the class's, or one instance's own."""

    def __init__(self, handlers: Mapping[str, Any], changed: Callable[[dict[str, Any], list[str]], None]) -> None:
        self._handlers = dict(handlers)
        self._changed = changed

    def __getitem__(self, event: str) -> Any:
        return self._handlers[event]

    def __setitem__(self, event: str, handler: Any) -> None:
        if not isinstance(_unbound(handler), Handler):
            raise DefinitionError(f"event {event!r}: {handler!r} is no handler; wrap it with Handler({event!r}, ...)")
        self._change({**self._handlers, event: handler}, event)

    def __delitem__(self, event: str) -> None:
        rest = dict(self._handlers)
        del rest[event]
        self._change(rest, event)

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._handlers!r})"

    def _change(self, handlers: dict[str, Any], event: str) -> None:
        self._changed(handlers, [event])  # raises for what cannot be compiled, and then nothing has changed
        self._handlers = handlers


def _unbound(handler: Any) -> Any:
    return getattr(handler, "__func__", handler)


class _HandlersAttribute:
    """`Cls.handlers` is the class's own mapping; `self.handlers` one of the instance's, with `self` bound."""

    def __get__(self, instance: Any, owner: Any) -> Handlers:
        if instance is None:
            return owner._handlers  # type: ignore[no-any-return]  # each class's own
        own = instance.__dict__.get("_own_handlers")
        if own is None:
            bound = {event: handler.bound_to(instance) for event, handler in owner._handlers.items()}
            own = instance.__dict__["_own_handlers"] = Handlers(bound, instance._recompile)
        return own  # type: ignore[no-any-return]  # from __dict__


class _ASGIClass:
    """
    Lets an endpoint class itself be an ASGI application: `await Chat(scope, receive, send)`.

    A class of its own below the endpoint's, so that `inspect.signature(Chat)` shows `__init__`, in which FastAPI
    looks for dependencies.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 3 and not kwargs and isinstance(args[0], MutableMapping):
            return cls._asgi(*args)
        return super().__new__(cls)

    @classmethod
    def _asgi(cls, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "websocket":  # no coroutine around the one that lives as long as the connection
            endpoint: WebSocketHandlingEndpoint = cls(WebSocket(scope, receive, send))
            return endpoint.dispatch()
        return _without_websocket(scope, receive, send)


async def _without_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        headers = {"upgrade": "websocket", "connection": "Upgrade"}
        await PlainTextResponse("This is a WebSocket endpoint.\n", 426, headers)(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _lifespan(receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


class WebSocketHandlingEndpoint(Membership, _ASGIClass):
    """
    A WebSocket API: one class, one instance per connection, one handler per event.

        class Chat(WebSocketHandlingEndpoint):
            @event
            async def on_message(self, room: str, msg: str) -> Posted: ...

    Mount it as `WebSocketRoute("/ws", Chat)`, with FastAPI's `@app.websocket("/ws")`, or serve the class itself.
    Override `on_connect`, `on_disconnect`, `respond` or `send_exception` to change what they do. The class keyword
    `overwrite_existing=False` refuses handlers for events that a base class has.

    Class attributes: `ref_key`, the key that requests and their answers share; `include_input=False` keeps what
    peers sent out of error frames; `disclose_events=False` does not list the events to who asks for an unknown one;
    `max_errors` and `max_error_bytes` bound an error frame; `legacy_errors` restores 0.0.x's, which has only
    `errors`.
    """

    ref_key: ClassVar[str] = "ref"
    include_input: ClassVar[bool] = True
    disclose_events: ClassVar[bool] = True
    max_errors: ClassVar[int] = 100
    max_error_bytes: ClassVar[int] = 65_536
    legacy_errors: ClassVar[bool] = False

    handlers = _HandlersAttribute()
    websocket: WebSocket

    _handlers: ClassVar[Handlers]
    _routes: ClassVar[dict[str, Route]] = {}
    _decoder: Decoder = Decoder({})
    _error_policy: ClassVar[ErrorPolicy] = ErrorPolicy()
    _responds_plainly: ClassVar[bool] = True

    # The state of a connection. On the class until it differs: an idle connection stays small.
    _receive: Receive
    _send: Send
    _writer: Writer | None
    _accepted = False
    _closed: int | None = None  # the code this side closed with
    _gone = False  # a send failed: the peer is not there any more

    # ------------------------------------------------------------------ definition

    def __init_subclass__(cls, /, overwrite_existing: bool = True, **kwargs: Any) -> None:
        try:
            super().__init_subclass__(**kwargs)
        except TypeError as exc:
            meant = "".join(did_you_mean(name, ("overwrite_existing",)) for name in kwargs)
            raise DefinitionError(f"class {cls.__name__}: {exc}{meant}") from exc
        handlers = _inherited(cls)
        if _unbound(handlers.get("resume")) is _RESUME:
            del handlers["resume"]  # not declared by anybody: it comes with the history that this class has or not
        for event, handler in _declared(cls).items():
            if event in handlers and not overwrite_existing:
                raise DefinitionError(
                    f"event {event!r}: {cls.__name__} would overwrite an inherited handler; "
                    "allow it with the class keyword overwrite_existing=True"
                )
            handlers[event] = handler
        _restore_methods(cls)
        cls._error_policy = ErrorPolicy(
            cls.include_input, cls.max_errors, cls.max_error_bytes, cls.legacy_errors, cls.ref_key
        )
        cls._responds_plainly = cls.respond is WebSocketHandlingEndpoint.respond
        cls._define_rooms(handlers)
        if cls.history:
            handlers["resume"] = _RESUME
        cls._routes = {}
        cls._handlers = Handlers(handlers, cls._compile)
        cls._compile(handlers, handlers)

    @classmethod
    def _compile(cls, handlers: Mapping[str, Handler[..., Any]], changed: Iterable[str]) -> None:
        cls._decoder = cls._compiled(cls._routes, handlers, changed)
        cls._routes = cls._decoder.routes

    def _recompile(self, handlers: Mapping[str, Any], changed: Iterable[str]) -> None:
        self._decoder = self._compiled(self._decoder.routes, handlers, changed)

    @classmethod
    def _compiled(cls, routes: Mapping[str, Route], handlers: Mapping[str, Any], changed: Iterable[str]) -> Decoder:
        """`routes` with those of the changed events anew; the others stay, so that 1,000 events are 1,000 steps."""
        namespace = {cls.__name__: cls, **vars(cls)}
        arguments = type_arguments(cls)
        routes = dict(routes)
        for event in changed:
            if event in handlers:
                own = _unbound(handlers[event])
                routes[event] = own.compile(namespace, ref_key=cls.ref_key, event=event, arguments=arguments(own))
            else:
                del routes[event]
        return Decoder(routes, ref_key=cls.ref_key, disclose_events=cls.disclose_events)

    @classmethod
    def event(cls, event: Any = None, *args: Any, **kwargs: Any) -> Any:
        """`socketsundso.event` for a function outside of the class: makes the handler and attaches it here."""
        kwargs.setdefault("_frame", sys._getframe(1))

        def attach(function: Callable[..., Any]) -> Handler[..., Any]:
            handler: Handler[..., Any] = event_decorator(name, *args, **kwargs)(function)
            cls.attach_handler(handler)
            return handler

        if event is None or isinstance(event, str):
            name = event
            return attach
        name = None
        return attach(event)

    @classmethod
    def attach_handler(cls, handler: Handler[..., Any], *, overwrite_existing: bool = False) -> None:
        """Add a handler to this class. Raises `DefinitionError` if its event has one already."""
        if not isinstance(handler, Handler):
            raise DefinitionError(f"{handler!r} is no handler; decorate it with @event, or wrap it with Handler")
        if handler.event in cls._handlers and not overwrite_existing:
            raise DefinitionError(
                f"event {handler.event!r}: duplicate handler; overwrite_existing=True replaces the other one"
            )
        cls._handlers[handler.event] = handler

    # ------------------------------------------------------------------ what users override and call

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    # older FastAPIs (0.115) do not look a name up for a class, and would ask for a query parameter
    __init__.__annotations__["websocket"] = WebSocket

    def __await__(self) -> Generator[Any, None, None]:
        return self.dispatch().__await__()

    async def on_connect(self) -> None:
        """
        Called first. Accepts the connection; an override calls `await self.websocket.accept()` itself.

        To refuse, close `self.websocket` or raise Starlette's `HTTPException` or `WebSocketException` before that.
        """
        if self.websocket.application_state is WebSocketState.CONNECTING:
            await self.websocket.accept()

    async def on_disconnect(self, close_code: int) -> None:
        """Called once for every connection that was accepted, with the code that it was closed with."""

    async def respond(self, response: Any) -> None:
        """
        Answer the message that is being handled with what a handler may return, and with its `ref`.

        In a task that a handler started it still answers that handler's message; elsewhere it is `send`. Raises
        `WebSocketDisconnect` if the peer is gone, `ResponseError` if the value is no valid reply.
        """
        route, ref = _answering.get() or (None, None)
        if route is None:
            await self.send(response)
            return
        encode = route.encoder.encode_valid if response is _valid.get() else route.encode
        body = encode(response)
        await self._send_body(body if ref is None else append_ref(body, self.ref_key, ref))

    async def send(self, message: Any) -> None:
        """
        Send a message of its own: a model, Struct, dataclass, or dict with a `type`.

        May be called from any task of the connection's event loop; messages go out whole, in the order of the
        calls. Raises `WebSocketDisconnect` if the peer is gone.
        """
        await self._send_body(self._encode_push(message))

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection, once; a second call does nothing. `on_disconnect` gets `code`."""
        if self._closed is None and not self._gone:
            await self.websocket.close(code, reason)

    async def send_exception(self, exc: Exception) -> None:
        """Answer with the error frame for `exc`. Override it to tell more, or less."""
        answering = _answering.get()
        await self._send_body(error_frame(exc, self._error_policy, answering[1] if answering else None))

    # ------------------------------------------------------------------ the life of a connection

    async def dispatch(self) -> None:
        """Live the whole life of the connection. Called by the framework; awaiting the endpoint is the same."""
        self._observe()
        code = 1011
        try:
            if await self._connected():
                code = await self._serve()
            elif self._closed is not None:
                code = self._closed
        except WebSocketDisconnect as exc:
            code = await self._departure(exc)
        except asyncio.CancelledError:
            code = 1012
            raise
        finally:
            try:
                if self._accepted:
                    await self._disconnected(code)
            finally:
                self._leave_everything()
                # No cycle keeps the endpoint alive until the collector comes.
                self.websocket._send = self._send
                self.__dict__.pop("_own_handlers", None)

    def _observe(self) -> None:
        """Note what users do through `self.websocket`: accept, close, and sends that find the peer gone."""
        websocket = self.websocket
        self._receive, self._send = websocket._receive, websocket._send
        self._accepted = websocket.application_state is WebSocketState.CONNECTED
        websocket._send = self._observed_send
        self._writer = writer_of(websocket.scope, self._send)
        self._closed = None  # the instance's own: what is asked for every message is found faster there

    async def _observed_send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.close":
            self._closed = int(message.get("code") or 1000)
        try:
            await self._send(message)
        except OSError:
            self._gone = True
            raise
        if kind == "websocket.accept":
            self._accepted = True

    async def _connected(self) -> bool:
        try:
            self._declare_history()
            await self.on_connect()
        except WebSocketDisconnect:
            raise
        except Exception as exc:
            await self._connect_failed(exc)
            return False
        if self.websocket.application_state is WebSocketState.CONNECTING:
            logger.error("%s.on_connect neither accepted nor closed the connection: refused", type(self).__name__)
            await self.websocket.close(1011)
        return self._closed is None and self._accepted

    async def _connect_failed(self, exc: Exception) -> None:
        expected = isinstance(exc, HTTPException | WebSocketException)
        if not expected:
            logger.exception("%s.on_connect failed for %s", type(self).__name__, _peer(self.websocket))
        if self._closed is not None or self._gone:
            return
        if self._accepted or isinstance(exc, WebSocketException):
            await self.close(*_close_for(exc))
        elif "websocket.http.response" in self.websocket.scope.get("extensions", {}):
            status = exc.status_code if isinstance(exc, HTTPException) else 500
            detail = exc.detail if isinstance(exc, HTTPException) else "Internal Server Error"
            await self.websocket.send_denial_response(PlainTextResponse(detail, status))
        elif expected:
            await self.close(*_close_for(exc))
        else:
            raise exc  # the server answers 500

    async def _serve(self) -> int:
        """The receive loop. Gives the code that the connection was closed with."""
        receive = self._receive
        source = source_of(self.websocket.scope, receive)
        frame: Any  # an ASGI message, or a text as it is
        answering: Route | None = None  # the route that `_answering` names, if it is there without a `ref`
        while True:
            if source is None:
                frame = await receive()
            elif (frame := source.take()) is None:
                frame = await source.arrival()
            if type(frame) is not str:
                if frame["type"] != "websocket.receive":
                    code = self._left(frame)
                    return code if self._closed is None else self._closed
                text = frame.get("text")
                frame = text if text is not None else frame.get("bytes") or b""
            refused = False
            try:
                message = self._decoder.decode(frame)
            except UNDECODABLE:
                refused = True
            else:
                route, ref = message.route, message.ref
                if ref is not None or route is not answering:  # setting it costs as much as decoding
                    _answering.set((route, ref))
                    answering = route if ref is None else None
                try:
                    value = message.call(self, frame)
                    if route.awaited:
                        value = await value
                    if value is not None and (rest := self._reply(route, value, ref)) is not None:
                        await rest
                except Refused:
                    refused = True
                except asyncio.CancelledError as exc:
                    await self._answer(_stray(exc))
                except Exception as exc:
                    await self._answer(exc)
            if refused:  # not within `except`, so that the answer's exception carries no other one along
                await self._judge(frame)
                answering = None
            if self._closed is not None:
                return self._closed
            # The next message may be long in coming, and this one may be large.
            frame = message = value = None  # type: ignore[assignment]

    def _left(self, received: Message) -> int:
        self.websocket.client_state = WebSocketState.DISCONNECTED
        code = received.get("code")
        return 1005 if code is None else int(code)

    def _reply(self, route: Route, value: Any, ref: Ref | None) -> Awaitable[None] | None:
        """Send a reply. None: it is sent, else what is to be awaited for that."""
        if not self._responds_plainly:
            return self._respond_valid(route.encoder.validate(value))
        body = route.encode(value)
        if ref is not None:
            body = append_ref(body, self.ref_key, ref)
        writer = self._writer
        return None if writer is not None and writer.write(body) else self._send_reply(body)

    async def _respond_valid(self, value: Any) -> None:
        """For an overridden `respond`: what it passes on as it was given is valid, and not validated again."""
        before = _valid.set(value)
        try:
            await self.respond(value)
        finally:
            _valid.reset(before)

    async def _send_reply(self, body: bytes) -> None:
        if self._closed is None and not self._gone:
            try:
                await self._send({"type": "websocket.send", "text": body.decode()})
            except OSError:
                self._gone = True  # the next receive tells the code

    async def _judge(self, frame: Frame) -> None:
        """The exact slow path, for a frame that the fast one refused."""
        try:
            judgement = self._decoder.judge(frame)
        except FrameError as exc:
            logger.info("%s sent %s (%s): closed %d", _peer(self.websocket), exc.reason, exc, exc.close_code)
            await self.close(exc.close_code, exc.reason)
            return
        except MessageError as exc:
            _answering.set((None, exc.ref))
            await self._answer(exc)
            return
        route = judgement.route
        _answering.set((route, judgement.ref))
        if judgement.error is not None:
            await self._answer(judgement.error)
            return
        try:
            value = route.call_exact(judgement.arguments, self)
            if route.awaited:
                value = await value
            if value is not None and (rest := self._reply(route, value, judgement.ref)) is not None:
                await rest
        except asyncio.CancelledError as exc:
            await self._answer(_stray(exc))
        except Exception as exc:
            await self._answer(exc)

    async def _answer(self, exc: Exception) -> None:
        """Answer an exception; the connection lives on, unless it says that it should not."""
        exc = _only(exc)
        if isinstance(exc, WebSocketDisconnect):
            raise exc
        if isinstance(exc, WebSocketException):
            await self.close(exc.code, exc.reason)
            return
        if not isinstance(exc, EventError | ValidationError | HTTPException) or isinstance(exc, ResponseError):
            self._log(exc)
        if self._closed is not None or self._gone:
            return
        try:
            await self.send_exception(exc)
        except WebSocketDisconnect:
            if not self._gone:
                raise
        except Exception as failure:
            self._log(failure)

    def _log(self, exc: Exception) -> None:
        answering = _answering.get()
        event = answering[0].event if answering and answering[0] else None
        where = type(self).__name__, event, _peer(self.websocket)
        # one that is away is no fault of the application, and every client may ask meanwhile: no traceback
        if isinstance(exc, BackplaneUnavailable):
            logger.warning("%s: event %r of %s failed: %s", *where, exc)
        else:
            logger.error("%s: event %r of %s failed", *where, exc_info=exc)

    def _require_peer(self) -> None:
        """Raise the quiet disconnect if the connection has ended."""
        if self._closed is not None:
            raise WebSocketDisconnect(self._closed)
        if self._gone:
            raise WebSocketDisconnect(1006)

    async def _send_body(self, body: bytes) -> None:
        self._require_peer()
        try:
            await self._send({"type": "websocket.send", "text": body.decode()})
        except OSError as exc:
            self._gone = True
            raise WebSocketDisconnect(1006) from exc

    async def _departure(self, exc: WebSocketDisconnect) -> int:
        """The code of a connection that ended within user code."""
        if self._closed is not None:
            return self._closed
        if self.websocket.client_state is WebSocketState.DISCONNECTED:
            return exc.code
        if not self._gone:  # raised by the application itself
            await self.close(exc.code if exc.code == 1000 or exc.code >= 3000 else 1000)
            return exc.code
        with anyio.move_on_after(_CODE_S):
            while True:
                received = await self._receive()
                if received["type"] == "websocket.disconnect":
                    return self._left(received)
        return 1006

    async def _disconnected(self, code: int) -> None:
        _answering.set(None)
        try:
            if code == 1012:
                # Under cancellation every await would raise again: the farewell has its own, bounded time.
                with anyio.move_on_after(_FAREWELL_S, shield=True):
                    await self.on_disconnect(code)
            else:
                await self.on_disconnect(code)
        except WebSocketDisconnect:
            pass  # it tried to send to the peer that has just left
        except Exception:
            logger.exception("%s.on_disconnect failed for %s", type(self).__name__, _peer(self.websocket))


WebSocketHandlingEndpoint._handlers = Handlers({}, WebSocketHandlingEndpoint._compile)

# The event of endpoints with history; not an attribute of theirs, so that others may have a `resume` of their own.
_RESUME: Handler[..., Any] = event_decorator("resume")(Membership._resume)


def _inherited(cls: type) -> dict[str, Handler[..., Any]]:
    """The handlers of all bases, endpoints and plain mix-ins, the nearest winning."""
    handlers: dict[str, Handler[..., Any]] = {}
    for base in reversed(cls.__mro__[1:]):
        if issubclass(base, WebSocketHandlingEndpoint):
            handlers.update(base._handlers)
        else:
            handlers.update(_declared(base))
    return handlers


def _declared(cls: type) -> dict[str, Handler[..., Any]]:
    handlers: dict[str, Handler[..., Any]] = {}
    for name, value in list(vars(cls).items()):
        handler = value.__func__ if isinstance(value, staticmethod) else value
        if not isinstance(handler, Handler):
            _refuse_lost(cls, name, value)
            continue
        if handler.event in handlers:
            raise DefinitionError(
                f"event {handler.event!r}: duplicate handler {name} in {cls.__name__}; give one of them another name "
                "with @event('name')"
            )
        handlers[handler.event] = handler
    return handlers


def _refuse_lost(cls: type, name: str, value: Any) -> None:
    """A handler that something is wrapped around, or that is overridden by what is none, would never be called."""
    inner = getattr(value, "__func__", None) or getattr(value, "fget", None)
    if isinstance(inner, Handler):
        raise DefinitionError(
            f"event {inner.event!r}: a {type(value).__name__} cannot be around a handler; write @event above it"
        )
    hidden = next((vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)), None)
    if isinstance(hidden, Handler) and not hasattr(WebSocketHandlingEndpoint, name):
        raise DefinitionError(
            f"event {hidden.event!r}: {cls.__name__}.{name} overrides a handler and is none itself; decorate it with "
            f"@event, or take the event away with `del {cls.__name__}.handlers[{hidden.event!r}]` and without {name}"
        )


def _restore_methods(cls: type[WebSocketHandlingEndpoint]) -> None:
    """An event may be called `close`; the method of that name stays the method, also where a mix-in has the event."""
    for name in {name for base in cls.__mro__ for name, value in vars(base).items() if isinstance(value, Handler)}:
        method = getattr(WebSocketHandlingEndpoint, name, None)
        if method is None:
            continue
        if isinstance(vars(cls).get(name), Handler):
            delattr(cls, name)
        if isinstance(inspect.getattr_static(cls, name), Handler):
            setattr(cls, name, inspect.getattr_static(WebSocketHandlingEndpoint, name))


def _stray(exc: asyncio.CancelledError) -> Exception:
    """What a handler awaited was cancelled, which is an error of its own. Raises `exc` if this task is to end."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise exc
    error = RuntimeError("the handler awaited something that was cancelled")
    error.__cause__ = exc
    return error


def _only(exc: Exception) -> Exception:
    """The exception that a task group wrapped, if it is the only one, or if all say that the peer is gone."""
    while isinstance(exc, ExceptionGroup) and (
        len(exc.exceptions) == 1 or all(isinstance(_only(each), WebSocketDisconnect) for each in exc.exceptions)
    ):
        exc = exc.exceptions[0]
    return exc


def _close_for(exc: Exception) -> tuple[int, str | None]:
    if isinstance(exc, WebSocketException):
        return exc.code, exc.reason
    if isinstance(exc, HTTPException):
        return 4000 + exc.status_code, exc.detail
    return 1011, None


def _peer(websocket: WebSocket) -> str:
    client = websocket.client
    return f"{client.host}:{client.port}" if client else "a client"
