"""
Messages that answer nothing -> JSON bytes: `encode_push`; and what a class's instances will look like as such.

    Posted(room="lobby")   ->   {"type":"posted","room":"lobby"}

Refuses a dict that does not say what it is, what is not as it was declared (`Emitted`), and what `values` refuses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Union

import msgspec
from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from socketsundso.errors import DefinitionError
from socketsundso.messages.canonical import flattened
from socketsundso.messages.declared import field_types, is_model_class, is_typed_dict, kind_of, members
from socketsundso.messages.framing import APART, CANONICAL, FlatFraming, Framing, NestedFraming, canonical_framing
from socketsundso.messages.naming import (
    Naming,
    is_whole_frame,
    names_itself,
    own_type,
    pushed_fields,
    pushed_type,
    snake_case,
)
from socketsundso.messages.replies import ResponseOptions, StructEncoder, encoder_for
from socketsundso.messages.response_errors import ResponseError, not_an_object
from socketsundso.messages.values import Encoder

BYTES = (bytes, bytearray, memoryview)
"""What goes out as a binary frame."""

NO_MESSAGES = (str, bytes, int, float, list, tuple, set, frozenset, type(None))


def encode_push(value: Any, framing: Framing = CANONICAL) -> bytes:
    """
    A message that answers nothing: `type` is its own, its tag or default, else its class's name in snake_case.

    Raises `TypeError` for a dict without `type` and for bytes, `ResponseError` for what cannot be encoded.
    """
    if not isinstance(value, Mapping):
        kind = type(value)
        encoder = _push_encoder(snake_case(kind.__name__), naming_of(kind, framing), framing)
        try:
            return encoder.encode(value)
        except ResponseError:
            refuse_bytes(value)
            raise
    key, name = name_in(value, framing)
    if not isinstance(name, str):
        raise TypeError(f"a message that is pushed needs a `type`; this dict has the keys {list(value)!r}")
    if framing.is_canonical:
        return _push_encoder("message", "type", framing).encode(value)
    return _push_encoder(name, "class", framing).encode({each: item for each, item in value.items() if each != key})


def refuse_bytes(value: Any) -> None:
    """Raises `TypeError` for them, with the remedy."""
    if isinstance(value, BYTES):
        raise TypeError(f"{type(value).__name__} is no message; `send_bytes` sends a binary frame")


def name_in(message: Mapping[Any, Any], framing: Framing) -> tuple[str, Any]:
    """The key by which a dict says what it is, that of the envelope or else `type`, and what it says there."""
    key = framing.type_key
    if key is not None and isinstance(name := own_type(message, key=key), str):
        return key, name
    return "type", own_type(message)


def naming_of(kind: Any, framing: Framing) -> Naming:
    """By what pushed instances of a class are named."""
    if framing.is_canonical:
        return "type"
    if framing.whole is not None and is_whole_frame(kind, framing.model_key, framing.names):
        return "frame"
    key = framing.type_key
    is_called_otherwise = key is not None and names_itself(kind, key, by_default=True)
    return "type" if not is_called_otherwise and names_itself(kind, by_default=True) else "class"


def pushed_name(kind: Any, framing: Framing) -> str:
    """What a pushed instance of a class is called."""
    is_frame = naming_of(kind, framing) == "frame"
    return pushed_type(kind, framing.model_key if is_frame else framing.type_key or "type")


class _Written:
    """Writes canonical messages, by what writes frames."""

    def __init__(self, encoder: Encoder, canonical: Callable[[bytes], bytes]) -> None:
        self._encoder, self._canonical = encoder, canonical

    def encode(self, value: Any) -> bytes:
        frame = self._encoder.encode(value)
        try:
            return self._canonical(frame)
        except ValueError:
            raise ResponseError([not_an_object()]) from None


def _written(name: str, naming: Naming, framing: Framing, model: Any = None) -> Encoder | _Written:
    """What writes messages of this name, canonical ones; `model` is what they are declared as."""
    if framing.is_canonical:
        return encoder_for(name, model, ResponseOptions(), framing)
    if naming == "type":
        return encoder_for(name, model, ResponseOptions(), canonical_framing(framing.ref_key))
    if isinstance(framing, NestedFraming) and naming == "frame":
        return _Written(encoder_for(name, model, ResponseOptions(), framing), framing.to_canonical)
    if isinstance(framing, FlatFraming):
        return _Written(encoder_for(name, model, ResponseOptions(), framing), framing.to_canonical)
    return _Written(encoder_for(name, model, ResponseOptions(), APART), flattened)


_push_encoder = functools.lru_cache(maxsize=1024)(_written)


class Emitted:
    """
    What an endpoint declares that it pushes: dicts are what their `type` names, instances what their class declares.

    `declared` are classes of messages, generic ones with arguments too, behind aliases or in unions. `classes` are
    those whose instances may be pushed, each as the nearest of its bases that is listed. `types` is what they all are
    called. `attribute` is that of the endpoint in which they are listed.

    Raises `DefinitionError` for what is no class, and for a class whose instances are no messages.
    """

    def __init__(self, declared: Iterable[Any], framing: Framing = CANONICAL, attribute: str = "emits") -> None:
        try:
            kinds = [member for each in declared for member in members(each)]
            for kind in kinds:
                _check_class(kind, attribute)
            self.types = frozenset(pushed_name(kind, framing) for kind in kinds)
            self.fields = {kind_of(kind): pushed_fields(kind) for kind in kinds}
        except NameError as exc:
            raise DefinitionError(f"{attribute} {declared!r}: {exc}; define the name before the endpoint") from exc
        self.classes = tuple(kind for kind in map(kind_of, kinds) if not is_typed_dict(kind))
        by_type: dict[str, list[Any]] = {}
        by_class: dict[type, list[Any]] = {}
        for kind in kinds:
            if is_model_class(kind_of(kind)):
                by_type.setdefault(pushed_name(kind, framing), []).append(kind)
                by_class.setdefault(kind_of(kind), []).append(kind)
        self._dicts = {name: _declared_encoder(name, alike, framing, attribute) for name, alike in by_type.items()}
        self._instances = {
            cls: _declared_encoder(pushed_name(cls, framing), alike, framing, attribute)
            for cls, alike in by_class.items()
        }
        self._typed = {
            name: own
            for name, alike in by_type.items()
            for own in ("type", framing.type_key or "type")
            if any(_takes_type(kind, own) for kind in alike)
        }
        self._frames = {
            name for name, alike in by_type.items() if any(naming_of(kind, framing) == "frame" for kind in alike)
        }
        self._framing = framing

    def encode(self, message: Any) -> bytes:
        """A message that is listed. Raises `ResponseError` for what is not as it is declared."""
        encoder = self._instances.get(type(message)) or self._of_base(message)
        if encoder is not None:
            return encoder.encode(message)
        key, name = name_in(message, self._framing) if isinstance(message, Mapping) else ("", None)
        if name not in self._dicts:
            return encode_push(message, self._framing)
        fields = {each: item for each, item in message.items() if each != key}
        if name in self._frames:
            return self._dicts[name].encode(self._framing.answer(name, fields, None))
        own = {self._typed[name]: name} if name in self._typed else {}
        return self._dicts[name].encode({**own, **fields})

    def name_of(self, message: Mapping[Any, Any]) -> Any:
        """What a dict says that it is."""
        return name_in(message, self._framing)[1]

    def _of_base(self, message: Any) -> Encoder | _Written | None:
        return next((self._instances[cls] for cls in type(message).__mro__ if cls in self._instances), None)


def _check_class(kind: Any, attribute: str) -> None:
    if not isinstance(kind_of(kind), type) or issubclass(kind_of(kind), NO_MESSAGES):
        raise DefinitionError(
            f"{attribute} {kind!r}: that is no class of messages; list models, dataclasses, TypedDicts or Structs"
        )


def _declared_encoder(name: str, kinds: list[Any], framing: Framing, attribute: str) -> Encoder | _Written:
    naming: Naming = next((each for kind in kinds if (each := naming_of(kind, framing)) != "class"), "class")
    try:
        return _written(name, naming, framing, Union[tuple(kinds)])
    except DefinitionError as exc:
        if isinstance(exc.__cause__, PydanticUserError):  # `typing.TypedDict` in Python 3.11, a field of any class
            return StructEncoder(name, Union[tuple(kinds)], canonical_framing(framing.ref_key))
        names = ", ".join(kind_of(kind).__name__ for kind in kinds)
        raise DefinitionError(f"{attribute} {names}: {exc}") from exc


def _takes_type(kind: Any, key: str) -> bool:
    """Is `type` among what an instance is made of, or else only the name that it is pushed under?"""
    kind = kind_of(kind)
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_config__.tag_field == key or key in kind.__struct_encode_fields__
    if issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return kind.model_config.get("extra") == "allow" or any(
            key in (name, field.alias, field.validation_alias) for name, field in fields
        )
    return key in field_types(kind)
