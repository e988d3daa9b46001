"""
Dependencies are a transformation of the signature: `solved` gives one without, and the function for it.

What they take of the message joins the handler's own parameters, so that one decode fills them all. The function is one
generated coroutine function: it solves the graph in the order that FastAPI has, calls the handler, sends its reply and
tears down in reverse. Nothing is looked up while it runs.

Knows no connection: the generated code asks the endpoint for what a `Solving` has.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool

from socketsundso.errors import DefinitionError
from socketsundso.messages import codegen
from socketsundso.messages.markers import Dependency, Given, Injected, Uploaded, are_alike
from socketsundso.messages.route import threaded
from socketsundso.messages.signature import Parameter, Signature, name_of
from socketsundso.messages.teardown import (
    end_again,
    fail_late,
    left_open,
    stepped_in_threads,
    stepped_inline,
    stepped_once,
    streaming,
    unwind,
)

Overrides = Mapping[Any, Callable[..., Any]]
Reader = Callable[[Callable[..., Any]], Signature]


class Solving(Protocol):
    """What the generated function needs of an endpoint beside its `websocket`."""

    _handshake: Mapping[str, Any]
    """The values of FastAPI's Query, Header, Cookie and Path parameters."""

    _kept: Any
    """What lives as long as the connection: `values` by key, and `open(key, generator)` for one that is not there."""

    _loop: Any
    """
    `prepare(value)` makes a reply, `deliver(reply)` sends it: None, or what is to be awaited for that. `upload()` gives
    the items that follow the message.
    """


@dataclass(frozen=True, slots=True)
class Step:
    """
    One value to be made: `name` is its variable, `arguments` is what stands between the parentheses of the call.

    `key` tells which of a connection's values it is; None for those of a message.
    """

    name: str
    call: Callable[..., Any]
    kind: str
    arguments: str
    scope: str
    key: Hashable | None


def solved(
    signature: Signature,
    function: Callable[..., Any],
    read: Reader,
    *,
    in_thread: bool,
    overrides: Overrides,
    replies: bool,
) -> tuple[Signature, Callable[..., Any]]:
    """
    The signature of the whole graph, and a coroutine function that takes all of its parameters.

    `read` gives the signature of a dependency. `replies`: the function sends the reply, where something is torn down,
    and gives None; else it gives the value, and leaves open what `finishing` then ends. Raises `DefinitionError` for
    what cannot be solved.
    """
    if not signature.injected:
        return signature, function
    graph = _Graph(signature, read, overrides)
    arguments = graph.arguments(signature)
    parameters = tuple(replace(each, kind=_POSITIONAL) for each in graph.fields.values())
    whole = replace(
        signature,
        parameters=parameters,
        injected=(),
        self_position=0,
        by_keyword=False,
        is_async=True,
        overridable=tuple(graph.overridable),
        handshake=MappingProxyType(graph.handshake),
        tears_down=any(map(_is_torn_down, graph.steps)),
    )
    where = f"event {signature.event!r}"
    if is_stream := signature.streams and whole.tears_down:
        _refuse_sync(where, function)
    awaited = signature.is_async or in_thread
    handler = threaded(function) if in_thread and not signature.is_async else function
    handling = f"{'await ' if awaited else ''}handler({arguments})"
    source = _Source(where, graph.steps, handling, replies=replies and not is_stream)
    names = {"handler": handler, **source.names}
    call: Any = codegen.function(", ".join(["endpoint", *graph.variables]), source.body, names, is_async=True)
    call.__signature__ = inspect.Signature([inspect.Parameter(name, _POSITIONAL) for name in ("self", *graph.fields)])
    if is_stream:
        return replace(whole, is_async=False, tears_down=False), streaming(call, where)
    return whole, call


def _refuse_sync(where: str, function: Callable[..., Any]) -> None:
    if inspect.isgeneratorfunction(inspect.unwrap(_without_partials(function))):
        raise DefinitionError(
            f"{where}: a stream with dependencies that are torn down has to be async; write it as `async def`, or open "
            "what it needs within it, or with scope='connection'"
        )


_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


class _Graph:
    """What has to be called for a handler, in order, and what all of that takes of the message."""

    def __init__(self, signature: Signature, read: Reader, overrides: Overrides) -> None:
        self.event = signature.event
        self.steps: list[Step] = []
        self.fields = {each.name: each for each in signature.parameters}  # the handler's own come first
        self.handshake: dict[str, inspect.Parameter] = {}
        self.overridable: list[Callable[..., Any]] = []
        self._read, self._overrides = read, overrides
        self._values: dict[tuple[Hashable, str], Step] = {}

    @property
    def variables(self) -> list[str]:
        """The generated function's parameters, in the order of `fields`."""
        return [f"f_{number}" for number in range(len(self.fields))]

    def arguments(self, signature: Signature, path: tuple[_Caller, ...] = ()) -> str:
        """What the function of this signature is called with."""
        sources = {each.name: self._source(each, path) for each in signature.in_order()}
        return signature.call_arguments(sources)

    def _source(self, parameter: Parameter | Injected, path: tuple[_Caller, ...]) -> str:
        where = f"{path[-1].where if path else f'event {self.event!r}'}, parameter {parameter.name!r}"
        if isinstance(parameter, Parameter):
            if path and path[-1].scope == "connection":
                raise DefinitionError(
                    f"{where}: what lives as long as the connection takes nothing of a message; leave it out, or "
                    "leave scope='connection' out"
                )
            return self._field(where, parameter)
        source = parameter.source
        if isinstance(source, Given):
            return str(source.value)
        if isinstance(source, Uploaded):
            if path:
                raise DefinitionError(f"{where}: only the handler itself takes an upload; hand it what it needs")
            return "endpoint._loop.upload()"
        if isinstance(source, inspect.Parameter):
            return self._of_handshake(where, source)
        return self._step(where, source, path).name

    def _field(self, where: str, parameter: Parameter) -> str:
        known = self.fields.setdefault(parameter.name, parameter)
        if known is not parameter and not _agree(known, parameter):
            raise DefinitionError(
                f"{where}: the message has a field {parameter.name!r} already, with another type, key or default; "
                "declare both alike to share it, or rename one"
            )
        if parameter.default is None:
            self.fields[parameter.name] = parameter  # who has a default is content with what another one demands
        return f"f_{list(self.fields).index(parameter.name)}"

    def _of_handshake(self, where: str, parameter: inspect.Parameter) -> str:
        known = self.handshake.setdefault(parameter.name, parameter)
        if not are_alike(known, parameter):
            raise DefinitionError(
                f"{where}: another dependency takes {parameter.name!r} of the handshake with another declaration; "
                "declare both alike to share it, or rename one"
            )
        return f"endpoint._handshake[{parameter.name!r}]"

    def _step(self, where: str, marker: Dependency, path: tuple[_Caller, ...]) -> Step:
        caller = self._caller(marker)
        _refuse_scope(where, caller, path)
        key = _identity(marker.dependency), _cached_scope(caller)
        if marker.use_cache and key in self._values:
            return self._values[key]
        _refuse_circle(where, (*path, caller))
        step = self._made(caller, (*path, caller), key[0])
        self._values.setdefault(key, step)
        return step

    def _caller(self, marker: Dependency) -> _Caller:
        assert marker.dependency is not None  # it is known since the parameter was read
        self.overridable.append(marker.dependency)
        call = _undecorated(_overridden(marker.dependency, self._overrides))
        kind = _kind(call)
        if kind in _IN_THREAD and marker.thread:
            kind = f"{kind} in a thread"
        return _Caller(call, marker.scope, kind, f"event {self.event!r}, dependency {name_of(call)!r}")

    def _made(self, caller: _Caller, path: tuple[_Caller, ...], identity: Hashable) -> Step:
        arguments = self.arguments(self._read(caller.call), path)
        key = identity if caller.scope == "connection" else None
        step = Step(f"v_{len(self.steps)}", caller.call, caller.kind, arguments, caller.scope, key)
        self.steps.append(step)
        return step


@dataclass(frozen=True, slots=True)
class _Caller:
    """A dependency on the way from the handler to what is looked at."""

    call: Callable[..., Any]
    scope: str
    kind: str
    where: str

    @property
    def is_generator(self) -> bool:
        return self.kind in _AS_GENERATOR


def are_overridden(calls: Iterable[Callable[..., Any]], overrides: Overrides) -> bool:
    """Does any of them have an override?"""
    return bool(overrides) and any(_overridden(call, overrides) is not call for call in calls)


def _overridden(call: Callable[..., Any], overrides: Overrides) -> Callable[..., Any]:
    try:
        return overrides.get(call, call)
    except TypeError:  # it cannot be hashed, so nobody could name it
        return call


def _identity(call: object) -> Hashable:
    try:
        hash(call)
    except TypeError:
        return id(call)
    return call


def _cached_scope(caller: _Caller) -> str:
    """A value without a teardown is the same one until the reply and behind it."""
    return caller.scope if caller.scope == "connection" or caller.is_generator else "function"


def _refuse_scope(where: str, needed: _Caller, path: tuple[_Caller, ...]) -> None:
    """Nothing may outlive what it was made with."""
    if not path:
        return
    taking = path[-1]
    if taking.scope == "connection" and needed.scope != "connection":
        raise DefinitionError(
            f"{where}: what lives as long as the connection cannot depend on {name_of(needed.call)!r} of one message; "
            "give that one scope='connection', too"
        )
    if taking.scope == "request" and taking.is_generator and needed.scope == "function":
        raise DefinitionError(
            f"{where}: {name_of(needed.call)!r} is torn down before the reply, and this one behind it; give both the "
            "same scope"
        )


def _refuse_circle(where: str, path: tuple[_Caller, ...]) -> None:
    if any(each.call is path[-1].call for each in path[:-1]):
        circle = " -> ".join(name_of(each.call) for each in path)
        raise DefinitionError(f"{where}: it depends on itself: {circle}")


def _agree(one: Parameter, other: Parameter) -> bool:
    """Can one field of the message fill both? One of them may be optional."""
    if one.key != other.key or one.exact_only != other.exact_only or not _equal(one.annotation, other.annotation):
        return False
    if one.default is None or other.default is None:
        return True
    factories = one.field.default_factory, other.field.default_factory
    return factories[0] is factories[1] if any(factories) else _equal(one.default(), other.default())


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # an array, say: nobody can tell
        return False


# ---- what kind of function it is


_IN_THREAD = {"value", "generator"}


def _kind(call: Callable[..., Any]) -> str:
    """As FastAPI has it: of wrappers and partials what is within, of an object its `__call__`, of a class a value."""
    bare = _without_partials(call)
    faces = [bare, inspect.unwrap(bare)]
    if not isinstance(faces[1], type):
        faces += [face for each in faces[:2] if (face := getattr(each, "__call__", None))]  # noqa: B004
    if any(map(inspect.isasyncgenfunction, faces)):
        return "async generator"
    if any(map(inspect.isgeneratorfunction, faces)):
        return "generator"
    return "coroutine" if any(map(inspect.iscoroutinefunction, faces)) else "value"


def _without_partials(call: Any) -> Any:
    while isinstance(call, functools.partial):
        call = call.func
    return call


def _undecorated(call: Callable[..., Any]) -> Callable[..., Any]:
    """The generator function below contextlib's decorators, which do what is done here."""
    code = getattr(call, "__code__", None)
    return call.__wrapped__ if code in _CONTEXTLIB else call  # type: ignore[attr-defined]  # they set it


_DECORATORS: tuple[Any, ...] = (contextlib.contextmanager, contextlib.asynccontextmanager)
_CONTEXTLIB = {decorate(_undecorated).__code__ for decorate in _DECORATORS}


# ---- the generated function


def _in_thread(call: Callable[..., Any]) -> Callable[..., Any]:
    async def in_thread(*args: Any, **kwargs: Any) -> Any:
        return await run_in_threadpool(functools.partial(call, *args, **kwargs))

    return in_thread


def _inline(call: Callable[..., Any]) -> Callable[..., Any]:
    async def inline(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return inline


def _generator_of(step: Step) -> str:
    return f"g{step.name[1:]}"


def _is_torn_down(step: Step) -> bool:
    """With its message?"""
    return step.kind in _AS_GENERATOR and step.key is None


def _as_it_is(call: Callable[..., Any]) -> Callable[..., Any]:
    return call


_AS_COROUTINE = {"coroutine": _as_it_is, "value": _inline, "value in a thread": _in_thread}
_AS_GENERATOR = {
    "async generator": _as_it_is,
    "generator": stepped_inline,
    "generator in a thread": stepped_in_threads,
}


class _Source:
    """The lines of the generated function, and the names that stand in them."""

    def __init__(self, where: str, steps: list[Step], handler: str, replies: bool) -> None:
        self.names: dict[str, Any] = {}
        solving = [line for step in steps for line in self._lines(step)]
        if any(step.key is not None for step in steps):
            solving.insert(0, "kept = endpoint._kept")
        scopes = sorted({step.scope for step in steps if _is_torn_down(step)})  # those of "function" first
        if not scopes:
            self.body = [*solving, f"return {handler}"]
            return
        self.names |= {
            "end_again": end_again,
            "fail_late": fail_late,
            "left_open": left_open,
            "unwind": unwind,
            "where": where,
        }
        opened = [step for step in reversed(steps) if _is_torn_down(step)]
        value = _replying(handler, opened) if replies else [f"return {handler}"]
        lists = [f"{scope} = []" for scope in scopes] if replies else ["function, request = left_open.get()"]
        telling = f"await unwind(exc, where, {', '.join(scopes)})"
        self.body = [*lists, *_guarded([*solving, *value], opened, telling)]
        if replies and "request" in scopes:
            self.body += _guarded(_closing(opened, "request"), opened, "await fail_late(exc, where, request)")

    def _lines(self, step: Step) -> list[str]:
        call = f"c{step.name[1:]}"
        if step.key is not None:
            key = f"k{step.name[1:]}"
            self.names |= {call: _as_generator(step), key: step.key}
            opening = f"await kept.open({key}, {call}({step.arguments}))"
            return [f"{step.name} = kept.values[{key}] if {key} in kept.values else {opening}"]
        if step.kind in _AS_GENERATOR:
            self.names[call] = _as_generator(step)
            opened = _generator_of(step)
            return [
                f"{opened} = {call}({step.arguments})",
                f"{step.name} = await {opened}.__anext__()",
                f"{step.scope}.append({opened})",
            ]
        if step.kind == "value":
            self.names[call] = step.call
            return [f"{step.name} = {call}({step.arguments})"]
        self.names[call] = _AS_COROUTINE[step.kind](step.call)
        return [f"{step.name} = await {call}({step.arguments})"]


def _as_generator(step: Step) -> Callable[..., Any]:
    """Of what is kept, everything is one: it is closed with the connection."""
    if step.kind in _AS_GENERATOR:
        return _AS_GENERATOR[step.kind](step.call)
    return stepped_once(_AS_COROUTINE[step.kind](step.call))


def _guarded(lines: list[str], opened: list[Step], telling: str) -> list[str]:
    """The lines, and who is told of what they raise; see `unwind` for why the generators are forgotten then."""
    return [
        "try:",
        *(f"    {line}" for line in lines),
        "except BaseException as exc:",
        f"    {' = '.join(map(_generator_of, opened))} = None",
        f"    {telling}",
    ]


def _closing(opened: list[Step], scope: str) -> list[str]:
    """What `close` does, written out: its coroutine alone is 4 % of three dependencies (benchmarks)."""
    return [
        line
        for generator in (_generator_of(step) for step in opened if step.scope == scope)
        for line in (
            f"{scope}.pop()",
            f"try: await {generator}.__anext__()",
            "except StopAsyncIteration: pass",
            f"else: await end_again({generator})",
        )
    ]


def _replying(handler: str, opened: list[Step]) -> list[str]:
    return [
        f"value = {handler}",
        "reply = endpoint._loop.prepare(value)",
        *_closing(opened, "function"),
        "if reply is not None and (rest := endpoint._loop.deliver(reply)) is not None: await rest",
    ]
