"""Pydantic models go in and out unchanged. Run `python -m examples.pydantic_models`."""

import sys
from typing import Annotated, Literal, Union

import uvicorn
from pydantic import BaseModel, Field, PositiveInt, SecretStr, field_validator

from socketsundso import EventError, EventMessage, WebSocketHandlingEndpoint, event


class Card(BaseModel):
    kind: Literal["card"]
    number: Annotated[str, Field(pattern=r"^\d{12,19}$")]


class Transfer(BaseModel):
    kind: Literal["transfer"]
    iban: str

    @field_validator("iban")
    @classmethod
    def compact(cls, value: str) -> str:
        return value.replace(" ", "").upper()


Payment = Annotated[Union[Card, Transfer], Field(discriminator="kind")]


class Receipt(BaseModel):
    order: int
    paid_by: str = Field(serialization_alias="paidBy")
    note: str | None = None


class Rename(EventMessage):
    """A handler whose only parameter is an EventMessage takes the whole message."""

    name: Annotated[str, Field(min_length=1)]


class Shop(WebSocketHandlingEndpoint):
    include_input = False  # what a client sent is not echoed in error frames

    @event
    async def on_pay(self, order: PositiveInt, payment: Payment) -> Receipt:
        return Receipt(order=order, paid_by=payment.kind)

    @event("receipt", response_model=Receipt, response_model_exclude_none=True)
    async def find_receipt(self, order: PositiveInt) -> dict[str, object]:
        if order > 100:
            raise EventError("not_found", f"no order {order}")
        return {"order": order, "paid_by": "card"}

    @event
    async def on_login(self, password: SecretStr) -> dict[str, int]:
        return {"length": len(password.get_secret_value())}

    @event
    async def on_rename(self, message: Rename) -> dict[str, str]:
        return {"name": message.name}


if __name__ == "__main__":
    uvicorn.run(Shop, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
