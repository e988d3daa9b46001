"""
An endpoint class as an ASGI application: `await Chat(scope, receive, send)`, whoever calls it.

Servers and middleware tell a class from an application in different ways: uvicorn asks for `__await__`, hypercorn
whether `__call__` is a coroutine function, asgiref (daphne, Channels, OpenTelemetry) for a hint, else takes a class for
ASGI 2 and calls it with the scope alone. All of them are answered.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar, NamedTuple, Self

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from socketsundso.errors import DefinitionError
from socketsundso.messages import Dependency

_ASGI_ARGUMENTS = {"scope", "receive", "send"}


class ASGIClass:
    """
    The part of an endpoint class that servers see.

    A class of its own below the endpoint's, so that `inspect.signature(Chat)` shows `__init__`, in which FastAPI
    looks for dependencies. A `WebSocket` among the arguments of a class becomes its `websocket` also where an
    `__init__` forgets to pass it on.
    """

    websocket: WebSocket

    _asgi_single_callable: ClassVar[bool] = True  # asgiref's hint
    _init: ClassVar[Init]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._init = _read_init(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if args and not kwargs and isinstance(args[0], MutableMapping):
            if len(args) == 3:
                return cls._asgi(*args)
            if len(args) == 1:
                return cls._asgi2(args[0])
        if kwargs.keys() == _ASGI_ARGUMENTS and not args:  # daphne names them
            return cls._asgi(**kwargs)
        self = super().__new__(cls)
        for given in (*args, *kwargs.values()):
            if isinstance(given, WebSocket):
                self.websocket = given
                break
        return self

    @classmethod
    def _asgi(cls, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        init = cls._init
        if init.function is not cls.__init__:  # a decorator such as @dataclass has made another
            init = cls._init = _read_init(cls)
        if init.injected or (scope["type"] == "lifespan" and cls._refusal()):
            return _not_served(cls, scope, receive, send)
        if scope["type"] == "websocket":  # no coroutine around the one that lives as long as the connection
            return cls.of_websocket(WebSocket(scope, receive, send)).dispatch()
        return _without_websocket(scope, receive, send)

    @classmethod
    def of_websocket(cls, websocket: WebSocket) -> Self:
        """The endpoint of one connection, made as a server has it made. Raises `DefinitionError` if FastAPI has to."""
        init = cls._init
        if init.injected:
            raise DefinitionError(cls._refusal())
        return cls(websocket) if init.keyword is None else cls(**{init.keyword: websocket})

    @classmethod
    def _asgi2(cls, scope: Scope) -> Callable[[Receive, Send], Awaitable[None]]:
        def instance(receive: Receive, send: Send) -> Awaitable[None]:
            return cls._asgi(scope, receive, send)

        return instance

    @classmethod
    def _refusal(cls) -> str:
        """Why it cannot be served without FastAPI; nothing if it can."""
        names = ", ".join(f"`{name}`" for name in cls._init.injected)
        return names and (
            f"{cls.__name__}.__init__ takes {names}, which FastAPI's dependency injection gives: "
            f'serve it in a FastAPI application with @app.websocket("/path") on the class'
        )

    async def __call__(self) -> None:
        """The same as awaiting the endpoint."""
        await self.dispatch()

    async def dispatch(self) -> None:
        """Live the whole life of the connection."""


class Init(NamedTuple):
    """What an `__init__` takes."""

    function: Any
    keyword: str | None = None  # the name that the `WebSocket` is given by; None: it comes first
    injected: tuple[str, ...] = ()  # what only dependency injection fills


def _read_init(cls: type) -> Init:
    """Raises `DefinitionError` if it does not take a `WebSocket`."""
    own: Any = cls.__init__  # type: ignore[misc]  # the class's own or inherited one, as it is
    try:
        _, *parameters = inspect.signature(own).parameters.values()
    except (TypeError, ValueError):  # of C code: nothing is known
        return Init(own)
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return Init(own)
    _refuse_own_markers(cls, parameters)
    named = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
    taking = next((each for each in named if _is_websocket(each, is_first=each is named[0])), None)
    if taking is None and len(named) == len(parameters):
        raise DefinitionError(
            f"class {cls.__name__}: its __init__ takes no WebSocket, so that no connection could be served; "
            "begin it with `def __init__(self, websocket: WebSocket, ...)` and `super().__init__(websocket)`"
        )
    injected = tuple(each.name for each in named if each is not taking and _needs_injection(each))
    if taking is None:
        return Init(own, "websocket", injected)
    is_first = taking is named[0] and taking.kind is not taking.KEYWORD_ONLY
    return Init(own, None if is_first else taking.name, injected)


def _refuse_own_markers(cls: type, parameters: list[inspect.Parameter]) -> None:
    """FastAPI calls an `__init__`, and would look for a parameter of the query."""
    for each in parameters:
        if any(isinstance(marker, Dependency) for marker in (each.default, *_metadata(each.annotation))):
            raise DefinitionError(
                f"class {cls.__name__}: its __init__ takes {each.name!r} by socketsundso.Depends, which FastAPI does "
                "not know; write fastapi.Depends there, or take it in a handler with scope='connection'"
            )


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation)[1:] if typing.get_origin(annotation) is typing.Annotated else ()


def _is_websocket(parameter: inspect.Parameter, is_first: bool) -> bool:
    annotation = parameter.annotation
    if hasattr(parameter.default, "dependency"):
        return False
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if isinstance(annotation, str):  # the name may be known at another place only
        return parameter.name == "websocket" or "WebSocket" in annotation or "HTTPConnection" in annotation
    if isinstance(annotation, type) and annotation is not parameter.empty:
        return issubclass(annotation, HTTPConnection)
    # FastAPI would look for one without an annotation in the query; others give what comes first
    return parameter.name == "websocket" or (annotation is parameter.empty and is_first)


def _needs_injection(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty or hasattr(parameter.default, "dependency")


async def _not_served(cls: type[ASGIClass], scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        raise DefinitionError(cls._refusal())
    await receive()
    await send({"type": "lifespan.startup.failed", "message": cls._refusal()})


async def _without_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        headers = {"upgrade": "websocket", "connection": "Upgrade"}
        await PlainTextResponse("This is a WebSocket endpoint.\n", 426, headers)(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _lifespan(receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
