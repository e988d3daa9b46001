"""
Values -> JSON bytes with a `type`: replies (`encoder_for`) and pushes (`encode_push`).

    {"time": ...}  from the handler of "ping"   ->   {"type":"ping","time":"2026-01-01T00:00:00Z"}

`type` is the value's own, else its model's default, else the event's name. With a response model the value is
validated and written as FastAPI would, by the declared model's serializer; without one it looks as pydantic would
write it. A user's model is never changed, and what is learnt about it is kept here, not on it.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union
from weakref import WeakKeyDictionary

import msgspec
import orjson
from msgspec import Raw
from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, ValidationError, to_json, to_jsonable_python

from socketsundso.annotations import alias_value, is_alias
from socketsundso.errors import DefinitionError, EventError

_MAX_ERRORS = 100
_ORJSON = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS
_UNIONS = (Union, types.UnionType)
_EXPECTED = re.compile(r"(ValueError|AssertionError|PydanticSerializationError|TypeError: Unable)\b")


class ResponseError(EventError):
    """
    What a handler returned is no valid reply: `response_error`, each `loc` beginning with "response".

    The values themselves are never echoed; they are the server's.
    """

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("response_error", errors=errors)

    def __str__(self) -> str:
        return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in self.errors)


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
        return {name: value for name, value in given.items() if value or name == "by_alias"}

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


def _is_one_model(annotation: Any) -> bool:
    kind = typing.get_origin(annotation) or annotation
    return isinstance(kind, type) and (
        issubclass(kind, BaseModel | msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or _is_typed_dict(kind)
        or hasattr(kind, "__attrs_attrs__")
    )


def _is_typed_dict(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def _is_struct(annotation: Any) -> bool:
    kind = typing.get_origin(annotation) or annotation
    return isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or hasattr(kind, "__attrs_attrs__"))


# ---------------------------------------------------------------------- `type` and `ref`


def append_ref(body: bytes, ref_key: str, ref: int | str) -> bytes:
    """`body` with the key that tells which message it answers."""
    return b"%b,%b:%b}" % (body[:-1], msgspec.json.encode(ref_key), msgspec.json.encode(ref))


class _Typing:
    """Puts `type` into a body, for one event."""

    def __init__(self, event: str, ref_key: str) -> None:
        self.event = event
        self.ref_key = ref_key
        self.head = b'{"type":%b' % msgspec.json.encode(event)

    def splice(self, body: bytes) -> bytes:
        """For a body that is known to be an object without `type`."""
        return self.head + (b"}" if body == b"{}" else b"," + body[1:])

    def complete(self, body: bytes, own: Any = None) -> bytes:
        """
        For any other body: keep its own `type`, else put in `own`, else the event's name.

        Raises `ResponseError` for what is no object, or holds a `type` that is no string, or the ref key.
        """
        if not body.startswith(b"{"):
            raise ResponseError([_not_an_object()])
        keys = msgspec.json.decode(body, type=dict[str, Raw])
        if self.ref_key in keys:
            raise ResponseError([_brings_ref(self.ref_key)])
        given = bytes(keys["type"]) if "type" in keys else b"null"
        if given.startswith(b'"'):
            return body
        if given != b"null":
            raise ResponseError([_detail("string_type", ["type"], "Input should be a valid string")])
        keys.pop("type", None)
        name = own if isinstance(own, str) else self.event
        return msgspec.json.encode({"type": str(name), **keys})


def _detail(kind: str, loc: list[Any], msg: str) -> dict[str, Any]:
    return {"type": kind, "loc": ["response", *loc], "msg": msg}


def _not_an_object() -> dict[str, Any]:
    return _detail("dict_type", [], "Input should be a valid dictionary")


def _brings_ref(ref_key: str) -> dict[str, Any]:
    return _detail("reserved_key", [ref_key], f"The key {ref_key!r} is reserved for the message that is answered")


def _own_type(value: Any) -> Any:
    """The value's own `type`, or its model's default, where an option left it out of the body."""
    own = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return getattr(own, "value", own)


# ---------------------------------------------------------------------- values without a response model


def _jsonable(value: Any) -> Any:
    """orjson's hook for what it does not know."""
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return orjson.Fragment(_pydantic_json(value))
    if _is_struct(type(value)):
        return orjson.Fragment(msgspec.json.encode(value, enc_hook=to_jsonable_python))
    return to_jsonable_python(value, inf_nan_mode="null")


def _struct_builtins(value: Any) -> Any:
    if _is_struct(type(value)):
        return msgspec.to_builtins(value, enc_hook=to_jsonable_python)
    raise TypeError(f"Unable to serialize {type(value).__name__}")


def _pydantic_json(value: Any) -> bytes:
    return to_json(value, inf_nan_mode="null", fallback=_struct_builtins)


def _dict_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, _jsonable, _ORJSON)
    except (
        TypeError,
        RecursionError,
    ):  # JSONEncodeError is a TypeError: what orjson refuses, pydantic may know
        return _pydantic_json(value)


def _json(value: Any) -> bytes:
    if isinstance(value, dict):
        return _dict_json(value)
    if _is_struct(type(value)):
        return msgspec.json.encode(value, enc_hook=to_jsonable_python)
    return _pydantic_json(value)


def _guarded(encode: Callable[[Any], bytes], value: Any) -> bytes:
    """`encode(value)`; what cannot be encoded raises `ResponseError`, a bug in user code itself."""
    try:
        return encode(value)
    except PydanticSerializationError as exc:
        _raise_unexpected(exc)
        raise _unserializable(value) from exc
    except ResponseError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise _unserializable(value) from exc


def _raise_unexpected(exc: PydanticSerializationError) -> None:
    text = str(exc)
    marker = "Error calling function `"
    if marker in text:
        cause = text[text.rindex(marker) :].partition("`: ")[2]
        if not _EXPECTED.match(cause):
            raise RuntimeError(text) from exc


def _unserializable(value: Any) -> ResponseError:
    return ResponseError([_detail("serialization_error", [], f"A {type(value).__name__} that JSON cannot hold")])


# Per class of value: do its top-level keys surely lack `type` and the ref key? Weak, so that classes can go.
_CLOSED: WeakKeyDictionary[type, frozenset[str] | None] = WeakKeyDictionary()


def _closed_keys(kind: type) -> frozenset[str] | None:
    """All keys that a model of this class can write at its top level, or None if that is not known."""
    if kind in _CLOSED:
        return _CLOSED[kind]
    keys = _find_keys(kind)
    _CLOSED[kind] = keys
    return keys


def _find_keys(kind: Any) -> frozenset[str] | None:
    if issubclass(kind, BaseModel):
        decorators = kind.__pydantic_decorators__
        if kind.model_config.get("extra") == "allow" or decorators.model_serializers or issubclass(kind, RootModel):
            return None
        if "__get_pydantic_core_schema__" in vars(kind):
            return None
        keys = {k for name, f in kind.model_fields.items() for k in (name, f.alias, f.serialization_alias) if k}
        for name, computed in kind.model_computed_fields.items():
            keys |= {name, computed.alias or name}
        return frozenset(keys)
    if issubclass(kind, msgspec.Struct):
        tag = kind.__struct_config__.tag_field
        return frozenset(kind.__struct_encode_fields__) | ({tag} if tag else frozenset())
    return None


class Encoder:
    """Encodes the replies of one event's handler."""

    def __init__(self, event: str, ref_key: str) -> None:
        self._typing = _Typing(event, ref_key)

    def validate(self, value: Any) -> Any:
        """The value as its response model has it; itself without one."""
        return value

    def encode(self, value: Any) -> bytes:
        """One JSON object with `type`. Raises `ResponseError`, or what user code raised unexpectedly."""
        if type(value) is dict and self._typing.ref_key not in value and "type" not in value:
            body = _guarded(_dict_json, value)
            # a key that only looks like "type" once it is written (an enum) needs the careful way
            return self._typing.splice(body) if b'"type"' not in body else self._typing.complete(body)
        body = _guarded(_json, value)
        keys = _closed_keys(type(value)) if isinstance(value, BaseModel | msgspec.Struct) else None
        if keys is not None and "type" not in keys and self._typing.ref_key not in keys and body.startswith(b"{"):
            return self._typing.splice(body)
        return self._typing.complete(body, _own_type(value))


# ---------------------------------------------------------------------- values with a response model


class ModelEncoder(Encoder):
    """Replies validated and written by a pydantic adapter of the response model."""

    def __init__(self, event: str, model: Any, options: ResponseOptions, ref_key: str) -> None:
        super().__init__(event, ref_key)
        adapter = _adapter(event, model)
        self._validate = adapter.validator.validate_python
        self._to_json = adapter.serializer.to_json
        self._arguments = options.arguments()
        self._fills_type = any(_requires_type(member) for member in _members(model))
        closed = [_closed_keys(m) if isinstance(m, type) else None for m in _members(model)]
        known = [keys for keys in closed if keys is not None]
        for keys in known:
            if ref_key in keys:
                raise DefinitionError(
                    f"event {event!r}: the response model {model!r} has a field {ref_key!r}, which is the key of the "
                    "message that is answered; rename it, or set another ref_key on the endpoint"
                )
        self._always_splices = len(known) == len(closed) and not any("type" in keys for keys in known)
        if self._always_splices:
            self.encode = self._closed_encode()  # type: ignore[method-assign, assignment]  # chosen once, not for every reply

    def validate(self, value: Any) -> Any:
        if self._fills_type and isinstance(value, Mapping) and "type" not in value:
            value = {"type": self._typing.event, **value}
        try:
            return self._validate(value, from_attributes=True)
        except ValidationError as exc:
            raise _response_error(exc) from exc

    def _closed_encode(self) -> Callable[[Any], bytes]:
        """For models without `type`: names bound once, since a reply takes only a microsecond."""
        validate, to_json, arguments = self._validate, self._to_json, self._arguments
        head = self._typing.head

        def encode(value: Any) -> bytes:
            try:
                body = to_json(validate(value, from_attributes=True), **arguments)
            except ValidationError as exc:
                raise _response_error(exc) from exc
            except PydanticSerializationError as exc:
                _raise_unexpected(exc)
                raise _unserializable(value) from exc
            if len(body) < 5:  # {} or null
                if body != b"{}":
                    raise ResponseError([_not_an_object()])
                return head + b"}"
            return b"%b,%b" % (head, body[1:])

        return encode

    def encode(self, value: Any) -> bytes:
        valid = self.validate(value)
        body = _guarded(lambda v: self._to_json(v, **self._arguments), valid)
        return self._typing.complete(body, _own_type(valid))


def _requires_type(model: Any) -> bool:
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


def _response_error(exc: ValidationError) -> ResponseError:
    if exc.error_count() > _MAX_ERRORS:
        return ResponseError([_detail("too_many_errors", [], f"{exc.error_count()} validation errors")])
    errors: list[dict[str, Any]] = []
    for error in exc.errors(include_url=False, include_input=False):
        detail: dict[str, Any] = {**error, "loc": ["response", *error["loc"]]}
        errors.append(detail)
    return ResponseError(errors)


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
        self._exact = frozenset(typing.get_origin(m) or m for m in self._members)
        self._nested = _struct_tree(self._members)

    def validate(self, value: Any) -> Any:
        if type(value) in self._exact and not self._may_leak():
            return value
        error: Exception | None = None
        for member in self._members:
            try:
                return msgspec.convert(_builtins(value), member, from_attributes=True)
            except (msgspec.ValidationError, TypeError) as exc:
                error = exc
        raise ResponseError([_detail("struct_type", [], str(error))]) from error

    def encode(self, value: Any) -> bytes:
        valid = self.validate(value)
        body = _guarded(_json, valid)
        keys = _closed_keys(type(valid)) if isinstance(valid, msgspec.Struct) else None
        if keys is not None and "type" not in keys:
            return self._typing.splice(body)
        return self._typing.complete(body, _own_type(valid))

    def _may_leak(self) -> bool:
        """A Struct below could be of a subclass, with fields that nobody declared."""
        return any(kind.__subclasses__() for kind in self._nested)


def _builtins(value: Any) -> Any:
    return msgspec.to_builtins(value) if _is_struct(type(value)) else value


def _struct_tree(members: tuple[Any, ...]) -> list[type]:
    """The Structs that are nested in these, without themselves."""
    found: list[type] = []
    todo = [info.type for m in members for info in _fields(m)]
    while todo:
        kind = todo.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind not in found:
                found.append(kind)
                todo += [info.type for info in _fields(kind)]
        else:
            todo += typing.get_args(kind)
    return found


def _fields(kind: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(kind) or kind
    return msgspec.structs.fields(kind) if issubclass(origin, msgspec.Struct) else ()


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
        struct_first = _is_struct(type(value))
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
    structs = [member for member in members if _is_struct(member)]
    for member in members:
        _refuse_array(event, member)
    if structs and (options.drops_fields or not options.by_alias):
        raise DefinitionError(
            f"event {event!r}: response_model_* options need a pydantic model, dataclass or TypedDict; for a Struct "
            "use its own omit_defaults and rename"
        )
    for struct in structs:
        keys = _closed_keys(struct) if isinstance(struct, type) and issubclass(struct, msgspec.Struct) else None
        if keys and ref_key in keys:
            raise DefinitionError(f"event {event!r}: the response model {struct!r} has a field {ref_key!r}; rename it")
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


def _refuse_array(event: str, member: Any) -> None:
    kind = typing.get_origin(member) or member
    if issubclass(kind, msgspec.Struct) and kind.__struct_config__.array_like:
        raise _no_object(event, member)
    if issubclass(kind, RootModel):
        root = kind.model_fields["root"].annotation
        origin = typing.get_origin(root) or root
        is_object = is_model(root) or (isinstance(origin, type) and issubclass(origin, Mapping))
        if not is_object:
            raise _no_object(event, member)


# ---------------------------------------------------------------------- pushes


def encode_push(value: Any, ref_key: str = "ref") -> bytes:
    """
    A message that answers nothing: `type` is its own, its tag or default, else its class's name in snake_case.

    Raises `TypeError` for a dict without `type`, `ResponseError` for what cannot be encoded.
    """
    if isinstance(value, Mapping):
        if not isinstance(_own_type(value), str):
            raise TypeError(f"a message that is pushed needs a `type`; this dict has the keys {list(value)!r}")
        name = "message"
    else:
        name = _snake_case(type(value).__name__)
    return _push_encoder(name, ref_key).encode(value)


def pushed_type(kind: Any) -> str:
    """The `type` that a pushed instance of a class has: its tag, its field's default or Literal, else its name."""
    tag = kind.__struct_config__.tag if issubclass(kind, msgspec.Struct) else None
    fields = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None) or {}
    default = getattr(fields.get("type"), "default", None)
    literals = typing.get_args(typing.get_type_hints(kind).get("type"))
    for candidate in (tag, default, *literals):
        if isinstance(candidate, str):
            return candidate
    return _snake_case(kind.__name__)


_push_encoders: dict[tuple[str, str], Encoder] = {}


def _push_encoder(name: str, ref_key: str) -> Encoder:
    encoder = _push_encoders.get((name, ref_key))
    if encoder is None:
        encoder = _push_encoders[name, ref_key] = Encoder(name, ref_key)
    return encoder


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
