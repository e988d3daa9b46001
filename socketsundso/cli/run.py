"""
`socketsundso run MODULE:APP`: uvicorn, with the WebSocket protocol of this package.

The command takes every option of the uvicorn that is installed, because it is made of uvicorn's own. It
adds what uvicorn does not know: a bare endpoint class is served at `/`, and `--backplane` names the engine
between processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, cast

import click
from uvicorn.importer import import_from_string
from uvicorn.main import main as uvicorn_command

from socketsundso.backplanes import default_url, open_url
from socketsundso.cli.checks import (
    check,
    check_concurrency,
    check_deflate_min,
    check_log_config,
    checked_proxies,
    warn_of_lone_workers,
    workers_of,
)
from socketsundso.cli.logs import log_config
from socketsundso.cli.mistakes import JSON_VARIABLE, blaming, in_a_line, tell
from socketsundso.cli.options import OPTIONS
from socketsundso.cli.served import APP_VARIABLE, DOCS_VARIABLE, FACTORY_VARIABLE, INTERFACE_VARIABLE, found
from socketsundso.environment import BACKPLANE_VARIABLE, DEFLATE_CONTEXT_VARIABLE, DEFLATE_MIN_VARIABLE
from socketsundso.operations import Server, Settings, Supervisor, remove_abandoned

PROTOCOL = "socketsundso.server:WebSocketProtocol"
# uvicorn's HTTP protocols with bounds on the head of a request, by uvicorn's names for them; the first that
# can be imported stands for "auto", as with uvicorn
HTTP_PROTOCOLS = {
    "httptools": "socketsundso.server.http_httptools:HttpToolsProtocol",
    "h11": "socketsundso.server.head:H11Protocol",
}


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
        said = f"{type(exc).__name__}: {in_a_line(exc)}"
        raise click.ClickException(f"cannot serve {app}: {said} (--log-level debug tells where)") from None


def _settings(options: dict[str, Any]) -> Settings:
    """Those of `options` that are ours, which uvicorn does not get."""
    given = {field.name: options.pop(field.name) for field in dataclasses.fields(Settings)}
    if options["reload"]:  # who edits a file does not want to wait for the browsers that look at it
        given["drain_s"] = 0.0
    return Settings(**given)


def _run(app: str, environment: dict[str, str | None], settings: Settings, options: dict[str, Any]) -> None:
    sys.path.insert(0, options["app_dir"])
    check(options)
    os.environ.update({name: value for name, value in environment.items() if value is not None})
    os.environ[APP_VARIABLE] = app
    os.environ[FACTORY_VARIABLE] = "1" if options["factory"] else ""
    os.environ[INTERFACE_VARIABLE] = options["interface"]
    check_deflate_min()
    options["forwarded_allow_ips"] = checked_proxies(options["forwarded_allow_ips"])
    if options["workers"] is None:
        check_concurrency()
    if isinstance(options["log_config"], str):
        check_log_config(options)
    with blaming("backplane"):
        open_url(default_url())
    if not options["reload"]:  # under --reload a mistake in the application is corrected while it runs
        found(app)
    if options["ws"] == "auto":
        options["ws"] = _websocket_protocol()
    if not options.get("http2"):
        options["http"] = _http_protocol(options["http"])
    warn_of_lone_workers(options)
    uds_mode = None
    if options["uds"] is not None and (options["reload"] or workers_of(options) > 1):
        with blaming("uds"):  # uvicorn does so for a single worker only
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


def _websocket_protocol() -> str:
    if _importable(PROTOCOL):
        return PROTOCOL
    tell(logging.WARNING, "picows is not installed: serving with uvicorn's own WebSocket protocol")
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


command = click.Command(
    "run",
    callback=run,
    help=inspect.getdoc(run),
    params=OPTIONS,
    context_settings=uvicorn_command.context_settings,  # environment variables: UVICORN_PORT and so on
)
