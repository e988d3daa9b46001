"""
Values -> JSON bytes with a `type`, for events with a response model: `encoder_for` chooses how.

    {"time": "5"}  from the handler of "ping", `-> Pong`   ->   {"type":"ping","time":5}

The value is validated and written as FastAPI would, by the declared model's serializer, so that nothing goes out that
the model does not have. `type` is the value's own, else its model's default, else the event's name. Refuses, with
`ResponseError`, a value that is not valid; with `DefinitionError` a model that cannot be a reply.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union

import msgspec
from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, ValidationError

from socketsundso.errors import DefinitionError
from socketsundso.messages.annotations import alias_value, is_alias
from socketsundso.messages.core_schemas import may_write_nan, written_keys
from socketsundso.messages.plain_models import plain_encode
from socketsundso.messages.response_errors import ResponseError, invalid, not_an_object, struct_detail
from socketsundso.messages.values import (
    BRACE,
    FAILURES,
    TYPE_FIRST,
    Encoder,
    builtins_of,
    failure,
    form_of,
    guarded,
    is_struct,
    own_type,
    struct_json,
)

_UNIONS = (Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class ResponseOptions:
    """`response_model_*`, as in FastAPI."""

    include: Any = None
    exclude: Any = None
    by_alias: bool = True
    exclude_unset: bool = False
    exclude_defaults: bool = False
    exclude_none: bool = False

    def arguments(self) -> dict[str, Any]:
        """Only what differs from pydantic's defaults, since each argument costs."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in given.items() if name == "by_alias" or value not in (None, False)}

    @property
    def drops_fields(self) -> bool:
        """Could any of these leave a field out?"""
        return len(self.arguments()) > 1


def is_model(annotation: Any) -> bool:
    """Does it name a model: pydantic, dataclass, TypedDict, Struct, or a Union or Optional of such?"""
    members = _members(annotation)
    models = [member for member in members if member is not type(None)]
    return bool(models) and all(_is_one_model(member) for member in models)


def _members(annotation: Any) -> list[Any]:
    while is_alias(annotation) or typing.get_origin(annotation) is Annotated:
        annotation = alias_value(annotation) if is_alias(annotation) else typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in _UNIONS:
        return [member for arg in typing.get_args(annotation) for member in _members(arg)]
    return [type(None) if annotation is None else annotation]


def _kind(annotation: Any) -> Any:
    """The class of a parametrised one."""
    return typing.get_origin(annotation) or annotation


def _is_one_model(annotation: Any) -> bool:
    kind = _kind(annotation)
    return isinstance(kind, type) and (
        issubclass(kind, BaseModel | msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or _is_typed_dict(kind)
        or hasattr(kind, "__attrs_attrs__")
    )


def _is_typed_dict(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


class ModelEncoder(Encoder):
    """Replies validated and written by a pydantic adapter of the response model."""

    def __init__(self, event: str, model: Any, options: ResponseOptions, ref_key: str) -> None:
        super().__init__(event, ref_key)
        adapter = _adapter(event, model)
        self._validate = adapter.validator.validate_python
        self._to_json = adapter.serializer.to_json
        self._arguments = options.arguments()
        self._fills_type = any(_requires_type(member) for member in _members(model))
        self._by_alias = options.by_alias
        keys = written_keys(adapter.core_schema, options.by_alias)
        if keys is not None and ref_key in keys:
            raise _has_ref(event, model, ref_key)
        if keys is not None and not may_write_nan(adapter.core_schema):  # chosen once, not for every reply
            is_typeless = "type" not in keys and not self._fills_type
            encode = self._closed_encode() if is_typeless else self._encode_typed
            if not options.drops_fields:
                encode = plain_encode(adapter.core_schema, event, options.by_alias, encode) or encode
            self.encode = encode  # type: ignore[method-assign,assignment]

    def validate(self, value: Any) -> Any:
        if self._fills_type and isinstance(value, Mapping) and "type" not in value:
            value = {"type": self._typing.event, **value}
        try:
            return self._validate(value, from_attributes=True)
        except ValidationError as exc:
            raise invalid(exc) from exc

    def _closed_encode(self) -> Callable[[Any], bytes]:
        """`encode` for a model that cannot write a `type`: a closure, since it runs for every reply."""
        validate = self._validate
        to_json: Callable[..., bytes] = self._to_json
        by_alias, arguments = self._by_alias, self._arguments
        if len(arguments) > 1:  # else without a partial, which costs half as much as writing a small model
            to_json = functools.partial(to_json, **arguments)
        start, bare = self._typing.open, self._typing.bare

        def encode(value: Any) -> bytes:
            try:
                body = to_json(validate(value, from_attributes=True), by_alias=by_alias)
            except ValidationError as exc:
                raise invalid(exc) from exc
            except PydanticSerializationError as exc:
                raise failure(value, exc) from exc
            if body[0] != BRACE:
                raise ResponseError([not_an_object()])
            return start + body[1:] if len(body) > 2 else bare

        return encode

    def _encode_typed(self, value: Any) -> bytes:
        valid = self.validate(value)
        body = guarded(self._write, valid)
        return body if body.startswith(TYPE_FIRST) else self._typing.complete(body, own_type(valid, self._by_alias))

    def _write(self, valid: Any) -> bytes:
        return self._to_json(valid, **self._arguments)

    def encode(self, value: Any) -> bytes:
        valid = self.validate(value)
        body = guarded(self._write, valid)
        return self._typing.complete(body, own_type(valid, self._by_alias))


def _requires_type(model: Any) -> bool:
    model = _kind(model)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return any(
            (field.validation_alias or field.alias or name) == "type" and field.is_required()
            for name, field in model.model_fields.items()
        )
    if isinstance(model, type) and dataclasses.is_dataclass(model):
        return any(
            f.name == "type" and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            for f in dataclasses.fields(model)
        )
    return "type" in getattr(model, "__required_keys__", ())


def _adapter(event: str, model: Any) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(model)
        for member in _members(model):
            if isinstance(member, type) and issubclass(member, BaseModel):
                member.model_rebuild(raise_errors=True)
        adapter.rebuild(raise_errors=True)
    except (PydanticUserError, NameError, TypeError) as exc:
        text = str(exc).splitlines()[0]
        raise DefinitionError(f"event {event!r}: pydantic cannot build the response model {model!r}: {text}") from exc
    return adapter


class StructEncoder(Encoder):
    """Replies converted and written by msgspec."""

    def __init__(self, event: str, model: Any, ref_key: str) -> None:
        super().__init__(event, ref_key)
        self._model = model
        self._members = tuple(m for m in _members(model) if m is not type(None))
        self._forms = {_kind(m): form_of(_kind(m)) for m in self._members}
        try:
            self._nested = _struct_tree(self._members)
        except NameError as exc:
            raise DefinitionError(f"event {event!r}: the response model {model!r} cannot be resolved: {exc}") from exc
        if len(self._members) == 1 and not self._nested and _is_tagged(self._members[0]):
            self.encode = self._tagged_encode(_kind(self._members[0]))  # type: ignore[method-assign,assignment]

    def _tagged_encode(self, kind: type) -> Callable[[Any], bytes]:
        """`encode` for one Struct that brings its `type` and nests none: a closure, since it runs for every reply."""
        carefully = self.encode

        def encode(value: Any) -> bytes:
            if type(value) is not kind:
                return carefully(value)
            try:
                return struct_json(value)
            except FAILURES as exc:
                raise failure(value, exc) from exc

        return encode

    def validate(self, value: Any) -> Any:
        if type(value) in self._forms and not (self._nested and self._may_leak()):
            return value
        error: Exception | None = None
        for member in sorted(self._members, key=lambda m: _kind(m) is not type(value)):
            try:
                return self._convert(value, member)
            except (msgspec.ValidationError, TypeError, PydanticSerializationError) as exc:
                error = exc
        raise ResponseError([struct_detail(str(error))]) from error

    def _convert(self, value: Any, member: Any) -> Any:
        kind = _kind(member)
        if isinstance(value, kind):  # a subclass, or with one inside: as the declared fields alone
            return msgspec.convert(_retagged(builtins_of(value), kind), member, dec_hook=_from_builtins)
        valid = msgspec.convert(value, member, from_attributes=True, dec_hook=_from_builtins)
        if self._may_leak():
            return msgspec.convert(builtins_of(valid), member, dec_hook=_from_builtins)
        return valid

    def encode(self, value: Any) -> bytes:
        valid = self.validate(value)
        return self._encode_by_form(valid, self._forms.get(type(valid)) or form_of(type(valid)))

    def _may_leak(self) -> bool:
        """A Struct below could be of a subclass, with fields that nobody declared."""
        return any(kind.__subclasses__() for kind in self._nested)


def _is_tagged(member: Any) -> bool:
    """Does each body of this Struct begin with a `type` of its own?"""
    config = getattr(_kind(member), "__struct_config__", None)
    return config is not None and config.tag_field == "type" and isinstance(config.tag, str)


def _from_builtins(kind: type, value: Any) -> Any:
    """msgspec's hook for the classes that it cannot build: pydantic does."""
    try:
        return TypeAdapter(kind).validate_python(value, from_attributes=True)
    except ValidationError as exc:  # whose own text has the value in it
        raise ValueError("; ".join(error["msg"] for error in exc.errors(include_input=False))) from exc
    except PydanticUserError as exc:
        raise TypeError(f"neither msgspec nor pydantic can build {kind!r}") from exc


def _retagged(value: Any, kind: Any) -> Any:
    """A subclass has a tag of its own; the declared class's goes out."""
    config = getattr(kind, "__struct_config__", None)
    return {**value, config.tag_field: config.tag} if config and config.tag_field else value


def _struct_tree(members: tuple[Any, ...]) -> list[type]:
    """The Structs, dataclasses and attrs classes nested in these; themselves only where they nest in one."""
    found: list[type] = []
    todo = [hint for member in members for hint in _hints(member)]
    while todo:
        annotation = todo.pop()
        kind = _kind(annotation)
        todo += typing.get_args(annotation)
        if isinstance(kind, type) and kind not in found and _is_one_model(kind):
            found.append(kind)
            todo += _hints(kind)
    return found


def _hints(kind: Any) -> list[Any]:
    return list(typing.get_type_hints(_kind(kind)).values())


class UnionEncoder(Encoder):
    """Replies of a Union that mixes Structs with pydantic's kinds: the value's own class decides, else each in turn."""

    def __init__(self, event: str, encoders: list[Encoder], ref_key: str) -> None:
        super().__init__(event, ref_key)
        self._encoders = encoders

    def validate(self, value: Any) -> Any:
        return self._first(value, lambda encoder: encoder.validate(value))

    def encode(self, value: Any) -> bytes:
        body: bytes = self._first(value, lambda encoder: encoder.encode(value))
        return body

    def _first(self, value: Any, use: Callable[[Encoder], Any]) -> Any:
        struct_first = is_struct(type(value))
        errors: list[dict[str, Any]] = []
        for encoder in sorted(self._encoders, key=lambda e: isinstance(e, StructEncoder) is not struct_first):
            try:
                return use(encoder)
            except ResponseError as exc:
                errors += exc.errors
        raise ResponseError(errors)


def encoder_for(event: str, response_model: Any, options: ResponseOptions, ref_key: str = "ref") -> Encoder:
    """
    The encoder for an event's replies.

    Raises `DefinitionError` for a response model that cannot be one: no object, not buildable, with the ref key.
    """
    if response_model is None:
        return Encoder(event, ref_key)
    if not is_model(response_model):
        raise _no_object(event, response_model)
    members = [member for member in _members(response_model) if member is not type(None)]
    structs = [member for member in members if is_struct(_kind(member))]
    for member in members:
        _refuse_array(event, member)
    if structs and (options.drops_fields or not options.by_alias):
        raise DefinitionError(
            f"event {event!r}: response_model_* options need a pydantic model, dataclass or TypedDict; for a Struct "
            "use its own omit_defaults and rename"
        )
    for struct in structs:
        if ref_key in (form_of(_kind(struct)).keys or ()):
            raise _has_ref(event, struct, ref_key)
    if not structs:
        return ModelEncoder(event, response_model, options, ref_key)
    others = [member for member in members if member not in structs]
    if not others:
        return StructEncoder(event, response_model, ref_key)
    pydantic_part = ModelEncoder(event, Union[tuple(others)], options, ref_key)
    return UnionEncoder(event, [pydantic_part, StructEncoder(event, Union[tuple(structs)], ref_key)], ref_key)


def _no_object(event: str, model: Any) -> DefinitionError:
    return DefinitionError(
        f"event {event!r}: the response model {model!r} is no object, and a message is one; wrap it in a model with "
        "a field for it, or switch it off with response_model=None"
    )


def _has_ref(event: str, model: Any, ref_key: str) -> DefinitionError:
    return DefinitionError(
        f"event {event!r}: the response model {model!r} has a field {ref_key!r}, which is the key of the message "
        "that is answered; rename it, or set another ref_key on the endpoint"
    )


def _refuse_array(event: str, member: Any) -> None:
    kind = _kind(member)
    if issubclass(kind, msgspec.Struct) and kind.__struct_config__.array_like:
        raise _no_object(event, member)
    if issubclass(kind, RootModel):
        for root in _members(kind.model_fields["root"].annotation):
            origin = _kind(root)
            if root is not type(None) and not (
                is_model(root) or (isinstance(origin, type) and issubclass(origin, Mapping))
            ):
                raise _no_object(event, member)
