"""The life of a connection, frame by frame, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import threading
import time
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.utils import ClientDisconnected

from socketsundso.server import protocol
from socketsundso.server.keepalive import Keepalive
from tests.conftest import Clock
from tests.server.serving import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEADLINE_S,
    PING,
    PONG,
    TEXT,
    Recorder,
    both_loops,
    closing,
    echo,
    masked,
    peer,
    request,
    run,
    serving,
    until,
)


def disconnect(code: int, reason: str = "") -> dict[str, Any]:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


# --- messages


@both_loops
def test_messages_of_all_sizes_come_back(loop: str) -> None:
    """Around every boundary of the frame header's lengths, text and binary messages arrive as they were sent."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            for size in (0, 1, 125, 126, 127, 65535, 65536, 65537, 3_000_000):
                client.say(masked(TEXT, b"t" * size), masked(BINARY, b"\xff" * size))
                assert await client.frame() == (0x81, b"t" * size)
                assert await client.frame() == (0x82, b"\xff" * size)

    run(main(), loop)


def test_control_frames_between_fragments() -> None:
    """A ping inside a fragmented message is answered at once and does not disturb the message."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            client.say(masked(TEXT, "gr\u00fc".encode()[:3], fin=False), masked(PING, b"?"))
            assert await client.frame() == (0x8A, b"?")
            client.say(masked(CONTINUATION, "gr\u00fc".encode()[3:], fin=False), masked(CONTINUATION, b"n"))
            assert await client.text() == "gr\u00fcn"

    run(main())


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([masked(TEXT, b"\xff")], 1007),
        ([masked(TEXT, b"\xce", fin=False), masked(CONTINUATION, b"\xce", fin=False)], 1007),
        ([masked(TEXT, b"\xce", fin=False), masked(CONTINUATION, b"")], 1007),
        ([masked(CONTINUATION, b"x")], 1002),
        ([masked(TEXT, b"x", fin=False), masked(TEXT, b"x")], 1002),
        ([masked(TEXT, b"x", rsv=4)], 1002),
        ([masked(TEXT, b"x", rsv=2)], 1002),
        ([masked(BINARY, b"x", rsv=1)], 1002),
        ([masked(PING, b"x", rsv=4)], 1002),
        ([masked(PONG, b"x", rsv=1)], 1002),
        ([masked(3, b"x")], 1002),
        ([masked(11, b"x")], 1002),
        ([masked(PING, b"x", fin=False)], 1002),
        ([masked(PING, b"x" * 126)], 1002),
        ([masked(TEXT, b"x", mask=b"")], 1002),
        ([masked(CLOSE, b"\x03")], 1002),
        ([masked(CLOSE, b"\x00\x00")], 1002),
        ([closing(999)], 1002),
        ([closing(1004)], 1002),
        ([closing(1005)], 1002),
        ([closing(1006)], 1002),
        ([closing(2999)], 1002),
        ([closing(5000)], 1002),
        ([masked(CLOSE, b"\x03\xe8\xff")], 1007),
        ([b"\x81\xfe\x00\x01abcdx"], 1002),
        ([b"\x81\xff" + (1).to_bytes(8) + b"abcdx"], 1002),
        ([b"\x81\xff" + (1 << 63).to_bytes(8) + b"abcdx"], 1002),
    ],
)
def test_violations_are_answered_with_their_code(frames: list[bytes], code: int) -> None:
    """What RFC 6455 forbids closes the connection with its code, and the application is told the same."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder) as served:
            async with peer(served) as client:
                client.say(masked(TEXT, b"before"), *frames, masked(TEXT, b"after"))
                assert (await client.closed())[0] == code
            await served.idle()

    run(main())
    assert recorder.messages[0] == {"type": "websocket.receive", "text": "before"}
    assert recorder.code == code
    assert len(recorder.messages) == 2


def test_answers_before_a_violation_are_sent() -> None:
    """The answer to a valid message leaves before the close frame for the invalid one behind it."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            client.say(masked(TEXT, b"one"), masked(TEXT, b"two"), masked(TEXT, b"x", mask=b""))
            assert [await client.text(), await client.text()] == ["one", "two"]
            assert (await client.closed())[0] == 1002

    run(main())


def test_violation_is_answered_while_the_application_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid UTF-8 closes 1007 although the application never receives again."""
    monkeypatch.setattr(protocol, "HOLD_S", 0.1)

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(busy, timeout_graceful_shutdown=0) as served, peer(served) as client:
            client.say(masked(TEXT, b"\xff"))
            assert (await client.closed())[0] == 1007

    run(main())


@pytest.mark.parametrize("size", [100, 101])
@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_ws_max_size_bounds_the_whole_message(size: int, fragments: int, opcode: int) -> None:
    """A message of ws_max_size bytes passes, one byte more closes 1009, however it is cut."""

    async def main() -> None:
        async with serving(echo, ws_max_size=100) as served, peer(served) as client:
            parts = [b"x" * (size // fragments)] * (fragments - 1)
            parts.append(b"x" * (size - sum(map(len, parts))))
            for i, part in enumerate(parts):
                client.say(masked(opcode if i == 0 else CONTINUATION, part, fin=i == fragments - 1))
            if size == 100:
                assert await client.frame() == (0x80 | opcode, b"x" * 100)
            else:
                assert (await client.closed())[0] == 1009

    run(main())


# --- closing


@both_loops
@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "tab closed"), (4999, "\u00fc" * 61), (None, "")])
def test_peer_closes(loop: str, code: int | None, reason: str) -> None:
    """The peer's close frame is echoed, and the application is told code and reason (1005 for none)."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder) as served:
            async with peer(served) as client:
                client.say(closing(code, reason))
                assert await client.closed() == (1005 if code is None else code, reason)
            await served.idle()

    run(main(), loop)
    assert recorder.messages == [disconnect(1005 if code is None else code, reason)]


def test_answers_before_the_peers_close_are_sent() -> None:
    """Messages in one segment with the close frame are answered before it is echoed."""

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            client.say(*[masked(TEXT, b"%d" % i) for i in range(50)], closing())
            assert [await client.text() for _ in range(50)] == [str(i) for i in range(50)]
            assert (await client.closed())[0] == 1000

    run(main())


def closer(message: dict[str, Any], log: list[Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", **message})
        log.extend([await receive(), await receive()])

    return app


@both_loops
@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": None, "reason": None}, 1000, ""),
        ({"code": 3000, "reason": "bye"}, 3000, "bye"),
        ({"code": 1005}, 1005, ""),
        ({"code": 4001, "reason": "x" * 124}, 4001, "x" * 123),
        ({"code": 4001, "reason": "x" + "\u00fc" * 62}, 4001, "x" + "\u00fc" * 61),
    ],
)
def test_application_closes(loop: str, message: dict[str, Any], code: int, reason: str) -> None:
    """The peer gets code and a reason that fits; a second receive() gives the disconnect again."""
    log: list[Any] = []

    async def main() -> None:
        async with serving(closer(message, log)) as served:
            async with peer(served) as client:
                assert await client.frame() == (
                    0x88,
                    b"" if code == 1005 else code.to_bytes(2) + reason.encode(),
                )
                client.say(closing(None if code == 1005 else code))
                assert await client.rest() == b""
            await served.idle()

    run(main(), loop)
    assert [entry["code"] for entry in log] == [code, code]


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2000, 5000])
def test_codes_that_cannot_be_sent_are_a_mistake(code: int, caplog: pytest.LogCaptureFixture) -> None:
    """A reserved code raises ValueError in the application; if it lets that pass the peer gets 1011."""

    async def main() -> None:
        async with serving(closer({"code": code}, [])) as served, peer(served) as client:
            assert (await client.closed())[0] == 1011

    run(main())
    assert f"cannot close with code {code}" in caplog.text


def test_peer_that_does_not_answer_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the peer's close frame the connection ends after the close timeout."""
    monkeypatch.setattr(protocol, "CLOSE_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with serving(closer({}, [])) as served, peer(served) as client:
            assert await client.frame() == (0x88, b"\x03\xe8")
            assert await client.rest() == b""
            await served.idle()

    run(main())


def test_peer_that_does_not_hang_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the closing handshake the server hangs up, and cuts the connection if the peer does not."""
    monkeypatch.setattr(protocol, "CLOSE_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with serving(echo) as served, peer(served) as client:
            client.say(closing())
            assert await client.frame() == (0x88, b"\x03\xe8")
            await served.idle()

    run(main())


def test_frames_after_the_close_frame_are_ignored() -> None:
    """Nothing that follows the peer's close frame is delivered or answered."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder) as served, peer(served) as client:
            client.say(closing(1001), masked(TEXT, b"late"), masked(PING), closing(1000), b"\x00garbage")
            assert (await client.closed())[0] == 1001
            await until(lambda: recorder.last)

    run(main())
    assert recorder.messages == [disconnect(1001)]


def test_messages_after_our_close_are_read_and_dropped() -> None:
    """A peer that still sends megabytes after our close frame gets to its close frame without a reset."""

    async def main() -> None:
        async with serving(closer({}, [])) as served:
            async with peer(served) as client:
                client.say(*[masked(BINARY, bytes(100_000))] * 50)
                assert await client.frame() == (0x88, b"\x03\xe8")
                client.say(closing())
                assert await client.rest() == b""
            await served.idle()

    run(main())


@both_loops
@pytest.mark.parametrize("ending", ["eof", "reset"])
def test_tcp_lost_without_a_close_frame_is_1006(loop: str, ending: str) -> None:
    """RFC 6455 7.1.5: no close frame was received, so the code is 1006."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder) as served:
            async with peer(served) as client:
                client.say(masked(TEXT, b"x"))
                await until(lambda: recorder.messages)
                if ending == "reset":
                    client.vanish()
            await served.idle()

    run(main(), loop)
    assert recorder.code == 1006


# --- the application's mistakes


@pytest.mark.parametrize(("stage", "status"), [("connecting", 500), ("accepted", 101)])
def test_application_that_raises(stage: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Its traceback is logged; the peer gets 500 before accept and 1011 after."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if stage == "accepted":
            await send({"type": "websocket.accept"})
        raise ZeroDivisionError("by the application")

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served, request()) as client:
                assert await client.response() == status
                if status == 101:
                    assert (await client.closed())[0] == 1011
            await served.idle()

    run(main())
    assert "Exception in ASGI application" in caplog.text
    assert "ZeroDivisionError: by the application" in caplog.text


@pytest.mark.parametrize(("stage", "status"), [("connecting", 500), ("accepted", 101)])
def test_application_that_returns(stage: str, status: int) -> None:
    """Returning before accept is a 500, returning after it closes 1000."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if stage == "accepted":
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served, request()) as client:
                assert await client.response() == status
                if status == 101:
                    assert await client.frame() == (0x88, b"\x03\xe8")
                    client.say(closing())
                    assert await client.rest() == b""
            await served.idle()

    run(main())


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"text": None},
        {"text": None, "bytes": None},
        {"text": "\ud800"},
        {"text": b"a"},
        {"text": 5},
        {"bytes": "a"},
        {"bytes": 5},
        {"bytes": [1, 2]},
    ],
    ids=str,
)
def test_messages_that_cannot_be_sent(message: dict[str, Any]) -> None:
    """A `websocket.send` without content, or with no text or no bytes in it, raises and leaves the connection open."""
    log: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            await send({"type": "websocket.send", **message})
        except Exception as exc:
            log.append(exc)
        await send({"type": "websocket.send", "text": "alive"})

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            assert await client.text() == "alive"

    run(main())
    assert isinstance(log[0], (RuntimeError, UnicodeEncodeError, AttributeError, TypeError))


@pytest.mark.parametrize("data", [bytearray(b"ab"), memoryview(b"ab")])
def test_buffers_are_sent_like_bytes(data: Any) -> None:
    """`bytes` may be any bytes-like object."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": data})

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            assert await client.frame() == (0x82, b"ab")

    run(main())


def test_sends_after_the_peer_has_gone_fail() -> None:
    """`send` raises an OSError, and letting it pass is no error of the application."""
    log: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        try:
            await send({"type": "websocket.send", "text": "too late"})
        except OSError as exc:
            log.append(exc)
            raise

    async def main() -> None:
        async with serving(app) as served:
            for message in (closing(), masked(TEXT, b"\xff")):
                async with peer(served) as client:
                    client.say(message)
                    await client.closed()
            async with peer(served):
                pass
            await served.idle()

    run(main())
    assert [type(exc) for exc in log] == [ClientDisconnected] * 3


def test_closing_what_the_peer_closed_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    """`finally: await websocket.close()` is quiet after the peer's close frame."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        await send({"type": "websocket.close"})

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served) as client:
                client.say(closing(4000))
                assert (await client.closed())[0] == 4000
            await served.idle()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert caplog.text == ""


# --- HTTP responses


def responder(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send({**message, "type": "websocket.http.response." + message["type"]})

    return app


START = {"type": "start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]}


def test_response_of_known_length() -> None:
    """A body in one message gets a Content-Length, the connection closes."""

    async def main() -> None:
        async with serving(responder(START, {"type": "body", "body": b"who?"})) as served:
            async with peer(served, request()) as client:
                assert await client.response() == 401
                assert client.headers["www-authenticate"] == "Basic"
                assert client.headers["content-length"] == "4"
                assert client.headers["connection"] == "close"
                assert await client.rest() == b"who?"
            await served.idle()

    run(main())


def test_response_that_streams() -> None:
    """Parts of a body leave as they are sent, in chunks."""
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await responder(START, {"type": "body", "body": b"one", "more_body": True})(scope, receive, send)
        await go.wait()
        await responder({"type": "body", "more_body": True}, {"type": "body", "body": b"two"})(scope, receive, send)

    async def main() -> None:
        async with serving(app) as served, peer(served, request()) as client:
            assert await client.response() == 401
            assert client.headers["transfer-encoding"] == "chunked"
            assert await client.reader.readexactly(8) == b"3\r\none\r\n"
            go.set()
            assert await client.rest() == b"3\r\ntwo\r\n0\r\n\r\n"

    run(main())


def test_response_that_takes_longer_than_the_handshake(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for an answer starts again with each part of a streamed response, and ends one that stalls."""
    monkeypatch.setattr(protocol, "HANDSHAKE_TIMEOUT_S", 10.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await responder(START)(scope, receive, send)
        for _ in range(3):
            clock.jump(4.0)
            await asyncio.sleep(0.001)
            await responder({"type": "body", "body": b"x", "more_body": True})(scope, receive, send)
        assert (await receive(), await receive())[1]["code"] == 1006

    async def main() -> None:
        async with serving(app) as served, peer(served, request()) as client:
            assert await client.response() == 401
            assert await client.reader.readexactly(3 * 6) == b"1\r\nx\r\n" * 3
            clock.jump(11.0)
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""
            await served.idle()

    run(main(), "asyncio")


def test_response_waits_for_a_slow_reader() -> None:
    """A streamed body is held back while the peer does not read, like messages are."""
    sent = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await responder(START)(scope, receive, send)
        with contextlib.suppress(OSError):
            while True:
                part = {"type": "body", "body": bytes(1 << 20), "more_body": True}
                await responder(part)(scope, receive, send)
                sent.append(1)

    async def main() -> None:
        async with serving(app) as served:
            _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
            writer.write(request())
            await until(lambda: any(getattr(c, "writing_blocked", False) for c in served.connections))
            assert len(sent) < 100
            writer.transport.abort()
            await served.idle()

    run(main())


def test_no_limit_on_messages() -> None:
    """ws_max_size=None means no limit, fragmented or not."""

    async def main() -> None:
        async with serving(echo, ws_max_size=None) as served, peer(served) as client:
            client.say(masked(BINARY, bytes(1 << 20)), masked(BINARY, b"a", fin=False), masked(CONTINUATION, b"b"))
            assert await client.frame() == (0x82, bytes(1 << 20))
            assert await client.frame() == (0x82, b"ab")

    run(main())


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_a_body(status: int) -> None:
    """204 and 304 carry no body and no length, whatever the application sends."""

    async def main() -> None:
        messages = ({"type": "start", "status": status}, {"type": "body", "body": b"no"})
        async with serving(responder(*messages)) as served, peer(served, request()) as client:
            assert await client.response() == status
            assert "content-length" not in client.headers
            assert await client.rest() == b""

    run(main())


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "start", "status": 99}],
        [{"type": "start", "status": 101}],
        [{"type": "start", "status": 600}],
        [{"type": "body"}],
    ],
    ids=str,
)
def test_responses_that_are_none(messages: list[dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    """A status that ends no exchange, or a body without a start, raises and becomes a 500."""

    async def main() -> None:
        async with serving(responder(*messages)) as served, peer(served, request()) as client:
            assert await client.response() == 500

    run(main())
    assert "RuntimeError" in caplog.text


def test_response_that_is_never_finished() -> None:
    """An application that returns in the middle of its response does not leave a half-open connection."""

    async def main() -> None:
        async with serving(responder(START, {"type": "body", "body": b"x", "more_body": True})) as served:
            async with peer(served, request()) as client:
                assert await client.response() == 401
                assert b"0\r\n\r\n" not in await client.rest()
            await served.idle()

    run(main())


# --- bounds, pings, shutdown


def test_application_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake that nobody answers ends with 503."""
    monkeypatch.setattr(protocol, "HANDSHAKE_TIMEOUT_S", 0.05)
    codes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        codes.append((await receive())["code"])

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served, request()) as client:
                assert await client.response() == 503
            await served.idle()

    run(main())
    assert codes == [1006]


@both_loops
def test_reading_pauses_while_the_application_is_behind(loop: str) -> None:
    """What one connection can queue is bounded, although the peer never stops sending; nothing is lost."""
    count, go = 20_000, asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await go.wait()
        await receive()
        for i in range(count):
            assert (await receive())["text"] == f"{i:0100}"
        await send({"type": "websocket.send", "text": "all"})

    async def main() -> None:
        async with serving(slow) as served, peer(served) as client:
            client.say(*[masked(TEXT, f"{i:0100}".encode()) for i in range(count)])
            (connection,) = served.connections
            await until(lambda: connection.reading_paused)
            most = connection.queued_bytes
            go.set()
            while not client.reader._buffer:  # type: ignore[attr-defined]
                most = max(most, connection.queued_bytes)
                await asyncio.sleep(0)
            assert await client.text() == "all"
            assert most < 200_000

    run(main(), loop)


@both_loops
def test_send_waits_for_a_slow_reader(loop: str) -> None:
    """`send` waits above the high-water mark, goes on when the peer reads, and nothing is lost."""
    sent = []

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        for i in range(2000):
            await send({"type": "websocket.send", "text": f"{i:010000}"})
            sent.append(i)

    async def main() -> None:
        async with serving(flood) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
            writer.write(request())
            await until(lambda: sent)
            seen = -1
            while seen != len(sent):  # until it stands still
                seen = len(sent)
                await asyncio.sleep(0.1)
            assert seen < 2000
            data = b""
            while len(sent) < 2000 or data[-2:] != b"\x03\xe8":
                data = data[-2:] + await reader.read(1 << 20)
            writer.close()
            await writer.wait_closed()

    run(main(), loop)


@both_loops
def test_send_fails_when_a_slow_reader_leaves(loop: str) -> None:
    """A `send` that waits for a peer fails as soon as the peer is gone."""
    log: list[Any] = []

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
        except OSError as exc:
            log.append(exc)

    async def main() -> None:
        async with serving(flood) as served:
            async with peer(served) as client:
                await client.frame()
                client.vanish()
            await served.idle()

    run(main(), loop)
    assert log


def test_pings_find_a_silent_peer() -> None:
    """A peer that does not answer a ping is closed with 1011, and the application is told."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder, ws_ping_interval=0.05, ws_ping_timeout=0.05) as served:
            async with peer(served) as client:
                frame = await client.frame()
                assert frame is not None
                assert frame[0] == 0x89
                assert await client.closed() == (1011, "keepalive ping timeout")
            await served.idle()

    run(main())
    assert recorder.messages == [disconnect(1011, "keepalive ping timeout")]


@both_loops
def test_pings_find_a_peer_that_stopped_reading(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What still waits for a peer is no life of its own: one that takes nothing any more is closed and then cut."""
    monkeypatch.setattr(protocol, "CLOSE_TIMEOUT_S", 0.05)
    raised: list[Any] = []

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
        except OSError as exc:
            raised.append(exc)

    async def main() -> None:
        async with serving(flood, ws_ping_interval=0.05, ws_ping_timeout=0.1) as served:
            _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
            writer.write(request())
            await until(lambda: raised)
            await served.idle()
            writer.close()

    run(main(), loop)


def test_answered_pings_keep_the_connection() -> None:
    """The right pong starts the next interval; unsolicited and stale ones mean nothing."""

    async def main() -> None:
        # a timeout that the test would not live to see: the answer alone starts the next interval
        async with (
            serving(echo, ws_ping_interval=0.02, ws_ping_timeout=900) as served,
            peer(served) as client,
        ):
            seen = set()
            for _ in range(3):
                frame = await client.frame()
                assert frame is not None
                first, payload = frame
                assert first == 0x89
                seen.add(payload)
                client.say(masked(PONG, b"stale"), masked(PONG, payload))
            assert len(seen) == 3

    run(main())


def test_pings_without_a_timeout_go_on() -> None:
    """With ws_ping_timeout=None nobody has to answer."""

    async def main() -> None:
        async with (
            serving(echo, ws_ping_interval=0.02, ws_ping_timeout=None) as served,
            peer(served) as client,
        ):
            for _ in range(3):
                frame = await client.frame()
                assert frame is not None
                assert frame[0] == 0x89

    run(main())


@pytest.mark.parametrize("interval", [None, 0, -1, float("nan")])
def test_no_interval_means_no_timer(interval: float | None) -> None:
    """Without an interval above 0, as for uvicorn, a connection has no timer at all once it is accepted."""

    async def main() -> None:
        async with serving(echo, ws_ping_interval=interval) as served, peer(served) as client:
            client.say(masked(TEXT, b"x"))
            await client.text()
            scheduled = [h for h in asyncio.get_running_loop()._scheduled if not h.cancelled()]  # type: ignore[attr-defined]
            owners = [getattr(h._callback, "__self__", None) for h in scheduled]
            assert not [o for o in owners if type(o).__module__.startswith("socketsundso")]

    run(main(), "asyncio")


def test_keepalive_serves_many_connections_with_one_timer(clock: Clock) -> None:
    """Everyone is pinged when due, whoever leaves is not, and the last one takes the timer along."""

    class Connection:
        reading_paused = False
        frame_progress = buffered_bytes = 0

        def __init__(self) -> None:
            self.pings: list[bytes] = []
            self.silent = 0

        def rest(self) -> None: ...

        def ping(self, payload: bytes) -> None:
            self.pings.append(payload)

        def peer_is_silent(self) -> None:
            self.silent += 1

    async def main() -> None:
        keepalive = Keepalive(asyncio.get_running_loop(), 5.0, 10.0)
        answers, silent, gone = connections = [Connection() for _ in range(3)]
        for connection in connections:
            keepalive.add(connection)
        keepalive.discard(gone)
        clock.jump(5.0)
        await until(lambda: answers.pings)
        keepalive.pong(answers, b"not mine")
        keepalive.pong(answers, answers.pings[0])
        clock.jump(10.0)
        await until(lambda: silent.silent and len(answers.pings) > 1)
        assert (answers.silent, silent.silent, len(silent.pings), gone.pings) == (0, 1, 1, [])
        keepalive.discard(answers)
        assert keepalive._timer is None

    run(main(), "asyncio")


def test_keepalive_catches_up_after_a_busy_event_loop() -> None:
    """When pings are overdue because the loop was busy, connections that join meanwhile change nothing."""
    pings = []

    class Connection:
        reading_paused = False
        frame_progress = buffered_bytes = 0

        def rest(self) -> None: ...

        def ping(self, payload: bytes) -> None:
            pings.append(payload)
            if len(pings) < 5:
                keepalive.add(Connection())

        def peer_is_silent(self) -> None: ...

    async def main() -> None:
        nonlocal keepalive
        keepalive = Keepalive(asyncio.get_running_loop(), 0.0001, None)
        for _ in range(20):
            keepalive.add(Connection())
            time.sleep(0.001)  # noqa: ASYNC251 - the point of it
        keepalive.add(Connection())
        await until(lambda: len(pings) > 40)

    keepalive: Any = None
    run(main())


def test_busy_application_is_no_dead_peer(clock: Clock) -> None:
    """While reading is paused the pong cannot be seen, and the connection lives on."""
    go = asyncio.Event()

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        while (await receive())["type"] == "websocket.receive":
            pass

    async def main() -> None:
        async with (
            serving(busy, ws_ping_interval=5, ws_ping_timeout=5) as served,
            peer(served) as client,
        ):
            client.say(*[masked(BINARY, bytes(50_000))] * 10)
            (connection,) = served.connections
            await until(lambda: connection.reading_paused)
            clock.jump(5)
            frame = await client.frame()
            assert frame is not None
            client.say(masked(PONG, frame[1]))
            for _ in range(3):
                clock.jump(6)
                await asyncio.sleep(0.01)
            go.set()
            await until(lambda: not connection._keepalive._asked)
            clock.jump(5)
            frame = await client.frame()
            assert frame is not None
            assert frame[0] == 0x89, frame

    run(main(), "asyncio")


@both_loops
def test_busy_event_loop_is_no_dead_peer(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pong that came while the application blocked the event loop counts, although its deadline has passed since."""
    ponged, timeout_s, ping = threading.Event(), 1.0, protocol.WebSocketProtocol.ping

    def block() -> None:
        ponged.wait(DEADLINE_S)
        time.sleep(timeout_s + 0.1)

    def ping_and_block(connection: Any, payload: bytes) -> None:
        ping(connection, payload)
        if not ponged.is_set():  # the first one: block as soon as it has left, which on uvloop is in the next turn
            running = asyncio.get_running_loop()
            running.call_soon(running.call_soon, block)

    monkeypatch.setattr(protocol.WebSocketProtocol, "ping", ping_and_block)

    def talk(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(DEADLINE_S)
            raw.sendall(request())
            data = b""
            while b"\x89\x04" not in data[:-4]:
                data += raw.recv(4096)
            raw.sendall(masked(PONG, data[-4:]) + masked(TEXT, b"still there?"))
            ponged.set()
            data = b""
            while b"\x81\x0cstill there?" not in data:
                received = raw.recv(4096)
                assert received, "the server hung up"
                data += received
            raw.sendall(closing())

    async def main() -> None:
        async with serving(echo, ws_ping_interval=0.05, ws_ping_timeout=timeout_s) as served:
            await asyncio.to_thread(talk, served.port)

    run(main(), loop)


@both_loops
def test_shutdown_closes_with_1012(loop: str) -> None:
    """Every peer gets 1012 when the server goes down, and the application is told."""
    recorder = Recorder()

    async def main() -> None:
        async with serving(recorder) as served:
            async with peer(served) as one, peer(served) as two:
                served.server.should_exit = True
                assert [(await one.closed())[0], (await two.closed())[0]] == [1012, 1012]
            await served.idle()

    run(main(), loop)
    assert [message["code"] for message in recorder.messages] == [1012, 1012]


def test_shutdown_does_not_wait_for_a_peer_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that neither reads nor hangs up is cut after the shutdown timeout."""
    monkeypatch.setattr(protocol, "SHUTDOWN_TIMEOUT_S", 0.05)

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
        except OSError:
            pass

    async def main() -> None:
        async with serving(flood, timeout_graceful_shutdown=None) as served:
            _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
            writer.write(request())
            await until(lambda: any(getattr(c, "writing_blocked", False) for c in served.connections))
            served.server.should_exit = True
            await served.idle()
            writer.close()

    run(main())


def test_shutdown_during_the_handshake() -> None:
    """A handshake that is not answered yet gets a 500, as from uvicorn."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert (await receive())["code"] == 1006

    async def main() -> None:
        async with serving(app) as served, peer(served, request()) as client:
            await until(lambda: served.tasks)
            served.server.should_exit = True
            assert await client.response() == 500

    run(main())


def test_graceful_time_is_the_applications() -> None:
    """After 1012 a running handler has uvicorn's graceful time, then it is cancelled and its traceback logged."""
    log = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append(time.monotonic())
            raise

    async def main() -> None:
        async with serving(app, timeout_graceful_shutdown=1) as served, peer(served) as client:
            told_at = time.monotonic()
            served.server.should_exit = True
            assert (await client.closed())[0] == 1012
            await until(lambda: log)
            assert log[0] - told_at >= 1

    run(main())


# --- other


def test_receive_in_two_tasks() -> None:
    """Two tasks that receive at once each get a message of their own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        one, two = await asyncio.gather(receive(), receive())
        await send({"type": "websocket.send", "text": one["text"] + two["text"]})

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            client.say(masked(TEXT, b"a"), masked(TEXT, b"b"))
            assert await client.text() == "ab"

    run(main())


@both_loops
def test_a_message_on_its_way_to_a_task_is_before_what_follows(loop: str) -> None:
    """Though a task that comes to its turn in between would find the next one there, and take it first."""
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def listening() -> None:
            heard.append((await receive())["text"])

        await receive()
        await send({"type": "websocket.accept"})
        first, impatient, third = (asyncio.create_task(listening()) for _ in range(3))
        for _ in range(5):
            await asyncio.sleep(0)  # all three wait
        impatient.cancel()
        await asyncio.sleep(0)  # it hands its turn on; before that is heard of, two messages come
        receive.__self__.put("0", 1)
        receive.__self__.put("1", 1)
        await asyncio.gather(first, third)

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            assert await client.closed() == (1000, "")

    run(main(), loop)
    assert heard == ["0", "1"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_tasks_that_receive_get_the_messages_in_order(loop: str) -> None:
    """Whatever comes at once, and though one of the tasks gives up time and again, as with uvicorn's protocols."""
    said = [str(i) for i in range(600)]
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

        async def listening(patience_s: float | None) -> None:
            while True:
                try:
                    async with asyncio.timeout(patience_s):
                        message = await receive()
                except TimeoutError:
                    continue
                if message["type"] == "websocket.disconnect":
                    return
                heard.append(message["text"])

        await asyncio.gather(listening(None), listening(0.0005), listening(None))

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served) as client:
                for i in range(0, len(said), 4):
                    client.say(*[masked(TEXT, text.encode()) for text in said[i : i + 4]])
                    await asyncio.sleep(0.0005 if i % 40 == 0 else 0)
                client.say(closing())
                await client.closed()
            await served.idle()

    run(main(), loop)
    assert heard == said


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_task_without_any_patience_hears_of_the_disconnect_again(loop: str) -> None:
    """As any number of tasks do that receive at the same time."""
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        while len(told) < 5:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    told.append((await receive())["type"])

    async def main() -> None:
        async with serving(app) as served:
            async with peer(served) as client:
                client.say(closing())
                await client.closed()
            await served.idle()

    run(main(), loop)
    assert told == ["websocket.disconnect"] * 5


def test_no_message_is_lost_to_a_timeout() -> None:
    """`asyncio.wait_for(receive(), ...)` may be cancelled in the very turn in which a message comes."""
    count, got = 300, []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for attempt in itertools.count():
            task = asyncio.ensure_future(receive())
            for _ in range(attempt % 4):
                await asyncio.sleep(0)
            task.cancel()
            try:
                got.append((await task)["text"])
            except asyncio.CancelledError:
                pass
            except KeyError:  # the disconnect
                return

    async def main() -> None:
        async with serving(app) as served, peer(served) as client:
            for i in range(count):
                client.say(masked(TEXT, b"%d" % i))
                await asyncio.sleep(0)
            await until(lambda: len(got) == count)

    run(main())
    assert got == [str(i) for i in range(count)]


def test_pongs_for_a_peer_that_does_not_read_are_bounded() -> None:
    """A peer that pings without reading gets one pong when it reads again, not a million."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
        except OSError:
            pass

    async def main() -> None:
        async with serving(app) as served:
            _, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1)
            writer.write(request())
            await until(lambda: any(getattr(c, "writing_blocked", False) for c in served.connections))
            (connection,) = served.connections
            before = connection.buffered_bytes
            writer.write(masked(PING, bytes(125)) * 20_000)
            await writer.drain()
            await asyncio.sleep(0.2)
            assert connection.buffered_bytes <= before
            writer.close()

    run(main())


def test_loaded_config_is_not_needed() -> None:
    """Like uvicorn's own protocols, the class loads a configuration that is not loaded yet."""

    async def main() -> None:
        config = uvicorn.Config(echo, log_config=None)
        protocol.WebSocketProtocol(config, uvicorn.Server(config).server_state, {})
        assert config.loaded

    run(main())
