"""Every way to register a handler. Run `python -m examples.decorator`."""

import sys
from datetime import datetime
from typing import Any

import uvicorn
from pydantic import BaseModel

from socketsundso import Handler, WebSocketHandlingEndpoint, event


class Pong(BaseModel):
    time: datetime


class Echo(BaseModel):
    type: str = "echoed"
    message: str


class App(WebSocketHandlingEndpoint):
    @event  # the event is called like the function
    async def goodbye(self) -> None:
        await self.send({"type": "goodbye", "at": datetime.now()})
        await self.close()

    @event()  # `on_` and `handle_` are not part of the name
    async def on_message(self, msg: str) -> dict[str, str]:
        return {"type": "reply", "msg": msg}

    @event  # a function without `self`
    @staticmethod
    async def time() -> dict[str, datetime]:
        return {"now": datetime.now()}

    @event("ping", response_model=Pong)  # another name, a validated reply; not async: runs in a worker thread
    def pingpong(self) -> dict[str, datetime]:
        return {"time": datetime.now()}

    @event(thread=False)  # not async, and never blocking: runs right in the event loop
    def on_add(self, a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}


@App.event("echo")  # from outside of the class; the return annotation is the response model
async def outside(message: str) -> Echo:
    return Echo(message=message)


def shout(text: str) -> dict[str, Any]:
    return {"text": text.upper()}


App.attach_handler(Handler("shout", shout))  # any function, without a decorator

if __name__ == "__main__":
    uvicorn.run(App, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
