"""What a type checker sees of the public API. Checked by mypy, never run."""

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from pydantic import BaseModel

from socketsundso import Endpoint, EventError, Handler, Hub, Member, SyncHub, WebSocketHandlingEndpoint, event


class Pong(BaseModel):
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


def same(endpoint: Endpoint) -> WebSocketHandlingEndpoint:
    return endpoint
