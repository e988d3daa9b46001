"""
What an annotation declares: what stands behind names, in the place of type variables, and in the fields of a class.

    Maybe = TypeAliasType("Maybe", Union[T, Gone], type_params=(T,))
    members(Maybe[User])         ->   [User, Gone]
    field_types(Box[list[User]]) ->   {"item": list[User]}

Reads annotations and knows no values. `NameError` comes out for what cannot be resolved (yet).
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, NewType, TypeVar, Union

import msgspec
import typing_extensions
from pydantic import BaseModel

from socketsundso.messages.aliases import UNIONS, alias_of, expanded, substituted, variables_of

_WRAPPERS = {
    Annotated, Final, ClassVar, typing.Required, typing.NotRequired, getattr(typing, "ReadOnly", None),
    typing_extensions.ReadOnly,
} - {None}  # fmt: skip
_Arguments = Mapping[Any, Any]


def bare(annotation: Any) -> Any:
    """What an alias, NewType, `Annotated`, `Final`, `Required` or a type variable stands for."""
    while True:
        inner = _inner(annotation)
        if inner is annotation:
            return type(None) if annotation is None else annotation
        annotation = inner


def unwrapped(annotation: Any) -> Any:
    """The same, but with the first `Annotated` as it is: what stands in it matters to pydantic."""
    while typing.get_origin(annotation) is not Annotated:
        inner = _inner(annotation)
        if inner is annotation:
            break
        annotation = inner
    return annotation


def _inner(annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if alias_of(annotation) is not None:
        return expanded(annotation)
    if isinstance(annotation, NewType):
        return annotation.__supertype__
    if isinstance(annotation, TypeVar):
        return _unspecified(annotation)
    if isinstance(annotation, dataclasses.InitVar):
        return annotation.type
    return typing.get_args(annotation)[0] if origin in _WRAPPERS else annotation


def _unspecified(variable: Any) -> Any:
    """What a type variable stands for that nobody has given anything for."""
    default = getattr(variable, "__default__", None)
    if default not in (None, typing_extensions.NoDefault):
        return default
    if getattr(variable, "__constraints__", ()):
        return Union[variable.__constraints__]
    bound = getattr(variable, "__bound__", None)
    if isinstance(bound, str | typing.ForwardRef):
        name = bound if isinstance(bound, str) else bound.__forward_arg__
        return eval(name, vars(sys.modules[variable.__module__]))
    return Any if bound is None else bound


def members(annotation: Any) -> list[Any]:
    """The alternatives of a Union or Optional, however it is written; any other annotation is its only one."""
    found = bare(annotation)
    if typing.get_origin(found) in UNIONS:
        return [member for arg in typing.get_args(found) for member in members(arg)]
    return [found]


def kind_of(annotation: Any) -> Any:
    """The class of a parametrised one."""
    return typing.get_origin(annotation) or annotation


def settled(annotation: Any) -> Any:
    """`annotation` with what its remaining type variables stand for: their default, constraints, bound or `Any`."""
    return substituted(annotation, {each: _unspecified(each) for each in variables_of(annotation)})


def is_hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:  # for what stands in an `Annotated` below
        return False
    return True


# ---------------------------------------------------------------------- classes


def is_typed_dict(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def required_keys(kind: Any) -> frozenset[str]:
    """
    Those of a TypedDict that have to be there.

    `__required_keys__` knows nothing of `Required` and `NotRequired` where annotations are postponed: they are text.
    """
    hints = field_types(kind)
    said = {name: _requirement(hint) for name, hint in hints.items()}
    return frozenset(name for name in hints if said[name] or (said[name] is None and name in kind.__required_keys__))


def _requirement(hint: Any) -> bool | None:
    while (origin := typing.get_origin(hint)) in _WRAPPERS:
        if origin in (typing.Required, typing.NotRequired):
            return origin is typing.Required
        hint = typing.get_args(hint)[0]
    return None


def is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_pydantic(kind: Any) -> bool:
    """Does the class bring pydantic's own way to write it?"""
    return isinstance(kind, type) and (
        hasattr(kind, "__pydantic_serializer__") or hasattr(kind, "__get_pydantic_core_schema__")
    )


def is_model_class(kind: Any) -> bool:
    """Has it fields: a pydantic model, dataclass, TypedDict, Struct or class of attrs?"""
    return isinstance(kind, type) and (
        issubclass(kind, BaseModel | msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or is_typed_dict(kind)
        or hasattr(kind, "__attrs_attrs__")
    )


def is_struct(kind: Any) -> bool:
    """A class that msgspec writes and pydantic does not know: a Struct, or one of attrs."""
    return isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or hasattr(kind, "__attrs_attrs__"))


def is_mapping(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Mapping) and not is_typed_dict(kind)


def type_arguments(annotation: Any) -> dict[Any, dict[Any, Any]]:
    """For a class, with or without arguments, and each of its bases: what stands there for its type variables."""
    known: dict[Any, dict[Any, Any]] = {}

    def visit(annotation: Any, arguments: _Arguments) -> None:
        cls = kind_of(annotation)
        if cls in known or not isinstance(cls, type):
            return
        variables = getattr(cls, "__parameters__", ())
        given = tuple(substituted(each, arguments) for each in typing.get_args(annotation))
        given += tuple(map(_unspecified, variables[len(given) :]))
        known[cls] = own = dict(zip(variables, given, strict=False))
        for base in vars(cls).get("__orig_bases__", cls.__bases__):
            visit(base, own)

    visit(annotation, {})
    return known


def item_types(annotation: Any) -> tuple[Any, ...]:
    """The arguments of a container, also where it is one by a base: `class Users(dict[str, User])`."""
    kind, given = kind_of(annotation), typing.get_args(annotation)
    bases = vars(kind).get("__orig_bases__", ())
    arguments = type_arguments(annotation)[kind] if bases else {}
    for base in bases:
        if typing.get_args(base) and issubclass(kind_of(base), collections.abc.Iterable):
            return item_types(substituted(base, arguments))
    return given


def as_dict(annotation: Any) -> Any:
    """`dict[str, User]` for a class that is such a mapping by its bases; anything else as it is."""
    kind, items = kind_of(annotation), item_types(annotation) if is_mapping(kind_of(annotation)) else ()
    return dict[items] if len(items) == 2 and "__orig_bases__" in vars(kind) else annotation  # type: ignore[misc,valid-type]  # known at run time


def field_types(annotation: Any) -> dict[str, Any]:
    """The fields of a class, with what its arguments and bases give for type variables. By their names in Python."""
    found: dict[str, Any] = {}
    arguments = type_arguments(annotation)
    for cls in reversed(arguments):  # bases first
        names = _own_names(cls)
        if names:
            hints = typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
            found.update({name: substituted(hints[name], arguments[cls]) for name in names})
    kind = kind_of(annotation)
    for attribute in getattr(kind, "__attrs_attrs__", ()):
        found.setdefault(attribute.name, attribute.type or Any)
    return found


def _own_names(cls: type) -> list[str]:
    """Those that it annotates itself. A TypedDict has those of its bases, too."""
    own = inspect.get_annotations(cls)
    if not is_typed_dict(cls):
        return list(own)
    inherited: dict[str, Any] = {}
    for base in vars(cls).get("__orig_bases__", ()):
        if is_typed_dict(kind_of(base)):
            inherited.update(inspect.get_annotations(kind_of(base)))
    return [name for name, hint in own.items() if inherited.get(name) is not hint]


def holds(annotation: Any, wanted: Callable[[Any], bool]) -> bool:
    """Is a class that is wanted declared anywhere in it? Does not look into models of pydantic."""
    todo, seen = [annotation], list[Any]()
    while todo:
        for member in members(todo.pop()):
            kind = kind_of(member)
            if wanted(kind):
                return True
            if member in seen:
                continue
            seen.append(member)
            if kind is not typing.Literal:
                todo += item_types(member) if isinstance(kind, type) else typing.get_args(member)
            if is_named_tuple(kind) or (is_model_class(kind) and not is_pydantic(kind)):
                todo += field_types(member).values()
    return False
