"""
What the handshake takes, in AsyncAPI's words: parameters of the address, query and headers of the `ws` binding.

AsyncAPI's parameters are text, its bindings have no cookies, and neither keeps the order: where that loses something,
the parameters are also told as they are, in `x-socketsundso`. Subprotocols are the header `Sec-WebSocket-Protocol`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from socketsundso.contract.asyncapi.drafts import draft_07
from socketsundso.contract.asyncapi.nodes import Node
from socketsundso.contract.model import Parameter, Place, Schema

SUBPROTOCOL = "Sec-WebSocket-Protocol"
EXTENSION = "x-socketsundso"


def written(parameters: tuple[Parameter, ...], subprotocols: tuple[str, ...]) -> dict[str, Any]:
    """The part of a channel that tells of its handshake: `parameters`, `bindings`, `x-socketsundso`."""
    part: dict[str, Any] = {}
    if places := {each.name: _text(each) for each in parameters if each.place == "path"}:
        part["parameters"] = places
    query = _object(each for each in parameters if each.place == "query")
    headers = _object(each for each in parameters if each.place == "header")
    if subprotocols:
        headers.setdefault("type", "object")
        headers.setdefault("properties", {})[SUBPROTOCOL] = {"type": "string", "enum": list(subprotocols)}
    if binding := {key: value for key, value in (("query", query), ("headers", headers)) if value}:
        part["bindings"] = {"ws": {"method": "GET"} | binding | {"bindingVersion": "0.1.0"}}
    if read(Node(part)) != (parameters, subprotocols):
        part[EXTENSION] = {"parameters": [_whole(each) for each in parameters]}
    return part


def read(channel: Node) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """The parameters of a channel's handshake, and its subprotocols."""
    binding = channel.at("bindings").at("ws")
    plain = [_of_address(name, each.followed()) for name, each in channel.at("parameters").members()]
    subprotocols: tuple[str, ...] = ()
    places: tuple[Place, ...] = ("query", "header")
    for place in places:
        schema = binding.at("headers" if place == "header" else place)
        required = schema.texts("required")
        for name, each in schema.at("properties").members():
            if place == "header" and name == SUBPROTOCOL and each.member("enum"):
                subprotocols = each.texts("enum")
            else:
                plain.append(_described(name, place, each.schema(), name in required))
    exact = channel.at(EXTENSION).member("parameters")
    return tuple(map(_exact, exact.entries()) if exact else plain), subprotocols


def _text(parameter: Parameter) -> dict[str, Any]:
    """AsyncAPI's parameter of an address: its values are text."""
    schema = parameter.schema
    told: dict[str, Any] = {"description": parameter.description} if parameter.description else {}
    for key in ("enum", "examples"):
        if values := [each for each in schema.get(key, ()) if isinstance(each, str)]:
            told[key] = values
    return told | ({"default": schema["default"]} if isinstance(schema.get("default"), str) else {})


def _of_address(name: str, told: Node) -> Parameter:
    schema = {key: list(told.texts(key)) for key in ("enum", "examples") if told.member(key)}
    default = {"default": told.text("default")} if told.member("default") else {}
    return Parameter(name, "path", {"type": "string"} | schema | default, True, told.text("description"))


def _object(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """The schema of a query, or of headers, or nothing where there are none."""
    given = list(parameters)
    if not given:
        return {}
    schema = {"type": "object", "properties": {each.name: _with_words(each) for each in given}}
    required = [each.name for each in given if each.required]
    return schema | {"required": required} if required else schema


def _with_words(parameter: Parameter) -> Any:
    words = {"description": parameter.description} if parameter.description else {}
    return draft_07({**parameter.schema, **words})


def _described(name: str, place: Place, schema: Schema, required: bool) -> Parameter:
    words = str(schema.get("description", ""))
    return Parameter(name, place, {key: each for key, each in schema.items() if key != "description"}, required, words)


def _whole(parameter: Parameter) -> dict[str, Any]:
    told: dict[str, Any] = {"name": parameter.name, "in": parameter.place, "schema": draft_07(parameter.schema)}
    told |= {"required": True} if parameter.required else {}
    return told | ({"description": parameter.description} if parameter.description else {})


def _exact(told: Node) -> Parameter:
    place = told.text("in")
    if place not in ("path", "query", "header", "cookie"):
        raise told.error(f"a parameter is in the path, query, header or cookie, not in {place!r}")
    schema = told.member("schema").schema()
    return Parameter(told.text("name"), cast(Place, place), schema, told.flag("required"), told.text("description"))
