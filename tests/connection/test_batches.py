"""Batches of JSON-RPC beside what else a connection does: who is cancelled, who is heard at once, who closes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed

from socketsundso import Depends, EventError, binary, event
from tests.connection.conversing import Log
from tests.connection.test_json_rpc import (
    LOOPS,
    SERVER,
    Api,
    Ask,
    Conversing,
    Peer,
    Point,
    notification,
    request,
    result,
    served,
    told,
)
from tests.rooms import serving


@pytest.fixture(params=["ours", "uvicorn's"])
def any_protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On our server, which calls when something comes, and on uvicorn's, where a task reads ahead."""
    if request.param != "ours":
        monkeypatch.setattr(serving, "protocol", "websockets-sansio")


LOG = Log()


@pytest.fixture(autouse=True)
def log() -> Log:
    LOG.clear()
    return LOG


class Waiting(Conversing):
    """Handlers that wait until somebody stops them."""

    disconnect_grace_s = 0.01

    async def _wait(self, name: str) -> None:
        LOG.append(name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            LOG.append(f"{name} stopped")
            raise

    @event
    async def in_turn(self) -> None:
        await self._wait("in turn")

    @event(concurrent=1)
    async def alone(self) -> None:
        await self._wait("alone")

    @event
    async def stubborn(self) -> str:
        try:
            await self._wait("stubborn")
        except asyncio.CancelledError:
            return "in spite of it"
        return ""

    @event
    async def responding(self) -> str:
        await self.respond("first")
        LOG.append("responded")
        await self.call(Ask(question="go on?"), returns=bool)
        return "second"


def cancel(ref: Any) -> dict[str, Any]:
    return notification("cancel", {"ref": ref})


def cancelled(answer: dict[str, Any]) -> bool:
    return told(answer)[0] == SERVER and answer["error"]["data"]["code"] == "cancelled"


@pytest.mark.usefixtures("any_protocol")
def test_a_request_of_a_batch_is_cancelled_by_its_id(log: Log) -> None:
    """The one that runs, those that wait behind it, and those of a batch that waits; the others are answered."""

    async def talk(peer: Peer) -> None:
        await peer.send([request("in_turn"), request("note", id_=2), request("note", id_=3)])
        await log.has("in turn")
        await peer.send([request("note", id_=4), request("note", id_=5)])
        for ref in (3, 5, 1, 99):
            await peer.send(cancel(ref))
        first, second = await peer.hear(), await peer.hear()
        assert (first[1], second[0]) == (result(None, 2), result(None, 4))
        assert [each["id"] for each in (first[0], first[2], second[1])] == [1, 3, 5]
        assert all(map(cancelled, (first[0], first[2], second[1])))
        assert log == ["in turn", "in turn stopped"]

    served(talk, Waiting)


@pytest.mark.usefixtures("any_protocol")
def test_one_that_waits_for_its_turn_beside_others_is_cancelled(log: Log) -> None:
    """The turn of a concurrent event is not its own yet, and is passed on."""

    async def talk(peer: Peer) -> None:
        await peer.send(request("alone", id_="first"))
        await log.has("alone")
        await peer.send([request("alone", id_=1), request("alone", id_=2)])
        await peer.send(cancel(1))
        await peer.send(cancel("first"))
        assert cancelled(await peer.hear())
        await log.satisfies(lambda: log.count("alone") == 2)
        answers = await peer.ask(cancel(2))
        assert list(map(cancelled, answers)) == [True, True]
        assert log == ["alone", "alone stopped"] * 2

    served(talk, Waiting)


def test_a_cancel_in_the_same_batch(log: Log) -> None:
    """Reaches what stands before it; before its request it is too early."""

    async def talk(peer: Peer) -> None:
        answers = await peer.ask([cancel(2), request("in_turn"), request("note", id_=2), cancel(1)])
        assert cancelled(answers[0])
        assert answers[1] == result(None, 2)
        assert log == []

    served(talk, Waiting)


def test_who_answers_in_spite_of_its_cancel_is_heard(log: Log) -> None:
    """And the next request of the batch is not cancelled for it."""

    async def talk(peer: Peer) -> None:
        await peer.send([request("stubborn"), request("slow", id_=2), request("note", id_=3)])
        await log.has("stubborn")
        answers = await peer.ask(cancel(1))
        assert answers[0] == result("in spite of it")
        assert answers[1]["error"]["data"]["code"] == "timeout"
        assert answers[2] == result(None, 3)

    served(talk, Waiting)


def test_an_id_of_a_batch_is_in_use() -> None:
    """Beside one that runs apart its answer could not be told from the other's."""

    async def talk(peer: Peer) -> None:
        asked = await peer.ask([request("ask", id_=1), request("wait", id_=2)])
        assert (await peer.ask(request("wait", id_=2)))["error"]["data"]["code"] == "ref_in_use"
        await peer.send({"jsonrpc": "2.0", "id": asked["id"], "result": True})
        await peer.send(cancel(2))
        answers = await peer.hear()
        assert answers[0] == result(True)
        assert cancelled(answers[1])
        await peer.send(request("wait", id_="w"))
        answers = await peer.ask([request("note", id_="w"), request("note", id_=3)])
        assert answers[0]["error"]["data"]["code"] == "ref_in_use"
        assert answers[1] == result(None, 3)

    served(talk, Waiting)


@pytest.mark.usefixtures("any_protocol")
def test_an_answer_to_a_call_is_taken_out_of_a_batch_at_once() -> None:
    """Its handler waits for that very answer, alone or in a batch itself; a refusal and an invalid one, too."""

    async def talk(peer: Peer) -> None:
        for asking in (request("ask"), [request("ask")]):
            for answer, outcome in [
                ({"result": True}, True),
                ({"error": {"code": 1, "message": "no"}}, "1"),
            ]:
                asked = await peer.ask(asking)
                heard = {"jsonrpc": "2.0", "id": asked["id"], **answer}
                found = [await peer.ask([request("note", id_=2), heard, notification("note")]), await peer.hear()]
                alone = result(outcome) if isinstance(asking, dict) else [result(outcome)]
                assert found == [alone, [result(None, 2)]]
        asked = await peer.ask(request("ask"))
        await peer.send([{"jsonrpc": "2.0", "id": asked["id"], "result": "maybe"}])
        answers = [await peer.hear(), await peer.hear()]
        wrong = next(each for each in answers if each["id"] == asked["id"])
        assert wrong["error"]["data"]["errors"][0]["loc"] == ["result"]
        await peer.send([{"jsonrpc": "2.0", "id": "s:99", "result": True}])  # nobody's
        assert await peer.ask(request("note")) == result(None)

    served(talk, Conversing)


def test_items_of_an_upload_in_batches() -> None:
    """Are its own, in order, while another handler waits, too."""

    async def talk(peer: Peer) -> None:
        await peer.send(request("total", id_="up"))
        asked = await peer.ask(request("ask"))
        items = [notification("item", {"ref": "up", "item": number}) for number in range(3)]
        assert await peer.ask([*items, notification("complete", {"ref": "up"})]) == result(3, "up")
        assert await peer.ask({"jsonrpc": "2.0", "id": asked["id"], "result": True}) == result(True)

    served(talk, Conversing)


# ---- one answer for each request


def opened(log: list[str] = LOG) -> Any:
    yield log
    log.append("torn down")


class Twice(Api):
    """Answers by itself, and then does something else that would be an answer."""

    @event
    async def and_returns(self) -> int:
        await self.respond(1)
        return 2

    @event
    async def and_raises(self, how: str) -> None:
        await self.respond(1)
        raise EventError("late", "too late") if how == "purpose" else RuntimeError("too late")

    @event
    async def and_responds(self) -> None:
        await self.respond(1)
        await self.respond(2)

    @event
    async def and_again(self) -> int:
        await self.respond(1)
        try:
            await self.respond(2)
        except RuntimeError as exc:
            await self.send({"type": "told", "why": str(exc)})
        return 3

    @event
    async def an_exception(self) -> int:
        await self.send_exception(EventError("first", "it is"))
        return 2

    @event
    async def with_teardown(self, opened: Annotated[Any, Depends(opened)]) -> int | None:  # type: ignore[override]
        await self.respond(1)
        return 2


class TwiceConversing(Twice, Waiting):
    @event(concurrent=True)
    async def apart(self) -> int:
        await self.respond(1)
        return 2

    @event(concurrent=True)
    async def apart_and_raises(self) -> int:
        await self.respond(1)
        raise RuntimeError("too late")

    @event(concurrent=True)
    async def apart_and_waits(self) -> None:
        await self.respond(1)
        await self._wait("apart")

    @event(timeout_s=0.01)
    async def and_takes_long(self) -> None:
        await self.respond("first")
        await self.call(Ask(question="go on?"), returns=bool)

    @event
    async def counted(self, numbers: AsyncIterator[int]) -> int:
        await self.respond(1)
        async for number in numbers:
            LOG.append(number)
        return 2


class Overriding(Twice):
    async def respond(self, response: Any) -> None:
        await super().respond(response)


class OverridingConversing(TwiceConversing):
    async def respond(self, response: Any) -> None:
        await super().respond(response)


SERVED = [Twice, Overriding, TwiceConversing, OverridingConversing]


@pytest.mark.parametrize("endpoint", SERVED)
@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_a_request_has_one_answer(endpoint: Any, batch: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The first one stands. What comes later is raised where it is sent, and logged."""
    asked = [
        request("and_returns"),
        request("and_raises", ["purpose"]),
        request("and_raises", ["bug"]),
        request("and_responds"),
        request("with_teardown"),
    ]
    if issubclass(endpoint, TwiceConversing):
        asked += [request("apart"), request("apart_and_raises")]

    async def talk(peer: Peer) -> None:
        for each in asked:
            answer = await peer.ask([each] if batch else each)
            assert answer == ([result(1)] if batch else result(1)), each
            assert await peer.ask(request("note")) == result(None)

    with caplog.at_level(logging.ERROR, "socketsundso"):
        served(talk, endpoint)
    assert len(caplog.records) == len(asked)
    assert "what it returned besides is not sent" in caplog.text
    assert "nobody is told of RuntimeError('too late')" in caplog.text
    assert "has its answer already" in caplog.text


@pytest.mark.usefixtures("any_protocol")
def test_a_second_answer_is_raised_in_the_handler() -> None:
    """With the remedy; what goes beside an answer is a push."""

    async def talk(peer: Peer) -> None:
        assert await peer.ask(request("and_again")) == result(1)
        push = await peer.hear()
        assert push["params"]["why"] == (
            "'and_again' has its answer already, and a request has one: `send` is for what comes beside it"
        )
        answer = await peer.ask(request("an_exception", id_=2))
        assert (told(answer), answer["error"]["message"]) == ((SERVER, 2), "it is")
        assert await peer.ask(request("note")) == result(None)

    served(talk, Twice)


def test_a_notification_that_responds_is_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    """However often it does: nothing is sent, and nothing is wrong."""

    async def talk(peer: Peer) -> None:
        await peer.send(notification("and_responds"))
        assert await peer.ask(request("note")) == result(None)

    served(talk, Twice)
    assert not caplog.records


@pytest.mark.usefixtures("any_protocol")
@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_who_has_answered_is_not_cancelled(batch: bool) -> None:
    """It goes on, whether it has its turn or runs apart; nor does its time end it. Its `id` may be used again."""

    async def talk(peer: Peer) -> None:
        for method in ("responding", "and_takes_long"):
            heard = [await peer.ask([request(method)] if batch else request(method))]
            if not batch:  # whose answer leaves behind all of it
                heard.append(await peer.hear())
            asked = heard.pop()
            await peer.send(cancel(1))
            assert await peer.ask(request("keyed", ["a"])) == result("a")
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": True}
            if batch:
                heard = [await peer.ask(answer)]
            else:
                await peer.send(answer)
            assert heard == [[result("first")] if batch else result("first")]
            assert await peer.ask(request("note")) == result(None)

    served(talk, TwiceConversing)


def test_who_has_answered_apart_goes_on(log: Log) -> None:
    """A cancel is too late; its end is that of the connection. An upload still hears its items."""

    async def talk(peer: Peer) -> None:
        assert await peer.ask(request("apart_and_waits")) == result(1)
        await peer.send(cancel(1))
        assert await peer.ask(request("keyed", ["a"])) == result("a")
        assert "apart stopped" not in log
        assert await peer.ask(request("counted", id_=5)) == result(1, 5)
        await peer.send(notification("item", {"ref": 5, "item": 8}))
        await peer.send(notification("complete", {"ref": 5}))
        await log.has(8)
        assert await peer.ask(request("note")) == result(None)

    served(talk, TwiceConversing)
    assert log[-1] == "apart stopped"


@pytest.mark.parametrize("method", ["hold", "hold_apart"])
@pytest.mark.usefixtures("any_protocol")
def test_who_has_its_id_refused_takes_no_answer_from_another(method: str, log: Log) -> None:
    """Nor does one that answers late, behind its own end: the request that has this `id` now is answered as ever."""

    class Holding(Waiting):
        async def _hold(self) -> int:
            LOG.append("held")
            await LOG.has("go on")
            return 1

        @event
        async def hold(self) -> int:
            return await self._hold()

        @event(concurrent=True)
        async def hold_apart(self) -> int:
            return await self._hold()

        async def _answer_late(self) -> None:
            await LOG.has("held")
            await self.respond(0)
            LOG.append("late")

        @event
        async def leave_behind(self) -> None:
            self.spawn(self._answer_late())

        @event(concurrent=True)
        async def leave_behind_apart(self) -> None:
            self.spawn(self._answer_late())

    async def talk(peer: Peer) -> None:
        for before in ("leave_behind", "leave_behind_apart"):
            log.clear()
            assert await peer.ask(request(before)) == result(None)
            await peer.send(request(method))
            await log.has("late")
            assert await peer.hear() == result(0)  # which JSON-RPC does not permit, and nobody could take back
            answer = await peer.ask(request("wait"))
            assert answer["error"]["data"]["code"] == "ref_in_use"
            log.append("go on")
            assert await peer.hear() == result(1)

    served(talk, Holding)


# ---- the end


class Closing(Api):
    @event
    async def leave(self, how: str) -> int:
        if how == "raise":
            raise WebSocketException(4001, "enough")
        if how == "disconnect":
            raise WebSocketDisconnect(4001)
        await self.close(4001, "enough")
        return 1

    @event
    def leave_in_a_thread(self) -> None:
        self.sync.close(4001)


class ClosingConversing(Closing, Conversing):
    @event(concurrent=True)
    async def leave_apart(self) -> Point:
        await self.close(4001)
        return Point(x=1)


@LOOPS
@pytest.mark.usefixtures("any_protocol")
def test_what_is_answered_before_a_handler_closes_is_told(converses: bool) -> None:
    """In one array, before the close; what is behind it is not handled."""
    endpoint = ClosingConversing if converses else Closing
    closing = [request("leave", [how], 3) for how in ("close", "raise", "disconnect")]
    closing += [request("leave_in_a_thread", id_=3), notification("leave", ["close"])]
    if converses:
        closing.append(request("leave_apart", id_=3))

    async def talk() -> None:
        async with serving.serving(endpoint) as connect:
            for each in closing:
                connection = (await connect()).connection
                peer = Peer(connection)
                before = request("subtract", [3]), notification("note"), request("nowhere", id_=2)
                await peer.send([*before, each, request("note", id_=4)])
                first, second = await peer.hear()
                assert first == result(2)
                assert second["id"] == 2
                with pytest.raises(ConnectionClosed):
                    await peer.hear()
                assert connection.close_code == 4001
            connection = (await connect()).connection
            await Peer(connection).send([notification("note"), notification("leave", ["close"])])
            with pytest.raises(ConnectionClosed):  # and no empty array
                await Peer(connection).hear()

    serving.run(talk)


def test_what_others_wait_behind_is_answered_as_ever(log: Log) -> None:
    """A notification is not, also where a reply would be joined with the next one's; bytes are binary there, too."""

    class Slow(Conversing):
        @event
        async def slowly(self, value: int) -> int:
            LOG.append(value)
            await LOG.has("go on")
            return value

        @binary
        async def echo(self, data: bytes) -> bytes:
            await LOG.has("go on")
            return data

    async def talk(peer: Peer) -> None:
        await peer.send(notification("slowly", [1]))
        await log.has(1)
        for number in (2, 3):
            await peer.send(notification("slowly", [number]))
            await peer.send(request("slowly", [number]))
            await peer._connection.send(b"\xff%d" % number)
        log.append("go on")
        assert [await peer.hear() if n % 2 == 0 else await peer._connection.recv() for n in range(4)] == [
            result(2), b"\xff2", result(3), b"\xff3"
        ]  # fmt: skip

    served(talk, Slow)


@pytest.mark.parametrize("seed", range(6))
def test_every_request_has_one_answer_whatever_is_cancelled(seed: int) -> None:
    """Alone and in batches, waiting, running and refused: each `id` is answered once, and nothing else is."""
    dice = random.Random(seed)
    methods = ["note", "in_turn", "alone", "stubborn", "apart", "and_returns", "count", "nowhere", "and_takes_long"]

    async def talk(peer: Peer) -> None:
        asked: list[int] = []
        answered: Counter[Any] = Counter()

        def one() -> dict[str, Any]:
            if asked and dice.random() < 0.35:
                return cancel(dice.choice(asked))
            asked.append(len(asked))
            return request(dice.choice(methods), id_=asked[-1])

        async def hear() -> None:
            heard = await peer.hear()
            for each in heard if isinstance(heard, list) else [heard]:
                if "method" not in each:
                    answered[each["id"]] += 1
                elif each["method"] == "ask":
                    await peer.send({"jsonrpc": "2.0", "id": each["id"], "result": True})

        for _ in range(40):
            await peer.send([one() for _ in range(dice.randint(1, 5))] if dice.random() < 0.6 else one())
            if dice.random() < 0.2:
                await asyncio.sleep(0)
        for ref in asked:
            await peer.send(cancel(ref))
        while answered.keys() != set(asked):
            await hear()
        await peer.send(request("note", id_="end"))
        while "end" not in answered:
            await hear()
        assert set(answered.values()) == {1}, f"seed {seed}"

    served(talk, TwiceConversing)
