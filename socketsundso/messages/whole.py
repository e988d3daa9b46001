"""
The parameter that is the message: models that say in a Literal which events they are.

    class Join(BaseModel): type: Literal["join"]; room: str
    class Leave(BaseModel): type: Literal["leave"]
    ClientMessage = Annotated[Join | Leave, Field(discriminator="type")]

    events_of(ClientMessage, "type")          ->   ("join", "leave")
    narrowed(ClientMessage, "join", "type")   ->   Join

Also of Structs with tags, dataclasses and TypedDicts; behind aliases, in RootModels, in unions of unions. Reads
annotations and knows no values.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Union

import msgspec
from pydantic import AfterValidator, BeforeValidator, Discriminator, RootModel, Tag, WrapValidator
from pydantic.fields import FieldInfo

from socketsundso.errors import DefinitionError
from socketsundso.messages.aliases import UNIONS, alias_of, expanded, optional_item, unwrap
from socketsundso.messages.declared import bare, field_types, is_model_class, kind_of, members, unwrapped
from socketsundso.messages.signature import Parameter, Signature
from socketsundso.models import EventMessage

_AROUND = (FieldInfo, Discriminator, Tag, AfterValidator, BeforeValidator, WrapValidator)
"""What may stand beside a model that is the message and has its say in how it is validated."""


# ---------------------------------------------------------------------- which events


def events_of(annotation: Any, key: str) -> tuple[str, ...]:
    """
    The values that the models in `annotation` permit at `key`, in their order.

    None at all where there is one among them that says nothing of that: it is a parameter as any other.
    """
    found = _events(annotation, key)
    return () if found is None else tuple(dict.fromkeys(found))


def _events(annotation: Any, key: str) -> list[str] | None:
    annotation = _behind_names(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _events(args[0], key) if all(map(_is_around, args[1:])) else None
    if origin in UNIONS:
        each = [_events(arg, key) for arg in args]
        return None if None in each else [event for events in each for event in events or ()]
    if _is_root_model(annotation):
        return _events(annotation.model_fields["root"].annotation, key)
    return _literals(annotation, key)


def _behind_names(annotation: Any) -> Any:
    while alias_of(annotation) is not None:
        annotation = expanded(annotation)
    return unwrap(annotation)


def _is_around(marker: Any) -> bool:
    return isinstance(marker, _AROUND) or not hasattr(marker, "__get_pydantic_core_schema__")


def _is_root_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, RootModel) and "root" in kind.model_fields


def _literals(annotation: Any, key: str) -> list[str] | None:
    """What one class permits at `key`."""
    kind = kind_of(annotation)
    if not is_model_class(kind):
        return None
    if issubclass(kind, msgspec.Struct):
        config = kind.__struct_config__
        if config.array_like:
            return None
        if config.tag_field == key:
            return [config.tag] if isinstance(config.tag, str) else None
    for name, hint in _fields(annotation).items():
        if key in _keys(kind, name, hint):
            return _texts(hint)
    return None


def keys_of(kind: Any) -> frozenset[str]:
    """All keys that a class takes."""
    return frozenset(key for name, hint in _fields(kind).items() for key in _keys(kind, name, hint))


def _fields(annotation: Any) -> Mapping[str, Any]:
    """The fields of a class: annotations, or what pydantic knows of them."""
    kind = kind_of(annotation)
    known = getattr(kind, "__pydantic_fields__", None)  # of models and of pydantic's dataclasses
    if known is not None:
        return typing.cast("Mapping[str, Any]", known)
    try:
        return field_types(annotation)
    except NameError:  # one that is not defined here: its validator will tell
        return {}


def _keys(kind: Any, name: str, hint: Any) -> list[str]:
    """What a field is called in JSON."""
    if issubclass(kind, msgspec.Struct):
        return [dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)).get(name, name)]
    field = hint if isinstance(hint, FieldInfo) else _field_info(kind, name, hint)
    alias = field.alias if field.validation_alias is None else field.validation_alias
    if alias is None:
        return [name]
    choices = [alias] if isinstance(alias, str) else getattr(alias, "choices", [])
    config = getattr(kind, "model_config", None) or getattr(kind, "__pydantic_config__", {})
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    return [*(each for each in choices if isinstance(each, str)), *([name] if by_name else [])]


def _field_info(kind: Any, name: str, hint: Any) -> FieldInfo:
    default = next((each.default for each in _dataclass_fields(kind) if each.name == name), None)
    hint = unwrapped(hint)
    if isinstance(default, FieldInfo):
        return FieldInfo.from_annotated_attribute(hint, default)
    return FieldInfo.from_annotation(hint)


def _dataclass_fields(kind: Any) -> Sequence[dataclasses.Field[Any]]:
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()


def _texts(hint: Any) -> list[str] | None:
    """The texts of a Literal, or of several; None where anything else is permitted."""
    texts: list[str] = []
    for member in members(hint.annotation if isinstance(hint, FieldInfo) else hint):
        if typing.get_origin(member) is not Literal:
            return None
        values = [each.value if isinstance(each, enum.Enum) else each for each in typing.get_args(member)]
        if not all(isinstance(value, str) for value in values):
            return None
        texts += [str.__str__(value) for value in values]
    return texts


# ---------------------------------------------------------------------- what it is for one of them


def narrowed(annotation: Any, event: str, key: str) -> Any:
    """`annotation` with those members alone that may be `event`. What stands around them stays there."""
    behind = _behind_names(annotation)
    origin, args = typing.get_origin(behind), typing.get_args(behind)
    if origin is Annotated:
        return _around(narrowed(args[0], event, key), args[1:])
    if origin in UNIONS:
        return Union[tuple(narrowed(arg, event, key) for arg in args if event in events_of(arg, key))]
    if _is_root_model(behind):
        return _root_model(behind, event, key)
    return behind


def _around(inner: Any, metadata: Sequence[Any]) -> Any:
    """A discriminator has nothing to choose from where one member is left."""
    if typing.get_origin(bare(inner)) not in UNIONS:
        metadata = [each for marker in metadata for each in _without_discriminator(marker)]
    return Annotated[(inner, *metadata)] if metadata else inner


def _without_discriminator(marker: Any) -> Sequence[Any]:
    if isinstance(marker, FieldInfo) and marker.discriminator is not None:
        return marker.metadata
    return () if isinstance(marker, Discriminator | Tag) else (marker,)


def _root_model(kind: Any, event: str, key: str) -> Any:
    """An heir with the narrower root, whose instances are made those of `kind` itself."""
    declared = kind.model_fields["root"]
    whole = Annotated[declared.annotation, declared] if declared.discriminator else declared.annotation
    root = narrowed(whole, event, key)
    if members(root) == members(whole):
        return kind
    namespace = {"__annotations__": {"root": root}, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    heir: Any = type(kind)(kind.__name__, (kind,), namespace)

    def as_kind(value: Any) -> Any:
        object.__setattr__(value, "__class__", kind)
        return value

    return Annotated[heir, AfterValidator(as_kind)]


# ---------------------------------------------------------------------- of a signature


def event_names(signature: Signature, key: str) -> tuple[str, ...]:
    """
    The events that a handler's own parameter names, if it is the message; () if it is none, or names none.

    An EventMessage names them at `type`, in whatever envelope.
    """
    return _named_by(signature.parameters, key)


def _named_by(parameters: Sequence[Parameter], key: str) -> tuple[str, ...]:
    if len(parameters) != 1 or not _may_be_whole(parameters[0]):
        return ()
    annotation = parameters[0].annotation
    return events_of(annotation, key) or (events_of(annotation, "type") if _event_message(annotation) else ())


def _may_be_whole(parameter: Parameter) -> bool:
    """One with a default may be left out, and one with an alias says where it stands: neither is the message."""
    field = parameter.field
    return parameter.default is None and field.alias is None and field.validation_alias is None


def with_message(signature: Signature, own: Signature, key: str) -> Signature:
    """
    The signature of all that a message fills, with its `message_model`; `own` is the handler's, without dependencies.

    Raises `DefinitionError` where the model is for other events, or is not all that is taken of the message.
    """
    parameters = signature.parameters
    refuse_beside(signature)
    _refuse_taken_beside(signature, own, key)
    if len(parameters) != 1:
        return signature
    (parameter,) = parameters
    events = _named_by(parameters, key)
    if events and signature.event not in events:
        raise DefinitionError(
            f"event {signature.event!r}, parameter {parameter.name!r}: its {key!r} permits only "
            f"{', '.join(map(repr, events))}; write @event({events[0]!r}), or @event alone, which takes the names from "
            "there"
        )
    if events:
        return replace(signature, message_model=narrowed(parameter.annotation, signature.event, key))
    model = _event_message(parameter.annotation)
    return signature if model is EventMessage else replace(signature, message_model=model)


def _event_message(annotation: Any) -> type[EventMessage] | None:
    """The EventMessage that this is, whatever it is called here; None where a validator is around it."""
    annotation = unwrap(annotation)
    if typing.get_origin(annotation) is Annotated:
        base, *metadata = typing.get_args(annotation)
        if any(hasattr(marker, "__get_pydantic_core_schema__") for marker in metadata):
            return None
        return _event_message(base)
    return annotation if isinstance(annotation, type) and issubclass(annotation, EventMessage) else None


def refuse_beside(signature: Signature) -> None:
    """Raises `DefinitionError` where an EventMessage is not all that is taken of the message."""
    if len(signature.parameters) < 2:
        return
    for parameter in signature.parameters:
        model = _event_message(optional_item(unwrap(parameter.annotation)) or parameter.annotation)
        if model is not None:
            others = _others(signature, parameter)
            raise DefinitionError(
                f"event {signature.event!r}, parameter {parameter.name!r}: {model.__name__} is an EventMessage, a "
                f"whole message, and has to be the only parameter; make {others} fields of it, or make it a BaseModel, "
                f"which is taken from the key {parameter.key!r}"
            )


def _refuse_taken_beside(signature: Signature, own: Signature, key: str) -> None:
    """The same of what dependencies take beside the handler's own message."""
    if len(signature.parameters) < 2 or not _named_by(own.parameters, key):
        return
    (parameter,) = own.parameters
    others, name = _others(signature, parameter), parameter.name
    raise DefinitionError(
        f"event {signature.event!r}, parameter {name!r}: it is the whole message, of which a dependency takes {others} "
        f"beside it; make {others} fields of the model and let the dependency take the same {name!r}, or say that the "
        f'model stands at a key of its own: `{name}: Annotated[..., Field(alias="{name}")]`'
    )


def _others(signature: Signature, parameter: Parameter) -> str:
    return ", ".join(repr(other.name) for other in signature.parameters if other.name != parameter.name)
