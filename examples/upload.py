"""
A table that a client sends row by row: `python -m examples.upload`, then connect to /ws.

    {"type":"import","ref":1,"account":"ada"}                          then one frame for each row:
    {"type":"item","ref":1,"item":{"day":"2026-03-01","amount":"9.90"}}
    {"type":"complete","ref":1}                                        and {"type":"imported",...} is the answer

The rows are written in batches, and the client is held back meanwhile: it may be 16 rows ahead, and `more` says how
many more the server takes. Rows that are not valid are left out, and told of at the end.
"""

import sys
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any

import anyio
import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import WebSocketHandlingEndpoint, event

BATCH = 100
MAX_REFUSED = 10


class Row(BaseModel):
    day: date
    amount: Decimal


class Refused(BaseModel):
    """{"row":3,"msg":"..."}, counted from 1."""

    row: int
    msg: str


class Imported(BaseModel):
    type: str = "imported"
    rows: int = 0
    total: Decimal = Decimal()
    refused: list[Refused] = []


class Ledger:
    """A stand-in for a database, which takes its time."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    async def write(self, rows: list[Row]) -> None:
        await anyio.sleep(0.001)
        self.rows += rows


ledgers: dict[str, Ledger] = {}


class Importer(WebSocketHandlingEndpoint):
    max_streams = 2

    @event(timeout_s=3600)
    async def on_import(self, account: str, rows: AsyncIterator[Row]) -> Imported:
        result = Imported()
        ledger = ledgers.setdefault(account, Ledger())
        async for batch in batches(rows, result):
            await ledger.write(batch)
            result.rows += len(batch)
            result.total += sum(row.amount for row in batch)
            await self.send({"type": "progress", "account": account, "rows": result.rows})
        return result

    @event
    async def on_status(self, account: str) -> dict[str, Any]:
        return {"rows": len(ledgers[account].rows) if account in ledgers else 0}


async def batches(rows: AsyncIterator[Row], result: Imported) -> AsyncIterator[list[Row]]:
    """The valid ones, a hundred at a time; the first that are not are noted."""
    batch: list[Row] = []
    number = 0
    while True:
        number += 1
        try:
            batch.append(await anext(rows))
        except StopAsyncIteration:
            break
        except ValidationError as exc:
            if len(result.refused) >= MAX_REFUSED:
                raise
            result.refused.append(Refused(row=number, msg=exc.errors()[0]["msg"]))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


app = Starlette(routes=[WebSocketRoute("/ws", Importer)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, ws="socketsundso.server:WebSocketProtocol")
