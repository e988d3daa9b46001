"""Clients that no one here wrote, against the real server."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import picows
import pytest
import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from socketsundso.environment import DEFLATE_CONTEXT_VARIABLE, DEFLATE_MIN_VARIABLE
from tests.server.serving import Recorder, Served, echo, run, serving

NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
NODE_WS = Path(os.environ.get("SOCKETSUNDSO_E2E_DIR", CACHE / "socketsundso-e2e")) / "node_modules" / "ws"
MESSAGES = ["", "hello", "gr\u00fc\u00dfe \U0001f600", "x" * 70_000]

ANSWERS = {  # everything that we answer to an offer of permessage-deflate, and what we compress then
    "default": {},
    "all": {DEFLATE_MIN_VARIABLE: "0"},
    "off": {DEFLATE_MIN_VARIABLE: "off"},
    "contexts": {DEFLATE_CONTEXT_VARIABLE: "1"},
}
LARGE = ["hello " * 400, "gr\u00fc\u00dfe " * 4000]


@pytest.fixture(params=ANSWERS)
def answer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the server is set."""
    for name, value in ANSWERS[request.param].items():
        monkeypatch.setenv(name, value)
    return str(request.param)


compressions = pytest.mark.parametrize("deflate", [True, False], ids=["deflate", "plain"])


@compressions
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_websockets_asyncio(loop: str, deflate: bool) -> None:
    """`websockets`, asyncio: text, binary, fragments, ping, close with code and reason."""
    recorder = Recorder()

    async def main() -> None:
        compression: Any = "deflate" if deflate else None
        async with serving(echo) as served:
            async with websockets.asyncio.client.connect(served.url, compression=compression) as client:
                assert bool(client.protocol.extensions) is deflate
                for message in [*MESSAGES, b"", b"\x00\xff" * 1000]:
                    await client.send(message)
                    assert await client.recv() == message
                await client.send(["frag", "ment"])
                assert await client.recv() == "fragment"
                await (await client.ping())
            assert client.close_code == 1000
        async with serving(recorder) as served:
            client = await websockets.asyncio.client.connect(served.url, compression=compression)
            await client.close(4001, "bye")
            await served.idle()
        assert recorder.messages == [{"type": "websocket.disconnect", "code": 4001, "reason": "bye"}]

    run(main(), loop)


def test_websockets_sync() -> None:
    """`websockets`, threads."""

    def talk(served: Served) -> None:
        with websockets.sync.client.connect(served.url) as client:
            for message in MESSAGES:
                client.send(message)
                assert client.recv() == message

    async def main() -> None:
        async with serving(echo) as served:
            await asyncio.to_thread(talk, served)

    run(main())


def test_subprotocol_and_headers() -> None:
    """`websockets` accepts the subprotocol and sees the headers that the application chose."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": scope["subprotocols"][1],
                "headers": [(b"x-user", "J\u00fcrgen".encode("latin-1"))],
            }
        )
        await receive()
        await receive()

    async def main() -> None:
        async with (
            serving(app) as served,
            websockets.asyncio.client.connect(served.url, subprotocols=["a", "b"]) as client,  # type: ignore[list-item]
        ):
            assert client.subprotocol == "b"
            assert client.response is not None
            assert client.response.headers["x-user"] == "J\u00fcrgen"

    run(main())


@compressions
def test_aiohttp(deflate: bool) -> None:
    """`aiohttp`: text, binary, close from our side."""

    async def main() -> None:
        async with serving(echo) as served, aiohttp.ClientSession() as session:
            url = served.url.replace("ws", "http", 1)
            async with session.ws_connect(url, compress=15 if deflate else 0) as client:
                for message in MESSAGES:
                    await client.send_str(message)
                    assert await client.receive_str() == message
                await client.send_bytes(b"\xff")
                assert await client.receive_bytes() == b"\xff"
                served.server.should_exit = True
                closed = await client.receive()
                assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1012)

    run(main())


def test_picows() -> None:
    """`picows` as a client, whose parser checks what we write."""

    class Listener(picows.WSListener):
        def __init__(self) -> None:
            self.got: list[str] = []

        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            for message in MESSAGES:
                transport.send(picows.WSMsgType.TEXT, message.encode())

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.disconnect()
                return
            self.got.append(frame.get_payload_as_utf8_text())
            if len(self.got) == len(MESSAGES):
                transport.send_close(picows.WSCloseCode.OK)

    async def main() -> None:
        async with serving(echo) as served:
            transport, listener = await picows.ws_connect(Listener, served.url)
            await transport.wait_disconnected()
            assert listener.got == MESSAGES
            assert transport.close_handshake.recv.code == 1000

    run(main())


async def program(*command: str, timeout_s: float = 60) -> str:
    """Run a program, return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(timeout_s):
            return (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


NODE_SCRIPT = """
const WebSocket = require(process.argv[1]);
const [url, deflate, messages] = [process.argv[2], process.argv[3] === "true", JSON.parse(process.argv[4])];
const client = new WebSocket(url, { perMessageDeflate: deflate });
const got = [];
client.on("open", () => { for (const message of messages) client.send(message); });
client.on("message", (data) => {
  got.push(data.toString());
  if (got.length === messages.length) client.ping("still there?");
});
client.on("pong", (data) => { got.push("pong " + data); client.close(3001, "node is done"); });
client.on("close", (code, reason) => console.log(JSON.stringify({
  got, code, reason: reason.toString(), deflate: client.extensions.includes("permessage-deflate")
})));
client.on("error", (error) => console.log(JSON.stringify({ error: error.message })));
"""


@compressions
@pytest.mark.skipif(NODE is None or not NODE_WS.is_dir(), reason="no node, or no `ws`: .ci/setup-e2e installs it")
def test_node_ws(deflate: bool, answer: str) -> None:
    """Node's `ws`: messages, ping, close with code and reason."""

    async def main() -> None:
        async with serving(echo) as served:
            printed = await program(
                str(NODE),
                "-e",
                NODE_SCRIPT,
                str(NODE_WS),
                served.url,
                str(deflate).lower(),
                json.dumps(MESSAGES),
            )
            assert json.loads(printed) == {
                "got": [*MESSAGES, "pong still there?"],
                "code": 3001,
                "reason": "node is done",
                "deflate": deflate,
            }
            await served.idle()

    run(main())


PAGE = """<!doctype html><title>running</title><body><script>
const messages = %s, got = [];
const client = new WebSocket("ws://" + location.host + "/ws", ["chat"]);
client.onopen = () => messages.forEach((message) => client.send(message));
client.onmessage = (event) => {
  got.push(event.data);
  if (got.length === messages.length) client.close(3002, "browser is done");
};
client.onclose = (event) => {
  fetch("/seen", { method: "POST", body: JSON.stringify({
    got, code: event.code, clean: event.wasClean, protocol: client.protocol, extensions: client.extensions
  }) });
};
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: .ci/setup-e2e installs it")
@pytest.mark.timeout(120)
def test_chromium(answer: str) -> None:
    """A browser's own WebSocket, with the compression that it asks for."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/seen":
                body, more = b"", True
                while more:
                    part = await receive()
                    body, more = body + part["body"], part["more_body"]
                reported.set_result(body)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            await send({"type": "http.response.body", "body": (PAGE % json.dumps(MESSAGES)).encode()})
            return
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "chat"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})

    async def main() -> None:
        nonlocal reported
        reported = asyncio.get_running_loop().create_future()
        async with serving(app) as served:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                browser = await asyncio.create_subprocess_exec(
                    str(CHROMIUM),
                    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                    *(f"--user-data-dir={profile}", "--remote-debugging-port=0"),  # stays until it is ended
                    f"http://127.0.0.1:{served.port}/",
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                try:
                    async with asyncio.timeout(70):
                        seen = json.loads(await reported)
                finally:
                    browser.terminate()
                    await browser.wait()
        assert seen.pop("extensions").startswith("permessage-deflate")
        assert seen == {"got": MESSAGES, "code": 3002, "clean": True, "protocol": "chat"}

    reported: asyncio.Future[bytes]
    run(main())


@pytest.mark.parametrize("server_bits", [None, *range(9, 16)])
@pytest.mark.parametrize("client_bits", [None, True, 9, 12, 15])
def test_websockets_takes_every_answer(answer: str, server_bits: int | None, client_bits: int | bool | None) -> None:
    """Whatever windows `websockets` offers, it accepts what it is answered, and the messages survive."""
    offer = ClientPerMessageDeflateFactory(server_max_window_bits=server_bits, client_max_window_bits=client_bits)

    async def main() -> None:
        async with (
            serving(echo) as served,
            websockets.asyncio.client.connect(served.url, extensions=[offer]) as client,
        ):
            assert client.protocol.extensions
            for message in [*MESSAGES, *LARGE]:
                await client.send(message)
                assert await client.recv() == message

    run(main())


@pytest.mark.parametrize("bits", range(9, 16))
def test_aiohttp_takes_every_answer(answer: str, bits: int) -> None:
    """Whatever window `aiohttp` offers, it accepts what it is answered, and the messages survive."""

    async def main() -> None:
        async with serving(echo) as served, aiohttp.ClientSession() as session:
            url = served.url.replace("ws", "http", 1)
            async with session.ws_connect(url, compress=bits) as client:
                assert client.compress
                for message in [*MESSAGES, *LARGE]:
                    await client.send_str(message)
                    assert await client.receive_str() == message

    run(main())


def test_reject_reaches_the_client() -> None:
    """A rejected handshake is an HTTP response to `websockets`, with status and body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"who are ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you?"})

    async def main() -> None:
        async with serving(app) as served:
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                await websockets.asyncio.client.connect(served.url)
            assert refused.value.response.status_code == 401

    run(main())
