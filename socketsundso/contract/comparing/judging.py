"""
Whether a JSON Schema takes a value, in three answers: it does, it does not, or that cannot be told here.

What cannot be told: formats, keywords that the contract's schemas do not use, and what refers to itself without end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from socketsundso.contract.asyncapi import component_name
from socketsundso.contract.model import Schema

ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "discriminator"}
)
"""Keywords that refuse nothing."""
_MAX_DEPTH = 64
_UNKNOWN = {"": ""}  # what nobody can judge

_KINDS: dict[type, str] = {str: "string", list: "array", dict: "object"}

Verdict = bool | None


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(each, other[key]) for key, each in one.items())
    return bool(one == other)


def kind_of(value: Any) -> str:
    """The type of a JSON value; `integer` also for 1.0."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) or value.is_integer() else "number"
    return _KINDS.get(type(value), "null")


def is_of(kind: str, types: Iterable[str]) -> bool:
    """Whether a value of this type is one of these types."""
    return kind in types or (kind == "integer" and "number" in types)


def types_of(schema: Schema) -> list[str] | None:
    """The types that a schema names, if it does."""
    named = schema.get("type")
    return [named] if isinstance(named, str) else named


def judge(value: Any, schema: Any, components: Mapping[str, Schema], depth: int = 0) -> Verdict:
    """True where `schema` takes `value`, False where it refuses it, None where that cannot be told."""
    if isinstance(schema, bool):
        return schema
    if depth > _MAX_DEPTH:
        return None
    return _all(_verdicts(value, schema, components, depth + 1))


def _all(verdicts: Iterable[Verdict]) -> Verdict:
    worst: Verdict = True
    for verdict in verdicts:
        if verdict is False:
            return False
        worst = worst and verdict
    return worst


def _any(verdicts: Iterable[Verdict]) -> Verdict:
    denied = _all(not each if each is not None else None for each in verdicts)
    return None if denied is None else not denied


def _one(verdicts: Iterable[Verdict]) -> Verdict:
    given = list(verdicts)
    if given.count(True) > 1:
        return False
    return None if None in given else given.count(True) == 1


def _verdicts(value: Any, schema: Schema, components: Mapping[str, Schema], depth: int) -> Iterator[Verdict]:
    """What each keyword says."""
    for key, said in schema.items():
        if key == "$ref":
            target = components.get(component_name(said))
            yield None if target is None else judge(value, target, components, depth)
        elif key in _COMBINED:
            yield _COMBINED[key](judge(value, each, components, depth) for each in said)
        elif key == "not":
            verdict = judge(value, said, components, depth)
            yield None if verdict is None else not verdict
        elif key in _PLAIN:
            yield _PLAIN[key](value, said)
        elif key in ("items", "prefixItems"):
            yield _all(judge(each, part, components, depth) for each, part in _items(value, schema, key))
        elif key in ("properties", "patternProperties", "additionalProperties"):
            yield _all(judge(each, part, components, depth) for each, part in _members(value, schema, key))
        elif key == "propertyNames":
            yield _all(judge(each, said, components, depth) for each in value) if isinstance(value, dict) else True
        elif key not in ANNOTATIONS:
            yield None


_COMBINED = {"allOf": _all, "anyOf": _any, "oneOf": _one}


def _items(value: Any, schema: Schema, key: str) -> Iterator[tuple[Any, Any]]:
    """The items that this keyword is about, each with its schema."""
    if not isinstance(value, list):
        return
    places = schema.get("prefixItems", [])
    yield from (
        zip(value, places, strict=False)
        if key == "prefixItems"
        else ((each, schema["items"]) for each in value[len(places) :])
    )


def _members(value: Any, schema: Schema, key: str) -> Iterator[tuple[Any, Any]]:
    """The members that this keyword is about, each with its schema."""
    if not isinstance(value, dict):
        return
    for name, each in value.items():
        found = {pattern: matches(pattern, name) for pattern in schema.get("patternProperties", ())}
        patterns = [schema["patternProperties"][pattern] for pattern, does in found.items() if does is not False]
        if key == "properties" and name in schema[key]:
            yield each, schema[key][name]
        elif None in found.values():
            yield each, _UNKNOWN
        elif key == "patternProperties":
            yield from ((each, part) for part in patterns)
        elif key == "additionalProperties" and not patterns and name not in schema.get("properties", {}):
            yield each, schema[key]


def matches(pattern: str, text: str) -> Verdict:
    """Whether a pattern is found in a text; None where it is none to Python, or engines differ over it."""
    try:
        found = re.search(pattern, text)
    except (re.error, RecursionError, OverflowError):
        return None
    return None if text.endswith("\n") and "$" in pattern else found is not None


def _for(kinds: str, test: Any) -> Any:
    """A keyword that says something of values of these types alone."""
    return lambda value, said: test(value, said) if kind_of(value) in kinds.split() else True


def _is_multiple(value: float, factor: float) -> bool:
    return (Fraction(str(value)) / Fraction(str(factor))).denominator == 1


def _are_unique(value: list[Any], wanted: bool) -> bool:
    return not wanted or not any(same(one, other) for at, one in enumerate(value) for other in value[:at])


_NUMBER = "integer number"
_PLAIN: dict[str, Any] = {
    "type": lambda value, said: is_of(kind_of(value), [said] if isinstance(said, str) else said),
    "const": same,
    "enum": lambda value, said: any(same(value, each) for each in said),
    "minimum": _for(_NUMBER, lambda value, said: value >= said),
    "maximum": _for(_NUMBER, lambda value, said: value <= said),
    "exclusiveMinimum": _for(_NUMBER, lambda value, said: value > said),
    "exclusiveMaximum": _for(_NUMBER, lambda value, said: value < said),
    "multipleOf": _for(_NUMBER, _is_multiple),
    "minLength": _for("string", lambda value, said: len(value) >= said),
    "maxLength": _for("string", lambda value, said: len(value) <= said),
    "pattern": _for("string", lambda value, said: matches(said, value)),
    "minItems": _for("array", lambda value, said: len(value) >= said),
    "maxItems": _for("array", lambda value, said: len(value) <= said),
    "uniqueItems": _for("array", _are_unique),
    "minProperties": _for("object", lambda value, said: len(value) >= said),
    "maxProperties": _for("object", lambda value, said: len(value) <= said),
    "required": _for("object", lambda value, said: all(name in value for name in said)),
    "format": _for("string", lambda value, said: None),
    "contentEncoding": _for("string", lambda value, said: None),
}
"""What keywords say of a value without looking further into it."""
