"""Whole messages against the loop that they come from: `TypeAdapter(ClientMessage).validate_json` of every frame."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal, NotRequired, Union

import msgspec
import pydantic_core
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, create_model
from typing_extensions import TypedDict

from socketsundso import Handler, WebSocketHandlingEndpoint
from socketsundso.messages import pydantic_form
from tests.harness import Peer
from tests.messages.fuzz.annotations import ANNOTATIONS
from tests.messages.fuzz.test_differential import run_at_once, same
from tests.messages.fuzz.tokens import Tokens

NAMES = ["a", "b", "room", "msg"]
EVENTS = ["join", "leave"]
FRAMES_PER_UNION = 40
DEFAULTS: list[Any] = [None, 0, "text", [], {}]


def of_pydantic(annotation: Any) -> bool:
    """Can it stand in a model? Structs cannot."""
    try:
        create_model("Probe", field=(annotation, ...))
    except Exception:  # pydantic raises what it likes
        return False
    return True


FIELDS = [each for each in ANNOTATIONS if of_pydantic(each) and pydantic_form(each) is each]
ADAPTERS: list[TypeAdapter[Any]] = [TypeAdapter(annotation) for annotation in FIELDS]


class Member:
    """A random class of one event: which fields it has, and what it does with keys that it does not know."""

    def __init__(self, tokens: Tokens, event: str) -> None:
        random = tokens.random
        self.event = event
        # half of the models have fields that msgspec takes alone, which is rare among all
        few = [index for index, each in enumerate(FIELDS) if each in (int, str, float, bool, list[int], int | None)]
        pool = few if random.random() < 0.5 else list(range(len(FIELDS)))
        self.indices = {name: random.choice(pool) for name in random.sample(NAMES, random.randint(0, 4))}
        self.optional = {name for name in self.indices if random.random() < 0.3}
        self.extra = "ignore"
        kind = random.choice(["model"] * 4 + ["dataclass", "TypedDict"])
        self.cls = getattr(self, f"_{kind}")(random)

    def _model(self, random: Any) -> Any:
        self.extra = random.choice(["ignore", "ignore", "forbid", "allow"])
        config = ConfigDict(extra=self.extra)  # type: ignore[typeddict-item]  # one of them
        if random.random() < 0.2:
            config["strict"] = True
        fields = {name: (FIELDS[index], self._default(random, name)) for name, index in self.indices.items()}
        return create_model(f"M_{self.event}", __config__=config, type=(Literal[self.event], ...), **fields)  # type: ignore[call-overload]

    def _dataclass(self, random: Any) -> Any:
        fields = [(name, FIELDS[index]) for name, index in self.indices.items() if name not in self.optional]
        defaults = [
            (name, FIELDS[self.indices[name]], dataclasses.field(default=None)) for name in sorted(self.optional)
        ]
        return dataclasses.make_dataclass(f"D_{self.event}", [("type", Literal[self.event]), *fields, *defaults])

    def _TypedDict(self, random: Any) -> Any:
        fields = {
            name: NotRequired[FIELDS[index]] if name in self.optional else FIELDS[index]
            for name, index in self.indices.items()
        }
        return TypedDict(f"T_{self.event}", {"type": Literal[self.event], **fields})  # type: ignore[misc]

    def _default(self, random: Any, name: str) -> Any:
        return random.choice(DEFAULTS) if name in self.optional else ...

    def frame(self, tokens: Tokens) -> list[str]:
        """The items of a message that is often valid."""
        random = tokens.random
        items = [f'"type":"{self.event}"']
        for name, index in self.indices.items():
            if random.random() < (0.5 if name in self.optional else 0.04):
                continue
            items.append(f'"{name}":{valid(tokens, index)}')
            if random.random() < 0.03:
                items.append(f'"{name}":{tokens.value()}')
        if random.random() < 0.1:
            items.append(f'"extra":{tokens.value()}')
        random.shuffle(items)
        return items


def valid(tokens: Tokens, index: int) -> str:
    text: str = tokens.value()
    for _ in range(tokens.random.choice([0, 6, 12])):
        try:
            ADAPTERS[index].validate_json(text)
        except Exception:
            text = tokens.value()
        else:
            break
    return text


def test_whole_messages_are_what_the_union_makes_of_them(fuzz_frames: int, fuzz_seed: int) -> None:
    """The same values, and the same errors, save that no `loc` begins with the tag: a client has not sent that."""
    tokens = Tokens(fuzz_seed)
    done = accepted = 0
    while done < fuzz_frames / 8:  # each union is built anew, which takes longer than its frames
        members = [Member(tokens, event) for event in EVENTS]
        union: Any = Annotated[Union[tuple(member.cls for member in members)], Field(discriminator="type")]
        reference: TypeAdapter[Any] = TypeAdapter(union)
        got: list[Any] = []
        app = endpoint_of(union, got)
        for _ in range(FRAMES_PER_UNION):
            member = tokens.random.choice(members)
            items = member.frame(tokens)
            ref = tokens.random.choice([[], [], ['"ref":7'], ['"ref":null'], ['"ref":"x"']])
            sent, seen = object_of(items + ref), object_of(items + (ref if member.extra == "ignore" else []))
            got.clear()
            answers = run_at_once(Peer(app, [sent])).answers
            where = f"seed {fuzz_seed}\n{member.cls} {member.extra} {member.indices}\nframe {sent}"
            try:
                want = reference.validate_json(seen)
            except ValidationError as exc:
                errors = [{**each, "loc": each["loc"][1:]} for each in exc.errors(include_url=False)]
                assert not got, f"{where}\naccepted: {got}\nexpected {errors}"
                expected = json.loads(msgspec.json.encode(errors, enc_hook=str))
                assert answers[0]["errors"] == expected, f"{where}\ngot {answers}\nexpected {expected}"
            else:
                accepted += 1
                assert len(got) == 1, f"{where}\nrefused: {answers}"
                assert same(state(got[0]), state(want)), f"{where}\ngot {got[0]!r}\nexpected {want!r}"
        done += FRAMES_PER_UNION
    assert accepted > done / 10, "the frames are hardly ever valid: the test shows little"


NATIVE: list[Any] = [int, str, float, bool, list[int], int | None, dict[str, float], Literal["a", 1], set[str]]


def test_structs_are_what_msgspec_makes_of_them(fuzz_frames: int, fuzz_seed: int) -> None:
    """The same values, or an error; a `ref` is not for it."""
    tokens = Tokens(fuzz_seed)
    random, done = tokens.random, 0
    while done < fuzz_frames / 8:
        structs = [random_struct(random, event) for event in EVENTS]
        got: list[Any] = []
        app = endpoint_of(Union[tuple(structs)], got)
        reference = msgspec.json.Decoder(Union[tuple(structs)])
        for _ in range(FRAMES_PER_UNION):
            kind = random.choice(structs)
            names = [name for name in kind.__struct_encode_fields__ if random.random() < 0.8]
            items = [f'"type":"{kind.__struct_config__.tag}"', *(f'"{name}":{tokens.value()}' for name in names)]
            items += [f'"extra":{tokens.value()}'] if random.random() < 0.1 else []
            got.clear()
            answers = run_at_once(Peer(app, [object_of([*items, *random.choice([[], ['"ref":7']])])])).answers
            want = decoded(reference, object_of(items))
            where = f"seed {fuzz_seed}\n{kind} {kind.__annotations__}\nframe {items}"
            if isinstance(want, str) and got:  # of a key that is there twice, the last one counts, as for pydantic
                want = decoded(reference, pydantic_core.to_json(pydantic_core.from_json(object_of(items))).decode())
            if isinstance(want, str):
                assert (len(got), answers[0]["errors"][0]["type"]) == (0, "struct_type"), f"{where}\nexpected {want}"
            else:
                assert [type(each) for each in got] == [type(want)], f"{where}\nrefused: {answers}"
                assert same(msgspec.structs.astuple(got[0]), msgspec.structs.astuple(want)), f"{where}\ngot {got}"
        done += FRAMES_PER_UNION


def decoded(decoder: Any, text: str) -> Any:
    """The value, or the text that says why there is none."""
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as exc:
        return str(exc)


def random_struct(random: Any, event: str) -> Any:
    fields: list[Any] = []
    for name in random.sample(NAMES, random.randint(0, 4)):
        kind = random.choice(NATIVE)
        default = [msgspec.field(default_factory=list)] if random.random() < 0.3 and kind == list[int] else []
        fields.append((name, kind, *(default or ([None] if random.random() < 0.3 else []))))
    forbids, rename = random.random() < 0.5, random.choice([None, "upper"])
    return msgspec.defstruct(
        f"S_{event}", fields, tag_field="type", tag=event, forbid_unknown_fields=forbids, rename=rename, kw_only=True
    )


def endpoint_of(union: Any, got: list[Any]) -> type[WebSocketHandlingEndpoint]:
    """One whose handler keeps what it is given."""

    def handle(msg: Any) -> None:
        got.append(msg)

    class App(WebSocketHandlingEndpoint):
        max_errors = 10_000
        max_error_bytes = 10_000_000

    handle.__annotations__["msg"] = union
    App.attach_handler(Handler(None, handle, thread=False))
    return App


def object_of(items: list[str]) -> str:
    return "{" + ",".join(items) + "}"


def state(value: Any) -> Any:
    """All that an instance holds, its private parts among them."""
    if isinstance(value, dict):
        return value
    if dataclasses.is_dataclass(value):
        return type(value).__name__, vars(value)
    return type(value).__name__, value, value.__getstate__()["__pydantic_private__"]
