"""
FastAPI's `Query`, `Header`, `Cookie` and `Path` in dependencies: what the handshake brought, taken once a connection.

FastAPI takes them itself, by a route of its own that has nothing but these parameters: its validation, its refusal. It
is found through the application that serves the connection, and never imported.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from typing import Any

from starlette.websockets import WebSocket

from socketsundso.errors import DefinitionError
from socketsundso.messages import Decoder, are_alike


def check_handshake(owner: str, decoder: Decoder) -> None:
    """Raises `DefinitionError` if handlers of a class mean different things by one name."""
    for route in decoder.routes.values():
        for name, parameter in route.signature.handshake.items():
            if not are_alike(decoder.handshake[name], parameter):
                raise DefinitionError(
                    f"event {route.event!r}: another handler of {owner} takes {name!r} of the handshake with another "
                    "declaration; declare both alike to share it, or rename one"
                )


def handshake_of(decoder: Decoder) -> Handshake | None:
    """What the dependencies of these handlers take of the handshake; None: nothing."""
    if not decoder.handshake:
        return None
    known = _HANDSHAKES.get(decoder)
    if known is None:
        known = _HANDSHAKES[decoder] = Handshake(decoder.handshake)
    return known


class Handshake:
    """The parameters of one endpoint class. `solve` gives their values for a connection."""

    __slots__ = ("_parameters", "_routes")

    def __init__(self, parameters: Mapping[str, inspect.Parameter]) -> None:
        self._parameters = parameters
        self._routes: dict[tuple[type, str], Any] = {}

    async def solve(self, websocket: WebSocket, owner: str) -> Mapping[str, Any]:
        """
        The values by name.

        Raises FastAPI's WebSocketRequestValidationError, which the application that serves the connection answers, and
        `DefinitionError` where none does.
        """
        router = getattr(websocket.scope.get("app"), "router", None)
        if not hasattr(router, "add_api_websocket_route"):
            raise DefinitionError(self.refusal(owner))
        path = "/" + "/".join(f"{{{name}}}" for name in websocket.path_params)
        known = (type(router), path)
        route = self._routes.get(known)
        if route is None:
            route = self._routes[known] = self._route(type(router), path)
        scope = {**websocket.scope, _VALUES: {}}
        scope.pop("starlette.exception_handlers", None)  # errors are raised then
        await route.app(scope, websocket._receive, websocket._send)
        values: Mapping[str, Any] = scope[_VALUES]
        return values

    def refusal(self, owner: str) -> str:
        names = ", ".join(f"`{name}`" for name in self._parameters)
        return (
            f"a dependency of {owner} takes {names} of the handshake, which FastAPI does: serve it in a FastAPI "
            "application, or take an `HTTPConnection` (starlette.requests) and read it yourself"
        )

    def _route(self, router_class: Any, path: str) -> Any:
        async def taken(_websocket: WebSocket, **values: Any) -> None:
            _websocket.scope[_VALUES].update(values)

        first = inspect.Parameter("_websocket", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=WebSocket)
        taken.__signature__ = inspect.Signature([first, *self._parameters.values()])  # type: ignore[attr-defined]  # FastAPI reads it
        router = router_class()
        router.add_api_websocket_route(path, taken)
        return router.routes[-1]


_VALUES = "socketsundso.handshake"
_HANDSHAKES: weakref.WeakKeyDictionary[Decoder, Handshake] = weakref.WeakKeyDictionary()
