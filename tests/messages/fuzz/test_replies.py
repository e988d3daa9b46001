"""Replies against plain pydantic: random values of every kind, nested in one another, look as pydantic writes them."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import random
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import pydantic_core
import pytest
from pydantic import AnyUrl, BaseModel, ByteSize, Field, RootModel, SecretBytes, SecretStr, TypeAdapter, computed_field
from typing_extensions import TypedDict

from socketsundso import WebSocketHandlingEndpoint, event
from tests.harness import ask

UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


class Color(str, enum.Enum):  # noqa: UP042  # the form that most code has
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Mixed(enum.Enum):
    PAIR = (1, "a")


class Model(BaseModel):
    x: int = 1
    alias: str = Field("a", serialization_alias="other")
    at: datetime.timedelta = datetime.timedelta(hours=1)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.x * 2


class Numbers(RootModel[list[int]]):
    pass


@dataclasses.dataclass
class Data:
    x: Any = 1
    raw: bytes = b"\xc3\xa9"


class Pair(NamedTuple):
    x: int
    y: Any


class Text(str):
    pass


class Whole(int):
    pass


LEAVES: list[Any] = [
    None, True, False, 0, -1, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**70), 10**40, Whole(5), 0.0, -0.0, 1.5, 0.1, 1e16,
    1e22, 1e-7, 5e-324, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"), "", "a", "é", "日本", "😀", "\x00\x1f",
    "\u2028", '"\\/', Text("t"), b"", b"abc", b"\xc3\xa9", bytearray(b"xyz"), Color.RED, Level.LOW, Mixed.PAIR,
    datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 2, 3, 4, 5, 6, UTC),
    datetime.datetime(2020, 1, 2, 3, tzinfo=EAST), datetime.datetime(1, 1, 1), datetime.time(1, 2, 3), datetime.time(1, 2, 3, 4),
    datetime.time(1, tzinfo=UTC), datetime.timedelta(hours=1), datetime.timedelta(days=-1, microseconds=5), datetime.timedelta(0),
    uuid.UUID(int=7), decimal.Decimal("1.10"), decimal.Decimal("1E+2"), ipaddress.IPv4Address("192.0.2.1"),
    ipaddress.IPv6Network("2001:db8::/32"), pathlib.Path("/a/b"), SecretStr("hidden"), SecretBytes(b"hidden"),
    AnyUrl("http://example.com/x"), ByteSize(1024), Model(), Model(x=3), Numbers([1, 2]), Data(), Pair(1, b"y"), complex(1, 2),
]  # fmt: skip
KEYS: list[Any] = [
    "a",
    "b",
    "é",
    "",
    1,
    1.5,
    True,
    None,
    Color.RED,
    uuid.UUID(int=7),
    datetime.date(2020, 1, 2),
    Text("k"),
]
SHAPES: list[Callable[[list[Any]], Any]] = [
    list,
    tuple,
    deque,
    lambda items: Data(x=items),
    lambda items: Pair(1, items),
    lambda items: OrderedDict(enumerate(items)),
    lambda items: defaultdict(list, {str(at): item for at, item in enumerate(items)}),
]


def nested(r: random.Random, depth: int = 3) -> Any:
    kind = r.random()
    if depth == 0 or kind < 0.5:
        return r.choice(LEAVES)
    items = [nested(r, depth - 1) for _ in range(r.randint(0, 4))]
    if kind < 0.75:
        return dict(zip(r.sample(KEYS, len(items)), items, strict=True))
    return r.choice(SHAPES)(items)


def answered(app: Any) -> Any:
    return ask(app, {"type": "thing"})


def test_there_are_sixty_kinds() -> None:
    """Leaves, keys and shapes together cover what handlers return."""
    assert len(LEAVES) + len(SHAPES) >= 60


def test_values_without_response_model_look_as_pydantic_writes_them(fuzz_frames: int, fuzz_seed: int) -> None:
    """A dict that a handler returns is `pydantic_core.to_json` of it, with its event's `type`."""
    r = random.Random(fuzz_seed)
    made: list[Any] = []

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_thing(self) -> Any:
            return made.pop()

    for _ in range(fuzz_frames // 20):
        value = nested(r)
        expected = pydantic_core.to_json({"type": "thing", "v": value}, inf_nan_mode="null")
        made.append({"v": value})
        got = answered(App)
        assert got == json.loads(expected), f"seed {fuzz_seed}\nvalue {value!r}\ngot {got}\nexpected {expected!r}"


def test_a_generator_beside_what_only_pydantic_writes() -> None:
    """A generator is read once, also when orjson gives up on the message after it."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_thing(self) -> Any:
            return {"squares": (n * n for n in range(3)), "big": 2**70}

    assert answered(App) == {"type": "thing", "squares": [0, 1, 4], "big": 2**70}


class Source:
    """An object with attributes, as an ORM has them."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class Shape(TypedDict):
    x: int
    other: list[float]


class Inner(BaseModel):
    n: int = 0
    span: datetime.timedelta = datetime.timedelta(minutes=1)


class Reply(BaseModel):
    x: int
    inner: Inner = Inner()
    when: datetime.datetime | None = Field(None, serialization_alias="at")
    raw: bytes = b""
    ratio: float = 1.0


class Secretive(Reply):
    secret: str = "secret"


DECLARED: list[tuple[Any, Any]] = [
    (Reply, Reply(x=1)),
    (Reply, Secretive(x=1)),
    (Reply, {"x": "5", "inner": {"n": "6"}}),
    (Reply, Source(x=1, inner=Source(n=2, span=datetime.timedelta(0)), when=None, raw=b"r", ratio=1)),
    (Reply, Reply(x=1, when=datetime.datetime(2020, 1, 2, tzinfo=UTC), raw=b"\xc3\xa9", ratio=float("inf"))),
    (Reply, Reply.model_construct(x=2)),
    (Shape, {"x": "1", "other": [1, "2.5"]}),
    (Data, Data(x={"a": [b"x"]})),
    (Data, {"x": 5, "raw": "text"}),
    (Reply | Shape, {"x": 1, "other": [1]}),
    (Secretive | Data, Data()),
]


@pytest.mark.parametrize(("model", "value"), DECLARED, ids=repr)
def test_replies_with_response_model_look_as_fastapis(model: Any, value: Any) -> None:
    """Validated from attributes and written by alias, with nothing of a subclass's own."""

    class App(WebSocketHandlingEndpoint):
        @event(response_model=model)
        async def on_thing(self) -> Any:
            return value

    adapter = TypeAdapter(model)
    valid = adapter.validate_python(value, from_attributes=True)
    expected = {"type": "thing", **json.loads(adapter.dump_json(valid, by_alias=True))}
    got = answered(App)
    assert got == expected
    assert list(got) == list(expected)
