"""Generated Python clients against real servers: ours, and uvicorn's own protocol."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
from types import ModuleType
from typing import Any

import pytest
import uvloop
from starlette.exceptions import HTTPException

from ..clients import load
from .office import OFFICE, Office, log
from .servers import PROTOCOLS, Served, serving, until

_numbers = itertools.count()
FAST = {"backoff": lambda attempt: 0.001}


@pytest.fixture(scope="module", params=["msgspec", "pydantic"])
def made(request: pytest.FixtureRequest) -> ModuleType:
    """The generated module."""
    return load(OFFICE, request.param)


@pytest.fixture(scope="module")
def client() -> ModuleType:
    """With msgspec, where the models make no difference."""
    return load(OFFICE)


@pytest.fixture
def doc() -> str:
    """The name of a room with history that no other test has been in."""
    return f"doc:{next(_numbers)}"


@pytest.fixture(autouse=True)
def forgotten() -> None:
    log.clear()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_has_its_typed_reply(made: ModuleType, protocol: str) -> None:
    """Whatever protocol serves it."""

    async def main() -> None:
        async with serving(Office, PROTOCOLS[protocol]) as served, made.Office(served.url) as office:
            assert await office.echo(text="hi") == made.Text(text="hi")

    asyncio.run(main())


def test_requests_at_once_have_their_own_replies(made: ModuleType) -> None:
    """Also where the server answers in another order."""

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url) as office:
            slow = asyncio.create_task(office.slow(wait_s=0.05))
            texts = [str(n) for n in range(100)]
            answers = await asyncio.gather(*(office.echo(text=text) for text in texts))
            assert [answer.text for answer in answers] == texts
            assert (await slow).text == "late"

    asyncio.run(main())


def test_an_error_of_the_application_has_its_class_and_its_details(made: ModuleType) -> None:
    """`SoldOut` has `left`, and is the channel's error, too."""

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url) as office:
            with pytest.raises(made.SoldOut) as caught:
                await office.buy(count=5)
            assert (caught.value.code, caught.value.left, caught.value.event) == ("sold_out", 3, "buy")
            assert isinstance(caught.value, made.OfficeError)

    asyncio.run(main())


def test_an_error_of_validation_tells_the_field(made: ModuleType) -> None:
    """As pydantic has it; its text is for people."""

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url) as office:
            with pytest.raises(made.OfficeError, match="buy: validation_error \\(count .*integer") as caught:
                await office.buy(count="many")
            assert (caught.value.code, caught.value.errors[0]["loc"]) == ("validation_error", ["count"])

    asyncio.run(main())


def test_a_stream_is_iterated_to_its_end(made: ModuleType) -> None:
    """Every item, in order; a second iteration of it has ended."""

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url) as office:
            stream = office.count(to=3)
            assert [item.n async for item in stream] == [0, 1, 2]
            assert [item async for item in stream] == []

    asyncio.run(main())


@pytest.mark.parametrize("how", ["break", "raise", "aclose", "async with", "cancel"])
def test_who_leaves_a_stream_cancels_it(client: ModuleType, how: str) -> None:
    """The generator on the server ends, however the loop was left; the connection lives."""

    async def taken(office: Any) -> None:
        stream = office.count(to=10**9, wait_s=0.001)
        if how == "async with":
            async with stream:
                await anext(stream)
            return
        async for _ in stream:
            if how == "break":
                break
            if how == "raise":
                raise LookupError
            if how == "aclose":
                await stream.aclose()
            if how == "cancel":
                asyncio.current_task().cancel()  # type: ignore[union-attr]  # there is one

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url) as office:
            await asyncio.gather(asyncio.create_task(taken(office)), return_exceptions=True)
            gc.collect()
            await until(lambda: "count closed" in log)
            assert (await office.echo(text="still here")).text == "still here"

    asyncio.run(main())


def test_an_item_may_be_waited_for_again(client: ModuleType) -> None:
    """Who gives up waiting for one item, as `asyncio.timeout` does, has not given up the stream."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url) as office:
            stream = office.count(to=2, wait_s=0.05)
            assert (await anext(stream)).n == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await anext(stream)
            assert (await anext(stream)).n == 1

    asyncio.run(main())


def test_a_stream_that_is_closed_elsewhere_ends_for_who_waits(client: ModuleType) -> None:
    """As no async generator can: `aclose` of one that somebody is stepping is an error there."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url) as office:
            stream = office.count(to=2, wait_s=30)
            assert (await anext(stream)).n == 0
            waiting = asyncio.create_task(anext(stream, None))
            await asyncio.sleep(0)
            await stream.aclose()
            assert await waiting is None
            await until(lambda: "count closed" in log)

    asyncio.run(main())


def test_a_stream_has_a_time_limit_for_each_item(client: ModuleType) -> None:
    """If one is wished; then it is cancelled."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url) as office:
            stream = office.count(to=2, wait_s=30, timeout_s=0.05)
            assert (await anext(stream)).n == 0
            with pytest.raises(TimeoutError, match=r"count: no item within 0\.05 s"):
                await anext(stream)
            await until(lambda: "count closed" in log)

    asyncio.run(main())


def test_the_server_is_answered(made: ModuleType) -> None:
    """By async and by plain functions; what refuses, fails or is missing is told by its code."""

    async def later(question: Any) -> bool:
        await asyncio.sleep(0)
        return bool(question.question == "sure?")

    def refuses(question: Any) -> bool:
        raise made.CallRefused("declined", "no")

    def fails(question: Any) -> bool:
        raise LookupError

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url) as office:
            assert (await office.pay()).why == "unsupported"
            office.handle(made.Ask, later)
            assert (await office.pay()).paid
            office.handle(made.Ask, lambda question: False)
            assert not (await office.pay()).paid
            office.handle(made.Ask, refuses)
            assert (await office.pay()).why == "declined"
            office.handle(made.Ask, fails)
            assert (await office.pay()).why == "internal_error"
            with pytest.raises(TypeError, match="Office never asks Text"):
                office.handle(made.Text, fails)

    asyncio.run(main())


def test_a_call_that_the_server_gives_up_is_cancelled(client: ModuleType) -> None:
    """The handler gets CancelledError where it waits."""
    ended = []

    async def never(question: Any) -> bool:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)
        return True

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url) as office:
            office.handle(client.Ask, never)
            assert (await office.pay(wait_s=0.05)).why == "call_timeout"
            await until(lambda: ended)

    asyncio.run(main())


def test_pushes_are_iterated_in_order(made: ModuleType, doc: str) -> None:
    """All of them, or those of one type; presence and rooms' own messages are among them."""

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url) as office:
            posted = office.pushes(made.Posted)
            await office.enter(room=doc, name="ada")
            for n in range(3):
                await office.say(room=doc, msg=str(n))
            assert [(await anext(posted)).msg for _ in range(3)] == ["0", "1", "2"]
            kinds = [type(await anext(aiter(office))).__name__ for _ in range(5)]
            assert kinds == ["PresenceState", "PresenceDiff", "Posted", "Posted", "Posted"]

    asyncio.run(main())


def test_callbacks_are_called_in_the_order_of_all_pushes(client: ModuleType, doc: str) -> None:
    """One that waits holds up the next one, of whatever type; one that fails is logged."""
    seen: list[Any] = []

    async def slowly(push: Any) -> None:
        await asyncio.sleep(0.01)
        seen.append(push.msg)

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url) as office:
            off = office.on(client.Posted, lambda push: seen.append("never"))
            off()
            off()
            office.on(client.PresenceDiff, lambda push: seen.append("diff"))
            office.on(client.Posted, lambda push: 1 / 0)
            office.on(client.Posted, slowly)
            await office.enter(room=doc, name="ada")
            await office.say(room=doc, msg="one")
            await office.say(room=doc, msg="two")
            await until(lambda: len(seen) == 3)
            assert seen == ["diff", "one", "two"]
            with pytest.raises(TypeError, match="Office pushes no Text"):
                office.on(client.Text, slowly)

    asyncio.run(main())


def test_a_room_is_known(made: ModuleType, doc: str) -> None:
    """Its position, who is there, and what is said in it, apart from other rooms."""

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url) as office:
            room = office.room(doc)
            assert (room.position, room.members) == (None, {})
            said: list[str] = []
            room.on(made.Posted, lambda push: said.append(push.msg))
            posted, everything = room.pushes(made.Posted), aiter(room)
            for name in (doc, f"{doc} too"):
                await office.enter(room=name, name="ada")
                await office.say(room=name, msg=f"in {name}")
            assert (await anext(posted)).msg == f"in {doc}"
            assert isinstance(await anext(everything), made.PresenceState)
            assert (room.position.seq, list(room.members.values())) == (1, [{"name": "ada"}])
            assert said == [f"in {doc}"]

    asyncio.run(main())


async def lose(office: Any) -> None:
    """Its connection, as a network would."""
    states: list[str] = []
    office.on_state(states.append)
    office._connection.transport.abort()
    await until(lambda: states)


def test_a_client_comes_back_and_gets_what_it_missed(made: ModuleType, doc: str) -> None:
    """In order, before what is said later, and nothing twice."""

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url, **FAST) as ada, made.Office(served.url) as eve:
            opened: list[Any] = []
            ada.on_open(opened.append)
            for who in (ada, eve):
                await who.enter(room=doc, name="x")
            posted = ada.pushes(made.Posted)
            await eve.say(room=doc, msg="0")
            assert (await anext(posted)).msg == "0"
            await lose(ada)
            for n in range(1, 4):
                await eve.say(room=doc, msg=str(n))
            await until(lambda: ada.state == "open")
            await eve.say(room=doc, msg="4")
            assert [(await anext(posted)).msg for _ in range(4)] == ["1", "2", "3", "4"]
            assert [(each.reconnected, each.resumed) for each in opened] == [(True, {doc: True})]

    asyncio.run(main())


def test_a_room_that_cannot_be_resumed_is_a_gap(client: ModuleType, doc: str) -> None:
    """The server kept nothing of it; the client is there again, and knows that something is missing."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url, **FAST) as office:
            await office.enter(room=doc, name="ada")
            office._session.rooms[doc].epoch = "of another life"
            gaps = office.pushes(client.Gap)
            await lose(office)
            assert await anext(gaps) == client.Gap(doc, None)
            await office.say(room=doc, msg="x")
            assert office.room(doc).position.epoch != "of another life"

    asyncio.run(main())


def test_a_room_that_was_left_is_not_entered_again(client: ModuleType, doc: str) -> None:
    """`forget` says so."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url, **FAST) as office:
            opened: list[Any] = []
            office.on_open(opened.append)
            await office.enter(room=doc, name="ada")
            office.room(doc).forget()
            await lose(office)
            await until(lambda: opened)
            assert opened[0].resumed == {}

    asyncio.run(main())


def test_what_is_in_flight_fails_at_once(client: ModuleType) -> None:
    """Not after its time limit; what has `retry` is sent again, what was asked meanwhile is sent then."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url, **FAST) as office:
            lost = asyncio.create_task(office.slow(wait_s=30))
            again = asyncio.create_task(office.slow(wait_s=0.05, retry=True))
            stream = office.count(to=10**9, wait_s=0.01)
            assert (await anext(stream)).n == 0
            await until(lambda: log.count("slow") == 2)
            await served.stop()
            with pytest.raises(client.Disconnected) as caught:
                await lost
            assert caught.value.code == 1012
            with pytest.raises(client.Disconnected):
                async for _ in stream:
                    pass
            later = [asyncio.create_task(office.echo(text=str(n))) for n in range(3)]
            await asyncio.sleep(0)
            await served.start()
            assert (await again).text == "late"
            assert [(await each).text for each in later] == ["0", "1", "2"]
            assert [entry for entry in log if entry.startswith("echo")] == ["echo 0", "echo 1", "echo 2"]

    asyncio.run(main())


def test_what_the_application_asks_on_open_comes_first(client: ModuleType) -> None:
    """A sign-in is not behind what waited for the connection."""

    async def main() -> None:
        async with serving(Office) as served:
            office = client.Office(served.url, **FAST)

            async def sign_in(opened: Any) -> None:
                await office.echo(text=f"sign in {opened.reconnected}")

            office.on_open(sign_in)
            async with office:
                await served.stop()
                await until(lambda: office.state != "open")
                waiting = asyncio.create_task(office.echo(text="waited"))
                await asyncio.sleep(0)
                await served.start()
                await waiting
            assert log == ["echo sign in False", "echo sign in True", "echo waited"]

    asyncio.run(main())


def test_so_many_requests_wait_for_a_connection(client: ModuleType) -> None:
    """One more is refused at once; one that is given up leaves its place."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url, max_offline=2, **FAST) as office:
            await served.stop()
            await until(lambda: office.state != "open")
            first, second = (asyncio.create_task(office.echo(text=text)) for text in ("first", "second"))
            await asyncio.sleep(0)
            with pytest.raises(client.Disconnected, match="2 messages wait for a connection already"):
                await office.echo(text="third")
            stream = office.count(to=1)
            with pytest.raises(client.Disconnected, match="2 messages wait for a connection already"):
                await anext(stream)
            assert [item async for item in stream] == []
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            third = asyncio.create_task(office.echo(text="third"))
            await served.start()
            assert [(await each).text for each in (second, third)] == ["second", "third"]
            assert log == ["echo second", "echo third"]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "comes_back"),
    [
        *((code, False) for code in (1000, 1003, 1007, 1008, 1009, 4000, 4401, 4403)),
        *((code, True) for code in (1001, 1011, 1012, 1013, 3000, 4408, 4429)),
    ],
)
def test_the_close_code_says_whether_to_come_back(client: ModuleType, code: int, comes_back: bool) -> None:
    """As docs/protocol.md has it. Who reads pushes is told of an end that nobody wished."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url, **FAST) as office:
            states: list[str] = []
            office.on_state(states.append)
            with pytest.raises(client.Disconnected) as caught:
                await office.leave_with(code=code)
            assert (caught.value.code, caught.value.reason) == (code, "as you wish")
            if comes_back:
                await until(lambda: office.state == "open")
                assert states == ["waiting", "connecting", "open"]
            else:
                await until(lambda: office.state == "closed")
                with pytest.raises(client.Disconnected):
                    await office.echo(text="too late")
                if code == 1000:
                    assert [push async for push in office] == []
                else:
                    with pytest.raises(client.Disconnected, match=f"closed with {code}: as you wish"):
                        await anext(aiter(office))

    asyncio.run(main())


def test_a_refused_handshake_is_raised(client: ModuleType) -> None:
    """With its HTTP status, and nothing is left behind."""

    class Closed(Office):
        async def authenticate(self) -> None:
            raise HTTPException(403)

    async def main() -> None:
        async with serving(Closed) as served:
            office = client.Office(served.url)
            with pytest.raises(client.Disconnected, match="refused with HTTP 403") as caught:
                async with office:
                    pass
            assert (caught.value.status, office.state) == (403, "closed")

    asyncio.run(main())


def test_nobody_there_is_raised_or_waited_for(client: ModuleType) -> None:
    """The first connection decides at once, unless `wait_for_server`."""

    async def main() -> None:
        served = Served(Office)
        with pytest.raises(client.Disconnected, match="no connection") as caught:
            await client.Office(served.url).open()
        assert isinstance(caught.value.__cause__, OSError)
        office = client.Office(served.url, wait_for_server=True, **FAST)
        entering = asyncio.create_task(office.open())
        await until(lambda: office.state == "waiting")
        await served.start()
        await entering
        assert (await office.echo(text="at last")).text == "at last"
        await office.close()
        await served.stop()

    asyncio.run(main())


def test_a_sign_in_that_expires_for_good_ends_a_client_that_was_open(client: ModuleType) -> None:
    """A handshake that is refused on the way back, too: who is not let in does not knock for ever."""

    class Once(Office):
        seen = 0

        async def authenticate(self) -> None:
            Once.seen += 1
            if Once.seen > 1:
                raise HTTPException(401)

    async def main() -> None:
        async with serving(Once) as served, client.Office(served.url, **FAST) as office:
            await lose(office)
            await until(lambda: office.state == "closed")
            with pytest.raises(client.Disconnected, match="HTTP 401"):
                await office.echo(text="x")
            assert Once.seen == 2

    asyncio.run(main())


def test_the_handshake_has_what_was_given(client: ModuleType) -> None:
    """Token, headers, query; functions are asked for every attempt, async ones too."""
    tokens = iter(("one", "two"))

    async def token() -> str:
        return next(tokens)

    class Asking(Office):
        seen: list[tuple[str, str, str]] = []

        async def authenticate(self) -> None:
            headers, query = self.websocket.headers, self.websocket.query_params
            self.seen.append((headers["authorization"], headers["x-tenant"], query["v"]))

    async def main() -> None:
        given = {"token": token, "headers": lambda: {"X-Tenant": "acme"}, "query": {"v": 2}}
        async with serving(Asking) as served, client.Office(served.url, **given, **FAST) as office:
            await lose(office)
            await until(lambda: office.state == "open")
            assert Asking.seen == [("Bearer one", "acme", "2"), ("Bearer two", "acme", "2")]

    asyncio.run(main())


def test_who_gives_up_a_request_cancels_it(client: ModuleType) -> None:
    """Where the event can be cancelled: by a cancelled task, and by its time limit."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url) as office:
            task = asyncio.create_task(office.slow(wait_s=30))
            await until(lambda: log == ["slow"])
            task.cancel()
            await until(lambda: log == ["slow", "slow cancelled"])
            with pytest.raises(TimeoutError, match=r"slow: no answer within 0\.05 s"):
                await office.slow(wait_s=30, timeout_s=0.05)
            await until(lambda: log == ["slow", "slow cancelled"] * 2)

    asyncio.run(main())


def test_nothing_is_left_behind(client: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """No task and no warning, whatever was going on; what waited has ended."""

    async def reads(office: Any) -> list[Any]:
        return [push async for push in office]

    async def main() -> None:
        async with serving(Office) as served:
            before = asyncio.all_tasks()
            async with client.Office(served.url) as office:
                office.on(client.Posted, print)
                office.handle(client.Ask, lambda question: asyncio.sleep(60))
                reading = asyncio.create_task(reads(office))
                asking = [asyncio.create_task(each) for each in (office.slow(wait_s=30), office.pay())]
                stream = office.count(to=10**9)
                await anext(stream)
                await until(lambda: "slow" in log)
            assert office.state == "closed"
            assert await reading == []
            for ended in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(ended, client.Disconnected)
            with pytest.raises(client.Disconnected, match="the client was closed"):
                async for _ in stream:
                    pass
            await office.close()
            await until(lambda: asyncio.all_tasks() == before)  # the server's own

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert not caplog.records


def test_a_mistake_of_the_application_ends_the_client(client: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """A `backoff` that fails is logged, and who waits is told; a callback that fails is logged, and no more."""

    async def main() -> None:
        async with serving(Office) as served:
            office = client.Office(served.url, backoff=lambda attempt: 1 / 0)
            office.on_open(lambda opened: 1 / 0)
            office.on_state(lambda state: 1 / 0)
            async with office:
                office._connection.transport.abort()
                with pytest.raises(client.Disconnected, match="division by zero"):
                    await anext(aiter(office))
                assert office.state == "closed"

    asyncio.run(main())
    assert "Office: the client has failed" in caplog.messages


@pytest.mark.parametrize("failing", ["token", "headers", "query"])
def test_a_token_that_cannot_be_had_is_asked_for_again(client: ModuleType, failing: str) -> None:
    """Its service may be away as the server is: only the first connection gives up."""
    answers = iter((LookupError("no first token"), None, LookupError("away"), None))

    def given() -> Any:
        if (answer := next(answers)) is not None:
            raise answer
        return "t" if failing == "token" else {}

    async def main() -> None:
        async with serving(Office) as served:
            with pytest.raises(client.Disconnected, match="no first token"):
                await client.Office(served.url, **{failing: given}, **FAST).open()
            async with client.Office(served.url, **{failing: given}, **FAST) as office:
                await lose(office)
                await until(lambda: office.state == "open")
        assert next(answers, "all asked") == "all asked"

    asyncio.run(main())


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_any_event_loop_will_do(client: ModuleType, loop_factory: Any) -> None:
    """asyncio's own, and uvloop; a flood that is read in turns, too."""

    async def main() -> None:
        async with serving(Office) as served, client.Office(served.url, **FAST) as office:
            assert [item.n async for item in office.count(to=2000)] == list(range(2000))
            await lose(office)
            assert (await office.echo(text="back")).text == "back"

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_items_are_uploaded(made: ModuleType) -> None:
    """By the credit that the server gives; its refusal of an item is the answer."""

    async def main() -> None:
        async with serving(Office) as served, made.Office(served.url) as office:
            assert (await office.add(items=range(100))).total == 4950
            with pytest.raises(made.OfficeError) as caught:
                await office.add(items=["many"])
            assert (caught.value.code, caught.value.errors[0]["loc"]) == ("validation_error", ["item"])

    asyncio.run(main())


def test_a_client_may_be_opened_once(client: ModuleType) -> None:
    """And has to be, before anything is asked."""

    async def main() -> None:
        async with serving(Office) as served:
            office = client.Office(served.url)
            with pytest.raises(RuntimeError, match="the client is not open"):
                await office.echo(text="x")
            async with office:
                pass
            with pytest.raises(RuntimeError, match="opened once"):
                await office.open()

    asyncio.run(main())
