"""The last pass: whatever somebody wrote becomes registered keywords, or words."""

from __future__ import annotations

from typing import Any

import pytest

from socketsundso.contract.schemas.canonical import canonical

NULL = {"type": "null"}


@pytest.mark.parametrize(
    ("written", "published"),
    [
        ({"type": ["string", "null"], "minLength": 1}, {"anyOf": [{"type": "string", "minLength": 1}, NULL]}),
        ({"type": ["integer"]}, {"type": "integer"}),
        ({"oneOf": [NULL, NULL, {"type": "string"}]}, {"anyOf": [NULL, {"type": "string"}]}),
        ({"anyOf": [{"$ref": "A"}], "description": "d"}, {"description": "d", "allOf": [{"$ref": "A"}]}),
        ({"allOf": [{"$ref": "A"}]}, {"$ref": "A"}),
        ({"$ref": "A", "deprecated": "since 2"}, {"allOf": [{"$ref": "A"}], "deprecated": True}),
        ({"type": "string", "example": "a"}, {"type": "string", "examples": ["a"]}),
        ({"examples": [1], "example": 2}, {"examples": [1]}),
        ({"examples": [float("nan")]}, {}),
        ({"const": float("inf")}, {}),
        ({"enum": [1, True, 1, 1.5, "a"]}, {"enum": [1, True, 1.5, "a"]}),
        ({"enum": ["a"]}, {"type": "string", "const": "a"}),
        ({"type": "integer", "default": {"a": [{"$ref": "x"}]}}, {"type": "integer"}),
        ({"type": "string", "format": "uuid4"}, {"type": "string", "format": "uuid"}),
        ({"type": "string", "format": "file-path", "x-own": 1, "discriminator": {}}, {"type": "string"}),
        ({"type": "string", "title": ""}, {"type": "string"}),
        ({"type": "object", "properties": {}, "required": [], "additionalProperties": True}, {"type": "object"}),
        ({"type": "object", "properties": {"$ref": NULL}}, {"type": "object", "properties": {"$ref": NULL}}),
        ({"type": "array", "items": True, "prefixItems": []}, {"type": "array"}),
        ({"type": "array", "items": {}, "maxItems": 1}, {"type": "array", "items": {}, "maxItems": 1}),
        (
            {"type": "array", "prefixItems": [True], "minItems": 0, "maxItems": 1},
            {"type": "array", "prefixItems": [{}], "items": False, "minItems": 1, "maxItems": 1},
        ),
        (
            {"type": "object", "patternProperties": {"^a": NULL}},
            {"type": "object", "patternProperties": {"^a": NULL}, "additionalProperties": False},
        ),
        (
            {"type": "object", "patternProperties": {r"^\w$": NULL}},
            {
                "description": r"With keys matching the regular expression `^\w$`.",
                "type": "object",
                "additionalProperties": NULL,
            },
        ),
        ({"not": NULL, "contains": True}, {"contains": True, "not": NULL}),
        (True, True),
        (False, False),
    ],
)  # fmt: skip
def test_what_is_published(written: Any, published: Any) -> None:
    """In the form that strict validators read, and the same once more."""
    assert canonical(written) == published
    assert canonical(published) == published


def test_what_was_written_is_left_as_it_is() -> None:
    """Schemas of libraries may be shared."""
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "default": 1}}}
    assert canonical(schema)["properties"] == {"a": {"type": "integer"}}
    assert schema["properties"] == {"a": {"type": "integer", "default": 1}}


def test_the_order_of_keywords_is_one() -> None:
    """Two who write the same give the same bytes."""
    assert list(canonical({"minLength": 1, "type": "string", "description": "d"})) == [
        "description",
        "type",
        "minLength",
    ]
