"""JSON Schemas as TypeScript's types: each row is compiled with values that fit and values that do not."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from socketsundso.contract.typescript.types import Types, comment, key, quoted, told
from socketsundso.errors import ContractError
from tests.contract.apis import INTEGER, NUMBER, STRING, fields, ref

COMPONENTS: dict[str, Any] = {
    "Tree": fields("value", "children", value={}, children={"type": "array", "items": ref("Tree")}),
    "Json": {
        "anyOf": [
            STRING,
            NUMBER,
            {"type": "boolean"},
            {"type": "null"},
            {"type": "array", "items": ref("Json")},
            {"type": "object", "additionalProperties": ref("Json")},
        ]
    },
    "Circle": fields("kind", "r", kind={"const": "circle"}, r=NUMBER),
    "Square": fields("kind", "a", kind={"const": "square"}, a=NUMBER),
    "Shape": {"oneOf": [ref("Circle"), ref("Square")]},
    "Side": {"enum": ["buy", "sell"]},
}
TYPES = Types({name: name for name in COMPONENTS})


class Row(NamedTuple):
    schema: Any
    written: str
    fits: tuple[str, ...]
    refused: tuple[str, ...]


NULLABLE = {"anyOf": [STRING, {"type": "null"}]}
PAIR = {"type": "array", "prefixItems": [STRING, NUMBER], "minItems": 2, "maxItems": 2}

ROWS = [
    Row({}, "unknown", ("1", "null", "undefined"), ()),
    Row(True, "unknown", ("1",), ()),
    Row(False, "never", (), ("1", "undefined")),
    Row(STRING, "string", ('"a"',), ("1", "null", "undefined")),
    Row({"type": "string", "format": "date-time"}, "string", ('"2026-01-01T00:00:00Z"',), ("new Date(0)",)),
    Row(INTEGER, "number", ("1",), ('"1"', "1n")),
    Row(NUMBER, "number", ("1.5",), ('"1"',)),
    Row({"type": "boolean"}, "boolean", ("true",), ("0",)),
    Row({"type": "null"}, "null", ("null",), ("undefined",)),
    Row({"const": "a"}, '"a"', ('"a"',), ('"b"', "'a' as string")),
    Row({"const": None}, "null", ("null",), ("0",)),
    Row({"const": [1, {"a": True}]}, "[1, { a: true }]", ("[1, { a: true }]",), ("[1, { a: false }]",)),
    Row({"enum": ["a", 1, None]}, '"a" | 1 | null', ('"a"', "1", "null"), ('"b"', "2", "undefined")),
    Row({"type": "string", "enum": ["a"]}, '"a"', ('"a"',), ('"b"',)),
    Row({"enum": []}, "never", (), ("1",)),
    Row({"type": ["string", "null"]}, "string | null", ('"a"', "null"), ("undefined", "1")),
    Row(NULLABLE, "string | null", ('"a"', "null"), ("undefined",)),
    Row({"anyOf": [STRING, STRING]}, "string", ('"a"',), ("1",)),
    Row({"anyOf": [STRING, {}]}, "unknown", ("1",), ()),
    Row({"type": "array"}, "unknown[]", ('[1, "a"]',), ("{}",)),
    Row({"type": "array", "items": STRING}, "string[]", ("[]", '["a"]'), ("[1]", '"a"')),
    Row({"type": "array", "items": NULLABLE}, "(string | null)[]", ("[null]",), ("[1]", "null")),
    Row({"type": "array", "items": False}, "[]", ("[]",), ("[1]",)),
    Row(PAIR, "[string, number]", ('["a", 1]',), ('["a"]', '["a", 1, 1]', '[1, "a"]')),
    Row(
        {"type": "array", "prefixItems": [STRING, NULLABLE], "items": NUMBER, "minItems": 1},
        "[string, (string | null)?, ...number[]]",
        ('["a"]', '["a", null]', '["a", "b", 1, 2]'),
        ("[]", '["a", 1]', '["a", "b", "c"]'),
    ),
    Row(
        fields("a", a=STRING, b=INTEGER),
        "{ a: string; b?: number }",
        ('{ a: "x" }', '{ a: "x", b: 1 }'),
        ("{}", '{ a: "x", b: undefined }', '{ a: "x", c: 1 }'),
    ),
    Row(fields(), "{ [key: string]: never }", ("{}",), ("{ a: 1 }",)),
    Row({"type": "object"}, "{ [key: string]: unknown }", ("{ a: 1 }",), ("1",)),
    Row(
        {"type": "object", "additionalProperties": NUMBER},
        "{ [key: string]: number }",
        ("{}", "{ a: 1 }"),
        ('{ a: "x" }',),
    ),
    Row(
        {"type": "object", "properties": {"a": STRING}, "additionalProperties": True, "required": ["a"]},
        "{ a: string; [key: string]: unknown }",
        ('{ a: "x", b: 1 }',),
        ("{ b: 1 }",),
    ),
    Row(
        {"type": "object", "additionalProperties": NUMBER, "propertyNames": {"enum": ["a", "b"]}},
        '{ [key in "a" | "b"]?: number }',
        ("{}", "{ a: 1 }"),
        ("{ c: 1 }", '{ a: "x" }'),
    ),
    Row(
        {"type": "object", "patternProperties": {"^a": NUMBER, "^b": STRING}, "additionalProperties": False},
        "{ [key: string]: number | string }",
        ('{ a: 1, b: "x" }',),
        ("{ a: true }",),
    ),
    Row(
        {
            "type": "object",
            "properties": {"a-b": STRING, "": STRING, "1": STRING, "__proto__": STRING, "class": STRING},
        },
        '{ "a-b"?: string; ""?: string; "1"?: string; __proto__?: string; class?: string }',
        ('{ "a-b": "x", "": "", 1: "x", class: "x" }',),
        ("{ class: 1 }",),
    ),
    Row(ref("Side"), "Side", ('"buy"',), ('"bye"',)),
    Row({"allOf": [ref("Circle")], "description": "Round."}, "Circle", ('{ kind: "circle", r: 1 }',), ("{ r: 1 }",)),
    Row(
        {"allOf": [ref("Circle"), fields("name", name=STRING)]},
        "Circle & { name: string }",
        ('{ kind: "circle", r: 1, name: "x" }',),
        ('{ kind: "circle", r: 1 }',),
    ),
    Row(
        {"allOf": [{"anyOf": [STRING, NUMBER]}, {"anyOf": [NUMBER, {"type": "null"}]}]},
        "(string | number) & (number | null)",
        ("1",),
        ('"a"', "null"),
    ),
    Row(
        ref("Shape"),
        "Shape",
        ('{ kind: "circle", r: 1 }', '{ kind: "square", a: 1 }'),
        ('{ kind: "circle", a: 1 }', '{ kind: "oval", a: 1 }'),
    ),
    Row(
        ref("Tree"),
        "Tree",
        ("{ value: 1, children: [{ value: null, children: [] }] }",),
        ("{ value: 1, children: [{ value: 1 }] }",),
    ),
    Row(ref("Json"), "Json", ('{ a: [1, { b: null }], c: "x" }',), ("{ a: undefined }", "() => 1")),
    Row({"type": "array", "items": ref("Shape")}, "Shape[]", ("[]",), ("[1]",)),
    Row({"items": STRING}, "string[]", ('["a"]',), ("[1]",)),
]
"""A schema, its type as it is written, values of the type, and values that are none."""


def sample() -> str:
    """A file in which every value that fits is assigned, and each that does not is expected to be an error."""
    lines = [f"type {name} = {TYPES.of(schema)};" for name, schema in COMPONENTS.items()]
    for number, row in enumerate(ROWS):
        lines.append(f"type T{number} = {TYPES.of(row.schema)};")
        lines += [f"export const fits_{number}_{at}: T{number} = {value};" for at, value in enumerate(row.fits)]
        for at, value in enumerate(row.refused):
            lines += ["// @ts-expect-error", f"export const refused_{number}_{at}: T{number} = {value};"]
    return "\n".join(lines)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.written)
def test_a_schema_is_written_as_a_type(row: Row) -> None:
    """Each alternative once, parentheses where they are needed, and only there."""
    assert TYPES.of(row.schema) == row.written


def test_a_type_that_json_schema_does_not_have_is_refused() -> None:
    """A document of others may have any."""
    with pytest.raises(ContractError, match="'file'"):
        TYPES.of({"type": "file"})


def test_fields_tell_what_types_cannot() -> None:
    """Descriptions and bounds stand in front of them; many fields have a line each."""
    schema = fields(
        "a",
        a={"type": "string", "description": "A name.", "minLength": 1, "maxLength": 40, "pattern": "^x*/$"},
        b={"type": "integer", "exclusiveMinimum": 0, "default": 1, "deprecated": True},
        c={"type": "array", "items": STRING, "maxItems": 3, "uniqueItems": True},
    )
    assert (
        TYPES.of(schema)
        == """{
  /**
   * A name.
   * 1 to 40 characters; matches ^x*\\/$
   */
  a: string;
  /**
   * more than 0; 1 by default
   * @deprecated
   */
  b?: number;
  /** at most 3 items; each once */
  c?: string[];
}"""
    )


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"minimum": 1, "maximum": 100}, "1 to 100"),
        ({"minimum": 1}, "1 or more"),
        ({"maximum": 2**63 - 1}, "at most 9223372036854775807"),
        ({"multipleOf": 0.5, "exclusiveMaximum": 2}, "less than 2; a multiple of 0.5"),
        ({"format": "date-time", "default": ""}, 'format date-time; "" by default'),
        ({"default": [{"a": None}]}, '[{"a": null}] by default'),
        ({"default": None, "uniqueItems": False}, ""),
        ({"default": False, "uniqueItems": True}, "each once; false by default"),
        ({"description": " two\n\nlines "}, "two\n\nlines"),
    ],
)
def test_what_is_told_of_a_schema(schema: dict[str, Any], text: str) -> None:
    """In words, none where there is nothing to tell."""
    assert told(schema) == text


@given(st.lists(st.text(), max_size=3))
def test_no_text_breaks_out_of_a_comment(texts: list[str]) -> None:
    """It ends where it ends, has no other line separators, and no tag that the generator did not put there."""
    written = comment(*texts, tags=["deprecated"])
    assert written.startswith("/**")
    assert written.endswith("*/\n")
    assert written.count("*/") == 1
    assert all(char.isprintable() or char == "\n" for char in written)
    assert re.findall(r"(?<![\w\\])@\w+", written) == ["@deprecated"]


@given(st.text())
def test_a_literal_is_its_text_and_nothing_more(text: str) -> None:
    """JavaScript reads it as JSON does; nothing in it ends a line or a comment of others, or is not seen."""
    written = quoted(text)
    assert json.loads(written) == text
    assert written.isprintable()


@given(st.text())
def test_a_key_is_bare_or_a_literal(text: str) -> None:
    """Bare only where every engine takes it so."""
    written = key(text)
    assert (written == text and re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", text)) or json.loads(written) == text
