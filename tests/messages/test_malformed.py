"""What a peer may send that is no message: each class gets its documented answer, and the endpoint lives on."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from pydantic import BaseModel

from socketsundso import WebSocketHandlingEndpoint, event
from tests.harness import talk


class Model(BaseModel):
    x: int


class App(WebSocketHandlingEndpoint):
    @event
    async def on_echo(self, value: Any = None, n: int = 0, model: Model | None = None) -> Any:
        return {"value": value, "n": n}


class Single(WebSocketHandlingEndpoint):
    """One handler only: a union of one Struct would make the tag optional."""

    @event
    async def on_echo(self, value: Any = None) -> Any:
        return {"value": value}


class Empty(WebSocketHandlingEndpoint):
    """No handler at all."""


GOOD = '{"type":"echo","value":1}'

VALUES = [  # no JSON values
    "", "tru", "True", "TRUE", "nul", "None", "undefined", "NaN", "-NaN", "Infinity", "-Infinity", "+1", "-", "+", ".5", "5.", "1.e2",
    "1e", "1e+", "1e-", "1E", "01", "-01", "00", "0x1F", "1_000", "1,000.0.", "0b1", "1a", "- 1", "1 2", "'a'", '"a', 'a"', '"\x00"',
    '"\x1f"', '"a\nb"', '"a\tb"', '"\\x41"', '"\\a"', '"\\u12"', '"\\u12G4"', '"\\"', '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"',
    '"\\ud800x"', '"\\udfff\\ud800"', "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,,2]", "[1;2]", "[1:2]", "[}", "{]", "{", "}", '{"a"',
    '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '{,"a":1}', '{"a":1 "b":2}', '{"a" 1}', '{"a"::1}', '{"a":1,,"b":2}', "{a:1}", "{'a':1}", "{1:1}",
    '{"a":}', "{null:1}", '{"a":1}}', "[[]", "/* c */ 1", "1 // c", "# c", "<a/>", "@", "\\", "\x00", "﻿1", "\u00a01", "１", "”a”",
    "[1]]", '{"a":[}', '["a":1]', '{"a","b"}', "--1", "1e1.5", "1.2.3", "0.1.", "-.1", "-Infinit", "nan", "inf", "truee", "falsee", "nulll",
]  # fmt: skip
FRAMES = [
    "", " ", "\n", "x", "{", "}", "[", "]", '"', "'", ",", ":", "\ufeff" + GOOD, "\x00" + GOOD, GOOD + "\x00", GOOD + "x", GOOD + GOOD,
    GOOD + "]", GOOD + ",", GOOD[:-1], GOOD + "}", "{" + GOOD, "NaN", "[NaN]", "Infinity", '{"type":"echo",}', '{"type":"echo"',
    '{"type":"echo" "value":1}', '{"type":}', '{type:"echo"}', "[[[[", "[" * 100_000, '{"a":' * 100_000, '[{"a":' * 50_000,
    '{"type":"echo","value":' + "[" * 100_000, '{"type":"echo","value":' + "[" * 20_000 + "]" * 20_000 + "}", '{"type":"\\ud800"}',
    '{"\\ud800":1,"type":"echo"}', '{"type":"echo","ref":"\\ud800"}', '{"type":"echo","unknown":"\\udfff"}', '{"type":"echo","n":01}',
    '{"type":"echo","n":1.}', '{"type":"nope","x":tru}', '{"type":5,"x":tru}', '{"x":NaN}', '{"type":"nope","x":NaN}',
    '{"type":"echo","n":"1","value":NaN}', '{"type":"echo","n":"1","value":-Infinity}', '{"type":"echo","n":"x","value":Infinity}',
    '{"type":"echo","value":"' + "x" * 1_000_000,
]  # fmt: skip
MALFORMED = FRAMES + [f'{{"type":"echo","value":{value}}}' for value in VALUES]


@pytest.mark.parametrize("app", [App, Single, Empty])
@pytest.mark.parametrize("frame", MALFORMED, ids=lambda frame: repr(frame[:40]))
def test_what_is_not_json_closes_1003(app: Any, frame: str) -> None:
    """Every violation of RFC 8259 ends the connection with 1003 and no exception, whatever the handlers are."""
    peer = talk(app, frame, GOOD)
    assert (peer.closed, peer.answers) == (1003, [])


@pytest.mark.parametrize("frame", [f for f in MALFORMED if "\ud800" not in f][:40], ids=lambda f: repr(f[:40]))
def test_binary_frames_are_judged_alike(frame: str) -> None:
    """The same bytes in a binary frame get the same answer."""
    assert talk(App, frame.encode()).closed == 1003


def test_a_lone_surrogate_in_a_text_frame_closes() -> None:
    """No server passes it on, but a str can hold one."""
    assert talk(App, '{"type":"echo","value":"\ud800"}').closed == 1003


@pytest.mark.parametrize(
    "frame",
    [b"\xff", b'{"type":"echo","value":"\xff"}', b'{"type":"\xc3\x28"}', b'\xed\xa0\x80', GOOD.encode("utf-16"),
     b'{"type":"echo","value":"\xf8\x88\x80\x80\x80"}', b'{"type":"echo","x":"\xc0\xaf"}', b"\x80"],
)  # fmt: skip
def test_binary_that_is_not_utf8_closes_1007(frame: bytes) -> None:
    """UTF-8 is checked before JSON."""
    assert talk(App, frame, GOOD).closed == 1007


def test_binary_frames_are_messages() -> None:
    """A binary frame that holds JSON is a message; the answer is text."""
    assert talk(App, GOOD.encode()).answers == [{"type": "echo", "value": 1, "n": 0}]


@pytest.mark.parametrize("app", [App, Single, Empty])
@pytest.mark.parametrize("frame", ["[]", "1", "null", '"x"', "true", "[1]", "1.5", "-0", "[[]]", '[{"type":"echo"}]'])
def test_what_is_no_object_is_a_malformed_message(app: Any, frame: str) -> None:
    """The answer is an error frame, and the connection lives."""
    peer = talk(app, frame, "{}")
    assert peer.closed is None
    assert peer.answers[0] == {
        "type": "error",
        "code": "malformed_message",
        "errors": [{"type": "dict_type", "loc": [], "msg": "Input should be an object"}],
    }
    assert len(peer.answers) == 2


@pytest.mark.parametrize("app", [App, Single, Empty])
@pytest.mark.parametrize("frame", ["{}", '{"x":1}', '{"value":1}', '{"self":1}', '{"Type":"echo"}'])
def test_a_missing_type(app: Any, frame: str) -> None:
    """`missing` at ["type"]; the ref is echoed if there is one."""
    (answer,) = talk(app, frame[:-1] + (',"ref":7}' if frame != "{}" else '"ref":7}')).answers
    assert (answer["code"], answer["ref"]) == ("malformed_message", 7)
    assert [(e["type"], e["loc"]) for e in answer["errors"]] == [("missing", ["type"])]


@pytest.mark.parametrize("given", [5, None, True, 1.5, ["x"], {"a": 1}, []])
def test_a_type_that_is_no_string(given: Any) -> None:
    """`literal_error` at ["type"], telling what was given."""
    (answer,) = talk(App, {"type": given}).answers
    assert answer["code"] == "malformed_message"
    assert (answer["errors"][0]["type"], answer["errors"][0]["ctx"]["given"]) == ("literal_error", given)


@pytest.mark.parametrize("name", ["nope", "", "\x00", "ECHO", "echo ", "Padding", "__class__", "é", "a" * 100_000])
def test_an_unknown_event(name: str) -> None:
    """`unknown_event`, bounded in size, and the connection lives."""
    peer = talk(App, {"type": name, "ref": "r"}, GOOD)
    answer = peer.answers[0]
    assert (answer["code"], answer["ref"]) == ("unknown_event", "r")
    assert answer["errors"][0]["ctx"]["permitted"] == ["echo"]
    assert len(json.dumps(answer)) < 2_000
    assert peer.answers[1]["type"] == "echo"


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        ('{"type":"nope","type":"echo","value":1}', 1),
        ('{"type":5,"type":"echo","value":1}', 1),
        ('{"value":2,"type":"echo","value":1}', 1),
        ('{"value":1,"type":"echo"}', 1),
        (' {\n"type"\t:"echo" ,\r"value":1 } ', 1),
        ('{"\\u0074ype":"ech\\u006f","value":1}', 1),
        ('{"type":"echo","value":"\\ud83d\\ude00"}', "😀"),
        ('{"type":"echo","value":"\\u0000"}', "\x00"),
        ('{"type":"echo","value":-0}', 0),
        ('{"type":"echo","value":1e2}', 100.0),
    ],
)
def test_unusual_but_valid(frame: str, value: Any) -> None:
    """Of duplicate keys the last counts; order, white space and escapes do not matter."""
    assert talk(App, frame).answers[0]["value"] == value


@pytest.mark.parametrize("ref", [0, -1, 7, 2**63 - 1, -(2**63), "", "a", "é" * 64, "7"])
def test_a_ref_is_echoed_as_it_came(ref: Any) -> None:
    """On replies and on errors, by the fast path and the slow one."""
    frames = [
        {"type": "echo", "ref": ref},
        {"type": "echo", "n": "1", "ref": ref},
        {"type": "echo", "n": "x", "ref": ref},
        {"type": "nope", "ref": ref},
    ]
    answers = talk(App, *frames).answers
    assert [answer["ref"] for answer in answers] == [ref] * 4
    assert [type(answer["ref"]) for answer in answers] == [type(ref)] * 4


def test_a_null_ref_counts_as_absent() -> None:
    """Null is no ref, on both paths."""
    frames = [{"type": "echo", "ref": None}, {"type": "echo", "n": "1", "ref": None}]
    assert not any("ref" in answer for answer in talk(App, *frames).answers)


@pytest.mark.parametrize("ref", [1.0, 1.5, True, [], {}, "x" * 65, 2**63, -(2**63) - 1, 10**30])
def test_a_bad_ref_is_a_validation_error_without_echo(ref: Any) -> None:
    """At ["ref"], beside the other errors, and not sent back."""
    (answer,) = talk(App, {"type": "echo", "n": "x", "ref": ref}).answers
    assert answer["code"] == "validation_error"
    assert "ref" not in answer
    assert [error["loc"] for error in answer["errors"]] == [["n"], ["ref"]]
    assert "input" not in answer["errors"][1]


@pytest.mark.parametrize("depth", [150, 250, 900])
def test_deep_nesting_within_json_lives(depth: int) -> None:
    """Up to about a thousand levels are JSON: answered, by whatever answer, and the connection lives."""
    nested = "[" * depth + "]" * depth
    frames = [f'{{"type":"echo","value":{nested}}}', f'{{"type":"echo","n":"1","value":{nested}}}']
    peer = talk(App, *frames, f'{{"x":{nested}}}', f'{{"type":"nope","x":{nested}}}', f'{{"type":{nested}}}', GOOD)
    assert peer.closed is None
    assert len(peer.answers) == 6
    assert peer.answers[-1]["value"] == 1


@pytest.mark.parametrize("number", ["1" * 5_000, "1e400", "-1e400", "1" * 400 + ".5", "0." + "1" * 5_000, "1e-400"])
def test_huge_numbers_live(number: str) -> None:
    """They are answered, as a value or as an error, and the connection lives."""
    peer = talk(
        App, f'{{"type":"echo","n":{number}}}', f'{{"type":"echo","value":{number}}}', f'{{"x":{number}}}', GOOD
    )
    assert peer.closed is None
    assert peer.answers[-1]["value"] == 1
    assert peer.answers[0]["type"] in ("echo", "error")


def test_a_megabyte_of_keys_costs_a_bounded_answer() -> None:
    """Ten thousand errors are counted and not listed."""
    frame = {"type": "echo", **{f"unknown{n}": n for n in range(50_000)}}
    peer = talk(App, frame, GOOD)
    assert peer.answers[0]["errors"][0]["type"] == "too_many_errors"
    assert peer.answers[0]["errors"][0]["ctx"] == {"error_count": 50_000}
    assert peer.answers[1]["type"] == "echo"


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "echo", "n": "x" * 1_000_000},
        {"type": "echo", "k" * 1_000_000: 1},
        {"type": "echo", "n": "x", "model": {}, "a": "y" * 100_000, "b": 1},
        {"x": "y" * 1_000_000},
        {"type": ["y" * 1_000_000]},
        {"type": "echo", "n": list(range(200_000))},
    ],
)
def test_an_error_is_never_larger_than_its_bound(frame: dict[str, Any]) -> None:
    """No frame is answered with more than max_error_bytes."""
    peer = talk(App, frame, GOOD)
    assert len(peer.sent[1]["text"]) <= App.max_error_bytes
    assert peer.answers[0]["code"] in ("validation_error", "malformed_message")
    assert peer.answers[1]["type"] == "echo"


def test_memory_stays_flat() -> None:
    """Round after round of bad frames leaves nothing behind."""
    frames = [frame for frame in MALFORMED if len(frame) < 200]

    def round_() -> None:
        for frame in frames:
            talk(App, '{"type":"echo","n":"x"}', '{"type":"nope"}', "[]", frame)

    round_()
    tracemalloc.start()
    round_()
    before = tracemalloc.get_traced_memory()[0]
    round_()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000
