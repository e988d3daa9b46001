"""What is published of a type is what the endpoint takes and sends: for a table of annotations, by three validators."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from socketsundso import Handler, WebSocketHandlingEndpoint
from socketsundso.contract.schemas.components import PREFIX, Components
from tests.contract.samples import BIG, TABLE, Case
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


def test_ajv_and_zod_agree() -> None:
    """The same values pass, and the same near-misses are refused, in JavaScript."""
    if shutil.which("node") is None or not (FOLDER / "node_modules/zod").is_dir():
        pytest.skip(f"ajv and zod want Node and {FOLDER}, which .ci/setup-e2e fills")
    schemas = []
    for case in TABLE:
        taken, sent = published_of(case)
        accepted = [value for value in case.accepted if value != BIG]
        schemas.append({"name": repr(case), "schema": taken, "accepted": accepted, "refused": case.refused})
        values = [{"value": value} for value in echoed(TABLE.index(case)) if value != BIG]
        schemas.append({"name": f"sent {case!r}", "schema": sent, "accepted": values, "refused": [{}]})
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("validators.mjs")), str(FOLDER)],
        input=json.dumps({"schemas": schemas, "formats": FORMATS}),
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout) == []
