"""Models that are made of what msgspec has decoded, without a second look at the JSON; nobody can tell."""

from __future__ import annotations

import datetime
import enum
import uuid
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    PrivateAttr,
    computed_field,
    field_validator,
    model_validator,
)

from socketsundso import Endpoint, event
from socketsundso.messages.built_models import built
from tests.harness import talk

T = TypeVar("T")


class Colour(enum.StrEnum):
    RED = "red"


class Plain(BaseModel):
    type: Literal["x"]
    text: str
    number: int = 0
    share: float | None = None


class Defaults(BaseModel):
    type: Literal["x"] = "x"
    names: list[str] = []
    more: dict[str, int] = Field(default_factory=dict)
    flag: bool = False


class Constrained(BaseModel):
    model_config = ConfigDict(extra="forbid", title="a title", frozen=True)
    type: Literal["x", "y"]
    text: Annotated[str, Field(max_length=3, description="Short.")]
    number: int = Field(1, gt=0, alias="n")


class Kinds(BaseModel):
    type: Literal["x"]
    when: datetime.date
    id: uuid.UUID
    colour: Colour
    pair: tuple[int, str]
    either: int | str | None
    anything: Any = None


class Box(BaseModel, Generic[T]):
    type: Literal["x"]
    content: T


class Computed(BaseModel):
    type: Literal["x"]
    n: int = 1

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.n


@pytest.mark.parametrize(
    ("model", "frames"),
    [
        (Plain, ['"text":"a"', '"text":"a","number":2,"share":null', '"text":"a","number":"2"', '"text":1', ""]),
        (Defaults, ["", '"names":["a"],"more":{"b":1},"flag":true', '"names":"a"', '"x":1']),
        (Constrained, ['"text":"abc","n":2', '"text":"abcd"', '"text":"a","n":0', '"text":"a","x":1', '"text":"a"']),
        (
            Kinds,
            [
                '"when":"2020-01-01","id":"12345678-1234-5678-1234-567812345678","colour":"red","pair":[1,"a"],"either":1',
                '"when":1,"id":"1","colour":"blue","pair":[1],"either":[]',
            ],
        ),
        (Box[list[int]], ['"content":[1,2]', '"content":["1"]', '"content":1']),
        (Computed, ["", '"n":2']),
    ],
)
def test_what_is_made_is_what_pydantic_makes(model: Any, frames: list[str]) -> None:
    """Values, classes, which fields were given, all that an instance holds; and the errors."""
    assert built(model, "x", "type", "ref") is not None
    got: list[Any] = []

    async def handle(self: Any, msg: Any) -> None:
        got.append(msg)

    handle.__annotations__["msg"] = model
    app = type("App", (Endpoint,), {"handle": event("x")(handle)})
    for frame in frames:
        got.clear()
        text = f'{{"type":"x"{"," if frame else ""}{frame}}}'
        answers = talk(app, text).answers
        try:
            want = model.model_validate_json(text)
        except ValueError as exc:
            assert [each["loc"] for each in answers[0]["errors"]] == [list(each["loc"]) for each in exc.errors()]  # type: ignore[attr-defined]  # noqa: PT017
        else:
            (made,) = got
            assert (type(made), made.__getstate__(), list(vars(made))) == (
                type(want),
                want.__getstate__(),
                list(vars(want)),
            )


def state(value: BaseModel) -> Any:
    """All that it is and holds, in its order."""
    return type(value), value.__getstate__(), list(vars(value))


def test_defaults_are_fresh() -> None:
    """A list that one message's handler appends to is not the next one's."""
    got: list[Any] = []

    class App(Endpoint):
        @event
        async def handle(self, msg: Defaults) -> None:
            got.append(list(msg.names))
            msg.names.append("a")

    talk(App, {"type": "x"}, {"type": "x"})
    assert got == [[], []]


class Checked(BaseModel):
    type: Literal["x"]
    n: int

    @field_validator("n")
    @classmethod
    def check(cls, n: int) -> int:
        return n


class CheckedWhole(BaseModel):
    type: Literal["x"]

    @model_validator(mode="after")
    def check(self) -> CheckedWhole:
        return self


class Marked(BaseModel):
    type: Literal["x"]
    n: Annotated[int, BeforeValidator(int)]


class Private(BaseModel):
    type: Literal["x"]
    _n: int = PrivateAttr(1)


class Initialised(BaseModel):
    type: Literal["x"]

    def __init__(self, **data: Any) -> None:
        super().__init__(**data)


class New(BaseModel):
    type: Literal["x"]

    def __new__(cls, *args: Any, **data: Any) -> Any:
        return super().__new__(cls)


class Nested(BaseModel):
    type: Literal["x"]
    plain: Plain


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    type: Literal["x"]


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)
    type: Literal["x"]
    text: str


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    type: Literal["x"]


class Chosen(BaseModel):
    type: Literal["x"]
    n: int = Field(1, validation_alias=AliasChoices("n", "m"))


class Made(BaseModel):
    type: Literal["x"]
    n: int = Field(default_factory=lambda: 1)


class Shared(BaseModel):
    type: Literal["x"]
    names: list[str] = ["a"]


class Numbered(BaseModel):
    type: Literal["x"]
    ref: int | None = None


class Named(BaseModel):
    type: Literal[Colour.RED]


class Mail(BaseModel):
    type: Literal["x"]
    to: EmailStr


class RefStruct(msgspec.Struct, tag="x"):
    ref: int


class OwnTypeStruct(msgspec.Struct):
    type: Literal["x"]


class CheckedStruct(msgspec.Struct, tag="x"):
    def __post_init__(self) -> None: ...


@pytest.mark.parametrize(
    "model",
    [
        Checked, CheckedWhole, Marked, Private, Initialised, New, Nested, Strict, Stripped, Open, Chosen, Made, Shared,
        Numbered, Named, Mail, RefStruct, OwnTypeStruct, CheckedStruct, dict,
    ],
)  # fmt: skip
def test_the_rest_is_read_by_the_model_itself(model: Any) -> None:
    """Code of the application's, a config that changes values, or a field that is the envelope's, too."""
    assert built(model, "x", "type", "ref") is None
