"""
Every exception of the package, with the `code` it has on the wire and the close code it causes.

Kinds, by whose fault it is and whether the connection goes on:

* `DefinitionError`: a mistake of the programmer. It surfaces at import, with the remedy in its text.
* `ContractError`: a contract that cannot be read, written or generated from. No connection is about.
* `EventError` and its subclasses: the answer to one message. The connection lives on.
* `CallFailed` and its subclasses: what the client was asked has no answer; handlers get it.
* `FrameError` and its subclasses: what a peer sent cannot be read at all. The connection is closed.

This module knows no other module of the package.
"""

from __future__ import annotations

import copyreg
import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, get_origin

from typing_extensions import Format, dataclass_transform, get_annotations

ErrorDetail = Mapping[str, Any]
"""One entry of an error frame's `errors`: pydantic's `{"type", "loc", "msg", "input", "ctx"}`."""


class SocketsundsoError(Exception):
    """The root of all exceptions that this package raises on its own account."""


class DefinitionError(SocketsundsoError, TypeError, AssertionError):
    """
    A handler or endpoint that cannot work, found while its class is being created.

    The text names the event, the parameter and the remedy. It is a `TypeError`, and an `AssertionError` too
    because socketsundso 0.0.x asserted these rules and its users test for that.
    """


class DefinitionWarning(UserWarning):
    """
    A handler or endpoint that works, but not as its author may expect, or whose contract cannot say all that it does.

    The text has the remedy.
    """


class ContractError(SocketsundsoError, ValueError):
    """
    An API that cannot be published or generated, or a document that is none or is not understood.

    The text names the place, such as a channel and a message, and the remedy.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known: "; did you mean 'response_model'?", or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {found[0]!r}?" if found else ""


@dataclass_transform(kw_only_default=True, eq_default=False)
class EventError(SocketsundsoError):
    """
    Raise it in a handler to answer the message with an error frame; the connection lives on.

    `EventError("not_found", "no such room")` is answered with

        {"type":"error","code":"not_found","errors":[{"type":"not_found","loc":[],"msg":"no such room"}]}

    and, where the message brought a `ref`, with that `ref`. `errors` replaces the list; each entry is a
    mapping, ideally with pydantic's keys `type`, `loc` and `msg`.

    A subclass names its code, and may have details, which clients get as `ctx`; `@event(errors=[SoldOut])` declares it:

        class SoldOut(EventError):
            code = "sold_out"
            msg = "only {left} left"
            left: int

        raise SoldOut(left=3)

        {"type":"error","code":"sold_out","errors":[
            {"type":"sold_out","loc":[],"msg":"only 3 left","ctx":{"left":3}}]}

    `msg` may be left out. A subclass with an `__init__` of its own has no details. Raises TypeError for details that
    are not as they are named.
    """

    # What a subclass has that does not call `super().__init__`.
    code: str = "internal_error"
    msg: str | None = None
    errors: list[dict[str, Any]] = []
    details: Mapping[str, Any] = MappingProxyType({})
    """Further keys of the error frame, behind `errors`."""
    quiet = False
    """The errors are about values that are not for the peer: no part of their texts that quotes one is told."""

    detail_names: ClassVar[tuple[str, ...]] = ()
    """The details that a subclass has, as they are written in it, those of its bases first."""

    def __init__(
        self, code: str | None = None, msg: str | None = None, *, errors: Iterable[ErrorDetail] | None = None
    ) -> None:
        if code is None:
            code = self._own_code()
        if msg is None:
            msg = self.msg
        super().__init__(code, msg)
        self.code = code
        self.msg = msg
        if errors is not None:
            self.errors = [dict(error) for error in errors]
        elif msg is not None:
            self.errors = [{"type": code, "loc": [], "msg": msg}]
        else:
            self.errors = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__init__ not in (EventError.__init__, _init_details):
            cls.detail_names = ()
        elif own := _own_details(cls):
            cls.detail_names = tuple(dict.fromkeys((*cls.detail_names, *own)))
            cls.__init__ = _init_details  # type: ignore[assignment,method-assign]  # as of a dataclass

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as it is: an `__init__` of a subclass takes what it likes."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # not in typeshed

    @classmethod
    def _own_code(cls) -> str:
        if cls.code == EventError.code:
            raise TypeError(f"{cls.__name__} needs a code: {cls.__name__}('not_found'), or `code` in a subclass")
        return cls.code

    @classmethod
    def from_validation(cls, exc: Exception, *, include_input: bool = False) -> EventError:
        """
        Answer with the errors of a pydantic `ValidationError` that the application's own code raised:

            try:
                row = Row.model_validate(values)
            except ValidationError as exc:
                raise EventError.from_validation(exc) from exc

        is answered with code `validation_error` and pydantic's list. What was validated stays here, also where `msg`
        and `ctx` quote it, unless `include_input=True`. A ValidationError that is raised as it is counts as a bug:
        `internal_error`.
        """
        validation: Any = exc  # pydantic is not known here
        try:
            error = EventError(
                "validation_error", errors=validation.errors(include_url=False, include_input=include_input)
            )
            error.quiet = not include_input
            return error
        except (UnicodeError, KeyError, IndexError, ValueError):  # a custom error whose template fails
            return EventError("validation_error", f"{validation.error_count()} validation errors")

    def __str__(self) -> str:
        return self.code if self.msg is None else f"{self.code}: {self.msg}"


PACKAGE_CODES: Mapping[str, str] = MappingProxyType(
    {
        "malformed_message": "It is JSON, but no object with a string `type`.",
        "unknown_event": "There is no such event.",
        "validation_error": "The fields are not what the event takes: pydantic's list.",
        "response_error": "What the server made is no valid reply.",
        "internal_error": "The server failed.",
        "rate_limited": "More messages than may be sent; the next one may after `retry_after_s` seconds.",
        "unauthorized": "Nobody is signed in.",
        "forbidden": "It is not allowed.",
        "cancelled": "The client cancelled the request.",
        "timeout": "It took longer than it may.",
        "ref_in_use": "The ref is that of a request which is still to be answered.",
        "too_many_streams": "As many streams run as may at once.",
        "overrun": "More items of an upload than the server has asked for.",
        "call_refused": "The client did not answer what it was asked.",
        "call_timeout": "The client did not answer in time what it was asked.",
        "invalid_answer": "The client's answer is not of the declared type.",
    }
)
"""The codes that this package answers with on its own account, and when."""

SHARED_CODES = frozenset({"unauthorized", "forbidden"})
"""Those of them that an application may declare as its own, without details."""


def _own_details(cls: type[EventError]) -> list[str]:
    """What the class annotates that its bases do not have."""
    own = get_annotations(cls, format=Format.FORWARDREF)
    names = [name for name, hint in own.items() if not (hasattr(EventError, name) or _is_of_class(hint))]
    for name in names:
        if name.startswith("_"):
            raise DefinitionError(f"{cls.__name__}.{name}: a detail is told to clients; name it without an underscore")
    return names


def _is_of_class(hint: Any) -> bool:
    if isinstance(hint, str):  # `from __future__ import annotations`
        return hint.startswith(("ClassVar", "typing.ClassVar", "t.ClassVar"))
    return hint is ClassVar or get_origin(hint) is ClassVar


def _init_details(self: EventError, **details: Any) -> None:
    """`SoldOut(left=3)`: the `__init__` of a class with details."""
    cls = type(self)
    given = {name: getattr(cls, name) for name in cls.detail_names if hasattr(cls, name)} | details
    if missing := [name for name in cls.detail_names if name not in given]:
        raise TypeError(f"{cls.__name__} needs {', '.join(f'{name}=...' for name in missing)}")
    for name in details:
        if name not in cls.detail_names:
            raise TypeError(f"{cls.__name__} has no detail {name!r}{did_you_mean(name, cls.detail_names)}")
    code = cls._own_code()
    text = code.replace("_", " ") if cls.msg is None else cls.msg.format_map(given)
    EventError.__init__(
        self,
        code,
        text,
        errors=[{"type": code, "loc": [], "msg": text, "ctx": {n: given[n] for n in cls.detail_names}}],
    )
    for name, value in given.items():
        setattr(self, name, value)


class RateLimited(EventError):
    """
    More messages than a `RateLimit` lets pass; the next one passes after `retry_after_s` seconds. Answered with

        {"type":"error","code":"rate_limited","ref":7,"errors":[],"retry_after_s":0.42}
    """

    code = "rate_limited"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(self.code)
        self.retry_after_s = retry_after_s
        self.details = {"retry_after_s": retry_after_s}


class CallFailed(SocketsundsoError):
    """
    A call to the client has no answer. A message whose handler does not catch it is answered with `wire_code`, and
    nothing is logged: clients can do that at will.
    """

    wire_code = "call_failed"


class CallRefused(CallFailed):
    """
    The client does not answer. That of `{"type":"reply","ref":"s:1","error":{"code":"declined","message":"no"}}` has
    the `code` "declined" and the `message` "no", which may be None: words of the client.

    The server's own: `overrun`, where so much is queued before the answer that it could not be read.
    """

    wire_code = "call_refused"

    def __init__(self, code: str, message: str | None = None) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return self.code if self.message is None else f"{self.code}: {self.message}"


class CallTimeout(CallFailed, TimeoutError):
    """The client has not answered within `timeout_s`."""

    wire_code = "call_timeout"


class InvalidAnswer(CallFailed):
    """
    The client's answer is not of the declared type.

    `errors` is pydantic's list, with places such as ["answer", "text"]; the client is told the same. `validation` is
    pydantic's ValidationError itself.
    """

    wire_code = "invalid_answer"

    def __init__(self, validation: Exception) -> None:
        super().__init__(str(validation))
        self.validation: Any = validation  # pydantic is not known here

    @property
    def errors(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.validation.errors(include_url=False)
        return found


class FrameError(SocketsundsoError):
    """What the peer sent cannot be read at all: the connection is closed with `close_code` and `reason`."""

    close_code = 1003
    reason = ""


class MalformedFrame(FrameError):
    """The frame is not JSON (RFC 8259), which includes the tokens NaN and Infinity. Closes 1003."""

    close_code = 1003
    reason = "malformed JSON"


class MalformedMsgpack(MalformedFrame):
    """The frame is not MessagePack, where that was negotiated. Closes 1003."""

    reason = "malformed MessagePack"


class InvalidUTF8(FrameError):
    """A binary frame that is not UTF-8. Closes 1007."""

    close_code = 1007
    reason = "invalid UTF-8"


class BackplaneUnavailable(SocketsundsoError):
    """
    The engine between the processes is away, and what was asked cannot be promised without it.

    After `send_many`, `taken` tells how many of the messages, from the first on, the engine has certainly taken.
    """

    def __init__(self, *args: object, taken: int = 0) -> None:
        super().__init__(*args)
        self.taken = taken
