"""
`socketsundso run MODULE:APP`: uvicorn, with the WebSocket protocol of this package.

The command takes every option of the uvicorn that is installed, because it is made of uvicorn's own. It
adds what uvicorn does not know: a bare endpoint class is served at `/`, and `--backplane` names the engine
between processes. Further commands are added to `main`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import ssl
import stat
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

import click
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import WebSocketRoute
from uvicorn import importer
from uvicorn.config import HTTP_PROTOCOLS as UVICORN_HTTP_PROTOCOLS
from uvicorn.config import LOOP_FACTORIES, STARTUP_FAILURE, WS_PROTOCOLS
from uvicorn.importer import ImportFromStringError, import_from_string
from uvicorn.main import main as uvicorn_command

import socketsundso
from socketsundso.backplanes import open_url

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
INTERFACE_VARIABLE = "SOCKETSUNDSO_RUN_INTERFACE"
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
    os.environ[INTERFACE_VARIABLE] = options["interface"]
    if options["env_file"]:
        _load_environment(options["env_file"])
    if named := os.environ.get(BACKPLANE_VARIABLE):
        _check_backplane(named)
    if not options["reload"]:  # under --reload a mistake in the application is corrected while it runs
        _found(app)
    if options["ws"] == "auto":
        options["ws"] = _websocket_protocol()
    options["http"] = _http_protocol(options["http"])
    serve = cast(Any, uvicorn_command.callback)
    serve(app=f"{__name__}:load_app", **(options | {"factory": True}))


# --- the command line


def _check(options: dict[str, Any]) -> None:
    """Say in one line what uvicorn would answer with a traceback."""
    if not 0 <= options["port"] <= 65535:  # uvloop would serve on the rest of a division by 65536
        raise _wrong("port", f"{options['port']} is not a port: use 0 to 65535")
    for header in options["headers"]:
        if ":" not in header:
            raise _wrong("header", f"{header!r} is not NAME:VALUE")
    if options["uds"]:
        _check_socket_path(options["uds"])
    if options["fd"] is not None:
        _check_descriptor(options["fd"])
    _check_tls(options)
    for name, known in (("ws", WS_PROTOCOLS), ("http", UVICORN_HTTP_PROTOCOLS), ("loop", LOOP_FACTORIES)):
        if options[name] not in known:
            try:
                import_from_string(options[name])
            except (ImportFromStringError, ImportError) as exc:
                raise _wrong(name, str(exc)) from None


def _wrong(option: str, what: str) -> click.BadParameter:
    return click.BadParameter(what, param_hint=f"'--{option.replace('_', '-')}'")


def _check_backplane(url: str) -> None:
    try:
        open_url(url)
    except (ValueError, ImportError) as exc:
        raise _wrong("backplane", str(exc)) from None


def _check_socket_path(path: str) -> None:
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise _wrong("uds", f"no folder for {path}")
    # uvicorn would fail, and remove it
    if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
        raise _wrong("uds", f"{path} exists and is no socket")


def _check_descriptor(descriptor: int) -> None:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError as exc:
        raise _wrong("fd", f"{descriptor}: {exc.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise _wrong("fd", f"{descriptor} is no socket")


def _check_tls(options: dict[str, Any]) -> None:
    for name in ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs"):
        if options[name] and not os.path.isfile(options[name]):
            raise _wrong(name, f"no file {options[name]}")
    certificate, key, password = (options[f"ssl_{name}"] for name in ("certfile", "keyfile", "keyfile_password"))
    if key and not certificate:
        raise _wrong("ssl_keyfile", "--ssl-certfile is needed too")
    if not certificate:
        return
    asks = []

    def ask() -> str:
        asks.append(True)  # the server will do so: nobody is to be asked twice
        return ""

    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key, ask if password is None else password)
    except ssl.SSLError as exc:
        if not asks:
            raise _wrong("ssl_certfile", f"cannot use {certificate} with {key or 'its own key'}: {exc}") from None


def _load_environment(path: str) -> None:
    # uvicorn does that too, but the application is imported before
    try:
        dotenv = importlib.import_module("dotenv")
    except ImportError:
        raise _wrong("env_file", "python-dotenv is not installed") from None
    dotenv.load_dotenv(path)


# --- what to serve


def load_app() -> Any:
    """What `run` serves, in the process that serves it; what is wrong with it ends the process with one line."""
    try:
        return _application(os.environ[APP_VARIABLE])
    except click.ClickException as mistake:
        mistake.show()
        sys.exit(STARTUP_FAILURE)  # the status that tells uvicorn's supervisor not to try again


def _application(name: str) -> Any:
    app = _found(name)
    if os.environ[FACTORY_VARIABLE]:
        app = _called(app, name)
    elif not _is_application(app):
        click.echo(f"Warning: {name} takes no arguments: called as with --factory", err=True)
        app = _called(app, name)
    return Starlette(routes=[WebSocketRoute("/", app)]) if _is_endpoint(app) else app


def _found(name: str) -> Any:
    """The application, or factory, called `name`; ClickException if it cannot be one."""
    try:
        app = import_from_string(name)
    except ImportFromStringError as exc:
        raise click.ClickException(f"cannot serve {name}: {exc}") from None
    except Exception as exc:
        raise _blamed(exc, f"cannot serve {name}: importing it raised {type(exc).__name__}") from None
    if not callable(app):
        raise click.ClickException(f"cannot serve {name}: it is {app!r}, not an ASGI application or an endpoint class")
    if not (_is_application(app) or _is_factory(app)):
        raise click.ClickException(
            f"cannot serve {name}: {app!r} does not take (scope, receive, send): not an ASGI application"
        )
    return app


def _called(factory: Callable[[], Any], name: str) -> Any:
    try:
        app = factory()
    except Exception as exc:
        raise _blamed(exc, f"cannot serve {name}: calling it raised {type(exc).__name__}") from None
    if not (callable(app) and _is_application(app)):
        raise click.ClickException(f"cannot serve {name}: calling it gave {app!r}, not an ASGI application")
    return app


def _is_endpoint(app: Any) -> bool:
    return inspect.isclass(app) and hasattr(app, "__await__") and not issubclass(app, HTTPEndpoint)


def _is_application(app: Any) -> bool:
    """Whether `app` may be an application, as far as its signature tells: of ASGI 3, ASGI 2, or WSGI if chosen."""
    if _is_endpoint(app) or _takes(app, 3):
        return True
    if os.environ[INTERFACE_VARIABLE] == "wsgi":
        return _takes(app, 2)
    # ASGI 2: a class, or a function that is no coroutine, takes the scope
    return _takes(app, 1) and (inspect.isclass(app) or not _is_coroutine_function(app))


def _is_factory(app: Any) -> bool:
    return _takes(app, 0) and not _is_coroutine_function(app)


def _is_coroutine_function(app: Any) -> bool:
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)


def _takes(app: Any, count: int) -> bool:
    """Whether `app` can be called with so many arguments; yes if it does not say, as compiled code may not."""
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _blamed(error: Exception, said: str) -> click.ClickException:
    """`said`, behind the traceback of `error` from the first line on that is the user's."""
    first = error.__traceback__
    while first is not None and _is_ours(first):
        first = first.tb_next
    if first is None and not isinstance(error, SyntaxError):  # such as the package of a module that is not there
        return click.ClickException(f"{said}: {error}")
    traceback.print_exception(error.with_traceback(first))
    return click.ClickException(said)


def _is_ours(entry: TracebackType) -> bool:
    file = entry.tb_frame.f_code.co_filename
    return file in (__file__, importer.__file__, importlib.__file__) or file.startswith("<frozen importlib")


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
