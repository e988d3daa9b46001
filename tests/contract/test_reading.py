"""A document is read as the API that it describes: exactly, where it is ours; else right, or with a clear error."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from socketsundso.contract import ContractError, document, dump, read
from socketsundso.contract.model import Api, Message, Parameter
from tests.contract import generated
from tests.contract.apis import APIS, ENVELOPED, INTEGER, STRING


@pytest.mark.parametrize("api", [*APIS.values(), *ENVELOPED.values()], ids=[*APIS, *ENVELOPED])
def test_reading_undoes_writing(api: Api) -> None:
    """From the bytes: what went through JSON is the same API."""
    assert read(json.loads(dump(api))) == api


@given(generated.APIS)
@settings(max_examples=40, deadline=None)
def test_reading_undoes_writing_of_any_api(api: Api) -> None:
    """Whatever can be published can be read."""
    try:
        described = document(api)
    except ContractError:  # a message that is no object
        assume(False)
    assert read(json.loads(json.dumps(described))) == api


# --- documents of others

TYPED = {"type": "object", "properties": {"type": {"const": "hello"}, "name": STRING}, "required": ["type", "name"]}


def theirs(**changed: Any) -> dict[str, Any]:
    """A small document that others might have written."""
    described: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": "Theirs", "version": "1"},
        "channels": {
            "greetings": {
                "address": "/ws",
                "messages": {
                    "hello": {"payload": TYPED},
                    "welcome": {"$ref": "#/components/messages/Welcome"},
                },
            }
        },
        "operations": {
            "onHello": {
                "action": "receive",
                "channel": {"$ref": "#/channels/greetings"},
                "messages": [{"$ref": "#/channels/greetings/messages/hello"}],
                "reply": {
                    "channel": {"$ref": "#/channels/greetings"},
                    "messages": [{"$ref": "#/channels/greetings/messages/welcome"}],
                },
            }
        },
        "components": {
            "messages": {"Welcome": {"name": "Welcome", "payload": {"$ref": "#/components/schemas/Welcome"}}},
            "schemas": {
                "Welcome": {
                    "type": "object",
                    "properties": {"type": {"enum": ["welcome"]}, "id": {"$ref": "#/components/schemas/Id"}},
                },
                "Id": INTEGER,
            },
        },
    }
    return {**described, **changed}


def only_message(message: Any, **more: Any) -> dict[str, Any]:
    """A document whose one operation sends this message."""
    channel = {"address": "/ws", "messages": {"it": message}, **more}
    operation = {"action": "send", "channel": {"$ref": "#/channels/c"}}
    return theirs(channels={"c": channel}, operations={"o": operation})


def test_a_document_of_others_is_read() -> None:
    """Requests, their replies, and the components that are left when the envelope is taken off."""
    api = read(theirs())
    (channel,) = api.channels
    (hello,) = channel.receives
    assert (channel.name, channel.path, hello.event) == ("greetings", "/ws", "hello")
    assert hello.schema == {"type": "object", "properties": {"name": STRING}, "required": ["name"]}
    id_of = {"$ref": "#/components/schemas/Id"}
    assert hello.replies == (Message("welcome", {"type": "object", "properties": {"id": id_of}}, name="Welcome"),)
    assert api.components == {"Id": INTEGER}


def test_messages_that_are_sent_are_pushes() -> None:
    """An operation that names no messages is about all of its channel's."""
    api = read(only_message({"payload": TYPED, "summary": "Hi.", "deprecated": True}))
    schema = {"type": "object", "properties": {"name": STRING}, "required": ["name"]}
    assert api.channels[0].pushes == (Message("hello", schema, summary="Hi.", deprecated=True),)


@pytest.mark.parametrize("key", ["action", "kind", "command"])
def test_another_key_may_name_the_messages(key: str) -> None:
    """Whichever all messages of the channel have as a constant."""
    payload = {"type": "object", "properties": {key: {"const": "hello"}, "type": STRING}}
    (channel,) = read(only_message({"payload": payload})).channels
    assert channel.wire.type_key == key
    assert channel.pushes[0].schema["properties"] == {"type": STRING}


def test_a_message_may_answer_itself() -> None:
    """As chanx writes it: `action` names messages, all of them are components, one is a request and its own reply."""

    def message(name: str) -> dict[str, Any]:
        properties = {"action": {"const": name, "default": name, "type": "string"}, "payload": STRING}
        return {"type": "object", "properties": properties, "required": ["payload"], "title": name.title()}

    described = theirs(
        channels={
            "chat": {
                "address": "/ws/{room}",
                "parameters": {"room": {"description": "Which."}},
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in ("say", "note")},
            }
        },
        operations={
            "say": {
                "action": "receive",
                "channel": {"$ref": "#/channels/chat"},
                "messages": [{"$ref": "#/channels/chat/messages/say"}],
                "reply": {
                    "channel": {"$ref": "#/channels/chat"},
                    "messages": [{"$ref": "#/channels/chat/messages/say"}],
                },
            },
            "emits": {
                "action": "send",
                "channel": {"$ref": "#/channels/chat"},
                "messages": [{"$ref": "#/channels/chat/messages/note"}],
            },
        },
        components={
            "messages": {
                "say": {
                    "payload": {"$ref": "#/components/schemas/Say"},
                    "correlationId": {"$ref": "#/components/correlationIds/ref"},
                },
                "note": {"payload": {"$ref": "#/components/schemas/Note"}},
            },
            "schemas": {"Say": message("say"), "Note": message("note")},
            "correlationIds": {"ref": {"location": "$message.payload#/ref"}},
        },
    )
    api = read(described)
    (channel,) = api.channels
    assert channel.wire.type_key == "action"
    assert channel.parameters == (Parameter("room", "path", STRING, description="Which."),)
    (say,) = channel.receives
    assert (say.event, [each.type for each in say.replies]) == ("say", ["say"])
    assert say.schema == {"type": "object", "properties": {"payload": STRING}, "required": ["payload"], "title": "Say"}
    assert [each.type for each in channel.pushes] == ["note"]
    assert api.components == {}
    assert read(document(api)) == api


def test_the_correlation_id_is_the_ref() -> None:
    """A location in the payload says which key it is; it is no field then."""
    payload = {"properties": {"type": {"const": "hello"}, "request": INTEGER}, "required": ["type", "request"]}
    location = {"location": "$message.payload#/request"}
    (channel,) = read(only_message({"payload": payload, "correlationId": location})).channels
    assert channel.wire.ref_key == "request"
    assert channel.pushes[0].schema == {}


def test_what_others_ask_of_clients_is_answered_by_messages() -> None:
    """A sent message with a reply is a push and an event: theirs have no `reply` as ours have."""
    described = theirs()
    described["operations"]["onHello"]["action"] = "send"
    (channel,) = read(described).channels
    assert ([each.type for each in channel.pushes], [each.event for each in channel.receives]) == (
        ["hello"],
        ["welcome"],
    )


def test_payloads_made_of_others_are_merged() -> None:
    """`allOf` of objects is one object."""
    base = {"type": "object", "properties": {"type": STRING, "at": INTEGER}, "required": ["at"]}
    payload = {"allOf": [base, {"properties": {"type": {"const": "hello"}, "name": STRING}, "required": ["type"]}]}
    push = read(only_message({"payload": {"allOf": [base, TYPED]}})).channels[0].pushes[0]
    assert push.type == "hello"
    assert push.schema["required"] == ["at", "name"]
    assert read(only_message({"payload": payload})).channels[0].pushes[0].schema["required"] == ["at"]


def test_the_language_of_a_payload_may_be_told() -> None:
    """JSON Schema by any of its names."""
    payload = {"schemaFormat": "application/schema+json;version=draft-07", "schema": TYPED}
    assert read(only_message({"payload": payload})).channels[0].pushes[0].type == "hello"


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({}, "no AsyncAPI document"),
        ([], "an object is expected"),
        (None, "no AsyncAPI document"),
        ({"openapi": "3.1.0"}, "no AsyncAPI document"),
        (theirs(asyncapi="2.6.0"), "2.6.0 is not read, only 3"),
        (theirs(asyncapi=3), "asyncapi: a text is expected, not 3"),
        (theirs(channels=[]), "channels: an object is expected"),
        (theirs(operations={"o": {"action": "send"}}), "operations/o: its channel is none"),
        (only_message({"payload": {"type": "object"}}), "channels/c/messages/it: .*no constant 'type'.*\"it\""),
        (only_message({"payload": {"type": "string"}}), "channels/c/messages/it: a message is an object, not 'string'"),
        (only_message({"payload": {"oneOf": [TYPED, TYPED]}}), "channels/c/messages/it: .*union.*message of its own"),
        (only_message({}), "channels/c/messages/it: a message without a payload"),
        (only_message({"payload": {"schemaFormat": "application/vnd.apache.avro", "schema": {}}}), "avro"),
        (only_message({"payload": TYPED}, address=None), "channels/c: a channel without an address"),
        (only_message({"$ref": "common.json#/hello"}), "channels/c/messages/it: .*bundle both into one"),
        (only_message({"$ref": "#/components/messages/No"}), "channels/c/messages/it: .*leads nowhere"),
        (only_message({"$ref": "#/channels/c/messages/it"}), "channels/c/messages/it: .*leads in a circle"),
        (only_message({"payload": {"$ref": "#/components/schemas/No"}}), "channels/c/messages/it: there is no schema"),
        (only_message({"payload": {**TYPED, "properties": 5}}), "'properties' of a schema cannot be 5"),
        (only_message({"payload": {**TYPED, "required": "type"}}), "'required' of a schema cannot be 'type'"),
        (only_message({"payload": {**TYPED, "minProperties": -1}}), "'minProperties' of a schema cannot be -1"),
        (only_message({"payload": {**TYPED, "not": {"multipleOf": 0}}}), "'multipleOf' of a schema cannot be 0"),
        (only_message({"payload": {**TYPED, "not": {"minimum": 1e999}}}), "'minimum' of a schema cannot be inf"),
        (
            only_message({"payload": {"properties": {"type": {"const": "x"}, "a": {"$ref": "#/definitions/A"}}}}),
            "#/definitions/A is no schema of components/schemas: put it there",
        ),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(described: Any, said: str) -> None:
    """The error names the place and the remedy."""
    with pytest.raises(ContractError, match=said):
        read(described)


# --- hostile documents

JUNK: list[Any] = [
    None,
    True,
    0,
    -1,
    1e400,
    "",
    "#/",
    "\ud800",
    [],
    {},
    [[]],
    {"$ref": "#"},
    {"$ref": "#/channels"},
    [{}],
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        found += places(each, (*path, key))
    return found


DOCUMENTS = {name: document(api) for name, api in APIS.items()}
PLACES = {name: places(described) for name, described in DOCUMENTS.items()}


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_wrong_types_anywhere_are_an_error(data: st.DataObject) -> None:
    """A document with something else in some place is an API, or a `ContractError`, and nothing else."""
    name = data.draw(st.sampled_from(list(APIS)))
    described = copy.deepcopy(DOCUMENTS[name])
    for path in data.draw(st.lists(st.sampled_from(PLACES[name]), min_size=1, max_size=3)):
        parent: Any = described
        for key in path[:-1]:
            parent = parent[key] if isinstance(parent, dict) and key in parent else {}
        parent[path[-1]] = copy.deepcopy(data.draw(st.sampled_from(JUNK)))
    try:
        api = read(described)
    except ContractError:
        return
    assert read(json.loads(json.dumps(document(api)))) == api


def test_a_document_that_holds_itself_is_refused() -> None:
    """No JSON is like that, but `read` takes what Python has."""
    payload: dict[str, Any] = {"type": "object", "properties": {"type": {"const": "x"}}}
    payload["properties"]["again"] = payload
    with pytest.raises(ContractError, match="or that holds itself"):
        read(only_message({"payload": payload}))


def test_schemas_that_multiply_come_to_an_end() -> None:
    """Each of these is twice the next one: 2^60 objects, if they were all looked at."""
    schemas = {f"S{n}": {"allOf": [{"$ref": f"#/components/schemas/S{n + 1}"}] * 2} for n in range(60)}
    described = only_message({"payload": {"$ref": "#/components/schemas/S0"}})
    with pytest.raises(ContractError, match="more than 1000 others, or of itself"):
        read({**described, "components": {"schemas": {**schemas, "S60": TYPED}}})


def test_recursive_schemas_are_no_circle() -> None:
    """A tree of trees is one component."""
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}},
    }
    payload = {"properties": {"type": {"const": "grown"}, "tree": {"$ref": "#/components/schemas/Tree"}}}
    described = only_message({"payload": payload})
    assert read({**described, "components": {"schemas": {"Tree": tree}}}).components == {"Tree": tree}
