"""The options of `run`: uvicorn's, with ranges and defaults of ours, and those that uvicorn does not know."""

from __future__ import annotations

import copy
import importlib
import math
import os
import re
from typing import Any, cast

import click
from uvicorn.main import main as uvicorn_command

from socketsundso.cli.mistakes import blaming, wrong
from socketsundso.environment import BACKPLANE_VARIABLE, DEFLATE_CONTEXT_VARIABLE, DEFLATE_MIN_VARIABLE
from socketsundso.operations import ANSWER_S, DRAIN_S, Unusable, path_of, require_vacant, tells_memory

SHUTDOWN_TIMEOUT_S = 10
"""How long a shutdown waits for handlers unless told otherwise; uvicorn's own default is for ever."""


def _load_environment(context: click.Context, parameter: click.Parameter, path: str | None) -> str | None:
    """Before the other options are looked at, which may be in the file; uvicorn would read it after them."""
    if path is None:
        return path
    try:
        dotenv = importlib.import_module("dotenv")
    except ImportError:
        raise wrong("env_file", "python-dotenv is not installed") from None
    with blaming("env_file"):
        if os.path.isdir(path):
            raise IsADirectoryError(f"{path} is a folder")
        dotenv.load_dotenv(path)
    return path


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

OPTIONS: list[click.Parameter] = [
    *map(_as_run_has_it, uvicorn_command.params),
    _BACKPLANE,
    _DEFLATE_MIN,
    _DEFLATE_CONTEXT,
    _DOCS,
    _LOG_JSON,
    *_OPERATION,
]
