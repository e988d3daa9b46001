"""
An AsyncAPI 3 document, ours or anybody's, as the API that it describes: the inverse of `writing`.

Of others, what is understood is what can be on a WebSocket here: each message a JSON object with a constant that names
it (`type`, or whichever key all messages of a channel have), operations that say who sends it, seen from the server.
All else is a `ContractError` that names channel, message and remedy. Documents may be of any size and shape: what is
asked of them is checked, references are followed so far and no further, and nothing outside the document is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from socketsundso.contract.asyncapi.drafts import references
from socketsundso.contract.asyncapi.nodes import Node
from socketsundso.contract.asyncapi.parameters import EXTENSION
from socketsundso.contract.asyncapi.parameters import read as read_parameters
from socketsundso.contract.asyncapi.payloads import branches, component_name
from socketsundso.contract.asyncapi.protocol import BINARY_TYPE, NUMBERS
from socketsundso.contract.asyncapi.wires import envelope_of, fields_in, kind_in, opened
from socketsundso.contract.model import (
    Api,
    Binary,
    Call,
    Channel,
    Error,
    Features,
    Message,
    Receive,
    Schema,
    Wire,
)
from socketsundso.errors import ContractError

_LOCATION = "$message.payload#/"
_ARRAYS = (("type", "ref", "data"), ("type", "data", "ref"), ("type", "data"))
TYPE_KEYS = ("type", "action", "event", "kind", "op")
"""What usually names a message, the most usual first; any other key may."""


def read(document: object) -> Api:
    """
    The API that a document describes, given as what its JSON is.

    Raises `ContractError` where it is no AsyncAPI 3 document, or of other things than JSON objects on WebSockets.
    """
    try:
        return _read(Node(document))
    except RecursionError:
        raise ContractError("the document is nested too deeply") from None


def _read(document: Node) -> Api:
    _check_version(document)
    info, components = document.at("info"), document.at("components")
    schemas = {name: each.schema() for name, each in components.member("schemas").members()}
    channels = [_Channel(name, each.followed(), schemas) for name, each in document.at("channels").members()]
    places = {each.place: each for each in channels}
    for _, operation in document.at("operations").members():
        channel = operation.followed().at("channel")
        if channel.place not in places:
            raise operation.error("its channel is none of the document's channels")
        places[channel.place].add(operation.followed())
    read = tuple(each.channel() for each in channels)
    payloads = {name for each in channels for name in each.payloads}
    security = {name: each.followed().mapping() for name, each in components.member("securitySchemes").members()}
    return Api(
        info.text("title"),
        info.text("version"),
        read,
        _in_use(schemas, payloads, read),
        security,
        info.text("description"),
    )


def _check_version(document: Node) -> None:
    version = document.text("asyncapi")
    if not version:
        raise document.error("this is no AsyncAPI document: it has no `asyncapi` with a version")
    if not version.startswith("3."):
        raise document.error(f"AsyncAPI {version} is not read, only 3: convert it first")


class _Channel:
    """A channel while it is read, and its operations in their order."""

    def __init__(self, name: str, node: Node, schemas: Mapping[str, Schema]) -> None:
        self.place = node.place
        self._name, self._node, self._schemas = name, node, schemas
        messages = [each.followed() for _, each in node.member("messages").members()]
        self._frames = [each for each in messages if _is_binary(each)]
        self._all = [each for each in messages if not _is_binary(each)]
        self._binary: Binary | None = None
        self._payloads: dict[tuple[str, ...], Mapping[str, Any]] = {}
        self._facts = node.member(EXTENSION)
        self._parts = self._read_parts()
        self._wire = self._read_wire()
        history = "history" in self._facts.texts("features")
        self._numbers = NUMBERS if history else {}
        self._receives: list[Receive] = []
        self._pushes: list[Message] = []
        self._calls: list[Call] = []
        self._security: dict[str, None] = {}

    def channel(self) -> Channel:
        """What was read."""
        node, facts = self._node, self._facts
        if not node.text("address"):
            raise node.error("a channel without an address: say which path its WebSocket has")
        parameters, subprotocols = read_parameters(node)
        features = facts.texts("features")
        return Channel(
            self._name,
            node.text("address"),
            node.text("summary"),
            node.text("description"),
            parameters,
            subprotocols,
            tuple(self._receives),
            tuple(self._pushes),
            tuple(self._calls),
            _errors(facts),
            Features(history="history" in features, presence="presence" in features, gaps="gaps" in features),
            self._wire,
            facts.texts("security") or tuple(self._security),
            self._binary,
        )

    @property
    def payloads(self) -> set[str]:
        """The components that are whole messages."""
        payloads = [_of_json_schema(each.member("payload")) for each in (*self._all, *self._frames)]
        return {component_name(each.text("$ref")) for each in payloads}

    def add(self, operation: Node) -> None:
        """Read an operation on this channel."""
        if _is_protocol(operation):
            return
        found, action = self._messages(operation), operation.text("action")
        messages = [each for each in found if not (_is_protocol(each) or _is_binary(each))]
        if any(map(_is_binary, found)):
            self._binary = self._with_binary(operation, action)
        if action == "receive":
            self._receives += [self._receive(operation, each) for each in messages]
            self._security |= dict.fromkeys(_security(operation))
        elif action == "send":
            self._send(operation, messages)
        else:
            raise operation.error(f"an action is send or receive, not {action!r}")

    def _with_binary(self, operation: Node, action: str) -> Binary:
        """What is known of binary frames, and this operation on them."""
        known = self._binary or Binary()
        if action == "send":
            return replace(known, sends=True)
        facts = operation.member(EXTENSION)
        answers = self._messages(operation.at("reply")) if operation.at("reply") else []
        return Binary(
            facts.text("binary") or operation.place[-1],
            known.sends or any(map(_is_binary, answers)),
            _errors(facts),
            operation.text("summary"),
            operation.text("description"),
            facts.flag("deprecated"),
            tuple(tag.followed().text("name") for tag in operation.member("tags").entries()),
            facts.texts("scopes"),
        )

    def _receive(self, operation: Node, request: Node) -> Receive:
        facts, message = operation.member(EXTENSION), self._message(request)
        return Receive(
            message.type,
            message.schema,
            tuple(self._answers(operation)),
            stream=facts.flag("stream"),
            acknowledged=facts.flag("acknowledged"),
            cancellable=facts.flag("cancellable"),
            uploads=_schema(facts.member("uploads")),
            errors=_errors(facts),
            summary=operation.text("summary") or message.summary,
            description=operation.text("description") or message.description,
            deprecated=message.deprecated,
            tags=tuple(tag.followed().text("name") for tag in operation.member("tags").entries()),
            security=facts.texts("scopes"),
        )

    def _send(self, operation: Node, messages: Iterable[Node]) -> None:
        answer = _schema(operation.member(EXTENSION).member("answer"))
        if answer is not None:
            self._calls += [Call(self._message(each), answer) for each in messages]
            return
        self._pushes += map(self._message, messages)
        # what others ask of clients is answered by messages like any others
        for reply in self._replies(operation):
            message = self._message(reply)
            self._receives.append(Receive(message.type, message.schema, description=message.description))

    def _answers(self, operation: Node) -> Iterator[Message]:
        return map(self._message, self._replies(operation))

    def _replies(self, operation: Node) -> list[Node]:
        reply = operation.at("reply")
        found = self._messages(reply) if reply else []
        return [each for each in found if not (_is_protocol(each) or _is_binary(each))]

    def _messages(self, operation: Node) -> list[Node]:
        """The messages of an operation or reply, which are all of the channel's where it names none."""
        given = operation.member("messages")
        if given:
            return [each.followed() for each in given.entries()]
        channel = operation.at("channel") or self._node
        return [each.followed() for _, each in channel.member("messages").members()]

    # --- messages

    def _message(self, node: Node) -> Message:
        payload = self._payload(node)
        wire, key = self._wire, self._wire.type_key
        kind = _constant(kind_in(payload, wire))
        if kind is None and wire.parts:
            raise node.error("its payload is no array whose first place has a constant that names it")
        if kind is None:
            raise node.error(
                f"its payload has no constant {key!r} that names it; give it one: "
                f'"properties": {{"{key}": {{"const": "{node.place[-1]}"}}}}'
            )
        exact = _schema(node.member(EXTENSION).member("schema"))
        envelope = envelope_of(payload, wire, self._numbers, has_ref=bool(node.at("correlationId")))
        return Message(
            kind,
            fields_in(payload, wire, envelope) if exact is None else exact,
            node.text("name"),
            node.text("summary"),
            node.text("description"),
            node.flag("deprecated"),
        )

    def _payload(self, node: Node) -> Mapping[str, Any]:
        """A message's payload as one object, or the first of those that it may be; an array as it is."""
        if node.place not in self._payloads:
            self._payloads[node.place] = self._read_payload(node)
        return self._payloads[node.place]

    def _read_payload(self, node: Node) -> Mapping[str, Any]:
        payload = node.member("payload")
        if not payload:
            raise node.error("a message without a payload: describe the object that it is")
        schema = _of_json_schema(payload).schema()
        try:
            if self._parts:
                return opened(schema, self._schemas)
            first, *others = branches(schema, self._schemas)
        except ContractError as exc:
            raise node.error(str(exc)) from None
        if others and not node.member(EXTENSION).member("schema"):
            raise node.error("its payload is a union of objects: make each of them a message of its own")
        return first

    def _read_parts(self) -> tuple[str, ...]:
        parts = self._facts.texts("parts")
        if parts and parts not in _ARRAYS:
            raise self._facts.error(f"there are no arrays of {', '.join(parts)}; their parts are one of {_ARRAYS}")
        return parts

    def _read_wire(self) -> Wire:
        if self._parts:
            return Wire(parts=self._parts)
        data_key, is_open = self._facts.text("dataKey"), self._facts.flag("otherKeys")
        return Wire(self._type_key(), self._ref_key(), data_key, is_open=is_open)

    def _type_key(self) -> str:
        """The key whose constant names the messages: said, or the most usual one that all of them have."""
        told = self._facts.text("typeKey")
        if told:
            return told
        keys = [_constants(self._payload(each)) for each in self._all]
        common = [key for key in keys[0] if all(key in others for others in keys)] if keys else []
        return next((key for key in (*TYPE_KEYS, *common) if key in common), "type")

    def _ref_key(self) -> str:
        told = self._facts.text("refKey")
        for message in self._all:
            location = message.at("correlationId").text("location")
            if not told and location.startswith(_LOCATION) and "/" not in location[len(_LOCATION) :]:
                told = location.removeprefix(_LOCATION).replace("~1", "/").replace("~0", "~")
        return told or "ref"


def _of_json_schema(payload: Node) -> Node:
    """The schema itself, where it is told which language it is in."""
    if "schema" not in payload.mapping():
        return payload
    language = payload.text("schemaFormat")
    if language and not any(each in language for each in ("asyncapi", "schema+json")):
        raise payload.error(f"a payload in JSON Schema is expected, not {language}")
    return payload.member("schema")


def _is_protocol(node: Node) -> bool:
    """Whether it follows from what the channel declares."""
    return node.member(EXTENSION).flag("protocol")


def _is_binary(node: Node) -> bool:
    return node.text("contentType").partition(";")[0].strip().lower() == BINARY_TYPE


def _schema(node: Node) -> Schema | None:
    return node.schema() if node else None


def _constants(payload: Mapping[str, Any]) -> list[str]:
    return [key for key, each in payload.get("properties", {}).items() if _constant(each) is not None]


def _constant(schema: Any) -> str | None:
    """The one text that a value of it may be, if it is one."""
    if not isinstance(schema, Mapping):
        return None
    for each in (schema, *(part for part in schema.get("allOf", ()) if isinstance(part, Mapping))):
        permitted = [each["const"]] if "const" in each else each.get("enum", ())
        if len(permitted) == 1 and isinstance(permitted[0], str):
            return permitted[0]
    return None


def _errors(facts: Node) -> tuple[Error, ...]:
    return tuple(
        Error(each.text("code"), each.text("description"), _schema(each.member("details")), each.text("name"))
        for each in facts.member("errors").entries()
    )


def _security(operation: Node) -> Iterator[str]:
    """The names of the schemes of which any one is enough."""
    for each in operation.member("security").entries():
        place = each.followed().place
        if place[:2] == ("components", "securitySchemes"):
            yield place[-1]


def _in_use(schemas: Mapping[str, Schema], payloads: set[str], channels: Iterable[Channel]) -> dict[str, Schema]:
    """
    The components, without payloads that nothing else refers to.

    Raises `ContractError` for a reference to what is no component.
    """
    found: set[str] = set()
    waiting = [*_used(channels), *(schema for name, schema in schemas.items() if name not in payloads)]
    while waiting:
        for reference in references(waiting.pop()):
            name = component_name(reference)
            if name not in schemas:
                raise ContractError(f"{reference} is no schema of components/schemas: put it there")
            if name not in found:
                found.add(name)
                waiting.append(schemas[name])
    return {name: schema for name, schema in schemas.items() if name in found or name not in payloads}


def _used(channels: Iterable[Channel]) -> Iterator[Schema]:
    """Every schema of the channels."""
    for channel in channels:
        yield from (each.schema for each in channel.parameters)
        yield from (each.schema for each in channel.pushes)
        for receive in channel.receives:
            yield receive.schema
            yield from (each.schema for each in receive.replies)
            yield receive.uploads or {}
        for call in channel.calls:
            yield from (call.message.schema, call.answer)
        for error in channel.all_errors:
            yield error.details or {}
