"""The kernel's floor: `os.write` of one ready frame to every socket. A peer that does not read would lose bytes."""

import os
import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from socketsundso.server.frames import text_frame

VALIDATES = "nothing"

sockets: dict[WSTransport, int] = {}


class Member(WSListener):  # type: ignore[misc]  # picows has no types
    def on_ws_connected(self, transport: WSTransport) -> None:
        sockets[transport] = transport.underlying_transport.get_extra_info("socket").fileno()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        data = text_frame(frame.get_payload_as_bytes())
        for fd in sockets.values():
            os.write(fd, data)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        sockets.pop(transport, None)


async def main(port: int) -> None:
    server = await ws_create_server(lambda request: Member(), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
