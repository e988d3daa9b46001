"""Keys of JSON objects: texts, whatever they are in Python (`{1: "a"}` is `{"1": "a"}`), and which a field is at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_INTEGER = "^-?[0-9]+$"


def as_key(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a key, from that of the value; nothing where any text may be one."""
    found = schema
    while "$ref" in found:
        found = definitions.get(found["$ref"], {})
    values = [found["const"]] if "const" in found else found.get("enum")
    if values is not None:
        is_text = all(isinstance(each, str) for each in values)
        return dict(schema) if is_text else {"enum": [_written(each) for each in values]}
    if found.get("type") == "integer":
        return {"type": "string", "pattern": _INTEGER}
    says_more = found.get("type") == "string" and found.keys() - {"type", "title"}
    return {key: each for key, each in found.items() if key != "title"} if says_more else {}


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def taken_from(alias: str | Sequence[Any]) -> tuple[str, bool]:
    """
    The key that a field with this alias of pydantic's core schemas is taken from, and whether it is all that is there.

    Of `["names", 0]`, a path, the first key; of several aliases the first that is a key of its own.
    """
    if isinstance(alias, str):
        return alias, True
    paths = [alias] if isinstance(alias[0], str) else list(alias)
    whole = [path for path in paths if len(path) == 1]
    return str((whole or paths)[0][0]), bool(whole)


def require(schema: dict[str, Any], key: str) -> None:
    """One of its properties has to be there."""
    if key in schema.get("properties", ()) and key not in schema.get("required", ()):
        schema["required"] = [*schema.get("required", ()), key]
