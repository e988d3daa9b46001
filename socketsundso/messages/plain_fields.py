"""
Fields of models as source, where what is in them can be written as it is: a check, and an expression for what is
written once that is true.

    room: str         type(value_0 := fields['room']) is str                                  value_0
    tags: list[str]   type(value_1 := fields['tags']) is list and kinds(map(type, value_1))   value_1
    at: datetime      type(value_2 := fields['at']) is datetime                               value_2
    by: User          -                                                                       write(fields['by'])

What is written of a model within is found by a function of its own, which raises TypeError where one of its values is
not what it is declared to be. An instance counts as one of its very class alone.
"""

from __future__ import annotations

import datetime
import enum
import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from socketsundso.messages import codegen
from socketsundso.messages.core_schemas import is_written_as_declared

Definitions = Mapping[str, Any]
"""Core schemas by what they are referred to with."""

_SCALARS = {"str": str, "int": int, "float": float, "bool": bool}
_SEEN_THROUGH = ("default", "function-before", "function-after", "function-wrap")  # they matter to validation alone
_FIELD = {"type", "schema", "metadata", "validation_alias", "serialization_alias", "frozen"}
_TEXTUAL = {"datetime": datetime.datetime, "date": datetime.date, "uuid": uuid.UUID}
_TEXTS = frozenset({str})


_OWN_WAYS = {"ser_json_inf_nan", "ser_json_temporal"}
"""Of a model's config: how scalars are written."""


class Writing(NamedTuple):
    """
    What writes a dict of plain values, and what it, or finding them, raises where that cannot be. `is_exact` is an
    expression that is true of the floats whose values it writes; empty, it writes all. `object` gives one for what is
    written with these keys, whose values are expressions, and adds the names that it has in it. Dates, times and UUIDs
    are given to `text_of`, if there is one; without, `dumps` writes them, with the arguments `for_times`.
    """

    dumps: Callable[[Any], bytes]
    refusals: tuple[type[Exception], ...]
    is_exact: str
    object: Callable[[Mapping[str, str], dict[str, Any]], str]
    text_of: Callable[[Any], str] | None = None
    for_times: str = ""


def dict_display(items: Mapping[str, str], names: dict[str, Any]) -> str:
    """Source of a dict with these keys."""
    return f"{{{', '.join(f'{key!r}: {value}' for key, value in items.items())}}}"


class PlainModel(NamedTuple):
    """
    Source for the `fields` of an instance: where they pass the checks, its items are what is written. `texts` are the
    keys of which that is always a text. `names` are those of all this. Does it, or a model within, have times?
    """

    checks: list[str]
    items: dict[str, str]
    texts: frozenset[str]
    names: dict[str, Any]
    has_times: bool

    def lines(self, expression: str) -> list[str]:
        """Return the expression for an instance that passes; else go on."""
        return [
            "if type(value) is model:",
            "    fields = value.__dict__",
            f"    if {' and '.join(self.checks) or True}:",
            f"        return {expression}",
        ]


class _Found(NamedTuple):
    """How a field is checked, if it is, and what is written of it; `kind` is that of a text that is never None."""

    check: str
    value: str
    kind: type | None = None


def plain_model(
    schema: Any, by_alias: bool, writing: Writing, definitions: Definitions, within: tuple[Any, ...] = ()
) -> PlainModel | None:
    """
    The model with this core schema, which is not one of those `within` which it stands.

    None if an instance is not passed on as it is, and written field by field.
    """
    if not _is_plain(schema) or schema["cls"] in within:
        return None
    reader = _Reader(by_alias, writing, definitions, (*within, schema["cls"]))
    checks, items, texts = [], {}, set()
    for name, field in schema["schema"]["fields"].items():
        found = reader.read(field["schema"], f"fields[{name!r}]") if _FIELD.issuperset(field) else None
        key = (by_alias and field.get("serialization_alias")) or name
        if found is None or key in items:
            return None
        items[key] = found.value
        checks += [found.check] if found.check else []
        texts |= {key} if found.kind is str else set()
    names = {"model": schema["cls"], **reader.names}
    return PlainModel(checks, items, frozenset(texts), names, reader.has_times)


class _Reader:
    """Of the fields of one model."""

    def __init__(self, by_alias: bool, writing: Writing, definitions: Definitions, within: tuple[Any, ...]) -> None:
        self._by_alias, self._writing, self._definitions, self._within = by_alias, writing, definitions, within
        self.names: dict[str, Any] = {}
        self.has_times = False
        self._read = 0

    def read(self, schema: Any, source: str) -> _Found | None:
        """None for a field of another kind, or that is written in another way."""
        value, self._read = f"value_{self._read}", self._read + 1
        if (scalar := _scalar(schema)) is not None:
            return _Found(
                scalar.check(value, source, self._writing.is_exact), value, None if scalar.nullable else scalar.kind
            )
        schema, nullable = self._unwrapped(schema)
        if schema is None:
            return None
        if (single := self._single(schema, value)) is not None:
            kind, rest, written = single
            if nullable:
                check = f"(({value} := {source}) is None or (type({value}) is {kind}{rest}))"
                return _Found(check, written if written == value else f"{value} if {value} is None else {written}")
            return _Found(f"type({value} := {source}) is {kind}{rest}", written)
        write = self._writer(schema, nullable)
        return None if write is None else _Found("", f"{self._name(write)}({source})")

    def _name(self, known: Any) -> str:
        return codegen.named(known, self.names)

    def _unwrapped(self, schema: Any) -> tuple[Any, bool]:
        """What matters to writing, and whether that may be None; no schema for what is written in a way of its own."""
        nullable = False
        while "serialization" not in schema:
            match schema["type"]:
                case "definition-ref":
                    referred = self._definitions.get(schema["schema_ref"])
                    # any other could be within itself
                    return (referred if referred is not None and referred["type"] == "model" else None), nullable
                case "nullable":
                    nullable = True
                case kind if kind not in _SEEN_THROUGH:
                    return schema, nullable
            schema = schema["schema"]
        return None, nullable

    def _single(self, schema: Any, value: str) -> tuple[str, str, str] | None:
        """What class a value has, what else is true of it, and what is written of it; None for a model, or several."""
        match schema["type"]:
            case "datetime" | "date" | "uuid" as name:
                text_of = self._writing.text_of
                written = value if text_of is None else f"{self._name(text_of)}({value})"
                kind = self._name(_TEXTUAL[name])
                if name != "datetime":
                    return kind, "", written
                self.has_times = True
                zone, utc, is_whole = f"{value}.tzinfo", self._name(datetime.UTC), self._name(_is_of_whole_minutes)
                check = f" and ({zone} is None or {zone} is {utc} or {is_whole}({value}))"
                return kind, check, written
            case "enum":
                return (self._name(schema["cls"]), "", f"{value}._value_") if _is_plain_enum(schema["cls"]) else None
        rest = self._checks_of_items(schema, value)
        return None if rest is None else (schema["type"], f" and {rest}", value)

    def _checks_of_items(self, schema: Any, value: str) -> str | None:
        """For a list of scalars, or a dict of such with texts as keys."""
        match schema["type"]:
            case "list":
                item, keys, items = _item(schema, "items_schema"), "", value
            case "dict" if self._has_texts_as_keys(schema):
                item, items = _item(schema, "values_schema"), f"{value}.values()"
                keys = f"{self._name(_TEXTS.issuperset)}(map(type, {value})) and "
            case _:
                return None
        if item is None:
            return None
        kinds = frozenset({item.kind, type(None)} if item.nullable else {item.kind})
        check = f"{keys}{self._name(kinds.issuperset)}(map(type, {items}))"
        if item.kind is not float or not self._writing.is_exact:
            return check
        return None if item.nullable else f"{check} and all(map({self._name(math.isfinite)}, {items}))"

    def _has_texts_as_keys(self, schema: Any) -> bool:
        key = _item(schema, "keys_schema")
        return key is not None and key.kind is str and not key.nullable

    def _writer(self, schema: Any, nullable: bool) -> Callable[[Any], Any] | None:
        """For a model, a list of such, or a dict; raises TypeError for what is none."""
        lines, names = ["if value is None:", "    return None"] if nullable else [], {}
        match schema["type"]:
            case "model":
                found = plain_model(schema, self._by_alias, self._writing, self._definitions, self._within)
                if found is None:
                    return None
                self.has_times |= found.has_times
                names = dict(found.names)
                lines += found.lines(self._writing.object(found.items, names))
            case "list" if write := self._writer_of_item(schema.get("items_schema")):
                names = {"write": write}
                lines += ["if type(value) is list:", "    return [write(each) for each in value]"]
            case "dict" if self._has_texts_as_keys(schema) and (
                write := self._writer_of_item(schema.get("values_schema"))
            ):
                names = {"write": write, "texts": _TEXTS.issuperset}
                lines += ["if type(value) is dict and texts(map(type, value)):"]
                lines += ["    return {key: write(each) for key, each in value.items()}"]
            case _:
                return None
        return codegen.function("value", [*lines, "raise TypeError"], names)

    def _writer_of_item(self, schema: Any) -> Callable[[Any], Any] | None:
        schema, nullable = (None, False) if schema is None else self._unwrapped(schema)
        return None if schema is None else self._writer(schema, nullable)


def _is_of_whole_minutes(value: datetime.datetime) -> bool:
    """Is its offset one that orjson does not round? Before there were time zones, places had their own seconds."""
    try:
        offset = value.utcoffset()
    except Exception:  # of somebody's own time zone: whoever writes it tells what that means
        return False
    return offset is None or not (offset.seconds % 60 or offset.microseconds)


def _is_plain_enum(kind: Any) -> bool:
    """Is the value of each member, of which there are no others, one that is the same everywhere?"""
    is_open = issubclass(kind, enum.Flag) or any(
        "_missing_" in vars(cls) for cls in kind.__mro__ if cls is not enum.Enum
    )
    return not is_open and all(type(member.value) in (str, int, bool) for member in kind)


def _item(schema: Any, name: str) -> _Scalar | None:
    return _scalar(schema[name]) if name in schema else None


def _is_plain(schema: Any) -> bool:
    """Is an instance of this model passed on as it is, and written field by field?"""
    if schema["type"] != "model" or not is_written_as_declared(schema):
        return False
    config, fields = schema.get("config") or {}, schema["schema"]
    return (
        (schema.get("revalidate_instances") or config.get("revalidate_instances") or "never") == "never"
        and _OWN_WAYS.isdisjoint(config)
        and fields["type"] == "model-fields"
        and is_written_as_declared(fields)
        and not fields.get("computed_fields")
    )


class _Scalar(NamedTuple):
    """What a field holds: values of exactly this class, or also None."""

    kind: type
    nullable: bool

    def check(self, value: str, source: str, is_exact: str) -> str:
        """An expression that is true where `source` holds such a value, and keeps it as `value`."""
        exact = f" and {is_exact.format(value=value)}" if is_exact and self.kind is float else ""
        if self.nullable:
            return f"(({value} := {source}) is None or type({value}) is {self.kind.__name__}{exact})"
        return f"type({value} := {source}) is {self.kind.__name__}{exact}"


def _scalar(schema: Any) -> _Scalar | None:
    """What a field with this core schema holds, or None if that is no scalar, or is written in another way."""
    nullable = False
    while "serialization" not in schema:
        match schema["type"]:
            case "str" | "int" | "float" | "bool" as kind:
                return _Scalar(_SCALARS[kind], nullable)
            case "literal" if all(type(value) is str for value in schema["expected"]):
                return _Scalar(str, nullable)
            case "nullable":
                nullable = True
            case kind if kind not in _SEEN_THROUGH:
                return None
        schema = schema["schema"]
    return None
