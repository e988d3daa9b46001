"""
Traces by `opentelemetry-api` (the extra `opentelemetry`): a span for each message, linked to its connection's.

    from socketsundso.telemetry import opentelemetry

    opentelemetry.instrument()

    {"type":"say","msg":"hi","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

Which messages are recorded is the SDK's sampler to say, where they go its exporter's. A message that brings a
`traceparent` (W3C Trace Context) continues that trace, any other begins one of its own: a connection may last for days,
and no trace should. Names and attributes are those of OpenTelemetry's conventions for messaging where they fit. Of what
a message said nothing is told but its size.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType
from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.exceptions import HTTPException

from socketsundso.endpoints import WebSocketHandlingEndpoint
from socketsundso.errors import EventError
from socketsundso.messages import CallMessage, Frame, Refused, Route, Unread, code_of, size_of, text_of
from socketsundso.observing import Observer
from socketsundso.telemetry.installing import Installing
from socketsundso.telemetry.streaming import watched

KEY = "traceparent"
SYSTEM = "socketsundso"
"""`messaging.system` of every span."""


def instrument(
    endpoint: type[WebSocketHandlingEndpoint] = WebSocketHandlingEndpoint,
    *,
    tracer_provider: TracerProvider | None = None,
) -> None:
    """
    Trace this class and its subclasses; all endpoints of the process unless one is given.

    Without a `tracer_provider` the global one counts, also one that is set later. From then on their messages may have
    a `traceparent`, unless a handler has a parameter of that name, which is the application's.
    """
    _installed.add(endpoint, functools.partial(_Tracing, tracer_provider))


def uninstrument() -> None:
    """Nothing is traced any more; for tests."""
    _installed.remove()


class _Tracing(Observer):
    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer = trace.get_tracer(SYSTEM, tracer_provider=provider)
        self._connections: dict[Any, Span] = {}

    # ---- connections

    def began(self, endpoint: Any) -> None:
        scope = endpoint.websocket.scope
        client = scope.get("client") or (None, None)
        attributes = {
            "network.protocol.name": "websocket",
            "url.scheme": scope.get("scheme"),
            "url.path": scope["path"],
            "client.address": client[0],
            "client.port": client[1],
            "messaging.system": SYSTEM,
            "messaging.client.id": endpoint.id,
        }
        known = {name: value for name, value in attributes.items() if value is not None}
        name = f"connection {type(endpoint).__name__}"
        context = _context_of(scope["headers"])
        self._connections[endpoint] = self._tracer.start_span(name, context, SpanKind.SERVER, known)

    def refused(self, endpoint: Any, reason: str) -> None:
        if (span := self._connections.get(endpoint)) is not None:
            span.set_attribute("error.type", reason)

    def opened(self, endpoint: Any) -> None:
        if (span := self._connections.get(endpoint)) is not None:
            span.add_event("accepted")

    def ended(self, endpoint: Any, code: int, by_peer: bool) -> None:
        if (span := self._connections.pop(endpoint, None)) is not None:
            span.set_attribute("socketsundso.close_code", code)
            if code == 1011 and not by_peer:
                _fail(span, "internal_error")
            span.end()

    # ---- messages

    def compiled(self, endpoint: type, route: Route) -> None:
        name, awaited = f"{endpoint.__name__}.{route.event}", route.awaited
        if _has_place_for_key(route):
            route.struct = _with_key(route)
            route.put_before(_without_key, awaited=awaited)
        kind = self._streamed if route.apart == "stream" else self._awaited if awaited else self._called
        route.put_before(functools.partial(kind, name), awaited=awaited, waits=True)

    def _awaited(self, name: str, inner: CallMessage) -> CallMessage:
        async def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            with self._begun(name, message, endpoint, frame) as span, _within(span):
                return await inner(message, endpoint, frame)

        return call

    def _called(self, name: str, inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            with self._begun(name, message, endpoint, frame) as span, _within(span):
                return inner(message, endpoint, frame)

        return call

    def _streamed(self, name: str, inner: CallMessage) -> CallMessage:
        def call(message: Any, endpoint: Any, frame: Frame) -> Any:
            with contextlib.ExitStack() as stack:
                span = stack.enter_context(self._begun(name, message, endpoint, frame))
                with _within(span):
                    items = inner(message, endpoint, frame)
                end = stack.pop_all().close  # not here, but with the last item
            return watched(items, lambda _: end(), functools.partial(_within, span))

        return call

    @contextlib.contextmanager
    def _begun(self, name: str, message: Any, endpoint: Any, frame: Frame) -> Iterator[Span]:
        """A span that ends with the block."""
        attributes: dict[str, Any] = {
            "messaging.system": SYSTEM,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": name,
            "messaging.client.id": endpoint.id,
            "messaging.message.body.size": size_of(frame),
        }
        if message.ref is not None:
            attributes["messaging.message.id"] = str(message.ref)
        connection = self._connections.get(endpoint)
        links = [] if connection is None else [Link(connection.get_span_context())]
        span = self._tracer.start_span(
            f"process {name}", _trace_of(_json_of(message, frame)), SpanKind.CONSUMER, attributes, links
        )
        try:
            yield span
        finally:
            span.end()


@contextlib.contextmanager
def _within(span: Span) -> Iterator[None]:
    """It is the current span; what is raised is noted on it."""
    token = attach(trace.set_span_in_context(span))
    try:
        yield
    except Exception as exc:
        _note(span, exc)
        raise
    except asyncio.CancelledError:
        span.set_attribute("error.type", "cancelled")
        raise
    finally:
        detach(token)


def _note(span: Span, exc: Exception) -> None:
    if isinstance(exc, StopIteration | StopAsyncIteration):  # of a stream: its end
        return
    if isinstance(exc, Refused):  # whose text would have what the peer sent
        span.set_attribute("error.type", "validation_error")
    elif isinstance(exc, EventError | HTTPException):  # an answer that is meant
        span.set_attribute("error.type", code_of(exc))
    else:
        span.record_exception(exc)
        _fail(span, type(exc).__qualname__)


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


# ---- the trace that a peer continues


_PROPAGATOR = TraceContextTextMapPropagator()
_peek = msgspec.json.Decoder(msgspec.defstruct("Peek", [(KEY, Any, None)])).decode


def _trace_of(frame: Frame) -> Context:
    """The trace that the message is a part of; what is no `traceparent` is as none."""
    if not _may_have_key(frame):
        return Context()
    with contextlib.suppress(Exception):  # msgspec refuses some of what pydantic takes
        given = getattr(_peek(frame), KEY)
        return _PROPAGATOR.extract({KEY: given} if isinstance(given, str) else {}, Context())
    return Context()


def _json_of(message: Any, frame: Frame) -> Frame:
    """The frame as JSON, if it is in another codec and may have the key."""
    codec = message.route.framing.codec
    if codec.is_binary and isinstance(frame, bytes) and KEY.encode() in frame:
        with contextlib.suppress(Exception):  # what is wrong with it is the judge's to say
            text: str = codec.text_of(frame)
            return text
    return frame


def _may_have_key(frame: Frame) -> bool:
    return _QUOTED in frame if isinstance(frame, str) else _QUOTED.encode() in frame


_QUOTED = f'"{KEY}"'


def _has_place_for_key(route: Route) -> bool:
    """Not in an array, nor in binary data; and a field of the application's that is called so stays one."""
    if route.takes_frame:
        return False
    struct: Any = route.struct
    config = struct.__struct_config__
    if config.array_like:
        return False
    if route.framing.place:  # the fields stand elsewhere
        return KEY not in route.framing.names
    return KEY not in (struct.__struct_encode_fields__ if config.forbid_unknown_fields else route.declared)


def _with_key(route: Route) -> type:
    """What frames of the route are decoded to, which may have the key, whatever its value is."""
    struct: Any = route.struct
    return msgspec.defstruct(
        struct.__name__,
        [(KEY, Raw | UnsetType, UNSET)],
        bases=(struct,),
        tag_field=struct.__struct_config__.tag_field,
        tag=route.event,
        forbid_unknown_fields=struct.__struct_config__.forbid_unknown_fields,
        kw_only=True,
        gc=False,
        eq=False,
    )


def _without_key(inner: CallMessage) -> CallMessage:
    """pydantic, which may have to read the message as a whole, is not to find the key."""

    def call(message: Any, endpoint: Any, frame: Frame) -> Any:
        frame = _json_of(message, frame)
        if _may_have_key(frame):
            frame = _stripped(frame)
            if isinstance(message, Unread):
                text = text_of(_stripped(message.text))  # whose fields may have got their names
                message = Unread(message.route, message.ref, text)
        return inner(message, endpoint, frame)

    return call


def _stripped(frame: Frame) -> Frame:
    fields = msgspec.json.decode(frame, type=dict[str, Raw])  # which has been read before
    return frame if fields.pop(KEY, None) is None else msgspec.json.encode(fields).decode()


def _context_of(headers: Iterable[tuple[bytes, bytes]]) -> Context | None:
    """What the handshake is a part of: the span of a middleware that is around, else what its headers say."""
    if trace.get_current_span().get_span_context().is_valid:
        return None
    return propagate.extract({name.decode("latin-1"): value.decode("latin-1") for name, value in headers})


_installed: Installing[_Tracing] = Installing()
