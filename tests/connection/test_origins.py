"""Which pages may connect: what is the same origin, what a class may declare, and what a handshake is answered."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest
import websockets.asyncio.client
import websockets.exceptions
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware.cors import CORSMiddleware
from starlette.testclient import TestClient, WebSocketDenialResponse

from socketsundso import Endpoint, event
from socketsundso.connection import Origins
from socketsundso.errors import DefinitionError
from tests.harness import talk
from tests.server.serving import peer, request, run, serving

APP = "https://app.example.com"


def permits(allowed: Any, *sent: str, missing: bool = True) -> bool:
    return Origins("Chat", allowed, missing).permit([(b"origin", each.encode("latin-1")) for each in sent])


@pytest.mark.parametrize(
    ("allowed", "sent"),
    [
        (APP, APP),
        (APP, "HTTPS://App.Example.COM"),
        (APP, "https://app.example.com:443"),
        ("https://APP.example.com:443", APP),
        ("http://localhost", "http://localhost:80"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[0:0:0:0:0:0:0:1]:8000", "http://[::1]:8000"),
        ("https://*.example.com", APP),
        ("https://*.example.com", "https://a.b.example.com"),
        ("http://localhost:*", "http://localhost:5173"),
        ("http://localhost:*", "http://localhost"),
        ("http://[::1]:*", "http://[::1]:9"),
        ("moz-extension://*", "moz-extension://7c5d3a0e-0001"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("file://", "file://"),
        ("null", "null"),
        ("*", "null"),
        ("*", "https://anybody.example"),
        (re.compile(r"https://app-[0-9]+\.example\.com"), "https://APP-12.example.com:443"),
        ("https://my_app.example.com", "https://my_app.example.com"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_the_same_origin_is_let_in(allowed: Any, sent: str) -> None:
    """Whatever its letters' case, whether it names its scheme's port, and however a family covers it."""
    assert permits([allowed], sent)


@pytest.mark.parametrize(
    ("allowed", "sent"),
    [
        (APP, "http://app.example.com"),
        (APP, "https://app.example.com:8443"),
        (APP, "https://app.example.com:80"),
        (APP, "https://example.com"),
        (APP, "https://app.example.com.evil.com"),
        (APP, "https://evilapp.example.com"),
        (APP, "https://app.example.com@evil.com"),
        (APP, "https://app.example.com/"),
        (APP, "https://app.example.com https://evil.com"),
        (APP, "https://app.example.com:443:443"),
        (APP, "https://app.example.com:"),
        (APP, "https://app.example.com."),
        (APP, "https://app.example.com\n"),
        (APP, "app.example.com"),
        (APP, "null"),
        (APP, ""),
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://.example.com"),
        ("https://*.example.com", "https://evilexample.com"),
        ("https://*.example.com", "https://app.example.com.evil.com"),
        ("https://*.example.com", "http://app.example.com"),
        ("https://*.example.com", "https://app.example.com:8443"),
        ("https://*.example.com", "https://*.example.com"),
        ("http://localhost:*", "http://localhost.evil.com:80"),
        ("http://localhost:*", "https://localhost:80"),
        ("http://localhost:*", "http://localhost:*"),
        ("http://localhost:*", "http://localhost:1234567"),
        ("null", "NULL"),
        ("file://", "file:///etc/passwd"),
        ("moz-extension://*", "chrome-extension://abc"),
        (re.compile(r"https://app-[0-9]+\.example\.com"), "https://app-1.example.com.evil.com"),
        (re.compile(r"null"), "null"),
        ("http://[::1]", "http://[::1::1]"),
        ("https://kelvin.example", "https://\u00e9kelvin.example"),
    ],
)
def test_another_origin_is_not(allowed: Any, sent: str) -> None:
    """However much it looks like one that is."""
    assert not permits([allowed], sent)


def test_who_sends_none_is_let_in_unless_that_is_declared() -> None:
    """No browser leaves it out."""
    assert permits([APP])
    assert not permits([APP], missing=False)


def test_an_empty_header_is_not_a_missing_one() -> None:
    """Which would be a way around the list."""
    assert not permits([APP], "")


def test_who_sends_several_is_not_let_in() -> None:
    """Even if all of them are the same: no browser does, and who reads only one of them could be deceived."""
    assert not permits([APP], APP, APP)
    assert not permits([APP], APP, "https://evil.com")


def test_an_empty_list_lets_no_page_in() -> None:
    """It is not the same as None."""
    assert not permits([], APP)


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=60))
def test_nothing_that_is_sent_raises_or_gets_in(sent: str) -> None:
    """Whatever bytes a header has: what is let in is what is on the list, in another case or with its port."""
    allowed = [APP, "https://*.example.org", "http://localhost:*", re.compile("x://[a-z]+")]
    if permits(allowed, sent):
        assert re.fullmatch(
            r"https://app\.example\.com(:0*443)?|https://[^/]+\.example\.org(:0*443)?|http://localhost(:\d+)?|x://[a-z]+",
            sent.lower(),
        )


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (APP, "it is a list like ['https://app.example.com']"),
        (5, "it is a list"),
        ([b"https://a.example"], "neither a text nor a regular expression"),
        ([re.compile(b"x")], "neither a text nor a regular expression"),
        (["app.example.com"], "'https://app.example.com'"),
        (["app.example.com/chat"], "'https://app.example.com'"),
        (["localhost:3000"], "'https://localhost:3000'"),
        (["https://app.example.com/"], "has no path: 'https://app.example.com'"),
        (["https://app.example.com:8443/chat"], "has no path: 'https://app.example.com:8443'"),
        (["wss://app.example.com/ws"], "the page which connects, 'https://app.example.com'"),
        (["ws://localhost:8000"], "the page which connects, 'http://localhost:8000'"),
        (["https://bücher.example"], "'https://xn--...'"),
        (["https://app-*.example.com"], "re.compile"),
        (["https://example.*"], "re.compile"),
        (["https://a.example:99999"], "'https://app.example.com:8443'"),
        (["https://user@a.example"], "'https://app.example.com:8443'"),
        (["https://[zz]"], "'https://app.example.com:8443'"),
        (["https://[::1::1]"], "'https://app.example.com:8443'"),
        ([""], "begins with the scheme"),
    ],
)
def test_what_no_browser_sends_is_refused_at_import(declared: Any, told: str) -> None:
    """With what was most likely meant."""
    with pytest.raises(DefinitionError, match=re.escape(told)):
        type("Chat", (Endpoint,), {"allowed_origins": declared})


def test_allow_missing_origin_is_true_or_false() -> None:
    """Anything else is refused at import."""
    with pytest.raises(DefinitionError, match="True or False"):
        type("Chat", (Endpoint,), {"allow_missing_origin": "no"})


def test_the_list_cannot_be_added_to_later() -> None:
    """It is read when the class is made: an addition would not be heard."""

    class Chat(Endpoint):
        allowed_origins = [APP]

    with pytest.raises(AttributeError):
        Chat.allowed_origins.append("https://b.example")
    with pytest.raises(DefinitionError, match="allowed_origins"):
        Chat.allowed_origins = ["https://b.example"]


def refused(app: Any, *headers: tuple[bytes, bytes]) -> int | None:
    """The status that the handshake is refused with."""
    first = talk(app, headers=list(headers)).sent[0]
    return first.get("status")


def test_a_subclass_inherits_the_list_or_has_its_own() -> None:
    """And None takes it away."""

    class Chat(Endpoint):
        allowed_origins = [APP]

    class Inherits(Chat): ...

    class Other(Chat):
        allowed_origins = ["https://b.example"]

    class Open(Chat):
        allowed_origins = None

    statuses = [refused(cls, (b"origin", b"https://b.example")) for cls in (Chat, Inherits, Other, Open)]
    assert statuses == [403, 403, None, None]


def test_without_a_list_who_sends_no_origin_may_be_refused_alone() -> None:
    """`allow_missing_origin = False` stands by itself."""

    class Browsers(Endpoint):
        allow_missing_origin = False

    assert refused(Browsers) == 403
    assert refused(Browsers, (b"origin", b"https://anybody.example")) is None


def test_a_page_that_may_not_connect_reaches_no_code_of_the_application() -> None:
    """Neither `authenticate` nor `on_connect` are called."""
    called = []

    class Chat(Endpoint):
        allowed_origins = [APP]

        async def authenticate(self) -> None:
            called.append("authenticate")

        async def on_connect(self) -> None:
            called.append("on_connect")

    assert refused(Chat, (b"origin", b"https://evil.example")) == 403
    assert called == []


def test_the_first_page_that_may_not_connect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With what it had sent, and once: a stranger fills no log."""

    class Chat(Endpoint):
        allowed_origins = [APP]

    for origin in (b"http://app.example.com", b"https://evil.example\n"):
        assert refused(Chat, (b"origin", origin)) == 403
    (record,) = caplog.records
    assert record.getMessage() == (
        "Chat: a page of the origin 'http://app.example.com' may not connect; add it to `allowed_origins` if it should "
        "(told once)"
    )


class Chat(Endpoint):
    allowed_origins = [APP, "http://localhost:*"]

    @event
    async def on_ping(self) -> Any:
        return {"pong": 1}


SERVERS = ["ours", "websockets-sansio", "wsproto"]


def served(app: Any, server: str) -> Any:
    return serving(app, **({} if server == "ours" else {"ws": server}))


@pytest.mark.parametrize("server", SERVERS)
def test_real_clients_are_answered_403_or_let_in(server: str) -> None:
    """`websockets` and aiohttp, as pages of an allowed origin, of another one, and as no page at all."""

    async def main() -> None:
        async with served(Chat, server) as at, aiohttp.ClientSession() as session:
            for origin in (APP, "http://localhost:5173", None):
                async with websockets.asyncio.client.connect(at.url, origin=origin) as client:  # type: ignore[arg-type]
                    await client.send('{"type":"ping"}')
                    assert await client.recv() == '{"type":"ping","pong":1}'
            with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
                await websockets.asyncio.client.connect(at.url, origin="https://evil.example")  # type: ignore[arg-type]
            assert caught.value.response.status_code == 403
            assert caught.value.response.body == b'{"detail":"this origin may not connect"}'
            with pytest.raises(aiohttp.WSServerHandshakeError) as status:
                await session.ws_connect(at.url.replace("ws", "http", 1), headers={"Origin": "null"})
            assert status.value.status == 403

    run(main())


def test_fastapi_answers_the_same() -> None:
    """Also behind a prefix, and beside its CORS middleware, which looks at no WebSocket."""
    app, router = FastAPI(), APIRouter(prefix="/api")
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    router.websocket("/ws")(Chat)
    app.include_router(router)
    client = TestClient(app)
    with client.websocket_connect("/api/ws", headers={"Origin": APP}) as socket:
        socket.send_json({"type": "ping"})
        assert socket.receive_json() == {"type": "ping", "pong": 1}
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/api/ws", headers={"Origin": "https://evil.example"}),
    ):
        pass
    assert denied.value.status_code == 403


def test_two_headers_on_the_wire_are_refused() -> None:
    """Also where they stand far apart."""

    async def main() -> None:
        async with serving(Chat) as at:
            twice = request("/", f"Origin: {APP}", "X-Other: 1", f"Origin: {APP}")
            async with peer(at, twice) as connection:
                assert await connection.response() == 403

    run(main())
