"""
One event of one endpoint, compiled: its Struct, the generated calls that unpack it, and its exact validator.

Fields are natively decoded where msgspec decodes exactly as pydantic would (`annotations.native`), else kept raw and
given to their pydantic validator. So the fast path may be strict, but it must never accept what pydantic would not,
nor give another value.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Raw, UnsetType
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from socketsundso.errors import DefinitionError
from socketsundso.messages import codegen
from socketsundso.messages.annotations import UnsupportedAnnotation, native, pydantic_form
from socketsundso.messages.conduct import Conduct, binding
from socketsundso.messages.disclosure import declared_names
from socketsundso.messages.judge import REF_TYPE, Frame, Ref, core_alias, exact_validator, whole_adapter
from socketsundso.messages.raw_fields import RawField, complete_error
from socketsundso.messages.signature import EMPTY, Parameter, Signature, is_unicode, read
from socketsundso.messages.structs import runs_user_code


class Judgement(msgspec.Struct, frozen=True):
    """What is said of a frame that was refused at first: its arguments, or the error that is the answer; never both."""

    route: Route
    ref: Ref | None
    arguments: dict[str, Any] | None = None
    error: Exception | None = None

    def call(self, endpoint: Any, frame: Frame) -> Any:
        """Call the handler, as the message's own `call` does."""
        return self.route.call_exact(self.arguments, endpoint)


class Refused(Exception):
    """
    A raw field's validator refused its value, or raised.

    `judgement` has the complete error list; without one the judge has to look at the whole frame.
    """

    def __init__(self, judgement: Judgement | None = None) -> None:
        super().__init__()
        self.judgement = judgement


def _refusal(fields: tuple[RawField, ...], message: Any, exc: Exception, done: dict[str, Any]) -> Refused:
    del done["exc"]  # `locals()` of the call, which stay with its frame: a cycle with the exception's traceback
    if isinstance(exc, Refused):
        return exc
    try:
        error = complete_error(fields, message, exc, done)
    except Exception as bug:  # no local name keeps it: it has the frames below, and they have this one
        return Refused(Judgement(message.route, message.ref, error=bug))
    return Refused(None if error is None else Judgement(message.route, message.ref, error=error))


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
        conduct: Conduct | None = None,
    ) -> None:
        self.event = signature.event
        self.signature = signature
        self.encoder = encoder
        self.encode = encoder.encode
        self.awaited = signature.is_async or in_thread
        self.conduct = conduct
        self.apart = conduct.apart if conduct is not None else None
        self.timeout_s = conduct.timeout_s if conduct is not None else None
        self.ref_key = ref_key
        self._exact: Callable[[Frame], dict[str, Any]] | None = None
        if not signature.message_model:
            _refuse_reserved(signature, ref_key)
        target = _threaded(function) if in_thread and not signature.is_async else function
        if conduct is not None and conduct.key is not None:
            target = binding(function, target, conduct.key)
        plan = _Plan(signature, target)
        self.struct: type = msgspec.defstruct(
            f"Message_{_identifier(self.event)}",
            [*plan.fields, ("ref", REF_TYPE, msgspec.field(name=ref_key, default=None))],
            namespace={"call": plan.call(), "route": self, "error": None},
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
            self._exact = exact_validator(self.signature, self.ref_key)
        return self._exact(frame)

    @functools.cached_property
    def declared(self) -> frozenset[str]:
        """The names that may stand in the `loc` of an error: what the application declared, and no key of a peer's."""
        return declared_names(whole_adapter(self.signature, self.ref_key).core_schema) | {"type", self.ref_key}


def cancel_route(ref_key: str) -> Route:
    """That of `{"type":"cancel","ref":7}`, which is no handler's."""

    async def cancel() -> None: ...

    return Route(read("cancel", cancel), cancel, _NoReply(), ref_key=ref_key, in_thread=False, conduct=_CANCEL)


_CANCEL = Conduct("cancel")


class _NoReply:
    def encode(self, value: Any) -> bytes:
        raise NotImplementedError

    encode_valid = validate = encode


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
    alias = core_alias(parameter)
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
        self._raw_fields: list[RawField] = []
        self._sources: dict[str, str] = {}
        if signature.message_model is not None:
            self._take_whole(signature.message_model)
            return
        kinds = [_native_kind(parameter.annotation) for parameter in signature.parameters]
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
        self._raw_fields.append(RawField(f"value_{index}", field, parameter.key, adapter.validator.validate_json))
        self._sources[parameter.name] = f"value_{index}"

    def call(self) -> Callable[..., Any]:
        body = [f"return handler({self._arguments(self._sources)})"]
        if self._raw:
            guarded = "; ".join(self._raw) if len(self._raw) == 1 else "\n        ".join(self._raw)
            self.names["refusal"] = functools.partial(_refusal, tuple(self._raw_fields))
            refusing = "raise refusal(message, exc, locals()) from None"
            body.insert(0, f"try:\n        {guarded}\n    except Exception as exc:\n        {refusing}")
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


def _native_kind(annotation: Any) -> Any | None:
    """What msgspec decodes while it decodes the frame: not what calls the application's code, which is called once."""
    kind = native(annotation)
    return None if kind is None or runs_user_code(kind) else kind


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
    except UnsupportedAnnotation as exc:
        raise DefinitionError(f"{where}: {exc}") from exc
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
