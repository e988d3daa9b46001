"""
One event of one endpoint, compiled: its Struct, the generated calls that unpack it, and its exact validator.

Fields are natively decoded where msgspec decodes exactly as pydantic would (`annotations.native`), else kept raw and
given to their pydantic validator. So the fast path may be strict, but it must never accept what pydantic would not,
nor give another value.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Protocol

import msgspec
from msgspec import UNSET, Raw, UnsetType
from pydantic import TypeAdapter
from pydantic_core import ValidationError
from starlette.concurrency import run_in_threadpool

from socketsundso.errors import DefinitionError
from socketsundso.messages import codegen
from socketsundso.messages.built_models import Built, built
from socketsundso.messages.codecs import Frame, Misshapen
from socketsundso.messages.conduct import Apart, Conduct, binding
from socketsundso.messages.disclosure import declared_names
from socketsundso.messages.error_frames import malformed
from socketsundso.messages.fields import Field, adapter_for, native_kind
from socketsundso.messages.flat_models import flat_model
from socketsundso.messages.framing import Fields, FlatFraming, Framing
from socketsundso.messages.judge import (
    check_syntax,
    core_alias,
    exact_validator,
    whole_adapter,
)
from socketsundso.messages.raw_fields import RawField, complete_error
from socketsundso.messages.refs import Ref
from socketsundso.messages.signature import EMPTY, Parameter, Signature, is_unicode, read
from socketsundso.messages.whole_frames import frame_reader


class Judgement(msgspec.Struct, frozen=True):
    """What is wrong with a message: the error that is the answer to it."""

    route: Route
    ref: Ref | None
    error: Exception

    def call(self, endpoint: Any, frame: Frame) -> Any:
        raise self.error


class Refused(Exception):
    """
    A message is not valid, or one of its validators raised.

    `judgement` has the complete error list; without one the judge has to look at the whole frame.
    """

    def __init__(self, judgement: Judgement | None = None) -> None:
        self.judgement = judgement


_FOR_THE_JUDGE = (Refused, Misshapen)


def _refusal(fields: tuple[RawField, ...], message: Any, exc: Exception, done: dict[str, Any]) -> Refused:
    del done["exc"]  # `locals()` of the call, which stay with its frame: a cycle with the exception's traceback
    if isinstance(exc, _FOR_THE_JUDGE):
        return exc if isinstance(exc, Refused) else Refused()
    try:
        error = complete_error(fields, done.get("data", message), exc, done, message.route.framing.place)
    except Misshapen:
        return Refused()
    except Exception as bug:  # no local name keeps it: it has the frames below, and they have this one
        return Refused(Judgement(message.route, message.ref, bug))
    return Refused(None if error is None else Judgement(message.route, message.ref, error))


ITEM_KEY = "item"
"""Where an item stands in its frame, and what the places of errors in it begin with."""

CallMessage = Callable[[Any, Any, Frame], Any]
"""`call(message, endpoint, frame)`: reads the fields and calls the handler. Raises `Refused`."""


class Unread(msgspec.Struct, gc=False):
    """A message of which no more is known than whose it is; `text` is all of it."""

    route: Any  # a Route, which is defined below
    ref: Ref | None
    text: str

    error: ClassVar[None] = None

    def call(self, endpoint: Any, frame: Frame) -> Any:
        """Read the fields as pydantic does, and call the handler. Raises `Refused`, with a judgement."""
        return self.route.call_unread(self, endpoint, frame)


class Encodes(Protocol):
    """The part of an encoder that a route carries along."""

    def encode(self, value: Any) -> bytes: ...
    def encode_valid(self, value: Any) -> bytes: ...
    def validate(self, value: Any) -> Any: ...


class Route:
    """
    One event of one endpoint, compiled: its Struct, its two generated calls and its exact validator.

    One that `takes_frame` is for binary frames: they are not decoded, its one parameter is the frame. Raises
    `DefinitionError` if msgspec or pydantic cannot build a parameter, or a key is reserved.
    """

    def __init__(
        self,
        signature: Signature,
        function: Callable[..., Any],
        encoder: Encodes,
        *,
        framing: Framing,
        in_thread: bool,
        conduct: Conduct | None = None,
        takes_frame: bool = False,
    ) -> None:
        self.event = signature.event
        self.signature = signature
        self.encoder = encoder
        self.encode = encoder.encode
        self.encode_answer: Callable[[Any, Ref], bytes] = getattr(encoder, "encode_answer", self.encode_with_ref)
        self.awaited = signature.is_async or in_thread
        self.conduct = conduct
        self.apart = conduct.apart if conduct is not None else None
        self.timeout_s = conduct.timeout_s if conduct is not None else None
        self.items = _items(signature, framing)  # reads what follows the message, one by one
        self.framing = framing
        self.flat = None if takes_frame else flat_model(signature, framing)
        self.hidden = False  # no answer lists it among the events that there are
        self._exact: Callable[[Frame], dict[str, Any]] | None = None
        self.takes_frame = takes_frame
        if takes_frame:
            check_frame(signature)
        elif signature.message_model is None:
            _refuse_reserved(signature, framing)
        target = threaded(function) if in_thread and not signature.is_async else function
        if conduct is not None and conduct.key is not None:
            target = binding(function, target, conduct)
        if framing.ref_place is None and self.apart in ("stream", "upload"):
            raise DefinitionError(
                f"event {self.event!r}: a request with many messages is told from others by its `ref`, which the "
                "envelope of its endpoint does not have"
            )
        self.call_unread: CallMessage = _judged_call  # of an `Unread`; also MalformedFrame and InvalidUTF8
        self.call_bound: CallMessage = _bound_call  # of what has a `Bound` of its `conduct.key`
        if takes_frame:
            self.struct, self._leaves_to_judge = _frame_message(self, target), False
            return
        plan = _Plan(signature, target, framing)
        fields = plan.fields if plan.looks_at_fields else None
        self.struct = _struct(self, fields, closed=not plan.takes_any, needed=signature.needs_data, call=plan.call())
        self.call_exact = plan.call_exact()
        self._leaves_to_judge = plan.leaves_to_judge

    def put_before(self, wrap: Callable[[CallMessage], CallMessage], *, awaited: bool, waits: bool = False) -> None:
        """
        Have every message pass through `wrap` of its call, however it is read; what that gives is `awaited` or not.

        The call that is wrapped raises no `Refused` without a judgement: a message passes once. What `waits` for
        something stands behind the validation where a parameter says whose turn it is: that has to be known at once.
        """
        if waits and self.conduct is not None and self.conduct.key is not None:
            self.call_bound, self.awaited = wrap(self.call_bound), awaited
            return
        struct: Any = self.struct
        fast = _complete(struct.call, self.call_unread) if self._leaves_to_judge else struct.call
        struct.call, self.call_unread = wrap(fast), wrap(self.call_unread)
        self.awaited, self._leaves_to_judge = awaited, False

    def encode_with_ref(self, value: Any, ref: Ref) -> bytes:
        """`encode_answer`, where the encoder does not do it at once."""
        return self.framing.with_ref(self.encode(value), ref)

    def exact(self, frame: Frame) -> dict[str, Any]:
        """All arguments as pydantic gives them for the whole frame. Raises pydantic's `ValidationError`."""
        if self._exact is None:
            self._exact = exact_validator(self.signature, self.framing)
        return self._exact(frame)

    def unread(self, ref: Ref | None, frame: Frame) -> Unread:
        """A frame of this event, for pydantic to read. Raises `Refused`, with a judgement, where it cannot."""
        try:
            return Unread(self, ref, self.framing.codec.text_of(frame))
        except Misshapen as exc:
            error = malformed(exc, ref)
        raise Refused(Judgement(self, ref, error))

    @functools.cached_property
    def keys(self) -> tuple[str | None, ...]:
        """
        Of its fields, in the order of the parameters; those of a whole message have none.

        None is for one that is taken from within something else alone, by an `AliasPath`.
        """
        if self.signature.message_model is not None:
            return ()
        return tuple(map(_own_key, self.signature.parameters))

    @functools.cached_property
    def declared(self) -> frozenset[str]:
        """The names that may stand in the `loc` of an error: what the application declared, and no key of a peer's."""
        if self.takes_frame:
            return self.framing.names
        names = declared_names(whole_adapter(self.signature, self.framing).core_schema) | self.framing.names
        return names if self.items is None else names | self.items.declared


def _items(signature: Signature, framing: Framing) -> Field | None:
    upload = signature.upload
    if upload is None:
        return None
    where = f"event {signature.event!r}, parameter {upload.name!r}"
    return Field(ITEM_KEY, upload.item, where, framing.place)


def _judged_call(message: Unread, endpoint: Any, frame: Frame) -> Any:
    """With the arguments that pydantic gives for the whole frame."""
    route, text = message.route, message.text
    try:
        arguments = route.exact(text)
    except ValidationError as exc:
        check_syntax(text)  # before which pydantic may find an error
        if route.flat is not None:
            route.flat.notice(endpoint, exc)
        # Its traceback says nothing, and would keep the endpoint alive until the collector comes.
        raise Refused(Judgement(route, message.ref, exc.with_traceback(None))) from None
    except Exception as exc:  # the validators are the application's code: anything may come
        check_syntax(text)
        raise Refused(Judgement(route, message.ref, exc)) from None
    if "N" in text or "Infinity" in text:  # which pydantic would take
        check_syntax(text)
    return route.call_exact(arguments, endpoint)


def _bound_call(message: Any, endpoint: Any, frame: Frame) -> Any:
    return message.bound()


def _complete(fast: CallMessage, unread: CallMessage) -> CallMessage:
    """The fast call, with the exact one for what it cannot judge."""

    def call(message: Any, endpoint: Any, frame: Frame) -> Any:
        try:
            return fast(message, endpoint, frame)
        except Refused as exc:
            if exc.judgement is not None:
                raise
        return unread(message.route.unread(message.ref, frame), endpoint, frame)

    return call


def cancel_route(framing: Framing) -> Route:
    """That of `{"type":"cancel","ref":7}`, which is no handler's."""
    return _control_route("cancel", framing)


def complete_route(framing: Framing) -> Route:
    """That of `{"type":"complete","ref":7}`: an upload has no more items."""
    return _control_route("complete", framing)


def item_route(framing: Framing) -> Route:
    """
    That of `{"type":"item","ref":7,"item":{}}`. The item stays raw, since it is the `ref` that says of what type it is.

    Raises `DefinitionError` where the keys of uploads are not free.
    """
    if framing.ref_key in (ITEM_KEY, "items"):
        raise DefinitionError(f"ref_key is {framing.ref_key!r}, which is a key of uploads; take another one")

    async def control(item: Any) -> None: ...

    route = _control_route("item", framing, control)
    route.struct = _struct(route, [(ITEM_KEY, Raw, msgspec.field())], needed=True, **_shown_through(framing, ITEM_KEY))
    return route


def reply_route(framing: Framing) -> Route:
    """
    That of `{"type":"reply","ref":"s:1","answer":{}}`, or with an `error`, which is no handler's either.

    Both stay raw, since it is the `ref` that says of what type an answer is. Further keys are not looked at.
    """
    route = _control_route("reply", framing)
    optional = Raw | UnsetType
    fields = [("answer", optional, UNSET), ("refusal", optional, msgspec.field(name="error", default=UNSET))]
    shown = _shown_through(framing, "answer", "refusal")
    route.struct = _struct(route, fields, closed=False, needed=False, **shown)
    return route


def text_route(framing: Framing) -> Route:
    """That of a text which is no message."""
    return _control_route("text", framing)


def batch_route(framing: Framing, call: CallMessage) -> Route:
    """That of several requests in one frame: an `Unread` that `call` reads."""
    route = Route(read("batch", _control), _control, _NoReply(), framing=framing, in_thread=False)
    route.call_unread = call
    return route


def _shown_through(framing: Framing, *names: str) -> dict[str, Any]:
    """The fields of a data part as attributes of its message, which has them itself where there is none."""
    return {name: property(operator.attrgetter(f"data.{name}")) for name in names if framing.place}


async def _control() -> None: ...


_FOLLOWING = ("cancel", "item", "complete")  # what is about another message


def _control_route(name: Apart, framing: Framing, control: Callable[..., Any] = _control) -> Route:
    return Route(read(name, control), control, _NoReply(), framing=framing, in_thread=False, conduct=Conduct(name))


class _NoReply:
    """The encoder of what no handler answers: nothing calls it."""

    def encode(self, value: Any) -> bytes:
        raise NotImplementedError

    encode_valid = validate = encode


FRAMES = (bytes, memoryview)
"""How a handler may take a binary frame."""


def check_frame(signature: Signature) -> None:
    """Raises `DefinitionError` where anything but the frame is taken of a binary frame, or not even that."""
    where = f"event {signature.event!r}"
    taken = [each.name for each in signature.parameters if each.annotation in FRAMES and each.default is None]
    others = [each.name for each in signature.parameters if each.name not in taken]
    if others:
        raise DefinitionError(
            f"{where}, parameter {others[0]!r}: a binary frame has no fields; take it whole, as `frame: bytes` or "
            "`frame: memoryview`, and unpack it in the handler"
        )
    if len(taken) != 1:
        given = " and ".join(map(repr, taken)) or "nothing"
        raise DefinitionError(f"{where}: it takes {given}; take the frame once, as `frame: bytes`")


def _refuse_reserved(signature: Signature, framing: Framing) -> None:
    seen: dict[str, str] = {}
    for parameter in signature.parameters:
        where = f"event {signature.event!r}, parameter {parameter.name!r}"
        for key in _first_keys(parameter):
            if key in (framing.type_key, framing.ref_key):
                raise DefinitionError(
                    f"{where}: the key {key!r} is reserved; give it another one: "
                    f'`{parameter.name}: Annotated[..., Field(alias="{parameter.name}_")]`'
                )
            if not isinstance(key, str):
                raise DefinitionError(
                    f"{where}: its AliasPath begins with {key!r}, and a message is an object: begin with a key"
                )
            if not is_unicode(key):
                raise DefinitionError(f"{where}: the key {key!r} is no Unicode text, so it cannot be a key in JSON")
        if parameter.key in seen:
            raise DefinitionError(
                f"{where}: {seen[parameter.key]!r} already takes the key {parameter.key!r}; change one alias"
            )
        seen[parameter.key] = parameter.name


def _first_keys(parameter: Parameter) -> list[Any]:
    """The keys at the top of the message that this parameter may be taken from."""
    return [path[0] for path in _paths(parameter)]


def _own_key(parameter: Parameter) -> str | None:
    """The first one whose value is what the parameter is."""
    return next((path[0] for path in _paths(parameter) if len(path) == 1), None)


def _paths(parameter: Parameter) -> list[list[Any]]:
    """Where it may be taken from, each a key and what is looked up within that."""
    alias = core_alias(parameter)
    if isinstance(alias, str):
        return [[alias]]
    return alias if alias and isinstance(alias[0], list) else [alias]


def _struct(route: Route, fields: Fields | None, *, closed: bool = True, needed: bool, **own: Any) -> type:
    """What the frames of a route are decoded to; `own` are further names of the class."""
    names = {"route": route, "error": None, **own}
    if route.apart in _FOLLOWING:
        return route.framing.following(route.event, fields or [], names, closed=closed, needed=needed)
    return route.framing.struct(route.event, fields, names, closed=closed, needed=needed)


def _frame_message(route: Route, function: Callable[..., Any]) -> type:
    """What all binary frames are: a message without a `ref`, whose handler takes the frame itself."""
    signature = route.signature
    sources = {p.name: "memoryview(frame)" if p.annotation is memoryview else "frame" for p in signature.parameters}
    body = [f"return handler({signature.call_arguments(sources)})"]
    call = codegen.function("message, endpoint, frame", body, {"handler": function})
    return type("BinaryMessage", (), {"route": route, "ref": None, "error": None, "call": call})


def threaded(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """A handler that is not async, in one of anyio's worker threads."""

    async def in_thread(*args: Any, **kwargs: Any) -> Any:
        value = await run_in_threadpool(function, *args, **kwargs)
        return await value if hasattr(value, "__await__") else value

    return in_thread


class _Plan:
    """How one signature's Struct looks and how it is unpacked: the source of the generated calls."""

    def __init__(self, signature: Signature, function: Callable[..., Any], framing: Framing) -> None:
        self.signature = signature
        self.fields: Fields = []
        self._holder = "data" if framing.place else "message"  # of the fields, in the call
        self._codec = framing.codec
        self.names: dict[str, Any] = {
            "handler": function, "UNSET": UNSET, "Refused": Refused, "json_of": framing.codec.json_of,
        }  # fmt: skip
        self.takes_any = signature.extra == "ignore" or framing.takes_any
        self.looks_at_fields = True
        self._lines: list[str] = []  # what the fields stand in, or what makes a model of them
        self._raw: list[str] = []
        self._raw_fields: list[RawField] = []
        self._sources: dict[str, str] = {}
        if signature.message_model is not None:
            self._take_whole(signature.parameters[0], framing)
            return
        kinds = [self._native(native_kind(parameter.annotation)) for parameter in signature.parameters]
        adapters = [
            adapter_for(f"event {signature.event!r}, parameter {parameter.name!r}", parameter.annotation)
            if kind is None
            else None
            for parameter, kind in zip(signature.parameters, kinds, strict=True)
        ]
        if any(p.exact_only for p in signature.parameters) or any(
            a and _asks_for_info(a.core_schema) for a in adapters
        ):
            self.looks_at_fields = False
            self._raw.append("raise Refused")
            return
        for index, parameter in enumerate(signature.parameters):
            self._take(index, parameter, kinds[index], adapters[index])
        if framing.place and self.fields:
            self._open_data()

    def _open_data(self) -> None:
        """The fields have a part of their own."""
        if self.signature.needs_data:
            self._lines.append("data = message.data")
        else:
            self.names["empty"] = _empty
            self._lines.append("data = message.data or empty(message)")

    def _take_whole(self, parameter: Parameter, framing: Framing) -> None:
        """Made of the Struct's fields; or that only finds the event and its `ref`, and the model reads the frame."""
        model, made = self.signature.message_model, None
        flat = framing.unpacked
        if isinstance(flat, FlatFraming):
            made = self._decoded(built(model, self.signature.event, flat.type_place, flat.ref_place))
        self._sources[parameter.name] = "whole_message"
        if made is not None:
            self.fields, self._lines, self.takes_any = made.fields, made.lines, made.takes_any
            self.names.update(made.names)
            return
        self.looks_at_fields = False
        where = f"event {self.signature.event!r}, parameter {parameter.name!r}"
        self.names["read_model"] = frame_reader(adapter_for(where, model), model, framing)
        self.names["text_of"] = self._codec.text_of
        self._raw.append(f"whole_message = read_model({'text_of(frame)' if self._codec.is_binary else 'frame'})")

    def _native(self, kind: Any) -> Any | None:
        return None if kind is None else self._codec.native(kind)

    def _decoded(self, made: Built | None) -> Built | None:
        """Where the codec decodes all of its fields."""
        if made is None:
            return None
        fields = [(name, self._native(kind), field) for name, kind, field in made.fields]
        return None if any(kind is None for _, kind, _ in fields) else made._replace(fields=fields)

    def _take(self, index: int, parameter: Parameter, kind: Any, adapter: TypeAdapter[Any] | None) -> None:
        field = f"a_{index}"
        if adapter is None:
            self.fields.append((field, kind, _native_field(parameter)))
            self._sources[parameter.name] = f"{self._holder}.{field}"
            return
        self.names[f"validate_{index}"] = adapter.validator.validate_json
        value = f"validate_{index}(json_of({self._holder}.{field}))"
        if parameter.default is None:
            self.fields.append((field, Raw, msgspec.field(name=parameter.key)))
        else:
            self.names[f"default_{index}"] = parameter.default
            value = f"default_{index}() if {self._holder}.{field} is UNSET else {value}"
            self.fields.append((field, Raw | UnsetType, msgspec.field(name=parameter.key, default=UNSET)))
        self._raw.append(f"value_{index} = {value}")
        self._raw_fields.append(
            RawField(f"value_{index}", field, parameter.key, adapter.validator.validate_json, self._codec.json_of)
        )
        self._sources[parameter.name] = f"value_{index}"

    @property
    def leaves_to_judge(self) -> bool:
        """May the call raise `Refused` without a judgement?"""
        return bool(self._raw) or "empty" in self.names

    def call(self) -> Callable[..., Any]:
        body = [*self._lines, f"return handler({self._arguments(self._sources)})"]
        if self._raw:
            guarded = "; ".join(self._raw) if len(self._raw) == 1 else "\n        ".join(self._raw)
            self.names["refusal"] = functools.partial(_refusal, tuple(self._raw_fields))
            refusing = "raise refusal(message, exc, locals()) from None"
            body.insert(len(self._lines), f"try:\n        {guarded}\n    except Exception as exc:\n        {refusing}")
        return self._compile("message, endpoint, frame", body)

    def call_exact(self) -> Callable[..., Any]:
        sources = {p.name: f"values[{p.name!r}]" for p in self.signature.parameters}
        return self._compile("values, endpoint", [f"return handler({self._arguments(sources)})"])

    def _arguments(self, sources: Mapping[str, str]) -> str:
        if self.signature.parameters and not sources:
            return ""  # never reached: everything is refused before
        return self.signature.call_arguments(sources)

    def _compile(self, arguments: str, body: list[str]) -> Callable[..., Any]:
        return codegen.function(arguments, body, self.names)


def _empty(message: Any) -> Any:
    """The data part of a message that came without."""
    try:
        return message.Data()
    except Exception:  # of a default's factory, which pydantic has to call
        raise Refused from None


def _native_field(parameter: Parameter) -> Any:
    if parameter.default is None:
        return msgspec.field(name=parameter.key)
    if parameter.constant is not EMPTY:
        return msgspec.field(name=parameter.key, default=parameter.constant)
    return msgspec.field(name=parameter.key, default_factory=parameter.default)


_ON_THEIR_OWN = frozenset({"model", "dataclass", "typed-dict", "call", "arguments"})


def _asks_for_info(schema: Any) -> bool:
    """Has this core schema a validator that takes `info`, and so may look at the message's other parameters?"""
    if isinstance(schema, list | tuple):
        return any(map(_asks_for_info, schema))
    if not isinstance(schema, dict) or schema.get("type") in _ON_THEIR_OWN:
        return False
    function = schema.get("function")
    if isinstance(function, dict) and function.get("type") == "with-info":
        return True
    return any(_asks_for_info(part) for key, part in schema.items() if key not in ("serialization", "metadata"))
