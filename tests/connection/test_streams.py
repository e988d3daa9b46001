"""Streams: items and their end, over real servers; who cancels, who is slow, and what generators may do wrong."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from websockets.asyncio.client import connect

from socketsundso import DefinitionError, Endpoint, EventError, event
from tests.connection.conversing import Log, talking, until_end
from tests.harness import ask
from tests.rooms import serving as servers
from tests.rooms.serving import WAIT_S, Client, run, serving
from tests.server.serving import TEXT, closing, masked
from tests.server.serving import peer as raw_peer
from tests.server.serving import serving as stopping


@pytest.fixture(autouse=True, params=["websockets-sansio", servers.OURS], ids=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(servers, "protocol", request.param)
    return str(request.param)


class Token(BaseModel):
    text: str


class Streaming(Endpoint):
    """What its generators do is in `log`; those that wait do so for `go`."""

    log: Log
    go: asyncio.Event

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.log, cls.go = Log(), asyncio.Event()

    @event
    async def on_count(self, to: int) -> AsyncIterator[Token]:
        for n in range(to):
            yield Token(text=str(n))

    @event
    async def on_wait(self) -> AsyncIterator[Token]:
        try:
            yield Token(text="begun")
            await self.go.wait()
            yield Token(text="released")
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        finally:
            self.log.append("closed")

    @event
    async def on_ping(self) -> dict[str, bool]:
        return {"pong": True}

    async def on_disconnect(self, close_code: int) -> None:
        self.log.append(close_code)


def test_items_and_their_end_carry_the_ref() -> None:
    """In order, each with the type of its model, then `complete`."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        await client.send("count", to=2, ref=7)
        assert await client.receives(3) == [
            {"type": "token", "text": "0", "ref": 7},
            {"type": "token", "text": "1", "ref": 7},
            {"type": "complete", "ref": 7},
        ]

    talking(App, main)


def test_a_stream_needs_a_ref() -> None:
    """Without one it is answered as a field that is missing."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        await client.send("count", to=2)
        answer = await client.receive()
        assert (answer["code"], "ref" in answer) == ("validation_error", False)
        assert answer["errors"] == [
            {"type": "missing", "loc": ["ref"], "msg": "Field required", "input": {"type": "count", "to": 2}}
        ]

    talking(App, main)


def test_a_cancelled_stream_is_complete() -> None:
    """Its generator gets CancelledError where it waits, and cleans up before the end is told."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        await client.send("wait", ref="a")
        assert (await client.receive())["text"] == "begun"
        await client.send("cancel", ref="a")
        assert await client.receive() == {"type": "complete", "ref": "a"}
        assert App.log == ["cancelled", "closed"]
        assert (await client.call("ping"))["pong"]

    talking(App, main)


def test_a_cancel_right_behind_its_request_is_answered() -> None:
    """In one segment, so that nothing of the stream has run: as many ends as streams, each time."""

    class App(Streaming):
        max_streams = 1000

    async def main(client: Client) -> None:
        for ref in range(100):
            await client.send("wait", ref=ref)
            await client.send("cancel", ref=ref)
        ends = []
        while len(ends) < 100:
            message = await client.receive()
            if message["type"] == "complete":
                ends.append(message["ref"])
            else:
                assert message["text"] == "begun"
        assert sorted(ends) == list(range(100))

    talking(App, main)


def test_cancels_that_are_late_unknown_or_doubled_are_ignored() -> None:
    """They race with the end; the next answer is that of the next message."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        await client.send("wait", ref=1)
        await client.receive()
        for ref in (1, 1, 1, 2, "1", "x" * 64):
            await client.send("cancel", ref=ref)
        assert await client.receive() == {"type": "complete", "ref": 1}
        await client.send("cancel", ref=1)
        assert (await client.call("ping"))["pong"]
        assert App.log == ["cancelled", "closed"]

    talking(App, main)


@pytest.mark.parametrize("ref", ["x" * 65, 1.5, None, True, [], {}, 2**64])
def test_a_cancel_with_no_ref_that_could_be_one_is_answered(ref: Any) -> None:
    """With what is wrong with it."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        await client.send("cancel", ref=ref)
        answer = await client.receive()
        assert (answer["code"], answer["errors"][0]["loc"]) == ("validation_error", ["ref"])

    talking(App, main)


def test_a_ref_that_is_in_use_is_refused() -> None:
    """For streams and for everything else, until the end has been told; then it is free."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        await client.send("wait", ref=1)
        await client.receive()
        for kind in ({"type_": "wait"}, {"type_": "count", "to": 1}, {"type_": "ping"}):
            await client.send(**kind, ref=1)  # type: ignore[arg-type]  # fields
            assert (await client.receive())["code"] == "ref_in_use"
        App.go.set()
        assert [each["type"] for each in await until_end(client, 1)] == ["token", "complete"]
        assert (await client.call("ping"))["pong"]
        await client.send("ping", ref=1)
        assert (await client.receive())["pong"]

    talking(App, main)


def test_so_many_streams_run_beside_each_other() -> None:
    """One more is refused, and may come again when one has ended."""

    class App(Streaming):
        max_streams = 2

    async def main(client: Client) -> None:
        for ref in range(3):
            await client.send("wait", ref=ref)
        answers = await client.receives(3)
        assert sorted(answer.get("code", "") for answer in answers) == ["", "", "too_many_streams"]
        await client.send("cancel", ref=0)
        await until_end(client, 0)
        await client.send("count", to=1, ref=3)
        assert [each["type"] for each in await until_end(client, 3)] == ["token", "complete"]

    talking(App, main)


def test_ten_thousand_streams_at_once_are_all_answered() -> None:
    """With `too_many_streams`, while the connection stays as it was."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        async def ask() -> None:
            for ref in range(10_000):
                await client.send("wait", ref=ref)

        asking = asyncio.ensure_future(ask())
        answers = await client.receives(10_000)
        await asking
        assert sum(answer["type"] == "token" for answer in answers) == 16
        assert sum(answer.get("code") == "too_many_streams" for answer in answers) == 10_000 - 16
        App.go.set()

    talking(App, main)


def test_streams_run_beside_serial_handlers() -> None:
    """Neither waits for the other."""

    class App(Streaming):
        @event
        async def on_slow(self) -> dict[str, int]:
            await self.go.wait()
            return {}

    async def main(client: Client) -> None:
        await client.send("slow", ref=1)
        await client.send("count", to=2, ref=2)
        assert [each["type"] for each in await client.receives(3)] == ["token", "token", "complete"]
        await client.send("wait", ref=3)
        assert (await client.receive())["text"] == "begun"
        await client.send("cancel", ref=3)
        assert await client.receive() == {"type": "complete", "ref": 3}
        App.go.set()
        assert await client.receive() == {"type": "slow", "ref": 1}

    talking(App, main)


def test_an_error_ends_a_stream() -> None:
    """With the ref, instead of `complete`; what was sent before stays."""

    class App(Streaming):
        @event
        async def on_fail(self, how: str) -> AsyncIterator[Token]:
            yield Token(text="a")
            if how == "meant":
                raise EventError("sold_out", "none left")
            yield {"no": "text"}  # type: ignore[misc]  # on purpose

    async def main(client: Client) -> None:
        await client.send("fail", how="meant", ref=1)
        assert [each.get("code") for each in await client.receives(2)] == [None, "sold_out"]
        await client.send("fail", how="invalid", ref=1)
        assert [(each.get("code"), each["ref"]) for each in await client.receives(2)] == [
            (None, 1),
            ("response_error", 1),
        ]
        assert (await client.call("ping"))["pong"]

    talking(App, main)


@pytest.mark.parametrize("fields", [{"to": "x"}, {}, {"to": 1, "more": 2}])
def test_invalid_fields_are_an_error_with_the_ref(fields: dict[str, Any]) -> None:
    """Nothing runs, and the ref is free."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        for _ in range(2):
            await client.send("count", **fields, ref=1)
            answer = await client.receive()
            assert (answer["code"], answer["ref"]) == ("validation_error", 1)

    talking(App, main)


def test_what_only_pydantic_takes_streams_too() -> None:
    """Also where a field is validated in the handler's own task."""

    class App(Streaming):
        @event
        async def on_both(self, to: int, token: Token) -> AsyncIterator[Token]:
            for _ in range(to):
                yield token

    async def main(client: Client) -> None:
        await client.send("both", to="2", token={"text": "a"}, ref=1)
        assert [each["type"] for each in await until_end(client, 1)] == ["token", "token", "complete"]
        await client.send("both", to=1, token={"text": 5}, ref=1)
        answer = await client.receive()
        assert (answer["code"], answer["errors"][0]["loc"]) == ("validation_error", ["token", "text"])

    talking(App, main)


def test_sync_generators_run_in_worker_threads() -> None:
    """Step by step; closed there, too."""

    class App(Streaming):
        @event
        def on_rows(self, n: int) -> Iterator[Token]:
            try:
                for _ in range(n):
                    yield Token(text=str(threading.current_thread() is threading.main_thread()))
            finally:
                self.log.append(threading.current_thread() is threading.main_thread())

        @event(thread=False)
        def on_quick(self) -> Iterator[Token]:
            yield Token(text=str(threading.current_thread() is threading.main_thread()))

    async def main(client: Client) -> None:
        await client.send("rows", n=1, ref=1)
        assert [each.get("text") for each in await until_end(client, 1)] == ["False", None]
        await client.send("quick", ref=1)
        assert [each.get("text") for each in await until_end(client, 1)] == ["True", None]
        await client.send("rows", n=1_000_000, ref=1)
        await client.receive()
        await client.send("cancel", ref=1)
        await until_end(client, 1)
        assert App.log == [False, False]

    talking(App, main)


def test_a_time_limit_ends_a_stream() -> None:
    """With the error `timeout`."""

    class App(Streaming):
        @event(timeout_s=0.01)
        async def on_short(self) -> AsyncIterator[Token]:
            yield Token(text="a")
            await asyncio.Event().wait()

    async def main(client: Client) -> None:
        await client.send("short", ref=1)
        answers = await client.receives(2)
        assert [each.get("code") for each in answers] == [None, "timeout"]
        assert answers[1]["ref"] == 1

    talking(App, main)


def test_a_time_limit_of_the_generators_own_is_its_own() -> None:
    """An `asyncio.timeout` around a `yield` cancels the task that sends: the generator hears of it."""

    class App(Streaming):
        @event
        async def on_own(self) -> AsyncIterator[Token]:
            try:
                async with asyncio.timeout(0.01):
                    while True:
                        yield Token(text="x" * 1000)
            except TimeoutError:
                self.log.append("timeout")
            yield Token(text="after")

    async def main(client: Client) -> None:
        await client.send("own", ref=1)
        answers = await until_end(client, 1)
        assert answers[-2:] == [{"type": "token", "text": "after", "ref": 1}, {"type": "complete", "ref": 1}]
        assert App.log == ["timeout"]

    talking(App, main)


def test_a_slow_reader_pauses_the_generator() -> None:
    """It goes on when the client reads again, and loses nothing."""

    class App(Streaming):
        @event
        async def on_large(self, n: int) -> AsyncIterator[Token]:
            for number in range(n):
                self.log[:] = [number]
                yield Token(text=str(number).ljust(10_000))

    async def main(client: Client) -> None:
        client.stop_reading()
        await client.send("large", n=3000, ref=1)
        async with asyncio.timeout(WAIT_S):
            while not App.log or App.log[0] < 100:
                await asyncio.sleep(0.002)
        before = -1
        while App.log[0] != before:  # as long as buffers take something
            before = App.log[0]
            await asyncio.sleep(0.2)
        assert before < 2999
        client.read_again()
        answers = await until_end(client, 1)
        assert [int(each["text"]) for each in answers[:-1]] == list(range(3000))

    talking(App, main)


def test_a_generator_that_never_waits_lets_others_have_their_turn() -> None:
    """A cancel is heard in the midst of it."""

    class App(Streaming):
        @event
        async def on_endless(self) -> AsyncIterator[Token]:
            while True:
                yield Token(text="a")

    async def main(client: Client) -> None:
        await client.send("endless", ref=1)
        await client.receive()
        await client.send("cancel", ref=1)
        assert (await until_end(client, 1))[-1] == {"type": "complete", "ref": 1}

    talking(App, main)


def test_the_generator_is_closed_when_its_client_leaves() -> None:
    """At once, whatever it waits for, and before `on_disconnect`."""

    class App(Streaming): ...

    async def main(client: Client) -> None:
        await client.send("wait", ref=1)
        await client.receive()
        await client.connection.close(4321)
        await App.log.has(4321)
        assert App.log == ["cancelled", "closed", 4321]

    talking(App, main)


def test_the_generator_is_closed_when_its_client_is_lost() -> None:
    """A connection that is reset, while items flow."""

    class App(Streaming):
        @event
        async def on_endless(self) -> AsyncIterator[Token]:
            try:
                while True:
                    yield Token(text="a")
                    await asyncio.sleep(0)
            finally:
                self.log.append("closed")

    async def main(client: Client) -> None:
        await client.send("endless", ref=1)
        await client.receive()
        client.connection.transport.abort()
        async with asyncio.timeout(WAIT_S):
            while len(App.log) < 2:
                await asyncio.sleep(0.002)
        assert App.log[0] == "closed"

    talking(App, main)


def test_streams_end_at_once_at_shutdown(server: str) -> None:
    """However long the grace is."""

    class App(Streaming):
        disconnect_grace_s = 1000

    async def main() -> None:
        async with stopping(App, ws=server) as served, connect(served.url) as connection:
            client = Client(connection)
            await client.send("wait", ref=1)
            await client.receive()
            served.server.stop()
            await App.log.has(1012)
        assert App.log == ["cancelled", "closed", 1012]

    run(main)


class Stubborn(Streaming):
    """Generators that do not as they are told."""

    @event
    async def on_swallow(self) -> AsyncIterator[Token]:
        while True:
            try:
                yield Token(text="a")
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.log.append("swallowed")

    @event
    async def on_raise(self) -> AsyncIterator[Token]:
        try:
            yield Token(text="a")
            await asyncio.Event().wait()
        finally:
            self.log.append("raising")
            raise KeyError("teardown")

    @event
    async def on_yield_after(self) -> AsyncIterator[Token]:
        try:
            yield Token(text="a")
            await asyncio.Event().wait()
        finally:
            yield Token(text="too late")

    @event
    async def on_await_after(self) -> AsyncIterator[Token]:
        try:
            yield Token(text="a")
            await asyncio.Event().wait()
        finally:
            self.log.append("tearing down")
            await self.go.wait()
            self.log.append("torn down")


@pytest.mark.parametrize("kind", ["swallow", "raise", "yield_after"])
def test_a_cancelled_stream_is_complete_whatever_its_generator_does(kind: str) -> None:
    """One that swallows, raises or yields on is told of in the log, and the ref is free."""

    class App(Stubborn): ...

    async def main(client: Client) -> None:
        await client.send(kind, ref=1)
        await client.receive()
        await client.send("cancel", ref=1)
        assert await client.receive() == {"type": "complete", "ref": 1}
        await client.send(kind, ref=1)
        assert (await client.receive())["text"] == "a"
        assert (await client.call("ping"))["pong"]

    talking(App, main)


def test_a_cancel_during_the_teardown_changes_nothing() -> None:
    """What is awaited there is awaited; the end comes after it."""

    class App(Stubborn): ...

    async def main(client: Client) -> None:
        await client.send("await_after", ref=1)
        await client.receive()
        await client.send("cancel", ref=1)
        await App.log.has("tearing down")
        for _ in range(10):
            await client.send("cancel", ref=1)
        assert (await client.call("ping"))["pong"]
        App.go.set()
        assert await client.receive() == {"type": "complete", "ref": 1}
        assert App.log == ["tearing down", "torn down"]

    talking(App, main)


def test_context_variables_of_a_stream_are_its_own() -> None:
    """`self.current` is its message, for as long as it runs."""

    class App(Streaming):
        @event
        async def on_who(self) -> AsyncIterator[dict[str, Any]]:
            for _ in range(2):
                await asyncio.sleep(0)
                assert self.current is not None
                yield {"event": self.current.event, "was": self.current.ref}

    async def main(client: Client) -> None:
        for ref in range(3):
            await client.send("who", ref=ref)
        answers = [each for each in await client.receives(9) if each["type"] != "complete"]
        assert all(each == {"type": "who", "event": "who", "was": each["ref"], "ref": each["ref"]} for each in answers)
        assert len(answers) == 6

    talking(App, main)


def test_respond_of_ones_own_writes_items_too() -> None:
    """As it does replies."""

    class App(Streaming):
        async def respond(self, response: Any) -> None:
            self.log.append(response)
            await super().respond(response)

    async def main(client: Client) -> None:
        await client.send("count", to=1, ref=1)
        assert await client.receives(2) == [
            {"type": "token", "text": "0", "ref": 1},
            {"type": "complete", "ref": 1},
        ]
        assert App.log == [Token(text="0")]

    talking(App, main)


# ---- what needs no server


class Pushed(msgspec.Struct, tag_field="type", tag="pushed"):
    n: int


class Left(BaseModel):
    a: int


class Right(BaseModel):
    b: int


class Kinds(Endpoint):
    @event
    async def on_structs(self) -> AsyncIterator[Pushed]:
        yield Pushed(1)

    @event
    async def on_unions(self) -> AsyncIterator[Left | Right]:
        yield Left(a=1)
        yield Right(b=2)

    @event
    async def on_dicts(self) -> AsyncIterator[dict[str, Any]]:
        yield {"n": 1}
        yield {"type": "own", "n": 1}

    @event
    async def on_models_without(self):  # type: ignore[no-untyped-def]  # on purpose
        yield Left(a=1)
        yield Pushed(1)

    @event
    async def on_returned(self) -> AsyncIterator[Pushed]:
        async def items() -> AsyncIterator[Pushed]:
            yield Pushed(3)

        return items()


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("structs", ["pushed"]),
        ("unions", ["left", "right"]),
        ("dicts", ["dicts", "own"]),
        ("models_without", ["left", "pushed"]),
        ("returned", ["pushed"]),
    ],
)
def test_an_item_has_the_type_that_a_push_of_it_would_have(name: str, types: list[str], server: str) -> None:
    """Its own, else its class's name; a dict without one takes the event's."""
    if server != servers.OURS:

        async def main() -> None:
            async with serving(Kinds) as connect:
                client = await connect()
                await client.send(name, ref=1)
                assert [each["type"] for each in await until_end(client, 1)] == [*types, "complete"]

        run(main)


def test_the_names_on_the_wire_are_reserved_where_they_are_used() -> None:
    """For events, pushes and items; on an endpoint that does not stream they are free."""

    class Free(Endpoint):
        @event
        async def on_cancel(self, what: str) -> dict[str, str]:
            return {"what": what}

        @event
        async def on_complete(self) -> dict[str, Any]:
            return {}

    assert ask(Free, {"type": "cancel", "what": "x"}) == {"type": "cancel", "what": "x"}

    class Complete(BaseModel):
        n: int

    for name in ("cancel", "complete"):
        with pytest.raises(DefinitionError, match=f"'{name}'.*reserve"):
            type("Bad", (Streaming,), {"on_x": event(name)(lambda self: None)})
    with pytest.raises(DefinitionError, match="'complete'.*reserve"):
        type("Bad", (Streaming,), {"emits": [Complete]})
    with pytest.raises(DefinitionError, match="'complete' ends a stream"):

        class Bad(Endpoint):
            @event
            async def on_x(self) -> AsyncIterator[Complete]:
                yield Complete(n=1)


def test_one_connection_cannot_learn_to_stream() -> None:
    """Its loop was chosen when it began; the class may, for those that come."""

    class App(Endpoint):
        @event
        async def on_learn(self) -> dict[str, str]:
            try:
                self.handlers["count"] = Streaming.handlers["count"]
            except DefinitionError as exc:
                return {"error": str(exc)}
            raise AssertionError

    assert "attach the handler to the class" in ask(App, {"type": "learn"})["error"]
    App.attach_handler(Streaming.handlers["count"])

    async def main() -> None:
        async with serving(App) as connect:
            client = await connect()
            await client.send("count", to=1, ref=1)
            assert [each["type"] for each in await client.receives(2)] == ["token", "complete"]

    run(main)


# ---- the connection ends meanwhile


def test_a_stream_that_its_peer_leaves_behind_is_not_waited_for(server: str) -> None:
    """It was asked for and left in one segment; the grace is for other handlers, since nobody hears the items."""

    class App(Streaming):
        disconnect_grace_s = 1000.0

        @event
        async def on_never(self) -> AsyncIterator[Token]:
            await self.go.wait()
            yield Token(text="")

    async def main() -> None:
        async with stopping(App, ws=server) as served, raw_peer(served) as peer:
            peer.say(masked(TEXT, b'{"type":"never","ref":1}'), closing(4000))
            await App.log.has(4000)

    run(main)


def test_what_waits_for_a_slow_peer_is_dropped_when_this_side_closes(caplog: pytest.LogCaptureFixture) -> None:
    """A reply, an error and the end of a stream: none of them is an error in the log."""

    class App(Streaming):
        opened: App

        async def on_connect(self) -> None:
            await super().on_connect()
            type(self).opened = self

        @event
        async def on_fill(self) -> AsyncIterator[Token]:
            while True:
                yield Token(text="x" * 100_000)

        @event(concurrent=True)
        async def on_answer(self, how: str) -> dict[str, str]:
            await self.go.wait()
            self.log.append(how)
            if how == "wrong":
                raise EventError("wrong")
            return {"how": how}

        @event(timeout_s=0.01)
        async def on_limited(self) -> AsyncIterator[Token]:
            try:
                await asyncio.Event().wait()
                yield Token(text="")
            finally:
                self.log.append("limited")

    async def main(client: Client) -> None:
        client.stop_reading()
        await client.send("answer", how="right", ref=1)
        await client.send("answer", how="wrong", ref=2)
        await client.send("fill", ref=3)
        await client.send("limited", ref=4)
        await App.log.has("limited")
        App.go.set()
        await App.log.has("right", "wrong")
        closing = asyncio.create_task(App.opened.close(4000))  # some servers wait for the peer, too
        await asyncio.sleep(0)
        client.read_again()
        assert await client.closed() == 4000
        await closing
        await App.log.has(4000)

    talking(App, main)
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("server", [servers.OURS], indirect=True)
def test_an_open_stream_weighs_six_kilobytes_at_most() -> None:
    """All that it adds to an idle connection: its task, its record, the handler's frame, and what the loop makes."""
    count = 50

    class App(Streaming):
        @event
        async def on_open(self) -> AsyncIterator[Token]:
            yield Token(text="")
            await self.go.wait()

    async def main() -> None:
        async with stopping(App, ws=servers.protocol, ws_ping_interval=None) as served, AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(raw_peer(served)) for _ in range(count)]
            await opened(peers[0])  # what is made once
            gc.collect()
            tracemalloc.start(1)
            try:
                for peer in peers[1:]:
                    await opened(peer)
                gc.collect()
                snapshot = tracemalloc.take_snapshot().filter_traces(
                    [tracemalloc.Filter(False, __file__), tracemalloc.Filter(False, "*/asyncio/streams.py")]
                )
            finally:
                tracemalloc.stop()
            assert sum(trace.size for trace in snapshot.traces) / (count - 1) < 6 << 10
            App.go.set()

    async def opened(peer: Any) -> None:
        peer.say(masked(TEXT, b'{"type":"open","ref":1}'))
        await peer.frame()

    run(main)
