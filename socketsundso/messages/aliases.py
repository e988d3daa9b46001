"""What an annotation stands for: aliases, generic or not, NewTypes and optional ones, looked through."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, ForwardRef, NewType, TypeVar, Union

import annotated_types as at
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType as BackportedAlias

_ALIASES: tuple[type, ...] = tuple({BackportedAlias, getattr(typing, "TypeAliasType", BackportedAlias)})
UNIONS = (Union, types.UnionType)


def is_alias(annotation: Any) -> bool:
    """Is it a `type X = ...`, or the backport's?"""
    return isinstance(annotation, _ALIASES)


def alias_value(alias: Any) -> Any:
    """What `type X = ...` stands for."""
    return alias.__value__


def alias_of(annotation: Any) -> Any | None:
    """The alias that this is, or that this gives its arguments to: `X` of `X[int]`."""
    if is_alias(annotation):
        return annotation
    origin = typing.get_origin(annotation)
    return origin if is_alias(origin) else None


def expanded(annotation: Any) -> Any:
    """What an alias stands for, with its arguments in the place of its variables."""
    alias = alias_of(annotation)
    value = _resolved(alias_value(alias), alias)
    variables = getattr(alias, "__type_params__", ())
    arguments = dict(zip(variables, typing.get_args(annotation), strict=False))
    return substituted(value, arguments) if arguments else value


def _resolved(value: Any, alias: Any) -> Any:
    """The value with the names in it looked up where the alias was made."""
    if not _holds_names(value):
        return value
    module = sys.modules.get(getattr(alias, "__module__", None) or "")
    holder = types.SimpleNamespace(__annotations__={"it": value})
    try:
        names = {alias.__name__: alias}
        return typing.get_type_hints(holder, vars(module) if module else {}, names, include_extras=True)["it"]
    except Exception:  # a name that is not known here: pydantic looks for it in its own way, and tells
        return value


def _holds_names(annotation: Any) -> bool:
    if isinstance(annotation, str | ForwardRef):
        return True
    return typing.get_origin(annotation) is not typing.Literal and any(
        _holds_names(arg) for arg in typing.get_args(annotation)
    )


def substituted(value: Any, arguments: Mapping[Any, Any]) -> Any:
    """`value` with types in the place of its variables."""
    if isinstance(value, TypeVar):
        return arguments.get(value, value)
    variables = getattr(value, "__parameters__", ())
    return value[tuple(arguments.get(v, v) for v in variables)] if variables else value


def unwrap(annotation: Any) -> Any:
    """What an alias, a NewType or Final stands for."""
    while True:
        if annotation is None:
            return type(None)
        if alias_of(annotation) is not None:
            annotation = expanded(annotation)
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) is Final:
            (annotation,) = typing.get_args(annotation)
        else:
            return annotation


def optional_item(annotation: Any) -> Any | None:
    """X of Optional[X]."""
    args = typing.get_args(annotation) if typing.get_origin(annotation) in UNIONS else ()
    rest = [arg for arg in args if arg is not type(None)]
    return rest[0] if len(rest) == 1 and len(args) == 2 else None


def markers(metadata: list[Any]) -> Iterator[Any]:
    """What stands in `Annotated`, one by one: a Field and what it demands, the members of a group."""
    for marker in metadata:
        if isinstance(marker, FieldInfo):
            yield marker
            yield from marker.metadata
        elif isinstance(marker, at.GroupedMetadata):
            yield from marker
        elif marker is not None:  # conint and its like leave None for what was not asked for
            yield marker


def hash_of(annotation: Any) -> int:
    """The same for equal annotations, also where they cannot be hashed."""
    try:
        return hash(annotation)
    except TypeError:
        return id(annotation)
