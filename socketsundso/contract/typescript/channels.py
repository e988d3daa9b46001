"""
What one channel is in TypeScript: a class whose methods are its events, and the types of what goes over it.

    export class Chat extends SocketClient<ChatPushes> {
      say(params: ChatSayParams, options?: RequestOptions): Promise<{ type: "said" } & Said> {
        return this._request("say", params, options);
      }
    }
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from socketsundso.contract.identifiers import ECMASCRIPT_KEYWORDS, ECMASCRIPT_OBJECT, Scope, camel, pascal
from socketsundso.contract.model import Api, Binary, Channel, Message, Place, Receive, Schema
from socketsundso.contract.typescript.types import (
    NO_FIELDS,
    NOTHING,
    OF_OBJECTS,
    Types,
    comment,
    key,
    quoted,
    referred,
)

OWN_METHODS = frozenset({"on", "once", "onState", "onOpen", "handle", "room", "close", "state", "status"})
OWN_METHODS |= {"sendBytes", "onBytes"}
"""What the client itself has; all else of it begins with `_`."""

CALLED = {"_request", "_tell", "_stream", "_sendBytes", "_onBytes"}
"""What methods call of the runtime."""

CLOSED = {"type": "object", "additionalProperties": False}

OF_ROOMS = {"room?": "string", "seq?": "number"}
"""What a message of a room with history has beside its own."""


@dataclass(frozen=True)
class File:
    """What all channels share: the API, and what is called how in its file, by the names of the contract."""

    api: Api
    scope: Scope
    types: Types
    classes: Mapping[str, str]
    """Of channels."""
    components: Mapping[str, str]
    errors: Mapping[str, str]
    """The classes of the application's own, by code."""

    def resolved(self, schema: Schema) -> Schema:
        """What a `$ref` stands for, or itself."""
        return next((self.api.components[name] for name in referred(schema, direct=True)), schema)


class Part:
    """What one channel adds to a file."""

    def __init__(self, channel: Channel, file: File) -> None:
        self._channel, self._file, self._types = channel, file, file.types
        self._class = file.classes[channel.name]
        self._methods = Scope(f"method of {self._class}", camel, OWN_METHODS | ECMASCRIPT_KEYWORDS | ECMASCRIPT_OBJECT)

    def regions(self) -> Iterator[str]:
        """The parts of the runtime that it needs."""
        features = self._channel.features
        if features.history or features.presence or features.gaps:
            yield "rooms"
        if any(receive.stream for receive in self._channel.receives):
            yield "streams"
        if any(receive.uploads is not None for receive in self._channel.receives):
            yield "uploads"
        if self._channel.calls:
            yield "calls"
        if not self._channel.wire.is_flat:
            yield "apart"
        if self._channel.binary is not None:
            yield "binary"

    def texts(self) -> Iterator[str]:
        methods = []
        for receive in self._channel.receives:
            interface, params = self._params(receive)
            methods.append(self._method(receive, params))
            yield from interface
        if self._channel.binary is not None:
            methods += self._of_binary(self._channel.binary)
        yield self._pushes()
        yield from self._calls()
        yield from self._options()
        yield f"export {{ RequestError as {self._name('Error')} }};\n"
        yield f"{comment(self._channel.summary, self._channel.description)}{self._head()}{''.join(methods)}}}\n"

    def _name(self, suffix: str) -> str:
        return self._file.scope.add(f"{self._class}{suffix}", f"{suffix} of channel {self._channel.name!r}")

    def _message(self, type_: str, schema: Schema, more: Mapping[str, str] = NO_FIELDS) -> str:
        """`{ type: "said"; id: number }`; of a component `{ type: "said" } & Said`. Of what is no object, its type."""
        if not self._channel.wire.is_flat and not self._is_object(schema):
            return self._types.of(schema, "  ")
        return self._types.of(schema, "  ", first={key(self._channel.wire.type_key): quoted(type_), **more})

    def _is_object(self, schema: Schema) -> bool:
        found = self._file.resolved(schema)
        return found.get("type") == "object" or not OF_OBJECTS.isdisjoint(found)

    # ---- what clients send

    def _params(self, receive: Receive) -> tuple[list[str], str]:
        """The interface of what an event takes, where it has fields, and the parameter of its method."""
        schema = receive.schema
        written = self._types.of(schema)
        if written == NOTHING:
            return [], "params?: NoParams"
        mark = "" if self._file.resolved(schema).get("required") else "?"
        if not schema.get("properties"):
            return [], f"params{mark}: {written}"
        name = self._name(f"{pascal(receive.event)}Params")
        return [self._types.declaration(name, schema)], f"params{mark}: {name}"

    def _method(self, receive: Receive, params: str) -> str:
        name = self._methods.add(receive.event, f"event {receive.event!r}")
        replies = [self._reply(reply, receive.event) for reply in receive.replies]
        replies += [self._message(receive.event, CLOSED)] * receive.acknowledged
        reply = " | ".join(dict.fromkeys(replies))
        takes, gives = [params, "options?: RequestOptions"], [quoted(receive.event), "params", "options"]
        if receive.uploads is not None:  # behind params, which cannot be left out then
            takes[:1] = [re.sub(r"\?: (.*)", r": \1 | undefined", params), f"items: {self._items(receive.uploads)}"]
            gives.append("items")
        kind = "stream" if receive.stream else "tell" if not reply and receive.uploads is None else "request"
        returns = f"AsyncIterableIterator<{reply}>" if receive.stream else f"Promise<{reply or 'void'}>"
        tags = [*self._throws(receive), *["deprecated"] * receive.deprecated]
        return (
            f"{comment(receive.summary, receive.description, tags=tags, indent='  ')}"
            f"  {name}({', '.join(takes)}): {returns} {{\n    return this._{kind}({', '.join(gives)});\n  }}\n"
        )

    def _of_binary(self, binary: Binary) -> Iterator[str]:
        if binary.takes:
            tags = [*self._throws(binary), *["deprecated"] * binary.deprecated]
            words = binary.summary or "Sends a binary frame. False: there is no connection, and it was not kept."
            yield (
                f"{comment(words, binary.description, tags=tags, indent='  ')}"
                "  sendBytes(data: ArrayBuffer | ArrayBufferView): boolean {\n    return this._sendBytes(data);\n  }\n"
            )
        if binary.sends:
            yield (
                "  onBytes(listener: (data: Uint8Array) => unknown): () => void {\n"
                "    return this._onBytes(listener);\n  }\n"
            )

    def _reply(self, reply: Message, event: str) -> str:
        """One of the event's name that says nothing of what it holds, such as a dict, may have a type of its own."""
        schema = self._file.resolved(reply.schema)
        if (
            reply.type == event
            and self._channel.wire.is_flat
            and schema.keys() <= {"type", "additionalProperties", "title", "description"}
            and schema.get("additionalProperties", True)
        ):
            return self._types.of(schema, "  ", first={key(self._channel.wire.type_key): "string"})
        return self._message(reply.type, reply.schema)

    def _items(self, schema: Schema) -> str:
        return f"UploadItems<{self._types.of(schema, '  ')}>"

    def _throws(self, receive: Receive | Binary) -> Iterator[str]:
        for error in receive.errors:
            name = self._file.errors.get(error.code)
            yield f"throws {{{name}}} {error.description}" if name else f"throws `{error.code}`: {error.description}"

    # ---- what the server sends

    def _pushes(self) -> str:
        features, name_key = self._channel.features, key(self._channel.wire.type_key)
        of_rooms = {
            "presence_state": ("PresenceState", features.presence),
            "presence_diff": ("PresenceDiff", features.presence),
            "gap": ("RoomGap", features.gaps or features.history),
        }
        reserved = {
            **{name: f"{{ {name_key}: {quoted(name)} }} & {type_}" for name, (type_, told) in of_rooms.items() if told},
            "error": "RequestError",
        }
        own: dict[str, list[Message]] = {}
        for push in self._channel.pushes:
            own.setdefault(push.type, []).append(push)
        fields = [self._pushed(type_, pushes) for type_, pushes in own.items()]
        fields += [f"  {name}: {type_};\n" for name, type_ in reserved.items() if name not in own]
        return f"export interface {self._name('Pushes')} {{\n{''.join(fields)}}}\n"

    def _pushed(self, type_: str, pushes: list[Message]) -> str:
        more = OF_ROOMS if self._channel.features.history else NO_FIELDS
        written = " | ".join(dict.fromkeys(self._message(type_, push.schema, more) for push in pushes))
        return f"{_note(pushes[0])}  {key(type_)}: {written};\n"

    def _calls(self) -> Iterator[str]:
        fields = [
            f"{_note(call.message)}  {key(call.message.type)}: "
            f"[{self._message(call.message.type, call.message.schema)}, {self._types.of(call.answer, '  ')}];\n"
            for call in self._channel.calls
        ]
        if fields:
            yield f"export interface {self._name('Calls')} {{\n{''.join(fields)}}}\n"

    # ---- the class

    def _options(self) -> Iterator[str]:
        """Where the handshake has parameters."""
        path, query = self._parameters("path"), self._parameters("query")
        if path or query:
            base = f"SocketOptions<{query}>" if query else "SocketOptions"
            fields = f"  path?: {path};\n" if path else ""
            yield f"export interface {self._class}Options extends {base} {{\n{fields}}}\n"

    def _parameters(self, place: Place) -> str:
        found = [each for each in self._channel.parameters if each.place == place]
        properties = {each.name: {**each.schema, "description": each.description} for each in found}
        required = [each.name for each in found if each.required]
        return self._types.of({"properties": properties, "required": required}, "  ") if found else ""

    def _head(self) -> str:
        """The class up to its methods."""
        pushes = f"{self._class}Pushes"
        has_options = any(each.place in ("path", "query") for each in self._channel.parameters)
        return (
            f"export class {self._class} extends "
            f"SocketClient<{f'{pushes}, {self._class}Calls' if self._channel.calls else pushes}> {{\n"
            f"  static readonly path: string = {quoted(self._channel.path)};\n"
            f"  constructor(url: string, options: {self._class if has_options else 'Socket'}Options = {{}}) {{\n"
            f"    super(url, options, {{ {self._contract()} }});\n  }}\n"
        )

    def _contract(self) -> str:
        """What the runtime has to know of the channel."""
        channel = self._channel
        ends = [each.event for each in channel.receives if each.cancellable or each.stream or each.uploads is not None]
        codes = dict.fromkeys(error.code for error in channel.all_errors if error.code in self._file.errors)
        errors = ", ".join(f"{_own_key(code)}: {self._file.errors[code]}" for code in codes)
        told = {
            "type": quoted(channel.wire.type_key),
            "ref": quoted(channel.wire.ref_key),
            **self._apart(),
            "token": quoted(self._token()),
            "protocols": f"[{', '.join(map(quoted, channel.subprotocols))}]",
            "cancel": f"[{', '.join(map(quoted, ends))}]",
            "errors": f"{{ {errors} }}" if errors else "{}",
        }
        return ", ".join(f"{name}: {value}" for name, value in told.items())

    def _apart(self) -> dict[str, str]:
        wire = self._channel.wire
        if wire.is_flat:
            return {}
        parts = {"parts": f"[{', '.join(map(quoted, wire.parts))}]"} if wire.parts else {}
        return {"data": quoted(wire.data_key or "data"), **parts}

    def _token(self) -> str:
        """The key of the query that a token is sent by."""
        schemes = [self._file.api.security.get(name, {}) for name in self._channel.security]
        in_query = [str(each["name"]) for each in schemes if each.get("in") == "query" and "name" in each]
        return in_query[0] if in_query else "token"


def _note(message: Message) -> str:
    tags = ["deprecated"] * message.deprecated
    return comment(message.summary, message.description, tags=tags, indent="  ")


def _own_key(name: str) -> str:
    """`__proto__: x` is no key of a literal."""
    return f"[{quoted(name)}]" if name == "__proto__" else key(name)
