"""What a scrape of an instrumented endpoint shows."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import weakref
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from socketsundso import Endpoint, EventError, event, refusals
from socketsundso.errors import CallFailed
from socketsundso.observing import Observer
from socketsundso.rooms.local import rooms_for
from socketsundso.server.deflate import packers_of
from socketsundso.server.packing import REPLY
from socketsundso.telemetry import meters, prometheus
from socketsundso.testing import HandshakeRefused, connect

ROOM = "memory://telemetry"


class Said(BaseModel):
    msg: str


class Confirm(BaseModel):
    order: int


def make() -> type[Endpoint]:
    """A class of its own for each test."""

    class Chat(Endpoint):
        backplane = ROOM
        calls = {Confirm: bool}

        async def authenticate(self) -> Any:
            if "nobody" in self.websocket.url.query:
                raise HTTPException(401)

        @event
        async def on_say(self, msg: str, times: int = 1) -> Said:
            return Said(msg=msg * times)

        @event(thread=False)
        def on_plain(self) -> Said:
            return Said(msg="plain")

        @event
        async def on_sold_out(self) -> None:
            raise EventError("sold_out")

        @event
        async def on_fail(self) -> None:
            raise ZeroDivisionError

        @event(thread=False)
        def on_plain_fail(self) -> None:
            raise ZeroDivisionError

        @event(timeout_s=30)
        async def on_wait(self) -> None:
            await asyncio.Event().wait()

        @event(serial_by="room")
        async def on_write(self, room: str) -> Said:
            return Said(msg=room)

        @event
        async def on_items(self, count: int) -> AsyncIterator[Said]:
            for number in range(count):
                yield Said(msg=str(number))
            await asyncio.Event().wait()

        @event
        async def on_enter(self, room: str) -> None:
            await self.join(room)
            await self.broadcast({"type": "entered"}, room=room)

        @event
        async def on_ask(self) -> None:
            self.spawn(self.call(Confirm(order=1), returns=bool))

        @event
        async def on_leave(self, code: int) -> None:
            await self.close(code)

    return Chat


@pytest.fixture
def chat() -> Iterator[type[Endpoint]]:
    cls = make()
    prometheus.instrument(cls)
    yield cls
    prometheus.uninstrument()


def scraped(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"socketsundso_{name}", labels)


def counted(name: str, event: str) -> float | None:
    return scraped(name, endpoint="Chat", event=event)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def talk(chat: type[Endpoint], *messages: dict[str, Any]) -> None:
    """Send each message and await its first frame, in one connection."""

    async def scenario() -> None:
        async with connect(chat) as ws:
            for message in messages:
                await ws.send_frame(json.dumps(message, separators=(",", ":"), ensure_ascii=False))
                await ws.receive()

    run(scenario())


@pytest.mark.parametrize(
    ("message", "received", "sent"),
    [
        ({"type": "say", "msg": "hi"}, 25, 25),
        ({"type": "say", "msg": "hü"}, 26, 26),
        ({"type": "say", "msg": "hi", "times": "2"}, 37, 27),
        ({"type": "say", "msg": "hi", "ref": 7}, 33, 25),
        ({"type": "plain"}, 16, 30),
        ({"type": "write", "room": "lobby"}, 31, 30),
    ],
    ids=str,
)
def test_messages_and_bytes(chat: type[Endpoint], message: dict[str, Any], received: int, sent: int) -> None:
    """Each message counts once, with its bytes and those of its reply, however it was read."""
    talk(chat, message)
    event = message["type"]
    names = "received_messages_total", "received_bytes_total", "sent_messages_total", "sent_bytes_total"
    assert [counted(name, event) for name in names] == [1, received, 1, sent]
    assert scraped("handler_seconds_count", endpoint="Chat", event=event, outcome="ok") == 1


def test_an_overridden_respond_is_counted_once() -> None:
    """It is given values that are valid already."""

    class Own(make()):  # type: ignore[misc]  # a class of this test's
        async def respond(self, response: Any) -> None:
            await super().respond(response)

    prometheus.instrument(Own)
    try:
        talk(Own, {"type": "say", "msg": "hi"})
        assert scraped("sent_messages_total", endpoint="Own", event="say") == 1
    finally:
        prometheus.uninstrument()


def test_what_pydantic_reads_took_the_slow_path(chat: type[Endpoint]) -> None:
    """A value that is coerced did, a native one did not."""
    talk(chat, {"type": "say", "msg": "a"}, {"type": "say", "msg": "a", "times": "2"})
    assert counted("slow_path_total", "say") == 1


class Clock:
    """In place of `time.perf_counter`: what each look at it adds."""

    def __init__(self, step_s: float) -> None:
        self.now, self.step_s = 0.0, step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


def test_what_comes_often_is_looked_at_now_and_then(chat: type[Endpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand messages within a few ms one in 64 is timed, for 64; how many came is exact."""
    clock = Clock(1e-6)
    monkeypatch.setattr(meters, "perf_counter", clock)
    talk(chat, *[{"type": "say", "msg": "hi"}] * 1000)
    looks = clock.now / clock.step_s
    assert counted("received_messages_total", "say") == 1000
    assert 2 * meters.WINDOW < looks < 2 * (2 * meters.WINDOW + 1000 / meters.ONE_IN)
    for name in ("sent_messages_total", "handler_seconds_count"):
        labels = {"outcome": "ok"} if name.startswith("handler") else {}
        assert 1000 - meters.ONE_IN < (scraped(name, endpoint="Chat", event="say", **labels) or 0) <= 1000, name
    assert 25 * (1000 - meters.ONE_IN) < (counted("received_bytes_total", "say") or 0) <= 25 * 1000


def test_what_comes_seldom_is_looked_at_each_time(chat: type[Endpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a thousand a second every call is timed."""
    monkeypatch.setattr(meters, "perf_counter", Clock(0.01))
    talk(chat, *[{"type": "say", "msg": "hi"}] * 200)
    assert scraped("handler_seconds_count", endpoint="Chat", event="say", outcome="ok") == 200
    assert scraped("handler_seconds_bucket", endpoint="Chat", event="say", outcome="ok", le="0.005") == 0
    assert scraped("handler_seconds_bucket", endpoint="Chat", event="say", outcome="ok", le="0.025") == 200


@pytest.mark.parametrize(
    ("message", "outcome", "code"),
    [
        ({"type": "say"}, "invalid", "validation_error"),
        ({"type": "write"}, None, "validation_error"),
        ({"type": "sold_out"}, "refused", "sold_out"),
        ({"type": "fail"}, "failed", "internal_error"),
        ({"type": "plain_fail"}, "failed", "internal_error"),
    ],
    ids=str,
)
def test_errors(chat: type[Endpoint], message: dict[str, Any], outcome: str | None, code: str) -> None:
    """An error frame counts by its code, its handler by how it ended; what waits for a turn is valid before that."""
    talk(chat, message)
    event = message["type"]
    assert scraped("errors_total", endpoint="Chat", code=code) == 1
    assert counted("received_messages_total", event) == 1
    if outcome is not None:
        assert scraped("handler_seconds_count", endpoint="Chat", event=event, outcome=outcome) == 1


def test_names_that_a_peer_invents_are_one_label(chat: type[Endpoint]) -> None:
    """Unknown events and messages without one are counted together."""
    talk(chat, {"type": "a"}, {"type": "b"}, {"no": "type"})
    assert counted("received_messages_total", "(unknown)") == 3
    assert {labels["event"] for labels in labels_of("received_messages_total")} == {*chat._handlers, "(unknown)"}


def labels_of(name: str) -> list[dict[str, str]]:
    return [
        sample.labels
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == f"socketsundso_{name}"
    ]


def test_connections_now_and_ever(chat: type[Endpoint]) -> None:
    """One that is open is in the gauge, one that has ended among the closed, by its code."""

    async def scenario() -> None:
        async with connect(chat):
            async with connect(chat) as other:
                assert scraped("connections", endpoint="Chat") == 2
                await other.send("leave", code=4001)
                await other.expect_close(4001)
            assert scraped("connections", endpoint="Chat") == 1

    run(scenario())
    assert scraped("connections", endpoint="Chat") == 0
    assert scraped("connections_opened_total", endpoint="Chat") == 2
    assert scraped("connections_closed_total", endpoint="Chat", code="1000") == 1
    assert scraped("connections_closed_total", endpoint="Chat", code="4001") == 1


def test_codes_that_peers_invent_are_one_label(chat: type[Endpoint]) -> None:
    """A peer may close with any of a thousand codes."""

    async def scenario() -> None:
        for code in (4600, 4601):
            async with connect(chat) as ws:
                await ws.close(code)

    run(scenario())
    assert labels_of("connections_closed_total") == [{"endpoint": "Chat", "code": "(other)"}]


def test_codes_that_applications_invent_are_bounded(chat: type[Endpoint]) -> None:
    """Beyond a hundred error codes the rest is one."""

    @chat.event
    async def on_any(self: Any, code: str) -> None:
        raise EventError(code)

    talk(chat, *({"type": "any", "code": f"code_{number}"} for number in range(103)))
    assert len(labels_of("errors_total")) == 101
    assert scraped("errors_total", endpoint="Chat", code="(other)") == 3


def test_a_handshake_that_is_refused(chat: type[Endpoint]) -> None:
    """It counts by its reason, and is no connection."""

    async def scenario() -> None:
        with pytest.raises(HandshakeRefused):
            async with connect(chat, query="nobody=1"):
                pass

    run(scenario())
    assert scraped("handshakes_refused_total", endpoint="Chat", reason="unauthorized") == 1
    assert labels_of("connections_opened_total") == []


def test_streams_and_calls_that_run(chat: type[Endpoint]) -> None:
    """Gauges tell what runs now; items of a stream are messages that were sent."""

    async def scenario() -> None:
        async with connect(chat) as ws:
            await ws.send("items", count=2, ref=1)
            await ws.expect("said")
            await ws.expect("said")
            await ws.send("ask")
            await ws.expect("confirm")
            assert scraped("streams", endpoint="Chat") == 1
            assert scraped("calls", endpoint="Chat") == 1
            await ws.send("cancel", ref=1)
            await ws.expect("complete")

    run(scenario())
    assert counted("sent_messages_total", "items") == 2
    assert counted("sent_bytes_total", "items") == 2 * len('{"type":"said","msg":"0"}')
    assert scraped("streams", endpoint="Chat") == scraped("calls", endpoint="Chat") == 0
    assert asked("gone") == 1


@pytest.mark.parametrize(("kind", "outcome"), [("few", "ok"), ("broken", "failed"), ("sold_out_items", "refused")])
def test_streams_that_end(chat: type[Endpoint], kind: str, outcome: str) -> None:
    """By how they end; the time is that of the last item."""

    @chat.event
    async def on_few(self: Any) -> AsyncIterator[Said]:
        yield Said(msg="first")
        await asyncio.sleep(0.02)

    @chat.event
    async def on_broken(self: Any) -> AsyncIterator[Said]:
        yield Said(msg="first")
        raise ZeroDivisionError

    @chat.event(thread=False)
    def on_sold_out_items(self: Any) -> Iterator[Said]:
        yield Said(msg="first")
        raise EventError("sold_out")

    async def scenario() -> None:
        async with connect(chat) as ws:
            await ws.send(kind, ref=1)
            await ws.expect("said")
            await ws.expect("complete" if outcome == "ok" else "error")

    run(scenario())
    labels = {"endpoint": "Chat", "event": kind, "outcome": outcome}
    assert scraped("handler_seconds_count", **labels) == 1
    assert ((scraped("handler_seconds_sum", **labels) or 0) >= 0.02) is (kind == "few")


@pytest.mark.parametrize("end", ["cancelled", "left", "invalid"])
def test_streams_that_do_not_come_to_their_end(chat: type[Endpoint], end: str) -> None:
    """A client cancels, or leaves, or has said nothing that is valid."""

    async def scenario() -> None:
        async with connect(chat) as ws:
            await ws.send("items", count=1 if end != "invalid" else "x", ref=1)
            await ws.expect("error" if end == "invalid" else "said")
            if end == "cancelled":
                await ws.send("cancel", ref=1)
                await ws.expect("complete")

    run(scenario())
    outcome = "invalid" if end == "invalid" else "cancelled"
    assert scraped("handler_seconds_count", endpoint="Chat", event="items", outcome=outcome) == 1
    assert counted("received_messages_total", "items") == 1


def asked(outcome: str) -> float | None:
    return scraped("call_seconds_count", endpoint="Chat", question="confirm", outcome=outcome)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ({"answer": True}, "answered"),
        ({"error": {"code": "busy"}}, "refused"),
        ({"answer": "perhaps"}, "invalid"),
        (None, "timeout"),
    ],
    ids=str,
)
def test_questions_to_clients(chat: type[Endpoint], reply: dict[str, Any] | None, outcome: str) -> None:
    """By what has become of them."""
    over = asyncio.Event()

    @chat.event
    async def on_confirm_soon(self: Any) -> None:
        async def confirm() -> None:
            with contextlib.suppress(CallFailed):
                await self.call(Confirm(order=1), returns=bool, timeout_s=30 if reply else 0.01)
            over.set()

        self.spawn(confirm())

    async def scenario() -> None:
        async with connect(chat) as ws:
            await ws.send("confirm_soon")
            ref = (await ws.expect("confirm"))["ref"]
            if reply is not None:
                await ws.send_frame(json.dumps({"type": "reply", "ref": ref, **reply}))
            await over.wait()

    run(scenario())
    assert asked(outcome) == 1
    assert len(labels_of("call_seconds_count")) == 1


def test_a_handler_that_is_cancelled(chat: type[Endpoint]) -> None:
    """By its client, here."""

    async def scenario() -> None:
        async with connect(chat) as ws:
            await ws.send("wait", ref=1)
            await ws.send("cancel", ref=1)
            await ws.expect("error")

    run(scenario())
    assert scraped("handler_seconds_count", endpoint="Chat", event="wait", outcome="cancelled") == 1


def test_messages_that_slow_readers_did_not_get(chat: type[Endpoint]) -> None:
    """By why they were dropped."""

    async def scenario() -> None:
        rooms_for(ROOM).counters.drops["drop_oldest"] += 2
        assert scraped("dropped_messages_total", backplane="memory", why="drop_oldest") == 2

    run(scenario())


def test_broadcasts_and_deliveries(chat: type[Endpoint]) -> None:
    """Those of hubs and endpoints, by the scheme of the backplane, whose state is told, too."""

    async def scenario() -> None:
        async with connect(chat) as ws:
            names = "broadcasts", "deliveries", "delivered_bytes"
            before = [scraped(f"{name}_total", backplane="memory") or 0 for name in names]
            await ws.send("enter", room="r")
            await ws.expect("entered")
            after = [scraped(f"{name}_total", backplane="memory") or 0 for name in names]
            assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, len('{"type":"entered"}')]
            assert scraped("backplane_up", backplane="memory") == 1

    run(scenario())


def test_calls_of_the_engine_are_timed(chat: type[Endpoint]) -> None:
    """Also those of a backplane that was in use before; and `uninstrument` takes the clock off."""

    async def scenario() -> None:
        async with connect(chat) as ws:
            await ws.send("enter", room="timed")
            await ws.expect("entered")
            assert (scraped("backplane_seconds_count", backplane="memory", call="subscribe") or 0) >= 1
            backplane = rooms_for(ROOM).backplane
            prometheus.uninstrument()
            assert not {"subscribe", "append"} & vars(backplane).keys()

    run(scenario())


def test_what_an_endpoint_pushes(chat: type[Endpoint]) -> None:
    """By its type: that of a dict, or of a class, or bytes."""

    @chat.event
    async def on_push(self: Any) -> None:
        await self.send(Said(msg="a"))
        await self.send(message={"type": "said", "msg": "b"})
        await self.send_bytes(b"pcm")
        await self.send_bytes(memoryview(b"pcm"))
        await self.send({"type": "seen"})

    async def scenario() -> None:
        async with connect(chat) as ws:
            await ws.send("push")
            await ws.expect("seen")

    run(scenario())
    assert scraped("pushed_messages_total", endpoint="Chat", type="said") == 2
    assert scraped("pushed_messages_total", endpoint="Chat", type="seen") == 1
    assert scraped("pushed_messages_total", endpoint="Chat", type="bytes") == 2
    assert scraped("pushed_bytes_total", endpoint="Chat", type="said") == 2 * len('{"type":"said","msg":"a"}')
    assert scraped("pushed_bytes_total", endpoint="Chat", type="bytes") == 6


@pytest.mark.parametrize(("noted", "reason"), [("Bad Request", "bad_request"), ("max_connections", "max_connections")])
def test_handshakes_that_no_application_saw(chat: type[Endpoint], noted: str, reason: str) -> None:
    """Whoever refused them, by the phrase of a status or by a bound."""
    before = scraped("server_handshakes_refused_total", reason=reason) or 0
    refusals.note(noted)
    assert scraped("server_handshakes_refused_total", reason=reason) == before + 1


def test_compression(chat: type[Endpoint]) -> None:
    """Bytes before and after, whoever they were compressed for."""

    async def scenario() -> None:
        before = [scraped("deflate_bytes_total", stage=stage) or 0 for stage in ("before", "after")]
        packed = packers_of(asyncio.get_running_loop()).of_bits(15).pack(b"x" * 5000, REPLY)
        after = [scraped("deflate_bytes_total", stage=stage) or 0 for stage in ("before", "after")]
        assert [new - old for new, old in zip(after, before, strict=True)] == [5000, len(packed)]

    run(scenario())


def test_classes_that_come_later(chat: type[Endpoint]) -> None:
    """What is made after `instrument`, or by a middleware anew, is counted once."""
    prometheus.instrument(chat)

    class Later(chat):  # type: ignore[valid-type, misc]  # a class that a fixture made
        @event
        async def on_late(self) -> Said:
            return Said(msg="late")

    @chat.middleware
    async def around(endpoint: Any, call: Any, handle: Any) -> Any:
        return await handle()

    talk(Later, {"type": "late"}, {"type": "say", "msg": "a"})
    assert scraped("received_messages_total", endpoint="Later", event="late") == 1
    assert scraped("received_messages_total", endpoint="Later", event="say") == 1
    assert counted("received_messages_total", "say") == 0


def test_all_endpoints_of_the_process() -> None:
    """Without a class, `instrument` is for all."""
    prometheus.instrument()
    try:
        talk(make(), {"type": "say", "msg": "a"})
        assert counted("received_messages_total", "say") == 1
    finally:
        prometheus.uninstrument()


def test_nothing_stays_of_a_connection(chat: type[Endpoint]) -> None:
    """An endpoint that was observed is gone when its connection is, without the collector."""
    seen: list[Any] = []

    @chat.event
    async def on_note(self: Any) -> Said:
        seen.append(weakref.ref(self))
        return Said(msg="noted")

    gc.disable()
    try:
        talk(chat, {"type": "note"}, {"type": "sold_out"}, {"type": "say"})
        assert seen[0]() is None
    finally:
        gc.enable()


def test_off_is_as_before() -> None:
    """After `uninstrument` an event is called by generated code, and nothing else."""
    chat = make()

    def names() -> dict[str, str]:
        routes = chat._definition.decoder.routes
        return {event: routes[event].struct.call.__qualname__ for event in chat._handlers}

    before = names()
    prometheus.instrument(chat)
    assert names() != before
    prometheus.uninstrument()
    assert names() == before
    assert chat._observers == ()


def test_an_observer_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the connection lives."""
    chat = make()

    class Broken(Observer):
        def opened(self, endpoint: Any) -> None:
            raise ZeroDivisionError

    chat.add_observer(Broken())
    talk(chat, {"type": "say", "msg": "a"})
    assert [record.getMessage() for record in caplog.records] == ["Broken.opened failed"]
