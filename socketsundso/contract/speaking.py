"""
What a client has to be able to do to speak with an API: `refuse_unspeakable` finds what generated ones cannot.
"""

from __future__ import annotations

from socketsundso.contract.model import Api, Channel
from socketsundso.errors import ContractError


def refuse_unspeakable(api: Api) -> None:
    """Raises `ContractError` for a channel that no generated client can speak with."""
    for channel in api.channels:
        if not channel.wire.has_refs and _is_answered(channel):
            raise ContractError(
                f"channel {channel.name!r}: its messages are arrays of {', '.join(channel.wire.parts)}, and without a "
                'ref no client knows which message an answer is to; use ArrayEnvelope("type", "ref", "data")'
            )
        if not channel.wire.is_flat:
            raise ContractError(
                f"channel {channel.name!r}: the fields of its messages stand apart from the envelope's keys, which no "
                "generated client speaks"
            )


def _is_answered(channel: Channel) -> bool:
    return bool(channel.receives or channel.calls)
