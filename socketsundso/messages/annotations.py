"""
Which annotations msgspec decodes exactly as pydantic does, and which can never come from JSON.

"Exactly" is one-sided: whenever msgspec accepts an input, `TypeAdapter(annotation).validate_json` accepts it too
and gives an equal value of the same type. What pydantic accepts beyond that (`"1"` for an int) is the slow path's
business. `native` is a whitelist, metadata included, because msgspec silently ignores every marker in `Annotated`
that it does not know. `tests/messages/fuzz` tries to refute it.
"""

from __future__ import annotations

import collections.abc
import datetime
import enum
import functools
import typing
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar, Union

import annotated_types as at
import msgspec
from msgspec import Meta
from pydantic import AfterValidator, InstanceOf, PlainSerializer, TypeAdapter, WithJsonSchema, WrapSerializer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from socketsundso.messages.aliases import UNIONS, alias_of, expanded, hash_of, markers, optional_item, unwrap
from socketsundso.messages.forms import pydantic_form as pydantic_form
from socketsundso.messages.structs import UnsupportedAnnotation as UnsupportedAnnotation
from socketsundso.messages.structs import adapter_of, infos_within, is_attrs, is_struct, shim

_INT64 = range(-(2**63), 2**63)
_ATOMS = frozenset({int, float, bool, str, type(None), datetime.date, uuid.UUID})
_UNION_MEMBERS = frozenset({int, float, bool, str, type(None)})
_HASHABLE = frozenset({int, float, bool, str, datetime.date, uuid.UUID})
_SEQUENCES: dict[Any, Any] = {list: list, set: set, frozenset: frozenset, collections.abc.Sequence: list}
_MAPPINGS: dict[Any, Any] = {
    dict: dict,
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}
_BARE = {list: list, set: None, frozenset: None, tuple: tuple, dict: dict, Any: Any, object: Any}
_SIZED = (list, set, frozenset, dict, tuple)
_NOT_FROM_JSON = {
    collections.abc.Callable: "a callable cannot come from JSON",
    type: "a class cannot come from JSON; take its name as a str or a Literal",
    collections.abc.Collection: "pydantic has no validator for Collection; write list[...]",
}
_NAMELESS = {
    typing.Never: "no value has this type",
    typing.NoReturn: "no value has this type",
    typing.Self: "Self is the endpoint; name the type of the value",
    typing.LiteralString: "LiteralString means nothing at run time; write str",
    Callable: "a callable cannot come from JSON",
    type: "a class cannot come from JSON; take its name as a str or a Literal",
}
# What a Field may carry beside its constraints without changing which values are valid.
_HARMLESS_FIELD = frozenset(
    {"annotation", "default", "default_factory", "alias", "alias_priority", "validation_alias", "serialization_alias",
     "title", "description", "examples", "deprecated", "json_schema_extra", "repr", "init", "init_var", "kw_only",
     "field_title_generator", "metadata", "exclude"}
)  # fmt: skip


# ---------------------------------------------------------------------- native


def native(annotation: Any) -> Any | None:
    """The type that msgspec decodes soundly for `annotation`, or None: then pydantic has to look at the raw JSON."""
    try:
        kind = _native(annotation)
        if kind is not None:
            msgspec.json.Decoder(kind)
    except Exception:  # a bound, or a literal, that msgspec cannot hold: it raises what it likes
        return None
    return kind


def _native(annotation: Any) -> Any | None:
    annotation = unwrap(annotation)
    if annotation in _BARE if _is_hashable(annotation) else False:
        return _BARE[annotation]
    if isinstance(annotation, TypeVar):
        unbound = annotation.__bound__ is None and not annotation.__constraints__
        return Any if unbound and not getattr(annotation, "has_default", bool)() else None
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _constrained(annotation)
    if origin is None:
        return _native_class(annotation)
    return _native_generic(origin, typing.get_args(annotation))


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _native_class(kind: Any) -> Any | None:
    if not isinstance(kind, type):
        return None
    if kind in _ATOMS:
        return kind
    if issubclass(kind, enum.Enum):
        return kind if _is_plain_enum(kind) else None
    if issubclass(kind, msgspec.Struct) or is_attrs(kind):
        return kind
    return None


def _is_plain_enum(kind: type[enum.Enum]) -> bool:
    if hasattr(kind, "__get_pydantic_core_schema__") or issubclass(kind, enum.Flag) or not len(kind):
        return False
    values = [member.value for member in kind]
    if issubclass(kind, int):
        return all(type(value) is int and value in _INT64 for value in values)
    return all(type(value) is str for value in values)


def _native_generic(origin: Any, args: tuple[Any, ...]) -> Any | None:
    if origin is Literal:
        return Literal[args] if all(type(a) in (str, int, bool, type(None)) for a in args) else None
    if origin in UNIONS:
        return _native_union(args)
    if origin in _SEQUENCES:
        item = _native(args[0])
        needs_hash = origin in (set, frozenset)
        if item is None or (needs_hash and not _is_hashable_type(item)):
            return None
        return _SEQUENCES[origin][item]
    if origin is tuple:
        return _native_tuple(args)
    if origin in _MAPPINGS:
        value = _native(args[1])
        return None if value is None or unwrap(args[0]) is not str else _MAPPINGS[origin][str, value]
    return origin[args] if is_struct(origin) else None  # a generic Struct


def _is_hashable_type(kind: Any) -> bool:
    if typing.get_origin(kind) is Annotated:
        return _is_hashable_type(typing.get_args(kind)[0])
    if typing.get_origin(kind) in UNIONS:
        return all(_is_hashable_type(member) for member in typing.get_args(kind))
    return kind in _HASHABLE or kind is type(None) or (isinstance(kind, type) and issubclass(kind, enum.Enum))


def _native_tuple(args: tuple[Any, ...]) -> Any | None:
    if args == ((),) or not args:
        return None
    if len(args) == 2 and args[1] is Ellipsis:
        item = _native(args[0])
        return None if item is None else tuple[item, ...]  # type: ignore[valid-type]  # made at run time
    items = [_native(arg) for arg in args if arg is not Ellipsis]
    return None if None in items or len(items) != len(args) else tuple[tuple(items)]  # type: ignore[misc]


def _native_union(args: tuple[Any, ...]) -> Any | None:
    members = [unwrap(arg) for arg in args]
    rest = [member for member in members if member is not type(None)]
    if len(rest) == 1:
        item = _native(rest[0])
        return None if item is None else Union[item, None]
    simple = all(_is_hashable(member) and member in _UNION_MEMBERS for member in members)
    structs = all(
        isinstance(m, type) and issubclass(m, msgspec.Struct) and m.__struct_config__.tag is not None for m in rest
    )
    return Union[tuple(members)] if simple or structs else None


def _constrained(annotation: Any) -> Any | None:
    base, *metadata = typing.get_args(annotation)
    base = unwrap(base)
    optional = optional_item(base)
    if optional is not None:  # pydantic lets null through, whatever the constraint
        item = _native(Annotated[(optional, *metadata)])
        return None if item is None else Union[item, None]
    constraints: dict[str, Any] = {}
    metas: list[Meta] = []
    for marker in markers(metadata):
        if isinstance(marker, Meta):
            metas.append(marker)
            continue
        found = _constraint(marker)
        if found is None or constraints.keys() & found.keys():
            return None
        constraints.update(found)
    inner = _native(base)
    if inner is None:
        return None
    if constraints and not _fit(constraints, inner):
        return None
    if constraints:
        inner = Annotated[inner, Meta(**constraints)]
    return functools.reduce(lambda kind, meta: Annotated[kind, meta], metas, inner)


def _is_harmless(field: FieldInfo) -> bool:
    """Does it say nothing beside its constraints that changes which values are valid?"""
    return all(
        name in _HARMLESS_FIELD or value in (None, False, PydanticUndefined)
        for name, value in getattr(field, "_attributes_set", {}).items()
        if name not in _CONSTRAINTS
    )


_CONSTRAINTS = frozenset({"gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length"})
_MARKERS: dict[type, str] = {
    at.Gt: "gt",
    at.Ge: "ge",
    at.Lt: "lt",
    at.Le: "le",
    at.MultipleOf: "multiple_of",
    at.MinLen: "min_length",
    at.MaxLen: "max_length",
}


def _constraint(marker: Any) -> dict[str, Any] | None:
    """What a marker demands as arguments of `Meta`; `{}` for nothing; None for what is not known."""
    if isinstance(marker, FieldInfo):
        return {} if _is_harmless(marker) else None
    name = _MARKERS.get(type(marker))
    return None if name is None else {name: getattr(marker, name)}


def _fit(constraints: dict[str, Any], kind: Any) -> bool:
    """Can msgspec hold these constraints on this type, with pydantic's meaning?"""
    if {"gt", "ge"} <= constraints.keys() or {"lt", "le"} <= constraints.keys():
        return False
    if constraints.keys() <= {"min_length", "max_length"}:
        origin = typing.get_origin(kind)
        fixed_tuple = origin is tuple and typing.get_args(kind)[-1:] != (Ellipsis,)
        return (kind is str or (origin or kind) in _SIZED) and not fixed_tuple
    if kind is int:
        return all(type(bound) is int and bound in _INT64 for bound in constraints.values())
    return kind is float and all(type(bound) in (int, float) for bound in constraints.values())


# ---------------------------------------------------------------------- what can never come from JSON


_NUMBERS = frozenset({int, float, bool, Decimal, datetime.date, datetime.datetime, datetime.time, datetime.timedelta})
_TEXTS_AND_CONTAINERS = frozenset({str, bytes, list, set, frozenset, tuple, dict})


# The markers that pydantic calls and that leave it to the type what JSON may hold.
_INSTANCE_OF: Any = InstanceOf  # for type checkers it is the class of the instance
_LEAVING = (AfterValidator, _INSTANCE_OF, PlainSerializer, WrapSerializer, WithJsonSchema)


def check(annotation: Any) -> None:
    """
    Raise `UnsupportedAnnotation` if no JSON value could ever be valid.

    What a validator makes of JSON is its own matter: `Annotated[type[Exception], BeforeValidator(by_name)]` is fine.
    """
    _check(annotation, set())


def _check(annotation: Any, seen: set[int]) -> None:
    if alias_of(annotation) is not None:
        if hash_of(annotation) not in seen:
            seen.add(hash_of(annotation))
            _check(expanded(annotation), seen)
        return
    annotation = unwrap(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated and any(map(_takes_over, args[1:])):
        return
    reason = _impossible(annotation, origin)
    if reason is not None:
        raise UnsupportedAnnotation(f"{annotation!r} is not possible: {reason}")
    if origin in UNIONS:
        _check_union(args, seen)
        return
    for arg in args[:1] if origin is Annotated else () if origin is Literal or is_struct(origin) else args:
        if arg is not Ellipsis:
            _check(arg, seen)


def _check_union(members: tuple[Any, ...], seen: set[int]) -> None:
    """One member that JSON can hold is enough, if it is not None."""
    refusals = []
    rest = [member for member in members if member is not type(None)]
    for member in rest:
        try:
            _check(member, seen)
        except UnsupportedAnnotation as exc:
            refusals.append(exc)
    if refusals and (len(refusals) == len(rest) or any(map(is_struct, rest))):
        raise refusals[0]


def _takes_over(marker: Any) -> bool:
    """May it make something else of what JSON holds before the type is asked?"""
    is_leaving = isinstance(marker, _LEAVING) or any(marker is each for each in _LEAVING)
    return hasattr(marker, "__get_pydantic_core_schema__") and not is_leaving


def _impossible(annotation: Any, origin: Any) -> str | None:
    if origin is not None and origin in _NOT_FROM_JSON:
        return _NOT_FROM_JSON[origin]
    if _is_hashable(annotation) and annotation in _NAMELESS:
        return _NAMELESS[annotation]
    if isinstance(annotation, TypeAdapter):
        return "an adapter is no type; name the type that it was made of"
    if origin is Annotated:
        if any(isinstance(marker, _INSTANCE_OF) for marker in annotation.__metadata__):
            return "an instance of a class cannot come from JSON; keep it on self"
        return _inapplicable(unwrap(typing.get_args(annotation)[0]), list(annotation.__metadata__))
    return _undecodable(annotation) if is_struct(annotation) else None


def _inapplicable(base: Any, metadata: list[Any]) -> str | None:
    """Of a constraint that no value of this type can be asked for. Pydantic would find out with the first value."""
    base = optional_item(base) or base
    kind = typing.get_origin(base) or base
    for marker in _constraints_of(metadata):
        if hasattr(marker, "__get_pydantic_core_schema__"):
            return None  # a validator: what is behind it is asked of what it gives
        if isinstance(marker, Meta) and (reason := _senseless(marker, kind)):
            return reason
        if kind in _NUMBERS and isinstance(marker, at.MinLen | at.MaxLen):
            return f"{kind.__name__} has no length"
        bound = getattr(marker, _MARKERS.get(type(marker), ""), None)
        if (
            kind in _TEXTS_AND_CONTAINERS
            and not isinstance(marker, at.MinLen | at.MaxLen)
            and type(bound) in (int, float)
        ):
            return f"{kind.__name__} cannot be compared with a number; its length has min_length and max_length"
    return None


def _senseless(meta: Meta, kind: Any) -> str | None:
    """Of what msgspec's Meta asks for and a type that is known cannot have."""
    known = kind in _NUMBERS or kind in _TEXTS_AND_CONTAINERS
    if known and meta.tz is not None and kind not in (datetime.datetime, datetime.time):
        return f"{kind.__name__} has no time zone"
    if known and meta.pattern is not None and kind is not str:
        return f"{kind.__name__} has no pattern"
    return None


def _constraints_of(metadata: list[Any]) -> Iterator[Any]:
    """What stands in `Annotated`, and what a Meta demands as if each demand stood there alone."""
    for marker in markers(metadata):
        yield marker
        if isinstance(marker, Meta):
            for kind, name in _MARKERS.items():
                if getattr(marker, name) is not None:
                    yield kind(getattr(marker, name))


def _undecodable(kind: Any) -> str | None:
    """Of a Struct that msgspec cannot decode, or of what within it neither msgspec nor pydantic can make from JSON."""
    for info in infos_within(kind):
        if isinstance(info, msgspec.inspect.CustomType):
            kind = typing.get_origin(info.cls) or info.cls
            if _is_hashable(kind) and kind in _NOT_FROM_JSON:
                return _NOT_FROM_JSON[kind]
            try:
                adapter_of(info.cls)
            except Exception as exc:
                name = getattr(info.cls, "__name__", info.cls)
                return f"neither msgspec nor pydantic can make a {name} from JSON ({type(exc).__name__})"
    try:
        shim(kind)
    except UnsupportedAnnotation as exc:
        # a name that is not defined yet may be when the endpoint is made
        return None if isinstance(exc.__cause__, NameError) else str(exc).partition(" is not possible: ")[2]
    return None
