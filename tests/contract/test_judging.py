"""Whether a schema takes a value: yes, no, or nobody can tell here."""

from __future__ import annotations

from typing import Any

import pytest

from socketsundso.contract.comparing.judging import judge
from tests.contract.apis import INTEGER, NUMBER, STRING, fields, ref

COMPONENTS = {"Name": {"type": "string", "minLength": 1}, "Itself": ref("Itself")}


@pytest.mark.parametrize(
    ("value", "schema", "verdict"),
    [
        (1, True, True),
        (1, False, False),
        (1.0, INTEGER, True),
        (1.5, INTEGER, False),
        (1, NUMBER, True),
        (True, INTEGER, False),
        (True, {"enum": [1]}, False),
        ([1, {"a": None}], {"const": [1.0, {"a": None}]}, True),
        ([1], {"const": [True]}, False),
        ("a", ref("Name"), True),
        ("", ref("Name"), False),
        ("", ref("Nobody"), None),
        ("", ref("Itself"), None),
        ("a", {"anyOf": [INTEGER, STRING]}, True),
        ("a", {"anyOf": [{"format": "date"}, STRING]}, True),
        ("a", {"anyOf": [{"format": "date"}, INTEGER]}, None),
        ("a", {"allOf": [{"format": "date"}, INTEGER]}, False),
        ("a", {"oneOf": [STRING, {"const": "a"}]}, False),
        ("a", {"oneOf": [STRING, INTEGER]}, True),
        ("a", {"oneOf": [STRING, {"format": "date"}]}, None),
        ("a", {"not": STRING}, False),
        ("a", {"not": {"format": "date"}}, None),
        (0.3, {"multipleOf": 0.1}, True),
        (0.35, {"multipleOf": 0.1}, False),
        ("x1", {"pattern": "[0-9]"}, True),
        ("x\n", {"pattern": "x$"}, None),
        ("x", {"pattern": "(?<"}, None),
        ([1, 1.0], {"uniqueItems": True}, False),
        ([1, True], {"uniqueItems": True}, True),
        (["a", 1, 2], {"prefixItems": [STRING], "items": INTEGER}, True),
        (["a", 1, "b"], {"prefixItems": [STRING], "items": INTEGER}, False),
        ([], {"contains": STRING}, None),
        ({"a": 1}, fields(a=INTEGER), True),
        ({"b": 1}, fields(a=INTEGER), False),
        ({"b1": 1}, {"patternProperties": {"^b": STRING}}, False),
        ({"b1": 1}, {"patternProperties": {"^b": INTEGER}, "additionalProperties": False}, True),
        ({"b1": 1}, {"patternProperties": {"(?<": INTEGER}}, None),
        ({"b1": 1}, {"propertyNames": {"maxLength": 1}}, False),
        (5, {"minLength": 9, "required": ["a"], "items": False, "propertyNames": False}, True),
    ],
)
def test_verdicts(value: Any, schema: Any, verdict: bool | None) -> None:
    """Keywords say something of values of their type alone; one that refuses outweighs one that cannot tell."""
    assert judge(value, schema, COMPONENTS) is verdict
