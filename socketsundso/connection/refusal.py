"""What a peer is told whose `on_connect` raised: an HTTP response before accept, else a close code."""

from __future__ import annotations

from starlette.exceptions import HTTPException, WebSocketException
from starlette.responses import PlainTextResponse

from socketsundso.connection.peer import Peer


def is_meant(exc: Exception) -> bool:
    """Does the application refuse on purpose? Anything else is a bug, to be logged."""
    return isinstance(exc, HTTPException | WebSocketException)


async def refuse(peer: Peer, exc: Exception) -> None:
    """Answer the handshake, or close. Raises `exc` where only the server can answer it."""
    if peer.over is not None:
        return
    if peer.accepted or isinstance(exc, WebSocketException):
        await peer.close(*_close_for(exc))
    elif "websocket.http.response" in peer.websocket.scope.get("extensions", {}):
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        detail = exc.detail if isinstance(exc, HTTPException) else "Internal Server Error"
        await peer.websocket.send_denial_response(PlainTextResponse(detail, status))
    elif is_meant(exc):
        await peer.close(*_close_for(exc))
    else:
        raise exc  # the server answers 500


def _close_for(exc: Exception) -> tuple[int, str | None]:
    if isinstance(exc, WebSocketException):
        return exc.code, exc.reason
    if isinstance(exc, HTTPException):
        return 4000 + exc.status_code, exc.detail
    return 1011, None
