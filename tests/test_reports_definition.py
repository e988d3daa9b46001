"""Classes and decorators as users of comparable libraries wrote them: generics, mix-ins, wrong nestings."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Generic, Optional, TypeVar

import msgspec
import pytest
from pydantic import BaseModel, Field, HttpUrl

from socketsundso import Endpoint, Handler, event
from socketsundso.errors import DefinitionError
from tests.harness import talk

T = TypeVar("T")
U = TypeVar("U")


def codes(app: Any, *frames: dict[str, Any]) -> list[Any]:
    """Per frame what the handler got, else the places of the errors."""
    return [a["got"] if "got" in a else [e["loc"] for e in a["errors"]] for a in talk(app, *frames).answers]


# ---------------------------------------------------------------------- generic endpoints


class Box(BaseModel, Generic[T]):
    got: T


class Cell(msgspec.Struct, Generic[T]):
    got: T


class Keeper(Endpoint, Generic[T]):
    @event(thread=False)
    def on_one(self, item: T) -> Box[T]:
        return {"got": item}  # type: ignore[return-value]

    @event(thread=False)
    def on_many(self, items: Annotated[list[T], Field(max_length=2)], last: T | None = None) -> Any:
        return {"got": [items, last]}

    @event(thread=False)
    def on_box(self, box: Box[T], cell: Cell[T]) -> Cell[T]:
        return Cell(box.got)


class Counts(Generic[U]):
    @event(thread=False)
    def on_counts(self, counts: dict[str, U]) -> Any:
        return {"got": counts}


class Ints(Keeper[int]):
    pass


class Lists(Keeper[list[T]], Counts[T], Generic[T]):
    @event(thread=False)
    def on_own(self, item: T) -> Any:
        return {"got": item}


class IntLists(Lists[int]):
    pass


class Deeper(IntLists):
    pass


ONE, MANY, OWN, COUNTS = "one", "many", "own", "counts"


@pytest.mark.parametrize(
    ("app", "frame", "want"),
    [
        (Ints, {"type": ONE, "item": "5"}, 5),
        (Ints, {"type": ONE, "item": "z"}, [["item"]]),
        (Ints, {"type": MANY, "items": ["1"], "last": "2"}, [[1], 2]),
        (Ints, {"type": MANY, "items": [1, 2, 3]}, [["items"]]),
        (Ints, {"type": "box", "box": {"got": "1"}, "cell": {"got": 1}}, 1),
        (Ints, {"type": "box", "box": {"got": "z"}, "cell": {"got": "z"}}, [["box", "got"], ["cell"]]),
        (IntLists, {"type": ONE, "item": ["5"]}, [5]),
        (IntLists, {"type": ONE, "item": 5}, [["item"]]),
        (Deeper, {"type": OWN, "item": "5"}, 5),
        (Deeper, {"type": OWN, "item": [5]}, [["item"]]),
        (Deeper, {"type": COUNTS, "counts": {"a": "1"}}, {"a": 1}),
        (Deeper, {"type": COUNTS, "counts": {"a": "z"}}, [["counts", "a"]]),
        (Keeper, {"type": ONE, "item": ["anything"]}, ["anything"]),
    ],
)
def test_a_generic_endpoint_validates_by_its_arguments(app: Any, frame: Any, want: Any) -> None:
    """Each class's type variables stand for what its subclass gives them, also the same one used twice on the way."""
    assert codes(app, frame) == [want]


def test_what_a_type_argument_makes_impossible_is_told_when_the_subclass_is_made() -> None:
    """Not with the first message."""
    with pytest.raises(DefinitionError, match="event 'one', parameter 'item'.*callable"):

        class Bad(Keeper[Callable[[], int]]):
            pass


# ---------------------------------------------------------------------- decorators in the wrong order


def test_a_staticmethod_around_a_handler_is_a_handler() -> None:
    """Either order works."""

    class App(Endpoint):
        @staticmethod
        @event(thread=False)
        def on_x(a: int) -> Any:
            return {"got": a}

    assert codes(App, {"type": "x", "a": "1"}) == [1]


@pytest.mark.parametrize("wrong", [classmethod, property])
def test_what_else_is_around_a_handler_is_told(wrong: Any) -> None:
    """The event would silently not exist."""
    with pytest.raises(DefinitionError, match=f"event 'x': a {wrong.__name__} cannot be around a handler"):
        type("App", (Endpoint,), {"on_x": wrong(event(_x))})


def _x(self: Any) -> Any:
    return {"got": 1}


_x.__name__ = "on_x"


def test_an_override_without_event_is_told() -> None:
    """Else the overridden handler would go on answering."""

    class Parent(Endpoint):
        @event
        def on_x(self) -> None: ...

    for value in (_x, None):
        with pytest.raises(DefinitionError, match=r"event 'x': Child\.on_x overrides a handler.*@event"):
            type("Child", (Parent,), {"on_x": value})

    class Child(Parent):
        pass

    del Child.handlers["x"]
    assert (list(Child.handlers), list(Parent.handlers)) == ([], ["x"])


def test_an_event_of_a_mixin_named_like_a_method_does_not_replace_it() -> None:
    """`close` is an event, and `self.close()` closes."""

    class Closing:
        @event
        async def close(self) -> Any:
            return {"got": "bye"}

    class App(Closing, Endpoint):
        @event
        async def on_x(self) -> Any:
            await self.close(4000)

    class Own(Closing, Endpoint):
        async def close(self, code: int = 1000, reason: str | None = None) -> None:
            await Endpoint.close(self, code + 1, reason)

        @event
        async def on_x(self) -> Any:
            await self.close(4000)

    assert codes(App, {"type": "close"}) == ["bye"]
    assert talk(App, {"type": "x"}).closed == 4000
    assert talk(Own, {"type": "x"}).closed == 4001


def test_a_misspelt_class_keyword_is_told() -> None:
    """With what was probably meant; those of a base class still reach it."""
    with pytest.raises(DefinitionError, match="class App.*did you mean 'overwrite_existing'"):
        type("App", (Endpoint,), {}, overwrite_exisiting=False)

    class Tagged(Endpoint):
        def __init_subclass__(cls, tag: str = "", **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            cls.tag = tag  # type: ignore[attr-defined]

    assert type("App", (Tagged,), {}, tag="a", overwrite_existing=False).tag == "a"  # type: ignore[call-overload]


# ---------------------------------------------------------------------- Structs with what only pydantic knows


class Link(BaseModel):
    url: HttpUrl


class Page(msgspec.Struct):
    link: Link | None = None
    links: list[Link] = []
    path: Path | None = None
    sub: Page | None = None


NO_URL = "Input should be a valid URL, relative URL without a base"


@pytest.mark.parametrize(
    ("page", "want"),
    [
        ({"link": {"url": "http://a.b"}}, Page(Link(url="http://a.b"))),
        ({"links": [{"url": "http://a.b"}]}, Page(links=[Link(url="http://a.b")])),
        ({"path": "/a", "sub": {"path": "b"}}, Page(path=Path("/a"), sub=Page(path=Path("b")))),
        (
            {"links": [{"url": "nonsense"}]},
            f"{NO_URL} - at `$.links[0]`",
        ),
        ({"link": {}}, "Field required - at `$.link`"),
    ],
)
@pytest.mark.parametrize("n", [1, "1"])
def test_pydantic_within_a_struct(page: Any, want: Any, n: Any) -> None:
    """A Struct's fields may be models, URLs or paths: pydantic makes them, on both paths."""
    seen: list[Any] = []

    class App(Endpoint):
        @event(thread=False)
        def on_x(self, page: Page, n: int) -> None:
            seen.append(page)

    answers = talk(App, {"type": "x", "page": page, "n": n}).answers
    assert [error["msg"] for answer in answers for error in answer["errors"]] or seen == [want]
    if answers:
        assert answers[0]["errors"][0]["msg"] == want


class Locked(msgspec.Struct):
    lock: threading.Event


class Nested(msgspec.Struct):
    items: list[dict[str, Locked | None]]


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Locked, "can make a Event from JSON"),
        (list[Nested], "can make a Event from JSON"),
        (Annotated[int, Field(min_length=1)], "int has no length"),
        (list[Annotated[float, Field(max_length=1)]], "float has no length"),
        (Annotated[Optional[str], Field(gt=1)], "str cannot be compared with a number"),
        (Annotated[list[int], Field(multiple_of=2)], "list cannot be compared with a number"),
    ],
)
def test_annotations_that_no_value_can_satisfy(annotation: Any, reason: str) -> None:
    """What would fail with every message fails at import."""

    def on_x(v: Any) -> None: ...

    on_x.__annotations__["v"] = annotation
    with pytest.raises(DefinitionError, match=f"event 'x', parameter 'v': .*{re.escape(reason)}"):
        Handler("x", on_x)


def test_a_text_may_be_compared_with_a_text() -> None:
    """`gt` of a string is no mistake."""

    class App(Endpoint):
        @event(thread=False)
        def on_x(self, v: Annotated[str, Field(gt="b")]) -> Any:
            return {"got": v}

    assert codes(App, {"type": "x", "v": "c"}, {"type": "x", "v": "a"}) == ["c", [["v"]]]


# ---------------------------------------------------------------------- inheritance


def test_handlers_of_a_diamond_call_each_other_by_super() -> None:
    """In the order of the classes, sync and async ones alike."""

    class Root(Endpoint):
        @event
        def on_x(self) -> Any:
            return {"got": ["root"]}

    class Left(Root):
        @event
        async def on_x(self) -> Any:
            return {"got": [*(await super().on_x())["got"], "left"]}

    class Right(Root):
        @event
        async def on_x(self) -> Any:
            return {"got": [*(await super().on_x())["got"], "right"]}

    class Both(Left, Right):
        @event
        async def on_x(self) -> Any:
            return {"got": [*(await super().on_x())["got"], "both"]}

    assert codes(Both, {"type": "x"}) == [["root", "right", "left", "both"]]


def test_context_managers_around_handlers() -> None:
    """One that decorates an async function works; a generator is told to be none."""

    @contextlib.asynccontextmanager
    async def session() -> Any:
        yield

    class App(Endpoint):
        @event
        @session()
        async def on_x(self, a: int) -> Any:
            return {"got": a}

    assert codes(App, {"type": "x", "a": 1}) == [1]
    with pytest.raises(DefinitionError, match="generator"):

        class Bad(Endpoint):
            @event
            @contextlib.contextmanager
            def on_x(self, a: int) -> Any:
                yield
