"""
Whether everything that one JSON Schema permits is permitted by another: what stands in the way, and where.

    Containment({}, {}).obstacles({"type": "number"}, {"type": "integer"})
    -> [Obstacle(path=(), keyword="type", given="a number", taken="an integer")]

No obstacle is a proof, an obstacle is none: where it cannot be told, or takes too long to tell, there is one. What is
compared is what values mean to the two sides, so two things are read as people mean them:

* A record (an object that names its properties, and neither permits nor refuses others) gives no others.
* Who ignores what it does not know (`ignores`) takes records with more properties than it names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from socketsundso.contract.asyncapi import component_name, references
from socketsundso.contract.comparing.bounds import LONE, most_items
from socketsundso.contract.comparing.judging import ANNOTATIONS, judge, matches, same, types_of
from socketsundso.contract.model import Schema

_MAX_STEPS = 20_000
_MAX_TOLD = 8
_FINITE: dict[str, list[Any]] = {"null": [None], "boolean": [True, False]}
_INFINITE = ("number", "string", "array", "object")
_CALLED = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "string": "a text",
    "array": "a list",
    "object": "an object",
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What one side may give, and what the other takes there: in words, and as the keyword has it in their schemas."""

    path: tuple[str, ...]
    keyword: str
    given: str
    taken: str
    inner: Any = None
    outer: Any = None


class _Unknown(Exception):
    """It cannot be told within reason."""


class Containment:
    """Schemas that refer to the components `inner`, and whether they are within others that refer to `outer`."""

    def __init__(self, inner: Mapping[str, Schema], outer: Mapping[str, Schema], *, ignores: bool = False) -> None:
        self._inner, self._outer, self._ignores = inner, outer, ignores
        self._unchanged = _unchanged(inner, outer)
        self._steps = 0
        # pairs that are being compared, and how deep in the value: deeper down they are taken for granted, which is
        # induction over the value
        self._assumed: dict[tuple[str, str], int] = {}

    def obstacles(self, inner: Schema, outer: Schema) -> list[Obstacle]:
        """Why not all of `inner` is in `outer`; each place and keyword once."""
        self._steps = 0
        found: dict[tuple[tuple[str, ...], str], list[Obstacle]] = {}
        try:
            for each in self._obstacles(inner, outer, ()):
                found.setdefault((each.path, each.keyword), []).append(each)
        except (_Unknown, RecursionError):
            return [Obstacle((), "", "what is too large to compare", "the same")]
        return [_together(each) for each in found.values()]

    def _obstacles(self, inner: Any, outer: Any, path: tuple[str, ...]) -> list[Obstacle]:
        if inner is False or outer is True:
            return []
        pair = (_text(inner), _text(outer))
        if pair[0] == pair[1] and self._unchanged.issuperset(map(component_name, references(inner))):
            return []
        if pair in self._assumed:
            if self._assumed[pair] < len(path):
                return []
            raise _Unknown  # a schema that is itself
        self._step()
        self._assumed[pair] = len(path)
        try:
            return list(self._compared(inner, outer, path))
        finally:
            del self._assumed[pair]

    def _compared(self, inner: Any, outer: Any, path: tuple[str, ...]) -> Iterator[Obstacle]:
        given = list(self._alternatives(inner, self._inner))
        is_anything = {each.get("type") for each in given}.issuperset(_INFINITE)
        for demand in self._conjuncts(outer, self._outer):
            types = types_of(demand)
            if is_anything and types is not None and not {*_INFINITE} <= {*types}:
                yield Obstacle(path, "type", "anything", _called(types), None, demand["type"])
            else:
                yield from chain.from_iterable(self._demanded(each, demand, path) for each in given)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise _Unknown

    # --- schemas taken apart

    def _conjuncts(self, schema: Any, components: Mapping[str, Schema]) -> Iterator[Schema]:
        """What a schema demands, all of it: keywords without `$ref` and `allOf`."""
        waiting = [schema]
        while waiting:
            self._step()
            schema = waiting.pop()
            if schema is False:
                yield {"not": {}}
            if not isinstance(schema, Mapping):
                continue
            if "$ref" in schema:
                name = component_name(schema["$ref"])
                if name not in components:
                    raise _Unknown
                waiting.append(components[name])
            waiting += schema.get("allOf", ())
            own = {key: each for key, each in schema.items() if key not in ("$ref", "allOf", *ANNOTATIONS)}
            if "const" in own:
                own = _met(own, {"enum": [own.pop("const")]})
            if own:
                yield own

    def _alternatives(self, schema: Any, components: Mapping[str, Schema]) -> Iterator[Schema]:
        """
        What a value of the schema may be, one of it: `{"enum": [...]}`, or keywords with one `type`.

        It may be more than the schema says, never less.
        """
        whole: Schema = {}
        for part in self._conjuncts(schema, components):
            whole = _met(whole, part)
        for union in ("anyOf", "oneOf"):
            if union in whole:
                rest = {key: each for key, each in whole.items() if key != union}
                for branch in whole[union]:
                    yield from self._alternatives({"allOf": [branch, rest]}, components)
                return
        if whole.get("not") in ({}, True) and "not" in whole:
            return
        yield from _by_type(whole, components)

    # --- one alternative, one demand

    def _demanded(self, given: Schema, demand: Schema, path: tuple[str, ...]) -> Iterator[Obstacle]:
        if "enum" in given:
            yield from self._of_values(given["enum"], demand, path)
            return
        kind = given["type"]
        types = types_of(demand)
        if types is not None and not ({kind, "number" if kind == "integer" else kind} & set(types)):
            yield Obstacle(path, "type", _CALLED[kind], _called(types), kind, demand["type"])
            return
        if "enum" in demand:
            yield Obstacle(path, "enum", _CALLED[kind], _values(demand["enum"]), None, demand["enum"])
        for keyword, said in demand.items():
            if keyword in _UNIONS:
                yield from _UNIONS[keyword](self, given, said, path)
            elif keyword in LONE:
                applies, compared = LONE[keyword]
                words = compared(given, keyword, said) if applies == ("number" if kind == "integer" else kind) else None
                if words is not None:
                    yield Obstacle(path, keyword, *words, given.get(keyword), said)
            elif keyword not in _ELSEWHERE:
                yield Obstacle(path, keyword, "what cannot be compared", f"what its {keyword!r} says", None, said)
        if kind == "array":
            yield from self._of_items(given, demand, path)
        if kind == "object":
            yield from self._of_members(given, demand, path)

    def _of_values(self, values: list[Any], demand: Schema, path: tuple[str, ...]) -> Iterator[Obstacle]:
        refused = [each for each in values if judge(each, demand, self._outer) is not True]
        if refused:
            types = types_of(demand)
            by_type = types is not None and all(judge(each, {"type": types}, {}) is False for each in refused)
            keyword = "type" if by_type else "enum" if "enum" in demand else next(iter(demand))
            taken = _called(types) if by_type and types else _demand(demand)
            yield Obstacle(path, keyword, _values(refused), taken, values, demand.get(keyword))

    def _any_of(self, given: Schema, branches: list[Any], path: tuple[str, ...]) -> list[Obstacle]:
        attempts = []
        for branch in branches:
            found = self._obstacles(given, branch, path)
            if not found:
                return []
            attempts.append(found)
        # the branch that is meant: what it does not take is further within
        within = [each for each in attempts if all(len(one.path) > len(path) for one in each)]
        if len(within) == 1:
            return within[0]
        taken = " or ".join(dict.fromkeys(_demand(branch) for branch in branches))
        return [Obstacle(path, "anyOf", _demand(given), taken, None, branches)]

    def _one_of(self, given: Schema, branches: list[Any], path: tuple[str, ...]) -> list[Obstacle]:
        found = self._any_of(given, branches, path)
        fitting = [] if found else [each for each in branches if not self._are_apart(given, each)]
        if len(fitting) > 1:
            return [Obstacle(path, "oneOf", _demand(given), "exactly one of several", None, branches)]
        return found

    def _none_of(self, given: Schema, refused: Any, path: tuple[str, ...]) -> list[Obstacle]:
        if self._are_apart(given, refused):
            return []
        return [Obstacle(path, "not", _demand(given), f"nothing that is {_demand(refused)}", None, refused)]

    def _are_apart(self, given: Schema, other: Any, depth: int = 0) -> bool:
        """Whether surely no value is both, as far as types, constants, and members that have to be there tell."""
        return all(self._differ(given, each, depth) for each in self._alternatives(other, self._outer))

    def _differ(self, given: Schema, other: Schema, depth: int) -> bool:
        if "enum" in given:
            return all(judge(each, other, self._outer) is False for each in given["enum"])
        if "enum" in other:
            return all(judge(each, given, self._inner) is False for each in other["enum"])
        kinds = {given["type"], other["type"]}
        if len(kinds) == 2 and kinds != {"integer", "number"}:
            return True
        if kinds != {"object"} or depth > 2:
            return False
        if any(_member(name, given) is False for name in other.get("required", ())):
            return True
        both = given.get("properties", {}).keys() & other.get("properties", {}).keys()
        certain = both & {*given.get("required", ()), *other.get("required", ())}
        return any(
            all(
                self._are_apart(each, other["properties"][name], depth + 1)
                for each in self._alternatives(given["properties"][name], self._inner)
            )
            for name in certain
        )

    # --- lists

    def _of_items(self, given: Schema, demand: Schema, path: tuple[str, ...]) -> Iterator[Obstacle]:
        places, demanded = given.get("prefixItems", []), demand.get("prefixItems", [])
        most = most_items(given)
        for at in range(max(len(places), len(demanded))):
            if at < most:
                own = places[at] if at < len(places) else given.get("items", True)
                other = demanded[at] if at < len(demanded) else demand.get("items", True)
                yield from self._obstacles(own, other, (*path, f"[{at}]"))
        if most > max(len(places), len(demanded)):
            yield from self._obstacles(given.get("items", True), demand.get("items", True), (*path, "[]"))
        if demand.get("uniqueItems") and not given.get("uniqueItems") and most > 1:
            yield Obstacle(path, "uniqueItems", "a list with repeats", "a list without", False, True)

    # --- objects

    def _of_members(self, given: Schema, demand: Schema, path: tuple[str, ...]) -> Iterator[Obstacle]:
        for name in demand.get("required", ()):
            if name not in given.get("required", ()):
                yield Obstacle((*path, name), "required", "an object without it", "only objects with it", False, True)
        for name in {**given.get("properties", {}), **demand.get("properties", {})}:
            yield from self._of_member(name, given, demand, path)
        yield from self._of_others(given, demand, path)
        if "propertyNames" in demand:
            yield from self._obstacles(_names(given), demand["propertyNames"], (*path, "{name}"))

    def _of_member(self, name: str, given: Schema, demand: Schema, path: tuple[str, ...]) -> Iterator[Obstacle]:
        own, patterns = _member(name, given), _patterns(name, demand)
        if name in demand.get("properties", {}):
            patterns.append(demand["properties"][name])
        elif not patterns and self._refuses_others(demand):
            if own is not False:
                yield Obstacle((*path, name), "additionalProperties", "it", "no field of this name", own, None)
            return
        elif not patterns:
            patterns.append(self._others(demand))
        for each in patterns:
            yield from self._obstacles(own, each, (*path, name))

    def _of_others(self, given: Schema, demand: Schema, path: tuple[str, ...]) -> Iterator[Obstacle]:
        """Members that neither names."""
        within, demanded = (*path, "{}"), demand.get("patternProperties", {})
        for pattern, own in given.get("patternProperties", {}).items():
            others = [] if pattern in demanded else [self._others(demand)]
            for each in (*demanded.values(), *others):
                yield from self._obstacles(own, each, within)
        if _is_record(given):
            if self._refuses_others(demand):
                yield Obstacle(
                    path, "additionalProperties", "fields without a name here", "no such fields", None, False
                )
            return
        own = given.get("additionalProperties", True)
        others = [each for pattern, each in demanded.items() if pattern not in given.get("patternProperties", {})]
        for each in (*others, self._others(demand)):
            yield from self._obstacles(own, each, within)

    def _refuses_others(self, demand: Schema) -> bool:
        return demand.get("additionalProperties") is False and not self._ignores

    def _others(self, demand: Schema) -> Any:
        said = demand.get("additionalProperties", True)
        return True if said is False and self._ignores else said


_UNIONS = {"anyOf": Containment._any_of, "oneOf": Containment._one_of, "not": Containment._none_of}


def _together(same_place: list[Obstacle]) -> Obstacle:
    first = same_place[0]
    given = " or ".join(dict.fromkeys(each.given for each in same_place))
    taken = " or ".join(dict.fromkeys(each.taken for each in same_place))
    return Obstacle(first.path, first.keyword, given, taken, first.inner, first.outer)


def _unchanged(inner: Mapping[str, Schema], outer: Mapping[str, Schema]) -> set[str]:
    """The components that are the same in both, with all that they refer to."""
    equal = {name for name in inner if name in outer and _text(inner[name]) == _text(outer[name])}
    referring = {name: {component_name(each) for each in references(inner[name])} for name in equal}
    while changed := {name for name in equal if not referring[name] <= equal}:
        equal -= changed
    return equal


def _text(schema: Any) -> str:
    return json.dumps(schema, sort_keys=True, default=repr)


def _is_record(schema: Schema) -> bool:
    """Whether it names its properties and says nothing of others."""
    return bool(schema.get("properties")) and "additionalProperties" not in schema


def _member(name: str, given: Schema) -> Any:
    """What is given under a name."""
    parts = [given["properties"][name]] if name in given.get("properties", {}) else []
    found = {pattern: matches(pattern, name) for pattern in given.get("patternProperties", ())}
    parts += [given["patternProperties"][pattern] for pattern, does in found.items() if does]
    if parts:
        return parts[0] if len(parts) == 1 else {"allOf": parts}
    if None in found.values():
        return True
    if _is_record(given):
        return name in given.get("required", ())
    return given.get("additionalProperties", True)


def _patterns(name: str, demand: Schema) -> list[Any]:
    """What is demanded of a name by patterns, those that may match it included."""
    return [
        each for pattern, each in demand.get("patternProperties", {}).items() if matches(pattern, name) is not False
    ]


def _names(given: Schema) -> Schema:
    """The schema of an object's names."""
    is_closed = given.get("additionalProperties") is False or _is_record(given)
    if is_closed and "patternProperties" not in given:
        return {"enum": list(given.get("properties", ()))}
    names = given.get("propertyNames", {})
    return {"allOf": [{"type": "string"}, names]}


def _met(one: Schema, other: Schema) -> dict[str, Any]:
    """What is both, or more than that."""
    whole = dict(one)
    for key, each in other.items():
        whole[key] = _MEETING.get(key, _first)(whole[key], each) if key in whole else each
    return whole


def _first(one: Any, other: Any) -> Any:
    return one


def _both(one: Any, other: Any) -> Any:
    return one if same(one, other) else {"allOf": [one, other]}


def _each_both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, **{name: _both(one[name], each) if name in one else each for name, each in other.items()}}


def _common_types(one: Any, other: Any) -> list[str]:
    first, second = ([each] if isinstance(each, str) else list(each) for each in (one, other))
    wide = [{*each, "integer"} if "number" in each else set(each) for each in (first, second)]
    return [each for each in dict.fromkeys([*first, *second]) if each in wide[0] and each in wide[1]]


_MEETING: dict[str, Callable[[Any, Any], Any]] = {
    "type": _common_types,
    "enum": lambda one, other: [each for each in one if any(same(each, value) for value in other)],
    "properties": _each_both,
    "patternProperties": _each_both,
    "additionalProperties": _both,
    "items": _both,
    "required": lambda one, other: list(dict.fromkeys([*one, *other])),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}


def _by_type(schema: Schema, components: Mapping[str, Schema]) -> Iterator[Schema]:
    if "enum" in schema:
        yield {"enum": _possible(schema["enum"], schema, components)}
        return
    types = types_of(schema)
    for kind in (*_FINITE, *_INFINITE) if types is None else types:
        yield {"enum": _possible(_FINITE[kind], schema, components)} if kind in _FINITE else {**schema, "type": kind}


def _possible(values: list[Any], schema: Schema, components: Mapping[str, Schema]) -> list[Any]:
    return [each for each in values if judge(each, schema, components) is not False]


_ELSEWHERE = frozenset(
    {
        "type",
        "enum",
        "items",
        "prefixItems",
        "uniqueItems",
        "required",
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
    }
)
"""Keywords that are looked at together."""


# --- words


def _called(types: Iterable[str]) -> str:
    return " or ".join(_CALLED[each] for each in types)


def _values(values: list[Any]) -> str:
    told = [json.dumps(each, ensure_ascii=False, default=repr) for each in values[:_MAX_TOLD]]
    return " or ".join(told) + (f" or {len(values) - _MAX_TOLD} others" if len(values) > _MAX_TOLD else "")


def _demand(schema: Any) -> str:
    """A schema in a few words."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            return component_name(schema["$ref"])
        if "const" in schema:
            return _values([schema["const"]])
        if "enum" in schema:
            return _values(schema["enum"])
        if types := types_of(schema):
            return _called(types)
    return "something else"
