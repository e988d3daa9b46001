"""Uploads: items for a handler, over real servers; credit, bad items, and who leaves in the midst of it."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from datetime import date
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import connect

from socketsundso import DefinitionError, Depends, Endpoint, EventError, RateLimit, event
from socketsundso.connection import requests
from tests.connection.conversing import Log, talking
from tests.harness import Peer
from tests.rooms import serving as servers
from tests.rooms.serving import Client, run
from tests.server.serving import serving as stopping

T = TypeVar("T")


@pytest.fixture(autouse=True, params=["websockets-sansio", servers.OURS], ids=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(servers, "protocol", request.param)
    return str(request.param)


class Row(BaseModel):
    n: int


class Imported(BaseModel):
    name: str
    sum: int


class Importing(Endpoint):
    """What its handlers do is in `log`; those that wait do so for `go`."""

    log: Log
    go: asyncio.Event

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.log, cls.go = Log(), asyncio.Event()

    @event
    async def on_import(self, name: str, rows: AsyncIterator[Row]) -> Imported:
        total = 0
        async for row in rows:
            total += row.n
        return Imported(name=name, sum=total)

    @event
    async def on_hold(self, rows: AsyncIterator[Row]) -> dict[str, int]:
        """Takes nothing until `go`."""
        try:
            await self.go.wait()
            return {"sum": sum([row.n async for row in rows])}
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        finally:
            self.log.append("ended")

    @event
    async def on_double(self, rows: AsyncIterator[int]) -> AsyncIterator[dict[str, int]]:
        try:
            async for n in rows:
                yield {"n": 2 * n}
        finally:
            self.log.append("closed")

    @event
    async def on_ping(self) -> dict[str, bool]:
        return {"pong": True}

    async def on_disconnect(self, close_code: int) -> None:
        self.log.append(close_code)


async def items(client: Client, ref: Any, *values: Any) -> None:
    for value in values:
        await client.send("item", ref=ref, item=value)


async def answer_to(client: Client, ref: Any) -> dict[str, Any]:
    """The next message with this `ref` that is no credit."""
    while (message := await client.receive()).get("ref") != ref or message["type"] == "more":
        pass
    return message


# ---- what is fed, and what is answered


def test_a_handler_is_fed_item_by_item_and_answers_behind_the_end() -> None:
    """Each is an instance of what the iterator is of."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("import", ref=7, name="a")
        await items(client, 7, {"n": 1}, {"n": 2}, {"n": "3"})
        await client.send("complete", ref=7)
        assert await client.receive() == {"type": "import", "name": "a", "sum": 6, "ref": 7}

    talking(App, main)


def test_an_upload_may_have_no_items() -> None:
    """Its end may come right behind the message; the ref is free behind the answer."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        for _ in range(3):
            await client.send("import", ref="a", name="b")
            await client.send("complete", ref="a")
            assert (await client.receive())["sum"] == 0

    talking(App, main)


def test_the_handler_runs_while_items_come() -> None:
    """It sees each as it comes, not all of them at the end."""

    class App(Importing):
        @event
        async def on_watch(self, rows: AsyncIterable[int]) -> None:
            async for row in rows:
                self.log.append(row)

    async def main(client: Client) -> None:
        await client.send("watch", ref=1)
        for n in range(3):
            await items(client, 1, n)
            await App.log.has(n)

    talking(App, main)


def test_upload_in_stream_out() -> None:
    """A handler that is fed may be a stream; each side has an end of its own."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("double", ref=1)
        for n in range(3):
            await items(client, 1, n)
            assert await client.receive() == {"type": "double", "n": 2 * n, "ref": 1}
        await client.send("complete", ref=1)
        assert await client.receive() == {"type": "complete", "ref": 1}

    talking(App, main)


class Point(msgspec.Struct):
    x: int


def shout(text: str) -> str:
    return text.upper()


@pytest.mark.parametrize(
    ("kind", "given", "shown"),
    [
        (int, [1, "2", 2**70], "[1, 2, 1180591620717411303424]"),
        (str, ["a", "ä\n", ""], "['a', 'ä\\n', '']"),
        (float, [1, 1.5], "[1.0, 1.5]"),
        (bool, [True, "false"], "[True, False]"),
        (date, ["2026-01-02"], "[datetime.date(2026, 1, 2)]"),
        (list[int], [[], ["1"]], "[[], [1]]"),
        (int | None, [None, 1], "[None, 1]"),
        (Any, [{"a": [None]}, 1.5], "[{'a': [None]}, 1.5]"),
        (dict[str, Row], [{"a": {"n": 1}}], "[{'a': Row(n=1)}]"),
        (Row, [{"n": 1, "more": 2}], "[Row(n=1)]"),
        (Row | list[Row], [{"n": 1}, [{"n": 2}]], "[Row(n=1), [Row(n=2)]]"),
        (Point, [{"x": 1}], "[Point(x=1)]"),
        (Annotated[int, Field(gt=0)], [1], "[1]"),
        (Annotated[str, AfterValidator(shout)], ["a"], "['A']"),
    ],
)
def test_an_item_is_what_a_parameter_of_that_type_would_be(kind: Any, given: list[Any], shown: str) -> None:
    """What msgspec decodes, what pydantic validates, and what it makes of other JSON; in generic endpoints, too."""

    class App(Importing, Generic[T]):
        @event
        async def on_take(self, rows: AsyncIterator[T]) -> dict[str, str]:
            return {"rows": repr([row async for row in rows])}

    class Special(App[kind]): ...

    async def main(client: Client) -> None:
        await client.send("take", ref=1)
        await items(client, 1, *given)
        await client.send("complete", ref=1)
        assert (await client.receive())["rows"] == shown

    talking(Special, main)


def test_the_keys_of_an_item_may_come_in_any_order_and_any_frame() -> None:
    """Binary ones are read, too."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("hold", ref=1)
        await client.connection.send('{"item": {"n":1},' + " " * 100_000 + '"ref":1 , "type":"item"}')
        await client.connection.send(b'{"ref":1,"type":"item","item":{"n":2}}')
        await client.send("complete", ref=1)
        App.go.set()
        assert (await client.receive())["sum"] == 3

    talking(App, main)


def test_uploads_run_beside_each_other_and_beside_handlers() -> None:
    """Items go where their ref says."""

    class App(Importing):
        @event
        async def on_slow(self) -> dict[str, bool]:
            await self.go.wait()
            return {}

    async def main(client: Client) -> None:
        await client.send("slow", ref="s")
        for ref in range(5):
            await client.send("import", ref=ref, name=str(ref))
        for n in range(5):
            for ref in range(5):
                await items(client, ref, {"n": n * ref})
        for ref in range(5):
            await client.send("complete", ref=ref)
        answers = await client.receives(5)
        assert {each["ref"]: each["sum"] for each in answers} == {ref: 10 * ref for ref in range(5)}
        App.go.set()
        assert (await client.receive())["ref"] == "s"

    talking(App, main)


def test_dependencies_and_guards_stand_before_an_upload() -> None:
    """And what they opened is open until the reply."""
    log = []

    async def session(name: str) -> AsyncIterator[str]:
        yield f"session of {name}"
        log.append("closed")

    def may(endpoint: Any, call: Any) -> bool:
        return bool(call.ref != "no")

    class App(Importing):
        @event(guards=[may])
        async def on_store(self, rows: AsyncIterator[Row], db: Annotated[str, Depends(session)]) -> dict[str, Any]:
            return {"db": db, "rows": len([row async for row in rows]), "closed": bool(log)}

    async def main(client: Client) -> None:
        await client.send("store", ref="no", name="x")
        await items(client, "no", {"n": 1})
        assert (await client.receive())["code"] == "forbidden"
        await client.send("store", ref=1, name="x")
        await items(client, 1, {"n": 1})
        await client.send("complete", ref=1)
        answer = await client.receive()
        assert answer == {"type": "store", "db": "session of x", "rows": 1, "closed": False, "ref": 1}
        assert (await client.call("ping"))["pong"]
        assert log == ["closed"]

    talking(App, main)


def test_middleware_and_an_overridden_respond_are_around_an_upload() -> None:
    """As they are around everything else."""

    class App(Importing):
        async def respond(self, response: Any) -> None:
            self.log.append(response)
            await super().respond(response)

    @App.middleware
    async def counted(endpoint: Any, call: Any, handle: Any) -> Any:
        endpoint.log.append(call.event)
        return await handle()

    async def main(client: Client) -> None:
        await client.send("import", ref=1, name="a")
        await items(client, 1, {"n": 1})
        await client.send("complete", ref=1)
        assert (await client.receive())["sum"] == 1
        assert App.log == ["import", Imported(name="a", sum=1)]

    talking(App, main)


# ---- the ref


def test_an_upload_needs_a_ref() -> None:
    """Without one it is answered as a field that is missing; so are its items and its end."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        for message in ({"type_": "import", "name": "a"}, {"type_": "item", "item": {}}, {"type_": "complete"}):
            await client.send(**message)  # type: ignore[arg-type]  # fields
            answer = await client.receive()
            assert (answer["code"], answer["errors"][0]["type"]) == ("validation_error", "missing")
            assert answer["errors"][0]["loc"] == ["ref"]

    talking(App, main)


def test_a_ref_that_is_in_use_is_refused() -> None:
    """The upload that has it goes on, with its items."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("import", ref=1, name="a")
        for kind in ({"type_": "import", "name": "b"}, {"type_": "double"}, {"type_": "ping"}):
            await client.send(**kind, ref=1)  # type: ignore[arg-type]  # fields
            assert (await client.receive())["code"] == "ref_in_use"
        await items(client, 1, {"n": 5})
        await client.send("complete", ref=1)
        assert (await client.receive())["sum"] == 5

    talking(App, main)


def test_items_and_ends_for_no_upload_are_ignored() -> None:
    """They race with the end of a handler; those of other requests are no uploads."""

    class App(Importing):
        @event
        async def on_stream(self) -> AsyncIterator[Row]:
            yield Row(n=1)
            await self.go.wait()

    async def main(client: Client) -> None:
        await client.send("stream", ref=1)
        assert (await client.receive())["n"] == 1
        for ref in (1, 2, "1", "x" * 64):
            await items(client, ref, {"n": 1}, None)
            await client.send("complete", ref=ref)
        await client.send("item", ref=3)
        assert (await client.call("ping"))["pong"]
        App.go.set()
        assert await client.receive() == {"type": "complete", "ref": 1}

    talking(App, main)


def test_a_second_end_is_ignored() -> None:
    """As a late one is."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("hold", ref=1)
        for _ in range(3):
            await client.send("complete", ref=1)
        App.go.set()
        assert (await client.receive())["sum"] == 0

    talking(App, main)


def test_uploads_count_as_streams() -> None:
    """One above `max_streams` is refused, and its items are ignored; one that has ended makes room."""

    class App(Importing):
        max_streams = 2

    async def main(client: Client) -> None:
        for ref in range(3):
            await client.send("hold", ref=ref)
            await items(client, ref, {"n": 1})
        answer = await client.receive()
        assert (answer["code"], answer["ref"]) == ("too_many_streams", 2)
        await client.send("cancel", ref=0)
        assert (await client.receive())["code"] == "cancelled"
        await client.send("import", ref=3, name="a")
        await client.send("complete", ref=3)
        assert (await client.receive())["sum"] == 0
        App.go.set()

    talking(App, main)


def test_ten_thousand_uploads_at_once_are_all_answered() -> None:
    """With `too_many_streams`, while the connection stays as it was."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        async def ask() -> None:
            for ref in range(10_000):
                await client.send("hold", ref=ref)
                await items(client, ref, {"n": 1})

        asking = asyncio.ensure_future(ask())
        answers = await client.receives(10_000 - 16)
        await asking
        assert {each["code"] for each in answers} == {"too_many_streams"}
        App.go.set()
        for ref in range(16):
            await client.send("complete", ref=ref)
        assert {each["sum"] for each in await client.receives(16)} == {1}

    talking(App, main)


# ---- credit


def test_credit_is_sixteen_items_and_eight_more_as_the_handler_takes_them() -> None:
    """Nothing for what it has not taken."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("hold", ref=1)
        await items(client, 1, *[{"n": 1}] * 16)
        assert [each["type"] for each in await client.call_all("ping")] == ["ping"]
        App.go.set()
        assert await client.receives(2) == [{"type": "more", "items": 8, "ref": 1}] * 2
        await items(client, 1, *[{"n": 1}] * 16)
        await client.send("complete", ref=1)
        assert (await answer_to(client, 1))["sum"] == 32

    talking(App, main)


def test_a_slow_handler_holds_its_client_back() -> None:
    """A client that heeds its credit is never further ahead than that, and all of its items arrive in order."""

    class App(Importing):
        sent = taken = ahead = 0

        @event
        async def on_slowly(self, rows: AsyncIterator[int]) -> dict[str, bool]:
            order = []
            async for n in rows:
                await asyncio.sleep(0)
                App.ahead = max(App.ahead, App.sent - App.taken)
                App.taken += 1
                order.append(n)
            return {"in_order": order == list(range(500))}

    async def main(client: Client) -> None:
        await client.send("slowly", ref=1)
        credit = 16
        while App.sent < 500:
            if not credit:
                credit += (await client.receive())["items"]
            credit -= 1
            App.sent += 1
            await items(client, 1, App.sent - 1)
        await client.send("complete", ref=1)
        assert (await answer_to(client, 1))["in_order"]
        assert App.ahead <= 16

    talking(App, main)


def test_more_than_the_credit_is_overrun() -> None:
    """An error at once, and once; its handler is cancelled, the rest is ignored, the ref is free."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("hold", ref=1)
        assert (await client.call("ping"))["pong"]
        await items(client, 1, *[{"n": 1}] * 100)
        answer = await client.receive()
        assert (answer["type"], answer["code"], answer["ref"]) == ("error", "overrun", 1)
        assert [each["type"] for each in await client.call_all("ping")] == ["ping"]
        await App.log.has("cancelled", "ended")
        await client.send("import", ref=1, name="again")
        await client.send("complete", ref=1)
        assert (await client.receive())["sum"] == 0

    talking(App, main)


def test_an_item_behind_the_end_is_overrun() -> None:
    """There is no credit any more."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("hold", ref=1)
        await client.send("complete", ref=1)
        await items(client, 1, {"n": 1})
        assert (await client.receive())["code"] == "overrun"

    talking(App, main)


@pytest.mark.parametrize("how", ["stream", "stubborn", "raising", "torn_down"])
def test_overrun_is_the_only_end(how: str) -> None:
    """Whatever the handler does about its cancellation; and the ref is free at once."""

    async def torn() -> AsyncIterator[int]:
        yield 1

    class App(Importing):
        @event
        async def on_stream(self, rows: AsyncIterator[Row]) -> AsyncIterator[Row]:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.log.append("swallowed")
            yield Row(n=1)

        @event
        async def on_stubborn(self, rows: AsyncIterator[Row]) -> dict[str, bool]:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.log.append("swallowed")
            return {"late": True}

        @event
        async def on_raising(self, rows: AsyncIterator[Row]) -> dict[str, bool]:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.log.append("swallowed")
                raise EventError("late") from None
            return {}

        @event
        async def on_torn_down(self, rows: AsyncIterator[Row], one: Annotated[int, Depends(torn)]) -> dict[str, bool]:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.log.append("swallowed")
            return {"late": True}

    async def main(client: Client) -> None:
        await client.send(how, ref=1)
        assert (await client.call("ping"))["pong"]
        await items(client, 1, *[{"n": 1}] * 17)
        assert (await client.receive())["code"] == "overrun"
        await App.log.has("swallowed")
        await client.send("import", ref=1, name="again")
        await client.send("complete", ref=1)
        assert (await client.receive())["name"] == "again"

    talking(App, main)


@pytest.mark.parametrize("beside", [False, True])
def test_items_that_wait_are_bounded_in_bytes(beside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is read until the handlers have taken some, also beside one that waits; nothing is lost."""
    monkeypatch.setattr(requests, "MAX_ITEM_BYTES", 10_000)

    class App(Importing):
        @event
        async def on_large(self, rows: AsyncIterator[str]) -> dict[str, int]:
            await self.go.wait()
            return {"length": sum([len(row) async for row in rows])}

        @event(concurrent=True)
        async def on_note(self) -> None:
            self.log.append("noted")

        @event
        async def on_serial(self) -> dict[str, int]:
            self.log.append("serial")
            await self.go.wait()
            return {}

    async def main(client: Client) -> None:
        if beside:
            await client.send("serial", ref=2)
            await App.log.has("serial")
        await client.send("large", ref=1)
        await items(client, 1, *["x" * 6_000] * 3)
        await client.send("complete", ref=1)
        await client.send("note")
        await (await client.connection.ping())  # what is before it has come to the server
        assert "noted" not in App.log
        App.go.set()
        assert (await answer_to(client, 1))["length"] == 18_000
        await App.log.has("noted")

    talking(App, main)


def test_items_count_for_the_rate_limit() -> None:
    """One too many ends its upload with `rate_limited`; for no upload it is answered, too."""

    class App(Importing):
        rate_limit = RateLimit(7, per_s=10_000)

    async def main(client: Client) -> None:
        await client.send("hold", ref=1)
        assert (await client.call("ping"))["pong"]
        await items(client, 1, *[{"n": 1}] * 6)
        answer = await client.receive()
        assert (answer["code"], answer["ref"]) == ("rate_limited", 1)
        await App.log.has("cancelled")
        await items(client, 1, {"n": 1})
        assert (await client.receive())["code"] == "rate_limited"
        await client.send("complete", ref=1)
        assert (await client.receive())["code"] == "rate_limited"

    talking(App, main)


# ---- items that are not valid


def test_an_invalid_item_is_an_error_at_item() -> None:
    """Answered as a validation error of the message is, where the handler does not catch it."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("import", ref=1, name="a")
        await items(client, 1, {"n": "x"})
        message = "Input should be a valid integer, unable to parse string as an integer"
        assert await client.receive() == {
            "type": "error",
            "code": "validation_error",
            "ref": 1,
            "errors": [{"type": "int_parsing", "loc": ["item", "n"], "msg": message, "input": "x"}],
        }
        await client.send("double", ref=2)
        await items(client, 2, 1, None)
        assert (await client.receive())["n"] == 2
        assert (await client.receive())["errors"][0]["loc"] == ["item"]
        assert App.log == ["closed"]

    talking(App, main)


def test_a_handler_may_go_on_behind_an_invalid_item() -> None:
    """It is raised where it is awaited, and the next one can be awaited all the same."""

    class App(Importing):
        @event
        async def on_pick(self, rows: AsyncIterator[Row]) -> dict[str, Any]:
            good: list[int] = []
            bad: list[Any] = []
            while True:
                try:
                    good.append((await anext(rows)).n)
                except ValidationError as exc:
                    bad.append(exc.errors()[0]["loc"])
                except StopAsyncIteration:
                    return {"good": good, "bad": bad}

    async def main(client: Client) -> None:
        await client.send("pick", ref=1)
        await items(client, 1, {"n": 1}, {"m": 1}, 5, {"n": 2})
        await client.connection.send('{"type":"item","ref":1}')
        await client.connection.send('{"type":"item","ref":1,"item":{"n":3},"other":1}')
        await items(client, 1, {"n": 4})
        await client.send("complete", ref=1)
        answer = await client.receive()
        assert answer["good"] == [1, 2, 4]
        assert answer["bad"] == [["item", "n"], ["item"], ["item"], ["other"]]

    talking(App, main)


def test_inputs_are_kept_out_of_the_errors_of_items_too() -> None:
    """With `include_input = False`, while the names of the item's own fields are told."""

    class App(Importing):
        include_input = False

        @event
        async def on_dicts(self, rows: AsyncIterator[dict[str, Row]]) -> None:
            async for _ in rows:
                pass

    async def main(client: Client) -> None:
        await client.send("dicts", ref=1)
        await items(client, 1, {"secret": {"n": "hidden"}})
        answer = json.dumps(await client.receive())
        assert '["item", "*", "n"]' in answer
        assert "secret" not in answer
        assert "hidden" not in answer

    talking(App, main)


def test_a_validation_error_of_the_handlers_own_is_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """Answered `internal_error`, as everywhere, and logged."""

    class App(Importing):
        @event
        async def on_own(self, rows: AsyncIterator[Row]) -> None:
            async for _ in rows:
                Row(n="private")  # type: ignore[arg-type]  # on purpose

    async def main(client: Client) -> None:
        await client.send("own", ref=1)
        await items(client, 1, {"n": 1})
        assert (await client.receive())["code"] == "internal_error"

    talking(App, main)
    assert "'own'" in caplog.text


def test_a_validator_that_fails_is_a_bug_where_the_item_is_awaited(caplog: pytest.LogCaptureFixture) -> None:
    """It is the application's code."""

    def broken(value: int) -> int:
        raise KeyError(value)

    class App(Importing):
        @event
        async def on_broken(self, rows: AsyncIterator[Annotated[int, AfterValidator(broken)]]) -> None:
            await anext(rows)

    async def main(client: Client) -> None:
        await client.send("broken", ref=1)
        await items(client, 1, 5)
        assert (await client.receive())["code"] == "internal_error"

    talking(App, main)
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("item", [b"NaN", b"[1,", b"\xff", b"[" * 5000])
def test_what_is_no_json_ends_the_connection(item: bytes) -> None:
    """Within an item, too."""

    class App(Importing): ...

    async def main(client: Client) -> None:
        await client.send("hold", ref=1)
        assert (await client.call("ping"))["pong"]
        await client.connection.send(b'{"type":"item","ref":1,"item":%b}' % item)
        assert await client.closed() in (1003, 1007)
        await App.log.has("ended")

    talking(App, main)


# ---- ends


def test_a_cancelled_upload_is_answered() -> None:
    """With `cancelled`, one that is a stream with `complete`; the handler hears of it where it awaits an item."""

    class App(Importing):
        @event
        async def on_wait(self, rows: AsyncIterator[Row]) -> None:
            try:
                await anext(rows)
            except asyncio.CancelledError:
                self.log.append("cancelled")
                raise

    async def main(client: Client) -> None:
        await client.send("wait", ref=1)
        await client.send("cancel", ref=1)
        assert (await client.receive())["code"] == "cancelled"
        await client.send("wait", ref=1)
        assert (await client.call("ping"))["pong"]
        await client.send("cancel", ref=1)
        assert (await client.receive())["code"] == "cancelled"
        assert App.log[-1] == "cancelled"
        await client.send("double", ref=1)
        await items(client, 1, 1)
        assert (await client.receive())["n"] == 2
        await client.send("cancel", ref=1)
        assert await client.receive() == {"type": "complete", "ref": 1}

    talking(App, main)


def test_a_storm_of_cancels_leaves_one_end_for_each_upload() -> None:
    """With items, ends and cancels in every order, right behind each other."""

    class App(Importing):
        max_streams = 1000

    async def main(client: Client) -> None:
        async def ask() -> None:
            for ref in range(300):
                await client.send("import", ref=ref, name="a")
                steps = ["item", "complete", "cancel", "item", "cancel"]
                for step in steps[ref % 5 :] + steps[: ref % 5]:
                    await client.send(step, ref=ref, **({"item": {"n": 1}} if step == "item" else {}))

        asking = asyncio.ensure_future(ask())
        ends = await client.receives(300)
        await asking
        assert sorted(each["ref"] for each in ends) == list(range(300))
        assert {each.get("code", each["type"]) for each in ends} <= {"import", "cancelled", "overrun"}
        assert [each["type"] for each in await client.call_all("ping")] == ["ping"]

    talking(App, main)


def test_a_time_limit_ends_an_upload() -> None:
    """Also while it waits for an item."""

    class App(Importing):
        @event(timeout_s=0.01)
        async def on_short(self, rows: AsyncIterator[Row]) -> None:
            await anext(rows)

    async def main(client: Client) -> None:
        await client.send("short", ref=1)
        answer = await client.receive()
        assert (answer["code"], answer["ref"]) == ("timeout", 1)

    talking(App, main)


def test_a_handler_that_ends_early_is_answered_at_once() -> None:
    """What still comes is ignored, and so is the end."""

    class App(Importing):
        @event
        async def on_first(self, rows: AsyncIterator[Row]) -> Row:
            return await anext(rows)

        @event
        async def on_none(self, rows: AsyncIterator[Row]) -> None:
            raise EventError("closed", "no more today")

    async def main(client: Client) -> None:
        await client.send("first", ref=1)
        await items(client, 1, *[{"n": n} for n in range(16)])
        await client.send("complete", ref=1)
        assert (await client.receive())["n"] == 0
        await client.send("none", ref=2)
        await items(client, 2, *[{"n": n} for n in range(16)])
        assert (await client.receive())["code"] == "closed"
        assert [each["type"] for each in await client.call_all("ping")] == ["ping"]

    talking(App, main)


def test_items_outlive_no_handler() -> None:
    """Who still awaits one when the handler has ended gets a RuntimeError, no silent end; so does a second one."""

    class App(Importing):
        @event
        async def on_leak(self, rows: AsyncIterator[Row]) -> dict[str, bool]:
            async def late() -> None:
                try:
                    await anext(rows)
                except RuntimeError as exc:
                    self.log.append(str(exc))

            self.spawn(late())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(rows)
            return {}

    async def main(client: Client) -> None:
        await client.send("leak", ref=1)
        await client.receive()
        await App.log.has("the handler that this upload was for has ended")

    talking(App, main)


def test_an_item_may_be_awaited_for_a_while() -> None:
    """`asyncio.timeout` around one loses nothing."""

    class App(Importing):
        @event
        async def on_patient(self, rows: AsyncIterator[Row]) -> Row:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await anext(rows)
            await self.send({"type": "now"})
            return await anext(rows)

    async def main(client: Client) -> None:
        await client.send("patient", ref=1)
        assert (await client.receive())["type"] == "now"
        await items(client, 1, {"n": 5})
        assert (await client.receive())["n"] == 5

    talking(App, main)


def test_a_client_that_leaves_in_the_midst_is_a_disconnect_behind_its_items() -> None:
    """Where an item is awaited, before `on_disconnect`."""

    class App(Importing):
        @event
        async def on_watch(self, rows: AsyncIterator[Row]) -> None:
            try:
                async for row in rows:
                    self.log.append(row.n)
                    await self.go.wait()
            except WebSocketDisconnect as exc:
                self.log.append(f"left with {exc.code}")
                raise

    async def main(client: Client) -> None:
        await client.send("watch", ref=1)
        await items(client, 1, {"n": 1}, {"n": 2})
        await App.log.has(1)
        await client.connection.close(4321)
        App.go.set()
        await App.log.has(4321)
        assert App.log == [1, 2, "left with 4321", 4321]

    talking(App, main)


@pytest.mark.parametrize("beside", [False, True])
def test_an_upload_that_is_whole_is_done_though_its_client_has_left(beside: bool) -> None:
    """What came before the close is read, also where another handler waits meanwhile."""

    class App(Importing):
        @event
        async def on_store(self, rows: AsyncIterator[Row]) -> None:
            self.log.append([row.n async for row in rows])

        @event
        async def on_serial(self) -> None:
            await self.gone

    async def main(client: Client) -> None:
        if beside:
            await client.send("serial")
        await client.send("store", ref=1)
        await items(client, 1, *[{"n": 1}] * 16)
        await client.send("complete", ref=1)
        await client.connection.close()
        await App.log.has(1000)
        assert App.log == [[1] * 16, 1000]

    talking(App, main)


@pytest.mark.parametrize("frames", range(8))
def test_a_client_may_be_lost_at_any_point(frames: int, caplog: pytest.LogCaptureFixture) -> None:
    """Its handlers end, `on_disconnect` follows, and nothing is complained of."""
    sent: list[dict[str, Any]] = [{"type_": "hold", "ref": 1}, {"type_": "double", "ref": 2}]
    sent += [{"type_": "item", "ref": 1, "item": {"n": 1}}] * 3
    sent += [{"type_": "complete", "ref": 1}, {"type_": "item", "ref": 2, "item": 1}]

    class App(Importing): ...

    async def main(client: Client) -> None:
        for message in sent[:frames]:
            await client.send(**message)
        client.connection.transport.abort()
        App.go.set()
        await App.log.satisfies(lambda: any(isinstance(each, int) for each in App.log))

    talking(App, main)
    assert [each.getMessage() for each in caplog.records if each.name == "socketsundso"] == []


def test_uploads_end_at_once_at_shutdown(server: str) -> None:
    """However long the grace is."""

    class App(Importing):
        disconnect_grace_s = 1000

    async def main() -> None:
        async with stopping(App, ws=server) as served, connect(served.url) as connection:
            client = Client(connection)
            await client.send("hold", ref=1)
            assert (await client.call("ping"))["pong"]
            served.server.stop()
            await App.log.has(1012)
        assert App.log == ["cancelled", "ended", 1012]

    run(main)


@pytest.mark.parametrize("kind", ["import", "double"])
@pytest.mark.parametrize(
    "behind",
    [
        [{"type": "complete"}],
        [{"type": "item", "item": None}],
        [{"type": "complete"}, {"type": "item", "item": 1}],
        [{"type": "cancel"}],
        [],
    ],
    ids=["complete", "invalid", "overrun", "cancelled", "left"],
)
def test_no_upload_keeps_an_endpoint_alive(kind: str, behind: list[dict[str, Any]]) -> None:
    """However it ends, nothing waits for the collector: neither the loop and the items nor what was raised."""
    kept: list[Any] = []

    class App(Importing):
        async def on_connect(self) -> None:
            kept.append(weakref.ref(self))
            await super().on_connect()

    frames: list[Any] = [{"type": kind, "ref": 1, **({"name": "a"} if kind == "import" else {})}]
    frames += [{**each, "ref": 1} for each in behind]
    gc.collect()
    gc.disable()
    try:
        asyncio.run(Peer(App, frames).run())  # type: ignore[arg-type]  # to its end
        assert kept[0]() is None
    finally:
        gc.enable()


# ---- definition


def test_items_can_be_given_by_hand() -> None:
    """A handler is called as the function that it is."""

    async def rows() -> AsyncIterator[Row]:
        yield Row(n=1)

    async def main() -> None:
        assert await Importing.on_import(None, "a", rows()) == Imported(name="a", sum=1)

    run(main)


def test_the_message_model_has_no_items() -> None:
    """They come behind it."""
    assert set(Importing.on_import.model.model_fields) == {"type", "name"}


@pytest.mark.parametrize("name", ["item", "complete", "more", "cancel"])
def test_the_names_on_the_wire_are_reserved_where_they_are_used(name: str) -> None:
    """For events and pushes; `item` and `more` by uploads alone."""

    async def plain(self: Any) -> None: ...

    async def take(self: Any, rows: AsyncIterator[Row]) -> None: ...

    async def stream(self: Any) -> AsyncIterator[Row]:
        yield Row(n=1)

    pushed = msgspec.defstruct("Pushed", [], tag_field="type", tag=name)
    for members in ({"plain": event(name)(plain)}, {"emits": [pushed]}):
        with pytest.raises(DefinitionError, match=f"{name!r}: Taking has"):
            type("Taking", (Endpoint,), {"on_take": event(take), **members})
    if name in ("item", "more"):
        type("Streaming", (Endpoint,), {"on_stream": event(stream), "plain": event(name)(plain)})


async def two(self: Any, rows: AsyncIterator[Row], more: AsyncIterable[int]) -> None: ...
async def default(self: Any, rows: AsyncIterator[Row] = ()) -> None: ...  # type: ignore[assignment]  # on purpose
async def optional(self: Any, rows: AsyncIterator[Row] | None = None) -> None: ...
async def generator(self: Any, rows: AsyncGenerator[Row, None]) -> None: ...
async def never(self: Any, rows: AsyncIterator[Callable[[], None]]) -> None: ...
def sync(self: Any, rows: AsyncIterator[Row]) -> None: ...
def taking(rows: AsyncIterator[Row]) -> None: ...
async def depending(self: Any, rows: Annotated[int, Depends(taking)]) -> None: ...


@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (two, "'rows' and 'more' are AsyncIterators, .* take items of a union"),
        (default, r"parameter 'rows': .* leave `= \(\)` out"),
        (optional, r"parameter 'rows': .* write `AsyncIterator\[...\]`"),
        (generator, "parameter 'rows': .* annotate it `AsyncIterator"),
        (never, "parameter 'rows': "),
        (sync, "'rows' .* write it as `async def`"),
        (depending, "only the handler itself takes an upload"),
    ],
)
def test_what_can_never_work_is_told_at_import(function: Any, remedy: str) -> None:
    """With what to write instead."""
    with pytest.raises(DefinitionError, match=remedy):
        type("App", (Endpoint,), {"on_it": event(function)})


@pytest.mark.parametrize("options", [{"concurrent": True}, {"serial_by": "name"}])
def test_an_upload_is_beside_all_else_anyway(options: dict[str, Any]) -> None:
    """It needs no word for that."""

    async def on_take(self: Any, name: str, rows: AsyncIterator[Row]) -> None: ...

    with pytest.raises(DefinitionError, match="an upload runs beside all else anyway"):
        type("App", (Endpoint,), {"on_take": event(**options)(on_take)})


@pytest.mark.parametrize("key", ["item", "items"])
def test_a_ref_key_that_uploads_have_is_refused(key: str) -> None:
    """With the reason."""
    with pytest.raises(DefinitionError, match="which is a key of uploads"):
        type("App", (Importing,), {"ref_key": key})
