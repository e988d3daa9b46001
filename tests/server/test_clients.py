"""Clients that no one here wrote, against the real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import picows
import pytest
import websocket
import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client
import wsproto
import wsproto.events
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from wsproto.extensions import PerMessageDeflate

from socketsundso.environment import DEFLATE_CONTEXT_VARIABLE, DEFLATE_MIN_VARIABLE
from tests.server.serving import DEADLINE_S, LOOPS, Recorder, Served, echo, run, serving

NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
NODE_MODULES = Path(os.environ.get("SOCKETSUNDSO_E2E_DIR", CACHE / "socketsundso-e2e")) / "node_modules"
NODE_WS, UNDICI, BUN = NODE_MODULES / "ws", NODE_MODULES / "undici", NODE_MODULES / ".bin" / "bun"
MESSAGES = ["", "hello", "gr\u00fc\u00dfe \U0001f600", "x" * 70_000]
FAR = "".join(random.Random(1).choices("abcdefgh", k=20_000)) * 2  # whose second half refers to 20,000 bytes before
LARGE = ["hello " * 400, "gr\u00fc\u00dfe " * 4000, FAR]


class Answer(NamedTuple):
    """How the server is set that is offered permessage-deflate."""

    environment: dict[str, str]
    agrees: bool = True


ANSWERS = {  # everything that we answer, and what we compress then
    "default": Answer({}),
    "all": Answer({DEFLATE_MIN_VARIABLE: "0"}),
    "off": Answer({DEFLATE_MIN_VARIABLE: "off"}),
    "contexts": Answer({DEFLATE_CONTEXT_VARIABLE: "1"}),
    "contexts, large": Answer({DEFLATE_CONTEXT_VARIABLE: "1", DEFLATE_MIN_VARIABLE: "1024"}),
    "refused": Answer({}, agrees=False),
}


@pytest.fixture(params=ANSWERS)
def answer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Answer:
    chosen = ANSWERS[request.param]
    for name, value in chosen.environment.items():
        monkeypatch.setenv(name, value)
    return chosen


def answering(answer: Answer) -> contextlib.AbstractAsyncContextManager[Served]:
    """A server that gives this answer, and sends what it gets back in both ways."""
    return serving(twice, ws_per_message_deflate=answer.agrees)


async def twice(scope: Any, receive: Any, send: Any) -> None:
    """Every message comes back as a reply, and as what a room sends: a ready frame."""
    push = scope["extensions"]["socketsundso.push"]
    await receive()
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
        text = message.get("text")
        push.push(push.frame(message["bytes"] if text is None else text, binary=text is None))


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
client.on("open", () => messages.forEach((message) => {
  const half = message.length >> 1;
  client.send(message);
  client.send(message.slice(0, half), { fin: false });
  client.send(message.slice(half));
}));
client.on("message", (data) => {
  got.push(data.toString());
  if (got.length === 4 * messages.length) client.ping("still there?");
});
client.on("pong", (data) => { got.push("pong " + data); client.close(3001, "node is done"); });
client.on("close", (code, reason) => console.log(JSON.stringify({
  got, code, reason: reason.toString(), deflate: client.extensions.includes("permessage-deflate")
})));
client.on("error", (error) => console.log(JSON.stringify({ error: error.message })));
"""


@compressions
@pytest.mark.skipif(NODE is None or not NODE_WS.is_dir(), reason="no node, or no `ws`: .ci/setup-e2e installs it")
def test_node_ws(deflate: bool, answer: Answer) -> None:
    """Node's `ws`: messages, whole and in fragments, ping, close with code and reason."""

    async def main() -> None:
        async with answering(answer) as served:
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
                "got": [*(message for message in MESSAGES for _ in range(4)), "pong still there?"],
                "code": 3001,
                "reason": "node is done",
                "deflate": deflate and answer.agrees,
            }
            await served.idle()

    run(main())


TALK = """
function talk(WebSocket, url, messages, tell) {
  const client = new WebSocket(url, ["chat"]), got = [];
  client.binaryType = "arraybuffer";
  client.onopen = () => messages.forEach((message) => {
    client.send(message);
    client.send(new TextEncoder().encode(message));
  });
  client.onmessage = ({ data }) => {
    got.push(typeof data === "string" ? data : { bytes: new TextDecoder().decode(data) });
    if (got.length === 4 * messages.length) client.close(3002, "that is all");
  };
  client.onclose = ({ code, wasClean }) => tell(JSON.stringify({
    got, code, clean: wasClean, protocol: client.protocol, extensions: client.extensions
  }));
}
"""


def check_talk(told: str | bytes, answer: Answer) -> None:
    """What `talk` tells of a WebSocket, which has the browsers' interface: texts and bytes came back, all twice."""
    seen = json.loads(told)
    assert seen.pop("extensions").startswith("permessage-deflate") is answer.agrees
    sent = [each for message in [*MESSAGES, *LARGE] for each in (message, {"bytes": message})]
    assert seen == {"got": [each for each in sent for _ in range(2)], "code": 3002, "clean": True, "protocol": "chat"}


async def talks(answer: Answer, folder: Path, runtime: Path | str, client: str) -> None:
    """A program of this runtime talks with us by the WebSocket that `client` evaluates to."""
    script = folder / "talk.cjs"
    async with answering(answer) as served:
        arguments = f"{client}, {json.dumps(served.url)}, {json.dumps([*MESSAGES, *LARGE])}, console.log"
        script.write_text(f"{TALK}talk({arguments});")
        check_talk(await program(str(runtime), str(script)), answer)
        await served.idle()


@pytest.mark.skipif(NODE is None or not UNDICI.is_dir(), reason="no node, or no undici: .ci/setup-e2e installs it")
def test_undici(answer: Answer, tmp_path: Path) -> None:
    """undici, whose WebSocket is the one that Node has built in."""
    run(talks(answer, tmp_path, str(NODE), f"require({json.dumps(str(UNDICI))}).WebSocket"))


@pytest.mark.skipif(not BUN.exists(), reason="no bun: .ci/setup-e2e installs it")
def test_bun(answer: Answer, tmp_path: Path) -> None:
    """Bun's own WebSocket."""
    run(talks(answer, tmp_path, BUN, "WebSocket"))


PAGE = """<!doctype html><title>running</title><body><script>%s
talk(WebSocket, "ws://" + location.host + "/ws", %s, (body) => fetch("/seen", { method: "POST", body }));
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: .ci/setup-e2e installs it")
@pytest.mark.timeout(120)
def test_chromium(answer: Answer) -> None:
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
            page = PAGE % (TALK, json.dumps([*MESSAGES, *LARGE]))
            await send({"type": "http.response.body", "body": page.encode()})
        else:
            await twice(scope, receive, send)

    async def main() -> None:
        nonlocal reported
        reported = asyncio.get_running_loop().create_future()
        async with serving(app, ws_per_message_deflate=answer.agrees) as served:
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
                        told = await reported
                finally:
                    browser.terminate()
                    await browser.wait()
        check_talk(told, answer)

    reported: asyncio.Future[bytes]
    run(main())


@pytest.mark.parametrize("answer", ["default", "all", "contexts"], indirect=True)
@pytest.mark.parametrize("server_bits", [None, *range(9, 16)])
@pytest.mark.parametrize("client_bits", [None, True, 9, 12, 15])
def test_websockets_takes_every_answer(answer: Answer, server_bits: int | None, client_bits: int | bool | None) -> None:
    """Whatever windows `websockets` offers, it accepts what it is answered, and the messages survive."""
    offer = ClientPerMessageDeflateFactory(server_max_window_bits=server_bits, client_max_window_bits=client_bits)

    async def main() -> None:
        async with (
            answering(answer) as served,
            websockets.asyncio.client.connect(served.url, extensions=[offer]) as client,
        ):
            assert bool(client.protocol.extensions) is answer.agrees
            for message in [*MESSAGES, *LARGE]:
                await client.send(message)
                assert [await client.recv(), await client.recv()] == [message, message]

    run(main())


@pytest.mark.parametrize("bits", range(9, 16))
def test_aiohttp_takes_every_answer(answer: Answer, bits: int) -> None:
    """Whatever window `aiohttp` offers, it accepts what it is answered, and the messages survive."""

    async def main() -> None:
        async with answering(answer) as served, aiohttp.ClientSession() as session:
            url = served.url.replace("ws", "http", 1)
            async with session.ws_connect(url, compress=bits) as client:
                assert bool(client.compress) is answer.agrees
                for message in [*MESSAGES, *LARGE]:
                    await client.send_str(message)
                    assert [await client.receive_str(), await client.receive_str()] == [message, message]

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("bits", [9, 15])
def test_wsproto_takes_every_answer(answer: Answer, bits: int, loop: str) -> None:
    """Whatever windows `wsproto` offers, both of them named, and in fragments, too."""

    async def main() -> None:
        async with answering(answer) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)

            def say(event: wsproto.events.Event) -> None:
                writer.write(client.send(event))

            async def heard() -> AsyncIterator[Any]:
                """Whole messages, and other events as they are."""
                parts: list[Any] = []
                while True:
                    for event in client.events():
                        if not isinstance(event, wsproto.events.Message):
                            yield event
                            continue
                        parts.append(event.data)
                        if event.message_finished:
                            yield type(event.data)().join(parts)
                            parts.clear()
                    client.receive_data(await reader.read(1 << 16) or None)

            offer = PerMessageDeflate(client_max_window_bits=bits, server_max_window_bits=bits)
            say(wsproto.events.Request(host="localhost", target="/", extensions=[offer]))
            ears = heard()
            assert bool((await anext(ears)).extensions) is answer.agrees
            for message in [*MESSAGES, *LARGE]:
                half = len(message) // 2
                say(wsproto.events.TextMessage(message))
                say(wsproto.events.TextMessage(message[:half], message_finished=False))
                say(wsproto.events.TextMessage(message[half:]))
                say(wsproto.events.BytesMessage(message.encode()))
                assert [await anext(ears) for _ in range(6)] == [message] * 4 + [message.encode()] * 2
            say(wsproto.events.CloseConnection(1000))
            assert (await anext(ears)).code == 1000
            await ears.aclose()
            writer.close()
            await writer.wait_closed()

    run(main(), loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_websocket_client(answer: Answer, loop: str) -> None:
    """`websocket-client`, whole and in fragments: it offers no compression, and gets nothing compressed."""
    text, rest = websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_CONT

    def talk(served: Served) -> None:
        # its own check of UTF-8 goes byte by byte
        connect = partial(websocket.create_connection, served.url, timeout=DEADLINE_S, skip_utf8_validation=True)
        with contextlib.closing(connect()) as client:
            assert "sec-websocket-extensions" not in client.getheaders()
            for message in [*MESSAGES, *LARGE]:
                data = message.encode()
                client.send(message)
                assert [client.recv(), client.recv()] == [message, message]
                client.send_binary(data)
                assert [client.recv(), client.recv()] == [data, data]
                client.send_frame(websocket.ABNF.create_frame(data[: len(data) // 2], text, fin=0))
                client.send_frame(websocket.ABNF.create_frame(data[len(data) // 2 :], rest, fin=1))
                assert [client.recv(), client.recv()] == [message, message]

    async def main() -> None:
        async with answering(answer) as served:
            await asyncio.to_thread(talk, served)

    run(main(), loop)


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
