"""An endpoint against plain pydantic: random signatures, random frames, equal values and equal error lists."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from typing import Annotated, Any, NotRequired

import msgspec
import pydantic_core
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from socketsundso import Handler, WebSocketHandlingEndpoint
from tests.harness import Peer
from tests.messages.fuzz.annotations import ANNOTATIONS
from tests.messages.fuzz.tokens import Tokens

NAMES = ["a", "b", "room", "msg"]
# A handler's Iterable has been read to its end, as if pydantic were asked to.
READ_TO_ITS_END = Annotated[Iterable[int], AfterValidator(lambda items: list(items))]
EXPECTED = [READ_TO_ITS_END if annotation == Iterable[int] else annotation for annotation in ANNOTATIONS]
ADAPTERS = [TypeAdapter(annotation) for annotation in EXPECTED]
FRAMES_PER_SIGNATURE = 40


class Case:
    """One random signature: as an endpoint, and as plain pydantic."""

    def __init__(self, tokens: Tokens) -> None:
        random = tokens.random
        self.tokens = tokens
        self.got: list[dict[str, Any]] = []
        self.indices = {name: random.randrange(len(ANNOTATIONS)) for name in NAMES[: random.randint(1, 4)]}
        self.keys: dict[str, str] = {}
        self.optional: set[str] = set()
        parameters, fields = [], {}
        for name, index in self.indices.items():
            annotation, expected = ANNOTATIONS[index], EXPECTED[index]
            self.keys[name] = name.upper() if random.random() < 0.2 else name
            default: Any = inspect.Parameter.empty
            if random.random() < 0.3:
                self.optional.add(name)
                default = "the default"
            field = expected
            if self.keys[name] != name:
                alias = Field(alias=self.keys[name])
                annotation, field = Annotated[annotation, alias], Annotated[expected, alias]
            fields[name] = NotRequired[field] if name in self.optional else field
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            )

        def handler(**values: Any) -> None:
            self.got.append(values)

        handler.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]

        class App(WebSocketHandlingEndpoint):
            max_errors = 10_000
            max_error_bytes = 10_000_000

        App.attach_handler(Handler("thing", handler, thread=False))
        self.app = App
        # extra="forbid" here would reach into plain dataclasses below; extra keys are added by hand instead.
        self.reference = TypeAdapter(TypedDict("Shape", fields))  # type: ignore[misc]

    def frame(self) -> str:
        random = self.tokens.random
        items = ['"type":"thing"']
        for name, index in self.indices.items():
            if name in self.optional and random.random() < 0.5:
                continue
            if random.random() < 0.04:
                continue
            items.append(f"{json.dumps(self.keys[name])}:{self.valid(index)}")
            if random.random() < 0.03:
                items.append(f"{json.dumps(self.keys[name])}:{self.tokens.value()}")
        if random.random() < 0.05:
            items.append(f'"extra":{self.tokens.value()}')
        random.shuffle(items)
        return "{" + ",".join(items) + "}"

    def valid(self, index: int) -> str:
        """A text that is often valid, since random ones hardly ever are."""
        text = self.tokens.value()
        for _ in range(self.tokens.random.choice([0, 6, 12])):
            try:
                ADAPTERS[index].validate_json(text)
            except Exception:
                text = self.tokens.value()
            else:
                break
        return text

    def expected(self, frame: str) -> tuple[Any, Any]:
        errors: list[Any] = []
        try:
            self.reference.validate_json(frame)
        except ValidationError as exc:
            errors += exc.errors(include_url=False)
        raw = msgspec.json.decode(frame, type=dict[str, msgspec.Raw])
        for key in raw.keys() - {"type", *self.keys.values()}:
            value = pydantic_core.from_json(bytes(raw[key]))
            msg = "Extra inputs are not permitted"
            errors.append({"type": "extra_forbidden", "loc": (key,), "msg": msg, "input": value})
        if errors:
            return None, errors
        parameters = {
            name: ADAPTERS[index].validate_json(bytes(raw[self.keys[name]]))
            if self.keys[name] in raw
            else "the default"
            for name, index in self.indices.items()
        }
        return parameters, None


def same(a: Any, b: Any) -> bool:
    """Equal in value, type and order, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, set | frozenset):
        return sorted(map(repr, a)) == sorted(map(repr, b))  # NaN equals nothing
    if isinstance(a, BaseModel):
        return (
            same(a.__dict__, b.__dict__)
            and same(a.model_extra, b.model_extra)
            and a.model_fields_set == b.model_fields_set
        )
    return bool(a == b) or a != a


def test_endpoint_and_pydantic_agree(fuzz_frames: int, fuzz_seed: int) -> None:
    """No frame gives a handler another value, or a client another error list, than plain pydantic does."""
    tokens = Tokens(fuzz_seed)
    done = accepted = 0
    while done < fuzz_frames:
        case = Case(tokens)
        frames = [case.frame() for _ in range(FRAMES_PER_SIGNATURE)]
        for frame in frames:
            case.got.clear()
            peer = run_at_once(Peer(case.app, [frame]))
            want, errors = case.expected(frame)
            where = f"seed {fuzz_seed}\nsignature {case.indices} {[ANNOTATIONS[i] for i in case.indices.values()]}\nframe {frame}"
            if errors is None:
                accepted += 1
                assert len(case.got) == 1, f"{where}\nrefused: {peer.sent}\nexpected {want}"
                assert same(case.got[0], want), f"{where}\ngot {case.got[0]!r}\nexpected {want!r}"
            else:
                assert not case.got, f"{where}\naccepted: {case.got}\nexpected {errors}"
                expected = json.loads(msgspec.json.encode(errors, enc_hook=str))
                assert peer.answers[0]["errors"] == expected, f"{where}\ngot {peer.answers}\nexpected {expected}"
        done += len(frames)
    assert accepted > done / 10, "the frames are hardly ever valid: the test shows little"


def run_at_once(peer: Peer) -> Peer:
    """Drive the endpoint without an event loop: nothing in these handlers waits."""
    coroutine = peer.run()
    try:
        coroutine.send(None)
    except StopIteration:
        return peer
    raise AssertionError("the endpoint waits for something")
