"""What is declared for those who read a contract: errors of an application, words, tags, security; and its mistakes."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
import pytest
from fastapi.security import APIKeyCookie, OAuth2AuthorizationCodeBearer
from fastapi.security import HTTPBearer as FastAPIBearer
from pydantic import BaseModel

from socketsundso import DefinitionError, Endpoint, EventError, event, scopes
from socketsundso.security import APIKeyQuery, HTTPBasic, HTTPBearer, OAuth2PasswordBearer, OpenIdConnect
from socketsundso.security import asyncapi_scheme as scheme_of
from tests.harness import ask, talk


class SoldOut(EventError):
    """Fewer are left than were asked for."""

    code = "sold_out"
    msg = "only {left} left"
    left: int


class Item(BaseModel):
    price: Decimal
    secret: str = "x"


class Point(msgspec.Struct):
    x: int


class Rich(EventError):
    code = "rich"
    at: datetime
    item: Item
    point: Point
    kind: ClassVar[str] = "no detail"
    note: str | None = None


RICH = Rich(at=datetime(2026, 1, 2, tzinfo=UTC), item=Item(price=Decimal("1.50")), point=Point(1))


class NotHere(EventError):
    code = "not_here"
    msg = "enter the room first"


def answer_to(error: Exception, **settings: Any) -> Any:
    class Shop(Endpoint):
        @event
        async def on_buy(self) -> None:
            raise error

    for name, value in settings.items():
        Shop = type("Shop", (Shop,), {name: value})  # type: ignore[misc]  # with one more setting
    return ask(Shop, {"type": "buy", "ref": 7})


# ---- errors of an application


def test_an_error_tells_its_details_as_ctx() -> None:
    assert answer_to(SoldOut(left=3)) == {
        "type": "error",
        "code": "sold_out",
        "ref": 7,
        "errors": [{"type": "sold_out", "loc": [], "msg": "only 3 left", "ctx": {"left": 3}}],
    }


def test_details_are_written_as_a_reply_of_these_fields_would_be() -> None:
    """Dates, decimals, models and Structs as pydantic and msgspec write them, not as their `str`."""
    (error,) = answer_to(RICH)["errors"]
    assert error["msg"] == "rich"
    assert error["ctx"] == {
        "at": "2026-01-02T00:00:00Z",
        "item": {"price": "1.50", "secret": "x"},
        "point": {"x": 1},
        "note": None,
    }


def test_details_are_told_also_where_inputs_are_not() -> None:
    """They are the application's own words."""
    assert answer_to(SoldOut(left=3), include_input=False)["errors"][0]["ctx"] == {"left": 3}


def test_an_error_without_details_has_its_text_from_the_class() -> None:
    assert answer_to(NotHere())["errors"] == [{"type": "not_here", "loc": [], "msg": "enter the room first"}]


def test_details_that_are_not_as_declared_are_a_response_error_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What a client reads has the declared types, or is not told."""
    answer = answer_to(SoldOut(left="secret"))  # type: ignore[arg-type]  # the mistake
    assert answer["code"] == "response_error"
    assert "secret" not in str(answer)
    assert "SoldOut" in caplog.text


def test_what_can_be_read_as_the_declared_type_is_converted() -> None:
    """As in replies."""
    assert answer_to(SoldOut(left="3"))["errors"][0]["ctx"] == {"left": 3}  # type: ignore[arg-type]  # the mistake


def test_details_are_attributes_and_survive_a_pickle() -> None:
    """An error may come from a pool of processes."""
    copy = pickle.loads(pickle.dumps(SoldOut(left=3)))
    assert (type(copy), copy.left, copy.errors, str(copy)) == (
        SoldOut,
        3,
        SoldOut(left=3).errors,
        "sold_out: only 3 left",
    )


def test_a_subclass_has_the_details_of_its_base_too() -> None:
    class Worse(SoldOut):
        code = "worse"
        until: int = 5

    assert Worse(left=1).errors[0]["ctx"] == {"left": 1, "until": 5}


def test_an_error_that_has_an_init_of_its_own_stays_as_it_is() -> None:
    class Own(EventError):
        code = "own"
        left: int

        def __init__(self, left: int) -> None:
            super().__init__("own", f"{left} left")
            self.left = left

    assert (Own(3).errors, Own.detail_names) == ([{"type": "own", "loc": [], "msg": "3 left"}], ())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SoldOut(), "SoldOut needs left=..."),
        (lambda: SoldOut(left=3, lft=4), "SoldOut has no detail 'lft'; did you mean 'left'?"),
        (lambda: EventError(), "EventError needs a code"),
    ],
)
def test_an_error_that_is_made_wrongly_is_a_type_error(make: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text.replace("?", r"\?")):
        make()


def error(**namespace: Any) -> type[EventError]:
    annotations = namespace.pop("annotations", {})
    return type("Odd", (EventError,), {"__annotations__": annotations, **namespace})


class AlsoSoldOut(EventError):
    code = "sold_out"


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ([error()], "Odd has no code to be told from other errors by; give its class one"),
        ([error(code="")], "has no code"),
        ([error(code=5)], "has no code"),
        ([error(code="validation_error")], "'validation_error', which is this package's own; give it another one"),
        ([error(code="forbidden", annotations={"why": str})], "'forbidden', which is this package's own"),
        ([SoldOut, AlsoSoldOut], "SoldOut and .*AlsoSoldOut both have the code 'sold_out'; give one of them another"),
        ([error(code="odd", annotations={"call": type(print)})], "Odd.call: .* is told as JSON, and cannot be"),
        (
            [error(code="odd", msg="{lft}", annotations={"left": int})],
            "Odd.msg is '{lft}', which cannot be filled in with left",
        ),
        ([error(code="odd", annotations={"left": "Nowhere"})], "Odd: name 'Nowhere' is not defined; define the name"),
        ([dataclasses.dataclass(error(code="odd"))], "Odd is a dataclass, .*; leave @dataclass out"),
        ([ValueError], "lists subclasses of EventError"),
        ([EventError("sold_out")], "lists subclasses of EventError"),
        (["sold_out"], "lists subclasses of EventError"),
        (SoldOut, r"it is a list of classes: errors=\[SoldOut\]"),
        ("sold_out", "it is a list of classes"),
    ],
)
def test_an_error_that_clients_could_not_use_is_refused_at_import(errors: Any, text: str) -> None:
    with pytest.raises(DefinitionError, match=f"event 'buy'.*{text}"):

        @event("buy", errors=errors)
        async def buy(self: Any) -> None: ...


def test_two_events_cannot_declare_one_code_by_two_classes() -> None:
    """A client has one class for a code."""

    class Shop(Endpoint):
        @event(errors=[SoldOut])
        async def on_buy(self) -> None: ...

    with pytest.raises(DefinitionError, match="class Shop: .* both have the code 'sold_out'"):

        @Shop.event(errors=[AlsoSoldOut])
        async def sell(self: Any) -> None: ...

    assert list(Shop.handlers) == ["buy"]


def test_a_code_that_guards_answer_with_may_be_declared_by_name() -> None:
    """`forbidden` and `unauthorized` are words of applications too; they have no details."""
    event("buy", errors=[error(code="forbidden")])(lambda self: None)


def test_a_detail_cannot_be_private() -> None:
    with pytest.raises(DefinitionError, match="_left: a detail is told to clients; name it without an underscore"):
        error(code="odd", annotations={"_left": int})


# ---- words, tags, what is not told


@pytest.mark.parametrize("options", [{"tags": "orders"}, {"tags": [1]}, {"tags": None}])
def test_tags_are_a_list_of_texts(options: Any) -> None:
    with pytest.raises(DefinitionError, match="it is a list of texts: tags="):
        event("buy", **options)(lambda self: None)
    with pytest.raises(DefinitionError, match="class Shop: tags is"):
        type("Shop", (Endpoint,), options)


@pytest.mark.parametrize("name", ["tags", "security", "include_in_schema"])
def test_what_is_told_of_a_class_cannot_be_changed_later(name: str) -> None:
    class Shop(Endpoint): ...

    with pytest.raises(DefinitionError, match=f"Shop.{name} is read when the class is created"):
        setattr(Shop, name, [])


def test_an_event_that_is_not_in_the_contract_is_not_listed_by_an_answer_either() -> None:
    """It works; who asks for an unknown event does not hear of it."""

    class Shop(Endpoint):
        @event
        async def on_buy(self) -> None: ...
        @event(include_in_schema=False)
        async def on_debug(self) -> dict[str, int]:
            return {"n": 1}

    unknown, known = talk(Shop, {"type": "?"}, {"type": "debug"}).answers
    assert unknown["errors"][0]["ctx"]["permitted"] == ["buy"]
    assert known == {"type": "debug", "n": 1}


# ---- security


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        (APIKeyQuery(name="token"), {"type": "httpApiKey", "in": "query", "name": "token"}),
        (HTTPBearer(bearerFormat="JWT"), {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}),
        (HTTPBasic(description="Ask ada."), {"type": "http", "scheme": "basic", "description": "Ask ada."}),
        (OpenIdConnect(openIdConnectUrl="/id"), {"type": "openIdConnect", "openIdConnectUrl": "/id"}),
        (
            OAuth2PasswordBearer(tokenUrl="token", scopes={"chat:read": "Read."}),
            {"type": "oauth2", "flows": {"password": {"tokenUrl": "token", "availableScopes": {"chat:read": "Read."}}}},
        ),
        (APIKeyCookie(name="session"), {"type": "httpApiKey", "in": "cookie", "name": "session"}),
        (FastAPIBearer(), {"type": "http", "scheme": "bearer"}),
        (
            OAuth2AuthorizationCodeBearer(authorizationUrl="/a", tokenUrl="/t"),
            {
                "type": "oauth2",
                "flows": {"authorizationCode": {"authorizationUrl": "/a", "tokenUrl": "/t", "availableScopes": {}}},
            },
        ),
    ],
)
def test_a_scheme_is_told_in_asyncapis_words(scheme: Any, told: Any) -> None:
    """Ours and FastAPI's."""
    assert scheme_of(scheme) == told


@pytest.mark.parametrize("security", [HTTPBearer(), [HTTPBearer], ["bearer"], "bearer", {"bearer": {}}])
def test_what_is_no_security_scheme_is_refused_at_import(security: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Shop.security .* security = \[HTTPBearer\(\)\]"):
        type("Shop", (Endpoint,), {"security": security})


def test_a_guard_tells_which_scopes_it_asks_for() -> None:
    assert scopes("chat:read", "chat:write").scopes == ("chat:read", "chat:write")  # type: ignore[attr-defined]  # of its class
