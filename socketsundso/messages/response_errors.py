"""
`response_error`: what is told of a value that is no valid reply.

    {"type":"int_parsing","loc":["response","count"],"msg":"Input should be a valid integer, unable to parse ..."}

Told is what was declared: the kind of error, its place and bounds. The value itself is the server's and stays here,
also where pydantic's texts quote it (a tag, a key of a dict, what a validator says): the log has all of it.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Container
from typing import Any

import msgspec
from pydantic_core import PydanticKnownError, ValidationError, core_schema

from socketsundso.errors import EventError
from socketsundso.messages.core_schemas import declared_names

_MAX_ERRORS = 100
HIDDEN = "..."
_INVALID = "Input is not valid"
# What stands in these is declared; all else that an error's `ctx` holds may be the value's, or a validator's words.
_DECLARED_CONTEXT = frozenset(
    {"expected", "expected_tags", "discriminator", "gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length",
     "max_length", "actual_length", "field_type", "max_digits", "decimal_places", "whole_digits", "class", "class_name",
     "expected_schemes", "expected_version", "tz_expected", "encoding", "method_name"}
)  # fmt: skip
# How pydantic names the alternatives of a union in `loc`: `list[int]`, `function-after[check(), str]`.
_ALTERNATIVE = re.compile(
    rf"(constrained-)?({'|'.join(map(re.escape, typing.get_args(core_schema.CoreSchemaType)))})(\[.*\])?|\[key\]"
)


class ResponseError(EventError):
    """
    What a handler returned is no valid reply: `response_error`, each `loc` beginning with "response".

    The values themselves are never echoed; they are the server's.
    """

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("response_error", errors=errors)

    def __str__(self) -> str:
        return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in self.errors)


class Presentable(ValueError):
    """Raised in a hook of msgspec's: its text tells nothing of the value."""


def detail(kind: str, loc: list[Any], msg: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["response", *loc], "msg": msg}


def not_an_object() -> dict[str, Any]:
    return detail("dict_type", [], "Input should be a valid dictionary")


def brings_ref(ref_key: str) -> dict[str, Any]:
    return detail("reserved_key", [ref_key], f"The key {ref_key!r} is reserved for the message that is answered")


def unserializable(value: Any) -> ResponseError:
    return ResponseError([detail("serialization_error", [], f"A {type(value).__name__} that JSON cannot hold")])


def misfit(expected: str, value: Any) -> ResponseError:
    return ResponseError([detail("struct_type", [], f"Expected `{expected}`, got `{type(value).__name__}`")])


def missing(name: str) -> ResponseError:
    return ResponseError([detail("struct_type", [], f"Object missing required field `{name}`")])


def refused_by_class() -> ResponseError:
    """For what a class itself refuses, in words of its own."""
    return ResponseError([detail("struct_type", [], _INVALID)])


def located(error: ResponseError, place: Any) -> ResponseError:
    """The error, one level further out."""
    return ResponseError([{**each, "loc": ["response", place, *each["loc"][1:]]} for each in error.errors])


def invalid(exc: ValidationError, schema: Any) -> ResponseError:
    """For what pydantic refused; `schema` is the core schema that it went by."""
    if exc.error_count() > _MAX_ERRORS:
        return ResponseError([detail("too_many_errors", [], f"{exc.error_count()} validation errors")])
    names = declared_names(schema)
    return ResponseError(
        [_without_values(error, names) for error in exc.errors(include_url=False, include_input=False)]
    )


def _without_values(error: Any, names: Container[str]) -> dict[str, Any]:
    context = error.get("ctx", {})
    told = {key: _plain(value) for key, value in context.items() if key in _DECLARED_CONTEXT}
    shown = detail(
        error["type"], [_place(part, names) for part in error["loc"]], _message(error["type"], context, told)
    )
    return {**shown, "ctx": told} if told else shown


def _place(part: int | str, names: Container[str]) -> int | str:
    return part if isinstance(part, int) or part in names or _ALTERNATIVE.fullmatch(part) else HIDDEN


def _message(kind: str, context: dict[str, Any], told: dict[str, Any]) -> str:
    """The text that pydantic has for this kind of error, without what is not told."""
    try:
        return PydanticKnownError(kind, {**dict.fromkeys(context, HIDDEN), **told} or None).message()  # type: ignore[arg-type]  # a kind of the application's own is what `except` is for
    except (KeyError, TypeError, ValueError):
        return _INVALID


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def of_struct(exc: Exception) -> ResponseError:
    """For what msgspec refused: its text is like "Expected `int`, got `str` - at `$.items[0].x`"."""
    msg, _, path = str(exc).partition(" - at `")
    if not isinstance(exc, msgspec.ValidationError):  # a declaration that it cannot build
        return ResponseError([detail("struct_type", [], "Value is no instance of what is declared")])
    loc = [
        name or (int(index) if index.isdecimal() else index)
        for name, index in re.findall(r"\.([^.\[]+)|\[([^\]]*)\]", path.rstrip("`"))
    ]
    return ResponseError([detail("struct_type", loc, _told_by_msgspec(msg, exc.__cause__))])


def _told_by_msgspec(msg: str, cause: BaseException | None) -> str:
    if isinstance(cause, Presentable) or (cause is None and msg.startswith(("Expected ", "Object missing "))):
        return msg
    known = re.match(r"Invalid (value|enum value|UUID|RFC3339 encoded \w+|base64 encoded \w+)", msg)
    if cause is None and known:
        return known[0]
    return "Object contains an unknown field" if cause is None and msg.startswith("Object contains") else _INVALID
