"""
Values -> JSON bytes with a `type`, as pydantic would write them; nothing about them was declared.

    {"time": ...}  from the handler of "ping"   ->   {"type":"ping","time":"2026-01-01T00:00:00Z"}

Takes what a handler may return: dicts, models, dataclasses, Structs. Refuses, with `ResponseError`, what JSON cannot
hold, what is no object, and what brings the key that only answers have. Knows no response model. A user's class is
never changed; what is learnt about it is kept here, not on it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import orjson
from msgspec import Raw
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from socketsundso.messages.core_schemas import written_keys
from socketsundso.messages.declared import is_struct
from socketsundso.messages.framing import CANONICAL, Framing, canonical_framing
from socketsundso.messages.naming import is_whole_frame, names_itself, own_type
from socketsundso.messages.refs import Ref
from socketsundso.messages.response_errors import ResponseError, brings_ref, detail, not_an_object, unserializable

_ORJSON = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS
BRACE = ord("{")
# pydantic's serialization error is a ValueError; msgspec's errors are only in its newer versions
FAILURES = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
_EXPECTED = re.compile(r"(ValueError|AssertionError|PydanticSerializationError|TypeError: Unable)\b")


class Flat:
    """Puts what a message is called into a body, for one event: at the key of the envelope that says so."""

    close = b""
    layout = None

    def __init__(self, event: str, framing: Framing, key: str) -> None:
        self.event, self.key, self.ref_key = event, key, framing.ref_key
        self.bare = msgspec.json.encode({key: event})
        self.open = self.bare[:-1] + b","
        self.quoted = msgspec.json.encode(key)  # in no body that lacks the key
        self.first = b"{" + self.quoted + b':"'  # of bodies that begin with it

    def splice(self, body: bytes) -> bytes:
        """For a body that is known to be an object without the key."""
        return self.bare if body == b"{}" else self.open + body[1:]

    def complete(self, body: bytes, own: Any = None) -> bytes:
        """
        For any other body: keep its own `type`, else put in `own`, else the event's name.

        Raises `ResponseError` for what is no object, or holds a `type` that is no string, or the ref key.
        """
        if not body.startswith(b"{"):
            raise ResponseError([not_an_object()])
        try:
            keys = msgspec.json.decode(body, type=dict[str, Raw])
        except msgspec.DecodeError as exc:  # a model that is configured to write NaN
            raise ResponseError([detail("serialization_error", [], f"Not JSON: {exc}")]) from exc
        if self.ref_key is not None and self.ref_key in keys:
            raise ResponseError([brings_ref(self.ref_key)])
        given = bytes(keys[self.key]) if self.key in keys else b"null"
        if given.startswith(b'"'):
            return body
        if given != b"null":
            raise ResponseError([detail("string_type", [self.key], "Input should be a valid string")])
        keys.pop(self.key, None)
        name = own if isinstance(own, str) else self.event
        return msgspec.json.encode({self.key: str(name), **keys})


class Apart:
    """Puts what the envelope says around a body, for one event: the body is the data part, and any value."""

    key = ref_key = None
    quoted = first = b"\0"  # no JSON has that

    def __init__(self, event: str, framing: Framing) -> None:
        self.event = event
        self.open, self.close = framing.around(msgspec.json.encode(event))
        self.layout = framing.layout(event)

    def splice(self, body: bytes) -> bytes:
        return self.open + body + self.close

    def complete(self, body: bytes, own: Any = None) -> bytes:
        """Raises `ResponseError` for what is no JSON."""
        try:
            msgspec.json.decode(body, type=Raw)
        except msgspec.DecodeError as exc:  # a model that is configured to write NaN
            raise ResponseError([detail("serialization_error", [], f"Not JSON: {exc}")]) from exc
        return self.splice(body)


def typing_for(event: str, framing: Framing) -> Flat | Apart:
    """What makes of bodies the messages of an event."""
    return Apart(event, framing) if framing.type_key is None else Flat(event, framing, framing.type_key)


def _jsonable(value: Any) -> Any:
    """orjson's hook for what it does not know."""
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return orjson.Fragment(_pydantic_json(value))
    if is_struct(type(value)):
        return orjson.Fragment(struct_json(value))
    if isinstance(value, Iterator):  # read once only: were orjson to refuse what follows, pydantic would find it empty
        raise TypeError
    return builtins_of(value)


def builtins_of(value: Any) -> Any:
    """msgspec's hook, too, for what it does not know."""
    return to_jsonable_python(value, inf_nan_mode="null", fallback=_unknown_to_pydantic)


def _unknown_to_pydantic(value: Any) -> Any:
    if is_struct(type(value)):
        return msgspec.to_builtins(value, enc_hook=builtins_of)
    if type(value).__module__ == "numpy":  # by name: numpy is no dependency; orjson knows only some arrays
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"Unable to serialize {type(value).__name__}")


struct_json = msgspec.json.Encoder(enc_hook=builtins_of).encode


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


def guarded(encode: Callable[[Any], bytes], value: Any) -> bytes:
    """`encode(value)`; what cannot be encoded raises `ResponseError`, a bug in user code itself."""
    try:
        return encode(value)
    except FAILURES as exc:
        raise failure(value, exc) from exc


def failure(value: Any, exc: Exception) -> ResponseError:
    """The answer for a value that could not be encoded. Raises what is a bug in user code itself."""
    if isinstance(exc, PydanticSerializationError):
        _raise_unexpected(exc)
    return unserializable(value)


def _raise_unexpected(exc: PydanticSerializationError) -> None:
    text = str(exc)
    marker = "Error calling function `"
    if marker in text:
        cause = text[text.rindex(marker) :].partition("`: ")[2]
        if not _EXPECTED.match(cause):
            raise RuntimeError(text) from exc


@dataclass(frozen=True, slots=True)
class Form:
    """How values of one class are written: by what, and all keys that can then stand at the top, if that is known."""

    write: Callable[[Any], bytes]
    keys: frozenset[str] | None = None


# Per class of value. Weak, and not on the class itself: a subclass would inherit it.
_FORMS: WeakKeyDictionary[type, Form] = WeakKeyDictionary()


def form_of(kind: type) -> Form:
    form = _FORMS.get(kind)
    if form is None:
        form = _FORMS[kind] = _find_form(kind)
    return form


def _find_form(kind: type) -> Form:
    if issubclass(kind, dict):
        return Form(_dict_json)
    if issubclass(kind, msgspec.Struct):
        return Form(struct_json, _struct_keys(kind))
    if is_struct(kind):
        return Form(struct_json, frozenset(field.name for field in kind.__attrs_attrs__))  # type: ignore[attr-defined]  # attrs
    if issubclass(kind, BaseModel) or hasattr(kind, "__pydantic_serializer__"):
        try:
            return Form(_pydantic_json, written_keys(TypeAdapter(kind).core_schema))
        except PydanticUserError:  # cannot be built, yet there is a value of it: by `model_construct`
            return Form(_pydantic_json)
    if dataclasses.is_dataclass(kind):
        return Form(_pydantic_json, frozenset(field.name for field in dataclasses.fields(kind)))
    return Form(_pydantic_json)


def _struct_keys(kind: type[msgspec.Struct]) -> frozenset[str]:
    tag = kind.__struct_config__.tag_field
    return frozenset(kind.__struct_encode_fields__) | ({tag} if tag else frozenset())


class Encoder:
    """Encodes the replies of one event's handler."""

    def __init__(self, event: str, framing: Framing = CANONICAL) -> None:
        self.typing = typing_for(event, framing)
        self._with_ref = framing.with_ref
        self._ref_key: Any = framing.ref_key
        self._key: Any = framing.type_key

    def validate(self, value: Any) -> Any:
        """The value as its response model has it; itself without one."""
        return value

    def encode_valid(self, value: Any) -> bytes:
        """`encode` for what `validate` gave."""
        return self.encode(value)

    def encode_answer(self, value: Any, ref: Ref) -> bytes:
        """The same, saying which message it answers."""
        return self._with_ref(self.encode(value), ref)

    def encode(self, value: Any) -> bytes:
        """One message. Raises `ResponseError`, or what user code raised unexpectedly."""
        if type(value) is dict and self._ref_key not in value:
            try:  # as `_dict_json`, without two calls
                body = orjson.dumps(value, _jsonable, _ORJSON)
            except (TypeError, RecursionError):
                body = guarded(_pydantic_json, value)
            # a key that only looks like "type" once it is written (an enum) needs the careful way
            typing = self.typing
            if typing.quoted not in body:
                return typing.splice(body)
            return body if body.startswith(typing.first) else typing.complete(body, own_type(value, key=self._key))
        return self._encode_by_form(value, form_of(type(value)))

    def _encode_by_form(self, value: Any, form: Form) -> bytes:
        body = guarded(form.write, value)
        if form.keys is not None and self._ref_key not in form.keys:
            if self._key not in form.keys and body[0] == BRACE:
                return self.typing.splice(body)
            if body.startswith(self.typing.first):
                return body
        if self._key is None:
            return self.typing.splice(body)
        return self.typing.complete(body, own_type(value, key=self._key))


class Reframed(Encoder):
    """Encodes messages that say themselves what they are called, and puts them into an envelope behind that."""

    def __init__(self, encoder: Encoder, framing: Framing) -> None:
        self._encoder, self._frame, self._with_ref = encoder, framing.frame, framing.with_ref

    def validate(self, value: Any) -> Any:
        return self._encoder.validate(value)

    def encode(self, value: Any) -> bytes:
        return self._frame(self._encoder.encode(value))

    def encode_valid(self, value: Any) -> bytes:
        return self._frame(self._encoder.encode_valid(value))


class Undeclared(Encoder):
    """Replies that nothing was declared about, in an envelope of its own: those whose class says so have its name."""

    def __init__(self, event: str, framing: Framing) -> None:
        super().__init__(event, framing)
        self._named = Reframed(Encoder(event, canonical_framing(framing.ref_key)), framing)
        self._framing = framing
        self._whole = Encoder(event, framing.whole) if framing.whole is not None else None

    def _encode_by_form(self, value: Any, form: Form) -> bytes:
        kind = type(value)
        if self._whole is not None and is_whole_frame(kind, self._framing.model_key, self._framing.names):
            return self._whole.encode(value)
        if self._framing.names_replies and self._key not in (form.keys or ()) and names_itself(kind):
            return self._named.encode(value)
        return super()._encode_by_form(value, form)
