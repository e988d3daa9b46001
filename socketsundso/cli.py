"""
`socketsundso run MODULE:APP`: uvicorn, with the WebSocket protocol of this package.

The command takes every option of the uvicorn that is installed, because it is made of uvicorn's own. It
adds what uvicorn does not know: a bare endpoint class is served at `/`, and `--backplane` names the engine
between processes. Further commands are added to `main`.
"""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any, cast

import click
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import WebSocketRoute
from uvicorn.config import WS_PROTOCOLS
from uvicorn.importer import ImportFromStringError, import_from_string
from uvicorn.main import main as uvicorn_command

import socketsundso

PROTOCOL = "socketsundso.server:WebSocketProtocol"
# uvicorn's HTTP protocols with bounds on the head of a request, by uvicorn's names for them; the first that
# can be imported stands for "auto", as with uvicorn
HTTP_PROTOCOLS = {
    "httptools": "socketsundso.server.http_httptools:HttpToolsProtocol",
    "h11": "socketsundso.server.head:H11Protocol",
}

# How the processes that uvicorn starts learn what to serve: they import `socketsundso.cli:load_app` and
# call it.
APP_VARIABLE = "SOCKETSUNDSO_RUN_APP"
FACTORY_VARIABLE = "SOCKETSUNDSO_RUN_FACTORY"
BACKPLANE_VARIABLE = "SOCKETSUNDSO_BACKPLANE"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(socketsundso.__version__, prog_name="socketsundso")
def main() -> None:
    """Typed WebSocket APIs."""


def run(app: str, backplane: str | None, **options: Any) -> None:
    """
    Serve APP, given as MODULE:ATTRIBUTE: an ASGI application, or an endpoint class, which is served at `/`.

    This is uvicorn, with all its options, and with WebSocket frames parsed in compiled code.
    """
    sys.path.insert(0, options["app_dir"])
    _check(options)
    if backplane is not None:
        os.environ[BACKPLANE_VARIABLE] = backplane
    os.environ[APP_VARIABLE] = app
    os.environ[FACTORY_VARIABLE] = "1" if options["factory"] else ""
    if not options["reload"]:  # under --reload a mistake in the application is corrected while it runs
        _imported(app)
    if options["ws"] == "auto":
        options["ws"] = _websocket_protocol()
    options["http"] = _http_protocol(options["http"])
    serve = cast(Any, uvicorn_command.callback)
    serve(app=f"{__name__}:load_app", **(options | {"factory": True}))


def _check(options: dict[str, Any]) -> None:
    """Say in one line what uvicorn would answer with a traceback."""
    if not 0 <= options["port"] <= 65535:  # uvloop would serve on the rest of a division by 65536
        raise click.BadParameter(f"{options['port']} is not a port: use 0 to 65535", param_hint="'--port'")
    for name in ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs"):
        if options[name] and not os.path.isfile(options[name]):
            raise click.BadParameter(f"no file {options[name]}", param_hint=f"'--{name.replace('_', '-')}'")
    if options["uds"] and not os.path.isdir(os.path.dirname(options["uds"]) or "."):
        raise click.BadParameter(f"no folder for {options['uds']}", param_hint="'--uds'")
    if options["fd"] is not None:
        try:
            os.fstat(options["fd"])
        except OSError as exc:
            raise click.BadParameter(f"{options['fd']}: {exc.strerror}", param_hint="'--fd'") from None
    if options["ws"] not in WS_PROTOCOLS:
        try:
            import_from_string(options["ws"])
        except ImportFromStringError as exc:
            raise click.BadParameter(str(exc), param_hint="'--ws'") from None


def load_app() -> Any:
    """What `run` serves, in the process that serves it."""
    app = _imported(os.environ[APP_VARIABLE])
    if inspect.isclass(app) and hasattr(app, "__await__") and not issubclass(app, HTTPEndpoint):
        return Starlette(routes=[WebSocketRoute("/", app)])
    if os.environ[FACTORY_VARIABLE]:
        return app()
    return app


def _imported(name: str) -> Any:
    try:
        app = import_from_string(name)
    except ImportFromStringError as exc:
        raise click.ClickException(f"cannot serve {name}: {exc}") from None
    if not callable(app):
        raise click.ClickException(f"cannot serve {name}: it is {app!r}, not an ASGI application or an endpoint class")
    return app


def _websocket_protocol() -> str:
    if _importable(PROTOCOL):
        return PROTOCOL
    click.echo("Warning: picows is not installed: serving with uvicorn's own WebSocket protocol", err=True)
    return "auto"


def _http_protocol(name: str) -> str:
    """What bounds the heads of requests in place of uvicorn's `name`; any other choice stays as it is."""
    for known, candidate in HTTP_PROTOCOLS.items():
        if name in (known, "auto") and _importable(candidate):
            return candidate
    return name


def _importable(name: str) -> bool:
    """Whether what this protocol of ours needs is installed: picows, httptools."""
    try:
        import_from_string(name)
    except ImportError:
        return False
    return True


_BACKPLANE = click.Option(
    ["--backplane"],
    metavar="URL",
    help="The engine between processes, such as redis://localhost or nats://localhost. "
    f"The same as the environment variable {BACKPLANE_VARIABLE}.",
)

main.add_command(
    click.Command(
        "run",
        callback=run,
        help=inspect.getdoc(run),
        params=[
            *(param for param in uvicorn_command.params if param.name != "version"),
            _BACKPLANE,
        ],
    )
)
