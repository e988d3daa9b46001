"""Parameters as users of pydantic, msgspec and FastAPI reported them: odd literals, defaults, aliases, positions."""

from __future__ import annotations

import copy
import enum
import functools
import inspect
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
)
from typing_extensions import TypeAliasType

from socketsundso import Endpoint, Handler, event
from socketsundso.errors import DefinitionError
from tests.harness import talk


def endpoint(function: Any) -> Any:
    class App(Endpoint):
        x = Handler("x", function, thread=False)

    return App


def got(app: Any, **message: Any) -> Any:
    """What the handler says it got, else the codes and places of the errors."""
    (answer,) = talk(app, {"type": "x", **message}).answers
    if answer["type"] == "error":
        return answer["code"], [(error["type"], error["loc"]) for error in answer["errors"]]
    return answer["got"]


# ---------------------------------------------------------------------- annotations


def test_a_literal_may_be_larger_than_64_bits() -> None:
    """A literal that msgspec cannot hold is pydantic's matter, and no exception at import."""

    def on_x(v: Literal[1, 2**70]) -> Any:
        return {"got": v}

    assert got(endpoint(_resolved(on_x)), v=1) == 1
    assert got(endpoint(on_x), v=2) == ("validation_error", [("literal_error", ["v"])])


@pytest.mark.parametrize(
    "annotation",
    [
        Annotated[float, Field(multiple_of=0)],
        Annotated[list[int], Field(max_length=-1)],
        Annotated[str, Field(min_length=-1)],
        Annotated[int, Field(multiple_of=-3)],
    ],
)
def test_bounds_that_nobody_can_check_are_definition_errors(annotation: Any) -> None:
    """A bound that neither msgspec nor pydantic takes names its parameter and the reason, at import."""

    def on_x(v: Any) -> None: ...

    on_x.__annotations__["v"] = annotation
    with pytest.raises(DefinitionError, match="event 'x', parameter 'v'.*(must be|negative)"):
        endpoint(on_x)


def not_below_a(value: Any, info: ValidationInfo) -> Any:
    assert info.field_name == "b"
    if value < info.data["a"]:
        raise ValueError("below a")
    return value


@pytest.mark.parametrize("validator", [AfterValidator, PlainValidator])
@pytest.mark.parametrize("a", [5, "5"])
def test_a_validator_sees_the_parameters_before_it(validator: Any, a: Any) -> None:
    """`info.data` and `info.field_name` are the message's, whichever way the message is read."""

    def on_x(a: int, b: Annotated[int, validator(not_below_a)]) -> Any:
        return {"got": [a, b]}

    app = endpoint(_resolved(on_x, validator=validator))
    assert got(app, a=a, b=6) == [5, 6]
    assert got(app, a=a, b=3) == ("validation_error", [("value_error", ["b"])])


def _resolved(function: Any, **names: Any) -> Any:
    """The function with its string annotations evaluated."""
    scope = {**globals(), **names}
    function.__annotations__ = {key: eval(text, scope) for key, text in function.__annotations__.items()}
    return function


def test_a_validator_within_a_container_sees_them_too() -> None:
    """However deep in the annotation it stands, unless a model of its own is around it."""

    def check(value: Any, info: ValidationInfo) -> Any:
        assert value != info.data.get("a"), "same as a"
        return value

    def on_x(a: int, b: Any) -> Any:
        return {"got": b}

    on_x.__annotations__["b"] = list[Annotated[int, BeforeValidator(check)] | None]
    assert got(endpoint(on_x), a=1, b=[2, None]) == [2, None]
    assert got(endpoint(on_x), a=1, b=[2, 1]) == ("validation_error", [("assertion_error", ["b", 1])])


# ---------------------------------------------------------------------- what raises while a message is read


class Picky(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        if self.x == 0:
            raise KeyError("zero")
        if self.x < 0:
            raise ValueError("negative")


def boom() -> Any:
    raise LookupError("no default today")


@pytest.mark.parametrize("annotation", [Picky, list[Picky], Picky | None])
def test_a_struct_that_raises_is_the_applications_bug(annotation: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever `__post_init__` raises, the connection lives; only ValueError and TypeError blame the message."""

    def on_x(v: Any) -> Any:
        return {"got": "fine"}

    on_x.__annotations__["v"] = annotation

    def value(x: int) -> Any:
        return [{"x": x}] if annotation == list[Picky] else {"x": x}

    app = endpoint(on_x)
    frames = [{"type": "x", "v": value(x)} for x in (0, -1, 1)]
    codes = [answer.get("code") for answer in talk(app, *frames).answers]
    assert codes == ["internal_error", "validation_error", None]
    assert "zero" in caplog.text


@pytest.mark.parametrize("annotation", [int, Decimal, list[int]])
def test_a_default_factory_that_raises_is_the_applications_bug(
    annotation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs the peer an `internal_error`, not the connection."""

    def on_x(v: Any = Field(default_factory=boom)) -> Any:  # noqa: B008
        return {"got": "fine"}

    on_x.__annotations__["v"] = annotation
    app = endpoint(on_x)
    value = [1] if annotation == list[int] else 1
    codes = [answer.get("code") for answer in talk(app, {"type": "x"}, {"type": "x", "v": value}).answers]
    assert codes == ["internal_error", None]
    assert "no default today" in caplog.text


# ---------------------------------------------------------------------- defaults


class Sentinel:
    """A class whose instances are told apart by identity alone."""


class Config:
    """A mutable class with the hash that every class has."""

    def __init__(self) -> None:
        self.seen: list[int] = []


class Pool:
    """What holds a lock cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


MISSING = Sentinel()


@pytest.mark.parametrize(
    "default", [MISSING, object(), threading.Lock(), Pool(), Decimal("1.0"), frozenset({1}), msgspec.UNSET], ids=type
)
@pytest.mark.parametrize("annotation", [Any, Decimal])
@pytest.mark.parametrize("ref", [7, 7.0])
def test_a_default_that_cannot_change_is_given_as_it_is(default: Any, annotation: Any, ref: Any) -> None:
    """A sentinel is still the one it is compared with, and what cannot be copied can still be a default."""
    seen: list[Any] = []

    def on_x(v: Any = default, n: float = 0) -> None:
        seen.append(v)

    on_x.__annotations__["v"] = annotation
    talk(endpoint(on_x), {"type": "x", "n": 1}, {"type": "x", "n": "1"})
    assert len(seen) == 2
    assert all(value is default for value in seen)


@pytest.mark.parametrize("default", [[1], {"a": [1]}, {1}, Config(), np.array([1])], ids=type)
def test_a_default_that_can_change_is_fresh_for_every_call(default: Any) -> None:
    """No call sees what the call before it did to its default."""
    seen: list[Any] = []

    def on_x(v: Any = default) -> None:
        seen.append(v)

    talk(endpoint(on_x), {"type": "x"}, {"type": "x"})
    assert len({id(value) for value in [*seen, default]}) == 3


class Uncopyable(dict[str, int]):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("not to be copied")


def test_a_default_that_can_neither_be_shared_nor_copied_is_a_definition_error() -> None:
    """The remedy, a factory, is in the text."""

    def on_x(v: Any = Uncopyable()) -> None: ...  # noqa: B008

    with pytest.raises(DefinitionError, match="event 'x', parameter 'v'.*default_factory"):
        endpoint(on_x)


def test_an_ellipsis_as_default_means_required() -> None:
    """As in pydantic: `a: int = ...` has no default."""

    def on_x(v: int = ...) -> Any:  # type: ignore[assignment]
        return {"got": v}

    assert got(endpoint(on_x)) == ("validation_error", [("missing", ["v"])])
    assert got(endpoint(on_x), v=1) == 1


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize("alias", ["", 'say "hi"', "back\\slash", "line\nbreak", "\x00", "ключ", "😀", "a.b", " "])
@pytest.mark.parametrize("value", [1, "1"])
def test_every_key_of_json_may_be_an_alias(alias: str, value: Any) -> None:
    """Escapes, the empty string and other scripts included."""

    def on_x(v: int = Field(alias=alias)) -> Any:
        return {"got": v}

    assert got(endpoint(on_x), **{alias: value}) == 1
    assert got(endpoint(on_x), v=1)[1][0] == ("missing", [alias])


@pytest.mark.parametrize(
    ("alias", "remedy"),
    [
        (AliasChoices("type", "kind"), "'type' is reserved"),
        (AliasPath("type", 0), "'type' is reserved"),
        (AliasChoices("kind", AliasPath("ref", "x")), "'ref' is reserved"),
        ("\ud800", "no Unicode text"),
        (AliasPath(0, "x"), "its AliasPath begins with 0"),
        (AliasChoices("kind", AliasPath(0)), "its AliasPath begins with 0"),
    ],
)
def test_reserved_and_impossible_keys_are_definition_errors(alias: Any, remedy: str) -> None:
    """Also where they are only one of several choices, or the beginning of a path."""

    def on_x(v: int = Field(1, validation_alias=alias)) -> None: ...

    with pytest.raises(DefinitionError, match=f"event 'x', parameter 'v'.*{remedy}"):
        endpoint(on_x)


def test_what_cannot_be_built_is_found_at_import_behind_an_alias_path_too() -> None:
    """That only pydantic's view of the whole message can fill a parameter is no reason to look at it late."""

    def on_x(v: Any = Field(validation_alias=AliasChoices("p", "q"))) -> None: ...  # noqa: B008

    on_x.__annotations__["v"] = Iterator[int]
    with pytest.raises(DefinitionError, match="event 'x', parameter 'v'"):
        endpoint(on_x)


# ---------------------------------------------------------------------- how the function is called


def renamed(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def self_first(self: Any, a: int, b: int) -> Any:
    return {"got": [type(self).__name__, a, b]}


def self_between(a: int, self: Any, b: int) -> Any:
    return {"got": [type(self).__name__, a, b]}


def self_behind_a_slash(a: int, /, self: Any, b: int) -> Any:
    return {"got": [type(self).__name__, a, b]}


def self_by_name(a: int, b: int, *, self: Any) -> Any:
    return {"got": [type(self).__name__, a, b]}


def all_positional(self: Any, a: int, b: int, /) -> Any:
    return {"got": [type(self).__name__, a, b]}


@pytest.mark.parametrize("wrap", [lambda f: f, renamed], ids=["plain", "wrapped"])
@pytest.mark.parametrize(
    "function", [self_first, self_between, self_behind_a_slash, self_by_name, all_positional], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("a", [1, "1"])
def test_self_may_stand_anywhere(wrap: Callable[[Any], Any], function: Any, a: Any) -> None:
    """Each parameter gets its own value, however the function takes it, wrapped or not, on both paths."""
    assert got(endpoint(wrap(function)), a=a, b=2) == ["App", 1, 2]


# ---------------------------------------------------------------------- names of events, handlers as objects


class Name(enum.StrEnum):
    X = "x"


class OldName(str, enum.Enum):  # noqa: UP042  # as people wrote it before 3.11
    X = "x"


@pytest.mark.parametrize("name", [Name.X, OldName.X])
def test_a_member_of_a_string_enum_may_name_an_event(name: Any) -> None:
    """Its value is the name."""

    class App(Endpoint):
        @event(name)
        def on_it(self) -> Any:
            return {"got": 1}

    assert list(App.handlers) == ["x"]
    assert got(App) == 1


@pytest.mark.parametrize("name", ["\x00", "\x00\x00", 'a"b\\c', "ref", "né😀", " "])
def test_any_text_may_name_an_event(name: str) -> None:
    """Also the one that the union is padded with, and beside others."""

    class App(Endpoint):
        @event(name)
        def on_it(self) -> Any:
            return {"got": 1}

        @event("\x00 ")
        def on_other(self) -> Any:
            return {"got": 2}

    assert [a["got"] for a in talk(App, {"type": name}, {"type": "\x00 "}).answers] == [1, 2]
    (answer,) = talk(App, {"type": "\x00\x00\x00"}).answers
    assert answer["code"] == "unknown_event"


def test_a_lone_surrogate_cannot_name_an_event() -> None:
    """No JSON text can hold it."""
    with pytest.raises(DefinitionError, match="cannot be an event's name"):
        event("\ud800")(lambda: None)


@pytest.mark.parametrize(
    ("wrong", "right"), [("respones_model", "response_model"), ("threaded", "thread"), ("response_model_exclude_non",
     "response_model_exclude_none"), ("events", "event")]
)  # fmt: skip
def test_a_misspelt_argument_of_event_is_told(wrong: str, right: str) -> None:
    """With what was probably meant."""
    with pytest.raises(DefinitionError, match=f"no argument '{wrong}'; did you mean '{right}'"):
        event(**{wrong: None})
    with pytest.raises(DefinitionError, match=r"no argument 'colour'$"):
        event(colour="red")  # type: ignore[call-overload]


def doubled(a: int) -> Any:
    """Twice as much."""
    return {"got": 2 * a}


def test_a_handler_is_copied_pickled_and_inspected_like_its_function() -> None:
    """Its copies work, and `inspect`, `help` and mocks see the function's signature."""
    handler = Handler("x", doubled, thread=False)
    for twin in (copy.copy(handler), copy.deepcopy(handler), pickle.loads(pickle.dumps(handler))):

        class App(Endpoint):
            x = twin

        assert got(App, a=2) == 4
    assert inspect.signature(handler) == inspect.signature(doubled)
    assert inspect.getdoc(handler) == "Twice as much."
    assert (handler.__module__, handler.__qualname__) == (__name__, "doubled")
    assert str(inspect.signature(App(None).handlers["x"])) == "(a: 'int') -> 'Any'"  # type: ignore[arg-type]


class Later(BaseModel):
    v: int


def test_a_function_in_a_function_is_attached_with_its_local_names() -> None:
    """`@Cls.event` and `Handler(...)` look for the names of string annotations where they are written."""

    class Local(BaseModel):
        v: int

    class App(Endpoint):
        pass

    @App.event("x", thread=False)
    def on_x(a: Local) -> Any:
        return {"got": a.v}

    def on_y(a: list[Local]) -> Any:
        return {"got": a[0].v}

    App.attach_handler(Handler("y", on_y, thread=False))
    assert got(App, a={"v": 3}) == 3
    (answer,) = talk(App, {"type": "y", "a": [{"v": 4}]}).answers
    assert answer["got"] == 4


class Doubling:
    def __call__(self, a: Later) -> Any:
        return {"got": 2 * a.v}


def test_an_object_that_can_be_called_is_a_handler() -> None:
    """The names of its string annotations are looked for where its class is written."""

    class App(Endpoint):
        pass

    App.attach_handler(Handler("x", Doubling(), thread=False))
    assert got(App, a={"v": 3}) == 6


def test_a_function_without_a_signature_is_no_handler() -> None:
    """Some built-in ones have none: what a message would have to hold is not known."""
    with pytest.raises(DefinitionError, match="event 'x': the signature cannot be read"):
        type("App", (Endpoint,), {"on_x": Handler("x", max)})


def test_annotations_may_name_the_endpoint_itself() -> None:
    """A class nested in the endpoint may be written as `App.Item`."""

    class App(Endpoint):
        @event(thread=False)
        def on_x(self, a: App.Item) -> Any:
            return {"got": a.v}

        class Item(BaseModel):
            v: int

    assert got(App, a={"v": 3}) == 3


def test_an_unresolvable_name_tells_where_to_define_it(caplog: pytest.LogCaptureFixture) -> None:
    """Before the endpoint, at module level: that is the remedy for later and TYPE_CHECKING names alike."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DefinitionError, match="event 'x'.*'Nowhere'.*before the endpoint, at module level"):

        class App(Endpoint):
            @event
            def on_x(self, a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


Unfinished = TypeAliasType("Unfinished", "list[Nowhere]")  # type: ignore[name-defined]  # noqa: F821


def test_a_name_behind_an_alias_that_cannot_be_resolved_is_told() -> None:
    """An alias looks its names up when it is asked what it stands for: that is when the endpoint is made."""

    def on_x(a: Unfinished) -> None: ...

    with pytest.raises(DefinitionError, match="event 'x', parameter 'a': .*'Nowhere' is not defined. Define"):
        endpoint(on_x)


@pytest.mark.parametrize("annotation", [int, int | None, Literal[1, 2]])
def test_an_alias_names_the_key_of_what_is_none_by_default(annotation: Any) -> None:
    """What belongs to a field stays the field's where `= None` makes the type Optional."""

    def on_x(limit: Any = None) -> dict[str, Any]:
        return {"got": limit}

    on_x.__annotations__["limit"] = Annotated[annotation, Field(alias="max", description="So many.")]
    app = endpoint(on_x)
    assert [got(app), got(app, max=2), got(app, max=None)] == [None, 2, None]
    told = app.asyncapi()["components"]["schemas"]["app.x"]["properties"]["max"]
    assert (told["description"], told["default"]) == ("So many.", None)
