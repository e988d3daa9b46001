"""
A place in a document that anybody may have written: what is asked of it is there in the right type, or `ContractError`.

    Node({"channels": {"chat": {"address": 5}}}).at("channels").at("chat").text("address")
    ContractError: channels/chat/address: a text is expected, not 5
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from socketsundso.contract.asyncapi.drafts import LISTED, NAMED, SINGLE, draft_2020, subschemas
from socketsundso.contract.model import Schema
from socketsundso.errors import ContractError

_MAX_HOPS = 32
"""How many references may lead from one to the next."""
_MAX_SCHEMAS = 100_000

_TYPES = {"string", "integer", "number", "boolean", "null", "array", "object"}
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_TEXTS = ("$ref", "pattern", "format", "title", "description", "contentEncoding", "contentMediaType")


class Node:
    """One value, and where it is; what is missing counts as empty."""

    __slots__ = ("place", "root", "value")

    def __init__(self, value: Any, place: tuple[str, ...] = (), root: Node | None = None) -> None:
        self.value, self.place, self.root = value, place, root or self

    def error(self, said: str) -> ContractError:
        where = "/".join(part if len(part) < 60 else f"{part[:60]}..." for part in self.place)
        return ContractError(f"{where}: {said}" if where else said)

    def __bool__(self) -> bool:
        """Whether something is there."""
        return self.value is not None

    def member(self, key: str) -> Node:
        """The member called `key`, or a Node of None."""
        return Node(self.mapping().get(key), (*self.place, key), self.root)

    def at(self, key: str) -> Node:
        """What the member called `key` is, or leads to."""
        return self.member(key).followed()

    def members(self) -> Iterator[tuple[str, Node]]:
        """An object's members by name."""
        for key in self.mapping():
            if not isinstance(key, str):
                raise self.error(f"a key is a text, not {reprlib.repr(key)}")
            yield key, self.member(key)

    def entries(self) -> Iterator[Node]:
        """A list's entries."""
        for index, entry in enumerate(self._typed(list, "a list") or ()):
            yield Node(entry, (*self.place, str(index)), self.root)

    def text(self, key: str) -> str:
        return str(self.member(key)._typed(str, "a text") or "")

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(str(entry._typed(str, "a text") or "") for entry in self.member(key).entries())

    def flag(self, key: str) -> bool:
        return bool(self.member(key)._typed(bool, "true or false"))

    def schema(self) -> Schema:
        """The value as the schema that it is, in the words of 2020-12. A `$ref` in it is not looked for."""
        _check(self)
        schema = draft_2020(self.value)
        return schema if isinstance(schema, Mapping) else {} if schema else {"not": {}}

    def followed(self) -> Node:
        """What the reference leads to, if it is one."""
        node = self
        for _ in range(_MAX_HOPS):
            # a map of properties may have one that is called $ref
            if not isinstance(node.value, Mapping) or not isinstance(node.value.get("$ref"), str):
                return node
            node = node._target(node.value["$ref"])
        raise self.error("its $ref leads in a circle")

    def _target(self, reference: str) -> Node:
        if not reference.startswith("#/"):
            raise self.error(f"{reprlib.repr(reference)} is not in this document: bundle both into one")
        place = tuple(part.replace("~1", "/").replace("~0", "~") for part in reference[2:].split("/"))
        value = self.root.value
        for part in place:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            raise self.error(f"{reprlib.repr(reference)} leads nowhere")
        return Node(value, place, self.root)

    def mapping(self) -> Mapping[str, Any]:
        """The value, an object."""
        found: Mapping[str, Any] = self._typed(Mapping, "an object") or {}
        return found

    def _typed(self, kind: type, called: str) -> Any:
        if self.value is not None and not isinstance(self.value, kind):
            raise self.error(f"{called} is expected, not {reprlib.repr(self.value)}")
        return self.value


def _check(node: Node) -> None:
    """Whether every keyword of a schema, at any depth, has a value that it may have."""
    waiting, seen = [node.value], 0
    while waiting:
        schema, seen = waiting.pop(), seen + 1
        if seen > _MAX_SCHEMAS:
            raise node.error(f"a schema of more than {_MAX_SCHEMAS} others, or that holds itself")
        if isinstance(schema, bool):
            continue
        if not isinstance(schema, Mapping):
            raise node.error(f"a schema is expected, not {reprlib.repr(schema)}")
        for key, value in schema.items():
            if not _KEYWORDS.get(key, _anything)(value):
                raise node.error(f"{key!r} of a schema cannot be {reprlib.repr(value)}")
        waiting += subschemas(schema)


def _anything(value: Any) -> bool:
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _is_factor(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)


def _are_schemas(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0


def _are_named(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _is_type(value: Any) -> bool:
    types = value if isinstance(value, list) else [value]
    return len(types) > 0 and all(isinstance(each, str) and each in _TYPES for each in types)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_KEYWORDS: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "required": _are_texts,
    "enum": _is_list,
    "examples": _is_list,
    "multipleOf": _is_factor,
    **dict.fromkeys(_TEXTS, _is_text),
    **dict.fromkeys(_COUNTS, _is_count),
    **dict.fromkeys(_NUMBERS, _is_number),
    **dict.fromkeys(SINGLE, _is_schema),
    **dict.fromkeys(LISTED, _are_schemas),
    **dict.fromkeys(NAMED, _are_named),
    "items": lambda value: _is_schema(value) or _are_schemas(value),
}
"""What the value of a keyword has to be; the rest is words for people."""
