"""
A value in MessagePack gives the same arguments, errors and replies as the JSON of that value; and bytes that are no
message are answered as it is documented, whatever they are.
"""

from __future__ import annotations

import copy
import datetime
import json
import random
from typing import Any

import msgspec
import pytest

from socketsundso import Handler
from tests.harness import Peer
from tests.messages.fuzz.test_differential import Case, run_at_once, same
from tests.messages.fuzz.tokens import Tokens

SIGNATURES, FRAMES = 60, 12
SUBPROTOCOL = "socketsundso.msgpack"

UNLIKE_JSON = [
    b"", b"\x00\xff", b"aGVsbG8=", b"0123456789abcdef", float("nan"), float("inf"), float("-inf"),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2020, 1, 1, 12, 30, 45, 123456, datetime.UTC),
    {1: 2}, {1: "a", 2: "b"}, {b"x": 1},
]  # fmt: skip
"""What MessagePack has beside what JSON has, and JSON has another form for."""


def value_of(text: str, source: random.Random) -> Any:
    """The value of a JSON text, here and there with one that JSON has another form for."""
    value = json.loads(text, parse_int=lambda digits: fitting(int(digits)))
    return {key: source.choice(UNLIKE_JSON) if key != "type" and source.random() < 0.1 else item
            for key, item in value.items()}  # fmt: skip


def fitting(number: int) -> int:
    """One that MessagePack has."""
    return number if -(2**63) <= number < 2**64 else number % 2**32


def as_msgpack(digits: str) -> int | float:
    """An integer of more than 64 bits as those read it who have floats alone."""
    return int(digits) if fitting(int(digits)) == int(digits) else float(digits)


def outcome(case: Case, frames: list[Any], *subprotocols: str) -> tuple[list[Any], list[Any]]:
    case.got.clear()
    peer = run_at_once(Peer(case.app, frames, subprotocols=[*subprotocols]))
    sent = [message for message in peer.sent if message["type"] == "websocket.send"]
    read = [
        msgspec.msgpack.decode(m["bytes"]) if subprotocols else json.loads(m["text"], parse_int=as_msgpack)
        for m in sent
    ]
    return copy.copy(case.got), read


@pytest.mark.parametrize("seed", range(6))
def test_the_same_in_every_codec(seed: int) -> None:
    """Arguments are equal in value and type, answers in everything."""
    tokens = Tokens(seed)
    for number in range(SIGNATURES // 4):
        case = Case(tokens)
        handler = case.app._handlers["thing"].method

        def giving(_handler: Any = handler, **values: Any) -> Any:
            _handler(**values)
            return {"got": [repr(value) for value in values.values()], **{f"_{key}": values[key] for key in values}}

        giving.__signature__ = handler.__signature__  # type: ignore[attr-defined]

        class App(case.app):  # type: ignore[name-defined,misc]  # a class
            codecs = ["json", "msgpack"]

        App.attach_handler(Handler("thing", giving, thread=False), overwrite_existing=True)
        case.app = App
        values = [value_of(case.frame(), tokens.random) for _ in range(FRAMES)]
        for value in values:
            expected, answers = outcome(case, [msgspec.json.encode(value).decode()])
            got, packed = outcome(case, [msgspec.msgpack.encode(value)], SUBPROTOCOL)
            where = f"seed {seed}, signature {number}: {handler.__signature__}\n{value}"
            assert same(got, expected), f"{where}\nMessagePack {got}\nJSON {expected}"
            assert packed == answers, where
