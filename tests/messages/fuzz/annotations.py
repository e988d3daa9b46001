"""The annotations that the random tests draw from, each in the form a user would write."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import pathlib
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, Union

import annotated_types as at
from pydantic import (
    UUID4,
    AfterValidator,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    EmailStr,
    Field,
    Json,
    PositiveInt,
    SecretStr,
    StrictInt,
    StringConstraints,
    computed_field,
    conint,
    conlist,
    constr,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypeAliasType, TypedDict


class Color(str, enum.Enum):  # noqa: UP042  # the form that most code has
    red = "red"
    blue = "blue"


class Number(enum.IntEnum):
    one = 1
    two = 2


class Mixed(enum.Enum):
    a = 1
    b = "b"


class Plain(BaseModel):
    x: int
    name: str = "n"


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    value: float = Field(alias="n")


class Validated(BaseModel):
    x: int
    y: int = 2

    @field_validator("x")
    @classmethod
    def positive(cls, value: int) -> int:
        if value < 0:
            raise ValueError("negative")
        return value

    @model_validator(mode="after")
    def ordered(self) -> Validated:
        assert self.x <= 100, "too much"
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.x * 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: Any = None


class Cat(BaseModel):
    kind: Literal["cat"]
    x: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Tree(BaseModel):
    x: int
    tags: list[Tree] = []


@dataclasses.dataclass
class Point:
    x: int
    y: Annotated[float, Field(gt=0)] = 1.0


@pydantic_dataclass
class Checked:
    x: PositiveInt


class TD(TypedDict):
    x: int
    name: NotRequired[str]


class Pair(NamedTuple):
    x: int
    y: str = "y"


Alias = TypeAliasType("Alias", list[int])
Upper = Annotated[str, AfterValidator(str.upper)]

ANNOTATIONS: list[Any] = [
    int, float, bool, str, bytes, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, uuid.UUID,
    decimal.Decimal, None, Any, object, Color, Number, Mixed, Literal["red", 1, None, True], Literal[Color.red],
    Optional[int], Optional[str], Union[int, str], Union[int, float], Union[bool, int, float, str, None],
    Union[datetime.datetime, str], Union[uuid.UUID, str], Union[decimal.Decimal, float], Union[int, list[int]],
    Union[Plain, int], Union[Cat, Dog], Annotated[Union[Cat, Dog], Field(discriminator="kind")],
    list, list[int], list[Optional[float]], list[list[str]], tuple, tuple[int, ...], tuple[int, str], set[int],
    frozenset[str], set[Union[int, float]], dict, dict[str, int], dict[str, list[float]], dict[int, str],
    Sequence[int], Mapping[str, bool], deque[int], Iterable[int], Pair, TD, Point, Checked, Plain, Aliased, Validated,
    Open, Tree, list[Plain], dict[str, Plain], Optional[Plain], Alias, Upper, list[Upper],
    Annotated[int, Field(gt=0)], Annotated[int, Field(ge=1, lt=100)], Annotated[int, Field(multiple_of=3)],
    Annotated[float, Field(gt=0.5, le=100)], Annotated[float, Field(multiple_of=0.5)], Annotated[float, Field(gt=5)],
    Annotated[str, Field(min_length=2, max_length=5)], Annotated[str, Field(pattern="^a+$")],
    Annotated[list[int], Field(min_length=1, max_length=3)], Annotated[dict[str, int], Field(max_length=2)],
    Annotated[set[int], Field(min_length=2)], Annotated[tuple[int, ...], Field(max_length=2)],
    Annotated[Optional[int], Field(gt=0)], Annotated[int, at.Interval(ge=0, le=10)], Annotated[str, at.Len(1, 3)],
    Annotated[int, at.Predicate(lambda n: n % 2 == 0)], Annotated[int, "documentation"], Annotated[int, Field(strict=True)],
    Annotated[int, Field(title="t", description="d", examples=[1])], Annotated[decimal.Decimal, Field(max_digits=3)],
    Annotated[float, Field(allow_inf_nan=False)], Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True)],
    Annotated[int, BeforeValidator(lambda v: len(v) if isinstance(v, str) else v)],
    PositiveInt, StrictInt, conint(gt=1, lt=50), constr(min_length=1), conlist(int, min_length=1), UUID4, Json[list[int]],
    EmailStr, AnyUrl, ipaddress.IPv4Address, SecretStr, pathlib.Path, AwareDatetime,
]  # fmt: skip
