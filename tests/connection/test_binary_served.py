"""Binary frames under real servers, ours and uvicorn's own, with a real client."""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from socketsundso import Endpoint, RateLimit, binary, event
from tests.backplanes.listener import until
from tests.rooms import serving
from tests.rooms.serving import OURS, WAIT_S, run


class Echo(Endpoint):
    @binary
    async def on_frame(self, frame: memoryview) -> bytes:
        return bytes(frame)

    @event
    async def on_say(self, msg: str) -> dict[str, str]:
        return {"msg": msg}


class Conversing(Echo):
    """The same with the loop of those that converse."""

    acknowledge = True


@pytest.fixture(params=["websockets-sansio", "wsproto", OURS], ids=["uvicorn", "wsproto", "ours"], autouse=True)
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "protocol", request.param)


async def received(connection: Any) -> Any:
    async with asyncio.timeout(WAIT_S):
        return await connection.recv()


@pytest.mark.parametrize("endpoint", [Echo, Conversing])
def test_frames_of_every_size_come_back_as_they_were(endpoint: type[Endpoint]) -> None:
    """Around each boundary of the header's length, in fragments too, and a flood of them in order with messages."""

    async def main() -> None:
        async with serving.serving(endpoint) as client:
            ws = (await client()).connection
            frames = [bytes(size) for size in (0, 1, 125, 126, 127, 65_535, 65_536, 300_000)]
            await ws.send([b"in ", b"", b"parts"])
            for frame in frames:
                await ws.send(frame)
            for expected in (b"in parts", *frames):
                assert await received(ws) == expected
            for number in range(500):
                await ws.send(b"%d" % number)
                await ws.send(json.dumps({"type": "say", "msg": str(number)}))
            for number in range(500):
                assert await received(ws) == b"%d" % number
                assert json.loads(await received(ws))["msg"] == str(number)

    run(main)


@pytest.mark.parametrize("of", [Echo, Conversing])
def test_bytes_are_binary_where_others_wait_behind(of: type[Endpoint]) -> None:
    """Replies that follow one another at once may be written together, which is for texts."""

    class Slow(of):  # type: ignore[valid-type,misc]
        @binary
        async def on_frame(self, frame: bytes) -> bytes:
            await asyncio.sleep(0)
            return frame

    async def main() -> None:
        async with serving.serving(Slow) as client:
            ws = (await client()).connection
            for number in range(5):
                await ws.send(b"\xff%d" % number)
                await ws.send(json.dumps({"type": "say", "ref": number, "msg": "hi"}))
            for number in range(5):
                assert await received(ws) == b"\xff%d" % number
                assert json.loads(await received(ws)) == {"type": "say", "ref": number, "msg": "hi"}

    run(main)


@pytest.mark.parametrize("frame", [b"\x00" * 1001, [b"\x00" * 600, b"\x00" * 600]], ids=["whole", "in parts"])
def test_one_that_is_too_large_closes(frame: Any) -> None:
    """With 1009, and what fits is answered."""

    async def main() -> None:
        async with serving.serving(Echo, ws_max_size=1000) as client:
            opened = await client()
            await opened.connection.send(bytes(1000))
            assert await received(opened.connection) == bytes(1000)
            await opened.connection.send(frame)
            assert await opened.closed() == 1009

    run(main)


def test_who_floods_a_slow_method_is_held_back_and_loses_nothing() -> None:
    """The server reads no more than it may keep."""

    class Slow(Endpoint):
        @binary
        async def on_frame(self, frame: bytes) -> bytes:
            for _ in range(3):
                await asyncio.sleep(0)
            return frame[:4]

    async def main() -> None:
        async with serving.serving(Slow) as client:
            ws = (await client()).connection

            async def flood() -> None:
                for number in range(200):
                    await ws.send(number.to_bytes(4) + bytes(20_000))

            flooding = asyncio.create_task(flood())
            assert [await received(ws) for _ in range(200)] == [number.to_bytes(4) for number in range(200)]
            await flooding

    run(main)


def test_too_many_are_refused_and_close_in_the_end() -> None:
    """As messages are: an error frame each, and 4429 for the 20th in a row."""

    class Limited(Endpoint):
        rate_limit = RateLimit(1, per_s=3600)

        @binary
        async def on_frame(self, frame: bytes) -> bytes:
            return frame

    async def main() -> None:
        async with serving.serving(Limited) as client:
            opened = await client()
            for _ in range(30):
                await opened.connection.send(b"x")
            assert await received(opened.connection) == b"x"
            assert json.loads(await received(opened.connection))["code"] == "rate_limited"
            assert await opened.closed() == 4429

    run(main)


def test_frames_are_compressed_where_that_was_negotiated() -> None:
    """What came compressed is handed over as it was; a reply that is large enough is compressed."""
    noise = b"".join(zlib.crc32(b"%d" % n).to_bytes(4) for n in range(100))

    async def main() -> None:
        async with serving.serving(Echo) as client:
            port = (await client()).connection.remote_address[1]
            async with connect(f"ws://127.0.0.1:{port}/", compression="deflate") as ws:
                taken: list[int] = []
                received_data = ws.protocol.receive_data
                ws.protocol.receive_data = lambda data: (taken.append(len(data)), received_data(data))[1]
                for frame in (b"", noise, bytes(100_000)):
                    await ws.send(frame)
                    assert await received(ws) == frame
                assert sum(taken) < 2_000

    run(main)


def test_a_reply_to_who_has_left_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged, and the disconnect is told once."""
    closed: list[int] = []

    class Late(Endpoint):
        @binary
        async def on_frame(self, frame: bytes) -> bytes:
            await self.gone
            return frame

        async def on_disconnect(self, close_code: int) -> None:
            closed.append(close_code)

    async def main() -> None:
        async with serving.serving(Late) as client:
            opened = await client()
            await opened.connection.send(b"x")
            await opened.connection.close(4001)
            await until(lambda: closed)

    with caplog.at_level(logging.WARNING):
        run(main)
    assert closed == [4001]
    assert caplog.text == ""


def test_a_middleware_sees_every_frame() -> None:
    """One that is around ASGI's functions, in both directions."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def noted_receive() -> Any:
            seen.append(await receive())
            return seen[-1]

        async def noted_send(message: Any) -> None:
            seen.append(message)
            await send(message)

        await Echo(scope, noted_receive, noted_send)

    async def main() -> None:
        async with serving.serving(app) as client:
            ws = (await client()).connection
            await ws.send(b"x")
            assert await received(ws) == b"x"

    run(main)
    assert [each["bytes"] for each in seen if each.get("bytes") is not None] == [b"x", b"x"]


def test_without_a_method_for_them_binary_frames_are_json() -> None:
    """Anything else closes, as ever."""

    class Plain(Endpoint):
        @event
        async def on_say(self, msg: str) -> dict[str, str]:
            return {"msg": msg}

    async def main() -> None:
        async with serving.serving(Plain) as client:
            for frame, code in ((b"\xff", 1007), (b"", 1003), (b"pcm", 1003)):
                opened = await client()
                await opened.connection.send(b'{"type":"say","msg":"hi"}')
                assert json.loads(await received(opened.connection)) == {"type": "say", "msg": "hi"}
                await opened.connection.send(frame)
                with pytest.raises(ConnectionClosed):
                    await received(opened.connection)
                assert opened.connection.close_code == code

    run(main)
