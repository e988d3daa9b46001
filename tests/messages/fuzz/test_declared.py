"""What a reply may hold, for random declarations: what they name, as FastAPI writes it, and nothing else."""

from __future__ import annotations

import asyncio
import json
import random
import types
from typing import Any, Generic, TypeVar

import msgspec
import pytest
from fastapi.routing import APIRoute, serialize_response

from socketsundso import WebSocketHandlingEndpoint, event
from tests.harness import talk

from .declarations import MARK, Declaration, declare_object

T = TypeVar("T")
VALUES = 40  # of each declaration


class Replies:
    """An endpoint that answers with one value after the other."""

    def __init__(self, r: random.Random, declared: Any) -> None:
        self.values: list[Any] = []
        values = self.values

        class Store(WebSocketHandlingEndpoint, Generic[T]):
            @event
            async def on_generic(self) -> T:
                return values.pop()  # type: ignore[no-any-return]  # as an application would be wrong to

        class App(Store[declared]):  # type: ignore[valid-type]  # made at run time
            @event(response_model=declared)
            async def on_given(self) -> Any:
                return values.pop()

            @event
            async def on_returned(self) -> declared:  # type: ignore[valid-type]  # made at run time
                return values.pop()

        self.app = App
        self.event = r.choice(["generic", "given", "returned"])

    def to(self, values: list[Any]) -> list[str]:
        self.values[:] = values[::-1]
        peer = talk(self.app, *[{"type": self.event}] * len(values))
        return [message["text"] for message in peer.sent[1:]]


def fastapi_field(declared: Any) -> Any:
    """FastAPI's view of the response model."""

    def endpoint() -> None: ...

    return APIRoute("/", endpoint, response_model=declared).response_field


def as_fastapi(field: Any, values: list[Any]) -> list[Any]:
    """What it writes; None where pydantic warns that the value is not what is declared, for there it writes all."""

    async def one(value: Any) -> Any:
        try:
            return await serialize_response(field=field, response_content=value)
        except UserWarning:
            return None

    async def all_of_them() -> list[Any]:
        return [await one(value) for value in values]

    return asyncio.run(all_of_them())


def define_subclasses(made: Declaration) -> None:
    """Classes that nobody uses."""
    for cls in made.classes:
        if issubclass(cls, msgspec.Struct):
            msgspec.defstruct("Unused", [("other", int, 1)], bases=(cls,), frozen=cls.__struct_config__.frozen)
        else:
            types.new_class("Unused", (cls,))


@pytest.mark.parametrize("structs", [False, True], ids=["fastapi can declare it", "with structs"])
def test_a_reply_holds_what_is_declared_and_nothing_else(fuzz_frames: int, fuzz_seed: int, structs: bool) -> None:
    """
    Subclass instances at any depth are written with the declared fields: as FastAPI does where it can declare them, and
    in the same way after other classes have been defined.
    """
    compared = 0
    for number in range(fuzz_frames // VALUES):
        seed = f"{fuzz_seed} {structs} {number}"
        r = random.Random(seed)
        made = declare_object(r, r.randint(1, 3), structs)
        values, expected = zip(*(make_reply(made, r) for _ in range(VALUES)), strict=True)
        replies = Replies(r, made.annotation)
        texts = replies.to(list(values))
        where = f"seed {seed!r}\n{made.annotation}"
        assert len(texts) == VALUES, where
        for value, text, written in zip(values, texts, expected, strict=True):
            assert MARK not in text, f"{where}\n{value!r}\n{text}"
            assert json.loads(text) == {"type": replies.event, **written}, f"{where}\n{value!r}"
        if not structs:
            theirs = as_fastapi(fastapi_field(made.annotation), list(values[:10]))
            compared += sum(each is not None for each in theirs)
            assert all(each in (None, ours) for each, ours in zip(theirs, expected, strict=False)), where
        define_subclasses(made)
        assert replies.to(list(values[:20])) == texts[:20], where
    assert structs or compared > 0.9 * 10 * (number + 1)


def make_reply(made: Declaration, r: random.Random) -> Any:
    """A value, not None, and what it is to be."""
    while True:
        value, written = made.make(r, not r.randint(0, 1))
        if value is not None:
            return value, written
