"""One message in every envelope: what a client writes, and what it reads, as the same facts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from socketsundso import ArrayEnvelope, Envelope


class Said(NamedTuple):
    """What a frame says, whatever it looks like."""

    type: str
    data: Any
    ref: Any = None


class Wire(NamedTuple):
    """An envelope, and a client that knows it. `place` is where the fields stand."""

    name: str
    envelope: Any
    place: tuple[str | int, ...]
    build: Callable[[str, Any, Any], Any]
    take: Callable[[Any], Said]

    def write(self, type_: str, data: Any = None, ref: Any = None) -> str:
        return json.dumps(self.build(type_, {} if data is None else data, ref))

    def read(self, answer: Any) -> Said:
        """Raises what a client would stumble over."""
        said = self.take(json.loads(answer) if isinstance(answer, str) else answer)
        assert isinstance(said.type, str)
        return said


def _flat(type_key: str, ref_key: str) -> tuple[Callable[[str, Any, Any], Any], Callable[[Any], Said]]:
    def build(type_: str, data: Any, ref: Any) -> Any:
        return {type_key: type_, **({} if ref is None else {ref_key: ref}), **data}

    def take(frame: Any) -> Said:
        rest = {key: value for key, value in frame.items() if key not in (type_key, ref_key)}
        return Said(frame[type_key], rest, frame.get(ref_key))

    return build, take


def _nested(type_: str, data: Any, ref: Any) -> Any:
    return {"event": type_, **({} if ref is None else {"ref": ref}), "payload": data}


def _from_nested(frame: Any) -> Said:
    assert frame.keys() <= {"event", "ref", "payload", "room", "seq"}
    return Said(frame["event"], frame["payload"], frame.get("ref"))


def _from_array(frame: Any) -> Said:
    type_, ref, data = frame
    return Said(type_, data, ref)


def _from_array_with_ref_last(frame: Any) -> Said:
    type_, data, ref = frame
    return Said(type_, data, ref)


FLAT = Wire("flat", Envelope(), (), *_flat("type", "ref"))
RENAMED = Wire("renamed", Envelope(type="action", ref="requestId"), (), *_flat("action", "requestId"))
NESTED = Wire("nested", Envelope(type="event", data="payload"), ("payload",), _nested, _from_nested)
ARRAY = Wire("array", ArrayEnvelope("type", "ref", "data"), (2,), lambda t, d, r: [t, r, d], _from_array)
REF_LAST = Wire(
    "ref-last", ArrayEnvelope("type", "data", "ref"), (1,), lambda t, d, r: [t, d, r], _from_array_with_ref_last
)

WIRES = [FLAT, RENAMED, NESTED, ARRAY, REF_LAST]
OTHERS = WIRES[1:]


def within(app: type, wire: Wire, **attributes: Any) -> Any:
    """The same endpoint in another envelope."""
    return type(app.__name__, (app,), {"envelope": wire.envelope, **attributes})


def named(wire: Wire) -> str:
    return wire.name
