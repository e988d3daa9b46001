"""Whenever msgspec accepts what `native` gave it, pydantic accepts too, with an equal value of the same type."""

from __future__ import annotations

import datetime
import uuid
from typing import Annotated, Any, Literal, Optional, Union

import msgspec
import pytest
from pydantic import Field, PositiveInt, TypeAdapter, conint, conlist, constr

from socketsundso.messages.annotations import native
from tests.messages.fuzz.annotations import ANNOTATIONS, Color, Number
from tests.messages.fuzz.test_differential import same
from tests.messages.fuzz.tokens import Tokens

BOUNDS: list[Any] = [0, 5, -3, 2**62]
CONSTRAINED = [
    *(Annotated[int, Field(**{name: bound})] for name in ("gt", "ge", "lt", "le") for bound in BOUNDS),
    *(Annotated[float, Field(**{name: bound})] for name in ("gt", "ge", "lt", "le") for bound in [*BOUNDS, 0.3]),
    Annotated[int, Field(multiple_of=3)],
    *(Annotated[float, Field(multiple_of=step)] for step in (0.1, 0.5, 0.01)),
    *(
        Annotated[kind, Field(min_length=1, max_length=3)]
        for kind in (str, list[int], set[int], frozenset[str], tuple[int, ...], dict[str, int])
    ),
    Annotated[Optional[int], Field(ge=0)],
    PositiveInt,
    conint(ge=1, lt=50),
    constr(min_length=2),
    conlist(int, max_length=2),
]
NATIVE = [
    int, float, bool, str, Any, datetime.date, uuid.UUID, Color, Number, Literal["red", 1, None, True], Optional[float],
    Union[int, float], Union[int, str], Union[int, float, str, bool, None], Union[bool, int, float], list[float], set[int],
    set[Union[int, float]], dict[str, int], tuple[int, str], list[dict[str, set[int]]],
]  # fmt: skip


@pytest.mark.parametrize("annotation", [*NATIVE, *CONSTRAINED], ids=repr)
def test_these_are_native(annotation: Any) -> None:
    """The fast path is not lost by accident."""
    assert native(annotation) is not None


@pytest.mark.parametrize("annotation", [*NATIVE, *CONSTRAINED, *ANNOTATIONS], ids=repr)
def test_what_msgspec_accepts_pydantic_accepts_alike(annotation: Any, fuzz_frames: int, fuzz_seed: int) -> None:
    """An upgrade of either library that breaks this turns it red."""
    kind = native(annotation)
    if kind is None:
        return
    tokens = Tokens(fuzz_seed)
    decode, validate = msgspec.json.Decoder(kind).decode, TypeAdapter(annotation).validate_json
    for _ in range(fuzz_frames // 20):
        text = tokens.value()
        try:
            value = decode(text)
        except (msgspec.DecodeError, UnicodeError):
            continue
        expected = validate(text)
        assert same(value, expected), f"seed {fuzz_seed}: {text} is {value!r} natively, {expected!r} by pydantic"
