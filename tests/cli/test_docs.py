"""`socketsundso run --docs`, as a user starts it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_run import asked, running, this_checkout

__all__ = ["this_checkout"]

APP = '''
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from socketsundso import Endpoint, event


class Echo(Endpoint):
    @event
    async def on_say(self, msg: str) -> None:
        """Say it."""


async def home(request):
    return PlainTextResponse("home")


app = Starlette(routes=[Route("/", home), WebSocketRoute("/ws", Echo)])
api = FastAPI()
api.add_api_websocket_route("/ws", Echo)


def asgi2(scope):
    return app


async def bare(scope, receive, send):
    await app(scope, receive, send)
'''


def get(url: str) -> Any:
    with urllib.request.urlopen(url.replace("ws:", "http:"), timeout=30) as answer:
        return answer.read().decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "documented.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "place", "address"),
    [("app", "/docs", "/ws"), ("api", "/docs/ws", "/ws"), ("Echo", "/docs", "/")],
)
def test_the_page_is_beside_what_is_served(folder: Path, target: str, place: str, address: str) -> None:
    """At /docs, or below where FastAPI has its own; the application answers as without."""
    with running(folder, "--docs", f"documented:{target}") as (url, _):
        assert f"at {place}\n" in (folder / "log").read_text()
        assert "main.js" in get(f"{url}{place}")
        (channel,) = json.loads(get(f"{url}{place}/asyncapi.json"))["channels"].values()
        assert channel["address"] == address
        if target == "app":
            assert get(f"{url}/") == "home"
        if target == "api":
            assert "swagger" in get(f"{url}/docs")


def test_without_the_option_there_is_no_page(folder: Path) -> None:
    """Nobody who did not ask for it shows a contract."""
    with running(folder, "documented:app") as (url, _), pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{url}/docs/")


def test_what_cannot_have_a_page_says_so(folder: Path) -> None:
    """An application of ASGI 2, in one line."""
    ended = asked(folder, "--docs", "--interface", "asgi2", "documented:asgi2")
    assert ended.returncode == 3
    assert "Error: cannot serve documented:asgi2 with --docs: it is no ASGI 3 application" in ended.stderr
