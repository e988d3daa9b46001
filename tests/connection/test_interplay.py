"""What converses, together with what stands before handlers and what is around them, over real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import pytest
from starlette.requests import HTTPConnection

from socketsundso import Depends, Endpoint, EventError, Handler, RateLimit, event
from tests.connection.conversing import Log, talking, until_end
from tests.rooms import serving as servers
from tests.rooms.serving import Client, run, serving


@pytest.fixture(autouse=True, params=["websockets-sansio", servers.OURS], ids=["uvicorn", "ours"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(servers, "protocol", request.param)
    return str(request.param)


log = Log()
go: asyncio.Event


@pytest.fixture(autouse=True)
def fresh() -> None:
    global go
    log.clear()
    go = asyncio.Event()


async def session() -> AsyncIterator[str]:
    log.append("opened")
    try:
        yield "session"
    except BaseException as exc:
        log.append(type(exc).__name__)
        raise
    finally:
        await asyncio.sleep(0)
        log.append("closed")


def path_of(connection: HTTPConnection) -> str:
    return connection.url.path


Session = Annotated[str, Depends(session)]


class Whole(Endpoint):
    @event
    async def on_ping(self) -> dict[str, bool]:
        return {"pong": True}

    async def on_disconnect(self, close_code: int) -> None:
        log.append(close_code)


# ---- streams and what is torn down


def streaming() -> type[Endpoint]:
    class App(Whole):
        @event
        async def on_count(self, to: int, session: Session) -> AsyncIterator[dict[str, Any]]:
            for n in range(to):
                log.append(n)
                yield {"n": n, "with": session}
            if to > 9:
                raise EventError("too_far")

    return App


def test_a_scope_of_anyio_around_a_stream_ends_it() -> None:
    """It was opened in the task that steps the stream."""

    async def limited() -> AsyncIterator[None]:
        with anyio.fail_after(0.01):
            yield

    class App(Whole):
        @event
        async def on_wait(self, unit: Annotated[None, Depends(limited)]) -> AsyncIterator[dict[str, Any]]:
            yield {"n": 0}
            await go.wait()

    async def main(client: Client) -> None:
        await client.send("wait", ref=1)
        assert [each.get("code") for each in await until_end(client, 1)] == [None, "internal_error"]
        assert (await client.call("ping"))["pong"]

    talking(App, main)


def test_middleware_is_within_what_a_stream_holds() -> None:
    """It gets the iterator, and may put another one around it."""

    App = streaming()

    @App.middleware
    async def doubling(endpoint: Any, call: Any, handle: Any) -> Any:
        value = await handle()
        if call.event != "count":
            return value
        return ({**item, "n": item["n"] * 2} async for item in value)

    async def main(client: Client) -> None:
        await client.send("count", to="2", ref=7)  # for pydantic to judge
        assert [each.get("n") for each in await until_end(client, 7)] == [0, 2, None]
        await log.has("closed")
        assert log == ["opened", 0, 1, "closed"]
        await client.send("count", to="x", ref=8)
        assert (await client.receive())["code"] == "validation_error"
        await client.send("count", to=10, ref=9)
        assert (await until_end(client, 9))[-1]["code"] == "too_far"

    talking(App, main)


def test_overrides_replace_what_a_stream_holds() -> None:
    """As for any handler."""

    App = streaming()

    async def fake() -> AsyncIterator[str]:
        yield "fake"
        log.append("fake closed")

    App.dependency_overrides[session] = fake

    async def main(client: Client) -> None:
        await client.send("count", to=1, ref=7)
        assert (await until_end(client, 7))[0]["with"] == "fake"
        await log.has("fake closed")

    talking(App, main)


# ---- the end of a request


@pytest.mark.parametrize("kind", ["serial", "apart", "keyed"])
@pytest.mark.parametrize("around", [False, True])
def test_a_teardown_that_awaits_what_was_cancelled_is_no_second_answer(
    kind: str, around: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is out: it is logged, as any failure then."""

    async def broken() -> AsyncIterator[None]:
        yield
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    Broken = Annotated[None, Depends(broken)]

    class App(Whole):
        acknowledge = True

        @event
        async def on_serial(self, key: int, unit: Broken) -> dict[str, Any]:
            return {"n": 0}

        @event(concurrent=True)
        async def on_apart(self, key: int, unit: Broken) -> None: ...

        @event(serial_by="key")
        async def on_keyed(self, key: int, unit: Broken) -> dict[str, Any]:
            return {"n": 0}

    if around:

        @App.middleware
        async def through(endpoint: Any, call: Any, handle: Any) -> Any:
            return await handle()

    async def main(client: Client) -> None:
        await client.send(kind, key=1, ref=1)
        await client.send("ping", ref=2)
        answers = await client.receives(2)
        assert sorted((each["ref"], each["type"]) for each in answers) == [(1, kind), (2, "ping")]
        assert await client.call_all("ping") == [{"type": "ping", "pong": True, "ref": "call"}]

    talking(App, main)
    assert "teardown of a dependency failed" in caplog.text


@pytest.mark.parametrize("kind", ["serial", "apart"])
def test_an_acknowledgement_is_no_reply_for_respond(kind: str) -> None:
    """An overridden `respond` sees what handlers give, with and without dependencies."""

    class App(Whole):
        acknowledge = True

        @event
        async def on_serial(self, session: Session) -> None: ...

        @event(concurrent=True)
        async def on_apart(self, session: Session) -> None: ...

        async def respond(self, response: Any) -> None:
            log.append(response)
            await super().respond(response)

    async def main(client: Client) -> None:
        assert await client.call(kind) == {"type": kind, "ref": "call"}
        await log.has("closed")
        assert log == ["opened", "closed"]

    talking(App, main)


@pytest.mark.parametrize("kind", ["serial", "apart", "stream"])
def test_a_request_whose_guard_waits_is_cancelled(kind: str) -> None:
    """Its handler is never called, and there is one answer."""

    async def waits(endpoint: Any, call: Any) -> None:
        log.append("asked")
        await go.wait()

    class App(Whole):
        @event(guards=[waits])
        async def on_serial(self, session: Session) -> None: ...

        @event(guards=[waits], concurrent=True)
        async def on_apart(self, session: Session) -> None: ...

        @event(guards=[waits])
        async def on_stream(self, session: Session) -> AsyncIterator[dict[str, int]]:
            yield {"n": 1}

    async def main(client: Client) -> None:
        await client.send(kind, ref=1)
        await log.has("asked")
        await client.send("cancel", ref=1)
        await client.send("cancel", ref=1)
        answer = await client.receive()
        assert (answer.get("code"), answer["ref"]) == (None if kind == "stream" else "cancelled", 1)
        assert await client.call_all("ping") == [{"type": "ping", "pong": True, "ref": "call"}]
        assert log == ["asked"]

    talking(App, main)


@pytest.mark.parametrize("kind", ["serial", "apart"])
@pytest.mark.parametrize("scope", ["function", "request"])
def test_a_request_is_cancelled_in_a_teardown_before_its_answer_only(kind: str, scope: Any) -> None:
    """Behind it there is nothing left to cancel. Either way one answer, and the teardown ends."""

    async def slow() -> AsyncIterator[None]:
        try:
            yield
            log.append("tearing down")
            await go.wait()
        except BaseException as exc:
            log.append(type(exc).__name__)
            raise
        finally:
            log.append("torn down")

    Slow = Annotated[None, Depends(slow, scope=scope)]

    class App(Whole):
        @event
        async def on_serial(self, unit: Slow) -> dict[str, int]:
            return {"n": 1}

        @event(concurrent=True)
        async def on_apart(self, unit: Slow) -> dict[str, int]:
            return {"n": 1}

    async def main(client: Client) -> None:
        await client.send(kind, ref=1)
        await log.has("tearing down")
        await client.send("cancel", ref=1)
        answer = await client.receive()
        assert (answer.get("code"), answer["ref"]) == ("cancelled" if scope == "function" else None, 1)
        go.set()
        await log.has("torn down")
        assert await client.call_all("ping") == [{"type": "ping", "pong": True, "ref": "call"}]
        assert ("CancelledError" in log) is (scope == "function")

    talking(App, main)


@pytest.mark.parametrize("kind", ["serial", "apart", "stream"])
def test_a_teardown_that_never_ends_is_cut_when_its_peer_has_left(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the answer is out."""
    monkeypatch.setattr("socketsundso.connection.tasks.END_S", 0.05)

    async def endless() -> AsyncIterator[None]:
        try:
            yield
            log.append("tearing down")
            await asyncio.Event().wait()
        finally:
            log.append("cut")

    Endless = Annotated[None, Depends(endless)]

    class App(Whole):
        disconnect_grace_s = 0.05

        @event
        async def on_serial(self, unit: Endless) -> dict[str, int]:
            return {"n": 1}

        @event(concurrent=True)
        async def on_apart(self, unit: Endless) -> dict[str, int]:
            return {"n": 1}

        @event
        async def on_stream(self, unit: Endless) -> AsyncIterator[dict[str, int]]:
            yield {"n": 1}

    async def main(client: Client) -> None:
        await client.send(kind, ref=1)
        await log.has("tearing down")
        await client.leave()
        await log.has("cut", 1000)

    talking(App, main)


@pytest.mark.parametrize("kind", ["serial", "stream", "cancel"])
@pytest.mark.parametrize(("ref", "error"), [([], "ref_type"), (None, "missing")])
def test_a_ref_that_is_none_is_told_from_one_that_is_missing(kind: str, ref: Any, error: str) -> None:
    """In the same words for all that can be asked; who needs none may leave it out."""

    class App(Whole):
        acknowledge = True

        @event
        async def on_serial(self) -> None: ...

        @event
        async def on_stream(self) -> AsyncIterator[dict[str, int]]:
            yield {"n": 1}

    async def main(client: Client) -> None:
        await client.send(kind, ref=ref)
        await client.send("ping")
        answer = await client.receive()
        if (kind, ref) == ("serial", None):
            assert answer["type"] == "ping"
        else:
            assert [(each["type"], each["loc"]) for each in answer["errors"]] == [(error, ["ref"])]

    talking(App, main)


# ---- limits


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "stream"},  # without a `ref`
        {"type": "stream", "ref": 1},  # in use
        {"type": "ping", "ref": 1},
        {"type": "apart", "ref": 1},
        {"type": "stream", "ref": 2},  # too many
        {"type": "unknown", "ref": 3},
        {"type": "apart", "n": "x"},
        {"type": "cancel"},
        {"type": "cancel", "ref": 3},
        [],
    ],
    ids=json.dumps,
)
def test_every_frame_counts_for_the_limit_of_a_class(frame: Any) -> None:
    """Whatever it is refused for, while something runs; the 20th refusal in a row closes."""

    class App(Whole):
        rate_limit = RateLimit(2, per_s=3600)
        max_streams = 1

        @event
        async def on_stream(self) -> AsyncIterator[dict[str, int]]:
            yield {"n": 1}
            await go.wait()

        @event(concurrent=True)
        async def on_apart(self, n: int = 0) -> None: ...

    async def main(client: Client) -> None:
        await client.send("stream", ref=1)
        assert (await client.receive())["n"] == 1
        for _ in range(21):
            await client.connection.send(json.dumps(frame))
        assert await client.closed() == 4429

    talking(App, main)


@pytest.mark.parametrize("frame", [{"type": "unknown"}, [], {"type": "ping", "x": 1}], ids=json.dumps)
def test_too_many_frames_close_while_a_handler_waits(frame: Any) -> None:
    """In their turn, behind its answer."""

    class App(Whole):
        acknowledge = True
        rate_limit = RateLimit(1, per_s=3600)

        @event
        async def on_wait(self) -> dict[str, int]:
            log.append("waits")
            await go.wait()
            return {"n": 1}

    async def main(client: Client) -> None:
        await client.send("wait", ref=1)
        await log.has("waits")
        for _ in range(20):
            await client.connection.send(json.dumps(frame))
        await client.send("cancel", ref=9)
        go.set()
        assert (await client.receive())["n"] == 1
        assert await client.closed() == 4429

    talking(App, main)


@pytest.mark.parametrize("kind", ["serial", "apart", "stream"])
def test_what_is_no_json_closes_while_a_handler_waits(kind: str) -> None:
    """What runs beside is stopped, what has its turn may finish."""

    class App(Whole):
        @event
        async def on_serial(self, session: Session) -> dict[str, int]:
            await go.wait()
            return {"n": 1}

        @event(concurrent=True)
        async def on_apart(self, session: Session) -> dict[str, int]:
            await go.wait()
            return {"n": 1}

        @event
        async def on_stream(self, session: Session) -> AsyncIterator[dict[str, int]]:
            await go.wait()
            yield {"n": 1}

    async def main(client: Client) -> None:
        await client.send(kind, ref=1)
        await log.has("opened")
        await client.connection.send("{")
        if kind == "serial":
            go.set()
            assert (await client.receive())["n"] == 1
        assert await client.closed() == 1003
        await log.has("closed", 1003)

    talking(App, main)


def test_who_waits_for_items_is_not_idle() -> None:
    """As who waits for an answer."""

    class App(Whole):
        idle_timeout_s = 0.1

        @event
        async def on_stream(self) -> AsyncIterator[dict[str, int]]:
            yield {"n": 1}
            await asyncio.sleep(0.3)
            yield {"n": 2}

    async def main(client: Client) -> None:
        await client.send("stream", ref=1)
        assert [each["type"] for each in await until_end(client, 1)] == ["stream", "stream", "complete"]
        assert await client.closed() == 4408

    talking(App, main)


# ---- definitions that change


def test_an_open_connection_does_not_learn_to_stream() -> None:
    """The class does: connections that begin then stream, those that are open do not know the event."""

    class App(Whole): ...

    async def whole() -> None:
        async with serving(App) as connect:
            before = await connect()
            assert (await before.call("ping"))["pong"]

            @App.event
            async def on_count(self: Any) -> AsyncIterator[dict[str, int]]:
                yield {"n": 1}

            after = await connect()
            await after.send("count", ref=1)
            assert (await until_end(after, 1))[-1] == {"type": "complete", "ref": 1}
            assert (await before.call("count"))["code"] == "unknown_event"

    run(whole)


def test_what_is_attached_later_passes_through_the_middleware() -> None:
    """Of a class that had it before."""

    class App(Whole):
        acknowledge = True

    @App.middleware
    async def noting(endpoint: Any, call: Any, handle: Any) -> Any:
        log.append(call.event)
        return await handle()

    @App.event
    async def on_count(self: Any, session: Session) -> AsyncIterator[dict[str, int]]:
        yield {"n": 1}

    @App.event(concurrent=True)
    async def on_apart(self: Any, session: Session) -> dict[str, int]:
        return {"n": 1}

    async def main(client: Client) -> None:
        await client.send("count", ref=1)
        assert (await until_end(client, 1))[-1] == {"type": "complete", "ref": 1}
        assert (await client.call("apart"))["n"] == 1
        await log.has("closed")
        assert log.count("closed") == 2
        assert log[0] == "count"

    talking(App, main)


@pytest.mark.parametrize("overridden", [False, True])
def test_an_instances_own_handlers_are_kept_and_overridden(overridden: bool) -> None:
    """Also those that it had before the class's dependencies were looked up."""

    async def lets_pass(endpoint: Any, call: Any) -> bool:
        return bool(call.ref != "no")

    async def on_own(self: Any, session: Session) -> dict[str, str]:
        return {"with": session}

    class App(Whole):
        acknowledge = True

        def __init__(self, websocket: Any) -> None:
            super().__init__(websocket)
            self.handlers["own"] = Handler("own", on_own, guards=[lets_pass])

        async def on_connect(self) -> None:
            await super().on_connect()
            self.handlers["later"] = Handler("later", on_own, guards=[lets_pass])

        @event
        async def on_kept(self, path: Annotated[str, Depends(path_of)]) -> None: ...

    if overridden:
        App.dependency_overrides[session] = lambda: "fake"

    async def main(client: Client) -> None:
        for name in ("own", "later"):
            assert (await client.call(name))["with"] == ("fake" if overridden else "session")
            await client.send(name, ref="no")
            assert (await client.receive())["code"] == "forbidden"

    talking(App, main)


# ---- who leaves


def test_a_peer_is_missed_also_where_too_much_waits() -> None:
    """Nothing is read then, but the handler does not wait for ever."""

    class App(Whole):
        acknowledge = True
        disconnect_grace_s = 0.05

        @event
        async def on_wait(self) -> None:
            log.append("waits")
            await go.wait()

    async def main(client: Client) -> None:
        await client.send("wait", ref=1)
        await log.has("waits")
        for _ in range(100):
            await client.send("ping")
        await client.leave()
        await log.has(1000)

    talking(App, main)
