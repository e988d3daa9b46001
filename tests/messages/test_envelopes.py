"""Envelopes: the same handlers behind other keys, a nested data part, arrays."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import BaseModel, Field

from socketsundso import ArrayEnvelope, DefinitionError, Depends, Endpoint, Envelope, EventError, EventMessage, event
from tests.enveloping import ARRAY, FLAT, NESTED, OTHERS, RENAMED, WIRES, Said, Wire, named, within
from tests.harness import ask, talk


class Point(BaseModel):
    x: int
    y: int = 0


class Joined(msgspec.Struct, tag="joined"):
    room: str


class Left(BaseModel):
    type: Literal["left"] = "left"
    room: str


class Shape(msgspec.Struct):
    """Whose `type` says nothing of the message."""

    type: str
    size: int


async def tenant(tenant: str = "nobody") -> str:
    return tenant.upper()


class App(Endpoint):
    @event
    async def say(self, msg: str, n: int = 3) -> dict[str, Any]:
        return {"msg": msg, "n": n}

    @event
    async def at(self, when: datetime.datetime, point: Point) -> dict[str, Any]:
        return {"when": when.isoformat(), "x": point.x}

    @event
    async def lazy(self, since: datetime.date = datetime.date(2020, 1, 1), n: int = 1) -> dict[str, Any]:
        return {"since": since, "n": n}

    @event
    def ping(self) -> dict[str, Any]:
        return {}

    @event
    async def model(self, x: int) -> Point:
        return Point(x=x)

    @event
    async def enter(self, room: str) -> Joined | Left:
        return Joined(room) if room else Left(room="none")

    @event
    async def shape(self) -> Shape:
        return Shape("round", 3)

    @event
    async def tenants(self, tenant: Annotated[str, Depends(tenant)], n: int) -> dict[str, Any]:
        return {"tenant": tenant, "n": n}

    @event
    async def fails(self) -> None:
        raise EventError("sold_out", "none is left")

    @event
    async def pushes(self) -> None:
        for each in [Point(x=1), Joined("r"), Left(room="r"), {"type": "noted", "n": 1}, Shape("round", 3)]:
            await self.send(each)


@pytest.mark.parametrize("wire", WIRES, ids=named)
@pytest.mark.parametrize(
    ("type_", "data", "answer"),
    [
        ("say", {"msg": "hi"}, Said("say", {"msg": "hi", "n": 3})),
        ("say", {"msg": "hi", "n": "4"}, Said("say", {"msg": "hi", "n": 4})),
        ("at", {"when": "2020-01-01T00:00:00", "point": {"x": 1}}, Said("at", {"when": "2020-01-01T00:00:00", "x": 1})),
        ("lazy", {}, Said("lazy", {"since": "2020-01-01", "n": 1})),
        ("lazy", {"n": "2"}, Said("lazy", {"since": "2020-01-01", "n": 2})),
        ("ping", {}, Said("ping", {})),
        ("model", {"x": 1}, Said("model", {"x": 1, "y": 0})),
        ("enter", {"room": "r"}, Said("joined", {"room": "r"})),
        ("enter", {"room": ""}, Said("left", {"room": "none"})),
        ("tenants", {"tenant": "a", "n": 1}, Said("tenants", {"tenant": "A", "n": 1})),
        ("fails", {}, Said("error", {"code": "sold_out", "errors": [
            {"type": "sold_out", "loc": [], "msg": "none is left"}]})),
    ],
)  # fmt: skip
def test_requests_and_replies(wire: Wire, type_: str, data: Any, answer: Said) -> None:
    """A request is understood, and answered, in the envelope of the class, with its `ref` and without."""
    app = within(App, wire)
    first, second = talk(app, wire.write(type_, data, 7), wire.write(type_, data, "a-1")).answers
    assert wire.read(first) == answer._replace(ref=7)
    assert wire.read(second) == answer._replace(ref="a-1")
    assert wire.read(ask(app, wire.write(type_, data))) == answer


@pytest.mark.parametrize("wire", WIRES, ids=named)
@pytest.mark.parametrize(
    ("type_", "data", "kind", "loc"),
    [
        ("say", {"msg": 5}, "string_type", ["msg"]),
        ("say", {}, "missing", ["msg"]),
        ("say", {"msg": "hi", "m": 1}, "extra_forbidden", ["m"]),
        ("at", {"when": "x", "point": {"x": 1}}, "datetime_from_date_parsing", ["when"]),
        ("at", {"when": "2020-01-01T00:00:00", "point": {"x": "q"}}, "int_parsing", ["point", "x"]),
        ("lazy", {"since": "x"}, "date_from_datetime_parsing", ["since"]),
        ("tenants", {"tenant": 1, "n": 1}, "string_type", ["tenant"]),
    ],
)
def test_errors_name_the_place_in_the_frame(wire: Wire, type_: str, data: Any, kind: str, loc: list[Any]) -> None:
    """`loc` begins with where the fields stand in what the client has sent."""
    said = wire.read(ask(within(App, wire), wire.write(type_, data, 7)))
    assert (said.type, said.ref, said.data["code"]) == ("error", 7, "validation_error")
    assert [(error["type"], error["loc"]) for error in said.data["errors"]] == [(kind, [*wire.place, *loc])]


@pytest.mark.parametrize("wire", OTHERS, ids=named)
def test_pushes(wire: Wire) -> None:
    """Named by the tag, the Literal, the dict's `type`, else the class; what says the name is not among the data."""
    assert [wire.read(each) for each in talk(within(App, wire), wire.write("pushes")).answers] == [
        Said("point", {"x": 1, "y": 0}),
        Said("joined", {"room": "r"}),
        Said("left", {"room": "r"}),
        Said("noted", {"n": 1}),
        Said("shape", {"type": "round", "size": 3}),
    ]


@pytest.mark.parametrize("wire", OTHERS, ids=named)
def test_a_plain_type_is_data(wire: Wire) -> None:
    """A field `type: str` does not name a reply, though it does where it stands beside the name."""
    assert wire.read(ask(within(App, wire), wire.write("shape"))) == Said("shape", {"type": "round", "size": 3})
    assert ask(App, {"type": "shape"}) == {"type": "round", "size": 3}


def test_the_type_key_of_a_reply_names_it() -> None:
    """In a flat envelope, as `type` does in the default one; of pushes, too."""

    class Moved(BaseModel):
        action: Literal["moved"] = "moved"
        type: str

    class Board(Endpoint):
        envelope = Envelope(type="action")

        @event
        async def move(self, kind: str) -> Any:
            await self.send(Moved(type=kind))
            await self.send({"action": "sent", "type": kind})
            return {"action": "replied", "type": kind}

        @event
        async def move_model(self, kind: str) -> Moved:
            return Moved(type=kind)

    assert talk(Board, {"action": "move", "kind": "circle"}, {"action": "move_model", "kind": "x"}).answers == [
        {"action": "moved", "type": "circle"},
        {"action": "sent", "type": "circle"},
        {"action": "replied", "type": "circle"},
        {"action": "moved", "type": "x"},
    ]


def test_the_type_key_counts_more_than_a_type() -> None:
    """In a flat envelope, for all replies of an event where one of their classes has it; no key comes twice."""

    class Moved(BaseModel):
        action: Literal["moved"] = "moved"
        x: int

    class Board(Endpoint):
        envelope = Envelope(type="action")

        @event
        async def move(self, x: int) -> Moved | Left:
            return Moved(x=x) if x else Left(room="r")

    assert ask(Board, {"action": "move", "x": 1}) == {"action": "moved", "x": 1}
    assert ask(Board, {"action": "move", "x": 0}) == {"action": "move", "type": "left", "room": "r"}
    frame = Envelope(type="action").framing("ref").frame(b'{"type":"posted","action":"x","n":1}')
    assert frame == b'{"action":"posted","n":1}'


VALUES: list[tuple[Any, Any, Any]] = [
    (int, 5, 5),
    (list[Point], [Point(x=1)], [{"x": 1, "y": 0}]),
    (list[Joined], [Joined("r")], [{"type": "joined", "room": "r"}]),
    (dict[str, Point], {"type": Point(x=2)}, {"type": {"x": 2, "y": 0}}),
    (str, "null", "null"),
    (bool, False, False),
    (Any, [1, {"a": None}], [1, {"a": None}]),
    (Any, {"type": "x", "ref": 1, "event": 2}, {"type": "x", "ref": 1, "event": 2}),
]


@pytest.mark.parametrize("wire", [NESTED, ARRAY], ids=named)
@pytest.mark.parametrize(("declared", "value", "data"), VALUES, ids=str)
def test_a_data_part_may_be_any_value(wire: Wire, declared: Any, value: Any, data: Any) -> None:
    """What no flat message can be is a reply where the data have a part of their own; no key of it is reserved."""

    class Giving(Endpoint):
        envelope = wire.envelope

        async def give(self) -> Any:
            return value

        give.__annotations__["return"] = declared
        give = event(give)  # type: ignore[assignment]  # whose annotation is known by now

    assert wire.read(ask(Giving, wire.write("give", None, 3))) == Said("give", data, 3)


@pytest.mark.parametrize("declared", [int, list[Point], str], ids=str)
def test_a_flat_reply_is_an_object(declared: Any) -> None:
    """Whatever its keys are called."""

    async def give() -> Any: ...

    give.__annotations__["return"] = declared
    with pytest.raises(DefinitionError, match="is no object"):
        type("App", (Endpoint,), {"envelope": RENAMED.envelope, "give": staticmethod(event(give))})


def test_a_reply_that_is_not_valid_is_told() -> None:
    """With the places of the value itself: the frame is the server's."""

    class Giving(Endpoint):
        envelope = NESTED.envelope

        @event
        async def give(self) -> list[int]:
            return ["x"]  # type: ignore[list-item]  # on purpose

        @event
        async def nan(self) -> Any:
            return object()

    first, second = talk(Giving, {"event": "give"}, {"event": "nan"}).answers
    assert first["payload"]["code"] == second["payload"]["code"] == "response_error"
    assert first["payload"]["errors"][0]["loc"] == ["response", 0]


# ---------------------------------------------------------------------- what no parameter may be called


@pytest.mark.parametrize("wire", [NESTED, ARRAY], ids=named)
def test_parameters_may_be_called_as_the_envelopes_keys(wire: Wire) -> None:
    """In a part of their own they are beside nothing."""

    class Free(Endpoint):
        envelope = wire.envelope

        @event
        async def take(self, type: str, ref: int, event: str, data: int = 1) -> Any:
            return {"type": type, "ref": ref, "event": event, "data": data}

    data = {"type": "t", "ref": 1, "event": "e", "data": 2}
    assert wire.read(ask(Free, wire.write("take", data, 9))) == Said("take", data, 9)


@pytest.mark.parametrize("name", ["action", "requestId"])
def test_a_flat_envelopes_keys_are_reserved(name: str) -> None:
    """`type` and `ref` are free there instead."""

    def take(value: int) -> None: ...

    parameter = Annotated[int, Field(alias=name)]
    take.__annotations__["value"] = parameter
    with pytest.raises(DefinitionError, match=f"the key '{name}' is reserved"):
        type("App", (Endpoint,), {"envelope": RENAMED.envelope, "take": staticmethod(event(take))})

    class Free(Endpoint):
        envelope = RENAMED.envelope

        @event
        async def take(self, type: str, ref: int) -> Any:
            return {"type": type, "ref": ref}

    frame = {"action": "take", "requestId": 1, "type": "t", "ref": 2}
    assert ask(Free, frame) == {"action": "take", "requestId": 1, "type": "t", "ref": 2}


# ---------------------------------------------------------------------- whole messages


class Whole(EventMessage):
    type: Literal["whole"]
    n: int


@pytest.mark.parametrize("wire", WIRES, ids=named)
def test_a_whole_message_has_its_type_and_its_fields(wire: Wire) -> None:
    """An `EventMessage` is made of both, wherever they stand; what is wrong with it is told in its place."""

    class Taking(Endpoint):
        envelope = wire.envelope

        @event
        async def take(self, message: Whole) -> Any:
            return {"got": [message.type, message.n]}

    app = Taking
    assert wire.read(ask(app, wire.write("whole", {"n": "5"}, 1))) == Said("whole", {"got": ["whole", 5]}, 1)
    said = wire.read(ask(app, wire.write("whole", {"n": "x"})))
    assert said.data["errors"][0]["loc"] == [*wire.place, "n"]


@pytest.mark.parametrize("given", [[1], 5, "x", True, [1e300]], ids=str)
@pytest.mark.parametrize("wire", [NESTED, ARRAY], ids=named)
def test_a_whole_message_in_no_object(wire: Wire, given: Any) -> None:
    """It is told as for parameters, and is nothing that the server would log."""

    class Taking(Endpoint):
        envelope = wire.envelope

        @event
        async def take(self, message: Whole) -> None: ...

    said = wire.read(ask(Taking, wire.write("whole", given, 1)))
    assert (said.ref, said.data["code"]) == (1, "validation_error")
    assert said.data["errors"][0] == {
        "type": "dict_type", "loc": [*wire.place], "msg": "Input should be an object", "input": given,
    }  # fmt: skip


def test_a_model_of_whole_frames() -> None:
    """One that says its event at the type key of the envelope has all of the frame, its data part too."""

    class Payload(BaseModel):
        n: int

    class Join(BaseModel):
        event: Literal["join"]
        payload: Payload

    class Taking(Endpoint):
        envelope = NESTED.envelope

        @event
        async def take(self, message: Join) -> Any:
            return {"n": message.payload.n}

    good, bad = talk(
        Taking, {"event": "join", "ref": 1, "payload": {"n": 2}}, {"event": "join", "payload": {"n": "x"}}
    ).answers
    assert good == {"event": "join", "ref": 1, "payload": {"n": 2}}
    assert bad["payload"]["errors"][0]["loc"] == ["payload", "n"]


class Room(BaseModel):
    room: str


class Entered(BaseModel):
    event: Literal["entered"] = "entered"
    payload: Room


class Told(msgspec.Struct, tag_field="event", tag="told"):
    payload: Room | None = None


class Logged(BaseModel):
    """No frame: its `event` is one of its fields."""

    event: Literal["logged"] = "logged"
    level: int


class Frames(Endpoint):
    envelope = NESTED.envelope

    @event
    async def enter(self, room: str) -> Entered:
        return Entered(payload=Room(room=room))

    @event
    async def tell(self) -> Told | Entered:
        return Told()

    @event
    async def anything(self) -> Any:
        return Entered(payload=Room(room="r"))

    @event
    async def log(self) -> Logged:
        return Logged(level=1)

    @event
    async def pushes(self) -> None:
        for each in (Entered(payload=Room(room="r")), Told(), Logged(level=2)):
            await self.send(each)


def test_replies_and_pushes_that_are_frames() -> None:
    """A model that has the keys of a nested frame, and no others, is the whole frame, as hand-written loops send it."""
    app = Frames
    frames = [{"event": name, "ref": 1} for name in ("tell", "anything", "log", "pushes")]
    entered = {"event": "entered", "payload": {"room": "r"}}
    assert ask(app, {"event": "enter", "ref": 1, "payload": {"room": "r"}}) == {**entered, "ref": 1}
    assert talk(app, *frames).answers == [
        {"event": "told", "payload": None, "ref": 1},
        {**entered, "ref": 1},
        {"event": "log", "payload": {"event": "logged", "level": 1}, "ref": 1},
        entered,
        {"event": "told", "payload": {}},
        {"event": "logged", "payload": {"event": "logged", "level": 2}},
    ]


def test_frames_that_are_listed() -> None:
    """A dict gives such a message its data by itself."""
    app = type("App", (Frames,), {"emits": [Entered, Logged]})
    encode = app._declaration.encode_push  # type: ignore[attr-defined]  # of endpoints
    for given in (Entered(payload=Room(room="r")), {"type": "entered", "room": "r"}):
        assert json.loads(encode(given)) == {"type": "entered", "room": "r"}


# ---------------------------------------------------------------------- other keys


def test_other_keys_of_the_envelope_are_forbidden_or_ignored() -> None:
    """`extra` of a nested envelope is about the keys beside the data, and not about those of the data."""
    frame = {"event": "say", "v": 1, "ts": 2, "payload": {"msg": "hi"}}
    error = ask(within(App, NESTED), frame)["payload"]
    assert [(each["type"], each["loc"]) for each in error["errors"]] == [
        ("extra_forbidden", ["v"]), ("extra_forbidden", ["ts"])
    ]  # fmt: skip

    class Lax(App):
        envelope = Envelope(type="event", data="payload", extra="ignore")

    assert ask(Lax, frame) == {"event": "say", "payload": {"msg": "hi", "n": 3}}
    error = ask(Lax, {**frame, "payload": {"msg": "hi", "n": "x", "m": 1}})["payload"]
    assert [each["loc"] for each in error["errors"]] == [["payload", "n"], ["payload", "m"]]


def test_other_keys_of_a_flat_envelope() -> None:
    """They are all keys that no parameter takes, for the fast path and for pydantic."""

    class Lax(App):
        envelope = Envelope(extra="ignore")

    frame = {"type": "say", "v": 1, "msg": "hi"}
    assert talk(Lax, frame, {**frame, "n": "4"}).answers == [
        {"type": "say", "msg": "hi", "n": 3}, {"type": "say", "msg": "hi", "n": 4}
    ]  # fmt: skip


def test_other_keys_of_a_data_part() -> None:
    """The class's own `extra` is about them, and not about those of the envelope."""
    app = within(App, NESTED, extra="ignore")
    data = {"msg": "hi", "m": 1}
    assert ask(app, {"event": "say", "payload": data}) == {"event": "say", "payload": {"msg": "hi", "n": 3}}
    assert ask(app, {"event": "say", "payload": {**data, "n": "4"}})["payload"] == {"msg": "hi", "n": 4}
    assert ask(app, {"event": "say", "payload": data, "v": 1})["payload"]["code"] == "validation_error"


# ---------------------------------------------------------------------- a data part that is left out


@pytest.mark.parametrize("frame", [{"event": "lazy"}, {"event": "lazy", "payload": None}], ids=str)
def test_a_data_part_that_nobody_needs_may_be_left_out(frame: Any) -> None:
    """Or be null, where the handler has defaults for all; for one that takes nothing, too."""
    app = within(App, NESTED)
    assert ask(app, frame) == {"event": "lazy", "payload": {"since": "2020-01-01", "n": 1}}
    assert ask(app, {**frame, "event": "ping"}) == {"event": "ping", "payload": {}}


@pytest.mark.parametrize("frame", [["lazy"], ["lazy", 7], ["lazy", None, None], ["lazy", 7, None]], ids=str)
def test_trailing_parts_that_nobody_needs_may_be_left_out(frame: Any) -> None:
    """Of an array, or be null."""
    ref = frame[1] if len(frame) > 1 else None
    assert ask(within(App, ARRAY), frame) == ["lazy", ref, {"since": "2020-01-01", "n": 1}]


@pytest.mark.parametrize(
    ("wire", "frame", "kind"),
    [
        (NESTED, {"event": "say"}, "missing"),
        (NESTED, {"event": "say", "payload": None}, "dict_type"),
        (NESTED, {"event": "lazy", "payload": []}, "dict_type"),
        (NESTED, {"event": "lazy", "payload": "x"}, "dict_type"),
        (ARRAY, ["say"], "missing"),
        (ARRAY, ["say", None], "missing"),
        (ARRAY, ["say", None, None], "dict_type"),
        (ARRAY, ["lazy", None, 5], "dict_type"),
    ],
    ids=str,
)
def test_a_data_part_that_is_none(wire: Wire, frame: Any, kind: str) -> None:
    """Missing where it is needed, or no object: an error at its place."""
    said = wire.read(ask(within(App, wire), frame))
    assert [(each["type"], each["loc"]) for each in said.data["errors"]] == [(kind, [*wire.place])]


def test_defaults_are_made_for_each_message() -> None:
    """Also where the data part is left out; and a factory that fails is the application's bug, not the client's."""
    made: list[list[int]] = []

    def make() -> list[int]:
        if len(made) == 2:
            raise RuntimeError("no more")
        made.append([])
        return made[-1]

    class Making(Endpoint):
        envelope = NESTED.envelope

        @event
        async def make(self, values: Annotated[list[int], Field(default_factory=make)]) -> Any:
            values.append(1)
            return {"values": values}

    first, second, third = talk(Making, *[{"event": "make"}] * 3).answers
    assert first["payload"] == second["payload"] == {"values": [1]}
    assert third["payload"]["code"] == "internal_error"


# ---------------------------------------------------------------------- what is no message

MALFORMED: list[tuple[Wire, Any, str, Any, Any]] = [
    (RENAMED, [], "dict_type", [], None),
    (RENAMED, {}, "missing", ["action"], None),
    (RENAMED, {"type": "say", "requestId": 3}, "missing", ["action"], 3),
    (RENAMED, {"action": 5, "requestId": "a"}, "literal_error", ["action"], "a"),
    (RENAMED, {"action": None}, "literal_error", ["action"], None),
    (NESTED, "say", "dict_type", [], None),
    (NESTED, {"payload": {"event": "say"}}, "missing", ["event"], None),
    (NESTED, {"event": {"event": "say"}, "ref": 1}, "literal_error", ["event"], 1),
    (ARRAY, {}, "list_type", [], None),
    (ARRAY, [], "missing", [0], None),
    (ARRAY, [1, 7], "literal_error", [0], 7),
    (ARRAY, [None, 7, {}], "literal_error", [0], 7),
    (ARRAY, ["say", 7, {"msg": "hi"}, 4], "too_long", [], None),
    (ARRAY, [["say"], "x"], "literal_error", [0], "x"),
]


@pytest.mark.parametrize(("wire", "frame", "kind", "loc", "ref"), MALFORMED, ids=str)
def test_malformed_messages(wire: Wire, frame: Any, kind: str, loc: Any, ref: Any) -> None:
    """JSON that says no event is `malformed_message`, at its place in the envelope, with the `ref` if there is one."""
    said = wire.read(ask(within(App, wire), json.dumps(frame)))
    (error,) = said.data["errors"]
    assert (said.type, said.data["code"], said.ref) == ("error", "malformed_message", ref)
    assert (error["type"], error["loc"]) == (kind, loc)


@pytest.mark.parametrize("wire", WIRES, ids=named)
def test_unknown_events(wire: Wire) -> None:
    """They are told where the name stands, with the names that there are."""
    said = wire.read(ask(within(App, wire), wire.write("sing", {"a": 1}, 5)))
    (error,) = said.data["errors"]
    assert (said.data["code"], said.ref, error["loc"]) == ("unknown_event", 5, [wire_place(wire)])
    assert "say" in error["ctx"]["permitted"]


def wire_place(wire: Wire) -> Any:
    return {"flat": "type", "renamed": "action", "nested": "event"}.get(wire.name, 0)


@pytest.mark.parametrize("wire", WIRES, ids=named)
@pytest.mark.parametrize("ref", [1.5, True, [], {}, "x" * 65, 2**63], ids=str)
def test_a_ref_that_is_none(wire: Wire, ref: Any) -> None:
    """It is an error at its place, and nothing is answered with it."""
    said = wire.read(ask(within(App, wire), wire.write("say", {"msg": "hi"}, ref)))
    assert (said.data["code"], said.ref) == ("validation_error", None)
    assert said.data["errors"][0]["type"] == "ref_type"
    assert "input" not in said.data["errors"][0]


@pytest.mark.parametrize("wire", WIRES, ids=named)
def test_frames_that_are_no_json_end_the_connection(wire: Wire) -> None:
    """As in every envelope: 1003, and 1007 for bytes that are no UTF-8."""
    app = within(App, wire)
    assert talk(app, "[", code=None).closed == 1003
    assert talk(app, wire.write("say", {"msg": "hi"})[:-1], code=None).closed == 1003
    assert talk(app, b"\xff", code=None).closed == 1007


@pytest.mark.parametrize("wire", OTHERS, ids=named)
@pytest.mark.parametrize("data", [{"msg": "s3cret", "n": "s3cret"}, {"s3cret": 1, "msg": ["s3cret"]}], ids=str)
def test_nothing_of_the_input_comes_back(wire: Wire, data: Any) -> None:
    """With `include_input=False`; the places of the envelope are told, keys of the client's are not."""
    said = wire.read(ask(within(App, wire, include_input=False), wire.write("say", data)))
    assert "s3cret" not in json.dumps(said.data)
    assert {tuple(each["loc"][: len(wire.place)]) for each in said.data["errors"]} == {wire.place}


# ---------------------------------------------------------------------- the class


def test_a_subclass_may_change_the_envelope() -> None:
    """Everything is compiled anew, and the base stays as it was."""

    class Base(App):
        envelope = RENAMED.envelope

    class Sub(Base):
        envelope = ARRAY.envelope

    assert ask(Base, RENAMED.write("say", {"msg": "hi"}, 1)) == {"action": "say", "requestId": 1, "msg": "hi", "n": 3}
    assert ask(Sub, ARRAY.write("say", {"msg": "hi"}, 1)) == ["say", 1, {"msg": "hi", "n": 3}]
    assert ask(App, FLAT.write("say", {"msg": "hi"}, 1)) == {"type": "say", "ref": 1, "msg": "hi", "n": 3}


def test_the_ref_key_is_the_short_form() -> None:
    """It counts where the envelope has none of its own, and for whichever class is nearer."""

    class Short(App):
        ref_key = "id"
        envelope = Envelope(type="action")

    class Whole(Short):
        envelope = Envelope(type="action", ref="rid")

    class Mixin:
        ref_key = "mid"

    class Mixed(Mixin, Whole): ...

    for app, key in [(Short, "id"), (Whole, "rid"), (Mixed, "mid")]:
        assert ask(app, {"action": "ping", key: 1}) == {"action": "ping", key: 1}


def test_two_keys_for_the_ref_are_refused() -> None:
    """The same twice is fine."""
    type("App", (App,), {"envelope": Envelope(ref="id"), "ref_key": "id"})
    with pytest.raises(DefinitionError, match="its ref_key is 'id', that of its envelope 'rid'"):
        type("App", (App,), {"envelope": Envelope(ref="rid"), "ref_key": "id"})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"type": ""}, "'' is no key"),
        ({"type": 'a"b'}, "is no key"),
        ({"ref": "a\nb"}, "is no key"),
        ({"data": "\ud800"}, "is no key"),
        ({"type": 5}, "5 is no key"),
        ({"type": "a", "ref": "a"}, "two things cannot be at the key 'a'"),
        ({"type": "a", "data": "a"}, "two things cannot be at the key 'a'"),
        ({"extra": "allow"}, "extra is 'allow'"),
    ],
    ids=str,
)
def test_envelopes_that_cannot_be(arguments: Any, told: str) -> None:
    """They are refused where they are written."""
    with pytest.raises(DefinitionError, match=told):
        Envelope(**arguments)


@pytest.mark.parametrize("parts", [(), ("type",), ("ref", "type", "data"), ("type", "data", "data"), ("type", "id")])
def test_arrays_that_cannot_be(parts: Any) -> None:
    """The name comes first, and the data have a place."""
    with pytest.raises(DefinitionError, match="there is no such array"):
        ArrayEnvelope(*parts)


def test_a_key_of_the_class_that_is_taken() -> None:
    """By the envelope, as `ref_key`."""
    with pytest.raises(DefinitionError, match="two things cannot be at the key 'event'"):
        type("App", (App,), {"envelope": NESTED.envelope, "ref_key": "event"})


@pytest.mark.parametrize("given", [None, "type", Envelope, {"type": "action"}], ids=str)
def test_what_is_no_envelope(given: Any) -> None:
    """It is refused when the class is created."""
    with pytest.raises(DefinitionError, match="it is Envelope"):
        type("App", (App,), {"envelope": given})


def test_the_envelope_is_read_once() -> None:
    """Assigning another one later would change nothing, and says so."""
    with pytest.raises(DefinitionError, match="App.envelope is read when the class is created"):
        App.envelope = RENAMED.envelope


def test_the_error_frames_of_old_stand_in_no_data_part() -> None:
    """Their clients know flat ones only."""
    app = type("App", (App,), {"envelope": RENAMED.envelope, "legacy_errors": True})
    assert ask(app, {"action": "fails"}).keys() == {"errors"}
    with pytest.raises(DefinitionError, match="legacy_errors"):
        type("App", (App,), {"envelope": NESTED.envelope, "legacy_errors": True})


def test_envelopes_are_values() -> None:
    """Equal ones are the same for broadcasts; they say what they are."""
    assert Envelope(type="a") == Envelope(type="a") != Envelope(type="b")
    assert repr(ArrayEnvelope("type", "data")) == "ArrayEnvelope('type', 'data')"
    assert len({ArrayEnvelope("type", "data"), ArrayEnvelope("type", "data")}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Envelope().type = "x"  # type: ignore[misc]  # it is frozen


def test_an_envelope_without_ref() -> None:
    """What comes has none, and what goes out has none."""

    class Mute(App):
        envelope = ArrayEnvelope("type", "data")

    assert talk(Mute, ["say", {"msg": "hi"}], ["ping"], ["say", {"msg": "hi"}, 1]).answers[:2] == [
        ["say", {"msg": "hi", "n": 3}],
        ["ping", {}],
    ]


class Odd(BaseModel):
    x: float = float("nan")

    model_config = {"ser_json_inf_nan": "constants"}


class Odder(Endpoint):
    @event
    async def nan(self) -> Odd:
        return Odd()

    @event
    async def nan_in_dict(self) -> Any:
        return {"odd": float("nan")}

    @event('quo"te\\')
    async def quote(self) -> dict[str, Any]:
        return {"a": 1}

    @event(response_model=Point, response_model_exclude={"y"})
    async def less(self) -> Any:
        return {"x": 1, "y": 2}

    @event
    async def no_object(self) -> None:
        await self.send([1])


@pytest.mark.parametrize("wire", OTHERS, ids=named)
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("nan_in_dict", Said("nan_in_dict", {"odd": None}, 7)),
        ('quo"te\\', Said('quo"te\\', {"a": 1}, 7)),
        ("less", Said("less", {"x": 1}, 7)),
    ],
)
def test_odd_replies(wire: Wire, name: str, answer: Said) -> None:
    """Names that need escapes, options of the response model, numbers that JSON has not."""
    assert wire.read(ask(within(Odder, wire), wire.write(name, None, 7))) == answer


@pytest.mark.parametrize("wire", WIRES, ids=named)
@pytest.mark.parametrize(("name", "kind"), [("nan", "serialization_error"), ("no_object", "dict_type")])
def test_what_no_message_can_be(wire: Wire, name: str, kind: str) -> None:
    """It is told as a `response_error`, and the connection lives on."""
    said = wire.read(ask(within(Odder, wire), wire.write(name, None, 7)))
    assert (said.ref, said.data["code"]) == (7, "response_error")
    assert [error["type"] for error in said.data["errors"]] == [kind]


@pytest.mark.parametrize("wire", WIRES, ids=named)
def test_respond(wire: Wire) -> None:
    """An override is given what the handler gives, valid, and what it passes on stands in the envelope."""
    given: list[Any] = []

    class Responding(App):
        async def respond(self, response: Any) -> None:
            given.append(response)
            await super().respond(response)

    app = within(Responding, wire)
    for type_, data, answer in [
        ("enter", {"room": "r"}, Said("joined", {"room": "r"}, 1)),
        ("model", {"x": 1}, Said("model", {"x": 1, "y": 0}, 1)),
        ("say", {"msg": "hi"}, Said("say", {"msg": "hi", "n": 3}, 1)),
    ]:
        assert wire.read(ask(app, wire.write(type_, data, 1))) == answer
    assert given == [Joined("r"), Point(x=1), {"msg": "hi", "n": 3}]


SHAPES: list[tuple[Any, Any, Any]] = [
    (
        Envelope(type="action", data="data"),
        {"action": "say", "data": {"msg": "hi"}},
        {"action": "say", "data": {"msg": "hi", "n": 3}},
    ),
    (
        Envelope(ref="requestId", data="payload", extra="ignore"),
        {"type": "say", "requestId": "a1", "ts": 1, "payload": {"msg": "hi"}},
        {"type": "say", "requestId": "a1", "payload": {"msg": "hi", "n": 3}},
    ),
    (
        Envelope(type="cmd", ref="id", extra="ignore"),
        {"cmd": "say", "id": 4, "v": 2, "msg": "hi"},
        {"cmd": "say", "id": 4, "msg": "hi", "n": 3},
    ),
    (ArrayEnvelope("type", "data"), ["say", {"msg": "hi"}], ["say", {"msg": "hi", "n": 3}]),
]


@pytest.mark.parametrize(("envelope", "frame", "answer"), SHAPES, ids=str)
def test_shapes_of_public_backends(envelope: Any, frame: Any, answer: Any) -> None:
    """What a whiteboard, a device control, a messenger and an event stream send, as they send it."""
    assert ask(type("App", (App,), {"envelope": envelope}), frame) == answer
