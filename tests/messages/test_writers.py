"""Values written as what is declared, where Structs are in it: the declared fields and nothing else, or an error."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple, Union

import msgspec
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from socketsundso import WebSocketHandlingEndpoint, event
from socketsundso.messages.response_errors import ResponseError
from socketsundso.messages.writers import Writers
from tests.harness import ask

MARK = "s3cret"


class Pub(BaseModel):
    id: int


class Priv(Pub):
    password: str = MARK


class Open(msgspec.Struct):
    id: int


class Closed(Open):
    password: str = MARK


class Box(msgspec.Struct):
    n: int
    item: Pub


@dataclass
class Card:
    item: Pub


class Row(TypedDict, total=False):
    n: int
    item: Pub


class Pair(NamedTuple):
    n: int
    item: Pub


class Plain:
    """No class that has fields to declare; neither library knows it."""


class Odd(Plain, Open):
    """Of that class, and yet with fields."""


PUB = {"id": 1}

WRITTEN: list[tuple[Any, Any, Any]] = [
    (Pub, Priv(id=1), PUB),
    (Pub, {"id": "1", "more": MARK}, PUB),
    (Open, Closed(1), PUB),
    (Open, SimpleNamespace(id=1, password=MARK), PUB),
    (Box, Box(1, Priv(id=1)), {"n": 1, "item": PUB}),
    (Card, SimpleNamespace(item=Priv(id=1), password=MARK), {"item": PUB}),
    (Row, {"n": 1, "item": Priv(id=1), "password": MARK}, {"n": 1, "item": PUB}),
    (Row, {}, {}),
    (Pair, Pair(1, Priv(id=1)), [1, PUB]),
    (Pair, [1, {"id": 1, "more": MARK}], [1, PUB]),
    (tuple[int, Pub], (1, Priv(id=1)), [1, PUB]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (list[Pub], (Priv(id=1),), [PUB]),
    (list[Open], [Open(1), Closed(1)], [PUB, PUB]),
    (Iterable[Pub], (Priv(id=n) for n in (1, 1)), [PUB, PUB]),
    (deque[Pub], deque([Priv(id=1)]), [PUB]),
    (dict[str, Pub], {"a": Priv(id=1)}, {"a": PUB}),
    (Mapping[str, Open], {"a": Closed(1)}, {"a": PUB}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (list[Annotated[Pub, []]], [Priv(id=1)], [PUB]),
    (Union[Pub, None], None, None),
    (Union[Pub, Any], {"any": 1}, {"any": 1}),
    (Union[Open, Pub], Closed(1), PUB),
    (Union[Open, Pub], Priv(id=1), PUB),
    (Union[Open, list[Pub]], [Priv(id=1)], [PUB]),
    (Union[Open, int, str], "a", "a"),
    (Union[Open, float], 1, 1),
    (Union[Open, Literal["a"]], "a", "a"),
    (Union[list[Pub], Row], {"n": 1, "password": MARK}, {"n": 1}),
    (Union[Open, Pub, list[int]], [1], [1]),
    (Union[Open, Pub], {"id": 1, "password": MARK}, PUB),
]


@pytest.mark.parametrize(("annotation", "given", "written"), WRITTEN)
def test_what_is_declared_is_written(annotation: Any, given: Any, written: Any) -> None:
    """Fields of a subclass, keys and attributes that are not declared stay here, wherever the value stands."""
    write = Writers().of(annotation)
    body = msgspec.json.encode(given if write is None else write(given))
    assert json.loads(body) == written


WRONG: list[tuple[Any, Any, list[Any]]] = [
    (Pub, {"id": MARK}, ["id"]),
    (Pub, [], []),
    (Open, {"id": MARK}, ["id"]),
    (Box, Box(1, {"id": MARK}), ["item", "id"]),  # type: ignore[arg-type]  # as is to be told
    (Card, Card({"id": MARK}), ["item", "id"]),  # type: ignore[arg-type]  # as is to be told
    (Row, {"n": 1, "item": {"id": MARK}}, ["item", "id"]),
    (Row, [MARK], []),
    (Pair, Pair(1, {"id": MARK}), ["item", "id"]),  # type: ignore[arg-type]  # as is to be told
    (Pair, (1,), []),
    (tuple[int, Pub], (1, {"id": MARK}), [1, "id"]),
    (tuple[int, Pub], MARK, []),
    (list[Pub], [Pub(id=1), {"id": MARK}], [1, "id"]),
    (list[Pub], MARK, []),
    (list[Pub], Pub(id=1), []),
    (dict[str, Pub], {MARK: {"id": MARK}}, ["...", "id"]),
    (dict[str, Pub], [MARK], []),
    (Plain, Odd(1), []),
    (Union[Open, Pub], {"id": MARK}, ["id"]),
    (Union[list[Pub], dict[str, Pub]], MARK, []),
]


@pytest.mark.parametrize(("annotation", "given", "place"), WRONG)
def test_what_is_not_as_declared_is_refused_at_its_place(annotation: Any, given: Any, place: list[Any]) -> None:
    """The first error says where; a key that is no declared name is `...`; and no value is told."""
    with pytest.raises(ResponseError) as refused:
        Writers().of(annotation)(given)  # type: ignore[misc]  # there is one for each of these
    assert refused.value.errors[0]["loc"] == ["response", *place]
    assert MARK not in str(refused.value.errors)


def test_an_iterator_is_read_once_also_where_an_error_is_in_it() -> None:
    """What is wrong with its item is told; its own place would be found by a second try only, and is not."""
    write = Writers().of(tuple[int, Iterable[Pub]])
    with pytest.raises(ResponseError) as refused:
        write((1, iter([{"id": MARK}])))  # type: ignore[misc]  # there is one
    assert refused.value.errors[0]["loc"] == ["response", 0, "id"]


class Measured(BaseModel, ser_json_inf_nan="constants"):
    value: float


class Sample(msgspec.Struct):
    of: Measured


def test_a_model_that_writes_nan_is_no_json_within_a_struct_either() -> None:
    """Also where its configuration says so: the reply is an error frame, not one that no client can read."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_sample(self, value: str) -> Sample:
            return Sample(Measured(value=float(value)))

    assert ask(App, {"type": "sample", "value": "1"}) == {"type": "sample", "of": {"value": 1.0}}
    for value in ("nan", "inf"):
        (error,) = ask(App, {"type": "sample", "value": value})["errors"]
        assert (error["type"], error["loc"]) == ("serialization_error", ["response"])
