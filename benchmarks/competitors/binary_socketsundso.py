"""A `@binary` method that gives back what it gets."""

from socketsundso import WebSocketHandlingEndpoint, binary

VALIDATES = "nothing"


class Echo(WebSocketHandlingEndpoint):
    @binary
    async def on_frame(self, frame: bytes) -> bytes:
        return frame


app = Echo
