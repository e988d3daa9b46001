"""
Values -> JSON bytes with a `type`, for events with a response model: `encoder_for` chooses how.

    {"time": "5"}  from the handler of "ping", `-> Pong`   ->   {"type":"ping","time":5}

The value is validated and written as FastAPI would, by the declared model's serializer, so that nothing goes out that
the model does not have. `type` is the value's own, else its model's default, else the event's name. Refuses, with
`ResponseError`, a value that is not valid; with `DefinitionError` a model that cannot be a reply.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import typing
import warnings
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union

import msgspec
from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, ValidationError

from socketsundso.errors import DefinitionError, DefinitionWarning
from socketsundso.messages.core_schemas import (
    may_write_nan,
    nests_fields,
    silent_serializers,
    writes_no_text,
    written_as,
    written_keys,
)
from socketsundso.messages.declared import (
    as_dict,
    field_types,
    holds,
    is_mapping,
    is_model_class,
    is_pydantic,
    is_struct,
    is_typed_dict,
    kind_of,
    members,
    required_keys,
    settled,
)
from socketsundso.messages.exact_json import exact_json
from socketsundso.messages.framing import CANONICAL, Framing, canonical_framing
from socketsundso.messages.naming import Naming, is_whole_frame, names_itself, own_type
from socketsundso.messages.plain_models import Encode, plain_encode
from socketsundso.messages.plain_structs import struct_encode
from socketsundso.messages.readers import Readers
from socketsundso.messages.response_errors import ResponseError, invalid, not_an_object
from socketsundso.messages.values import (
    BRACE,
    Apart,
    Encoder,
    Flat,
    Form,
    Reframed,
    Undeclared,
    failure,
    form_of,
    guarded,
    struct_json,
)
from socketsundso.messages.writers import Writer, Writers, is_never_text

_SILENT = (Any, object, inspect.Parameter.empty)
_ASYNCHRONOUS = (Awaitable, AsyncIterable)  # what is awaited, or sent one by one, is the reply


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


def _without_none(annotation: Any) -> list[Any]:
    return [member for member in members(annotation) if member is not type(None)]


def is_model(annotation: Any) -> bool:
    """Does it name a model: pydantic, dataclass, TypedDict, Struct, or a Union or Optional of such?"""
    models = _without_none(annotation)
    return bool(models) and all(is_model_class(kind_of(model)) for model in models)


def returned_model(annotation: Any) -> Any:
    """
    The response model that a return annotation is, or None if it says nothing about the fields of a reply.

    `Any`, `None`, `dict` and `dict[str, int]` say nothing. What is no object, and so can be no reply, is given back,
    too: `encoder_for` refuses it.
    """
    choices = _without_none(annotation)
    if not choices or any(map(_is_silent, choices)) or all(map(_is_plain_mapping, choices)):
        return None
    return annotation


def _is_silent(annotation: Any) -> bool:
    kind = kind_of(annotation)
    if kind in _SILENT or not isinstance(kind, type):
        return kind is not typing.Literal
    return issubclass(kind, _ASYNCHRONOUS)


def _is_plain_mapping(annotation: Any) -> bool:
    return is_mapping(kind_of(annotation)) and not holds(annotation, is_model_class)


class ModelEncoder(Encoder):
    """Replies validated and written by a pydantic adapter of the response model."""

    plain: Any = None
    """The core schema, where an instance may be one whose fields are written as they are."""

    def __init__(self, event: str, model: Any, options: ResponseOptions, framing: Framing) -> None:
        super().__init__(event, framing)
        adapter = _adapter(event, model)
        self._schema = adapter.core_schema
        self._validate = adapter.validator.validate_python
        self._to_json = adapter.serializer.to_json
        self._arguments = options.arguments()
        self._nests = nests_fields(adapter.core_schema)
        to_json = functools.partial(self._to_json, **self._arguments)
        self._write: Callable[..., bytes] = exact_json(adapter, self._arguments) if self._nests else to_json
        self._kinds = [kind_of(member) for member in _without_none(model)]
        demands = [_requires_type(kind, framing.type_key) for kind in self._kinds]
        self._fills_type = any(demands)
        self._may_go_without = not all(demands)
        self.by_alias = options.by_alias
        keys = written_keys(adapter.core_schema, options.by_alias)
        key, typing = framing.type_key, self.typing
        if keys is not None and framing.ref_key in keys:
            raise _has_ref(event, model, framing.ref_key)
        if key is not None and any(map(writes_no_text, written_as(adapter.core_schema, key, options.by_alias))):
            raise _has_no_text(event, model, key)
        # chosen once, not for every reply
        if (keys is not None or isinstance(typing, Apart)) and not may_write_nan(adapter.core_schema):
            if isinstance(typing, Apart):
                encode = self._data_encode(typing)
            elif key not in (keys or ()) and not self._fills_type:
                encode = self._closed_encode(typing)
            else:
                encode = self._encode_typed
            self.encode = encode  # type: ignore[method-assign,assignment]
            if not options.drops_fields:
                self.plain = adapter.core_schema
                careful = Encode(encode, lambda value, ref: framing.with_ref(encode(value), ref))
                plain = plain_encode(adapter.core_schema, typing, options.by_alias, careful) or careful
                self.encode, self.encode_answer = plain  # type: ignore[method-assign,assignment]

    def validate(self, value: Any) -> Any:
        lacks_type = self._fills_type and isinstance(value, Mapping) and self._key not in value
        if lacks_type and self._may_go_without:  # an alternative that has its own, or none
            with contextlib.suppress(ValidationError):
                return self._validate(value, from_attributes=True)
        if lacks_type:
            value = {self._key: self.typing.event, **value}
        try:
            return self._validate(value, from_attributes=True)
        except ValidationError as exc:
            raise invalid(exc, self._schema) from exc

    def _closed_encode(self, typing: Flat) -> Callable[[Any], bytes]:
        """`encode` for a model that cannot write a `type`: a closure, since it runs for every reply."""
        validate, to_json, by_alias = self._validate, self._writing(), self.by_alias
        start, bare, schema = typing.open, typing.bare, self._schema

        def encode(value: Any) -> bytes:
            try:
                body = to_json(validate(value, from_attributes=True), by_alias=by_alias)
            except ValidationError as exc:
                raise invalid(exc, schema) from exc
            except PydanticSerializationError as exc:
                raise failure(value, exc) from exc
            if body[0] != BRACE:
                raise ResponseError([not_an_object()])
            return start + body[1:] if len(body) > 2 else bare

        return encode

    def _data_encode(self, typing: Apart) -> Callable[[Any], bytes]:
        """The same for any value, which is the data part."""
        validate, to_json, by_alias = self._validate, self._writing(), self.by_alias
        start, end, schema = typing.open, typing.close, self._schema

        def encode(value: Any) -> bytes:
            try:
                return start + to_json(validate(value, from_attributes=True), by_alias=by_alias) + end
            except ValidationError as exc:
                raise invalid(exc, schema) from exc
            except PydanticSerializationError as exc:
                raise failure(value, exc) from exc

        return encode

    def _writing(self) -> Callable[..., bytes]:
        if self._nests:
            return self._write
        if len(self._arguments) > 1:  # else without a partial, which costs half as much as writing a small model
            return functools.partial(self._to_json, **self._arguments)
        return self._to_json

    def _encode_typed(self, value: Any) -> bytes:
        valid = self.validate(value)
        body = guarded(self._write, valid)
        return body if body.startswith(self.typing.first) else self._complete(body, valid)

    def encode(self, value: Any) -> bytes:
        return self.encode_valid(self.validate(value))

    def encode_valid(self, value: Any) -> bytes:
        return self._complete(guarded(self._write, value), value)

    def _complete(self, body: bytes, valid: Any) -> bytes:
        declared = next((cls for cls in type(valid).__mro__ if cls in self._kinds), None)
        own = None if self._key is None else own_type(valid, self.by_alias, declared, self._key)
        return self.typing.complete(body, own)


def _requires_type(model: Any, key: str | None) -> bool:
    if isinstance(model, type) and issubclass(model, BaseModel):
        return any(
            (field.validation_alias or field.alias or name) == key and field.is_required()
            for name, field in model.model_fields.items()
        )
    if isinstance(model, type) and dataclasses.is_dataclass(model):
        return any(
            f.name == key and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            for f in dataclasses.fields(model)
        )
    return is_typed_dict(model) and key in required_keys(model)


def _adapter(event: str, model: Any) -> TypeAdapter[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(model)
        for member in members(model):
            if isinstance(member, type) and issubclass(member, BaseModel) and member is not BaseModel:
                member.model_rebuild(raise_errors=True)
        adapter.rebuild(raise_errors=True)
    except (PydanticUserError, NameError, TypeError) as exc:
        text = str(exc).splitlines()[0]
        raise DefinitionError(f"event {event!r}: pydantic cannot build the response model {model!r}: {text}") from exc
    for function in silent_serializers(adapter.core_schema):
        warnings.warn(
            f"event {event!r}: {function} has no return annotation, so nobody is told what it writes; add "
            "one, or write `return_type=`",
            DefinitionWarning,
            stacklevel=2,
        )
    return adapter


class StructEncoder(Encoder):
    """Replies converted and written by msgspec, with the declared fields alone."""

    def __init__(self, event: str, model: Any, framing: Framing) -> None:
        super().__init__(event, framing)
        self._members = _without_none(model)
        self.kinds = tuple(
            kind for kind in map(kind_of, self._members) if is_model_class(kind) and not issubclass(kind, Mapping)
        )
        try:
            writers, declared = Writers(), Union[tuple(self._members)]
            write, self._read = writers.of(declared), Readers().later(declared)
        except (PydanticUserError, NameError, TypeError) as exc:
            raise DefinitionError(f"event {event!r}: the response model {model!r} cannot be resolved: {exc}") from exc
        self._forms = {kind: Form(_json_of(write), form_of(kind).keys) for kind in self.kinds}
        self._other = Form(_json_of(write))
        self.whole: dict[type, Form] = {}  # by the value's very class: written by msgspec alone
        for kind in writers.whole(declared):
            self.whole = {kind: form_of(kind)}
        if len(self.kinds) == 1 and issubclass(self.kinds[0], msgspec.Struct):
            careful = Encode(self.encode, self.encode_answer)
            direct = struct_encode(self.kinds[0], self.typing, framing, careful, looks=not self.whole) or careful
            self.encode, self.encode_answer = direct  # type: ignore[method-assign,assignment]

    def validate(self, value: Any) -> Any:
        if type(value) in self.whole or isinstance(value, self.kinds):
            return value
        return self._read(value)

    def encode(self, value: Any) -> bytes:
        return self.encode_valid(self.validate(value))

    def encode_valid(self, value: Any) -> bytes:
        form = self.whole.get(type(value))
        if form is None:
            form = next((self._forms[cls] for cls in type(value).__mro__ if cls in self._forms), self._other)
        return self._encode_by_form(value, form)


def _json_of(write: Writer | None) -> Callable[[Any], bytes]:
    return struct_json if write is None else lambda value: struct_json(write(value))


class UnionEncoder(Encoder):
    """Replies of a Union that mixes Structs with pydantic's kinds: the value's own class decides, else each in turn."""

    def __init__(self, event: str, models: ModelEncoder, structs: StructEncoder, framing: Framing) -> None:
        super().__init__(event, framing)
        self._models, self._structs = models, structs

    def validate(self, value: Any) -> Any:
        return self._first(value, lambda encoder: encoder.validate(value))

    def encode(self, value: Any) -> bytes:
        body: bytes = self._first(value, lambda encoder: encoder.encode(value))
        return body

    def encode_valid(self, value: Any) -> bytes:
        body: bytes = self._first(value, lambda encoder: encoder.encode_valid(value))
        return body

    def _first(self, value: Any, use: Callable[[Encoder], Any]) -> Any:
        encoders: list[Encoder] = [self._models, self._structs]
        if isinstance(value, self._structs.kinds):
            encoders.reverse()
        errors: list[dict[str, Any]] = []
        for encoder in encoders:
            try:
                return use(encoder)
            except ResponseError as exc:
                errors += exc.errors
        raise ResponseError(errors)


class MappingEncoder(Encoder):
    """Replies of a mapping from names to models: its `type` is the message's own, all else is what is declared."""

    def __init__(self, event: str, items: Encoder, framing: Framing) -> None:
        super().__init__(event, framing)
        self._items = items
        self._head = len(msgspec.json.encode({self._key: event})) - 1  # of each body: the event's name

    def validate(self, value: Any) -> Any:
        own, items = _apart(value, self._key)
        return {**own, **self._items.validate(items)}

    def encode(self, value: Any) -> bytes:
        own, items = _apart(value, self._key)
        return self._named(own, self._items.encode(items))

    def encode_valid(self, value: Any) -> bytes:
        own, items = _apart(value, self._key)
        return self._named(own, self._items.encode_valid(items))

    def _named(self, own: dict[str, str], body: bytes) -> bytes:
        if not own:
            return body
        return msgspec.json.encode(own)[:-1] + body[self._head :]


def _apart(value: Any, key: str) -> tuple[dict[str, str], Any]:
    """The `type` of a mapping, if it has one, and the rest."""
    if not isinstance(value, Mapping) or not isinstance(value.get(key), str):
        return {}, value
    return {key: str(value[key])}, {each: item for each, item in value.items() if each != key}


def encoder_for(event: str, response_model: Any, options: ResponseOptions, framing: Framing = CANONICAL) -> Encoder:
    """
    The encoder for an event's replies.

    Raises `DefinitionError` for a response model that cannot be one: not buildable, or, where its fields stand beside
    the keys of the envelope, no object, with the ref key, with a `type` that can be no string.
    """
    if response_model is None:
        return _undeclared(event, framing)
    try:
        given, response_model = response_model, settled(response_model)
        if response_model is not given and returned_model(response_model) is None:
            return _undeclared(event, framing)  # a variable that a subclass gives a type for
        choices = _without_none(response_model)
        if any(as_dict(choice) is not choice for choice in choices):
            choices = [as_dict(choice) for choice in choices]
            response_model = Union[tuple(choices)]
        structs = [choice for choice in choices if holds(choice, is_struct)]
    except NameError as exc:
        raise DefinitionError(
            f"event {event!r}: the response model {response_model!r} cannot be resolved: {exc}"
        ) from exc
    naming = naming_of_replies(choices, framing)
    if framing.whole is not None and naming == "frame":
        return encoder_for(event, response_model, options, framing.whole)
    if not framing.is_canonical and naming == "type":
        return Reframed(encoder_for(event, response_model, options, canonical_framing(framing.ref_key)), framing)
    is_flat = framing.type_key is not None
    if is_flat:
        if not choices or choices == [dict]:
            raise _no_object(event, response_model)
        for choice in choices:
            _refuse_no_object(event, choice)
    if structs and (options.drops_fields or not options.by_alias):
        raise DefinitionError(
            f"event {event!r}: response_model_* options need a pydantic model, dataclass or TypedDict; for a Struct "
            "use its own omit_defaults and rename"
        )
    for struct in structs if is_flat else ():
        _refuse_struct(event, struct, framing)
    others = [choice for choice in choices if choice not in structs]
    if not structs:
        encoder: Encoder = ModelEncoder(event, response_model, options, framing)
    elif not others:
        encoder = StructEncoder(event, response_model, framing)
    else:
        models = ModelEncoder(event, Union[tuple(others)], options, framing)
        encoder = UnionEncoder(event, models, StructEncoder(event, Union[tuple(structs)], framing), framing)
    is_single_mapping = is_flat and len(choices) == 1 and is_mapping(kind_of(choices[0]))
    return MappingEncoder(event, encoder, framing) if is_single_mapping else encoder


def naming_of_replies(choices: list[Any], framing: Framing) -> Naming:
    """By what the replies of one event are named, which may be of any of these classes."""
    if framing.is_canonical:
        return "type"
    is_frame = functools.partial(is_whole_frame, key=framing.model_key, names=framing.names)
    if framing.whole is not None and choices and all(map(is_frame, choices)):
        return "frame"
    return "type" if _is_named_by_type(choices, framing) else "class"


def _is_named_by_type(choices: list[Any], framing: Framing) -> bool:
    """Do some of the classes say in a `type` what they are called, and none at the key of the envelope?"""
    key = framing.type_key
    by_key = key is not None and any(names_itself(kind, key) for kind in choices)
    return framing.names_replies and not by_key and any(map(names_itself, choices))


def _undeclared(event: str, framing: Framing) -> Encoder:
    is_named = framing.names_replies and not framing.is_canonical
    return Undeclared(event, framing) if is_named else Encoder(event, framing)


def _no_object(event: str, model: Any) -> DefinitionError:
    return DefinitionError(
        f"event {event!r}: the response model {model!r} is no object, and a message is one; wrap it in a model with "
        "a field for it, or switch it off with response_model=None"
    )


def _has_ref(event: str, model: Any, ref_key: Any) -> DefinitionError:
    return DefinitionError(
        f"event {event!r}: the response model {model!r} has a field {ref_key!r}, which is the key of the message "
        "that is answered; rename it, or set another ref_key on the endpoint"
    )


def _has_no_text(event: str, model: Any, key: str | None) -> DefinitionError:
    return DefinitionError(
        f"event {event!r}: the response model {model!r} has a field {key!r} that is never a string, and the `{key}` of "
        "a message is one; rename it, give it an alias, or switch the model off with response_model=None"
    )


def _refuse_no_object(event: str, member: Any) -> None:
    kind = kind_of(member)
    if not is_model_class(kind) and not is_mapping(kind) and not is_pydantic(kind):
        raise _no_object(event, member)
    if issubclass(kind, msgspec.Struct) and kind.__struct_config__.array_like:
        raise _no_object(event, member)
    if issubclass(kind, RootModel):
        for root in _without_none(kind.model_fields["root"].annotation):
            if not is_model_class(kind_of(root)) and not is_mapping(kind_of(root)):
                raise _no_object(event, member)


def _refuse_struct(event: str, member: Any, framing: Framing) -> None:
    """For what msgspec writes, and pydantic does not know."""
    kind = kind_of(member)
    if not is_model_class(kind):
        return
    keys = (
        dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))
        if issubclass(kind, msgspec.Struct)
        else {name: name for name in field_types(member)}
    )
    ref_key, key = framing.ref_key, framing.type_key
    if ref_key in keys or ref_key in (form_of(kind).keys or ()):
        raise _has_ref(event, member, ref_key)
    config = getattr(kind, "__struct_config__", None)
    if config and config.tag_field == key:
        is_text = isinstance(config.tag, str)
    else:
        is_text = key not in keys or not is_never_text(field_types(member)[keys[key]])
    if not is_text:
        raise _has_no_text(event, member, key)
