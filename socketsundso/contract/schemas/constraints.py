"""
What is demanded of a value beside its type: as keywords of JSON Schema where there is one, else in words.

    demanding({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"min_length": 2, "gt": 0})
    ->   {"anyOf": [{"type": "string", "minLength": 2}, {"type": "integer", "exclusiveMinimum": 0}]}

Demands have annotated-types' names: gt, ge, lt, le, multiple_of, min_length, max_length, pattern.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

Schema = dict[str, Any]
TOLD = "x-told"
"""What no keyword says, in words; it ends in the description."""
CHANGED = "x-changed"
"""
Marks what a validator of the application may have made another value of, with the bounds that came before: what is
demanded later is of that other value.
"""

IF_AWARE = "x-if-aware"
"""The format of a time that is known to have an offset: RFC 3339 has none without."""

_NUMBERS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum",
            "multiple_of": "multipleOf"}  # fmt: skip
_BY_TYPE: dict[str, dict[str, str]] = {
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "string": {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"},
    "array": {"min_length": "minItems", "max_length": "maxItems"},
    "object": {"min_length": "minProperties", "max_length": "maxProperties"},
}
_WORDS = {
    "gt": "greater than {}", "ge": "at least {}", "lt": "less than {}", "le": "at most {}",
    "multiple_of": "a multiple of {}", "min_length": "at least {} long", "max_length": "at most {} long",
    "pattern": "matching the regular expression `{}`", "max_digits": "of at most {} digits",
    "decimal_places": "of at most {} decimal places",
}  # fmt: skip
_KEYWORDS = {keyword: demand for names in _BY_TYPE.values() for demand, keyword in names.items()}
_STRAY = frozenset({"gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "max_digits", "decimal_places"})
DEMANDS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
TELLABLE = ("gt", "ge", "lt", "le", "multiple_of", "max_digits", "decimal_places")
"""What may be demanded of a value that is a text and no number in JSON."""


def demanding(schema: Mapping[str, Any], demands: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with these demands, in each of its alternatives those that its type can have."""
    found = dict(schema)
    if "anyOf" in found:
        found["anyOf"] = [each if CHANGED in each else {**each, **_keywords(each, demands)} for each in found["anyOf"]]
        return found
    unsaid = {name: value for name, value in demands.items() if name not in _words_for(found)}
    return told({**found, **_keywords(found, demands)}, unsaid)


def _keywords(schema: Mapping[str, Any], demands: Mapping[str, Any]) -> dict[str, Any]:
    return {keyword: demands[name] for name, keyword in _words_for(schema).items() if name in demands}


def _words_for(schema: Mapping[str, Any]) -> dict[str, str]:
    """The keywords that its type can have; none for a text whose length is that of what it encodes."""
    return {} if "contentEncoding" in schema else _BY_TYPE.get(str(schema.get("type")), {})


def aware(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of times that have an offset."""
    found = dict(schema)
    if "anyOf" in found:
        found["anyOf"] = [aware(each) for each in found["anyOf"]]
    if IF_AWARE in found:
        found["format"] = found.pop(IF_AWARE)
    return found


def is_exact(bound: Any) -> bool:
    """Do all who compute with it in floats come to one result? 0.3 is no multiple of 0.1 to some."""
    if not isinstance(bound, float):
        return True
    return math.isfinite(bound) and Decimal(bound) == Decimal(repr(bound))


def told(schema: Mapping[str, Any], demands: Mapping[str, Any], when: str = "") -> dict[str, Any]:
    """The schema with these demands in words; `when` they are made."""
    said = ", ".join(_WORDS[name].format(value) for name, value in demands.items())
    sentence = f"{when}{said}."
    return {**schema, TOLD: [*schema.get(TOLD, ()), sentence[:1].upper() + sentence[1:]]} if said else dict(schema)


def taken_off(schema: Mapping[str, Any], kept: Mapping[str, Any] = MappingProxyType({})) -> tuple[Schema, Schema]:
    """The schema with none of the bounds at its top but those that are `kept`, and the others as demands."""
    bounds = {key: value for key, value in schema.items() if key in _KEYWORDS or key in _STRAY}
    rest = {key: value for key, value in schema.items() if key not in bounds}
    gone = {_KEYWORDS.get(key, key): value for key, value in bounds.items() if kept.get(key) != value}
    return {**rest, **kept}, gone


def bounds_of(schema: Mapping[str, Any]) -> Schema:
    """The keywords at its top that bound a value."""
    return {key: value for key, value in schema.items() if key in _KEYWORDS}


def settled_demands(schema: Mapping[str, Any]) -> tuple[Schema, Schema]:
    """The schema without demands that stand where they say nothing, and these: `gt`, `minLength` of an array."""
    meant = _BY_TYPE.get(str(schema.get("type")), {}).values()
    return taken_off(schema, {key: value for key, value in bounds_of(schema).items() if key in meant})
