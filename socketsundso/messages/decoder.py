"""
Signatures -> `Decoder`: bytes of a frame in, a message ready to be called out.

The fast path is one C call: every event is one tagged `msgspec.Struct`, all of them form one union, and each
Struct carries a generated `call` that unpacks it into the handler. Fields are natively decoded where msgspec
decodes exactly as pydantic would (`annotations.native`), else kept raw and given to their pydantic validator.

Whatever the fast path refuses goes to `Decoder.judge`, where pydantic decides on the whole frame: it may accept
(`"42"` for an int), and if it does not, its complete error list is the answer. So the fast path may be strict,
but it must never accept what pydantic would not, nor give another value.

Knows nothing of connections. What a peer sends raises only what is listed at `Decoder.judge`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Union

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType
from pydantic import BaseModel, Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, ValidationError, core_schema
from starlette.concurrency import run_in_threadpool

from socketsundso.errors import DefinitionError, EventError, InvalidUTF8, MalformedFrame
from socketsundso.messages import codegen
from socketsundso.messages.annotations import by_pydantic, native, pydantic_form
from socketsundso.messages.signature import EMPTY, Parameter, Signature, is_unicode

Frame = str | bytes
Ref = int | str
UNDECODABLE = (Exception,)
"""What the fast path may raise for a frame that it does not take: what msgspec raises, and whatever a Struct's
`__post_init__` or a default's factory does. The judge decides then."""

_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)  # what msgspec alone raises

MAX_REF_LENGTH = 64
_INT64 = range(-(2**63), 2**63)
_REF_TYPE = Annotated[int, Meta(ge=_INT64[0], le=_INT64[-1])] | Annotated[str, Meta(max_length=MAX_REF_LENGTH)] | None
_PADDING_TAG = "\x00"
_MAX_GIVEN = 128  # characters of an unknown event's name that are echoed
_MAX_PERMITTED = 4096  # characters of event names that an unknown-event answer lists


class Refused(Exception):
    """A raw field's validator refused its value (or raised): the judge decides on the whole frame."""


class MessageError(EventError):
    """A frame that was read but is no message for this endpoint. `ref` is the message's own, or None."""

    def __init__(self, code: str, errors: list[dict[str, Any]], ref: Ref | None = None) -> None:
        super().__init__(code, errors=errors)
        self.ref = ref


class MalformedMessage(MessageError):
    """JSON, but not an object with a string `type`."""

    def __init__(self, errors: list[dict[str, Any]], ref: Ref | None = None) -> None:
        super().__init__("malformed_message", errors, ref)


class UnknownEvent(MessageError):
    """The peer named an event this endpoint does not have; the answer lists what would have been understood."""

    def __init__(self, errors: list[dict[str, Any]], ref: Ref | None = None) -> None:
        super().__init__("unknown_event", errors, ref)


class Message(Protocol):
    """What `Decoder.decode` gives: one event's Struct."""

    route: ClassVar[Any]
    ref: Ref | None

    def call(self, endpoint: Any, frame: Frame) -> Any:
        """Call the handler. Raises `Refused` if a raw field is not valid."""


class Encodes(Protocol):
    """The part of an encoder that a route carries along."""

    def encode(self, value: Any) -> bytes: ...
    def encode_valid(self, value: Any) -> bytes: ...
    def validate(self, value: Any) -> Any: ...


class Route:
    """
    One event of one endpoint, compiled: its Struct, its two generated calls and its exact validator.

    Raises `DefinitionError` if msgspec or pydantic cannot build a parameter, or a key is reserved.
    """

    def __init__(
        self,
        signature: Signature,
        function: Callable[..., Any],
        encoder: Encodes,
        *,
        ref_key: str,
        in_thread: bool,
    ) -> None:
        self.event = signature.event
        self.signature = signature
        self.encoder = encoder
        self.encode = encoder.encode
        self.awaited = signature.is_async or in_thread
        self.ref_key = ref_key
        self._exact: Callable[[Frame], dict[str, Any]] | None = None
        if not signature.message_model:
            _refuse_reserved(signature, ref_key)
        target = _threaded(function) if in_thread and not signature.is_async else function
        plan = _Plan(signature, target)
        self.struct: type = msgspec.defstruct(
            f"Message_{_identifier(self.event)}",
            [*plan.fields, ("ref", _REF_TYPE, msgspec.field(name=ref_key, default=None))],
            namespace={"call": plan.call(), "route": self},
            tag_field="type",
            tag=self.event,
            forbid_unknown_fields=not plan.takes_any,
            kw_only=True,
            gc=False,
            eq=False,
        )
        self.call_exact = plan.call_exact()

    def exact(self, frame: Frame) -> dict[str, Any]:
        """All arguments as pydantic gives them for the whole frame. Raises pydantic's `ValidationError`."""
        if self._exact is None:
            self._exact = _exact_validator(self.signature, self.ref_key)
        return self._exact(frame)


class Judgement(msgspec.Struct, frozen=True):
    """What the judge found: the arguments, or the error that is the answer. Never both."""

    route: Route
    ref: Ref | None
    arguments: dict[str, Any] | None = None
    error: Exception | None = None


class Decoder:
    """All routes of an endpoint as one decoder. Built on its first use, since building a union costs a while."""

    def __init__(self, routes: Mapping[str, Route], *, ref_key: str = "ref", disclose_events: bool = True) -> None:
        self.routes = dict(routes)
        self.ref_key = ref_key
        self._disclose = disclose_events
        self.decode: Callable[[Frame], Message] = self._first_decode
        self._peek = _peek_decoder(ref_key)

    def _first_decode(self, frame: Frame) -> Message:
        # With a single Struct in the union msgspec would make the tag optional; without any it cannot be built.
        tag = _PADDING_TAG
        while tag in self.routes:
            tag += _PADDING_TAG
        padding: type = msgspec.defstruct(
            "Padding", [], namespace={"call": _refuse, "route": None, "ref": None}, tag_field="type", tag=tag
        )
        structs = tuple(route.struct for route in self.routes.values())
        self.decode = msgspec.json.Decoder(Union[(padding, *structs)], dec_hook=by_pydantic).decode
        message: Message = self.decode(frame)
        return message

    def judge(self, frame: Frame) -> Judgement:
        """
        What pydantic says of a frame that the fast path refused.

        Raises `MalformedFrame` or `InvalidUTF8` (the connection ends), `MalformedMessage` or `UnknownEvent`.
        """
        text = _text(frame)
        try:
            peek = self._peek(text)
            route = self.routes[peek.type]
        except (*_UNREADABLE, KeyError):
            _check_syntax(text)
            route, ref, ref_is_valid = self._envelope(text)
            return _judged(route, text, ref, ref_is_valid)
        judgement = _judged(route, text, peek.ref)
        # Pydantic would take NaN and Infinity, and may find an error before it finds that the frame is not JSON.
        if judgement.error is not None or "N" in text or "Infinity" in text:
            _check_syntax(text)
        return judgement

    def _envelope(self, text: str) -> tuple[Route, Ref | None, bool]:
        """The slow look at a frame whose `type` or `ref` is not as it should be."""
        try:
            envelope = msgspec.json.decode(text, type=dict[str, Raw])
        except _UNREADABLE:
            raise MalformedMessage([_detail("dict_type", [], "Input should be an object")]) from None
        ref, ref_is_valid = _ref(envelope.get(self.ref_key))
        return self._route(envelope, text, ref), ref, ref_is_valid

    def _route(self, envelope: Mapping[str, Raw], text: str, ref: Ref | None) -> Route:
        if "type" not in envelope:
            missing = {**_detail("missing", ["type"], "Field required"), "input": _shown(text)}
            raise MalformedMessage([missing], ref)
        given = _shown(envelope["type"])
        if isinstance(given, str):
            if given in self.routes:
                return self.routes[given]
            raise UnknownEvent([self._unknown(given)], ref)
        raise MalformedMessage([self._unknown(given)], ref)

    def _unknown(self, given: Any) -> dict[str, Any]:
        if isinstance(given, str) and len(given) > _MAX_GIVEN:
            given = given[:_MAX_GIVEN] + "…"
        elif isinstance(given, dict | list) and len(msgspec.json.encode(given)) > _MAX_GIVEN:
            given = type(given)()
        if not self._disclose:
            return {**_detail("literal_error", ["type"], "Input should be an event of this endpoint"), "input": given,
                    "ctx": {"given": given}}  # fmt: skip
        permitted = _fitting(self.routes)
        expected = _enumerate(permitted)
        return {
            **_detail("literal_error", ["type"], f"Input should be {expected}"),
            "input": given,
            "ctx": {"expected": expected, "given": given, "permitted": permitted},
        }


@functools.cache
def _peek_decoder(ref_key: str) -> Callable[[Frame], Any]:
    """Finds `type` and `ref` alone, in one call."""
    peek: type = msgspec.defstruct(
        "Peek", [("type", str), ("ref", _REF_TYPE, msgspec.field(name=ref_key, default=None))], gc=False
    )
    return msgspec.json.Decoder(peek).decode


def _judged(route: Route, text: str, ref: Ref | None, ref_is_valid: bool = True) -> Judgement:
    try:
        return Judgement(route, ref, arguments=route.exact(text))
    except ValidationError as exc:
        # Its traceback says nothing, and would keep the endpoint alive until the collector comes.
        return Judgement(route, ref if ref_is_valid else None, error=exc.with_traceback(None))
    except Exception as exc:  # the validators are the application's code: anything may come
        return Judgement(route, ref if ref_is_valid else None, error=exc)


def _check_syntax(text: str) -> None:
    try:
        msgspec.json.decode(text, type=Raw)
    except _UNREADABLE as exc:
        raise MalformedFrame(str(exc)) from None


def _fitting(names: Mapping[str, Any]) -> list[str]:
    """As many event names as an answer may list."""
    listed, size = [], 0
    for name in names:
        size += len(name)
        if size > _MAX_PERMITTED:
            break
        listed.append(name)
    return listed


def _enumerate(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def _detail(kind: str, loc: list[str | int], msg: str) -> dict[str, Any]:
    return {"type": kind, "loc": loc, "msg": msg}


def _shown(text: str | Raw) -> Any:
    """A value for showing it in an error; None for numbers that Python could not hold."""
    try:
        return msgspec.json.decode(text)
    except _UNREADABLE:
        return None


def _text(frame: Frame) -> str:
    if isinstance(frame, str):
        return frame
    try:
        return bytes(frame).decode()
    except UnicodeDecodeError as exc:
        raise InvalidUTF8(str(exc)) from None


def _ref(raw: Raw | None) -> tuple[Ref | None, bool]:
    if raw is None:
        return None, True
    try:
        return msgspec.json.decode(raw, type=_REF_TYPE), True
    except _UNREADABLE:
        return None, False


def _refuse(message: Any, endpoint: Any, frame: Frame) -> None:
    raise Refused


def _refuse_reserved(signature: Signature, ref_key: str) -> None:
    seen: dict[str, str] = {}
    for parameter in signature.parameters:
        where = f"event {signature.event!r}, parameter {parameter.name!r}"
        for key in _first_keys(parameter):
            if key in ("type", ref_key):
                raise DefinitionError(
                    f"{where}: the key {key!r} is reserved; give it another one: "
                    f'`{parameter.name}: Annotated[..., Field(alias="{parameter.name}_")]`'
                )
            if not is_unicode(key):
                raise DefinitionError(f"{where}: the key {key!r} is no Unicode text, so it cannot be a key in JSON")
        if parameter.key in seen:
            raise DefinitionError(
                f"{where}: {seen[parameter.key]!r} already takes the key {parameter.key!r}; change one alias"
            )
        seen[parameter.key] = parameter.name


def _first_keys(parameter: Parameter) -> list[str]:
    """The keys at the top of the message that this parameter may be taken from."""
    alias = _core_alias(parameter)
    if isinstance(alias, str):
        return [alias]
    paths = alias if alias and isinstance(alias[0], list) else [alias]
    return [str(path[0]) for path in paths]


def _identifier(event: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in event)


def _threaded(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def in_thread(*args: Any, **kwargs: Any) -> Any:
        value = await run_in_threadpool(function, *args, **kwargs)
        return await value if hasattr(value, "__await__") else value

    return in_thread


class _Plan:
    """How one signature's Struct looks and how it is unpacked: the source of the generated calls."""

    def __init__(self, signature: Signature, function: Callable[..., Any]) -> None:
        self.signature = signature
        self.fields: list[tuple[str, Any, Any]] = []
        self.names: dict[str, Any] = {"handler": function, "UNSET": UNSET, "Refused": Refused}
        self.takes_any = False
        self._raw: list[str] = []
        self._sources: dict[str, str] = {}
        if signature.message_model is not None:
            self._take_whole(signature.message_model)
            return
        kinds = [native(parameter.annotation) for parameter in signature.parameters]
        adapters = [
            _adapter(signature.event, parameter) if kind is None else None
            for parameter, kind in zip(signature.parameters, kinds, strict=True)
        ]
        if any(p.exact_only for p in signature.parameters) or any(
            a and _asks_for_info(a.core_schema) for a in adapters
        ):
            self.takes_any = True
            self._raw.append("raise Refused")
            return
        for index, parameter in enumerate(signature.parameters):
            self._take(index, parameter, kinds[index], adapters[index])

    def _take_whole(self, model: Any) -> None:
        # The Struct only finds the event and its `ref`; the model validates the frame.
        self.takes_any = True
        name = self.signature.parameters[0].name
        self.names["whole"] = TypeAdapter(model).validator.validate_json
        self._raw += ["if message.ref is not None: raise Refused", "whole_message = whole(frame)"]
        self._sources[name] = "whole_message"

    def _take(self, index: int, parameter: Parameter, kind: Any, adapter: TypeAdapter[Any] | None) -> None:
        field = f"a_{index}"
        if adapter is None:
            self.fields.append((field, kind, _native_field(parameter)))
            self._sources[parameter.name] = f"message.{field}"
            return
        self.names[f"validate_{index}"] = adapter.validator.validate_json
        value = f"validate_{index}(bytes(message.{field}))"
        if parameter.default is None:
            self.fields.append((field, Raw, msgspec.field(name=parameter.key)))
        else:
            self.names[f"default_{index}"] = parameter.default
            value = f"default_{index}() if message.{field} is UNSET else {value}"
            self.fields.append((field, Raw | UnsetType, msgspec.field(name=parameter.key, default=UNSET)))
        self._raw.append(f"value_{index} = {value}")
        self._sources[parameter.name] = f"value_{index}"

    def call(self) -> Callable[..., Any]:
        body = [f"return handler({self._arguments(self._sources)})"]
        if self._raw:
            guarded = "; ".join(self._raw) if len(self._raw) == 1 else "\n        ".join(self._raw)
            body.insert(0, f"try:\n        {guarded}\n    except Exception as exc:\n        raise Refused from exc")
        return self._compile("message, endpoint, frame", body)

    def call_exact(self) -> Callable[..., Any]:
        sources = {p.name: f"values[{p.name!r}]" for p in self.signature.parameters}
        return self._compile("values, endpoint", [f"return handler({self._arguments(sources)})"])

    def _arguments(self, sources: Mapping[str, str]) -> str:
        if self.signature.parameters and not sources:
            return ""  # never reached: everything is refused before
        positional, by_name = [], []
        for parameter in self.signature.parameters:
            if self._is_named(parameter):
                by_name.append(f"{parameter.name}={sources[parameter.name]}")
            else:
                positional.append(sources[parameter.name])
        position = self.signature.self_position
        if position is not None:
            if position < 0 or len(positional) < position:
                by_name.append("self=endpoint")
            else:
                positional.insert(position, "endpoint")
        return ", ".join(positional + by_name)

    def _is_named(self, parameter: Parameter) -> bool:
        """Is it given by its name? A wrapper may take fewer positional parameters than the function that it wraps."""
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            return False
        return self.signature.by_keyword or parameter.kind is inspect.Parameter.KEYWORD_ONLY

    def _compile(self, arguments: str, body: list[str]) -> Callable[..., Any]:
        return codegen.function(arguments, body, self.names)


def _native_field(parameter: Parameter) -> Any:
    if parameter.default is None:
        return msgspec.field(name=parameter.key)
    if parameter.constant is not EMPTY:
        return msgspec.field(name=parameter.key, default=parameter.constant)
    return msgspec.field(name=parameter.key, default_factory=parameter.default)


def _adapter(event: str, parameter: Parameter) -> TypeAdapter[Any]:
    where = f"event {event!r}, parameter {parameter.name!r}"
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(pydantic_form(parameter.annotation))
        adapter.rebuild(raise_errors=True)
    except Exception as exc:
        raise DefinitionError(
            f"{where}: pydantic cannot build a validator for {parameter.annotation!r}: {_first_line(exc)} "
            "Annotate it with what JSON can hold, or keep it on self"
        ) from exc
    return adapter


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


def _first_line(exc: Exception) -> str:
    """What an exception says, in one line; of one that ends in a colon the reason stands in the next."""
    first, _, rest = (str(exc).strip() or type(exc).__name__).partition("\n")
    reason = rest.strip().partition("\n")[0]
    return f"{first} {reason}." if first.endswith(":") and reason else first


def _exact_validator(signature: Signature, ref_key: str) -> Callable[[Frame], dict[str, Any]]:
    if signature.message_model is not None:
        return _whole_validator(signature, signature.message_model, ref_key)
    validate: Callable[[Frame], dict[str, Any]] = TypeAdapter(_whole_schema(signature, ref_key)).validator.validate_json
    return validate


def _whole_schema(signature: Signature, ref_key: str) -> type:
    """
    A type whose pydantic schema is the whole message: an object of just these keys.

    Written as a schema and not as a TypedDict, since the latter's `extra="forbid"` would reach into every plain
    dataclass and TypedDict below, and they would no longer be what they are on their own.
    """

    class WholeMessage:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
            fields = {
                parameter.name: core_schema.typed_dict_field(
                    _field_schema(parameter, handler.generate_schema(pydantic_form(parameter.annotation))),
                    required=parameter.default is None,
                    validation_alias=_core_alias(parameter),
                )
                for parameter in signature.parameters
            }
            # Names that no parameter can have; their aliases are the reserved keys.
            fields["type key"] = core_schema.typed_dict_field(core_schema.any_schema(), validation_alias="type")
            fields["ref key"] = core_schema.typed_dict_field(
                core_schema.no_info_plain_validator_function(_check_ref), required=False, validation_alias=ref_key
            )
            return core_schema.typed_dict_schema(fields, extra_behavior="forbid")

    return WholeMessage


def _field_schema(parameter: Parameter, schema: CoreSchema) -> CoreSchema:
    field = parameter.field
    if parameter.default is None:
        return schema
    return core_schema.with_default_schema(
        schema,
        default_factory=parameter.default,
        default_factory_takes_data=bool(field.default_factory and field.default_factory_takes_validated_data),
        validate_default=field.validate_default,
    )


def _core_alias(parameter: Parameter) -> Any:
    alias = parameter.field.validation_alias
    return parameter.key if alias is None or isinstance(alias, str) else alias.convert_to_aliases()


def _whole_validator(signature: Signature, model: type[BaseModel], ref_key: str) -> Callable[[Frame], dict[str, Any]]:
    (parameter,) = signature.parameters
    validate = TypeAdapter(model).validator.validate_json

    def whole(frame: Frame) -> dict[str, Any]:
        envelope = msgspec.json.decode(frame, type=dict[str, Raw])
        ref = envelope.pop(ref_key, None)
        if ref is not None and not _ref(ref)[1]:
            raise ValidationError.from_exception_data(
                "Message", [{"type": _BAD_REF, "loc": (ref_key,), "input": None}], input_type="json"
            )
        return {parameter.name: validate(frame if ref is None else msgspec.json.encode(envelope))}

    return whole


_BAD_REF = PydanticCustomError("ref_type", "Input should be an integer of 64 bits or a string of at most 64 characters")


def _check_ref(value: Any) -> Any:
    fits = value is None or (
        len(value) <= MAX_REF_LENGTH
        if isinstance(value, str)
        else isinstance(value, int) and not isinstance(value, bool) and value in _INT64
    )
    if not fits:
        raise _BAD_REF
    return value


def json_model_fields(signature: Signature) -> dict[str, Any]:
    """Fields of a pydantic model that documents the incoming message: `{name: (annotation, default)}`."""
    fields: dict[str, Any] = {"type": (Literal[signature.event], ...)}
    for parameter in signature.parameters:
        name = parameter.name.lstrip("_") or "field"
        while name in fields or name == "model_config" or hasattr(BaseModel, name):
            name += "_"
        default = ... if parameter.default is None else Field(default_factory=parameter.default)
        fields[name] = (Annotated[pydantic_form(parameter.annotation), _documented(parameter)], default)
    return fields


def _documented(parameter: Parameter) -> Any:
    field = parameter.field
    return Field(alias=parameter.key, title=field.title, description=field.description, examples=field.examples)
