"""What handlers raise, as reported elsewhere: broken exceptions, groups, stray cancellations, secrets in texts."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketDisconnect

from socketsundso import Endpoint, EventError, event
from tests.harness import Peer, talk


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text today")


class Forgetful(EventError):
    """It does not call `super().__init__`."""

    def __init__(self) -> None: ...


class Coded(EventError):
    code = "coded"

    def __init__(self) -> None: ...


def validation_error(annotation: Any, value: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(annotation).validate_python(value)
    return caught.value


def told(exc: ValidationError) -> EventError:
    return EventError.from_validation(exc, include_input=True)


def refuse(**context: Any) -> Any:
    def validate(value: Any) -> Any:
        raise PydanticCustomError("custom", "no {a}", context)

    return Annotated[Any, AfterValidator(validate)]


def answers(make: Any) -> list[Any]:
    """The codes that a handler which raises `make()` answers with, and then one that works."""

    class App(Endpoint):
        @event
        async def on_x(self) -> None:
            raise make()

        @event
        async def on_ok(self) -> Any:
            return {"code": "ok"}

    peer = talk(App, {"type": "x", "ref": 7}, {"type": "ok"})
    assert all(answer.get("ref") == 7 for answer in peer.answers[:-1])
    return [answer["code"] for answer in peer.answers]


class Int(BaseModel):
    a: int


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (Unprintable, "internal_error"),
        (Forgetful, "internal_error"),
        (Coded, "coded"),
        (lambda: EventError("c", errors=[{"msg": Unprintable()}]), "c"),
        (lambda: EventError("c", errors=[{1: {2: object()}}]), "c"),
        (lambda: EventError("c", "\ud800"), "c"),
        (lambda: EventError("c", "x" * 1_000_000), "c"),
        (lambda: HTTPException(403, {"a": Unprintable()}), "forbidden"),  # type: ignore[arg-type]
        (lambda: HTTPException(-1), "http_-1"),
        (lambda: told(validation_error(refuse(a="\ud800"), 1)), "validation_error"),
        (lambda: validation_error(refuse(a="\ud800"), 1), "internal_error"),
        (lambda: told(validation_error(refuse(a={1}, b=b"\xff", c=10**400, d=float("nan")), 1)), "validation_error"),
        (lambda: validation_error(refuse(a={1}, b=b"\xff", c=10**400, d=float("nan")), 1), "internal_error"),
        (lambda: told(validation_error(int, Unprintable())), "validation_error"),
        (lambda: validation_error(int, Unprintable()), "internal_error"),
        (lambda: told(validation_error(Int, {"a": Unprintable()})), "validation_error"),
        (lambda: validation_error(Int, {"a": Unprintable()}), "internal_error"),
        (lambda: told(validation_error(dict[int, int], {(1, 2): "z", "\ud800": b"\xff"})), "validation_error"),
        (lambda: validation_error(dict[int, int], {(1, 2): "z", "\ud800": b"\xff"}), "internal_error"),
        (lambda: told(validation_error(list[int], ["z"] * 100_000)), "validation_error"),
        (lambda: validation_error(list[int], ["z"] * 100_000), "internal_error"),
        (StopAsyncIteration, "internal_error"),
        (StopIteration, "internal_error"),
        (TimeoutError, "internal_error"),
        (asyncio.CancelledError, "internal_error"),
        (RecursionError, "internal_error"),
        (MemoryError, "internal_error"),
        (lambda: msgspec.DecodeError("not this frame's"), "internal_error"),
        (lambda: ExceptionGroup("g", [ValueError(), KeyError()]), "internal_error"),
        (lambda: ExceptionGroup("g", [EventError("a"), EventError("b")]), "internal_error"),
        (lambda: ExceptionGroup("g", [EventError("a")]), "a"),
        (lambda: ExceptionGroup("g", [ExceptionGroup("g", [HTTPException(401)])]), "unauthorized"),
    ],
)
def test_every_exception_has_its_one_answer(make: Any, code: str) -> None:
    """However broken the exception is, the message is answered with its ref, once, and the connection lives."""
    assert answers(make) == [code, "ok"]


@pytest.mark.parametrize("n", [1, "1"])
def test_a_cancelled_task_that_a_handler_awaits_is_no_shutdown(n: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Only a cancellation of the connection's own task ends it."""

    class App(Endpoint):
        @event
        async def on_x(self, n: int) -> None:
            task = asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
            task.cancel()
            await task

        @event
        async def on_ok(self) -> Any:
            return {"code": "ok"}

    codes = [answer["code"] for answer in talk(App, {"type": "x", "n": n}, {"type": "ok"}).answers]
    assert codes == ["internal_error", "ok"]
    assert "awaited something that was cancelled" in caplog.text


def test_a_task_group_that_finds_the_peer_gone_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """Several sends at once, and each raises the quiet disconnect: still nothing to log."""

    class App(Endpoint):
        @event
        async def on_x(self) -> None:
            peer.gone = True
            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(self.send({"type": "news"}))

    peer = Peer(App, [{"type": "x"}], code=1001)
    asyncio.run(peer.run())
    assert not caplog.records


def test_a_group_with_one_failure_among_disconnects_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is not hidden by the peer's leaving."""

    class App(Endpoint):
        @event
        async def on_x(self) -> None:
            raise ExceptionGroup("both", [WebSocketDisconnect(1001), KeyError("bug")])

    talk(App, {"type": "x"})
    assert "bug" in caplog.text


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Colour(msgspec.Struct):
    name: Literal["red"]


@pytest.mark.parametrize(
    "message",
    [
        {"pet": {"kind": "SECRET"}},
        {"pets": [{"kind": "SECRET"}]},
        {"colour": {"name": "SECRET"}},
        {"colours": [{"name": "SECRET"}]},
        {"n": "SECRET"},
        {"pet": "SECRET"},
    ],
)
def test_no_text_quotes_what_was_sent_if_inputs_are_kept_out(message: Any) -> None:
    """A union's unknown tag and msgspec's invalid values stand in the texts of their errors."""
    Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

    def on_x(n: int = 0, pet: Any = None, pets: Any = (), colour: Colour | None = None, colours: Any = ()) -> None: ...

    on_x.__annotations__ = {"n": int, "pet": Pet | None, "pets": list[Pet], "colour": Colour | None,
                            "colours": list[Colour]}  # fmt: skip

    class Open(Endpoint):
        x = event("x")(on_x)

    class Closed(Open):
        include_input = False

    for app, quotes in ((Open, True), (Closed, False)):
        (sent,) = [m["text"] for m in talk(app, {"type": "x", **message}).sent if m["type"] == "websocket.send"]
        assert ("SECRET" in sent) is quotes
        assert '"code":"validation_error"' in sent
