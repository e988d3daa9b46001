"""Pages in a real Chromium, looked at and acted on through its debugging protocol."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@contextmanager
def browser(url: str, profile: Path) -> Iterator[ClientConnection]:
    """Chromium with one page, and the connection of its debugging protocol."""
    with chromium(profile) as port, tab(port, url) as page:
        yield page


@contextmanager
def chromium(profile: Path) -> Iterator[int]:
    """A browser of its own, and the port of its debugging protocol."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield _port_of(profile)
        finally:
            process.kill()


def _port_of(profile: Path) -> int:
    """The port of the debugger, once Chromium has told it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, IndexError, ValueError):
            port = int((profile / "DevToolsActivePort").read_text().split()[0])
            _ask(port, "version")
            return port
        time.sleep(0.02)
    raise AssertionError("Chromium does not start")


@contextmanager
def tab(port: int, url: str) -> Iterator[ClientConnection]:
    """A page of its own in this browser, and the connection of its debugging protocol."""
    opened = _ask(port, f"new?{urllib.parse.quote(url, safe='')}", method="PUT")
    with connect(opened["webSocketDebuggerUrl"], proxy=None, max_size=None) as page:
        yield page
    _ask(port, f"close/{opened['id']}", read=bytes)


def _ask(port: int, what: str, method: str = "GET", read: Any = json.loads) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/json/{what}", method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return read(answer.read())


def text_with(page: ClientConnection, *wanted: str) -> str:
    """The visible text of the page, once it holds all that is wanted."""
    deadline, text = time.monotonic() + 60, ""
    while time.monotonic() < deadline:
        text = str(run_script(page, "document.body.innerText"))
        if all(part in text for part in wanted):
            return text
    raise AssertionError(f"the page shows {text!r}, never {wanted!r}")


def wait_for(page: ClientConnection, script: str, wanted: Any) -> None:
    deadline, value = time.monotonic() + 60, None
    while time.monotonic() < deadline:
        with contextlib.suppress(Refused):  # the page that was asked is being left
            value = run_script(page, script)
            if value == wanted:
                return
    raise AssertionError(f"{script} is {value!r}, never {wanted!r}")


def run_script(page: ClientConnection, script: str) -> Any:
    return command(page, "Runtime.evaluate", expression=script)["result"].get("value")


class Refused(Exception):
    """What the browser answers instead of a result."""


def command(page: ClientConnection, method: str, **params: Any) -> Any:
    """One command of Chromium's debugging protocol, and its result."""
    page.send(json.dumps({"id": 1, "method": method, "params": params}))
    while True:
        answer = json.loads(page.recv(timeout=30))
        if answer.get("id") == 1:
            if "error" in answer:
                raise Refused(answer["error"]["message"])
            return answer["result"]


def complaints(page: ClientConnection) -> list[str]:
    """What the browser's console shows as errors and warnings since the page was opened."""
    for number, method in enumerate(("Log.enable", "Runtime.enable", "Runtime.evaluate"), 100):
        page.send(json.dumps({"id": number, "method": method, "params": {"expression": "1"}}))
    found = []
    while (told := json.loads(page.recv(timeout=30))).get("id") != 102:
        event = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            found.append(json.dumps(event["exceptionDetails"]))
        elif event.get("entry", {}).get("level") in ("warning", "error"):
            found.append(f"{event['entry']['text']} {event['entry'].get('url')}")
        elif event.get("type") in ("warning", "error", "assert"):
            found.append(json.dumps(event["args"]))
    return found
