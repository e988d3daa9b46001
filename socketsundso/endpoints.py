"""
`WebSocketHandlingEndpoint`: what users declare, override and call; a composition of what serves one connection.

A `Peer` knows the other side, a `Serial` receives and answers, a `Membership` is in rooms: each is made when it is
needed, gets what it has to know, and knows no other part of the endpoint.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from abc import ABCMeta
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import anyio
from pydantic_core import ValidationError
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from socketsundso.backplanes import Keep, State
from socketsundso.collecting import Handlers, check_hooks, declared, inherited, restore_methods, unbound
from socketsundso.connection import (
    ASGIClass,
    Concurrent,
    Current,
    DeflateMin,
    Departure,
    Peer,
    Serial,
    SlowPolicy,
    Tasks,
    answering,
    check_deflate_min,
    check_subprotocols,
    current,
    end_answer,
    is_valid,
    refusal,
)
from socketsundso.errors import DefinitionError, EventError, did_you_mean
from socketsundso.handler import Handler, type_arguments
from socketsundso.handler import event as event_decorator
from socketsundso.messages import Decoder, Definition, ErrorPolicy, append_ref, cancel_route, error_frame
from socketsundso.rooms import Declaration, Hub, Membership, Presence, Resume

logger = logging.getLogger("socketsundso")

T = TypeVar("T")

_NOTHING = (None, None, None, None, None)  # in place of what is being answered
_FAREWELL_S = 10.0  # how long `on_disconnect` may take while the server shuts down


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


class _HubAttribute:
    """`Chat.hub`: one per class, and the same from an instance."""

    def __get__(self, instance: Any, owner: type[WebSocketHandlingEndpoint]) -> Hub:
        return owner._declaration.hub


class _Declared(ABCMeta):
    """
    Settings are compiled when a class is created: one that is assigned later would be heard by nobody.

    Of ABCMeta, so that endpoints may be abstract, too.
    """

    def __setattr__(cls, name: str, value: Any) -> None:
        if name in _COMPILED and "_definition" in vars(cls):
            raise DefinitionError(
                f"{cls.__name__}.{name} is read when the class is created; set it in the class's body, or in that of a "
                f"subclass: `class Mine({cls.__name__}): {name} = ...`"
            )
        super().__setattr__(name, value)


_COMPILED = frozenset(
    {
        "acknowledge",
        "deflate_min",
        "disclose_events",
        "emits",
        "history",
        "include_input",
        "legacy_errors",
        "max_error_bytes",
        "max_errors",
        "on_backplane",
        "on_slow",
        "presence_events",
        "presence_interval_s",
        "ref_key",
        "subprotocols",
    }
)


class WebSocketHandlingEndpoint(ASGIClass, metaclass=_Declared):
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
    `errors`. `subprotocols`, the first of which that the client offers is accepted. `deflate_min`: from how many
    bytes on messages are compressed where permessage-deflate was negotiated with our own server, "off" for none,
    None, the default, for what the server is set to. `disconnect_grace_s`: how many seconds a handler may go on that
    runs when its peer leaves; then it is cancelled. `acknowledge = True` answers a request with a `ref` whose handler
    returns None, too. `max_streams`, `max_concurrent`: how many streams of one connection run beside each other, and
    how many requests of an event with `concurrent=True`. Those of rooms:

    `backplane` names the engine by URL; without it the environment's SOCKETSUNDSO_BACKPLANE counts, else
    memory. `emits` lists the types of messages that are pushed; anything else is refused then. `history`
    maps shell-style patterns of rooms to a `Keep`; the first that matches counts. `max_outbound_bytes`
    bounds what waits for a slow reader and `on_slow` says what happens to it: "close", "drop_oldest",
    "drop_newest" or a `Conflate`. `ttl_s` drops what waits longer. `notify_gaps` tells a client of what was
    dropped. `presence_events = True` is for endpoints that `track`: who joins a room is told who is there
    (`presence_state`) and then what changes (`presence_diff`), all that changes within `presence_interval_s`
    seconds together. `max_rooms` bounds the rooms (and users) of one connection.
    """

    ref_key: ClassVar[str] = "ref"
    include_input: ClassVar[bool] = True
    disclose_events: ClassVar[bool] = True
    max_errors: ClassVar[int] = 100
    max_error_bytes: ClassVar[int] = 65_536
    legacy_errors: ClassVar[bool] = False
    subprotocols: ClassVar[Sequence[str]] = ()
    deflate_min: ClassVar[DeflateMin] = None
    disconnect_grace_s: ClassVar[float] = 10.0
    acknowledge: ClassVar[bool] = False
    max_streams: ClassVar[int] = 16
    max_concurrent: ClassVar[int] = 16

    backplane: ClassVar[str | None] = None
    emits: ClassVar[Sequence[Any]] = ()
    history: ClassVar[Mapping[str, Keep]] = MappingProxyType({})
    max_outbound_bytes: ClassVar[int] = 1 << 20
    on_slow: ClassVar[SlowPolicy] = "close"
    ttl_s: ClassVar[float | None] = None
    notify_gaps: ClassVar[bool] = False
    presence_events: ClassVar[bool] = False
    presence_interval_s: ClassVar[float] = 0.05
    max_rooms: ClassVar[int] = 1000

    handlers = _HandlersAttribute()
    hub = _HubAttribute()
    websocket: WebSocket

    _handlers: ClassVar[Handlers]
    _declaration: ClassVar[Declaration]
    _definition: Definition = Definition(Decoder({}), ErrorPolicy())

    _noted_offer: ClassVar[bool]

    _loop: Serial | None = None  # while it runs

    # ------------------------------------------------------------------ definition

    def __init_subclass__(cls, /, overwrite_existing: bool = True, **kwargs: Any) -> None:
        try:
            super().__init_subclass__(**kwargs)
        except TypeError as exc:
            meant = "".join(did_you_mean(name, ("overwrite_existing",)) for name in kwargs)
            raise DefinitionError(f"class {cls.__name__}: {exc}{meant}") from exc
        handlers = inherited(cls, WebSocketHandlingEndpoint)
        if unbound(handlers.get("resume")) is _RESUME:
            del handlers["resume"]  # not declared by anybody: it comes with the history that this class has or not
        for event, handler in declared(cls).items():
            if event in handlers and not overwrite_existing:
                raise DefinitionError(
                    f"event {event!r}: {cls.__name__} would overwrite an inherited handler; "
                    "allow it with the class keyword overwrite_existing=True"
                )
            handlers[event] = handler
        restore_methods(cls, WebSocketHandlingEndpoint)
        check_hooks(cls, WebSocketHandlingEndpoint)
        _freeze(cls)
        hears_backplane = cls.on_backplane is not WebSocketHandlingEndpoint.on_backplane
        cls._declaration = Declaration(cls, handlers, hears_backplane)
        if cls.history:
            handlers["resume"] = _RESUME
        policy = ErrorPolicy(cls.include_input, cls.max_errors, cls.max_error_bytes, cls.legacy_errors, cls.ref_key)
        check_subprotocols(cls.__name__, cls.subprotocols)
        check_deflate_min(cls.__name__, cls.deflate_min)
        cls._definition = Definition(Decoder({}), policy)
        cls._handlers = Handlers(handlers, cls._compile)
        cls._compile(handlers, handlers)

    @classmethod
    def _compile(cls, handlers: Mapping[str, Handler[..., Any]], changed: Iterable[str]) -> None:
        cls._definition.decoder = cls._compiled(cls._definition.decoder, handlers, changed)

    def _recompile(self, handlers: Mapping[str, Any], changed: Iterable[str]) -> None:
        mine = self._definition
        changed = list(changed)
        decoder = self._compiled(mine.decoder, handlers, changed)
        if decoder.converses and not mine.decoder.converses:
            raise DefinitionError(
                f"event {', '.join(changed)!r}: an open connection of {type(self).__name__}, which has no streams and "
                "nothing concurrent, cannot learn that; attach the handler to the class"
            )
        self._definition = Definition(decoder, mine.error_policy)
        if self._loop is not None:
            self._loop.definition = self._definition

    @classmethod
    def _compiled(cls, before: Decoder, handlers: Mapping[str, Any], changed: Iterable[str]) -> Decoder:
        """The routes with those of the changed events anew; the others stay, so that 1,000 events are 1,000 steps."""
        namespace = {cls.__name__: cls, **vars(cls)}
        arguments = type_arguments(cls)
        routes = dict(before.routes)
        converses = before.converses or cls.acknowledge
        for event in changed:
            if event in handlers:
                own = unbound(handlers[event])
                route = own.compile(namespace, ref_key=cls.ref_key, event=event, arguments=arguments(own))
                routes[event] = route
                converses = converses or route.conduct is not None
            else:
                del routes[event]
        if converses:
            cls._refuse_controls(handlers)
            routes["cancel"] = before.routes["cancel"] if before.converses else cancel_route(cls.ref_key)
        return Decoder(routes, ref_key=cls.ref_key, disclose_events=cls.disclose_events, converses=converses)

    @classmethod
    def _refuse_controls(cls, handlers: Mapping[str, Any]) -> None:
        declared = cls._declaration.types
        for name in [each for each in ("cancel", "complete") if each in handlers or each in declared]:
            raise DefinitionError(
                f"{name!r}: {cls.__name__} has streams, concurrent handlers, time limits or acknowledgements, which "
                "reserve this name on the wire; give the handler another one with @event('name'), or the message "
                "another `type`"
            )

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
            await self.websocket.accept(self.subprotocol)

    async def on_disconnect(self, close_code: int) -> None:
        """Called once for every connection that was accepted, with the code that it was closed with."""

    @property
    def current(self) -> Current | None:
        """
        The message that is being answered: `current.event`, `current.ref`, `current.frame_type`; None outside of one.

        Valid in handlers, in `respond` and `send_exception`, and in tasks that a handler started. `event` is None for a
        message that no handler is for.
        """
        return current(self._peer)

    @property
    def subprotocol(self) -> str | None:
        """What was negotiated of the class's `subprotocols` and the client's; None without."""
        return self._peer.subprotocol

    async def respond(self, response: Any) -> None:
        """
        Answer the message that is being handled with what a handler may return, and with its `ref`.

        In a task that a handler started it still answers that handler's message; elsewhere it is `send`. The answer to
        a message that no handler is for has the `type` "error", unless it brings one. Raises `WebSocketDisconnect` if
        the peer is gone, `ResponseError` if the value is no valid reply.
        """
        record = answering(self._peer)
        if record is None:
            await self.send(response)
            return
        _, route, ref, _, _ = record
        if route is None:
            body = self._definition.encode_nameless(response)
        else:
            body = route.encoder.encode_valid(response) if is_valid(response) else route.encode(response)
        await self._peer.send_body(body if ref is None else append_ref(body, self.ref_key, ref))

    async def send(self, message: Any) -> None:
        """
        Send a message of its own: a model, Struct, dataclass, or dict with a `type`.

        May be called from any task of the connection's event loop; messages go out whole, in the order of the
        calls. Raises `WebSocketDisconnect` if the peer is gone.
        """
        await self._peer.send_body(self._declaration.encode_push(message))

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection, once; a second call does nothing. `on_disconnect` gets `code`."""
        await self._peer.close(code, reason)

    @property
    def gone(self) -> Departure:
        """
        That the peer has gone: `await self.gone`, or `self.gone.is_set()`; known at once, whatever still runs.

        A handler that runs then may go on for `disconnect_grace_s`. Set too when the connection has ended otherwise.
        """
        if self._loop is not None:
            self._loop.watch()
        return self._peer.departure

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """
        Run a coroutine beside the handlers, in a task that ends with the connection: it is cancelled before
        `on_disconnect`.

        What it raises is logged, but that the peer has gone is no error. Raises `WebSocketDisconnect` once the
        connection has ended.
        """
        tasks: Tasks | None = self.__dict__.get("_tasks")
        if tasks is None:
            tasks = self.__dict__["_tasks"] = Tasks(type(self).__name__, self._peer)
        return tasks.spawn(coroutine, name)

    async def send_exception(self, exc: Exception) -> None:
        """
        Answer with the error frame for `exc`, with the `ref` of `current`. Override it to tell more, or less.

        A `ValidationError` that is not about the message itself is answered with `internal_error`.
        """
        peer = self._peer
        _, route, ref, _, wrong = answering(peer) or _NOTHING
        if exc is not wrong and isinstance(exc, ValidationError):
            exc = EventError("internal_error")  # the application's own, with the application's values in it
        await peer.send_body(error_frame(exc, self._definition.error_policy, ref, route))

    # ---- rooms

    @property
    def id(self) -> str:
        """Names this connection; unique across processes."""
        return self._peer.id

    @property
    def rooms(self) -> frozenset[str]:
        """The names of the rooms that this connection is in; in `on_disconnect` still filled."""
        return self._membership.rooms

    @property
    def presence(self) -> Presence:
        """`await self.presence.list(room)`: who is tracked in a room, in all processes."""
        return type(self).hub.presence

    async def authorize(self, room: str) -> bool:
        """
        Whether this connection may join a room; may be sync too. What is not true is answered with `forbidden`, an
        EventError with its own code.
        """
        return True

    async def on_backplane(self, status: State) -> None:
        """
        Called for each connection that is in a room (or identified) when the backplane goes away ("reconnecting"), is
        back ("connected"), or is closed; and at its first room if it is away then.

        Calls come one after the other, in a task of their own beside the handlers; what they raise is logged.
        """

    async def join(self, room: str | Iterable[str], *more: str | Iterable[str], last: int | None = None) -> None:
        """
        Enter a room, or several: whole or not at all, none is entered where one of them is refused.

        When this returns, broadcasts from every process reach the connection. Idempotent: in rooms that it is in
        already nothing happens. `last` is for rooms with history: their newest messages, so many at most (0 to
        10,000), follow the `room_position`, in order and numbered, and live ones follow them; like replies, they wait
        for the peer.

        Raises `InvalidRoomName`, an EventError `forbidden` if `authorize` refuses or the connection would be in more
        than `max_rooms`, ValueError for a `last` of a room without history, RuntimeError before the connection is
        accepted, `WebSocketDisconnect` after it has ended, `BackplaneUnavailable` for a room with history while the
        engine is away.
        """
        await self._membership.join(room, *more, last=last)

    async def leave(self, room: str | Iterable[str], *more: str | Iterable[str]) -> None:
        """Leave a room, or several; nothing happens to who is not in them."""
        await self._membership.leave(room, *more)

    async def broadcast(
        self, message: Any, room: str | Iterable[str], *, exclude_self: bool = False, ttl_s: float | None = None
    ) -> None:
        """
        Send a message to everybody in a room or several, each connection once; one need not be in them.

        Never waits for a peer. In a room with history it is numbered, and `BackplaneUnavailable` raised
        while the engine is away; other rooms get it in this process then, which the hub's status counts.
        """
        await self._membership.broadcast(message, room, exclude_self, ttl_s)

    async def identify(self, user: str) -> None:
        """Make this connection one of the user's: `hub.to_user(user)` reaches it from now on."""
        await self._membership.identify(user)

    async def track(self, meta: Any, room: str | None = None, *, key: str | None = None) -> None:
        """
        Show this connection in the room's presence with `meta`, any value that JSON knows; again: change it.

        All connections with the same `key`, in any process, are one member, with the key as its id and the meta
        of the one that was tracked last; it leaves with the last of them. Without a key, a connection stays the
        member that it is, at first itself.

        A meta of more than 16 KiB, or no JSON at all, is answered with `validation_error`, as is a key that is empty
        or longer than 200 characters. RuntimeError where the class has no `presence_events = True`.
        The room may be left out by who is in exactly one. It ends with `untrack`, `leave` or the connection.
        """
        await self._membership.track(meta, room, key)

    async def untrack(self, room: str | None = None) -> None:
        """Take this connection out of the room's presence, but not out of the room."""
        await self._membership.untrack(room)

    # ------------------------------------------------------------------ the life of a connection

    @functools.cached_property
    def _peer(self) -> Peer:
        return Peer(self.websocket, self.subprotocols)

    @property
    def _membership(self) -> Membership:
        known: Membership | None = self.__dict__.get("_in_rooms")
        if known is None:
            known = Membership(self, self._peer, self._declaration)
            if self._peer.over is None:  # else nobody would let go of it any more
                self.__dict__["_in_rooms"] = known
        return known

    async def dispatch(self) -> None:
        """Live the whole life of the connection. Called by the framework; awaiting the endpoint is the same."""
        peer = self._peer
        peer.observe(self.deflate_min)
        code = 1011
        try:
            if await self._connected():
                responds = getattr(self.respond, "__func__", None) is not WebSocketHandlingEndpoint.respond
                loop_of = Concurrent if self._definition.decoder.converses else Serial
                self._loop = loop = loop_of(self, peer, self._definition, responds)
                try:
                    code = await loop.run()
                except asyncio.CancelledError:
                    if (cut := loop.cut_code()) is None:
                        raise
                    code = cut
                finally:
                    loop.rest()
            elif peer.closed is not None:
                code = peer.closed
        except WebSocketDisconnect as exc:
            code = await peer.code_after(exc)
        except asyncio.CancelledError:
            code = 1012
            raise
        finally:
            try:
                if (tasks := self.__dict__.get("_tasks")) is not None:
                    await tasks.cancel()
                if peer.accepted:
                    await self._disconnected(code)
            finally:
                self._end(code)

    async def _connected(self) -> bool:
        peer = self._peer
        try:
            if not (peer.accepted or peer.negotiable):
                raise HTTPException(400, f"none of these subprotocols: {', '.join(self.subprotocols)}")
            if self._declaration.history:
                await self._membership.declare_history()
            await self.on_connect()
        except WebSocketDisconnect:
            raise
        except Exception as exc:
            if peer.gone and isinstance(exc, OSError):  # of a send that found nobody there
                return False
            if not refusal.is_meant(exc):
                logger.exception("%s.on_connect failed for %s", type(self).__name__, peer.name)
            await refusal.refuse(peer, exc)
            return False
        if self.websocket.application_state is WebSocketState.CONNECTING:
            logger.error("%s.on_connect neither accepted nor closed the connection: refused", type(self).__name__)
            await self.websocket.close(1011)
        self._note_offer()
        return peer.closed is None and peer.accepted

    def _note_offer(self) -> None:
        """A browser fails a connection whose offer of subprotocols was not answered."""
        cls, peer = type(self), self._peer
        if peer.accepted and peer.subprotocol is None and peer.offered and "_noted_offer" not in vars(cls):
            cls._noted_offer = True
            logger.warning(
                "%s: a client offers the subprotocols %r and got none; set `subprotocols` on the class (told once)",
                cls.__name__,
                list(peer.offered),
            )

    async def _disconnected(self, code: int) -> None:
        end_answer()
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
            logger.exception("%s.on_disconnect failed for %s", type(self).__name__, self._peer.name)

    def _end(self, code: int) -> None:
        """Let go of everything; no cycle keeps the endpoint alive until the collector comes."""
        if (membership := self.__dict__.pop("_in_rooms", None)) is not None:
            membership.leave_everything()
        if self._loop is not None:
            self._loop.release()
            self._loop = None
        self._peer.release(code)
        self.__dict__.pop("_own_handlers", None)


WebSocketHandlingEndpoint._handlers = Handlers({}, WebSocketHandlingEndpoint._compile)
WebSocketHandlingEndpoint._declaration = Declaration(WebSocketHandlingEndpoint, ())


async def _resume(self: WebSocketHandlingEndpoint, rooms: dict[str, Resume]) -> None:
    await self._membership.resume(rooms)


# The event of endpoints with history; not an attribute of theirs, so that others may have a `resume` of their own.
_RESUME: Handler[..., Any] = event_decorator("resume")(_resume)


def _freeze(cls: type[WebSocketHandlingEndpoint]) -> None:
    """A room that is added to the history later would have none; so nothing can be added."""
    if isinstance(cls.history, dict):
        cls.history = MappingProxyType(dict(cls.history))
