"""
An application -> its API: every endpoint class in its routes, at its path.

Whatever has `routes` is looked into (Starlette, FastAPI, routers, mounts, hosts, Litestar, Channels), and what stands
around an application: middleware, partials, functions that call it. Nothing is called.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple

from socketsundso.connection import ASGIClass
from socketsundso.contract.describing.channels import described
from socketsundso.contract.describing.handshake import address, parameters_of
from socketsundso.contract.model import Api
from socketsundso.contract.schemas import Components
from socketsundso.errors import ContractError, DefinitionError
from socketsundso.security import SecurityScheme, asyncapi_scheme

_WITHIN = ("app", "endpoint", "original_router", "route_handler", "fn", "func", "application", "inner", "__wrapped__")
"""The attributes by which what is around an application, or a route, has it."""
_MOST_LISTED = 8


class Found(NamedTuple):
    """An endpoint class where it is served; `calls` is what FastAPI calls there beside it, for its parameters."""

    path: str
    endpoint: Any
    calls: tuple[Any, ...] = ()


def api_of(target: Any, title: str | None = None, version: str | None = None, *, path: str = "/") -> Api:
    """
    The API of an application, or of one endpoint class, which is served at `path`.

    `title` and `version` are FastAPI's own unless given, else the class's name and "0.1.0". Raises `ContractError`
    where there is no endpoint, or a type has no schema.
    """
    if is_endpoint(target):
        found = [Found(path, target)]
    else:
        looked: list[str] = []
        there = {(each.path, each.endpoint): each for each in _endpoints(target, Found("", None), (), looked)}
        found = [each for each in there.values() if each.endpoint.include_in_schema]
        if not found:
            raise _nothing(target, looked)
    if title is None:
        title = _said(target, "title") or (found[0].endpoint.__name__ if _is_one(found) else "WebSocket API")
    version = version or _said(target, "version") or "0.1.0"
    return _api(found, title, version, _said(target, "description"))


def is_endpoint(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, ASGIClass) and "_definition" in vars(target)


def _is_one(found: list[Found]) -> bool:
    return len({each.endpoint for each in found}) == 1


def _said(target: Any, name: str) -> str:
    """What an application says of itself, as FastAPI does."""
    said = None if isinstance(target, type) else getattr(target, name, None)
    return said if isinstance(said, str) else ""


def _api(found: list[Found], title: str, version: str, description: str) -> Api:
    components, schemes, names = Components(), _Schemes(), set[str]()
    channels = []
    for each in found:
        endpoint = each.endpoint
        name = _free(_snake(endpoint.__name__), names)
        names.add(name)
        try:
            parameters = parameters_of(endpoint, each.path, components, each.calls)
            security = [schemes.name_of(scheme) for scheme in endpoint.security]
            channels.append(
                described(
                    endpoint,
                    components,
                    name=name,
                    path=address(each.path),
                    parameters=parameters,
                    security=security,
                )
            )
        except DefinitionError as exc:
            raise ContractError(f"{endpoint.__name__}, {exc}") from exc
    return Api(title, version, tuple(channels), components.table(), schemes.told, description)


class _Schemes:
    """The security schemes of all endpoints, by name: what is the same is told once."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {}

    def name_of(self, scheme: SecurityScheme) -> str:
        told = asyncapi_scheme(scheme)
        for name, other in self.told.items():
            if other == told and name.startswith(scheme.scheme_name):
                return name
        name = _free(scheme.scheme_name, self.told)
        self.told[name] = told
        return name


# ---- where endpoints are


def _endpoints(target: Any, at: Found, around: tuple[Any, ...], looked: list[str]) -> Iterator[Found]:
    """`around` is what this was found in: a circle ends there. `looked` gets what was none."""
    if is_endpoint(target):
        yield at._replace(path=at.path or "/", endpoint=target)
        return
    if any(each is target for each in around) or len(around) > _DEEPEST:
        return
    inner = list(_routes_of(target, at)) or [(at, each) for each in _within(target)]
    if not inner:
        looked.append(f"{at.path or '/'} ({_shown(target)})")
    for place, each in inner:
        yield from _endpoints(each, place, (*around, target), looked)


_DEEPEST = 50


def _routes_of(target: Any, at: Found) -> Iterator[tuple[Found, Any]]:
    """What the routes of an application, or of a mount, lead to, and where."""
    routes = None if isinstance(target, type) else getattr(target, "routes", None)
    for route in routes if isinstance(routes, Iterable) else ():
        if getattr(route, "methods", None):  # it answers HTTP requests alone
            continue
        included = getattr(route, "include_context", route)  # FastAPI's router within a router
        path = str(getattr(route, "path", None) or getattr(included, "prefix", None) or _django_path(route))
        if getattr(route, "app", None) is not None and hasattr(route, "routes"):
            path = f"{path}/"  # a mount has something behind its path
        inner = next((each for name in _LEADS_TO if (each := getattr(route, name, None)) is not None), route)
        calls = [each.dependency for each in getattr(included, "dependencies", None) or () if _is_dependency(each)]
        if hasattr(route, "dependant"):
            calls.append(inner)
        yield Found(_joined(at.path, path), None, (*at.calls, *calls)), inner


_LEADS_TO = ("endpoint", "app", "callback")
"""The attributes by which a route has what it leads to."""


def _django_path(route: Any) -> str:
    """That of a route in Channels' URLRouter, which is one of Django's: `ws/<int:room>/`, `^ws/(?P<room>[0-9]+)/$`."""
    pattern = str(getattr(route, "pattern", ""))
    path = re.sub(r"\(\?P<(\w+)>[^()]*\)|<(?:\w+:)?(\w+)>", lambda named: f"{{{named[1] or named[2]}}}", pattern)
    return "/" + path.removeprefix("^").removesuffix("$") if path else ""


def _is_dependency(marker: Any) -> bool:
    return callable(getattr(marker, "dependency", None))


def _joined(path: str, rest: str) -> str:
    return path.removesuffix("/") + rest if rest.startswith("/") else path + rest


def _within(target: Any) -> Iterator[Any]:
    """What this is around."""
    makes_up = hasattr(type(target), "__getattr__")  # a mock, a proxy: they have any attribute
    for name in _WITHIN:
        inner = getattr(target, "__dict__", {}).get(name) if makes_up else getattr(target, name, None)
        if inner is not None and not isinstance(inner, str):
            yield inner
    if isinstance(applications := getattr(target, "application_mapping", None), Mapping):  # Channels', by protocol
        yield from filter(None, [applications.get("websocket")])
    if isinstance(target, functools.partial):
        yield from filter(callable, target.args)
    if isinstance(target, FunctionType):
        yield from _called_by(target)


def _called_by(function: FunctionType) -> Iterator[Any]:
    """What a function closes over, and the endpoint classes that it calls: `await Chat(websocket)`."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it is empty
            if callable(cell.cell_contents):
                yield cell.cell_contents
    for one, then in itertools.pairwise(dis.get_instructions(function)):
        named = function.__globals__.get(one.argval) if one.opname == "LOAD_GLOBAL" else None
        if is_endpoint(named) and then.opname not in _OF_IT:
            yield named


_OF_IT = ("LOAD_ATTR", "LOAD_METHOD")
"""It is not the class that is called: `Chat.hub`."""


def _shown(target: Any) -> str:
    name = getattr(target, "__qualname__", None)
    return str(name or type(target).__name__)


def _nothing(target: Any, looked: list[str]) -> ContractError:
    more = f" and {len(looked) - _MOST_LISTED} more" if len(looked) > _MOST_LISTED else ""
    places = f"; looked at {', '.join(looked[:_MOST_LISTED])}{more}" if looked else ""
    return ContractError(
        f"{_shown(target)} serves no endpoint class{places}; route one itself, as in "
        'WebSocketRoute("/ws", Chat) or app.websocket("/ws")(Chat)'
    )


# ---- names


def _snake(name: str) -> str:
    humps = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"\W+", "_", humps).lower()


def _free(wish: str, taken: Iterable[str]) -> str:
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    return name
