"""What a peer is told whose `on_connect` raised: an HTTP response before accept, else a close code."""

from __future__ import annotations

import http

from pydantic_core import to_json
from starlette.exceptions import HTTPException, WebSocketException
from starlette.responses import PlainTextResponse, Response

from socketsundso.connection.peer import MAX_REASON_BYTES, Peer
from socketsundso.messages import http_code

_WITHOUT_BODY = (204, 205, 304)


def is_meant(exc: Exception) -> bool:
    """Does the application refuse on purpose? Anything else is a bug, to be logged."""
    return isinstance(exc, HTTPException | WebSocketException)


def reason_of(exc: Exception) -> str:
    """In a word, as error frames have it: `forbidden`, for 403."""
    if isinstance(exc, HTTPException):
        return http_code(exc.status_code) if _is_status(exc.status_code) else http_code(500)
    return http_code(403 if isinstance(exc, WebSocketException) else 500)


async def refuse(peer: Peer, exc: Exception) -> None:
    """Answer the handshake, or close. Raises `exc` where only the server can answer it."""
    if peer.over is not None:
        return
    if peer.accepted or isinstance(exc, WebSocketException):
        await peer.close(*_close_for(exc))
    elif "websocket.http.response" in peer.websocket.scope.get("extensions", {}):
        await peer.websocket.send_denial_response(_response(exc))
    elif is_meant(exc):
        await peer.close(*_close_for(exc))
    else:
        raise exc  # the server answers 500


def _response(exc: Exception) -> Response:
    """As FastAPI answers it: `{"detail":"who are you?"}`, with the exception's headers."""
    if not isinstance(exc, HTTPException):
        return PlainTextResponse("Internal Server Error", 500)
    if exc.status_code < 200 or exc.status_code in _WITHOUT_BODY:
        return Response(status_code=exc.status_code, headers=_headers(exc))
    body = to_json({"detail": exc.detail}, fallback=str)
    return Response(body, exc.status_code, _headers(exc), "application/json")


def _headers(exc: HTTPException) -> dict[str, str] | None:
    return dict(exc.headers) if exc.headers else None


def _close_for(exc: Exception) -> tuple[int, str | None]:
    if isinstance(exc, WebSocketException):
        return exc.code, exc.reason
    if isinstance(exc, HTTPException):
        return 4000 + exc.status_code if _is_status(exc.status_code) else 1011, _reason(exc)
    return 1011, None


def _is_status(status: object) -> bool:
    return isinstance(status, int) and 100 <= status < 1000


def _reason(exc: HTTPException) -> str:
    """The detail; as JSON where it is no text, unless only a part of that would fit."""
    if isinstance(exc.detail, str):
        return exc.detail
    text = to_json(exc.detail, fallback=str)
    if len(text) <= MAX_REASON_BYTES:
        return text.decode()
    try:
        return http.HTTPStatus(exc.status_code).phrase
    except ValueError:
        return ""
