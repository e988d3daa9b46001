"""Strategies for whole APIs, for schemas, and for the values of a schema."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from socketsundso.contract.model import (
    Api,
    Binary,
    Call,
    Channel,
    Error,
    Features,
    Message,
    Parameter,
    Receive,
    Wire,
)
from tests.contract.apis import WIRES

NAMES = ("A", "B", "C")
"""The components that schemas refer to."""
KEYS = st.sampled_from(["a", "b", "room", "seq", "ä", "a/b~", "$ref", "type_"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from(["", "a", "ab", "abc", "x1", "ü"]))
WORDS = st.sampled_from(["", "one", "two\nlines", "*/ <b>"])


def optional(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


def _of_type(kind: str, keywords: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return keywords.map(lambda more: {"type": kind, **more})


COUNTS = st.integers(0, 3)
PATTERNS = st.sampled_from(["^a", "b$", "^[a-z]+$", "1"])
NUMBERS = optional(
    minimum=st.integers(-2, 3),
    maximum=st.integers(2, 8),
    exclusiveMinimum=st.integers(-2, 3),
    multipleOf=COUNTS.map(abs),
).map(lambda found: {key: each for key, each in found.items() if key != "multipleOf" or each})
PLAIN = st.one_of(
    st.just({}),
    _of_type("null", st.just({})),
    _of_type("boolean", st.just({})),
    _of_type("integer", NUMBERS),
    _of_type("number", NUMBERS),
    _of_type("string", optional(minLength=COUNTS, maxLength=st.integers(1, 4), pattern=PATTERNS)),
    st.lists(SCALARS, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    SCALARS.map(lambda value: {"const": value}),
    st.sampled_from([["string", "null"], ["integer", "string"]]).map(lambda kinds: {"type": kinds}),
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = optional(
        items=st.one_of(st.booleans(), inner),
        prefixItems=st.lists(inner, min_size=1, max_size=2),
        minItems=COUNTS,
        maxItems=COUNTS,
        uniqueItems=st.booleans(),
    )
    some = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        _of_type("array", lists),
        objects(inner),
        some.map(lambda each: {"anyOf": each}),
        some.map(lambda each: {"oneOf": each}),
        some.map(lambda each: {"allOf": each, "description": "both"}),
        PLAIN.map(lambda each: {"not": each}),
    )


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    """The schema of an object."""
    properties = draw(st.dictionaries(KEYS, inner, max_size=3))
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    required = [name for name in properties if draw(st.booleans())]
    if required:
        schema["required"] = required
    more = optional(
        additionalProperties=st.one_of(st.booleans(), inner),
        patternProperties=st.dictionaries(PATTERNS, inner, min_size=1, max_size=1),
        propertyNames=PATTERNS.map(lambda pattern: {"pattern": pattern}),
        minProperties=COUNTS,
        maxProperties=COUNTS,
    )
    return {**schema, **draw(more)} if draw(st.booleans()) else schema


REFERENCES = st.sampled_from(NAMES).map(lambda name: {"$ref": f"#/components/schemas/{name}"})
SCHEMAS = st.recursive(st.one_of(PLAIN, REFERENCES), _larger, max_leaves=6)
FIELDS = objects(SCHEMAS)


@st.composite
def components(draw: st.DrawFn) -> dict[str, Any]:
    """Components, of which the last is an object; none is nothing but a reference."""
    plain = SCHEMAS.filter(lambda schema: "$ref" not in schema)
    return {"A": draw(plain), "B": draw(FIELDS), "C": draw(objects(PLAIN))}


def are_grounded(components: dict[str, Any]) -> bool:
    """Whether no component is nothing but itself, which validators follow until their stack ends, or further."""

    def is_itself(schema: Any, above: tuple[str, ...]) -> bool:
        if not isinstance(schema, dict):
            return False
        name = schema.get("$ref", "").rpartition("/")[2]
        if name and (name in above or is_itself(components[name], (*above, name))):
            return True
        inner = [each for key in ("allOf", "anyOf", "oneOf") for each in schema.get(key, ())]
        return any(is_itself(each, above) for each in (*inner, schema.get("not")))

    return not any(is_itself(each, (name,)) for name, each in components.items())


MESSAGES = st.builds(
    Message,
    st.sampled_from(["posted", "said", "ä/b", "x"]),
    st.one_of(FIELDS, st.just({"$ref": "#/components/schemas/C"})),
    name=st.sampled_from(["", "Posted", "Said", "__proto__"]),
    summary=WORDS,
    description=WORDS,
    deprecated=st.booleans(),
)
ERRORS = st.builds(Error, st.sampled_from(["full", "sold_out"]), WORDS, st.one_of(st.none(), SCHEMAS), WORDS)
RECEIVES = st.builds(
    Receive,
    st.sampled_from(["say", "posted", "item", "ö"]),
    FIELDS,
    replies=st.lists(MESSAGES, max_size=2).map(tuple),
    stream=st.booleans(),
    acknowledged=st.booleans(),
    cancellable=st.booleans(),
    uploads=st.one_of(st.none(), SCHEMAS),
    errors=st.lists(ERRORS, max_size=2).map(tuple),
    summary=WORDS,
    description=WORDS,
    deprecated=st.booleans(),
    tags=st.lists(st.sampled_from(["a", "b/c"]), unique=True).map(tuple),
    security=st.lists(st.sampled_from(["chat:read"]), max_size=1).map(tuple),
)
PARAMETERS = st.builds(
    Parameter,
    st.sampled_from(["a", "b", "x-tenant"]),
    st.sampled_from(["path", "query", "header", "cookie"]),
    SCHEMAS,
    required=st.booleans(),
    description=WORDS,
)
CHANNELS = st.builds(
    Channel,
    st.sampled_from(["chat", "shop", "a.b"]),
    st.sampled_from(["/", "/rooms/{room}"]),
    summary=WORDS,
    description=WORDS,
    parameters=st.lists(PARAMETERS, max_size=3, unique_by=lambda each: (each.name, each.place)).map(tuple),
    subprotocols=st.lists(st.sampled_from(["v1", "v2"]), unique=True).map(tuple),
    receives=st.lists(RECEIVES, max_size=3, unique_by=lambda each: each.event).map(tuple),
    pushes=st.lists(MESSAGES, max_size=2, unique_by=lambda each: (each.type, each.name)).map(tuple),
    calls=st.lists(st.builds(Call, MESSAGES, SCHEMAS), max_size=1).map(tuple),
    errors=st.lists(ERRORS, max_size=2).map(tuple),
    features=st.builds(Features, history=st.booleans(), presence=st.booleans(), gaps=st.booleans()),
    wire=st.sampled_from([Wire(), Wire(type_key="kind", ref_key="a/b"), *WIRES.values()]),
    security=st.sampled_from([(), ("token",)]),
    binary=st.one_of(
        st.none(),
        st.just(Binary(sends=True)),
        st.builds(
            Binary,
            st.sampled_from(["audio", "a/b", "binary"]),
            st.booleans(),
            st.lists(ERRORS, max_size=1).map(tuple),
            WORDS,
            WORDS,
            st.booleans(),
            security=st.sampled_from([(), ("send",)]),
        ),
    ),
)
APIS = st.builds(
    Api,
    WORDS,
    WORDS,
    st.lists(CHANNELS, max_size=2, unique_by=lambda each: each.name).map(tuple),
    components(),
    st.just({"token": {"type": "http", "scheme": "bearer"}}),
    WORDS,
)


TEXTS = st.sampled_from(["", "a", "ab", "abc", "x1", "ü", "b", "1", "abcd"])
NUMBER_VALUES = st.one_of(st.integers(-3, 9), st.sampled_from([0.5, 2.0, -1.5, 7.25]))
MAX_DEPTH = 5


@st.composite
def values(draw: st.DrawFn, schema: Any, table: dict[str, Any], depth: int = 0) -> Any:
    """A JSON value that may well be one of the schema's; records have no members that they do not name."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH or draw(st.integers(0, 19)) == 0:
        return draw(SCALARS)
    if "$ref" in schema:
        return draw(values(table[schema["$ref"].rpartition("/")[2]], table, depth + 1))
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            return draw(values(draw(st.sampled_from(schema[key])), table, depth + 1))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", draw(st.sampled_from(["string", "integer", "array", "object"])))
    kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
    if kind == "object":
        return draw(_members(schema, table, depth))
    if kind == "array":
        return draw(_items(schema, table, depth))
    return draw({"string": TEXTS, "null": st.none(), "boolean": st.booleans()}.get(kind, NUMBER_VALUES))


@st.composite
def _members(draw: st.DrawFn, schema: dict[str, Any], table: dict[str, Any], depth: int) -> dict[str, Any]:
    found = {}
    for name, each in schema.get("properties", {}).items():
        if name in schema.get("required", ()) or draw(st.booleans()):
            found[name] = draw(values(each, table, depth + 1))
    names = [name for name in schema.get("required", ()) if name not in found]
    others = schema.get("additionalProperties", not schema.get("properties"))
    if others is not False or "patternProperties" in schema:
        names += draw(st.lists(KEYS, max_size=2))
    for name in names:
        patterns = [each for pattern, each in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
        if name not in found and (patterns or others is not False):
            found[name] = draw(values(patterns[0] if patterns else others, table, depth + 1))
    return found


@st.composite
def _items(draw: st.DrawFn, schema: dict[str, Any], table: dict[str, Any], depth: int) -> list[Any]:
    places, rest = schema.get("prefixItems", []), schema.get("items", True)
    least = schema.get("minItems", 0)
    count = draw(st.integers(least, max(least, min(schema.get("maxItems", 3), 3))))
    return [draw(values(places[at] if at < len(places) else rest, table, depth + 1)) for at in range(count)]


@st.composite
def edited(draw: st.DrawFn, schema: Any) -> Any:
    """The schema with a small change in some place."""
    if isinstance(schema, dict) and schema and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(schema)))
        value = schema[key]
        if isinstance(value, dict):
            if key in ("properties", "patternProperties") and value:
                name = draw(st.sampled_from(sorted(value)))
                return {**schema, key: {**value, name: draw(edited(value[name]))}}
            return {**schema, key: draw(edited(value))}
        if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            at = draw(st.integers(0, len(value) - 1))
            return {**schema, key: [*value[:at], draw(edited(value[at])), *value[at + 1 :]]}
        if isinstance(value, bool):
            return {**schema, key: not value}
        if isinstance(value, int):
            return {**schema, key: max(value + draw(st.integers(-1, 1)), key == "multipleOf")}
        if isinstance(value, list) and value and key != "type":
            return {**schema, key: value[1:] or value}
        return {each: schema[each] for each in schema if each != key}
    return draw(SCHEMAS)
