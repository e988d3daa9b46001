"""
JSON Schema 2020-12, which the model speaks, and draft-07, which AsyncAPI 3.0 does: the same schemas in both.

They differ in arrays whose places have schemas of their own (`prefixItems` and `items` in the one, `items` and
`additionalItems` in the other), and in what stands beside a `$ref`: draft-07 ignores it, so that there the `$ref` goes
into an `allOf`.

    {"prefixItems": [A, B], "items": False}  <->  {"items": [A, B], "additionalItems": False}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

SINGLE = (
    "additionalProperties",
    "items",
    "additionalItems",
    "propertyNames",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedProperties",
    "unevaluatedItems",
    "contentSchema",
)
"""Keywords whose value is a schema."""
LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
"""Keywords whose value is a list of schemas; draft-07's `items` may be one, too."""
NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
"""Keywords whose value has schemas by name."""


_CALLED_REF = r"^\$ref$"
"""A property that is called so, which readers of AsyncAPI take for a reference, is told as a pattern of its name."""


def draft_07(schema: Any) -> Any:
    """A 2020-12 schema in the words of draft-07."""
    return _changed(schema, _to_draft_07)


def draft_2020(schema: Any) -> Any:
    """A draft-07 schema in the words of 2020-12."""
    return _changed(schema, _to_2020)


def subschemas(schema: Any) -> Iterator[Any]:
    """The schemas directly within `schema`; what is data (`const`, `enum`, `default`, `examples`) is none."""
    if not isinstance(schema, Mapping):
        return
    for key, value in schema.items():
        if key in NAMED and isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, list):
            if key in LISTED or key == "items":
                yield from value
        elif key in SINGLE:
            yield value


def references(schema: Any) -> Iterator[str]:
    """Every `$ref` at any depth of `schema`, in its order; none is followed."""
    waiting = [schema]
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        waiting += reversed(list(subschemas(schema)))


def _changed(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    return change({key: _changed_part(key, value, change) for key, value in schema.items()})


def _changed_part(key: str, value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if key in NAMED and isinstance(value, Mapping):
        return {name: _changed(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [_changed(each, change) for each in value] if key in LISTED or key == "items" else value
    return _changed(value, change) if key in SINGLE else value


def _to_draft_07(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema and len(schema) > 1:
        reference = {"$ref": schema.pop("$ref")}
        schema["allOf"] = [reference, *schema.get("allOf", ())]
    if "$ref" in schema.get("properties", ()):
        properties = dict(schema["properties"])
        patterns = {_CALLED_REF: properties.pop("$ref"), **schema.get("patternProperties", {})}
        schema |= {"properties": properties, "patternProperties": patterns}
    if "prefixItems" in schema:
        renamed = {"items": "additionalItems", "prefixItems": "items"}
        return {renamed.get(key, key): value for key, value in schema.items()}
    return schema


def _to_2020(schema: dict[str, Any]) -> dict[str, Any]:
    if _CALLED_REF in schema.get("patternProperties", ()):
        patterns = dict(schema.pop("patternProperties"))
        schema["properties"] = {**schema.get("properties", {}), "$ref": patterns.pop(_CALLED_REF)}
        schema |= {"patternProperties": patterns} if patterns else {}
    if isinstance(schema.get("items"), list):
        renamed = {"items": "prefixItems", "additionalItems": "items"}
        return {renamed.get(key, key): value for key, value in schema.items()}
    schema.pop("additionalItems", None)  # says nothing without places
    return schema
