"""What a handler's `response_model_*` options leave of the schema of its replies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from socketsundso.messages import ResponseOptions


def is_whole(options: ResponseOptions) -> bool:
    """Is no field chosen or left out by its name?"""
    return options.include is None and not options.exclude


def selected(schema: Mapping[str, Any], kind: Any, options: ResponseOptions) -> dict[str, Any]:
    """The object with the fields that `include` and `exclude` leave; `kind` is its class."""
    key_of = _keys(kind, options.by_alias)
    include, exclude = options.include, options.exclude or {}
    kept = None if include is None else {key_of.get(name, name): _below(include, name) for name in include}
    gone = {key_of.get(name, name): _below(exclude, name) for name in exclude}
    properties: dict[str, Any] = {}
    for key, each in schema.get("properties", {}).items():
        if (kept is not None and key not in kept) or gone.get(key) is True:
            continue
        is_part = gone.get(key) is not None or (kept is not None and kept[key] is not True)
        properties[key] = {} if is_part else each  # of what is chosen within a field, nothing is said
    required = [key for key in schema.get("required", ()) if key in properties]
    return {**schema, "properties": properties, "required": required}


def _keys(kind: Any, by_alias: bool) -> dict[str, str]:
    if not (by_alias and isinstance(kind, type) and issubclass(kind, BaseModel)):
        return {}
    return {name: field.serialization_alias or name for name, field in kind.model_fields.items()}


def _below(choice: Any, name: Any) -> Any:
    """What is chosen within a field; True for all of it."""
    found = choice[name] if isinstance(choice, Mapping) else True
    return True if found is ... else found


def lacking_null(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema where whatever is null is left out of its object."""
    if isinstance(schema, list):
        return [lacking_null(each, definitions) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: lacking_null(each, definitions) for key, each in schema.items()}
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and isinstance(schema.get("required"), list):
        found["required"] = [key for key in schema["required"] if not _may_be_null(properties[key], definitions)]
    return found


def _may_be_null(schema: Mapping[str, Any], definitions: Mapping[str, Any], seen: tuple[str, ...] = ()) -> bool:
    ref = schema.get("$ref")
    if ref is not None:
        return ref not in seen and _may_be_null(definitions.get(ref, {"type": "object"}), definitions, (*seen, ref))
    if schema.get("type") == "null" or not schema.keys() - {"title", "description"}:
        return True
    if None in (*schema.get("enum", ()), schema.get("const", 0)):
        return True
    return any(_may_be_null(each, definitions, seen) for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ())))
