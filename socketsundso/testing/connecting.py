"""
`connect`: a connection to an endpoint class, or to an application, in this process; without a server, port or thread.

    async with connect(Chat, user="ada") as ws:      # in the test's own event loop
    with connect(Chat, user="ada") as ws:            # the sync twin: a loop in a thread, shared by all of them
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import anyio.from_thread
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from socketsundso import WebSocketHandlingEndpoint
from socketsundso.testing.connection import Connection
from socketsundso.testing.synchronous import SyncConnection

T = TypeVar("T")

_NOT_GIVEN: Final = object()
_loops = anyio.from_thread.BlockingPortalProvider()


class Connecting:
    """What `connect` gives: a context manager for `async with` and for `with`. The connection is open within it."""

    def __init__(self, make: Callable[[], Connection], within_s: float) -> None:
        self._make, self._within_s = make, within_s
        self._connection: Connection | None = None
        self._portal: anyio.from_thread.BlockingPortal | None = None

    async def __aenter__(self) -> Connection:
        self._connection = connection = self._make()
        await connection.open(self._within_s)
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._connection is not None
        try:
            await self._connection.close()
        except Exception:
            if exc is None:  # else what has failed first is what the test is told
                raise

    def __enter__(self) -> SyncConnection:
        self._portal = _loops.__enter__()
        try:
            return SyncConnection(self._portal.call(self.__aenter__), self._call)
        except BaseException:
            self._let_go()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._portal is not None
        try:
            self._portal.call(self.__aexit__, kind, exc, traceback)
        finally:
            self._let_go()

    def _call(self, call: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
        if self._portal is None:
            raise RuntimeError("the connection is closed: its `with` has ended")

        async def called() -> T:
            return await call(*args, **kwargs)

        return self._portal.call(called)

    def _let_go(self) -> None:
        self._portal = None
        _loops.__exit__(None, None, None)


def connect(
    target: type[WebSocketHandlingEndpoint] | ASGIApp,
    path: str = "/",
    *,
    user: Any = _NOT_GIVEN,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    query: str | Mapping[str, Any] = "",
    path_params: Mapping[str, Any] | None = None,
    subprotocols: Sequence[str] = (),
    client: tuple[str, int] = ("testclient", 50000),
    within_s: float = 5.0,
) -> Connecting:
    """
    Connect to an endpoint class, or to a path of an application (Starlette, FastAPI, anything of ASGI).

        async with connect(Chat, user="ada", headers={"origin": "https://example.com"}) as ws:
            posted = await ws.ask("say", msg="hi", returns=Posted)

    `user` is who is signed in: `self.user`, in place of what `authenticate` would give. `path_params` are what a route
    would have taken of the path. Both are for a class; an application has routes, and is signed in to by headers. An
    application's lifespan is not run: `async with app.router.lifespan_context(app):` does that.

    Raises `HandshakeRefused` for a connection that is not accepted, what the application raises, TypeError for what
    does not go together, AssertionError where the handshake is not answered within `within_s` seconds.
    """
    scope: Scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": (query if isinstance(query, str) else urlencode(query)).encode(),
        "headers": _raw_headers(headers),
        "client": client,
        "server": ("testserver", 80),
        "subprotocols": list(subprotocols),
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    if isinstance(target, type) and issubclass(target, WebSocketHandlingEndpoint):
        scope["path_params"] = dict(path_params or {})
        app: ASGIApp = target if user is _NOT_GIVEN else _signed_in(target, user)
        scope["endpoint"] = target
        return Connecting(lambda: Connection(app, scope), within_s)
    if user is not _NOT_GIVEN or path_params is not None:
        raise TypeError(
            "connect: user= and path_params= are for an endpoint class; an application has routes and its own way to "
            "sign in: give headers=, query= or the class"
        )
    application: ASGIApp = target  # type: ignore[assignment]  # no class of ours
    return Connecting(lambda: Connection(application, scope), within_s)


def _signed_in(cls: type[WebSocketHandlingEndpoint], user: Any) -> ASGIApp:
    async def authenticate() -> Any:
        return user

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = cls.of_websocket(WebSocket(scope, receive, send))
        endpoint.user, endpoint.authenticate = user, authenticate  # type: ignore[method-assign]  # of this instance
        await endpoint

    return app


def _raw_headers(headers: Mapping[str, str] | Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    given = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    return given if any(name == b"host" for name, _ in given) else [(b"host", b"testserver"), *given]
