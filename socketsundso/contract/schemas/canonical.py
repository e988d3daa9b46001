"""
The last pass over a JSON Schema: what pydantic, msgspec or an application wrote -> keywords of 2020-12 alone.

Whatever a validator of that dialect does not know, or two of them read in different ways, is translated, or left out
and said in the description. `$ref`s are not looked at: they are the caller's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from socketsundso.contract.schemas.constraints import TOLD, is_exact, told
from socketsundso.contract.schemas.patterns import translated

_SCHEMAS = ("items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_PLAIN = (
    "$ref", "title", "description", "type", "const", "enum", "format", "pattern", "contentEncoding", "contentMediaType",
    "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems",
    "maxItems", "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties", "required",
    "dependentRequired", "default", "examples", "deprecated", "readOnly", "writeOnly",
)  # fmt: skip
_ORDER = {key: at for at, key in enumerate((*_PLAIN[:6], *_MAPS, "required", *_LISTS, *_SCHEMAS, *_PLAIN[6:]))}
_FORMATS = frozenset({"date-time", "date", "time", "email", "uri", "uuid", "ipv4", "ipv6", "hostname"})
_UUID = re.compile(r"uuid\d")
_TYPES: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_OF_TYPE = {
    "string": ("format", "pattern", "contentEncoding", "contentMediaType", "minLength", "maxLength"),
    "number": ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
    "integer": ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
    "array": ("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems", "minContains", "maxContains"),
    "object": (*_MAPS, "additionalProperties", "propertyNames", "required", "minProperties", "maxProperties",
               "dependentRequired"),
}  # fmt: skip


def canonical(schema: Any) -> Any:
    """The same schema in registered keywords, as new dicts in one order."""
    if not isinstance(schema, Mapping):
        return schema is not False or schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _SCHEMAS:
            found[key] = canonical(value)
        elif key in _LISTS and isinstance(value, list | tuple):
            found[key] = [_object(canonical(each)) for each in value]
        elif key in _MAPS and isinstance(value, Mapping):
            found[key] = {str(name): _object(canonical(each)) for name, each in value.items()}
        elif key in _PLAIN or key in (TOLD, "example"):
            found[key] = value
    for repair in _REPAIRS:
        repair(found)
    return {key: found[key] for key in sorted(found, key=lambda key: _ORDER.get(key, len(_ORDER)))}


def _object(schema: Any) -> Any:
    return {} if schema is True else schema


def _values(schema: dict[str, Any]) -> None:
    """Of defaults, constants and examples, what JSON can hold."""
    if "example" in schema:  # OpenAPI's word
        schema.setdefault("examples", [schema.pop("example")])
        schema.pop("example", None)
    for key in ("default", "const"):
        if key in schema and not is_json(schema[key]):
            del schema[key]
    for key in ("examples", "enum"):
        if key in schema:
            values = schema.pop(key)
            if isinstance(values, list | tuple) and (values := _distinct(filter(is_json, values))):
                schema[key] = values


def _distinct(values: Any) -> list[Any]:
    """An enum may list a value under two names; 1 and true are two values."""
    return list({json.dumps(each, sort_keys=True): each for each in values}.values())


def _enum(schema: dict[str, Any]) -> None:
    if len(schema.get("enum", ())) == 1:
        (schema["const"],) = schema.pop("enum")
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        kinds = {_TYPES.get(type(each)) for each in values}
        schema.pop("type", None)
        if len(kinds) == 1 and None not in kinds:
            (schema["type"],) = kinds


def _formats(schema: dict[str, Any]) -> None:
    """`format` is for the registered ones; a validator refuses a schema with a name that it does not know."""
    given = schema.pop("format", None)
    name = "uuid" if isinstance(given, str) and _UUID.fullmatch(given) else given
    if name in _FORMATS:
        schema["format"] = name


def _patterns(schema: dict[str, Any]) -> None:
    if "pattern" in schema:
        given = schema.pop("pattern")
        pattern = translated(str(given))
        if pattern is None:
            schema.update(told(schema, {"pattern": given}))
        else:
            schema["pattern"] = pattern


def _numbers(schema: dict[str, Any]) -> None:
    if not is_exact(schema.get("multipleOf")):
        schema.update(told(schema, {"multiple_of": schema.pop("multipleOf")}))


def _objects(schema: dict[str, Any]) -> None:
    if "patternProperties" in schema:
        given = schema.pop("patternProperties")
        known = {pattern: each for key, each in given.items() if (pattern := translated(key)) is not None}
        if len(known) == len(given):
            schema["patternProperties"] = known
            schema.setdefault("additionalProperties", False)
        else:
            schema["additionalProperties"] = (
                {"anyOf": list(given.values())} if len(given) > 1 else {**given[min(given)]}
            )
            schema.update(told(schema, {"pattern": " or ".join(given)}, "with keys "))
    if schema.get("additionalProperties") in (True, {}):
        del schema["additionalProperties"]
    if schema.get("propertyNames") in (True, {}, {"type": "string"}):
        del schema["propertyNames"]
    for key in ("properties", "required"):
        if not schema.get(key, True):
            del schema[key]
    if "required" in schema:
        order = list(properties := schema.get("properties", {}))
        schema["required"] = sorted(schema["required"], key=lambda key: order.index(key) if key in order else -1)
        for key in schema["required"]:
            properties.get(key, {}).pop("default", None)


def _arrays(schema: dict[str, Any]) -> None:
    if not schema.get("prefixItems", True):
        del schema["prefixItems"]
    if "prefixItems" in schema and schema.get("maxItems") == len(schema["prefixItems"]):
        schema.update(items=False, minItems=schema["maxItems"])  # all of them, as the server writes it
    elif "prefixItems" not in schema and schema.get("items", True) in (True, {}):
        schema.pop("items", None)
        if "minItems" in schema or "maxItems" in schema:  # which zod reads beside `items` alone
            schema["items"] = {}


def _alternatives(schema: dict[str, Any]) -> None:
    """Alternatives are told apart by their tags; that just one of them fits is nobody's question."""
    if "oneOf" in schema and "anyOf" not in schema:
        schema["anyOf"] = schema.pop("oneOf")
    kinds = schema.get("type")
    if isinstance(kinds, list | tuple):
        del schema["type"]
        taken = {key: schema.pop(key) for keys in _OF_TYPE.values() for key in keys if key in schema}
        schema["anyOf"] = [
            {"type": kind, **{key: taken[key] for key in _OF_TYPE.get(kind, ()) if key in taken}} for kind in kinds
        ]
    if "anyOf" in schema:
        schema["anyOf"] = list({json.dumps(each, sort_keys=True): each for each in schema["anyOf"]}.values())
        if len(schema["anyOf"]) == 1:
            (only,) = schema.pop("anyOf")
            if schema.keys() & only.keys() or "$ref" in only:
                schema["allOf"] = [*schema.get("allOf", ()), only]
            else:
                schema.update(only)


def _texts(schema: dict[str, Any]) -> None:
    sentences = schema.pop(TOLD, [])
    texts = [str(schema.pop("description", None) or ""), " ".join(sentences)]
    if any(texts):
        schema["description"] = "\n\n".join(filter(None, texts))
    if not isinstance(schema.get("title", ""), str) or not schema.get("title", "-"):
        del schema["title"]
    if "deprecated" in schema:
        schema["deprecated"] = bool(schema["deprecated"])


def _siblings(schema: dict[str, Any]) -> None:
    """Some readers drop what stands beside a `$ref`."""
    if "$ref" in schema and len(schema) > 1:
        schema["allOf"] = [{"$ref": schema.pop("$ref")}, *schema.get("allOf", ())]
    elif len(schema) == 1 and len(schema.get("allOf", ())) == 1:
        (only,) = schema.pop("allOf")
        schema.update(only)


_REPAIRS: tuple[Callable[[dict[str, Any]], None], ...] = (
    _values, _enum, _formats, _patterns, _numbers, _objects, _arrays, _alternatives, _texts, _siblings,
)  # fmt: skip


def is_json(value: Any) -> bool:
    """Can it stand in a document: no NaN, no object of Python's, nothing that looks like a reference?"""
    if isinstance(value, Mapping):
        return "$ref" not in value and all(isinstance(key, str) and is_json(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_json, value))
    return value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))
