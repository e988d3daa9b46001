"""Subprotocols as clients see them, over real sockets: what is accepted, what is refused, what closes fit."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import websockets.asyncio.client
import websockets.exceptions

from socketsundso import Endpoint, event
from tests.server.serving import run, serving
from tests.server.test_clients import NODE, NODE_WS, program

SERVERS = ["ours", "websockets-sansio", "wsproto"]


class Versions(Endpoint):
    subprotocols = ("chat.v2", "chat.v1")

    @event
    async def on_which(self) -> Any:
        return {"which": self.subprotocol}

    @event
    async def on_bye(self) -> None:
        await self.close(4000, "ü" * 100)


def served(app: Any, server: str) -> Any:
    return serving(app, **({} if server == "ours" else {"ws": server}))


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(None, None), (["chat.v1"], "chat.v1"), (["x", "chat.v1", "chat.v2"], "chat.v2")],
)
def test_what_a_client_is_told(server: str, offered: Any, chosen: str | None) -> None:
    """`websockets` and aiohttp see the one that the endpoint has in `self.subprotocol`."""

    async def main() -> None:
        async with served(Versions, server) as at:
            async with websockets.asyncio.client.connect(at.url, subprotocols=offered) as client:
                assert client.subprotocol == chosen
                await client.send('{"type":"which"}')
                assert json.loads(await client.recv()) == {"type": "which", "which": chosen}
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(at.url.replace("ws", "http", 1), protocols=offered or ()) as other,
            ):
                assert other.protocol == chosen

    run(main())


@pytest.mark.parametrize("server", SERVERS)
def test_an_offer_that_none_fits_is_answered_400(server: str) -> None:
    """With the names in the body, and no connection that would have to time out."""

    async def main() -> None:
        async with served(Versions, server) as at:
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                await websockets.asyncio.client.connect(at.url, subprotocols=["chat.v9"])  # type: ignore[list-item]
            response = refused.value.response
            assert response.status_code == 400
            assert b"chat.v2, chat.v1" in response.body

    run(main())


@pytest.mark.parametrize("server", SERVERS)
def test_a_reason_that_is_too_long_still_closes(server: str) -> None:
    """The code arrives, with as much of the reason as a frame has room for."""

    async def main() -> None:
        async with served(Versions, server) as at, websockets.asyncio.client.connect(at.url) as client:
            await client.send('{"type":"bye"}')
            with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "ü" * 61)

    run(main())


NODE_SCRIPT = """
const WebSocket = require(process.argv[1]);
const outcome = (url, names) => new Promise((resolve) => {
  const client = new WebSocket(url, names);
  client.on("open", () => { resolve("open " + client.protocol); client.close(); });
  client.on("error", (error) => resolve("error " + error.message));
});
(async () => {
  const [url, offers] = [process.argv[2], JSON.parse(process.argv[3])];
  const outcomes = [];
  for (const names of offers) outcomes.push(await outcome(url, names));
  console.log(JSON.stringify(outcomes));
})();
"""


@pytest.mark.skipif(NODE is None or not NODE_WS.is_dir(), reason="no node, or no `ws`: .ci/setup-e2e installs it")
@pytest.mark.parametrize("server", SERVERS)
def test_node_opens_what_it_offered(server: str) -> None:
    """`ws` fails a connection whose offer was not answered, or answered with another name."""

    async def main() -> None:
        async with served(Versions, server) as at, asyncio.timeout(60):
            offers = [["chat.v1"], ["x", "chat.v2"], [], ["nope"]]
            printed = await program(str(NODE), "-e", NODE_SCRIPT, str(NODE_WS), at.url, json.dumps(offers))
            assert json.loads(printed) == [
                "open chat.v1",
                "open chat.v2",
                "open ",
                "error Unexpected server response: 400",
            ]

    run(main())
