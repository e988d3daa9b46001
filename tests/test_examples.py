"""Each example, started under a real uvicorn and spoken to by a real client."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.backplanes.engines import running as engine
from tests.browsing import browser, command, complaints, in_a_browser, run_script, text_with, wait_for
from tests.serving import ROOT, free_port, serving


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
        for nothing in ("", "  \n "):
            assert ask(ada, type="message", msg=nothing)["errors"][0]["type"] == "string_too_short"
        with connect(f"ws://127.0.0.1:{port}/ws") as back:
            rooms = {"lobby": {"seq": 0, "epoch": position["epoch"]}}
            assert ask(back, type="resume", rooms=rooms)["rooms"]["lobby"]["recovered"] is True
            assert until(back, "said") == said
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).read().decode()
        assert "<title>socketsundso chat</title>" in page


def enter(client: ClientConnection, name: str, room: str = "lobby") -> None:
    client.send(json.dumps({"type": "enter", "room": room, "name": name}))
    until(client, "presence_diff")


def say(client: ClientConnection, *msgs: str) -> None:
    for msg in msgs:
        client.send(json.dumps({"type": "message", "msg": msg}))
        while until(client, "said")["msg"] != msg:
            pass


def test_chat_tells_who_comes_what_was_said_last() -> None:
    """The newest fifty messages, in order; then who comes is there."""
    with example("chat") as port, connect(f"ws://127.0.0.1:{port}/ws") as ada:
        enter(ada, "ada")
        say(ada, *(f"n{n}" for n in range(60)))
        with connect(f"ws://127.0.0.1:{port}/ws") as grace:
            grace.send(json.dumps({"type": "enter", "room": "lobby", "name": "grace"}))
            assert until(grace, "room_position")["seq"] == 10
            assert [until(grace, "said")["seq"] for _ in range(50)] == list(range(11, 61))
            say(ada, "hello grace")
            assert until(grace, "said")["msg"] == "hello grace"


def test_chat_leaves_no_room_for_one_that_cannot_be() -> None:
    """A name that is refused changes nothing; a good one does, and what is said in the old room is not heard there."""
    with example("chat") as port, connect(f"ws://127.0.0.1:{port}/ws") as ada:
        enter(ada, "ada")
        for name in ("b*d", "", "  ", "x" * 41):
            assert ask(ada, type="enter", room=name, name="ada")["code"] == "validation_error"
        with connect(f"ws://127.0.0.1:{port}/ws") as grace:
            enter(grace, "grace")
            say(grace, "still here?")
            assert until(ada, "said")["msg"] == "still here?"
            ada.send(json.dumps({"type": "enter", "room": " games ", "name": "ada"}))
            assert until(ada, "room_position")["room"] == "games"
            assert until(grace, "presence_diff")["leaves"]
            say(grace, "gone?")
            ada.send(json.dumps({"type": "message", "msg": "yes"}))
            assert until(ada, "said")["msg"] == "yes"
            grace.send(json.dumps({"type": "message", "msg": "alone"}))
            assert until(grace, "said")["msg"] == "alone"


@pytest.mark.parametrize("kind", ["memory", "redis", "nats"])
def test_chat_loses_nothing_for_who_resumes_and_enters(kind: str) -> None:
    """A writer does not stop; whoever comes back and enters its room at once sees every number once."""
    with ExitStack() as stack:
        port = free_port()
        url = "memory://" if kind == "memory" else stack.enter_context(engine(kind)).url
        command = ["-m", "socketsundso", "run", "--backplane", url, "--port", str(port), "examples.chat:app"]
        stack.enter_context(serving(*command, port=port))
        ada = stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws"))
        ada.send(json.dumps({"type": "enter", "room": "lobby", "name": "ada"}))
        epoch, seqs = until(ada, "room_position")["epoch"], [0]
        stop, ahead = threading.Event(), threading.Semaphore(60)  # of the 100 that the room keeps
        writing = threading.Thread(target=_write, args=(ada, stop, ahead))
        writing.start()
        try:
            for _ in range(8):
                with connect(f"ws://127.0.0.1:{port}/ws") as back:
                    rooms = {"lobby": {"seq": seqs[-1], "epoch": epoch}}
                    back.send(json.dumps({"type": "resume", "rooms": rooms}))
                    back.send(json.dumps({"type": "enter", "room": "lobby", "name": "back"}))
                    assert until(back, "resumed")["rooms"]["lobby"]["recovered"] is True
                    for _ in range(15):
                        seqs.append(until(back, "said")["seq"])
                        ahead.release()
        finally:
            stop.set()
            ahead.release()
            writing.join()
        assert seqs == list(range(len(seqs)))


def _write(client: ClientConnection, stop: threading.Event, ahead: threading.Semaphore) -> None:
    n = 0
    while ahead.acquire() and not stop.is_set():
        n += 1
        say(client, f"n{n}")


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


class Gateway:
    """A network between a page and its server, which can be cut, or go dead without a word."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._dead: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        for each in (self._listening, *(end for link in self._links for end in link)):
            each.close()

    def cut(self) -> None:
        """Both sides hear at once that their connection is reset."""
        for end in [end for link in self._links for end in link]:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)

    def go_dead(self) -> None:
        """Nothing gets through any more over what is connected now, and nobody is told."""
        self._dead.update(end for link in self._links for end in link)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                page, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._links.append((page, server))
                for ends in ((page, server), (server, page)):
                    self._threads.append(threading.Thread(target=self._carry, args=ends))
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._dead:
                    to.sendall(data)
        if source not in self._dead:
            with contextlib.suppress(OSError):
                to.shutdown(socket.SHUT_RDWR)


def post(page: ClientConnection, msg: str) -> None:
    """As a person does who types it and presses Enter."""
    run_script(page, f"$('msg').value = {json.dumps(msg)}; document.forms[0].requestSubmit()")


LOG = "[...document.querySelectorAll('#log li:not(.divider)')].map(l => l.lastChild.textContent).join()"
DIVIDERS = "[...document.querySelectorAll('#log .divider')].map(l => l.textContent).join()"


@in_a_browser
def test_chat_page_opens_with_what_was_said(tmp_path: Path) -> None:
    """In each room, below a line with its name; nothing that is empty is sent, and the console stays empty."""
    with example("chat") as port, connect(f"ws://127.0.0.1:{port}/ws") as ada:
        enter(ada, "ada")
        say(ada, "one", "two")
        with browser(f"http://127.0.0.1:{port}/", tmp_path) as page:
            wait_for(page, LOG, "one,two")
            for nothing in ("", "   ", "\t"):
                post(page, nothing)
            post(page, "  three ")
            assert until(ada, "said")["msg"] == "three"
            run_script(page, "$('room').value = 'games'; $('place').requestSubmit()")
            text_with(page, "games: guest")
            post(page, "four")
            run_script(page, "$('room').value = 'b*d'; $('place').requestSubmit()")
            text_with(page, "a room's name is")
            assert run_script(page, "$('room').value") == "games"
            run_script(page, "$('room').value = 'lobby'; $('place').requestSubmit()")
            wait_for(page, LOG, "one,two,three,four,one,two,three")
            assert run_script(page, DIVIDERS) == "lobby,games,lobby"
            assert run_script(page, "$('notice').textContent") == ""
            assert complaints(page) == []


@in_a_browser
@pytest.mark.parametrize("fault", ["cut", "go_dead"])
def test_chat_page_loses_nothing_when_its_network_does(tmp_path: Path, fault: str) -> None:
    """What others say meanwhile, and what is typed meanwhile: each arrives once, in order, on both sides."""
    with ExitStack() as stack:
        port = stack.enter_context(example("chat"))
        gateway = stack.enter_context(Gateway(port))
        ada = stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws"))
        enter(ada, "ada")
        page = stack.enter_context(browser(f"http://127.0.0.1:{gateway.port}/", tmp_path))
        text_with(page, "lobby: ada, guest")
        run_script(page, "quietMs = 500")
        said, typed = [], []
        for n in range(4):
            said += [f"a{n}", f"b{n}", f"c{n}"]
            typed += [f"x{n}", f"y{n}"]
            say(ada, f"a{n}")
            post(page, f"x{n}")
            getattr(gateway, fault)()
            say(ada, f"b{n}")
            post(page, f"y{n}")
            say(ada, f"c{n}")
            wait_for(page, "outbox.size === 0 && caughtUp", True)
        lines = run_script(page, LOG).split(",")
        assert [line for line in lines if line[0] in "abc"] == said
        assert [line for line in lines if line[0] in "xy"] == typed
        assert run_script(page, DIVIDERS) == "lobby"
        with browser(f"http://127.0.0.1:{gateway.port}/", tmp_path / "second") as second:
            wait_for(second, LOG, ",".join(lines))


@in_a_browser
@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_chat_page_goes_on_when_its_server_is_replaced(tmp_path: Path, kind: str) -> None:
    """One of two processes ends and comes again, as in a deployment: its page has what was said meanwhile."""
    with engine(kind) as server, ExitStack() as stack:
        ports = [free_port(), free_port()]
        commands = [
            ["-m", "socketsundso", "run", "--backplane", server.url, "--port", str(port), "examples.chat:app"]
            for port in ports
        ]
        stack.enter_context(serving(*commands[0], port=ports[0]))
        ada = stack.enter_context(connect(f"ws://127.0.0.1:{ports[0]}/ws"))
        enter(ada, "ada")
        with serving(*commands[1], port=ports[1]):
            page = stack.enter_context(browser(f"http://127.0.0.1:{ports[1]}/", tmp_path))
            text_with(page, "lobby: ada, guest")
            say(ada, "before")
            wait_for(page, LOG, "before")
        text_with(page, "reconnecting")
        say(ada, "meanwhile", "and more")
        post(page, "typed")
        stack.enter_context(serving(*commands[1], port=ports[1]))
        wait_for(page, LOG, "before,meanwhile,and more,typed")
        assert until(ada, "said")["msg"] == "typed"
        assert run_script(page, DIVIDERS) == "lobby"


@in_a_browser
def test_chat_page_begins_anew_where_nothing_can_be_recovered(tmp_path: Path) -> None:
    """A server that has forgotten all: a line says that something is missing, and what is said comes below it."""
    port = free_port()
    command = ["-m", "examples.chat", str(port)]
    with ExitStack() as stack:
        with serving(*command, port=port):
            page = stack.enter_context(browser(f"http://127.0.0.1:{port}/", tmp_path))
            text_with(page, "lobby: guest")
            post(page, "old")
            wait_for(page, "outbox.size", 0)
        text_with(page, "reconnecting")
        stack.enter_context(serving(*command, port=port))
        ada = stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws"))
        enter(ada, "ada")
        say(ada, "new")
        wait_for(page, LOG, "old,new")
        assert run_script(page, DIVIDERS) == "lobby,some messages are missing here"


@in_a_browser
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
            assert complaints(page) == []


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
        stroke = {
            "type": "stroke", "who": who, "hue": 10, "points": [[0.0, 0.0], [1.0, 1.0]], "room": "ink", "seq": 1
        }  # fmt: skip
        assert until(grace, "stroke") == stroke
        assert until(ada, "room_position")["seq"] == 1
        with connect(f"ws://127.0.0.1:{port}/ws") as late:
            assert ask(late, type="draw", points=[[0, 0], [1, 1]])["code"] == "not_entered"
            late.send(json.dumps({"type": "enter", "name": "late", "hue": 30}))
            assert until(late, "stroke") == stroke
            while "late" not in names(until(ada, "presence_diff")["joins"]):  # before it leaves: else nothing is told
                pass
        while until(ada, "presence_diff")["leaves"] == {}:
            pass
        assert ask(ada, type="move", x=2, y=0)["errors"][0]["type"] == "less_than_equal"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=20) as answer:
            status = json.load(answer)
        assert (status["backplane"], status["published"], status["dropped"]) == ("connected", 2, 0)


@in_a_browser
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
            wait_for(page, "strokes.length", 2)
            run_script(page, "socket.close()")
            text_with(page, "reconnecting")
            text_with(page, "draw with the pointer")
            wait_for(page, "strokes.length", 2)
            assert complaints(page) == []
        with browser(f"http://127.0.0.1:{port}/", tmp_path / "second") as second:
            wait_for(second, "strokes.length", 2)


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
        assert ask(client, type="rename", name="n") == {"type": "rename", "what": "n"}
        assert ask(client, type="close_shop") == {"type": "close_shop", "what": "closed for 60 minutes"}
        assert [e["loc"] for e in ask(client, type="rename", name="")["errors"]] == [["name"]]


def test_fastapi_app() -> None:
    """Dependencies reach `__init__`; both ways to mount work."""
    with example("fastapi_app") as port:
        with connect(f"ws://127.0.0.1:{port}/ws?lang=de") as client:
            assert ask(client, type="greet", name="Ada") == {"type": "greet", "text": "hallo Ada"}
        with connect(f"ws://127.0.0.1:{port}/count") as client:
            assert ask(client, type="count", by="5")["count"] == 5
            assert ask(client, type="count")["count"] == 6


def test_database() -> None:
    """Fifty sockets at once on a pool of two connections: nobody is refused, and what was said is in the database."""
    with example("database") as port, ExitStack() as stack:
        clients = [stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws")) for _ in range(50)]
        for turn in range(4):
            for number, client in enumerate(clients):
                client.send(json.dumps({"type": "add", "title": f"{number}/{turn}", "text": "x" * 100, "ref": number}))
        ids = []
        for turn in range(4):
            for number, client in enumerate(clients):
                added = json.loads(client.recv(timeout=60))
                assert added.keys() == {"type", "id", "title", "ref"}, added
                assert (added["title"], added["ref"]) == (f"{number}/{turn}", number)
                ids.append(added["id"])
        assert sorted(ids) == list(range(1, 201))
        taken = ask(clients[0], type="add", title="1/1", text="again")
        assert (taken["code"], taken["errors"][0]["msg"]) == ("taken", "there is a note '1/1' already")
        listed = ask(clients[1], type="list", limit=2)
        assert (listed["total"], [note["id"] for note in listed["notes"]]) == (200, [200, 199])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/pool", timeout=20) as answer:
            status = json.load(answer)
        assert status.startswith("Pool size: 2 ")
        assert status.endswith("Current Checked out connections: 0")


def test_an_example_that_needs_more_says_what_to_install() -> None:
    """One line, and no traceback."""
    without = "import runpy, sys; sys.modules['fastapi'] = None; runpy.run_module('examples.fastapi_app')"
    ended = subprocess.run([sys.executable, "-c", without], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert "python -m pip install fastapi" in line


@pytest.mark.parametrize(
    ("target", "message", "answer"),
    [
        ("chat:Chat", {"type": "ping"}, "pong"),
        ("cursors:Board", {"type": "enter", "name": "ada", "hue": 1}, "presence_state"),
        ("decorator:App", {"type": "time"}, "time"),
        ("pydantic_models:Shop", {"type": "receipt", "order": 1}, "receipt"),
        ("fastapi_app:Counter", {"type": "count"}, "count"),
    ],
)
def test_an_endpoint_of_an_example_is_served_as_it_is(target: str, message: dict[str, Any], answer: str) -> None:
    """`socketsundso run examples.chat:Chat`, without an application around it."""
    port = free_port()
    with (
        serving("-m", "socketsundso", "run", "--port", str(port), f"examples.{target}", port=port),
        connect(f"ws://127.0.0.1:{port}/") as client,
    ):
        assert ask(client, **message)["type"] == answer


def test_llm_stream_is_stopped_by_a_cancel() -> None:
    """Tokens come until then, `complete` once, and other streams go on."""
    with example("llm_stream") as port, connect(f"ws://127.0.0.1:{port}/ws") as client:
        for ref in (1, 2):
            client.send(json.dumps({"type": "generate", "ref": ref, "prompt": "hi", "words": 50, "pace_s": 0.01}))
        assert until(client, "token")["text"].endswith(" ")
        client.send(json.dumps({"type": "cancel", "ref": 1}))
        assert until(client, "complete") == {"type": "complete", "ref": 1}
        texts = []
        while (message := json.loads(client.recv(timeout=20)))["type"] == "token":
            assert message["ref"] == 2
            texts.append(message["text"])
        assert message == {"type": "complete", "ref": 2}
        assert texts
        assert ask(client, type="generate", ref=3, prompt=" ")["code"] == "validation_error"
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).read().decode()
        assert "<title>socketsundso stream</title>" in page


def test_llm_stream_of_a_slow_tab_pauses() -> None:
    """Nothing is generated beyond what the buffers hold, while another tab's stream runs to its end."""
    with example("llm_stream") as port, connect(f"ws://127.0.0.1:{port}/ws") as quick:
        request = json.dumps({"type": "generate", "ref": 1, "prompt": "hi", "words": 1_000_000, "pace_s": 0}).encode()
        with raw_connection(port) as slow:
            slow.sendall(bytes((0x81, 0x80 | len(request), 0, 0, 0, 0)) + request)
            before, now = -1, 0
            while now == 0 or now != before:
                before, now = now, ask(quick, type="status")["generated"]
                time.sleep(0.3)
            assert now < 1_000_000
            quick.send(json.dumps({"type": "generate", "ref": 2, "prompt": "hi", "words": 20, "pace_s": 0}))
            assert until(quick, "complete")["ref"] == 2


def test_upload_is_fed_as_far_as_it_asks() -> None:
    """All rows of a client that heeds its credit are written, with the ones that are not valid told at the end."""
    with example("upload") as port, connect(f"ws://127.0.0.1:{port}/ws") as client:
        client.send(json.dumps({"type": "import", "ref": 1, "account": "ada"}))
        credit, progress = 16, []
        for n in range(250):
            while not credit:
                message = json.loads(client.recv(timeout=20))
                credit += message.get("items", 0)
                progress += [message["rows"]] if message["type"] == "progress" else []
            credit -= 1
            row = {"day": "2026-03-01", "amount": "x" if n == 2 else "0.10"}
            client.send(json.dumps({"type": "item", "ref": 1, "item": row}))
        client.send(json.dumps({"type": "complete", "ref": 1}))
        assert until(client, "imported") == {
            "type": "imported", "ref": 1, "rows": 249, "total": "24.90",
            "refused": [{"row": 3, "msg": "Input should be a valid decimal"}],
        }  # fmt: skip
        assert progress == [100, 200]
        assert ask(client, type="status", account="ada")["rows"] == 249


def test_upload_of_too_many_rows_that_are_not_valid_ends() -> None:
    """With the error of the one that was too many."""
    with example("upload") as port, connect(f"ws://127.0.0.1:{port}/ws") as client:
        client.send(json.dumps({"type": "import", "ref": 1, "account": "bob"}))
        for _ in range(11):
            client.send(json.dumps({"type": "item", "ref": 1, "item": {}}))
        assert until(client, "error")["code"] == "validation_error"


def pcm(number: int, loudness: int = 0, samples: int = 160) -> bytes:
    """A frame of the voice example: 8 bytes of header, then 16 bit samples."""
    return struct.pack("<IHxx", number, 16_000) + struct.pack("<h", loudness) * samples


def test_voice_answers_in_one_piece_while_the_room_speaks() -> None:
    """PCM goes to the others as it is; a transcript is announced by its header, right before the bytes."""
    with example("voice") as port, ExitStack() as stack:
        ada, grace = (stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws")) for _ in range(2))
        for client in (ada, grace):
            assert ask(client, type="listen", room="studio")["rate"] == 16_000
        for number in range(3):
            ada.send(pcm(number, 9000))
        assert [grace.recv(timeout=20) for _ in range(3)] == [pcm(number, 9000) for number in range(3)]
        for number in range(20):
            grace.send(pcm(number))
        ada.send(json.dumps({"type": "done", "ref": 1}))
        came = [ada.recv(timeout=20) for _ in range(23)]
        texts = {index: json.loads(frame) for index, frame in enumerate(came) if isinstance(frame, str)}
        at = {text["type"]: index for index, text in texts.items()}
        assert texts[at["transcript"]] == {"type": "transcript", "ref": 1, "text": "(somebody speaks)", "seconds": 0.03}
        speech = came[at["speech"] + 1]
        assert len(speech) == texts[at["speech"]]["bytes"] == 8 + 3 * 320
        assert [each for each in came if isinstance(each, bytes) and each != speech] == [pcm(n) for n in range(20)]


def test_voice_refuses_what_is_no_frame() -> None:
    """Too short for a header, of another rate, or half a sample: told, and the connection lives."""
    with example("voice") as port, connect(f"ws://127.0.0.1:{port}/ws") as client:
        for frame in (b"", b"short", struct.pack("<IHxx", 1, 8000), pcm(1) + b"x"):
            client.send(frame)
            assert json.loads(client.recv(timeout=20))["code"] == "bad_frame"
        assert ask(client, type="done")["bytes"] == 8


@contextmanager
def raw_connection(port: int) -> Iterator[socket.socket]:
    """One that reads nothing behind its handshake."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        raw.connect(("127.0.0.1", port))
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
        key = "A" * 22 + "=="
        raw.sendall(f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        assert raw.recv(12) == b"HTTP/1.1 101"
        yield raw


def test_remote_control_asks_devices_for_people_who_may() -> None:
    """Each question goes to the device that is meant, its answer to who asked; scopes say who may ask what."""
    with example("remote_control") as port, ExitStack() as stack:
        lamp, vera, adam = (
            stack.enter_context(connect(f"ws://127.0.0.1:{port}/{path}")) for path in ("device", "person", "person")
        )
        assert ask(lamp, type="hello", name="lamp", key="wrong")["code"] == "unauthorized"
        lamp.send(json.dumps({"type": "hello", "name": "lamp", "key": "let-me-in"}))
        assert until(lamp, "welcome")["name"] == "lamp"
        assert ask(vera, type="read", device="lamp")["code"] == "unauthorized"
        for person, token in ((vera, "t-vera"), (adam, "t-adam")):
            person.send(json.dumps({"type": "sign_in", "token": token}))
            assert until(person, "presence_state")["members"] == {"lamp": "lamp"}
            until(person, "welcome")
        assert ask(vera, type="switch", device="lamp", on=True, ref=1)["code"] == "forbidden"
        vera.send(json.dumps({"type": "read", "device": "lamp", "ref": 2}))
        questions = {"read": until(lamp, "read")}
        adam.send(json.dumps({"type": "switch", "device": "lamp", "on": True, "ref": 1}))
        questions["switch"] = until(lamp, "switch")
        assert (questions["read"]["who"], questions["switch"]["who"]) == ("vera", "adam")
        for kind, answer in (("switch", {"on": True}), ("read", {"on": False})):
            lamp.send(json.dumps({"type": "reply", "ref": questions[kind]["ref"], "answer": answer}))
        assert until(vera, "read") == {"type": "read", "on": False, "ref": 2}
        assert until(adam, "switch") == {"type": "switch", "on": True, "ref": 1}
        assert ask(adam, type="read", device="fridge", ref=2)["code"] == "gone"


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_remote_control_over_two_processes(kind: str) -> None:
    """Unchanged, with `--backplane`: a device answers who is on another process, and is gone when its process is."""
    with engine(kind) as server, ExitStack() as stack:
        ports = [free_port(), free_port()]
        commands = [
            ["-m", "socketsundso", "run", "--backplane", server.url, "--port", str(port), "examples.remote_control:app"]
            for port in ports
        ]
        stack.enter_context(serving(*commands[0], port=ports[0]))
        adam = stack.enter_context(connect(f"ws://127.0.0.1:{ports[0]}/person"))
        adam.send(json.dumps({"type": "sign_in", "token": "t-adam"}))
        until(adam, "welcome")
        with serving(*commands[1], port=ports[1]), connect(f"ws://127.0.0.1:{ports[1]}/device") as lamp:
            lamp.send(json.dumps({"type": "hello", "name": "lamp", "key": "let-me-in"}))
            until(lamp, "welcome")
            adam.send(json.dumps({"type": "switch", "device": "lamp", "on": True, "ref": 1}))
            lamp.send(json.dumps({"type": "reply", "ref": until(lamp, "switch")["ref"], "answer": {"on": True}}))
            assert until(adam, "switch") == {"type": "switch", "on": True, "ref": 1}
            adam.send(json.dumps({"type": "switch", "device": "lamp", "on": False, "ref": 2}))
            until(lamp, "switch")
        assert until(adam, "error")["code"] == "gone"


@in_a_browser
def test_remote_control_page_in_a_browser(tmp_path: Path) -> None:
    """Its device is asked, and answers; who may only look is refused; what is unplugged is not there any more."""
    with example("remote_control") as port, browser(f"http://127.0.0.1:{port}/", tmp_path) as page:
        text_with(page, "no device is plugged in")
        run_script(page, "$('device').requestSubmit()")
        text_with(page, "plugged in as lamp")
        state = "document.querySelector('#devices small').textContent"
        wait_for(page, f"{state} === ''", True)
        run_script(page, "document.querySelectorAll('#devices button')[1].click()")
        text_with(page, "adam: switch on?", "asking…")
        run_script(page, "document.querySelector('#questions .yes').click()")
        wait_for(page, state, "on")
        run_script(page, "document.querySelectorAll('#devices button')[2].click()")
        text_with(page, "adam: switch off?")
        run_script(page, "document.querySelectorAll('#questions button')[1].click()")
        wait_for(page, state, "not now")
        run_script(page, "$('token').value = 't-vera'; $('token').onchange()")
        run_script(page, "document.querySelectorAll('#devices button')[2].click()")
        wait_for(page, state, "needs the scopes device:switch")
        run_script(page, "document.querySelectorAll('#devices button')[0].click()")
        wait_for(page, state, "on")
        run_script(page, "$('device').requestSubmit()")
        text_with(page, "no device is plugged in", "not plugged in")
        assert complaints(page) == []


@in_a_browser
def test_llm_stream_page_in_a_browser(tmp_path: Path) -> None:
    """Tokens appear as they come, beside each other's; a stream is stopped by its button, and goes on elsewhere."""
    with example("llm_stream") as port, browser(f"http://127.0.0.1:{port}/", tmp_path) as page:
        wait_for(page, "$('ask').disabled", False)
        for prompt in ("one", "   ", "two"):
            run_script(page, f"$('prompt').value = {json.dumps(prompt)}; $('form').requestSubmit()")
        text = "[...document.querySelectorAll('article p')].map(p => p.textContent.length > 0).join()"
        wait_for(page, text, "true,true")
        run_script(page, "document.querySelector('article button').click()")
        wait_for(page, "[...document.querySelectorAll('article small')].map(s => s.textContent).join()", "stopped,…")
        length = "document.querySelectorAll('article p')[1].textContent.length"
        before = run_script(page, length)
        wait_for(page, f"{length} > {before}", True)
        run_script(page, "socket.close()")
        wait_for(page, "document.querySelectorAll('article small')[1].textContent", "connection lost")
        assert complaints(page) == []
