"""Models as messages in the contract: each member of a union is published as the event that it is."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

from socketsundso import ArrayEnvelope, Endpoint, Envelope, EventMessage, event
from socketsundso.contract import api_of
from tests.contract.clients import load


class Join(BaseModel):
    """Enter a room."""

    type: Literal["join"]
    room: Annotated[str, Field(description="Which one.")]
    n: int = 0


class Leave(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["leave"] = "leave"
    ref: int | None = None


class Struct(msgspec.Struct, tag_field="type", tag="join"):
    room: Annotated[str, msgspec.Meta(description="Which one.")]
    n: int = 0


@dataclasses.dataclass
class Plain:
    type: Literal["join"]
    room: Annotated[str, Field(description="Which one.")]
    n: int = 0


ClientMessage = Annotated[Join | Leave, Field(discriminator="type")]


class Root(RootModel[ClientMessage]): ...


class Circle(BaseModel):
    type: Literal["draw"]
    shape: Literal["circle"]
    radius: float


class Square(BaseModel):
    type: Literal["draw"]
    shape: Literal["square"]
    side: float


Drawn = Annotated[Circle | Square, Field(discriminator="shape")]
ROOM = {"type": "string", "description": "Which one."}


def app(annotation: Any) -> type[Endpoint]:
    async def handle(self: Any, msg: Any) -> Any: ...

    handle.__annotations__["msg"] = annotation
    return type("App", (Endpoint,), {"handle": event(handle)})


def received(annotation: Any) -> dict[str, Any]:
    (channel,) = api_of(app(annotation)).channels
    return {receive.event: receive.schema for receive in channel.receives}


@pytest.mark.parametrize("annotation", [Join, Struct, Plain, ClientMessage, Root])
def test_the_model_is_published_without_the_envelope(annotation: Any) -> None:
    """Its own fields and its own openness, whatever it is behind."""
    schema = received(annotation)["join"]
    assert schema["properties"] == {"room": ROOM, "n": {"type": "integer", "default": 0}}
    assert (schema["required"], schema.get("additionalProperties", True)) == (["room"], True)


@pytest.mark.parametrize("annotation", [ClientMessage, Root])
def test_each_member_is_an_event(annotation: Any) -> None:
    """A `ref` that a model declares is the envelope's in the contract."""
    found = received(annotation)
    assert list(found) == ["join", "leave"]
    assert found["leave"] == {"type": "object", "additionalProperties": False}


def test_the_docstring_of_a_member_tells_of_its_event() -> None:
    """Else the handler's own, which is that of all its events."""

    class App(Endpoint):
        @event
        async def handle(self, msg: ClientMessage) -> Any:
            """Of all."""

    class One(Endpoint):
        @event
        async def handle(self, msg: Join) -> Any:
            """Of the handler."""

    class Silent(Endpoint):
        @event
        async def handle(self, msg: Join) -> Any: ...

    told = [[each.summary for each in api_of(app).channels[0].receives] for app in (App, One, Silent)]
    assert told == [["Enter a room.", "Of all."], ["Of the handler."], ["Enter a room."]]


def test_what_shares_an_event_is_a_choice() -> None:
    """Each alternative whole."""
    schema = received(Annotated[Drawn | Join, Field(discriminator="type")])["draw"]
    document = app(Drawn).asyncapi()
    (alternatives,) = [each["anyOf"] for name, each in document["components"]["schemas"].items() if name == "app.draw"]
    assert len(schema["anyOf"]) == 2
    assert [each["required"] for each in alternatives] == [["type", "shape", "radius"], ["type", "shape", "side"]]


def test_parameters_of_a_class_that_ignores_what_it_does_not_know_are_open() -> None:
    """And those that are renamed have the keys that clients send."""

    class App(Endpoint):
        extra = "ignore"
        alias_generator = staticmethod(str.upper)

        @event
        async def on_say(self, text: str) -> Any: ...

    (channel,) = api_of(App).channels
    assert channel.receives[0].schema == {
        "type": "object",
        "properties": {"TEXT": {"type": "string"}},
        "required": ["TEXT"],
    }


def test_a_generated_client_has_a_method_for_each() -> None:
    """With the fields of the model, and none for one that has none."""
    import inspect

    module = load(api_of(app(Annotated[Drawn | Join | Leave, Field(discriminator="type")])))
    arguments = {name: list(inspect.signature(getattr(module.App, name)).parameters)[1:3] for name in ("draw", "join")}
    assert arguments == {"draw": ["fields", "timeout_s"], "join": ["room", "n"]}
    assert "fields" not in inspect.signature(module.App.leave).parameters


class Payload(BaseModel):
    room: str


class Evented(BaseModel):
    event: Literal["join"]
    payload: Payload


class Left(BaseModel):
    event: Literal["leave"]
    v: int = 1


class Acting(BaseModel):
    action: Literal["join"]
    requestId: int | None = None  # the name on the wire
    type: str


class Said(EventMessage):
    type: Literal["said"]
    room: str


@pytest.mark.parametrize(
    ("wanted", "annotation", "properties"),
    [
        (Envelope(type="action", ref="requestId"), Acting, {"join": {"type": {"type": "string"}}}),
        (
            Envelope(type="event", data="payload"),
            Evented | Left,
            {"join": {"$ref": "#/components/schemas/Payload"}, "leave": {"type": "object"}},
        ),
        (Envelope(type="event", data="payload"), Said, {"said": {"room": {"type": "string"}}}),
        (Envelope(type="action"), Said, {"said": {"room": {"type": "string"}}}),
        (ArrayEnvelope("type", "data"), Said, {"said": {"room": {"type": "string"}}}),
    ],
    ids=str,
)
def test_in_other_envelopes(wanted: Any, annotation: Any, properties: Any) -> None:
    """What is published is what stands in the data part, or beside the envelope's own keys."""

    class App(Endpoint):
        envelope = wanted

        @event
        async def handle(self, msg: annotation) -> Any: ...

    (channel,) = api_of(App).channels
    found = {receive.event: dict(receive.schema) for receive in channel.receives}
    assert {name: schema.get("properties", schema) for name, schema in found.items()} == properties
