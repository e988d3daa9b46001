"""Functions from generated source behave like written ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from socketsundso.messages import codegen

FIRST_USE = """
import typing, decimal, fractions, uuid
from pydantic import PastDate, TypeAdapter
from socketsundso.messages import codegen

adapter = TypeAdapter({annotation})
validate = codegen.function("frame", ["return validate(frame)"], {{"validate": adapter.validator.validate_json}})
print(validate(b'{frame}'))
"""


@pytest.mark.parametrize(
    ("annotation", "frame", "value"),
    [
        ("decimal.Decimal", '"1.5"', "1.5"),
        ("fractions.Fraction", '"1/2"', "1/2"),
        ("uuid.UUID", '"12345678123456781234567812345678"', "12345678-1234-5678-1234-567812345678"),
        ("PastDate", '"2020-01-01"', "2020-01-01"),
    ],
)
def test_c_code_that_it_calls_may_import(annotation: str, frame: str, value: str) -> None:
    """pydantic imports some types' modules when it first needs them, by the globals of whoever called it."""
    source = FIRST_USE.format(annotation=annotation, frame=frame)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (value, "")


def test_functions_of_the_same_source_have_their_own_names() -> None:
    one, two = (codegen.function("x", ["return x + y"], {"y": y}) for y in (1, 2))
    assert (one(10), two(10)) == (11, 12)
