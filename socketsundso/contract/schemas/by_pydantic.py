"""
The JSON Schemas of what pydantic judges and writes: its own generator, with what it leaves out or gets wrong put right.

What clients send is described as the server itself would write it: a Decimal is text, a `timedelta` what the model's
config makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from socketsundso.contract.schemas.constraints import (
    CHANGED,
    IF_AWARE,
    TELLABLE,
    aware,
    bounds_of,
    demanding,
    settled_demands,
    taken_off,
    told,
)
from socketsundso.contract.schemas.keys import as_key, require, taken_from
from socketsundso.messages import is_of_application, is_silent

Refer = Callable[[Any], dict[str, Any]]
"""What stands for a type that msgspec judges."""

_THEN = "behind a validator: "


class PydanticSchemas(GenerateJsonSchema):
    """
    Schemas in one mode. Their `$ref`s are `VARIANT pydantic IDENTITY`, the keys of `definitions` and of what is `known`
    already; where they are of types that msgspec judges, what `refer` gives. `tags` are keys that tell the alternatives
    of unions apart, with the refs of those: pydantic refuses one without its tag, default or not.

    Raises pydantic's `PydanticInvalidForJsonSchema`.
    """

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}

    def __init__(
        self,
        mode: JsonSchemaMode,
        variant: str,
        refer: Refer,
        known: Mapping[str, Any],
        *,
        by_alias: bool = True,
        lacks_defaults: bool = False,
    ) -> None:
        super().__init__(by_alias=by_alias, ref_template="{model}")
        self._mode = mode  # which `generate` would set, and put all that it finds into one document
        self._variant, self._refer, self._known = variant, refer, known
        self._lacks_defaults = lacks_defaults
        self.tags: list[tuple[str, str]] = []

    def of(self, annotation: Any) -> dict[str, Any]:
        """The schema of what an annotation says."""
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        adapter.rebuild(raise_errors=True)
        return self.generate_inner(adapter.core_schema)

    # ---------------------------------------------------------------------- names

    def get_defs_ref(self, core_mode_ref: Any) -> Any:
        return f"{self._variant} pydantic {core_mode_ref[0]}"

    def get_schema_from_definitions(self, json_ref: Any) -> dict[str, Any] | None:
        known = self._known.get(json_ref)
        return super().get_schema_from_definitions(json_ref) if known is None else dict(known)

    def resolve_ref_schema(self, json_schema: dict[str, Any]) -> dict[str, Any]:
        return json_schema if _is_foreign(json_schema) else super().resolve_ref_schema(json_schema)

    def handle_ref_overrides(self, json_schema: dict[str, Any]) -> dict[str, Any]:
        return json_schema if _is_foreign(json_schema) else super().handle_ref_overrides(json_schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def get_title_from_name(self, name: str) -> str:
        return ""

    # ---------------------------------------------------------------------- as the server writes it

    def _written(self, make: Callable[[Any], dict[str, Any]], schema: Any) -> dict[str, Any]:
        mode, self._mode = self._mode, "serialization"
        try:
            return make(schema)
        finally:
            self._mode = mode

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        return _bounded(self._written(super().decimal_schema, schema), schema)

    def fraction_schema(self, schema: Any) -> dict[str, Any]:
        return _bounded(self._written(super().fraction_schema, schema), schema)

    def date_schema(self, schema: Any) -> dict[str, Any]:
        return _bounded(self._written(super().date_schema, schema), schema)

    def datetime_schema(self, schema: Any) -> dict[str, Any]:
        return _bounded(_aware_only(self._written(super().datetime_schema, schema), schema), schema)

    def time_schema(self, schema: Any) -> dict[str, Any]:
        return _bounded(_aware_only(self._written(super().time_schema, schema), schema), schema)

    def timedelta_schema(self, schema: Any) -> dict[str, Any]:
        return _bounded(self._written(super().timedelta_schema, schema), schema)

    def bytes_schema(self, schema: Any) -> dict[str, Any]:
        """Lengths are those of bytes: a text has at most as many characters, and a fourth of them at least."""
        found = self._written(super().bytes_schema, schema)
        if found.pop("format", None) == "base64url":
            return {"type": "string", "contentEncoding": "base64url"}
        if found.get("minLength"):
            found["minLength"] = -(-found["minLength"] // 4)
        return found

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """Who gets a message needs no defaults."""
        if self.mode == "serialization":
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_is_required(self, field: Any, total: bool) -> bool:
        """What has a default is there in what the server sends, unless the handler's options leave it out."""
        if self.mode != "serialization" or field["type"] == "typed-dict-field":
            return super().field_is_required(field, total)
        lacks = self._lacks_defaults and field["schema"]["type"] == "default"
        return field.get("serialization_exclude_if") is None and not lacks

    def ser_schema(self, schema: Any) -> dict[str, Any] | None:
        """What a serializer of the application gives can be anything, unless its annotation tells."""
        return {} if is_silent(schema) else super().ser_schema(schema)

    # ---------------------------------------------------------------------- what is demanded, and of which value

    def generate_inner(self, schema: Any) -> dict[str, Any]:
        if schema["type"] == "model" and "ref" in schema:  # which looks the same wherever it stands
            ref, found = self.get_cache_defs_ref_schema(schema["ref"])
            if ref in self._known:
                return found
        found = super().generate_inner(schema)
        if CHANGED in found:
            rest, demands = taken_off(found, kept=found[CHANGED])
            return told(rest, demands, _THEN)
        rest, demands = settled_demands(found)
        return demanding(rest, demands) if demands else found

    def function_after_schema(self, schema: Any) -> dict[str, Any]:
        found = super().function_after_schema(schema)
        meta = getattr(schema["function"]["function"], "demanded", None)  # msgspec's `Meta`, in pydantic's words
        if meta is None:
            return self._behind(schema, found, "serialization")
        if CHANGED in found:
            return told(found, {"pattern": meta.pattern}, _THEN) if meta.pattern else found
        found = demanding(found, {"pattern": meta.pattern}) if meta.pattern else found
        return aware(found) if meta.tz else found

    def function_before_schema(self, schema: Any) -> dict[str, Any]:
        return self._behind(schema, super().function_before_schema(schema), "validation")

    def function_wrap_schema(self, schema: Any) -> dict[str, Any]:
        return self._behind(schema, super().function_wrap_schema(schema), self.mode)

    def function_plain_schema(self, schema: Any) -> dict[str, Any]:
        kind = (schema.get("metadata") or {}).get("judged_by_msgspec")
        return super().function_plain_schema(schema) if kind is None else self._refer(kind)

    def _behind(self, schema: Any, found: dict[str, Any], mode: str) -> dict[str, Any]:
        """
        With a validator of the application around it, which may give another value: in `mode`, what is demanded within
        is not of the one that is in the message.
        """
        if "$ref" in found or "properties" in found or not is_of_application(schema["function"]["function"]):
            return found
        if self.mode == mode and "json_schema_input_schema" not in schema:
            found = _loosened(found, tells=mode == "validation")
        return {CHANGED: bounds_of(found), **found} if self.mode == "validation" else found

    def chain_schema(self, schema: Any) -> dict[str, Any]:
        """`str | int` with a `pattern`: a chain of both, and then a text with the pattern."""
        found = self.generate_inner(schema["steps"][0])
        for step in schema["steps"][1:]:
            inner = step.get("schema", step)
            if inner["type"] == "str" and "pattern" in inner and CHANGED not in found:
                found = demanding(found, {"pattern": _source(inner["pattern"])})
        return found

    # ---------------------------------------------------------------------- keys

    def model_fields_schema(self, schema: Any) -> dict[str, Any]:
        """Of fields that are taken from within something else (`AliasPath`), the key of that."""
        outer = {
            name: key
            for name, field in schema["fields"].items()
            for key, is_whole in [taken_from(field.get("validation_alias", name))]
            if self.mode == "validation" and not is_whole
        }
        own: Any = {name: field for name, field in schema["fields"].items() if name not in outer}
        found = super().model_fields_schema(schema | {"fields": own})
        for name, key in outer.items():
            found["properties"].setdefault(key, {})
            if self.field_is_required(schema["fields"][name], True):
                require(found, key)
        return found

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        found = super().dict_schema(schema)
        names = found.pop("propertyNames", None)
        if names is not None and "$ref" not in names:
            names = {"type": "string", **names}
        if names is None and "keys_schema" in schema and "patternProperties" not in found:
            names = self.generate_inner(schema["keys_schema"])
        known = {str(ref): each for ref, each in self.definitions.items()} if names and "$ref" in names else {}
        if names and (names := as_key(names, known)):
            found["propertyNames"] = names
        return found

    def tagged_union_schema(self, schema: Any) -> dict[str, Any]:
        found = super().tagged_union_schema(schema)
        keys = _tag_keys(schema["discriminator"]) if self.mode == "validation" else []
        for choice in found["oneOf"]:
            for key in keys:
                if "$ref" in choice:
                    self.tags.append((key, choice["$ref"]))
                else:
                    require(choice, key)
        return found


def _is_foreign(schema: Mapping[str, Any]) -> bool:
    return " msgspec " in schema.get("$ref", "")


def _aware_only(found: dict[str, Any], schema: Any) -> dict[str, Any]:
    """RFC 3339 has no times without offset."""
    if "format" not in found:
        return found
    rest = {key: each for key, each in found.items() if key != "format"}
    marked = {**rest, IF_AWARE: found["format"]}
    return aware(marked) if schema.get("tz_constraint") == "aware" else marked


def _bounded(found: dict[str, Any], schema: Any) -> dict[str, Any]:
    """With bounds that no keyword says, or only for numbers."""
    return told(found, {name: schema[name] for name in TELLABLE if schema.get(name) is not None})


def _loosened(found: dict[str, Any], *, tells: bool) -> dict[str, Any]:
    rest, demands = taken_off(found)
    if "anyOf" in rest:
        rest["anyOf"] = [each if "$ref" in each else _loosened(each, tells=tells) for each in rest["anyOf"]]
    return told(rest, demands, _THEN) if tells else rest


def _source(pattern: Any) -> str:
    return str(getattr(pattern, "pattern", pattern))


def _tag_keys(discriminator: Any) -> list[str]:
    """The keys that the tag may have; none where a function looks for it."""
    if isinstance(discriminator, str):
        return [discriminator]
    paths = discriminator if isinstance(discriminator, list) else []
    return [path[0] for path in paths if isinstance(path, list) and len(path) == 1 and isinstance(path[0], str)]
