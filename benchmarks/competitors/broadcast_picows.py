"""The ceiling: a bare picows server that loops over its transports, without ASGI, JSON and rooms."""

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

VALIDATES = "nothing"

transports: dict[WSTransport, None] = {}


class Member(WSListener):  # type: ignore[misc]  # picows has no types
    def on_ws_connected(self, transport: WSTransport) -> None:
        transports[transport] = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        for each in transports:
            each.send(WSMsgType.TEXT, payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        transports.pop(transport, None)


async def main(port: int) -> None:
    server = await ws_create_server(lambda request: Member(), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
