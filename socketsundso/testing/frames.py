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
    """
    A message in the flat form: its fields, and what its `head` has of the envelope, which comes first and counts most.
    `data` is the part that its frame has the fields in; what is no object is shown as `data` here, too.
    """

    def __init__(self, head: Message, data: Any) -> None:
        fields = data if isinstance(data, dict) else {} if data is None else {"data": data}
        super().__init__({**head, **fields, **head})
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
        return _json(frame)

    def read(self, frame: str | bytes) -> list[Message]:
        """The messages in a frame, in the flat form; one, but for batches."""
        found = msgspec.json.decode(frame)
        return [found if self._framing.is_canonical else self._flat(found)]

    def ends(self, message: Message) -> bool:
        """Does no item of a stream follow it?"""
        return message.get("type") in ("complete", "error")

    def _flat(self, frame: Any) -> Message:
        framing = self._framing
        name, ref = frame[framing.type_place], _at(frame, framing.ref_place)
        head = _head(name, ref, self.ref_key)
        if not framing.place:
            keys = (framing.type_place, framing.ref_place)
            data: Any = {key: value for key, value in frame.items() if key not in keys}
        else:
            data = _at(frame, framing.place[0])
            head |= {key: frame[key] for key in ("room", "seq") if isinstance(frame, dict) and key in frame}
        return Told(head, data)


class Result(Told):
    """A result of JSON-RPC, which says no name."""


class JsonRpcFrames(Frames):
    """Those of JSON-RPC: what is about a request and does not answer it is a notification, whose params have its id."""

    _ABOUT = ("cancel", "item", "complete")

    def text(self, message: Outgoing) -> str:
        name, fields, ref = message
        if name is ABSENT:
            return super().text(message)
        if name == "reply":
            frame = {"error": _rpc_error(fields["error"])} if "error" in fields else {"result": fields["answer"]}
        elif name in self._ABOUT:
            frame = {"method": name, "params": {**fields, "ref": ref}}
        else:
            frame = {"method": name, "params": fields}
        with_id = {} if ref is None or name in self._ABOUT else {"id": ref}
        return _json({"jsonrpc": "2.0", **frame, **with_id})

    def read(self, frame: str | bytes) -> list[Message]:
        found = msgspec.json.decode(frame)
        return list(map(self._flat, found if isinstance(found, list) else [found]))

    def ends(self, message: Message) -> bool:
        return isinstance(message, Result) or message.get("type") == "error"

    def _flat(self, frame: Any) -> Message:
        ref = frame.get("id")
        if "method" in frame:
            params = frame.get("params", {})
            if params.keys() == {"item", "ref"}:
                return Told(_head(frame["method"], params["ref"], "id"), params["item"])
            return Told(_head(frame["method"], ref, "id"), params)
        if "error" in frame:
            data = {"code": str(frame["error"]["code"]), "errors": [], **(frame["error"].get("data") or {})}
            return Told(_head("error", ref, "id"), data)
        return Result({"id": ref}, frame["result"])


def frames_of(framing: Framing) -> Frames:
    """Those of this framing."""
    return JsonRpcFrames(framing) if framing.answers_requests else Frames(framing)


def _rpc_error(refusal: Mapping[str, Any]) -> dict[str, Any]:
    return {"code": -32000, "message": refusal["message"] or refusal["code"], "data": {"code": refusal["code"]}}


def _head(name: Any, ref: Any, ref_key: str) -> dict[str, Any]:
    return {"type": name} if ref is None else {"type": name, ref_key: ref}


def _json(frame: Any) -> str:
    return json.dumps(to_jsonable_python(frame, by_alias=True, fallback=msgspec.to_builtins))


def _at(frame: Any, place: str | int | None) -> Any:
    return frame.get(place) if isinstance(frame, dict) else None if place is None else frame[place]
