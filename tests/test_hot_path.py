"""
The regression guard: what one message costs in bytecode instructions and calls, counted, not timed.

The counts are the same on every machine and under any load, so a hot path that grows by a tenth cannot land unseen.
The bounds are per minor version of Python. After a change that is meant:

    python -m tests.test_hot_path

counts again and writes `hot_path_bounds.json`; the difference belongs into the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import types
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import msgspec
import pytest
import uvicorn
import uvloop
from pydantic import BaseModel
from uvicorn.server import ServerState

from socketsundso import ArrayEnvelope, Depends, Envelope, JsonRpc, WebSocketHandlingEndpoint, event
from socketsundso.server import WebSocketProtocol, outbox

BOUNDS = Path(__file__).with_name("hot_path_bounds.json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ROOM = 1.08  # a tenth more must fail; a patch release of Python or of a library may shift a little
HERE = __file__
TURNS = 1000  # of the event loop, after which nothing more is waited for


class Message(BaseModel):
    room: str
    msg: str
    sender: int | None = None


class Whole(BaseModel):
    type: Literal["whole"]
    room: str
    msg: str
    sender: int | None = None


class WholeStruct(msgspec.Struct, tag_field="type", tag="whole_struct"):
    room: str
    msg: str
    sender: int | None = None


class Fast(msgspec.Struct, tag_field="type", tag="struct"):
    room: str
    msg: str
    sender: int | None = None


async def settings() -> str:
    return "settings"


async def session(settings: Annotated[str, Depends(settings)]) -> AsyncIterator[str]:
    yield settings


async def user(session: Annotated[str, Depends(session)], settings: Annotated[str, Depends(settings)]) -> str:
    return session


@types.coroutine
def a_turn() -> Iterator[None]:
    """Wait for the event loop's next turn, as `asyncio.sleep(0)` does, which would be counted."""
    yield


class Chat(WebSocketHandlingEndpoint):
    @event
    async def on_model(self, room: str, msg: str, sender: int | None = None) -> Message:
        return Message(room=room, msg=msg, sender=sender)

    @event
    async def on_struct(self, room: str, msg: str, sender: int | None = None) -> Fast:
        return Fast(room, msg, sender)

    @event
    async def on_dict(self, room: str, msg: str, sender: int | None = None) -> Any:
        return {"room": room, "msg": msg, "sender": sender}

    @event
    async def on_silent(self, room: str, msg: str, sender: int | None = None) -> None: ...

    @event
    async def on_waits(self, room: str, msg: str, sender: int | None = None) -> Fast:
        await a_turn()
        return Fast(room, msg, sender)

    @event
    async def on_takes_model(self, message: Message) -> None: ...

    @event
    async def on_whole(self, message: Whole) -> None: ...

    @event
    async def on_whole_struct(self, message: WholeStruct) -> None: ...

    @event
    async def on_depends(
        self, room: str, msg: str, settings: Annotated[str, Depends(settings)], sender: int | None = None
    ) -> None: ...

    @event
    async def on_depends_on_three(
        self, room: str, msg: str, user: Annotated[str, Depends(user)], sender: int | None = None
    ) -> None: ...


class Conversing(Chat):
    """The same with the loop of those that converse, which a stream asks for."""

    @event
    async def on_items(self, count: int) -> AsyncIterator[Fast]:
        for number in range(count):
            yield Fast("lobby", "hello world", number)


class Flat(WebSocketHandlingEndpoint):
    """One event, in the envelope of each subclass."""

    @event
    async def on_model(self, room: str, msg: str, sender: int | None = None) -> Message:
        return Message(room=room, msg=msg, sender=sender)


class Renamed(Flat):
    envelope = Envelope(type="action", ref="requestId")


class Nested(Flat):
    envelope = Envelope(type="event", data="payload")


class Arrays(Flat):
    envelope = ArrayEnvelope("type", "ref", "data")


class Rpc(Flat):
    envelope = JsonRpc()


FIELDS = '"room":"lobby","msg":"hello world, this is a chat message","sender":'
FRAMES = {
    "model": f'{{"type":"model",{FIELDS}42}}',
    "struct": f'{{"type":"struct",{FIELDS}42}}',
    "dict": f'{{"type":"dict",{FIELDS}42}}',
    "model_answered": f'{{"type":"model","ref":7,{FIELDS}42}}',
    "struct_answered": f'{{"type":"struct","ref":7,{FIELDS}42}}',
    "silent": f'{{"type":"silent",{FIELDS}42}}',
    "takes_model": f'{{"type":"takes_model","message":{{{FIELDS}42}}}}',
    "whole": f'{{"type":"whole",{FIELDS}42}}',
    "whole_struct": f'{{"type":"whole_struct",{FIELDS}42}}',
    "depends": f'{{"type":"depends",{FIELDS}42}}',
    "depends_on_three": f'{{"type":"depends_on_three",{FIELDS}42}}',
    "coerced": f'{{"type":"silent",{FIELDS}"42"}}',
    "refused": f'{{"type":"silent",{FIELDS}"x"}}',
}

ENVELOPED: dict[type[Flat], tuple[str, float]] = {
    Renamed: (f'{{"action":"model","requestId":7,{FIELDS}42}}', 1.0),
    Nested: (f'{{"event":"model","ref":7,"payload":{{{FIELDS}42}}}}', 1.02),
    Arrays: (f'["model",7,{{{FIELDS}42}}]', 1.02),
    Rpc: (f'{{"jsonrpc":"2.0","id":7,"method":"model","params":{{{FIELDS}42}}}}', 1.04),
}
"""A request in each envelope, and how many instructions it may take, to those of a flat one with a `ref`."""

WAITING = f'{{"type":"waits",{FIELDS}42}}'


def serve(frame: str, times: int) -> int:
    """A whole connection without an event loop: nothing in it waits. Gives the number of messages sent."""
    sent = 0
    incoming: list[dict[str, Any]] = [
        {"type": "websocket.disconnect", "code": 1000},
        *({"type": "websocket.receive", "text": frame} for _ in range(times)),
        {"type": "websocket.connect"},
    ]

    async def receive() -> dict[str, Any]:
        return incoming.pop()

    async def send(message: dict[str, Any]) -> None:
        nonlocal sent
        sent += 1

    async def run() -> None:
        scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []}
        await Chat(scope, receive, send)

    coroutine = run()
    with contextlib.suppress(StopIteration):
        coroutine.send(None)  # to its end, since nothing waits
    coroutine.close()
    return sent


class Deaf(asyncio.Transport):
    """A transport that counts frames of less than 126 bytes and sends them nowhere."""

    sent = 0
    protocol: Any = None

    def write(self, data: Any) -> None:
        while data[:1] == b"\x81":
            self.sent += 1
            data = data[2 + data[1] :]

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
OFFERING = REQUEST[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"


def serve_frames(frame: str, times: int) -> int:
    """A connection on our own server, from the bytes of its frames to the bytes of the replies."""
    return serve_bytes(REQUEST, masked(0x81, frame.encode()) * times)


def serve_conversing(frame: str, times: int) -> int:
    """The same with an endpoint that converses: all messages come at once."""
    return serve_bytes(REQUEST, masked(0x81, frame.encode()) * times, app=Conversing, answers=times)


def serve_conversing_one_by_one(frame: str, times: int) -> int:
    """Each message comes when the one before is answered."""
    return serve_bytes(REQUEST, *[masked(0x81, frame.encode())] * times, app=Conversing)


def serve_stream(_: str, times: int) -> int:
    """The items of one stream, one by one."""
    asks = masked(0x81, f'{{"type":"items","ref":7,"count":{times}}}'.encode())
    return serve_bytes(REQUEST, asks, app=Conversing, answers=times + 1)


def serve_compressed_frames(frame: str, times: int) -> int:
    """The same as a browser has it: its messages come compressed, the replies are too short to be."""
    encoder = zlib.compressobj(wbits=-15)
    packed = (encoder.compress(frame.encode()) + encoder.flush(zlib.Z_SYNC_FLUSH))[:-4]
    return serve_bytes(OFFERING, masked(0xC1, packed) * times)


def masked(first_byte: int, payload: bytes) -> bytes:
    return bytes((first_byte, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def serve_bytes(request: bytes, *reads: bytes, app: Any = Chat, answers: int = 1) -> int:
    """A connection whose bytes come in so many `reads`, each when there are as many answers more to the one before."""

    async def main() -> int:
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws_ping_interval=None)
        transport, state = Deaf(), ServerState()
        protocol = WebSocketProtocol(config, state, {})
        protocol.connection_made(transport)
        protocol.data_received(request)
        while protocol.outbox.closed:  # until it is accepted
            await a_turn()
        for number, data in enumerate(reads, 1):
            protocol.data_received(data)
            for _ in range(TURNS):
                await a_turn()
                if transport.sent >= number * answers:
                    break
        sent = transport.sent
        protocol.connection_lost(None)
        while state.tasks:
            await a_turn()
        return sent

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def cost(kind: str) -> dict[str, int]:
    """Instructions and calls of one message, from the `difference` of two connections: set-up cancels out."""
    name, _, where = kind.partition(", ")
    talks = {
        "": serve,
        "own server": serve_frames,
        "own server, compressed": serve_compressed_frames,
        "conversing": serve_conversing,
        "conversing, one by one": serve_conversing_one_by_one,
        "stream": serve_stream,
    }
    frame, talk = {**FRAMES, "waits": WAITING, "items": ""}[name], talks[where]
    return difference(lambda times: talk(frame, times))


def difference(talk: Callable[[int], int]) -> dict[str, int]:
    """What 60 messages cost more than 10, for each."""
    gc.collect()
    gc.disable()  # what other tests have left behind would be finalised in the middle of it
    try:
        instructions(lambda: talk(30))  # caches are filled, and Python 3.12 has made its code traceable
        return {
            name: round((count(lambda: talk(60)) - count(lambda: talk(10))) / 50)
            for name, count in (("instructions", instructions), ("calls", calls))
        }
    finally:
        gc.enable()


def instructions(run: Callable[[], object]) -> int:
    """Bytecode instructions of everything but this file."""
    number = 0

    def trace(frame: FrameType, what: str, _: object) -> Any:
        nonlocal number
        if what == "opcode":
            number += 1
            return trace
        if frame.f_code.co_filename == HERE:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return number


def calls(run: Callable[[], object]) -> int:
    """Calls and resumptions of Python functions, and calls of C functions."""
    number = 0

    def profile(frame: FrameType, what: str, _: object) -> None:
        nonlocal number
        if what in ("call", "c_call"):
            number += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(before)
    return number


def bounds() -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = json.loads(BOUNDS.read_text())
    return found


KINDS = [
    *FRAMES, "model, own server", "struct, own server", "silent, own server", "silent, own server, compressed",
    "struct, conversing", "struct, conversing, one by one", "waits, conversing", "waits, conversing, one by one",
    "items, stream",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_costs_no_more_than_the_bound(kind: str) -> None:
    """Decode, dispatch, call and reply take at most the committed number of instructions and calls."""
    if VERSION not in bounds():
        pytest.skip(f"no bounds for Python {VERSION}: python -m tests.test_hot_path writes them")
    allowed = bounds()[VERSION][kind]
    counted = cost(kind)
    too_much = {name: (count, allowed[name]) for name, count in counted.items() if count > allowed[name] * ROOM}
    assert not too_much, f"{kind}: {too_much} (counted, bound)"


@pytest.mark.parametrize("app", ENVELOPED)
def test_an_envelope_costs_hardly_more_than_flat_messages(app: type[Flat]) -> None:
    """What differs is which Struct a frame is decoded to, and which one a reply is written with."""
    frame, most = ENVELOPED[app]
    counted, flat = (
        difference(lambda times: serve_bytes(REQUEST, masked(0x81, frame.encode()) * times, app=app))  # noqa: B023
        for app, frame in ((app, frame), (Flat, FRAMES["model_answered"]))
    )
    assert counted["instructions"] <= most * flat["instructions"], (counted, flat)
    assert counted["calls"] <= flat["calls"]


@pytest.mark.parametrize("kind", ["model", "model, own server"])
def test_the_count_is_the_same_every_time(kind: str) -> None:
    """Nothing random is in the count: two countings agree exactly."""
    assert cost(kind) == cost(kind)


@pytest.mark.parametrize("talk", [serve, serve_frames, serve_compressed_frames])
def test_what_is_counted_really_runs(talk: Callable[[str, int], int]) -> None:
    """As many answers as messages."""
    assert talk(FRAMES["struct"], 10) == 10 + (talk is serve)  # and the accept


def test_answers_that_more_messages_wait_behind_share_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that wait for a turn each answer eight at a time, however long a turn takes."""
    monkeypatch.setattr(outbox, "JOIN_S", 5)
    writes: list[int] = []

    class Counting(Deaf):
        def write(self, data: Any) -> None:
            writes.append(len(data))
            super().write(data)

    monkeypatch.setattr(sys.modules[__name__], "Deaf", Counting)
    assert serve_conversing(WAITING, 34) == 34
    assert len(writes[1:]) == 2 + 32 / outbox.JOIN_TURNS  # behind the handshake; the first two wait for no other


def test_a_tenth_more_would_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of a tenth as many instructions, called for each message, lifts the count above the bound."""
    before = cost("model")["instructions"]
    names: dict[str, Any] = {}
    lines = "    x += 1\n" * (before // 40 + 1)  # at least four instructions each
    exec(compile(f"def waste():\n    x = 0\n{lines}", "elsewhere.py", "exec"), names)
    plain = serve

    def wasteful(frame: str, times: int) -> int:
        for _ in range(times):
            names["waste"]()
        return plain(frame, times)

    monkeypatch.setattr(sys.modules[__name__], "serve", wasteful)
    assert cost("model")["instructions"] > before * ROOM


if __name__ == "__main__":
    known = bounds() if BOUNDS.exists() else {}
    known[VERSION] = {kind: cost(kind) for kind in KINDS}
    BOUNDS.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(known[VERSION], indent=1))
