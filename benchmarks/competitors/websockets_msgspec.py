"""The `websockets` library's own server with uvloop and msgspec by hand. `python -m ... PORT [deflate]`."""

import sys

import msgspec
import uvloop
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as ws_serve

VALIDATES = "msgspec, input"


class Message(msgspec.Struct, tag_field="type", tag="message"):
    room: str
    msg: str
    sender: int | None = None


class Ping(msgspec.Struct, tag_field="type", tag="ping"):
    pass


decode = msgspec.json.Decoder(Message | Ping).decode
encode = msgspec.json.Encoder().encode


async def chat(websocket: ServerConnection) -> None:
    async for text in websocket:
        await websocket.send(encode(decode(text)), text=True)


async def serve(port: int, compression: str | None) -> None:
    options = {"compression": compression, "max_size": 1 << 20, "ping_interval": None}
    async with ws_serve(chat, "127.0.0.1", port, **options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), "deflate" if "deflate" in sys.argv[2:] else None))
