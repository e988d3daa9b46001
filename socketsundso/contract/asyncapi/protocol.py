"""
The protocol's own messages, as a contract tells of them: errors, the ends of streams, calls, history, presence.

They follow from what a channel declares: nothing that it does not use occurs. docs/protocol.md has the meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from socketsundso.contract.model import Channel, Error, Schema

Ref = Literal["none", "optional", "required"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One kind of message: its type, its fields, whether it has a ref, and what may answer it."""

    type: str
    fields: Schema
    ref: Ref = "none"
    description: str = ""
    answers: tuple[Frame, ...] = ()


def _fields(required: str = "", **properties: Any) -> Schema:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return schema | {"required": required.split()} if required else schema


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_METAS = {"type": "object", "additionalProperties": {}}
_POSITION = _fields("seq epoch", seq=_COUNT, epoch=_TEXT)

REF: Schema = {
    "anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 64}],
    "description": "A number of 64 bits or a short text, chosen by who asks: every answer has the same.",
}
NUMBERS: Mapping[str, Schema] = {
    "room": {"type": "string", "description": "The room with history that this was sent to."},
    "seq": {"type": "integer", "minimum": 1, "description": "The message's number in its room."},
}
"""What pushes have beside their fields where they are sent to a room with history."""

BINARY_TYPE = "application/octet-stream"
BINARY: Schema = {"type": "string", "format": "binary", "description": "A binary frame, as it is."}
"""The payload of messages of that type, which are in no envelope."""

COMPLETE = Frame("complete", _fields(), "required", "The end of a stream, or of an upload's items.")
CANCEL = Frame("cancel", _fields(), "required", "What has this ref is not wanted any more.")
MORE = Frame("more", _fields("items", items=_COUNT), "required", "So many more items of an upload may be sent.")
REFUSAL = Frame(
    "reply",
    _fields("error", error=_fields("code", code=_TEXT, message=_TEXT)),
    "required",
    "The client does not answer a call.",
)
RESUMED = Frame(
    "resumed",
    _fields(
        "rooms",
        rooms={
            "type": "object",
            "additionalProperties": _fields(
                "recovered", recovered={"type": "boolean"}, seq=_COUNT, epoch=_TEXT, code=_TEXT
            ),
        },
    ),
    "optional",
    "Whether what was missed follows, for each room; `code` tells why one is refused.",
)
RESUME = Frame(
    "resume",
    _fields("rooms", rooms={"type": "object", "additionalProperties": _POSITION}),
    "optional",
    "A client that comes back tells what it saw last, and gets what it missed.",
    answers=(RESUMED,),
)
ROOM_POSITION = Frame(
    "room_position",
    _fields("room seq epoch", room=_TEXT, seq=_COUNT, epoch=_TEXT),
    description="The number of a room's last message that was: the next one has the next number.",
)
GAP = Frame(
    "gap",
    _fields(
        "room dropped",
        room={"anyOf": [_TEXT, {"type": "null"}]},
        dropped={"anyOf": [_COUNT, {"type": "null"}]},
    ),
    description="So many messages are missing here.",
)
PRESENCE_STATE = Frame(
    "presence_state",
    _fields("room members", room=_TEXT, members=_METAS),
    description="Everybody who is in a room, by id.",
)
PRESENCE_DIFF = Frame(
    "presence_diff",
    _fields("room joins leaves", room=_TEXT, joins=_METAS, leaves=_METAS),
    description="Who came into a room, or changed, and who left it.",
)


def received(channel: Channel) -> Iterator[Frame]:
    """What clients send beside the application's events; an upload's items are `item`."""
    if any(each.cancellable for each in channel.receives):
        yield CANCEL
    if any(each.uploads is not None for each in channel.receives):
        yield COMPLETE
    if channel.features.history:
        yield RESUME


def sent(channel: Channel) -> Iterator[Frame]:
    """What the server sends beside the application's messages, and what is sent only in answers."""
    if channel.calls:
        yield CANCEL
    if channel.features.history:
        yield ROOM_POSITION
    if channel.features.history or channel.features.gaps:
        yield GAP
    if channel.features.presence:
        yield PRESENCE_STATE
        yield PRESENCE_DIFF


def item(schema: Schema) -> Frame:
    """`{"type":"item","ref":7,"item":{...}}`"""
    return Frame("item", _fields("item", item=schema), "required", "One item of an upload.")


def reply(answer: Schema) -> Frame:
    """`{"type":"reply","ref":"s:1","answer":true}`"""
    return Frame("reply", _fields("answer", answer=answer), "required", "The client's answer to a call.")


def acknowledgement(event: str) -> Frame:
    """`{"type":"enter","ref":7}`"""
    return Frame(event, {**_fields(), "additionalProperties": False}, "required", "It was done.")


def package_error(errors: tuple[Error, ...]) -> Frame:
    """The error frame of codes that have no details of their own."""
    words = [f"* `{each.code}`: {each.description}" for each in errors if each.description]
    code: dict[str, Any] = {"type": "string", "enum": [each.code for each in errors]}
    return _error(code | {"description": "\n".join(words)} if words else code, _METAS, "A message cannot be answered.")


def own_error(error: Error) -> Frame:
    """The error frame of one code, with what `ctx` tells."""
    code = {"const": error.code}
    return _error(code, _METAS if error.details is None else error.details, error.description)


def _error(code: Mapping[str, Any], ctx: Schema, description: str) -> Frame:
    detail = _fields(
        type=_TEXT,
        loc={"type": "array", "items": {"anyOf": [_TEXT, {"type": "integer"}]}},
        msg=_TEXT,
        input={},
        ctx=ctx,
    )
    fields = _fields("code errors", code=code, errors={"type": "array", "items": detail})
    return Frame("error", fields, "optional", description)
