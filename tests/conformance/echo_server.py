"""`python -m tests.conformance.echo_server LOOP`: echoes on a free port, which it prints."""

import sys

import uvicorn

from socketsundso.server import WebSocketProtocol
from tests.server.serving import echo


class Announcing(uvicorn.Server):
    """A server that prints its port."""

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)


if __name__ == "__main__":
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
