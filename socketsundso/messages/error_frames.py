"""
Exceptions -> `error` frames, bounded in number and size.

    {"type":"error","ref":7,"code":"validation_error",
     "errors":[{"type":"missing","loc":["room"],"msg":"Field required","input":{...}}]}

Only what pydantic or the application says goes into `errors`; the text of an unexpected exception never does.
"""

from __future__ import annotations

import http
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from pydantic_core import PydanticUndefinedType, ValidationError
from starlette.exceptions import HTTPException

from socketsundso.errors import EventError
from socketsundso.messages.codecs import Misshapen
from socketsundso.messages.disclosure import quiet_error
from socketsundso.messages.framing import CANONICAL, Framing

_MAX_INPUT = 1024  # bytes of one `input` once the whole answer may become large
_MAX_DEPTH = 200  # of an `input` that is not plain JSON, as pydantic's own limit
_HTTP_CODES = {
    401: "unauthorized",
    403: "forbidden",
    408: "timeout",
    429: "rate_limited",
    500: "internal_error",
}


@dataclass(frozen=True, slots=True)
class ErrorPolicy:
    """
    How much an error frame tells: at most `max_errors` entries and `max_bytes` bytes.

    `include_input=False` leaves out all that the peer sent (`disclosure`), so that no secret is echoed; `legacy` is the
    0.0.x frame, which has only `errors`.
    """

    include_input: bool = True
    max_errors: int = 100
    max_bytes: int = 65_536
    legacy: bool = False
    framing: Framing = CANONICAL

    def encode(self, fields: dict[str, Any], ref: int | str | None) -> bytes:
        """The frame that tells this."""
        return _json({"errors": fields["errors"]} if self.legacy else self.framing.answer("error", fields, ref))

    def packed(self, framing: Framing) -> ErrorPolicy:
        """The same for connections whose envelope is in another codec."""
        return _Packed(self.include_input, self.max_errors, self.max_bytes, self.legacy, framing)


class _Packed(ErrorPolicy):
    __slots__ = ()

    def encode(self, fields: dict[str, Any], ref: int | str | None) -> bytes:
        return self.framing.codec.pack(ErrorPolicy.encode(self, fields, ref))


class Declares(Protocol):
    """The part of a route that says which names may be told."""

    @property
    def declared(self) -> frozenset[str]: ...


class MessageError(EventError):
    """A frame that was read but is no message for this endpoint. `ref` is the message's own, or None."""

    def __init__(self, code: str, errors: list[dict[str, Any]], ref: int | str | None = None) -> None:
        super().__init__(code, errors=errors)
        self.ref = ref


class MalformedMessage(MessageError):
    """JSON, but not an object with a string `type`."""

    def __init__(self, errors: list[dict[str, Any]], ref: int | str | None = None) -> None:
        super().__init__("malformed_message", errors, ref)


def malformed(exc: Misshapen, ref: int | str | None = None) -> MalformedMessage:
    """The answer to a frame in which there is no message."""
    return MalformedMessage([{"type": exc.kind, "loc": list(exc.place), "msg": exc.msg}], ref)


class UnknownEvent(MessageError):
    """The peer named an event this endpoint does not have; the answer lists what would have been understood."""

    def __init__(self, errors: list[dict[str, Any]], ref: int | str | None = None) -> None:
        super().__init__("unknown_event", errors, ref)


def error_frame(
    exc: Exception, policy: ErrorPolicy, ref: int | str | None = None, route: Declares | None = None
) -> bytes:
    """
    The error frame that answers `exc`; `route` is that of the message that it is about.

    It is `null` where the envelope has no answer to what has no `ref`.
    """
    fields = _described(exc, policy, route)
    body = policy.encode(fields, ref)
    if len(body) <= policy.max_bytes:
        return body
    errors = fields["errors"]
    body = policy.encode({**fields, "errors": [_without_input(error) for error in errors]}, ref)
    if len(body) <= policy.max_bytes:
        return body
    return policy.encode({**fields, "errors": [_summary(len(errors))]}, ref)


def code_of(exc: Exception) -> str:
    """The `code` of the frame that answers `exc`."""
    if isinstance(exc, ValidationError):
        return "validation_error"
    if isinstance(exc, EventError):
        return exc.code
    return http_code(exc.status_code) if isinstance(exc, HTTPException) else "internal_error"


def http_code(status: int) -> str:
    """The `code` for an HTTP status: 404 is `not_found`."""
    if status in _HTTP_CODES:
        return _HTTP_CODES[status]
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        return f"http_{status}"
    return "".join(c if c.isalnum() else "_" for c in phrase.lower())


def _described(exc: Exception, policy: ErrorPolicy, route: Declares | None) -> dict[str, Any]:
    """What is told: `code`, `errors`, and the details of an application's own error."""
    if isinstance(exc, ValidationError):
        return {"code": "validation_error", "errors": _validation_errors(exc, policy, route)}
    if isinstance(exc, EventError):
        errors = exc.errors[: policy.max_errors]
        if exc.quiet:
            errors = [_with_place(quiet_error(error), error) for error in errors]
        if not policy.include_input:
            errors = [_without_given(error, exc) for error in errors]
        return {"code": exc.code, "errors": errors, **exc.details}
    if isinstance(exc, HTTPException):
        detail = {"type": "HTTPException", "loc": [], "msg": exc.detail, "status_code": exc.status_code}
        return {"code": http_code(exc.status_code), "errors": [detail]}
    return {"code": "internal_error", "errors": []}


def _with_place(quiet: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    """The application validated what is its own, at places that only it knows."""
    return {**quiet, "loc": error["loc"]}


def _without_given(error: dict[str, Any], exc: EventError) -> dict[str, Any]:
    """The rest is the application's own words; of messages that are none, what was given for `type` is not."""
    error = _without_input(error)
    if isinstance(exc, MessageError) and (context := error.pop("ctx", None)):
        error |= {"ctx": kept} if (kept := {k: v for k, v in context.items() if k != "given"}) else {}
    return error


def _validation_errors(exc: ValidationError, policy: ErrorPolicy, route: Declares | None) -> list[dict[str, Any]]:
    # Counting is free, the list of ten thousand errors is not.
    if exc.error_count() > policy.max_errors:
        return [_summary(exc.error_count())]
    try:
        errors: Any = exc.errors(include_url=False)
        if not policy.include_input:
            declared = route.declared if route is not None else frozenset()
            return [quiet_error(error, declared) for error in errors]
    except Exception:  # a custom error whose message template fails
        return [_summary(exc.error_count())]
    if len(errors) == 1:
        return [_presentable(errors[0], policy)]
    return _bounded_inputs([_presentable(error, policy) for error in errors])


def _presentable(error: dict[str, Any], policy: ErrorPolicy) -> dict[str, Any]:
    if isinstance(error.get("input"), PydanticUndefinedType) or error["loc"] == (policy.framing.ref_place,):
        return _without_input(error)
    return error


def _bounded_inputs(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each of several errors may echo the whole message: only small inputs are kept."""
    sizes: dict[int, int] = {}
    bounded = []
    for error in errors:
        value = error.get("input")
        if isinstance(value, dict | list | str):
            size = sizes.get(id(value))
            if size is None:
                size = sizes[id(value)] = len(value) if isinstance(value, str) else len(_json(value))
            if size * len(errors) > _MAX_INPUT * 64 and size > _MAX_INPUT:
                error = _without_input(error)
        bounded.append(error)
    return bounded


def _without_input(error: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in error.items() if key != "input"}


def _summary(count: int) -> dict[str, Any]:
    return {
        "type": "too_many_errors",
        "loc": [],
        "msg": f"{count} validation errors, too many or too large to list",
        "ctx": {"error_count": count},
    }


def _json(value: Any) -> bytes:
    # `ctx` may hold exceptions and any object that a validator put there
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except Exception:  # whatever the object's own `__str__` raises, too
        return msgspec.json.encode(_plain(value))


def _plain(value: Any, depth: int = 0) -> Any:
    """The same value of nothing but JSON types, cut where it nests deeply; what has none is written as text."""
    if isinstance(value, dict | list | tuple) and depth > _MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else float(value) if value.bit_length() < 1024 else str(type(value))
    return _text(value)


def _text(value: Any) -> str:
    try:
        text = str(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text.encode("utf-8", "replace").decode()
