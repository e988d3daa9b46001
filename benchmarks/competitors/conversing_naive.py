"""What most people write, with a handler that waits, and with one that answers in many messages."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel

VALIDATES = "pydantic, input"


class Message(BaseModel):
    type: str
    room: str
    msg: str
    sender: int | None = None


class Generate(BaseModel):
    type: str
    ref: int
    words: list[str]
    paused: bool = False


async def generated(asked: Generate) -> AsyncIterator[dict[str, Any]]:
    for word in asked.words:
        if asked.paused:
            await asyncio.sleep(0)
        yield {"type": "token", "text": word, "ref": asked.ref}


app = FastAPI()


@app.websocket("/")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            data = await websocket.receive_json()
            if data["type"] == "message":
                await websocket.send_json(Message(**data).model_dump())
            elif data["type"] == "paused":
                message = Message(**data)
                await asyncio.sleep(0)
                await websocket.send_json(message.model_dump())
            elif data["type"] == "generate":
                asked = Generate(**data)
                async for item in generated(asked):
                    await websocket.send_json(item)
                await websocket.send_json({"type": "complete", "ref": asked.ref})
    except WebSocketDisconnect:
        pass
