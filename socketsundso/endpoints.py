"""
`WebSocketHandlingEndpoint`: what users declare, override and call; a composition of what serves one connection.

A `Peer` knows the other side, a `Serial` receives and answers, a `Membership` is in rooms: each is made when it is
needed, gets what it has to know, and knows no other part of the endpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import sys
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, overload

import anyio
from msgspec import UNSET
from pydantic import AliasGenerator
from pydantic_core import ValidationError
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from socketsundso.backplanes import Keep, State
from socketsundso.binary_handler import BinaryHandler
from socketsundso.collecting import (
    Events,
    Handlers,
    binary_of,
    check_errors,
    check_hooks,
    declared,
    inherited,
    restore_methods,
    unbound,
)
from socketsundso.connection import (
    NOTHING,
    Answered,
    ASGIClass,
    Calls,
    Current,
    Deadlines,
    DeflateMin,
    Departure,
    Expiry,
    Kept,
    ObservedCalls,
    OriginPattern,
    Origins,
    Peer,
    RateLimit,
    RequestingPeer,
    Serial,
    SlowPolicy,
    Tasks,
    UnlessGone,
    about,
    answering,
    check_deflate_min,
    check_handshake,
    check_rate_limit,
    check_seconds,
    check_subprotocols,
    current,
    declared_batches,
    declared_origins,
    declared_pings,
    end_answer,
    handshake_of,
    is_valid,
    loop_for,
    refusal,
    seconds_since_1970,
)
from socketsundso.errors import DefinitionError, EventError, did_you_mean
from socketsundso.guards import Call, Gate, Middleware, check_middleware
from socketsundso.handler import AliasGenerates, Handler, checked_tags, type_arguments
from socketsundso.handler import event as event_decorator
from socketsundso.messages import (
    BYTES,
    CANONICAL,
    JSON,
    AnyEnvelope,
    Codec,
    Decoder,
    Definition,
    Envelope,
    ErrorPolicy,
    Extra,
    Framing,
    Overrides,
    Questions,
    Route,
    are_overridden,
    cancel_route,
    complete_route,
    declared_codecs,
    error_frame,
    framing_of,
    item_route,
    packed,
    replies_of,
    reply_route,
    written,
)
from socketsundso.observing import Load, Observer, tell
from socketsundso.rooms import Declaration, Hub, Membership, Presence, Resume, Resumed, asks_nothing
from socketsundso.security import check_security
from socketsundso.threads import Sync, awaited
from socketsundso.wire import BinaryPayload, teller_of, wire_of

logger = logging.getLogger("socketsundso")

M = TypeVar("M", bound=Middleware)
T = TypeVar("T")

_SHOWN = 32  # characters of a subprotocol that a client offers, in a log line; a longer one may be a token
_FAREWELL_S = 10.0  # how long `on_disconnect` may take while the server shuts down


_NO_OVERRIDES: Overrides = MappingProxyType({})


class _HandlersAttribute:
    """`Cls.handlers` is the class's own mapping; `self.handlers` one of the instance's, with `self` bound."""

    def __get__(self, instance: Any, owner: Any) -> Handlers:
        if instance is None:
            return owner._handlers  # type: ignore[no-any-return]  # each class's own
        own = instance.__dict__.get("_own_handlers")
        if own is None:
            bound = {event: handler.bound_to(instance) for event, handler in owner._handlers.items()}
            own = instance.__dict__["_own_handlers"] = Handlers(bound, instance._attach)
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
        "alias_generator",
        "allow_missing_origin",
        "allowed_origins",
        "authenticate_within_s",
        "before",
        "calls",
        "codecs",
        "deflate_min",
        "disclose_events",
        "emits",
        "envelope",
        "extra",
        "history",
        "idle_timeout_s",
        "include_in_schema",
        "include_input",
        "legacy_errors",
        "max_error_bytes",
        "max_errors",
        "on_backplane",
        "on_slow",
        "presence_events",
        "presence_interval_s",
        "rate_limit",
        "ref_key",
        "security",
        "subprotocols",
        "tags",
        "text_pings",
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

    Class attributes: `envelope`, how messages stand in frames (docs/envelopes.md); `ref_key`, the key that requests and
    their answers share; `extra="ignore"` lets keys pass that no parameter takes, which else are errors;
    `alias_generator` makes the keys of parameters of their names (`to_camel` of pydantic), those of dependencies, too.
    Both concern parameters: a model has its own config. `include_input=False` keeps what peers sent out of error
    frames; `disclose_events=False` does not list the events to who asks for an unknown one; `max_errors` and
    `max_error_bytes` bound an error frame; `legacy_errors` restores 0.0.x's, which has only `errors`. `subprotocols`,
    the first of which that the client offers is accepted. `codecs = ["json", "msgpack"]`, or a mapping of subprotocols
    to these: what clients may have their messages in (docs/msgpack.md). `text_pings = {"ping": "pong"}`: texts that are
    answered as they are, or not at all where the answer is None, before they are read as messages. `deflate_min`: from
    how many bytes on messages are compressed where permessage-deflate was negotiated with our own server, "off" for
    none, None, the default, for what the server is set to. `disconnect_grace_s`: how many seconds a handler may go on
    that runs when its peer leaves; then it is cancelled. `acknowledge = True` answers a request with a `ref` whose
    handler returns None, too. `max_streams`, `max_concurrent`: how many streams and uploads of one connection run
    beside each other, and how many requests of an event with `concurrent=True`. `calls = {Ask: Answer}` is what the
    server asks of its clients, with the types of the answers (docs/calls.md). Those of rooms:

    `backplane` names the engine by URL; without it the environment's SOCKETSUNDSO_BACKPLANE counts, else
    memory. `emits` lists the types of messages that are pushed, `bytes` for binary frames; anything else is refused
    then. `history` maps shell-style patterns of rooms to a `Keep`; the first that matches counts. `max_outbound_bytes`
    bounds what waits for a slow reader and `on_slow` says what happens to it: "close", "drop_oldest",
    "drop_newest" or a `Conflate`. `ttl_s` drops what waits longer. `notify_gaps` tells a client of what was
    dropped. `presence_events = True` is for endpoints that `track`: who joins a room is told who is there
    (`presence_state`) and then what changes (`presence_diff`), all that changes within `presence_interval_s`
    seconds together. `max_rooms` bounds the rooms (and users) of one connection.

    Those of who may connect and stay (docs/security.md): `allowed_origins` are the origins of the pages that may
    connect, None for all; `allow_missing_origin=False` refuses who sends none, which no browser does.
    `rate_limit = RateLimit(100, per_s=10)` counts every frame of a connection. A connection is closed with 4401 where
    `self.user` is still None after `authenticate_within_s` seconds, with 4408 where the client has said nothing for
    `idle_timeout_s` seconds and waits for no answer.

    Those that only tell (docs/contract.md): `tags` are put before those of each event; `security` lists how the
    handshake may sign in, `[HTTPBearer()]` (socketsundso.security) or FastAPI's; `include_in_schema=False` leaves the
    class out of the contract of an application.
    """

    envelope: ClassVar[AnyEnvelope] = Envelope()
    ref_key: ClassVar[str] = "ref"
    extra: ClassVar[Extra] = "forbid"
    alias_generator: ClassVar[AliasGenerates | None] = None
    include_input: ClassVar[bool] = True
    disclose_events: ClassVar[bool] = True
    max_errors: ClassVar[int] = 100
    max_error_bytes: ClassVar[int] = 65_536
    legacy_errors: ClassVar[bool] = False
    subprotocols: ClassVar[Sequence[str]] = ()
    codecs: ClassVar[Sequence[str] | Mapping[str, str]] = ()
    text_pings: ClassVar[Mapping[str, str | None]] = MappingProxyType({})
    deflate_min: ClassVar[DeflateMin] = None
    disconnect_grace_s: ClassVar[float] = 10.0
    acknowledge: ClassVar[bool] = False
    max_streams: ClassVar[int] = 16
    max_concurrent: ClassVar[int] = 16
    calls: ClassVar[Mapping[Any, Any]] = MappingProxyType({})

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

    dependency_overrides: ClassVar[dict[Any, Callable[..., Any]]]
    """
    What is called in place of dependencies, for tests: `Chat.dependency_overrides[get_db] = fake_db`. Counts for
    connections that begin then, for subclasses, too, and more than the FastAPI application's.
    """
    allowed_origins: ClassVar[Sequence[OriginPattern] | None] = None
    allow_missing_origin: ClassVar[bool] = True
    rate_limit: ClassVar[RateLimit | None] = None
    authenticate_within_s: ClassVar[float | None] = None
    idle_timeout_s: ClassVar[float | None] = None

    tags: ClassVar[Sequence[str]] = ()
    security: ClassVar[Sequence[Any]] = ()
    include_in_schema: ClassVar[bool] = True

    user: Any = None
    """Who is signed in: what `authenticate` has given, or a handler has set."""

    handlers = _HandlersAttribute()
    hub = _HubAttribute()
    """The class's own `Hub`: its rooms and users, from anywhere."""
    websocket: WebSocket

    _handlers: ClassVar[Handlers]
    _binary_handlers: ClassVar[tuple[BinaryHandler[..., Any], ...]] = ()  # one or none; by itself it would be a method
    _declaration: ClassVar[Declaration]
    _framing: Framing = CANONICAL  # what `envelope` is compiled to, of a connection in its codec
    _codecs: ClassVar[Mapping[str, Codec]] = MappingProxyType({})  # by subprotocol
    _packed: ClassVar[Mapping[Codec, Definition]] = MappingProxyType({})  # of those that are not JSON
    _definition: Definition = Definition(Decoder({}), ErrorPolicy())

    _origins: ClassVar[Origins | None] = None
    _own_middleware: ClassVar[tuple[Middleware, ...]] = ()  # each class's own, without those of its bases
    _own_observers: ClassVar[tuple[Observer, ...]] = ()  # the same
    _observers: ClassVar[tuple[Observer, ...]] = ()  # with those of its bases

    _noted_offer: ClassVar[bool]
    _noted_origin: ClassVar[bool]

    _loop: Serial | None = None  # while it runs
    _questions: ClassVar[Questions | None] = None  # what `calls` is compiled to
    _calls: Calls | None = None  # of a connection whose class has some
    _handshake: Mapping[str, Any] = MappingProxyType({})  # what FastAPI took of it for dependencies
    # by framing, the last one with overrides, and what it was made from
    _overridden: ClassVar[Mapping[Framing, tuple[Decoder, Definition]]]
    _deadlines: Deadlines | None = None  # while it is open, and where there are any
    _user_expires_at: Expiry = None
    _used: dict[object, list[int]] | None = None  # what rate limits have let pass

    # ------------------------------------------------------------------ definition

    def __init_subclass__(cls, /, overwrite_existing: bool = True, **kwargs: Any) -> None:
        try:
            super().__init_subclass__(**kwargs)
        except TypeError as exc:
            meant = "".join(did_you_mean(name, ("overwrite_existing",)) for name in kwargs)
            raise DefinitionError(f"class {cls.__name__}: {exc}{meant}") from exc
        cls._framing = framing_of(cls)
        if cls._framing.answers_requests:
            cls.acknowledge = True
        events = cls._events()
        handlers = inherited(cls, WebSocketHandlingEndpoint, events)
        if unbound(handlers.get("resume")) is _RESUME:
            del handlers["resume"]  # not declared by anybody: it comes with the history that this class has or not
        for event, handler in declared(cls, events).items():
            if event in handlers and not overwrite_existing:
                raise DefinitionError(
                    f"event {event!r}: {cls.__name__} would overwrite an inherited handler; "
                    "allow it with the class keyword overwrite_existing=True"
                )
            handlers[event] = handler
        cls._binary_handlers = binary_of(cls, WebSocketHandlingEndpoint)
        if "dependency_overrides" not in vars(cls):
            cls.dependency_overrides = {}
        restore_methods(cls, WebSocketHandlingEndpoint)
        check_hooks(cls, WebSocketHandlingEndpoint)
        _freeze(cls)
        cls._questions = Questions(cls.__name__, cls.calls, cls._framing) if cls.calls else None
        cls._declaration = Declaration(
            cls,
            handlers,
            framing=cls._framing,
            questions=cls._questions,
            hears_backplane=cls.on_backplane is not WebSocketHandlingEndpoint.on_backplane,
            authorizes=cls.authorize is not WebSocketHandlingEndpoint.authorize,
        )
        if cls.history:
            handlers["resume"] = _RESUME
        if cls.legacy_errors and cls._framing.place:
            raise DefinitionError(
                f"{cls.__name__}: legacy_errors gives the error frames of 0.0.x, which stand in no {cls.envelope}; set "
                "legacy_errors = False"
            )
        policy = ErrorPolicy(cls.include_input, cls.max_errors, cls.max_error_bytes, cls.legacy_errors, cls._framing)
        check_subprotocols(cls.__name__, cls.subprotocols)
        check_deflate_min(cls.__name__, cls.deflate_min)
        _check_admission(cls)
        _check_style(cls)
        cls.tags = checked_tags(f"class {cls.__name__}", cls.tags)
        cls.security = check_security(cls.__name__, cls.security)
        cls._own_middleware = ()
        cls._own_observers, cls._observers = (), cls._all_observers()
        cls._codecs = cls._declared_codecs()
        charge = cls._gate().charge
        cls._definition = Definition(Decoder({}, framing=cls._framing), policy, charge=charge)
        cls._packed = {
            codec: Definition(Decoder({}, framing=framing), policy.packed(framing), charge=charge)
            for codec in dict.fromkeys(cls._codecs.values())
            if (framing := packed(cls._framing, codec)) is not cls._framing
        }
        cls._handlers = Handlers(handlers, cls._compile)
        cls._compile(handlers, handlers)
        cls._warn_of_parameters()

    @classmethod
    def _warn_of_parameters(cls) -> None:
        """Of models that are the whole message in a base, and a parameter in this envelope."""
        for event, route in cls._definition.decoder.routes.items():
            if route.flat is None:
                continue
            bases = (base for base in cls.__mro__[1:] if "_definition" in vars(base) and event in base._handlers)  # type: ignore[attr-defined]
            base: Any = next(bases, None)
            if base is None or base._handlers[event] is not cls._handlers[event]:
                continue
            if base._definition.decoder.routes[event].signature.message_model is not None:
                route.flat.warn(cls.__name__, base.__name__)

    @classmethod
    def _events(cls) -> Events:
        """As which events this class attaches a handler."""
        namespace, arguments = {cls.__name__: cls, **vars(cls)}, type_arguments(cls)
        return lambda handler: handler.events(namespace, key=cls._framing.model_key, arguments=arguments(handler))

    @classmethod
    def _compile(cls, handlers: Mapping[str, Handler[..., Any]], changed: Iterable[str]) -> None:
        changed = tuple(changed)
        cls._definition = cls._with_changed(cls._definition, handlers, changed)
        cls._packed = {codec: cls._with_changed(mine, handlers, changed) for codec, mine in cls._packed.items()}

    @classmethod
    def _with_changed(
        cls, mine: Definition, handlers: Mapping[str, Handler[..., Any]], changed: Iterable[str]
    ) -> Definition:
        decoder = cls._compiled(mine.decoder, handlers, changed)
        if decoder.converses and not mine.decoder.converses:
            return mine.copy(decoder)  # connections that are open cannot learn that
        mine.decoder = decoder
        return mine

    @classmethod
    def _declared_codecs(cls) -> Mapping[str, Codec]:
        found = declared_codecs(cls.__name__, cls.codecs)
        check_subprotocols(cls.__name__, tuple(found), "codecs")
        if found and cls._binary_handlers:
            raise DefinitionError(
                f"{cls.__name__} has `codecs`, so that a binary frame may be a message, and a @binary method, which "
                "gets them all; leave one of the two"
            )
        return found

    def _attach(self, handlers: Mapping[str, Any], changed: Iterable[str]) -> None:
        is_served = "_peer" in vars(self) and self._peer.loop is not None
        self._recompile(handlers, changed, taken=is_served)

    def _recompile(self, handlers: Mapping[str, Any], changed: Iterable[str], taken: bool) -> None:
        """`taken`: FastAPI has been asked for what dependencies take of the handshake."""
        mine = self._definition
        changed = list(changed)
        websocket = getattr(self, "websocket", None)
        overrides = self._overrides(None if websocket is None else websocket.scope.get("app"))
        decoder = self._compiled(mine.decoder, handlers, changed, overrides)
        if decoder.converses and not mine.decoder.converses:
            raise DefinitionError(
                f"event {', '.join(changed)!r}: an open connection of {type(self).__name__}, which has no streams and "
                "nothing concurrent, cannot learn that; attach the handler to the class"
            )
        if taken and (unknown := sorted(decoder.handshake.keys() - self._handshake.keys())):
            raise DefinitionError(
                f"event {', '.join(changed)!r}: a dependency takes {', '.join(map(repr, unknown))} of the handshake, "
                "which is over; attach the handler in `__init__` or to the class"
            )
        self._definition = mine.copy(decoder, overrides)
        if self._loop is not None:
            self._loop.definition = self._definition

    @classmethod
    def _compiled(
        cls,
        before: Decoder,
        handlers: Mapping[str, Any],
        changed: Iterable[str],
        overrides: Overrides = _NO_OVERRIDES,
    ) -> Decoder:
        """The routes with those of the changed events anew; the others stay, so that 1,000 events are 1,000 steps."""
        namespace = {cls.__name__: cls, **vars(cls)}
        arguments = type_arguments(cls)
        routes, gate, framing = dict(before.routes), cls._gate(), before.framing
        style: Any = {"extra": cls.extra, "alias_generator": cls.alias_generator}
        converses = (
            before.converses or (cls.acknowledge and not cls._framing.answers_requests) or cls._questions is not None
        )
        uploads = before.uploads
        for event in changed:
            if event in handlers:
                own = unbound(handlers[event])
                routes[event] = route = own.compile(
                    namespace,
                    framing=framing,
                    event=event,
                    arguments=arguments(own),
                    endpoint=cls,
                    overrides=overrides,
                    replies=not gate.is_around,
                    **(style if own is not _RESUME else {}),
                )
                route.hidden = not own.include_in_schema
                gate.stand_before(route, own)
                tell(cls._observers, "compiled", cls, route)
                converses = converses or route.conduct is not None
                uploads = uploads or route.items is not None
            else:
                del routes[event]
        binary = cls._compiled_binary(namespace, overrides, gate)
        converses = converses or (binary is not None and binary.conduct is not None)
        if converses:
            cls._refuse_controls(handlers, uploads)
            routes["cancel"] = before.routes["cancel"] if before.converses else cancel_route(framing)
        if cls._questions is not None:
            routes["reply"] = before.routes.get("reply") or reply_route(framing)
        if uploads and not before.uploads:
            routes |= {"item": item_route(framing), "complete": complete_route(framing)}
        if any(unbound(handlers[event]).errors for event in changed if event in handlers):
            check_errors(cls.__name__, handlers)
        decoder = Decoder(
            routes,
            framing=framing,
            disclose_events=cls.disclose_events,
            converses=converses,
            uploads=uploads,
            texts=declared_pings(cls.__name__, cls.text_pings, framing),
            batches=declared_batches(framing),
            binary=binary,
        )
        check_handshake(cls.__name__, decoder)
        return decoder

    @classmethod
    def _compiled_binary(cls, namespace: Mapping[str, Any], overrides: Overrides, gate: Gate) -> Route | None:
        for own in cls._binary_handlers:
            returns = own.resolve(namespace).returns
            is_nothing = returns is None or returns is type(None)
            if cls._framing.answers_requests and not is_nothing and replies_of(cls.__name__, returns) != "binary":
                raise DefinitionError(
                    f"{cls.__name__}.{own.__name__}: what answers binary data has no id, so JsonRpc() has no result "
                    "for it; write `-> bytes` or `-> None`, and `await self.send(...)` for messages"
                )
            route = own.compile(
                namespace,
                framing=cls._framing,
                arguments=type_arguments(cls)(own),
                endpoint=cls,
                overrides=overrides,
                replies=not gate.is_around,
            )
            gate.stand_before(route, own)
            tell(cls._observers, "compiled", cls, route)
            return route
        return None

    @classmethod
    def _refuse_controls(cls, handlers: Mapping[str, Any], uploads: bool) -> None:
        declared, controls = cls._declaration.types, ["cancel", "complete"]
        if uploads:
            controls += ["item", "more"]
        if cls._questions is not None:
            declared, controls = declared | cls._questions.types, [*controls, "reply"]
        for name in [each for each in controls if each in handlers or each in declared]:
            raise DefinitionError(
                f"{name!r}: {cls.__name__} has streams, uploads, concurrent handlers, time limits, acknowledgements or "
                "calls, which reserve this name on the wire; give the handler another one with @event('name'), or the "
                "message another `type`"
            )

    @classmethod
    def _with_overrides(cls, plain: Definition, app: Any) -> Definition:
        """The class's definition, in one of its codecs, or what it is with the overrides of today."""
        overrides = cls._overrides(app)
        if not are_overridden(plain.decoder.overridable, overrides):
            return plain
        all_known = vars(cls).get("_overridden", {})
        known = all_known.get(plain.framing)
        if known is None or known[0] is not plain.decoder or known[1].overrides != overrides:
            decoder = cls._compiled(Decoder({}, framing=plain.framing), cls._handlers, cls._handlers, overrides)
            known = plain.decoder, plain.copy(decoder, overrides)
            cls._overridden = {**all_known, plain.framing: known}
        overridden: Definition = known[1]
        return overridden

    @classmethod
    def _overrides(cls, app: Any) -> dict[Any, Callable[..., Any]]:
        overrides = dict(getattr(app, "dependency_overrides", None) or {})
        for base in reversed(cls.__mro__):
            overrides.update(vars(base).get("dependency_overrides", {}))
        return overrides

    @classmethod
    def _gate(cls) -> Gate:
        own = [base._own_middleware for base in reversed(cls.__mro__) if issubclass(base, WebSocketHandlingEndpoint)]
        return Gate(
            cls.rate_limit,
            middleware=tuple(itertools.chain(*own)),
            before=cls.before is not WebSocketHandlingEndpoint.before,
            idles=cls.idle_timeout_s is not None,
        )

    @classmethod
    def middleware(cls, function: M) -> M:
        """
        Decorate a function that is around the validation and the handler of every message that an event is for:

            @Chat.middleware
            async def timed(endpoint: Chat, call: Call, handle: Handle) -> Any:
                begun = time.monotonic()
                try:
                    return await handle()
                finally:
                    logger.info("%s took %.3f s", call.event, time.monotonic() - begun)

        What it gives is the reply. `handle()` raises what is wrong with the message (a `ValidationError`) or what the
        handler raised. The one that was added last is around the others, those of subclasses around those of their
        bases. Takes effect at once, for subclasses and open connections, too. Raises `DefinitionError` for what cannot
        be awaited with these three.
        """
        check_middleware(cls.__name__, function)
        cls._own_middleware = (*cls._own_middleware, function)
        cls._compile_anew()
        return function

    @classmethod
    def add_observer(cls, observer: Observer) -> None:
        """
        Have telemetry told of the connections of this class and its subclasses, also of those that are made later.

        Takes effect at once: messages of connections that are open are seen from now on, too. Who is added twice is
        told once.
        """
        if observer not in cls._own_observers:
            cls._own_observers = (*cls._own_observers, observer)
            cls._compile_anew()

    @classmethod
    def remove_observer(cls, observer: Observer) -> None:
        """The opposite; nothing happens to who was not added here."""
        if observer in cls._own_observers:
            cls._own_observers = tuple(each for each in cls._own_observers if each is not observer)
            cls._compile_anew()

    @classmethod
    def _all_observers(cls) -> tuple[Observer, ...]:
        own = [base._own_observers for base in reversed(cls.__mro__) if issubclass(base, WebSocketHandlingEndpoint)]
        return tuple(dict.fromkeys(itertools.chain(*own)))

    @classmethod
    def _compile_anew(cls) -> None:
        cls._observers = cls._all_observers()
        cls._compile(cls._handlers, cls._handlers)
        for subclass in cls.__subclasses__():
            subclass._compile_anew()

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
        events = tuple(cls._events()(handler))
        for event in events:
            if event in cls._handlers and not overwrite_existing:
                raise DefinitionError(
                    f"event {event!r}: duplicate handler; overwrite_existing=True replaces the other one"
                )
        cls._handlers.attach(handler, events)

    @classmethod
    def asyncapi(cls, *, title: str | None = None, version: str | None = None, path: str = "/") -> dict[str, Any]:
        """
        The AsyncAPI 3.0 document of this class alone, as it is served at `path`: plain JSON values.

        `title` is the class's name unless given, `version` "0.1.0". Raises `ContractError` for what cannot be told.
        """
        from socketsundso.contract import api_of, document  # here: who publishes nothing does not pay for it

        return document(api_of(cls, title=title, version=version, path=path))

    # ------------------------------------------------------------------ what users override and call

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    # older FastAPIs (0.115) do not look a name up for a class, and would ask for a query parameter
    __init__.__annotations__["websocket"] = WebSocket

    def __await__(self) -> Generator[Any, None, None]:
        return self.dispatch().__await__()

    async def authenticate(self) -> Any:
        """
        Who this is, from headers, cookies, query or subprotocols of `self.websocket`: its value is `self.user`.

        Called before `on_connect`, and before the connection is accepted. To refuse, raise Starlette's `HTTPException`
        (401), which answers the handshake; None is somebody who has not signed in. Where it takes longer than
        `authenticate_within_s`, it is cancelled, and the handshake answered 503.
        """

    async def before(self, call: Call) -> bool | None:
        """
        Called for each message that an event is for, before its guards are asked and its fields are looked at.

        To refuse, raise an `EventError` (or `HTTPException`), or return False, which is answered with `forbidden`.
        """

    @property
    def user_expires_at(self) -> Expiry:
        """
        When the sign-in ends: an aware datetime, or seconds since 1970. The connection is closed with 4401 then, unless
        it has been set anew (a handler takes a fresh token), or to None.

        May be set from any thread. Raises ValueError for a datetime without time zone, and for milliseconds.
        """
        return self._user_expires_at

    @user_expires_at.setter
    def user_expires_at(self, expiry: Expiry) -> None:
        if expiry is not None:
            seconds_since_1970(expiry)
        self._user_expires_at = expiry
        loop = self._peer.loop
        if loop is not None and self._peer.accepted and self._peer.over is None:
            loop.call_soon_threadsafe(self._watch_deadlines)

    async def on_connect(self) -> None:
        """
        Called after `authenticate`. Accepts the connection; an override calls `await self.websocket.accept()` itself.

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

    @awaited
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
        if ref is None and self._framing.answers_requests and not (route is not None and route.takes_frame):
            return
        if route is None:
            body = self._definition.encode_nameless(response)
        else:
            body = route.encoder.encode_valid(response) if is_valid(response) else route.encode(response)
        framing = self._framing
        if route is not None and route.apart == "stream":
            framing = framing.of_items
        elif self._loop is not None:
            self._loop.note_answer(record)
        if type(body) is BinaryPayload:
            await self._peer.send_bytes(body)
        else:
            await self._peer.send_answer(body if ref is None else framing.with_ref(body, ref))

    @awaited
    async def send(self, message: Any) -> None:
        """
        Send a message of its own: a model, Struct, dataclass, or dict with a `type`.

        May be called from any task of the connection's event loop; messages go out whole, in the order of the
        calls. Raises `WebSocketDisconnect` if the peer is gone.
        """
        await self._peer.send_body(self._pushed(message))

    def _pushed(self, message: Any) -> bytes:
        """What `send` writes."""
        body, framing = self._declaration.encode_push(message), self._framing
        return body if framing.is_canonical else framing.frame(body)

    @awaited
    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """
        Send a binary frame, in order with what `send` sends.

        Raises as `send` does, and TypeError for what is no bytes, or where `emits` lists classes and not `bytes`.
        """
        await self._peer.send_bytes(self._declaration.binary_push(data))

    @awaited
    def together(self) -> contextlib.AbstractAsyncContextManager[None]:
        """
        Keep together what is sent within: nothing else comes between on this connection.

            async with self.together():
                await self.send(Speech(rate=16_000, bytes=len(pcm)))
                await self.send_bytes(pcm)

        What others send meanwhile (handlers, tasks, rooms, presence) goes out behind it, in order: their replies wait,
        pushes wait within `max_outbound_bytes`, and `on_slow` says what becomes of more. So await nothing long in it,
        and nothing that waits for them. What the block broadcasts to a room that it is in comes behind it, too. Tasks
        that it starts, and blocks within it, are a part of it.

        Raises `WebSocketDisconnect` if the peer is gone.
        """
        return self._peer.together(self, self._framing)

    @awaited
    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Close the connection, once; a second call does nothing. `on_disconnect` gets `code`."""
        await self._peer.close(code, reason)

    @overload
    async def call(self, question: Any, *, returns: type[T], timeout_s: float = 30.0) -> T: ...
    @overload
    async def call(self, question: Any, *, timeout_s: float = 30.0) -> Any: ...
    @awaited  # type: ignore[misc]  # whose `self` has no name
    async def call(self, question: Any, *, returns: Any = UNSET, timeout_s: float = 30.0) -> Any:
        """
        Ask the client, and wait for its answer: `await self.call(Ask(question="sure?"), returns=Answer)`.

            {"type":"ask","ref":"s:1","question":"sure?"}
            {"type":"reply","ref":"s:1","answer":{"yes":true}}

        `calls` of the class lists what may be asked; `returns` repeats the type of the answer, for type checkers. May
        be called from any task of the connection's event loop, and several times at once. Where nobody waits any more,
        the client is told: `{"type":"cancel","ref":"s:1"}`.

        Raises `CallRefused` if the client refuses, `CallTimeout` if it has not answered after `timeout_s` seconds,
        `InvalidAnswer` if the answer is not valid, `WebSocketDisconnect` at once when the peer leaves; TypeError for a
        question that is not listed, RuntimeError before the connection is accepted and while `on_connect` runs: what is
        asked there is asked by a task, with `self.spawn`.
        """
        calls, cls = self._calls, type(self)
        if cls._questions is None:
            raise asks_nothing(cls)
        self._peer.require()
        if calls is None or not self._peer.accepted:
            raise RuntimeError("call after the connection is accepted, in a handler or in a task of `self.spawn`")
        return await calls.ask(question, returns, timeout_s)

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
        _, route, ref, _, wrong = answering(peer) or NOTHING
        if exc is not wrong and isinstance(exc, ValidationError):
            exc = EventError("internal_error")  # the application's own, with the application's values in it
        elif isinstance(exc, EventError) and exc.detail_names:
            exc = written(exc)
        if ref is not None and self._framing.answers_requests and self._loop is not None:
            self._loop.note_answer(answering(peer))
        await peer.send_answer(error_frame(exc, self._definition.error_policy, ref, route))

    @property
    def sync(self) -> Sync:
        """
        The same calls for handlers that are `def`, which run in threads: `self.sync.broadcast(...)`, without `await`.

        It has `send`, `send_bytes`, `call`, `respond`, `close`, `join`, `leave`, `broadcast`, `identify`, `track` and
        `untrack`, and `with self.sync.together():`.
        """
        return Sync(self, self._peer.loop)

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

    @awaited
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

    @awaited
    async def leave(self, room: str | Iterable[str], *more: str | Iterable[str]) -> None:
        """Leave a room, or several; nothing happens to who is not in them."""
        await self._membership.leave(room, *more)

    @awaited
    async def broadcast(
        self, message: Any, room: str | Iterable[str], *, exclude_self: bool = False, ttl_s: float | None = None
    ) -> None:
        """
        Send a message to everybody in a room or several, each connection once; one need not be in them. Bytes are a
        binary frame, which no room keeps.

        Never waits for a peer. In a room with history it is numbered, and `BackplaneUnavailable` raised
        while the engine is away; other rooms get it in this process then, which the hub's status counts.
        """
        await self._membership.broadcast(message, room, exclude_self, ttl_s)

    @awaited
    async def identify(self, user: str) -> None:
        """Make this connection one of the user's: `hub.to_user(user)` reaches it from now on."""
        await self._membership.identify(user)

    @awaited
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

    @awaited
    async def untrack(self, room: str | None = None) -> None:
        """Take this connection out of the room's presence, but not out of the room."""
        await self._membership.untrack(room)

    # ------------------------------------------------------------------ the life of a connection

    @property
    def current_load(self) -> Load:
        """What runs and waits for this connection at the moment, for who watches over many."""
        membership: Membership | None = self.__dict__.get("_in_rooms")
        wire, source = wire_of(self.websocket.scope), teller_of(self.websocket.scope)
        return Load(
            *(membership.queued if membership is not None else (0, 0)),
            unsent_bytes=0 if wire is None else wire.buffered,
            streams=0 if self._loop is None else self._loop.streams,
            calls=0 if self._calls is None else len(self._calls.waiting),
            waiting_bytes=0 if source is None else source.waiting_bytes,
        )

    @functools.cached_property
    def _peer(self) -> Peer:
        kind = RequestingPeer if self._framing.answers_requests else Peer
        return kind(self.websocket, self.subprotocols, self._codecs)

    @functools.cached_property
    def _answered(self) -> Answered:
        """In an envelope in which nothing may have two answers."""
        return Answered()

    @functools.cached_property
    def _kept(self) -> Kept:
        return Kept()

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
        if self._observers:
            self._be_observed()
        try:
            if self._packed:
                peer.on_accept = self._speak
                self._speak(peer.subprotocol)
            if self._definition.decoder.overridable:
                await self._look_up_dependencies()
            if await self._connected():
                tell(self._observers, "opened", self)
                responds = getattr(self.respond, "__func__", None) is not WebSocketHandlingEndpoint.respond
                self._loop = loop = loop_for(self._definition)(self, peer, self._definition, responds)
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
            await peer.close_written()
        except WebSocketDisconnect as exc:
            exc.with_traceback(None)  # of frames that know it: they would keep the endpoint until the collector comes
            code = await peer.code_after(exc)
            await peer.close_written()
        except asyncio.CancelledError:
            code = 1012
            raise
        finally:
            try:
                if (tasks := self.__dict__.get("_tasks")) is not None:
                    await tasks.cancel()
                await self._farewell(code)
            finally:
                self._end(code)

    def _be_observed(self) -> None:
        """What is sent is told by functions of the instance's own, until `_end`: nothing has to ask who listens."""

        answer, encode, send_bytes = self.send_exception, self._pushed, self.send_bytes

        def observed_answer(exc: Exception) -> Awaitable[None]:
            tell(self._observers, "answers", self, exc)
            return answer(exc)

        def observed_push(message: Any) -> bytes:
            body = encode(message)
            tell(self._observers, "pushes", self, message, len(body))
            return body

        def observed_bytes(data: Any) -> Awaitable[None]:
            if isinstance(data, BYTES):
                tell(self._observers, "pushes", self, data, memoryview(data).nbytes)
            return send_bytes(data)

        self.__dict__ |= {"send_exception": observed_answer, "_pushed": observed_push, "send_bytes": observed_bytes}
        tell(self._observers, "began", self)

    def _asking(self, questions: Questions) -> Calls:
        """Those of this connection, about which observers are told if there are any."""
        if not self._observers:
            return Calls(self._peer, questions, self._framing)
        told = functools.partial(tell, self._observers, "asked", self)
        return ObservedCalls(self._peer, questions, self._framing, told)

    async def _connected(self) -> bool:
        peer, step = self._peer, "authenticate"
        if (questions := type(self)._questions) is not None:
            self._calls = self._asking(questions)
        try:
            if not (peer.accepted or peer.negotiable):
                raise HTTPException(400, f"none of these subprotocols: {', '.join(self.subprotocols)}")
            self._check_origin()
            if not await self._authenticated():
                self._tell_refusal("forbidden")
                return False
            if self._declaration.attends:
                self._membership.attend()
            step = "on_connect"
            if self._declaration.history:
                await self._membership.declare_history()
            await self.on_connect()
        except WebSocketDisconnect:
            raise
        except Exception as exc:
            if peer.gone and isinstance(exc, OSError):  # of a send that found nobody there
                return False
            if not refusal.is_meant(exc):
                where = type(self).__name__, step, peer.name
                logger.exception("%s.%s failed for %s", *where, extra=about(peer, self))
            self._tell_refusal(refusal.reason_of(exc))
            await refusal.refuse(peer, exc)
            return False
        if self.websocket.application_state is WebSocketState.CONNECTING:
            what = "%s.on_connect neither accepted nor closed the connection: refused"
            logger.error(what, type(self).__name__, extra=about(peer, self))
            await self.websocket.close(1011)
        self._note_offer()
        if peer.closed is not None or not peer.accepted:
            self._tell_refusal("forbidden")
            return False
        cls = type(self)
        if cls.authenticate_within_s is not None or cls.idle_timeout_s is not None or self._user_expires_at is not None:
            self._watch_deadlines()
        return True

    def _tell_refusal(self, reason: str) -> None:
        if not self._peer.accepted:
            tell(self._observers, "refused", self, reason)

    def _check_origin(self) -> None:
        """Raises what the handshake of another page is answered with; the first one is logged, to be seen at work."""
        cls, headers = type(self), self.websocket.scope["headers"]
        if cls._origins is None or cls._origins.permit(headers):
            return
        if "_noted_origin" not in vars(cls):
            cls._noted_origin = True
            sent = [value.decode("latin-1") for name, value in headers if name.lower() == b"origin"]
            logger.warning(
                "%s: a page of the origin %r may not connect; add it to `allowed_origins` if it should (told once)",
                cls.__name__,
                ", ".join(sent)[:200] if sent else None,
                extra=about(self._peer, self),
            )
        raise HTTPException(403, "this origin may not connect")

    async def _authenticated(self) -> bool:
        """May it go on? `authenticate` may have closed."""
        if type(self).authenticate is WebSocketHandlingEndpoint.authenticate:
            return True
        try:
            with UnlessGone(self._peer, self.disconnect_grace_s):
                async with asyncio.timeout(self.authenticate_within_s) as within:
                    self.user = await self.authenticate()
        except TimeoutError as exc:
            if not within.expired():
                raise
            raise HTTPException(503, "signing in takes too long") from exc
        return self._peer.closed is None

    def _watch_deadlines(self) -> None:
        """From now on; or anew, since one has moved."""
        if self._deadlines is None:
            if self._peer.over is not None:
                return
            self._deadlines = Deadlines(self, self._peer)
        self._deadlines.look()

    def _note_offer(self) -> None:
        """A browser fails a connection whose offer of subprotocols was not answered."""
        cls, peer = type(self), self._peer
        if peer.accepted and peer.subprotocol is None and peer.offered and "_noted_offer" not in vars(cls):
            cls._noted_offer = True
            logger.warning(
                "%s: a client offers the subprotocols %r and got none; set `subprotocols` on the class (told once)",
                cls.__name__,
                [name if len(name) <= _SHOWN else f"{name[:8]}…" for name in peer.offered],
                extra=about(peer, self),
            )

    @classmethod
    def _refusal(cls) -> str:
        handshake = handshake_of(cls._definition.decoder)
        return super()._refusal() or (handshake.refusal(cls.__name__) if handshake is not None else "")

    async def _look_up_dependencies(self) -> None:
        """Which are overridden, and what they take of the handshake. Raises what FastAPI refuses that with."""
        self._define()
        handshake = handshake_of(self._definition.decoder)
        if handshake is not None:
            self._handshake = await handshake.solve(self.websocket, type(self).__name__)

    def _speak(self, subprotocol: str | None) -> None:
        """Read and write messages in what was negotiated."""
        cls, codec = type(self), JSON if subprotocol is None else self._codecs.get(subprotocol, JSON)
        if codec is self._framing.codec:
            return
        self._framing = packed(cls._framing, codec)
        self._peer.frame_as(codec.is_binary)
        self._define()
        if cls._questions is not None and self._calls is not None:
            self._calls = self._asking(cls._questions)

    def _define(self) -> None:
        """What frames are to this connection: in its codec, with the overrides of today, and its own handlers."""
        cls = type(self)
        plain = cls._packed.get(self._framing.codec, cls._definition)
        self._definition = cls._with_overrides(plain, self.websocket.scope.get("app"))
        if (own := self.__dict__.get("_own_handlers")) is not None:
            of_class = cls._handlers
            changed = [event for event in {**of_class, **own} if unbound(own.get(event)) is not of_class.get(event)]
            self._recompile(own, changed, taken=False)

    async def _farewell(self, code: int) -> None:
        try:
            if self._peer.accepted:
                await self._disconnected(code)
        finally:
            if "_kept" in self.__dict__:
                await self._kept.close(f"{type(self).__name__}, {self._peer.name}")

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
            where = type(self).__name__, self._peer.name
            logger.exception("%s.on_disconnect failed for %s", *where, extra=about(self._peer, self))

    def _end(self, code: int) -> None:
        """Let go of everything; no cycle keeps the endpoint alive until the collector comes."""
        if (membership := self.__dict__.pop("_in_rooms", None)) is not None:
            membership.leave_everything()
        if self._loop is not None:
            self._loop.release()
            self._loop = None
        if self._calls is not None:
            self._calls.fail(code)
            self._calls = None
        if self._observers:
            tell(self._observers, "ended", self, code, self._peer.closed is None)
            for name in ("send_exception", "_pushed", "send_bytes"):
                self.__dict__.pop(name, None)
        self._peer.release(code)
        if self._deadlines is not None:
            self._deadlines.end()
            self._deadlines = None
        self.__dict__.pop("_own_handlers", None)
        self.__dict__.pop("_kept", None)


WebSocketHandlingEndpoint.dependency_overrides = {}
WebSocketHandlingEndpoint._handlers = Handlers({}, WebSocketHandlingEndpoint._compile)
WebSocketHandlingEndpoint._declaration = Declaration(WebSocketHandlingEndpoint, ())


async def _resume(self: WebSocketHandlingEndpoint, rooms: dict[str, Resume]) -> None:
    await self._membership.resume(rooms)


# The event of endpoints with history; not an attribute of theirs, so that others may have a `resume` of their own.
_RESUME: Handler[..., Any] = event_decorator("resume", Resumed)(_resume)


def _freeze(cls: type[WebSocketHandlingEndpoint]) -> None:
    """A room that is added to the history later would have none, nor is a new question asked; so none can be added."""
    if isinstance(cls.history, dict):
        cls.history = MappingProxyType(dict(cls.history))
    if isinstance(cls.calls, dict):
        cls.calls = MappingProxyType(dict(cls.calls))
    if isinstance(cls.text_pings, dict):
        cls.text_pings = MappingProxyType(dict(cls.text_pings))


def _check_style(cls: type[WebSocketHandlingEndpoint]) -> None:
    """Which keys parameters are taken from, and what becomes of others. Raises `DefinitionError`."""
    if cls.extra not in ("forbid", "ignore"):
        raise DefinitionError(
            f'class {cls.__name__}: extra is {cls.extra!r}; it is "forbid", or "ignore" to let keys pass that no '
            "parameter takes"
        )
    generator: Any = cls.alias_generator
    if not (generator is None or callable(generator) or isinstance(generator, AliasGenerator)):
        raise DefinitionError(
            f"class {cls.__name__}: alias_generator is {generator!r}; it makes a key of a name: "
            "`alias_generator = to_camel` (of pydantic.alias_generators)"
        )


def _check_admission(cls: type[WebSocketHandlingEndpoint]) -> None:
    """Who may connect, stay, and how much they may say. Raises `DefinitionError`."""
    cls._origins = declared_origins(cls.__name__, cls.allowed_origins, cls.allow_missing_origin)
    if isinstance(cls.allowed_origins, list):
        cls.allowed_origins = tuple(cls.allowed_origins)  # one that is added later would not be let in
    check_rate_limit(cls.__name__, cls.rate_limit)
    check_seconds(cls.__name__, "authenticate_within_s", cls.authenticate_within_s)
    check_seconds(cls.__name__, "idle_timeout_s", cls.idle_timeout_s)
