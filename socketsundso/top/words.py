"""Numbers and names, as they are shown."""

from __future__ import annotations

import math

NOTHING = "-"


def shown(name: object) -> str:
    """
    What somebody else has chosen, on one line: nothing of it moves the cursor, colours what follows, or turns it round.

    Letters of all scripts stay; whatever is no letter, sign, or plain space is written as its code: `\\x1b[2J`.
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(name))


def number(value: float | None) -> str:
    """`7`, `12,345`, `1.2M`."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value < 999_999.5 else f"{value / 1e6:,.1f}M"


def rate(value: float | None) -> str:
    """A second: `0`, `0.25`, `7.5`, `1,204`, `1.2M`."""
    if value is None:
        return NOTHING
    if not value:
        return "0"
    if value < 9.95:
        return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"
    return number(value)


def size(value: float | None) -> str:
    """`0`, `812 B`, `1.2 MB`."""
    if value is None:
        return NOTHING
    if not value:
        return "0"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def duration(seconds: float | None) -> str:
    """Of a handler: `0.3 ms`, `42 ms`, `1.3 s`; above what is measured `>10 s`."""
    if seconds is None:
        return NOTHING
    if math.isinf(seconds):
        return ">10 s"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.1f} ms" if seconds < 0.00995 else f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s"


def age(seconds: float | None) -> str:
    """`12s`, `3m04s`, `5h12m`, `3d04h`."""
    if seconds is None:
        return NOTHING
    whole = int(seconds)
    for small, large, unit, below in ((1, 60, "s", ""), (60, 3600, "m", "s"), (3600, 86400, "h", "m")):
        if whole < large:
            rest = f"{whole % small * 60 // small:02d}{below}" if below else ""
            return f"{whole // small}{unit}{rest}"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def share(value: float | None) -> str:
    """`37%`."""
    return NOTHING if value is None else f"{max(value, 0.0):.0%}"
