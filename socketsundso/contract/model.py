"""
The contract of an API as plain data: what is published, generated and compared is made of this, and of nothing else.

    Api("Shop", "1.0.0", (Channel("shop", "/ws", receives=(
        Receive("buy", schema={"type": "object", "properties": {"symbol": {"type": "string"}}, "required": ["symbol"],
                               "additionalProperties": False},
                replies=(Message("bought", {"$ref": "#/components/schemas/Bought"}),)),
    )),), {"Bought": {...}})

Frozen, comparable, printable, and without a class of the application: two processes that describe one API have equal
values, in one order. Knows neither handlers nor any format that it is written in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Schema = Mapping[str, Any]
"""
A JSON Schema (2020-12) of values in their canonical form, as the server itself would write them.

Its only `$ref`s are `#/components/schemas/NAME`, a name of `Api.components`.
"""

Place = Literal["path", "query", "header", "cookie"]


@dataclass(frozen=True, slots=True)
class Message:
    """
    What one side sends: its `type`, and the schema of its fields without the envelope's keys (type and ref).

    `schema` is an object's or a `$ref` to one; where the wire has the fields apart, a reply may be any JSON value. A
    `type` by which a model says what it is, is the envelope's, and not among its properties here. `name` is what it is
    called in generated code, unique in its channel.
    """

    type: str
    schema: Schema
    name: str = ""
    summary: str = ""
    description: str = ""
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class Error:
    """
    A code that answers may have; `details` is the schema of what an application's own error tells beside it (`ctx`),
    None where there is nothing, and for the package's own codes.
    """

    code: str
    description: str = ""
    details: Schema | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Receive:
    """
    An event that clients send, and what they get for it.

    `replies` are the messages that may answer it: none for an event without one (`acknowledged` says that the server
    confirms it). With `stream`, they are its items, of which there are many until `complete`. `uploads` is the schema
    of what the client sends for it, item by item. `errors` are the application's own, beside `Channel.errors`.
    """

    event: str
    schema: Schema
    replies: tuple[Message, ...] = ()
    stream: bool = False
    acknowledged: bool = False
    cancellable: bool = False
    uploads: Schema | None = None
    errors: tuple[Error, ...] = ()
    summary: str = ""
    description: str = ""
    deprecated: bool = False
    tags: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    """Scopes that are asked for, in words of the application."""


@dataclass(frozen=True, slots=True)
class Binary:
    """
    Binary frames of a channel, which have no schema. `takes` is the name of what gets those that clients send, empty
    where nobody does; `sends`: the server sends some. A message that answers one has no ref, so it is among the pushes.
    """

    takes: str = ""
    sends: bool = False
    errors: tuple[Error, ...] = ()
    summary: str = ""
    description: str = ""
    deprecated: bool = False
    tags: tuple[str, ...] = ()
    security: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """What the server asks its clients (`message`), and the schema of the `answer` that they give."""

    message: Message
    answer: Schema


@dataclass(frozen=True, slots=True)
class Parameter:
    """What the handshake takes: a part of the path, a key of the query, a header or a cookie."""

    name: str
    place: Place
    schema: Schema
    required: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True)
class Features:
    """Parts of the protocol beside the application's own messages; what is False does not occur."""

    history: bool = False
    presence: bool = False
    gaps: bool = False


@dataclass(frozen=True, slots=True)
class Wire:
    """
    How a message is written: an object with the keys of its type and of its ref, and its fields beside them, or, with a
    `data_key`, as the value of that. With `parts` it is an array of these, "type", "ref" and "data", and has no keys.

    `is_open` says that there may be other keys beside those of the envelope, where the fields have one of their own.
    """

    type_key: str = "type"
    ref_key: str = "ref"
    data_key: str = ""
    parts: tuple[str, ...] = ()
    is_open: bool = False

    def __str__(self) -> str:
        """`{"event", "ref", "payload": {...}}`"""
        if self.parts:
            return f"[{', '.join(self.parts)}]"
        fields = f"{json.dumps(self.data_key)}: {{...}}" if self.data_key else "..."
        return f"{{{json.dumps(self.type_key)}, {json.dumps(self.ref_key)}, {fields}}}"

    @property
    def is_flat(self) -> bool:
        """Do the fields of a message stand beside its type? Else they are apart, and may be any JSON value."""
        return not self.data_key and not self.parts

    @property
    def has_refs(self) -> bool:
        """Can a message say which one it answers?"""
        return not self.parts or "ref" in self.parts


@dataclass(frozen=True, slots=True)
class Channel:
    """
    One endpoint where it is mounted. `name` is unique in the API and an identifier made from the class's name; `path`
    is as in routes, `/rooms/{room}`. `security` names entries of `Api.security`; any one of them is enough.
    """

    name: str
    path: str
    summary: str = ""
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    subprotocols: tuple[str, ...] = ()
    receives: tuple[Receive, ...] = ()
    pushes: tuple[Message, ...] = ()
    calls: tuple[Call, ...] = ()
    errors: tuple[Error, ...] = ()
    features: Features = Features()
    wire: Wire = Wire()
    security: tuple[str, ...] = ()
    binary: Binary | None = None
    """None where no frame is binary."""

    @property
    def all_errors(self) -> Iterator[Error]:
        """Those of the channel, and the application's own of each event."""
        yield from self.errors
        for receive in self.receives:
            yield from receive.errors
        if self.binary is not None:
            yield from self.binary.errors


@dataclass(frozen=True, slots=True)
class Api:
    """
    An application's `channels`, one for each endpoint, and the schemas that they share, its `components`, by name.

    `title`, `version` and `description` are those of the application.
    """

    title: str
    version: str
    channels: tuple[Channel, ...] = ()
    components: Mapping[str, Schema] = field(default_factory=dict)
    security: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """AsyncAPI's security schemes by name: `{"token": {"type": "httpApiKey", "in": "query", "name": "token"}}`."""
    description: str = ""
