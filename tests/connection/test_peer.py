"""What is known of the other side: subprotocols, closes that the server cannot send, and tasks that outlive it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocketDisconnect

from socketsundso import DefinitionError, Endpoint, event
from socketsundso.connection import peer as peers
from tests.harness import Peer, talk


class Versions(Endpoint):
    subprotocols = ("chat.v2", "chat.v1")

    @event
    async def on_which(self) -> Any:
        return {"which": self.subprotocol}


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        ([""], None),  # what Litestar's test client and an empty header make of no offer
        (["chat.v1"], "chat.v1"),
        (["chat.v1", "chat.v2"], "chat.v2"),
        (["other", "chat.v1"], "chat.v1"),
    ],
)
@pytest.mark.parametrize("by_hand", [False, True], ids=["default", "own on_connect"])
def test_the_first_of_the_classes_that_the_client_offers(offered: list[str], chosen: str | None, by_hand: bool) -> None:
    """It is accepted, and stands in `self.subprotocol`; also where on_connect accepts by itself."""

    class ByHand(Versions):
        async def on_connect(self) -> None:
            await self.websocket.accept()

    peer = talk(ByHand if by_hand else Versions, {"type": "which"}, subprotocols=offered)
    assert peer.sent[0]["subprotocol"] == chosen
    assert peer.answers == [{"type": "which", "which": chosen}]


def test_an_offer_that_none_fits_is_refused() -> None:
    """400 before on_connect, which would let it in."""

    class Never(Versions):
        async def on_connect(self) -> None:
            raise AssertionError("not called")

    assert talk(Never, subprotocols=["chat.v3"]).sent[0]["status"] == 400


def test_a_name_that_was_not_offered_is_never_answered(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asks for it: a browser would fail the connection. It is logged."""

    class Pushy(Endpoint):
        async def on_connect(self) -> None:
            await self.websocket.accept("chat.v9")

        @event
        async def on_which(self) -> Any:
            return {"which": self.subprotocol}

    peer = talk(Pushy, {"type": "which"}, subprotocols=["chat.v1"])
    assert peer.sent[0]["subprotocol"] is None
    assert peer.answers == [{"type": "which", "which": None}]
    assert "was not offered" in caplog.text


def test_another_one_that_was_offered_may_be_accepted() -> None:
    """on_connect has the last word."""

    class Choosy(Versions):
        async def on_connect(self) -> None:
            await self.websocket.accept("chat.v1")

        @event
        async def on_which(self) -> Any:
            return {"which": self.subprotocol}

    peer = talk(Choosy, {"type": "which"}, subprotocols=["chat.v2", "chat.v1"])
    assert peer.sent[0]["subprotocol"] == "chat.v1"
    assert peer.answers == [{"type": "which", "which": "chat.v1"}]


def test_an_offer_to_a_class_that_declares_none_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not for every client that comes back again and again."""

    class Silent(Endpoint): ...

    for _ in range(3):
        assert talk(Silent, subprotocols=["a"]).sent[0]["subprotocol"] is None
    assert caplog.text.count("offers the subprotocols ['a']") == 1


@pytest.mark.parametrize("wrong", ["chat.v1", ("a b",), ("",), ("a,b",), (1,), ("a", "a"), ("ü",)])
def test_subprotocols_that_cannot_be(wrong: Any) -> None:
    """A text in place of a sequence, no tokens of HTTP, one twice: said at import."""
    with pytest.raises(DefinitionError, match=r"Wrong\.subprotocols"):
        type("Wrong", (Endpoint,), {"subprotocols": wrong})


class Choosy(Peer):
    """A server that sends only some codes, as daphne does."""

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close" and not (message["code"] == 1000 or 3000 <= message["code"] <= 4999):
            raise Exception(f"invalid close code {message['code']}")
        await super().send(message)


@pytest.mark.parametrize(
    ("frames", "code"),
    [(["{"], 4400), ([b'{"type":"\xff"}'], 4400), ([{"type": "bye", "code": 1012}], 4503),
     ([{"type": "bye", "code": 1013}], 4429), ([{"type": "bye", "code": 1011}], 4500),
     ([{"type": "bye", "code": 1000}], 1000), ([{"type": "bye", "code": 4001}], 4001)],
)  # fmt: skip
def test_a_code_that_the_server_cannot_send(frames: list[Any], code: int, caplog: pytest.LogCaptureFixture) -> None:
    """It closes with one that it can, and without a traceback; on_disconnect gets the one that was meant."""
    codes: list[int] = []

    class App(Endpoint):
        @event
        async def on_bye(self, code: int) -> None:
            await self.close(code, "x" * 200)

        async def on_disconnect(self, close_code: int) -> None:
            codes.append(close_code)

    peer = Choosy(App, frames)
    asyncio.run(peer.run())
    assert peer.closed == code
    assert len(codes) == 1
    assert not [record for record in caplog.records if record.exc_info]


class Unable(Peer):
    """A server that fails to send any close."""

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            raise RuntimeError("out of order")
        await super().send(message)


def test_a_close_that_fails_with_a_code_that_all_servers_send_is_told() -> None:
    """There is nothing that could be sent in its place: the handler gets what the server raised."""
    told: list[str] = []

    class App(Endpoint):
        @event
        async def on_bye(self) -> None:
            try:
                await self.close(4001)
            except RuntimeError as exc:
                told.append(str(exc))

    asyncio.run(Unable(App, [{"type": "bye"}]).run())
    assert told == ["out of order"]


def test_a_peer_whose_end_no_server_tells_has_gone_with_1006(monkeypatch: pytest.MonkeyPatch) -> None:
    """A send fails, and no disconnect follows for as long as is waited for its code."""
    monkeypatch.setattr(peers, "CODE_S", 0.01)
    codes: list[int] = []

    class App(Endpoint):
        @event
        async def on_go(self) -> None:
            peer.gone = True
            await self.send({"type": "x"})

        async def on_disconnect(self, close_code: int) -> None:
            codes.append(close_code)

    peer = Peer(App, [{"type": "go"}, {"type": "go"}], code=None)
    asyncio.run(peer.run())
    assert codes == [1006]


@pytest.mark.parametrize("what", ["join", "identify", "track", "send", "respond"])
@pytest.mark.parametrize("end", ["peer leaves", "closed", "cancelled"])
def test_a_task_that_goes_on_after_the_end_gets_the_quiet_disconnect(what: str, end: str) -> None:
    """Nothing of the connection is kept: no member in a room, and the endpoint is freed without the collector."""
    raised: list[BaseException] = []
    kept: list[weakref.ref[Endpoint]] = []

    class App(Endpoint):
        presence_events = True

        @event
        async def on_go(self) -> None:
            kept.append(weakref.ref(self))
            await self.join("lobby")
            started.append(asyncio.create_task(self.late()))
            if end == "closed":
                await self.close()

        async def late(self) -> None:
            await over.wait()
            try:
                match what:
                    case "join":
                        await self.join("other")
                    case "identify":
                        await self.identify("ada")
                    case "track":
                        await self.track({}, room="lobby")
                    case "send":
                        await self.send({"type": "x"})
                    case "respond":
                        await self.respond({})
            except WebSocketDisconnect as exc:
                raised.append(exc.with_traceback(None))

    async def main() -> None:
        peer = Peer(App, [{"type": "go"}], code=None if end == "cancelled" else 1000)
        running = asyncio.create_task(peer.run())
        if end == "cancelled":
            while not started:
                await asyncio.sleep(0)
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        peer.app = None
        over.set()
        await started.pop()
        assert not App.hub._rooms or not App.hub._rooms.topics

    started: list[asyncio.Task[None]] = []
    over = asyncio.Event()
    gc.disable()
    try:
        asyncio.run(main())
        assert [type(exc) for exc in raised] == [WebSocketDisconnect]
        assert kept[0]() is None
    finally:
        gc.enable()


def test_a_farewell_can_still_be_broadcast_but_nobody_joins() -> None:
    """In on_disconnect the rooms are filled; a join there is the quiet disconnect, and nothing is logged."""
    seen: list[Any] = []

    class App(Endpoint):
        @event
        async def on_go(self) -> None:
            await self.join("lobby")

        async def on_disconnect(self, close_code: int) -> None:
            await self.broadcast({"type": "bye"}, room="lobby")
            seen.append(self.rooms)
            await self.join("other")
            seen.append("not reached")

    talk(App, {"type": "go"})
    assert seen == [{"lobby"}]


NO_CODES: list[Any] = [0, -1, 404, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65536, "4000", "abc", 4000.5, True]


@pytest.mark.parametrize("code", NO_CODES)
@pytest.mark.parametrize("how", ["self.close", "websocket.close", "raise", "on_connect"])
def test_what_is_no_close_code_closes_1011(code: Any, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """RFC 6455, 7.4: it never reaches the server, on_disconnect gets what was sent, and the mistake is logged."""
    seen: list[int] = []

    class Wrong(Endpoint):
        async def on_connect(self) -> None:
            await super().on_connect()
            if how == "on_connect":
                raise WebSocketException(code, "so")

        async def on_disconnect(self, close_code: int) -> None:
            seen.append(close_code)

        @event
        async def on_go(self) -> None:
            if how == "self.close":
                await self.close(code, "so")
            elif how == "websocket.close":
                await self.websocket.close(code, "so")
            else:
                raise WebSocketException(code, "so")

    peer = talk(Wrong, *([] if how == "on_connect" else [{"type": "go"}]))
    closed = [m for m in peer.sent if m["type"] == "websocket.close"]
    assert closed == [{"type": "websocket.close", "code": 1011, "reason": "so"}]
    assert seen == [1011]
    assert f"it cannot be closed with {code!r}" in caplog.text


def test_no_close_code_at_all_is_1000(caplog: pytest.LogCaptureFixture) -> None:
    """None is ASGI's word for the default."""

    class Silent(Endpoint):
        @event
        async def on_go(self) -> None:
            await self.websocket.send({"type": "websocket.close", "code": None})

    assert talk(Silent, {"type": "go"}).sent[-1]["code"] == 1000
    assert not caplog.records
