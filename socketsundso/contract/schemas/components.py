"""
The JSON Schemas of all that clients send and get, and the one table of names that they share: `Components`.

Whoever judges a type publishes it: pydantic (`by_pydantic`), and msgspec what is a Struct or of attrs (`by_msgspec`).
What both wrote then becomes `canonical`. What clients send is described in the form in which the server itself would
write it, without pydantic's conversions: no "42" for an int.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal

from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from socketsundso.contract.schemas.by_msgspec import MsgspecSchemas
from socketsundso.contract.schemas.by_pydantic import PydanticSchemas
from socketsundso.contract.schemas.canonical import canonical
from socketsundso.contract.schemas.keys import require, taken_from
from socketsundso.contract.schemas.names import free, names
from socketsundso.contract.schemas.selection import is_whole, lacking_null, selected
from socketsundso.contract.schemas.sharing import groups, referring, refs_of_choices, refs_within, renamed
from socketsundso.errors import DefinitionError
from socketsundso.messages import (
    CANONICAL,
    Framing,
    ResponseOptions,
    Signature,
    core_alias,
    field_types,
    holds,
    is_frame,
    is_model_class,
    is_struct,
    kind_of,
    pydantic_form,
    settled,
)

Mode = Literal["validation", "serialization"]
Finish = Callable[[Mapping[str, Any]], Mapping[str, Any]]
PREFIX = "#/components/schemas/"
_IDENTITY = re.compile(r":\d+")
_FAILURES = (PydanticUserError, NameError)


class Components:
    """
    The schemas of one Api.

        components = Components()
        fields = components.fields(signature)    # {"type": "object", "properties": {...}, "required": [...], ...}
        schema = components.incoming(list[Item], "event 'upload', its items")
        reply = components.outgoing(Bought, "event 'buy'", without={"type"})
        ...
        Api(..., components=components.table())

    Every schema that it gives is a plain dict, and is finished by `table()`, in place: until then its `$ref`s are
    provisional. So collect first, call `table()` once, then read them. `where` begins the text of a `DefinitionError`,
    which is raised for a type that has no schema.
    """

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}
        self._given: list[dict[str, Any]] = []
        self._unfinished: list[tuple[dict[str, Any], Finish]] = []
        self._tags: list[tuple[str, str]] = []
        self._msgspec: dict[Mode, MsgspecSchemas] = {
            "validation": MsgspecSchemas("validation", self._definitions, self._validated),
            "serialization": MsgspecSchemas("serialization", self._definitions, self._written),
        }

    # ---------------------------------------------------------------------- what is asked

    def incoming(self, annotation: Any, where: str = "", *, without: Collection[str] = ()) -> dict[str, Any]:
        """What clients send for `annotation`: the item of an upload, the answer to a call."""
        return self._give(self._or_refused(self._validated, annotation, where), without)

    def outgoing(
        self,
        annotation: Any,
        where: str = "",
        *,
        without: Collection[str] = (),
        at: str | int = "",
        options: ResponseOptions = ResponseOptions(),  # noqa: B008  # it is frozen
    ) -> dict[str, Any]:
        """
        What the server sends for `annotation`, which is one message: ask for each member of a union.

        `without` are keys that are not told, those of the envelope; a schema that has one is not a `$ref` but stands
        here itself. `at` is the key of the one property that is told, of a class that is a whole frame. `options` are
        the handler's `response_model_*`.
        """

        def schema_of(annotation: Any) -> dict[str, Any]:
            return self._written(annotation, options)

        annotation = settled(annotation)
        found = self._give(self._or_refused(schema_of, annotation, where), without)
        if not is_whole(options):
            kind = kind_of(annotation)
            self._unfinished.append((found, lambda schema: selected(self._opened(schema), kind, options)))
        if at:
            self._unfinished.append((found, lambda schema: self._at(schema, at)))
        return found

    def fields(self, signature: Signature, framing: Framing = CANONICAL) -> dict[str, Any]:
        """The message that a handler takes: an object with a property for each parameter, without the envelope."""
        where = f"event {signature.event!r}"
        if signature.message_model is not None:
            return self._whole(signature.message_model, where, framing)
        properties: dict[str, Any] = {}
        required: list[str] = []
        for parameter in signature.parameters:
            schema = self._or_refused(self._validated, parameter.annotation, f"{where}, parameter {parameter.name!r}")
            key, is_whole = taken_from(core_alias(parameter))
            properties[key] = _described(schema, parameter) if is_whole else {}
            if parameter.default is None and key not in required:
                required.append(key)
        found = {"type": "object", "properties": properties, "required": required}
        takes_any = signature.extra == "ignore" or framing.takes_any
        return self._give(found if takes_any else {**found, "additionalProperties": False})

    def _whole(self, model: Any, where: str, framing: Framing) -> dict[str, Any]:
        """The same of a model that is the message: what it has beside the envelope's keys, or in the data part."""
        if not is_frame(model, framing):
            return self.incoming(model, where, without={"type"})
        found = self.incoming(model, where, without=framing.names - {*framing.place})
        if framing.place:
            self._unfinished.append((found, lambda schema: self._at(schema, framing.place[0])))
        return found

    def _at(self, schema: Mapping[str, Any], key: str | int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._opened(schema).get("properties", {}).get(key, {"type": "object"})
        return found

    def table(self) -> dict[str, Any]:
        """The components by name. All that was given has its final `$ref`s now, which are to these."""
        self._require_tags()
        definitions = self._definitions
        for ref, schema in definitions.items():
            definitions[ref] = canonical(_untitled(schema, _qualified(ref)))
        for schema, finish in self._unfinished:
            found = canonical(finish(schema))
            schema.clear()
            schema.update(found)
        used = self._reached()
        name_of = _named(used, groups({ref: definitions[ref] for ref in used}, _qualified))
        found = {name_of[ref]: definitions[ref] for ref in used}
        for schema in (*self._given, *found.values()):
            _refer(schema, name_of)
        return dict(sorted(found.items()))

    # ---------------------------------------------------------------------- who knows it

    def _validated(self, annotation: Any) -> dict[str, Any]:
        return self._by_pydantic(pydantic_form(annotation), "validation", "validation")

    def _written(self, annotation: Any, options: ResponseOptions = ResponseOptions()) -> dict[str, Any]:  # noqa: B008
        if holds(annotation, is_struct):
            return self._msgspec["serialization"].of(annotation)
        lacks_defaults = options.exclude_unset or options.exclude_defaults
        said = [name for name, is_said in (
            ("names", not options.by_alias), ("defaults", lacks_defaults), ("none", options.exclude_none)
        ) if is_said]  # fmt: skip
        return self._by_pydantic(
            annotation,
            "serialization",
            "-".join(["serialization", *said]),
            by_alias=options.by_alias,
            lacks_defaults=lacks_defaults,
            lacks_null=options.exclude_none,
        )

    def _by_pydantic(
        self, annotation: Any, mode: Mode, variant: str, *, lacks_null: bool = False, **options: bool
    ) -> dict[str, Any]:
        generator = PydanticSchemas(mode, variant, self._msgspec[mode].of, self._definitions, **options)
        schema = generator.of(annotation)
        definitions = {str(ref): each for ref, each in generator.definitions.items()}
        if lacks_null:
            definitions = {ref: lacking_null(each, definitions) for ref, each in definitions.items()}
        other = self._adopt(definitions)
        self._tags += [(key, other.get(ref, ref)) for key, ref in generator.tags]
        return dict(renamed(schema, other))

    def _adopt(self, definitions: dict[str, Any]) -> dict[str, str]:
        """
        Definitions are known from here on; those that are called otherwise here, with that name.

        One class may look different elsewhere: a plain dataclass follows the config of the model that it is within.
        Then it is another component, and so is all that refers to it.
        """
        other: dict[str, str] = {}
        number, found = 1, definitions
        while different := {ref for ref, each in found.items() if self._definitions.get(ref, each) != each}:
            number += 1
            back = {new: ref for ref, new in other.items()}
            different = referring(definitions, {back.get(ref, ref) for ref in different} | set(other))
            other = {ref: ref.replace(" ", f"~{number} ", 1) for ref in different}
            found = {other.get(ref, ref): renamed(each, other) for ref, each in definitions.items()}
        self._definitions.update(found)
        return other

    def _or_refused(self, schema_of: Callable[[Any], dict[str, Any]], annotation: Any, where: str) -> dict[str, Any]:
        try:
            return schema_of(annotation)
        except _FAILURES as exc:
            place = self._culprit(schema_of, annotation)
            raise DefinitionError(
                f"{where}{': ' if where else ''}{place or repr(annotation)} has no JSON Schema: "
                f"{str(exc).splitlines()[0]}; write Annotated[..., pydantic.WithJsonSchema(...)], or leave the "
                "event out with include_in_schema=False"
            ) from exc

    def _culprit(self, schema_of: Callable[[Any], Any], annotation: Any) -> str:
        """Which field of a class it is."""
        kind = kind_of(annotation)
        if is_model_class(kind):
            for name, hint in field_types(annotation).items():
                try:
                    schema_of(hint)
                except _FAILURES:
                    return self._culprit(schema_of, hint) or f"{kind.__name__}.{name}, {hint!r},"
        return ""

    # ---------------------------------------------------------------------- finishing

    def _give(self, schema: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
        given = dict(canonical(schema))
        self._given.append(given)
        if without:
            self._unfinished.append((given, lambda schema: self._without(schema, without)))
        return given

    def _without(self, schema: Mapping[str, Any], keys: Collection[str]) -> Mapping[str, Any]:
        found = self._opened(schema)
        if not set(keys) & set(found.get("properties", ())):
            return schema
        properties = {key: each for key, each in found["properties"].items() if key not in keys}
        required = [key for key in found.get("required", ()) if key not in keys]
        return {**found, "type": "object", "properties": properties, "required": required}

    def _opened(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a `$ref` is to."""
        while set(schema) == {"$ref"}:
            schema = self._definitions[schema["$ref"]]
        return schema

    def _require_tags(self) -> None:
        """The alternatives of a discriminated union need their tags in what clients send."""
        for key, ref in self._tags:
            todo, seen = [ref], set[str]()
            while todo:
                ref = todo.pop()
                if ref not in seen:
                    seen.add(ref)
                    require(self._definitions[ref], key)
                    todo += refs_of_choices(self._definitions[ref])

    def _reached(self) -> list[str]:
        """The definitions that something refers to, in the order in which they were met."""
        found: dict[str, None] = {}
        todo = [ref for schema in self._given for ref in refs_within(schema)]
        while todo:
            ref = todo.pop()
            if ref not in found:
                found[ref] = None
                todo += refs_within(self._definitions[ref])
        return [ref for ref in self._definitions if ref in found]


def _described(schema: Mapping[str, Any], parameter: Any) -> dict[str, Any]:
    """With what the parameter's `Field` says, and its default."""
    field, found = parameter.field, dict(schema)
    for word in ("title", "description", "examples", "deprecated"):
        if getattr(field, word, None):
            found[word] = getattr(field, word)
    if parameter.default is not None and field.default_factory is None:
        with contextlib.suppress(PydanticSerializationError, ValueError):  # no JSON
            found["default"] = to_jsonable_python(parameter.default())
    if isinstance(field.json_schema_extra, dict):
        found.update(field.json_schema_extra)
    elif field.json_schema_extra is not None:
        field.json_schema_extra(found)
    return found


def _qualified(ref: str) -> str:
    """The class of a definition: `module.Outer.Item`, `module.Page[User]`."""
    return _IDENTITY.sub("", ref.split(" ", 2)[2])


def _untitled(schema: Mapping[str, Any], qualified: str) -> Mapping[str, Any]:
    """A title that says no more than the name is noise."""
    is_noise = qualified.endswith(f".{schema.get('title')}")
    return {key: each for key, each in schema.items() if key != "title"} if is_noise else schema


def _named(used: Iterable[str], group_of: Mapping[str, int]) -> dict[str, str]:
    """The name of each definition; where a class is read and written in different ways, what is read is `XInput`."""
    by_class: dict[str, list[str]] = {}
    for ref in used:
        by_class.setdefault(_qualified(ref), []).append(ref)
    short = names(by_class)
    taken, by_group = set(short.values()), dict[int, str]()
    for qualified, refs in by_class.items():
        written = dict.fromkeys(group_of[ref] for ref in refs if ref.startswith("serialization"))
        read = [group for group in dict.fromkeys(group_of[ref] for ref in refs) if group not in written]
        own = short[qualified]
        for base, alike in ((own, list(written)), (own + "Input" if written else own, read)):
            for group, name in zip(alike, free(base, taken - {own} if base == own else taken), strict=False):
                by_group[group] = name
                taken.add(name)
    return {ref: by_group[group_of[ref]] for ref in used}


def _refer(schema: Any, name_of: Mapping[str, str]) -> None:
    if isinstance(schema, dict):
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref in name_of:
            schema["$ref"] = PREFIX + name_of[ref]
        for each in schema.values():
            _refer(each, name_of)
    elif isinstance(schema, list):
        for each in schema:
            _refer(each, name_of)
