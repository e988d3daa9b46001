"""
The types of a Python client: JSON Schemas as classes and annotations, for msgspec or pydantic.

    {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}

is a class with `id: int`; what need not be there has UNSET as its default (pydantic: None). A union of objects that a
constant tells apart is a union of classes; where nothing does, msgspec has no words for it, and `_one_of` chooses.
Bounds, patterns and formats that are no types of Python are not looked at: the server has done that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from socketsundso.contract.identifiers import PYTHON_KEYWORDS, Scope
from socketsundso.contract.model import Api, Schema
from socketsundso.contract.python.text import class_name, docstring, field_name, literal
from socketsundso.errors import ContractError

Models = Literal["msgspec", "pydantic"]

_PREFIX = "#/components/schemas/"
_FORMATS = {
    "date-time": "_datetime",
    "date": "_date",
    "time": "_time",
    "duration": "_timedelta",
    "uuid": "_UUID",
    "decimal": "_Decimal",
}
_SCALARS = {"integer": "int", "number": "float", "boolean": "bool", "null": "None"}
IN_ANNOTATIONS = frozenset(
    {
        "Any",
        "ClassVar",
        "Literal",
        "UNSET",
        "UnsetType",
        "bool",
        "bytes",
        "dict",
        "float",
        "int",
        "list",
        "str",
        "tuple",
    }
)
_OF_PYDANTIC = frozenset(name for name in dir(BaseModel) if not name.startswith("_"))


@dataclass(frozen=True)
class Field:
    """A property: its name in Python and on the wire, its annotation, whether it has to be there."""

    name: str
    key: str
    annotation: str
    required: bool
    default: Any
    description: str


class Types:
    """All types of an API's client. What is asked for by `annotation` and `message` is what `source` declares."""

    def __init__(self, api: Api, models: Models, scope: Scope) -> None:
        self._components = {key: each if isinstance(each, Mapping) else {} for key, each in api.components.items()}
        self._models, self._scope = models, scope
        self._classes: dict[str, list[str]] = {}
        self._aliases: dict[str, list[str]] = {}
        self._mappings: dict[str, list[str]] = {}
        self._places: dict[tuple[str, str], str] = {}  # names by what they were asked for
        self._names = {key: self._fresh(key, ("component", key)) for key in api.components}
        self._open: list[str] = []  # components whose alias is being made
        self._tags: dict[str, tuple[str, Any]] = {}
        for component, tag in self._find_tags([self._components, *_schemas(api)]):
            self._tags.setdefault(component, tag)

    # What is declared

    def source(self) -> list[str]:
        """Classes first, whose annotations are read later, then what needs them at once."""
        return [
            line for part in (self._classes, self._aliases, self._mappings) for each in part.values() for line in each
        ]

    def annotation(self, schema: Schema | bool, hint: str) -> str:
        """What a value of this schema is. `hint` is the name of a class that has to be made for it."""
        if isinstance(schema, bool):
            return "Any"
        match schema:
            case {"$ref": str(ref)}:
                return self._component(ref.removeprefix(_PREFIX))
            case {"const": value}:
                return _literal([value])
            case {"enum": [*values]}:
                return _literal(values)
            case {"allOf": [only]}:
                return self.annotation(only, hint)
            case {"allOf": [*parts]}:
                return self.annotation(self._merged(parts), hint)
            case {"anyOf": [*members]} | {"oneOf": [*members]}:
                return self._union(members, hint)
            case {"type": [*types]}:
                return self._union([{**schema, "type": each} for each in types], hint)
            case {"type": "string"}:
                if schema.get("contentEncoding") == "base64":
                    return "bytes"
                return _FORMATS.get(schema.get("format", ""), "str")
            case {"type": "array"} | {"prefixItems": _} | {"items": _}:
                return self._array(schema, hint)
            case {"type": "object"} | {"properties": _}:
                return self._object(schema, hint)
            case {"type": str(name)}:
                return _SCALARS.get(name, "Any")
        return "Any"

    def fields(self, schema: Schema, hint: str, reserved: Iterable[str] = ()) -> list[Field]:
        """The properties of an object, with names that are none of `reserved`."""
        taken = PYTHON_KEYWORDS | IN_ANNOTATIONS | {*self._names.values(), *reserved}
        names = Scope(f"field of {hint}", field_name, taken)
        required = schema.get("required", ())
        return [
            Field(
                name := names.add(key, f"the field {key!r} of {hint}"),
                key,
                self.annotation(value, hint + class_name(name)),
                key in required,
                value.get("default", ...) if isinstance(value, Mapping) else ...,
                _description(value),
            )
            for key, value in schema.get("properties", {}).items()
        ]

    def resolved(self, schema: Schema | bool) -> Schema:
        """What a reference stands for in the end."""
        seen: list[str] = []
        while True:
            match schema:
                case {"$ref": str(ref)} if ref not in seen:
                    seen.append(ref)
                    schema = self._components.get(ref.removeprefix(_PREFIX), {})
                case {"allOf": [only]}:
                    schema = only
                case {"allOf": [*parts]}:
                    return self._merged(parts)
                case _:
                    return schema if isinstance(schema, Mapping) else {}

    def message(self, schema: Schema, name: str, description: str, others: Collection[str]) -> str:
        """The class of a message, which is none of the `others`: those of messages of other types."""
        target = self.resolved(schema)
        key = schema["$ref"].removeprefix(_PREFIX) if "$ref" in schema else ""
        component = self._component(key) if key else ""
        if is_class(target) and class_name(key) == class_name(name) and component not in others:
            if description and not _description(target):
                self._class({**target, "description": description}, component, self._tags.get(key))
            return component
        name = self._fresh(name, (schema, len(others)))
        if not is_class(target):
            return self._mapping(target, name, description)
        if not component:
            return self._class({**target, "description": description}, name)
        self._classes[name] = [f"class {name}({component}):", *_doc_or_pass(description), "", ""]
        return name

    # Components

    def _component(self, component: str) -> str:
        if component not in self._components:
            return "Any"
        schema, name = self._components[component], self._names[component]
        if len(schema.get("allOf", ())) > 1:
            schema = {**self._merged(schema["allOf"]), "description": _description(schema)}
        if is_class(schema):
            if name not in self._classes:
                self._class(schema, name, self._tags.get(component))
            return name
        if component in self._open:
            return "Any"  # it holds itself, without a class between: no library can read that
        if name not in self._aliases:
            self._open.append(component)
            annotation = self.annotation(schema, name)
            self._open.pop()
            if annotation in ("None", name):
                return annotation
            self._alias(name, annotation, _description(schema))
        return name

    def _alias(self, name: str, annotation: str, description: str) -> None:
        if name not in self._aliases:
            told = docstring(description, "") if description else []
            self._aliases[name] = [f"{name}: TypeAlias = {annotation}", *told, "", ""]

    def _merged(self, parts: Sequence[Schema]) -> Schema:
        """All of them at once: what several objects have together."""
        merged: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
        for part in map(self.resolved, parts):
            if not is_class(part):
                continue
            merged["properties"] |= part.get("properties", {})
            merged["required"] += part.get("required", ())
        return merged if merged["properties"] else {}

    def _find_tags(self, schemas: Iterable[object]) -> Iterator[tuple[str, tuple[str, Any]]]:
        """Of the components that stand in a union of objects which a constant tells apart."""
        for members in _unions(list(schemas)):
            found = self._told_apart(members)
            if found is not None:
                key, values = found
                named = zip(map(self._component_of, members), values, strict=True)
                yield from ((component, (key, value)) for component, value in named if component is not None)

    def _component_of(self, schema: Schema | bool) -> str | None:
        """The component whose class it is, over all names that only stand for another one."""
        component = None
        while True:
            match schema:
                case {"$ref": str(ref)} if (key := ref.removeprefix(_PREFIX)) != component and key in self._components:
                    component, schema = key, self._components[key]
                case {"allOf": [only]}:
                    schema = only
                case _:
                    return component

    def _told_apart(self, members: Sequence[Schema]) -> tuple[str, list[Any]] | None:
        """The key whose constants are all different, and what they are."""
        objects = [self.resolved(member) for member in members]
        if len(objects) < 2 or not all(map(is_class, objects)):
            return None
        for key in objects[0].get("properties", {}):
            values = [_constant(each.get("properties", {}).get(key)) for each in objects]
            if None not in values and len({type(each) for each in values}) == 1 and len({*values}) == len(values):
                return key, values
        return None

    def _tagged(self, members: Sequence[Schema]) -> list[tuple[str, Any]] | None:
        """The tags of the members, where their classes have them: one that stands in two unions has only one."""
        found = self._told_apart(members)
        if found is None:
            return None
        tags = [(found[0], value) for value in found[1]]
        components = map(self._component_of, members)
        fits = all(each is None or self._tags.get(each) == tag for each, tag in zip(components, tags, strict=True))
        return tags if fits else None

    # Kinds of schemas

    def _union(self, members: Sequence[Schema], hint: str) -> str:
        members = list(_flat(members))
        solid = [member for member in members if not _is_null(member)]
        nothing = ["None"] if len(solid) < len(members) else []
        if not solid:
            return "None" if members else "Any"
        several = len(solid) > 1
        found = self._tagged(solid)
        texts = []
        for number, member in enumerate(solid, 1):
            name = f"{hint}{number}" if several else hint
            if found is not None and self._component_of(member) is None:
                texts.append(self._class(self.resolved(member), self._fresh(name, member), found[number - 1]))
            else:
                texts.append(self.annotation(member, name))
        texts = _simplified(texts)
        if "Any" in texts:
            return "Any"
        if self._models == "msgspec" and len(texts) > 1 and not self._is_native(solid, found is not None):
            texts = [self._choice(texts, hint)]
        return " | ".join([*texts, *nothing])

    def _choice(self, texts: Sequence[str], hint: str) -> str:
        name = hint if hint in self._names.values() else self._fresh(hint, texts)
        self._aliases[name] = [
            "if TYPE_CHECKING:",
            f"    {name}: TypeAlias = {' | '.join(texts)}",
            "else:",
            f"    {name} = _one_of(lambda: ({', '.join(texts)},))",
            "",
            "",
        ]
        return name

    def _is_native(self, members: Sequence[Schema], told_apart: bool) -> bool:
        """Whether msgspec can tell by the JSON alone which of them it is."""
        kinds = [kind for member in members for kind in self._kinds(member, ())]
        objects = kinds.count("object")
        if objects > 1 and not (told_apart and objects == len(members)):
            return False
        return all(kinds.count(kind) < 2 for kind in ("string", "array", "integer", "number", "boolean"))

    def _kinds(self, schema: Schema, seen: tuple[int, ...]) -> list[str]:
        """What it may be in JSON, as often as it may."""
        target = self.resolved(schema)
        if id(target) in seen:
            return ["object", "object"]
        seen = (*seen, id(target))
        match target:
            case {"anyOf": [*members]} | {"oneOf": [*members]}:
                return [kind for member in members for kind in self._kinds(member, seen)]
            case {"const": value}:
                return [_kind_of(value)]
            case {"enum": [*values]}:
                return sorted({_kind_of(value) for value in values})
            case {"type": [*types]}:
                return list(types)
            case {"type": str(name)}:
                return [name]
        return ["array" if "prefixItems" in target or "items" in target else "object"]

    def _array(self, schema: Schema, hint: str) -> str:
        first = schema.get("prefixItems")
        if not first:
            items = schema.get("items", True)
            return f"list[{self.annotation(items, hint + 'Item') if isinstance(items, Mapping) else 'Any'}]"
        parts = [self.annotation(each, f"{hint}Item{number}") for number, each in enumerate(first, 1)]
        is_fixed = schema.get("minItems") == len(first) and (
            schema.get("items") is False or schema.get("maxItems") == len(first)
        )
        if is_fixed:
            return f"tuple[{', '.join(parts)}]"
        rest = schema.get("items", True)
        more: list[Schema] = [rest] if isinstance(rest, Mapping) else [] if rest is False else [{}]
        return f"list[{self._union([*first, *more], hint + 'Item')}]"

    def _object(self, schema: Schema, hint: str) -> str:
        if is_class(schema):
            return self._class(schema, self._fresh(hint, schema))
        return f"dict[str, {self._values(schema, hint)}]"

    def _values(self, schema: Schema, hint: str) -> str:
        """Of an object whose keys are not known."""
        values = [each for each in schema.get("patternProperties", {}).values() if isinstance(each, Mapping)]
        other = schema.get("additionalProperties", not values)
        if isinstance(other, Mapping):
            values.append(other)
        elif other:
            return "Any"
        return self._union(values, hint + "Value") if values else "Any"

    def _fresh(self, hint: str, schema: object) -> str:
        """A name that nothing else has; of the same schema at the same place the same one."""
        place, name = (hint, repr(schema)), class_name(hint) or "Value"
        while place not in self._places:
            try:
                self._places[place] = self._scope.add(name, f"the schema number {len(self._places)}")
            except ContractError:
                name += "_"
        return self._places[place]

    def _class(self, schema: Schema, name: str, tag: tuple[str, Any] | None = None) -> str:
        self._classes[name] = []  # it may hold itself
        is_pydantic = self._models == "pydantic"
        fields = self.fields(schema, name, _OF_PYDANTIC if is_pydantic else ())
        body = [line for each in fields for line in self._field(each, tag if not is_pydantic else None)]
        description = _description(schema)
        doc = docstring(description, "    ") if description else []
        base = "_Model" if is_pydantic else "_Struct, kw_only=True, omit_defaults=True"
        if tag is not None and not is_pydantic:
            base += f", tag_field={literal(tag[0])}, tag={literal(tag[1])}"
        gap = [""] if doc and body else []
        self._classes[name] = [f"class {name}({base}):", *doc, *gap, *(body or ([] if doc else ["    pass"])), "", ""]
        return name

    def _field(self, field: Field, tag: tuple[str, Any] | None) -> list[str]:
        doc = docstring(field.description, "    ") if field.description else []
        if tag is not None and field.key == tag[0]:
            return [f"    {field.name}: ClassVar[{field.annotation}] = {literal(tag[1])}", *doc]
        annotation, default = field.annotation, None
        if not field.required:
            annotation, default = self._optional(field)
        if field.name != field.key:
            call, named = ("_Field", "alias") if self._models == "pydantic" else ("_field", "name")
            given = f"{named}={literal(field.key)}"
            default = f"{call}({given})" if default is None else f"{call}(default={default}, {given})"
        return [f"    {field.name}: {annotation}" + (f" = {default}" if default is not None else ""), *doc]

    def _optional(self, field: Field) -> tuple[str, str]:
        """The default is the contract's, where it is a plain value; what has it is not sent."""
        if _is_plain(field.default):
            return field.annotation, literal(field.default)
        if self._models == "pydantic":
            return _nullable(field.annotation), "None"
        return f"{field.annotation} | UnsetType", "UNSET"

    def _mapping(self, schema: Schema, name: str, description: str) -> str:
        values = self._values(schema, name)
        self._mappings[name] = [f"class {name}(dict[str, {values}]):", *_doc_or_pass(description), "", ""]
        return name


def is_class(schema: object) -> bool:
    """An object with fields of its own, or with none at all."""
    if not isinstance(schema, Mapping) or not ("properties" in schema or schema.get("type") == "object"):
        return False
    return bool(schema.get("properties")) or (
        schema.get("additionalProperties") is False and not schema.get("patternProperties")
    )


def is_object(schema: Schema) -> bool:
    return schema.get("type") == "object" or not {"properties", "additionalProperties", "patternProperties"}.isdisjoint(
        schema
    )


def _unions(schema: object) -> Iterator[list[Schema]]:
    """All alternatives that stand anywhere in it, without null."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in ("anyOf", "oneOf") and isinstance(value, list | tuple):
                yield [each for each in _flat(value) if not _is_null(each)]
            yield from _unions(value)
    elif isinstance(schema, list | tuple):
        for each in schema:
            yield from _unions(each)


def _schemas(api: Api) -> Iterator[object]:
    """All that stand in channels."""
    for channel in api.channels:
        yield from (parameter.schema for parameter in channel.parameters)
        yield from (push.schema for push in channel.pushes)
        yield from (error.details for error in channel.all_errors)
        for call in channel.calls:
            yield from (call.message.schema, call.answer)
        for receive in channel.receives:
            yield from (receive.schema, receive.uploads)
            yield from (reply.schema for reply in receive.replies)


def _flat(members: Iterable[Schema]) -> Iterator[Schema]:
    for member in members:
        inner = member.get("anyOf", member.get("oneOf")) if isinstance(member, Mapping) else None
        if inner:
            yield from _flat(inner)
        else:
            yield member


def _is_null(schema: Schema | bool) -> bool:
    return isinstance(schema, Mapping) and (schema.get("type") == "null" or schema.get("const", ...) is None)


def _constant(schema: Any) -> str | int | None:
    """Of a property that tells objects apart."""
    match schema:
        case {"const": str(value)} | {"enum": [str(value)]}:
            return value
        case {"const": int(value)} if not isinstance(value, bool):
            return value
    return None


_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def _kind_of(value: object) -> str:
    return _KINDS.get(type(value), "array" if isinstance(value, list | tuple) else "object")


def _literal(values: Sequence[Any]) -> str:
    """`Literal["a", "b"]`; of values that it cannot have, the types."""
    named = [value for value in values if value is None or type(value) in (str, int)]
    other = {"boolean": "bool", "number": "float", "array": "list[Any]", "object": "dict[str, Any]"}
    texts = [f"Literal[{', '.join(map(literal, named))}]"] if any(each is not None for each in named) else []
    texts += ["None"] if named and not texts else []
    texts += [other[kind] for kind in dict.fromkeys(_kind_of(value) for value in values) if kind in other]
    return " | ".join(texts) or "Any"


def _simplified(texts: Sequence[str]) -> list[str]:
    """Without repetitions, and without what a wider one holds."""
    parts = list(dict.fromkeys(texts))
    if "str" in parts:
        parts = [each for each in parts if not each.startswith('Literal["')]
    if "int" in parts:
        parts = [each for each in parts if not each.startswith("Literal[") or '"' in each]
    literals = [each for each in parts if each.startswith("Literal[") and each.endswith("]") and " | " not in each]
    if len(literals) > 1:
        merged = f"Literal[{', '.join(each[8:-1] for each in literals)}]"
        parts = [merged, *(each for each in parts if each not in literals)]
    return parts


def _nullable(annotation: str) -> str:
    return annotation if annotation == "Any" or annotation.endswith("None") else f"{annotation} | None"


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _description(schema: Any) -> str:
    return str(schema.get("description", "")) if isinstance(schema, Mapping) else ""


def _doc_or_pass(description: str) -> list[str]:
    return docstring(description, "    ") if description else ["    pass"]
