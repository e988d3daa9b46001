"""
What an endpoint sends, before it has schemas: which types a declaration stands for, and what they are called.

    -> Cat | Dog | None     ->   Sent("cat", Cat), Sent("dog", Dog)
    emits = [Posted]        ->   Sent("posted", Posted)

The `type` of a reply is its class's own, else the event's; that of a push and of a stream's item its class's. In an
envelope that is not the default one, classes may be named otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from socketsundso.messages import (
    CANONICAL,
    Framing,
    Naming,
    ResponseOptions,
    is_model_class,
    kind_of,
    members,
    naming_of,
    naming_of_replies,
    own_types,
    pushed_name,
)


class Sent(NamedTuple):
    """One kind of message: its `type`, what it is declared as, how that is written, and by what it is named."""

    type: str
    declared: Any
    options: ResponseOptions = ResponseOptions()
    naming: Naming = "type"

    @property
    def model(self) -> Any:
        """The class that says what it holds; None where none does."""
        kind = kind_of(self.declared)
        return kind if is_model_class(kind) else None

    @property
    def is_silent(self) -> bool:
        """Is nothing said of what it holds, as by `Any`?"""
        kind = kind_of(self.declared)
        return kind in (Any, object) or not isinstance(kind, type)

    @property
    def key(self) -> Hashable:
        """Equal for what is declared alike."""
        return self.type, id(self.model), repr(self.declared), repr(self.options), self.naming


def replies(
    event: str,
    choices: Iterable[Any],
    options: ResponseOptions,
    *,
    is_stream: bool,
    framing: Framing = CANONICAL,
) -> Iterator[Sent]:
    """What answers an event, or the items of its stream."""
    some = [choice for choice in choices if kind_of(choice) is not type(None)]
    naming = naming_of_replies(some, framing)
    for choice in some:
        kind = kind_of(choice)
        types = _own_types(kind, naming, framing) if is_model_class(kind) else []
        if not types:
            types = [pushed_name(kind, framing) if is_stream and is_model_class(kind) else event]
        yield from (Sent(each, choice, options, naming) for each in types)


def pushes(declared: Iterable[Any], framing: Framing = CANONICAL) -> Iterator[Sent]:
    """What is listed in `emits`."""
    for kind in (kind for each in declared for kind in members(each)):
        naming = naming_of(kind, framing)
        types = _own_types(kind, naming, framing) or [pushed_name(kind, framing)]
        yield from (Sent(each, kind, naming=naming) for each in types)


def _own_types(kind: Any, naming: Naming, framing: Framing) -> list[str]:
    key = naming_key(naming, framing)
    return own_types(kind, key) if key else []


def naming_key(naming: Naming, framing: Framing) -> str:
    """The key at which a class says what its instances are called; empty where none does."""
    if naming == "type":
        return "type"
    return framing.model_key if naming == "frame" else framing.type_key or ""


class Names:
    """
    What messages and errors are called in generated code: each name once in a channel.

    A message is called like its class, or, where that is sent as several types, like its type and class together. So no
    name depends on the order of the others.
    """

    def __init__(self, sent: Iterable[Sent]) -> None:
        self._types: dict[str, set[Hashable]] = {}
        for each in sent:
            if each.model is not None:
                self._types.setdefault(_class_name(each), set()).add(each.key)
        self._taken: set[str] = set()

    def of_message(self, sent: Sent) -> str:
        by_type = _pascal(sent.type)
        if sent.model is None:
            return self.free(by_type)
        by_class = _class_name(sent)
        if len(self._types[by_class]) == 1 or by_type == by_class:
            return self.free(by_class)
        return self.free(by_type + by_class)

    def free(self, wish: str) -> str:
        """Two of one name are numbered."""
        name, number = wish, 1
        while name in self._taken:
            number += 1
            name = f"{wish}{number}"
        self._taken.add(name)
        return name


def _class_name(sent: Sent) -> str:
    return _pascal(sent.model.__name__)


def _pascal(name: str) -> str:
    """`"chat.send"` -> `"ChatSend"`, `"Page[User]"` -> `"PageUser"`."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[\W_]+", name)) or "Message"
