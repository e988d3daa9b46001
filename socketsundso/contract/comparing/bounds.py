"""
Keywords that are compared alone: does what one schema says of numbers, lengths and forms permit more than another's?

    LONE["maximum"]     ("number", of two schemas of numbers: (what the one gives, what the other takes), or None)

What is given is a schema with one `type`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from socketsundso.contract.model import Schema


def _lowest(given: Schema) -> tuple[float, bool]:
    """The lower bound of a number, and whether that is none itself; the one of integers is an integer."""
    keywords = (("minimum", False), ("exclusiveMinimum", True))
    bounds = [(given[key], is_open) for key, is_open in keywords if key in given]
    if given["type"] == "integer":
        bounds = [(math.floor(bound) + 1 if is_open else math.ceil(bound), False) for bound, is_open in bounds]
    return max(bounds, default=(-math.inf, False))


def _highest(given: Schema) -> tuple[float, bool]:
    """The upper bound, which is the lower one of what is turned around."""
    mirrored = {"minimum": "maximum", "exclusiveMinimum": "exclusiveMaximum"}
    turned = {low: -given[high] for low, high in mirrored.items() if high in given}
    lowest, is_open = _lowest({"type": given["type"], **turned})
    return -lowest, is_open


def _from(given: Schema, keyword: str, said: float) -> tuple[str, str] | None:
    lowest, is_open = _lowest(given)
    if lowest > said or (lowest == said and (is_open or keyword == "minimum")):
        return None
    return _bound("above" if is_open else "from", lowest), _bound("from" if keyword == "minimum" else "above", said)


def _up_to(given: Schema, keyword: str, said: float) -> tuple[str, str] | None:
    highest, is_open = _highest(given)
    if highest < said or (highest == said and (is_open or keyword == "maximum")):
        return None
    return _bound("below" if is_open else "up to", highest), _bound("up to" if keyword == "maximum" else "below", said)


def _bound(words: str, bound: float) -> str:
    return "numbers of any size" if math.isinf(bound) else f"numbers {words} {bound}"


def _multiple(given: Schema, keyword: str, said: float) -> tuple[str, str] | None:
    factor = given.get("multipleOf", 1 if given["type"] == "integer" else 0)
    if factor and (Fraction(str(factor)) / Fraction(str(said))).denominator == 1:
        return None
    return (f"multiples of {factor}" if factor else "any number"), f"multiples of {said}"


_COUNTED = {"Length": "texts of {} characters", "Items": "lists of {} items", "Properties": "objects of {} fields"}


def _count(given: Schema, keyword: str, said: int) -> tuple[str, str] | None:
    words = _COUNTED[keyword[3:]]
    if keyword.startswith("min"):
        least = max(given.get(keyword, 0), len(given.get("required", ())) if keyword == "minProperties" else 0)
        return None if least >= said else (words.format(f"{least} or more"), words.format(f"{said} or more"))
    most = most_items(given) if keyword == "maxItems" else given.get(keyword, math.inf)
    if keyword == "maxProperties" and given.get("additionalProperties") is False and "patternProperties" not in given:
        most = min(most, len(given.get("properties", ())))
    how_many = "any number of" if math.isinf(most) else f"up to {most}"
    return None if most <= said else (words.format(how_many), words.format(f"up to {said}"))


def most_items(given: Schema) -> float:
    """How many items a list may have, at most."""
    most: float = given.get("maxItems", math.inf)
    return min(most, len(given.get("prefixItems", ()))) if given.get("items") is False else most


def _equal(given: Schema, keyword: str, said: Any) -> tuple[str, str] | None:
    own = given.get(keyword)
    return None if own == said else (f"{keyword} {own!r}" if own else f"any {keyword}", f"{keyword} {said!r}")


LONE: dict[str, tuple[str, Callable[[Schema, str, Any], tuple[str, str] | None]]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum"), ("number", _from)),
    **dict.fromkeys(("maximum", "exclusiveMaximum"), ("number", _up_to)),
    "multipleOf": ("number", _multiple),
    **dict.fromkeys(("minLength", "maxLength"), ("string", _count)),
    **dict.fromkeys(("minItems", "maxItems"), ("array", _count)),
    **dict.fromkeys(("minProperties", "maxProperties"), ("object", _count)),
    **dict.fromkeys(("pattern", "format", "contentEncoding", "contentMediaType"), ("string", _equal)),
}
"""Keywords that are compared alone: of which values, and what is given and taken, where that is too much."""
