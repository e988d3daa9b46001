"""
How messages stand in the frames of one endpoint: what its `envelope` is compiled to, and the only module that knows.

Two halves. Reading is compiled further: `struct` gives what the frames of an event are decoded to in one call, with the
fields of its handler at the top or, where there is a *data part*, in a Struct of their own; `peek`, `outline` and
`schema` are for what that refuses. Writing begins with the *canonical* form, which is what goes between processes and
into the history of rooms: a flat object whose first key is `type`. `frame` makes of it what the peers of this endpoint
read. Replies are written in their envelope at once: their encoders have what stands `around` the data compiled in.

Knows no route and no connection.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType
from pydantic_core import CoreSchema, core_schema

from socketsundso.messages.canonical import (
    BACKSLASH,
    NAME,
    TYPE_FIRST,
    Numbered,
    as_object,
    end_of_text,
    joined,
    taken_apart,
)
from socketsundso.messages.codecs import JSON, Codec, Misshapen
from socketsundso.messages.refs import REF_TYPE, UNREADABLE, Ref, check_ref

TITLE = "Message"
"""What pydantic's errors about a whole message call it."""

_encode = msgspec.json.Encoder().encode

Fields = list[tuple[str, Any, Any]]
"""`(attribute, type, msgspec.field(name=key))` each."""

Place = tuple[str | int, ...]

DATA, REF = "\0data", "\0ref"
"""What differs from one answer to the next, in a `layout`, and among `parts`. No event is called so."""

Part = bytes | str

_MARKS: Mapping[bytes, Part] = {msgspec.json.encode(mark): mark for mark in (DATA, REF)}
_ANY_MARK = re.compile(b"(" + b"|".join(map(re.escape, _MARKS)) + b")")


class Outline(NamedTuple):
    """What a frame says of itself, raw: None where that is missing."""

    type: Raw | None
    ref: Raw | None


class Framing(ABC):
    """
    What every envelope does.

    `type_place` is where a frame says what it is, and `ref_place` where it says which message it belongs to, None where
    it cannot; keys, or indices. `place` is where the fields stand, what the `loc` of an error in them begins with.
    """

    type_place: str | int
    ref_place: str | int | None
    place: Place = ()

    codec: Codec = JSON
    """What its frames are written in."""

    type_key: str | None = None
    """The key among a message's fields that says what it is; None where they have a part of their own."""

    ref_key: str | None = None
    """The same for its `ref`."""

    whole: FlatFraming | None = None
    """For models that are frames as a whole, with their data part: `event: Literal["joined"]; payload: Room`."""

    is_canonical = False
    """Are its frames the canonical messages as they are?"""

    answers_requests = False
    """Is what has a `ref` answered always, a handler that gives nothing with null, and what has none never?"""

    names_replies = True
    """Does a reply say what it is called? Where not, its class's own word for that is one of its fields."""

    max_batch = 0
    """How many requests may come in one frame, as an array; 0: none do."""

    takes_any = False
    """May there be other keys beside the fields, since they stand beside those of the envelope?"""

    @property
    def model_key(self) -> str:
        """The key at which a model says that it is the whole frame; empty where there is none."""
        return self.type_place if isinstance(self.type_place, str) else ""

    @property
    def unpacked(self) -> Framing:
        """The same in JSON."""
        return self

    @property
    def names(self) -> frozenset[str]:
        """The keys of frames."""
        return frozenset(each for each in (self.type_place, self.ref_place, *self.place) if isinstance(each, str))

    @property
    def answer_place(self) -> Place:
        """Where the answer to a question of the server stands, what the `loc` of an error in it begins with."""
        return (*self.place, "answer")

    # ---- reading

    @abstractmethod
    def struct(
        self, event: str, fields: Fields | None, namespace: Mapping[str, Any], *, closed: bool, needed: bool
    ) -> type:
        """
        What the frames of an event are decoded to, all at once: with `ref`, and these fields.

        Where they have a part of their own they are attributes of `data`, which is a `Data`, or None where they are
        left out and not `needed`. Fields that are None are not looked at; there can be no others than `closed` ones.
        """

    def following(
        self, event: str, fields: Fields, namespace: Mapping[str, Any], *, closed: bool, needed: bool
    ) -> type:
        """The same of what clients say about a request of theirs, which the `ref` is that of."""
        return self.struct(event, fields, namespace, closed=closed, needed=needed)

    response: Callable[[Mapping[str, Any]], type] | None = None
    """What the answers to the server's questions are decoded to, where they are told from requests by their shape."""

    def named(self, text: str, keys: Sequence[str | None]) -> str:
        """A request whose fields may come without names, with them. Raises `Misshapen` for what has none."""
        return text

    def is_answer(self, text: str) -> bool:
        """Is it an answer by its shape, which nothing is to answer?"""
        return False

    def requests(self, text: str) -> list[Raw] | None:
        """Those of a frame that has several, None for one that has not. Raises `Misshapen` for how many they are."""
        return None

    @abstractmethod
    def padding(self, tag: str, namespace: Mapping[str, Any]) -> type:
        """A Struct beside those of events, in the same union."""

    @property
    @abstractmethod
    def peek(self) -> Callable[[str], Any]:
        """Finds `type` and `ref` alone, in one call. Raises `UNREADABLE`."""

    @abstractmethod
    def outline(self, text: str) -> Outline:
        """The slow look at JSON that the peek refuses. Raises `Misshapen`."""

    @abstractmethod
    def data_of(self, text: str) -> bytes:
        """The object that has the fields of a valid frame; where that is flat, the whole frame."""

    @abstractmethod
    def schema(self, fields: dict[str, core_schema.TypedDictField], *, closed: bool, needed: bool) -> CoreSchema:
        """Pydantic's schema of whole frames that have these fields."""

    @abstractmethod
    def found(self, frame: Any) -> dict[str, Any] | None:
        """The fields, by their names, in what `schema` has validated; None where they are left out."""

    # ---- writing

    def around(self, name: bytes) -> tuple[bytes, bytes]:
        """What stands before and behind the data of a message with this name (as JSON), where they are apart."""
        raise NotImplementedError

    @abstractmethod
    def frame(self, canonical: bytes) -> bytes:
        """A canonical message as these peers read it."""

    @abstractmethod
    def answer(self, name: str, fields: Mapping[str, Any], ref: Ref | None) -> Any:
        """A frame that is still to be encoded; None for an error that has no place in this envelope."""

    @abstractmethod
    def with_ref(self, frame: bytes, ref: Ref) -> bytes:
        """The frame, saying which message it answers."""

    def ref_end(self, ref: Ref) -> bytes | None:
        """What `with_ref` puts in the place of a frame's last byte, where that is all it does."""
        return None

    def layout(self, name: str) -> Any:
        """A message with this name and a `ref` that is still to be encoded: `DATA` and `REF` stand in their places."""
        return msgspec.json.decode(self._sample(name))

    def parts(self, name: str) -> list[Part]:
        """The same as JSON."""
        return parts_of(self._sample(name))

    def _sample(self, name: str) -> bytes:
        before, behind = self.around(msgspec.json.encode(name))
        return self.with_ref(before + msgspec.json.encode(DATA) + behind, REF)

    @property
    def of_items(self) -> Framing:
        """How the items of a stream stand in their frames."""
        return self


class ObjectFraming(Framing):
    """Frames that are objects."""

    type_place: str
    ref_place: str

    def __init__(self, type_key: str, ref_key: str) -> None:
        self.type_place, self.ref_place = type_key, ref_key
        self._type_head = b"{" + msgspec.json.encode(type_key) + b":"
        self._ref_head = b"," + msgspec.json.encode(ref_key) + b":"

    @functools.cached_property
    def peek(self) -> Callable[[str], Any]:
        type_ = ("type", str, msgspec.field(name=self.type_place))
        return msgspec.json.Decoder(msgspec.defstruct("Peek", [type_, self._ref_field], gc=False)).decode

    def padding(self, tag: str, namespace: Mapping[str, Any]) -> type:
        return msgspec.defstruct("Padding", [], namespace=dict(namespace), tag_field=self.type_place, tag=tag)

    def outline(self, text: str) -> Outline:
        try:
            keys = msgspec.json.decode(text, type=dict[str, Raw])
        except UNREADABLE:
            raise Misshapen("dict_type", "Input should be an object") from None
        return Outline(keys.get(self.type_place), keys.get(self.ref_place))

    @property
    def _ref_field(self) -> tuple[str, Any, Any]:
        return "ref", REF_TYPE, msgspec.field(name=self.ref_place, default=None)

    def _struct(self, event: str, fields: Fields, namespace: Mapping[str, Any], closed: bool) -> type:
        return msgspec.defstruct(
            f"Message_{identifier(event)}",
            [*fields, self._ref_field],
            namespace=dict(namespace),
            tag_field=self.type_place,
            tag=event,
            forbid_unknown_fields=closed,
            kw_only=True,
            gc=False,
            eq=False,
        )

    def _schema(self, fields: dict[str, core_schema.TypedDictField], closed: bool) -> CoreSchema:
        own = {  # names that no parameter can have
            "type key": core_schema.typed_dict_field(core_schema.any_schema(), validation_alias=self.type_place),
            "ref key": core_schema.typed_dict_field(_REF_SCHEMA, required=False, validation_alias=self.ref_place),
        }
        extra = _extra(closed)
        return core_schema.typed_dict_schema({**fields, **own}, extra_behavior=extra, cls_name=TITLE)

    def with_ref(self, frame: bytes, ref: Ref) -> bytes:
        return b"".join((frame[:-1], self._ref_head, _encode(ref), b"}"))

    def ref_end(self, ref: Ref) -> bytes:
        return self.with_ref(b"}", ref)


class FlatFraming(ObjectFraming):
    """`{"type":"say","ref":7,"msg":"hi"}`: the fields beside the keys of the envelope."""

    def __init__(self, type_key: str = "type", ref_key: str = "ref", *, takes_any: bool = False) -> None:
        super().__init__(type_key, ref_key)
        self.takes_any = takes_any
        self.type_key, self.ref_key = type_key, ref_key
        self.is_canonical = type_key == "type"

    def struct(
        self, event: str, fields: Fields | None, namespace: Mapping[str, Any], *, closed: bool, needed: bool
    ) -> type:
        return self._struct(event, fields or [], namespace, closed and fields is not None)

    def data_of(self, text: str) -> bytes:
        return text.encode()

    def schema(self, fields: dict[str, core_schema.TypedDictField], *, closed: bool, needed: bool) -> CoreSchema:
        return self._schema(fields, closed)

    def found(self, frame: Any) -> dict[str, Any]:
        return frame  # type: ignore[no-any-return]  # a typed dict

    def frame(self, canonical: bytes) -> bytes:
        if self.is_canonical:
            return canonical
        name, data = taken_apart(canonical)
        if self._type_head[1:-1] in data:  # a field of somebody's whose messages are called at another key
            keys = msgspec.json.decode(data, type=dict[str, Raw])
            keys.pop(self.type_place, None)
            data = msgspec.json.encode(keys)
        return joined(name, data, self._type_head)

    def to_canonical(self, frame: bytes) -> bytes:
        """A frame that has been written for these peers, as the canonical message that it is."""
        if frame.startswith(self._type_head + b'"'):
            return TYPE_FIRST[:NAME] + frame[len(self._type_head) :]
        keys = msgspec.json.decode(frame, type=dict[str, Raw])
        return joined(bytes(keys.pop(self.type_place)), msgspec.json.encode(keys))

    def answer(self, name: str, fields: Mapping[str, Any], ref: Ref | None) -> dict[str, Any]:
        if ref is None:
            return {self.type_place: name, **fields}
        return {self.type_place: name, self.ref_place: ref, **fields}


class NestedFraming(ObjectFraming):
    """`{"event":"say","ref":7,"payload":{"msg":"hi"}}`: the fields in an object of their own."""

    def __init__(self, type_key: str, ref_key: str, data_key: str, *, ignores: bool = False) -> None:
        super().__init__(type_key, ref_key)
        self.place = (data_key,)
        self.whole = FlatFraming(type_key, ref_key)
        self._data_key, self._is_closed = data_key, not ignores
        self._data_head = b"," + msgspec.json.encode(data_key) + b":"

    def struct(
        self, event: str, fields: Fields | None, namespace: Mapping[str, Any], *, closed: bool, needed: bool
    ) -> type:
        data = data_field(event, fields, closed, needed, name=self._data_key)
        closed = self._is_closed and fields is not None
        return self._struct(event, [data.field], {**namespace, "Data": data.struct}, closed)

    def data_of(self, text: str) -> bytes:
        keys = msgspec.json.decode(text, type=dict[str, Raw])
        return bytes(keys.get(self._data_key, b"null"))

    def schema(self, fields: dict[str, core_schema.TypedDictField], *, closed: bool, needed: bool) -> CoreSchema:
        data = core_schema.typed_dict_field(
            _data_schema(fields, closed, needed), required=needed, validation_alias=self._data_key
        )
        return self._schema({"data key": data}, self._is_closed)

    def found(self, frame: Any) -> dict[str, Any] | None:
        return frame.get("data key")  # type: ignore[no-any-return]  # a typed dict

    def around(self, name: bytes) -> tuple[bytes, bytes]:
        return self._type_head + name + self._data_head, b"}"

    def frame(self, canonical: bytes) -> bytes:
        end = b"}"
        if isinstance(canonical, Numbered):
            end = b',"room":%b,"seq":%d}' % (msgspec.json.encode(canonical.room), canonical.seq)
            canonical = canonical.message
        name, data = taken_apart(canonical)
        return b"%b%b%b%b%b" % (self._type_head, name, self._data_head, data, end)

    def to_canonical(self, frame: bytes) -> bytes:
        """A frame that has been written for these peers, as the canonical message that it is. Raises ValueError."""
        keys = msgspec.json.decode(frame, type=dict[str, Raw])
        data = bytes(keys.get(self._data_key, b"{}"))
        return joined(bytes(keys[self.type_place]), as_object(b"{}" if data == b"null" else data))

    def answer(self, name: str, fields: Mapping[str, Any], ref: Ref | None) -> dict[str, Any] | None:
        if ref is None:
            return {self.type_place: name, self._data_key: fields}
        return {self.type_place: name, self.ref_place: ref, self._data_key: fields}


class ArrayFraming(Framing):
    """`["say",7,{"msg":"hi"}]`: each part at its index, the name first. Trailing parts may be left out of requests."""

    type_place = 0

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = tuple(parts)
        self.ref_place = self._parts.index("ref") if "ref" in self._parts else None
        self._data_at = self._parts.index("data")
        self.place = (self._data_at,)
        self._is_ref_last = self._parts[-1] == "ref"
        before, behind = self._parts[1 : self._data_at], self._parts[self._data_at + 1 :]
        self._head, self._end = b",null" * len(before) + b",", b",null" * len(behind) + b"]"

    def struct(
        self, event: str, fields: Fields | None, namespace: Mapping[str, Any], *, closed: bool, needed: bool
    ) -> type:
        data = data_field(event, fields, closed, needed)
        names = {"ref": None} if self.ref_place is None else {}
        return self._struct(
            f"Message_{identifier(event)}", data.field, {**names, **namespace, "Data": data.struct}, tag=event
        )

    def _struct(self, name: str, data: tuple[str, Any, Any], namespace: Mapping[str, Any], **options: Any) -> type:
        parts = {"data": data, "ref": ("ref", REF_TYPE, msgspec.field(default=None)), "type": ("type", str)}
        fields: Any = [parts[each] for each in self._parts if each != "type" or not options]
        return msgspec.defstruct(
            name,
            fields,
            namespace=dict(namespace),
            array_like=True,
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
            eq=False,
            **options,
        )

    def padding(self, tag: str, namespace: Mapping[str, Any]) -> type:
        return msgspec.defstruct("Padding", [], namespace=dict(namespace), array_like=True, tag=tag)

    @functools.cached_property
    def peek(self) -> Callable[[str], Any]:
        names = {"ref": None} if self.ref_place is None else {}
        return msgspec.json.Decoder(self._struct("Peek", _UNREAD, names)).decode

    def outline(self, text: str) -> Outline:
        try:
            parts = msgspec.json.decode(text, type=list[Raw])
        except UNREADABLE:
            raise Misshapen("list_type", "Input should be an array") from None
        if len(parts) > len(self._parts):
            raise Misshapen("too_long", f"Input should be an array of at most {len(self._parts)} items")
        given = dict(zip(self._parts, parts, strict=False))
        return Outline(given.get("type"), given.get("ref"))

    def data_of(self, text: str) -> bytes:
        parts = msgspec.json.decode(text, type=list[Raw])
        return bytes(parts[self._data_at]) if self._data_at < len(parts) else b"null"

    def schema(self, fields: dict[str, core_schema.TypedDictField], *, closed: bool, needed: bool) -> CoreSchema:
        data = _data_schema(fields, closed, needed)
        parts = {
            "type": core_schema.any_schema(),
            "ref": core_schema.with_default_schema(_REF_SCHEMA, default=None),
            "data": data if needed else core_schema.with_default_schema(data, default=None),
        }
        return core_schema.tuple_schema([parts[each] for each in self._parts])

    def found(self, frame: Any) -> dict[str, Any] | None:
        return frame[self._data_at]  # type: ignore[no-any-return]  # a typed dict

    def around(self, name: bytes) -> tuple[bytes, bytes]:
        return b"[" + name + self._head, self._end

    def frame(self, canonical: bytes) -> bytes:
        name, data = taken_apart(canonical)
        return b"[%b%b%b%b" % (name, self._head, data, self._end)

    def answer(self, name: str, fields: Mapping[str, Any], ref: Ref | None) -> list[Any]:
        parts = {"type": name, "ref": ref, "data": fields}
        return [parts[each] for each in self._parts]

    def with_ref(self, frame: bytes, ref: Ref) -> bytes:
        if self._is_ref_last:
            return b"".join((frame[: -len(b"null]")], _encode(ref), b"]"))
        if self.ref_place is None:
            return frame
        end = frame.index(b'",null') + 1  # where the name ends, unless it has an escaped quotation mark
        if frame[end - 2] == BACKSLASH:
            end = end_of_text(frame, 1)
        return b"".join((frame[:end], b",", _encode(ref), frame[end + len(b",null") :]))


class _Data(NamedTuple):
    struct: type | None
    field: tuple[str, Any, Any]


def data_field(event: str, fields: Fields | None, closed: bool, needed: bool, **name: str) -> _Data:
    """The data part of an event's frames, and the field that has it."""
    if fields is None:
        return _Data(None, ("data", Raw | UnsetType, msgspec.field(default=UNSET, **name)))
    kind = msgspec.defstruct(
        f"Data_{identifier(event)}", fields, forbid_unknown_fields=closed, kw_only=True, gc=False, eq=False
    )
    if needed:
        return _Data(kind, ("data", kind, msgspec.field(**name)))
    return _Data(kind, ("data", kind | None, msgspec.field(default=None, **name)))


_UNREAD = ("data", Raw | UnsetType, msgspec.field(default=UNSET))

_REF_SCHEMA = core_schema.no_info_plain_validator_function(check_ref)


def _data_schema(fields: dict[str, core_schema.TypedDictField], closed: bool, needed: bool) -> CoreSchema:
    schema = core_schema.typed_dict_schema(fields, extra_behavior=_extra(closed), cls_name=TITLE)
    return schema if needed else core_schema.nullable_schema(schema)


def parts_of(frame: bytes) -> list[Part]:
    """A frame in JSON, apart: `DATA` and `REF` are what they are."""
    return [_MARKS.get(part, part) for part in _ANY_MARK.split(frame)]


def _extra(closed: bool) -> Literal["forbid", "ignore"]:
    return "forbid" if closed else "ignore"


def identifier(event: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in event)


CANONICAL = FlatFraming()
"""That of endpoints which declare no envelope."""


APART = NestedFraming("type", "ref", "data")
"""What canonical messages are made of where a key `type` among their fields is none that says what they are."""


@functools.cache
def canonical_framing(ref_key: str | None) -> FlatFraming:
    """Canonical messages in which this key is not for their fields; none is, where that is None."""
    framing = FlatFraming("type", ref_key or "")
    framing.ref_key = ref_key
    return framing
