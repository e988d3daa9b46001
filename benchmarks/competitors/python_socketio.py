"""python-socketio over its WebSocket transport; the handler validates with pydantic, since the library does not."""

import socketio
from pydantic import BaseModel

VALIDATES = "pydantic by hand, input"


class Message(BaseModel):
    type: str
    room: str
    msg: str
    sender: int | None = None


server = socketio.AsyncServer(async_mode="asgi", ping_interval=3600, transports=["websocket"], http_compression=False)


@server.on("message")
async def chat(sid: str, data: dict[str, object]) -> None:
    message = Message(**data)
    await server.emit("message", message.model_dump(), to=sid)


app = socketio.ASGIApp(server)
