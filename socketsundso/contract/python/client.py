"""
A Python client as one file: `python(api)` is its text.

The file has what every client needs (the modules of `runtime/`, as they are), then the messages and
errors as classes, then a client for each channel, once for asyncio and once for threads:

    class Chat(_Client[ChatPush]):
        async def say(self, *, room: str, msg: str, timeout_s: float | None = None, retry: bool = False) -> Said: ...

It depends on `websockets` and `msgspec`, or pydantic; not on this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from socketsundso.contract.identifiers import PYTHON_KEYWORDS, Scope, snake
from socketsundso.contract.model import Api, Channel, Error, Message, Receive, Schema, Wire
from socketsundso.contract.python.parts import runtime
from socketsundso.contract.python.text import class_name, docstring, literal
from socketsundso.contract.python.types import IN_ANNOTATIONS, Field, Models, Types, is_class, is_object
from socketsundso.contract.speaking import refuse_unspeakable

METHODS = frozenset(
    ["open", "close", "state", "pushes", "on", "room", "on_open", "on_state", "on_error", "handle", "send_bytes"]
)
_RESERVED_PUSHES = {
    "history": {"gap": "Gap"},
    "presence": {"presence_state": "PresenceState", "presence_diff": "PresenceDiff"},
    "gaps": {"gap": "Gap"},
}
OPTIONS = frozenset(
    (
        *("backoff", "connect", "headers", "max_items", "max_offline", "max_pushes", "query"),
        *("subprotocols", "timeout_s", "token", "wait_for_server"),
    )
)
_REQUEST = frozenset({"timeout_s", "retry", "items", "fields"})
"""What methods of events have of their own."""


def python(api: Api, models: Models = "msgspec") -> str:
    """
    The text of a module with a client for each channel of `api`, `Chat` and `ChatSync`, whose messages are msgspec's
    Structs or pydantic's models.

    Raises `ContractError` where two names fall together, or one has nothing to make an identifier of.
    """
    refuse_unspeakable(api)
    head = [
        *docstring(_title(api), ""),
        "",
        "# Made from a contract: make it anew, do not edit it.",
        "# ruff: noqa",
        "",
    ]
    common = runtime(models)
    return "\n".join([*head, *common.imports, *common.code, *client_source(api, models)]).rstrip() + "\n"


def _title(api: Api) -> str:
    return f"Client of {api.title} {api.version}.\n\n{api.description}".strip()


def client_source(api: Api, models: Models = "msgspec") -> Iterator[str]:
    """The messages, the errors and the clients: what stands behind the part that all files have."""
    names = Scope("class", class_name, reserved=runtime(models).names)
    called = [_ChannelNames(channel, names) for channel in api.channels]
    errors = _Errors(api.channels, called, names)
    types = Types(api, models, names)
    messages = _Messages(types)
    bodies = [
        list(_ChannelWriter(api, channel, each, types, messages, errors).lines())
        for channel, each in zip(api.channels, called, strict=True)
    ]
    of_errors = list(errors.lines(types))
    yield from types.source()
    yield from of_errors
    for body in bodies:
        yield from body


class _ChannelNames:
    """What the classes of a channel are called."""

    def __init__(self, channel: Channel, names: Scope) -> None:
        owner = f"the channel {channel.name!r}"
        self.client = names.add(channel.name, owner)
        self.sync = names.add(f"{self.client}Sync", f"{owner}, for threads")
        self.error = names.add(f"{self.client}Error", f"the errors of {owner}")
        self.push = names.add(f"{self.client}Push", f"the pushes of {owner}")
        self.prefix = f"_{snake(self.client).strip('_').upper()}"
        self.constant = f"{self.prefix}_CHANNEL"


class _Errors:
    """The classes of errors: one for each channel, and the application's own below."""

    def __init__(self, channels: Sequence[Channel], called: Sequence[_ChannelNames], names: Scope) -> None:
        self._channels = called
        self._classes: dict[tuple[str, str, str], str] = {}
        self._declared: dict[str, tuple[Error, list[str]]] = {}  # by class, with its bases
        for channel, each in zip(channels, called, strict=True):
            for error in _own_errors(channel):
                if _key(error) not in self._classes:
                    owner = f"the error {error.code!r} of the channel {channel.name!r}"
                    self._classes[_key(error)] = names.add(error.name or error.code, owner)
                bases = self._declared.setdefault(self._classes[_key(error)], (error, []))[1]
                bases += [] if each.error in bases else [each.error]

    def table(self, errors: Iterable[Error]) -> str:
        return _table({error.code: self._classes[_key(error)] for error in errors if _key(error) in self._classes})

    def raised(self, errors: Iterable[Error]) -> list[str]:
        return [self._classes.get(_key(error), repr(error.code)) for error in errors]

    def lines(self, types: Types) -> Iterator[str]:
        for each in self._channels:
            yield f"class {each.error}(RequestError):"
            yield f'    """A request of {each.client} was refused; `code` says why."""'
            yield from ("", "")
        for name, (error, bases) in self._declared.items():
            yield f"class {name}({', '.join(bases)}):"
            yield from docstring(error.description or f"The code {error.code!r}.", "    ")
            if error.details is not None:
                yield from self._details(name, error.details, types)
            yield from ("", "")

    def _details(self, name: str, details: Schema, types: Types) -> Iterator[str]:
        kind = types.annotation(details, f"{name}Details")
        yield ""
        for field in types.fields(types.resolved(details), kind):
            yield f"    {field.name}: {field.annotation}"
        yield f"    _details = {kind}"


def _key(error: Error) -> tuple[str, str, str]:
    return error.code, error.name, repr(error.details)


def _own_errors(channel: Channel) -> Iterator[Error]:
    """Those that an application has a class for."""
    for error in channel.all_errors:
        if error.name or error.details is not None:
            yield error


class _Messages:
    """The classes of messages: one for each type and schema, so that `isinstance` tells them apart."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._classes: dict[tuple[str, str, str], str] = {}

    def of(self, message: Message) -> str:
        name = message.name or message.type
        key = (message.type, name, repr(message.schema))
        if key not in self._classes:
            told = _paragraphs(message.summary, message.description, "Deprecated." if message.deprecated else "")
            self._classes[key] = self._types.message(message.schema, name, told, {*self._classes.values()})
        return self._classes[key]


class _ChannelWriter:
    """A channel as two classes, and the constants that they refer to."""

    def __init__(
        self, api: Api, channel: Channel, names: _ChannelNames, types: Types, messages: _Messages, errors: _Errors
    ) -> None:
        self._api, self._channel, self._names = api, channel, names
        self._types, self._messages, self._errors = types, messages, errors

    def lines(self) -> Iterator[str]:
        yield from self._constants()
        methods = Scope(f"method of {self._names.client}", snake, METHODS | PYTHON_KEYWORDS | IN_ANNOTATIONS)
        events = [
            _EventWriter(receive, methods, self._names, self._types, self._messages, self._errors, self._channel.wire)
            for receive in self._channel.receives
        ]
        for event in events:
            yield from event.constant()
        for is_async in (True, False):
            yield from ("", "")
            yield from self._head(is_async)
            yield from self._handle(is_async)
            for event in events:
                yield ""
                yield from event.method(is_async)
            yield from self._send_bytes(is_async)
        yield from ("", "")

    def _constants(self) -> Iterator[str]:
        channel = self._channel
        pushes = {push.type: self._messages.of(push) for push in channel.pushes}
        for feature, reserved in _RESERVED_PUSHES.items():
            if getattr(channel.features, feature):
                pushes |= reserved
        calls = {call.message.type: self._messages.of(call.message) for call in channel.calls}
        binary = channel.binary is not None and channel.binary.sends
        kinds = dict.fromkeys([*pushes.values(), *["bytes"] * binary])
        yield f"{self._names.push}: TypeAlias = {' | '.join(kinds) or 'Never'}"
        yield ""
        yield f"{self._names.constant} = _Channel("
        yield f"    {literal(self._names.client)},"
        yield f"    {self._names.error},"
        yield from _wrapped_table("pushes", pushes)
        yield from _wrapped_table("calls", calls)
        yield f"    history={channel.features.history},"
        yield f"    subprotocols=({''.join(f'{literal(name)}, ' for name in channel.subprotocols).rstrip()}),"
        yield f"    token=({', '.join(map(literal, _token_place(self._api, channel)))}),"
        yield f"    type_key={literal(channel.wire.type_key)},"
        yield f"    ref_key={literal(channel.wire.ref_key)},"
        if channel.wire.data_key:
            yield f"    data_key={literal(channel.wire.data_key)},"
        if channel.wire.parts:
            yield f"    parts=({', '.join(map(literal, channel.wire.parts))}),"
        if binary:
            yield "    binary=True,"
        if channel.binary is not None and (errors := self._errors.table(channel.binary.errors)) != "{}":
            yield f"    errors={errors},"
        yield ")"

    def _head(self, is_async: bool) -> Iterator[str]:
        names, channel = self._names, self._channel
        name, base = (names.client, "_Client") if is_async else (names.sync, "_ClientSync")
        parameters = list(self._parameters())
        yield f"class {name}({base}[{names.push}]):"
        told = _paragraphs(channel.summary, channel.description, *(_told(each) for each, _ in parameters))
        yield from docstring(told or f"A client of {channel.path}.", "    ")
        yield ""
        given = [_parameter(field) for field, _ in parameters]
        options = "ClientOptions" if is_async else "ClientOptionsSync"
        star = ["*"] if given else []
        yield from _signature(
            "    def __init__", ["self", "url: str", *star, *given, f"**options: Unpack[{options}]"], "None"
        )
        places = ", ".join(
            _table({field.key: field.name for field, each in parameters if each == place})
            for place in ("path", "query", "header", "cookie")
        )
        yield f"        super().__init__({names.constant}, url, _Parameters({places}), options)"

    def _parameters(self) -> Iterator[tuple[Field, str]]:
        reserved = {"url", "options", *OPTIONS}
        names = Scope(f"parameter of {self._names.client}", snake, reserved | PYTHON_KEYWORDS | IN_ANNOTATIONS)
        for each in self._channel.parameters:
            name = names.add(each.name, f"the {each.place} parameter {each.name!r}")
            annotation = self._types.annotation(each.schema, self._names.client + class_name(each.name))
            field = Field(name, each.name, annotation, each.required, ..., each.description)
            yield field, each.place

    def _send_bytes(self, is_async: bool) -> Iterator[str]:
        binary = self._channel.binary
        if binary is None or not binary.takes:
            return
        raised = self._errors.raised(binary.errors)
        yield ""
        word, wait = ("async def", "await ") if is_async else ("def", "")
        yield f"    {word} send_bytes(self, data: bytes | bytearray | memoryview) -> None:"
        told = _paragraphs(
            binary.summary or "Send a binary frame.",
            binary.description,
            f"Refused with {', '.join(raised)}, which `on_error` hears." if raised else "",
            f"Asks for {', '.join(binary.security)}." if binary.security else "",
            "Deprecated." if binary.deprecated else "",
            "It waits for no connection: raises Disconnected where there is none.",
        )
        yield from docstring(told, "        ")
        yield f"        {wait}self._send_bytes(data)"

    def _handle(self, is_async: bool) -> Iterator[str]:
        offered = [
            (
                self._messages.of(call.message),
                self._types.annotation(call.answer, f"{class_name(call.message.type)}Answer"),
            )
            for call in self._channel.calls
        ]
        for kind, answer in offered:
            wanted = f"{answer} | Awaitable[{answer}]" if is_async else answer
            yield ""
            if len(offered) > 1:
                yield "    @overload"
            signature = ["self", f"kind: type[{kind}]", f"answer: Callable[[{kind}], {wanted}]"]
            yield from _signature("    def handle", signature, "None", "..." if len(offered) > 1 else "")
        if len(offered) > 1:
            yield ""
            yield "    def handle(self, kind: type[Any], answer: Callable[[Any], Any]) -> None:"
        if offered:
            yield '        """Answer what the server asks. What is raised refuses it, as CallRefused says."""'
            yield "        self._handle(kind, answer)"


class _EventWriter:
    """An event as a method."""

    def __init__(
        self,
        receive: Receive,
        methods: Scope,
        names: _ChannelNames,
        types: Types,
        messages: _Messages,
        errors: _Errors,
        wire: Wire,
    ) -> None:
        self._receive, self._types, self._errors = receive, types, errors
        self._method = methods.add(receive.event, f"the event {receive.event!r}")
        self._constant = f"{names.prefix}__{self._method.upper()}"
        self._replies = (_by_type if wire.is_flat else _any_by_type)(receive.replies, messages, types)
        answers = list(dict.fromkeys(kind for kinds in self._replies.values() for kind in kinds))
        self._is_answered = bool(answers) or receive.acknowledged
        self._may_be_none = not answers or (receive.acknowledged and not receive.stream)
        self._answer = " | ".join([*answers, *(["None"] if self._may_be_none else [])])
        hint = class_name(self._method)
        target = types.resolved(receive.schema)
        self._fields = types.fields(target, hint, _REQUEST) if is_class(target) else None
        self._others = "" if is_class(target) else types.annotation(target, f"{hint}Fields")
        self._may_have_none = self._others == "dict[str, Any]" and not target.get("required")
        self._items = types.annotation(receive.uploads, f"{hint}Item") if receive.uploads is not None else ""

    def constant(self) -> Iterator[str]:
        receive = self._receive
        flags = {
            "acknowledged": receive.acknowledged,
            "stream": receive.stream,
            "uploads": receive.uploads is not None,
            "cancellable": receive.cancellable,
        }
        given = [literal(receive.event), _table(_read_as(self._replies)), self._errors.table(receive.errors)]
        given += [f"{flag}=True" for flag, is_set in flags.items() if is_set]
        yield f"{self._constant}: _Event[{self._answer}] = _Event({', '.join(given)})"

    def method(self, is_async: bool) -> Iterator[str]:
        receive = self._receive
        stream = ("ItemStream" if is_async else "ItemStreamSync") if receive.stream else ""
        word = "async def" if is_async and not stream else "def"
        answer = f"{stream}[{self._answer}]" if stream else self._answer
        yield from _signature(f"    {word} {self._method}", ["self", *self._parameters(is_async)], answer)
        yield from docstring(self._told(), "        ")
        sent = "fields or {}" if self._may_have_none else "fields"
        if self._fields is not None:
            sent = _table({field.key: field.name for field in self._fields})
        given = [self._constant, sent, "timeout_s"]
        given += ["retry=retry"] if self._may_retry else []
        given += ["items=items"] if self._items else []
        call = f"self.{'_stream' if stream else '_ask'}({', '.join(given)})"
        yield f"        return {'await ' if word == 'async def' else ''}{call}"

    @property
    def _may_retry(self) -> bool:
        return self._is_answered and not self._receive.stream and not self._items

    def _parameters(self, is_async: bool) -> Iterator[str]:
        if self._fields is None:
            yield f"fields: {self._others}{' | None = None' if self._may_have_none else ''}"
        yield "*"
        fields = self._fields or []
        yield from (_parameter(field) for field in fields if field.required)
        if self._items:
            source = "AsyncIterable[{0}] | Iterable[{0}]" if is_async else "Iterable[{0}]"
            yield f"items: {source.format(self._items)}"
        yield from (_parameter(field) for field in fields if not field.required)
        yield "timeout_s: float | None = None"
        if self._may_retry:
            yield "retry: bool = False"

    def _told(self) -> str:
        receive = self._receive
        raised = self._errors.raised(receive.errors)
        return _paragraphs(
            receive.summary or f"The event {receive.event!r}.",
            receive.description,
            *(_told(field) for field in self._fields or ()),
            f"Refused with {', '.join(raised)}." if raised else "",
            f"Asks for {', '.join(receive.security)}." if receive.security else "",
            "Deprecated." if receive.deprecated else "",
        )


def _by_type(replies: Iterable[Message], messages: _Messages, types: Types) -> dict[str, list[str]]:
    """
    The classes of replies by their type, which all those of one event have that name none of their own.

    A mapping beside classes stands for all of that type: nothing tells them apart.
    """
    found: dict[str, list[str]] = {}
    mappings: dict[str, list[str]] = {}
    for reply in replies:
        kind = messages.of(reply)
        into = found if is_class(types.resolved(reply.schema)) else mappings
        if kind not in into.setdefault(reply.type, []):
            into[reply.type].append(kind)
    return {**found, **{type_: kinds[-1:] for type_, kinds in mappings.items()}}


def _any_by_type(replies: Iterable[Message], messages: _Messages, types: Types) -> dict[str, list[str]]:
    """The same where replies stand apart from the envelope, and may be other values than objects."""
    values: dict[str, list[Schema]] = {}
    for reply in replies:
        values.setdefault(reply.type, []).append(reply.schema)
    others = {
        type_: [types.annotation(schemas[0] if len(schemas) == 1 else {"anyOf": schemas}, class_name(type_))]
        for type_, schemas in values.items()
        if not all(is_object(types.resolved(schema)) for schema in schemas)
    }
    return {**_by_type((reply for reply in replies if reply.type not in others), messages, types), **others}


def _read_as(replies: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A class, or a tuple of those that it may be."""
    return {type_: kinds[0] if len(kinds) == 1 else f"({', '.join(kinds)})" for type_, kinds in replies.items()}


def _token_place(api: Api, channel: Channel) -> tuple[str, str, str]:
    """Where the token of a client goes: a header if there is a choice, since URLs are logged."""
    places = [_place_of(api.security[name]) for name in channel.security if name in api.security]
    known = [place for place in places if place is not None]
    return next((each for each in known if each[0] == "header"), known[0] if known else _BEARER)


_BEARER = ("header", "Authorization", "Bearer ")


def _place_of(scheme: Mapping[str, object]) -> tuple[str, str, str] | None:
    match scheme:
        case {"type": "httpApiKey", "in": "query" | "header" | "cookie" as place, "name": str(name)}:
            return place, name, ""
        case {"type": "http", "scheme": str(word)}:
            return "header", "Authorization", f"{word.capitalize()} "
        case {"type": "oauth2" | "openIdConnect"}:
            return _BEARER
    return None


def _parameter(field: Field) -> str:
    return f"{field.name}: {field.annotation}" + ("" if field.required else " | UnsetType = UNSET")


def _told(field: Field) -> str:
    return f"`{field.name}`: {field.description}" if field.description else ""


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text.strip() for text in texts if text.strip())


def _signature(head: str, parameters: Iterable[str], answer: str, body: str = "") -> Iterator[str]:
    given = list(parameters)
    given = given[:-1] if given[-1] == "*" else given
    line = f"{head}({', '.join(given)}) -> {answer}:" + (f" {body}" if body else "")
    if len(line) <= 120:
        yield line
        return
    indent = " " * (len(head) - len(head.lstrip()) + 4)
    yield f"{head}("
    yield from (f"{indent}{each}," for each in given)
    yield f"{indent[:-4]}) -> {answer}:" + (f" {body}" if body else "")


def _table(entries: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{literal(key)}: {value}" for key, value in entries.items()) + "}"


def _wrapped_table(name: str, entries: Mapping[str, str]) -> Iterator[str]:
    if entries:
        yield f"    {name}={{"
        yield from (f"        {literal(key)}: {value}," for key, value in entries.items())
        yield "    },"
