"""What a peer is told whose on_connect raised: as FastAPI answers before accept, a code and a reason that fit after."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException, WebSocketException
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient, WebSocketDenialResponse

from socketsundso import Endpoint
from tests.harness import talk

DETAILS = [
    "who are you?",
    {"code": "token_expired", "at": [1, 2.5, None]},
    ["a", "b"],
    None,
    "ü" * 200,
    {"long": "x" * 200},
]


def refusing(exc: Exception, accept_first: bool = False) -> type[Endpoint]:
    class Refusing(Endpoint):
        async def on_connect(self) -> None:
            if accept_first:
                await self.websocket.accept()
            raise exc

    return Refusing


@pytest.mark.parametrize("detail", DETAILS, ids=lambda detail: str(detail)[:12])
def test_before_accept_it_is_the_response_that_fastapi_gives(detail: Any) -> None:
    """Status, JSON and headers of the exception."""
    headers = {"WWW-Authenticate": "Bearer", "Retry-After": "7"}
    exc = HTTPException(401, detail, headers)
    plain = FastAPI()

    @plain.get("/")
    def refuse() -> None:
        raise exc

    want = TestClient(plain).get("/")
    with pytest.raises(WebSocketDenialResponse) as caught, TestClient(refusing(exc)).websocket_connect("/"):
        pass
    got = caught.value
    assert (got.status_code, got.json(), dict(got.headers)) == (want.status_code, want.json(), dict(want.headers))


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(status: int) -> None:
    """As FastAPI answers it."""
    start, body = talk(refusing(HTTPException(status, headers={"X-Why": "so"}))).sent[:2]
    assert (start["status"], body.get("body", b"")) == (status, b"")
    assert (b"x-why", b"so") in start["headers"]


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        ("who are you?", "who are you?"),
        ({"code": "expired"}, '{"code":"expired"}'),
        (["a"], '["a"]'),
        ({"long": "x" * 200}, "Unauthorized"),
        ("ü" * 200, "ü" * 61),
        ("", ""),
    ],
    ids=["text", "dict", "list", "long dict", "long text", "empty"],
)
def test_after_accept_it_is_a_code_with_a_reason_that_fits(detail: Any, reason: str) -> None:
    """4000 + status, and at most 123 bytes, cut between characters."""
    exc = HTTPException(401, detail or None)
    exc.detail = detail
    closed = next(m for m in talk(refusing(exc, accept_first=True)).sent if m["type"] == "websocket.close")
    assert (closed["code"], closed["reason"]) == (4401, reason)


def test_a_status_without_a_name_has_no_reason() -> None:
    """Where the detail is too long to be one."""
    exc = HTTPException(499, {"long": "x" * 200})  # type: ignore[arg-type]  # as FastAPI takes it
    closed = next(m for m in talk(refusing(exc, accept_first=True)).sent if m["type"] == "websocket.close")
    assert (closed["code"], closed["reason"]) == (4499, "")


@pytest.mark.parametrize("accept_first", [False, True])
def test_a_long_reason_of_a_websocket_exception_is_cut(accept_first: bool) -> None:
    """Whoever gives it: servers raise for a longer one."""
    peer = talk(refusing(WebSocketException(4000, "é" * 100), accept_first))
    closed = next(m for m in peer.sent if m["type"] == "websocket.close")
    assert closed["reason"] == "é" * 61


def test_a_detail_that_json_does_not_know_is_still_a_refusal() -> None:
    """Written as text, rather than a 500."""

    class Odd:
        def __str__(self) -> str:
            return "odd"

    start, body = talk(refusing(HTTPException(403, {"a": Odd()}))).sent[:2]  # type: ignore[arg-type]
    assert (start["status"], json.loads(body["body"])) == (403, {"detail": {"a": "odd"}})


def test_on_a_server_without_denial_responses_it_is_a_close() -> None:
    """Which such servers answer with 403."""
    peer = talk(refusing(HTTPException(401, {"a": 1})), extensions={})
    assert peer.sent == [{"type": "websocket.close", "code": 4401, "reason": '{"a":1}'}]


@pytest.mark.parametrize("status", [None, "401", 0, -1, 1000, 5000])
def test_a_status_that_is_none_closes_1011_after_accept(status: Any) -> None:
    """There is a close frame, whatever the application takes for a status."""
    exc = HTTPException(401, "so")
    exc.status_code = status
    closed = [m for m in talk(refusing(exc, accept_first=True)).sent if m["type"] == "websocket.close"]
    assert [m["code"] for m in closed] == [1011]


@pytest.mark.parametrize("accepts", [True, False], ids=["accept", "response"])
def test_a_peer_that_leaves_before_it_is_answered_is_no_fault(accepts: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The server raises OSError then: nothing is logged, and nothing else is sent."""
    sent: list[Any] = []

    class Slow(Endpoint):
        async def on_connect(self) -> None:
            if accepts:
                await self.websocket.accept()
            else:
                await self.websocket.send_denial_response(PlainTextResponse("no", 401))

        async def on_disconnect(self, close_code: int) -> None:
            raise AssertionError("it was never accepted")

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)
        raise OSError("it has gone")

    scope = {"type": "websocket", "path": "/", "headers": [], "extensions": {"websocket.http.response": {}}}
    asyncio.run(Slow(scope, receive, send))  # type: ignore[arg-type, call-arg]  # as a server calls it
    assert len(sent) == 1
    assert not caplog.records
