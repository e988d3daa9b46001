r"""
Regular expressions of Rust and Python -> the ones that mean the same in ECMA-262, with its `u` flag and without.

    ^(?P<year>\d{4})\-\d\d\z   ->   ^([0-9]{4})-[0-9][0-9]$

`\d` is published as the ten digits that every client has. What depends on flags or on tables of Unicode (`\w`, `\b`,
`\p{L}`, `(?i)`) has no such form: None.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(
    r"""
    (?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])
  | (?P<escape>\\.[0-9a-fA-F]{0,4})
  | (?P<named>\(\?P?<[A-Za-z_]\w*>)
  | (?P<group>\(\?(?:[:=!]|<[=!])|\((?!\?)|[|)^$])
  | (?P<flags>\()
  | (?P<counted>\{\d*,?\d*\}[?+]?)
  | (?P<repeat>[*+?][?+]?)
  | (?P<dot>\.)
  | (?P<brace>[{}\]])
  | (?P<other>[\s\S])
    """,
    re.VERBOSE,
)
_SET_OPERATION = re.compile(r"&&|--|~~|(?<!\\)\[")
_CODE = {"x": 2, "u": 4}
_KEPT = frozenset("tnrfvsS")
_SYNTAX = frozenset("^$\\.*+?()[]{}|/")


class _Differs(Exception):
    """It means another thing, or none, in another dialect."""


def translated(pattern: str) -> str | None:
    """The pattern in ECMA-262, or None."""
    try:
        found = "".join(_RULES[str(each.lastgroup)](each.group()) for each in _TOKEN.finditer(pattern))
        re.compile(found)
    except (_Differs, re.error):
        return None
    return found


def _escape(token: str, kept: frozenset[str] = _SYNTAX) -> str:
    letter, rest = token[1], token[2:]
    if letter in _CODE:
        if len(rest) < _CODE[letter]:
            raise _Differs
        return token
    if letter in "dD":
        return ("[0-9]" if letter == "d" else "[^0-9]") + rest
    if letter in "AzZ":
        return ("^" if letter == "A" else "$") + rest
    if letter in _KEPT or letter in kept:
        return token
    if letter.isalnum() or ord(letter) > 126:
        raise _Differs
    return letter + rest


def _class(token: str) -> str:
    start = "[^" if token.startswith("[^") else "["
    body = token[len(start) : -1]
    if _SET_OPERATION.search(body):
        raise _Differs
    if body.startswith("]"):
        body = "\\" + body
    return start + re.sub(r"\\.[0-9a-fA-F]{0,4}", lambda each: _in_class(each.group()), body) + "]"


def _in_class(token: str) -> str:
    if token[1] == "d":
        return "0-9" + token[2:]
    if token[1] in "DAzZ":
        raise _Differs
    return _escape(token, _SYNTAX | {"-"})


def _counted(token: str) -> str:
    if token.rstrip("?+") in ("{}", "{,}"):
        raise _Differs
    return _repeat(token).replace("{,", "{0,")


def _repeat(token: str) -> str:
    if len(token) > 1 and token.endswith("+"):  # possessive
        raise _Differs
    return token


def _refused(token: str) -> str:
    raise _Differs


_RULES: dict[str, Callable[[str], str]] = {
    "class": _class,
    "escape": _escape,
    "named": lambda _: "(",
    "group": str,
    "flags": _refused,
    "counted": _counted,
    "repeat": _repeat,
    "dot": lambda _: r"[^\n]",
    "brace": lambda token: "\\" + token,
    "other": str,
}
