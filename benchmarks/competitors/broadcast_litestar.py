"""Litestar: its channels plugin on the memory backend, one subscription per connection."""

from litestar import Litestar, WebSocket, websocket
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend

VALIDATES = "nothing"


@websocket("/")
async def chat(socket: WebSocket, channels: ChannelsPlugin) -> None:
    await socket.accept()
    async with (
        channels.start_subscription("lobby") as subscriber,
        subscriber.run_in_background(socket.send_text),
    ):
        while True:
            channels.publish(await socket.receive_text(), "lobby")


app = Litestar([chat], plugins=[ChannelsPlugin(MemoryChannelsBackend(), channels=["lobby"])])
