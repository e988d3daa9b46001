"""Binary frames in contracts: what is told of a `@binary` method, and generated clients that send and hear frames."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from socketsundso import Endpoint, Envelope, EventError, binary, event
from socketsundso.contract import api_of, compare, document, read
from socketsundso.contract.model import Binary

from ..clients import load
from .javascript import Engine, compiled, engine
from .servers import serving_in_thread


class Level(BaseModel):
    loudest: int


class HalfASample(EventError):
    """16 bits a sample."""

    code = "half_a_sample"
    size: int


class Meter(Endpoint):
    emits = [Level, bytes]

    @binary(errors=[HalfASample], tags=["audio"])
    async def on_audio(self, frame: bytes) -> Level:
        """
        PCM.

        Of 16 bits.
        """
        if len(frame) % 2:
            raise HalfASample(size=len(frame))
        return Level(loudest=max(frame, default=0))

    @event
    async def on_beep(self, size: int, parts: int = 1) -> dict[str, int]:
        for _ in range(parts):
            await self.send_bytes(b"\xff" * size)
        return {"size": size}

    @event
    async def on_drop(self) -> None:
        await self.close(1012)


API = api_of(Meter)


def test_what_a_contract_tells_of_it() -> None:
    """Its name and words; a message that answers has no ref, so that it is a push."""
    (channel,) = API.channels
    assert channel.binary is not None
    assert replace(channel.binary, errors=()) == Binary(
        "audio", True, summary="PCM.", description="Of 16 bits.", tags=("audio",)
    )
    assert [error.code for error in channel.binary.errors] == ["half_a_sample"]
    assert [(push.type, push.name) for push in channel.pushes] == [("level", "Level"), ("audio", "AudioLevel")]
    written = document(API)
    assert written["channels"]["meter"]["messages"]["binary"] == {
        "name": "binary",
        "contentType": "application/octet-stream",
        "payload": {"$ref": "#/components/schemas/meter.binary"},
    }
    operations = written["operations"]
    assert operations["meter.receive.binary"]["reply"]["messages"][-1] == {
        "$ref": "#/channels/meter/messages/error.half_a_sample"
    }
    assert operations["meter.send.binary"]["action"] == "send"
    assert read(written) == API


async def gives(self: Any, frame: bytes) -> bytes: ...  # type: ignore[empty-body]
async def takes(self: Any, frame: bytes) -> None: ...
async def says(self: Any, frame: bytes) -> Level: ...  # type: ignore[empty-body]
async def any_of(self: Any, frame: bytes): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"emits": [Level]}, None),
        ({"emits": [bytes]}, Binary(sends=True)),
        ({"on_it": binary(gives)}, Binary("gives", True)),
        ({"on_it": binary(takes)}, Binary("takes", True)),
        ({"on_it": binary(any_of)}, Binary("any_of", True)),
        ({"on_it": binary(takes), "emits": [Level]}, Binary("takes")),
        ({"on_it": binary(says), "emits": [Level]}, Binary("says")),
        ({"on_it": binary(gives), "emits": [Level]}, Binary("gives", True)),
        ({"on_it": binary(takes), "emits": [Level, bytes]}, Binary("takes", True)),
        ({"on_it": binary(include_in_schema=False)(takes)}, None),
        ({"on_it": binary(takes), "envelope": Envelope(data="payload")}, Binary("takes", True)),
    ],
)
def test_who_sends_binary_frames(attributes: dict[str, Any], expected: Binary | None) -> None:
    """Clients, where there is a method for them; the server, where that or `emits` says so, or nothing says what."""
    (channel,) = api_of(type("App", (Endpoint,), attributes)).channels
    assert channel.binary == expected


BOTH = Binary("audio", True)
CHANGES = [
    (None, None, []),
    (BOTH, Binary("sound", True), []),
    (BOTH, None, [("", "old clients"), ("/sent", "old clients")]),
    (None, BOTH, [("", "new clients"), ("/sent", "none")]),
    (Binary("audio"), BOTH, [("/sent", "none")]),
    (BOTH, Binary(sends=True), [("", "old clients")]),
    (BOTH, replace(BOTH, security=("talk",)), [("/security", "old clients")]),
    (BOTH, replace(BOTH, deprecated=True), [("/deprecated", "none")]),
    (BOTH, replace(BOTH, summary="Words."), []),
]


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_what_a_change_breaks(old: Binary | None, new: Binary | None, expected: list[tuple[str, str]]) -> None:
    """Who still sends frames that nobody takes, and who waits for some that do not come."""
    (channel,) = API.channels
    before, after = (replace(API, channels=(replace(channel, binary=each),)) for each in (old, new))
    found = compare(before, after)
    assert [(each.path.removeprefix("meter/binary"), each.breaks) for each in found] == expected


# ---- clients


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_in_thread(Meter) as (served, _):
        yield served.url


@pytest.fixture(scope="module", params=["msgspec", "pydantic"])
def made(request: pytest.FixtureRequest) -> ModuleType:
    return load(API, request.param)


def test_a_python_client_sends_and_hears_frames(made: ModuleType, url: str) -> None:
    """Among the pushes, in order with messages, whole and in fragments; errors are of their class."""

    async def main() -> None:
        errors: asyncio.Queue[Any] = asyncio.Queue()
        async with made.Meter(url) as meter:
            heard, frames = meter.pushes(made.AudioLevel), meter.pushes(bytes)
            meter.on_error(errors.put_nowait)
            for data in (b"\x01\x02", bytearray(b"\x03\x01"), memoryview(b"\xff" * 70_000)):
                await meter.send_bytes(data)
                assert await anext(heard) == made.AudioLevel(loudest=max(data))
            await meter.send_bytes(b"?")
            error = await errors.get()
            assert isinstance(error, made.HalfASample)
            assert error.size == 1
            for size in (0, 1, 125, 126, 65_536):
                assert await meter.beep(size=size) == {"size": size}
                assert await anext(frames) == b"\xff" * size
            called: asyncio.Queue[Any] = asyncio.Queue()
            meter.on(bytes, called.put_nowait)
            await meter.beep(size=2, parts=2)
            assert [await called.get() for _ in range(2)] == [b"\xff\xff"] * 2
            with pytest.raises(TypeError, match="Meter pushes no str"):
                meter.pushes(str)
            everything = aiter(meter)
            assert b"" in [await anext(everything) for _ in range(4)]
        with pytest.raises(made.Disconnected):
            await meter.send_bytes(b"12")

    asyncio.run(main())


def test_a_python_client_in_threads(made: ModuleType, url: str) -> None:
    """The same without `await`."""
    refused, has_come = [], threading.Event()
    with made.MeterSync(url) as meter:
        heard, frames = meter.pushes(made.AudioLevel), meter.pushes(bytes)
        meter.on_error(lambda error: (refused.append(error), has_come.set()))
        meter.send_bytes(b"\x01\x02")
        assert next(heard) == made.AudioLevel(loudest=2)
        meter.beep(size=3)
        assert next(frames) == b"\xff" * 3
        meter.send_bytes(memoryview(b"?"))
        assert has_come.wait(30)
        assert isinstance(refused[0], made.HalfASample)
    with pytest.raises(made.Disconnected):
        meter.send_bytes(b"12")


def test_a_frame_waits_for_no_connection(made: ModuleType, url: str) -> None:
    """It is refused meanwhile, but not within `on_open`, which comes before all that waited."""

    async def main() -> None:
        meter, refused = made.Meter(url, backoff=lambda attempt: 0.001), asyncio.Event()
        with pytest.raises(RuntimeError, match="not open"):
            await meter.send_bytes(b"12")
        meter.on_open(lambda opened: meter.send_bytes(b"\x07\x08"))

        async def try_again(state: str) -> None:
            with contextlib.suppress(made.Disconnected):
                await meter.send_bytes(b"\x01\x02")
                return
            refused.set()

        meter.on_state(lambda state: try_again(state) if state == "waiting" else None)
        heard = meter.pushes(made.AudioLevel)
        async with meter:
            assert (await anext(heard)).loudest == 8
            await meter.drop()
            await refused.wait()
            assert (await anext(heard)).loudest == 8

    asyncio.run(main())


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    client = compiled(API, tmp_path_factory.mktemp("client"))
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(engine(client, name)) for name in ("ws", "undici", "bun")}


@pytest.mark.parametrize("name", ["ws", "undici", "bun"])
def test_a_typescript_client_sends_and_hears_frames(name: str, engines: dict[str, Engine], url: str) -> None:
    """As `Uint8Array`s, from buffers and views of them; whether one went out is told at once."""
    told = engines[name].run(
        """
        const meter = open(Meter, url), levels = [], frames = [], errors = [];
        meter.on("audio", ({ loudest }) => levels.push(loudest));
        meter.on("error", error => errors.push([error instanceof HalfASample, error.size]));
        const off = meter.onBytes(data => frames.push([data instanceof Uint8Array, [...data]]));
        const early = meter.sendBytes(new Uint8Array([1, 2]));
        await meter.beep({ size: 0 });
        const sent = [
          meter.sendBytes(new Uint8Array([1, 2])),
          meter.sendBytes(new Uint8Array([9, 9, 4, 3]).subarray(2)),
          meter.sendBytes(new Uint8Array([5, 6]).buffer),
          meter.sendBytes(new Uint8Array(1)),
        ];
        await meter.beep({ size: 2 });
        await until(() => errors.length === 1);
        off();
        await meter.beep({ size: 3 });
        await meter.drop();
        await until(() => meter.state !== "open");
        sent.push(meter.sendBytes(new Uint8Array([1, 2])));
        return [early, sent, levels, errors, frames];
        """,
        url=url,
    )
    assert told == [
        False,
        [True, True, True, True, False],
        [2, 4, 6],
        [[True, 1]],
        [[True, []], [True, [255, 255]]],
    ]
