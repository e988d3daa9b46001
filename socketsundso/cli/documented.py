"""`socketsundso run --docs`: what is served, with its page beside it."""

from __future__ import annotations

from typing import Any

import click
from starlette.types import ASGIApp, Receive, Scope, Send

from socketsundso.contract import Docs

PATH, PATH_BESIDE_ANOTHER = "/docs", "/docs/ws"  # FastAPI has a page of its own at the first


def documented(served: ASGIApp, app: Any) -> ASGIApp:
    """`served`, an application of ASGI 3, with the page of `app` at `/docs`, or below it where the first is taken."""
    taken = any(getattr(route, "path", None) == PATH for route in getattr(app, "routes", None) or ())
    place = PATH_BESIDE_ANOTHER if taken else PATH
    docs = Docs(app)
    click.echo(f"The page of the API is at {place}", err=True)

    async def with_docs(scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "")
        if scope["type"] == "http" and f"{scope['path']}/".startswith(f"{root}{place}/"):
            await docs({**scope, "root_path": root + place, "app_root_path": root}, receive, send)
        else:
            await served(scope, receive, send)

    return with_docs
