"""The life of a connection: who leaves, who closes, who raises, and what on_disconnect is told."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException, WebSocketException
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect, WebSocketState

from socketsundso import EventError, WebSocketHandlingEndpoint, event
from tests.harness import Peer, ask, talk


class Recording(WebSocketHandlingEndpoint):
    """Remembers the codes that on_disconnect was given."""

    codes: list[int]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.codes = []

    async def on_disconnect(self, close_code: int) -> None:
        self.codes.append(close_code)


def test_the_peers_code_reaches_on_disconnect() -> None:
    """on_disconnect gets the code that the peer closed with."""

    class App(Recording):
        pass

    talk(App, code=4321)
    assert App.codes == [4321]


def test_a_reply_to_a_peer_that_left_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """The handler runs to its end, its reply goes nowhere, on_disconnect runs once, nothing is logged."""

    class App(Recording):
        @event
        async def on_slow(self) -> dict[str, int]:
            peer.gone = True
            done.append(1)
            return {"x": 1}

    done: list[int] = []
    peer = Peer(App, [{"type": "slow"}], code=1001)
    asyncio.run(peer.run())
    assert (done, App.codes, peer.answers) == ([1], [1001], [])
    assert not [r for r in caplog.records if r.name == "socketsundso"]


@pytest.mark.parametrize("through", ["endpoint", "websocket"])
def test_a_send_to_a_peer_that_left_ends_the_connection_quietly(through: str, caplog: pytest.LogCaptureFixture) -> None:
    """The send raises WebSocketDisconnect, which ends the connection with the peer's code and no traceback."""

    class App(Recording):
        @event
        async def on_slow(self) -> None:
            peer.gone = True
            if through == "endpoint":
                await self.send({"type": "x"})
            else:
                await self.websocket.send_text("x")
            raise AssertionError("not reached")

    peer = Peer(App, [{"type": "slow"}, {"type": "slow"}], code=4000)
    asyncio.run(peer.run())
    assert App.codes == [4000]
    assert not [r for r in caplog.records if r.name == "socketsundso"]


def test_a_handler_that_closes_and_goes_on() -> None:
    """Close happens once, the return value is dropped, queued frames are not read, the code is the sent one."""

    class App(Recording):
        @event
        async def on_bye(self) -> dict[str, int]:
            await self.close(4001, "enough")
            await self.close(4002)
            return {"x": 1}

    peer = talk(App, {"type": "bye"}, {"type": "bye"})
    assert [m["type"] for m in peer.sent] == ["websocket.accept", "websocket.close"]
    assert (peer.closed, App.codes) == (4001, [4001])


def test_a_send_after_close_is_a_disconnect() -> None:
    """Nothing can be sent once this side has closed; a task that tries learns it by WebSocketDisconnect."""

    class App(Recording):
        @event
        async def on_bye(self) -> None:
            await self.websocket.close(4001)
            with pytest.raises(WebSocketDisconnect):
                await self.send({"type": "late"})
            seen.append(1)

    seen: list[int] = []
    talk(App, {"type": "bye"})
    assert (seen, App.codes) == ([1], [4001])


def test_cancellation_reaches_the_handler_and_is_not_swallowed() -> None:
    """A cancelled connection gets no answer, on_disconnect(1012) still runs, CancelledError goes on."""

    class App(Recording):
        @event
        async def on_wait(self) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("handler")
                raise

        async def on_disconnect(self, close_code: int) -> None:
            await asyncio.sleep(0)
            self.codes.append(close_code)

    seen: list[str] = []
    started = asyncio.Event()

    async def main() -> None:
        peer = Peer(App, [{"type": "wait"}])
        task = asyncio.ensure_future(peer.run())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.answers == []

    asyncio.run(main())
    assert (seen, App.codes) == (["handler"], [1012])


def test_an_error_in_on_disconnect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It does not reach the server."""

    class App(WebSocketHandlingEndpoint):
        async def on_disconnect(self, close_code: int) -> None:
            raise KeyError("farewell")

    talk(App)
    assert "on_disconnect failed" in caplog.text


def test_a_farewell_to_nobody_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A send in on_disconnect finds the peer gone; that is to be expected and not logged."""

    class App(WebSocketHandlingEndpoint):
        async def on_disconnect(self, close_code: int) -> None:
            peer.gone = True
            await self.send({"type": "farewell"})

    peer = Peer(App)
    asyncio.run(peer.run())
    assert not [r for r in caplog.records if r.name == "socketsundso"]


def test_an_error_in_on_connect_before_accept_is_http_500(caplog: pytest.LogCaptureFixture) -> None:
    """The handshake is answered 500 and on_disconnect does not run."""

    class App(Recording):
        async def on_connect(self) -> None:
            raise KeyError("database")

    peer = talk(App)
    assert peer.sent[0]["type"] == "websocket.http.response.start"
    assert peer.sent[0]["status"] == 500
    assert App.codes == []
    assert "on_connect failed" in caplog.text


def test_an_error_in_on_connect_without_denial_response_is_the_servers() -> None:
    """A server without that extension gets the exception itself, which it answers with 500."""

    class App(Recording):
        async def on_connect(self) -> None:
            raise KeyError("database")

    with pytest.raises(KeyError):
        talk(App, extensions={})
    assert App.codes == []


def test_an_error_in_on_connect_after_accept_closes_1011(caplog: pytest.LogCaptureFixture) -> None:
    """The connection was accepted, so on_disconnect runs, with 1011."""

    class App(Recording):
        async def on_connect(self) -> None:
            await self.websocket.accept()
            raise KeyError("database")

    peer = talk(App)
    assert (peer.closed, App.codes) == (1011, [1011])


@pytest.mark.parametrize(
    ("exc", "first"),
    [
        (HTTPException(401, "who are you"), {"type": "websocket.http.response.start", "status": 401}),
        (WebSocketException(4401, "who"), {"type": "websocket.close", "code": 4401}),
    ],
)
def test_on_connect_refuses_by_raising(exc: Exception, first: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Starlette's exceptions before accept refuse the handshake, and are not logged as failures."""

    class App(Recording):
        async def on_connect(self) -> None:
            raise exc

    peer = talk(App)
    assert peer.sent[0] | first == peer.sent[0]
    assert App.codes == []
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


def test_http_exception_without_denial_response_closes() -> None:
    """On a server without that extension the handshake is refused by a close."""

    class App(Recording):
        async def on_connect(self) -> None:
            raise HTTPException(401)

    assert talk(App, extensions={}).closed == 4401


def test_an_on_connect_that_forgets_to_accept_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """Returning early must not let an unauthorised peer in; the log names the remedy."""

    class App(Recording):
        async def on_connect(self) -> None:
            return

    peer = talk(App)
    assert (peer.closed, App.codes) == (1011, [])
    assert "neither accepted nor closed" in caplog.text


def test_a_close_in_on_connect_after_accept_is_told() -> None:
    """The loop is not entered; on_disconnect gets the code."""

    class App(Recording):
        async def on_connect(self) -> None:
            await self.websocket.accept()
            await self.websocket.close(4003)

    peer = talk(App, {"type": "x"})
    assert (peer.answers, App.codes) == ([], [4003])


def test_a_connection_accepted_before_is_not_accepted_twice() -> None:
    """A FastAPI dependency or a middleware may have accepted already."""

    class App(Recording):
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        from starlette.websockets import WebSocket

        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        await App(websocket)

    peer = talk(app)
    assert [m["type"] for m in peer.sent] == ["websocket.accept"]
    assert App.codes == [1000]


def test_a_disconnect_while_connecting_is_quiet() -> None:
    """The peer leaves before accept: no traceback, no on_disconnect."""

    class App(Recording):
        async def on_connect(self) -> None:
            peer.gone = True
            await self.websocket.accept()

    peer = Peer(App)
    asyncio.run(peer.run())
    assert App.codes == []


def test_an_application_may_raise_disconnect_itself() -> None:
    """WebSocketDisconnect from user code ends the connection, closing it towards a peer that is still there."""

    class App(Recording):
        @event
        async def on_leave(self) -> None:
            raise WebSocketDisconnect(1000)

    peer = talk(App, {"type": "leave"}, code=None)
    assert (peer.closed, App.codes) == (1000, [1000])


def test_a_handler_may_receive_by_itself() -> None:
    """A disconnect that a handler's own receive meets ends the connection with its code."""

    class App(Recording):
        @event
        async def on_raw(self) -> None:
            await self.websocket.receive_text()

    talk(App, {"type": "raw"}, code=4005)
    assert App.codes == [4005]


def test_a_websocket_exception_in_a_handler_closes() -> None:
    """Starlette's WebSocketException(code, reason) keeps its meaning."""

    class App(Recording):
        @event
        async def on_x(self) -> None:
            raise WebSocketException(4009, "conflict")

    peer = talk(App, {"type": "x"})
    assert (peer.closed, App.codes) == (4009, [4009])


def test_background_tasks_send_whole_messages_in_order() -> None:
    """A task started by a handler may send; `respond` in it still answers that handler's message."""

    class App(Recording):
        @event
        async def on_start(self) -> None:
            task = asyncio.ensure_future(self.later())
            tasks.append(task)
            await asyncio.sleep(0)

        async def later(self) -> None:
            for n in range(3):
                await self.send({"type": "tick", "n": n})
            await self.respond({"done": True})

        @event
        async def on_other(self) -> None:
            await tasks[0]

    tasks: list[Any] = []
    peer = talk(App, {"type": "start", "ref": 7}, {"type": "other", "ref": 8})
    assert peer.answers == [
        *({"type": "tick", "n": n} for n in range(3)),
        {"type": "start", "done": True, "ref": 7},
    ]


def test_respond_outside_of_a_handler_is_a_push() -> None:
    """In on_connect there is no message to answer: the value needs a type of its own."""

    class App(Recording):
        async def on_connect(self) -> None:
            await super().on_connect()
            await self.respond({"type": "hello"})
            with pytest.raises(TypeError, match="type"):
                await self.respond({"no": "type"})

    assert talk(App).answers == [{"type": "hello"}]


def test_sync_handlers_run_in_a_thread_with_the_context() -> None:
    """One at a time, in the order of the frames, seeing the caller's context variables."""

    class App(Recording):
        async def on_connect(self) -> None:
            await super().on_connect()
            variable.set("set in on_connect")

        @event
        def on_work(self, n: int) -> dict[str, Any]:
            return {"n": n, "main": threading.current_thread() is threading.main_thread(), "seen": variable.get()}

        @event(thread=False)
        def on_quick(self) -> dict[str, bool]:
            return {"main": threading.current_thread() is threading.main_thread()}

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    peer = talk(App, {"type": "work", "n": 1}, {"type": "work", "n": 2}, {"type": "quick"})
    assert peer.answers == [
        {"type": "work", "n": 1, "main": False, "seen": "set in on_connect"},
        {"type": "work", "n": 2, "main": False, "seen": "set in on_connect"},
        {"type": "quick", "main": True},
    ]


def test_messages_are_pulled_one_at_a_time() -> None:
    """The next message is taken only when the handler before it is done."""

    class App(Recording):
        @event
        async def on_x(self) -> None:
            log.append("start")
            await asyncio.sleep(0)
            log.append("end")

    log: list[str] = []
    peer = Peer(App, [{"type": "x"}, {"type": "x"}])
    peer.before_receive = lambda: log.append("receive")
    asyncio.run(peer.run())
    assert log == ["receive", "receive", "start", "end", "receive", "start", "end", "receive"]


def test_endpoints_are_freed_without_the_collector() -> None:
    """A hundred connections later no instance is left, and no cycle needed collecting."""

    class App(Recording):
        @event
        async def on_x(self) -> dict[str, int]:
            alive.append(weakref.ref(self))
            return {"handlers": len(self.handlers)}

        @event
        async def on_bad(self) -> None:
            raise EventError("bad")

    alive: list[weakref.ref[Any]] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            talk(App, {"type": "x"}, {"type": "bad"}, {"type": "x", "y": 1}, "nonsense")
        left = [ref for ref in alive if ref() is not None]
    finally:
        gc.enable()
    gc.collect()
    assert len(alive) == 100
    assert [ref for ref in alive if ref() is not None] == []
    assert len(left) <= 1  # the last exception of the loop may still be referenced


def test_mounted_as_a_starlette_route() -> None:
    """`WebSocketRoute("/ws", Chat)` serves the class, and its websocket has the route's parameters."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_where(self) -> dict[str, Any]:
            connected = self.websocket.client_state is WebSocketState.CONNECTED
            return {"room": self.websocket.path_params["room"], "connected": connected}

    app = Starlette(routes=[WebSocketRoute("/ws/{room}", App)])
    peer = talk(app, {"type": "where"}, path="/ws/lobby", root_path="")
    assert peer.answers == [{"type": "where", "room": "lobby", "connected": True}]


def test_a_bare_class_answers_http_and_lifespan() -> None:
    """As an application of its own it tells HTTP clients to upgrade, and starts and stops."""

    class App(WebSocketHandlingEndpoint):
        pass

    sent: list[dict[str, Any]] = []
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return next(events)

    async def main() -> None:
        await App({"type": "lifespan"}, receive, send)
        await App({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)

    asyncio.run(main())
    assert [m["type"] for m in sent[:2]] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert sent[2]["status"] == 426


def test_self_handlers_may_be_changed_for_one_connection() -> None:
    """Assigning and deleting give that instance a decoder of its own; the class is untouched."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_teach(self) -> None:
            self.handlers["learnt"] = self.handlers["a"]
            del self.handlers["b"]

        @event
        async def on_a(self, x: int) -> dict[str, int]:
            return {"x": x}

        @event
        async def on_b(self) -> dict[str, int]:
            return {}

    answers = talk(App, {"type": "teach"}, {"type": "learnt", "x": 1}, {"type": "b"}).answers
    assert answers[0] == {"type": "learnt", "x": 1}
    assert answers[1]["code"] == "unknown_event"
    assert ask(App, {"type": "b"}) == {"type": "b"}
    assert sorted(App.handlers) == ["a", "b", "teach"]


def test_a_change_of_self_handlers_keeps_the_one_before() -> None:
    """A handler that replaced one of the class's answers still, when another event gets a new handler."""

    class App(WebSocketHandlingEndpoint):
        @event
        async def on_teach(self) -> None:
            self.handlers["a"] = self.handlers["b"]
            self.handlers["c"] = self.handlers["b"]

        @event
        async def on_a(self) -> dict[str, str]:
            return {"by": "a"}

        @event
        async def on_b(self) -> dict[str, str]:
            return {"by": "b"}

    answers = talk(App, {"type": "teach"}, {"type": "a"}, {"type": "c"}).answers
    assert answers == [{"type": "a", "by": "b"}, {"type": "c", "by": "b"}]
    assert ask(App, {"type": "a"}) == {"type": "a", "by": "a"}


def test_an_error_for_a_peer_that_left_is_dropped() -> None:
    """A handler fails after the peer has gone: logged, not sent, and the peer's code still arrives."""

    class App(Recording):
        @event
        async def on_x(self) -> None:
            peer.gone = True
            raise EventError("no")

    peer = Peer(App, [{"type": "x"}, {"type": "x"}], code=4000)
    asyncio.run(peer.run())
    assert (peer.answers, App.codes) == ([], [4000])


def test_a_send_after_a_failed_one_is_a_disconnect() -> None:
    """Once a send has found the peer gone, the next ones do not try."""

    class App(Recording):
        @event
        async def on_x(self) -> None:
            peer.gone = True
            for _ in range(2):
                with pytest.raises(WebSocketDisconnect):
                    await self.send({"type": "x"})
            seen.append(1)

    seen: list[int] = []
    peer = Peer(App, [{"type": "x"}], code=4000)
    asyncio.run(peer.run())
    assert (seen, App.codes) == ([1], [4000])


def test_on_connect_that_fails_for_a_peer_that_left(caplog: pytest.LogCaptureFixture) -> None:
    """There is nobody to refuse."""

    class App(Recording):
        async def on_connect(self) -> None:
            await self.websocket.close(4000)
            raise KeyError("x")

    peer = talk(App)
    assert [m["type"] for m in peer.sent] == ["websocket.close"]


def test_on_connect_may_raise_disconnect() -> None:
    """WebSocketDisconnect in on_connect after accept is no error: the connection ends with 1000 towards the peer."""

    class App(WebSocketHandlingEndpoint):
        async def on_connect(self) -> None:
            await self.websocket.accept()
            raise WebSocketDisconnect(1000)

    peer = talk(App)
    assert peer.closed in (1000, None)
    assert not peer.answers


def test_send_exception_may_end_the_connection() -> None:
    """A `send_exception` that raises WebSocketDisconnect closes the connection with its code."""

    class App(Recording):
        async def send_exception(self, exc: Exception) -> None:
            raise WebSocketDisconnect(4001)

        @event
        async def on_x(self) -> None:
            raise EventError("no")

    peer = talk(App, {"type": "x"})
    assert peer.closed == 4001
    assert App.codes == [4001]


def test_a_handler_that_closes_and_raises_disconnect() -> None:
    """The code of the close counts, not that of the exception behind it."""

    class App(Recording):
        @event
        async def on_x(self) -> None:
            await self.close(4002)
            raise WebSocketDisconnect(1000)

    peer = talk(App, {"type": "x"})
    assert peer.closed == 4002
    assert App.codes == [4002]
