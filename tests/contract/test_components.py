"""`Components`: what a whole API publishes of its types; names, both directions, and what cannot be published."""

from __future__ import annotations

import dataclasses
import datetime
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from msgspec import Struct
from pydantic import AliasPath, BaseModel, ConfigDict, Field, PlainValidator, create_model, field_serializer
from pydantic_core import core_schema

from socketsundso import EventMessage, Handler, WebSocketHandlingEndpoint
from socketsundso.contract.schemas.components import PREFIX, Components
from socketsundso.errors import DefinitionError, DefinitionWarning
from socketsundso.messages import CANONICAL, ResponseOptions
from tests.contract.samples import Branch, Cat, Color, Leaf, Page, Pet, Plain, Tree, Validated

T = TypeVar("T")


def table(*incoming: Any, outgoing: tuple[Any, ...] = ()) -> dict[str, Any]:
    components = Components()
    for annotation in incoming:
        components.incoming(annotation)
    for annotation in outgoing:
        components.outgoing(annotation)
    return components.table()


def fields(function: Callable[..., Any]) -> dict[str, Any]:
    components = Components()
    found = components.fields(Handler("event", function).compile({}, framing=CANONICAL).signature)
    components.table()
    return found


# ---------------------------------------------------------------------- both directions


def test_a_class_that_differs_by_direction_is_two_components() -> None:
    """What has a default is always there in what the server sends, and need not be in what clients send."""
    found = table(Plain, outgoing=(Plain,))
    assert found["Plain"]["required"] == ["x", "name"]
    assert found["PlainInput"]["required"] == ["x"]


def test_a_class_that_does_not_differ_is_one_component() -> None:
    """A class without defaults is one, whoever sends it."""
    assert list(table(list[Box], outgoing=(Box,))) == ["Box"]


class Box(BaseModel):
    item: int


class Within(BaseModel):
    plain: Plain


def test_a_class_differs_where_one_that_it_refers_to_does() -> None:
    """Each direction refers to classes of its own."""
    found = table(Within, outgoing=(Within,))
    assert found["Within"]["properties"]["plain"] == {"$ref": PREFIX + "Plain"}
    assert found["WithinInput"]["properties"]["plain"] == {"$ref": PREFIX + "PlainInput"}


def test_a_class_that_refers_to_itself_does_so_in_each_direction() -> None:
    """`Tree` and `TreeInput` have items of their own kind."""
    found = table(Tree, outgoing=(Tree,))
    assert found["Tree"]["properties"]["tags"]["items"] == {"$ref": PREFIX + "Tree"}
    assert found["TreeInput"]["properties"]["tags"]["items"] == {"$ref": PREFIX + "TreeInput"}


def test_what_nobody_refers_to_is_no_component() -> None:
    """A message that stands in the document itself has no second place there."""
    components = Components()
    schema = components.outgoing(Tagged, without={"type"})
    assert components.table() == {}
    assert schema == {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


class Tagged(BaseModel):
    type: Literal["tagged"] = "tagged"
    x: int


def test_a_message_without_a_type_of_its_own_is_referred_to() -> None:
    """Only what has a key of the envelope is written out."""
    components = Components()
    schema = components.outgoing(Plain, without={"type"})
    components.table()
    assert schema == {"$ref": PREFIX + "Plain"}


def test_members_of_a_discriminated_union_need_their_tags() -> None:
    """Pydantic refuses a member without its tag, though that has a default."""
    found = table(Pet)
    assert found["Cat"]["required"] == ["kind", "x"]


def test_a_struct_is_one_component_wherever_it_stands() -> None:
    """Within a dataclass, in a list, alone: one name."""

    @dataclasses.dataclass
    class Holder:
        leaf: Leaf

    assert list(table(Holder, list[Leaf], Leaf)) == ["Holder", "Leaf"]


def test_a_dataclass_with_a_struct_is_read_and_written_under_one_name() -> None:
    """Read by pydantic in the place of a twin, written by msgspec: one class all the same."""

    @dataclasses.dataclass
    class Holder:
        page: Page[int]
        n: int = 1

    assert list(table(Holder, outgoing=(Holder,))) == ["Holder", "HolderInput", "PageOfInt"]


# ---------------------------------------------------------------------- names


def make(module: str, name: str = "Item", **kinds: Any) -> type[BaseModel]:
    return create_model(name, __module__=module, **{key: (kind, ...) for key, kind in kinds.items()})


def test_classes_of_one_name_are_told_apart_by_their_modules() -> None:
    """As little of the module as tells them apart."""
    found = table(make("shop.models", a=int), make("blog.models", b=int))
    assert list(found) == ["BlogModelsItem", "ShopModelsItem"]


def test_classes_of_one_name_and_module_are_numbered() -> None:
    """In the order in which they were met."""
    found = table(make("shop", a=int), make("shop", b=int))
    assert {name: list(each["properties"]) for name, each in found.items()} == {"Item": ["a"], "Item2": ["b"]}


def test_classes_of_one_name_that_are_alike_are_one() -> None:
    """A class that a function makes anew for every caller is no news to clients."""
    assert list(table(make("shop", a=int), make("shop", a=int))) == ["Item"]


def test_no_two_components_have_one_name() -> None:
    """A class that is called `ItemInput`, beside an `Item` that is two."""
    with_default = create_model("Item", a=(int, 1))
    found = table(with_default, make("shop", "ItemInput", b=int), outgoing=(with_default,))
    assert list(found) == ["Item", "ItemInput", "ItemInput2"]


def test_names_of_generic_classes_can_be_read() -> None:
    """`Page[User]` is `PageOfUser`, whichever library it is of."""

    class Pages(BaseModel, Generic[T]):
        items: list[T]

    assert list(table(Pages[Plain], Pages[list[int]], Page[Plain])) == [
        "PageOfPlain", "PagesOfListOfInt", "PagesOfPlain", "Plain",
    ]  # fmt: skip


def test_one_description_is_the_same_in_every_process() -> None:
    """Neither the addresses of classes nor hashes are in it."""
    code = (
        "import json, tests.contract.samples as s; from socketsundso.contract.schemas.components import Components;"
        "c = Components(); [c.incoming(case.annotation) for case in s.TABLE];"
        "[c.outgoing(k) for k in (s.Plain, s.Mixture, s.Tree)]; print(json.dumps(c.table()))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]


def test_a_dataclass_that_follows_the_config_around_it_is_two_components() -> None:
    """A plain dataclass within a model that forbids what it does not know forbids that, too; elsewhere it does not."""

    @dataclasses.dataclass
    class Point:
        x: int

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        point: Point

    found = table(Point, Strict)
    assert found["Point"].get("additionalProperties", True)
    other = found["Strict"]["properties"]["point"]["$ref"].removeprefix(PREFIX)
    assert other != "Point"
    assert found[other]["additionalProperties"] is False


def test_a_thousand_types_are_looked_at_once() -> None:
    """What many messages share is not generated again for each."""
    shared = create_model("Shared", **{f"m{n}": (make("shop", f"M{n}", a=int), ...) for n in range(100)})
    components = Components()
    components.incoming(shared)
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        for n in range(10):
            components.incoming(create_model(f"User{n}", shared=(shared, ...)))
    finally:
        sys.setprofile(None)
    assert calls < 100_000


# ---------------------------------------------------------------------- what a message is


def test_a_message_has_a_property_for_each_parameter() -> None:
    """With what its `Field` says and its default; nothing else is taken."""

    def handle(
        self: Any, a: int, b: Annotated[str, Field(alias="be", description="A *b*", max_length=3)] = "x"
    ) -> None: ...

    assert fields(handle) == {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "be": {"description": "A *b*", "type": "string", "maxLength": 3, "default": "x"},
        },
        "additionalProperties": False,
        "required": ["a"],
    }


def test_a_parameter_from_within_something_is_taken_from_its_key() -> None:
    """Of an alias path, the first key."""

    def handle(first: Annotated[str, Field(validation_alias=AliasPath("names", 0))]) -> None: ...

    assert fields(handle)["properties"] == {"names": {}}


@pytest.mark.parametrize("default", [float("nan"), object(), {"$ref": "#"}, {object()}])
def test_a_default_that_no_document_can_hold_is_left_out(default: Any) -> None:
    """No NaN, no object of Python's, nothing that looks like a reference."""

    def handle(a: Any = default) -> None: ...

    assert fields(handle)["properties"] == {"a": {}}


def test_defaults_of_factories_are_not_made() -> None:
    """Describing an API runs nothing of the application."""

    def handle(a: Annotated[list[int], Field(default_factory=lambda: 1 / 0)]) -> None: ...

    assert fields(handle)["properties"] == {"a": {"type": "array", "items": {"type": "integer"}}}


class Renamed(EventMessage):
    name: str


def test_a_whole_message_is_described_without_its_envelope() -> None:
    """An `EventMessage` has `type` among its fields, which is the envelope's."""

    def handle(message: Renamed) -> None: ...

    assert fields(handle)["properties"] == {"name": {"type": "string"}}


# ---------------------------------------------------------------------- options of replies


@pytest.mark.parametrize(
    ("options", "properties", "required"),
    [
        (ResponseOptions(include={"x"}), ["x"], ["x"]),
        (ResponseOptions(exclude={"double"}), ["x", "y"], ["x", "y"]),
        (ResponseOptions(exclude_unset=True), ["x", "y", "double"], ["x", "double"]),
        (ResponseOptions(exclude_defaults=True), ["x", "y", "double"], ["x", "double"]),
    ],
)
def test_a_reply_has_what_its_options_leave(
    options: ResponseOptions, properties: list[str], required: list[str]
) -> None:
    """`response_model_*` take fields away, or make them optional."""
    components = Components()
    schema = components.outgoing(Validated, options=options)
    found = components.table().get("Validated", schema)
    assert (list(found["properties"]), found["required"]) == (properties, required)


def test_nulls_that_are_left_out_are_not_required() -> None:
    """`response_model_exclude_none`."""

    class Maybe(BaseModel):
        a: int | None
        b: int

    components = Components()
    components.outgoing(Maybe, options=ResponseOptions(exclude_none=True))
    assert components.table()["Maybe"]["required"] == ["b"]


def test_names_instead_of_aliases() -> None:
    """`response_model_by_alias=False`."""

    class Aliased(BaseModel):
        a: int = Field(alias="A")

    components = Components()
    plain = components.outgoing(Aliased)
    named = components.outgoing(Aliased, options=ResponseOptions(by_alias=False))
    found = components.table()
    assert [list(found[each["$ref"].removeprefix(PREFIX)]["properties"]) for each in (plain, named)] == [["A"], ["a"]]


def test_a_chosen_part_of_a_field_is_not_described() -> None:
    """Of what is left of a nested object nothing wrong is said."""
    components = Components()
    schema = components.outgoing(Within, options=ResponseOptions(include={"plain": {"x"}}))
    components.table()
    assert schema["properties"] == {"plain": {}}


# ---------------------------------------------------------------------- texts


def test_titles_are_only_those_that_somebody_gave() -> None:
    """Those that pydantic makes of names are noise."""

    class Titled(BaseModel):
        a_name: int
        b: int = Field(title="Bee", description="<b>bold</b>", examples=[1])
        color: Color

    found = table(Titled)
    assert found["Titled"]["properties"]["a_name"] == {"type": "integer"}
    assert found["Titled"]["properties"]["b"] == {
        "title": "Bee", "description": "<b>bold</b>", "type": "integer", "examples": [1],
    }  # fmt: skip
    assert "title" not in found["Color"]


def test_a_description_of_one_place_stays_there() -> None:
    """Two places that refer to one class say different things of it."""
    components = Components()
    one = components.incoming(Annotated[Cat, Field(description="one")])
    two = components.incoming(list[Annotated[Cat, Field(description="two")]])
    found = components.table()
    assert one == {"description": "one", "allOf": [{"$ref": PREFIX + "Cat"}]}
    assert two["items"] == {"description": "two", "allOf": [{"$ref": PREFIX + "Cat"}]}
    assert "description" not in found["Cat"]


# ---------------------------------------------------------------------- what cannot be published


def test_a_serializer_without_return_annotation_is_warned_of() -> None:
    """At import, since nobody can say what it writes; published is that it can be anything."""

    class Silent(BaseModel):
        at: datetime.datetime

        @field_serializer("at")
        def as_seconds(self, value):  # type: ignore[no-untyped-def]  # which is the point
            return value.timestamp()

    class App(WebSocketHandlingEndpoint):
        pass

    with pytest.warns(DefinitionWarning, match=r"event 'event': .*Silent\.as_seconds has no return annotation"):
        App.attach_handler(Handler("event", lambda: None, Silent))
    assert table(outgoing=(Silent,))["Silent"]["properties"] == {"at": {}}


class Opaque:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return core_schema.is_instance_schema(cls)


class Holding(BaseModel):
    inner: Annotated[Opaque, "doc"]


class Outer(BaseModel):
    holding: Holding


@pytest.mark.parametrize("annotation", [Outer, Holding])
def test_a_type_without_schema_is_named_with_its_field(annotation: Any) -> None:
    """The error has the event, the field and the remedy."""
    with pytest.raises(DefinitionError, match=r"^event 'buy': Holding\.inner, .*Opaque.*WithJsonSchema") as error:
        Components().incoming(annotation, "event 'buy'")
    assert "include_in_schema=False" in str(error.value)


def test_a_parameter_without_schema_is_named() -> None:
    """With the event that it is of."""

    def handle(thing: Opaque) -> None: ...

    with pytest.raises(DefinitionError, match="^event 'event', parameter 'thing': "):
        fields(handle)


def test_what_a_plain_validator_takes_can_be_anything() -> None:
    """Nobody knows what it makes of which JSON."""
    assert Components().incoming(Annotated[int, PlainValidator(lambda value: 1)]) == {}


def test_descriptions_of_structs_are_their_docstrings() -> None:
    """And not the signatures that dataclasses have for one."""

    class Documented(Struct):
        """What it is."""

    found = table(Documented, Branch, outgoing=(Documented,))
    assert found["Documented"]["description"] == "What it is."
    assert "description" not in found["Branch"]
    assert json.dumps(found, allow_nan=False)
