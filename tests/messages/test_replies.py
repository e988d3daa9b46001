"""Replies: which bytes a value becomes, where its `type` comes from, and what is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import json
import math
import types
import uuid
import weakref
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, Never, NewType, Optional, TypeVar, Union

import attrs
import msgspec
import numpy as np
import pydantic.dataclasses
import pydantic_core
import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import TypeAliasType, TypedDict

from socketsundso.errors import DefinitionError, EventError
from socketsundso.messages import Envelope, ResponseError, ResponseOptions, encoder_for, returned_model
from socketsundso.messages.values import Encoder

T = TypeVar("T")
SECRET = "hunter2"


class Color(enum.Enum):
    RED = "red"


class Pong(BaseModel):
    time: int
    note: str | None = None


class Leaky(Pong):
    secret: str = SECRET


class Typed(BaseModel):
    type: str = "own"
    x: int = 1


class NeedsType(BaseModel):
    type: str
    x: int = 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int = 1


class Computed(BaseModel):
    x: int = 1

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def type(self) -> str:
        return "computed"


class ComputedAlias(BaseModel):
    x: int = 1

    @computed_field(alias="type")  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def kind(self) -> str:
        return "computed"


class Aliased(BaseModel):
    kind: str = Field("aliased", serialization_alias="type")
    x: int = 1


class TypeElsewhere(BaseModel):
    type: str = Field("hidden", serialization_alias="kind")


class TypeRead(BaseModel):
    kind: str = Field(validation_alias="type")
    x: int = 1


class AliasedRef(BaseModel):
    ref: int = Field(1, serialization_alias="re")


class Custom(BaseModel):
    x: int = 1

    @model_serializer
    def write(self) -> dict[str, Any]:
        return {"type": "custom", "x": self.x}


class CustomBare(BaseModel):
    x: int = 1

    @model_serializer
    def write(self) -> dict[str, Any]:
        return {"y": self.x}


class Empty(BaseModel):
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class SecretPoint(Point):
    secret: str = SECRET


@dataclasses.dataclass
class TypedPoint:
    type: str
    x: int = 0


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


class Row(TypedDict):
    x: int


class Pair(NamedTuple):
    x: int
    y: int


class TypedRow(TypedDict):
    type: str
    x: int


class Colored(msgspec.Struct):
    color: Color


class WithModel(msgspec.Struct):
    model: Pong


class Plain(msgspec.Struct):
    x: int
    y: str = ""


class SecretPlain(Plain):
    secret: str = SECRET


class Tagged(msgspec.Struct, tag="tagged"):
    x: int = 1


class TaggedSecret(Tagged, tag="other"):
    secret: str = SECRET


class Nest(msgspec.Struct):
    inner: Plain
    more: list[Plain] = []


class Lonely(msgspec.Struct):
    x: int = 0


class LonelyNest(msgspec.Struct):
    inner: Lonely


class Places(msgspec.Struct):
    path: Path
    when: datetime.datetime


class SecretPlaces(Places):
    secret: str = SECRET


class Arrayed(msgspec.Struct, array_like=True):
    x: int = 1


@attrs.define
class Attrs:
    x: int = 1


def reply(value: Any, model: Any = None, event: str = "ev", ref_key: str = "ref", **options: Any) -> Any:
    """What the client reads; a key that comes twice fails the test."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in items}) == len(items), items
        return dict(items)

    body = encoder_for(event, model, ResponseOptions(**options), Envelope().framing(ref_key)).encode(value)
    msgspec.json.decode(body)  # strict RFC 8259
    return json.loads(body, object_pairs_hook=pairs)


def refused(value: Any, model: Any = None, **options: Any) -> list[dict[str, Any]]:
    with pytest.raises(ResponseError) as caught:
        encoder_for("ev", model, ResponseOptions(**options)).encode(value)
    assert caught.value.code == "response_error"
    assert isinstance(caught.value, EventError)
    assert str(caught.value).startswith("response")
    for error in caught.value.errors:
        assert error["loc"][0] == "response"
        assert "input" not in error
        assert "url" not in error
    json.dumps(caught.value.errors)
    return caught.value.errors


# ---------------------------------------------------------------------- the return annotation

Alias = TypeAliasType("Alias", Optional[Pong])
Either = TypeAliasType("Either", Union[T, Point], type_params=(T,))
PongName = NewType("PongName", Pong)


@pytest.mark.parametrize(
    "annotation",
    [
        Pong, Point, Box[int], Row, Plain, Attrs, Optional[Pong], Pong | None, Union[Pong, Plain], Alias, Either[Pong],
        PongName, RootModel[dict[str, int]], dict[str, Pong], Mapping[str, list[Plain]], Union[Pong, dict[str, Any]],
        Annotated[Pong, "note"], Annotated[Optional[Pong], Field(description="d")], Optional[Annotated[Point, 1]],
    ],
)  # fmt: skip
def test_names_of_models(annotation: Any) -> None:
    """Each of these is taken as a response model when it stands as the return annotation."""
    assert returned_model(annotation) == annotation
    assert encoder_for("ev", annotation, ResponseOptions()) is not None


@pytest.mark.parametrize(
    "annotation",
    [None, type(None), Any, object, dict, dict[str, int], Mapping[str, Any], "Pong", T, Never, Union[Any, Pong],
     Optional[dict[str, str]], Awaitable[Pong]],
)  # fmt: skip
def test_names_of_no_models(annotation: Any) -> None:
    """None of these says how a reply looks."""
    assert returned_model(annotation) is None


class Unwritable:
    pass


@pytest.mark.parametrize(
    "annotation",
    [list[Pong], int, str, Union[Pong, int], Optional[int], Literal["x"], tuple[Pong, ...], Pair, Color, Unwritable,
     NewType("Number", int), TypeAliasType("Pongs", list[Pong]), Annotated[list[Pong], 1], Union[str, dict[str, Any]]],
)  # fmt: skip
def test_what_is_no_object_is_no_return_annotation(annotation: Any) -> None:
    """What can never be a message is refused at import, and the text says what to write instead."""
    with pytest.raises(DefinitionError, match="wrap it in a model .* or switch it off with response_model=None"):
        encoder_for("ev", returned_model(annotation), ResponseOptions())


# ---------------------------------------------------------------------- where `type` comes from


@pytest.mark.parametrize(
    ("value", "model", "options", "expected"),
    [
        ({"time": 1}, Pong, {}, {"type": "ev", "time": 1, "note": None}),
        (Pong(time=1), Pong, {"exclude_none": True}, {"type": "ev", "time": 1}),
        (Pong(time=1), Pong, {"exclude_unset": True}, {"type": "ev", "time": 1}),
        (Pong(time=1), Pong, {"exclude_defaults": True}, {"type": "ev", "time": 1}),
        (Pong(time=1), Pong, {"exclude": {"time", "note"}}, {"type": "ev"}),
        (Pong(time=1), Pong, {"include": {"time"}}, {"type": "ev", "time": 1}),
        (Pong(time=1), Pong, {"include": set()}, {"type": "ev"}),
        (Empty(), Empty, {}, {"type": "ev"}),
        (Typed(), Typed, {}, {"type": "own", "x": 1}),
        (Typed(type="given"), Typed, {}, {"type": "given", "x": 1}),
        ({"type": "given"}, Typed, {}, {"type": "given", "x": 1}),
        (Typed(), Typed, {"exclude_unset": True}, {"type": "own"}),
        (Typed(), Typed, {"exclude_defaults": True}, {"type": "own"}),
        (Typed(type="given"), Typed, {"include": {"x"}}, {"type": "given", "x": 1}),
        (Typed(type="given"), Typed, {"exclude": {"type"}}, {"type": "given", "x": 1}),
        ({"x": 2}, NeedsType, {}, {"type": "ev", "x": 2}),
        ({"type": "mine", "x": 2}, NeedsType, {}, {"type": "mine", "x": 2}),
        ({"x": 2}, TypedPoint, {}, {"type": "ev", "x": 2}),
        ({"x": 2}, TypedRow, {}, {"type": "ev", "x": 2}),
        ({"x": 2}, TypeRead, {}, {"type": "ev", "kind": "ev", "x": 2}),
        ({}, AliasedRef, {}, {"type": "ev", "re": 1}),
        (Open(), Open, {}, {"type": "ev", "x": 1}),
        (Open(type="extra"), Open, {}, {"type": "extra", "x": 1}),
        (Open(type="extra"), Open, {"include": {"x"}}, {"type": "extra", "x": 1}),
        ({"type": None}, Open, {}, {"type": "ev", "x": 1}),
        (Computed(), Computed, {}, {"type": "computed", "x": 1}),
        (Computed(), Computed, {"include": {"x"}}, {"type": "computed", "x": 1}),
        (ComputedAlias(), ComputedAlias, {}, {"type": "computed", "x": 1}),
        (ComputedAlias(), ComputedAlias, {"include": {"x"}}, {"type": "computed", "x": 1}),
        (ComputedAlias(), ComputedAlias, {"by_alias": False}, {"type": "ev", "kind": "computed", "x": 1}),
        (Aliased(), Aliased, {}, {"type": "aliased", "x": 1}),
        (Aliased(), Aliased, {"exclude_unset": True}, {"type": "aliased"}),
        (Aliased(), Aliased, {"by_alias": False}, {"type": "ev", "kind": "aliased", "x": 1}),
        (TypeElsewhere(), TypeElsewhere, {}, {"type": "ev", "kind": "hidden"}),
        (Custom(), Custom, {}, {"type": "custom", "x": 1}),
        (CustomBare(), CustomBare, {}, {"type": "ev", "y": 1}),
        ({"a": 1}, RootModel[dict[str, int]], {}, {"type": "ev", "a": 1}),
        ({"x": 1}, RootModel[Optional[Point]], {}, {"type": "ev", "x": 1, "y": 0}),
        ({"x": 1}, Point, {}, {"type": "ev", "x": 1, "y": 0}),
        ({"item": 1}, Box[int], {}, {"type": "ev", "item": 1}),
        ({"x": 1, "z": 2}, Row, {}, {"type": "ev", "x": 1}),
        (Point(1, 2), Pong | Point, {}, {"type": "ev", "x": 1, "y": 2}),
        ({"time": 5}, Union[Pong, Point], {}, {"type": "ev", "time": 5, "note": None}),
        (Pong(time=1), Optional[Pong], {}, {"type": "ev", "time": 1, "note": None}),
        (Typed(), Union[Pong, Typed], {}, {"type": "own", "x": 1}),
        (Pong(time=1), Union[Pong, Typed], {}, {"type": "ev", "time": 1, "note": None}),
        (Pong(time=1), Union[Pong, Empty], {}, {"type": "ev", "time": 1, "note": None}),
        (Plain(1), Plain, {}, {"type": "ev", "x": 1, "y": ""}),
        ({"x": 1}, Plain, {}, {"type": "ev", "x": 1, "y": ""}),
        (Point(3), Plain | None, {}, None),
        (types.SimpleNamespace(x=1, y="z"), Plain, {}, {"type": "ev", "x": 1, "y": "z"}),
        (types.SimpleNamespace(time=1, note="n"), Pong, {}, {"type": "ev", "time": 1, "note": "n"}),
        (Tagged(), Tagged, {}, {"type": "tagged", "x": 1}),
        (Attrs(), Attrs, {}, {"type": "ev", "x": 1}),
        (Tagged(2), Union[Plain, Tagged, None], {}, {"type": "tagged", "x": 2}),
        (Plain(2), Union[Pong, Plain], {}, {"type": "ev", "x": 2, "y": ""}),
        (Pong(time=2), Union[Plain, Pong], {}, {"type": "ev", "time": 2, "note": None}),
        ({"x": 2}, Union[Pong, Plain], {}, {"type": "ev", "x": 2, "y": ""}),
        (Nest(Plain(1)), Nest, {}, {"type": "ev", "inner": {"x": 1, "y": ""}, "more": []}),
        (LonelyNest(Lonely()), LonelyNest, {}, {"type": "ev", "inner": {"x": 0}}),
    ],
)  # fmt: skip
def test_type_of_a_reply_with_response_model(value: Any, model: Any, options: Any, expected: Any) -> None:
    """`type` is the value's own, else the model's default, else the event's name; options never remove it."""
    if expected is None:
        refused(value, model, **options)
    else:
        assert reply(value, model, **options) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, {"type": "ev"}),
        ({"a": 1}, {"type": "ev", "a": 1}),
        ({"type": "own", "a": 1}, {"type": "own", "a": 1}),
        ({"type": None, "a": 1}, {"type": "ev", "a": 1}),
        ({"type": Color.RED}, {"type": "red"}),
        ({"a": {"type": "inner"}}, {"type": "ev", "a": {"type": "inner"}}),
        ({"a": '"type"'}, {"type": "ev", "a": '"type"'}),
        ({b"type": "bytes key"}, {"type": "bytes key"}),
        (types.MappingProxyType({"a": 1}), {"type": "ev", "a": 1}),
        (collections.OrderedDict(a=1), {"type": "ev", "a": 1}),
        (Pong(time=1), {"type": "ev", "time": 1, "note": None}),
        (Leaky(time=1), {"type": "ev", "time": 1, "note": None, "secret": SECRET}),
        (Typed(), {"type": "own", "x": 1}),
        (Open(type="extra"), {"type": "extra", "x": 1}),
        (Computed(), {"type": "computed", "x": 1}),
        (Aliased(), {"type": "aliased", "x": 1}),
        (Custom(), {"type": "custom", "x": 1}),
        (RootModel[dict[str, int]]({"a": 1}), {"type": "ev", "a": 1}),
        (Point(1), {"type": "ev", "x": 1, "y": 0}),
        (TypedPoint("dc"), {"type": "dc", "x": 0}),
        (Plain(1), {"type": "ev", "x": 1, "y": ""}),
        (Tagged(), {"type": "tagged", "x": 1}),
        (Attrs(), {"type": "ev", "x": 1}),
        ({"m": Pong(time=1), "s": Tagged(), "d": Point(1), "a": Attrs()},
         {"type": "ev", "m": {"time": 1, "note": None}, "s": {"type": "tagged", "x": 1}, "d": {"x": 1, "y": 0},
          "a": {"x": 1}}),
    ],
)  # fmt: skip
def test_type_of_a_reply_without_response_model(value: Any, expected: Any) -> None:
    """Without a response model, too, a reply's own `type` wins over the event's name."""
    assert reply(value) == expected


def test_event_name_is_escaped() -> None:
    """An event's name with quotes and umlauts arrives as it is."""
    assert reply({}, event='ä"b') == {"type": 'ä"b'}


def test_two_events_share_one_model() -> None:
    """The first event's name does not stick to a model that another event uses too."""
    before = dict(vars(Pong))
    assert reply({"time": 1}, Pong, event="one")["type"] == "one"
    assert reply({"time": 1}, Pong, event="two")["type"] == "two"
    assert reply(Pong(time=1), event="three")["type"] == "three"
    assert dict(vars(Pong)) == before


def test_classes_are_not_kept_alive() -> None:
    """A class that was encoded once can still be collected."""

    class Local(BaseModel):
        x: int = 1

    assert reply(Local()) == {"type": "ev", "x": 1}
    gone = weakref.ref(Local)
    del Local
    for _ in range(3):
        gc.collect()
    assert gone() is None


def test_the_returned_value_is_not_changed() -> None:
    """Filling in a missing `type` leaves the handler's dict alone."""
    value = {"x": 1}
    reply(value, NeedsType)
    assert value == {"x": 1}


def test_serializer_of_the_annotation_is_asked() -> None:
    """A serializer in `Annotated` writes the reply, `type` included."""

    def write(value: Pong) -> dict[str, Any]:
        return {"type": "annotated", "t": value.time}

    assert reply(Pong(time=1), Annotated[Pong, PlainSerializer(write)]) == {"type": "annotated", "t": 1}


@pytest.mark.filterwarnings("ignore::socketsundso.errors.DefinitionWarning")  # its serializer says nothing
def test_schema_of_an_inherited_hook_is_not_trusted() -> None:
    """A model whose parent replaces the core schema may write its own `type`."""

    class Hooked(BaseModel):
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            schema = handler(source)
            write = pydantic_core.core_schema.plain_serializer_function_ser_schema(lambda value: {"type": "hooked"})
            return {**schema, "serialization": write}

    class Child(Hooked):
        x: int = 1

    assert reply(Child(), Child) == {"type": "hooked"}


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Tree(BaseModel):
    children: list[Tree] = []


class Checked(BaseModel):
    x: int = 1

    @model_validator(mode="before")
    @classmethod
    def check(cls, value: Any) -> Any:
        return value


@pydantic.dataclasses.dataclass
class PydanticPoint:
    kind: str = Field("point", serialization_alias="type")
    x: int = 1


@pytest.mark.parametrize(
    ("value", "model", "expected"),
    [
        ({"kind": "dog"}, Annotated[Union[Cat, Dog], Field(discriminator="kind")], {"type": "ev", "kind": "dog"}),
        (Dog(), Union[Cat, Dog], {"type": "ev", "kind": "dog"}),
        (Computed(), Union[Cat, Computed], {"type": "computed", "x": 1}),
        (Cat(), Union[Cat, Open], {"type": "ev", "kind": "cat"}),
        (Tree(children=[Tree()]), Tree, {"type": "ev", "children": [{"children": []}]}),
        (Tree(), None, {"type": "ev", "children": []}),
        (Checked(), Checked, {"type": "ev", "x": 1}),
        (PydanticPoint(), PydanticPoint, {"type": "point", "x": 1}),
        (PydanticPoint(), None, {"type": "point", "x": 1}),
        ({"x": 1}, TypeAliasType("Later", Checked), {"type": "ev", "x": 1}),
        (msgspec.defstruct("Typeless", [("x", int, 1)], rename={"x": "type"})("own"), None, {"type": "own"}),
    ],
)
def test_all_kinds_of_schemas(value: Any, model: Any, expected: Any) -> None:
    """Discriminated unions, recursive models, validators and pydantic's dataclasses keep the order of precedence."""
    assert reply(value, model) == expected


def test_constructed_value_of_a_model_that_cannot_be_built() -> None:
    """`model_construct` gives values of models with open names; pydantic refuses to write them."""
    with pytest.raises(ResponseError):
        Encoder("ev").encode(Unresolved.model_construct(other=1))


# ---------------------------------------------------------------------- nothing leaks


@pytest.mark.parametrize(
    ("value", "model"),
    [
        (Leaky(time=1), Pong),
        (Leaky(time=1), Optional[Pong]),
        ({"time": 1, "secret": SECRET}, Pong),
        (SecretPoint(1), Point),
        ({"x": 1, "secret": SECRET}, Row),
        (SecretPlain(1), Plain),
        ({"x": 1, "secret": SECRET}, Plain),
        (TaggedSecret(), Tagged),
        (Nest(SecretPlain(1)), Nest),
        (Nest(Plain(1), [SecretPlain(1)]), Nest),
        ({"inner": SecretPlain(1)}, Nest),
        (types.SimpleNamespace(inner=SecretPlain(1), more=[]), Nest),
        (SecretPlain(1), Union[Pong, Plain]),
        (Leaky(time=1), Union[Pong, Plain]),
        (SecretPlaces(Path("a"), datetime.datetime(2026, 1, 1)), Places),
    ],
)
def test_undeclared_fields_do_not_leak(value: Any, model: Any) -> None:
    """A subclass's fields, at the top or nested, never go out through the declared response model."""
    body = encoder_for("ev", model, ResponseOptions()).encode(value)
    assert SECRET not in body.decode()


def test_tag_of_a_subclass_does_not_go_out() -> None:
    """The declared Struct's tag stands in the reply, not the subclass's."""
    assert reply(TaggedSecret(), Tagged) == {"type": "tagged", "x": 1}


def test_foreign_classes_in_structs() -> None:
    """A Struct with a class that msgspec does not know is converted and written by pydantic's rules for it."""
    when = datetime.datetime(2026, 1, 1)
    assert reply({"path": "a/b", "when": when}, Places) == {"type": "ev", "path": "a/b", "when": "2026-01-01T00:00:00"}
    assert reply(Places(Path("a"), when)) == {"type": "ev", "path": "a", "when": "2026-01-01T00:00:00"}


def test_class_that_nobody_can_build() -> None:
    """A Struct's field of a class that neither library knows refuses what is not already of it."""

    class Odd:
        pass

    WithOdd = msgspec.defstruct("WithOdd", [("odd", Odd)])
    assert refused({"odd": 1}, WithOdd)[0]["type"] == "struct_type"


# ---------------------------------------------------------------------- refused replies


@pytest.mark.parametrize(
    ("value", "model", "loc"),
    [
        ({"time": "no"}, Pong, ["response", "time"]),
        ({}, Pong, ["response", "time"]),
        (7, Pong, ["response"]),
        (None, Pong, ["response"]),
        (None, Optional[Pong], ["response"]),
        (types.SimpleNamespace(), Pong, ["response", "time"]),
        ({"x": SECRET}, Plain, ["response", "x"]),
        ({"path": 5, "when": 1}, Places, ["response", "path"]),
        ({"inner": {"x": 1}, "more": [{"x": SECRET}]}, Nest, ["response", "more", 0, "x"]),
        ({"color": SECRET}, Colored, ["response", "color"]),
        ({"type": SECRET}, Tagged, ["response", "type"]),
        ({"model": {"time": SECRET}}, WithModel, ["response", "model"]),
        ({"time": 1, "note": "\ud800"}, Pong, ["response"]),
        ({"a": "\ud800"}, None, ["response"]),
        (None, Plain, ["response"]),
        (7, Plain, ["response"]),
        ({"x": []}, Row, ["response", "x"]),
        ({"type": 5}, Open, ["response", "type"]),
        ({"z": SECRET}, Union[Pong, Plain], ["response", "time"]),
        ([1], None, ["response"]),
        (None, None, ["response"]),
        (7, None, ["response"]),
        ("text", None, ["response"]),
        (Arrayed(), None, ["response"]),
        (Color.RED, None, ["response"]),
        (object(), None, ["response"]),
        ({"a": object()}, None, ["response"]),
        ({"a": b"\xff"}, None, ["response"]),
        ({"type": 5}, None, ["response", "type"]),
        ({"ref": 5}, None, ["response", "ref"]),
        (Open(ref=5), Open, ["response", "ref"]),
        (Open(ref=5), None, ["response", "ref"]),
        (msgspec.defstruct("WithRef", ["ref"])(1), None, ["response", "ref"]),
        (msgspec.defstruct("WithObject", ["o"])(object()), None, ["response"]),
    ],
)
def test_refused_replies(value: Any, model: Any, loc: list[Any]) -> None:
    """What is no valid reply is refused, at a place below "response", without the server's value."""
    errors = refused(value, model)
    assert errors[0]["loc"] == loc
    assert SECRET not in json.dumps(errors)


def test_no_object() -> None:
    """A list is refused with pydantic's words for it."""
    assert refused([1]) == [{"type": "dict_type", "loc": ["response"], "msg": "Input should be a valid dictionary"}]


def test_circular_values() -> None:
    """A dict that holds itself is refused; it does not take the process along."""
    value: dict[str, Any] = {}
    value["me"] = value
    refused(value)


@pytest.mark.parametrize("factory", [dict, collections.OrderedDict])
def test_deep_values(factory: Any) -> None:
    """A value that nests beyond what can be written is refused."""
    value: Any = factory()
    for _ in range(2000):
        value = factory(a=value)
    refused(value)


def test_errors_are_capped() -> None:
    """However wrong a reply is, the list of errors stays short."""

    class Many(BaseModel):
        items: list[int]

    assert refused({"items": ["x"] * 101}, Many)[0]["type"] == "too_many_errors"
    assert len(refused({"items": ["x"] * 100}, Many)) == 100


def test_what_a_validator_says_of_a_reply_stays_here() -> None:
    """Its text may quote the value, and is for the log: the client reads the kind of error, and where it is."""

    class Picky(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def check(cls, value: int) -> int:
            raise ValueError(f"never {value}")

    (error,) = refused({"x": 47}, Picky)
    assert error == {"type": "value_error", "loc": ["response", "x"], "msg": "Value error, ..."}


def test_model_that_turns_into_no_object() -> None:
    """A wrap validator that gives something else than its model does not break the frame."""

    class Turncoat(BaseModel):
        x: int = 1

        @model_validator(mode="wrap")
        @classmethod
        def turn(cls, value: Any, handler: Any) -> Any:
            return [1]

    with pytest.warns(UserWarning, match="Pydantic"):
        assert refused({}, Turncoat)[0]["type"] == "dict_type"


def test_model_configured_to_write_nan() -> None:
    """NaN as a bare token never goes out, whatever a model's configuration says."""

    class Constants(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan="constants")
        f: float = math.nan

    class OpenConstants(Constants, extra="allow"):
        pass

    class Outer(BaseModel):
        inner: list[Constants] = [Constants()]

    refused(Constants(), Constants)
    refused(OpenConstants(), OpenConstants)
    refused(Outer(), Outer)
    for value in (Constants(), Outer(), {"v": Constants()}, {"v": [Outer()]}):
        refused(value)


# ---------------------------------------------------------------------- bugs of the application


class Raising(BaseModel):
    x: int = 1

    @field_serializer("x")
    def write(self, value: int) -> int:
        if value == 1:
            raise KeyError("bug")
        if value == 2:
            raise ValueError("bad")
        raise AssertionError("worse")


class OpenRaising(Raising, extra="allow"):
    pass


@pytest.mark.parametrize("model", [Raising, OpenRaising])
@pytest.mark.parametrize("declared", [True, False])
def test_unexpected_exceptions_pass(model: type[Raising], declared: bool) -> None:
    """A KeyError of a serializer is the application's bug, not the reply's fault; a ValueError is the reply's."""
    encoder = encoder_for("ev", model if declared else None, ResponseOptions())
    with pytest.raises(RuntimeError, match="KeyError"):
        encoder.encode(model(x=1))
    for x in (2, 3):
        with pytest.raises(ResponseError):
            encoder.encode(model(x=x))


def test_unexpected_exceptions_below_a_dict_pass() -> None:
    """The same for a model that is nested in a dict."""
    with pytest.raises(RuntimeError, match="KeyError"):
        Encoder("ev").encode({"a": Raising()})


def test_unexpected_exceptions_of_validators_pass() -> None:
    """A validator's KeyError comes out as itself."""

    class Buggy(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def check(cls, value: int) -> int:
            raise KeyError("bug")

    with pytest.raises(KeyError):
        encoder_for("ev", Buggy, ResponseOptions()).encode({"x": 1})


# ---------------------------------------------------------------------- the look of values

UTC = datetime.timezone.utc  # noqa: UP017  # the spelling that most users write
VALUES: list[Any] = [
    None, True, 1, 1.5, math.nan, math.inf, -math.inf, 2**63, 2**64, -(2**70), "ä", b"bytes", decimal.Decimal("1.10"),
    datetime.datetime(2026, 1, 1, tzinfo=UTC), datetime.datetime(2026, 1, 1), datetime.date(2026, 1, 1),
    datetime.time(1, 2),
    datetime.timedelta(hours=1), uuid.UUID(int=1), Color.RED, (1, 2), {1}, frozenset({1}), {1: 2}, {None: 1}, {1.5: 1},
    {uuid.UUID(int=1): 1}, {datetime.date(2026, 1, 1): 1}, {True: 1}, Path("a/b"), 1e22, Pong(time=1), Point(1),
    [Pong(time=1)],
    {"f": math.nan, "big": 2**70},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_look_as_pydantic_writes_them(value: Any) -> None:
    """In a plain dict every value has the JSON that pydantic gives it, NaN and Infinity as null."""
    expected = json.loads(pydantic_core.to_json({"v": value}, inf_nan_mode="null"))
    assert reply({"v": value}) == {"type": "ev", **expected}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(1.5), 1.5),
        (np.int32(3), 3),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([[1, 2], [3, 4]]).T, [[1, 3], [2, 4]]),
        (np.array([1.0, math.nan]), [1.0, None]),
        ({"a": np.array([1.0, math.nan]), 2**70: np.int8(1)}, {"a": [1.0, None], str(2**70): 1}),
        (msgspec.defstruct("WithArray", ["a"])(np.array([1])), {"a": [1]}),
        ({"s": Tagged(), 1: Attrs()}, {"s": {"type": "tagged", "x": 1}, "1": {"x": 1}}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
    ],
)
def test_values_that_pydantic_does_not_know(value: Any, expected: Any) -> None:
    """numpy's values, Structs and mappings are written too, also beside what orjson refuses."""
    assert reply({"v": value}) == {"type": "ev", "v": expected}


def test_keys_in_order() -> None:
    """`type` comes first, then the keys as they were returned."""
    assert Encoder("ev").encode({"b": 1, "a": 2}) == b'{"type":"ev","b":1,"a":2}'


# ---------------------------------------------------------------------- validate


def test_validate() -> None:
    """`validate` gives the value as its model has it, and itself without a model."""
    value = {"time": "1"}
    assert encoder_for("ev", None, ResponseOptions()).validate(value) is value
    assert encoder_for("ev", Pong, ResponseOptions()).validate(value) == Pong(time=1)
    assert encoder_for("ev", Plain, ResponseOptions()).validate({"x": 1}) == Plain(1)
    assert encoder_for("ev", Union[Pong, Plain], ResponseOptions()).validate({"x": 1}) == Plain(1)
    with pytest.raises(ResponseError):
        encoder_for("ev", Pong, ResponseOptions()).validate({})


# ---------------------------------------------------------------------- definition errors


class WithRef(BaseModel):
    ref: int = 1


class StructWithRef(msgspec.Struct):
    ref: int = 1


class First(BaseModel):
    second: Optional[Second] = None


class Second(BaseModel):
    x: int = 1


class Unresolved(BaseModel):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821  # that is the case under test


class UnresolvedStruct(msgspec.Struct):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821  # that is the case under test


class Unbuildable(BaseModel):
    model_config = ConfigDict(defer_build=True, arbitrary_types_allowed=False)
    x: Any = 1


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (list[Pong], {}),
        (int, {}),
        (dict, {}),
        (Any, {}),
        (RootModel[list[int]], {}),
        (RootModel[Optional[int]], {}),
        (Optional[int], {}),
        (Arrayed, {}),
        (Union[Pong, Arrayed], {}),
        (Plain, {"exclude_none": True}),
        (Plain, {"by_alias": False}),
        (Union[Pong, Plain], {"include": {"x"}}),
        (WithRef, {}),
        (Union[Pong, WithRef], {}),
        (StructWithRef, {}),
        (AliasedRef, {"by_alias": False}),
        (Unresolved, {}),
        (UnresolvedStruct, {}),
        (Box["Nowhere"], {}),  # type: ignore[name-defined]  # that is the case under test
    ],
)
def test_definition_errors(model: Any, options: Any) -> None:
    """A response model that cannot work is refused when the class is created, and the text names the event."""
    with pytest.raises(DefinitionError, match="'ev'"):
        encoder_for("ev", model, ResponseOptions(**options))


def test_another_ref_key() -> None:
    """With another ref key, `ref` is a field like any other."""
    assert reply({}, WithRef, ref_key="id") == {"type": "ev", "ref": 1}
    assert reply({"ref": 2}, ref_key="id") == {"type": "ev", "ref": 2}
    with pytest.raises(ResponseError):
        Encoder("ev", Envelope(ref="id").framing("ref")).encode({"id": 2})


def test_deferred_models_are_built() -> None:
    """A model with `defer_build` is built at once, and works."""
    assert reply({}, Unbuildable) == {"type": "ev", "x": 1}


def test_forward_references_are_resolved() -> None:
    """A model that names a later one is completed."""

    assert reply({"second": {}}, First) == {"type": "ev", "second": {"x": 1}}
