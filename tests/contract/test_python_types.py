"""The types of a Python client: for each schema an annotation, and values that come and go as the contract says."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import json
import uuid
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socketsundso.contract.identifiers import Scope
from socketsundso.contract.model import Api, Channel, Message, Receive
from socketsundso.contract.python.client import Models
from socketsundso.contract.python.text import class_name
from socketsundso.contract.python.types import Types

from .apis import BOOLEAN, INTEGER, NUMBER, STRING, fields, ref
from .clients import load

NULL = {"type": "null"}
COMPONENTS: dict[str, Any] = {
    "User": fields("id", id=INTEGER),
    "Guest": fields("nick", nick=STRING, id=INTEGER),
    "Circle": fields("kind", "r", kind={"const": "circle"}, r=NUMBER),
    "Square": fields("kind", "a", kind={"const": "square"}, a=NUMBER),
    "Shape": {"anyOf": [ref("Circle"), ref("Square")], "description": "What is drawn."},
    "Person": {"anyOf": [ref("User"), ref("Guest")]},
    "Color": {"enum": ["red", "green"], "type": "string"},
    "Level": {"enum": [1, 2, 3]},
    "Tree": fields("value", "children", value=STRING, children={"type": "array", "items": ref("Tree")}),
    "Ping": fields(pong=ref("Pong")),
    "Pong": fields(ping=ref("Ping")),
    "Json": {"anyOf": [STRING, NUMBER, {"type": "array", "items": ref("Json")}]},
    "Admin": {"allOf": [ref("User"), fields("level", level=INTEGER)]},
    "v1.Version": fields("a", a=INTEGER),
    "V1Version": fields("b", b=INTEGER),
}


def annotation(schema: Any, models: Models = "msgspec") -> str:
    types = Types(Api("Chat", "1", (), COMPONENTS), models, Scope("class", class_name))
    return types.annotation(schema, "Place")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, "Any"),
        (STRING, "str"),
        (INTEGER, "int"),
        (NUMBER, "float"),
        (BOOLEAN, "bool"),
        (NULL, "None"),
        ({"type": "string", "format": "date-time"}, "_datetime"),
        ({"type": "string", "format": "date"}, "_date"),
        ({"type": "string", "format": "time"}, "_time"),
        ({"type": "string", "format": "duration"}, "_timedelta"),
        ({"type": "string", "format": "uuid"}, "_UUID"),
        ({"type": "string", "format": "email"}, "str"),
        ({"type": "string", "format": "nobody knows"}, "str"),
        ({"type": "string", "contentEncoding": "base64"}, "bytes"),
        ({"const": "a"}, 'Literal["a"]'),
        ({"const": None}, "None"),
        ({"const": True}, "bool"),
        ({"const": 1.5}, "float"),
        ({"const": {"a": 1}}, "dict[str, Any]"),
        ({"enum": ["a", "b", None]}, 'Literal["a", "b", None]'),
        ({"enum": [1, 2]}, "Literal[1, 2]"),
        ({"enum": [1, "a"]}, 'Literal[1, "a"]'),
        ({"enum": []}, "Any"),
        (ref("User"), "User"),
        (ref("Color"), "Color"),
        (ref("Missing"), "Any"),
        ({"allOf": [ref("User")], "description": "Who."}, "User"),
        ({"anyOf": [STRING, NULL]}, "str | None"),
        ({"anyOf": [STRING, {"anyOf": [INTEGER, NULL]}]}, "str | int | None"),
        ({"type": ["string", "null"]}, "str | None"),
        ({"anyOf": [STRING, {}]}, "Any"),
        ({"anyOf": [INTEGER, NUMBER]}, "int | float"),
        ({"anyOf": [{"const": "a"}, {"const": "b"}]}, 'Literal["a", "b"]'),
        ({"anyOf": [{"const": "a"}, STRING]}, "str"),
        ({"anyOf": [{"enum": [1]}, INTEGER]}, "int"),
        ({"oneOf": [ref("User"), NULL]}, "User | None"),
        ({"anyOf": [ref("Circle"), ref("Square")]}, "Circle | Square"),
        ({"type": "array"}, "list[Any]"),
        ({"type": "array", "items": INTEGER, "uniqueItems": True}, "list[int]"),
        ({"type": "array", "items": {"anyOf": [ref("User"), NULL]}}, "list[User | None]"),
        ({"type": "array", "prefixItems": [INTEGER, STRING], "minItems": 2, "maxItems": 2}, "tuple[int, str]"),
        ({"type": "array", "prefixItems": [INTEGER], "items": False, "minItems": 1}, "tuple[int]"),
        ({"type": "array", "prefixItems": [INTEGER], "items": STRING}, "list[int | str]"),
        ({"type": "array", "prefixItems": [INTEGER]}, "list[Any]"),
        ({"type": "object"}, "dict[str, Any]"),
        ({"type": "object", "additionalProperties": INTEGER}, "dict[str, int]"),
        ({"type": "object", "patternProperties": {"^a": INTEGER}, "additionalProperties": False}, "dict[str, int]"),
        (fields("a", a=INTEGER), "Place"),
        ({"type": "object", "additionalProperties": False}, "Place"),
        ({"not": STRING}, "Any"),
    ],
)
def test_a_schema_is_an_annotation(schema: Any, expected: str) -> None:
    """The narrowest that both the type checker and the library know."""
    assert annotation(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [ref("User"), ref("Guest")]},
        {"anyOf": [ref("User"), {"type": "object", "additionalProperties": INTEGER}]},
        {"anyOf": [{"type": "array", "items": INTEGER}, {"type": "array", "items": STRING}]},
        {"anyOf": [{"type": "string", "format": "date"}, STRING]},
    ],
)
def test_a_union_that_msgspec_has_no_words_for_is_chosen_by_its_value(schema: Any) -> None:
    """Its type is still the union, for type checkers; pydantic knows it by itself."""
    assert annotation(schema) == "Place"
    assert " | " in annotation(schema, "pydantic")


def client(models: Models, schema: Any) -> ModuleType:
    """One with an event `send`, a push and a reply, each with a field of this schema."""
    message = fields("value", value=schema)
    channel = Channel(
        "chat",
        "/",
        receives=(Receive("send", message, (Message("sent", message, "Sent"),)),),
        pushes=(Message("told", fields(value=schema), "Told"),),
    )
    return load(Api("Chat", "1", (channel,), COMPONENTS), models)


def received(made: ModuleType, value: Any) -> Any:
    """What is made of a value that the server sends."""
    return made._Readers(frozenset())[made.Sent](json.dumps({"type": "sent", "value": value}).encode()).value


def sent(made: ModuleType, value: Any) -> Any:
    """What is written of a value that the application gives."""
    session = made._Session(made._CHAT_CHANNEL, asyncio.Event, max_pushes=1, max_items=1, max_offline=1)
    return json.loads(session.begin(made._CHAT__SEND, {"value": value}).frame)["value"]


UTC = datetime.UTC
SAMPLES: list[tuple[Any, Any, Any]] = [
    (STRING, "ü\n", "ü\n"),
    (INTEGER, 2**64 + 1, 2**64 + 1),
    (INTEGER, -(10**40), -(10**40)),
    (NUMBER, 1, 1.0),
    (
        {"type": "string", "format": "date-time"},
        "2026-01-02T03:04:05Z",
        datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    ),
    ({"type": "string", "format": "date"}, "2026-01-02", datetime.date(2026, 1, 2)),
    ({"type": "string", "format": "time"}, "03:04:05", datetime.time(3, 4, 5)),
    ({"type": "string", "format": "duration"}, "PT3600S", datetime.timedelta(hours=1)),
    ({"type": "string", "format": "uuid"}, f"{uuid.UUID(int=5)}", uuid.UUID(int=5)),
    ({"type": "string", "format": "decimal"}, "1.50", decimal.Decimal("1.50")),
    ({"type": "string", "contentEncoding": "base64"}, "AP8=", b"\x00\xff"),
    ({"enum": ["a", 1, None]}, None, None),
    ({"anyOf": [STRING, NULL]}, None, None),
    ({"type": "array", "prefixItems": [INTEGER, STRING], "minItems": 2, "maxItems": 2}, [1, "a"], (1, "a")),
    ({"type": "object", "additionalProperties": INTEGER}, {"a": 1}, {"a": 1}),
    ({}, {"any": [1, None, "x"]}, {"any": [1, None, "x"]}),
    (ref("Json"), ["a", 1.5], ["a", 1.5]),
]


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
@pytest.mark.parametrize(("schema", "wire", "value"), SAMPLES)
def test_values_come_and_go(models: Models, schema: Any, wire: Any, value: Any) -> None:
    """As Python's own types, written in the canonical form that the server would write."""
    made = client(models, schema)
    got = received(made, wire)
    assert (type(got), got) == (type(value), value)
    if schema.get("format") == "duration":
        assert sent(made, value) in ("PT3600S", "PT1H")  # two ways to say it
    else:
        assert sent(made, value) == wire


OBJECTS: list[tuple[Any, Any, str, Mapping[str, Any]]] = [
    (ref("User"), {"id": 1}, "User", {"id": 1}),
    (ref("Shape"), {"kind": "circle", "r": 1.5}, "Circle", {"kind": "circle", "r": 1.5}),
    (ref("Shape"), {"kind": "square", "a": 2}, "Square", {"kind": "square", "a": 2}),
    (ref("Person"), {"id": 1}, "User", {"id": 1}),
    (ref("Person"), {"nick": "x", "id": 1}, "Guest", {"nick": "x", "id": 1}),
    (ref("Person"), {"nick": "x", "id": 1, "new": True}, "Guest", {"nick": "x", "id": 1}),
    (ref("Admin"), {"id": 1, "level": 3}, "Admin", {"id": 1, "level": 3}),
    (ref("v1.Version"), {"a": 1}, "V1Version", {"a": 1}),
    (ref("V1Version"), {"b": 1}, "V1Version_", {"b": 1}),
    (fields("x", x=fields("y", y=INTEGER)), {"x": {"y": 1}}, "SentValue", {"x": {"y": 1}}),
    ({"oneOf": [fields("t", t={"const": each}) for each in "ab"]}, {"t": "b"}, "SentValue2", {"t": "b"}),
    ({"anyOf": [ref("Circle"), fields("kind", kind={"const": "dot"})]}, {"kind": "dot"}, "SentValue2", {"kind": "dot"}),
]


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
@pytest.mark.parametrize(("schema", "wire", "name", "written"), OBJECTS)
def test_objects_are_instances(models: Models, schema: Any, wire: Any, name: str, written: Any) -> None:
    """Of the class that its tag, else its fields say; what a newer server adds is ignored; they may be sent back."""
    made = client(models, schema)
    got = received(made, wire)
    if not (models == "pydantic" and wire.get("new")):  # pydantic's smart mode decides by itself
        assert type(got).__name__ == name
        assert sent(made, got) == written


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
def test_a_class_in_two_unions_has_one_tag(models: Models) -> None:
    """The first; in the other one it is chosen by its fields."""
    by_kind = {"anyOf": [ref("A"), ref("B")]}
    by_form = {"anyOf": [ref("A"), ref("C")]}
    tagged = {"kind": {"const": "a"}, "form": {"const": 1}}
    components = {
        "A": fields("kind", "form", **tagged),
        "B": fields("kind", kind={"const": "b"}),
        "C": fields("form", form={"const": 2}),
    }
    message = Message("sent", fields("one", "two", one=by_kind, two=by_form), "Sent")
    made = load(Api("Chat", "1", (Channel("chat", "/", pushes=(message,)),), components), models)
    read = made._Readers(frozenset({"type"}))[made.Sent]
    for one, two in (("A", "A"), ("B", "C")):
        wire = {"A": {"kind": "a", "form": 1}, "B": {"kind": "b"}, "C": {"form": 2}}
        got = read(json.dumps({"type": "sent", "one": wire[one], "two": wire[two]}).encode())
        assert (type(got.one).__name__, type(got.two).__name__) == (one, two)


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
def test_recursive_types_hold_themselves(models: Models) -> None:
    """A class directly, or over another one."""
    made = client(models, ref("Tree"))
    tree = received(made, {"value": "a", "children": [{"value": "b", "children": []}]})
    assert isinstance(tree.children[0], type(tree))
    ring = client(models, ref("Ping"))
    assert received(ring, {"pong": {"ping": {"pong": {}}}}).pong.ping.pong is not None


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
def test_what_need_not_be_there_is_not_sent(models: Models) -> None:
    """A default of the contract is a default here; anything else is absent, which null is not."""
    schema = fields("a", a=INTEGER, b={"anyOf": [STRING, NULL]}, c={"type": "integer", "default": 3}, d=ref("User"))
    made = load(
        Api(
            "Chat",
            "1",
            (Channel("chat", "/", receives=(Receive("send", fields("value", value=ref("Options"))),)),),
            {**COMPONENTS, "Options": schema},
        ),
        models,
    )
    assert sent(made, made.Options(a=1)) == {"a": 1}
    assert made.Options(a=1).c == 3
    assert sent(made, made.Options(a=1, b=None, c=4, d=made.User(id=2))) == {"a": 1, "b": None, "c": 4, "d": {"id": 2}}


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
def test_names_on_the_wire_are_the_contracts(models: Models) -> None:
    """Whatever they are in Python: keywords, what annotations need, and what is no identifier."""
    names = ("from", "a-b", "int", "str", "class", "_x", "$ref", "", "ü", "model_config", "copy", "date")
    schema = fields(*names, **dict.fromkeys(names, STRING))
    made = client(models, schema)
    wire = {key: f"the value of {key!r}" for key in names}
    got = received(made, wire)
    assert got.from_ == "the value of 'from'"
    assert sent(made, got) == wire


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
def test_a_value_that_is_none_of_a_union_is_refused(models: Models) -> None:
    """Where the contract says what there may be, something else is an error, and no raw value."""
    made = client(models, ref("Person"))
    with pytest.raises(made._UNREADABLE):
        received(made, {"neither": 1})
    made = client(models, ref("Shape"))
    with pytest.raises(made._UNREADABLE):
        received(made, {"kind": "line"})


REFS = ("A", "B", "C")
SCALARS = st.one_of(
    st.sampled_from([True, False, {}, NULL, STRING, INTEGER, NUMBER, BOOLEAN, {"type": "string", "format": "date"}]),
    st.sampled_from([{"const": value} for value in ("x", 1, 1.5, True, None, [1], {"a": 1})]),
    st.lists(st.sampled_from(["x", "y", 1, 2, None, True, 1.5]), max_size=3).map(lambda values: {"enum": values}),
    st.sampled_from([*map(ref, REFS), ref("Missing"), {"type": ["string", "null"]}, {"type": []}, {"not": {}}]),
)
KEYS = st.sampled_from(["a", "kind", "from", "int", "x-y", "type"])


def _objects(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(KEYS, schemas | st.sampled_from([{"const": "a"}, {"const": "b"}]), max_size=3)
    return st.builds(
        lambda properties, more, required: {
            "type": "object",
            "properties": properties,
            "additionalProperties": more,
            "required": [key for key in properties if required],
        },
        properties,
        schemas,
        st.booleans(),
    )


SCHEMAS = st.recursive(
    SCALARS,
    lambda schemas: st.one_of(
        _objects(schemas),
        st.lists(schemas, max_size=3).map(lambda members: {"anyOf": members}),
        st.lists(schemas, max_size=3).map(lambda members: {"oneOf": members}),
        st.lists(schemas, max_size=3).map(lambda members: {"allOf": members}),
        schemas.map(lambda items: {"type": "array", "items": items}),
        st.lists(schemas, max_size=3).map(
            lambda items: {"type": "array", "prefixItems": items, "minItems": len(items)}
        ),
        schemas.map(lambda values: {"type": "object", "patternProperties": {"^x": values}}),
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.fixed_dictionaries(dict.fromkeys(REFS, SCHEMAS)), SCHEMAS, st.sampled_from(["msgspec", "pydantic"]))
def test_any_schema_is_a_module_that_reads(components: Any, schema: Any, models: Models) -> None:
    """However strange (also of documents that we have not written): no library refuses what is made of it."""
    message = Message("told", {"type": "object", "properties": {"value": schema, **dict.fromkeys(REFS)}}, "Told")
    for name in REFS:
        message.schema["properties"][name] = ref(name)
    event = Receive("send", schema, (Message("sent", ref("A"), "Sent"),), uploads=schema)
    made = load(Api("Chat", "1", (Channel("chat", "/", receives=(event,), pushes=(message,)),), components), models)
    readers = made._Readers(frozenset({"type", "ref"}))
    for kind in (*made._CHAT_CHANNEL.pushes.values(), *made._CHAT__SEND.replies.values()):
        with contextlib.suppress(*made._UNREADABLE):
            readers[kind](b'{"type":"x","ref":1,"value":{"kind":"a","a":[1]}}')
