"""What stands before the fields of a message: `before`, guards, middleware, scopes; in order, around both paths."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import logging
import weakref
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
import websockets.asyncio.client
from pydantic import AfterValidator, BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.exceptions import HTTPException, WebSocketException
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient

from socketsundso import (
    Call,
    DefinitionError,
    Depends,
    Endpoint,
    EventError,
    EventMessage,
    Keep,
    RateLimit,
    event,
    scopes,
)
from tests.harness import Peer, ask, talk
from tests.server.serving import run, serving

SERVERS = ["ours", "websockets-sansio"]

told: list[Any] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    told.clear()


def tell(value: str) -> str:
    told.append(f"validated {value}")
    return value


def note(name: str, verdict: Any = None) -> Any:
    def guard(endpoint: Any, call: Call) -> Any:
        told.append(name)
        return verdict

    return guard


def note_later(name: str, verdict: Any = None) -> Any:
    async def guard(endpoint: Any, call: Call) -> Any:
        await asyncio.sleep(0)
        told.append(name)
        return verdict

    return guard


class Whole(EventMessage):
    type: str
    msg: Annotated[str, AfterValidator(tell)]


class All(Endpoint):
    """One of everything, as it tells."""

    async def before(self, call: Call) -> None:
        told.append(f"before {call.event} {call.ref} {call.handler.__name__}")

    @event(guards=[note("first"), note_later("second", True), RateLimit(1000, per_s=1)])
    async def on_say(self, msg: Annotated[str, AfterValidator(tell)], n: int = 0) -> Any:
        told.append("handler")
        return {"msg": msg}

    @event(guards=[note("first")])
    def on_sync(self, msg: Annotated[str, AfterValidator(tell)], n: int = 0) -> Any:
        told.append("handler")
        return {"msg": msg}

    @event(thread=False, guards=[note("first")])
    def on_loop(self, msg: Annotated[str, AfterValidator(tell)], n: int = 0) -> Any:
        told.append("handler")
        return {"msg": msg}

    @event(guards=[note("first")])
    async def on_whole(self, message: Whole) -> Any:
        told.append("handler")
        return {"msg": message.msg}


@All.middleware
async def around(endpoint: Any, call: Call, handle: Any) -> Any:
    told.append("in")
    try:
        return await handle()
    finally:
        told.append("out")


@pytest.mark.parametrize("fields", [{"msg": "x"}, {"msg": "x", "n": "5"}], ids=["fast", "judged"])
@pytest.mark.parametrize("name", ["say", "sync", "loop", "whole"])
def test_the_order_is_the_same_however_a_message_is_read(name: str, fields: Any) -> None:
    """Middleware, `before`, guards in their order, validation, handler; each once, on the exact path, too."""
    if name == "whole":
        fields = {"msg": "x"} if fields == {"msg": "x"} else {"msg": "x", "ref": 7}
    answer = ask(All, {"type": name, "ref": 7, **fields})
    assert answer == {"type": name, "msg": "x", "ref": 7}
    guards = ["first", "second"] if name == "say" else ["first"]
    assert told == ["in", f"before {name} 7 on_{name}", *guards, "validated x", "handler", "out"]


@pytest.mark.parametrize("frame", ['{"type":"nope"}', '{"type":5}', "[]", "5"])
def test_what_no_event_is_for_passes_nothing(frame: str) -> None:
    """Neither `before` nor middleware hear of it."""
    assert ask(All, frame)["type"] == "error"
    assert told == []


@pytest.mark.parametrize(
    "bad", [{}, {"msg": 5}, {"msg": "x", "n": "y"}, {"msg": "x", "more": 1}, {"msg": "x", "ref": {}}]
)
def test_what_is_not_valid_is_found_behind_the_guards(bad: Any) -> None:
    """And answered as without them, with the `ref`."""

    class Plain(Endpoint):
        on_say = event("say")(All.handlers["say"].method)

    frame = {"type": "say", "ref": 3, **bad}
    expected = ask(Plain, frame)
    told.clear()
    assert ask(All, frame) == expected
    assert expected["code"] == "validation_error"
    assert [each for each in told if not each.startswith(("validated", "before"))] == ["in", "first", "second", "out"]


REFUSALS = [
    (lambda: EventError("not_today", "later"), "not_today"),
    (lambda: HTTPException(403, "no"), "forbidden"),
    (lambda: HTTPException(401), "unauthorized"),
    (lambda: KeyError("bug"), "internal_error"),
    (lambda: StopIteration(), "internal_error"),
    (lambda: StopAsyncIteration(), "internal_error"),
    (lambda: asyncio.CancelledError(), "internal_error"),
    (lambda: TimeoutError(), "internal_error"),
    (lambda: ExceptionGroup("all", [EventError("grouped")]), "grouped"),
    (lambda: RuntimeError("bug"), "internal_error"),
]


def refusing(make: Any) -> list[Any]:
    def sync(endpoint: Any, call: Call) -> None:
        raise make()

    async def at_once(endpoint: Any, call: Call) -> None:
        raise make()

    async def later(endpoint: Any, call: Call) -> None:
        await asyncio.sleep(0)
        raise make()

    return [sync, at_once, later]


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["sync", "async", "later"])
@pytest.mark.parametrize(("make", "code"), REFUSALS, ids=lambda value: value if isinstance(value, str) else None)
def test_whatever_a_guard_raises_the_message_does_not_pass(make: Any, code: str, kind: int) -> None:
    """Its answer is an error frame with the `ref`, and the connection lives; what is no refusal is a bug."""

    class Guarded(Endpoint):
        @event(guards=[refusing(make)[kind], note("behind")])
        async def on_say(self, msg: Annotated[str, AfterValidator(tell)]) -> None:
            told.append("handler")

        @event
        async def on_alive(self) -> Any:
            return {}

    answers = talk(Guarded, {"type": "say", "ref": 9, "msg": "x"}, {"type": "alive"}).answers
    assert (answers[0]["code"], answers[0]["ref"], answers[1]) == (code, 9, {"type": "alive"})
    assert told == []


def test_a_guard_may_close() -> None:
    """With a WebSocketException, or by itself: nothing is handled any more."""

    def close(endpoint: Any, call: Call) -> None:
        raise WebSocketException(4001, "not here")

    async def hang_up(endpoint: Any, call: Call) -> None:
        await endpoint.close(4002)
        raise EventError("closed")

    class Guarded(Endpoint):
        @event(guards=[close])
        async def on_a(self) -> Any:
            told.append("handler")

        @event(guards=[hang_up])
        async def on_b(self) -> Any:
            told.append("handler")

    assert talk(Guarded, {"type": "a"}, {"type": "b"}).closed == 4001
    assert talk(Guarded, {"type": "b"}, {"type": "a"}).closed == 4002
    assert told == []


@pytest.mark.parametrize("make", [note, note_later])
@pytest.mark.parametrize("verdict", [None, True])
def test_a_guard_lets_pass_with_none_or_true(make: Any, verdict: Any) -> None:
    """Sync or async."""

    class Guarded(Endpoint):
        @event(guards=[make("asked", verdict)])
        async def on_say(self) -> Any:
            return {}

    assert ask(Guarded, {"type": "say"}) == {"type": "say"}


@pytest.mark.parametrize("make", [note, note_later])
@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (False, "forbidden"),
        (0, "internal_error"),
        ("", "internal_error"),
        ("yes", "internal_error"),
        (1, "internal_error"),
    ],
)
def test_anything_else_does_not_let_pass(make: Any, verdict: Any, code: str) -> None:
    """False is `forbidden`; what is neither is a bug, and fails closed."""

    class Guarded(Endpoint):
        @event(guards=[make("asked", verdict)])
        async def on_say(self) -> Any:
            told.append("handler")

    assert ask(Guarded, {"type": "say"})["code"] == code
    assert told == ["asked"]


def test_before_may_refuse_as_a_guard_does() -> None:
    """With False or what it raises, for the events that it likes."""

    class Guarded(Endpoint):
        async def before(self, call: Call) -> bool | None:
            if call.event == "a":
                raise EventError("closed_today")
            return call.event != "b"

        @event
        async def on_a(self) -> Any:
            told.append("handler")

        @event
        async def on_b(self) -> Any:
            told.append("handler")

        @event
        async def on_c(self) -> Any:
            return {}

    answers = talk(Guarded, {"type": "a"}, {"type": "b"}, {"type": "c"}).answers
    assert [answer.get("code", answer["type"]) for answer in answers] == ["closed_today", "forbidden", "c"]
    assert told == []


def test_before_is_asked_for_every_event_there_is() -> None:
    """Inherited, mixed in, attached later, and that of rooms with history."""

    class Base(Endpoint):
        async def before(self, call: Call) -> None:
            told.append(call.event)

        @event
        async def on_base(self) -> None: ...

    class Mixin:
        @event
        async def on_mixed(self) -> None: ...

    class Chat(Mixin, Base):
        history = {"guarded:*": Keep(messages=1)}

        @event
        async def on_own(self) -> None: ...

    @Chat.event("late")
    async def late() -> None: ...

    names = ["base", "mixed", "own", "late", "resume"]
    talk(Chat, *({"type": name} for name in names))
    assert told == names


def test_the_handler_of_a_call_tells_what_was_declared() -> None:
    """So `before` can go by what a decorator has left on the function."""

    def public(function: Any) -> Any:
        function.is_public = True
        return function

    class Guarded(Endpoint):
        async def before(self, call: Call) -> bool:
            return self.user is not None or getattr(call.handler.method, "is_public", False)

        @event
        @public
        async def on_hello(self) -> Any:
            return {}

        @event
        async def on_secret(self) -> Any:
            return {}

    answers = talk(Guarded, {"type": "hello"}, {"type": "secret"}).answers
    assert [answer["type"] for answer in answers] == ["hello", "error"]


def test_current_is_known_to_guards() -> None:
    """`self.current` is the message that is asked about."""

    def look(endpoint: Any, call: Call) -> None:
        told.append((endpoint.current.event, endpoint.current.ref, endpoint.current.frame_type))

    class Guarded(Endpoint):
        @event(guards=[look])
        async def on_say(self, n: int) -> None: ...

    talk(Guarded, {"type": "say", "ref": 1, "n": 1}, {"type": "say", "ref": 2, "n": "2"}, b'{"type":"say","n":3}')
    assert told == [("say", 1, "text"), ("say", 2, "text"), ("say", None, "binary")]


class Callable_:
    def __call__(self, endpoint: Any, call: Call) -> bool:
        return call.event == "say"


class WithMethods(Endpoint):
    def _may(self, call: Call) -> bool:
        return isinstance(self, WithMethods)

    @staticmethod
    async def _static(endpoint: Any, call: Call) -> bool:
        return True

    @event(
        guards=(
            _may,
            _static.__func__,
            Callable_(),
            functools.partial(lambda answer, endpoint, call: answer, True),
            lambda *both: None,
        )
    )
    async def on_say(self) -> Any:
        return {}


def test_a_guard_may_be_anything_that_can_be_called_with_two() -> None:
    """A method of the class, a callable object, a partial, a lambda."""
    assert ask(WithMethods, {"type": "say"}) == {"type": "say"}


@pytest.mark.parametrize(
    "guards",
    [
        note("alone"),
        "scopes",
        5,
        ["scopes"],
        [None],
        [lambda: True],
        [lambda endpoint: True],
        [lambda endpoint, call, more: True],
        [RateLimit],
        RateLimit(1, per_s=1),
    ],
)
def test_what_cannot_be_asked_is_refused_at_import(guards: Any) -> None:
    """With the event, and how it is written."""
    with pytest.raises(DefinitionError, match=r"event 'say'.*(guards=\[may_write\]|def guard\(endpoint, call\))"):

        class Guarded(Endpoint):
            @event(guards=guards)
            async def on_say(self) -> None: ...


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("before", lambda self, call: None),
        ("authenticate", lambda self: None),
    ],
)
def test_a_hook_that_cannot_be_awaited_is_refused_at_import(name: str, function: Any) -> None:
    """As the others are."""
    with pytest.raises(DefinitionError, match=f"async def {name}"):
        type("Chat", (Endpoint,), {name: function})


def test_before_without_the_call_is_refused_at_import() -> None:
    """It is called with it."""
    with pytest.raises(DefinitionError, match=r"async def before\(self, call\)"):

        class Chat(Endpoint):
            async def before(self) -> None: ...  # type: ignore[override]


def test_before_cannot_be_set_later() -> None:
    """Whether there is one is read when the class is made."""

    async def before(self: Any, call: Call) -> None: ...

    with pytest.raises(DefinitionError, match="before"):
        WithMethods.before = before


def test_an_event_may_be_called_before_or_middleware() -> None:
    """The method of that name stays the method."""

    class Chat(Endpoint):
        @event("before")
        async def on_before(self) -> Any:
            return {}

        @event
        async def middleware(self) -> Any:
            return {}

    assert [answer["type"] for answer in talk(Chat, {"type": "before"}, {"type": "middleware"}).answers] == [
        "before",
        "middleware",
    ]
    assert Chat.middleware.__func__ is Endpoint.middleware.__func__


def test_a_handler_that_is_overridden_has_its_own_guards() -> None:
    """As it has its own parameters; `before` is the class's, and inherited."""

    class Base(Endpoint):
        @event(guards=[note("base", False)])
        async def on_say(self) -> Any:
            return {}

    class Inherits(Base): ...

    class Open(Base):
        @event
        async def on_say(self) -> Any:
            return {}

    assert [ask(cls, {"type": "say"})["type"] for cls in (Base, Inherits, Open)] == ["error", "error", "say"]


def test_a_handler_that_is_called_directly_asks_nobody() -> None:
    """`await self.on_say()` is a call of the application's own."""

    class Chat(Endpoint):
        @event(guards=[note("asked", False)])
        async def on_say(self) -> Any:
            return {"said": 1}

    async def main() -> Any:
        return await Chat.__new__(Chat).on_say()

    assert (asyncio.run(main()), told) == ({"said": 1}, [])


# ---- scopes


class Scoped(Endpoint):
    @event(guards=[scopes("chat:read", "chat:write")])
    async def on_say(self) -> Any:
        return {}


class Person:
    def __init__(self, granted: Any) -> None:
        self.scopes = granted


def said_by(person: Any) -> Any:
    class Chat(Scoped):
        async def authenticate(self) -> Any:
            return person

    return ask(Chat, {"type": "say"})


@pytest.mark.parametrize(
    "granted", [["chat:read", "chat:write"], {"chat:write", "chat:read", "x"}, "chat:read chat:write"]
)
@pytest.mark.parametrize("make", [Person, lambda given: {"scopes": given}, lambda given: {"scope": given}])
def test_who_has_all_scopes_passes(granted: Any, make: Any) -> None:
    """However the user has them: an attribute, the claims of a token; a collection, or one text."""
    assert said_by(make(granted)) == {"type": "say"}


@pytest.mark.parametrize("person", [Person([]), Person("chat:read"), Person("chat:readchat:write"), {}, {"scope": ""}])
def test_who_lacks_one_is_forbidden(person: Any) -> None:
    """The answer names what is needed."""
    answer = said_by(person)
    assert (answer["code"], answer["errors"][0]["msg"]) == ("forbidden", "needs the scopes chat:read chat:write")


def test_who_has_not_signed_in_is_unauthorized() -> None:
    """Nobody has no scopes."""
    assert ask(Scoped, {"type": "say"})["code"] == "unauthorized"


@pytest.mark.parametrize("person", ["ada", 5, Person(None), Person(5), object()])
def test_a_user_that_has_no_scopes_at_all_is_a_bug(person: Any) -> None:
    """And does not pass."""
    assert said_by(person)["code"] == "internal_error"


@pytest.mark.parametrize("names", [(), ("",), ("a b",), (5,), (["a"],), ("a", None)])
def test_what_is_no_scope_is_refused_at_import(names: Any) -> None:
    """Scopes have no spaces: each is named by itself."""
    with pytest.raises(DefinitionError, match="name each by itself"):
        scopes(*names)


def test_scopes_of_starlettes_authentication_count() -> None:
    """Where an AuthenticationMiddleware is in front, and the endpoint has no user of its own."""

    class Tokens(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            if conn.query_params.get("token") == "good":
                return AuthCredentials(["chat:read", "chat:write"]), SimpleUser("ada")
            return None

    app = Starlette(
        routes=[WebSocketRoute("/", Scoped)], middleware=[Middleware(AuthenticationMiddleware, backend=Tokens())]
    )
    for path, expected in {"/?token=good": "say", "/": "error"}.items():
        with TestClient(app).websocket_connect(path) as client:
            client.send_json({"type": "say"})
            assert client.receive_json()["type"] == expected


# ---- middleware


class Item(BaseModel):
    n: int


def test_middleware_sees_what_is_wrong_with_a_message() -> None:
    """Pydantic's error, or what a validator raised; and what the handler raised."""

    def boom(value: int) -> int:
        raise KeyError("bug")

    class Chat(Endpoint):
        @event
        async def on_item(self, item: Item, n: int = 0) -> Any:
            return {}

        @event
        async def on_boom(self, n: Annotated[int, AfterValidator(boom)]) -> Any: ...

        @event
        async def on_fail(self) -> Any:
            raise EventError("mine")

    @Chat.middleware
    async def look(endpoint: Any, call: Call, handle: Any) -> Any:
        try:
            return await handle()
        except Exception as exc:
            told.append(type(exc))
            raise

    frames = [
        {"type": "item", "item": {}},
        {"type": "item", "item": {"n": 1}, "n": "x"},
        {"type": "boom", "n": 1},
        {"type": "fail"},
    ]
    codes = [answer["code"] for answer in talk(Chat, *frames).answers]
    assert codes == ["validation_error", "validation_error", "internal_error", "mine"]
    assert told == [ValidationError, ValidationError, KeyError, EventError]


def test_middleware_may_answer_otherwise() -> None:
    """Another reply, another error, its own reply without asking the handler, or none."""

    class Chat(Endpoint):
        @event
        async def on_say(self, how: str) -> Any:
            told.append(how)
            return {"how": how}

    @Chat.middleware
    async def answer(endpoint: Any, call: Call, handle: Any) -> Any:
        if call.ref == "never":
            return {"how": "not at all"}
        try:
            reply = await handle()
        except ValidationError as exc:
            raise EventError("bad_request", "no") from exc
        return None if call.ref == "silent" else {**reply, "seen": True}

    frames: list[Any] = [
        {"type": "say", "how": "x", "ref": 1},
        {"type": "say", "how": "x", "ref": "never"},
        {"type": "say", "how": 5, "ref": 3},
        {"type": "say", "how": "x", "ref": "silent"},
    ]
    answers = talk(Chat, *frames).answers
    assert answers[0] == {"type": "say", "how": "x", "seen": True, "ref": 1}
    assert answers[1] == {"type": "say", "how": "not at all", "ref": "never"}
    assert (answers[2]["code"], answers[2]["ref"]) == ("bad_request", 3)
    assert (len(answers), told) == (3, ["x", "x"])


def test_the_last_one_added_is_around_the_others() -> None:
    """And those of a subclass around those of its base."""

    def named(name: str) -> Any:
        async def middleware(endpoint: Any, call: Call, handle: Any) -> Any:
            told.append(name)
            return await handle()

        return middleware

    class Base(Endpoint):
        @event
        async def on_say(self) -> None: ...

    class Chat(Base): ...

    Chat.middleware(named("chat 1"))
    Base.middleware(named("base 1"))
    Base.middleware(named("base 2"))
    Chat.middleware(named("chat 2"))
    talk(Chat, {"type": "say"})
    assert told == ["chat 2", "chat 1", "base 2", "base 1"]
    told.clear()
    talk(Base, {"type": "say"})
    assert told == ["base 2", "base 1"]


def test_middleware_hears_at_once_of_connections_that_are_open() -> None:
    """Also where it is added while one of them is served."""

    class Chat(Endpoint):
        @event
        async def on_add(self) -> Any:
            @Chat.middleware
            async def count(endpoint: Any, call: Call, handle: Any) -> Any:
                told.append(call.event)
                return await handle()

        @event
        async def on_say(self) -> Any: ...

    talk(Chat, {"type": "say"}, {"type": "add"}, {"type": "say"})
    assert told == ["say"]


def test_a_decorator_gives_the_function_back() -> None:
    """So it can be tested, and used for two classes."""

    class A(Endpoint):
        @event
        async def on_say(self) -> None: ...

    class B(A): ...

    async def one(endpoint: Any, call: Call, handle: Any) -> Any:
        told.append(1)
        return await handle()

    assert A.middleware(B.middleware(one)) is one
    talk(B, {"type": "say"})
    assert told == [1, 1]


@pytest.mark.parametrize(
    "function",
    [
        5,
        None,
        "timed",
        lambda endpoint, call, handle: None,
        note("sync"),
        note_later("two arguments"),
    ],
)
def test_what_cannot_be_around_is_refused(function: Any) -> None:
    """With how it is written."""
    with pytest.raises(DefinitionError, match=r"async def timed\(endpoint, call, handle\)"):
        All.middleware(function)


def test_what_a_limit_refuses_passes_no_middleware() -> None:
    """The class's own comes first: a storm costs no more than it has to."""

    class Chat(Endpoint):
        rate_limit = RateLimit(1, per_s=60)

        @event
        async def on_say(self) -> None: ...

    @Chat.middleware
    async def count(endpoint: Any, call: Call, handle: Any) -> Any:
        told.append(call.event)
        return await handle()

    talk(Chat, {"type": "say"}, {"type": "say"})
    assert told == ["say"]


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize("frame", [{"type": "say", "n": "x"}, {"type": "boom", "n": 1}, {"type": "say", "n": 1}])
def test_a_connection_is_free_when_it_ends(frame: Any, swallows: bool, caplog: pytest.LogCaptureFixture) -> None:
    """No exception that passed through middleware, or ended there, keeps it until the collector comes."""
    caplog.set_level(logging.CRITICAL, "socketsundso")
    kept: list[Any] = []

    def boom(value: int) -> int:
        raise KeyError("bug")

    class Chat(Endpoint):
        async def on_connect(self) -> None:
            kept.append(weakref.ref(self))
            await super().on_connect()

        @event(guards=[note("asked")])
        async def on_say(self, n: int) -> Any:
            return {}

        @event(guards=[note("asked")])
        async def on_boom(self, n: Annotated[int, AfterValidator(boom)]) -> Any: ...

    @Chat.middleware
    async def through(endpoint: Any, call: Call, handle: Any) -> Any:
        try:
            return await handle()
        except Exception:
            if swallows:
                return None
            raise

    gc.disable()
    try:
        caplog.clear()
        talk(Chat, frame)
        caplog.clear()
        assert kept[0]() is None
    finally:
        gc.enable()


# ---- over real servers


@pytest.mark.parametrize("server", SERVERS)
def test_real_clients_are_guarded(server: str) -> None:
    """Two connections with their own users; a guard that waits holds up its own connection alone."""
    released = asyncio.Event

    class Chat(Endpoint):
        release: Any = None

        async def authenticate(self) -> Any:
            return {"scopes": self.websocket.query_params.get("scopes", "")}

        async def wait(self, call: Call) -> None:
            await Chat.release.wait()

        @event(guards=[scopes("write")])
        async def on_say(self, n: int) -> Any:
            return {"n": n}

        @event(guards=[wait])
        async def on_wait(self) -> Any:
            return {}

    async def main() -> None:
        Chat.release = released()
        options = {} if server == "ours" else {"ws": server}
        async with (
            serving(Chat, **options) as at,
            websockets.asyncio.client.connect(f"{at.url}/?scopes=write") as writer,
            websockets.asyncio.client.connect(f"{at.url}/?scopes=read") as reader,
        ):
            await writer.send('{"type":"wait"}')
            await writer.send('{"type":"say","n":"1"}')
            for frame in ('{"type":"say","n":1}', '{"type":"say","n":"1"}', '{"type":"say"}'):
                await reader.send(frame)
                assert json.loads(await reader.recv())["code"] == "forbidden"
            Chat.release.set()
            assert json.loads(await writer.recv()) == {"type": "wait"}
            assert json.loads(await writer.recv()) == {"type": "say", "n": 1}

    run(main())


def test_a_guard_that_never_returns_lets_go_when_the_server_ends() -> None:
    """It is cancelled like a handler, and `on_disconnect` gets 1012."""

    async def forever(endpoint: Any, call: Call) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append("let go")

    class Chat(Endpoint):
        async def on_disconnect(self, close_code: int) -> None:
            told.append(close_code)

        @event(guards=[forever])
        async def on_say(self) -> None:
            told.append("handler")

    asked = asyncio.Event()

    async def main() -> None:
        connection = asyncio.create_task(Peer(Chat, [{"type": "say"}]).run())
        await asked.wait()
        connection.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connection

    asyncio.run(main())
    assert told == ["let go", 1012]


# ---- middleware around dependencies


def session() -> Any:
    told.append("open")
    try:
        yield "session"
    except BaseException as exc:
        told.append(f"rolled back {type(exc).__name__}")
        raise
    else:
        told.append("committed")


async def session_async() -> Any:
    await asyncio.sleep(0)
    told.append("open")
    try:
        yield "session"
    except BaseException as exc:
        await asyncio.sleep(0)
        told.append(f"rolled back {type(exc).__name__}")
        raise
    else:
        await asyncio.sleep(0)
        told.append("committed")


def with_session(opens: Any, scope: str = "request") -> tuple[type[Endpoint], list[Any]]:
    """An endpoint whose handler has a session, and the list of what its middleware is to do with a reply."""
    doing: list[Any] = [lambda reply: reply]

    class Chat(Endpoint):
        @event
        async def on_say(self, n: int, db: Annotated[str, Depends(opens, scope=scope)]) -> Any:
            told.append("handler")
            if n < 0:
                raise EventError("negative")
            return {"n": n}

    @Chat.middleware
    async def around(endpoint: Any, call: Call, handle: Any) -> Any:
        told.append("in")
        try:
            reply = await handle()
            await asyncio.sleep(0)
            return doing[0](reply)
        finally:
            told.append("out")

    return Chat, doing


both = pytest.mark.parametrize("opens", [session, session_async])


@both
@pytest.mark.parametrize("scope", ["request", "function"])
def test_middleware_sees_the_reply_while_the_session_is_open(opens: Any, scope: str) -> None:
    """It is committed when all middleware is done with it, and what is sent is what they gave."""
    chat, doing = with_session(opens, scope)
    doing[0] = lambda reply: {**reply, "seen": True}
    for n in (1, "1"):  # the second one is judged
        told.clear()
        assert talk(chat, {"type": "say", "n": n, "ref": 7}).answers == [
            {"type": "say", "n": 1, "seen": True, "ref": 7}
        ]
        assert told == ["in", "open", "handler", "out", "committed"]


@both
def test_a_reply_that_middleware_takes_away_is_not_sent(opens: Any) -> None:
    """None is no reply; the session is committed all the same."""
    chat, doing = with_session(opens)
    doing[0] = lambda reply: None
    assert talk(chat, {"type": "say", "n": 1}).answers == []
    assert told[-1] == "committed"


@both
def test_what_middleware_raises_rolls_back(opens: Any) -> None:
    """As if the handler had raised it: nothing is committed that is answered with an error."""
    chat, doing = with_session(opens)

    def refuse(reply: Any) -> Any:
        raise EventError("not_this")

    doing[0] = refuse
    assert [answer["code"] for answer in talk(chat, {"type": "say", "n": 1}).answers] == ["not_this"]
    assert told == ["in", "open", "handler", "out", "rolled back EventError"]


@both
def test_what_the_handler_raises_reaches_sessions_and_middleware(opens: Any) -> None:
    """In this order."""
    chat, _ = with_session(opens)
    assert [answer["code"] for answer in talk(chat, {"type": "say", "n": -1}).answers] == ["negative"]
    assert told == ["in", "open", "handler", "rolled back EventError", "out"]


@both
def test_a_reply_of_middleware_that_is_none_rolls_back(opens: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be written is an error of the message, as it is without middleware."""
    caplog.set_level(logging.CRITICAL, "socketsundso")
    chat, doing = with_session(opens)
    doing[0] = lambda reply: 5
    assert [answer["code"] for answer in talk(chat, {"type": "say", "n": 1}).answers] == ["response_error"]
    assert told[-1] == "rolled back ResponseError"


@both
def test_a_message_may_be_handled_again(opens: Any) -> None:
    """Behind a reply or an error; what was opened for the first attempt is open until the reply of the last is sent."""
    chat, _ = with_session(opens)

    @chat.middleware
    async def twice(endpoint: Any, call: Call, handle: Any) -> Any:
        try:
            await handle()
        except EventError:
            return {"tried": "again"}
        return await handle()

    answers = talk(chat, {"type": "say", "n": 1}, {"type": "say", "n": -1}).answers
    assert [answer.get("tried", answer.get("n")) for answer in answers] == [1, "again"]
    assert told.count("handler") == 3
    assert not any("rolled back" in each for each in told[: told.index("committed")])


@both
def test_a_connection_that_is_cancelled_in_middleware_rolls_back(opens: Any) -> None:
    """The server ends while middleware holds a reply back."""
    chat, _ = with_session(opens)
    held = asyncio.Event()

    @chat.middleware
    async def hold(endpoint: Any, call: Call, handle: Any) -> Any:
        await handle()
        held.set()
        await asyncio.Event().wait()

    async def main() -> None:
        connection = asyncio.create_task(Peer(chat, [{"type": "say", "n": 1}]).run())
        await held.wait()
        connection.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connection

    asyncio.run(main())
    assert told[-1] == "rolled back CancelledError"


def test_middleware_that_is_added_meanwhile_leaves_a_handler_that_runs_alone() -> None:
    """It goes the way that was there when it began."""

    class Chat(Endpoint):
        @event
        async def on_add(self, db: Annotated[str, Depends(session)]) -> Any:
            @Chat.middleware
            async def count(endpoint: Any, call: Call, handle: Any) -> Any:
                told.append("in")
                return await handle()

            return {}

    assert [answer["type"] for answer in talk(Chat, {"type": "add"}, {"type": "add"}).answers] == ["add", "add"]
    assert told == ["open", "committed", "in", "open", "committed"]


# ---- what does not take turns


class Conversing(Endpoint):
    async def before(self, call: Call) -> bool:
        return call.ref != "never"

    @event(guards=[note_later("asked"), RateLimit(2, per_s=3600)])
    async def on_count(self, to: int) -> AsyncIterator[dict[str, int]]:
        for n in range(to):
            yield {"n": n}

    @event(concurrent=2, guards=[note_later("asked")])
    async def on_beside(self, n: int) -> Any:
        return {"n": n}

    @event(serial_by="room", guards=[note_later("asked")])
    async def on_keyed(self, room: str) -> Any:
        return {"room": room}


def converse(app: Any, *frames: dict[str, Any], answers: int) -> list[Any]:
    """What is answered until so many frames have come."""

    async def main() -> list[Any]:
        async with serving(app) as at, websockets.asyncio.client.connect(at.url) as client:
            for frame in frames:
                await client.send(json.dumps(frame))
            return [json.loads(await client.recv()) for _ in range(answers)]

    return run(main())  # type: ignore[no-any-return]


@pytest.mark.parametrize("to", [2, "2"], ids=["fast", "judged"])
def test_a_stream_is_guarded_like_a_handler(to: Any) -> None:
    """Before its first item; a guard that refuses is its end."""
    frames = [{"type": "count", "to": to, "ref": ref} for ref in (1, "never")]
    answers = converse(Conversing, *frames, answers=4)
    assert [each for each in answers if each["ref"] == 1] == [
        {"type": "count", "n": 0, "ref": 1},
        {"type": "count", "n": 1, "ref": 1},
        {"type": "complete", "ref": 1},
    ]
    assert [each["code"] for each in answers if each["ref"] == "never"] == ["forbidden"]
    assert told == ["asked"]


def test_a_stream_beyond_its_limit_is_refused() -> None:
    """Each start counts, however many items it has."""
    answers = converse(Conversing, *({"type": "count", "to": 0, "ref": ref} for ref in range(3)), answers=3)
    assert sorted(each.get("code", each["type"]) for each in answers) == ["complete", "complete", "rate_limited"]


@pytest.mark.parametrize(("name", "fields"), [("beside", {"n": 1}), ("beside", {"n": "1"}), ("keyed", {"room": "a"})])
def test_what_runs_beside_others_is_guarded_too(name: str, fields: Any) -> None:
    """One that is refused is answered, and its turn goes on to the next."""
    frames = [{"type": name, **fields, "ref": ref} for ref in (1, "never", 2)]
    answers = converse(Conversing, *frames, answers=3)
    assert {each["ref"]: each.get("code", each["type"]) for each in answers} == {1: name, "never": "forbidden", 2: name}


def test_cancels_count_for_the_limit_of_the_class() -> None:
    """A storm of them is one, too."""

    class Limited(Conversing):
        rate_limit = RateLimit(3, per_s=3600)

    answers = converse(Limited, *[{"type": "cancel", "ref": 1}] * 4, {"type": "count", "to": 0, "ref": 2}, answers=2)
    assert [each["code"] for each in answers] == ["rate_limited"] * 2


def test_middleware_is_around_the_call_that_begins_a_stream() -> None:
    """It sees what gives the items, before the first of them."""

    class Chat(Conversing): ...

    @Chat.middleware
    async def look(endpoint: Any, call: Call, handle: Any) -> Any:
        items = await handle()
        told.append(hasattr(items, "__aiter__"))
        return items

    answers = converse(Chat, {"type": "count", "to": 1, "ref": 1}, answers=2)
    assert [each["type"] for each in answers] == ["count", "complete"]
    assert told == ["asked", True]
