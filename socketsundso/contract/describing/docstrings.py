"""
What docstrings tell those who read a contract: a summary, and the rest.

What stands behind a form feed is for who reads the code, as in FastAPI. Markup stays as it is written: text for who
reads the source of it, and for nobody to run.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple


class Words(NamedTuple):
    """The first paragraph, in one line, and all that follows it."""

    summary: str = ""
    description: str = ""


def words_of(docstring: str | None) -> Words:
    text = inspect.cleandoc(docstring or "").partition("\f")[0].strip()
    first, _, rest = text.partition("\n\n")
    return Words(" ".join(first.split()), rest.strip())


def words_of_class(kind: Any) -> Words:
    """Those of the class itself, not of a base, nor what `@dataclass` writes."""
    docstring = vars(kind).get("__doc__") if isinstance(kind, type) else None
    if not isinstance(docstring, str) or docstring.startswith(f"{kind.__name__}("):
        return Words()
    return words_of(docstring)
