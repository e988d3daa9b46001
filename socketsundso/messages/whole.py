"""
The parameter that is the message: models that say in a Literal which events they are.

    class Join(BaseModel): type: Literal["join"]; room: str
    class Leave(BaseModel): type: Literal["leave"]
    ClientMessage = Annotated[Join | Leave, Field(discriminator="type")]

    by_event(ClientMessage, "type")   ->   {"join": Join, "leave": Leave}

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


def by_event(annotation: Any, key: str) -> dict[str, Any]:
    """
    The values that the models in `annotation` permit at `key`, and for each what it is then: those members alone.

    What stands around them stays there. Empty where there is one among them that says nothing of its event: it is a
    parameter as any other.
    """
    annotation = _behind_names(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        within = by_event(args[0], key) if all(map(_is_around, args[1:])) else {}
        return {event: _around(member, args[1:]) for event, member in within.items()}
    if origin in UNIONS:
        return _by_event_of_any([by_event(arg, key) for arg in args])
    if _is_root_model(annotation):
        return _by_event_of_root(annotation, key)
    return dict.fromkeys(_literals(annotation, key) or (), annotation)


def _by_event_of_any(choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not all(choices):
        return {}
    found: dict[str, list[Any]] = {}
    for choice in choices:
        for event, annotation in choice.items():
            found.setdefault(event, []).append(annotation)
    return {event: Union[tuple(annotations)] for event, annotations in found.items()}


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


def field_names(annotation: Any) -> frozenset[str]:
    """The fields that all models of a whole message have, by their names in Python."""
    each = [
        field_names(member.model_fields["root"].annotation) if _is_root_model(member) else frozenset(_fields(member))
        for member in members(annotation)
    ]
    return frozenset.intersection(*each)


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


# ---------------------------------------------------------------------- what stands around a member


def _around(inner: Any, metadata: Sequence[Any]) -> Any:
    """A discriminator has nothing to choose from where one member is left."""
    if typing.get_origin(bare(inner)) not in UNIONS:
        metadata = [each for marker in metadata for each in _without_discriminator(marker)]
    return Annotated[(inner, *metadata)] if metadata else inner


def _without_discriminator(marker: Any) -> Sequence[Any]:
    if isinstance(marker, FieldInfo) and marker.discriminator is not None:
        return marker.metadata
    return () if isinstance(marker, Discriminator | Tag) else (marker,)


def _by_event_of_root(kind: Any, key: str) -> dict[str, Any]:
    declared = kind.model_fields["root"]
    whole = Annotated[declared.annotation, declared] if declared.discriminator else declared.annotation
    found = by_event(whole, key)
    is_one = len({id(member) for member in found.values()}) == 1
    return {event: kind if is_one else _heir(kind, root) for event, root in found.items()}


def _heir(kind: Any, root: Any) -> Any:
    """A RootModel with a narrower root, whose instances are made those of `kind` itself."""
    namespace = {"__annotations__": {"root": root}, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    heir: Any = type(kind)(kind.__name__, (kind,), namespace)

    def as_kind(value: Any) -> Any:
        object.__setattr__(value, "__class__", kind)
        return value

    return Annotated[heir, AfterValidator(as_kind)]


# ---------------------------------------------------------------------- of a signature


class Wholes:
    """The message of one handler, event by event. It is taken apart once, however many events there are."""

    def __init__(self) -> None:
        self._latest: tuple[Any, str, dict[str, Any]] = (None, "", {})

    def members(self, parameters: Sequence[Parameter], key: str) -> Mapping[str, Any]:
        """
        The events that these parameters name, if they are the message, and what it is for each of them.

        An EventMessage names them at `type`, in whatever envelope.
        """
        if len(parameters) != 1 or not _may_be_whole(parameters[0]):
            return {}
        annotation = parameters[0].annotation
        if self._latest[0] is not annotation or self._latest[1] != key:
            found = by_event(annotation, key) or (by_event(annotation, "type") if _event_message(annotation) else {})
            self._latest = annotation, key, found
        return self._latest[2]

    def complete(self, signature: Signature, own: Signature, key: str) -> Signature:
        """
        The signature of all that a message fills, with its `message_model`; `own` is without dependencies.

        Raises `DefinitionError` where the model is for other events, or is not all that is taken of the message.
        """
        parameters, event = signature.parameters, signature.event
        refuse_beside(signature)
        if len(parameters) > 1 and self.members(own.parameters, key):
            raise _taken_beside(signature, own)
        if len(parameters) != 1:
            return signature
        (parameter,) = parameters
        members = self.members(parameters, key)
        if members and event not in members:
            raise DefinitionError(
                f"event {event!r}, parameter {parameter.name!r}: its {key!r} permits only "
                f"{', '.join(map(repr, members))}; write @event({next(iter(members))!r}), or @event alone, which takes "
                "the names from there"
            )
        if members:
            return replace(signature, message_model=members[event])
        model = _event_message(parameter.annotation)
        return signature if model is EventMessage else replace(signature, message_model=model)


def _may_be_whole(parameter: Parameter) -> bool:
    """One with a default may be left out, and one with an alias says where it stands: neither is the message."""
    field = parameter.field
    return parameter.default is None and field.alias is None and field.validation_alias is None


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


def _taken_beside(signature: Signature, own: Signature) -> DefinitionError:
    """The same of what dependencies take beside the handler's own message."""
    (parameter,) = own.parameters
    others, name = _others(signature, parameter), parameter.name
    return DefinitionError(
        f"event {signature.event!r}, parameter {name!r}: it is the whole message, of which a dependency takes {others} "
        f"beside it; make {others} fields of the model and let the dependency take the same {name!r}, or say that the "
        f'model stands at a key of its own: `{name}: Annotated[..., Field(alias="{name}")]`'
    )


def _others(signature: Signature, parameter: Parameter) -> str:
    return ", ".join(repr(other.name) for other in signature.parameters if other.name != parameter.name)
