"""What an annotation stands for: aliases, NewTypes and optional ones looked through, types in place of variables."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, ForwardRef, NewType, TypeVar, Union

import annotated_types as at
from pydantic import BaseModel
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
    """
    What an alias stands for, with its arguments in the place of its variables.

    Raises `NameError` for a name in it that is not defined (yet).
    """
    alias = alias_of(annotation)
    value = _resolved(alias_value(alias), alias)
    variables = getattr(alias, "__type_params__", ())
    return substituted(value, dict(zip(variables, typing.get_args(annotation), strict=False)))


def _resolved(value: Any, alias: Any) -> Any:
    """The value with the names in it looked up where the alias was made."""
    if not _holds_names(value):
        return value
    module = sys.modules.get(getattr(alias, "__module__", None) or "")
    holder = types.SimpleNamespace(__annotations__={"it": value})
    names = {alias.__name__: alias}
    return typing.get_type_hints(holder, vars(module) if module else {}, names, include_extras=True)["it"]


def _holds_names(annotation: Any) -> bool:
    if isinstance(annotation, str | ForwardRef):
        return True
    return typing.get_origin(annotation) is not typing.Literal and any(
        _holds_names(arg) for arg in typing.get_args(annotation)
    )


def substituted(annotation: Any, arguments: Mapping[Any, Any]) -> Any:
    """`annotation` with the given types in the place of its type variables, however deep they stand."""
    if not arguments:
        return annotation
    if isinstance(annotation, TypeVar):
        return arguments.get(annotation, annotation)
    if is_alias(annotation):
        return _substituted_alias(annotation, arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not BaseModel:
        return _substituted_model(annotation, arguments)
    given = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    if not given or origin is typing.Literal:
        return annotation
    if origin is Annotated:
        inner = substituted(given[0], arguments)
        return annotation if inner is given[0] else Annotated[(inner, *annotation.__metadata__)]
    new = tuple(substituted(each, arguments) for each in given)
    if all(a is b for a, b in zip(new, given, strict=True)):
        return annotation
    return Union[new] if origin in UNIONS else origin[new if len(new) > 1 else new[0]]


def _substituted_alias(alias: Any, arguments: Mapping[Any, Any]) -> Any:
    value = alias_value(alias)
    variables = set(variables_of(value))
    return substituted(value, arguments) if variables & set(arguments) else alias


def variables_of(annotation: Any, seen: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Its type variables, those within aliases among them."""
    if isinstance(annotation, TypeVar):
        yield annotation
    elif is_alias(annotation):
        if annotation not in seen:  # it may name itself
            yield from variables_of(alias_value(annotation), (*seen, annotation))
    else:
        for each in typing.get_args(annotation):
            yield from variables_of(each, seen)


def _substituted_model(model: type[BaseModel], arguments: Mapping[Any, Any]) -> Any:
    """Of a model, `Box[T]` is a class; where T is the variable of `Box` itself, it is `Box`."""
    generic = model.__pydantic_generic_metadata__
    given = generic["args"] or generic["parameters"]
    new = tuple(substituted(each, arguments) for each in given)
    if all(a is b for a, b in zip(new, given, strict=True)):
        return model
    return typing.cast("Any", generic["origin"] or model)[new]


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
