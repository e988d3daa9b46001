"""
Devices that the server asks, and people who control them: `python -m examples.remote_control`, then open the address.

A device answers what it is asked, or refuses to. Its person, in any process, waits for that answer:

    person -> {"type":"switch","ref":1,"device":"lamp","on":true}
                  {"type":"switch","ref":"s:1","on":true,"who":"adam"}                       -> device
                  {"type":"reply","ref":"s:1","answer":{"on":true}}                          <- device
    person <- {"type":"switch","ref":1,"on":true}

The page plays both parts. Over several processes, unchanged:
`socketsundso run examples.remote_control:app --workers 2 --backplane redis://127.0.0.1`
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from pydantic import BaseModel, StringConstraints
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route, WebSocketRoute

from socketsundso import (
    CallFailed,
    CallRefused,
    CallTimeout,
    EventError,
    RateLimit,
    WebSocketHandlingEndpoint,
    event,
    scopes,
)

PAGE = Path(__file__).with_name("remote_control.html")
DEVICES = "devices"  # who is there, by name
PATIENCE_S = 20.0  # somebody may have to press a button
DEVICE_KEY = "let-me-in"
PEOPLE = {
    "t-vera": {"name": "vera", "scopes": ["device:read"]},
    "t-adam": {"name": "adam", "scopes": ["device:read", "device:switch"]},
}
Name = Annotated[str, StringConstraints(pattern=r"^[\w-]{1,24}$")]


class State(BaseModel):
    on: bool


class Read(BaseModel):
    """What state are you in?"""

    who: str


class Switch(BaseModel):
    who: str
    on: bool


class Device(WebSocketHandlingEndpoint):
    """Says who it is with its first message, and answers questions from then on."""

    calls = {Read: State, Switch: State}
    presence_events = True
    authenticate_within_s = 10

    @event
    async def on_hello(self, name: Name, key: str) -> dict[str, str]:
        if key != DEVICE_KEY:
            raise EventError("unauthorized", "that is not the key of a device")
        if self.user is not None:
            raise EventError("conflict", f"this connection is {self.user} already")
        self.user = name
        await self.identify(name)
        await self.join(DEVICES)
        await self.track(name, room=DEVICES, key=name)
        return {"type": "welcome", "name": name}


class Person(WebSocketHandlingEndpoint):
    """Signs in with its first message, hears which devices there are, and asks them what it may."""

    presence_events = True
    authenticate_within_s = 10
    rate_limit = RateLimit(20, per_s=10)

    @event
    async def on_sign_in(self, token: str) -> dict[str, Any]:
        if token not in PEOPLE:
            raise EventError("unauthorized", "nobody has this token")
        self.user = PEOPLE[token]
        await self.join(DEVICES)
        return {"type": "welcome", **self.user}

    @event(guards=[scopes("device:read")], concurrent=True)
    async def on_read(self, device: Name) -> State:
        return await self.ask(device, Read(who=self.user["name"]))

    @event(guards=[scopes("device:switch")], concurrent=True)
    async def on_switch(self, device: Name, on: bool) -> State:
        return await self.ask(device, Switch(who=self.user["name"], on=on))

    async def ask(self, device: str, question: Read | Switch) -> State:
        try:
            return await Device.hub.to_user(device).call(question, returns=State, timeout_s=PATIENCE_S)
        except CallRefused as refusal:
            if refusal.code == "gone":
                raise EventError("gone", f"{device} is not there") from refusal
            raise EventError("declined", refusal.message or f"{device} declines") from refusal
        except CallTimeout as late:
            raise EventError("timeout", f"{device} has not answered") from late
        except CallFailed as failure:
            raise EventError("failed", f"{device} does not make sense") from failure


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


app = Starlette(routes=[Route("/", page), WebSocketRoute("/device", Device), WebSocketRoute("/person", Person)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, ws="socketsundso.server:WebSocketProtocol")
