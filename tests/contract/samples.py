"""Annotations with what an endpoint takes for them in canonical form, what it refuses, and what it sends."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import pathlib
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, Optional, TypeVar, Union

import annotated_types as at
import attrs
from msgspec import UNSET, Meta, Struct, UnsetType
from pydantic import (
    UUID4,
    AfterValidator,
    AliasPath,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    EmailStr,
    Field,
    Json,
    NaiveDatetime,
    PlainSerializer,
    PositiveInt,
    RootModel,
    SecretStr,
    StrictInt,
    StringConstraints,
    Tag,
    WrapValidator,
    conint,
    conlist,
    constr,
    field_serializer,
)
from typing_extensions import TypeAliasType, TypedDict

from tests.messages.fuzz.annotations import (
    TD,
    Alias,
    Aliased,
    Checked,
    Mixed,
    Number,
    Open,
    Pair,
    Point,
    Tree,
    Upper,
    Validated,
)

T = TypeVar("T")
BIG = 2**53 + 1
"""Not a number that JavaScript can hold."""


class Color(str, enum.Enum):  # noqa: UP042  # the form that most code has
    red = "red"
    blue = "blue"
    crimson = "red"  # an alias


class Plain(BaseModel):
    """A model of two fields."""

    x: int
    name: str = "n"


class OpenForInts(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int] = Field(init=False)
    name: str


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    x: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


Pet = Annotated[Union[Cat, Dog], Field(discriminator="kind")]


class Timed(BaseModel):
    model_config = ConfigDict(ser_json_timedelta="float")
    left: datetime.timedelta


class Secretive(BaseModel):
    name: str
    password: str = Field("p", exclude=True)


class Stamped(BaseModel):
    at: datetime.datetime

    @field_serializer("at")
    def as_seconds(self, value: datetime.datetime) -> float:
        return value.timestamp()


class Pathed(BaseModel):
    first: str = Field(validation_alias=AliasPath("names", 0))


class Box(BaseModel, Generic[T]):
    item: T


class Tags(RootModel[list[str]]):
    pass


class Defaults(BaseModel):
    far: float = float("inf")
    ref: dict[str, str] = {"$ref": "#/nowhere"}
    day: datetime.date = datetime.date(2026, 1, 2)
    color: Color = Color.red
    one: Plain = Plain(x=1)


UserId = NewType("UserId", int)


class Leaf(Struct):
    id: int
    label: str = "leaf"
    blob: bytes = b""


class Branch(Struct, forbid_unknown_fields=True, rename="camel"):
    leaves: list[Leaf]
    parent_branch: Branch | None = None
    when: Annotated[datetime.datetime, Meta(tz=True)] | None = None


class Omits(Struct, omit_defaults=True):
    a: int = 0
    b: int | UnsetType = UNSET


class Row(Struct, array_like=True):
    a: int
    b: str = "b"


class TaggedRow(Struct, array_like=True, tag="row"):
    a: int


class Nested(Struct):
    pair: Pair
    point: tuple[int, str]
    tags: set[str]
    anything: dict
    members: Annotated[list[int], Meta(max_length=2)]
    user: UserId
    checked: Checked
    td: TD
    kind: Literal["a", "b"] = "a"
    lacks: None = None
    times: list[datetime.time] = []


class Base64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    blob: bytes


class Circle(Struct, tag="circle"):
    r: Annotated[float, Meta(gt=0)]


class Square(Struct, tag="square"):
    side: int


class Page(Struct, Generic[T]):
    items: list[T]


class Holder(Struct):
    plain: Plain
    color: Color
    point: Point
    cost: decimal.Decimal
    left: datetime.timedelta
    path: pathlib.Path
    by_number: dict[int, Plain] = {}


@attrs.define
class Attrs:
    x: int
    y: Annotated[str, Meta(max_length=3)] = "y"


@dataclasses.dataclass
class Mixture:
    leaf: Leaf
    plain: Plain
    shapes: list[Circle | Square] = dataclasses.field(default_factory=list)


class Wrapped(TypedDict):
    leaf: NotRequired[Leaf]
    n: Annotated[int, Meta(ge=0)]


Maybe = TypeAliasType("Maybe", Union[T, None], type_params=(T,))
JsonLike = TypeAliasType("JsonLike", "Union[bool, int, str, list[JsonLike], dict[str, JsonLike], None]")  # type: ignore[misc]
Absolute = Annotated[int, AfterValidator(abs), Field(gt=0)]
ByShape = Annotated[
    Union[Annotated[Cat, Tag("c")], Annotated[Dog, Tag("d")]],
    Discriminator(lambda value: "c" if "x" in (value if isinstance(value, dict) else vars(value)) else "d"),
]

_DAY, _AWARE, _NAIVE = "2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05"
_UUID = "7d9d6f3e-7b1c-4b1e-9a4e-2b6c0a2f9f10"


@dataclasses.dataclass(eq=False)
class Case:
    """
    `accepted` are canonical: sent back they are the same, unless `sent` says otherwise. `refused` is refused by the
    endpoint and by the schema; `lax` by the endpoint alone. `written` is what a reply declares instead.
    """

    annotation: Any
    accepted: list[Any]
    refused: list[Any] = dataclasses.field(default_factory=list)
    sent: list[Any] | None = None
    lax: list[Any] = dataclasses.field(default_factory=list)
    written: Any = None

    def __repr__(self) -> str:
        return str(self.annotation).replace("tests.contract.samples.", "")


TABLE = [
    Case(int, [0, -3, 7], ["x", None, 1.5, []]),
    Case(float, [0.5, -2.25, 3], ["x", None, {}]),
    Case(bool, [True, False], [2, None, []]),
    Case(str, ["", "é€😀"], [1, None, [], True]),
    Case(None, [None], [0, "", False]),
    Case(bytes, ["", "text"], [1, None]),
    Case(Any, [None, 1, "a", [1], {"a": {}}]),
    Case(object, [None, 1, "a"]),
    Case(datetime.datetime, [_AWARE, _NAIVE, "2026-01-02T03:04:05.123456+02:00"], [None, []], lax=["x"]),
    Case(AwareDatetime, [_AWARE], [None], lax=[_NAIVE]),
    Case(NaiveDatetime, [_NAIVE], [None], lax=[_AWARE]),
    Case(datetime.date, [_DAY], [None], lax=["2026-13-01"]),
    Case(Annotated[datetime.date, Field(gt=datetime.date(2026, 1, 1))], [_DAY], [None], lax=["2025-01-01"]),
    Case(datetime.time, ["03:04:05", "03:04:05.000001"], [None, {}]),
    Case(datetime.timedelta, ["PT1H", "-P1DT2S", "PT0.5S"], [None, []], lax=["x"]),
    Case(uuid.UUID, [_UUID], [1, None]),
    Case(UUID4, [_UUID], [1, None]),
    Case(decimal.Decimal, ["1.5", "12345678901234567.89", "-0.01"], [None, []], lax=["x"]),
    Case(Annotated[decimal.Decimal, Field(gt=0, max_digits=3)], ["1.5"], [None], lax=["-1", "1.2345"]),
    Case(Color, ["red", "blue"], ["green", 1, None]),
    Case(Number, [1, 2], [3, "one", None]),
    Case(Mixed, [1, "b"], [2, "a", None]),
    Case(Literal["red", 1, None, True], ["red", 1, None, True], ["blue", 2]),
    Case(Literal[Color.red], ["red"], ["blue", None]),
    Case(Optional[int], [1, None], ["x", []]),
    Case(Union[int, str], [1, "a"], [None, []]),
    Case(Union[uuid.UUID, str], ["a", _UUID], [None, 1]),
    Case(Union[decimal.Decimal, float], ["1.5", 2.5], [None]),
    Case(Union[int, list[int]], [1, [1, 2]], ["x", [None]]),
    Case(Union[Cat, Dog], [{"kind": "cat", "x": 1}, {"kind": "dog", "name": "b"}], [{"kind": "cow"}, 1]),
    Case(Pet, [{"kind": "cat", "x": 1}, {"kind": "dog", "name": "b"}], [{"kind": "cow"}, {"x": 1}, {"kind": "cat"}]),
    Case(ByShape, [{"kind": "cat", "x": 1}, {"kind": "dog", "name": "b"}], [{}, 1]),
    Case(list, [[], [1, "a"]], [{}, "a"]),
    Case(list[int], [[], [1, 2]], [["x"], {}, None]),
    Case(tuple[int, ...], [[], [1, 2]], [["x"], None]),
    Case(tuple[int, str], [[1, "a"]], [[1], [1, "a", 2], ["a", 1]]),
    Case(tuple[()], [[]], [[1], None]),
    Case(set[int], [[], [1, 2]], [["x"], None]),
    Case(frozenset[str], [[], ["a"]], [[1], None]),
    Case(dict, [{}, {"a": 1}], [[], None]),
    Case(dict[str, int], [{}, {"a": 1}], [{"a": "x"}, []]),
    Case(dict[int, str], [{}, {"1": "a", "-2": "b"}], [{"x": "a"}, {"1": 1}]),
    Case(dict[Number, int], [{"1": 2}], [{"3": 1}, {"one": 1}]),
    Case(dict[Color, int], [{"red": 2}], [{"green": 1}]),
    Case(dict[datetime.date, int], [{_DAY: 1}], [{_DAY: "x"}], lax=[{"x": 1}]),
    Case(dict[Annotated[str, Field(pattern="^[a-z]+$")], int], [{"a": 1}], [{"A": 1}, {"a": "x"}]),
    Case(dict[Annotated[str, Field(min_length=2)], int], [{"ab": 1}], [{"a": 1}]),
    Case(Sequence[int], [[1]], [["x"]]),
    Case(Mapping[str, bool], [{"a": True}], [{"a": "x"}]),
    Case(OrderedDict[str, int], [{"a": 1}], [{"a": "x"}]),
    Case(deque[int], [[1]], [["x"]]),
    Case(Iterable[int], [[1]], [["x"]], written=list[int]),
    Case(Pair, [[1, "a"]], [["x", "a"], [1, 2], [1, "a", 2]]),
    Case(TD, [{"x": 1}, {"x": 1, "name": "a"}], [{}, {"x": 1, "name": 2}]),
    Case(Point, [{"x": 1, "y": 2.5}], [{"x": 1, "y": 0}, {}]),
    Case(Checked, [{"x": 1}], [{"x": 0}, {}]),
    Case(Plain, [{"x": 1, "name": "a"}], [{"x": "x"}, {}, []]),
    Case(Aliased, [{"n": 1.5}], [{"n": 1, "more": 2}, {}]),
    Case(Validated, [{"x": 1, "y": 2}], [{}, {"x": None}], sent=[{"x": 1, "y": 2, "double": 2}], lax=[{"x": -1}]),
    Case(Open, [{"x": None}, {"x": 1, "y": [2]}], [1]),
    Case(OpenForInts, [{"name": "a"}, {"name": "a", "y": 2}], [{"name": "a", "y": "x"}]),
    Case(Tree, [{"x": 1, "tags": [{"x": 2, "tags": []}]}], [{"x": 1, "tags": [{}]}, {"x": 1, "tags": [1]}]),
    Case(Timed, [{"left": 1.5}], [{}, {"left": None}]),
    Case(Secretive, [{"name": "a", "password": "b"}], [{"name": 1}], sent=[{"name": "a"}]),
    Case(Stamped, [{"at": "1970-01-01T00:00:01Z"}], [{}], sent=[{"at": 1.0}]),
    Case(Pathed, [{"names": ["a"]}], [{}, {"first": "a"}], sent=[{"first": "a"}]),
    Case(Box[int], [{"item": 1}], [{"item": "x"}]),
    Case(Box[Plain], [{"item": {"x": 1, "name": "a"}}], [{"item": {}}]),
    Case(Tags, [["a"]], [[1], {}]),
    Case(Defaults, [{"far": 1.0, "ref": {}, "day": _DAY, "color": "blue", "one": {"x": 1, "name": "a"}}], [{"one": 1}]),
    Case(list[Plain], [[{"x": 1, "name": "a"}]], [[{}]]),
    Case(dict[str, Plain], [{"a": {"x": 1, "name": "a"}}], [{"a": {}}]),
    Case(Optional[Plain], [None, {"x": 1, "name": "a"}], [1]),
    Case(Alias, [[1]], [["x"]]),
    Case(Maybe[int], [1, None], ["x"]),
    Case(JsonLike, [None, [{"a": [1, "b"]}]]),
    Case(UserId, [1], ["x"]),
    Case(Upper, ["A"], [1]),
    Case(Absolute, [3], ["x"], lax=[0]),
    Case(Annotated[int, AfterValidator(abs), Field(gt=0)], [-3], sent=[3]),
    Case(Annotated[str, AfterValidator(lambda s: s * 2), Field(min_length=2)], ["a"], [1], sent=["aa"], lax=[""]),
    Case(Annotated[str, Field(max_length=3), AfterValidator(str), Field(max_length=2)], ["a"], ["abcd"], lax=["abc"]),
    Case(Annotated[Optional[Annotated[int, AfterValidator(abs)]], Field(gt=0)], [-3], [], sent=[3]),
    Case(Annotated[int, Field(gt=0), AfterValidator(lambda n: -n)], [3], [-3], sent=[-3]),
    Case(Annotated[int, Field(gt=0)], [1], [0, -1]),
    Case(Annotated[int, Field(ge=1, lt=100)], [1, 99], [0, 100]),
    Case(Annotated[int, Field(le=2**63 - 1)], [BIG], ["x"]),
    Case(Annotated[int, Field(multiple_of=3)], [3, 0], [4]),
    Case(Annotated[float, Field(gt=0.5, le=100)], [0.75, 100.0], [0.5, 101]),
    Case(Annotated[float, Field(multiple_of=0.5)], [1.5], [1.25]),
    Case(Annotated[float, Field(multiple_of=0.1)], [0.5, 0.3], ["x"], lax=[0.25]),
    Case(Annotated[Union[int, float], Field(gt=0)], [1, 0.5], [0, -1.5]),
    Case(Annotated[str, Field(min_length=2, max_length=5)], ["ab", "abcde"], ["a", "abcdef"]),
    Case(Annotated[str, Field(pattern="^a+$")], ["a", "aa"], ["b", ""]),
    Case(Annotated[str, Field(pattern=r"^\w+$")], ["é"], [1], lax=["-"]),
    Case(Annotated[str, Field(pattern=r"\A(?P<y>\d{4})\-\d\d\z")], ["2026-01"], ["2026", "x2026-01"]),
    Case(Annotated[str, Field(pattern=r"^.+@.+$")], ["a@b", "a\r@b"], ["a"]),
    Case(Annotated[Union[str, int], Field(pattern="^a+$")], ["a"], ["b"]),
    Case(Annotated[Union[list[int], str], Field(min_length=1)], [[1], "a"], [[], ""]),
    Case(Annotated[bytes, Field(min_length=2, max_length=2)], ["ab", "é"], ["abc", ""]),
    Case(Annotated[list[int], Field(min_length=1, max_length=3)], [[1]], [[], [1, 2, 3, 4]]),
    Case(Annotated[dict[str, int], Field(max_length=2)], [{"a": 1}], [{"a": 1, "b": 2, "c": 3}]),
    Case(Annotated[set[int], Field(min_length=2)], [[1, 2]], [[1]]),
    Case(Annotated[deque[int], Field(min_length=1)], [[1]], [[]]),
    Case(Annotated[Optional[int], Field(gt=0)], [1, None], [0]),
    Case(Annotated[int, at.Interval(ge=0, le=10)], [0, 10], [11]),
    Case(Annotated[str, at.Len(1, 3)], ["a"], ["", "abcd"]),
    Case(Annotated[int, at.Predicate(lambda n: n % 2 == 0)], [2], ["x"], lax=[1]),
    Case(Annotated[int, Field(title="t", description="d", examples=[1])], [1], ["x"]),
    Case(Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, max_length=3)], ["a"], ["abcd"]),
    Case(Annotated[int, BeforeValidator(abs), Field(gt=0)], [3], ["x"]),
    Case(Annotated[int, PlainSerializer(str, return_type=str)], [3], ["x"], sent=["3"]),
    Case(PositiveInt, [1], [0]),
    Case(StrictInt, [1], ["1", True]),
    Case(conint(gt=1, lt=50), [2], [1]),
    Case(constr(min_length=1), ["a"], [""]),
    Case(conlist(int, min_length=1), [[1]], [[]]),
    Case(Json[list[int]], ["[1]"], [1, None], sent=[[1]]),
    Case(EmailStr, ["a@example.com"], [1], lax=["a"]),
    Case(AnyUrl, ["https://example.com/"], [1], lax=["a"]),
    Case(ipaddress.IPv4Address, ["192.0.2.1"], [None], lax=["a"]),
    Case(SecretStr, ["a"], [1], sent=["**********"]),
    Case(pathlib.PurePosixPath, ["/a/b"], [1]),
    Case(Leaf, [{"id": 1, "label": "a", "blob": "YQ=="}], [{}, {"id": "x"}]),
    Case(Branch, [{"leaves": [], "parentBranch": None, "when": _AWARE}], [{"leaves": [], "more": 1}, {"leaves": [{}]}]),
    Case(Omits, [{}, {"a": 1, "b": 2}], [{"b": "x"}]),
    Case(Row, [[1, "a"]], [["x"], {}, []]),
    Case(Union[Circle, Square], [{"type": "circle", "r": 1.5}, {"type": "square", "side": 1}], [{"type": "cube"}, {}]),
    Case(Optional[Union[Circle, Square]], [None, {"type": "square", "side": 1}], [{"type": "circle", "r": 0}]),
    Case(Page[int], [{"items": [1]}], [{"items": ["x"]}]),
    Case(Page[Plain], [{"items": [{"x": 1, "name": "a"}]}], [{"items": [{}]}]),
    Case(
        Holder,
        [{
            "plain": {"x": 1, "name": "a"}, "color": "red", "point": {"x": 1, "y": 2.5}, "cost": "1.50",
            "left": "PT1S", "path": "/a", "by_number": {"1": {"x": 1, "name": "a"}},
        }],
        [{}],
    ),
    Case(TaggedRow, [["row", 1]], [["row"], ["other", 1], {}]),
    Case(
        Nested,
        [{
            "pair": [1, "a"], "point": [1, "a"], "tags": ["a"], "anything": {"a": 1}, "members": [1], "user": 1,
            "checked": {"x": 1}, "td": {"x": 1}, "kind": "b", "lacks": None, "times": ["03:04:05"],
        }],
        [{}],
    ),
    Case(Base64, [{"blob": "YQ=="}], [{"blob": 1}]),
    Case(Annotated[int, WrapValidator(lambda value, handler: handler(value)), Field(gt=0)], [1], ["x"], lax=[0]),
    Case(Annotated[int, Field(gt=0), WrapValidator(lambda value, handler: handler(value))], [1], ["x"], lax=[0]),
    Case(Annotated[Union[int, str], BeforeValidator(lambda value: value)], [1, "a"], [None]),
    Case(Attrs, [{"x": 1, "y": "abc"}], [{"x": 1, "y": "abcd"}, {}]),
    Case(Mixture, [{"leaf": {"id": 1, "label": "", "blob": ""}, "plain": {"x": 1, "name": ""}, "shapes": []}], [{}]),
    Case(Wrapped, [{"n": 1}, {"n": 1, "leaf": {"id": 1, "label": "", "blob": ""}}], [{"n": -1}, {"n": 1, "leaf": 2}]),
    Case(list[Leaf], [[{"id": 1, "label": "", "blob": ""}]], [[{}]]),
    Case(Annotated[int, Meta(gt=0, description="d")], [1], [0]),
    Case(Annotated[Alias, at.Len(1)], [[1]], [["x"]], lax=[[]]),
    Case(Annotated[decimal.Decimal, AfterValidator(lambda d: d), Field(gt=0)], ["1.5"], [None], lax=["-1"]),
    Case(Annotated[Union[Optional[Plain], str], Field(description="d")], [None, "a", {"x": 1, "name": "a"}], [[]]),
    Case(dict[bool, int], [{"true": 1}], [{"true": "x"}]),
    Case(dict[uuid.UUID, int], [{_UUID: 1}], [{_UUID: "x"}]),
    Case(Annotated[str, Meta(pattern="^a+$")], ["a"], ["b"]),
    Case(Annotated[datetime.datetime, Meta(tz=True)], [_AWARE], [None], lax=[_NAIVE]),
]  # fmt: skip
