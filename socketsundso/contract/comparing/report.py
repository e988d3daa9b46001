"""
Changes of an API as they are told: lines for people, JSON for programs, annotations of a GitHub workflow.

    breaks old clients: shop/buy/count: old clients may send numbers up to 1000; the server takes numbers up to 100
    ::error title=breaks old clients::shop/buy/count: old clients may send numbers up to 1000; ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from socketsundso.contract.comparing.diff import Breaks, Change


def report(changes: Sequence[Change], form: str) -> str:
    """What changed, for people (`text`), programs (`json`) or as annotations of a GitHub workflow (`github`)."""
    return _FORMATS[form](changes)


def _as_text(changes: Sequence[Change]) -> str:
    if not changes:
        return "Nothing changed.\n"
    lines = [f"{_HEADINGS[each.breaks]}: {each.path}: {each.text}\n" for each in changes]
    counts = ((sum(each.breaks == breaks for each in changes), breaks) for breaks in _HEADINGS)
    told = ", ".join(f"{count} {_HEADINGS[breaks]}" for count, breaks in counts if count)
    return "".join(lines) + told.capitalize() + ".\n"


def _as_json(changes: Sequence[Change]) -> str:
    return json.dumps([asdict(each) for each in changes], indent=2, ensure_ascii=False) + "\n"


def _as_github(changes: Sequence[Change]) -> str:
    return "".join(
        f"::{_LEVELS[each.breaks]} title={_property(_HEADINGS[each.breaks])}::{_data(f'{each.path}: {each.text}')}\n"
        for each in changes
    )


def _data(text: str) -> str:
    """As GitHub's workflow commands escape it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


_HEADINGS: dict[Breaks, str] = {
    "old clients": "breaks old clients",
    "new clients": "breaks new clients on the old server",
    "none": "breaks nothing",
}
_LEVELS: dict[Breaks, str] = {"old clients": "error", "new clients": "notice", "none": "notice"}
_FORMATS: dict[str, Callable[[Sequence[Change]], str]] = {"text": _as_text, "json": _as_json, "github": _as_github}
FORMATS = tuple(_FORMATS)
"""The forms of a `report`."""
