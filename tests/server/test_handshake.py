"""The upgrade request and its answers, byte for byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from socketsundso.server import handshake
from socketsundso.server.handshake import HandshakeRefused
from tests.server.serving import BOUNDED_HTTP, KEY, echo, masked, peer, request, run, serving, until


def refusal(head: bytes) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as refused:
        handshake.parse_request(head)
    return refused.value


def test_headers_that_clients_have_in_common_are_kept_once() -> None:
    """Two requests share the headers that browsers say alike; what may be a secret, or is long, is not kept."""
    said = ["User-Agent: Mozilla/5.0", "Origin: https://chat.example", "Cookie: session=1", f"User-Agent: {'x' * 300}"]
    first, second = (handshake.parse_request(request("/", *said)).headers for _ in range(2))
    shared = [one[0] for one, other in zip(first, second, strict=True) if one is other]
    assert first == second
    assert shared == [b"host", b"upgrade", b"connection", b"sec-websocket-version", b"user-agent", b"origin"]


def test_request_is_parsed() -> None:
    """A request's target, headers and key are what the client sent, names in lower case."""
    parsed = handshake.parse_request(request("/chat?a=b", "X-Y:  1 "))
    assert parsed.target == b"/chat?a=b"
    assert parsed.key == KEY
    assert parsed.headers[-1] == (b"x-y", b"1")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request(method="POST"), 405),
        (request(drop="Sec-WebSocket-Version"), 400),
        (request(drop="Sec-WebSocket-Key"), 400),
        (request(drop="Host"), 400),
        (request("/", "Sec-WebSocket-Key: " + KEY.decode()), 400),
        (request("/", "Sec-WebSocket-Key: short", drop="Sec-WebSocket-Key"), 400),
        (request("/", "Sec-WebSocket-Key: !!!!AAAAAAAAAAAAAAAAAA==", drop="Sec-WebSocket-Key"), 400),
        (request("/", "Sec-WebSocket-Version: 8", drop="Sec-WebSocket-Version"), 426),
        (request("/", "Sec-WebSocket-Version: 13, 8", drop="Sec-WebSocket-Version"), 426),
        (request("/", "X: " + "y" * (1 << 16)), 431),
        (request("/\xff"), 400),
        (request("/", "Content-Length: 5"), 400),
        (request("/", "Transfer-Encoding: chunked"), 400),
    ],
)
def test_invalid_requests_are_refused(head: bytes, status: int) -> None:
    """Each way to break RFC 6455 4.1 has its HTTP status."""
    assert refusal(head).status == status


def test_wrong_version_names_the_right_one() -> None:
    """A 426 carries Sec-WebSocket-Version: 13 and the Upgrade header that RFC 9110 asks for."""
    refused = refusal(request("/", "Sec-WebSocket-Version: 12", drop="Sec-WebSocket-Version"))
    assert (b"Sec-WebSocket-Version", b"13") in refused.headers
    assert (b"Upgrade", b"websocket") in refused.headers


def test_accept_key() -> None:
    """The accept header is the SHA-1 of the key and RFC 6455's GUID."""
    response = handshake.accept_response(handshake.parse_request(request()), [(b"x-a", b"1")])
    digest = hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert b"Sec-WebSocket-Accept: " + base64.b64encode(digest) in response.split(b"\r\n")
    assert response.endswith(b"\r\nx-a: 1\r\n\r\n")


@pytest.mark.parametrize("header", [(b"x", b"a\r\nb: c"), (b"x\r\n", b"a"), (b"", b"a"), (b"x y", b"a")])
def test_no_header_can_be_smuggled_in(header: tuple[bytes, bytes]) -> None:
    """A header that would end its line is refused, whoever sets it."""
    with pytest.raises(RuntimeError, match="Invalid HTTP header"):
        handshake.accept_response(handshake.parse_request(request()), [header])


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("/", "Sec-WebSocket-Version: 8", drop="Sec-WebSocket-Version"), 426),
        (request(drop="Sec-WebSocket-Key"), 400),
        (request(method="POST"), 405),
        (request("/", "Sec-WebSocket-Extensions: ;;"), 400),
        (request("/", "Content-Length: 5") + b"hello", 400),
        (request("/", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n", 400),
    ],
)
def test_refusals_reach_the_client(http: str, head: bytes, status: int) -> None:
    """A refused handshake is answered by a whole HTTP response, after which the server hangs up."""

    async def main() -> None:
        async with serving(echo, http=http) as served:
            async with peer(served, head) as client:
                assert await client.response() == status
                assert len(await client.rest()) == int(client.headers["content-length"])
            await served.idle()

    run(main())


@pytest.mark.parametrize("connection", ["keep-alive, Upgrade", "UPGRADE", "upgrade,keep-alive"])
def test_connection_header_is_a_list(connection: str) -> None:
    """Firefox's `Connection: keep-alive, Upgrade` is accepted."""

    async def main() -> None:
        async with serving(echo) as served:
            head = request("/", f"Connection: {connection}", drop="Connection")
            async with peer(served, head) as client:
                assert await client.response() == 101

    run(main())


def test_many_and_large_headers_are_accepted() -> None:
    """200 headers and 30 kB of cookies are an ordinary browser's request."""

    async def main() -> None:
        async with serving(echo) as served:
            head = request("/", *[f"X-{i}: {i}" for i in range(200)], "Cookie: " + "c" * 30_000)
            async with peer(served, head) as client:
                assert await client.response() == 101

    run(main())


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_eager_client_loses_nothing(http: str, loop: str) -> None:
    """Frames in the segment of the upgrade request, and right after it, are all delivered in order."""

    async def main() -> None:
        async with serving(echo, http=http) as served:
            frame = masked(1, b"two")
            async with peer(served, request() + masked(1, b"one") + frame[:3]) as client:
                client.say(frame[3:])
                assert await client.response() == 101
                assert [await client.text(), await client.text()] == ["one", "two"]

    run(main(), loop)


class OutOfReach(HttpToolsProtocol):
    """An HTTP protocol that hands over without a trace of what follows the request, as uvicorn's on zttp."""

    def handle_websocket_upgrade(self) -> None:
        try:
            raise LookupError
        except LookupError:
            super().handle_websocket_upgrade()


@pytest.mark.parametrize(
    ("segments", "status"),
    [
        ([request()], 101),
        ([request()[:-1], request()[-1:]], 101),
        ([request() + masked(1, b"lost")], 400),
        ([request()[:-1], request()[-1:] + masked(1, b"lost")], 400),
    ],
    ids=["alone", "in two segments", "with a frame", "with a frame in the second"],
)
def test_frames_out_of_reach(segments: list[bytes], status: int) -> None:
    """Where frames behind the request cannot be had the handshake is refused: nothing is lost silently."""

    async def main() -> None:
        async with serving(echo, http=OutOfReach) as served, peer(served, b"") as client:
            client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for segment in segments:
                client.say(segment)
                for _ in range(10):  # turns of the event loop, in which the server reads it alone
                    await asyncio.sleep(0)
            assert await client.response() == status

    run(main())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("http", [*BOUNDED_HTTP, *BOUNDED_HTTP.values()])
def test_upgrade_behind_a_request_under_way(http: str, loop: str) -> None:
    """
    A response never becomes a part of the stream of frames: the upgrade waits for it, or the connection is closed.

    uvicorn's protocol on httptools cannot wait; its own WebSocket protocols answer before the request in front.
    """
    release = asyncio.Event()
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await echo(scope, receive, send)
            return
        await receive()
        if "httptools" in http:
            told.append((await receive())["type"])
            return
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"first"})

    async def main() -> None:
        front = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        async with serving(app, http=http) as served, peer(served, front + request()) as client:
            if "httptools" in http:
                assert await client.rest() == b""
                await until(lambda: told == ["http.disconnect"])
                return
            await until(lambda: served.tasks)
            release.set()
            assert await client.response() == 200
            assert await client.reader.readexactly(5) == b"first"
            assert await client.response() == 101
            client.say(masked(1, b"x"))
            assert await client.text() == "x"

    run(main(), loop)


def test_early_frames_wait_for_accept() -> None:
    """What comes between the request and a late accept is kept, beyond 64 KiB by not reading on."""
    many = 40
    started = asyncio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await started.wait()
        await echo(scope, receive, send)

    async def main() -> None:
        async with serving(late) as served, peer(served, request()) as client:
            client.say(*[masked(1, b"x" * 20_000)] * many)
            await until(lambda: any(getattr(c, "reading_paused", False) for c in served.connections))
            started.set()
            assert await client.response() == 101
            assert [len(await client.text()) for _ in range(many)] == [20_000] * many

    run(main())


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_request_in_single_bytes(http: str) -> None:
    """A request that trickles in byte by byte, with a frame behind it, is served like any other."""

    async def main() -> None:
        async with serving(echo, http=http) as served, peer(served, b"") as client:
            client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in request() + masked(1, b"hi"):
                client.say(bytes([byte]))
                await client.writer.drain()
            assert await client.response() == 101
            assert await client.text() == "hi"

    run(main())


@pytest.mark.parametrize("way", ["subprotocol", "headers"])
@pytest.mark.parametrize(
    ("offered", "named", "answered"),
    [
        (["chat.v1, chat.v2"], "chat.v2", "chat.v2"),
        (["chat.v1", "chat.v2"], "chat.v2", "chat.v2"),
        (["chat.v1"], "chat.v3", None),
        (["chat.v1"], "Chat.v1", None),
        ([], "chat.v1", None),
        (["chat.v1"], None, None),
    ],
)
def test_a_subprotocol_that_was_not_offered_is_never_answered(
    offered: list[str], named: str | None, answered: str | None, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the application names: a client would have to fail the connection. The log says so."""
    caplog.set_level("WARNING", "uvicorn.error")  # whatever other servers of this process have made of it

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Sec-WebSocket-Protocol", named.encode())] if named and way == "headers" else []
        subprotocol = named if way == "subprotocol" else None
        await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})

    async def main() -> None:
        async with serving(app) as served:
            head = request("/", *[f"Sec-WebSocket-Protocol: {line}" for line in offered])
            async with peer(served, head) as client:
                assert await client.response() == 101
                assert client.headers.get("sec-websocket-protocol") == answered

    run(main())
    assert ("was not offered" in caplog.text) is bool(named and not answered)
