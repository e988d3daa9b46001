"""
Which of the package's own codes an endpoint can answer with: what it does not use, it does not refuse with.

`docs/replies.md` has the table of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from socketsundso.connection import RateLimit
from socketsundso.guards import Scopes
from socketsundso.shared_limits import SharedRateLimit


def codes_of(endpoint: Any) -> list[str]:
    """Of an endpoint class, the commonest first. None where error frames have no codes, as those of 0.0.x."""
    return [] if endpoint.legacy_errors else list(dict.fromkeys(_codes(endpoint)))


def _codes(endpoint: Any) -> Iterator[str]:
    yield from ("malformed_message", "unknown_event")
    if endpoint.handlers:
        yield from ("validation_error", "response_error", "internal_error")
    if endpoint.rate_limit is not None:
        yield "rate_limited"
    if _overrides(endpoint, "before") or endpoint._declaration.uses_rooms:
        yield "forbidden"
    for guard in (guard for handler in endpoint.handlers.values() for guard in handler.guards):
        yield from _codes_of_guard(guard)
    yield from _codes_of_conversations(endpoint)


def _codes_of_guard(guard: Any) -> tuple[str, ...]:
    if isinstance(guard, RateLimit | SharedRateLimit):
        return ("rate_limited",)
    return ("unauthorized", "forbidden") if isinstance(guard, Scopes) else ("forbidden",)


def _codes_of_conversations(endpoint: Any) -> Iterator[str]:
    decoder = endpoint._definition.decoder
    routes = decoder.routes.values()
    if decoder.converses:
        yield from ("cancelled", "ref_in_use")
    if any(route.apart in ("stream", "upload") for route in routes):
        yield "too_many_streams"
    if decoder.uploads:
        yield "overrun"
    if any(route.timeout_s is not None for route in routes):
        yield "timeout"
    if endpoint.calls:
        yield from ("call_refused", "call_timeout", "invalid_answer")


def _overrides(endpoint: type, name: str) -> bool:
    """Has the class, or a base of the application's, its own?"""
    return sum(name in vars(cls) for cls in endpoint.__mro__) > 1
