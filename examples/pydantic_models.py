"""Pydantic models go in and out unchanged. Run `python -m examples.pydantic_models`."""

import sys
from typing import Annotated, Literal, Union

import uvicorn
from pydantic import BaseModel, Field, PositiveInt, SecretStr, field_validator

from socketsundso import EventError, WebSocketHandlingEndpoint, event


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


class Rename(BaseModel):
    """Change the name of the shop."""

    type: Literal["rename"]
    name: Annotated[str, Field(min_length=1)]


class Close(BaseModel):
    """Close the shop for a while."""

    type: Literal["close_shop"]
    minutes: PositiveInt = 60


Change = Annotated[Union[Rename, Close], Field(discriminator="type")]


class Changed(BaseModel):
    what: str


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

    @event  # a union that is the whole message: the events "rename" and "close_shop"
    async def on_change(self, change: Change) -> Changed:
        if isinstance(change, Rename):
            return Changed(what=change.name)
        return Changed(what=f"closed for {change.minutes} minutes")


if __name__ == "__main__":
    uvicorn.run(Shop, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
