"""MessagePack under real servers, with real clients: `websockets`, and `@msgpack/msgpack` in Node."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect

from socketsundso import Endpoint, Keep, event
from tests.server.serving import run, serving
from tests.server.test_clients import NODE, NODE_MODULES, NODE_WS, program

SERVERS = ["ours", "websockets-sansio", "wsproto"]
NODE_MSGPACK = NODE_MODULES / "@msgpack" / "msgpack"


class Chat(Endpoint):
    codecs = ["json", "msgpack"]
    history = {"doc:*": Keep(messages=10)}
    backplane = "memory://codecs-served"
    presence_events = True

    @event
    async def enter(self, room: str) -> dict[str, str]:
        await self.join(room)
        return {"room": room}

    @event
    async def shout(self, room: str, msg: str, n: int = 0) -> None:
        await self.broadcast({"type": "shouted", "msg": msg, "n": n}, room)

    @event
    async def count(self, numbers: dict[int, int], at: str = "") -> dict[str, Any]:
        return {"sum": sum(numbers.values()), "first": next(iter(numbers)), "at": at}


def served(server: str) -> Any:
    return serving(Chat, **({} if server == "ours" else {"ws": server}))


async def until(client: Any, kind: str, decode: Any) -> dict[str, Any]:
    while True:
        async with asyncio.timeout(5):
            message: dict[str, Any] = decode(await client.recv())
        if message["type"] == kind:
            return message


@pytest.mark.parametrize("server", SERVERS)
def test_members_of_one_room_in_different_codecs(server: str) -> None:
    """Numbered messages, the position, presence, a resume: each in what its reader has negotiated."""

    async def main() -> None:
        async with (
            served(server) as at,
            connect(at.url, subprotocols=["socketsundso.msgpack"]) as packed,  # type: ignore[list-item]
            connect(at.url) as plain,
        ):
            room = f"doc:{server}"
            await packed.send(msgspec.msgpack.encode({"type": "enter", "ref": 1, "room": room}))
            await plain.send(json.dumps({"type": "enter", "ref": 1, "room": room}))
            for client, decode in ((packed, msgspec.msgpack.decode), (plain, json.loads)):
                position = await until(client, "room_position", decode)
                assert (position["room"], position["seq"]) == (room, 0)
            await plain.send(json.dumps({"type": "shout", "room": room, "msg": "hi", "n": "1"}))
            expected = {"type": "shouted", "msg": "hi", "n": 1, "room": room, "seq": 1}
            assert await until(plain, "shouted", json.loads) == expected
            assert await until(packed, "shouted", msgspec.msgpack.decode) == expected
            async with connect(at.url, subprotocols=["socketsundso.msgpack"]) as again:  # type: ignore[list-item]
                asked = {room: {"epoch": position["epoch"], "seq": 0}}
                await again.send(msgspec.msgpack.encode({"type": "resume", "ref": 1, "rooms": asked}))
                assert await until(again, "shouted", msgspec.msgpack.decode) == expected

    run(main())


NODE_SCRIPT = """
const WebSocket = require(process.argv[1]);
const { encode, decode } = require(process.argv[2]);
const client = new WebSocket(process.argv[3], ["socketsundso.msgpack"]);
const pack = (message) => encode(message, { ignoreUndefined: true });
const got = [];
client.on("open", () => {
  client.send(pack({ type: "count", ref: 1, numbers: { 1: 2, 3: 4.5 - 0.5 }, at: undefined }));
  client.send(pack({ type: "count", ref: 2, numbers: { one: 1 } }));
  client.send(pack({ type: "count", ref: 3, numbers: new Map(), at: new Date(0) }));
  client.send(encode({ type: "enter", room: "r", ref: 4 }));
});
client.on("message", (data, isBinary) => {
  const message = decode(data);
  if (message.ref) got.push([isBinary, message]);
  if (got.length === 4) { client.close(); console.log(JSON.stringify(got)); }
});
"""


@pytest.mark.skipif(
    NODE is None or not NODE_WS.is_dir() or not NODE_MSGPACK.is_dir(),
    reason="no node, no `ws` or no `@msgpack/msgpack`: .ci/setup-e2e installs them",
)
@pytest.mark.parametrize("server", SERVERS)
def test_javascript(server: str) -> None:
    """Text keys for integers, whole floats, a Date: what `@msgpack/msgpack` writes is read, and it reads answers."""

    async def main() -> None:
        async with served(server) as at:
            printed = await program(str(NODE), "-e", NODE_SCRIPT, str(NODE_WS), str(NODE_MSGPACK), at.url)
            first, wrong, third, entered = json.loads(printed)
            assert first == [True, {"type": "count", "ref": 1, "sum": 6, "first": 1, "at": ""}]
            assert wrong[1]["errors"][0]["loc"] == ["numbers", "one", "[key]"]
            assert third[1]["code"] == "internal_error"  # of an empty map, behind the validation
            assert entered == [True, {"type": "enter", "ref": 4, "room": "r"}]

    run(main())
