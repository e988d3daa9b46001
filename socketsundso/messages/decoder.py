"""
Routes -> `Decoder`: bytes of a frame in, a message ready to be called out.

The fast path is one C call: every event is one tagged `msgspec.Struct`, all of them form one union, and each
Struct carries a generated `call` that unpacks it into the handler.

Whatever the fast path refuses goes to `Decoder.find`, which tells whose message it is; in its route's `call_unread`
pydantic decides on the whole frame.

Knows nothing of connections. What a peer sends raises only what is listed at `Decoder.find`, and `Refused`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, Union

import msgspec
from msgspec import Raw

from socketsundso.errors import MalformedFrame
from socketsundso.messages.codecs import Frame, Misshapen, text_of
from socketsundso.messages.error_frames import MalformedMessage, MessageError, UnknownEvent, malformed
from socketsundso.messages.framing import CANONICAL, Framing
from socketsundso.messages.judge import check_syntax
from socketsundso.messages.refs import BAD_REF, UNREADABLE, Ref, read_ref
from socketsundso.messages.route import Refused, Route, Unread
from socketsundso.messages.structs import by_pydantic

UNDECODABLE = (Exception,)
"""What the fast path may raise for a frame that it does not take: what msgspec raises, and whatever a Struct's
`__post_init__` or a default's factory does. The judge decides then."""

_NOTIFICATIONS = ("cancel", "item", "complete", "reply")
"""Routes of what is about another message: in an envelope that answers requests, these are none."""

_NO_TEXTS: Mapping[str, Any] = MappingProxyType({})
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
        framing: Framing = CANONICAL,
        disclose_events: bool = True,
        converses: bool = False,
        uploads: bool = False,
        texts: Mapping[str, Any] = _NO_TEXTS,
        batches: Route | None = None,
        binary: Route | None = None,
    ) -> None:
        self.routes = dict(routes)
        self.binary = binary  # that of binary frames, where they are no JSON
        self.converses = converses  # streams, concurrent handlers, time limits: more than one message may be under way
        self.uploads = uploads  # handlers that take items are among them
        self.framing = framing
        self.texts = texts  # whole frames that are messages as they are, without being decoded
        self.batches = batches  # whose message several requests in one frame are
        self._disclose = disclose_events
        self.decode: Callable[[Frame], Message] = self._first_decode
        if batches is not None:
            self.find = self._find_any  # type: ignore[method-assign]

    def _first_decode(self, frame: Frame) -> Message:
        # With a single Struct in the union msgspec would make the tag optional; without any it cannot be built.
        tag = _PADDING_TAG
        while tag in self.routes:
            tag += _PADDING_TAG
        padding = self.framing.padding(tag, {"call": _refuse, "route": None, "ref": None})
        answers_apart = self.framing.response is not None and "reply" in self.routes  # by a Struct of their own
        structs = tuple(each.struct for name, each in self.routes.items() if not (answers_apart and name == "reply"))
        self.decode = self.framing.codec.decoder(Union[(padding, *structs)], by_pydantic)
        if (response := self.framing.response) is not None and "reply" in self.routes:
            self.decode = functools.partial(_decode_either, self.decode, self._responses(response))
        if self.texts:
            self.decode = functools.partial(_decode_any, self.texts, self.decode)
        if self.binary is not None:
            self.decode = _unless_binary(self.decode, self.binary.struct())
        message: Message = self.decode(frame)
        return message

    @functools.cached_property
    def overridable(self) -> tuple[Callable[..., Any], ...]:
        """The dependencies of all handlers."""
        return tuple(call for route in self._handled for call in route.signature.overridable)

    @functools.cached_property
    def handshake(self) -> Mapping[str, Parameter]:
        """What they take of the handshake, by name."""
        return {name: taken for route in self._handled for name, taken in route.signature.handshake.items()}

    @property
    def _handled(self) -> Iterable[Route]:
        """Those of events, and of binary frames."""
        return (*self.routes.values(), *([] if self.binary is None else [self.binary]))

    def _responses(self, response: Callable[[Mapping[str, Any]], type]) -> Callable[[Frame], Any]:
        names = {"route": self.routes["reply"], "error": None}
        return msgspec.json.Decoder(response(names)).decode

    def find(self, frame: Frame) -> Unread:
        """
        Whose message a frame is that the fast path refused; its fields have not been looked at yet.

        Raises `MalformedFrame` or `InvalidUTF8` (the connection ends), `MalformedMessage` or `UnknownEvent`.
        """
        text = frame if isinstance(frame, str) else self._text(frame)
        try:
            peek = self.framing.peek(text)
            return Unread(self.routes[peek.type], peek.ref, text)
        except (*UNREADABLE, KeyError):
            check_syntax(text)
            return self._envelope(text)

    def _find_any(self, frame: Frame) -> Unread:
        """The same of one request, or of several."""
        text = text_of(frame)
        try:
            if self.framing.requests(text) is not None:
                return Unread(self.batches, None, text)
        except Misshapen as exc:
            raise malformed(exc) from None
        return self.find_request(text)

    def find_request(self, text: str) -> Unread:
        """The same of one request alone, whose fields may have no names; what is no JSON is no reason to close."""
        try:
            check_syntax(text)
        except MalformedFrame as exc:
            raise MessageError("parse_error", [_detail("json_invalid", [], f"Invalid JSON: {exc}")]) from None
        try:
            found = self._envelope(text)
        except MessageError:
            if self.framing.is_answer(text):
                raise MessageError("unexpected_answer", []) from None
            raise
        if found.route.apart in _NOTIFICATIONS and found.ref is not None:
            what = f"{found.route.event!r} is a notification, which has none"
            raise MalformedMessage([_detail("extra_forbidden", [self.framing.ref_place], what)], found.ref)
        try:
            return Unread(found.route, found.ref, self.framing.named(text, found.route.keys))
        except Misshapen as exc:
            raise MessageError("validation_error", [_detail(exc.kind, list(exc.place), exc.msg)], found.ref) from None

    def missing_ref(self, frame: Frame) -> MessageError:
        """The error for a message that needs a `ref` and has none, or none that is valid."""
        place = [self.framing.ref_place]
        try:
            text = self._text(frame)
        except MalformedMessage as exc:
            return exc
        given = self.framing.outline(text).ref
        if given is not None and bytes(given) != b"null":
            return MessageError("validation_error", [_detail(BAD_REF.type, place, BAD_REF.message())])
        missing = {**_detail("missing", place, "Field required"), "input": _shown(text)}
        return MessageError("validation_error", [missing])

    def _text(self, frame: Frame) -> str:
        try:
            return self.framing.codec.text_of(frame)
        except Misshapen as exc:
            raise malformed(exc) from None

    def _envelope(self, text: str) -> Unread:
        """The slow look at a frame whose `type` or `ref` is not as it should be."""
        try:
            given, raw_ref = self.framing.outline(text)
        except Misshapen as exc:
            raise malformed(exc) from None
        ref, _ = read_ref(raw_ref)
        return Unread(self._route(given, text, ref), ref, text)

    def _route(self, raw: Raw | None, text: str, ref: Ref | None) -> Route:
        if raw is None:
            missing = {**_detail("missing", [self.framing.type_place], "Field required"), "input": _shown(text)}
            raise MalformedMessage([missing], ref)
        given = _shown(raw)
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
        place = [self.framing.type_place]
        if not self._disclose:
            return {**_detail("literal_error", place, "Input should be an event of this endpoint"), "input": given,
                    "ctx": {"given": given}}  # fmt: skip
        permitted = _fitting(name for name, route in self.routes.items() if not route.hidden)
        expected = _enumerate(permitted)
        return {
            **_detail("literal_error", place, f"Input should be {expected}"),
            "input": given,
            "ctx": {"expected": expected, "given": given, "permitted": permitted},
        }


def _decode_either(decode: Callable[[Frame], Any], otherwise: Callable[[Frame], Any], frame: Frame) -> Any:
    try:
        return decode(frame)
    except UNDECODABLE:
        return otherwise(frame)


def _decode_any(texts: Mapping[str, Any], decode: Callable[[Frame], Any], frame: Frame) -> Any:
    return texts[frame] if type(frame) is str and frame in texts else decode(frame)


def _fitting(names: Iterable[str]) -> list[str]:
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


def _detail(kind: str, loc: list[Any], msg: str) -> dict[str, Any]:
    return {"type": kind, "loc": loc, "msg": msg}


def _shown(text: str | Raw) -> Any:
    """A value for showing it in an error; None for numbers that Python could not hold."""
    try:
        return msgspec.json.decode(text)
    except UNREADABLE:
        return None


def _unless_binary(decode: Callable[[Frame], Message], binary: Message) -> Callable[[Frame], Message]:
    """Texts are decoded; what is binary is for its handler as it is."""

    def decode_text(frame: Frame) -> Message:
        return decode(frame) if type(frame) is str else binary

    return decode_text


def _refuse(message: Any, endpoint: Any, frame: Frame) -> None:
    raise Refused
