"""Refused frames: pydantic's whole error list, and no validator asked twice."""

from __future__ import annotations

import collections
import datetime
import gc
import inspect
import json
import logging
import uuid
import weakref
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from typing_extensions import TypedDict

from socketsundso import Endpoint, EventMessage, Handler
from tests.harness import talk

asked: list[Any] = []


def note(value: Any) -> Any:
    asked.append(value)
    return value


def refuse(value: Any) -> Any:
    asked.append(value)
    raise ValueError(f"not {value}")


class Noting(BaseModel):
    x: Annotated[str, AfterValidator(note)]


class Counted(msgspec.Struct):
    x: str

    def __post_init__(self) -> None:
        note(self.x)


class Holding(msgspec.Struct):
    noting: Noting


class Whole(EventMessage):
    v: Annotated[str, AfterValidator(note)]
    w: int

    @field_validator("w")
    @classmethod
    def small(cls, value: int) -> int:
        return value


Once = Annotated[str, AfterValidator(note)]


def endpoint(**annotations: Any) -> Any:
    def on_x(**values: Any) -> None: ...

    on_x.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=a) for name, a in annotations.items()]
    )
    return type("App", (Endpoint,), {"on_x": Handler("x", on_x, thread=False)})


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    asked.clear()


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Once, "once"),
        (list[Once], ["once"]),
        (Annotated[str, BeforeValidator(note)], "once"),
        (Noting, {"x": "once"}),
        (Counted, {"x": "once"}),
        (list[Counted], [{"x": "once"}]),
        (Holding, {"noting": {"x": "once"}}),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    ("other", "given"),
    [(int, 1), (int, "1"), (int, "x"), (datetime.datetime, "x"), (Annotated[int, AfterValidator(refuse)], 1),
     (Decimal, "x"), (Json[int], "x"), (Json[int], "}")],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("order", [["v", "w"], ["w", "v"]], ids=["before", "behind"])
@pytest.mark.parametrize("extra", [{}, {"z": 1}], ids=["known keys", "an unknown key"])
def test_a_validator_is_asked_once(
    annotation: Any, value: Any, other: Any, given: Any, order: list[str], extra: Any
) -> None:
    """Whatever else is wrong with the message, and wherever in it."""
    annotations, values = {"v": annotation, "w": other}, {"v": value, "w": given}
    app = endpoint(**{name: annotations[name] for name in order})
    talk(app, {"type": "x", **{name: values[name] for name in order}, **extra})
    assert collections.Counter(asked)["once"] == 1


@pytest.mark.parametrize("extra", [{}, {"ref": 7}])
def test_a_message_that_is_one_model_is_validated_once(extra: Any) -> None:
    """Also where it is refused, with and without `ref`."""

    def on_x(message: Whole) -> None: ...

    on_x.__annotations__["message"] = Whole
    app = endpoint()
    app.attach_handler(Handler("x", on_x, thread=False), overwrite_existing=True)
    (answer,) = talk(app, {"type": "x", "v": "once", "w": "x", **extra}).answers
    assert (answer["code"], answer.get("ref"), answer["errors"][0]["loc"]) == (
        "validation_error",
        extra.get("ref"),
        ["w"],
    )
    assert asked == ["once"]


class Aliased(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int = Field(alias="no")


ODD = {
    "a": (Decimal, ["x", "NaN", "1.5"]),
    "b": (datetime.datetime, ["x", "2020-13-01", 1]),
    "c": (Annotated[str, AfterValidator(refuse)], ["x"]),
    "d": (Aliased, [{}, {"no": "x"}, {"no": 1, "yes": 2}, 5]),
    "e": (list[uuid.UUID | datetime.datetime], [["x"], "x"]),
    "f": (Annotated[set[bytes], Field(max_length=1)], [["a", "b"], {"a": 1}]),
    "g": (Json[list[int]], ["[1, 2", '["x"]']),
}


def test_the_errors_of_several_fields_are_pydantics() -> None:
    """Their order, places, texts, inputs and contexts are those of the whole frame."""
    annotations = {name: annotation for name, (annotation, _) in ODD.items()}
    reference = TypeAdapter(TypedDict("Message", {"type": str, **annotations}))  # type: ignore[misc]
    app = endpoint(**annotations)
    for turn in range(4):
        frame = {"type": "x", **{name: values[turn % len(values)] for name, (_, values) in ODD.items()}}
        with pytest.raises(ValidationError) as caught:
            reference.validate_json(json.dumps(frame))
        (answer,) = talk(app, frame).answers
        want = caught.value.errors(include_url=False)
        assert answer["errors"] == json.loads(msgspec.json.encode(want, enc_hook=str))


def test_a_bug_among_errors_is_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What a validator raises beside ValueError is the application's fault, and logged, whatever was found before."""

    def bug(value: Any) -> Any:
        raise LookupError("a bug in a validator")

    app = endpoint(a=datetime.datetime, b=Annotated[str, AfterValidator(bug)], c=Once)
    (answer,) = talk(app, {"type": "x", "a": "x", "b": "x", "c": "x", "ref": 1}).answers
    assert (answer["code"], answer["ref"]) == ("internal_error", 1)
    assert "a bug in a validator" in caplog.text


@pytest.mark.parametrize("n", [1, "1"])
@pytest.mark.parametrize("kind", [int, Decimal])
def test_a_default_that_is_no_valid_model_is_the_applications_bug(
    n: Any, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The ValidationError of a factory says nothing about the message, and its input is nobody's business."""

    def on_x(n: int, v: Any = Field(default_factory=lambda: Aliased(no="SECRET"))) -> None: ...  # type: ignore[arg-type]  # noqa: B008

    on_x.__annotations__ = {"n": int, "v": kind}
    app = endpoint()
    app.attach_handler(Handler("x", on_x, thread=False), overwrite_existing=True)
    (answer,) = talk(app, {"type": "x", "n": n}).answers
    assert answer == {"type": "error", "code": "internal_error", "errors": []}
    assert "SECRET" in caplog.text


def test_what_pydantic_takes_for_no_json_is_told_as_such() -> None:
    """A raw field that nests too deeply makes the whole frame unreadable for pydantic."""
    app = endpoint(a=datetime.datetime, b=Json[int] | list[Any] | bytes)
    frame = '{"type":"x","a":"x","b":' + "[" * 300 + "]" * 300 + "}"
    (answer,) = talk(app, frame).answers
    assert [(error["type"], error["loc"]) for error in answer["errors"]] == [("json_invalid", [])]


@pytest.mark.parametrize("values", [{"a": "x"}, {"b": "x"}, {"a": "x", "b": "x"}, {"c": "x"}, {"c": "x", "a": "x"}])
def test_a_refused_message_keeps_no_endpoint_alive(values: Any, caplog: pytest.LogCaptureFixture) -> None:
    """No cycle through tracebacks waits for the collector, whichever fields are refused, bugs included."""

    def bug(value: Any) -> Any:
        raise LookupError("a bug in a validator")

    app = endpoint(v=Once, a=datetime.datetime | None, b=Decimal | None, c=Annotated[str, AfterValidator(bug)] | None)
    alive: list[weakref.ref[Any]] = []
    app.__init__ = lambda self, websocket: (Endpoint.__init__(self, websocket), alive.append(weakref.ref(self)))[0]
    frame = {"type": "x", "v": "v", "a": None, "b": None, "c": None, **values}
    caplog.set_level(logging.CRITICAL, "socketsundso")  # a record would keep the bug, and its traceback
    gc.collect()
    gc.disable()
    try:
        talk(app, frame, frame)
        assert [each() for each in alive] == [None]
    finally:
        gc.enable()
