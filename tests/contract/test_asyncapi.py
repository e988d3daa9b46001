"""The document: valid to AsyncAPI's own judges, true to what goes over the wire, the same bytes each time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from socketsundso.contract import ContractError, document, dump
from socketsundso.contract.model import Api, Channel, Error, Message, Receive
from tests.contract.apis import APIS, CHAT, ENVELOPED, ODD, SHOP, STRING, fields, ref

NODE = shutil.which("node")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PACKAGES = Path(os.environ.get("SOCKETSUNDSO_E2E_DIR") or CACHE / "socketsundso-e2e")
META_SCHEMA = PACKAGES / "node_modules/@asyncapi/specs/schemas/3.0.0.json"
PARSER = PACKAGES / "node_modules/@asyncapi/parser"

ALL = {**APIS, **ENVELOPED}
each_api = pytest.mark.parametrize("api", ALL.values(), ids=ALL)


def one(*receives: Receive, **channel: Any) -> Api:
    """An API of one channel."""
    return Api("T", "1", (Channel("t", "/", receives=receives, **channel),))


@cache
def documented(name: str) -> dict[str, Any]:
    """The document of one of `APIS`."""
    return document(APIS[name])


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def at(described: dict[str, Any], reference: str) -> Any:
    """What a reference leads to."""
    value: Any = described
    for part in reference.removeprefix("#/").split("/"):
        value = value[part.replace("~1", "/").replace("~0", "~")]
    return value


# --- AsyncAPI's judges


@pytest.fixture(scope="module")
def meta_schema() -> Any:
    """The official schema of documents."""
    if not META_SCHEMA.is_file():
        pytest.skip("no @asyncapi/specs: .ci/setup-e2e installs it")
    return jsonschema.Draft7Validator(json.loads(META_SCHEMA.read_text()))


@each_api
def test_a_document_is_valid_to_the_official_schema(api: Api, meta_schema: Any) -> None:
    """Nothing in it is unknown to AsyncAPI 3.0.0, or of another type."""
    errors = meta_schema.iter_errors(json.loads(dump(api)))
    assert [(list(error.absolute_path), error.message[:200]) for error in errors] == []


LINKED = Api(
    "Linked",
    "1",
    (Channel("linked", "/", receives=(Receive("say", fields(one=ref("One"))), Receive("again", ref("One")))),),
    {
        "One": fields(
            next={"anyOf": [ref("One"), {"type": "null"}]},
            other={"allOf": [ref("Other")], "description": "Described."},
            many={"type": "object", "additionalProperties": {"type": "array", "items": ref("Other")}},
        ),
        "Other": fields(one={"anyOf": [{"type": "null"}, {"allOf": [ref("One")], "default": {}}]}),
    },
)
"""Types that lead back to themselves, by every way there is."""

# a property `__proto__` becomes the prototype of the properties in @asyncapi/parser, which then sees its `type` among
# them wherever they have no `type` of their own
JUDGED = {**APIS, "linked": LINKED} | {name: api for name, api in ENVELOPED.items() if not name.startswith("odd")}

JUDGE = """
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";
const found = [];
for (const text of JSON.parse(readFileSync(0, "utf8"))) {
  const { document, diagnostics } = await new Parser().parse(text);
  const messages = document?.allMessages().all().map((each) => [each.id(), each.payload()?.type() ?? null]);
  found.push({ diagnostics, messages: messages ?? null });
}
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    """What @asyncapi/parser makes of each document."""
    if NODE is None or not PARSER.is_dir():
        pytest.skip("no node with @asyncapi/parser: .ci/setup-e2e installs both")
    run = subprocess.run(
        [NODE, "--input-type=module", "-e", JUDGE],
        input=json.dumps([dump(api).decode() for api in JUDGED.values()]),
        cwd=PACKAGES,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return dict(zip(JUDGED, json.loads(run.stdout), strict=True))


@pytest.mark.parametrize("name", JUDGED)
def test_asyncapis_parser_has_nothing_to_say(name: str, parsed: dict[str, Any]) -> None:
    """It finds every message, and nothing wrong: only that there is a newer version of AsyncAPI."""
    found = parsed[name]
    assert {each["code"] for each in found["diagnostics"]} == {"asyncapi-latest-version"}
    channels = document(JUDGED[name])["channels"].values()
    assert sorted(key for key, _ in found["messages"]) == sorted(key for each in channels for key in each["messages"])
    assert all(kind in ("object", "array", None) for key, kind in found["messages"] if key != "binary")


@each_api
def test_every_reference_leads_somewhere(api: Api) -> None:
    """No tool is asked for that: the parser does not look at all of them."""
    described = document(api)
    for reference in references(described):
        at(described, reference)


@each_api
def test_operations_name_messages_of_their_channel(api: Api) -> None:
    """`messages`, in operations and replies, refers to the channel's, which refer to components."""
    described = document(api)
    for operation in described["operations"].values():
        for part in (operation, operation.get("reply", operation)):
            prefix = f"{part['channel']['$ref']}/messages/"
            assert part["messages"]
            assert all(each["$ref"].startswith(prefix) for each in part["messages"])
    for channel in described["channels"].values():
        for message in channel["messages"].values():
            assert list(message["payload"]) == ["$ref"]


# --- what goes over the wire


def payload(described: dict[str, Any], channel: str, message: str) -> Any:
    """A validator of one message's payload."""
    schema = at(described, described["channels"][channel]["messages"][message]["payload"]["$ref"])
    return jsonschema.Draft7Validator({**schema, "components": described["components"]})


BUY = {"type": "buy", "symbol": "X", "count": 3}
PERSON = {"id": 1, "name": "ada"}

FRAMES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("chat", "chat", "enter", {"type": "enter", "room": "r", "name": "ada"}),
    ("chat", "chat", "enter", {"type": "enter", "room": "r", "name": "ada", "ref": 7}),
    ("chat", "chat", "enter.done", {"type": "enter", "ref": 7}),
    ("chat", "chat", "ping", {"type": "ping", "ref": "a"}),
    ("chat", "chat", "Pong", {"type": "pong", "ref": "a"}),
    ("chat", "chat", "Said", {"type": "said", "id": 1}),
    ("chat", "chat", "Posted", {"type": "posted", "sender": PERSON, "msg": "hi"}),
    ("chat", "chat", "Posted", {"type": "posted", "sender": PERSON, "msg": "hi", "room": "r", "seq": 3}),
    ("chat", "chat", "error", {"type": "error", "code": "unknown_event", "errors": [], "ref": 7}),
    ("chat", "chat", "error", {"type": "error", "code": "internal_error", "errors": [{"type": "x", "loc": ["a", 1]}]}),
    ("chat", "chat", "error.full", {"type": "error", "code": "full", "errors": [{"type": "full", "msg": "no"}]}),
    ("chat", "chat", "resume", {"type": "resume", "rooms": {"doc:1": {"seq": 141, "epoch": "a"}}}),
    ("chat", "chat", "resumed", {"type": "resumed", "rooms": {"doc:9": {"recovered": False, "code": "forbidden"}}}),
    ("chat", "chat", "room_position", {"type": "room_position", "room": "doc:1", "seq": 141, "epoch": "a"}),
    ("chat", "chat", "gap", {"type": "gap", "room": None, "dropped": 12}),
    ("chat", "chat", "presence_state", {"type": "presence_state", "room": "r", "members": {"id-1": {"name": "ada"}}}),
    ("chat", "chat", "presence_diff", {"type": "presence_diff", "room": "r", "joins": {"i": 1}, "leaves": {}}),
    ("shop", "shop", "buy", BUY),
    ("shop", "shop", "Order", {"type": "bought", "id": 1, "lines": [{"symbol": "X", "price": "1.5"}], "ref": 7}),
    (
        "shop",
        "shop",
        "error.sold_out",
        {"type": "error", "code": "sold_out", "errors": [{"ctx": {"left": 3}}], "ref": 7},
    ),
    ("shop", "shop", "ticks", {"type": "ticks", "symbols": ["X"], "ref": "a"}),
    ("shop", "shop", "Tick", {"type": "tick", "symbol": "X", "price": 1, "at": "2026-01-01T00:00:00Z", "ref": "a"}),
    ("shop", "shop", "complete", {"type": "complete", "ref": "a"}),
    ("shop", "shop", "cancel", {"type": "cancel", "ref": "a"}),
    ("shop", "shop", "import_orders.item", {"type": "item", "ref": 7, "item": {"id": 1, "lines": []}}),
    ("shop", "shop", "more", {"type": "more", "ref": 7, "items": 8}),
    ("shop", "shop", "Confirm", {"type": "confirm", "order": {"id": 1, "lines": []}, "ref": "s:1"}),
    ("shop", "shop", "Confirm.reply", {"type": "reply", "ref": "s:1", "answer": True}),
    ("shop", "shop", "Locate.reply", {"type": "reply", "ref": "s:1", "answer": [1, 2.5]}),
    ("shop", "shop", "refusal", {"type": "reply", "ref": "s:1", "error": {"code": "declined", "message": "no"}}),
    ("shop", "admin", "close", {"kind": "close", "reason": "late", "id": 7}),
    ("shop", "admin", "close.done", {"kind": "close", "id": 7}),
    ("odd", "odd", "patterns", {"type": "patterns", "t1": 1, "ref": 7}),
    ("odd", "odd", "map", {"type": "map", "a": 1, "ref": "x"}),
    ("odd", "odd", "few", {"type": "few", "a": "", "b": "", "ref": "x"}),
    ("odd", "odd", "Anything", {"type": "any", "whatever": [1], "ref": 7}),
    ("odd", "odd", "gr__e___b", {"type": "größe/é b", "ä": "", "": "", "1st": "", "$ref": "x"}),
]


@pytest.mark.parametrize(("name", "channel", "message", "frame"), FRAMES)
def test_frames_are_what_their_message_says(name: str, channel: str, message: str, frame: dict[str, Any]) -> None:
    """What the docs of the protocol show passes the payload's schema."""
    payload(documented(name), channel, message).validate(frame)


@pytest.mark.parametrize(("name", "channel", "message", "frame"), FRAMES)
def test_frames_are_one_message_only(name: str, channel: str, message: str, frame: dict[str, Any]) -> None:
    """AsyncAPI: each message of a channel is valid against one of its messages, and only one."""
    keys = documented(name)["channels"][channel]["messages"]
    found = [key for key in keys if payload(documented(name), channel, key).is_valid(frame)]
    overlapping = {"any", "Anything"}  # whatever it is, told apart by who sends it
    assert found == [message] or set(found) <= overlapping


@pytest.mark.parametrize(
    ("name", "channel", "message", "frame"),
    [
        ("chat", "chat", "ping", {}),
        ("chat", "chat", "ping", {"type": "pong"}),
        ("chat", "chat", "ping", {"type": "ping", "ref": None}),
        ("chat", "chat", "ping", {"type": "ping", "ref": "x" * 65}),
        ("chat", "chat", "ping", {"type": "ping", "more": 1}),
        ("chat", "chat", "enter.done", {"type": "enter"}),
        ("chat", "chat", "Typing", {"type": "typing", "room": "r", "users": [], "ref": 7}),
        ("chat", "chat", "error", {"type": "error", "code": "sold_out", "errors": []}),
        ("shop", "shop", "ticks", {"type": "ticks", "symbols": ["X"]}),
        ("shop", "shop", "error.sold_out", {"type": "error", "code": "sold_out", "errors": [{"ctx": {"left": "3"}}]}),
        ("shop", "shop", "Locate.reply", {"type": "reply", "ref": "s:1", "answer": [1, 2, 3]}),
        ("shop", "admin", "close", {"type": "close", "reason": "late"}),
        ("odd", "odd", "patterns", {"type": "patterns", "t1": "1"}),
        ("odd", "odd", "map", {"type": "map", "A": 1}),
        ("odd", "odd", "few", {"type": "few"}),
        ("odd", "odd", "few", {"type": "few", "a": "", "b": "", "c": "", "ref": 7}),
    ],
)
def test_other_frames_are_refused(name: str, channel: str, message: str, frame: dict[str, Any]) -> None:
    """A frame without its type, with keys that nobody knows, or a ref that is none."""
    assert not payload(documented(name), channel, message).is_valid(frame)


def test_the_protocols_messages_are_there_only_where_they_are_used() -> None:
    """An endpoint without rooms, streams, uploads and calls reserves none of their names."""
    described = document(one(Receive("say", fields("msg", msg=STRING))))
    assert list(described["channels"]["t"]["messages"]) == ["say"]
    assert list(described["operations"]) == ["t.receive.say"]


def test_an_error_is_told_where_it_may_come() -> None:
    """The package's codes in one message for all, an application's own with the events that raise them."""
    operations = document(SHOP)["operations"]

    def answers(event: str) -> set[str]:
        messages = operations[f"shop.receive.{event}"]["reply"]["messages"]
        return {each["$ref"].rpartition("/")[2] for each in messages if "error" in each["$ref"]}

    assert answers("buy") == {"error", "error.sold_out", "error.too_late"}
    assert answers("pay") == {"error"}


def test_answers_belong_to_their_request_by_the_ref() -> None:
    """`correlationId` of each message that has one; pushes have none."""
    messages = document(SHOP)["channels"]["admin"]["messages"]
    assert messages["close"]["correlationId"] == {"location": "$message.payload#/id"}
    assert messages["close.done"]["correlationId"] == {"location": "$message.payload#/id"}
    assert "correlationId" not in messages["gap"]


def test_a_message_that_answers_and_is_pushed_is_one() -> None:
    """Its ref is optional, since a push has none."""
    posted = Message("posted", fields("msg", msg=STRING), name="Posted")
    api = one(Receive("say", fields(), replies=(posted,)), pushes=(posted,))
    for frame in ({"type": "posted", "msg": "hi"}, {"type": "posted", "msg": "hi", "ref": 7}):
        payload(document(api), "t", "Posted").validate(frame)


def test_fields_of_a_closed_component_are_joined_with_the_envelope() -> None:
    """The component stays as it is, for who nests it."""
    described = document(CHAT)
    assert described["components"]["schemas"]["Said"] == CHAT.components["Said"]
    assert described["components"]["schemas"]["chat.Said"]["required"] == ["type", "id"]


def test_a_union_of_objects_has_the_envelope_in_each() -> None:
    """`Shape` is a circle or a square: so is the message."""
    api = one(Receive("draw", ref("Shape")))
    described = payload(document(replace(api, components=ODD.components)), "t", "draw")
    described.validate({"type": "draw", "kind": "circle", "r": 1, "ref": 7})
    described.validate({"type": "draw", "kind": "square", "a": 1})
    assert not described.is_valid({"type": "draw", "kind": "square", "r": 1})


def test_the_handshake_is_a_binding() -> None:
    """Query, headers and subprotocols are the WebSocket binding's, the path's parameters the address's."""
    shop = document(SHOP)["channels"]["shop"]
    assert shop["address"] == "/shops/{shop}"
    assert shop["parameters"]["shop"]["enum"] == ["north", "south"]
    binding = shop["bindings"]["ws"]
    assert binding["query"]["required"] == ["limit"]
    assert binding["headers"]["properties"]["Sec-WebSocket-Protocol"]["enum"] == ["shop.v1", "shop.v2"]


def test_security_is_asked_of_every_event() -> None:
    """Any of the channel's schemes is enough."""
    described = document(SHOP)
    schemes = [each["$ref"] for each in described["operations"]["shop.receive.buy"]["security"]]
    assert schemes == ["#/components/securitySchemes/token", "#/components/securitySchemes/bearer"]
    assert described["components"]["securitySchemes"] == SHOP.security


def test_places_of_an_array_are_written_as_asyncapi_reads_them() -> None:
    """Its schemas are draft-07, where 2020-12's `items: false` would refuse every item."""
    position = document(SHOP)["components"]["schemas"]["Position"]
    assert position["items"] == [{"type": "number"}, {"type": "number"}]
    assert position["additionalItems"] is False


# --- bytes


@each_api
def test_the_same_api_is_the_same_bytes(api: Api) -> None:
    """Components in another order are the same API."""
    turned = replace(api, components=dict(reversed(api.components.items())))
    assert dump(turned) == dump(api)
    assert json.loads(dump(api)) == document(api)


def test_text_stays_readable_and_is_utf_8() -> None:
    """Umlauts are themselves; half of a surrogate pair, which UTF-8 cannot hold, is an escape."""
    api = one(Receive("say", fields(), description="grüße \ud800"))
    written = dump(api)
    assert "grüße".encode() in written
    assert json.loads(written) == document(api)


# --- what cannot be described


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "string"}, "an object"),
        ({"anyOf": [fields(), {"type": "integer"}]}, "an object"),
        (ref("Missing"), "Missing"),
        (ref("Itself"), "of itself"),
        (False, "not the schema of an object"),
    ],
)
def test_a_message_that_is_no_object_is_refused(schema: Any, said: str) -> None:
    """The error names channel and message."""
    api = replace(one(Receive("say", schema)), components={"Itself": ref("Itself")})
    with pytest.raises(ContractError, match=f"channel 't', message 'say': .*{said}"):
        document(api)


@pytest.mark.parametrize("default", [float("nan"), float("inf"), {1, 2}])
def test_what_json_has_no_words_for_is_refused(default: Any) -> None:
    """A document never holds `Infinity`, which no other reader takes."""
    with pytest.raises(ContractError, match="T: "):
        dump(one(Receive("say", fields(msg={"default": default}))))


def test_two_errors_of_one_code_are_two_messages() -> None:
    """They differ in their details; neither replaces the other."""
    errors = (Error("full", details=fields(left=STRING)), Error("full", details=fields(right=STRING)))
    api = one(Receive("a", fields(), errors=errors[:1]), Receive("b", fields(), errors=errors[1:]))
    assert {"error.full", "error.full_"} <= document(api)["channels"]["t"]["messages"].keys()
