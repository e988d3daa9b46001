"""
JSON of instances that nobody has validated: written with the fields that are declared, or refused.

    class Inbox(BaseModel): owner: Pub
    Inbox.model_construct(owner={"id": 1, "password": "x"})   ->   {"owner":{"id":1}}

Pydantic alone would write all that stands where a class with fields is declared, with a warning. Scalars have nothing
to hide, and go as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, ValidationError

from socketsundso.messages.response_errors import invalid

_UNEXPECTED = "Pydantic serializer warnings"
_INPUT_TYPE = re.compile(r"input_type=(\w+)\]")
_HIDES_NOTHING = frozenset(
    {"NoneType", "bool", "int", "float", "str", "bytes", "date", "datetime", "time", "timedelta", "Decimal", "UUID"}
)


def exact_json(adapter: TypeAdapter[Any], arguments: Mapping[str, Any]) -> Callable[..., bytes]:
    """
    The adapter's `to_json` with these arguments, for what nests fields.

    Raises pydantic's `PydanticSerializationError`, and `ResponseError` for what is not as declared. `by_alias` is taken
    and left: it stands among the arguments.
    """
    validate, serializer = adapter.validator.validate_python, adapter.serializer
    to_json, schema = serializer.to_json, adapter.core_schema

    def write(valid: Any, by_alias: Any = None) -> bytes:
        try:
            return to_json(valid, **arguments, warnings="error")
        except PydanticSerializationError as exc:
            if not str(exc).startswith(_UNEXPECTED):
                raise
            found = _INPUT_TYPE.findall(str(exc))
            if found and _HIDES_NOTHING.issuperset(found):
                return to_json(valid, **arguments)
            as_declared = serializer.to_python(valid, by_alias=False, round_trip=True, warnings=False)
        try:
            again = validate(as_declared, from_attributes=True, by_name=True)
        except ValidationError as exc:
            raise invalid(exc, schema) from exc
        return to_json(again, **arguments, warnings="error")

    return write
