"""
`response_error`: what is told of a value that is no valid reply.

Each `loc` begins with "response". The values themselves are the server's and stay here.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import ValidationError

from socketsundso.errors import EventError

_MAX_ERRORS = 100


class ResponseError(EventError):
    """
    What a handler returned is no valid reply: `response_error`, each `loc` beginning with "response".

    The values themselves are never echoed; they are the server's.
    """

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("response_error", errors=errors)

    def __str__(self) -> str:
        return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in self.errors)


def detail(kind: str, loc: list[Any], msg: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["response", *loc], "msg": msg}


def not_an_object() -> dict[str, Any]:
    return detail("dict_type", [], "Input should be a valid dictionary")


def brings_ref(ref_key: str) -> dict[str, Any]:
    return detail("reserved_key", [ref_key], f"The key {ref_key!r} is reserved for the message that is answered")


def unserializable(value: Any) -> ResponseError:
    return ResponseError([detail("serialization_error", [], f"A {type(value).__name__} that JSON cannot hold")])


def invalid(exc: ValidationError) -> ResponseError:
    """For what pydantic refused."""
    if exc.error_count() > _MAX_ERRORS:
        return ResponseError([detail("too_many_errors", [], f"{exc.error_count()} validation errors")])
    errors: list[dict[str, Any]] = []
    for error in exc.errors(include_url=False, include_input=False):
        told: dict[str, Any] = {**error, "loc": ["response", *error["loc"]]}
        if "ctx" in told:  # holds exceptions, and whatever else a validator put there
            told["ctx"] = {key: _plain_context(item) for key, item in told["ctx"].items()}
        errors.append(told)
    return ResponseError(errors)


def _plain_context(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def struct_detail(text: str) -> dict[str, Any]:
    """msgspec's text, "Expected `int`, got `str` - at `$.items[0].x`", as a detail. The server's values stay here."""
    msg, _, path = text.partition(" - at `$")
    loc = [
        name or (int(index) if index.isdecimal() else index)
        for name, index in re.findall(r"\.([^.\[]+)|\[([^\]]*)\]", path.rstrip("`"))
    ]
    return detail("struct_type", loc, re.sub(r"^(Invalid (?:enum )?value) .*", r"\1", msg))
