"""
The fields of a message that pydantic takes from raw JSON, and the complete error where one of them is refused.

Pydantic's list names all that is wrong with a message. When the validators of raw fields begin, all that msgspec
decodes is known to be valid; so only they can have errors, and the list is made without asking any of them twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from pydantic import ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, ValidationError, core_schema, from_json

from socketsundso.messages.codecs import Misshapen
from socketsundso.messages.framing import TITLE, Place


class RawField(NamedTuple):
    """
    One parameter that its validator takes from raw JSON: the names of its value and its field, its key; and what makes
    JSON of what was kept raw.
    """

    value: str
    field: str
    key: str
    validate: Callable[[bytes], Any]
    json_of: Callable[[Any], bytes] = bytes


def complete_error(
    fields: Sequence[RawField], message: Any, exc: Exception, done: Mapping[str, Any], place: Place = ()
) -> Exception | None:
    """
    Pydantic's complete error, or the application's bug, of which `exc` is the beginning.

    `exc` is what the first of the fields raised whose value is not `done` yet; without fields the message is one model.
    `message` has the fields as its attributes, and `place` is where they stand in the frame.
    None: the whole frame has to be looked at. Raises what a later validator raises that is no ValidationError.
    """
    if not fields:
        return _on_its_own(exc)
    failures: dict[str, ValidationError] = {}
    for field in fields:
        if field.value in done:
            continue
        raw = getattr(message, field.field)
        failure = _failure(field, raw) if failures else exc
        if failure is None:
            continue
        if raw is UNSET or not isinstance(failure, ValidationError):  # a bug of a factory, or of a validator
            return _bug(failure)
        if _is_unparsable(failure, field.json_of(raw)):
            return None  # so is the whole frame, for pydantic
        failures[field.key] = failure
    return gathered(failures, place)


def unsayable(exc: Misshapen, place: Place) -> ValidationError:
    """What stands there is nothing that JSON could say."""
    error: Any = {"type": PydanticCustomError("msgpack_type", "{msg}", {"msg": exc.msg}), "loc": place, "input": None}
    return ValidationError.from_exception_data(TITLE, [error], input_type="json")


def _failure(field: RawField, raw: Any) -> ValidationError | None:
    if raw is UNSET:
        return None
    try:
        field.validate(field.json_of(raw))
    except ValidationError as exc:
        return exc
    return None


def gathered(failures: Mapping[str, ValidationError], place: Place = ()) -> Exception | None:
    """The errors of several fields as one, each at its key, in that `place` of the frame."""
    fields = {
        key: core_schema.typed_dict_field(core_schema.with_info_plain_validator_function(_raise_failure))
        for key in failures
    }
    keys = {key: key for key in failures}
    return _raised(keys, core_schema.typed_dict_schema(fields, cls_name=TITLE), place, failures)


def placed(failure: ValidationError, place: Place) -> Exception:
    """The errors of what stands in that `place` of the frame."""
    if not place:
        return failure
    schema = core_schema.with_info_plain_validator_function(_raise_failure)
    return _raised("", schema, place, {"": failure}) or failure


def _raised(value: Any, schema: CoreSchema, place: Place, failures: Mapping[str, ValidationError]) -> Exception | None:
    """What the validator of a whole frame raises, `value` and its schema being in that place of it."""
    for part in reversed(place):
        value, schema = _put(part, value, schema)
    try:
        SchemaValidator(schema).validate_json(msgspec.json.encode(value), context=failures)
    except ValidationError as exc:
        return _on_its_own(exc)
    finally:
        for failure in failures.values():  # no cycle with the frames that it passed through
            _on_its_own(failure)
    return None


def _put(place: str | int, value: Any, schema: CoreSchema) -> tuple[Any, CoreSchema]:
    if isinstance(place, str):
        return {place: value}, core_schema.typed_dict_schema(
            {place: core_schema.typed_dict_field(schema)}, cls_name=TITLE
        )
    before = [core_schema.any_schema()] * place
    return [*[None] * place, value], core_schema.tuple_schema([*before, schema])


def _raise_failure(key: Any, info: ValidationInfo) -> Any:
    failures: Any = info.context
    raise failures[key]


def _on_its_own(exc: Exception) -> Exception:
    """Without what would keep the endpoint alive until the collector comes; of the application's bugs, that is kept."""
    if isinstance(exc, ValidationError):
        exc.__cause__ = exc.__context__ = None
        exc.with_traceback(None)
    return exc


def _bug(exc: Exception) -> Exception:
    """What a default's factory raised: also where that is a ValidationError, it says nothing of the message."""
    if not isinstance(exc, ValidationError):
        return exc
    error = RuntimeError("a default cannot be made")
    error.__cause__ = exc
    return error


def _is_unparsable(exc: ValidationError, raw: bytes) -> bool:
    """Does pydantic not take it for JSON at all: nested too deeply, a number too long?"""
    if exc.error_count() != 1 or exc.errors(include_input=False, include_context=False)[0]["type"] != "json_invalid":
        return False
    try:
        from_json(raw)
    except ValueError:
        return True
    return False
