"""
A message as it is on the wire of its channel, whichever envelope that has, and back: `payload` and `fields_in`.

    Wire()                             {"type": const, "msg": M, "ref": R}       the fields beside the envelope's keys
    Wire("event", data_key="payload")  {"event": const, "ref": R, "payload": F}  the fields as they are
    Wire(parts=("type", "ref", "data"))  [const, R, F]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socketsundso.contract.asyncapi.payloads import branches, component_at, extended, fields_of, flat
from socketsundso.contract.asyncapi.protocol import REF, Frame
from socketsundso.contract.model import Schema, Wire
from socketsundso.errors import ContractError

_NULL: Schema = {"type": "null"}


def payload(
    wire: Wire, frame: Frame, numbers: Mapping[str, Schema], components: Mapping[str, Schema], *, is_closed: bool
) -> dict[str, Any]:
    """
    The schema of a whole frame. `numbers` are the properties of a room with history; `is_closed`: it may have no other
    keys than its envelope's.

    Raises `ContractError` where the fields are to stand beside its keys, and are no object.
    """
    kind: Schema = {"type": "string", "const": frame.type}
    must = [wire.ref_key] if frame.ref == "required" else []
    if wire.parts:
        return _array(wire, frame, kind, numbers, components)
    ref = {} if frame.ref == "none" else {wire.ref_key: REF}
    if not wire.data_key:
        return flat(frame.fields, {wire.type_key: kind, **numbers, **ref}, must, components)
    whole = {
        "type": "object",
        "properties": {wire.type_key: kind, **numbers, **ref, wire.data_key: frame.fields},
        "required": [wire.type_key, *must, *[wire.data_key] * is_needed(frame.fields, components)],
    }
    return whole | {"additionalProperties": False} if is_closed and not wire.is_open else whole


def _array(
    wire: Wire, frame: Frame, kind: Schema, numbers: Mapping[str, Schema], components: Mapping[str, Schema]
) -> dict[str, Any]:
    """Trailing parts may be left out where they say nothing."""
    fields = extended(frame.fields, numbers, [], components) if numbers else frame.fields
    refs = {"none": _NULL, "optional": {**REF, "anyOf": [*REF["anyOf"], _NULL]}, "required": REF}
    parts = {"type": kind, "ref": refs[frame.ref], "data": fields}
    needed = {"type": True, "ref": frame.ref == "required", "data": is_needed(frame.fields, components)}
    least = max(index for index, part in enumerate(wire.parts) if needed[part]) + 1
    items = [parts[part] for part in wire.parts]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": least}


def is_needed(fields: Schema, components: Mapping[str, Schema]) -> bool:
    """May these fields not be left out as a whole?"""
    try:
        return any(each.get("required") or each.get("minProperties") for each in branches(fields, components))
    except ContractError:
        return True  # they are no object


def fields_in(payload: Mapping[str, Any], wire: Wire, envelope: Mapping[str, Schema]) -> Schema:
    """What `payload`, the schema of a whole frame, says of the fields. `envelope` are properties that are none."""
    if wire.is_flat:
        return fields_of(payload, envelope)
    found = _part(payload, wire, "data", wire.data_key)
    return fields_of(found, envelope) if wire.parts and envelope.keys() & found.get("properties", {}).keys() else found


def envelope_of(
    payload: Mapping[str, Any], wire: Wire, numbers: Mapping[str, Schema], *, has_ref: bool
) -> Mapping[str, Schema]:
    """The properties that are no fields, beside them in one object."""
    if not wire.is_flat:
        return numbers
    properties = payload.get("properties", {})
    keys = [wire.type_key, *[wire.ref_key] * has_ref]
    return {**{key: properties[key] for key in keys if key in properties}, **numbers}


def kind_in(payload: Mapping[str, Any], wire: Wire) -> Any:
    """The schema of the part that names the message."""
    return _part(payload, wire, "type", wire.type_key)


def _part(payload: Mapping[str, Any], wire: Wire, part: str, key: str) -> Any:
    if not wire.parts:
        return payload.get("properties", {}).get(key, {})
    items, index = payload.get("prefixItems", ()), wire.parts.index(part)
    return items[index] if index < len(items) else {}


def pointer_to_ref(wire: Wire) -> str:
    """Where it is in a frame, as the last part of a JSON pointer that is not escaped."""
    return str(wire.parts.index("ref")) if wire.parts else wire.ref_key


def opened(schema: Mapping[str, Any], components: Mapping[str, Schema]) -> Mapping[str, Any]:
    """What a `$ref` is to. Raises `ContractError` where that is nothing, or leads in a circle."""
    for _ in range(_MOST_HOPS):
        if "$ref" not in schema:
            return schema
        schema = component_at(schema["$ref"], components)
    raise ContractError("a $ref that leads in a circle")


_MOST_HOPS = 32
