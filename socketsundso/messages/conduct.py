"""
How the requests of an event stand beside others: in turn, or apart; plain data, made when a class is created.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import RootModel

from socketsundso.errors import DefinitionError, did_you_mean
from socketsundso.messages.signature import Signature

Apart = Literal["stream", "upload", "concurrent", "cancel", "reply", "item", "complete", "text"]


@dataclass(frozen=True, slots=True)
class Conduct:
    """
    `apart` is the way in which it does not stand in turn, None for one that does.

    At most `limit` run at once, None for what the class allows, and one at a time with an equal parameter `key`, or
    with an equal field of that name in the parameter `message`. They are stopped after `timeout_s`. `in_thread`: what
    is not async is stepped in worker threads.
    """

    apart: Apart | None = None
    limit: int | None = None
    key: str | None = None
    timeout_s: float | None = None
    in_thread: bool = True
    message: str | None = None


def conduct_of(
    signature: Signature,
    *,
    fields: Collection[str] = (),
    timeout_s: float | None,
    concurrent: int | bool,
    serial_by: str | None,
    thread: bool,
) -> Conduct | None:
    """
    What `@event` was told, checked. None: in turn, for as long as it takes.

    `fields` are those of the whole message, where the only parameter is that.
    """
    where = f"event {signature.event!r}"
    _check_timeout(where, timeout_s)
    _check_concurrent(where, concurrent)
    if serial_by is not None:
        _check_key(where, signature, fields, serial_by)
    apart = bool(concurrent) or serial_by is not None
    if (signature.streams or signature.upload) and apart:
        what = "a stream" if signature.streams else "an upload"
        raise DefinitionError(f"{where}: {what} runs beside all else anyway; leave out `concurrent` and `serial_by`")
    limit = None if isinstance(concurrent, bool) else concurrent
    if signature.streams:
        return Conduct("stream", timeout_s=timeout_s, in_thread=thread)
    if signature.upload:
        return Conduct("upload", timeout_s=timeout_s)
    if apart:
        message = signature.parameters[0].name if serial_by in fields else None
        return Conduct("concurrent", limit, serial_by, timeout_s, message=message)
    return None if timeout_s is None else Conduct(timeout_s=timeout_s)


def is_duration(given: object) -> bool:
    """Is it a number of seconds that end, and more than 0?"""
    return isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < math.inf


def _check_timeout(where: str, given: object) -> None:
    if given is None:
        return
    if not is_duration(given):
        raise DefinitionError(f"{where}: timeout_s is {given!r}; it is a number of seconds, more than 0")


def _check_concurrent(where: str, given: object) -> None:
    if not isinstance(given, int) or given < 0:
        raise DefinitionError(f"{where}: concurrent is {given!r}; it is how many may run at once, or True")


def _check_key(where: str, signature: Signature, fields: Collection[str], given: object) -> None:
    names = [*(parameter.name for parameter in signature.parameters), *sorted(fields)]
    if given not in names:
        meant = did_you_mean(given, names) if isinstance(given, str) else ""
        raise DefinitionError(
            f"{where}: serial_by is {given!r}; it is the name of one of its parameters, or of a field of the "
            f"whole message{meant}"
        )


class Bound:
    """A call whose arguments are valid, not made yet. `key` is what such calls are made one at a time by."""

    __slots__ = ("_arguments", "_function", "_named", "key")

    def __init__(self, function: Callable[..., Any], arguments: Any, named: Any, key: Any) -> None:
        self._function, self._arguments, self._named, self.key = function, arguments, named, key

    def __call__(self) -> Any:
        return self._function(*self._arguments, **self._named)


def binding(function: Callable[..., Any], target: Callable[..., Any], conduct: Conduct) -> Callable[..., Bound]:
    """Instead of `target`, which calls `function`: a function that gives a `Bound` with the value of its key."""
    key, message = conduct.key, conduct.message
    name = message or key
    place = list(inspect.signature(function).parameters).index(str(name))

    def bind(*arguments: Any, **named: Any) -> Bound:
        value = named[name] if name in named else arguments[place]
        value = value if message is None else _field(value, str(key))
        try:
            hash(value)
        except TypeError:  # a model, a list: what they look like
            value = repr(value)
        return Bound(target, arguments, named, value)

    return bind


def _field(message: Any, name: str) -> Any:
    if isinstance(message, RootModel):
        return _field(message.root, name)
    return message.get(name) if isinstance(message, dict) else getattr(message, name)
