"""Error frames: how exceptions look on the wire, and what may be hidden or overridden."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError
from starlette.exceptions import HTTPException

from socketsundso import EventError, WebSocketHandlingEndpoint, event
from tests.harness import ask, talk


def failing(value: int) -> int:
    raise KeyError("a bug in a validator")


class Item(BaseModel):
    x: int


class App(WebSocketHandlingEndpoint):
    @event
    async def on_event_error(self) -> None:
        raise EventError("sold_out", errors=[{"type": "stock", "loc": ["item"], "msg": "none left", "left": 0}])

    @event
    async def on_http(self, status: int) -> None:
        raise HTTPException(status, "because")

    @event
    async def on_own_validation(self) -> None:
        Item.model_validate({"x": "pbkdf2:hunter2"})

    @event
    async def on_told_validation(self, include_input: bool) -> None:
        try:
            Item.model_validate({"x": "y"})
        except ValidationError as exc:
            raise EventError.from_validation(exc, include_input=include_input) from exc

    @event
    async def on_bug(self) -> None:
        raise RuntimeError("the password is hunter2")

    @event(thread=False)
    def on_inline_bug(self) -> None:
        raise UnicodeDecodeError("utf-8", b"", 0, 1, "not the frame's fault")

    @event
    async def on_validator_bug(self, n: Annotated[int, AfterValidator(failing)]) -> None: ...

    @event
    async def on_secret(self, secret: Annotated[SecretStr, AfterValidator(lambda v: v)], n: int) -> None: ...


def test_event_error() -> None:
    """Its code and its list, with the ref."""
    assert ask(App, {"type": "event_error", "ref": 1}) == {
        "type": "error",
        "code": "sold_out",
        "ref": 1,
        "errors": [{"type": "stock", "loc": ["item"], "msg": "none left", "left": 0}],
    }


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthorized"), (403, "forbidden"), (404, "not_found"), (408, "timeout"), (409, "conflict"),
     (429, "rate_limited"), (500, "internal_error"), (799, "http_799")],
)  # fmt: skip
def test_http_exception(status: int, code: str) -> None:
    """Starlette's exception becomes the code that HTTP would have said."""
    answer = ask(App, {"type": "http", "status": status})
    assert (answer["code"], answer["errors"][0]["msg"], answer["errors"][0]["status_code"]) == (code, "because", status)


@pytest.mark.parametrize("base", [{}, {"ref": 7}])
def test_a_validation_error_of_the_applications_own_code(
    base: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A bug: logged with its traceback, and nothing of what was validated goes to the client."""
    want = {"type": "error", "code": "internal_error", "errors": [], **base}
    assert ask(App, {"type": "own_validation", **base}) == want
    assert "'own_validation'" in caplog.records[0].getMessage()
    assert caplog.records[0].exc_info


def test_a_validation_error_that_is_meant_as_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """`EventError.from_validation` tells pydantic's list, and the input only on demand."""
    frames = [{"type": "told_validation", "include_input": told} for told in (False, True)]
    without, with_input = talk(App, *frames).answers
    assert (without["code"], without["errors"][0]["loc"]) == ("validation_error", ["x"])
    assert "input" not in without["errors"][0]
    assert with_input["errors"][0]["input"] == "y"
    assert not caplog.records


def test_what_pydantic_quotes_of_the_applications_values_is_not_told() -> None:
    """Without include_input no text and no ctx of `EventError.from_validation` holds a value; its places are told."""

    class Row(BaseModel):
        when: datetime
        id: UUID
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]
        limits: dict[str, int]

    values = {"when": "s3cret", "id": "s3cret", "pet": {"kind": "s3cret"}, "limits": {"day": "s3cret"}}

    class Store(WebSocketHandlingEndpoint):
        @event
        async def on_row(self, told: bool) -> None:
            try:
                Row.model_validate(values)
            except ValidationError as exc:
                raise EventError.from_validation(exc, include_input=told) from exc

    without, with_input = talk(Store, {"type": "row", "told": False}, {"type": "row", "told": True}).answers
    assert "s3cret" not in str(without)
    assert [error["loc"] for error in without["errors"]] == [["when"], ["id"], ["pet"], ["limits", "day"]]
    assert [error["type"] for error in without["errors"]] == [error["type"] for error in with_input["errors"]]
    assert "s3cret" in with_input["errors"][2]["msg"]


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


def test_a_later_message_does_not_inherit_what_was_wrong_with_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    """The client's fault is told, the application's right behind it is not."""

    class Both(WebSocketHandlingEndpoint):
        @event
        async def on_x(self, n: int) -> None:
            Item.model_validate({"x": "hunter2"})

    answers = talk(Both, {"type": "x", "n": "no"}, {"type": "x", "n": "1"}, {"type": "x", "n": 1}).answers
    assert [answer["code"] for answer in answers] == ["validation_error", "internal_error", "internal_error"]


@pytest.mark.parametrize("name", ["bug", "inline_bug"])
def test_an_unexpected_exception(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Logged with event, client and traceback; answered without its text; the connection lives."""
    peer = talk(App, {"type": name, "ref": 1}, {"type": name, "ref": 2})
    want = {"type": "error", "code": "internal_error", "errors": []}
    assert peer.answers == [{**want, "ref": 1}, {**want, "ref": 2}]
    record = caplog.records[0]
    assert f"'{name}'" in record.getMessage()
    assert "192.0.2.1:1234" in record.getMessage()
    assert record.exc_info


def test_a_validator_with_a_bug_is_the_applications_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Not the client's: logged and answered internal_error."""
    assert ask(App, {"type": "validator_bug", "n": 1})["code"] == "internal_error"
    assert "a bug in a validator" in caplog.text


def test_input_can_be_kept_out() -> None:
    """`include_input=False` echoes nothing of what was sent."""

    class Quiet(App):
        include_input = False

    loud, quiet = (talk(app, {"type": "secret", "secret": "hunter2"}).sent[1]["text"] for app in (App, Quiet))
    assert "hunter2" in loud
    assert "hunter2" not in quiet
    assert "hunter2" not in talk(Quiet, {"hunter2": 1}).sent[1]["text"]


def test_events_can_be_kept_secret() -> None:
    """`disclose_events=False` lists no event, and still says what was given."""

    class Closed(App):
        disclose_events = False

    answer = ask(Closed, {"type": "nope"})
    assert answer["errors"][0]["ctx"] == {"given": "nope"}
    assert "event_error" not in str(answer)


def test_many_events_are_not_all_listed() -> None:
    """An unknown event's answer stays small on an endpoint of a thousand events."""

    class Big(WebSocketHandlingEndpoint):
        pass

    for n in range(1000):
        Big.event(f"event_number_{n}")(lambda: {})
    answer = talk(Big, {"type": "nope"}).sent[1]["text"]
    assert len(answer) < 20_000
    assert ask(Big, {"type": "event_number_999"}) == {"type": "event_number_999"}


def test_legacy_errors() -> None:
    """The 0.0.x frame has only `errors`."""

    class Old(App):
        legacy_errors = True

    assert ask(Old, {"type": "secret", "secret": "s", "ref": 1}).keys() == {"errors"}


def test_the_ref_key_can_be_renamed() -> None:
    """`ref_key` is the key of requests and answers; `ref` is then an ordinary one."""

    class Renamed(WebSocketHandlingEndpoint):
        ref_key = "id"

        @event
        async def on_x(self, ref: int) -> Any:
            return {"ref": ref}

    assert ask(Renamed, {"type": "x", "ref": 5, "id": 6}) == {"type": "x", "ref": 5, "id": 6}
    assert ask(Renamed, {"type": "x", "id": 6})["id"] == 6


def test_send_exception_can_be_overridden(caplog: pytest.LogCaptureFixture) -> None:
    """It gets every exception that is answered; one that fails itself is logged."""

    class Own(App):
        async def send_exception(self, exc: Exception) -> None:
            if isinstance(exc, EventError):
                raise RuntimeError("send_exception failed")
            await self.send({"type": "oops", "kind": type(exc).__name__})

    peer = talk(Own, {"type": "secret"}, {"type": "bug"}, {"type": "nope"}, {"type": "bug"})
    assert [a["kind"] for a in peer.answers] == ["ValidationError", "RuntimeError", "RuntimeError"]
    assert "send_exception failed" in caplog.text


def test_respond_can_be_overridden() -> None:
    """It gets the validated reply, as in 0.0.x, and may send what it likes."""

    class Own(WebSocketHandlingEndpoint):
        @event
        async def on_item(self) -> Item:
            return {"x": "1"}  # type: ignore[return-value]

        async def respond(self, response: Any) -> None:
            seen.append(response)
            await super().respond(response)

    seen: list[Any] = []
    assert ask(Own, {"type": "item", "ref": 3}) == {"type": "item", "x": 1, "ref": 3}
    assert seen == [Item(x=1)]


def test_a_bad_reply_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    """`response_error` with loc ["response", ...], no value of the server's, and the connection lives."""

    class Bad(WebSocketHandlingEndpoint):
        @event
        async def on_item(self) -> Item:
            return {"x": "hunter2"}  # type: ignore[return-value]

        @event
        async def on_list(self) -> Any:
            return [1]

        @event
        async def on_object(self) -> Any:
            return {"o": object()}

    peer = talk(Bad, {"type": "item", "ref": 1}, {"type": "list"}, {"type": "object"})
    assert [a["code"] for a in peer.answers] == ["response_error"] * 3
    assert peer.answers[0]["errors"][0]["loc"] == ["response", "x"]
    assert peer.answers[0]["ref"] == 1
    assert "hunter2" not in peer.sent[1]["text"]
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 3


def test_what_a_validator_puts_into_ctx_is_made_presentable() -> None:
    """A custom error may carry any object, other than JSON's, too deep or too large: the answer is still JSON."""
    from pydantic_core import PydanticCustomError

    deep: Any = "bottom"
    for _ in range(500):
        deep = [deep]

    def refuse(value: int) -> int:
        raise PydanticCustomError(
            "odd", "odd", {"list": [object], "deep": deep, "big": 2**70, "huge": 2**5000, "x": 1.5}
        )

    class Odd(WebSocketHandlingEndpoint):
        @event
        async def on_x(self, n: Annotated[int, AfterValidator(refuse)]) -> None: ...

    ctx = ask(Odd, {"type": "x", "n": 1})["errors"][0]["ctx"]
    assert (ctx["x"], ctx["big"]) == (1.5, float(2**70))


def test_an_error_whose_text_cannot_be_made_is_counted() -> None:
    """A validator's error with a str() that fails costs the list, not the connection."""

    class Unprintable(ValueError):
        def __str__(self) -> str:
            raise KeyError("no text")

    def refuse(value: int) -> int:
        raise Unprintable

    class Odd(WebSocketHandlingEndpoint):
        @event
        async def on_x(self, n: Annotated[int, AfterValidator(refuse)]) -> None: ...

    peer = talk(Odd, {"type": "x", "n": 1}, {"type": "x", "n": 1})
    assert len(peer.answers) == 2
    assert peer.answers[0]["type"] == "error"


def test_exceptions_after_the_exact_path_are_answered_alike() -> None:
    """A frame that pydantic coerced is handled like any other: errors, closes, threads and replies."""

    class Exact(WebSocketHandlingEndpoint):
        @event
        async def on_fail(self, n: int) -> None:
            raise EventError("no")

        @event
        def on_thread(self, n: int) -> Any:
            return {"n": n}

        @event
        async def on_nothing(self, n: int) -> None: ...

        @event
        async def on_close(self, n: int) -> None:
            await self.close(4000)
            raise RuntimeError("too late to be answered")

    frames = [{"type": name, "n": "1"} for name in ("fail", "thread", "nothing", "close")]
    peer = talk(Exact, *frames)
    assert [answer.get("code", answer.get("n")) for answer in peer.answers] == ["no", 1]
    assert peer.closed == 4000


class Opaque:
    """JSON knows nothing of it, pydantic neither."""

    def __str__(self) -> str:
        return "opaque"


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("half of a \ud83d pair", "half of a ? pair"),
        ({(1, 2): "\ud800"}, {"(1, 2)": "?"}),
        (("\ud800", 1, 1.5, None, True, Opaque()), ["?", 1, 1.5, None, True, "opaque"]),
        (["\ud800", 2**70], ["?", float(2**70)]),
        (["\ud800", 2**5000], ["?", "<class 'int'>"]),
        (["\ud800", -(2**63)], ["?", -(2**63)]),
    ],
)
def test_details_that_are_not_json(value: Any, shown: Any) -> None:
    """What an application puts into an error is shown as well as JSON can, never a reason to fail."""

    class Odd(WebSocketHandlingEndpoint):
        @event
        async def on_x(self) -> None:
            raise EventError("odd", errors=[{"type": "odd", "loc": [], "msg": "odd", "value": value}])

    assert ask(Odd, {"type": "x"})["errors"][0]["value"] == shown


def test_details_that_nest_too_deeply_are_cut() -> None:
    """Ten thousand lists within each other, which no encoder takes, are cut."""

    class Odd(WebSocketHandlingEndpoint):
        @event
        async def on_x(self) -> None:
            raise EventError("odd", errors=[{"type": "odd", "loc": [], "msg": "odd", "value": nested(10_000)}])

    answer = str(ask(Odd, {"type": "x"}))
    assert answer.count("[") < 300
    assert "…" in answer
