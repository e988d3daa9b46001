"""Each example, started under a real uvicorn and spoken to by a real client."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.backplanes.engines import running as engine
from tests.serving import free_port, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def example(name: str) -> Iterator[int]:
    port = free_port()
    with serving("-m", f"examples.{name}", str(port), port=port):
        yield port


def ask(client: ClientConnection, **message: Any) -> Any:
    client.send(json.dumps(message))
    return json.loads(client.recv(timeout=20))


def until(client: ClientConnection, kind: str) -> Any:
    """The next message of that type."""
    while True:
        message = json.loads(client.recv(timeout=20))
        if message["type"] == kind:
            return message


def names(members: dict[str, Any]) -> list[str]:
    return sorted(meta["name"] for meta in members.values())


def test_chat() -> None:
    """Two clients see and hear each other; a third recovers what was said."""
    with example("chat") as port, connect(f"ws://127.0.0.1:{port}/ws") as ada:
        assert ask(ada, type="message", msg="hello?")["code"] == "not_entered"
        ada.send(json.dumps({"type": "enter", "room": "lobby", "name": "ada"}))
        position = until(ada, "room_position")
        assert position["seq"] == 0
        assert names(until(ada, "presence_diff")["joins"]) == ["ada"]
        with connect(f"ws://127.0.0.1:{port}/ws") as grace:
            grace.send(json.dumps({"type": "enter", "room": "lobby", "name": "grace"}))
            assert names(until(grace, "presence_state")["members"]) == ["ada"]
            assert names(until(ada, "presence_diff")["joins"]) == ["grace"]
            grace.send(json.dumps({"type": "message", "msg": "hi"}))
            said = {"type": "said", "sender": "grace", "msg": "hi", "room": "lobby", "seq": 1}
            assert until(grace, "said") == until(ada, "said") == said
        assert len(until(ada, "presence_diff")["leaves"]) == 1
        assert ask(ada, type="message", msg="")["errors"][0]["type"] == "string_too_short"
        with connect(f"ws://127.0.0.1:{port}/ws") as back:
            rooms = {"lobby": {"seq": 0, "epoch": position["epoch"]}}
            assert ask(back, type="resume", rooms=rooms)["rooms"]["lobby"]["recovered"] is True
            assert until(back, "said") == said
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).read().decode()
        assert "<title>socketsundso chat</title>" in page


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_chat_over_two_processes(kind: str) -> None:
    """Unchanged, with `--backplane`: people on different processes see and hear each other, and recover."""
    with engine(kind) as server, ExitStack() as stack:
        ports = []
        for _ in range(2):
            port = free_port()
            command = ["-m", "socketsundso", "run", "--backplane", server.url, "--port", str(port), "examples.chat:app"]
            ports.append(stack.enter_context(serving(*command, port=port)))
        ada, grace = (stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws")) for port in ports)
        ada.send(json.dumps({"type": "enter", "room": "lobby", "name": "ada"}))
        epoch = until(ada, "room_position")["epoch"]
        until(ada, "presence_diff")
        grace.send(json.dumps({"type": "enter", "room": "lobby", "name": "grace"}))
        assert names(until(grace, "presence_state")["members"]) == ["ada"]
        assert names(until(ada, "presence_diff")["joins"]) == ["grace"]
        for client, msg in ((ada, "hi"), (grace, "hello")):
            client.send(json.dumps({"type": "message", "msg": msg}))
            assert until(ada, "said")["msg"] == until(grace, "said")["msg"] == msg
        back = stack.enter_context(connect(f"ws://127.0.0.1:{ports[1]}/ws"))
        answer = ask(back, type="resume", rooms={"lobby": {"seq": 1, "epoch": epoch}})
        assert answer["rooms"]["lobby"] == {"recovered": True, "seq": 2, "epoch": epoch}
        assert until(back, "said")["msg"] == "hello"


@contextmanager
def browser(url: str, profile: Path) -> Iterator[ClientConnection]:
    """Chromium with one page, and the connection of its debugging protocol."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", url,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with connect(debugger_of(profile, url), proxy=None, max_size=None) as page:
                yield page
        finally:
            process.kill()


def debugger_of(profile: Path, url: str) -> str:
    """The address of the page's debugger, once Chromium has told it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, IndexError, ValueError):
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=20) as answer:
                for target in json.load(answer):
                    if target["type"] == "page" and target["url"] == url:
                        return str(target["webSocketDebuggerUrl"])
    raise AssertionError("Chromium does not open the page")


def text_with(page: ClientConnection, *wanted: str) -> str:
    """The visible text of the page, once it holds all that is wanted."""
    deadline, text = time.monotonic() + 60, ""
    while time.monotonic() < deadline:
        text = str(run_script(page, "document.body.innerText"))
        if all(part in text for part in wanted):
            return text
    raise AssertionError(f"the page shows {text!r}, never {wanted!r}")


def wait_for(page: ClientConnection, script: str, wanted: Any) -> None:
    deadline = time.monotonic() + 60
    while (value := run_script(page, script)) != wanted:
        assert time.monotonic() < deadline, f"{script} is {value!r}, never {wanted!r}"


def run_script(page: ClientConnection, script: str) -> Any:
    return command(page, "Runtime.evaluate", expression=script)["result"].get("value")


def command(page: ClientConnection, method: str, **params: Any) -> Any:
    """One command of Chromium's debugging protocol, and its result."""
    page.send(json.dumps({"id": 1, "method": method, "params": params}))
    while True:
        answer = json.loads(page.recv(timeout=30))
        if answer.get("id") == 1:
            return answer["result"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_chat_page_in_a_browser(tmp_path: Path) -> None:
    """The page enters its room, shows who is there and what is said, and says what its person types."""
    with example("chat") as port, connect(f"ws://127.0.0.1:{port}/ws") as ada:
        ada.send(json.dumps({"type": "enter", "room": "lobby", "name": "ada"}))
        until(ada, "presence_diff")
        with browser(f"http://127.0.0.1:{port}/", tmp_path) as page:
            text_with(page, "lobby: ada, guest")
            ada.send(json.dumps({"type": "message", "msg": "hello <b>you</b>"}))
            text_with(page, "hello <b>you</b>")
            run_script(page, "document.getElementById('msg').value = 'hello ada'; document.forms[0].requestSubmit()")
            assert until(ada, "said")["msg"] == "hello <b>you</b>"
            assert until(ada, "said")["msg"] == "hello ada"


def test_cursors() -> None:
    """Places and strokes reach the others, not who made them; presence tells name and colour."""
    with (
        example("cursors") as port,
        connect(f"ws://127.0.0.1:{port}/ws") as ada,
        connect(f"ws://127.0.0.1:{port}/ws") as grace,
    ):
        assert ask(ada, type="enter", name="ada", hue=400)["errors"][0]["loc"] == ["hue"]
        ada.send(json.dumps({"type": "enter", "name": "ada", "hue": 10}))
        who = until(ada, "welcome")["who"]
        grace.send(json.dumps({"type": "enter", "name": "grace", "hue": 20}))
        assert until(grace, "presence_state")["members"] == {who: {"name": "ada", "hue": 10}}
        until(grace, "welcome")
        ada.send(json.dumps({"type": "move", "x": 0.25, "y": 0.5}))
        ada.send(json.dumps({"type": "draw", "points": [[0, 0], [1, 1]]}))
        assert until(grace, "moved") == {"type": "moved", "who": who, "x": 0.25, "y": 0.5}
        assert until(grace, "stroke") == {"type": "stroke", "who": who, "points": [[0.0, 0.0], [1.0, 1.0]]}
        until(ada, "presence_diff")
        assert ask(ada, type="move", x=2, y=0)["errors"][0]["type"] == "less_than_equal"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=20) as answer:
            status = json.load(answer)
        assert (status["backplane"], status["published"], status["dropped"]) == ("connected", 2, 0)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_cursors_page_in_a_browser(tmp_path: Path) -> None:
    """The page shows who is here and where their cursor is, and sends what its person draws."""
    with example("cursors") as port, connect(f"ws://127.0.0.1:{port}/ws") as ada:
        ada.send(json.dumps({"type": "enter", "name": "ada <i>", "hue": 200}))
        until(ada, "welcome")
        with browser(f"http://127.0.0.1:{port}/", tmp_path) as page:
            text_with(page, "ada <i>", "(you)", "draw with the pointer")
            ada.send(json.dumps({"type": "draw", "points": [[0.2, 0.3], [0.4, 0.5], [0.6, 0.35]]}))
            wait_for(page, "document.querySelector('.cursor b')?.textContent", "ada <i>")
            for kind, x in (("Pressed", 300), ("Moved", 400), ("Released", 400)):
                button = {"button": "left", "buttons": 1, "clickCount": 1}
                command(page, "Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=300, **button)
            assert len(until(ada, "stroke")["points"]) >= 2


def test_decorator() -> None:
    """Every way to register a handler answers."""
    with example("decorator") as port, connect(f"ws://127.0.0.1:{port}/") as client:
        assert ask(client, type="message", msg="m") == {"type": "reply", "msg": "m"}
        assert ask(client, type="time").keys() == {"type", "now"}
        assert ask(client, type="ping", ref=1).keys() == {"type", "time", "ref"}
        assert ask(client, type="add", a=1, b=2) == {"type": "add", "sum": 3}
        assert ask(client, type="echo", message="m") == {"type": "echoed", "message": "m"}
        assert ask(client, type="shout", text="m") == {"type": "shout", "text": "M"}
        assert ask(client, type="goodbye")["type"] == "goodbye"


def test_pydantic_models() -> None:
    """Discriminated unions, validators, aliases and secrets are pydantic's."""
    with example("pydantic_models") as port, connect(f"ws://127.0.0.1:{port}/") as client:
        card = {"kind": "card", "number": "123456789012"}
        paid = ask(client, type="pay", order=1, payment=card)
        assert paid == {"type": "pay", "order": 1, "paidBy": "card", "note": None}
        wrong = ask(client, type="pay", order=0, payment={"kind": "card", "number": "x"})
        assert [e["loc"] for e in wrong["errors"]] == [["order"], ["payment", "card", "number"]]
        assert "input" not in wrong["errors"][0]
        assert ask(client, type="receipt", order=5) == {"type": "receipt", "order": 5, "paidBy": "card"}
        assert ask(client, type="receipt", order=500)["code"] == "not_found"
        assert ask(client, type="login", password="hunter2")["length"] == 7
        assert ask(client, type="rename", name="n") == {"type": "rename", "name": "n"}


def test_fastapi_app() -> None:
    """Dependencies reach `__init__`; both ways to mount work."""
    with example("fastapi_app") as port:
        with connect(f"ws://127.0.0.1:{port}/ws?lang=de") as client:
            assert ask(client, type="greet", name="Ada") == {"type": "greet", "text": "hallo Ada"}
        with connect(f"ws://127.0.0.1:{port}/count") as client:
            assert ask(client, type="count", by="5")["count"] == 5
            assert ask(client, type="count")["count"] == 6
