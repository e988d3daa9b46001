"""What most people write: `for ws in clients: await ws.send_json(data)` on FastAPI."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel

VALIDATES = "pydantic, input"


class Message(BaseModel):
    type: str
    room: str
    msg: str
    sender: int | None = None


app = FastAPI()
clients: list[WebSocket] = []


@app.websocket("/")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    clients.append(websocket)
    try:
        while True:
            message = Message(**await websocket.receive_json())
            data = message.model_dump()
            for ws in clients:
                await ws.send_json(data)
    except WebSocketDisconnect:
        clients.remove(websocket)
