"""
What fills a parameter beside the message: what its annotation and its default say about that.

`Depends` is the twin of FastAPI's. Any marker with `dependency` and `use_cache` is taken, and FastAPI's `Query`,
`Header`, `Cookie` and `Path` are known by their `in_`: FastAPI itself is never imported. What a marker asks for and
nobody here does is a `DefinitionError`.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic.fields import FieldInfo
from starlette.background import BackgroundTasks
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from socketsundso.errors import DefinitionError
from socketsundso.messages.aliases import UNIONS, unwrap

DependencyScope = Literal["function", "request", "connection"]


@dataclass(frozen=True, slots=True)
class Dependency:
    """A parameter's marker: what `Depends` gives. `dependency` is None where the annotated class is meant."""

    dependency: Callable[..., Any] | None = None
    use_cache: bool = True
    scope: DependencyScope = "request"
    thread: bool = True


def Depends(
    dependency: Callable[..., Any] | None = None,
    *,
    use_cache: bool = True,
    scope: DependencyScope = "request",
    thread: bool = True,
) -> Any:
    """
    Fill a parameter with what `dependency` gives: a function, async or not, a generator, a class, a callable object.

        @event
        async def on_say(self, room: str, db: Annotated[AsyncSession, Depends(get_db)]) -> Posted: ...

    Without `dependency` the annotated class is called. Its own parameters are filled in the same way: what is no
    dependency is a field of the message. What a generator does behind its `yield` is its teardown.

    `use_cache=False` calls it for this parameter alone; else all that depend on it share one value per message.
    `scope` says when it is torn down: "function" before the reply is sent, so that its failure is the answer, "request"
    behind the reply, "connection" once per connection, after `on_disconnect`. `thread=False` runs one that is not async
    right in the event loop: only for functions that never block.

    Raises `DefinitionError` for what can never work.
    """
    return checked("Depends", Dependency(dependency, use_cache, scope, thread))


def checked(where: str, marker: Dependency) -> Dependency:
    if marker.dependency is not None and not callable(marker.dependency):
        raise DefinitionError(f"{where}: {marker.dependency!r} cannot be called; give the function itself, or a class")
    if marker.scope not in typing.get_args(DependencyScope):
        raise DefinitionError(f"{where}: scope is {marker.scope!r}; it is 'function', 'request' or 'connection'")
    if marker.scope == "connection" and not marker.use_cache:
        raise DefinitionError(
            f"{where}: use_cache=False asks for a value of its own, scope='connection' for one that all share; "
            "leave one of them out"
        )
    return marker


class Given(enum.Enum):
    """What a connection has without asking anybody, as the generated code names it."""

    WEBSOCKET = "endpoint.websocket"
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The items that follow a message, as its handler's parameter `name` gives them: each is an `item`."""

    name: str
    item: Any


@dataclass(frozen=True, slots=True)
class Injected:
    """
    One parameter that no message fills; `position` is its place among all but `self`.

    `source` is a `Dependency` whose `dependency` is known, something `Given`, what is `Uploaded`, or, for what FastAPI
    takes from the handshake, the parameter as FastAPI is to see it.
    """

    name: str
    kind: Any
    position: int
    source: Dependency | Given | Uploaded | inspect.Parameter


def source_of(
    where: str, annotation: Any, parameter: inspect.Parameter, endpoint: type | None = None
) -> Dependency | Given | Uploaded | inspect.Parameter | None:
    """
    What fills this parameter, whose annotation is resolved; None: the message.

    `endpoint` is the class of the connection where that is known. Raises `DefinitionError`.
    """
    base, metadata = _parts(annotation)
    markers = [each for each in (*metadata, parameter.default) if _is_dependency(each)]
    if len(markers) > 1:
        raise DefinitionError(f"{where}: it has more than one Depends; leave all but one out")
    if markers:
        return _dependency(where, markers[0], base)
    if any(_is_of_handshake(each) for each in (*metadata, parameter.default)):
        return parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY)
    if endpoint is not None and base in endpoint.__mro__[:-1]:
        return Given.ENDPOINT
    if _is_async_iterator(base):
        return _upload(where, base, parameter)
    if typing.get_origin(base) in UNIONS and any(_is_async_iterator(each) for each in typing.get_args(base)):
        raise DefinitionError(f"{where}: an upload is always there, it may have no items; write `AsyncIterator[...]`")
    if isinstance(base, type):
        _refuse_absent(where, base)
        if issubclass(base, HTTPConnection):
            return Given.WEBSOCKET
    return None


def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The annotation and what stands beside it in `Annotated`, also where an alias has a name for that."""
    try:
        annotation = unwrap(annotation)
    except NameError:  # it is reported where the annotation is checked
        return annotation, ()
    if typing.get_origin(annotation) is not Annotated:
        return annotation, ()
    base, *metadata = typing.get_args(annotation)
    return base, tuple(metadata)


def _is_async_iterator(annotation: Any) -> bool:
    return (typing.get_origin(annotation) or annotation) in (AsyncIterator, AsyncIterable, AsyncGenerator)


def _upload(where: str, annotation: Any, parameter: inspect.Parameter) -> Uploaded:
    if (typing.get_origin(annotation) or annotation) is AsyncGenerator:
        raise DefinitionError(f"{where}: what a client uploads is no generator; annotate it `AsyncIterator[...]`")
    if parameter.default is not inspect.Parameter.empty:
        raise DefinitionError(
            f"{where}: an upload has no default, it may have no items at all; leave `= {parameter.default!r}` out"
        )
    return Uploaded(parameter.name, next(iter(typing.get_args(annotation)), Any))


def _is_dependency(marker: Any) -> bool:
    return not isinstance(marker, type) and hasattr(marker, "dependency") and hasattr(marker, "use_cache")


def _is_of_handshake(marker: Any) -> bool:
    """Is it FastAPI's Query, Header, Cookie or Path?"""
    return isinstance(marker, FieldInfo) and getattr(marker, "in_", None) is not None


def are_alike(one: inspect.Parameter, other: inspect.Parameter) -> bool:
    """Do two parameters of the handshake declare the same?"""
    return _comparable(one) == _comparable(other)


def _comparable(parameter: inspect.Parameter) -> list[Any]:
    base, metadata = _parts(parameter.annotation)
    return [base, *map(_state, (*metadata, parameter.default))]


def _state(marker: Any) -> Any:
    """What a marker says; those of pydantic and FastAPI do not compare themselves."""
    if not isinstance(marker, FieldInfo):
        return marker
    slots = (name for kind in type(marker).__mro__ for name in getattr(kind, "__slots__", ()))
    return type(marker), {name: getattr(marker, name, None) for name in (*slots, *vars(marker))}


_KNOWN = {field.name for field in dataclasses.fields(Dependency)}


def _dependency(where: str, marker: Any, base: Any) -> Dependency:
    for name, value in _attributes(marker):
        if name not in _KNOWN and value:
            remedy = _INSTEAD.get(name, "leave it out")
            raise DefinitionError(f"{where}: {name}={value!r} of its marker is not done here; {remedy}")
    call = marker.dependency
    if call is None:
        call = base
        if not callable(base) or base is Any or base is inspect.Parameter.empty:
            raise DefinitionError(
                f"{where}: Depends() without a dependency calls the annotated class, and {base!r} is none; "
                "write Depends(function)"
            )
    found = Dependency(
        call, bool(marker.use_cache), getattr(marker, "scope", None) or "request", getattr(marker, "thread", True)
    )
    return checked(where, found)


_INSTEAD = {
    "max_concurrency": "leave it out, and use an asyncio.Semaphore in the dependency",
    "scopes": "leave the scopes out, and ask for them in the dependency or before the handler",
}


def _attributes(marker: Any) -> Iterator[tuple[str, Any]]:
    names = [*getattr(marker, "__dict__", ()), *(f.name for f in getattr(marker, "__dataclass_fields__", {}).values())]
    for name in dict.fromkeys(names):
        if not name.startswith("_"):
            yield name, getattr(marker, name, None)


_ABSENT = {
    Request: "a WebSocket has no Request; take an `HTTPConnection` (starlette.requests), which has headers",
    Response: "a message has no Response; return what is to be sent",
    BackgroundTasks: "a message has no BackgroundTasks; start a task of your own",
}


def _refuse_absent(where: str, kind: type) -> None:
    remedy = next((text for absent, text in _ABSENT.items() if issubclass(kind, absent)), None)
    if kind.__name__ == "SecurityScopes" and kind.__module__.startswith("fastapi."):
        remedy = "a message has no SecurityScopes; ask for what is needed in the dependency"
    if remedy is not None:
        raise DefinitionError(f"{where}: {remedy}")
