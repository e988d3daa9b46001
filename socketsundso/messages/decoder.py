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
from typing import Any, ClassVar, Protocol, Union

import msgspec
from msgspec import Raw

from socketsundso.messages.error_frames import MalformedMessage, MessageError, UnknownEvent
from socketsundso.messages.judge import BAD_REF, REF_TYPE, UNREADABLE, Frame, Ref, check_syntax, read_ref, text_of
from socketsundso.messages.route import Refused, Route, Unread
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
        uploads: bool = False,
        binary: Route | None = None,
    ) -> None:
        self.routes = dict(routes)
        self.binary = binary  # that of binary frames, where they are no JSON
        self.converses = converses  # streams, concurrent handlers, time limits: more than one message may be under way
        self.uploads = uploads  # handlers that take items are among them
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
        return (*self.routes.values(), *([] if self.binary is None else [self.binary]))

    def find(self, frame: Frame) -> Unread:
        """
        Whose message a frame is that the fast path refused; its fields have not been looked at yet.

        Raises `MalformedFrame` or `InvalidUTF8` (the connection ends), `MalformedMessage` or `UnknownEvent`.
        """
        text = frame if isinstance(frame, str) else text_of(frame)
        try:
            peek = self._peek(text)
            return Unread(self.routes[peek.type], peek.ref, text)
        except (*UNREADABLE, KeyError):
            check_syntax(text)
            return self._envelope(text)

    def missing_ref(self, frame: Frame) -> MessageError:
        """The error for a message that needs a `ref` and has none, or none that is valid."""
        given = _shown(text_of(frame))
        if isinstance(given, dict) and given.get(self.ref_key) is not None:
            return MessageError("validation_error", [_detail(BAD_REF.type, [self.ref_key], BAD_REF.message())])
        missing = {**_detail("missing", [self.ref_key], "Field required"), "input": given}
        return MessageError("validation_error", [missing])

    def _envelope(self, text: str) -> Unread:
        """The slow look at a frame whose `type` or `ref` is not as it should be."""
        try:
            envelope = msgspec.json.decode(text, type=dict[str, Raw])
        except UNREADABLE:
            raise MalformedMessage([_detail("dict_type", [], "Input should be an object")]) from None
        ref, _ = read_ref(envelope.get(self.ref_key))
        return Unread(self._route(envelope, text, ref), ref, text)

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
        permitted = _fitting(name for name, route in self.routes.items() if not route.hidden)
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


def _detail(kind: str, loc: list[str | int], msg: str) -> dict[str, Any]:
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
