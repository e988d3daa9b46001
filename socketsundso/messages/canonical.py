"""
Canonical messages: the form that every message has within this package, between processes and in the history of rooms.

    {"type":"say","msg":"hi"}                          a flat object, whose first key is the name
    {"type":"note","n":1,"room":"r1","seq":142}        the same with its place in the history of a room

The name is taken by where it stands, so that the fields behind it may have a `type` of their own. Only a model of the
application that writes its `type` behind something else makes one whose name is not the first.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

TYPE_FIRST = b'{"type":"'
"""How one begins."""

NAME = len(TYPE_FIRST) - 1  # where the name begins, with its quotation mark
COMMA, BACKSLASH = ord(","), ord("\\")


def taken_apart(canonical: bytes) -> tuple[bytes, bytes]:
    """The name of a canonical message, as JSON, and its fields, as an object: `"say"`, `{"msg":"hi"}`."""
    if not canonical.startswith(TYPE_FIRST):
        keys = msgspec.json.decode(canonical, type=dict[str, Raw])
        return bytes(keys.pop("type")), msgspec.json.encode(keys)
    end = end_of_text(canonical, NAME)
    return canonical[NAME:end], b"{" + canonical[end + (canonical[end] == COMMA) :]


def flattened(frame: bytes) -> bytes:
    """The canonical message in a frame of `APART`. Raises ValueError for data that are no object."""
    end = end_of_text(frame, NAME)
    return joined(frame[NAME:end], as_object(frame[end + len(b',"data":') : -1]))


def as_object(data: bytes) -> bytes:
    if not data.startswith(b"{"):
        raise ValueError("canonical messages are objects")
    return data


def joined(name: bytes, data: bytes, head: bytes = TYPE_FIRST[:NAME]) -> bytes:
    """The canonical message of this name (as JSON), whatever keys its fields (an object) have."""
    return b"%b%b%b%b" % (head, name, b"," if len(data) > len(b"{}") else b"", data[1:])


def end_of_text(body: bytes, begin: int) -> int:
    """Where the JSON text ends that begins there."""
    end = begin
    while True:
        end = body.index(b'"', end + 1)
        escapes = end
        while body[escapes - 1] == BACKSLASH:
            escapes -= 1
        if (end - escapes) % 2 == 0:
            return end + 1


class _Own(msgspec.Struct):
    room: Raw | UnsetType = UNSET


class Numbered(bytes):
    """A canonical message with its place in the history of a room; `message` is what it is without."""

    message: bytes
    room: str
    seq: int


def numbered(canonical: bytes, room: str, seq: int) -> Numbered:
    """`{"type":"note"}` -> `{"type":"note","room":"r1","seq":142}`."""
    own_room = msgspec.json.decode(canonical, type=_Own).room is not UNSET
    room_part = b"" if own_room else b',"room":' + msgspec.json.encode(room)
    found = Numbered(b'%b%b,"seq":%d}' % (canonical[:-1], room_part, seq))
    found.message, found.room, found.seq = canonical, room, seq
    return found
