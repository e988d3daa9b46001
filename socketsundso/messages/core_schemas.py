"""
What pydantic's core schemas tell about how a value will be written: which keys, and whether as declared.

Core schemas are documented, but not stable; whatever is not known here counts as "not known", never as harmless.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def written_keys(schema: Any, by_alias: bool = True, definitions: Any = None) -> frozenset[str] | None:
    """All keys that pydantic can write at the top level of a value with this core schema, or None if not known."""
    if not is_written_as_declared(schema):
        return None
    match schema["type"]:
        case "definitions":
            known = {each["ref"]: each for each in schema["definitions"]}
            return written_keys(schema["schema"], by_alias, known)
        case "definition-ref" if definitions and schema["schema_ref"] in definitions:
            return written_keys(definitions[schema["schema_ref"]], by_alias, definitions)
        case "union":
            choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
            return _keys_of_all([written_keys(choice, by_alias, definitions) for choice in choices])
        case "tagged-union":
            return _keys_of_all([written_keys(each, by_alias, definitions) for each in schema["choices"].values()])
        case "model" | "dataclass" | "nullable" | "function-before" | "function-after" | "function-wrap":
            return written_keys(schema["schema"], by_alias, definitions)
        case "model-fields" | "typed-dict":
            return _field_keys(schema, schema["fields"].items(), by_alias)
        case "dataclass-args":
            return _field_keys(schema, [(field["name"], field) for field in schema["fields"]], by_alias)
    return None


def is_written_as_declared(schema: Any) -> bool:
    """Nothing but the declared fields, that is, and those as JSON: no serializer of its own, no extras."""
    config = schema.get("config") or {}
    return not (
        "serialization" in schema
        or schema.get("root_model")
        or "allow" in (schema.get("extra_behavior"), config.get("extra_fields_behavior"))
        or config.get("polymorphic_serialization")
    )


def may_write_nan(schema: Any) -> bool:
    """Does any model in this core schema, however deep, have the config to write NaN and Infinity as they are?"""
    todo, seen = [schema], set()
    while todo:
        part = todo.pop()
        if not isinstance(part, dict | list | tuple) or id(part) in seen:  # a default may hold anything, itself too
            continue
        seen.add(id(part))
        if not isinstance(part, dict):
            todo += part
        elif part.get("ser_json_inf_nan") == "constants":
            return True
        else:
            todo += part.values()
    return False


def _keys_of_all(alternatives: list[frozenset[str] | None]) -> frozenset[str] | None:
    known = [keys for keys in alternatives if keys is not None]
    return frozenset().union(*known) if len(known) == len(alternatives) else None


def _field_keys(schema: Any, fields: Iterable[tuple[str, Any]], by_alias: bool) -> frozenset[str]:
    keys = {(by_alias and field.get("serialization_alias")) or name for name, field in fields}
    for computed in schema.get("computed_fields", ()):
        keys.add((by_alias and computed.get("alias")) or computed["property_name"])
    return frozenset(keys)
