"""Pushes: the `type` of what answers nothing, what is no push, and how a `ref` is appended."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field

from socketsundso.messages import ResponseError, append_ref, encode_push


class Color(enum.Enum):
    RED = "red"


class Typed(BaseModel):
    type: str = "own"
    x: int = 1


class Aliased(BaseModel):
    kind: str = Field("aliased", serialization_alias="type")
    x: int = 1


class Tagged(msgspec.Struct, tag="tagged"):
    x: int = 1


@dataclasses.dataclass
class SecretPoint:
    x: int
    y: int = 0
    secret: str = ""


class UserJoined(BaseModel):
    name: str


class HTTPStatus2(msgspec.Struct):
    code: int = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UserJoined(name="a"), {"type": "user_joined", "name": "a"}),
        (HTTPStatus2(), {"type": "http_status2", "code": 1}),
        (Tagged(), {"type": "tagged", "x": 1}),
        (Typed(), {"type": "own", "x": 1}),
        (Aliased(), {"type": "aliased", "x": 1}),
        (SecretPoint(1, 2, "s"), {"type": "secret_point", "x": 1, "y": 2, "secret": "s"}),
        ({"type": "news", "n": 1}, {"type": "news", "n": 1}),
        ({"type": Color.RED}, {"type": "red"}),
    ],
)
def test_pushes(value: Any, expected: Any) -> None:
    """A push has its own `type`, its tag or default, else its class's name in snake_case."""
    assert json.loads(encode_push(value)) == expected


@pytest.mark.parametrize("value", [{}, {"n": 1}, {"type": None}, {"type": 5}])
def test_pushed_dicts_need_a_type(value: Any) -> None:
    """A dict without a `type` of its own cannot be pushed, and the text says what is missing."""
    with pytest.raises(TypeError, match="type"):
        encode_push(value)


@pytest.mark.parametrize("value", [[1], 7, object(), {"type": "x", "ref": 1}])
def test_refused_pushes(value: Any) -> None:
    """What is no object, or brings the ref key, is no push."""
    with pytest.raises(ResponseError):
        encode_push(value)


@pytest.mark.parametrize("ref", [7, "a", 'q"ä'])
def test_append_ref(ref: Any) -> None:
    """The ref is appended as JSON."""
    assert json.loads(append_ref(b'{"type":"x"}', "ref", ref)) == {"type": "x", "ref": ref}
