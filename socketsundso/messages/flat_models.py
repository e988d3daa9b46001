"""
A model that clients send flat, while the handler takes it from a key of its own: told in the log, once.

    async def on_say(self, msg: Say)
    {"type":"say","text":"hi"}   ->   `validation_error`, since it would be {"type":"say","msg":{"text":"hi"}}

The answer names what is wrong, as always; only the application's author can know that all of it is.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from typing import Any

from pydantic_core import ValidationError

from socketsundso.errors import DefinitionWarning
from socketsundso.messages.declared import is_model_class, kind_of, members
from socketsundso.messages.framing import Framing, Place
from socketsundso.messages.signature import Parameter, Signature
from socketsundso.messages.whole import keys_of

logger = logging.getLogger("socketsundso")


class FlatModel:
    """The one parameter of an event that is a model, or one of `models`, and whether it has been told of it."""

    def __init__(self, event: str, parameter: Parameter, models: Sequence[Any], framing: Framing) -> None:
        self._event, self._parameter, self._models, self._framing = event, parameter, models, framing
        self._name = " | ".join(model.__name__ for model in models)
        self._is_told = False

    def notice(self, endpoint: Any, error: ValidationError) -> None:
        """Look at what was wrong with a message."""
        if self._is_told:
            return
        sent = _sent(error, self._framing.place)
        if self._parameter.key in sent or not any(keys_of(model) & sent for model in self._models):
            return
        self._is_told = True
        message = self._framing.answer(self._event, {self._parameter.key: {}}, None)
        logger.warning(
            "%s: event %r: a client sends the fields of %s flat, which the handler takes from a key of its own: %s; %s "
            "(told once)",
            type(endpoint).__name__, self._event, self._name, json.dumps(message), self._remedy(),
        )  # fmt: skip

    def warn(self, owner: str, base: str) -> None:
        """It was the whole message in the base of a class, which has another envelope."""
        message = self._framing.answer(self._event, {self._parameter.key: {}}, None)
        warnings.warn(
            f"{owner}: event {self._event!r}: {self._parameter.name!r} is the whole message in {base}, and in the "
            f"envelope of {owner} it is taken from a key of its own: {json.dumps(message)}; {self._remedy()}",
            DefinitionWarning,
            stacklevel=5,  # below the statement of the class: abc, `__init_subclass__`, its check, and this
        )

    def _remedy(self) -> str:
        key = self._framing.model_key
        if not key:
            return "take its fields as parameters"
        literal = f"`{key}: Literal[{self._event!r}]`"
        if not self._framing.place:
            return f"give {self._name} a field {literal}, and it is the whole message"
        data = f"`{self._framing.place[0]}: {self._name}`"
        return f"take its fields as parameters, or as the whole message a model with {literal} and {data}"


def flat_model(signature: Signature, framing: Framing) -> FlatModel | None:
    """For a signature whose one parameter is a model, or one of several; None for any other."""
    if signature.message_model is not None or len(signature.parameters) != 1:
        return None
    (parameter,) = signature.parameters
    kinds = [kind for kind in map(kind_of, members(parameter.annotation)) if kind is not type(None)]
    return FlatModel(signature.event, parameter, kinds, framing) if kinds and all(map(is_model_class, kinds)) else None


def _sent(error: ValidationError, place: Place) -> set[str]:
    """The keys of a message that was refused, as far as its errors tell."""
    sent: set[str] = set()
    for each in error.errors(include_url=False, include_context=False):
        *before, key = each["loc"] or ("",)
        if tuple(before) != place:
            continue
        if each["type"] == "extra_forbidden":
            sent.add(str(key))
        elif each["type"] == "missing" and isinstance(each["input"], dict):
            sent.update(each["input"])
    return sent
