"""
`socketsundso run MODULE:APP`: uvicorn, with the WebSocket protocol of this package.

The command takes every option of the uvicorn that is installed, because it is made of uvicorn's own. It
adds what uvicorn does not know: a bare endpoint class is served at `/`, and `--backplane` names the engine
between processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import functools
import importlib
import inspect
import ipaddress
import logging
import math
import os
import re
import socket
import ssl
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import click
import h11
import uvicorn
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS as UVICORN_HTTP_PROTOCOLS
from uvicorn.config import LOOP_FACTORIES, WS_PROTOCOLS
from uvicorn.importer import ImportFromStringError, import_from_string
from uvicorn.main import main as uvicorn_command

from socketsundso.backplanes import default_url, open_url
from socketsundso.cli.logs import json_line, log_config
from socketsundso.cli.target import called, imported, is_coroutine_function, is_factory, takes
from socketsundso.endpoints import WebSocketHandlingEndpoint
from socketsundso.environment import (
    BACKPLANE_VARIABLE,
    DEFLATE_CONTEXT_VARIABLE,
    DEFLATE_MIN_VARIABLE,
    is_deflate_min,
)
from socketsundso.operations import (
    ANSWER_S,
    DRAIN_S,
    STARTUP_FAILURE,
    Server,
    Settings,
    Supervisor,
    Unusable,
    path_of,
    remove_abandoned,
    require_vacant,
    tells_memory,
)

PROTOCOL = "socketsundso.server:WebSocketProtocol"
# uvicorn's HTTP protocols with bounds on the head of a request, by uvicorn's names for them; the first that
# can be imported stands for "auto", as with uvicorn
HTTP_PROTOCOLS = {
    "httptools": "socketsundso.server.http_httptools:HttpToolsProtocol",
    "h11": "socketsundso.server.head:H11Protocol",
}

# How the processes that uvicorn starts learn what to serve: they import `socketsundso.cli:load_app` and
# call it. What it runs with is in the variables of `socketsundso.environment`.
APP_VARIABLE = "SOCKETSUNDSO_RUN_APP"
FACTORY_VARIABLE = "SOCKETSUNDSO_RUN_FACTORY"
INTERFACE_VARIABLE = "SOCKETSUNDSO_RUN_INTERFACE"
DOCS_VARIABLE = "SOCKETSUNDSO_RUN_DOCS"
JSON_VARIABLE = "SOCKETSUNDSO_RUN_LOG_JSON"

SHUTDOWN_TIMEOUT_S = 10
"""How long a shutdown waits for handlers unless told otherwise; uvicorn's own default is for ever."""


def run(
    app: str,
    backplane: str | None,
    ws_deflate_min: str | None,
    ws_deflate_context: bool,
    docs: bool,
    log_json: bool,
    **options: Any,
) -> None:
    """
    Serve APP, given as MODULE:ATTRIBUTE: an ASGI application, or an endpoint class, which is served at `/`.

    This is uvicorn, with all its options, and with WebSocket frames parsed in compiled code.
    """
    environment = {
        BACKPLANE_VARIABLE: backplane,
        DEFLATE_MIN_VARIABLE: ws_deflate_min,
        DEFLATE_CONTEXT_VARIABLE: "1" if ws_deflate_context else None,
        DOCS_VARIABLE: "1" if docs else "",
        JSON_VARIABLE: "1" if log_json else "",
    }
    if log_json and options["log_config"]:
        raise click.UsageError("--log-json and --log-config both say how to log")
    options["log_config"] = options["log_config"] or log_config(log_json, options["log_level"])
    try:
        _run(app, environment, _settings(options), options)
    except click.ClickException:
        raise
    except Exception as exc:
        if options["log_level"] in ("debug", "trace"):
            raise
        said = f"{type(exc).__name__}: {_in_a_line(exc)}"
        raise click.ClickException(f"cannot serve {app}: {said} (--log-level debug tells where)") from None


def _settings(options: dict[str, Any]) -> Settings:
    """Those of `options` that are ours, which uvicorn does not get."""
    given = {field.name: options.pop(field.name) for field in dataclasses.fields(Settings)}
    if options["reload"]:  # who edits a file does not want to wait for the browsers that look at it
        given["drain_s"] = 0.0
    return Settings(**given)


def _run(app: str, environment: dict[str, str | None], settings: Settings, options: dict[str, Any]) -> None:
    sys.path.insert(0, options["app_dir"])
    _check(options)
    os.environ.update({name: value for name, value in environment.items() if value is not None})
    os.environ[APP_VARIABLE] = app
    os.environ[FACTORY_VARIABLE] = "1" if options["factory"] else ""
    os.environ[INTERFACE_VARIABLE] = options["interface"]
    _check_deflate_min()
    options["forwarded_allow_ips"] = _checked_proxies(options["forwarded_allow_ips"])
    if options["workers"] is None:
        _check_concurrency()
    if isinstance(options["log_config"], str):
        _check_log_config(options)
    with _blaming("backplane"):
        open_url(default_url())
    if not options["reload"]:  # under --reload a mistake in the application is corrected while it runs
        _found(app)
    if options["ws"] == "auto":
        options["ws"] = _websocket_protocol()
    if not options.get("http2"):
        options["http"] = _http_protocol(options["http"])
    _warn_of_lone_workers(options)
    uds_mode = None
    if options["uds"] is not None and (options["reload"] or _workers(options) > 1):
        with _blaming("uds"):  # uvicorn does so for a single worker only
            uds_mode = remove_abandoned(options["uds"])
    serve = cast(Any, uvicorn_command.callback)
    with _served_by_ours(settings, uds_mode):
        serve(app="socketsundso.cli:load_app", **(options | {"factory": True}))


@contextlib.contextmanager
def _served_by_ours(settings: Settings, uds_mode: int | None) -> Iterator[None]:
    """Meanwhile uvicorn's command finds our server and our parent process where its own are."""
    names = sys.modules["uvicorn.main"].__dict__
    watched: dict[str, Any] = {}
    if settings.admin is not None:
        from socketsundso.telemetry import watch  # only here: who is not watched does not pay for it

        watched["watch"] = watch
    ours = {
        "Server": functools.partial(Server, settings=settings, **watched),
        "Multiprocess": functools.partial(Supervisor, settings=settings, uds_mode=uds_mode, **watched),
    }
    uvicorns = {name: names[name] for name in ours}
    names.update(ours)
    try:
        yield
    finally:
        names.update(uvicorns)


def _in_a_line(error: BaseException) -> str:
    """What `error` says, and what it says of its causes."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    said = " ".join(str(error).split()) or type(error).__name__
    return said if cause is None or str(cause) in str(error) else f"{said}: {_in_a_line(cause)}"


def _tell(level: int, text: str) -> None:
    """A line before there is a log, such as `Warning: ...`; with `--log-json` as one of the log's."""
    if os.environ.get(JSON_VARIABLE):
        click.echo(json_line(level, text), err=True)
    else:
        click.echo(f"{logging.getLevelName(level).capitalize()}: {text}", err=True)


# --- the command line


def _check(options: dict[str, Any]) -> None:
    """Say in one line what uvicorn would answer with a traceback."""
    if not 0 <= options["port"] <= 65535:  # uvloop would serve on the rest of a division by 65536
        raise _wrong("port", f"{options['port']} is not a port: use 0 to 65535")
    if options["root_path"] and not options["root_path"].startswith("/"):  # uvicorn puts it before each path
        raise _wrong("root_path", f"{options['root_path']!r} is no path: it begins with /")
    options["headers"] = [_checked_header(header) for header in options["headers"]]
    if options["uds"] is not None:
        _check_socket_path(options["uds"])
    if options["fd"] is not None:
        _check_descriptor(options["fd"])
    _check_tls(options)
    for name, known in (("ws", WS_PROTOCOLS), ("http", UVICORN_HTTP_PROTOCOLS), ("loop", LOOP_FACTORIES)):
        if options[name] != "auto":
            with _blaming(name):
                import_from_string(known.get(options[name], options[name]))
    if options["ws"] != "none" and options["loop"] not in LOOP_FACTORIES:
        _check_loop(options["loop"])


def _wrong(option: str, what: str) -> click.BadParameter:
    return click.BadParameter(what, param_hint=f"'--{option.replace('_', '-')}'")


@contextlib.contextmanager
def _blaming(option: str) -> Iterator[None]:
    """Whatever is raised here is the fault of this option."""
    try:
        yield
    except (ImportFromStringError, ImportError, OSError, ValueError) as exc:
        raise _wrong(option, _in_a_line(exc)) from None


def _checked_header(header: str) -> str:
    """`header` without the spaces that may follow its colon: with them h11 would refuse every response."""
    name, colon, value = (part.strip(" \t") for part in header.partition(":"))
    try:
        h11.Response(status_code=200, headers=[(name.encode("latin-1"), value.encode("latin-1"))])
    except (UnicodeEncodeError, h11.LocalProtocolError):
        colon = ""
    if not colon:
        raise _wrong("header", f"{header!r} is not NAME:VALUE")
    return f"{name}:{value}"


def _check_deflate_min() -> None:
    given = os.environ.get(DEFLATE_MIN_VARIABLE, "")
    if not is_deflate_min(given):
        raise _wrong("ws_deflate_min", f"{given!r} is neither a number of bytes nor off")


def _check_concurrency() -> None:
    given = os.environ.get("WEB_CONCURRENCY")
    if given and not (given.strip().isdecimal() and int(given)):
        raise click.UsageError(f"the environment variable WEB_CONCURRENCY is {given!r}, not a number of workers")


def _workers(options: dict[str, Any]) -> int:
    return options["workers"] or int(os.environ.get("WEB_CONCURRENCY") or 1)


def _checked_proxies(given: str | None) -> str:
    """
    Whom `--forwarded-allow-ips` names, with the forms of IPv4 addresses that a socket of both kinds shows.

    uvicorn takes whatever is no address for a name, which no client has: its proxy would not be believed.
    """
    told = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1") if given is None else given
    if told.strip() == "*":
        return "*"
    proxies = [each.strip() for each in told.split(",") if each.strip()]
    if "*" in proxies:
        raise _wrong("forwarded_allow_ips", f"{told!r}: * stands for all, and alone")
    with _blaming("forwarded_allow_ips"):
        networks = [ipaddress.ip_network(each) for each in proxies]
    mapped = [
        f"::ffff:{network.network_address}/{96 + network.prefixlen}" if "/" in each else f"::ffff:{each}"
        for each, network in zip(proxies, networks, strict=True)
        if network.version == 4
    ]
    return ",".join([*proxies, *mapped])


def _check_log_config(options: dict[str, Any]) -> None:
    """uvicorn's own way to read it, before anything else is done."""
    try:
        uvicorn.Config("", **{name: options[name] for name in ("log_config", "log_level", "use_colors")})
    except Exception as exc:
        raise _wrong("log_config", _in_a_line(exc)) from None


def _warn_of_lone_workers(options: dict[str, Any]) -> None:
    workers, engine = _workers(options), default_url()
    if workers > 1 and not options["reload"] and engine.startswith("memory:"):
        _tell(
            logging.WARNING,
            f"{workers} workers on {engine} do not hear each other: rooms and hubs that name no engine of "
            "their own reach the connections of one worker only (--backplane names one, such as redis://localhost)",
        )


def _check_loop(name: str) -> None:
    """An event loop whose connections keep their first protocol answers every handshake with an error."""

    async def change_protocol(end: socket.socket) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=end)
        try:
            transport.set_protocol(asyncio.Protocol())
        finally:
            transport.abort()

    ends = socket.socketpair()
    try:
        with asyncio.Runner(loop_factory=import_from_string(name)) as runner:
            runner.run(change_protocol(ends[0]))
    except (AttributeError, NotImplementedError) as exc:
        what = f"{name} cannot serve WebSockets: its connections cannot change their protocol ({_in_a_line(exc)})"
        raise _wrong("loop", what) from None
    finally:
        for end in ends:
            end.close()


def _check_socket_path(path: str) -> None:
    if not path:
        raise _wrong("uds", "a path is needed")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise _wrong("uds", f"no folder for {path}")
    if not os.path.exists(path):
        # tried before anything starts: uvicorn would answer with a traceback
        with _blaming("uds"), socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)
            os.unlink(path)
    elif not stat.S_ISSOCK(os.stat(path).st_mode):  # uvicorn would fail, and remove it
        raise _wrong("uds", f"{path} exists and is no socket")


def _check_descriptor(descriptor: int) -> None:
    with _blaming("fd"):
        mode = os.fstat(descriptor).st_mode
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

    with _blaming("ssl_version"):
        context = ssl.SSLContext(options["ssl_version"])
    with _blaming("ssl_cert_reqs"):
        context.verify_mode = ssl.VerifyMode(options["ssl_cert_reqs"])
    if options["ssl_ciphers"]:
        with _blaming("ssl_ciphers"):
            context.set_ciphers(options["ssl_ciphers"])
    if options["ssl_ca_certs"]:
        with _blaming("ssl_ca_certs"):
            context.load_verify_locations(options["ssl_ca_certs"])
    try:
        context.load_cert_chain(certificate, key, ask if password is None else password)
    except ssl.SSLError as exc:
        if not asks:
            raise _wrong("ssl_certfile", f"cannot use {certificate} with {key or 'its own key'}: {exc}") from None


def _load_environment(context: click.Context, parameter: click.Parameter, path: str | None) -> str | None:
    """Before the other options are looked at, which may be in the file; uvicorn would read it after them."""
    if path is None:
        return path
    try:
        dotenv = importlib.import_module("dotenv")
    except ImportError:
        raise _wrong("env_file", "python-dotenv is not installed") from None
    with _blaming("env_file"):
        if os.path.isdir(path):
            raise IsADirectoryError(f"{path} is a folder")
        dotenv.load_dotenv(path)
    return path


# --- what to serve


def load_app() -> Any:
    """What `run` serves, in the process that serves it; what is wrong with it ends the process with one line."""
    name = os.environ[APP_VARIABLE]
    try:
        app = _application(name)
        return _documented(app, name) if os.environ.get(DOCS_VARIABLE) else _served(app, name)
    except click.ClickException as mistake:
        _tell(logging.ERROR, mistake.format_message())
        sys.exit(STARTUP_FAILURE)  # the status that tells uvicorn's supervisor not to try again


def _application(name: str) -> Any:
    app = _found(name)
    if os.environ[FACTORY_VARIABLE]:
        app = _called(app, name)
    elif not _is_application(app):
        _tell(logging.WARNING, f"{name} takes no arguments: called as with --factory")
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
        _tell(logging.WARNING, f"{name} is served as an ASGI 2 application, as with --interface asgi2")
        return app

    async def asgi3(scope: Any, receive: Any, send: Any) -> Any:
        return await app(scope, receive, send)

    return asgi3


def _is_asgi3_to_uvicorn(app: Any) -> bool:
    if inspect.isclass(app):
        return hasattr(app, "__await__")
    return inspect.iscoroutinefunction(app if inspect.isfunction(app) else type(app).__call__)


def _found(name: str) -> Any:
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


def _websocket_protocol() -> str:
    if _importable(PROTOCOL):
        return PROTOCOL
    _tell(logging.WARNING, "picows is not installed: serving with uvicorn's own WebSocket protocol")
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
    envvar=BACKPLANE_VARIABLE,
    help="The engine between processes, such as redis://localhost or nats://localhost. "
    f"The same as the environment variable {BACKPLANE_VARIABLE}.",
)


def _finite(context: click.Context, parameter: click.Parameter, given: float | None) -> float | None:
    if given is not None and not math.isfinite(given):  # which is in any range
        raise click.BadParameter(f"{given} is no number")
    return given


_AT_LEAST = {
    "workers": 1,
    "limit_concurrency": 1,
    "limit_max_requests": 1,
    "limit_max_requests_jitter": 0,
    "backlog": 1,
    "ws_max_size": 1,
    "ws_max_queue": 0,
    "timeout_keep_alive": 0,
    "timeout_graceful_shutdown": 0,
    "timeout_worker_healthcheck": 1,
    "h11_max_incomplete_event_size": 1,
}
"""What uvicorn takes any number for, and then serves nobody, ends at once, or fails later."""
_DEFAULTS = {"timeout_graceful_shutdown": SHUTDOWN_TIMEOUT_S, "timeout_worker_healthcheck": ANSWER_S}
"""Where a server of long connections needs others than uvicorn's, which are for ever, and 5 s."""


def _as_run_has_it(option: click.Parameter) -> click.Parameter:
    """uvicorn's option, with our default and its range."""
    ours = cast(click.Option, copy.copy(option))
    if option.name in _AT_LEAST:
        ours.type = click.IntRange(min=_AT_LEAST[option.name])
    if option.name in ("ws_ping_interval", "ws_ping_timeout"):
        ours.type, ours.callback = click.FloatRange(min=0), _finite
    if option.name in _DEFAULTS:
        ours.default, ours.show_default = _DEFAULTS[option.name], True
    if option.name == "env_file":
        ours.is_eager, ours.callback = True, _load_environment
    return ours


_DEFLATE_MIN = click.Option(
    ["--ws-deflate-min"],
    metavar="BYTES|off",
    envvar=DEFLATE_MIN_VARIABLE,
    help="Compress messages from so many bytes on, or none, where permessage-deflate was negotiated. "
    "Default: replies from 1024, messages to many from 256.",
)
_DEFLATE_CONTEXT = click.Option(
    ["--ws-deflate-context"],
    is_flag=True,
    envvar=DEFLATE_CONTEXT_VARIABLE,
    help="Keep permessage-deflate's contexts, some 50 kB for each connection that talks, and compress every message: "
    "for few clients on thin lines.",
)


def _path(context: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    if given is not None and not given.startswith("/"):
        raise click.BadParameter(f"{given!r} is no path: it begins with /")
    if given is not None and re.search("[?#]", given):
        raise click.BadParameter(f"{given!r} is more than a path")
    return given


def _vacant(given: Any) -> str:
    """A path at which a Unix socket can be made."""
    try:
        path = path_of(str(given))
        require_vacant(path)
    except Unusable as mistake:
        raise click.BadParameter(str(mistake)) from None
    return path


def _bytes(given: Any) -> int:
    """`1000000`, `512K`, `64M`, `2G`, in powers of 1,024."""
    matched = re.fullmatch(r"([0-9]+)([KMG]?)", str(given), re.IGNORECASE)
    if matched is None or not int(matched[1]):
        raise click.BadParameter(f"{given!r} is no number of bytes, such as 512M")
    return int(matched[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[matched[2].upper()]


def _memory(given: Any) -> int:
    if not tells_memory():
        raise click.BadParameter("this system has no /proc, which says how much memory a process has")
    return _bytes(given)


def _operation(name: str, help: str, **settings: Any) -> click.Option:
    """What becomes a field of `Settings`; its environment variable is the option's name."""
    variable = f"SOCKETSUNDSO_{name.upper()}"
    return click.Option([f"--{name.replace('_', '-')}"], help=help, envvar=variable, **settings)


_OPERATION = [
    _operation(
        "drain_s",
        "On SIGTERM, tell connections 1012 evenly over so many seconds, in which handlers and streams may finish.",
        type=click.FloatRange(min=0),
        callback=_finite,
        default=DRAIN_S,
        show_default=True,
    ),
    _operation(
        "health",
        "Answer GET PATH, such as /healthz, before the application: 200, or 503 while the worker drains.",
        metavar="PATH",
        callback=_path,
    ),
    _operation(
        "admin",
        "Tell what the workers do at a Unix socket of this path, for `socketsundso top`; only its owner may open it.",
        metavar="SOCKET",
        type=_vacant,
    ),
    _operation(
        "max_connections",
        "Refuse handshakes with 503 while a worker has so many WebSockets.",
        type=click.IntRange(min=1),
    ),
    _operation(
        "max_connections_per_ip",
        "Refuse handshakes with 429 while a worker has so many WebSockets of the address, or of its /64.",
        type=click.IntRange(min=1),
    ),
    _operation(
        "max_handshakes_per_s",
        "Refuse with 503 the handshakes of a worker that are more than so many in a second.",
        type=click.FloatRange(min=0, min_open=True),
        callback=_finite,
    ),
    _operation(
        "max_queued_bytes",
        "While messages of so many bytes wait for a worker's handlers, read nothing more from who has sent them, and "
        "refuse handshakes with 503. 64M and the like are understood.",
        metavar="BYTES",
        type=_bytes,
    ),
    _operation(
        "max_rss",
        "Refuse handshakes with 503 while a worker has so much memory. 2G and the like are understood.",
        metavar="BYTES",
        type=_memory,
    ),
]

_LOG_JSON = click.Option(
    ["--log-json"],
    is_flag=True,
    envvar="SOCKETSUNDSO_LOG_JSON",
    help="Log one JSON object a line, with the connection, event, ref and user that it is about.",
)

_DOCS = click.Option(
    ["--docs"],
    is_flag=True,
    help="Serve a page that shows the API and lets it be tried, at /docs.",
)

command = click.Command(
    "run",
    callback=run,
    help=inspect.getdoc(run),
    params=[
        *map(_as_run_has_it, uvicorn_command.params),
        _BACKPLANE,
        _DEFLATE_MIN,
        _DEFLATE_CONTEXT,
        _DOCS,
        _LOG_JSON,
        *_OPERATION,
    ],
    context_settings=uvicorn_command.context_settings,  # environment variables: UVICORN_PORT and so on
)
