"""What is wrong, in a line: of an option, before there is a log, of what was raised."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import click
from uvicorn.importer import ImportFromStringError

from socketsundso.cli.logs import json_line

JSON_VARIABLE = "SOCKETSUNDSO_RUN_LOG_JSON"
"""Set where lines are JSON, in the processes that a server starts, too."""


def in_a_line(error: BaseException) -> str:
    """What `error` says, and what it says of its causes."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    said = " ".join(str(error).split()) or type(error).__name__
    return said if cause is None or str(cause) in str(error) else f"{said}: {in_a_line(cause)}"


def tell(level: int, text: str) -> None:
    """A line before there is a log, such as `Warning: ...`; with `--log-json` as one of the log's."""
    if os.environ.get(JSON_VARIABLE):
        click.echo(json_line(level, text), err=True)
    else:
        click.echo(f"{logging.getLevelName(level).capitalize()}: {text}", err=True)


def wrong(option: str, what: str) -> click.BadParameter:
    return click.BadParameter(what, param_hint=f"'--{option.replace('_', '-')}'")


@contextlib.contextmanager
def blaming(option: str) -> Iterator[None]:
    """Whatever is raised here is the fault of this option."""
    try:
        yield
    except (ImportFromStringError, ImportError, OSError, ValueError) as exc:
        raise wrong(option, in_a_line(exc)) from None
