"""Messages in MessagePack: who reads and writes it, what is declared for it, and what is no message."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import BaseModel

from socketsundso import ArrayEnvelope, DefinitionError, Depends, Endpoint, Envelope, JsonRpc, binary, event
from tests.harness import Peer, talk

MSGPACK = {"subprotocols": ["socketsundso.msgpack"]}
packed = msgspec.msgpack.encode


class Said(BaseModel):
    msg: str
    loud: float = 1.5


class Chat(Endpoint):
    codecs = ["json", "msgpack"]

    @event
    async def say(self, msg: str, n: int = 0) -> dict[str, Any]:
        return {"msg": msg, "n": n}

    @event
    async def tell(self, said: Said) -> Said:
        await self.send({"type": "told", "msg": said.msg})
        return said


def read(peer: Peer) -> list[Any]:
    """What came in binary frames."""
    return [msgspec.msgpack.decode(m["bytes"]) for m in peer.sent if m["type"] == "websocket.send"]


def in_msgpack(app: Any, *messages: Any) -> list[Any]:
    frames = [message if isinstance(message, str | bytes) else packed(message) for message in messages]
    return read(talk(app, *frames, **MSGPACK))


def test_messages_are_read_and_written_in_it() -> None:
    """A reply with the `ref`, a push, an error: each a binary frame."""
    assert in_msgpack(
        Chat, {"type": "say", "ref": 7, "msg": "hi"}, {"type": "tell", "said": {"msg": "x"}}, {"type": "say"}
    ) == [
        {"type": "say", "msg": "hi", "n": 0, "ref": 7},
        {"type": "told", "msg": "x"},
        {"type": "tell", "msg": "x", "loud": 1.5},
        {
            "type": "error",
            "code": "validation_error",
            "errors": [{"type": "missing", "loc": ["msg"], "msg": "Field required", "input": {"type": "say"}}],
        },
    ]


def test_who_offers_no_such_subprotocol_speaks_json() -> None:
    """With none, or only another one: texts."""
    for offered in ([], ["other"]):
        peer = talk(Chat, {"type": "say", "msg": "hi"}, subprotocols=offered)
        assert peer.answers == [{"type": "say", "msg": "hi", "n": 0}]


def test_a_class_may_name_the_subprotocols() -> None:
    """The name is accepted, and beside others of the class the one that is negotiated counts."""

    class Named(Chat):
        subprotocols = ("v2.json",)
        codecs = {"v2.msgpack": "msgpack"}

    for offered, expected in ((["v2.json", "v2.msgpack"], "v2.msgpack"), (["v2.json"], "v2.json")):
        peer = talk(Named, subprotocols=offered)
        assert peer.sent[0]["subprotocol"] == expected
    assert talk(Named, subprotocols=["socketsundso.msgpack"]).closed is None  # refused with 400
    assert read(talk(Named, packed({"type": "say", "msg": "a"}), subprotocols=["v2.msgpack"]))[0]["msg"] == "a"


def test_the_order_of_the_class_counts() -> None:
    """As with subprotocols: of several that are offered, the first of the class."""

    class Binary(Chat):
        codecs = ["msgpack", "json"]

    both = ["socketsundso.json", "socketsundso.msgpack"]
    assert talk(Chat, subprotocols=both).sent[0]["subprotocol"] == "socketsundso.json"
    assert talk(Binary, subprotocols=both).sent[0]["subprotocol"] == "socketsundso.msgpack"


def test_what_is_accepted_by_hand_counts() -> None:
    """`accept(subprotocol)` in `on_connect` chooses the codec, too, and what is sent from there on is in it."""

    class ByHand(Chat):
        subprotocols = ("plain",)

        async def on_connect(self) -> None:
            await self.websocket.accept(self.websocket.headers["x-take"])
            await self.send({"type": "welcome"})

    for name, binary_frames in (("plain", False), ("socketsundso.msgpack", True)):
        peer = talk(ByHand, subprotocols=["socketsundso.msgpack", "plain"], headers=[(b"x-take", name.encode())])
        assert ("bytes" in peer.sent[1]) == binary_frames
    peer = talk(
        ByHand,
        {"type": "say", "msg": "a"},
        subprotocols=["socketsundso.msgpack", "plain"],
        headers=[(b"x-take", b"plain")],
    )
    assert peer.answers == [{"type": "welcome"}, {"type": "say", "msg": "a", "n": 0}]


def test_a_text_frame_is_json_there_too() -> None:
    """As a binary one is on connections that speak JSON; the answer is MessagePack."""
    assert in_msgpack(Chat, '{"type":"say","msg":"a"}') == [{"type": "say", "msg": "a", "n": 0}]
    assert talk(Chat, "nonsense", **MSGPACK).closed == 1003


def test_a_text_ping_is_answered_with_a_text() -> None:
    """It is no message, so no codec is asked."""

    class Pinged(Chat):
        text_pings = {"ping": "pong"}

    assert talk(Pinged, "ping", **MSGPACK).sent[1] == {"type": "websocket.send", "text": "pong"}


def test_numbers_and_keys_as_javascript_writes_them() -> None:
    """Whole floats for integers, texts for the integer keys of a map: pydantic judges, as of JSON."""

    class Keyed(Chat):
        @event
        async def keep(self, names: dict[int, str], n: int) -> dict[str, Any]:
            return {"names": repr(names), "n": n}

    for keys in ({"1": "a"}, {1: "a"}):
        frame = {"type": "keep", "names": keys, "n": 3.0}
        assert in_msgpack(Keyed, frame) == [{"type": "keep", "names": "{1: 'a'}", "n": 3}]


# ---------------------------------------------------------------------- envelopes, and what is around handlers


@pytest.mark.parametrize(
    ("envelope", "asked", "answered", "refused", "place"),
    [
        (
            Envelope(type="action", ref="id"),
            {"action": "say", "id": 1, "msg": "a"},
            {"action": "say", "id": 1, "msg": "a", "n": 0},
            {"action": "say"},
            ["msg"],
        ),
        (
            Envelope(type="event", data="payload"),
            {"event": "say", "ref": 1, "payload": {"msg": "a"}},
            {"event": "say", "ref": 1, "payload": {"msg": "a", "n": 0}},
            {"event": "say", "payload": {}},
            ["payload", "msg"],
        ),
        (
            ArrayEnvelope("type", "ref", "data"),
            ["say", 1, {"msg": "a"}],
            ["say", 1, {"msg": "a", "n": 0}],
            ["say", None, {}],
            [2, "msg"],
        ),
        (
            ArrayEnvelope("type", "data", "ref"),
            ["say", {"msg": "a"}, 1],
            ["say", {"msg": "a", "n": 0}, 1],
            ["say", {}],
            [1, "msg"],
        ),
        (ArrayEnvelope("type", "data"), ["say", {"msg": "a"}], ["say", {"msg": "a", "n": 0}], ["say", {}], [1, "msg"]),
    ],
)
def test_in_every_envelope(envelope: Any, asked: Any, answered: Any, refused: Any, place: Any) -> None:
    """The same keys and places as in JSON, and refs and long names where they belong."""

    Mine = type("Mine", (Chat,), {"envelope": envelope})
    answer, error = in_msgpack(Mine, asked, refused)
    assert answer == answered
    data = error.get("payload", error) if isinstance(error, dict) else next(e for e in error if isinstance(e, dict))
    assert data["errors"][0]["loc"] == place


def test_a_ref_behind_a_long_name_in_an_array() -> None:
    """Names of every length of MessagePack's texts."""
    for size in (31, 32, 255, 256, 70_000):
        name = "x" * size

        class Long(Endpoint):
            codecs = ["msgpack"]
            envelope = ArrayEnvelope("type", "ref", "data")

            @event(name)
            async def on_it(self) -> dict[str, Any]:
                return {"a": 1}

        assert in_msgpack(Long, [name, 7]) == [[name, 7, {"a": 1}]]


@pytest.mark.parametrize("size", [0, 12, 13, 14, 15, 16, 17, 70_000])
def test_a_ref_in_a_map_of_any_size(size: int) -> None:
    """Each kind of head that a map has, and from one to the next."""

    class Large(Endpoint):
        codecs = ["msgpack"]

        @event
        async def get(self) -> dict[str, Any]:
            return {f"k{index}": index for index in range(size)}

    (answer,) = in_msgpack(Large, {"type": "get", "ref": "r"})
    assert answer == {"type": "get", **{f"k{index}": index for index in range(size)}, "ref": "r"}


def test_what_is_around_handlers_is_around_these_too() -> None:
    """Dependencies and what overrides them, middleware, handlers that are attached later, to the class or to one."""
    seen = []

    def store() -> str:
        return "real"

    class Whole(Chat):
        @event
        async def ask(self, kept: Annotated[str, Depends(store)], tags: set[int]) -> dict[str, Any]:
            return {"kept": kept, "tags": sorted(tags)}

    @Whole.middleware
    async def noted(endpoint: Any, call: Any, handle: Any) -> Any:
        seen.append(call.event)
        return await handle()

    @Whole.event("late")
    async def on_late(self: Any, n: int) -> dict[str, int]:
        return {"n": n}

    messages: list[Any] = [{"type": "ask", "tags": ["1", 2]}, {"type": "late", "n": "5"}]
    assert in_msgpack(Whole, *messages) == [
        {"type": "ask", "kept": "real", "tags": [1, 2]},
        {"type": "late", "n": 5},
    ]
    assert seen == ["ask", "late"]
    Whole.dependency_overrides[store] = lambda: "fake"
    assert in_msgpack(Whole, messages[0])[0]["kept"] == "fake"
    assert talk(Whole, messages[0]).answers[0]["kept"] == "fake"


class Point(msgspec.Struct):
    x: float
    data: bytes = b""


class Draw(msgspec.Struct, tag="draw"):
    point: Point
    loose: Any = None


def test_whole_models_and_structs() -> None:
    """Of what msgspec decodes and of what only pydantic does."""

    class Join(BaseModel):
        type: Literal["join"]
        room: str
        at: dict[str, Any] = {}

    class Leave(BaseModel):
        type: Literal["leave"]
        room: str
        n: float = 0

    class Room(Endpoint):
        codecs = ["json", "msgpack"]

        @event
        async def handle(self, msg: Join | Leave) -> dict[str, Any]:
            return {"got": repr(msg)}

        @event
        async def draw(self, msg: Draw) -> Point:
            return msg.point

        @event
        async def at(self, point: Point) -> Point:
            return point

    messages: list[Any] = [
        {"type": "join", "room": "a", "at": {"n": 1}},
        {"type": "leave", "room": "a", "n": 1.5},
        {"type": "leave", "room": "a", "n": "2"},
        {"type": "draw", "point": {"x": 1, "data": b"\xff"}, "loose": {"a": b"\xff"}},
        {"type": "at", "point": {"x": 1.5, "data": b"\x00"}},
        {"type": "at", "point": {"x": "1"}},
    ]
    expected = talk(Room, *[msgspec.json.encode(each).decode() for each in messages]).answers
    assert in_msgpack(Room, *messages) == expected
    assert expected[3] == {"type": "draw", "x": 1.0, "data": "/w=="}


# ---------------------------------------------------------------------- replies


class Shape(msgspec.Struct):
    n: int
    x: float = 1.0
    name: str | None = None


class Named(msgspec.Struct, tag="named"):
    n: int


VALUES: list[Any] = [
    {}, {"n": 1}, {"n": 2**64}, {"n": -(2**63) - 1}, {"x": float("nan")}, {"x": float("inf")}, {"x": 1e300},
    {"b": b"text"}, {1: 2}, {"type": "own", "n": 1}, {"type": None}, {"type": 5}, {"ref": 1}, {"s": "\ud800"},
    {"l": [1, {"a": [None, True]}]}, {"t": (1, 2)}, {f"k{i}": i for i in range(20)}, {"é": "é" * 300}, {"o": object()},
]  # fmt: skip


def dumped(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_int=lambda d: int(d) if -(2**63) <= int(d) < 2**64 else float(d))


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("envelope", [Envelope(), Envelope(data="data")], ids=["flat", "nested"])
def test_a_dict_says_what_its_json_says(value: Any, envelope: Any) -> None:
    """Also where it can be no reply."""

    class Replies(Endpoint):
        codecs = ["json", "msgpack"]

        @event
        async def get(self) -> Any:
            return value

    App = type("App", (Replies,), {"envelope": envelope})
    logging.disable()
    try:
        assert in_msgpack(App, {"type": "get"}) == dumped(talk(App, {"type": "get"}).answers)
    finally:
        logging.disable(logging.NOTSET)


MODELS = [
    (Said, [Said(msg="a"), Said(msg="a", loud=float("nan")), Said.model_construct(msg=1), Said(msg="a", loud=1e16)]),
    (Shape, [Shape(1), Shape(1, 2.5, "n"), Shape(2**64), Shape(1, float("inf")), Shape("text"), Shape([1])]),  # type: ignore[arg-type]
    (Named, [Named(1), Named(1.5)]),  # type: ignore[arg-type]
    (list[Said], [[Said(msg="a")]]),
]


@pytest.mark.parametrize(("model", "values"), MODELS, ids=["model", "struct", "tagged", "list"])
@pytest.mark.parametrize("envelope", [Envelope(), Envelope(data="data"), ArrayEnvelope("type", "data")], ids=repr)
def test_a_model_says_what_its_json_says(model: Any, values: list[Any], envelope: Any) -> None:
    """Whatever is in it."""
    if model == list[Said] and envelope == Envelope():
        return

    class Replies(Endpoint):
        codecs = ["json", "msgpack"]

    App = type("App", (Replies,), {"envelope": envelope})
    for index, value in enumerate(values):

        def handler(_value: Any) -> Any:
            async def get(self: Any) -> Any:
                return _value

            get.__annotations__["return"] = model
            return get

        App.event(f"get{index}")(handler(value))  # type: ignore[attr-defined]
    asked = [
        [f"get{index}"] if isinstance(envelope, ArrayEnvelope) else {"type": f"get{index}"}
        for index in range(len(values))
    ]
    logging.disable()
    try:
        assert in_msgpack(App, *asked) == dumped(talk(App, *map(json.dumps, asked)).answers)
    finally:
        logging.disable(logging.NOTSET)


# ---------------------------------------------------------------------- what is no message


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        (b"", 1003),
        (b"\x82\xa4type", 1003),
        (b"\xc1", 1003),
        (packed({"type": "say", "msg": "a"}) + b"\x01", 1003),
        (b"\x82\xa4type\xa3say\xa3msg\xdb\xff\xff\xff\xffa", 1003),
        (b"\xdf\xff\xff\xff\xff\xa4type", 1003),
        (b"\xdd\xff\xff\xff\xff", 1003),
        (b"\x81\xa4type" + b"\x91" * 50_000, 1003),
        (b"\x82\xa4type\xa3say\xa3msg\xa2\xff\xfe", 1003),
        (packed([1, 2]), "malformed_message"),
        (packed(None), "malformed_message"),
        (packed({}), "malformed_message"),
        (packed({"type": 5}), "malformed_message"),
        (packed({"type": "say", "msg": msgspec.msgpack.Ext(5, b"a")}), "malformed_message"),
        (packed({"type": "say", "msg": {None: 1}}), "malformed_message"),
        (packed({"type": "tell", "said": msgspec.msgpack.Ext(5, b"a")}), "malformed_message"),
        (packed({"type": "say", "msg": b"a", "n": "x"}), "validation_error"),
        (packed({"type": "say", "msg": "a", "ref": 1.5}), "validation_error"),
        (packed({"type": "nothing"}), "unknown_event"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_answered(frame: bytes, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What is no MessagePack closes 1003; what JSON could not say is `malformed_message`; nothing is raised."""
    peer = talk(Chat, frame, **MSGPACK)
    assert (peer.closed if isinstance(answer, int) else read(peer)[0]["code"]) == answer
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("seed", range(3))
def test_any_bytes_are_answered(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Frames that are nearly messages: each is answered or closes 1003, and no line says that something failed."""
    source = random.Random(seed)
    whole = packed({"type": "tell", "ref": 7, "said": {"msg": "a", "loud": 1.5}, "x": [None, {"a": 1}]})
    for _ in range(100):
        frame = bytearray(whole)
        for _ in range(source.randint(1, 4)):
            frame[source.randrange(len(frame))] = source.randrange(256)
        if source.random() < 0.3:
            del frame[source.randrange(len(frame)) :]
        peer = talk(Chat, bytes(frame), **MSGPACK)
        assert peer.closed == 1003 or len(read(peer)) >= 1, bytes(frame)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


# ---------------------------------------------------------------------- conversations


class Conversing(Endpoint):
    codecs = ["json", "msgpack"]
    acknowledge = True
    calls = {Said: Shape}

    @event
    async def count(self, n: int) -> AsyncIterator[dict[str, int]]:
        for number in range(n):
            yield {"number": number}

    @event
    async def add(self, numbers: AsyncIterator[set[int]]) -> dict[str, int]:
        return {"sum": sum([sum(each) async for each in numbers])}

    @event
    async def note(self) -> None: ...

    @event
    async def ask(self) -> dict[str, str]:
        return {"answer": repr(await self.call(Said(msg="sure?"), returns=Shape))}


def converse(count: int, *messages: Any) -> list[Any]:
    """What came up to the message with this number."""

    async def main() -> list[Any]:
        peer = Peer(Conversing, [packed(each) for each in messages], code=None, **MSGPACK)
        running = asyncio.ensure_future(peer.run())
        async with asyncio.timeout(10):
            while len(read(peer)) < count:
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return read(peer)

    return asyncio.run(main())


def test_streams_uploads_calls_and_acknowledgements() -> None:
    """Everything that a conversation has is in it, also what only pydantic reads."""
    stream = converse(3, {"type": "count", "ref": 1, "n": "2"})
    assert stream == [
        {"type": "count", "number": 0, "ref": 1},
        {"type": "count", "number": 1, "ref": 1},
        {"type": "complete", "ref": 1},
    ]
    upload = converse(
        1,
        {"type": "add", "ref": "u"},
        {"type": "item", "ref": "u", "item": [1, 2.0]},
        {"type": "item", "ref": "u", "item": ["3"]},
        {"type": "complete", "ref": "u"},
    )
    assert upload == [{"type": "add", "sum": 6, "ref": "u"}]
    assert converse(1, {"type": "note", "ref": 2}) == [{"type": "note", "ref": 2}]
    asked, answer = converse(2, {"type": "ask", "ref": 3}, {"type": "reply", "ref": "s:1", "answer": {"n": 1, "x": 2}})
    assert asked == {"type": "said", "msg": "sure?", "loud": 1.5, "ref": "s:1"}
    assert answer == {"type": "ask", "answer": "Shape(n=1, x=2.0, name=None)", "ref": 3}


def test_items_and_answers_that_json_could_not_say() -> None:
    """The one is an error of the upload, at its place, the other no message; who has asked is told in any case."""
    odd = msgspec.msgpack.Ext(5, b"a")
    (error,) = converse(1, {"type": "add", "ref": 1}, {"type": "item", "ref": 1, "item": odd})
    assert (error["code"], error["errors"][0]["loc"]) == ("validation_error", ["item"])
    _, *told = converse(3, {"type": "ask", "ref": 3}, {"type": "reply", "ref": "s:1", "answer": odd})
    assert sorted(each["code"] for each in told) == ["invalid_answer", "malformed_message"]


def test_a_stream_without_a_ref_is_refused() -> None:
    """As in JSON."""
    (error,) = converse(1, {"type": "count", "n": 1})
    assert (error["code"], error["errors"][0]["loc"]) == ("validation_error", ["ref"])
    (error,) = converse(1, {"type": "count", "n": 1, "ref": None, "x": msgspec.msgpack.Ext(5, b"")})
    assert error["code"] in ("malformed_message", "validation_error")


# ---------------------------------------------------------------------- rooms


class Rooms(Endpoint):
    codecs = ["json", "msgpack"]
    backplane = "memory://codecs"
    presence_events = True

    async def on_connect(self) -> None:
        await super().on_connect()
        await self.join("r")

    @event
    async def shout(self, msg: str) -> None:
        await self.broadcast({"type": "shouted", "msg": msg}, "r")


def test_a_broadcast_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all members who read it, beside the text for the others."""
    packings = []
    framing = next(iter(Rooms._packed.values())).framing
    pack = framing.frame
    monkeypatch.setattr(framing, "frame", lambda canonical: packings.append(canonical) or pack(canonical))

    async def main() -> None:
        members = [Peer(Rooms, code=None, **options) for options in (MSGPACK, MSGPACK, MSGPACK, {})]
        tasks = [asyncio.ensure_future(member.run()) for member in members]
        async with asyncio.timeout(10):
            while not all(any(m["type"] == "websocket.accept" for m in member.sent) for member in members):
                await asyncio.sleep(0)
            packings.clear()
            await Peer(Rooms, [{"type": "shout", "msg": "hi"}]).run()

            def shouts(member: Peer, loads: Any, kind: str) -> list[Any]:
                found = [loads(m[kind]) for m in member.sent if m["type"] == "websocket.send"]
                return [each for each in found if each["type"] == "shouted"]

            while not shouts(members[3], json.loads, "text") or not all(
                shouts(member, msgspec.msgpack.decode, "bytes") for member in members[:3]
            ):
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert shouts(members[0], msgspec.msgpack.decode, "bytes") == [{"type": "shouted", "msg": "hi"}]

    asyncio.run(main())
    assert [each for each in packings if b"shouted" in each] == [b'{"type":"shouted","msg":"hi"}']


# ---------------------------------------------------------------------- what is declared


@pytest.mark.parametrize("given", ["msgpack", ["cbor"], {"x": "cbor"}, [5], 5, {"a b": "msgpack"}, {5: "msgpack"}])
def test_other_codecs_are_refused_at_import(given: Any) -> None:
    """What is no codec, and a name that no subprotocol can have."""
    with pytest.raises(DefinitionError, match="codecs"):
        type("App", (Endpoint,), {"codecs": given})


def test_json_rpc_is_json() -> None:
    """As its name says."""
    with pytest.raises(DefinitionError, match="are JSON"):
        type("App", (Chat,), {"envelope": JsonRpc()})


def test_it_is_read_once() -> None:
    """Later it would be heard by nobody."""
    with pytest.raises(DefinitionError, match="read when the class is created"):
        Chat.codecs = ["json"]


def test_binary_frames_cannot_be_two_things() -> None:
    """A @binary method, and bytes that are sent."""
    with pytest.raises(DefinitionError, match="@binary"):

        class Both(Chat):
            @binary
            async def on_frame(self, frame: bytes) -> None: ...

    class Sends(Chat):
        @event
        async def get(self) -> None:
            with pytest.raises(TypeError, match="codecs"):
                await self.send_bytes(b"a")

    assert in_msgpack(Sends, {"type": "get"}) == []
