"""Structs, `Meta` and aliases anywhere in an annotation: the same values and refusals on both paths."""

from __future__ import annotations

import collections
import dataclasses
import datetime
from collections.abc import Callable, Generator, Iterable
from typing import Annotated, Any, Generic, NamedTuple, NewType, NotRequired, Optional, TypeVar, Union

import msgspec
import pytest
from msgspec import Meta, Struct
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ImportString,
    PlainValidator,
    SkipValidation,
    TypeAdapter,
    WrapValidator,
)
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeAliasType, TypedDict

from socketsundso import DefinitionError, Endpoint, Handler, event
from tests.harness import talk

T = TypeVar("T")


class Point(Struct):
    x: int


class Circle(Struct, tag=True):
    r: int


class Square(Struct, tag=True):
    a: int


Positive = TypeAliasType("Positive", Annotated[int, Meta(gt=0)])
Short = NewType("Short", Annotated[str, Meta(max_length=2)])  # type: ignore[valid-newtype]
Shorter = NewType("Shorter", Short)
Aware = TypeAliasType("Aware", Annotated[datetime.datetime, Meta(tz=True)])
Many = TypeAliasType("Many", list[Annotated[T, Meta(max_length=2)]], type_params=(T,))
Few = TypeAliasType("Few", Annotated[list[T], Meta(max_length=2)], type_params=(T,))
Points = TypeAliasType("Points", list[Point])
Named = TypeAliasType("Named", dict[str, T], type_params=(T,))
Place = NewType("Place", Point)
Places = NewType("Places", list[Place])
Round = NewType("Round", Circle)
Tree = TypeAliasType("Tree", "dict[str, Tree] | Annotated[int, Meta(gt=0)]")  # type: ignore[misc]
Lookahead = Annotated[str, Meta(pattern="^(?=a)")]


@dataclasses.dataclass
class Plain:
    n: Annotated[int, Meta(gt=0)]
    points: list[Point] = dataclasses.field(default_factory=list)
    child: Plain | None = None


class Typed(TypedDict):
    n: Annotated[int, Meta(gt=0)]
    point: NotRequired[Point]


@dataclasses.dataclass
class Boxed(Generic[T]):
    item: T
    n: Annotated[int, Meta(gt=0)] = 1


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    n: Annotated[int, Meta(gt=0)]
    point: Point


class Pair(NamedTuple):
    n: Annotated[int, Meta(gt=0)]
    point: Point = Point(0)


class Exactly(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # as pydantic's documentation has it
    point: Point


@dataclasses.dataclass
class Unhelped:
    n: int


@dataclasses.dataclass
class InItsOwnWay:
    point: Point

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(lambda x: cls(Point(x)), core_schema.int_schema())


def endpoint(annotation: Any) -> Any:
    """An endpoint whose `n` sends a message to the judge when it is a text, and what its handler got."""

    class App(Endpoint):
        got: list[Any] = []

    def on_x(v: Any, n: int = 0) -> None:
        App.got.append(v)

    on_x.__annotations__ = {"v": annotation, "n": int}
    App.attach_handler(Handler("x", on_x, thread=False))
    return App


GOOD = [
    (Positive, 1, 1),
    (Short, "ab", "ab"),
    (Shorter, "ab", "ab"),
    (list[Short], ["ab"], ["ab"]),
    (dict[Short, Positive], {"a": 1}, {"a": 1}),
    (tuple[Positive, Short], [1, "a"], (1, "a")),
    (Optional[Positive], None, None),
    (Union[Positive, Short], "ab", "ab"),
    (Many[str], ["ab"], ["ab"]),
    (Few[int], [1], [1]),
    (Points, [{"x": 1}], [Point(1)]),
    (Optional[Points], [{"x": 1}], [Point(1)]),
    (Named[Point], {"a": {"x": 1}}, {"a": Point(1)}),
    (Named[Points], {"a": [{"x": 1}]}, {"a": [Point(1)]}),
    (Place, {"x": 1}, Point(1)),
    (Places, [{"x": 1}], [Point(1)]),
    (Union[Round, Square], {"type": "Circle", "r": 1}, Circle(1)),
    (Union[Round, Square, int], {"type": "Circle", "r": 1}, Circle(1)),
    (Union[Points, Point], {"x": 1}, Point(1)),
    (Annotated[Points, Field(max_length=1)], [{"x": 1}], [Point(1)]),
    (Annotated[Points, AfterValidator(len)], [{"x": 1}], 1),
    (Annotated[Point, BeforeValidator(lambda v: Point(5))], 1, Point(5)),
    (Tree, {"a": {"b": 1}}, {"a": {"b": 1}}),
    (Plain, {"n": 1, "points": [{"x": 1}]}, Plain(1, [Point(1)])),
    (Plain, {"n": 1, "child": {"n": 2}}, Plain(1, [], Plain(2))),
    (list[Plain], [{"n": 1}], [Plain(1)]),
    (Typed, {"n": 1, "point": {"x": 1}}, {"n": 1, "point": Point(1)}),
    (Typed, {"n": 1}, {"n": 1}),
    (Pair, [1, {"x": 2}], Pair(1, Point(2))),
    (Boxed[Point], {"item": {"x": 1}}, Boxed(Point(1))),
    (Boxed[int], {"item": 1}, Boxed(1)),
    (Boxed[Points], {"item": [{"x": 1}]}, Boxed([Point(1)])),
    (Slotted, {"n": 1, "point": {"x": 1}}, Slotted(1, Point(1))),
    (Lookahead, "ab", "ab"),
    (Annotated[int | str, Meta(gt=0)], "a", "a"),
    (Annotated[int | float, Meta(gt=0)], 0.5, 0.5),
    (Annotated[str | list[int], Meta(max_length=1)], [1], [1]),
    (Annotated[datetime.datetime | None, Meta(tz=True)], None, None),
    (Annotated[datetime.datetime, Meta(tz=False)], "2020-01-01T00:00:00", datetime.datetime(2020, 1, 1)),
    (Annotated[Annotated[int, "a number"] | str, Meta(gt=0)], "a", "a"),
    (Annotated[Point, ["cannot be hashed"]], {"x": 1}, Point(1)),
    (Named[Annotated[Point, ["cannot be hashed"]]], {"a": {"x": 1}}, {"a": Point(1)}),
    (tuple[Typed, Typed], [{"n": 1}, {"n": 2}], ({"n": 1}, {"n": 2})),
    (tuple[Named[int], Point], [{"a": 1}, {"x": 1}], ({"a": 1}, Point(1))),
    (tuple[Unhelped, Point], [{"n": 1}, {"x": 1}], (Unhelped(1), Point(1))),
    (Exactly, {"point": {"x": 1}}, {"point": Point(1)}),
    (InItsOwnWay, 1, InItsOwnWay(Point(1))),
]

BAD = [
    (Positive, -1, [[]]),
    (Short, "abc", [[]]),
    (Shorter, "abc", [[]]),
    (list[Short], ["abc", "a", "abc"], [[0], [2]]),
    (dict[Short, Positive], {"abc": 1, "a": -1}, [["abc", "[key]"], ["a"]]),
    (tuple[Positive, Short], [-1, "abc"], [[0], [1]]),
    (Optional[Positive], -1, [[]]),
    (Annotated[Positive, Field(lt=5)], 5, [[]]),
    (Annotated[Positive, "doc"], -1, [[]]),
    (Aware, "2020-01-01T00:00:00", [[]]),
    (Annotated[datetime.datetime, Meta(tz=True)], "2020-01-01T00:00:00", [[]]),
    (Annotated[datetime.datetime, Meta(tz=False)], "2020-01-01T00:00:00Z", [[]]),
    (Annotated[datetime.time, Meta(tz=True)], "00:00:00", [[]]),
    (Optional[Annotated[datetime.datetime, Meta(tz=True)]], "2020-01-01T00:00:00", [[]]),
    (Annotated[datetime.datetime | None, Meta(tz=True)], "2020-01-01T00:00:00", [[]]),
    (list[Aware], ["2020-01-01T00:00:00"], [[0]]),
    (Many[str], ["abc"], [[0]]),
    (Few[int], [1, 2, 3], [[]]),
    (Points, [{"x": "z"}], [[0]]),
    (Points, {"x": 1}, [[]]),
    (Named[Point], {"a": {"x": "z"}}, [["a"]]),
    (Named[Points], {"a": [{"x": "z"}]}, [["a", 0]]),
    (Place, {"x": "z"}, [[]]),
    (Places, [{"x": 1}, {"x": "z"}], [[1]]),
    (Union[Round, Square], {"type": "Triangle"}, [[]]),
    (Annotated[Points, Field(max_length=1)], [{"x": 1}, {"x": 2}], [[]]),
    (Plain, {"n": -1, "points": [{"x": "z"}]}, [["n"], ["points", 0]]),
    (Plain, {"n": 1, "child": {"n": -2}}, [["child", "n"]]),
    (Typed, {"n": -1, "point": {"x": "z"}}, [["n"], ["point"]]),
    (Pair, [-1, {"x": "z"}], [[0], [1]]),
    (Lookahead, "ba", [[]]),
    (Boxed[int], {"item": "z", "n": -1}, [["item"], ["n"]]),
    (list[Boxed[Point]], [{"item": {"x": "z"}}], [[0, "item"]]),
    (Annotated[int | float, Meta(gt=0)], -1, [["constrained-int"], ["constrained-float"]]),
    (Annotated[Annotated[int, "a number"] | str, Meta(gt=0)], 0, [["constrained-int"], ["str"]]),
    (tuple[Typed, Typed], [{"n": 0}, {"n": 0}], [[0, "n"], [1, "n"]]),
    (tuple[Named[int], Unhelped, Point], [{"a": "z"}, {"n": "z"}, {"x": 1}], [[0, "a"], [1, "n"]]),
    (Exactly, {"point": {"x": 1}, "more": 1}, [["more"]]),
    (InItsOwnWay, {"point": {"x": 1}}, [[]]),
    (Iterable[int], [1, "x"], [[1]]),
    (Optional[Iterable[int]], [1, "x"], [[1]]),
    (dict[str, Iterable[int]], {"a": [1, "x"]}, [["a", 1]]),
    (Generator[int, None, None], [1, "x"], [[1]]),
]  # fmt: skip


@pytest.mark.parametrize("n", [1, "1"], ids=["fast", "judged"])
@pytest.mark.parametrize(("annotation", "value", "want"), GOOD, ids=repr)
def test_a_value_is_the_same_on_both_paths(annotation: Any, value: Any, want: Any, n: Any) -> None:
    """Of what Structs, aliases and Meta are made of, wherever they stand; of the very classes that were named."""
    app = endpoint(annotation)
    assert talk(app, {"type": "x", "v": value, "n": n}).answers == []
    (got,) = app.got
    assert got == want
    assert type(got) is type(want)


@pytest.mark.parametrize("n", [1, "1"], ids=["fast", "judged"])
@pytest.mark.parametrize(("annotation", "value", "places"), BAD, ids=repr)
def test_a_refusal_is_the_same_on_both_paths(annotation: Any, value: Any, places: Any, n: Any) -> None:
    """Nothing that an annotation demands is forgotten behind a name for it, and each error has its place."""
    app = endpoint(annotation)
    (answer,) = talk(app, {"type": "x", "v": value, "n": n}).answers
    assert answer["code"] == "validation_error"
    assert [error["loc"] for error in answer["errors"]] == [["v", *place] for place in places]
    assert app.got == []


def test_an_iterable_has_been_read_when_the_handler_runs() -> None:
    """It may be read again; a generator is one, and begins at its begin."""
    app = endpoint(Iterable[int])
    talk(app, {"type": "x", "v": ["1", 2]})
    assert app.got == [[1, 2]]
    app = endpoint(Generator[int, None, None])
    talk(app, {"type": "x", "v": ["1", 2]})
    assert list(app.got[0]) == [1, 2]


@pytest.mark.parametrize(
    ("kind", "json"),
    [
        (int, 1), (dict[int, int], {"1": 2}), (bytes, "YWI="), (datetime.datetime, "2020-01-01T00:00:00Z"),
        (msgspec.Raw, [1]), (datetime.timedelta, "PT1H"), (float, 1), (set[int], [1]), (tuple[int, str], [1, "a"]),
    ],
    ids=repr,
)  # fmt: skip
def test_a_struct_is_the_same_on_both_paths(kind: Any, json: Any) -> None:
    """Also where its fields are written in JSON as something else: keys that are numbers, base64, raw JSON."""
    app = endpoint(msgspec.defstruct("Holder", [("it", kind)]))
    talk(app, {"type": "x", "v": {"it": json}}, {"type": "x", "v": {"it": json}, "n": "1"})
    fast, judged = app.got
    assert bytes(fast.it) == b"[1]" == bytes(judged.it).replace(b" ", b"") if kind is msgspec.Raw else fast == judged


# ---------------------------------------------------------------------- at import


class Untagged(Struct):
    a: int


class Unit(Struct):
    v: Point | Untagged


class Time(Struct):
    v: datetime.datetime | datetime.date


class Items(Struct):
    v: list[int] | set[int]


class Aliased(Struct):
    v: Positive


class Modelled(Struct):
    v: BaseModel | int


class Outer(Struct):
    inner: list[Unit]


class Calling(Struct):
    v: list[Callable[[], int]]


class Classy(Struct):
    v: dict[str, type[int]]


class Late(Struct):
    v: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Crate(Struct, Generic[T]):
    v: T | Untagged


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Calling, "a callable cannot come from JSON"),
        (Optional[Classy], "a class cannot come from JSON"),
        (Annotated[str, Meta(tz=True)], "str has no time zone"),
        (list[Annotated[int, Meta(pattern="a")]], "int has no pattern"),
        (Annotated[int, Meta(min_length=1)], "int has no length"),
        (Annotated[list[int], Meta(gt=1)], "list cannot be compared with a number"),
    ],
    ids=repr,
)
def test_what_no_value_can_be_is_a_definition_error(annotation: Any, reason: str) -> None:
    """Also within a Struct, and also where Meta asks for it."""
    with pytest.raises(DefinitionError, match=f"event 'x', parameter 'v': .*is not possible: {reason}"):
        endpoint(annotation)


class Listing(Struct):
    v: Iterable[int]


@pytest.mark.parametrize("n", [1, "1"])
def test_an_iterable_within_a_struct_has_been_read_too(n: Any) -> None:
    """Its errors are the Struct's."""
    app = endpoint(Listing)
    (answer,) = talk(app, {"type": "x", "v": {"v": [1]}, "n": n}, {"type": "x", "v": {"v": [1, "z"]}, "n": n}).answers
    assert app.got == [Listing([1])]
    assert "valid integer" in answer["errors"][0]["msg"]


@pytest.mark.parametrize(
    "annotation",
    [Unit, Time, Items, Aliased, Modelled, Outer, Late, Crate[Point], list[Unit], Optional[Unit], dict[str, Unit],
     TypeAliasType("A", list[Unit]), NewType("N", Unit), Annotated[Unit, "doc"], Union[Unit, int],
     Union[Point, Untagged], Annotated[Unit, BeforeValidator(lambda v: v)], tuple[Time, ...]],
    ids=repr,
)  # fmt: skip
def test_a_struct_that_msgspec_cannot_decode_is_a_definition_error(annotation: Any) -> None:
    """Each of its messages would fail, so its import does: with event, parameter and remedy."""
    with pytest.raises(DefinitionError, match=r"event 'x', parameter 'v': .*(msgspec cannot decode it|module level)"):
        endpoint(annotation)


@dataclasses.dataclass
class Unfinished:
    n: Nowhere  # type: ignore[name-defined]  # noqa: F821  # as is to be told


@pytest.mark.parametrize("annotation", [Unfinished, list[Unfinished], tuple[Point, Unfinished]], ids=repr)
def test_a_name_that_a_dataclass_cannot_resolve_is_told(annotation: Any) -> None:
    """With event and parameter, and what to do."""
    with pytest.raises(DefinitionError, match=r"event 'x', parameter 'v': .*'Nowhere' is not defined. Define the name"):
        endpoint(annotation)


def by_name(name: str) -> type[Exception]:
    return {"KeyError": KeyError}[name]


def once_more(value: Any, handler: Callable[[Any], Any]) -> Any:
    return value


@pytest.mark.parametrize(
    ("annotation", "value", "want"),
    [
        (ImportString[Callable[..., Any]], "math.cos", None),
        (Optional[ImportString[Callable[..., Any]]], "math.cos", None),
        (list[ImportString[type[Exception]]], ["builtins.KeyError"], [KeyError]),
        (Annotated[type[Exception], BeforeValidator(by_name)], "KeyError", KeyError),
        (Annotated[list[type[Exception]], BeforeValidator(lambda v: [by_name(v)])], "KeyError", [KeyError]),
        (Annotated[Optional[type[Exception]], BeforeValidator(by_name)], "KeyError", KeyError),
        (Annotated[Callable[[], int], PlainValidator(by_name)], "KeyError", KeyError),
        (Annotated[Callable[[], int], WrapValidator(once_more)], "KeyError", "KeyError"),
        (TypeAliasType("Error", Annotated[type[Exception], BeforeValidator(by_name)]), "KeyError", KeyError),
        (SkipValidation[Callable[..., Any]], 1, 1),
        (Union[int, type[Exception]], 1, 1),
        (Annotated[str, AfterValidator(len), Field(gt=2)], "abc", 3),
        (Annotated[list[int], AfterValidator(sum), Field(le=10)], [1, 2], 3),
        (Annotated[int, AfterValidator(str), Field(min_length=2)], 10, "10"),
        (Annotated[Annotated[str, AfterValidator(len)], Field(gt=2)], "abc", 3),
        (NewType("Size", Annotated[str, AfterValidator(len), Field(gt=2)]), "abc", 3),  # type: ignore[valid-newtype]
        (Annotated[str, BeforeValidator(str), AfterValidator(len), Field(gt=0)], 5, 1),
        (Annotated[Optional[str], AfterValidator(len), Field(gt=2)], "abc", 3),
        (collections.Counter[str], {"a": 1}, collections.Counter(a=1)),
    ],
    ids=repr,
)
def test_what_pydantic_takes_is_taken(annotation: Any, value: Any, want: Any) -> None:
    """What a validator makes of JSON is asked for what stands behind it, and nothing else."""
    expected = TypeAdapter(annotation).validate_python(value)
    app = endpoint(annotation)
    assert talk(app, {"type": "x", "v": value}).answers == []
    assert app.got == [expected]
    assert want is None or expected == want


def test_a_struct_behind_an_alias_beside_a_text_for_an_int() -> None:
    """The judge has the same value for it as the fast path."""

    class App(Endpoint):
        @event(thread=False)
        def on_x(self, points: Points, n: int) -> Any:
            return {"got": [points[0].x, n]}

    assert talk(App, {"type": "x", "points": [{"x": 1}], "n": "2"}).answers == [{"type": "x", "got": [1, 2]}]


@dataclasses.dataclass
class Packed(Generic[T]):
    item: T


@dataclasses.dataclass
class PackedPoint(Packed[Point]):
    size: int = 1


class Shelf(TypedDict, Generic[T]):
    item: T


class Shelves(Shelf[list[T]], Generic[T]): ...


@pytest.mark.parametrize("n", [1, "1"])
@pytest.mark.parametrize(
    ("annotation", "given", "value", "wrong", "loc"),
    [
        (PackedPoint, {"x": 1}, PackedPoint(Point(1)), {}, ["v", "item"]),
        (Shelves[Point], [{"x": 1}], {"item": [Point(1)]}, [{}], ["v", "item", 0]),
        (Shelves[Annotated[int, Meta(gt=0)]], [1], {"item": [1]}, [-1], ["v", "item", 0]),
    ],
)
def test_what_a_generic_base_is_given_is_validated(
    annotation: Any, given: Any, value: Any, wrong: Any, loc: list[Any], n: Any
) -> None:
    """A Struct, or what Meta demands, in the place of a base's type variable counts in the fields that it has."""
    app = endpoint(annotation)
    (answer,) = talk(app, *({"type": "x", "v": {"item": item}, "n": n} for item in (given, wrong))).answers
    assert app.got == [value]
    assert [error["loc"] for error in answer["errors"]] == [loc]
