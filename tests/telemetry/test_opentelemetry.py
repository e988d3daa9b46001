"""The spans of an endpoint that is traced, as the SDK's exporter in memory has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from prometheus_client import REGISTRY
from pydantic import ConfigDict
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from socketsundso import ArrayEnvelope, Depends, Endpoint, Envelope, EventError, JsonRpc, binary, event
from socketsundso.models import EventMessage
from socketsundso.telemetry import opentelemetry, prometheus
from socketsundso.testing import HandshakeRefused, connect

KEY = "traceparent"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Strict(EventMessage):
    model_config = ConfigDict(extra="forbid")

    type: Literal["whole"]
    msg: str


def current() -> dict[str, str]:
    """What code within a handler would go on from."""
    return {"span": format_span_id(trace.get_current_span().get_span_context().span_id)}


async def unmet() -> int:
    raise EventError("sold_out")


class Endless(AsyncIterator[dict[str, str]]):
    """An iterator that is no generator: nothing can be thrown into it."""

    async def __anext__(self) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"type": "endless"}


class EndlessPlain(Iterator[dict[str, str]]):
    def __next__(self) -> dict[str, str]:
        return {"type": "endless_plain"}


class Chat(Endpoint):
    left_within: ClassVar[list[dict[str, str]]] = []

    async def on_connect(self) -> None:
        self.met: list[int] = []
        self.both = asyncio.Event()
        await super().on_connect()

    async def on_disconnect(self, close_code: int) -> None:
        self.left_within.append(current())

    async def authenticate(self) -> None:
        if self.websocket.url.query:
            raise HTTPException(401)

    @event
    async def on_say(self, msg: str, times: int = 1) -> dict[str, str]:
        await asyncio.sleep(0)
        return current()

    @event(thread=False)
    def on_plain(self) -> dict[str, str]:
        return current()

    @event
    def on_threaded(self) -> dict[str, str]:
        return current()

    @event
    async def on_whole(self, message: Strict) -> dict[str, str]:
        return current()

    @event(serial_by="room")
    async def on_write(self, room: str, number: int = 0) -> dict[str, str]:
        return current()

    @event
    async def on_own(self, traceparent: str) -> dict[str, str]:
        return {"mine": traceparent}

    @event
    async def on_items(self, count: int) -> AsyncIterator[dict[str, str]]:
        for _ in range(count):
            yield current()

    @event
    def on_plain_items(self, count: int) -> Iterator[dict[str, str]]:
        for _ in range(count):
            yield current()

    @event
    async def on_needy_items(
        self, count: int, number: Annotated[int, Depends(lambda: 7)]
    ) -> AsyncIterator[dict[str, str]]:
        for _ in range(count):
            yield current()

    @event
    async def on_unmet_items(self, number: Annotated[int, Depends(unmet)]) -> AsyncIterator[dict[str, str]]:
        yield current()

    @event
    def on_endless(self, count: int) -> Endless:
        return Endless()

    @event
    def on_endless_plain(self, count: int) -> EndlessPlain:
        return EndlessPlain()

    @event(timeout_s=30)
    async def on_wait(self) -> None:
        await asyncio.Event().wait()

    @event
    async def on_broken_items(self) -> AsyncIterator[dict[str, str]]:
        yield {}
        raise ZeroDivisionError

    @event
    async def on_fail(self) -> None:
        raise ZeroDivisionError

    @event(concurrent=True)
    async def on_meet(self, number: int) -> dict[str, Any]:
        """Answered when two of them are under way, by each with what is current then."""
        before = current()
        self.met.append(number)
        if len(self.met) == 2:
            self.both.set()
        await self.both.wait()
        return {"number": number, "stays": current() == before, **current()}

    @event
    async def on_chatter(self) -> None:
        for number in range(3):
            await self.send({"type": "chat", "number": number})

    @event
    async def on_leave(self, code: int) -> None:
        await self.close(code)

    @event
    async def on_sold_out(self) -> None:
        raise EventError("sold_out")


class Traced:
    """The spans that have ended, oldest first."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler) if sampler is not None else TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def message(self) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.kind is SpanKind.CONSUMER]
        return found

    def connection(self) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.kind is SpanKind.SERVER]
        return found


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    opentelemetry.instrument(Chat, tracer_provider=traced.provider)
    yield traced
    opentelemetry.uninstrument()


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def talk(*messages: dict[str, Any], frames: int = 1) -> list[dict[str, Any]]:
    """Send each message and await its frames, in one connection."""
    came: list[dict[str, Any]] = []

    async def scenario() -> None:
        async with connect(Chat) as ws:
            for message in messages:
                await ws.send_frame(json.dumps(message))
                came.extend([await ws.receive() for _ in range(frames)])

    run(scenario())
    return came


MESSAGES = [
    {"type": "say", "msg": "hi"},
    {"type": "say", "msg": "hi", "times": "2"},
    {"type": "plain"},
    {"type": "threaded"},
    {"type": "whole", "msg": "hi"},
    {"type": "write", "room": "r"},
    {"type": "write", "room": "r", "number": "7"},
]


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_a_message_continues_the_trace_that_it_brings(traced: Traced, message: dict[str, Any]) -> None:
    """However it is read: `traceparent` is no unknown field, and code in the handler goes on from its span."""
    (reply,) = talk({**message, "traceparent": TRACEPARENT})
    span = traced.message()
    assert span.context is not None
    assert span.parent is not None
    assert (format_trace_id(span.context.trace_id), format_span_id(span.parent.span_id)) == (TRACE, PARENT)
    assert reply == {"type": message["type"], "span": format_span_id(span.context.span_id)}


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_a_message_without_one_begins_a_trace_of_its_own(traced: Traced, message: dict[str, Any]) -> None:
    """It is linked to the span of its connection, which may last for days, and is no child of it."""
    talk(message)
    span, connection = traced.message(), traced.connection()
    assert span.parent is None
    assert [link.context for link in span.links] == [connection.context]


@pytest.mark.parametrize(
    "frame", ['{"type":"say","msg":"a","times":NaN,"traceparent":1}', '{"type":"say",,"traceparent":1}']
)
def test_what_is_no_json_is_refused_as_ever(traced: Traced, frame: str) -> None:
    """The key within it changes nothing: 1003."""

    async def scenario() -> None:
        async with connect(Chat) as ws:
            await ws.send_frame(frame)
            await ws.expect_close(1003)

    run(scenario())


def test_a_number_that_none_can_hold(traced: Traced) -> None:
    """As the value of the key it is as none, whoever else would refuse it."""

    async def scenario() -> None:
        async with connect(Chat) as ws:
            await ws.send_frame('{"type":"say","msg":"a","times":"1","traceparent":1e999}')
            await ws.expect("say")

    run(scenario())
    assert traced.message().parent is None


def test_a_binary_frame(traced: Traced) -> None:
    """It brings its trace as a text does."""

    async def scenario() -> None:
        async with connect(Chat) as ws:
            await ws.send_frame(json.dumps({"type": "say", "msg": "a", "times": "1", KEY: TRACEPARENT}).encode())
            await ws.expect("say")

    run(scenario())
    assert traced.message().parent is not None


def test_the_key_within_a_text_is_no_key(traced: Traced) -> None:
    """Only at the top does it say where a message belongs."""
    (reply,) = talk({"type": "say", "msg": f'"{KEY}"', "times": "1"})
    assert reply["type"] == "say"
    assert traced.message().parent is None


@pytest.mark.parametrize("given", [7, None, {}, "", "00-x-y-01", "0" * 600], ids=str)
def test_what_is_no_traceparent_is_as_none(traced: Traced, given: Any) -> None:
    """A peer may send anything under that key."""
    (reply,) = talk({"type": "say", "msg": "hi", "traceparent": given})
    assert reply["type"] == "say"
    assert traced.message().parent is None


def test_names_and_attributes(traced: Traced) -> None:
    """Those of the conventions for messaging; of what was said, only the size."""
    talk({"type": "say", "msg": "hü", "ref": 7})
    span = traced.message()
    assert span.name == "process Chat.say"
    attributes = dict(span.attributes or {})
    assert attributes.pop("messaging.client.id") == (traced.connection().attributes or {})["messaging.client.id"]
    assert attributes == {
        "messaging.system": "socketsundso",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "Chat.say",
        "messaging.message.id": "7",
        "messaging.message.body.size": len(json.dumps({"type": "say", "msg": "hü", "ref": 7})),
    }


@pytest.mark.parametrize(
    ("message", "kind", "status", "recorded"),
    [
        ({"type": "fail"}, "ZeroDivisionError", StatusCode.ERROR, ["exception"]),
        ({"type": "sold_out"}, "sold_out", StatusCode.UNSET, []),
        ({"type": "say"}, "validation_error", StatusCode.UNSET, []),
        ({"type": "say", "msg": "a", "times": "x"}, "validation_error", StatusCode.UNSET, []),
    ],
    ids=str,
)
def test_errors(traced: Traced, message: dict[str, Any], kind: str, status: StatusCode, recorded: list[str]) -> None:
    """A bug is an error with its exception; an answer that is meant, or a message that is not valid, has its code."""
    talk(message)
    span = traced.message()
    assert (span.attributes or {})["error.type"] == kind
    assert span.status.status_code is status
    assert [event.name for event in span.events] == recorded


def test_a_handler_that_is_cancelled(traced: Traced) -> None:
    """By its client, or since that has gone: no error, and told."""

    async def scenario() -> None:
        async with connect(Chat) as ws:
            await ws.send("wait", ref=1)
            await ws.send("cancel", ref=1)
            await ws.expect("error")

    run(scenario())
    span = traced.message()
    assert ((span.attributes or {})["error.type"], span.status.status_code) == ("cancelled", StatusCode.UNSET)


@pytest.mark.parametrize("kind", ["items", "plain_items", "endless", "endless_plain"])
def test_a_stream_that_is_cancelled(traced: Traced, kind: str) -> None:
    """Its span ends with it, whatever kind of generator it is."""

    async def scenario() -> None:
        async with connect(Chat) as ws:
            await ws.send(kind, count=1_000_000, ref=1)
            await ws.expect(kind)
            await ws.send("cancel", ref=1)
            await ws.expect("complete")

    run(scenario())
    assert traced.message().end_time is not None


@pytest.mark.parametrize("kind", ["items", "plain_items", "needy_items"])
def test_a_stream_is_one_span(traced: Traced, kind: str) -> None:
    """It ends with the last item, and all of them are made within it."""
    came = talk({"type": kind, "count": 2, "ref": 1, "traceparent": TRACEPARENT}, frames=3)
    span = traced.message()
    assert span.context is not None
    assert [item.get("span") for item in came] == [*[format_span_id(span.context.span_id)] * 2, None]
    assert format_trace_id(span.context.trace_id) == TRACE


def test_a_message_is_one_span_whatever_comes_and_goes(traced: Traced) -> None:
    """There is none for a frame, an item or a push; and none has a name that a peer invented."""
    talk({"type": "chatter"}, {"type": "items", "count": 2, "ref": 1}, frames=3)
    talk({"type": "invented-by-a-peer"}, {"no": "type"})
    names = sorted(span.name for span in traced.spans)
    assert names == ["connection Chat", "connection Chat", "process Chat.chatter", "process Chat.items"]


def test_nothing_of_a_message_stays_for_the_next(traced: Traced) -> None:
    """Its trace is not continued by what comes after it on the connection, nor does the connection's end know it."""
    Chat.left_within.clear()
    talk(
        {"type": "say", "msg": "a", KEY: TRACEPARENT}, {"type": "say", "msg": "b"}, {"type": "fail"}, {"type": "plain"}
    )
    traces = [format_trace_id(span.context.trace_id) for span in traced.spans if span.kind is SpanKind.CONSUMER]
    assert traces[0] == TRACE
    assert len(set(traces)) == 4
    assert Chat.left_within == [{"span": format_span_id(0)}]


def test_messages_at_the_same_time_have_spans_of_their_own(traced: Traced) -> None:
    """What is current in a handler stays so, whatever other handlers of the connection do meanwhile."""
    came: list[dict[str, Any]] = []

    async def scenario() -> None:
        async with connect(Chat) as ws:
            for number in (1, 2):
                await ws.send("meet", number=number, ref=number)
            came.extend([await ws.receive() for _ in range(2)])

    run(scenario())
    spans = {format_span_id(span.context.span_id) for span in traced.spans if span.kind is SpanKind.CONSUMER}
    assert [each["stays"] for each in came] == [True, True]
    assert {each["span"] for each in came} == spans
    assert len(spans) == 2


def test_a_stream_whose_dependency_fails(traced: Traced) -> None:
    """Nothing is streamed, and its span ends."""
    talk({"type": "unmet_items", "ref": 1})
    assert (traced.message().attributes or {})["error.type"] == "sold_out"


def test_a_stream_that_fails(traced: Traced) -> None:
    """Its span has the exception of the item that was not made."""
    talk({"type": "broken_items", "ref": 1}, frames=2)
    assert (traced.message().attributes or {})["error.type"] == "ZeroDivisionError"


def test_metrics_beside(traced: Traced) -> None:
    """Both observe the same endpoint, whichever came first."""
    prometheus.instrument(Chat)
    try:
        (reply,) = talk({"type": "say", "msg": "hi", KEY: TRACEPARENT})
        assert reply["type"] == "say"
        labels = {"endpoint": "Chat", "event": "say"}
        assert REGISTRY.get_sample_value("socketsundso_received_messages_total", labels) == 1
    finally:
        prometheus.uninstrument()
    assert traced.message().parent is not None


def test_a_parameter_of_that_name_stays(traced: Traced) -> None:
    """The application's own `traceparent` reaches its handler, and is one all the same."""
    (reply,) = talk({"type": "own", "traceparent": TRACEPARENT})
    assert reply["mine"] == TRACEPARENT
    assert traced.message().parent is not None


@pytest.mark.parametrize(
    ("envelope", "frame", "continues"),
    [
        (Envelope(type="action"), {"action": "say", "msg": "hi", KEY: TRACEPARENT}, True),
        (Envelope(type="event", data="payload"), {"event": "say", "payload": {"msg": "hi"}, KEY: TRACEPARENT}, True),
        (Envelope(type="event", data="payload"), {"event": "say", "payload": {"msg": 7}, KEY: TRACEPARENT}, True),
        (ArrayEnvelope("type", "ref", "data"), ["say", 1, {"msg": "hi"}], False),
    ],
    ids=str,
)
def test_envelopes(envelope: Any, frame: Any, continues: bool) -> None:
    """The key stands beside that of the event; an array has no place for it."""
    traced, chosen = Traced(), envelope

    class Enveloped(Endpoint):
        envelope = chosen

        @event
        async def on_say(self, msg: str) -> dict[str, str]:
            return {"msg": msg}

    opentelemetry.instrument(Enveloped, tracer_provider=traced.provider)
    try:
        with TestClient(Enveloped).websocket_connect("/") as ws:
            ws.send_text(json.dumps(frame))
            assert KEY not in ws.receive_text()
    finally:
        opentelemetry.uninstrument()
    assert (traced.message().parent is not None) is continues


@pytest.mark.parametrize("is_batch", [False, True], ids=["request", "batch"])
@pytest.mark.parametrize("params", [["hi"], {"msg": "hi"}], ids=["positions", "names"])
def test_json_rpc(params: Any, is_batch: bool) -> None:
    """It stands beside the method, of each request of a batch, too, whether its params have names or not."""
    traced = Traced()

    class Rpc(Endpoint):
        envelope = JsonRpc()

        @event
        async def say(self, msg: str) -> str:
            return msg

    frame = {"jsonrpc": "2.0", "id": 1, "method": "say", "params": params, KEY: TRACEPARENT}
    answer = {"jsonrpc": "2.0", "id": 1, "result": "hi"}
    opentelemetry.instrument(Rpc, tracer_provider=traced.provider)
    try:
        with TestClient(Rpc).websocket_connect("/") as ws:
            ws.send_json([frame] if is_batch else frame)
            assert ws.receive_json() == ([answer] if is_batch else answer)
    finally:
        opentelemetry.uninstrument()
    assert traced.message().parent is not None


@pytest.mark.parametrize("times", [1, "1", 1.0], ids=repr)
def test_messagepack(times: Any) -> None:
    """The key is found there, too, and pydantic does not find it."""
    traced = Traced()

    class Packed(Endpoint):
        codecs = ["json", "msgpack"]

        @event
        async def on_say(self, msg: str, times: int) -> dict[str, int]:
            return {"times": times}

    opentelemetry.instrument(Packed, tracer_provider=traced.provider)
    try:
        with TestClient(Packed).websocket_connect("/", subprotocols=["socketsundso.msgpack"]) as ws:
            ws.send_bytes(msgspec.msgpack.encode({"type": "say", "msg": "hi", "times": times, KEY: TRACEPARENT}))
            assert msgspec.msgpack.decode(ws.receive_bytes()) == {"type": "say", "times": 1}
    finally:
        opentelemetry.uninstrument()
    assert traced.message().parent is not None


def test_binary_data(caplog: pytest.LogCaptureFixture) -> None:
    """Frames that a `@binary` method takes are messages, which bring no trace."""
    traced = Traced()

    class Echo(Endpoint):
        @binary
        async def on_audio(self, frame: bytes) -> bytes:
            return frame

    opentelemetry.instrument(Echo, tracer_provider=traced.provider)
    try:
        with TestClient(Echo).websocket_connect("/") as ws:
            ws.send_bytes(b"pcm")
            assert ws.receive_bytes() == b"pcm"
    finally:
        opentelemetry.uninstrument()
    assert (traced.message().name, traced.message().parent) == ("process Echo.audio", None)
    assert not caplog.records


def test_the_connection(traced: Traced) -> None:
    """A span from the handshake to the end, which continues the trace of the handshake's headers."""

    async def scenario() -> None:
        async with connect(Chat, path="/ws", headers={"traceparent": TRACEPARENT}) as ws:
            await ws.close(4000)

    run(scenario())
    span = traced.connection()
    assert (span.name, span.parent and format_span_id(span.parent.span_id)) == ("connection Chat", PARENT)
    attributes = dict(span.attributes or {})
    assert (attributes["url.path"], attributes["socketsundso.close_code"]) == ("/ws", 4000)
    assert [event.name for event in span.events] == ["accepted"]


def test_a_handshake_that_is_refused(traced: Traced) -> None:
    """Its span says why, and nothing of the query."""

    async def scenario() -> None:
        with pytest.raises(HandshakeRefused):
            async with connect(Chat, query="token=secret"):
                pass

    run(scenario())
    attributes = dict(traced.connection().attributes or {})
    assert attributes["error.type"] == "unauthorized"
    assert "secret" not in str(attributes)


def test_what_the_sampler_leaves_out() -> None:
    """Nothing is exported, and messages are answered."""
    traced = Traced(ALWAYS_OFF)
    opentelemetry.instrument(Chat, tracer_provider=traced.provider)
    try:
        talk({"type": "say", "msg": "hi", "traceparent": TRACEPARENT.removesuffix("1") + "0"})
    finally:
        opentelemetry.uninstrument()
    assert traced.spans == []


def test_a_connection_that_fails(traced: Traced) -> None:
    """One that this side closes with 1011 is an error; what was open when tracing began is left alone."""

    async def scenario() -> None:
        opentelemetry.uninstrument()
        async with connect(Chat) as older:
            opentelemetry.instrument(Chat, tracer_provider=traced.provider)
            async with connect(Chat) as ws:
                await ws.send("leave", code=1011)
                await ws.expect_close(1011)
            await older.ask("say", msg="hi")

    run(scenario())
    assert traced.connection().status.status_code is StatusCode.ERROR
    assert [link for span in traced.spans if span.name == "process Chat.say" for link in span.links] == []


def test_a_middleware_around_is_the_parent(traced: Traced) -> None:
    """Where the handshake has a span already, the connection's is its child."""

    async def scenario() -> None:
        with traced.provider.get_tracer("asgi").start_as_current_span("GET /") as around:
            async with connect(Chat, headers={KEY: TRACEPARENT}):
                pass
            assert traced.connection().parent == around.get_span_context()

    run(scenario())


def test_off_is_as_before() -> None:
    """Without it a `traceparent` is an unknown field, as any other."""
    (reply,) = talk({"type": "say", "msg": "hi", "traceparent": TRACEPARENT})
    assert reply["errors"][0]["loc"] == ["traceparent"]
