"""
Models of text, numbers, booleans, None, times, UUIDs and enums, of lists and dicts of scalars, and of such models:
their instances are written without pydantic.

    class Posted(BaseModel): room: str; n: int | None = None
    Posted(room="lobby") in reply to "post"            ->   {"type":"post","room":"lobby","n":null}
    the same in answer to {"type":"post","ref":7,...}  ->   {"type":"post","room":"lobby","n":null,"ref":7}

What is written is what pydantic would write, since every value is looked at first: an instance of the class itself,
each field of exactly its type, within as well. All else, also what orjson refuses, is left to the careful way. (Some
versions of pydantic spell an exponent 1e+16, orjson always 1e16.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import orjson

from socketsundso.messages import codegen
from socketsundso.messages.core_schemas import is_written_as_declared
from socketsundso.messages.framing import DATA, REF
from socketsundso.messages.plain_fields import Definitions, Writing, dict_display, plain_model
from socketsundso.messages.refs import Ref

AS_JSON = Writing(
    orjson.dumps, (KeyError, TypeError), is_exact="", object=dict_display, for_times=f", None, {orjson.OPT_UTC_Z}"
)
"""TypeError: a number or text that orjson refuses. KeyError, in each: a field that was deleted."""


class Encode(NamedTuple):
    """What writes a value as a message, and as the answer to the message with a `ref`."""

    message: Callable[[Any], bytes]
    answer: Callable[[Any, Ref], bytes]


def plain_encode(
    schema: Any,
    typing: Typing,
    by_alias: bool,
    careful: Encode,
    writing: Writing = AS_JSON,
    definitions: Definitions = MappingProxyType({}),
) -> Encode | None:
    """
    What encodes the model with this core schema, or a union of such: JSON with `type`: the model's own, else the
    event's name.

    None if it is no plain model. `careful` is given every value that is not what it is declared to be.
    """
    if schema["type"] == "definitions":
        definitions = {each["ref"]: each for each in schema["definitions"]}
        return plain_encode(schema["schema"], typing, by_alias, careful, writing, definitions)
    if schema["type"] == "nullable":
        schema = schema["schema"]
    if schema["type"] in ("union", "tagged-union"):
        return _encode_of_any(schema, typing, by_alias, careful, writing, definitions)
    model, type_key = plain_model(schema, by_alias, writing, definitions), typing.key
    if model is None or (type_key in model.items and type_key not in model.texts):
        return None
    names = {**model.names, "dumps": writing.dumps, "refusals": writing.refusals}
    written = model.items
    if type_key is not None and type_key not in written:
        written = {type_key: repr(typing.event), **written}

    data, rest = writing.object(written, names), writing.for_times if model.has_times else ""
    if type_key is None:
        names |= {"open": typing.open, "close": typing.close}
        message, answer = f"open + dumps({data}{rest}) + close", laid_out(typing.layout, data, writing, names)
    else:
        answered = {} if typing.ref_key is None else {typing.ref_key: "ref"}
        message, answer = f"dumps({data}{rest})", writing.object({**written, **answered}, names)
    return tried(model.lines, message, f"dumps({answer}{rest})", careful, names)


def tried(
    lines: Callable[[str], list[str]], message: str, answer: str, careful: Encode, names: Mapping[str, Any]
) -> Encode:
    """
    What returns these expressions in source that `lines` gives for them. All that this does not return, or that raises
    one of the `refusals` among the names, is left to `careful`.
    """

    def function(arguments: str, expression: str, careful: Callable[..., bytes]) -> Callable[..., bytes]:
        within = [f"    {line}" for line in lines(expression)]
        body = ["try:", *within, "except refusals:", "    pass", f"return careful({arguments})"]
        return codegen.function(arguments, body, {**names, "careful": careful})

    return Encode(function("value", message, careful.message), function("value, ref", answer, careful.answer))


def laid_out(layout: Any, data: str, writing: Writing, names: dict[str, Any]) -> str:
    """The expression for an answer with this data."""
    if isinstance(layout, dict):
        return writing.object({key: laid_out(each, data, writing, names) for key, each in layout.items()}, names)
    if isinstance(layout, list):
        return f"[{', '.join(laid_out(each, data, writing, names) for each in layout)}]"
    if layout == DATA:
        return data
    return "ref" if layout == REF else repr(layout)


def _encode_of_any(
    schema: Any, typing: Typing, by_alias: bool, careful: Encode, writing: Writing, definitions: Definitions
) -> Encode | None:
    """An instance of a member's very class is written as that member; of tagged ones, with one of its own tags."""
    if not is_written_as_declared(schema):
        return None
    tagged = schema["choices"].items() if schema["type"] == "tagged-union" else ()
    encoders: dict[Any, Encode] = {}
    for member in [member for _, member in tagged] or schema["choices"]:
        if isinstance(member, dict) and member["type"] == "model":
            encode = plain_encode(member, typing, by_alias, careful, writing, definitions)
            encoders |= {} if encode is None else {member["cls"]: encode}
    if not encoders:
        return None
    names: dict[str, Any] = {}
    if not tagged:
        lines = ["return encoder_of(type(value), careful)({arguments})"]
    else:
        name = schema["discriminator"]
        kinds = {tag: member["cls"] for tag, member in tagged if isinstance(member, dict) and "cls" in member}
        if not isinstance(name, str) or not all(name in kind.model_fields for kind in kinds.values()):
            return None  # a function, or an alias: it is asked of each value
        names = {"name": name, "kind_of": kinds.get}
        lines = [
            "kind = type(value)",
            "if kind in encoders and type(tag := value.__dict__.get(name)) is str and kind_of(tag) is kind:",
            "    return encoders[kind]({arguments})",
            "return careful({arguments})",
        ]

    def function(arguments: str, index: int) -> Callable[..., bytes]:
        chosen = {kind: encode[index] for kind, encode in encoders.items()}
        own = {"encoders": chosen, "encoder_of": chosen.get, "careful": careful[index]}
        return codegen.function(arguments, [line.format(arguments=arguments) for line in lines], {**names, **own})

    return Encode(function("value", 0), function("value, ref", 1))


class Typing(Protocol):
    """
    What an event's messages are called, and at which key; or what stands around their data, where that is None, and the
    `layout` of answers. Else their `ref` is at a key, too, unless they never have one.
    """

    @property
    def event(self) -> str: ...
    @property
    def key(self) -> str | None: ...
    @property
    def open(self) -> bytes: ...
    @property
    def close(self) -> bytes: ...
    @property
    def ref_key(self) -> str | None: ...
    @property
    def layout(self) -> Any: ...
