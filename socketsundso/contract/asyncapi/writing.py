"""
An API as an AsyncAPI 3.0.0 document: what is published, and what `reading` makes the same API of.

    {"asyncapi": "3.0.0", "info": {...},
     "channels": {"chat": {"address": "/ws", "messages": {"say": {"name": "say", "payload": {"$ref": ...}}, ...}}},
     "operations": {"chat.receive.say": {"action": "receive", "messages": [...], "reply": {"messages": [...]}}, ...},
     "components": {"schemas": {...}, "securitySchemes": {...}}}

The application that is described is the server: it receives what clients send. Every message has its payload in
`components/schemas`, whole as on the wire, in the channel's envelope. Frames of the protocol itself (errors, the end of
a stream, `cancel`, history, presence) are messages like others, marked with `"x-socketsundso": {"protocol": true}`;
facts that AsyncAPI has no words for stand in the `x-socketsundso` of their channel, operation or message.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from socketsundso.contract.asyncapi import protocol
from socketsundso.contract.asyncapi.drafts import draft_07
from socketsundso.contract.asyncapi.parameters import EXTENSION, written
from socketsundso.contract.asyncapi.payloads import component
from socketsundso.contract.asyncapi.protocol import Frame, Ref
from socketsundso.contract.asyncapi.wires import envelope_of, fields_in, payload, pointer_to_ref
from socketsundso.contract.model import Api, Binary, Call, Channel, Error, Message, Receive, Schema
from socketsundso.errors import ContractError

# the second one becomes an object's prototype in @asyncapi/parser 3, which then finds no message there
_NO_KEYS = ("", "__proto__")
FEATURES = ("history", "presence", "gaps")
_PROTOCOL = {EXTENSION: {"protocol": True}}


def document(api: Api) -> dict[str, Any]:
    """
    The whole document, as plain JSON values that share nothing with `api`.

    Raises `ContractError` where an event or message is no object, or its schema refers to what `api` does not have.
    """
    schemas = {name: draft_07(api.components[name]) for name in sorted(api.components)}
    channels = [_Channel(channel, api.components, schemas) for channel in api.channels]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": api.title, "version": api.version} | _told(description=api.description),
        "defaultContentType": "application/json",
        "channels": {each.channel.name: each.written() for each in channels},
        "operations": {name: operation for each in channels for name, operation in each.operations.items()},
        "components": {"schemas": schemas} | _told(securitySchemes=dict(api.security)),
    }


def dump(api: Api) -> bytes:
    """The document as a file: JSON in UTF-8 that people can read, too; the same bytes for the same API."""
    try:
        text = json.dumps(document(api), indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ContractError(f"{api.title}: a schema holds what JSON has no words for: {exc}") from exc
    # a lone surrogate, which UTF-8 cannot hold, is in a string: there this is JSON's escape of it
    return text.encode("utf-8", "backslashreplace") + b"\n"


class _Channel:
    """One channel while it is written: its messages and operations. The payloads of its messages go into `schemas`."""

    def __init__(self, channel: Channel, components: Mapping[str, Schema], schemas: dict[str, Any]) -> None:
        self.channel = channel
        self.operations: dict[str, Any] = {}
        self._components, self._schemas = components, schemas
        self._numbers: Mapping[str, Schema] = protocol.NUMBERS if channel.features.history else {}
        self._messages: dict[str, Any] = {}
        # by type, what is a message already with the reference to it, and who is answered by a message
        self._known: defaultdict[str, list[tuple[Any, dict[str, str]]]] = defaultdict(list)
        self._answered: defaultdict[str, list[Receive]] = defaultdict(list)
        for receive in channel.receives:
            for reply in receive.replies:
                self._answered[reply.type].append(receive)
        for receive in channel.receives:
            self._receive(receive)
        for push in channel.pushes:
            self._operate("send", push.name or push.type, [self._message(push)], {})
        for call in channel.calls:
            self._call(call)
        if channel.binary is not None:
            self._binary(channel.binary)
        self._protocol()

    def written(self) -> dict[str, Any]:
        channel = self.channel
        handshake = written(channel.parameters, channel.subprotocols)
        facts = _told(
            typeKey="" if channel.wire.type_key == "type" else channel.wire.type_key,
            refKey="" if channel.wire.ref_key == "ref" else channel.wire.ref_key,
            dataKey=channel.wire.data_key,
            parts=list(channel.wire.parts),
            otherKeys=channel.wire.is_open,
            features=[name for name in FEATURES if getattr(channel.features, name)],
            security=list(channel.security),
            errors=[_error_facts(each) for each in channel.errors],
            **handshake.pop(EXTENSION, {}),
        )
        words = _told(summary=channel.summary, description=channel.description)
        return {"address": channel.path} | words | {"messages": self._messages} | handshake | _extension(facts)

    # --- operations

    def _receive(self, receive: Receive) -> None:
        must = receive.stream or receive.uploads is not None
        request = self._add(
            receive.event,
            Frame(receive.event, receive.schema, "required" if must else "optional"),
            _told(name=receive.event, deprecated=receive.deprecated),
            is_closed=True,
        )
        facts = _told(
            stream=receive.stream,
            acknowledged=receive.acknowledged,
            cancellable=receive.cancellable,
            errors=[_error_facts(each) for each in receive.errors],
            scopes=list(receive.security),
        )
        if receive.uploads is not None:
            facts["uploads"] = draft_07(receive.uploads)
        words = _told(
            summary=receive.summary,
            description=receive.description,
            tags=[{"name": tag} for tag in receive.tags],
            security=[_reference("components", "securitySchemes", name) for name in self.channel.security],
        )
        replies = [*map(self._message, receive.replies), *self._ends(receive), *self._errors(receive.errors)]
        self._operate("receive", receive.event, [request], words | _extension(facts), replies)
        if receive.uploads is not None:
            item = self._frame(f"{receive.event}.item", protocol.item(receive.uploads))
            self._operate("receive", f"{receive.event}.item", [item], _PROTOCOL)

    def _ends(self, receive: Receive) -> Iterator[dict[str, str]]:
        """What of the protocol answers it, beside errors."""
        if receive.acknowledged:
            yield self._frame(f"{receive.event}.done", protocol.acknowledgement(receive.event))
        if receive.uploads is not None:
            yield self._frame("more", protocol.MORE)
        if receive.stream:
            yield self._frame("complete", protocol.COMPLETE)

    def _errors(self, own: Iterable[Error] = ()) -> list[dict[str, str]]:
        """The error frames that may answer: one for all codes that have no details, one for each that has."""
        plain = tuple(each for each in self.channel.errors if each.details is None)
        frames = [self._frame("error", protocol.package_error(plain))] if plain else []
        detailed = [each for each in self.channel.errors if each.details is not None]
        return frames + [self._frame(f"error.{each.code}", protocol.own_error(each)) for each in (*detailed, *own)]

    def _binary(self, binary: Binary) -> None:
        key = _free("binary", self._messages)
        name = _free(f"{self.channel.name}.{key}", self._schemas)
        self._schemas[name] = dict(protocol.BINARY)
        self._messages[key] = {"name": "binary", "contentType": protocol.BINARY_TYPE, "payload": component(name)}
        frame = _reference("channels", self.channel.name, "messages", key)
        if binary.takes:
            facts = _told(
                binary=binary.takes,
                deprecated=binary.deprecated,
                errors=[_error_facts(each) for each in binary.errors],
                scopes=list(binary.security),
            )
            words = _told(
                summary=binary.summary,
                description=binary.description,
                tags=[{"name": tag} for tag in binary.tags],
                security=[_reference("components", "securitySchemes", name) for name in self.channel.security],
            )
            self._operate("receive", key, [frame], words | _extension(facts), self._errors(binary.errors))
        if binary.sends:
            self._operate("send", key, [frame], {})

    def _call(self, call: Call) -> None:
        key = call.message.name or call.message.type
        question = self._message(call.message)
        answers = [
            self._frame(f"{key}.reply", protocol.reply(call.answer)),
            self._frame("refusal", protocol.REFUSAL),
        ]
        self._operate("send", key, [question], _extension({"answer": draft_07(call.answer)}), answers)

    def _protocol(self) -> None:
        for frame in protocol.received(self.channel):
            answers = [self._frame(answer.type, answer) for answer in frame.answers]
            replies = answers + self._errors() if answers else []
            self._operate("receive", frame.type, [self._frame(frame.type, frame)], _PROTOCOL, replies)
        for frame in protocol.sent(self.channel):
            self._operate("send", frame.type, [self._frame(frame.type, frame)], _PROTOCOL)
        if errors := self._errors():
            self._operate("send", "error", errors, _PROTOCOL)

    def _operate(
        self,
        action: str,
        key: str,
        messages: list[dict[str, str]],
        facts: dict[str, Any],
        replies: Iterable[dict[str, str]] = (),
    ) -> None:
        channel = _reference("channels", self.channel.name)
        operation: dict[str, Any] = {"action": action, "channel": channel} | facts | {"messages": messages}
        if answers := _unique(replies):
            operation["reply"] = {"channel": channel, "messages": answers}
        self.operations[_free(f"{self.channel.name}.{action}.{key}", self.operations)] = operation

    # --- messages

    def _message(self, message: Message) -> dict[str, str]:
        """An application's message. One that both answers and is pushed is one message, whose ref is optional."""
        pushed = message in self.channel.pushes
        answers = [each for each in self._answered[message.type] if message in each.replies]
        asked = any(message == call.message for call in self.channel.calls)
        always = not pushed and all(each.stream for each in answers)
        ref: Ref = "none" if not answers and not asked else "required" if always else "optional"
        words = _told(
            name=message.name,
            summary=message.summary,
            description=message.description,
            deprecated=message.deprecated,
        )
        frame = Frame(message.type, message.schema, ref)
        return self._add(message.name or message.type, frame, words, self._numbers if pushed else {})

    def _frame(self, key: str, frame: Frame) -> dict[str, str]:
        """A message of the protocol."""
        return self._add(key, frame, _told(description=frame.description) | _PROTOCOL)

    def _add(
        self,
        key: str,
        frame: Frame,
        told: dict[str, Any],
        more: Mapping[str, Schema] = MappingProxyType({}),
        *,
        is_closed: bool = False,
    ) -> dict[str, str]:
        """The reference to this message, which is written once."""
        for known, reference in self._known[frame.type]:
            if known == (frame, told, more, is_closed):
                return reference
        wire = self.channel.wire
        try:
            whole = payload(wire, frame, more, self._components, is_closed=is_closed)
        except ContractError as exc:
            raise ContractError(f"channel {self.channel.name!r}, message {frame.type!r}: {exc}") from None
        key = _free(key, self._messages)
        name = _free(f"{self.channel.name}.{key}", self._schemas)
        self._schemas[name] = draft_07(whole)
        has_ref = frame.ref != "none" and wire.has_refs
        location = f"$message.payload#/{_escaped(pointer_to_ref(wire))}" if has_ref else ""
        correlated = {"correlationId": {"location": location}} if has_ref else {}
        self._messages[key] = {**told, **correlated} | {"payload": component(name)}
        if fields_in(whole, wire, envelope_of(whole, wire, self._numbers, has_ref=has_ref)) != frame.fields:
            self._messages[key][EXTENSION] = told.get(EXTENSION, {}) | {"schema": draft_07(frame.fields)}
        reference = _reference("channels", self.channel.name, "messages", key)
        self._known[frame.type].append(((frame, told, more, is_closed), reference))
        return reference


def _error_facts(error: Error) -> dict[str, Any]:
    details = {} if error.details is None else {"details": draft_07(error.details)}
    return {"code": error.code} | _told(description=error.description, name=error.name) | details


def _told(**values: Any) -> dict[str, Any]:
    """What is not empty of `values`."""
    return {key: value for key, value in values.items() if value not in ("", False, None, [], {})}


def _extension(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {EXTENSION: dict(facts)} if facts else {}


def _unique(references: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    return list({each["$ref"]: each for each in references}.values())


def _free(wish: str, taken: Container[str]) -> str:
    """A key that is not taken, of the characters that AsyncAPI permits in keys; `wish` where it can be."""
    key = re.sub(r"[^A-Za-z0-9._-]", "_", wish)
    while key in taken or key in _NO_KEYS:
        key += "_"
    return key


def _reference(*parts: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(map(_escaped, parts))}


def _escaped(part: str) -> str:
    """As part of a JSON pointer (RFC 6901)."""
    return part.replace("~", "~0").replace("/", "~1")
