"""
Replies and items in MessagePack: what their JSON says.

    {"type":"posted","n":1}   ->   82 a4 type a6 posted a1 n 01

JSON is written, and packed. That is left out for dicts, models and Structs of nothing but text, numbers, booleans and
None, once every value has been looked at: those are the same in both.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from socketsundso.messages import codegen
from socketsundso.messages.aliases import UNIONS
from socketsundso.messages.framing import Framing
from socketsundso.messages.packed_framing import FIXMAP, map_head
from socketsundso.messages.plain_models import Writing, plain_encode
from socketsundso.messages.replies import ModelEncoder, StructEncoder
from socketsundso.messages.route import Encodes
from socketsundso.messages.values import Encoder, Flat, Undeclared, form_of

_SCALARS = frozenset({str, bool, int, type(None)})
_NUMBERS = _SCALARS | {float}
_TEXTS = frozenset({str})
_encode = msgspec.msgpack.Encoder().encode
_REFUSALS = (KeyError, TypeError, ValueError, OverflowError)  # a number of too many bits, half a surrogate pair

PACKING = Writing(_encode, _REFUSALS, is_exact="{value} - {value} == 0")
"""Infinities and NaN are null in JSON."""


class _Typing(NamedTuple):
    """As `values.Flat` and `values.Apart`, packed. `heads` are those of maps with so many items and one more."""

    event: str
    key: str | None
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
        return _Typing(typing_.event, None, *framing.around(msgspec.json.encode(typing_.event)), ())
    name = _encode(typing_.key) + _encode(typing_.event)
    heads = tuple(map_head(size + 1) + name for size in range(15))
    return _Typing(typing_.event, typing_.key, b"", b"", heads)


class PackedEncoder:
    """What `encoder` writes, packed."""

    def __init__(self, encoder: Encodes, framing: Framing) -> None:
        self._encoder, self._pack = encoder, framing.codec.pack
        self.validate = encoder.validate

    def encode(self, value: Any) -> bytes:
        return self._pack(self._encoder.encode(value))

    def encode_valid(self, value: Any) -> bytes:
        return self._pack(self._encoder.encode_valid(value))


def packed_encoder(encoder: Encodes, framing: Framing) -> PackedEncoder:
    """What `encoder`, of the envelope in JSON, writes, packed; directly where that is the same."""
    packed = PackedEncoder(encoder, framing)
    direct = None
    if type(encoder) in (Encoder, Undeclared):
        direct = _dict_encode(typing.cast(Encoder, encoder), framing, packed.encode)
    elif type(encoder) is StructEncoder:
        direct = _struct_encode(encoder, framing, packed.encode)
    elif type(encoder) is ModelEncoder and encoder.plain is not None:
        direct = plain_encode(encoder.plain, _typing(encoder.typing, framing), encoder.by_alias, packed.encode, PACKING)
    if direct is not None:
        packed.encode = direct  # type: ignore[method-assign,assignment]  # chosen once, not for every reply
    return packed


def _dict_encode(encoder: Encoder, framing: Framing, careful: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """For dicts of scalars that bring neither a name nor a `ref`."""
    typing_, key, ref_key = _typing(encoder.typing, framing), framing.type_key, framing.ref_key
    splice, named = typing_.splice, {key: typing_.event}
    texts, scalars, pack = _TEXTS.issuperset, _SCALARS.issuperset, _encode

    def encode(value: Any) -> bytes:
        if type(value) is dict and key not in value and ref_key not in value and texts(map(type, value)):
            items = value.values()
            if scalars(map(type, items)) or _are_finite(items):
                try:
                    return splice(pack(value)) if key is None else pack(named | value)
                except _REFUSALS:
                    pass
        return careful(value)

    return encode


def _are_finite(values: Any) -> bool:
    return _NUMBERS.issuperset(map(type, values)) and all(type(v) is not float or math.isfinite(v) for v in values)


def _struct_encode(
    encoder: StructEncoder, framing: Framing, careful: Callable[[Any], bytes]
) -> Callable[[Any], bytes] | None:
    """For one Struct of scalars that brings no name, or has it in its tag."""
    if len(encoder.whole) != 1:
        return None
    (kind,) = encoder.whole
    struct: Any = kind
    config, keys, key = struct.__struct_config__, form_of(kind).keys or frozenset(), framing.type_key
    is_tagged = key is not None and config.tag_field == key
    if config.array_like or (key in keys and not is_tagged) or framing.ref_key in keys:
        return None
    checks = [_check(field.name, field.type) for field in msgspec.structs.fields(struct)]
    if None in checks:
        return None
    names = {
        "scalars": _SCALARS,
        "numbers": _NUMBERS,
        "kind": kind,
        "encode": _encode,
        "careful": careful,
        "refusals": (*_REFUSALS, IndexError),
    }
    names |= {} if is_tagged else {"splice": _typing(encoder.typing, framing).splice}
    body = [
        f"if {' and '.join(['type(value) is kind', *map(str, checks)])}:",
        "    try:",
        f"        return {'encode(value)' if is_tagged else 'splice(encode(value))'}",
        "    except refusals:",
        "        pass",
        "return careful(value)",
    ]
    return codegen.function("value", body, names)


def _check(name: str, annotation: Any) -> str | None:
    """An expression that is true where a field holds a scalar; None where it is declared to hold anything else."""
    kinds = typing.get_args(annotation) if typing.get_origin(annotation) in UNIONS else (annotation,)
    if not _NUMBERS.issuperset(kinds):
        return None
    if float in kinds:
        return f"(type(it := value.{name}) in numbers and (type(it) is not float or it - it == 0))"
    return f"type(value.{name}) in scalars"
