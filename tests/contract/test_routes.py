"""Every endpoint class of an application, where it is served, with what its handshake takes."""

from __future__ import annotations

import functools
from typing import Annotated, Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest
from fastapi import APIRouter, Cookie, Depends, FastAPI, Header, Path, Query
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from socketsundso import Endpoint, event
from socketsundso.contract import ContractError, api_of
from socketsundso.contract.model import Parameter
from socketsundso.security import APIKeyQuery, HTTPBearer


class Chat(Endpoint):
    """A chat."""

    @event
    async def on_say(self, msg: str) -> None: ...


class Shop(Endpoint):
    @event
    async def on_buy(self) -> None: ...


class Hidden(Endpoint):
    include_in_schema = False


class Filters(BaseModel):
    limit: int = Field(10, gt=0)
    order_by: str = "id"


def token_of(x_token: Annotated[str, Header(description="Whose.")], deep: Annotated[int, Depends(lambda: 1)]) -> str:
    return x_token


def plain(page: int = 1) -> int:
    return page


def keyed(key: Annotated[str, Cookie()]) -> str:
    return key


class Inner:
    def __init__(self, q: str, size: Annotated[int, Query(alias="page-size")] = 5) -> None: ...


class Taking(Endpoint):
    def __init__(
        self,
        websocket: WebSocket,
        room: Annotated[int, Path(ge=1)],
        lang: str,
        token: Annotated[str, Depends(token_of)],
        page: Annotated[int, Depends(plain)],
        inner: Annotated[Inner, Depends()],
        filters: Annotated[Filters, Query()],
        session: Annotated[str | None, Cookie()] = None,
        names: Annotated[list[str], Query(max_length=3)] = [],  # noqa: B006  # FastAPI copies it
        under_score: Annotated[str, Header(convert_underscores=False)] = "x",
        unseen: Annotated[str, Query(include_in_schema=False)] = "x",
    ) -> None:
        super().__init__(websocket)


def places(app: Any) -> list[tuple[str, str]]:
    return [(each.name, each.path) for each in api_of(app).channels]


def within(app: Any) -> Any:
    """Middleware as a function."""

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return asgi


async def starlettes(websocket: WebSocket) -> None:
    await Chat(websocket)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    await Chat(scope, receive, send)


async def tells(request: Any) -> None:
    await Chat.hub.to("room").send({"type": "x"})


def fastapi() -> FastAPI:
    app = FastAPI(title="Ours", version="3.1", description="All of it.")

    @app.get("/")
    async def index() -> str:
        return "hello"

    app.websocket("/ws")(Chat)
    return app


def included() -> FastAPI:
    app, outer, inner = FastAPI(), APIRouter(prefix="/outer"), APIRouter(prefix="/inner")
    inner.websocket("/ws/{room}")(Chat)
    outer.include_router(inner, prefix="/v1")
    app.include_router(outer, prefix="/api")
    return app


class Wrapped:
    """Some framework's route and handler."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


litestar = Wrapped(
    routes=[Wrapped(path="/a", route_handler=Wrapped(fn=asgi)), Wrapped(path="/b", methods=["GET"], fn=asgi)]
)


def channels(pattern: str) -> Wrapped:
    """Channels' ProtocolTypeRouter with a middleware around its URLRouter."""
    routers = Wrapped(inner=Wrapped(routes=[Wrapped(pattern=pattern, callback=Chat)]))
    return Wrapped(application_mapping={"http": asgi, "websocket": routers})


@pytest.mark.parametrize(
    ("app", "path"),
    [
        (Chat, "/"),
        (CORSMiddleware(Chat, allow_origins=["*"]), "/"),
        (functools.partial(Chat), "/"),
        (within(within(Chat)), "/"),
        (starlettes, "/"),
        (asgi, "/"),
        (Starlette(routes=[WebSocketRoute("/ws", Chat)]), "/ws"),
        (Starlette(routes=[WebSocketRoute("/ws", starlettes)]), "/ws"),
        (Starlette(routes=[WebSocketRoute("/ws", functools.partial(starlettes))]), "/ws"),
        (Starlette(routes=[WebSocketRoute("/ws", Chat)], middleware=[Middleware(CORSMiddleware)]), "/ws"),
        (CORSMiddleware(Starlette(routes=[WebSocketRoute("/ws", Chat)])), "/ws"),
        (Router([Mount("/a", routes=[Mount("/b", Router([WebSocketRoute("/ws", Chat)]))])]), "/a/b/ws"),
        (Router([Mount("/a", Chat)]), "/a/"),
        (Router([Mount("/a", CORSMiddleware(Chat))]), "/a/"),
        (Router([Mount("/a", CORSMiddleware(Starlette(routes=[WebSocketRoute("/ws", Chat)])))]), "/a/ws"),
        (Router([Mount("", routes=[WebSocketRoute("/ws", Chat)])]), "/ws"),
        (Router([Host("a.example", Router([WebSocketRoute("/ws", Chat)]))]), "/ws"),
        (Router([WebSocketRoute("/rooms/{room:int}/{rest:path}", Chat)]), "/rooms/{room}/{rest}"),
        (Router([Route("/x", tells), WebSocketRoute("/ws", Chat)]), "/ws"),
        (fastapi(), "/ws"),
        (included(), "/api/outer/v1/inner/ws/{room}"),
        (Router([Mount("/sub", fastapi())]), "/sub/ws"),
        (litestar, "/a"),
        (channels("ws/<int:room>/<name>"), "/ws/{room}/{name}"),
        (channels(r"^ws/(?P<room>[^/]+)/(?P<name>\w+)$"), "/ws/{room}/{name}"),
        (channels(""), "/"),
    ],
)
def test_an_endpoint_is_found_wherever_it_is_served(app: Any, path: str) -> None:
    assert places(app) == [("chat", path)]


@pytest.mark.parametrize(
    "app",
    [
        CORSMiddleware(Chat, allow_origins=["*"]),
        within(Chat),
        Starlette(routes=[WebSocketRoute("/ws", starlettes)]),
        Router([Mount("/a", routes=[Mount("/b", Router([WebSocketRoute("/ws", Chat)]))])]),
        Router([Mount("/a", Chat)]),
        Router([Mount("/a", CORSMiddleware(Chat))]),
        Router([Mount("", routes=[WebSocketRoute("/ws", Chat)])]),
        Router([WebSocketRoute("/rooms/{room:int}/{rest:path}", Chat)]),
        fastapi(),
        included(),
        Router([Mount("/sub", fastapi())]),
    ],
)
def test_the_path_that_is_told_is_one_that_takes_connections(app: Any) -> None:
    (channel,) = api_of(app).channels
    path = channel.path.replace("{room}", "5").replace("{rest}", "a/b")
    with TestClient(app).websocket_connect(path) as ws:
        ws.send_json({"type": "?"})
        assert ws.receive_json()["code"] == "unknown_event"


def test_all_endpoints_are_told_in_the_order_of_their_routes_each_with_a_name_of_its_own() -> None:
    app = Starlette(
        routes=[
            WebSocketRoute("/b", Shop),
            WebSocketRoute("/a", Chat),
            WebSocketRoute("/c", Chat),
            WebSocketRoute("/d", Hidden),
        ]
    )
    assert places(app) == [("shop", "/b"), ("chat", "/a"), ("chat_2", "/c")]


def test_a_class_that_is_asked_for_itself_is_told_even_if_applications_hide_it() -> None:
    assert places(Hidden) == [("hidden", "/")]


@pytest.mark.parametrize(
    ("app", "title", "version", "description"),
    [
        (fastapi(), "Ours", "3.1", "All of it."),
        (Chat, "Chat", "0.1.0", ""),
        (Starlette(routes=[WebSocketRoute("/a", Chat), WebSocketRoute("/b", Chat)]), "Chat", "0.1.0", ""),
        (Starlette(routes=[WebSocketRoute("/a", Chat), WebSocketRoute("/b", Shop)]), "WebSocket API", "0.1.0", ""),
    ],
)
def test_title_and_version_are_the_applications(app: Any, title: str, version: str, description: str) -> None:
    api = api_of(app)
    assert (api.title, api.version, api.description) == (title, version, description)


def test_title_and_version_that_are_given_count_more() -> None:
    api = api_of(fastapi(), "Theirs", "4")
    assert (api.title, api.version) == ("Theirs", "4")


def test_an_application_that_is_within_itself_is_looked_into_once() -> None:
    app = Starlette()
    app.mount("/again", app)
    app.router.routes.append(WebSocketRoute("/ws", Chat))
    assert places(app) == [("chat", "/ws")]


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (Starlette(), r"Starlette serves no endpoint class; looked at / \(Starlette\); route one itself"),
        (Router([WebSocketRoute("/ws", tells)]), r"looked at /ws \(tells\)"),
        (Router([WebSocketRoute(f"/{n}", tells) for n in range(20)]), r"/7 \(tells\) and 12 more; route"),
        (Router([WebSocketRoute("/ws", Hidden)]), "serves no endpoint class; route one itself"),
        (None, "NoneType serves no endpoint class"),
        ("app:app", "str serves no endpoint class"),
        (object, "object serves no endpoint class"),
    ],
)
def test_where_nothing_is_found_it_is_said_what_was_looked_at(app: Any, text: str) -> None:
    with pytest.raises(ContractError, match=text) as caught:
        api_of(app)
    assert "\n" not in str(caught.value)


def test_an_object_that_has_every_attribute_ends_the_search() -> None:
    with pytest.raises(ContractError, match="looked at / "):
        api_of(MagicMock())


def test_what_is_reached_in_two_ways_is_told_once() -> None:
    """As a decorator that keeps the function, and says which one it is around."""
    assert places(functools.wraps(asgi)(within(asgi))) == [("chat", "/")]


# ---- the handshake


def taking(path: str = "/rooms/{room}", **options: Any) -> FastAPI:
    app = FastAPI()
    app.websocket(path, **options)(Taking)
    return app


def parameters_of(app: Any) -> dict[tuple[str, str], Parameter]:
    (channel,) = api_of(app).channels
    return {(each.place, each.name): each for each in channel.parameters}


def fastapis(dependant: Any) -> dict[tuple[str, str], bool]:
    """What FastAPI itself found in a signature: place and name, and whether it has to be there."""
    found: dict[tuple[str, str], bool] = {}
    for place in ("path", "query", "header", "cookie"):
        for field in getattr(dependant, f"{place}_params"):
            if isinstance(field.field_info.annotation, type) and issubclass(field.field_info.annotation, BaseModel):
                for name, each in field.field_info.annotation.model_fields.items():
                    found[place, name] = each.is_required()
            elif field.field_info.include_in_schema:
                found[place, field.alias] = field.field_info.is_required()
    for each in dependant.dependencies:
        found |= fastapis(each)
    return found


def test_what_fastapi_takes_of_the_handshake_is_told() -> None:
    """Place, name and necessity, of `__init__` and of all that it depends on."""
    app = taking(dependencies=[Depends(keyed)])
    (route,) = [each for each in app.routes if getattr(each, "endpoint", None) is Taking]
    expected = fastapis(route.dependant)  # type: ignore[attr-defined]  # of FastAPI's
    assert len(expected) == 12
    assert {key: each.required for key, each in parameters_of(app).items()} == expected


def test_a_parameter_is_told_with_its_schema_and_words() -> None:
    told = parameters_of(taking())
    assert told["path", "room"].schema == {"type": "integer", "minimum": 1}
    assert told["header", "x-token"] == Parameter("x-token", "header", {"type": "string"}, True, "Whose.")
    assert told["query", "page-size"].schema == {"type": "integer", "default": 5}
    assert told["query", "names"].schema == {"type": "array", "items": {"type": "string"}, "maxItems": 3, "default": []}
    assert told["query", "limit"].schema == {"type": "integer", "exclusiveMinimum": 0, "default": 10}


@pytest.mark.parametrize(
    ("convertor", "schema"),
    [
        ("", {"type": "string"}),
        (":str", {"type": "string"}),
        (":path", {"type": "string"}),
        (":int", {"type": "integer", "minimum": 0}),
        (":float", {"type": "number", "minimum": 0}),
        (":uuid", {"type": "string", "format": "uuid"}),
    ],
)
def test_a_part_of_the_path_is_told_as_its_convertor_takes_it(convertor: str, schema: Any) -> None:
    told = parameters_of(Router([WebSocketRoute(f"/rooms/{{room{convertor}}}", Chat)]))
    assert told == {("path", "room"): Parameter("room", "path", schema)}


def test_a_part_of_the_path_has_the_type_that_the_signature_gives_it() -> None:
    class Typed(Endpoint):
        def __init__(self, websocket: WebSocket, room: UUID) -> None:
            super().__init__(websocket)

    app = FastAPI()
    app.websocket("/rooms/{room}")(Typed)
    assert parameters_of(app)["path", "room"].schema == {"type": "string", "format": "uuid"}


def test_what_a_routes_function_takes_is_told() -> None:
    """FastAPI calls it, and it calls the class."""
    app = FastAPI()

    @app.websocket("/{room}")
    async def chat(websocket: WebSocket, room: int, token: str = "") -> None:
        await Chat(websocket)

    assert set(parameters_of(app)) == {("path", "room"), ("query", "token")}


def test_what_routers_depend_on_is_told() -> None:
    app, router = FastAPI(dependencies=[Depends(plain)]), APIRouter(dependencies=[Depends(token_of)])
    router.websocket("/ws")(Chat)
    app.include_router(router, dependencies=[Depends(keyed)])
    assert set(parameters_of(app)) == {("query", "page"), ("header", "x-token"), ("cookie", "key")}


def test_what_handlers_depend_on_of_the_handshake_is_told() -> None:
    class Dependent(Endpoint):
        @event
        async def on_x(self, token: Annotated[str, Depends(token_of)]) -> None: ...

    assert set(parameters_of(Dependent)) == {("header", "x-token")}


def test_an_init_without_annotations_takes_the_connection() -> None:
    class Bare(Endpoint):
        def __init__(self, ws):  # type: ignore[no-untyped-def]  # the point
            super().__init__(ws)

    assert parameters_of(Bare) == {}


# ---- security


def test_a_scheme_that_several_classes_have_is_told_once_and_another_of_its_name_beside_it() -> None:
    one = type("One", (Endpoint,), {"security": [HTTPBearer(), APIKeyQuery(name="token")]})
    two = type("Two", (Endpoint,), {"security": [HTTPBearer(), APIKeyQuery(name="key")]})
    api = api_of(Router([WebSocketRoute("/1", one), WebSocketRoute("/2", two)]))
    assert [each.security for each in api.channels] == [("HTTPBearer", "APIKeyQuery"), ("HTTPBearer", "APIKeyQuery_2")]
    assert {name: each.get("name") for name, each in api.security.items()} == {
        "HTTPBearer": None,
        "APIKeyQuery": "token",
        "APIKeyQuery_2": "key",
    }
