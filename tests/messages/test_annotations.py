"""Which annotations are native, how Structs look to pydantic, and what can never come from JSON."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import typing
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Annotated, Any, Final, Generic, Literal, NewType, Optional, TypeVar, Union

import msgspec
import pytest
from msgspec import Meta
from pydantic import BaseModel, Field, InstanceOf, StrictInt, TypeAdapter, ValidationError
from typing_extensions import TypeAliasType

from socketsundso import WebSocketHandlingEndpoint, event
from socketsundso.messages.annotations import UnsupportedAnnotation, check, native, pydantic_form
from tests.harness import ask

T = TypeVar("T")
Bound = TypeVar("Bound", bound=int)
UserId = NewType("UserId", int)
Alias = TypeAliasType("Alias", list[int])


class Cat(msgspec.Struct, tag="cat"):
    name: str


class Dog(msgspec.Struct, tag="dog"):
    name: str


class Box(msgspec.Struct, Generic[T]):
    item: T


class Text(enum.Enum):
    a = "a"


class Flags(enum.IntFlag):
    a = 1


class Float(enum.Enum):
    a = 1.5


class Big(enum.IntEnum):
    a = 2**70


class Nothing(enum.Enum):
    pass


class Own(enum.Enum):
    a = "a"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return handler(source)


class MyStr(str):
    pass


class Model(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (None, type(None)),
        (UserId, int),
        (Final[int], int),
        (Alias, list[int]),
        (T, Any),
        (object, Any),
        (Text, Text),
        (Sequence[int], list[int]),
        (Mapping[str, int], dict[str, int]),
        (MutableMapping[str, int], dict[str, int]),
        (int | None, int | None),
        (Cat, Cat),
        (Cat | Dog, Cat | Dog),
        (Box[int], Box[int]),
        (list[Cat], list[Cat]),
        (Annotated[int, Meta(gt=0)], Annotated[int, Meta(gt=0)]),
        (Annotated[int, Field(gt=0, title="t", alias="x")], Annotated[int, Meta(gt=0)]),
        (set[Text], set[Text]),
        (set[Annotated[int, Field(gt=0)]], set[Annotated[int, Meta(gt=0)]]),
        (tuple[()], None),
        (set, None),
        (Bound, None),
        (Flags, None),
        (Float, None),
        (Big, None),
        (Nothing, None),
        (Own, None),
        (MyStr, None),
        (bytes, None),
        (datetime.datetime, None),
        (datetime.time, None),
        (datetime.timedelta, None),
        (decimal.Decimal, None),
        (Literal[Text.a], None),
        (Literal[b"x"], None),
        (list[bytes], None),
        (tuple[int, bytes], None),
        (tuple[bytes, ...], None),
        (set[tuple[int, ...]], None),
        (dict[int, int], None),
        (dict[str, bytes], None),
        (collections.deque[int], None),
        (Union[int, Model], None),
        (Optional[bytes], None),
        (Union[Text, str], None),
        (StrictInt, None),
        (Annotated[int, Field(gt=0, ge=1)], None),
        (Annotated[int, Field(gt=0), Field(gt=1)], None),
        (Annotated[int, Field(gt=2**70)], None),
        (Annotated[bool, Field(gt=0)], None),
        (Annotated[float, Field(gt=decimal.Decimal(1))], None),
        (Annotated[tuple[int, str], Field(max_length=2)], None),
        (Annotated[str, Field(pattern="a")], None),
        (Annotated[bytes, Field(max_length=1)], None),
        (Annotated[int, "doc"], None),
        (Annotated[int, ["doc"]], None),
        (Annotated[Union[Model, int], Field(discriminator="x")], None),
        (Model, None),
        ("not a type", None),
    ],
    ids=repr,
)
def test_native(annotation: Any, kind: Any) -> None:
    """A whitelist: what is not known is None."""
    assert native(annotation) == kind


@pytest.mark.parametrize(
    "annotation",
    [Callable[[], int], Callable, type[int], type, InstanceOf[int], typing.Never, typing.NoReturn, typing.Self,
     typing.LiteralString, collections.abc.Collection[int], list[Callable[[], int]], Optional[type[int]],
     Annotated[type[int], 1]],
    ids=repr,
)  # fmt: skip
def test_what_can_never_come_from_json(annotation: Any) -> None:
    """Found at any depth."""
    with pytest.raises(UnsupportedAnnotation, match="not possible"):
        check(annotation)


@pytest.mark.parametrize("annotation", [int, Alias, Literal["x"], tuple[int, ...], dict[str, list[Model]], None, Any])
def test_the_rest_may(annotation: Any) -> None:
    """And pydantic sees it as it is."""
    check(annotation)
    assert pydantic_form(annotation) is annotation


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Cat, '{"type":"cat","name":"n"}', '{"type":"cat","name":1}'),
        (list[Cat], '[{"type":"cat","name":"n"}]', "[1]"),
        (Optional[Cat], "null", "1"),
        (Cat | Dog, '{"type":"dog","name":"n"}', '{"type":"cow","name":"n"}'),
        (Cat | Dog | None, "null", "1"),
        (Box[int], '{"item":1}', '{"item":"x"}'),
        (TypeAliasType("CatAlias", Cat), '{"type":"cat","name":"n"}', "1"),
        (Annotated[int, Meta(gt=0)], "1", "0"),
        (Annotated[str, Meta(max_length=1, title="t")], '"a"', '"ab"'),
        (Annotated[Cat, "doc"], '{"type":"cat","name":"n"}', "1"),
        (Union[Cat, int], "5", '"x"'),
    ],
    ids=repr,
)
def test_structs_and_meta_in_pydantics_eyes(annotation: Any, good: str, bad: str) -> None:
    """Pydantic validates them with msgspec's result, and has a JSON schema for them."""
    adapter = TypeAdapter(pydantic_form(annotation))
    value = adapter.validate_json(good)
    kind = native(annotation)
    if kind is not None:
        assert value == msgspec.json.decode(good, type=kind)
    with pytest.raises(ValidationError):
        adapter.validate_json(bad)
    assert adapter.json_schema()


class Node(msgspec.Struct):
    x: int
    next: Node | None = None


def test_the_json_schema_of_a_recursive_struct_ends() -> None:
    """It is written in one piece, cut where it begins anew."""
    schema = TypeAdapter(pydantic_form(Node)).json_schema()
    assert {"type": "object", "title": "Node"} in schema["properties"]["next"]["anyOf"]


def test_a_struct_without_json_schema_is_an_object() -> None:
    """A Struct may hold types that msgspec has no schema for."""

    class Odd(msgspec.Struct):
        x: complex

    assert TypeAdapter(pydantic_form(Odd)).json_schema() == {"type": "object"}


def test_structs_and_attrs_as_parameters() -> None:
    """Natively decoded, and exact on the slow path: one error per parameter, msgspec's path in the text."""

    @dataclasses.dataclass
    class Plain:
        x: int

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_pet(self, pet: Cat | Dog, n: int = 0, more: list[Cat] = [], plain: Plain | None = None) -> Any:  # noqa: B006
            return {"kind": type(pet).__name__, "n": n, "more": [type(cat).__name__ for cat in more]}

    pet = {"type": "dog", "name": "rex"}
    cats = [{"type": "cat", "name": "tom"}]
    assert ask(App, {"type": "pet", "pet": pet, "more": cats})["kind"] == "Dog"
    assert ask(App, {"type": "pet", "pet": pet, "n": "3", "more": cats}) == {
        "type": "pet", "kind": "Dog", "n": 3, "more": ["Cat"],
    }  # fmt: skip
    errors = ask(App, {"type": "pet", "pet": {"type": "dog", "name": 1}, "n": "x"})["errors"]
    assert [(e["type"], e["loc"]) for e in errors] == [("struct_type", ["pet"]), ("int_parsing", ["n"])]
    assert "$.name" in errors[0]["msg"]


def test_bounds_that_msgspec_cannot_hold_are_pydantics_matter() -> None:
    """A bound beyond 64 bits is no reason to refuse the annotation."""
    assert native(Annotated[int, Field(ge=2**70)]) is None
