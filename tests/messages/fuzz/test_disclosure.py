"""With `include_input = False`, random frames with a secret everywhere: it is in no answer, in no key and no text."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import random
import warnings
from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    AfterValidator,
    Base64Bytes,
    BeforeValidator,
    ByteSize,
    Discriminator,
    Field,
    FilePath,
    ImportString,
    Tag,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from socketsundso import Endpoint, Handler
from tests.harness import Peer
from tests.messages.fuzz.annotations import ANNOTATIONS, Cat, Dog, Plain, Tree
from tests.messages.fuzz.test_differential import run_at_once

SECRET = "S3CRET"
TEXTS = [
    SECRET, f"{SECRET}@{SECRET}", f"{SECRET}@example.com", f"http://{SECRET} x", f"{SECRET}://x", f"2020-01-01{SECRET}",
    f"PT{SECRET}", f"builtins.{SECRET}", f"{SECRET}.{SECRET}", f"12{SECRET}", f"12345678-{SECRET}", f'["{SECRET}"]',
    f'{{"{SECRET}": "{SECRET}"}}', f'["{SECRET}', f" {SECRET}\n", f"{SECRET} - at `$.{SECRET}`", f"Expected `{SECRET}`",
]  # fmt: skip
KEYS = [SECRET, f"{SECRET} - at `", "type", "x", "name", "kind", "n", "tags", "y", "colour", "items", "inner", "1"]


class Colour(enum.Enum):
    red = "red"


class Circle(msgspec.Struct, tag=True):
    x: int


class Square(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    x: int


class Holder(msgspec.Struct, forbid_unknown_fields=True):
    colour: Colour | None = None
    kind: Literal["a", "b"] = "a"
    items: dict[str, list[Colour]] = {}
    inner: Holder | None = None
    n: dict[int, int] = {}
    y: Circle | Square | None = None
    x: Plain | None = None
    name: Annotated[str, msgspec.Meta(max_length=3)] = ""
    tags: list[ImportString[Any]] = []


class Foreign(msgspec.Struct):
    x: Annotated[str, msgspec.Meta(pattern="^a")]
    pet: Cat | None = None


@dataclasses.dataclass
class Data:
    x: dict[str, Tree | Colour]
    name: Holder | None = None


def custom(template: str, **more: Any) -> Any:
    def refuse(value: Any) -> Any:
        raise PydanticCustomError("custom", template, {"value": value, **more})  # type: ignore[arg-type]

    return AfterValidator(refuse)


def known(kind: Any, name: str) -> Any:
    def refuse(value: Any) -> Any:
        raise PydanticKnownError(kind, {name: str(value)})

    return AfterValidator(refuse)


def another_model(value: Any) -> Any:
    return Plain.model_validate({"x": value})


MORE: list[Any] = [
    Holder, list[Holder], dict[str, Holder], Circle | Square, list[Circle | Square], Circle | Square | int, Foreign, Data,
    ImportString, ImportString[Any], list[ImportString[Any]], ByteSize, FilePath, Base64Bytes, Colour, dict[str, Colour],
    dict[int, int], dict[datetime.date, Plain], dict[str, dict[str, int]], list[Cat | Dog] | dict[str, Cat], set[Colour],
    Annotated[str, custom("not {value}")], Annotated[Any, custom("not {value}, at most {limit}", limit=5)],
    Annotated[dict[str, str], custom("static")],
    Annotated[str, known("date_parsing", "error")],
    Annotated[Any, AfterValidator(another_model)], Annotated[str, BeforeValidator(another_model)],
    Annotated[Annotated[Cat, Tag("a")] | Annotated[Dog, Tag("b")], Discriminator(lambda v: str(v))],
    Annotated[dict[str, int], Field(min_length=40)], tuple[Colour, Holder], Annotated[str, Field(pattern="^x$")],
]  # fmt: skip


def value(source: random.Random, depth: int = 4) -> Any:
    kind = source.random()
    if depth == 0 or kind < 0.4:
        return source.choice(TEXTS)
    if kind < 0.5:
        return source.choice([None, True, 0, -1, 1.5, 10**30, []])
    if kind < 0.7:
        return [value(source, depth - 1) for _ in range(source.randint(0, 3))]
    return {source.choice(KEYS): value(source, depth - 1) for _ in range(source.randint(0, 4))}


def endpoint(annotations: list[Any]) -> Any:
    class App(Endpoint):
        include_input = False

    for index, annotation in enumerate(annotations):

        def on_it(a: Any, b: int = 0) -> None: ...

        on_it.__annotations__ = {"a": annotation, "b": int}
        App.attach_handler(Handler(f"event_{index}", on_it, thread=False))
    return App


def test_no_answer_holds_the_secret(fuzz_frames: int, fuzz_seed: int) -> None:
    """Whatever the annotation, and wherever in the frame it stood."""
    warnings.simplefilter("ignore")
    source = random.Random(fuzz_seed)
    annotations = [*ANNOTATIONS, *MORE]
    app = endpoint(annotations)
    refused = 0
    for turn in range(fuzz_frames // 2):
        index = turn % len(annotations)
        frame = {"type": f"event_{index}", "a": value(source)}
        if source.random() < 0.2:
            frame["b"] = value(source, 1)
        if source.random() < 0.1:
            frame[SECRET] = SECRET
        if source.random() < 0.02:
            frame = {**frame, "type": source.choice([SECRET, [SECRET], {SECRET: 1}, None])}
        if source.random() < 0.02:
            frame["ref"] = {SECRET: SECRET}
        if source.random() < 0.02:
            del frame["type"]
        text = json.dumps(frame, ensure_ascii=source.random() < 0.5)
        for sent in run_at_once(Peer(app, [text])).sent:
            answer = sent.get("text", "")
            refused += '"error"' in answer
            where = f"seed {fuzz_seed}, {annotations[index]}\nframe {text}\nanswer {answer}"
            assert SECRET.lower() not in answer.lower(), where
    assert refused > fuzz_frames / 10
