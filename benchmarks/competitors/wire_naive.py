"""What most people write for the wire that their clients speak: a pydantic union of its frames, one loop for each."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

VALIDATES = "pydantic, input"


class Fields(BaseModel):
    room: str
    msg: str
    sender: int | None = None


class Message(Fields):
    type: Literal["message"]
    ref: int


class Ping(BaseModel):
    type: Literal["ping"]
    ref: int


class RenamedMessage(Fields):
    action: Literal["message"]
    requestId: int  # as the clients spell it


class RenamedPing(BaseModel):
    action: Literal["ping"]
    requestId: int  # as the clients spell it


class NestedMessage(BaseModel):
    event: Literal["message"]
    ref: int
    payload: Fields


class NestedPing(BaseModel):
    event: Literal["ping"]
    ref: int


class RpcMessage(BaseModel):
    jsonrpc: Literal["2.0"]
    id: int
    method: Literal["message"]
    params: Fields


class RpcPing(BaseModel):
    jsonrpc: Literal["2.0"]
    id: int
    method: Literal["ping"]


ArrayMessage = tuple[Literal["message"], int, Fields]
ArrayPing = tuple[Literal["ping"], int]
app = FastAPI()


def route(path: str, union: Any, said: Any, answer: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(union)

    @app.websocket(path)
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                data = await websocket.receive_json()
                try:
                    message = adapter.validate_python(data)
                except ValidationError as exc:
                    await websocket.send_json(answer("error", None, {"errors": exc.errors()}))
                    continue
                ref, fields = said(message)
                await websocket.send_json(answer("message", ref, fields))
        except WebSocketDisconnect:
            pass


route(
    "/flat",
    Annotated[Message | Ping, Field(discriminator="type")],
    lambda message: (message.ref, message.model_dump(exclude={"type", "ref"})),
    lambda kind, ref, fields: {"type": kind, "ref": ref, **fields},
)
route(
    "/renamed",
    Annotated[RenamedMessage | RenamedPing, Field(discriminator="action")],
    lambda message: (message.requestId, message.model_dump(exclude={"action", "requestId"})),
    lambda kind, ref, fields: {"action": kind, "requestId": ref, **fields},
)
route(
    "/nested",
    Annotated[NestedMessage | NestedPing, Field(discriminator="event")],
    lambda message: (message.ref, message.payload.model_dump()),
    lambda kind, ref, fields: {"event": kind, "ref": ref, "payload": fields},
)
route(
    "/arrays",
    ArrayMessage | ArrayPing,
    lambda message: (message[1], message[2].model_dump()),
    lambda kind, ref, fields: [kind, ref, fields],
)
route(
    "/rpc",
    Annotated[RpcMessage | RpcPing, Field(discriminator="method")],
    lambda message: (message.id, message.params.model_dump()),
    lambda kind, ref, fields: {"jsonrpc": "2.0", "result": fields, "id": ref},
)
