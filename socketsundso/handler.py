"""
`Handler` and `@event`: a function, the event it handles and the shape of its reply.

A handler is declared once and compiled by each endpoint that it is attached to; it holds no endpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import CellType, FrameType, FunctionType, MappingProxyType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, TypeVar, get_args, get_origin, overload

from pydantic import AliasGenerator, BaseModel, ConfigDict, create_model
from starlette.concurrency import run_in_threadpool

from socketsundso.errors import DefinitionError, EventError, did_you_mean
from socketsundso.messages import (
    CANONICAL,
    Encodes,
    Extra,
    Framing,
    Overrides,
    ResponseOptions,
    Route,
    Signature,
    Unresolvable,
    Wholes,
    check_errors,
    conduct_of,
    encoder_for,
    field_names,
    is_model,
    item_encoder,
    json_model_fields,
    packed_encoder,
    refuse_beside,
    returned_model,
    signature,
    solved,
    substituted,
)
from socketsundso.models import EventMessage

P = ParamSpec("P")
Q = ParamSpec("Q")
AliasGenerates = Callable[..., str] | AliasGenerator
"""Makes a key of a name. Of a function in a class's body type checkers make a method, which takes one argument less."""
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class _Unset:
    """`response_model` was not given: the return annotation decides."""

    def __repr__(self) -> str:
        return "<the return annotation>"


UNSET = _Unset()


class Handler(Generic[P, R]):
    """
    One event's handler. Call it like the function it wraps: `await handler(room="lobby", msg="hi")`.

    Attributes: `event`, the name in a message's `type`; `method`, the function; `response_model`, what its replies
    are validated by, or None; `model`, a pydantic model of the incoming message, or the class that is the message.

    Without `event`, a whole message names its events (docs/handlers.md); else it is the function's name.

    `thread=False` runs a function that is not async right in the event loop: only for functions that never block.
    `guards` are asked in order before a message's fields are looked at, each `guard(endpoint, call)`.
    A generator, or what returns an `AsyncIterator[T]`, is a stream of `T`; a parameter that is one is an upload.
    `timeout_s`: it is cancelled then, and answered `timeout`. `concurrent`: so many run at once, beside
    all else; True for the class's `max_concurrent`.
    `serial_by`: beside everything else, but one at a time for each value of that parameter, or of that field
    of a whole message, in order.
    `errors` are the application's own that it may be answered with. `summary`, `description` (else those of the
    docstring), `tags` and `deprecated` are for the contract, from which `include_in_schema=False` leaves the event out.
    The `response_model_*` arguments mean what they mean in FastAPI. Raises `DefinitionError` for what can never
    work.
    """

    def __init__(
        self,
        event: str | None = None,
        method: Callable[P, Any] | None = None,
        response_model: Any = UNSET,
        *,
        thread: bool = True,
        guards: Sequence[Callable[[Any, Any], Any]] = (),
        timeout_s: float | None = None,
        concurrent: int | bool = False,
        serial_by: str | None = None,
        response_model_include: Any = None,
        response_model_exclude: Any = None,
        response_model_exclude_unset: bool = False,
        response_model_exclude_defaults: bool = False,
        response_model_exclude_none: bool = False,
        response_model_by_alias: bool = True,
        errors: Sequence[type[EventError]] = (),
        summary: str | None = None,
        description: str | None = None,
        tags: Sequence[str] = (),
        deprecated: bool = False,
        include_in_schema: bool = True,
        _frame: FrameType | None = None,
    ) -> None:
        if isinstance(method, Handler):
            raise DefinitionError(f"{method!r}: this is a handler already; it cannot be wrapped in another")
        if isinstance(method, classmethod):
            raise DefinitionError(
                f"{method.__func__.__qualname__}: a classmethod cannot be a handler; take `self` and use type(self)"
            )
        if not callable(method):
            raise DefinitionError(f"a handler's method has to be callable, not {method!r}")
        self.method: Callable[P, Any] = method.__func__ if isinstance(method, staticmethod) else method
        self.event = _checked_name(signature.event_name(self.method) if event is None else event)
        self._is_named = event is not None
        self.is_coroutine = signature.is_async(self.method)
        """Is it `async def`?"""
        self.thread = thread
        self.guards = _checked_guards(self.event, guards)
        self.errors = check_errors(f"event {self.event!r}", errors)
        self.tags = checked_tags(f"event {self.event!r}", tags)
        self.summary, self.description = summary, description
        self.deprecated, self.include_in_schema = deprecated, include_in_schema
        self._timeout_s, self._concurrent, self._serial_by = timeout_s, concurrent, serial_by
        self._wanted = response_model
        self.response_options = ResponseOptions(
            include=response_model_include,
            exclude=response_model_exclude,
            by_alias=response_model_by_alias,
            exclude_unset=response_model_exclude_unset,
            exclude_defaults=response_model_exclude_defaults,
            exclude_none=response_model_exclude_none,
        )
        """What the `response_model_*` arguments say."""
        self._signature: Signature | None = None
        self._wholes = Wholes()
        self._names: list[Mapping[str, Any]] = []  # the local names there, where dependencies may need them
        # Where the function was defined: its local names may be needed once more at class creation, not later.
        self._frame: FrameType | None = _frame or sys._getframe(1)
        self.__doc__ = self.method.__doc__
        self.__name__ = getattr(self.method, "__name__", self.event)
        self.__qualname__ = getattr(self.method, "__qualname__", self.event)
        self.__module__ = getattr(self.method, "__module__", type(self).__module__)
        with contextlib.suppress(ValueError, TypeError, NameError):  # for `help`, editors and mocks
            self.__signature__ = inspect.signature(self.method)
        try:
            self.resolve({})
        except Unresolvable:
            pass  # names of the class body or of later statements: the endpoint tries again
        else:
            self._forget_frame()

    takes_frame: ClassVar[bool] = False
    """Is what it handles a binary frame, and no message?"""

    def __repr__(self) -> str:
        return f"<Handler of {self.event!r}: {getattr(self.method, '__qualname__', self.method)}>"

    def resolve(self, namespace: Mapping[str, Any]) -> Signature:
        """The signature; `namespace` (a class's) helps with annotations written as strings."""
        if self._signature is None:
            namespaces = [namespace, *_locals(self._frame)]
            self._signature = self._read(namespaces)
        return self._signature

    def _read(self, namespaces: Sequence[Mapping[str, Any]]) -> Signature:
        found = signature.read(self.event, self.method, namespaces, returns=isinstance(self._wanted, _Unset))
        refuse_beside(found)
        return found

    def events(
        self, namespace: Mapping[str, Any], *, key: str, arguments: Mapping[Any, Any] = MappingProxyType({})
    ) -> tuple[str, ...]:
        """
        The events that it is attached as: that of `@event`, else those that its whole message names at `key`.

        Raises `DefinitionError` for a name that no event can have.
        """
        if self._is_named:
            return (self.event,)
        read = signature.specialised(self.resolve(namespace), arguments)
        return tuple(map(_checked_name, self._wholes.members(read.parameters, key))) or (self.event,)

    def _forget_frame(self) -> None:
        if self._frame is not None and self._signature is not None and self._signature.injected:
            self._names = [dict(names) for names in _locals(self._frame)]
        self._frame = None

    @property
    def response_model(self) -> Any:
        """The model or models that were declared for replies, as they were declared, or None."""
        if not isinstance(self._wanted, _Unset):
            return self._wanted
        returns = self.resolve({}).returns
        return returns if is_model(returns) else None

    @functools.cached_property
    def model(self) -> type[BaseModel]:
        """A pydantic model of the incoming message: `type` and one field per parameter."""
        own = dataclasses.replace(self.resolve({}), event=self.events({}, key="type")[0])
        read = self._wholes.complete(self._solved(own, {})[0], own, "type")
        if read.message_model is not None:
            return typing.cast("type[BaseModel]", read.message_model)
        fields: dict[str, Any] = json_model_fields(read)
        return create_model(
            f"EventMessage_{self.event}",
            __config__=ConfigDict(extra="forbid", protected_namespaces=()),
            **fields,
        )

    def compile(
        self,
        namespace: Mapping[str, Any],
        *,
        framing: Framing,
        event: str | None = None,
        arguments: Mapping[Any, Any] = MappingProxyType({}),
        endpoint: type | None = None,
        overrides: Overrides = MappingProxyType({}),
        replies: bool = True,
        extra: Extra = "forbid",
        alias_generator: AliasGenerates | None = None,
    ) -> Route:
        """
        This handler for one endpoint, as `event` there.

        `arguments` are what the endpoint has for the type variables, `overrides` what is called in place of
        dependencies, and `replies` says that nothing is between what the handler gives and its reply. `extra` and
        `alias_generator` are the class's. Raises `DefinitionError` for what cannot be built.
        """
        try:
            read = self.resolve(namespace)
            event = self.events(namespace, key=framing.model_key, arguments=arguments)[0] if event is None else event
        finally:
            self._forget_frame()

        def as_here(found: Signature) -> Signature:
            found = signature.specialised(found, arguments)
            return found if alias_generator is None else signature.renamed(found, alias_generator)

        read = as_here(dataclasses.replace(read, event=event, extra=extra))
        encoder = self._encoder(read, arguments, framing)
        taken, function = self._solved(read, namespace, as_here, endpoint, overrides, replies)
        taken = self._wholes.complete(taken, read, framing.model_key)
        conduct = conduct_of(
            read,
            fields=field_names(taken.message_model) if taken.message_model is not None and read.parameters else (),
            timeout_s=self._timeout_s,
            concurrent=self._concurrent,
            serial_by=self._serial_by,
            thread=self.thread,
        )
        in_thread = self._runs_in_thread(read)
        return Route(
            taken,
            function,
            encoder,
            framing=framing,
            in_thread=in_thread,
            conduct=conduct,
            takes_frame=self.takes_frame,
        )

    def _encoder(self, read: Signature, arguments: Mapping[Any, Any], framing: Framing) -> Encodes:
        encode = item_encoder if read.streams else encoder_for
        encoder = encode(read.event, self._model_for(read, arguments), self.response_options, framing.unpacked)
        return packed_encoder(encoder, framing) if framing.codec.is_binary else encoder

    def _runs_in_thread(self, read: Signature) -> bool:
        return self.thread and not self.is_coroutine and not read.is_generator

    def _solved(
        self,
        read: Signature,
        namespace: Mapping[str, Any],
        as_here: Callable[[Signature], Signature] = lambda found: found,
        endpoint: type | None = None,
        overrides: Overrides = MappingProxyType({}),
        replies: bool = True,
    ) -> tuple[Signature, Callable[..., Any]]:
        """The signature with what its dependencies take, which `as_here` adapts, and the function that solves them."""

        def read_one(call: Callable[..., Any]) -> Signature:
            return as_here(signature.read_dependency(read.event, call, [namespace, *self._names], endpoint))

        return solved(
            read, self.method, read_one, in_thread=self._runs_in_thread(read), overrides=overrides, replies=replies
        )

    def said_of_replies(self, read: Signature, arguments: Mapping[Any, Any]) -> Any:
        """The return annotation, or the response model that was given; `read` has types for type variables."""
        if isinstance(self._wanted, _Unset):
            return read.returns
        return signature.given_types(f"event {read.event!r}, the response model", self._wanted, arguments)

    def _model_for(self, read: Signature, arguments: Mapping[Any, Any]) -> Any:
        """What replies are validated by: only with types for its variables is a `T` a model, or none."""
        said = self.said_of_replies(read, arguments)
        return returned_model(said) if isinstance(self._wanted, _Unset) else said

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, in a worker thread if it is not async. Nothing is validated."""
        message = kwargs.get("event_message")
        if isinstance(message, EventMessage) and len(kwargs) == 1:
            return await self.handle_event(message, *args)  # type: ignore[no-any-return]  # the reply, as in 0.0.x
        if self.is_coroutine:
            value: R = await self.method(*args, **kwargs)
            return value
        if not self.thread or signature.is_generator(self.method):
            return self.method(*args, **kwargs)  # type: ignore[no-any-return]  # the function's own type
        return await run_in_threadpool(self.method, *args, **kwargs)

    async def handle_event(self, message: EventMessage, *instance: Any) -> Any:
        """
        Validate a message that came as a model, call the function with it, validate its reply.

        Raises pydantic's `ValidationError` for the message, `ResponseError` for the reply.
        """
        event = message.type if message.type in self.events({}, key="type") else None
        route = self.compile({}, framing=CANONICAL, event=event)
        if route.signature.overridable or route.items is not None:
            what = "an upload comes" if route.items is not None else "dependencies are solved for messages"
            raise DefinitionError(f"event {self.event!r}: {what} of a connection only")
        values = route.exact(message.model_dump_json(by_alias=True))
        value = route.call_exact(values, instance[0] if instance else None)
        value = await value if route.awaited else value
        return None if value is None else route.encoder.validate(value)

    @overload
    def __get__(self, instance: None, owner: type) -> Handler[P, R]: ...
    @overload
    def __get__(
        self: Handler[Concatenate[Any, Q], R], instance: object, owner: type
    ) -> Callable[Q, Coroutine[Any, Any, R]]: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        return self if instance is None else self.bound_to(instance)

    def bound_to(self, instance: object) -> Any:
        """Callable without `self`; all attributes of the handler show through."""
        return MethodType(self, instance) if self._takes_self() else self

    def _takes_self(self) -> bool:
        return self._signature is None or self._signature.self_position is not None


def _checked_name(event: Any) -> str:
    if not isinstance(event, str) or event in ("", "error") or not signature.is_unicode(event):
        raise DefinitionError(f"{event!r} cannot be an event's name: it has to be a string, and not 'error'")
    return str.__str__(event)  # of an enum's member, the plain string


def _checked_guards(event: str, guards: Any) -> tuple[Callable[[Any, Any], Any], ...]:
    if callable(guards) or isinstance(guards, str) or not isinstance(guards, Iterable):
        raise DefinitionError(f"event {event!r}: guards is {guards!r}; it is a list of functions: guards=[may_write]")
    asked: tuple[Any, ...] = tuple(guards)
    for guard in asked:
        if not callable(guard) or not takes(guard, "endpoint", "call"):
            raise DefinitionError(
                f"event {event!r}: the guard {guard!r} is called with the endpoint and the call; write it as "
                "`def guard(endpoint, call)`"
            )
    return asked


def checked_tags(where: str, tags: Any) -> tuple[str, ...]:
    """Raises `DefinitionError`, which says `where`."""
    if isinstance(tags, str) or not isinstance(tags, Iterable) or not all(isinstance(tag, str) for tag in tags):
        raise DefinitionError(f"{where}: tags is {tags!r}; it is a list of texts: tags=['orders']")
    return tuple(tags)


def takes(function: Callable[..., Any], *given: Any) -> bool:
    """Can it be called with these, as far as it tells?"""
    try:
        read = inspect.signature(function)
    except (ValueError, TypeError, NameError):
        return True
    try:
        read.bind(*given)
    except TypeError:
        return False
    return True


def _locals(frame: FrameType | None) -> list[Mapping[str, Any]]:
    """The local names where a handler was written, innermost first."""
    scopes: list[Mapping[str, Any]] = []
    while frame is not None and frame.f_locals is not frame.f_globals:
        scopes.append(frame.f_locals)
        # The caller of a class body is the scope around it; the caller of a function is not.
        frame = None if frame.f_code.co_flags & inspect.CO_OPTIMIZED else frame.f_back
    return scopes


def type_arguments(endpoint: type) -> Callable[[Handler[..., Any]], Mapping[Any, Any]]:
    """For a handler of an endpoint: what stands there for the type variables of the class that declares it."""
    known: dict[type, dict[Any, Any]] = {}

    def visit(cls: type, arguments: dict[Any, Any]) -> None:
        known.setdefault(cls, arguments)
        for base in vars(cls).get("__orig_bases__", cls.__bases__):
            origin = get_origin(base) or base
            given = [substituted(argument, arguments) for argument in get_args(base)]
            if isinstance(origin, type) and origin not in (Generic, Protocol, object):
                visit(origin, dict(zip(getattr(origin, "__parameters__", ()), given, strict=False)))

    def of_handler(handler: Handler[..., Any]) -> Mapping[Any, Any]:
        owners = (cls for cls in endpoint.__mro__ if any(value is handler for value in vars(cls).values()))
        return known.get(next(owners, endpoint), {})

    visit(endpoint, {})
    return of_handler


def lost_handler(value: Any, cls: type) -> Handler[..., Any] | None:
    """The handler in what a decorator made of it, which hides it: in a wrapper, a partial, a proxy, an object."""
    todo, seen = [(value, 0)], set()
    while todo:
        each, depth = todo.pop()
        if id(each) in seen or depth > _MOST_WRAPPERS:
            continue
        seen.add(id(each))
        if depth and issubclass(type(each), Handler):
            return each  # type: ignore[no-any-return]  # just asked
        todo += [(inner, depth + 1) for inner in _wrapped_by(each)]
        todo += [(inner, depth + 1) for inner in _kept_by(each) if _may_be_of(inner, cls)]
    return None


_MOST_WRAPPERS = 20


def _wrapped_by(value: Any) -> list[Any]:
    """What it says that it is around. Objects of the application's are not asked: some answer with what they like."""
    if isinstance(value, _WRAPPERS) or hasattr(type(value), "__wrapped__"):
        names = ("__wrapped__", "__func__", "fget", "fset", "func")
    else:
        return [own["__wrapped__"]] if "__wrapped__" in (own := _own(value)) else []
    inner = []
    for name in names:
        with contextlib.suppress(Exception):  # a proxy of nothing
            inner.append(getattr(value, name))
    return inner


_WRAPPERS = (staticmethod, classmethod, property, functools.partial, functools.partialmethod, functools.cached_property,
             functools.singledispatchmethod)  # fmt: skip


def _kept_by(value: Any) -> list[Any]:
    """What a function or an object has without saying so."""
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return [*cells, *defaults, *_own(value).values()]
    return [] if isinstance(value, type | ModuleType) else [*_own(value).values(), *_slots(value)]


def _own(value: Any) -> Mapping[str, Any]:
    try:
        own: Mapping[str, Any] = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return own


def _slots(value: Any) -> list[Any]:
    filled = []
    for member in (each for cls in type(value).__mro__ for each in vars(cls).values()):
        if isinstance(member, MemberDescriptorType):
            with contextlib.suppress(Exception):  # it is empty
                filled.append(member.__get__(value))
    return filled


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # asking is what fails
    except ValueError:
        return False
    return True


def _may_be_of(value: Any, cls: type) -> bool:
    """Was it written in this class? A handler from elsewhere that is kept somewhere is not lost."""
    if isinstance(value, type):
        return False
    if not issubclass(type(value), Handler):
        return isinstance(value, FunctionType | functools.partial)
    return (value.__module__, value.__qualname__.rpartition(".")[0]) == (cls.__module__, cls.__qualname__)


def gives_awaitable(function: Callable[..., Any]) -> bool:
    """Is what it gives to be awaited: is it async, or does its return annotation say so?"""
    if signature.is_async(function):
        return True
    returns = getattr(inspect.unwrap(function), "__annotations__", {}).get("return")
    if isinstance(returns, str):
        return any(word in returns for word in ("Awaitable", "Coroutine", "Future", "Task"))
    origin = get_origin(returns) or returns
    return isinstance(origin, type) and hasattr(origin, "__await__")


class EventDecorator(Protocol):
    """`@event(...)`: takes the function, gives its `Handler`."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> Handler[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Handler[P, R]: ...


@overload
def event(function: Callable[P, Awaitable[R]], /) -> Handler[P, R]: ...
@overload
def event(function: Callable[P, R], /) -> Handler[P, R]: ...
@overload
def event(
    event: str | None = None,
    response_model: Any = UNSET,
    *,
    thread: bool = True,
    guards: Sequence[Callable[[Any, Any], Any]] = (),
    timeout_s: float | None = None,
    concurrent: int | bool = False,
    serial_by: str | None = None,
    response_model_include: Any = None,
    response_model_exclude: Any = None,
    response_model_exclude_unset: bool = False,
    response_model_exclude_defaults: bool = False,
    response_model_exclude_none: bool = False,
    response_model_by_alias: bool = True,
    errors: Sequence[type[EventError]] = (),
    summary: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
    deprecated: bool = False,
    include_in_schema: bool = True,
) -> EventDecorator: ...
def event(event: Any = None, response_model: Any = UNSET, **options: Any) -> Any:
    """
    Make a function the handler of an event, named like the function without `on_` or `handle_`.

        @event
        async def on_message(self, room: str, msg: str) -> Posted: ...

        @event("ping", response_model=Pong)
        def pingpong(self): ...

    Takes the arguments of `Handler`.
    """
    refuse_unknown("@event", options, ("event", *_OPTIONS))
    options.setdefault("_frame", sys._getframe(1))

    def decorate(function: Any) -> Handler[Any, Any]:
        return Handler(name, function, response_model, **options)

    if event is None or isinstance(event, str):
        name = event
        return decorate
    name = None
    return decorate(event)


_OPTIONS = tuple(inspect.signature(Handler.__init__).parameters)[3:]


def refuse_unknown(decorator: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in options:
        if name not in known:
            raise DefinitionError(f"{decorator} takes no argument {name!r}{did_you_mean(name, known)}")
