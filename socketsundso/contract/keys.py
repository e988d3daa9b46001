"""What the keys of a JSON object look like, which are texts whatever they are in Python: `{1: "a"}` is `{"1": "a"}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, AliasPath

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


def taken_from(alias: AliasPath | AliasChoices) -> str:
    """The key that a field with such an alias is taken from: of a path, its first."""
    paths = [alias] if isinstance(alias, AliasPath) else alias.choices
    keys = [each if isinstance(each, str) else each.path[0] for each in paths]
    whole = [key for key, each in zip(keys, paths, strict=True) if isinstance(each, str) or len(each.path) == 1]
    return str((whole or keys)[0])
