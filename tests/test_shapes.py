"""
The wires that clients of public backends speak already, each as a dialogue with clients that know nothing of us.

A whiteboard says `action` and `data`, a device `requestId` and `payload`; a messenger sends arrays, an editor JSON-RPC.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, Field
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect

from socketsundso import ArrayEnvelope, Endpoint, Envelope, EventError, JsonRpc, event
from tests.server.serving import run, serving

TURN = re.compile(r"(\w+) (->|<-) (.+?)(?=\s+\w+ (?:->|<-)|\s*\Z)", re.DOTALL)


def speak(endpoint: type[Endpoint], dialogue: str) -> None:
    """
    `ada -> FRAME` is sent by the client ada, as it stands; `ada <- FRAME` is the next that she gets, its keys in any
    order. Behind the last one nothing else has come to her.
    """
    clients: dict[str, ClientConnection] = {}

    async def main() -> None:
        async with serving(endpoint) as at:
            for who, way, frame in TURN.findall(dialogue):
                if who not in clients:
                    clients[who] = await connect(at.url)
                if way == "->":
                    await clients[who].send(frame)
                else:
                    got = await clients[who].recv()
                    assert got == frame or parsed(got) == parsed(frame), f"{who} <- {got!r}"
            for client in clients.values():
                await client.close()
                assert [frame async for frame in client] == []

    run(main())


def parsed(frame: str | bytes) -> Any:
    """Its JSON; of what pydantic says of an error, `type` and `loc`."""
    return json.loads(
        frame, object_hook=lambda one: {key: one[key] for key in ("type", "loc")} if "loc" in one else one
    )


# ---------------------------------------------------------------------- action and data


class Stroke(BaseModel):
    by: str
    points: list[tuple[float, float]]
    color: str


class Cleared(BaseModel):
    by: str


class Whiteboard(Endpoint):
    envelope = Envelope(type="action", data="data")
    emits = [Stroke, Cleared]

    @event
    async def on_enter(self, board: str, name: str) -> dict[str, Any]:
        self.name = name
        await self.join(board)
        return {"board": board}

    @event
    async def on_draw(
        self, points: Annotated[list[tuple[float, float]], Field(min_length=2)], color: str = "#000"
    ) -> None:
        await self.broadcast(Stroke(by=self.name, points=points, color=color), self.rooms, exclude_self=True)

    @event
    async def on_clear(self) -> None:
        await self.broadcast(Cleared(by=self.name), self.rooms)


def test_whiteboard() -> None:
    """Replies, pushes and errors have `action` and `data`; the place of an error is within the data."""
    speak(
        Whiteboard,
        """
        ada -> {"action":"enter","data":{"board":"b1","name":"ada"}}
        ada <- {"action":"enter","data":{"board":"b1"}}
        bob -> {"data":{"name":"bob","board":"b1"},"action":"enter"}
        bob <- {"action":"enter","data":{"board":"b1"}}
        ada -> {"action":"draw","data":{"points":[[0,0],[1,1.5]],"color":"#f00"}}
        bob <- {"action":"stroke","data":{"by":"ada","points":[[0.0,0.0],[1.0,1.5]],"color":"#f00"}}
        bob -> {"action":"draw","data":{"points":[[0,0]]}}
        bob <- {"action":"error","data":{"code":"validation_error",
                "errors":[{"type":"too_short","loc":["data","points"]}]}}
        bob -> {"action":"clear"}
        bob <- {"action":"cleared","data":{"by":"bob"}}
        ada <- {"action":"cleared","data":{"by":"bob"}}
        """,
    )


class Move(BaseModel):
    x: int


class MoveMessage(BaseModel):
    action: Literal["move"]
    payload: Move


class MovedMessage(BaseModel):
    action: Literal["moved"] = "moved"
    payload: Move


class Board(Endpoint):
    envelope = Envelope(type="action")

    @event
    async def on_move(self, message: MoveMessage) -> MovedMessage:
        return MovedMessage(payload=message.payload)


def test_whole_messages() -> None:
    """A model with `action` and `payload` is the message, and so is the one that answers."""
    speak(
        Board,
        """
        ada -> {"action":"move","payload":{"x":1},"ref":"a"}
        ada <- {"action":"moved","payload":{"x":1},"ref":"a"}
        """,
    )


# ---------------------------------------------------------------------- type, requestId and payload


class Telemetry(msgspec.Struct):
    celsius: float


class Lamp(Endpoint):
    envelope = Envelope(type="type", ref="requestId", data="payload", extra="ignore")
    emits = [Telemetry]
    level = 0

    @event("setLevel")
    async def set_level(self, level: Annotated[int, Field(ge=0, le=100)]) -> int:
        if level > 90:
            raise EventError("too_hot", "90 at most, for now")
        self.level = level
        await self.send(Telemetry(celsius=20 + level / 10))
        return level

    @event("listScenes")
    async def list_scenes(self) -> list[str]:
        return ["evening", "morning"]

    @event
    async def on_status(self) -> dict[str, Any] | None:
        return {"level": self.level} if self.level else None


def test_device() -> None:
    """A request's payload may be left out, a result may be any JSON value; keys beside them are passed over."""
    speak(
        Lamp,
        """
        app -> {"type":"setLevel","requestId":"r-1","payload":{"level":50},"ts":1764444000}
        app <- {"type":"telemetry","payload":{"celsius":25.0}}
        app <- {"type":"setLevel","requestId":"r-1","payload":50}
        app -> {"type":"listScenes","requestId":"r-2"}
        app <- {"type":"listScenes","requestId":"r-2","payload":["evening","morning"]}
        app -> {"type":"status","requestId":"r-3","payload":null}
        app <- {"type":"status","requestId":"r-3","payload":{"level":50}}
        app -> {"type":"setLevel","requestId":"r-4","payload":{"level":95}}
        app <- {"type":"error","requestId":"r-4","payload":{"code":"too_hot","errors":[{"type":"too_hot","loc":[]}]}}
        app -> {"type":"setLevel","requestId":"r-5"}
        app <- {"type":"error","requestId":"r-5","payload":{"code":"validation_error",
                "errors":[{"type":"missing","loc":["payload"]}]}}
        """,
    )


# ---------------------------------------------------------------------- arrays


class Message(BaseModel):
    id: int
    sender: str
    text: str


class Messenger(Endpoint):
    envelope = ArrayEnvelope("type", "ref", "data")
    text_pings = {"ping": "pong"}
    emits = [Message]
    numbers = itertools.count(1)

    @event
    async def on_hello(self, name: str) -> None:
        self.name = name
        await self.identify(name)

    @event("msg")
    async def on_message(self, to: str, text: Annotated[str, Field(min_length=1)]) -> int:
        message = Message(id=next(self.numbers), sender=self.name, text=text)
        await self.hub.to_user(to).send(message)
        return message.id

    @event
    async def on_online(self) -> list[str]:
        return [self.name]


def test_messenger() -> None:
    """
    `[type, ref, data]`, of which what is not needed may be left out at the end; a push has null for its ref. A ping is
    a text that is no JSON.
    """
    Messenger.numbers = itertools.count(1)
    speak(
        Messenger,
        """
        ada -> ["hello",null,{"name":"ada"}]
        ada -> ping
        ada <- pong
        ada -> ["online"]
        ada <- ["online",null,["ada"]]
        bob -> ["hello",null,{"name":"bob"}]
        bob -> ["msg",1,{"to":"ada","text":"hi"}]
        bob <- ["msg",1,1]
        ada <- ["message",null,{"id":1,"sender":"bob","text":"hi"}]
        bob -> ["msg",2,{"to":"ada","text":""}]
        bob <- ["error",2,{"code":"validation_error","errors":[{"type":"string_too_short","loc":[2,"text"]}]}]
        """,
    )


# ---------------------------------------------------------------------- streams


class Token(BaseModel):
    text: str


class Model(Endpoint):
    envelope = Envelope(type="event", ref="id", data="data")

    @event
    async def on_generate(self, prompt: str) -> AsyncIterator[Token]:
        for word in prompt.split():
            yield Token(text=word)
        if prompt.endswith("..."):
            await asyncio.get_running_loop().create_future()


def test_language_model() -> None:
    """The items of a stream, its end, and a cancel of the client stand in the same envelope."""
    speak(
        Model,
        """
        ada -> {"event":"generate","id":"g1","data":{"prompt":"to be"}}
        ada <- {"event":"token","id":"g1","data":{"text":"to"}}
        ada <- {"event":"token","id":"g1","data":{"text":"be"}}
        ada <- {"event":"complete","id":"g1","data":{}}
        ada -> {"event":"generate","id":"g2","data":{"prompt":"or not ..."}}
        ada <- {"event":"token","id":"g2","data":{"text":"or"}}
        ada <- {"event":"token","id":"g2","data":{"text":"not"}}
        ada <- {"event":"token","id":"g2","data":{"text":"..."}}
        ada -> {"event":"cancel","id":"g2"}
        ada <- {"event":"complete","id":"g2","data":{}}
        """,
    )


# ---------------------------------------------------------------------- JSON-RPC


class Position(BaseModel):
    line: int
    character: int


class Document(BaseModel):
    uri: str
    text: str = ""


class Hover(BaseModel):
    contents: str


class Diagnostics(BaseModel):
    type: Literal["textDocument/publishDiagnostics"] = "textDocument/publishDiagnostics"
    uri: str
    diagnostics: list[str]


class LanguageServer(Endpoint):
    envelope = JsonRpc()
    emits = [Diagnostics]

    def __init__(self, websocket: WebSocket) -> None:
        super().__init__(websocket)
        self.texts: dict[str, str] = {}

    @event
    async def on_initialize(self, processId: int | None, capabilities: dict[str, Any]) -> dict[str, Any]:
        return {"capabilities": {"hoverProvider": True}}

    @event("textDocument/didOpen")
    async def opened(self, textDocument: Document) -> None:
        self.texts[textDocument.uri] = textDocument.text
        found = [word for word in textDocument.text.split() if word == "undefined"]
        await self.send(Diagnostics(uri=textDocument.uri, diagnostics=found))

    @event("textDocument/hover")
    async def hover(self, textDocument: Document, position: Position) -> Hover | None:
        lines = self.texts[textDocument.uri].splitlines()
        if position.line >= len(lines):
            return None
        return Hover(contents=lines[position.line])

    @event
    async def on_shutdown(self) -> None: ...


def test_language_server() -> None:
    """JSON-RPC 2.0: requests, notifications of both sides, a batch, and its errors."""
    speak(
        LanguageServer,
        """
        ed -> {"jsonrpc":"2.0","id":0,"method":"initialize","params":{"processId":null,"capabilities":{}}}
        ed <- {"jsonrpc":"2.0","id":0,"result":{"capabilities":{"hoverProvider":true}}}
        ed -> {"jsonrpc":"2.0","method":"textDocument/didOpen","params":{
                "textDocument":{"uri":"file:///a.py","text":"x = undefined"}}}
        ed <- {"jsonrpc":"2.0","method":"textDocument/publishDiagnostics","params":{"uri":"file:///a.py","diagnostics":["undefined"]}}
        ed -> {"jsonrpc":"2.0","id":"h1","method":"textDocument/hover","params":{"textDocument":{"uri":"file:///a.py"},"position":{"line":0,"character":4}}}
        ed <- {"jsonrpc":"2.0","id":"h1","result":{"contents":"x = undefined"}}
        ed -> {"jsonrpc":"2.0","id":1,"method":"textDocument/hover","params":[{"uri":"file:///a.py"},{"line":9,"character":0}]}
        ed <- {"jsonrpc":"2.0","id":1,"result":null}
        ed -> [{"jsonrpc":"2.0","id":2,"method":"shutdown"},{"jsonrpc":"2.0","method":"shutdown"}]
        ed <- [{"jsonrpc":"2.0","id":2,"result":null}]
        ed -> {"jsonrpc":"2.0","id":3,"method":"textDocument/rename"}
        ed <- {"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"Method not found","data":{
                "code":"unknown_event","errors":[{"type":"literal_error","loc":["method"]}]}}}
        ed -> {"jsonrpc":"2.0","id":4,"method":"textDocument/hover","params":{"position":{"line":0,"character":4}}}
        ed <- {"jsonrpc":"2.0","id":4,"error":{"code":-32602,"message":"Invalid params","data":{
                "code":"validation_error","errors":[{"type":"missing","loc":["params","textDocument"]}]}}}
        ed -> {"jsonrpc":"2.0"
        ed <- {"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":{
                "code":"parse_error","errors":[{"type":"json_invalid","loc":[]}]}}}
        """,
    )
