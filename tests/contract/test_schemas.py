"""What is published of a type is what the endpoint takes and sends: for a table of annotations, by three validators."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from pydantic import Field

from socketsundso import Handler, WebSocketHandlingEndpoint
from socketsundso.contract import api_of, dump
from socketsundso.contract.asyncapi.drafts import references
from socketsundso.contract.schemas.components import PREFIX, Components
from tests.contract.samples import BIG, TABLE, Case
from tests.enveloping import WIRES, Wire, named
from tests.harness import talk

REGISTERED = frozenset(
    {"$ref", "$defs", "title", "description", "type", "const", "enum", "format", "pattern", "contentEncoding",
     "contentMediaType", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf", "minLength",
     "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "properties",
     "patternProperties", "additionalProperties", "propertyNames", "required", "items", "prefixItems", "anyOf", "allOf",
     "default", "examples", "deprecated", "readOnly", "writeOnly"}
)  # fmt: skip
FORMATS = ["date-time", "date", "time", "email", "uri", "uuid", "ipv4", "ipv6", "hostname"]
FOLDER = Path(os.environ.get("SOCKETSUNDSO_E2E_DIR", Path.home() / ".cache/socketsundso-e2e"))

every_case = pytest.mark.parametrize("case", TABLE, ids=repr)


class Echo:
    """An endpoint that takes a value and sends it back, declared as what it took."""

    def __init__(self, case: Case) -> None:
        annotation = case.annotation
        self.reply = dataclasses.make_dataclass("Reply", [("value", case.written or annotation)])

        async def echo(value: Any) -> Any:
            return self.reply(value)

        # by the alias, a class that could be a whole message is a parameter like any other
        parameter = Annotated[annotation, Field(alias="value")]
        echo.__annotations__ = {"value": parameter, "return": self.reply}
        self.handle = echo

        class App(WebSocketHandlingEndpoint):
            pass

        App.attach_handler(Handler("echo", echo))
        self._app = App

    def answers(self, values: list[Any]) -> list[Any]:
        return talk(self._app, *({"type": "echo", "value": value} for value in values)).answers


@cache
def published(place: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schemas of what is taken and of what is sent for a case of the table, each in one piece."""
    components = Components()
    taken = components.incoming(TABLE[place].annotation)
    sent = components.outgoing(Echo(TABLE[place]).reply)
    table = components.table()
    return whole(taken, table), whole(sent, table)


def whole(schema: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps({**schema, "$defs": table}, allow_nan=False)
    return dict(json.loads(text.replace(PREFIX, "#/$defs/")))


def published_of(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    return published(TABLE.index(case))


@cache
def echoed(place: int) -> list[Any]:
    """What the endpoint sends for the accepted values of a case."""
    case = TABLE[place]
    answers = Echo(case).answers(case.accepted)
    refused = [answer for answer in answers if answer["type"] == "error"]
    assert not refused, refused
    return [answer["value"] for answer in answers]


@every_case
def test_what_is_accepted_is_canonical(case: Case) -> None:
    """An accepted value of the table is sent back in the same form: the table is about canonical ones."""
    assert echoed(TABLE.index(case)) == (case.accepted if case.sent is None else case.sent)


@every_case
def test_what_the_endpoint_refuses_is_refused(case: Case) -> None:
    """A near-miss of the table is refused by the endpoint, too."""
    values = case.refused + case.lax
    assert [a["type"] for a in Echo(case).answers(values)] == ["error"] * len(values)


@every_case
def test_accepted_values_pass_the_published_schema(case: Case) -> None:
    """What the endpoint takes in canonical form, the schema of what clients send takes."""
    validator = Draft202012Validator(published_of(case)[0])
    assert [list(map(str, validator.iter_errors(value))) for value in case.accepted] == [[] for _ in case.accepted]


@every_case
def test_sent_values_pass_the_published_schema(case: Case) -> None:
    """What the endpoint sends, the schema of what it sends takes."""
    validator = Draft202012Validator(published_of(case)[1])
    for value in echoed(TABLE.index(case)):
        assert not list(map(str, validator.iter_errors({"value": value})))


@every_case
def test_near_misses_are_refused_by_the_schema(case: Case) -> None:
    """What the endpoint refuses for its shape, the schema refuses."""
    validator = Draft202012Validator(published_of(case)[0])
    assert [value for value in case.refused if validator.is_valid(value)] == []


@every_case
def test_only_registered_keywords_are_published(case: Case) -> None:
    """No validator meets a word that it does not know."""
    for schema in published_of(case):
        Draft202012Validator.check_schema(schema)
        assert keywords(schema) <= REGISTERED
        assert formats(schema) <= set(FORMATS)


def subschemas(schema: Any) -> list[dict[str, Any]]:
    if not isinstance(schema, dict):
        return []
    below = [schema.get(key) for key in ("items", "additionalProperties", "propertyNames")]
    for key in ("anyOf", "allOf", "prefixItems"):
        below += schema.get(key, [])
    for key in ("properties", "patternProperties", "$defs"):
        below += schema.get(key, {}).values()
    return [schema, *(each for part in below for each in subschemas(part))]


def keywords(schema: Any) -> set[str]:
    return {key for each in subschemas(schema) for key in each}


def formats(schema: Any) -> set[str]:
    return {each["format"] for each in subschemas(schema) if "format" in each}


def complaints(schemas: list[dict[str, Any]]) -> list[str]:
    """What ajv and zod say against schemas, each of which has a name and values that are to be accepted, or refused."""
    if shutil.which("node") is None or not (FOLDER / "node_modules/zod").is_dir():
        pytest.skip(f"ajv and zod want Node and {FOLDER}, which .ci/setup-e2e fills")
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("validators.mjs")), str(FOLDER)],
        input=json.dumps({"schemas": schemas, "formats": FORMATS}),
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return list(json.loads(done.stdout))


def test_ajv_and_zod_agree() -> None:
    """The same values pass, and the same near-misses are refused, in JavaScript."""
    schemas = []
    for case in TABLE:
        taken, sent = published_of(case)
        accepted = [value for value in case.accepted if value != BIG]
        schemas.append({"name": repr(case), "schema": taken, "accepted": accepted, "refused": case.refused})
        values = [{"value": value} for value in echoed(TABLE.index(case)) if value != BIG]
        schemas.append({"name": f"sent {case!r}", "schema": sent, "accepted": values, "refused": [{}]})
    assert complaints(schemas) == []


# ---- the same within the frames of each envelope, as the document has them

SAMPLE = TABLE[::6]


class Enveloped:
    """One endpoint with an event for each case of the sample, in an envelope; and what its document says of them."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        app: Any = type("App", (WebSocketHandlingEndpoint,), {"envelope": wire.envelope})
        for number, case in enumerate(SAMPLE):
            app.attach_handler(Handler(f"echo{number}", Echo(case).handle))
        self.app = app
        self._document = json.loads(dump(api_of(app)))

    def schema(self, message: str) -> dict[str, Any]:
        """The payload of a message, in one piece."""
        reference = self._document["channels"]["app"]["messages"][message]["payload"]
        table, used, waiting = self._document["components"]["schemas"], {}, [reference]
        while waiting:
            for each in references(waiting.pop()):
                name = each.removeprefix(PREFIX)
                if name not in used:
                    used[name] = table[name]
                    waiting.append(table[name])
        return dict(json.loads(json.dumps({**reference, "definitions": used}).replace(PREFIX, "#/definitions/")))

    def taken(self, number: int, case: Case) -> tuple[list[Any], list[Any]]:
        """Whole frames that are right and wrong: for what is in them, and for what they are."""
        event, write = f"echo{number}", self.wire.build
        accepted = [value for value in case.accepted if value != BIG]
        right = [write(event, {"value": value}, ref) for value in accepted for ref in (None, 7, "a")]
        wrong = [write(event, {"value": value}, 1) for value in case.refused]
        if accepted:
            data = {"value": accepted[0]}
            wrong += [write("other", data, 1), write(event, data, 1.5), write(event, data, {}), None, [], {}, "text"]
            wrong += [write(event, "text", 1)] if self.wire.place else []
            whole = write(event, data, 1)
            wrong.append([*whole, 1] if isinstance(whole, list) else {**whole, "other": 1})
        return right, wrong

    def sent(self, number: int, case: Case) -> list[Any]:
        frames = (self.wire.build(f"echo{number}", {"value": value}, 7) for value in case.accepted if value != BIG)
        return talk(self.app, *map(json.dumps, frames)).answers

    def judged(self) -> Iterator[dict[str, Any]]:
        """What there is to be judged, as `complaints` takes it."""
        for number, case in enumerate(SAMPLE):
            right, wrong = self.taken(number, case)
            event = f"echo{number}"
            yield {"name": f"{event} {case!r}", "schema": self.schema(event), "accepted": right, "refused": wrong}
            sent = self.sent(number, case)
            wrong = [None, self.wire.build("other", {"value": case.accepted[0]}, 7), self.wire.build(event, {}, 7)]
            schema = self.schema(f"Echo{number}Reply")
            yield {"name": f"sent {event} {case!r}", "schema": schema, "accepted": sent, "refused": wrong}


@cache
def enveloped(wire: Wire) -> list[dict[str, Any]]:
    return [{**each, "draft": "draft-07"} for each in Enveloped(wire).judged()]


@pytest.mark.parametrize("wire", WIRES, ids=named)
def test_frames_pass_the_payloads_of_the_document(wire: Wire) -> None:
    """What clients write and what the server answers, whole; the endpoint refuses what they refuse."""
    for each in enveloped(wire):
        validator = Draft7Validator(each["schema"])
        for frame in each["accepted"]:
            assert not list(map(str, validator.iter_errors(frame))), (each["name"], frame)
        assert [frame for frame in each["refused"] if validator.is_valid(frame)] == [], each["name"]


@pytest.mark.parametrize("wire", WIRES, ids=named)
def test_the_endpoint_refuses_what_the_payloads_refuse(wire: Wire) -> None:
    """Wrong fields, another name, a ref that is none, other keys, other shapes."""
    served = Enveloped(wire)
    for number, case in enumerate(SAMPLE):
        right, wrong = served.taken(number, case)
        answers = [wire.read(each).type for each in talk(served.app, *map(json.dumps, [*right, *wrong])).answers]
        assert answers == [f"echo{number}"] * len(right) + ["error"] * len(wrong)


def test_ajv_and_zod_agree_on_whole_frames() -> None:
    """In every envelope."""
    judged = [{**each, "name": f"{wire.name}: {each['name']}"} for wire in WIRES for each in enveloped(wire)]
    assert complaints(judged) == []
