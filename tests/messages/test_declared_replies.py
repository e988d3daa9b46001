"""Replies, from the declaration to the frame: nothing undeclared, validated once, refused without their values."""

from __future__ import annotations

import dataclasses
import json
import types
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import attrs
import msgspec
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ImportString,
    PlainSerializer,
    RootModel,
    computed_field,
    field_serializer,
    model_serializer,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType, TypedDict

from socketsundso import EventMessage, WebSocketHandlingEndpoint, event
from socketsundso.errors import DefinitionError
from tests.harness import ask, talk

T = TypeVar("T")
S = TypeVar("S")
MARK = "s3cret"


class Pub(BaseModel):
    id: int = 1


class Priv(Pub):
    password: str = MARK


B = TypeVar("B", bound=Pub)


class Gone(BaseModel):
    since: int


Maybe = TypeAliasType("Maybe", Union[T, Gone], type_params=(T,))
Chained = TypeAliasType("Chained", Optional[Maybe[T]], type_params=(T,))
Free = TypeAliasType("Free", Optional[T])  # type: ignore[misc]  # not among its parameters, and yet written
PubName = NewType("PubName", Pub)


class Box(msgspec.Struct, Generic[T]):
    item: T


class ModelBox(BaseModel, Generic[T]):
    item: T


class Store(WebSocketHandlingEndpoint, Generic[T]):
    @event
    async def on_itself(self) -> T:
        return Priv()  # type: ignore[return-value]  # as an application that is wrong about its types

    @event
    async def on_optional(self) -> T | None:
        return Priv()  # type: ignore[return-value]  # the same

    @event
    async def on_alias(self) -> Maybe[T]:
        return Priv()  # type: ignore[return-value]  # the same

    @event
    async def on_chained(self) -> Chained[T]:
        return Priv()  # type: ignore[return-value]  # the same

    @event
    async def on_free(self) -> Free:
        return Priv()

    @event(response_model=Maybe[T])
    async def on_given(self) -> Any:
        return Priv()

    @event
    async def on_name(self) -> PubName:
        return PubName(Priv())

    @event
    async def on_or_dict(self) -> T | dict[str, Any]:
        return Priv()  # type: ignore[return-value]  # the same


class Middle(Store[S], Generic[S]): ...


class OfPub(Store[Pub]): ...


class OfMiddle(Middle[Pub]): ...


class Bound(WebSocketHandlingEndpoint, Generic[B]):
    @event
    async def on_itself(self) -> B:
        return Priv()  # type: ignore[return-value]  # the same


@pytest.mark.parametrize("app", [OfPub, OfMiddle])
@pytest.mark.parametrize("name", list(Store.handlers))
def test_names_stand_for_what_they_name(app: Any, name: str) -> None:
    """A type variable, alias or NewType as return annotation or response model is what it stands for."""
    assert ask(app, {"type": name}) == {"type": name, "id": 1}


def test_a_variable_that_nobody_has_given_anything_for_is_its_bound() -> None:
    """The generic endpoint itself, too, writes what its variable is bound to."""
    assert ask(Bound, {"type": "itself"}) == {"type": "itself", "id": 1}


def test_a_variable_may_stand_for_what_can_be_no_reply() -> None:
    """`-> T` is refused at the class that gives T a type which is no object."""
    with pytest.raises(DefinitionError, match=r"event 'itself': .*int.* is no object"):

        class OfInt(Store[int]): ...


def test_a_model_that_cannot_hold_what_is_given_is_refused_by_name() -> None:
    """A generic model is built with the class that gives the types: its parameter or reply is named, with the types."""

    class Taking(WebSocketHandlingEndpoint, Generic[T]):
        @event
        async def on_take(self, box: ModelBox[T]) -> None: ...

    class Giving(WebSocketHandlingEndpoint, Generic[T]):
        @event
        async def on_give(self) -> ModelBox[T]: ...

    class Choosing(WebSocketHandlingEndpoint, Generic[T]):
        @event(response_model=ModelBox[T])
        async def on_choose(self) -> Any: ...

    for base, where in [
        (Taking, "event 'take', parameter 'box'"),
        (Giving, "event 'give', the return annotation"),
        (Choosing, "event 'choose', the response model"),
    ]:
        with pytest.raises(DefinitionError, match=f"{where}: .*ModelBox.* is not possible with ~T = .*Struct"):
            types.new_class("OfStruct", (base[Struct],))  # type: ignore[index]  # generic, each of them


@dataclasses.dataclass
class Data:
    id: int = 1


@dataclasses.dataclass
class MoreData(Data):
    password: str = MARK


@dataclasses.dataclass
class DataBox(Generic[T]):
    item: T


class Struct(msgspec.Struct):
    id: int = 1


class MoreStruct(Struct):
    password: str = MARK
    type: str = MARK


@attrs.define(slots=False)
class Attrs:
    id: int = 1


@attrs.define(slots=False)
class MoreAttrs(Attrs):
    password: str = MARK


class Row(TypedDict):
    id: int


class RowBox(TypedDict, Generic[T]):
    item: T


class Pair(NamedTuple):
    first: Pub
    second: int = 2


class Node(msgspec.Struct):
    id: int = 1
    nodes: list[Node] = []


class MoreNode(Node):
    password: str = MARK


class IntBox(Box[T], Generic[T, S]):
    other: S | None = None


class PubBox(Box[Pub]):
    pass


class Frozen(msgspec.Struct, frozen=True):
    id: int = 1


class MoreFrozen(Frozen, frozen=True):
    password: str = MARK


class Omitting(msgspec.Struct, omit_defaults=True):
    item: Frozen = Frozen(5)
    items: list[Struct] = []


@dataclasses.dataclass
class Holding:
    item: Struct


@dataclasses.dataclass
class MoreHolding(Holding):
    type: str = MARK


ONE = {"id": 1}
FIELDS: list[tuple[Any, Any, Any]] = [
    (Pub, Priv(), ONE),
    (PubName, Priv(), ONE),
    (Maybe[Pub], Priv(), ONE),
    (Optional[Chained[Pub]], Priv(), ONE),
    (Annotated[Pub, Field(title="a")], Priv(), ONE),
    (Annotated[Pub, PlainSerializer(lambda value: value.id)], Priv(), 1),
    (Union[int, Struct, Pub], MoreStruct(), ONE),
    (Union[int, Struct, Pub], Priv(), ONE),
    (Union[None, list[Pub], dict[str, Pub]], {"a": Priv()}, {"a": ONE}),
    (Union[None, list[Pub], dict[str, Pub]], [Priv()], [ONE]),
    (Data, MoreData(), ONE),
    (Struct, MoreStruct(), ONE),
    (Attrs, MoreAttrs(), ONE),
    (Row, {"id": 1, "password": MARK}, ONE),
    (Pair, Pair(Priv()), [ONE, 2]),
    (list[Pub], (Priv(), Priv()), [ONE, ONE]),
    (tuple[Pub, ...], [Priv()], [ONE]),
    (tuple[int, Data], (1, MoreData()), [1, ONE]),
    (Mapping[str, list[Struct]], {"a": [MoreStruct(), Struct()]}, {"a": [ONE, ONE]}),
    (Box[Pub], Box(Priv()), {"item": ONE}),
    (Box[list[Pub]], Box([Priv()]), {"item": [ONE]}),
    (Box[Box[Maybe[Pub]]], Box(Box(Priv())), {"item": {"item": ONE}}),
    (PubBox, PubBox(Priv()), {"item": ONE}),
    (IntBox[Pub, Struct], IntBox(Priv(), MoreStruct()), {"item": ONE, "other": ONE}),
    (DataBox[Pub], DataBox(Priv()), {"item": ONE}),
    (RowBox[Pub], {"item": Priv(), "password": MARK}, {"item": ONE}),
    (ModelBox[Pub], ModelBox(item=Priv()), {"item": ONE}),
    (Node, MoreNode(2, [MoreNode()]), {"id": 2, "nodes": [{"id": 1, "nodes": []}]}),
    (Omitting, Omitting(), {}),
    (Omitting, Omitting(MoreFrozen(), [MoreStruct()]), {"item": ONE, "items": [ONE]}),
    # what stands there unvalidated, and is of no declared class
    (Pub, {"id": 1, "password": MARK}, ONE),
    (Struct, {"id": 1, "password": MARK}, ONE),
    (Data, {"id": 1, "password": MARK}, ONE),
    (Union[Struct, Pub], {"id": 1, "password": MARK}, ONE),
    (dict[str, Pub], {"a": {"id": 1, "password": MARK}}, {"a": ONE}),
]


@pytest.mark.parametrize(("declared", "value", "written"), FIELDS)
def test_a_field_of_a_struct_holds_what_it_declares(declared: Any, value: Any, written: Any) -> None:
    """Whatever stands there is written with the declared fields, and the same within a mapping of such Structs."""
    Reply = msgspec.defstruct("Reply", [("field", declared)])

    class App(WebSocketHandlingEndpoint):
        @event(response_model=Reply)
        async def on_one(self) -> Any:
            return Reply(value)

        @event(response_model=dict[str, Reply])  # type: ignore[valid-type]  # made at run time
        async def on_many(self) -> Any:
            return {"a": Reply(value)}

        @event(response_model=Box[Reply])  # type: ignore[valid-type]  # made at run time
        async def on_generic(self) -> Any:
            return {"item": Reply(value)}

    peer = talk(App, {"type": "one"}, {"type": "many"}, {"type": "generic"})
    assert peer.answers == [
        {"type": "one", "field": written},
        {"type": "many", "a": {"field": written}},
        {"type": "generic", "item": {"field": written}},
    ]


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")


class Pubs(dict[str, T], Generic[T]): ...


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (dict[str, Pub], {"a": Priv()}),
        (Mapping[str, Maybe[Pub]], {"a": Priv()}),
        (dict[str, Data], {"a": MoreData()}),
        (dict[str, Struct], {"a": MoreStruct()}),
        (dict[str, Attrs], {"a": MoreAttrs()}),
        (Optional[dict[str, PubName]], {"a": Priv()}),
        (Pubs[Pub], Pubs(a=Priv())),
        (Pubs[Struct], Pubs(a=MoreStruct())),
    ],
)
def test_a_mapping_of_models_is_a_reply(declared: Any, value: Any) -> None:
    """Its values are written as declared; its `type` is the message's."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_one(self) -> declared:
            return value

        @event
        async def on_named(self) -> declared:
            return {"type": "name", **value}

    assert talk(App, {"type": "one"}, {"type": "named"}).answers == [
        {"type": "one", "a": {"id": 1}},
        {"type": "name", "a": {"id": 1}},
    ]


@dataclasses.dataclass
class TypedData(Data):
    type: str = MARK


UNDECLARED_TYPES: list[tuple[Any, Any, Any]] = [
    (Data, TypedData(), ONE),
    (Union[Data, EventMessage], TypedData(), ONE),
    (Pub, type("P", (Pub,), {"__annotations__": {"type": str}, "type": MARK, "__module__": __name__})(), ONE),
    (Loose, type("L", (Loose,), {"__annotations__": {"type": str}, "type": MARK, "__module__": __name__})(), {}),
    (Struct, MoreStruct(), ONE),
    (Holding, MoreHolding(MoreStruct()), {"item": ONE}),
]


@pytest.mark.parametrize(("declared", "value", "written"), UNDECLARED_TYPES)
def test_a_type_that_only_a_subclass_has_does_not_name_the_reply(declared: Any, value: Any, written: Any) -> None:
    """It is a field like any other: the event's name goes out."""

    class App(WebSocketHandlingEndpoint):
        @event(response_model=declared)
        async def on_one(self) -> Any:
            return value

    assert ask(App, {"type": "one"}) == {"type": "one", **written}


@pytest.mark.parametrize("declared", [list[Pub], dict[str, Pub], Pair, Struct, Union[Struct, list[Pub]], Pub])
def test_what_has_other_fields_and_cannot_be_read_is_refused(declared: Any) -> None:
    """A model where a list of models is declared is not taken for a list of its fields."""
    Reply = msgspec.defstruct("Reply", [("field", declared)])

    class Unlike(BaseModel):
        password: str = MARK
        id: str = MARK

    class App(WebSocketHandlingEndpoint):
        @event(response_model=Reply)
        async def on_one(self) -> Any:
            return Reply(Unlike())

    (answer,) = talk(App, {"type": "one"}).answers
    assert answer["code"] == "response_error"
    assert answer["errors"][0]["loc"][:2] == ["response", "field"]
    assert MARK not in json.dumps(answer)


@dataclasses.dataclass
class Profile:
    user: Pub
    tags: set[str] = dataclasses.field(default_factory=set)


@pytest.mark.parametrize(
    "user", [{"id": 1, "password": MARK}, MoreData(), MoreStruct(), [("id", 1), ("password", MARK)], Priv()]
)
def test_what_nobody_validated_within_a_dataclass_is_made_what_is_declared(user: Any) -> None:
    """Pydantic would warn, and write all of it; here it is read as the declared model, or refused."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_profile(self) -> Profile:
            return Profile(user, ["a"])  # type: ignore[arg-type]  # a list for a set: as applications have it

    (answer,) = talk(App, {"type": "profile"}).answers
    assert MARK not in json.dumps(answer)
    if "code" not in answer:
        assert answer == {"type": "profile", "user": {"id": 1}, "tags": ["a"]}


RAW: Any = {"id": 1, "password": MARK}


class Unvalidated(BaseModel):
    user: Pub = Pub()
    users: list[Pub] = []
    pair: tuple[Pub, int] = (Pub(), 1)
    either: Union[Pub, Gone, None] = None


class Root(RootModel[Pub]): ...


def _computing() -> Any:
    class Computing(BaseModel):
        @computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation has it
        @property
        def user(self) -> Pub:
            return RAW  # type: ignore[no-any-return]  # as an application that is wrong about its types

    return Computing()


@pytest.mark.parametrize(
    "value",
    [
        *(Unvalidated.model_construct(**{name: RAW}) for name in ("user", "either")),
        Unvalidated.model_construct(users=[RAW, Priv()]),
        Unvalidated.model_construct(users=Priv()),
        Unvalidated.model_construct(pair=(Pub(), 1, Priv())),
        Unvalidated.model_construct(either=MoreData()),
        Root.model_construct(RAW),
        Profile(Pub()),
        _computing(),
    ],
)
def test_what_nobody_validated_is_made_what_is_declared_wherever_it_stands(value: Any) -> None:
    """At the top, in a mapping, in a Struct: nothing goes out that is not declared, with no warning of pydantic's."""
    kind = type(value)

    class App(WebSocketHandlingEndpoint):
        @event(response_model=kind)
        async def on_top(self) -> Any:
            return value

        @event(response_model=dict[str, kind])  # type: ignore[valid-type]  # known at run time
        async def on_mapping(self) -> Any:
            return {"item": value}

        @event(response_model=Box[kind])  # type: ignore[valid-type]  # the same
        async def on_struct(self) -> Any:
            return Box(value)

    top, *within = talk(App, {"type": "top"}, {"type": "mapping"}, {"type": "struct"}).answers
    assert MARK not in json.dumps([top, *within])
    assert {answer.get("code") for answer in within} == {top.get("code")}
    if "code" not in top:
        assert [answer["item"] for answer in within] == [{k: v for k, v in top.items() if k != "type"}] * 2


def test_a_base_of_all_models_is_a_response_model() -> None:
    """`-> BaseModel` declares no fields, also beside a type variable; so none go out."""

    class Either(WebSocketHandlingEndpoint, Generic[T]):
        @event
        async def on_base(self) -> BaseModel:
            return Priv()

        @event
        async def on_either(self) -> ModelBox[T] | BaseModel:
            return Priv()

    class App(Either[Pub]): ...

    assert ask(App, {"type": "base"}) == {"type": "base"}
    assert MARK not in json.dumps(ask(App, {"type": "either"}))


class Named(EventMessage):
    text: str = "a"


class Fixed(BaseModel):
    type: Literal["fixed"] = "fixed"
    a: int


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": 3}, {"type": "fixed", "a": 3}),
        ({"text": "b"}, {"type": "one", "text": "b"}),
        ({"type": "own", "text": "b"}, {"type": "own", "text": "b"}),
    ],
)
def test_the_events_name_is_filled_in_where_an_alternative_cannot_do_without(value: Any, written: Any) -> None:
    """What fits without a `type` is what pydantic makes of it; only then the event's name helps."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_one(self) -> Fixed | Named:
            return value  # type: ignore[no-any-return]  # a dict for a model

    assert ask(App, {"type": "one"}) == written


class Written(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field("a", serialization_alias="n")
    hidden: str = Field(MARK, exclude=True)
    seen: int = 1

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def twice(self) -> int:
        return self.seen * 2

    @field_serializer("seen")
    def write_seen(self, value: int) -> str:
        return f"<{value}>"


class Wrapped(BaseModel):
    x: int = 1

    @model_serializer
    def write(self) -> dict[str, Any]:
        return {"wrapped": self.x}


class Outer(msgspec.Struct):
    first: Written
    second: Wrapped


def test_a_class_that_is_defined_elsewhere_changes_nothing() -> None:
    """A reply is written by the declared models' own serializers, before and after somebody has subclassed them."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_outer(self) -> Outer:
            return Outer(Written(), Wrapped())

    expected = {"type": "outer", "first": {"n": "a", "seen": "<1>", "twice": 2}, "second": {"wrapped": 1}}
    assert ask(App, {"type": "outer"}) == expected
    type("Unused", (Written,), {"__module__": __name__})
    type("Unused", (Wrapped,), {"__module__": __name__})
    type("Unused", (Outer,), {})
    assert ask(App, {"type": "outer"}) == expected


counted: list[Any] = []


def count(value: Any) -> Any:
    counted.append(value)
    return value + 1


class Holder(msgspec.Struct, tag_field="type", tag="held"):
    value: Any


@pytest.mark.parametrize("declared", [Holder, Optional[Holder], None])
def test_what_json_cannot_hold_is_refused_with_the_class_around_it(declared: Any) -> None:
    """Whatever stands there, and however the reply is written."""

    class App(WebSocketHandlingEndpoint):
        @event(response_model=declared)
        async def on_x(self) -> Any:
            return Holder(object())

    (error,) = ask(App, {"type": "x"})["errors"]
    assert error == {"type": "serialization_error", "loc": ["response"], "msg": "A Holder that JSON cannot hold"}


Unfinished = TypeAliasType("Unfinished", "Nowhere")  # type: ignore[name-defined]  # noqa: F821  # as is to be told


@pytest.mark.parametrize("declared", [Unfinished, Optional[Unfinished], dict[str, Unfinished]])
def test_a_name_that_a_response_model_cannot_resolve_is_told(declared: Any) -> None:
    """When the endpoint is made."""
    with pytest.raises(DefinitionError, match="event 'x': the response model .* cannot be resolved: name 'Nowhere'"):

        class App(WebSocketHandlingEndpoint):
            @event(response_model=declared)
            async def on_x(self) -> Any: ...


class Renamed(TypedDict):
    user_name: Annotated[str, Field(alias="userName")]
    count: Annotated[int, AfterValidator(count)]


class Counted(BaseModel):
    count: Annotated[int, AfterValidator(count)]


class CountedBox(msgspec.Struct):
    item: Counted


REPLIES: list[tuple[Any, Any, Any]] = [
    (Renamed, {"userName": "a", "count": 1}, {"userName": "a", "count": 2}),
    (Counted, {"count": 1}, {"count": 2}),
    (Counted | Struct, {"count": 1}, {"count": 2}),
    (CountedBox, {"item": {"count": 1}}, {"item": {"count": 2}}),
    (dict[str, Counted], {"a": {"count": 1}}, {"a": {"count": 2}}),
    (dict[str, CountedBox], {"a": {"item": {"count": 1}}}, {"a": {"item": {"count": 2}}}),
    (Annotated[Counted, AfterValidator(lambda made: made)], {"count": 1}, {"count": 2}),
]


@pytest.mark.parametrize(("declared", "value", "written"), REPLIES)
def test_a_reply_is_validated_once(declared: Any, value: Any, written: Any) -> None:
    """Also where `respond` is overridden and passes on what it was given: that is the valid value."""
    given: list[Any] = []

    class Plain(WebSocketHandlingEndpoint):
        @event(response_model=declared)
        async def on_reply(self) -> Any:
            return value

    class Overriding(Plain):
        async def respond(self, response: Any) -> None:
            given.append(response)
            await super().respond(response)

    for app in (Plain, Overriding):
        counted.clear()
        (answer,) = talk(app, {"type": "reply", "ref": 1}).answers
        if declared is Renamed:
            written = {"user_name" if answer.get("user_name") else "userName": "a", "count": 2}
        assert answer == {"type": "reply", **written, "ref": 1}
        assert counted == [1]
    assert given[0] is not value


def test_an_overriding_respond_gets_the_very_reply_where_nothing_is_declared() -> None:
    """And what it passes on is written as it would have been."""
    reply, given = {"n": 1}, list[Any]()

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_x(self) -> Any:
            return reply

        async def respond(self, response: Any) -> None:
            given.append(response)
            await super().respond(response)

    assert ask(App, {"type": "x"}) == {"type": "x", "n": 1}
    assert given[0] is reply


def test_what_an_overriding_respond_changes_is_validated() -> None:
    """Another object than the one that was given is validated like any other reply."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_reply(self) -> Pub:
            return Pub()

        async def respond(self, response: Any) -> None:
            await super().respond({"id": "7", "password": MARK})
            await super().respond({"id": MARK})

    first, second = talk(App, {"type": "reply"}).answers
    assert first == {"type": "reply", "id": 7}
    assert second["code"] == "response_error"
    assert MARK not in json.dumps(second)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


Pet = Annotated[Union[Cat, Dog], Field(discriminator="kind")]


def say(value: Any) -> Any:
    raise ValueError(f"no such thing as {value}")


def say_custom(value: Any) -> Any:
    raise PydanticCustomError("odd", f"odd {value}", {"given": value})  # type: ignore[arg-type]  # as applications do


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    x: int

    def __post_init__(self) -> None:
        raise ValueError(f"Expected `x`, not {MARK}")


NO_INT = "Input should be a valid integer, unable to parse string as an integer"
NO_PET = "Input tag '...' found using 'kind' does not match any of the expected tags: 'cat', 'dog'"
TOLD: list[tuple[Any, Any, list[Any], str]] = [
    (Pet, {"kind": MARK}, ["field"], NO_PET),
    (dict[str, int], {MARK: "x"}, ["field", "..."], NO_INT),
    (Annotated[str, AfterValidator(say)], MARK, ["field"], "Value error, ..."),
    (Annotated[int, BeforeValidator(int)], MARK, ["field"], "Value error, ..."),
    (Annotated[str, AfterValidator(say_custom)], MARK, ["field"], "Input is not valid"),
    (ImportString, MARK, ["field"], "Input is not valid"),
    (uuid.UUID, MARK, ["field"], "Input should be a valid UUID, ..."),
    (Literal["a"], MARK, ["field"], "Input should be 'a'"),
    (Annotated[str, Field(max_length=1)], MARK, ["field"], "String should have at most 1 character"),
    (Union[int, list[int]], MARK, ["field", "int"], NO_INT),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "loc", "msg"), TOLD)
def test_a_response_error_tells_what_was_declared_and_nothing_of_the_value(
    annotation: Any, value: Any, loc: list[Any], msg: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Kind, place and bounds go to the client; the value, and what a validator says of it, to the log."""
    Model = type("Model", (BaseModel,), {"__annotations__": {"field": annotation}, "__module__": __name__})
    Holder = msgspec.defstruct("Holder", [("model", Model)])

    class App(WebSocketHandlingEndpoint):
        @event(response_model=Model)
        async def on_model(self) -> Any:
            return {"field": value}

        @event(response_model=Holder)
        async def on_holder(self) -> Any:
            return Holder({"field": value})

        @event(response_model=Holder)
        async def on_dict(self) -> Any:
            return {"model": {"field": value}}

    peer = talk(App, {"type": "model"}, {"type": "holder"}, {"type": "dict"})
    assert not any(MARK in message.get("text", "") for message in peer.sent)
    first, second, third = (answer["errors"][0] for answer in peer.answers)
    assert (first["loc"], first["msg"]) == (["response", *loc], msg)
    assert (second["loc"], second["msg"]) == (["response", "model", *loc], msg)
    assert (third["loc"], third["msg"].partition(";")[0]) == (["response", "model"], msg)
    assert MARK in caplog.text


@pytest.mark.parametrize("value", [{"x": 1}, {"x": 1, MARK: 1}, {"x": MARK}])
def test_what_a_struct_says_of_itself_stays_here(value: Any) -> None:
    """The words of its `__post_init__`, and keys that it does not have."""

    class App(WebSocketHandlingEndpoint):
        @event(response_model=Strict)
        async def on_reply(self) -> Any:
            return value

    answer = ask(App, {"type": "reply"})
    assert answer["code"] == "response_error"
    assert MARK not in json.dumps(answer)


class IntType(BaseModel):
    type: int = 1


class IntTypeStruct(msgspec.Struct):
    kind: Literal[1] = msgspec.field(name="type", default=1)


class IntTag(msgspec.Struct, tag_field="type", tag=1):
    pass


class IntTypeRow(TypedDict):
    type: int


class IntTypeComputed(BaseModel):
    @computed_field(alias="type")  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def kind(self) -> list[int]:
        return []


@dataclasses.dataclass
class IntTypeData:
    type: float = 1.0


@pytest.mark.parametrize(
    "declared",
    [
        IntType,
        IntTypeStruct,
        IntTag,
        IntTypeRow,
        IntTypeComputed,
        IntTypeData,
        Union[Pub, IntType],
        Union[Struct, IntTag],
    ],
)
def test_a_type_that_is_never_a_string_is_refused_at_import(declared: Any) -> None:
    """Every reply would be refused; the text says what can be done."""
    with pytest.raises(DefinitionError, match=r"event 'x': .* 'type' that is never a string, .*; rename it"):

        class App(WebSocketHandlingEndpoint):
            @event(response_model=declared)
            async def on_x(self) -> Any: ...


class MaybeType(BaseModel):
    type: int | None = None


class WrittenType(BaseModel):
    type: Annotated[int, PlainSerializer(str)] = 5


class HiddenType(BaseModel):
    type: int = Field(1, exclude=True)


class Name(str):
    """Msgspec writes it as the text that it is; pydantic does not know it."""


class NameType(msgspec.Struct):
    type: Name = Name("named")


@pytest.mark.parametrize(
    ("declared", "expected"), [(MaybeType, "x"), (WrittenType, "5"), (HiddenType, "x"), (NameType, "named")]
)
def test_a_type_that_may_be_a_string_is_not(declared: Any, expected: str) -> None:
    """None is the event's name; what a serializer writes, or a class that pydantic does not know, is not known."""

    class App(WebSocketHandlingEndpoint):
        @event(response_model=declared)
        async def on_x(self) -> Any:
            return declared()

    assert ask(App, {"type": "x"}) == {"type": expected}
