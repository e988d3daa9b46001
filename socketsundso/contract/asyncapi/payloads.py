"""
A message as it is on the wire: the envelope's keys and its fields in one flat object, and back.

    {"type": "object", "properties": {"msg": M}, "required": ["msg"]}
    ->  {"type": "object", "properties": {"type": {"const": "say"}, "msg": M, "ref": R}, "required": ["type", "msg"]}

Fields that are a `$ref` are copied, since an object that permits no other keys cannot be extended from outside; a
union of objects becomes the union of what is made of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from socketsundso.contract.model import Schema
from socketsundso.errors import ContractError

COMPONENTS = "#/components/schemas/"
_MERGED_KEYS = {"type", "properties", "required", "additionalProperties", "title", "description", "examples"}
"""What an object may say that is merged with others (`allOf`)."""
_MAX_PARTS = 1000


def component(name: str) -> dict[str, str]:
    """The reference to a component: what `component_name` takes apart."""
    return {"$ref": COMPONENTS + name.replace("~", "~0").replace("/", "~1")}


def component_name(reference: str) -> str:
    """The component that `reference` is to, or "" where it is to something else."""
    name = reference.removeprefix(COMPONENTS)
    if name == reference or "/" in name:
        return ""
    return name.replace("~1", "/").replace("~0", "~")


def flat(
    schema: Schema, envelope: Mapping[str, Schema], required: Iterable[str], components: Mapping[str, Schema]
) -> dict[str, Any]:
    """
    `schema`, an object, with the keys of the envelope, of which the `required` ones have to be there.

    Raises `ContractError` where it is no object.
    """
    kind = next(iter(envelope))
    return extended(schema, envelope, [kind, *required], components, without=kind)


def extended(
    schema: Schema,
    more: Mapping[str, Schema],
    required: list[str],
    components: Mapping[str, Schema],
    *,
    without: str = "",
) -> dict[str, Any]:
    """`schema`, an object, with more properties before its own, of which it may not have the one `without`."""
    objects = [_extended(each, more, required, without) for each in branches(schema, components)]
    return objects[0] if len(objects) == 1 else {"anyOf": objects}


def fields_of(payload: Mapping[str, Any], envelope: Mapping[str, Schema]) -> dict[str, Any]:
    """What a flat object says of its fields: it without what it has of the envelope."""
    properties = payload.get("properties", {})
    ours = {name for name, each in properties.items() if name in envelope and envelope[name] == each}
    own = {name: each for name, each in properties.items() if name not in ours}
    required = [name for name in payload.get("required", ()) if name not in ours]
    fields = dict(payload) | {"properties": own, "required": required}
    return {key: value for key, value in fields.items() if value or key not in ("properties", "required")}


def whole_object(schema: Any, components: Mapping[str, Schema]) -> dict[str, Any]:
    """
    `schema` as one object: without a `$ref` or an `allOf` on its top, whose parts are merged.

    Raises `ContractError` where it is none, for a `$ref` to what is not there, and where parts cannot be merged.
    """
    whole: dict[str, Any] = {}
    for part in _parts(schema, components):
        whole = _both(whole, part)
    if whole.get("type", "object") != "object":
        raise ContractError(f"a message is an object, not {whole['type']!r}")
    return whole


def branches(schema: Any, components: Mapping[str, Schema]) -> list[dict[str, Any]]:
    """The objects that `schema` is any of; where it is no union, itself."""
    waiting, objects, seen = [schema], [], 0
    while waiting:
        whole = whole_object(waiting.pop(), components)
        union = next((key for key in ("anyOf", "oneOf") if key in whole and "properties" not in whole), None)
        if union is None:
            objects.append(whole)
        else:
            waiting += reversed(whole[union])
        seen = _counted(seen)
    return objects


def _parts(schema: Any, components: Mapping[str, Schema]) -> list[dict[str, Any]]:
    """What `schema` is all of: what its `$ref` is to, the members of its `allOf`, and its own keywords."""
    waiting, parts, seen = [schema], [], 0
    while waiting:
        schema = waiting.pop()
        if not isinstance(schema, Mapping):
            if schema is not True:
                raise ContractError(f"{schema!r} is not the schema of an object")
            continue
        own = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        if "$ref" in schema or "allOf" in schema:
            members = [component_at(schema["$ref"], components)] if "$ref" in schema else []
            waiting += reversed([*members, *schema.get("allOf", ()), own])
        else:
            parts.append(own)
        seen = _counted(seen)
    return parts


def component_at(reference: str, components: Mapping[str, Schema]) -> Schema:
    """The component that `reference` is to; `ContractError` where there is none."""
    name = component_name(reference)
    if name not in components:
        raise ContractError(f"there is no schema {reference}")
    return components[name]


def _counted(seen: int) -> int:
    """One more; schemas that name each other, or themselves, come to an end here."""
    if seen == _MAX_PARTS:
        raise ContractError(f"a schema of more than {_MAX_PARTS} others, or of itself")
    return seen + 1


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The object that is `one` and `other`; where one of them has only words, the later words count."""
    if _says_nothing(one) or _says_nothing(other):
        return one | other
    if not set(one) | set(other) <= _MERGED_KEYS:
        raise ContractError(f"an allOf of more than objects and their properties: {', '.join({**one, **other})}")
    properties = {**one.get("properties", {})}
    for name, each in other.get("properties", {}).items():
        properties[name] = {"allOf": [properties[name], each]} if properties.get(name, each) != each else each
    both = one | other | {"type": "object", "properties": properties}
    required = dict.fromkeys([*one.get("required", ()), *other.get("required", ())])
    return both | {"required": list(required)} if required else both


def _says_nothing(schema: dict[str, Any]) -> bool:
    return not set(schema) - {"title", "description"}


def _extended(
    schema: dict[str, Any], envelope: Mapping[str, Schema], required: list[str], without: str
) -> dict[str, Any]:
    own = {name: each for name, each in schema.get("properties", {}).items() if name != without}
    whole: dict[str, Any] = {"type": "object"} | schema
    whole["properties"] = {**envelope, **own}
    first = [without] if without else []
    if needed := list(dict.fromkeys([*first, *schema.get("required", ()), *required])):
        whole["required"] = needed
    for count, more in (("minProperties", len(required)), ("maxProperties", len(envelope))):
        if count in whole:
            whole[count] += more
    if "propertyNames" in whole:
        whole["propertyNames"] = {"anyOf": [{"enum": list(envelope)}, whole["propertyNames"]]}
    if "patternProperties" in whole:
        patterns = whole["patternProperties"].items()
        whole["patternProperties"] = {_apart(pattern, envelope): each for pattern, each in patterns}
    # samples of the fields alone
    for key in ("default", "examples"):
        whole.pop(key, None)
    return whole


def _apart(pattern: str, keys: Iterable[str]) -> str:
    """`pattern` for all names but `keys`, which have schemas of their own. Patterns match anywhere in a name."""
    names = "|".join(map(_escaped, keys))
    return f"^(?!(?:{names})$)[\\s\\S]*?(?:{pattern})"


def _escaped(name: str) -> str:
    """In the regular expressions of JavaScript and Python alike."""
    return "".join(c if c.isalnum() or c in "_-" or ord(c) > 127 else f"\\{c}" for c in name)
