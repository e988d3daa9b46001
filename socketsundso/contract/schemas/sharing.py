"""
Which definitions are one: a class that is read and written in one way is one component, one that is not is two.

    {"validation m.Item:1": {...}, "serialization m.Item:1": {...}}   ->   the same number for both, if they are alike

Two are alike if their schemas are, and all that these refer to. Linear in the size of the schemas: where two are found
to differ, only those are looked at again that refer to them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any


def groups(definitions: Mapping[str, Any], name_of: Callable[[str], Hashable]) -> dict[str, int]:
    """For each definition the number of its group. Only those of one name can be alike."""
    outlines = {ref: _outline(schema) for ref, schema in definitions.items()}
    users: dict[str, set[str]] = defaultdict(set)
    for ref, (_, referred) in outlines.items():
        for each in referred:
            users[each].add(ref)
    numbers = _numbered({ref: (name_of(ref), outlines[ref][0]) for ref in definitions})
    members: dict[int, list[str]] = defaultdict(list)
    for ref, number in numbers.items():
        members[number].append(ref)
    todo = list(members)
    while todo:
        told_apart: dict[Any, list[str]] = defaultdict(list)
        number = todo.pop()
        for ref in members[number]:
            told_apart[tuple(numbers.get(each) for each in outlines[ref][1])].append(ref)
        members[number], *others = told_apart.values()
        for other in others:
            members[len(members)] = other
            for ref in other:
                numbers[ref] = len(members) - 1
            todo += {numbers[user] for ref in other for user in users[ref]}
    return numbers


def _numbered(keys: Mapping[str, Hashable]) -> dict[str, int]:
    known: dict[Hashable, int] = {}
    return {ref: known.setdefault(key, len(known)) for ref, key in keys.items()}


def _outline(schema: Any) -> tuple[str, list[str]]:
    """A schema as text without what it refers to, and that in order."""
    return json.dumps(_without_refs(schema), sort_keys=True), list(refs_within(schema))


def _without_refs(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {key: None if _is_ref(key, each) else _without_refs(each) for key, each in schema.items()}
    return list(map(_without_refs, schema)) if isinstance(schema, list) else schema


def refs_within(schema: Any) -> Iterator[str]:
    """All that it refers to, in the order of its sorted keys."""
    if isinstance(schema, Mapping):
        for key in sorted(schema):
            if _is_ref(key, schema[key]):
                yield schema[key]
            else:
                yield from refs_within(schema[key])
    elif isinstance(schema, list):
        for each in schema:
            yield from refs_within(each)


def refs_of_choices(schema: Mapping[str, Any]) -> list[str]:
    """What it stands for, or each of its alternatives does."""
    choices = [schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())]
    return [each["$ref"] for each in choices if "$ref" in each]


def _is_ref(key: str, value: Any) -> bool:
    """A property may have this name, too."""
    return key == "$ref" and isinstance(value, str)


def referring(definitions: Mapping[str, Any], wanted: set[str]) -> set[str]:
    """These, and what refers to one of them, over however many others."""
    found = set(wanted)
    while more := {ref for ref, each in definitions.items() if ref not in found and found & set(refs_within(each))}:
        found |= more
    return found


def renamed(schema: Any, other: Mapping[str, str]) -> Any:
    """The schema with other refs."""
    if isinstance(schema, Mapping):
        return {key: other.get(v, v) if _is_ref(key, v) else renamed(v, other) for key, v in schema.items()}
    return [renamed(each, other) for each in schema] if isinstance(schema, list) else schema
