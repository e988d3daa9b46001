"""
An endpoint class -> its channel, from what its handlers, its `emits` and its settings declare; no handler runs.

    @event
    async def on_buy(self, symbol: str, count: int = 1) -> Bought: "Buy something."

    ->  Receive("buy", {"properties": {"symbol": {...}, "count": {...}}, ...},
                (Message("bought", {"$ref": "#/components/schemas/Bought"}, "Bought"),), summary="Buy something.")

Schemas are asked of `Components`, which finishes them once all channels are described.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from socketsundso.contract.describing import sent
from socketsundso.contract.describing.codes import codes_of
from socketsundso.contract.describing.docstrings import Words, words_of, words_of_class
from socketsundso.contract.describing.sent import Names, Sent, naming_key
from socketsundso.contract.describing.wires import wire_of
from socketsundso.contract.model import Binary, Call, Channel, Error, Features, Message, Parameter, Receive, Schema
from socketsundso.contract.schemas import Components
from socketsundso.errors import PACKAGE_CODES, EventError
from socketsundso.handler import Handler, type_arguments
from socketsundso.messages import Signature, details_of, members, replies_of, settled, signature


def described(
    endpoint: Any,
    components: Components,
    *,
    name: str,
    path: str,
    parameters: Sequence[Parameter] = (),
    security: Sequence[str] = (),
) -> Channel:
    """
    The channel of an endpoint class at this path. Raises `DefinitionError` for a type that has no schema, and
    for an envelope that contracts have no words for.

    `parameters` are those of its handshake, `security` names what `Api.security` has.
    """
    words = _words_of_endpoint(endpoint)
    told = _Endpoint(endpoint, components)
    return Channel(
        name,
        path,
        words.summary,
        words.description,
        tuple(parameters),
        tuple(endpoint.subprotocols),
        receives=tuple(map(told.receive, told.handlers)),
        pushes=tuple(map(told.message, told.pushes)),
        calls=tuple(told.calls()),
        errors=tuple(Error(code, PACKAGE_CODES[code]) for code in codes_of(endpoint)),
        features=Features(bool(endpoint.history), endpoint.presence_events, endpoint.notify_gaps),
        wire=wire_of(endpoint),
        security=tuple(security),
        binary=told.binary(),
    )


def _words_of_endpoint(endpoint: type) -> Words:
    """The class's own, or those of the nearest endpoint among its bases that has some; not this package's."""
    bases = [cls for cls in endpoint.__mro__ if "_definition" in vars(cls)][:-1]
    return next((words for cls in bases if (words := words_of_class(cls)).summary), Words())


class _Endpoint:
    """One endpoint class while it is described: each message and error is made once, with a name of its own."""

    def __init__(self, endpoint: Any, components: Components) -> None:
        self._endpoint, self._components = endpoint, components
        self._decoder, self._framing = endpoint._definition.decoder, endpoint._framing
        is_own = {"resume"} if endpoint.history else set()
        self.handlers: dict[str, Handler[..., Any]] = {
            event: handler
            for event, handler in endpoint.handlers.items()
            if handler.include_in_schema and event not in is_own
        }
        arguments = type_arguments(endpoint)
        self._choices = {
            event: _choices(handler, self._read(event), handler.said_of_replies(self._read(event), arguments(handler)))
            for event, handler in self.handlers.items()
        }
        self._binary = next((each for each in endpoint._binary_handlers if each.include_in_schema), None)
        messages = [each for each in endpoint.emits if each is not bytes]
        pushed = [*sent.pushes(messages, self._framing), *self._replies_to_binary()]
        self.pushes = list({each.key: each for each in pushed}.values())
        calls = endpoint.calls.items()
        self._asked = [(each, answer) for asked, answer in calls for each in sent.pushes([asked], self._framing)]
        replies = [each for event in self.handlers for each in self._replies(event)]
        self._names = Names([*replies, *self.pushes, *(each for each, _ in self._asked)])
        self._messages: dict[Hashable, Message] = {}
        self._errors: dict[type[EventError], Error] = {}

    def _read(self, event: str) -> Signature:
        read: Signature = self._decoder.routes[event].signature
        return read

    def _replies(self, event: str) -> Iterator[Sent]:
        options, is_stream = self.handlers[event].response_options, self._read(event).streams
        return sent.replies(event, self._choices[event], options, is_stream=is_stream, framing=self._framing)

    def receive(self, event: str) -> Receive:
        handler, read, where = self.handlers[event], self._read(event), f"event {event!r}"
        docstring = self._words(handler, read)
        may_be_silent = not read.streams and type(None) in self._choices[event]
        return Receive(
            event,
            self._components.fields(read, self._framing),
            tuple(map(self.message, self._replies(event))),
            stream=read.streams,
            acknowledged=self._endpoint.acknowledge and may_be_silent,
            cancellable=self._decoder.converses,
            uploads=None if read.upload is None else self._components.incoming(read.upload.item, f"{where}, its items"),
            errors=tuple(self._error(kind, where) for kind in handler.errors),
            summary=docstring.summary if handler.summary is None else handler.summary,
            description=docstring.description if handler.description is None else handler.description,
            deprecated=handler.deprecated,
            tags=tuple(dict.fromkeys((*self._endpoint.tags, *handler.tags))),
            security=_scopes(handler),
        )

    def _words(self, handler: Handler[..., Any], read: Signature) -> Words:
        """The handler's docstring; for one of several events, or where it has none, that of the whole message."""
        words, own = words_of(handler.__doc__), words_of_class(read.message_model)
        is_shared = sum(each is handler for each in self.handlers.values()) > 1
        return own if own.summary and (is_shared or not words.summary) else words

    def _replies_to_binary(self) -> Iterator[Sent]:
        """The messages that answer binary frames: without a ref, so that they are pushes for who gets them."""
        if self._binary is None:
            return
        read: Signature = self._decoder.binary.signature
        if replies_of(self._binary.event, read.returns) == "text":
            choices = _choices(self._binary, read, self._binary.said_of_replies(read, {}))
            options = self._binary.response_options
            yield from sent.replies(self._binary.event, choices, options, is_stream=False, framing=self._framing)

    def binary(self) -> Binary | None:
        """None where no frame is binary."""
        own, is_pushed = self._binary, bytes in self._endpoint.emits
        if own is None:
            return Binary(sends=True) if is_pushed else None
        read: Signature = self._decoder.binary.signature
        words = words_of(own.__doc__)
        return Binary(
            own.event,
            is_pushed or replies_of(own.event, read.returns) != "text" or not self._endpoint.emits,
            errors=tuple(self._error(kind, f"event {own.event!r}") for kind in own.errors),
            summary=words.summary if own.summary is None else own.summary,
            description=words.description if own.description is None else own.description,
            deprecated=own.deprecated,
            tags=tuple(dict.fromkeys((*self._endpoint.tags, *own.tags))),
            security=_scopes(own),
        )

    def calls(self) -> Iterator[Call]:
        for asked, answer in self._asked:
            schema = self._components.incoming(answer, f"calls, the answer to {asked.type!r}")
            yield Call(self.message(asked), schema)

    def message(self, message: Sent) -> Message:
        if message.key not in self._messages:
            words = Words() if message.model is None else words_of_class(message.model)
            name = self._names.of_message(message)
            self._messages[message.key] = Message(message.type, self._schema(message), name, *words)
        return self._messages[message.key]

    def _schema(self, message: Sent) -> Schema:
        is_flat = self._framing.type_key is not None
        if message.is_silent:
            return {"type": "object"} if is_flat else {}
        where, options = f"message {message.type!r}", message.options
        if message.naming == "frame" and not is_flat:
            key = self._framing.place[0]
            return self._components.outgoing(message.declared, where, at=key, options=options)
        keys = {naming_key(message.naming, self._framing), self._framing.type_key or ""} - {""}
        return self._components.outgoing(message.declared, where, without=keys, options=options)

    def _error(self, kind: type[EventError], where: str) -> Error:
        if kind not in self._errors:
            told = "\n\n".join(filter(None, words_of_class(kind)))
            name = self._names.free(kind.__name__)
            self._errors[kind] = Error(kind.code, told, self._details(kind, where), name)
        return self._errors[kind]

    def _details(self, kind: type[EventError], where: str) -> Schema | None:
        properties = {
            name: self._components.outgoing(annotation, f"{where}, {kind.__name__}.{name}")
            for name, annotation in details_of(kind).items()
        }
        if not properties:
            return None
        return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _scopes(handler: Handler[..., Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(scope for guard in handler.guards for scope in getattr(guard, "scopes", ())))


def _choices(handler: Handler[..., Any], read: Signature, said: Any) -> list[Any]:
    """What may answer it, `NoneType` for nothing; that too where it does not say, unless it is a stream."""
    if said is signature.EMPTY:
        return [Any] if read.streams else [type(None)]
    if said is None and handler.response_model is None:
        return [Any]  # `response_model=None`: anything
    return members(settled(said))
