"""
A model that clients send flat, while the handler takes it from a key of its own: told in the log, once.

    async def on_say(self, msg: Say)
    {"type":"say","text":"hi"}   ->   `validation_error`, since it would be {"type":"say","msg":{"text":"hi"}}

The answer names what is wrong, as always; only the application's author can know that all of it is.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic_core import ValidationError

from socketsundso.messages.declared import is_model_class, kind_of, unwrapped
from socketsundso.messages.signature import Parameter, Signature
from socketsundso.messages.whole import keys_of

logger = logging.getLogger("socketsundso")


class FlatModel:
    """The one model parameter of an event, and whether it has been told of it."""

    def __init__(self, event: str, parameter: Parameter, model: Any) -> None:
        self._event, self._parameter, self._model = event, parameter, model
        self._is_told = False

    def notice(self, endpoint: Any, error: ValidationError) -> None:
        """Look at what was wrong with a message."""
        if self._is_told:
            return
        sent = _sent(error)
        if self._parameter.key in sent or not keys_of(self._model) & sent:
            return
        self._is_told = True
        event, key, name = self._event, self._parameter.key, self._model.__name__
        logger.warning(
            '%s: event %r: a client sends the fields of %s flat, which is taken from the key %r: {"type": "%s", "%s": '
            "{...}}; give %s a field `type: Literal[%r]`, and it is the whole message (told once)",
            type(endpoint).__name__, event, name, key, event, key, name, event,
        )  # fmt: skip


def flat_model(signature: Signature) -> FlatModel | None:
    """For a signature whose one parameter is a model; None for any other."""
    if signature.message_model is not None or len(signature.parameters) != 1:
        return None
    (parameter,) = signature.parameters
    kind = kind_of(unwrapped(parameter.annotation))
    return FlatModel(signature.event, parameter, kind) if is_model_class(kind) else None


def _sent(error: ValidationError) -> set[str]:
    """The keys of a message that was refused, as far as its errors tell."""
    sent: set[str] = set()
    for each in error.errors(include_url=False, include_context=False):
        if len(each["loc"]) != 1:
            continue
        if each["type"] == "extra_forbidden":
            sent.add(str(each["loc"][0]))
        elif each["type"] == "missing" and isinstance(each["input"], dict):
            sent.update(each["input"])
    return sent
