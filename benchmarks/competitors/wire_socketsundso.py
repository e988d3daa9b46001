"""socketsundso in each envelope: the same handlers, the same models."""

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import ArrayEnvelope, Endpoint, Envelope, JsonRpc, event

VALIDATES = "pydantic, both ways"


class Message(BaseModel):
    room: str
    msg: str
    sender: int | None = None


class Flat(Endpoint):
    @event
    async def on_message(self, room: str, msg: str, sender: int | None = None) -> Message:
        return Message(room=room, msg=msg, sender=sender)

    @event
    async def on_ping(self) -> None: ...


class Renamed(Flat):
    envelope = Envelope(type="action", ref="requestId")


class Nested(Flat):
    envelope = Envelope(type="event", data="payload")


class Arrays(Flat):
    envelope = ArrayEnvelope("type", "ref", "data")


class Rpc(Flat):
    envelope = JsonRpc()


WIRES = (Flat, Renamed, Nested, Arrays, Rpc)
app = Starlette(routes=[WebSocketRoute(f"/{each.__name__.lower()}", each) for each in WIRES])
