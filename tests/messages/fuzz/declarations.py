"""Random declarations of replies, each with random values that hold more than is declared, and what is to be written."""

from __future__ import annotations

import dataclasses
import datetime
import random
import types
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar, Union

import attrs
import msgspec
import pydantic
from pydantic import BaseModel, ConfigDict, Field, computed_field, create_model
from typing_extensions import TypeAliasType, TypedDict

T = TypeVar("T")
U = TypeVar("U")
MARK = "s3cret"  # never declared, so never written

Made = tuple[Any, Any]  # a value, and the JSON that it is to be


@dataclasses.dataclass
class Declaration:
    """
    An annotation and its values. `make(r, validated)`: may the value be a dict or object that validation turns into
    what is declared? Within an instance nothing is validated.
    """

    annotation: Any
    make: Callable[[random.Random, bool], Made]
    classes: list[type] = dataclasses.field(default_factory=list)
    is_object: bool = False  # not an array, not a scalar
    is_dict: bool = False  # any dict looks like one


def declare(r: random.Random, depth: int, structs: bool) -> Declaration:
    """With `structs`, Structs and attrs classes may be in it, which FastAPI cannot declare."""
    if depth == 0:
        return scalar(r)
    return r.choice(NESTED)(r, depth, structs)


def declare_object(r: random.Random, depth: int, structs: bool) -> Declaration:
    """What can be a reply."""
    while True:
        made = r.choice([*CLASSES, *CLASSES, wrapped, optional, union, mapping])(r, depth, structs)
        if made.is_object:
            return made


SCALARS: list[tuple[Any, Any, Any]] = [
    (int, 5, 5),
    (str, "text", "text"),
    (bool, True, True),
    (float, 1.5, 1.5),
    (Literal["a", "b"], "a", "a"),
    (datetime.date, datetime.date(2026, 1, 2), "2026-01-02"),
    (uuid.UUID, uuid.UUID(int=7), str(uuid.UUID(int=7))),
]


def scalar(r: random.Random) -> Declaration:
    annotation, value, written = r.choice(SCALARS)
    return Declaration(annotation, lambda r, validated: (value, written))


# ---------------------------------------------------------------------- classes with fields


def formed(r: random.Random, forms: list[str], f: Declaration, kinds: list[Any], key: str = "f", **more: str) -> Made:
    """An instance of one of these classes, or one of the other forms, with those fields and more."""
    form = r.choice(["instance", "instance", *forms])
    value, written = f.make(r, form != "instance")
    if form == "instance":
        made = r.choice(kinds)(value)
        if hasattr(made, "__dict__") and not isinstance(made, msgspec.Struct):
            made.unknown = MARK
        return made, written
    if form == "dict":
        return {key: value, **more}, written
    return types.SimpleNamespace(f=value, secret=MARK), written


def model(r: random.Random, depth: int, structs: bool) -> Declaration:
    f = declare(r, depth - 1, False)
    key = r.choice(["f", "other"])

    class Base(BaseModel):
        n: int = 1
        hidden: str = Field(MARK, exclude=True)

        @computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation has it
        @property
        def twice(self) -> int:
            return self.n * 2

    extra: Any = r.choice(["ignore", "forbid"])
    alias = None if key == "f" else key
    Public: Any = create_model(
        "Public", __base__=Base, f=(f.annotation, Field(serialization_alias=alias)), __cls_kwargs__={"extra": extra}
    )
    Private = type("Private", (Public,), {"__annotations__": {"secret": str}, "secret": MARK, "__module__": __name__})

    def make(r: random.Random, validated: bool) -> Made:
        form = r.choice(["exact", "subclass", "subclass", *["dict", "object"] * validated])
        value, written = f.make(r, form in ("dict", "object"))
        if form == "dict":
            more = {"secret": MARK} if extra == "ignore" else {}
            made: Any = {"f": value, **more}
        elif form == "object":
            made = types.SimpleNamespace(f=value, n=1, hidden=MARK, secret=MARK)
        else:
            made = (Private if form == "subclass" else Public)(f=value)
        return made, {"n": 1, key: written, "twice": 2}

    return Declaration(Public, make, [Public, *f.classes], is_object=True)


def generic_model(r: random.Random, depth: int, structs: bool) -> Declaration:
    f = declare(r, depth - 1, False)

    class Public(BaseModel, Generic[T]):
        f: T
        many: list[T] = []

    class Private(Public[T], Generic[T]):
        secret: str = MARK

    class Fixed(Public[f.annotation]):  # type: ignore[name-defined]  # an annotation made at run time
        secret: str = MARK

    def make(r: random.Random, validated: bool) -> Made:
        value, written = f.make(r, False)
        kinds: list[Any] = [Public[f.annotation], Public, Fixed]  # type: ignore[name-defined]
        kind = r.choice([*kinds, Private[f.annotation]] if validated else kinds)  # type: ignore[name-defined]
        return kind(f=value, many=[value]), {"f": written, "many": [written]}

    return Declaration(Public[f.annotation], make, [Public, *f.classes], is_object=True)  # type: ignore[name-defined]


def data_class(r: random.Random, depth: int, structs: bool) -> Declaration:
    f = declare(r, depth - 1, structs)
    decorate: Any = dataclasses.dataclass if structs or r.random() < 0.7 else pydantic.dataclasses.dataclass

    @decorate
    class Public(Generic[T]):
        f: T
        n: int = 1

    @decorate
    class Private(Public[T]):
        secret: str = MARK

    Public.__pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[attr-defined]  # else that of the model around it

    def make(r: random.Random, validated: bool) -> Made:
        made, written = formed(r, ["dict"] * validated, f, [Public, Private], secret=MARK)
        return made, {"f": written, "n": 1}

    return Declaration(Public[f.annotation], make, [Public, *f.classes], is_object=True)  # type: ignore[type-arg,valid-type]  # made at run time


def typed_dict(r: random.Random, depth: int, structs: bool) -> Declaration:
    f = declare(r, depth - 1, structs)
    Public: Any = TypedDict("Public", {"f": f.annotation, "n": int})  # type: ignore[misc]  # made at run time

    Public.__pydantic_config__ = ConfigDict(extra="ignore")  # else that of the model around it

    def make(r: random.Random, validated: bool) -> Made:
        value, written = f.make(r, validated)
        more = {"secret": MARK} if validated or structs else {}
        return {"f": value, "n": 1, **more}, {"f": written, "n": 1}

    return Declaration(Public, make, f.classes, is_object=True, is_dict=True)


def named_tuple(r: random.Random, depth: int, structs: bool) -> Declaration:
    f = declare(r, depth - 1, structs)
    Public: Any = NamedTuple("Public", [("f", f.annotation), ("n", int)])  # type: ignore[misc]  # made at run time

    def make(r: random.Random, validated: bool) -> Made:
        value, written = f.make(r, validated)
        return Public(value, 1), [written, 1]

    return Declaration(Public, make, f.classes)


def struct(r: random.Random, depth: int, structs: bool) -> Declaration:
    if not structs:
        return model(r, depth, structs)
    f = declare(r, depth - 1, structs)
    options: Any = {"rename": r.choice([None, "upper"]), "omit_defaults": r.random() < 0.3, "frozen": r.random() < 0.3}
    Public: Any = msgspec.defstruct("Public", [("f", f.annotation), ("n", int, 1), ("more", list[int], [])], **options)
    Private = msgspec.defstruct("Private", [("secret", str, MARK)], bases=(Public,), **options)

    def make(r: random.Random, validated: bool) -> Made:
        made, written = formed(
            r, ["dict", "object"] * validated, f, [Public, Private], "F" if options["rename"] else "f"
        )
        rest: dict[str, Any] = {} if options["omit_defaults"] else {"n": 1, "more": []}
        written = {"f": written, **rest}
        if options["rename"]:
            written = {key.upper(): item for key, item in written.items()}
        return made, written

    return Declaration(Public, make, [Public, *f.classes], is_object=True)


def generic_struct(r: random.Random, depth: int, structs: bool) -> Declaration:
    if not structs:
        return generic_model(r, depth, structs)
    f = declare(r, depth - 1, structs)

    class Base(msgspec.Struct, Generic[T]):
        f: T
        many: list[T] = []

    class Public(Base[tuple[U, int]], Generic[U]):
        own: Optional[U] = None

    class Private(Public[U], Generic[U]):
        secret: str = MARK

    def make(r: random.Random, validated: bool) -> Made:
        value, written = f.make(r, False)
        made = r.choice([Public, Private])((value, 1), [(value, 2)], value)
        return made, {"f": [written, 1], "many": [[written, 2]], "own": written}

    return Declaration(Public[f.annotation], make, [Public, *f.classes], is_object=True)  # type: ignore[name-defined]


def attrs_class(r: random.Random, depth: int, structs: bool) -> Declaration:
    if not structs:
        return data_class(r, depth, structs)
    f = declare(r, depth - 1, structs)
    slots = r.random() < 0.5
    Public: Any = attrs.make_class(
        "Public", {"f": attrs.field(type=f.annotation), "n": attrs.field(type=int, default=1)}, slots=slots
    )
    Private = attrs.make_class("Private", {"secret": attrs.field(type=str, default=MARK)}, bases=(Public,), slots=slots)

    def make(r: random.Random, validated: bool) -> Made:
        made, written = formed(r, ["dict", "object"] * validated, f, [Public, Private], secret=MARK)
        return made, {"f": written, "n": 1}

    return Declaration(Public, make, [Public, *f.classes], is_object=True)


# ---------------------------------------------------------------------- what stands around them


def array(r: random.Random, depth: int, structs: bool) -> Declaration:
    f = declare(r, depth - 1, structs)
    annotation, factory = r.choice(
        [(list[f.annotation], list), (tuple[f.annotation, ...], tuple), (Sequence[f.annotation], list),  # type: ignore[name-defined]
         (deque[f.annotation], deque)]  # type: ignore[name-defined]
    )  # fmt: skip

    def make(r: random.Random, validated: bool) -> Made:
        made = [f.make(r, validated) for _ in range(r.randint(0, 2))]
        return factory([value for value, _ in made]), [written for _, written in made]

    return Declaration(annotation, make, f.classes)


def pair(r: random.Random, depth: int, structs: bool) -> Declaration:
    f, g = declare(r, depth - 1, structs), declare(r, depth - 1, structs)

    def make(r: random.Random, validated: bool) -> Made:
        (a, written_a), (b, written_b) = f.make(r, validated), g.make(r, validated)
        return (a, b), [written_a, written_b]

    return Declaration(tuple[f.annotation, g.annotation], make, f.classes + g.classes)  # type: ignore[name-defined]


def mapping(r: random.Random, depth: int, structs: bool) -> Declaration:
    f = declare(r, depth - 1, structs)
    annotation = r.choice([dict[str, f.annotation], Mapping[str, f.annotation]])  # type: ignore[name-defined]

    def make(r: random.Random, validated: bool) -> Made:
        made = {key: f.make(r, validated) for key in "ab"[: r.randint(0, 2)]}
        return {key: value for key, (value, _) in made.items()}, {key: written for key, (_, written) in made.items()}

    return Declaration(annotation, make, f.classes, is_object=bool(f.classes), is_dict=True)


def optional(r: random.Random, depth: int, structs: bool) -> Declaration:
    f = declare(r, depth - 1, structs)

    def make(r: random.Random, validated: bool) -> Made:
        return (None, None) if r.random() < 0.2 else f.make(r, validated)

    return dataclasses.replace(f, annotation=Optional[f.annotation], make=make)


def union(r: random.Random, depth: int, structs: bool) -> Declaration:
    """Of classes, whose instances tell which one it is."""
    f, g = (r.choice(CLASSES)(r, depth, structs) for _ in range(2))
    if f.is_dict or g.is_dict or pydantic_generic(f) or pydantic_generic(g):
        return f

    def make(r: random.Random, validated: bool) -> Made:
        return r.choice([f, g]).make(r, False)

    return Declaration(Union[f.annotation, g.annotation], make, f.classes + g.classes, is_object=True)


def pydantic_generic(made: Declaration) -> bool:
    """`Public[int]` and its like, whose instances are made again, and may then be several things."""
    return bool(getattr(made.annotation, "__pydantic_generic_metadata__", {}).get("args"))


def wrapped(r: random.Random, depth: int, structs: bool) -> Declaration:
    """The same under another name."""
    f = declare(r, depth, structs)
    other: Any = TypeAliasType("Other", Optional[T], type_params=(T,))
    names: list[Any] = [
        TypeAliasType("Name", f.annotation),  # type: ignore[valid-type,misc]  # made at run time
        NewType("New", f.annotation),  # type: ignore[valid-newtype]  # made at run time
        Annotated[f.annotation, "a note"],
        other[f.annotation],
    ]
    return dataclasses.replace(f, annotation=r.choice(names))


CLASSES = [model, generic_model, data_class, typed_dict, struct, struct, generic_struct, attrs_class]
NESTED = [*CLASSES, array, array, pair, named_tuple, mapping, optional, union, wrapped]
