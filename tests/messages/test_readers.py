"""Dicts and other objects read as what is declared, where msgspec alone cannot: values in, instances or errors out."""

from __future__ import annotations

import enum
from collections import OrderedDict, UserList, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Required, Union

import attrs
import msgspec
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from socketsundso.messages.readers import Readers
from socketsundso.messages.response_errors import ResponseError


class Cat(BaseModel):
    lives: int


class Dog(BaseModel):
    tricks: int


Pet = Union[Cat, Dog]  # two models: msgspec builds no such union, so whatever holds it is taken apart


class Box(msgspec.Struct, rename="camel", forbid_unknown_fields=True, tag_field="kind", tag="box"):
    the_pet: Pet
    note: str = ""


class Checked(msgspec.Struct):
    pet: Pet

    def __post_init__(self) -> None:
        if isinstance(self.pet, Dog):
            raise ValueError("no dogs")


@dataclass
class Card:
    pet: Pet
    notes: list[str] = field(default_factory=list)


@attrs.define
class Cage:
    _pet: Pet


class Row(TypedDict):
    pet: Pet
    note: NotRequired[str]


class Loose(TypedDict, total=False):
    pet: Required[Pet]
    note: str


class Pair(NamedTuple):
    pet: Pet
    count: int


class Node(msgspec.Struct):
    pet: Pet
    below: list[Node] = []


class Pets(UserList[Any]):
    """A container that msgspec does not know."""


class Size(enum.Enum):
    small, large = "small", "large"


class Ratio(enum.Enum):
    half = 0.5


class Opaque:
    """Nobody can build it."""


CAT, DOG = {"lives": 9}, {"tricks": 3}

READ: list[tuple[Any, Any, Any]] = [
    (Pet, CAT, Cat(lives=9)),
    (Pet, SimpleNamespace(tricks=3), Dog(tricks=3)),
    (Box, {"kind": "box", "thePet": DOG}, Box(Dog(tricks=3))),
    (Box, {"thePet": CAT, "note": "a"}, Box(Cat(lives=9), "a")),
    (Box, SimpleNamespace(the_pet=Cat(lives=1), other=2), Box(Cat(lives=1))),
    (Card, {"pet": CAT}, Card(Cat(lives=9))),
    (Card, SimpleNamespace(pet=DOG, notes=["x"]), Card(Dog(tricks=3), ["x"])),
    (Cage, {"_pet": CAT}, Cage(Cat(lives=9))),
    (Row, {"pet": CAT, "more": 1}, {"pet": Cat(lives=9)}),
    (Row, OrderedDict(pet=DOG, note="n"), {"pet": Dog(tricks=3), "note": "n"}),
    (Loose, {"pet": CAT}, {"pet": Cat(lives=9)}),
    (Pair, [CAT, 2], Pair(Cat(lives=9), 2)),
    (Pair, (DOG, 2), Pair(Dog(tricks=3), 2)),
    (tuple[Pet, int], [DOG, 1], (Dog(tricks=3), 1)),
    (tuple[Pet, ...], [DOG, CAT], (Dog(tricks=3), Cat(lives=9))),
    (list[Pet], (CAT, DOG), [Cat(lives=9), Dog(tricks=3)]),
    (Sequence[Pet], [CAT], [Cat(lives=9)]),
    (deque[Pet], [CAT], deque([Cat(lives=9)])),
    (dict[str, Pet], {"a": CAT}, {"a": Cat(lives=9)}),
    (Mapping[str, Pet], {"a": DOG}, {"a": Dog(tricks=3)}),
    (Node, {"pet": CAT, "below": [{"pet": DOG}]}, Node(Cat(lives=9), [Node(Dog(tricks=3))])),
    (Union[Box, Row], {"thePet": CAT}, Box(Cat(lives=9))),
    (Union[Card, list[Pet]], [CAT], [Cat(lives=9)]),
    (Annotated[Cat, Field(description="one")], CAT, Cat(lives=9)),
    (Annotated[Cat, Field(description="one")], SimpleNamespace(lives=2), Cat(lives=2)),
    (Pets, Pets([1]), [1]),
    (list[Annotated[Pet, []]], [CAT], [Cat(lives=9)]),
    (Callable[[], int], dict, dict),
    (Literal[Size.small], Size.small, Size.small),
    (Ratio, Ratio.half, Ratio.half),
    (Ratio, 0.5, Ratio.half),
]


@pytest.mark.parametrize(("annotation", "given", "read"), READ)
def test_what_fits_is_read(annotation: Any, given: Any, read: Any) -> None:
    """Mappings by the keys of the wire, other objects by their attributes."""
    found = Readers().of(annotation)(given)
    assert found == read
    assert type(found) is type(read)


INSTANCES = [Box(Cat(lives=1)), Card(Dog(tricks=1)), Cage(Cat(lives=1)), Cat(lives=1), Checked(Cat(lives=1))]


@pytest.mark.parametrize("instance", INSTANCES, ids=lambda each: type(each).__name__)
def test_an_instance_is_the_very_same(instance: Any) -> None:
    """Alone, and as one of several."""
    assert Readers().of(type(instance))(instance) is instance
    assert Readers().of(Union[type(instance), Dog, Row])(instance) is instance


WRONG: list[tuple[Any, Any, list[Any]]] = [
    (Pet, {"lives": "many"}, ["lives"]),
    (Box, {}, []),
    (Box, {"kind": "bag", "thePet": CAT}, ["kind"]),
    (Box, {"thePet": CAT, "more": 1}, []),
    (Box, {"thePet": {"lives": "many"}}, ["thePet", "lives"]),
    (Box, "a text", []),
    (Box, None, []),
    (Box, SimpleNamespace(), []),
    (Checked, {"pet": DOG}, []),
    (Card, {"notes": []}, []),
    (Cage, {}, []),
    (Row, {"note": "n"}, []),
    (Row, [], []),
    (Loose, {"note": "n"}, []),
    (Pair, [CAT], []),
    (Pair, [{}, 1], ["pet", "lives"]),
    (tuple[Pet, int], [CAT, 1, 1], []),
    (list[Pet], {"a": CAT}, []),
    (list[Pet], "text", []),
    (list[Pet], [CAT, {}], [1, "lives"]),
    (dict[str, Pet], [CAT], []),
    (dict[str, Pet], {"s3cret": {}}, ["...", "lives"]),
    (Cat, {"lives": "many"}, ["lives"]),
    (Opaque, CAT, []),
    (Callable[[], int], CAT, []),
    (Literal[Size.small], Size.large, []),
    (Literal[Size.small], {"s3cret": "many"}, []),
    (Ratio, "many", []),
]


@pytest.mark.parametrize(("annotation", "given", "place"), WRONG)
def test_what_does_not_fit_is_refused_at_its_place(annotation: Any, given: Any, place: list[Any]) -> None:
    """The first error says where; a key that is no declared name is `...`; and no value is told."""
    with pytest.raises(ResponseError) as refused:
        Readers().of(annotation)(given)
    first = refused.value.errors[0]
    assert first["loc"] == ["response", *place]
    assert "input" not in first
    assert "many" not in str(refused.value.errors)
    assert "s3cret" not in str(refused.value.errors)


@pytest.mark.parametrize("read", [Readers().of, Readers().later], ids=["at once", "when it is first needed"])
def test_a_reader_may_be_made_later(read: Callable[[Any], Callable[[Any], Any]]) -> None:
    """What it reads is the same."""
    reader = read(list[Pet])
    assert reader([CAT]) == reader(deque([CAT])) == [Cat(lives=9)]


def test_one_of_several_models_may_be_what_msgspec_cannot_build() -> None:
    """In a Struct's field pydantic builds a model; what neither can is told by its class."""

    class Shelf(msgspec.Struct):
        cat: Cat
        other: Opaque | None = None

    read = Readers().of(Shelf)
    assert read({"cat": CAT}) == Shelf(Cat(lives=9))
    with pytest.raises(ResponseError, match="Opaque"):
        read({"cat": CAT, "other": 1})
    with pytest.raises(ResponseError, match="integer"):
        read({"cat": {"lives": "many"}})
