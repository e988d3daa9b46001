"""Dependencies over real servers: our own protocol and uvicorn's, with real clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends as FastAPIDepends
from fastapi import FastAPI, Header
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from socketsundso import Depends, Endpoint, EventError, event
from socketsundso.server import WebSocketProtocol
from tests.server.serving import run, serving, until

both_servers = pytest.mark.parametrize("protocol", [WebSocketProtocol, "websockets-sansio"], ids=["ours", "uvicorn's"])


async def ask(client: ClientConnection, **message: Any) -> Any:
    await client.send(json.dumps(message))
    return json.loads(await client.recv())


class Pool:
    """So many connections and no more; who waits for one gets it in turn."""

    def __init__(self, size: int) -> None:
        self.free, self.used, self.most = asyncio.Semaphore(size), 0, 0
        self.log: list[str] = []


def application(pool: Pool) -> FastAPI:
    async def session() -> AsyncIterator[str]:
        async with pool.free:
            pool.used += 1
            pool.most = max(pool.most, pool.used)
            try:
                yield "session"
            except Exception as exc:
                pool.log.append(f"rolled back {type(exc).__name__}")
                raise
            finally:
                await asyncio.sleep(0)
                pool.used -= 1

    async def user(authorization: Annotated[str, Header()]) -> str:
        return authorization.removeprefix("Bearer ")

    async def client() -> AsyncIterator[str]:
        pool.log.append("client opened")
        yield "client"
        pool.log.append("client closed")

    app = FastAPI()

    @app.websocket("/ws")
    class Shop(Endpoint):
        @event
        async def on_buy(
            self,
            item: str,
            session: Annotated[str, Depends(session, scope="function")],
            user: Annotated[str, FastAPIDepends(user)],
        ) -> Any:
            await asyncio.sleep(0)
            if item == "moon":
                raise EventError("sold_out")
            return {"item": item, "for": user, "with": session}

        @event
        async def on_keep(self, client: Annotated[str, Depends(client, scope="connection")]) -> Any:
            return {"client": client}

        @event
        async def on_wait(self, session: Annotated[str, Depends(session)]) -> None:
            pool.log.append("waiting")
            try:
                await asyncio.Event().wait()
            finally:
                pool.log.append("cancelled")

        async def on_disconnect(self, close_code: int) -> None:
            pool.log.append(f"gone {close_code}")

    return app


def headers(user: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {user}"}


@both_servers
def test_many_sockets_share_a_pool_of_two(protocol: Any) -> None:
    """Fifty at once, each message with a session of its own; nobody holds one between two messages."""

    async def main() -> None:
        pool = Pool(2)
        async with serving(application(pool), ws=protocol) as served:

            async def buy(number: int) -> None:
                async with connect(f"{served.url}/ws", additional_headers=headers(f"u{number}")) as client:
                    for turn in range(4):
                        bought = await ask(client, type="buy", item=f"i{turn}", ref=turn)
                        assert bought == {
                            "type": "buy", "item": f"i{turn}", "for": f"u{number}", "with": "session", "ref": turn,
                        }  # fmt: skip

            await asyncio.gather(*map(buy, range(50)))
            await served.idle()
            assert (pool.most, pool.used) == (2, 0)

    run(main())


@both_servers
def test_an_error_of_the_handler_rolls_back_and_is_answered(protocol: Any) -> None:
    """And the connection goes on."""

    async def main() -> None:
        pool = Pool(1)
        async with (
            serving(application(pool), ws=protocol) as served,
            connect(f"{served.url}/ws", additional_headers=headers("ada")) as client,
        ):
            assert (await ask(client, type="buy", item="moon"))["code"] == "sold_out"
            assert (await ask(client, type="buy", item="tea"))["item"] == "tea"
            assert pool.log == ["rolled back EventError"]

    run(main())


@both_servers
def test_a_handshake_without_its_header_is_refused(protocol: Any) -> None:
    """403, as of FastAPI's own endpoints."""

    async def main() -> None:
        async with serving(application(Pool(1)), ws=protocol) as served:
            with pytest.raises(InvalidStatus) as info:
                await connect(f"{served.url}/ws")
            assert info.value.response.status_code == 403

    run(main())


@both_servers
def test_what_is_the_connections_is_closed_behind_it(protocol: Any) -> None:
    """Opened once, closed after on_disconnect."""

    async def main() -> None:
        pool = Pool(1)
        async with serving(application(pool), ws=protocol) as served:
            async with connect(f"{served.url}/ws", additional_headers=headers("ada")) as client:
                for _ in range(3):
                    assert (await ask(client, type="keep"))["client"] == "client"
            await served.idle()
        assert pool.log == ["client opened", "gone 1000", "client closed"]

    run(main())


@both_servers
def test_a_shutdown_tears_down(protocol: Any) -> None:
    """The handler is cancelled, its session is given back though that awaits, then what is the connection's."""

    async def main() -> None:
        pool = Pool(1)
        async with serving(application(pool), ws=protocol, timeout_graceful_shutdown=0.05) as served:
            client = await connect(f"{served.url}/ws", additional_headers=headers("ada"))
            await ask(client, type="keep")
            await client.send(json.dumps({"type": "wait"}))
            await until(lambda: "waiting" in pool.log)
        await client.close()
        await until(lambda: pool.log[-1] == "client closed")
        assert pool.log == ["client opened", "waiting", "cancelled", "gone 1012", "client closed"]
        assert pool.used == 0

    run(main())
