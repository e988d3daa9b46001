"""
Handshakes that were refused before any application saw them: how many in this process, by reason.

Counted by whoever refuses, read by telemetry. On the ground floor, as servers and what stands before
applications know nothing of each other.
"""

from __future__ import annotations

from collections import Counter

refused: Counter[str] = Counter()


def note(reason: str) -> None:
    """One more; `Bad Request` is `bad_request`. There are few reasons, and no peer can invent one."""
    refused["_".join(reason.lower().split())] += 1
