"""
How `socketsundso run` logs: with time, level and logger, as lines or, with `--log-json`, as JSON.

    2026-11-29 19:35:12,345 ERROR:    socketsundso: Chat: event 'say' of 10.0.0.7:4711 failed [connection=5f0c-1f ref=7]

    {"time":"2026-11-29T19:35:12.345+00:00","level":"error","logger":"socketsundso","message":"Chat: event ...",
     "connection":"5f0c-1f","event":"say","ref":7,"user":"ada","exception":"Traceback ..."}

What a peer sent is in no line, and of a request's target neither what is behind the `?`, where tokens stand, nor a user
and password before the host. Whatever else somebody chose begins no line of its own, and every line of JSON is JSON.
"""

from __future__ import annotations

import copy
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter, DefaultFormatter

HIDDEN = "***"
ABOUT = ("connection", "event", "ref", "user")
"""What lines of endpoints have as `extra`."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


def log_config(as_json: bool, level: str | None) -> dict[str, Any]:
    """uvicorn's, for `logging.config.dictConfig`, with our formatters and the package's loggers."""
    config = copy.deepcopy(LOGGING_CONFIG)
    lines, access = (JSONFormatter, JSONFormatter) if as_json else (LineFormatter, AccessLineFormatter)
    config["formatters"] = {"default": {"()": lines}, "access": {"()": access}}
    config["filters"] = {"hiding": {"()": Hiding}}
    config["handlers"]["unclaimed"] = {"()": LastResort, "formatter": "default", "level": "WARNING"}
    for handler in config["handlers"].values():
        handler["filters"] = ["hiding"]
    config["loggers"]["socketsundso"] = {
        "handlers": ["default"],
        "level": (level or "info").upper(),
        "propagate": False,
    }
    return config


class LastResort(logging.StreamHandler[Any]):
    """
    What is logged by whom nobody has configured, such as asyncio or a library, looks like the rest.

    The root logger is left to the application: as soon as it has a handler, this one is not asked.
    """

    def __init__(self) -> None:
        super().__init__()
        logging.lastResort = self


class Hiding(logging.Filter):
    """
    Of targets, nothing behind the `?` is told: also not by uvicorn, whose own lines have all of it.

    Nor, with `--log-level debug`, what the package `websockets` tells of each header and frame on uvicorn's protocols.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("uvicorn."):
            vars(record).pop("websocket", None)  # an object of that package's
            if record.levelno < logging.INFO and str(record.msg).startswith(("< ", "> ", "! ")):
                return False
            if isinstance(record.args, tuple):
                record.args = tuple(map(_hidden, record.args))
        if isinstance(record.args, tuple) and record.name.startswith(("uvicorn.", "socketsundso")):
            record.args = tuple(map(_printable, record.args))
        return True


_QUERY = re.compile(r"(?:[?#]|%3[Ff]|%23).*", re.DOTALL)
"""As it may stand in a target, which a client may also write whole, `http://host/path?query`, or escaped."""
_USER = re.compile(r"((?::|%3[Aa])//)[^/?]*(?:@|%40)")
"""And who it is and the password, before the host."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What ends a line or steers a terminal; a client's address is whatever a proxy that is trusted says."""


def _printable(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), value)


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        if not value.startswith(("/", "http")):
            return value
        return _QUERY.sub(f"?{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", value))
    if isinstance(value, dict) and "query_string" in value:  # a scope, with `--log-level trace`
        told = {name: item for name, item in value.items() if name not in ("raw_path", "subprotocols")}
        return {**told, "path": _hidden(value["path"]), "query_string": HIDDEN if value["query_string"] else b""}
    return value


class LineFormatter(DefaultFormatter):
    """`time level logger: text [connection=... event=... ref=... user=...]`; what is not known is left out."""

    def __init__(self, use_colors: bool | None = None) -> None:
        super().__init__("%(asctime)s %(levelprefix)s %(name)s: %(message)s", use_colors=use_colors)

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        known = [(name, getattr(record, name, None)) for name in ABOUT]
        about = " ".join(f"{name}={_word(value)}" for name, value in known if value is not None)
        return f"{line} [{about}]" if about else line


def _word(value: Any) -> str:
    """What a peer chose, such as a `ref`, begins no line of its own and ends no bracket."""
    text = str(value)
    return text if text.isascii() and text.replace("-", "").replace("_", "").isalnum() else json.dumps(text)


class AccessLineFormatter(AccessFormatter):
    """uvicorn's line of an HTTP request, with time and logger."""

    def __init__(self, use_colors: bool | None = None) -> None:
        text = '%(asctime)s %(levelprefix)s %(name)s: %(client_addr)s - "%(request_line)s" %(status_code)s'
        super().__init__(text, use_colors=use_colors)


class JSONFormatter(logging.Formatter):
    """One JSON object a line; whatever a line has as `extra` is a key of it."""

    def __init__(self, use_colors: bool | None = None) -> None:  # uvicorn's argument: JSON has none
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        own = {name: value for name, value in vars(record).items() if name not in _STANDARD and value is not None}
        told = {**told, **own, **told}  # no `extra` stands in the place of these
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = self.formatStack(record.stack_info)
        try:
            return json.dumps(told, default=_text, allow_nan=False)
        except (TypeError, ValueError, RecursionError):  # keys that are no texts, NaN, what contains itself
            return json.dumps({name: value if isinstance(value, str) else _text(value) for name, value in told.items()})


def json_line(level: int, text: str) -> str:
    """What is to be told while nothing is configured yet."""
    told = {"name": "socketsundso", "levelno": level, "levelname": logging.getLevelName(level), "msg": text}
    return JSONFormatter().format(logging.makeLogRecord(told))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # else the line would be lost, and another one that is no JSON be written
        return f"{_text(record.msg)} {_text(record.args)}"


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
