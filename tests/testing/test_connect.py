"""`socketsundso.testing`: what a test sees of an endpoint without a server, and what it is told where it fails."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import pytest
from fastapi import FastAPI, Header
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket

from socketsundso import (
    ArrayEnvelope,
    CallRefused,
    Depends,
    Envelope,
    EventError,
    Hub,
    JsonRpc,
    Keep,
    WebSocketHandlingEndpoint,
    binary,
    event,
)
from socketsundso.testing import (
    Connection,
    Declined,
    ErrorReply,
    HandshakeRefused,
    broadcasts,
    connect,
)

pytestmark = pytest.mark.usefixtures("own_backplane")


@pytest.fixture
def own_backplane(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("SOCKETSUNDSO_BACKPLANE", f"memory://{request.node.name}")


class Posted(BaseModel):
    msg: str
    at: datetime.date | None = None


class Joined(msgspec.Struct, tag_field="type", tag="joined"):
    name: str


class Ask(BaseModel):
    type: Literal["ask"] = "ask"
    question: str


@dataclass
class Answer:
    yes: bool


class Confirmed(msgspec.Struct, tag="confirmed"):
    yes: bool


class Unsure(msgspec.Struct, tag="unsure"):
    why: str


class Chat(WebSocketHandlingEndpoint):
    emits = [Posted, Joined]
    calls = {Ask: Answer}
    subprotocols = ["chat.v1"]
    left: list[int] = []

    @event
    async def on_enter(self, room: str, name: str) -> dict[str, Any]:
        await self.join(room)
        await self.broadcast(Joined(name), room=room, exclude_self=True)
        return {"entered": room}

    @event
    async def on_say(self, msg: str, at: datetime.date | None = None) -> Posted:
        if msg == "fail":
            raise EventError("refused", "no")
        await self.broadcast(Posted(msg=msg, at=at), room=self.rooms, exclude_self=True)
        return Posted(msg=msg, at=at)

    @event
    async def on_whoami(self) -> dict[str, Any]:
        query = self.websocket.query_params.get("q")
        return {"user": self.user, "query": query, "origin": self.websocket.headers.get("origin")}

    @event
    async def on_count(self, to: int) -> AsyncIterator[dict[str, int]]:
        try:
            for n in range(to):
                yield {"n": n}
            if to == 3:
                raise EventError("three")
        finally:
            self.left.append(to)

    @event(concurrent=True)
    async def on_confirm(self) -> Confirmed | Unsure:
        try:
            return Confirmed(yes=(await self.call(Ask(question="sure?"), returns=Answer)).yes)
        except CallRefused as exc:
            return Unsure(why=exc.code)

    @event
    async def on_quit(self) -> None:
        await self.send(Posted(msg="bye"))
        await self.close(4000, "quit")

    @event
    async def on_never(self) -> None:
        await asyncio.Event().wait()


def run(test: Coroutine[Any, Any, Any]) -> None:
    asyncio.run(test)


def test_an_answer_is_a_dict_or_an_instance() -> None:
    """`ask` gives the answer as it is on the wire, without the ref, or what `returns` makes of it."""

    async def test() -> None:
        async with connect(Chat) as ws:
            assert await ws.ask("say", msg="hi", at=datetime.date(2026, 1, 2)) == {
                "type": "say",
                "msg": "hi",
                "at": "2026-01-02",
            }
            assert await ws.ask("say", msg="hi", returns=Posted) == Posted(msg="hi")
            mine = {"type": "confirm", "ref": "mine"}
            ws.handle("ask", lambda question: {"yes": True})
            assert await ws.ask(mine, returns=Confirmed | Unsure) == Confirmed(yes=True)

    run(test())


def test_an_error_frame_is_raised() -> None:
    """`ask` raises `ErrorReply` with code and errors, those of validation included."""

    async def test() -> None:
        async with connect(Chat) as ws:
            with pytest.raises(ErrorReply, match="refused: .*no") as refused:
                await ws.ask("say", msg="fail")
            assert refused.value.code == "refused"
            with pytest.raises(ErrorReply) as invalid:
                await ws.ask("say")
            assert [each["loc"] for each in invalid.value.errors] == [["msg"]]

    run(test())


def test_pushes_are_expected_by_class_or_type_in_any_order() -> None:
    """`expect` takes what it asks for and leaves what came before; `silent` holds once everything is taken."""

    async def test() -> None:
        async with connect(Chat) as ada, connect(Chat) as grace:
            await ada.ask("enter", room="lobby", name="ada")
            await ada.silent(0.01)
            await grace.ask("enter", room="lobby", name="grace")
            await grace.ask("say", msg="one")
            await grace.ask("say", msg="two")
            assert await ada.expect(Posted, msg="two") == Posted(msg="two")
            assert await ada.expect(Joined) == Joined("grace")
            assert await ada.expect(Posted | Joined) == Posted(msg="one")
            await ada.silent(0.01)
            await ada.send("quit")
            assert await ada.receive() == {"type": "posted", "msg": "bye", "at": None}

    run(test())


FAILURES = [
    pytest.param(
        lambda ws: ws.expect("joined", within_s=0.01),
        r"no 'joined' within 0.01 s; what came:\n  .*\"msg\": \"early\"",
        id="another message",
    ),
    pytest.param(lambda ws: ws.expect(Posted, within_s=0.01, msg="late"), "no 'posted' with", id="other fields"),
    pytest.param(lambda ws: ws.silent(0.01), "silence was expected; what came:\n  .*early", id="no silence"),
    pytest.param(lambda ws: ws.ask("never", within_s=0.01), "no answer to 'never' within 0.01 s", id="no answer"),
    pytest.param(lambda ws: ws.expect_close(within_s=0.01), "no close within 0.01 s", id="no close"),
]


@pytest.mark.parametrize(("wait", "message"), FAILURES)
def test_a_wait_that_fails_shows_what_came(wait: Any, message: str) -> None:
    """Every wait has an end, and an AssertionError names what was wanted and what came instead."""

    class Early(Chat):
        disconnect_grace_s = 0

        async def on_connect(self) -> None:
            await super().on_connect()
            await self.send(Posted(msg="early"))

    async def test() -> None:
        async with connect(Early) as ws:
            with pytest.raises(AssertionError, match=message):
                await wait(ws)

    run(test())


def test_waits_end_when_nothing_more_can_come() -> None:
    """Who waits is told of the close at once, whatever time is left; and what is sent afterwards is refused."""

    async def test() -> None:
        async with connect(Chat) as ws:
            await ws.send("quit")
            with pytest.raises(AssertionError, match="no 'joined': the connection was closed with 4000 'quit'"):
                await ws.expect("joined", within_s=60)
            assert (await ws.expect_close(4000)).reason == "quit"
            assert ws.closed == (4000, "quit")
            await ws.expect("posted")
            with pytest.raises(AssertionError, match="nothing can be sent: .* closed with 4000"):
                await ws.send("say", msg="hi")
            with pytest.raises(AssertionError, match="closed with 4000 'quit', not with 1000"):
                await ws.expect_close(1000)

    run(test())


def test_a_stream_is_iterated() -> None:
    """Items come one by one to the end; leaving cancels; an error frame is raised."""

    async def test() -> None:
        Chat.left.clear()
        async with connect(Chat) as ws:
            assert [item["n"] async for item in ws.stream("count", to=2)] == [0, 1]
            with pytest.raises(ErrorReply, match="three"):
                [item async for item in ws.stream("count", to=3)]
            async with contextlib.aclosing(ws.stream("count", to=1_000_000)) as items:
                async for item in items:
                    break
            await ws.ask("whoami")
        assert Chat.left == [2, 3, 1_000_000]

    run(test())


def test_calls_of_the_server_are_answered() -> None:
    """`handle` answers a call, by class or type, sync or async; `Declined` refuses it."""

    def refuse(question: Ask) -> Any:
        raise Declined("busy")

    async def agree(question: dict[str, Any]) -> Any:
        return {"yes": question == {"type": "ask", "question": "sure?"}}

    async def test() -> None:
        async with connect(Chat) as ws:
            ws.handle(Ask, lambda question: Answer(question.question == "sure?"))
            assert (await ws.ask("confirm"))["yes"] is True
            ws.handle(Ask, refuse)
            assert (await ws.ask("confirm"))["why"] == "busy"
            ws.handle("ask", agree)
            assert (await ws.ask("confirm"))["yes"] is True

    run(test())


def test_the_handshake_is_what_the_test_says() -> None:
    """User, query, headers and subprotocols are as given; `authenticate` is not asked where there is a user."""

    class Strict(Chat):
        async def authenticate(self) -> str:
            if (token := self.websocket.headers.get("authorization")) is None:
                raise HTTPException(401, "who are you?")
            return token

    async def test() -> None:
        headers = {"Origin": "https://example.com"}
        async with connect(Strict, user="ada", query={"q": "1 2"}, headers=headers, subprotocols=["chat.v1"]) as ws:
            assert ws.subprotocol == "chat.v1"
            assert await ws.ask("whoami") == {
                "type": "whoami",
                "user": "ada",
                "query": "1 2",
                "origin": "https://example.com",
            }
        async with connect(Strict, headers=[("authorization", "grace")]) as ws:
            assert (await ws.ask("whoami"))["user"] == "grace"
        async with connect(Chat, user="ada") as ws:
            assert (await ws.ask("whoami"))["user"] == "ada"
        with pytest.raises(HandshakeRefused, match="401: .*who are you") as refused:
            async with connect(Strict):
                pass
        assert refused.value.status == 401

    run(test())


def test_a_close_before_the_accept_is_403() -> None:
    """As servers answer it."""

    class Closed(WebSocketHandlingEndpoint):
        async def on_connect(self) -> None:
            await self.close()

    async def test() -> None:
        with pytest.raises(HandshakeRefused) as refused:
            async with connect(Closed):
                pass
        assert refused.value.status == 403

    run(test())


def test_an_application_is_connected_to_by_path() -> None:
    """Routes, path parameters, FastAPI's own dependencies and overrides work as under a server."""
    app = FastAPI()

    def real() -> str:
        raise AssertionError("it is overridden")

    @app.websocket("/rooms/{room}")
    class Room(WebSocketHandlingEndpoint):
        def __init__(self, websocket: WebSocket, room: int, x_token: str = Header()) -> None:
            super().__init__(websocket)
            self.room, self.token = room, x_token

        @event
        async def on_where(self, name: str = Depends(real)) -> dict[str, Any]:
            return {"room": self.room, "token": self.token, "name": name}

    app.dependency_overrides[real] = lambda: "fake"

    async def test() -> None:
        async with connect(app, "/rooms/7", headers={"X-Token": "t"}) as ws:
            assert await ws.ask("where") == {"type": "where", "room": 7, "token": "t", "name": "fake"}
        with pytest.raises(TypeError, match="user= and path_params= are for an endpoint class"):
            connect(app, "/rooms/7", user="ada")
        with pytest.raises(HandshakeRefused):
            async with connect(app, "/nowhere"):
                pass

    run(test())


def test_a_class_gets_path_parameters() -> None:
    """`path_params` are what a route would have taken of the path."""

    class Room(WebSocketHandlingEndpoint):
        @event
        async def on_where(self) -> dict[str, Any]:
            return {"room": self.websocket.path_params["room"]}

    async def test() -> None:
        async with connect(Room, path_params={"room": 7}) as ws:
            assert (await ws.ask("where"))["room"] == 7

    run(test())


def test_what_an_application_raises_fails_the_test() -> None:
    """Waits tell it, and the end of the block raises it; but not in the place of what failed first."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        raise RuntimeError("broken")

    async def told() -> None:
        async with connect(broken) as ws:
            await ws.send("anything")
            with pytest.raises(AssertionError, match=r"no 'x': the application raised RuntimeError\('broken'\)"):
                await ws.expect("x")

    async def failed_first() -> None:
        async with connect(broken) as ws:
            await ws.send("anything")
            raise KeyError

    with pytest.raises(RuntimeError, match="broken"):
        run(told())
    with pytest.raises(KeyError):
        run(failed_first())


def test_an_application_that_does_not_answer_fails_the_test() -> None:
    """The handshake has an end, too, and the application none of its own then."""
    cancelled = []

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def test() -> None:
        with pytest.raises(AssertionError, match="the handshake was not answered within 0.01 s"):
            async with connect(deaf, within_s=0.01):
                pass
        assert cancelled

    run(test())


def test_raw_frames() -> None:
    """What is no message of ours can be sent as it is."""

    async def test() -> None:
        async with connect(Chat) as ws:
            await ws.send_frame(b'{"type":"say","msg":"hi"}')
            assert await ws.receive() == {"type": "say", "msg": "hi", "at": None}
            await ws.send_frame("[")
            await ws.expect_close(1003)

    run(test())


def test_the_sync_twin_does_the_same() -> None:
    """Every call works in a plain function, between several connections, and pushes of a hub arrive."""

    async def push() -> None:
        async with Hub() as hub:
            await hub.to("lobby").send(Posted(msg="from afar"))

    with connect(Chat, user="ada", subprotocols=["chat.v1"]) as ada, connect(Chat) as grace:
        assert ada.subprotocol == "chat.v1"
        assert ada.headers == {}
        for ws in (ada, grace):
            ws.ask("enter", room="lobby", name="x")
        ada.handle("ask", lambda question: {"yes": True})
        assert ada.ask("confirm")["yes"] is True
        assert grace.ask("say", msg="hi", returns=Posted).msg == "hi"
        assert ada.expect(Posted).msg == "hi"
        asyncio.run(push())
        assert ada.expect(Posted).msg == "from afar"
        assert list(ada.stream("count", to=2, returns=None)) == [{"type": "count", "n": 0}, {"type": "count", "n": 1}]
        assert ada.expect("joined")["name"] == "x"
        ada.silent(0.01)
        with pytest.raises(ErrorReply):
            ada.ask("say")
        ada.send_frame("{}")
        assert ada.receive()["code"] == "malformed_message"
        ada.send("quit")
        assert ada.expect_close(4000) == ada.closed
        grace.close()
    with pytest.raises(RuntimeError, match="the connection is closed"):
        grace.ask("say", msg="late")


def test_a_sync_handshake_that_is_refused_leaves_nothing() -> None:
    """The shared event loop ends with the last connection, also one that was never open."""
    import threading

    class Closed(WebSocketHandlingEndpoint):
        async def on_connect(self) -> None:
            await self.close()

    before = threading.active_count()
    with pytest.raises(HandshakeRefused), connect(Closed):
        pass
    assert threading.active_count() == before


def test_broadcasts_are_seen_where_they_go_out() -> None:
    """To rooms, users and everyone, one or many, with nobody there; and they are delivered as ever."""

    class Logged(Chat):
        history = {"log:*": Keep(messages=3, seconds=60)}

    async def test() -> None:
        with broadcasts() as sent:
            async with connect(Logged) as ws, Hub() as hub:
                await ws.ask("enter", room="log:1", name="ada")
                await ws.ask("say", msg="hi")
                await hub.to_user("u1").send_many([Posted(msg="a"), Posted(msg="b")])
                await hub.everyone.except_(ws_id := "x").send(Joined("all"))
        assert sent.take(Posted, room="log:1", msg="hi") == Posted(msg="hi")
        assert sent.take("joined", room="log:1") == {"type": "joined", "name": "ada"}
        with pytest.raises(AssertionError, match="no broadcast of 'posted' to room 'log:1'; there is:\n  Broadcast"):
            sent.take(Posted, room="log:1")
        assert [each.message["msg"] for each in sent if each.users == ("u1",)] == ["a", "b"]
        assert sent[-1].to_everyone
        assert sent[-1].excluded == {ws_id}
        assert len(sent) == 3
        assert "u1" in repr(sent)

    run(test())


def test_nothing_is_seen_behind_the_block() -> None:
    """Outside of `broadcasts` the rooms are as they were."""
    from socketsundso.rooms import Rooms

    before = Rooms.broadcast
    with broadcasts():
        assert Rooms.broadcast is not before
    assert Rooms.broadcast is before


def test_two_requests_with_one_ref_are_refused() -> None:
    """A ref of the test's own that is still to be answered would mix two answers up."""

    async def test(ws: Connection) -> None:
        await ws.ask({"type": "say", "msg": "hi", "ref": 1})

    async def both() -> None:
        async with connect(Chat) as ws:
            found = await asyncio.gather(test(ws), test(ws), return_exceptions=True)
            assert [type(each) for each in found] == [type(None), ValueError]

    run(both())


class Recorder(WebSocketHandlingEndpoint):
    @binary
    async def on_frame(self, frame: bytes) -> bytes:
        await self.send({"type": "seen", "size": len(frame)})
        return frame

    @event
    async def on_say(self, msg: str) -> dict[str, str]:
        return {"msg": msg}


def test_binary_frames_stand_among_the_messages() -> None:
    """Each in its place: what comes next has to be of the kind that is asked for, `expect` takes it out of others."""
    with connect(Recorder) as ws:
        for data in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
            ws.send_bytes(data)
            assert ws.receive() == {"type": "seen", "size": 3}
            assert ws.receive_bytes() == b"abc"
        ws.send_bytes(b"1")
        ws.send_bytes(b"22")
        assert ws.expect(bytes) == b"1"
        assert ws.expect(bytes) == b"22"
        assert ws.expect("seen", size=2)["size"] == 2
        assert ws.ask("say", msg="hi")["msg"] == "hi"
        assert ws.receive() == {"type": "seen", "size": 1}
        ws.silent(0)


@pytest.mark.parametrize("size", [3, 1000])
def test_a_frame_of_another_kind_is_shown(size: int) -> None:
    """What came instead, in short."""
    with connect(Recorder) as ws:
        ws.send_bytes(bytes(size))
        with pytest.raises(AssertionError, match=r'a binary frame was expected, not \{"type": "seen"'):
            ws.receive_bytes()
        with pytest.raises(AssertionError, match=r"a message was expected, not a binary frame: b'\\x00") as raised:
            ws.receive()
        assert len(str(raised.value)) < 500
        ws.send_bytes(bytes(size))
        with pytest.raises(AssertionError, match="no 'nothing'") as raised:
            ws.expect("nothing", within_s=0.05)
        assert "b'\\x00" in str(raised.value)
        with pytest.raises(AssertionError, match="silence was expected"):
            ws.silent(0)
        ws.expect(bytes)
        with pytest.raises(AssertionError, match="no binary frame within"):
            ws.expect(bytes, within_s=0.01)


@pytest.mark.parametrize(
    "envelope", [Envelope(), Envelope(data="payload"), ArrayEnvelope("type", "ref", "data"), JsonRpc()], ids=repr
)
def test_a_text_that_is_no_message_is_received_as_it_is(envelope: Any) -> None:
    """The answer to a text ping, and whatever else an application sends of its own; a failure names it."""

    class Pinged(WebSocketHandlingEndpoint):
        text_pings = {"ping": "pong", "one": "1", "of": '["it"]', "long": "x" * 1000}

        @event
        async def on_say(self, msg: str) -> dict[str, str]:
            return {"msg": msg}

        @event
        async def on_own(self) -> None:
            await self.websocket.send_text("null")

    with connect(type("Pinged", (Pinged,), {"envelope": envelope})) as ws:
        for ping, pong in Pinged.text_pings.items():
            ws.send_frame(ping)
            assert ws.receive_text() == pong
        ws.send_frame("ping")
        with pytest.raises(
            AssertionError, match="^a message was expected, not a text that is none: 'pong'; `receive_text` takes it$"
        ):
            ws.receive()
        ws.send_frame("long")
        with pytest.raises(AssertionError, match=r"^a binary frame was expected, not 'x+'... \(1000 characters\)$"):
            ws.receive_bytes()
        ws.send("own")
        ws.send_frame("ping")
        with pytest.raises(AssertionError, match="no 'nothing' within.*\n  'null'\n  'pong'$"):
            ws.expect("nothing", within_s=0.05)
        assert ws.ask("say", msg="hi")["msg"] == "hi"
        assert [ws.expect(str), ws.expect(str)] == ["null", "pong"]
        with pytest.raises(AssertionError, match="no text that is no message within"):
            ws.expect(str, within_s=0.01)
        if envelope != JsonRpc():
            ws.send("say", msg="hi")
            with pytest.raises(AssertionError, match="a text that is no message was expected, not {"):
                ws.receive_text()
