"""
A voice bot: `python -m examples.voice`, then connect to /ws. Binary frames are PCM behind 8 bytes, both ways:

    0  1  2  3   4  5   6  7  8 ...
    number       rate   0  0  PCM, 16 bit, one channel     (all little-endian)

    {"type":"listen","ref":1,"room":"studio"}                    what others in the room say is heard from now on
    <PCM>, <PCM>, <PCM>                                          goes to the room as it is
    {"type":"done","ref":2}                                      what came since is transcribed, and answered:
        {"type":"transcript","ref":2,"text":"...","seconds":0.5}
        {"type":"speech","bytes":16008} and, right behind it, <PCM>

A frame without a whole header is answered `bad_frame`, and too many of them `rate_limited`.
"""

import array
import math
import struct
import sys
from typing import Annotated

import uvicorn
from pydantic import BaseModel, StringConstraints
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from socketsundso import EventError, RateLimit, WebSocketHandlingEndpoint, binary, event

HEADER = struct.Struct("<IHxx")
RATE = 16_000
MAX_SECONDS = 30
Room = Annotated[str, StringConstraints(pattern=r"^[\w-]{1,24}$")]


class Transcript(BaseModel):
    type: str = "transcript"
    text: str
    seconds: float


class Speech(BaseModel):
    """What the next binary frame is."""

    type: str = "speech"
    bytes: int


class Voice(WebSocketHandlingEndpoint):
    """Hears, relays to the room, and talks back."""

    emits = [Speech, bytes]

    def __init__(self, websocket: WebSocket) -> None:
        super().__init__(websocket)
        self.heard = bytearray()

    @event
    async def on_listen(self, room: Room) -> dict[str, int]:
        await self.leave(self.rooms)
        await self.join(room)
        return {"rate": RATE}

    @binary(guards=[RateLimit(100, per_s=1)])
    async def on_audio(self, frame: memoryview) -> None:
        number, rate = header_of(frame)
        pcm = frame[HEADER.size :]
        if rate != RATE or len(pcm) % 2:
            raise EventError("bad_frame", f"frame {number} is not 16 bit at {RATE} Hz")
        if len(self.heard) + len(pcm) > MAX_SECONDS * RATE * 2:
            raise EventError("too_long", f"say `done` after {MAX_SECONDS} s")
        self.heard += pcm
        if self.rooms:
            await self.broadcast(frame, room=self.rooms, exclude_self=True, ttl_s=0.5)  # late audio is of no use

    @event
    async def on_done(self) -> Transcript:
        heard, self.heard = self.heard, bytearray()
        speech = framed(tone(len(heard) // 2))
        async with self.together():  # no frame of the room's comes between
            await self.send(Speech(bytes=len(speech)))
            await self.send_bytes(speech)
        return Transcript(text=transcribed(heard), seconds=len(heard) / 2 / RATE)


def header_of(frame: memoryview) -> tuple[int, int]:
    try:
        number, rate = HEADER.unpack_from(frame)
    except struct.error as exc:
        raise EventError("bad_frame", f"a frame begins with {HEADER.size} bytes of header") from exc
    return number, rate


def framed(pcm: bytes, number: int = 0) -> bytes:
    return HEADER.pack(number, RATE) + pcm


def transcribed(pcm: bytearray) -> str:
    """A stand-in for a model, which knows loud and silent."""
    loudest = max(map(abs, array.array("h", bytes(pcm))), default=0)
    return "(silence)" if loudest < 500 else "(somebody speaks)"


def tone(samples: int) -> bytes:
    """A stand-in for a voice: as long as what was said."""
    return (HUM * (samples * 2 // len(HUM) + 1))[: samples * 2]


HUM = array.array("h", (int(8000 * math.sin(math.tau * n / 40)) for n in range(40))).tobytes()


app = Starlette(routes=[WebSocketRoute("/ws", Voice)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, ws="socketsundso.server:WebSocketProtocol")
