"""
What a command is about, as it is named on the command line.

    app:app                     an application, a class of endpoints, or what makes one: MODULE:ATTRIBUTE
    chat.asyncapi.json          a file with an AsyncAPI document
    https://example.com/a.json  the same, fetched

Whatever is wrong with it is said in one line, behind the traceback of what is the user's own where something raised.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import traceback
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError

import click
from uvicorn import importer
from uvicorn.importer import ImportFromStringError, import_from_string

from socketsundso.contract import Api, ContractError, api_of, read

FETCH_WITHIN_S = 30
MAX_DOCUMENT_BYTES = 64 << 20


def load_api(target: str) -> Api:
    """The API of a target; ClickException where it has none."""
    try:
        if target.startswith(("http://", "https://")):
            return read(_parsed(_fetched(target), target))
        if Path(target).is_file() or Path(target).suffix in (".json", ".yaml", ".yml"):
            return read(_parsed(_read(target), target))
        app = _named(target)
        return api_of(app)
    except ContractError as exc:
        raise click.ClickException(f"cannot read {target}: {exc}") from None


def imported(name: str, to: str) -> Any:
    """What MODULE:ATTRIBUTE is; ClickException where it cannot be imported `to` do something with it."""
    if name.startswith("."):
        raise click.ClickException(f"cannot {to} {name}: {name.partition(':')[0]!r} is not the name of a module")
    try:
        return import_from_string(name)
    except ImportFromStringError as exc:
        raise click.ClickException(f"cannot {to} {name}: {exc}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # SystemExit too: a script that ends is no server
        raise _blamed(exc, f"cannot {to} {name}: importing it raised {type(exc).__name__}") from None


def called(factory: Callable[[], Any], name: str, to: str) -> Any:
    """What `factory` makes."""
    try:
        return factory()
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise _blamed(exc, f"cannot {to} {name}: calling it raised {type(exc).__name__}") from None


def is_factory(app: Any) -> bool:
    return takes(app, 0) and not is_coroutine_function(app)


def is_coroutine_function(app: Any) -> bool:
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)


def takes(app: Any, count: int) -> bool:
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


def _named(name: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")
    app = imported(name, "read")
    if callable(app) and not inspect.isclass(app) and is_factory(app):
        return called(app, name, "read")
    return app


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise click.ClickException(f"cannot read {path}: {exc.strerror or exc}") from None


def _fetched(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=FETCH_WITHIN_S) as response:
            document: bytes = response.read(MAX_DOCUMENT_BYTES + 1)
    except HTTPError as exc:
        exc.close()
        raise click.ClickException(f"cannot fetch {url}: {exc}") from None
    except (OSError, ValueError, HTTPException) as exc:
        raise click.ClickException(f"cannot fetch {url}: {exc}") from None
    if len(document) > MAX_DOCUMENT_BYTES:
        raise click.ClickException(f"cannot fetch {url}: it is larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    return document


def _parsed(document: bytes, origin: str) -> object:
    if origin.endswith((".yaml", ".yml")):
        raise click.ClickException(f"cannot read {origin}: only JSON is read; convert the YAML to it")
    try:
        return json.loads(document, parse_constant=_refuse)
    except RecursionError:
        raise click.ClickException(f"cannot read {origin}: it is nested too deeply") from None
    except ValueError as exc:
        raise click.ClickException(f"cannot read {origin}: it is no JSON: {exc}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _blamed(error: BaseException, said: str) -> click.ClickException:
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
