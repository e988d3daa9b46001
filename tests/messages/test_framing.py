"""Canonical messages and frames: each says what the other does, whatever the message is called and holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from socketsundso.messages.canonical import Numbered, joined, numbered, taken_apart
from socketsundso.messages.framing import FlatFraming, NestedFraming
from tests.enveloping import NESTED, RENAMED, WIRES, Said, Wire, named

SCALARS = st.none() | st.booleans() | st.integers() | st.text()
VALUES = SCALARS | st.lists(SCALARS) | st.dictionaries(st.text(), SCALARS)
KEYS = st.text().filter(
    lambda key: key not in ("type", "ref", "action", "requestId", "event", "payload", "room", "seq")
)
FIELDS = st.dictionaries(KEYS, VALUES, max_size=4)
REFS = st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=64)
NAMES = st.text(min_size=1) | st.sampled_from(['a"', "a\\", 'a",null', '\\",null,', "null", 'x","data":{', "é"])


def framing_of(wire: Wire) -> Any:
    return wire.envelope.framing("ref")


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("wire", WIRES, ids=named)
@settings(max_examples=40)
@given(name=NAMES, fields=FIELDS, ref=REFS, last=st.booleans())
@example(name='a",null', fields={}, ref=7, last=False)
@example(name="a\\", fields={"n": None}, ref="s:1", last=True)
def test_a_frame_says_what_the_message_does(wire: Wire, name: str, fields: Any, ref: Any, last: bool) -> None:
    """With its `ref` and without, wherever `type` stands in the canonical form."""
    framing = framing_of(wire)
    message = {**fields, "type": name} if last and fields else {"type": name, **fields}
    frame = framing.frame(encoded(message))
    assert wire.read(json.loads(frame)) == Said(name, fields)
    if ref is not None:
        assert wire.read(json.loads(framing.with_ref(frame, ref))) == Said(name, fields, ref)
    if isinstance(framing, FlatFraming | NestedFraming):
        assert json.loads(framing.to_canonical(frame)) == message
    answer = framing.answer(name, fields, ref)
    assert wire.read(json.loads(encoded(answer))) == Said(name, fields, ref)
    if ref is not None and (end := framing.ref_end(ref)) is not None:
        assert frame[:-1] + end == framing.with_ref(frame, ref)


@given(name=NAMES, fields=FIELDS | st.fixed_dictionaries({"type": st.text()}))
def test_the_first_key_is_the_name(name: str, fields: Any) -> None:
    """Also where the fields have a `type` of their own: it is taken apart by where it stands."""
    text, data = encoded(name), encoded(fields)
    assert taken_apart(joined(text, data)) == (text, data)


@pytest.mark.parametrize(
    ("fields", "flat"),
    [
        ({"n": 1}, {"action": "a", "n": 1, "room": "r", "seq": 3}),
        ({"room": "r"}, {"action": "a", "room": "r", "seq": 3}),
        ({}, {"action": "a", "room": "r", "seq": 3}),
    ],
)
def test_numbers(fields: Any, flat: Any) -> None:
    """Beside the data where those are apart, else among the fields, once."""
    message = numbered(encoded({"type": "a", **fields}), "r", 3)
    assert isinstance(message, Numbered)
    assert json.loads(framing_of(RENAMED).frame(message)) == flat
    assert json.loads(framing_of(NESTED).frame(message)) == {"event": "a", "payload": fields, "room": "r", "seq": 3}


@pytest.mark.parametrize("wire", WIRES, ids=named)
def test_what_is_read_of_a_frame(wire: Wire) -> None:
    """The peek and the slow look see the same type and `ref`, and where the data are."""
    framing = framing_of(wire)
    text = wire.write("say", {"n": 1}, 7)
    assert (framing.peek(text).type, framing.peek(text).ref) == ("say", 7)
    assert tuple(map(bytes, framing.outline(text))) == (b'"say"', b"7")
    assert json.loads(framing.data_of(text))["n"] == 1
