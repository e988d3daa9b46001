"""
Replies and items in MessagePack: what the JSON of them says, byte for byte.

    {"type":"posted","n":1}   ->   82 a4 type a6 posted a1 n 01

JSON is written first, and packed. Where every value is one that both have alike, dicts and plain models of scalars, it
is left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from socketsundso.messages.framing import Framing
from socketsundso.messages.route import Encodes

_SCALARS = frozenset({str, bool, int, type(None)})
_encode = msgspec.msgpack.encode
_UNENCODABLE = (TypeError, ValueError, OverflowError)


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
    """What `encoder` of the unpacked envelope writes, packed, and directly where that is the same."""
    return PackedEncoder(encoder, framing)
