"""
How a client writes its messages, and reads what comes, in the envelope of the endpoint that it talks to.

    Frames(framing).text(Outgoing("say", {"msg": "hi"}, 1))         '{"event":"say","ref":1,"payload":{"msg":"hi"}}'
    Frames(framing).read('{"event":"said","ref":1,"payload":{"id":5}}')      {"type": "said", "ref": 1, "id": 5}

Tests have messages in the flat form, whatever the envelope is. What stands apart from the envelope's keys may be any
value, and have fields of their names: `Told.data` is that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from pydantic_core import to_jsonable_python

from socketsundso.messages import Framing
from socketsundso.testing.mailbox import Message

ABSENT = object()
"""The name of a dict that has none."""


class Outgoing(NamedTuple):
    """A message that is to be sent."""

    name: Any
    fields: dict[str, Any]
    ref: Any = None


class Told(dict[str, Any]):
    """A message in the flat form; `data` is the part that its frame has it all in."""

    def __init__(self, message: Message, data: Any) -> None:
        super().__init__(message)
        self.data = data


class Frames:
    """Those of one framing. `ref_key` is where the flat form has the ref; `has_refs`: can messages have one?"""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self.ref_key = framing.ref_place if isinstance(framing.ref_place, str) else "ref"
        self.has_refs = framing.ref_place is not None

    def outgoing(self, event: str | Mapping[str, Any], fields: dict[str, Any]) -> Outgoing:
        """What a test has said: a name and fields, or a dict in the flat form."""
        if isinstance(event, str):
            is_apart = self._framing.type_key is None
            own = {key: value for key, value in fields.items() if is_apart or key != self.ref_key}
            return Outgoing(event, own, None if is_apart else fields.get(self.ref_key))
        whole = {**event, **fields}
        return Outgoing(whole.pop("type", ABSENT), whole, whole.pop(self.ref_key, None))

    def text(self, message: Outgoing) -> str:
        """The frame. A dict without a name is one as it is."""
        name, fields, ref = message
        if name is ABSENT:
            frame: Any = fields if ref is None else {**fields, self.ref_key: ref}
        else:
            frame = self._framing.answer(name, fields, ref)  # requests look alike
        return json.dumps(to_jsonable_python(frame, by_alias=True, fallback=msgspec.to_builtins))

    def read(self, frame: str | bytes) -> Message:
        """The message in a frame, in the flat form."""
        found = msgspec.json.decode(frame)
        return found if self._framing.is_canonical else self._flat(found)

    def _flat(self, frame: Any) -> Message:
        framing = self._framing
        name, ref = frame[framing.type_place], _at(frame, framing.ref_place)
        head = {"type": name} if ref is None else {"type": name, self.ref_key: ref}
        if not framing.place:
            keys = (framing.type_place, framing.ref_place)
            data: Any = {key: value for key, value in frame.items() if key not in keys}
        else:
            data = _at(frame, framing.place[0])
            head |= {key: frame[key] for key in ("room", "seq") if isinstance(frame, dict) and key in frame}
        return Told({**(data if isinstance(data, dict) else {}), **head}, data)


def _at(frame: Any, place: str | int | None) -> Any:
    return frame.get(place) if isinstance(frame, dict) else None if place is None else frame[place]
