"""
What reads a frame that is one model as a whole: pydantic, in one pass, with the `ref` that is the envelope's.

    class Join(BaseModel): type: Literal["join"]; room: str
    {"type":"join","ref":7,"room":"lobby"}   ->   Join(type="join", room="lobby")

A model that declares the key of the `ref` is given it. One that ignores what it does not know needs no help; for any
other one the key is taken out of the frame before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from msgspec import Raw
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator, core_schema

from socketsundso.messages.framing import Framing
from socketsundso.messages.raw_fields import placed
from socketsundso.models import EventMessage

_an_object = SchemaValidator(core_schema.dict_schema())
_items = msgspec.json.Decoder(dict[str, Raw]).decode


def frame_reader(adapter: TypeAdapter[Any], model: Any, framing: Framing) -> Callable[[Any], Any]:
    """`read(frame)`, of a frame that msgspec has read before. Raises what the model's validators raise."""
    if not is_frame(model, framing):
        return _canonical_reader(adapter, framing)
    return _model_reader(adapter, cast(str, framing.ref_place))


def is_frame(model: Any, framing: Framing) -> bool:
    """Is a whole message the frame itself? Else it is an `EventMessage`, whose `type` this envelope has elsewhere."""
    key = framing.model_key
    if key == "type" or not (isinstance(model, type) and issubclass(model, EventMessage)):
        return True
    return any(key in (name, field.alias) for name, field in model.model_fields.items())


def _canonical_reader(adapter: TypeAdapter[Any], framing: Framing) -> Callable[[Any], Any]:
    """The model is given its `type` and the fields."""
    validate = adapter.validator.validate_json

    def read(frame: Any) -> Any:
        text = frame if isinstance(frame, str) else frame.decode()
        name = framing.outline(text).type
        try:
            fields = _fields(framing.data_of(text))
            for key in (framing.type_key, framing.ref_key):
                fields.pop(cast(str, key), None)
            return validate(msgspec.json.encode({"type": name, **fields}))
        except ValidationError as exc:
            failure = exc
        raise placed(failure, framing.place)

    return read


def _fields(data: bytes) -> dict[str, Any]:
    """Raises pydantic's `ValidationError` for what is neither an object nor null."""
    try:
        return msgspec.json.decode(data, type=dict[str, Raw] | None) or {}
    except msgspec.ValidationError:
        return cast("dict[str, Any]", _an_object.validate_json(data))


def _model_reader(adapter: TypeAdapter[Any], ref_key: str) -> Callable[[Any], Any]:
    validate = adapter.validator.validate_json
    if _lets_pass(adapter.core_schema, ref_key, {}):
        return validate
    as_text, as_bytes = f'"{ref_key}"', f'"{ref_key}"'.encode()

    def read(frame: Any) -> Any:
        may_have_it = as_text in frame if isinstance(frame, str) else as_bytes in frame
        return validate(_without(frame, ref_key) if may_have_it else frame)

    return read


def _without(frame: Any, key: str) -> bytes:
    """The frame, which is an object, without what it has at `key`; all else as it was written."""
    items = _items(frame)
    items.pop(key, None)
    return msgspec.json.encode(items)


def _lets_pass(schema: Any, key: str, known: Mapping[str, Any]) -> bool:
    """May a key stay in the frame for this core schema: is it declared, or ignored and seen by nobody?"""
    match schema["type"]:
        case "definitions":
            return _lets_pass(schema["schema"], key, {each["ref"]: each for each in schema["definitions"]})
        case "definition-ref":
            return schema["schema_ref"] in known and _lets_pass(known[schema["schema_ref"]], key, known)
        case "function-after":
            return _lets_pass(schema["schema"], key, known)
        case "model" if schema.get("root_model"):
            return _lets_pass(schema["schema"], key, known)
        case "model" | "dataclass" | "typed-dict":
            return _class_lets_pass(schema, key)
    return False


def _class_lets_pass(schema: Any, key: str) -> bool:
    within, is_unseen = schema, not schema.get("custom_init")
    while within["type"] not in ("model-fields", "dataclass-args", "typed-dict"):
        is_unseen = is_unseen and within["type"] in ("model", "dataclass", "function-after")
        if "schema" not in within:
            return False
        within = within["schema"]
    fields = within["fields"]
    named = fields.items() if isinstance(fields, Mapping) else [(field["name"], field) for field in fields]
    if key in (field.get("validation_alias", name) for name, field in named):
        return True
    extra = within.get("extra_behavior") or (schema.get("config") or {}).get("extra_fields_behavior") or "ignore"
    return is_unseen and extra == "ignore"
