"""socketsundso, a server that asks its clients."""

from pydantic import BaseModel

from socketsundso import WebSocketHandlingEndpoint, event

VALIDATES = "pydantic, input, reply and answer"


class Message(BaseModel):
    room: str
    msg: str
    sender: int | None = None


class Sure(BaseModel):
    question: str


class Chat(WebSocketHandlingEndpoint):
    calls = {Sure: bool}

    @event
    async def on_message(self, room: str, msg: str, sender: int | None = None) -> Message:
        return Message(room=room, msg=msg, sender=sender)

    @event
    async def on_ask(self, times: int) -> dict[str, int]:
        for _ in range(times):
            await self.call(Sure(question="sure?"), returns=bool)
        return {"times": times}


app = Chat
