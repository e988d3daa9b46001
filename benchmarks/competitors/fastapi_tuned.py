"""FastAPI by somebody who measured: one discriminated TypeAdapter, validate_json, model_dump_json."""

from typing import Annotated, Literal

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

VALIDATES = "pydantic, input"


class Message(BaseModel):
    type: Literal["message"]
    room: str
    msg: str
    sender: int | None = None


class Ping(BaseModel):
    type: Literal["ping"]


adapter: TypeAdapter[Message | Ping] = TypeAdapter(Annotated[Message | Ping, Field(discriminator="type")])
app = FastAPI()


@app.websocket("/")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            try:
                message = adapter.validate_json(await websocket.receive_text())
            except ValidationError as exc:
                await websocket.send_text(f'{{"type":"error","errors":{exc.json()}}}')
                continue
            await websocket.send_text(message.model_dump_json())
    except WebSocketDisconnect:
        pass
