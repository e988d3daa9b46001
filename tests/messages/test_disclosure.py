"""What is still told with `include_input = False`: types, static texts, bounds, and the places that were declared."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Annotated, Any, Literal, NamedTuple, Union

import msgspec
import pytest
from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, BeforeValidator, EmailStr, Field, HttpUrl
from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import TypedDict

from socketsundso import Endpoint, Handler, event
from socketsundso.messages.disclosure import HIDDEN_KEY, declared_names
from tests.harness import ask, talk


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(alias="Lives")


class Dog(BaseModel):
    kind: Literal["dog"]
    bark: dict[str, int] = Field(validation_alias=AliasChoices("Bark", AliasPath("noise", "bark")))


class Node(BaseModel):
    children: list[Node] | int


@dataclasses.dataclass
class Data:
    size: int


class Typed(TypedDict):
    size: int


class Pair(NamedTuple):
    left: int
    right: int


class Linked(msgspec.Struct, forbid_unknown_fields=True):
    colour: Literal["red"] = "red"
    link: HttpUrl | None = None
    many: dict[str, list[int]] = {}


class Ordered(msgspec.Struct):
    low: int

    def __post_init__(self) -> None:
        if self.low < 0:
            raise ValueError("low is below 0")


def endpoint(annotation: Any) -> Any:
    def on_x(v: Any) -> None: ...

    on_x.__annotations__ = {"v": annotation}
    return type("App", (Endpoint,), {"include_input": False, "on_x": Handler("x", on_x, thread=False)})


def refuse(template: str, **context: Any) -> Any:
    def validate(value: Any) -> Any:
        if context:
            raise PydanticCustomError("custom", template, {**context, "value": value})  # type: ignore[arg-type]
        raise ValueError(template.format(value=value))

    return AfterValidator(validate)


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("annotation", "value", "places"),
    [
        (int, "z", [[]]),
        (list[int], ["z"], [[0]]),
        (dict[str, int], {"mine": "z"}, [["*"]]),
        (dict[int, int], {"mine": 1}, [["*", "[key]"]]),
        (dict[str, list[Typed]], {"mine": [{}]}, [["*", 0, "size"]]),
        (Data, {"size": "z", "mine": 1}, [["size"]]),
        (Typed, {"size": "z"}, [["size"]]),
        (Pair, {"left": 1, "right": "z"}, [["right"]]),
        (Pair, [1, "z"], [[1]]),
        (Pet, {"kind": "cat", "Lives": "z"}, [["cat", "Lives"]]),
        (Pet, {"kind": "dog", "Bark": {"mine": "z"}}, [["dog", "Bark", "*"]]),
        (Pet, {"kind": "dog", "noise": {"bark": 1}}, [["dog", "noise", "bark"]]),
        (Node, {"children": [{"children": "z"}]}, [
            ["children", "list[Node]", 0, "children", "list[Node]"], ["children", "list[Node]", 0, "children", "int"],
            ["children", "int"]]),
        (int | list[int], ["z"], [["int"], ["list[int]", 0]]),
        (Annotated[str, Field(min_length=9)] | int, "z", [["constrained-str"], ["int"]]),
        (Union[Annotated[int, refuse("no")], str], 1, [["function-after[validate(), int]"], ["str"]]),
    ],
    ids=repr,
)  # fmt: skip
def test_places_are_told_as_far_as_they_were_declared(annotation: Any, value: Any, places: Any) -> None:
    """A key that the peer chose is shown as a star."""
    errors = ask(endpoint(annotation), {"type": "x", "v": value})["errors"]
    assert [error["loc"] for error in errors] == [["v", *place] for place in places]


@pytest.mark.parametrize(
    ("annotation", "value", "msg", "context"),
    [
        (Annotated[int, Field(gt=5)], 1, "Input should be greater than 5", {"gt": 5}),
        (Annotated[list[int], Field(min_length=2)], [1], "List should have at least 2 items after validation, not 1",
         {"field_type": "List", "min_length": 2, "actual_length": 1}),
        (Literal["a", "b"], "z", "Input should be 'a' or 'b'", {"expected": "'a' or 'b'"}),
        (Pet, {"kind": "mine"}, "Input tag found using 'kind' does not match any of the expected tags: 'cat', 'dog'",
         {"discriminator": "'kind'", "expected_tags": "'cat', 'dog'"}),
        (datetime.datetime, "mine", "Input should be a valid datetime or date", None),
        (HttpUrl, "mine", "Input should be a valid URL", None),
        (EmailStr, "mine mine@", "value is not a valid email address: …", None),
        (Annotated[str, refuse("{value} is bad")], "mine", "Value error, … is bad", {"error": "… is bad"}),
        (Annotated[str, refuse("not {value}, at most {most} of {value}", most=5)], "mine",
         "not …, at most … of …", None),
        (Annotated[str, refuse("not that", most=5)], "mine", "not that", None),
        (Linked, {"colour": "mine"}, "Invalid enum value - at `$.colour`",
         {"reason": "Invalid enum value - at `$.colour`"}),
        (Linked, {"mine": 1}, "Object contains unknown field", {"reason": "Object contains unknown field"}),
        (Linked, {"link": "mine"}, "Input should be a valid URL - at `$.link`",
         {"reason": "Input should be a valid URL - at `$.link`"}),
        (Linked, {"many": {"mine": ["mine"]}}, "Expected `int`, got `str` - at `$.many[...][0]`",
         {"reason": "Expected `int`, got `str` - at `$.many[...][0]`"}),
        (Ordered, {"low": -1}, "low is below 0", {"reason": "low is below 0"}),
    ],
    ids=repr,
)  # fmt: skip
def test_texts_are_told_without_what_was_sent(annotation: Any, value: Any, msg: str, context: Any) -> None:
    """Pydantic's, msgspec's and the application's own; a ValueError is in the application's words."""
    (error,) = ask(endpoint(annotation), {"type": "x", "v": value})["errors"]
    assert (error["msg"], error.get("ctx")) == (msg, context)
    assert "input" not in error


@pytest.mark.parametrize("extra", [{"mine": 1}, {"ref": 1.5}])
def test_keys_of_the_message_itself(extra: Any) -> None:
    """A key that no parameter has is the peer's; `ref` is not."""
    (error,) = ask(endpoint(int), {"type": "x", "v": 1, **extra})["errors"]
    assert error["loc"] == (["*"] if "mine" in extra else ["ref"])


@pytest.mark.parametrize("kind", ["mine", {"mine": 1}, 5, None])
@pytest.mark.parametrize("disclose", [True, False])
def test_what_was_given_as_type_is_left_out(kind: Any, disclose: bool) -> None:
    """What would have been understood stays."""

    class App(Endpoint):
        include_input = False
        disclose_events = disclose

        @event
        async def on_x(self) -> None: ...

    (error,) = ask(App, {"type": kind})["errors"]
    assert error.get("ctx") == ({"expected": "'x'", "permitted": ["x"]} if disclose else None)
    assert "mine" not in str(error)


def test_names_of_rooms_are_told_as_inputs_only() -> None:
    """What is refused in a room may be named by the peer: without inputs it is not said back."""

    class Rooms(Endpoint):
        presence_events = True

        async def authorize(self, room: str) -> bool:
            return room == "open"

        @event
        async def on_enter(self, room: str) -> None:
            await self.join(room)

        @event
        async def on_show(self, room: str) -> None:
            await self.track({}, room)

    class Quiet(Rooms):
        include_input = False

    frames = [{"type": kind, "room": room} for kind in ("enter", "show") for room in ("s3cret", "s3cret*")]
    for told, quiet in zip(talk(Rooms, *frames).answers, talk(Quiet, *frames).answers, strict=True):
        assert (quiet["code"], "s3cret" in str(quiet)) == (told["code"], False)
        assert [error.pop("input") for error in told["errors"]] in (["s3cret"], ["s3cret*"])
        assert told == quiet


def quoting(value: Any) -> Any:
    raise ValueError(f"of {value!r} nothing is known; at most 30 words")


def counting(value: Any) -> Any:
    raise AssertionError(f"not {len(value)} of them: {value}")


@pytest.mark.parametrize(
    ("validate", "value", "msg"),
    [
        (int, "s3cret", "Value error, invalid literal for int() with base 10: '…'"),
        (int, "s3\ncret", "Value error, invalid literal for int() with base 10: '…'"),
        (int, "s" * 1000, "Value error, invalid literal for int() with base 10: '…"),
        (quoting, "s3cret", "Value error, of '…' nothing is known; at most 30 words"),
        (quoting, 1234, "Value error, of … nothing is known; at most 30 words"),
        (quoting, {"s3cret": ["k3y", 7.5]}, "Value error, of {'…': ['…', …]} nothing is known; at most 30 words"),
        (quoting, "noth", "Value error, of '…' nothing is known; at most 30 words"),
        (quoting, "", "Value error, of '' nothing is known; at most 30 words"),
        (counting, ["a-b", "ü"], "Assertion failed, not 2 of them: ['…', '…']"),
        (counting, ["x"] * 2000, "…"),
    ],
)
@pytest.mark.parametrize("where", ["alone", "beside a wrong one"])
def test_words_of_the_input_are_taken_out_of_the_applications(validate: Any, value: Any, msg: str, where: str) -> None:
    """Whoever quotes them, Python's own constructors too; the rest of the text is told."""

    class Quiet(Endpoint):
        include_input = False

        @event
        async def on_x(self, v: Annotated[Any, BeforeValidator(validate)], n: int = 0) -> None: ...

    message = {"type": "x", "v": value} | ({} if where == "alone" else {"n": "no"})
    first = ask(Quiet, message)["errors"][0]
    assert first["msg"] == msg
    assert first["ctx"]["error"] == msg.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def test_words_of_what_a_validator_made_of_the_input_are_taken_out_too() -> None:
    """Of bytes as of text; only true, false and null are words of JSON's own."""

    def parts(text: str) -> Any:
        return {text.encode(): [True, None]}

    App = endpoint(Annotated[Any, AfterValidator(quoting), BeforeValidator(parts)])
    (error,) = ask(App, {"type": "x", "v": "s3cret"})["errors"]
    assert error["msg"] == "Value error, of {b'…': [True, None]} nothing is known; at most 30 words"


def test_what_has_no_known_name_is_not_declared() -> None:
    """A member of a union that is defined elsewhere; the others are named as they are."""
    schema = core_schema.union_schema([core_schema.definition_reference_schema("elsewhere"), core_schema.int_schema()])
    assert declared_names(schema) - {HIDDEN_KEY, "[key]"} == {"int"}
