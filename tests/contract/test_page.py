"""The page and its files, as they are served."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from socketsundso import Endpoint, event
from socketsundso.contract import page as module
from socketsundso.contract.asyncapi.writing import document
from socketsundso.contract.model import Api, Channel, Receive
from socketsundso.contract.page import Docs
from tests.contract.apis import APIS, CHAT

FILES = sorted(module.FOLDER.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]


def client(at: str = "/docs/ws", api: Any = CHAT) -> TestClient:
    app = Starlette()
    app.mount(at, Docs(api))
    return TestClient(app, follow_redirects=False)


class Tags(HTMLParser):
    """The tags of a page, with their attributes, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style"):
            self.inline += data.strip()


def test_the_page_is_made_of_files_of_its_own() -> None:
    """Nothing is inline, and every address in it is one that is served beside it."""
    docs = client()
    tags = Tags(docs.get("/docs/ws/").text)
    assert tags.inline == ""
    assert not [name for _, attrs in tags.tags for name in attrs if name == "style" or name.startswith("on")]
    addresses = [attrs[name] for _, attrs in tags.tags for name in ("src", "href") if name in attrs]
    assert {f"{path.name}" for path in SCRIPTS} <= set(addresses)
    for address in addresses:
        assert address is not None
        assert address.startswith("#") or docs.get(f"/docs/ws/{address}").status_code == 200, address


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix != ".svg"], ids=lambda path: path.name)
def test_no_file_asks_anybody_else(path: Path) -> None:
    """No other origin, no evaluation of text, no markup made from text."""
    text = path.read_text().replace("https://example.com/", "")
    assert not re.findall(
        r"https?://|\beval\b|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write", text
    )


def test_the_page_is_small() -> None:
    """All of it together, uncompressed."""
    assert sum(len(path.read_bytes()) for path in FILES) <= 150_000


@pytest.mark.parametrize("name", ["", "main.js", "style.css", "icon.svg", "asyncapi.json"])
def test_every_answer_has_the_policy(name: str) -> None:
    """Scripts and styles from files of the own origin alone; the playground may connect."""
    answer = client().get(f"/docs/ws/{name}")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert policy["connect-src"] == "'self' ws: wss:"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["", "main.js", "asyncapi.json"])
def test_what_is_known_is_not_sent_again(name: str) -> None:
    """304 for the ETag, also for the weak one of who has compressed it; 200 for another one."""
    docs = client()
    first = docs.get(f"/docs/ws/{name}")
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = docs.get(f"/docs/ws/{name}", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert docs.get(f"/docs/ws/{name}", headers={"If-None-Match": '"other"'}).content == first.content


@pytest.mark.parametrize("name", ["", "main.js", "asyncapi.json"])
def test_head_is_get_without_the_content(name: str) -> None:
    """With its length and type."""
    docs = client()
    head, get = docs.head(f"/docs/ws/{name}"), docs.get(f"/docs/ws/{name}")
    assert head.content == b""
    assert head.headers == get.headers


@pytest.mark.parametrize(
    "name", ["nothing.js", "main.js/", "../page.py", "%2e%2e/page.py", "//main.js", "index.html/x"]
)
def test_nothing_else_is_served(name: str) -> None:
    """Names are looked up, not joined to a folder."""
    assert client().get(f"/docs/ws/{name}").status_code == 404


def test_other_methods_are_not_allowed() -> None:
    """And are told which are."""
    answer = client().post("/docs/ws/asyncapi.json")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_websocket_is_refused() -> None:
    """The page is no endpoint."""
    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/docs/ws/"):
        raise AssertionError


@pytest.mark.parametrize("name", APIS)
def test_the_document_is_served(name: str) -> None:
    """As it would be written into a file."""
    answer = client(api=APIS[name]).get("/docs/ws/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(json.dumps(document(APIS[name])))


def test_an_api_that_cannot_be_published_is_told() -> None:
    """The text of the mistake, for the page to show, and the page itself is there."""
    docs = client(api=Api("Broken", "1", (Channel("c", "/", receives=(Receive("say", {"type": "string"}),)),)))
    answer = docs.get("/docs/ws/asyncapi.json")
    assert answer.status_code == 500
    assert "'say'" in answer.text
    assert docs.get("/docs/ws/").status_code == 200


@pytest.mark.parametrize(
    ("at", "base"), [("/docs", "../"), ("/docs/ws", "../../"), ("", "./"), ("/a/b/c", "../../../")]
)
def test_the_page_knows_where_the_application_begins(at: str, base: str) -> None:
    """Relative to itself, so that a prefix in front of both changes nothing."""
    assert f'data-base="{base}"' in client(at).get(f"{at}/").text


def test_an_application_in_another_one_begins_where_it_is_mounted() -> None:
    """Its paths are below that place, and so is the page."""
    inner = Starlette()
    inner.mount("/docs/ws", Docs(inner))
    assert 'data-base="../../"' in TestClient(Starlette(routes=[Mount("/v1", inner)])).get("/v1/docs/ws/").text


def test_behind_a_prefix_the_page_is_the_same() -> None:
    """Whether the proxy strips the prefix or not."""
    app = Starlette()
    app.mount("/docs", Docs(CHAT))
    told = TestClient(app, root_path="/api").get("/api/docs/")
    assert told.text == TestClient(app).get("/docs/").text


class Chat(Endpoint):
    @event
    async def on_say(self, msg: str) -> dict[str, str]:
        return {"msg": msg}


class Other(Endpoint):
    @event
    async def on_ping(self) -> None: ...


def addresses(app: Any, at: str = "/docs") -> list[str]:
    told = TestClient(app).get(f"{at}/asyncapi.json").json()
    return [channel["address"] for channel in told["channels"].values()]


@pytest.mark.parametrize("make", [Starlette, FastAPI])
def test_routes_may_be_added_behind_it(make: Any) -> None:
    """The document is made when it is asked for first."""
    app = make()
    app.mount("/docs/ws", Docs(app))
    app.router.routes.append(WebSocketRoute("/rooms/{room}", Chat))
    assert addresses(app, "/docs/ws") == ["/rooms/{room}"]


def test_the_document_is_made_once() -> None:
    """However often it is asked for."""
    app = Starlette(routes=[WebSocketRoute("/ws", Chat)])
    app.mount("/docs", Docs(app))
    assert addresses(app) == ["/ws"]
    app.router.routes.append(WebSocketRoute("/more", Chat))
    assert addresses(app) == ["/ws"]


def test_a_class_has_the_path_that_it_is_served_at() -> None:
    """In the application that its page is mounted in, whatever else that has; else it is `/`."""
    inner = Starlette(routes=[WebSocketRoute("/other", Other), Mount("/v1", routes=[WebSocketRoute("/ws", Chat)])])
    inner.mount("/docs", Docs(Chat))
    assert addresses(Starlette(routes=[Mount("/api", inner)]), "/api/docs") == ["/v1/ws"]
    assert addresses(Starlette(routes=[Mount("/docs", Docs(Chat))])) == ["/"]


def test_an_application_without_endpoints_is_told() -> None:
    """As what cannot be published."""
    app = Starlette()
    app.mount("/docs", Docs(app))
    assert TestClient(app).get("/docs/asyncapi.json").status_code == 500


def test_without_a_slash_the_page_is_one_further() -> None:
    """A relative redirect: links on the page would lead elsewhere."""

    async def nested(scope: Any, receive: Any, send: Any) -> None:
        await Docs(CHAT)({**scope, "root_path": "/api/docs", "path": "/api/docs"}, receive, send)

    answer = TestClient(nested, follow_redirects=False).get("/docs")
    assert (answer.status_code, answer.headers["location"]) == (307, "docs/")
