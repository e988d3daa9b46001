"""
What the names of a contract are called in generated code.

    chat.send   get_HTTPStatus   größe   2fa   class
    chatSend    getHttpStatus    größe   _2fa  class_       camel, TypeScript's methods
    ChatSend    GetHttpStatus    Größe   _2fa  Class        pascal, types of both languages
    chat_send   get_http_status  größe   _2fa  class_       snake, Python's methods

Words are what stands between characters that no identifier has, and between small and capital letters. No name begins
with `_` and a letter: such names are free for what generated code has for itself.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from socketsundso.errors import ContractError

Style = Callable[[str], str]
"""How words become one name."""


def _listed(names: str) -> frozenset[str]:
    return frozenset(names.split())


ECMASCRIPT_KEYWORDS = _listed(
    "arguments await break case catch class const continue debugger default delete do else enum eval export extends "
    "false finally for function if implements import in instanceof interface let new null package private protected "
    "public return static super switch this throw true try typeof var void while with yield"
)
TYPESCRIPT_TYPES = _listed("any bigint boolean never number object string symbol undefined unknown")
"""What else no type can be called."""

ECMASCRIPT_OBJECT = _listed(
    "constructor __proto__ prototype hasOwnProperty isPrototypeOf propertyIsEnumerable then toJSON toLocaleString "
    "toString valueOf"
)
"""What every object has already, and `then`: whoever has a method of that name is taken for a promise."""

PYTHON_KEYWORDS = frozenset((*keyword.kwlist, "self"))


def words(text: str) -> list[str]:
    """`"getHTTPStatus v2.items"` -> `["get", "HTTP", "Status", "v2", "items"]`."""
    runs = "".join(char if _continues(char) else " " for char in unicodedata.normalize("NFKC", text)).split()
    return [word for run in runs for word in _humps(run)]


def _continues(char: str) -> bool:
    return char != "_" and f"a{char}".isidentifier()


def _humps(run: str) -> Iterator[str]:
    start = 0
    for at in range(1, len(run)):
        begins_a_word = run[at].isupper() and (not run[at - 1].isupper() or run[at + 1 : at + 2].islower())
        if begins_a_word:
            yield run[start:at]
            start = at
    yield run[start:]


def camel(text: str) -> str:
    first, *others = words(text) or [""]
    return _identifier([first.lower(), *map(_capitalized, others)])


def pascal(text: str) -> str:
    return _identifier(map(_capitalized, words(text)))


def snake(text: str) -> str:
    return _identifier(["_".join(words(text)).lower()])


def as_it_is(text: str) -> str:
    """For what is an identifier already; else as `pascal`."""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) else pascal(text)


def _capitalized(word: str) -> str:
    return word[:1].upper() + word[1:].lower()


def _identifier(parts: Iterable[str]) -> str:
    """In the form in which Python, too, compares names. A digit, or a mark, cannot begin one."""
    name = unicodedata.normalize("NFKC", "".join(parts))
    return name if not name or name.isidentifier() else f"_{name}"


class Scope:
    """
    The names of one place, where each stands for one thing.

        events = Scope("method of Chat", camel, reserved={"close"})
        events.add("close", "event 'close'")          "close_"
        events.add("chat.send", "event 'chat.send'")  "chatSend"
        events.add("chat_send", "event 'chat_send'")  ContractError, which names both
    """

    def __init__(self, what: str, style: Style, reserved: Iterable[str] = ()) -> None:
        self._what, self._style, self._reserved = what, style, frozenset(reserved)
        self._owners: dict[str, str] = {}

    def is_free(self, name: str) -> bool:
        return name not in self._reserved and name not in self._owners

    def add(self, text: str, owner: str) -> str:
        """
        The name for `text`, which nobody else has; `owner` is what errors call it.

        Raises `ContractError` where it has no letter and no digit, or another owner's name.
        """
        name = self._style(text)
        if not name:
            raise ContractError(f"{owner}: no letter and no digit to make the name of a {self._what} of; rename it")
        while name in self._reserved:
            name += "_"
        if self._owners.setdefault(name, owner) != owner:
            raise ContractError(
                f"{self._owners[name]} and {owner} would both be the {self._what} {name!r}; rename one of them"
            )
        return name
