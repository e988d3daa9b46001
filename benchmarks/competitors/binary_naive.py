"""What most people write for binary frames: receive_bytes(), send_bytes()."""

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

VALIDATES = "nothing"

app = FastAPI()


@app.websocket("/")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_bytes(await websocket.receive_bytes())
    except WebSocketDisconnect:
        pass
