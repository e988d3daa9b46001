"""
Replies and items in MessagePack: what their JSON says.

    {"type":"posted","n":1}   ->   82 a4 type a6 posted a1 n 01

JSON is written, and packed. That is left out for models and Structs of text, numbers, booleans and None, and of lists,
dicts and others of such, once every value has been looked at, and for dicts that orjson takes without help: those are
the same in both.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from socketsundso.messages import codegen
from socketsundso.messages.framing import Framing
from socketsundso.messages.packed_framing import FIXMAP, map_head
from socketsundso.messages.plain_fields import Writing, dict_display
from socketsundso.messages.plain_models import Encode, laid_out, plain_encode, tried
from socketsundso.messages.refs import Ref
from socketsundso.messages.replies import ModelEncoder, StructEncoder
from socketsundso.messages.route import Encodes
from socketsundso.messages.struct_checks import check_of
from socketsundso.messages.values import Apart, Encoder, Flat, Undeclared, form_of

_NOTHING_ELSE = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
"""With these orjson refuses what msgspec packs in another way. It looks faster than Python could."""

_encode = msgspec.msgpack.Encoder().encode
_REFUSALS = (KeyError, TypeError, ValueError, OverflowError)  # a number of too many bits, half a surrogate pair


def _struct_display(items: Mapping[str, str], names: dict[str, Any]) -> str:
    """Source of what is written as a map with these keys: a Struct takes half of the time that a dict takes."""
    fields = [(f"field_{index}", Any, msgspec.field(name=key)) for index, key in enumerate(items)]
    try:
        kind = msgspec.defstruct("Packed", fields, gc=False)
    except ValueError:  # a key with a quotation mark
        return dict_display(items, names)
    return f"{codegen.named(kind, names)}({', '.join(items.values())})"


def _text_of(value: Any) -> str:
    """Of a time, a date or a UUID, which are texts in JSON."""
    return orjson.dumps(value, None, orjson.OPT_UTC_Z)[1:-1].decode()


PACKING = Writing(_encode, _REFUSALS, is_exact="{value} - {value} == 0", object=_struct_display, text_of=_text_of)
"""Infinities and NaN are null in JSON."""


class _Typing(NamedTuple):
    """As `values.Flat` and `values.Apart`, packed. `heads` are those of maps with so many items and one more."""

    event: str
    key: str | None
    ref_key: str | None
    layout: Any
    open: bytes
    close: bytes
    heads: tuple[bytes, ...]

    def splice(self, packed: bytes) -> bytes:
        """For a body that is known to be a map without the key; IndexError for one of more than 14 items."""
        if self.key is None:
            return self.open + packed + self.close
        return self.heads[packed[0] - FIXMAP] + packed[1:]


def _typing(typing_: Any, framing: Framing) -> _Typing:
    if not isinstance(typing_, Flat):
        around = framing.around(msgspec.json.encode(typing_.event))
        return _Typing(typing_.event, None, None, typing_.layout, *around, ())
    name = _encode(typing_.key) + _encode(typing_.event)
    heads = tuple(map_head(size + 1) + name for size in range(15))
    return _Typing(typing_.event, typing_.key, typing_.ref_key, None, b"", b"", heads)


class PackedEncoder:
    """What `encoder` writes, packed."""

    def __init__(self, encoder: Encodes, framing: Framing) -> None:
        self._encoder, self._pack, self._with_ref = encoder, framing.codec.pack, framing.with_ref
        self.validate = encoder.validate

    def encode(self, value: Any) -> bytes:
        return self._pack(self._encoder.encode(value))

    def encode_valid(self, value: Any) -> bytes:
        return self._pack(self._encoder.encode_valid(value))

    def encode_answer(self, value: Any, ref: Ref) -> bytes:
        return self._with_ref(self.encode(value), ref)


def packed_encoder(encoder: Encodes, framing: Framing) -> PackedEncoder:
    """What `encoder`, of the envelope in JSON, writes, packed; directly where that is the same."""
    packed = PackedEncoder(encoder, framing)
    careful, direct = Encode(packed.encode, packed.encode_answer), None
    if type(encoder) in (Encoder, Undeclared):
        direct = _dict_encode(typing.cast(Encoder, encoder), framing, careful)
    elif type(encoder) is StructEncoder:
        direct = _struct_encode(encoder, framing, careful)
    elif type(encoder) is ModelEncoder and encoder.plain is not None:
        direct = plain_encode(encoder.plain, _typing(encoder.typing, framing), encoder.by_alias, careful, PACKING)
    if direct is not None:
        packed.encode, packed.encode_answer = direct  # type: ignore[method-assign,assignment]  # chosen once
    return packed


def _dict_encode(encoder: Encoder, framing: Framing, careful: Encode) -> Encode:
    """For dicts that bring neither a name nor a `ref`, and hold nothing but what is the same in JSON, however deep."""
    typing_ = _typing(encoder.typing, framing)
    names: dict[str, Any] = {
        "dumps": orjson.dumps,
        "only": _NOTHING_ELSE,
        "pack": _encode,
        "refusals": _REFUSALS,
        "splice": typing_.splice,
    }

    lacks = "".join(f" and {key!r} not in value" for key in (typing_.key, typing_.ref_key) if key is not None)

    def lines(expression: str) -> list[str]:
        return [
            f"if type(value) is dict{lacks}:",
            "    body = dumps(value, None, only)",
            # of which NaN and the infinities could be one, below the top also None, and a word in a text
            "    if b'null' not in body or body.count(b'null') == [*value.values()].count(None):",
            f"        return {expression}",
        ]

    if typing_.key is None:
        message, answer = "splice(pack(value))", laid_out(typing_.layout, "value", PACKING, names)
    else:
        own = f"{typing_.key!r}: {typing_.event!r}, "
        message = f"pack({{{own}**value}})"
        answer = f"{{{own}{'' if typing_.ref_key is None else f'{typing_.ref_key!r}: ref, '}**value}}"
    return tried(lines, message, f"pack({answer})", careful, names)


def _struct_encode(encoder: StructEncoder, framing: Framing, careful: Encode) -> Encode | None:
    """For one Struct that brings no name, or has it in its tag, and holds what is the same in JSON."""
    if len(encoder.kinds) != 1 or not issubclass(encoder.kinds[0], msgspec.Struct):
        return None
    (kind,) = encoder.kinds
    struct: Any = kind
    config, keys, key = struct.__struct_config__, form_of(kind).keys or frozenset(), encoder.typing.key
    is_tagged = key is not None and config.tag_field == key
    if config.array_like or (key in keys and not is_tagged) or encoder.typing.ref_key in keys:
        return None
    names: dict[str, Any] = {"encode": _encode, "with_ref": framing.with_ref, "refusals": (*_REFUSALS, IndexError)}
    check = check_of(struct, "value", names)
    if check is None:
        return None
    names |= {} if is_tagged else {"splice": _typing(encoder.typing, framing).splice}
    message = "encode(value)" if is_tagged else "splice(encode(value))"

    answer = _struct_answer(encoder, kind, is_tagged, names) or f"with_ref({message}, ref)"
    return tried(lambda expression: [f"if {check}:", f"    return {expression}"], message, answer, careful, names)


def _struct_answer(encoder: StructEncoder, kind: Any, is_tagged: bool, names: dict[str, Any]) -> str | None:
    """The expression for a Struct that is written with all of its fields, and a `ref` beside, or around, them."""
    typing_ = encoder.typing
    if isinstance(typing_, Apart):
        return f"encode({laid_out(typing_.layout, 'value', PACKING, names)})"
    config = kind.__struct_config__
    if config.omit_defaults or typing_.ref_key is None:
        return None
    items = {} if is_tagged else {typing_.key: repr(typing_.event)}
    items |= {} if config.tag_field is None else {config.tag_field: repr(config.tag)}
    fields = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)
    items |= {key: f"value.{field}" for key, field in fields}
    return f"encode({_struct_display(items | {typing_.ref_key: 'ref'}, names)})"
