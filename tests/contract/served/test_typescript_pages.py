"""The TypeScript client in a page: Chromium's own WebSocket, its events, and its cache of pages that were left."""

from __future__ import annotations

import functools
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from examples import chat
from socketsundso.contract import api_of, typescript
from tests.browsing import browser, command, complaints, in_a_browser, run_script, wait_for
from tests.contract.npm import binary
from tests.contract.served.described import API
from tests.serving import free_port, serving

pytestmark = in_a_browser


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def files(folder: Path) -> Iterator[str]:
    """The files of a folder, served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientConnection]:
    """A page that has loaded the client as a module."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "client.ts").write_text(typescript(API))
    (folder / "example.ts").write_text(typescript(api_of(chat.app)))
    bundle = [binary("bun"), "build", "client.ts", "example.ts", "--target=browser", "--outdir=."]
    subprocess.run(bundle, cwd=folder, check=True, capture_output=True)
    (folder / "index.html").write_text(
        '<!doctype html><title>page</title><link rel="icon" href="data:,">'
        '<script type="module">Object.assign(window, await import("./client.js"));'
        'window.example = await import("./example.js"); window.loaded = true;</script>'
    )
    (folder / "other.html").write_text('<!doctype html><title>other</title><link rel="icon" href="data:,">')
    with files(folder) as address, browser(f"{address}/index.html", folder / "profile") as tab:
        wait_for(tab, "window.loaded", True)
        yield tab


def run(page: ClientConnection, code: str, **values: Any) -> Any:
    """The value of an async function with this body."""
    names = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    expression = f"(async () => {{ {names} {code} }})()"
    told = command(page, "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in told, told["exceptionDetails"]
    return told["result"].get("value")


def test_a_page_asks_and_hears(page: ClientConnection, url: str) -> None:
    """Requests, errors of the application, streams that are left, and nothing in the console."""
    told = run(
        page,
        """
        const shop = new Shop(url + "/shop"), seen = [];
        const bought = await shop.buy({ count: 2 });
        const error = await shop.buy({ count: 9 }).catch(error => error);
        for await (const tick of shop.ticks({ count: 1e9 })) if (tick.n === 3) break; else seen.push(tick.n);
        shop.handle("confirm", ({ question }) => question === "sure?");
        const { answer } = await shop.ask({ question: "sure?" });
        shop.close();
        return [bought.count, error instanceof SoldOut, error.left, seen, answer, shop.state];
        """,
        url=url,
    )
    assert told == [2, True, 3, [0, 1, 2], True, "closed"]
    assert complaints(page) == []


def test_a_page_comes_back_after_a_loss(page: ClientConnection, url: str) -> None:
    """What was said meanwhile comes, and the code of the close was told."""
    told = run(
        page,
        """
        const name = "doc:" + Math.random(), options = { minDelayMs: 20 };
        const ada = new Chat(url + "/chat", { ...options, token: "ada" });
        const bob = new Chat(url + "/chat", { ...options, token: () => "bob" });
        const seen = [], codes = [];
        ada.onState(status => status.state === "waiting" && codes.push(status.code));
        ada.room(name).on("posted", message => seen.push(message.msg));
        await ada.enter({ room: name });
        await bob.enter({ room: name });
        await ada.drop({ code: 1012 }).catch(() => {});
        await bob.say({ room: name, msg: "missed" });
        while (!seen.length) await new Promise(resolve => setTimeout(resolve, 5));
        const members = [...ada.room(name).members.keys()];
        ada.close();
        bob.close();
        return [seen, codes, members.includes("bob")];
        """,
        url=url,
    )
    assert told == [["missed"], [1012], True]


def test_a_page_that_is_shown_again_is_connected_again(page: ClientConnection, url: str) -> None:
    """Left, kept by the browser with all that it had, and gone back to: what was said meanwhile comes."""
    run(
        page,
        """
        window.chat = new Chat(url + "/chat", { token: "ada", minDelayMs: 20 });
        window.seen = [];
        window.shown = [];
        addEventListener("pageshow", event => shown.push(event.persisted));
        chat.room("doc:kept").on("posted", message => seen.push(message.msg));
        await chat.enter({ room: "doc:kept" });
        """,
        url=url,
    )
    run_script(page, "location.href = './other.html'")
    wait_for(page, "document.title", "other")
    run_script(page, "history.back()")
    wait_for(page, "document.title + window.shown?.length", "page1")
    told = run(
        page,
        """
        const bob = new Chat(url + "/chat", { token: "bob" });
        await bob.enter({ room: "doc:kept" });
        await bob.say({ room: "doc:kept", msg: "hello again" });
        while (!seen.length) await new Promise(resolve => setTimeout(resolve, 5));
        chat.close();
        bob.close();
        return [shown, seen];
        """,
        url=url,
    )
    assert told == [[True], ["hello again"]]


def test_a_page_talks_to_an_example(page: ClientConnection) -> None:
    """The chat, as its handlers declare it: what is said comes back, and who is there is known."""
    port = free_port()
    with serving(
        "-m", "socketsundso", "run", "--log-level", "critical", "--port", str(port), "examples.chat:app", port=port
    ):
        told = run(
            page,
            """
            const [ada, bob] = ["ada", "bob"].map(() => new example.Chat(url));
            const said = new Promise(resolve => bob.once("said", resolve));
            await ada.enter({ room: "lobby", name: "ada" });
            await bob.enter({ room: "lobby", name: "bob" });
            const { members } = bob.room("lobby");
            while (members.size < 2) await new Promise(resolve => bob.room("lobby").once("members", resolve));
            const refused = new Promise(resolve => ada.once("error", resolve));
            await ada.message({ msg: "" });
            const { code, event } = await refused;
            await ada.message({ msg: "hello", key: "k1" });
            const { sender, msg, room, seq } = await said;
            ada.close();
            bob.close();
            return [sender, msg, room, seq, [...members.values()].map(meta => meta.name).sort(), code, event];
            """,
            url=f"ws://127.0.0.1:{port}/ws",
        )
    assert told == ["ada", "hello", "lobby", 1, ["ada", "bob"], "validation_error", "message"]
