"""An observer and the classes that it was added to, for `instrument` and `uninstrument` of an exporter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from socketsundso.endpoints import WebSocketHandlingEndpoint
from socketsundso.observing import Observer

O = TypeVar("O", bound=Observer)  # noqa: E741  # the one type here


class Installing(Generic[O]):
    """At most one observer at a time, made when it is added for the first time."""

    def __init__(self) -> None:
        self._observer: O | None = None
        self._classes: dict[type[WebSocketHandlingEndpoint], None] = {}

    def add(self, endpoint: type[WebSocketHandlingEndpoint], make: Callable[[], O]) -> O:
        """Gives the observer."""
        if self._observer is None:
            self._observer = make()
        endpoint.add_observer(self._observer)
        self._classes[endpoint] = None
        return self._observer

    def remove(self) -> O | None:
        """From all classes. Gives the observer, if there was one."""
        observer, self._observer = self._observer, None
        for endpoint in self._classes if observer is not None else ():
            endpoint.remove_observer(observer)  # type: ignore[arg-type]  # not None
        self._classes.clear()
        return observer
