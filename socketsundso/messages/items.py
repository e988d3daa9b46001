"""
The items of a stream -> JSON bytes, each with the `type` that a push of it would have.

    Token(text="a")   ->   {"type":"token","text":"a"}
    {"text": "a"}     from the handler of "generate", without a model   ->   {"type":"generate","text":"a"}

What an item model is, is validated and written as a reply of that model is. Refuses what replies refuse, and a model
whose instances would look like a stream's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socketsundso.errors import DefinitionError
from socketsundso.messages.declared import is_model_class, kind_of, members, settled
from socketsundso.messages.framing import Framing
from socketsundso.messages.pushes import NO_MESSAGES, encode_push, name_in, pushed_name
from socketsundso.messages.replies import ResponseOptions, encoder_for, returned_model
from socketsundso.messages.values import Encoder

ENDS = ("complete", "error")
"""The types of the frames that end a stream."""


def item_encoder(
    event: str, model: Any, options: ResponseOptions, framing: Framing
) -> Encoder | ModelItems | PlainItems:
    """
    What writes the items of the event's stream; `model` is what they are declared to be, None for anything.

    Raises `DefinitionError` for a model that cannot be an item.
    """
    framing = framing.of_items
    if model is None or returned_model(settled(model)) is None:
        return PlainItems(event, framing)
    encoder = encoder_for(event, model, options, framing)  # refused in the name of the event
    models = [kind for kind in members(settled(model)) if is_model_class(kind_of(kind))]
    names = {kind_of(kind): pushed_name(kind, framing) for kind in models}
    for kind, name in names.items():
        if name in ENDS:
            raise DefinitionError(
                f"event {event!r}: {name!r} ends a stream, so {kind.__name__} cannot be one of its items; give it "
                "another `type`"
            )
    encoders = {kind: encoder_for(name, model, options, framing) for kind, name in names.items()}
    if len(encoders) == 1:
        return next(iter(encoders.values()))
    return ModelItems(encoders, encoder) if encoders else encoder


class PlainItems:
    """Items that nothing was declared about."""

    def __init__(self, event: str, framing: Framing) -> None:
        self._values, self._framing = encoder_for(event, None, ResponseOptions(), framing), framing

    def validate(self, value: Any) -> Any:
        return value

    def encode(self, value: Any) -> bytes:
        if isinstance(value, NO_MESSAGES) or (isinstance(value, Mapping) and self._has_no_name(value)):
            return self._values.encode(value)
        return self._framing.frame(encode_push(value, self._framing))

    encode_valid = encode

    def _has_no_name(self, value: Mapping[Any, Any]) -> bool:
        return self._framing.is_canonical or not isinstance(name_in(value, self._framing)[1], str)


class ModelItems:
    """Items of one of several models, each with the name of its own."""

    def __init__(self, encoders: Mapping[type, Encoder], other: Encoder) -> None:
        self._encoders, self._other = encoders, other

    def _for(self, value: Any) -> Encoder:
        return next((self._encoders[cls] for cls in type(value).__mro__ if cls in self._encoders), self._other)

    def validate(self, value: Any) -> Any:
        return self._for(value).validate(value)

    def encode(self, value: Any) -> bytes:
        return self._for(value).encode(value)

    def encode_valid(self, value: Any) -> bytes:
        return self._for(value).encode_valid(value)
