"""An endpoint class as its channel: what it declares, and nothing that it does not do."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, RootModel
from starlette.testclient import TestClient
from typing_extensions import TypedDict

from socketsundso import (
    Depends,
    Endpoint,
    EventError,
    EventMessage,
    Keep,
    RateLimit,
    SharedRateLimit,
    WebSocketHandlingEndpoint,
    event,
    scopes,
)
from socketsundso.contract import Api, ContractError, api_of, document, dump, read
from socketsundso.contract.model import Channel, Error, Features, Receive, Wire
from socketsundso.security import APIKeyQuery, HTTPBearer

T = TypeVar("T")


class Bought(BaseModel):
    """
    It was bought.

    And it is yours.
    """

    id: int


class Cat(BaseModel):
    type: Literal["cat"] = "cat"
    lives: int


class Dog(msgspec.Struct, tag_field="type", tag="dog"):
    name: str


class Kind(TypedDict):
    type: Literal["created", "updated"]
    id: int


@dataclasses.dataclass
class Plain:
    n: int


class Aliased(BaseModel):
    kind: Literal["aliased"] = Field("aliased", alias="type")


class Page(BaseModel, Generic[T]):
    items: list[T]


class Counts(RootModel[dict[str, int]]): ...


class Node(BaseModel):
    value: int
    children: list[Node] = []


class Say(EventMessage):
    type: Literal["x"]
    msg: str


def first(skip: int = 0) -> int:
    return skip


class SoldOut(EventError):
    """Fewer are left than were asked for."""

    code = "sold_out"
    left: int


def channel_of(endpoint: Any) -> Channel:
    (channel,) = api_of(endpoint).channels
    return channel


def receive_of(function: Any = None, /, *, endpoint: Any = Endpoint, name: str = "x", **options: Any) -> Receive:
    """Of a handler of the event `x`."""
    cls = type("App", (endpoint,), {"on_x": event(name, **options)(function)})
    return next(each for each in channel_of(cls).receives if each.event == name)


def codes_of(endpoint: Any) -> set[str]:
    return {each.code for each in channel_of(endpoint).errors}


# ---- what clients send


def test_an_event_is_told_with_its_words_and_those_of_its_parameters() -> None:
    """The docstring's first paragraph is the summary; what is behind a form feed is for who reads the code."""

    async def buy(self: Any, symbol: Annotated[str, Field(description="Of what.", examples=["X"])], n: int = 1) -> None:
        """
        Buy something, `<b>now</b>`,
        or later.

        There is *more* to say.
        \f
        Not to everybody.
        """

    told = receive_of(buy)
    assert (told.summary, told.description) == ("Buy something, `<b>now</b>`, or later.", "There is *more* to say.")
    assert told.schema == {
        "type": "object",
        "properties": {
            "symbol": {"type": "string", "description": "Of what.", "examples": ["X"]},
            "n": {"type": "integer", "default": 1},
        },
        "required": ["symbol"],
        "additionalProperties": False,
    }


def test_what_an_event_is_told_by_its_decorator_counts_more_than_its_docstring() -> None:
    async def buy(self: Any) -> None:
        """Unheard."""

    told = receive_of(buy, summary="Buy.", description="Or not.", deprecated=True, tags=["b", "a"])
    assert (told.summary, told.description, told.deprecated, told.tags) == ("Buy.", "Or not.", True, ("b", "a"))


def test_tags_of_the_class_come_first_and_each_once() -> None:
    class Tagged(Endpoint):
        tags = ["shop"]

    assert receive_of(lambda self: None, endpoint=Tagged, tags=["a", "shop"]).tags == ("shop", "a")


def test_parameters_of_dependencies_are_fields_and_what_they_make_is_not() -> None:
    async def rows(self: Any, table: str, page: Annotated[int, Depends(first)]) -> None: ...

    assert set(receive_of(rows).schema["properties"]) == {"table", "skip"}


def test_a_whole_message_is_told_without_the_envelope() -> None:
    async def say(self: Any, message: Say) -> None: ...

    assert set(receive_of(say).schema["properties"]) == {"msg"}


def test_an_event_that_is_not_in_the_contract_is_not_told() -> None:
    class App(Endpoint):
        @event(include_in_schema=False)
        async def on_debug(self, what: Any) -> None: ...

    assert channel_of(App).receives == ()


def test_handlers_of_bases_and_those_that_are_attached_later_are_told_as_they_are_now() -> None:
    class Base(Endpoint):
        @event
        async def on_one(self) -> None:
            """Of the base."""

        @event
        async def on_two(self) -> None:
            """Stays."""

    class App(Base):
        @event
        async def on_one(self) -> None:
            """Of the class."""

    @App.event
    async def three(n: int) -> None:
        """Attached."""

    told = {each.event: each.summary for each in channel_of(App).receives}
    assert told == {"one": "Of the class.", "two": "Stays.", "three": "Attached."}


def test_scopes_of_guards_are_told() -> None:
    told = receive_of(lambda self: None, guards=[scopes("b"), lambda endpoint, call: None, scopes("a", "b")])
    assert told.security == ("b", "a")


def test_an_upload_is_told_by_its_items() -> None:
    async def load(self: Any, name: str, items: AsyncIterator[Plain]) -> Plain: ...

    told = receive_of(load)
    assert (set(told.schema["properties"]), told.uploads) == ({"name"}, {"$ref": "#/components/schemas/Plain"})


# ---- what it gets


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (Bought, {"x": "Bought"}),
        (Bought | None, {"x": "Bought"}),
        (Cat, {"cat": "Cat"}),
        (Cat | Dog | None, {"cat": "Cat", "dog": "Dog"}),
        (Annotated[Cat | Dog, "a name"], {"cat": "Cat", "dog": "Dog"}),
        (Kind, {"created": "CreatedKind", "updated": "UpdatedKind"}),
        (Aliased, {"aliased": "Aliased"}),
        (Page[Bought], {"x": "PageBought"}),
        (Counts, {"x": "Counts"}),
        (dict[str, Bought], {"x": "X"}),
        (dict, {"x": "X"}),
        (Any, {"x": "X"}),
        (None, {}),
        (..., {}),
        (AsyncIterator[Plain | Dog], {"plain": "Plain", "dog": "Dog"}),
        (AsyncIterator[dict], {"x": "X"}),
    ],
    ids=repr,
)
def test_a_return_annotation_is_told_as_what_may_answer(annotation: Any, told: dict[str, str]) -> None:
    """By type, with its name in generated code."""

    async def handle(self: Any) -> Any: ...

    if annotation is ...:
        del handle.__annotations__["return"]
    else:
        handle.__annotations__["return"] = annotation
    assert {each.type: each.name for each in receive_of(handle).replies} == told


def test_a_response_model_counts_more_than_the_annotation_and_its_options_are_followed() -> None:
    async def handle(self: Any) -> Cat: ...

    (reply,) = receive_of(handle, response_model=Bought, response_model_exclude={"id"}).replies
    assert (reply.name, reply.schema.get("properties")) == ("Bought", None)
    (anything,) = receive_of(handle, response_model=None).replies
    assert anything.schema == {"type": "object"}


def test_a_generator_is_told_as_a_stream() -> None:
    async def ticks(self: Any) -> AsyncIterator[Plain]:
        yield Plain(1)

    told = receive_of(ticks)
    assert (told.stream, told.cancellable, told.acknowledged) == (True, True, False)


def test_only_what_may_have_no_reply_is_acknowledged() -> None:
    class App(Endpoint):
        acknowledge = True

        @event
        async def on_nothing(self) -> None: ...
        @event
        async def on_perhaps(self) -> Bought | None: ...
        @event
        async def on_always(self) -> Bought: ...
        @event
        async def on_unsaid(self): ...  # type: ignore[no-untyped-def]  # the point

    told = {each.event: each.acknowledged for each in channel_of(App).receives}
    assert told == {"nothing": True, "perhaps": True, "always": False, "unsaid": True}


def test_messages_have_the_words_of_their_class_and_not_those_that_python_writes() -> None:
    async def handle(self: Any) -> Bought | Plain: ...

    bought, plain = receive_of(handle).replies
    assert (bought.summary, bought.description) == ("It was bought.", "And it is yours.")
    assert (plain.summary, plain.description) == ("", "")


def test_one_declaration_is_one_message_wherever_it_is_sent() -> None:
    """A client has one type for a reply that is pushed, too."""

    class App(Endpoint):
        emits = [Cat]

        @event
        async def on_cat(self) -> Cat: ...
        @event
        async def on_cats(self) -> AsyncIterator[Cat]:
            yield Cat(lives=9)

    channel = channel_of(App)
    assert channel.receives[0].replies == channel.receives[1].replies == channel.pushes


def test_one_class_that_is_sent_as_several_types_has_a_name_for_each() -> None:
    """Whatever the order of the handlers is."""

    async def one(self: Any) -> Plain: ...
    async def two(self: Any) -> Plain: ...

    def names(*handlers: Any) -> dict[str, str]:
        cls = type("App", (Endpoint,), {each.__name__: event(each) for each in handlers})
        return {each.event: each.replies[0].name for each in channel_of(cls).receives}

    assert names(one, two) == names(two, one) == {"one": "OnePlain", "two": "TwoPlain"}


def test_names_that_fall_together_are_numbered() -> None:
    """Events that differ by case, classes of one name."""

    class App(Endpoint):
        @event("say")
        async def one(self) -> dict[str, int]: ...
        @event("Say")
        async def two(self) -> dict[str, int]: ...

    assert [each.replies[0].name for each in channel_of(App).receives] == ["Say", "Say2"]


def test_what_is_told_of_replies_is_what_comes() -> None:
    """Each answer has a type that is told, and the fields that are told for it."""

    class App(Endpoint):
        @event
        async def on_union(self, n: int) -> Cat | Dog | Bought:
            return [Cat(lives=9), Dog("rex"), Bought(id=1)][n]

        @event
        async def on_kind(self) -> Kind:
            return {"type": "updated", "id": 1}

        @event
        async def on_aliased(self) -> Aliased:
            return Aliased()

        @event
        async def on_counts(self) -> Counts:
            return Counts({"a": 1})

        @event
        async def on_mapping(self) -> dict[str, Dog]:
            return {"a": Dog("rex")}

        @event
        async def on_page(self) -> Page[Node]:
            return Page[Node](items=[Node(value=1, children=[Node(value=2)])])

        @event
        async def on_ticks(self) -> AsyncIterator[Plain | Dog]:
            yield Plain(1)
            yield Dog("rex")

    api = api_of(App)
    told = {each.event: {reply.type: reply.schema for reply in each.replies} for each in api.channels[0].receives}
    asked = [{"type": "union", "n": n} for n in range(3)] + [{"type": name} for name in [*told][1:]]
    with TestClient(App).websocket_connect("/") as ws:
        for message in asked:
            ws.send_json({**message, "ref": 1})
            answers = [ws.receive_json()]
            while message["type"] == "ticks" and answers[-1]["type"] != "complete":
                answers.append(ws.receive_json())
            for answer in answers:
                name = answer.pop("type")
                assert answer.pop("ref") == 1
                if name != "complete":
                    schema = {**told[message["type"]][name], "components": {"schemas": api.components}}
                    Draft202012Validator(schema).validate(answer)


# ---- errors


def test_an_applications_error_is_told_with_the_schema_of_its_details() -> None:
    told = receive_of(lambda self: None, errors=[SoldOut]).errors
    details = {"type": "object", "properties": {"left": {"type": "integer"}}, "required": ["left"]}
    assert told == (
        Error("sold_out", "Fewer are left than were asked for.", {**details, "additionalProperties": False}, "SoldOut"),
    )


COMMON = {"malformed_message", "unknown_event", "validation_error", "response_error", "internal_error"}
CONVERSES = COMMON | {"cancelled", "ref_in_use"}


async def plain(self: Any) -> None: ...
async def stream(self: Any) -> Any:
    yield {}


async def upload(self: Any, items: AsyncIterator[int]) -> None: ...
async def ask_before(self: Any, call: Any) -> None: ...


@pytest.mark.parametrize(
    ("namespace", "codes"),
    [
        ({}, {"malformed_message", "unknown_event"}),
        ({"x": event(plain)}, COMMON),
        ({"x": event(plain), "legacy_errors": True}, set()),
        ({"x": event(plain), "rate_limit": RateLimit(1, per_s=1)}, COMMON | {"rate_limited"}),
        ({"x": event(plain), "before": ask_before}, COMMON | {"forbidden"}),
        ({"x": event(plain), "emits": [Bought]}, COMMON | {"forbidden"}),
        ({"x": event(guards=[lambda endpoint, call: None])(plain)}, COMMON | {"forbidden"}),
        ({"x": event(guards=[RateLimit(1, per_s=1)])(plain)}, COMMON | {"rate_limited"}),
        ({"x": event(guards=[SharedRateLimit("1/second", by=id)])(plain)}, COMMON | {"rate_limited"}),
        ({"x": event(guards=[scopes("a")])(plain)}, COMMON | {"forbidden", "unauthorized"}),
        ({"x": event(concurrent=True)(plain)}, CONVERSES),
        ({"x": event(timeout_s=1)(plain)}, CONVERSES | {"timeout"}),
        ({"x": event(stream)}, CONVERSES | {"too_many_streams"}),
        ({"x": event(upload)}, CONVERSES | {"too_many_streams", "overrun"}),
        ({"x": event(plain), "calls": {Bought: bool}}, CONVERSES | {"call_refused", "call_timeout", "invalid_answer"}),
    ],
)
def test_only_codes_that_it_can_answer_with_are_told(namespace: Any, codes: set[str]) -> None:
    assert codes_of(type("App", (Endpoint,), dict(namespace))) == codes


# ---- the rest of a channel


def test_what_a_class_declares_is_told() -> None:
    class Chat(Endpoint):
        """
        A chat.

        With rooms.
        """

        emits = [Bought, Cat | Dog]
        calls = {Plain: Bought, Dog: bool}
        history = {"doc:*": Keep(messages=10)}
        presence_events = True
        subprotocols = ["chat.v1"]
        ref_key = "id_"
        security = [HTTPBearer(), APIKeyQuery(name="token", scheme_name="token")]

    api = api_of(Chat)
    (channel,) = api.channels
    assert (channel.name, channel.path, channel.summary, channel.description) == ("chat", "/", "A chat.", "With rooms.")
    assert [each.type for each in channel.pushes] == ["bought", "cat", "dog"]
    assert [(each.message.type, each.answer) for each in channel.calls] == [
        ("plain", {"$ref": "#/components/schemas/Bought"}),
        ("dog", {"type": "boolean"}),
    ]
    assert channel.receives == ()  # `resume` is the protocol's
    assert (channel.features, channel.wire) == (Features(history=True, presence=True), Wire(ref_key="id_"))
    assert (channel.subprotocols, channel.security) == (("chat.v1",), ("HTTPBearer", "token"))
    assert set(api.security) == {"HTTPBearer", "token"}


def test_a_class_without_words_has_those_of_its_base_but_not_this_packages() -> None:
    class Base(Endpoint):
        """Of the base."""

    class App(Base): ...

    class Silent(WebSocketHandlingEndpoint): ...

    assert (channel_of(App).summary, channel_of(Silent).summary) == ("Of the base.", "")


def test_a_generic_endpoint_is_told_with_the_types_of_its_subclass() -> None:
    class Store(Endpoint, Generic[T]):
        @event
        async def on_put(self, item: T) -> T: ...

    class Nodes(Store[Node]): ...

    api = api_of(Nodes)
    (told,) = api.channels[0].receives
    assert [each.name for each in told.replies] == ["Node"]
    assert set(api.components) >= {"Node"}


def test_a_type_without_a_schema_is_a_contract_error_that_names_event_and_parameter() -> None:
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            from pydantic_core import core_schema

            return core_schema.no_info_plain_validator_function(lambda value: value)

    class App(Endpoint):
        @event
        async def on_x(self, odd: Odd) -> None: ...

    with pytest.raises(ContractError, match="App, event 'x', parameter 'odd': .*include_in_schema=False"):
        api_of(App)


# ---- the document


def test_a_class_gives_its_document() -> None:
    class Chat(Endpoint):
        @event
        async def on_say(self, msg: str) -> Bought: ...

    told = Chat.asyncapi(title="My chat", version="2.0", path="/ws")
    assert (told["info"], told["channels"]["chat"]["address"]) == ({"title": "My chat", "version": "2.0"}, "/ws")
    assert told == document(api_of(Chat, "My chat", "2.0", path="/ws"))
    assert Chat.asyncapi()["info"] == {"title": "Chat", "version": "0.1.0"}


def whole() -> Api:
    class Chat(Endpoint):
        emits = [Bought, Node]

        @event(errors=[SoldOut])
        async def on_buy(self, node: Node, kind: Literal["a", "b"] = "a") -> Cat | Dog | None: ...

    return api_of(Chat)


def test_the_same_declarations_give_the_same_bytes_and_are_read_again_as_they_were() -> None:
    assert dump(whole()) == dump(whole())
    assert read(json.loads(dump(whole()))) == whole()


def test_who_asks_for_no_contract_does_not_import_it() -> None:
    """It would cost every process that serves."""
    code = "import sys, socketsundso; sys.exit('socketsundso.contract' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ten_times_as_many_events_are_ten_times_as_much_work() -> None:
    """In calls of functions, since a clock would not say the same each time."""

    def work(count: int) -> int:
        class App(Endpoint): ...

        for number in range(count):
            model = type(f"Reply{number:03}", (BaseModel,), {"__annotations__": {"id": int, "node": Node}})

            async def handle(room: str, n: int = 0) -> Any: ...

            handle.__annotations__["return"] = model
            App.event(f"event_{number:03}")(handle)
        calls = 0

        def counted(frame: Any, what: str, argument: Any) -> None:
            nonlocal calls
            calls += what == "call"

        sys.setprofile(counted)
        try:
            document(api_of(App))
        finally:
            sys.setprofile(None)
        return calls

    assert work(200) < 11 * work(20)
