"""The `websockets` library: its own `broadcast` to a set of connections. `python -m ... PORT [deflate]`."""

import sys

import msgspec
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as ws_serve

VALIDATES = "msgspec, input"


class Message(msgspec.Struct, tag_field="type", tag="message"):
    room: str
    msg: str
    sender: int | None = None


decode = msgspec.json.Decoder(Message).decode
encode = msgspec.json.Encoder().encode
members: set[ServerConnection] = set()


async def chat(websocket: ServerConnection) -> None:
    members.add(websocket)
    try:
        async for text in websocket:
            broadcast(members, encode(decode(text)).decode())
    finally:
        members.discard(websocket)


async def main(port: int, compression: str | None) -> None:
    options = {"compression": compression, "max_size": 1 << 20, "ping_interval": None}
    async with ws_serve(chat, "127.0.0.1", port, backlog=4096, **options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), "deflate" if "deflate" in sys.argv[2:] else None))
