"""Random types, nested as deep as users nest them: whatever the endpoint takes and sends passes what is published."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import uuid
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import Meta
from pydantic import Field, create_model
from pydantic_core import to_jsonable_python
from typing_extensions import TypedDict

from socketsundso.contract.schemas.components import Components
from socketsundso.errors import DefinitionError
from tests.contract.samples import Case, Color, Number, Plain
from tests.contract.test_schemas import Echo, whole

Values = st.SearchStrategy[Any]


class Kind(NamedTuple):
    """A type, and JSON that it holds in its canonical form."""

    annotation: Any
    values: Values


def written(values: Values) -> Values:
    return values.map(to_jsonable_python)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2100, 1, 1))
LEAVES = [
    Kind(int, st.integers(-(2**63), 2**63 - 1)),
    Kind(float, FLOATS),
    Kind(str, TEXTS),
    Kind(bool, st.booleans()),
    Kind(None, st.none()),
    Kind(bytes, st.sampled_from(["", "YQ==", "YWI="])),  # a text for pydantic, base64 for msgspec
    Kind(Any, st.none() | TEXTS | st.lists(st.integers(0, 3), max_size=2)),
    Kind(datetime.date, written(st.dates())),
    Kind(datetime.datetime, written(TIMES)),
    Kind(datetime.time, written(st.times())),
    Kind(datetime.timedelta, written(st.timedeltas(datetime.timedelta(-99), datetime.timedelta(99)))),
    Kind(decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str)),
    Kind(uuid.UUID, st.uuids().map(str)),
    Kind(Color, st.sampled_from(["red", "blue"])),
    Kind(Number, st.sampled_from([1, 2])),
    Kind(Literal["a", 1, True, None], st.sampled_from(["a", 1, True, None])),
    Kind(Annotated[int, Field(ge=-2, lt=9)], st.integers(-2, 8)),
    Kind(Annotated[int, Meta(gt=-2, multiple_of=2)], st.integers(0, 9).map(lambda n: n * 2)),
    Kind(Annotated[str, Field(min_length=1, max_length=3, pattern="^[ab]+$")], st.text("ab", min_size=1, max_size=3)),
    Kind(Annotated[str, Meta(max_length=2)], st.text("abé", max_size=2)),
    Kind(Plain, st.fixed_dictionaries({"x": st.integers(0, 9), "name": TEXTS})),
]


def nested(kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    return st.one_of(
        kinds.map(lambda k: Kind(list[k.annotation], st.lists(k.values, max_size=2))),  # type: ignore[name-defined]
        kinds.map(lambda k: Kind(Optional[k.annotation], st.none() | k.values)),
        kinds.map(lambda k: Kind(dict[str, k.annotation], st.dictionaries(TEXTS, k.values, max_size=2))),  # type: ignore[name-defined]
        kinds.map(lambda k: Kind(dict[Number, k.annotation], st.dictionaries(st.sampled_from("12"), k.values))),  # type: ignore[name-defined]
        kinds.map(lambda k: Kind(Annotated[k.annotation, Field(description="*what* it is")], k.values)),
        st.tuples(kinds, kinds).map(
            lambda two: Kind(tuple[two[0].annotation, two[1].annotation], st.tuples(*(k.values for k in two)).map(list))  # type: ignore[name-defined]
        ),
        st.tuples(kinds, kinds).map(
            lambda two: Kind(Union[two[0].annotation, two[1].annotation], two[0].values | two[1].values)
        ),
        st.tuples(st.sampled_from(list(MAKERS)), kinds, kinds).map(lambda made: of_fields(*made)),
    )


MAKERS = {
    "model": lambda a, b: create_model("Model", a=(a, ...), b=(Optional[b], None)),
    "dataclass": lambda a, b: dataclasses.make_dataclass(
        "Data", [("a", a), ("b", Optional[b], dataclasses.field(default=None))]
    ),
    "dict": lambda a, b: TypedDict("Dict", {"a": a, "b": Optional[b]}),  # type: ignore[misc]
    "struct": lambda a, b: msgspec.defstruct("Struct", [("a", a), ("b", Optional[b], None)]),
}


def of_fields(maker: str, a: Kind, b: Kind) -> Kind:
    try:
        kind = MAKERS[maker](a.annotation, b.annotation)
    except Exception:  # a Struct within a model, which pydantic refuses
        kind = MAKERS["dataclass"](a.annotation, b.annotation)
    return Kind(kind, st.fixed_dictionaries({"a": a.values, "b": b.values | st.none()}))


@settings(max_examples=40)
@given(st.recursive(st.sampled_from(LEAVES), nested, max_leaves=5), st.data())
def test_what_is_taken_and_sent_passes_what_is_published(kind: Kind, data: st.DataObject) -> None:
    """For any type, what the endpoint takes passes the schema of what clients send, what it sends that of replies."""
    try:
        echo = Echo(Case(kind.annotation, []))
    except DefinitionError:  # two Structs without tags in a union, say
        assume(False)
    components = Components()
    taken, sent = components.incoming(kind.annotation), components.outgoing(echo.reply)
    table = components.table()
    values = data.draw(st.lists(kind.values, min_size=1, max_size=4))
    for value, answer in zip(values, echo.answers(values), strict=True):
        assert answer.pop("type") == "echo", answer
        assert not list(map(str, Draft202012Validator(whole(taken, table)).iter_errors(value)))
        assert not list(map(str, Draft202012Validator(whole(sent, table)).iter_errors(answer)))
