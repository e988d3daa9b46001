"""Calls: the server asks and a client answers, in every shape, late, never, too often, or leaves."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator
from starlette.websockets import WebSocketDisconnect

from socketsundso import (
    CallFailed,
    CallRefused,
    CallTimeout,
    DefinitionError,
    Endpoint,
    InvalidAnswer,
    RateLimit,
    event,
)
from tests.connection.conversing import talking
from tests.harness import talk
from tests.rooms import serving as servers
from tests.rooms.serving import WAIT_S, Client, run, serving
from tests.server.serving import serving as stopping


@pytest.fixture(params=["websockets-sansio", servers.OURS], ids=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(servers, "protocol", request.param)
    return str(request.param)


served = pytest.mark.usefixtures("server")


class Ask(BaseModel):
    question: str


class Answer(BaseModel):
    yes: bool


class Count(msgspec.Struct):
    to: int


class Asking(Endpoint):
    """What its calls gave, or raised, is in `log`."""

    calls = {Ask: Answer, Count: int}
    log: list[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.log = []

    async def asks(self, timeout_s: float = WAIT_S) -> dict[str, Any]:
        try:
            answer = await self.call(Ask(question="sure?"), returns=Answer, timeout_s=timeout_s)
        except BaseException as exc:
            self.log.append(exc)
            raise
        self.log.append(answer)
        return {"yes": answer.yes}

    @event
    async def on_pay(self, timeout_s: float = WAIT_S) -> dict[str, Any]:
        return await self.asks(timeout_s)

    @event(concurrent=True)
    async def on_buy(self) -> dict[str, Any]:
        return await self.asks()

    @event
    async def on_count(self, to: int) -> AsyncIterator[dict[str, Any]]:
        for n in range(to):
            yield {"n": n, "given": await self.call(Count(to=n), returns=int)}

    @event
    async def on_begin(self) -> None:
        self.spawn(self.asks())

    @event
    async def on_ping(self, n: int = 0) -> dict[str, int]:
        return {"n": n}

    async def on_disconnect(self, close_code: int) -> None:
        self.log.append(close_code)

    @classmethod
    async def has(cls, condition: Callable[[list[Any]], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition(cls.log):
                await asyncio.sleep(0.002)


async def asked(client: Client, type_: str, **fields: Any) -> dict[str, Any]:
    """Send an event, and receive the question that its handler asks."""
    await client.send(type_, **fields)
    return await client.receive()


def replied(app: type[Asking], type_: str, reply: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The messages that follow when the question of a handler gets this reply."""
    answers: list[dict[str, Any]] = []

    async def main(client: Client) -> None:
        question = await asked(client, type_, ref=7)
        await client.send("reply", ref=question["ref"], **reply)
        answers.extend(await client.receives(count))

    talking(app, main)
    return answers


# ---- an answer


@served
def test_an_answer_is_what_was_declared() -> None:
    """The question goes out with a ref, the reply with that ref ends the wait."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        assert await asked(client, "pay", ref=7) == {"type": "ask", "question": "sure?", "ref": "s:1"}
        await client.send("reply", ref="s:1", answer={"yes": True})
        assert await client.receive() == {"type": "pay", "yes": True, "ref": 7}
        assert App.log == [Answer(yes=True)]

    talking(App, main)


@served
@pytest.mark.parametrize("how", ["pay", "buy", "begin"])
def test_whoever_may_wait_may_ask(how: str) -> None:
    """A handler in turn, one beside the others, a task."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        question = await asked(client, how)
        await client.send("reply", ref=question["ref"], answer={"yes": False})
        await App.has(lambda log: log == [Answer(yes=False)])

    talking(App, main)


@served
def test_a_stream_asks_between_its_items() -> None:
    """Each item with what the client has answered."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        await client.send("count", to=2, ref=1)
        for n in range(2):
            question = await client.receive()
            assert (question["type"], question["to"]) == ("count", n)
            await client.send("reply", ref=question["ref"], answer=n * 10)
            assert await client.receive() == {"type": "count", "n": n, "given": n * 10, "ref": 1}
        assert await client.receive() == {"type": "complete", "ref": 1}

    talking(App, main)


@served
def test_a_handler_in_a_thread_asks() -> None:
    """`self.sync.call` gives the answer, and raises what the call raises."""

    class App(Asking):
        @event
        def on_threaded(self) -> dict[str, Any]:
            try:
                return {"given": self.sync.call(Count(to=1), returns=int)}
            except CallRefused as exc:
                return {"refused": exc.code}

    async def main(client: Client) -> None:
        question = await asked(client, "threaded")
        await client.send("reply", ref=question["ref"], answer=5)
        assert (await client.receive())["given"] == 5
        question = await asked(client, "threaded")
        await client.send("reply", ref=question["ref"], error={"code": "busy"})
        assert (await client.receive())["refused"] == "busy"

    talking(App, main)


@served
def test_several_calls_wait_at_once() -> None:
    """Each gets its own answer, in whatever order they come."""

    class App(Asking):
        @event
        async def on_three(self) -> dict[str, Any]:
            return {"given": await asyncio.gather(*(self.call(Count(to=n), returns=int) for n in range(3)))}

    async def main(client: Client) -> None:
        await client.send("three")
        for question in reversed(await client.receives(3)):
            await client.send("reply", ref=question["ref"], answer=question["to"] + 10)
        assert (await client.receive())["given"] == [10, 11, 12]

    talking(App, main)


@served
def test_a_task_of_on_connect_asks() -> None:
    """A greeting that wants an answer; `on_connect` itself would wait for ever, and says so."""

    class App(Asking):
        async def on_connect(self) -> None:
            await super().on_connect()
            self.spawn(self.asks())
            with pytest.raises(RuntimeError, match="self.spawn"):
                await self.asks()

    async def main(client: Client) -> None:
        question = await client.receive()
        await client.send("reply", ref=question["ref"], answer={"yes": True})
        await App.has(lambda log: Answer(yes=True) in log)

    talking(App, main)


@dataclasses.dataclass
class Point:
    x: int


class Tagged(BaseModel):
    type: Literal["tagged"] = "tagged"
    n: int


@pytest.mark.parametrize(
    ("returns", "sent", "expected"),
    [
        (int, 5, 5),
        (int, "5", 5),  # as pydantic reads it everywhere
        (str, "é\u2028", "é\u2028"),
        (bool, False, False),
        (float, 1, 1.0),
        (type(None), None, None),
        (None, None, None),
        (int | None, None, None),
        (list[int], [1, "2"], [1, 2]),
        (dict[str, Point], {"a": {"x": 1}}, {"a": Point(1)}),
        (Count, {"to": 1}, Count(1)),
        (Tagged, {"type": "tagged", "n": 1}, Tagged(n=1)),
        (Any, {"any": [1]}, {"any": [1]}),
    ],
)
def test_an_answer_may_be_of_any_type(returns: Any, sent: Any, expected: Any) -> None:
    """Scalars, collections, models: what a field of a message may be."""

    class App(Endpoint):
        calls = {Ask: returns}
        given: list[Any] = []

        @event
        async def on_go(self) -> None:
            self.given.append(await self.call(Ask(question="?"), returns=returns))

    talk(App, {"type": "go"}, {"type": "reply", "ref": "s:1", "answer": sent})
    (given,) = App.given
    assert (given, type(given)) == (expected, type(expected))


@pytest.mark.parametrize(
    "extra", [{"error": None}, {"jsonrpc": "2.0"}, {"id": 1}], ids=["null error", "another key", "an id"]
)
def test_what_clients_add_to_a_reply_does_no_harm(extra: dict[str, Any]) -> None:
    """Libraries write `error: null` beside an answer, and keys of their own."""

    class App(Asking): ...

    talk(App, {"type": "pay"}, {"type": "reply", "ref": "s:1", "answer": {"yes": True}, **extra})
    assert App.log[0] == Answer(yes=True)


def test_a_question_may_be_a_dict() -> None:
    """Of a TypedDict or of any class, by its `type`; so is a subclass of what is declared."""

    class Loud(Ask):
        volume: int = 11

    class App(Endpoint):
        calls = {Ask: int}

        @event
        async def on_go(self) -> None:
            first = self.call({"type": "ask", "question": "?"})
            await asyncio.gather(first, self.call(Loud(question="!")))

    questions = talk(App, {"type": "go"}).answers
    assert questions == [
        {"type": "ask", "question": "?", "ref": "s:1"},
        {"type": "ask", "question": "!", "ref": "s:2"},
    ]


# ---- none


@served
def test_a_client_may_refuse() -> None:
    """Its code and its words are the exception's."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        question = await asked(client, "pay", ref=7)
        await client.send("reply", ref=question["ref"], error={"code": "declined", "message": "no"})
        assert await client.receive() == {"type": "error", "code": "call_refused", "ref": 7, "errors": []}
        (refusal,) = App.log
        assert (type(refusal), refusal.code, refusal.message) == (CallRefused, "declined", "no")

    talking(App, main)


def test_what_a_client_can_cause_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Refusals, invalid answers and silence are no bugs: the message is answered, also out of a task group."""

    class App(Asking):
        @event
        async def on_grouped(self) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.asks())

    for type_ in ("pay", "grouped"):
        (refused,) = replied(App, type_, {"error": {"code": "no"}}, 1)
        assert (refused["code"], refused["ref"]) == ("call_refused", 7)
        codes = {each["ref"]: each["code"] for each in replied(App, type_, {"answer": 5}, 2)}
        assert codes == {7: "invalid_answer", "s:1": "validation_error"}
    assert caplog.records == []


@served
def test_an_invalid_answer_is_told_to_both() -> None:
    """The handler gets pydantic's errors, and the client an error frame with the ref of the call."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        question = await asked(client, "pay", ref=7)
        await client.send("reply", ref=question["ref"], answer={"yes": "perhaps"})
        frames = {str(each["ref"]): each for each in await client.receives(2)}
        assert frames["7"]["code"] == "invalid_answer"
        told = frames["s:1"]
        assert (told["type"], told["code"]) == ("error", "validation_error")
        assert [each["loc"] for each in told["errors"]] == [["answer", "yes"]]
        (error,) = App.log
        assert isinstance(error, InvalidAnswer)
        assert [{**each, "loc": list(each["loc"])} for each in error.errors] == told["errors"]

    talking(App, main)


@pytest.mark.parametrize(
    ("reply", "loc"),
    [
        ({}, ["answer"]),
        ({"answer": None}, ["answer"]),
        ({"answer": []}, ["answer"]),
        ({"answer": {}}, ["answer", "yes"]),
        ({"error": 3}, ["error"]),
        ({"error": {}}, ["error", "code"]),
        ({"error": {"code": 5}}, ["error", "code"]),
        ({"error": {"code": "x", "message": []}}, ["error", "message"]),
        ({"error": {"code": 5}, "answer": {"yes": True}}, ["error", "code"]),
    ],
)
def test_replies_of_a_wrong_shape_are_invalid_answers(reply: dict[str, Any], loc: list[str]) -> None:
    """Also those whose refusal cannot be read: an `error` is looked at first."""

    class App(Asking): ...

    told = next(each for each in replied(App, "pay", reply, 2) if each["ref"] == "s:1")
    assert (told["code"], [each["loc"] for each in told["errors"]]) == ("validation_error", [loc])
    assert isinstance(App.log[0], InvalidAnswer)


def test_inputs_are_kept_out_of_the_error_of_an_answer() -> None:
    """With `include_input = False`, as in every error frame; the places that were declared are told."""

    class App(Asking):
        include_input = False

    answers = replied(App, "pay", {"answer": {"yes": "my secret"}}, 2)
    assert "secret" not in json.dumps(answers)
    told = next(each for each in answers if each["ref"] == "s:1")
    assert [each["loc"] for each in told["errors"]] == [["answer", "yes"]]


def test_a_bug_of_a_validator_is_the_handlers() -> None:
    """It is raised where the answer is awaited, and logged as every bug of a handler is."""

    class Buggy(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            raise ZeroDivisionError

    class App(Endpoint):
        calls = {Ask: Buggy}
        raised: list[BaseException] = []

        @event
        async def on_go(self) -> None:
            try:
                await self.call(Ask(question="?"))
            except ZeroDivisionError as exc:
                self.raised.append(exc)

    talk(App, {"type": "go"}, {"type": "reply", "ref": "s:1", "answer": {"n": 1}})
    assert len(App.raised) == 1


@served
def test_a_call_waits_only_so_long() -> None:
    """The client is told that nobody waits any more; what it answers then is ignored."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        assert (await asked(client, "pay", ref=7, timeout_s=0.01))["ref"] == "s:1"
        assert await client.receive() == {"type": "cancel", "ref": "s:1"}
        assert (await client.receive())["code"] == "call_timeout"
        (error,) = App.log
        assert isinstance(error, CallTimeout | TimeoutError)
        await client.send("reply", ref="s:1", answer={"yes": True})
        assert (await client.call("ping"))["n"] == 0
        assert App.log == [error]

    talking(App, main)


@served
def test_a_cancelled_handler_waits_no_more() -> None:
    """Neither by the client's cancel nor by its time limit: the client hears which of its questions it may forget."""

    class App(Asking):
        @event(timeout_s=0.01)
        async def on_limited(self) -> dict[str, Any]:
            return await self.asks()

    async def main(client: Client) -> None:
        await asked(client, "pay", ref=7)
        await client.send("cancel", ref=7)
        told = {each["type"]: each for each in await client.receives(2)}
        assert (told["cancel"]["ref"], told["error"]["code"]) == ("s:1", "cancelled")
        await client.send("limited", ref=8)
        assert {each["type"] for each in await client.receives(3)} == {"ask", "cancel", "error"}

    talking(App, main)


@served
@pytest.mark.parametrize("how", ["pay", "buy", "begin", "count"])
def test_a_peer_that_leaves_ends_the_wait_at_once(how: str) -> None:
    """With its code, and `on_disconnect` gets the same; nobody waits for a grace."""

    class App(Asking):
        disconnect_grace_s = WAIT_S * 2

    async def main(client: Client) -> None:
        await asked(client, how, **({"to": 1, "ref": 1} if how == "count" else {}))
        await client.connection.close(4005)
        await App.has(lambda log: 4005 in log)
        if how in ("pay", "buy"):  # the others may be cancelled first
            error = App.log[0]
            assert isinstance(error, WebSocketDisconnect)
            assert error.code == 4005
        assert App.log[-1] == 4005

    talking(App, main)


@served
def test_an_answer_is_heard_whose_client_leaves_at_once() -> None:
    """Reply and close frame in one segment."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        await asked(client, "pay")
        client.connection.transport.pause_reading()
        reply = client.connection.protocol
        reply.send_text(b'{"type":"reply","ref":"s:1","answer":{"yes":true}}')
        reply.send_close(4005)
        client.connection.transport.write(b"".join(reply.data_to_send()))
        client.connection.transport.resume_reading()
        await App.has(lambda log: 4005 in log)
        assert App.log == [Answer(yes=True), 4005]

    talking(App, main)


@served
def test_a_lost_connection_ends_the_wait() -> None:
    """TCP ends without a close frame."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        await asked(client, "pay")
        client.connection.transport.abort()
        await App.has(lambda log: len(log) == 2)
        assert isinstance(App.log[0], WebSocketDisconnect)
        assert App.log[1] in (1005, 1006)

    talking(App, main)


@served
def test_closing_ends_the_wait() -> None:
    """Also where the application closes while a handler waits."""

    class App(Asking):
        @event(concurrent=True)
        async def on_bye(self) -> None:
            await self.close(4000)

    async def main(client: Client) -> None:
        await asked(client, "pay")
        await client.send("bye")
        assert await client.closed() == 4000
        await App.has(lambda log: 4000 in log)
        assert isinstance(App.log[0], WebSocketDisconnect)

    talking(App, main)


def test_shutdown_ends_the_wait() -> None:
    """The server does not wait for an answer."""

    class App(Asking): ...

    async def main() -> None:
        from websockets.asyncio.client import connect

        async with stopping(App) as served, connect(served.url) as connection:
            await connection.send('{"type":"pay"}')
            await connection.recv()
            served.server.should_exit = True
            await App.has(lambda log: 1012 in log)

    run(main)


# ---- whose replies


@served
def test_a_client_answers_for_itself_alone() -> None:
    """Each connection has refs of its own: what one replies is nothing to the others."""

    class App(Asking): ...

    async def whole() -> None:
        async with serving(App) as connect:
            one, other = await connect(), await connect()
            assert (await asked(one, "pay", ref=1))["ref"] == "s:1"
            await other.send("reply", ref="s:1", answer={"yes": False})
            assert (await other.call("ping"))["n"] == 0
            assert App.log == []
            await one.send("reply", ref="s:1", answer={"yes": True})
            assert (await one.receive())["yes"] is True

    run(whole)


def test_replies_that_nobody_waits_for_are_ignored() -> None:
    """A second one, one for a ref that never was; one without a ref is told so."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        await asked(client, "pay", ref=7)
        for ref in ("s:2", "s:0", 1, -5, "", "x" * 64):
            await client.send("reply", ref=ref, answer=1)
        for _ in range(2):
            await client.send("reply", ref="s:1", answer={"yes": True})
        assert (await client.receive())["yes"] is True
        await client.send("reply", answer=1)
        assert (await client.receive())["errors"][0]["loc"] == ["ref"]
        assert (await client.call("ping"))["n"] == 0

    talking(App, main)


def test_replies_that_nobody_waits_for_count_for_the_rate_limit() -> None:
    """A flood of them is closed; what was asked for costs nothing."""

    class App(Asking):
        rate_limit = RateLimit(5, per_s=3600)

        @event
        async def on_many(self) -> dict[str, int]:
            return {"given": sum([await self.call(Count(to=n), returns=int) for n in range(50)])}

    async def main(client: Client) -> None:
        await client.send("many")
        for _ in range(50):
            await client.send("reply", ref=(await client.receive())["ref"], answer=1)
        assert await client.receive() == {"type": "many", "given": 50}
        for _ in range(30):
            await client.send("reply", ref="s:1", answer=1)
        assert (await client.receive())["code"] == "rate_limited"
        assert await client.closed() == 4429

    talking(App, main)


@pytest.mark.parametrize(("late", "closed"), [(24, None), (25, 4429)])
def test_a_late_reply_counts_once(late: int, closed: int | None) -> None:
    """Five pass and the 20th refusal in a row closes, as with every other frame."""

    class App(Asking):
        rate_limit = RateLimit(5, per_s=3600)

    peer = talk(App, *[{"type": "reply", "ref": "s:1", "answer": 1}] * late)
    assert [each["code"] for each in peer.answers] == ["rate_limited"] * 19
    assert peer.closed == closed


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["yes", "code", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
replies = st.fixed_dictionaries(
    {"type": st.just("reply")},
    optional={"ref": st.sampled_from(["s:1", "s:2"]) | values, "answer": values, "error": values, "more": values},
)


@given(st.lists(replies, max_size=5))
def test_no_reply_does_harm(frames: list[Any]) -> None:
    """Whatever is replied, the call ends once, with an answer or a `CallFailed`, and messages go on being answered."""

    class App(Asking): ...

    peer = talk(App, {"type": "pay", "ref": 7}, *frames, {"type": "reply", "ref": "s:1", "answer": {"yes": True}},
                {"type": "ping", "ref": 8})  # fmt: skip
    assert peer.closed is None
    assert [each["type"] for each in peer.answers if each.get("ref") == 8] == ["ping"]
    outcome, left = App.log
    assert isinstance(outcome, Answer | CallFailed)
    assert left == 1000


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"pay","type":"reply","ref":"s:1","answer":{"yes":true}}',
        '{"type":"reply","type":"pay","ref":"s:1","answer":{"yes":true}}',
        b'{"type":"reply","ref":"s:1","answer":{"yes":true}}',
    ],
    ids=["a second type", "another type behind", "binary"],
)
def test_odd_frames_are_replies_or_none(frame: Any) -> None:
    """Keys that are given twice end in no handler; binary frames are messages, too."""

    class App(Asking): ...

    peer = talk(App, {"type": "pay", "ref": 7}, frame, {"type": "reply", "ref": "s:1", "answer": {"yes": True}})
    assert peer.closed is None
    assert App.log[0] == Answer(yes=True)


def test_a_binary_reply_that_is_no_utf8_closes() -> None:
    """As every such frame does."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        await asked(client, "pay")
        await client.connection.send(b'{"type":"reply","ref":"s:1","answer":{"yes":"\xff"}}')
        assert await client.closed() == 1007

    talking(App, main)


# ---- what comes before the answer


@served
def test_an_answer_behind_three_hundred_messages_arrives() -> None:
    """They wait for their turn, and are answered in order behind it."""

    class App(Asking): ...

    async def main(client: Client) -> None:
        question = await asked(client, "pay", ref="pay")
        for n in range(300):
            await client.send("ping", n=n)
        await client.send("reply", ref=question["ref"], answer={"yes": True})
        assert (await client.receive())["yes"] is True
        assert [each["n"] for each in await client.receives(300)] == list(range(300))

    talking(App, main)


@served
@pytest.mark.parametrize("how", ["pay", "begin"])
def test_an_answer_behind_too_much_is_not_waited_for(how: str) -> None:
    """The call fails at once, and all that was queued is answered in order; the late answer is ignored."""

    class App(Asking):
        go = asyncio.Event()

        @event
        async def on_hold(self) -> None:
            await self.has(lambda log: log)

    async def main(client: Client) -> None:
        question = await asked(client, how, ref="asks")
        if how == "begin":
            await client.send("hold")
        for n in range(3000):
            await client.send("ping", n=n)
        await client.send("reply", ref=question["ref"], answer={"yes": True})
        assert await client.receive() == {"type": "cancel", "ref": "s:1"}
        if how == "pay":
            assert (await client.receive())["code"] == "call_refused"
        assert [each["n"] for each in await client.receives(3000)] == list(range(3000))
        (error,) = App.log
        assert (type(error), error.code) == (CallRefused, "overrun")

    talking(App, main)


@served
def test_concurrent_handlers_that_ask_are_answered_behind_those_that_wait() -> None:
    """More requests than may wait else: the replies behind them are read all the same."""

    class App(Asking):
        max_concurrent = 2

    async def main(client: Client) -> None:
        for n in range(200):
            await client.send("buy", ref=n)
        for _ in range(200):
            question = await client.receive()
            while question["type"] != "ask":
                question = await client.receive()
            await client.send("reply", ref=question["ref"], answer={"yes": True})
        await App.has(lambda log: len(log) == 200)

    talking(App, main)


@served
def test_a_call_reads_on_where_reading_had_paused() -> None:
    """A handler that waited for something else, behind which the queue is full, asks."""

    class App(Asking):
        go = asyncio.Event()

        @event
        async def on_late(self) -> dict[str, Any]:
            self.log.append("waits")
            await self.go.wait()
            return await self.asks()

    async def main(client: Client) -> None:
        await client.send("late", ref=1)
        for n in range(200):
            await client.send("ping", n=n)
        await App.has(lambda log: log)
        App.go.set()
        question = await client.receive()
        await client.send("reply", ref=question["ref"], answer={"yes": True})
        assert (await client.receive())["yes"] is True
        assert [each["n"] for each in await client.receives(200)] == list(range(200))

    talking(App, main)


def test_a_client_that_reads_nothing_is_not_waited_for() -> None:
    """The time runs also while the question cannot be sent."""

    class App(Asking):
        @event
        async def on_flood(self) -> None:
            try:
                while True:
                    await self.send({"type": "flood", "text": "x" * 100_000})
            finally:
                self.log.append("flooded")

        @event(concurrent=True)
        async def on_buy(self) -> dict[str, Any]:
            return await self.asks(0.05)

    async def main(client: Client) -> None:
        client.stop_reading()
        await client.send("flood")
        await client.send("buy", ref=1)
        await App.has(lambda log: any(isinstance(each, CallTimeout) for each in log))
        client.connection.transport.abort()
        await App.has(lambda log: "flooded" in log)

    talking(App, main)


# ---- what is refused


@pytest.mark.parametrize(
    ("calls", "more", "problem"),
    [
        ([Ask], {}, "maps questions"),
        ({int: int}, {}, "calls <class 'int'>: that is no class of messages"),
        ({Ask: int, type("Ask", (BaseModel,), {}): int}, {}, "two questions are called 'ask'"),
        ({type("Error", (BaseModel,), {}): int}, {}, "cannot be called 'error'"),
        ({type("Reply", (BaseModel,), {}): int}, {}, "'reply'"),
        ({Ask: int}, {"ref_key": "answer"}, "ref_key"),
        ({Ask: Callable[[], int]}, {}, "the answer to 'ask': .*cannot come from JSON"),
        ({Ask: list[type[int]]}, {}, "the answer to 'ask': .*cannot come from JSON"),
        ({Ask: int}, {"emits": [type("Reply", (BaseModel,), {})]}, "'reply'"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_import(calls: Any, more: dict[str, Any], problem: str) -> None:
    """A mistake of the programmer, told when the class is created."""
    with pytest.raises(DefinitionError, match=problem):
        type("App", (Endpoint,), {"calls": calls, **more})


def test_reply_is_reserved_where_something_is_asked() -> None:
    """Elsewhere the name is the application's."""

    async def on_reply(self: Any, answer: int) -> dict[str, int]:
        return {"answer": answer}

    with pytest.raises(DefinitionError, match="'reply'"):
        type("App", (Endpoint,), {"calls": {Ask: int}, "on_reply": event(on_reply)})
    plain: Any = type("Plain", (Endpoint,), {"on_reply": event(on_reply)})
    assert talk(plain, {"type": "reply", "answer": 1}).answers == [{"type": "reply", "answer": 1}]


def test_calls_are_read_when_the_class_is_created() -> None:
    """Neither assigned later nor added to; subclasses inherit them, or have their own."""

    class App(Asking): ...

    with pytest.raises(DefinitionError, match="calls"):
        App.calls = {}
    with pytest.raises(TypeError):
        App.calls[Ask] = int  # type: ignore[index]  # that is what is tested

    class Mute(App):
        calls = {}

    answers = talk(Mute, {"type": "reply", "ref": "s:1", "answer": 1}).answers
    assert answers[0]["code"] == "unknown_event"


@pytest.mark.parametrize(
    ("question", "options", "problem"),
    [
        (Answer(yes=True), {}, "does not ask Answer; its `calls` lists ask, count"),
        ({"type": "nonsense"}, {}, "'nonsense'"),
        ({"type": []}, {}, "does not ask"),
        (Ask(question="?"), {"returns": int}, "the answer to 'ask'"),
        (Ask(question="?"), {"timeout_s": 0}, "timeout_s"),
        (Ask(question="?"), {"timeout_s": float("nan")}, "timeout_s"),
        (Ask(question="?"), {"timeout_s": "30"}, "timeout_s"),
    ],
)
def test_what_is_asked_wrongly_is_told_to_the_handler(question: Any, options: Any, problem: str) -> None:
    """Nothing is sent then."""

    class App(Asking):
        @event
        async def on_wrong(self) -> None:
            with pytest.raises((TypeError, ValueError), match=problem):
                await self.call(question, **options)

    assert talk(App, {"type": "wrong"}).answers == []


def test_who_cannot_be_asked() -> None:
    """A peer that is not accepted yet, one that has left, one whose class asks nothing."""
    raised: list[str] = []

    async def note(call: Any) -> None:
        try:
            await call
        except (RuntimeError, WebSocketDisconnect) as exc:
            raised.append(f"{type(exc).__name__}: {exc}")

    class App(Asking):
        async def authenticate(self) -> None:
            await note(self.call(Ask(question="?")))

        async def on_connect(self) -> None:
            await note(self.call(Ask(question="?")))
            await super().on_connect()

        async def on_disconnect(self, close_code: int) -> None:
            await note(self.call(Ask(question="?")))

    class Mute(Endpoint):
        @event
        async def on_go(self) -> None:
            await note(self.call(Ask(question="?")))

    talk(App)
    talk(Mute, {"type": "go"})
    before, connecting, after, mute = raised
    assert before.startswith("RuntimeError: call after the connection is accepted")
    assert connecting == before
    assert after.startswith("WebSocketDisconnect")
    assert "Mute asks nothing" in mute


def test_a_question_that_cannot_be_written_is_the_handlers_error() -> None:
    """Nothing is sent, nothing waits, and the connection lives."""

    class App(Asking):
        @event
        async def on_wrong(self) -> None:
            await self.call({"type": "ask", "question": 5})

    answers = talk(App, {"type": "wrong", "ref": 1}, {"type": "ping", "ref": 2}).answers
    assert [each.get("code") for each in answers] == ["response_error", None]


@pytest.mark.parametrize("reply", [{"answer": {"yes": True}}, {"answer": 5}, {"error": {"code": "no"}}, {}, None])
def test_no_call_keeps_an_endpoint_alive(reply: Any) -> None:
    """However it ends, nothing waits for the collector: no exception keeps the frames that it came through."""
    kept: list[Any] = []

    class App(Endpoint):
        calls = {Ask: Answer}

        async def on_connect(self) -> None:
            kept.append(weakref.ref(self))
            await super().on_connect()

        @event
        async def on_pay(self) -> None:
            await self.call(Ask(question="?"), returns=Answer)

    replies = [] if reply is None else [{"type": "reply", "ref": "s:1", **reply}]
    gc.disable()
    try:
        talk(App, {"type": "pay", "ref": 7}, *replies)
        assert kept[0]() is None
    finally:
        gc.enable()
