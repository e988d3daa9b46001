"""fastapi-rpckit's subscription: JSON-RPC, its frames validated and written by pydantic. Needs Python 3.12."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi_rpckit import RpcChannel, RpcModel, RpcService, create_router

VALIDATES = "pydantic, input and items"


class Generate(RpcModel):
    words: list[str]
    paused: bool = False


class Token(RpcModel):
    text: str


chat = RpcChannel("chat")


@chat.subscription()
async def generate(params: Generate) -> AsyncIterator[Token]:
    for word in params.words:
        if params.paused:
            await asyncio.sleep(0)
        yield Token(text=word)


service = RpcService()
service.socket("/", name="chat", channels=(chat,))
app = FastAPI()
app.include_router(create_router(service))
