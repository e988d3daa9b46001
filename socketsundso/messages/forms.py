"""
How an annotation looks to pydantic: Structs and attrs classes are validated by msgspec, `Meta` demands what it says.

Both may stand anywhere: behind aliases and NewTypes, in containers, in the fields of dataclasses, TypedDicts and
NamedTuples. Those of pydantic's own models are pydantic's matter: their validators exist already. An `Iterable` is read
to its end before the handler runs, so that its errors are the message's.
"""

from __future__ import annotations

import collections.abc
import copy
import dataclasses
import datetime
import operator
import re
import typing
from collections.abc import Callable, Generator, Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, NotRequired, Required, Union

from msgspec import Meta
from pydantic import AfterValidator, Field, GetCoreSchemaHandler
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import CoreSchema, PydanticKnownError
from typing_extensions import TypeAliasType, TypedDict, is_typeddict

from socketsundso.messages.aliases import UNIONS, alias_of, expanded, hash_of, optional_item, unwrap
from socketsundso.messages.declared import field_types
from socketsundso.messages.structs import is_attrs, is_struct, shim, struct_within, union_members

_NUMERIC = ("gt", "ge", "lt", "le", "multiple_of")
_SIZES = ("min_length", "max_length")
_ITERABLES = (collections.abc.Iterable, collections.abc.Generator)
_QUALIFIERS = (Required, NotRequired)


def pydantic_form(annotation: Any) -> Any:
    """
    `annotation` as pydantic can build it; the very same where pydantic needs no help.

    Raises `UnsupportedAnnotation` for a Struct that msgspec cannot decode.
    """
    return _Forms().of(annotation) if _needs_help(annotation, set()) else annotation


def _needs_help(annotation: Any, seen: set[int]) -> bool:
    """Is there anything within that pydantic does not know, or knows to be something else?"""
    annotation = unwrap(annotation) if alias_of(annotation) is None else annotation
    if is_struct(annotation) or is_attrs(annotation) or typing.get_origin(annotation) in _ITERABLES:
        return True
    if alias_of(annotation) is not None or _fields(annotation):
        if hash_of(annotation) in seen:
            return False
        seen.add(hash_of(annotation))
    if alias_of(annotation) is not None:
        return _needs_help(expanded(annotation), seen)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return False
    if origin is Annotated:
        return any(isinstance(marker, Meta) for marker in args[1:]) or _needs_help(args[0], seen)
    return any(_needs_help(each, seen) for each in (*args, *_fields(annotation).values()))


def _fields(annotation: Any) -> dict[str, Any]:
    """
    The fields of a class that pydantic would read the annotations of: TypedDict, plain dataclass, NamedTuple.

    With what its arguments and bases give in the place of type variables.
    """
    kind = typing.get_origin(annotation) or annotation
    if not isinstance(kind, type) or not (is_typeddict(kind) or _is_plain_dataclass(kind) or hasattr(kind, "_fields")):
        return {}
    if hasattr(kind, "__get_pydantic_core_schema__"):
        return {}
    try:
        return field_types(annotation)
    except Exception:  # a name that is not known here: pydantic looks for it in its own way, and tells
        return {}


def _is_plain_dataclass(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) and not is_pydantic_dataclass(kind)


class _Forms:
    """One annotation's forms. What is within itself is made once and referred to."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._within: dict[int, _Later] = {}

    def of(self, annotation: Any) -> Any:
        if alias_of(annotation) is not None:
            return self._once(annotation, self._alias)
        if isinstance(annotation, NewType):
            form = self.of(annotation.__supertype__)
            return annotation if form is annotation.__supertype__ else form
        if is_struct(annotation) or is_attrs(annotation):
            return shim(annotation)
        if _fields(annotation):
            return self._once(annotation, self._twin)
        if isinstance(annotation, type) and not typing.get_args(annotation):
            return annotation
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is None or origin is Literal:
            return annotation
        if origin is Annotated:
            return self._annotated(args)
        if origin in UNIONS:
            return self._union(annotation, args)
        if origin in _ITERABLES:
            items = origin[tuple(map(self.of, args))]
            return Annotated[items, AfterValidator(_all_of if origin is collections.abc.Iterable else _again)]
        forms = tuple(self.of(arg) for arg in args)
        if all(map(operator.is_, forms, args)):
            return annotation
        return origin[forms[0] if len(forms) == 1 else forms]

    def _once(self, annotation: Any, make: Callable[[Any], Any]) -> Any:
        key = hash_of(annotation)
        if key in self._made:
            return self._made[key]
        if key in self._within:
            return self._within[key].referred()
        later = self._within[key] = _Later()
        form = make(annotation)
        if later.is_referred:
            later.form = form = TypeAliasType(_name(annotation), form)
        self._made[key] = form
        return form

    def _alias(self, annotation: Any) -> Any:
        value = expanded(annotation)
        if not _needs_help(value, set()):
            return annotation
        return self.of(value)

    def _union(self, annotation: Any, args: tuple[Any, ...]) -> Any:
        members = union_members(annotation)
        structs = [struct for struct in map(struct_within, members) if struct is not None]
        if len(structs) > 1:  # told apart by their tag, which only msgspec knows
            rest = tuple(self.of(member) for member in members if struct_within(member) is None)
            return Union[(shim(Union[tuple(structs)]), *rest)]
        forms = tuple(self.of(arg) for arg in args)
        return annotation if all(map(operator.is_, forms, args)) else Union[forms]

    def _annotated(self, args: tuple[Any, ...]) -> Any:
        base, *metadata = args
        form = self.of(base)
        for marker in metadata:
            form = self._demanding(form, base, marker) if isinstance(marker, Meta) else Annotated[form, marker]
        return form

    def _demanding(self, form: Any, base: Any, meta: Meta) -> Any:
        members = union_members(base)
        if len(members) > 1 and optional_item(unwrap(base)) is None:
            # of several, each is asked for what can be asked of it
            return Union[tuple(self._demanding(self.of(m), m, _applicable(meta, m)) for m in members)]
        return Annotated[(form, *_demands(meta))]

    def _twin(self, annotation: Any) -> Any:
        """A class with the same fields in their forms, in whose place instances of the class itself are made."""
        hints = _fields(annotation)
        forms = {name: self.of(hint) for name, hint in hints.items()}
        if all(forms[name] is hint for name, hint in hints.items()):
            return annotation
        kind: Any = typing.get_origin(annotation) or annotation
        if is_typeddict(kind):
            return _typed_dict(kind, forms)
        namespace = {"__annotations__": forms, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
        twin = type(kind.__name__, (kind,), {**namespace, "__doc__": kind.__doc__})
        if dataclasses.is_dataclass(kind):
            twin.__dataclass_fields__ = {  # type: ignore[attr-defined]  # what makes it a dataclass
                name: _typed(field, forms.get(name, field.type)) for name, field in kind.__dataclass_fields__.items()
            }
        return Annotated[Any, _Making(kind, twin)]


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or "Recursive"


class _Later:
    """Stands for a form within itself."""

    form: Any = None
    is_referred = False

    def referred(self) -> Any:
        self.is_referred = True
        return Annotated[Any, self]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.form)


class _Making:
    """Validates as the twin says, and makes instances of the class itself."""

    def __init__(self, kind: type, twin: type) -> None:
        self.kind, self.twin = kind, twin

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler.generate_schema(self.twin)
        made: Any = handler.resolve_ref_schema(schema)
        for key in ("cls", "function"):  # of a NamedTuple some versions of pydantic call the class
            if made.get(key) is self.twin:
                made[key] = self.kind
        return schema


def _typed_dict(kind: Any, forms: dict[str, Any]) -> Any:
    hints: dict[str, Any] = {}
    for name, form in forms.items():
        if typing.get_origin(form) not in _QUALIFIERS:
            form = Required[form] if name in kind.__required_keys__ else NotRequired[form]
        hints[name] = form
    twin: Any = TypedDict(kind.__name__, hints)  # type: ignore[misc]  # made at run time
    twin.__module__, twin.__qualname__, twin.__doc__ = kind.__module__, kind.__qualname__, kind.__doc__
    if hasattr(kind, "__pydantic_config__"):
        setattr(twin, "__pydantic_config__", kind.__pydantic_config__)  # noqa: B010  # not one of TypedDict's own
    return twin


def _typed(field: Any, kind: Any) -> Any:
    field = copy.copy(field)
    field.type = kind
    return field


# ---------------------------------------------------------------------- what Meta demands


def _demands(meta: Meta) -> list[Any]:
    """msgspec's `Meta` in pydantic's words."""
    names = (*_NUMERIC, *_SIZES, "title", "description", "examples")
    demands: list[Any] = [Field(**{name: getattr(meta, name) for name in names if getattr(meta, name) is not None})]
    if meta.pattern is not None:  # Python's own regular expressions, which know more than pydantic's
        demands.append(AfterValidator(_Demanded(Meta(pattern=meta.pattern), _matching(meta.pattern))))
    if meta.tz is not None:
        demands.append(AfterValidator(_Demanded(Meta(tz=meta.tz), _aware if meta.tz else _naive)))
    return demands


class _Demanded:
    """A check that tells what it asks for."""

    def __init__(self, demanded: Meta, check: Callable[[Any], Any]) -> None:
        self.demanded, self._check = demanded, check

    def __call__(self, value: Any) -> Any:
        return self._check(value)


def _applicable(meta: Meta, kind: Any) -> Meta:
    """What of `meta` can be asked of this type."""
    kind = unwrap(kind)
    while typing.get_origin(kind) is Annotated:
        kind = unwrap(typing.get_args(kind)[0])
    kind = typing.get_origin(kind) or kind
    is_number = kind in (int, float, Decimal)
    has_size = isinstance(kind, type) and hasattr(kind, "__len__")
    names = (*(_NUMERIC if is_number else ()), *(_SIZES if has_size else ()), "pattern", "tz", "title", "description")
    return Meta(**{name: getattr(meta, name) for name in names if getattr(meta, name) is not None})


def _matching(pattern: str) -> Callable[[Any], Any]:
    search = re.compile(pattern).search

    def check(value: Any) -> Any:
        if isinstance(value, str) and search(value) is None:
            raise PydanticKnownError("string_pattern_mismatch", {"pattern": pattern})
        return value

    return check


def _aware(value: Any) -> Any:
    if isinstance(value, datetime.datetime | datetime.time) and value.tzinfo is None:
        raise PydanticKnownError("timezone_aware")
    return value


def _naive(value: Any) -> Any:
    if isinstance(value, datetime.datetime | datetime.time) and value.tzinfo is not None:
        raise PydanticKnownError("timezone_naive")
    return value


# ---------------------------------------------------------------------- what pydantic would validate lazily


def _all_of(items: Iterable[Any]) -> Iterable[Any]:
    return list(items)


def _again(items: Generator[Any, Any, Any]) -> Any:
    return iter(list(items))
