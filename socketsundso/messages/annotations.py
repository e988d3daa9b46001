"""
Which annotations msgspec decodes exactly as pydantic does, and how the others look to pydantic.

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
import operator
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union
from weakref import WeakKeyDictionary

import annotated_types as at
import msgspec
from msgspec import Meta
from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined, ValidationError, to_json
from typing_extensions import TypeAliasType as BackportedAlias

_INT64 = range(-(2**63), 2**63)
_ALIASES: tuple[type, ...] = tuple({BackportedAlias, getattr(typing, "TypeAliasType", BackportedAlias)})
_UNIONS = (Union, types.UnionType)
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


class UnsupportedAnnotation(ValueError):
    """An annotation whose values can never come from JSON; the text says why, and what to write instead."""


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
    annotation = _unwrap(annotation)
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


def _unwrap(annotation: Any) -> Any:
    """What an alias, a NewType or Final stands for."""
    while True:
        if annotation is None:
            return type(None)
        if is_alias(annotation):
            annotation = alias_value(annotation)
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) is Final:
            (annotation,) = typing.get_args(annotation)
        else:
            return annotation


def is_alias(annotation: Any) -> bool:
    """Is it a `type X = ...`, or the backport's?"""
    return isinstance(annotation, _ALIASES)


def alias_value(alias: Any) -> Any:
    """What `type X = ...` stands for."""
    return alias.__value__


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
    if issubclass(kind, msgspec.Struct) or _is_attrs(kind):
        return kind
    return None


def _is_plain_enum(kind: type[enum.Enum]) -> bool:
    if hasattr(kind, "__get_pydantic_core_schema__") or issubclass(kind, enum.Flag) or not len(kind):
        return False
    values = [member.value for member in kind]
    if issubclass(kind, int):
        return all(type(value) is int and value in _INT64 for value in values)
    return all(type(value) is str for value in values)


def _is_attrs(kind: type) -> bool:
    return hasattr(kind, "__attrs_attrs__")


def _native_generic(origin: Any, args: tuple[Any, ...]) -> Any | None:
    if origin is Literal:
        return Literal[args] if all(type(a) in (str, int, bool, type(None)) for a in args) else None
    if origin in _UNIONS:
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
        return None if value is None or _unwrap(args[0]) is not str else _MAPPINGS[origin][str, value]
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return origin[args]  # type: ignore[index]  # a generic Struct
    return None


def _is_hashable_type(kind: Any) -> bool:
    if typing.get_origin(kind) is Annotated:
        return _is_hashable_type(typing.get_args(kind)[0])
    if typing.get_origin(kind) in _UNIONS:
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
    members = [_unwrap(arg) for arg in args]
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
    base = _unwrap(base)
    optional = _optional_item(base)
    if optional is not None:  # pydantic lets null through, whatever the constraint
        item = _native(Annotated[(optional, *metadata)])
        return None if item is None else Union[item, None]
    constraints: dict[str, Any] = {}
    metas: list[Meta] = []
    for marker in _markers(metadata):
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


def _optional_item(annotation: Any) -> Any | None:
    """X of Optional[X]."""
    args = typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else ()
    rest = [arg for arg in args if arg is not type(None)]
    return rest[0] if len(rest) == 1 and len(args) == 2 else None


def _markers(metadata: list[Any]) -> Iterator[Any]:
    for marker in metadata:
        if isinstance(marker, FieldInfo):
            yield _FieldRest(marker)
            yield from marker.metadata
        elif isinstance(marker, at.GroupedMetadata):
            yield from marker
        elif marker is not None:  # conint and its like leave None for what was not asked for
            yield marker


class _FieldRest:
    """What a FieldInfo says beside its constraints."""

    def __init__(self, field: FieldInfo) -> None:
        self.is_harmless = all(
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
    if isinstance(marker, _FieldRest):
        return {} if marker.is_harmless else None
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


# ---------------------------------------------------------------------- what pydantic sees


def pydantic_form(annotation: Any) -> Any:
    """`annotation` as pydantic can build it: Structs and attrs classes validated by msgspec, `Meta` as `Field`."""
    annotation = _struct_alias(annotation)
    if isinstance(annotation, type) and not typing.get_args(annotation):
        is_foreign = issubclass(annotation, msgspec.Struct) or _is_attrs(annotation)
        return _shim(annotation) if is_foreign else annotation
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None or origin is Literal:
        return annotation
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return _shim(annotation)
    if origin is Annotated:
        return _annotated_form(args)
    forms = tuple(pydantic_form(arg) for arg in args)
    if all(map(operator.is_, forms, args)):
        return annotation
    if origin in _UNIONS:
        structs = [arg for arg in args if isinstance(arg, type) and issubclass(arg, msgspec.Struct)]
        if len(structs) > 1:  # told apart by their tag, which only msgspec knows
            rest = tuple(form for form, arg in zip(forms, args, strict=True) if arg not in structs)
            return Union[(_shim(Union[tuple(structs)]), *rest)]
        return Union[forms]
    return origin[forms]


def _struct_alias(annotation: Any) -> Any:
    """An alias is looked through only if that is needed: a recursive one never ends."""
    if is_alias(annotation):
        value = alias_value(annotation)
        if isinstance(value, type) and (issubclass(value, msgspec.Struct) or _is_attrs(value)):
            return value
        return annotation
    return annotation


def _annotated_form(args: tuple[Any, ...]) -> Any:
    base, *metadata = args
    form = pydantic_form(base)
    for marker in metadata:
        form = Annotated[form, _meta_field(marker) if isinstance(marker, Meta) else marker]
    return form


def _meta_field(meta: Meta) -> Any:
    names = (
        "gt",
        "ge",
        "lt",
        "le",
        "multiple_of",
        "min_length",
        "max_length",
        "pattern",
        "title",
        "description",
    )
    return Field(**{name: getattr(meta, name) for name in names if getattr(meta, name) is not None})


_adapters: WeakKeyDictionary[Any, TypeAdapter[Any]] = WeakKeyDictionary()


def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """The pydantic adapter of a class. Raises pydantic's `PydanticUserError` if it cannot be built."""
    adapter = _adapters.get(kind)
    if adapter is None:
        adapter = _adapters[kind] = TypeAdapter(kind)
    return adapter


def by_pydantic(kind: Any, value: Any) -> Any:
    """msgspec's hook for the classes that it does not know: models, URLs, paths. `value` came from JSON."""
    try:
        return adapter_of(kind).validate_json(to_json(value))
    except ValidationError as exc:  # whose own text has the value in it
        raise ValueError("; ".join(error["msg"] for error in exc.errors(include_input=False))) from None


def _shim(kind: Any) -> Any:
    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, kind, dec_hook=by_pydantic)
        except msgspec.ValidationError as exc:
            raise PydanticCustomError("struct_type", "{reason}", {"reason": str(exc)}) from exc

    return Annotated[
        Any,
        PlainValidator(convert),
        PlainSerializer(msgspec.to_builtins, when_used="json"),
        WithJsonSchema(_struct_schema(kind)),
    ]


def _struct_schema(kind: Any) -> dict[str, Any]:
    """msgspec's JSON schema in one piece, since its definitions would not be pydantic's."""
    try:
        schema = msgspec.json.schema(kind)
    except TypeError:  # it holds a type that msgspec has no schema for
        return {"type": "object"}
    definitions = schema.pop("$defs", {})

    def inline(node: Any, within: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [inline(item, within) for item in node]
        if not isinstance(node, dict):
            return node
        name = node.get("$ref", "").rpartition("/")[2]
        if name in within:
            return {"type": "object", "title": name}  # recursive
        if name:
            return inline(definitions[name], (*within, name))
        return {key: inline(item, within) for key, item in node.items() if key != "discriminator"}

    return dict(inline(schema, ()))


# ---------------------------------------------------------------------- what can never come from JSON


_NUMBERS = frozenset({int, float, bool, Decimal, datetime.date, datetime.datetime, datetime.time, datetime.timedelta})
_TEXTS_AND_CONTAINERS = frozenset({str, bytes, list, set, frozenset, tuple, dict})


def _inapplicable(base: Any, metadata: list[Any]) -> str | None:
    """Of a constraint that no value of this type can be asked for. Pydantic would find out with the first value."""
    base = _optional_item(base) or base
    kind = typing.get_origin(base) or base
    if not _is_hashable(kind):
        return None
    for marker in _markers(metadata):
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


def _unbuildable(kind: Any) -> str | None:
    """Of a class within a Struct that neither msgspec nor pydantic can make from JSON."""
    for foreign in _foreign_classes(kind):
        try:
            adapter_of(foreign)
        except Exception as exc:
            return f"neither msgspec nor pydantic can make a {foreign.__name__} from JSON ({type(exc).__name__})"
    return None


def _foreign_classes(kind: Any) -> Iterator[Any]:
    """The classes in a Struct's fields, at any depth, that msgspec does not know."""
    try:
        todo: list[Any] = [msgspec.inspect.type_info(kind)]
    except Exception:  # it cannot be decoded at all, which its decoder will say
        return
    seen: set[int] = set()
    while todo:
        info = todo.pop()
        if isinstance(info, tuple):
            todo += info
        elif isinstance(info, msgspec.inspect.Field):
            todo.append(info.type)
        elif isinstance(info, msgspec.inspect.CustomType):
            yield info.cls
        elif isinstance(info, msgspec.inspect.Type) and id(info) not in seen:
            seen.add(id(info))
            todo += msgspec.structs.astuple(info)


def check(annotation: Any) -> None:
    """Raise `UnsupportedAnnotation` if no JSON value could ever be valid."""
    annotation = annotation if is_alias(annotation) else _unwrap(annotation)
    origin = typing.get_origin(annotation)
    reason = _NOT_FROM_JSON.get(origin) if origin is not None else None
    if reason is None and _is_hashable(annotation):
        reason = _NAMELESS.get(annotation)
    if (
        reason is None
        and origin is Annotated
        and any(type(m).__name__ == "InstanceOf" for m in annotation.__metadata__)
    ):
        reason = "an instance of a class cannot come from JSON; keep it on self"
    if reason is None and origin is Annotated:
        reason = _inapplicable(_unwrap(typing.get_args(annotation)[0]), list(annotation.__metadata__))
    if reason is None and isinstance(origin or annotation, type) and issubclass(origin or annotation, msgspec.Struct):
        reason = _unbuildable(annotation)
    if reason is not None:
        raise UnsupportedAnnotation(f"{annotation!r} is not possible: {reason}")
    args = typing.get_args(annotation)
    for arg in args[:1] if origin is Annotated else () if origin is Literal else args:
        if arg is not Ellipsis:
            check(arg)
