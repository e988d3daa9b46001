"""
`Docs`: a page that shows an API and lets it be tried, as an ASGI application to be mounted.

    app.mount("/docs/ws", Docs(app))

Serves `/` (the page), what it is made of, and `/asyncapi.json` (the document), all of it from its own origin and under
a Content-Security-Policy without inline scripts and styles. Every link is relative, so that neither prefixes nor
proxies have to be configured. Never runs a handler.
"""

from __future__ import annotations

import html
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from socketsundso.contract.asyncapi import dump
from socketsundso.contract.describing import api_of
from socketsundso.contract.model import Api
from socketsundso.errors import ContractError, DefinitionError

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).with_name("playground")
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            # 'self' has the own origin's WebSockets in Safari only since 16; and the address may be another server's
            "connect-src 'self' ws: wss:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'self'",
            # whatever the scripts do, no text can become markup
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # kept, and asked for again: a deployment may bring another one
}


class Docs:
    """
    The page of `app`: every endpoint in the routes of an application, with its path; or one endpoint class.

    What there is to show is looked up once, when it is asked for first, so that routes may be added behind it. Where
    the API cannot be described, `/asyncapi.json` answers 500 with the `ContractError`'s text, which the page shows, and
    the log has it. Whoever can open it reads the whole contract: mount it where they may, or not at all.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._making = threading.Lock()
        self._document: _File | None = None  # once it was asked for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await self._response(scope)
            await response(scope, receive, send)
        elif scope["type"] == "websocket":  # somebody has taken the page for an endpoint
            await WebSocketClose()(scope, receive, send)

    async def _response(self, scope: Scope) -> Response:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path.startswith("/"):
            return RedirectResponse(f"{scope['path'].rpartition('/')[2]}/")  # relative, as every link
        name = path[1:] or "index.html"
        if name != "asyncapi.json" and name not in _files():
            return PlainTextResponse("Not Found", 404)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": "GET, HEAD"})
        try:
            file = await self._file(name, scope)
        except (ContractError, DefinitionError) as exc:
            logger.error("%s has no document", self._app, exc_info=exc)
            return PlainTextResponse(str(exc), 500, HEADERS)
        return file.response(scope)

    async def _file(self, name: str, scope: Scope) -> _File:
        within = self._app if hasattr(self._app, "routes") else scope.get("app")
        if name == "asyncapi.json":
            return await anyio.to_thread.run_sync(self._made, within)  # which may take a while
        file = _files()[name]
        return file if name != "index.html" else _page(file, _base(within, self, scope))

    def _made(self, within: Any) -> _File:
        with self._making:
            if self._document is None:
                self._document = _File.of(dump(self._described(within)), "application/json")
            return self._document

    def _described(self, within: Any) -> Api:
        if isinstance(self._app, Api):
            return self._app
        if isinstance(self._app, type):
            return api_of(self._app, path=next(_paths(within, self._app), "/"))
        return api_of(self._app)


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> _File:
        return cls(content, media_type, f'"{sha256(content).hexdigest()[:20]}"')

    def response(self, scope: Scope) -> Response:
        headers = {**HEADERS, "ETag": self.etag}
        if self._is_known(Headers(scope=scope)):
            return Response(status_code=304, headers=headers)
        headers |= {"Content-Type": self.media_type, "Content-Length": str(len(self.content))}
        return Response(self.content if scope["method"] == "GET" else b"", headers=headers)

    def _is_known(self, headers: Mapping[str, str]) -> bool:
        """Whether the client has it already; who compresses on the way makes the tag a weak one (RFC 9110, 8.8.3)."""
        known = [each.strip().removeprefix("W/") for each in headers.get("if-none-match", "").split(",")]
        return self.etag in known or known == ["*"]


@cache
def _files() -> dict[str, _File]:
    """What the page is made of, by name."""
    return {path.name: _File.of(path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in sorted(FOLDER.iterdir())}


@cache
def _page(template: _File, base: str) -> _File:
    """The page where the application's paths begin at `base`; its modules are fetched at once, not one by one."""
    modules = (name for name in _files() if name.endswith(".js"))
    preloads = "\n".join(f'<link rel="modulepreload" href="{name}">' for name in modules)
    text = template.content.decode().replace("{preloads}", preloads).replace("{base}", html.escape(base))
    return _File.of(text.encode(), template.media_type)


def _base(within: Any, docs: Docs, scope: Scope) -> str:
    """Where the paths of the application begin, from the page: `../../` for a page at `/docs/ws/`."""
    path = next(_paths(within, docs), None)
    if path is None:  # behind a middleware of its own, say: then as seen from the outermost application
        path = scope.get("root_path", "").removeprefix(scope.get("app_root_path", ""))
    return "../" * len([part for part in path.split("/") if part]) or "./"


def _paths(app: Any, wanted: object) -> Iterator[str]:
    """The paths of what is mounted in `app`, or the endpoint of one of its routes, at any depth."""
    for route in getattr(app, "routes", None) or ():
        path = getattr(route, "path", "")
        if wanted is getattr(route, "app", None) or wanted is getattr(route, "endpoint", None):
            yield path
        elif not hasattr(route, "endpoint"):
            yield from (path + inner for inner in _paths(route, wanted))
