"""`socketsundso top SOCKET`: what a server does at the moment, live in the terminal."""

from __future__ import annotations

import importlib.util
import math
import sys
from typing import Any

import click

from socketsundso.operations import Unusable, path_of
from socketsundso.top import NoAnswer, show


def _path(given: Any) -> str:
    text = str(given)
    if "://" in text and not text.startswith("unix:"):
        raise click.BadParameter(f"{text} is no Unix socket: name what `socketsundso run --admin` was given")
    try:
        return path_of(text)
    except Unusable as mistake:
        raise click.BadParameter(str(mistake)) from None


def _seconds(context: click.Context, parameter: click.Parameter, given: float) -> float:
    if math.isnan(given):  # which is in any range
        raise click.BadParameter(f"{given} is no number")
    return given


@click.command("top")
@click.argument("socket", type=_path, metavar="SOCKET", envvar="SOCKETSUNDSO_ADMIN")
@click.option(
    "--interval",
    "interval_s",
    metavar="SECONDS",
    type=click.FloatRange(0.5, 3600),
    callback=_seconds,
    default=1.0,
    show_default=True,
    help="How often the server is asked, and over what time rates are.",
)
@click.option("--once", is_flag=True, help="Print what happens within one interval, as text. So it does in a pipe.")
def command(socket: str, interval_s: float, once: bool) -> None:
    """
    Show what a server does: workers, connections, messages, handlers, rooms, slow readers.

    SOCKET is the path that `socketsundso run --admin` was given, or unix:PATH; without it SOCKETSUNDSO_ADMIN.

    \b
    q      leave
    s      sort events by messages, by p99, by failures
    space  pause
    """
    if importlib.util.find_spec("rich") is None:
        raise click.ClickException("rich is needed: pip install 'socketsundso[top]'")
    try:
        show(socket, interval_s, not once and sys.stdout.isatty() and sys.stdin.isatty())
    except NoAnswer as why:
        raise click.ClickException(str(why)) from None
    except ImportError as missing:
        raise click.ClickException(f"this system cannot show it: {missing}") from None
