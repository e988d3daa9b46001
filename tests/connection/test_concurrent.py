"""Requests beside each other, in turn and one at a time per key; cancelled, limited, acknowledged."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Annotated, Any, cast

import pytest
from pydantic import StringConstraints
from websockets.asyncio.client import connect as connect_to

from socketsundso import DefinitionError, Depends, Endpoint, EventError, Keep, event
from tests.connection.conversing import talking
from tests.harness import talk
from tests.rooms import serving as servers
from tests.rooms.serving import WAIT_S, Client, run
from tests.server.serving import TEXT, both_loops, closing, masked
from tests.server.serving import peer as raw_peer
from tests.server.serving import run as run_in
from tests.server.serving import serving as stopping


@pytest.fixture(autouse=True, params=["websockets-sansio", servers.OURS], ids=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(servers, "protocol", request.param)
    return str(request.param)


class Gates(dict[Any, asyncio.Event]):
    """Handlers wait at their gate until the test opens it."""

    def __missing__(self, name: Any) -> asyncio.Event:
        self[name] = asyncio.Event()
        return self[name]


class Working(Endpoint):
    log: list[Any]
    gates: Gates

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.log, cls.gates = [], Gates()

    async def work(self, name: Any) -> dict[str, Any]:
        self.log.append(("begin", name))
        try:
            await self.gates[name].wait()
        except asyncio.CancelledError:
            self.log.append(("cancelled", name))
            raise
        self.log.append(("end", name))
        return {"name": name}

    @event
    async def on_serial(self, name: Any) -> dict[str, Any]:
        return await self.work(name)

    @event(concurrent=2)
    async def on_two(self, name: Any) -> dict[str, Any]:
        return await self.work(name)

    @event(concurrent=True)
    async def on_many(self, name: Any) -> dict[str, Any]:
        return await self.work(name)

    @event(serial_by="room")
    async def on_say(self, room: str, name: Any) -> dict[str, Any]:
        return await self.work(name)

    @event
    async def on_ping(self) -> dict[str, bool]:
        return {"pong": True}

    async def on_disconnect(self, close_code: int) -> None:
        self.log.append(close_code)

    @classmethod
    async def has(cls, *entries: Any) -> None:
        async with asyncio.timeout(WAIT_S):
            while not all(entry in cls.log for entry in entries):
                await asyncio.sleep(0.002)

    @classmethod
    def begun(cls) -> list[Any]:
        return [entry[1] for entry in cls.log if isinstance(entry, tuple) and entry[0] == "begin"]


# ---- order


def test_concurrent_requests_answer_when_they_are_done() -> None:
    """They begin in order, and overtake each other."""

    class App(Working): ...

    async def main(client: Client) -> None:
        for name in "ab":
            await client.send("two", name=name, ref=name)
        await App.has(("begin", "b"))
        App.gates["b"].set()
        assert await client.receive() == {"type": "two", "name": "b", "ref": "b"}
        App.gates["a"].set()
        assert (await client.receive())["ref"] == "a"
        assert App.begun() == ["a", "b"]

    talking(App, main)


def test_only_so_many_run_at_once() -> None:
    """The others begin in the order of their arrival."""

    class App(Working): ...

    async def main(client: Client) -> None:
        for name in "abcde":
            await client.send("two", name=name, ref=name)
        await App.has(("begin", "b"))
        assert (await client.call("ping"))["pong"]
        assert App.begun() == ["a", "b"]
        App.gates["b"].set()
        await App.has(("begin", "c"))
        App.gates["a"].set()
        await App.has(("begin", "d"))
        for name in "cde":
            App.gates[name].set()
        assert sorted(each["ref"] for each in await client.receives(5)) == list("abcde")
        assert App.begun() == list("abcde")

    talking(App, main)


def test_the_class_bounds_concurrent_true() -> None:
    """`max_concurrent`."""

    class App(Working):
        max_concurrent = 3

    async def main(client: Client) -> None:
        for name in range(5):
            await client.send("many", name=name)
        await App.has(("begin", 2))
        assert (await client.call("ping"))["pong"]
        assert App.begun() == [0, 1, 2]
        for name in range(5):
            App.gates[name].set()
        assert [each["name"] for each in sorted(await client.receives(5), key=str)] == list(range(5))

    talking(App, main)


def test_equal_keys_take_turns() -> None:
    """Each key in the order of its messages, keys beside each other."""

    class App(Working): ...

    async def main(client: Client) -> None:
        for room, name in ("xa", "xb", "yc", "xd", "ye"):
            await client.send("say", room=room, name=name)
        await App.has(("begin", "c"))
        assert (await client.call("ping"))["pong"]
        assert App.begun() == ["a", "c"]
        App.gates["c"].set()
        await App.has(("begin", "e"))
        App.gates["a"].set()
        await App.has(("begin", "b"))
        assert App.begun() == ["a", "c", "e", "b"]
        for name in "bde":
            App.gates[name].set()
        assert sorted(each["name"] for each in await client.receives(5)) == list("abcde")

    talking(App, main)


def test_a_key_is_the_value_that_the_handler_gets() -> None:
    """Validated, also where only pydantic takes it; models are equal that look alike."""

    class App(Working):
        @event(serial_by="room")
        async def on_tidy(
            self, room: Annotated[str, StringConstraints(strip_whitespace=True)], name: Any
        ) -> dict[str, Any]:
            return await self.work(name)

        @event(serial_by="rooms")
        async def on_lists(self, rooms: list[int], name: Any) -> dict[str, Any]:
            return await self.work(name)

    async def main(client: Client) -> None:
        await client.send("tidy", room="a", name=1)
        await client.send("tidy", room=" a ", name=2)
        await client.send("lists", rooms=[1], name=3)
        await client.send("lists", rooms=["1"], name=4)
        await client.send("lists", rooms=[2], name=5)
        await App.has(("begin", 5))
        assert App.begun() == [1, 3, 5]
        for name in range(1, 6):
            App.gates[name].set()
        await client.receives(5)
        assert (await client.call("tidy", room=5, name=1))["code"] == "validation_error"

    talking(App, main)


def test_serial_handlers_take_turns_across_all_events() -> None:
    """And answer in the order of their messages, invalid ones too."""

    class App(Working):
        @event
        async def on_other(self, name: int) -> dict[str, Any]:
            return await self.work(name)

    async def main(client: Client) -> None:
        await client.send("serial", name=1, ref=1)
        await client.send("other", name=2, ref=2)
        await client.send("other", name="x", ref=3)
        await client.send("unknown", ref=4)
        await client.send("ping", ref=5)
        await App.has(("begin", 1))
        App.gates[1].set()
        assert (await client.receive())["ref"] == 1
        await App.has(("begin", 2))
        App.gates[2].set()
        answers = await client.receives(4)
        assert [each["ref"] for each in answers] == [2, 3, 4, 5]
        assert [each.get("code") for each in answers] == [None, "validation_error", "unknown_event", None]

    talking(App, main)


@pytest.mark.parametrize("text", ["x" * 10, "x" * 3000])
def test_what_waits_is_bounded_and_nothing_is_lost(text: str) -> None:
    """In messages and bytes; the rest waits at the client, and all of it is answered in order."""

    class App(Working):
        @event
        async def on_echo(self, n: int, text: str) -> dict[str, int]:
            if not n % 7:
                await asyncio.sleep(0)
            return {"n": n}

    async def main(client: Client) -> None:
        await client.send("serial", name=1)
        await App.has(("begin", 1))

        async def send() -> None:
            for n in range(1000):
                await client.send("echo", n=n, text=text)

        sending = asyncio.ensure_future(send())
        await asyncio.sleep(0.05)
        App.gates[1].set()
        await client.receive()
        assert [each["n"] for each in await client.receives(1000)] == list(range(1000))
        await sending

    talking(App, main)


def test_a_flood_of_concurrent_requests_is_answered() -> None:
    """Beyond what may wait, too."""

    class App(Working):
        @event(concurrent=2)
        async def on_echo(self, n: int) -> dict[str, int]:
            await asyncio.sleep(0)
            return {"n": n}

    async def main(client: Client) -> None:
        await client.send("serial", name=1)

        async def send() -> None:
            for n in range(1000):
                await client.send("echo", n=n)

        sending = asyncio.ensure_future(send())
        assert sorted(each["n"] for each in await client.receives(1000)) == list(range(1000))
        await sending
        App.gates[1].set()
        assert (await client.receive())["name"] == 1

    talking(App, main)


# ---- cancelled


@pytest.mark.parametrize("kind", ["serial", "two", "say"])
def test_a_running_request_is_cancelled(kind: str) -> None:
    """It is answered `cancelled`, and the next one runs."""

    class App(Working): ...

    async def main(client: Client) -> None:
        fields = {"room": "x"} if kind == "say" else {}
        await client.send(kind, name=1, ref=1, **fields)
        await App.has(("begin", 1))
        await client.send("cancel", ref=1)
        answer = await client.receive()
        assert (answer["type"], answer["code"], answer["ref"]) == ("error", "cancelled", 1)
        assert ("cancelled", 1) in App.log
        App.gates[2].set()
        assert (await client.call(kind, name=2, **fields))["name"] == 2

    talking(App, main)


@pytest.mark.parametrize("kind", ["serial", "two", "say"])
def test_a_waiting_request_is_cancelled(kind: str) -> None:
    """It is answered at once, and never begins."""

    class App(Working): ...

    async def main(client: Client) -> None:
        fields = {"room": "x"} if kind == "say" else {}
        for name in (1, 2, 3, 4):
            await client.send(kind, name=name, ref=name, **fields)
        await App.has(("begin", 1))
        await client.send("cancel", ref=3)
        answer = await client.receive()
        assert (answer["code"], answer["ref"]) == ("cancelled", 3)
        for name in (1, 2, 4):
            App.gates[name].set()
        assert sorted(each["ref"] for each in await client.receives(3)) == [1, 2, 4]
        assert 3 not in App.begun()

    talking(App, main)


@pytest.mark.parametrize("kind", ["serial", "two"])
def test_a_handler_that_answers_in_spite_of_its_cancellation_is_heard(kind: str) -> None:
    """Once: there is no second answer."""

    class App(Working):
        async def work(self, name: Any) -> dict[str, Any]:
            try:
                return await super().work(name)
            except asyncio.CancelledError:
                return {"partly": name}

    async def main(client: Client) -> None:
        await client.send(kind, name=1, ref=1)
        await App.has(("begin", 1))
        await client.send("cancel", ref=1)
        assert await client.receive() == {"type": kind, "partly": 1, "ref": 1}
        assert (await client.call("ping"))["pong"]

    talking(App, main)


def test_no_cancellation_is_left_over() -> None:
    """The connection's own task goes on as if nothing had been: a time limit of a later handler's own works."""

    class App(Working):
        @event
        async def on_limited(self) -> dict[str, Any]:
            task = asyncio.current_task()
            assert task is not None
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            except TimeoutError:
                return {"cancelling": task.cancelling()}
            raise AssertionError

    async def main(client: Client) -> None:
        for ref in range(3):
            await client.send("serial", name=ref, ref=ref)
            await App.has(("begin", ref))
            await client.send("cancel", ref=ref)
            assert (await client.receive())["code"] == "cancelled"
        assert (await client.call("limited"))["cancelling"] == 0

    talking(App, main)


def test_a_storm_of_cancels_harms_nobody() -> None:
    """Of refs in use or not, of any kind."""

    class App(Working): ...

    async def main(client: Client) -> None:
        for round_ in range(20):
            await client.send("serial", name=round_, ref=round_)
            for ref in (round_, round_, "x", -1, 2**63 - 1, "", round_):
                await client.send("cancel", ref=ref)
        answers = await client.receives(20)
        assert sorted((each["code"], each["ref"]) for each in answers) == [("cancelled", n) for n in range(20)]
        assert (await client.call("ping"))["pong"]

    talking(App, main)


def test_a_request_with_a_ref_in_use_is_refused() -> None:
    """Else nobody could tell the answers apart."""

    class App(Working): ...

    async def main(client: Client) -> None:
        await client.send("two", name=1, ref=1)
        await client.send("two", name=2, ref=1)
        assert (await client.receive())["code"] == "ref_in_use"
        App.gates[1].set()
        assert (await client.receive())["name"] == 1
        assert App.begun() == [1]

    talking(App, main)


# ---- time limits


@pytest.mark.parametrize("options", [{}, {"concurrent": 2}, {"serial_by": "name"}])
def test_a_request_has_so_much_time(options: dict[str, Any]) -> None:
    """It is cancelled then and answered `timeout`, with a ref or without."""

    class App(Working):
        @event(timeout_s=0.01, **options)
        async def on_limited(self, name: Any) -> dict[str, Any]:
            return await self.work(name)

    async def main(client: Client) -> None:
        await client.send("limited", name=1, ref=1)
        answer = await client.receive()
        assert (answer["code"], answer["ref"], answer["errors"][0]["msg"]) == ("timeout", 1, "not done within 0.01 s")
        await client.send("limited", name=2)
        assert (await client.receive())["code"] == "timeout"
        App.gates[3].set()
        assert (await client.call("limited", name=3))["name"] == 3
        assert App.log[1] == ("cancelled", 1)

    talking(App, main)


# ---- the end


def test_requests_may_finish_within_the_grace() -> None:
    """Those that take turns and those that do not."""

    class App(Working):
        async def work(self, name: Any) -> dict[str, Any]:
            self.log.append(("waits", name))
            await self.gone
            self.log.append(("went on", name))
            return {}

    async def main(client: Client) -> None:
        await client.send("serial", name=1)
        await client.send("two", name=2)
        await App.has(("waits", 1), ("waits", 2))
        await client.connection.close(4321)
        await App.has(4321)
        assert sorted(App.log[2:-1]) == [("went on", 1), ("went on", 2)]
        assert App.log[-1] == 4321

    talking(App, main)


@both_loops
def test_requests_without_a_grace_are_cancelled_at_once(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    """In either event loop: a timer that is due is no timer in uvloop."""

    class App(Working):
        disconnect_grace_s = 0.0

    async def main() -> None:
        async with stopping(App) as served, raw_peer(served) as peer:
            peer.say(masked(TEXT, b'{"type":"two","name":1}'))
            await App.has(("begin", 1))
            peer.say(closing(4321))
            await App.has(("cancelled", 1), 4321)

    run_in(main(), loop)
    assert caplog.text == ""


def test_requests_are_cancelled_after_the_grace() -> None:
    """Those that wait never begin."""

    class App(Working):
        disconnect_grace_s = 0.01

    async def main(client: Client) -> None:
        for name in (1, 2, 3):
            await client.send("two", name=name)
        await client.send("serial", name=4)
        await client.send("serial", name=5)
        await App.has(("begin", 4))
        await client.connection.close(4321)
        await App.has(4321)
        assert sorted(App.begun()) == [1, 2, 4]
        assert App.log[-1] == 4321
        assert {("cancelled", name) for name in (1, 2, 4)} <= set(App.log)

    talking(App, main)


def test_all_end_at_once_at_shutdown(server: str) -> None:
    """However long the grace is, and however much waits; other servers are heard as long as there is room."""

    class App(Working):
        disconnect_grace_s = 1000

    async def main() -> None:
        async with (
            stopping(App, ws=server, timeout_graceful_shutdown=30) as served,
            connect_to(served.url) as connection,
        ):
            client = Client(connection)
            await client.send("serial", name="s")
            for name in range(200 if server == servers.OURS else 20):
                await client.send("two", name=name)
            await App.has(("begin", 1))
            served.server.stop()
            await App.has(1012)
        assert App.log[-1] == 1012

    run(main)


def test_a_close_by_a_concurrent_handler_ends_the_connection() -> None:
    """What runs beside it is cancelled, what waits is not handled."""

    class App(Working):
        @event(concurrent=True)
        async def on_bye(self) -> None:
            await self.close(4001)

    async def main(client: Client) -> None:
        await client.send("serial", name=1)
        await client.send("two", name=2)
        await App.has(("begin", 1), ("begin", 2))
        App.gates[1].set()
        await client.receive()
        await client.send("bye")
        assert await client.closed() == 4001
        await App.has(4001)
        assert ("cancelled", 2) in App.log

    talking(App, main)


def test_an_error_of_a_concurrent_handler_is_its_own() -> None:
    """The others go on."""

    class App(Working):
        @event(concurrent=True)
        async def on_fail(self, how: str) -> None:
            await asyncio.sleep(0)
            raise EventError("meant") if how == "meant" else KeyError(how)

    async def main(client: Client) -> None:
        await client.send("two", name=1, ref=1)
        for how in ("meant", "bug"):
            await client.send("fail", how=how, ref=how)
        answers = await client.receives(2)
        assert {each["ref"]: each["code"] for each in answers} == {"meant": "meant", "bug": "internal_error"}
        App.gates[1].set()
        assert (await client.receive())["name"] == 1

    talking(App, main)


# ---- the rest


def test_each_message_has_its_own_copy_of_the_context() -> None:
    """As it was after `on_connect`; whatever a handler sets is its own, whether it waits or not."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    class App(Working):
        async def on_connect(self) -> None:
            await super().on_connect()
            variable.set("connected")

        @event
        async def on_set(self, wait: bool) -> dict[str, str]:
            before = variable.get()
            variable.set("changed")
            if wait:
                await asyncio.sleep(0)
            return {"before": before, "after": variable.get()}

    async def main(client: Client) -> None:
        for wait in (False, True, False, True):
            answer = await client.call("set", wait=wait)
            assert (answer["before"], answer["after"]) == ("connected", "changed")

    talking(App, main)


class Incomparable:
    """As an array is: nobody can say whether it equals another."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("compare its elements")

    __hash__ = None  # type: ignore[assignment]  # as of whatever has an `__eq__` of its own


def test_what_one_message_sets_none_behind_it_in_the_same_read_sees() -> None:
    """Nor does `on_disconnect`; also where the handler raised, is not async, or set what cannot be compared."""
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    seen: list[str] = []

    def see() -> None:
        seen.append(type(variable.get()).__name__)
        variable.set(Incomparable())

    class App(Working):
        async def on_connect(self) -> None:
            await super().on_connect()
            variable.set(object())

        async def on_disconnect(self, code: int) -> None:
            see()

        @event
        async def on_async(self) -> None:
            see()

        @event(thread=False)
        def on_sync(self) -> None:
            see()

        @event
        async def on_raising(self) -> None:
            see()
            raise EventError("no")

        @event
        async def on_waiting(self) -> None:
            see()
            await asyncio.sleep(0)
            variable.set(Incomparable())

    kinds = ["async", "async", "sync", "raising", "waiting", "waiting", "raising", "sync", "async"]
    talk(App, *({"type": kind} for kind in kinds))
    assert seen == ["object"] * (len(kinds) + 1)


def test_the_message_that_is_answered_is_known_where_the_one_before_has_set_something() -> None:
    """Each message knows itself, whatever context it runs in."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    class App(Working):
        @event
        async def on_who(self) -> dict[str, Any]:
            variable.set(1)
            return {"event": cast(Any, self.current).event}

    answers = talk(App, {"type": "who"}, {"type": "who"}, {"type": "ping"}, {"type": "who"}).answers
    assert [each.get("event") for each in answers if each["type"] == "who"] == ["who"] * 3


def test_requests_without_a_value_are_acknowledged_where_that_is_wished() -> None:
    """Those with a ref."""

    class App(Endpoint):
        acknowledge = True

        @event
        async def on_quiet(self) -> None: ...

        @event
        async def on_loud(self) -> dict[str, int]:
            return {"n": 1}

    answers = talk(
        App, {"type": "quiet", "ref": 7}, {"type": "quiet"}, {"type": "loud", "ref": 8}, {"type": "quiet", "ref": "a"}
    ).answers
    assert answers == [{"type": "quiet", "ref": 7}, {"type": "loud", "n": 1, "ref": 8}, {"type": "quiet", "ref": "a"}]


def test_what_is_no_message_is_not_cancelled() -> None:
    """It waits for its turn as messages do, and is answered with what is wrong with it."""

    class App(Endpoint):
        acknowledge = True

        @event
        async def on_slow(self) -> None:
            await go.wait()

        @event(concurrent=True)
        async def on_go(self) -> None:
            go.set()

    go = asyncio.Event()

    async def main(client: Client) -> None:
        await client.send("slow", ref=1)
        await client.send("nowhere", ref=2)
        await client.send("cancel", ref=2)
        await client.send("go")
        await client.send("slow", ref=3)
        answers = await client.receives(3)
        assert [(each["type"], each["ref"]) for each in answers] == [("slow", 1), ("error", 2), ("slow", 3)]
        assert answers[1]["code"] == "unknown_event"

    talking(App, main)


def test_who_answers_by_itself_is_not_acknowledged_too() -> None:
    """A request has one end: also where the handler responds, and where a resume does."""

    class App(Endpoint):
        acknowledge = True
        history = {"test_concurrent:*": Keep(messages=5, seconds=60)}

        @event
        async def on_loud(self) -> None:
            await self.respond({"n": 1})

        @event
        async def on_quiet(self) -> None: ...

    answers = talk(
        App, {"type": "resume", "ref": 6, "rooms": {}}, {"type": "loud", "ref": 7}, {"type": "quiet", "ref": 8}
    ).answers
    assert answers == [
        {"type": "resumed", "rooms": {}, "ref": 6}, {"type": "loud", "n": 1, "ref": 7}, {"type": "quiet", "ref": 8}
    ]  # fmt: skip


def test_malformed_frames_close_as_elsewhere() -> None:
    """JSON that is none 1003, a binary frame without UTF-8 1007; in their turn."""

    class App(Working): ...

    assert talk(App, {"type": "ping"}, "{", {"type": "ping"}).closed == 1003
    assert talk(App, b"\xff").closed == 1007
    assert [each.get("code") for each in talk(App, "[]", '{"a":1}', b'{"type":"ping"}').answers] == [
        "malformed_message",
        "malformed_message",
        None,
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"timeout_s": "5"}, "timeout_s is '5'"),
        ({"timeout_s": float("inf")}, "timeout_s is inf"),
        ({"concurrent": -1}, "concurrent is -1"),
        ({"concurrent": "2"}, "concurrent is '2'"),
        ({"serial_by": "rom"}, "did you mean 'room'"),
        ({"serial_by": "self"}, "serial_by is 'self'"),
    ],
)
def test_mistakes_in_a_declaration_are_told_at_import(options: dict[str, Any], words: str) -> None:
    """With the event and what is meant."""
    with pytest.raises(DefinitionError, match=f"event 'x'.*{words}"):

        class Bad(Endpoint):
            @event(**options)
            async def on_x(self, room: str) -> None: ...


def test_a_stream_is_neither_concurrent_nor_serial_by_something() -> None:
    """It runs beside everything anyway."""
    with pytest.raises(DefinitionError, match="stream runs beside"):

        class Bad(Endpoint):
            @event(concurrent=2)
            async def on_x(self) -> Any:
                yield {}


def test_a_cancel_while_dependencies_are_torn_down_behind_the_answer_is_too_late() -> None:
    """There is one answer, whether the handler has waited before it or not; the teardown runs to its end."""

    async def session() -> Any:
        yield 1
        App.log.append("tearing down")
        await App.gates["torn"].wait()
        App.log.append("torn down")

    class App(Working):
        @event(timeout_s=WAIT_S)
        async def on_save(self, wait: bool, db: Annotated[int, Depends(session)]) -> dict[str, int]:
            if wait:
                await asyncio.sleep(0)
            return {"db": db}

    async def main(client: Client) -> None:
        for wait in (False, True):
            App.log.clear()
            App.gates["torn"].clear()
            await client.send("save", wait=wait, ref=7)
            assert await client.receive() == {"type": "save", "db": 1, "ref": 7}
            await App.has("tearing down")
            await client.send("cancel", ref=7)
            await client.send("ping", ref=8)
            App.gates["torn"].set()
            assert (await client.receive())["ref"] == 8
            assert App.log == ["tearing down", "torn down"]

    talking(App, main)


def test_a_frame_that_is_no_message_keeps_nothing_of_its_connection() -> None:
    """Neither does the timer of the close, which a loop keeps until it would be due, though it was cancelled."""
    made: list[weakref.ref[Any]] = []

    class App(Working):
        def __init__(self, websocket: Any) -> None:
            super().__init__(websocket)
            made.append(weakref.ref(self))

    async def main(client: Client) -> None:
        await client.connection.send("{nonsense")
        assert await client.closed() == 1003
        await App.has(1003)
        async with asyncio.timeout(WAIT_S / 8):
            while made[0]() is not None:
                gc.collect()
                await asyncio.sleep(0.01)

    talking(App, main)


def test_who_is_told_of_a_message_after_the_end_reads_nothing(server: str) -> None:
    """It comes in the turn in which the handler goes on, which then is faster: the loop takes it, and ends."""

    class App(Working): ...

    async def main() -> None:
        async with stopping(App, ws=server) as served, raw_peer(served) as peer:
            peer.say(masked(TEXT, b'{"type":"serial","name":"a"}'))
            await App.has(("begin", "a"))
            peer.say(masked(TEXT, b"{nonsense"))
            await asyncio.sleep(0)  # the loop looks what has come, behind this turn of ours
            App.gates["a"].set()
            await App.has(1003)

    run(main)  # `stopping` asserts that nothing was raised into the event loop
