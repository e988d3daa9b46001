"""Django Channels' JSON consumer on uvicorn; the consumer validates with pydantic, since Channels does not."""

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path
from pydantic import BaseModel

VALIDATES = "pydantic by hand, input"


class Message(BaseModel):
    type: str
    room: str
    msg: str
    sender: int | None = None


class Chat(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: dict[str, object]) -> None:
        if content["type"] == "message":
            message = Message(**content)
            await self.send_json(message.model_dump())


settings.configure(SECRET_KEY="benchmark", INSTALLED_APPS=["channels"])
django.setup()
app = ProtocolTypeRouter({"websocket": URLRouter([path("", Chat.as_asgi())])})
