"""
What an error may tell while inputs are kept out (`include_input = False`): nothing that the peer sent.

A whitelist. Of pydantic's errors their static texts pass, and the parts of `ctx` that are known to come from the
schema; of msgspec's texts those that are known to quote the schema alone; of `loc` list indices and declared names,
while a key that the peer chose is shown as `*`. What an application says itself passes: the text of a ValueError, in
which words of the input are shown as `…`, and the template of a `PydanticCustomError`, in which what it filled in is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import SchemaValidator, ValidationError, core_schema

HIDDEN_KEY = "*"
HIDDEN_TEXT = "…"

# The parts of `ctx` that come from the schema, by the type of the error; all others come from the input.
_FROM_SCHEMA: dict[str, frozenset[str]] = {
    kind: frozenset(keys.split())
    for kind, keys in {
        "bytes_invalid_encoding": "encoding",
        "bytes_too_long": "max_length",
        "bytes_too_short": "min_length",
        "dataclass_exact_type": "class_name",
        "dataclass_type": "class_name",
        "decimal_max_digits": "max_digits",
        "decimal_max_places": "decimal_places",
        "decimal_whole_digits": "whole_digits",
        "enum": "expected",
        "greater_than": "gt",
        "greater_than_equal": "ge",
        "is_instance_of": "class",
        "is_subclass_of": "class",
        "less_than": "lt",
        "less_than_equal": "le",
        "literal_error": "expected",
        "model_type": "class_name",
        "multiple_of": "multiple_of",
        "named_tuple_type": "class_name",
        "needs_python_object": "method_name",
        "no_such_attribute": "attribute",
        "string_pattern_mismatch": "pattern",
        "string_too_long": "max_length",
        "string_too_short": "min_length",
        "timezone_offset": "tz_expected",
        "too_long": "field_type max_length actual_length",
        "too_short": "field_type min_length actual_length",
        "union_tag_invalid": "discriminator expected_tags",
        "union_tag_not_found": "discriminator",
        "url_scheme": "expected_schemes",
        "url_too_long": "max_length",
        "uuid_version": "expected_version",
    }.items()
}
# Texts that end with what was found in the input: what stands before it is pydantic's own.
_ENDING_IN_INPUT = frozenset(
    {"bytes_invalid_encoding", "date_from_datetime_parsing", "date_parsing", "datetime_from_date_parsing",
     "datetime_object_invalid", "datetime_parsing", "get_attribute_error", "iteration_error", "json_invalid",
     "mapping_type", "time_delta_parsing", "time_parsing", "timezone_offset", "url_parsing", "url_syntax_violation",
     "uuid_parsing"}
)  # fmt: skip
_BY_APPLICATION = ("value_error", "assertion_error")

# What msgspec says, up to where it may quote the input. Its paths hold names of fields and indices, no key of a dict.
_STRUCT_TEXT = re.compile(
    r"""(Expected\ `.* | Object\ missing\ required\ field.*
        | (Integer\ value|Number|Timestamp|Duration)\ (is\ )?out\ of\ range.*
        | Invalid\ (RFC3339\ encoded\ (date|datetime|time)|UUID|base64\ encoded\ string|ISO8601\ duration
                   |decimal\ string|epoch\ timestamp)(\ -\ at\ .*)?
        | JSON\ is\ malformed.* | Input\ data\ was\ truncated | Only\ units.*)
      | (?P<begin>Invalid\ enum\ value|Invalid\ value|Object\ contains\ unknown\ field).*?
        (?P<path>\ -\ at\ (`key`\ in\ )?`\$[^`]*`)?""",
    re.DOTALL | re.VERBOSE,
)


class Reason(str):
    """A text of msgspec's about a Struct; `quiet` is what may be told of it without the input."""

    quiet: str


def reason_of(exc: Exception) -> Reason:
    """The text of what msgspec raised for a Struct."""
    text = str(exc)
    reason = Reason(text)
    reason.quiet = _quiet_struct_text(text, exc.__cause__)
    return reason


def _quiet_struct_text(text: str, cause: BaseException | None) -> str:
    found = _STRUCT_TEXT.fullmatch(text)
    if found is not None and found["begin"] is not None:
        return found["begin"] + (found["path"] or "")
    if cause is None:
        return text if found is not None else "Invalid value"
    if isinstance(cause.__cause__, ValidationError):  # pydantic's, of a class that msgspec does not know
        told = "; ".join(quiet_error(error)["msg"] for error in cause.__cause__.errors(include_url=False))
        return told + text.removeprefix(str(cause))
    return text  # `__post_init__` said it: the application's own words


def quiet_error(error: Mapping[str, Any], declared: Iterable[str] = ()) -> dict[str, Any]:
    """
    One of pydantic's errors without what the peer sent. `declared` are the names that may stand in its `loc`.

    Where the error has its `input`, that is also taken out of the application's own words.
    """
    context = error.get("ctx") or {}
    quiet = {"type": error["type"], "loc": quiet_loc(error["loc"], declared), "msg": _quiet_text(error, context)}
    kept = _quiet_context(error["type"], context)
    if "input" in error and _is_the_applications(error["type"], context):
        quiet["msg"] = without_words_of(error["input"], quiet["msg"])
        kept = {"error": without_words_of(error["input"], str(context["error"]))}
    if kept:
        quiet["ctx"] = kept
    return quiet


def quiet_loc(loc: Iterable[int | str], declared: Iterable[str]) -> tuple[int | str, ...]:
    """List indices and declared names; a key that the peer chose is shown as `*`."""
    return tuple(part if isinstance(part, int) or part in declared else HIDDEN_KEY for part in loc)


def _is_the_applications(kind: str, context: Mapping[str, Any]) -> bool:
    return kind in _BY_APPLICATION and context.keys() == {"error"} and isinstance(context["error"], Exception)


def _quiet_context(kind: str, context: Mapping[str, Any]) -> dict[str, Any]:
    if _is_the_applications(kind, context):
        return dict(context)
    reason = context.get("reason")
    if kind == "struct_type" and isinstance(reason, Reason):
        return {"reason": reason.quiet}
    return {key: value for key, value in context.items() if key in _FROM_SCHEMA.get(kind, ())}


def _quiet_text(error: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    kind, text = error["type"], str(error["msg"])
    if not context or _is_the_applications(kind, context):
        return text
    reason = context.get("reason")
    if kind == "struct_type" and isinstance(reason, Reason):
        return reason.quiet
    found = [str(value) for key, value in context.items() if key not in _FROM_SCHEMA.get(kind, ())]
    if kind == "union_tag_invalid":
        return (
            f"Input tag found using {context.get('discriminator')} does not match any of the expected tags: "
            f"{context.get('expected_tags')}"
        )
    if kind in _ENDING_IN_INPUT and len(found) == 1 and text.endswith(found[0]):
        return text.removesuffix(found[0]).rstrip(" ,:")
    return _cut(text, found)


def _cut(text: str, found: list[str]) -> str:
    """The text without any part of what was filled in, wherever that is found in it."""
    covered = bytearray(len(text))
    for part in filter(None, found):
        at = text.find(part)
        while at >= 0:
            covered[at : at + len(part)] = b"\1" * len(part)
            at = text.find(part, at + 1)
    return _shown(text, covered)


def _shown(text: str, covered: bytearray) -> str:
    kept = "".join("\0" if hidden else char for char, hidden in zip(text, covered, strict=True))
    return re.sub("\0+", HIDDEN_TEXT, kept)


_MOST_WORDS = 1000
_LONG_WORD = 100  # Python itself quotes a long value by its beginning


def without_words_of(value: Any, text: str) -> str:
    """
    What an application says, without what it quotes of the input: "invalid literal for int() with base 10: '…'".

    Only whole words are taken out. Where the input has more of them than could be looked for, nothing is said.
    """
    words = list(itertools.islice(_words_of(value), _MOST_WORDS + 1))
    if len(words) > _MOST_WORDS:
        return HIDDEN_TEXT
    covered = bytearray(len(text))
    for word in {word for each in words for word in (each, repr(each)[1:-1])} - {""}:
        begin = r"(?<!\w)" if word[0].isalnum() else ""
        end = r"\S*" if len(word) > _LONG_WORD else r"(?!\w)" if word[-1].isalnum() else ""
        for found in re.finditer(begin + re.escape(word[:_LONG_WORD]) + end, text):
            covered[found.start() : found.end()] = b"\1" * (found.end() - found.start())
    return _shown(text, covered)


def _words_of(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, Mapping):
            todo += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            todo += part
        elif isinstance(part, bytes | bytearray):
            yield part.decode("utf-8", "replace")
        elif isinstance(part, str):
            yield part
        elif part is not None and not isinstance(part, bool):
            yield str(part)


# ---------------------------------------------------------------------- what is declared


def declared_names(schema: Any) -> frozenset[str]:
    """All names that a core schema may put into a `loc`: of fields, of their aliases, of a union's members."""
    names = {"[key]"}
    definitions = schema["definitions"] if schema.get("type") == "definitions" else []
    todo, seen = [schema], set()
    while todo:
        part = todo.pop()
        if not isinstance(part, dict | list | tuple) or id(part) in seen:
            continue
        seen.add(id(part))
        if not isinstance(part, dict):
            todo += part
            continue
        names |= _field_names(part)
        names |= _member_names(part, definitions)
        todo += [value for key, value in part.items() if key not in ("metadata", "serialization", "default", "config")]
    return frozenset(names)


def _field_names(schema: Mapping[Any, Any]) -> set[str]:
    names = {schema["name"]} if isinstance(schema.get("name"), str) else set()
    for key in ("validation_alias", "alias"):
        names |= _texts(schema.get(key))
    fields = schema.get("fields")
    return names | (set(fields) if isinstance(fields, dict) else set())


def _texts(alias: Any) -> set[str]:
    if isinstance(alias, list | tuple):
        return set().union(*map(_texts, alias))
    return {alias} if isinstance(alias, str) else set()


def _member_names(schema: Mapping[Any, Any], definitions: list[Any]) -> set[str]:
    choices = schema.get("choices")
    if schema.get("type") == "tagged-union" and isinstance(choices, dict):
        return {str(getattr(tag, "value", tag)) for tag in choices}
    if schema.get("type") != "union" or not isinstance(choices, list):
        return set()
    return {choice[1] if isinstance(choice, tuple) else _title(choice, definitions) for choice in choices}


def _title(schema: Any, definitions: list[Any]) -> str:
    try:
        return SchemaValidator(core_schema.definitions_schema(schema, definitions) if definitions else schema).title
    except Exception:  # what it is called is not known, so it is not shown
        return HIDDEN_KEY
