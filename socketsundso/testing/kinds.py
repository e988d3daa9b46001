"""
What a test names messages by: a `type`, or a class whose instances it expects.

    Kind("posted").matches({"type": "posted", "msg": "hi"})   ->   True
    Kind(Posted).read({"type": "posted", "msg": "hi"})        ->   Posted(msg="hi")
    Kind(bytes).matches(b"pcm")                               ->   True, of a binary frame
    Kind(str).matches("pong")                                 ->   True, of a text that is no message
"""

from __future__ import annotations

import functools
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import TypeAdapter

from socketsundso.messages import CANONICAL, Framing, is_struct, members, pushed_fields, pushed_name, pydantic_form
from socketsundso.testing.frames import Told
from socketsundso.testing.mailbox import Message, Received

T = TypeVar("T")

_ENVELOPE = ("type", "ref", "room", "seq")
"""Keys beside a message's own fields: the envelope's, and those of rooms with history."""

_NAMELESS: dict[Any, str] = {bytes: "binary frame", str: "text that is no message"}


class Kind(Generic[T]):
    """One `type`, or one class or union of classes; `fields` have to be equal, as they are on the wire."""

    def __init__(self, wanted: type[T] | str, fields: dict[str, Any], framing: Framing = CANONICAL) -> None:
        self._wanted, self._fields = wanted, fields
        self._by_type: dict[str, Any] = {}
        if isinstance(wanted, str):
            self._by_type[wanted] = None
        elif wanted not in (bytes, str):
            self._by_type.update({pushed_name(each, framing): each for each in members(wanted)})

    def matches(self, message: Received) -> bool:
        if not isinstance(message, dict):
            return self._wanted is (bytes if isinstance(message, bytes) else str)
        return message.get("type") in self._by_type and all(
            key in message and message[key] == value for key, value in self._fields.items()
        )

    def read(self, message: Received) -> Any:
        """An instance of the class, or the message itself. Raises what the class refuses it with."""
        if not isinstance(message, dict):
            return message
        cls = self._by_type[message["type"]]
        return message if cls is None else read_as(cls, message)

    @property
    def is_union(self) -> bool:
        return len(self._by_type) > 1

    def __str__(self) -> str:
        names = " or ".join(map(repr, self._by_type)) or _NAMELESS[self._wanted]
        return f"{names} with {self._fields!r}" if self._fields else names


def read_as(cls: Any, message: Message) -> Any:
    """The message as an instance of a class, without what its envelope has beside the class's fields."""
    own = pushed_fields(cls)
    apart = message.data if isinstance(message, Told) else {}
    given = {key: value for key, value in {**message, **apart}.items() if key in own or key not in _ENVELOPE}
    if is_struct(cls):
        tag_field = cls.__struct_config__.tag_field
        return msgspec.convert(given if tag_field is None else {**given, tag_field: message.get(tag_field)}, cls)
    return _adapter(cls).validate_json(msgspec.json.encode(given))


def value_as(annotation: Any, value: Any) -> Any:
    """A value that is no message as what it is declared to be. Raises what pydantic refuses it with."""
    return _adapter(pydantic_form(annotation)).validate_json(msgspec.json.encode(value))


@functools.lru_cache(maxsize=256)
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)
