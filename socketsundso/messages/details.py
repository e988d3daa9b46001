"""
What an application's error tells beside its code: its details, checked where it is declared, written as a reply is.

    class SoldOut(EventError):
        code = "sold_out"
        left: int

    SoldOut(left=3)   ->   "ctx": {"left": 3}

Refuses, with `DefinitionError`, an error that nobody could tell from another, and a detail that JSON has no form for.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Raw
from typing_extensions import TypedDict

from socketsundso.errors import PACKAGE_CODES, SHARED_CODES, DefinitionError, EventError
from socketsundso.messages.annotations import UnsupportedAnnotation, check
from socketsundso.messages.declared import field_types
from socketsundso.messages.framing import canonical
from socketsundso.messages.replies import ResponseOptions, encoder_for
from socketsundso.messages.response_errors import ResponseError
from socketsundso.messages.values import Encoder

logger = logging.getLogger("socketsundso")

_encoders: WeakKeyDictionary[type[EventError], Encoder] = WeakKeyDictionary()


def details_of(kind: type[EventError]) -> Mapping[str, Any]:
    """The annotations of its details, in the order in which they are told."""
    types = field_types(kind) if kind.detail_names else {}
    return {name: types[name] for name in kind.detail_names}


def written(exc: EventError) -> EventError:
    """
    The same error with its details as JSON, for its frame.

    Details that are not as they are declared are logged, and the `ResponseError` about them is given.
    """
    kind = type(exc)
    try:
        encoder = _encoders.get(kind) or _encoders.setdefault(kind, _encoder(kind))
        errors = [{**each, "ctx": _context(encoder, each["ctx"])} if "ctx" in each else each for each in exc.errors]
    except (ResponseError, DefinitionError) as failure:
        logger.error("%r cannot be told as it is declared", exc, exc_info=failure)
        return failure if isinstance(failure, ResponseError) else EventError("internal_error")
    told = copy.copy(exc)
    told.errors = errors
    return told


def _context(encoder: Encoder, given: Mapping[str, Any]) -> Raw:
    return msgspec.json.decode(encoder.encode({"ctx": given}), type=dict[str, Raw])["ctx"]


def _encoder(kind: type[EventError]) -> Encoder:
    """What writes `{"type": code, "ctx": details}`."""
    return encoder_for(kind.code, _keys({"ctx": _keys(details_of(kind))}), ResponseOptions(), framing=canonical(None))


def _keys(types: Mapping[str, Any]) -> Any:
    """An object with these keys."""
    return TypedDict("Keys", dict(types))  # type: ignore[operator]  # known at run time


def check_errors(where: str, errors: Any) -> tuple[type[EventError], ...]:
    """`errors` of an event, as they were declared. Raises `DefinitionError`, which says `where`."""
    if isinstance(errors, str | type) or not isinstance(errors, Iterable):
        raise DefinitionError(f"{where}: errors is {errors!r}; it is a list of classes: errors=[SoldOut]")
    declared: tuple[Any, ...] = tuple(errors)
    for kind in declared:
        _check(where, kind)
    refuse_alike(where, declared)
    return declared


def _check(where: str, kind: Any) -> None:
    if not isinstance(kind, type) or not issubclass(kind, EventError):
        raise DefinitionError(
            f"{where}: errors has {kind!r}; it lists subclasses of EventError: "
            '`class SoldOut(EventError): code = "sold_out"`'
        )
    code: Any = kind.code
    if not isinstance(code, str) or not code or code == EventError.code:
        raise DefinitionError(
            f"{where}: {kind.__name__} has no code to be told from other errors by; give its class one: "
            '`code = "sold_out"`'
        )
    if code in PACKAGE_CODES and (kind.detail_names or code not in SHARED_CODES):
        raise DefinitionError(
            f"{where}: {kind.__name__} has the code {code!r}, which is this package's own; give it another one"
        )
    if dataclasses.is_dataclass(kind):
        raise DefinitionError(
            f"{where}: {kind.__name__} is a dataclass, which would not tell its details; leave @dataclass out, an "
            "EventError has such an __init__ already"
        )
    _check_details(where, kind)


def _check_details(where: str, kind: type[EventError]) -> None:
    try:
        for name, annotation in details_of(kind).items():
            _check_detail(f"{where}, {kind.__name__}.{name}", name, annotation)
        if kind.msg is not None and kind.detail_names:
            kind.msg.format_map(dict.fromkeys(kind.detail_names, _Anything()))
    except NameError as exc:
        raise DefinitionError(f"{where}: {kind.__name__}: {exc}; define the name before the endpoint") from exc
    except (KeyError, IndexError, ValueError) as exc:
        names = ", ".join(kind.detail_names)
        raise DefinitionError(
            f"{where}: {kind.__name__}.msg is {kind.msg!r}, which cannot be filled in with {names}: {exc!r}"
        ) from exc


def _check_detail(where: str, name: str, annotation: Any) -> None:
    try:
        check(annotation)
        encoder_for(name, _keys({name: annotation}), ResponseOptions(), framing=canonical(None))
    except (UnsupportedAnnotation, DefinitionError) as exc:
        raise DefinitionError(f"{where}: {annotation!r} is told as JSON, and cannot be: {exc}") from exc


class _Anything:
    """Stands in a text for any value."""

    def __format__(self, spec: str) -> str:
        return ""

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __getitem__(self, key: object) -> _Anything:
        return self


def refuse_alike(where: str, errors: Iterable[type[EventError]]) -> None:
    """Raises `DefinitionError` for two classes of one code: a client knows them by it."""
    by_code: dict[str, type[EventError]] = {}
    for kind in errors:
        if (other := by_code.setdefault(kind.code, kind)) is not kind:
            raise DefinitionError(
                f"{where}: {other.__module__}.{other.__qualname__} and {kind.__module__}.{kind.__qualname__} both have "
                f"the code {kind.code!r}; give one of them another, or declare the same class"
            )
