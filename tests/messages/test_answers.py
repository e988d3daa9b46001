"""An answer is the message with its `ref`, whoever writes both at once: the same bytes in JSON, the same in others."""

from __future__ import annotations

import enum
import math
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field

from socketsundso import ArrayEnvelope, Endpoint, Envelope, JsonRpc, event
from socketsundso.messages import ResponseOptions, encoder_for, replies


class Plain(BaseModel):
    text: str
    number: int | None = None
    share: float = 0.5


class Named(BaseModel):
    type: Literal["posted"] = "posted"
    text: str = 'an "escape" \n'


class Quoted(BaseModel):
    text: str = Field("key", serialization_alias='a "quoted" key\\')


class Nothing(BaseModel):
    pass


class Circle(BaseModel):
    shape: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(BaseModel):
    shape: Literal["square"] = "square"
    side: int = 1


class Within(BaseModel):
    plain: Plain
    rest: list[int] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Whole(BaseModel):
    event: Literal["whole"] = "whole"
    payload: int = 1


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.Enum):
    LARGE = 1.5


class Bare(msgspec.Struct):
    text: str
    number: int | None = None


class Tagged(msgspec.Struct, tag="tagged", tag_field="type"):
    text: str
    share: float = 0.5


class Renaming(msgspec.Struct, rename={"text": "theText"}):
    text: str = "renamed"


class Omitting(msgspec.Struct, omit_defaults=True):
    text: str = "left out"


class Empty(msgspec.Struct):
    pass


class Listing(msgspec.Struct):
    texts: list[str]
    bare: Bare


class Nesting(msgspec.Struct):
    bare: Bare
    tagged: Tagged | None = None
    shares: list[float] = []
    bares: list[Bare] = []
    named: dict[str, Bare] = {}
    rest: dict[str, int | None] = {}
    omitting: Omitting | None = None


class Branch(msgspec.Struct):
    branches: list[Branch]


class WholeStruct(msgspec.Struct, tag="whole", tag_field="event"):
    payload: int


class Heir(Bare):
    more: str = "is not declared"


Shape = Annotated[Circle | Square, Field(discriminator="shape")]
PLAIN, BARE = Plain(text="é", number=2**53), Bare("é", 2**63)

VALUES: list[tuple[Any, list[Any]]] = [
    (Plain, [PLAIN, Plain(text="x"), {"text": "of a dict"}, Plain(text="x", share=math.inf), Plain(text="\ud800")]),
    (Plain, [Plain.model_construct(text=Colour.RED, number=True, share=1), Plain(text="x", number=2**80)]),
    (Named, [Named()]),
    (Quoted, [Quoted()]),
    (Nothing, [Nothing()]),
    (Shape, [Circle(radius=1e300), Square(), {"shape": "square"}]),
    (Plain | Named, [PLAIN, Named()]),
    (Within, [Within(plain=PLAIN)]),
    (Open, [Open.model_validate({"more": 1})]),
    (Whole, [Whole()]),
    (Bare, [BARE, Bare("\x7f"), Heir("x"), {"text": "of a dict"}, Bare([1], {"a": math.nan})]),  # type: ignore[arg-type]
    (Tagged, [Tagged("x"), Tagged("x", math.nan), Tagged("x", -0.0)]),
    (Renaming, [Renaming()]),
    (Omitting, [Omitting(), Omitting("given")]),
    (Empty, [Empty()]),
    (Listing, [Listing(["a"], BARE), Listing(["a"], Heir("x")), Listing([5, None], BARE), Listing([b"a"], BARE)]),  # type: ignore[list-item]
    (Nesting, [Nesting(BARE), Nesting(BARE, Tagged("x"), [1.5], [BARE], {"a": BARE}, {"b": None}), Nesting(Heir("x"))]),
    (Nesting, [Nesting(BARE, shares=[math.nan]), Nesting(BARE, bares=[BARE, Heir("x")]), Nesting(BARE, bares=(BARE,))]),  # type: ignore[arg-type]
    (Nesting, [Nesting(BARE, named={1: BARE}), Nesting(BARE, rest={"a": 1.0}), Nesting(BARE, rest={Colour.RED: 1})]),  # type: ignore[dict-item]
    (Nesting, [Nesting(BARE, omitting=Omitting()), Nesting(BARE, omitting=Omitting("x")), Nesting(None)]),  # type: ignore[arg-type]
    (Branch, [Branch([Branch([])])]),
    (WholeStruct, [WholeStruct(2)]),
    (Bare | Plain, [BARE, PLAIN]),
    (
        None,
        [{}, {"a": 1, "b": "é", "c": None}, {"a": math.nan}, {"a": [1]}, {"type": "own", "a": 1}, {1: 2}, {"a": 2**70}],
    ),
    (
        None,
        [{"a": None, "b": [None]}, {"a": "null", "b": None}, {"a": {"b": [math.inf]}, "c": None}, {"a": (1, [True])}],
    ),
    (
        None,
        [{"a": Size.LARGE, "b": [Colour.RED]}, {"a": UUID(int=5)}, {"a": [date(2020, 1, 1)]}, {"a": {"b": b"bytes"}}],
    ),
    (
        None,
        [{"a": {1: 2}}, {"a": [{Colour.RED: 1}]}, {"a": [PLAIN, BARE]}, {"a": ["\ud800"]}, {Colour.RED: 1, "b": [2]}],
    ),
    (None, [{"a": Colour.RED, "b": 1.5}, PLAIN, BARE, Tagged("x"), {str(n): n for n in range(20)}]),
]

ENVELOPES: dict[str, Any] = {
    "flat": Envelope(),
    "renamed": Envelope(type="action", ref="requestId"),
    "nested": Envelope(type="event", data="payload"),
    "arrays": ArrayEnvelope("type", "ref", "data"),
    "arrays, data first": ArrayEnvelope("type", "data", "ref"),
    "arrays without a ref": ArrayEnvelope("type", "data"),
    "json-rpc": JsonRpc(),
}

REFS = [7, -(2**63), 2**63 - 1, "", 'a "quoted" é', "\x00"]


def tried(write: Any, *arguments: Any) -> Any:
    """What is written, or the class and the text of what is raised."""
    try:
        return write(*arguments)
    except Exception as exc:
        return type(exc), str(exc)


@pytest.mark.parametrize("name", ENVELOPES)
def test_an_answer_is_the_message_with_its_ref(name: str) -> None:
    """Every kind of reply, in every envelope and codec; what cannot be written is refused in the same words."""

    class App(Endpoint):
        envelope = ENVELOPES[name]
        codecs = ["json"] if name == "json-rpc" else ["json", "msgpack"]

    for number, (model, _) in enumerate(VALUES):

        def answer() -> Any: ...

        App.attach_handler(event(f"event {number}", response_model=model, thread=False)(answer))
    routes = App._definition.decoder.routes
    (packed,) = [each.decoder.routes for each in App._packed.values()] or [{}]
    for number, (model, values) in enumerate(VALUES):
        for value in values:
            for ref in REFS:
                where = f"{model} {value!r} {ref!r}"
                route = routes[f"event {number}"]
                expected = tried(route.encode_with_ref, value, ref)
                answered = tried(route.encode_answer, value, ref)
                assert answered == expected, where
                if packed and isinstance(answered, bytes):
                    said = tried(packed[f"event {number}"].encode_answer, value, ref)
                    assert msgspec.msgpack.decode(said) == msgspec.json.decode(answered), where
                elif packed:
                    assert tried(packed[f"event {number}"].encode_answer, value, ref) == answered, where


@pytest.mark.parametrize(("model", "values"), VALUES)
def test_what_is_written_at_once_is_what_the_careful_way_writes(
    model: Any, values: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every envelope."""
    for envelope in ENVELOPES.values():
        framing = envelope.framing("ref")
        encode = encoder_for("event", model, ResponseOptions(), framing).encode
        with monkeypatch.context() as patch:
            for name in ("struct_encode", "plain_encode"):
                patch.setattr(replies, name, lambda *_, **__: None)
            carefully = encoder_for("event", model, ResponseOptions(), framing).encode
        for value in values:
            assert tried(encode, value) == tried(carefully, value), (envelope, value)


def test_a_ref_is_written_once_by_who_is_counted_too() -> None:
    """Whoever is put around `encode` sees the reply without its `ref`, and the ref is there all the same."""

    class App(Endpoint):
        @event(thread=False)
        def on_plain(self) -> Plain: ...

    route = App._definition.decoder.routes["plain"]
    assert route.encode_with_ref(PLAIN, 7) == route.encode_answer(PLAIN, 7) == route.encode(PLAIN)[:-1] + b',"ref":7}'
