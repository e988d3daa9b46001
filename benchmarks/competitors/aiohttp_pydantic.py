"""aiohttp's own server with uvloop, validation by a discriminated TypeAdapter. `python -m ... PORT [deflate]`."""

import asyncio
import sys
from typing import Annotated, Literal

import uvloop
from aiohttp import WSMsgType, web
from pydantic import BaseModel, Field, TypeAdapter

VALIDATES = "pydantic by hand, input"


class Message(BaseModel):
    type: Literal["message"]
    room: str
    msg: str
    sender: int | None = None


class Ping(BaseModel):
    type: Literal["ping"]


adapter: TypeAdapter[Message | Ping] = TypeAdapter(Annotated[Message | Ping, Field(discriminator="type")])


async def chat(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(compress="deflate" in sys.argv[2:])
    await websocket.prepare(request)
    async for frame in websocket:
        if frame.type == WSMsgType.TEXT:
            message = adapter.validate_json(frame.data)
            await websocket.send_str(message.model_dump_json())
    return websocket


async def serve(port: int) -> None:
    app = web.Application()
    app.router.add_get("/", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
