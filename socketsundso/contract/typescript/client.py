"""
The TypeScript client of an API, as the text of one file: its types, a class for each channel, and what runs them.

    const chat = new Chat("wss://example.com/ws");
    const said = await chat.say({ room: "lobby", msg: "hi" });          // { type: "said"; id: number }

In this order: the runtime, `runtime.ts`, which is TypeScript of its own; the components that are used; the
application's errors; for each channel its parameters, pushes, calls and class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from socketsundso.contract.identifiers import (
    ECMASCRIPT_KEYWORDS,
    ECMASCRIPT_OBJECT,
    TYPESCRIPT_TYPES,
    Scope,
    as_it_is,
    pascal,
)
from socketsundso.contract.model import Api, Channel, Error, Schema
from socketsundso.contract.speaking import refuse_unspeakable
from socketsundso.contract.typescript.channels import CALLED, File, Part
from socketsundso.contract.typescript.compact import compact
from socketsundso.contract.typescript.types import Types, comment, quoted, referred
from socketsundso.errors import ContractError

HEADER = """\
/* eslint-disable */
// Written by `socketsundso client typescript`, not to be edited.

// ---- The runtime, compacted: contract/typescript/runtime.ts of socketsundso.
"""
OF_THE_API = "// ---- The API.\n"

FIXED = "declare readonly "
ERROR_FIELDS = ECMASCRIPT_OBJECT | {"name", "message", "stack", "cause"}
ERROR_FIELDS |= {"code", "errors", "details", "retryAfterMs", "event"}
"""What every error has already: details of these names are in `details` alone."""


def typescript(api: Api) -> str:
    """
    The file. The same API gives the same text.

    Raises `ContractError` for names that cannot be told apart, and for schemas that refer to nothing, or to themselves.
    """
    refuse_unspeakable(api)
    errors = _own_errors(api)
    file = _named(api, errors)
    parts = [Part(channel, file) for channel in api.channels]
    written = [
        *(file.types.declaration(name, api.components[component]) for component, name in file.components.items()),
        *(_error(file, error) for error in errors.values()),
        *(text for part in parts for text in part.texts()),
    ]
    used = {region for part in parts for region in part.regions()}
    return "\n".join((HEADER, compact(runtime(), used=used, keep=CALLED), OF_THE_API, *written))


@cache
def runtime() -> str:
    return resources.files("socketsundso.contract.typescript").joinpath("runtime.ts").read_text(encoding="utf-8")


@cache
def _taken() -> frozenset[str]:
    """What no type may be called, since the runtime means something else by it."""
    code = re.sub(r'/\*.*?\*/|//[^\n]*|"[^"\n]*"', "", runtime(), flags=re.DOTALL)
    return frozenset(re.findall(r"\b[A-Z]\w*", code)) | ECMASCRIPT_KEYWORDS | TYPESCRIPT_TYPES


def _named(api: Api, errors: Mapping[str, Error]) -> File:
    """
    Every type that has a name of its own. An error whose component has its name, too, ends with `Error`, unless its
    details are all that the component is for: then it is the class alone.
    """
    scope = Scope("type", as_it_is, _taken())
    classes = {each.name: scope.add(pascal(each.name), f"channel {each.name!r}") for each in api.channels}
    used = _used(api, errors.values())
    components = {name: scope.add(name, f"component {name!r}") for name in sorted(used)}
    names = {}
    for code, error in errors.items():
        name = as_it_is(error.name or pascal(code))
        names[code] = scope.add(name if scope.is_free(name) else f"{name}Error", f"error {code!r}")
    return File(api, scope, Types(components), classes, components, names)


def _own_errors(api: Api) -> dict[str, Error]:
    """The application's own by code, in the order in which they are declared."""
    found: dict[str, Error] = {}
    for channel in api.channels:
        for error in channel.all_errors:
            if (error.details is not None or error.name) and found.setdefault(error.code, error) != error:
                raise ContractError(f"error {error.code!r} is declared twice, and not alike; rename one of them")
    return found


def _error(file: File, error: Error) -> str:
    fields = [f"{FIXED}code: {quoted(error.code)}"]
    if error.details is not None:
        details = file.resolved(error.details)
        direct = {name: each for name, each in details.get("properties", {}).items() if name not in ERROR_FIELDS}
        fields.append(f"{FIXED}details: {file.types.of(details, '  ')}")
        fields += file.types.fields({**details, "properties": direct}, "  ", FIXED)
    body = "".join(f"  {field};\n" for field in fields)
    return f"{comment(error.description)}export class {file.errors[error.code]} extends RequestError {{\n{body}}}\n"


def _used(api: Api, errors: Iterable[Error]) -> set[str]:
    """The components that something refers to. Raises `ContractError` for one that is not there, or only itself."""
    found: set[str] = set()
    waiting = [(f"channel {channel.name!r}", schema) for channel in api.channels for schema in _schemas(channel)]
    waiting += [(f"error {each.code!r}", _details(api, each)) for each in errors if each.details is not None]
    while waiting:
        where, schema = waiting.pop()
        for name in referred(schema):
            if name not in api.components:
                raise ContractError(f"{where} refers to the component {name!r}, which the contract does not have")
            if name not in found:
                found.add(name)
                waiting.append((f"component {name!r}", api.components[name]))
    for name in found:
        _refuse_circle(api, name)
    return found


def _schemas(channel: Channel) -> Iterator[Any]:
    for message in (*channel.pushes, *(call.message for call in channel.calls)):
        yield message.schema
    for call in channel.calls:
        yield call.answer
    for parameter in channel.parameters:
        yield parameter.schema
    for receive in channel.receives:
        yield receive.schema
        yield receive.uploads
        for reply in receive.replies:
            yield reply.schema


def _details(api: Api, error: Error) -> Schema:
    """What its class has: of a component the fields, since the class stands for it."""
    names = list(referred(error.details, direct=True))
    return api.components.get(names[0], {}) if names else error.details or {}


def _refuse_circle(api: Api, name: str) -> None:
    """A type may be in a field of its own, not be its own alternative."""
    found, waiting = set(), [name]
    while waiting:
        for each in referred(api.components[waiting.pop()], direct=True):
            if each == name:
                raise ContractError(f"component {name!r} is defined by nothing but itself; give it a field or an item")
            if each not in found:
                found.add(each)
                waiting.append(each)
