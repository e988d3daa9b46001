"""Regular expressions of Rust and Python in ECMA-262: the same texts match, or nothing is published."""

from __future__ import annotations

import re
from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from socketsundso.contract.schemas.patterns import translated

TEXTS = [
    "",
    "a",
    "aa",
    "ab",
    "abc",
    "12",
    "1-2",
    "2026-01",
    "a@b.cd",
    "a b",
    "{",
    "a}",
    "]",
    "-",
    "x\ny",
    "\\",
    "é",
    "^",
    "a.b",
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^a+$", "^a+$"),
        (r"^(?P<year>\d{4})\-\d\d\z", "^([0-9]{4})-[0-9][0-9]$"),
        (r"\Aab\Z", "^ab$"),
        ("^.+@.+$", r"^[^\n]+@[^\n]+$"),
        (r"[]a\d\-]{1,3}", r"[\]a0-9\-]{1,3}"),
        ("a}", r"a\}"),
        (r"\#\ \@", "# @"),
        (r"^[^@\s]+$", r"^[^@\s]+$"),
        ("(?:a|b)??", "(?:a|b)??"),
        (r"\x41\u0042", r"\x41\u0042"),
        (r"[*+]+", "[*+]+"),
    ],
)
def test_what_means_the_same_is_translated(pattern: str, expected: str) -> None:
    """Into what ECMA-262 reads alike with its `u` flag and without."""
    assert translated(pattern) == expected
    assert translated(expected) == expected


@pytest.mark.parametrize(
    "pattern",
    [r"\w", r"\bfoo", r"(?i)a", r"\p{L}", "a++", "(?>a)", "[[:alpha:]]", "[a&&b]", r"[\w-]", r"\x{41}", "(?#c)a", r"\1",
     r"[\D]", "x{2}+", "(", "a{}", r"\é", r"\x4"],
)  # fmt: skip
def test_what_others_would_read_differently_is_not_published(pattern: str) -> None:
    """Classes of Unicode, flags, and what one dialect alone has."""
    assert translated(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "^a+$",
        r"^\d+$",
        r"\A\d{4}\-\d\d\z",
        "^.+@.+$",
        "[]a]",
        "a}",
        r"^[^@\s]+$",
        r"^(?:a|b)+$",
        r"\.",
        r"^[\]\-]$",
        r"^\\$",
    ],
)
def test_pydantic_and_the_translation_agree(pattern: str) -> None:
    """About each of some texts."""
    adapter = TypeAdapter(Annotated[str, Field(pattern=pattern)])
    ours = translated(pattern)
    assert ours is not None
    for text in TEXTS:
        try:
            adapter.validate_python(text)
        except ValidationError:
            assert re.search(ours, text) is None, text
        else:
            assert re.search(ours, text) is not None, text
