"""
`python -m tests.conformance.echo_server LOOP alone|contexts`: echoes on a free port, which it prints.

All its replies are compressed: Autobahn's client (kosoku) raises ("Strings must be encoded before hashing") where one
that does not shrink comes plain on a connection with permessage-deflate, as RFC 7692 (6) allows.
"""

import os
import sys

import uvicorn

from socketsundso.environment import DEFLATE_CONTEXT_VARIABLE, DEFLATE_MIN_VARIABLE
from socketsundso.server import WebSocketProtocol, deflate, protocol
from socketsundso.server.frames import RSV1, frame
from tests.server.serving import echo


class Announcing(uvicorn.Server):
    """A server that prints its port."""

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


def packed_frame(first_byte: int, payload: bytes, packed: bytes, ready: bytes | None = None) -> bytes:
    """In place of `deflate.smaller_frame`: compressed in any case, of nothing to the one byte of RFC 7692 7.2.3.6."""
    return frame(first_byte | RSV1, packed or b"\0")


if __name__ == "__main__":
    os.environ[DEFLATE_CONTEXT_VARIABLE] = str(int(sys.argv[2] == "contexts"))
    os.environ[DEFLATE_MIN_VARIABLE] = "0"
    deflate.smaller_frame = packed_frame
    if sys.argv[2] == "contexts":
        protocol.FEW_FRAMES = 0  # every frame goes through a parser, not only what does not come alone
    config = uvicorn.Config(
        echo,
        port=0,
        ws=WebSocketProtocol,
        loop=sys.argv[1],
        lifespan="off",
        log_level="warning",
        ws_max_size=1 << 25,
    )
    Announcing(config).run()
