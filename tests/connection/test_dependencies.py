"""Dependencies of a message and of a connection: what they give, when they are called, and when they are torn down."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from inspect import Parameter, Signature
from typing import Annotated, Any, Generic, TypeVar

import anyio
import msgspec
import pytest
from fastapi import BackgroundTasks
from fastapi.security import SecurityScopes
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket
from typing_extensions import TypeAliasType

from socketsundso import DefinitionError, Depends, Endpoint, EventError, EventMessage, event
from socketsundso.connection import Kept
from tests.harness import Peer, ask, talk
from tests.server.serving import until

T = TypeVar("T")


def endpoint_with(dependency: Any, **options: Any) -> type[Endpoint]:
    """An endpoint whose event `x` answers with the value of a dependency."""

    class App(Endpoint):
        @event
        async def on_x(self, value: Annotated[Any, Depends(dependency, **options)]) -> Any:
            return {"value": value}

    return App


# ---------------------------------------------------------------------- what they may be


async def by_coroutine() -> str:
    return "it"


def by_function() -> str:
    return "it"


async def by_async_generator() -> AsyncIterator[str]:
    yield "it"


def by_generator() -> Iterator[str]:
    yield "it"


class Text(str):
    def __new__(cls) -> Text:
        return str.__new__(cls, "it")


class Service:
    def method(self) -> str:
        return "it"

    async def coroutine_method(self) -> str:
        return "it"

    async def generator_method(self) -> AsyncIterator[str]:
        yield "it"

    @staticmethod
    def static() -> str:
        return "it"

    @classmethod
    async def of_class(cls) -> str:
        return "it"


class Odd(list[int]):
    """Nobody can tell whether it is equal to another one."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    __hash__ = None  # type: ignore[assignment]  # as a list's


class Callables:
    def __call__(self) -> str:
        return "it"


class AsyncCallables:
    async def __call__(self) -> str:
        return "it"


class AsyncGeneratorCallables:
    async def __call__(self) -> AsyncIterator[str]:
        yield "it"


async def given(text: str) -> str:
    return text


def passed_on(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


KINDS: dict[str, Any] = {
    "coroutine": by_coroutine,
    "function": by_function,
    "async generator": by_async_generator,
    "generator": by_generator,
    "class": Text,
    "lambda": lambda: "it",
    "method": Service().method,
    "coroutine method": Service().coroutine_method,
    "generator method": Service().generator_method,
    "static method": Service.static,
    "class method": Service.of_class,
    "callable object": Callables(),
    "async callable object": AsyncCallables(),
    "async generator object": AsyncGeneratorCallables(),
    "partial": functools.partial(given, "it"),
    "wrapped generator": passed_on(by_async_generator),
    "wrapped coroutine": passed_on(by_coroutine),
    "context manager": contextlib.contextmanager(by_generator),
    "async context manager": contextlib.asynccontextmanager(by_async_generator),
}


@pytest.mark.parametrize("scope", ["function", "request", "connection"])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_can_be_called_is_a_dependency(kind: str, scope: Any) -> None:
    """Functions, generators, classes, methods, objects, wrappers and partials; in every scope."""
    app = endpoint_with(KINDS[kind], scope=scope)
    assert [answer["value"] for answer in talk(app, {"type": "x"}, {"type": "x"}).answers] == ["it", "it"]


def test_a_partial_by_name_leaves_a_field_with_a_default() -> None:
    """As inspect shows it."""
    app = endpoint_with(functools.partial(given, text="it"))
    assert [ask(app, {"type": "x", **more})["value"] for more in ({}, {"text": "that"})] == ["it", "that"]


def test_what_is_not_async_runs_in_a_worker_thread() -> None:
    """As in FastAPI; `thread=False` leaves it in the event loop."""
    places: list[str] = []

    def place() -> Iterator[str]:
        places.append(threading.current_thread().name)
        yield places[-1]
        places.append(threading.current_thread().name)

    talk(endpoint_with(place), {"type": "x"})
    assert all("worker" in name for name in places)
    places.clear()
    talk(endpoint_with(place, thread=False), {"type": "x"})
    assert places == [threading.current_thread().name] * 2


def test_a_class_is_called_for_the_parameter_that_it_annotates() -> None:
    """`Depends()` without a dependency; its parameters are fields of the message."""

    class Page:
        def __init__(self, skip: int = 0, limit: Annotated[int, Field(le=100)] = 10) -> None:
            self.span = [skip, skip + limit]

    class App(Endpoint):
        @event
        async def on_list(self, page: Annotated[Page, Depends()], other: Page = Depends()) -> Any:  # noqa: B008
            return {"span": page.span, "same": page is other}

    assert ask(App, {"type": "list", "skip": 5}) == {"type": "list", "span": [5, 15], "same": True}
    assert ask(App, {"type": "list", "limit": 101})["errors"][0]["loc"] == ["limit"]


def test_a_generic_class_is_called_with_the_endpoints_types() -> None:
    """`Annotated[Repository[T], Depends()]` of a generic endpoint."""

    class Repository(Generic[T]):
        def __init__(self) -> None:
            pass

    class Store(Endpoint, Generic[T]):
        @event
        async def on_kind(self, repository: Annotated[Repository[T], Depends()]) -> Any:
            return {"kind": str(repository.__orig_class__)}  # type: ignore[attr-defined]  # typing sets it

    class Numbers(Store[int]): ...

    assert "Repository[int]" in ask(Numbers, {"type": "kind"})["kind"]


def test_an_alias_may_name_a_dependency() -> None:
    """`Value = Annotated[...]`, at as many places as one likes, and `type Value = ...`."""
    Plain = Annotated[str, Depends(by_coroutine)]
    Named = TypeAliasType("Named", Plain)

    class App(Endpoint):
        async def on_x(self, a: Any, b: Any) -> Any:
            return {"a": a, "b": b}

        on_x.__annotations__.update(a=Plain, b=Named)
        on_x = event(on_x)

    assert ask(App, {"type": "x"}) == {"type": "x", "a": "it", "b": "it"}


def test_a_string_annotation_is_looked_up_where_the_dependency_was_written() -> None:
    """Its module first, as in FastAPI, then what is around the handler; also for an endpoint that comes later."""

    class Local(BaseModel):
        n: int

    async def doubled(local: Local, ws: WebSocket) -> int:
        return local.n * 2

    class App(Endpoint):
        @event
        async def on_x(self, n: Annotated[int, Depends(doubled)]) -> Any:
            return {"n": n}

    class Later(App): ...

    for app in (App, Later):
        assert ask(app, {"type": "x", "local": {"n": 2}}) == {"type": "x", "n": 4}


# ---------------------------------------------------------------------- what they take


def test_what_a_dependency_takes_is_a_field_of_the_message() -> None:
    """Validated with all others before anything is called; errors name the field, and a shared one comes once."""
    called: list[Any] = []

    async def paging(skip: int = 0, *, room: str) -> Any:
        called.append((skip, room))
        return [skip, room]

    class App(Endpoint):
        @event
        async def on_x(self, room: str, page: Annotated[Any, Depends(paging)], when: list[int]) -> Any:
            return {"page": page, "when": when, "room": room}

    peer = talk(
        App,
        {"type": "x", "room": "a", "skip": 1, "when": [1], "ref": 1},
        {"type": "x", "room": "b", "skip": "2", "when": ["2"], "ref": 2},
        {"type": "x", "room": 3, "skip": [], "ref": 3},
        {"type": "x", "room": "d", "when": [], "unknown": 1},
    )
    assert peer.answers[:2] == [
        {"type": "x", "page": [1, "a"], "when": [1], "room": "a", "ref": 1},
        {"type": "x", "page": [2, "b"], "when": [2], "room": "b", "ref": 2},
    ]
    assert [error["loc"] for error in peer.answers[2]["errors"]] == [["room"], ["when"], ["skip"]]
    assert peer.answers[3]["errors"][0]["type"] == "extra_forbidden"
    assert called == [(1, "a"), (2, "b")]


def test_a_field_that_one_demands_is_demanded() -> None:
    """Of two that share a field, one may have a default: it never counts."""

    async def optional(room: str = "lobby") -> str:
        return room

    class App(Endpoint):
        @event
        async def on_x(self, both: Annotated[str, Depends(optional)], room: str) -> Any:
            return {"both": both}

    assert ask(App, {"type": "x", "room": "a"}) == {"type": "x", "both": "a"}
    assert ask(App, {"type": "x"})["errors"][0]["type"] == "missing"


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ([1], [1], True),
        ([1], [2], False),
        (Field(default_factory=list), Field(default_factory=list), True),
        (Field(default_factory=list), Field(default_factory=tuple), False),
        (Field([1]), [1], True),
        (Odd([1]), Odd([1]), False),
    ],
)
def test_a_field_is_shared_where_the_defaults_are_equal(one: Any, other: Any, agree: bool) -> None:
    """Or their factories are the same; what cannot be compared is not."""

    async def with_default(ids: list[int] = one) -> Any:
        return ids

    async def on_x(own: Annotated[Any, Depends(with_default)], ids: list[int] = other) -> Any:
        return {"ids": [own, ids]}

    class App(Endpoint): ...

    if agree:
        App.event("x")(on_x)
        assert len(ask(App, {"type": "x"})["ids"]) == 2
    else:
        with pytest.raises(DefinitionError, match="'ids' already"):
            App.event("x")(on_x)


def test_a_dependency_takes_the_connection() -> None:
    """As WebSocket, as HTTPConnection, as the endpoint's class or one of its bases, and as `self`."""

    class Base(Endpoint):
        name = "ada"

    async def all_of_them(ws: WebSocket, connection: HTTPConnection, base: Base, own: App, any_one: Endpoint) -> Any:
        return [ws is base.websocket, connection is ws, base is own is any_one]

    class App(Base):
        async def greeting(self, word: str) -> str:
            return f"{word} {self.name}"

        @event
        async def on_x(
            self,
            same: Annotated[Any, Depends(all_of_them)],
            greeting: Annotated[str, Depends(greeting)],
            websocket: WebSocket,
        ) -> Any:
            return {"same": same, "greeting": greeting, "mine": websocket is self.websocket}

    answer = ask(App, {"type": "x", "word": "hi"})
    assert answer == {"type": "x", "same": [True, True, True], "greeting": "hi ada", "mine": True}


def test_dependencies_beside_a_whole_message() -> None:
    """An EventMessage stays the only field; a dependency may take it, too, but nothing else of the message."""

    class Join(EventMessage):
        room: str

    async def audit(message: Join) -> str:
        return f"audited {message.room}"

    class App(Endpoint):
        @event
        async def on_join(self, message: Join, value: Annotated[str, Depends(audit)]) -> Any:
            return {"value": value}

    assert ask(App, {"type": "join", "room": "a"}) == {"type": "join", "value": "audited a"}

    async def more(n: int) -> int:
        return n

    with pytest.raises(DefinitionError, match="'join'.*Join is an EventMessage"):

        class Bad(Endpoint):
            @event
            async def on_join(self, message: Join, value: Annotated[int, Depends(more)]) -> Any: ...


def test_sync_handlers_have_dependencies_too() -> None:
    """The handler runs in its thread, its dependencies where they belong."""

    class App(Endpoint):
        @event
        def on_threaded(self, n: int, value: Annotated[str, Depends(by_async_generator)]) -> Any:
            return {"n": n, "value": value, "thread": threading.current_thread().name}

        @event(thread=False)
        def on_inline(self, n: int, /, value: Annotated[str, Depends(by_coroutine)]) -> Any:
            return {"n": n, "value": value, "thread": threading.current_thread().name}

    threaded, inline = talk(App, {"type": "threaded", "n": 1}, {"type": "inline", "n": "2"}).answers
    assert (threaded["n"], inline["n"], threaded["value"], inline["value"]) == (1, 2, "it", "it")
    assert "worker" in threaded["thread"]
    assert inline["thread"] == threading.current_thread().name


def test_a_handlers_model_shows_what_its_dependencies_take() -> None:
    """The message is what the handler and they need."""

    async def paging(skip: int = 0) -> int:
        return skip

    @event
    async def on_x(room: str, page: Annotated[int, Depends(paging)]) -> None: ...

    assert list(on_x.model.model_fields) == ["type", "room", "skip"]


# ---------------------------------------------------------------------- how often they are called


def test_one_value_per_message() -> None:
    """All that depend on it share it; `use_cache=False` has its own; the next message has another one."""
    numbers = iter(range(100))

    async def number() -> int:
        return next(numbers)

    async def through(n: Annotated[int, Depends(number)]) -> int:
        return n

    class App(Endpoint):
        @event
        async def on_x(
            self,
            a: Annotated[int, Depends(number)],
            b: Annotated[int, Depends(through)],
            c: Annotated[int, Depends(number, use_cache=False)],
            d: Annotated[int, Depends(number)],
        ) -> Any:
            return {"values": [a, b, c, d]}

    answers = talk(App, {"type": "x"}, {"type": "x"}).answers
    assert [answer["values"] for answer in answers] == [[0, 0, 1, 0], [2, 2, 3, 2]]


def test_methods_that_are_equal_are_one_dependency() -> None:
    """`service.method` is another object each time, and equal; what cannot be hashed is told apart by identity."""
    calls: list[str] = []

    class Counting:
        def hit(self) -> int:
            calls.append("hit")
            return len(calls)

    class Unhashable(list[int]):
        def __call__(self) -> int:
            calls.append("called")
            return len(calls)

    service, unhashable = Counting(), Unhashable()

    class App(Endpoint):
        @event
        async def on_x(
            self,
            a: Annotated[int, Depends(service.hit)],
            b: Annotated[int, Depends(service.hit)],
            c: Annotated[int, Depends(unhashable)],
            d: Annotated[int, Depends(unhashable)],
        ) -> Any:
            return {"values": [a, b, c, d]}

    App.dependency_overrides[by_function] = by_generator
    assert ask(App, {"type": "x"})["values"] == [1, 1, 2, 2]


# ---------------------------------------------------------------------- when


ANY, BY_NAME = Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY


def taking(function: Any, *needs: Any, more: Sequence[Parameter] = ()) -> Any:
    """The function, as if it had a parameter for each of these markers."""
    markers = [Parameter(f"n{number}", BY_NAME, annotation=Annotated[Any, need]) for number, need in enumerate(needs)]
    function.__signature__ = Signature([*more, *markers])
    return function


class Log(list[Any]):
    """What happened, in order."""

    def step(self, name: str, *needs: Any, fails: BaseException | None = None) -> Callable[..., Any]:
        """A dependency with a teardown, which needs others."""
        log = self

        async def steps(**values: Any) -> AsyncIterator[str]:
            log.append(f"+{name}")
            try:
                yield name
            except BaseException as exc:
                log.append(f"!{name} {type(exc).__name__}")
                raise
            finally:
                log.append(f"-{name}")
                if fails is not None:
                    raise fails

        return taking(steps, *needs)


def logging_app(log: Log, *needs: Any) -> type[Endpoint]:
    """An event `x` that needs these, and one `bad` that raises; all that is sent is in the log."""

    class App(Endpoint):
        async def respond(self, response: Any) -> None:
            log.append("reply")
            await super().respond(response)

        async def send_exception(self, exc: Exception) -> None:
            log.append(f"error {type(exc).__name__}")
            await super().send_exception(exc)

        async def on_disconnect(self, close_code: int) -> None:
            log.append("gone")

        async def on_x(self, raises: bool = False, **values: Any) -> Any:
            log.append("handler")
            if raises:
                raise KeyError("bad")
            return {"n": len(values)}

        own = [Parameter("self", ANY), Parameter("raises", BY_NAME, annotation=bool, default=False)]
        on_x = event("x")(taking(on_x, *needs, more=own))

    return App


def test_the_order_of_a_message() -> None:
    """Dependencies, handler, function scope torn down, reply, the rest in reverse; the connection's at its end."""
    log = Log()
    kept = Depends(log.step("kept"), scope="connection")
    outer = Depends(log.step("outer", kept))
    early = Depends(log.step("early", outer), scope="function")
    inner = Depends(log.step("inner", outer))
    app = logging_app(log, early, inner, kept)
    talk(app, {"type": "x"}, {"type": "x"})
    assert log == [
        "+kept", "+outer", "+early", "+inner", "handler", "-early", "reply", "-inner", "-outer",
        "+outer", "+early", "+inner", "handler", "-early", "reply", "-inner", "-outer",
        "gone", "-kept",
    ]  # fmt: skip


def test_a_handler_that_answers_nothing_is_torn_down_as_well() -> None:
    """There is no reply then."""
    log: list[str] = []

    async def opened() -> AsyncIterator[None]:
        yield
        log.append("closed")

    class App(Endpoint):
        @event
        async def on_x(self, _: Annotated[None, Depends(opened)]) -> None:
            log.append("handler")

    assert talk(App, {"type": "x", "ref": 1}).answers == []
    assert log == ["handler", "closed"]


def test_an_exception_of_the_handler_is_thrown_into_the_dependencies_first() -> None:
    """The last one first, those of function scope before the others; then it is answered. Not the connection's."""
    log = Log()
    kept = Depends(log.step("kept"), scope="connection")
    needs = [kept, Depends(log.step("a")), Depends(log.step("b"), scope="function"), Depends(log.step("c"))]
    talk(logging_app(log, *needs), {"type": "x", "raises": True}, {"type": "x"})
    assert log == [
        "+kept", "+a", "+b", "+c", "handler", "!b KeyError", "-b", "!c KeyError", "-c", "!a KeyError", "-a",
        "error KeyError", "+a", "+b", "+c", "handler", "-b", "reply", "-c", "-a", "gone", "-kept",
    ]  # fmt: skip


def test_a_dependency_may_replace_an_exception() -> None:
    """What it raises is the answer, and what the ones before it see."""

    async def translating() -> AsyncIterator[None]:
        try:
            yield
        except KeyError as exc:
            raise EventError("not_found", "no such room") from exc

    log = Log()
    app = logging_app(log, Depends(log.step("a")), Depends(translating))
    answer = ask(app, {"type": "x", "raises": True, "ref": 7})
    assert (answer["code"], answer["ref"]) == ("not_found", 7)
    assert log == ["+a", "handler", "!a EventError", "-a", "error EventError", "gone"]


@pytest.mark.parametrize("scope", ["function", "request"])
@pytest.mark.parametrize("inline", [True, False])
def test_a_dependency_that_swallows_an_exception_is_a_bug(
    scope: Any, inline: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with what it swallowed, and answered `internal_error`: a client is never left without an answer."""

    def swallowing() -> Iterator[None]:
        with contextlib.suppress(KeyError):
            yield

    log = Log()
    app = logging_app(log, Depends(log.step("a")), Depends(swallowing, scope=scope, thread=not inline))
    assert ask(app, {"type": "x", "raises": True, "ref": 1})["code"] == "internal_error"
    assert "swallowed KeyError" in caplog.text
    assert "Traceback" in caplog.text
    # what is torn down behind the reply has no news of it, as in FastAPI
    assert log[2:-2] == (["!a RuntimeError", "-a"] if scope == "function" else ["-a"])


def test_a_teardown_that_fails_behind_the_reply_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The reply stands; those before it hear of the failure; the connection lives on."""
    log = Log()
    app = logging_app(log, Depends(log.step("a")), Depends(log.step("b", fails=OSError("disk full"))))
    assert len(talk(app, {"type": "x"}, {"type": "x"}).answers) == 2
    assert log[:7] == ["+a", "+b", "handler", "reply", "-b", "!a OSError", "-a"]
    assert "disk full" in caplog.text
    assert "'x'" in caplog.text


def test_a_teardown_that_fails_before_the_reply_is_the_answer() -> None:
    """`scope="function"`, as in FastAPI (#14262): a commit that fails is an error, and no reply that lies."""

    async def session() -> AsyncIterator[None]:
        yield
        raise EventError("conflict", "somebody was faster")

    log = Log()
    app = logging_app(log, Depends(log.step("a")), Depends(session, scope="function"))
    assert ask(app, {"type": "x"})["code"] == "conflict"
    assert log == ["+a", "handler", "!a EventError", "-a", "error EventError", "gone"]


@pytest.mark.parametrize("scope", ["function", "request"])
def test_a_reply_that_is_not_valid_rolls_back(scope: Any) -> None:
    """It is validated before anything is torn down, and its error thrown into the dependencies."""

    class Answer(BaseModel):
        n: int

    log = Log()

    class App(Endpoint):
        @event
        async def on_x(self, _: Annotated[Any, Depends(log.step("a"), scope=scope)]) -> Answer:
            return {"n": "many"}  # type: ignore[return-value]  # on purpose

    assert ask(App, {"type": "x"})["code"] == "response_error"
    assert log == ["+a", "!a ResponseError", "-a"]


def test_a_dependency_that_raises_is_answered_like_a_handler() -> None:
    """The handler is not called; what was opened before is told."""

    async def missing(room: str) -> None:
        raise HTTPException(404, f"no {room}")

    log = Log()
    app = logging_app(log, Depends(log.step("a")), Depends(missing))
    answer = ask(app, {"type": "x", "room": "attic", "ref": 3})
    assert (answer["code"], answer["ref"]) == ("not_found", 3)
    assert log == ["+a", "!a HTTPException", "-a", "error HTTPException", "gone"]


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def not_valid() -> Exception:
    class Row(BaseModel):
        n: int

    try:
        Row(n="secret")  # type: ignore[arg-type]  # on purpose
    except ValidationError as exc:
        return exc
    raise AssertionError


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("x"),
        StopIteration(),
        StopAsyncIteration(),
        Wordless(),
        ExceptionGroup("g", [ValueError()]),
        not_valid(),
    ],
    ids=lambda exc: type(exc).__name__,
)
@pytest.mark.parametrize("place", ["function", "thread", "coroutine", "before", "after", "threaded before"])
@pytest.mark.parametrize("scope", ["function", "request", "connection"])
def test_whatever_a_dependency_raises_is_answered(exc: Exception, place: str, scope: Any) -> None:
    """Once, with `internal_error`, wherever it is raised, and the connection lives on."""
    fails = True

    def maybe() -> None:
        if fails:
            raise exc

    async def coroutine() -> None:
        maybe()

    async def before() -> AsyncIterator[None]:
        maybe()
        yield

    async def after() -> AsyncIterator[None]:
        yield
        maybe()

    def threaded_before() -> Iterator[None]:
        maybe()
        yield

    dependency = {
        "function": maybe, "thread": maybe, "coroutine": coroutine, "before": before, "after": after,
        "threaded before": threaded_before,
    }[place]  # fmt: skip

    class App(Endpoint):
        @event
        async def on_x(self, _: Annotated[None, Depends(dependency, scope=scope, thread=place != "function")]) -> Any:
            return {"ok": 1}

        @event
        async def on_mend(self) -> None:
            nonlocal fails
            fails = False

    answers = talk(App, {"type": "x", "ref": 1}, {"type": "mend"}, {"type": "x", "ref": 2}).answers
    first = {"type": "error", "code": "internal_error", "errors": [], "ref": 1}
    late = place == "after" and scope != "function"
    assert answers == [{"type": "x", "ok": 1, "ref": 1} if late else first, {"type": "x", "ok": 1, "ref": 2}]


@pytest.mark.parametrize("scope", ["function", "request", "connection"])
@pytest.mark.parametrize("inline", [True, False])
def test_a_generator_that_yields_nothing_is_answered(scope: Any, inline: bool) -> None:
    """With `internal_error`."""

    async def nothing() -> AsyncIterator[None]:
        for _ in ():
            yield

    def nothing_either() -> Iterator[None]:
        yield from ()

    for dependency in (nothing, nothing_either):
        app = endpoint_with(dependency, scope=scope, thread=not inline)
        assert ask(app, {"type": "x"})["code"] == "internal_error"


def test_a_generator_that_yields_again_is_closed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Behind the reply; with function scope it is the answer."""
    closed = []

    async def twice() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    assert ask(endpoint_with(twice), {"type": "x"})["value"] == 1
    assert "yields more than once" in caplog.text
    assert ask(endpoint_with(twice, scope="function"), {"type": "x"})["code"] == "internal_error"
    assert closed == [True, True]


@pytest.mark.parametrize("thread", [True, False])
def test_a_generator_that_yields_when_it_is_told_is_closed(thread: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is a bug, of which those before it are told."""
    log = Log()

    async def again() -> AsyncIterator[None]:
        try:
            yield
        except KeyError:
            yield

    def again_in_thread() -> Iterator[None]:
        try:
            yield
        except KeyError:
            yield
        yield

    for dependency in (again, again_in_thread):
        app = logging_app(log, Depends(log.step("a")), Depends(dependency, thread=thread))
        assert ask(app, {"type": "x", "raises": True})["code"] == "internal_error"
        assert "yields more than once" in caplog.text
        assert log == ["+a", "handler", "!a RuntimeError", "-a", "error RuntimeError", "gone"]
        log.clear()
        caplog.clear()


def test_the_peers_leaving_cannot_be_swallowed(caplog: pytest.LogCaptureFixture) -> None:
    """A dependency that catches everything does not keep the connection, and is no bug then."""

    async def deaf() -> AsyncIterator[None]:
        with contextlib.suppress(Exception):
            yield

    codes = []

    class App(Endpoint):
        @event
        async def on_x(self, _: Annotated[None, Depends(deaf)]) -> None:
            peer.gone = True
            await self.send({"type": "y"})

        async def on_disconnect(self, close_code: int) -> None:
            codes.append(close_code)

    peer = Peer(App, [{"type": "x"}], code=1001)
    asyncio.run(peer.run())
    assert codes == [1001]
    assert "swallowed" not in caplog.text


def test_a_teardown_that_sends_to_a_peer_that_is_gone_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """As a handler that does so."""
    log = Log()

    async def telling(app: Endpoint) -> AsyncIterator[None]:
        yield
        peer.gone = True
        await app.send({"type": "bye"})

    app = logging_app(log, Depends(log.step("a")), Depends(telling))
    peer = Peer(app, [{"type": "x"}], code=1001)
    asyncio.run(peer.run())
    assert log == ["+a", "handler", "reply", "!a WebSocketDisconnect", "-a", "gone"]
    assert caplog.text == ""


# ---------------------------------------------------------------------- what stands before a message


def test_guards_come_before_dependencies() -> None:
    """Whoever is refused has cost no session."""
    log = Log()

    class App(Endpoint):
        @event(guards=[lambda endpoint, call: call.ref == 1])
        async def on_x(self, _: Annotated[Any, Depends(log.step("a"))]) -> Any:
            return {"ok": 1}

    refused, let_in = talk(App, {"type": "x", "ref": 2}, {"type": "x", "ref": 1}).answers
    assert (refused["code"], let_in) == ("forbidden", {"type": "x", "ok": 1, "ref": 1})
    assert log == ["+a", "-a"]


def test_middleware_has_the_value_and_the_reply_comes_before_the_teardown() -> None:
    """It is around the dependencies; what it gives is the reply; teardowns keep their places around that."""
    log = Log()
    early = Depends(log.step("early"), scope="function")
    app = logging_app(log, Depends(log.step("late")), early, Depends(log.step("kept"), scope="connection"))

    @app.middleware
    async def doubling(endpoint: Any, call: Any, handle: Any) -> Any:
        log.append("middleware")
        value = await handle()
        log.append("out")
        return {"n": value["n"] * 2}

    assert ask(app, {"type": "x", "ref": 1}) == {"type": "x", "n": 6, "ref": 1}
    assert log == [
        "middleware", "+late", "+early", "+kept", "handler", "out", "-early", "reply", "-late", "gone", "-kept"
    ]  # fmt: skip


def test_middleware_sees_what_dependencies_made_of_an_exception() -> None:
    """They are torn down by then; what it raises itself is thrown into them."""
    log = Log()
    app = logging_app(log, Depends(log.step("a")))

    @app.middleware
    async def failing(endpoint: Any, call: Any, handle: Any) -> Any:
        try:
            await handle()
        except KeyError:
            log.append("seen")
            raise
        raise EventError("late")

    assert [answer["code"] for answer in talk(app, {"type": "x", "raises": True}, {"type": "x"}).answers] == [
        "internal_error",
        "late",
    ]
    assert log == [
        "+a", "handler", "!a KeyError", "-a", "seen", "error KeyError",
        "+a", "handler", "!a EventError", "-a", "error EventError", "gone",
    ]  # fmt: skip


def test_middleware_and_a_message_that_is_not_valid(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is opened, nothing is logged, and the next one is answered."""
    log = Log()
    app = logging_app(log, Depends(log.step("a", fails=OSError("disk full"))))

    @app.middleware
    async def passing(endpoint: Any, call: Any, handle: Any) -> Any:
        return await handle()

    wrong, right = talk(app, {"type": "x", "raises": 5}, {"type": "x", "raises": "no", "ref": 1}).answers
    assert (wrong["code"], right) == ("validation_error", {"type": "x", "n": 1, "ref": 1})
    assert "disk full" in caplog.text
    assert caplog.text.count("Traceback") == 1


# ---------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("where", ["dependency", "handler"])
def test_awaits_of_a_teardown_survive_a_cancellation(native: bool, where: str) -> None:
    """Of the task, as at the server's shutdown, and of a scope of anyio's, in which every await is cut off."""
    log: list[str] = []

    async def session() -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            for _ in range(3):
                await asyncio.sleep(0)
            log.append("rolled back")
            raise

    async def pool() -> AsyncIterator[None]:
        yield
        await asyncio.sleep(0)
        log.append("pool closed")

    async def endless() -> None:
        if where == "dependency":
            log.append("waiting")
            await asyncio.Event().wait()

    class App(Endpoint):
        @event
        async def on_x(
            self,
            a: Annotated[None, Depends(pool, scope="connection")],
            b: Annotated[None, Depends(session)],
            c: Annotated[None, Depends(endless)],
        ) -> None:
            log.append("waiting")
            await asyncio.Event().wait()

        async def on_disconnect(self, close_code: int) -> None:
            log.append(f"gone {close_code}")

    async def main() -> None:
        peer = Peer(App, [{"type": "x"}], code=None)
        with anyio.CancelScope() as scope:
            if native:
                task = asyncio.create_task(peer.run())
                await until(lambda: log)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            else:
                asyncio.get_running_loop().call_later(0, cancel_when_waiting, scope)
                await peer.run()

    def cancel_when_waiting(scope: anyio.CancelScope) -> None:
        if log:
            scope.cancel()
        else:
            asyncio.get_running_loop().call_later(0, cancel_when_waiting, scope)

    asyncio.run(main())
    assert log == ["waiting", "rolled back", "gone 1012", "pool closed"]


def test_what_a_thread_opened_is_closed_though_nobody_waited_for_it() -> None:
    """The message is cancelled while its session is being opened in a thread, which nobody can stop."""
    begun, go_on, log = threading.Event(), threading.Event(), list[str]()

    def session() -> Iterator[None]:
        begun.set()
        assert go_on.wait(40)
        log.append("opened")
        yield
        log.append("closed")  # not with the exception of the cancellation

    def noting() -> Iterator[None]:
        try:
            yield from session()
        except asyncio.CancelledError:
            log.append("rolled back")
            raise

    async def main() -> None:
        task = asyncio.create_task(Peer(endpoint_with(noting), [{"type": "x"}], code=None).run())
        await until(begun.is_set)
        task.cancel()
        go_on.set()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert log == ["opened", "rolled back"]


def test_a_cancellation_cannot_be_swallowed() -> None:
    """A dependency that catches everything does not keep the server from shutting down."""
    waiting = False

    async def deaf() -> AsyncIterator[None]:
        with contextlib.suppress(BaseException):
            yield

    class App(Endpoint):
        @event
        async def on_x(self, _: Annotated[None, Depends(deaf)]) -> None:
            nonlocal waiting
            waiting = True
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(Peer(App, [{"type": "x"}], code=None).run())
        await until(lambda: waiting)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


# ---------------------------------------------------------------------- the connection's


def test_what_lives_as_long_as_the_connection() -> None:
    """Made for the first message that needs it, shared by all events, another one for the next connection."""
    numbers = iter(range(10))

    async def number() -> int:
        return next(numbers)

    async def doubled(n: Annotated[int, Depends(number, scope="connection")]) -> int:
        return n * 2

    class App(Endpoint):
        @event
        async def on_a(self, n: Annotated[int, Depends(number, scope="connection")]) -> Any:
            return {"n": n}

        @event
        async def on_b(self, n: Annotated[int, Depends(doubled, scope="connection")]) -> Any:
            return {"n": n}

        @event
        async def on_c(self, n: Annotated[int, Depends(doubled)]) -> Any:
            return {"n": n}

    for expected in ([0, 0, 0, 0], [1, 2, 2, 1]):
        frames = [{"type": kind} for kind in "abca"]
        assert [answer["n"] for answer in talk(App, *frames).answers] == expected


def test_two_messages_at_once_make_it_once() -> None:
    """The second one waits for the value of the first."""
    made = []

    async def slow() -> AsyncIterator[int]:
        await asyncio.sleep(0)
        made.append(1)
        yield len(made)

    async def main() -> None:
        kept = Kept()
        assert await asyncio.gather(*(kept.open("key", slow()) for _ in range(3))) == [1, 1, 1]
        await kept.close("here")

    asyncio.run(main())


def test_the_connections_teardowns_run_all_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """In reverse, after on_disconnect, also where that or one of them fails."""
    log = Log()

    class App(Endpoint):
        @event
        async def on_x(
            self,
            a: Annotated[Any, Depends(log.step("a"), scope="connection")],
            b: Annotated[Any, Depends(log.step("b", fails=OSError("disk full")), scope="connection")],
        ) -> None: ...

        async def on_disconnect(self, close_code: int) -> None:
            raise ValueError("on_disconnect's own")

    talk(App, {"type": "x"})
    assert log == ["+a", "+b", "-b", "!a OSError", "-a"]
    assert "disk full" in caplog.text
    assert "on_disconnect's own" in caplog.text


# ---------------------------------------------------------------------- in place of others


def test_an_override_is_called_instead() -> None:
    """From the next connection on, with fields and dependencies of its own; and no more when it is taken away."""

    async def user(token: str) -> str:
        return f"user of {token}"

    async def fake(name: str = "ada", text: str = Depends(by_coroutine)) -> str:
        return f"{name}, {text}"

    class App(Endpoint):
        @event
        async def on_x(self, user: Annotated[str, Depends(user)]) -> Any:
            return {"user": user}

    class Heir(App): ...

    assert ask(App, {"type": "x", "token": "t"})["user"] == "user of t"
    App.dependency_overrides[user] = fake
    for app in (App, Heir):
        assert ask(app, {"type": "x"})["user"] == "ada, it"
        assert ask(app, {"type": "x", "name": "eve"})["user"] == "eve, it"
        assert ask(app, {"type": "x", "token": "t"})["errors"][0]["loc"] == ["token"]
    Heir.dependency_overrides[user] = lambda: "heir's"
    assert ask(App, {"type": "x"})["user"] == "ada, it"
    assert ask(Heir, {"type": "x"})["user"] == "heir's"
    App.dependency_overrides[by_coroutine] = lambda: "that"  # of the override
    assert ask(App, {"type": "x"})["user"] == "ada, that"
    App.dependency_overrides.clear()
    Heir.dependency_overrides.clear()
    for app in (App, Heir):
        assert ask(app, {"type": "x", "token": "t"})["user"] == "user of t"


def test_classes_do_not_share_their_overrides() -> None:
    """Each has a mapping of its own."""

    class One(Endpoint): ...

    class Two(Endpoint): ...

    assert One.dependency_overrides is not Two.dependency_overrides
    assert One.dependency_overrides is not Endpoint.dependency_overrides


def test_handlers_that_are_attached_later_are_overridden_too() -> None:
    """To the class, and to one connection."""

    async def own(self: Any, value: Annotated[str, Depends(by_function)]) -> Any:
        return {"value": value}

    class App(Endpoint):
        @event
        async def on_mine(self) -> None:
            self.handlers["own"] = event("own")(own)

        @event
        async def on_x(self, value: Annotated[str, Depends(by_function)]) -> Any:
            return {"value": value}

    App.dependency_overrides[by_function] = lambda: "fake"
    assert ask(App, {"type": "x"})["value"] == "fake"

    @App.event("later")
    async def later(self: Any, value: Annotated[str, Depends(by_function)]) -> Any:
        return {"value": value}

    answers = talk(App, {"type": "later"}, {"type": "mine"}, {"type": "own"}).answers
    assert [answer["value"] for answer in answers] == ["fake", "fake"]


# ---------------------------------------------------------------------- mistakes


async def takes_itself(x: Any) -> None: ...


takes_itself.__annotations__["x"] = Annotated[Any, Depends(takes_itself)]


async def takes_int(room: int) -> None: ...


async def takes_other_default(room: str = "attic") -> None: ...


async def takes_everything(*args: int) -> None: ...


async def takes_a_class(kind: type[int]) -> None: ...


async def early() -> AsyncIterator[None]:
    yield


async def outlives(x: Annotated[None, Depends(early, scope="function")]) -> AsyncIterator[None]:
    yield


async def of_message(x: Annotated[None, Depends(early)]) -> None: ...


async def of_field(n: int) -> None: ...


def with_annotation(annotation: Any) -> Any:
    def dependency(it: Any) -> None: ...

    dependency.__annotations__["it"] = annotation
    return dependency


class Limited:
    """A marker of a later FastAPI."""

    def __init__(self, dependency: Any = None, **more: Any) -> None:
        self.dependency, self.use_cache = dependency, True
        self.__dict__.update(more)


def mistakes() -> dict[str, tuple[Any, list[str]]]:
    two = Annotated[Any, Depends(by_function), Depends(by_coroutine)]
    return {
        "itself": (Depends(takes_itself), ["'takes_itself'", "depends on itself", "takes_itself -> takes_itself"]),
        "another type": (Depends(takes_int), ["'takes_int'", "'room'", "rename"]),
        "another default": (Depends(takes_other_default), ["'room'", "default", "rename"]),
        "*args": (Depends(takes_everything), ["'takes_everything'", "args", "name each parameter"]),
        "no JSON": (Depends(takes_a_class), ["'takes_a_class'", "'kind'", "class cannot come from JSON"]),
        "outlives": (Depends(outlives), ["'outlives'", "early", "same scope"]),
        "of a message": (Depends(of_message, scope="connection"), ["'of_message'", "early", "scope='connection'"]),
        "of a field": (Depends(of_field, scope="connection"), ["'of_field'", "'n'", "leave scope='connection' out"]),
        "Request": (Depends(with_annotation(Request)), ["'it'", "HTTPConnection"]),
        "Response": (Depends(with_annotation(JSONResponse)), ["'it'", "return"]),
        "BackgroundTasks": (Depends(with_annotation(BackgroundTasks)), ["'it'", "task of your own"]),
        "SecurityScopes": (Depends(with_annotation(SecurityScopes)), ["'it'", "in the dependency"]),
        "two markers": (Depends(with_annotation(two)), ["'it'", "more than one Depends"]),
        "max_concurrency": (Limited(by_function, max_concurrency=2), ["max_concurrency=2", "asyncio.Semaphore"]),
        "scopes": (Limited(by_function, scopes=["read"]), ["scopes=['read']", "leave the scopes out"]),
        "something new": (Limited(by_function, retries=3), ["retries=3", "leave it out"]),
        "no callable": (Limited(5), ["5", "cannot be called"]),
        "no such scope": (Limited(by_function, scope="app"), ["'app'", "'connection'"]),
        "no class": (Depends(with_annotation(Annotated[Any, Depends()])), ["'it'", "Depends(function)"]),
    }


@pytest.mark.parametrize("name", mistakes())
def test_a_mistake_is_told_at_import(name: str) -> None:
    """With the event, the dependency or parameter, and what to do."""
    marker, words = mistakes()[name]
    with pytest.raises(DefinitionError) as info:

        class App(Endpoint):
            async def on_thing(self, value: Any, room: str = "hall") -> None: ...

            on_thing.__annotations__["value"] = Annotated[Any, marker]
            on_thing = event("thing")(on_thing)

    for word in ["event 'thing'", *words]:
        assert word in str(info.value)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Depends(5), "cannot be called"),
        (lambda: Depends(by_function, scope="session"), "'session'"),
        (lambda: Depends(by_function, scope="connection", use_cache=False), "leave one of them out"),
    ],
)
def test_a_marker_that_makes_no_sense_is_refused_where_it_is_written(make: Callable[[], Any], word: str) -> None:
    """Before anybody uses it."""
    with pytest.raises(DefinitionError, match=word):
        make()


def test_a_struct_is_a_field_and_no_dependency() -> None:
    """A class that looks like a marker but is the annotation itself is taken from the message."""

    class Needs(msgspec.Struct):
        dependency: str
        use_cache: bool

    class App(Endpoint):
        @event
        async def on_x(self, needs: Needs) -> Any:
            return {"dependency": needs.dependency}

    assert ask(App, {"type": "x", "needs": {"dependency": "a", "use_cache": True}})["dependency"] == "a"


def test_fastapi_is_never_imported() -> None:
    """By an endpoint with dependencies, that is served and answers."""
    program = """
import sys
from typing import Annotated
from socketsundso import Depends, Endpoint, event
from tests.harness import ask

async def get() -> str: return "it"

class App(Endpoint):
    @event
    async def on_x(self, value: Annotated[str, Depends(get)]) -> dict: return {"value": value}

assert ask(App, {"type": "x"})["value"] == "it"
assert not [name for name in sys.modules if name.startswith("fastapi")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)


async def failing(n: int) -> AsyncIterator[None]:
    if n == 1:
        raise ValueError
    try:
        yield
    except KeyError:
        if n == 3:
            raise
        if n == 4:
            raise EventError("other") from None
    if n == 5:
        raise OSError


def failing_inline(n: int) -> Iterator[None]:
    if n == 1:
        raise ValueError
    try:
        yield
    except KeyError:
        if n == 3:
            raise
        if n == 4:
            raise EventError("other") from None
    if n == 5:
        raise OSError


@pytest.mark.parametrize("n", range(6), ids=["fine", "before", "swallows", "raises again", "replaces", "after"])
@pytest.mark.parametrize("dependency", [failing, failing_inline])
def test_nothing_keeps_an_endpoint_whose_connection_has_ended(dependency: Any, n: int) -> None:
    """No cycle of ours that only the collector would find, whatever was raised. (Threads of anyio's leave some.)"""
    endpoints: list[weakref.ref[Endpoint]] = []

    class App(Endpoint):
        async def on_connect(self) -> None:
            await super().on_connect()
            endpoints.append(weakref.ref(self))

        @event
        async def on_x(
            self,
            n: int,
            a: Annotated[None, Depends(dependency, thread=False)],
            kept: Annotated[str, Depends(by_async_generator, scope="connection")],
        ) -> Any:
            if n > 1 and n < 5:
                raise KeyError(n)
            return {"n": n}

    gc.collect()
    gc.disable()
    logging.disable()  # pytest keeps what is logged, with its frames
    try:
        talk(App, {"type": "x", "n": n})
        assert endpoints[0]() is None
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()


def test_no_log_and_no_warning_for_all_that_works(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is left open that the garbage collector would complain of."""
    caplog.set_level(logging.INFO)
    log = Log()
    app = logging_app(log, Depends(log.step("a")), Depends(log.step("b"), scope="connection"))
    talk(app, *[{"type": "x"}] * 3)
    assert caplog.text == ""
