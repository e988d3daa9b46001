"""
What pydantic says of a whole frame: the slow path, and the last word on what is valid.

It may accept what the fast path refused (`"42"` for an int), and if it does not, its complete error list is the
answer. Built with the first frame that needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Raw
from pydantic import BaseModel, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, ValidationError, core_schema

from socketsundso.errors import MalformedFrame
from socketsundso.messages.annotations import pydantic_form
from socketsundso.messages.codecs import Frame, text_of
from socketsundso.messages.framing import TITLE, Framing
from socketsundso.messages.refs import BAD_REF, UNREADABLE, read_ref
from socketsundso.messages.signature import Parameter, Signature
from socketsundso.messages.whole_frames import frame_reader


def size_of(frame: Frame) -> int:
    """Its bytes on the wire, uncompressed."""
    if isinstance(frame, str):
        return len(frame) if frame.isascii() else len(frame.encode("utf-8", "surrogatepass"))
    return len(frame)


def check_syntax(text: str) -> None:
    """Raises `MalformedFrame` for what is not JSON."""
    try:
        msgspec.json.decode(text, type=Raw)
    except UNREADABLE as exc:
        raise MalformedFrame(str(exc)) from None


def exact_validator(signature: Signature, framing: Framing) -> Callable[[Frame], dict[str, Any]]:
    """Gives all arguments of a whole frame. Raises pydantic's `ValidationError`, and whatever validators raise."""
    adapter = whole_adapter(signature, framing)
    if signature.message_model is not None:
        return _whole_validator(signature, frame_reader(adapter, signature.message_model, framing), framing)
    validate: Callable[[Frame], dict[str, Any]] = adapter.validator.validate_json
    return _within(validate, signature, framing) if framing.place else validate


def _within(
    validate: Callable[[Frame], Any], signature: Signature, framing: Framing
) -> Callable[[Frame], dict[str, Any]]:
    """The arguments in a part of the frame, which may be left out where none is needed."""
    empty = msgspec.json.encode(framing.answer(signature.event, {}, None))

    def exact(frame: Frame) -> dict[str, Any]:
        found = framing.found(validate(frame))
        if found is None:
            found = framing.found(validate(empty))
            assert found is not None
        return found

    return exact


def whole_adapter(signature: Signature, framing: Framing) -> TypeAdapter[Any]:
    """The pydantic adapter for a whole message."""
    if signature.message_model is None:
        return TypeAdapter(_whole_schema(signature, framing))
    return TypeAdapter(pydantic_form(signature.message_model))


def _whole_schema(signature: Signature, framing: Framing) -> type:
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
            is_closed = signature.extra == "forbid" and not framing.takes_any
            return framing.schema(fields, closed=is_closed, needed=signature.needs_data)

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
    signature: Signature, read_model: Callable[[Frame], Any], framing: Framing
) -> Callable[[Frame], dict[str, Any]]:
    (parameter,) = signature.parameters

    def whole(frame: Frame) -> dict[str, Any]:
        _, is_valid = read_ref(framing.outline(text_of(frame)).ref)
        if not is_valid:
            place: Any = (framing.ref_place,)
            raise ValidationError.from_exception_data(
                TITLE, [{"type": BAD_REF, "loc": place, "input": None}], input_type="json"
            )
        return {parameter.name: read_model(frame)}

    return whole


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
