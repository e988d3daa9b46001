"""
Whether an instance of a Struct holds what it is declared to hold, as source: msgspec does not look, and writes all that
stands there.

    class Box(Struct): item: Pub; sizes: list[int]
    ->   type(value) is Box and type(value.item) is Pub and ... and type(value.sizes) is list and ...

What is true of it can be written as it is, in JSON and in other codecs: text, numbers that are finite, booleans and
None, and lists, dicts and Structs of such.
"""

from __future__ import annotations

import typing
from keyword import iskeyword
from typing import Any

import msgspec

from socketsundso.messages import codegen
from socketsundso.messages.aliases import UNIONS

_SCALARS = frozenset({str, bool, int, type(None)})
_NUMBERS = _SCALARS | {float}
_TEXTS = frozenset({str})


def check_of(kind: Any, source: str, names: dict[str, Any], within: tuple[Any, ...] = ()) -> str | None:
    """
    An expression that is true where `source` is an instance of this very Struct, whose fields hold what is packed as it
    is, however deep; adds the names that it has in it. None where it is declared to hold anything else.
    """
    if kind in within or any(map(iskeyword, kind.__struct_fields__)):
        return None
    checks = [f"type({source}) is {codegen.named(kind, names)}"]
    for field in msgspec.structs.fields(kind):
        check = _check(f"{source}.{field.name}", field.type, names, (*within, kind))
        if check is None:
            return None
        checks.append(check)
    return " and ".join(checks)


def _check(source: str, annotation: Any, names: dict[str, Any], within: tuple[Any, ...]) -> str | None:
    """The same for a field."""
    kinds = typing.get_args(annotation) if typing.get_origin(annotation) in UNIONS else (annotation,)
    if _NUMBERS.issuperset(kinds):
        if float in kinds:
            numbers = codegen.named(_NUMBERS, names)
            return f"(type(it := {source}) in {numbers} and (type(it) is not float or it - it == 0))"
        return f"type({source}) in {codegen.named(_SCALARS, names)}"
    others = [each for each in kinds if each is not type(None)]
    check = _check_within(source, others[0], names, within) if len(others) == 1 else None
    return f"({source} is None or {check})" if check is not None and len(kinds) > 1 else check


def _check_within(source: str, annotation: Any, names: dict[str, Any], within: tuple[Any, ...]) -> str | None:
    """For a Struct, a list, or a dict with texts as keys."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return check_of(annotation, source, names, within)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict and args[0] is str:
        texts = f"type({source}) is dict and {codegen.named(_TEXTS.issuperset, names)}(map(type, {source}))"
        items = _check_all(f"{source}.values()", args[1], names, within)
        return None if items is None else f"({texts} and {items})"
    if origin is list:
        items = _check_all(source, args[0], names, within)
        return None if items is None else f"(type({source}) is list and {items})"
    return None


def _check_all(items: str, annotation: Any, names: dict[str, Any], within: tuple[Any, ...]) -> str | None:
    kinds = typing.get_args(annotation) if typing.get_origin(annotation) in UNIONS else (annotation,)
    if _SCALARS.issuperset(kinds):
        return f"{codegen.named(_SCALARS.issuperset, names)}(map(type, {items}))"
    own: dict[str, Any] = {}
    check = _check("value", annotation, own, within)
    if check is None:
        return None
    return f"all(map({codegen.named(codegen.function('value', [f'return {check}'], own), names)}, {items}))"
