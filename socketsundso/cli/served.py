"""
What `run` serves, in the process that serves it.

The processes that uvicorn starts import `socketsundso.cli:load_app` and call it. They learn from the environment what
to serve; what it runs with is in the variables of `socketsundso.environment`.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, cast

import click
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from socketsundso.cli.mistakes import tell
from socketsundso.cli.target import called, imported, is_coroutine_function, is_factory, takes
from socketsundso.endpoints import WebSocketHandlingEndpoint
from socketsundso.operations import STARTUP_FAILURE

APP_VARIABLE = "SOCKETSUNDSO_RUN_APP"
FACTORY_VARIABLE = "SOCKETSUNDSO_RUN_FACTORY"
INTERFACE_VARIABLE = "SOCKETSUNDSO_RUN_INTERFACE"
DOCS_VARIABLE = "SOCKETSUNDSO_RUN_DOCS"


def load_app() -> Any:
    """What `run` serves, in the process that serves it; what is wrong with it ends the process with one line."""
    name = os.environ[APP_VARIABLE]
    try:
        app = _application(name)
        return _documented(app, name) if os.environ.get(DOCS_VARIABLE) else _served(app, name)
    except click.ClickException as mistake:
        tell(logging.ERROR, mistake.format_message())
        sys.exit(STARTUP_FAILURE)  # the status that tells uvicorn's supervisor not to try again


def _application(name: str) -> Any:
    app = found(name)
    if os.environ[FACTORY_VARIABLE]:
        app = _called(app, name)
    elif not _is_application(app):
        tell(logging.WARNING, f"{name} takes no arguments: called as with --factory")
        app = _called(app, name)
    return app


def _documented(app: Any, name: str) -> Any:
    """The same with the page of its API beside it."""
    from socketsundso.cli.documented import documented  # only here: who shows no page does not pay for it

    served = _served(app, name)
    if os.environ[INTERFACE_VARIABLE] not in ("auto", "asgi3") or not _is_asgi3_to_uvicorn(served):
        raise click.ClickException(f"cannot serve {name} with --docs: it is no ASGI 3 application")
    return documented(served, app)


def _served(app: Any, name: str) -> Any:
    """As uvicorn is to call it: an endpoint class has the path `/`."""
    if inspect.isclass(app) and issubclass(app, WebSocketHandlingEndpoint):
        return _at_root(app)
    return Starlette(routes=[WebSocketRoute("/", app)]) if _is_endpoint(app) else _as_uvicorn_takes_it(app, name)


def _at_root(endpoint: type[WebSocketHandlingEndpoint]) -> Any:
    """
    `endpoint` at `/`; whatever else comes is answered by a Starlette without routes.

    With a route there, its middlewares would be around each connection for all its life: a third of what it weighs.
    """
    elsewhere = Starlette()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"].removeprefix(scope["root_path"]) == "/":
            scope["app"] = elsewhere
            await cast(Any, endpoint)(scope, receive, send)
        else:
            await elsewhere(scope, receive, send)

    return app


def _as_uvicorn_takes_it(app: Any, name: str) -> Any:
    """
    `app`, so that uvicorn calls it as it is meant.

    By itself uvicorn takes whatever is no coroutine function for ASGI 2: also partials, methods, and functions that
    return an awaitable.
    """
    if os.environ[INTERFACE_VARIABLE] != "auto" or _is_asgi3_to_uvicorn(app):
        return app
    if takes(app, 1) and not is_coroutine_function(app):
        tell(logging.WARNING, f"{name} is served as an ASGI 2 application, as with --interface asgi2")
        return app

    async def asgi3(scope: Any, receive: Any, send: Any) -> Any:
        return await app(scope, receive, send)

    return asgi3


def _is_asgi3_to_uvicorn(app: Any) -> bool:
    if inspect.isclass(app):
        return hasattr(app, "__await__")
    return inspect.iscoroutinefunction(app if inspect.isfunction(app) else type(app).__call__)


def found(name: str) -> Any:
    """The application, or factory, called `name`; ClickException if it cannot be one."""
    app = imported(name, "serve")
    if not callable(app):
        raise click.ClickException(f"cannot serve {name}: it is {app!r}, not an ASGI application or an endpoint class")
    if not (_is_application(app) or is_factory(app)):
        raise click.ClickException(
            f"cannot serve {name}: {app!r} does not take (scope, receive, send): not an ASGI application"
        )
    return app


def _called(factory: Callable[[], Any], name: str) -> Any:
    app = called(factory, name, "serve")
    if not (callable(app) and _is_application(app)):
        raise click.ClickException(f"cannot serve {name}: calling it gave {app!r}, not an ASGI application")
    return app


def _is_endpoint(app: Any) -> bool:
    return inspect.isclass(app) and hasattr(app, "__await__") and not issubclass(app, HTTPEndpoint)


def _is_application(app: Any) -> bool:
    """Whether `app` may be an application, as far as its signature tells: of ASGI 3, ASGI 2, or WSGI if chosen."""
    wsgi = os.environ[INTERFACE_VARIABLE] == "wsgi"
    if inspect.isclass(app):
        return hasattr(app, "__await__") or (takes(app, 2) if wsgi else takes(app, 1) and _takes_the_rest(app))
    # ASGI 2: a function that is no coroutine takes the scope
    return takes(app, 3) or (takes(app, 2) if wsgi else takes(app, 1) and not is_coroutine_function(app))


def _takes_the_rest(app: type) -> bool:
    """Whether instances of `app` can be called with receive and send: whether it may be of ASGI 2."""
    return any("__call__" in vars(each) for each in app.__mro__) and takes(app.__call__, 3)
