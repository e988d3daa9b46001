"""What a real endpoint sends of the table of annotations, a generated Python client reads, and may send back."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from types import ModuleType

import pytest

from socketsundso.contract.model import Api, Channel, Message, Receive
from socketsundso.contract.python.client import Models
from socketsundso.contract.schemas.components import Components

from .apis import fields
from .clients import load
from .samples import TABLE, Case
from .test_schemas import Echo


@cache
def api() -> Api:
    """An event for each case, which takes its value, and is answered with it."""
    components = Components()
    schemas = [
        (components.incoming(case.annotation), components.outgoing(case.written or case.annotation)) for case in TABLE
    ]
    table = components.table()
    receives = tuple(
        Receive(
            f"case{n}", fields("value", value=taken), (Message(f"case{n}", fields("value", value=sent), f"Case{n}"),)
        )
        for n, (taken, sent) in enumerate(schemas)
    )
    return Api("Cases", "1", (Channel("cases", "/", receives=receives),), table)


@cache
def made(models: Models) -> ModuleType:
    return load(api(), models)


@pytest.mark.parametrize("models", ["msgspec", "pydantic"])
@pytest.mark.parametrize("case", TABLE, ids=repr)
def test_what_the_server_sends_is_read_and_may_be_sent_back(case: Case, models: Models) -> None:
    """By its type; and what the client then writes, the endpoint takes as the same value."""
    module, n = made(models), TABLE.index(case)
    kind, event = getattr(module, f"Case{n}"), getattr(module, f"_CASES__CASE{n}")
    read = module._Readers(frozenset({"type", "ref"}))[kind]
    session = module._Session(module._CASES_CHANNEL, asyncio.Event, max_pushes=1, max_items=1, max_offline=1)
    echo = Echo(case)
    for answer in echo.answers(case.accepted):
        if answer["type"] == "error":
            continue  # of values that no JSON can hold
        value = read(json.dumps(answer).encode()).value
        written = json.loads(session.begin(event, {"value": value}).frame)["value"]
        if echo.answers([answer["value"]]) == [answer] and not _is_open(case):
            assert echo.answers([written]) == [answer]


def _is_open(case: Case) -> bool:
    """Beside its fields it takes any key: those are not kept."""
    return bool(getattr(case.annotation, "model_config", {}).get("extra") == "allow")
