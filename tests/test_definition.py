"""Declaring handlers: names, inheritance, attachment, and every mistake with its remedy in the text."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from pydantic import AliasChoices, BaseModel, Field, RootModel
from starlette.websockets import WebSocket

from socketsundso import DefinitionError, EventMessage, Handler, WebSocketHandlingEndpoint, event
from tests.harness import ask, talk

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers


class Everything(WebSocketHandlingEndpoint):
    """One handler for every way to declare one."""

    @event
    def without_parentheses(self) -> Any:
        return {}

    @event()
    async def with_parentheses(self) -> Any:
        return {}

    @event("named")
    async def some_function(self) -> Any:
        return {}

    @event
    async def on_stripped(self) -> Any:
        return {}

    @event
    async def handle_also(self) -> Any:
        return {}

    @event
    @staticmethod
    async def static_async(x: int = 1) -> Any:
        return {"x": x}

    @event
    @staticmethod
    def static_sync() -> Any:
        return {}


@Everything.event
async def outside() -> Any:
    return {}


@Everything.event()
def outside_with_parentheses() -> Any:
    return {}


@Everything.event("outside_named", thread=False)
def outside_function(self: Any) -> Any:
    return {"is": isinstance(self, Everything)}


@event
async def loose() -> Any:
    return {}


@event
async def attached() -> Any:
    return {}


Everything.attach_handler(attached)
Everything.attach_handler(Handler("by_constructor", lambda: {}))


@pytest.mark.parametrize(
    "name",
    ["without_parentheses", "with_parentheses", "named", "stripped", "also", "static_async", "static_sync", "outside",
     "outside_with_parentheses", "outside_named", "attached", "by_constructor"],
)  # fmt: skip
def test_every_way_to_declare_a_handler(name: str) -> None:
    """Each is called by its event and answers under it."""
    assert ask(Everything, {"type": name})["type"] == name


@pytest.mark.parametrize("name", ["some_function", "loose", "on_stripped", "nonexistent"])
def test_other_names_are_unknown_events(name: str) -> None:
    """A function's name is no event if another was given; the answer says what was given and what is known."""
    answer = ask(Everything, {"type": name})
    assert answer["code"] == "unknown_event"
    assert answer["errors"][0]["ctx"]["given"] == name
    assert "named" in answer["errors"][0]["ctx"]["permitted"]


def test_handlers_are_inherited_and_overwritten() -> None:
    """A subclass has its base's handlers, its own in their place, and leaves the base alone."""

    class Sub(Everything):
        @event
        def without_parentheses(self) -> Any:
            return {"new": True}

        @event("named")
        async def another_function(self) -> Any:
            return {"new": True}

    assert ask(Sub, {"type": "without_parentheses"}) == {"type": "without_parentheses", "new": True}
    assert ask(Sub, {"type": "named"}) == {"type": "named", "new": True}
    assert ask(Sub, {"type": "attached"}) == {"type": "attached"}
    assert ask(Everything, {"type": "named"}) == {"type": "named"}


def test_mixins_bring_their_handlers() -> None:
    """Handlers of a plain class and of several endpoint bases are collected in method resolution order."""

    class Pinging:
        @event
        async def on_ping(self) -> Any:
            return {"from": "mixin"}

    class Other(WebSocketHandlingEndpoint):
        @event
        async def on_other(self) -> Any:
            return {}

    class Both(Pinging, Other, Everything):
        pass

    assert ask(Both, {"type": "ping"})["from"] == "mixin"
    assert {"other", "named", "ping"} <= set(Both.handlers)


def test_overwriting_can_be_forbidden() -> None:
    """`overwrite_existing=False` as a class keyword; the error is an AssertionError too, as in 0.0.x."""
    with pytest.raises(AssertionError, match="overwrite_existing=True"):

        class Sub(Everything, overwrite_existing=False):
            @event("named")
            async def x(self) -> None: ...


def test_attaching_twice_needs_permission() -> None:
    """`attach_handler` refuses a duplicate, unless told to overwrite."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_x(self) -> Any:
            return {"v": 1}

    new = Handler("x", lambda: {"v": 2})
    with pytest.raises(DefinitionError, match="duplicate"):
        App.attach_handler(new)
    App.attach_handler(new, overwrite_existing=True)
    assert ask(App, {"type": "x"})["v"] == 2


def test_attaching_reaches_open_connections() -> None:
    """A handler attached while a connection is open is found by its next message."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_grow(self) -> None:
            App.attach_handler(Handler("grown", lambda: {}))

    assert talk(App, {"type": "grow"}, {"type": "grown"}).answers == [{"type": "grown"}]


def test_an_event_named_like_a_method_does_not_replace_it() -> None:
    """`close` is registered as an event, and `self.close` stays the method."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def close(self, code: int) -> None:
            await WebSocketHandlingEndpoint.close(self, code)

    assert App.close is WebSocketHandlingEndpoint.close
    assert talk(App, {"type": "close", "code": 4444}).closed == 4444


def test_direct_calls() -> None:
    """A handler is awaited like its function; bound to an instance it needs no self."""
    import asyncio

    instance = Everything.__new__(Everything)

    async def main() -> None:
        assert await outside() == {}
        assert await Everything.static_async(3) == {"x": 3}
        assert await instance.static_async(4) == {"x": 4}
        assert await instance.without_parentheses() == {}
        assert await Everything.without_parentheses(instance) == {}
        assert await instance.handlers["stripped"]() == {}
        assert await outside_function(instance) == {"is": True}

    asyncio.run(main())


def test_handler_attributes() -> None:
    """`event`, `method`, `response_model` and `model`, also through a bound handler."""

    class Pong(BaseModel):
        x: int

    class App(WebSocketHandlingEndpoint):
        @event("ping", response_model=Pong)
        def pingpong(self, n: Annotated[int, Field(gt=0, alias="N")], m: str = "m") -> Any: ...

    handler = App.handlers["ping"]
    assert (handler.event, handler.response_model) == ("ping", Pong)
    assert handler.method.__name__ == "pingpong"
    assert set(handler.model.model_json_schema()["properties"]) == {"type", "N", "m"}
    assert handler.model.model_validate({"type": "ping", "N": 1}).m == "m"
    assert App.__new__(App).handlers["ping"].model is handler.model
    assert "ping" in repr(handler)
    assert "ping" in repr(App.handlers)


def test_handle_event_validates_calls_and_validates() -> None:
    """A message that came as an EventMessage is handled like a frame, as in 0.0.x."""
    import asyncio

    @event
    async def double(n: int) -> Any:
        return {"n": n * 2}

    assert asyncio.run(double(event_message=EventMessage(type="double", n="21"))) == {"n": 42}


# ---------------------------------------------------------------------- mistakes


def nameless() -> None: ...


nameless.__name__ = "on_"


def define(function: Callable[..., Any], **options: Any) -> None:
    class App(WebSocketHandlingEndpoint):
        pass

    App.event("thing", **options)(function)


class Array(msgspec.Struct, array_like=True):
    x: int


class WithRef(BaseModel):
    ref: int


class StructWithRef(msgspec.Struct):
    ref: int


class Wrong(EventMessage):
    type: Literal["other"]


def f_args(*args: int) -> None: ...
def f_kwargs(**kwargs: int) -> None: ...
def f_type(type: str) -> None: ...
def f_ref(ref: str) -> None: ...
def f_alias(x: Annotated[int, Field(alias="type")]) -> None: ...
def f_twice(a: Annotated[int, Field(alias="k")], k: int) -> None: ...
def f_unresolvable(x: OnlyForTypeCheckers) -> None: ...
def f_returns(x: int) -> OnlyForTypeCheckers: ...
def f_not_a_type(x: Any) -> None: ...
def f_callable(x: Callable[[], int]) -> None: ...
def f_class(x: type[int]) -> None: ...
def f_collection(x: list[Collection[int]]) -> None: ...
def f_arbitrary(x: inspect.Signature) -> None: ...
def f_list_of_arbitrary(x: list[inspect.Signature]) -> None: ...
def f_wrong(m: Wrong) -> None: ...


f_not_a_type.__annotations__["x"] = "1 + 'a'"


async def f_async_generator() -> AsyncIterator[int]:
    yield 1


class Depends:
    dependency = None
    use_cache = True


def f_depends(x: Any = Depends()) -> None: ...  # noqa: B008
def f_depends_annotated(x: Annotated[Any, Depends()]) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (f_args, {}, ["args", "name each parameter"]),
        (f_kwargs, {}, ["kwargs", "name each parameter"]),
        (f_type, {}, ["'type'", "reserved", "alias"]),
        (f_ref, {}, ["'ref'", "reserved", "alias"]),
        (f_alias, {}, ["'x'", "reserved"]),
        (f_twice, {}, ["'k'", "alias"]),
        (f_unresolvable, {}, ["'x'", "TYPE_CHECKING"]),
        (f_returns, {}, ["return annotation", "TYPE_CHECKING"]),
        (f_not_a_type, {}, ["'x'", "not a type"]),
        (f_callable, {}, ["'x'", "callable"]),
        (f_class, {}, ["'x'", "class cannot come from JSON"]),
        (f_collection, {}, ["'x'", "list[...]"]),
        (f_arbitrary, {}, ["'x'", "keep it on self"]),
        (f_list_of_arbitrary, {}, ["'x'", "keep it on self"]),
        (f_wrong, {}, ["'other'", "@event('other')"]),
        (f_async_generator, {}, ["no object", "int"]),
        (f_depends, {}, ["'x'", "Depends(function)"]),
        (f_depends_annotated, {}, ["'x'", "Depends(function)"]),
        (lambda: {}, {"response_model": list[int]}, ["no object", "response_model=None"]),
        (lambda: {}, {"response_model": int}, ["no object"]),
        (lambda: {}, {"response_model": RootModel[list[int]]}, ["no object"]),
        (lambda: {}, {"response_model": Array}, ["no object"]),
        (lambda: {}, {"response_model": WithRef}, ["'ref'", "rename"]),
        (lambda: {}, {"response_model": StructWithRef}, ["'ref'", "rename"]),
    ],
)
def test_a_definition_mistake_names_event_and_remedy(
    function: Callable[..., Any], options: dict[str, Any], words: list[str]
) -> None:
    """The error comes at import, is a TypeError, and says event, parameter and what to do."""
    with pytest.raises(DefinitionError) as info:
        define(function, **options)
    assert isinstance(info.value, TypeError)
    for word in ["'thing'", *words]:
        assert word in str(info.value)


def test_duplicate_events_in_one_class() -> None:
    """Two functions for one event are refused, even where overwriting base classes is allowed."""
    with pytest.raises(DefinitionError, match="duplicate"):

        class App(WebSocketHandlingEndpoint, overwrite_existing=True):
            @event("x")
            def one(self) -> None: ...

            @event("x")
            def two(self) -> None: ...


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Handler(None, functools.partial(print)), "@event('name')"),
        (lambda: event(nameless), "no event"),
        (lambda: Handler("x", 5), "callable"),  # type: ignore[arg-type]
        (lambda: Handler("x", outside), "handler already"),
        (lambda: event(classmethod(lambda cls: None)), "classmethod"),  # type: ignore[call-overload]
        (lambda: Handler("error", lambda: None), "'error'"),
        (lambda: Handler("", lambda: None), "name"),
        (lambda: Everything.attach_handler(5), "no handler"),  # type: ignore[arg-type]
        (lambda: Everything.handlers.__setitem__("q", 5), "no handler"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_handler(make: Callable[[], Any], word: str) -> None:
    """Nameless, uncallable and reserved things are refused where they are declared."""
    with pytest.raises(DefinitionError) as info:
        make()
    assert word in str(info.value)


def test_a_mistake_changes_nothing() -> None:
    """A handler that cannot be compiled is not attached."""
    before = dict(Everything.handlers)
    with pytest.raises(DefinitionError):
        Everything.event("bad")(f_args)
    assert dict(Everything.handlers) == before


def test_string_annotations_find_local_and_nested_names() -> None:
    """With postponed annotations, names of the class body and of the function around it are found."""

    @dataclass
    class Local:
        x: int

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_a(self, local: Local, nested: Nested, both: list[Nested | None]) -> Nested:
            return nested

        class Nested(BaseModel):
            y: int

    answer = ask(App, {"type": "a", "local": {"x": 1}, "nested": {"y": 2}, "both": [None]})
    assert answer == {"type": "a", "y": 2}


def test_wrapped_and_partial_functions() -> None:
    """functools.wraps shows the wrapped signature, called by keyword; a partial shows its own."""

    def logged(function: Any) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return {**await function(*args, **kwargs), "logged": sorted(kwargs)}

        return wrapper

    def plain_wrapper(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    class App(WebSocketHandlingEndpoint):
        @event
        @logged
        async def on_a(self, x: int, y: int = 2) -> Any:
            return {"sum": x + y}

        @event
        @plain_wrapper
        async def on_b(self, x: int) -> Any:
            return {"x": x}

    async def add(a: int, b: int) -> Any:
        return {"sum": a + b}

    App.attach_handler(Handler("c", functools.partial(add, 10)))
    assert ask(App, {"type": "a", "x": 1}) == {"type": "a", "sum": 3, "logged": ["x", "y"]}
    assert ask(App, {"type": "b", "x": 1}) == {"type": "b", "x": 1}
    assert ask(App, {"type": "c", "b": 5}) == {"type": "c", "sum": 15}


def test_parameter_kinds_and_odd_names() -> None:
    """Positional-only, keyword-only, required after default, names that pydantic or msgspec use themselves."""

    class App(WebSocketHandlingEndpoint):
        @event
        def on_kinds(self, a: int, /, b: int = 2, *, c: int, d: int = 4) -> Any:
            return {"got": [a, b, c, d]}

        @event
        def on_names(
            self, json: int, copy: int, model_config: int, schema: int, _x: int, cls: int, message: int
        ) -> Any:
            return {"got": [json, copy, model_config, schema, _x, cls, message]}

        @event
        def on_alias(self, type_: Annotated[str, Field(alias="kind")], frm: str = Field(alias="from"),
                     a_b: int = Field(1, alias="a-b")) -> Any:  # fmt: skip
            return {"got": [type_, frm, a_b]}

    assert ask(App, {"type": "kinds", "a": 1, "c": 3})["got"] == [1, 2, 3, 4]
    assert ask(App, {"type": "kinds", "a": "1", "c": "3"})["got"] == [1, 2, 3, 4]
    names = dict.fromkeys(["json", "copy", "model_config", "schema", "_x", "cls", "message"], 1)
    assert ask(App, {"type": "names", **names})["got"] == [1] * 7
    assert ask(App, {"type": "names", **names, "cls": "1"})["got"] == [1] * 7
    assert ask(App, {"type": "alias", "kind": "k", "from": "f", "a-b": 2})["got"] == ["k", "f", 2]
    assert App.handlers["names"].model is not None


def test_defaults_are_fresh_and_not_validated() -> None:
    """A mutable default is copied per call, a factory runs per call, a default of another type is left alone."""

    class Box(BaseModel):
        items: list[int] = []

    class App(WebSocketHandlingEndpoint):
        @event
        def on_x(self, a: list[int] = [1], b: Box = Box(), c: list[int] = Field(default_factory=list),  # noqa: B006, B008
                 d: int = "text", e: int = None, f: int | None = None, n: int = 0) -> Any:  # type: ignore[assignment]  # noqa: RUF013  # fmt: skip
            a.append(2)
            b.items.append(3)
            c.append(4)
            return {"got": [a, b.items, c, d, e, f]}

    want = [[1, 2], [3], [4], "text", None, None]
    for frame in [{"type": "x"}, {"type": "x"}, {"type": "x", "n": "1"}, {"type": "x", "e": None, "n": "1"}]:
        assert ask(App, frame)["got"] == want


def test_what_only_pydantic_can_fill() -> None:
    """Alias choices, validated defaults and factories that see other values take the exact path at once."""

    class App(WebSocketHandlingEndpoint):
        @event
        def on_choice(self, a: int = Field(validation_alias=AliasChoices("a1", "a2"))) -> Any:
            return {"got": a}

        @event
        def on_validated(self, a: int = Field("5", validate_default=True)) -> Any:
            return {"got": a}

        @event
        def on_derived(self, a: int, b: int = Field(default_factory=lambda data: data["a"] + 1)) -> Any:
            return {"got": b}

    assert ask(App, {"type": "choice", "a2": 3, "ref": 1}) == {"type": "choice", "got": 3, "ref": 1}
    assert ask(App, {"type": "validated"})["got"] == 5
    assert ask(App, {"type": "derived", "a": 1})["got"] == 2


def test_a_whole_message_parameter() -> None:
    """A single parameter annotated with an EventMessage subclass receives the message as that model."""

    class Said(EventMessage):
        room: str
        n: int = 0

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_said(self, message: Said) -> Any:
            return {"got": [type(message).__name__, message.type, message.room, message.n, message.model_extra]}

    assert ask(App, {"type": "said", "room": "r", "n": "3", "x": 1})["got"] == ["Said", "said", "r", 3, {"x": 1}]
    assert ask(App, {"type": "said", "room": "r", "ref": 5}) == {
        "type": "said",
        "got": ["Said", "said", "r", 0, {}],
        "ref": 5,
    }
    assert ask(App, {"type": "said", "ref": 5})["errors"][0]["loc"] == ["room"]
    assert ask(App, {"type": "said", "room": "r", "ref": 1.5})["errors"][0]["loc"] == ["ref"]
    assert App.handlers["said"].model is Said


def test_return_annotations_are_response_models() -> None:
    """Models are; dict, Any, None and lists are not; `response_model=None` switches it off."""

    class TD(TypedDict):
        x: int

    class M(BaseModel):
        x: int

    def returning(annotation: Any, **options: Any) -> Any:
        def function() -> None: ...

        function.__annotations__["return"] = annotation
        return Handler("x", function, **options).response_model

    for model in (M, TD, Array, M | None, M | TD, Annotated[M, "doc"]):
        assert returning(model) == model
    for other in (dict, dict[str, int], Any, None, list[M], int, M | dict[str, int], str):
        assert returning(other) is None
    assert returning(M, response_model=None) is None
    assert returning("Nowhere", response_model=None) is None
    assert returning(M, response_model=TD) is TD


def test_an_event_costs_as_much_among_many_as_alone() -> None:
    """Attaching one compiles that one: about as many calls with 200 events before it as with 2."""

    class App(WebSocketHandlingEndpoint):
        pass

    def attach(number: int) -> None:
        def function(self: App, room: str, msg: str) -> None: ...

        App.event(f"event_{number:03}")(function)  # names of one length: each character is a call

    def calls_of(number: int) -> int:
        calls = 0

        def count(frame: FrameType, what: str, argument: Any) -> None:
            nonlocal calls
            calls += what == "call"

        sys.setprofile(count)
        try:
            attach(number)
        finally:
            sys.setprofile(None)
        return calls

    attach(0)
    attach(1)
    few = calls_of(2)
    for number in range(3, 200):
        attach(number)
    assert calls_of(200) < few + 100  # the collector may call something in between
    assert len(App.handlers) == 201


def test_the_constructor_says_the_type_of_its_parameter() -> None:
    """The annotation is the class, not its name: FastAPI 0.115 takes a name for that of a query parameter."""
    assert inspect.signature(Everything).parameters["websocket"].annotation is WebSocket
