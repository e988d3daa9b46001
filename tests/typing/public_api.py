"""What a type checker sees of the public API. Checked by mypy, never run."""

import re
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, assert_type

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from socketsundso import (
    ArrayEnvelope,
    Call,
    CallFailed,
    CallRefused,
    Depends,
    Endpoint,
    Envelope,
    EventError,
    Handle,
    Handler,
    Hub,
    InvalidAnswer,
    Member,
    RateLimit,
    RateLimited,
    SharedRateLimit,
    SyncHub,
    WebSocketHandlingEndpoint,
    binary,
    event,
    scopes,
)


class Pong(BaseModel):
    time: int


class Ping(BaseModel):
    time: int


class App(WebSocketHandlingEndpoint):
    @event
    async def on_message(self, room: str, n: int = 0) -> Pong:
        return Pong(time=n)

    @event()
    async def on_called(self, x: int) -> str:
        return str(x)

    @event("ping", response_model=Pong)
    def pingpong(self) -> dict[str, int]:
        return {"time": 1}

    @event
    @staticmethod
    async def on_static(x: int) -> int:
        return x


@event
async def outside(message: str) -> int:
    return len(message)


async def use(app: App) -> None:
    handler: Handler[..., int] = outside
    assert_type(handler.event, str)
    assert_type(await outside("x"), int)
    assert_type(await app.on_message("room", 5), Pong)
    assert_type(await app.on_called(1), str)
    assert_type(await app.pingpong(), dict[str, int])
    assert_type(app.pingpong, Callable[[], Coroutine[Any, Any, dict[str, int]]])
    assert_type(App.on_message.event, str)
    assert_type(await app.send({"type": "x"}), None)
    assert_type(await app.respond({"x": 1}), None)
    assert_type(await app.close(4000, "reason"), None)
    assert_type(EventError("code").errors, list[dict[str, Any]])
    await outside(5)  # type: ignore[arg-type]
    await app.on_message(5)  # type: ignore[arg-type]


class Voice(Endpoint):
    emits = [Pong, bytes]

    @binary
    async def on_audio(self, frame: memoryview) -> bytes | None:
        async with self.together():
            await self.send(Pong(time=1))
            await self.send_bytes(frame)
        return bytes(frame)

    @event
    def on_picture(self) -> None:
        self.sync.send_bytes(bytearray(3))
        self.sync.send_bytes("no bytes")  # type: ignore[arg-type]


class Pictures(Endpoint):
    @binary(timeout_s=1, guards=[RateLimit(3, per_s=1)])
    def on_picture(self, frame: bytes) -> Pong:
        return Pong(time=len(frame))


async def use_binary(voice: Voice, pictures: Pictures, hub: Hub) -> None:
    assert_type(await voice.on_audio(memoryview(b"x")), bytes | None)
    assert_type(await pictures.on_picture(b"x"), Pong)
    await voice.on_audio("text")  # type: ignore[arg-type]
    await voice.send_bytes(5)  # type: ignore[arg-type]
    await voice.broadcast(b"x", room="r")
    await hub.to("r").send(b"x")
    binary(concurrent=True)  # type: ignore[call-overload]


class SoldOut(EventError):
    code = "sold_out"
    left: int
    until: str = "now"


class Unsaid(EventError):
    code = "unsaid"


@event(errors=[SoldOut], tags=["orders"], summary="Buy.", deprecated=True, include_in_schema=False)
async def buying(self: Any) -> None: ...


def errors() -> None:
    assert_type(SoldOut(left=3).left, int)
    SoldOut(left=3, until="later")
    Unsaid()
    Unsaid("code", "msg")
    event(errors=[ValueError])  # type: ignore[list-item]
    SoldOut(left="3")  # type: ignore[arg-type]
    SoldOut()  # type: ignore[call-arg]


async def presence(app: App, hub: Hub, sync: SyncHub) -> None:
    async def told(status: str) -> int:
        return len(status)

    assert_type(await app.track({"name": "ada"}, "room", key="ada"), None)
    assert_type(await app.presence.list("room"), list[Member])
    assert_type(await hub.presence.count("room"), int)
    assert_type(sync.presence.count("room"), int)
    assert hub.on_status(told) is told
    assert_type(await told("connected"), int)
    hub.on_status(print)
    sync.on_status(lambda status: None)
    await app.on_backplane("reconnecting")
    await app.on_backplane("away")  # type: ignore[arg-type]
    await app.track(1, "room", "ada")  # type: ignore[call-arg]


async def get_page(skip: int = 0) -> int:
    return skip


class Dependent(Endpoint):
    @event
    async def on_list(
        self,
        page: Annotated[int, Depends(get_page)],
        room: str = "lobby",
        other: Pong = Depends(use_cache=False),  # noqa: B008  # the older way to write it, as in FastAPI
    ) -> Pong:
        assert_type(page, int)
        assert_type(other, Pong)
        return other


async def dependencies(app: Dependent) -> None:
    assert_type(await app.on_list(5), Pong)
    assert_type(Dependent.dependency_overrides, dict[Any, Callable[..., Any]])
    Depends(get_page, scope="function", thread=False)
    Depends(get_page, scope="app")  # type: ignore[arg-type]
    Depends(5)  # type: ignore[arg-type]


def same(endpoint: Endpoint) -> WebSocketHandlingEndpoint:
    return endpoint


async def rooms(app: App, hub: Hub, sync: SyncHub) -> None:
    names: list[str] = ["a", "b"]
    assert_type(await app.join("a"), None)
    assert_type(await app.join("a", "b", last=50), None)
    assert_type(await app.join(names), None)
    assert_type(await app.leave(app.rooms), None)
    assert_type(await hub.history("a", limit=5), list[dict[str, Any]])
    assert_type(sync.history("a"), list[dict[str, Any]])
    await app.join("a", last="5")  # type: ignore[arg-type]
    await app.join(5)  # type: ignore[arg-type]


async def acting(app: App, hub: Hub, sync: SyncHub) -> None:
    assert_type(await hub.to_user("u1").close(4001, "signed out"), int)
    assert_type(await hub.to("a", ["b"]).except_(app, "id").leave(), int)
    assert_type(await hub.everyone.join("a", ["b", "c"]), int)
    assert_type(await hub.everyone.send({"type": "x"}), None)
    assert_type(await hub.members("a"), list[Member])
    assert_type(sync.everyone.close(), int)
    assert_type(sync.to("a").join("b"), int)
    assert_type(sync.to_user("u1").leave("a"), int)
    assert_type(sync.members("a"), list[Member])
    await hub.everyone.close("4001")  # type: ignore[arg-type]
    await hub.to("a").join()  # type: ignore[call-arg]


async def calls_of_hubs(hub: Hub, sync: SyncHub) -> None:
    assert_type(await hub.to_user("u1").call({"type": "x"}, returns=Pong), Pong)
    assert_type(await hub.to_user("u1").call({"type": "x"}, timeout_s=1), Any)
    assert_type(await hub.everyone.call_all({"type": "x"}, returns=Pong), list[tuple[str, Pong | CallFailed]])
    assert_type(sync.to("a").call({"type": "x"}, returns=Pong), Pong)
    assert_type(sync.to("a").call_all({"type": "x"}, returns=Pong), list[tuple[str, Pong | CallFailed]])
    await hub.everyone.call({"type": "x"}, 5)  # type: ignore[call-overload]


def threads(app: App) -> None:
    assert_type(app.sync.broadcast({"type": "x"}, ["a", "b"], exclude_self=True, ttl_s=1), None)
    assert_type(app.sync.send({"type": "x"}), None)
    assert_type(app.sync.respond({"x": 1}), None)
    assert_type(app.sync.join("a", "b", last=50), None)
    assert_type(app.sync.leave("a"), None)
    assert_type(app.sync.close(4000, "reason"), None)
    assert_type(app.sync.identify("u1"), None)
    assert_type(app.sync.track({"name": "ada"}, "a", key="ada"), None)
    assert_type(app.sync.untrack("a"), None)
    app.sync.broadcast({"type": "x"})  # type: ignore[call-arg]
    app.sync.join("a", last="5")  # type: ignore[arg-type]


async def may_write(endpoint: App, call: Call) -> bool:
    assert_type(call.event, str)
    assert_type(call.ref, int | str | None)
    return endpoint.user is not None


def is_known(endpoint: Endpoint, call: Call) -> None: ...


class Guarded(Endpoint):
    allowed_origins = ["https://app.example.com", re.compile(r"https://app-\d+\.example\.com")]
    rate_limit = RateLimit(100, per_s=10)
    idle_timeout_s = 60

    async def authenticate(self) -> str | None:
        self.user_expires_at = datetime.now(UTC)
        self.user_expires_at = 4e9
        self.user_expires_at = "tomorrow"  # type: ignore[assignment]
        return None

    async def before(self, call: Call) -> None:
        raise RateLimited(0.5)

    @event(guards=[may_write, is_known, scopes("write"), RateLimit(20, per_s=1, burst=40)])
    async def on_say(self, msg: str) -> None: ...


@Guarded.middleware
async def timed(endpoint: Guarded, call: Call, handle: Handle) -> Any:
    return await handle()


@Guarded.middleware  # type: ignore[type-var]
def blocking(endpoint: Guarded, call: Call, handle: Handle) -> None: ...


assert_type(RateLimited(0.5).retry_after_s, float)
assert_type(RateLimit(1, per_s=1).burst, int)
event(guards=[SharedRateLimit("1/second", by=lambda endpoint: endpoint.user, strategy="moving-window")])
SharedRateLimit("1/second")  # type: ignore[call-arg]
RateLimit(20, 1)  # type: ignore[call-arg]
event(guards=may_write)  # type: ignore[call-overload]


async def calls(app: App) -> None:
    assert_type(await app.call(Pong(time=1), returns=Pong, timeout_s=30), Pong)
    assert_type(await app.call(Pong(time=1), returns=bool), bool)
    assert_type(await app.call(Pong(time=1), returns=list[str]), list[str])
    assert_type(await app.call(Pong(time=1)), Any)
    assert_type(app.sync.call(Pong(time=1), returns=int), int)
    assert_type(CallRefused("declined").message, str | None)
    assert_type(InvalidAnswer(ValueError()).errors, list[dict[str, Any]])
    await app.call(Pong(time=1), returns=Pong, timeout_s="30")  # type: ignore[call-overload]


class Uploading(Endpoint):
    @event
    async def on_import(self, name: str, rows: AsyncIterator[Pong]) -> Pong:
        async for row in rows:
            assert_type(row, Pong)
        return Pong(time=1)

    @event
    async def on_double(self, rows: AsyncIterator[int]) -> AsyncIterator[Pong]:
        async for n in rows:
            yield Pong(time=2 * n)


async def uploads(app: Uploading, rows: AsyncIterator[Pong]) -> None:
    assert_type(await app.on_import("a", rows), Pong)
    await app.on_import("a", [Pong(time=1)])  # type: ignore[arg-type]


class Styled(Endpoint):
    extra = "ignore"
    alias_generator = to_camel

    @event
    async def handle(self, message: Pong | Ping) -> Pong | None: ...


async def use_styled(styled: Styled) -> None:
    assert_type(await styled.handle(Pong(time=1)), Pong | None)


class Nested(Endpoint):
    envelope = Envelope(type="event", data="payload", extra="ignore")
    text_pings = {"ping": "pong", "heartbeat": None}


class Arrays(Endpoint):
    envelope = ArrayEnvelope("type", "ref", "data")


assert_type(Envelope(ref="requestId").ref, str | None)
assert_type(ArrayEnvelope("type", "data").parts, tuple[str, ...])
Envelope(extra="allow")  # type: ignore[arg-type]


class Unlike(Endpoint):
    envelope = "event"  # type: ignore[assignment]
