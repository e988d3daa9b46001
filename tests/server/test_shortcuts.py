"""
`scope["extensions"]["socketsundso.pull"]` and `Push.write`: messages without a coroutine for each.

What an endpoint does with them is compared with what it does behind a middleware, where it uses ASGI's functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import WebSocketHandlingEndpoint, event
from socketsundso.server import Pull, Push
from tests.server.serving import (
    BINARY,
    PING,
    TEXT,
    Peer,
    closing,
    masked,
    peer,
    request,
    run,
    sent_by_asgi,
    serving,
    until,
)


class Kept:
    """An application that accepts, and leaves its extensions and functions to the test until it may end."""

    def __init__(self) -> None:
        self.kept: list[tuple[Pull, Push]] = []
        self.end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pull, push = scope["extensions"]["socketsundso.pull"], scope["extensions"]["socketsundso.push"]
        assert push.write(b"too early") is False
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        self.receive, self.send = receive, send
        self.kept.append((pull, push))
        await self.end.wait()


@contextlib.asynccontextmanager
async def talking() -> AsyncIterator[tuple[Kept, Pull, Push, Peer]]:
    """One connection: its application, its extensions and its client."""
    app = Kept()
    async with serving(app) as served, peer(served) as client:
        await until(lambda: app.kept)
        yield app, *app.kept[0], client
        app.end.set()


def test_texts_come_as_they_are_and_everything_else_as_a_message() -> None:
    """In order, there already or waited for, in one frame or several; the disconnect as often as it is asked for."""

    async def main() -> None:
        async with talking() as (app, pull, _, client):
            assert pull.take() is None
            arrival = asyncio.ensure_future(pull.arrival())
            client.say(
                *(masked(TEXT, b"a"), masked(BINARY, b"b"), masked(TEXT, b"in ", fin=False), masked(0, b"parts")),
                *(masked(TEXT, b"c"), closing(4001, "bye")),
            )
            assert await arrival == "a"
            assert pull.take() == {"type": "websocket.receive", "bytes": b"b"}
            assert pull.take() == "in parts"
            assert await app.receive() == {"type": "websocket.receive", "text": "c"}
            last = {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
            first = pull.take()
            assert [first or await pull.arrival(), pull.take(), await app.receive()] == [last] * 3

    run(main())


def test_two_tasks_may_wait() -> None:
    """One in ASGI's `receive`, one in `arrival`: each message goes to one of them, none is lost, none doubled."""

    async def main() -> None:
        async with talking() as (app, pull, _, client):
            tasks = [asyncio.ensure_future(app.receive()), asyncio.ensure_future(pull.arrival())]
            await asyncio.sleep(0)
            client.say(masked(TEXT, b"1"))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            client.say(masked(TEXT, b"2"))
            got = await asyncio.gather(*tasks)
            assert sorted(each if isinstance(each, str) else each["text"] for each in got) == ["1", "2"]

    run(main())


def test_a_cancelled_wait_is_no_obstacle() -> None:
    """After `arrival` was cancelled messages go on, by either way."""

    async def main() -> None:
        async with talking() as (app, pull, _, client):
            for again in (pull.arrival, app.receive):
                waiting = pull.arrival()
                assert isinstance(waiting, asyncio.Future)
                waiting.cancel()
                client.say(masked(TEXT, b"x"))
                item = pull.take() or await again()
                assert item in ("x", {"type": "websocket.receive", "text": "x"})

    run(main())


def test_each_stands_for_its_own_connections_functions_only() -> None:
    """Not for those of another connection, and not for what is wrapped around them."""

    async def main() -> None:
        app = Kept()
        async with serving(app) as served, peer(served), peer(served):
            await until(lambda: len(app.kept) == 2)
            (pull, push), (last_pull, last_push) = app.kept

            async def receive() -> Any:
                return await app.receive()

            async def send(message: Any) -> None:
                await app.send(message)

            assert last_pull.stands_for(app.receive)
            assert last_push.stands_for(app.send)
            assert not pull.stands_for(app.receive)
            assert not push.stands_for(app.send)
            assert not last_pull.stands_for(receive)
            assert not last_push.stands_for(send)
            app.end.set()

    run(main())


def test_all_ways_to_send_keep_their_order() -> None:
    """`Push.write`, `write_binary`, `push` and `websocket.send`, also when several loop turns lie between."""

    async def main() -> None:
        async with talking() as (app, _, push, client):
            for number in range(300):
                text = str(number) * (1 + number % 100)
                if number % 4 == 0:
                    assert push.write(text.encode())
                elif number % 4 == 1:
                    assert push.push(Push.frame(text))
                elif number % 4 == 2:
                    assert push.write_binary(text.encode())
                else:
                    await app.send({"type": "websocket.send", "text": text})
                if number % 50 == 0:
                    await asyncio.sleep(0)
            frames = [await client.frame() or (0, b"") for _ in range(300)]
            assert [payload.decode() for _, payload in frames] == [str(n) * (1 + n % 100) for n in range(300)]
            assert {first for first, _ in frames[2::4]} == {0x82}

    run(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("binary", [False, True])
def test_send_refuses_what_would_have_to_wait(loop: str, binary: bool) -> None:
    """For a peer that does not read, little is taken; what was taken arrives whole; after the end nothing is."""

    async def main() -> None:
        app, payload = Kept(), b"x" * 10_000
        async with serving(app) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
            writer.write(request())
            await until(lambda: app.kept)
            _, push = app.kept[0]
            write = push.write_binary if binary else push.write
            taken = 0
            while write(payload):
                taken += 1
                await asyncio.sleep(0)
            assert push.buffered <= 2 * (64 << 10) + len(payload)
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            frame = Push.frame(payload, binary=binary)
            assert await reader.readexactly(taken * len(frame)) == frame * taken
            await until(lambda: write(payload))
            writer.close()
            await until(lambda: not push.open)
            assert not write(payload)
            app.end.set()

    run(main(), loop)


# ---------------------------------------------------------------------- an endpoint with and without them


class Echo(WebSocketHandlingEndpoint):
    """Answers in every way that there is."""

    async def on_connect(self) -> None:
        await super().on_connect()
        if self.websocket.url.path == "/joined":
            await self.join("room")

    @event
    async def on_say(self, text: str) -> dict[str, Any]:
        return {"text": text}

    @event
    async def on_later(self, text: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"text": text}

    @event
    async def on_both(self, text: str) -> dict[str, Any]:
        await self.send({"type": "pushed", "text": text})
        await self.respond({"text": text + "!"})
        return {"text": text + "?"}

    @event
    async def on_tell(self, text: str) -> dict[str, Any]:
        if self.rooms:
            await self.broadcast({"type": "told", "text": text}, room="room")
        return {"text": text}

    @event
    async def on_silent(self) -> None: ...

    @event
    async def on_fail(self) -> None:
        raise ZeroDivisionError

    @event
    async def on_leave(self) -> dict[str, Any]:
        await self.close(4000, "as you like")
        return {"never": "sent"}


def behind_a_middleware(seen: list[str]) -> Any:
    """The endpoint with functions of somebody else around ASGI's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def noted_receive() -> Any:
            message = await receive()
            seen.append(message["type"])
            return message

        async def noted_send(message: Any) -> None:
            seen.append(message["type"])
            await send(message)

        await Echo(scope, noted_receive, noted_send)

    return app


def mounted_in_starlette() -> Any:
    return Starlette(routes=[WebSocketRoute("/{path:path}", Echo)])


def mounted_in_fastapi() -> Any:
    app = FastAPI()
    app.websocket("/{path:path}")(Echo)
    return app


APPS = {"bare": Echo, "starlette": mounted_in_starlette(), "fastapi": mounted_in_fastapi()}


def frame_of(kind: str, text: str, ref: bool) -> bytes:
    fields = {"text": text} if kind in ("say", "later", "both", "tell") else {}
    return json.dumps({"type": kind, **fields, **({"ref": 1} if ref else {})}).encode()


SPOKEN = st.one_of(
    st.builds(
        lambda kind, text, ref: masked(TEXT, frame_of(kind, text, ref)),
        st.sampled_from(["say", "later", "both", "tell", "silent", "fail"]),
        st.sampled_from(["", "a", "\u00fc", "x" * 130, "y" * 70_000]),
        st.booleans(),
    ),
    st.sampled_from(
        [
            masked(BINARY, frame_of("say", "binary", True)),
            masked(TEXT, b'{"type":"say"', fin=False) + masked(0, b',"text":"in parts"}'),
            masked(TEXT, b'{"type":"say","text":1}'),
            masked(TEXT, b'{"type":"nothing"}'),
            masked(TEXT, b"[]"),
            masked(PING, b"p"),
        ]
    ),
)
LAST = st.sampled_from(
    [closing(), closing(4002, "x"), masked(TEXT, b"no JSON"), masked(TEXT, b"\xff"), masked(TEXT, b'{"type":"leave"}')]
)


async def conversation(app: Any, path: str, said: list[bytes]) -> bytes:
    """Everything the server sends to who says this, in pieces, and hangs up at the end."""
    async with serving(app) as served:
        async with peer(served, request(path)) as client:
            assert await client.response() == 101
            for piece in said:
                client.say(piece)
                await asyncio.sleep(0)
            heard = b""
            while (frame := await client.frame()) is not None:
                first, payload = frame
                heard += bytes((first,)) + payload
                if first == 0x88:
                    client.say(masked(8, payload))
        await served.idle()
    return heard


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(said=st.lists(SPOKEN, max_size=12), last=LAST, path=st.sampled_from(["/", "/joined"]), at_once=st.booleans())
def test_an_endpoint_says_the_same_with_and_without(said: list[bytes], last: bytes, path: str, at_once: bool) -> None:
    """Byte for byte, whatever is said, and whether it comes in one segment or in many."""
    said = [b"".join(said) + last] if at_once else [*said, last]
    seen: list[str] = []
    plain = run(conversation(behind_a_middleware(seen), path, said))
    assert seen[-1] in ("websocket.disconnect", "websocket.close")
    for app in APPS.values():
        assert run(conversation(app, path, said)) == plain


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
def test_an_endpoint_uses_them_wherever_it_is_mounted(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one coroutine of ASGI's per message."""
    sent = sent_by_asgi(monkeypatch)

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            client.say(masked(TEXT, frame_of("say", "hi", False)))
            assert json.loads(await client.text()) == {"type": "say", "text": "hi"}
            client.say(closing())
            await client.closed()

    run(main())
    assert "websocket.send" not in sent


def test_a_middleware_sees_every_message() -> None:
    """Nothing goes past it: as many messages as were said and answered."""
    seen: list[str] = []
    said = [masked(TEXT, frame_of("say", "hi", False))] * 5

    async def main() -> None:
        async with serving(behind_a_middleware(seen)) as served, peer(served) as client:
            client.say(*said)
            for _ in said:
                await client.text()
            client.say(closing())
            await client.closed()

    run(main())
    assert seen.count("websocket.receive") == seen.count("websocket.send") == 5


@pytest.mark.parametrize("path", ["/", "/joined"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_replies_wait_for_a_peer_that_does_not_read(path: str, loop: str) -> None:
    """Reading stops with the handler that waits to answer; what was said is answered when the peer reads again."""
    text, count = "z" * 50_000, 400

    async def main() -> None:
        async with serving(Echo) as served:
            client = Peer(*await asyncio.open_connection("127.0.0.1", served.port, limit=1024))
            client.say(request(path), *[masked(TEXT, frame_of("say", text, False))] * count)
            await until(lambda: any(getattr(each, "writing_blocked", False) for each in served.connections))
            (connection,) = served.connections
            await asyncio.sleep(0.05)
            assert connection.buffered_bytes < 1 << 20
            assert await client.response() == 101
            for _ in range(count):
                assert json.loads(await client.text()) == {"type": "say", "text": text}
            client.say(closing())
            assert await client.closed() == (1000, "")
            await client.leave()

    run(main(), loop)
