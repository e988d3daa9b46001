"""
Values -> JSON bytes with a `type`: replies (`encoder_for`) and pushes (`encode_push`).

    {"time": ...}  from the handler of "ping"   ->   {"type":"ping","time":"2026-01-01T00:00:00Z"}

`type` is the value's own, else its model's default, else the event's name. With a response model the value is
validated and written as FastAPI would, by the declared model's serializer; without one it looks as pydantic would
write it. A user's model is never changed, and what is learnt about it is kept here, not on it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union
from weakref import WeakKeyDictionary

import msgspec
import orjson
from msgspec import Raw
from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, ValidationError, to_json, to_jsonable_python

from socketsundso.errors import DefinitionError, EventError
from socketsundso.messages.annotations import alias_value, is_alias
from socketsundso.messages.core_schemas import may_write_nan, written_keys
from socketsundso.messages.plain_models import plain_encode

_MAX_ERRORS = 100
_ORJSON = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS
_UNIONS = (Union, types.UnionType)
_BRACE = ord("{")
_TYPE_FIRST = b'{"type":"'
# pydantic's serialization error is a ValueError; msgspec's errors are only in its newer versions
_FAILURES = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
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


def _is_struct(annotation: Any) -> bool:
    kind = _kind(annotation)
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
        self.bare = msgspec.json.encode({"type": event})
        self.open = self.bare[:-1] + b","

    def splice(self, body: bytes) -> bytes:
        """For a body that is known to be an object without `type`."""
        return self.bare if body == b"{}" else self.open + body[1:]

    def complete(self, body: bytes, own: Any = None) -> bytes:
        """
        For any other body: keep its own `type`, else put in `own`, else the event's name.

        Raises `ResponseError` for what is no object, or holds a `type` that is no string, or the ref key.
        """
        if not body.startswith(b"{"):
            raise ResponseError([_not_an_object()])
        try:
            keys = msgspec.json.decode(body, type=dict[str, Raw])
        except msgspec.DecodeError as exc:  # a model that is configured to write NaN
            raise ResponseError([_detail("serialization_error", [], f"Not JSON: {exc}")]) from exc
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


def _own_type(value: Any, by_alias: bool = True) -> Any:
    """The value's own `type`, or its model's default, where an option left it out of the body."""
    if isinstance(value, Mapping):
        own = value.get("type")
    elif isinstance(value, BaseModel):
        own = (value.model_extra or {}).get("type")
        attribute = _type_attribute(type(value), by_alias)
        own = own if attribute is None else getattr(value, attribute)
    else:
        own = getattr(value, "type", None)
    return getattr(own, "value", own)


def _type_attribute(model: type[BaseModel], by_alias: bool) -> str | None:
    """The attribute that this model writes as `type`."""
    for name, field in model.model_fields.items():
        if ((by_alias and field.serialization_alias) or name) == "type":
            return name
    for name, computed in model.model_computed_fields.items():
        if ((by_alias and computed.alias) or name) == "type":
            return name
    return None


# ---------------------------------------------------------------------- values without a response model


def _jsonable(value: Any) -> Any:
    """orjson's hook for what it does not know."""
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return orjson.Fragment(_pydantic_json(value))
    if _is_struct(type(value)):
        return orjson.Fragment(_struct_json(value))
    if isinstance(value, Iterator):  # read once only: were orjson to refuse what follows, pydantic would find it empty
        raise TypeError
    return _builtins_of(value)


def _builtins_of(value: Any) -> Any:
    """msgspec's hook, too, for what it does not know."""
    return to_jsonable_python(value, inf_nan_mode="null", fallback=_unknown_to_pydantic)


def _unknown_to_pydantic(value: Any) -> Any:
    if _is_struct(type(value)):
        return msgspec.to_builtins(value, enc_hook=_builtins_of)
    if type(value).__module__ == "numpy":  # by name: numpy is no dependency; orjson knows only some arrays
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"Unable to serialize {type(value).__name__}")


_struct_json = msgspec.json.Encoder(enc_hook=_builtins_of).encode


def _pydantic_json(value: Any) -> bytes:
    body = to_json(value, inf_nan_mode="null", fallback=_unknown_to_pydantic)
    # A model's own config wins over the mode, and may say that NaN is written as it is.
    if b"NaN" in body or b"Infinity" in body:
        msgspec.json.decode(body, type=Raw)
    return body


def _dict_json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, _jsonable, _ORJSON)
    except (TypeError, RecursionError):  # JSONEncodeError is a TypeError; what orjson refuses, pydantic may know
        return _pydantic_json(value)


def _guarded(encode: Callable[[Any], bytes], value: Any) -> bytes:
    """`encode(value)`; what cannot be encoded raises `ResponseError`, a bug in user code itself."""
    try:
        return encode(value)
    except _FAILURES as exc:
        raise _failure(value, exc) from exc


def _failure(value: Any, exc: Exception) -> ResponseError:
    """The answer for a value that could not be encoded. Raises what is a bug in user code itself."""
    if isinstance(exc, PydanticSerializationError):
        _raise_unexpected(exc)
    return _unserializable(value)


def _raise_unexpected(exc: PydanticSerializationError) -> None:
    text = str(exc)
    marker = "Error calling function `"
    if marker in text:
        cause = text[text.rindex(marker) :].partition("`: ")[2]
        if not _EXPECTED.match(cause):
            raise RuntimeError(text) from exc


def _unserializable(value: Any) -> ResponseError:
    return ResponseError([_detail("serialization_error", [], f"A {type(value).__name__} that JSON cannot hold")])


@dataclass(frozen=True, slots=True)
class _Form:
    """How values of one class are written: by what, and all keys that can then stand at the top, if that is known."""

    write: Callable[[Any], bytes]
    keys: frozenset[str] | None = None


# Per class of value. Weak, and not on the class itself: a subclass would inherit it.
_FORMS: WeakKeyDictionary[type, _Form] = WeakKeyDictionary()


def _form(kind: type) -> _Form:
    form = _FORMS.get(kind)
    if form is None:
        form = _FORMS[kind] = _find_form(kind)
    return form


def _find_form(kind: type) -> _Form:
    if issubclass(kind, dict):
        return _Form(_dict_json)
    if issubclass(kind, msgspec.Struct):
        return _Form(_struct_json, _struct_keys(kind))
    if _is_struct(kind):
        return _Form(_struct_json, frozenset(field.name for field in kind.__attrs_attrs__))  # type: ignore[attr-defined]  # attrs
    if issubclass(kind, BaseModel) or hasattr(kind, "__pydantic_serializer__"):
        try:
            return _Form(_pydantic_json, written_keys(TypeAdapter(kind).core_schema))
        except PydanticUserError:  # cannot be built, yet there is a value of it: by `model_construct`
            return _Form(_pydantic_json)
    if dataclasses.is_dataclass(kind):
        return _Form(_pydantic_json, frozenset(field.name for field in dataclasses.fields(kind)))
    return _Form(_pydantic_json)


def _struct_keys(kind: type[msgspec.Struct]) -> frozenset[str]:
    tag = kind.__struct_config__.tag_field
    return frozenset(kind.__struct_encode_fields__) | ({tag} if tag else frozenset())


class Encoder:
    """Encodes the replies of one event's handler."""

    def __init__(self, event: str, ref_key: str) -> None:
        self._typing = _Typing(event, ref_key)
        self._ref_key = ref_key

    def validate(self, value: Any) -> Any:
        """The value as its response model has it; itself without one."""
        return value

    def encode(self, value: Any) -> bytes:
        """One JSON object with `type`. Raises `ResponseError`, or what user code raised unexpectedly."""
        if type(value) is dict and self._ref_key not in value:
            try:  # as `_dict_json`, without two calls
                body = orjson.dumps(value, _jsonable, _ORJSON)
            except (TypeError, RecursionError):
                body = _guarded(_pydantic_json, value)
            # a key that only looks like "type" once it is written (an enum) needs the careful way
            if b'"type"' not in body:
                return self._typing.splice(body)
            return body if body.startswith(_TYPE_FIRST) else self._typing.complete(body, _own_type(value))
        return self._encode_by_form(value, _form(type(value)))

    def _encode_by_form(self, value: Any, form: _Form) -> bytes:
        body = _guarded(form.write, value)
        if form.keys is not None and self._ref_key not in form.keys:
            if "type" not in form.keys and body[0] == _BRACE:
                return self._typing.splice(body)
            if body.startswith(_TYPE_FIRST):
                return body
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
            raise _response_error(exc) from exc

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
                raise _response_error(exc) from exc
            except PydanticSerializationError as exc:
                raise _failure(value, exc) from exc
            if body[0] != _BRACE:
                raise ResponseError([_not_an_object()])
            return start + body[1:] if len(body) > 2 else bare

        return encode

    def _encode_typed(self, value: Any) -> bytes:
        valid = self.validate(value)
        body = _guarded(self._write, valid)
        return body if body.startswith(_TYPE_FIRST) else self._typing.complete(body, _own_type(valid, self._by_alias))

    def _write(self, valid: Any) -> bytes:
        return self._to_json(valid, **self._arguments)

    def encode(self, value: Any) -> bytes:
        valid = self.validate(value)
        body = _guarded(self._write, valid)
        return self._typing.complete(body, _own_type(valid, self._by_alias))


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


def _response_error(exc: ValidationError) -> ResponseError:
    if exc.error_count() > _MAX_ERRORS:
        return ResponseError([_detail("too_many_errors", [], f"{exc.error_count()} validation errors")])
    errors: list[dict[str, Any]] = []
    for error in exc.errors(include_url=False, include_input=False):
        detail: dict[str, Any] = {**error, "loc": ["response", *error["loc"]]}
        if "ctx" in detail:  # holds exceptions, and whatever else a validator put there
            detail["ctx"] = {key: _plain_context(item) for key, item in detail["ctx"].items()}
        errors.append(detail)
    return ResponseError(errors)


def _plain_context(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


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
        self._forms = {_kind(m): _form(_kind(m)) for m in self._members}
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
                return _struct_json(value)
            except _FAILURES as exc:
                raise _failure(value, exc) from exc

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
        raise ResponseError([_struct_error(str(error))]) from error

    def _convert(self, value: Any, member: Any) -> Any:
        kind = _kind(member)
        if isinstance(value, kind):  # a subclass, or with one inside: as the declared fields alone
            return msgspec.convert(_retagged(_builtins_of(value), kind), member, dec_hook=_from_builtins)
        valid = msgspec.convert(value, member, from_attributes=True, dec_hook=_from_builtins)
        if self._may_leak():
            return msgspec.convert(_builtins_of(valid), member, dec_hook=_from_builtins)
        return valid

    def encode(self, value: Any) -> bytes:
        valid = self.validate(value)
        return self._encode_by_form(valid, self._forms.get(type(valid)) or _form(type(valid)))

    def _may_leak(self) -> bool:
        """A Struct below could be of a subclass, with fields that nobody declared."""
        return any(kind.__subclasses__() for kind in self._nested)


def _is_tagged(member: Any) -> bool:
    """Does each body of this Struct begin with a `type` of its own?"""
    config = getattr(_kind(member), "__struct_config__", None)
    return config is not None and config.tag_field == "type" and isinstance(config.tag, str)


def _struct_error(text: str) -> dict[str, Any]:
    """msgspec's text, "Expected `int`, got `str` - at `$.items[0].x`", as a detail. The server's values stay here."""
    msg, _, path = text.partition(" - at `$")
    loc = [
        name or (int(index) if index.isdecimal() else index)
        for name, index in re.findall(r"\.([^.\[]+)|\[([^\]]*)\]", path.rstrip("`"))
    ]
    return _detail("struct_type", loc, re.sub(r"^(Invalid (?:enum )?value) .*", r"\1", msg))


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
        if ref_key in (_form(_kind(struct)).keys or ()):
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


def pushed_fields(kind: Any) -> frozenset[str]:
    """The fields of a pushed instance of a class, by their names on the wire."""
    if issubclass(kind, msgspec.Struct):
        return frozenset(kind.__struct_encode_fields__)
    models = getattr(kind, "model_fields", None)
    if models is not None:
        return frozenset(field.serialization_alias or field.alias or name for name, field in models.items())
    return frozenset(getattr(kind, "__dataclass_fields__", None) or typing.get_type_hints(kind))


_push_encoders: dict[tuple[str, str], Encoder] = {}


def _push_encoder(name: str, ref_key: str) -> Encoder:
    encoder = _push_encoders.get((name, ref_key))
    if encoder is None:
        encoder = _push_encoders[name, ref_key] = Encoder(name, ref_key)
    return encoder


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
