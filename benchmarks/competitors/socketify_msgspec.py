"""socketify (uWebSockets in C++ behind CFFI) with msgspec by hand. `python -m ... PORT [deflate]`."""

import sys
from typing import Any

import msgspec
from socketify import App, AppListenOptions, CompressOptions, OpCode

VALIDATES = "msgspec, input"


class Message(msgspec.Struct, tag_field="type", tag="message"):
    room: str
    msg: str
    sender: int | None = None


class Ping(msgspec.Struct, tag_field="type", tag="ping"):
    pass


decode = msgspec.json.Decoder(Message | Ping).decode
encode = msgspec.json.Encoder().encode
DEFLATE = "deflate" in sys.argv[2:]


def chat(websocket: Any, text: str, opcode: OpCode) -> None:
    websocket.send(encode(decode(text)), OpCode.TEXT, DEFLATE)


def serve(port: int) -> None:
    app = App()
    compression = CompressOptions.SHARED_COMPRESSOR if DEFLATE else CompressOptions.DISABLED
    options = {"compression": compression, "max_payload_length": 1 << 20, "idle_timeout": 960}
    app.ws("/", {**options, "message": chat})
    app.listen(AppListenOptions(port=port, host="127.0.0.1"))
    app.run()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
