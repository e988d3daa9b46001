"""An endpoint class is an ASGI application for everybody who takes one, and says at import what cannot be served."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

import socketsundso
from socketsundso import DefinitionError, Endpoint, Keep, event
from tests.harness import Peer


class Chat(Endpoint):
    @event
    async def on_ping(self) -> Any:
        return {"pong": True}


async def wrapped(app: Any) -> list[Any]:
    peer = Peer(app, [{"type": "ping"}])
    await peer.run()
    return peer.answers


def asgi2(app: Any) -> Any:
    """What takes a class for an ASGI 2 application does this."""

    async def single(scope: Any, receive: Any, send: Any) -> None:
        await app(scope)(receive, send)

    return single


def by_name(app: Any) -> Any:
    """As daphne calls it."""

    async def single(scope: Any, receive: Any, send: Any) -> None:
        await app(scope=scope, receive=receive, send=send)

    return single


@pytest.mark.parametrize("call", [lambda app: app, by_name, asgi2], ids=["asgi3", "by name", "asgi2"])
def test_it_is_called_in_one_step_or_in_two(call: Any) -> None:
    """Servers and middleware that tell classes from applications get along with both."""
    assert asyncio.run(wrapped(call(Chat))) == [{"type": "ping", "pong": True}]


def test_what_fastapi_made_may_be_called() -> None:
    """As a route for a class with dependencies does: the instance lives the connection's whole life."""

    async def route(scope: Any, receive: Any, send: Any) -> None:
        await Chat(WebSocket(scope, receive, send))()

    assert asyncio.run(wrapped(route)) == [{"type": "ping", "pong": True}]


def test_those_who_look_find_an_application() -> None:
    """uvicorn asks for `__await__`, hypercorn for a coroutine function `__call__`, asgiref for its hint."""
    assert hasattr(Chat, "__await__")
    assert inspect.iscoroutinefunction(Chat.__call__)
    assert Chat._asgi_single_callable is True


def test_fastapi_still_finds_the_dependencies() -> None:
    """`__call__` and `__new__` do not hide `__init__`."""
    assert list(inspect.signature(Chat).parameters) == ["websocket"]


def test_a_websocket_that_init_forgets_is_there_all_the_same() -> None:
    """`super().__init__` is not called: the endpoint works."""

    class Forgetful(Endpoint):
        def __init__(self, ws: WebSocket, user: Annotated[str, Depends(lambda: "ada")]) -> None:
            self.user = user

        @event
        async def on_who(self) -> Any:
            return {"user": self.user}

    app = FastAPI()
    app.websocket("/")(Forgetful)
    with TestClient(app).websocket_connect("/") as ws:
        ws.send_json({"type": "who"})
        assert ws.receive_json() == {"type": "who", "user": "ada"}


def test_an_init_that_takes_no_websocket_is_refused_at_import() -> None:
    """It could never be served; the text has the remedy."""
    with pytest.raises(DefinitionError, match=r"class Deaf: its __init__ takes no WebSocket.*super\(\).__init__"):

        class Deaf(Endpoint):
            def __init__(self, user: Annotated[str, Depends(lambda: "ada")]) -> None:
                self.user = user


def test_inits_that_may_take_one_are_left_alone() -> None:
    """Whatever it is called, and also where nobody can know."""

    class Named(Endpoint):
        def __init__(self, websocket, user=None):  # type: ignore[no-untyped-def]
            super().__init__(websocket)

    class Everything(Endpoint):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    class Plain(Endpoint):
        def __init__(self, connection: HTTPConnection) -> None: ...

    def init(self: Any, websocket: Any) -> None: ...

    init.__signature__ = "unknown"  # type: ignore[attr-defined]  # compiled code may have none either
    Unreadable = type("Unreadable", (Endpoint,), {"__init__": init})

    for cls in (Named, Everything, Plain, Unreadable):
        assert asyncio.run(wrapped(cls)) is not None


def test_the_websocket_is_given_wherever_it_is_taken() -> None:
    """By keyword, behind what has a default, or among keywords that are passed on."""

    class ByKeyword(Chat):
        def __init__(self, *, websocket: WebSocket) -> None:
            super().__init__(websocket)

    class Second(Chat):
        def __init__(self, room: str = "lobby", websocket: WebSocket = None) -> None:  # type: ignore[assignment]  # as some write it
            assert room == "lobby"
            super().__init__(websocket)

    class Passing(Chat):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    def init(self: Any, *, connection: Any) -> None:
        Chat.__init__(self, connection)

    init.__annotations__["connection"] = Annotated[WebSocket, "known by its type, not by its name"]
    Described = type("Described", (Chat,), {"__init__": init})

    for cls in (ByKeyword, Second, Passing, Described):
        assert asyncio.run(wrapped(cls)) == [{"type": "ping", "pong": True}]


def test_our_own_marker_is_none_for_an_init() -> None:
    """FastAPI calls that, and would take it for a parameter of the query."""
    for marked in (lambda own: {"annotation": Annotated[int, own]}, lambda own: {"default": own}):
        parameter = inspect.Parameter("db", inspect.Parameter.KEYWORD_ONLY, **marked(socketsundso.Depends(int)))
        with pytest.raises(DefinitionError, match="'db'.*fastapi.Depends"):
            type("Own", (Endpoint,), {"__init__": taking(parameter)})


def taking(parameter: inspect.Parameter) -> Any:
    def __init__(self: Any, websocket: WebSocket, **_: Any) -> None: ...

    ours = list(inspect.signature(__init__).parameters.values())[:2]
    __init__.__signature__ = inspect.Signature([*ours, parameter])  # type: ignore[attr-defined]  # it shows one more
    return __init__


DATABASE = Depends(lambda: 1)


def test_a_dependency_is_no_websocket() -> None:
    """Also where it has no annotation: whoever comes first would be given one in its place."""
    with pytest.raises(DefinitionError, match="class Forgetful: its __init__ takes no WebSocket"):

        class Forgetful(Chat):
            def __init__(self, db=DATABASE) -> None: ...  # type: ignore[no-untyped-def]  # that is the point


def test_the_init_that_a_decorator_makes_is_the_one_that_counts() -> None:
    """A dataclass gets its `__init__` when its class has been made already."""

    @dataclasses.dataclass
    class Board(Chat):
        websocket: WebSocket
        size: int = 3

    @dataclasses.dataclass
    class Forgetful(Chat):
        size: int = 3

    @dataclasses.dataclass
    class Injected(Chat):
        websocket: WebSocket
        db: int = Depends(lambda: 1)

    assert asyncio.run(wrapped(Board)) == [{"type": "ping", "pong": True}]
    with pytest.raises(DefinitionError, match="Forgetful: its __init__ takes no WebSocket"):
        asyncio.run(wrapped(Forgetful))
    with pytest.raises(DefinitionError, match="Injected.__init__ takes `db`"):
        asyncio.run(wrapped(Injected))


class Guarded(Endpoint):
    def __init__(self, websocket: WebSocket, user: Annotated[str, Depends(lambda: "ada")]) -> None:
        super().__init__(websocket)


def test_served_without_fastapi_it_says_so() -> None:
    """By name, at the first connection, and before that at the server's start, where it is the application itself."""
    with pytest.raises(DefinitionError, match=r"Guarded.__init__ takes `user`.*FastAPI"):
        asyncio.run(wrapped(Guarded))

    async def start() -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "lifespan.startup"}

        async def send(message: Any) -> None:
            sent.append(message)

        await Guarded({"type": "lifespan"}, receive, send)  # type: ignore[call-arg, arg-type]  # as a server calls it
        return sent

    (answer,) = asyncio.run(start())
    assert answer["type"] == "lifespan.startup.failed"
    assert "FastAPI" in answer["message"]


def test_a_subclass_inherits_what_its_base_needs() -> None:
    """Whose `__init__` it has."""

    class Heir(Guarded): ...

    with pytest.raises(DefinitionError, match="Heir.__init__ takes `user`"):
        asyncio.run(wrapped(Heir))


@pytest.mark.parametrize(
    ("name", "value"),
    [("history", {}), ("emits", [dict]), ("ref_key", "id"), ("include_input", False), ("max_errors", 1),
     ("presence_events", True), ("legacy_errors", True), ("on_slow", "drop_oldest"), ("subprotocols", ("a",)),
     ("disclose_events", False), ("max_error_bytes", 1)],
)  # fmt: skip
def test_a_setting_that_is_read_at_import_cannot_be_assigned_later(name: str, value: Any) -> None:
    """It would be heard by nobody; the text says where it belongs."""

    class Late(Chat): ...

    with pytest.raises(DefinitionError, match=rf"Late\.{name} is read when the class is created"):
        setattr(Late, name, value)
    assert getattr(type("Sub", (Late,), {name: value}), name) == value


def test_nothing_is_added_to_a_history_later() -> None:
    """Not to that of a class, not to the default that all share, and not by way of the dict that it was made of."""
    kept = {"doc:*": Keep(messages=3)}

    class Doc(Chat):
        history = kept

    class Heir(Doc):
        history = {**Doc.history, "log:*": Keep(messages=1)}

    for cls in (Endpoint, Doc, Heir):
        with pytest.raises(TypeError):
            cls.history["late"] = Keep(messages=1)  # type: ignore[index]  # what is refused
    kept["late"] = Keep(messages=1)
    assert (list(Endpoint.history), list(Doc.history), list(Heir.history)) == ([], ["doc:*"], ["doc:*", "log:*"])


def test_an_endpoint_may_be_abstract() -> None:
    """`abc` works together with it."""
    from abc import ABC, abstractmethod

    class Abstract(Endpoint, ABC):
        @abstractmethod
        def name(self) -> str: ...

    class Real(Abstract):
        def name(self) -> str:
            return "real"

        @event
        async def on_ping(self) -> Any:
            return {"name": self.name()}

    assert asyncio.run(wrapped(Real)) == [{"type": "ping", "name": "real"}]
