"""Whom a change of an API breaks: what clients send may only get laxer, what they receive only stricter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from socketsundso.contract import Change, compare, report
from socketsundso.contract.model import (
    Api,
    Call,
    Channel,
    Error,
    Features,
    Message,
    Parameter,
    Receive,
    Schema,
    Wire,
)
from tests.contract.apis import APIS, BOOLEAN, INTEGER, NUMBER, STRING, WIRES, fields, ref

OLD, NEW, NONE = "old clients", "new clients", "none"


def api(*receives: Receive, components: Mapping[str, Schema] | None = None, **channel: Any) -> Api:
    return Api("T", "1", (Channel("t", "/", receives=receives, **channel),), components or {})


def found(old: Api, new: Api) -> list[tuple[str, str]]:
    """Whom each change breaks, by its path."""
    return [(each.path, each.breaks) for each in compare(old, new)]


def record(**properties: Any) -> Schema:
    """An object that says nothing of other properties."""
    return {"type": "object", "properties": properties}


def sent(old: Schema, new: Schema, *tables: Mapping[str, Schema]) -> list[tuple[str, str]]:
    """The changes of a field that clients send."""
    before, after = tables or ({}, {})
    return found(
        api(Receive("say", fields("x", x=old)), components=before),
        api(Receive("say", fields("x", x=new)), components=after),
    )


def got(old: Schema, new: Schema) -> list[tuple[str, str]]:
    """The changes of a field that clients receive."""
    return found(api(pushes=(Message("p", fields("x", x=old)),)), api(pushes=(Message("p", fields("x", x=new)),)))


@pytest.mark.parametrize("same", APIS.values(), ids=APIS)
def test_what_is_the_same_has_not_changed(same: Api) -> None:
    """With all its features, recursive types and odd names."""
    assert compare(same, same) == []


def test_order_and_words_are_no_change() -> None:
    """Titles, summaries, descriptions, tags, examples; the order of events, fields and members of a union."""
    x: Schema = {"anyOf": [STRING, INTEGER], "title": "X", "description": "x", "examples": [1]}
    y: Schema = {"anyOf": [INTEGER, STRING]}
    old = api(Receive("a", fields("x", x=x, b=STRING), summary="A."), Receive("b", fields(), tags=("t",)))
    new = api(Receive("b", fields(), description="B."), Receive("a", fields("x", b=STRING, x=y)))
    assert compare(old, replace(new, title="Another", version="2")) == []


# --- schemas

LIST = {"type": "array", "items": STRING}
NARROWER: list[tuple[Schema, Schema]] = [
    ({}, STRING),
    (NUMBER, INTEGER),
    ({"anyOf": [STRING, {"type": "null"}]}, STRING),
    ({"type": ["string", "null"]}, STRING),
    ({"enum": ["a", "b"]}, {"enum": ["a"]}),
    (STRING, {"enum": ["a", "b"]}),
    (STRING, {"const": "a"}),
    (BOOLEAN, {"const": True}),
    ({"enum": [1, True]}, {"enum": [1]}),
    (INTEGER, {"type": "integer", "minimum": 0}),
    ({"type": "integer", "maximum": 10}, {"type": "integer", "exclusiveMaximum": 10}),
    ({"type": "number", "minimum": 0}, {"type": "number", "exclusiveMinimum": 0}),
    (INTEGER, {"type": "integer", "multipleOf": 2}),
    ({"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 6}),
    (STRING, {"type": "string", "minLength": 1}),
    ({"type": "string", "maxLength": 10}, {"type": "string", "maxLength": 9}),
    (STRING, {"type": "string", "pattern": "^a"}),
    (STRING, {"type": "string", "format": "date-time"}),
    (STRING, {"type": "string", "contentEncoding": "base64"}),
    (LIST, {"type": "array", "items": {"type": "string", "minLength": 1}}),
    (LIST, {**LIST, "maxItems": 3}),
    (LIST, {**LIST, "minItems": 1}),
    (LIST, {**LIST, "uniqueItems": True}),
    ({"type": "array"}, LIST),
    (LIST, {"type": "array", "prefixItems": [STRING], "items": False}),
    (
        {"type": "array", "prefixItems": [STRING, NUMBER], "items": False},
        {"type": "array", "prefixItems": [STRING, INTEGER], "items": False},
    ),
    (fields(a=STRING), fields("a", a=STRING)),
    (fields(a=NUMBER), fields(a=INTEGER)),
    ({"type": "object"}, {"type": "object", "additionalProperties": STRING}),
    ({"type": "object"}, fields(a=STRING)),
    ({"type": "object", "additionalProperties": NUMBER}, {"type": "object", "additionalProperties": INTEGER}),
    ({"type": "object"}, {"type": "object", "propertyNames": {"maxLength": 2}}),
    ({"type": "object"}, {"type": "object", "minProperties": 1}),
    ({"type": "object"}, {"type": "object", "maxProperties": 1}),
    ({"type": "object"}, {"type": "object", "patternProperties": {"^a": INTEGER}}),
    (STRING, {"type": "string", "not": {"const": "admin"}}),
    ({"allOf": [{"type": ["string", "integer"]}, {"type": ["integer", "null"]}]}, {"type": "integer", "minimum": 0}),
    ({"allOf": [{"enum": ["a", "b", 1]}, {"enum": ["a", "b"]}]}, {"const": "a"}),
    ({"allOf": [record(a=NUMBER), record(a=NUMBER, b=STRING)]}, {**record(a=INTEGER, b=STRING)}),
    (STRING, {"allOf": [{"type": "string", "contains": {}}]}),
    (STRING, {"type": "string", "x-unheard-of": 1}),
    ({"anyOf": [fields("k", k={"const": "a"}), fields("k", k={"const": "b"})]}, fields("k", k={"const": "a"})),
    (STRING, {"type": "string", "oneOf": [{"const": "a"}, {"pattern": "^a"}]}),
]


@pytest.mark.parametrize(("wide", "narrow"), NARROWER)
def test_what_clients_send_may_only_get_laxer(wide: Schema, narrow: Schema) -> None:
    """Narrower breaks who sent what was permitted; wider nobody but who sends it to the old server."""
    breaks = {each for _, each in sent(wide, narrow)}
    assert breaks == {OLD}
    assert OLD not in {each for _, each in sent(narrow, wide)}


@pytest.mark.parametrize(("wide", "narrow"), NARROWER)
def test_what_clients_receive_may_only_get_stricter(wide: Schema, narrow: Schema) -> None:
    """The other way round."""
    assert OLD in {each for _, each in got(narrow, wide)}
    assert OLD not in {each for _, each in got(wide, narrow)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"const": "a"}, {"enum": ["a"]}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
        ({"type": ["string", "null"]}, {"anyOf": [STRING, {"type": "null"}]}),
        ({"oneOf": [STRING, INTEGER]}, {"anyOf": [STRING, INTEGER]}),
        (STRING, {"allOf": [STRING], "description": "a text"}),
        (BOOLEAN, {"enum": [False, True]}),
        (INTEGER, {"type": "number", "multipleOf": 1}),
        ({"type": "array", "items": False}, {"type": "array", "maxItems": 0}),
        (fields("a", a=STRING), {"allOf": [fields("a", a=STRING)]}),
        ({"enum": ["a", "b"], "type": "string"}, {"anyOf": [{"const": "b"}, {"const": "a"}]}),
        (
            {"oneOf": [fields("k", k={"const": "a"}), fields("k", k={"const": "b"})]},
            {"anyOf": [fields("k", k={"const": "b"}), fields("k", k={"const": "a"})]},
        ),
    ],
)
def test_the_same_in_other_words_is_no_change(one: Schema, other: Schema) -> None:
    """Two ways to say one thing: nobody who sends the one is refused by the other."""
    assert OLD not in {each for _, each in sent(one, other)}
    if one != INTEGER:  # a whole number may be written as 1.0
        assert OLD not in {each for _, each in sent(other, one)}


def test_a_change_says_where_what_and_why() -> None:
    """Path, values as the keyword has them, and a sentence."""
    limited = {"type": "integer", "maximum": 1000}
    lines = fields("lines", lines={"type": "array", "items": fields("n", n=limited)})
    (change,) = compare(
        api(Receive("buy", lines)),
        api(Receive("buy", json.loads(json.dumps(lines).replace("1000", "100")))),
    )
    assert change == Change(
        "t/buy/lines/[]/n",
        1000,
        100,
        "old clients",
        "old clients may send numbers up to 1000; the server takes numbers up to 100",
    )


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (fields(a=STRING), fields(a=STRING, b=STRING), [("t/say/x/b", NEW)]),
        (fields(a=STRING), fields("b", a=STRING, b=STRING), [("t/say/x/b", OLD)]),
        (fields(a=STRING, b=STRING), fields(a=STRING), [("t/say/x/b", OLD)]),
        (fields("a", a=STRING), fields(a=STRING), [("t/say/x/a", NEW)]),
        # a record that neither permits nor refuses others ignores them, and nobody sends them
        (record(a=STRING), record(a=STRING, b=STRING), [("t/say/x/b", NONE)]),
        (record(a=STRING, b=STRING), record(a=STRING), [("t/say/x/b", NONE)]),
        (record(a=STRING), fields(a=STRING), [("t/say/x", OLD)]),
    ],
)
def test_fields_that_clients_send(old: Schema, new: Schema, changes: list[tuple[str, str]]) -> None:
    """A new optional one is harmless to who does not know it, a required one is not, nor is one that is refused now."""
    assert sent(old, new) == changes


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (fields(a=STRING), fields("b", a=STRING, b=STRING), [("t/push p/x/b", NEW)]),
        (fields(a=STRING), fields(a=STRING, b=STRING), [("t/push p/x/b", NONE)]),
        (fields("a", "b", a=STRING, b=STRING), fields("a", a=STRING), [("t/push p/x/b", OLD)]),
        (fields("a", a=STRING, b=STRING), fields("a", a=STRING), [("t/push p/x/b", NONE)]),
        (fields("a", a=STRING), fields(a=STRING), [("t/push p/x/a", OLD)]),
    ],
)
def test_fields_that_clients_receive(old: Schema, new: Schema, changes: list[tuple[str, str]]) -> None:
    """A new one is ignored by who does not know it; one that was always there is missed."""
    assert got(old, new) == changes


def test_recursive_types_are_compared_to_their_end() -> None:
    """The change is told where it is met first."""

    def tree(value: Schema) -> dict[str, Schema]:
        return {"Tree": fields("value", value=value, children={"type": "array", "items": ref("Tree")})}

    assert sent(ref("Tree"), ref("Tree"), tree(NUMBER), tree(INTEGER)) == [("t/say/x/value", OLD)]
    assert sent(ref("Tree"), ref("Tree"), tree(INTEGER), tree(NUMBER)) == [("t/say/x/value", NEW)]
    assert sent(ref("Tree"), ref("Tree"), tree(INTEGER), tree({**INTEGER, "title": "N"})) == []


def test_a_component_under_another_name_is_no_change() -> None:
    """Names of types are not on the wire."""
    assert sent(ref("A"), ref("B"), {"A": fields(a=STRING)}, {"B": fields(a=STRING)}) == []


def test_schemas_without_end_are_not_called_harmless() -> None:
    """What cannot be told breaks somebody, and is told soon."""
    large = {f"S{n}": {"anyOf": [ref(f"S{n + 1}"), ref(f"S{n + 1}")]} for n in range(40)} | {"S40": STRING}
    assert sent(ref("S0"), ref("S0"), large, large | {"S40": INTEGER}) == [("t/say", OLD)]
    itself = {"A": {"anyOf": [ref("A"), STRING]}}
    assert sent(ref("A"), ref("A"), itself, {"A": {"anyOf": [ref("A"), INTEGER]}}) == [("t/say", OLD)]


# --- what users of other tools have reported


def test_an_enum_that_may_be_null_now_breaks_who_reads_it_alone() -> None:
    """oasdiff/oasdiff#1088: a reference that becomes `oneOf` of it and null, called a removed value."""
    table = {"Kind": {"type": "string", "enum": ["user", "service"]}}
    nullable = {"oneOf": [{"type": "null"}, ref("Kind")]}
    assert sent(ref("Kind"), nullable, table, table) == [("t/say/x", NEW)]
    assert sent(nullable, ref("Kind"), table, table) == [("t/say/x", OLD)]


@pytest.mark.parametrize(
    "old",
    [
        {"type": "number", "allOf": [{"maximum": 100}, {"multipleOf": 6}]},
        {"type": "number", "oneOf": [{"maximum": 100}, {"multipleOf": 6}]},
        {"type": "number", "maximum": 50, "multipleOf": 12},
    ],
)
def test_any_of_takes_what_all_or_one_of_the_same_took(old: Schema) -> None:
    """Apicurio/apicurio-registry#1367: called incompatible."""
    new: Schema = {"type": "number", "anyOf": [{"maximum": 100}, {"multipleOf": 6}]}
    assert OLD not in {each for _, each in sent(old, new)}
    assert OLD in {each for _, each in sent(new, old)}


def test_multiples_are_those_of_decimals() -> None:
    """redpanda-data/redpanda#21354: 3.3 is three times 1.1, which floats are not."""
    assert OLD not in {
        each for _, each in sent({"type": "number", "multipleOf": 3.3}, {"type": "number", "multipleOf": 1.1})
    }


def test_what_became_required_within_lists_is_found() -> None:
    """oasdiff/oasdiff#257: not looked for in `items`."""
    old, new = ({"type": "array", "items": fields(*names, id=STRING)} for names in ((), ("id",)))
    assert sent(old, new) == [("t/say/x/[]/id", OLD)]
    assert got(new, old) == [("t/push p/x/[]/id", OLD)]


def test_another_kind_of_member_breaks_who_reads() -> None:
    """oasdiff/oasdiff#610: a further schema in a response's `oneOf`, found by nobody."""
    one, other = fields("a", a=STRING), fields("b", b=STRING)
    assert ("t/push p/x/a", OLD) in got({"oneOf": [one]}, {"oneOf": [one, other]})
    assert OLD not in {each for _, each in got({"oneOf": [one, other]}, {"oneOf": [one]})}


def test_a_list_where_an_object_was_is_a_change() -> None:
    """oasdiff/oasdiff#1090: no breaking changes, said the tool."""
    assert got(LIST, fields()) == [("t/push p/x", OLD)]
    assert sent(LIST, fields()) == [("t/say/x", OLD)]


def test_values_of_a_query_are_looked_at() -> None:
    """oasdiff/oasdiff#861, #1017: enums and null in parameters, found by no rule."""
    old, new = (Parameter("q", "query", {"enum": values}) for values in (["a", "b", None], ["a"]))
    assert found(api(parameters=(old,)), api(parameters=(new,))) == [("t/query q", OLD)]


def test_the_key_of_a_message_in_the_document_is_no_change() -> None:
    """Netcracker/qubership-apihub#731: nothing of it is on the wire."""
    before = Message("said", fields(id=INTEGER), name="Said")
    old, new = (api(Receive("a", fields(), (each,))) for each in (before, replace(before, name="SaidByAda")))
    assert compare(old, new) == []


# --- events, and what answers them

SAID, DONE = Message("said", fields(id=INTEGER)), Message("done", fields())


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ([Receive("a", fields())], [], [("t/a", OLD)]),
        ([], [Receive("a", fields())], [("t/a", NEW)]),
        ([Receive("a", fields())], [Receive("b", fields())], [("t/a", OLD), ("t/b", NEW)]),
        ([Receive("a", fields())], [Receive("a", fields(), deprecated=True)], [("t/a/deprecated", NONE)]),
        ([Receive("a", fields(), (SAID,))], [Receive("a", fields(), (SAID, DONE))], [("t/a/reply done", OLD)]),
        ([Receive("a", fields(), (SAID, DONE))], [Receive("a", fields(), (SAID,))], [("t/a/reply done", NEW)]),
        ([Receive("a", fields(), (SAID,))], [Receive("a", fields())], [("t/a/reply", OLD)]),
        ([Receive("a", fields())], [Receive("a", fields(), (SAID,))], [("t/a/reply said", NEW)]),
        ([Receive("a", fields(), acknowledged=True)], [Receive("a", fields())], [("t/a/reply", OLD)]),
        ([Receive("a", fields())], [Receive("a", fields(), acknowledged=True)], [("t/a/reply a", NEW)]),
        ([Receive("a", fields(), (SAID,))], [Receive("a", fields(), (SAID,), stream=True)], [("t/a/stream", OLD)]),
        ([Receive("a", fields(), (SAID,), stream=True)], [Receive("a", fields(), (SAID,))], [("t/a/stream", OLD)]),
        ([Receive("a", fields(), cancellable=True)], [Receive("a", fields())], [("t/a/cancel", OLD)]),
        ([Receive("a", fields())], [Receive("a", fields(), cancellable=True)], [("t/a/cancel", NEW)]),
        ([Receive("a", fields())], [Receive("a", fields(), uploads=STRING)], [("t/a/item", OLD)]),
        ([Receive("a", fields(), uploads=STRING)], [Receive("a", fields())], [("t/a/item", OLD)]),
        ([Receive("a", fields(), uploads=NUMBER)], [Receive("a", fields(), uploads=INTEGER)], [("t/a/item", OLD)]),
        ([Receive("a", fields(), uploads=INTEGER)], [Receive("a", fields(), uploads=NUMBER)], [("t/a/item", NEW)]),
        ([Receive("a", fields())], [Receive("a", fields(), security=("admin",))], [("t/a/security", OLD)]),
        ([Receive("a", fields(), security=("admin",))], [Receive("a", fields())], [("t/a/security", NEW)]),
        ([Receive("a", fields())], [Receive("a", fields(), errors=(Error("full"),))], [("t/a/error full", NONE)]),
        ([Receive("a", fields(), errors=(Error("full"),))], [Receive("a", fields())], [("t/a/error full", NONE)]),
    ],
)
def test_events(old: list[Receive], new: list[Receive], changes: list[tuple[str, str]]) -> None:
    """Removed, renamed, answered in another way: each breaks who relies on what was."""
    assert found(api(*old), api(*new)) == changes


def test_details_of_errors_are_received() -> None:
    """As any other field that the server sends."""

    def with_details(details: Schema | None) -> Api:
        return api(Receive("a", fields(), errors=(Error("full", details=details),)))

    left = fields("left", left=INTEGER)
    assert found(with_details(left), with_details(None)) == [("t/a/error full", OLD)]
    assert found(with_details(None), with_details(left)) == [("t/a/error full", NEW)]
    assert found(with_details(left), with_details(fields("left", left=NUMBER))) == [("t/a/error full/left", OLD)]


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({"pushes": (SAID,)}, {}, [("t/push said", OLD)]),
        ({}, {"pushes": (SAID,)}, [("t/push said", NONE)]),
        ({"pushes": (SAID,)}, {"pushes": (replace(SAID, name="Other"),)}, []),
        ({"pushes": (SAID,)}, {"pushes": (SAID, replace(SAID, schema=fields(), name="S2"))}, []),
        ({"calls": (Call(SAID, BOOLEAN),)}, {}, [("t/call said", OLD)]),
        ({}, {"calls": (Call(SAID, BOOLEAN),)}, [("t/call said", OLD)]),
        ({"calls": (Call(SAID, NUMBER),)}, {"calls": (Call(SAID, INTEGER),)}, [("t/call said/answer", OLD)]),
        ({"calls": (Call(SAID, INTEGER),)}, {"calls": (Call(SAID, NUMBER),)}, [("t/call said/answer", NEW)]),
        ({"errors": (Error("full"),)}, {}, [("t/error full", NONE)]),
        ({"wire": Wire()}, {"wire": Wire(ref_key="id")}, [("t/wire", OLD)]),
        ({"wire": Wire()}, {"wire": WIRES["renamed"]}, [("t/wire", OLD)]),
        ({"wire": WIRES["renamed"]}, {"wire": WIRES["nested"]}, [("t/wire", OLD)]),
        ({"wire": WIRES["nested"]}, {"wire": WIRES["array"]}, [("t/wire", OLD)]),
        ({"wire": WIRES["array"]}, {"wire": WIRES["ref-last"]}, [("t/wire", OLD)]),
        ({"wire": WIRES["open"]}, {"wire": WIRES["nested"]}, [("t/wire/other_keys", OLD)]),
        ({"wire": WIRES["nested"]}, {"wire": WIRES["open"]}, [("t/wire/other_keys", NEW)]),
        ({"features": Features(history=True)}, {}, [("t/history", OLD)]),
        ({}, {"features": Features(presence=True)}, [("t/presence", NEW)]),
        ({"subprotocols": ("v1", "v2")}, {"subprotocols": ("v2",)}, [("t/subprotocols", OLD)]),
        ({"subprotocols": ("v2",)}, {"subprotocols": ("v1", "v2")}, [("t/subprotocols", NEW)]),
        ({}, {"security": ("token",)}, [("t/security", OLD)]),
        ({"security": ("token",)}, {}, [("t/security", NEW)]),
        ({"security": ("token",)}, {"security": ("token", "bearer")}, [("t/security", NEW)]),
        ({"security": ("token", "bearer")}, {"security": ("token",)}, [("t/security", OLD)]),
    ],
)
def test_channels(old: dict[str, Any], new: dict[str, Any], changes: list[tuple[str, str]]) -> None:
    """Pushes, calls, what the connection is like, and who may have one."""
    assert found(api(**old), api(**new)) == changes


Q = Parameter("q", "query", STRING)


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ([], [Q], [("t/query q", OLD)]),
        ([], [replace(Q, required=False)], [("t/query q", NONE)]),
        ([Q], [], [("t/query q", NEW)]),
        ([replace(Q, required=False)], [], [("t/query q", NONE)]),
        ([replace(Q, required=False)], [Q], [("t/query q", OLD)]),
        ([Q], [replace(Q, required=False)], [("t/query q", NEW)]),
        ([Q], [replace(Q, schema=INTEGER)], [("t/query q", OLD)]),
        ([Parameter("X-Tenant", "header", STRING)], [Parameter("x-tenant", "header", STRING)], []),
        ([Q], [replace(Q, place="header")], [("t/query q", NEW), ("t/header q", OLD)]),
    ],
)
def test_parameters(old: list[Parameter], new: list[Parameter], changes: list[tuple[str, str]]) -> None:
    """What the handshake takes is sent by clients."""
    assert found(api(parameters=tuple(old)), api(parameters=tuple(new))) == changes


def test_channels_are_told_apart_by_their_path() -> None:
    """A class may be renamed, and so may a parameter of the path; who moves is gone."""

    def at(path: str, name: str = "a", schema: Schema = STRING) -> Api:
        parameter = path.partition("{")[2].rstrip("}")
        parameters = (Parameter(parameter, "path", schema),) if parameter else ()
        return Api("T", "1", (Channel(name, path, parameters=parameters),))

    assert found(at("/rooms/{room}"), at("/rooms/{id}", "b")) == []
    assert found(at("/rooms/{room}"), at("/rooms/{id}", "b", INTEGER)) == [("a/path room", OLD)]
    assert found(at("/ws"), at("/socket")) == [("a", OLD), ("a", NEW)]


def test_channels_of_one_path_are_told_apart_by_their_names() -> None:
    """Others have several on one WebSocket: none hides another."""
    both = Api("T", "1", (Channel("a", "/ws", receives=(Receive("x", fields()),)), Channel("b", "/ws")))
    assert found(both, replace(both, channels=both.channels[::-1])) == []
    assert found(both, replace(both, channels=(Channel("a", "/ws"), Channel("b", "/ws")))) == [("a/x", OLD)]
    assert found(both, replace(both, channels=both.channels[1:])) == [("a", OLD)]


def test_another_scheme_of_the_same_name_is_another_way_to_sign_in() -> None:
    """Its description is words."""
    old = replace(api(security=("token",)), security={"token": {"type": "http", "scheme": "basic"}})
    new = replace(old, security={"token": {"type": "http", "scheme": "bearer"}})
    told = replace(old, security={"token": {"type": "http", "scheme": "basic", "description": "As ever."}})
    assert found(old, new) == [("t/security/token", OLD)]
    assert found(old, told) == []


# --- formats


CHANGES = [
    Change("t/a\n/b", "x", None, "old clients", "100% gone, or: not"),
    Change("t/c", None, {"type": "null"}, "none", "new"),
]


def test_text_has_a_line_for_each_change_and_counts_them() -> None:
    """Whom it breaks, where, and why; the last line says how many there are."""
    assert report(CHANGES[1:], "text") == "breaks nothing: t/c: new\n1 breaks nothing.\n"
    assert report([], "text") == "Nothing changed.\n"


def test_json_is_the_changes() -> None:
    """Each as an object."""
    assert [Change(**each) for each in json.loads(report(CHANGES, "json"))] == CHANGES


def test_github_shows_annotations() -> None:
    """One line each, whatever characters a name has: what breaks deployed clients is an error."""
    assert report(CHANGES, "github").splitlines() == [
        "::error title=breaks old clients::t/a%0A/b: 100%25 gone, or: not",
        "::notice title=breaks nothing::t/c: new",
    ]
