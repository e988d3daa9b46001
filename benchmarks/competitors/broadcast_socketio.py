"""python-socketio: `emit(..., room=...)`, over the WebSocket transport of Engine.IO."""

from typing import Any

import socketio

PATH = "/socket.io/?EIO=4&transport=websocket"
GREETING = ("40",)  # what a client says first
ANSWERS = 2  # and how many frames it gets until it is connected: Engine.IO's and Socket.IO's


def wrapped(body: str) -> str:
    """A message as a Socket.IO client sends it, and as it receives it."""
    return f'42["message",{body}]'


server = socketio.AsyncServer(async_mode="asgi", ping_interval=3600, ping_timeout=3600)


@server.event  # type: ignore[untyped-decorator]  # python-socketio has no types
async def connect(sid: str, environ: Any) -> None:
    await server.enter_room(sid, "lobby")


@server.event  # type: ignore[untyped-decorator]
async def message(sid: str, data: Any) -> None:
    await server.emit("message", data, room="lobby")


app = socketio.ASGIApp(server)
