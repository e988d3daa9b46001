"""
Decode, dispatch and encode in process, without a socket: what a message costs before and after the server.

`pytest benchmarks/ --only inprocess`; pytest-benchmark's own options (`--benchmark-save`, `--benchmark-compare`) work.
All times are those of 100 messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import pytest
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, Field, TypeAdapter

from socketsundso import RateLimit, WebSocketHandlingEndpoint, event

Benchmark = Callable[..., Any]


class Item(BaseModel):
    a: int
    b: str
    c: float = 1.0


class Reply(BaseModel):
    room: str
    msg: str
    sender: int | None = None


class Message(BaseModel):
    type: str
    room: str
    msg: str
    sender: int | None = None


class ItemMessage(BaseModel):
    type: str
    item: Item


class App(WebSocketHandlingEndpoint):
    @event(thread=False)
    def on_message(self, room: str, msg: str, sender: int | None = None) -> None: ...

    @event(thread=False)
    def on_limited(
        self, room: Annotated[str, Field(max_length=50)], msg: str, sender: Annotated[int, Field(gt=0)] = 1
    ) -> None: ...

    @event(thread=False)
    def on_item(self, item: Item) -> None: ...

    @event(thread=False)
    def on_reply(self) -> Reply: ...


def frame(kind: str, size: int = 80, sender: Any = 42) -> bytes:
    text = "hello world, this is a chat message" + "x" * (size - 80)
    return json.dumps({"type": kind, "room": "lobby", "msg": text, "sender": sender}).encode()


@pytest.fixture
def per_100(benchmark: Any, request: pytest.FixtureRequest, figures: dict[str, Any]) -> Benchmark:
    """Takes the time of 100 calls: that of a single one would be a good part the clock's own."""
    rows = figures.setdefault(f"in process: {benchmark.group}", {})

    def measured(function: Callable[..., Any], *arguments: Any) -> None:
        def hundred() -> None:
            for _ in range(100):
                function(*arguments)

        benchmark(hundred)
        if benchmark.stats is not None:  # None with --benchmark-disable
            name = request.node.name.removeprefix("test_")
            rows[name] = {"us_per_call": benchmark.stats.stats.median / 100 * 1e6}

    return measured


ITEM = b'{"type":"item","item":{"a":1,"b":"text","c":2.5}}'
endpoint = object.__new__(App)


def handler(*values: Any) -> None: ...


def fast(data: bytes, app: type[WebSocketHandlingEndpoint] = App) -> None:
    app._definition.decoder.decode(data).call(endpoint, data)


def slow(data: bytes) -> None:
    try:
        App._definition.decoder.decode(data)
    except Exception:
        message = App._definition.decoder.find(data)
    message.route.call_unread(message, endpoint, data)


def naive(data: bytes) -> None:
    message = Message(**json.loads(data))
    handler(message.room, message.msg, message.sender)


@pytest.mark.benchmark(group="decode and dispatch, 3 native parameters")
@pytest.mark.parametrize("size", [80, 1024, 102_400])
def test_native(per_100: Benchmark, size: int) -> None:
    per_100(fast, frame("message", size))


@pytest.mark.benchmark(group="decode and dispatch, 3 native parameters")
@pytest.mark.parametrize("size", [80, 1024, 102_400])
def test_native_naive(per_100: Benchmark, size: int) -> None:
    per_100(naive, frame("message", size))


@pytest.mark.benchmark(group="decode and dispatch, 3 native parameters")
def test_field_constrained(per_100: Benchmark) -> None:
    per_100(fast, frame("limited"))


@pytest.mark.benchmark(group="decode and dispatch, a pydantic model")
def test_model(per_100: Benchmark) -> None:
    per_100(fast, ITEM)


@pytest.mark.benchmark(group="decode and dispatch, a pydantic model")
def test_model_naive(per_100: Benchmark) -> None:
    per_100(lambda: handler(ItemMessage(**json.loads(ITEM)).item))


class Whole(BaseModel):
    type: Literal["message"]
    room: str
    msg: str
    sender: int | None = None


class WholeItem(BaseModel):
    type: Literal["item"]
    item: Item


ClientMessage = Annotated[Whole | WholeItem, Field(discriminator="type")]
adapter: TypeAdapter[Any] = TypeAdapter(ClientMessage)


class Wholes(WebSocketHandlingEndpoint):
    @event(thread=False)
    def handle(self, message: ClientMessage) -> None: ...


@pytest.mark.benchmark(group="decode and dispatch, a union of models")
@pytest.mark.parametrize("data", [frame("message"), ITEM], ids=["native fields", "a model within"])
def test_whole(per_100: Benchmark, data: bytes) -> None:
    per_100(fast, data, Wholes)


@pytest.mark.benchmark(group="decode and dispatch, a union of models")
@pytest.mark.parametrize("data", [frame("message"), ITEM], ids=["native fields", "a model within"])
def test_whole_tuned(per_100: Benchmark, data: bytes) -> None:
    per_100(lambda: handler(adapter.validate_json(data)))


class Limited(WebSocketHandlingEndpoint):
    @event(thread=False, guards=[RateLimit(10**8, per_s=1)])
    def on_message(self, room: str, msg: str, sender: int | None = None) -> None: ...


@pytest.mark.benchmark(group="a message that a rate limit lets pass")
def test_unlimited(per_100: Benchmark) -> None:
    per_100(fast, frame("message"))


@pytest.mark.benchmark(group="a message that a rate limit lets pass")
def test_rate_limit(per_100: Benchmark) -> None:
    per_100(fast, frame("message"), Limited)


@pytest.mark.benchmark(group="a message that a rate limit lets pass")
@pytest.mark.parametrize("strategy", ["FixedWindowRateLimiter", "SlidingWindowCounterRateLimiter"])
def test_limits(per_100: Benchmark, strategy: str) -> None:
    limits = pytest.importorskip("limits")
    hit = getattr(limits.strategies, strategy)(limits.storage.MemoryStorage()).hit
    limit, data = limits.RateLimitItemPerSecond(10**8), frame("message")

    def limited() -> None:
        message = App._definition.decoder.decode(data)
        assert hit(limit, "message", "connection")
        message.call(endpoint, data)

    per_100(limited)


@pytest.mark.benchmark(group="a frame that pydantic must coerce")
def test_slow_path(per_100: Benchmark) -> None:
    per_100(slow, frame("message", sender="42"))


@pytest.mark.benchmark(group="a frame that pydantic must coerce")
def test_slow_path_naive(per_100: Benchmark) -> None:
    per_100(naive, frame("message", sender="42"))


@pytest.mark.benchmark(group="number of events")
@pytest.mark.parametrize("events", [1, 10, 100, 1000])
def test_events(per_100: Benchmark, events: int) -> None:
    class Many(WebSocketHandlingEndpoint):
        pass

    for number in range(events):

        def function(room: str, msg: str, sender: int | None = None) -> None: ...

        Many.event("message" if number == 0 else f"event_{number}", thread=False)(function)
    per_100(fast, frame("message"), Many)


@pytest.mark.benchmark(group="a refused message, from frame to error frame")
def test_refused(per_100: Benchmark) -> None:
    from socketsundso.messages import Refused, error_frame

    data = frame("message", sender="x")

    def refuse() -> None:
        try:
            App._definition.decoder.decode(data)
        except Exception:
            message = App._definition.decoder.find(data)
        try:
            message.route.call_unread(message, endpoint, data)
        except Refused as exc:
            error_frame(exc.judgement.error, App._definition.error_policy)

    per_100(refuse)


@pytest.mark.benchmark(group="a refused message, from frame to error frame")
def test_refused_naive(per_100: Benchmark) -> None:
    from pydantic import ValidationError

    data = frame("message", sender="x")

    def refuse() -> None:
        try:
            Message(**json.loads(data))
        except ValidationError as exc:
            json.dumps(exc.errors())

    per_100(refuse)


REPLY = Reply(room="lobby", msg="hello", sender=42)


@pytest.mark.benchmark(group="encode a reply, 3-field response model")
def test_reply(per_100: Benchmark) -> None:
    per_100(App._definition.decoder.routes["reply"].encode, REPLY)


@pytest.mark.benchmark(group="encode a reply, 3-field response model")
def test_reply_from_dict(per_100: Benchmark) -> None:
    per_100(App._definition.decoder.routes["reply"].encode, REPLY.model_dump())


@pytest.mark.benchmark(group="encode a reply, 3-field response model")
def test_reply_naive(per_100: Benchmark) -> None:
    per_100(lambda: json.dumps(jsonable_encoder(REPLY)))


@pytest.mark.benchmark(group="encode a dict without a response model")
def test_dict(per_100: Benchmark) -> None:
    per_100(App._definition.decoder.routes["message"].encode, REPLY.model_dump())


@pytest.mark.benchmark(group="encode a dict without a response model")
def test_dict_naive(per_100: Benchmark) -> None:
    per_100(lambda: json.dumps(jsonable_encoder({"type": "message", **REPLY.model_dump()})))


class StructReply(msgspec.Struct):
    room: str
    msg: str
    sender: int | None = None


class Packed(WebSocketHandlingEndpoint):
    codecs = ["json", "msgpack"]

    @event(thread=False)
    def on_model(self, room: str, msg: str, sender: int | None = None) -> Reply:
        return self.reply

    @event(thread=False)
    def on_struct(self, room: str, msg: str, sender: int | None = None) -> StructReply:
        return self.reply

    @event(thread=False)
    def on_dict(self, room: str, msg: str, sender: int | None = None) -> dict[str, Any]:
        return self.reply

    reply: Any = None


REPLIES = {"model": Reply, "struct": StructReply, "dict": dict}


@pytest.mark.benchmark(group="decode, dispatch and reply, by codec")
@pytest.mark.parametrize("size", [80, 1024])
@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_codec(per_100: Benchmark, codec: str, reply: str, size: int) -> None:
    """The promise: MessagePack takes at most 0.9 of the time that JSON takes."""
    app, data = Packed._definition, json.loads(frame(reply, size)) | {"ref": 7}
    if codec == "msgpack":
        (app,) = Packed._packed.values()
    text: Any = json.dumps(data) if codec == "json" else msgspec.msgpack.encode(data)
    endpoint = object.__new__(Packed)
    endpoint.reply = REPLIES[reply](**{name: data[name] for name in ("room", "msg", "sender")})
    app.decoder.decode(text)  # the first one builds the decoder

    def answered() -> None:
        message = app.decoder.decode(text)
        message.route.encode_answer(message.call(endpoint, text), message.ref)

    per_100(answered)
