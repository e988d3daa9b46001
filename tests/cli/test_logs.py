"""What `socketsundso run` logs, read from the output of a real process."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client
from click.testing import CliRunner

from socketsundso.cli import main
from tests.cli.test_run import running, this_checkout

__all__ = ["this_checkout"]  # a fixture

APP = """
import asyncio
import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from socketsundso import Endpoint, event


class Chat(Endpoint):
    async def authenticate(self):
        if "deny" in self.websocket.url.query:
            raise HTTPException(401)
        if "break" in self.websocket.url.query:
            raise RuntimeError("broken")
        return {"sub": "ada", "token": "tok-of-claims"}

    @event
    async def on_fail(self, secret: str):
        raise RuntimeError("broken")

    @event
    async def on_warn(self):
        logging.getLogger("socketsundso.rooms").warning("a line of rooms")
        return {}

    async def on_disconnect(self, close_code):
        raise LookupError("gone")


async def page(request):
    return PlainTextResponse("a page")


async def broken(request):
    raise RuntimeError("broken")


class Silent:
    def __str__(self):
        raise ValueError("says nothing")


def of_themselves():
    itself = []
    itself.append(itself)
    return itself


async def odd(request):
    logger = logging.getLogger("socketsundso.mine")
    logger.warning("a number", extra={"ratio": float("nan")})
    logger.warning("a key", extra={"keys": {(1, 2): 3}})
    logger.warning("an object", extra={"silent": Silent()})
    logger.warning("a circle", extra={"circle": of_themselves()})
    logger.warning("too %s", "many", "arguments")
    logger.warning("a stack", stack_info=True)
    logger.warning("taken", extra={"time": "mine", "level": "mine"})
    logger.warning("of a peer: %s", "two\\r\\nlines, and \\x1b[31mred")
    logging.getLogger("a.library").warning("configured by nobody")
    asyncio.ensure_future(lost()).add_done_callback(lambda _: None)
    await asyncio.sleep(0)
    return PlainTextResponse("odd")


async def lost():
    raise RuntimeError("nobody awaits this")


pages = [Route("/page", page), Route("/broken", broken), Route("/odd", odd)]
app = Starlette(routes=[WebSocketRoute("/ws", Chat), *pages])
"""

SECRETS = [
    "tok-of-query", "tok-of-claims", "tok-of-page", "tok-of-header", "tok-of-user", "x" * 9, "words-of-a-peer",
]  # fmt: skip


def log_of(folder: Path, *options: str) -> str:
    """What a server has logged of a connection, a bad frame, a page and a shutdown."""
    (folder / "served.py").write_text(APP)
    with running(folder, "served:app", *options) as (url, _):
        headers = {"Authorization": "Bearer tok-of-header"}
        with websockets.sync.client.connect(f"{url}/ws?token=tok-of-query", additional_headers=headers) as client:
            client.send('{"type":"fail","ref":"r 7","secret":"words-of-a-peer"}')
            client.recv(10)
            client.send('{"type":"warn"}')
            client.recv(10)
            client.send("words-of-a-peer")
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                client.recv(10)
        urllib.request.urlopen(f"{url.replace('ws:', 'http:')}/page?token=tok-of-page").read()
        urllib.request.urlopen(f"{url.replace('ws:', 'http:')}/odd").read()
        for target, headers in REQUESTS.items():
            ask(int(url.rpartition(":")[2]), target, headers)
    return (folder / "log").read_text()


UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
REQUESTS = {
    "/ws?token=tok-of-query&deny": f"{UPGRADE}Sec-WebSocket-Version: 13\r\n",
    "/ws?token=tok-of-query&break": f"{UPGRADE}Sec-WebSocket-Version: 13\r\n",
    "/ws?token=tok-of-query&offer": f"{UPGRADE}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: tok-{'x' * 40}\r\n",
    "/ws?token=tok-of-query&version": f"{UPGRADE}Sec-WebSocket-Version: 7\r\n",
    "/ws?token=tok-of-query&bearer": f"{UPGRADE}Sec-WebSocket-Version: 13\r\nAuthorization: Bearer tok-of-header\r\n",
    "/nowhere?token=tok-of-query": f"{UPGRADE}Sec-WebSocket-Version: 13\r\n",
    "/ws%3Ftoken=tok-of-query": f"{UPGRADE}Sec-WebSocket-Version: 13\r\n",
    "/broken?token=tok-of-page": "",
    "http://localhost/page?token=tok-of-page": "",  # as a client of a proxy writes it
    "http://ada:tok-of-user@h/page?token=tok-of-page": "",
    "http://ada:tok-of-user@h/ws?token=tok-of-query": f"{UPGRADE}Sec-WebSocket-Version: 13\r\n",
    "/page?forwarded": "X-Forwarded-For: 10.0.0.9\x9b31m\r\n",
    "/page#tok-of-page": "",
    "/page?token=tok-of-page \x01": "",
}
"""Targets, and headers: what is refused, by whoever it is, or fails."""


def ask(port: int, target: str, headers: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode("latin-1"))
        assert client.recv(1000).startswith(b"HTTP/1.1 ")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        return log_of(tmp_path_factory.mktemp("lines"), "--http", "h11", "--log-level", "trace")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        log = log_of(
            tmp_path_factory.mktemp("objects"),
            "--log-json",
            "--ws",
            "websockets-sansio",
            "--http",
            "httptools",
            "--log-level",
            "debug",
        )
    return [json.loads(line, parse_constant=pytest.fail) for line in log.splitlines()]


def of(objects: list[dict[str, Any]], words: str) -> dict[str, Any]:
    return next(each for each in objects if words in each["message"])


@pytest.mark.parametrize(
    "pattern",
    [
        r"INFO: +uvicorn\.error: Application startup complete\.$",
        r"ERROR: +socketsundso: Chat: event 'fail' of 127\.0\.0\.1:\d+ failed "
        r'\[connection=[\w-]+ event=fail ref="r 7" user=ada\]$',
        r"WARNING: +socketsundso\.rooms: a line of rooms$",
        r"INFO: +socketsundso: 127\.0\.0\.1:\d+ sent .* \(.*\): closed 1003 \[connection=[\w-]+ user=ada\]$",
        r"ERROR: +socketsundso: Chat\.on_disconnect failed for 127\.0\.0\.1:\d+ \[connection=[\w-]+ user=ada\]$",
        r'INFO: +uvicorn\.access: 127\.0\.0\.1:\d+ - "GET /page\?\*\*\* HTTP/1\.1" 200 OK$',
        r'INFO: +uvicorn\.error: 127\.0\.0\.1:\d+ - "WebSocket /ws\?\*\*\*" \[accepted\]$',
        r'INFO: +uvicorn\.access: 127\.0\.0\.1:\d+ - "GET http%3A//\*\*\*@h/page\?\*\*\* HTTP/1\.1" 404 Not Found$',
        r'INFO: +uvicorn\.access: 10\.0\.0\.9\\x9b31m:0 - "GET /page\?\*\*\* HTTP/1\.1" 200 OK$',
        r"WARNING: +socketsundso\.mine: of a peer: two\\r\\nlines, and \\x1b\[31mred$",
        r"WARNING: +a\.library: configured by nobody$",
        r"ERROR: +asyncio: Task exception was never retrieved$",
    ],
)
def test_a_line_has_time_level_and_logger(lines: str, pattern: str) -> None:
    """uvicorn's lines, those of rooms, and those of endpoints, which say of which connection, message and user."""
    assert re.search(rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d,\d{{3}} {pattern}", lines, re.MULTILINE), lines


def test_no_line_has_a_token_or_a_payload(lines: str, objects: list[dict[str, Any]]) -> None:
    """Neither in lines nor in JSON, neither on our protocol nor on uvicorn's."""
    log = lines + json.dumps(objects)
    assert [secret for secret in SECRETS if secret in log] == []


def test_an_object_says_what_it_is_about(objects: list[dict[str, Any]]) -> None:
    """With `--log-json` each line is an object; the exception is a key of it."""
    failed = of(objects, "event 'fail'")
    assert (failed["level"], failed["logger"], failed["event"], failed["ref"], failed["user"]) == (
        "error", "socketsundso", "fail", "r 7", "ada",
    )  # fmt: skip
    assert failed["connection"] == of(objects, "on_disconnect failed")["connection"]
    assert failed["exception"].endswith("RuntimeError: broken")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", failed["time"])


def test_an_object_has_no_key_for_what_is_not_known(objects: list[dict[str, Any]]) -> None:
    """A line that is about no message has no `event`."""
    assert of(objects, "on_disconnect failed").keys() == {
        "time", "level", "logger", "message", "connection", "user", "exception",
    }  # fmt: skip


def test_whatever_is_logged_is_json(objects: list[dict[str, Any]]) -> None:
    """Numbers, keys and objects that JSON has not are their text; lines of whom nobody has configured look alike."""
    assert of(objects, "a number")["ratio"] == "nan"
    assert of(objects, "a key")["keys"] == "{(1, 2): 3}"
    assert of(objects, "an object")["silent"] == "<Silent>"
    assert of(objects, "a circle")["circle"] == "[[...]]"
    assert of(objects, "too %s")["message"] == "too %s ('many', 'arguments')"
    assert "in odd" in of(objects, "a stack")["stack"]
    assert (of(objects, "taken")["level"], of(objects, "taken")["time"] > "2") == ("warning", True)
    assert of(objects, "configured by nobody")["logger"] == "a.library"
    assert of(objects, "never retrieved")["exception"].endswith("nobody awaits this")


def test_uvicorns_own_protocol_hides_the_query(objects: list[dict[str, Any]]) -> None:
    """uvicorn's line for a socket that it accepts has the whole target; here it has not."""
    assert of(objects, "[accepted]")["message"].endswith('"WebSocket /ws?***" [accepted]')


def test_a_file_says_how_to_log_or_the_option(tmp_path: Path) -> None:
    """`--log-config` and `--log-json` together are a mistake."""
    (tmp_path / "log.json").write_text("{}")
    result = CliRunner().invoke(main, ["run", "served:app", "--log-json", "--log-config", str(tmp_path / "log.json")])
    assert (result.exit_code, "both say how to log" in result.output) == (2, True)
