"""How numbers and names are shown."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketsundso.top.words import age, duration, number, rate, share, shown, size


@pytest.mark.parametrize(
    ("how", "value", "expected"),
    [
        (number, 12345, "12,345"),
        (number, 1_234_567, "1.2M"),
        (rate, 0, "0"),
        (rate, 0.04, "0.04"),
        (rate, 1.26, "1.3"),
        (rate, 9.96, "10"),
        (rate, 1204.4, "1,204"),
        (size, 0, "0"),
        (size, 812, "812 B"),
        (size, 1234, "1.2 kB"),
        (size, 999_600, "1.0 MB"),
        (size, 573_000, "573 kB"),
        (size, 5e15, "5,000.0 TB"),
        (duration, 0.00031, "0.3 ms"),
        (duration, 0.042, "42 ms"),
        (duration, 0.9997, "1.0 s"),
        (duration, math.inf, ">10 s"),
        (age, 12.9, "12s"),
        (age, 184, "3m04s"),
        (age, 18_720, "5h12m"),
        (age, 273_600, "3d04h"),
        (share, 0.374, "37%"),
        (share, 1.5, "150%"),
    ],
)
def test_a_number(how: Callable[[float], str], value: float, expected: str) -> None:
    """As short as it can be, with its unit."""
    assert how(value) == expected


@pytest.mark.parametrize("how", [number, rate, size, duration, age, share])
def test_what_nobody_knows(how: Callable[[None], str]) -> None:
    """Is a dash."""
    assert how(None) == "-"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lobby", "lobby"),
        ("größe 1 \N{SNOWMAN}", "größe 1 \N{SNOWMAN}"),
        ("\x1b[2Jx\r\n", r"\x1b[2Jx\r\n"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}abc", r"\u202eabc"),
        ("[bold]x[/]", "[bold]x[/]"),
        (7, "7"),
    ],
)
def test_a_name(name: object, expected: str) -> None:
    """Letters stay as they are, what would act on the terminal is written as its code."""
    assert shown(name) == expected


@given(st.text(st.characters(exclude_categories=[])))
def test_no_name_acts_on_the_terminal(name: str) -> None:
    """No control, format or surrogate character is left of any text, and it can be written."""
    assert not {unicodedata.category(each) for each in shown(name)} & {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}
    shown(name).encode()
