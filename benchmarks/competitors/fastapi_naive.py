"""What most people write: receive_json, Model(**data), send_json(model_dump()). Validates input with pydantic."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ValidationError

VALIDATES = "pydantic, input"


class Message(BaseModel):
    type: str
    room: str
    msg: str
    sender: int | None = None


app = FastAPI()


@app.websocket("/")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            data = await websocket.receive_json()
            if data["type"] == "message":
                try:
                    message = Message(**data)
                except ValidationError as exc:
                    await websocket.send_json({"type": "error", "errors": exc.errors()})
                    continue
                await websocket.send_json(message.model_dump())
    except WebSocketDisconnect:
        pass
