"""
What the server asks of its clients: `calls`, compiled, and how an answer is read.

    Ask(question="sure?")                     ->   {"type":"ask","question":"sure?"}
    {"type":"reply","ref":"s:1","answer":{}}  ->   what was declared for `Ask`; or what the client refuses it with

A question is written as a push of its class is. An answer is what pydantic says that it is: msgspec decodes it where it
does so alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET
from pydantic_core import PydanticCustomError, ValidationError

from socketsundso.errors import DefinitionError
from socketsundso.messages.codecs import Misshapen
from socketsundso.messages.declared import is_hashable, kind_of, members
from socketsundso.messages.fields import Field
from socketsundso.messages.framing import CANONICAL, TITLE, Framing, Place
from socketsundso.messages.pushes import Emitted, pushed_name
from socketsundso.messages.raw_fields import unsayable
from socketsundso.messages.signature import check_annotation

NO_QUESTIONS = frozenset({"error"})
"""What no question may be called: the answer to an answer that is not valid."""


@dataclass
class Refusal:
    """`{"code":"declined","message":"no"}`: the client does not answer."""

    code: str
    message: str | None = None


@functools.cache
def _refusal_in(place: Place) -> Field:
    return Field("error", Refusal, "Refusal", place)


Asks = Callable[[Any, Any], tuple["Expected", bytes]]
"""Of a question and what it `returns`, what is expected and the question as JSON. Raises TypeError, `ResponseError`."""


class Expected:
    """What is expected as the answer to one kind of question. Like a route, it says which names errors may tell."""

    event = "reply"

    def __init__(self, question: str, returns: Any, framing: Framing) -> None:
        self.question, self.returns, self._framing = question, returns, framing
        where = f"calls, the answer to {question!r}"
        check_annotation(where, returns)
        *place, key = framing.answer_place
        self._answer = Field(str(key), returns, where, tuple(place))

    def read(self, message: Any) -> Any:
        """
        The answer in a reply, or a `Refusal`.

        Raises pydantic's `ValidationError` for one that is not valid, and whatever validators of the application raise.
        """
        refusal, answer = message.refusal, message.answer
        if refusal is not UNSET and (given := self._json_of(message, refusal, "error")) != b"null":
            return _refusal_in(self._framing.place).read(given)
        if answer is UNSET:
            given = self._framing.answer("reply", {}, message.ref)
            missing: Any = {"type": "missing", "loc": self._framing.answer_place, "input": given}
            raise ValidationError.from_exception_data(TITLE, [missing], input_type="json")
        return self._answer.read(self._json_of(message, answer, "answer"))

    def json_in(self, message: Any) -> bytes:
        """The answer in a reply that has been read."""
        return self._json_of(message, message.answer, "answer")

    def _json_of(self, message: Any, raw: Any, key: str) -> bytes:
        json: bytes
        try:
            json = message.route.framing.codec.json_of(raw)
        except Misshapen as exc:
            raise unsayable(exc, (*self._framing.place, key)) from None
        return json

    def value(self, answer: bytes) -> Any:
        """What an answer says that was found valid elsewhere. Raises as `read`, for who expects something else."""
        return self._answer.read(answer)

    @property
    def declared(self) -> frozenset[str]:
        return self._answer.declared | _refusal_in(self._framing.place).declared


class Questions:
    """
    `{Ask: Answer}` of one class. `types` is what the questions are called.

    Raises `DefinitionError` for what is no class of messages, for two of one name, and for an answer that cannot come
    from JSON.
    """

    def __init__(self, owner: str, calls: Mapping[Any, Any], framing: Framing) -> None:
        if not isinstance(calls, Mapping):
            raise DefinitionError(f"{owner}.calls is {calls!r}; it maps questions to the types of their answers")
        if framing.ref_key in ("answer", "error"):
            raise DefinitionError(f"{owner}.ref_key is {framing.ref_key!r}, which is a key of a reply; choose another")
        if framing.ref_place is None:
            raise DefinitionError(f"{owner}.calls: answers are told apart by their `ref`, which its envelope has not")
        self._owner, self._framing = owner, framing
        self._pushes = Emitted(calls, framing, "calls")
        self._by_class: dict[Any, Expected] = {}
        self._by_type: dict[str, Expected] = {}
        for declared, returns in calls.items():
            for kind in members(declared):
                self._add(kind, returns)
        self.types = frozenset(self._by_type)

    def _add(self, kind: Any, returns: Any) -> None:
        name = pushed_name(kind, self._framing)
        if name in self._by_type:
            raise DefinitionError(f"{self._owner}.calls: two questions are called {name!r}; give one another `type`")
        if name in NO_QUESTIONS:
            raise DefinitionError(f"{self._owner}.calls: a question cannot be called {name!r}; give it another `type`")
        self._by_type[name] = self._by_class[kind_of(kind)] = Expected(name, returns, self._framing)

    def asked(self, question: Any, returns: Any) -> tuple[Expected, bytes]:
        """What answers it, and the question as JSON. Raises as `expected` and `encode`."""
        return self.expected(question, returns), self.encode(question)

    def expected(self, question: Any, returns: Any) -> Expected:
        """What answers it. Raises TypeError for a question that is not declared, or not with this answer."""
        if isinstance(question, Mapping):
            name = self._pushes.name_of(question)
            found = self._by_type.get(name) if is_hashable(name) else None
        else:
            found = next((self._by_class[cls] for cls in type(question).__mro__ if cls in self._by_class), None)
        if found is None:
            shown = f"a message of type {name!r}" if isinstance(question, Mapping) else type(question).__name__
            known = ", ".join(sorted(self.types))
            raise TypeError(f"{self._owner} does not ask {shown}; its `calls` lists {known}")
        if returns is not UNSET and returns != found.returns:
            raise TypeError(
                f"{self._owner}.calls: the answer to {found.question!r} is {found.returns!r}, not {returns!r}"
            )
        return found

    def named(self, name: str) -> Expected | None:
        """What answers the question that is called so."""
        return self._by_type.get(name)

    def encode(self, question: Any) -> bytes:
        """Raises `ResponseError` for one that is not as its class declares it."""
        return self._pushes.encode(question)


class _Named(msgspec.Struct):
    type: str


def asked_by_anybody(question: Any, returns: Any, encode: Callable[[Any], bytes]) -> tuple[Expected, bytes]:
    """As `Questions.asked`, of who lists no questions. Raises `DefinitionError` for what can be no answer."""
    body = encode(question)
    name = msgspec.json.decode(body, type=_Named).type
    returns = Any if returns is UNSET else returns
    return (_expected if is_hashable(returns) else Expected)(name, returns, CANONICAL), body


_expected = functools.lru_cache(maxsize=256)(Expected)  # a validator takes longer than most answers


def revived(errors: list[dict[str, Any]]) -> ValidationError:
    """Pydantic's error about an answer again, from its list of `type`, `loc` and `msg`."""
    found: list[Any] = [
        {"type": PydanticCustomError(each["type"], each["msg"]), "loc": tuple(each["loc"])} for each in errors
    ]
    return ValidationError.from_exception_data(TITLE, found, input_type="json", hide_input=True)
