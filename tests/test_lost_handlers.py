"""What is declared and would not work: events that decorators hide, overrides of another event, hooks that fail."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, Literal, NewType, Optional

import pytest
from pydantic import BaseModel
from typing_extensions import TypeAliasType

from socketsundso import DefinitionError, Endpoint, EventMessage, Handler, event
from tests.harness import ask, talk

# ---------------------------------------------------------------------- decorators above @event


def logged(function: Any) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


def nameless(function: Any) -> Any:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


class Holding:
    """A decorator that is a class."""

    def __init__(self, function: Any) -> None:
        self.decorated = function

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await self.decorated(*args, **kwargs)


class Slotted:
    __slots__ = ("decorated",)

    def __init__(self, function: Any) -> None:
        self.decorated = function


def by_default(function: Any) -> Any:
    async def wrapper(self: Any, n: int, _function: Any = function) -> Any:
        return await _function(self, n)

    return wrapper


def by_keyword(function: Any) -> Any:
    async def wrapper(self: Any, n: int, *, _function: Any = function) -> Any:
        return await _function(self, n)

    return wrapper


def annotated(function: Any) -> Any:
    async def wrapper(self: Any, n: int) -> None: ...

    wrapper.original = function  # type: ignore[attr-defined]  # as functions may have
    return wrapper


class Proxy:
    """As wrapt's: it says that it is what it wraps."""

    def __init__(self, wrapped: Any) -> None:
        self.__wrapped__ = wrapped

    @property
    def __class__(self) -> Any:
        return self.__wrapped__.__class__

    @__class__.setter
    def __class__(self, value: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)


@pytest.mark.parametrize(
    "above",
    [logged, nameless, Holding, Slotted, by_default, by_keyword, annotated, Proxy,
     functools.partial, functools.partialmethod, functools.cached_property, property,
     classmethod, functools.lru_cache, lambda f: logged(logged(f)), lambda f: nameless(nameless(f)),
     lambda f: staticmethod(logged(f)), lambda f: Holding(nameless(f)), lambda f: functools.partial(logged(f))],
    ids=["wraps", "closure", "object", "slots", "default", "keyword", "attribute", "proxy",
         "partial", "partialmethod", "cached_property", "property",
         "classmethod", "lru_cache", "two", "two closures", "staticmethod",
         "object and closure", "partial of a wrapper"],
)  # fmt: skip
@pytest.mark.parametrize("base", [Endpoint, object], ids=["endpoint", "mix-in"])
def test_a_decorator_above_event_is_told(above: Any, base: Any) -> None:
    """The event would not exist."""

    def define() -> None:
        class Part(base):  # type: ignore[misc]
            @above
            @event
            async def on_x(self, n: int) -> Any:
                return {"got": n}

        type("App", (Part, Endpoint), {})

    with pytest.raises(DefinitionError, match=r"event 'x': a \w+ cannot be around a handler.*write @event above"):
        define()


def test_the_other_order_works() -> None:
    """The decorator is called for each message."""

    class App(Endpoint):
        @event
        @logged
        async def on_x(self, n: int) -> Any:
            return {"got": n}

    assert ask(App, {"type": "x", "n": 1})["got"] == 1


def test_what_is_made_of_a_handler_that_stays_is_no_mistake() -> None:
    """The event exists; and handlers from elsewhere may be kept anywhere."""

    @event
    async def elsewhere() -> None: ...

    class App(Endpoint):
        @event
        async def on_x(self, n: int) -> Any:
            return {"got": n}

        with_one = functools.partial(on_x, n=1)
        kept = Holding(elsewhere)

        async def helper(self) -> Any:
            return elsewhere

    assert list(App.handlers) == ["x"]


# ---------------------------------------------------------------------- one name, two events


class Base(Endpoint):
    @event
    async def on_message(self) -> Any:
        return {"from": "base"}


class Renaming:
    @event("other")
    async def on_message(self) -> Any:
        return {"from": "mix-in"}


class Plain:
    async def on_message(self) -> None: ...


def test_an_override_with_another_event_is_told() -> None:
    """The base's event would go on answering with the base's function."""
    with pytest.raises(DefinitionError, match=r"'message': App\.on_message, the handler of 'other', overrides.*Base"):

        class App(Base):
            @event("other")
            async def on_message(self) -> None: ...


def test_an_override_by_a_mixin_is_told() -> None:
    """In the order in which Python looks attributes up."""
    with pytest.raises(DefinitionError, match=r"event 'message': Renaming\.on_message, the handler of 'other'"):
        type("App", (Renaming, Base), {})
    with pytest.raises(DefinitionError, match=r"event 'message': Plain\.on_message overrides a handler"):
        type("App", (Plain, Base), {})
    with pytest.raises(DefinitionError, match=r"event 'other': Base\.on_message, the handler of 'message'"):
        type("App", (Base, Renaming), {})


def test_an_override_whose_event_has_another_handler_is_fine() -> None:
    """Both events have functions of the subclass."""

    class App(Base):
        @event("other")
        async def on_message(self) -> Any:
            return {"from": "other"}

        @event("message")
        async def on_text(self) -> Any:
            return {"from": "text"}

    assert [answer["from"] for answer in talk(App, {"type": "message"}, {"type": "other"}).answers] == ["text", "other"]


# ---------------------------------------------------------------------- hooks


def sync_connect(self: Any) -> None: ...
def sync_disconnect(self: Any, close_code: int) -> None: ...
def sync_respond(self: Any, response: Any) -> None: ...
def sync_send_exception(self: Any, exc: Exception) -> None: ...
async def generating_connect(self: Any) -> Any:
    yield


async def two_arguments(self: Any, websocket: Any) -> None: ...
async def no_argument(self: Any) -> None: ...


@pytest.mark.parametrize(
    ("name", "hook", "words"),
    [
        ("on_connect", sync_connect, "is awaited; write it as `async def on_connect\\(self\\)`"),
        ("on_connect", None, "is awaited"),
        ("on_connect", property(sync_connect), "is awaited"),
        ("on_connect", staticmethod(sync_connect), "is awaited"),
        ("on_connect", functools.partialmethod(sync_connect), "is awaited"),
        ("on_connect", generating_connect, "is awaited"),
        ("on_connect", two_arguments, "is called with nothing"),
        ("on_disconnect", sync_disconnect, "is awaited; write it as `async def on_disconnect\\(self, close_code\\)`"),
        ("on_disconnect", no_argument, "is called with close_code"),
        ("respond", sync_respond, "is awaited"),
        ("respond", no_argument, "is called with response"),
        ("send_exception", sync_send_exception, "is awaited"),
        ("send", sync_respond, "is awaited"),
        ("close", sync_connect, "is awaited"),
    ],
)
@pytest.mark.parametrize("where", ["endpoint", "mix-in"])
def test_a_hook_that_cannot_be_awaited_is_told(name: str, hook: Any, words: str, where: str) -> None:
    """At class creation, and not at the first connection; the class that has it is named."""

    def define() -> None:
        own = type("Own", (Endpoint if where != "mix-in" else object,), {name: hook})
        type("App", (own, Endpoint) if where == "mix-in" else (own,), {})

    with pytest.raises(DefinitionError, match=rf"class \w+: Own\.{name} {words}"):
        define()


async def waiting() -> None: ...


def given_on(self: Any) -> Awaitable[None]:
    return waiting()


def given_on_as_well(self: Any) -> Coroutine[Any, Any, None]:
    return waiting()


given_on_as_well.__annotations__["return"] = Coroutine[Any, Any, None]


@pytest.mark.parametrize(
    "hook", [given_on, given_on_as_well, logged(no_argument), functools.partialmethod(no_argument), no_argument]
)
def test_a_hook_that_can_be_awaited_is_fine(hook: Callable[..., Any]) -> None:
    """However it is made."""
    type("App", (Endpoint,), {"on_connect": hook})


# ---------------------------------------------------------------------- whole messages


class Join(EventMessage):
    type: Literal["join"] = "join"
    room: str


Alias = TypeAliasType("Alias", Join)
New = NewType("New", Join)


@pytest.mark.parametrize("annotation", [Join, Alias, New, Annotated[Join, "doc"], Optional[Join], EventMessage])
@pytest.mark.parametrize("first", [True, False])
def test_a_whole_message_beside_others_is_told(annotation: Any, first: bool) -> None:
    """It can only be the only parameter."""

    def on_join(self: Any, msg: Any, other: Any) -> None: ...

    on_join.__annotations__ = {"msg": annotation if first else int, "other": int if first else annotation}
    name, rest = ("msg", "other") if first else ("other", "msg")
    with pytest.raises(
        DefinitionError, match=f"event 'join', parameter '{name}': .*only parameter; make '{rest}' fiel"
    ):
        Handler("join", on_join)


@pytest.mark.parametrize("annotation", [Join, Alias, New, Annotated[Join, "doc"]])
def test_a_whole_message_by_another_name_is_one(annotation: Any) -> None:
    """Alone, whatever it is called."""

    def on_join(msg: Any) -> Any:
        return {"got": msg.room}

    on_join.__annotations__["msg"] = annotation
    app = type("App", (Endpoint,), {"on_join": Handler("join", on_join)})
    assert ask(app, {"type": "join", "room": "r"})["got"] == "r"


def test_a_model_beside_others_is_nested() -> None:
    """Only an EventMessage is the whole message."""

    class Item(BaseModel):
        n: int

    class App(Endpoint):
        @event
        async def on_x(self, item: Item, items: list[Item], other: int) -> Any:
            return {"got": [item.n, items[0].n, other]}

    assert ask(App, {"type": "x", "item": {"n": 1}, "items": [{"n": 2}], "other": 3})["got"] == [1, 2, 3]
