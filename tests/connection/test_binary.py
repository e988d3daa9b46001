"""Binary frames of one connection: who gets them, what is answered, what is refused when the class is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Generic, TypeVar

import pytest
from msgspec import Struct
from pydantic import BaseModel
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import socketsundso
from socketsundso import (
    ArrayEnvelope,
    Call,
    DefinitionError,
    Depends,
    Endpoint,
    Envelope,
    EventError,
    Handle,
    RateLimit,
    binary,
    event,
)
from socketsundso.testing import connect


class Seen(BaseModel):
    size: int


class Echo(Endpoint):
    @binary
    async def on_audio(self, frame: bytes) -> bytes | None:
        return frame or None

    @event
    async def on_say(self, msg: str) -> dict[str, str]:
        return {"msg": msg}


class Conversing(Echo):
    """The same with the loop of those that converse."""

    @event(timeout_s=5)
    async def on_slow(self) -> None: ...


both_loops = pytest.mark.parametrize("endpoint", [Echo, Conversing])


def answer(endpoint: type[Endpoint], frame: bytes) -> dict[str, Any]:
    with connect(endpoint) as ws:
        ws.send_bytes(frame)
        return ws.receive()


@both_loops
def test_a_binary_frame_is_answered_with_bytes(endpoint: type[Endpoint]) -> None:
    """What is in it is handed over as it is, JSON or not, and None answers nothing."""
    with connect(endpoint) as ws:
        for frame in (b"\xff\xfe", b'{"type":"say","msg":"hi"}', bytes(100_000)):
            ws.send_bytes(frame)
            assert ws.receive_bytes() == frame
        ws.send_bytes(b"")
        assert ws.ask("say", msg="hi") == {"type": "say", "msg": "hi"}


@both_loops
def test_texts_and_binary_frames_are_answered_in_their_order(endpoint: type[Endpoint]) -> None:
    """Whatever comes behind a binary frame is handled behind it."""
    with connect(endpoint) as ws:
        for number in range(20):
            ws.send_bytes(b"%d" % number)
            ws.send("say", msg=str(number))
        for number in range(20):
            assert ws.receive_bytes() == b"%d" % number
            assert (ws.receive())["msg"] == str(number)


def test_without_a_method_for_them_binary_frames_are_json() -> None:
    """As ever: JSON in UTF-8, anything else closes."""

    class Plain(Endpoint):
        @event
        async def on_say(self, msg: str) -> dict[str, str]:
            return {"msg": msg}

    with connect(Plain) as ws:
        ws.send_bytes(b'{"type":"say","msg":"hi"}')
        assert ws.receive() == {"type": "say", "msg": "hi"}
        ws.send_bytes(b"\xff\xfe")
        ws.expect_close(1007)
    with connect(Plain) as ws:
        ws.send_bytes(b"pcm")
        ws.expect_close(1003)


def test_a_memoryview_is_of_the_frame_itself_and_stays_valid() -> None:
    """It is read-only, and what is in it does not change when other frames come."""
    kept: list[memoryview] = []

    class Keeps(Endpoint):
        @binary
        async def on_frame(self, frame: memoryview) -> memoryview:
            kept.append(frame)
            return frame[1:]

    with connect(Keeps) as ws:
        for frame in (b"one", b"two"):
            ws.send_bytes(frame)
            assert ws.receive_bytes() == frame[1:]
    assert [(bytes(view), view.readonly, type(view.obj)) for view in kept] == [
        (b"one", True, bytes),
        (b"two", True, bytes),
    ]


def test_a_method_that_is_not_async_runs_in_a_thread() -> None:
    """There it answers, and sends bytes, with `self.sync`."""

    class Threads(Endpoint):
        @binary
        def on_frame(self, frame: bytes) -> bytes:
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            self.sync.send_bytes(bytearray(b"first"))
            return frame

    with connect(Threads) as ws:
        ws.send_bytes(b"second")
        assert ws.receive_bytes() == b"first"
        assert ws.receive_bytes() == b"second"


def test_one_may_run_in_the_loop_though_it_is_not_async() -> None:
    """With `thread=False`."""

    class Inline(Endpoint):
        @binary(thread=False)
        def on_frame(self, frame: bytes) -> bytes:
            assert asyncio.get_running_loop()
            return frame

    with connect(Inline) as ws:
        ws.send_bytes(b"here")
        assert ws.receive_bytes() == b"here"


class Tagged(Struct, tag_field="type", tag="seen_by_struct"):
    size: int


@pytest.mark.parametrize(
    ("returns", "value", "expected"),
    [
        (Seen, Seen(size=3), {"type": "frame", "size": 3}),
        (Seen | None, Seen(size=3), {"type": "frame", "size": 3}),
        (Tagged, Tagged(3), {"type": "seen_by_struct", "size": 3}),
        (dict[str, int], {"size": 3}, {"type": "frame", "size": 3}),
        (Any, {"type": "mine"}, {"type": "mine"}),
        (Any, bytearray(b"abc"), b"abc"),
        (bytes, memoryview(b"abc"), b"abc"),
        (memoryview, memoryview(b"a-b-c")[::2], b"abc"),
        (bytearray | None, b"", b""),
    ],
)
def test_the_return_annotation_says_what_a_reply_is(returns: Any, value: Any, expected: Any) -> None:
    """Bytes are a binary frame, a message is a text; where nothing is said, the value decides."""

    async def on_frame(self: Any, frame: bytes) -> Any:
        return value

    on_frame.__annotations__["return"] = returns
    replies: Any = type("Replies", (Endpoint,), {"on_frame": binary(on_frame)})
    with connect(replies) as ws:
        ws.send_bytes(b"x")
        received = ws.receive_bytes() if isinstance(expected, bytes) else ws.receive()
        assert received == expected


@pytest.mark.parametrize(
    ("returns", "value"), [(bytes, "text"), (bytes, {"a": 1}), (bytes, 5), (Seen, b"abc"), (Any, 5), (dict, b"abc")]
)
def test_what_is_not_as_annotated_is_a_response_error(returns: Any, value: Any) -> None:
    """The value itself is not told, and the connection lives."""

    async def on_frame(self: Any, frame: bytes) -> Any:
        return value

    on_frame.__annotations__["return"] = returns
    wrong: Any = type("Wrong", (Endpoint,), {"on_frame": binary(on_frame)})
    for _ in range(2):
        told = answer(wrong, b"x")
        assert (told["type"], told["code"]) == ("error", "response_error")


def test_an_error_is_a_text_without_a_ref() -> None:
    """The application's own as it says, a bug as `internal_error`; the next frame is handled."""

    class Fails(Endpoint):
        @binary
        async def on_frame(self, frame: bytes) -> bytes:
            if frame == b"own":
                raise EventError("no_pcm", "that is no PCM")
            return frame[:1] + bytes([1000])

    expected = {"type": "no_pcm", "loc": [], "msg": "that is no PCM"}
    assert answer(Fails, b"own") == {"type": "error", "code": "no_pcm", "errors": [expected]}
    assert (answer(Fails, b"bug"))["code"] == "internal_error"


def test_an_error_tells_no_input_where_none_is_to_be_told() -> None:
    """With `include_input = False`, whatever the frame is taken as."""

    class Discreet(Endpoint):
        include_input = False

        @binary
        async def on_frame(self, frame: memoryview) -> None:
            raise EventError("bad", errors=[{"type": "bad", "loc": ["header"], "msg": "no", "input": "secret"}])

    told = answer(Discreet, b"secret")
    assert (told["code"], "secret" in str(told)) == ("bad", False)


async def opened() -> AsyncIterator[list[str]]:
    LOG.append("opened")
    yield LOG
    LOG.append("closed")


LOG: list[str] = []


@pytest.mark.parametrize("scope", ["function", "request"])
@pytest.mark.parametrize("is_around", [False, True])
def test_dependencies_are_solved_and_torn_down_around_the_reply(scope: Any, is_around: bool) -> None:
    """Also with middleware, and with the frame in any place among the parameters."""
    LOG.clear()

    class Needs(Endpoint):
        @binary
        async def on_frame(self, log: Annotated[list[str], Depends(opened, scope=scope)], frame: memoryview) -> bytes:
            log.append("handled")
            return bytes(frame) + b"!"

    if is_around:

        @Needs.middleware
        async def shout(endpoint: Needs, call: Call, handle: Handle) -> Any:
            assert call == Call("frame", None, call.handler)
            value = await handle()
            return value.upper()

    with connect(Needs) as ws:
        ws.send_bytes(b"hi")
        assert ws.receive_bytes() == (b"HI!" if is_around else b"hi!")
    assert LOG == ["opened", "handled", "closed"]


def test_a_dependency_may_take_the_frame_by_its_name() -> None:
    """As it may take a field of a message."""

    def header(frame: bytes) -> int:
        return frame[0]

    class Headed(Endpoint):
        @binary
        async def on_frame(self, frame: bytes, number: Annotated[int, Depends(header)]) -> bytes:
            return bytes(number)

    with connect(Headed) as ws:
        ws.send_bytes(b"\x03pcm")
        assert ws.receive_bytes() == bytes(3)


def test_a_guard_is_asked_before_and_a_limit_counts_binary_frames() -> None:
    """With the method's name as the event."""

    async def is_even(endpoint: Endpoint, call: Call) -> bool:
        return call.event == "frame" and call.ref is None

    class Guarded(Endpoint):
        rate_limit = RateLimit(2, per_s=1000)

        @binary(guards=[is_even])
        async def on_frame(self, frame: bytes) -> None:
            await self.send_bytes(frame)

    with connect(Guarded) as ws:
        for _ in range(3):
            ws.send_bytes(b"x")
        assert [ws.receive_bytes(), ws.receive_bytes()] == [b"x", b"x"]
        assert (ws.receive())["code"] == "rate_limited"


def test_one_that_takes_too_long_is_cancelled() -> None:
    """And answered `timeout`, though it has no ref."""

    class Slow(Endpoint):
        @binary(timeout_s=0.01)
        async def on_frame(self, frame: bytes) -> bytes:
            return await asyncio.Future()

    assert (answer(Slow, b"x"))["code"] == "timeout"


@both_loops
def test_an_own_respond_gets_the_bytes(endpoint: type[Endpoint]) -> None:
    """And passes them on with `super`; what is being answered is a binary frame."""
    seen: list[Any] = []

    class Own(endpoint):  # type: ignore[misc, valid-type]  # a parameter
        async def respond(self, response: Any) -> None:
            seen.append((response, self.current))
            await super().respond(response)

    with connect(Own) as ws:
        ws.send_bytes(b"abc")
        assert ws.receive_bytes() == b"abc"
    assert seen == [(b"abc", ("audio", None, "binary"))]


def test_an_own_respond_gets_messages_validated() -> None:
    """Where a reply may be either."""
    seen: list[Any] = []

    class Own(Endpoint):
        @binary
        async def on_frame(self, frame: bytes) -> Any:
            return {"size": len(frame)} if frame else b""

        async def respond(self, response: Any) -> None:
            seen.append(response)
            await super().respond(response)

    with connect(Own) as ws:
        ws.send_bytes(b"abc")
        assert ws.receive() == {"type": "frame", "size": 3}
        ws.send_bytes(b"")
        assert ws.receive_bytes() == b""
    assert seen == [{"size": 3}, b""]


def test_bytes_are_sent_in_the_order_of_the_calls() -> None:
    """Between messages, of any kind that is bytes."""

    class Sends(Endpoint):
        async def on_connect(self) -> None:
            await super().on_connect()
            for data in (b"a", bytearray(b"b"), memoryview(b"abc")[2:]):
                await self.send({"type": "next"})
                await self.send_bytes(data)

    with connect(Sends) as ws:
        for letter in (b"a", b"b", b"c"):
            assert ws.receive() == {"type": "next"}
            assert ws.receive_bytes() == letter


@pytest.mark.parametrize("data", ["text", 5, None, [1], {"type": "x"}])
def test_only_bytes_are_sent_as_bytes(data: Any) -> None:
    """Of a number nobody gets so many zeros."""

    class Sends(Endpoint):
        async def on_connect(self) -> None:
            await super().on_connect()
            with pytest.raises(TypeError, match="a binary frame is bytes"):
                await self.send_bytes(data)

    with connect(Sends) as ws:
        ws.silent(0)


def test_what_is_sent_to_nobody_says_so() -> None:
    """As with `send`."""
    raised: list[int] = []

    class Sends(Endpoint):
        async def on_disconnect(self, close_code: int) -> None:
            try:
                await self.send_bytes(b"bye")
            except WebSocketDisconnect as exc:
                raised.append(exc.code)
                raise

    with connect(Sends):
        pass
    assert raised == [1000]


def test_bytes_are_no_text() -> None:
    """`send` refuses them, and an `emits` that does not list them does, too."""

    class Declares(Endpoint):
        emits = [Seen]

    class Pushes(Endpoint):
        emits = [Seen, bytes]

    with pytest.raises(TypeError, match=r"Declares does not push bytes; its `emits` lists seen: add `bytes`"):
        Declares._declaration.encode_any(b"x")
    assert Pushes._declaration.encode_any(b"x") == b"x"
    for cls in (Echo, Declares, Pushes):
        with pytest.raises(TypeError, match="bytes is no message; `send_bytes` sends a binary frame"):
            cls._declaration.encode_push(b"x")


def test_starlettes_client_speaks_it() -> None:
    """`send_bytes` and `receive_bytes`, as with any application."""
    with TestClient(Echo) as client, client.websocket_connect("/") as ws:
        ws.send_bytes(b"abc")
        assert ws.receive_bytes() == b"abc"


def test_a_method_of_a_base_is_inherited_and_overridden() -> None:
    """The nearest one counts, whatever it is called; one of a plain mix-in is found."""

    class Mixin:
        @binary
        async def on_frame(self, frame: bytes) -> bytes:
            return b"mixin"

    class Base(Endpoint, Mixin): ...

    class Heir(Base):
        @binary
        async def on_other(self, frame: bytes) -> bytes:
            return b"heir"

    for endpoint, expected in ((Base, b"mixin"), (Heir, b"heir"), (type("Next", (Heir,), {}), b"heir")):
        with TestClient(endpoint) as client, client.websocket_connect("/") as ws:
            ws.send_bytes(b"x")
            assert ws.receive_bytes() == expected
        assert "frame" not in endpoint.handlers


T = TypeVar("T")


class Generically(Endpoint, Generic[T]):
    @binary
    async def on_frame(self, frame: bytes) -> T:
        return self.made(frame)

    def made(self, frame: bytes) -> T:
        raise NotImplementedError


def test_a_generic_base_is_given_the_kind_of_its_replies() -> None:
    """By its heir: bytes, or a model."""

    class Bytes(Generically[bytes]):
        def made(self, frame: bytes) -> bytes:
            return frame

    class Model(Generically[Seen]):
        def made(self, frame: bytes) -> Seen:
            return Seen(size=len(frame))

    for endpoint in (Bytes, Model):
        with connect(endpoint) as ws:
            ws.send_bytes(b"abc")
            if endpoint is Bytes:
                assert ws.receive_bytes() == b"abc"
            else:
                assert ws.receive() == {"type": "frame", "size": 3}


def test_dependencies_are_overridden_in_tests() -> None:
    """Those of a class, as for messages."""

    class Real: ...

    class Fake(Real): ...

    class Needs(Endpoint):
        @binary
        async def on_frame(self, frame: bytes, real: Annotated[Real, Depends(Real)]) -> bytes:
            return type(real).__name__.encode()

    Needs.dependency_overrides[Real] = Fake
    with connect(Needs) as ws:
        ws.send_bytes(b"?")
        assert ws.receive_bytes() == b"Fake"


def test_it_can_be_called_like_any_method() -> None:
    """It is a function of the class still."""
    assert asyncio.run(Echo.on_audio(None, b"x")) == b"x"


def two() -> Any:
    class Two(Endpoint):
        @binary
        async def on_audio(self, frame: bytes) -> None: ...

        @binary
        async def on_video(self, frame: bytes) -> None: ...


def hidden() -> Any:
    class Hidden(Echo):
        async def on_audio(self, frame: bytes) -> None: ...  # type: ignore[override]  # that is the mistake


def like_a_method() -> Any:
    class LikeAMethod(Endpoint):
        @binary
        async def send_bytes(self, data: bytes) -> None: ...  # type: ignore[override]  # that is the mistake


def around(wrap: Callable[[Any], Any]) -> Any:
    class Around(Endpoint):
        @wrap
        @binary
        async def on_audio(self, frame: bytes) -> None: ...


def of(function: Any) -> Any:
    return type("Mistaken", (Endpoint,), {"on_frame": binary(function)})


async def takes_nothing(self: Any) -> None: ...
async def takes_text(self: Any, frame: str) -> None: ...
async def takes_anything(self: Any, frame) -> None: ...  # type: ignore[no-untyped-def]  # the mistake
async def takes_a_field(self: Any, room: str, frame: bytes) -> None: ...
async def takes_two(self: Any, one: bytes, two: memoryview) -> None: ...
async def has_default(self: Any, frame: bytes = b"") -> None: ...
async def yields(self: Any, frame: bytes) -> AsyncIterator[bytes]:
    yield frame


async def streams(self: Any, frame: bytes) -> AsyncIterator[bytes]: ...
async def uploads(self: Any, frame: bytes, rows: AsyncIterator[bytes]) -> None: ...
async def returns_either(self: Any, frame: bytes) -> bytes | Seen: ...  # type: ignore[empty-body]
def by_room(room: str) -> str:
    return room


async def depends_on_a_field(self: Any, frame: bytes, room: Annotated[str, Depends(by_room)]) -> None: ...


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (two, "on_audio and on_video are @binary"),
        (hidden, "on_audio overrides the @binary one of Echo"),
        (like_a_method, "send_bytes is a method of every endpoint"),
        (lambda: around(lambda handler: lambda *args: handler(*args)), "write @event above"),
        (lambda: of(takes_nothing), "takes nothing; take the frame once, as `frame: bytes`"),
        (lambda: of(takes_text), "'frame': a binary frame has no fields"),
        (lambda: of(takes_anything), "'frame': a binary frame has no fields"),
        (lambda: of(takes_a_field), "'room': a binary frame has no fields; take it whole"),
        (lambda: of(takes_two), "takes 'one' and 'two'; take the frame once"),
        (lambda: of(has_default), "'frame': a binary frame has no fields"),
        (lambda: of(yields), r"send each part with `await self.send_bytes\(...\)`"),
        (lambda: of(streams), r"send each part with `await self.send_bytes\(...\)`"),
        (lambda: of(uploads), "take each frame as it comes"),
        (lambda: of(returns_either), "returns bytes or a message; return one of them"),
        (lambda: of(depends_on_a_field), "'room': a binary frame has no fields"),
        (lambda: binary("audio"), "@binary takes a method, not 'audio'"),  # type: ignore[call-overload]
        (lambda: binary(timeout=1), "no argument 'timeout'; did you mean 'timeout_s'"),  # type: ignore[call-overload]
        (lambda: binary(concurrent=True), "no argument 'concurrent'"),  # type: ignore[call-overload]
    ],
)
def test_what_can_never_work_is_refused_with_the_remedy(make: Callable[[], Any], text: str) -> None:
    """At import, not with the first frame."""
    with pytest.raises(DefinitionError, match=text):
        make()


def test_it_is_declared_in_the_body_of_a_class() -> None:
    """It is no handler of an event, that could be attached."""
    empty: Any = type("Empty", (Endpoint,), {})
    for attach in (empty.attach_handler, lambda handler: empty.handlers.update(audio=handler)):
        with pytest.raises(DefinitionError, match="is for no event; declare it in the body of its class"):
            attach(Echo.on_audio)


def test_the_package_has_it() -> None:
    """Where users look for it."""
    assert socketsundso.binary is binary
    assert repr(Echo.on_audio) == "<Handler of binary frames: Echo.on_audio>"


@pytest.mark.parametrize(
    ("envelope", "answer", "header"),
    [
        (Envelope(type="action"), {"action": "frame", "size": 3}, {"action": "seen", "size": 1}),
        (
            Envelope(type="event", data="payload"),
            {"event": "frame", "payload": {"size": 3}},
            {"event": "seen", "payload": {"size": 1}},
        ),
        (ArrayEnvelope("type", "ref", "data"), ["frame", None, {"size": 3}], ["seen", None, {"size": 1}]),
    ],
)
def test_envelopes_are_for_messages(envelope: Any, answer: Any, header: Any, backplane: None) -> None:
    """A message that answers a binary frame is in one, as are pushes; bytes are in none."""

    class Enveloped(Endpoint):
        emits = [Seen, bytes]

        async def on_connect(self) -> None:
            await super().on_connect()
            await self.join("r")

        @binary
        async def on_frame(self, frame: bytes) -> Seen:
            async with self.together():
                await self.send(Seen(size=1))
                await self.send_bytes(frame)
            await self.broadcast(b"to all", room="r")
            return Seen(size=len(frame))

    enveloped: Any = type("Enveloped", (Enveloped,), {"envelope": envelope})
    with TestClient(enveloped) as client, client.websocket_connect("/") as ws:
        ws.send_bytes(b"abc")
        assert ws.receive_json() == header
        assert ws.receive_bytes() == b"abc"
        assert ws.receive_bytes() == b"to all"
        assert ws.receive_json() == answer


def test_text_pings_are_texts() -> None:
    """A binary frame that looks like one is a frame."""

    class Pinged(Endpoint):
        text_pings = {"ping": "pong"}

        @binary
        async def on_frame(self, frame: bytes) -> bytes:
            return frame + b"!"

    with TestClient(Pinged) as client, client.websocket_connect("/") as ws:
        ws.send_text("ping")
        ws.send_bytes(b"ping")
        assert ws.receive_text() == "pong"
        assert ws.receive_bytes() == b"ping!"


@pytest.fixture
def backplane(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", f"memory://{request.node.name}")
