"""JSON-RPC 2.0: requests, notifications, results of any kind, errors by number, batches, and conversations in it."""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import AfterValidator, AliasChoices, AliasPath, BaseModel, Field, ValidationInfo
from pydantic.alias_generators import to_camel
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from socketsundso import (
    CallRefused,
    DefinitionError,
    Depends,
    Endpoint,
    Envelope,
    EventError,
    JsonRpc,
    Keep,
    RateLimit,
    binary,
    event,
)
from socketsundso.connection import batches
from tests.rooms.serving import WAIT_S, Connect, run, serving

PARSE, REQUEST, METHOD, PARAMS, INTERNAL, SERVER = -32700, -32600, -32601, -32602, -32603, -32000
LOOPS = pytest.mark.parametrize("converses", [False, True], ids=["serial", "conversing"])


class Point(BaseModel):
    x: int
    y: int = 0


class Cat(msgspec.Struct, tag="cat"):
    name: str


class Dog(msgspec.Struct, tag="dog"):
    name: str


class Ask(BaseModel):
    question: str


class Posted(BaseModel):
    msg: str


def log() -> Any:
    yield ["opened"]


class Api(Endpoint):
    envelope = JsonRpc(max_batch=5)

    @functools.cached_property
    def seen(self) -> list[Any]:
        return []

    @event
    async def subtract(self, minuend: int, subtrahend: int = 1) -> int:
        return minuend - subtrahend

    @event
    def doubled(self, x: int) -> int:
        return 2 * x

    @event
    async def move(self, to: Point, by: Annotated[int, Field(gt=0)] = 1) -> Point:
        return Point(x=to.x + by, y=to.y)

    @event
    async def pet(self, kind: str) -> Cat | Dog:
        return Cat("Tom") if kind == "cat" else Dog("Rex")

    @event
    async def anything(self, value: Any) -> Any:
        return value

    @event
    async def note(self, value: Any = None) -> None:
        self.seen.append(value)

    @event
    async def noted(self) -> list[Any]:
        return self.seen

    @event
    async def fail(self, code: str, how: str = "raise") -> None:
        if how == "bug":
            raise RuntimeError("not for clients")
        raise EventError(code, "as asked for")

    @event
    async def respond_first(self) -> None:
        await self.respond(1)

    @event
    async def with_teardown(self, opened: Annotated[list[str], Depends(log)]) -> list[str] | None:
        return opened

    @event
    async def nothing_with_teardown(self, opened: Annotated[list[str], Depends(log)]) -> None: ...

    @event
    async def push(self, msg: str) -> None:
        await self.send(Posted(msg=msg))


class Conversing(Api):
    calls = {Ask: bool}
    history = {"r*": Keep(messages=10, seconds=60)}

    @event
    async def count(self, to: int) -> AsyncIterator[Point]:
        for x in range(to):
            yield Point(x=x)

    @event
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    @event
    async def ask(self) -> bool | str:
        try:
            return await self.call(Ask(question="sure?"), returns=bool)
        except CallRefused as exc:
            return exc.code

    @event(concurrent=True)
    async def wait(self) -> None:
        await asyncio.Event().wait()

    @event(timeout_s=0.01)
    async def slow(self) -> None:
        await asyncio.Event().wait()

    @event(serial_by="key")
    async def keyed(self, key: str) -> str:
        return key

    @event
    async def enter(self, room: str) -> None:
        await self.join(room)

    @event
    async def say(self, room: str, msg: str) -> None:
        await self.broadcast(Posted(msg=msg), room=room)


def request(method: Any, params: Any = None, id_: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, **({} if params is None else {"params": params})}


def notification(method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})}


def result(value: Any, id_: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": value, "id": id_}


class Peer:
    """A client that knows JSON-RPC."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def send(self, frame: Any) -> None:
        await self._connection.send(frame if isinstance(frame, str) else json.dumps(frame))

    async def hear(self) -> Any:
        async with asyncio.timeout(WAIT_S):
            return json.loads(await self._connection.recv())

    async def ask(self, frame: Any) -> Any:
        await self.send(frame)
        return await self.hear()


def served(talk: Any, endpoint: type = Api) -> None:
    async def whole() -> None:
        async with serving(endpoint) as connect:
            await talk(Peer((await connect()).connection))

    run(whole)


def told(answer: dict[str, Any]) -> tuple[Any, Any]:
    """The code of an error, and whom it answers; a whole one has a message and says what is wrong."""
    assert answer.keys() == {"jsonrpc", "error", "id"}
    assert answer["jsonrpc"] == "2.0"
    assert answer["error"].keys() == {"code", "message", "data"}
    assert answer["error"]["message"]
    return answer["error"]["code"], answer["id"]


VALID = [
    (request("subtract", {"minuend": 42, "subtrahend": 23}), result(19)),
    (request("subtract", {"subtrahend": 23, "minuend": 42}), result(19)),
    (request("subtract", [42, 23]), result(19)),
    (request("subtract", [42]), result(41)),
    (request("subtract", ["42", "2"], "a"), result(40, "a")),
    (request("subtract", {"minuend": "42"}), result(41)),
    (request("doubled", [4]), result(8)),
    (request("move", [{"x": 1}, 2]), result({"x": 3, "y": 0})),
    (request("move", {"to": {"x": 1, "y": 5}}, 2**53), result({"x": 2, "y": 5}, 2**53)),
    (request("pet", ["cat"]), result({"type": "cat", "name": "Tom"})),
    (request("pet", ["dog"], ""), result({"type": "dog", "name": "Rex"}, "")),
    (request("note"), result(None)),
    (request("note", []), result(None)),
    (request("note", {}), result(None)),
    (request("respond_first"), result(1)),
    (request("with_teardown"), result(["opened"])),
    (request("nothing_with_teardown"), result(None)),
    (request("noted") | {"traceparent": "00-1-1-01"}, result([None] * 3)),
    *((request("anything", [value]), result(value)) for value in (None, False, 0, 1.5, "", [], {}, {"type": 1})),
]  # fmt: skip


@LOOPS
def test_requests_are_answered(converses: bool) -> None:
    """With params by name or by position; a result is any value, and null where the handler gives nothing."""

    async def talk(peer: Peer) -> None:
        for asked, answer in VALID:
            assert await peer.ask(asked) == answer, asked

    served(talk, Conversing if converses else Api)


INVALID: list[tuple[Any, int, Any, list[Any]]] = [
    ("{", PARSE, None, []),
    ("[1,", PARSE, None, []),
    ("NaN", PARSE, None, []),
    ('{"jsonrpc":"2.0","id":1,"method":"note","params":{"value":NaN}}', PARSE, None, []),
    ("1", REQUEST, None, []),
    ("null", REQUEST, None, []),
    ("{}", REQUEST, None, ["jsonrpc"]),
    ({"id": 1, "method": "note"}, REQUEST, None, ["jsonrpc"]),
    (request("note") | {"jsonrpc": 2.0}, REQUEST, None, ["jsonrpc"]),
    (request("note") | {"jsonrpc": "1.0"}, REQUEST, None, ["jsonrpc"]),
    *((request("note", id_=wrong), REQUEST, None, ["id"]) for wrong in (None, 1.5, True, [], {}, 2**63, "x" * 65)),
    ({"jsonrpc": "2.0", "id": 1}, REQUEST, 1, ["method"]),
    (request(5), REQUEST, 1, ["method"]),
    (request(None), REQUEST, 1, ["method"]),
    (request("nowhere"), METHOD, 1, ["method"]),
    (request("subtract"), PARAMS, 1, ["params"]),
    (request("subtract", {}), PARAMS, 1, ["params", "minuend"]),
    (request("subtract", []), PARAMS, 1, ["params", "minuend"]),
    (request("subtract", [1, 2, 3]), PARAMS, 1, ["params"]),
    (request("subtract", 5), PARAMS, 1, ["params"]),
    (request("subtract", "x"), PARAMS, 1, ["params"]),
    (request("subtract", [1, "x"]), PARAMS, 1, ["params", "subtrahend"]),
    (request("subtract", {"minuend": 1, "other": 2}), PARAMS, 1, ["params", "other"]),
    (request("move", [{"x": "a"}]), PARAMS, 1, ["params", "to", "x"]),
    (request("move", [{"x": 1}, 0]), PARAMS, 1, ["params", "by"]),
    ("[]", REQUEST, None, []),
    ([request("note")] * 6, REQUEST, None, []),
]  # fmt: skip


@LOOPS
def test_what_is_no_request_is_answered(converses: bool) -> None:
    """By number, with the place that is wrong; with its `id`, or null where none can be known. The connection lives."""

    async def talk(peer: Peer) -> None:
        for frame, code, id_, place in INVALID:
            answer = await peer.ask(frame)
            assert told(answer) == (code, id_), frame
            assert answer["error"]["data"]["errors"][0]["loc"] == place, frame
        assert await peer.ask(request("note")) == result(None)

    served(talk, Conversing if converses else Api)


def test_an_answer_to_nothing() -> None:
    """Is passed over, late or nobody's, valid or not: two peers that answer each other's answers never end."""

    async def talk(peer: Peer) -> None:
        refusal = {"code": -32700, "message": "what was that?"}
        for answer in (
            result(True, "s:7"),
            result(True, 7) | {"took_ms": 3},
            {"jsonrpc": "2.0", "id": 7, "error": refusal},
            {"jsonrpc": "2.0", "id": None, "error": refusal},
            {"jsonrpc": "2.0", "id": 1.5, "error": refusal, "result": 1},
            {"result": None, "error": None, "id": 7},
        ):
            await peer.send(answer)
            assert await peer.ask(request("note")) == result(None), answer
            assert await peer.ask([answer, request("note", id_=2)]) == [result(None, 2)], answer
            assert told(await peer.ask({"method": 5, "jsonrpc": "2.0"} | answer))[0] == REQUEST

    served(talk)
    served(talk, Conversing)


def test_answers_to_nothing_count() -> None:
    """A rate limit sees them."""

    class Limited(Api):
        rate_limit = RateLimit(2, per_s=3600)

    async def talk(peer: Peer) -> None:
        for _ in range(2):
            await peer.send(result(True, 7))
        assert (await peer.ask(request("note")))["error"]["data"]["code"] == "rate_limited"

    served(talk, Limited)


def test_an_answer_may_have_other_keys() -> None:
    """As requests may: those of tracing, and of libraries that tell how long it took."""

    async def talk(peer: Peer) -> None:
        asked = await peer.ask(request("ask"))
        assert await peer.ask(result(True, asked["id"]) | {"took_ms": 3, "traceparent": "00-1-1-01"}) == result(True)

    served(talk, Conversing)


@pytest.mark.parametrize("method", ["cancel", "item", "complete", "reply"])
def test_what_is_about_a_request_is_no_request(method: str) -> None:
    """With an `id` it would have to be answered: it is, and does nothing."""

    async def talk(peer: Peer) -> None:
        await peer.send(request("wait", id_="w"))
        for params in ({"ref": "w"}, {"ref": "w", "item": 1}, {"ref": "w", "answer": 1}, {}, None, []):
            for id_ in (5, "w"):
                answer = await peer.ask(request(method, params, id_))
                assert told(answer) == (REQUEST, id_), params
                assert answer["error"]["data"]["errors"][0]["loc"] == ["id"]
            assert [told(each) for each in await peer.ask([request(method, params, 5)])] == [(REQUEST, 5)]
        assert await peer.ask(request("note")) == result(None)
        answer = await peer.ask(notification("cancel", {"ref": "w"}))
        assert answer["error"]["data"]["code"] == "cancelled"

    served(talk, Conversing)


def test_errors_of_applications() -> None:
    """-32000 and the code in `data`, or a number of their own; a bug says nothing of itself."""

    async def talk(peer: Peer) -> None:
        answer = await peer.ask(request("fail", ["sold_out"]))
        assert told(answer) == (SERVER, 1)
        assert (answer["error"]["message"], answer["error"]["data"]["code"]) == ("as asked for", "sold_out")
        assert told(await peer.ask(request("fail", ["-32001"]))) == (-32001, 1)
        answer = await peer.ask(request("fail", ["x", "bug"]))
        assert told(answer) == (INTERNAL, 1)
        assert "not for clients" not in str(answer)

    served(talk)


@LOOPS
def test_notifications_are_never_answered(converses: bool) -> None:
    """Whatever becomes of them, and whoever has them."""

    async def talk(peer: Peer) -> None:
        for each in (
            notification("note", [1]),
            notification("subtract", [3, 2]),
            notification("subtract", ["x"]),
            notification("nowhere"),
            notification("fail", ["x"]),
            notification("fail", ["x", "bug"]),
            notification("fail", ["-32600"]),
            notification("fail", ["malformed_message"]),
            notification("respond_first"),
            notification("with_teardown"),
            [notification("note", [2]), notification("nowhere")],
        ):
            await peer.send(each)
        assert await peer.ask(request("noted")) == result([1, 2])

    served(talk, Conversing if converses else Api)


@LOOPS
def test_batches(converses: bool) -> None:
    """Their answers come together, in order, without those of notifications; pushes are not held back."""

    async def talk(peer: Peer) -> None:
        answers = await peer.ask(
            [
                request("subtract", [3], 1),
                notification("note", [1]),
                request("nowhere", None, 2),
                5,
                request("note", id_=3),
            ]
        )
        assert [answers[0], answers[3]] == [result(2, 1), result(None, 3)]
        assert [told(answer) for answer in answers[1:3]] == [(METHOD, 2), (REQUEST, None)]
        answers = await peer.ask([request("respond_first"), request("with_teardown", id_=2), request("fail", ["x"], 3)])
        assert answers[:2] == [result(1), result(["opened"], 2)]
        assert told(answers[2]) == (SERVER, 3)
        assert await peer.ask([request("push", ["hi"])]) == notification("posted", {"msg": "hi"})
        assert await peer.hear() == [result(None)]
        assert [told(each) for each in await peer.ask([[], [request("note")]])] == [(REQUEST, None)] * 2

    served(talk, Conversing if converses else Api)


def test_a_batch_that_converses() -> None:
    """Concurrent, keyed and timed requests are answered in it; a stream or an upload is refused; a cancel counts."""

    async def talk(peer: Peer) -> None:
        await peer.send(request("wait", id_="w"))
        answer = await peer.ask(
            [request("keyed", ["a"], 1), request("slow", id_=2), notification("cancel", {"ref": "w"})]
        )
        together, cancelled = (answer, await peer.hear()) if isinstance(answer, list) else (await peer.hear(), answer)
        assert cancelled["error"]["data"]["code"] == "cancelled"
        assert together[0] == result("a", 1)
        assert (told(together[1]), together[1]["error"]["data"]["code"]) == ((SERVER, 2), "timeout")
        answers = await peer.ask([request("count", [1], 1), request("total", id_=2)])
        assert [told(each) for each in answers] == [(REQUEST, 1), (REQUEST, 2)]
        assert await peer.ask([notification("count", [1]), request("note")]) == [result(None)]

    served(talk, Conversing)


def test_streams_and_uploads() -> None:
    """Items are notifications that name the request; its end is its result."""

    async def talk(peer: Peer) -> None:
        assert await peer.ask(request("count", [2], "c")) == notification(
            "point", {"item": {"x": 0, "y": 0}, "ref": "c"}
        )
        assert await peer.hear() == notification("point", {"item": {"x": 1, "y": 0}, "ref": "c"})
        assert await peer.hear() == result(None, "c")
        await peer.send(request("total", id_=5))
        for number in range(9):
            await peer.send(notification("item", {"ref": 5, "item": number}))
        assert await peer.hear() == notification("more", {"items": 8, "ref": 5})
        assert await peer.ask(notification("complete", {"ref": 5})) == result(36, 5)
        await peer.send(request("total", id_=6))
        assert told(await peer.ask(notification("item", {"ref": 6, "item": "x"}))) == (PARAMS, 6)
        for nobody in ({}, {"ref": None}, {"ref": 1.5}, {"ref": 99}):
            await peer.send(notification("cancel", nobody))
        assert await peer.ask(request("note")) == result(None)

    served(talk, Conversing)


def test_calls_of_the_server() -> None:
    """Are requests with an `id` of its own, and their answers results or errors."""

    async def talk(peer: Peer) -> None:
        for answer, outcome in [
            ({"result": True}, True),
            ({"error": {"code": -1, "message": "no"}}, "-1"),
            ({"error": {"code": SERVER, "message": "no", "data": {"code": "declined"}}}, "declined"),
        ]:
            asked = await peer.ask(request("ask"))
            assert asked == request("ask", {"question": "sure?"}, asked["id"])
            assert await peer.ask({"jsonrpc": "2.0", "id": asked["id"], **answer}) == result(outcome)
        asked = await peer.ask(request("ask"))
        told_both = [await peer.ask({"jsonrpc": "2.0", "id": asked["id"], "result": "maybe"}), await peer.hear()]
        wrong = next(each for each in told_both if each["id"] == asked["id"])
        assert wrong["error"]["data"]["errors"][0]["loc"] == ["result"]
        await peer.send({"jsonrpc": "2.0", "id": asked["id"], "result": True})  # late
        assert await peer.ask(request("note")) == result(None)

    served(talk, Conversing)


def test_rooms_with_other_envelopes() -> None:
    """A broadcast is a notification here, and whatever it is there; history, its place and a resume are told, too."""

    class Flat(Endpoint):
        @event
        async def enter(self, room: str) -> None:
            await self.join(room)

    async def talk(connect: Connect) -> None:
        rpc, flat = Peer((await connect("rpc")).connection), await connect("flat")
        position = await rpc.ask(request("enter", ["r1"]))
        assert position["method"] == "room_position"
        assert await rpc.hear() == result(None)
        await flat.call("enter", room="r1")
        assert await rpc.ask(request("say", ["r1", "hi"])) == notification(
            "posted", {"msg": "hi", "room": "r1", "seq": 1}
        )
        assert await flat.receive() == {"type": "posted", "msg": "hi", "room": "r1", "seq": 1}
        other, epoch = Peer((await connect("rpc")).connection), position["params"]["epoch"]
        found = await other.ask(request("resume", [{"r1": {"seq": 0, "epoch": epoch}}]))
        assert found["result"]["rooms"] == {"r1": {"recovered": True, "seq": 1, "epoch": epoch}}
        assert await other.hear() == notification("posted", {"msg": "hi", "room": "r1", "seq": 1})

    async def whole() -> None:
        flat = type("FlatInHistory", (Flat,), {"history": Conversing.history, "acknowledge": True})
        app = Starlette(routes=[WebSocketRoute("/rpc", Conversing), WebSocketRoute("/flat", flat)])
        async with serving(app) as connect:
            await talk(connect)

    run(whole)


def test_each_request_of_a_batch_counts() -> None:
    """A rate limit sees as many as there are."""

    class Limited(Api):
        rate_limit = RateLimit(2, per_s=3600)

    async def talk(peer: Peer) -> None:
        answers = await peer.ask([request("note", id_=id_) for id_ in (1, 2, 3)])
        assert answers[:2] == [result(None, 1), result(None, 2)]
        assert answers[2]["error"]["data"]["code"] == "rate_limited"

    served(talk, Limited)


class Counter(Conversing):
    """Counts which of its requests run beside each other."""

    @functools.cached_property
    def running(self) -> list[str]:
        return []

    async def _run(self, name: str, held: bool) -> list[str]:
        self.running.append(name)
        try:
            if held:
                await self.call(Ask(question="go on?"))
            return list(self.running)
        finally:
            self.running.remove(name)

    @event(serial_by="key")
    async def by_key(self, key: str, held: bool = False) -> list[str]:
        return await self._run(key, held)

    @event(concurrent=1)
    async def alone(self, key: str, held: bool = False) -> list[str]:
        return await self._run(key, held)


@pytest.mark.parametrize("method", ["by_key", "alone"])
def test_a_request_of_a_batch_waits_for_those_before_it(method: str) -> None:
    """`serial_by` and `concurrent` count for it, too, and for those behind it."""

    async def talk(peer: Peer) -> None:
        asked = await peer.ask(request(method, ["a", True], "first"))
        await peer.send([request(method, ["a"], 1), request(method, ["a"], 2)])
        await peer.send(request(method, ["a"], "last"))
        assert await peer.ask({"jsonrpc": "2.0", "id": asked["id"], "result": True}) == result(["a"], "first")
        heard = [await peer.hear(), await peer.hear()]
        assert [result(["a"], 1), result(["a"], 2)] in heard
        assert result(["a"], "last") in heard

    served(talk, Counter)


def test_one_that_waits_in_a_batch_may_be_cancelled_with_it() -> None:
    """The peer has left: who waited for its turn has none, and nothing is logged."""

    async def talk(connect: Connect) -> None:
        peer = await connect()
        await Peer(peer.connection).ask(request("alone", ["a", True], "first"))
        await Peer(peer.connection).send([request("alone", ["b"], 1)])
        await peer.leave()
        other = Peer((await connect()).connection)
        assert await other.ask([request("alone", ["c"])]) == [result(["c"])]

    async def whole() -> None:
        async with serving(Counter) as connect:
            await talk(connect)

    run(whole)


def test_answers_of_a_batch_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for too much at once is told so; what is no request is done all the same."""

    monkeypatch.setattr(batches, "MAX_BYTES", 1000)

    async def talk(peer: Peer) -> None:
        large = "x" * 500
        asked = [request("anything", [large], 1), request("anything", [large], 2), request("anything", [3], 3)]
        answers = await peer.ask([*asked, notification("note", [4]), request("noted", id_=5)])
        assert answers[:2] == [result(large, 1), result(large, 2)]
        assert [each["error"]["data"]["code"] for each in answers[2:]] == ["batch_too_large"] * 2
        assert await peer.ask(request("noted")) == result([4])

    served(talk)


def test_streams_in_batches_count() -> None:
    """They are refused, but a rate limit sees them."""

    class Limited(Conversing):
        rate_limit = RateLimit(1, per_s=3600)

    async def talk(peer: Peer) -> None:
        answers = await peer.ask([request("count", [1], id_) for id_ in (1, 2)])
        assert [each["error"]["data"]["code"] for each in answers] == ["malformed_message", "rate_limited"]

    served(talk, Limited)


def test_who_has_answered_itself_gives_no_other_result() -> None:
    """From a thread, from a task, and where the class acknowledges: one result."""

    class Busy(Api):
        @event
        def from_a_thread(self) -> None:
            self.sync.respond(1)

        @event
        async def and_more(self) -> int:
            await self.respond(1)
            return 2

        @event
        async def from_a_task(self) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.respond(1))

    async def talk(peer: Peer) -> None:
        for method in ("from_a_thread", "from_a_task", "respond_first", "and_more"):
            assert await peer.ask(request(method)) == result(1)
            assert await peer.ask([request(method), request("note", id_=2)]) == [result(1), result(None, 2)]
            assert await peer.ask([request("nothing_with_teardown")]) == [result(None)]
        assert await peer.ask(request("nothing_with_teardown")) == result(None)

    served(talk, Busy)
    served(talk, type("Acknowledging", (Busy,), {"acknowledge": True}))
    served(talk, type("BusyConversing", (Busy, Conversing), {}))


@LOOPS
def test_who_answers_late_owes_the_next_its_null(converses: bool) -> None:
    """An answer behind the end of its handler counts for that request, and for no other one with the same `id`."""

    class Late(Conversing if converses else Api):  # type: ignore[misc]
        @event
        async def later(self) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: loop.call_soon(self.spawn, self.respond(1)))

    async def talk(peer: Peer) -> None:
        for _ in range(3):
            assert [await peer.ask(request("later")), await peer.hear()] == [result(None), result(1)]

    served(talk, Late)


def test_items_that_are_given_to_respond() -> None:
    """Of a stream, by itself or by an override that puts in what it likes."""

    class Loud(Conversing):
        @event
        async def more_of(self) -> AsyncIterator[Point]:
            await self.respond(Point(x=1))
            yield Point(x=2)

        async def respond(self, response: Any) -> None:
            await super().respond(response)

    async def talk(peer: Peer) -> None:
        await peer.send(request("more_of"))
        for x in (1, 2):
            assert await peer.hear() == notification("point", {"item": {"x": x, "y": 0}, "ref": 1})
        assert await peer.hear() == result(None)

    served(talk, Loud)


def test_positions_of_parameters_that_look_at_the_whole_message() -> None:
    """Validators that take `info`, and keys that a generator makes of the names."""

    def bounded(value: int, info: ValidationInfo) -> int:
        return min(value, info.data["most"])

    class Camel(Api):
        alias_generator = to_camel

        @event
        async def bound(self, most: int, its_value: Annotated[int, AfterValidator(bounded)]) -> int:
            return its_value

    async def talk(peer: Peer) -> None:
        assert await peer.ask(request("bound", [3, 5])) == result(3)
        assert await peer.ask([request("bound", {"most": 9, "itsValue": 5})]) == [result(5)]
        answer = await peer.ask(request("bound", [3, "x"]))
        assert answer["error"]["data"]["errors"][0]["loc"] == ["params", "itsValue"]

    served(talk, Camel)


def test_positions_of_parameters_that_are_taken_from_within_others() -> None:
    """Have a place where one of their names is a key; else an array is refused in words, and names are taken."""

    class Paths(Api):
        @event
        async def chosen(
            self,
            name: Annotated[str, Field(validation_alias=AliasChoices(AliasPath("user", "name"), "name"))],
            n: int = 0,
        ) -> str:
            return name

        @event
        async def within(
            self, n: int, name: Annotated[str, Field(validation_alias=AliasPath("user", "name"))] = ""
        ) -> str:
            return name

    async def talk(peer: Peer) -> None:
        for params in ({"user": {"name": "ada"}}, {"name": "ada"}, ["ada"], ["ada", 3]):
            assert await peer.ask(request("chosen", params)) == result("ada")
        assert await peer.ask(request("within", {"n": 1, "user": {"name": "ada"}})) == result("ada")
        assert await peer.ask(request("within", [1])) == result("")
        answer = await peer.ask(request("within", [1, "ada"]))
        assert told(answer) == (PARAMS, 1)
        assert answer["error"]["data"]["errors"] == [
            {
                "type": "dict_type",
                "loc": ["params"],
                "msg": "Input should be an object: what is item 1 of an array is taken from within another and has no "
                "place of its own",
            }
        ]

    served(talk, Paths)


def test_a_model_is_one_of_the_params(caplog: pytest.LogCaptureFixture) -> None:
    """By its name or place, also with a Literal; where its fields are sent as the params, the log says what helps."""

    class Join(BaseModel):
        method: Literal["join"] = "join"
        room: str

    class Models(Api):
        @event
        async def join(self, msg: Join) -> str:
            return msg.room

    async def talk(peer: Peer) -> None:
        assert await peer.ask(request("join", {"msg": {"room": "r"}})) == result("r")
        assert await peer.ask(request("join", [{"room": "r"}])) == result("r")
        assert told(await peer.ask(request("join", {"room": "r"}))) == (PARAMS, 1)

    served(talk, Models)
    assert [line.rpartition("; ")[2] for line in caplog.messages] == ["take its fields as parameters (told once)"]


def test_a_batch_in_a_binary_frame() -> None:
    """Its handlers see that."""

    class Current(Api):
        @event
        async def current_of(self) -> list[Any]:
            return list(self.current or ())

    async def talk(peer: Peer) -> None:
        await peer._connection.send(json.dumps([request("current_of")]).encode())
        assert await peer.hear() == [result(["current_of", 1, "binary"])]

    served(talk, Current)


def test_an_override_of_what_is_told_counts_in_batches_too() -> None:
    """`respond` and `send_exception` are asked for each of them."""

    class Loud(Api):
        async def respond(self, response: Any) -> None:
            await super().respond([response])

        async def send_exception(self, exc: Exception) -> None:
            await super().send_exception(EventError("hidden"))

    async def talk(peer: Peer) -> None:
        assert await peer.ask(request("anything", [1])) == result([1])
        answers = await peer.ask([request("anything", [1]), request("nowhere", id_=2)])
        assert answers[0] == result([1])
        assert answers[1]["error"]["data"]["code"] == "hidden"

    served(talk, Loud)


def test_random_frames_have_an_answer_or_none() -> None:
    """Whatever is put together of parts of requests: one answer at most, of the right shape; nothing ends."""
    dice = random.Random(20)
    values: list[Any] = [
        None,
        True,
        0,
        1,
        -1.5,
        "",
        "note",
        "subtract",
        "2.0",
        [],
        {},
        [1],
        {"minuend": 3},
        [{}],
        {"a": []},
    ]
    keys = ["jsonrpc", "jsonrpc", "id", "method", "params", "result", "error", "other"]

    def frame() -> Any:
        made = {key: dice.choice(values) for key in dice.sample(keys, dice.randint(0, 6))}
        if dice.random() < 0.8:
            made["jsonrpc"] = "2.0"
        if dice.random() < 0.7:
            made["method"] = dice.choice(["note", "subtract", "nowhere", "move"])
        return made if dice.random() < 0.8 else [made, dice.choice(values)][: dice.randint(0, 2)]

    async def talk(peer: Peer) -> None:
        for number in range(400):
            await peer.send(frame())
            answer = await peer.ask(request("anything", [number], f"end {number}"))
            if answer != result(number, f"end {number}"):
                for each in answer if isinstance(answer, list) else [answer]:
                    assert each["jsonrpc"] == "2.0"
                    assert ("result" in each) != ("error" in each)
                    assert "id" in each
                assert await peer.hear() == result(number, f"end {number}")

    served(talk)


@pytest.mark.parametrize("bound", [0, -1, True, "5", None])
def test_a_bound_of_batches_is_a_positive_number(bound: Any) -> None:
    with pytest.raises(DefinitionError, match="max_batch"):
        JsonRpc(max_batch=bound)


def test_what_answers_binary_data() -> None:
    """Is binary data, or nothing: a result would have no `id`."""

    async def length(self: Any, data: bytes) -> int:
        return len(data)

    class Echo(Endpoint):
        envelope = JsonRpc()

        @binary
        async def echo(self, data: bytes) -> bytes:
            await self.respond(data)
            return data

    async def talk(peer: Peer) -> None:
        await peer._connection.send(b"\xff")
        assert [await peer._connection.recv() for _ in range(2)] == [b"\xff", b"\xff"]

    served(talk, Echo)
    served(talk, type("EchoConversing", (Echo, Conversing), {}))
    with pytest.raises(DefinitionError, match="no id"):
        type("Length", (Endpoint,), {"envelope": JsonRpc(), "length": binary(length)})


def test_what_is_flat_stays_refused_in_flat_envelopes() -> None:
    """`-> int` is a result here, and no message there."""
    with pytest.raises(DefinitionError, match="no object"):
        type("Flat", (Endpoint,), {"envelope": Envelope(), "doubled": vars(Api)["doubled"]})
