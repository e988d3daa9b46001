"""
What an endpoint sends, before it has schemas: which types a declaration stands for, and what they are called.

    -> Cat | Dog | None     ->   Sent("cat", Cat), Sent("dog", Dog)
    emits = [Posted]        ->   Sent("posted", Posted)

The `type` of a reply is its class's own, else the event's; that of a push and of a stream's item its class's.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from socketsundso.messages import ResponseOptions, is_model_class, kind_of, members, own_types, pushed_type


class Sent(NamedTuple):
    """One kind of message: its `type`, what it is declared as, and how that is written."""

    type: str
    declared: Any
    options: ResponseOptions = ResponseOptions()

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
        return self.type, id(self.model), repr(self.declared), repr(self.options)


def replies(event: str, choices: Iterable[Any], options: ResponseOptions, *, is_stream: bool) -> Iterator[Sent]:
    """What answers an event, or the items of its stream."""
    for choice in choices:
        kind = kind_of(choice)
        if kind is type(None):
            continue
        types = own_types(kind) if is_model_class(kind) else []
        if not types:
            types = [pushed_type(kind) if is_stream and is_model_class(kind) else event]
        yield from (Sent(each, choice, options) for each in types)


def pushes(declared: Iterable[Any]) -> Iterator[Sent]:
    """What is listed in `emits`."""
    for kind in (kind for each in declared for kind in members(each)):
        yield from (Sent(each, kind) for each in own_types(kind) or [pushed_type(kind)])


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
