"""
The same graphs solved by FastAPI and by an endpoint: the same calls, in the same order, with the same teardowns.

FastAPI answers a request, the endpoint a message; the dependencies are the very same functions, with FastAPI's markers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, FastAPI, Header, Path, Query
from fastapi.security import APIKeyHeader, HTTPBearer
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.websockets import WebSocket

import socketsundso
from socketsundso import DefinitionError, Endpoint, event
from tests.harness import Peer, talk

with_scopes = pytest.mark.skipif(
    "scope" not in signature(Depends).parameters, reason="this FastAPI has no scopes of dependencies"
)

KINDS = ["function", "coroutine", "generator", "async generator"]
FATES = ["fine", "fine", "fine", "before", "after", "swallows", "replaces"]


@dataclass
class Node:
    """One dependency, or the handler: what it needs, as (number, use_cache), and what goes wrong in it."""

    kind: str
    needs: list[tuple[int, bool]]
    fate: str = "fine"
    scope: str | None = None

    @property
    def is_generator(self) -> bool:
        return "generator" in self.kind


@dataclass
class Graph:
    """Nodes that need only later ones; the first is the handler. `instead` are overrides."""

    nodes: list[Node]
    instead: dict[int, int] = field(default_factory=dict)

    def now(self, number: int) -> int:
        return self.instead.get(number, number)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """At most four deep."""
    layers = [1, *draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))]
    starts = [sum(layers[:depth]) for depth in range(len(layers) + 1)]
    nodes = []
    for depth, size in enumerate(layers):
        below = st.integers(starts[depth + 1], starts[-1] - 1)
        edges = st.lists(st.tuples(below, st.sampled_from([True, True, False])), max_size=3)
        for _ in range(size):
            needs = draw(edges) if depth + 1 < len(layers) else []
            if not depth:
                nodes.append(Node("coroutine", needs, draw(st.sampled_from(["fine", "fine", "before"]))))
                continue
            kind, fate = draw(st.sampled_from(KINDS)), draw(st.sampled_from(FATES))
            scope = draw(st.sampled_from([None, None, "function"])) if "generator" in kind else None
            nodes.append(Node(kind, needs, fate, scope))
    graph = Graph(nodes)
    for number in draw(st.lists(st.integers(1, len(nodes) - 1), max_size=2, unique=True)):
        later = draw(st.integers(number, len(nodes) - 1))
        if later != number:
            graph.instead[number] = later
    assume(not any(outlives(graph, node, number) for node in nodes[1:] for number, _ in node.needs))
    assume(not wasteful(graph))
    return graph


def outlives(graph: Graph, node: Node, needed: int) -> bool:
    """Both refuse it: what is torn down behind the reply needs what is torn down before it."""
    return node.is_generator and node.scope != "function" and graph.nodes[needed].scope == "function"


def wasteful(graph: Graph) -> bool:
    """Would FastAPI call a dependency for a value that it has already? See the test below that says so."""
    known: set[int] = set()

    def solve(node: Node, is_known: bool) -> bool:
        for number, use_cache in node.needs:
            hit = use_cache and number in known
            if solve(graph.nodes[graph.now(number)], is_known or hit) or (is_known and not hit):
                return True
            known.add(number)
        return False

    return solve(graph.nodes[0], False)


class Run:
    """The functions of a graph, and a log of what happened in them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.log: list[Any] = []
        self.calls: dict[int, int] = {}
        self.functions: dict[int, Any] = {}
        for number in reversed(range(len(graph.nodes))):
            node = graph.nodes[number]
            function = getattr(self, node.kind.replace(" ", "_"))(number, node)
            function.__signature__ = Signature(self._parameters(node))
            self.functions[number] = function

    def _parameters(self, node: Node) -> list[Parameter]:
        return [
            Parameter(f"n{place}", Parameter.KEYWORD_ONLY, annotation=Annotated[Any, self._marker(number, use_cache)])
            for place, (number, use_cache) in enumerate(node.needs)
        ]

    def _marker(self, number: int, use_cache: bool) -> Any:
        return Depends(self.functions[number], use_cache=use_cache, scope=self.graph.nodes[number].scope)  # type: ignore[arg-type]  # drawn

    @property
    def overrides(self) -> dict[Any, Any]:
        return {self.functions[number]: self.functions[later] for number, later in self.graph.instead.items()}

    def enter(self, number: int, node: Node, values: dict[str, Any]) -> str:
        """The value tells which call of which function it is from."""
        self.calls[number] = self.calls.get(number, 0) + 1
        self.log.append((f"+{number}", sorted(values.items())))
        if node.fate == "before":
            raise KeyError(number)
        return f"{number}#{self.calls[number]}"

    @contextlib.contextmanager
    def around(self, number: int, node: Node) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            # FastAPI, whose response is missing then, has an UnboundLocalError for what was swallowed
            swallowed = isinstance(exc, RuntimeError | UnboundLocalError)
            self.log.append((f"!{number}", "swallowed" if swallowed else type(exc).__name__))
            if node.fate == "replaces":
                raise LookupError(number) from exc
            if node.fate != "swallows":
                raise
        finally:
            self.log.append(f"-{number}")
            if node.fate == "after":
                raise OSError(number)

    def function(self, number: int, node: Node) -> Any:
        def function(**values: Any) -> str:
            return self.enter(number, node, values)

        return function

    def coroutine(self, number: int, node: Node) -> Any:
        async def coroutine(**values: Any) -> str:
            await asyncio.sleep(0)
            return self.enter(number, node, values)

        return coroutine

    def generator(self, number: int, node: Node) -> Any:
        def generator(**values: Any) -> Iterator[str]:
            value = self.enter(number, node, values)
            with self.around(number, node):
                yield value

        return generator

    def async_generator(self, number: int, node: Node) -> Any:
        async def generator(**values: Any) -> AsyncIterator[str]:
            value = self.enter(number, node, values)
            with self.around(number, node):
                yield value
                await asyncio.sleep(0)

        return generator


def by_fastapi(graph: Graph) -> list[Any]:
    """What happens for one request. The reply is in the log where its status line is sent."""
    run = Run(graph)
    app = FastAPI()
    app.get("/")(run.functions[0])
    app.dependency_overrides = run.overrides

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            run.log.append("reply")

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1"}
    with contextlib.suppress(Exception):
        asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]  # a coroutine it is
    return run.log


def by_endpoint(graph: Graph) -> list[Any]:
    """What happens for one message."""
    run = Run(graph)

    class App(Endpoint):
        async def respond(self, response: Any) -> None:
            run.log.append("reply")

    async def answering(**values: Any) -> Any:
        return {"value": await run.functions[0](**values)}

    answering.__signature__ = run.functions[0].__signature__  # type: ignore[attr-defined]  # as a wrapper has it
    App.event("x")(answering)
    App.dependency_overrides = run.overrides
    talk(App, {"type": "x"})
    return run.log


@with_scopes
@settings(max_examples=100)
@given(graphs())
def test_a_graph_is_solved_as_fastapi_solves_it(graph: Graph) -> None:
    """Calls, their values, their order, the reply's place, teardowns and what they see, whoever raises."""
    assert by_endpoint(graph) == by_fastapi(graph)


@with_scopes
def test_what_is_known_is_not_solved_again() -> None:
    """
    On purpose not as in FastAPI: that calls what a known value needs with `use_cache=False` once more, for nothing.
    """
    leaf, middle = Node("coroutine", []), Node("coroutine", [(2, False)])
    graph = Graph([Node("coroutine", [(1, True), (1, True)]), middle, leaf])
    assert wasteful(graph)
    assert [entry[0] for entry in by_endpoint(graph) if entry != "reply"] == ["+2", "+1", "+0"]
    assert [entry[0] for entry in by_fastapi(graph) if entry != "reply"] == ["+2", "+1", "+2", "+0"]


@with_scopes
def test_a_function_without_teardown_has_one_value_in_both_scopes() -> None:
    """On purpose not as in FastAPI, which tells `scope="function"` of it from none, and calls it twice."""
    calls = []

    async def number() -> int:
        calls.append(1)
        return len(calls)

    class App(Endpoint):
        @event
        async def on_x(
            self, a: Annotated[int, Depends(number)], b: Annotated[int, Depends(number, scope="function")]
        ) -> Any:
            return {"same": a == b}

    assert talk(App, {"type": "x"}).answers == [{"type": "x", "same": True}]


# ---------------------------------------------------------------------- in a FastAPI application


async def current_user() -> str:
    return "ada"


class Whoami(Endpoint):
    @event
    async def on_who(self, user: Annotated[str, Depends(current_user)]) -> Any:
        return {"user": user}


def test_the_applications_overrides_count() -> None:
    """From the next connection on; the class's own count for more."""
    app = FastAPI()
    app.add_api_websocket_route("/ws", Whoami)
    other = FastAPI()
    other.add_api_websocket_route("/ws", Whoami)

    def who(of: Any = app) -> Any:
        (answer,) = talk(of, {"type": "who"}, path="/ws").answers
        return answer["user"]

    assert who() == "ada"
    app.dependency_overrides[current_user] = lambda: "fake"
    assert (who(), who(other)) == ("fake", "ada")
    Whoami.dependency_overrides[current_user] = lambda: "the class's"
    try:
        assert (who(), who(other)) == ("the class's", "the class's")
    finally:
        Whoami.dependency_overrides.clear()
    app.dependency_overrides.clear()
    assert who() == "ada"


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


class Connected(Endpoint):
    """Its dependencies take of the handshake what FastAPI can take."""

    async def token(
        x_token: Annotated[str, Header()],  # type: ignore[misc]  # no method: a dependency
        lang: Annotated[str, Query(max_length=2)] = "en",
        session: Annotated[str | None, Cookie()] = None,
    ) -> Any:
        return [x_token, lang, session]

    @event
    async def on_x(self, values: Annotated[Any, Depends(token)], room: Annotated[int, Path()], n: int) -> Any:
        return {"values": [*values, room, n]}


def served(app: FastAPI) -> FastAPI:
    app.add_api_websocket_route("/rooms/{room}/ws", Connected)
    return app


PATH = "/rooms/5/ws"


def test_fastapi_takes_what_the_handshake_brought() -> None:
    """Headers, query, cookies and path, validated and converted by FastAPI; all else is of the message."""
    peer = talk(
        served(FastAPI()), {"type": "x", "n": 1}, {"type": "x", "n": "2"}, path=PATH, query_string=b"lang=de",
        headers=headers(x_token="t", cookie="session=s"),
    )  # fmt: skip
    assert [answer["values"] for answer in peer.answers] == [["t", "de", "s", 5, 1], ["t", "de", "s", 5, 2]]


@pytest.mark.parametrize(
    ("more", "path", "loc"),
    [
        ({}, PATH, ["header", "x-token"]),
        ({"query_string": b"lang=deu", "headers": headers(x_token="t")}, PATH, ["query", "lang"]),
        ({"headers": headers(x_token="t")}, "/rooms/attic/ws", ["path", "room"]),
    ],
)
def test_fastapi_refuses_a_handshake_that_is_not_valid(more: Any, path: str, loc: list[str]) -> None:
    """As it does for its own endpoints: closed with 1008 before it is accepted, so that there is no message."""
    peer = talk(served(FastAPI()), {"type": "x", "n": 1}, path=path, **more)
    (closing,) = peer.sent
    assert (closing["type"], closing["code"], closing["reason"][0]["loc"]) == ("websocket.close", 1008, loc)


def test_an_application_may_answer_a_handshake_that_is_not_valid_itself() -> None:
    """With its own exception handler."""
    from fastapi.exceptions import WebSocketRequestValidationError

    app = served(FastAPI())

    @app.exception_handler(WebSocketRequestValidationError)
    async def own(websocket: WebSocket, exc: WebSocketRequestValidationError) -> None:
        await websocket.close(4000, "own")

    assert talk(app, {"type": "x", "n": 1}, path=PATH).sent == [
        {"type": "websocket.close", "code": 4000, "reason": "own"}
    ]


def test_an_overridden_dependency_takes_nothing_of_the_handshake() -> None:
    """What it would have taken is not asked for any more; what the override takes is."""
    app = served(FastAPI())

    async def fake(x_other: Annotated[str, Header()] = "none") -> Any:
        return [x_other]

    app.dependency_overrides[Connected.token] = fake
    assert talk(app, {"type": "x", "n": 1}, path=PATH).answers[0]["values"] == ["none", 5, 1]


def test_a_mounted_endpoint_has_the_handshake_too() -> None:
    """Under a Mount, and as a route of Starlette's, in a FastAPI application."""
    app = FastAPI()
    app.router.routes.append(Mount("/rooms/{room}", app=Connected))
    peer = talk(app, {"type": "x", "n": 1}, path="/rooms/7/", headers=headers(x_token="t"))
    assert peer.answers[0]["values"] == ["t", "en", None, 7, 1]


def test_without_fastapi_the_handshake_is_not_served() -> None:
    """The error names the parameters, and both remedies."""
    with pytest.raises(DefinitionError) as info:
        talk(Connected, {"type": "x", "n": 1})
    for word in ("Connected", "`x_token`", "`lang`", "`session`", "`room`", "FastAPI", "HTTPConnection"):
        assert word in str(info.value)


def test_a_server_is_told_at_its_start() -> None:
    """Where the class itself is the application, it does not start."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Connected({"type": "lifespan"}, receive, send))  # type: ignore[call-arg, arg-type]  # as a server does
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "`x_token`" in sent[0]["message"]


def test_one_name_of_the_handshake_has_one_declaration() -> None:
    """In all dependencies of a class, or they are told apart by their names."""

    async def one(x: Annotated[str, Header()]) -> str:
        return x

    async def other(x: Annotated[str, Query()]) -> str:
        return x

    with pytest.raises(DefinitionError, match="'x' of the handshake"):

        class Both(Endpoint):
            @event
            async def on_x(self, a: Annotated[str, Depends(one)], b: Annotated[str, Depends(other)]) -> None: ...

    with pytest.raises(DefinitionError, match="'x' of the handshake"):

        class Apart(Endpoint):
            @event
            async def on_a(self, a: Annotated[str, Depends(one)]) -> None: ...
            @event
            async def on_b(self, b: Annotated[str, Depends(other)]) -> None: ...


@pytest.mark.parametrize("when", ["__init__", "on_connect"])
def test_what_one_connection_alone_takes_of_the_handshake_is_declared_before_it(when: str) -> None:
    """By then FastAPI has taken what was asked for; `__init__` is early enough."""

    async def token(x_token: Annotated[str, Header()]) -> str:
        return x_token

    @event
    async def on_x(token: Annotated[str, Depends(token)]) -> Any:
        return {"token": token}

    refused: list[DefinitionError] = []

    class App(Endpoint):
        def __init__(self, websocket: WebSocket) -> None:
            super().__init__(websocket)
            if when == "__init__":
                self.handlers["x"] = on_x

        async def on_connect(self) -> None:
            await super().on_connect()
            if when == "on_connect":
                try:
                    self.handlers["x"] = on_x
                except DefinitionError as exc:
                    refused.append(exc)

    application = FastAPI()
    application.websocket("/")(App)
    (answer,) = talk(application, {"type": "x"}, headers=headers(x_token="t")).answers
    if when == "__init__":
        assert answer == {"type": "x", "token": "t"}
    else:
        assert answer["code"] == "unknown_event"
        assert "'x_token' of the handshake, which is over" in str(refused[0])


@pytest.mark.skipif("HTTPConnection" not in str(signature(HTTPBearer.__call__)), reason="its classes take a Request")
def test_fastapis_security_classes_take_the_connection() -> None:
    """Those of FastAPI that take an HTTPConnection; what they raise is an answer to the message."""

    class App(Endpoint):
        @event
        async def on_key(self, key: Annotated[str, Depends(APIKeyHeader(name="x-key"))]) -> Any:
            return {"key": key}

        @event
        async def on_bearer(self, token: Annotated[Any, Depends(HTTPBearer())]) -> Any:
            return {"token": token.credentials}

    frames = [{"type": "key"}, {"type": "bearer"}]
    answers = talk(App, *frames, headers=headers(x_key="k", authorization="Bearer b")).answers
    assert answers == [{"type": "key", "key": "k"}, {"type": "bearer", "token": "b"}]
    assert [answer["code"] for answer in talk(App, *frames).answers] == ["unauthorized", "unauthorized"]


def test_both_markers_may_stand_beside_each_other() -> None:
    """They name the same value."""
    calls = []

    async def number(connection: HTTPConnection) -> int:
        calls.append(connection)
        return len(calls)

    class App(Endpoint):
        @event
        async def on_x(
            self, a: Annotated[int, Depends(number)], b: Annotated[int, socketsundso.Depends(number)]
        ) -> Any:
            return {"values": [a, b]}

    assert talk(App, {"type": "x"}).answers[0]["values"] == [1, 1]


def test_a_limit_of_fastapis_is_refused() -> None:
    """`max_concurrency` is not done here, and says so."""
    with pytest.raises(DefinitionError, match="max_concurrency=3"):

        class App(Endpoint):
            @event
            async def on_x(self, a: Annotated[str, Depends(current_user, max_concurrency=3)]) -> None: ...


def test_many_connections_have_their_own_handshakes() -> None:
    """At the same time, through one route of FastAPI's."""
    app = served(FastAPI())

    async def main() -> list[Any]:
        peers = [
            Peer(app, [{"type": "x", "n": n}], path=f"/rooms/{n}/ws", headers=headers(x_token=f"t{n}"))
            for n in range(20)
        ]
        return [peer.answers[0]["values"] for peer in await asyncio.gather(*(peer.run() for peer in peers))]

    assert asyncio.run(main()) == [[f"t{n}", "en", None, n, n] for n in range(20)]
