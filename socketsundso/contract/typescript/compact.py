"""
TypeScript that is written to be read, made as small as it can be while it stays TypeScript with types.

    // #region rooms                 is left out where `rooms` is not used
    // Why this is so.               is always left out; JSDoc, which editors show, stays
    private readonly _pending = new Map<number, Exchange>();     private _c=new Map<number,_d>();

A name is shortened where it begins with `_` and a letter, or is one of the module's that it does not export: nothing
else in the source is called so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import product
from string import ascii_lowercase

REGION = re.compile(r"[ \t]*// #region (\w+)\n((?:(?![ \t]*// #(?:end)?region).*\n)*)[ \t]*// #endregion\n")
TOKEN = re.compile(
    r"""(?P<doc>/\*\*.*?\*/) | //[^\n]* | (?P<text>"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)
    | (?P<pattern>(?<=[(=])/(?:[^/\\\n]|\\.)+/\w*) | (?P<word>[\w$]+) | (?P<space>\s+) | (?P<sign>\?\.|.)""",
    re.VERBOSE | re.DOTALL,
)
OF_MODULE = re.compile(r"^(?:type|interface|class|const|function) (\w+)", re.MULTILINE)
NEEDLESS = re.compile(
    r"(?<=\)):(?:void|boolean|string|Promise<void>)(?=\{|=>\{)|(?<=private )readonly |;(?=\})|,(?=[)>}])"
)
"""What is the same without being said: results that are inferred, what nobody else assigns to, what a bracket ends."""

Token = tuple[str, str]
"""The kind, a group of TOKEN, and the text."""


def compact(source: str, *, used: Collection[str], keep: Collection[str]) -> str:
    """The source with the regions that are `used`, in which the names to `keep` are not shortened."""
    source = REGION.sub(lambda match: match[2] if match[1] in used else "", source)
    tokens = [(match.lastgroup, match[0]) for match in TOKEN.finditer(source) if match.lastgroup]
    own = {text for kind, text in tokens if kind == "word" and re.match(r"_[a-zA-Z]", text)}
    short = _shortened(tokens, (own | set(OF_MODULE.findall(source))) - set(keep))
    renamed = [(kind, short.get(text, text) if kind == "word" else text) for kind, text in tokens]
    return NEEDLESS.sub("", "".join(_joined(renamed)))


def _shortened(tokens: list[Token], names: set[str]) -> dict[str, str]:
    """Short names by long ones, the shortest for the most frequent."""
    counts = Counter(text for _, text in tokens if text in names)
    short = (f"_{''.join(letters)}" for size in (1, 2) for letters in product(ascii_lowercase, repeat=size))
    return dict(zip(sorted(counts, key=lambda name: (-counts[name], name)), short, strict=False))


def _joined(tokens: list[Token]) -> Iterator[str]:
    before, space = "", ""
    for kind, text in tokens:
        if kind == "space":
            space += text
            continue
        yield _between(before, space, text)
        yield re.sub(r"\s*\n\s*\*?(?!/)", " ", text) if kind == "doc" else text
        before, space = text, ""
    yield "\n"


def _between(before: str, space: str, after: str) -> str:
    """A space stays between words; the end of a line where a statement may end without a semicolon."""
    if "\n" in space:
        return "" if before in ("", ";", "{", ",", "(", "[") or after in ("}", "]", ")", ".") else "\n"
    return " " if space and re.search(r"[\w$\"`]$", before) and re.match(r"[\w$\"`]", after) else ""
