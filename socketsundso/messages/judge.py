"""
What pydantic says of a whole frame: the slow path, and the last word on what is valid.

It may accept what the fast path refused (`"42"` for an int), and if it does not, its complete error list is the
answer. Built with the first frame that needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw
from pydantic import BaseModel, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, ValidationError, core_schema

from socketsundso.errors import InvalidUTF8, MalformedFrame
from socketsundso.messages.annotations import pydantic_form
from socketsundso.messages.signature import Parameter, Signature
from socketsundso.messages.whole_frames import model_reader

Frame = str | bytes
Ref = int | str

UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)  # what msgspec alone raises

TITLE = "Message"
"""What pydantic's errors about a whole message call it."""

MAX_REF_LENGTH = 64
_INT64 = range(-(2**63), 2**63)
REF_TYPE = Annotated[int, Meta(ge=_INT64[0], le=_INT64[-1])] | Annotated[str, Meta(max_length=MAX_REF_LENGTH)] | None


def text_of(frame: Frame) -> str:
    """Raises `InvalidUTF8`."""
    if isinstance(frame, str):
        return frame
    try:
        return bytes(frame).decode()
    except UnicodeDecodeError as exc:
        raise InvalidUTF8(str(exc)) from None


def check_syntax(text: str) -> None:
    """Raises `MalformedFrame` for what is not JSON."""
    try:
        msgspec.json.decode(text, type=Raw)
    except UNREADABLE as exc:
        raise MalformedFrame(str(exc)) from None


def exact_validator(signature: Signature, ref_key: str) -> Callable[[Frame], dict[str, Any]]:
    """Gives all arguments of a whole frame. Raises pydantic's `ValidationError`, and whatever validators raise."""
    adapter = whole_adapter(signature, ref_key)
    if signature.message_model is None:
        return adapter.validator.validate_json
    return _whole_validator(signature, model_reader(adapter, ref_key), ref_key)


def whole_adapter(signature: Signature, ref_key: str) -> TypeAdapter[Any]:
    """The pydantic adapter for a whole message."""
    if signature.message_model is None:
        return TypeAdapter(_whole_schema(signature, ref_key))
    return TypeAdapter(pydantic_form(signature.message_model))


def _whole_schema(signature: Signature, ref_key: str) -> type:
    """
    A type whose pydantic schema is the whole message: an object of just these keys.

    Written as a schema and not as a TypedDict, since the latter's `extra="forbid"` would reach into every plain
    dataclass and TypedDict below, and they would no longer be what they are on their own.
    """

    class WholeMessage:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
            fields = {
                parameter.name: core_schema.typed_dict_field(
                    _field_schema(parameter, handler.generate_schema(pydantic_form(parameter.annotation))),
                    required=parameter.default is None,
                    validation_alias=core_alias(parameter),
                )
                for parameter in signature.parameters
            }
            # Names that no parameter can have; their aliases are the reserved keys.
            fields["type key"] = core_schema.typed_dict_field(core_schema.any_schema(), validation_alias="type")
            fields["ref key"] = core_schema.typed_dict_field(
                core_schema.no_info_plain_validator_function(_check_ref), required=False, validation_alias=ref_key
            )
            return core_schema.typed_dict_schema(fields, extra_behavior=signature.extra, cls_name=TITLE)

    return WholeMessage


def _field_schema(parameter: Parameter, schema: CoreSchema) -> CoreSchema:
    field = parameter.field
    if parameter.default is None:
        return schema
    return core_schema.with_default_schema(
        schema,
        default_factory=_own_bug(parameter.default),
        default_factory_takes_data=bool(field.default_factory and field.default_factory_takes_validated_data),
        validate_default=field.validate_default,
    )


def _own_bug(factory: Callable[..., Any]) -> Callable[..., Any]:
    """The factory; a ValidationError that it raises says nothing of the message, and is not answered with."""

    def make(*data: Any) -> Any:
        try:
            return factory(*data)
        except ValidationError as exc:
            raise RuntimeError("a default cannot be made") from exc

    return make


def core_alias(parameter: Parameter) -> Any:
    """The key, or the paths, that pydantic takes a parameter from."""
    alias = parameter.field.validation_alias
    return parameter.key if alias is None or isinstance(alias, str) else alias.convert_to_aliases()


def _whole_validator(
    signature: Signature, read_model: Callable[[Frame], Any], ref_key: str
) -> Callable[[Frame], dict[str, Any]]:
    (parameter,) = signature.parameters

    def whole(frame: Frame) -> dict[str, Any]:
        _, is_valid = read_ref(msgspec.json.decode(frame, type=dict[str, Raw]).get(ref_key))
        if not is_valid:
            raise ValidationError.from_exception_data(
                TITLE, [{"type": BAD_REF, "loc": (ref_key,), "input": None}], input_type="json"
            )
        return {parameter.name: read_model(frame)}

    return whole


BAD_REF = PydanticCustomError("ref_type", "Input should be an integer of 64 bits or a string of at most 64 characters")


def _check_ref(value: Any) -> Any:
    fits = value is None or (
        len(value) <= MAX_REF_LENGTH
        if isinstance(value, str)
        else isinstance(value, int) and not isinstance(value, bool) and value in _INT64
    )
    if not fits:
        raise BAD_REF
    return value


def read_ref(raw: Raw | None) -> tuple[Ref | None, bool]:
    """The `ref` in a frame, and whether it is a valid one."""
    if raw is None:
        return None, True
    try:
        return msgspec.json.decode(raw, type=REF_TYPE), True
    except UNREADABLE:
        return None, False


def json_model_fields(signature: Signature) -> dict[str, Any]:
    """Fields of a pydantic model that documents the incoming message: `{name: (annotation, default)}`."""
    fields: dict[str, Any] = {"type": (Literal[signature.event], ...)}
    for parameter in signature.parameters:
        name = parameter.name.lstrip("_") or "field"
        while name in fields or name == "model_config" or hasattr(BaseModel, name):
            name += "_"
        default = ... if parameter.default is None else Field(default_factory=parameter.default)
        fields[name] = (Annotated[pydantic_form(parameter.annotation), _documented(parameter)], default)
    return fields


def _documented(parameter: Parameter) -> Any:
    field = parameter.field
    return Field(alias=parameter.key, title=field.title, description=field.description, examples=field.examples)
