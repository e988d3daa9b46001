"""
What pydantic's core schemas tell about how a value will be written: which keys, and whether as declared.

Core schemas are documented, but not stable; whatever is not known here counts as "not known", never as harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
        case "union" | "tagged-union":
            return _keys_of_all([written_keys(choice, by_alias, definitions) for choice in _choices(schema)])
        case "model" | "dataclass" | "nullable" | "function-before" | "function-after" | "function-wrap":
            return written_keys(schema["schema"], by_alias, definitions)
        case "model-fields" | "typed-dict":
            return _field_keys(schema, schema["fields"].items(), by_alias)
        case "dataclass-args":
            return _field_keys(schema, [(field["name"], field) for field in schema["fields"]], by_alias)
    return None


def written_as(schema: Any, key: str, by_alias: bool = True, definitions: Any = None) -> list[Any]:
    """The core schemas of what pydantic can write under `key` at the top level, as far as they are known."""
    if "serialization" in schema or schema.get("root_model"):
        return []
    match schema["type"]:
        case "definitions":
            known = {each["ref"]: each for each in schema["definitions"]}
            return written_as(schema["schema"], key, by_alias, known)
        case "definition-ref" if definitions and schema["schema_ref"] in definitions:
            return written_as(definitions[schema["schema_ref"]], key, by_alias, definitions)
        case "union" | "tagged-union":
            return [found for choice in _choices(schema) for found in written_as(choice, key, by_alias, definitions)]
        case "model" | "dataclass" | "nullable" | "function-before" | "function-after" | "function-wrap":
            return written_as(schema["schema"], key, by_alias, definitions)
        case "model-fields" | "typed-dict":
            fields = list(schema["fields"].items())
        case "dataclass-args":
            fields = [(field["name"], field) for field in schema["fields"]]
        case _:
            return []
    computed = [(field["property_name"], field) for field in schema.get("computed_fields", ())]
    return [
        field["schema"] if "schema" in field else field["return_schema"]
        for name, field in [*fields, *computed]
        if ((by_alias and (field.get("serialization_alias") or field.get("alias"))) or name) == key
        and not field.get("serialization_exclude")
    ]


_NO_TEXTS = frozenset(
    {"int", "float", "bool", "complex", "list", "set", "frozenset", "tuple", "dict", "model-fields", "typed-dict",
     "dataclass"}
)  # fmt: skip
_LIBRARIES = ("pydantic", "pydantic_core", "annotated_types", "msgspec", "socketsundso")
_SEEN_THROUGH = ("default", "model", "function-before")  # what a validator gives after it is not known


def writes_no_text(schema: Any) -> bool:
    """Is what has this core schema certainly never written as a string, nor as null?"""
    if "serialization" in schema:
        return False
    match schema["type"]:
        case "literal":
            return not any(isinstance(getattr(each, "value", each), str | None) for each in schema["expected"])
        case "enum":
            return not any(isinstance(member.value, str | None) for member in schema["members"])
        case "union":
            return all(map(writes_no_text, _choices(schema)))
        case kind if kind in _SEEN_THROUGH:
            return writes_no_text(schema["schema"])
        case kind:
            return kind in _NO_TEXTS


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
    return any(part.get("ser_json_inf_nan") == "constants" for part in _parts(schema))


def nests_fields(schema: Any) -> bool:
    """Are there fields, or items, below the fields at the top?"""
    nesting = (
        "model-fields",
        "dataclass-args",
        "typed-dict",
        "named-tuple",
        "list",
        "set",
        "frozenset",
        "tuple",
        "dict",
    )
    return sum(part.get("type") in nesting or part.get("root_model") is True for part in _parts(schema)) > 1


def is_of_application(function: Any) -> bool:
    """Was it written by users, not by one of the libraries?"""
    module = getattr(getattr(function, "func", function), "__module__", None) or ""
    return str(module).partition(".")[0] not in _LIBRARIES


def is_silent(serialization: Any) -> bool:
    """Is it a serializer of the application that does not say what it gives?"""
    is_function = serialization.get("type") in ("function-plain", "function-wrap")
    return is_function and "return_schema" not in serialization and is_of_application(serialization["function"])


def silent_serializers(schema: Any) -> list[str]:
    """The names of those in a core schema."""
    found = [part["serialization"]["function"] for part in _parts(schema) if is_silent(part.get("serialization", {}))]
    return [getattr(function, "__qualname__", repr(function)) for function in found]


def declared_names(schema: Any) -> frozenset[str]:
    """All names of fields, aliases, classes and tags in a core schema."""
    found: set[Any] = set()
    for part in _parts(schema):
        match part.get("type"):
            case "model-fields" | "typed-dict":
                found.update(part["fields"])
            case "dataclass-args":
                found.update(field["name"] for field in part["fields"])
            case "tagged-union":
                found.update(map(str, part["choices"]))
            case "union":
                found.update(choice[1] for choice in part["choices"] if isinstance(choice, tuple))
        if isinstance(part.get("cls"), type):
            found.add(part["cls"].__name__)
        found.add(part.get("cls_name"))
        alias = part.get("validation_alias")
        paths = [[alias]] if isinstance(alias, str) else alias or []
        found.update(step for path in paths for step in (path if isinstance(path, list) else [path]))
    return frozenset(name for name in found if isinstance(name, str))


def _parts(schema: Any) -> Iterator[dict[Any, Any]]:
    """All dicts in a core schema, however deep."""
    todo, seen = [schema], set()
    while todo:
        part = todo.pop()
        if not isinstance(part, dict | list | tuple) or id(part) in seen:  # a default may hold anything, itself too
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            yield part
            todo += part.values()
        else:
            todo += part


def _choices(schema: Any) -> list[Any]:
    """The alternatives of a union, without their labels."""
    choices = schema["choices"]
    if isinstance(choices, dict):
        return list(choices.values())
    return [choice[0] if isinstance(choice, tuple) else choice for choice in choices]


def _keys_of_all(alternatives: list[frozenset[str] | None]) -> frozenset[str] | None:
    known = [keys for keys in alternatives if keys is not None]
    return frozenset().union(*known) if len(known) == len(alternatives) else None


def _field_keys(schema: Any, fields: Iterable[tuple[str, Any]], by_alias: bool) -> frozenset[str]:
    keys = {(by_alias and field.get("serialization_alias")) or name for name, field in fields}
    for computed in schema.get("computed_fields", ()):
        keys.add((by_alias and computed.get("alias")) or computed["property_name"])
    return frozenset(keys)
