"""
Models as messages: what a handler's only parameter says with a Literal, of every kind, and what is refused at import.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, Optional, TypeVar, Union

import msgspec
import pydantic.dataclasses
import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    RootModel,
    Tag,
    TypeAdapter,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from starlette.websockets import WebSocket
from typing_extensions import TypeAliasType, TypedDict

from socketsundso import (
    ArrayEnvelope,
    DefinitionError,
    Depends,
    Endpoint,
    Envelope,
    EventMessage,
    Handler,
    JsonRpc,
    event,
)
from socketsundso.errors import DefinitionWarning
from tests.connection.conversing import Log, talking, until_end
from tests.harness import ask, talk
from tests.rooms.serving import Client


class Kind(str, enum.Enum):  # noqa: UP042  # the form that most code has
    join = "join"
    leave = "leave"


class Join(BaseModel):
    type: Literal["join"]
    room: str
    n: int = 0


class Leave(BaseModel):
    type: Literal["leave"] = "leave"


class Either(BaseModel):
    type: Literal["join", "leave"]
    room: str = "r"


class ByEnum(BaseModel):
    type: Literal[Kind.join]
    room: str


class ByAlias(BaseModel):
    kind: Literal["join"] = Field(alias="type")
    room: str


class ByChoices(BaseModel):
    kind: Literal["join"] = Field(validation_alias=AliasChoices("kind", "type"))
    room: str


class ByGenerator(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")
    type: Literal["join"]
    room_name: str


class Struct(msgspec.Struct, tag_field="type", tag="join"):
    room: str
    n: int = 0


class LeavingStruct(msgspec.Struct, tag_field="type", tag="leave", forbid_unknown_fields=True): ...


class StructWithLiteral(msgspec.Struct):
    type: Literal["join"]
    room: str


@dataclasses.dataclass
class Plain:
    type: Literal["join"]
    room: str
    n: int = 0


@pydantic.dataclasses.dataclass
class Validated:
    type: Literal["join"]
    room: str


class Typed(TypedDict):
    type: Literal["join"]
    room: str
    n: NotRequired[int]


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    type: Literal["join"]
    room: T


ClientMessage = Annotated[Join | Leave, Field(discriminator="type")]
Alias = TypeAliasType("Alias", ClientMessage)  # type: ignore[valid-type]  # what mypy has no name for


class Root(RootModel[ClientMessage]): ...


def app(annotation: Any, **options: Any) -> type[Endpoint]:
    """An endpoint whose one handler, `handle`, answers with the class and the fields that it was given."""

    async def handle(self: Any, msg: Any) -> Any:
        return {"type": "got", "kind": type(msg).__name__, "value": msgspec.to_builtins(msg, enc_hook=as_dict)}

    handle.__annotations__["msg"] = annotation
    return type("App", (Endpoint,), {"handle": event(**options)(handle)})


def as_dict(value: Any) -> Any:
    return value.model_dump() if isinstance(value, BaseModel) else str(value)


def got(annotation: Any, frame: Any) -> Any:
    answer = ask(app(annotation), frame)
    return answer["kind"], answer["value"]


# ---------------------------------------------------------------------- every kind


@pytest.mark.parametrize(
    ("annotation", "frame", "kind", "value"),
    [
        (Join, {"room": "a", "n": "7"}, "Join", {"type": "join", "room": "a", "n": 7}),
        (Annotated[Join, "said beside it"], {"room": "a"}, "Join", {"type": "join", "room": "a", "n": 0}),
        (NewType("New", Join), {"room": "a"}, "Join", {"type": "join", "room": "a", "n": 0}),
        (ByEnum, {"room": "a"}, "ByEnum", {"type": "join", "room": "a"}),
        (ByAlias, {"room": "a"}, "ByAlias", {"kind": "join", "room": "a"}),
        (ByChoices, {"room": "a"}, "ByChoices", {"kind": "join", "room": "a"}),
        (ByGenerator, {"roomName": "a"}, "ByGenerator", {"type": "join", "room_name": "a"}),
        (Box[int], {"room": "1"}, "Box[int]", {"type": "join", "room": 1}),
        (Struct, {"room": "a", "n": 7}, "Struct", {"type": "join", "room": "a", "n": 7}),
        (StructWithLiteral, {"room": "a"}, "StructWithLiteral", {"type": "join", "room": "a"}),
        (Plain, {"room": "a", "n": "7"}, "Plain", {"type": "join", "room": "a", "n": 7}),
        (Validated, {"room": "a"}, "Validated", {"type": "join", "room": "a"}),
        (Typed, {"room": "a"}, "dict", {"type": "join", "room": "a"}),
        (ClientMessage, {"room": "a"}, "Join", {"type": "join", "room": "a", "n": 0}),
        (Alias, {"room": "a"}, "Join", {"type": "join", "room": "a", "n": 0}),
        (Root, {"room": "a"}, "Root", {"type": "join", "room": "a", "n": 0}),
        (RootModel[Join], {"room": "a"}, "RootModel[Join]", {"type": "join", "room": "a", "n": 0}),
        (Union[Struct, LeavingStruct], {"room": "a"}, "Struct", {"type": "join", "room": "a", "n": 0}),
        (Union[Struct, Leave], {"room": "a"}, "Struct", {"type": "join", "room": "a", "n": 0}),
        (Either, {}, "Either", {"type": "join", "room": "r"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("ref", [{}, {"ref": 5}, {"ref": None}], ids=["no ref", "ref", "ref is null"])
def test_the_model_is_the_message(annotation: Any, frame: Any, kind: str, value: Any, ref: Any) -> None:
    """Its class, with its own defaults, conversions and aliases; a `ref` beside it is the envelope's."""
    answer = ask(app(annotation), {"type": "join", **ref, **frame})
    expected = {"type": "got", "kind": kind, "value": value}
    assert answer == (expected if ref.get("ref") is None else {**expected, "ref": 5})


@pytest.mark.parametrize("annotation", [ClientMessage, Alias, Root, Union[Join, Leave], Union[Struct, LeavingStruct]])
def test_a_union_is_one_event_for_each_member(annotation: Any) -> None:
    """All of them are this handler's."""
    one = app(annotation)
    assert list(one.handlers) == ["join", "leave"]
    kinds = [answer["kind"] for answer in talk(one, {"type": "join", "room": "a"}, {"type": "leave"}).answers]
    assert kinds == (["Root", "Root"] if annotation is Root else [each.__name__ for each in kinds_of(annotation)])


def kinds_of(annotation: Any) -> tuple[type, ...]:
    return (Struct, LeavingStruct) if annotation == Union[Struct, LeavingStruct] else (Join, Leave)


# ---------------------------------------------------------------------- names


def test_event_alone_takes_the_names_from_the_model() -> None:
    """The function's own name counts only where no model says another one."""

    class App(Endpoint):
        @event
        async def on_anything(self, msg: Join) -> Any: ...

        @event
        async def on_others(self, msg: Annotated[Leave | StructWithLiteral2, "two"]) -> Any: ...

        @event
        async def on_nested(self, msg: Nested) -> Any: ...

    assert sorted(App.handlers) == ["again", "join", "leave", "nested"]


class StructWithLiteral2(msgspec.Struct):
    type: Literal["again"]


class Nested(BaseModel):
    text: str


def test_a_named_handler_has_that_event_alone() -> None:
    """Of a union it gets the one member."""
    one = app(ClientMessage, event="leave")
    assert list(one.handlers) == ["leave"]
    assert ask(one, {"type": "leave"})["kind"] == "Leave"
    assert ask(one, {"type": "join", "room": "a"})["code"] == "unknown_event"


def test_a_union_of_a_hundred_is_taken_apart_once() -> None:
    """Not once for each of its events: that would be ten thousand looks at a class."""
    looks = 0

    class Counting(dict[str, Any]):
        def items(self) -> Any:
            nonlocal looks
            looks += 1
            return super().items()

    models = [create_model(f"M{n}", type=(Literal[f"e{n}"], ...)) for n in range(100)]  # type: ignore[call-overload]
    for model in models:
        model.__pydantic_fields__ = Counting(model.__pydantic_fields__)
    one = app(Union[tuple(models)])
    assert (len(one.handlers), ask(one, {"type": "e99"})["kind"]) == (100, "M99")
    assert 0 < looks < 10 * len(models)


def test_a_model_of_two_names_is_two_events() -> None:
    """A Literal of several values."""
    answers = talk(app(Either), {"type": "join"}, {"type": "leave"}).answers
    assert [answer["value"]["type"] for answer in answers] == ["join", "leave"]


def test_an_event_of_two_members_is_what_either_takes() -> None:
    """Pydantic tries both."""

    class Spoken(BaseModel):
        type: Literal["join"]
        voice: bytes

    one = app(Join | Spoken)
    answers = talk(one, {"type": "join", "voice": "x"}, {"type": "join", "room": "r"}).answers
    assert [answer["kind"] for answer in answers] == ["Spoken", "Join"]


class Circle(BaseModel):
    type: Literal["draw"]
    shape: Literal["circle"]
    radius: float


class Square(BaseModel):
    type: Literal["draw"]
    shape: Literal["square"]
    side: float


Drawn = Annotated[Circle | Square, Field(discriminator="shape")]


def test_unions_of_unions() -> None:
    """What shares an event is told apart by the union's own discriminator."""
    one = app(Annotated[Drawn | Join, Field(discriminator="type")])
    assert list(one.handlers) == ["draw", "join"]
    answers = talk(one, {"type": "draw", "shape": "square", "side": 1}, {"type": "draw", "shape": "line"}).answers
    assert answers[0]["kind"] == "Square"
    assert [error["type"] for error in answers[1]["errors"]] == ["union_tag_invalid"]


def test_a_callable_discriminator_is_not_needed_where_the_event_tells() -> None:
    """Its tags are pydantic's matter, the events are the Literals."""

    def by_type(value: Any) -> str:
        return str(value["type"])

    one = app(Annotated[Annotated[Join, Tag("join")] | Annotated[Leave, Tag("leave")], Discriminator(by_type)])
    assert [each["kind"] for each in talk(one, {"type": "join", "room": "a"}, {"type": "leave"}).answers] == [
        "Join",
        "Leave",
    ]


def test_validators_around_a_union_are_asked_for_every_member() -> None:
    """They stay where they were."""

    def marked(message: Any) -> Any:
        message.room = message.room + "!"
        return message

    one = app(Annotated[Join | Either, AfterValidator(marked)])
    assert ask(one, {"type": "join", "room": "a"})["value"]["room"] == "a!"


def test_types_of_a_generic_endpoint() -> None:
    """What the subclass puts in the place of the variable says which events there are."""

    class Base(Endpoint, Generic[T]):
        @event
        async def handle(self, msg: T) -> Any:
            return {"kind": type(msg).__name__}

    class Chat(Base[ClientMessage]): ...  # type: ignore[valid-type]

    assert (list(Base.handlers), list(Chat.handlers)) == (["handle"], ["join", "leave"])
    assert ask(Chat, {"type": "leave"}) == {"type": "leave", "kind": "Leave"}


def test_subclasses_and_mix_ins_have_all_events_of_a_handler() -> None:
    """One of them may be replaced, or all."""

    class Mixin:
        @event
        async def handle(self, msg: ClientMessage) -> Any:
            return {"by": "base"}

    class Base(Mixin, Endpoint): ...

    class One(Base):
        @event
        async def on_leave(self) -> Any:
            return {"by": "one"}

    class All(Base):
        @event
        async def handle(self, msg: ClientMessage) -> Any:
            return {"by": "all"}

    frames = {"type": "join", "room": "a"}, {"type": "leave"}
    assert [answer["by"] for answer in talk(One, *frames).answers] == ["base", "one"]
    assert [answer["by"] for answer in talk(All, *frames).answers] == ["all", "all"]


def test_attached_from_outside() -> None:
    """With `@Chat.event`, `attach_handler` and the mapping, which takes the one name that it is given."""

    class Chat(Endpoint): ...

    @Chat.event
    async def handle(msg: ClientMessage) -> Any: ...

    assert list(Chat.handlers) == ["join", "leave"]
    with pytest.raises(DefinitionError, match="event 'join': duplicate handler"):
        Chat.attach_handler(Handler(None, handle.method))
    del Chat.handlers["join"]

    class Heir(Chat): ...

    assert list(Heir.handlers) == ["leave"]
    Heir.handlers["join"] = handle
    assert list(Heir.handlers) == ["leave", "join"]
    with pytest.raises(DefinitionError, match="permits only 'join', 'leave'"):
        Heir.handlers["other"] = handle


def test_an_event_message_with_a_literal_names_its_event() -> None:
    """As any other model; without one it is whatever the handler is called."""

    class Said(EventMessage):
        type: Literal["said"]
        room: str

    class Free(EventMessage):
        room: str

    assert list(app(Said).handlers) == ["said"]
    assert list(app(Free).handlers) == ["handle"]


def test_handlers_can_be_called_with_messages_of_0_0_x() -> None:
    """`event_message=` is the message of the event that it says."""

    @event
    async def handle(msg: ClientMessage) -> Any:
        return {"kind": type(msg).__name__}

    assert asyncio.run(handle(event_message=EventMessage(type="leave"))) == {"kind": "Leave"}


# ---------------------------------------------------------------------- beside it


def test_what_is_injected_may_stand_beside_it() -> None:
    """`self`, the connection, dependencies, which may take the message, too."""

    def room_of(msg: Join) -> str:
        return msg.room

    class App(Endpoint):
        @event
        async def handle(self, msg: Join, room: Annotated[str, Depends(room_of)], ws: WebSocket) -> Any:
            return {"room": room, "same": msg.room == room, "path": ws.url.path}

    assert ask(App, {"type": "join", "room": "a", "ref": 1}) == {
        "type": "join", "room": "a", "same": True, "path": "/", "ref": 1,
    }  # fmt: skip


def test_a_dependency_alone_may_take_the_message() -> None:
    """The handler's name is the event then."""

    def room_of(msg: Join) -> str:
        return msg.room

    class App(Endpoint):
        @event
        async def on_join(self, room: Annotated[str, Depends(room_of)]) -> Any:
            return {"room": room}

    assert ask(App, {"type": "join", "room": "a"}) == {"type": "join", "room": "a"}


def test_everything_that_an_event_may_have_is_each_members() -> None:
    """Guards, time limits, streams, response models: the reply is named by the member's event."""
    asked: list[str] = []

    def guard(endpoint: Any, call: Any) -> bool:
        asked.append(call.event)
        return call.event != "leave"

    class Out(BaseModel):
        room: int

    class App(Endpoint):
        @event(guards=[guard], response_model=Out)
        async def handle(self, msg: ClientMessage) -> Any:
            return {"room": "7", "secret": 1}

    class Streams(Endpoint):
        @event
        async def handle(self, msg: ClientMessage) -> AsyncIterator[Any]:
            yield {"type": "part", "of": msg.type}

    class Apart(Endpoint):
        @event(concurrent=2, timeout_s=5)
        async def handle(self, msg: ClientMessage) -> Any:
            return {"of": msg.type}

    joined, left = talk(App, {"type": "join", "room": "a"}, {"type": "leave"}).answers
    assert (joined, left["code"], asked) == ({"type": "join", "room": 7}, "forbidden", ["join", "leave"])

    async def streams(client: Client) -> None:
        await client.send("leave", ref=1)
        assert await until_end(client, 1) == [{"type": "part", "of": "leave", "ref": 1}, {"type": "complete", "ref": 1}]

    async def apart(client: Client) -> None:
        await client.send("leave", ref=1)
        assert await client.receive() == {"type": "leave", "of": "leave", "ref": 1}

    talking(Streams, streams)
    talking(Apart, apart)


@pytest.mark.parametrize("annotation", [Join, Struct, Plain, Typed, Root, Annotated[Join, AfterValidator(lambda j: j)]])
def test_one_at_a_time_for_each_value_of_a_field(annotation: Any) -> None:
    """`serial_by` names a field of the message, whatever kind it is."""

    def room_of(msg: Any) -> str:
        msg = msg.root if isinstance(msg, RootModel) else msg
        return str(msg["room"] if isinstance(msg, dict) else msg.room)

    async def main(client: Client) -> None:
        for number, room in enumerate("aab"):
            await client.send("join", room=room, ref=number)
        await begun.satisfies(lambda: len(begun) == 2)
        assert begun == ["a", "b"]
        gate.set()
        assert sorted([(await client.receive())["ref"] for _ in range(3)]) == [0, 1, 2]
        assert begun == ["a", "b", "a"]

    async def handle(self: Any, msg: Any) -> Any:
        begun.append(room_of(msg))
        await gate.wait()
        return {}

    begun, gate = Log(), asyncio.Event()
    handle.__annotations__["msg"] = annotation
    talking(type("App", (Endpoint,), {"handle": event("join", serial_by="room")(handle)}), main)


def test_an_upload_may_stand_beside_it() -> None:
    """Its items follow the message."""

    class App(Endpoint):
        @event
        async def handle(self, msg: Join, rows: AsyncIterator[int]) -> Any:
            return {"room": msg.room, "sum": sum([row async for row in rows])}

    async def main(client: Client) -> None:
        await client.send("join", room="a", ref=1)
        for row in (1, 2):
            await client.send("item", item=row, ref=1)
        await client.send("complete", ref=1)
        assert await client.receive() == {"type": "join", "room": "a", "sum": 3, "ref": 1}

    talking(App, main)


def test_a_reply_that_brings_its_own_type_keeps_it() -> None:
    """As from any other handler."""

    class Joined(BaseModel):
        type: Literal["joined"] = "joined"
        room: str

    class App(Endpoint):
        @event
        async def handle(self, msg: ClientMessage) -> Joined | None:
            return Joined(room=msg.room) if isinstance(msg, Join) else None

    assert talk(App, {"type": "join", "room": "a"}, {"type": "leave"}).answers == [{"type": "joined", "room": "a"}]


# ---------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("annotation", [Join, ClientMessage, Alias, Root, Plain, Validated, Typed])
def test_errors_are_those_of_the_model(annotation: Any) -> None:
    """Where it is wrong is said as the client sent it: neither the parameter nor the member of the union is in it."""
    answer = ask(app(annotation), {"type": "join", "ref": 3})
    assert (answer["code"], answer["ref"]) == ("validation_error", 3)
    assert [(error["type"], error["loc"]) for error in answer["errors"]] == [("missing", ["room"])]


def test_errors_of_structs_are_told_by_msgspec() -> None:
    """With its own path."""
    (error,) = ask(app(Struct), {"type": "join"})["errors"]
    assert (error["type"], error["loc"], error["msg"]) == (
        "struct_type", [], "Object missing required field `room`",
    )  # fmt: skip


def test_a_number_that_no_float_holds_is_said_to_be_one() -> None:
    """Pydantic reads it as infinite, and msgspec does not take that."""

    class Sized(msgspec.Struct, tag_field="type", tag="sized"):
        size: float

    assert ask(app(Sized), '{"type":"sized","size":1e400}')["errors"][0]["msg"] == "Number out of range"


@pytest.mark.parametrize("ref", [1.5, True, [], {}, "x" * 65, 2**64])
def test_a_ref_that_is_none(ref: Any) -> None:
    """It is the envelope's error, at its key."""
    answer = ask(app(Join), {"type": "join", "room": "a", "ref": ref})
    assert [(error["type"], error["loc"]) for error in answer["errors"]] == [("ref_type", ["ref"])]


def test_a_model_that_declares_the_key_of_the_ref_is_given_it() -> None:
    """It is both: the envelope's, which the answer has, and the model's."""

    class Asked(BaseModel):
        model_config = ConfigDict(extra="forbid")
        type: Literal["ask"]
        ref: int | None = None

    one = app(Asked)
    assert ask(one, {"type": "ask", "ref": 7}) == {
        "type": "got", "kind": "Asked", "value": {"type": "ask", "ref": 7}, "ref": 7,
    }  # fmt: skip
    assert ask(one, {"type": "ask", "ref": "x"})["errors"][0]["loc"] == ["ref"]


@pytest.mark.parametrize(("extra", "kept"), [("allow", {"x": 1}), ("ignore", None)])
def test_unknown_keys_are_the_models_matter(extra: Any, kept: Any) -> None:
    """The `ref` is none of them."""

    class Open(BaseModel):
        model_config = ConfigDict(extra=extra)
        type: Literal["open"]

    class App(Endpoint):
        @event
        async def handle(self, msg: Open) -> Any:
            return {"kept": msg.model_extra, "set": sorted(msg.model_fields_set)}

    answer = ask(App, {"type": "open", "x": 1, "ref": 2})
    assert answer == {"type": "open", "kept": kept, "set": ["type", *(kept or ())], "ref": 2}


def test_a_model_that_forbids_unknown_keys() -> None:
    """A `ref` passes all the same, wherever and however often it stands, also within."""

    class Closed(BaseModel):
        model_config = ConfigDict(extra="forbid")
        type: Literal["closed"]
        within: dict[str, int] = {}

    one = app(Closed)
    refused = ask(one, {"type": "closed", "x": 1, "ref": 1})
    assert [(error["type"], error["loc"]) for error in refused["errors"]] == [("extra_forbidden", ["x"])]
    assert ask(one, '{"ref":1,"type":"closed","within":{"ref":5},"ref":2}') == {
        "type": "got", "kind": "Closed", "value": {"type": "closed", "within": {"ref": 5}}, "ref": 2,
    }  # fmt: skip


def test_strict_models_are_strict() -> None:
    """A model's own config counts."""

    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        type: Literal["strict"]
        n: int

    assert [error["type"] for error in ask(app(Strict), {"type": "strict", "n": "1"})["errors"]] == ["int_type"]


def test_validators_are_called_once() -> None:
    """Also where they refuse, and where there is a `ref`."""
    asked: list[Any] = []

    class Checked(BaseModel):
        type: Literal["checked"]
        n: int

        @model_validator(mode="before")
        @classmethod
        def before(cls, data: Any) -> Any:
            asked.append(sorted(data))
            return data

        @field_validator("n")
        @classmethod
        def positive(cls, n: int) -> int:
            asked.append(n)
            if n < 0:
                raise ValueError("negative")
            return n

    one = app(Checked)
    answers = talk(one, {"type": "checked", "n": 1, "ref": 1}, {"type": "checked", "n": -1}).answers
    assert asked == [["n", "type"], 1, ["n", "type"], -1]
    assert answers[1]["errors"][0]["msg"] == "Value error, negative"


def test_a_bug_of_a_validator_is_the_servers() -> None:
    """It is logged, and answered as one of a handler's."""

    class Broken(BaseModel):
        type: Literal["broken"]

        @model_validator(mode="before")
        @classmethod
        def before(cls, data: Any) -> Any:
            raise RuntimeError("no")

    assert ask(app(Broken), {"type": "broken"})["code"] == "internal_error"


@pytest.mark.parametrize("annotation", [Join, ClientMessage, Root, Plain, Typed])
def test_inputs_are_kept_out(annotation: Any) -> None:
    """Where the class says so: the names of fields are told, nothing that was sent."""

    class App(app(annotation)):  # type: ignore[misc]
        include_input = False

    answer = ask(App, {"type": "join", "room": ["secret"], "secret": 1})
    assert [error["loc"] for error in answer["errors"]] == [["room"]]
    assert "secret" not in str(answer)


# ---------------------------------------------------------------------- what is no whole message


@pytest.mark.parametrize(
    "annotation",
    [
        Nested,
        Optional[Join],
        Join | Nested,
        list[Join],
        Annotated[Join, Field(alias="msg")],
        Annotated[Join, Field(validation_alias="msg")],
        Json[Join],
        Annotated[Join, BeforeValidator(dict), Json()],
    ],
    ids=str,
)
def test_a_parameter_as_any_other(annotation: Any) -> None:
    """What may be left out, stands at a key, or may be what says nothing of its event."""
    one = app(annotation)
    assert list(one.handlers) == ["handle"]
    answer = ask(one, {"type": "handle"})
    assert answer["errors"][0]["loc"] == ["msg"] if "errors" in answer else answer["value"] is None


def test_beside_other_parameters_it_is_nested() -> None:
    """Only the one that is all of the message can be the message."""

    class App(Endpoint):
        @event
        async def on_two(self, msg: Join, n: int) -> Any:
            return {"room": msg.room, "n": n}

    assert ask(App, {"type": "two", "msg": {"type": "join", "room": "a"}, "n": 1}) == {
        "type": "two", "room": "a", "n": 1,
    }  # fmt: skip


class Number(BaseModel):
    type: Literal[1]


class Array(msgspec.Struct, tag=True, array_like=True):
    room: str


class OtherTag(msgspec.Struct, tag_field="kind", tag="join"):
    room: str


@pytest.mark.parametrize("annotation", [Number, Array, OtherTag])
def test_what_names_no_event_stays_a_parameter(annotation: Any) -> None:
    """A number is none, an array has no keys, another key is not the envelope's."""
    assert list(app(annotation).handlers) == ["handle"]


# ---------------------------------------------------------------------- mistakes


class Empty(BaseModel):
    type: Literal[""]


class Error(BaseModel):
    type: Literal["error"]


@pytest.mark.parametrize(
    ("annotation", "options", "text"),
    [
        (
            Join,
            {"event": "part"},
            "event 'part', parameter 'msg': its 'type' permits only 'join'; write @event.'join'.",
        ),
        (ClientMessage, {"serial_by": "room"}, "'leave': serial_by is 'room'; .*or of a field of the whole message"),
        (Empty, {}, "'' cannot be an event's name"),
        (Error, {}, "'error' cannot be an event's name"),
        (Annotated[Join | Nested, Field(discriminator="type")], {}, "'handle', parameter 'msg': .*Nested.*'type'"),
        (TypeAdapter(ClientMessage), {}, "'handle', parameter 'msg': .*an adapter is no type; name the type"),
    ],
    ids=str,
)
def test_mistakes_are_told_at_import(annotation: Any, options: Any, text: str) -> None:
    """With event, parameter and remedy."""
    with pytest.raises(DefinitionError, match=text):
        app(annotation, **options)


def test_two_handlers_of_one_event_are_told_by_name() -> None:
    """Both of them."""
    with pytest.raises(DefinitionError, match="event 'leave': duplicate handler on_leave in App, beside handle"):

        class App(Endpoint):
            @event
            async def handle(self, msg: ClientMessage) -> Any: ...

            @event
            async def on_leave(self) -> Any: ...


def test_an_override_of_fewer_events_is_told() -> None:
    """The base's function would go on answering the others."""

    class Base(Endpoint):
        @event
        async def handle(self, msg: ClientMessage) -> Any: ...

    with pytest.raises(DefinitionError, match="event 'leave': App.handle.*would go on answering"):

        class App(Base):
            @event
            async def handle(self, msg: Join) -> Any: ...


def test_a_dependency_that_takes_more_is_told() -> None:
    """The model is all of the message."""

    def page(number: int) -> int:
        return number

    with pytest.raises(DefinitionError, match="'join', parameter 'msg': it is the whole message.*'number'"):

        class App(Endpoint):
            @event
            async def handle(self, msg: Join, page: Annotated[int, Depends(page)]) -> Any: ...


# ---------------------------------------------------------------------- told in the log


def test_a_model_that_is_sent_flat_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The answer says what is wrong, the log what was meant."""

    class App(Endpoint):
        @event
        async def on_say(self, msg: Nested) -> Any: ...

    frames = [{"type": "say", "text": "a"}] * 2
    with caplog.at_level(logging.WARNING, "socketsundso"):
        answers = talk(App, {"type": "say", "other": 1}, {"type": "say", "msg": 1, "text": 1}, *frames).answers
    assert [error["loc"] for error in answers[2]["errors"]] == [["msg"], ["text"]]
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == (
        "App: event 'say': a client sends the fields of Nested flat, which the handler takes from a key of its own: "
        '{"type": "say", "msg": {}}; give Nested a field `type: Literal[\'say\']`, and it is the whole message '
        "(told once)"
    )


def test_a_union_that_is_sent_flat_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """One of its members has no event, so none of them is the message; or it may be left out."""

    class Unnamed(BaseModel):
        text: str

    class App(Endpoint):
        @event
        async def on_say(self, msg: Unnamed | Join | None) -> Any: ...

    ask(App, {"type": "say", "text": "a"})
    assert "sends the fields of Unnamed | Join flat" in caplog.text


# ---------------------------------------------------------------------- keys of parameters


def test_unknown_keys_may_be_ignored() -> None:
    """For the class's parameters; a model within them has its own config."""

    class Closed(BaseModel):
        model_config = ConfigDict(extra="forbid")
        n: int = 0

    class App(Endpoint):
        extra = "ignore"

        @event
        async def on_flat(self, a: int, closed: Closed | None = None) -> Any:
            return {"a": a}

    frames = {"type": "flat", "a": 1, "v": 2, "ref": 1}, {"type": "flat", "a": "1", "v": 2}
    assert [answer["a"] for answer in talk(App, *frames).answers] == [1, 1]
    assert ask(App, {"type": "flat", "a": 1, "closed": {"v": 1}})["errors"][0]["loc"] == ["closed", "v"]
    assert [error["loc"] for error in ask(App, {"type": "flat", "v": 1})["errors"]] == [["a"]]


def test_keys_are_made_of_names() -> None:
    """Those of dependencies, too; an alias counts more, and a model has its own."""

    class Inner(BaseModel):
        in_snake: int

    def depends(page_size: int = 1) -> int:
        return page_size

    class App(Endpoint):
        alias_generator = to_camel

        @event
        async def on_list(
            self,
            room_name: str,
            inner: Inner,
            x_y: Annotated[int, Field(alias="x_y")],
            size: Annotated[int, Depends(depends)],
        ) -> Any:
            return {"room_name": room_name, "size": size, "x_y": x_y, "in_snake": inner.in_snake}

    frame = {"type": "list", "roomName": "a", "inner": {"in_snake": 1}, "x_y": 2, "pageSize": 3}
    assert ask(App, frame) == {"type": "list", "room_name": "a", "size": 3, "x_y": 2, "in_snake": 1}
    wrong = ask(App, {**frame, "roomName": 1, "pageSize": "x"})
    assert [error["loc"] for error in wrong["errors"]] == [["roomName"], ["pageSize"]]
    assert "room_name" in [error["loc"][0] for error in ask(App, {**frame, "room_name": "b"})["errors"]]


@pytest.mark.parametrize(
    ("generator", "text"),
    [
        (lambda name: "type", "parameter 'a': the key 'type' is reserved"),
        (lambda name: "ref", "parameter 'a': the key 'ref' is reserved"),
        (lambda name: "k", "parameter 'b': 'a' already takes the key 'k'"),
        (lambda name: 1, "parameter 'a': alias_generator gave 1"),
        (lambda name: "", "parameter 'a': alias_generator gave ''"),
        (lambda: "k", "parameter 'a': alias_generator raised TypeError"),
        ("camel", "class App: alias_generator is 'camel'"),
    ],
)
def test_keys_that_cannot_be_are_told_at_import(generator: Any, text: str) -> None:
    """As aliases are."""

    async def on_x(self: Any, a: int, b: int) -> Any: ...

    with pytest.raises(DefinitionError, match=text):
        type("App", (Endpoint,), {"alias_generator": generator, "on_x": event(on_x)})


def test_extra_is_one_of_two() -> None:
    """Nothing could be done with what is kept."""
    with pytest.raises(DefinitionError, match="class App: extra is 'allow'"):

        class App(Endpoint):
            extra = "allow"  # type: ignore[assignment]


# ---------------------------------------------------------------------- in other envelopes


class Act(BaseModel):
    model_config = ConfigDict(extra="forbid")
    action: Literal["join"]
    room: str


class ActStruct(msgspec.Struct, tag_field="action", tag="leave", forbid_unknown_fields=True):
    room: str


class Payload(BaseModel):
    room: str


class Evented(BaseModel):
    event: Literal["join"]
    payload: Payload


class Left(BaseModel):
    event: Literal["leave"]
    payload: int = 0


def test_renamed_keys_are_the_models() -> None:
    """The field has the envelope's key; one called `type` is data as any other."""
    one = app(Act | ActStruct)

    class App(one):  # type: ignore[misc,valid-type]
        envelope = Envelope(type="action", ref="requestId")

    assert (list(one.handlers), list(App.handlers)) == (["handle"], ["join", "leave"])
    answers = talk(App, {"action": "join", "room": "a", "requestId": 1}, {"action": "leave", "requestId": 2}).answers
    assert answers[0] == {
        "action": "join", "type": "got", "kind": "Act", "value": {"action": "join", "room": "a"}, "requestId": 1,
    }  # fmt: skip
    assert (answers[1]["requestId"], answers[1]["errors"][0]["type"]) == (2, "struct_type")
    wrong = ask(App, {"action": "join", "requestId": 1.5})
    assert [error["loc"] for error in wrong["errors"]] == [["requestId"]]


def test_in_an_envelope_with_data_the_model_is_all_of_it() -> None:
    """As those are whose loop reads `{"event": ..., "payload": {...}}` by one union."""

    class App(Endpoint):
        envelope = Envelope(type="event", data="payload")

        @event
        async def handle(self, msg: Annotated[Evented | Left, Field(discriminator="event")]) -> Any:
            return {"got": msg.model_dump()}

    joined, left, wrong = talk(
        App,
        {"event": "join", "payload": {"room": "a"}, "ref": 1},
        {"event": "leave"},
        {"event": "join", "payload": {"room": 1}, "v": 2},
    ).answers
    assert joined == {"event": "join", "ref": 1, "payload": {"got": {"event": "join", "payload": {"room": "a"}}}}
    assert left["payload"]["got"] == {"event": "leave", "payload": 0}
    assert [error["loc"] for error in wrong["payload"]["errors"]] == [["payload", "room"]]


def test_in_an_envelope_with_data_other_models_are_parameters(caplog: pytest.LogCaptureFixture) -> None:
    """At a key of their own within the data part, which is what the log says of those that are sent flat."""

    class App(Endpoint):
        envelope = Envelope(type="event", data="payload")

        @event
        async def on_join(self, msg: Payload) -> Any:
            return {"room": msg.room}

    nested, flat = talk(
        App, {"event": "join", "payload": {"msg": {"room": "a"}}}, {"event": "join", "payload": {"room": "a"}}
    ).answers
    assert nested == {"event": "join", "payload": {"room": "a"}}
    assert [error["loc"] for error in flat["payload"]["errors"]] == [["payload", "msg"], ["payload", "room"]]
    (told,) = [record.getMessage() for record in caplog.records]
    assert '{"event": "join", "payload": {"msg": {}}}; take its fields as parameters, or as the whole message' in told
    assert "a model with `event: Literal['join']` and `payload: Payload`" in told


def test_in_arrays_no_model_is_the_message() -> None:
    """They have no keys: it is a parameter."""

    class App(Endpoint):
        envelope = ArrayEnvelope("type", "ref", "data")

        @event
        async def on_join(self, msg: Join) -> Any:
            return {"room": msg.room}

    assert ask(App, '["join",1,{"msg":{"type":"join","room":"a"}}]') == ["join", 1, {"room": "a"}]


@pytest.mark.parametrize(
    ("envelope", "frame"),
    [
        (Envelope(type="action"), r'\{"action": "join", "msg": \{\}\}; give Join .* a field `action:'),
        (ArrayEnvelope("type", "data"), r'\["join", \{"msg": \{\}\}\]; take its fields as parameters$'),
        (JsonRpc(), r'"params": \{"msg": \{\}\}\}; take its fields as parameters$'),
    ],
)
def test_a_subclass_in_another_envelope_is_warned_of_what_is_no_message_there(envelope: Any, frame: str) -> None:
    """Once for each event, where the class is; not of a parameter that was one before, nor in the same envelope."""

    class App(Endpoint):
        @event
        async def on_any(self, msg: Annotated[Join | Leave, Field(discriminator="type")]) -> Any: ...

        @event
        async def on_other(self, msg: Payload) -> Any: ...

    type("Same", (App,), {})
    with pytest.warns(DefinitionWarning) as told:
        type("Sub", (App,), {"envelope": envelope})
    assert [re.search("event '(.*?)'", str(each.message))[1] for each in told] == ["join", "leave"]  # type: ignore[index]
    assert re.search("Sub: .* is the whole message in App, and .*" + frame, str(told[0].message))
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    ("envelope", "frame", "reply"),
    [
        (Envelope(type="action"), {"action": "said", "ref": 1, "room": "a"}, {"action": "said", "room": "a", "ref": 1}),
        (
            Envelope(type="event", data="payload"),
            {"event": "said", "ref": 1, "payload": {"room": "a"}},
            {"event": "said", "ref": 1, "payload": {"room": "a"}},
        ),
        (ArrayEnvelope("type", "ref", "data"), '["said",1,{"room":"a"}]', ["said", 1, {"room": "a"}]),
    ],
    ids=str,
)
def test_an_event_message_is_its_own_in_every_envelope(envelope: Any, frame: Any, reply: Any) -> None:
    """`type` and the fields, whatever they came in."""

    class Said(EventMessage):
        type: Literal["said"]
        room: str

    wanted = envelope

    class App(Endpoint):
        envelope = wanted

        @event
        async def handle(self, msg: Said) -> Any:
            assert msg.type == "said"
            return {"room": msg.room}

    assert ask(App, frame) == reply


def test_the_envelope_of_a_whole_model_is_its_own() -> None:
    """`extra` of an envelope is for what no model says: a model's own config counts."""

    class App(Endpoint):
        envelope = Envelope(type="action", extra="ignore")

        @event
        async def handle(self, msg: Act) -> Any: ...

    assert ask(App, {"action": "join", "room": "a", "v": 1})["errors"][0]["loc"] == ["v"]
