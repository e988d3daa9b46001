"""
Tokens of a language model, as they come, into a page: `python -m examples.llm_stream`, then open the address.

The model is a stand-in that makes sentences up; put the stream of a real one in `think`. Stopping is a `cancel`: the
generator is closed where it waits, and with it the request to the model. A tab that does not read holds its own stream
back, and nobody else's.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import uvicorn
from pydantic import BaseModel, Field, StringConstraints
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute

from socketsundso import WebSocketHandlingEndpoint, event

PAGE = Path(__file__).with_name("llm_stream.html")
WORDS = ("the", "a", "quiet", "socket", "river", "opens", "answers", "slowly", "under", "every", "light", "and", "then")
Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Token(BaseModel):
    """{"type":"token","ref":1,"text":"quiet "}"""

    text: str


async def think(prompt: str, words: int, pace_s: float) -> AsyncIterator[str]:
    """What a model says, word by word."""
    chance = random.Random(prompt)
    for _ in range(words):
        await asyncio.sleep(pace_s)
        yield chance.choice(WORDS) + " "


class Model(WebSocketHandlingEndpoint):
    """{"type":"generate","ref":1,"prompt":"hello"} is answered with tokens, and `complete`."""

    max_streams = 4
    generated = 0  # tokens, by this process

    @event(timeout_s=600)
    async def on_generate(
        self,
        prompt: Prompt,
        words: Annotated[int, Field(ge=1, le=1_000_000)] = 300,
        pace_s: Annotated[float, Field(ge=0, le=1)] = 0.04,
    ) -> AsyncIterator[Token]:
        async for text in think(prompt, words, pace_s):
            Model.generated += 1
            yield Token(text=text)

    @event
    async def on_status(self) -> dict[str, int]:
        return {"generated": Model.generated}


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", Model)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, ws="socketsundso.server:WebSocketProtocol")
