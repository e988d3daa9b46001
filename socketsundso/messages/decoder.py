"""
Routes -> `Decoder`: bytes of a frame in, a message ready to be called out.

The fast path is one C call: every event is one tagged `msgspec.Struct`, all of them form one union, and each
Struct carries a generated `call` that unpacks it into the handler.

Whatever the fast path refuses goes to `Decoder.judge`, where pydantic decides on the whole frame.

Knows nothing of connections. What a peer sends raises only what is listed at `Decoder.judge`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, Union

import msgspec
from msgspec import Raw
from pydantic_core import ValidationError

from socketsundso.errors import InvalidUTF8, MalformedFrame
from socketsundso.messages.error_frames import MalformedMessage, MessageError, UnknownEvent
from socketsundso.messages.judge import REF_TYPE, UNREADABLE, Frame, Ref, read_ref
from socketsundso.messages.route import Judgement, Refused, Route
from socketsundso.messages.structs import by_pydantic

UNDECODABLE = (Exception,)
"""What the fast path may raise for a frame that it does not take: what msgspec raises, and whatever a Struct's
`__post_init__` or a default's factory does. The judge decides then."""

_PADDING_TAG = "\x00"
_MAX_GIVEN = 128  # characters of an unknown event's name that are echoed
_MAX_PERMITTED = 4096  # characters of event names that an unknown-event answer lists


class Message(Protocol):
    """What `Decoder.decode` gives: one event's Struct."""

    route: ClassVar[Any]
    error: ClassVar[None]
    ref: Ref | None

    def call(self, endpoint: Any, frame: Frame) -> Any:
        """Call the handler. Raises `Refused` if a raw field is not valid."""


class Decoder:
    """All routes of an endpoint as one decoder. Built on its first use, since building a union costs a while."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        ref_key: str = "ref",
        disclose_events: bool = True,
        converses: bool = False,
    ) -> None:
        self.routes = dict(routes)
        self.converses = converses  # streams, concurrent handlers, time limits: more than one message may be under way
        self.ref_key = ref_key
        self._disclose = disclose_events
        self.decode: Callable[[Frame], Message] = self._first_decode
        self._peek = _peek_decoder(ref_key)

    def _first_decode(self, frame: Frame) -> Message:
        # With a single Struct in the union msgspec would make the tag optional; without any it cannot be built.
        tag = _PADDING_TAG
        while tag in self.routes:
            tag += _PADDING_TAG
        padding: type = msgspec.defstruct(
            "Padding", [], namespace={"call": _refuse, "route": None, "ref": None}, tag_field="type", tag=tag
        )
        structs = tuple(route.struct for route in self.routes.values())
        self.decode = msgspec.json.Decoder(Union[(padding, *structs)], dec_hook=by_pydantic).decode
        message: Message = self.decode(frame)
        return message

    def judge(self, frame: Frame) -> Judgement:
        """
        What pydantic says of a frame that the fast path refused.

        Raises `MalformedFrame` or `InvalidUTF8` (the connection ends), `MalformedMessage` or `UnknownEvent`.
        """
        text = frame if isinstance(frame, str) else _text(frame)
        try:
            peek = self._peek(text)
            route = self.routes[peek.type]
        except (*UNREADABLE, KeyError):
            _check_syntax(text)
            route, ref, ref_is_valid = self._envelope(text)
            return _judged(route, text, ref, ref_is_valid)
        judgement = _judged(route, text, peek.ref)
        # Pydantic would take NaN and Infinity, and may find an error before it finds that the frame is not JSON.
        if judgement.error is not None or "N" in text or "Infinity" in text:
            _check_syntax(text)
        return judgement

    def missing_ref(self, frame: Frame) -> MessageError:
        """The error for a message that needs a `ref` and has none."""
        text = frame if isinstance(frame, str) else _text(frame)
        missing = {**_detail("missing", [self.ref_key], "Field required"), "input": _shown(text)}
        return MessageError("validation_error", [missing])

    def _envelope(self, text: str) -> tuple[Route, Ref | None, bool]:
        """The slow look at a frame whose `type` or `ref` is not as it should be."""
        try:
            envelope = msgspec.json.decode(text, type=dict[str, Raw])
        except UNREADABLE:
            raise MalformedMessage([_detail("dict_type", [], "Input should be an object")]) from None
        ref, ref_is_valid = read_ref(envelope.get(self.ref_key))
        return self._route(envelope, text, ref), ref, ref_is_valid

    def _route(self, envelope: Mapping[str, Raw], text: str, ref: Ref | None) -> Route:
        if "type" not in envelope:
            missing = {**_detail("missing", ["type"], "Field required"), "input": _shown(text)}
            raise MalformedMessage([missing], ref)
        given = _shown(envelope["type"])
        if isinstance(given, str):
            if given in self.routes:
                return self.routes[given]
            raise UnknownEvent([self._unknown(given)], ref)
        raise MalformedMessage([self._unknown(given)], ref)

    def _unknown(self, given: Any) -> dict[str, Any]:
        if isinstance(given, str) and len(given) > _MAX_GIVEN:
            given = given[:_MAX_GIVEN] + "…"
        elif isinstance(given, dict | list) and len(msgspec.json.encode(given)) > _MAX_GIVEN:
            given = type(given)()
        if not self._disclose:
            return {**_detail("literal_error", ["type"], "Input should be an event of this endpoint"), "input": given,
                    "ctx": {"given": given}}  # fmt: skip
        permitted = _fitting(self.routes)
        expected = _enumerate(permitted)
        return {
            **_detail("literal_error", ["type"], f"Input should be {expected}"),
            "input": given,
            "ctx": {"expected": expected, "given": given, "permitted": permitted},
        }


@functools.cache
def _peek_decoder(ref_key: str) -> Callable[[Frame], Any]:
    """Finds `type` and `ref` alone, in one call."""
    peek: type = msgspec.defstruct(
        "Peek", [("type", str), ("ref", REF_TYPE, msgspec.field(name=ref_key, default=None))], gc=False
    )
    return msgspec.json.Decoder(peek).decode


def _judged(route: Route, text: str, ref: Ref | None, ref_is_valid: bool = True) -> Judgement:
    try:
        return Judgement(route, ref, arguments=route.exact(text))
    except ValidationError as exc:
        # Its traceback says nothing, and would keep the endpoint alive until the collector comes.
        return Judgement(route, ref if ref_is_valid else None, error=exc.with_traceback(None))
    except Exception as exc:  # the validators are the application's code: anything may come
        return Judgement(route, ref if ref_is_valid else None, error=exc)


def _check_syntax(text: str) -> None:
    try:
        msgspec.json.decode(text, type=Raw)
    except UNREADABLE as exc:
        raise MalformedFrame(str(exc)) from None


def _fitting(names: Mapping[str, Any]) -> list[str]:
    """As many event names as an answer may list."""
    listed, size = [], 0
    for name in names:
        size += len(name)
        if size > _MAX_PERMITTED:
            break
        listed.append(name)
    return listed


def _enumerate(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _detail(kind: str, loc: list[str | int], msg: str) -> dict[str, Any]:
    return {"type": kind, "loc": loc, "msg": msg}


def _shown(text: str | Raw) -> Any:
    """A value for showing it in an error; None for numbers that Python could not hold."""
    try:
        return msgspec.json.decode(text)
    except UNREADABLE:
        return None


def _text(frame: bytes) -> str:
    try:
        return bytes(frame).decode()
    except UnicodeDecodeError as exc:
        raise InvalidUTF8(str(exc)) from None


def _refuse(message: Any, endpoint: Any, frame: Frame) -> None:
    raise Refused
