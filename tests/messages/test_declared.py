"""What an annotation declares: what stands behind names and type variables, and in the fields of a class."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Final, ForwardRef, Generic, NewType, NotRequired, Optional, TypeVar, Union

import pytest
import typing_extensions
from typing_extensions import TypeAliasType, TypedDict

from socketsundso.messages.declared import bare, field_types, members, settled

T = TypeVar("T")
Bound = TypeVar("Bound", bound=int)
Later = TypeVar("Later", bound="User")  # a name that is defined below
Referred = TypeVar("Referred", bound=ForwardRef("User"))  # type: ignore[valid-type]  # what a string is made to be
Several = TypeVar("Several", int, str)
Default = typing_extensions.TypeVar("Default", default=int)
Without = typing_extensions.TypeVar("Without", bound=str)
Maybe = TypeAliasType("Maybe", Optional[T], type_params=(T,))
UserId = NewType("UserId", int)


@dataclasses.dataclass
class User(Generic[T]):
    id: T
    seed: dataclasses.InitVar[int]


class Row(TypedDict, Generic[T]):
    item: NotRequired[T]


BARE: list[tuple[Any, Any]] = [
    (int, int),
    (None, type(None)),
    (UserId, int),
    (Final[UserId], int),
    (Annotated[UserId, "a note"], int),
    (NotRequired[int], int),
    (dataclasses.InitVar[UserId], int),
    (T, Any),
    (Bound, int),
    (Later, User),
    (Referred, User),
    (Default, int),
    (Without, str),
    (Several, Union[int, str]),
]


@pytest.mark.parametrize(("annotation", "meant"), BARE, ids=str)
def test_a_name_is_what_it_stands_for(annotation: Any, meant: Any) -> None:
    """A type variable that nobody gave anything for: its default, else its constraints, else its bound, else Any."""
    assert bare(annotation) == meant


def test_the_members_of_a_variable_are_its_constraints() -> None:
    """As of an alias, Optional or Union, also where one stands in another."""
    assert members(Several) == [int, str]
    assert members(Maybe[Several]) == [int, str, type(None)]  # type: ignore[valid-type]  # known at run time


def test_variables_that_remain_are_settled_wherever_they_stand() -> None:
    """Those of an alias among them."""
    assert settled(dict[str, Several]) == dict[str, Union[int, str]]  # type: ignore[valid-type]  # known at run time
    assert members(settled(Maybe[Default])) == [int, type(None)]  # type: ignore[valid-type]  # known at run time


def test_fields_have_the_types_that_are_given_for_variables() -> None:
    """And what they stand for where none is given."""
    assert bare(field_types(User[str])["id"]) is str
    assert bare(field_types(User)["id"]) is Any
    assert bare(field_types(Row[UserId])["item"]) is int
