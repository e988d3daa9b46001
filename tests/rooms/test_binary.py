"""Bytes to rooms, users and everyone: who gets them, in which order, and what becomes of them where a peer is slow."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
from typing import Any

import pytest

from socketsundso import Conflate, Endpoint, Hub, Keep, SyncHub, event
from socketsundso.connection import BinaryOutgoing, Connection, OutboundQueue, Outgoing, new_id
from socketsundso.rooms.local import Rooms
from socketsundso.rooms.room import Header, Participant, room_topic, seal, unseal
from socketsundso.testing import broadcasts
from socketsundso.wire import BinaryPayload

from ..backplanes.listener import until
from .peer import processes
from .serving import WAIT_S, Client, run, serving


class Relay(Endpoint):
    history = {"doc": Keep(messages=100)}

    @event
    async def on_enter(self, room: str, user: str = "somebody") -> dict[str, Any]:
        await self.join(room)
        await self.identify(user)
        return {"type": "entered"}

    @event
    async def on_speak(self, room: str, count: int, exclude_self: bool = False) -> dict[str, Any]:
        for number in range(count):
            await self.broadcast({"type": "n", "n": number}, room=room, exclude_self=exclude_self)
            await self.broadcast(b"%d" % number, room=room, exclude_self=exclude_self)
        return {"type": "spoken"}


async def received(client: Client) -> Any:
    """A message, or the bytes of a binary frame."""
    async with asyncio.timeout(WAIT_S):
        frame = await client.connection.recv()
    return frame if isinstance(frame, bytes) else json.loads(frame)


async def receives(client: Client, count: int) -> list[Any]:
    return [await received(client) for _ in range(count)]


def spoken(count: int) -> list[Any]:
    return [each for n in range(count) for each in ({"type": "n", "n": n}, b"%d" % n)]


@pytest.mark.usefixtures("everywhere")
def test_bytes_reach_all_in_the_order_of_the_broadcasts() -> None:
    """Among messages, on each engine and server, the speaker included or left out."""

    async def main() -> None:
        async with serving(Relay) as client:
            one, other = await client(), await client()
            for each in (one, other):
                await each.call("enter", room="r")
            await one.send("speak", room="r", count=20)
            assert await receives(other, 40) == spoken(20)
            assert await receives(one, 41) == [*spoken(20), {"type": "spoken"}]
            assert (await one.call("speak", room="r", count=1, exclude_self=True))["type"] == "spoken"
            assert await receives(other, 2) == spoken(1)

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_hubs_send_bytes_to_rooms_users_and_everyone() -> None:
    """One by one and many at once, from a thread, too; an empty frame is a message."""

    async def main() -> None:
        async with serving(Relay) as client:
            ada = await client()
            await ada.call("enter", room="r", user="ada")
            hub = Relay.hub
            await hub.to("r").send(b"room")
            await hub.to_user("ada").send(bytearray(b"user"))
            await hub.everyone.send(memoryview(b"everyone"))
            await hub.to("r").send(b"")
            await hub.to("r").send_many([b"1", {"type": "two"}, {"type": "three"}, b"4", b"5"])
            assert await receives(ada, 4) == [b"room", b"user", b"everyone", b""]
            assert await receives(ada, 5) == [b"1", {"type": "two"}, {"type": "three"}, b"4", b"5"]
            async with Hub() as plain:
                await plain.to("r").send(b"plain")
            with SyncHub() as sync:
                await asyncio.to_thread(sync.to("r").send, b"thread")
            assert await receives(ada, 2) == [b"plain", b"thread"]

    run(main)


@pytest.mark.usefixtures("backplane")
def test_bytes_are_no_list_of_messages() -> None:
    """`send_many` takes a list, and a question is no bytes."""

    async def main() -> None:
        hub = Hub()
        for data in (b"ab", bytearray(b"ab"), memoryview(b"ab")):
            with pytest.raises(TypeError, match="takes a list of messages"):
                await hub.to("r").send_many(data)  # type: ignore[arg-type]  # that is the mistake
        with pytest.raises(Exception, match="bytes is no message"):
            await hub.to("r").call(b"sure?")

    run(main)


@pytest.mark.usefixtures("everywhere")
def test_a_room_with_history_keeps_no_bytes_and_gives_them_no_number() -> None:
    """Who is there gets them; they are in no replay, and the numbers of the messages have no hole."""

    async def main() -> None:
        async with serving(Relay) as client:
            ada = await client()
            position, _ = await ada.call_all("enter", room="doc")
            await ada.send("speak", room="doc", count=3)
            came = await receives(ada, 7)
            first = position["seq"] + 1
            numbered = [{"type": "n", "n": n, "room": "doc", "seq": first + n} for n in range(3)]
            assert [each for each in came if isinstance(each, dict)][:3] == numbered
            assert [each for each in came if isinstance(each, bytes)] == [b"0", b"1", b"2"]
            assert await Relay.hub.history("doc", limit=3) == numbered
            back = await client()
            wanted = {"doc": {"seq": position["seq"], "epoch": position["epoch"]}}
            await back.send("resume", rooms=wanted)
            assert (await received(back))["rooms"]["doc"]["recovered"] is True
            assert await receives(back, 3) == numbered

    run(main)


def test_bytes_cross_processes(between_processes: str) -> None:
    """In order with messages, once also for who is in several of the rooms."""

    async def main() -> None:
        async with processes(between_processes) as (here, there):
            got: list[Any] = []
            who = _participant(got)
            await there.join(who, room_topic("a"))
            await there.join(who, room_topic("b"))
            for number in range(10):
                await here.broadcast([room_topic("a"), room_topic("b")], BinaryPayload(b"\xff%d" % number))
                await here.broadcast([room_topic("a")], b'{"type":"m"}')
            await until(lambda: len(got) == 20)
            assert got == [each for n in range(10) for each in (b"\xff%d" % n, '{"type":"m"}')]
            there.leave_all(who)

    run(main)


def _participant(got: list[Any]) -> Participant:
    async def send(message: Any) -> None:
        got.append(message.get("text") or message["bytes"])

    return Participant(new_id(), Connection(send, OutboundQueue(1 << 20, "close"), lambda: None), wants_presence=False)


def test_a_process_leaves_out_what_a_later_release_sends(
    between_processes: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As one of a release before binary messages does with these: it says so once, and goes on with the others."""

    async def main() -> None:
        async with processes(between_processes) as (later, earlier):
            got: list[Any] = []
            who = _participant(got)
            await earlier.join(who, room_topic("r"))
            await later.open()
            for _ in range(3):
                later.backplane.publish(("rr",), seal(Header("holographic", later.origin), b"\xff\x00"))
            await later.broadcast([room_topic("r")], b'{"type":"m"}')
            await until(lambda: got)
            assert got == ['{"type":"m"}']
            earlier.leave_all(who)

    with caplog.at_level(logging.WARNING):
        run(main)
    assert caplog.text.count("a payload of kind 'holographic'") == 1


def test_bytes_are_of_a_kind_of_their_own(backplane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no earlier release takes them for a message."""
    published: list[Any] = []

    async def main() -> None:
        rooms = Rooms(backplane)
        monkeypatch.setattr(rooms.backplane, "publish", lambda topics, sealed: published.append(unseal(sealed)))
        await rooms.broadcast([room_topic("r")], BinaryPayload(b"\xff"))
        await rooms.broadcast([room_topic("r")], b'{"type":"m"}')
        await rooms.aclose()

    run(main)
    assert [(header.kind, payload) for header, payload in published] == [
        ("binary", b"\xff"),
        ("message", b'{"type":"m"}'),
    ]


def test_what_is_broadcast_in_bytes_is_seen_in_tests() -> None:
    """Beside messages."""

    async def main() -> None:
        with broadcasts() as sent:
            async with Hub("memory://seen") as hub:
                await hub.to("r").send(b"pcm")
                await hub.to("r").send_many([{"type": "m"}, b"more"])
        assert [each.message for each in sent] == [b"pcm", {"type": "m"}, b"more"]
        assert sent.take(bytes, room="r") == b"pcm"
        assert sent.take("m") == {"type": "m"}
        with pytest.raises(AssertionError, match="no broadcast of binary frame to room 'x'"):
            sent.take(bytes, room="x")

    run(main)


# ---- slow readers


def test_policies_count_the_bytes_and_conflate_asks_about_them() -> None:
    """A key function gets the `bytes` of a binary message, the fields of others."""

    def newest_frame(message: Any) -> object:
        return "frame" if isinstance(message, bytes) else message.key

    queue = OutboundQueue(1 << 20, Conflate(newest_frame))
    for out in (BinaryOutgoing(b"1"), Outgoing(b'{"key":"k"}'), BinaryOutgoing(b""), BinaryOutgoing(b"22")):
        queue.put(out, 0.0)
    queue.judge(0.0)
    assert [place.out.payload for place in queue.waiting] == [b'{"key":"k"}', b"22"]
    assert queue.bytes == 13
    assert queue.counters.dropped == 2


@pytest.mark.parametrize("on_slow", ["close", "drop_oldest", "drop_newest"])
@pytest.mark.usefixtures("backplane", "both_protocols")
def test_a_reader_that_is_slow_is_treated_as_declared(on_slow: Any) -> None:
    """Closed, or told of a gap; a binary message is one like others."""

    class Video(Relay):
        max_outbound_bytes = 200_000
        notify_gaps = True

        @event
        async def on_show(self, frames: int) -> dict[str, Any]:
            for number in range(frames):
                await self.broadcast(number.to_bytes(4) + bytes(40_000), room="r", exclude_self=True)
            return {"type": "shown"}

    video = type("Video", (Video,), {"on_slow": on_slow})

    async def main() -> None:
        async with serving(video) as client:
            reader, writer = await client(max_queue=1), await client()
            await reader.call("enter", room="r")
            reader.stop_reading()
            frames = 0
            while not video.hub.status.dropped:
                await writer.call("show", frames=50)
                frames += 50
                assert frames <= 2000
            reader.read_again()
            if on_slow == "close":
                assert await reader.closed() == 1013
                return
            await writer.call("show", frames=1)
            numbers, missing = 0, 0
            while numbers + missing < frames + 1:
                came = await received(reader)
                if isinstance(came, bytes):
                    assert len(came) == 40_004
                    numbers += 1
                else:
                    assert came["type"] == "gap"
                    missing += came["dropped"]
            assert missing == video.hub.status.dropped > 0

    run(main)


@pytest.mark.usefixtures("backplane")
def test_what_waits_too_long_is_not_sent() -> None:
    """`ttl_s` of a broadcast, or of the class."""
    queue = OutboundQueue(1 << 20, "close", ttl_s=1.0)
    queue.put(BinaryOutgoing(b"old"), 0.0)
    queue.put(BinaryOutgoing(b"new", None, 5.0), 0.0)
    place = queue.take(2.0)
    assert place is not None
    assert place.out.payload == b"new"


@pytest.mark.usefixtures("backplane")
def test_bytes_of_threads_do_not_change_once_they_are_sent() -> None:
    """A buffer may be filled anew as soon as the call is back."""
    numbers = itertools.count()

    class Camera(Relay):
        @event
        def on_shoot(self) -> None:
            assert threading.current_thread() is not threading.main_thread()
            buffer = bytearray(4)
            for _ in range(50):
                buffer[:] = next(numbers).to_bytes(4)
                self.sync.broadcast(buffer, room="r")

    async def main() -> None:
        async with serving(Camera) as client:
            viewer = await client()
            await viewer.call("enter", room="r")
            await viewer.send("shoot")
            assert await receives(viewer, 50) == [n.to_bytes(4) for n in range(50)]

    run(main)


def test_rooms_give_each_process_one_binary_payload(backplane: str) -> None:
    """Made once, whatever the number of members: they get the same object."""

    async def main() -> None:
        rooms = Rooms(backplane)
        got: list[Any] = []
        members = [_participant(got) for _ in range(5)]
        for who in members:
            await rooms.join(who, room_topic("r"))
        payload = BinaryPayload(b"pcm")
        await rooms.broadcast([room_topic("r")], payload)
        await until(lambda: len(got) == 5)
        assert all(each is payload for each in got)
        for who in members:
            rooms.leave_all(who)
        await rooms.aclose()

    run(main)
