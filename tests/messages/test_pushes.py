"""Pushes: the `type` of what answers nothing, what is no push, and how a `ref` is appended."""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar, Union

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType, TypedDict

from socketsundso import WebSocketHandlingEndpoint, event
from socketsundso.errors import DefinitionError
from socketsundso.messages import CANONICAL, Emitted, Envelope, ResponseError, encode_push
from tests.harness import talk


class Color(enum.Enum):
    RED = "red"


class Typed(BaseModel):
    type: str = "own"
    x: int = 1


class Aliased(BaseModel):
    kind: str = Field("aliased", serialization_alias="type")
    x: int = 1


class Tagged(msgspec.Struct, tag="tagged"):
    x: int = 1


@dataclasses.dataclass
class SecretPoint:
    x: int
    y: int = 0
    secret: str = ""


class UserJoined(BaseModel):
    name: str


class HTTPStatus2(msgspec.Struct):
    code: int = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UserJoined(name="a"), {"type": "user_joined", "name": "a"}),
        (HTTPStatus2(), {"type": "http_status2", "code": 1}),
        (Tagged(), {"type": "tagged", "x": 1}),
        (Typed(), {"type": "own", "x": 1}),
        (Aliased(), {"type": "aliased", "x": 1}),
        (SecretPoint(1, 2, "s"), {"type": "secret_point", "x": 1, "y": 2, "secret": "s"}),
        ({"type": "news", "n": 1}, {"type": "news", "n": 1}),
        ({"type": Color.RED}, {"type": "red"}),
    ],
)
def test_pushes(value: Any, expected: Any) -> None:
    """A push has its own `type`, its tag or default, else its class's name in snake_case."""
    assert json.loads(encode_push(value)) == expected


@pytest.mark.parametrize("value", [{}, {"n": 1}, {"type": None}, {"type": 5}])
def test_pushed_dicts_need_a_type(value: Any) -> None:
    """A dict without a `type` of its own cannot be pushed, and the text says what is missing."""
    with pytest.raises(TypeError, match="type"):
        encode_push(value)


@pytest.mark.parametrize("value", [[1], 7, object(), {"type": "x", "ref": 1}])
def test_refused_pushes(value: Any) -> None:
    """What is no object, or brings the ref key, is no push."""
    with pytest.raises(ResponseError):
        encode_push(value)


class Said(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str
    to: list[str] = []


class Moved(BaseModel):
    type: Literal["moved"] = "moved"
    x: int


class Bare(msgspec.Struct, forbid_unknown_fields=True):
    n: int


class Left(TypedDict):
    type: Literal["left"]
    who: str


class Old(typing.TypedDict):
    n: int


EMITS = [Old, Said, Moved, Bare, Left, Tagged, SecretPoint]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": "said", "text": "a"}, {"type": "said", "text": "a", "to": []}),
        ({"type": "moved", "x": 1}, {"type": "moved", "x": 1}),
        ({"type": "moved", "x": 1, "secret": 2}, {"type": "moved", "x": 1}),
        ({"type": "bare", "n": 1}, {"type": "bare", "n": 1}),
        ({"type": "left", "who": "a"}, {"type": "left", "who": "a"}),
        ({"type": "old", "n": 1}, {"type": "old", "n": 1}),
        ({"type": "old", "n": "no"}, [["response", "n"]]),
        ({"type": "tagged"}, {"type": "tagged", "x": 1}),
        ({"type": "secret_point", "x": 1}, {"type": "secret_point", "x": 1, "y": 0, "secret": ""}),
        ({"type": "said", "txt": 5}, [["response", "text"], ["response", "..."]]),
        ({"type": "said", "text": "a", "to": "b"}, [["response", "to"]]),
        ({"type": "moved", "x": "no"}, [["response", "x"]]),
        ({"type": "bare", "n": "no"}, [["response", "n"]]),
        ({"type": "bare", "n": 1, "m": 1}, [["response"]]),
        ({"type": "left"}, [["response", "who"]]),
        ({"type": "tagged", "x": "no"}, [["response", "x"]]),
        ({"type": "secret_point"}, [["response", "x"]]),
        ({"type": "said", "text": "a", "ref": 1}, [["response", "..."]]),
    ],
)
def test_a_pushed_dict_is_what_its_type_names(message: Any, expected: Any) -> None:
    """With `emits`, a dict goes out as an instance of the class would, or not at all."""
    emitted = Emitted(EMITS)
    before = dict(message)
    if isinstance(expected, dict):
        assert json.loads(emitted.encode(message)) == expected
    else:
        with pytest.raises(ResponseError) as caught:
            emitted.encode(message)
        assert [error["loc"] for error in caught.value.errors] == expected
    assert message == before


def test_classes_with_one_type_are_alternatives() -> None:
    """A dict may be any of the classes that are pushed under its `type`."""

    class More(BaseModel):
        type: Literal["moved"] = "moved"
        y: int

    emitted = Emitted([Moved, More])
    assert json.loads(emitted.encode({"type": "moved", "x": 1})) == {"type": "moved", "x": 1}
    assert json.loads(emitted.encode({"type": "moved", "y": 1})) == {"type": "moved", "y": 1}


class Whispered(Said):
    type: Literal["whispered"] = "whispered"
    secret: str = "s3cret"


class Hidden(Bare):
    secret: str = "s3cret"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Whispered(text="a"), {"type": "said", "text": "a", "to": []}),
        (Hidden(n=1), {"type": "bare", "n": 1}),
    ],
)
def test_an_instance_of_a_subclass_is_pushed_as_the_class_that_is_listed(message: Any, expected: Any) -> None:
    """Under its type, with its fields; where the subclass is listed too, as that."""
    assert json.loads(Emitted(EMITS).encode(message)) == expected
    assert "s3cret" in Emitted([*EMITS, Whispered, Hidden]).encode(message).decode()


def test_where_dict_is_listed_any_dict_is_pushed() -> None:
    """With a `type` of its own, and as it is; one that is named by a class beside it is as the class says."""
    emitted = Emitted([dict, Moved])
    assert json.loads(emitted.encode({"type": "any", "x": "y"})) == {"type": "any", "x": "y"}
    assert json.loads(emitted.encode({"type": "moved", "x": 1, "secret": 2})) == {"type": "moved", "x": 1}


class Unfinished(TypedDict):
    n: Nowhere  # type: ignore[name-defined]  # noqa: F821  # as is to be told


def test_a_name_that_a_message_cannot_resolve_is_told() -> None:
    """When the endpoint is made, with the remedy."""
    with pytest.raises(DefinitionError, match="emits .*'Nowhere' is not defined; define the name before the endpoint"):
        Emitted([Unfinished])


def test_what_no_message_can_be_is_not_emitted() -> None:
    """A class whose instances could never be pushed is refused with the endpoint, by name."""

    class Numbered(BaseModel):
        ref: int

    with pytest.raises(DefinitionError, match="emits Numbered: .*'ref'"):
        Emitted([Numbered])
    Emitted([Numbered], Envelope().framing("id"))


def test_an_endpoint_sends_no_dict_that_is_not_what_it_says() -> None:
    """A wrong dict is refused where it is pushed: its handler fails, and nothing of it goes out."""

    class Chat(WebSocketHandlingEndpoint):
        emits = [Said]

        @event
        async def on_say(self, message: dict[str, Any]) -> None:
            await self.send(message)

    good = {"type": "said", "text": "a", "to": []}
    peer = talk(Chat, *({"type": "say", "message": m} for m in (good, {"type": "said", "txt": 5}, {"type": "other"})))
    assert peer.answers[0] == good
    assert [answer.get("code") for answer in peer.answers] == [None, "response_error", "internal_error"]


@pytest.mark.parametrize("ref", [7, "a", 'q"ä'])
def test_with_ref(ref: Any) -> None:
    """The ref is appended as JSON."""
    assert json.loads(CANONICAL.with_ref(b'{"type":"x"}', ref)) == {"type": "x", "ref": ref}


T = TypeVar("T")


class User(BaseModel):
    id: int


class Admin(User):
    password: str = "s3cret"


class Changed(msgspec.Struct, Generic[T]):
    item: T


@dataclasses.dataclass
class Renamed(Generic[T]):
    item: T


class Removed(TypedDict, Generic[T]):
    item: T


class Other(BaseModel):
    type: str = "other"


Alias = TypeAliasType("Alias", Union[Changed[T], Other], type_params=(T,))
ADMIN: Any = Admin(id=1)


@pytest.mark.parametrize(
    ("declared", "message", "name"),
    [
        (Changed[User], Changed(ADMIN), "changed"),
        (Changed[User], {"type": "changed", "item": ADMIN}, "changed"),
        (Renamed[User], Renamed(ADMIN), "renamed"),
        (Renamed[User], {"type": "renamed", "item": {"id": 1, "password": "s3cret"}}, "renamed"),
        (Removed[User], {"type": "removed", "item": ADMIN}, "removed"),
        (Union[Other, Changed[User]], Changed(ADMIN), "changed"),
        (Alias[User], Changed(ADMIN), "changed"),
        (NewType("Name", Renamed[User]), Renamed(ADMIN), "renamed"),
        (Annotated[Changed[User], "noted"], Changed(ADMIN), "changed"),
    ],
)
def test_what_is_pushed_is_what_is_declared_however_that_is_written(declared: Any, message: Any, name: str) -> None:
    """Generic classes with arguments, aliases, NewTypes and unions: dicts and instances hold the declared fields."""

    class Chat(WebSocketHandlingEndpoint):
        emits = [declared]

        @event
        async def on_say(self) -> None:
            await self.send(message)

    assert talk(Chat, {"type": "say"}).answers == [{"type": name, "item": {"id": 1}}]


@pytest.mark.parametrize("declared", ["Said", int, list[Said], Union[Said, None], NamedTuple("Pair", [("x", int)]), 5])
def test_what_is_no_class_of_messages_is_not_emitted(declared: Any) -> None:
    """It is refused with the endpoint, before anything is pushed."""
    with pytest.raises(DefinitionError, match="no class of messages"):
        type("Chat", (WebSocketHandlingEndpoint,), {"emits": [declared]})


class Titled(msgspec.Struct):
    type: str = "title"


class Choice(BaseModel):
    type: Annotated[Literal["chosen"], Field(description="a")]


@pytest.mark.parametrize("message", [Titled(), Choice(type="chosen")])
def test_a_dict_has_the_type_that_an_instance_has(message: Any) -> None:
    """Also where it is the default of a Struct's field, or a Literal with something around it."""
    emitted = Emitted([type(message)])
    (name,) = emitted.types
    assert json.loads(emitted.encode(message)) == json.loads(emitted.encode({"type": name})) == {"type": name}
