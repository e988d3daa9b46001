"""
What an endpoint class declares of rooms, checked when the class is created, and what follows from it.

`Declares` lists the class attributes; `Declaration` is what is made of them once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Protocol

from socketsundso.backplanes import Keep, default_url
from socketsundso.connection import POLICIES, Bounds, Conflate
from socketsundso.errors import DefinitionError
from socketsundso.messages import (
    BYTES,
    CANONICAL,
    Asks,
    Emitted,
    Framing,
    Questions,
    binary_payload,
    encode_push,
    refuse_bytes,
)
from socketsundso.rooms.history import declaration
from socketsundso.rooms.hub import Hub
from socketsundso.wire import BinaryPayload

HISTORY_TYPES = frozenset({"resume", "resumed", "room_position", "gap"})
PRESENCE_TYPES = frozenset({"presence_state", "presence_diff"})
GAP_TYPES = frozenset({"gap"})


class Declares(Bounds, Protocol):
    """The class attributes of an endpoint that concern rooms; what each means stands where users read it, there."""

    backplane: ClassVar[str | None]
    codecs: ClassVar[Sequence[str] | Mapping[str, str]]
    emits: ClassVar[Sequence[Any]]
    history: ClassVar[Mapping[str, Keep]]
    presence_events: ClassVar[bool]
    presence_interval_s: ClassVar[float]
    max_rooms: ClassVar[int]


class Declaration:
    """
    What one class declares of rooms. Raises `DefinitionError` for what cannot work.

    `events` are the names of its handlers, `framing` and `questions` what its `envelope` and its `calls` are compiled
    to. It `hears_backplane` if it has an `on_backplane` of its own, and `authorizes` if it has such an `authorize`; the
    others pay nothing for it.
    """

    def __init__(
        self,
        cls: type[Declares],
        events: Iterable[str],
        *,
        framing: Framing = CANONICAL,
        questions: Questions | None = None,
        hears_backplane: bool = False,
        authorizes: bool = False,
    ) -> None:
        self._cls = cls
        self.framing = framing
        self._questions = questions
        self._hub: Hub | None = None
        _check_policy(cls)
        self._emitted = Emitted([each for each in cls.emits if each is not bytes], framing)
        _check_history(cls, self._emitted)
        self.history = cls.history
        _check_presence(cls)
        self.wants_presence = cls.presence_events
        self.presence_interval_s = cls.presence_interval_s
        self.hears_backplane = hears_backplane
        self.uses_rooms = bool(
            cls.backplane or cls.emits or cls.history or cls.presence_events or hears_backplane or authorizes
        )
        # a hub's `everyone` reaches its connections from accept on; else from what makes participants of them
        self.attends = self.uses_rooms or questions is not None
        self._refuse_reserved({*events, *self._emitted.types})

    def _refuse_reserved(self, names: set[str]) -> None:
        used = {HISTORY_TYPES: self.history, PRESENCE_TYPES: self.wants_presence, GAP_TYPES: self._cls.notify_gaps}
        reserved = frozenset[str]().union(*(types for types, feature in used.items() if feature))
        for taken in sorted(reserved & names):
            raise DefinitionError(
                f"{taken!r}: {self._cls.__name__} uses a feature that reserves this name on the wire; "
                "give the handler another one with @event('name'), or the message another `type`"
            )

    @property
    def types(self) -> frozenset[str]:
        """What the messages that are pushed are called, as far as they are declared."""
        return self._emitted.types

    @property
    def url(self) -> str:
        """The backplane's."""
        return self._cls.backplane or default_url()

    @property
    def hub(self) -> Hub:
        """The class's own: rooms of its connections, from anywhere."""
        hub = self._hub
        if hub is None or hub.url != self.url:
            callbacks = hub.callbacks() if hub is not None else ()
            hub = self._hub = Hub(
                self.url, history=self.history, on_unavailable="count", encode=self.encode_any, asks=self._asks
            )
            for callback in callbacks:
                hub.on_status(callback)
        return hub

    def binary_push(self, data: Any) -> BinaryPayload:
        """Bytes that answer nothing. Raises TypeError for what is none, and where `emits` lists no `bytes`."""
        if self._cls.emits and bytes not in self._cls.emits:
            known = ", ".join(sorted(self._emitted.types))
            raise TypeError(f"{self._cls.__name__} does not push bytes; its `emits` lists {known}: add `bytes` to it")
        if self._cls.codecs:
            raise TypeError(f"{self._cls.__name__} has `codecs`: its binary frames are messages; put bytes into one")
        return binary_payload(data)

    def encode_any(self, message: Any) -> bytes:
        """As `encode_push`; bytes as they are."""
        return self.binary_push(message) if isinstance(message, BYTES) else self.encode_push(message)

    def encode_push(self, message: Any) -> bytes:
        """A message that answers nothing, as canonical JSON. Raises TypeError for one that `emits` does not list."""
        if self._cls.emits:
            self._check_emitted(message)
            return self._emitted.encode(message)
        return encode_push(message, self.framing)

    @property
    def _asks(self) -> Asks:
        return self._asks_nothing if self._questions is None else self._questions.asked

    def _asks_nothing(self, question: Any, returns: Any) -> NoReturn:
        raise asks_nothing(self._cls)

    def _check_emitted(self, message: Any) -> None:
        given = self._emitted.name_of(message) if isinstance(message, Mapping) else None
        if given not in self._emitted.types and not isinstance(message, self._emitted.classes):
            refuse_bytes(message)
            shown = f"a message of type {given!r}" if given else type(message).__name__
            known = ", ".join(sorted(self._emitted.types))
            raise TypeError(f"{self._cls.__name__} does not push {shown}; its `emits` lists {known}")


def asks_nothing(cls: type) -> RuntimeError:
    return RuntimeError(f"{cls.__name__} asks nothing: list the question and its answer in `calls`")


def _check_policy(cls: type[Declares]) -> None:
    if cls.on_slow not in POLICIES and not isinstance(cls.on_slow, Conflate):
        known = ", ".join(map(repr, POLICIES))
        raise DefinitionError(f"{cls.__name__}.on_slow is {cls.on_slow!r}; it is one of {known} or Conflate(key=...)")


def _check_presence(cls: type[Declares]) -> None:
    if not isinstance(cls.presence_events, bool):
        raise DefinitionError(f"{cls.__name__}.presence_events is {cls.presence_events!r}; it is True or False")
    interval_s = cls.presence_interval_s
    if isinstance(interval_s, bool) or not isinstance(interval_s, int | float) or not 0 <= interval_s < math.inf:
        raise DefinitionError(
            f"{cls.__name__}.presence_interval_s is {interval_s!r}; it is a number of seconds, 0 for at once"
        )


def _check_history(cls: type[Declares], emitted: Emitted) -> None:
    declaration(cls.__name__, cls.history)
    for kind, fields in emitted.fields.items() if cls.history else ():
        if "seq" in fields:
            raise DefinitionError(
                f"{kind.__name__} has a field `seq`, which {cls.__name__}'s rooms with history number their "
                "messages by; give the field another name, or an alias"
            )
