"""What users of unions of models have reported elsewhere, asked of whole messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator
from typing_extensions import TypeAliasType

from socketsundso import Endpoint, Envelope, event
from tests.harness import ask, talk

asked: list[str] = []


class Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["cat"]
    lives: int

    @model_validator(mode="before")
    @classmethod
    def note(cls, data: Any) -> Any:
        asked.append("cat")
        return data

    @field_validator("lives")
    @classmethod
    def has_some(cls, lives: int) -> int:
        if lives < 1:
            raise ValueError("dead")
        return lives


class Dog(BaseModel):
    type: Literal["dog"]

    @model_validator(mode="before")
    @classmethod
    def note(cls, data: Any) -> Any:
        asked.append("dog")
        return data


Either = TypeAliasType("Either", Cat | Dog)
Tagged = TypeAliasType("Tagged", Annotated[Cat, Tag("cat")])


def kind(value: Any) -> str:
    return str(value["type"])


def app(annotation: Any) -> type[Endpoint]:
    async def handle(self: Any, msg: Any) -> Any:
        return {"kind": type(msg).__name__}

    handle.__annotations__["msg"] = annotation
    return type("App", (Endpoint,), {"handle": event(handle)})


@pytest.mark.parametrize(
    "annotation",
    [
        Cat | Dog,
        Annotated[Cat | Dog, Field(discriminator="type")],
        Either,
        Annotated[Either, Field(discriminator="type")],
        Annotated[Cat, Field(discriminator="type")] | Annotated[Dog, Field(discriminator="type")],
        Annotated[Tagged | Annotated[Dog, Tag("dog")], Discriminator(kind)],
    ],
    ids=str,
)
def test_however_the_union_is_written(annotation: Any) -> None:
    """
    One member is asked, and the places of its errors are its own.

    A union behind a name asks all members; a name within `Annotated` doubles the member's name in `loc`; a
    discriminator on the members is without effect; a tag behind a name is not found.
    """
    one = app(annotation)
    asked.clear()
    cat, wrong, dog = talk(
        one, {"type": "cat", "lives": 9}, {"type": "cat", "lives": 0, "x": 1}, {"type": "dog"}
    ).answers
    assert (cat["kind"], dog["kind"], asked) == ("Cat", "Dog", ["cat", "cat", "dog"])
    assert [(error["type"], error["loc"]) for error in wrong["errors"]] == [
        ("value_error", ["lives"]),
        ("extra_forbidden", ["x"]),
    ]


def test_an_unknown_tag_lists_those_that_there_are() -> None:
    """So does one that is missing: it names the key."""
    one = app(Cat | Dog)
    unknown, missing = talk(one, {"type": "cow"}, {"lives": 1}).answers
    assert (unknown["code"], unknown["errors"][0]["ctx"]["permitted"]) == ("unknown_event", ["cat", "dog"])
    assert (missing["code"], missing["errors"][0]["loc"]) == ("malformed_message", ["type"])


def test_the_discriminator_may_be_called_otherwise() -> None:
    """`action`, not `type`: the key is the endpoint's."""

    class Start(BaseModel):
        action: Literal["start"] = "start"

    class App(Endpoint):
        envelope = Envelope(type="action")

        @event
        async def handle(self, msg: Start) -> Any:
            return {"kind": type(msg).__name__}

    assert ask(App, {"action": "start"}) == {"action": "start", "kind": "Start"}


def test_a_discriminator_with_an_alias_is_found() -> None:
    """Also where the alias is another model's field."""

    class A(BaseModel):
        kind: Literal["a"] = Field(alias="type")

    class B(BaseModel):
        other: str | None = Field(None, alias="kind")
        kind: Literal["b"] = Field(alias="type")

    one = app(Annotated[A | B, Field(discriminator="kind")])
    assert list(one.handlers) == ["a", "b"]
    assert [each["kind"] for each in talk(one, {"type": "a"}, {"type": "b", "kind": "x"}).answers] == ["A", "B"]


def test_models_of_one_base_are_told_apart() -> None:
    """A message arrives as its own class, with the fields that only that has, and not as the base."""

    class Base(BaseModel):
        type: str
        request: int = 0

    class Move(Base):
        type: Literal["move"]
        x: int

    class Stop(Base):
        type: Literal["stop"]

    class App(Endpoint):
        @event
        async def handle(self, msg: Move | Stop) -> Any:
            return {"got": msg.model_dump()}

    moved, stopped = talk(App, {"type": "move", "x": 1, "request": 7}, {"type": "stop"}).answers
    assert moved["got"] == {"type": "move", "request": 7, "x": 1}
    assert stopped["got"] == {"type": "stop", "request": 0}
