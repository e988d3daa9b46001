"""Models of scalars are written without pydantic, and nobody can tell: bytes, warnings and errors are pydantic's."""

from __future__ import annotations

import enum
import json
import warnings
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    TypeAdapter,
    computed_field,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import TzInfo

from socketsundso.messages import ResponseError, ResponseOptions, encoder_for, packed_encoder, replies
from socketsundso.messages.codecs import MSGPACK
from socketsundso.messages.framing import CANONICAL
from socketsundso.messages.packed_framing import packed
from socketsundso.messages.plain_models import Encode, plain_encode
from socketsundso.messages.values import Encoder

T = TypeVar("T")


class Plain(BaseModel):
    text: str
    number: int = 0
    share: float | None = None
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    rest: str | None = Field(None, serialization_alias="rest-of-it", max_length=5)

    @field_validator("text")
    @classmethod
    def shorten(cls, text: str) -> str:
        return text[:1000]


class Typed(BaseModel):
    n: int
    type: Literal["posted", "said"] = "posted"


class Renamed(BaseModel):
    kind: str = Field("renamed", serialization_alias="type")


class Box(BaseModel, Generic[T]):
    content: T


class Empty(BaseModel):
    pass


class More(Plain):
    more: str = "not declared"


class Circle(BaseModel):
    shape: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(BaseModel):
    shape: Literal["square"] = "square"
    side: int = 1


Shape = Annotated[Circle | Square, Field(discriminator="shape")]
BOXES: list[Any] = [
    Box[list[int]], Box[list[str | None]], Box[list[float]], Box[dict[str, bool]], Box[dict[str, float | None]],
    Box[list[int] | None], Box[Empty], Box[Plain], Box[Plain | None], Box[list[Plain]], Box[dict[str, Plain]],
    Box[list[Plain | None] | None], Box[Box[Box[int]]], Box[dict[Literal["a", "b"], int]], Box[dict[str, list[Plain]]],
]  # fmt: skip


class Pair(BaseModel):
    """Whose core schema refers to that of what is there twice."""

    left: Plain
    right: Plain = Plain(text="right")
    both: list[Plain] = []


class Tree(BaseModel):
    text: str
    branches: list[Tree] = []


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.Enum):
    LOW = "low"
    HIGH = 2


class Labelled(str, enum.Enum):  # noqa: UP042  # its members are made in another way
    """Whose members are one text, and have another one as their value."""

    A = ("label", "value")

    def __new__(cls, label: str, value: str) -> Labelled:
        member = str.__new__(cls, label)
        member._value_ = value
        return member


class Loose(enum.Enum):
    KNOWN = "known"

    @classmethod
    def _missing_(cls, value: object) -> Loose:
        member = object.__new__(cls)
        member._value_ = value
        return member


class Rights(enum.Flag):
    READ = 1


class Precise(enum.Enum):
    HALF = 0.5


class Timed(BaseModel):
    at: datetime
    day: date | None = None
    id: UUID = UUID(int=5)
    level: Level = Level.LOW
    label: Labelled | None = Labelled.A


class Seconds(BaseModel, ser_json_temporal="seconds"):
    at: datetime


class Wide(BaseModel):
    rows: list[Box[int]]
    names: dict[str, str]
    type: str = "wide"


UNIONS = [Plain | Typed, Plain | More, Shape, Shape | None, Plain | None | Typed]


def encode(model: Any, value: Any, **options: Any) -> bytes:
    """The reply to "event"."""
    return encoder_for("event", model, ResponseOptions(**options)).encode(value)


def by_pydantic(model: Any, value: Any, **options: Any) -> dict[str, Any]:
    """The reply to "event" as pydantic writes it, read again."""
    adapter: TypeAdapter[Any] = TypeAdapter(model)
    body = json.loads(adapter.dump_json(adapter.validate_python(value, from_attributes=True), by_alias=True, **options))
    return body if "type" in body else {"type": "event", **body}


def is_plain(model: Any) -> bool:
    """Are the instances of this model written without pydantic?"""
    careful = Encode(bytes, lambda value, ref: bytes(value))
    return plain_encode(TypeAdapter(model).core_schema, Encoder("event").typing, True, careful) is not None


@pytest.mark.parametrize(
    "model",
    [
        Plain,
        Typed,
        Renamed,
        Empty,
        Box[int],
        Box[str | None],
        Plain | None,
        *UNIONS,
        *BOXES,
        Pair,
        Wide,
        Timed,
        Box[Timed],
        Box[Colour],
    ],
)
def test_models_of_scalars_are_plain(model: Any) -> None:
    assert is_plain(model)


class Computed(BaseModel):
    x: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.x


class Serialized(BaseModel):
    x: int

    @model_serializer
    def serialize(self) -> dict[str, int]:
        return {"y": self.x}


class Checked(BaseModel):
    x: int

    @model_validator(mode="after")
    def check(self) -> Checked:
        assert self.x
        return self


class Extra(BaseModel, extra="allow"):
    x: int


class Revalidated(BaseModel, revalidate_instances="always"):
    x: int


class Infinite(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    x: float


class Numbered(BaseModel):
    type: int


class Nullable(BaseModel):
    type: str | None = None


class Twice(BaseModel):
    a: int = Field(1, serialization_alias="x")
    x: int = 2


class Left(BaseModel):
    x: int
    secret: str = Field("s", exclude=True)


class LeftIf(BaseModel):
    x: int = Field(1, exclude_if=lambda x: x == 1)


class Shown(BaseModel):
    x: Annotated[int, PlainSerializer(str)]


@pytest.mark.parametrize(
    "model",
    [
        Computed, Serialized, Checked, Extra, Revalidated, Infinite, Numbered, Nullable, Twice, Left, LeftIf, Shown,
        Box[Loose], Box[Rights], Box[Precise], Seconds, Box[list[UUID]], Box[Any], Box[bytes], Box[int | str],
        Box[Literal[1, "a"]], Box[list[Any]], Box[list[bytes]], Box[dict[int, int]], Box[set[int]], Box[Computed],
        Box[tuple[int, ...]], Box[list[Extra]], Box[Revalidated], Box[dict[str, Infinite]], Tree, Box[list[list[int]]],
        Box[Annotated[list[int], PlainSerializer(str)]],
        RootModel[int], Computed | Serialized, Annotated[Plain | Typed, PlainSerializer(repr)],
    ],
)  # fmt: skip
def test_others_are_not(model: Any) -> None:
    """Each of them is written, or validated once more, in a way of its own."""
    assert not is_plain(model)


scalars: dict[type, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers() | st.sampled_from([2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1]),
    float: st.floats(),
    bool: st.booleans(),
}


@given(
    st.builds(
        Plain,
        text=scalars[str],
        number=scalars[int],
        share=st.none() | scalars[float],
        flag=scalars[bool],
        kind=st.sampled_from(["a", "b"]),
        rest=st.none() | st.text(max_size=5),
    )
)
def test_a_valid_instance_is_written_as_pydantic_does(value: Plain) -> None:
    """The same keys in the same order, the same values; an exponent may be spelt in another way: 1e16 or 1e+16."""
    expected = json.loads(TypeAdapter(Plain).dump_json(value, by_alias=True), object_pairs_hook=list)
    assert json.loads(encode(Plain, value), object_pairs_hook=list) == [("type", "event"), *map(tuple, expected)]


anything = st.none() | st.one_of(*scalars.values())
valid = {"text": "a", "number": 0, "share": None, "flag": False, "kind": "a", "rest": None}


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(valid, anything))
    | st.builds(lambda name, value: {**valid, name: value}, st.sampled_from(list(valid)), anything)
)
def test_an_instance_that_was_not_validated_is_written_as_pydantic_would(fields: dict[str, Any]) -> None:
    """Fields that are missing or of another type: the same warning, the same bytes, or an error."""
    value = Plain.model_construct(**fields)

    def outcome(write: Callable[[], bytes]) -> tuple[Any, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                written: Any = json.loads(write(), parse_constant=str)
            except Exception as exc:
                written = type(exc).__name__ if isinstance(exc, ResponseError) else "ResponseError"
        return written, [str(warning.message) for warning in caught]

    theirs, warned = outcome(lambda: TypeAdapter(Plain).dump_json(value, by_alias=True))
    theirs = {"type": "event", **theirs} if isinstance(theirs, dict) else theirs
    assert outcome(lambda: encode(Plain, value)) == (theirs, warned)


class Deep(BaseModel):
    """With something of each kind within."""

    plain: Plain
    maybe: Typed | None = None
    numbers: list[int] = []
    shares: list[float] = []
    texts: dict[str, str | None] = {}
    plains: list[Plain] = []
    boxes: dict[str, Box[float]] | None = None


class Nowhere(tzinfo):
    def utcoffset(self, moment: Any) -> timedelta:
        raise ValueError("no such place")


zones = st.sampled_from([None, UTC, TzInfo(0), TzInfo(-61), ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=5.5))])
zones |= st.just(Nowhere())
zones |= st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))  # of seconds and their fractions
timed = {
    "at": st.datetimes() | st.builds(datetime.replace, st.datetimes(), tzinfo=zones),
    "day": st.none() | st.dates(),
    "id": st.uuids(),
    "level": st.sampled_from(Level),
    "label": st.none() | st.just(Labelled.A),
}
elsewhere = anything | st.one_of(*timed.values()) | st.sampled_from([b"bytes", "2020-01-01", Colour.RED, Loose.KNOWN])


@given(
    st.fixed_dictionaries(timed)
    | st.builds(
        lambda all_, name, one: {**all_, name: one}, st.fixed_dictionaries(timed), st.sampled_from([*timed]), elsewhere
    )
)
def test_times_and_enums_are_written_as_the_careful_way_writes_them(fields: dict[str, Any]) -> None:
    """Whatever stands there."""
    assert_written_alike(Timed.model_construct(**fields), *TIMED)


DEFAULTS = dict(Deep(plain=Plain(text="a")))
short = st.text(max_size=3)
plains = st.builds(Plain, text=short, share=st.none() | st.floats())
floats = st.builds(Box[float], content=scalars[float])
within = {
    "plain": plains,
    "maybe": st.none() | st.builds(Typed, n=scalars[int]),
    "numbers": st.lists(scalars[int], max_size=3),
    "shares": st.lists(scalars[float], max_size=3),
    "texts": st.dictionaries(short, st.none() | short, max_size=3),
    "plains": st.lists(plains, max_size=3),
    "boxes": st.none() | st.dictionaries(short, floats, max_size=2),
}
odd = st.sampled_from(
    [
        More(text="a subclass", more="secret"), {"text": "a dict", "more": "secret"}, Plain.model_construct(text=5),
        Plain.model_construct(), Typed(n=1), (1, 2), {1: "a"}, {"a": [1]}, b"bytes", Colour.RED, 2**70, "\ud800",
        Box[int](content=1), Extra.model_validate({"x": 1, "more": "secret"}),
    ]
)  # fmt: skip
misplaced = anything | odd | st.lists(odd | anything, max_size=2) | st.dictionaries(short, odd, max_size=2)
whole_ones = st.fixed_dictionaries(within)
instances = [
    whole_ones,
    st.builds(
        lambda fields, name, given: {**fields, name: given}, whole_ones, st.sampled_from(list(within)), misplaced
    ),
    st.fixed_dictionaries({}, optional=within),
    st.fixed_dictionaries({}, optional=dict.fromkeys(within, misplaced)),
]


@given(st.one_of(instances))
@example({**DEFAULTS, "texts": {1: "a"}})
@example({**DEFAULTS, "plains": [Plain.model_construct(text=5)]})
@example({**DEFAULTS, "plains": (Plain(text="in a tuple"),)})
@example({**DEFAULTS, "shares": [1.0, float("inf")]})
def test_what_is_within_is_written_as_the_careful_way_writes_it(fields: dict[str, Any]) -> None:
    """Whatever stands there: the same JSON and the same MessagePack, the same warnings, or the same refusal."""
    assert_written_alike(Deep.model_construct(**fields), *DEEP)


def assert_written_alike(value: Any, encoder: Any, careful: Any, packed: Any, carefully_packed: Any) -> None:
    def outcome(write: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                written = repr(read(write(value)))
            except ResponseError as exc:
                written = repr(exc.errors)
        return written, [str(warning.message) for warning in caught]

    read = msgspec.msgpack.decode
    assert outcome(encoder.encode, json.loads) == outcome(careful.encode, json.loads)
    assert outcome(packed.encode, read) == outcome(carefully_packed.encode, read)


def carefully(model: Any) -> Any:
    """The encoder that nothing is plain to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replies, "plain_encode", lambda *_: None)
        encoder: Any = encoder_for("event", model, ResponseOptions())
    encoder.plain = None
    return encoder


def encoders(model: Any) -> list[Any]:
    """The encoder and the careful one, and both in MessagePack."""
    pair = [encoder_for("event", model, ResponseOptions()), carefully(model)]
    return [*pair, *(packed_encoder(each, packed(CANONICAL, MSGPACK)) for each in pair)]


DEEP, TIMED = encoders(Deep), encoders(Timed)


def without(value: Plain, name: str) -> Plain:
    delattr(value, name)
    return value


def with_attribute(value: Any, name: str, given: Any) -> Any:
    value.__dict__[name] = given
    return value


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (Plain, More(text="a subclass")),
        (Plain, {"text": "a dict", "number": "7"}),
        (Plain, without(Plain(text="a"), "number")),
        (Plain, with_attribute(Plain(text="a"), "cached", "property")),
        (Plain, Plain(text="a", number=10**30)),
        (Plain | None, Plain(text="a")),
        (Typed, Typed(n=1)),
        (Typed, Typed(n=1, type="said")),
        (Typed, {"n": 1, "type": "said"}),
        (Renamed, Renamed()),
        (Renamed, Renamed(kind="own")),
        (Empty, Empty()),
        (Empty, {}),
        (Box[float], Box[float](content=float("nan"))),
        (Box[float], Box[float](content=-0.0)),
        (Plain | Typed, Typed(n=1)),
        (Plain | Typed, {"n": "1"}),
        (Plain | Typed, More(text="a subclass")),
        (Plain | More, More(text="a member", more="is declared")),
        (Plain | Computed, Computed(x=2)),
        (Plain | Annotated[Circle | Square, Field(discriminator="shape")], Square()),
        (Shape, Square(side=2)),
        (Shape, with_attribute(Square(), "shape", "circle")),
        (Shape, {"shape": "circle"}),
        (Shape | None, Circle()),
    ],
)
def test_what_is_written(model: Any, value: Any) -> None:
    assert json.loads(encode(model, value)) == by_pydantic(model, value)


def test_a_text_that_is_no_unicode_is_refused() -> None:
    """A lone surrogate."""
    with pytest.raises(ResponseError):
        encode(Box[str], Box[str](content="\ud800"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"by_alias": False}, {"number": 0, "share": None, "flag": False, "kind": "a", "rest": "r"}),
        ({"exclude_none": True}, {"number": 0, "flag": False, "kind": "a", "rest-of-it": "r"}),
        ({"exclude_unset": True}, {"rest-of-it": "r"}),
        ({"include": {"text"}}, {}),
    ],
)
def test_response_options_are_kept(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json.loads(encode(Plain, Plain(text="a", rest="r"), **options)) == {"type": "event", "text": "a", **expected}


def test_a_model_with_many_fields_is_plain_as_well() -> None:
    fields: dict[str, Any] = {f"field_{n}": (int, n) for n in range(300)}
    model = create_model("Many", **fields)
    assert is_plain(model)
    assert json.loads(encode(model, model())) == by_pydantic(model, model())
