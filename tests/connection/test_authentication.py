"""Who somebody is, for how long, and what becomes of who does not say so, or says nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions
from starlette.exceptions import HTTPException, WebSocketException

from socketsundso import DefinitionError, Endpoint, event
from tests.conftest import Clock
from tests.harness import Peer, talk
from tests.server.serving import CLOSE, TEXT, closing, masked, peer, request, run, serving, until

SERVERS = ["ours", "websockets-sansio"]


def served(app: Any, server: str) -> Any:
    return serving(app, **({} if server == "ours" else {"ws": server}))


def header(connection: Peer) -> dict[bytes, bytes]:
    return dict(connection.sent[0]["headers"])


# ---- authenticate


class Known(Endpoint):
    async def authenticate(self) -> Any:
        scheme, _, token = self.websocket.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token != "good":
            raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Bearer"})
        return {"name": "ada"}

    @event
    async def on_who(self) -> Any:
        return self.user


@pytest.mark.parametrize("server", SERVERS)
def test_who_is_refused_gets_the_response_and_who_is_not_is_the_user(server: str) -> None:
    """Before the connection is accepted: status, detail and headers of the HTTPException."""

    async def main() -> None:
        async with served(Known, server) as at:
            good = {"Authorization": "Bearer good"}
            async with websockets.asyncio.client.connect(at.url, additional_headers=good) as client:
                await client.send('{"type":"who"}')
                assert json.loads(await client.recv()) == {"type": "who", "name": "ada"}
            with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
                await websockets.asyncio.client.connect(at.url)
            response = caught.value.response
            assert (response.status_code, response.body) == (401, b'{"detail":"who are you?"}')
            assert response.headers["WWW-Authenticate"] == "Bearer"

    run(main())


def test_on_connect_knows_the_user() -> None:
    """It comes after, and is not reached by who is refused."""
    users = []

    class Chat(Known):
        async def on_connect(self) -> None:
            users.append(self.user)
            await super().on_connect()

    talk(Chat, headers=[(b"authorization", b"Bearer good")])
    assert talk(Chat).sent[0]["status"] == 401
    assert users == [{"name": "ada"}]


def test_a_user_of_none_is_let_in() -> None:
    """It is somebody who has not signed in; an endpoint without `authenticate` has nobody else."""

    class Anonymous(Endpoint):
        async def authenticate(self) -> None: ...

        @event
        async def on_who(self) -> Any:
            return {"user": self.user}

    class Plain(Endpoint):
        @event
        async def on_who(self) -> Any:
            return {"user": self.user}

    for cls in (Anonymous, Plain):
        assert talk(cls, {"type": "who"}).answers == [{"type": "who", "user": None}]


def test_a_user_that_is_set_by_init_stays() -> None:
    """FastAPI's dependencies may have found it: only an `authenticate` of one's own replaces it."""

    class Chat(Endpoint):
        def __init__(self, websocket: Any) -> None:
            super().__init__(websocket)
            self.user = "ada"

        @event
        async def on_who(self) -> Any:
            return {"user": self.user}

    assert talk(Chat, {"type": "who"}).answers == [{"type": "who", "user": "ada"}]


@pytest.mark.parametrize("exc", [KeyError("database"), TimeoutError(), ValueError(), ExceptionGroup("", [OSError()])])
def test_a_bug_lets_nobody_in(exc: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and answered 500; nothing of it is told."""

    class Chat(Endpoint):
        async def authenticate(self) -> Any:
            raise exc

    start, body = talk(Chat).sent[:2]
    assert (start["status"], body["body"]) == (500, b"Internal Server Error")
    assert "Chat.authenticate failed" in caplog.text


def test_a_websocket_exception_closes_before_accept() -> None:
    """Which servers answer with 403."""

    class Chat(Endpoint):
        async def authenticate(self) -> Any:
            raise WebSocketException(4003, "no")

    assert talk(Chat).sent == [{"type": "websocket.close", "code": 4003, "reason": "no"}]


def test_authenticate_may_answer_by_itself() -> None:
    """Closing is refusing: `on_connect` is not called."""
    called = []

    class Chat(Endpoint):
        async def authenticate(self) -> Any:
            await self.websocket.close(4003)

        async def on_connect(self) -> None:
            called.append("on_connect")

    assert [message["type"] for message in talk(Chat).sent] == ["websocket.close"]
    assert called == []


def test_authenticate_may_accept() -> None:
    """Then a refusal closes with 4000 + the status, which scripts of pages can see."""

    class Chat(Endpoint):
        async def authenticate(self) -> Any:
            await self.websocket.accept()
            raise HTTPException(401, "token expired")

    connection = talk(Chat)
    assert [message["type"] for message in connection.sent] == ["websocket.accept", "websocket.close"]
    assert (connection.closed, connection.sent[-1]["reason"]) == (4401, "token expired")


def test_it_is_inherited_and_may_call_super() -> None:
    """The base's own gives None."""

    class Guest(Known):
        async def authenticate(self) -> Any:
            try:
                return await super().authenticate()
            except HTTPException:
                return await Endpoint.authenticate(self) or {"name": "guest"}

    assert talk(Guest, {"type": "who"}).answers == [{"type": "who", "name": "guest"}]


def test_a_peer_that_leaves_meanwhile_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged, and there is no `on_disconnect` of who was never let in."""
    ends = []

    class Slow(Endpoint):
        async def authenticate(self) -> Any:
            connection.gone = True
            return "ada"

        async def on_disconnect(self, close_code: int) -> None:
            ends.append(close_code)

    connection = Peer(Slow)
    asyncio.run(connection.run())
    assert (ends, caplog.text) == ([], "")


@pytest.mark.parametrize(("grace_s", "log"), [(1000.0, ["gone", "done"]), (0.0, ["gone", "cancelled"])])
def test_nobody_is_authenticated_for_ever_who_has_left(grace_s: float, log: list[str]) -> None:
    """It hears of that at once, and may end what it does within `disconnect_grace_s`."""
    seen: list[str] = []

    class Slow(Endpoint):
        disconnect_grace_s = grace_s

        async def authenticate(self) -> Any:
            await self.gone
            seen.append("gone")
            try:
                if grace_s:
                    seen.append("done")
                else:
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async def on_disconnect(self, close_code: int) -> None:
            seen.append("never let in")

    async def main() -> None:
        async with served(Slow, "ours") as at:
            _, writer = await asyncio.open_connection("127.0.0.1", at.port)
            writer.write(request())
            await until(lambda: at.connections)
            writer.transport.abort()
            await at.idle()

    run(main())
    assert seen == log


@pytest.mark.parametrize("server", SERVERS)
def test_one_that_takes_too_long_is_cancelled_and_answered_503(server: str) -> None:
    """A service that does not answer keeps nobody's handshake for ever."""
    ends = []

    class Stuck(Endpoint):
        authenticate_within_s = 0.02

        async def authenticate(self) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("cancelled")

    async def main() -> None:
        async with served(Stuck, server) as at:
            with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
                await websockets.asyncio.client.connect(at.url)
            assert caught.value.response.status_code == 503

    run(main())
    assert ends == ["cancelled"]


def test_a_timeout_of_its_own_is_a_bug_or_its_own_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It is not taken for that of the class."""

    class Chat(Endpoint):
        authenticate_within_s = 60

        async def authenticate(self) -> Any:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

    assert talk(Chat).sent[0]["status"] == 500
    assert "Chat.authenticate failed" in caplog.text


# ---- in-band


class InBand(Endpoint):
    authenticate_within_s = 60

    @event
    async def on_sign_in(self, token: str) -> Any:
        if token == "good":
            self.user = "ada"
        return {"ok": self.user is not None}

    @event
    async def on_sign_out(self) -> None:
        self.user = None

    @event
    async def on_ping(self) -> Any:
        return {}


@contextlib.asynccontextmanager
async def client_of(app: Any, server: str = "ours", query: str = "") -> AsyncIterator[Any]:
    """One whose clock may be put forward: neither side sends pings, which would not be answered in time."""
    options = {} if server == "ours" else {"ws": server}
    async with (
        serving(app, ws_ping_interval=None, **options) as at,
        websockets.asyncio.client.connect(f"{at.url}/{query}", ping_interval=None) as client,
    ):
        yield client


async def say(client: Any, **message: Any) -> Any:
    await client.send(json.dumps(message))
    return json.loads(await client.recv())


async def closed(client: Any) -> tuple[int, str]:
    """How it ends; whatever comes before that is dropped."""
    with contextlib.suppress(websockets.exceptions.ConnectionClosed):
        while True:
            await client.recv()
    return client.close_code, client.close_reason


def on_asyncio(main: Any) -> None:
    """In asyncio's own event loop, whose clock tests can put forward."""
    asyncio.run(main)


@pytest.mark.parametrize("server", SERVERS)
def test_who_does_not_sign_in_is_closed_4401(server: str, clock: Clock) -> None:
    """When the time is over, whatever else it has said meanwhile."""

    async def main() -> None:
        async with client_of(InBand, server) as client:
            assert await say(client, type="sign_in", token="bad") == {"type": "sign_in", "ok": False}
            clock.jump(59)
            assert await say(client, type="ping") == {"type": "ping"}
            clock.jump(2)
            assert await closed(client) == (4401, "not signed in")

    on_asyncio(main())


def test_who_signs_in_stays(clock: Clock) -> None:
    """Also who signs out after that time."""

    async def main() -> None:
        async with client_of(InBand) as client:
            assert await say(client, type="sign_in", token="good") == {"type": "sign_in", "ok": True}
            clock.jump(61)
            assert await say(client, type="ping") == {"type": "ping"}
            await client.send('{"type":"sign_out"}')
            clock.jump(1000)
            assert await say(client, type="ping") == {"type": "ping"}

    on_asyncio(main())


def test_who_signs_out_before_the_time_is_over_has_not_signed_in(clock: Clock) -> None:
    """What counts is who is there then."""

    async def main() -> None:
        async with client_of(InBand) as client:
            assert await say(client, type="sign_in", token="good") == {"type": "sign_in", "ok": True}
            await client.send('{"type":"sign_out"}')
            assert await say(client, type="ping") == {"type": "ping"}
            clock.jump(61)
            assert await closed(client) == (4401, "not signed in")

    on_asyncio(main())


def test_who_was_authenticated_need_not_sign_in(clock: Clock) -> None:
    """`authenticate` and in-band sign-in go together."""

    class Either(InBand):
        async def authenticate(self) -> Any:
            return self.websocket.query_params.get("user")

    async def main() -> None:
        async with client_of(Either, query="?user=ada") as client:
            clock.jump(61)
            assert await say(client, type="ping") == {"type": "ping"}

    on_asyncio(main())


def test_on_disconnect_gets_the_code() -> None:
    """4401, once, while the peer does not even answer the close frame."""
    codes = []

    class Strict(InBand):
        authenticate_within_s = 0.01

        async def on_disconnect(self, close_code: int) -> None:
            codes.append(close_code)

    async def main() -> None:
        async with serving(Strict) as at:
            async with peer(at) as connection:
                frame = await connection.frame()
                assert frame is not None
                assert frame[0] == 0x80 | CLOSE
                connection.say(masked(TEXT, b'{"type":"ping"}'), closing(1000))
                assert await connection.rest() == b""
            await at.idle()

    run(main())
    assert codes == [4401]


def test_who_is_closed_while_a_handler_ends_gets_that_code() -> None:
    """And not the server's own 1000, though the application may return before the close frame is written."""

    class Ends(Endpoint):
        @event
        async def on_end(self) -> None:
            self._peer.close_soon(4401, "over")

    async def main() -> None:
        async with client_of(Ends) as client:
            await client.send('{"type":"end"}')
            assert await closed(client) == (4401, "over")

    run(main())


# ---- expiry


class Expiring(Endpoint):
    async def authenticate(self) -> Any:
        self.user_expires_at = time.time() + 3600
        return "ada"

    @event
    async def on_renew(self, seconds: float | None) -> Any:
        self.user_expires_at = None if seconds is None else time.time() + seconds
        return {}

    @event
    def on_renew_in_thread(self, seconds: float) -> Any:
        self.user_expires_at = datetime.fromtimestamp(time.time() + seconds, UTC)
        return {"thread": threading.current_thread() is not threading.main_thread()}


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    """The wall clock goes with the other one."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + clock.ahead_s)
    return clock


@pytest.mark.parametrize("server", SERVERS)
def test_a_sign_in_that_expires_closes_4401(server: str, wall: Clock) -> None:
    """Not before, and without a message that would bring it up."""

    async def main() -> None:
        async with client_of(Expiring, server) as client:
            wall.jump(3599)
            await client.ping()
            wall.jump(2)
            assert await closed(client) == (4401, "the sign-in has expired")

    on_asyncio(main())


@pytest.mark.parametrize("name", ["renew", "renew_in_thread"])
def test_one_that_is_renewed_lasts_until_then(name: str, wall: Clock) -> None:
    """From a handler in the event loop, and from one in a thread."""

    async def main() -> None:
        async with client_of(Expiring) as client:
            answer = await say(client, type=name, seconds=7200)
            assert answer.get("thread", True)
            wall.jump(3601)
            assert (await say(client, type=name, seconds=10))["type"] == name
            wall.jump(11)
            assert await closed(client) == (4401, "the sign-in has expired")

    on_asyncio(main())


def test_one_that_is_set_to_none_never_expires(wall: Clock) -> None:
    """Signing out is another thing."""

    async def main() -> None:
        async with client_of(Expiring) as client:
            await say(client, type="renew", seconds=None)
            wall.jump(10**8)
            assert await say(client, type="renew", seconds=None) == {"type": "renew"}

    on_asyncio(main())


@pytest.mark.parametrize("seconds", [-1, 0, -(10**9)])
def test_one_that_is_over_when_it_is_set_closes_at_once(seconds: int) -> None:
    """A token that was valid when it was sent may not be any more."""

    async def main() -> None:
        async with client_of(Expiring) as client:
            await client.send(json.dumps({"type": "renew", "seconds": seconds}))
            assert (await closed(client))[0] == 4401

    run(main())


def test_one_that_is_over_before_accept_closes_then() -> None:
    """A page can see the code only on an open connection."""

    class Late(Endpoint):
        async def authenticate(self) -> Any:
            self.user_expires_at = 5
            return "ada"

    async def main() -> None:
        async with client_of(Late) as client:
            assert await closed(client) == (4401, "the sign-in has expired")

    run(main())


def test_one_that_is_years_away_waits(wall: Clock) -> None:
    """Longer than any timer of an event loop; it is looked at again every day."""

    async def main() -> None:
        async with client_of(Expiring) as client:
            await say(client, type="renew", seconds=3600 * 24 * 365 * 50)
            for _ in range(3):
                wall.jump(3600 * 25)
                await say(client, type="renew_in_thread", seconds=3600 * 24 * 365 * 50)
            await say(client, type="renew", seconds=3600 * 24 * 3)
            for _ in range(4):
                wall.jump(3600 * 25)
                await asyncio.sleep(0)
            assert (await closed(client))[0] == 4401

    on_asyncio(main())


@pytest.mark.parametrize(
    "value",
    [
        datetime(2040, 1, 1),
        datetime.now(),
        "2040-01-01T00:00:00Z",
        math.nan,
        True,
        2_000_000_000_000,
        [1],
        timedelta(hours=1),
        10**400,
    ],
    ids=repr,
)
def test_what_names_no_time_raises_where_it_is_set(value: Any) -> None:
    """Naive datetimes, texts, milliseconds: rather than a sign-in that never ends. What was set before stays."""

    class Chat(Endpoint):
        async def authenticate(self) -> Any:
            self.user_expires_at = 4e9
            with pytest.raises((ValueError, TypeError, OverflowError)):
                self.user_expires_at = value
            return self.user_expires_at

        @event
        async def on_who(self) -> Any:
            return {"user": self.user}

    assert talk(Chat, {"type": "who"}).answers == [{"type": "who", "user": 4e9}]


@pytest.mark.parametrize(
    "value",
    [datetime(2040, 1, 1, tzinfo=UTC), datetime.now(timezone(timedelta(hours=-9))), 4e9, 2_000_000_000, math.inf],
)
def test_what_was_set_is_what_is_read(value: Any) -> None:
    """As it was given."""

    class Chat(Endpoint):
        async def authenticate(self) -> Any:
            self.user_expires_at = value
            assert self.user_expires_at is value

    assert talk(Chat).sent[0]["type"] == "websocket.accept"


def test_setting_it_when_all_is_over_does_nothing() -> None:
    """From `on_disconnect`, or a task that is still there."""
    kept: list[Any] = []

    class Chat(Endpoint):
        async def on_disconnect(self, close_code: int) -> None:
            kept.append(self)
            self.user_expires_at = 5

    async def main() -> None:
        await Peer(Chat).run()
        kept[0].user_expires_at = 6
        await asyncio.sleep(0)
        assert kept[0]._deadlines is None

    asyncio.run(main())


# ---- idle


class Idle(Endpoint):
    idle_timeout_s = 60
    began: Any = None
    release: Any = None

    @event
    async def on_ping(self) -> Any:
        return {}

    @event
    async def on_wait(self) -> Any:
        self.began.set()
        await self.release.wait()
        return {}


@pytest.mark.parametrize("server", SERVERS)
def test_who_says_nothing_is_closed_4408(server: str, clock: Clock) -> None:
    """So long after its last message."""

    async def main() -> None:
        async with client_of(Idle, server) as client:
            for _ in range(3):
                clock.jump(59)
                assert await say(client, type="ping") == {"type": "ping"}
            clock.jump(61)
            assert await closed(client) == (4408, "idle")

    on_asyncio(main())


@pytest.mark.parametrize("frame", ['{"type":"nope"}', "5", '{"type":"ping","more":1}', '{"type":"ping","ref":[]}'])
def test_whatever_is_said_counts(frame: str, clock: Clock) -> None:
    """Also what is answered with an error."""

    async def main() -> None:
        async with client_of(Idle) as client:
            for _ in range(3):
                clock.jump(59)
                await client.send(frame)
                assert json.loads(await client.recv())["type"] == "error"

    on_asyncio(main())


def test_who_waits_for_an_answer_is_not_idle(clock: Clock) -> None:
    """However long the handler takes; the time begins when it has answered."""

    async def main() -> None:
        Idle.began, Idle.release = asyncio.Event(), asyncio.Event()
        async with client_of(Idle) as client:
            await client.send('{"type":"wait"}')
            await Idle.began.wait()
            for _ in range(5):
                clock.jump(61)
                await (await client.ping())
            Idle.release.set()
            assert json.loads(await client.recv()) == {"type": "wait"}
            clock.jump(59)
            assert await say(client, type="ping") == {"type": "ping"}
            clock.jump(61)
            assert await closed(client) == (4408, "idle")

    on_asyncio(main())


def test_who_is_being_streamed_to_is_not_idle(clock: Clock) -> None:
    """The time begins at the stream's end."""

    class Streams(Idle):
        @event
        async def on_stream(self) -> AsyncIterator[dict[str, int]]:
            yield {"n": 1}
            await self.release.wait()

    async def main() -> None:
        Idle.release = asyncio.Event()
        async with client_of(Streams) as client:
            assert await say(client, type="stream", ref=1) == {"type": "stream", "n": 1, "ref": 1}
            for _ in range(3):
                clock.jump(61)
                await (await client.ping())
            Idle.release.set()
            assert json.loads(await client.recv()) == {"type": "complete", "ref": 1}
            clock.jump(59)
            assert await say(client, type="ping") == {"type": "ping"}
            clock.jump(61)
            assert await closed(client) == (4408, "idle")

    on_asyncio(main())


def test_a_subclass_may_take_the_times_away() -> None:
    """None is no bound."""

    class Patient(Idle):
        idle_timeout_s = None

    assert talk(Patient, {"type": "ping"}).answers == [{"type": "ping"}]


@pytest.mark.parametrize("name", ["authenticate_within_s", "idle_timeout_s"])
@pytest.mark.parametrize("value", [0, -1, True, "10", math.nan, math.inf, timedelta(seconds=1)])
def test_what_is_no_time_is_refused_at_import(name: str, value: Any) -> None:
    """With what it is."""
    with pytest.raises(DefinitionError, match=f"{name} is .*a number of seconds above 0, or None"):
        type("Chat", (Endpoint,), {name: value})


@pytest.mark.parametrize("name", ["authenticate_within_s", "idle_timeout_s"])
def test_times_that_are_set_later_are_refused(name: str) -> None:
    """They are read when the class is made."""
    with pytest.raises(DefinitionError, match=name):
        setattr(Idle, name, 5)


def test_a_connection_that_ends_leaves_no_timer() -> None:
    """Which would keep the endpoint for as long as it runs."""
    import gc
    import weakref

    kept: list[Any] = []

    class All(Idle, Expiring, InBand):
        async def on_connect(self) -> None:
            kept.append(weakref.ref(self))
            await super().on_connect()

    async def main() -> None:
        await Peer(All, [{"type": "ping"}]).run()
        gc.disable()
        try:
            assert kept[0]() is None
        finally:
            gc.enable()

    asyncio.run(main())
