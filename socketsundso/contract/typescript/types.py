"""
TypeScript's types of JSON Schemas, and what may stand in its comments and literals.

    {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}, "required": ["at"]}

becomes `{ at: string }`, or an interface whose field tells of the format. What TypeScript has no words for, bounds and
patterns, stands in comments: nothing is checked at run time. No text of a contract reaches the code unescaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from socketsundso.contract.model import Schema
from socketsundso.errors import ContractError

COMPONENT = "#/components/schemas/"
UNKNOWN = "unknown"
NOTHING = "{ [key: string]: never }"
MAX_LINE = 100
NO_FIELDS: Mapping[str, str] = {}
PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
OF_OBJECTS = {"properties", "additionalProperties", "patternProperties"}
ALTERNATIVES = ("anyOf", "oneOf", "allOf")
COMBINED = {"$ref", "const", "enum", *ALTERNATIVES}
RANGES = {
    ("minimum", "maximum"): "",
    ("minLength", "maxLength"): " characters",
    ("minItems", "maxItems"): " items",
    ("minProperties", "maxProperties"): " entries",
}
TOLD = {
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "uniqueItems": "each once",
    "pattern": "matches {}",
    "format": "format {}",
    "contentEncoding": "{}",
    "default": "{} by default",
}
"""What comments tell of a schema, by keyword."""


def quoted(text: str) -> str:
    """A literal: what is not printed, quotes and separators of lines are escaped, letters of any script are not."""
    inner = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in inner)


def key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_$][\w$]*", name, re.ASCII) else quoted(name)


def comment(*texts: str, tags: Iterable[str] = (), indent: str = "") -> str:
    """
    A JSDoc comment of these paragraphs, with a newline behind it, or nothing where there are none.

    No text ends it, or is a tag in it; `tags` are, of one line each: `deprecated`, `throws {SoldOut} Not so many left.`
    """
    lines = [line.strip() for text in texts for line in _printable(text).split("\n") if line.strip()]
    lines += [f"@{' '.join(_printable(text).split())}" for text in tags]
    if len(lines) > 1:
        return "".join(f"{indent}{line}\n" for line in ("/**", *(f" * {line}" for line in lines), " */"))
    return f"{indent}/** {lines[0]} */\n" if lines else ""


def _printable(text: str) -> str:
    lines = ("".join(char if char.isprintable() else " " for char in line) for line in text.splitlines())
    return re.sub(r"(?<!\w)@", r"\\@", "\n".join(lines).replace("*/", "*\\/"))


def told(schema: Schema) -> str:
    """What a comment says of values: the description, then bounds."""
    bounds = [
        words.format(_text(value))
        for keyword, words in TOLD.items()
        if (value := schema.get(keyword)) is not None and (value is not False or keyword == "default")
    ]
    described = str(schema.get("description", "")).strip()
    return "\n".join(part for part in (described, "; ".join((*_ranges(schema), *bounds))) if part)


def _ranges(schema: Schema) -> Iterator[str]:
    for (least, most), unit in RANGES.items():
        if least in schema and most in schema:
            yield f"{schema[least]} to {schema[most]}{unit}"
        elif least in schema:
            yield f"{schema[least]} or more{unit}"
        elif most in schema:
            yield f"at most {schema[most]}{unit}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def referred(schema: Any, *, direct: bool = False) -> Iterator[str]:
    """The components in a schema; `direct`: those that it is, or is one of, or all of, and not in fields or items."""
    if not isinstance(schema, Mapping):
        return
    if "$ref" in schema:
        yield str(schema["$ref"]).removeprefix(COMPONENT)
    inner = [each for keyword in ALTERNATIVES for each in schema.get(keyword, ())]
    if not direct:
        inner += [each for keyword in ("properties", "patternProperties") for each in schema.get(keyword, {}).values()]
        inner += [*schema.get("prefixItems", ()), schema.get("items"), schema.get("additionalProperties")]
    for each in inner:
        yield from referred(each, direct=direct)


class Types:
    """
    Writes types. `names` are what components are called; every `$ref` is one of them.

    Precedence is kept by parentheses alone: `(A | B)[]`. Raises `ContractError` for a `type` that JSON Schema does not
    have.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def of(self, schema: Any, indent: str = "", *, first: Mapping[str, str] = NO_FIELDS) -> str:
        """
        The type, whose further lines begin with `indent`. `first` are fields that an object has before its own, those
        of other names: `{"type": '"posted"', "room?": "string"}`.
        """
        if schema is True or schema == {}:
            return self.of({"type": "object"}, indent, first=first) if first else UNKNOWN
        if schema is False:
            return "never"
        parts = [part for part in self._parts(schema, indent, first) if part not in ("", UNKNOWN)]
        return _joined(parts, " & ") or UNKNOWN

    def declaration(self, name: str, schema: Schema) -> str:
        """An exported interface, which errors and editors call by its name, or a type where it cannot be one."""
        note, written = comment(told(schema)), self.of(schema)
        if _is_object(schema) and not schema.keys() & COMBINED and "[key in " not in written:
            return f"{note}export interface {name} {written}\n"
        return f"{note}export type {name} = {written};\n"

    def _parts(self, schema: Schema, indent: str, first: Mapping[str, str]) -> Iterable[str]:
        """What a value is all of."""
        if first and not _is_object(schema):
            yield _object(_first(first), indent)
        if "$ref" in schema:
            yield self._names[str(schema["$ref"]).removeprefix(COMPONENT)]
        if "const" in schema:
            yield self.literal(schema["const"])
        elif "enum" in schema:
            yield _joined([self.literal(value) for value in schema["enum"]], " | ") or "never"
        elif _is_object(schema):
            yield self._object(schema, indent, first)
        else:
            yield self._kinds(schema, indent)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield _joined([self.of(option, indent) for option in schema[keyword]], " | ")
        for part in schema.get("allOf", ()):
            yield self.of(part, indent)

    def _kinds(self, schema: Schema, indent: str) -> str:
        kinds = schema.get("type", "array" if "prefixItems" in schema or "items" in schema else [])
        written = {
            "array": lambda: self._array(schema, indent),
            "object": lambda: self._object(schema, indent, NO_FIELDS),
        }
        each: list[str] = []
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            if kind in written:
                each.append(written[kind]())
            elif kind in PRIMITIVES:
                each.append(PRIMITIVES[kind])
            else:
                raise ContractError(f"a schema has the type {kind!r}, which JSON Schema does not know")
        return _joined(each, " | ")

    def literal(self, value: Any) -> str:
        """The type of one JSON value."""
        if isinstance(value, str):
            return quoted(value)
        if isinstance(value, list):
            return f"[{', '.join(map(self.literal, value))}]"
        if isinstance(value, dict):
            return _object([f"{key(name)}: {self.literal(each)}" for name, each in value.items()], "")
        return json.dumps(value)

    def _array(self, schema: Schema, indent: str) -> str:
        items = schema.get("items", True)
        prefix = [self.of(item, indent) for item in schema.get("prefixItems", ())]
        if not prefix:
            return "unknown[]" if items is True else "[]" if items is False else f"{_atom(self.of(items, indent))}[]"
        least = schema.get("minItems", 0)
        parts = [item if at < least else f"{_atom(item)}?" for at, item in enumerate(prefix)]
        is_closed = items is False or schema.get("maxItems") == len(prefix)
        if not is_closed:
            parts.append(f"...{_atom(self.of(items, indent))}[]")
        return f"[{', '.join(parts)}]"

    def _object(self, schema: Schema, indent: str, first: Mapping[str, str]) -> str:
        fields = _first(first, schema.get("properties", ())) + self.fields(schema, f"{indent}  ")
        others = self._others(schema, indent, has_fields=bool(fields))
        if others == "never":
            return _object(fields, indent) if fields else NOTHING
        return _object([*fields, others] if others else fields, indent)

    def _others(self, schema: Schema, indent: str, *, has_fields: bool) -> str:
        """The index signature of what is not named; "never" where there is nothing else."""
        options = list(schema.get("patternProperties", {}).values())
        rest = schema.get("additionalProperties")
        if isinstance(rest, Mapping) or rest is True or (rest is None and not schema.get("properties") and not options):
            options.append(rest if rest is not None else True)
        if not options:
            return "never" if rest is False else ""
        value = UNKNOWN if has_fields else _joined([self.of(option, indent) for option in options], " | ")
        keys = schema.get("propertyNames", {}).get("enum")
        if keys and not has_fields:
            named = _joined([self.literal(name) for name in keys], " | ")
            return f"[key in {named}]?: {value}"
        return f"[key: string]: {value}"

    def fields(self, schema: Schema, indent: str, prefix: str = "") -> list[str]:
        """The properties of an object behind their comments, whose further lines begin with `indent`."""
        required = set(schema.get("required", ()))
        fields = []
        for name, each in schema.get("properties", {}).items():
            about = each if isinstance(each, Mapping) else {}
            note = comment(told(about), tags=["deprecated"] * bool(about.get("deprecated")), indent=indent)
            mark = "" if name in required else "?"
            written = f"{prefix}{key(name)}{mark}: {self.of(each, indent)}"
            fields.append(f"{note.removeprefix(indent)}{indent}{written}" if note else written)
        return fields


def _is_object(schema: Schema) -> bool:
    """Whether it is one and nothing else, as far as its own keywords tell."""
    kind = schema.get("type")
    return kind == "object" or (kind is None and not schema.keys().isdisjoint(OF_OBJECTS))


def _first(fields: Mapping[str, str], known: Iterable[str] = ()) -> list[str]:
    return [f"{name}: {type_}" for name, type_ in fields.items() if name.rstrip("?") not in known]


def _object(fields: list[str], indent: str) -> str:
    """In one line, or a line for each field where one of them has a comment, or they are many."""
    if not fields:
        return "{}"
    line = f"{{ {'; '.join(fields)} }}"
    if "\n" not in line and len(line) <= MAX_LINE:
        return line
    return "{\n" + "".join(f"{indent}  {field};\n" for field in fields) + f"{indent}}}"


def _joined(parts: Iterable[str], operator: str) -> str:
    """Each once; what is weaker than the operator stands in parentheses."""
    each = list(dict.fromkeys(parts))
    if UNKNOWN in each and operator == " | ":
        return UNKNOWN
    if len(each) < 2:
        return "".join(each)
    return operator.join(f"({part})" if operator == " & " and _has(part, " | ") else part for part in each)


def _atom(text: str) -> str:
    return f"({text})" if _has(text, " | ") or _has(text, " & ") else text


def _has(text: str, operator: str) -> bool:
    """Whether an operator stands outside of all brackets and literals."""
    bare, before = re.sub(r'"(?:[^"\\]|\\.)*"|/\*.*?\*/', "", text, flags=re.DOTALL), ""
    while bare != before:
        before, bare = bare, re.sub(r"[\[({][^\[\](){}]*[\])}]", "", bare)
    return operator in bare
