"""
The same values through every envelope give the same arguments, errors and replies; and what is no message in one is
answered as it is documented, whatever it is.
"""

from __future__ import annotations

import copy
import json
import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest

from socketsundso import Endpoint, Handler, event
from tests.enveloping import ARRAY, FLAT, NESTED, OTHERS, REF_LAST, RENAMED, WIRES, Wire, named, within
from tests.harness import Peer, talk
from tests.messages.fuzz.test_differential import Case, same
from tests.messages.fuzz.tokens import Tokens

SIGNATURES, FRAMES = 60, 12


def text_of(wire: Wire, event_: str, data: str) -> str:
    """A frame whose data are this text, an object; keys that come twice, and odd numbers, stay as they are."""
    name = json.dumps(event_)
    rest = data[1:] if data == "{}" else "," + data[1:]
    return {
        "flat": f'{{"type":{name}{rest}',
        "renamed": f'{{"action":{name}{rest}',
        "nested": f'{{"event":{name},"payload":{data}}}',
        "array": f"[{name},null,{data}]",
        "ref-last": f"[{name},{data}]",
    }[wire.name]


def in_wire(case: Case, wire: Wire, frames: list[str]) -> tuple[list[Any], list[Any]]:
    """The arguments that the handler got, and what was answered: places without that of the data."""
    case.got.clear()
    answers = []
    for text in talk(within(case.app, wire), *frames).answers:
        said = wire.read(text)
        answers.append((said.type, [plain(wire, error) for error in said.data.get("errors", [])], said.data.get("got")))
    return list(case.got), answers


def plain(wire: Wire, error: dict[str, Any]) -> Any:
    loc = error["loc"]
    assert tuple(loc[: len(wire.place)]) == wire.place, loc
    # the object in which something is missing has the envelope's keys in it, where it is flat
    shown = None if error["type"] == "missing" and len(loc) == len(wire.place) + 1 else error.get("input")
    return error["type"], loc[len(wire.place) :], error["msg"], shown


@pytest.mark.parametrize("seed", range(4))
def test_the_same_through_every_envelope(seed: int) -> None:
    """Arguments are equal in value and type, errors in kind, place, text and input; replies say the same."""
    tokens = Tokens(seed)
    for number in range(SIGNATURES // 4):
        case = Case(tokens)
        handler = case.app._handlers["thing"].method

        def giving(_handler: Any = handler, _got: list[Any] = case.got, **values: Any) -> Any:
            _handler(**values)
            return {"got": [repr(value) for value in values.values()]}

        giving.__signature__ = handler.__signature__  # type: ignore[attr-defined]
        case.app.attach_handler(Handler("thing", giving, thread=False), overwrite_existing=True)
        data = [case.frame().replace('"type":"thing",', "").replace(',"type":"thing"', "").replace('"type":"thing"', "")
                for _ in range(FRAMES)]  # fmt: skip
        expected = in_wire(case, FLAT, [text_of(FLAT, "thing", each) for each in data])
        expected = copy.copy(expected)
        for wire in OTHERS:
            got, answers = in_wire(case, wire, [text_of(wire, "thing", each) for each in data])
            where = f"seed {seed}, signature {number}, {wire.name}: {case.app._handlers['thing'].method.__signature__}"
            assert answers == expected[1], where
            assert same(got, expected[0]), where


# ---------------------------------------------------------------------- what is no message


class App(Endpoint):
    @event
    async def need(self, n: int, tag: str = "") -> dict[str, Any]:
        return {"n": n}

    @event
    async def lazy(self, n: int = 1) -> dict[str, Any]:
        return {"n": n}

    @event
    async def nothing(self) -> dict[str, Any]:
        return {}


REFS = [None, 7, -1, "a", "", 2**63 - 1, 2**63, 1.0, True, "x" * 64, "x" * 65, [], {}, "é"]
NAMES = ["need", "lazy", "nothing", "cancel", "error", "", None, 5, 1.5, True, [], {}, ["need"], "x" * 300]
DATA = [{}, None, [], 5, "x", True, {"n": 1}, {"n": "2"}, {"n": "x"}, {"n": 1, "m": 2}, {"n": 1, "tag": "t"},
        {"n": None}, {"n": {"n": 1}}, [[1]], {"type": "need", "n": 1}, {"": 1}]  # fmt: skip
ABSENT = object()


def valid_ref(ref: Any) -> bool:
    if ref is ABSENT or ref is None:
        return True
    if isinstance(ref, str):
        return len(ref) <= 64
    return type(ref) is int and -(2**63) <= ref < 2**63


def outcome(name: Any, ref: Any, data: Any, *, extra: bool, too_long: bool) -> str:
    """What the documentation says of a frame with these parts: an event's name, or a code."""
    if too_long or not isinstance(name, str):
        return "malformed_message"
    if name not in ("need", "lazy", "nothing"):
        return "unknown_event"
    if extra or not valid_ref(ref):
        return "validation_error"
    if data is None or data is ABSENT:
        return "validation_error" if name == "need" else name
    if not isinstance(data, dict):
        return "validation_error"
    fields = {"need": {"n", "tag"}, "lazy": {"n"}, "nothing": set()}[name]
    fits = data.keys() <= fields and ("n" in data or name != "need")
    return name if fits and data.get("n", 1) in (1, "2") else "validation_error"


def random_parts(rng: random.Random) -> tuple[Any, Any, Any]:
    name = rng.choice(NAMES[:3] if rng.random() < 0.6 else NAMES)
    ref = rng.choice([ABSENT, *REFS[:4]] if rng.random() < 0.7 else REFS)
    return name if rng.random() < 0.95 else ABSENT, ref, rng.choice([ABSENT, *DATA])


def nested_frame(rng: random.Random) -> tuple[Any, str, Any]:
    name, ref, data = random_parts(rng)
    extra = {rng.choice(["v", "data", "type", ""]): 1} if rng.random() < 0.1 else {}
    parts = {"event": name, "ref": ref, "payload": data, **extra}
    items = [(key, value) for key, value in parts.items() if value is not ABSENT]
    rng.shuffle(items)
    return dict(items), outcome(name, ref, data, extra=bool(extra), too_long=False), ref


def array_frame(rng: random.Random, order: tuple[str, ...]) -> tuple[Any, str, Any]:
    name, ref, data = random_parts(rng)
    parts = {"type": name, "ref": ref, "data": data}
    frame: list[Any] = [parts[each] for each in order]
    while frame and frame[-1] is ABSENT:
        frame.pop()
    frame = [None if each is ABSENT else each for each in frame]
    too_long = len(frame) == 3 and rng.random() < 0.1
    ref = dict(zip(order, frame, strict=False)).get("ref")
    return [*frame, rng.choice(DATA)] if too_long else frame, outcome(
        frame[0] if frame else ABSENT, ref, data, extra=False, too_long=too_long
    ), None if too_long else ref  # fmt: skip


def flat_frame(rng: random.Random) -> tuple[Any, str, Any]:
    name, ref, data = random_parts(rng)
    fields = data if isinstance(data, dict) and "action" not in data else {}
    items = [(key, value) for key, value in {"action": name, "requestId": ref, **fields}.items() if value is not ABSENT]
    rng.shuffle(items)
    return dict(items), outcome(name, ref, fields, extra=False, too_long=False), ref


FRAMES_OF: dict[str, Any] = {
    RENAMED.name: flat_frame,
    NESTED.name: nested_frame,
    ARRAY.name: lambda rng: array_frame(rng, ("type", "ref", "data")),
    REF_LAST.name: lambda rng: array_frame(rng, ("type", "data", "ref")),
}


@pytest.mark.parametrize("wire", OTHERS, ids=named)
def test_whatever_comes_has_its_documented_answer(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """One for each frame, in order, with its `ref` where it has a valid one; nothing raises in the server."""
    rng = random.Random(wire.name)
    cases = [FRAMES_OF[wire.name](rng) for _ in range(1500)]
    cases += [
        (frame, "malformed_message", None) for frame in (None, 5, "need", True, [[]] * 9 if wire.place != (2,) else {})
    ]
    answers = talk(within(App, wire), *(json.dumps(frame) for frame, _, _ in cases)).answers
    assert len(answers) == len(cases)
    for answer, (frame, expected, ref) in zip(answers, cases, strict=True):
        said = wire.read(answer)
        got = said.data["code"] if said.type == "error" else said.type
        assert got == expected, (frame, answer)
        assert said.ref == (ref if ref is not ABSENT and valid_ref(ref) else None), (frame, answer)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def damaged(rng: random.Random, text: str) -> Iterator[str]:
    for _ in range(60):
        at, length = rng.randrange(len(text)), rng.choice([0, 1, 1, 2, 5])
        put = rng.choice(
            ["", "", '"', "{", "}", "[", "]", ",", ":", "null", "\\", "\x00", "1e999", "NaN", "-", "\ud7ff"]
        )
        yield text[:at] + put + text[at + length :]


@pytest.mark.parametrize("wire", WIRES, ids=named)
def test_damaged_frames(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """They are answered, or end the connection with 1003; and never raise in the server."""
    rng = random.Random(wire.name)
    app = within(App, wire)
    for text in damaged(rng, wire.write("need", {"n": 1, "tag": "a"}, 7)):
        peer: Peer = talk(app, text)
        try:
            is_json = json.loads(text, parse_constant=lambda _: ABSENT) is not ABSENT and "NaN" not in text
        except ValueError:
            is_json = False
        if peer.closed is not None:
            assert peer.closed == 1003
            assert not is_json, text
        else:
            (answer,) = peer.answers
            said = wire.read(answer)
            assert said.type == "need" or said.data["code"] in (
                "malformed_message",
                "unknown_event",
                "validation_error",
            )
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
