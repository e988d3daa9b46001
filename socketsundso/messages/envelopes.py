"""
`Envelope` and `ArrayEnvelope`: how an endpoint declares what its messages stand in; `framing_of` compiles that.

    Envelope()                                  {"type":"say","ref":7,"msg":"hi"}
    Envelope(type="action", ref="requestId")    {"action":"say","requestId":7,"msg":"hi"}
    Envelope(type="event", data="payload")      {"event":"say","ref":7,"payload":{"msg":"hi"}}
    ArrayEnvelope("type", "ref", "data")        ["say",7,{"msg":"hi"}]
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from socketsundso.errors import DefinitionError
from socketsundso.messages.framing import ArrayFraming, FlatFraming, Framing, NestedFraming


class AnyEnvelope(Protocol):
    """What `envelope` of an endpoint may be. Equal ones, of equal `ref_key`s, are one framing."""

    @property
    def ref(self) -> str | None:
        """The key that requests and answers share, if it is given here."""

    def framing(self, ref_key: str) -> Framing:
        """What it is compiled to, for an endpoint with this `ref_key`. Raises `DefinitionError`."""


@dataclass(frozen=True)
class Envelope:
    """
    Messages that are objects: `envelope = Envelope(type="event", data="payload")` in the class of an endpoint.

        {"event":"say","ref":7,"payload":{"msg":"hi"}}

    `type` is the key of a message's name, and `ref` that of what requests and their answers share; without it, the
    class's `ref_key` counts. With `data`, all that a message tells is the value of that key, which requests may leave
    out where the handler needs nothing, and which may be any JSON value in a reply. `extra="ignore"` passes over the
    other keys that clients put beside these, as `v` or `ts`; without `data`, over all that no parameter takes.

    Raises `DefinitionError` for what is no key, and for one that is given twice.
    """

    type: str = "type"
    ref: str | None = None
    data: str | None = None
    extra: Literal["forbid", "ignore"] = "forbid"

    def __post_init__(self) -> None:
        if self.extra not in ("forbid", "ignore"):
            raise DefinitionError(f"{self}: extra is {self.extra!r}; it is 'forbid' or 'ignore'")
        _check_keys(self, [each for each in (self.type, self.ref, self.data) if each is not None])

    def framing(self, ref_key: str) -> Framing:
        """What it is compiled to for an endpoint with this `ref_key`."""
        ref, ignores = self.ref or ref_key, self.extra == "ignore"
        if self.data is None:
            _check_keys(self, [self.type, ref])
            return FlatFraming(self.type, ref, takes_any=ignores)
        _check_keys(self, [self.type, ref, self.data])
        return NestedFraming(self.type, ref, self.data, ignores=ignores)


def _check_keys(envelope: Envelope, keys: list[str]) -> None:
    for key in keys:
        if not isinstance(key, str) or not key or not _is_plain(key):
            raise DefinitionError(
                f"{envelope}: {key!r} is no key that it can have; that is text without quotation marks, backslashes "
                "and control characters"
            )
    for key in {each for each in keys if keys.count(each) > 1}:
        raise DefinitionError(f"{envelope}: two things cannot be at the key {key!r}; give one of them another key")


def _is_plain(key: str) -> bool:
    """What needs escapes in JSON cannot be the key of a msgspec field."""
    try:
        return msgspec.json.encode(key) == b'"%b"' % key.encode()
    except UnicodeError:
        return False


_ARRAYS = (("type", "ref", "data"), ("type", "data", "ref"), ("type", "data"))


@dataclass(frozen=True, init=False)
class ArrayEnvelope:
    """
    Messages that are arrays: `envelope = ArrayEnvelope("type", "ref", "data")` in the class of an endpoint.

        ["say",7,{"msg":"hi"}]

    The parts are "type", which comes first, "data", and, unless requests have none, "ref". Requests may leave trailing
    parts out: `["say"]` where the handler needs nothing. What the server sends has all of them, null where there is no
    `ref`. Raises `DefinitionError` for other parts.
    """

    parts: tuple[str, ...]

    def __init__(self, *parts: str) -> None:
        if parts not in _ARRAYS:
            known = ", ".join(map(str, _ARRAYS))
            raise DefinitionError(f"ArrayEnvelope{parts!r}: there is no such array; its parts are one of {known}")
        object.__setattr__(self, "parts", parts)

    def __repr__(self) -> str:
        return f"ArrayEnvelope({', '.join(map(repr, self.parts))})"

    @property
    def ref(self) -> None:
        """It has no key."""

    def framing(self, ref_key: str) -> Framing:
        """What it is compiled to for an endpoint."""
        return ArrayFraming(self.parts)


def framing_of(cls: Any) -> Framing:
    """
    What the `envelope` of a class is compiled to, with its `ref_key`; of the two, what the nearer base says counts.

    Raises `DefinitionError` where one class says two things of the same key.
    """
    envelope, ref_key, ref = cls.envelope, cls.ref_key, getattr(cls.envelope, "ref", None)
    if isinstance(envelope, type) or not hasattr(envelope, "framing"):
        raise DefinitionError(
            f"{cls.__name__}.envelope is {envelope!r}; it is Envelope(...), ArrayEnvelope(...) or JsonRpc()"
        )
    whole, short = _giver(cls, "envelope"), _giver(cls, "ref_key")
    if ref is not None and whole is short and ref != ref_key:
        raise DefinitionError(
            f"{whole.__name__}: its ref_key is {ref_key!r}, that of its envelope {ref!r}; give one of the two"
        )
    if ref is not None and cls.__mro__.index(short) < cls.__mro__.index(whole):
        envelope = dataclasses.replace(envelope, ref=None)
    return _compiled(envelope, ref_key)


def _giver(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


@functools.cache
def _compiled(envelope: AnyEnvelope, ref_key: str) -> Framing:
    return envelope.framing(ref_key)
