"""
Which handlers a class has: its own, those of its bases, and what would be lost or never called is refused.

`Handlers` is the mapping that users see. Knows handlers and classes; what an endpoint is, it is told as `root`. Raises
`DefinitionError` with the event and the remedy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from socketsundso.binary_handler import BinaryHandler
from socketsundso.errors import DefinitionError
from socketsundso.handler import Handler, gives_awaitable, lost_handler, takes
from socketsundso.messages import refuse_alike

Events = Callable[[Handler[..., Any]], Iterable[str]]
"""Which events a class attaches a handler as: one, or those that its whole message names."""


class Handlers(MutableMapping[str, Any]):
    """The handlers by event. Changing them recompiles their endpoint: the class's, or one instance's own."""

    def __init__(self, handlers: Mapping[str, Any], changed: Callable[[dict[str, Any], list[str]], None]) -> None:
        self._handlers = dict(handlers)
        self._changed = changed

    def __getitem__(self, event: str) -> Any:
        return self._handlers[event]

    def __setitem__(self, event: str, handler: Any) -> None:
        if not isinstance(unbound(handler), Handler):
            raise DefinitionError(f"event {event!r}: {handler!r} is no handler; wrap it with Handler({event!r}, ...)")
        self.attach(handler, (event,))

    def attach(self, handler: Any, events: Iterable[str]) -> None:
        """One handler for several events, all or none."""
        if isinstance(unbound(handler), BinaryHandler):
            raise DefinitionError(f"{unbound(handler)!r} is for no event; declare it in the body of its class")
        events = list(events)
        self._change({**self._handlers, **dict.fromkeys(events, handler)}, events)

    def __delitem__(self, event: str) -> None:
        rest = dict(self._handlers)
        del rest[event]
        self._change(rest, [event])

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._handlers!r})"

    def _change(self, handlers: dict[str, Any], events: list[str]) -> None:
        self._changed(handlers, events)  # raises for what cannot be compiled, and then nothing has changed
        self._handlers = handlers


def unbound(handler: Any) -> Any:
    return getattr(handler, "__func__", handler)


def inherited(cls: type, root: type, events: Events) -> dict[str, Handler[..., Any]]:
    """The handlers of all bases, endpoints (heirs of `root`) and plain mix-ins, the nearest winning."""
    handlers: dict[str, Handler[..., Any]] = {}
    for base in reversed(cls.__mro__[1:]):
        if issubclass(base, root):
            handlers.update(_as_here(base.handlers, events))  # type: ignore[attr-defined]  # a mapping, of endpoints
        else:
            handlers.update(declared(base, events))
    _refuse_hidden(cls, {**handlers, **declared(cls, events)}, root)
    return handlers


def _as_here(handlers: Mapping[str, Handler[..., Any]], events: Events) -> dict[str, Handler[..., Any]]:
    """With types for a generic class's variables, a parameter may be a whole message that names other events."""
    found: dict[str, Handler[..., Any]] = {}
    for event, handler in handlers.items():
        here = tuple(events(handler))
        is_renamed = event == handler.event and event not in here
        found.update(dict.fromkeys(here if is_renamed else (event,), handler))
    return found


def declared(cls: type, events: Events) -> dict[str, Handler[..., Any]]:
    """Those of the class's own body."""
    handlers: dict[str, Handler[..., Any]] = {}
    for name, value in list(vars(cls).items()):
        handler = _handler_in(value)
        if handler is None:
            _refuse_lost(cls, name, value)
            continue
        if isinstance(handler, BinaryHandler):
            continue
        for event in events(handler):
            if event in handlers:
                raise DefinitionError(
                    f"event {event!r}: duplicate handler {name} in {cls.__name__}, beside {handlers[event].__name__}; "
                    "give one of them another name with @event('name')"
                )
            handlers[event] = handler
    return handlers


def binary_of(cls: type, root: type) -> tuple[BinaryHandler[..., Any], ...]:
    """The one of binary frames, its own or that of the nearest of its bases; none where there is none."""
    for base in cls.__mro__:
        own = {name: _handler_in(value) for name, value in vars(base).items()}
        found = [(name, handler) for name, handler in own.items() if isinstance(handler, BinaryHandler)]
        if len(found) > 1:
            raise DefinitionError(
                f"class {base.__name__}: {' and '.join(name for name, _ in found)} are @binary, and a frame does not "
                "say for which of them it is; leave one, which looks into the frame"
            )
        for name, handler in found:
            _refuse_other(cls, base, name, handler, root)
            return (handler,)
    return ()


def _refuse_other(cls: type, base: type, name: str, handler: BinaryHandler[..., Any], root: type) -> None:
    """An attribute in place of the handler would not be what gets the frames."""
    if hasattr(root, name):
        raise DefinitionError(
            f"class {base.__name__}: {name} is a method of every endpoint; give the @binary one another name"
        )
    if _handler_in(inspect.getattr_static(cls, name)) is not handler:
        raise DefinitionError(
            f"class {cls.__name__}: {name} overrides the @binary one of {base.__name__} and is none itself; decorate "
            "it with @binary, or give it another name"
        )


def _handler_in(value: Any) -> Handler[..., Any] | None:
    """The handler that an attribute of a class is; a proxy that only says so is none."""
    value = value.__func__ if type(value) is staticmethod else value
    return value if issubclass(type(value), Handler) else None


def _refuse_lost(cls: type, name: str, value: Any) -> None:
    """A handler that something is wrapped around would never be called."""
    kept = [handler for each in vars(cls).values() if (handler := _handler_in(each)) is not None]
    lost = lost_handler(value, cls)
    if lost is not None and not any(lost is handler for handler in kept):
        raise DefinitionError(
            f"event {lost.event!r}: a {type(value).__name__} cannot be around a handler, as {cls.__name__}.{name} is; "
            "write @event above the other decorators"
        )


def _refuse_hidden(cls: type, handlers: Mapping[str, Handler[..., Any]], root: type) -> None:
    """A handler that is overridden by what has not its event would go on answering."""
    nearest: dict[str, tuple[type, Any]] = {}
    for base in cls.__mro__:
        for name, value in vars(base).items():
            owner, own = nearest.setdefault(name, (base, value))
            hidden = _handler_in(value)
            if hidden is None or own is value:
                continue
            event = next((event for event, handler in handlers.items() if handler is hidden), None)
            if event is None:
                continue
            overriding = _handler_in(own)
            if overriding is not None:
                raise DefinitionError(
                    f"event {event!r}: {owner.__name__}.{name}, the handler of {overriding.event!r}, overrides "
                    f"that of {base.__name__}, which would go on answering; write @event({event!r}) to replace "
                    "it, or give one of the functions another name to have both events"
                )
            if not hasattr(root, name):
                raise DefinitionError(
                    f"event {event!r}: {owner.__name__}.{name} overrides a handler and is none itself; decorate "
                    f"it with @event, or take the event away with `del {cls.__name__}.handlers[{event!r}]` and "
                    f"without {name}"
                )


def restore_methods(cls: type, root: type) -> None:
    """An event may be called `close`; the method of that name stays the method, also where a mix-in has the event."""
    for name in {name for base in cls.__mro__ for name, value in vars(base).items() if isinstance(value, Handler)}:
        method = getattr(root, name, None)
        if method is None:
            continue
        if isinstance(vars(cls).get(name), Handler):
            delattr(cls, name)
        if isinstance(inspect.getattr_static(cls, name), Handler):
            setattr(cls, name, inspect.getattr_static(root, name))


def check_errors(owner: str, handlers: Mapping[str, Any]) -> None:
    """A client has one class for a code, whatever it asks for."""
    refuse_alike(f"class {owner}", (kind for handler in handlers.values() for kind in unbound(handler).errors))


_HOOKS = {
    "authenticate": (),
    "before": ("call",),
    "on_connect": (),
    "on_disconnect": ("close_code",),
    "respond": ("response",),
    "send_exception": ("exc",),
    "send": ("message",),
    "close": (),
}
"""What is awaited of an endpoint beside its handlers, and with what."""


def check_hooks(cls: type, root: type) -> None:
    """An override that cannot be awaited would fail with the first connection, or the first answer."""
    for name, arguments in _HOOKS.items():
        owner = next(base for base in cls.__mro__ if name in vars(base))
        if owner is root:
            continue
        hook, written = getattr(cls, name), inspect.getattr_static(cls, name)
        function = written.func if isinstance(written, functools.partialmethod) else hook
        shape = f"async def {name}({', '.join(('self', *arguments))})"
        where = f"class {cls.__name__}: {owner.__name__}.{name}"
        if not callable(hook) or not gives_awaitable(function):
            raise DefinitionError(f"{where} is awaited; write it as `{shape}`")
        is_bound = isinstance(written, staticmethod | classmethod)
        if not takes(hook, *(() if is_bound else ("self",)), *arguments):
            raise DefinitionError(f"{where} is called with {', '.join(arguments) or 'nothing'}; write it as `{shape}`")
