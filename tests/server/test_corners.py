"""Rare moments of a connection's life: each one a race or a mistake that happens once in a million connections."""

from __future__ import annotations

import asyncio
import logging
import ssl
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from picows import WSMsgType
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.protocols.utils import ClientDisconnected

from socketsundso.server import WebSocketProtocol, protocol
from tests.server.serving import (
    CERTIFICATE,
    PING,
    PONG,
    TEXT,
    Peer,
    Recorder,
    closing,
    echo,
    masked,
    peer,
    request,
    run,
    serving,
    until,
)

OFFER = request("/", "Sec-WebSocket-Extensions: permessage-deflate")


def test_garbage_behind_a_final_block() -> None:
    """A compressed message that goes on behind its final deflate block is refused, not cut."""
    encoder = zlib.compressobj(wbits=-12)
    payload = encoder.compress(b"data") + encoder.flush(zlib.Z_FINISH) + b"garbage"

    async def main() -> None:
        async with serving(echo, ws_per_message_deflate=True) as served, peer(served, OFFER) as client:
            assert await client.response() == 101
            client.say(masked(TEXT, payload, rsv=4))
            assert (await client.closed())[0] in (1002, 1007)

    run(main())


def test_application_that_returns_something(caplog: pytest.LogCaptureFixture) -> None:
    """A return value is a mistake that is logged; the connection closes with 1000 all the same."""

    async def app(scope: Any, receive: Any, send: Any) -> Any:
        await send({"type": "websocket.accept"})
        return 5

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            assert await client.closed() == (1000, "")

    run(main())
    assert "should return None, but returned '5'" in caplog.text


def test_disconnect_of_another_connection_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """An application that lets another connection's `ClientDisconnected` pass is closed with 1011, with a traceback."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise ClientDisconnected

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            assert (await client.closed())[0] == 1011

    run(main())
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info


def test_shutdown_while_the_closing_handshake_is_under_way() -> None:
    """A peer that owes its close frame when the server goes down does not hold it up for the whole close timeout."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    async def main() -> None:
        async with serving(app, timeout_graceful_shutdown=None) as served, peer(served) as client:
            assert await client.frame() == (0x88, b"\x0f\xa0")
            served.server.should_exit = True
            assert await client.rest() == b""  # hung up: the harness waits less than twice the close timeout
            assert not served.tasks

    run(main())


def test_violation_while_our_close_frame_waits_for_an_answer() -> None:
    """A peer that answers our close frame with nonsense is hung up on, without a second close frame."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served) as client:
                assert await client.frame() == (0x88, b"\x0f\xa0")
                client.say(masked(TEXT, b"unmasked", mask=b""), masked(3, b"no such opcode"))
                assert await client.rest() == b""
            await served.idle()

    run(main())


def test_pong_without_keepalive() -> None:
    """RFC 6455 5.5.3: an unsolicited pong is no mistake, also where nobody pings."""

    async def main() -> None:
        async with serving(echo, ws_ping_interval=None) as served, peer(served) as client:
            client.say(masked(PONG, b"unasked"), masked(TEXT, b"x"))
            assert await client.text() == "x"
            client.say(closing())

    run(main())


def test_close_frame_in_the_segment_of_the_request() -> None:
    """A connection that ends before it is accepted is closed in an orderly way, and no ping timer is left."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder, http="h11") as served:
            async with peer(served, request() + masked(TEXT, b"hi") + closing(1001)) as client:
                assert await client.response() == 101
                assert (await client.closed())[0] == 1001
            await served.idle()

    run(main())
    assert [message["type"] for message in recorder.messages] == ["websocket.receive", "websocket.disconnect"]


def test_frame_between_request_and_accept() -> None:
    """A small frame that comes after the request but before a late accept is delivered."""
    accept, started = asyncio.Event(), asyncio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await accept.wait()
        await echo(scope, receive, send)

    async def main() -> None:
        async with serving(late) as served, peer(served, request()) as client:
            await started.wait()
            client.say(masked(TEXT, b"early"))
            await client.writer.drain()
            (connection,) = served.connections
            await until(lambda: connection._early)
            accept.set()
            assert await client.response() == 101
            assert await client.text() == "early"
            client.say(closing())

    run(main())


def test_accept_within_the_hand_over() -> None:
    """Should uvicorn put the connection itself in the parser's place after accept (eager tasks), nothing is lost."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            (connection,) = served.connections
            connection._transport.set_protocol(connection)
            client.say(masked(TEXT, b"one"), masked(TEXT, b"two"))
            assert [await client.text(), await client.text()] == ["one", "two"]
            client.say(closing())
            await client.closed()

    run(main())


def test_bytes_after_the_closing_handshake() -> None:
    """What a peer still sends when everything is said is read and dropped, until it hangs up."""

    async def main() -> None:
        async with serving(echo) as served:
            async with peer(served) as client:
                client.say(closing())
                assert await client.frame() == (0x88, b"\x03\xe8")
                client.say(masked(TEXT, b"x" * 100_000))
                await client.writer.drain()
                assert await client.rest() == b""
            await served.idle()

    run(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_trace_lines_name_the_client(loop: str, tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The beginning and the end of a connection are told with the same address, however it ends."""
    caplog.set_level(TRACE_LOG_LEVEL, "uvicorn.error")
    options: dict[str, Any] = {"ssl_certfile": str(CERTIFICATE)} if tls else {}
    context = ssl.create_default_context(cafile=CERTIFICATE) if tls else None
    names = []

    async def main() -> None:
        async with serving(echo, **options) as served:
            for vanishes in (True, False):
                async with peer(served, ssl=context, server_hostname="localhost" if tls else None) as client:
                    names.append("{}:{}".format(*client.writer.get_extra_info("sockname")))
                    if vanishes:
                        client.vanish()
                    else:
                        client.say(closing())
                        await client.rest()
                await served.idle()

    run(main(), loop)
    told = [record.getMessage() for record in caplog.records if "WebSocket connection" in record.getMessage()]
    assert told == [f"{name} - WebSocket connection {what}" for name in names for what in ("made", "lost")]


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (Peer.vanish, {"code": 1006}),
        (lambda client: client.say(closing()), {"code": 1000, "reason": ""}),
        (lambda client: client.say(closing(None)), {"code": 1005, "reason": ""}),
        (lambda client: client.say(closing(4001, "bye")), {"code": 4001, "reason": "bye"}),
    ],
    ids=["vanished", "no reason", "no code", "reason"],
)
@pytest.mark.parametrize("ws", [WebSocketProtocol, "websockets-sansio"], ids=["ours", "uvicorn's"])
def test_a_reason_stands_where_the_peer_could_give_one(ws: Any, end: Callable[[Peer], object], last: Any) -> None:
    """`websocket.disconnect` has `reason` after a close frame, and none where there was no such frame."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder, ws=ws) as served:
            async with peer(served) as client:
                end(client)
                await until(lambda: recorder.last)
            await served.idle()

    run(main())
    told = {"code": 1005} if ws != WebSocketProtocol and last == {"code": 1006} else last
    assert recorder.messages == [{"type": "websocket.disconnect", **told}]


def test_shutdown_is_told_without_a_reason() -> None:
    """As uvicorn's own protocols do."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder) as served, peer(served):
            served.server.should_exit = True
            await until(lambda: recorder.last)

    run(main())
    assert recorder.messages == [{"type": "websocket.disconnect", "code": 1012}]


def test_accept_in_the_middle_of_a_response() -> None:
    """After `websocket.http.response.start` only parts of the body may follow; the response can still be finished."""
    raised = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 599, "headers": []})
        try:
            await send({"type": "websocket.accept"})
        except RuntimeError as exc:
            raised.append(str(exc))
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async def main() -> None:
        async with serving(app) as served, peer(served, request()) as client:
            assert await client.response() == 599
            assert client.head.startswith(b"HTTP/1.1 599 \r\n")
            assert await client.rest() == b"no"

    run(main())
    assert raised == ["Expected ASGI message 'websocket.http.response.body' but got 'websocket.accept'."]


def test_defect_of_ours_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An exception within our own listener ends the connection, and its traceback is not lost in the parser."""

    def defect(connection: Any, frame: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(protocol._ON_FRAME, WSMsgType.PING, defect)

    async def main() -> None:
        async with serving(echo) as served:
            async with peer(served) as client:
                client.say(masked(PING) * 2)
                await client.rest()
            await served.idle()

    run(main())
    assert any(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)
