"""
What the components of an API are called: one table for the classes of every library.

    ["shop.models.Item", "blog.models.Item", "shop.Page[User]"]   ->   ShopModelsItem, BlogModelsItem, PageOfUser

The shortest name that no other class has: its own, then that with what is around it. Depends on these texts and their
order alone.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from itertools import count

_PART = re.compile(r"[\[\],]")
_WORD = re.compile(r"[A-Za-z0-9_]+")


def names(qualified: Iterable[str]) -> dict[str, str]:
    """Name by qualified name."""
    found: dict[str, str] = {}
    pending = list(dict.fromkeys(qualified))
    depth = 1
    while pending:
        by_name: dict[str, list[str]] = {}
        for each in pending:
            by_name.setdefault(_name(each, depth), []).append(each)
        taken, pending = set(found.values()), []
        for name, alike in by_name.items():
            is_longest = all(_name(each, depth + 1) == name for each in alike)
            if is_longest or (len(alike) == 1 and name not in taken):
                found.update(zip(alike, free(name, {*taken, *(set(by_name) - {name})}), strict=False))
            else:
                pending += alike
        depth += 1
    return found


def free(name: str, taken: Container[str]) -> Iterator[str]:
    """The name, then with numbers, as far as nobody has it."""
    for number in count(1):
        numbered = name if number == 1 else f"{name}{number}"
        if numbered not in taken:
            yield numbered


def _name(text: str, depth: int) -> str:
    """Of the class and each of its arguments, the last `depth` parts of where it is."""
    first, *rest = [_short(part, depth) for part in _PART.split(text)]
    joined = zip(_PART.findall(text), rest, strict=True)
    return first + "".join({"[": "Of", ",": "And"}.get(separator, "") + name for separator, name in joined if name)


def _short(path: str, depth: int) -> str:
    parts = ["".join(_WORD.findall(part)) for part in path.split(".") if part != "<locals>"]
    return "".join(part[:1].upper() + part[1:] for part in list(filter(None, parts))[-depth:])
