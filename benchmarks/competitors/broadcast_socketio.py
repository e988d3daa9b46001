"""python-socketio: `emit(..., room=...)`, over the WebSocket transport of Engine.IO."""

from typing import Any

import socketio

VALIDATES = "nothing"

server = socketio.AsyncServer(async_mode="asgi", ping_interval=3600, ping_timeout=3600)


@server.event  # type: ignore[untyped-decorator]  # python-socketio has no types
async def connect(sid: str, environ: Any) -> None:
    await server.enter_room(sid, "lobby")


@server.event  # type: ignore[untyped-decorator]
async def message(sid: str, data: Any) -> None:
    await server.emit("message", data, room="lobby")


app = socketio.ASGIApp(server)
