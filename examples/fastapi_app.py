"""In a FastAPI application, with dependencies injected. Needs fastapi; run `python -m examples.fastapi_app`."""

import sys
from typing import Annotated

import uvicorn

from socketsundso import WebSocketHandlingEndpoint, event

try:
    from fastapi import Depends, FastAPI, Query, WebSocket
except ImportError:
    needs = "examples.fastapi_app needs FastAPI, which socketsundso does not: python -m pip install fastapi"
    raise SystemExit(needs) from None

app = FastAPI()


class Greetings:
    def __init__(self) -> None:
        self.words = {"en": "hello", "de": "hallo"}


def greetings() -> Greetings:
    return Greetings()


@app.websocket("/ws")
class Greeter(WebSocketHandlingEndpoint):
    """FastAPI calls `__init__`, so dependencies of the connection are its parameters."""

    def __init__(
        self,
        websocket: WebSocket,
        greetings: Annotated[Greetings, Depends(greetings)],
        lang: Annotated[str, Query()] = "en",
    ) -> None:
        super().__init__(websocket)
        self.word = greetings.words.get(lang, "hi")

    @event
    async def on_greet(self, name: str) -> dict[str, str]:
        return {"text": f"{self.word} {name}"}


class Counter(WebSocketHandlingEndpoint):
    count = 0

    @event
    async def on_count(self, by: int = 1) -> dict[str, int]:
        self.count += by
        return {"count": self.count}


app.add_api_websocket_route("/count", Counter)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
